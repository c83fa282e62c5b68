//! Why a data folder cannot be used.

use std::io;
use std::path::PathBuf;

use keyrum_types::Region;

use crate::cli::NodeName;
use crate::ports::NoFreePort;

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
    /// A Region's secrets cannot be made or read.
    #[error(transparent)]
    KeyFile(#[from] keyrum_crypto::KeyFileError),
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
