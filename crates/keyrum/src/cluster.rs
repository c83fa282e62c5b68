//! `keyrum cluster status|stop|kill|restart|pause|resume|add|remove|add-region`: what speaks to a
//! running cluster from another terminal. `keyrum cluster certs` is in [`certs`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use keyrum_consensus::world::World;
use keyrum_consensus::{ChannelStatus, NodeStatus};
use keyrum_types::{Region, UnixMillis};
use serde::Serialize;
use tokio::time::Instant;

use crate::Failure;
use crate::admin::Admin;
use crate::certs;
use crate::cli::{self, Cluster, NodeName, OneNode};
use crate::control::{self, Reply, Request};
use crate::run::{self, RunFile};
use crate::supervisor;
use crate::topology::Topology;

/// How long `stop` waits for the cluster to be gone.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Why a command cannot be carried out.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(
        "this cluster runs in one process (`keyrum dev`): only `keyrum cluster up` has processes to handle"
    )]
    OneProcess,
    #[error(
        "this cluster runs in one process (`keyrum dev`): stop it, and start it again with {region} among its --regions"
    )]
    StartAgain { region: Region },
    #[error(
        "this cluster runs in one process (`keyrum dev`): Ctrl-C there stops it, and so does `kill {pid}`"
    )]
    StopThere { pid: u32 },
    #[error("the cluster on {} does not answer ({cause}): it has ended without tidying up; start it again with `keyrum cluster up`", folder.display())]
    Gone {
        folder: PathBuf,
        cause: std::io::Error,
    },
    #[error("{0}")]
    Refused(String),
    #[error("the cluster was told to stop but still runs after {} s", STOP_LIMIT.as_secs())]
    StillThere,
}

/// Carries one out.
pub(crate) async fn run(verb: Cluster) -> Result<ExitCode, Failure> {
    match verb {
        Cluster::Up(args) => return supervisor::up(args).await,
        Cluster::Status(args) => status(&args).await?,
        Cluster::Stop(place) => stop(&folder(&place)?).await?,
        Cluster::Kill(args) => tell(&args, |node| Request::Kill { node, for_ms: None }).await?,
        Cluster::Restart(args) => tell(&args, |node| Request::Restart { node }).await?,
        Cluster::Pause(args) => tell(&args, |node| Request::Pause { node, for_ms: None }).await?,
        Cluster::Resume(args) => tell(&args, |node| Request::Resume { node }).await?,
        Cluster::Add(args) => tell(&args, |node| Request::Add { node }).await?,
        Cluster::Remove(args) => tell(&args, |node| Request::Remove { node }).await?,
        Cluster::AddRegion(args) => add_region(args).await?,
        Cluster::Certs(verb) => return certs::run(verb).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// The data folder that a command is about.
pub(crate) fn folder(place: &cli::Place) -> Result<PathBuf, Failure> {
    if let Some(data) = &place.data {
        return Ok(data.clone());
    }
    match &place.config {
        Some(config) => Ok(supervisor::data_folder(None, &Topology::load(config)?)),
        None => Ok(PathBuf::from(cli::DEFAULT_DATA)),
    }
}

/// Asks the supervisor of a running cluster.
pub(crate) async fn ask(folder: &Path, request: &Request) -> Result<Reply, Failure> {
    let socket = RunFile::find(folder)?.control.ok_or(Trouble::OneProcess)?;
    let gone = |cause| Trouble::Gone {
        folder: folder.to_owned(),
        cause,
    };
    Ok(control::ask(&socket, request).await.map_err(gone)?)
}

async fn tell(args: &OneNode, request: impl Fn(String) -> Request) -> Result<(), Failure> {
    let reply = ask(&folder(&args.place)?, &request(args.node.to_string())).await?;
    say(reply)
}

async fn add_region(args: cli::AddRegion) -> Result<(), Failure> {
    let folder = folder(&args.place)?;
    if RunFile::find(&folder)?.control.is_none() {
        return Err(Trouble::StartAgain { region: args.name }.into());
    }
    let (region, nodes) = (args.name.to_string(), args.nodes);
    say(ask(&folder, &Request::AddRegion { region, nodes }).await?)
}

fn say(reply: Reply) -> Result<(), Failure> {
    let what = told(reply)?;
    Ok(run::print(&format!("{what}\n"))?)
}

/// What the supervisor did, in its words.
pub(crate) fn told(reply: Reply) -> Result<String, Failure> {
    match reply {
        Reply::Failed(why) => Err(Trouble::Refused(why).into()),
        Reply::Done(what) => Ok(what),
        Reply::Processes(_) | Reply::Healed { .. } | Reply::Dark { .. } => Ok("done".to_owned()),
    }
}

async fn stop(folder: &Path) -> Result<(), Failure> {
    let running = RunFile::find(folder)?;
    match &running.control {
        Some(_) => {
            ask(folder, &Request::Stop).await?;
        }
        None => return Err(Trouble::StopThere { pid: running.pid }.into()),
    }
    let deadline = Instant::now() + STOP_LIMIT;
    while matches!(RunFile::find(folder), Ok(run) if run.pid == running.pid) {
        if Instant::now() > deadline {
            return Err(Trouble::StillThere.into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    run::print("stopped\n")?;
    Ok(())
}

/// One node, as its process and itself tell.
#[derive(Debug, Serialize)]
struct Line {
    node: String,
    process: String,
    pid: Option<u32>,
    api: String,
    peer: String,
    admin: String,
    data: PathBuf,
    /// `None` when it does not answer.
    status: Option<NodeStatus>,
}

async fn status(args: &cli::Status) -> Result<(), Failure> {
    let folder = folder(&args.place)?;
    let running = RunFile::find(&folder)?;
    let processes = match &running.control {
        Some(_) => match ask(&folder, &Request::Processes).await? {
            Reply::Processes(processes) => processes,
            Reply::Done(_) | Reply::Failed(_) | Reply::Healed { .. } | Reply::Dark { .. } => {
                Vec::new()
            }
        },
        None => Vec::new(),
    };
    let processes: BTreeMap<_, _> = processes.into_iter().map(|p| (p.node.clone(), p)).collect();
    let world = World::real();
    let mut lines = Vec::new();
    for (region, nodes) in &running.regions {
        for node in &nodes.nodes {
            let name = NodeName {
                region: region.clone(),
                id: node.id,
            }
            .to_string();
            let process = processes.get(&name);
            let condition = process
                .map_or("in one process", |p| &p.condition)
                .to_owned();
            let pid = process.map_or(Some(node.pid), |p| p.pid);
            let asked = condition == "running" || process.is_none();
            let status = if asked {
                Admin::of(&world, node)?.status().await.ok()
            } else {
                None
            };
            lines.push(Line {
                node: name,
                process: condition,
                pid,
                api: node.api.clone(),
                peer: node.peer.clone(),
                admin: node.admin.clone(),
                data: node.data.clone(),
                status,
            });
        }
    }
    if args.json {
        run::print(&format!("{}\n", serde_json::to_string_pretty(&lines)?))?;
    } else {
        let verdicts = verdicts(&lines, running.regions.keys(), world.clock.now());
        run::print(&format!("{}{verdicts}", table(&lines)))?;
    }
    Ok(())
}

const HEADINGS: [&str; 11] = [
    "NODE",
    "PROCESS",
    "ROLE",
    "TERM",
    "LEADER",
    "LOG",
    "COMMITTED",
    "APPLIED",
    "SNAPSHOT",
    "KEYS",
    "DIGEST",
];

fn table(lines: &[Line]) -> String {
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    for line in lines {
        let of = |get: &dyn Fn(&NodeStatus) -> String| {
            line.status.as_ref().map_or_else(|| "-".to_owned(), get)
        };
        rows.push([
            line.node.clone(),
            line.process.clone(),
            of(&|s| format!("{:?}", s.role).to_lowercase()),
            of(&|s| s.term.to_string()),
            of(&|s| number(s.leader)),
            of(&|s| number(s.last_log)),
            of(&|s| number(s.committed)),
            of(&|s| number(s.applied)),
            of(&|s| number(s.snapshot)),
            of(&|s| s.keys.to_string()),
            of(&|s| {
                format!(
                    "{}@{}",
                    s.digest.get(..12).unwrap_or(&s.digest),
                    s.digest_index
                )
            }),
        ]);
    }
    run::columns(&rows)
}

/// What waits for another Region, in words.
fn waiting(region: &Region, channel: &ChannelStatus) -> String {
    let (to, waiting) = (&channel.to, channel.waiting);
    let mut text = format!("{region} -> {to}: {waiting} waiting");
    if let Some(ms) = channel.oldest_ms {
        let age = humantime::format_duration(Duration::from_secs(ms / 1000));
        text.push_str(&format!(", the oldest for {age}"));
    }
    if let Some(error) = &channel.last_error {
        text.push_str(&format!(": {error}"));
    }
    text + "\n"
}

/// What the table does not show: why a node stopped, what is wrong with its certificate, members
/// that are no voters, and messages for other Regions that wait.
fn verdicts<'a>(
    lines: &[Line],
    regions: impl Iterator<Item = &'a Region>,
    now: UnixMillis,
) -> String {
    let mut text = String::new();
    for line in lines {
        let Some(status) = &line.status else { continue };
        for reason in status.stopped.iter().chain(&status.mutations_stopped) {
            text.push_str(&format!("{}: {reason}\n", line.node));
        }
        for warning in status.tls.iter().flat_map(|p| certs::warnings(p, now)) {
            text.push_str(&format!("{}: {warning}\n", line.node));
        }
    }
    for region in regions {
        let in_region = |s: &&NodeStatus| s.region == region.as_str();
        let leader = lines
            .iter()
            .filter_map(|line| line.status.as_ref())
            .filter(in_region)
            .max_by_key(|status| (status.term, status.leader == Some(status.node)));
        let channels = leader.map_or(&[][..], |status| &status.channels);
        for channel in channels.iter().filter(|channel| channel.waiting > 0) {
            text.push_str(&waiting(region, channel));
        }
        match leader {
            Some(status) if !status.learners.is_empty() => {
                let learners: Vec<_> = status.learners.iter().map(u64::to_string).collect();
                text.push_str(&format!("{region}: learners {}\n", learners.join(", ")));
            }
            Some(_) => {}
            None => text.push_str(&format!("{region}: no node answers\n")),
        }
    }
    text
}
