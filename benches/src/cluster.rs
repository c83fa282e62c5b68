//! Keyrum clusters as their users start them: `keyrum cluster up` and `keyrum dev`.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::client::{self, Call, Connection};
use crate::process::{Guarded, LOOK_EVERY, gone, signal};
use crate::{Failure, Setting};

/// How long a start may take before the run is given up.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How a group of three reads in the table; every write is synced before it is answered.
pub(crate) const THREE_NODES: &str = "3 nodes, fsynced";

/// Where a cluster and its nodes are, as its ready file says.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Ready {
    pub(crate) endpoint: String,
    pub(crate) regions: BTreeMap<String, Region>,
}

/// A Region's nodes.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Region {
    pub(crate) nodes: Vec<Node>,
}

/// One node.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Node {
    pub(crate) api: String,
    pub(crate) admin: String,
    pub(crate) data: PathBuf,
    pub(crate) pid: u32,
}

/// A cluster that runs, and the folder it can be started on again.
pub(crate) struct Cluster {
    up: Guarded,
    ready: Ready,
}

impl Cluster {
    /// Starts one Region of three nodes on a folder and waits for its ready file.
    pub(crate) async fn up(setting: &Setting, folder: &Path) -> Result<Self, Failure> {
        let topology = folder.join("topology.toml");
        std::fs::create_dir_all(folder)?;
        std::fs::write(
            &topology,
            format!(
                "port = 0\ncredentials = \"any\"\n\n[[region]]\nname = \"{}\"\n\
                 nodes = [{{ id = 1 }}, {{ id = 2 }}, {{ id = 3 }}]\n",
                client::REGION
            ),
        )?;
        let mut command = Command::new(&setting.keyrum);
        command.args(["cluster", "up", "--config"]).arg(topology);
        Self::start(command, folder).await
    }

    /// Starts two Regions of three nodes in one process on a folder and waits for its ready file.
    pub(crate) async fn dev(setting: &Setting, folder: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder)?;
        let mut command = Command::new(&setting.keyrum);
        command.args(["dev", "--port", "0"]);
        Self::start(command, folder).await
    }

    async fn start(mut command: Command, folder: &Path) -> Result<Self, Failure> {
        let ready_file = folder.join("ready.json");
        let _ = std::fs::remove_file(&ready_file);
        let output = folder.join("output");
        let printed = File::create(&output)?;
        command
            .arg("--data")
            .arg(folder.join("data"))
            .arg("--ready-file")
            .arg(&ready_file);
        command
            .stdin(Stdio::null())
            .stdout(printed.try_clone()?)
            .stderr(printed);
        let mut up = Guarded::start(&mut command)?;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Ok(line) = std::fs::read(&ready_file) {
                return Ok(Self {
                    up,
                    ready: serde_json::from_slice(&line)?,
                });
            }
            let said = || std::fs::read_to_string(&output).unwrap_or_default();
            up.still_runs()
                .map_err(|error| format!("{error}: {}", said()))?;
            if Instant::now() > deadline {
                return Err(format!("the cluster does not become ready: {}", said()).into());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Where it is.
    pub(crate) fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The process that was started by hand.
    pub(crate) fn pid(&self) -> u32 {
        self.up.pid()
    }

    /// The nodes of the only Region.
    pub(crate) fn nodes(&self) -> &[Node] {
        self.ready
            .regions
            .values()
            .next()
            .map_or(&[], |region| &region.nodes)
    }

    /// The nodes' processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.nodes().iter().map(|node| node.pid).collect()
    }

    /// The node that leads the only Region.
    pub(crate) async fn leader(&self) -> Result<&Node, Failure> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            for node in self.nodes() {
                if node.status().await?["role"] == "leader" {
                    return Ok(node);
                }
            }
            if Instant::now() > deadline {
                return Err("no node leads".into());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Stops it in order.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        let pids = self.pids();
        self.up.stop().await?;
        gone(&pids).await
    }

    /// Ends every process at once, as a loss of power ends them.
    pub(crate) async fn kill(self) -> Result<(), Failure> {
        let mut pids = self.pids();
        pids.push(self.pid());
        pids.iter().for_each(|&pid| signal(pid, Signal::KILL));
        gone(&pids).await
    }
}

impl Node {
    /// What the node says of itself.
    pub(crate) async fn status(&self) -> Result<Value, Failure> {
        self.admin("GET", "/status").await
    }

    /// Has the node take a snapshot, and waits for it.
    pub(crate) async fn snapshot(&self) -> Result<(), Failure> {
        self.admin("POST", "/snapshot").await.map(drop)
    }

    async fn admin(&self, method: &str, path: &str) -> Result<Value, Failure> {
        let token = std::fs::read_to_string(self.data.join("admin.token"))?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
             content-length: 0\r\n\r\n",
            token.trim()
        );
        let mut connection = Connection::open(&self.admin).await?;
        let answer = connection.exchange(request.as_bytes()).await?;
        answer.good()?;
        Ok(serde_json::from_slice(answer.body)?)
    }
}

/// Makes a call again and again until it succeeds; how long after `since` that was.
pub(crate) async fn first_success(
    addr: &str,
    call: &Call<'_>,
    since: Instant,
) -> Result<Duration, Failure> {
    loop {
        match client::once(addr, call).await {
            Ok(_) => return Ok(since.elapsed()),
            Err(error) if since.elapsed() > START_LIMIT => return Err(error),
            Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}
