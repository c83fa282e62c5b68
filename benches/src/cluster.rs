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
    keyrum: PathBuf,
    data: PathBuf,
}

impl Cluster {
    /// Starts one Region of three nodes on a folder and waits for its ready file.
    pub(crate) async fn up(setting: &Setting, folder: &Path) -> Result<Self, Failure> {
        Self::up_regions(setting, folder, &[client::REGION]).await
    }

    /// Starts one Region of one node on a folder and waits for its ready file.
    pub(crate) async fn up_alone(setting: &Setting, folder: &Path) -> Result<Self, Failure> {
        Self::up_nodes(setting, folder, &[client::REGION], "{ id = 1 }").await
    }

    /// Starts one Region of three nodes with these lines in its topology file.
    pub(crate) async fn up_with(
        setting: &Setting,
        folder: &Path,
        lines: &str,
    ) -> Result<Self, Failure> {
        let nodes = "{ id = 1 }, { id = 2 }, { id = 3 }";
        Self::up_lines(setting, folder, &[client::REGION], nodes, lines).await
    }

    /// Starts Regions of three nodes each on a folder and waits for their ready file.
    pub(crate) async fn up_regions(
        setting: &Setting,
        folder: &Path,
        regions: &[&str],
    ) -> Result<Self, Failure> {
        let nodes = "{ id = 1 }, { id = 2 }, { id = 3 }";
        Self::up_nodes(setting, folder, regions, nodes).await
    }

    async fn up_nodes(
        setting: &Setting,
        folder: &Path,
        regions: &[&str],
        nodes: &str,
    ) -> Result<Self, Failure> {
        Self::up_lines(setting, folder, regions, nodes, "").await
    }

    async fn up_lines(
        setting: &Setting,
        folder: &Path,
        regions: &[&str],
        nodes: &str,
        lines: &str,
    ) -> Result<Self, Failure> {
        let topology = folder.join("topology.toml");
        std::fs::create_dir_all(folder)?;
        let mut text = "port = 0\ncredentials = \"any\"\ntest_clock = true\n".to_owned();
        text.push_str(lines);
        for region in regions {
            text.push_str(&format!(
                "\n[[region]]\nname = \"{region}\"\nnodes = [{nodes}]\n"
            ));
        }
        std::fs::write(&topology, text)?;
        let mut command = Command::new(&setting.keyrum);
        command.args(["cluster", "up", "--config"]).arg(topology);
        Self::start(setting, command, folder).await
    }

    /// Starts Regions of three nodes in one process on a folder and waits for its ready file.
    pub(crate) async fn dev(
        setting: &Setting,
        folder: &Path,
        regions: &[&str],
    ) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder)?;
        let mut command = Command::new(&setting.keyrum);
        command.args(["dev", "--port", "0", "--regions", &regions.join(",")]);
        Self::start(setting, command, folder).await
    }

    async fn start(
        setting: &Setting,
        mut command: Command,
        folder: &Path,
    ) -> Result<Self, Failure> {
        let ready_file = folder.join("ready.json");
        let _ = std::fs::remove_file(&ready_file);
        let output = folder.join("output");
        let printed = File::create(&output)?;
        let data = folder.join("data");
        command
            .arg("--data")
            .arg(&data)
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
                    keyrum: setting.keyrum.clone(),
                    data,
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

    /// The nodes of a Region.
    pub(crate) fn nodes_of(&self, region: &str) -> &[Node] {
        self.ready
            .regions
            .get(region)
            .map_or(&[], |region| &region.nodes)
    }

    /// The nodes' processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let regions = self.ready.regions.values();
        let nodes = regions.flat_map(|region| &region.nodes);
        nodes.map(|node| node.pid).collect()
    }

    /// Does something to every node of a Region at once, such as `kill`.
    pub(crate) async fn each_node(&self, verb: &str, region: &str) -> Result<(), Failure> {
        let mut running = Vec::new();
        for id in 1..=self.nodes_of(region).len() {
            let mut command = Command::new(&self.keyrum);
            command.args(["cluster", verb, &format!("{region}/{id}"), "--data"]);
            command.arg(&self.data).stdin(Stdio::null());
            command.stdout(Stdio::null());
            running.push(Guarded::start(&mut command)?);
        }
        for command in running {
            command.succeeded().await?;
        }
        Ok(())
    }

    /// The node that leads the only Region.
    pub(crate) async fn leader(&self) -> Result<&Node, Failure> {
        first_leader(self.nodes()).await
    }

    /// The node that leads a Region.
    pub(crate) async fn leader_of(&self, region: &str) -> Result<&Node, Failure> {
        first_leader(self.nodes_of(region)).await
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

/// The node among these that leads, once one does. A node that does not answer does not.
async fn first_leader(nodes: &[Node]) -> Result<&Node, Failure> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        for node in nodes {
            if node.status().await.is_ok_and(|s| s["role"] == "leader") {
                return Ok(node);
            }
        }
        if Instant::now() > deadline {
            return Err("no node leads".into());
        }
        sleep(LOOK_EVERY).await;
    }
}

impl Node {
    /// What the node says of itself.
    pub(crate) async fn status(&self) -> Result<Value, Failure> {
        self.admin("GET", "/status", "").await
    }

    /// Moves the clock of the node's Region, and waits until what became due has happened there.
    pub(crate) async fn advance_clock(&self, by: Duration) -> Result<Value, Failure> {
        let body = format!("{{\"by_ms\":{}}}", by.as_millis());
        self.admin("POST", "/clock/advance", &body).await
    }

    /// Has the node take a snapshot, and waits for it.
    pub(crate) async fn snapshot(&self) -> Result<(), Failure> {
        self.admin("POST", "/snapshot", "").await.map(drop)
    }

    async fn admin(&self, method: &str, path: &str, body: &str) -> Result<Value, Failure> {
        let token = std::fs::read_to_string(self.data.join("admin.token"))?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
             content-length: {}\r\n\r\n{body}",
            token.trim(),
            body.len(),
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
