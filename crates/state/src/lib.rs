//! The replicated state machine of one Region: [`decide`] says what a command does, or why it is
//! refused; [`apply`] also does it.
//!
//! The same state and the same log give the same state and the same outcomes on every node and
//! on every replay. This crate knows keys, but no clock, randomness, disk, socket or thread, and
//! nothing in it depends on the order of a hash map: whatever the outside world contributes
//! arrives inside the [`Proposal`].
//!
//! A family of operations has one module: its decisions and its effects stand together. This
//! file only routes.
//!
//! What a reader of outcomes may rely on:
//! - A refused command changed nothing but the Region's clock and the memory of requests.
//! - An event says that something changed. A command that found everything as it wants it has no
//!   events.
//! - Released variants of [`Command`], [`Event`] and [`Refusal`], and the format in [`codec`],
//!   keep their meaning for good. Rules that change follow [`State::feature_level`].

mod access;
mod alias;
mod channel;
mod clock;
pub mod codec;
mod command;
mod contents;
mod conversation;
mod dedup;
mod digest;
mod domain_key;
mod event;
mod facts;
mod family;
mod feature;
mod grant;
mod grantees;
mod identity;
mod import;
mod key;
mod last_use;
mod lifecycle;
mod managed;
mod metadata;
mod policy;
mod refusal;
mod rotation;
mod sealing;
mod seed;
mod stored_policy;
mod tag;

use keyrum_types::UnixMillis;
use serde::{Deserialize, Serialize};

pub use access::{Permitted, not_visible, permit_account, permit_key};
pub use alias::ALIASES_PER_KEY_MAX;
pub use channel::Channel;
pub use clock::CLOCK_JUMP_MAX_MS;
pub use command::{
    AuditDetails, Caller, CallerDetails, Command, DueRotation, KeyRef, NewMaterial, Proposal,
    RequestId,
};
pub use contents::{FEATURE_LEVEL_SUPPORTED, State};
pub use dedup::{ANSWERS_PER_NODE_BYTES_MAX, NODES_MAX, REQUESTS_PER_NODE_MAX, WINDOWS_MAX};
pub use digest::Digest;
pub use domain_key::{
    DOMAIN_KEY_LEVEL, DOMAIN_KEY_TOKENS_MS, DomainKeyConfirmation, DomainKeyStage,
    DomainKeyVersion, FIRST_DOMAIN_KEY_VERSION, RESEALED_MAX, Resealed,
};
pub use event::{Event, FamilyChange};
pub use facts::{Facts, NoFacts, of_context};
pub use family::{
    Awaited, Entry, Family, FamilyRecord, Initial, Message, SharedImports, SharedRotation, Stamp,
    Transit,
};
pub use feature::AUTHORIZATION_LEVEL;
pub use grant::{
    GRANTS_PER_KEY_MAX, Grant, GrantConstraints, GrantPrincipal, GrantTerms, grant_operations_for,
};
pub use identity::{
    ACCESS_KEYS_MAX, ACCOUNTS_MAX, AccessKey, AccessKeyOwner, Account, BOUNDARY_CHARS_MAX,
    DELETED_IDENTITIES_MAX, Identity, IdentityBook, IdentityName, IdentityNews, IdentityRecord,
    POLICIES_CHARS_MAX, ROLES_PER_ACCOUNT_MAX, ResolvedCaller, Role, SESSION_KEYS_MAX,
    SESSION_SECONDS_MAX, SESSION_SECONDS_MIN, SessionKey, TRUST_CHARS_MAX, USERS_PER_ACCOUNT_MAX,
    User, access_key_secret_name, session_key_secret_name,
};
pub use import::{
    EXPIRY_DAYS_MAX, ImportDetails, ImportTerms, Imports, check_import, check_import_parameters,
};
pub use key::{Alias, Deletion, Key};
pub use last_use::{KEY_USES_MAX, KeyUse, LastUse};
pub use lifecycle::{KEYS_PER_ACCOUNT_MAX, TICK_ALIASES_MAX, TICK_GRANTS_MAX, TICK_KEYS_MAX};
pub use policy::{POLICY_BYTES_MAX, POLICY_NAME};
pub use refusal::Refusal;
pub use rotation::{
    AutomaticRotation, CompletedRotation, ON_DEMAND_ROTATIONS_MAX, PendingRotation,
    ROTATE_KEYS_MAX, Rotation,
};
pub use sealing::{Place, SealedAs, Secrets};
pub use stored_policy::StoredPolicy;
pub use tag::TAGS_PER_KEY_MAX;

use access::{Call, region_only, required};

/// What a command led to: what it did, or why nothing.
pub type Outcome = Result<Vec<Event>, Refusal>;

/// What applying a proposal led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Of this proposal or, if `repeated`, of the first one with its request id.
    pub outcome: Outcome,
    /// Whether the request id had been seen before, so that nothing was applied now.
    pub repeated: bool,
}

/// Applies one committed proposal, at most once for its request id.
///
/// A request id seen before gives the outcome it had then. One that is older than the state
/// remembers gives [`Refusal::OutcomeUnknown`]. [`Refusal::ClockUnconfirmed`] is not remembered
/// and changes nothing at all: the proposer has the clock confirmed and proposes the same request
/// id again.
pub fn apply(state: &mut State, proposal: &Proposal) -> Applied {
    if let Some(outcome) = dedup::recall(state, proposal.request) {
        return Applied {
            outcome,
            repeated: true,
        };
    }
    let outcome = clock::admit(state, proposal).and_then(|()| {
        // Refused or not. No decision looks at what the clock was before.
        clock::pass(state, proposal);
        carry_out(state, proposal)
    });
    if !matches!(outcome, Err(Refusal::ClockUnconfirmed { .. })) {
        dedup::remember(state, proposal.request, &outcome);
    }
    Applied {
        outcome,
        repeated: false,
    }
}

/// Decides and, unless it is refused, does it.
fn carry_out(state: &mut State, proposal: &Proposal) -> Outcome {
    let (caller, now) = (proposal.caller.as_ref(), proposal.now);
    // Each message is judged on what the one before it left, so it is done as it is decided.
    if let Command::Deliver {
        from,
        after,
        messages,
    } = &proposal.command
    {
        region_only(caller, proposal.command.name())?;
        domain_key::admit(state, &proposal.command)?;
        let at = state.region_time(now);
        return channel::deliver(state, from, *after, messages, at);
    }
    let events = decide(state, caller, now, &proposal.command)?;
    events.iter().for_each(|event| evolve(state, event));
    Ok(events)
}

/// Decides on a command without applying it. Reads, never writes.
///
/// `now` is the proposer's own clock. Whether the group takes that clock is asked by [`apply`]
/// and not here, so that a node may decide early on a state that is a little behind.
pub fn decide(
    state: &State,
    caller: Option<&Caller>,
    now: UnixMillis,
    command: &Command,
) -> Outcome {
    let at = state.region_time(now);
    let action = command.name();
    domain_key::admit(state, command)?;
    let call = || {
        Ok(Call {
            state,
            caller: required(caller, action)?,
            command,
            at,
        })
    };
    match command {
        Command::CreateKey {
            key,
            spec,
            usage,
            origin,
            description,
            policy,
            bypass_lockout_check,
            tags,
            material,
        } => lifecycle::create(
            call()?,
            lifecycle::NewKey {
                id: *key,
                spec: *spec,
                usage: *usage,
                origin: *origin,
                description,
                policy: policy.as_deref(),
                bypass_lockout_check: *bypass_lockout_check,
                tags,
                material: material.as_ref(),
            },
        ),
        Command::EnableKey { key } => lifecycle::enable(&call()?.key(*key)?),
        Command::DisableKey { key } => lifecycle::disable(&call()?.key(*key)?),
        Command::ScheduleKeyDeletion { key, wait } => {
            lifecycle::schedule_deletion(state, &call()?.key(*key)?, *wait, at)
        }
        Command::CancelKeyDeletion { key } => {
            lifecycle::cancel_deletion(state, &call()?.key(*key)?)
        }
        Command::UpdateKeyDescription { key, description } => {
            metadata::update_description(&call()?.key(*key)?, description)
        }
        Command::CreateAlias { alias, target } => alias::create(call()?, alias, *target),
        Command::UpdateAlias { alias, target } => alias::update(call()?, alias, *target),
        Command::DeleteAlias { alias } => alias::delete(call()?, alias),
        Command::TagResource { key, tags } => tag::tag(&call()?.key(*key)?, tags),
        Command::UntagResource { key, tag_keys } => tag::untag(&call()?.key(*key)?, tag_keys),
        Command::PutKeyPolicy {
            key,
            policy,
            bypass_lockout_check,
        } => policy::put(call()?, *key, policy, *bypass_lockout_check),
        Command::Tick => {
            region_only(caller, action)?;
            lifecycle::tick(state, at)
        }
        Command::AdvanceClock { by_ms } => {
            region_only(caller, action)?;
            clock::advance(*by_ms)
        }
        Command::ConfirmClock { clocks, voters } => {
            region_only(caller, action)?;
            clock::confirm(state, now, clocks, *voters)
        }
        Command::RaiseFeatureLevel { level } => {
            region_only(caller, action)?;
            feature::raise(state, *level)
        }
        Command::EnableKeyRotation { key, period } => {
            rotation::enable(state, &call()?.key(*key)?, *period, at)
        }
        Command::DisableKeyRotation { key } => rotation::disable(state, &call()?.key(*key)?),
        Command::RotateKeyOnDemand { key, material } => {
            rotation::rotate_on_demand(state, &call()?.key(*key)?, material, at)
        }
        Command::RotateKeys { rotations } => {
            region_only(caller, action)?;
            rotation::rotate_due(state, rotations, at)
        }
        Command::ReplicateKey {
            key,
            region,
            description,
            policy,
            bypass_lockout_check,
            tags,
        } => {
            let new = conversation::NewReplica {
                region,
                description,
                policy: policy.as_deref(),
                bypass_lockout_check: *bypass_lockout_check,
                tags,
            };
            conversation::replicate(&call()?, *key, &new)
        }
        Command::UpdatePrimaryRegion { key, to } => conversation::request_move(&call()?, *key, to),
        Command::Deliver {
            from,
            after,
            messages,
        } => {
            region_only(caller, action)?;
            channel::deliver(&mut state.clone(), from, *after, messages, at)
        }
        Command::Delivered { to, through } => {
            region_only(caller, action)?;
            channel::delivered(state, to, *through)
        }
        Command::RecordKeyUses { uses } => {
            region_only(caller, action)?;
            last_use::record(state, uses)
        }
        Command::ImportKeyMaterial {
            key,
            material,
            terms,
        } => import::import(state, &call()?.key(*key)?, material, terms, at),
        Command::DeleteImportedKeyMaterial { key, material } => {
            import::delete(state, &call()?.key(*key)?, *material)
        }
        Command::CreateManagedKey {
            alias,
            key,
            description,
            policy,
            material,
        } => {
            let new = managed::NewManagedKey {
                alias,
                id: *key,
                description,
                policy,
                material,
            };
            managed::create(call()?, new)
        }
        Command::SeedKey {
            key,
            spec,
            usage,
            origin,
            description,
            policy,
            tags,
            materials,
            rotation,
        } => {
            region_only(caller, action)?;
            let seed = seed::Seed {
                key: *key,
                spec: *spec,
                usage: *usage,
                origin: *origin,
                description,
                policy: policy.as_deref(),
                tags,
                materials,
                rotation: *rotation,
            };
            seed::create(state, &seed, at)
        }
        Command::CreateGrant { key, grant, terms } => grant::create(&call()?, *key, *grant, terms),
        Command::RetireGrant { key, grant } => grant::retire(&call()?, *key, *grant),
        Command::RevokeGrant { key, grant } => grant::revoke(state, &call()?.key(*key)?, *grant),
        Command::PutIdentity { identity, expected } => {
            region_only(caller, action)?;
            identity::put(state, identity, *expected, at)
        }
        Command::DeleteIdentity { name, expected } => {
            region_only(caller, action)?;
            identity::delete(state, name, *expected)
        }
        Command::ShareIdentities { with } => {
            region_only(caller, action)?;
            identity::share(state, with)
        }
        Command::AnnounceDomainKey {
            version,
            fingerprint,
            first,
        } => {
            region_only(caller, action)?;
            domain_key::announce(state, *version, *fingerprint, *first)
        }
        Command::ConfirmDomainKey {
            version,
            fingerprint,
            node,
            what,
        } => {
            region_only(caller, action)?;
            domain_key::confirm(state, *version, *fingerprint, *node, *what)
        }
        Command::ActivateDomainKey { version, members } => {
            region_only(caller, action)?;
            domain_key::activate(state, *version, members, at)
        }
        Command::AbandonDomainKey { version } => {
            region_only(caller, action)?;
            domain_key::abandon(state, *version)
        }
        Command::ResealSecrets { resealed } => {
            region_only(caller, action)?;
            domain_key::reseal(state, resealed)
        }
        Command::WithdrawDomainKey { version } => {
            region_only(caller, action)?;
            domain_key::withdraw(state, *version, at)
        }
        Command::DestroyDomainKey { version, members } => {
            region_only(caller, action)?;
            domain_key::destroy(state, *version, members)
        }
    }
}

/// Does what an event says. Writes, never refuses.
fn evolve(state: &mut State, event: &Event) {
    match event {
        Event::KeyCreated { .. }
        | Event::KeyEnabled { .. }
        | Event::KeyDisabled { .. }
        | Event::KeyDeletionScheduled { .. }
        | Event::KeyDeletionCanceled { .. }
        | Event::KeyDeleted { .. } => lifecycle::evolve(state, event),
        Event::KeyDescriptionUpdated { key, description } => {
            metadata::description_updated(state, *key, description);
        }
        Event::AliasCreated { .. } | Event::AliasUpdated { .. } | Event::AliasDeleted { .. } => {
            alias::evolve(state, event);
        }
        Event::KeyTagged { key, tags } => tag::tagged(state, *key, tags),
        Event::KeyUntagged { key, tag_keys } => tag::untagged(state, *key, tag_keys),
        Event::KeyPolicyPut { key, policy } => policy::policy_put(state, *key, policy),
        Event::ClockAdvanced { by_ms } => clock::advanced(state, *by_ms),
        Event::ClockConfirmed { now } => clock::confirmed(state, *now),
        Event::FeatureLevelRaised { level } => feature::raised(state, *level),
        Event::KeyRotationEnabled { .. }
        | Event::KeyRotationDisabled { .. }
        | Event::KeyRotated { .. }
        | Event::KeyRotationStarted { .. } => rotation::evolve(state, event),
        Event::KeyReplicated { .. } | Event::FamilyChanged { .. } | Event::MessagesSent { .. } => {
            conversation::evolve_family(state, event);
        }
        Event::MessageTaken { .. } | Event::MessagesDelivered { .. } => {
            channel::evolve_channel(state, event);
        }
        Event::KeyUsesRecorded { uses } => last_use::recorded(state, uses),
        Event::KeyMaterialImported { .. }
        | Event::KeyMaterialDeleted { .. }
        | Event::KeyMaterialExpired { .. }
        | Event::ImportsShared { .. } => import::evolve(state, event),
        Event::GrantCreated { .. } | Event::GrantRetired { .. } | Event::GrantRevoked { .. } => {
            grant::evolve(state, event);
        }
        Event::IdentityPut { .. }
        | Event::IdentityDeleted { .. }
        | Event::IdentitiesShared { .. }
        | Event::IdentityHeard { .. } => identity::evolve(state, event),
        Event::DomainKeyAnnounced { .. }
        | Event::DomainKeyConfirmed { .. }
        | Event::DomainKeyActivated { .. }
        | Event::DomainKeyAbandoned { .. }
        | Event::SecretsResealed { .. }
        | Event::DomainKeyWithdrawn { .. }
        | Event::DomainKeyDestroyed { .. } => domain_key::evolve(state, event),
    }
}

#[cfg(test)]
mod table_tests;
