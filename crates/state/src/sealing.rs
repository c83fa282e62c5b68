//! Where sealed secrets are: in commands, in messages, and in the state.

use std::sync::Arc;

use keyrum_types::{AccountId, MaterialId, Region, SealedMaterial};
use serde::{Deserialize, Serialize};

use crate::contents::Row;
use crate::{Command, Identity, IdentityName, KeyRef, Message, NewMaterial, State};

/// What a sealing is bound to: it opens as nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealedAs {
    /// One version of a key's material.
    Material(KeyRef, MaterialId),
    /// What belongs to an identity, by this name.
    Identity(String),
}

/// A group of sealings in the state.
///
/// Stored: variants keep their meaning and their place for good.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Place {
    /// All of a key: its material, and what it is being rotated to.
    Key(KeyRef),
    /// A message that waits for another Region, by its number.
    Sent(Region, u64),
    /// An identity.
    Identity(IdentityName),
}

/// What is found in a place: each sealing, empty ones left out.
pub type Secrets = Vec<(SealedAs, SealedMaterial)>;

fn named(key: KeyRef, material: &mut NewMaterial) -> (SealedAs, &mut SealedMaterial) {
    (SealedAs::Material(key, material.id), &mut material.sealed)
}

impl Command {
    /// Every sealing that it brings, empty ones too.
    pub fn sealings(&self) -> Box<dyn Iterator<Item = &SealedMaterial> + '_> {
        match self {
            Self::CreateKey { material, .. } => Box::new(material.iter().map(|m| &m.sealed)),
            Self::RotateKeyOnDemand { material, .. }
            | Self::ImportKeyMaterial { material, .. }
            | Self::CreateManagedKey { material, .. } => {
                Box::new(std::iter::once(&material.sealed))
            }
            Self::RotateKeys { rotations } => {
                Box::new(rotations.iter().map(|due| &due.material.sealed))
            }
            Self::SeedKey { materials, .. } => Box::new(materials.iter().map(|m| &m.sealed)),
            Self::Deliver { messages, .. } => {
                Box::new(messages.iter().flat_map(|(_, message)| message.sealings()))
            }
            Self::PutIdentity { identity, .. } => Box::new(identity.sealings()),
            Self::ResealSecrets { resealed } => Box::new(
                resealed
                    .iter()
                    .flat_map(|group| group.sealings.iter().map(|(_, now)| now)),
            ),
            Self::EnableKey { .. }
            | Self::DisableKey { .. }
            | Self::ScheduleKeyDeletion { .. }
            | Self::CancelKeyDeletion { .. }
            | Self::UpdateKeyDescription { .. }
            | Self::CreateAlias { .. }
            | Self::UpdateAlias { .. }
            | Self::DeleteAlias { .. }
            | Self::TagResource { .. }
            | Self::UntagResource { .. }
            | Self::PutKeyPolicy { .. }
            | Self::Tick
            | Self::AdvanceClock { .. }
            | Self::ConfirmClock { .. }
            | Self::RaiseFeatureLevel { .. }
            | Self::EnableKeyRotation { .. }
            | Self::DisableKeyRotation { .. }
            | Self::ReplicateKey { .. }
            | Self::UpdatePrimaryRegion { .. }
            | Self::Delivered { .. }
            | Self::RecordKeyUses { .. }
            | Self::DeleteImportedKeyMaterial { .. }
            | Self::CreateGrant { .. }
            | Self::RetireGrant { .. }
            | Self::RevokeGrant { .. }
            | Self::DeleteIdentity { .. }
            | Self::ShareIdentities { .. }
            | Self::AnnounceDomainKey { .. }
            | Self::ConfirmDomainKey { .. }
            | Self::ActivateDomainKey { .. }
            | Self::AbandonDomainKey { .. }
            | Self::WithdrawDomainKey { .. }
            | Self::DestroyDomainKey { .. } => Box::new(std::iter::empty()),
        }
    }

    /// Every secret that it brings and that is there, with what it is bound to; `account` is the
    /// caller's.
    pub fn secrets_mut(
        &mut self,
        account: Option<AccountId>,
    ) -> Vec<(SealedAs, &mut SealedMaterial)> {
        let mut secrets = match self {
            Self::CreateKey { key, material, .. } => {
                let id = *key;
                let own = account.map(|account| KeyRef { account, id });
                let own = own.into_iter().zip(material);
                own.map(|(key, material)| named(key, material)).collect()
            }
            Self::CreateManagedKey { key, material, .. } => {
                let id = *key;
                let own = account.map(|account| KeyRef { account, id });
                let own = own.into_iter().zip([material]);
                own.map(|(key, material)| named(key, material)).collect()
            }
            Self::RotateKeyOnDemand { key, material }
            | Self::ImportKeyMaterial { key, material, .. } => vec![named(*key, material)],
            Self::RotateKeys { rotations } => rotations
                .iter_mut()
                .map(|due| named(due.key, &mut due.material))
                .collect(),
            Self::SeedKey { key, materials, .. } => {
                let key = *key;
                materials.iter_mut().map(|m| named(key, m)).collect()
            }
            Self::Deliver { messages, .. } => messages
                .iter_mut()
                .flat_map(|(_, message)| message.secrets_mut())
                .collect(),
            Self::PutIdentity { identity, .. } => of_identity(identity),
            // What it brings is made anew from the state instead, as is what has no secrets.
            _ => Vec::new(),
        };
        secrets.retain(|(_, sealed)| !sealed.0.is_empty());
        secrets
    }
}

fn of_identity(identity: &mut Identity) -> Vec<(SealedAs, &mut SealedMaterial)> {
    let secrets = identity.secrets_mut().into_iter();
    secrets
        .map(|(name, sealed)| (SealedAs::Identity(name), sealed))
        .collect()
}

impl Identity {
    /// Every sealing in it.
    fn sealings(&self) -> impl Iterator<Item = &SealedMaterial> {
        let session = match self {
            Self::SessionKey(key) => Some(&key.secret),
            Self::Account(_) | Self::User(_) | Self::Role(_) => None,
        };
        let keys = self.access_keys().iter().map(|key| &key.secret);
        keys.chain(session)
    }
}

impl Message {
    /// Every sealing that it carries, empty ones too.
    pub fn sealings(&self) -> Box<dyn Iterator<Item = &SealedMaterial> + '_> {
        match self {
            Self::Record { materials, .. } | Self::MoveRequest { materials, .. } => {
                Box::new(materials.iter().map(|material| &material.sealed))
            }
            Self::Identity(news) => Box::new(news.identity.iter().flat_map(Identity::sealings)),
            Self::Confirmation { .. }
            | Self::Tombstone { .. }
            | Self::MoveAnswer { .. }
            | Self::ImportedRecord { .. }
            | Self::ImportReport { .. } => Box::new(std::iter::empty()),
        }
    }

    /// Every secret that it carries, with what it is bound to.
    pub fn secrets_mut(&mut self) -> Vec<(SealedAs, &mut SealedMaterial)> {
        match self {
            Self::Record { record, materials }
            | Self::MoveRequest {
                record, materials, ..
            } => {
                let key = record.key;
                materials.iter_mut().map(|m| named(key, m)).collect()
            }
            Self::Identity(news) => {
                let identity = &mut Arc::make_mut(news).identity;
                identity.iter_mut().flat_map(of_identity).collect()
            }
            Self::Confirmation { .. }
            | Self::Tombstone { .. }
            | Self::MoveAnswer { .. }
            | Self::ImportedRecord { .. }
            | Self::ImportReport { .. } => Vec::new(),
        }
    }
}

impl State {
    /// How many sealings there are under a version of the domain key.
    pub fn sealings_under(&self, version: u32) -> u64 {
        let under = |sealed: &SealedMaterial| sealed.domain_key_version() == Some(version);
        let count = |found: usize| found as u64;
        let keys = self.keys_after(None).map(|key| {
            let key = key.reference();
            count(
                self.key_sealings(key)
                    .filter(|sealed| under(sealed))
                    .count(),
            )
        });
        let sent = self.all_sent().map(|(_, _, message)| {
            count(message.sealings().filter(|sealed| under(sealed)).count())
        });
        let identities = self.all_identities().iter().map(|record| {
            let sealings = record.identity.sealings();
            count(sealings.filter(|sealed| under(sealed)).count())
        });
        keys.sum::<u64>() + sent.sum::<u64>() + identities.sum::<u64>()
    }

    /// The places that have a sealing under another version of the domain key than `version`: keys
    /// after `after`, then messages, then identities.
    pub fn places_not_under(
        &self,
        version: u32,
        after: Option<KeyRef>,
    ) -> impl Iterator<Item = Place> {
        let other = move |sealed: &SealedMaterial| {
            let found = sealed.domain_key_version();
            found.is_some_and(|found| found != version)
        };
        let keys = self.keys_after(after).map(|key| key.reference());
        let keys = keys.filter(move |key| self.key_sealings(*key).any(other));
        let sent = self.all_sent();
        let sent = sent.filter(move |(_, _, message)| message.sealings().any(other));
        let identities = self.all_identities().iter();
        let identities = identities.filter(move |record| record.identity.sealings().any(other));
        keys.map(Place::Key)
            .chain(sent.map(|(to, number, _)| Place::Sent(to.clone(), number)))
            .chain(identities.map(|record| Place::Identity(record.identity.name())))
    }

    /// Every sealing of a key, empty ones too.
    fn key_sealings(&self, key: KeyRef) -> impl Iterator<Item = &SealedMaterial> {
        self.key_materials(key).map(|material| &material.sealed)
    }

    fn key_materials(&self, name: KeyRef) -> impl Iterator<Item = &NewMaterial> {
        let materials = self.key(name).into_iter().flat_map(|key| &key.materials);
        let rotation = self.rotation(name);
        let rotating = rotation.and_then(|rotation| rotation.pending.as_ref());
        let imports = self.imports(name);
        let imported = imports.and_then(|imports| imports.pending.as_ref());
        materials
            .chain(rotating.map(|pending| &pending.material))
            .chain(imported)
    }

    /// What a place has; nothing if it is gone.
    pub fn secrets_at(&self, place: &Place) -> Secrets {
        let found = |secrets: Vec<(SealedAs, &mut SealedMaterial)>| {
            let secrets = secrets.into_iter();
            let secrets = secrets.map(|(name, sealed)| (name, sealed.clone()));
            secrets.filter(|(_, sealed)| !sealed.0.is_empty()).collect()
        };
        match place {
            Place::Key(key) => self
                .key_materials(*key)
                .filter(|material| material.is_here())
                .map(|material| {
                    (
                        SealedAs::Material(*key, material.id),
                        material.sealed.clone(),
                    )
                })
                .collect(),
            Place::Sent(to, number) => match self.waiting_message(to, *number) {
                Some(message) => found(message.clone().secrets_mut()),
                None => Vec::new(),
            },
            Place::Identity(name) => match self.identity(name) {
                Some(record) => found(of_identity(&mut record.identity.clone())),
                None => Vec::new(),
            },
        }
    }

    /// Puts other sealings where `decide` saw the former ones.
    pub(crate) fn replace_sealings(
        &mut self,
        place: &Place,
        sealings: &[(SealedMaterial, SealedMaterial)],
    ) {
        let replace = |sealed: &mut SealedMaterial| {
            if let Some((_, now)) = sealings.iter().find(|(was, _)| was == sealed) {
                *sealed = now.clone();
            }
        };
        match place {
            Place::Key(name) => {
                let name = *name;
                self.edit_key(name, |key| {
                    key.materials
                        .iter_mut()
                        .for_each(|m| replace(&mut m.sealed));
                });
                if let Some(rotation) = self.rotation(name)
                    && rotation.pending.is_some()
                {
                    let mut rotation = Arc::clone(rotation);
                    let pending = &mut Arc::make_mut(&mut rotation).pending;
                    pending
                        .iter_mut()
                        .for_each(|p| replace(&mut p.material.sealed));
                    let key = name;
                    self.put(Row::Rotation { key, rotation });
                }
                if let Some(imports) = self.imports(name)
                    && imports.pending.is_some()
                {
                    let mut imports = Arc::clone(imports);
                    let pending = &mut Arc::make_mut(&mut imports).pending;
                    pending.iter_mut().for_each(|m| replace(&mut m.sealed));
                    let key = name;
                    self.put(Row::Imports { key, imports });
                }
            }
            Place::Sent(to, number) => {
                if let Some(message) = self.waiting_message(to, *number) {
                    let mut message = message.clone();
                    let secrets = message.secrets_mut();
                    secrets.into_iter().for_each(|(_, sealed)| replace(sealed));
                    self.put(Row::Sent {
                        to: to.clone(),
                        number: *number,
                        message: Arc::new(message),
                    });
                }
            }
            Place::Identity(name) => {
                if let Some(record) = self.identity(name) {
                    let mut record = Arc::clone(record);
                    let identity = &mut Arc::make_mut(&mut record).identity;
                    let secrets = identity.secrets_mut();
                    secrets.into_iter().for_each(|(_, sealed)| replace(sealed));
                    self.put(Row::Identity(record));
                }
            }
        }
    }
}
