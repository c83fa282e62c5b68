//! The data folder: which cluster lives in it, and what each node needs to find there.
//!
//! ```text
//! DIR/lock                      held by the `dev` or `cluster up` that uses the folder
//! DIR/cluster.json              the cluster's id, its Regions, nodes and chosen ports
//! DIR/topology.toml             what the nodes of a running `cluster up` go by
//! DIR/run.json                  while it runs: endpoint, listeners, processes
//! DIR/certs/                    the cluster's certificate authority and the nodes' certificates,
//!                               which `cluster certs` replaces while they run
//! DIR/<region>/domain.key       the Region's root secret
//! DIR/<region>/region.key       unwraps what other Regions send; its public half is in cluster.json
//! DIR/<region>/node-<id>/store/ the node's log, snapshots and history
//! DIR/<region>/node-<id>/started     there once the node has had a store
//! DIR/<region>/node-<id>/admin.token
//! DIR/<region>/node-<id>/output what the node's process printed, under `cluster up`
//! ```
//!
//! Everything in it is readable by its owner only.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use keyrum_crypto::RegionPublicKey;
use keyrum_types::{Entropy, NodeId, Region};

use crate::cli::NodeName;
use crate::files;
use crate::ports::{self, Ports};
use crate::topology::{NodePlan, Topology, localhost};

mod error;
mod joining;
mod record;

pub(crate) use error::DataError;
pub(crate) use record::{NodeRecord, Record, RegionRecord, Unnamed};

use record::{new_record, newcomers, read_record};

/// The file's name beside `domain.key`.
const REGION_KEY: &str = "region.key";

/// A data folder whose cluster is known.
#[derive(Debug)]
pub(crate) struct DataFolder {
    root: PathBuf,
    record: Record,
    /// Whether this call made the cluster.
    fresh: bool,
    /// What was there before this call.
    before: Before,
    /// Those of its nodes.
    ports: Ports,
    /// Held while the folder is used by this process as a whole.
    _lock: Option<File>,
}

impl DataFolder {
    /// Takes the folder for this process alone, makes the cluster in it if there is none, and
    /// sees that every node has ports nobody else listens on.
    pub(crate) fn claim(
        root: &Path,
        topology: &Topology,
        unnamed: Unnamed,
        entropy: &dyn Entropy,
    ) -> Result<Self, DataError> {
        let root = absolute(root)?;
        // Before anything is written: a new cluster would lock its nodes out of their data.
        record_or_empty(&root)?;
        let before = Before::of(&root);
        files::private_folder(&root).map_err(io_at(&root))?;
        let lock = lock(&root)?;
        let mut joining = Vec::new();
        let (record, fresh) = match read_record(&root)? {
            Some(mut record) => match joining::prepare(&root, &mut record, topology, unnamed) {
                Ok(new) => {
                    joining = new;
                    (record, false)
                }
                // A start that failed before it had a node commits nobody to what it asked for.
                Err(_) if !record.is_begun() && data_in(&root).is_none() => {
                    let mut new = new_record(topology, entropy);
                    // There are certificates for it.
                    new.cluster_id = record.cluster_id;
                    (new, true)
                }
                Err(other) => return Err(other),
            },
            None => (new_record(topology, entropy), true),
        };
        let mut folder = Self {
            root,
            record,
            fresh,
            before,
            ports: Ports::default(),
            _lock: Some(lock),
        };
        let settled = folder
            .make_domain_keys(&joining, entropy)
            .and_then(|()| folder.settle(topology, entropy));
        match settled {
            Ok(()) => Ok(folder),
            Err(error) => {
                folder.discard();
                Err(error)
            }
        }
    }

    fn settle(&mut self, topology: &Topology, entropy: &dyn Entropy) -> Result<(), DataError> {
        self.settle_ports(topology, entropy)?;
        if self.record.resetting {
            self.finish_reset(entropy)
        } else {
            self.establish(entropy)
        }
    }

    /// After a start that failed before it had a node: leaves nothing where nothing was. What
    /// cannot be removed does no harm.
    pub(crate) fn discard(&self) {
        if self.before == Before::Something || data_in(&self.root).is_some() {
            return;
        }
        let regions = self.record.regions.iter().map(|r| r.name.as_str());
        // The record first: without it, what is left counts for nothing.
        let names = ["cluster.json", "topology.toml", "certs"].into_iter();
        for name in names.chain(regions).chain(["lock"]) {
            let _ = files::remove_all(&self.root.join(name));
        }
        if self.before == Before::NoFolder {
            let _ = std::fs::remove_dir(&self.root);
        }
    }

    /// Makes the secrets the nodes need, then remembers the cluster: a crash on the way leaves a
    /// folder that still counts as fresh, or as being reset.
    fn establish(&mut self, entropy: &dyn Entropy) -> Result<(), DataError> {
        self.ensure_certs()?;
        let names = self.record.regions.iter().map(|region| region.name.clone());
        for (at, name) in names.collect::<Vec<_>>().iter().enumerate() {
            let path = self.domain_key(name);
            // Only a fresh cluster draws a domain key: a lost one cannot be replaced, and the
            // nodes say so.
            if self.fresh && !path.exists() {
                self.make_domain_keys(std::slice::from_ref(name), entropy)?;
            }
            // Likewise, but a cluster made before Regions had one gets it now.
            let pinned = &mut self.record.regions[at].public_key;
            if pinned.is_none() {
                let path = self.root.join(name.as_str()).join(REGION_KEY);
                let key = match path.exists() {
                    true => keyrum_crypto::load_region_key(&path)?,
                    false => keyrum_crypto::create_region_key(&path, entropy)?,
                };
                *pinned = Some(key.public().to_string());
            }
        }
        for node in self.nodes() {
            self.prepare_node(&node, entropy)?;
        }
        self.record.resetting = false;
        self.save()?;
        self.fresh = false;
        Ok(())
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
        if folder.record.resetting {
            return Err(DataError::Resetting {
                folder: folder.root,
            });
        }
        if folder.node(node).is_none() {
            return Err(DataError::NoSuchNode {
                held: folder.record.describe_now(),
                folder: folder.root,
                node: node.clone(),
            });
        }
        Ok(folder)
    }

    /// Reads a folder without taking it.
    pub(crate) fn look(root: &Path) -> Result<Self, DataError> {
        let root = absolute(root)?;
        match record_or_empty(&root)? {
            Some(record) => Ok(Self {
                root,
                record,
                fresh: false,
                before: Before::Something,
                ports: Ports::default(),
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

    /// Where the Region's key is that others wrap material to.
    pub(crate) fn region_key(&self, region: &Region) -> PathBuf {
        self.root.join(region.as_str()).join(REGION_KEY)
    }

    /// The public keys of the Regions that one of them knows, itself among them, as pinned when
    /// each was made.
    pub(crate) fn pinned_keys(
        &self,
        own: &Region,
    ) -> Result<BTreeMap<Region, RegionPublicKey>, DataError> {
        let pinned = |region: &RegionRecord| {
            let text = region.public_key.as_deref().unwrap_or_default();
            let key = text.parse().map_err(|error| DataError::Unreadable {
                file: self.root.join("cluster.json"),
                what: format!("public_key of {}: {error}", region.name),
            })?;
            Ok((region.name.clone(), key))
        };
        let known = self.record.regions.iter();
        let known = known.filter(|region| region.name == *own || region.is_known());
        known.map(pinned).collect()
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

    /// The file that says that a node has had a store. It lies outside the store, so that it
    /// outlives it.
    pub(crate) fn started_file(&self, node: &NodeName) -> PathBuf {
        self.node_folder(node).join("started")
    }

    /// Whether a node has had a store and has none now. It may have voted, so it must not start.
    pub(crate) fn is_gone(&self, node: &NodeName) -> bool {
        let noted = self.node(node).is_some_and(|record| record.started);
        // What cannot be looked at is not known to be missing; opening the store says why.
        let started = noted || self.started_file(node).try_exists().unwrap_or(true);
        started && !self.has_store(node)
    }

    /// Whether a node's store was ever opened: the store makes its mark before anything else
    /// counts.
    fn has_store(&self, node: &NodeName) -> bool {
        let mark = self.store(node).join("mark");
        mark.try_exists().unwrap_or(true)
    }

    /// Where a node answers operators; port 0, where nobody listens, if it is unknown.
    pub(crate) fn admin_at(&self, node: &NodeName) -> SocketAddr {
        let nobody = || (localhost(), 0).into();
        self.node(node)
            .map_or_else(nobody, |record| record.admin_at())
    }

    /// Where a node's admin token is.
    pub(crate) fn admin_token(&self, node: &NodeName) -> PathBuf {
        self.node_folder(node).join("admin.token")
    }

    /// A node's address and ports.
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
            .map(|node| (node.id, node.peer_at().to_string()))
            .collect()
    }

    /// Where the nodes of the other Regions listen for their peers.
    pub(crate) fn neighbours(&self, region: &Region) -> BTreeMap<Region, BTreeMap<NodeId, String>> {
        let others = self.record.regions.iter();
        let others = others.filter(|other| other.name != *region && other.is_known());
        others
            .map(|other| (other.name.clone(), self.peers(&other.name)))
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
            // At once: a crash must not leave a token that opens to nobody.
            files::replace(&token, hex(&random).as_bytes()).map_err(io_at(&token))?;
        }
        Ok(())
    }

    /// Remembers that every Region has been founded, and which nodes have data.
    pub(crate) fn note_founded(&mut self) -> Result<(), DataError> {
        let before = self.record.clone();
        let begun: Vec<bool> = self
            .nodes()
            .iter()
            .map(|node| self.has_store(node))
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
    /// ports and certificates stay. No node may run. If it is cut short, whoever claims the folder
    /// next finishes it.
    pub(crate) fn reset(&mut self, entropy: &dyn Entropy) -> Result<(), DataError> {
        self.begin_reset()?;
        self.finish_reset(entropy)
    }

    /// Remembers, before anything is removed, that all of it goes: a part of it would be data that
    /// a node lost.
    fn begin_reset(&mut self) -> Result<(), DataError> {
        self.record.resetting = true;
        for region in &mut self.record.regions {
            region.founded = false;
            region
                .nodes
                .iter_mut()
                .for_each(|node| node.started = false);
        }
        self.save()
    }

    /// Removes what a reset has left, then makes the cluster anew.
    fn finish_reset(&mut self, entropy: &dyn Entropy) -> Result<(), DataError> {
        for path in self.keys_and_history() {
            files::remove_all(&path).map_err(io_at(&path))?;
        }
        self.draw_locked_region_keys_again()?;
        self.fresh = true;
        self.establish(entropy)
    }

    /// A Region's key that is locked opens with the domain key that a reset removes.
    fn draw_locked_region_keys_again(&mut self) -> Result<(), DataError> {
        for at in 0..self.record.regions.len() {
            let path = self.region_key(&self.record.regions[at].name);
            let read = keyrum_crypto::load_region_key(&path);
            if matches!(read, Err(keyrum_crypto::KeyFileError::Locked { .. })) {
                // First what says that it is to be there.
                self.record.regions[at].public_key = None;
                self.save()?;
                files::remove_all(&path).map_err(io_at(&path))?;
            }
        }
        Ok(())
    }

    /// What a reset removes.
    fn keys_and_history(&self) -> Vec<PathBuf> {
        let of_node = |node| [self.started_file(&node), self.store(&node)];
        let of_region = |region: &RegionRecord| self.domain_key(&region.name);
        let nodes = self.nodes().into_iter().flat_map(of_node);
        nodes
            .chain(self.record.regions.iter().map(of_region))
            .collect()
    }

    /// Whether a node of this name can be added.
    pub(crate) fn check_unused(&self, node: &NodeName) -> Result<(), DataError> {
        let region = self
            .region(&node.region)
            .ok_or_else(|| DataError::NoSuchRegion {
                region: node.region.clone(),
            })?;
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
        Ok(())
    }

    /// Remembers a new node, with ports for it.
    pub(crate) fn add_node(
        &mut self,
        node: &NodeName,
        entropy: &dyn Entropy,
    ) -> Result<NodeRecord, DataError> {
        self.check_unused(node)?;
        let mut record = NodeRecord::without_ports(node.id);
        record.address = self.record.next_address(&node.region);
        let address = record.address;
        for port in record.ports_mut() {
            *port = self.ports.free(address, entropy)?;
        }
        let region = self.region_mut(&node.region)?;
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

    /// Forgets a node that its group never heard of, with all it has: as if it had never been
    /// added.
    pub(crate) fn unmake_node(&mut self, node: &NodeName) -> Result<(), DataError> {
        self.remove_data(node)?;
        let region = self.region_mut(&node.region)?;
        region.nodes.retain(|record| record.id != node.id);
        self.save()
    }

    /// Removes a node's own folder.
    pub(crate) fn remove_data(&self, node: &NodeName) -> Result<(), DataError> {
        let folder = self.node_folder(node);
        files::remove_all(&folder).map_err(io_at(&folder))
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
        entropy: &dyn Entropy,
    ) -> Result<(), DataError> {
        let ports = &mut self.ports;
        let plans = topology.regions.iter().flat_map(|region| &region.nodes);
        plans
            .map(toml::Spanned::get_ref)
            .flat_map(|plan| [plan.api, plan.peer, plan.admin])
            .for_each(|port| ports.leave_named(port));
        let mut wanting = Vec::new();
        for region in &mut self.record.regions {
            for node in &mut region.nodes {
                let name = NodeName {
                    region: region.name.clone(),
                    id: node.id,
                };
                let plan = plan_of(topology, &name);
                if let Some(plan) = plan {
                    node.address = plan.address;
                }
                let address = node.address;
                for (asked, port) in [
                    (plan.map_or(0, |p| p.api), &mut node.api),
                    (plan.map_or(0, |p| p.peer), &mut node.peer),
                    (plan.map_or(0, |p| p.admin), &mut node.admin),
                ] {
                    if asked != 0 {
                        if !ports::is_free((address, asked).into()) {
                            return Err(DataError::PortTaken {
                                port: asked,
                                node: name,
                            });
                        }
                        *port = asked;
                    } else if *port == 0 || !ports.take_again((address, *port).into()) {
                        wanting.push((address, port));
                    }
                }
            }
        }
        for (address, port) in wanting {
            *port = ports.free(address, entropy)?;
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

/// What was where a data folder is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    NoFolder,
    EmptyFolder,
    Something,
}

impl Before {
    fn of(root: &Path) -> Self {
        match std::fs::read_dir(root).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Self::EmptyFolder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::NoFolder,
            Ok(false) | Err(_) => Self::Something,
        }
    }
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

/// The record of the cluster in a folder, `None` if no cluster ever ran there.
fn record_or_empty(root: &Path) -> Result<Option<Record>, DataError> {
    let record = read_record(root)?;
    match data_in(root).filter(|_| record.is_none()) {
        Some(data) => Err(DataError::RecordGone {
            folder: root.to_owned(),
            data,
        }),
        None => Ok(record),
    }
}

/// Where a node has or had data, if one of them has, without a record of which there are.
fn data_in(root: &Path) -> Option<PathBuf> {
    let nodes = below(root).into_iter().flat_map(|region| below(&region));
    nodes.into_iter().find(|node| has_data(node))
}

/// Whether a node of a Region has or had data, without a record of which there are.
fn data_in_region(root: &Path, region: &Region) -> bool {
    below(&root.join(region.as_str()))
        .iter()
        .any(|node| has_data(node))
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn has_data(node: &Path) -> bool {
    node.join("started").exists() || node.join("store").join("mark").exists()
}

/// Whether a process has a folder for itself.
pub(crate) fn is_held(root: &Path) -> bool {
    let file = File::open(root.join("lock"));
    // What cannot be looked at may be held. A lock that was had for the look goes with the file.
    !matches!(file.map(|file| file.try_lock_shared()), Ok(Ok(())))
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

/// Says where the system refused something.
pub(crate) fn io_at(path: &Path) -> impl FnOnce(io::Error) -> DataError {
    let path = path.to_owned();
    move |cause| DataError::Io { path, cause }
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod joining_tests;
