//! The simulated network behind the production seam, with a checksum over all that goes over it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use keyrum_consensus::world::{BoxFuture, BoxStream, Listener, Network};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use super::place;
use super::rolling::Rolling;
use super::seed::Time;

/// What went over the wires of a run, and over which wires nothing gets through at the moment.
#[derive(Default)]
pub(crate) struct Wires(Mutex<Counts>);

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
    links: Vec<(String, String, Blocked)>,
}

/// Why a link does not deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocked {
    Cut,
    Held,
}

impl Wires {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    /// Says which links do not deliver from now on, each with its direction.
    pub(crate) fn set_blocked(&self, links: Vec<(String, String, Blocked)>) {
        self.lock().links = links;
    }

    fn note(&self, ms: u64, from: &str, to: &str, bytes: &[u8]) {
        let mut counts = self.lock();
        counts.segments += 1;
        counts.bytes += bytes.len() as u64;
        let sum = &mut counts.sum;
        sum.add(&ms.to_le_bytes());
        sum.add(from.as_bytes());
        sum.add(to.as_bytes());
        sum.add(bytes);
        let found = counts.links.iter().find(|(a, b, _)| a == from && b == to);
        match found.map(|(_, _, blocked)| *blocked) {
            Some(Blocked::Cut) => {
                counts.lost += 1;
                let regions = (place::region_of(from), place::region_of(to));
                if let (Some(from), Some(to)) = regions {
                    counts.lost_between += u64::from(from != to);
                }
            }
            Some(Blocked::Held) => counts.held += 1,
            None => {}
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
    fn watch(&self, stream: TcpStream, peer: &str) -> BoxStream {
        Box::new(Watched {
            stream,
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
            Ok(self.watch(stream, peer))
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
            let peer = turmoil::reverse_lookup(from.ip()).unwrap_or_else(|| from.ip().to_string());
            Ok((
                self.network.watch(stream, &peer),
                format!("{peer}:{}", from.port()),
            ))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A stream that notes what is written to it.
struct Watched {
    stream: TcpStream,
    host: Arc<str>,
    peer: Arc<str>,
    wires: Arc<Wires>,
    time: Time,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
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
