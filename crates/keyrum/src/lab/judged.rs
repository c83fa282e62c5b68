//! What checkers say of an experiment: on the screen and in files.

use std::path::Path;

use keyrum_lab::checks::Finding;
use keyrum_lab::experiment::{Experiment, Judgement};
use keyrum_lab::judge::{self, export};
use keyrum_lab::report;
use keyrum_lab::scenario::Expectation;

use crate::Failure;
use crate::cli::LabOutputs;
use crate::files;
use crate::run;

/// Most findings of a checker that are shown.
const SHOWN_MAX: usize = 3;

/// Has every checker judge an experiment, beside what was judged while it ran; writes what is asked
/// for, and tells. Gives whether all is as expected: what nothing is expected of must not be false.
pub(super) fn tell(
    mut experiment: Experiment,
    expected: &[Expectation],
    outputs: &LabOutputs,
) -> Result<bool, Failure> {
    let findings = judge::judge(&mut experiment, expected);
    write(&experiment, outputs)?;
    run::print(&in_words(&experiment, expected, &findings))?;
    Ok(findings.is_empty())
}

/// Writes the history and the report where they are asked for.
pub(super) fn write(experiment: &Experiment, outputs: &LabOutputs) -> Result<(), Failure> {
    if let Some(file) = &outputs.history {
        let mut bytes = Vec::new();
        match file.extension().is_some_and(|end| end == "edn") {
            true => export::knossos(experiment, true, &mut bytes)?,
            false => export::write_json(experiment, &mut bytes)?,
        }
        put("--history", file, &bytes)?;
    }
    if let Some(file) = &outputs.report {
        put("--report", file, report::html(experiment).as_bytes())?;
    }
    Ok(())
}

fn put(flag: &str, file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    files::replace(file, bytes).map_err(|error| format!("{flag} {}: {error}", file.display()))?;
    Ok(())
}

fn in_words(experiment: &Experiment, expected: &[Expectation], unexpected: &[Finding]) -> String {
    let mut text = String::new();
    for judgement in &experiment.judgements {
        let Judgement {
            checker,
            holds,
            about,
            findings,
        } = judgement;
        let wanted = expected.iter().find(|e| e.checker == checker.as_ref());
        let remark = match wanted.map(Expectation::wants) {
            Some(wanted) if wanted == *holds => ", as expected",
            Some(_) => ", NOT as expected",
            None => "",
        };
        text += &format!("{checker:<20} {holds:<8} {about}{remark}\n");
        for violation in findings.iter().take(SHOWN_MAX) {
            text += &format!("    {}\n", violation.finding.what);
        }
        if findings.len() > SHOWN_MAX {
            text += &format!("    and {} more\n", findings.len() - SHOWN_MAX);
        }
    }
    let Experiment { calls, faults, .. } = experiment;
    let seconds = experiment.ended_us / 1_000_000;
    let sum = if unexpected.is_empty() {
        "passed"
    } else {
        "FAILED"
    };
    text += &format!(
        "{sum}: {} calls, {} faults in {seconds} s\n",
        calls.len(),
        faults.len()
    );
    for finding in unexpected {
        text += &format!("  {finding}\n");
    }
    text
}
