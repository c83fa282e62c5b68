//! What a scenario expects of checkers, beside what they say.

use super::{all, by_name};
use crate::checks::Finding;
use crate::experiment::{Experiment, Holds, Judgement};
use crate::scenario::{Expectation, ExpectedVerdict};

impl Expectation {
    /// The verdict that it wants.
    pub fn wants(&self) -> Holds {
        match self.verdict {
            ExpectedVerdict::True => Holds::True,
            ExpectedVerdict::False => Holds::False,
            ExpectedVerdict::Unknown => Holds::Unknown,
        }
    }
}

/// Adds what checkers say to what was judged while the experiment ran: all that judge what is
/// promised, and those of which something is expected. Gives what is not as expected; of what nothing
/// is expected must not be false.
pub fn judge(experiment: &mut Experiment, expected: &[Expectation]) -> Vec<Finding> {
    let mut judgements = all(experiment);
    let mut findings = Vec::new();
    for expectation in expected {
        let is_judged = |judgement: &Judgement| judgement.checker == expectation.checker.as_str();
        let mut known = experiment.judgements.iter().chain(&judgements);
        if known.any(is_judged) {
            continue;
        }
        match by_name(&expectation.checker) {
            Some(checker) => judgements.push(checker.judge(experiment)),
            None => findings.push(Finding::new(
                expectation.checker.clone(),
                "no checker has this name",
            )),
        }
    }
    experiment.judgements.extend(judgements);
    for Judgement {
        checker,
        holds,
        about,
        findings: found,
    } in &experiment.judgements
    {
        let wanted = expected.iter().find(|e| e.checker == checker.as_ref());
        let what = match wanted.map(Expectation::wants) {
            Some(wanted) if wanted == *holds => continue,
            Some(wanted) => format!("expected {wanted}, is {holds}"),
            None if *holds == Holds::False => "is false".to_owned(),
            None => continue,
        };
        let first = found.first().map(|violation| &*violation.finding.what);
        let why = first.unwrap_or(about);
        findings.push(Finding::new(checker.clone(), format_args!("{what}: {why}")));
    }
    findings
}
