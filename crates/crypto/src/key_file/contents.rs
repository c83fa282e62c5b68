//! What a domain key's file says.
//!
//! Format 1 has one version: `keyrum-domain-key 1`, `fingerprint F`, `key SECRET`. It is written as
//! long as that is all there is, so that older programs read it. Format 2 has a line for each version:
//!
//! ```text
//! keyrum-domain-key 2
//! fingerprint F          names the domain key: its first version's fingerprint
//! tokens SECRET          what tokens are authenticated with
//! version N F SECRET     for each version, by number
//! check C                SHA-256 over the lines above, its first 8 bytes
//! ```
//!
//! Secrets are in base64, everything else in hex or decimal. A locked file has two more lines after the
//! fingerprint, and its secrets are sealed (`lock`):
//!
//! ```text
//! region R
//! lock ID passphrase argon2id MEMORY_KIB PASSES LANES SALT, or: lock ID shares K N
//! ```
//!
//! A backup (`keyrum-backup 1`) is like format 2, locked or not, always has the line of its Region, and
//! has the Region's key as well: `region-key PUBLIC SECRET`, after the key for tokens.

use std::collections::BTreeMap;
use std::io::Write;
use std::iter::{Peekable, Skip};
use std::str::Lines;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyrum_types::{Entropy, Region};
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use super::error::SecretKind;
use super::lock::{FileLock, Lock, SEALED_BYTES, Way};
use super::unlock::{StaysLocked, Unlock};
use crate::keyring::{
    DOMAIN_KEY_BYTES, DomainKeyring, DomainSecret, FIRST_DOMAIN_KEY_VERSION, Fingerprint,
};
use crate::wrap::RegionKey;

const TOKENS: &str = "tokens";
const VERSION: &str = "version";
const REGION_KEY: &str = "region-key";

/// Bytes of a check.
const CHECK_BYTES: usize = 8;

pub(super) const NO_TEXT: &str = "it is not text";
pub(super) const OTHER_FORMAT: &str = "it was written by another version of Keyrum";
pub(super) const NO_BEGINNING: &str = "it does not begin like one";
pub(super) const NO_KEY: &str = "its key is missing";
pub(super) const BAD_KEY: &str = "its key is damaged";
pub(super) const MIXED: &str = "its two values do not belong together, so one of them is damaged";

/// A secret of a file.
pub(super) type Secret = Zeroizing<[u8; DOMAIN_KEY_BYTES]>;

/// A domain key with all that its file has of it.
pub(super) struct Contents {
    pub(super) name: Fingerprint,
    pub(super) tokens: Secret,
    pub(super) versions: BTreeMap<u32, DomainSecret>,
    /// How the file is locked, if it is.
    pub(super) lock: Option<FileLock>,
}

/// What a backup has.
pub(super) struct BackedUp {
    pub(super) region: Region,
    pub(super) domain: Contents,
    pub(super) region_key: RegionKey,
}

/// Why a file's text gives no domain key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    Damaged(&'static str),
    Locked(StaysLocked),
}

impl From<&'static str> for Unfit {
    fn from(problem: &'static str) -> Self {
        Self::Damaged(problem)
    }
}

/// The lines of a file behind its name, and how the secrets in them are opened.
struct Body<'t> {
    name: Fingerprint,
    region: Option<Region>,
    lock: Option<FileLock>,
    lines: Peekable<Skip<Lines<'t>>>,
}

impl<'t> Body<'t> {
    fn parse(text: &'t str, unlock: &Unlock) -> Result<Self, Unfit> {
        let mut lines = checked(text)?.lines().skip(1).peekable();
        let name = parse_name(lines.next())?;
        let region = field(lines.peek().copied(), "region");
        let region: Option<Region> = match region {
            None => None,
            Some(region) => Some(region.parse().map_err(|_| "its Region is damaged")?),
        };
        if region.is_some() {
            lines.next();
        }
        let lock = match field(lines.peek().copied(), "lock") {
            None => None,
            Some(lock) => {
                lines.next();
                let lock = Lock::parse(lock)?;
                let region = region.clone().ok_or("its Region is missing")?;
                let key = unlock.key(&lock, name).map_err(Unfit::Locked)?;
                Some(FileLock {
                    lock,
                    key,
                    region,
                    name,
                })
            }
        };
        Ok(Self {
            name,
            region,
            lock,
            lines,
        })
    }

    fn secret(&self, what: &str, encoded: &str) -> Option<Secret> {
        match &self.lock {
            None => bytes_of(encoded),
            Some(lock) => lock.open(what, &*bytes_of(encoded)?),
        }
    }

    fn tokens(&mut self) -> Result<Secret, Unfit> {
        let encoded = field(self.lines.next(), TOKENS).ok_or("its key for tokens is missing")?;
        let stays = self.lock.as_ref().map(|lock| lock.lock.way);
        self.secret(TOKENS, encoded).ok_or(match stays {
            None => Unfit::Damaged("its key for tokens is damaged"),
            // The file fits its check, so it is the key that does not fit.
            Some(Way::Passphrase(_)) => Unfit::Locked(StaysLocked::WrongPassphrase),
            Some(Way::Shares { .. }) => Unfit::Locked(StaysLocked::Forged),
        })
    }

    fn region_key(&mut self) -> Result<RegionKey, Unfit> {
        const DAMAGED: &str = "its Region key is damaged";
        let line = field(self.lines.next(), REGION_KEY).ok_or("its Region key is missing")?;
        let (public, encoded) = line.split_once(' ').ok_or(DAMAGED)?;
        let secret = self.secret(&format!("{REGION_KEY} {public}"), encoded);
        let key = RegionKey::from_bytes(&*secret.ok_or(DAMAGED)?);
        let key = key.filter(|key| Ok(key.public()) == public.parse());
        Ok(key.ok_or(DAMAGED)?)
    }

    fn version(&self, line: &str) -> Result<(u32, DomainSecret), &'static str> {
        let damaged = "a line of its versions is damaged";
        let line = field(Some(line), VERSION).ok_or(damaged)?;
        let (head, encoded) = line.rsplit_once(' ').ok_or(damaged)?;
        let (number, name) = head.split_once(' ').ok_or(damaged)?;
        let version = number.parse().ok().filter(|&version| version > 0);
        let version = version.ok_or(damaged)?;
        let secret = self.secret(&format!("{VERSION} {head}"), encoded);
        let secret = DomainSecret::from_bytes(secret.ok_or(BAD_KEY)?);
        match name.parse() == Ok(secret.fingerprint()) {
            true => Ok((version, secret)),
            false => Err(MIXED),
        }
    }

    /// The rest is versions.
    fn finish(mut self, tokens: Secret) -> Result<Contents, Unfit> {
        let mut versions = BTreeMap::new();
        while let Some(line) = self.lines.next() {
            let (version, secret) = self.version(line)?;
            if versions.insert(version, secret).is_some() {
                return Err(Unfit::Damaged("it has two versions of one number"));
            }
        }
        let name = self.name;
        match versions.first_key_value() {
            None => Err(Unfit::Damaged("it has no version")),
            Some((&FIRST_DOMAIN_KEY_VERSION, first))
                if first.fingerprint() != name || first.tokens() != tokens =>
            {
                let problem = "its first version is not the one it is named after";
                Err(Unfit::Damaged(problem))
            }
            Some(_) => Ok(Contents {
                name,
                tokens,
                versions,
                lock: self.lock,
            }),
        }
    }
}

impl Contents {
    /// A new domain key's.
    pub(super) fn first(secret: DomainSecret) -> Self {
        Self {
            name: secret.fingerprint(),
            tokens: secret.tokens(),
            versions: BTreeMap::from([(FIRST_DOMAIN_KEY_VERSION, secret)]),
            lock: None,
        }
    }

    /// Reads a file; why it cannot be used, if it cannot.
    pub(super) fn parse(bytes: &[u8], unlock: &Unlock) -> Result<Self, Unfit> {
        let text = std::str::from_utf8(bytes).map_err(|_| NO_TEXT)?;
        match format_of(text, SecretKind::DomainKey.begins()) {
            Some("1") => Ok(Self::parse_1(text)?),
            Some("2") => {
                let mut body = Body::parse(text, unlock)?;
                let tokens = body.tokens()?;
                body.finish(tokens)
            }
            Some(_) => Err(Unfit::Damaged(OTHER_FORMAT)),
            None => Err(Unfit::Damaged(NO_BEGINNING)),
        }
    }

    fn parse_1(text: &str) -> Result<Self, &'static str> {
        let mut lines = text.lines().skip(1);
        let name = parse_name(lines.next())?;
        let secret = field(lines.next(), "key").ok_or(NO_KEY)?;
        let secret = bytes_of(secret).ok_or(BAD_KEY)?;
        let contents = Self::first(DomainSecret::from_bytes(secret));
        match contents.name == name {
            true => Ok(contents),
            false => Err(MIXED),
        }
    }

    /// The file's text.
    pub(super) fn render(&self, entropy: &dyn Entropy) -> Zeroizing<Vec<u8>> {
        let mut text = Text::new(SecretKind::DomainKey.begins());
        let name = self.name;
        if let Some(only) = self.only() {
            text.say(format_args!("1\nfingerprint {name}\nkey "));
            text.secret(only.expose());
            return text.0;
        }
        text.say(format_args!("2\nfingerprint {name}\n"));
        if let Some(lock) = &self.lock {
            text.say(format_args!("region {}\nlock {}\n", lock.region, lock.lock));
        }
        self.secret(&mut text, TOKENS, &self.tokens, entropy);
        self.render_versions(&mut text, entropy);
        text.checked()
    }

    fn render_versions(&self, text: &mut Text, entropy: &dyn Entropy) {
        for (version, secret) in &self.versions {
            let what = format!("{VERSION} {version} {}", secret.fingerprint());
            self.secret(text, &what, secret.expose(), entropy);
        }
    }

    /// A line with a secret, sealed if the file is locked.
    fn secret(
        &self,
        text: &mut Text,
        what: &str,
        secret: &[u8; DOMAIN_KEY_BYTES],
        entropy: &dyn Entropy,
    ) {
        text.say(format_args!("{what} "));
        match &self.lock {
            None => text.secret(secret),
            Some(lock) => text.secret(&lock.seal(what, secret, entropy)),
        }
    }

    /// The first version, if there is no other and no lock.
    fn only(&self) -> Option<&DomainSecret> {
        match self.versions.len() {
            1 if self.lock.is_none() => self.versions.get(&FIRST_DOMAIN_KEY_VERSION),
            _ => None,
        }
    }

    /// The domain key in memory.
    pub(super) fn into_keyring(self) -> DomainKeyring {
        DomainKeyring::from_parts(self.name, self.tokens, self.versions)
            .expect("what a file holds belongs together")
    }
}

impl BackedUp {
    /// Reads a backup; why it cannot be used, if it cannot.
    pub(super) fn parse(bytes: &[u8], unlock: &Unlock) -> Result<Self, Unfit> {
        let text = std::str::from_utf8(bytes).map_err(|_| NO_TEXT)?;
        match format_of(text, SecretKind::Backup.begins()) {
            Some("1") => {}
            Some(_) => return Err(Unfit::Damaged(OTHER_FORMAT)),
            None => return Err(Unfit::Damaged(NO_BEGINNING)),
        }
        let mut body = Body::parse(text, unlock)?;
        let region = body.region.clone().ok_or("its Region is missing")?;
        let tokens = body.tokens()?;
        Ok(Self {
            region,
            region_key: body.region_key()?,
            domain: body.finish(tokens)?,
        })
    }

    /// The backup's text.
    pub(super) fn render(&self, entropy: &dyn Entropy) -> Zeroizing<Vec<u8>> {
        let mut text = Text::new(SecretKind::Backup.begins());
        let (name, region, domain) = (self.domain.name, &self.region, &self.domain);
        text.say(format_args!("1\nfingerprint {name}\nregion {region}\n"));
        if let Some(lock) = &domain.lock {
            text.say(format_args!("lock {}\n", lock.lock));
        }
        domain.secret(&mut text, TOKENS, &domain.tokens, entropy);
        let what = format!("{REGION_KEY} {}", self.region_key.public());
        domain.secret(&mut text, &what, &self.region_key.expose(), entropy);
        domain.render_versions(&mut text, entropy);
        text.checked()
    }
}

/// A key file's text while it is written.
pub(super) struct Text(pub(super) Zeroizing<Vec<u8>>);

impl Text {
    pub(super) fn new(begins: &str) -> Self {
        // Large enough that nearly no text grows, which would leave a copy behind.
        let mut text = Self(Zeroizing::new(Vec::with_capacity(16 << 10)));
        text.say(format_args!("{begins}"));
        text
    }

    pub(super) fn say(&mut self, words: std::fmt::Arguments<'_>) {
        self.0.write_fmt(words).expect("memory takes every write");
    }

    /// Ends a line with a secret.
    pub(super) fn secret(&mut self, secret: &[u8]) {
        let mut encoded = Zeroizing::new([0; SEALED_BYTES.div_ceil(3) * 4]);
        let length = STANDARD
            .encode_slice(secret, encoded.as_mut_slice())
            .expect("the buffer has room for the whole encoding");
        self.0.extend_from_slice(&encoded[..length]);
        self.0.push(b'\n');
    }

    /// The text with its check.
    fn checked(mut self) -> Zeroizing<Vec<u8>> {
        let check = check_of(&self.0);
        self.say(format_args!("check {check}\n"));
        self.0
    }
}

/// The format that a text's first line names, if it begins like one of the kind.
pub(super) fn format_of<'t>(text: &'t str, begins: &str) -> Option<&'t str> {
    text.lines().next()?.strip_prefix(begins)
}

/// The value of a line `NAME VALUE`.
pub(super) fn field<'t>(line: Option<&'t str>, name: &str) -> Option<&'t str> {
    line?.strip_prefix(name)?.strip_prefix(' ')
}

fn parse_name(line: Option<&str>) -> Result<Fingerprint, &'static str> {
    field(line, "fingerprint")
        .and_then(|name| name.parse().ok())
        .ok_or("its fingerprint is damaged")
}

/// A secret, plain or sealed, from its base64.
pub(super) fn bytes_of<const N: usize>(encoded: &str) -> Option<Zeroizing<[u8; N]>> {
    // Decoded by the estimate's size, which rounds up.
    let mut decoded = Zeroizing::new([0; SEALED_BYTES.div_ceil(3) * 3]);
    let length = STANDARD
        .decode_slice(encoded, decoded.as_mut_slice())
        .ok()?;
    let mut secret = Zeroizing::new([0; N]);
    if length != N {
        return None;
    }
    secret.copy_from_slice(&decoded[..N]);
    Some(secret)
}

/// The lines that the last one checks.
fn checked(text: &str) -> Result<&str, &'static str> {
    let cut = "it is cut off or damaged: its check is missing";
    let body = text.strip_suffix('\n').ok_or(cut)?;
    let at = body.rfind('\n').ok_or(cut)? + 1;
    let (lines, last) = body.split_at(at);
    let check = field(Some(last), "check").ok_or(cut)?;
    match check == check_of(lines.as_bytes()) {
        true => Ok(lines),
        false => Err("it is damaged: it does not fit its check"),
    }
}

pub(super) fn check_of(lines: &[u8]) -> String {
    let digest = digest(&SHA256, lines);
    let bytes = digest.as_ref()[..CHECK_BYTES].iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}
