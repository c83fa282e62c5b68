//! How `keyrum cluster ...` speaks to a running `cluster up`: one line of JSON there, one back,
//! over a Unix socket that only this user may open.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::data::hex;
use crate::power::Loss;

/// A Unix socket's path has at most 107 bytes on Linux and 103 on macOS.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// What is asked of the supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum Request {
    /// How each node's process fares.
    Processes,
    /// Stop everything.
    Stop,
    /// End a node's process at once.
    Kill {
        node: String,
        /// After how many milliseconds it is started again by itself.
        #[serde(default)]
        for_ms: Option<u64>,
    },
    /// Take the power of nodes away at one moment; only where they were started for that.
    CutPower { nodes: BTreeSet<String>, loss: Loss },
    /// Start it again.
    Restart { node: String },
    /// Freeze it.
    Pause {
        node: String,
        /// After how many milliseconds it goes on by itself.
        #[serde(default)]
        for_ms: Option<u64>,
    },
    /// Let it go on.
    Resume { node: String },
    /// Start a new node and make it a voter.
    Add { node: String },
    /// Take a node out of its group and stop it.
    Remove { node: String },
    /// Make a Region with nodes 1 to `nodes`, and have the others know it.
    AddRegion { region: String, nodes: u64 },
    /// Start every node that has no process, and let those go on that are frozen.
    Heal,
    /// Damage a file of a node that has no process.
    Damage {
        node: String,
        harm: Harm,
        file: String,
    },
}

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Harm {
    /// A bit is turned over.
    Flip,
    /// The last bytes that were written go.
    Tear,
}

/// What the supervisor says to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reply {
    /// It is done; in words.
    Done(String),
    /// It is not; in words.
    Failed(String),
    /// Every node's process.
    Processes(Vec<Process>),
    /// Nodes have no power any more.
    Dark {
        /// How many of their unsynced changes were undone, in whole or in part.
        undone: u64,
    },
    /// What was healed, and what could not be; in words.
    Healed {
        done: Vec<String>,
        failed: Vec<String>,
    },
}

/// A node's process as the supervisor sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Process {
    /// `REGION/ID`.
    pub(crate) node: String,
    /// `None` when there is no process.
    pub(crate) pid: Option<u32>,
    /// `running`, `paused`, `killed` or how it ended.
    pub(crate) condition: String,
    /// How often it was killed and frozen since the supervisor's start.
    #[serde(default)]
    pub(crate) kills: u64,
    #[serde(default)]
    pub(crate) pauses: u64,
}

/// Where the socket of a data folder is: in it, unless its path is too long for a socket.
pub(crate) fn socket_path(root: &Path, cluster_id: &str) -> PathBuf {
    let inside = root.join("control.sock");
    if inside.as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX {
        return inside;
    }
    let suffix = hex(&std::process::id().to_le_bytes());
    std::env::temp_dir().join(format!("keyrum-{cluster_id}-{suffix}.sock"))
}

/// Listens there; a socket left over from a crash goes first.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Asks the supervisor behind `path`.
pub(crate) async fn ask(path: &Path, request: &Request) -> io::Result<Reply> {
    let mut stream = BufReader::new(UnixStream::connect(path).await?);
    send(&mut stream, request).await?;
    receive(&mut stream)
        .await?
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Sends one line.
pub(crate) async fn send<T: Serialize>(
    stream: &mut BufReader<UnixStream>,
    message: &T,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

/// Receives one line; `None` at the end.
pub(crate) async fn receive<T: for<'de> Deserialize<'de>>(
    stream: &mut BufReader<UnixStream>,
) -> io::Result<Option<T>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}
