//! One simulated machine with a node on it: its disk, its clock, and its lives.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use keyrum_consensus::tasks::Tasks;
use keyrum_consensus::world::{self, Blocking, Slowness, World};
use keyrum_consensus::{Group, GroupConfig, Links, ReadMode};
use keyrum_crypto::{
    DomainKeyring, DomainKeys as _, FIRST_DOMAIN_KEY_VERSION, MemoryDomainKeys, RegionKey,
};
use keyrum_server::http::{Limits, Server};
use keyrum_server::{AcceptedCredentials, Endpoint, EndpointSettings, Regions};
use keyrum_service::{Addresses, Found, Neighbourhood, Service, Settings};
use keyrum_state::Command;
use keyrum_store::{SimDisk, Store, StoreConfig};
use keyrum_types::{Clock as _, LogIndex, NodeId};
use tokio::sync::{mpsc, oneshot, watch};

use super::domain_key;
use super::effects::Effects;
use super::network::{SimNetwork, Wires};
use super::place::{self, Place, Roster, account};
use super::seed::{SeededEntropy, SimClock, Time};
use super::trace::Trace;
use super::{API_PORT, PEER_PORT};

const CLUSTER: &str = "lab";

/// A machine. It outlives its node's crashes.
pub(crate) struct Machine {
    pub(crate) place: Place,
    pub(crate) disk: RefCell<SimDisk>,
    /// Lives as long as the program: a run is all that one does.
    pub(crate) slowness: &'static Slowness,
    pub(crate) clock: SimClock,
    /// Whether it was there when its Region was founded.
    founder: bool,
    /// The file of the domain key; nodes share none, so that they have to ask each other. It loses
    /// nothing in a crash: what is written to it is synced.
    pub(crate) domain_keys: Arc<MemoryDomainKeys>,
    pub(crate) life: RefCell<Life>,
    pub(crate) shape: Shape,
}

/// What all machines share.
#[derive(Clone)]
pub(crate) struct Shape {
    pub(crate) seed: u64,
    /// The nodes of all Regions, as of now.
    pub(crate) roster: Roster,
    /// How many nodes founded each Region.
    pub(crate) founders: NodeId,
    pub(crate) snapshot_every: u64,
    /// How long `eventual` reads may lag behind.
    pub(crate) propagation_delay: Duration,
    pub(crate) time: Time,
    pub(crate) wires: Arc<Wires>,
    pub(crate) trace: Trace,
    pub(crate) effects: Effects,
}

/// What is known of the node's present life.
#[derive(Default)]
pub(crate) struct Life {
    /// Starts so far.
    pub(crate) boots: u64,
    /// The running node, and what changes in it.
    pub(crate) running: Option<Live>,
    /// Why it did not start, or stopped by itself.
    pub(crate) ended: Option<End>,
}

/// Why a node runs no more, without having crashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// It did not start.
    Refused(String),
    /// It stopped by itself.
    Stopped(String),
}

/// A running node as the run watches it.
pub(crate) struct Live {
    pub(crate) group: Group,
    pub(crate) applied: watch::Receiver<LogIndex>,
    pub(crate) leader: watch::Receiver<Option<NodeId>>,
    /// Has the node do something beside what clients ask of it.
    pub(crate) orders: mpsc::UnboundedSender<(Option<usize>, Order)>,
}

/// What the run asks of a node.
#[derive(Debug)]
pub(crate) enum Order {
    /// Moves the Region's clock ahead, as `keyrum clock advance` does.
    AdvanceClock { by_ms: u64 },
    /// Rotates the domain key, or destroys a version, as `keyrum domain-key` does.
    TurnDomainKey,
    /// Takes a snapshot.
    Snapshot,
    /// Takes one and forgets the log behind it.
    ForgetPast,
    /// Changes the Region's nodes, as `keyrum cluster` does, and says what came of it.
    Member(MemberChange, oneshot::Sender<Result<(), String>>),
    /// Proposes a command of the Region's own, for a planted bug.
    Propose(Box<Command>),
}

/// A change of a Region's nodes.
#[derive(Debug, Clone)]
pub(crate) enum MemberChange {
    AddLearner(NodeId, String),
    Promote(NodeId),
    Remove(NodeId),
}

impl Machine {
    /// One of the first nodes of its Region.
    pub(crate) fn new(place: Place, disk: SimDisk, shape: Shape) -> Rc<Self> {
        let first = first_domain_key(shape.seed, place.region);
        Self::with_keys(place, disk, shape, MemoryDomainKeys::of(&first), true)
    }

    /// A new one, to which the files with the domain key are copied from another.
    pub(crate) fn beside(&self, place: Place) -> Rc<Self> {
        let keys = MemoryDomainKeys::of(&self.kept_domain_key());
        Self::with_keys(place, SimDisk::new(), self.shape.clone(), keys, false)
    }

    fn with_keys(
        place: Place,
        disk: SimDisk,
        shape: Shape,
        domain_keys: MemoryDomainKeys,
        founder: bool,
    ) -> Rc<Self> {
        let clock = SimClock::new(shape.time.clone());
        Rc::new(Self {
            domain_keys: Arc::new(domain_keys),
            place,
            disk: RefCell::new(disk),
            slowness: Box::leak(Box::default()),
            clock,
            founder,
            life: RefCell::default(),
            shape,
        })
    }

    /// Whether the node runs and has not stopped by itself.
    pub(crate) fn runs(&self) -> bool {
        let life = self.life.borrow();
        life.running.is_some() && life.ended.is_none()
    }

    /// One life: starts the node and keeps it until it crashes. A node that stops by itself closes
    /// its listeners and stays down.
    pub(crate) async fn live(self: Rc<Self>) {
        let boot = {
            let mut life = self.life.borrow_mut();
            life.boots += 1;
            (life.running, life.ended) = (None, None);
            life.boots
        };
        let end = match self.start(boot).await {
            Err(reason) => End::Refused(reason),
            Ok((service, _server)) => {
                let group = service.group().clone();
                self.shape
                    .trace
                    .line(&self.place.host(), format_args!("is up, boot {boot}"));
                let (orders, ordered) = mpsc::unbounded_channel();
                // Also what it knows from the start is news: its vote may name the leader.
                let mut leader = group.leader();
                leader.mark_changed();
                self.life.borrow_mut().running = Some(Live {
                    applied: group.applied(),
                    leader,
                    orders,
                    group: group.clone(),
                });
                let reason = tokio::select! {
                    reason = group.stopped() => reason,
                    () = self.obey(&service, ordered) => group.stopped().await,
                };
                End::Stopped(reason.to_string())
            }
        };
        self.shape
            .trace
            .line(&self.place.host(), format_args!("{end:?}"));
        self.life.borrow_mut().ended = Some(end);
    }

    /// Carries out what the run asks of the node. What fails is not repeated.
    async fn obey(
        &self,
        service: &Service,
        mut orders: mpsc::UnboundedReceiver<(Option<usize>, Order)>,
    ) {
        let effects = &self.shape.effects;
        while let Some((fault, order)) = orders.recv().await {
            let took_effect = move |effects: &Effects| {
                if let Some(fault) = fault {
                    effects.add(fault, 1);
                }
            };
            let (group, late) = (service.group().clone(), effects.clone());
            let done = match order {
                // Those that may take long are waited for elsewhere.
                Order::Snapshot => {
                    world::spawn(async move {
                        if group.snapshot().await.is_ok() {
                            took_effect(&late);
                        }
                    });
                    continue;
                }
                Order::ForgetPast => {
                    world::spawn(async move {
                        if group.forget_past().await.is_ok() {
                            took_effect(&late);
                        }
                    });
                    continue;
                }
                Order::Member(change, told) => {
                    world::spawn(async move {
                        let changed = change_members(&group, change).await;
                        // Who asked may have given up.
                        let _ = told.send(changed);
                    });
                    continue;
                }
                Order::AdvanceClock { by_ms } => {
                    let advanced = service.advance_clock(by_ms).await;
                    advanced
                        .map(|done| format!("{done:?}"))
                        .map_err(|error| error.to_string())
                }
                Order::TurnDomainKey => domain_key::turn(service).await,
                Order::Propose(command) => {
                    let now = self.clock.now();
                    let proposed = service.group().propose(None, now, *command).await;
                    proposed
                        .map(|done| format!("{:?}", done.outcome))
                        .map_err(|error| error.to_string())
                }
            };
            if done.is_ok() {
                took_effect(effects);
            }
            self.shape
                .trace
                .line(&self.place.host(), format_args!("an order: {done:?}"));
        }
    }

    /// Puts a node together as the `keyrum` binary does.
    async fn start(&self, boot: u64) -> Result<(Service, Server), String> {
        let Shape {
            seed, time, wires, ..
        } = &self.shape;
        let host = self.place.host();
        let region = place::region(self.place.region);
        let network = SimNetwork {
            host: host.as_str().into(),
            wires: wires.clone(),
            time: time.clone(),
        };
        let world = World {
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::new(SeededEntropy::new(*seed, &format!("{host} boot {boot}"))),
            network: Arc::new(network),
            blocking: Blocking::Slowed(self.slowness),
            tasks: Tasks::together(),
        };
        let keyring = self.kept_domain_key();
        let region_key = |number| RegionKey::generate(&secret(*seed, "region key", number));
        let roster = self.shape.roster.clone();
        let others = (0..roster.regions()).filter(|number| *number != self.place.region);
        let (everyone, foreign) = (roster.clone(), others.collect::<Vec<usize>>());
        let neighbours = move || -> Addresses {
            let numbers = foreign.iter();
            numbers
                .map(|&number| (place::region(number), everyone.addresses(number)))
                .collect()
        };
        let disk = self.disk.borrow().shared();
        let store = Store::open(disk, Path::new(&host), StoreConfig::default())
            .map_err(|error| error.to_string())?;
        let config = GroupConfig {
            cluster_id: CLUSTER.to_owned(),
            region: region.clone(),
            node: self.place.node,
            listen: format!("0.0.0.0:{PEER_PORT}"),
            peers: match self.founder {
                true => founders(self.place.region, self.shape.founders),
                false => roster.addresses(self.place.region),
            },
            neighbours: neighbours(),
            bootstrap: self.founder,
            snapshot_every: self.shape.snapshot_every,
            history_rows_max: None,
        };
        let links = Links::simulated(CLUSTER, &region, self.place.node);
        let group = Group::start(config, world.clone(), store, links)
            .await
            .map_err(|error| error.to_string())?;
        group.delay_eventual_reads(self.shape.propagation_delay);
        let pinned: BTreeMap<_, _> = (0..roster.regions())
            .map(|number| (place::region(number), region_key(number).public()))
            .collect();
        let found_pinned = pinned.clone();
        let neighbourhood = Neighbourhood {
            own: region_key(self.place.region),
            pinned,
            look_up: Box::new(move || {
                Some(Found {
                    addresses: neighbours(),
                    pinned: found_pinned.clone(),
                })
            }),
        };
        let service = Service::among_regions(
            group,
            keyring,
            neighbourhood,
            world.clone(),
            Settings {
                test_clock: true,
                domain_keys: Some(self.domain_keys.clone()),
                ..Settings::default()
            },
        );
        let regions = Regions::default();
        regions.set(vec![(region, vec![service.clone()])]);
        let settings = EndpointSettings {
            default_account: account(),
            consistency: ReadMode::Linearizable,
            credentials: AcceptedCredentials::Any,
        };
        let endpoint = Endpoint::new(regions, settings, None);
        let server = Server::start(
            &world,
            &format!("0.0.0.0:{API_PORT}"),
            endpoint,
            Limits::default(),
        )
        .await
        .map_err(|error| error.to_string())?;
        let ticking = service.clone();
        world::spawn(async move { ticking.run_clock().await });
        let keeping = service.clone();
        world::spawn(async move { keeping.run_domain_key().await });
        let carrying = service.clone();
        world::spawn(async move { carrying.run_courier().await });
        Ok((service, server))
    }

    /// The domain key as the machine has it: what was added and what was destroyed in former lives.
    fn kept_domain_key(&self) -> DomainKeyring {
        let kept = |version| self.domain_keys.get(version).ok().flatten();
        let keyring = first_domain_key(self.shape.seed, self.place.region);
        let later = FIRST_DOMAIN_KEY_VERSION + 1..DOMAIN_KEY_VERSIONS_MAX;
        for (version, secret) in later.filter_map(|version| Some((version, kept(version)?))) {
            keyring.add(version, secret.into());
            if kept(FIRST_DOMAIN_KEY_VERSION).is_none() && keyring.seal_under(version) {
                keyring.forget(FIRST_DOMAIN_KEY_VERSION);
            }
        }
        keyring
    }
}

/// More versions than a run can make.
pub(super) const DOMAIN_KEY_VERSIONS_MAX: u32 = 1_000;

/// What is secret in a Region, fixed by the seed.
fn secret(seed: u64, what: &str, region: usize) -> SeededEntropy {
    let purpose = match region {
        0 => what.to_owned(),
        other => format!("{what} {}", place::region(other)),
    };
    SeededEntropy::new(seed, &purpose)
}

fn first_domain_key(seed: u64, region: usize) -> DomainKeyring {
    DomainKeyring::generate(&secret(seed, "domain key", region))
}

/// Where the first nodes of a Region hear each other.
fn founders(region: usize, nodes: NodeId) -> BTreeMap<NodeId, String> {
    let places = (1..=nodes).map(|node| Place { region, node });
    places
        .map(|place| (place.node, place.peer_addr()))
        .collect()
}

async fn change_members(group: &Group, change: MemberChange) -> Result<(), String> {
    let changed = match change {
        MemberChange::AddLearner(node, addr) => group.add_learner(node, addr).await,
        MemberChange::Promote(node) => group.promote(node).await,
        MemberChange::Remove(node) => group.remove(node).await,
    };
    changed.map_err(|error| error.to_string())
}
