//! Copies of a Region's two secrets in one file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use keyrum_types::{Entropy, Region};

use super::contents::BackedUp;
use super::disk::Place;
use super::domain::DomainKeyFile;
use super::error::{KeyFileError, SecretKind};
use super::keys::same;
use super::lock::FileLock;
use super::region;
use super::unlock::Unlock;
use crate::keyring::Fingerprint;
use crate::wrap::RegionPublicKey;

/// A backup that was opened.
pub struct Backup(BackedUp);

/// What became of a Region's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Whether there was no domain key file, and one was made.
    pub made_domain_key: bool,
    /// Whether there was no Region key file, and one was made.
    pub made_region_key: bool,
    /// The versions that were put into a domain key file that was there.
    pub added: BTreeSet<u32>,
    /// The versions that the file has and the backup has not.
    pub kept: BTreeSet<u32>,
}

impl DomainKeyFile {
    /// Writes a backup of the domain key and the Region's key to a file that is not there yet, and gives
    /// the versions in it. Durable on return.
    pub fn back_up(
        &self,
        region: &Region,
        region_key: &Path,
        lock: Option<FileLock>,
        to: &Path,
    ) -> Result<BTreeMap<u32, Fingerprint>, KeyFileError> {
        let region_key = self.load_region_key(region_key)?;
        let mut domain = self.read()?;
        domain.lock = lock;
        let backup = BackedUp {
            region: region.clone(),
            domain,
            region_key,
        };
        let entropy = self.entropy();
        let place = Place::new(to, SecretKind::Backup);
        place.create(&backup.render(entropy), entropy)?;
        Ok(Backup(backup).versions())
    }
}

impl Backup {
    /// Reads a backup.
    pub fn open(path: &Path, unlock: &Unlock) -> Result<Self, KeyFileError> {
        let place = Place::new(path, SecretKind::Backup);
        let backup = BackedUp::parse(&place.read()?, unlock);
        backup.map(Self).map_err(|unfit| place.unfit(unfit))
    }

    /// Whether it takes anything to open a backup: see [`DomainKeyFile::opened_by`].
    pub fn opened_by(path: &Path) -> Result<super::OpenedBy, KeyFileError> {
        super::domain::opened_by(Self::open(path, &Unlock::default()).map(|_| ()))
    }

    /// The Region it is of.
    pub fn region(&self) -> &Region {
        &self.0.region
    }

    /// Names the domain key in it.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.domain.name
    }

    /// The public half of the Region's key in it.
    pub fn public_key(&self) -> RegionPublicKey {
        self.0.region_key.public()
    }

    /// The versions of the domain key in it.
    pub fn versions(&self) -> BTreeMap<u32, Fingerprint> {
        let versions = self.0.domain.versions.iter();
        versions
            .map(|(&version, secret)| (version, secret.fingerprint()))
            .collect()
    }

    /// Whether it is locked; then what it is restored to is, too.
    pub fn is_locked(&self) -> bool {
        self.0.domain.lock.is_some()
    }

    /// Makes the files that are missing. A domain key file that is there is opened with `unlock` and gets
    /// the versions that it lacks; nothing in it is replaced.
    pub fn restore(
        &self,
        domain_key: &Path,
        region_key: &Path,
        unlock: &Unlock,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Restored, KeyFileError> {
        let BackedUp {
            domain,
            region_key: key,
            ..
        } = &self.0;
        let mut restored = Restored {
            made_domain_key: false,
            made_region_key: false,
            added: BTreeSet::new(),
            kept: BTreeSet::new(),
        };
        match DomainKeyFile::open(domain_key, unlock, entropy.clone()) {
            Ok((file, keyring)) => {
                file.check(domain.name)?;
                let there = keyring.versions();
                for (&version, secret) in &domain.versions {
                    let other = keyring.version(version);
                    if other.is_some_and(|other| !same(&other, secret)) {
                        let path = domain_key.to_owned();
                        return Err(KeyFileError::OtherVersion { path, version });
                    }
                }
                for (&version, secret) in &domain.versions {
                    if !there.contains_key(&version) {
                        file.put(version, secret, false)?;
                        restored.added.insert(version);
                    }
                }
                let kept = there.into_keys();
                restored.kept = kept
                    .filter(|version| !domain.versions.contains_key(version))
                    .collect();
            }
            Err(KeyFileError::Missing { .. }) => {
                let place = Place::new(domain_key, SecretKind::DomainKey);
                place.create(&domain.render(&*entropy), &*entropy)?;
                restored.made_domain_key = true;
            }
            Err(error) => return Err(error),
        }
        let seal = domain
            .lock
            .as_ref()
            .map(|_| region::seal_of(&domain.tokens));
        match region::write_new(region_key, key, seal.as_ref(), &*entropy) {
            Ok(()) => restored.made_region_key = true,
            Err(KeyFileError::Exists { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(restored)
    }
}
