//! `keyrum lab`: experiments.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::{ExitCode, Output, Stdio};

use futures_util::stream::{FuturesUnordered, StreamExt};
use keyrum_lab::sim::{self, SimOptions, Sweep, Verdict, faults_in_words};
use tokio::process::Command;
use tokio::time::Instant;

use crate::Failure;
use crate::cli::LabSim;
use crate::run::{self, UntilClosed};
use crate::signals::{INTERRUPTED, Signals};

/// Runs one simulation; exits 1 if it found something.
pub(crate) fn sim(args: &LabSim) -> Result<ExitCode, Failure> {
    let mut options = SimOptions::new(first_seed(args));
    options.minutes = args.minutes;
    options.regions = args.regions;
    options.faults = args.faults.clone();
    options.trace = match args.trace.as_deref() {
        None => None,
        Some(file) => Some(open(file)?),
    };
    let verdict = sim::run(options);
    let text = match args.json {
        true => serde_json::to_string(&verdict).expect("a verdict is plain data") + "\n",
        false => verdict.to_string(),
    };
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

/// Runs a simulation and, if it fails, finds the few faults that it takes. Exits as that run would.
async fn shorten(args: &LabSim) -> Result<ExitCode, Failure> {
    let mut signals = Signals::catch()?;
    let program = std::env::current_exe()?;
    let run = async |faults: Option<BTreeSet<usize>>| {
        let args = LabSim {
            faults,
            ..args.clone()
        };
        let (_, output) = one(&program, &args, first_seed(&args)).await;
        serde_json::from_slice::<Verdict>(&output.ok()?.stdout).ok()
    };
    let whole = tokio::select! {
        verdict = run(args.faults.clone()) => verdict.ok_or("the run ended without a verdict; without --shorten it says why")?,
        () = signals.next() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let best = RefCell::new(whole.clone());
    let better = |verdict: &Verdict, runs: usize| {
        let left = verdict.faults.as_ref().map_or(0, BTreeSet::len);
        run::remark(&format!("{left} faults do it, too (after {runs} runs)"));
        *best.borrow_mut() = verdict.clone();
    };
    if let Some(first) = whole.findings.first() {
        let count = whole.plan.len();
        run::remark(&format!("with all {count} faults of the plan: {first}"));
    }
    let cores = std::thread::available_parallelism()?.get();
    let interrupted = tokio::select! {
        () = sim::shorten(&whole, cores, |faults| run(Some(faults)), better) => false,
        () = signals.next() => true,
    };
    let best = best.into_inner();
    let text = match args.json {
        true => serde_json::to_string(&best).expect("a verdict is plain data") + "\n",
        false => best.to_string(),
    };
    run::print(&text)?;
    Ok(ExitCode::from(match interrupted {
        true => INTERRUPTED,
        false => best.exit_code(),
    }))
}

/// Runs many simulations, a process each, as many at a time as there are cores; tells of those that
/// fail as they end, and of all at the end. Exits 1 if one failed.
async fn sweep(args: &LabSim) -> Result<ExitCode, Failure> {
    let mut signals = Signals::catch()?;
    let program = std::env::current_exe()?;
    let count = args.seeds.map_or(1, |count| count.get());
    let mut seeds = (0..count).map(|nth| first_seed(args).wrapping_add(nth));
    let cores = std::thread::available_parallelism()?.get();
    let mut running = FuturesUnordered::new();
    let mut sweep = Sweep::default();
    let began = Instant::now();
    let interrupted = loop {
        while running.len() < cores
            && let Some(seed) = seeds.next()
        {
            running.push(one(&program, args, seed));
        }
        let (seed, output) = tokio::select! {
            () = signals.next() => break true,
            ended = running.next() => match ended {
                Some((seed, output)) => (seed, output?),
                None => break false,
            },
        };
        match serde_json::from_slice::<Verdict>(&output.stdout) {
            Ok(verdict) => {
                let failure = sweep.note(&verdict);
                match args.json {
                    true => run::print(&String::from_utf8_lossy(&output.stdout))?,
                    false => failure.map_or(Ok(()), |line| run::print(&format!("{line}\n")))?,
                }
            }
            Err(_) => {
                sweep.note_broken(seed);
                let words = String::from_utf8_lossy(&output.stderr);
                let (status, words) = (output.status, words.trim_end());
                let again = format!("keyrum lab sim {}", options(args, seed).join(" "));
                run::remark(&format!(
                    "seed {seed} gave no verdict ({status}); again: {again}\n{words}"
                ));
            }
        }
    };
    // What still runs ends with this.
    drop(running);
    sweep.wall = began.elapsed();
    let mut text = sweep.to_string();
    if interrupted {
        text = format!(
            "interrupted after {} of {count} seeds\n{text}",
            sweep.runs()
        );
    }
    match args.json {
        true => run::remark(text.trim_end()),
        false => run::print(&text)?,
    }
    Ok(ExitCode::from(match interrupted {
        true => INTERRUPTED,
        false => sweep.exit_code(),
    }))
}

/// Runs one seed in a process of its own.
async fn one(program: &Path, args: &LabSim, seed: u64) -> (u64, io::Result<Output>) {
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

fn options(args: &LabSim, seed: u64) -> Vec<String> {
    let (regions, minutes) = (args.regions, args.minutes);
    let mut options = format!("--seed {seed} --regions {regions} --minutes {minutes}");
    if let Some(faults) = &args.faults {
        options += &format!(" --faults {}", faults_in_words(faults));
    }
    options.split(' ').map(str::to_owned).collect()
}

fn first_seed(args: &LabSim) -> u64 {
    args.seed.unwrap_or(1)
}
