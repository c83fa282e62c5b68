//! Counters: who writes one more than it has read writes each number once. A number that one client
//! writes twice to the same tag was read from what is old, and what was counted since is lost.

use std::collections::BTreeMap;

use super::Sight;
use crate::experiment::{Experiment, Judgement, Outcome};

/// Judges `lost-updates`.
pub(super) fn judge(experiment: &Experiment) -> Judgement {
    let mut sight = Sight::new("lost-updates");
    // By client, Region, key and tag: the greatest number that was acknowledged, and its call.
    let mut counted: BTreeMap<(usize, &str, &str, &str), (u64, usize)> = BTreeMap::new();
    for (number, call) in experiment.calls.iter().enumerate() {
        if call.operation != "TagResource" || !matches!(call.outcome, Outcome::Done(_)) {
            continue;
        }
        let key = call.input["KeyId"].as_str().unwrap_or_default();
        for tag in call.input["Tags"].as_array().into_iter().flatten() {
            let value = tag["TagValue"].as_str().and_then(|text| text.parse().ok());
            let (Some(name), Some(value)) = (tag["TagKey"].as_str(), value) else {
                continue;
            };
            sight.looked(1);
            let counter = (call.client, call.region.as_str(), key, name);
            let (before, first) = counted.entry(counter).or_insert((value, number));
            if *first == number || value > *before {
                (*before, *first) = (value, number);
                continue;
            }
            let what = format_args!(
                "{key}: #{number} counts {value}, and #{first} had counted {before} before it"
            );
            sight.find(what, vec![*first, number]);
        }
    }
    sight.remark(format!("{} counts in {} tags", sight.looked, counted.len()));
    sight.judgement()
}
