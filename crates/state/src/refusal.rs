//! A command's replicated "no".

use keyrum_types::{AliasName, KeySpec, KeyState, Origin, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::KeyRef;

/// Why a command was refused. It is part of the replicated result, so no variant carries
/// anything that could differ between nodes. Each maps to exactly one API error, in `server`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No such key in that account.
    #[error("key {} of account {} does not exist", key.id, key.account)]
    NoSuchKey {
        /// Which key.
        key: KeyRef,
    },
    /// The caller may not do this to that resource.
    #[error("not authorized: {0}")]
    NotAuthorized(keyrum_authz::Denied),
    /// A key of that id exists already (an id drawn twice).
    #[error("key {} exists already", key.id)]
    KeyExists {
        /// Which key.
        key: KeyRef,
    },
    /// The key's state forbids the operation.
    #[error("key {} is {state}", key.id)]
    WrongState {
        /// Which key.
        key: KeyRef,
        /// The state it is in.
        state: KeyState,
    },
    /// Only a key that is pending deletion can be rescued.
    #[error("key {} is not pending deletion", key.id)]
    NotPendingDeletion {
        /// Which key.
        key: KeyRef,
    },
    /// The account has as many keys as it may.
    #[error("the account has {limit} keys, the most it may have")]
    TooManyKeys {
        /// The limit.
        limit: u32,
    },
    /// An alias of that name exists in the account.
    #[error("{alias} exists already")]
    AliasExists {
        /// The name.
        alias: AliasName,
    },
    /// No alias of that name in the account.
    #[error("{alias} is not found")]
    NoSuchAlias {
        /// The name.
        alias: AliasName,
    },
    /// The key has as many aliases as it may.
    #[error("key {} has {limit} aliases, the most it may have", key.id)]
    TooManyAliases {
        /// Which key.
        key: KeyRef,
        /// The limit.
        limit: u32,
    },
    /// Names under `alias/aws/` belong to AWS managed keys.
    #[error("{alias} is reserved")]
    ReservedAlias {
        /// The name.
        alias: AliasName,
    },
    /// An alias moves only between keys of one kind and usage.
    #[error("{alias} cannot move to a key of another kind or usage")]
    AliasKindMismatch {
        /// The name.
        alias: AliasName,
    },
    /// A tag's name begins with `aws:`.
    #[error("tags beginning with aws: are reserved")]
    ReservedTag,
    /// The same tag name twice in one request.
    #[error("duplicate tag keys")]
    DuplicateTags,
    /// More than 50 tags on one key.
    #[error("too many tags")]
    TooManyTags,
    /// The policy is longer than 32,768 bytes.
    #[error("the policy has more than {limit} bytes")]
    PolicyTooLong {
        /// The limit, in bytes.
        limit: u32,
    },
    /// The policy is not one.
    #[error("malformed policy: {0}")]
    MalformedPolicy(keyrum_authz::MalformedPolicy),
    /// The command's clock is too far ahead of the Region's and nobody confirms it. The
    /// proposer asks the other nodes' clocks (`ConfirmClock`) and proposes again.
    #[error("the proposer's clock {proposed} is unconfirmed, the Region's is {region}")]
    ClockUnconfirmed {
        /// What the proposer's clock said.
        proposed: UnixMillis,
        /// The Region's clock, without what AdvanceClock added to it.
        region: UnixMillis,
    },
    /// A feature level can only rise.
    #[error("the feature level is {level} already")]
    FeatureLevelNotHigher {
        /// The present level.
        level: u32,
    },
    /// The request id is older than the state remembers: whether it was applied is unknown.
    #[error("the request is too old to tell whether it was applied")]
    OutcomeUnknown,
    /// The operation is not for keys whose material comes from there.
    #[error("key {} has the origin {origin}", key.id)]
    OriginNotForOperation {
        /// Which key.
        key: KeyRef,
        /// Where its material comes from.
        origin: Origin,
    },
    /// The operation is not for keys of that kind.
    #[error("key {} has the spec {spec}", key.id)]
    SpecNotForOperation {
        /// Which key.
        key: KeyRef,
        /// Its kind.
        spec: KeySpec,
    },
    /// An automatic rotation is under way or so close that none can be had on demand.
    #[error("key {} is rotated automatically at {due}", key.id)]
    RotationDue {
        /// Which key.
        key: KeyRef,
        /// When that is due, or when it began.
        due: UnixMillis,
    },
    /// The key was rotated on demand as often as it may be.
    #[error("key {} was rotated on demand {limit} times, the most it may be", key.id)]
    TooManyRotations {
        /// Which key.
        key: KeyRef,
        /// The limit.
        limit: u8,
    },
    /// A key whose material is imported rotates to imported material, and none waits for that.
    #[error("key {} has no imported material to rotate to", key.id)]
    NoMaterialToRotateTo {
        /// Which key.
        key: KeyRef,
    },
}
