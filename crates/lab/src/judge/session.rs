//! What a client may rely on when it reads weaker than linearizably.
//!
//! A weaker read shows a state that was there once, not after the read's end; how long ago is open.
//! Within a session, though, reads show states in the order of the log:
//!
//! - `monotonic-reads`, which `local` and `eventual` promise: a session is one client's reads from one
//!   node, until that node restarts. A node that comes up again begins with what its disk has, which
//!   may be less than it had shown.
//! - `monotonic-reads-anywhere`: a session is all reads of a client.
//! - `read-your-writes`: a read comes after the changes that its client knew to be done.
//! - `monotonic-writes`, `writes-follow-reads`: bounds are dropped but for those that a client's own
//!   calls set, so these are much weaker than `linearizable`; they say what is left when that is false.
//!
//! Source: Terry et al., *Session guarantees for weakly consistent replicated data* (1994), with a log
//! in the place of their write sets.

use std::collections::BTreeMap;

use super::Sight;
use super::linear::{calls_of, strict};
use super::model::{History, Model, Op};
use super::search::{Entry, Found};
use super::shrink::smallest;
use crate::experiment::{Call, Experiment, FaultWindow, Judgement};

/// Faults that leave a node's process as it is, in alphabetical order.
const HARMLESS: [&str; 26] = [
    "bridge",
    "clock-jump",
    "clock-off",
    "cut-client",
    "cut-courier",
    "cut-pair",
    "delay",
    "distant",
    "domain-key-turns",
    "halves",
    "isolate",
    "lose",
    "member-added",
    "minority",
    "one-way",
    "pause",
    "purge-now",
    "reorder",
    "repeat",
    "ring",
    "sever",
    "slow",
    "slow-disk",
    "snapshot-now",
    "stall",
    "time-passes",
];

/// A history without the reads that are linearizable: those are `linearizable`'s to judge.
fn is_change(op: &Op) -> bool {
    !op.does.only_reads()
}

fn is_late(op: &Op) -> bool {
    op.weak && op.does.only_reads()
}

/// A read that may show any state up to its end.
fn late(op: &Op, call: &Call, session: Option<usize>) -> Entry {
    Entry {
        start: 0,
        session: session.map(|session| (session, call.start_us)),
        ..strict(op, call)
    }
}

/// Numbers for sessions.
#[derive(Default)]
struct Sessions<K>(BTreeMap<K, usize>);

impl<K: Ord> Sessions<K> {
    fn number(&mut self, of: K) -> usize {
        let next = self.0.len();
        *self.0.entry(of).or_insert(next)
    }
}

/// How often a node may have come up anew by then.
fn restarts(faults: &[FaultWindow], call: &Call) -> usize {
    let hits = faults.iter().filter(|fault| {
        let region = fault.region.as_ref();
        HARMLESS.binary_search(&fault.kind.as_ref()).is_err()
            && region.is_none_or(|region| *region == call.region)
            && (fault.nodes.is_empty() || call.node.is_none_or(|node| fault.nodes.contains(&node)))
    });
    let moments = hits.flat_map(|fault| [Some(fault.from_us), fault.until_us]);
    moments
        .flatten()
        .filter(|moment| *moment <= call.start_us)
        .count()
}

/// Judges `monotonic-reads`.
pub(super) fn monotonic_reads(experiment: &Experiment) -> Judgement {
    let faults = &experiment.faults;
    let mut sight = Sight::new("monotonic-reads");
    let mut anywhere = 0;
    judge(&mut sight, experiment, |history, calls| {
        let mut sessions = Sessions::default();
        let mut entries = Vec::new();
        for op in &history.ops {
            let call = &calls[op.call];
            if is_change(op) {
                entries.push(strict(op, call));
            } else if is_late(op) {
                let Some(node) = call.node else {
                    anywhere += 1;
                    continue;
                };
                let session = sessions.number((call.client, node, restarts(faults, call)));
                entries.push(late(op, call, Some(session)));
            }
        }
        vec![entries]
    });
    if anywhere > 0 {
        sight.remark(format!(
            "{anywhere} reads from no certain node were left out"
        ));
    }
    sight.judgement()
}

/// Judges `monotonic-reads-anywhere`.
pub(super) fn monotonic_reads_anywhere(experiment: &Experiment) -> Judgement {
    let mut sight = Sight::new("monotonic-reads-anywhere");
    judge(&mut sight, experiment, |history, calls| {
        let seen = history.ops.iter().filter_map(|op| {
            let call = &calls[op.call];
            match () {
                () if is_change(op) => Some(strict(op, call)),
                () if is_late(op) => Some(late(op, call, Some(call.client))),
                () => None,
            }
        });
        vec![seen.collect()]
    });
    sight.judgement()
}

/// Judges `read-your-writes`.
pub(super) fn read_your_writes(experiment: &Experiment) -> Judgement {
    let mut sight = Sight::new("read-your-writes");
    judge(&mut sight, experiment, |history, calls| {
        let entries = |in_order: bool| -> Vec<Entry> {
            let mut own: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            let mut entries = Vec::new();
            for op in &history.ops {
                let call = &calls[op.call];
                if is_change(op) {
                    own.entry(call.client).or_default().push(op.call);
                    entries.push(strict(op, call));
                } else if is_late(op) {
                    let session = in_order.then_some(call.client);
                    let theirs = own.get(&call.client).into_iter().flatten().copied();
                    let known = theirs
                        .filter(|own| calls[*own].end_us.is_some_and(|end| end < call.start_us));
                    entries.push(Entry {
                        after: known.collect(),
                        ..late(op, call, session)
                    });
                }
            }
            entries
        };
        // Reads in order are more than is asked for, but quickly found, and mostly there.
        vec![entries(true), entries(false)]
    });
    sight.judgement()
}

/// Judges `monotonic-writes`.
pub(super) fn monotonic_writes(experiment: &Experiment) -> Judgement {
    let mut sight = Sight::new("monotonic-writes");
    judge(&mut sight, experiment, |history, calls| {
        let mut sessions = Sessions::default();
        let ops = history.ops.iter().map(|op| {
            let call = &calls[op.call];
            let node = match is_change(op) {
                true => None,
                false => Some((call.node, restarts(&experiment.faults, call))),
            };
            late(op, call, Some(sessions.number((call.client, node))))
        });
        vec![ops.collect()]
    });
    sight.judgement()
}

/// Judges `writes-follow-reads`.
pub(super) fn writes_follow_reads(experiment: &Experiment) -> Judgement {
    let mut sight = Sight::new("writes-follow-reads");
    judge(&mut sight, experiment, |history, calls| {
        let mut sessions = Sessions::default();
        let mut reads: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut entries = Vec::new();
        for op in &history.ops {
            let call = &calls[op.call];
            if is_change(op) {
                let theirs = reads.get(&call.client).into_iter().flatten().copied();
                let before = theirs
                    .filter(|read| calls[*read].end_us.is_some_and(|end| end < call.start_us));
                entries.push(Entry {
                    after: before.collect(),
                    ..late(op, call, None)
                });
            } else {
                reads.entry(call.client).or_default().push(op.call);
                let node = (call.node, restarts(&experiment.faults, call));
                let session = sessions.number((call.client, node));
                entries.push(late(op, call, Some(session)));
            }
        }
        vec![entries]
    });
    sight.judgement()
}

/// Judges each object by what `entries` makes of it: it holds if any of the histories given has an
/// order. The last is what is asked for; those before it imply it.
fn judge(
    sight: &mut Sight,
    experiment: &Experiment,
    mut entries: impl FnMut(&History, &[Call]) -> Vec<Vec<Entry>>,
) {
    let model = Model::of(experiment);
    let mut changes_alone = 0;
    for (object, history) in &model.objects {
        let spec = &history.spec;
        let histories = entries(history, &experiment.calls);
        let asked = histories.last().expect("each asks for something");
        let reads = asked.iter().filter(|entry| entry.does.only_reads()).count();
        if reads == 0 {
            continue;
        }
        sight.looked(reads);
        let mut found = Found::None;
        for history in &histories {
            found = sight.search(spec, history, object);
            if found == Found::Order {
                break;
            }
        }
        match found {
            Found::Order | Found::GaveUp => {}
            Found::None => {
                let changes = asked.iter().filter(|entry| !entry.does.only_reads());
                let changes: Vec<Entry> = changes.cloned().collect();
                if sight.search(spec, &changes, object) != Found::Order {
                    changes_alone += 1;
                    continue;
                }
                let calls = calls_of(&smallest(spec, asked));
                sight.find(
                    format_args!("{object}: {}", what_of(&calls, experiment)),
                    calls,
                );
            }
        }
    }
    if changes_alone > 0 {
        let why = "the changes alone are in no order that explains them, so that reads say nothing";
        sight.unknown(format!("{changes_alone} objects: {why}"));
    }
    sight.remark(model.about());
}

fn what_of(calls: &[usize], experiment: &Experiment) -> String {
    let shown = calls.iter().map(|number| {
        let call = &experiment.calls[*number];
        let client = experiment
            .clients
            .get(call.client)
            .map_or("?", String::as_str);
        let node = call
            .node
            .map_or(String::new(), |node| format!(" at node {node}"));
        format!("#{number} {} by {client}{node}", call.operation)
    });
    let shown: Vec<String> = shown.collect();
    format!("no such order explains {}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches faults that are not found because the list is out of order.
    #[test]
    fn the_list_is_in_order() {
        assert!(HARMLESS.is_sorted());
    }
}
