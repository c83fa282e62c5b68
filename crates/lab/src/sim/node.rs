//! One simulated machine with a node on it: its disk, its clock, and its lives.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use keyrum_consensus::world::{self, Blocking, World};
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
use tokio::sync::{mpsc, watch};

use super::domain_key;
use super::network::{SimNetwork, Wires};
use super::place::{self, Place, account};
use super::seed::{SeededEntropy, SimClock, Time};
use super::trace::Trace;
use super::{API_PORT, PEER_PORT};

const CLUSTER: &str = "lab";

/// A machine. It outlives its node's crashes.
pub(crate) struct Machine {
    pub(crate) place: Place,
    pub(crate) disk: RefCell<SimDisk>,
    pub(crate) clock: SimClock,
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
    /// How many Regions there are.
    pub(crate) regions: usize,
    pub(crate) snapshot_every: u64,
    pub(crate) time: Time,
    pub(crate) wires: Arc<Wires>,
    pub(crate) trace: Trace,
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
    pub(crate) orders: mpsc::UnboundedSender<Order>,
}

/// What the run asks of a node.
#[derive(Debug)]
pub(crate) enum Order {
    /// Moves the Region's clock ahead, as `keyrum clock advance` does.
    AdvanceClock { by_ms: u64 },
    /// Rotates the domain key, or destroys a version, as `keyrum domain-key` does.
    TurnDomainKey,
    /// Proposes a command of the Region's own, for a planted bug.
    Propose(Box<Command>),
}

impl Machine {
    pub(crate) fn new(place: Place, disk: SimDisk, shape: Shape) -> Rc<Self> {
        let clock = SimClock::new(shape.time.clone());
        let first = first_domain_key(shape.seed, place.region);
        Rc::new(Self {
            domain_keys: Arc::new(MemoryDomainKeys::of(&first)),
            place,
            disk: RefCell::new(disk),
            clock,
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
                self.life.borrow_mut().running = Some(Live {
                    applied: group.applied(),
                    leader: group.leader(),
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
    async fn obey(&self, service: &Service, mut orders: mpsc::UnboundedReceiver<Order>) {
        while let Some(order) = orders.recv().await {
            let done = match order {
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
            blocking: Blocking::Inline,
        };
        let keyring = self.kept_domain_key();
        let region_key = |number| RegionKey::generate(&secret(*seed, "region key", number));
        let neighbours: Addresses = (0..self.shape.regions)
            .filter(|number| *number != self.place.region)
            .map(|number| (place::region(number), addresses(number)))
            .collect();
        let disk = self.disk.borrow().shared();
        let store = Store::open(disk, Path::new(&host), StoreConfig::default())
            .map_err(|error| error.to_string())?;
        let config = GroupConfig {
            cluster_id: CLUSTER.to_owned(),
            region: region.clone(),
            node: self.place.node,
            listen: format!("0.0.0.0:{PEER_PORT}"),
            peers: addresses(self.place.region),
            neighbours: neighbours.clone(),
            bootstrap: true,
            snapshot_every: self.shape.snapshot_every,
            history_rows_max: None,
        };
        let links = Links::simulated(CLUSTER, &region, self.place.node);
        let group = Group::start(config, world.clone(), store, links)
            .await
            .map_err(|error| error.to_string())?;
        let pinned: BTreeMap<_, _> = (0..self.shape.regions)
            .map(|number| (place::region(number), region_key(number).public()))
            .collect();
        let found = Found {
            addresses: neighbours,
            pinned: pinned.clone(),
        };
        let neighbourhood = Neighbourhood {
            own: region_key(self.place.region),
            pinned,
            look_up: Box::new(move || Some(found.clone())),
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
const DOMAIN_KEY_VERSIONS_MAX: u32 = 1_000;

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

fn addresses(region: usize) -> BTreeMap<NodeId, String> {
    place::nodes_of(region)
        .map(|place| (place.node, place.peer_addr()))
        .collect()
}
