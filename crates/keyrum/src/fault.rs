//! `keyrum fault cut|delay|lose|kill|pause|error|heal|status`: faults by hand on a running cluster.
//!
//! What concerns links and disks goes to the nodes' admin interfaces ([`Steer`]), what concerns
//! processes and files of killed nodes to the supervisor. A fault that several nodes share has one
//! number with all of them.

mod plan;
mod words;

pub(crate) use plan::cuts;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::join_all;
use keyrum_consensus::faults::{Effects, Fault, InForce, Order};
use keyrum_consensus::world::World;
use keyrum_types::Region;
use serde::Serialize;

use crate::Failure;
use crate::admin::{Admin, AdminError};
use crate::cli::{self, DiskTrouble, NodeName};
use crate::cluster::{self, folder};
use crate::control::{Harm, Process, Reply, Request};
use crate::run::{self, RunFile};
use crate::signals::{INTERRUPTED, Signals};

/// Why nothing was done, or not all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("nothing was changed: there is no {what}; the cluster has {have}")]
    NoSuch { what: String, have: String },
    #[error("nothing was changed: {0}")]
    Senseless(String),
    #[error(
        "nothing was changed: this cluster runs in one process (`keyrum dev`), which no node can be taken out of; `keyrum fault cut {node}` takes the node away from the others, and `keyrum cluster up` has processes to {verb}"
    )]
    OneProcess { node: NodeName, verb: &'static str },
    #[error(
        "nothing was changed: a node's files can be damaged while it has no process, and those of `keyrum dev` share one; use `keyrum cluster up`"
    )]
    OneProcessHasFiles,
    #[error(
        "nothing was changed: not every node takes its part of the fault, so none has one ({failures}); `keyrum fault status` shows which are killed or paused"
    )]
    NotPut { failures: String },
    #[error("there is no fault {number}; {have}")]
    NoSuchFault { number: u64, have: String },
    #[error("{0}")]
    NotHealed(String),
}

/// Carries one out.
pub(crate) async fn run(verb: cli::Fault) -> Result<ExitCode, Failure> {
    match verb {
        cli::Fault::Cut(args) => {
            let steer = Steer::find(&folder(&args.lasting.place)?)?;
            let faults = match args.shape {
                Some(shape) => plan::shaped(&steer, &args.between, shape).await?,
                None => plan::between(&steer, &args.between, |with, direction| Fault::Cut {
                    with,
                    direction,
                })?,
            };
            put(&steer, faults, args.lasting.lasts).await
        }
        cli::Fault::Delay(args) => {
            let steer = Steer::find(&folder(&args.lasting.place)?)?;
            let (by_ms, jitter_ms) = (whole_ms(args.by), args.jitter.map_or(0, whole_ms));
            let faults = plan::between(&steer, &args.between, |with, direction| Fault::Delay {
                with,
                direction,
                by_ms,
                jitter_ms,
            })?;
            put(&steer, faults, args.lasting.lasts).await
        }
        cli::Fault::Lose(args) => {
            let steer = Steer::find(&folder(&args.lasting.place)?)?;
            let share = args.share;
            let faults = plan::between(&steer, &args.between, |with, direction| Fault::Lose {
                with,
                direction,
                share,
            })?;
            put(&steer, faults, args.lasting.lasts).await
        }
        cli::Fault::Kill(args) => {
            process(&args, "kill", |node, for_ms| Request::Kill { node, for_ms }).await
        }
        cli::Fault::Pause(args) => {
            let pause = |node, for_ms| Request::Pause { node, for_ms };
            process(&args, "pause", pause).await
        }
        cli::Fault::Error(args) => error(args).await,
        cli::Fault::Heal(args) => heal(&folder(&args.place)?, args.number).await,
        cli::Fault::Status(args) => status(&folder(&args.place)?, args.json).await,
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Steers the faults of a running cluster's nodes.
pub(crate) struct Steer {
    pub(crate) nodes: BTreeMap<NodeName, Admin>,
    /// Whether the nodes have processes of their own.
    pub(crate) processes: bool,
}

/// What a node says of its faults; an error if it does not.
pub(crate) type Told = BTreeMap<NodeName, Result<Vec<InForce>, AdminError>>;

impl Steer {
    /// The cluster that runs on a data folder.
    pub(crate) fn find(folder: &Path) -> Result<Self, Failure> {
        let running = RunFile::find(folder)?;
        let world = World::real();
        let mut nodes = BTreeMap::new();
        for (region, held) in &running.regions {
            for node in &held.nodes {
                let name = NodeName {
                    region: region.clone(),
                    id: node.id,
                };
                nodes.insert(name, Admin::of(&world, node)?);
            }
        }
        Ok(Self {
            nodes,
            processes: running.control.is_some(),
        })
    }

    pub(crate) fn regions(&self) -> BTreeSet<&Region> {
        self.nodes.keys().map(|node| &node.region).collect()
    }

    pub(crate) fn of(&self, region: &Region) -> Vec<NodeName> {
        let ours = self.nodes.keys().filter(|node| node.region == *region);
        ours.cloned().collect()
    }

    /// What every node says is in force.
    pub(crate) async fn list(&self) -> Told {
        let asked = self.nodes.iter().map(async |(node, admin)| {
            let faults = admin.faults().await;
            (node.clone(), faults)
        });
        join_all(asked).await.into_iter().collect()
    }

    /// A number for a fault with these parts, once all their nodes answer: what one that is frozen
    /// is asked now, it would do when nobody expects it any more.
    pub(crate) async fn number_for(&self, faults: &[(NodeName, Fault)]) -> Result<u64, Trouble> {
        let told = self.list().await;
        let failure = |(node, _): &(NodeName, Fault)| match told.get(node) {
            Some(Err(error)) => Some(format!("{node}: {error}")),
            Some(Ok(_)) | None => None,
        };
        let failures: Vec<_> = faults.iter().filter_map(failure).collect();
        match failures.is_empty() {
            true => Ok(next_number(&told)),
            false => Err(Trouble::NotPut {
                failures: failures.join("; "),
            }),
        }
    }

    /// Puts faults in force, all under one number. If one of them cannot be, none is.
    pub(crate) async fn put(
        &self,
        number: u64,
        faults: &[(NodeName, Fault)],
        lasts: Option<Duration>,
    ) -> Result<(), Trouble> {
        let puts = faults.iter().map(async |(node, fault)| {
            let order = Order {
                number: Some(number),
                fault: fault.clone(),
                for_ms: lasts.map(whole_ms),
            };
            let put = self.nodes[node].put_fault(&order).await;
            put.map_err(|error| format!("{node}: {error}"))
        });
        let failures: Vec<_> = join_all(puts)
            .await
            .into_iter()
            .filter_map(Result::err)
            .collect();
        if failures.is_empty() {
            return Ok(());
        }
        self.lift(Some(number)).await;
        Err(Trouble::NotPut {
            failures: failures.join("; "),
        })
    }

    /// Lifts one fault, or all, on every node, and tells what each had.
    pub(crate) async fn lift(&self, number: Option<u64>) -> Told {
        let lifts = self.nodes.iter().map(async |(node, admin)| {
            let lifted = admin.lift_faults(number).await;
            (node.clone(), lifted)
        });
        join_all(lifts).await.into_iter().collect()
    }
}

/// The number after all that are in use.
fn next_number(told: &Told) -> u64 {
    let numbers = told.values().flatten().flatten().map(|fault| fault.number);
    numbers.max().unwrap_or(0) + 1
}

async fn put(
    steer: &Steer,
    faults: Vec<(NodeName, Fault)>,
    lasts: Option<Duration>,
) -> Result<ExitCode, Failure> {
    let mut signals = Signals::catch()?;
    let number = steer.number_for(&faults).await?;
    tokio::select! {
        put = steer.put(number, &faults, lasts) => put?,
        () = signals.next() => {
            // Some nodes may have it by now, and none is to keep it unseen.
            steer.lift(Some(number)).await;
            run::remark("keyrum: interrupted; no fault is left in force by this command");
            return Ok(ExitCode::from(INTERRUPTED));
        }
    }
    run::print(&words::put(number, &faults, lasts))?;
    Ok(ExitCode::SUCCESS)
}

async fn process(
    args: &cli::FaultProcess,
    verb: &'static str,
    request: impl Fn(String, Option<u64>) -> Request,
) -> Result<ExitCode, Failure> {
    let folder = folder(&args.lasting.place)?;
    let steer = Steer::find(&folder)?;
    let node = args.node.clone();
    plan::known(&steer, &node)?;
    if !steer.processes {
        return Err(Trouble::OneProcess { node, verb }.into());
    }
    let for_ms = args.lasting.lasts.map(whole_ms);
    let reply = cluster::ask(&folder, &request(node.to_string(), for_ms)).await?;
    let until = match args.lasting.lasts {
        None => "until `keyrum fault heal`".to_owned(),
        Some(lasts) => format!("for {}", humantime::format_duration(lasts)),
    };
    let done = cluster::told(reply)?;
    run::print(&format!(
        "{done} {until}; what was acknowledged is on the disks of a majority\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

async fn error(args: cli::DiskError) -> Result<ExitCode, Failure> {
    let folder = folder(&args.lasting.place)?;
    let steer = Steer::find(&folder)?;
    plan::known(&steer, &args.node)?;
    let harm = match (args.flip, args.tear) {
        (Some(file), _) => Some((Harm::Flip, file)),
        (_, Some(file)) => Some((Harm::Tear, file)),
        (None, None) => None,
    };
    if let Some((harm, file)) = harm {
        if !steer.processes {
            return Err(Trouble::OneProcessHasFiles.into());
        }
        let node = args.node.to_string();
        let reply = cluster::ask(&folder, &Request::Damage { node, harm, file }).await?;
        run::print(&format!("{}\n", cluster::told(reply)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let after = args.after;
    let fault = match args.trouble {
        Some(DiskTrouble::Full) => Fault::DiskFull { after },
        Some(DiskTrouble::Read) => Fault::ReadFails { after },
        Some(DiskTrouble::Slow(_)) if after > 0 => {
            let why = "a slow disk is slow from its first sync on: leave --after out";
            return Err(Trouble::Senseless(why.to_owned()).into());
        }
        Some(DiskTrouble::Slow(by)) => Fault::SlowDisk {
            by_ms: whole_ms(by),
        },
        Some(DiskTrouble::Sync) | None => Fault::SyncFails { after },
    };
    put(&steer, vec![(args.node, fault)], args.lasting.lasts).await
}

async fn heal(folder: &Path, number: Option<u64>) -> Result<ExitCode, Failure> {
    let steer = Steer::find(folder)?;
    let mut lines = Vec::new();
    let mut failures = Vec::new();
    if number.is_none() && steer.processes {
        match cluster::ask(folder, &Request::Heal).await? {
            Reply::Healed { done, failed } => {
                lines.extend(done);
                failures.extend(failed);
            }
            other => lines.push(cluster::told(other)?),
        }
    }
    let mut lifted: BTreeMap<u64, Vec<(NodeName, InForce)>> = BTreeMap::new();
    let mut silent = Vec::new();
    for (node, told) in steer.lift(number).await {
        match told {
            Ok(faults) => {
                for fault in faults {
                    let same = lifted.entry(fault.number).or_default();
                    same.push((node.clone(), fault));
                }
            }
            // One whose process has ended keeps no fault.
            Err(error) => silent.push(format!("{node}: {error}")),
        }
    }
    for (number, faults) in &lifted {
        lines.push(words::lifted(*number, faults));
    }
    if let (Some(number), true) = (number, lifted.is_empty()) {
        let told = steer.list().await;
        let numbers: BTreeSet<_> = told
            .values()
            .flatten()
            .flatten()
            .map(|f| f.number)
            .collect();
        let numbers: Vec<_> = numbers.iter().map(u64::to_string).collect();
        let mut have = match numbers.is_empty() {
            true => "none is in force".to_owned(),
            false => format!("in force are {}", numbers.join(", ")),
        };
        for silent in silent {
            have.push_str(&format!("; {silent}"));
        }
        return Err(Trouble::NoSuchFault { number, have }.into());
    }
    if lines.is_empty() && failures.is_empty() {
        lines.push("there was nothing to heal".to_owned());
    }
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    run::print(&text)?;
    // Of a node that could not be started, the supervisor has said why.
    if failures.is_empty() {
        failures.extend(silent);
    }
    if !failures.is_empty() {
        return Err(Trouble::NotHealed(failures.join("\n")).into());
    }
    Ok(ExitCode::SUCCESS)
}

/// A node as `keyrum fault status --json` shows it.
#[derive(Debug, Serialize)]
struct Line {
    node: String,
    process: String,
    kills: u64,
    pauses: u64,
    /// `None` if it does not answer.
    faults: Option<Vec<InForce>>,
}

async fn status(folder: &Path, json: bool) -> Result<ExitCode, Failure> {
    let steer = Steer::find(folder)?;
    let processes: Vec<Process> = match steer.processes {
        true => match cluster::ask(folder, &Request::Processes).await? {
            Reply::Processes(processes) => processes,
            _ => Vec::new(),
        },
        false => Vec::new(),
    };
    let mut lines = Vec::new();
    for (node, told) in steer.list().await {
        let name = node.to_string();
        let process = processes.iter().find(|process| process.node == name);
        let condition = process.map_or("in one process", |process| &process.condition);
        let condition = condition.to_owned();
        // The words of a test cluster's opposite are an answer too.
        let faults = match told {
            Err(error @ AdminError::Refused { .. }) => return Err(error.into()),
            told => told.ok(),
        };
        lines.push(Line {
            node: name,
            process: condition,
            kills: process.map_or(0, |process| process.kills),
            pauses: process.map_or(0, |process| process.pauses),
            faults,
        });
    }
    if json {
        run::print(&format!("{}\n", serde_json::to_string_pretty(&lines)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let headings = ["FAULT", "NODE", "WHAT", "FOR", "LEFT", "HAS DONE"].map(str::to_owned);
    let mut rows = Vec::new();
    for line in &lines {
        let known = ["running", "in one process"];
        if !known.contains(&line.process.as_str()) || line.faults.is_none() {
            let what = match known.contains(&line.process.as_str()) {
                true => "does not answer".to_owned(),
                false => line.process.clone(),
            };
            let dash = || "-".to_owned();
            let done = format!("{} kills, {} pauses", line.kills, line.pauses);
            rows.push((0, [dash(), line.node.clone(), what, dash(), dash(), done]));
        }
        for fault in line.faults.iter().flatten() {
            let time = |ms| humantime::format_duration(Duration::from_secs(ms / 1000)).to_string();
            rows.push((
                fault.number,
                [
                    fault.number.to_string(),
                    line.node.clone(),
                    words::what(&fault.fault),
                    time(fault.since_ms),
                    fault.left_ms.map_or_else(|| "-".to_owned(), time),
                    words::effects(&fault.effects),
                ],
            ));
        }
    }
    if rows.is_empty() {
        run::print("no fault is in force\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    rows.sort();
    let rows: Vec<_> = std::iter::once(headings)
        .chain(rows.into_iter().map(|(_, row)| row))
        .collect();
    run::print(&run::columns(&rows))?;
    Ok(ExitCode::SUCCESS)
}

/// What several nodes' parts of a fault have done together.
fn together<'a>(effects: impl Iterator<Item = &'a Effects>) -> Effects {
    effects.fold(Effects::default(), |sum, part| Effects {
        connects_held: sum.connects_held + part.connects_held,
        bytes_held: sum.bytes_held + part.bytes_held,
        bytes_delayed: sum.bytes_delayed + part.bytes_delayed,
        segments_lost: sum.segments_lost + part.segments_lost,
        disk_operations: sum.disk_operations + part.disk_operations,
    })
}
