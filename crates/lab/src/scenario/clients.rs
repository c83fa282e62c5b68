//! What clients do, as a scenario words it.

use serde::Deserialize;

use super::{NodeChoice, Stage, Topology};
use crate::workload::api::Reads;
use crate::workload::{self, Kind};

/// The simulation's own clients: they know what each answer must be.
pub(crate) const SESSIONS: &str = "sessions";
pub(crate) const FAMILIES: &str = "families";

/// Most clients of a workload, and most keys that they share.
const CLIENTS_MAX: usize = 1_000;
const OBJECTS_MAX: usize = 1_000;

/// What some clients do.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Its name: one of [`Kind`]'s, or `sessions` or `families` in a simulation.
    pub kind: String,
    /// How many clients; as many as usual if absent.
    #[serde(default)]
    pub clients: Option<usize>,
    /// How many keys, aliases or families they share; as many as usual if absent.
    #[serde(default)]
    pub objects: Option<usize>,
    /// How they read; as the workload does if absent.
    #[serde(default)]
    pub reads: Option<Reading>,
    /// Which node they call; any if absent.
    #[serde(default)]
    pub node: Option<NodeChoice>,
    /// Which Region they call; as the workload does if absent.
    #[serde(default)]
    pub region: Option<String>,
    /// Clients beside them that only read.
    #[serde(default)]
    pub readers: Option<Readers>,
}

/// Clients that only read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Readers {
    /// How many.
    pub clients: usize,
    /// How they read.
    pub reads: Reading,
    /// Which node they call; any if absent.
    #[serde(default)]
    pub node: Option<NodeChoice>,
}

/// How calls read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reading {
    /// After a read index, on any node.
    Linearizable,
    /// By the leader's lease.
    Lease,
    /// What the node has.
    Local,
    /// With the delay of the real service.
    Eventual,
}

impl From<Reading> for Reads {
    fn from(reading: Reading) -> Self {
        match reading {
            Reading::Linearizable => Self::Linearizable,
            Reading::Lease => Self::Lease,
            Reading::Local => Self::Local,
            Reading::Eventual => Self::Eventual,
        }
    }
}

impl From<NodeChoice> for workload::NodeChoice {
    fn from(choice: NodeChoice) -> Self {
        match choice {
            NodeChoice::Leader => Self::Leader,
            NodeChoice::Follower => Self::Follower,
            NodeChoice::Number(node) => Self::Node(node),
        }
    }
}

impl Workload {
    fn known(&self) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == self.kind)
    }

    /// It as clients do it; `None` for the simulation's own.
    pub fn plan(&self, topology: &Topology) -> Option<workload::Workload> {
        let mut plan = workload::Workload::new(self.known()?);
        plan.clients = self.clients.unwrap_or(plan.clients);
        plan.objects = self.objects.unwrap_or(plan.objects);
        plan.reads = self.reads.map_or(plan.reads, Reads::from);
        plan.node = self.node.map_or(plan.node, workload::NodeChoice::from);
        let regions = topology.regions();
        let number = |name: &String| regions.iter().position(|region| region == name);
        plan.region = self.region.as_ref().and_then(number);
        plan.readers = self.readers.as_ref().map(|readers| workload::Readers {
            clients: readers.clients,
            reads: readers.reads.into(),
            node: readers.node.map_or_else(Default::default, Into::into),
        });
        Some(plan)
    }

    /// Whether it means something on a stage, with a topology; says why not.
    pub(super) fn check(&self, stage: Stage, topology: &Topology) -> Result<(), String> {
        let readers = self.readers.as_ref().map(|readers| readers.clients);
        let counts = [self.clients, readers].into_iter().flatten();
        if { counts }.any(|clients| !(1..=CLIENTS_MAX).contains(&clients)) {
            return Err(format!("clients are 1 to {CLIENTS_MAX}"));
        }
        if self
            .objects
            .is_some_and(|count| !(1..=OBJECTS_MAX).contains(&count))
        {
            return Err(format!("objects are 1 to {OBJECTS_MAX}"));
        }
        let nodes = [
            self.node,
            self.readers.as_ref().and_then(|readers| readers.node),
        ];
        for node in nodes.into_iter().flatten() {
            if let NodeChoice::Number(node) = node
                && !(1..=topology.nodes()).contains(&node)
            {
                return Err(format!(
                    "there is no node {node}; each Region has nodes 1 to {}",
                    topology.nodes()
                ));
            }
        }
        let several = topology.regions().len() > 1;
        let own = self.kind == SESSIONS || self.kind == FAMILIES;
        let about_families = self.kind == FAMILIES || self.known() == Some(Kind::PrimaryMoves);
        if about_families && !several {
            return Err("its keys live in several Regions, and the topology has one".to_owned());
        }
        match (stage, own, self.known()) {
            (Stage::Simulation, true, _) => self.check_own(),
            (Stage::Processes { .. }, true, _) => Err(
                "these clients are the simulation's own, since only there each knows what every answer must be; choose another kind"
                    .to_owned(),
            ),
            (_, false, Some(_)) => Ok(()),
            (_, false, None) => {
                let kinds = Kind::ALL.map(Kind::name).join(", ");
                Err(format!("there is no such kind; there are {kinds}, and in a simulation {SESSIONS} and {FAMILIES}"))
            }
        }
    }

    fn check_own(&self) -> Result<(), String> {
        if let Some(Reading::Local | Reading::Eventual) = self.reads {
            return Err(
                "its clients compare each answer with what they know, so they read linearizably or by lease"
                    .to_owned(),
            );
        }
        let further = self.node.is_some() || self.region.is_some();
        if further || self.objects.is_some() || self.readers.is_some() {
            return Err("its clients choose nodes, Regions and keys themselves: it takes kind, clients and reads".to_owned());
        }
        Ok(())
    }
}
