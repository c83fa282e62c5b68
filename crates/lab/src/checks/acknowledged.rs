//! What was acknowledged is there at the end; what was refused, or not even proposed, is not.

use std::collections::BTreeMap;

use keyrum_types::{KeyId, KeyState};

use super::register::Register;
use super::{Ending, Finding};

const CHECK: &str = "acknowledged";

/// A CreateKey call. Its description is unlike every other's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creation {
    /// Names the key among all of the run.
    pub description: String,
    /// How the call ended, with the new key's id.
    pub ending: Ending<KeyId>,
}

/// What the writer of a key knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Which key.
    pub id: KeyId,
    /// Its state.
    pub state: Register<KeyState>,
    /// The value of the one tag that is written.
    pub tag: Register<Option<String>>,
}

/// A key as the replicas hold it at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which key.
    pub id: KeyId,
    /// Unlike every other's.
    pub description: String,
    /// Its state.
    pub state: KeyState,
    /// The value of the one tag that is written.
    pub tag: Option<String>,
}

/// Everything in the state at the end that clients can have made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Final {
    /// All keys.
    pub keys: Vec<Held>,
    /// All aliases and what they name.
    pub aliases: BTreeMap<String, KeyId>,
}

/// Compares what clients were told with what is there.
pub fn check(
    creations: &[Creation],
    keys: &[Expected],
    aliases: &[(String, Register<Option<KeyId>>)],
    held: &Final,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |what: String| findings.push(Finding::new(CHECK, what));
    let by_id: BTreeMap<KeyId, &Held> = held.keys.iter().map(|key| (key.id, key)).collect();
    let by_description: BTreeMap<&str, &Held> = held
        .keys
        .iter()
        .map(|key| (key.description.as_str(), key))
        .collect();
    let tried: BTreeMap<&str, &Ending<KeyId>> = creations
        .iter()
        .map(|c| (c.description.as_str(), &c.ending))
        .collect();

    for Creation {
        description,
        ending,
    } in creations
    {
        let there = by_description.get(description.as_str());
        match (ending, there) {
            (Ending::Acknowledged(id), None) => {
                find(format!(
                    "key {id} ({description}) was acknowledged and is gone"
                ));
            }
            (Ending::Acknowledged(id), Some(key)) if key.id != *id => {
                find(format!(
                    "key {id} ({description}) was acknowledged, {} is there",
                    key.id
                ));
            }
            (Ending::NotDone, Some(key)) => {
                find(format!(
                    "{description} was not to be made, and key {} is there",
                    key.id
                ));
            }
            _ => {}
        }
    }
    for key in &held.keys {
        if !tried.contains_key(key.description.as_str()) {
            find(format!(
                "nobody asked for key {} ({:?})",
                key.id, key.description
            ));
        }
    }
    for Expected { id, state, tag } in keys {
        // A key that is gone was found above.
        let Some(key) = by_id.get(id) else { continue };
        if let Err(impossible) = state.clone().read(&key.state) {
            find(format!("the state of key {id} {impossible}"));
        }
        if let Err(impossible) = tag.clone().read(&key.tag) {
            find(format!("the tag of key {id} {impossible}"));
        }
    }
    for (alias, target) in aliases {
        if let Err(impossible) = target.clone().read(&held.aliases.get(alias).copied()) {
            find(format!("{alias} {impossible}"));
        }
    }
    for alias in held.aliases.keys() {
        if !aliases.iter().any(|(asked, _)| asked == alias) {
            find(format!("nobody asked for {alias}"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> KeyId {
        KeyId::single_region([number; 16])
    }

    fn held(number: u8, description: &str, state: KeyState) -> Held {
        Held {
            id: id(number),
            description: description.into(),
            state,
            tag: None,
        }
    }

    fn created(description: &str, ending: Ending<KeyId>) -> Creation {
        Creation {
            description: description.into(),
            ending,
        }
    }

    /// Catches a check that overlooks a lost key, a key nobody made, or one that was refused.
    #[test]
    fn creations_are_compared_with_what_is_there() {
        let creations = [
            created("a", Ending::Acknowledged(id(1))),
            created("b", Ending::NotDone),
            created("c", Ending::Unknown),
        ];
        let check = |keys: Vec<Held>| {
            let held = Final {
                keys,
                aliases: BTreeMap::new(),
            };
            check(&creations, &[], &[], &held).len()
        };
        let a = || held(1, "a", KeyState::Enabled);
        assert_eq!(check(vec![a()]), 0);
        assert_eq!(
            check(vec![a(), held(3, "c", KeyState::Enabled)]),
            0,
            "unknown may be there"
        );
        assert_eq!(check(vec![]), 1, "lost");
        assert_eq!(
            check(vec![held(9, "a", KeyState::Enabled)]),
            1,
            "another key"
        );
        assert_eq!(
            check(vec![a(), held(2, "b", KeyState::Enabled)]),
            1,
            "refused, yet there"
        );
        assert_eq!(
            check(vec![a(), held(4, "d", KeyState::Enabled)]),
            1,
            "nobody's"
        );
    }

    /// Catches a check that overlooks a lost change of a key's state or tag, or of an alias.
    #[test]
    fn changes_are_compared_with_what_is_there() {
        let creations = [created("a", Ending::Acknowledged(id(1)))];
        let mut state = Register::new(KeyState::Enabled);
        state.written(KeyState::Disabled);
        let mut tag = Register::new(None);
        tag.maybe_written(Some("1".to_owned()));
        let keys = [Expected {
            id: id(1),
            state,
            tag,
        }];
        let mut alias = Register::new(None);
        alias.written(Some(id(1)));
        let aliases = [("alias/x".to_owned(), alias)];
        let run = |state, tag: Option<&str>, target: Option<KeyId>| {
            let key = Held {
                tag: tag.map(str::to_owned),
                ..held(1, "a", state)
            };
            let named = target
                .map(|id| ("alias/x".to_owned(), id))
                .into_iter()
                .collect();
            check(
                &creations,
                &keys,
                &aliases,
                &Final {
                    keys: vec![key],
                    aliases: named,
                },
            )
            .len()
        };
        assert_eq!(run(KeyState::Disabled, None, Some(id(1))), 0);
        assert_eq!(run(KeyState::Disabled, Some("1"), Some(id(1))), 0);
        assert_eq!(run(KeyState::Enabled, None, Some(id(1))), 1, "lost state");
        assert_eq!(
            run(KeyState::Disabled, Some("2"), Some(id(1))),
            1,
            "invented tag"
        );
        assert_eq!(run(KeyState::Disabled, None, None), 1, "lost alias");
        assert_eq!(run(KeyState::Disabled, None, Some(id(2))), 1, "wrong alias");
    }
}
