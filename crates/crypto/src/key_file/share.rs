//! Shares of the key that opens a lock, as lines that can be printed and typed.
//!
//! ```text
//! keyrum-share 1 REGION FINGERPRINT LOCK NUMBER K/N SECRET CHECK
//! ```
//!
//! Fingerprint, lock and check (SHA-256 over what is before, its first 4 bytes) are hex, and so is the
//! secret, in groups of 8 digits. Capitals, spaces and hyphens do not matter where a share is read.
//! Splitting and combining are the crate `vsss-rs`': Shamir's scheme over GF(256), a polynomial per byte.

use std::fmt::Write;

use keyrum_types::{Entropy, Region};
use ring::digest::{SHA256, digest};
use vsss_rs::Gf256;
use zeroize::Zeroizing;

use super::lock::{FileLock, LockId, UNLOCK_KEY_BYTES, UnlockKey};
use crate::draw::Draw;
use crate::keyring::Fingerprint;

pub(super) const BEGINS: &str = "keyrum-share";
const FORMAT: &str = "1";
const CHECK_BYTES: usize = 4;

/// One share of the key that opens a lock.
pub struct Share {
    pub(super) region: Region,
    pub(super) name: Fingerprint,
    pub(super) lock: LockId,
    pub(super) number: u8,
    needed: u8,
    of: u8,
    secret: Zeroizing<[u8; UNLOCK_KEY_BYTES]>,
}

/// Why a line is no share. The text shows nothing of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidShare {
    /// A share of some other form.
    #[error("is a share of another version of Keyrum")]
    OtherFormat,
    /// A part of it is missing.
    #[error("is a share that is cut off")]
    Cut,
    /// It was changed.
    #[error("is a share that was mistyped or damaged: it does not fit its last 8 digits")]
    Mistyped,
}

impl Share {
    /// Which of the shares it is, from 1.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// The line that is printed and kept.
    pub fn line(&self) -> Zeroizing<String> {
        let digits = hex(self.secret.as_slice());
        let mut line = Zeroizing::new(String::with_capacity(256));
        line.push_str(&self.head());
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && at % 8 == 0 {
                line.push('-');
            }
            line.push(digit);
        }
        let check = self.check();
        write!(line, " {check}").expect("memory takes every write");
        line
    }

    /// All but the secret and the check.
    fn head(&self) -> String {
        let Self {
            region,
            name,
            lock,
            number,
            needed,
            of,
            ..
        } = self;
        format!("{BEGINS} {FORMAT} {region} {name} {lock} {number} {needed}/{of} ")
    }

    fn check(&self) -> String {
        let mut text = Zeroizing::new(self.head().into_bytes());
        text.reserve_exact(2 * UNLOCK_KEY_BYTES);
        text.extend_from_slice(hex(self.secret.as_slice()).as_bytes());
        hex(&digest(&SHA256, &text).as_ref()[..CHECK_BYTES]).to_string()
    }

    pub(super) fn parse(line: &str) -> Result<Self, InvalidShare> {
        let line = Zeroizing::new(line.to_lowercase());
        let mut parts = line.split_whitespace();
        let mut part = || parts.next().ok_or(InvalidShare::Cut);
        if part()? != BEGINS {
            return Err(InvalidShare::Cut);
        }
        if part()? != FORMAT {
            return Err(InvalidShare::OtherFormat);
        }
        let (region, name, lock, number, counts) = (part()?, part()?, part()?, part()?, part()?);
        let mistyped = InvalidShare::Mistyped;
        let (needed, of) = counts.split_once('/').ok_or(mistyped)?;
        let count = |text: &str| text.parse::<u8>().map_err(|_| mistyped);
        // People and printers break long rows of digits anywhere.
        let mut digits = Zeroizing::new(String::with_capacity(256));
        for rest in parts {
            digits.extend(rest.chars().filter(|&digit| digit != '-'));
        }
        let at = 2 * UNLOCK_KEY_BYTES;
        let (secret, check) = digits.split_at_checked(at).ok_or(InvalidShare::Cut)?;
        let share = Self {
            region: region.parse().map_err(|_| mistyped)?,
            name: name.parse().map_err(|_| mistyped)?,
            lock: LockId(u64::from_str_radix(lock, 16).map_err(|_| mistyped)?),
            number: count(number)?,
            needed: count(needed)?,
            of: count(of)?,
            secret: unhex(secret).ok_or(mistyped)?,
        };
        match share.check() == check {
            true => Ok(share),
            false => Err(mistyped),
        }
    }
}

/// The shares of a new lock's key.
pub(super) fn split(new: &FileLock, needed: u8, of: u8, entropy: &dyn Entropy) -> Vec<Share> {
    let key = new.key.0.as_slice();
    let shares = Gf256::split_array(needed.into(), of.into(), key, Draw(entropy));
    let shares =
        shares.expect("2 to 255 shares can be made of a key, of which 2 or more are needed");
    let share = |bytes: Vec<u8>| {
        let bytes = Zeroizing::new(bytes);
        let mut secret = Zeroizing::new([0; UNLOCK_KEY_BYTES]);
        secret.copy_from_slice(&bytes[1..]);
        Share {
            region: new.region.clone(),
            name: new.name,
            lock: new.lock.id,
            number: bytes[0],
            needed,
            of,
            secret,
        }
    };
    shares.into_iter().map(share).collect()
}

/// The key that shares of one lock, no two alike, make up; `None` if they are too few.
pub(super) fn combine(needed: u8, shares: &[&Share]) -> Option<UnlockKey> {
    if shares.len() < usize::from(needed) {
        return None;
    }
    let bytes = |share: &&Share| {
        let mut bytes = Vec::with_capacity(1 + UNLOCK_KEY_BYTES);
        bytes.push(share.number);
        bytes.extend_from_slice(share.secret.as_slice());
        bytes
    };
    let shares: Zeroizing<Vec<Vec<u8>>> = Zeroizing::new(shares.iter().map(bytes).collect());
    let key = Zeroizing::new(Gf256::combine_array(&*shares).ok()?);
    let mut bytes = Zeroizing::new([0; UNLOCK_KEY_BYTES]);
    bytes.copy_from_slice(key.get(..UNLOCK_KEY_BYTES)?);
    Some(UnlockKey(bytes))
}

pub(super) fn hex(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    for byte in bytes {
        write!(text, "{byte:02x}").expect("memory takes every write");
    }
    text
}

pub(super) fn unhex(text: &str) -> Option<Zeroizing<[u8; UNLOCK_KEY_BYTES]>> {
    let mut bytes = Zeroizing::new([0; UNLOCK_KEY_BYTES]);
    if text.len() != 2 * UNLOCK_KEY_BYTES {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(bytes)
}
