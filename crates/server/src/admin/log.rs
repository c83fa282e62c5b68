//! The event history as the admin API shows it: what a person needs, and never material, not even
//! sealed.

use keyrum_consensus::{Group, HistoryEntry};
use keyrum_state::{Event, KeyRef};
use keyrum_types::LogIndex;
use serde_json::{Value, json};

use super::Refused;
use crate::route::form_pairs;

/// Most entries in one answer.
const ENTRIES_MAX: usize = 1000;

/// Most entries looked at for one answer, so that a search for a quiet key stays short.
const SEARCHED_MAX: usize = 20_000;

/// Entries read from the store at a time.
const ROWS: usize = 1000;

/// A part of the history: `{"begins": INDEX, "entries": [...], "next": INDEX or null}`. With
/// `next`, the history goes on there.
pub(super) async fn page(group: &Group, query: &str) -> Result<Value, Refused> {
    let (mut from, mut key_id) = (0, None);
    for (name, value) in form_pairs(query) {
        match name.as_str() {
            "from" => {
                from = value
                    .parse()
                    .map_err(|_| Refused(400, format!("from={value} is no index")))?;
            }
            "key_id" => key_id = Some(value),
            _ => return Err(Refused(400, format!("{name} is not known here"))),
        }
    }
    let begins = group.history_begins();
    let mut at: LogIndex = from.max(begins);
    let (mut shown, mut searched) = (Vec::new(), 0);
    let next = loop {
        if shown.len() >= ENTRIES_MAX || searched >= SEARCHED_MAX {
            break Some(at);
        }
        let read = group.history(at, ROWS.min(ENTRIES_MAX - shown.len())).await;
        let entries = read.map_err(|reason| Refused(503, reason.to_string()))?;
        let Some(last) = entries.last() else {
            break None;
        };
        at = last.index + 1;
        searched += entries.len();
        shown.extend(
            entries
                .iter()
                .filter_map(|entry| show(entry, key_id.as_deref())),
        );
    };
    Ok(json!({ "begins": begins, "entries": shown, "next": next }))
}

/// An entry, or `None` if it has nothing to do with the key asked for.
fn show(entry: &HistoryEntry, key_id: Option<&str>) -> Option<Value> {
    let wanted = |event: &&Event| match key_id {
        None => true,
        Some(id) => keys_of(event).iter().any(|key| key.id.to_string() == id),
    };
    let events: Vec<Value> = entry.events.iter().filter(wanted).map(show_event).collect();
    if key_id.is_some() && events.is_empty() {
        return None;
    }
    Some(json!({
        "index": entry.index,
        "at_ms": entry.at.0,
        "caller": entry.caller,
        "command": entry.command,
        "events": events,
    }))
}

fn keys_of(event: &Event) -> Vec<KeyRef> {
    match event {
        Event::KeyCreated { key } => vec![key.reference()],
        Event::KeyEnabled { key }
        | Event::KeyDisabled { key }
        | Event::KeyDeletionScheduled { key, .. }
        | Event::KeyDeletionCanceled { key, .. }
        | Event::KeyDeleted { key, .. }
        | Event::KeyDescriptionUpdated { key, .. }
        | Event::KeyTagged { key, .. }
        | Event::KeyUntagged { key, .. }
        | Event::KeyPolicyPut { key, .. }
        | Event::KeyRotationEnabled { key, .. }
        | Event::KeyRotationDisabled { key }
        | Event::KeyRotated { key, .. } => vec![*key],
        Event::AliasCreated { target, .. } | Event::AliasDeleted { target, .. } => vec![*target],
        Event::AliasUpdated { former, target, .. } => vec![*former, *target],
        Event::ClockAdvanced { .. }
        | Event::ClockConfirmed { .. }
        | Event::FeatureLevelRaised { .. } => Vec::new(),
    }
}

fn show_event(event: &Event) -> Value {
    let name =
        |key: &KeyRef| json!({ "account": key.account.to_string(), "id": key.id.to_string() });
    match event {
        Event::KeyCreated { key } => json!({
            "event": "KeyCreated",
            "key": name(&key.reference()),
            "spec": key.spec.name(),
            "usage": key.usage.name(),
            "origin": key.origin.name(),
            "description": *key.description,
            "multi_region": key.multi_region.map(|role| role.name()),
            "material": key.current_material().map(|material| material.id.to_string()),
        }),
        Event::KeyEnabled { key } => json!({ "event": "KeyEnabled", "key": name(key) }),
        Event::KeyDisabled { key } => json!({ "event": "KeyDisabled", "key": name(key) }),
        Event::KeyDeletionScheduled {
            key,
            due,
            wait_days,
        } => json!({
            "event": "KeyDeletionScheduled",
            "key": name(key),
            "due_ms": due.0,
            "wait_days": wait_days,
        }),
        Event::KeyDeletionCanceled { key, state } => json!({
            "event": "KeyDeletionCanceled",
            "key": name(key),
            "state": state.name(),
        }),
        Event::KeyDeleted { key, aliases } => json!({
            "event": "KeyDeleted",
            "key": name(key),
            "aliases": aliases.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }),
        Event::KeyDescriptionUpdated { key, description } => json!({
            "event": "KeyDescriptionUpdated",
            "key": name(key),
            "description": description,
        }),
        Event::AliasCreated { alias, target, .. } => json!({
            "event": "AliasCreated",
            "alias": alias.as_str(),
            "target": name(target),
        }),
        Event::AliasUpdated {
            alias,
            former,
            target,
            ..
        } => json!({
            "event": "AliasUpdated",
            "alias": alias.as_str(),
            "former": name(former),
            "target": name(target),
        }),
        Event::AliasDeleted {
            account,
            alias,
            target,
        } => json!({
            "event": "AliasDeleted",
            "account": account.to_string(),
            "alias": alias.as_str(),
            "target": name(target),
        }),
        Event::KeyTagged { key, tags } => json!({
            "event": "KeyTagged",
            "key": name(key),
            "tags": tags.iter().map(|(key, value)| json!([key, value])).collect::<Vec<_>>(),
        }),
        Event::KeyUntagged { key, tag_keys } => json!({
            "event": "KeyUntagged",
            "key": name(key),
            "tag_keys": tag_keys,
        }),
        Event::KeyPolicyPut { key, policy } => json!({
            "event": "KeyPolicyPut",
            "key": name(key),
            "policy": policy,
        }),
        Event::ClockAdvanced { by_ms } => json!({ "event": "ClockAdvanced", "by_ms": by_ms }),
        Event::ClockConfirmed { now } => json!({ "event": "ClockConfirmed", "now_ms": now.0 }),
        Event::FeatureLevelRaised { level } => {
            json!({ "event": "FeatureLevelRaised", "level": level })
        }
        Event::KeyRotationEnabled { key, period, next } => json!({
            "event": "KeyRotationEnabled",
            "key": name(key),
            "period_days": period.days(),
            "next_ms": next.0,
        }),
        Event::KeyRotationDisabled { key } => {
            json!({ "event": "KeyRotationDisabled", "key": name(key) })
        }
        Event::KeyRotated {
            key,
            previous,
            material,
            kind,
            next,
            ..
        } => json!({
            "event": "KeyRotated",
            "key": name(key),
            "kind": kind.name(),
            "previous": previous.to_string(),
            "material": material.id.to_string(),
            "next_ms": next.map(|next| next.0),
        }),
    }
}

#[cfg(test)]
mod tests {
    use keyrum_types::{AliasName, KeyId, UnixMillis};

    use super::*;

    /// Catches a search for one key that shows another's events, or misses an alias that moved.
    #[test]
    fn a_search_finds_all_events_of_a_key() {
        let key = |byte| KeyRef {
            account: "000000000000".parse().unwrap(),
            id: KeyId::single_region([byte; 16]),
        };
        let (one, other) = (key(1), key(2));
        let entry = HistoryEntry {
            index: 7,
            at: UnixMillis(1),
            caller: Some("arn:me".to_owned()),
            command: "Something".to_owned(),
            events: vec![
                Event::KeyEnabled { key: one },
                Event::AliasUpdated {
                    alias: AliasName::new("alias/a").unwrap(),
                    former: one,
                    target: other,
                    at: UnixMillis(1),
                },
                Event::KeyDisabled { key: other },
                Event::ClockAdvanced { by_ms: 1 },
            ],
        };
        let names = |key_id: Option<String>| {
            let shown = show(&entry, key_id.as_deref())?;
            let events = shown["events"].as_array().unwrap().iter();
            Some(
                events
                    .map(|event| event["event"].as_str().unwrap().to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(names(None).unwrap().len(), 4);
        assert_eq!(
            names(Some(one.id.to_string())).unwrap(),
            ["KeyEnabled", "AliasUpdated"]
        );
        assert_eq!(
            names(Some(other.id.to_string())).unwrap(),
            ["AliasUpdated", "KeyDisabled"]
        );
        assert_eq!(names(Some(key(3).id.to_string())), None);
    }
}
