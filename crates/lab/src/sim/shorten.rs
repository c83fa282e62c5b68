//! The few faults of a failing run's plan that it takes.

use std::collections::BTreeSet;
use std::future::Future;

use futures_util::future::join_all;

use super::verdict::Verdict;

/// Leaves out as many faults of a failed run as it can without the failure going away: part after part
/// of those that are left, and ever smaller parts. `run` runs the same seed with some of its faults;
/// `at_once` of these run at the same time. `better` hears of each shorter run that fails the same way,
/// and how many runs that took.
///
/// A run fails the same way if the check says something that said something first. Other faults make
/// other traffic, so what is left need not be the least that fails; leaving out any one more passes,
/// unless the runs were interrupted.
///
/// Source: A. Zeller and R. Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002.
pub async fn shorten<F: Future<Output = Option<Verdict>>>(
    failed: &Verdict,
    at_once: usize,
    run: impl Fn(BTreeSet<usize>) -> F,
    mut better: impl FnMut(&Verdict, usize),
) {
    let Some(first) = failed.findings.first() else {
        return;
    };
    let same = |verdict: &Verdict| (verdict.findings.iter()).any(|f| f.check == first.check);
    let mut left: Vec<usize> = match &failed.faults {
        Some(faults) => faults.iter().copied().collect(),
        None => (0..failed.plan.len()).collect(),
    };
    let (mut parts, mut runs) = (1, 0);
    while !left.is_empty() {
        let length = left.len().div_ceil(parts);
        let without = |part: &[usize]| -> BTreeSet<usize> {
            let kept = left.iter().filter(|number| !part.contains(number));
            kept.copied().collect()
        };
        let tries: Vec<BTreeSet<usize>> = left.chunks(length).map(without).collect();
        let mut shorter = None;
        for some in tries.chunks(at_once.max(1)) {
            let verdicts = join_all(some.iter().cloned().map(&run)).await;
            runs += some.len();
            let verdicts = verdicts.into_iter().zip(some);
            let mut verdicts = verdicts.filter_map(|(verdict, faults)| Some((verdict?, faults)));
            shorter = verdicts.find(|(verdict, _)| same(verdict));
            if shorter.is_some() {
                break;
            }
        }
        match shorter {
            Some((verdict, faults)) => {
                better(&verdict, runs);
                left = faults.iter().copied().collect();
                parts = (parts - 1).max(2);
            }
            None if length == 1 => return,
            None => parts = (parts * 2).min(left.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::ready;

    use super::*;
    use crate::checks::Finding;
    use crate::checks::exercised::Figures;

    fn verdict(faults: Option<BTreeSet<usize>>, check: Option<&'static str>) -> Verdict {
        Verdict {
            seed: 1,
            minutes: 1.0,
            regions: 1,
            nodes: 3,
            scenario: None,
            plan: (0..40).map(|number| number.to_string()).collect(),
            faults,
            findings: check
                .map(|check| Finding::new(check, "wrong"))
                .into_iter()
                .collect(),
            figures: Figures::default(),
            trace: (0, 0),
            healed_after_ms: None,
            simulated_ms: 0,
        }
    }

    /// Catches faults that are left although it goes without, a failure that is another one, and a plan
    /// that is run more often than it takes.
    #[tokio::test]
    async fn what_is_left_is_what_it_takes() {
        for needed in [&[][..], &[7], &[0, 39], &[3, 4, 20, 21, 33]] {
            let needed: BTreeSet<usize> = needed.iter().copied().collect();
            let tried = RefCell::new(0);
            let run = |faults: BTreeSet<usize>| {
                *tried.borrow_mut() += 1;
                let check = match needed.is_subset(&faults) {
                    true => Some("lost"),
                    // Fails, but otherwise.
                    false => Some("not-healed").filter(|_| faults.len() % 2 == 1),
                };
                ready(Some(verdict(Some(faults), check)))
            };
            let mut last = None;
            let failed = verdict(None, Some("lost"));
            shorten(&failed, 2, run, |verdict, _| last = verdict.faults.clone()).await;
            assert_eq!(last.as_ref(), Some(&needed));
            assert!(*tried.borrow() < 120, "{} for {needed:?}", tried.borrow());
        }
    }

    /// Catches an end that never comes where runs give no verdict.
    #[tokio::test]
    async fn broken_runs_shorten_nothing() {
        let failed = verdict(Some((0..5).collect()), Some("lost"));
        shorten(
            &failed,
            3,
            |_| ready(None),
            |_, _| panic!("nothing is shorter"),
        )
        .await;
    }
}
