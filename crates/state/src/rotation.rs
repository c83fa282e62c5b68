//! New material for old keys: EnableKeyRotation, DisableKeyRotation, RotateKeyOnDemand, and the
//! RotateKeys that rotates what is due.
//!
//! A rotation adds a version to [`Key::materials`], which is current from then on; the former ones
//! stay for what they encrypted. What is set and what has happened stands in a row of its own,
//! [`Rotation`], which a key has from the first of these commands until it is deleted.
//!
//! Material cannot be made in here. So a rotation that is due is a command like any other, which
//! carries its material; it names the date it is for, and is skipped unless that is still the
//! key's date. Dates passed over, while a key was disabled or nobody proposed, make one rotation.
//!
//! Rules: AWS KMS Developer Guide, "Rotate AWS KMS keys"; API Reference of each operation.

use std::collections::BTreeSet;
use std::sync::Arc;

use keyrum_types::{
    KeySpec, KeyState, MaterialId, MultiRegionRole, Origin, RotationDays, RotationKind, UnixMillis,
};
use serde::{Deserialize, Serialize};

use crate::access::Permitted;
use crate::contents::{Row, RowName};
use crate::{
    DueRotation, Event, Key, NewMaterial, Outcome, Refusal, State, conversation, family, import,
};

/// How many rotations a RotateKeys carries out at most; it bounds the size of its outcome.
pub const ROTATE_KEYS_MAX: usize = 256;

/// How many on-demand rotations a key may have in its life.
/// Source: AWS KMS Developer Guide, "Resource quotas".
pub const ON_DEMAND_ROTATIONS_MAX: u8 = 25;

/// For how long before an automatic rotation none can be had on demand, in milliseconds.
/// Source: AWS KMS API Reference, RotateKeyOnDemand, `ConflictException`.
const CONFLICT_MS: u64 = 20 * 60 * 1000;

/// A date that a clock at its end leads to. It never comes: no later one could follow it.
const NEVER: UnixMillis = UnixMillis(u64::MAX);

/// What a key's rotation is set to, and what it has done.
///
/// Stored in snapshots: the order and types of the fields are the format.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// Set while automatic rotation is on, whatever the key's state.
    pub automatic: Option<AutomaticRotation>,
    /// How many rotations were asked for by RotateKeyOnDemand, in the key's life; at most
    /// [`ON_DEMAND_ROTATIONS_MAX`].
    pub on_demand_count: u8,
    /// Oldest first.
    pub rotations: Vec<CompletedRotation>,
    /// The rotation under way. Always `None` for a key without replicas, whose rotations take no
    /// time.
    pub pending: Option<PendingRotation>,
}

/// Automatic rotation that is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutomaticRotation {
    /// From one rotation to the next.
    pub period: RotationDays,
    /// When the next one is due, by the Region's clock. In the past if the key could not be
    /// rotated on that date.
    pub next: UnixMillis,
}

/// A rotation that has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedRotation {
    /// The version that it made current.
    pub material: MaterialId,
    /// When, by the Region's clock.
    pub at: UnixMillis,
    /// Why.
    pub kind: RotationKind,
}

/// A rotation whose material is not current yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRotation {
    /// The version that will be current. Imported material without its bytes, which are in
    /// [`crate::Imports::pending`].
    pub material: NewMaterial,
    /// When it began, by the Region's clock.
    pub started: UnixMillis,
    /// Why.
    pub kind: RotationKind,
}

/// When a key is to be rotated; `None` while nothing of the kind is to happen. What the index of
/// due rotations holds, and what a RotateKeys must name.
pub(crate) fn due_date(key: &Key, rotation: &Rotation) -> Option<UnixMillis> {
    let automatic = rotation.automatic.as_ref()?;
    let can_be = key.state == KeyState::Enabled
        && key.multi_region != Some(MultiRegionRole::Replica)
        && key.current_material().is_some()
        && rotation.pending.is_none();
    (can_be && automatic.next != NEVER).then_some(automatic.next)
}

/// The first date after `at` that is whole periods after `due`.
fn next_date(due: UnixMillis, period: RotationDays, at: UnixMillis) -> UnixMillis {
    let period_ms = u64::from(period.days()) * UnixMillis::DAY_MS;
    let missed = at.0.saturating_sub(due.0) / period_ms;
    due.plus_ms((missed + 1).saturating_mul(period_ms))
}

pub(crate) fn enable(
    state: &State,
    target: &Permitted<'_>,
    period: Option<RotationDays>,
    at: UnixMillis,
) -> Outcome {
    let key = target.reference();
    own_origin(target.key())?;
    conversation::primary_only(state, target.key(), "EnableKeyRotation")?;
    usable(target.key())?;
    symmetric(target.key())?;
    let present = state.rotation(key).and_then(|rotation| rotation.automatic);
    let period = match (present, period) {
        (Some(present), Some(period)) if period != present.period => period,
        // The schedule is kept as well.
        (Some(_), _) => return Ok(vec![]),
        (None, period) => period.unwrap_or(RotationDays::DEFAULT),
    };
    let enabled = Event::KeyRotationEnabled {
        key,
        period,
        next: at.plus_days(period.days().into()),
    };
    Ok(conversation::tell_rotation(state, key, vec![enabled]))
}

/// Taken for every kind of key, since it is off for all that cannot have it.
pub(crate) fn disable(state: &State, target: &Permitted<'_>) -> Outcome {
    let key = target.reference();
    own_origin(target.key())?;
    conversation::primary_only(state, target.key(), "DisableKeyRotation")?;
    usable(target.key())?;
    let present = state.rotation(key).and_then(|rotation| rotation.automatic);
    let disabled = present.map(|_| Event::KeyRotationDisabled { key });
    let events = disabled.into_iter().collect();
    Ok(conversation::tell_rotation(state, key, events))
}

/// Deviation: takes effect at once, where the real service needs about two minutes; so a second
/// call is a second rotation, where there it is the first one still.
pub(crate) fn rotate_on_demand(
    state: &State,
    target: &Permitted<'_>,
    material: &NewMaterial,
    at: UnixMillis,
) -> Outcome {
    let key = target.reference();
    match target.key().origin {
        Origin::AwsKms | Origin::External => {}
        Origin::AwsCloudhsm | Origin::ExternalKeyStore => own_origin(target.key())?,
    }
    conversation::primary_only(state, target.key(), "RotateKeyOnDemand")?;
    usable(target.key())?;
    symmetric(target.key())?;
    let none = Rotation::default();
    let rotation = state.rotation(key).map_or(&none, Arc::as_ref);
    let under_way = rotation.pending.as_ref();
    if under_way.is_some_and(|pending| pending.kind == RotationKind::OnDemand) {
        return Ok(vec![]);
    }
    // It rotates to material that was imported for that, never to new material.
    let imported = match target.key().origin {
        Origin::External => Some(conversation::imported_everywhere(state, key)?),
        Origin::AwsKms | Origin::AwsCloudhsm | Origin::ExternalKeyStore => None,
    };
    let material = imported.as_ref().unwrap_or(material);
    if rotation.on_demand_count >= ON_DEMAND_ROTATIONS_MAX {
        return Err(Refusal::TooManyRotations {
            key,
            limit: ON_DEMAND_ROTATIONS_MAX,
        });
    }
    let next = rotation.automatic.map(|automatic| automatic.next);
    let close = next.filter(|next| *next != NEVER && *next <= at.plus_ms(CONFLICT_MS));
    if let Some(due) = under_way.map(|pending| pending.started).or(close) {
        return Err(Refusal::RotationDue { key, due });
    }
    if !target.key().has_all_material() {
        return Err(Refusal::WrongState {
            key,
            state: KeyState::PendingImport,
        });
    }
    let kind = RotationKind::OnDemand;
    Ok(begin(state, target.key(), material, at, kind, None))
}

/// A rotation takes place at once in a key without replicas; in a family it begins.
fn begin(
    state: &State,
    key: &Key,
    material: &NewMaterial,
    at: UnixMillis,
    kind: RotationKind,
    next: Option<UnixMillis>,
) -> Vec<Event> {
    let replicas = conversation::has_replicas(state, key.reference());
    let event = if replicas {
        Some(Event::KeyRotationStarted {
            key: key.reference(),
            material: material.clone(),
            at,
            kind,
            next,
        })
    } else {
        rotated(key, material, at, kind, next)
    };
    let events = event.into_iter().collect();
    let mut events = conversation::tell_rotation(state, key.reference(), events);
    // Last: what the family is told leaves the key's state as it was. With replicas, where the
    // rotation ends later, a Tick sees to it.
    if !replicas {
        events.extend(import::expired_waiting(state, key, material.id, at));
    }
    events
}

/// The end of a family's rotation: its material is current from now on.
pub(crate) fn completed(key: &Key, pending: &PendingRotation, at: UnixMillis) -> Option<Event> {
    rotated(key, &pending.material, at, pending.kind, None)
}

/// Carries out what is due. An element that is not, because somebody else carried it out or the
/// key's date changed meanwhile, is skipped.
pub(crate) fn rotate_due(state: &State, rotations: &[DueRotation], at: UnixMillis) -> Outcome {
    let mut seen = BTreeSet::new();
    let mut event = |rotation: &DueRotation| {
        let key = state.key(rotation.key)?;
        let set = state.rotation(rotation.key)?;
        let period = set.automatic?.period;
        let is_due = due_date(key, set) == Some(rotation.due) && rotation.due <= at;
        if !is_due || !seen.insert(rotation.key) {
            return None;
        }
        let next = next_date(rotation.due, period, at);
        let kind = RotationKind::Automatic;
        Some(begin(state, key, &rotation.material, at, kind, Some(next)))
    };
    let taken = rotations.iter().take(ROTATE_KEYS_MAX);
    Ok(taken.filter_map(&mut event).flatten().collect())
}

/// `None` if the key has no material to be followed by another.
fn rotated(
    key: &Key,
    material: &NewMaterial,
    at: UnixMillis,
    kind: RotationKind,
    next: Option<UnixMillis>,
) -> Option<Event> {
    Some(Event::KeyRotated {
        key: key.reference(),
        origin: key.origin,
        previous: key.current_material()?.id,
        material: material.clone(),
        at,
        kind,
        next,
    })
}

/// Refuses keys whose material is not the service's own; their state does not matter.
fn own_origin(key: &Key) -> Result<(), Refusal> {
    match key.origin {
        Origin::AwsKms => Ok(()),
        origin @ (Origin::External | Origin::AwsCloudhsm | Origin::ExternalKeyStore) => {
            Err(Refusal::OriginNotForOperation {
                key: key.reference(),
                origin,
            })
        }
    }
}

fn usable(key: &Key) -> Result<(), Refusal> {
    match key.state {
        KeyState::Enabled | KeyState::Updating => Ok(()),
        state @ (KeyState::Disabled
        | KeyState::PendingDeletion
        | KeyState::PendingReplicaDeletion
        | KeyState::PendingImport
        | KeyState::Unavailable
        | KeyState::Creating) => Err(Refusal::WrongState {
            key: key.reference(),
            state,
        }),
    }
}

fn symmetric(key: &Key) -> Result<(), Refusal> {
    match key.spec {
        KeySpec::SymmetricDefault => Ok(()),
        spec => Err(Refusal::SpecNotForOperation {
            key: key.reference(),
            spec,
        }),
    }
}

pub(crate) fn evolve(state: &mut State, event: &Event) {
    let name = match event {
        Event::KeyRotationEnabled { key, .. }
        | Event::KeyRotationDisabled { key }
        | Event::KeyRotated { key, .. }
        | Event::KeyRotationStarted { key, .. } => *key,
        other => unreachable!("not an event of a key's rotation: {other:?}"),
    };
    match event {
        Event::KeyRotated { material, .. } => {
            // A family's event names imported material without its bytes.
            let imported = import::rotated_to(state, name, material.id);
            let material = imported.unwrap_or_else(|| material.clone());
            state.edit_key(name, |key| key.materials.push(material));
        }
        Event::KeyRotationStarted { .. } => state.remove(RowName::Awaited(name)),
        _ => {}
    }
    let mut rotation = family::rotation_of(state, name);
    change(&mut rotation, event);
    state.put(Row::Rotation {
        key: name,
        rotation: Arc::new(rotation),
    });
}

/// What an event of a key's rotation makes of the rotation's row. [`Event::KeyRotated`] also adds
/// its material to the key.
pub(crate) fn change(rotation: &mut Rotation, event: &Event) {
    match event {
        Event::KeyRotationEnabled { period, next, .. } => {
            rotation.automatic = Some(AutomaticRotation {
                period: *period,
                next: *next,
            });
        }
        Event::KeyRotationDisabled { .. } => rotation.automatic = None,
        Event::KeyRotated {
            material,
            at,
            kind,
            next,
            ..
        } => {
            rotation.rotations.push(CompletedRotation {
                material: material.id,
                at: *at,
                kind: *kind,
            });
            if *kind == RotationKind::OnDemand {
                rotation.on_demand_count += 1;
            }
            rotation.pending = None;
            follow(rotation, *next);
        }
        Event::KeyRotationStarted {
            material,
            at,
            kind,
            next,
            ..
        } => {
            rotation.pending = Some(PendingRotation {
                material: material.clone(),
                started: *at,
                kind: *kind,
            });
            follow(rotation, *next);
        }
        other => unreachable!("not an event of a key's rotation: {other:?}"),
    }
}

fn follow(rotation: &mut Rotation, next: Option<UnixMillis>) {
    if let (Some(automatic), Some(next)) = (&mut rotation.automatic, next) {
        automatic.next = next;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use keyrum_types::{KeyId, KeyUsage, MultiRegionRole, SealedMaterial};

    use super::*;
    use crate::{Caller, KeyRef, NoFacts, permit_key};

    /// Catches missed dates that make more than one rotation, and a schedule that drifts from its
    /// grid or stands still.
    #[test]
    fn dates_stay_on_their_grid() {
        let day = UnixMillis::DAY_MS;
        let period = RotationDays::new(90).unwrap();
        let due = UnixMillis(1_000 + 90 * day);
        for (late_ms, periods) in [
            (0, 1),
            (1, 1),
            (90 * day - 1, 1),
            (90 * day, 2),
            (400 * day, 5),
        ] {
            let next = next_date(due, period, due.plus_ms(late_ms));
            assert_eq!(next, due.plus_days(90 * periods), "late by {late_ms} ms");
        }
        assert_eq!(next_date(due, period, NEVER), NEVER);
    }

    fn edit(state: &mut State, key: KeyRef, edit: impl FnOnce(&mut Rotation)) {
        let mut rotation = family::rotation_of(state, key);
        edit(&mut rotation);
        let rotation = Arc::new(rotation);
        state.put(Row::Rotation { key, rotation });
    }

    /// Catches a second rotation beside one that is under way, which only keys with replicas have:
    /// one on demand answers as if it were the same, and an automatic one waits.
    #[test]
    fn one_rotation_is_under_way_at_most() {
        let account = "000000000001".parse().unwrap();
        let version = |byte| NewMaterial {
            id: MaterialId([byte; 32]),
            sealed: SealedMaterial([byte; 8].into()),
        };
        let key = Key {
            account,
            id: KeyId::multi_region([1; 16]),
            spec: KeySpec::SymmetricDefault,
            usage: KeyUsage::EncryptDecrypt,
            origin: Origin::AwsKms,
            state: KeyState::Enabled,
            multi_region: Some(MultiRegionRole::Primary),
            created: UnixMillis(0),
            deletion: None,
            description: "".into(),
            policy: None,
            tags: BTreeMap::new(),
            materials: vec![version(1)],
        };
        let name = key.reference();
        let mut state = State::new("us-east-1".parse().unwrap());
        state.put(Row::Key(Arc::new(key)));
        let caller = Caller::root(&"us-east-1".parse().unwrap(), account);
        let on_demand = |state: &State| {
            let target = permit_key(state, &caller, name, "RotateKeyOnDemand", &NoFacts).unwrap();
            rotate_on_demand(state, &target, &version(3), UnixMillis(10))
        };
        let far = UnixMillis(10).plus_days(90);
        for (next, kind, expected) in [
            (far, RotationKind::OnDemand, Ok(vec![])),
            (
                far,
                RotationKind::Automatic,
                Err(Refusal::RotationDue {
                    key: name,
                    due: UnixMillis(7),
                }),
            ),
            (UnixMillis(9), RotationKind::OnDemand, Ok(vec![])),
        ] {
            edit(&mut state, name, |rotation| {
                rotation.automatic = Some(AutomaticRotation {
                    period: RotationDays::DEFAULT,
                    next,
                });
                rotation.pending = Some(PendingRotation {
                    material: version(2),
                    started: UnixMillis(7),
                    kind,
                });
            });
            assert_eq!(on_demand(&state), expected);
            assert_eq!(state.next_rotation_due(), None);
        }
        edit(&mut state, name, |rotation| rotation.pending = None);
        assert_eq!(state.next_rotation_due(), Some(UnixMillis(9)));
        assert_eq!(state.digest(), state.recompute_digest());
    }
}
