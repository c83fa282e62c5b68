//! Linearizability: every call seems to happen at one moment between its beginning and its end.
//!
//! `linearizable` judges what is promised: changes, and reads that are not `local` or `eventual`.
//! `linearizable-all` judges as if every read were promised so, and `durable` only changes and the
//! reads after the last of them.

use super::Sight;
use super::model::{History, Model, Object, Op};
use super::search::{Entry, Found};
use super::shrink::smallest;
use crate::experiment::{Call, Experiment, Judgement};

/// A call's operation with the bounds that its beginning and end are.
pub(super) fn strict(op: &Op, call: &Call) -> Entry {
    Entry {
        call: op.call,
        start: call.start_us,
        end: if op.open { None } else { call.end_us },
        does: op.does.clone(),
        session: None,
        after: Vec::new(),
    }
}

/// Judges `linearizable`.
pub(super) fn promised(experiment: &Experiment) -> Judgement {
    let mut sight = Sight::new("linearizable");
    judge(&mut sight, experiment, |history, calls| {
        let strong = history.ops.iter().filter(|op| !op.weak);
        strong.map(|op| strict(op, &calls[op.call])).collect()
    });
    sight.judgement()
}

/// Judges `linearizable-all`.
pub(super) fn all(experiment: &Experiment) -> Judgement {
    let mut sight = Sight::new("linearizable-all");
    judge(&mut sight, experiment, |history, calls| {
        let all = history.ops.iter();
        all.map(|op| strict(op, &calls[op.call])).collect()
    });
    sight.judgement()
}

/// Judges `durable`.
pub(super) fn durable(experiment: &Experiment) -> Judgement {
    let mut sight = Sight::new("durable");
    let mut never_read = 0;
    judge(&mut sight, experiment, |history, calls| {
        let changes = || history.ops.iter().filter(|op| !op.does.only_reads());
        let acknowledged = changes().filter(|op| !op.open);
        let Some(last) = acknowledged.filter_map(|op| calls[op.call].end_us).max() else {
            return Vec::new();
        };
        let reads = history
            .ops
            .iter()
            .filter(|op| op.does.only_reads() && !op.weak && calls[op.call].start_us > last);
        let reads: Vec<&Op> = reads.collect();
        if reads.is_empty() {
            never_read += 1;
            return Vec::new();
        }
        let both = changes().chain(reads);
        both.map(|op| strict(op, &calls[op.call])).collect()
    });
    if never_read > 0 {
        sight.remark(format!(
            "{never_read} objects were not read after their last change"
        ));
    }
    sight.judgement()
}

/// Judges what `entries` makes of each object; nothing if it makes nothing.
pub(super) fn judge(
    sight: &mut Sight,
    experiment: &Experiment,
    mut entries: impl FnMut(&History, &[Call]) -> Vec<Entry>,
) {
    let model = Model::of(experiment);
    for (object, history) in &model.objects {
        let entries = entries(history, &experiment.calls);
        sight.looked(entries.len());
        if sight.search(&history.spec, &entries, object) == Found::None {
            let part = smallest(&history.spec, &entries);
            sight.find(no_order(object, &part, experiment), calls_of(&part));
        }
    }
    sight.remark(model.about());
}

/// The numbers of the calls in a part of a history.
pub(super) fn calls_of(part: &[Entry]) -> Vec<usize> {
    let mut calls: Vec<usize> = part.iter().map(|entry| entry.call).collect();
    calls.sort_unstable();
    calls.dedup();
    calls
}

fn no_order(object: &Object, part: &[Entry], experiment: &Experiment) -> String {
    const SHOWN_MAX: usize = 8;
    let calls = calls_of(part);
    let shown = calls.iter().take(SHOWN_MAX);
    let shown: Vec<_> = shown
        .map(|number| format!("#{number} {}", experiment.calls[*number].operation))
        .collect();
    let more = if calls.len() > SHOWN_MAX { ", ..." } else { "" };
    format!("{object}: no order explains {}{more}", shown.join(", "))
}
