//! What clients do in an experiment, simulated or on processes, and the notes of every call.
//!
//! Clients of one workload share its keys and call at the same time, so that checkers have
//! something to judge: what a call sees depends on the others. A seed fixes their choices; when they
//! are made depends on the answers.

mod aliases;
pub mod api;
mod client;
mod counters;
mod fresh;
mod grants;
mod keys;
mod lists;
mod moves;
mod policies;
pub mod recorder;

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use keyrum_consensus::world::Network;
use keyrum_types::NodeId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::sleep;

use api::{Api, Directory, Place, Reads};
use client::Client;
pub use client::{LeaderOf, NodeChoice};
use recorder::Recorder;

use crate::dice::Dice;

/// What the clients of a workload do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Enable, disable, describe, tag, schedule and cancel the deletion of shared keys.
    KeyLifecycle,
    /// Point aliases at one key after the other, and look where they point.
    AliasMoves,
    /// Give grants and take them back while another account uses them.
    Grants,
    /// Allow and forbid another account by key policies while it calls.
    PolicyRaces,
    /// Move the primary of multi-Region keys about, and decrypt everywhere.
    PrimaryMoves,
    /// Make and delete aliases while others walk the lists page by page.
    Lists,
    /// Count in a tag of a key of one's own: read it, and write one more.
    Counters,
    /// Make a key and use it at once.
    FreshKeys,
    /// The same, and try again while the key is not known.
    PatientKeys,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::KeyLifecycle,
        Self::AliasMoves,
        Self::Grants,
        Self::PolicyRaces,
        Self::PrimaryMoves,
        Self::Lists,
        Self::Counters,
        Self::FreshKeys,
        Self::PatientKeys,
    ];

    /// Its name in a scenario.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeyLifecycle => "key-lifecycle",
            Self::AliasMoves => "alias-moves",
            Self::Grants => "grants",
            Self::PolicyRaces => "policy-races",
            Self::PrimaryMoves => "primary-moves",
            Self::Lists => "lists",
            Self::Counters => "counters",
            Self::FreshKeys => "fresh-keys",
            Self::PatientKeys => "patient-keys",
        }
    }
}

/// Clients that do the same on the same keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// What they do.
    pub kind: Kind,
    /// How many there are, at least 1.
    pub clients: usize,
    /// Keys, aliases or families that they share, at least 1.
    pub objects: usize,
    /// How they read.
    pub reads: Reads,
    /// In which Region they call, by number, where the kind does not say; the first client in the
    /// first, the next in the next if `None`.
    pub region: Option<usize>,
    /// Which nodes they call.
    pub node: NodeChoice,
    /// How long they pause between calls: at least and at most.
    pub pause: (Duration, Duration),
    /// Clients beside them that only read what they change.
    pub readers: Option<Readers>,
}

/// Clients that only read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readers {
    /// How many there are, at least 1.
    pub clients: usize,
    /// How they read.
    pub reads: Reads,
    /// Which nodes they call.
    pub node: NodeChoice,
}

/// What clients should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Call.
    Work,
    /// Finish the call under way and wait.
    Rest,
    /// Look whether everything is there.
    Look,
}

/// Where a workload takes place.
#[derive(Clone)]
pub struct Stage {
    /// Fixes the clients' choices.
    pub seed: u64,
    /// Where the nodes take calls.
    pub directory: Rc<Directory>,
    /// Notes the calls.
    pub recorder: Recorder,
    /// What the clients should do now.
    pub phase: Rc<Cell<Phase>>,
    /// Who leads.
    pub leader_of: LeaderOf,
}

/// A client's work, from its first call to its last look.
pub type Session = Pin<Box<dyn Future<Output = ()>>>;

/// How far a client has come, as those who wait for it see.
#[derive(Debug, Default)]
pub struct Progress {
    /// It makes no more calls until it is told to look.
    pub rests: Cell<bool>,
    /// It has looked.
    pub looked: Cell<bool>,
    /// Calls it has made.
    pub calls: Cell<u64>,
    /// Mutations that were acknowledged.
    pub acknowledged: Cell<u64>,
    /// Reads and cryptographic calls that were answered.
    pub answered: Cell<u64>,
    /// Those that were not done, and not refused either.
    pub not_done: Cell<u64>,
    /// Those whose outcome it does not know.
    pub unknown: Cell<u64>,
}

/// What the clients of a workload share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Names of keys: ids, or ARNs where other accounts use them.
    keys: RefCell<Vec<String>>,
    /// Whether everything that they need is there.
    ready: Cell<bool>,
    /// Makes what must be unlike anything else.
    count: Cell<u64>,
    /// What they have put somewhere for others of them: such as ciphertexts, or grants.
    put: RefCell<Vec<Put>>,
}

/// Something that one client leaves for the others.
#[derive(Debug, Clone)]
pub(crate) struct Put {
    /// The key's place among the shared ones.
    key: usize,
    /// A ciphertext, or a grant's id.
    text: String,
}

/// How many things are kept for others: the latest.
const PUT_MAX: usize = 40;

/// How often a client looks whether it should go on.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Shared {
    fn unlike_any_other(&self, what: &str) -> String {
        self.count.set(self.count.get() + 1);
        format!("{what}-{}", self.count.get())
    }

    fn keys(&self) -> usize {
        self.keys.borrow().len()
    }

    fn key(&self, number: usize) -> String {
        self.keys.borrow()[number].clone()
    }

    fn leave(&self, key: usize, text: &str) {
        let mut put = self.put.borrow_mut();
        put.push(Put {
            key,
            text: text.to_owned(),
        });
        let more = put.len().saturating_sub(PUT_MAX);
        put.drain(..more);
    }

    fn found(&self, dice: &mut Dice) -> Option<Put> {
        let put = self.put.borrow();
        (!put.is_empty()).then(|| put[dice.index(put.len())].clone())
    }
}

impl Workload {
    /// The name of one of an experiment's workloads. Descriptions and aliases that its clients make
    /// up begin with it.
    pub fn name(&self, number: usize) -> String {
        format!("{}-{number}", self.kind.name())
    }

    /// One of each kind that means something with so many Regions.
    pub fn some_of_each(regions: usize) -> Vec<Self> {
        let kinds = Kind::ALL.into_iter();
        let kinds = kinds.filter(|kind| regions > 1 || *kind != Kind::PrimaryMoves);
        kinds.map(Self::new).collect()
    }

    /// One that calls as often as it may, on a few keys.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            clients: 3,
            objects: 3,
            reads: Reads::Linearizable,
            region: None,
            node: NodeChoice::Any,
            pause: (Duration::from_millis(10), Duration::from_millis(160)),
            readers: None,
        }
    }

    /// Its clients, each with what shows how far it has come. `number` tells workloads of an
    /// experiment apart; `network` gives a client its network, by the client's number.
    pub fn sessions(
        &self,
        number: usize,
        stage: &Stage,
        network: impl Fn(usize) -> Arc<dyn Network>,
    ) -> Vec<(Session, Rc<Progress>)> {
        let shared = Rc::new(Shared::default());
        let readers = self.readers.as_ref().map_or(0, |readers| readers.clients);
        (0..self.clients + readers)
            .map(|nth| {
                let progress = Rc::new(Progress::default());
                let one = One {
                    plan: self.clone(),
                    name: self.name(number),
                    nth,
                    stage: stage.clone(),
                    shared: shared.clone(),
                    progress: progress.clone(),
                };
                let session: Session = Box::pin(one.run(network(nth)));
                (session, progress)
            })
            .collect()
    }
}

/// One client on its way.
struct One {
    plan: Workload,
    /// The workload's, unlike any other's.
    name: String,
    nth: usize,
    stage: Stage,
    shared: Rc<Shared>,
    progress: Rc<Progress>,
}

/// The account that owns the keys, and one that has to be allowed to use them.
const OWNER: &str = "000000000000";
const GUEST: &str = "111122223333";

impl One {
    async fn run(self, network: Arc<dyn Network>) {
        let mut client = self.client(network);
        client.settle().await;
        if self.nth == 0 {
            self.set_up(&mut client).await;
            self.shared.ready.set(true);
        }
        while !self.shared.ready.get() && self.stage.phase.get() == Phase::Work {
            sleep(LOOK_EVERY).await;
        }
        while self.stage.phase.get() == Phase::Work && self.shared.keys() > 0 {
            self.work(&mut client).await;
            client.wander();
            let (least, most) = self.plan.pause;
            let pause = client.dice.between(millis(least), millis(most.max(least)));
            sleep(Duration::from_millis(pause)).await;
        }
        self.progress.rests.set(true);
        while self.stage.phase.get() != Phase::Look {
            sleep(LOOK_EVERY).await;
        }
        if self.nth == 0 {
            self.look(&mut client).await;
        }
        self.progress.looked.set(true);
    }

    /// Whether it calls as another account than the one that owns the keys.
    fn is_guest(&self) -> bool {
        match self.plan.kind {
            Kind::Grants | Kind::PolicyRaces => self.nth % 2 == 1 && self.reader().is_none(),
            _ => false,
        }
    }

    /// How it reads, if it does nothing else.
    fn reader(&self) -> Option<&Readers> {
        let readers = self.plan.readers.as_ref();
        readers.filter(|_| self.nth >= self.plan.clients)
    }

    fn client(&self, network: Arc<dyn Network>) -> Client {
        let Self {
            plan, stage, nth, ..
        } = self;
        let reader = self.reader();
        let role = if reader.is_some() { "reader " } else { "" };
        let name = format!("{}/{role}{}", self.name, nth + 1);
        let recorder = stage.recorder.clone();
        let number = recorder.client(&name);
        let dice = Dice::new(stage.seed, &name);
        let directory = stage.directory.clone();
        let count = directory.regions.len();
        let home = plan.region.unwrap_or(match plan.kind {
            Kind::PrimaryMoves => nth % count,
            _ => 0,
        });
        let nodes = (0..count).map(|region| directory.nodes_of(region));
        let nodes = nodes.collect();
        let mut api = Api::new(network, directory, recorder, number);
        if self.is_guest() {
            api.call_as(GUEST);
        }
        Client::new(
            api,
            dice,
            nodes,
            home,
            reader.map_or((plan.node, plan.reads), |reader| {
                (reader.node, reader.reads)
            }),
            stage.leader_of.clone(),
            self.progress.clone(),
        )
    }

    /// Makes the shared keys.
    async fn set_up(&self, client: &mut Client) {
        let families = self.plan.kind == Kind::PrimaryMoves;
        let home = client.home();
        // Who counts has a key of its own.
        let objects = match self.plan.kind {
            Kind::Counters => self.plan.clients,
            _ => self.plan.objects,
        };
        for _ in 0..objects {
            // A try whose outcome is unknown may make a key, too.
            let input = || {
                let description = self.shared.unlike_any_other(&self.name);
                json!({ "Description": description, "MultiRegion": families })
            };
            let made = client.insist_on(home, "CreateKey", input).await;
            let name = match self.plan.kind {
                Kind::Grants | Kind::PolicyRaces => "Arn",
                _ => "KeyId",
            };
            let key = made.as_ref().map(|answer| &answer["KeyMetadata"][name]);
            let Some(key) = key.and_then(Value::as_str) else {
                return;
            };
            if families {
                moves::spread(client, key).await;
            }
            self.shared.keys.borrow_mut().push(key.to_owned());
        }
    }

    async fn work(&self, client: &mut Client) {
        let (shared, name) = (&*self.shared, self.name.as_str());
        if self.reader().is_some() {
            return self.read(client).await;
        }
        match self.plan.kind {
            Kind::KeyLifecycle => keys::work(client, shared, name).await,
            Kind::AliasMoves => aliases::work(client, shared, name).await,
            Kind::Grants => grants::work(client, shared, self.is_guest()).await,
            Kind::PolicyRaces => policies::work(client, shared, self.is_guest()).await,
            Kind::PrimaryMoves => moves::work(client, shared).await,
            Kind::Lists => lists::work(client, shared, name, self.nth.is_multiple_of(2)).await,
            Kind::Counters => counters::work(client, &shared.key(self.nth % shared.keys())).await,
            Kind::FreshKeys => fresh::work(client, shared, name, fresh::ONCE).await,
            Kind::PatientKeys => fresh::work(client, shared, name, fresh::PATIENT).await,
        }
    }

    /// Looks at something that others change.
    async fn read(&self, client: &mut Client) {
        let (shared, kind) = (&*self.shared, self.plan.kind);
        let key = shared.key(client.dice.index(shared.keys()));
        let id = json!({ "KeyId": key });
        match kind {
            Kind::KeyLifecycle if client.dice.percent(40) => {
                drop(client.call("ListResourceTags", id).await);
            }
            Kind::Counters => drop(client.call("ListResourceTags", id).await),
            Kind::AliasMoves => aliases::read(client, &self.name).await,
            Kind::Grants => drop(client.call("ListGrants", id).await),
            Kind::PolicyRaces => drop(client.call("GetKeyPolicy", id).await),
            Kind::Lists => lists::walk(client, client.reads).await,
            Kind::PrimaryMoves => {
                let region = client.dice.index(client.regions());
                drop(client.call_in(region, "DescribeKey", id).await);
            }
            Kind::KeyLifecycle | Kind::FreshKeys | Kind::PatientKeys => {
                drop(client.call("DescribeKey", id).await);
            }
        }
    }

    /// Shows everything as it is at the end.
    async fn look(&self, client: &mut Client) {
        let (shared, home) = (&*self.shared, client.home());
        for key in 0..shared.keys() {
            let input = json!({ "KeyId": shared.key(key) });
            match self.plan.kind {
                Kind::KeyLifecycle | Kind::Counters => keys::look(client, input).await,
                Kind::PrimaryMoves => moves::look(client, input).await,
                Kind::Grants => drop(client.insist(home, "ListGrants", input).await),
                Kind::PolicyRaces => drop(client.insist(home, "GetKeyPolicy", input).await),
                Kind::AliasMoves | Kind::Lists | Kind::FreshKeys | Kind::PatientKeys => {}
            }
        }
        match self.plan.kind {
            Kind::AliasMoves => aliases::look(client, shared, &self.name).await,
            Kind::Lists => lists::walk(client, Reads::Linearizable).await,
            _ => {}
        }
        if self.plan.kind == Kind::PrimaryMoves {
            moves::decrypt_all(client, shared).await;
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Directory {
    /// The ids of a Region's nodes.
    pub fn nodes_of(&self, region: usize) -> Vec<NodeId> {
        let here = self.nodes.keys().filter(|place| place.region == region);
        here.map(|Place { node, .. }| *node).collect()
    }
}
