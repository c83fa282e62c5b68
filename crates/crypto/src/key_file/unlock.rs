//! What locked files are opened with: a passphrase, shares, or keys that another process got from
//! those.

use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;

use super::lock::{Lock, LockId, UnlockKey, Way};
use super::share::{self, InvalidShare, Share, combine, hex, unhex};
use crate::keyring::Fingerprint;

/// How a line with a key begins. Such lines go from process to process, never to a disk.
const KEY: &str = "keyrum-unlock-key";

/// A passphrase, shares or both, for the domain keys of any number of Regions.
#[derive(Default)]
pub struct Unlock {
    passphrase: Option<Zeroizing<String>>,
    shares: Vec<Share>,
    keys: BTreeMap<LockId, UnlockKey>,
}

/// Why a text unlocks nothing. It shows nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUnlock {
    /// A share that cannot be used.
    #[error("line {line} {problem}")]
    Share {
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        problem: InvalidShare,
    },
    /// More than one line that is no share.
    #[error("line {line} is no share, and there is a passphrase before it")]
    TwoPassphrases {
        /// Which line, from 1.
        line: usize,
    },
    /// Nothing at all.
    #[error("there is neither a passphrase nor a share in it")]
    Empty,
    /// Not text.
    #[error("it is not text")]
    NotText,
}

/// Why a lock stays closed. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StaysLocked {
    /// Nothing was given that could open it.
    #[error("it is locked with a passphrase, which was not given")]
    NoPassphrase,
    /// The same, with shares.
    #[error("it is locked with shares, any {needed} of its {of} open it, and none was given")]
    NoShares {
        /// How many it takes.
        needed: u8,
        /// How many there are.
        of: u8,
    },
    /// The Region's key opens with the domain key only.
    #[error("it is locked together with the domain key")]
    WithDomainKey,
    /// The passphrase is another one.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// Too few shares.
    #[error("{needed} different shares open it, and there {}", match numbers[..] {
        [only] => format!("is only number {only}"),
        _ => format!("are only the numbers {numbers:?}"),
    })]
    TooFew {
        /// How many it takes.
        needed: u8,
        /// Which there are.
        numbers: Vec<u8>,
    },
    /// Shares, but of something else.
    #[error("none of the shares is of this domain key; there are shares of {}", of.join(", "))]
    OtherShares {
        /// Of what.
        of: Vec<String>,
    },
    /// Shares of a lock that this domain key had or has elsewhere, such as a backup's.
    #[error(
        "the shares are of another lock of this domain key, such as an earlier one or a backup's; \
         those of this one have {lock} in them"
    )]
    OtherLock {
        /// What the right shares have in them.
        lock: String,
    },
    /// The shares made a key that does not fit.
    #[error("the shares do not open it together: one of them is forged")]
    Forged,
}

/// Whether a text would be taken for a passphrase again.
pub(super) fn is_passphrase(text: &str) -> bool {
    !text.contains(char::is_control) && kind_of(text) == Kind::Passphrase && !text.trim().is_empty()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Passphrase,
    Share,
    Key,
}

fn kind_of(line: &str) -> Kind {
    let first = line.split_whitespace().next().unwrap_or_default();
    let first = Zeroizing::new(first.to_lowercase());
    match first.as_str() {
        share::BEGINS => Kind::Share,
        KEY => Kind::Key,
        _ => Kind::Passphrase,
    }
}

impl Unlock {
    /// Reads a passphrase on one line, share lines, or both, as a file has them.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidUnlock> {
        let text = std::str::from_utf8(bytes).map_err(|_| InvalidUnlock::NotText)?;
        let mut unlock = Self::default();
        for (line, text) in (1..).zip(text.lines()) {
            if text.trim().is_empty() {
                continue;
            }
            let invalid = |problem| InvalidUnlock::Share { line, problem };
            match kind_of(text) {
                Kind::Share => unlock.shares.push(Share::parse(text).map_err(invalid)?),
                Kind::Key => {
                    let (lock, key) = parse_key(text).ok_or(invalid(InvalidShare::Cut))?;
                    unlock.keys.insert(lock, key);
                }
                Kind::Passphrase if unlock.passphrase.is_some() => {
                    return Err(InvalidUnlock::TwoPassphrases { line });
                }
                Kind::Passphrase => unlock.passphrase = Some(Zeroizing::new(text.to_owned())),
            }
        }
        match unlock.is_empty() {
            true => Err(InvalidUnlock::Empty),
            false => Ok(unlock),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.passphrase.is_none() && self.shares.is_empty() && self.keys.is_empty()
    }

    /// Takes the key of a file that was opened.
    pub(super) fn add_key(&mut self, lock: LockId, key: UnlockKey) {
        self.keys.insert(lock, key);
    }

    pub(super) fn add_keys_of(&mut self, other: &Self) {
        let keys = other.keys.iter();
        self.keys
            .extend(keys.map(|(&lock, key)| (lock, key.copy())));
    }

    /// The keys in it, for another process. Only a pipe may see this text.
    pub fn keys_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(128 * self.keys.len()));
        for (lock, key) in &self.keys {
            text.push_str(&format!("{KEY} {lock} "));
            text.push_str(&hex(key.0.as_slice()));
            text.push('\n');
        }
        text
    }

    /// The key that opens a lock, as far as can be known before it is tried.
    pub(super) fn key(&self, lock: &Lock, name: Fingerprint) -> Result<UnlockKey, StaysLocked> {
        if let Some(key) = self.keys.get(&lock.id) {
            return Ok(key.copy());
        }
        match lock.way {
            Way::Passphrase(_) => {
                let passphrase = self.passphrase.as_ref();
                let passphrase = passphrase.ok_or(StaysLocked::NoPassphrase)?;
                lock.key(passphrase).ok_or(StaysLocked::WrongPassphrase)
            }
            Way::Shares { needed, of } => {
                let ours = |share: &&Share| share.name == name && share.lock == lock.id;
                let shares: Vec<_> = self.shares.iter().filter(ours).collect();
                if shares.is_empty() {
                    return Err(self.no_shares(lock, name, needed, of));
                }
                let numbers: BTreeMap<u8, &Share> = shares
                    .into_iter()
                    .map(|share| (share.number, share))
                    .collect();
                let shares: Vec<_> = numbers.values().copied().collect();
                combine(needed, &shares).ok_or_else(|| StaysLocked::TooFew {
                    needed,
                    numbers: numbers.into_keys().collect(),
                })
            }
        }
    }

    fn no_shares(&self, lock: &Lock, name: Fingerprint, needed: u8, of: u8) -> StaysLocked {
        if self.shares.is_empty() {
            return StaysLocked::NoShares { needed, of };
        }
        if self.shares.iter().any(|share| share.name == name) {
            let lock = lock.id.to_string();
            return StaysLocked::OtherLock { lock };
        }
        let others = self.shares.iter();
        let others: BTreeSet<_> = others
            .map(|share| format!("{} ({})", share.region, share.name))
            .collect();
        let of = others.into_iter().collect();
        StaysLocked::OtherShares { of }
    }
}

fn parse_key(line: &str) -> Option<(LockId, UnlockKey)> {
    let mut parts = line.split(' ').skip(1);
    let lock = u64::from_str_radix(parts.next()?, 16).ok()?;
    Some((LockId(lock), UnlockKey(unhex(parts.next()?)?)))
}
