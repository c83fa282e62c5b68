//! A command's replicated "no".

use keyrum_types::{
    AliasName, GrantId, GrantOperation, KeySpec, KeyState, KeyUsage, MaterialId, NodeId, Origin,
    Region, UnixMillis,
};
use serde::{Deserialize, Serialize};

use crate::{DomainKeyStage, IdentityName, KeyRef};

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
    /// A single-Region key has no family.
    #[error("key {} is not a multi-Region key", key.id)]
    NotMultiRegion {
        /// Which key.
        key: KeyRef,
    },
    /// Only the primary of a family can do this.
    #[error("key {} is not a multi-Region primary key", key.id)]
    NotPrimary {
        /// Which key.
        key: KeyRef,
    },
    /// Only the primary of a family can be asked to move.
    #[error("key {} is not a multi-Region primary key, so it cannot move", key.id)]
    NoPrimaryToMove {
        /// Which key.
        key: KeyRef,
    },
    /// The primary's own Region cannot have a replica.
    #[error("the primary of key {} is in that Region", key.id)]
    PrimaryIsThere {
        /// Which key.
        key: KeyRef,
    },
    /// A Region has one member of a family at most.
    #[error("key {} has a member in {region} already", key.id)]
    ReplicaExists {
        /// Which key.
        key: KeyRef,
        /// Where.
        region: Region,
    },
    /// The family has no member there.
    #[error("key {} has no replica in {region}", key.id)]
    NoReplicaThere {
        /// Which key.
        key: KeyRef,
        /// Where.
        region: Region,
    },
    /// The member there has not confirmed yet.
    #[error("the replica of key {} in {region} is being created", key.id)]
    ReplicaIsCreating {
        /// Which key.
        key: KeyRef,
        /// Where.
        region: Region,
    },
    /// A delivery that does not follow what was taken. The courier begins again at the cursor.
    #[error("messages from {from} after number {cursor} are missing")]
    MessagesMissing {
        /// The sending Region.
        from: Region,
        /// The last one taken.
        cursor: u64,
    },
    /// A Region cannot have taken what was never sent.
    #[error("message {number} was never sent to {to}")]
    NeverSent {
        /// The receiving Region.
        to: Region,
        /// The number.
        number: u64,
    },
    /// What is shared is set on the primary alone.
    #[error("key {} is a multi-Region replica key, which is not for {operation}", key.id)]
    ReplicaNotForOperation {
        /// Which key.
        key: KeyRef,
        /// What was asked.
        operation: String,
    },
    /// A parameter of ImportKeyMaterial that is for symmetric keys only.
    #[error("{parameter} is for symmetric keys, not for {spec}")]
    ImportParameterNotForSpec {
        /// The parameter's name in the API, beginning with a small letter.
        parameter: String,
        /// The key's kind.
        spec: KeySpec,
    },
    /// New material has no name that a caller could know.
    #[error("a material id was given for new material")]
    NewMaterialNamed,
    /// Material cannot have expired before it is there.
    #[error("the material would expire at {expires}, which is past")]
    ExpiryPast {
        /// When it would.
        expires: UnixMillis,
    },
    /// Material expires within a year.
    #[error("the material would expire at {expires}, later than {days_max} days from now")]
    ExpiryTooFar {
        /// When it would.
        expires: UnixMillis,
        /// How far away that may be at most, in days.
        days_max: u32,
    },
    /// The bytes are not the ones wanted.
    #[error("the material of key {} is not the expected one", key.id)]
    OtherMaterialExpected {
        /// Which key.
        key: KeyRef,
        /// The version the caller named or, if none was named, the key's current one; `None` if it
        /// has none.
        expected: Option<MaterialId>,
    },
    /// Material said to be new is the key's already.
    #[error("material {material} is associated with key {} already", key.id)]
    MaterialAssociated {
        /// Which key.
        key: KeyRef,
        /// The version.
        material: MaterialId,
    },
    /// A key has one version at most that waits to be rotated to.
    #[error("material {pending} of key {} is pending rotation", key.id)]
    MaterialPendingRotation {
        /// Which key.
        key: KeyRef,
        /// The version that waits.
        pending: MaterialId,
        /// The one that was to be imported.
        new: MaterialId,
    },
    /// Replicas know only material that the primary has.
    #[error("new material is imported into the primary of key {}, not into a replica", key.id)]
    NewMaterialOnReplica {
        /// Which key.
        key: KeyRef,
    },
    /// The primary's description is every member's.
    #[error("material is described on the primary of key {}, not on a replica", key.id)]
    DescriptionOnReplica {
        /// Which key.
        key: KeyRef,
    },
    /// A family uses no material that a member lacks.
    #[error("the material that key {} would be rotated to is not known to be with its replicas", key.id)]
    ReplicasLackMaterial {
        /// Which key.
        key: KeyRef,
    },
    /// The key never had that material.
    #[error("material {material} was never imported into key {}", key.id)]
    NoSuchMaterial {
        /// Which key.
        key: KeyRef,
        /// The version.
        material: MaterialId,
    },
    /// A grant can only allow what keys of that kind can do.
    #[error("grants on key {}, a key of spec {spec} for {usage}, cannot allow {operations:?}", key.id)]
    OperationsNotForKey {
        /// Which key.
        key: KeyRef,
        /// What it cannot, in the order given.
        operations: Vec<GrantOperation>,
        /// The key's kind.
        spec: KeySpec,
        /// What the key is for.
        usage: KeyUsage,
    },
    /// Who may only create grants could grant nothing.
    #[error("a grant that allows CreateGrant alone")]
    OnlyCreateGrant,
    /// Only symmetric encryption keys have encryption contexts.
    #[error("a grant on key {} cannot depend on an encryption context", key.id)]
    ContextConstraintNotForKey {
        /// Which key.
        key: KeyRef,
    },
    /// The key has as many grants as it may.
    #[error("key {} has {limit} grants, the most it may have", key.id)]
    TooManyGrants {
        /// Which key.
        key: KeyRef,
        /// The limit.
        limit: u32,
    },
    /// A grant of that id exists already (an id drawn twice).
    #[error("grant {grant} on key {} exists already", key.id)]
    GrantExists {
        /// Which key.
        key: KeyRef,
        /// Which of its grants.
        grant: GrantId,
    },
    /// The key has no such grant, or not any more.
    #[error("key {} has no grant {grant}", key.id)]
    NoSuchGrant {
        /// Which key.
        key: KeyRef,
        /// The grant's id.
        grant: GrantId,
    },
    /// What is asked follows rules that do not hold yet.
    #[error(
        "the Region's feature level is below {needed}; it rises once every node runs a program that knows it"
    )]
    FeatureLevelTooLow {
        /// The level from which on it can be.
        needed: u32,
    },
    /// Identities are changed in one Region's log.
    #[error("identities are changed in {home} and not here")]
    IdentitiesLedElsewhere {
        /// Which Region's.
        home: Region,
    },
    /// Somebody changed it since the author looked.
    #[error("{name} was changed meanwhile: its last change is number {revision}")]
    IdentityChanged {
        /// Which.
        name: IdentityName,
        /// Its last change; 0 if it is not there.
        revision: u64,
    },
    /// There is none of that name.
    #[error("{name} does not exist")]
    NoSuchIdentity {
        /// Which.
        name: IdentityName,
    },
    /// It cannot be so.
    #[error("{name} cannot be so: {problem}")]
    InvalidIdentity {
        /// Which.
        name: IdentityName,
        /// What is wrong, in a few words.
        problem: String,
    },
    /// There are as many as there may be.
    #[error("{limit} {what} are the most there can be")]
    TooManyIdentities {
        /// Of what.
        what: String,
        /// The limit.
        limit: u32,
    },
    /// A unique id or an access key's id is another's, or was given twice.
    #[error("the id {id} is taken")]
    IdentityIdTaken {
        /// Which.
        id: String,
    },
    /// A grant names a user or role that does not exist.
    #[error("there is no principal {arn}")]
    NoSuchPrincipal {
        /// As it was named.
        arn: String,
    },
    /// What the command brings is sealed under a version of the domain key that does not seal.
    #[error(
        "it is sealed under version {version} of the domain key, and version {seals} seals. Nothing was changed"
    )]
    SealingRetired {
        /// The version it is sealed under.
        version: u32,
        /// The one that seals.
        seals: u32,
    },
    /// A version of the domain key has not come, or not only come, so far.
    #[error("version {version} of the domain key is {}", stage.map_or("not known", DomainKeyStage::name))]
    DomainKeyStage {
        /// Which version.
        version: u32,
        /// What it is.
        stage: Option<DomainKeyStage>,
    },
    /// Not every node has said that it is ready.
    #[error("version {version} of the domain key waits for nodes {nodes:?}")]
    DomainKeyUnconfirmed {
        /// Which version.
        version: u32,
        /// Who has not.
        nodes: Vec<NodeId>,
    },
    /// There are secrets that only this version opens.
    #[error("{sealings} secrets are still sealed under version {version} of the domain key")]
    DomainKeyInUse {
        /// Which version.
        version: u32,
        /// How many secrets.
        sealings: u64,
    },
    /// Callers may hold import tokens that only this version opens.
    #[error(
        "import tokens sealed under version {version} of the domain key are valid until {until} by the Region's clock"
    )]
    DomainKeyTokensValid {
        /// Which version.
        version: u32,
        /// Until when, by the Region's clock.
        until: UnixMillis,
    },
}
