//! Many simulations, a process each.

use std::process::ExitCode;

use futures_util::stream::{FuturesUnordered, StreamExt};
use keyrum_lab::scenario::{Scenario, Stage};
use keyrum_lab::sim::{Sweep, Verdict};
use tokio::time::Instant;

use super::sim::{first_seed, one, options};
use crate::Failure;
use crate::cli::LabSim;
use crate::run;
use crate::signals::{INTERRUPTED, Signals};

/// Runs many simulations, a process each, as many at a time as there are cores; tells of those that
/// fail as they end, and of all at the end. Exits 1 if one failed.
pub(super) async fn sweep(args: &LabSim) -> Result<ExitCode, Failure> {
    let mut signals = Signals::catch()?;
    let program = std::env::current_exe()?;
    if let Some(file) = &args.scenario {
        // Said once, and not by every seed.
        Scenario::load(file, Stage::Simulation)?;
    }
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
    let table = sweep.table();
    match (args.json, args.markdown) {
        // Beside the verdicts, a line each.
        (true, _) => {
            run::print(&format!("{}\n", sweep.json()))?;
            run::remark(text.trim_end());
        }
        (false, true) => {
            run::print(&table.markdown())?;
            run::remark(text.trim_end());
        }
        (false, false) => run::print(&format!("{text}{table}"))?,
    }
    Ok(ExitCode::from(match interrupted {
        true => INTERRUPTED,
        false => sweep.exit_code(),
    }))
}
