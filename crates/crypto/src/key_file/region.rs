//! The file of the key that other Regions wrap material to.

use std::path::Path;

use keyrum_types::Entropy;

use super::contents::{BAD_KEY, MIXED, NO_BEGINNING, NO_KEY, NO_TEXT, OTHER_FORMAT, Text};
use super::contents::{bytes_of, field};
use super::disk::Place;
use super::error::{KeyFileError, SecretKind};
use crate::keyring::DOMAIN_KEY_BYTES;
use crate::wrap::{REGION_KEY_BYTES, RegionKey, RegionPublicKey};

// Both secrets have this length, so one pair of functions reads and writes them.
const _: () = assert!(DOMAIN_KEY_BYTES == REGION_KEY_BYTES);

/// Reads the secret half of the Region's key pair. A missing file is [`KeyFileError::Missing`].
pub fn load_region_key(path: &Path) -> Result<RegionKey, KeyFileError> {
    let place = Place::new(path, SecretKind::RegionKey);
    parse(&place.read()?).map_err(|problem| place.unusable(problem))
}

/// Makes a new key pair for the Region and its file. Durable on return.
pub fn create_region_key(path: &Path, entropy: &dyn Entropy) -> Result<RegionKey, KeyFileError> {
    let key = RegionKey::generate(entropy);
    let place = Place::new(path, SecretKind::RegionKey);
    let mut text = Text::new(SecretKind::RegionKey);
    text.say(format_args!("1\npublic {}\nkey ", key.public()));
    text.secret(&key.expose());
    place.create(&text.0, entropy)?;
    Ok(key)
}

fn parse(bytes: &[u8]) -> Result<RegionKey, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| NO_TEXT)?;
    let mut lines = text.lines();
    let first = lines.next();
    match first.and_then(|line| line.strip_prefix(SecretKind::RegionKey.begins())) {
        Some("1") => {}
        Some(_) => return Err(OTHER_FORMAT),
        None => return Err(NO_BEGINNING),
    }
    let public: Option<RegionPublicKey> =
        field(lines.next(), "public").and_then(|public| public.parse().ok());
    let public = public.ok_or("its public key is damaged")?;
    let secret = field(lines.next(), "key").ok_or(NO_KEY)?;
    let secret = bytes_of(secret).ok_or(BAD_KEY)?;
    RegionKey::from_bytes(&secret)
        .filter(|key| key.public() == public)
        .ok_or(MIXED)
}
