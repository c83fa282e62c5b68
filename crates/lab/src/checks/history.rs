//! The nodes tell the same history: at one log index, the same events.

use std::collections::BTreeMap;

use keyrum_consensus::HistoryEntry;
use keyrum_types::{LogIndex, NodeId};

use super::Finding;

const CHECK: &str = "one-history";

/// Merges what each node remembers, and finds where two differ. `begins` is where a node's history
/// begins; before that it knows nothing.
pub fn merge(
    nodes: &[(NodeId, LogIndex, Vec<HistoryEntry>)],
) -> (BTreeMap<LogIndex, HistoryEntry>, Vec<Finding>) {
    let mut merged: BTreeMap<LogIndex, HistoryEntry> = BTreeMap::new();
    let mut findings = Vec::new();
    for entry in nodes.iter().flat_map(|(_, _, entries)| entries) {
        merged.entry(entry.index).or_insert_with(|| entry.clone());
    }
    for (node, begins, entries) in nodes {
        let own: BTreeMap<LogIndex, &HistoryEntry> =
            entries.iter().map(|entry| (entry.index, entry)).collect();
        for (index, entry) in merged.range(begins..) {
            match own.get(index) {
                Some(same) if *same == entry => {}
                Some(other) => findings.push(Finding::new(
                    CHECK,
                    format_args!("at log index {index} node {node} has {other:?}, not {entry:?}"),
                )),
                None => findings.push(Finding::new(
                    CHECK,
                    format_args!("node {node} has no event at log index {index}: {entry:?}"),
                )),
            }
        }
    }
    (merged, findings)
}

#[cfg(test)]
mod tests {
    use keyrum_state::Event;
    use keyrum_types::UnixMillis;

    use super::*;

    fn entry(index: LogIndex, by_ms: u64) -> HistoryEntry {
        HistoryEntry {
            index,
            at: UnixMillis(0),
            caller: None,
            command: "AdvanceClock".into(),
            events: vec![Event::ClockAdvanced { by_ms }],
            origin: None,
        }
    }

    /// Catches a check that overlooks a node whose history differs or has a hole.
    #[test]
    fn differences_and_holes_are_found() {
        let findings = |second: (NodeId, LogIndex, Vec<HistoryEntry>)| {
            merge(&[(1, 0, vec![entry(1, 1), entry(2, 2)]), second])
                .1
                .len()
        };
        assert_eq!(findings((2, 0, vec![entry(1, 1), entry(2, 2)])), 0);
        assert_eq!(findings((2, 2, vec![entry(2, 2)])), 0, "it begins later");
        assert_eq!(findings((2, 0, vec![entry(2, 2)])), 1, "a hole");
        assert_eq!(
            findings((2, 0, vec![entry(1, 1), entry(2, 3)])),
            1,
            "a difference"
        );
    }
}
