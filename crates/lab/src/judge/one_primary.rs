//! At most one primary per family at a time.
//!
//! What is looked at is the members as each Region's log has them, in order of time. In a simulated
//! run that is a cut: all Regions are looked at in one instant. Processes are looked at one after the
//! other, so what was seen at a time may be older in one Region than in the next: a former primary may
//! be seen to step down after the new one was seen to step up. There the logs tell, if they were read:
//! two primaries could have been seen together, in a consistent cut, unless the log of the one Region had
//! heard, by messages, that the other's had stepped down ([`super::cut`]). Without logs, two primaries of
//! processes are a finding only if they are still there when all has healed and nobody calls any more;
//! those that were seen only for a while leave the verdict unknown.

use std::collections::{BTreeMap, BTreeSet};

use super::{Sight, cut};
use crate::experiment::{Experiment, Judgement};

/// Judges `one-primary`.
pub(super) fn judge(experiment: &Experiment) -> Judgement {
    let mut sight = Sight::new("one-primary");
    if !experiment.logs.is_empty() {
        judge_logs(&mut sight, experiment);
        return sight.judgement();
    }
    let mut primaries: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut for_a_while = BTreeSet::new();
    let mut told = BTreeSet::new();
    let seen = &experiment.members;
    sight.looked(seen.len());
    for (nth, member) in seen.iter().enumerate() {
        let of = primaries.entry(&member.key).or_default();
        match member.primary && member.state.is_some() {
            true => of.insert(&member.region),
            false => of.remove(member.region.as_str()),
        };
        // What was seen at one time belongs together.
        let same_time = seen
            .get(nth + 1)
            .is_some_and(|next| next.at_us == member.at_us);
        if same_time {
            continue;
        }
        for (key, of) in primaries.iter().filter(|(_, of)| of.len() > 1) {
            if !experiment.simulated {
                for_a_while.insert(*key);
            } else if told.insert((*key, of.clone())) {
                let at = member.at_us;
                sight.find(
                    format_args!("{key} has primaries in {} at {at} \u{b5}s", words(of)),
                    Vec::new(),
                );
            }
        }
    }
    if !experiment.simulated {
        let lasting = primaries.iter().filter(|(_, of)| of.len() > 1);
        for (key, of) in lasting.filter(|_| experiment.healed_at_us.is_some()) {
            for_a_while.remove(*key);
            let what = format_args!("{key} has primaries in {} when all has healed", words(of));
            sight.find(what, Vec::new());
        }
        if !for_a_while.is_empty() {
            let keys: Vec<_> = for_a_while.into_iter().collect();
            sight.unknown(format!(
                "{} had two primaries for a while, which may be because Regions are looked at one \
                 after the other",
                keys.join(", ")
            ));
        }
    }
    sight.remark(format!(
        "{} changes of members of {} families",
        seen.len(),
        primaries.len()
    ));
    sight.judgement()
}

/// Judges by the Regions' logs.
fn judge_logs(sight: &mut Sight, experiment: &Experiment) {
    let reigns = match cut::reigns(&experiment.logs) {
        Ok(reigns) => reigns,
        Err(why) => return sight.unknown(why),
    };
    let mut families: BTreeMap<&str, Vec<&cut::Reign>> = BTreeMap::new();
    for reign in &reigns {
        families.entry(reign.key).or_default().push(reign);
    }
    for (key, reigns) in &families {
        for (nth, one) in reigns.iter().enumerate() {
            for other in &reigns[..nth] {
                if one.may_be_seen_with(other) {
                    let what = format_args!(
                        "{key} has primaries in {other} and in {one}, and neither log had heard that the other steps down"
                    );
                    sight.find(what, Vec::new());
                }
            }
        }
    }
    sight.looked(reigns.len());
    sight.remark(format!(
        "{} primaries of {} families, by the logs of {} Regions",
        reigns.len(),
        families.len(),
        experiment.logs.len()
    ));
}

fn words(regions: &BTreeSet<&str>) -> String {
    regions.iter().copied().collect::<Vec<_>>().join(" and ")
}
