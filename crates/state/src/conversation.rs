//! Families: ReplicateKey, UpdatePrimaryRegion, and what a message from another Region leads to.
//!
//! The shape, in short: the primary's log alone writes records; every Region answers a record that
//! lacks one of its confirmations; a move is *requested* in the primary's log, *reserved* in the
//! other's, *stepped down* in the first and *stepped up* in the second. Between the last two nobody
//! is primary, and at no cut of the logs are two.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keyrum_types::{KeyState, MaterialId, MultiRegionRole, Origin, Region, UnixMillis};

use crate::access::{Call, Permitted};
use crate::channel::send;
use crate::contents::{Row, RowName};
use crate::event::FamilyChange;
use crate::family::{
    Entry, Family, FamilyRecord, Initial, Message, Subject, Transit, all_held, held, rotation_of,
};
use crate::rotation::{self, Rotation};
use crate::{Caller, Event, Key, KeyRef, NewMaterial, Outcome, Refusal, State, evolve, permit_key};

type Sent = Vec<(Region, Message)>;

/// A ReplicateKey command's parts.
pub(crate) struct NewReplica<'c> {
    pub(crate) region: &'c Region,
    pub(crate) description: &'c str,
    pub(crate) policy: Option<&'c str>,
    pub(crate) bypass_lockout_check: bool,
    pub(crate) tags: &'c [(String, String)],
}

/// The key's family as this log knows it.
pub(crate) fn of(state: &State, key: &Key) -> Family {
    match state.family(key.reference()) {
        Some(family) => Family::clone(family),
        None => Family::founded(state, key),
    }
}

fn changed(
    key: KeyRef,
    change: FamilyChange,
    family: Family,
    state: KeyState,
    sent: Sent,
) -> Event {
    Event::FamilyChanged {
        key,
        change,
        family,
        state,
        materials: Vec::new(),
        rotation: None,
        sent,
    }
}

/// Refuses what is shared on any member but the primary, and while nobody is primary or a move is
/// under way.
pub(crate) fn primary_only(state: &State, key: &Key, operation: &str) -> Result<(), Refusal> {
    not_moving(state, key)?;
    match key.multi_region {
        Some(MultiRegionRole::Replica) => Err(Refusal::ReplicaNotForOperation {
            key: key.reference(),
            operation: operation.to_owned(),
        }),
        Some(MultiRegionRole::Primary) | None => Ok(()),
    }
}

fn not_moving(state: &State, key: &Key) -> Result<(), Refusal> {
    match state.family(key.reference()).map(|family| &family.transit) {
        None | Some(Transit::Settled) => Ok(()),
        Some(Transit::Requested { .. } | Transit::Reserved { .. } | Transit::SteppedDown) => {
            Err(Refusal::WrongState {
                key: key.reference(),
                state: KeyState::Updating,
            })
        }
    }
}

/// Whether the family has members in other Regions, confirmed or not.
pub(crate) fn has_replicas(state: &State, key: KeyRef) -> bool {
    let family = state.family(key);
    family.is_some_and(|family| family.roster.len() > 1)
}

/// A member that writes the family's records, with all that a record is made of.
struct Leading {
    key: Key,
    family: Family,
    rotation: Rotation,
}

impl Leading {
    /// `None` if this Region does not write the key's family's records.
    fn of(state: &State, key: KeyRef) -> Option<Self> {
        let (key, family) = led(state, key)?;
        let rotation = rotation_of(state, key.reference());
        Some(Self {
            key: Key::clone(&key),
            family,
            rotation,
        })
    }

    /// The same on the state that these events, which are about this key alone, lead to. Without
    /// that state: it costs many times as much.
    fn after(state: &State, name: KeyRef, events: &[Event]) -> Option<Self> {
        let (changes, others): (Vec<_>, Vec<_>) = events
            .iter()
            .filter(|event| !matches!(event, Event::MessagesSent { .. }))
            .partition(|event| matches!(event, Event::FamilyChanged { .. }));
        let [
            Event::FamilyChanged {
                family,
                state: shown,
                materials,
                rotation,
                ..
            },
        ] = changes[..]
        else {
            return Self::of(&after(state, events), name);
        };
        if !others.is_empty() {
            return Self::of(&after(state, events), name);
        }
        if !family.is_led_by(state.region()) {
            return None;
        }
        let mut key = Key::clone(state.key(name)?);
        key.state = *shown;
        key.multi_region = Some(MultiRegionRole::Primary);
        key.materials.extend(materials.iter().cloned());
        let rotation = rotation.clone();
        Some(Self {
            key,
            family: family.clone(),
            rotation: rotation.unwrap_or_else(|| rotation_of(state, name)),
        })
    }

    /// Adds to a change of the key's rotation that the other members are told of it.
    fn tell_rotation(mut self, own: &Region, mut events: Vec<Event>) -> Vec<Event> {
        if events.is_empty() {
            return events;
        }
        for event in &events {
            if let Event::KeyRotated { material, .. } = event {
                self.key.materials.push(material.clone());
            }
            rotation::change(&mut self.rotation, event);
        }
        let Self {
            key,
            mut family,
            rotation,
        } = self;
        family.stamp = family.stamp.next();
        confirm_own(&mut family, own, &key, &rotation);
        let sent = family.records(&key, &rotation, own);
        let change = FamilyChange::RotationChanged;
        events.push(changed(key.reference(), change, family, key.state, sent));
        events
    }

    /// Completes the family's rotation if every member has its material.
    fn complete_rotation(self, own: &Region, at: UnixMillis) -> Vec<Event> {
        let Some(pending) = &self.rotation.pending else {
            return Vec::new();
        };
        let mut others = self
            .family
            .roster
            .iter()
            .filter(|(region, _)| *region != own);
        if !others.all(|(_, entry)| entry.confirmed.contains(&pending.material.id)) {
            return Vec::new();
        }
        let completed = rotation::completed(&self.key, pending, at);
        self.tell_rotation(own, completed.into_iter().collect())
    }
}

/// Adds to a change of a key's rotation that the other members are told of it.
pub(crate) fn tell_rotation(state: &State, key: KeyRef, events: Vec<Event>) -> Vec<Event> {
    match Leading::of(state, key) {
        Some(leading) => leading.tell_rotation(state.region(), events),
        None => events,
    }
}

/// The state these events lead to.
fn after(state: &State, events: &[Event]) -> State {
    let mut ahead = state.clone();
    events.iter().for_each(|event| evolve(&mut ahead, event));
    ahead
}

/// The primary's own log is its confirmation.
fn confirm_own(family: &mut Family, own: &Region, key: &Key, rotation: &Rotation) {
    if let Some(entry) = family.roster.get_mut(own) {
        entry.confirmed.extend(held(key, rotation));
        entry.initial = None;
    }
}

fn only_enabled(key: &Key) -> Result<(), Refusal> {
    match key.state {
        KeyState::Enabled => Ok(()),
        state => Err(Refusal::WrongState {
            key: key.reference(),
            state,
        }),
    }
}

pub(crate) fn replicate(call: &Call<'_>, key: KeyRef, new: &NewReplica<'_>) -> Outcome {
    let target = call.key(key)?;
    let present = target.key();
    not_moving(call.state, present)?;
    match present.multi_region {
        None => return Err(Refusal::NotMultiRegion { key }),
        Some(MultiRegionRole::Replica) => return Err(Refusal::NotPrimary { key }),
        Some(MultiRegionRole::Primary) => {}
    }
    let own = call.state.region();
    if new.region == own {
        return Err(Refusal::PrimaryIsThere { key });
    }
    let mut family = of(call.state, present);
    if family.roster.contains_key(new.region) {
        return Err(Refusal::ReplicaExists {
            key,
            region: new.region.clone(),
        });
    }
    only_enabled(present)?;
    if let Some(text) = new.policy {
        crate::policy::check(call, key, text, new.bypass_lockout_check)?;
    }
    let tags = crate::tag::checked(new.tags)?;
    crate::tag::check_count(tags.len())?;
    family.stamp = family.stamp.next();
    let entry = Entry {
        incarnation: family.stamp,
        confirmed: Default::default(),
        initial: Some(Arc::new(Initial {
            description: new.description.to_owned(),
            policy: new.policy.map(Arc::from),
            tags,
        })),
    };
    family.roster.insert(new.region.clone(), entry);
    let change = FamilyChange::ReplicaAdded {
        region: new.region.clone(),
    };
    let sent = family.records(present, &rotation_of(call.state, key), own);
    Ok(vec![changed(key, change, family, present.state, sent)])
}

pub(crate) fn request_move(call: &Call<'_>, key: KeyRef, to: &Region) -> Outcome {
    let target = call.key(key)?;
    let present = target.key();
    not_moving(call.state, present)?;
    match present.multi_region {
        None => return Err(Refusal::NotMultiRegion { key }),
        Some(MultiRegionRole::Replica) => return Err(Refusal::NoPrimaryToMove { key }),
        Some(MultiRegionRole::Primary) => {}
    }
    if to == call.state.region() {
        return Ok(vec![]);
    }
    let mut family = of(call.state, present);
    let Some(entry) = family.roster.get(to) else {
        return Err(Refusal::NoReplicaThere {
            key,
            region: to.clone(),
        });
    };
    only_enabled(present)?;
    if entry.confirmed.is_empty() {
        return Err(Refusal::ReplicaIsCreating {
            key,
            region: to.clone(),
        });
    }
    let at = family.stamp;
    family.transit = Transit::Requested { to: to.clone(), at };
    family.refused = None;
    let rotation = rotation_of(call.state, key);
    let (record, materials) = family.record_for(present, &rotation, to);
    let request = Message::MoveRequest {
        record,
        materials,
        caller: call.caller.clone(),
    };
    let change = FamilyChange::MoveRequested { to: to.clone() };
    let sent = vec![(to.clone(), request)];
    Ok(vec![changed(key, change, family, KeyState::Updating, sent)])
}

/// The deletion of a primary that still has replicas: it waits for theirs first.
pub(crate) fn schedule_after_replicas(
    state: &State,
    target: &Permitted<'_>,
    wait_days: u8,
) -> Option<Event> {
    let key = target.key();
    let mut family = Family::clone(state.family(key.reference())?);
    if !family.is_led_by(state.region()) || family.roster.len() < 2 {
        return None;
    }
    family.wait_days = Some(wait_days);
    Some(changed(
        key.reference(),
        FamilyChange::DeletionWaitsForReplicas,
        family,
        KeyState::PendingReplicaDeletion,
        Vec::new(),
    ))
}

/// What the other members are told when this one is really deleted.
pub(crate) fn last_words(state: &State, key: KeyRef) -> Option<Event> {
    let family = state.family(key)?;
    if family.is_led_by(state.region()) {
        return None;
    }
    let tombstone = Message::Tombstone {
        key,
        incarnation: family.incarnation,
    };
    Some(Event::MessagesSent {
        sent: vec![(family.primary.clone(), tombstone)],
    })
}

/// What a message leads to. Never refuses: what says nothing new changes nothing.
pub(crate) fn hear(state: &State, from: &Region, message: &Message, at: UnixMillis) -> Vec<Event> {
    let mut events = first_effect(state, from, message, at);
    if !events.is_empty() {
        // A confirmation, an entry that left, or stepping up may be what a rotation waited for.
        if let Some(leading) = Leading::after(state, message.key(), &events) {
            events.extend(leading.complete_rotation(state.region(), at));
        }
    }
    events
}

fn first_effect(state: &State, from: &Region, message: &Message, at: UnixMillis) -> Vec<Event> {
    match message {
        Message::Record { record, materials } => hear_record(state, record, materials, at),
        Message::Confirmation {
            key,
            incarnation,
            materials,
        } => led(state, *key)
            .filter(|(_, family)| is_entry(family, from, *incarnation))
            .and_then(|(key, mut family)| {
                let entry = family.roster.get_mut(from)?;
                let was_creating = entry.confirmed.is_empty();
                let before = entry.confirmed.len();
                entry.confirmed.extend(materials.iter().copied());
                entry.initial = None;
                if entry.confirmed.len() == before {
                    return None;
                }
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
            let mut events = hear_record(state, record, materials, at);
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
    }
}

/// The key and its family, if this Region writes the family's records.
fn led(state: &State, key: KeyRef) -> Option<(Arc<Key>, Family)> {
    let family = state.family(key)?;
    let present = state.key(key)?;
    family
        .is_led_by(state.region())
        .then(|| (Arc::clone(present), Family::clone(family)))
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
    family.roster.remove(region);
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
    let allowed = permit_key(state, caller, name, "UpdatePrimaryRegion").and_then(|target| {
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
fn settled(key: &Key) -> KeyState {
    match key.has_all_material() {
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
        return changed(name, change, family, settled(key), Vec::new());
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
    at: UnixMillis,
) -> Vec<Event> {
    let Some(entry) = record.roster.get(state.region()) else {
        return Vec::new();
    };
    let buried = state.buried(record.key);
    if buried.is_some_and(|buried| entry.incarnation <= buried) {
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
        None if state.key(record.key).is_some() => Vec::new(),
        None => vec![arrival(state, record, entry, new, at)],
        Some((_, family)) if record.stamp <= family.stamp => Vec::new(),
        Some((key, family)) => vec![take_record(state, key, family, record, entry, new)],
    }
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
        policy: initial.policy,
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
    let rotation = record.rotation.with(new.iter());
    let sent = confirmation(state, &key, &rotation, &family);
    Event::KeyReplicated {
        key,
        family,
        rotation,
        sent: sent.into_iter().collect(),
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
) -> Event {
    let own = state.region();
    let mut key = key.clone();
    let present = rotation_of(state, record.key);
    let known: BTreeSet<_> = key.materials.iter().map(|material| material.id).collect();
    let here: Vec<NewMaterial> = all_held(&key, &present).chain(new).cloned().collect();
    key.materials = in_order(record, here.iter());
    let rotation = record.rotation.with(here.iter());
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
        change = FamilyChange::SteppedUp;
    } else {
        if family.transit == Transit::SteppedDown {
            family.transit = Transit::Settled;
        }
        change = FamilyChange::RecordTaken;
    }
    let created = key.state == KeyState::Creating && !entry.confirmed.is_empty();
    let moved = key.state == KeyState::Updating && family.transit == Transit::Settled;
    if created || moved {
        key.state = settled(&key);
    }
    let sent = if family.is_led_by(own) {
        family.records(&key, &rotation, own)
    } else {
        let answer = confirmation(state, &key, &rotation, &family);
        answer.into_iter().collect()
    };
    let arrived = key.materials.iter().filter(|m| !known.contains(&m.id));
    Event::FamilyChanged {
        key: key.reference(),
        change,
        family,
        state: key.state,
        materials: arrived.cloned().collect(),
        rotation: (rotation != present).then_some(rotation),
        sent,
    }
}

pub(crate) fn evolve_family(state: &mut State, event: &Event) {
    let sent = match event {
        Event::FamilyChanged {
            key,
            family,
            state: shown,
            materials,
            rotation,
            sent,
            change: _,
        } => {
            let role = role_in(family, state.region());
            state.edit_key(*key, |key| {
                key.state = *shown;
                key.multi_region = Some(role);
                key.materials.extend(materials.iter().cloned());
            });
            put_family(state, *key, family);
            if let Some(rotation) = rotation {
                put_rotation(state, *key, rotation);
            }
            sent
        }
        Event::KeyReplicated {
            key,
            family,
            rotation,
            sent,
        } => {
            state.put(Row::Key(Arc::new(key.clone())));
            if *rotation != Rotation::default() {
                put_rotation(state, key.reference(), rotation);
            }
            put_family(state, key.reference(), family);
            sent
        }
        Event::MessagesSent { sent } => sent,
        other => unreachable!("not an event of a family: {other:?}"),
    };
    for (to, message) in sent {
        send(state, to, message);
    }
}

fn role_in(family: &Family, own: &Region) -> MultiRegionRole {
    if family.is_led_by(own) {
        MultiRegionRole::Primary
    } else {
        MultiRegionRole::Replica
    }
}

fn put_rotation(state: &mut State, key: KeyRef, rotation: &Rotation) {
    state.put(Row::Rotation {
        key,
        rotation: rotation.clone().into(),
    });
}

fn put_family(state: &mut State, key: KeyRef, family: &Family) {
    state.put(Row::Family {
        key,
        family: family.clone().into(),
    });
}

/// What goes with a deleted member: its family, and the records of it that wait, whose material is
/// gone. That it was buried stays for ever.
pub(crate) fn bury(state: &mut State, key: KeyRef) {
    let Some(family) = state.family(key).cloned() else {
        return;
    };
    state.put(Row::Buried {
        key,
        incarnation: family.incarnation,
    });
    let waiting: Vec<(Region, u64)> = state
        .regions_spoken_to()
        .filter_map(|to| {
            let number = state.waiting_on(to, Subject::Record(key))?;
            Some((to.clone(), number))
        })
        .collect();
    for (to, number) in waiting {
        state.remove(RowName::Sent(&to, number));
    }
    state.remove(RowName::Family(key));
}

/// A primary whose deletion was cancelled waits for no replica any more.
pub(crate) fn deletion_canceled(state: &mut State, key: KeyRef) {
    if let Some(family) = state.family(key).filter(|f| f.wait_days.is_some()) {
        let family = Family {
            wait_days: None,
            ..Family::clone(family)
        };
        put_family(state, key, &family);
    }
}
