//! Faults that are put into a running node: on its links, on what its clients send, on its disk.
//!
//! A node of a test cluster has one [`Faults`]; its admin interface puts faults in force and lifts
//! them. Links and the API's connections each look at a version number before they read or write
//! ([`gate`]), and do nothing else while no fault concerns them. A node that is not of a test
//! cluster has none, and its connections are not even wrapped.
//!
//! A fault is one node's: both directions of a connection are held at that end, so the other end
//! need not know. It is not kept anywhere: a node that is started again has none.

mod gate;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use keyrum_store::{DiskFault, DiskFaults};
use keyrum_types::{Entropy, NodeId, Region};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::distance::{SimulatedLink, travel};
use crate::links::PeerName;
use crate::peers::lock;
use crate::world::{BoxFuture, BoxStream, Listener, Network, spawn};
pub(crate) use gate::Gate;
use gate::Gated;

/// How long a peer that has greeted waits for a cut to be lifted before its connection is given up:
/// as long as the end that connects takes for it.
const GREETING_HELD: Duration = Duration::from_secs(2);

/// The longest delay that can be asked for, each way: far beyond what any call waits for.
pub const DELAY_MAX: Duration = Duration::from_secs(300);

/// A node, or all nodes of a Region, as `REGION/ID` or `REGION`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Party {
    /// The Region.
    pub region: Region,
    /// One of its nodes; `None` for all.
    pub node: Option<NodeId>,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            None => write!(f, "{}", self.region),
            Some(node) => write!(f, "{}/{node}", self.region),
        }
    }
}

/// The text names neither a node nor a Region.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a node, such as us-east-1/2, nor a Region, such as us-east-1")]
pub struct NoParty(String);

impl FromStr for Party {
    type Err = NoParty;

    fn from_str(text: &str) -> Result<Self, NoParty> {
        let no = || NoParty(text.to_owned());
        let (region, node) = match text.split_once('/') {
            None => (text, None),
            Some((region, id)) => (region, Some(id)),
        };
        let region = region.parse().map_err(|_| no())?;
        let node = match node.map(str::parse) {
            None => None,
            Some(Ok(id)) if id >= 1 => Some(id),
            Some(_) => return Err(no()),
        };
        Ok(Self { region, node })
    }
}

impl Serialize for Party {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Party {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Whose connections a fault is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum With {
    /// Those with every other node, of whatever Region.
    Nodes,
    /// Those with the nodes of all other Regions.
    OtherRegions,
    /// Those of clients of the node's own API, the cluster's endpoint among them.
    Clients,
    /// Those with these nodes and Regions.
    These(BTreeSet<Party>),
}

/// Which way of a connection, as the node that has the fault sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Both ways.
    #[default]
    Both,
    /// What it would receive.
    In,
    /// What it sends.
    Out,
}

/// What can be done to a node that goes on running.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Nothing gets through, and nothing closes: what is sent waits, as it would for TCP's next
    /// retransmission, and arrives when the fault is lifted. New connections hang.
    Cut {
        /// With whom.
        with: With,
        /// Which way.
        #[serde(default)]
        direction: Direction,
    },
    /// Everything takes this much longer, each way that is concerned, in order.
    Delay {
        /// With whom.
        with: With,
        /// Which way.
        #[serde(default)]
        direction: Direction,
        /// How much longer, in milliseconds.
        by_ms: u64,
        /// Up to how much more by chance, in milliseconds.
        #[serde(default)]
        jitter_ms: u64,
    },
    /// Segments of 1460 bytes get lost. TCP sends them again, so what follows waits for at least
    /// 200 ms: the same as the loss of a simulated distance.
    Lose {
        /// With whom.
        with: With,
        /// Which way.
        #[serde(default)]
        direction: Direction,
        /// The probability for each segment, above 0 and at most 1.
        share: f64,
    },
    /// The disk's syncs fail. The node stops by itself.
    SyncFails {
        /// Syncs that still succeed.
        #[serde(default)]
        after: u64,
    },
    /// The disk has no more room. The node stops by itself.
    DiskFull {
        /// Writes that still find room.
        #[serde(default)]
        after: u64,
    },
    /// Every sync of the disk takes this much longer.
    SlowDisk {
        /// In milliseconds.
        by_ms: u64,
    },
    /// The disk's reads fail.
    ReadFails {
        /// Reads that still succeed.
        #[serde(default)]
        after: u64,
    },
}

/// A fault as it is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The name it gets, which faults of other nodes may share; `None` takes the next free one.
    #[serde(default)]
    pub number: Option<u64>,
    /// What.
    #[serde(flatten)]
    pub fault: Fault,
    /// After how many milliseconds the node lifts it by itself.
    #[serde(default)]
    pub for_ms: Option<u64>,
}

/// What a fault has done so far. While all of it is 0, it never took effect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effects {
    /// Connections that were held while they were being made.
    pub connects_held: u64,
    /// Bytes that were held by a cut.
    pub bytes_held: u64,
    /// Bytes that came later for a delay.
    pub bytes_delayed: u64,
    /// Segments that got lost and were sent again.
    pub segments_lost: u64,
    /// Operations of the disk that failed or took longer.
    pub disk_operations: u64,
}

impl Effects {
    /// Whether the fault did anything at all.
    pub fn took_effect(&self) -> bool {
        *self != Self::default()
    }
}

/// A fault that is in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InForce {
    /// Its name.
    pub number: u64,
    /// What.
    #[serde(flatten)]
    pub fault: Fault,
    /// For how long it has been in force, in milliseconds.
    pub since_ms: u64,
    /// In how many milliseconds it is lifted by itself.
    pub left_ms: Option<u64>,
    /// What it has done.
    pub effects: Effects,
}

/// Why a fault is not put in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Its name is taken.
    #[error("a fault {0} is in force already")]
    Taken(u64),
    /// It cannot mean anything.
    #[error("{0}")]
    Senseless(String),
}

/// Counts of one fault on connections.
#[derive(Default)]
pub(crate) struct Counts {
    connects_held: AtomicU64,
    bytes_held: AtomicU64,
    bytes_delayed: AtomicU64,
    segments_lost: AtomicU64,
}

/// Whom a connection leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Other {
    Peer(PeerName),
    Clients,
}

/// A fault in the table.
struct Entry {
    number: u64,
    fault: Fault,
    since: Instant,
    until: Option<Instant>,
    counts: Arc<Counts>,
    /// The disk's name for it, and this module's: numbers are used again.
    id: u64,
}

#[derive(Default)]
struct Table {
    entries: Vec<Entry>,
    next_id: u64,
    gates: Vec<Weak<Gate>>,
    /// How many gates there were after the last look for those that are gone.
    gates_seen: usize,
}

/// The faults of one node.
pub struct Faults {
    region: Region,
    entropy: Arc<dyn Entropy>,
    disk: Arc<DiskFaults>,
    /// Goes up with every change; what it was is what a connection compares.
    version: AtomicU64,
    changed: watch::Sender<u64>,
    table: Mutex<Table>,
}

/// What one way of a connection is like.
#[derive(Clone, Default)]
pub(crate) struct Condition {
    /// The faults that cut it.
    cut: Vec<Arc<Counts>>,
    delay: Duration,
    jitter: Duration,
    delayed_by: Vec<Arc<Counts>>,
    loss: f64,
    lost_by: Vec<Arc<Counts>>,
}

impl Condition {
    pub(crate) fn is_clear(&self) -> bool {
        self.cut.is_empty() && self.delayed_by.is_empty() && self.lost_by.is_empty()
    }

    pub(crate) fn is_cut(&self) -> bool {
        !self.cut.is_empty()
    }

    fn takes(&self, bytes: usize, entropy: &dyn Entropy) -> Duration {
        let link = SimulatedLink {
            round_trip: self.delay * 2,
            jitter: self.jitter * 2,
            loss: self.loss,
        };
        let (takes, lost) = travel(&link, bytes, entropy);
        for counts in self.lost_by.iter().filter(|_| lost > 0) {
            counts.segments_lost.fetch_add(lost, Ordering::Relaxed);
        }
        takes
    }

    /// How long these bytes take; counts them.
    pub(crate) fn bytes_take(&self, bytes: usize, entropy: &dyn Entropy) -> Duration {
        for counts in &self.cut {
            counts.bytes_held.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        for counts in &self.delayed_by {
            counts
                .bytes_delayed
                .fetch_add(bytes as u64, Ordering::Relaxed);
        }
        self.takes(bytes, entropy)
    }
}

impl Faults {
    /// A node's faults, none of which is in force. `entropy` decides what is left to chance.
    pub fn new(region: &Region, entropy: Arc<dyn Entropy>) -> Arc<Self> {
        Arc::new(Self {
            region: region.clone(),
            entropy,
            disk: Arc::default(),
            version: AtomicU64::new(0),
            changed: watch::Sender::new(0),
            table: Mutex::default(),
        })
    }

    /// What the node's disk is to do.
    pub fn disk(&self) -> &Arc<DiskFaults> {
        &self.disk
    }

    /// Puts a fault in force and gives its number.
    pub fn put(self: &Arc<Self>, order: Order) -> Result<u64, Unfit> {
        let Order {
            number,
            fault,
            for_ms,
        } = order;
        check(&fault)?;
        let now = Instant::now();
        let mut table = lock(&self.table);
        let greatest = table.entries.iter().map(|entry| entry.number).max();
        let number = number.unwrap_or_else(|| greatest.map_or(1, |number| number + 1));
        if table.entries.iter().any(|entry| entry.number == number) {
            return Err(Unfit::Taken(number));
        }
        let id = table.next_id;
        table.next_id += 1;
        let until = for_ms.map(|ms| now + Duration::from_millis(ms));
        if let Some(fault) = on_disk(&fault) {
            self.disk.put(id, fault);
        }
        table.entries.push(Entry {
            number,
            fault,
            since: now,
            until,
            counts: Arc::default(),
            id,
        });
        drop(table);
        self.tell();
        if let Some(until) = until {
            let faults = Arc::downgrade(self);
            spawn(async move {
                sleep_until(until).await;
                if let Some(faults) = faults.upgrade() {
                    faults.lift_where(|entry| entry.id == id);
                }
            });
        }
        Ok(number)
    }

    /// Lifts one fault, or all, and tells what they have done.
    pub fn lift(&self, number: Option<u64>) -> Vec<InForce> {
        self.lift_where(|entry| number.is_none_or(|number| entry.number == number))
    }

    fn lift_where(&self, which: impl Fn(&Entry) -> bool) -> Vec<InForce> {
        let mut table = lock(&self.table);
        let entries = std::mem::take(&mut table.entries);
        let (lifted, left): (Vec<_>, Vec<_>) = entries.into_iter().partition(which);
        table.entries = left;
        drop(table);
        let told = lifted.iter().map(|entry| self.tell_of(entry)).collect();
        for entry in &lifted {
            self.disk.lift(entry.id);
        }
        if !lifted.is_empty() {
            self.tell();
        }
        told
    }

    /// What is in force, by number.
    pub fn in_force(&self) -> Vec<InForce> {
        let table = lock(&self.table);
        let mut told: Vec<_> = table.entries.iter().map(|e| self.tell_of(e)).collect();
        told.sort_by_key(|fault| fault.number);
        told
    }

    fn tell_of(&self, entry: &Entry) -> InForce {
        let now = Instant::now();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        InForce {
            number: entry.number,
            fault: entry.fault.clone(),
            since_ms: millis(now - entry.since),
            left_ms: entry.until.map(|until| millis(until - now)),
            effects: Effects {
                connects_held: count(&entry.counts.connects_held),
                bytes_held: count(&entry.counts.bytes_held),
                bytes_delayed: count(&entry.counts.bytes_delayed),
                segments_lost: count(&entry.counts.segments_lost),
                disk_operations: self.disk.effects(entry.id),
            },
        }
    }

    /// Has every connection look again.
    fn tell(&self) {
        let version = self.version.fetch_add(1, Ordering::AcqRel) + 1;
        let gates = {
            let mut table = lock(&self.table);
            let gates: Vec<_> = table.gates.iter().filter_map(Weak::upgrade).collect();
            table.gates = gates.iter().map(Arc::downgrade).collect();
            table.gates_seen = table.gates.len();
            gates
        };
        for gate in gates {
            gate.wake();
        }
        self.changed.send_replace(version);
    }

    /// What the ways of a connection are like now: inward, outward.
    pub(crate) fn conditions(&self, other: &Other) -> [Condition; 2] {
        let table = lock(&self.table);
        [Direction::In, Direction::Out].map(|way| {
            let mut condition = Condition::default();
            for entry in &table.entries {
                self.add(&mut condition, entry, other, way);
            }
            condition
        })
    }

    fn add(&self, condition: &mut Condition, entry: &Entry, other: &Other, way: Direction) {
        let (Fault::Cut { with, direction }
        | Fault::Delay {
            with, direction, ..
        }
        | Fault::Lose {
            with, direction, ..
        }) = &entry.fault
        else {
            return;
        };
        let this_way = *direction == Direction::Both || *direction == way;
        if !this_way || !self.concerns(with, other) {
            return;
        }
        let counts = entry.counts.clone();
        match &entry.fault {
            Fault::Cut { .. } => condition.cut.push(counts),
            Fault::Delay {
                by_ms, jitter_ms, ..
            } => {
                condition.delay += Duration::from_millis(*by_ms);
                condition.jitter += Duration::from_millis(*jitter_ms);
                condition.delayed_by.push(counts);
            }
            Fault::Lose { share, .. } => {
                condition.loss = 1.0 - (1.0 - condition.loss) * (1.0 - share);
                condition.lost_by.push(counts);
            }
            _ => {}
        }
    }

    fn concerns(&self, with: &With, other: &Other) -> bool {
        match (with, other) {
            (With::Clients, other) => *other == Other::Clients,
            (_, Other::Clients) => false,
            (With::Nodes, Other::Peer(_)) => true,
            (With::OtherRegions, Other::Peer(peer)) => peer.region != self.region,
            (With::These(parties), Other::Peer(peer)) => parties.iter().any(|party| {
                party.region == peer.region && party.node.is_none_or(|node| node == peer.node)
            }),
        }
    }

    /// Waits while either way to another is cut: no connection comes about without both.
    async fn passes(&self, other: &Other) {
        let mut changed = self.changed.subscribe();
        let mut counted = Vec::new();
        loop {
            changed.borrow_and_update();
            let cuts = self.conditions(other).map(|condition| condition.cut);
            let cuts: Vec<_> = cuts.into_iter().flatten().collect();
            if cuts.is_empty() {
                return;
            }
            for counts in cuts {
                if !counted.iter().any(|known| Arc::ptr_eq(known, &counts)) {
                    counts.connects_held.fetch_add(1, Ordering::Relaxed);
                    counted.push(counts);
                }
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Connects to a peer over what lies between.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        network: &dyn Network,
        addr: &str,
        target: &PeerName,
    ) -> io::Result<BoxStream> {
        let other = Other::Peer(target.clone());
        self.passes(&other).await;
        let stream = network.connect(addr).await?;
        // TCP's own handshake, which the socket has behind it.
        let [back, there] = self.conditions(&other);
        let takes = there.takes(0, &*self.entropy) + back.takes(0, &*self.entropy);
        if !takes.is_zero() {
            sleep(takes).await;
        }
        Ok(self.wrap(stream, Some(other)).0)
    }

    /// A connection that came in. Nothing is held until [`Faults::admit`] says who it is.
    pub(crate) fn incoming(self: &Arc<Self>, stream: BoxStream) -> (BoxStream, Arc<Gate>) {
        self.wrap(stream, None)
    }

    /// Says who is at the other end, and waits while they cannot reach each other. An error says
    /// that the other end has given up by now.
    pub(crate) async fn admit(&self, gate: &Gate, peer: &PeerName) -> io::Result<()> {
        let other = Other::Peer(peer.clone());
        // Whoever is cut off could not have come in: its connection hangs, and nothing is told.
        let held = timeout(GREETING_HELD, self.passes(&other)).await;
        held.map_err(|_| io::Error::new(io::ErrorKind::NetworkUnreachable, "a fault cuts it off"))?;
        gate.name(other);
        Ok(())
    }

    fn wrap(self: &Arc<Self>, stream: BoxStream, other: Option<Other>) -> (BoxStream, Arc<Gate>) {
        let gate = Gate::new(self.clone(), stream, other);
        let mut table = lock(&self.table);
        if table.gates.len() > 2 * table.gates_seen + 16 {
            table.gates.retain(|gate| gate.strong_count() > 0);
            table.gates_seen = table.gates.len();
        }
        table.gates.push(Arc::downgrade(&gate));
        drop(table);
        (Box::new(Gated::new(gate.clone())), gate)
    }

    /// The network as the node's clients reach it: what comes in there, faults concern.
    pub fn for_clients(self: &Arc<Self>, network: Arc<dyn Network>) -> Arc<dyn Network> {
        Arc::new(ClientNetwork {
            network,
            faults: self.clone(),
        })
    }
}

/// Whether a fault means anything.
fn check(fault: &Fault) -> Result<(), Unfit> {
    let no = |text: &str| Err(Unfit::Senseless(text.to_owned()));
    let most = u64::try_from(DELAY_MAX.as_millis()).unwrap_or(u64::MAX);
    match fault {
        Fault::Cut { with, .. } | Fault::Delay { with, .. } | Fault::Lose { with, .. }
            if *with == With::These(BTreeSet::new()) =>
        {
            no("a fault on links names nodes or Regions, and this one names none")
        }
        Fault::Lose { share, .. } if !(*share > 0.0 && *share <= 1.0) => {
            no("the share of segments that get lost is above 0 and at most 1")
        }
        Fault::Delay {
            by_ms, jitter_ms, ..
        } if *by_ms > most || *jitter_ms > most || by_ms + jitter_ms == 0 => {
            no("a delay is above 0 and at most 5 minutes")
        }
        Fault::SlowDisk { by_ms } if *by_ms > most || *by_ms == 0 => {
            no("a slow sync takes above 0 and at most 5 minutes longer")
        }
        _ => Ok(()),
    }
}

fn on_disk(fault: &Fault) -> Option<DiskFault> {
    Some(match *fault {
        Fault::SyncFails { after } => DiskFault::SyncFails { after },
        Fault::DiskFull { after } => DiskFault::Full { after },
        Fault::ReadFails { after } => DiskFault::ReadFails { after },
        Fault::SlowDisk { by_ms } => DiskFault::Slow {
            by: Duration::from_millis(by_ms),
        },
        Fault::Cut { .. } | Fault::Delay { .. } | Fault::Lose { .. } => return None,
    })
}

struct ClientNetwork {
    network: Arc<dyn Network>,
    faults: Arc<Faults>,
}

impl Network for ClientNetwork {
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = self.network.listen(addr).await?;
            let faults = self.faults.clone();
            Ok(Box::new(ClientListener { listener, faults }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        self.network.connect(addr)
    }
}

struct ClientListener {
    listener: Box<dyn Listener>,
    faults: Arc<Faults>,
}

impl Listener for ClientListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, String)>> {
        Box::pin(async move {
            let (stream, from) = self.listener.accept().await?;
            Ok((self.faults.wrap(stream, Some(Other::Clients)).0, from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[cfg(test)]
mod tests;
