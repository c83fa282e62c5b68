//! The nodes tell the same history: at one log index, the same events.

use std::collections::BTreeMap;

use keyrum_consensus::HistoryEntry;
use keyrum_types::{LogIndex, NodeId};

use super::Finding;

const CHECK: &str = "one-history";

/// What a node remembers.
#[derive(Debug, Clone)]
pub struct Told {
    /// Which node.
    pub node: NodeId,
    /// The first entry of the log whose events it would know.
    pub begins: LogIndex,
    /// The last one.
    pub through: LogIndex,
    /// Those with events.
    pub entries: Vec<HistoryEntry>,
}

/// Whether the nodes together know of every entry from the first on.
pub fn is_whole(nodes: &[Told]) -> bool {
    let mut parts: Vec<_> = nodes
        .iter()
        .map(|told| (told.begins, told.through))
        .collect();
    parts.sort_unstable();
    let mut known = 0;
    for (begins, through) in parts {
        if begins > known + 1 {
            return false;
        }
        known = known.max(through);
    }
    true
}

/// Merges what each node remembers, and finds where two differ.
pub fn merge(nodes: &[Told]) -> (BTreeMap<LogIndex, HistoryEntry>, Vec<Finding>) {
    let mut merged: BTreeMap<LogIndex, HistoryEntry> = BTreeMap::new();
    let mut findings = Vec::new();
    for entry in nodes.iter().flat_map(|told| &told.entries) {
        merged.entry(entry.index).or_insert_with(|| entry.clone());
    }
    for told in nodes {
        let Told {
            node,
            begins,
            through,
            entries,
        } = told;
        let own: BTreeMap<LogIndex, &HistoryEntry> =
            entries.iter().map(|entry| (entry.index, entry)).collect();
        for (index, entry) in merged.range(begins..=through) {
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

    fn told(node: NodeId, begins: LogIndex, entries: Vec<HistoryEntry>) -> Told {
        Told {
            node,
            begins,
            through: 2,
            entries,
        }
    }

    /// Catches a check that overlooks a node whose history differs or has a hole.
    #[test]
    fn differences_and_holes_are_found() {
        let both = || vec![entry(1, 1), entry(2, 2)];
        let findings = |second: Told| merge(&[told(1, 0, both()), second]).1.len();
        assert_eq!(findings(told(2, 0, both())), 0);
        assert_eq!(
            findings(told(2, 2, vec![entry(2, 2)])),
            0,
            "it begins later"
        );
        assert_eq!(findings(told(2, 0, vec![entry(2, 2)])), 1, "a hole");
        let other = vec![entry(1, 1), entry(2, 3)];
        assert_eq!(findings(told(2, 0, other)), 1, "a difference");
        let gone = Told {
            through: 1,
            ..told(2, 0, vec![entry(1, 1)])
        };
        assert_eq!(findings(gone), 0, "it knew no more when it went");
    }

    /// Catches a history that is judged though a part of it is gone, or not judged though it is there.
    #[test]
    fn a_part_that_nobody_knows_is_missed() {
        let part = |begins, through| Told {
            through,
            ..told(1, begins, Vec::new())
        };
        assert!(is_whole(&[part(1, 9)]) && is_whole(&[part(5, 9), part(0, 4)]));
        assert!(!is_whole(&[part(2, 9)]) && !is_whole(&[part(6, 9), part(0, 4)]));
    }
}
