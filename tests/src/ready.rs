//! The ready file: what a running cluster says about itself.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// Where a cluster and its nodes are.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    /// URL of the endpoint for all Regions.
    pub endpoint: String,
    /// By name.
    pub regions: BTreeMap<String, Nodes>,
}

/// A Region's nodes.
#[derive(Debug, Clone, Deserialize)]
pub struct Nodes {
    /// In the order of their ids.
    pub nodes: Vec<Node>,
}

/// One node.
#[derive(Debug, Clone, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: u64,
    /// URL for KMS calls.
    pub api: String,
    /// `HOST:PORT` for its peers.
    pub peer: String,
    /// URL for operators.
    pub admin: String,
    /// Its own folder.
    pub data: PathBuf,
    /// Its process; 0 while it has none.
    pub pid: u32,
}

impl Ready {
    /// Every node of every Region.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.regions.values().flat_map(|region| &region.nodes)
    }

    /// The cluster's data folder.
    pub fn data(&self) -> PathBuf {
        let node = self.nodes().next().expect("a cluster has a node");
        // <data>/<region>/node-<id>
        node.data
            .ancestors()
            .nth(2)
            .expect("a node's folder is in the data folder")
            .to_owned()
    }
}
