//! The simulated network behind the production seam, with a checksum over all that goes over it.

use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use keyrum_consensus::world::{BoxFuture, BoxStream, Listener, Network};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use turmoil::net::{TcpListener, TcpStream};

use super::PEER_PORT;
use super::effects::Effects;
use super::inbound::{Inbound, Mishaps};
use super::place;
use super::seed::Time;
use crate::dice::Dice;
use crate::rolling::Rolling;

/// Most bytes taken from a connection at once.
const SEGMENT_BYTES: usize = 16 << 10;

/// What went over the wires of a run, and what befalls it at the moment.
pub(crate) struct Wires {
    counts: Mutex<Counts>,
    links: Mutex<Befalls>,
    dice: Mutex<Dice>,
    effects: Effects,
}

/// What befalls what a host sends, by receiver; with the faults that do it.
type Befalls = BTreeMap<String, BTreeMap<String, Vec<(usize, Befallen)>>>;

/// Counters over a whole run.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    pub(crate) segments: u64,
    pub(crate) bytes: u64,
    /// Segments and connection attempts sent into a cut link.
    pub(crate) lost: u64,
    /// Those of them between nodes of different Regions.
    pub(crate) lost_between: u64,
    /// Segments sent into a link that holds them back.
    pub(crate) held: u64,
    pub(crate) sum: Rolling,
}

/// What befalls what is sent over a link in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Befallen {
    /// It does not arrive.
    Cut,
    /// It arrives when the fault is over.
    Held,
    /// It takes long.
    Slow,
    /// Of a hundred segments so many have to be sent again.
    Lost(u64),
    /// Of a hundred calls and answers so many come twice.
    Repeated(u64),
    /// Of a hundred so many come after later ones.
    Reordered(u64),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wires {
    pub(crate) fn new(seed: u64, effects: Effects) -> Self {
        Self {
            counts: Mutex::default(),
            links: Mutex::default(),
            dice: Mutex::new(Dice::new(seed, "wires")),
            effects,
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        lock(&self.counts).clone()
    }

    /// Says what befalls what is sent from now on: from where, to where, by which fault.
    pub(crate) fn set_befalls(&self, all: Vec<(String, String, usize, Befallen)>) {
        let mut links = Befalls::new();
        for (from, to, fault, what) in all {
            let there = links.entry(from).or_default().entry(to).or_default();
            there.push((fault, what));
        }
        *lock(&self.links) = links;
    }

    fn note(&self, ms: u64, from: &str, to: &str, bytes: &[u8]) {
        let mut counts = lock(&self.counts);
        counts.segments += 1;
        counts.bytes += bytes.len() as u64;
        let sum = &mut counts.sum;
        sum.add(&ms.to_le_bytes());
        sum.add(from.as_bytes());
        sum.add(to.as_bytes());
        sum.add(bytes);
        let links = lock(&self.links);
        let Some(befalls) = links.get(from).and_then(|to_all| to_all.get(to)) else {
            return;
        };
        let has = |what| befalls.iter().any(|(_, befallen)| *befallen == what);
        let worst = match (has(Befallen::Cut), has(Befallen::Held)) {
            (true, _) => {
                counts.lost += 1;
                let regions = (place::region_of(from), place::region_of(to));
                if let (Some(from), Some(to)) = regions {
                    counts.lost_between += u64::from(from != to);
                }
                Befallen::Cut
            }
            (false, true) => {
                counts.held += 1;
                Befallen::Held
            }
            (false, false) => Befallen::Slow,
        };
        for (fault, _) in befalls.iter().filter(|(_, befallen)| *befallen == worst) {
            self.effects.add(*fault, 1);
        }
    }

    /// What befalls what arrives at a host from another.
    fn mishaps(&self, from: &str, to: &str) -> Mishaps {
        let mut mishaps = Mishaps::default();
        let links = lock(&self.links);
        let befalls = links.get(from).and_then(|to_all| to_all.get(to));
        for (fault, befallen) in befalls.into_iter().flatten() {
            match befallen {
                Befallen::Lost(percent) => mishaps.lose = Some((*fault, *percent)),
                Befallen::Repeated(percent) => mishaps.repeat = Some((*fault, *percent)),
                Befallen::Reordered(percent) => mishaps.reorder = Some((*fault, *percent)),
                Befallen::Cut | Befallen::Held | Befallen::Slow => {}
            }
        }
        mishaps
    }

    fn take(&self, inbound: &mut Inbound, bytes: &[u8], mishaps: Mishaps) {
        let taken = inbound.take(bytes, mishaps, Instant::now(), &mut lock(&self.dice));
        for fault in taken {
            self.effects.add(fault, 1);
        }
    }
}

/// One host's access to the network.
pub(crate) struct SimNetwork {
    pub(crate) host: Arc<str>,
    pub(crate) wires: Arc<Wires>,
    pub(crate) time: Time,
}

impl SimNetwork {
    fn watch(&self, stream: TcpStream, peer: &str, port: Option<u16>) -> BoxStream {
        Box::new(Watched {
            stream,
            inbound: Inbound::new(port == Some(PEER_PORT)),
            sleep: None,
            host: self.host.clone(),
            peer: peer.into(),
            wires: self.wires.clone(),
            time: self.time.clone(),
        })
    }
}

impl Network for SimNetwork {
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(addr).await?;
            let network = Self {
                host: self.host.clone(),
                wires: self.wires.clone(),
                time: self.time.clone(),
            };
            Ok(Box::new(SimListener { listener, network }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let peer = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
            self.wires
                .note(self.time.ms(), &self.host, peer, b"connect");
            let stream = TcpStream::connect(addr).await?;
            let port = addr
                .rsplit_once(':')
                .and_then(|(_, port)| port.parse().ok());
            Ok(self.watch(stream, peer, port))
        })
    }
}

struct SimListener {
    listener: TcpListener,
    network: SimNetwork,
}

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, String)>> {
        Box::pin(async move {
            let (stream, from) = self.listener.accept().await?;
            let port = self.listener.local_addr().ok().map(|addr| addr.port());
            let peer = turmoil::reverse_lookup(from.ip()).unwrap_or_else(|| from.ip().to_string());
            Ok((
                self.network.watch(stream, &peer, port),
                format!("{peer}:{}", from.port()),
            ))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A stream that notes what is written to it, and to whose reader something may befall what comes.
struct Watched {
    stream: TcpStream,
    inbound: Inbound,
    /// Until the time of what comes late.
    sleep: Option<Pin<Box<Sleep>>>,
    host: Arc<str>,
    peer: Arc<str>,
    wires: Arc<Wires>,
    time: Time,
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mishaps = this.wires.mishaps(&this.peer, &this.host);
        let quiet = mishaps == Mishaps::default() && this.inbound.is_empty();
        if quiet && !this.inbound.between_nodes {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        loop {
            let wait = match this.inbound.hand_on(buf.remaining(), Instant::now()) {
                Ok(bytes) => {
                    buf.put_slice(&bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(None) if this.inbound.ended => return Poll::Ready(Ok(())),
                Err(wait) => wait,
            };
            // While TCP waits for what was lost, more arrives all the same, and is kept.
            if !this.inbound.ended {
                let mut space = [MaybeUninit::uninit(); SEGMENT_BYTES];
                let mut segment = ReadBuf::uninit(&mut space);
                match Pin::new(&mut this.stream).poll_read(cx, &mut segment) {
                    Poll::Ready(Ok(())) => {
                        match segment.filled() {
                            [] => this.inbound.end(),
                            bytes => this.wires.take(&mut this.inbound, bytes, mishaps),
                        }
                        continue;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {}
                }
            }
            let Some(until) = wait else {
                return Poll::Pending;
            };
            let mut sleep = Box::pin(sleep_until(until));
            if sleep.as_mut().poll(cx).is_pending() {
                this.sleep = Some(sleep);
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            self.wires
                .note(self.time.ms(), &self.host, &self.peer, &bytes[..written]);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
