//! What tests of this crate share: a network in memory, a client, nodes that only say who they are.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use keyrum_consensus::tasks::Tasks;
use keyrum_consensus::world::{Blocking, BoxFuture, BoxStream, Listener, Network, World, spawn};
use keyrum_service::{AssumeRoleInput, AssumeRoleOutput, RequestContext, TemporaryCredentials};
use keyrum_state::Caller;
use keyrum_types::{Clock, Entropy, UnixMillis};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::sync::mpsc;

use crate::error::ApiError;
use crate::fields::Fields;
use crate::model::Operation;
use crate::regions::Backend;
use crate::sigv4::{CredentialError, Credentials, Found};
use crate::sts::Identity;

/// A world without sockets, whose clock stands still.
pub(crate) fn world() -> World {
    World {
        clock: Arc::new(Standing),
        entropy: Arc::new(Counting(AtomicU64::new(1))),
        network: Arc::new(Memory::default()),
        blocking: Blocking::Inline,
        tasks: Tasks::together(),
    }
}

struct Standing;

impl Clock for Standing {
    fn now(&self) -> UnixMillis {
        UnixMillis(1_789_212_697_616)
    }
}

struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        let count = self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        bytes
            .iter_mut()
            .zip(count.iter().cycle())
            .for_each(|(byte, count)| *byte = *count);
    }
}

type Accepting = mpsc::UnboundedSender<BoxStream>;

/// Where connections are neither made nor refused.
pub(crate) const SILENT: &str = "127.0.0.1:7";

#[derive(Default)]
struct Memory(Arc<Mutex<BTreeMap<String, Accepting>>>);

impl Network for Memory {
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.0.lock().unwrap().insert(addr.to_owned(), sender);
        let listener = MemoryListener(receiver, addr.parse().unwrap());
        Box::pin(async move { Ok(Box::new(listener) as Box<dyn Listener>) })
    }

    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        let (ours, theirs) = duplex(1 << 16);
        let listening = self.0.lock().unwrap().get(addr).cloned();
        let silent = addr == SILENT;
        Box::pin(async move {
            if silent {
                pending::<()>().await;
            }
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let stream: BoxStream = Box::new(theirs);
            listening
                .ok_or_else(refused)?
                .send(stream)
                .map_err(|_| refused())?;
            Ok(Box::new(ours) as BoxStream)
        })
    }
}

struct MemoryListener(mpsc::UnboundedReceiver<BoxStream>, SocketAddr);

impl Listener for MemoryListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, String)>> {
        Box::pin(async move {
            match self.0.recv().await {
                Some(stream) => Ok((stream, "memory".to_owned())),
                None => pending().await,
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.1)
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    async fn of(response: Response<hyper::body::Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// A header's text; empty if it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// Sends requests one after the other on one connection.
pub(crate) enum Client {
    Http1(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    Http2(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
}

impl Client {
    pub(crate) async fn http1(world: &World, addr: &str) -> Self {
        let io = TokioIo::new(world.network.connect(addr).await.unwrap());
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        spawn(connection);
        Self::Http1(sender)
    }

    pub(crate) async fn http2(world: &World, addr: &str) -> Self {
        let io = TokioIo::new(world.network.connect(addr).await.unwrap());
        let executor = hyper_util::rt::TokioExecutor::new();
        let (sender, connection) = hyper::client::conn::http2::handshake(executor, io)
            .await
            .unwrap();
        spawn(connection);
        Self::Http2(sender)
    }

    pub(crate) async fn try_send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Answer> {
        let response = match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        Ok(Answer::of(response).await)
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Answer {
        self.try_send(request).await.unwrap()
    }
}

/// A signed request for an operation; `scope` is `ACCESS-KEY/REGION`.
pub(crate) fn request(operation: &str, scope: Option<&str>, body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::post("http://kms.example/")
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", format!("TrentService.{operation}"));
    if let Some(scope) = scope {
        request = request.header("authorization", authorization(scope, "kms"));
    }
    request
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap()
}

/// An Authorization header; `scope` is `ACCESS-KEY/REGION`.
pub(crate) fn authorization(scope: &str, service: &str) -> String {
    let (key, region) = scope.split_once('/').unwrap();
    format!(
        "AWS4-HMAC-SHA256 Credential={key}/20260912/{region}/{service}/aws4_request, \
         SignedHeaders=host, Signature=00"
    )
}

/// Sends `bytes` on a connection of their own, ends the sending direction, and gives what comes
/// back until the server closes or `wait` is over (`None`).
pub(crate) async fn exchange(
    world: &World,
    addr: &str,
    bytes: &[u8],
    wait: Duration,
) -> Option<Vec<u8>> {
    let (mut reading, mut writing) = tokio::io::split(world.network.connect(addr).await.unwrap());
    let mut answer = Vec::new();
    let work = async {
        // Both at once, or each side could wait for the other to read. A server that closes
        // early is free to.
        let write = async {
            let _ = writing.write_all(bytes).await;
            let _ = writing.shutdown().await;
        };
        let _ = tokio::join!(write, reading.read_to_end(&mut answer));
    };
    tokio::time::timeout(wait, work).await.ok()?;
    Some(answer)
}

/// Declared access keys: each with its secret and, if it is a temporary one, its token.
#[derive(Default)]
pub(crate) struct Keys(pub(crate) BTreeMap<&'static str, (&'static str, Option<&'static str>)>);

/// A token of temporary credentials whose time is over, whoever shows it.
pub(crate) const EXPIRED: &str = "expired";

impl Credentials for Keys {
    fn any_declared(&self) -> bool {
        !self.0.is_empty()
    }

    fn find<'a>(
        &'a self,
        access_key: &'a str,
        session_token: Option<&'a str>,
        _thorough: bool,
    ) -> BoxFuture<'a, Result<Found, CredentialError>> {
        let found = self.0.get(access_key);
        Box::pin(async move {
            match found {
                Some(_) if session_token == Some(EXPIRED) => Err(CredentialError::Expired),
                Some((secret, token)) if *token == session_token => Ok(Found {
                    secret: Arc::new(secret.as_bytes().to_vec().into()),
                    caller: Caller {
                        account: "111122223333".parse().unwrap(),
                        arn: format!("arn:aws:iam::111122223333:user/{access_key}"),
                        conditions: BTreeMap::new(),
                        grant_tokens: Vec::new(),
                        details: Default::default(),
                    },
                }),
                _ => Err(CredentialError::Unknown),
            }
        })
    }
}

/// A node that answers every operation with its name, the operation and the caller.
pub(crate) struct Fake {
    name: &'static str,
    pub(crate) keys: Keys,
    pub(crate) leads: AtomicBool,
    pub(crate) runs: AtomicBool,
}

impl Fake {
    pub(crate) fn new(name: &'static str) -> Arc<Self> {
        Self::with_keys(name, Keys::default())
    }

    /// The same, where these access keys are declared.
    pub(crate) fn with_keys(name: &'static str, keys: Keys) -> Arc<Self> {
        Arc::new(Self {
            name,
            keys,
            leads: AtomicBool::new(false),
            runs: AtomicBool::new(true),
        })
    }
}

impl Backend for Fake {
    fn credentials(&self) -> &dyn Credentials {
        &self.keys
    }

    fn leads(&self) -> bool {
        self.leads.load(Ordering::Relaxed)
    }

    fn runs(&self) -> bool {
        self.runs.load(Ordering::Relaxed)
    }

    fn call<'a>(
        &'a self,
        operation: &'static Operation,
        context: &'a RequestContext,
        mut input: Fields<'a>,
    ) -> BoxFuture<'a, Result<Vec<u8>, ApiError>> {
        let answer = format!(
            "{} {} {} {:?}",
            self.name, operation.name, context.caller.arn, context.mode
        );
        let hangs =
            operation.name == "DescribeKey" && input.text("KeyId").as_deref() == Some("hang");
        Box::pin(async move {
            if hangs {
                pending::<()>().await;
            }
            Ok(answer.into_bytes())
        })
    }

    fn identify(&self, context: &RequestContext) -> Identity {
        Identity {
            account: context.caller.account.to_string(),
            arn: context.caller.arn.clone(),
            user_id: context.caller.account.to_string(),
        }
    }

    fn assume_role<'a>(
        &'a self,
        _: &'a RequestContext,
        _: AssumeRoleInput,
    ) -> BoxFuture<'a, Result<AssumeRoleOutput, ApiError>> {
        unreachable!("nobody asks for a role here")
    }

    fn get_session_token<'a>(
        &'a self,
        _: &'a RequestContext,
        _: Option<i64>,
    ) -> BoxFuture<'a, Result<TemporaryCredentials, ApiError>> {
        unreachable!("nobody asks for a session here")
    }
}
