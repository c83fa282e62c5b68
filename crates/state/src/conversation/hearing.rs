//! What a message from another Region leads to. Nothing here refuses: what says nothing new changes
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keyrum_types::planted::{self, Bug};
use keyrum_types::{KeyState, MaterialId, MultiRegionRole, Origin, Region, UnixMillis};

use super::{Leading, after, changed, confirm_own, imports, led, only_enabled};
use crate::event::FamilyChange;
use crate::facts::PrimaryRegion;
use crate::family::{
    Entry, Family, FamilyRecord, Message, SharedImports, Transit, all_held, held, rotation_of,
};
use crate::rotation::Rotation;
use crate::{
    Caller, Event, Key, NewMaterial, Refusal, State, StoredPolicy, identity, import, permit_key,
};

/// What a message leads to. Never refuses: what says nothing new changes nothing.
pub(crate) fn hear(state: &State, from: &Region, message: &Message, at: UnixMillis) -> Vec<Event> {
    let mut events = first_effect(state, from, message, at);
    if let Some(key) = message.key()
        && !events.is_empty()
    {
        // A confirmation, an entry that left, or stepping up may be what a rotation waited for.
        if let Some(leading) = Leading::after(state, key, &events) {
            events.extend(leading.complete_rotation(state.region(), at));
        }
    }
    events
}

fn first_effect(state: &State, from: &Region, message: &Message, at: UnixMillis) -> Vec<Event> {
    match message {
        Message::Record { record, materials } => {
            hear_record(state, record, materials, &SharedImports::default(), at)
        }
        Message::ImportedRecord {
            record,
            imports,
            request,
        } => {
            let mut events = hear_record(state, record, &[], imports, at);
            if let Some(caller) = request {
                events.push(judge_move(&after(state, &events), from, record, caller));
            }
            events
        }
        Message::ImportReport {
            key,
            incarnation,
            epoch,
            since,
            here,
        } => led(state, *key)
            .filter(|(_, family)| is_entry(family, from, *incarnation))
            .filter(|(_, family)| family.stamp.epoch == *epoch)
            .and_then(|(key, family)| {
                imports::hear_report(state, &key, family, from, *since, *here)
            })
            .unwrap_or_default(),
        Message::Confirmation {
            key,
            incarnation,
            materials,
        } => led(state, *key)
            .filter(|(_, family)| is_entry(family, from, *incarnation))
            .and_then(|(key, mut family)| {
                if materials.is_subset(&family.roster.get(from)?.confirmed) {
                    return None;
                }
                let entry = family.entry_mut(from)?;
                let was_creating = entry.confirmed.is_empty();
                entry.confirmed.extend(materials.iter().copied());
                entry.initial = None;
                let mut sent = Vec::new();
                if was_creating {
                    family.stamp = family.stamp.next();
                    let rotation = rotation_of(state, key.reference());
                    sent = family.records(&key, &rotation, state.region());
                }
                let change = FamilyChange::Confirmed {
                    region: from.clone(),
                };
                Some(changed(key.reference(), change, family, key.state, sent))
            })
            .into_iter()
            .collect(),
        Message::Tombstone { key, incarnation } => led(state, *key)
            .filter(|(_, family)| is_entry(family, from, *incarnation))
            .map(|(key, family)| replica_gone(state, &key, family, from, at))
            .unwrap_or_default(),
        Message::MoveRequest {
            record,
            materials,
            caller,
        } => {
            let nothing = SharedImports::default();
            let mut events = hear_record(state, record, materials, &nothing, at);
            events.push(judge_move(&after(state, &events), from, record, caller));
            events
        }
        Message::MoveAnswer { key, at, refusal } => state
            .key(*key)
            .zip(state.family(*key))
            .filter(|(_, family)| {
                matches!(&family.transit,
                    Transit::Requested { to, at: asked } if to == from && asked == at)
            })
            .map(|(key, family)| {
                let family = Family::clone(family);
                end_request(state, key, family, from, refusal.clone())
            })
            .into_iter()
            .collect(),
        Message::Identity(news) => identity::hear(state, from, news),
    }
}

fn is_entry(family: &Family, region: &Region, incarnation: crate::Stamp) -> bool {
    let entry = family.roster.get(region);
    entry.is_some_and(|entry| entry.incarnation == incarnation)
}

fn replica_gone(
    state: &State,
    key: &Key,
    mut family: Family,
    region: &Region,
    at: UnixMillis,
) -> Vec<Event> {
    Arc::make_mut(&mut family.roster).remove(region);
    family.stamp = family.stamp.next();
    let alone = family.roster.len() == 1;
    let wait = family.wait_days.take_if(|_| alone);
    let rotation = rotation_of(state, key.reference());
    let sent = family.records(key, &rotation, state.region());
    let change = FamilyChange::ReplicaGone {
        region: region.clone(),
    };
    let name = key.reference();
    let mut events = vec![changed(name, change, family, key.state, sent)];
    if let Some(wait_days) = wait {
        events.push(Event::KeyDeletionScheduled {
            key: name,
            due: at.plus_days(wait_days.into()),
            wait_days,
        });
    }
    events
}

/// Whether this member takes the family over, on a state that has the request's record.
fn judge_move(state: &State, from: &Region, record: &FamilyRecord, caller: &Caller) -> Event {
    let name = record.key;
    let answer = |refusal| {
        let answer = Message::MoveAnswer {
            key: name,
            at: record.stamp,
            refusal,
        };
        vec![(from.clone(), answer)]
    };
    let caller = caller.come_across();
    let asked = PrimaryRegion(state.region());
    let allowed = permit_key(state, &caller, name, "UpdatePrimaryRegion", &asked);
    let allowed = allowed.and_then(|target| {
        let key = target.key();
        only_enabled(key)?;
        let family = state.family(name).filter(|family| {
            // An older request of a primary that is no longer one.
            family.primary == *from && family.stamp == record.stamp
        });
        match family {
            Some(family) => Ok(Family::clone(family)),
            None => Err(Refusal::NotPrimary { key: name }),
        }
    });
    match allowed {
        Ok(mut family) if planted::is(Bug::StepUpBeforeStepDown) => {
            family.primary = state.region().clone();
            changed(
                name,
                FamilyChange::SteppedUp,
                family,
                KeyState::Enabled,
                answer(None),
            )
        }
        Ok(mut family) => {
            family.transit = Transit::Reserved { from: from.clone() };
            let change = FamilyChange::MoveReserved { from: from.clone() };
            changed(name, change, family, KeyState::Updating, answer(None))
        }
        Err(refusal) => Event::MessagesSent {
            sent: answer(Some(refusal)),
        },
    }
}

/// The state after Creating and Updating.
fn settled(has_all_material: bool) -> KeyState {
    match has_all_material {
        true => KeyState::Enabled,
        false => KeyState::PendingImport,
    }
}

/// The asked member has answered: step down, or stay.
fn end_request(
    state: &State,
    key: &Key,
    mut family: Family,
    to: &Region,
    refusal: Option<Refusal>,
) -> Event {
    let name = key.reference();
    if let Some(refusal) = refusal {
        let Transit::Requested { at, .. } = std::mem::take(&mut family.transit) else {
            unreachable!("the caller saw a request");
        };
        family.refused = Some((at, refusal));
        let change = FamilyChange::MoveRefused { to: to.clone() };
        let settled = settled(import::has_all(state, key));
        return changed(name, change, family, settled, Vec::new());
    }
    family.transit = Transit::SteppedDown;
    family.stamp = family.stamp.next_epoch();
    family.primary = to.clone();
    // To the new primary alone, and the last one written here.
    let rotation = rotation_of(state, name);
    confirm_own(&mut family, state.region(), key, &rotation);
    let sent = vec![(to.clone(), family.record_message(key, &rotation, to))];
    let change = FamilyChange::SteppedDown { to: to.clone() };
    changed(name, change, family, KeyState::Updating, sent)
}

fn hear_record(
    state: &State,
    record: &FamilyRecord,
    new: &[NewMaterial],
    shared: &SharedImports,
    at: UnixMillis,
) -> Vec<Event> {
    let Some(entry) = record.roster.get(state.region()) else {
        return Vec::new();
    };
    let buried = state.buried(record.key);
    let buried = buried.is_some_and(|buried| entry.incarnation <= buried);
    if buried || has_a_stranger(state, record, entry) {
        // Whoever leads the family now has not heard of it.
        if record.primary == *state.region() {
            return Vec::new();
        }
        let tombstone = Message::Tombstone {
            key: record.key,
            incarnation: entry.incarnation,
        };
        return vec![Event::MessagesSent {
            sent: vec![(record.primary.clone(), tombstone)],
        }];
    }
    match state.key(record.key).zip(state.family(record.key)) {
        None => {
            let arrival = arrival(state, record, entry, new, at);
            let (imports, awaited) = imports::after_record(state, record, shared);
            let shared = imports::if_changed(state, record.key, imports, awaited);
            std::iter::once(arrival).chain(shared).collect()
        }
        Some((_, family)) if !is_news(record, family) => Vec::new(),
        Some((key, family)) => take_record(state, key, family, record, entry, new, shared),
    }
}

/// Whether a record is newer than what the family's member here knows.
fn is_news(record: &FamilyRecord, family: &Family) -> bool {
    record.stamp > family.stamp
        || planted::is(Bug::EpochIgnored) && record.stamp.epoch != family.stamp.epoch
}

/// Whether another key has the family's id here. Ids are random, unless callers choose them. Such a
/// replica is as good as deleted: its primary takes it off the roster.
fn has_a_stranger(state: &State, record: &FamilyRecord, entry: &Entry) -> bool {
    let related = |family: &Arc<Family>| family.incarnation == entry.incarnation;
    state.key(record.key).is_some() && !state.family(record.key).is_some_and(related)
}

/// A replica key is there from now on.
fn arrival(
    state: &State,
    record: &FamilyRecord,
    entry: &Entry,
    new: &[NewMaterial],
    at: UnixMillis,
) -> Event {
    let initial = entry.initial.as_deref().cloned().unwrap_or_default();
    let key = Key {
        account: record.key.account,
        id: record.key.id,
        spec: record.spec,
        usage: record.usage,
        origin: record.origin,
        state: KeyState::Creating,
        multi_region: Some(MultiRegionRole::Replica),
        created: at,
        deletion: None,
        description: initial.description.into(),
        policy: initial.policy.as_deref().map(StoredPolicy::from),
        tags: initial.tags,
        materials: in_order(record, new.iter()),
    };
    let family = Family {
        stamp: record.stamp,
        primary: record.primary.clone(),
        roster: record.roster.clone(),
        incarnation: entry.incarnation,
        transit: Transit::Settled,
        refused: None,
        wait_days: None,
    };
    let rotation = rotation_told(record, new);
    let sent = confirmation(state, &key, &rotation, &family);
    Event::KeyReplicated {
        key,
        family,
        rotation,
        sent: sent.into_iter().collect(),
    }
}

/// What the record says of rotation. The bytes of imported material are not part of it.
fn rotation_told(record: &FamilyRecord, held: &[NewMaterial]) -> Rotation {
    match (record.origin, record.rotation.pending) {
        (Origin::External, Some((id, ..))) => {
            let named = NewMaterial::gone(id);
            record.rotation.with(std::iter::once(&named))
        }
        _ => record.rotation.with(held.iter()),
    }
}

/// The record's versions that are here, in the record's order. Versions of imported material are all
/// the key's, here or not.
fn in_order<'m>(
    record: &FamilyRecord,
    held: impl Iterator<Item = &'m NewMaterial>,
) -> Vec<NewMaterial> {
    let by_id: BTreeMap<_, _> = held.map(|material| (material.id, material)).collect();
    let version = |id: &MaterialId| match (by_id.get(id), record.origin) {
        (Some(version), _) => Some((*version).clone()),
        (None, Origin::External) => Some(NewMaterial::gone(*id)),
        (None, Origin::AwsKms | Origin::AwsCloudhsm | Origin::ExternalKeyStore) => None,
    };
    record.materials.iter().filter_map(version).collect()
}

/// The answer to a record that lacks one of this member's confirmations.
fn confirmation(
    state: &State,
    key: &Key,
    rotation: &Rotation,
    family: &Family,
) -> Option<(Region, Message)> {
    let own = family.roster.get(state.region())?;
    let held = held(key, rotation);
    if family.is_led_by(state.region()) || held.is_subset(&own.confirmed) {
        return None;
    }
    let confirmation = Message::Confirmation {
        key: key.reference(),
        incarnation: family.incarnation,
        materials: held,
    };
    Some((family.primary.clone(), confirmation))
}

/// A newer record than the last one here.
fn take_record(
    state: &State,
    key: &Key,
    family: &Family,
    record: &FamilyRecord,
    entry: &Entry,
    new: &[NewMaterial],
    shared: &SharedImports,
) -> Vec<Event> {
    let own = state.region();
    let mut key = key.clone();
    let present = rotation_of(state, record.key);
    let known: BTreeSet<_> = key.materials.iter().map(|material| material.id).collect();
    let imported = state
        .imports(record.key)
        .and_then(|row| row.pending.as_ref());
    let held = all_held(&key, &present).chain(new).chain(imported);
    let here: Vec<NewMaterial> = held.cloned().collect();
    key.materials = in_order(record, here.iter());
    let rotation = rotation_told(record, &here);
    let (imports, mut awaited) = imports::after_record(state, record, shared);
    let mut family = Family {
        stamp: record.stamp,
        primary: record.primary.clone(),
        roster: record.roster.clone(),
        ..family.clone()
    };
    let change;
    if family.is_led_by(own) {
        // Stepped down for this Region: stepping up takes the same entry.
        family.transit = Transit::Settled;
        family.stamp = family.stamp.next();
        confirm_own(&mut family, own, &key, &rotation);
        imports::report_own(&mut awaited, own, family.incarnation, &imports);
        change = FamilyChange::SteppedUp;
    } else {
        if family.transit == Transit::SteppedDown {
            family.transit = Transit::Settled;
        }
        change = FamilyChange::RecordTaken;
    }
    let created = key.state == KeyState::Creating && !entry.confirmed.is_empty();
    let moved = key.state == KeyState::Updating && family.transit == Transit::Settled;
    let rotating_to = rotation.pending.as_ref().map(|pending| pending.material.id);
    let has_all = import::all_here(&key, rotating_to, Some(&imports));
    if created || moved {
        key.state = settled(has_all);
    } else if !has_all && key.origin == Origin::External {
        // What the family is rotated to is this member's for good from here on.
        key.state = import::without(key.state);
    }
    let sent = if family.is_led_by(own) {
        family.records(&key, &rotation, own)
    } else {
        let answer = confirmation(state, &key, &rotation, &family);
        let report = imports::report(record.key, own, &family, &imports, awaited.as_ref());
        answer.into_iter().chain(report).collect()
    };
    let arrived = key.materials.iter().filter(|m| !known.contains(&m.id));
    let changed = Event::FamilyChanged {
        key: key.reference(),
        change,
        family,
        state: key.state,
        materials: arrived.cloned().collect(),
        rotation: (rotation != present).then_some(rotation),
        sent,
    };
    // First: what is sent takes it along.
    let shared = imports::if_changed(state, record.key, imports, awaited);
    shared.into_iter().chain([changed]).collect()
}
