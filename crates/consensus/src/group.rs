//! One node's part in its Region's group.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use keyrum_state::State;
use keyrum_store::{Store, StoreError};
use keyrum_types::planted::{self, Bug};
use keyrum_types::{LogIndex, NodeId, Region, UnixMillis};
use openraft::SnapshotPolicy;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::codec;
use crate::courier::Receiver;
use crate::digests;
use crate::domain::{self, OtherDomainKey};
use crate::handler::NodeHandler;
use crate::links::{Links, PeerName, Purpose};
use crate::log_storage::{LogStorage, Promise};
use crate::machine::{HistoryEntry, Machine, Shared};
use crate::network::Factory;
use crate::peers::{self, PeerClient, lock};
use crate::reads::{ReadError, ReadMode, Rounds};
use crate::tasks::Tasks;
use crate::tls_credentials::{self, TlsStatus};
use crate::types::{Metrics, Peer, Raft, Runtime};
use crate::world::{Listener, World, spawn};

/// How often a leader tells its followers that it is there, in milliseconds.
const HEARTBEAT_MS: u64 = 200;

/// How long after a leader's last message a node gives no other its vote, in milliseconds. A node
/// asks for votes itself after this and a time between the bounds, so 1.05 to 1.4 s.
const VOTE_LEASE_MS: u64 = 700;
const ELECTION_MS_MIN: u64 = 350;
/// openraft takes its vote lease from this.
const ELECTION_MS_MAX: u64 = VOTE_LEASE_MS;

/// How long after a quorum last answered a leader relies on its lease. Less than the time for which
/// those who answered give no vote, restarted ones included, by a margin for clocks that run at
/// different speeds.
pub(crate) const LEASE: Duration = Duration::from_millis(VOTE_LEASE_MS / 7 * 6);

/// How long a restarted node gives no vote: it does not remember whose heartbeats it answered, and
/// that leader may still rely on the answer.
const SILENCE_AFTER_RESTART: Duration = Duration::from_millis(VOTE_LEASE_MS);

/// Entries kept behind a snapshot, so that a node that lags a little needs no snapshot.
const LOG_KEPT_BEHIND_SNAPSHOT: u64 = 1000;

/// How long a leader that stops waits for another to take over.
const HANDOVER_TIMEOUT: Duration = Duration::from_millis(700);

/// How long the log behind a snapshot may take to go, and how long to wait before it is asked again.
const PURGE_TIMEOUT: Duration = Duration::from_secs(30);
const PURGE_PAUSE: Duration = Duration::from_millis(50);

/// Names of records in the store.
const IDENTITY: &str = "identity";
const BOOT: &str = "boot";

/// What a node needs to know of its group.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// Names the cluster; peers of another are refused. Letters, digits and hyphens.
    pub cluster_id: String,
    /// The group's Region.
    pub region: Region,
    /// This node.
    pub node: NodeId,
    /// Where this node listens for its peers, `HOST:PORT`; port 0 takes a free one.
    pub listen: String,
    /// The peer addresses of the nodes as configured; they win over addresses in the log. Not
    /// needed for nodes that joined later.
    pub peers: BTreeMap<NodeId, String>,
    /// The other Regions of the cluster, with the peer addresses of their nodes as of now; see
    /// [`Group::set_neighbours`].
    pub neighbours: BTreeMap<Region, BTreeMap<NodeId, String>>,
    /// Whether `peers` found the group if it does not exist yet. False for a node that is added.
    pub bootstrap: bool,
    /// A snapshot is taken after this many log entries, or after as many as there are keys,
    /// whichever is more. At least 1.
    pub snapshot_every: u64,
    /// How many log entries' events are kept behind a snapshot; `None` keeps all for good.
    pub history_rows_max: Option<u64>,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folder belongs to another node.
    #[error(
        "this data belongs to node {found}, not to {expected}; nothing was changed. Start the \
         node it belongs to, or choose another data folder"
    )]
    OtherIdentity {
        /// Whose data it is.
        found: String,
        /// Who was to be started.
        expected: String,
    },
    /// The peer address cannot be listened on.
    #[error("cannot listen for peers on {addr}: {source}")]
    Listen {
        /// The address.
        addr: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The Region has another domain key.
    #[error(transparent)]
    OtherDomainKey(OtherDomainKey),
    /// The data cannot be used.
    #[error("{0}")]
    Storage(String),
    /// openraft refused.
    #[error("the consensus layer cannot start: {0}")]
    Raft(String),
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::Storage(error.to_string())
    }
}

/// Why a node stopped by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StopReason(pub String);

/// One node's part in its Region's group. Cheap to clone; all clones are the same node.
#[derive(Clone)]
pub struct Group {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: GroupConfig,
    pub(crate) world: World,
    pub(crate) directory: Arc<Directory>,
    pub(crate) raft: Raft,
    pub(crate) shared: Arc<Shared>,
    pub(crate) store: Store,
    peer_addr: SocketAddr,
    boot: u64,
    next_sequence: AtomicU64,
    /// The last time a majority's clocks confirmed; held while this node asks them.
    pub(crate) confirmed_clock: tokio::sync::Mutex<UnixMillis>,
    pub(crate) read_index: Arc<Rounds>,
    pub(crate) lease: Arc<Rounds>,
    /// When this node was started, if it has voted before; it gives no vote for a while.
    restarted: Option<Instant>,
    /// Why this node stopped; set once.
    stop: watch::Sender<Option<StopReason>>,
    /// Tells the tasks to end.
    pub(crate) closing: watch::Sender<bool>,
    pub(crate) leader: watch::Sender<Option<NodeId>>,
    /// Why mutations are refused at the moment: replicas differ and no majority can judge.
    pub(crate) mutations_stopped: ArcSwapOption<String>,
    /// openraft's view of itself, as of its last step.
    pub(crate) metrics: Metrics,
    /// Whom this node follows.
    pub(crate) promise: Promise,
    /// How many questions to each other node have no answer yet: whether it still follows.
    pub(crate) asked: Arc<Mutex<BTreeMap<NodeId, u32>>>,
    /// The last term of which this node, leading it, has applied the first entry; 0 for none.
    pub(crate) lease_term: AtomicU64,
    /// Whether this node has asked another to lead.
    pub(crate) handing_over: AtomicBool,
    /// The nodes of other Regions.
    pub(crate) neighbours: Mutex<Neighbours>,
    /// Who takes what their couriers bring.
    pub(crate) receiver: Mutex<Option<Arc<dyn Receiver>>>,
}

/// The nodes of other Regions: the address each is known by, and its client.
pub(crate) type Neighbours = BTreeMap<Region, BTreeMap<NodeId, (String, PeerClient)>>;

/// How to reach the other nodes.
pub(crate) struct Directory {
    region: Region,
    /// The last index that this node, leading, told another one is committed: so much may be applied there
    /// while it is not here yet.
    pub(crate) told: AtomicU64,
    configured: BTreeMap<NodeId, String>,
    learned: Mutex<BTreeMap<NodeId, String>>,
    clients: Mutex<BTreeMap<NodeId, PeerClient>>,
    pub(crate) links: Links,
    world: World,
    me: std::sync::Weak<Directory>,
}

impl Directory {
    fn new(config: &GroupConfig, links: Links, world: World) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            region: config.region.clone(),
            told: AtomicU64::new(0),
            configured: config.peers.clone(),
            learned: Mutex::default(),
            clients: Mutex::default(),
            links,
            world,
            me: me.clone(),
        })
    }

    /// Notes an address that the log gives.
    pub(crate) fn learn(&self, node: NodeId, addr: &str) {
        lock(&self.learned).insert(node, addr.to_owned());
    }

    fn addr(&self, node: NodeId) -> Option<String> {
        self.configured
            .get(&node)
            .cloned()
            .or_else(|| lock(&self.learned).get(&node).cloned())
    }

    /// A client of its own for one purpose.
    pub(crate) fn client(&self, node: NodeId, purpose: Purpose) -> PeerClient {
        let me = self.me.clone();
        let addr = move || me.upgrade().and_then(|directory| directory.addr(node));
        let region = self.region.clone();
        let target = PeerName { region, node };
        PeerClient::new(
            target,
            addr,
            purpose,
            self.links.clone(),
            self.world.clone(),
        )
    }

    /// A client for what couriers bring to a node of another Region.
    pub(crate) fn courier(&self, target: PeerName, addr: String) -> PeerClient {
        let addr = move || Some(addr.clone());
        let (links, world) = (self.links.clone(), self.world.clone());
        PeerClient::new(target, addr, Purpose::Courier, links, world)
    }

    /// The shared client for requests.
    pub(crate) fn requests(&self, node: NodeId) -> PeerClient {
        let known = lock(&self.clients).get(&node).cloned();
        known.unwrap_or_else(|| {
            let client = self.client(node, Purpose::Requests);
            lock(&self.clients).entry(node).or_insert(client).clone()
        })
    }
}

impl Group {
    /// Starts the node: checks whose data it is, replays it, listens for peers, and founds the
    /// group if it is to.
    pub async fn start(
        config: GroupConfig,
        world: World,
        store: Store,
        links: Links,
    ) -> Result<Self, StartError> {
        let has_voted = store.vote()?.is_some();
        let boot = {
            let (config, store) = (config.clone(), store.clone());
            world
                .blocking
                .run(move || check_identity(&config, &store))
                .await?
        };
        let is_new = domain::is_new(&store);
        if is_new {
            domain::meet(&config, &world, &links).await?;
        }
        let mut listener = world
            .network
            .listen(&config.listen)
            .await
            .map_err(|source| StartError::Listen {
                addr: config.listen.clone(),
                source,
            })?;
        let peer_addr = listener.local_addr().map_err(|source| StartError::Listen {
            addr: config.listen.clone(),
            source,
        })?;

        let (machine, shared) = {
            let (region, store, blocking) = (config.region.clone(), store.clone(), world.blocking);
            let history = config.history_rows_max;
            let open = move || Machine::open(&region, store, blocking, history);
            let opened = world.blocking.run(open).await;
            opened.map_err(|error| StartError::Storage(error.to_string()))?
        };
        let log = LogStorage::new(store.clone(), world.blocking);
        let promise = log.promise();
        let directory = Directory::new(&config, links.clone(), world.clone());
        let raft_config = raft_config(&config).map_err(StartError::Raft)?;
        let mut seed = [0; 8];
        world.entropy.fill(&mut seed);
        let factory = Factory {
            directory: directory.clone(),
        };
        let starting = Raft::new(config.node, Arc::new(raft_config), factory, log, machine);
        let starting = Runtime::scope(u64::from_le_bytes(seed), starting);
        let raft = world
            .tasks
            .in_background(starting)
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;

        let metrics = raft.metrics();
        let inner = Arc::new(Inner {
            config,
            world,
            directory,
            raft,
            shared,
            store,
            peer_addr,
            boot,
            next_sequence: AtomicU64::new(0),
            confirmed_clock: tokio::sync::Mutex::default(),
            read_index: Arc::default(),
            lease: Arc::default(),
            restarted: has_voted.then(Instant::now),
            stop: watch::Sender::new(None),
            closing: watch::Sender::new(false),
            leader: watch::Sender::new(None),
            mutations_stopped: ArcSwapOption::empty(),
            metrics,
            promise,
            asked: Arc::default(),
            lease_term: AtomicU64::new(0),
            handing_over: AtomicBool::new(false),
            neighbours: Mutex::default(),
            receiver: Mutex::new(None),
        });
        let handler = Arc::new(NodeHandler::new(Arc::downgrade(&inner)));
        if let Some(credentials) = links.credentials() {
            let (credentials, blocking) = (credentials.clone(), inner.world.blocking);
            spawn(tls_credentials::watch(
                credentials,
                blocking,
                inner.closing.subscribe(),
            ));
        }
        let closing = inner.closing.subscribe();
        spawn(domain::watch(
            inner.clone(),
            links.clone(),
            is_new,
            inner.closing.subscribe(),
        ));
        let tasks = inner.world.tasks.clone();
        let accepting = tasks.clone();
        spawn(async move {
            accept_peers(&mut *listener, links, handler, accepting, closing).await;
        });
        tasks.spawn_background(monitor(inner.clone(), inner.closing.subscribe()));
        tasks.spawn_background(digests::compare_forever(
            inner.clone(),
            inner.closing.subscribe(),
        ));

        let group = Self { inner };
        group.set_neighbours(&group.inner.config.neighbours);
        group.found_if_first().await?;
        if group.inner.voters() == BTreeSet::from([group.node()]) {
            // Alone in its group, it need not wait for others to speak up.
            let elected = group.inner.raft.trigger().elect(false).await;
            elected.map_err(|error| StartError::Raft(error.to_string()))?;
        }
        Ok(group)
    }

    /// Founds the group: the lowest of its nodes does, once.
    async fn found_if_first(&self) -> Result<(), StartError> {
        let Inner { config, raft, .. } = &*self.inner;
        let first = config.peers.keys().next() == Some(&config.node);
        let fail = |error: &dyn std::fmt::Display| StartError::Raft(error.to_string());
        if !config.bootstrap
            || !first
            || raft.is_initialized().await.map_err(|error| fail(&error))?
        {
            return Ok(());
        }
        let member = |(node, addr): (&NodeId, &String)| (*node, Peer { addr: addr.clone() });
        let mut members: BTreeMap<_, _> = config.peers.iter().map(member).collect();
        members.insert(
            config.node,
            Peer {
                addr: self.inner.peer_addr.to_string(),
            },
        );
        raft.initialize(members).await.map_err(|error| fail(&error))
    }

    /// Where this node listens for its peers.
    pub fn peer_addr(&self) -> SocketAddr {
        self.inner.peer_addr
    }

    /// The group's Region.
    pub fn region(&self) -> &Region {
        &self.inner.config.region
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.inner.config.node
    }

    /// Has this node look at its certificate's files now, and tells what came of it; `None` if its
    /// links are not protected.
    pub async fn look_at_certificates(&self) -> Option<TlsStatus> {
        let credentials = self.inner.directory.links.credentials()?;
        Some(credentials.look_and_tell(self.inner.world.blocking).await)
    }

    /// The latest state this node has applied; possibly stale.
    pub fn state(&self) -> Arc<State> {
        self.inner.shared.view().state.clone()
    }

    /// Whether identities are declared in the latest state this node has applied.
    pub fn has_identities(&self) -> bool {
        self.inner.shared.identities.load(Ordering::Relaxed)
    }

    /// Whether this node leads its group, as far as it knows.
    pub fn is_leader(&self) -> bool {
        *self.inner.leader.borrow() == Some(self.inner.config.node)
    }

    /// The newest term this node knows of.
    pub fn term(&self) -> u64 {
        self.inner.metrics.borrow_watched().current_term
    }

    /// The leader this node knows of; the receiver changes when that does.
    pub fn leader(&self) -> watch::Receiver<Option<NodeId>> {
        self.inner.leader.subscribe()
    }

    /// The index of the last entry applied here; the receiver changes when that does.
    pub fn applied(&self) -> watch::Receiver<LogIndex> {
        self.inner.shared.applied.subscribe()
    }

    /// Waits until this node can answer a linearizable read.
    pub async fn ready(&self) -> Result<(), StopReason> {
        loop {
            match self.read(ReadMode::Linearizable).await {
                Ok(_) => return Ok(()),
                Err(ReadError::NoQuorum) => {}
                Err(ReadError::Stopped { reason }) => return Err(StopReason(reason)),
            }
        }
    }

    /// Waits until this node has stopped by itself: its storage failed or its state differs from
    /// the majority's. It answers no request from then on.
    pub async fn stopped(&self) -> StopReason {
        let mut stop = self.inner.stop.subscribe();
        match stop.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().expect("waited for it"),
            Err(_) => StopReason("the node was dropped".to_owned()),
        }
    }

    /// Takes a snapshot now and drops the log behind it.
    pub async fn snapshot(&self) -> Result<(), StopReason> {
        let target = self.inner.shared.live().index();
        let asked = self.inner.raft.trigger().snapshot().await;
        asked.map_err(|error| StopReason(error.to_string()))?;
        let mut applied = self.inner.shared.applied.subscribe();
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.inner.shared.snapshot_index.load(Ordering::Acquire) < target {
            if Instant::now() > deadline || self.inner.stop_reason().is_some() {
                return Err(StopReason("the snapshot did not come about".to_owned()));
            }
            let _ = tokio::time::timeout(Duration::from_millis(20), applied.changed()).await;
        }
        Ok(())
    }

    /// Forgets the log and every snapshot of before now: what this node would read again when it
    /// starts is the state as it is now, and what came after. Refused while a member lacks a part of
    /// that log: one that catches up by snapshot has no history of what it missed.
    pub async fn forget_past(&self) -> Result<(), StopReason> {
        let target = self.inner.shared.live().index();
        let ends = |error: String| StopReason(error);
        let without = self.without(target).await;
        if !without.is_empty() {
            return Err(ends(format!(
                "nodes {without:?} lack a part of the log, or do not answer; it is kept until they have it"
            )));
        }
        self.snapshot().await?;
        let deadline = Instant::now() + PURGE_TIMEOUT;
        while self.inner.store.log_range().purged < Some(target) {
            // Asked again: a leader puts it off while it sends that part of the log to a follower.
            let asked = self.inner.raft.trigger().purge_log(target).await;
            asked.map_err(|error| ends(error.to_string()))?;
            if Instant::now() > deadline || self.inner.stop_reason().is_some() {
                return Err(ends("the log was not purged".to_owned()));
            }
            tokio::time::sleep(PURGE_PAUSE).await;
        }
        Ok(())
    }

    /// All members of the group, as this node knows them: voters, and learners too.
    pub fn members(&self) -> BTreeSet<NodeId> {
        self.inner.members()
    }

    /// Events of this node's history from a log index on, at most `rows_max` entries.
    pub async fn history(
        &self,
        from: LogIndex,
        rows_max: usize,
    ) -> Result<Vec<HistoryEntry>, StopReason> {
        let store = self.inner.store.clone();
        let read = move || -> Result<Vec<HistoryEntry>, std::io::Error> {
            let rows = store
                .read_history(from, rows_max)
                .map_err(std::io::Error::other)?;
            rows.iter().map(HistoryEntry::from_row).collect()
        };
        self.inner
            .world
            .blocking
            .run(read)
            .await
            .map_err(|error| StopReason(error.to_string()))
    }

    /// The first log index whose events this node still has.
    pub fn history_begins(&self) -> LogIndex {
        self.inner.store.history_begins()
    }

    /// Stops the node: hands leadership over if it leads, then ends its tasks and closes its
    /// store. Requests under way get their answers as far as they can.
    pub async fn shutdown(&self) {
        if self.inner.stop_reason().is_none() {
            self.hand_over().await;
        }
        self.shutdown_with_all().await;
    }

    /// Stops the node as [`Group::shutdown`] does, but hands nothing over: for when all nodes of
    /// the group stop, and whoever took over would be gone too.
    pub async fn shutdown_with_all(&self) {
        self.inner.closing.send_replace(true);
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "the consensus layer ended badly");
        }
        let store = self.inner.store.clone();
        self.inner.world.blocking.run(move || store.close()).await;
    }

    /// Asks the follower with the longest log to lead, and waits a moment until it does.
    async fn hand_over(&self) {
        let me = self.inner.config.node;
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        let voters: BTreeSet<NodeId> = metrics.membership_config.membership().voter_ids().collect();
        let Some(replication) = metrics.replication.filter(|_| self.is_leader()) else {
            return;
        };
        let best = replication
            .iter()
            .filter(|(node, _)| **node != me && voters.contains(node))
            .max_by_key(|(_, matched)| (**matched).map(|id| id.index))
            .map(|(node, _)| *node);
        let Some(best) = best else { return };
        self.inner.handing_over.store(true, Ordering::Release);
        if self
            .inner
            .raft
            .trigger()
            .transfer_leader(best)
            .await
            .is_ok()
        {
            let mut leader = self.inner.leader.subscribe();
            let other = leader.wait_for(|leader| leader.is_some_and(|leader| leader != me));
            let _ = tokio::time::timeout(HANDOVER_TIMEOUT, other).await;
        }
    }
}

impl Inner {
    pub(crate) fn next_request(&self) -> keyrum_state::RequestId {
        keyrum_state::RequestId {
            node: self.config.node,
            boot: self.boot,
            sequence: self.next_sequence.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Says no while an answer that this node gave before it was restarted may count for a lease.
    pub(crate) fn check_lease_forgotten(&self) -> Result<(), String> {
        match self.restarted {
            Some(restarted) if restarted.elapsed() < SILENCE_AFTER_RESTART => {
                Err("this node has just restarted and gives no vote yet".to_owned())
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn stop_reason(&self) -> Option<String> {
        self.stop.borrow().as_ref().map(|reason| reason.0.clone())
    }

    /// Changes when this node stops by itself.
    pub(crate) fn stop_watch(&self) -> watch::Receiver<Option<StopReason>> {
        self.stop.subscribe()
    }

    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Stops this node for good. The first reason stays.
    pub(crate) fn stop(&self, reason: String) {
        self.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            if first {
                tracing::error!(region = %self.config.region, node = self.config.node, %reason,
                    "this node stops");
                *stop = Some(StopReason(reason));
            }
            first
        });
    }

    /// The voters of the membership in force.
    pub(crate) fn voters(&self) -> BTreeSet<NodeId> {
        let metrics = self.raft.server_metrics();
        metrics
            .borrow_watched()
            .membership_config
            .membership()
            .voter_ids()
            .collect()
    }

    /// Everybody of the membership in force, learners included.
    pub(crate) fn members(&self) -> BTreeSet<NodeId> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let nodes = metrics.membership_config.membership().nodes();
        nodes.map(|(node, _)| *node).collect()
    }
}

fn raft_config(config: &GroupConfig) -> Result<openraft::Config, String> {
    openraft::Config {
        cluster_name: config.region.to_string(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MS_MIN,
        election_timeout_max: ELECTION_MS_MAX,
        enable_pre_vote: Some(true),
        // A leader that restarts in its old term does not know how far it had committed, so its
        // read index could be below what it acknowledged: it has to win an election first.
        enable_leader_restore: Some(planted::is(Bug::LeaderRestored)),
        // `monitor` asks for snapshots: how many entries one is worth depends on the state's size.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: LOG_KEPT_BEHIND_SNAPSHOT.min(config.snapshot_every),
        purge_batch_size: 1,
        ..openraft::Config::default()
    }
    .validate()
    .map_err(|error| error.to_string())
}

/// Checks that the data is this node's, or marks fresh data as its own; counts the start.
fn check_identity(config: &GroupConfig, store: &Store) -> Result<u64, StartError> {
    let expected = format!(
        "{}/{} of cluster {}",
        config.region, config.node, config.cluster_id
    );
    match store.meta(IDENTITY)? {
        None => store.put_meta(IDENTITY, expected.as_bytes())?,
        Some(found) if found == expected.as_bytes() => {}
        Some(found) => {
            let found = String::from_utf8_lossy(&found).into_owned();
            return Err(StartError::OtherIdentity { found, expected });
        }
    }
    let last: u64 = match store.meta(BOOT)? {
        None => 0,
        Some(bytes) => {
            codec::decode(&bytes).map_err(|error| StartError::Storage(error.to_string()))?
        }
    };
    store.put_meta(BOOT, &codec::encode(&(last + 1)))?;
    Ok(last + 1)
}

/// Whether the other end closed the connection, or cannot be reached, rather than failed a check.
fn went_away(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, NetworkUnreachable, UnexpectedEof,
    };
    // The network that cannot be reached is cut by a fault.
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | NetworkUnreachable | UnexpectedEof
    )
}

async fn accept_peers(
    listener: &mut dyn Listener,
    links: Links,
    handler: Arc<NodeHandler>,
    tasks: Tasks,
    mut closing: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: wait a little for some to be closed.
                tracing::warn!(%error, "cannot accept a peer's connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (links, handler, mut closing) = (links.clone(), handler.clone(), closing.clone());
        let tasks = tasks.clone();
        // Before it is made: it may be made with older TLS credentials than there are then.
        let changes = links.credentials().map(|credentials| credentials.changes());
        let former = async move {
            if let Some(mut changes) = changes
                && changes.changed().await.is_ok()
            {
                return;
            }
            std::future::pending().await
        };
        spawn(async move {
            let serve = async {
                match links.accept(stream).await {
                    Ok((stream, peer, purpose)) => {
                        let handler = match purpose {
                            Purpose::Courier => Arc::new(handler.for_courier(peer.region)),
                            _ => handler,
                        };
                        let in_order = matches!(purpose, Purpose::Replication | Purpose::Snapshot);
                        let serve = peers::serve(stream, in_order, handler, former);
                        match purpose {
                            Purpose::Requests => serve.await,
                            _ => tasks.in_background(serve).await,
                        }
                    }
                    // A peer that goes away before it has greeted is nobody's fault.
                    Err(error) if went_away(&error) => {
                        tracing::debug!(%from, %error, "a peer went away");
                    }
                    Err(error) => tracing::warn!(%from, %error, "a peer was refused"),
                }
            };
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => {}
                () = serve => {}
            }
        });
    }
}

/// Follows openraft: the leader, the members' addresses, a fatal error, and when a snapshot is
/// worth it.
async fn monitor(inner: Arc<Inner>, mut closing: watch::Receiver<bool>) {
    let mut metrics = inner.raft.metrics();
    let mut stop = inner.stop.subscribe();
    let mut known_membership = None;
    let mut asked_beyond = None;
    loop {
        let (leader, fatal) = {
            let metrics = metrics.borrow_watched();
            let membership = &metrics.membership_config;
            if membership.log_id() != &known_membership {
                known_membership = *membership.log_id();
                for (node, peer) in membership.membership().nodes() {
                    inner.directory.learn(*node, &peer.addr);
                }
            }
            let fatal = metrics
                .running_state
                .as_ref()
                .err()
                .map(ToString::to_string);
            (metrics.current_leader, fatal)
        };
        inner.leader.send_if_modified(|known| {
            let changed = *known != leader;
            *known = leader;
            changed
        });
        if let Some(fatal) = fatal {
            if !inner.is_closing() {
                inner.stop(fatal);
            }
            return;
        }
        let index = *inner.shared.applied.borrow();
        let keys = inner.shared.keys.load(Ordering::Relaxed);
        let snapshot = inner.shared.snapshot_index.load(Ordering::Acquire);
        let due = index.saturating_sub(snapshot) >= inner.config.snapshot_every.max(keys);
        // Once for each snapshot there is: one that is being built shows when it is done.
        if due && asked_beyond != Some(snapshot) {
            asked_beyond = Some(snapshot);
            let _ = inner.raft.trigger().snapshot().await;
        }
        let stopped = async { stop.wait_for(Option::is_some).await.is_ok() };
        let closed = async { closing.wait_for(|closing| *closing).await.is_ok() };
        tokio::select! {
            _ = closed => return,
            _ = stopped => {
                // It must neither lead nor stand for election any more.
                let _ = inner.raft.shutdown().await;
                return;
            }
            changed = metrics.changed() => if changed.is_err() { return },
        }
    }
}
