//! What a command did. Past tense: it can no longer be refused.
//!
//! Audit records and `keyrum log show` derive from events, so each carries what a reader needs
//! without the state it was applied to.

use std::sync::Arc;

use keyrum_types::{
    AccountId, AliasName, Fingerprint, GrantId, KeyState, MaterialId, NodeId, Origin, Region,
    RotationDays, RotationKind, UnixMillis,
};
use serde::{Deserialize, Serialize};

use crate::family::{Awaited, Family, Message};
use crate::rotation::Rotation;
use crate::{
    DomainKeyConfirmation, Grant, IdentityName, IdentityNews, IdentityRecord, Imports, Key, KeyRef,
    KeyUse, NewMaterial, Resealed,
};

/// One change. Released variants keep their meaning and their place for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A key exists from now on.
    KeyCreated {
        /// The whole new key, its material sealed.
        key: Key,
    },
    /// The key can be used. Not written when it already could.
    KeyEnabled {
        /// Which key.
        key: KeyRef,
    },
    /// The key cannot be used. Not written when it already could not.
    KeyDisabled {
        /// Which key.
        key: KeyRef,
    },
    /// The key waits to be deleted.
    KeyDeletionScheduled {
        /// Which key.
        key: KeyRef,
        /// When it is deleted, by the Region's clock.
        due: UnixMillis,
        /// The wait the caller chose.
        wait_days: u8,
    },
    /// The key waits no longer.
    KeyDeletionCanceled {
        /// Which key.
        key: KeyRef,
        /// The state it came back to.
        state: KeyState,
    },
    /// The key, its material, its aliases and its grants are gone.
    KeyDeleted {
        /// Which key.
        key: KeyRef,
        /// The aliases that went with it.
        aliases: Vec<AliasName>,
    },
    /// The description changed.
    KeyDescriptionUpdated {
        /// Which key.
        key: KeyRef,
        /// The new one.
        description: String,
    },
    /// A name exists from now on.
    AliasCreated {
        /// The name.
        alias: AliasName,
        /// What it names.
        target: KeyRef,
        /// When, by the Region's clock.
        at: UnixMillis,
    },
    /// A name stands for another key.
    AliasUpdated {
        /// The name.
        alias: AliasName,
        /// What it named before.
        former: KeyRef,
        /// What it names now.
        target: KeyRef,
        /// When, by the Region's clock.
        at: UnixMillis,
    },
    /// A name is gone.
    AliasDeleted {
        /// The account that owned it.
        account: AccountId,
        /// The name.
        alias: AliasName,
        /// What it named.
        target: KeyRef,
    },
    /// Tags were added or replaced.
    KeyTagged {
        /// Which key.
        key: KeyRef,
        /// The tags sent.
        tags: Vec<(String, String)>,
    },
    /// Tags were removed.
    KeyUntagged {
        /// Which key.
        key: KeyRef,
        /// Names of the tags that were there and are gone.
        tag_keys: Vec<String>,
    },
    /// The policy changed.
    KeyPolicyPut {
        /// Which key.
        key: KeyRef,
        /// The new text.
        policy: String,
    },
    /// The Region's clock was moved ahead.
    ClockAdvanced {
        /// How far, in milliseconds.
        by_ms: u64,
    },
    /// A jump of the Region's clock was taken.
    ClockConfirmed {
        /// What a majority's own clocks have reached.
        now: UnixMillis,
    },
    /// Newer rules hold from the next command on.
    FeatureLevelRaised {
        /// The new level.
        level: u32,
    },
    /// Automatic rotation is on from now on, or its period changed.
    KeyRotationEnabled {
        /// Which key.
        key: KeyRef,
        /// From one rotation to the next.
        period: RotationDays,
        /// When the next one is due, by the Region's clock.
        next: UnixMillis,
    },
    /// Automatic rotation is off from now on.
    KeyRotationDisabled {
        /// Which key.
        key: KeyRef,
    },
    /// The key encrypts with new material from now on.
    KeyRotated {
        /// Which key.
        key: KeyRef,
        /// Where its material comes from.
        origin: Origin,
        /// The version that was current before.
        previous: MaterialId,
        /// The version that is current now, sealed.
        material: NewMaterial,
        /// When, by the Region's clock.
        at: UnixMillis,
        /// Why.
        kind: RotationKind,
        /// The next automatic rotation's date; `None` if this one did not change it.
        next: Option<UnixMillis>,
    },
    /// A replica key exists from now on, Creating.
    KeyReplicated {
        /// The whole new key, its material sealed.
        key: Key,
        /// Its family as the record told it.
        family: Family,
        /// Its rotation as the record told it.
        rotation: Rotation,
        /// What other Regions are told.
        sent: Vec<(Region, Message)>,
    },
    /// A key's family changed.
    FamilyChanged {
        /// Which key.
        key: KeyRef,
        /// What happened.
        change: FamilyChange,
        /// The family from now on.
        family: Family,
        /// The key's state from now on.
        state: KeyState,
        /// Material that is new to the key, to follow what there is.
        materials: Vec<NewMaterial>,
        /// The rotation as a record told it; `None` where it stays as it is.
        rotation: Option<Rotation>,
        /// What other Regions are told.
        sent: Vec<(Region, Message)>,
    },
    /// Other Regions are told something.
    MessagesSent {
        /// To whom, and what.
        sent: Vec<(Region, Message)>,
    },
    /// A message of another Region was taken; what it led to follows.
    MessageTaken {
        /// The sending Region.
        from: Region,
        /// The message's number.
        number: u64,
    },
    /// Another Region has what was sent to it.
    MessagesDelivered {
        /// The receiving Region.
        to: Region,
        /// All through this number.
        through: u64,
    },
    /// New material was made for a family; it is current once every member has confirmed it.
    KeyRotationStarted {
        /// Which key.
        key: KeyRef,
        /// The new version.
        material: NewMaterial,
        /// When, by the Region's clock.
        at: UnixMillis,
        /// Why.
        kind: RotationKind,
        /// When the next automatic rotation is due, if that changed.
        next: Option<UnixMillis>,
    },
    /// It is known when these keys were last used.
    KeyUsesRecorded {
        /// The keys and their uses.
        uses: Vec<KeyUse>,
    },
    /// Imported material is there.
    KeyMaterialImported {
        /// Which key.
        key: KeyRef,
        /// The version, sealed.
        material: NewMaterial,
        /// Whether it waits to be rotated to; otherwise it is the key's for good.
        pending: bool,
        /// When it is deleted again, by the Region's clock.
        expires: Option<UnixMillis>,
        /// As it is from now on.
        description: Option<String>,
        /// The key's state from now on.
        state: KeyState,
    },
    /// Imported material was taken away by a caller.
    KeyMaterialDeleted {
        /// Which key.
        key: KeyRef,
        /// Which version.
        material: MaterialId,
        /// The key's state from now on.
        state: KeyState,
    },
    /// Imported material was taken away because its date had come.
    KeyMaterialExpired {
        /// Which key.
        key: KeyRef,
        /// Which version.
        material: MaterialId,
        /// The key's state from now on.
        state: KeyState,
    },
    /// What a family shares of imported material is known otherwise. Records that later events of the
    /// same command send take it along.
    ImportsShared {
        /// Which key.
        key: KeyRef,
        /// What is known of the imports from now on.
        imports: Imports,
        /// The version that waits for its import everywhere.
        awaited: Option<Awaited>,
    },
    /// A grant exists from now on. It goes with its key, if not before.
    GrantCreated {
        /// The whole new grant.
        grant: Grant,
    },
    /// A grant is gone: somebody whom it lets do that gave it up.
    GrantRetired {
        /// Which key.
        key: KeyRef,
        /// Which of its grants.
        grant: GrantId,
    },
    /// A grant is gone: it was taken away.
    GrantRevoked {
        /// Which key.
        key: KeyRef,
        /// Which of its grants.
        grant: GrantId,
    },
    /// An identity is there, or is so, from now on. Told to the Regions that are told of identities.
    IdentityPut {
        /// The whole identity, its secrets sealed.
        record: IdentityRecord,
    },
    /// An identity is gone. Told like the last.
    IdentityDeleted {
        /// Which.
        name: IdentityName,
        /// The change's number.
        revision: u64,
    },
    /// Another Region is told of all identities, from now on.
    IdentitiesShared {
        /// Which.
        with: Region,
    },
    /// An identity is there, is so, or is gone, as the Region that leads identities told.
    IdentityHeard {
        /// That Region.
        from: Region,
        /// What it told, secrets sealed for this Region.
        news: Arc<IdentityNews>,
    },
    /// A version of the domain key waits for every node to have it.
    DomainKeyAnnounced {
        /// Its number.
        version: u32,
        /// Names its secret.
        fingerprint: Fingerprint,
        /// Names the first version's.
        first: Fingerprint,
    },
    /// A node has that version, or needs one no longer.
    DomainKeyConfirmed {
        /// Which version.
        version: u32,
        /// Which node.
        node: NodeId,
        /// What it said.
        what: DomainKeyConfirmation,
    },
    /// A version of the domain key seals from now on; the former one is retired.
    DomainKeyActivated {
        /// Which version.
        version: u32,
        /// When, by the Region's clock.
        at: UnixMillis,
    },
    /// A version that was announced is not waited for any more.
    DomainKeyAbandoned {
        /// Which version.
        version: u32,
    },
    /// Secrets are sealed otherwise.
    SecretsResealed {
        /// Which, and how.
        resealed: Vec<Resealed>,
    },
    /// A retired version waits for every node to forget what it sealed.
    DomainKeyWithdrawn {
        /// Which version.
        version: u32,
    },
    /// A version is gone, and with it whatever only it could open.
    DomainKeyDestroyed {
        /// Which version.
        version: u32,
    },
}

impl Event {
    /// The keys it is about, the one that it changed first.
    pub fn keys(&self) -> Vec<KeyRef> {
        match self {
            Self::KeyCreated { key } | Self::KeyReplicated { key, .. } => vec![key.reference()],
            Self::KeyEnabled { key }
            | Self::KeyDisabled { key }
            | Self::KeyDeletionScheduled { key, .. }
            | Self::KeyDeletionCanceled { key, .. }
            | Self::KeyDeleted { key, .. }
            | Self::KeyDescriptionUpdated { key, .. }
            | Self::KeyTagged { key, .. }
            | Self::KeyUntagged { key, .. }
            | Self::KeyPolicyPut { key, .. }
            | Self::KeyRotationEnabled { key, .. }
            | Self::KeyRotationDisabled { key }
            | Self::KeyRotated { key, .. }
            | Self::KeyRotationStarted { key, .. }
            | Self::KeyMaterialImported { key, .. }
            | Self::KeyMaterialDeleted { key, .. }
            | Self::KeyMaterialExpired { key, .. }
            | Self::ImportsShared { key, .. }
            | Self::GrantRetired { key, .. }
            | Self::GrantRevoked { key, .. }
            | Self::FamilyChanged { key, .. } => vec![*key],
            Self::GrantCreated { grant } => vec![grant.key],
            Self::MessagesSent { sent } => {
                let about = sent.iter().filter_map(|(_, message)| message.key());
                about.collect()
            }
            Self::AliasCreated { target, .. } | Self::AliasDeleted { target, .. } => vec![*target],
            Self::AliasUpdated { former, target, .. } => vec![*target, *former],
            Self::ClockAdvanced { .. }
            | Self::ClockConfirmed { .. }
            | Self::FeatureLevelRaised { .. }
            | Self::IdentityPut { .. }
            | Self::IdentityDeleted { .. }
            | Self::IdentitiesShared { .. }
            | Self::IdentityHeard { .. }
            | Self::MessageTaken { .. }
            | Self::DomainKeyAnnounced { .. }
            | Self::DomainKeyConfirmed { .. }
            | Self::DomainKeyActivated { .. }
            | Self::DomainKeyAbandoned { .. }
            | Self::SecretsResealed { .. }
            | Self::DomainKeyWithdrawn { .. }
            | Self::DomainKeyDestroyed { .. }
            | Self::MessagesDelivered { .. } => Vec::new(),
            Self::KeyUsesRecorded { uses } => uses.iter().map(|used| used.key).collect(),
        }
    }
}

/// What happened to a family, in one Region's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FamilyChange {
    /// A replica is wanted in a Region.
    ReplicaAdded {
        /// Which.
        region: Region,
    },
    /// A Region has the material it was sent.
    Confirmed {
        /// Which.
        region: Region,
    },
    /// A replica was really deleted.
    ReplicaGone {
        /// In which Region.
        region: Region,
    },
    /// A record of the primary was taken.
    RecordTaken,
    /// The primary is to move.
    MoveRequested {
        /// To which Region.
        to: Region,
    },
    /// This member waits to become primary.
    MoveReserved {
        /// In place of which Region's.
        from: Region,
    },
    /// The primary stays.
    MoveRefused {
        /// Which Region refused.
        to: Region,
    },
    /// This member is no longer primary.
    SteppedDown {
        /// Which Region's is to be.
        to: Region,
    },
    /// This member is primary.
    SteppedUp,
    /// The primary is deleted once its replicas are.
    DeletionWaitsForReplicas,
    /// Automatic rotation was set otherwise, a rotation began, or one was completed.
    RotationChanged,
    /// Material to rotate to was imported into the primary or deleted there, or material was
    /// described.
    ImportsChanged,
    /// A Region said whether it has the material to rotate to.
    ImportReported {
        /// Which.
        region: Region,
    },
}
