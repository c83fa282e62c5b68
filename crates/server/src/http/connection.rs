//! One connection: its requests, and what ends it.
//!
//! hyper has no idle timeout, and its timeout for heads costs a timer a request and counts idle
//! time too. So each connection has one timer that looks at a few counters every now and then.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body as _, Bytes};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use keyrum_consensus::world::{BoxStream, spawn};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::facts::{self, Origin, TlsFacts};
use super::request_uid::UidSource;
use super::tls::Tls;
use super::{Handler, Incoming, Limits, Shared, Stage, error_answer};
use crate::error::ApiError;

/// The header of request ids.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// The first byte of every TLS connection. Source: RFC 8446, section 5.1, `handshake`.
const TLS_HANDSHAKE: u8 = 22;

/// Longest body that needs no room of those that all long bodies share, in bytes.
const SMALL_BODY_BYTES: u64 = 16 << 10;

/// What room is counted in, in bytes.
const ROOM_UNIT: u64 = 1 << 10;

/// The room that a long body takes for as long as its request is being answered.
type Room<'a> = Option<SemaphorePermit<'a>>;

/// The room for all long bodies of a server.
pub(super) fn room(limits: &Limits) -> Semaphore {
    // At least one of the longest kind fits in, or none would ever be taken.
    let bytes = limits.bodies_bytes_max.max(limits.body_bytes_max) as u64;
    let units = usize::try_from(bytes.div_ceil(ROOM_UNIT)).unwrap_or(usize::MAX);
    Semaphore::new(units.min(Semaphore::MAX_PERMITS))
}

/// How much of what HTTP/2 sends is taken before somebody reads it, in bytes: for one request, and
/// for all of a connection.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 128 << 10;

/// How often a connection's timer looks, as a part of the shortest wait.
const LOOKS_PER_WAIT: u32 = 4;

/// What the timer looks at.
struct Activity {
    /// Requests being answered.
    running: AtomicUsize,
    /// Requests begun.
    begun: AtomicU64,
    /// Whether bytes came since the last request was answered: part of a head, most likely.
    partial: AtomicBool,
    /// Whether this is HTTP/2, whose control frames must not be taken for heads.
    multiplexed: AtomicBool,
    uids: UidSource,
}

/// Serves one connection to its end.
pub(super) async fn serve<H: Handler>(
    shared: &Arc<Shared<H>>,
    stream: BoxStream,
    from: &str,
    mut stages: watch::Receiver<Stage>,
) {
    let limits = &shared.limits;
    let opened = tokio::select! {
        opened = timeout(limits.head_wait, open(shared.tls.as_ref(), stream, from)) => opened,
        _ = stages.changed() => return,
    };
    let (stream, door) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => {
            tracing::debug!(%from, %error, "no TLS came about");
            return;
        }
        Err(_) => {
            tracing::debug!(%from, "a TLS handshake took too long");
            return;
        }
    };
    let activity = Arc::new(Activity {
        running: AtomicUsize::new(0),
        begun: AtomicU64::new(0),
        partial: AtomicBool::new(false),
        multiplexed: AtomicBool::new(false),
        uids: UidSource::new(&*shared.entropy),
    });
    let io = TokioIo::new(Observed {
        stream,
        activity: activity.clone(),
    });
    let mut builder = auto::Builder::new(Spawner);
    builder
        .http1()
        .auto_date_header(false)
        .header_read_timeout(None)
        .max_buf_size(limits.head_bytes_max)
        // Who stops sending after a request still gets the answer, and what was begun is finished.
        .half_close(true);
    builder
        .http2()
        .auto_date_header(false)
        .max_concurrent_streams(limits.streams_max)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX));
    let service = service_fn(|request| {
        let (shared, activity) = (shared.clone(), activity.clone());
        async move { Ok::<_, Infallible>(answer(&shared, &activity, door, request).await) }
    });
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));

    let look =
        (limits.head_wait.min(limits.idle_wait) / LOOKS_PER_WAIT).max(Duration::from_millis(1));
    let mut timer = std::pin::pin!(tokio::time::sleep(look));
    let (mut begun, mut quiet, mut ending) = (0, Duration::ZERO, false);
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%from, %error, "connection ended");
                }
                return;
            }
            changed = stages.changed() => {
                if changed.is_err() {
                    return; // The server was dropped.
                }
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = timer.as_mut() => {
                timer.as_mut().reset(tokio::time::Instant::now() + look);
                let now_begun = activity.begun.load(Relaxed);
                let busy = activity.running.load(Relaxed) > 0 || now_begun != begun;
                begun = now_begun;
                quiet = if busy { Duration::ZERO } else { quiet + look };
                let partial = activity.partial.load(Relaxed) && !activity.multiplexed.load(Relaxed);
                if partial && quiet > limits.head_wait {
                    tracing::debug!(%from, "a request's head took too long");
                    return;
                }
                if quiet > limits.idle_wait && !ending {
                    ending = true;
                    quiet = Duration::ZERO;
                    connection.as_mut().graceful_shutdown();
                } else if ending && quiet > limits.head_wait {
                    return; // The client does not read its answer.
                }
            }
        }
    }
}

/// How a connection came in.
#[derive(Clone, Copy)]
struct Door {
    origin: Origin,
    /// Whether it lacks the TLS that the port asks for: then only the proxy is answered.
    shut: bool,
}

/// Does the TLS handshake, where there is TLS. Who begins with anything else than one is let in
/// unprotected, to be told.
async fn open(
    tls: Option<&Tls>,
    mut stream: BoxStream,
    from: &str,
) -> io::Result<(BoxStream, Door)> {
    let plain = |shut| Door {
        origin: Origin::new(from, None),
        shut,
    };
    let Some(tls) = tls else {
        return Ok((stream, plain(false)));
    };
    let first = stream.read_u8().await?;
    let stream = Begun {
        first: Some(first),
        stream,
    };
    if first != TLS_HANDSHAKE {
        return Ok((Box::new(stream), plain(true)));
    }
    let stream = TlsAcceptor::from(tls.current()).accept(stream).await?;
    let facts = TlsFacts::of(stream.get_ref().1);
    let door = Door {
        origin: Origin::new(from, Some(facts)),
        shut: false,
    };
    Ok((Box::new(stream), door))
}

fn https_only() -> ApiError {
    ApiError::client(
        "HttpsRequired",
        "This port speaks HTTPS: use an endpoint URL that begins with https://.",
    )
}

async fn answer<H: Handler>(
    shared: &Shared<H>,
    activity: &Activity,
    door: Door,
    request: Request<hyper::body::Incoming>,
) -> Response<Full<Bytes>> {
    let _running = Running::begin(activity, request.version());
    let id = activity.uids.next();
    let (mut parts, body) = request.into_parts();
    let told = facts::told(&mut parts.headers, shared.proxy.as_ref());
    let mut response = if door.shut && told.is_none() {
        let mut response = error_answer(&https_only());
        if parts.version < Version::HTTP_2 {
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    } else {
        match read_body(shared, &parts.headers, body).await {
            Ok((body, _room)) => {
                let incoming = Incoming {
                    parts,
                    body,
                    id,
                    at: shared.clock.now(),
                    from: told.unwrap_or(door.origin),
                };
                shared.handler.handle(incoming).await
            }
            Err(error) => error_answer(&error),
        }
    };
    let headers = response.headers_mut();
    if !headers.contains_key(REQUEST_ID) {
        headers.insert(REQUEST_ID, id.header());
    }
    headers.insert(header::DATE, shared.dates.header());
    response
}

async fn read_body<'a, H>(
    shared: &'a Shared<H>,
    headers: &hyper::HeaderMap,
    mut body: hyper::body::Incoming,
) -> Result<(Bytes, Room<'a>), ApiError> {
    let limits = &shared.limits;
    let too_large = || ApiError {
        status: StatusCode::PAYLOAD_TOO_LARGE.as_u16(),
        ..ApiError::client(
            "RequestEntityTooLargeException",
            format!(
                "The request body must have at most {} bytes.",
                limits.body_bytes_max
            ),
        )
    };
    // What is announced; a lower bound of zero when nothing is.
    let announced = body.size_hint().lower();
    let most = body.size_hint().upper().unwrap_or(u64::MAX);
    let work = async {
        if announced > limits.body_bytes_max as u64 {
            let waits = headers.contains_key(header::EXPECT);
            if !waits {
                drain(&mut body, limits.drain_bytes_max.min(announced)).await;
            }
            return Err(too_large());
        }
        let room = match most {
            0..=SMALL_BODY_BYTES => None,
            most => {
                let bytes = most.min(limits.body_bytes_max as u64);
                let units = u32::try_from(bytes.div_ceil(ROOM_UNIT)).unwrap_or(u32::MAX);
                shared.room.acquire_many(units).await.ok()
            }
        };
        match Limited::new(&mut body, limits.body_bytes_max)
            .collect()
            .await
        {
            Ok(collected) => Ok((collected.to_bytes(), room)),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                drain(&mut body, limits.drain_bytes_max).await;
                Err(too_large())
            }
            Err(error) => Err(ApiError::client(
                "IncompleteBody",
                format!("cannot read the request body: {error}"),
            )),
        }
    };
    // The timer is only made when the body is not there yet.
    let late = || ApiError {
        status: StatusCode::REQUEST_TIMEOUT.as_u16(),
        ..ApiError::client(
            "RequestTimeoutException",
            "The request body did not arrive in time.",
        )
    };
    tokio::time::timeout(limits.body_wait, work)
        .await
        .unwrap_or_else(|_| Err(late()))
}

/// Throws away what a client still sends, so that it reads the answer instead of a reset.
async fn drain(body: &mut hyper::body::Incoming, bytes_max: u64) {
    let mut seen = 0;
    while seen < bytes_max {
        match body.frame().await {
            Some(Ok(frame)) => seen += frame.data_ref().map_or(0, |data| data.len() as u64),
            _ => return,
        }
    }
}

/// Notes that a request is being answered, for as long as it lives.
struct Running<'a>(&'a Activity);

impl<'a> Running<'a> {
    fn begin(activity: &'a Activity, version: Version) -> Self {
        activity.running.fetch_add(1, Relaxed);
        activity.begun.fetch_add(1, Relaxed);
        if version == Version::HTTP_2 {
            activity.multiplexed.store(true, Relaxed);
        }
        Self(activity)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.partial.store(false, Relaxed);
        self.0.running.fetch_sub(1, Relaxed);
    }
}

/// A stream that notes when bytes arrive.
struct Observed {
    stream: BoxStream,
    activity: Arc<Activity>,
}

impl AsyncRead for Observed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.partial.store(true, Relaxed);
        }
        polled
    }
}

/// Passes on what is written to a stream that only looks at what is read.
macro_rules! passes_writes {
    ($outer:ty) => {
        impl AsyncWrite for $outer {
            fn poll_write(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.stream).poll_write(cx, buf)
            }

            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.stream).poll_flush(cx)
            }

            fn poll_shutdown(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                Pin::new(&mut self.stream).poll_shutdown(cx)
            }

            fn poll_write_vectored(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
            }

            fn is_write_vectored(&self) -> bool {
                self.stream.is_write_vectored()
            }
        }
    };
}

passes_writes!(Observed);

/// A stream whose first byte has been looked at.
struct Begun {
    first: Option<u8>,
    stream: BoxStream,
}

impl AsyncRead for Begun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buf.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

passes_writes!(Begun);

/// Runs hyper's own tasks (one a request on HTTP/2) where all tasks are run.
#[derive(Clone, Copy)]
struct Spawner;

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        spawn(future);
    }
}
