//! Material that callers bring: ImportKeyMaterial, DeleteImportedKeyMaterial, and what a Tick takes
//! away when its date has come.
//!
//! A key of origin EXTERNAL has the versions in [`Key::materials`] for good: the first one that was
//! imported, and each that it was rotated to. One whose bytes were deleted or have expired stays there
//! without them, and the key is PendingImport until the same bytes are imported again. One more version
//! may wait, [`Imports::pending`], for RotateKeyOnDemand; until then it is not the key's, encrypts
//! nothing, and coming and going changes no key state.
//!
//! In a family each member's bytes, their dates and so its state are its own; the names of the
//! versions and what they are described as come with the primary's records. A version that waits on
//! the primary waits on every member, with or without bytes, until the primary deletes it; see
//! `conversation::imports`. From the record that begins a family's rotation on it is each member's for
//! good, so that no member uses what another lacks.
//!
//! Deviation: material that a family is being rotated to cannot be taken back by deleting it on the
//! primary either; the rotation ends, and the key waits for its bytes. In the real service the request
//! lapses if nothing takes its place.
//!
//! Invariant: a key of that origin is Enabled or Disabled only while all its versions are there, the
//! one that it is being rotated to too.
//!
//! Rules: AWS KMS Developer Guide, "Importing key material for AWS KMS keys"; API Reference of each
//! operation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keyrum_types::{
    ImportType, KeySpec, KeyState, MaterialId, MultiRegionRole, Origin, UnixMillis,
};
use serde::{Deserialize, Serialize};

use crate::access::Permitted;
use crate::contents::{Row, RowName};
use crate::lifecycle::TICK_KEYS_MAX;
use crate::{Event, Key, KeyRef, NewMaterial, Outcome, Refusal, State, conversation};

/// How far away the date may be at which imported material expires, in days.
/// Source: AWS KMS API Reference, ImportKeyMaterial, `ValidTo`.
pub const EXPIRY_DAYS_MAX: u32 = 365;

/// What a caller says about material to import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportTerms {
    /// Whether it is new; `None` for what fits: new if nothing was ever imported.
    pub import_type: Option<ImportType>,
    /// Which version it must be; `None` for whichever it is.
    pub named: Option<MaterialId>,
    /// When it is deleted again, by the Region's clock; `None` for never.
    pub expires: Option<UnixMillis>,
    /// At most 256 characters; `None` to keep what there is.
    pub description: Option<String>,
}

/// What is known of a key's imported material beside its bytes. A key has it from the first import
/// until it is deleted.
///
/// Stored in snapshots: the order and types of the fields are the format.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imports {
    /// Of each version.
    pub details: BTreeMap<MaterialId, ImportDetails>,
    /// The version that waits to be rotated to, or that a family is being rotated to. Without bytes
    /// where it was not imported yet into a member of a family, or was deleted there.
    pub pending: Option<NewMaterial>,
}

/// What was said about one version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportDetails {
    /// When it is deleted, by the Region's clock. `None` for never, and while it is not there.
    pub expires: Option<UnixMillis>,
    /// At most 256 characters.
    pub description: Option<String>,
}

/// When the first of a key's versions expires; `None` while none will. What waits to be rotated to
/// outlives its date.
pub(crate) fn due_date(key: &Key, imports: &Imports) -> Option<UnixMillis> {
    expiries(key, imports).map(|(_, date)| date).min()
}

fn expiries<'s>(
    key: &'s Key,
    imports: &'s Imports,
) -> impl Iterator<Item = (MaterialId, UnixMillis)> + use<'s> {
    let here = key.materials.iter().filter(|material| material.is_here());
    here.filter_map(|material| Some((material.id, imports.details.get(&material.id)?.expires?)))
}

/// Whether material may be imported into a key on these terms, whatever its bytes are. A node asks
/// before it unwraps them.
pub fn check_import(key: &Key, terms: &ImportTerms, at: UnixMillis) -> Result<(), Refusal> {
    if let Some(expires) = terms.expires {
        if expires <= at {
            return Err(Refusal::ExpiryPast { expires });
        }
        if expires > at.plus_days(EXPIRY_DAYS_MAX.into()) {
            return Err(Refusal::ExpiryTooFar {
                expires,
                days_max: EXPIRY_DAYS_MAX,
            });
        }
    }
    if terms.import_type == Some(ImportType::New) && terms.named.is_some() {
        return Err(Refusal::NewMaterialNamed);
    }
    external(key)?;
    match key.state {
        KeyState::Enabled | KeyState::Disabled | KeyState::PendingImport | KeyState::Updating => {}
        state @ (KeyState::PendingDeletion
        | KeyState::PendingReplicaDeletion
        | KeyState::Unavailable
        | KeyState::Creating) => {
            let key = key.reference();
            return Err(Refusal::WrongState { key, state });
        }
    }
    let spec = key.spec;
    let given = [
        ("importType", terms.import_type.is_some()),
        ("keyMaterialId", terms.named.is_some()),
        ("keyMaterialDescription", terms.description.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((parameter, _)) if spec != KeySpec::SymmetricDefault => {
            let parameter = (*parameter).to_owned();
            return Err(Refusal::ImportParameterNotForSpec { parameter, spec });
        }
        _ => {}
    }
    let (replica, key) = (
        key.multi_region == Some(MultiRegionRole::Replica),
        key.reference(),
    );
    if replica && terms.import_type == Some(ImportType::New) {
        return Err(Refusal::NewMaterialOnReplica { key });
    }
    if replica && terms.description.is_some() {
        return Err(Refusal::DescriptionOnReplica { key });
    }
    Ok(())
}

/// Refuses keys whose material is not imported, in any state.
fn external(key: &Key) -> Result<(), Refusal> {
    match key.origin {
        Origin::External => Ok(()),
        origin @ (Origin::AwsKms | Origin::AwsCloudhsm | Origin::ExternalKeyStore) => {
            let key = key.reference();
            Err(Refusal::OriginNotForOperation { key, origin })
        }
    }
}

/// Whether GetParametersForImport is answered for a key.
pub fn check_import_parameters(key: &Key) -> Result<(), Refusal> {
    external(key)?;
    match key.state {
        KeyState::Enabled | KeyState::Disabled | KeyState::PendingImport => Ok(()),
        state @ (KeyState::PendingDeletion
        | KeyState::PendingReplicaDeletion
        | KeyState::Unavailable
        | KeyState::Creating
        | KeyState::Updating) => {
            let key = key.reference();
            Err(Refusal::WrongState { key, state })
        }
    }
}

pub(crate) fn import(
    state: &State,
    target: &Permitted<'_>,
    material: &NewMaterial,
    terms: &ImportTerms,
    at: UnixMillis,
) -> Outcome {
    let key = target.key();
    check_import(key, terms, at)?;
    let name = key.reference();
    let id = material.id;
    let none = Imports::default();
    let imports = state.imports(name).map_or(&none, Arc::as_ref);
    let rotating = state.rotating_to(name);
    let waiting = imports.pending.as_ref().map(|pending| pending.id);
    let permanent = key.material(&id).is_some();
    let associated = permanent || waiting == Some(id);
    let first = key.materials.is_empty() && waiting.is_none();
    let usual = match first {
        true => ImportType::New,
        false => ImportType::Existing,
    };
    let pending = match terms.import_type.unwrap_or(usual) {
        ImportType::New if first && terms.named.is_none() => false,
        ImportType::New if associated => {
            return Err(Refusal::MaterialAssociated {
                key: name,
                material: id,
            });
        }
        ImportType::New if terms.named.is_none() => match waiting {
            None => true,
            Some(pending) => {
                return Err(Refusal::MaterialPendingRotation {
                    key: name,
                    pending,
                    new: id,
                });
            }
        },
        ImportType::Existing if associated && terms.named.is_none_or(|named| named == id) => {
            !permanent
        }
        ImportType::New | ImportType::Existing => {
            let current = key.current_material().map(|material| material.id);
            return Err(Refusal::OtherMaterialExpected {
                key: name,
                expected: terms.named.or(current),
            });
        }
    };
    if terms.description.is_some() || pending && !associated {
        // The primary alone may, and a move decides who that is.
        conversation::not_moving(state, key)?;
    }
    let former = imports.details.get(&id);
    let description = terms.description.clone();
    let others_here = |material: &NewMaterial| material.id == id || material.is_here();
    let rotated_to = imports.pending.as_ref().filter(|_| rotating.is_some());
    let events = vec![Event::KeyMaterialImported {
        key: name,
        material: material.clone(),
        pending,
        expires: terms.expires,
        description: description.or_else(|| former?.description.clone()),
        state: match key.state {
            KeyState::Enabled | KeyState::Disabled | KeyState::PendingImport
                if key.materials.iter().chain(rotated_to).all(others_here) =>
            {
                KeyState::Enabled
            }
            state => state,
        },
    }];
    Ok(conversation::tell_imports(state, name, events))
}

pub(crate) fn delete(
    state: &State,
    target: &Permitted<'_>,
    material: Option<MaterialId>,
) -> Outcome {
    let key = target.key();
    external(key)?;
    let name = key.reference();
    match key.state {
        KeyState::Enabled
        | KeyState::Disabled
        | KeyState::PendingImport
        | KeyState::PendingDeletion
        | KeyState::PendingReplicaDeletion => {}
        state @ (KeyState::Unavailable | KeyState::Creating | KeyState::Updating) => {
            return Err(Refusal::WrongState { key: name, state });
        }
    }
    let current = key.current_material().map(|current| current.id);
    let Some(id) = material.or(current) else {
        // Nothing was ever imported.
        return Ok(vec![]);
    };
    let pending = state.imports(name).and_then(|row| row.pending.as_ref());
    let version = key.material(&id);
    let Some(version) = version.or(pending.filter(|pending| pending.id == id)) else {
        return Err(Refusal::NoSuchMaterial {
            key: name,
            material: id,
        });
    };
    let permanent = key.material(&id).is_some() || state.rotating_to(name) == Some(id);
    if !version.is_here() && (permanent || stays(state, name, id)) {
        return Ok(vec![]);
    }
    let events = vec![Event::KeyMaterialDeleted {
        key: name,
        material: id,
        state: match permanent {
            true => without(key.state),
            false => key.state,
        },
    }];
    Ok(conversation::tell_imports(state, name, events))
}

/// Whether a version that waits stays known when its bytes are deleted: on every member but the
/// primary, and while it is rotated to.
fn stays(state: &State, key: KeyRef, pending: MaterialId) -> bool {
    let family = state.family(key);
    state.rotating_to(key) == Some(pending)
        || family.is_some_and(|family| !family.is_led_by(state.region()))
}

/// Whether every version is there, the one that the key is being rotated to too.
pub(crate) fn has_all(state: &State, key: &Key) -> bool {
    let name = key.reference();
    let imports = state.imports(name).map(Arc::as_ref);
    all_here(key, state.rotating_to(name), imports)
}

/// The same of what a key is about to be.
pub(crate) fn all_here(
    key: &Key,
    rotating_to: Option<MaterialId>,
    imports: Option<&Imports>,
) -> bool {
    let pending = || imports?.pending.as_ref();
    key.has_all_material()
        && (key.origin != Origin::External
            || rotating_to.is_none()
            || pending().is_some_and(NewMaterial::is_here))
}

/// The state of a key that loses one of its versions.
pub(crate) fn without(state: KeyState) -> KeyState {
    match state {
        KeyState::Enabled | KeyState::Disabled | KeyState::PendingImport => KeyState::PendingImport,
        // What is told while it lasts; the key comes back from it as PendingImport.
        KeyState::PendingDeletion
        | KeyState::PendingReplicaDeletion
        | KeyState::Unavailable
        | KeyState::Creating
        | KeyState::Updating => state,
    }
}

/// What follows a rotation to imported material at once: it may have expired while it waited.
pub(crate) fn expired_waiting(
    state: &State,
    key: &Key,
    material: MaterialId,
    at: UnixMillis,
) -> Option<Event> {
    let imports = state.imports(key.reference())?;
    let expires = imports.details.get(&material)?.expires?;
    (expires <= at).then_some(Event::KeyMaterialExpired {
        key: key.reference(),
        material,
        state: without(key.state),
    })
}

/// What expires in a Tick, of a bounded number of keys; `deleted` are gone in the same one.
pub(crate) fn expire(state: &State, at: UnixMillis, deleted: &BTreeSet<KeyRef>) -> Vec<Event> {
    let due = state.expiring_by(at).take(TICK_KEYS_MAX);
    let due = due.filter(|key| !deleted.contains(key));
    let events = due.filter_map(|name| {
        let (key, imports) = (state.key(name)?, state.imports(name)?);
        let past = expiries(key, imports).filter(move |(_, date)| *date <= at);
        Some(past.map(move |(material, _)| Event::KeyMaterialExpired {
            key: name,
            material,
            state: without(key.state),
        }))
    });
    events.flatten().collect()
}

pub(crate) fn evolve(state: &mut State, event: &Event) {
    match event {
        Event::KeyMaterialImported {
            key,
            material,
            pending,
            expires,
            description,
            state: shown,
        } => {
            edit(state, *key, |imports| {
                if *pending {
                    imports.pending = Some(material.clone());
                }
                let details = ImportDetails {
                    expires: *expires,
                    description: description.clone(),
                };
                imports.details.insert(material.id, details);
            });
            state.edit_key(*key, |key| {
                key.state = *shown;
                if *pending {
                    return;
                }
                let mut versions = key.materials.iter_mut();
                match versions.find(|version| version.id == material.id) {
                    Some(version) => *version = material.clone(),
                    None => key.materials.push(material.clone()),
                }
            });
        }
        Event::KeyMaterialDeleted {
            key,
            material,
            state: shown,
        }
        | Event::KeyMaterialExpired {
            key,
            material,
            state: shown,
        } => {
            let stays = stays(state, *key, *material);
            edit(state, *key, |imports| {
                if let Some(details) = imports.details.get_mut(material) {
                    details.expires = None;
                }
                match &mut imports.pending {
                    Some(pending) if pending.id == *material && stays => {
                        *pending = NewMaterial::gone(*material);
                    }
                    Some(pending) if pending.id == *material => {
                        imports.pending = None;
                        imports.details.remove(material);
                    }
                    _ => {}
                }
            });
            state.edit_key(*key, |key| {
                key.state = *shown;
                let mut versions = key.materials.iter_mut();
                if let Some(version) = versions.find(|version| version.id == *material) {
                    *version = NewMaterial::gone(*material);
                }
            });
        }
        Event::ImportsShared {
            key,
            imports,
            awaited,
        } => {
            edit(state, *key, |present| present.clone_from(imports));
            match awaited {
                Some(awaited) => state.put(Row::Awaited {
                    key: *key,
                    awaited: Arc::new(awaited.clone()),
                }),
                None => state.remove(RowName::Awaited(*key)),
            }
        }
        other => unreachable!("not an event of imported material: {other:?}"),
    }
}

/// The version that waited is the key's now: it is given back as it was kept.
pub(crate) fn rotated_to(
    state: &mut State,
    key: KeyRef,
    material: MaterialId,
) -> Option<NewMaterial> {
    let pending = state.imports(key)?.pending.as_ref();
    let pending = pending.filter(|pending| pending.id == material)?.clone();
    edit(state, key, |imports| imports.pending = None);
    state.remove(RowName::Awaited(key));
    Some(pending)
}

fn edit(state: &mut State, key: KeyRef, edit: impl FnOnce(&mut Imports)) {
    let present = state.imports(key);
    let mut imports = present.map(|row| Imports::clone(row)).unwrap_or_default();
    edit(&mut imports);
    state.put(Row::Imports {
        key,
        imports: Arc::new(imports),
    });
}
