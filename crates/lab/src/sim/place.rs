//! Where things are: the Regions, their nodes, and the names of all hosts.

use std::fmt;

use keyrum_types::{AccountId, NodeId, Region};

use super::{NODES, PEER_PORT};

/// The Regions there can be, in order. The first one is the only one of a smaller run.
const REGIONS: [&str; 3] = ["us-east-1", "eu-west-1", "us-west-2"];

/// A node: in which Region, counted from 0, and which one there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) region: usize,
    pub(crate) node: NodeId,
}

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

/// The nodes of one Region.
pub(crate) fn nodes_of(region: usize) -> impl Iterator<Item = Place> {
    (1..=NODES).map(move |node| Place { region, node })
}

/// The nodes of the first Regions.
pub(crate) fn all_nodes(regions: usize) -> impl Iterator<Item = Place> {
    (0..regions).flat_map(nodes_of)
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
        for place in all_nodes(REGIONS.len()) {
            assert_eq!(region_of(&place.host()), Some(place.region), "{place}");
            hosts.insert(place.host());
        }
        assert_eq!(hosts.len(), 9);
        assert_eq!(region_of("client-1"), None);
    }
}
