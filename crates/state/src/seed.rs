//! Keys as fixtures describe them: SeedKey.
//!
//! What it leads to is told in the events that lead there otherwise: a key is made, material is
//! imported, versions follow each other as if by automatic rotation.

use keyrum_types::{
    KeySpec, KeyState, KeyUsage, MultiRegionRole, Origin, RotationKind, UnixMillis,
};

use crate::lifecycle::KEYS_PER_ACCOUNT_MAX;
use crate::{
    AutomaticRotation, Event, Key, KeyRef, NewMaterial, Outcome, Refusal, State, StoredPolicy,
    policy, tag,
};

/// A SeedKey command's parts.
pub(crate) struct Seed<'c> {
    pub(crate) key: KeyRef,
    pub(crate) spec: KeySpec,
    pub(crate) usage: KeyUsage,
    pub(crate) origin: Origin,
    pub(crate) description: &'c str,
    pub(crate) policy: Option<&'c str>,
    pub(crate) tags: &'c [(String, String)],
    pub(crate) materials: &'c [NewMaterial],
    pub(crate) rotation: Option<AutomaticRotation>,
}

pub(crate) fn create(state: &State, seed: &Seed<'_>, at: UnixMillis) -> Outcome {
    let (key, spec, origin) = (seed.key, seed.spec, seed.origin);
    if state.key(key).is_some() {
        return Err(Refusal::KeyExists { key });
    }
    if let Some(text) = seed.policy {
        policy::check_form(state, key, text)?;
    }
    let tags = tag::checked(seed.tags)?;
    tag::check_count(tags.len())?;
    if state.key_count(key.account) >= KEYS_PER_ACCOUNT_MAX {
        return Err(Refusal::TooManyKeys {
            limit: KEYS_PER_ACCOUNT_MAX,
        });
    }
    let rotates = seed.materials.len() > 1 || seed.rotation.is_some();
    if rotates && spec != KeySpec::SymmetricDefault {
        return Err(Refusal::SpecNotForOperation { key, spec });
    }
    let external = origin == Origin::External;
    let in_store = matches!(origin, Origin::AwsCloudhsm | Origin::ExternalKeyStore);
    // A rotation to imported material needs its import first.
    if (rotates && external) || in_store || (!external && seed.materials.is_empty()) {
        return Err(Refusal::OriginNotForOperation { key, origin });
    }
    let mut materials = seed.materials.iter();
    let first = materials.next();
    let mut events = vec![Event::KeyCreated {
        key: Key {
            account: key.account,
            id: key.id,
            spec,
            usage: seed.usage,
            origin,
            state: match external {
                true => KeyState::PendingImport,
                false => KeyState::Enabled,
            },
            multi_region: key.id.is_multi_region().then_some(MultiRegionRole::Primary),
            created: at,
            deletion: None,
            description: seed.description.into(),
            policy: seed.policy.map(StoredPolicy::from),
            tags,
            materials: first.filter(|_| !external).cloned().into_iter().collect(),
        },
    }];
    events.extend(
        first
            .filter(|_| external)
            .map(|material| Event::KeyMaterialImported {
                key,
                material: material.clone(),
                pending: false,
                expires: None,
                description: None,
                state: KeyState::Enabled,
            }),
    );
    events.extend(seed.materials.windows(2).map(|pair| Event::KeyRotated {
        key,
        origin,
        previous: pair[0].id,
        material: pair[1].clone(),
        at,
        kind: RotationKind::Automatic,
        next: None,
    }));
    let enabled = |set: AutomaticRotation| Event::KeyRotationEnabled {
        key,
        period: set.period,
        next: set.next,
    };
    events.extend(seed.rotation.map(enabled));
    Ok(events)
}
