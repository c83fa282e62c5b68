//! The event history as the admin API shows it: what a person needs, and never material, not even
//! sealed.

use keyrum_consensus::{Group, HistoryEntry};
use keyrum_state::{
    DomainKeyConfirmation, Event, FamilyChange, GrantPrincipal, KeyRef, KeyUse, Message,
};
use keyrum_types::{LogIndex, Region};
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
        Some(id) => event.keys().iter().any(|key| key.id.to_string() == id),
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
        Event::KeyRotationStarted {
            key,
            material,
            at,
            kind,
            next,
        } => json!({
            "event": "KeyRotationStarted",
            "key": name(key),
            "material": material.id.to_string(),
            "at_ms": at.0,
            "kind": kind.name(),
            "next_ms": next.map(|next| next.0),
        }),
        Event::KeyReplicated {
            key, family, sent, ..
        } => json!({
            "event": "KeyReplicated",
            "key": name(&key.reference()),
            "description": *key.description,
            "primary": family.primary.as_str(),
            "epoch": family.stamp.epoch,
            "version": family.stamp.version,
            "sent": show_sent(sent),
        }),
        Event::FamilyChanged {
            key,
            change,
            family,
            state,
            materials,
            sent,
            rotation: _,
        } => {
            let (what, region) = show_change(change);
            json!({
                "event": what,
                "key": name(key),
                "region": region.map(ToString::to_string),
                "state": state.name(),
                "primary": family.primary.as_str(),
                "members": family.roster.keys().map(ToString::to_string).collect::<Vec<_>>(),
                "epoch": family.stamp.epoch,
                "version": family.stamp.version,
                "materials": materials.iter().map(|m| m.id.to_string()).collect::<Vec<_>>(),
                "sent": show_sent(sent),
            })
        }
        Event::MessagesSent { sent } => json!({
            "event": "MessagesSent",
            "sent": show_sent(sent),
        }),
        Event::MessageTaken { from, number } => json!({
            "event": "MessageTaken",
            "from": from.as_str(),
            "number": number,
        }),
        Event::KeyUsesRecorded { uses } => {
            let used = |used: &KeyUse| {
                json!({
                    "key": name(&used.key),
                    "at_ms": used.last.at.0,
                    "operation": used.last.operation.name(),
                })
            };
            json!({ "event": "KeyUsesRecorded", "uses": uses.iter().map(used).collect::<Vec<_>>() })
        }
        Event::KeyMaterialImported {
            key,
            material,
            pending,
            expires,
            description,
            state,
        } => json!({
            "event": "KeyMaterialImported",
            "key": name(key),
            "material": material.id.to_string(),
            "pending": pending,
            "expires_ms": expires.map(|expires| expires.0),
            "description": description,
            "state": state.name(),
        }),
        Event::KeyMaterialDeleted {
            key,
            material,
            state,
        } => json!({
            "event": "KeyMaterialDeleted",
            "key": name(key),
            "material": material.to_string(),
            "state": state.name(),
        }),
        Event::KeyMaterialExpired {
            key,
            material,
            state,
        } => json!({
            "event": "KeyMaterialExpired",
            "key": name(key),
            "material": material.to_string(),
            "state": state.name(),
        }),
        Event::ImportsShared { key, awaited, .. } => json!({
            "event": "FamilyImportsKnown",
            "key": name(key),
            "awaited": awaited.as_ref().map(|awaited| json!({
                "material": awaited.material.to_string(),
                "imported_in": awaited.held_by.keys().map(Region::as_str).collect::<Vec<_>>(),
            })),
        }),
        Event::GrantCreated { grant } => json!({
            "event": "GrantCreated",
            "key": name(&grant.key),
            "grant": grant.id.to_string(),
            "name": grant.terms.name,
            "grantee": show_principal(&grant.terms.grantee),
            "retiring": grant.terms.retiring.as_ref().map(show_principal),
            "operations": grant.terms.operations.iter().map(|o| o.name()).collect::<Vec<_>>(),
        }),
        Event::GrantRetired { key, grant } => json!({
            "event": "GrantRetired",
            "key": name(key),
            "grant": grant.to_string(),
        }),
        Event::GrantRevoked { key, grant } => json!({
            "event": "GrantRevoked",
            "key": name(key),
            "grant": grant.to_string(),
        }),
        Event::IdentityPut { record } => json!({
            "event": "IdentityPut",
            "identity": record.identity.name().to_string(),
            "revision": record.revision,
        }),
        Event::IdentityDeleted { name, revision } => json!({
            "event": "IdentityDeleted",
            "identity": name.to_string(),
            "revision": revision,
        }),
        Event::IdentitiesShared { with } => json!({
            "event": "IdentitiesShared",
            "with": with.as_str(),
        }),
        Event::IdentityHeard { from, news } => json!({
            "event": "IdentityHeard",
            "from": from.as_str(),
            "identity": news.name.to_string(),
            "revision": news.revision,
            "gone": news.identity.is_none(),
        }),
        Event::DomainKeyAnnounced {
            version,
            fingerprint,
            ..
        } => json!({
            "event": "DomainKeyAnnounced",
            "version": version,
            "fingerprint": fingerprint.to_string(),
        }),
        Event::DomainKeyConfirmed {
            version,
            node,
            what,
        } => json!({
            "event": "DomainKeyConfirmed",
            "version": version,
            "node": node,
            "what": match what {
                DomainKeyConfirmation::Held => "held",
                DomainKeyConfirmation::Unneeded => "unneeded",
            },
        }),
        Event::DomainKeyActivated { version, .. } => {
            json!({ "event": "DomainKeyActivated", "version": version })
        }
        Event::DomainKeyAbandoned { version } => {
            json!({ "event": "DomainKeyAbandoned", "version": version })
        }
        Event::SecretsResealed { resealed } => json!({
            "event": "SecretsResealed",
            "sealings": resealed.iter().map(|group| group.sealings.len()).sum::<usize>(),
        }),
        Event::DomainKeyWithdrawn { version } => {
            json!({ "event": "DomainKeyWithdrawn", "version": version })
        }
        Event::DomainKeyDestroyed { version } => {
            json!({ "event": "DomainKeyDestroyed", "version": version })
        }
        Event::MessagesDelivered { to, through } => json!({
            "event": "MessagesDelivered",
            "to": to.as_str(),
            "through": through,
        }),
    }
}

fn show_principal(principal: &GrantPrincipal) -> &str {
    match principal {
        GrantPrincipal::Aws(name) | GrantPrincipal::Service(name) => name,
    }
}

/// What happened to a family, and the other Region in it.
fn show_change(change: &FamilyChange) -> (&'static str, Option<&Region>) {
    match change {
        FamilyChange::ReplicaAdded { region } => ("ReplicaAdded", Some(region)),
        FamilyChange::Confirmed { region } => ("ReplicaConfirmed", Some(region)),
        FamilyChange::ReplicaGone { region } => ("ReplicaGone", Some(region)),
        FamilyChange::RecordTaken => ("FamilyRecordTaken", None),
        FamilyChange::MoveRequested { to } => ("PrimaryMoveRequested", Some(to)),
        FamilyChange::MoveReserved { from } => ("PrimaryMoveReserved", Some(from)),
        FamilyChange::MoveRefused { to } => ("PrimaryMoveRefused", Some(to)),
        FamilyChange::SteppedDown { to } => ("PrimarySteppedDown", Some(to)),
        FamilyChange::SteppedUp => ("PrimarySteppedUp", None),
        FamilyChange::DeletionWaitsForReplicas => ("DeletionWaitsForReplicas", None),
        FamilyChange::RotationChanged => ("FamilyRotationChanged", None),
        FamilyChange::ImportsChanged => ("FamilyImportsChanged", None),
        FamilyChange::ImportReported { region } => ("ReplicaReportedImport", Some(region)),
    }
}

/// Whom something was told, in one line each. Never what they were sent: it holds material.
fn show_sent(sent: &[(Region, Message)]) -> Vec<String> {
    let line = |(to, message): &(Region, Message)| match message {
        Message::Record { record, .. }
        | Message::ImportedRecord {
            record,
            request: None,
            ..
        } => {
            format!(
                "{to}: record {}.{}",
                record.stamp.epoch, record.stamp.version
            )
        }
        Message::Confirmation { materials, .. } => {
            format!("{to}: confirmation of {} materials", materials.len())
        }
        Message::Tombstone { .. } => format!("{to}: tombstone"),
        Message::MoveRequest { .. } | Message::ImportedRecord { .. } => {
            format!("{to}: request to become primary")
        }
        Message::Identity(news) => format!("{to}: {}", news.name),
        Message::ImportReport { here: true, .. } => format!("{to}: has the imported material"),
        Message::ImportReport { here: false, .. } => format!("{to}: lacks the imported material"),
        Message::MoveAnswer { refusal: None, .. } => format!("{to}: ready to become primary"),
        Message::MoveAnswer {
            refusal: Some(refusal),
            ..
        } => format!("{to}: refusal to become primary: {refusal}"),
    };
    sent.iter().map(line).collect()
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
            origin: None,
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
