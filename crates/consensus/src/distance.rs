//! Distance between Regions, simulated: what a courier's connection carries takes its time.
//!
//! All of it happens at the end that connects, between the socket and TLS, for both directions. So
//! TCP's and TLS's handshakes pay their round trips, and the other end need not know.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use keyrum_types::{Entropy, Region};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex, split};
use tokio::time::{Instant, sleep_until};

use crate::chance::{happens, up_to};
use crate::world::{BoxStream, spawn};

/// Bytes in a segment, of which each may get lost. Source: Ethernet's 1500 less TCP/IP headers.
const SEGMENT_BYTES: usize = 1460;

/// Bytes read at a time, and how many may be on their way before the writer waits.
const READ_BYTES: usize = 16 << 10;
const WINDOW_BYTES: usize = 4 << 20;

/// The least time until a lost segment is sent again. Source: Linux, TCP_RTO_MIN.
const RETRANSMISSION_MIN: Duration = Duration::from_millis(200);

/// Retransmissions of one segment, each of which waits twice as long as the one before.
const RETRANSMISSIONS_MAX: u32 = 6;

/// How far away another Region is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimulatedLink {
    /// What a round trip takes at least, half of it each way.
    pub round_trip: Duration,
    /// How much longer it may take, half of it each way. Nothing is overtaken.
    pub jitter: Duration,
    /// The probability that a segment gets lost, 0 to 1: what follows waits for as long as TCP
    /// takes to send it again, the round trip but at least 200 ms.
    pub loss: f64,
}

/// How far away the other Regions are; those that are missing are near.
pub(crate) struct Distances {
    links: BTreeMap<Region, SimulatedLink>,
    entropy: Arc<dyn Entropy>,
}

impl Distances {
    pub(crate) fn new(links: BTreeMap<Region, SimulatedLink>, entropy: Arc<dyn Entropy>) -> Self {
        Self { links, entropy }
    }

    /// The connection to a node of a Region as it is over the distance.
    pub(crate) async fn cross(&self, to: &Region, stream: BoxStream) -> BoxStream {
        let Some(link) = self.links.get(to) else {
            return stream;
        };
        let way = |from| Way {
            link: *link,
            entropy: self.entropy.clone(),
            last: from,
        };
        // TCP's own handshake, which the socket has behind it.
        let there = way(Instant::now()).arrival(Instant::now(), 0);
        let back = way(there).arrival(there, 0);
        sleep_until(back).await;
        let (near, inner) = duplex(READ_BYTES);
        let (inner_read, inner_write) = split(inner);
        let (far_read, far_write) = split(stream);
        spawn(carry(inner_read, far_write, way(back)));
        spawn(carry(far_read, inner_write, way(back)));
        Box::new(near)
    }
}

/// One direction of a connection.
struct Way {
    link: SimulatedLink,
    entropy: Arc<dyn Entropy>,
    /// When the last bytes arrive.
    last: Instant,
}

impl Way {
    /// When bytes that leave now arrive.
    fn arrival(&mut self, now: Instant, bytes: usize) -> Instant {
        let (takes, _) = travel(&self.link, bytes, &*self.entropy);
        self.last = self.last.max(now + takes);
        self.last
    }
}

/// How long bytes take one way, and how often one of their segments gets lost on it.
pub(crate) fn travel(link: &SimulatedLink, bytes: usize, entropy: &dyn Entropy) -> (Duration, u64) {
    let mut takes = link.round_trip / 2;
    if !link.jitter.is_zero() {
        takes += up_to(link.jitter / 2, entropy);
    }
    let mut lost = 0;
    if link.loss > 0.0 {
        let segments = bytes.div_ceil(SEGMENT_BYTES).max(1);
        let repeated = (0..segments).map(|_| retransmissions(link, entropy));
        let late = repeated.map(|(late, times)| {
            lost += times;
            late
        });
        takes += late.max().unwrap_or_default();
    }
    (takes, lost)
}

/// How much later than the others a segment arrives, and how often it gets lost.
fn retransmissions(link: &SimulatedLink, entropy: &dyn Entropy) -> (Duration, u64) {
    let mut wait = link.round_trip.max(RETRANSMISSION_MIN);
    let (mut late, mut lost) = (Duration::ZERO, 0);
    for _ in 0..RETRANSMISSIONS_MAX {
        if !happens(link.loss, entropy) {
            break;
        }
        late += wait;
        wait *= 2;
        lost += 1;
    }
    (late, lost)
}

/// Carries bytes one way, each when its time has come, and then the end.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut way: Way) {
    let mut travelling: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut on_the_way = 0;
    let mut buffer = vec![0; READ_BYTES];
    let mut open = true;
    loop {
        let due = travelling.front().map(|(due, _)| *due);
        tokio::select! {
            biased;
            () = sleep_until(due.unwrap_or(way.last)), if due.is_some() => {
                let (_, bytes) = travelling.pop_front().expect("it is due");
                on_the_way -= bytes.len();
                if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
                    return;
                }
            }
            read = from.read(&mut buffer), if open && on_the_way < WINDOW_BYTES => {
                // A broken connection ends like a closed one.
                let bytes = buffer[..read.unwrap_or(0)].to_vec();
                open = !bytes.is_empty();
                on_the_way += bytes.len();
                travelling.push_back((way.arrival(Instant::now(), bytes.len()), bytes));
            }
            else => {
                let _ = to.shutdown().await;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bytes(std::sync::Mutex<u64>);

    impl Entropy for Bytes {
        fn fill(&self, bytes: &mut [u8]) {
            // Any sequence without a pattern will do: an LCG of Knuth's (MMIX).
            let mut state = self.0.lock().unwrap();
            for byte in bytes {
                *state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                *byte = (*state >> 56) as u8;
            }
        }
    }

    const LINK: SimulatedLink = SimulatedLink {
        round_trip: Duration::from_millis(100),
        jitter: Duration::ZERO,
        loss: 0.0,
    };

    async fn connected(link: SimulatedLink) -> (BoxStream, BoxStream) {
        let to: Region = "eu-west-1".parse().unwrap();
        let entropy = Arc::new(Bytes(std::sync::Mutex::new(7)));
        let distances = Distances::new(BTreeMap::from([(to.clone(), link)]), entropy);
        let (here, there) = duplex(1 << 20);
        let before = Instant::now();
        let here = distances.cross(&to, Box::new(here)).await;
        assert!(before.elapsed() >= link.round_trip, "TCP's handshake");
        (here, Box::new(there))
    }

    async fn written(stream: &mut BoxStream, byte: u8) -> Instant {
        stream.write_all(&[byte]).await.unwrap();
        stream.flush().await.unwrap();
        Instant::now()
    }

    async fn taken(stream: &mut BoxStream) -> (u8, Instant) {
        let byte = stream.read_u8().await.unwrap();
        (byte, Instant::now())
    }

    /// Catches bytes that arrive too early or too late in either direction, one that waits for the
    /// one before, an end of the connection that overtakes bytes, and a near Region made far.
    #[tokio::test(start_paused = true)]
    async fn bytes_take_half_a_round_trip() {
        let (mut here, mut there) = connected(LINK).await;
        let sent = written(&mut here, 1).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        written(&mut here, 2).await;
        let (one, at) = taken(&mut there).await;
        assert_eq!((one, at - sent), (1, Duration::from_millis(50)));
        let (two, at) = taken(&mut there).await;
        assert_eq!((two, at - sent), (2, Duration::from_millis(60)));
        let sent = written(&mut there, 3).await;
        let (three, at) = taken(&mut here).await;
        assert_eq!((three, at - sent), (3, Duration::from_millis(50)));

        let sent = written(&mut there, 4).await;
        drop(there);
        assert_eq!(taken(&mut here).await.0, 4);
        assert!(here.read_u8().await.is_err());
        assert_eq!(sent.elapsed(), Duration::from_millis(50));

        let entropy = Arc::new(Bytes(std::sync::Mutex::new(7)));
        let near = Distances::new(BTreeMap::new(), entropy);
        let (here, mut there) = duplex(1);
        let to = "eu-west-1".parse().unwrap();
        let before = Instant::now();
        let mut here = near.cross(&to, Box::new(here)).await;
        written(&mut here, 5).await;
        assert_eq!(there.read_u8().await.unwrap(), 5);
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    /// Catches bytes that overtake others, jitter that is none or out of bounds, and bytes that are
    /// lost where many are on their way.
    #[tokio::test(start_paused = true)]
    async fn jitter_keeps_the_order() {
        let jitter = Duration::from_millis(40);
        let (here, mut there) = connected(SimulatedLink { jitter, ..LINK }).await;
        let (_, mut here) = split(here);
        const BYTES: u32 = 3000;
        let writing = spawn(async move {
            let mut sent = Vec::new();
            for number in 0..BYTES {
                here.write_all(&[number as u8]).await.unwrap();
                here.flush().await.unwrap();
                sent.push(Instant::now());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            sent
        });
        let mut arrived = Vec::new();
        for number in 0..BYTES {
            let (byte, at) = taken(&mut there).await;
            assert_eq!(byte, number as u8);
            arrived.push(at);
        }
        let sent = writing.await.unwrap();
        let took = sent.iter().zip(&arrived).map(|(sent, at)| *at - *sent);
        let took: std::collections::BTreeSet<_> = took.collect();
        let (least, most) = (took.first().unwrap(), took.last().unwrap());
        assert!(*least >= Duration::from_millis(50), "{least:?}");
        // Timers tick in milliseconds.
        assert!(*most <= Duration::from_millis(71), "{most:?}");
        assert!(took.len() > 10, "{took:?}");
    }

    /// Catches a loss that loses bytes, one that costs nothing or what TCP would not take, and one
    /// that is as frequent as it should not be.
    #[tokio::test(start_paused = true)]
    async fn a_loss_delays_what_follows() {
        let mut late = 0;
        let link = SimulatedLink { loss: 0.1, ..LINK };
        let (mut here, mut there) = connected(link).await;
        for number in 0..2000 {
            let sent = written(&mut here, number as u8).await;
            let (byte, at) = taken(&mut there).await;
            assert_eq!(byte, number as u8);
            let took = (at - sent).as_millis();
            match took {
                50 => {}
                // 200 ms, then 400 more, and so on.
                250 | 650 | 1450 | 3050 | 6450 | 12850 => late += 1,
                other => panic!("{other} ms"),
            }
        }
        assert!((150..250).contains(&late), "{late} of 2000");

        // What is sent right behind a segment that is lost waits for it.
        let mut waited = 0;
        for _ in 0..200 {
            let sent = written(&mut here, 1).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            written(&mut here, 2).await;
            let (_, first) = taken(&mut there).await;
            let (_, second) = taken(&mut there).await;
            assert!(second >= first);
            waited += u32::from(first - sent > Duration::from_millis(50) && second == first);
        }
        assert!(waited > 0);
        let far = SimulatedLink {
            round_trip: Duration::from_millis(300),
            loss: 1.0,
            ..LINK
        };
        let entropy = Bytes(std::sync::Mutex::new(7));
        let whole = 300 * ((1 << RETRANSMISSIONS_MAX) - 1);
        assert_eq!(
            retransmissions(&far, &entropy),
            (Duration::from_millis(whole), u64::from(RETRANSMISSIONS_MAX))
        );
    }
}
