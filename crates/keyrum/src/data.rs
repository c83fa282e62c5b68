//! The data folder: which cluster lives in it, and what each node needs to find there.
//!
//! ```text
//! DIR/lock                      held by the `dev` or `cluster up` that uses the folder
//! DIR/cluster.json              the cluster's id, its Regions, nodes and chosen ports
//! DIR/topology.toml             what the nodes of a running `cluster up` go by
//! DIR/run.json                  while it runs: endpoint, listeners, processes
//! DIR/certs/                    the cluster's certificate authority and the nodes' certificates
//! DIR/<region>/domain.key       the Region's root secret
//! DIR/<region>/node-<id>/store/ the node's log, snapshots and history
//! DIR/<region>/node-<id>/admin.token
//! DIR/<region>/node-<id>/output what the node's process printed, under `cluster up`
//! ```
//!
//! Everything in it is readable by its owner only.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use keyrum_types::{Entropy, NodeId, Region};
use serde::{Deserialize, Serialize};

use crate::cli::NodeName;
use crate::files;
use crate::ports::{self, NoFreePort, Ports};
use crate::topology::{NodePlan, Topology};

/// The only form of `cluster.json` so far.
const FORMAT: u32 = 1;

/// What the folder remembers about its cluster between runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    format: u32,
    /// 32 hex digits, drawn when the folder was made; names the cluster in certificates.
    pub(crate) cluster_id: String,
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
    /// The nodes it has now.
    pub(crate) nodes: Vec<NodeRecord>,
    /// Ids of nodes that are gone; an id is never used twice.
    pub(crate) removed: Vec<NodeId>,
}

/// One node's part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeRecord {
    /// Its id.
    pub(crate) id: NodeId,
    /// Port for KMS calls.
    pub(crate) api: u16,
    /// Port for its peers.
    pub(crate) peer: u16,
    /// Port for operators.
    pub(crate) admin: u16,
    /// Whether it has had data. From then on it must not start without: it may have voted.
    pub(crate) started: bool,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataError {
    /// Another process uses it.
    #[error("the data folder {} is in use by another keyrum process{}: stop that one, or name another folder with --data", folder.display(), said(*pid))]
    InUse {
        /// Which folder.
        folder: PathBuf,
        /// The other process, if it said.
        pid: Option<u32>,
    },
    /// It holds another cluster than the one asked for.
    #[error("the data folder {} holds {held}, but {asked} was asked for: ask for what it holds, name another folder with --data, or remove this one to start afresh", folder.display())]
    OtherCluster {
        /// Which folder.
        folder: PathBuf,
        /// The Regions and nodes in it.
        held: String,
        /// The Regions and nodes asked for.
        asked: String,
    },
    /// `cluster.json` is not what this version writes.
    #[error("{} cannot be understood ({what}): it was changed, or written by another version of keyrum; restore it, or remove the data folder to start afresh", file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// There is no cluster in it.
    #[error("the data folder {} holds no cluster: `keyrum cluster up` makes one", folder.display())]
    Empty {
        /// Which folder.
        folder: PathBuf,
    },
    /// The node is not one of the cluster's.
    #[error("the data folder {} holds {held}: there is no node {node}", folder.display())]
    NoSuchNode {
        /// Which folder.
        folder: PathBuf,
        /// The Regions and nodes in it.
        held: String,
        /// The node asked for.
        node: NodeName,
    },
    /// The id was used before, or is in use.
    #[error("the node {node} exists or existed, and an id is never used twice: add {next} instead")]
    IdUsed {
        /// The node asked for.
        node: NodeName,
        /// One that is free.
        next: NodeName,
    },
    /// A node can only be added to a Region the cluster has.
    #[error("there is no Region {region} in this cluster")]
    NoSuchRegion {
        /// The Region asked for.
        region: Region,
    },
    /// A port the topology names is taken.
    #[error(
        "port {port} of node {node} is in use by another process: stop that one, or name another port for the node in the topology file (0 takes a free one)"
    )]
    PortTaken {
        /// Which port.
        port: u16,
        /// The node that is to listen there.
        node: NodeName,
    },
    /// No port is free.
    #[error(transparent)]
    NoFreePort(#[from] NoFreePort),
    /// The certificates cannot be made.
    #[error(transparent)]
    Certs(#[from] keyrum_consensus::certs::CertsError),
    /// A Region's domain key cannot be made.
    #[error(transparent)]
    DomainKey(#[from] keyrum_crypto::DomainKeyFileError),
    /// The system refused a read or write.
    #[error("{}: {cause}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

fn said(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// A data folder whose cluster is known.
#[derive(Debug)]
pub(crate) struct DataFolder {
    root: PathBuf,
    record: Record,
    /// Whether this call made the cluster.
    fresh: bool,
    /// Held while the folder is used by this process as a whole.
    _lock: Option<File>,
}

impl DataFolder {
    /// Takes the folder for this process alone, makes the cluster in it if there is none, and
    /// sees that every node has ports nobody else listens on.
    pub(crate) fn claim(
        root: &Path,
        topology: &Topology,
        ports: &mut Ports<'_>,
        entropy: &dyn Entropy,
    ) -> Result<Self, DataError> {
        let root = absolute(root)?;
        files::private_folder(&root).map_err(io_at(&root))?;
        let lock = lock(&root)?;
        let (record, fresh) = match read_record(&root)? {
            Some(record) => {
                check_same(&root, &record, topology)?;
                (record, false)
            }
            None => (new_record(topology, entropy), true),
        };
        let mut folder = Self {
            root,
            record,
            fresh,
            _lock: Some(lock),
        };
        folder.settle_ports(topology, ports)?;
        folder.establish(entropy)?;
        Ok(folder)
    }

    /// Makes the secrets the nodes need, then remembers the cluster: a crash on the way leaves a
    /// folder that still counts as fresh.
    fn establish(&self, entropy: &dyn Entropy) -> Result<(), DataError> {
        self.ensure_certs()?;
        for region in &self.record.regions {
            let path = self.domain_key(&region.name);
            // Only a fresh cluster draws a domain key: a lost one cannot be replaced, and the
            // nodes say so.
            if self.fresh && !path.exists() {
                let folder = self.root.join(region.name.as_str());
                files::private_folder(&folder).map_err(io_at(&folder))?;
                keyrum_crypto::create(&path, entropy)?;
            }
        }
        for node in self.nodes() {
            self.prepare_node(&node, entropy)?;
        }
        self.save()
    }

    /// Makes the certificates that are missing.
    pub(crate) fn ensure_certs(&self) -> Result<(), DataError> {
        let nodes: Vec<_> = self.nodes().into_iter().map(|n| (n.region, n.id)).collect();
        Ok(keyrum_consensus::certs::ensure(
            &self.certs(),
            &self.record.cluster_id,
            &nodes,
        )?)
    }

    /// Reads a folder that a running or former `cluster up` made, for one of its nodes.
    pub(crate) fn of_node(root: &Path, node: &NodeName) -> Result<Self, DataError> {
        let folder = Self::look(root)?;
        if folder.node(node).is_none() {
            return Err(DataError::NoSuchNode {
                held: folder.record.describe(),
                folder: folder.root,
                node: node.clone(),
            });
        }
        Ok(folder)
    }

    /// Reads a folder without taking it.
    pub(crate) fn look(root: &Path) -> Result<Self, DataError> {
        let root = absolute(root)?;
        match read_record(&root)? {
            Some(record) => Ok(Self {
                root,
                record,
                fresh: false,
                _lock: None,
            }),
            None => Err(DataError::Empty { folder: root }),
        }
    }

    /// Its absolute path.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What it remembers.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Where the certificates are.
    pub(crate) fn certs(&self) -> PathBuf {
        self.root.join("certs")
    }

    /// Where a running cluster says how to reach it.
    pub(crate) fn run_file(&self) -> PathBuf {
        self.root.join("run.json")
    }

    /// Where a Region's root secret is.
    pub(crate) fn domain_key(&self, region: &Region) -> PathBuf {
        self.root.join(region.as_str()).join("domain.key")
    }

    /// A node's own folder.
    pub(crate) fn node_folder(&self, node: &NodeName) -> PathBuf {
        self.root
            .join(node.region.as_str())
            .join(format!("node-{}", node.id))
    }

    /// Where a node's log, snapshots and history are.
    pub(crate) fn store(&self, node: &NodeName) -> PathBuf {
        self.node_folder(node).join("store")
    }

    /// Where a node's admin token is.
    pub(crate) fn admin_token(&self, node: &NodeName) -> PathBuf {
        self.node_folder(node).join("admin.token")
    }

    /// A node's ports.
    pub(crate) fn node(&self, node: &NodeName) -> Option<NodeRecord> {
        let region = self.region(&node.region)?;
        region
            .nodes
            .iter()
            .find(|record| record.id == node.id)
            .copied()
    }

    /// A Region's part of the record.
    pub(crate) fn region(&self, name: &Region) -> Option<&RegionRecord> {
        self.record
            .regions
            .iter()
            .find(|region| region.name == *name)
    }

    /// Every node of every Region, in order.
    pub(crate) fn nodes(&self) -> Vec<NodeName> {
        let of = |region: &RegionRecord| -> Vec<NodeName> {
            let name = |node: &NodeRecord| NodeName {
                region: region.name.clone(),
                id: node.id,
            };
            region.nodes.iter().map(name).collect()
        };
        self.record.regions.iter().flat_map(of).collect()
    }

    /// Where the nodes of a Region listen for each other.
    pub(crate) fn peers(&self, region: &Region) -> BTreeMap<NodeId, String> {
        let nodes = self.region(region).map_or(&[][..], |region| &region.nodes);
        nodes
            .iter()
            .map(|node| (node.id, loopback(node.peer).to_string()))
            .collect()
    }

    /// Makes what a node needs before it first starts: its folder and its admin token.
    pub(crate) fn prepare_node(
        &self,
        node: &NodeName,
        entropy: &dyn Entropy,
    ) -> Result<(), DataError> {
        let folder = self.node_folder(node);
        files::private_folder(&folder).map_err(io_at(&folder))?;
        let token = self.admin_token(node);
        if !token.exists() {
            let mut random = [0; 32];
            entropy.fill(&mut random);
            files::write_secret(&token, hex(&random).as_bytes()).map_err(io_at(&token))?;
        }
        Ok(())
    }

    /// Remembers that every Region has been founded, and which nodes have data.
    pub(crate) fn note_founded(&mut self) -> Result<(), DataError> {
        let before = self.record.clone();
        let begun: Vec<bool> = self
            .nodes()
            .iter()
            .map(|node| self.store(node).exists())
            .collect();
        let mut begun = begun.into_iter();
        for region in &mut self.record.regions {
            region.founded = true;
            for node in &mut region.nodes {
                node.started |= begun.next().unwrap_or(false);
            }
        }
        if self.record == before {
            Ok(())
        } else {
            self.save()
        }
    }

    /// Removes every key and all history: as if the cluster had never been started. Its ids,
    /// ports and certificates stay. No node may run.
    pub(crate) fn reset(&mut self, entropy: &dyn Entropy) -> Result<(), DataError> {
        for region in &mut self.record.regions {
            region.founded = false;
            region
                .nodes
                .iter_mut()
                .for_each(|node| node.started = false);
        }
        self.fresh = true;
        self.save()?;
        let stores = self.nodes().into_iter().map(|node| self.store(&node));
        let keys = self
            .record
            .regions
            .iter()
            .map(|region| self.domain_key(&region.name));
        for path in stores.chain(keys) {
            let gone = if path.is_dir() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            match gone {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                    return Err(io_at(&path)(cause));
                }
                _ => {}
            }
        }
        self.establish(entropy)
    }

    /// Remembers a new node, with ports for it.
    pub(crate) fn add_node(
        &mut self,
        node: &NodeName,
        ports: &mut Ports<'_>,
    ) -> Result<NodeRecord, DataError> {
        let region = self.region_mut(&node.region)?;
        let used =
            |id: NodeId| region.nodes.iter().any(|n| n.id == id) || region.removed.contains(&id);
        if used(node.id) {
            let next = (1..).find(|&id| !used(id)).expect("ids do not run out");
            let next = NodeName {
                region: node.region.clone(),
                id: next,
            };
            return Err(DataError::IdUsed {
                node: node.clone(),
                next,
            });
        }
        let (api, peer, admin) = (ports.free()?, ports.free()?, ports.free()?);
        let record = NodeRecord {
            id: node.id,
            api,
            peer,
            admin,
            started: false,
        };
        region.nodes.push(record);
        self.save()?;
        Ok(record)
    }

    /// Forgets a node, but never its id.
    pub(crate) fn remove_node(&mut self, node: &NodeName) -> Result<(), DataError> {
        let region = self.region_mut(&node.region)?;
        region.nodes.retain(|record| record.id != node.id);
        region.removed.push(node.id);
        self.save()
    }

    fn region_mut(&mut self, name: &Region) -> Result<&mut RegionRecord, DataError> {
        let region = self
            .record
            .regions
            .iter_mut()
            .find(|region| region.name == *name);
        region.ok_or_else(|| DataError::NoSuchRegion {
            region: name.clone(),
        })
    }

    fn settle_ports(
        &mut self,
        topology: &Topology,
        ports: &mut Ports<'_>,
    ) -> Result<(), DataError> {
        for region in &mut self.record.regions {
            for node in &mut region.nodes {
                let name = NodeName {
                    region: region.name.clone(),
                    id: node.id,
                };
                let plan = plan_of(topology, &name);
                for (asked, port) in [
                    (plan.map_or(0, |p| p.api), &mut node.api),
                    (plan.map_or(0, |p| p.peer), &mut node.peer),
                    (plan.map_or(0, |p| p.admin), &mut node.admin),
                ] {
                    if asked != 0 {
                        if !ports::is_free(asked) {
                            return Err(DataError::PortTaken {
                                port: asked,
                                node: name,
                            });
                        }
                        *port = asked;
                    } else if *port == 0 || !ports::is_free(*port) {
                        *port = ports.free()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn save(&self) -> Result<(), DataError> {
        let file = self.root.join("cluster.json");
        let mut text = serde_json::to_vec_pretty(&self.record).expect("the record is plain data");
        text.push(b'\n');
        files::replace(&file, &text).map_err(io_at(&file))
    }
}

impl Record {
    /// In words, for messages.
    pub(crate) fn describe(&self) -> String {
        let regions = self.regions.iter().map(|r| (&r.name, r.founders.clone()));
        describe(regions)
    }
}

/// An address on this machine.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
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

fn plan_of(topology: &Topology, node: &NodeName) -> Option<NodePlan> {
    let region = topology
        .regions
        .iter()
        .find(|region| *region.name.get_ref() == node.region)?;
    region
        .nodes
        .iter()
        .map(|plan| *plan.get_ref())
        .find(|plan| plan.id == node.id)
}

fn asked_nodes(topology: &Topology) -> impl Iterator<Item = (&Region, Vec<NodeId>)> {
    topology.regions.iter().map(|region| {
        let ids = region.nodes.iter().map(|node| node.get_ref().id).collect();
        (region.name.get_ref(), ids)
    })
}

fn new_record(topology: &Topology, entropy: &dyn Entropy) -> Record {
    let mut random = [0; 16];
    entropy.fill(&mut random);
    let regions = asked_nodes(topology).map(|(name, founders)| RegionRecord {
        name: name.clone(),
        nodes: founders
            .iter()
            .map(|&id| NodeRecord {
                id,
                api: 0,
                peer: 0,
                admin: 0,
                started: false,
            })
            .collect(),
        founders,
        founded: false,
        removed: Vec::new(),
    });
    Record {
        format: FORMAT,
        cluster_id: hex(&random),
        regions: regions.collect(),
    }
}

/// The first Region takes unsigned requests, so the order of Regions counts; that of nodes not.
fn check_same(root: &Path, record: &Record, topology: &Topology) -> Result<(), DataError> {
    let sorted = |mut ids: Vec<NodeId>| {
        ids.sort_unstable();
        ids
    };
    let held = record
        .regions
        .iter()
        .map(|r| (&r.name, sorted(r.founders.clone())));
    let asked = asked_nodes(topology).map(|(name, ids)| (name, sorted(ids)));
    if held.eq(asked) {
        return Ok(());
    }
    Err(DataError::OtherCluster {
        folder: root.to_owned(),
        held: record.describe(),
        asked: describe(asked_nodes(topology)),
    })
}

fn read_record(root: &Path) -> Result<Option<Record>, DataError> {
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

fn lock(root: &Path) -> Result<File, DataError> {
    let path = root.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io_at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let run = std::fs::read(root.join("run.json")).ok();
            let run: Option<serde_json::Value> =
                run.and_then(|text| serde_json::from_slice(&text).ok());
            let pid = run
                .and_then(|run| run["pid"].as_u64())
                .and_then(|pid| pid.try_into().ok());
            Err(DataError::InUse {
                folder: root.to_owned(),
                pid,
            })
        }
        Err(TryLockError::Error(cause)) => Err(io_at(&path)(cause)),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, DataError> {
    std::path::absolute(path).map_err(io_at(path))
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> DataError {
    let path = path.to_owned();
    move |cause| DataError::Io { path, cause }
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Counting;

    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes
                .iter_mut()
                .enumerate()
                .for_each(|(at, byte)| *byte = at as u8);
        }
    }

    fn topology(regions: &[&str], nodes: u64) -> Topology {
        let regions: Vec<Region> = regions.iter().map(|name| name.parse().unwrap()).collect();
        let bind = Ipv4Addr::LOCALHOST.into();
        Topology::uniform(&regions, nodes, 0, bind, "000000000000".parse().unwrap()).unwrap()
    }

    fn claim(root: &Path, topology: &Topology) -> Result<DataFolder, DataError> {
        DataFolder::claim(root, topology, &mut Ports::new(&Counting), &Counting)
    }

    /// Catches a restart that gives nodes other ports, so that nobody finds them again.
    #[test]
    fn ports_are_remembered() {
        let root = tempfile::tempdir().unwrap();
        let asked = topology(&["us-east-1", "eu-west-1"], 3);
        let first = claim(root.path(), &asked).unwrap();
        let record = first.record().clone();
        drop(first);
        let second = claim(root.path(), &asked).unwrap();
        assert_eq!(*second.record(), record);
        let mut ports: Vec<_> = record
            .regions
            .iter()
            .flat_map(|r| &r.nodes)
            .flat_map(|n| [n.api, n.peer, n.admin])
            .collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!((ports.len(), ports[0] > 0), (18, true));
    }

    /// Catches a cluster started on another cluster's data, and a message that does not name both.
    #[test]
    fn other_regions_or_nodes_are_refused() {
        let root = tempfile::tempdir().unwrap();
        drop(claim(root.path(), &topology(&["us-east-1"], 3)).unwrap());
        for (asked, named) in [
            (topology(&["us-east-1"], 1), "us-east-1 (node 1)"),
            (topology(&["eu-west-1"], 3), "eu-west-1 (nodes 1, 2, 3)"),
        ] {
            let text = claim(root.path(), &asked).unwrap_err().to_string();
            assert!(
                text.contains("holds us-east-1 (nodes 1, 2, 3), but "),
                "{text}"
            );
            assert!(text.contains(named) && text.contains("--data"), "{text}");
        }
    }

    /// Catches two processes that write to one folder.
    #[test]
    fn a_folder_has_one_user() {
        let root = tempfile::tempdir().unwrap();
        let asked = topology(&["us-east-1"], 1);
        let first = claim(root.path(), &asked).unwrap();
        let text = claim(root.path(), &asked).unwrap_err().to_string();
        assert!(text.contains("in use by another keyrum process"), "{text}");
        drop(first);
        assert!(claim(root.path(), &asked).is_ok());
    }

    /// Catches a node id that is used twice, also after its node is gone.
    #[test]
    fn a_node_id_is_never_used_twice() {
        let root = tempfile::tempdir().unwrap();
        let mut folder = claim(root.path(), &topology(&["us-east-1"], 3)).unwrap();
        let mut ports = Ports::new(&Counting);
        let four: NodeName = "us-east-1/4".parse().unwrap();
        folder.add_node(&four, &mut ports).unwrap();
        assert!(folder.add_node(&four, &mut ports).is_err());
        folder.remove_node(&four).unwrap();
        let text = folder.add_node(&four, &mut ports).unwrap_err().to_string();
        assert!(text.contains("add us-east-1/5 instead"), "{text}");
        drop(folder);
        // Neither the added nor the removed node makes the folder another cluster's.
        assert!(claim(root.path(), &topology(&["us-east-1"], 3)).is_ok());
    }

    /// Catches a secret that other users of the machine could read.
    #[test]
    fn secrets_are_private() {
        let root = tempfile::tempdir().unwrap();
        let folder = claim(root.path(), &topology(&["us-east-1"], 1)).unwrap();
        let node = &folder.nodes()[0];
        folder.prepare_node(node, &Counting).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.admin_token(node)), 0o600);
        assert_eq!(mode(&folder.node_folder(node)), 0o700);
        let token = std::fs::read_to_string(folder.admin_token(node)).unwrap();
        folder.prepare_node(node, &Counting).unwrap();
        assert_eq!(
            std::fs::read_to_string(folder.admin_token(node)).unwrap(),
            token
        );
    }
}
