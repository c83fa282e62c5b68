//! Where a Region's domain key is kept: its file, or memory.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use keyrum_types::Entropy;
use zeroize::Zeroizing;

use super::contents::Contents;
use super::disk::{Held, Old, Place};
use super::error::{KeyFileError, SecretKind};
use crate::keyring::{DomainKeyring, DomainSecret, Fingerprint};

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

/// Makes a new domain key and its file.
pub fn create(path: &Path, entropy: &dyn Entropy) -> Result<DomainKeyring, KeyFileError> {
    let contents = Contents::first(DomainSecret::generate(entropy));
    Place::new(path, SecretKind::DomainKey).create(&contents.render(), entropy)?;
    Ok(contents.into_keyring())
}

/// A domain key's file. Several nodes and processes of one machine may share it: each looks at it
/// anew, and changes it while the others wait.
pub struct DomainKeyFile {
    place: Place,
    name: Fingerprint,
}

impl fmt::Debug for DomainKeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DomainKeyFile").field(&self.place).finish()
    }
}

impl DomainKeyFile {
    /// Reads the domain key. A missing file is [`KeyFileError::Missing`].
    pub fn open(path: &Path) -> Result<(Self, DomainKeyring), KeyFileError> {
        let place = Place::new(path, SecretKind::DomainKey);
        let contents = read(&place)?;
        place.tidy()?;
        let name = contents.name;
        Ok((Self { place, name }, contents.into_keyring()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// The version as the file has it now.
    pub fn get(&self, version: u32) -> Result<Option<DomainSecret>, KeyFileError> {
        Ok(self.read()?.versions.remove(&version))
    }

    /// Adds a version. Durable on return. If the file has the same already, nothing happens; if it
    /// has another one, `replace` says whether this takes its place.
    pub fn put(
        &self,
        version: u32,
        secret: &DomainSecret,
        replace: bool,
    ) -> Result<(), KeyFileError> {
        let held = self.place.hold()?;
        let mut contents = self.read()?;
        held.tidy()?;
        let old = match contents.versions.get(&version) {
            Some(there) if same(there, secret) => return Ok(()),
            Some(_) if !replace => {
                return Err(KeyFileError::OtherVersion {
                    path: self.place.path.clone(),
                    version,
                });
            }
            Some(_) => Old::Wipe,
            None => Old::Forget,
        };
        contents.versions.insert(version, copy(secret));
        self.write(&held, &contents, old)
    }

    /// The version, made if the file has none: one winner where several nodes share the file.
    pub fn get_or_generate(
        &self,
        version: u32,
        entropy: &dyn Entropy,
    ) -> Result<DomainSecret, KeyFileError> {
        let held = self.place.hold()?;
        let mut contents = self.read()?;
        held.tidy()?;
        if let Some(secret) = contents.versions.remove(&version) {
            return Ok(secret);
        }
        let secret = DomainSecret::generate(entropy);
        contents.versions.insert(version, copy(&secret));
        self.write(&held, &contents, Old::Forget)?;
        Ok(secret)
    }

    /// Takes a version out; nothing happens if the file has none of that number. What the file was is
    /// overwritten, which not every disk and file system does in place. Never the last version.
    pub fn remove(&self, version: u32) -> Result<(), KeyFileError> {
        let held = self.place.hold()?;
        let mut contents = self.read()?;
        held.tidy()?;
        if contents.versions.remove(&version).is_none() {
            return Ok(());
        }
        if contents.versions.is_empty() {
            let path: PathBuf = self.place.path.clone();
            return Err(KeyFileError::LastVersion { path, version });
        }
        self.write(&held, &contents, Old::Wipe)
    }

    fn read(&self) -> Result<Contents, KeyFileError> {
        let contents = read(&self.place)?;
        match contents.name == self.name {
            true => Ok(contents),
            false => Err(KeyFileError::Exchanged {
                path: self.place.path.clone(),
            }),
        }
    }

    fn write(&self, held: &Held<'_>, contents: &Contents, old: Old) -> Result<(), KeyFileError> {
        held.replace(&contents.render(), old)
    }
}

fn read(place: &Place) -> Result<Contents, KeyFileError> {
    Contents::parse(&place.read()?).map_err(|problem| place.unusable(problem))
}

fn same(one: &DomainSecret, other: &DomainSecret) -> bool {
    crate::ciphertext::same_secret(one.expose(), other.expose())
}

fn copy(secret: &DomainSecret) -> DomainSecret {
    DomainSecret::from_bytes(Zeroizing::new(*secret.expose()))
}

impl DomainKeys for DomainKeyFile {
    fn get(&self, version: u32) -> Result<Option<DomainSecret>, DomainKeysError> {
        Ok(self.get(version)?)
    }

    fn put(
        &self,
        version: u32,
        secret: &DomainSecret,
        replace: bool,
    ) -> Result<(), DomainKeysError> {
        Ok(self.put(version, secret, replace)?)
    }

    fn get_or_generate(
        &self,
        version: u32,
        entropy: &dyn Entropy,
    ) -> Result<DomainSecret, DomainKeysError> {
        Ok(self.get_or_generate(version, entropy)?)
    }

    fn remove(&self, version: u32) -> Result<(), DomainKeysError> {
        Ok(self.remove(version)?)
    }
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
