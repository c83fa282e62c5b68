//! The few faults that a failing simulation takes.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::process::ExitCode;

use keyrum_lab::sim::{self, Verdict};

use super::sim::{first_seed, in_words, one};
use crate::Failure;
use crate::cli::LabSim;
use crate::run;
use crate::signals::{INTERRUPTED, Signals};

/// Runs a simulation and, if it fails, finds the few faults that it takes. Exits as that run would.
pub(super) async fn shorten(args: &LabSim) -> Result<ExitCode, Failure> {
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
    run::print(&in_words(&best, args.json))?;
    Ok(ExitCode::from(match interrupted {
        true => INTERRUPTED,
        false => best.exit_code(),
    }))
}
