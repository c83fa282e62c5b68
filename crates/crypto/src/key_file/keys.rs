//! Where a Region's domain key is kept, as the rest of the program sees it; and memory as such a place.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use keyrum_types::Entropy;
use zeroize::Zeroizing;

use crate::ciphertext::same_secret;
use crate::keyring::{DomainKeyring, DomainSecret};

/// Why a version of the domain key cannot be had or kept. Nothing was changed. The text shows no
/// secret.
pub type DomainKeysError = Box<dyn std::error::Error + Send + Sync>;

/// Where the versions of a Region's domain key are kept. Blocks on the disk.
pub trait DomainKeys: Send + Sync {
    /// A version as it is kept now; another node that shares the place may have put it.
    fn get(&self, version: u32) -> Result<Option<DomainSecret>, DomainKeysError>;

    /// Keeps a version. Durable on return. If the same is kept already, nothing happens; if another
    /// one is, `replace` says whether this takes its place, else it is an error.
    fn put(
        &self,
        version: u32,
        secret: &DomainSecret,
        replace: bool,
    ) -> Result<(), DomainKeysError>;

    /// The version, made if there is none: all who share the place get the same. Durable on return.
    fn get_or_generate(
        &self,
        version: u32,
        entropy: &dyn Entropy,
    ) -> Result<DomainSecret, DomainKeysError>;

    /// Takes a version out for good; nothing happens if it is not there. Never the last one.
    fn remove(&self, version: u32) -> Result<(), DomainKeysError>;
}

/// A domain key's versions in memory, for tests and the simulation. Nodes that share a file share
/// one of these.
#[derive(Default)]
pub struct MemoryDomainKeys(Mutex<BTreeMap<u32, DomainSecret>>);

impl MemoryDomainKeys {
    /// What a keyring has now.
    pub fn of(keyring: &DomainKeyring) -> Self {
        let versions = keyring.versions();
        let versions = versions.into_keys().filter_map(|version| {
            let secret = keyring.version(version)?;
            Some((version, copy(&secret)))
        });
        Self(Mutex::new(versions.collect()))
    }

    fn versions(&self) -> MutexGuard<'_, BTreeMap<u32, DomainSecret>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DomainKeys for MemoryDomainKeys {
    fn get(&self, version: u32) -> Result<Option<DomainSecret>, DomainKeysError> {
        Ok(self.versions().get(&version).map(copy))
    }

    fn put(
        &self,
        version: u32,
        secret: &DomainSecret,
        replace: bool,
    ) -> Result<(), DomainKeysError> {
        let mut versions = self.versions();
        match versions.get(&version) {
            Some(there) if !replace && !same(there, secret) => {
                Err(format!("there is another version {version} already").into())
            }
            _ => {
                versions.insert(version, copy(secret));
                Ok(())
            }
        }
    }

    fn get_or_generate(
        &self,
        version: u32,
        entropy: &dyn Entropy,
    ) -> Result<DomainSecret, DomainKeysError> {
        let mut versions = self.versions();
        let secret = versions
            .entry(version)
            .or_insert_with(|| DomainSecret::generate(entropy));
        Ok(copy(secret))
    }

    fn remove(&self, version: u32) -> Result<(), DomainKeysError> {
        let mut versions = self.versions();
        if versions.len() == 1 && versions.contains_key(&version) {
            return Err(format!("version {version} is the last one, and stays").into());
        }
        versions.remove(&version);
        Ok(())
    }
}

pub(super) fn same(one: &DomainSecret, other: &DomainSecret) -> bool {
    same_secret(one.expose(), other.expose())
}

pub(super) fn copy(secret: &DomainSecret) -> DomainSecret {
    DomainSecret::from_bytes(Zeroizing::new(*secret.expose()))
}
