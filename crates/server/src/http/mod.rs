//! HTTP/1.1 and HTTP/2 on one port, with TLS or without: connections, limits, request ids, a graceful stop.
//!
//! What a request means is for a [`Handler`] to say; this module knows nothing of KMS but the
//! shape of its errors. Every answer of a handler or of this module carries a request id; only
//! bytes that are not HTTP at all are answered by hyper itself, without one.

mod connection;
mod facts;
mod request_uid;
mod response;
mod stamp;
mod tls;
#[cfg(test)]
mod tls_tests;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::http::request::Parts;
use keyrum_consensus::world::{Listener, World, spawn};
use keyrum_types::{Clock, Entropy, UnixMillis};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

pub use facts::{Origin, ProxyToken, RequestFacts, TlsFacts};
pub use request_uid::RequestUid;
pub(crate) use response::{error_answer, json_answer, plain_answer};
pub use tls::{Tls, TlsError};

/// A whole request.
pub struct Incoming {
    /// Method, target and headers.
    pub parts: Parts,
    /// The body, at most [`Limits::body_bytes_max`] long.
    pub body: Bytes,
    /// The id the answer will carry, unless the handler gives it another.
    pub id: RequestUid,
    /// When it had arrived, by the machine's clock.
    pub at: UnixMillis,
    /// Where it comes from.
    pub from: Origin,
}

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Ids and dates are added where the answer lacks them.
    fn handle(&self, request: Incoming) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

/// What a client may cost a server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Longest body of a request, in bytes. The longest valid ones, a policy of 131,072 characters
    /// each written as an escape and an attestation document of 262,144 bytes, fit into 1 MiB.
    pub body_bytes_max: usize,
    /// How much room all bodies of more than 16 KiB have together, in bytes: what senders of long
    /// bodies can make a server hold, however many and slow they are. Who finds no room waits.
    pub bodies_bytes_max: usize,
    /// How much of a body that is too long is read and thrown away, so that a client that sends
    /// before it reads still sees the error. In bytes.
    pub drain_bytes_max: u64,
    /// Longest request head, in bytes.
    pub head_bytes_max: usize,
    /// Most connections at a time; more are closed at once.
    pub connections_max: usize,
    /// Most requests at a time on one HTTP/2 connection.
    pub streams_max: u32,
    /// How long a request head may take from its first byte.
    pub head_wait: Duration,
    /// How long a body may take.
    pub body_wait: Duration,
    /// How long a connection may be idle.
    pub idle_wait: Duration,
    /// How long a stopping server waits for requests it has taken.
    pub stop_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 1 << 20,
            bodies_bytes_max: 64 << 20,
            drain_bytes_max: 64 << 20,
            head_bytes_max: 64 << 10,
            connections_max: 10_000,
            streams_max: 256,
            head_wait: Duration::from_secs(10),
            body_wait: Duration::from_secs(30),
            idle_wait: Duration::from_secs(75),
            stop_wait: Duration::from_millis(1500),
        }
    }
}

/// What a server does beside answering.
#[derive(Clone, Default)]
pub struct Options {
    /// What a client may cost.
    pub limits: Limits,
    /// With it, connections are protected, and what comes unprotected is told so.
    pub tls: Option<Tls>,
    /// With it, a proxy that shows this token is believed what it says of the client, and need not
    /// use TLS itself.
    pub proxy: Option<ProxyToken>,
}

impl From<Limits> for Options {
    fn from(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }
}

/// What the connections of a server do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serve,
    /// Finish what was taken, take nothing more.
    Finish,
}

/// What all connections of a server share.
struct Shared<H> {
    handler: H,
    limits: Limits,
    tls: Option<Tls>,
    proxy: Option<ProxyToken>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    dates: stamp::Dates,
    connections: AtomicUsize,
    /// For long bodies.
    room: Semaphore,
}

/// A listener and its connections. Dropping it closes all of them at once.
pub struct Server {
    local: SocketAddr,
    stage: watch::Sender<Stage>,
    accepting: JoinHandle<()>,
    /// Closed when the last connection has ended.
    ended: mpsc::Receiver<()>,
    stop_wait: Duration,
}

impl Server {
    /// Listens on `addr` (`HOST:PORT`; port 0 takes a free one) and answers from then on.
    pub async fn start<H: Handler>(
        world: &World,
        addr: &str,
        handler: H,
        options: impl Into<Options>,
    ) -> io::Result<Self> {
        let Options { limits, tls, proxy } = options.into();
        let listener = world.network.listen(addr).await?;
        let local = listener.local_addr()?;
        let stop_wait = limits.stop_wait;
        let shared = Arc::new(Shared {
            handler,
            room: connection::room(&limits),
            limits,
            tls,
            proxy,
            clock: world.clock.clone(),
            entropy: world.entropy.clone(),
            dates: stamp::Dates::new(world.clock.clone()),
            connections: AtomicUsize::new(0),
        });
        let (stage, stages) = watch::channel(Stage::Serve);
        let (alive, ended) = mpsc::channel(1);
        let accepting = spawn(accept(listener, shared, stages, alive));
        Ok(Self {
            local,
            stage,
            accepting,
            ended,
            stop_wait,
        })
    }

    /// The address in use.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Takes no more connections and requests, waits for those taken for at most
    /// [`Limits::stop_wait`], then closes what is left.
    pub async fn stop(mut self) {
        self.stage.send_replace(Stage::Finish);
        // A panic in the accept loop has been reported; stopping goes on.
        let _ = (&mut self.accepting).await;
        if tokio::time::timeout(self.stop_wait, self.ended.recv())
            .await
            .is_err()
        {
            tracing::warn!(addr = %self.local, "requests were cut off by the stop");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The connections end by themselves: the sender of their stage is gone.
        self.accepting.abort();
    }
}

/// Counts a connection for as long as it lives.
struct Counted<H>(Arc<Shared<H>>);

impl<H> Drop for Counted<H> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn accept<H: Handler>(
    mut listener: Box<dyn Listener>,
    shared: Arc<Shared<H>>,
    mut stages: watch::Receiver<Stage>,
    alive: mpsc::Sender<()>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stages.changed() => return,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or a connection that was gone before it was taken.
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if shared.connections.fetch_add(1, Ordering::Relaxed) >= shared.limits.connections_max {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(%from, "too many connections, one is closed");
            continue;
        }
        let counted = Counted(shared.clone());
        let (stages, alive) = (stages.clone(), alive.clone());
        spawn(async move {
            connection::serve(&counted.0, stream, &from, stages).await;
            drop((counted, alive));
        });
    }
}
