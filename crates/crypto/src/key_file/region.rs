//! The file of the key that other Regions wrap material to.
//!
//! Format 1 is `keyrum-region-key 1`, `public P`, `key SECRET`. Beside a locked domain key it has format 2,
//! whose secret is sealed under a key derived from the domain key's key for tokens: that is what stays
//! when versions go, so another lock of the domain key leaves this file as it is.

use std::path::Path;

use keyrum_types::Entropy;
use zeroize::Zeroizing;

use super::contents::{
    BAD_KEY, MIXED, NO_BEGINNING, NO_KEY, NO_TEXT, OTHER_FORMAT, Secret, Text, Unfit, bytes_of,
    field, format_of,
};
use super::disk::{Old, Place};
use super::error::{KeyFileError, SecretKind};
use super::lock::UnlockKey;
use super::unlock::StaysLocked;
use crate::kdf::{derive, prf_key};
use crate::keyring::DOMAIN_KEY_BYTES;
use crate::wrap::{REGION_KEY_BYTES, RegionKey, RegionPublicKey};

// Both secrets have this length, so one pair of functions reads and writes them.
const _: () = assert!(DOMAIN_KEY_BYTES == REGION_KEY_BYTES);

/// Reads the secret half of the Region's key pair from a file that is not locked. A missing file is
/// [`KeyFileError::Missing`].
pub fn load_region_key(path: &Path) -> Result<RegionKey, KeyFileError> {
    let place = Place::new(path, SecretKind::RegionKey);
    read(&place, || {
        Err(place.unfit(Unfit::Locked(StaysLocked::WithDomainKey)))
    })
}

/// Makes a new key pair for the Region and its file. Durable on return.
pub fn create_region_key(path: &Path, entropy: &dyn Entropy) -> Result<RegionKey, KeyFileError> {
    let key = RegionKey::generate(entropy);
    write_new(path, &key, None, entropy)?;
    Ok(key)
}

/// What seals the Region's key beside a locked domain key.
pub(super) fn seal_of(tokens: &Secret) -> UnlockKey {
    let key = derive(&prf_key(tokens.as_slice()), "keyrum Region key file 1", &[]);
    UnlockKey(key)
}

/// Writes a file that is not there yet.
pub(super) fn write_new(
    path: &Path,
    key: &RegionKey,
    seal: Option<&UnlockKey>,
    entropy: &dyn Entropy,
) -> Result<(), KeyFileError> {
    let place = Place::new(path, SecretKind::RegionKey);
    place.create(&render(key, seal, entropy), entropy)
}

/// Reads a file; `seal` gives what a locked one is opened with.
pub(super) fn read(
    place: &Place,
    seal: impl FnOnce() -> Result<UnlockKey, KeyFileError>,
) -> Result<RegionKey, KeyFileError> {
    let bytes = place.read()?;
    let unusable = |problem| place.unusable(problem);
    let text = std::str::from_utf8(&bytes).map_err(|_| unusable(NO_TEXT))?;
    match format_of(text, SecretKind::RegionKey.begins()) {
        Some("1") => parse(text, None).map_err(unusable),
        Some("2") => parse(text, Some(&seal()?)).map_err(unusable),
        Some(_) => Err(unusable(OTHER_FORMAT)),
        None => Err(unusable(NO_BEGINNING)),
    }
}

/// Seals a file, or makes it plain. One that is not there, or is so already, is left alone.
pub(super) fn rewrite(
    place: &Place,
    now: &UnlockKey,
    seal: Option<&UnlockKey>,
    entropy: &dyn Entropy,
) -> Result<(), KeyFileError> {
    let held = match place.hold() {
        Err(KeyFileError::Missing { .. }) => return Ok(()),
        held => held?,
    };
    let mut sealed = false;
    let key = read(place, || {
        sealed = true;
        Ok(now.copy())
    })?;
    held.tidy()?;
    if sealed == seal.is_some() {
        return Ok(());
    }
    let old = match seal {
        Some(_) => Old::Wipe,
        None => Old::Forget,
    };
    held.replace(&render(&key, seal, entropy), old)
}

fn render(key: &RegionKey, seal: Option<&UnlockKey>, entropy: &dyn Entropy) -> Zeroizing<Vec<u8>> {
    let mut text = Text::new(SecretKind::RegionKey.begins());
    let public = key.public().to_string();
    match seal {
        None => {
            text.say(format_args!("1\npublic {public}\nkey "));
            text.secret(key.expose().as_slice());
        }
        Some(seal) => {
            text.say(format_args!("2\npublic {public}\nkey "));
            text.secret(&seal.seal(&bound_to(&public), &key.expose(), entropy));
        }
    }
    text.0
}

fn bound_to(public: &str) -> String {
    format!("keyrum Region key\n{public}")
}

fn parse(text: &str, seal: Option<&UnlockKey>) -> Result<RegionKey, &'static str> {
    let mut lines = text.lines().skip(1);
    let text = field(lines.next(), "public").unwrap_or_default();
    let public: RegionPublicKey = text.parse().map_err(|_| "its public key is damaged")?;
    let secret = field(lines.next(), "key").ok_or(NO_KEY)?;
    let secret: Option<Secret> = match seal {
        None => bytes_of(secret),
        Some(seal) => bytes_of(secret).and_then(|sealed| seal.open(&bound_to(text), &sealed)),
    };
    RegionKey::from_bytes(&*secret.ok_or(BAD_KEY)?)
        .filter(|key| key.public() == public)
        .ok_or(MIXED)
}
