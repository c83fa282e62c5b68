//! What was asked for once is there once at most, and not at all if it was refused.
//!
//! A key is told by its description, a grant by its name, if only one call ever asked for them: however
//! often the cluster passed that call on, one key may come of it. No walk through a list shows one
//! thing twice, and no two calls are told that they made the same key.

use std::collections::{BTreeMap, BTreeSet};

use super::Sight;
use super::existence::walks;
use super::model::names::{items, key_of, metadata, text};
use crate::experiment::{Experiment, Judgement, Outcome};

/// What names a creation among all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Description(String, String),
    GrantName(String, String, String),
}

/// Judges `exactly-once`.
pub(super) fn judge(experiment: &Experiment) -> Judgement {
    let mut sight = Sight::new("exactly-once");
    let mut asked: BTreeMap<Mark, Vec<usize>> = BTreeMap::new();
    let mut made: BTreeMap<String, usize> = BTreeMap::new();
    let mut reworded = BTreeSet::new();
    for (number, call) in experiment.calls.iter().enumerate() {
        if let Some(mark) = asks_for(call) {
            asked.entry(mark).or_default().push(number);
        }
        if ["UpdateKeyDescription", "ReplicateKey"].contains(&call.operation.as_str()) {
            // Such a key no longer tells where it comes from.
            reworded.extend(text(&call.input, "Description").map(str::to_owned));
        }
        if call.operation == "CreateKey"
            && matches!(call.outcome, Outcome::Done(_))
            && let Some(key) = key_of(call)
            && let Some(first) = made.insert(key.clone(), number)
        {
            let what =
                format_args!("#{first} and #{number} are both told that they made key {key}");
            sight.find(what, vec![first, number]);
        }
    }
    let mut seen: BTreeMap<Mark, BTreeMap<String, usize>> = BTreeMap::new();
    for (number, call) in experiment.calls.iter().enumerate() {
        for (mark, id) in shows(call) {
            let reworded = matches!(&mark, Mark::Description(_, text) if reworded.contains(text));
            if asked.contains_key(&mark) && !reworded {
                seen.entry(mark).or_default().entry(id).or_insert(number);
            }
        }
    }
    for (mark, calls) in &asked {
        sight.looked(1);
        let ids: Vec<_> = seen.get(mark).into_iter().flatten().collect();
        // The ids that there may be, one for each call that may have been done. A grant that is
        // asked for twice under its name is the same.
        let may = calls.iter().filter(|number| {
            let outcome = &experiment.calls[**number].outcome;
            matches!(outcome, Outcome::Done(_) | Outcome::Unknown(_))
        });
        let may = may.count();
        if ids.len() > may {
            let what = match mark {
                Mark::Description(_, text) => format!("key {text:?}"),
                Mark::GrantName(_, key, name) => format!("grant {name:?} of key {key}"),
            };
            let names: Vec<_> = ids.iter().map(|(id, _)| id.as_str()).collect();
            let there = names.join(" and ");
            let what = match may {
                0 => format!("{what} was not to be made, and {there} is there"),
                _ => format!("{what} was asked for {may} times, and there are {there}"),
            };
            let evidence = calls
                .iter()
                .copied()
                .chain(ids.iter().map(|(_, number)| **number));
            sight.find(what, evidence.collect());
        }
    }
    for walk in walks(experiment) {
        sight.looked(1);
        let mut before = BTreeSet::new();
        for name in &walk.shown {
            if !before.insert(name) {
                let what = format_args!("one walk in {} shows {name} twice", walk.region);
                sight.find(what, walk.pages.clone());
            }
        }
    }
    sight.remark(format!(
        "{} creations told by a name of their own",
        asked.len()
    ));
    sight.judgement()
}

fn asks_for(call: &crate::experiment::Call) -> Option<Mark> {
    let region = call.region.clone();
    match call.operation.as_str() {
        "CreateKey" => {
            let description = text(&call.input, "Description").filter(|text| !text.is_empty())?;
            Some(Mark::Description(region, description.to_owned()))
        }
        "CreateGrant" => {
            let name = text(&call.input, "Name")?.to_owned();
            Some(Mark::GrantName(region, key_of(call)?, name))
        }
        _ => None,
    }
}

/// The ids that a call shows with their marks.
fn shows(call: &crate::experiment::Call) -> Vec<(Mark, String)> {
    let Outcome::Done(answer) = &call.outcome else {
        return Vec::new();
    };
    let region = &call.region;
    let mut shown = Vec::new();
    if let Some(all) = metadata(answer)
        && let (Some(description), Some(key)) = (text(all, "Description"), key_of(call))
    {
        let mark = Mark::Description(region.clone(), description.to_owned());
        shown.push((mark, key));
    }
    let Some(key) = key_of(call) else {
        return shown;
    };
    if call.operation == "CreateGrant"
        && let (Some(name), Some(id)) = (text(&call.input, "Name"), text(answer, "GrantId"))
    {
        let mark = Mark::GrantName(region.clone(), key.clone(), name.to_owned());
        shown.push((mark, id.to_owned()));
    }
    for grant in items(answer, "Grants") {
        if let (Some(name), Some(id)) = (text(grant, "Name"), text(grant, "GrantId")) {
            let mark = Mark::GrantName(region.clone(), key.clone(), name.to_owned());
            shown.push((mark, id.to_owned()));
        }
    }
    shown
}
