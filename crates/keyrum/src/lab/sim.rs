//! One simulation, and what simulations have in common.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::{ExitCode, Output, Stdio};

use keyrum_lab::scenario::{Scenario, Stage};
use keyrum_lab::sim::{self, NODES, REGIONS_MAX, SimOptions, Verdict, faults_in_words};
use tokio::process::Command;

use super::judged;
use super::shorten::shorten;
use super::sweep::sweep;
use crate::Failure;
use crate::cli::LabSim;
use crate::run::{self, UntilClosed};

/// Runs one simulation; exits 1 if it found something.
pub(crate) fn sim(args: &LabSim) -> Result<ExitCode, Failure> {
    let mut options = SimOptions::new(first_seed(args));
    options.regions = args.regions.unwrap_or(REGIONS_MAX);
    options.nodes = args.nodes.unwrap_or(NODES);
    if let Some(file) = &args.scenario {
        let scenario = Scenario::load(file, Stage::Simulation)?;
        options.minutes = scenario.minutes();
        options.scenario = Some((file.display().to_string(), scenario));
    }
    options.minutes = args.minutes.unwrap_or(options.minutes);
    options.faults = args.faults.clone();
    options.trace = match args.trace.as_deref() {
        None => None,
        Some(file) => Some(open(file)?),
    };
    let verdict = match args.outputs.is_asked() {
        false => sim::run(options),
        true => {
            let (verdict, experiment) = sim::record(options);
            judged::write(&experiment, &args.outputs)?;
            verdict
        }
    };
    let text = in_words(&verdict, args.json);
    match args.trace.as_deref() {
        // Beside the trace.
        Some(file) if file == Path::new("-") => run::remark(text.trim_end()),
        _ => run::print(&text)?,
    }
    Ok(ExitCode::from(verdict.exit_code()))
}

fn open(file: &Path) -> io::Result<Box<dyn Write>> {
    if file == Path::new("-") {
        // The run goes on to its verdict when nobody reads the trace any more.
        let out = UntilClosed::new(io::stdout().lock());
        return Ok(Box::new(BufWriter::new(out)));
    }
    let opened = File::create(file).map_err(|error| {
        io::Error::new(error.kind(), format!("--trace {}: {error}", file.display()))
    })?;
    Ok(Box::new(BufWriter::new(opened)))
}

/// Runs simulations in processes of their own.
pub(crate) async fn runs(args: &LabSim) -> Result<ExitCode, Failure> {
    match args.shorten {
        true => shorten(args).await,
        false => sweep(args).await,
    }
}

/// A verdict as it is printed.
pub(super) fn in_words(verdict: &Verdict, json: bool) -> String {
    match json {
        true => serde_json::to_string(verdict).expect("a verdict is plain data") + "\n",
        false => verdict.to_string(),
    }
}

/// Runs one seed in a process of its own.
pub(super) async fn one(program: &Path, args: &LabSim, seed: u64) -> (u64, io::Result<Output>) {
    let mut command = Command::new(program);
    command
        .args(["lab", "sim", "--json"])
        .args(options(args, seed))
        .stdin(Stdio::null())
        // Ctrl-C is for the sweep.
        .process_group(0)
        .kill_on_drop(true);
    (seed, command.output().await)
}

/// What that process is told.
pub(super) fn options(args: &LabSim, seed: u64) -> Vec<String> {
    let mut options = vec!["--seed".to_owned(), seed.to_string()];
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            options.extend([name.to_owned(), value]);
        }
    };
    let file = args.scenario.as_ref();
    add("--scenario", file.map(|file| file.display().to_string()));
    add("--regions", args.regions.map(|count| count.to_string()));
    add("--nodes", args.nodes.map(|count| count.to_string()));
    add("--minutes", args.minutes.map(|minutes| minutes.to_string()));
    add("--faults", args.faults.as_ref().map(faults_in_words));
    options
}

pub(super) fn first_seed(args: &LabSim) -> u64 {
    args.seed.unwrap_or(1)
}
