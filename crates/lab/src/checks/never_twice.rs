//! Nothing is applied twice: a description, a tag's value and new material are sent in one call only, so
//! each may occur in one event only, and a description on one key only.

use std::collections::BTreeMap;

use keyrum_consensus::HistoryEntry;
use keyrum_state::Event;
use keyrum_types::LogIndex;

use super::Finding;
use super::acknowledged::Final;

const CHECK: &str = "never-twice";

/// The tag that clients count in. Whoever counts from an old number writes one that was there before.
pub const COUNT: &str = "count";

/// Looks at the state at the end and at the merged history.
pub fn check<'a>(
    held: &Final,
    history: impl IntoIterator<Item = &'a HistoryEntry>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut descriptions = BTreeMap::new();
    for key in &held.keys {
        if let Some(other) = descriptions.insert(key.description.as_str(), key.id) {
            let what = format!("{:?} is on keys {other} and {}", key.description, key.id);
            findings.push(Finding::new(CHECK, what));
        }
    }
    let mut seen: BTreeMap<String, LogIndex> = BTreeMap::new();
    for entry in history {
        for mark in entry.events.iter().flat_map(marks) {
            if let Some(first) = seen.insert(mark.clone(), entry.index) {
                let what = format!("{mark} happened at log indexes {first} and {}", entry.index);
                findings.push(Finding::new(CHECK, what));
            }
        }
    }
    findings
}

/// What in an event comes from one call only.
fn marks(event: &Event) -> Vec<String> {
    match event {
        Event::KeyCreated { key } => {
            vec![
                format!("creation of {}", key.id),
                format!("creation of {:?}", key.description),
            ]
        }
        Event::KeyTagged { key, tags } => tags
            .iter()
            .filter(|(name, _)| *name != COUNT)
            .map(|(name, value)| format!("{name}={value} on {}", key.id))
            .collect(),
        Event::KeyRotated { key, material, .. } => {
            vec![format!("rotation of {} to {}", key.id, material.id)]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use keyrum_state::KeyRef;
    use keyrum_types::{KeyId, KeyState, UnixMillis};

    use super::super::acknowledged::Held;
    use super::*;

    fn tagged(index: LogIndex, value: &str) -> HistoryEntry {
        let account = "000000000000".parse().unwrap();
        let key = KeyRef {
            account,
            id: KeyId::single_region([1; 16]),
        };
        HistoryEntry {
            index,
            at: UnixMillis(0),
            caller: None,
            command: "TagResource".into(),
            events: vec![Event::KeyTagged {
                key,
                tags: vec![("n".into(), value.into())],
            }],
            origin: None,
        }
    }

    /// Catches a check that overlooks a command that was applied twice.
    #[test]
    fn a_second_application_is_found() {
        let key = |number: u8, description: &str| Held {
            id: KeyId::single_region([number; 16]),
            description: description.into(),
            state: KeyState::Enabled,
            tag: None,
        };
        let held = |keys| Final {
            keys,
            aliases: BTreeMap::new(),
        };
        assert!(check(&held(vec![key(1, "a"), key(2, "b")]), []).is_empty());
        assert_eq!(check(&held(vec![key(1, "a"), key(2, "a")]), []).len(), 1);
        let once = [tagged(1, "x"), tagged(2, "y")];
        assert!(check(&Final::default(), &once).is_empty());
        let twice = [tagged(1, "x"), tagged(2, "y"), tagged(3, "x")];
        assert_eq!(check(&Final::default(), &twice).len(), 1);
    }
}
