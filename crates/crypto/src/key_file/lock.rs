//! Locked files: their secrets are sealed under a key that a passphrase gives, or a number of shares.
//!
//! A sealed secret is: a random value its own key is derived from (16 bytes), nonce (12), AES-256-GCM
//! ciphertext (32) and tag (16). Associated data say which secret of which lock, domain key and Region it
//! is: one that is moved does not open.

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use keyrum_types::{Entropy, Region};
use ring::aead::{Aad, NONCE_LEN};
use zeroize::Zeroizing;

use super::contents::Secret;
use super::share::{Share, split};
use crate::ciphertext::{cipher, nonce_of};
use crate::kdf::{derive, prf_key};
use crate::keyring::{DOMAIN_KEY_BYTES, Fingerprint};

const SALT_BYTES: usize = 16;
const NONCE_AT: usize = SALT_BYTES;
const SECRET_AT: usize = NONCE_AT + NONCE_LEN;
const TAG_AT: usize = SECRET_AT + DOMAIN_KEY_BYTES;
/// Bytes of a sealed secret.
pub(super) const SEALED_BYTES: usize = TAG_AT + 16;

/// Bytes of a key that unlocks.
pub(super) const UNLOCK_KEY_BYTES: usize = 32;

/// Shortest passphrase for a new lock, in characters: whoever has the file may guess for years.
pub const PASSPHRASE_CHARS_MIN: usize = 12;

/// Names a lock: random, so that shares and keys of an earlier one are known by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LockId(pub(super) u64);

impl fmt::Display for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What it costs to turn a passphrase into a key with Argon2id, and the salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: [u8; SALT_BYTES],
}

impl Stretch {
    /// For a new lock: RFC 9106's choice where 2 GiB are too much, but in one lane. OWASP's Password
    /// Storage Cheat Sheet asks for at least 19 MiB and 2 passes.
    fn new(entropy: &dyn Entropy) -> Self {
        let mut salt = [0; SALT_BYTES];
        entropy.fill(&mut salt);
        Self {
            memory_kib: 64 << 10,
            passes: 3,
            lanes: 1,
            salt,
        }
    }

    /// The most work that a file may ask for: more is no file of ours, and would stop the machine.
    const MOST: (u32, u32, u32) = (256 << 10, 16, 8);

    fn key(&self, passphrase: &str) -> Option<UnlockKey> {
        let Self {
            memory_kib,
            passes,
            lanes,
            salt,
        } = *self;
        let length = Some(UNLOCK_KEY_BYTES);
        let params = Params::new(memory_kib, passes, lanes, length).ok()?;
        let mut memory = Zeroizing::new(vec![Block::default(); params.block_count()]);
        let mut key = Zeroizing::new([0; UNLOCK_KEY_BYTES]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(
                passphrase.as_bytes(),
                &salt,
                key.as_mut_slice(),
                memory.as_mut_slice(),
            )
            .ok()?;
        Some(UnlockKey(key))
    }
}

/// What opens a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Passphrase(Stretch),
    /// So many of so many shares.
    Shares {
        needed: u8,
        of: u8,
    },
}

/// How a file is locked, as its text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lock {
    pub(super) id: LockId,
    pub(super) way: Way,
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.way {
            Way::Passphrase(stretch) => {
                let Stretch {
                    memory_kib,
                    passes,
                    lanes,
                    salt,
                } = stretch;
                let salt = u128::from_be_bytes(*salt);
                let cost = format_args!("{memory_kib} {passes} {lanes} {salt:032x}").to_string();
                write!(f, "{} passphrase argon2id {cost}", self.id)
            }
            Way::Shares { needed, of } => write!(f, "{} shares {needed} {of}", self.id),
        }
    }
}

impl Lock {
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        const DAMAGED: &str = "its lock is damaged";
        let parts: Vec<&str> = text.split(' ').collect();
        let id = |text| u64::from_str_radix(text, 16).map(LockId);
        let lock = match parts[..] {
            [
                name,
                "passphrase",
                "argon2id",
                memory_kib,
                passes,
                lanes,
                salt,
            ] => Self {
                id: id(name).map_err(|_| DAMAGED)?,
                way: Way::Passphrase(Stretch {
                    memory_kib: memory_kib.parse().map_err(|_| DAMAGED)?,
                    passes: passes.parse().map_err(|_| DAMAGED)?,
                    lanes: lanes.parse().map_err(|_| DAMAGED)?,
                    salt: u128::from_str_radix(salt, 16)
                        .map_err(|_| DAMAGED)?
                        .to_be_bytes(),
                }),
            },
            [name, "shares", needed, of] => Self {
                id: id(name).map_err(|_| DAMAGED)?,
                way: Way::Shares {
                    needed: needed.parse().map_err(|_| DAMAGED)?,
                    of: of.parse().map_err(|_| DAMAGED)?,
                },
            },
            _ => return Err(DAMAGED),
        };
        if lock.to_string() != text {
            return Err(DAMAGED);
        }
        if let Way::Passphrase(stretch) = &lock.way {
            let (memory_kib, passes, lanes) = Stretch::MOST;
            if stretch.memory_kib > memory_kib || stretch.passes > passes || stretch.lanes > lanes {
                return Err("it asks for more work to unlock it than any file of Keyrum");
            }
        }
        Ok(lock)
    }

    /// The key that a passphrase gives. `None` if the lock's costs make no sense.
    pub(super) fn key(&self, passphrase: &str) -> Option<UnlockKey> {
        match &self.way {
            Way::Passphrase(stretch) => stretch.key(passphrase),
            Way::Shares { .. } => None,
        }
    }
}

/// What opens the secrets of a lock.
pub(super) struct UnlockKey(pub(super) Zeroizing<[u8; UNLOCK_KEY_BYTES]>);

impl UnlockKey {
    pub(super) fn copy(&self) -> Self {
        Self(self.0.clone())
    }

    fn cipher(&self, salt: &[u8]) -> ring::aead::LessSafeKey {
        let key: Zeroizing<[u8; 32]> = derive(
            &prf_key(self.0.as_slice()),
            "keyrum key file sealing 1",
            &[salt],
        );
        cipher(key.as_slice())
    }

    pub(super) fn seal(
        &self,
        what: &str,
        secret: &[u8; DOMAIN_KEY_BYTES],
        entropy: &dyn Entropy,
    ) -> [u8; SEALED_BYTES] {
        // The secret enters the buffer it is sealed in, and no other.
        let mut sealed = [0; SEALED_BYTES];
        entropy.fill(&mut sealed[..SECRET_AT]);
        let nonce = nonce_of(&sealed[NONCE_AT..SECRET_AT]);
        let cipher = self.cipher(&sealed[..NONCE_AT]);
        sealed[SECRET_AT..TAG_AT].copy_from_slice(secret);
        let tag = cipher
            .seal_in_place_separate_tag(nonce, Aad::from(what), &mut sealed[SECRET_AT..TAG_AT])
            .expect("AES-GCM takes every plaintext under 64 GiB");
        sealed[TAG_AT..].copy_from_slice(tag.as_ref());
        sealed
    }

    pub(super) fn open(&self, what: &str, sealed: &[u8; SEALED_BYTES]) -> Option<Secret> {
        let mut buffer = Zeroizing::new([0; SEALED_BYTES - SECRET_AT]);
        buffer.copy_from_slice(&sealed[SECRET_AT..]);
        let nonce = nonce_of(&sealed[NONCE_AT..SECRET_AT]);
        let opened = self
            .cipher(&sealed[..NONCE_AT])
            .open_in_place(nonce, Aad::from(what), buffer.as_mut_slice())
            .ok()?;
        let mut secret = Zeroizing::new([0; DOMAIN_KEY_BYTES]);
        secret.copy_from_slice(opened);
        Some(secret)
    }
}

/// Why a lock cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLock {
    /// The passphrase could be guessed.
    #[error("a passphrase has at least {PASSPHRASE_CHARS_MIN} characters")]
    ShortPassphrase,
    /// It could not be given as one line.
    #[error(
        "a passphrase has no line breaks or other control characters, and does not begin like a share"
    )]
    OddPassphrase,
    /// Shares that make no sense.
    #[error("shares are K/N such as 2/3: K of N open the lock, and K is at least 2 and at most N")]
    Shares,
}

/// A lock of a file, or one that no file has yet, with the key that opens it.
pub struct FileLock {
    pub(super) lock: Lock,
    pub(super) key: UnlockKey,
    pub(super) region: Region,
    pub(super) name: Fingerprint,
}

impl FileLock {
    /// What a sealed secret is bound to.
    fn bound_to(&self, secret: &str) -> String {
        let (region, name, lock) = (&self.region, self.name, self.lock.id);
        format!("keyrum key file\n{region}\n{name}\n{lock}\n{secret}")
    }

    pub(super) fn seal(
        &self,
        what: &str,
        secret: &[u8; DOMAIN_KEY_BYTES],
        entropy: &dyn Entropy,
    ) -> [u8; SEALED_BYTES] {
        self.key.seal(&self.bound_to(what), secret, entropy)
    }

    pub(super) fn open(&self, what: &str, sealed: &[u8; SEALED_BYTES]) -> Option<Secret> {
        self.key.open(&self.bound_to(what), sealed)
    }

    fn new(way: Way, key: UnlockKey, of: (&Region, Fingerprint), entropy: &dyn Entropy) -> Self {
        let mut id = [0; 8];
        entropy.fill(&mut id);
        let id = LockId(u64::from_be_bytes(id));
        let (region, name) = (of.0.clone(), of.1);
        Self {
            lock: Lock { id, way },
            key,
            region,
            name,
        }
    }

    /// One that a passphrase opens, for the domain key of a Region. Takes about a tenth of a second and
    /// 64 MiB.
    pub fn with_passphrase(
        passphrase: &str,
        region: &Region,
        name: Fingerprint,
        entropy: &dyn Entropy,
    ) -> Result<Self, InvalidLock> {
        if passphrase.chars().count() < PASSPHRASE_CHARS_MIN {
            return Err(InvalidLock::ShortPassphrase);
        }
        if !super::unlock::is_passphrase(passphrase) {
            return Err(InvalidLock::OddPassphrase);
        }
        let stretch = Stretch::new(entropy);
        let key = stretch.key(passphrase);
        let key = key.expect("Argon2 takes these costs and every short passphrase");
        let way = Way::Passphrase(stretch);
        Ok(Self::new(way, key, (region, name), entropy))
    }

    /// One that `needed` of `of` shares open. The shares are nowhere else.
    pub fn with_shares(
        needed: u8,
        of: u8,
        region: &Region,
        name: Fingerprint,
        entropy: &dyn Entropy,
    ) -> Result<(Self, Vec<Share>), InvalidLock> {
        if needed < 2 || needed > of {
            return Err(InvalidLock::Shares);
        }
        let mut key = Zeroizing::new([0; UNLOCK_KEY_BYTES]);
        entropy.fill(key.as_mut_slice());
        let way = Way::Shares { needed, of };
        let lock = Self::new(way, UnlockKey(key), (region, name), entropy);
        let shares = split(&lock, needed, of, entropy);
        Ok((lock, shares))
    }
}
