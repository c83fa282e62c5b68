//! What a caller asked for, with everything the outside world contributes already filled in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use keyrum_types::{
    AccountId, AliasName, Fingerprint, GrantId, KeyId, KeySpec, KeyUsage, MaterialId, NodeId,
    Origin, Region, RotationDays, SealedMaterial, UnixMillis, WaitingDays,
};
use serde::{Deserialize, Serialize};

use crate::family::Message;
use crate::{
    AutomaticRotation, DomainKeyConfirmation, GrantTerms, Identity, IdentityName, ImportTerms,
    KeyUse, Resealed,
};

/// Names one proposal for good, so that a retry inside the cluster is recognised.
///
/// Made by the node that took the request; the same id is used for every attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// The node that took the request.
    pub node: NodeId,
    /// Which start of that node: a number that grows with every start of the node.
    pub boot: u64,
    /// Counts this boot's proposals from 0.
    pub sequence: u64,
}

/// On whose behalf a command is decided: everything authorization may look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The account the caller belongs to.
    pub account: AccountId,
    /// The caller's ARN, such as `arn:aws:iam::000000000000:root`.
    pub arn: String,
    /// Values for policy conditions, by condition key in lower case.
    pub conditions: BTreeMap<String, Vec<String>>,
    /// Grant tokens sent along.
    pub grant_tokens: Vec<String>,
    /// What proposals of the first format do not say of a caller.
    #[serde(skip)]
    pub details: CallerDetails,
}

impl Caller {
    /// The root of an account, of whom nothing else is known.
    pub fn root(region: &Region, account: AccountId) -> Self {
        Self {
            account,
            arn: format!("arn:{}:iam::{account}:root", region.partition()),
            conditions: BTreeMap::new(),
            grant_tokens: Vec::new(),
            details: CallerDetails::default(),
        }
    }

    /// Whether this is an account's root user.
    pub fn is_root(&self) -> bool {
        self.arn.ends_with(":root")
    }

    /// As a message to another Region carries it: messages have no details, so those that
    /// authorization asks for stand among the conditions.
    pub(crate) fn to_cross(&self) -> Self {
        let details = &self.details;
        let mut conditions = self.conditions.clone();
        let mut add = |name: &str, values: Vec<String>| {
            conditions.insert(name.to_owned(), values);
        };
        if !details.unique_id.is_empty() {
            add(UNIQUE_ID, vec![details.unique_id.clone()]);
        }
        if !details.session_policies.is_empty() {
            add(SESSION_POLICIES, details.session_policies.clone());
        }
        if let Some(ip) = details.source_ip {
            add("aws:sourceip", vec![ip.to_string()]);
        }
        if let Some(user_agent) = &details.user_agent {
            add("aws:useragent", vec![user_agent.clone()]);
        }
        if let Some(at) = details.at {
            let seconds = (at.0 / 1000).to_string();
            add("aws:epochtime", vec![seconds.clone()]);
            add("aws:currenttime", vec![seconds]);
            add("aws:securetransport", vec![details.secure.to_string()]);
        }
        Self {
            conditions,
            details: CallerDetails::default(),
            ..self.clone()
        }
    }

    /// The reverse, where the message arrived.
    pub(crate) fn come_across(&self) -> Self {
        let first = |name: &str| self.conditions.get(name).and_then(|values| values.first());
        Self {
            details: CallerDetails {
                unique_id: first(UNIQUE_ID).cloned().unwrap_or_default(),
                session_policies: self
                    .conditions
                    .get(SESSION_POLICIES)
                    .cloned()
                    .unwrap_or_default(),
                ..CallerDetails::default()
            },
            ..self.clone()
        }
    }
}

/// Under these names, which no condition key has, conditions of a caller in a message carry what its
/// details said.
const UNIQUE_ID: &str = "keyrum:uniqueid";
const SESSION_POLICIES: &str = "keyrum:sessionpolicies";

/// What is known of a caller and of the request, beside who it is; only proposals of the second
/// format carry it, and only where there is any.
///
/// Stored in the log: the order and types of the fields are the format.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerDetails {
    /// The API request's id, a UUID's bytes; zeros if there is none.
    pub request: [u8; 16],
    /// The id of the access key that signed; empty if nobody did.
    pub access_key: String,
    /// The identity's unique id, such as `AIDA...` or, of a role's session, `AROA...:name`; empty for an
    /// account's root.
    pub unique_id: String,
    /// Policies of the session, as texts: what it may do at most.
    pub session_policies: Vec<String>,
    /// When the request came, by the clock of the node that took it.
    pub at: Option<UnixMillis>,
    /// The address it came from.
    pub source_ip: Option<IpAddr>,
    /// What the program calls itself.
    pub user_agent: Option<String>,
    /// Whether it came over TLS.
    pub secure: bool,
    /// What an audit record tells beside that; `None` where none is kept.
    pub audit: Option<Box<AuditDetails>>,
}

/// What an audit record tells of a request that neither the caller's name nor the command's events
/// tell: so that the record can still be written after a crash.
///
/// Stored in the log: the order and types of the fields are the format.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditDetails {
    /// The record's `requestParameters`, as JSON; empty for null. Holds no secrets.
    pub parameters: String,
    /// The host the client asked for; empty if unknown.
    pub host: String,
    /// How its connection was protected: version, cipher suite and key exchange, as records name
    /// them; `None` if it was not.
    pub tls: Option<(String, String, String)>,
    /// The DNS name of the AWS service that asked on the caller's behalf; empty if none did.
    pub invoked_by: String,
    /// The ARN, with its path, of the role whose session the caller is; empty if it is none.
    pub session_role: String,
    /// When the caller's session began; `None` if it is none.
    pub session_began: Option<UnixMillis>,
}

/// One entry of a Region's log that carries a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Recognises a repeated proposal.
    pub request: RequestId,
    /// Who asks. `None` for commands the Region gives itself (`Tick`, ...).
    pub caller: Option<Caller>,
    /// The proposer's own clock when it proposed.
    pub now: UnixMillis,
    /// What is asked.
    pub command: Command,
}

/// A key as a caller named it: an account and an id. Aliases are resolved before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyRef {
    /// The account that owns the key: the caller's for a bare id, else the ARN's.
    pub account: AccountId,
    /// The key's id.
    pub id: KeyId,
}

/// New material and the name of that version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMaterial {
    /// Names the version.
    pub id: MaterialId,
    /// The bytes, sealed under the Region's domain key. Empty for imported material that was
    /// deleted or has expired.
    pub sealed: SealedMaterial,
}

impl NewMaterial {
    /// Whether there are bytes.
    pub fn is_here(&self) -> bool {
        !self.sealed.0.is_empty()
    }

    /// The version without its bytes.
    pub(crate) fn gone(id: MaterialId) -> Self {
        Self {
            id,
            sealed: SealedMaterial(Arc::default()),
        }
    }
}

/// A rotation whose date has come, and the material for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueRotation {
    /// Which key.
    pub key: KeyRef,
    /// The date it is for: the key's next one when this was proposed.
    pub due: UnixMillis,
    /// What will be current.
    pub material: NewMaterial,
}

/// A mutation. Imperative: it can still be refused.
///
/// Released variants keep their meaning and their place for good; changed behaviour is a new
/// variant at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Makes a key in the caller's account.
    CreateKey {
        /// The new key's id.
        key: KeyId,
        /// Kind of material.
        spec: KeySpec,
        /// What it may be used for.
        usage: KeyUsage,
        /// Where material comes from.
        origin: Origin,
        /// At most 8192 characters.
        description: String,
        /// The policy's text as sent; `None` for the default policy.
        policy: Option<String>,
        /// Whether the caller switched the lockout check off.
        bypass_lockout_check: bool,
        /// In the order sent; duplicates are for `decide` to refuse.
        tags: Vec<(String, String)>,
        /// `None` while the origin's material is not there.
        material: Option<NewMaterial>,
    },
    /// Lets a key be used.
    EnableKey {
        /// Which key.
        key: KeyRef,
    },
    /// Stops a key from being used.
    DisableKey {
        /// Which key.
        key: KeyRef,
    },
    /// Starts the wait after which a key is deleted.
    ScheduleKeyDeletion {
        /// Which key.
        key: KeyRef,
        /// How long it waits.
        wait: WaitingDays,
    },
    /// Ends that wait; the key comes back disabled.
    CancelKeyDeletion {
        /// Which key.
        key: KeyRef,
    },
    /// Replaces a key's description.
    UpdateKeyDescription {
        /// Which key.
        key: KeyRef,
        /// At most 8192 characters.
        description: String,
    },
    /// Names a key in the caller's account.
    CreateAlias {
        /// The name.
        alias: AliasName,
        /// What it names.
        target: KeyRef,
    },
    /// Lets a name stand for another key.
    UpdateAlias {
        /// The name.
        alias: AliasName,
        /// What it names from now on.
        target: KeyRef,
    },
    /// Takes a name away.
    DeleteAlias {
        /// The name.
        alias: AliasName,
    },
    /// Adds tags or replaces their values.
    TagResource {
        /// Which key.
        key: KeyRef,
        /// In the order sent.
        tags: Vec<(String, String)>,
    },
    /// Removes tags; names that are absent are ignored.
    UntagResource {
        /// Which key.
        key: KeyRef,
        /// Names of tags.
        tag_keys: Vec<String>,
    },
    /// Replaces a key's policy.
    PutKeyPolicy {
        /// Which key.
        key: KeyRef,
        /// The policy's text as sent.
        policy: String,
        /// Whether the caller switched the lockout check off.
        bypass_lockout_check: bool,
    },
    /// Lets time pass: what is due by the Region's clock happens, a bounded number of keys at
    /// a time. Proposed by the leader, only when something is due.
    Tick,
    /// Moves the Region's clock ahead for good. Test clusters only.
    AdvanceClock {
        /// How far, in milliseconds.
        by_ms: u64,
    },
    /// Takes a jump of the Region's clock that a majority's own clocks confirm.
    ConfirmClock {
        /// Each voter's own clock, as it answered the proposer; at most one entry a node.
        clocks: Vec<(NodeId, UnixMillis)>,
        /// How many voters the group has.
        voters: u32,
    },
    /// Switches newer rules on, once every member supports them.
    RaiseFeatureLevel {
        /// The new level; greater than the present one.
        level: u32,
    },
    /// Lets a key be rotated automatically, or changes how often it is.
    EnableKeyRotation {
        /// Which key.
        key: KeyRef,
        /// `None` to keep the period there is, or else the usual one.
        period: Option<RotationDays>,
    },
    /// Stops automatic rotation.
    DisableKeyRotation {
        /// Which key.
        key: KeyRef,
    },
    /// Gives a key new material now.
    RotateKeyOnDemand {
        /// Which key.
        key: KeyRef,
        /// What will be current. Not used for a key whose material is imported: it rotates to what
        /// was imported for that.
        material: NewMaterial,
    },
    /// Carries out rotations that are due by the Region's clock, a bounded number at a time.
    /// Proposed by the leader, only when some are.
    RotateKeys {
        /// At most 256; any after those are left for the next time.
        rotations: Vec<DueRotation>,
    },
    /// Adds a replica key in another Region. The answer comes before the key is there.
    ReplicateKey {
        /// Which primary key.
        key: KeyRef,
        /// Where the replica goes.
        region: Region,
        /// The replica's; at most 8192 characters.
        description: String,
        /// The replica's policy as sent; `None` for the default policy.
        policy: Option<String>,
        /// Whether the caller switched the lockout check off.
        bypass_lockout_check: bool,
        /// The replica's, in the order sent.
        tags: Vec<(String, String)>,
    },
    /// Asks another Region's member to become primary.
    UpdatePrimaryRegion {
        /// Which primary key.
        key: KeyRef,
        /// Where the new primary is.
        to: Region,
    },
    /// Takes what another Region's log has for this one. Proposed by the courier.
    Deliver {
        /// The sending Region.
        from: Region,
        /// All of the channel's messages through this number were taken before, or replaced.
        after: u64,
        /// With their numbers, ascending; material sealed for this Region.
        messages: Vec<(u64, Message)>,
    },
    /// Forgets what another Region's log has taken. Proposed by the courier.
    Delivered {
        /// The receiving Region.
        to: Region,
        /// It has taken all through this number.
        through: u64,
    },
    /// Notes when keys were last used, as nodes saw it. The Region's own.
    RecordKeyUses {
        /// At most [`crate::KEY_USES_MAX`]; what is not news is skipped.
        uses: Vec<KeyUse>,
    },
    /// Gives a key of origin EXTERNAL material that a caller brought.
    ImportKeyMaterial {
        /// Which key.
        key: KeyRef,
        /// The version, named by the key and the bytes.
        material: NewMaterial,
        /// What the caller said about it.
        terms: ImportTerms,
    },
    /// Takes imported material away.
    DeleteImportedKeyMaterial {
        /// Which key.
        key: KeyRef,
        /// Which version; the current one if `None`.
        material: Option<MaterialId>,
    },
    /// Makes the AWS managed key that an alias of the caller's account stands for. Does nothing if
    /// the alias names a key already, so that of several at once one is made.
    CreateManagedKey {
        /// The alias, under `alias/aws/`.
        alias: AliasName,
        /// The new key's id.
        key: KeyId,
        /// What the key is for.
        description: String,
        /// The policy's text.
        policy: String,
        /// Its first material.
        material: NewMaterial,
    },
    /// Makes a key as a fixture describes it, with material that was given. The Region's own; for
    /// tests only.
    SeedKey {
        /// Which key.
        key: KeyRef,
        /// Kind of material.
        spec: KeySpec,
        /// What it may be used for.
        usage: KeyUsage,
        /// Where material comes from.
        origin: Origin,
        /// At most 8192 characters.
        description: String,
        /// The policy's text; `None` for the default policy.
        policy: Option<String>,
        /// In the order given.
        tags: Vec<(String, String)>,
        /// Oldest first; the last is current. More than one only of symmetric keys.
        materials: Vec<NewMaterial>,
        /// Automatic rotation that is on from the start.
        rotation: Option<AutomaticRotation>,
    },
    /// Allows somebody the use of a key. Does nothing if the caller's account gave the same name and
    /// terms before.
    CreateGrant {
        /// Which key.
        key: KeyRef,
        /// The new grant's id.
        grant: GrantId,
        /// What it says.
        terms: GrantTerms,
    },
    /// Ends a grant; for those whom the grant itself lets do that.
    RetireGrant {
        /// Which key.
        key: KeyRef,
        /// Which of its grants.
        grant: GrantId,
    },
    /// Ends a grant; for those who may do that to the key.
    RevokeGrant {
        /// Which key.
        key: KeyRef,
        /// Which of its grants.
        grant: GrantId,
    },
    /// Makes an identity, or replaces the one of its name. The Region's own.
    PutIdentity {
        /// The whole identity; its dates are filled in.
        identity: Identity,
        /// The number of its last change that the author saw, 0 if there was no such identity;
        /// `None` for whatever there is.
        expected: Option<u64>,
    },
    /// Takes an identity away. The Region's own.
    DeleteIdentity {
        /// Which.
        name: IdentityName,
        /// As for PutIdentity.
        expected: Option<u64>,
    },
    /// Has another Region told of every identity from then on. The Region's own.
    ShareIdentities {
        /// Which Region.
        with: Region,
    },
    /// Makes a new version of the domain key known, which nodes are to have before it seals. The
    /// Region's own, like all commands about the domain key.
    AnnounceDomainKey {
        /// Its number, the one after the newest.
        version: u32,
        /// Names its secret.
        fingerprint: Fingerprint,
        /// Names the first version's.
        first: Fingerprint,
    },
    /// Notes what a node says of a version of the domain key.
    ConfirmDomainKey {
        /// Which version.
        version: u32,
        /// Names its secret.
        fingerprint: Fingerprint,
        /// Which node.
        node: NodeId,
        /// What it says.
        what: DomainKeyConfirmation,
    },
    /// Has everything sealed under the version that was announced, from then on.
    ActivateDomainKey {
        /// Which version.
        version: u32,
        /// The group's members, as its leader knows them: all must have confirmed.
        members: BTreeSet<NodeId>,
    },
    /// Takes an announcement back.
    AbandonDomainKey {
        /// Of which version.
        version: u32,
    },
    /// Replaces sealings by others of the same secrets.
    ResealSecrets {
        /// At most [`crate::RESEALED_MAX`] sealings; any after those are left for the next time.
        resealed: Vec<Resealed>,
    },
    /// Has nodes forget what a retired version of the domain key once sealed.
    WithdrawDomainKey {
        /// Which version.
        version: u32,
    },
    /// Ends a withdrawn version of the domain key.
    DestroyDomainKey {
        /// Which version.
        version: u32,
        /// As for ActivateDomainKey.
        members: BTreeSet<NodeId>,
    },
}

impl Command {
    /// The API operation's name, or the Region's own command's.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateKey { .. } => "CreateKey",
            Self::EnableKey { .. } => "EnableKey",
            Self::DisableKey { .. } => "DisableKey",
            Self::ScheduleKeyDeletion { .. } => "ScheduleKeyDeletion",
            Self::CancelKeyDeletion { .. } => "CancelKeyDeletion",
            Self::UpdateKeyDescription { .. } => "UpdateKeyDescription",
            Self::CreateAlias { .. } => "CreateAlias",
            Self::UpdateAlias { .. } => "UpdateAlias",
            Self::DeleteAlias { .. } => "DeleteAlias",
            Self::TagResource { .. } => "TagResource",
            Self::UntagResource { .. } => "UntagResource",
            Self::PutKeyPolicy { .. } => "PutKeyPolicy",
            Self::Tick => "Tick",
            Self::AdvanceClock { .. } => "AdvanceClock",
            Self::ConfirmClock { .. } => "ConfirmClock",
            Self::RaiseFeatureLevel { .. } => "RaiseFeatureLevel",
            Self::EnableKeyRotation { .. } => "EnableKeyRotation",
            Self::DisableKeyRotation { .. } => "DisableKeyRotation",
            Self::RotateKeyOnDemand { .. } => "RotateKeyOnDemand",
            Self::RotateKeys { .. } => "RotateKeys",
            Self::ReplicateKey { .. } => "ReplicateKey",
            Self::UpdatePrimaryRegion { .. } => "UpdatePrimaryRegion",
            Self::Deliver { .. } => "Deliver",
            Self::Delivered { .. } => "Delivered",
            Self::RecordKeyUses { .. } => "RecordKeyUses",
            Self::ImportKeyMaterial { .. } => "ImportKeyMaterial",
            Self::DeleteImportedKeyMaterial { .. } => "DeleteImportedKeyMaterial",
            Self::CreateManagedKey { .. } => "CreateManagedKey",
            Self::SeedKey { .. } => "SeedKey",
            Self::CreateGrant { .. } => "CreateGrant",
            Self::RetireGrant { .. } => "RetireGrant",
            Self::RevokeGrant { .. } => "RevokeGrant",
            Self::PutIdentity { .. } => "PutIdentity",
            Self::DeleteIdentity { .. } => "DeleteIdentity",
            Self::ShareIdentities { .. } => "ShareIdentities",
            Self::AnnounceDomainKey { .. } => "AnnounceDomainKey",
            Self::ConfirmDomainKey { .. } => "ConfirmDomainKey",
            Self::ActivateDomainKey { .. } => "ActivateDomainKey",
            Self::AbandonDomainKey { .. } => "AbandonDomainKey",
            Self::ResealSecrets { .. } => "ResealSecrets",
            Self::WithdrawDomainKey { .. } => "WithdrawDomainKey",
            Self::DestroyDomainKey { .. } => "DestroyDomainKey",
        }
    }
}
