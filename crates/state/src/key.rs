//! What a Region remembers of a KMS key and of an alias.

use std::collections::BTreeMap;

use keyrum_types::{
    AccountId, KeyId, KeySpec, KeyState, KeyUsage, MaterialId, MultiRegionRole, Origin, Region,
    UnixMillis,
};
use serde::{Deserialize, Serialize};

use crate::{KeyRef, NewMaterial, StoredPolicy};

/// One KMS key. Compact on purpose: a Region holds a hundred thousand in memory.
///
/// Stored in the log, in snapshots and in outcomes: the order and types of the fields are the
/// format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The account that owns it.
    pub account: AccountId,
    /// Its id, unique in the Region.
    pub id: KeyId,
    /// Kind of material.
    pub spec: KeySpec,
    /// What it may be used for.
    pub usage: KeyUsage,
    /// Where its material comes from.
    pub origin: Origin,
    /// As DescribeKey shows it.
    pub state: KeyState,
    /// Its part in a family; `None` for a single-Region key.
    pub multi_region: Option<MultiRegionRole>,
    /// When it was made, by the Region's clock.
    pub created: UnixMillis,
    /// Set exactly while the key waits to be deleted.
    pub deletion: Option<Deletion>,
    /// At most 8192 characters.
    pub description: Box<str>,
    /// The policy as put; `None` for the default policy. At most 32,768 bytes.
    pub policy: Option<StoredPolicy>,
    /// At most 50.
    pub tags: BTreeMap<String, String>,
    /// Every version of the material, oldest first; the last is current. Empty until the origin's
    /// material is there for the first time. A version of imported material whose bytes are gone
    /// stays, with an empty sealing.
    pub materials: Vec<NewMaterial>,
}

/// A wait that ends with the key's deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// When the key is deleted, by the Region's clock.
    pub due: UnixMillis,
    /// The wait the caller chose, in days.
    pub wait_days: u8,
}

impl Key {
    /// How commands and events name it.
    pub fn reference(&self) -> KeyRef {
        KeyRef {
            account: self.account,
            id: self.id,
        }
    }

    /// The version new ciphertexts are made with, if its bytes are here; `None` before the first.
    pub fn current_material(&self) -> Option<&NewMaterial> {
        self.materials.last()
    }

    /// Whether every version is there, so that whatever the key encrypted can be decrypted.
    pub fn has_all_material(&self) -> bool {
        !self.materials.is_empty() && self.materials.iter().all(NewMaterial::is_here)
    }

    /// One version, for what it once encrypted.
    pub fn material(&self, id: &MaterialId) -> Option<&NewMaterial> {
        self.materials.iter().find(|material| material.id == *id)
    }

    /// The policy's text: as put, or the default policy as the real service lays it out.
    pub fn policy_text(&self, region: &Region) -> String {
        match &self.policy {
            Some(policy) => policy.text().to_owned(),
            None => keyrum_authz::default_policy(region, self.account),
        }
    }
}

/// A name for a key, of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    /// What it names.
    pub target: KeyRef,
    /// When it was made, by the Region's clock.
    pub created: UnixMillis,
    /// When it last came to name a key, by the Region's clock.
    pub updated: UnixMillis,
}
