//! Walks through lists while these change: a walk shows everything that was there the whole time, and
//! nothing that was not there at any time of it.
//!
//! Judged are walks whose pages are all newest, and that come to their end. What came or went meanwhile
//! may be shown or not.

use std::collections::BTreeSet;

use super::Sight;
use super::existence::{Everything, List, walks};
use crate::experiment::{Experiment, Judgement};

/// Judges `lists`.
pub(super) fn judge(experiment: &Experiment) -> Judgement {
    let calls = &experiment.calls;
    let mut sight = Sight::new("lists");
    let everything = Everything::of(experiment);
    let mut pages = 0;
    for walk in walks(experiment)
        .iter()
        .filter(|walk| walk.strong && !walk.filtered)
    {
        sight.looked(1);
        pages += walk.pages.len();
        let first = &calls[walk.pages[0]];
        let last = &calls[*walk.pages.last().expect("a walk has a page")];
        let (from, until) = (first.start_us, last.end_us.unwrap_or(u64::MAX));
        let shown: BTreeSet<&String> = walk.shown.iter().collect();
        for (name, existence) in everything.in_list(&walk.region, &walk.list) {
            let of = match &walk.list {
                List::Grants(key) => format!("the grants of key {key}"),
                List::Keys => "the keys".to_owned(),
                List::Aliases => "the aliases".to_owned(),
            };
            let place = format!("a walk through {of} in {}", walk.region);
            if shown.contains(name) {
                if existence.surely_missing(from, until) {
                    let what = format_args!("{place} shows {name}, which was not there");
                    sight.find(what, walk.pages.clone());
                }
            } else if let Some(made) = existence.surely_there(from, until) {
                let mut evidence = walk.pages.clone();
                evidence.push(made);
                let what =
                    format_args!("{place} does not show {name}, which was there all the time");
                sight.find(what, evidence);
            }
        }
    }
    sight.remark(format!("{pages} pages"));
    sight.judgement()
}
