//! Where things are: the Regions, their nodes, and the names of all hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyrum_types::{AccountId, NodeId, Region};

use super::{API_PORT, PEER_PORT};
use crate::dice::Dice;
use crate::workload::api::Directory;
pub(crate) use crate::workload::api::Place;

/// The Regions there can be, in order. The first one is the only one of a smaller run.
pub(crate) const REGIONS: [&str; 3] = ["us-east-1", "eu-west-1", "us-west-2"];

impl Place {
    /// The name of the host it runs on.
    pub(crate) fn host(self) -> String {
        match self.region {
            0 => format!("node-{}", self.node),
            other => format!("{}-{}", REGIONS[other], self.node),
        }
    }

    /// Where its peers reach it, also those of other Regions.
    pub(crate) fn peer_addr(self) -> String {
        format!("{}:{PEER_PORT}", self.host())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", REGIONS[self.region], self.node)
    }
}

/// A Region by its number.
pub(crate) fn region(number: usize) -> Region {
    REGIONS[number].parse().expect("the name of a Region")
}

/// A Region's number.
pub(crate) fn number_of(region: &str) -> Option<usize> {
    REGIONS.iter().position(|name| *name == region)
}

/// The nodes of each Region, which come and go. Clones are the same.
#[derive(Clone)]
pub(crate) struct Roster(Arc<Mutex<Vec<BTreeSet<NodeId>>>>);

impl Roster {
    /// So many Regions, each with nodes 1 to `nodes`.
    pub(crate) fn new(regions: usize, nodes: NodeId) -> Self {
        Self(Arc::new(Mutex::new(vec![(1..=nodes).collect(); regions])))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<BTreeSet<NodeId>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn regions(&self) -> usize {
        self.lock().len()
    }

    /// The nodes of one Region.
    pub(crate) fn of(&self, region: usize) -> Vec<Place> {
        let nodes = self.lock();
        let here = nodes[region].iter();
        here.map(|&node| Place { region, node }).collect()
    }

    /// The nodes of all Regions.
    pub(crate) fn all(&self) -> Vec<Place> {
        let regions = 0..self.regions();
        regions.flat_map(|region| self.of(region)).collect()
    }

    /// The other nodes of a node's Region.
    pub(crate) fn beside(&self, place: Place) -> impl Iterator<Item = Place> + use<> {
        let here = self.of(place.region).into_iter();
        here.filter(move |other| *other != place)
    }

    /// Any node of a Region.
    pub(crate) fn pick(&self, region: usize, dice: &mut Dice) -> NodeId {
        let nodes = self.of(region);
        nodes[dice.index(nodes.len())].node
    }

    /// The one after a node, in a circle.
    pub(crate) fn after(&self, place: Place) -> Place {
        let nodes = self.of(place.region);
        let next = nodes.iter().find(|other| other.node > place.node);
        next.copied().unwrap_or(nodes[0])
    }

    pub(crate) fn add(&self, place: Place) {
        self.lock()[place.region].insert(place.node);
    }

    pub(crate) fn remove(&self, place: Place) {
        self.lock()[place.region].remove(&place.node);
    }

    /// Where the nodes of a Region are reached by others.
    pub(crate) fn addresses(&self, region: usize) -> BTreeMap<NodeId, String> {
        let nodes = self.of(region).into_iter();
        nodes.map(|place| (place.node, place.peer_addr())).collect()
    }
}

/// More nodes than a Region has in the course of a run.
const NODES_EVER: NodeId = 100;

/// All nodes there may ever be.
pub(crate) fn whoever(regions: usize) -> Vec<Place> {
    Roster::new(regions, NODES_EVER).all()
}

/// Where nodes take calls.
pub(crate) fn directory(nodes: Vec<Place>, regions: usize) -> Directory {
    let addr = |place: Place| (place, format!("{}:{API_PORT}", place.host()));
    Directory {
        regions: REGIONS[..regions]
            .iter()
            .map(|name| (*name).to_owned())
            .collect(),
        nodes: nodes.into_iter().map(addr).collect(),
    }
}

/// In which Region a host is; `None` for a client's.
pub(crate) fn region_of(host: &str) -> Option<usize> {
    let (name, _) = host.rsplit_once('-')?;
    match name {
        "node" => Some(0),
        name => number_of(name),
    }
}

/// The account of unsigned callers.
pub(crate) fn account() -> AccountId {
    "000000000000".parse().expect("12 digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a host that is taken for one of another Region, or a client for a node.
    #[test]
    fn hosts_tell_their_region() {
        let mut hosts = std::collections::BTreeSet::new();
        for place in Roster::new(REGIONS.len(), 3).all() {
            assert_eq!(region_of(&place.host()), Some(place.region), "{place}");
            hosts.insert(place.host());
        }
        assert_eq!(hosts.len(), 9);
        assert_eq!(region_of("client-1"), None);
    }
}
