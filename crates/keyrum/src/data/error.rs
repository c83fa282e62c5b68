//! Why a data folder cannot be used.

use std::io;
use std::path::{Path, PathBuf};

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
    /// There are nodes' data, and no record of which cluster they make up.
    #[error("{} is missing, but there is data of the Regions' nodes, such as {}: restore cluster.json from where it went or from a copy of the folder, or name another folder with --data; nothing was changed", folder.join("cluster.json").display(), data.display())]
    RecordGone {
        /// Which folder.
        folder: PathBuf,
        /// A node's own folder.
        data: PathBuf,
    },
    /// There is no cluster in it.
    #[error("the data folder {} holds no cluster: `keyrum cluster up` makes one", folder.display())]
    Empty {
        /// Which folder.
        folder: PathBuf,
    },
    /// A reset of it was cut short, and only who uses the whole folder can finish it.
    #[error("the data folder {} is being reset, or a reset of it was cut short: `keyrum cluster up` or `keyrum dev` on it finishes that", folder.display())]
    Resetting {
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
    /// A Region can join only once.
    #[error("nothing was changed: the cluster has a Region {region} already; it has {held}")]
    RegionExists {
        /// The Region asked for.
        region: Region,
        /// The Regions and nodes there are.
        held: String,
    },
    /// There are data of a Region, and the cluster's record does not tell of it.
    #[error("nothing was changed: {} has data of a Region {region} that cluster.json does not tell of: restore the cluster.json that does, or move that folder away", folder.display())]
    UnknownData {
        /// The Region asked for.
        region: Region,
        /// Its folder.
        folder: PathBuf,
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
    #[error("{}", refused(path, cause))]
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

/// What is wrong where the data folder is or should be, and what helps.
fn refused(path: &Path, cause: &io::Error) -> String {
    use io::ErrorKind::{
        AlreadyExists, NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem,
        StorageFull,
    };
    let other = "name another data folder with --data";
    let at = path.display();
    match cause.kind() {
        NotADirectory | AlreadyExists => {
            let there = path.ancestors().find(|path| path.exists());
            match there.filter(|there| !there.is_dir()) {
                Some(file) => format!("{} is a file, not a folder: {other}", file.display()),
                None => format!("{at}: {cause}; {other}"),
            }
        }
        PermissionDenied | ReadOnlyFilesystem => {
            format!("{at} cannot be used ({cause}): let this user write there, or {other}")
        }
        StorageFull | QuotaExceeded => {
            format!("{at} cannot be written, the disk is full ({cause}): make room, or {other}")
        }
        _ => format!("{at} cannot be used ({cause}): {other}"),
    }
}
