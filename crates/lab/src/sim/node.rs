//! One simulated machine with a node on it: its disk, its clock, and its lives.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use keyrum_consensus::world::{self, Blocking, World};
use keyrum_consensus::{Group, GroupConfig, Links, ReadMode};
use keyrum_crypto::DomainKeyring;
use keyrum_server::http::{Limits, Server};
use keyrum_server::{Endpoint, EndpointSettings, Regions};
use keyrum_service::{Service, Settings};
use keyrum_store::{SimDisk, Store, StoreConfig};
use keyrum_types::{AccountId, LogIndex, NodeId, Region};
use tokio::sync::watch;

use super::network::{SimNetwork, Wires};
use super::seed::{SeededEntropy, SimClock, Time};
use super::trace::Trace;
use super::{API_PORT, NODES, PEER_PORT, node_host};

const CLUSTER: &str = "lab";

/// The Region that is simulated.
pub(crate) fn region() -> Region {
    "us-east-1".parse().expect("the name of a Region")
}

/// The account of unsigned callers.
pub(crate) fn account() -> AccountId {
    "000000000000".parse().expect("12 digits")
}

/// A machine. It outlives its node's crashes.
pub(crate) struct Machine {
    pub(crate) node: NodeId,
    pub(crate) disk: RefCell<SimDisk>,
    pub(crate) clock: SimClock,
    pub(crate) life: RefCell<Life>,
    pub(crate) shape: Shape,
}

/// What all machines share.
#[derive(Clone)]
pub(crate) struct Shape {
    pub(crate) seed: u64,
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
}

impl Machine {
    pub(crate) fn new(node: NodeId, disk: SimDisk, shape: Shape) -> Rc<Self> {
        let clock = SimClock::new(shape.time.clone());
        Rc::new(Self {
            node,
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
            Ok((group, _server)) => {
                self.shape
                    .trace
                    .line(&node_host(self.node), format_args!("is up, boot {boot}"));
                self.life.borrow_mut().running = Some(Live {
                    applied: group.applied(),
                    leader: group.leader(),
                    group: group.clone(),
                });
                End::Stopped(group.stopped().await.to_string())
            }
        };
        self.shape
            .trace
            .line(&node_host(self.node), format_args!("{end:?}"));
        self.life.borrow_mut().ended = Some(end);
    }

    /// Puts a node together as the `keyrum` binary does.
    async fn start(&self, boot: u64) -> Result<(Group, Server), String> {
        let Shape {
            seed, time, wires, ..
        } = &self.shape;
        let host = node_host(self.node);
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
        let keyring = DomainKeyring::generate(&SeededEntropy::new(*seed, "domain key"));
        let disk = self.disk.borrow().shared();
        let store = Store::open(disk, Path::new(&host), StoreConfig::default())
            .map_err(|error| error.to_string())?;
        let config = GroupConfig {
            cluster_id: CLUSTER.to_owned(),
            region: region(),
            node: self.node,
            listen: format!("0.0.0.0:{PEER_PORT}"),
            peers: (1..=NODES)
                .map(|node| (node, format!("{}:{PEER_PORT}", node_host(node))))
                .collect(),
            neighbours: Default::default(),
            bootstrap: true,
            snapshot_every: self.shape.snapshot_every,
            history_rows_max: None,
        };
        let links = Links::simulated(CLUSTER, &region(), self.node);
        let group = Group::start(config, world.clone(), store, links)
            .await
            .map_err(|error| error.to_string())?;
        let service = Service::new(group.clone(), keyring, world.clone(), Settings::default());
        let regions = Regions::default();
        regions.set(vec![(region(), vec![service.clone()])]);
        let settings = EndpointSettings {
            default_account: account(),
            consistency: ReadMode::Linearizable,
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
        world::spawn(async move { service.run_clock().await });
        Ok((group, server))
    }
}
