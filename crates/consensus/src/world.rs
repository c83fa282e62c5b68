//! Where the outside world enters: sockets, tasks, blocking work, and bundles of these with the
//! clock and entropy of `keyrum-types`.
//!
//! Production passes [`World::real`]; the simulation passes a network, a clock and entropy that a
//! seed fixes. Nothing else in the workspace opens a socket or spawns a task (see `clippy.toml`).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use keyrum_types::{Clock, Entropy, UnixMillis};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

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

/// How work that blocks (disk, key derivation in bulk) is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocking {
    /// On tokio's blocking threads.
    Threads,
    /// In place, on the one thread of a simulation.
    Inline,
}

impl Blocking {
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
        }
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
}

impl World {
    /// The machine's own clock, randomness, TCP and threads.
    pub fn real() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the seam for randomness")]
        let random = ring::rand::SystemRandom::new();
        Self {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy(random)),
            network: Arc::new(Tcp),
            blocking: Blocking::Threads,
        }
    }
}

/// Starts a task: the one place that does, so that the simulation owns every task.
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

struct Tcp;

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
            #[expect(clippy::disallowed_methods, reason = "this is the seam for sockets")]
            let stream = TcpStream::connect(addr).await?;
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
