//! A Region's domain key in its file.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use keyrum_types::Entropy;

use super::contents::{Contents, Unfit};
use super::disk::{Held, Old, Place};
use super::error::{KeyFileError, SecretKind};
use super::keys::{DomainKeys, DomainKeysError, copy, same};
use super::lock::{FileLock, UnlockKey};
use super::region;
use super::unlock::{StaysLocked, Unlock};
use crate::keyring::{DomainKeyring, DomainSecret, Fingerprint};
use crate::wrap::RegionKey;

/// Makes a new domain key and its file.
pub fn create(path: &Path, entropy: &dyn Entropy) -> Result<DomainKeyring, KeyFileError> {
    let contents = Contents::first(DomainSecret::generate(entropy));
    Place::new(path, SecretKind::DomainKey).create(&contents.render(entropy), entropy)?;
    Ok(contents.into_keyring())
}

/// What opens a domain key's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenedBy {
    /// Nothing: whoever may read it has the key.
    Anyone,
    /// A passphrase.
    Passphrase,
    /// So many of so many shares.
    Shares {
        /// How many it takes.
        needed: u8,
        /// How many were made.
        of: u8,
    },
}

/// A domain key's file. Several nodes and processes of one machine may share it: each looks at it
/// anew, and changes it while the others wait.
pub struct DomainKeyFile {
    place: Place,
    name: Fingerprint,
    /// The key that opened it, if it was locked. The file may be locked otherwise by now.
    unlock: Unlock,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for DomainKeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DomainKeyFile").field(&self.place).finish()
    }
}

impl DomainKeyFile {
    /// Reads the domain key. A missing file is [`KeyFileError::Missing`]. A passphrase takes about a
    /// tenth of a second and 64 MiB.
    pub fn open(
        path: &Path,
        unlock: &Unlock,
        entropy: Arc<dyn Entropy>,
    ) -> Result<(Self, DomainKeyring), KeyFileError> {
        let place = Place::new(path, SecretKind::DomainKey);
        let contents = read(&place, unlock)?;
        place.tidy()?;
        let mut file = Self {
            place,
            name: contents.name,
            unlock: Unlock::default(),
            entropy,
        };
        file.note_key(contents.lock.as_ref());
        Ok((file, contents.into_keyring()))
    }

    /// What it takes to open a file, by the file's own word.
    pub fn opened_by(path: &Path) -> Result<OpenedBy, KeyFileError> {
        let place = Place::new(path, SecretKind::DomainKey);
        opened_by(read(&place, &Unlock::default()).map(|_| ()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// Names the domain key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.name
    }

    /// Adds the key that opened this file to `unlock`, for other nodes that share the file.
    pub fn pass_key_on(&self, unlock: &mut Unlock) {
        unlock.add_keys_of(&self.unlock);
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
        let (held, mut contents) = self.change()?;
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
        let (held, mut contents) = self.change()?;
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
        let (held, mut contents) = self.change()?;
        if contents.versions.remove(&version).is_none() {
            return Ok(());
        }
        if contents.versions.is_empty() {
            let path = self.place.path.clone();
            return Err(KeyFileError::LastVersion { path, version });
        }
        self.write(&held, &contents, Old::Wipe)
    }

    /// Reads the secret half of the Region's key pair, which a locked domain key's key for tokens
    /// seals. A missing file is [`KeyFileError::Missing`].
    pub fn load_region_key(&self, path: &Path) -> Result<RegionKey, KeyFileError> {
        let place = Place::new(path, SecretKind::RegionKey);
        region::read(&place, || self.region_seal())
    }

    /// Locks the domain key and the Region's key, from a plain file or from another lock. What the
    /// files were is overwritten.
    pub fn lock(&mut self, lock: FileLock, region_key: &Path) -> Result<(), KeyFileError> {
        self.check(lock.name)?;
        // The domain key opens the other one in either form, so a crash in between does no harm.
        let place = Place::new(region_key, SecretKind::RegionKey);
        let seal = self.region_seal()?;
        region::rewrite(&place, &seal, Some(&seal), &*self.entropy)?;
        let (held, mut contents) = self.change()?;
        contents.lock = Some(lock);
        self.write(&held, &contents, Old::Wipe)?;
        drop(held);
        self.note_key(contents.lock.as_ref());
        Ok(())
    }

    /// Makes both files plain again.
    pub fn unlock(&mut self, region_key: &Path) -> Result<(), KeyFileError> {
        let (held, mut contents) = self.change()?;
        contents.lock = None;
        self.write(&held, &contents, Old::Forget)?;
        drop(held);
        let place = Place::new(region_key, SecretKind::RegionKey);
        region::rewrite(&place, &self.region_seal()?, None, &*self.entropy)
    }

    /// Waits until nobody else changes the file, and reads it.
    fn change(&self) -> Result<(Held<'_>, Contents), KeyFileError> {
        let held = self.place.hold()?;
        let contents = self.read()?;
        held.tidy()?;
        Ok((held, contents))
    }

    pub(super) fn read(&self) -> Result<Contents, KeyFileError> {
        let contents = read(&self.place, &self.unlock)?;
        self.check(contents.name)?;
        Ok(contents)
    }

    pub(super) fn entropy(&self) -> &dyn Entropy {
        &*self.entropy
    }

    pub(super) fn check(&self, name: Fingerprint) -> Result<(), KeyFileError> {
        match name == self.name {
            true => Ok(()),
            false => Err(KeyFileError::Exchanged {
                path: self.place.path.clone(),
            }),
        }
    }

    fn write(&self, held: &Held<'_>, contents: &Contents, old: Old) -> Result<(), KeyFileError> {
        held.replace(&contents.render(&*self.entropy), old)
    }

    fn note_key(&mut self, lock: Option<&FileLock>) {
        if let Some(lock) = lock {
            self.unlock.add_key(lock.lock.id, lock.key.copy());
        }
    }

    fn region_seal(&self) -> Result<UnlockKey, KeyFileError> {
        Ok(region::seal_of(&self.read()?.tokens))
    }
}

/// What it takes to open a file that was tried without anything.
pub(super) fn opened_by(tried: Result<(), KeyFileError>) -> Result<OpenedBy, KeyFileError> {
    match tried {
        Ok(()) => Ok(OpenedBy::Anyone),
        Err(KeyFileError::Locked { why, .. }) => Ok(match why {
            StaysLocked::NoShares { needed, of } => OpenedBy::Shares { needed, of },
            _ => OpenedBy::Passphrase,
        }),
        Err(error) => Err(error),
    }
}

fn read(place: &Place, unlock: &Unlock) -> Result<Contents, KeyFileError> {
    Contents::parse(&place.read()?, unlock).map_err(|unfit| place.unfit(unfit))
}

impl Place {
    pub(super) fn unfit(&self, unfit: Unfit) -> KeyFileError {
        match unfit {
            Unfit::Damaged(problem) => self.unusable(problem),
            Unfit::Locked(why) => KeyFileError::Locked {
                kind: self.kind,
                path: self.path.clone(),
                why,
            },
        }
    }
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
