//! Families: ReplicateKey and UpdatePrimaryRegion here, what a message from another Region leads to
//! in `hearing`, what is told of imported material in `imports`, and what the events do to the state in
//! `effects`.
//!
//! The shape, in short: the primary's log alone writes records; every Region answers a record that
//! lacks one of its confirmations; a move is *requested* in the primary's log, *reserved* in the
//! other's, *stepped down* in the first and *stepped up* in the second. Between the last two nobody
//! is primary, and at no cut of the logs are two.

mod effects;
mod hearing;
mod imports;

use std::sync::Arc;

use keyrum_types::planted::{self, Bug};
use keyrum_types::{KeyState, MultiRegionRole, Region, UnixMillis, key_arn};

use crate::access::{Call, Permitted};
use crate::event::FamilyChange;
use crate::family::{Entry, Family, Initial, Message, Transit, all_held, held, rotation_of};
use crate::rotation::{self, Rotation};
use crate::{Event, Key, KeyRef, Outcome, Refusal, State, evolve};

pub(crate) use effects::{bury, deletion_canceled, evolve_family};
pub(crate) use hearing::hear;
pub(crate) use imports::{imported_everywhere, take_along, tell_imports};

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
///
/// Deviation: the real service's table of key states lets EnableKeyRotation, DisableKeyRotation,
/// RotateKeyOnDemand and UpdatePrimaryRegion pass while a key is Updating. Here nobody is primary for
/// part of that time, so all of it answers that the key is updating.
pub(crate) fn primary_only(state: &State, key: &Key, operation: &str) -> Result<(), Refusal> {
    not_moving(state, key)?;
    not_creating(key)?;
    match key.multi_region {
        Some(MultiRegionRole::Replica) => Err(Refusal::ReplicaNotForOperation {
            key: key.reference(),
            operation: operation.to_owned(),
        }),
        Some(MultiRegionRole::Primary) | None => Ok(()),
    }
}

/// A replica that is not there yet says so rather than that it is a replica.
fn not_creating(key: &Key) -> Result<(), Refusal> {
    match key.state {
        state @ KeyState::Creating => Err(Refusal::WrongState {
            key: key.reference(),
            state,
        }),
        _ => Ok(()),
    }
}

pub(crate) fn not_moving(state: &State, key: &Key) -> Result<(), Refusal> {
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
        let confirmed = others.all(|(_, entry)| entry.confirmed.contains(&pending.material.id));
        if !confirmed && !planted::is(Bug::RotateUnconfirmed) {
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
    let confirmed = |entry: &Entry| {
        let mut held = all_held(key, rotation);
        entry.initial.is_none() && held.all(|material| entry.confirmed.contains(&material.id))
    };
    if !family.roster.get(own).is_none_or(confirmed)
        && let Some(entry) = family.entry_mut(own)
    {
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
    // Identities and their policies are the same everywhere, so this is decided here.
    let _permit = call.in_region(new.region, "CreateKey", "*")?;
    if !new.tags.is_empty() {
        let arn = key_arn(new.region, key.account, key.id);
        let _permit = call.in_region(new.region, "TagResource", &arn)?;
    }
    let present = target.key();
    not_moving(call.state, present)?;
    not_creating(present)?;
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
    Arc::make_mut(&mut family.roster).insert(new.region.clone(), entry);
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
    not_creating(present)?;
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
        caller: call.caller.to_cross(),
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

/// The key and its family, if this Region writes the family's records.
fn led(state: &State, key: KeyRef) -> Option<(Arc<Key>, Family)> {
    let family = state.family(key)?;
    let present = state.key(key)?;
    family
        .is_led_by(state.region())
        .then(|| (Arc::clone(present), Family::clone(family)))
}
