//! What the events of a family do to the state.

use std::sync::Arc;

use keyrum_types::{MultiRegionRole, Region};

use crate::channel::send;
use crate::contents::{Row, RowName};
use crate::family::{Family, Subject};
use crate::rotation::Rotation;
use crate::{Event, KeyRef, State};

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
