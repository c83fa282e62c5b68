//! Families of multi-Region keys: at every instant at most one primary and no usable member without
//! material that another uses; at rest, all members agree.
//!
//! What is looked at is a cut: of each Region the furthest state that any of its nodes ever showed,
//! all at one instant. A message is sent only once the entry that sends it is applied somewhere, so
//! no cut has heard what it has not sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use keyrum_state::{Key, KeyRef, State, Transit};
use keyrum_types::{AccountId, KeyId, KeyState, MultiRegionRole, Region};

use super::Finding;

const CHECK: &str = "families";

/// Every member of an account's families, by key.
pub type Members<'s> = BTreeMap<KeyId, Vec<(&'s State, &'s Arc<Key>)>>;

/// Finds the members in a cut.
pub fn members<'s>(cut: impl IntoIterator<Item = &'s State>, account: AccountId) -> Members<'s> {
    // Ids of multi-Region keys follow all others.
    let before = KeyId::single_region([0xff; 16]);
    let mut members = Members::new();
    for state in cut {
        for key in state.keys(account, Some(before)) {
            members.entry(key.id).or_default().push((state, key));
        }
    }
    members
}

fn find(what: impl fmt::Display) -> Result<(), Finding> {
    Err(Finding::new(CHECK, what))
}

fn usable(key: &Key) -> bool {
    matches!(key.state, KeyState::Enabled | KeyState::Updating)
}

fn primaries<'s>(members: &[(&'s State, &Arc<Key>)]) -> Vec<&'s Region> {
    let primary = |key: &Key| key.multi_region == Some(MultiRegionRole::Primary);
    let primaries = members.iter().filter(|(_, key)| primary(key));
    primaries.map(|(state, _)| state.region()).collect()
}

/// Judges one cut.
pub fn at_an_instant(members: &Members<'_>) -> Result<(), Finding> {
    for (id, members) in members {
        let primaries = primaries(members);
        if primaries.len() > 1 {
            return find(format_args!(
                "{id} has more than one primary: {primaries:?}"
            ));
        }
        let using = || members.iter().filter(|(_, key)| usable(key));
        for (one, key) in using() {
            for (other, theirs) in using() {
                let rotation = other.rotation(theirs.reference());
                let pending = rotation.and_then(|rotation| rotation.pending.as_ref());
                let has = |material: &&keyrum_state::NewMaterial| {
                    theirs.material(&material.id).is_some()
                        || pending.is_some_and(|pending| pending.material.id == material.id)
                };
                if let Some(missing) = key.materials.iter().find(|material| !has(material)) {
                    return find(format_args!(
                        "{id} in {} uses material {}, which the usable member in {} lacks",
                        one.region(),
                        missing.id,
                        other.region(),
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Judges a cut at which no message is on its way and nobody calls.
pub fn at_rest(members: &Members<'_>) -> Result<(), Finding> {
    for (id, members) in members {
        for (state, key) in members {
            let region = state.region();
            if matches!(key.state, KeyState::Creating | KeyState::Updating) {
                return find(format_args!("{id} is still {} in {region}", key.state));
            }
            let family = state.family(key.reference());
            if let Some(family) = family
                && family.transit != Transit::Settled
            {
                let transit = &family.transit;
                return find(format_args!("{id} is on the move in {region}: {transit:?}"));
            }
        }
        let primaries = primaries(members);
        if primaries.len() != 1 {
            return find(format_args!(
                "{id} has {} primaries: {primaries:?}",
                primaries.len()
            ));
        }
        agree(*id, members)?;
    }
    Ok(())
}

/// Whether a family's members tell the same of everything that is shared.
fn agree(id: KeyId, members: &[(&State, &Arc<Key>)]) -> Result<(), Finding> {
    let mut first: Option<(&Region, Shared)> = None;
    let here: BTreeSet<&Region> = members.iter().map(|(state, _)| state.region()).collect();
    for (state, key) in members {
        let region = state.region();
        let shared = Shared::of(state, key);
        if shared.pending {
            return find(format_args!(
                "{id} still has a rotation pending in {region}"
            ));
        }
        let listed: BTreeSet<&Region> = shared.roster.keys().collect();
        // A primary that never had a replica keeps no roster.
        if !(listed == here || listed.is_empty() && here.len() == 1) {
            return find(format_args!(
                "{id} has members in {here:?}; {region} knows of {listed:?}"
            ));
        }
        match &first {
            None => first = Some((region, shared)),
            Some((_, same)) if *same == shared => {}
            Some((other, different)) => {
                return find(format_args!(
                    "{id} is {different:?} in {other}, and {shared:?} in {region}"
                ));
            }
        }
    }
    Ok(())
}

/// What a family shares, as one member knows it.
#[derive(Debug, PartialEq)]
struct Shared {
    primary: Option<Region>,
    roster: BTreeMap<Region, keyrum_state::Stamp>,
    materials: Vec<keyrum_types::MaterialId>,
    automatic: Option<keyrum_state::AutomaticRotation>,
    on_demand_count: u8,
    rotations: Vec<keyrum_state::CompletedRotation>,
    pending: bool,
}

impl Shared {
    fn of(state: &State, key: &Key) -> Self {
        let name: KeyRef = key.reference();
        let family = state.family(name);
        let rotation = state.rotation(name).map(|row| (**row).clone());
        let rotation = rotation.unwrap_or_default();
        let entries = family.into_iter().flat_map(|family| family.roster.iter());
        Self {
            primary: family.map(|family| family.primary.clone()),
            roster: entries
                .map(|(region, entry)| (region.clone(), entry.incarnation))
                .collect(),
            materials: key.materials.iter().map(|material| material.id).collect(),
            automatic: rotation.automatic,
            on_demand_count: rotation.on_demand_count,
            rotations: rotation.rotations,
            pending: rotation.pending.is_some(),
        }
    }
}
