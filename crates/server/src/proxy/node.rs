//! One node as the proxy sees it: its address, whether it answers, and connections to it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming as Body};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use keyrum_consensus::ReadMode;
use keyrum_consensus::world::{Network, spawn};
use tokio::time::{Instant, timeout, timeout_at};

use super::{NodeAt, ProxyWaits};
use crate::endpoint::{CONSISTENCY, TIME_LEFT, word};
use crate::http::{Incoming, Origin};
use crate::sigv4::Claim;

/// How long an unused connection is kept: well below the nodes' own limit, so that a request is
/// not sent into a connection that is being closed.
const KEEP: Duration = Duration::from_secs(30);

/// Most unused connections to one node.
const KEPT_MAX: usize = 256;

/// Headers that are about one connection, not about the request. Source: RFC 9110, section 7.6.1.
const OF_CONNECTION: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Those of them that say how the body comes, or that something else than HTTP follows.
const OF_THE_BODY: [HeaderName; 3] = [header::TRAILER, header::TRANSFER_ENCODING, header::UPGRADE];

/// A request to be passed on, as often as need be.
pub(super) struct Outgoing {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    from: Origin,
}

impl Outgoing {
    /// Says how to read, unless whoever sent the request did.
    pub(super) fn read_by_default(&mut self, mode: ReadMode) {
        self.headers.entry(CONSISTENCY).or_insert(word(mode));
    }

    /// What a node gets of a request: everything that its signature may cover.
    pub(super) fn of(request: &Incoming, claim: Option<&Claim<'_>>) -> Self {
        let parts = &request.parts;
        let mut headers = parts.headers.clone();
        // HTTP/2 has the host in the target; signatures cover it.
        if let (false, Some(host)) = (headers.contains_key(header::HOST), parts.uri.authority())
            && let Ok(host) = host.as_str().parse()
        {
            headers.insert(header::HOST, host);
        }
        // Few sign such headers, but a signature over one that is gone does not hold. The body is
        // whole already, so what told how it comes would now be wrong.
        let signed = |name: &HeaderName| claim.is_some_and(|claim| claim.signs(name.as_str()));
        for name in OF_CONNECTION.iter().chain([&header::EXPECT]) {
            if !signed(name) || OF_THE_BODY.contains(name) {
                headers.remove(name);
            }
        }
        headers.remove(header::CONTENT_LENGTH);
        let target = parts
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        Self {
            method: parts.method.clone(),
            uri: target.parse().unwrap_or_default(),
            headers,
            body: request.body.clone(),
            from: request.from,
        }
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// Why a node gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing of the request was sent.
    NotSent,
    /// Something was sent: it may have taken effect.
    Unanswered,
}

type Sender = SendRequest<Full<Bytes>>;

pub(super) struct Node {
    at: NodeAt,
    network: Arc<dyn Network>,
    up: AtomicBool,
    kept: Mutex<Vec<(Sender, Instant)>>,
}

impl Node {
    pub(super) fn new(at: NodeAt, network: Arc<dyn Network>) -> Self {
        Self {
            at,
            network,
            up: AtomicBool::new(true),
            kept: Mutex::default(),
        }
    }

    pub(super) fn addr(&self) -> &str {
        &self.at.addr
    }

    /// Whether it is the node that is there.
    pub(super) fn is_at(&self, at: &NodeAt) -> bool {
        self.at == *at
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Notes whether the node answers; gives whether that is news.
    pub(super) fn set_up(&self, up: bool) -> bool {
        self.up.swap(up, Ordering::Relaxed) != up
    }

    /// Sends a request and waits for the answer until `deadline`. The node learns how long that is,
    /// so that it says in time what it knows; with nothing left nothing is sent.
    pub(super) async fn ask(
        &self,
        outgoing: &Outgoing,
        waits: &ProxyWaits,
        deadline: Instant,
    ) -> Result<Response<Full<Bytes>>, Failure> {
        let mut request = outgoing.request();
        if let Some(token) = &self.at.token {
            token.tell(&outgoing.from, request.headers_mut());
        }
        let connect_by = deadline.min(Instant::now() + waits.connect);
        loop {
            let (mut sender, fresh) = match self.kept() {
                Some(sender) => (sender, false),
                None => {
                    let connected = timeout_at(connect_by, self.connect()).await;
                    (connected.ok().flatten().ok_or(Failure::NotSent)?, true)
                }
            };
            if !matches!(timeout_at(connect_by, sender.ready()).await, Ok(Ok(()))) {
                if fresh {
                    return Err(Failure::NotSent);
                }
                continue;
            }
            let left = waits.left(deadline).ok_or(Failure::NotSent)?;
            let left = HeaderValue::from(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            request.headers_mut().insert(TIME_LEFT, left);
            let sent = timeout_at(deadline, sender.try_send_request(request)).await;
            request = match sent.map_err(|_| Failure::Unanswered)? {
                Ok(response) => return self.receive(sender, response, deadline).await,
                Err(mut error) => match error.take_message() {
                    // The connection was closed under us before anything was written.
                    Some(_) if fresh => return Err(Failure::NotSent),
                    Some(request) => request,
                    None => return Err(Failure::Unanswered),
                },
            };
        }
    }

    /// Whether the node answers HTTP at all within `wait`.
    pub(super) async fn probe(&self, wait: Duration) -> bool {
        let ask = async {
            let mut sender = self.connect().await?;
            let mut request = Request::new(Full::default());
            *request.uri_mut() = Uri::from_static("/_keyrum/health");
            request
                .headers_mut()
                .insert(header::HOST, self.at.addr.parse().ok()?);
            let response = sender.send_request(request).await.ok()?;
            response.into_body().collect().await.ok()
        };
        matches!(timeout(wait, ask).await, Ok(Some(_)))
    }

    async fn connect(&self) -> Option<Sender> {
        let stream = self.network.connect(&self.at.addr).await.ok()?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
        // Ends when the sender is dropped or the node closes.
        spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a node ended");
            }
        });
        Some(sender)
    }

    async fn receive(
        &self,
        sender: Sender,
        response: Response<Body>,
        deadline: Instant,
    ) -> Result<Response<Full<Bytes>>, Failure> {
        let (mut parts, body) = response.into_parts();
        let body = match timeout_at(deadline, body.collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            _ => return Err(Failure::Unanswered),
        };
        self.keep(sender);
        for name in OF_CONNECTION {
            parts.headers.remove(name);
        }
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.version = hyper::Version::default();
        Ok(Response::from_parts(parts, Full::new(body)))
    }

    fn kept(&self) -> Option<Sender> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        while let Some((sender, since)) = kept.pop() {
            if now < since + KEEP && !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    fn keep(&self, sender: Sender) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if kept.first().is_some_and(|(_, since)| now >= *since + KEEP) {
            kept.retain(|(_, since)| now < *since + KEEP);
        }
        if kept.len() < KEPT_MAX && !sender.is_closed() {
            kept.push((sender, now));
        }
    }
}
