//! A key from creation to deletion: CreateKey, EnableKey, DisableKey, ScheduleKeyDeletion,
//! CancelKeyDeletion, and the Tick that deletes what is due and lets imported material expire.
//!
//! Invariants: a key has a [`Deletion`] exactly while it is PendingDeletion; a deleted key takes
//! its aliases, its rotation, its imports and its last use with it; an account never has more than
//! [`KEYS_PER_ACCOUNT_MAX`] keys.
//!
//! Which state allows what: AWS KMS Developer Guide, "Key states of AWS KMS keys".

use std::collections::BTreeSet;
use std::sync::Arc;

use keyrum_types::{
    AliasName, KeyId, KeySpec, KeyState, KeyUsage, MultiRegionRole, Origin, UnixMillis,
    WaitingDays, key_arn,
};

use crate::access::{Call, Permitted};
use crate::contents::{Row, RowName};
use crate::{
    Deletion, Event, Key, KeyRef, NewMaterial, Outcome, Refusal, State, StoredPolicy, conversation,
    grant, import, policy, tag,
};

/// How many keys an account may have in a Region; every state counts.
/// Source: AWS KMS Developer Guide, "Resource quotas".
pub const KEYS_PER_ACCOUNT_MAX: u32 = 100_000;

/// How many keys one Tick deletes at most, and of how many it takes away material. What is left is due for the next one.
pub const TICK_KEYS_MAX: usize = 256;

/// How many aliases go with the keys of one Tick at most, the first key's not counted: it bounds
/// the size of the outcome. A key has at most 50.
pub const TICK_ALIASES_MAX: usize = 1024;

/// How many grants go with the keys of one Tick at most, the first key's not counted: it bounds how
/// long applying one takes. A key has at most [`GRANTS_PER_KEY_MAX`](crate::GRANTS_PER_KEY_MAX).
pub const TICK_GRANTS_MAX: usize = 8192;

/// A CreateKey command's parts.
pub(crate) struct NewKey<'c> {
    pub(crate) id: KeyId,
    pub(crate) spec: KeySpec,
    pub(crate) usage: KeyUsage,
    pub(crate) origin: Origin,
    pub(crate) description: &'c str,
    pub(crate) policy: Option<&'c str>,
    pub(crate) bypass_lockout_check: bool,
    pub(crate) tags: &'c [(String, String)],
    pub(crate) material: Option<&'c NewMaterial>,
}

pub(crate) fn create(call: Call<'_>, new: NewKey<'_>) -> Outcome {
    let _permit = call.account()?;
    let account = call.caller.account;
    let key = KeyRef {
        account,
        id: new.id,
    };
    if !new.tags.is_empty() {
        let arn = key_arn(call.state.region(), account, new.id);
        let _permit = call.including("TagResource", &arn)?;
    }
    // Ids are random, so this is a second command for the same key rather than chance.
    if call.state.key(key).is_some() {
        return Err(Refusal::KeyExists { key });
    }
    if let Some(text) = new.policy {
        policy::check(&call, key, text, new.bypass_lockout_check)?;
    }
    let tags = tag::checked(new.tags)?;
    tag::check_count(tags.len())?;
    if call.state.key_count(account) >= KEYS_PER_ACCOUNT_MAX {
        return Err(Refusal::TooManyKeys {
            limit: KEYS_PER_ACCOUNT_MAX,
        });
    }
    Ok(vec![Event::KeyCreated {
        key: Key {
            account,
            id: new.id,
            spec: new.spec,
            usage: new.usage,
            origin: new.origin,
            state: match new.material {
                Some(_) => KeyState::Enabled,
                None => KeyState::PendingImport,
            },
            multi_region: new.id.is_multi_region().then_some(MultiRegionRole::Primary),
            created: call.at,
            deletion: None,
            description: new.description.into(),
            policy: new.policy.map(StoredPolicy::from),
            tags,
            materials: new.material.cloned().into_iter().collect(),
        },
    }])
}

pub(crate) fn enable(target: &Permitted<'_>) -> Outcome {
    let key = target.reference();
    match target.key().state {
        // A custom key store's key shows Unavailable whatever is asked of it; there are no such
        // keys yet, so there is nothing to remember.
        KeyState::Enabled | KeyState::Unavailable => Ok(vec![]),
        KeyState::Disabled => Ok(vec![Event::KeyEnabled { key }]),
        state @ (KeyState::PendingDeletion
        | KeyState::PendingReplicaDeletion
        | KeyState::PendingImport
        | KeyState::Creating
        | KeyState::Updating) => Err(Refusal::WrongState { key, state }),
    }
}

pub(crate) fn disable(target: &Permitted<'_>) -> Outcome {
    let key = target.reference();
    match target.key().state {
        KeyState::Disabled | KeyState::Unavailable => Ok(vec![]),
        KeyState::Enabled => Ok(vec![Event::KeyDisabled { key }]),
        state @ (KeyState::PendingDeletion
        | KeyState::PendingReplicaDeletion
        | KeyState::PendingImport
        | KeyState::Creating
        | KeyState::Updating) => Err(Refusal::WrongState { key, state }),
    }
}

pub(crate) fn schedule_deletion(
    state: &State,
    target: &Permitted<'_>,
    wait: WaitingDays,
    at: UnixMillis,
) -> Outcome {
    let key = target.reference();
    match target.key().state {
        KeyState::Enabled
        | KeyState::Disabled
        | KeyState::PendingImport
        | KeyState::Unavailable
        | KeyState::Creating => Ok(vec![
            conversation::schedule_after_replicas(state, target, wait.days()).unwrap_or(
                Event::KeyDeletionScheduled {
                    key,
                    due: at.plus_days(wait.days().into()),
                    wait_days: wait.days(),
                },
            ),
        ]),
        state @ (KeyState::PendingDeletion
        | KeyState::PendingReplicaDeletion
        | KeyState::Updating) => Err(Refusal::WrongState { key, state }),
    }
}

pub(crate) fn cancel_deletion(state: &State, target: &Permitted<'_>) -> Outcome {
    let key = target.reference();
    match target.key().state {
        KeyState::PendingDeletion | KeyState::PendingReplicaDeletion => {
            let state = match import::has_all(state, target.key()) {
                true => KeyState::Disabled,
                false => KeyState::PendingImport,
            };
            Ok(vec![Event::KeyDeletionCanceled { key, state }])
        }
        KeyState::Enabled
        | KeyState::Disabled
        | KeyState::PendingImport
        | KeyState::Unavailable
        | KeyState::Creating
        | KeyState::Updating => Err(Refusal::NotPendingDeletion { key }),
    }
}

/// Refuses a key that waits to be deleted; the rule of everything that changes a key's names,
/// tags or description.
pub(crate) fn not_pending_deletion(key: &Key) -> Result<(), Refusal> {
    match key.state {
        state @ (KeyState::PendingDeletion | KeyState::PendingReplicaDeletion) => {
            Err(Refusal::WrongState {
                key: key.reference(),
                state,
            })
        }
        KeyState::Enabled
        | KeyState::Disabled
        | KeyState::PendingImport
        | KeyState::Unavailable
        | KeyState::Creating
        | KeyState::Updating => Ok(()),
    }
}

pub(crate) fn tick(state: &State, at: UnixMillis) -> Outcome {
    let mut events = Vec::new();
    let mut deleted = BTreeSet::new();
    let (mut aliases_deleted, mut grants_deleted) = (0, 0);
    for key in state.due_by(at).take(TICK_KEYS_MAX) {
        let aliases: Vec<AliasName> = state
            .aliases_of(key, None)
            .map(|(name, _)| name.clone())
            .collect();
        aliases_deleted += aliases.len();
        grants_deleted += state.grant_count(key) as usize;
        let much = aliases_deleted > TICK_ALIASES_MAX || grants_deleted > TICK_GRANTS_MAX;
        if much && !deleted.is_empty() {
            break;
        }
        events.extend(conversation::last_words(state, key));
        events.push(Event::KeyDeleted { key, aliases });
        deleted.insert(key);
    }
    events.extend(import::expire(state, at, &deleted));
    Ok(events)
}

pub(crate) fn evolve(state: &mut State, event: &Event) {
    match event {
        Event::KeyCreated { key } => state.put(Row::Key(Arc::new(key.clone()))),
        Event::KeyEnabled { key } => state.edit_key(*key, |key| key.state = KeyState::Enabled),
        Event::KeyDisabled { key } => state.edit_key(*key, |key| key.state = KeyState::Disabled),
        Event::KeyDeletionScheduled {
            key,
            due,
            wait_days,
        } => state.edit_key(*key, |key| {
            key.state = KeyState::PendingDeletion;
            key.deletion = Some(Deletion {
                due: *due,
                wait_days: *wait_days,
            });
        }),
        Event::KeyDeletionCanceled { key, state: back } => {
            state.edit_key(*key, |key| {
                key.state = *back;
                key.deletion = None;
            });
            conversation::deletion_canceled(state, *key);
        }
        Event::KeyDeleted { key, aliases } => {
            for alias in aliases {
                state.remove(RowName::Alias(key.account, alias));
            }
            state.remove(RowName::Rotation(*key));
            state.remove(RowName::LastUse(*key));
            state.remove(RowName::Imports(*key));
            state.remove(RowName::Awaited(*key));
            grant::bury(state, *key);
            conversation::bury(state, *key);
            state.remove(RowName::Key(*key));
        }
        other => unreachable!("not an event of a key's life: {other:?}"),
    }
}
