//! What a family tells of imported material, whose bytes never cross.
//!
//! A version that was imported into the primary to be rotated to is *awaited*: every member knows its
//! name and lacks its bytes until they are imported there. Each member tells the primary when it has
//! them, and when it has them no longer; it also answers a record that says otherwise of it, so that a
//! new primary learns what its predecessor was told too late. Once every member of the roster said so,
//! RotateKeyOnDemand is taken, and the two phases of every family's rotation follow: the record that
//! begins it makes the version each member's for good, whatever became of its bytes meanwhile, and the
//! last confirmation makes it current.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use keyrum_types::{MaterialId, Origin, Region};

use super::{after, changed, has_replicas, led};
use crate::event::FamilyChange;
use crate::family::{Awaited, Family, FamilyRecord, Message, SharedImports, Stamp, rotation_of};
use crate::{Event, ImportDetails, Imports, Key, KeyRef, NewMaterial, Refusal, State};

static NO_IMPORTS: LazyLock<Arc<Imports>> = LazyLock::new(Arc::default);

fn imports_of(state: &State, key: KeyRef) -> &Arc<Imports> {
    state.imports(key).unwrap_or(&NO_IMPORTS)
}

fn shared(state: &State, key: KeyRef) -> SharedImports {
    let details = &imports_of(state, key).details;
    let described = |(id, details): (&MaterialId, &ImportDetails)| {
        let description = details.description.clone()?;
        Some((*id, description))
    };
    SharedImports {
        awaited: state.awaited(key),
        descriptions: details.iter().filter_map(described).collect(),
    }
}

/// A record or a move's request with what is shared of imported material; `None` for other messages,
/// and if there is nothing of the kind.
pub(crate) fn take_along(state: &State, message: &Message) -> Option<Message> {
    let (record, request) = match message {
        Message::Record { record, .. } => (record, None),
        Message::MoveRequest { record, caller, .. } => (record, Some(caller.clone())),
        Message::Confirmation { .. }
        | Message::Tombstone { .. }
        | Message::MoveAnswer { .. }
        | Message::ImportedRecord { .. }
        | Message::ImportReport { .. }
        | Message::Identity(_) => return None,
    };
    if record.origin != Origin::External {
        return None;
    }
    let imports = shared(state, record.key);
    (imports != SharedImports::default()).then(|| Message::ImportedRecord {
        record: Arc::clone(record),
        imports: Arc::new(imports),
        request,
    })
}

/// The version that RotateKeyOnDemand makes current. Of a family its name alone.
pub(crate) fn imported_everywhere(state: &State, key: KeyRef) -> Result<NewMaterial, Refusal> {
    let pending = imports_of(state, key).pending.as_ref();
    let pending = pending.ok_or(Refusal::NoMaterialToRotateTo { key })?;
    if !has_replicas(state, key) {
        // Without bytes only if this became primary, and was left alone, before they were imported.
        return match pending.is_here() {
            true => Ok(pending.clone()),
            false => Err(Refusal::NoMaterialToRotateTo { key }),
        };
    }
    let everywhere = |awaited: &Awaited| {
        let family = state.family(key);
        family.is_some_and(|family| awaited.is_everywhere(family))
    };
    match state.awaited(key).is_some_and(|it| everywhere(&it)) {
        true => Ok(NewMaterial::gone(pending.id)),
        false => Err(Refusal::ReplicasLackMaterial { key }),
    }
}

/// Adds to an import or a deletion what the family is told of it: the primary tells what is shared, a
/// replica whether it has what is awaited.
pub(crate) fn tell_imports(state: &State, key: KeyRef, mut events: Vec<Event>) -> Vec<Event> {
    let Some(family) = state.family(key) else {
        return events;
    };
    let own = state.region();
    let ahead = after(state, &events);
    let imports = Imports::clone(imports_of(&ahead, key));
    if !family.is_led_by(own) {
        let was_here = has_pending(imports_of(state, key));
        let awaited = state
            .awaited(key)
            .filter(|_| was_here != has_pending(&imports));
        let report = awaited.map(|awaited| report_of(key, family, &imports, &awaited));
        events.extend(report.map(|report| Event::MessagesSent { sent: vec![report] }));
        return events;
    }
    let Some((present, mut family)) = led(&ahead, key) else {
        return events;
    };
    let before = shared(state, key);
    let mut now = shared(&ahead, key);
    family.stamp = family.stamp.next();
    now.awaited = match &imports.pending {
        Some(pending) if state.rotating_to(key) != Some(pending.id) => {
            let same = |awaited: &Awaited| awaited.material == pending.id;
            let same = before.awaited.clone().filter(same);
            let mut awaited = Some(same.unwrap_or_else(|| Awaited {
                material: pending.id,
                since: family.stamp,
                held_by: BTreeMap::new(),
            }));
            report_own(&mut awaited, own, family.incarnation, &imports);
            awaited
        }
        _ => None,
    };
    if now == before {
        return events;
    }
    events.push(Event::ImportsShared {
        key,
        imports,
        awaited: now.awaited,
    });
    let sent = family.records(&present, &rotation_of(&ahead, key), own);
    let change = FamilyChange::ImportsChanged;
    events.push(changed(key, change, family, present.state, sent));
    events
}

fn has_pending(imports: &Imports) -> bool {
    let pending = imports.pending.as_ref();
    pending.is_some_and(NewMaterial::is_here)
}

/// The primary's own log is its report.
pub(super) fn report_own(
    awaited: &mut Option<Awaited>,
    own: &Region,
    incarnation: Stamp,
    imports: &Imports,
) {
    if let Some(awaited) = awaited {
        match has_pending(imports) {
            true => _ = awaited.held_by.insert(own.clone(), incarnation),
            false => _ = awaited.held_by.remove(own),
        }
    }
}

fn report_of(
    key: KeyRef,
    family: &Family,
    imports: &Imports,
    awaited: &Awaited,
) -> (Region, Message) {
    let report = Message::ImportReport {
        key,
        incarnation: family.incarnation,
        epoch: family.stamp.epoch,
        since: awaited.since,
        here: has_pending(imports),
    };
    (family.primary.clone(), report)
}

/// The answer to a record that says otherwise of this member than is so.
pub(super) fn report(
    key: KeyRef,
    own: &Region,
    family: &Family,
    imports: &Imports,
    awaited: Option<&Awaited>,
) -> Option<(Region, Message)> {
    let awaited = awaited?;
    let told = awaited.held_by.get(own) == Some(&family.incarnation);
    (told != has_pending(imports)).then(|| report_of(key, family, imports, awaited))
}

/// What a member says of the awaited version, at the primary. The others are told if that makes it
/// complete, or no longer so.
pub(super) fn hear_report(
    state: &State,
    key: &Key,
    mut family: Family,
    from: &Region,
    since: Stamp,
    here: bool,
) -> Option<Vec<Event>> {
    let name = key.reference();
    let mut awaited = state.awaited(name).filter(|it| it.since == since)?;
    let was_everywhere = awaited.is_everywhere(&family);
    let incarnation = family.roster.get(from)?.incarnation;
    let news = match here {
        true => awaited.held_by.insert(from.clone(), incarnation) != Some(incarnation),
        false => awaited.held_by.remove(from).is_some(),
    };
    if !news {
        return None;
    }
    let mut sent = Vec::new();
    if awaited.is_everywhere(&family) != was_everywhere {
        family.stamp = family.stamp.next();
        sent = family.records(key, &rotation_of(state, name), state.region());
    }
    let change = FamilyChange::ImportReported {
        region: from.clone(),
    };
    Some(vec![
        Event::ImportsShared {
            key: name,
            imports: Imports::clone(imports_of(state, name)),
            awaited: Some(awaited),
        },
        changed(name, change, family, key.state, sent),
    ])
}

/// What a member knows of imported material after a record: the versions and descriptions are the
/// record's, bytes and dates its own.
pub(super) fn after_record(
    state: &State,
    record: &FamilyRecord,
    shared: &SharedImports,
) -> (Imports, Option<Awaited>) {
    let present = imports_of(state, record.key);
    if record.origin != Origin::External {
        return (Imports::clone(present), None);
    }
    let rotating_to = record.rotation.pending.map(|(id, ..)| id);
    let awaited = shared.awaited.as_ref();
    let waiting = rotating_to.or(awaited.map(|awaited| awaited.material));
    let since = |awaited: Option<&Awaited>| awaited.map(|awaited| awaited.since);
    // A version that was deleted on the primary and imported there anew is another import here too.
    let same = rotating_to.is_some() || since(state.awaited(record.key).as_ref()) == since(awaited);
    let pending = waiting.map(|id| {
        let here = present.pending.clone();
        let here = here.filter(|pending| pending.id == id && same);
        here.unwrap_or_else(|| NewMaterial::gone(id))
    });
    let lost = pending.as_ref().filter(|pending| !pending.is_here());
    let lost = lost.map(|pending| pending.id);
    let versions = record.materials.iter().copied().chain(waiting);
    let details = versions.filter_map(|id| {
        let known = present.details.get(&id);
        let description = shared.descriptions.get(&id).cloned();
        let expires = known.and_then(|known| known.expires);
        let details = ImportDetails {
            expires: expires.filter(|_| Some(id) != lost),
            description,
        };
        (known.is_some() || details.description.is_some()).then_some((id, details))
    });
    let imports = Imports {
        details: details.collect(),
        pending,
    };
    (imports, shared.awaited.clone())
}

/// The event, if that is not what is known.
pub(super) fn if_changed(
    state: &State,
    key: KeyRef,
    imports: Imports,
    awaited: Option<Awaited>,
) -> Option<Event> {
    let same = imports == **imports_of(state, key) && awaited == state.awaited(key);
    (!same).then_some(Event::ImportsShared {
        key,
        imports,
        awaited,
    })
}
