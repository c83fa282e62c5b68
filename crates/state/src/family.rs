//! What a Region remembers of a multi-Region key's family, and what Regions tell each other.
//!
//! A family has one primary and at most one replica a Region. What its members share travels as a
//! whole [`FamilyRecord`], written by the primary's log alone. Its stamp grows with every change, and
//! a Region takes a record only if its stamp is greater than the one it has: a record that is late,
//! repeated, or overtaken by a newer primary's changes nothing. `conversation` says what a message
//! leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keyrum_types::planted::{self, Bug};
use keyrum_types::{KeySpec, KeyUsage, MaterialId, Origin, Region, RotationKind, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::rotation::{AutomaticRotation, CompletedRotation, PendingRotation, Rotation};
use crate::{Caller, IdentityName, IdentityNews, Key, KeyRef, NewMaterial, Refusal, State};

/// When a record was written, in its family's own time. Ordered.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Stamp {
    /// Goes up when a primary steps down.
    pub epoch: u64,
    /// Goes up with every change.
    pub version: u64,
}

impl Stamp {
    pub(crate) fn next(self) -> Self {
        Self {
            version: self.version + 1,
            ..self
        }
    }

    pub(crate) fn next_epoch(self) -> Self {
        Self {
            epoch: self.epoch + 1,
            ..self.next()
        }
    }
}

/// A member of a family, as the primary keeps it. It stays until the key there is really deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The stamp of the record that added it: never the same for two members, also of one Region.
    pub incarnation: Stamp,
    /// The versions of the material that the Region has in its log.
    pub confirmed: BTreeSet<MaterialId>,
    /// What the key begins with there; gone once the Region has confirmed.
    pub initial: Option<Arc<Initial>>,
}

/// What a replica key begins with: nothing of it is taken from the primary.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Initial {
    /// At most 8192 characters.
    pub description: String,
    /// The policy's text as sent; `None` for the default policy.
    pub policy: Option<Arc<str>>,
    /// At most 50.
    pub tags: BTreeMap<String, String>,
}

/// A key's family as this Region's log knows it. A primary that never had a replica has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Family {
    /// Of the last record written or taken here.
    pub stamp: Stamp,
    /// The primary's Region.
    pub primary: Region,
    /// All members, this Region's too.
    pub roster: Arc<BTreeMap<Region, Entry>>,
    /// Which member of this Region this is.
    pub incarnation: Stamp,
    /// How far a move of the primary has come, as seen from here.
    pub transit: Transit,
    /// How the last move asked for here ended, if it was refused: the stamp it was asked at.
    pub refused: Option<(Stamp, Refusal)>,
    /// The wait in days that begins once the last replica is gone, while the primary is
    /// PendingReplicaDeletion.
    pub wait_days: Option<u8>,
}

/// A move of the primary to another Region, in one of the two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Transit {
    /// None.
    #[default]
    Settled,
    /// Asked for here; this is still the primary.
    Requested {
        /// Who is to be primary.
        to: Region,
        /// The family's stamp when it was asked for: names the move.
        at: Stamp,
    },
    /// This member waits to become primary.
    Reserved {
        /// The primary that asked.
        from: Region,
    },
    /// No longer primary; the new one has not been heard of.
    SteppedDown,
}

/// Everything a family shares, as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyRecord {
    /// Which key; the same in every Region.
    pub key: KeyRef,
    /// Kind of material.
    pub spec: KeySpec,
    /// What it may be used for.
    pub usage: KeyUsage,
    /// Where its material comes from.
    pub origin: Origin,
    /// When it was written.
    pub stamp: Stamp,
    /// Who is primary from then on.
    pub primary: Region,
    /// All members.
    pub roster: Arc<BTreeMap<Region, Entry>>,
    /// Every version of the material, oldest first; the last is current.
    pub materials: Vec<MaterialId>,
    /// What rotation is set to and has done.
    pub rotation: SharedRotation,
}

/// A key's [`Rotation`] as it travels: without material.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedRotation {
    /// Set while automatic rotation is on.
    pub automatic: Option<AutomaticRotation>,
    /// How many rotations were asked for.
    pub on_demand_count: u8,
    /// Oldest first.
    pub rotations: Vec<CompletedRotation>,
    /// The rotation under way: its material, when it began, and why.
    pub pending: Option<(MaterialId, UnixMillis, RotationKind)>,
}

impl SharedRotation {
    fn of(rotation: &Rotation) -> Self {
        let pending = rotation.pending.as_ref();
        Self {
            automatic: rotation.automatic,
            on_demand_count: rotation.on_demand_count,
            rotations: rotation.rotations.clone(),
            pending: pending.map(|pending| (pending.material.id, pending.started, pending.kind)),
        }
    }

    /// The same with the material, which is among `held`.
    pub(crate) fn with<'m>(&self, mut held: impl Iterator<Item = &'m NewMaterial>) -> Rotation {
        let pending = self.pending.and_then(|(id, started, kind)| {
            let material = held.find(|material| material.id == id)?.clone();
            Some(PendingRotation {
                material,
                started,
                kind,
            })
        });
        Rotation {
            automatic: self.automatic,
            on_demand_count: self.on_demand_count,
            rotations: self.rotations.clone(),
            pending,
        }
    }
}

/// A version of imported material that waits for its import into every member of a family, before
/// the family can be rotated to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaited {
    /// Which version.
    pub material: MaterialId,
    /// The stamp of the record that first told of it: another one if the same version was deleted
    /// and imported anew.
    pub since: Stamp,
    /// The members that said last that they have it: their incarnations.
    pub held_by: BTreeMap<Region, Stamp>,
}

impl Awaited {
    /// Whether every member of the family has it, as far as this Region knows.
    pub fn is_everywhere(&self, family: &Family) -> bool {
        let mut roster = family.roster.iter();
        roster.all(|(region, entry)| self.held_by.get(region) == Some(&entry.incarnation))
    }
}

/// What a family shares of its imported material beside the versions' names: never bytes, nor their
/// dates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedImports {
    /// The version that the family will be rotated to. `None` once that has begun.
    pub awaited: Option<Awaited>,
    /// Of the versions that were given one; at most 256 characters each.
    pub descriptions: BTreeMap<MaterialId, String>,
}

/// What one Region's log tells another's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// From the primary: how the family is now.
    Record {
        /// All that is shared.
        record: Arc<FamilyRecord>,
        /// The versions that the receiver's entry has not confirmed. Sealed for the Region whose
        /// log holds the message.
        materials: Vec<NewMaterial>,
    },
    /// To the primary: this member has these versions.
    Confirmation {
        /// Which key.
        key: KeyRef,
        /// Which member of the sending Region.
        incarnation: Stamp,
        /// All versions it has.
        materials: BTreeSet<MaterialId>,
    },
    /// To the primary: this member is really deleted.
    Tombstone {
        /// Which key.
        key: KeyRef,
        /// Which member of the sending Region.
        incarnation: Stamp,
    },
    /// From the primary: become primary. Carries a record, which the receiver takes before it
    /// judges.
    MoveRequest {
        /// All that is shared.
        record: Arc<FamilyRecord>,
        /// As beside a record.
        materials: Vec<NewMaterial>,
        /// Who asked for it.
        caller: Caller,
    },
    /// To the primary that asked: the receiver waits to take over, or why it does not.
    MoveAnswer {
        /// Which key.
        key: KeyRef,
        /// The stamp the request carried.
        at: Stamp,
        /// Why not.
        refusal: Option<Refusal>,
    },
    /// A record or a move's request of a family that shares something of imported material. Such a
    /// family's material never crosses.
    ImportedRecord {
        /// All else that is shared.
        record: Arc<FamilyRecord>,
        /// What is shared of the imports.
        imports: Arc<SharedImports>,
        /// Who asks that the receiver become primary; `None` for a record.
        request: Option<Caller>,
    },
    /// To the primary: whether this member has the version that is awaited.
    ImportReport {
        /// Which key.
        key: KeyRef,
        /// Which member of the sending Region.
        incarnation: Stamp,
        /// Of the last record this member took: a later primary is told anew.
        epoch: u64,
        /// Names the wait.
        since: Stamp,
        /// Whether its bytes are there.
        here: bool,
    },
    /// From the Region that leads identities: how one is now. Its secrets are sealed for the Region
    /// whose log holds the message.
    Identity(Arc<IdentityNews>),
}

/// Messages of one kind about one key or identity, of which a newer one replaces an older one that
/// waits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Record(KeyRef),
    Confirmation(KeyRef),
    Tombstone(KeyRef),
    ImportReport(KeyRef),
    Identity(IdentityName),
}

impl Message {
    /// Which key it is about; `None` if it is about an identity.
    pub fn key(&self) -> Option<KeyRef> {
        Some(match self {
            Self::Record { record, .. }
            | Self::MoveRequest { record, .. }
            | Self::ImportedRecord { record, .. } => record.key,
            Self::Confirmation { key, .. }
            | Self::Tombstone { key, .. }
            | Self::MoveAnswer { key, .. }
            | Self::ImportReport { key, .. } => *key,
            Self::Identity(_) => return None,
        })
    }

    /// What it replaces; `None` for what must arrive whatever comes after it.
    pub(crate) fn subject(&self) -> Option<Subject> {
        match self {
            Self::Record { record, .. }
            | Self::ImportedRecord {
                record,
                request: None,
                ..
            } => Some(Subject::Record(record.key)),
            Self::Confirmation { key, .. } => Some(Subject::Confirmation(*key)),
            Self::Tombstone { key, .. } => Some(Subject::Tombstone(*key)),
            Self::ImportReport { key, .. } => Some(Subject::ImportReport(*key)),
            Self::Identity(news) => Some(Subject::Identity(news.name.folded())),
            Self::MoveRequest { .. } | Self::MoveAnswer { .. } | Self::ImportedRecord { .. } => {
                None
            }
        }
    }
}

impl Family {
    /// The family of a primary that has no replica yet.
    pub(crate) fn founded(state: &State, key: &Key) -> Self {
        let stamp = Stamp {
            epoch: 1,
            version: 1,
        };
        let own = Entry {
            incarnation: stamp,
            confirmed: held(key, &rotation_of(state, key.reference())),
            initial: None,
        };
        Self {
            stamp,
            primary: state.region().clone(),
            roster: Arc::new([(state.region().clone(), own)].into()),
            incarnation: stamp,
            transit: Transit::Settled,
            refused: None,
            wait_days: None,
        }
    }

    /// What is kept of a member, to change it.
    pub(crate) fn entry_mut(&mut self, region: &Region) -> Option<&mut Entry> {
        Arc::make_mut(&mut self.roster).get_mut(region)
    }

    /// Whether this Region's log writes the family's records.
    pub(crate) fn is_led_by(&self, region: &Region) -> bool {
        self.primary == *region
    }

    /// The record for a Region, with the material that it has not confirmed. Imported material never
    /// crosses: callers bring it to each member.
    pub(crate) fn record_for(
        &self,
        key: &Key,
        rotation: &Rotation,
        region: &Region,
    ) -> (Arc<FamilyRecord>, Vec<NewMaterial>) {
        let record = self.record(key, rotation);
        (record, self.materials_for(key, rotation, region))
    }

    fn materials_for(&self, key: &Key, rotation: &Rotation, region: &Region) -> Vec<NewMaterial> {
        let confirmed = self.roster.get(region).map(|entry| &entry.confirmed);
        let missing = |material: &&NewMaterial| {
            confirmed.is_none_or(|confirmed| !confirmed.contains(&material.id))
        };
        match key.origin {
            Origin::External => Vec::new(),
            Origin::AwsKms | Origin::AwsCloudhsm | Origin::ExternalKeyStore => {
                all_held(key, rotation).filter(missing).cloned().collect()
            }
        }
    }

    fn record(&self, key: &Key, rotation: &Rotation) -> Arc<FamilyRecord> {
        Arc::new(FamilyRecord {
            key: key.reference(),
            spec: key.spec,
            usage: key.usage,
            origin: key.origin,
            stamp: self.stamp,
            primary: self.primary.clone(),
            roster: self.roster.clone(),
            materials: key.materials.iter().map(|material| material.id).collect(),
            rotation: SharedRotation::of(rotation),
        })
    }

    /// The record for every other member.
    pub(crate) fn records(
        &self,
        key: &Key,
        rotation: &Rotation,
        own: &Region,
    ) -> Vec<(Region, Message)> {
        let record = self.record(key, rotation);
        let mut others: Vec<_> = self.roster.keys().filter(|region| *region != own).collect();
        if planted::is(Bug::HashMapInState) {
            others = std::collections::HashSet::<_>::from_iter(others)
                .into_iter()
                .collect();
        }
        let message = |region| Message::Record {
            record: Arc::clone(&record),
            materials: self.materials_for(key, rotation, region),
        };
        others
            .into_iter()
            .map(|region| (region.clone(), message(region)))
            .collect()
    }

    pub(crate) fn record_message(
        &self,
        key: &Key,
        rotation: &Rotation,
        region: &Region,
    ) -> Message {
        let (record, materials) = self.record_for(key, rotation, region);
        Message::Record { record, materials }
    }
}

/// What a key's rotation is set to and has done; nothing if nobody has done anything about it.
pub(crate) fn rotation_of(state: &State, key: KeyRef) -> Rotation {
    let rotation = state.rotation(key);
    rotation
        .map(|rotation| Rotation::clone(rotation))
        .unwrap_or_default()
}

/// All material that is here, that of a pending rotation last.
pub(crate) fn all_held<'k>(
    key: &'k Key,
    rotation: &'k Rotation,
) -> impl Iterator<Item = &'k NewMaterial> {
    let pending = rotation.pending.iter().map(|pending| &pending.material);
    key.materials.iter().chain(pending)
}

/// The names of all material that is here.
pub(crate) fn held(key: &Key, rotation: &Rotation) -> BTreeSet<MaterialId> {
    all_held(key, rotation)
        .map(|material| material.id)
        .collect()
}
