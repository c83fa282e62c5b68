//! A run whose faults never took effect proves nothing: it fails as "not exercised".

use std::collections::BTreeMap;

use super::Sight;
use crate::experiment::{Experiment, Judgement};

/// Judges `exercised`.
pub(super) fn judge(experiment: &Experiment) -> Judgement {
    let mut sight = Sight::new("exercised");
    let mut kinds: BTreeMap<&str, (usize, Option<u64>)> = BTreeMap::new();
    for fault in &experiment.faults {
        let (windows, effects) = kinds.entry(&fault.kind).or_default();
        *windows += 1;
        if let Some(more) = fault.effects {
            *effects = Some(effects.unwrap_or_default() + more);
        }
    }
    let mut uncounted = Vec::new();
    let mut counts = Vec::new();
    for (kind, (windows, effects)) in &kinds {
        match effects {
            None => uncounted.push(*kind),
            Some(0) => {
                sight.looked(1);
                let times = if *windows == 1 {
                    "once"
                } else {
                    "several times"
                };
                let what = format_args!(
                    "not exercised: {kind} was put in force {times} and never took effect"
                );
                sight.find(what, Vec::new());
            }
            Some(effects) => {
                sight.looked(1);
                counts.push(format!("{kind} {effects}"));
            }
        }
    }
    if !counts.is_empty() {
        sight.remark(format!("effects: {}", counts.join(", ")));
    }
    if !uncounted.is_empty() {
        sight.remark(format!("cannot be counted: {}", uncounted.join(", ")));
    }
    sight.judgement()
}
