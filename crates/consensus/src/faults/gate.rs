//! A connection with what lies between its ends.
//!
//! While nothing concerns it, a read or write compares one number and goes to the socket. Else
//! bytes wait in a queue for each way: inward ones are taken from the socket as they come and given
//! to whoever reads when they are due; outward ones a task writes when they are due.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::{Condition, Faults, Other};
use crate::peers::lock;
use crate::world::{BoxStream, spawn};

/// Bytes read from the socket at a time, and how many of one way may wait before the sender does.
const READ_BYTES: usize = 16 << 10;
const WINDOW_BYTES: usize = 4 << 20;

/// How long what was written before a connection was closed may still arrive: about what Linux
/// tries for a socket that nobody has any more (tcp_orphan_retries).
const LINGER: Duration = Duration::from_secs(100);

/// What travels.
enum Freight {
    /// From this byte on.
    Bytes(Vec<u8>, usize),
    End,
    Broken(io::ErrorKind),
}

/// One way.
#[derive(Default)]
struct Way {
    condition: Condition,
    queue: VecDeque<(Instant, Freight)>,
    bytes: usize,
    /// When the last of the queue is due: nothing overtakes.
    last: Option<Instant>,
    /// Fires when the first of the queue is due.
    timer: Option<Pin<Box<Sleep>>>,
    /// Who reads, or the task that writes.
    taker: Option<Waker>,
    /// Who writes and waits for room.
    giver: Option<Waker>,
    /// Why nothing can be written any more.
    broken: Option<io::ErrorKind>,
    /// Whether the socket has given its end.
    ended: bool,
}

impl Way {
    fn is_open(&self) -> bool {
        self.queue.is_empty() && self.condition.is_clear()
    }

    /// Takes on a condition. Once nothing is in the way, what travels arrives.
    fn meet(&mut self, condition: Condition) {
        self.condition = condition;
        if self.condition.is_clear() {
            let now = Instant::now();
            self.last = None;
            for (due, _) in &mut self.queue {
                *due = (*due).min(now);
            }
        }
    }

    fn push(&mut self, takes: Duration, freight: Freight) {
        let due = Instant::now() + takes;
        let due = self.last.map_or(due, |last| last.max(due));
        self.last = Some(due);
        if let Freight::Bytes(bytes, _) = &freight {
            self.bytes += bytes.len();
        }
        self.queue.push_back((due, freight));
    }

    /// Whether the first of the queue has arrived. If not, `cx` is woken when it has.
    fn arrived(&mut self, cx: &mut Context<'_>) -> bool {
        let Some((due, _)) = self.queue.front() else {
            return false;
        };
        if self.condition.is_cut() {
            return false;
        }
        let due = *due;
        if due <= Instant::now() {
            return true;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx).is_ready()
    }

    fn wake(&mut self) {
        for waker in [self.taker.take(), self.giver.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

struct Wire {
    stream: BoxStream,
    /// `None` until the one who came in has said who it is: until then nothing is held.
    other: Option<Other>,
    /// The version of the faults that the conditions are of.
    seen: u64,
    inward: Way,
    outward: Way,
    /// Whether the task that writes is there.
    pumped: bool,
}

/// A connection and its faults.
pub(crate) struct Gate {
    faults: Arc<Faults>,
    wire: Mutex<Wire>,
    dropped: Notify,
}

impl Gate {
    pub(super) fn new(faults: Arc<Faults>, stream: BoxStream, other: Option<Other>) -> Arc<Self> {
        let wire = Wire {
            stream,
            other,
            // Not what any version is: the first read or write looks.
            seen: u64::MAX,
            inward: Way::default(),
            outward: Way::default(),
            pumped: false,
        };
        Arc::new(Self {
            faults,
            wire: Mutex::new(wire),
            dropped: Notify::new(),
        })
    }

    /// Says who is at the other end.
    pub(super) fn name(&self, other: Other) {
        let mut wire = lock(&self.wire);
        wire.other = Some(other);
        wire.seen = u64::MAX;
    }

    /// Has whoever waits look again.
    pub(super) fn wake(&self) {
        let mut wire = lock(&self.wire);
        wire.inward.wake();
        wire.outward.wake();
    }

    /// Brings the conditions up to date.
    fn look(&self, wire: &mut Wire) {
        let version = self.faults.version.load(Ordering::Acquire);
        if wire.seen == version {
            return;
        }
        wire.seen = version;
        if let Some(other) = &wire.other {
            let [inward, outward] = self.faults.conditions(other);
            wire.inward.meet(inward);
            wire.outward.meet(outward);
        }
    }

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = &mut *lock(&self.wire);
        self.look(wire);
        let way = &mut wire.inward;
        if way.is_open() {
            return Pin::new(&mut wire.stream).poll_read(cx, buf);
        }
        way.taker = Some(cx.waker().clone());
        while !way.ended && way.bytes < WINDOW_BYTES {
            let mut bytes = vec![0; READ_BYTES];
            let mut read = ReadBuf::new(&mut bytes);
            let freight = match Pin::new(&mut wire.stream).poll_read(cx, &mut read) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => Freight::Broken(error.kind()),
                Poll::Ready(Ok(())) if read.filled().is_empty() => Freight::End,
                Poll::Ready(Ok(())) => {
                    let count = read.filled().len();
                    bytes.truncate(count);
                    Freight::Bytes(bytes, 0)
                }
            };
            let takes = match &freight {
                Freight::Bytes(bytes, _) => {
                    let condition = &way.condition;
                    condition.bytes_take(bytes.len(), &*self.faults.entropy)
                }
                Freight::End | Freight::Broken(_) => {
                    way.ended = true;
                    Duration::ZERO
                }
            };
            way.push(takes, freight);
        }
        if !way.arrived(cx) {
            return Poll::Pending;
        }
        let Some((_, freight)) = way.queue.front_mut() else {
            return Poll::Pending;
        };
        match freight {
            Freight::Bytes(bytes, from) => {
                let count = buf.remaining().min(bytes.len() - *from);
                buf.put_slice(&bytes[*from..*from + count]);
                *from += count;
                way.bytes -= count;
                if *from == bytes.len() {
                    way.queue.pop_front();
                }
                Poll::Ready(Ok(()))
            }
            // They stay: whoever reads on is told the same.
            Freight::End => Poll::Ready(Ok(())),
            Freight::Broken(kind) => Poll::Ready(Err((*kind).into())),
        }
    }

    fn poll_write(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wire = &mut *lock(&self.wire);
        self.look(wire);
        let way = &mut wire.outward;
        if let Some(kind) = way.broken {
            return Poll::Ready(Err(kind.into()));
        }
        if way.is_open() {
            return match bytes {
                [bytes] => Pin::new(&mut wire.stream).poll_write(cx, bytes),
                bytes => Pin::new(&mut wire.stream).poll_write_vectored(cx, bytes),
            };
        }
        if way.bytes >= WINDOW_BYTES {
            way.giver = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken: Vec<u8> = bytes.iter().flat_map(|part| part.iter().copied()).collect();
        let count = taken.len();
        let takes = way.condition.bytes_take(count, &*self.faults.entropy);
        way.push(takes, Freight::Bytes(taken, 0));
        self.pump(wire);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &mut *lock(&self.wire);
        match wire.outward.queue.is_empty() {
            true => Pin::new(&mut wire.stream).poll_flush(cx),
            // What travels cannot be hurried.
            false => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: &Arc<Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &mut *lock(&self.wire);
        self.look(wire);
        if wire.outward.is_open() {
            return Pin::new(&mut wire.stream).poll_shutdown(cx);
        }
        wire.outward.push(Duration::ZERO, Freight::End);
        self.pump(wire);
        Poll::Ready(Ok(()))
    }

    /// Has a task write what is due.
    fn pump(self: &Arc<Self>, wire: &mut Wire) {
        if let Some(waker) = wire.outward.taker.take() {
            waker.wake();
        }
        if std::mem::replace(&mut wire.pumped, true) {
            return;
        }
        let gate = self.clone();
        spawn(async move {
            let pumping = std::future::poll_fn(|cx| gate.poll_pump(cx));
            let lingering = async {
                gate.dropped.notified().await;
                sleep(LINGER).await;
            };
            tokio::select! {
                () = pumping => {}
                () = lingering => {}
            }
        });
    }

    fn poll_pump(&self, cx: &mut Context<'_>) -> Poll<()> {
        let wire = &mut *lock(&self.wire);
        self.look(wire);
        let way = &mut wire.outward;
        way.taker = Some(cx.waker().clone());
        while way.arrived(cx) {
            let Some((_, freight)) = way.queue.front_mut() else {
                break;
            };
            let written = match freight {
                Freight::Bytes(bytes, from) => {
                    match Pin::new(&mut wire.stream).poll_write(cx, &bytes[*from..]) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Ok(count)) => {
                            *from += count;
                            way.bytes -= count;
                            if *from < bytes.len() {
                                continue;
                            }
                            Ok(())
                        }
                        Poll::Ready(Err(error)) => Err(error.kind()),
                    }
                }
                Freight::End => match Pin::new(&mut wire.stream).poll_shutdown(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(done) => done.map_err(|error| error.kind()),
                },
                Freight::Broken(kind) => Err(*kind),
            };
            way.queue.pop_front();
            if let Err(kind) = written {
                way.broken = Some(kind);
                way.queue.clear();
                way.bytes = 0;
            }
            if let Some(waker) = way.giver.take() {
                waker.wake();
            }
        }
        if way.queue.is_empty() {
            wire.pumped = false;
            way.taker = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// The connection as it is used.
pub(super) struct Gated(Arc<Gate>);

impl Gated {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        Self(gate)
    }
}

impl Drop for Gated {
    fn drop(&mut self) {
        let wire = &mut *lock(&self.0.wire);
        self.0.look(wire);
        let cut = wire.outward.condition.is_cut();
        if wire.outward.queue.is_empty() && !cut {
            return;
        }
        // The other end learns of the close when it would: behind the bytes, once it can be
        // reached. The task keeps the socket until then.
        let closes = matches!(wire.outward.queue.back(), Some((_, Freight::End)));
        if !closes {
            wire.outward.push(Duration::ZERO, Freight::End);
        }
        self.0.pump(wire);
        self.0.dropped.notify_one();
    }
}

impl AsyncRead for Gated {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, buf)
    }
}

impl AsyncWrite for Gated {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        lock(&self.0.wire).stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_shutdown(cx)
    }
}
