//! `keyrum lab`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use keyrum_lab::sim::{NODES_MAX, REGIONS_MAX};
use keyrum_types::NodeId;

#[derive(Debug, Subcommand)]
pub(crate) enum Lab {
    /// Run up to three Regions of up to five nodes on a simulated network, disk and clock
    Sim(LabSim),
    /// Play an experiment with real processes, and judge what clients saw
    Run(LabRun),
    /// Make a page of an experiment's history: verdicts, what must not be, and all of it over time
    Report(LabReport),
}

#[derive(Debug, Args)]
pub(crate) struct LabRun {
    /// The experiment: a file such as those of cluster-config/experiments
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Fixes what clients choose and which faults come by chance; not when calls end
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) outputs: LabOutputs,
    /// Make cuts between nodes, and loss, by dropping packets in a private network (needs Linux and nft)
    #[arg(long)]
    pub(crate) packets: bool,
    /// Keep the cluster's data in this new folder; else it is removed at the end
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// Start the nodes with this library, so that they can lose unsynced writes as power goes: that of
    /// `cargo build --package keyrum-powerloss`
    #[arg(long, value_name = "LIBRARY")]
    pub(crate) power_loss: Option<PathBuf>,
    /// A program that is the workload: it finds the endpoint in AWS_ENDPOINT_URL, its calls are noted
    /// and judged. It runs as long as it likes, but no more than a minute longer than the faults
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// What is written of an experiment.
#[derive(Debug, Clone, Args)]
pub(crate) struct LabOutputs {
    /// Write every call, and what went wrong meanwhile, to this file: JSON, or EDN if it ends in .edn
    #[arg(long, value_name = "FILE")]
    pub(crate) history: Option<PathBuf>,
    /// Write a page that shows the experiment to this file
    #[arg(long, value_name = "FILE.html")]
    pub(crate) report: Option<PathBuf>,
}

impl LabOutputs {
    /// Whether anything is to be written.
    pub(crate) fn is_asked(&self) -> bool {
        self.history.is_some() || self.report.is_some()
    }
}

#[derive(Debug, Args)]
pub(crate) struct LabReport {
    /// The history, in JSON
    #[arg(value_name = "FILE.json")]
    pub(crate) file: PathBuf,
    /// Write the page here, - for standard output; else beside the history, as .html
    #[arg(long, value_name = "FILE.html|-")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LabSim {
    /// Fixes everything that happens: the same seed gives the same run
    #[arg(long, value_name = "N", required_unless_present = "seeds")]
    pub(crate) seed: Option<u64>,
    /// Run so many seeds from --seed on (or from 1), each in a process of its own, on all cores
    #[arg(long, value_name = "COUNT", conflicts_with_all = ["trace", "history", "report"])]
    pub(crate) seeds: Option<NonZeroU64>,
    /// What is to happen, and where: a file such as those of cluster-config/experiments
    #[arg(long, conflicts_with_all = ["regions", "nodes"], value_name = "FILE")]
    pub(crate) scenario: Option<PathBuf>,
    /// How long faults come and go, in simulated minutes; 1 unless the scenario says otherwise
    #[arg(long, value_parser = minutes, value_name = "M")]
    pub(crate) minutes: Option<f64>,
    /// How many Regions: 3, 2 with families of multi-Region keys too, or 1 alone
    #[arg(long, value_parser = regions, value_name = "1-3")]
    pub(crate) regions: Option<usize>,
    /// How many nodes each Region has: 3 unless named
    #[arg(long, value_parser = nodes, value_name = "1-5")]
    pub(crate) nodes: Option<NodeId>,
    /// Write the trace here; - for standard output
    #[arg(long, value_name = "FILE|-")]
    pub(crate) trace: Option<PathBuf>,
    /// Let only these faults of the seed's plan come, by number; or none
    #[arg(long, value_parser = faults, conflicts_with = "seeds", value_name = "N,N,...|none")]
    pub(crate) faults: Option<BTreeSet<usize>>,
    /// If the run fails, find the few faults of its plan that it takes
    #[arg(long, conflicts_with_all = ["seeds", "trace", "history", "report"])]
    pub(crate) shorten: bool,
    #[command(flatten)]
    pub(crate) outputs: LabOutputs,
    /// Print each seed's verdict as a line of JSON, and of many seeds what all came to as another
    #[arg(long)]
    pub(crate) json: bool,
    /// Of many seeds, print the table of faults as Markdown
    #[arg(long, requires = "seeds", conflicts_with = "json")]
    pub(crate) markdown: bool,
}

/// Longest simulation, in simulated minutes: 60 days, which already take days.
const MINUTES_MAX: f64 = 86_400.0;

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if minutes > 0.0 && minutes <= MINUTES_MAX => Ok(minutes),
        _ => Err(format!(
            "a number of minutes is greater than 0 and at most {MINUTES_MAX}"
        )),
    }
}

fn regions(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(regions @ 1..=REGIONS_MAX) => Ok(regions),
        _ => Err(format!("a simulation has 1 to {REGIONS_MAX} Regions")),
    }
}

fn nodes(text: &str) -> Result<NodeId, String> {
    match text.parse() {
        Ok(nodes @ 1..=NODES_MAX) => Ok(nodes),
        _ => Err(format!("a Region has 1 to {NODES_MAX} nodes")),
    }
}

fn faults(text: &str) -> Result<BTreeSet<usize>, String> {
    if text == "none" {
        return Ok(BTreeSet::new());
    }
    let numbers = text.split(',').map(|number| number.parse());
    let numbers: Result<_, std::num::ParseIntError> = numbers.collect();
    numbers.map_err(|_| "faults are named by their numbers, such as 0,3,7; or none".to_owned())
}
