//! Weaker reads that show what was over when they began, and by how much they are late.
//!
//! Each read is judged for itself against the changes and the linearizable reads: whether it would
//! have an order with them if it were linearizable, and if not, how much earlier it would have to have
//! begun.

use std::collections::BTreeSet;

use super::Sight;
use super::linear::{calls_of, strict};
use super::model::{Model, Op};
use super::search::{Entry, Found};
use super::shrink::smallest;
use crate::experiment::{Experiment, Judgement};

/// Of how many reads of an object the smallest history is looked for.
const SHRUNK_MAX: usize = 3;

/// Judges `stale-reads`.
pub(super) fn judge(experiment: &Experiment) -> Judgement {
    let calls = &experiment.calls;
    let mut sight = Sight::new("stale-reads");
    let (mut reads, mut stale) = (BTreeSet::new(), BTreeSet::new());
    let mut longest_us = 0;
    for (object, history) in &Model::of(experiment).objects {
        let spec = &history.spec;
        let entry = |op: &Op| strict(op, &calls[op.call]);
        let late = |op: &Op| op.weak && op.does.only_reads();
        let weaker: Vec<Entry> = history
            .ops
            .iter()
            .filter(|op| late(op))
            .map(entry)
            .collect();
        if weaker.is_empty() {
            continue;
        }
        sight.looked(weaker.len());
        reads.extend(weaker.iter().map(|read| read.call));
        let all: Vec<Entry> = history.ops.iter().map(entry).collect();
        if sight.search(spec, &all, object) == Found::Order {
            continue;
        }
        let firm = history.ops.iter().filter(|op| !op.weak);
        let firm: Vec<Entry> = firm.map(entry).collect();
        if sight.search(spec, &firm, object) != Found::Order {
            sight.unknown(format!("{object}: no order explains what is linearizable"));
            continue;
        }
        let mut shrunk = 0;
        for read in weaker {
            let search = |part: &[Entry]| sight.search(spec, part, object);
            match lateness(search, &firm, &read) {
                Lateness::None | Lateness::CannotTell => {}
                late => {
                    stale.insert(read.call);
                    shrunk += 1;
                    let operation = &calls[read.call].operation;
                    let what = match late {
                        Lateness::By(us) => {
                            longest_us = longest_us.max(us);
                            format!("shows what was over {us} \u{b5}s before it began")
                        }
                        _ => "shows what never was".to_owned(),
                    };
                    let number = read.call;
                    let evidence = match shrunk {
                        ..=SHRUNK_MAX => {
                            let mut part = firm.clone();
                            part.push(read);
                            calls_of(&smallest(spec, &part))
                        }
                        _ => vec![number],
                    };
                    sight.find(
                        format_args!("{object}: #{number} {operation} {what}"),
                        evidence,
                    );
                }
            }
        }
    }
    if !reads.is_empty() {
        let longest = match longest_us {
            0 => String::new(),
            us => format!(", by up to {us} \u{b5}s"),
        };
        sight.remark(format!(
            "{} of {} weaker reads were late{longest}",
            stale.len(),
            reads.len()
        ));
    }
    sight.judgement()
}

/// How late a read is.
enum Lateness {
    None,
    /// So many microseconds at least.
    By(u64),
    /// It shows what never was.
    Ever,
    CannotTell,
}

fn lateness(mut search: impl FnMut(&[Entry]) -> Found, firm: &[Entry], read: &Entry) -> Lateness {
    let mut try_from = |start: u64| {
        let mut part = firm.to_vec();
        part.push(Entry {
            start,
            ..read.clone()
        });
        search(&part)
    };
    match try_from(read.start) {
        Found::Order => return Lateness::None,
        Found::GaveUp => return Lateness::CannotTell,
        Found::None => {}
    }
    // Only what has ended since makes a difference.
    let ends = firm.iter().filter_map(|entry| entry.end);
    let mut moments: Vec<u64> = ends.filter(|end| *end < read.start).collect();
    moments.push(0);
    moments.sort_unstable();
    moments.dedup();
    match try_from(0) {
        Found::Order => {}
        Found::GaveUp => return Lateness::CannotTell,
        Found::None => return Lateness::Ever,
    }
    // The latest moment that does.
    let (mut does, mut does_not) = (0, moments.len());
    while does + 1 < does_not {
        let middle = does.midpoint(does_not);
        match try_from(moments[middle]) {
            Found::Order => does = middle,
            _ => does_not = middle,
        }
    }
    Lateness::By(read.start - moments[does])
}
