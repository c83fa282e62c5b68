//! Where the outside world enters: sockets, tasks, blocking work, and bundles of these with the
//! clock and entropy of `keyrum-types`.
//!
//! Production passes [`World::real`]; the simulation passes a network, a clock and entropy that a
//! seed fixes. Nothing else in the workspace opens a socket, and only [`crate::tasks`] spawns a task too (see
//! `clippy.toml`).

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use keyrum_types::{Clock, Entropy, UnixMillis};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, oneshot};

use crate::tasks::Tasks;
use crate::turns::Turns;

/// A future that owns what it needs, or borrows for `'a`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A connection's two directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Any connection.
pub type BoxStream = Box<dyn Stream>;

/// Takes connections on one address.
pub trait Listener: Send {
    /// Waits for the next connection; the text is the other end's address, for messages.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, String)>>;

    /// The address in use, with the port that was chosen if none was asked for.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// Opens sockets.
pub trait Network: Send + Sync + 'static {
    /// Listens on `HOST:PORT`; port 0 takes a free one.
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;

    /// Connects to `HOST:PORT`.
    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<BoxStream>>;
}

/// How slow the disk of a simulated machine is at the moment.
#[derive(Debug, Default)]
pub struct Slowness {
    /// How long everything takes that waits for the disk, in milliseconds.
    pub ms: AtomicU64,
    /// How often something waited so.
    pub waits: AtomicU64,
}

impl Slowness {
    fn now(&self) -> Option<Duration> {
        match self.ms.load(Ordering::Relaxed) {
            0 => None,
            ms => {
                self.waits.fetch_add(1, Ordering::Relaxed);
                Some(Duration::from_millis(ms))
            }
        }
    }
}

/// How work that blocks (disk, key derivation in bulk) is run.
#[derive(Debug, Clone, Copy)]
pub enum Blocking {
    /// On tokio's blocking threads.
    Threads,
    /// In place, on the one thread of a simulation.
    Inline,
    /// In place, after as long as the simulated disk takes.
    Slowed(&'static Slowness),
}

impl Blocking {
    /// How long the disk takes now, if it is simulated and slow.
    pub(crate) fn slowness(self) -> Option<Duration> {
        match self {
            Self::Threads | Self::Inline => None,
            Self::Slowed(slowness) => slowness.now(),
        }
    }

    /// Runs `work` to its end, without holding up other tasks unless in place.
    pub async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match self {
            #[expect(
                clippy::disallowed_methods,
                reason = "this is the seam for blocking work"
            )]
            Self::Threads => match tokio::task::spawn_blocking(work).await {
                Ok(value) => value,
                Err(failed) => std::panic::resume_unwind(failed.into_panic()),
            },
            Self::Inline => work(),
            Self::Slowed(slowness) => {
                if let Some(wait) = slowness.now() {
                    tokio::time::sleep(wait).await;
                }
                work()
            }
        }
    }

    /// Runs work that computes for a tenth of a millisecond or a few, such as an RSA signature, in
    /// place: a thread of its own would cost more than it gains. Callers take turns, see
    /// [`Turns`](crate::turns::Turns).
    pub async fn run_slow<T>(self, work: impl FnOnce() -> T) -> T {
        if matches!(self, Self::Inline | Self::Slowed(_)) {
            return work();
        }
        SLOW.run(work).await
    }

    /// Runs work that computes for long, such as the search for an RSA key's primes, to its end,
    /// so that requests are not held up: on a thread of its own with a low priority, or in place.
    /// As many run at once as the machine has cores; others wait for their turn, and a caller
    /// that stops waiting before that leaves nothing behind.
    ///
    /// An error says that the machine gave no thread, or that the work panicked.
    pub async fn run_long<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        if matches!(self, Self::Inline | Self::Slowed(_)) {
            return Ok(work());
        }
        let turn = LONG.acquire().await.map_err(io::Error::other)?;
        let (done, result) = oneshot::channel();
        let thread = std::thread::Builder::new().name("keyrum-long".to_owned());
        thread.spawn(move || {
            let _turn = turn;
            step_back(LONG_WORK_NICE);
            // Nobody may wait for it any more.
            let _ = done.send(work());
        })?;
        result.await.map_err(io::Error::other)
    }
}

/// As many as the machine has cores.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The turns of [`Blocking::run_long`], shared by all nodes of a process: they share its cores.
static LONG: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(cores()));

/// The turns of [`Blocking::run_slow`], shared likewise.
static SLOW: LazyLock<Turns> = LazyLock::new(|| Turns::new(cores()));

/// How much a thread with long work steps back. Unit: the system's nice value, 0 to 19; with 6, it gets half
/// of what a background task's gets when both want all, and a quarter of what one gets that answers callers.
/// More would stop long work behind other programs' load.
const LONG_WORK_NICE: i32 = 6;

/// Lowers the calling thread's priority to this nice value, unless it is as low. Only Linux has priorities
/// of threads; elsewhere the call would mean the whole process.
#[cfg_attr(not(target_os = "linux"), expect(unused_variables))]
pub(crate) fn step_back(nice: i32) {
    #[cfg(target_os = "linux")]
    if rustix::process::getpriority_process(None).is_ok_and(|now| now < nice)
        && let Err(error) = rustix::process::setpriority_process(None, nice)
    {
        tracing::debug!(%error, "a thread keeps its priority");
    }
}

/// Everything a node takes from outside.
#[derive(Clone)]
pub struct World {
    /// The machine's wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Sockets.
    pub network: Arc<dyn Network>,
    /// How blocking work is run.
    pub blocking: Blocking,
    /// Where tasks run.
    pub tasks: Tasks,
}

impl World {
    /// The machine's own clock, randomness, TCP and threads; all tasks run on the same.
    pub fn real() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the seam for randomness")]
        let random = ring::rand::SystemRandom::new();
        Self {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy(random)),
            network: Arc::new(Tcp { from: None }),
            blocking: Blocking::Threads,
            tasks: Tasks::together(),
        }
    }
}

/// Starts a task where its starter runs: with [`Tasks`] the one place that does, so that the simulation owns
/// every task.
pub fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "this is the seam for tasks")]
    tokio::spawn(future)
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        #[expect(clippy::disallowed_methods, reason = "this is the seam for the clock")]
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // A machine whose clock is before 1970 reads as 1970: the Region's clock ignores it.
        UnixMillis(since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }
}

struct SystemEntropy(ring::rand::SystemRandom);

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        use ring::rand::SecureRandom;
        self.0
            .fill(bytes)
            .expect("the operating system has randomness once it has booted");
    }
}

/// TCP whose connections come from this address of the machine.
pub fn network_from(address: Ipv4Addr) -> Arc<dyn Network> {
    Arc::new(Tcp {
        from: Some(address),
    })
}

struct Tcp {
    /// Where connections come from; `None` leaves that to the system.
    from: Option<Ipv4Addr>,
}

impl Network for Tcp {
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            #[expect(clippy::disallowed_methods, reason = "this is the seam for sockets")]
            let listener = TcpListener::bind(addr).await?;
            Ok(Box::new(TcpAcceptor(listener)) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let stream = match self.from {
                #[expect(clippy::disallowed_methods, reason = "this is the seam for sockets")]
                None => TcpStream::connect(addr).await?,
                Some(from) => {
                    let to = addr.parse().map_err(io::Error::other)?;
                    let socket = TcpSocket::new_v4()?;
                    socket.bind((from, 0).into())?;
                    socket.connect(to).await?
                }
            };
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxStream)
        })
    }
}

struct TcpAcceptor(TcpListener);

impl Listener for TcpAcceptor {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, String)>> {
        Box::pin(async move {
            let (stream, from) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as BoxStream, from.to_string()))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches connections that come from another address than their node's.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn connections_come_from_where_they_should() {
        let own = Ipv4Addr::new(127, 0, 0, 9);
        let mut listener = network_from(own).listen("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let network = World::real().network;
        for (network, expected) in [(network_from(own), "127.0.0.9:"), (network, "127.0.0.1:")] {
            let connected = network.connect(&addr).await.unwrap();
            let (_accepted, from) = listener.accept().await.unwrap();
            assert!(from.starts_with(expected), "{from}");
            drop(connected);
        }
    }

    /// Catches long work that runs on a thread which answers requests, or with the priority of one,
    /// that takes no turn, or whose panic is taken for an answer.
    #[tokio::test]
    async fn long_work_steps_back() {
        let priority = || {
            #[cfg(target_os = "linux")]
            return rustix::process::getpriority_process(None).unwrap();
            #[cfg(not(target_os = "linux"))]
            0
        };
        let (here, before) = (std::thread::current().id(), priority());
        let work = move || (std::thread::current().id(), priority());
        let (there, lowered) = Blocking::Threads.run_long(work).await.unwrap();
        assert_ne!(here, there);
        #[cfg(target_os = "linux")]
        assert_eq!(lowered, LONG_WORK_NICE.max(before));
        assert_eq!(priority(), before, "{lowered}");
        assert_eq!(Blocking::Inline.run_long(work).await.unwrap().0, here);

        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (said, free) = oneshot::channel();
        let held = spawn(Blocking::Threads.run_long(move || {
            let _ = said.send(LONG.available_permits());
            wait.recv()
        }));
        assert!(
            free.await.unwrap() < cores(),
            "it has a turn while it works"
        );
        go.send(()).unwrap();
        held.await.unwrap().unwrap().unwrap();
        let panics = Blocking::Threads.run_long(|| panic!("as it should"));
        assert!(panics.await.is_err());
    }
}
