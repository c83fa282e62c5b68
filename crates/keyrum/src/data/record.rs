//! `cluster.json`: what a data folder remembers about its cluster between runs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use keyrum_types::{Entropy, NodeId, Region};
use serde::{Deserialize, Serialize};

use super::{DataError, hex, io_at};
use crate::topology::{Topology, localhost};

/// The only form of `cluster.json` so far.
const FORMAT: u32 = 1;

/// What the folder remembers about its cluster between runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// Which form the file has.
    format: u32,
    /// 32 hex digits, drawn when the folder was made; names the cluster in certificates.
    pub(crate) cluster_id: String,
    /// Whether a reset was begun and not finished: then what the nodes left counts for nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) resetting: bool,
    /// In the topology's order.
    pub(crate) regions: Vec<RegionRecord>,
}

/// One Region's part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegionRecord {
    /// Its name.
    pub(crate) name: Region,
    /// The nodes the topology asked for when the folder was made.
    pub(crate) founders: Vec<NodeId>,
    /// Whether its group was founded: from then on no node may found it again, not even one
    /// that lost its data.
    pub(crate) founded: bool,
    /// What other Regions wrap material to, in base64; pinned when the Region was made. `None` in
    /// a record of a time when Regions had none, until the cluster is next started.
    #[serde(default)]
    pub(crate) public_key: Option<String>,
    /// The nodes it has now.
    pub(crate) nodes: Vec<NodeRecord>,
    /// Ids of nodes that are gone; an id is never used twice.
    pub(crate) removed: Vec<NodeId>,
    /// Whether it joined a cluster that was made without it: a topology need not name it, and the
    /// other Regions know it only once it is founded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) joined: bool,
}

impl RegionRecord {
    /// A Region that was never started, without ports.
    pub(super) fn new(name: &Region, founders: Vec<NodeId>, joined: bool) -> Self {
        let nodes = founders.iter().copied().map(NodeRecord::without_ports);
        Self {
            name: name.clone(),
            nodes: nodes.collect(),
            founders,
            public_key: None,
            founded: false,
            removed: Vec::new(),
            joined,
        }
    }

    /// Whether the cluster's other Regions may know it.
    pub(super) fn is_known(&self) -> bool {
        self.founded || !self.joined
    }
}

/// One node's part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeRecord {
    /// Its id.
    pub(crate) id: NodeId,
    /// Where it listens.
    #[serde(default = "localhost", skip_serializing_if = "is_localhost")]
    pub(crate) address: Ipv4Addr,
    /// Port for KMS calls.
    pub(crate) api: u16,
    /// Port for its peers.
    pub(crate) peer: u16,
    /// Port for operators.
    pub(crate) admin: u16,
    /// Whether it has had data. From then on it must not start without: it may have voted.
    pub(crate) started: bool,
}

impl NodeRecord {
    /// A node that was never started.
    pub(super) fn without_ports(id: NodeId) -> Self {
        Self {
            id,
            address: localhost(),
            api: 0,
            peer: 0,
            admin: 0,
            started: false,
        }
    }

    /// Where it answers KMS calls.
    pub(crate) fn api_at(&self) -> SocketAddr {
        (self.address, self.api).into()
    }

    /// Where it hears its peers.
    pub(crate) fn peer_at(&self) -> SocketAddr {
        (self.address, self.peer).into()
    }

    /// Where it answers operators.
    pub(crate) fn admin_at(&self) -> SocketAddr {
        (self.address, self.admin).into()
    }

    /// The ports it listens on.
    pub(super) fn ports_mut(&mut self) -> [&mut u16; 3] {
        [&mut self.api, &mut self.peer, &mut self.admin]
    }
}

fn is_localhost(address: &Ipv4Addr) -> bool {
    *address == localhost()
}

impl Record {
    /// Where a node listens that is added to a Region: where the others do or, if they have
    /// addresses of their own, at the next one after theirs that no node has.
    pub(super) fn next_address(&self, region: &Region) -> Ipv4Addr {
        let addresses = |region: &RegionRecord| -> Vec<Ipv4Addr> {
            region.nodes.iter().map(|node| node.address).collect()
        };
        let used: BTreeSet<_> = self.regions.iter().flat_map(addresses).collect();
        let ours = self.regions.iter().filter(|held| held.name == *region);
        let greatest = ours.flat_map(addresses).max().unwrap_or(localhost());
        if is_localhost(&greatest) {
            return greatest;
        }
        let mut after = (u32::from(greatest) + 1..).map(Ipv4Addr::from);
        let next = after.find(|address| !used.contains(address));
        next.filter(Ipv4Addr::is_loopback).unwrap_or(localhost())
    }

    /// Whether it ever had a node that ran, as far as it remembers.
    pub(crate) fn is_begun(&self) -> bool {
        let begun =
            |region: &RegionRecord| region.founded || region.nodes.iter().any(|node| node.started);
        self.resetting || self.regions.iter().any(begun)
    }

    /// What was asked for when it was made, in words.
    pub(crate) fn describe(&self) -> String {
        let regions = self.regions.iter().map(|r| (&r.name, r.founders.clone()));
        describe(regions)
    }

    /// The nodes it has now, in words.
    pub(crate) fn describe_now(&self) -> String {
        let ids = |region: &RegionRecord| region.nodes.iter().map(|node| node.id).collect();
        describe(self.regions.iter().map(|r| (&r.name, ids(r))))
    }
}

fn describe<'a>(regions: impl Iterator<Item = (&'a Region, Vec<NodeId>)>) -> String {
    let one = |(name, nodes): (&Region, Vec<NodeId>)| match nodes[..] {
        [only] => format!("{name} (node {only})"),
        _ => {
            let ids: Vec<_> = nodes.iter().map(NodeId::to_string).collect();
            format!("{name} (nodes {})", ids.join(", "))
        }
    };
    regions.map(one).collect::<Vec<_>>().join(" and ")
}

fn asked_nodes(topology: &Topology) -> impl Iterator<Item = (&Region, Vec<NodeId>)> {
    topology.regions.iter().map(|region| {
        let ids = region.nodes.iter().map(|node| node.get_ref().id).collect();
        (region.name.get_ref(), ids)
    })
}

pub(super) fn new_record(topology: &Topology, entropy: &dyn Entropy) -> Record {
    let mut random = [0; 16];
    entropy.fill(&mut random);
    let regions =
        asked_nodes(topology).map(|(name, founders)| RegionRecord::new(name, founders, false));
    Record {
        format: FORMAT,
        cluster_id: hex(&random),
        resetting: false,
        regions: regions.collect(),
    }
}

/// Whether a topology may leave out Regions that joined later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unnamed {
    /// They run like the others.
    Run,
    /// It must name every Region.
    Refuse,
}

/// Checks that a topology asks for the cluster of the record, and gives the Regions that it asks
/// for beside those: they join.
///
/// The first Region takes unsigned requests, so the order of Regions counts; that of nodes not.
pub(super) fn newcomers(
    root: &Path,
    record: &Record,
    topology: &Topology,
    unnamed: Unnamed,
) -> Result<Vec<RegionRecord>, DataError> {
    let sorted = |mut ids: Vec<NodeId>| {
        ids.sort_unstable();
        ids
    };
    let held: BTreeMap<_, _> = record.regions.iter().map(|r| (&r.name, r)).collect();
    let asked: Vec<_> = asked_nodes(topology).collect();
    let names: BTreeSet<_> = asked.iter().map(|(name, _)| *name).collect();
    let optional = |region: &RegionRecord| region.joined && unnamed == Unnamed::Run;
    let mut unnamed_ones = record.regions.iter().filter(|r| !names.contains(&r.name));
    let missing = !unnamed_ones.all(optional);
    let differs = asked.iter().any(|(name, ids)| {
        let region = held.get(name);
        region.is_some_and(|region| sorted(region.founders.clone()) != sorted(ids.clone()))
    });
    let first = record.regions.iter().filter(|region| !region.joined);
    let in_order = asked.iter().map(|(name, _)| *name);
    let in_order = in_order.filter(|name| held.get(name).is_some_and(|region| !region.joined));
    let same_order = first.map(|region| &region.name).eq(in_order)
        && asked.first().map(|(name, _)| *name) == record.regions.first().map(|r| &r.name);
    if missing || differs || !same_order {
        let mut words = describe(asked.iter().map(|(name, ids)| (*name, ids.clone())));
        if !missing && !differs {
            words.push_str(" in this order (it counts: the first Region takes unsigned requests)");
        }
        return Err(DataError::OtherCluster {
            folder: root.to_owned(),
            held: record.describe(),
            asked: words,
        });
    }
    let new = asked
        .into_iter()
        .filter(|(name, _)| !held.contains_key(name));
    Ok(new
        .map(|(name, ids)| RegionRecord::new(name, ids, true))
        .collect())
}

pub(super) fn read_record(root: &Path) -> Result<Option<Record>, DataError> {
    let file = root.join("cluster.json");
    let text = match std::fs::read(&file) {
        Ok(text) => text,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(io_at(&file)(cause)),
    };
    match serde_json::from_slice::<Record>(&text) {
        Ok(record) if record.format == FORMAT => Ok(Some(record)),
        Ok(record) => Err(DataError::Unreadable {
            file,
            what: format!("it has format {}", record.format),
        }),
        Err(error) => Err(DataError::Unreadable {
            file,
            what: error.to_string(),
        }),
    }
}
