//! Calls between nodes: numbered frames over a link, many calls in flight at once.
//!
//! A frame is its length (u32), the call's number (u64), a kind (u8) and a record. Answers carry
//! the number of their call and come in any order.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use keyrum_types::NodeId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::codec;
use crate::links::{Links, PeerName, Purpose};
use crate::world::{BoxFuture, BoxStream, World, spawn};

/// Longest frame taken, in bytes: a snapshot's chunk or a full batch of entries fits well.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// Room for a common frame, so that most need no second allocation.
const FRAME_BYTES_COMMON: usize = 1024;

/// Length, number and kind.
const HEADER_BYTES: usize = 4 + 8 + 1;

/// Frames waiting to be written on one connection before callers wait.
const QUEUE_FRAMES: usize = 1024;

/// How long connecting and greeting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a connection whose TLS credentials are no longer those of the node is used on while no new one
/// can be made, and how often that is tried.
const RENEW_LIMIT: Duration = Duration::from_secs(5);
const RENEW_EVERY: Duration = Duration::from_millis(100);

/// How long a peer may take to leave a connection that it was asked to make anew.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

/// What a call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Append = 1,
    Vote = 2,
    PreVote = 3,
    TransferLeader = 4,
    SnapshotBegin = 5,
    SnapshotChunk = 6,
    SnapshotEnd = 7,
    Propose = 8,
    ReadIndex = 9,
    Clock = 10,
    Digest = 11,
    Member = 12,
    /// The only one that a node of another Region may ask.
    Deliver = 13,
    Supports = 14,
    History = 15,
    DomainKey = 16,
}

impl Kind {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Append,
            2 => Self::Vote,
            3 => Self::PreVote,
            4 => Self::TransferLeader,
            5 => Self::SnapshotBegin,
            6 => Self::SnapshotChunk,
            7 => Self::SnapshotEnd,
            8 => Self::Propose,
            9 => Self::ReadIndex,
            10 => Self::Clock,
            11 => Self::Digest,
            12 => Self::Member,
            13 => Self::Deliver,
            14 => Self::Supports,
            15 => Self::History,
            16 => Self::DomainKey,
            _ => return None,
        })
    }
}

/// The kind of a frame that answers a call, and of one that says why there is no answer.
const ANSWER: u8 = 0;
const FAILURE: u8 = 255;

/// The kind of a frame that answers no call: the node that sends it wants the connection made anew.
/// What was asked on this one is still answered.
const LEAVE: u8 = 254;

/// The number of such a frame, which no call gets: whoever does not know the kind passes it over.
const NO_CALL: u64 = u64::MAX;

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// Nothing was sent.
    #[error("cannot reach node {node}: {reason}")]
    Unreachable { node: NodeId, reason: String },
    /// The call may have been carried out.
    #[error("node {node} did not answer: {reason}")]
    NoAnswer { node: NodeId, reason: String },
    /// The node answered that it could not carry the call out.
    #[error("node {node} failed: {reason}")]
    Failed { node: NodeId, reason: String },
}

/// Calls one node, for one purpose; connects when needed.
#[derive(Clone)]
pub(crate) struct PeerClient {
    inner: Arc<ClientInner>,
}

struct ClientInner {
    target: PeerName,
    addr: Box<dyn Fn() -> Option<String> + Send + Sync>,
    purpose: Purpose,
    links: Links,
    world: World,
    connection: tokio::sync::Mutex<Option<Arc<Connection>>>,
}

/// A caller that waits for its answer's record, or for why there is none.
type Waiting = oneshot::Sender<Result<Vec<u8>, String>>;

struct Connection {
    frames: mpsc::Sender<Vec<u8>>,
    /// Goes when nobody has the connection any more.
    _held: oneshot::Sender<()>,
    pending: Mutex<BTreeMap<u64, Waiting>>,
    next: AtomicU64,
    dead: AtomicBool,
    /// Counts frames received: a call that timed out while none came shows a silent link.
    received: AtomicU64,
}

impl PeerClient {
    pub(crate) fn new(
        target: PeerName,
        addr: impl Fn() -> Option<String> + Send + Sync + 'static,
        purpose: Purpose,
        links: Links,
        world: World,
    ) -> Self {
        let connection = tokio::sync::Mutex::new(None);
        let addr = Box::new(addr);
        Self {
            inner: Arc::new(ClientInner {
                target,
                addr,
                purpose,
                links,
                world,
                connection,
            }),
        }
    }

    /// Makes one call and waits for its answer until the time is over.
    pub(crate) async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        kind: Kind,
        question: &Q,
        timeout: Duration,
    ) -> Result<A, CallError> {
        let node = self.inner.target.node;
        let deadline = Instant::now() + timeout;
        let connecting = self.connection();
        let connection = match tokio::time::timeout_at(deadline, connecting).await {
            Ok(connection) => connection?,
            Err(_) => {
                let reason = "connecting took too long".to_owned();
                return Err(CallError::Unreachable { node, reason });
            }
        };
        let no_answer = |reason: &str| CallError::NoAnswer {
            node,
            reason: reason.to_owned(),
        };
        let number = connection.next.fetch_add(1, Ordering::Relaxed);
        let received = connection.received.load(Ordering::Relaxed);
        let frame = frame(number, kind as u8, question);
        let (answer, answered) = oneshot::channel();
        lock(&connection.pending).insert(number, answer);
        let sending = tokio::time::timeout_at(deadline, connection.frames.send(frame));
        if connection.dead.load(Ordering::Acquire) || !matches!(sending.await, Ok(Ok(()))) {
            lock(&connection.pending).remove(&number);
            // A full queue that does not move is as good as closed: start afresh next time.
            connection.dead.store(true, Ordering::Release);
            let reason = "the connection is closed or takes no more".to_owned();
            return Err(CallError::Unreachable { node, reason });
        }
        let answer = match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(Ok(bytes))) => bytes,
            Ok(Ok(Err(reason))) => return Err(CallError::Failed { node, reason }),
            Ok(Err(_)) => return Err(no_answer("the connection broke")),
            Err(_) => {
                lock(&connection.pending).remove(&number);
                if connection.received.load(Ordering::Relaxed) == received {
                    // Nothing at all came while this call waited: start afresh next time.
                    connection.dead.store(true, Ordering::Release);
                }
                return Err(no_answer("it took too long"));
            }
        };
        codec::decode(&answer).map_err(|error| no_answer(&error.to_string()))
    }

    async fn connection(&self) -> Result<Arc<Connection>, CallError> {
        let mut slot = self.inner.connection.lock().await;
        if let Some(connection) = &*slot
            && !connection.dead.load(Ordering::Acquire)
        {
            return Ok(connection.clone());
        }
        *slot = None;
        let connection = self.connect().await?;
        *slot = Some(connection.clone());
        Ok(connection)
    }

    /// Makes a connection, whatever there is already, where it is to be served: readers wait for answers
    /// to requests, whoever asked first. Boxed, since a connection makes the next one.
    fn connect(&self) -> BoxFuture<'_, Result<Arc<Connection>, CallError>> {
        let (client, tasks) = (self.clone(), &self.inner.world.tasks);
        let connect = async move { client.connect_now().await };
        match self.inner.purpose {
            Purpose::Requests => Box::pin(tasks.in_serving(connect)),
            _ => Box::pin(tasks.in_background(connect)),
        }
    }

    async fn connect_now(&self) -> Result<Arc<Connection>, CallError> {
        let inner = &self.inner;
        let unreachable = |reason: String| CallError::Unreachable {
            node: inner.target.node,
            reason,
        };
        let addr = (inner.addr)().ok_or_else(|| unreachable("its address is unknown".into()))?;
        // Before it is made: it may have been made with older TLS credentials than there are then.
        let changes = inner
            .links
            .credentials()
            .map(|credentials| credentials.changes());
        let network = &*inner.world.network;
        let connect = inner
            .links
            .dial(network, &addr, &inner.target, inner.purpose);
        let stream = match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(format!("{addr}: {error}"))),
            Err(_) => return Err(unreachable(format!("{addr}: connecting took too long"))),
        };
        let (frames, outgoing) = mpsc::channel(QUEUE_FRAMES);
        let (held, dropped) = oneshot::channel();
        let connection = Arc::new(Connection {
            frames,
            _held: held,
            pending: Mutex::new(BTreeMap::new()),
            next: AtomicU64::new(0),
            dead: AtomicBool::new(false),
            received: AtomicU64::new(0),
        });
        let (reader, writer) = tokio::io::split(stream);
        spawn(write_frames(writer, outgoing));
        let (leave, asked_to_leave) = oneshot::channel();
        spawn(read_answers(
            reader,
            Arc::downgrade(&connection),
            leave,
            dropped,
        ));
        if let Some(changes) = changes {
            let (client, former) = (Arc::downgrade(inner), Arc::downgrade(&connection));
            spawn(renew(client, former, changes, asked_to_leave));
        }
        Ok(connection)
    }
}

/// Makes a connection anew once its TLS credentials are former ones, at this end or at the other. Calls go
/// over the former connection until there is another, and it closes when the last is answered: so
/// no call fails because of it. Only a snapshot that is under way is sent again, since it is
/// received on one connection.
async fn renew(
    client: Weak<ClientInner>,
    former: Weak<Connection>,
    mut changes: watch::Receiver<u64>,
    asked_to_leave: oneshot::Receiver<()>,
) {
    tokio::select! {
        // An error says that the connection has ended.
        _ = asked_to_leave => {}
        changed = changes.changed() => if changed.is_err() { return },
    }
    let deadline = Instant::now() + RENEW_LIMIT;
    let mut told = false;
    while let Some(inner) = client.upgrade() {
        let ended = |former: Arc<Connection>| former.dead.load(Ordering::Acquire);
        if former.upgrade().is_none_or(ended) {
            // The next call makes another; the rest of this one must not stay until then.
            inner.replace(&former, None).await;
            return;
        }
        let calls = PeerClient {
            inner: inner.clone(),
        };
        match calls.connect().await {
            Ok(made) => {
                inner.replace(&former, Some(made)).await;
                return;
            }
            Err(_) if Instant::now() > deadline => {
                inner.replace(&former, None).await;
                return;
            }
            Err(error) if !told => {
                told = true;
                tracing::warn!(target = %inner.target, %error,
                    "cannot make a link anew for other certificates; the former one is used on \
                     for at most {} s", RENEW_LIMIT.as_secs());
            }
            Err(_) => {}
        }
        drop(inner);
        tokio::time::sleep(RENEW_EVERY).await;
    }
}

impl ClientInner {
    /// Puts another connection in a former one's place, unless a call has done so already.
    async fn replace(&self, former: &Weak<Connection>, other: Option<Arc<Connection>>) {
        let mut slot = self.connection.lock().await;
        if slot.as_ref().map(Arc::as_ptr) == Some(former.as_ptr()) {
            *slot = other;
        }
    }
}

async fn read_answers(
    mut reader: ReadHalf<BoxStream>,
    connection: Weak<Connection>,
    leave: oneshot::Sender<()>,
    mut dropped: oneshot::Receiver<()>,
) {
    let mut leave = Some(leave);
    loop {
        let frame = tokio::select! {
            biased;
            frame = read_frame(&mut reader) => frame,
            // A peer that is frozen would never close it.
            _ = &mut dropped => return,
        };
        let Some(connection) = connection.upgrade() else {
            return;
        };
        let Ok((number, kind, body)) = frame else {
            connection.dead.store(true, Ordering::Release);
            // Dropping the senders tells every waiting caller.
            lock(&connection.pending).clear();
            return;
        };
        connection.received.fetch_add(1, Ordering::Relaxed);
        if (number, kind) == (NO_CALL, LEAVE) {
            if let Some(leave) = leave.take() {
                let _ = leave.send(());
            }
            continue;
        }
        if let Some(waiting) = lock(&connection.pending).remove(&number) {
            let answer = match kind {
                ANSWER => Ok(body),
                _ => Err(String::from_utf8_lossy(&body).into_owned()),
            };
            let _ = waiting.send(answer);
        }
    }
}

/// Writes what is queued, as much as there is at a time, until the queue or the link closes.
async fn write_frames(mut writer: WriteHalf<BoxStream>, mut frames: mpsc::Receiver<Vec<u8>>) {
    while let Some(mut batch) = frames.recv().await {
        while batch.len() < FRAME_BYTES_MAX / 64
            && let Ok(more) = frames.try_recv()
        {
            batch.extend_from_slice(&more);
        }
        if writer.write_all(&batch).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
    let _ = writer.shutdown().await;
}

fn frame<T: Serialize>(number: u64, kind: u8, record: &T) -> Vec<u8> {
    seal_frame(codec::encode_frame(frame_header(number, kind), record))
}

fn frame_header(number: u64, kind: u8) -> Vec<u8> {
    let mut header = Vec::with_capacity(FRAME_BYTES_COMMON);
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&number.to_be_bytes());
    header.push(kind);
    header
}

fn seal_frame(mut frame: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(frame.len() - 4).expect("records are far smaller than 4 GiB");
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

async fn read_frame<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<(u64, u8, Vec<u8>)> {
    let mut header = [0; HEADER_BYTES];
    reader.read_exact(&mut header).await?;
    let length = u32::from_be_bytes(header[..4].try_into().expect("4 bytes")) as usize;
    let body_length = length
        .checked_sub(HEADER_BYTES - 4)
        .filter(|_| length <= FRAME_BYTES_MAX)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a frame of impossible size"))?;
    let number = u64::from_be_bytes(header[4..12].try_into().expect("8 bytes"));
    let mut body = vec![0; body_length];
    reader.read_exact(&mut body).await?;
    Ok((number, header[12], body))
}

/// Carries calls out. One value serves all connections of a node.
pub(crate) trait Handler: Send + Sync + 'static {
    /// What a connection keeps between its calls (a snapshot being received).
    type Session: Send + 'static;

    /// Starts a connection.
    fn open(&self) -> Self::Session;

    /// Carries one call out; the answer is an encoded record, or why there is none.
    fn handle(
        self: Arc<Self>,
        session: Arc<tokio::sync::Mutex<Self::Session>>,
        kind: Kind,
        body: Vec<u8>,
    ) -> BoxFuture<'static, Result<Vec<u8>, String>>;
}

/// Serves one connection that came in, until it closes. When `former` is over, its TLS credentials are former
/// ones: the peer is asked to make it anew, and may take a while for that.
pub(crate) async fn serve<H: Handler>(
    stream: BoxStream,
    in_order: bool,
    handler: Arc<H>,
    former: impl Future<Output = ()>,
) {
    let (reader, writer) = tokio::io::split(stream);
    let (frames, outgoing) = mpsc::channel::<Vec<u8>>(QUEUE_FRAMES);
    let writing = spawn(write_frames(writer, outgoing));
    let leaving = async {
        former.await;
        let ask = seal_frame(frame_header(NO_CALL, LEAVE));
        let _ = frames.clone().send(ask).await;
        tokio::time::sleep(LEAVE_LIMIT).await;
        tracing::warn!("a peer did not leave a link that was made with former certificates");
    };
    tokio::select! {
        biased;
        () = serve_calls(reader, &frames, in_order, handler) => {}
        () = leaving => {}
    }
    writing.abort();
}

async fn serve_calls<H: Handler>(
    mut reader: ReadHalf<BoxStream>,
    frames: &mpsc::Sender<Vec<u8>>,
    in_order: bool,
    handler: Arc<H>,
) {
    let session = Arc::new(tokio::sync::Mutex::new(handler.open()));
    while let Ok((number, kind, body)) = read_frame(&mut reader).await {
        let Some(kind) = Kind::from_byte(kind) else {
            break;
        };
        let answer = handler.clone().handle(session.clone(), kind, body);
        let frames = frames.clone();
        let carry_out = async move {
            let frame = match answer.await {
                Ok(record) => {
                    let mut frame = frame_header(number, ANSWER);
                    frame.extend_from_slice(&record);
                    seal_frame(frame)
                }
                Err(reason) => {
                    let mut frame = frame_header(number, FAILURE);
                    frame.extend_from_slice(reason.as_bytes());
                    seal_frame(frame)
                }
            };
            let _ = frames.send(frame).await;
        };
        if in_order {
            carry_out.await;
        } else if kind == Kind::ReadIndex {
            // Asked for each read, and mostly answered from memory: that needs no task.
            let mut carry_out = Box::pin(carry_out);
            if !poll_fn(|cx| Poll::Ready(carry_out.as_mut().poll(cx).is_ready())).await {
                spawn(carry_out);
            }
        } else {
            spawn(carry_out);
        }
    }
}

/// A poisoned lock guards plain values that are whole after every statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
