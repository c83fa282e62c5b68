//! `keyrum cluster up`, for tests: real processes on a data folder that can be started again.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use keyrum_consensus::world::Blocking;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Ready, binary, dev, wait};

/// What a cluster is asked to be.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Names and numbers of nodes.
    pub regions: Vec<(&'static str, u64)>,
    /// Log entries between two snapshots.
    pub snapshot_entries: u64,
    /// Who may call: `any` or `declared`.
    pub credentials: &'static str,
    /// Whether it is a test cluster: its clock may be moved, and faults may be put into it.
    pub test_cluster: bool,
    /// Whether each node has an address of its own, 127.0.1.1 for the first. Only Linux has such.
    pub own_addresses: bool,
    /// More lines for the top of the topology file.
    pub lines: String,
    /// More environment for the supervisor and its nodes.
    pub envs: Vec<(String, String)>,
    /// More arguments for `cluster up`.
    pub arguments: Vec<String>,
}

impl Shape {
    /// One Region of `nodes` nodes.
    pub fn one_region(nodes: u64) -> Self {
        Self {
            regions: vec![(crate::sdk::HERE, nodes)],
            snapshot_entries: 10_000,
            credentials: "any",
            test_cluster: true,
            own_addresses: false,
            lines: String::new(),
            envs: Vec::new(),
            arguments: Vec::new(),
        }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "port = 0\ncredentials = {:?}\ntest_clock = {}\nsnapshot_entries = {}\n{}\n",
            self.credentials, self.test_cluster, self.snapshot_entries, self.lines
        );
        for (number, (name, nodes)) in (1..).zip(&self.regions) {
            let node = |id| match self.own_addresses {
                true => format!("{{ id = {id}, address = \"127.0.{number}.{id}\" }}"),
                false => format!("{{ id = {id} }}"),
            };
            let nodes: Vec<_> = (1..=*nodes).map(node).collect();
            let nodes = nodes.join(", ");
            writeln!(text, "[[region]]\nname = \"{name}\"\nnodes = [{nodes}]").expect("memory");
        }
        text
    }
}

/// A cluster's data folder, and the `cluster up` that runs on it, if one does. Nothing survives
/// the guard.
#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    shape: Shape,
    up: Option<Child>,
    ready: Option<Ready>,
}

/// A node as `keyrum cluster status --json` shows it.
#[derive(Debug, Clone, Deserialize)]
pub struct NodeLine {
    /// `REGION/ID`.
    pub node: String,
    /// How its process fares.
    pub process: String,
    /// Its process.
    pub pid: Option<u32>,
    /// URL for KMS calls.
    pub api: String,
    /// Its own folder.
    pub data: PathBuf,
    /// What it says of itself; `None` if it does not answer.
    pub status: Option<Value>,
}

impl NodeLine {
    /// A field of its status; null if it does not answer.
    pub fn say(&self, field: &str) -> &Value {
        self.status
            .as_ref()
            .map_or(&Value::Null, |status| &status[field])
    }

    /// A number of its status; 0 if it does not say.
    pub fn number(&self, field: &str) -> u64 {
        self.say(field).as_u64().unwrap_or(0)
    }
}

impl Cluster {
    /// A folder for a cluster that does not run yet.
    pub fn prepare(shape: &Shape) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self {
            folder,
            shape: shape.clone(),
            up: None,
            ready: None,
        }
    }

    /// Starts a new cluster and waits until it is ready.
    pub async fn up(shape: &Shape) -> Self {
        let mut cluster = Self::prepare(shape);
        cluster.start().await;
        cluster
    }

    /// Starts the cluster on its folder and waits until it is ready.
    pub async fn start(&mut self) {
        self.begin();
        self.become_ready().await;
    }

    /// Starts the cluster on its folder without waiting for anything.
    pub fn begin(&mut self) {
        let child = self.launch();
        self.up = Some(child);
    }

    /// Waits until a cluster that was begun is ready.
    pub async fn become_ready(&mut self) {
        let (ready_file, output) = (self.ready_file(), self.output_file());
        let child = self.up.as_mut().expect("the cluster was begun");
        self.ready = Some(dev::read_ready(&ready_file, child, &output).await);
    }

    /// Starts the cluster on its folder, which may fail; what it printed, if it ended instead.
    pub async fn try_start(&mut self) -> Result<(), String> {
        let before = self.output().len();
        let mut child = self.launch();
        let ready_file = self.ready_file();
        let look = async || {
            if let Ok(line) = std::fs::read(&ready_file) {
                return Some(Ok(line));
            }
            let ended = child.try_wait().expect("a child can be waited for");
            ended.map(Err)
        };
        match wait::until("ready file or end", wait::LONG, look).await {
            Ok(line) => {
                self.ready = Some(serde_json::from_slice(&line).expect("the ready file is JSON"));
                self.up = Some(child);
                Ok(())
            }
            Err(status) => Err(format!("{status}: {}", &self.output()[before..])),
        }
    }

    /// Starts the cluster on its folder without waiting.
    fn launch(&mut self) -> Child {
        assert!(self.up.is_none(), "it runs already");
        std::fs::write(self.config(), self.shape.text()).expect("a topology file");
        let _ = std::fs::remove_file(self.ready_file());
        let mut output = std::fs::File::options();
        let output = output
            .create(true)
            .append(true)
            .open(self.output_file())
            .expect("a file");
        let mut command = self.keyrum("cluster", &["up"]);
        command
            .arg("--config")
            .arg(self.config())
            .arg("--ready-file")
            .arg(self.ready_file());
        command.envs(self.shape.envs.iter().cloned());
        command.args(&self.shape.arguments);
        command.stdin(Stdio::null());
        command
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output);
        command.spawn().expect("the program can be started")
    }

    /// Lets the next start be of another shape, on the same folder.
    pub fn reshape(&mut self, shape: &Shape) {
        self.shape = shape.clone();
    }

    /// Where it is.
    pub fn ready(&self) -> &Ready {
        self.ready.as_ref().expect("the cluster was started")
    }

    /// URL of the endpoint for all Regions.
    pub fn endpoint(&self) -> &str {
        &self.ready().endpoint
    }

    /// Clients of an account in the first Region, for the endpoint and for each of its nodes.
    pub fn clients(&self, account: &str) -> Vec<aws_sdk_kms::Client> {
        let region = self.shape.regions[0].0;
        let nodes = &self.ready().regions[region].nodes;
        let urls = std::iter::once(self.endpoint()).chain(nodes.iter().map(|n| n.api.as_str()));
        urls.map(|url| crate::sdk::client(url, region, account))
            .collect()
    }

    /// The folder with everything of this cluster, the data folder among it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Its topology file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("topology.toml")
    }

    fn ready_file(&self) -> PathBuf {
        self.folder.path().join("ready.json")
    }

    fn output_file(&self) -> PathBuf {
        self.folder.path().join("output")
    }

    /// What `cluster up` has printed, in all its runs.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.output_file()).unwrap_or_default()
    }

    /// What a node's process has printed, in all its runs.
    pub fn node_output(&self, node: &str) -> String {
        let (region, id) = node.split_once('/').expect("REGION/ID");
        let file = self
            .data()
            .join(region)
            .join(format!("node-{id}"))
            .join("output");
        std::fs::read_to_string(file).unwrap_or_default()
    }

    /// A `keyrum` command about this cluster.
    pub fn keyrum(&self, verb: &str, args: &[&str]) -> Command {
        let mut command = Command::new(binary::keyrum());
        command.arg(verb).args(args).arg("--data").arg(self.data());
        command
    }

    /// Runs `keyrum cluster <args>`, which must succeed, without holding up the test's tasks.
    pub async fn command(&self, args: &[&str]) -> Output {
        let output = self.try_command(args).await;
        assert!(output.status.success(), "cluster {args:?}: {output:?}");
        output
    }

    /// Runs `keyrum cluster <args>`.
    pub async fn try_command(&self, args: &[&str]) -> Output {
        self.ask("cluster", args).await
    }

    /// Runs `keyrum <verb> <args>` about this cluster.
    pub async fn ask(&self, verb: &str, args: &[&str]) -> Output {
        run(self.keyrum(verb, args)).await
    }

    /// Every node as `keyrum cluster status` shows it.
    pub async fn status(&self) -> Vec<NodeLine> {
        let output = self.command(&["status", "--json"]).await;
        serde_json::from_slice(&output.stdout).expect("status is JSON")
    }

    /// The leader of the first Region, once there is one that others follow.
    pub async fn leader(&self) -> String {
        wait::until("leader", wait::LONG, async || {
            let lines = self.status().await;
            let term = lines.iter().map(|line| line.number("term")).max()?;
            let leads = |line: &&NodeLine| {
                line.say("role") == "leader"
                    && line.number("term") == term
                    && line.node.starts_with(self.shape.regions[0].0)
            };
            lines.iter().find(leads).map(|line| line.node.clone())
        })
        .await
    }

    /// Waits until every node answers, has applied the same log, and has the same digest as the
    /// others of its Region; returns the lines.
    pub async fn agree(&self) -> Vec<NodeLine> {
        let mut last = Vec::new();
        let deadline = tokio::time::Instant::now() + wait::LONG;
        loop {
            let lines = self.status().await;
            let same = lines.iter().all(|line| line.status.is_some())
                && self.shape.regions.iter().all(|(region, _)| {
                    let ours: Vec<_> = lines
                        .iter()
                        .filter(|line| line.node.starts_with(region))
                        .collect();
                    ours.windows(2).all(|two| {
                        two[0].number("applied") == two[1].number("applied")
                            && two[0].number("last_log") == two[0].number("applied")
                            && two[0].say("digest") == two[1].say("digest")
                    })
                });
            if same {
                return lines;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "the replicas do not agree: {lines:#?}, before that {last:#?}"
            );
            last = lines;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Sends the supervisor a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.up.as_ref().expect("it runs").id(), signal);
    }

    /// The supervisor's process.
    pub fn pid(&self) -> u32 {
        self.up.as_ref().expect("it runs").id()
    }

    /// Waits for the supervisor to end by itself.
    pub async fn ended(&mut self, limit: std::time::Duration) -> ExitStatus {
        let mut child = self.up.take().expect("it runs");
        wait::until("end of the supervisor", limit, async || {
            child.try_wait().expect("a child can be waited for")
        })
        .await
    }

    /// Stops it as Ctrl-C does.
    pub async fn stop(&mut self) {
        self.signal(Signal::INT);
        let status = self.ended(wait::SHORT).await;
        assert!(status.success(), "{status:?}: {}", self.output());
    }

    /// The processes that `run.json` tells of, and the supervisor's.
    pub fn pids(&self) -> Vec<u32> {
        let nodes = self.node_pids().into_iter();
        nodes.chain(self.up.as_ref().map(Child::id)).collect()
    }

    /// The nodes' processes that `run.json` tells of, in order.
    pub fn node_pids(&self) -> Vec<u32> {
        let file = std::fs::read(self.data().join("run.json")).unwrap_or_default();
        let run: Value = serde_json::from_slice(&file).unwrap_or_default();
        let nodes = run["regions"]
            .as_object()
            .into_iter()
            .flat_map(|map| map.values());
        let nodes = nodes.flat_map(|region| region["nodes"].as_array().into_iter().flatten());
        let pids = nodes.filter_map(|node| node["pid"].as_u64()?.try_into().ok());
        pids.filter(|&pid| pid != 0).collect()
    }
}

/// Runs a command to its end beside the test's other tasks.
pub(crate) async fn run(mut command: Command) -> Output {
    let work = move || {
        command
            .stdin(Stdio::null())
            .output()
            .expect("the program can be started")
    };
    Blocking::Threads.run(work).await
}

/// Sends a process a signal; nothing happens when it is gone.
pub(crate) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Whether a process of that number runs `keyrum`. One that has ended but that nobody has asked
/// about does not run.
pub(crate) fn runs(pid: u32) -> bool {
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&arguments).contains("keyrum")
}

impl Cluster {
    /// Whether any process of this list still runs.
    pub fn any_runs(pids: &[u32]) -> bool {
        pids.iter().any(|&pid| runs(pid))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for pid in self.pids() {
            if runs(pid) {
                send(pid, Signal::KILL);
            }
        }
        if let Some(mut child) = self.up.take() {
            // Nothing to do about an error: the process is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("keyrum cluster up printed:\n{}", self.output());
            for node in self.ready.iter().flat_map(Ready::nodes) {
                let output = std::fs::read_to_string(node.data.join("output")).unwrap_or_default();
                eprintln!("{} printed:\n{output}", node.data.display());
            }
        }
    }
}
