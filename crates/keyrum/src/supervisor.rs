//! `keyrum cluster up`: one process per node, and the endpoint in front of them.
//!
//! The supervisor starts nodes and never restarts one by itself: whoever studies faults wants to
//! see them. It takes requests from other `keyrum cluster` commands over its control socket, and
//! no node outlives it: each watches a pipe that closes with this process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use keyrum_consensus::world::{self, World};
use keyrum_crypto::Unlock;
use keyrum_store::StoreError;
use keyrum_types::{NodeId, Region};
use tokio::io::BufReader;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Failure;
use crate::admin::{Admin, AdminError};
use crate::assembly::{attestation_roots, check_data};
use crate::cli::{self, NodeName};
use crate::control::{self, Process, Reply, Request};
use crate::data::{DataError, DataFolder, Unnamed, io_at};
use crate::files;
use crate::front::Front;
use crate::identities::IdentitiesFile;
use crate::power::Power;
use crate::process::{Condition, Launch, NodeProcess};
use crate::run::{self, Whereabouts};
use crate::signals::{INTERRUPTED, Signals};
use crate::topology::Topology;
use crate::unlock;

mod faults;
mod joining;
mod members;

use members::names;

/// How long a node may take from its start to its first answer.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long a Region may take to get a leader that a majority follows before a change of its nodes
/// is refused.
const QUORUM_LIMIT: Duration = Duration::from_secs(5);

/// How often something that has no notification is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Runs the cluster until it is told to stop.
pub(crate) async fn up(args: cli::Up) -> Result<ExitCode, Failure> {
    let mut signals = Signals::catch()?;
    let world = World::real();
    let (topology, text) = Topology::load_with_text(&args.config)?;
    if args.power_loss.is_some() && !topology.test_clock {
        return Err("--power-loss is for experiments: only test clusters (test_clock = true) lose writes on purpose".into());
    }
    let identities = topology.identities.as_deref().map(IdentitiesFile::read);
    let identities = identities.transpose()?;
    // The nodes read it themselves, and would each fail.
    let _ = attestation_roots(&topology)?;
    let data = data_folder(args.data.as_deref(), &topology);
    let folder = DataFolder::claim(&data, &topology, Unnamed::Run, &*world.entropy);
    if !matches!(folder, Err(DataError::InUse { .. })) {
        run::remove_ready_file(args.ready_file.as_deref())?;
    }
    let folder = folder?;
    // A minority may be gone: it is replaced while the cluster runs.
    check_data(&folder, false)?;
    let unlock = unlock::obtain(&world, &folder, &args.opener, &mut signals).await?;
    // All nodes run by what was read here, also those that are restarted after the file changed.
    let config = folder.root().join("topology.toml");
    files::replace(&config, text.as_bytes()).map_err(io_at(&config))?;
    let front = Front::start(&world, &topology, &folder, &args.config).await;
    let (front, server) = front.inspect_err(|_| folder.discard())?;

    let supervisor = Arc::new(Supervisor {
        program: std::env::current_exe()?,
        config,
        control: control::socket_path(folder.root(), &folder.record().cluster_id),
        ready_file: args.ready_file.clone(),
        identities,
        unlock: Arc::new(unlock),
        world,
        front,
        folder: Mutex::new(folder),
        nodes: Mutex::new(BTreeMap::new()),
        ready: AtomicBool::new(false),
        joining: tokio::sync::Mutex::new(()),
        stop: Notify::new(),
        power_loss: args.power_loss.clone(),
    });
    let listener = control::listen(&supervisor.control).map_err(|error| {
        supervisor.folder().discard();
        let at = supervisor.control.display();
        format!("cannot listen on {at} ({error}): name another data folder with --data")
    })?;
    let outcome = tokio::select! {
        outcome = supervisor.run(listener) => outcome,
        () = signals.next() => Ok(()),
    };
    // As long as it is there, somebody may rely on it.
    let _ = run::remove_ready_file(supervisor.ready_file.as_deref());
    let stopped = tokio::select! {
        () = async { server.stop().await; supervisor.stop_all().await } => true,
        // Dropping the processes' handles ends them.
        () = signals.next() => false,
    };
    let _ = std::fs::remove_file(&supervisor.control);
    let root = supervisor.folder().root().to_owned();
    let _ = std::fs::remove_file(supervisor.folder().run_file());
    outcome?;
    if !stopped {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    run::say(&format!(
        "keyrum: stopped; the data is in {}\n",
        root.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// The data folder to use: the flag's, else the file's, else the default.
pub(crate) fn data_folder(flag: Option<&Path>, topology: &Topology) -> PathBuf {
    let named = flag.or(topology.data.as_deref());
    named.map_or_else(|| PathBuf::from(cli::DEFAULT_DATA), Path::to_owned)
}

type Shared = Arc<tokio::sync::Mutex<NodeProcess>>;

struct Supervisor {
    program: PathBuf,
    config: PathBuf,
    control: PathBuf,
    ready_file: Option<PathBuf>,
    /// Who is declared from the start.
    identities: Option<IdentitiesFile>,
    /// The keys of domain keys that are locked, for every node that is started.
    unlock: Arc<Unlock>,
    world: World,
    front: Front,
    folder: Mutex<DataFolder>,
    nodes: Mutex<BTreeMap<NodeName, Shared>>,
    /// Whether every Region had a leader since the start.
    ready: AtomicBool,
    /// Regions join one after the other.
    joining: tokio::sync::Mutex<()>,
    stop: Notify,
    /// The library that takes the power of nodes away, in experiments that do.
    power_loss: Option<PathBuf>,
}

/// Why the cluster did not come up, or a request was not carried out.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{region} cannot get a leader: {ended} of its {nodes} nodes ended by themselves; `output` in their folders below {} says why", folder.display())]
    NoQuorum {
        region: Region,
        ended: usize,
        nodes: usize,
        folder: PathBuf,
    },
    #[error("there is no node {node}; the cluster has {have}")]
    NoSuchNode { node: String, have: String },
    #[error("node {node} is {condition}")]
    WrongCondition {
        node: NodeName,
        condition: Condition,
    },
    #[error("node {node} is {condition}: `keyrum cluster restart {node}` first")]
    NoProcess {
        node: NodeName,
        condition: Condition,
    },
    #[error(
        "nothing was damaged: node {node} is {condition}, and would write over it: `keyrum fault kill {node}` first"
    )]
    HasProcess {
        node: NodeName,
        condition: Condition,
    },
    #[error("nothing was damaged at {node}: {error}")]
    Undamaged { node: NodeName, error: StoreError },
    #[error("node {node}: {error}")]
    KeptPower {
        node: NodeName,
        error: std::io::Error,
    },
    #[error("node {node} ended ({status}){words}")]
    Ended {
        node: NodeName,
        status: std::process::ExitStatus,
        words: String,
    },
    #[error("node {node} did not answer within {} s of its start; see {}", START_LIMIT.as_secs(), output.display())]
    Silent { node: NodeName, output: PathBuf },
    #[error("no node of {region} answers")]
    NobodyAnswers { region: Region },
    #[error(
        "nothing was changed: {region} has no quorum, since {silent} of its {voters} voters do not answer; `keyrum cluster restart` (or `resume`) {} first",
        names(region, down)
    )]
    NoMajority {
        region: Region,
        silent: usize,
        voters: usize,
        down: Vec<NodeId>,
    },
    #[error("nothing was changed: {region} has no leader; `keyrum cluster status` shows its nodes")]
    NoLeader { region: Region },
    #[error("nothing was changed: without {node}, {region} would have no quorum, since {} would be needed and {} not answer; `keyrum cluster restart` (or `resume`) first", names(region, down), if down.len() == 1 { "does" } else { "do" })]
    Needed {
        region: Region,
        node: NodeName,
        down: Vec<NodeId>,
    },
    #[error("nothing was changed: the cluster is still starting; try again when it is ready")]
    Starting,
    #[error("{0:?} is not a Region name such as ap-south-1")]
    NoRegionName(String),
    #[error("{region} got no leader within {} s of its start, and was removed again", START_LIMIT.as_secs())]
    NotFounded { region: Region },
    #[error(
        "{cause}; and what {region} had could not be removed ({removal}): it is founded at the next start"
    )]
    HalfJoined {
        region: Region,
        cause: Box<Trouble>,
        removal: Box<Trouble>,
    },
    #[error("{node} is the last node of its Region: stop the cluster instead")]
    LastNode { node: NodeName },
    #[error(
        "{cause}; and {node} could not be taken out of its group again ({removal}): `keyrum cluster remove {node}` when a majority of the group answers"
    )]
    HalfAdded {
        node: NodeName,
        cause: Box<Trouble>,
        removal: Box<Trouble>,
    },
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Supervisor {
    async fn run(self: &Arc<Self>, listener: UnixListener) -> Result<(), Failure> {
        let nodes = self.folder().nodes();
        for node in &nodes {
            self.start_node(node)?;
        }
        self.note_processes()?;
        tokio::select! {
            result = self.watch_processes() => result.map_err(Failure::from),
            result = self.serve(listener) => result.map_err(Failure::from),
            result = self.announce() => result,
            () = self.stop.notified() => Ok(()),
        }
    }

    /// Waits for leaders and says so; then only an error ends it.
    async fn announce(self: &Arc<Self>) -> Result<(), Failure> {
        self.wait_for_leaders().await?;
        self.finish_joining().await?;
        if let Some(identities) = &self.identities {
            let home = self
                .folder()
                .record()
                .regions
                .first()
                .map(|home| home.name.clone());
            let home = home.expect("a cluster has a Region");
            let nodes: Vec<_> = self
                .nodes_of(&home)
                .iter()
                .map(|node| self.admin(node))
                .collect();
            run::say(&identities.declare(&nodes).await?);
        }
        self.wait_for_nodes().await;
        let whereabouts = self.note_ready()?;
        self.ready.store(true, Ordering::SeqCst);
        run::say(&whereabouts.greeting(&self.folder(), false));
        std::future::pending().await
    }

    async fn wait_for_leaders(&self) -> Result<(), Trouble> {
        let regions: Vec<Region> = self
            .folder()
            .record()
            .regions
            .iter()
            .map(|region| region.name.clone())
            .collect();
        for region in regions {
            while !self.has_leader(&region).await {
                self.check_quorum(&region).await?;
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// Waits until every node answers, since whoever is told of it may ask it at once. One that does not is no
    /// reason to keep the others' callers waiting for long: their Regions have leaders.
    async fn wait_for_nodes(&self) {
        let deadline = Instant::now() + START_LIMIT;
        let nodes = self.folder().nodes();
        for node in nodes {
            while self.may_answer(&node).await && self.admin(&node).status().await.is_err() {
                if Instant::now() > deadline {
                    let output = self.output(&node);
                    let silent = Trouble::Silent { node, output };
                    run::remark(&format!("keyrum: {silent}; others of its Region answer"));
                    break;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Whether a node has a process, as far as is known: whoever watches them says when one ends.
    async fn may_answer(&self, node: &NodeName) -> bool {
        let Ok(process) = self.process(node) else {
            return false;
        };
        let process = process.lock().await;
        matches!(process.condition(), Condition::Running)
    }

    async fn has_leader(&self, region: &Region) -> bool {
        for node in self.nodes_of(region) {
            if self.admin(&node).is_leader().await {
                return true;
            }
        }
        false
    }

    /// Whether enough of a Region's processes are left for it to ever have a leader.
    async fn check_quorum(&self, region: &Region) -> Result<(), Trouble> {
        let nodes = self.nodes_of(region);
        let mut ended = 0;
        for node in &nodes {
            let process = self.process(node)?;
            let process = process.lock().await;
            ended += usize::from(matches!(process.condition(), Condition::Ended(_)));
        }
        if ended * 2 >= nodes.len() {
            let (region, nodes) = (region.clone(), nodes.len());
            let folder = self.folder().root().join(region.as_str());
            return Err(Trouble::NoQuorum {
                region,
                ended,
                nodes,
                folder,
            });
        }
        Ok(())
    }

    /// Says when a node's process ends by itself.
    async fn watch_processes(&self) -> std::io::Result<()> {
        let mut ended = signal(SignalKind::child())?;
        loop {
            let all: Vec<_> = self
                .nodes()
                .iter()
                .map(|(n, process)| (n.clone(), process.clone()))
                .collect();
            for (node, process) in all {
                let mut process = process.lock().await;
                if let Some(status) = process.check() {
                    let words = process.last_words();
                    run::remark(&format!(
                        "keyrum: node {node} ended by itself ({status}){words}"
                    ));
                }
            }
            ended.recv().await;
        }
    }

    async fn serve(self: &Arc<Self>, listener: UnixListener) -> std::io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            let this = self.clone();
            // A command that hangs up early harms nobody.
            world::spawn(async move { this.answer(stream).await.ok() });
        }
    }

    async fn answer(self: &Arc<Self>, stream: UnixStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let Some(request) = control::receive::<Request>(&mut stream).await? else {
            return Ok(());
        };
        let reply = match self.carry_out(request).await {
            Ok(reply) => reply,
            Err(trouble) => Reply::Failed(trouble.to_string()),
        };
        control::send(&mut stream, &reply).await
    }

    async fn carry_out(self: &Arc<Self>, request: Request) -> Result<Reply, Trouble> {
        let done = |text: String| Ok(Reply::Done(text));
        match request {
            Request::Processes => Ok(Reply::Processes(self.processes().await)),
            Request::Stop => {
                self.stop.notify_one();
                done("stopping".to_owned())
            }
            Request::Kill { node, for_ms } => {
                let (name, process) = self.named(&node)?;
                let mut locked = process.lock().await;
                locked.kill().await?;
                let turn = locked.turn();
                drop(locked);
                self.note_processes()?;
                self.undo_later(name.clone(), process, turn, for_ms);
                done(format!("{name} is killed"))
            }
            Request::CutPower { nodes, loss } => self.cut_power(&nodes, loss).await,
            Request::Restart { node } => {
                let (name, process) = self.named(&node)?;
                process.lock().await.restart().await?;
                self.note_processes()?;
                self.wait_until_up(&name).await?;
                done(format!("{name} runs again"))
            }
            Request::Pause { node, for_ms } => {
                let (name, shared) = self.named(&node)?;
                let mut process = shared.lock().await;
                match process.condition() {
                    Condition::Running => {
                        process.pause().await?;
                        let turn = process.turn();
                        self.undo_later(name.clone(), shared.clone(), turn, for_ms);
                    }
                    Condition::Paused => {}
                    other => {
                        let condition = other.clone();
                        return Err(Trouble::NoProcess {
                            node: name,
                            condition,
                        });
                    }
                }
                done(format!("{name} is paused"))
            }
            Request::Resume { node } => {
                let (name, process) = self.named(&node)?;
                let mut process = process.lock().await;
                match process.condition() {
                    Condition::Running | Condition::Paused => process.resume()?,
                    other => {
                        let condition = other.clone();
                        return Err(Trouble::NoProcess {
                            node: name,
                            condition,
                        });
                    }
                }
                done(format!("{name} goes on"))
            }
            Request::Add { node } => {
                let name = self.parse(&node)?;
                self.add(&name).await?;
                done(format!("{name} is a voter of its Region's group"))
            }
            Request::Heal => Ok(self.heal().await),
            Request::Damage { node, harm, file } => {
                let (name, process) = self.named(&node)?;
                done(self.damage(&name, &process, harm, &file).await?)
            }
            Request::AddRegion { region, nodes } => done(self.add_region(&region, nodes).await?),
            Request::Remove { node } => {
                let (name, process) = self.named(&node)?;
                self.remove(&name, &process).await?;
                let folder = self.folder().node_folder(&name);
                done(format!(
                    "{name} is removed; its data is left in {}",
                    folder.display()
                ))
            }
        }
    }

    async fn wait_until_up(&self, node: &NodeName) -> Result<(), Trouble> {
        let deadline = Instant::now() + START_LIMIT;
        while self.admin(node).status().await.is_err() {
            self.check_process(node).await?;
            if Instant::now() > deadline {
                let output = self.output(node);
                return Err(Trouble::Silent {
                    node: node.clone(),
                    output,
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Waits until a node has no process any more, and says why.
    async fn gone(&self, node: &NodeName) -> Trouble {
        loop {
            if let Err(trouble) = self.check_process(node).await {
                return trouble;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether a node has a process, be it frozen.
    async fn check_process(&self, node: &NodeName) -> Result<(), Trouble> {
        let process = self.process(node)?;
        let mut process = process.lock().await;
        process.check();
        match process.condition().clone() {
            Condition::Running | Condition::Paused => Ok(()),
            Condition::Ended(status) => {
                let words = process.last_words();
                Err(Trouble::Ended {
                    node: node.clone(),
                    status,
                    words,
                })
            }
            condition => Err(Trouble::WrongCondition {
                node: node.clone(),
                condition,
            }),
        }
    }

    async fn stop_all(&self) {
        let all: Vec<Shared> = self.nodes().values().cloned().collect();
        let stops = all
            .into_iter()
            .map(|process| world::spawn(async move { process.lock().await.stop().await }));
        for stop in stops.collect::<Vec<_>>() {
            if let Ok(Err(error)) = stop.await {
                run::remark(&format!(
                    "keyrum: a node's process could not be stopped: {error}"
                ));
            }
        }
    }

    fn start_node(&self, node: &NodeName) -> std::io::Result<()> {
        let data = self.folder().root().to_owned();
        let output = self.output(node);
        let power = self.power_loss.as_deref();
        let power = power.map(|library| {
            let folder = self.folder().node_folder(node);
            Power::new(library, &data, &folder, node)
        });
        let (program, config, node) = (self.program.clone(), self.config.clone(), node.clone());
        let launch = Launch {
            program,
            config,
            data,
            node: node.clone(),
            output,
            unlock: self.unlock.clone(),
            power,
        };
        let process = Arc::new(tokio::sync::Mutex::new(NodeProcess::start(launch)?));
        self.nodes().insert(node, process);
        Ok(())
    }

    /// Brings `run.json` and the ready file up to date.
    fn note_ready(&self) -> std::io::Result<Whereabouts> {
        let whereabouts = self.note_processes()?;
        if let Some(file) = &self.ready_file {
            whereabouts.write_ready_file(file)?;
        }
        Ok(whereabouts)
    }

    /// Brings `run.json` up to date.
    fn note_processes(&self) -> std::io::Result<Whereabouts> {
        let nodes = self.nodes();
        // A process that is being handled just now is noted when that is done.
        let pid = |name: &NodeName| nodes.get(name)?.try_lock().ok()?.pid();
        let folder = self.folder();
        let (url, scheme) = (self.front.url().to_owned(), self.front.scheme());
        let whereabouts = Whereabouts::of(&folder, url, scheme, pid);
        whereabouts.write_run_file(&folder.run_file(), Some(&self.control))?;
        Ok(whereabouts)
    }

    async fn processes(&self) -> Vec<Process> {
        let all: Vec<_> = self
            .nodes()
            .iter()
            .map(|(n, p)| (n.clone(), p.clone()))
            .collect();
        let mut processes = Vec::new();
        for (node, process) in all {
            let mut process = process.lock().await;
            process.check();
            let (kills, pauses) = process.faults();
            processes.push(Process {
                kills,
                pauses,
                node: node.to_string(),
                pid: process.pid(),
                condition: process.condition().to_string(),
            });
        }
        processes
    }

    fn output(&self, node: &NodeName) -> PathBuf {
        self.folder().node_folder(node).join("output")
    }

    fn admin(&self, node: &NodeName) -> Admin {
        let folder = self.folder();
        let at = folder.admin_at(node);
        Admin::new(&self.world, at, folder.admin_token(node))
    }

    fn nodes_of(&self, region: &Region) -> Vec<NodeName> {
        self.nodes()
            .keys()
            .filter(|node| node.region == *region)
            .cloned()
            .collect()
    }

    fn parse(&self, text: &str) -> Result<NodeName, Trouble> {
        let no_such = || Trouble::NoSuchNode {
            node: text.to_owned(),
            have: self
                .nodes()
                .keys()
                .map(NodeName::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        };
        text.parse().map_err(|_| no_such())
    }

    fn named(&self, text: &str) -> Result<(NodeName, Shared), Trouble> {
        let node = self.parse(text)?;
        let process = self.process(&node)?;
        Ok((node, process))
    }

    fn process(&self, node: &NodeName) -> Result<Shared, Trouble> {
        let nodes = self.nodes();
        let have = || {
            nodes
                .keys()
                .map(NodeName::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        };
        nodes.get(node).cloned().ok_or_else(|| Trouble::NoSuchNode {
            node: node.to_string(),
            have: have(),
        })
    }

    fn folder(&self) -> MutexGuard<'_, DataFolder> {
        self.folder
            .lock()
            .expect("nothing panics while it holds the data folder")
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeName, Shared>> {
        self.nodes
            .lock()
            .expect("nothing panics while it holds the processes")
    }
}
