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
//! Secrets are in base64, everything else in hex or decimal.

use std::collections::BTreeMap;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use super::error::SecretKind;
use crate::keyring::{
    DOMAIN_KEY_BYTES, DomainKeyring, DomainSecret, FIRST_DOMAIN_KEY_VERSION, Fingerprint,
};

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
}

impl Contents {
    /// A new domain key's.
    pub(super) fn first(secret: DomainSecret) -> Self {
        Self {
            name: secret.fingerprint(),
            tokens: secret.tokens(),
            versions: BTreeMap::from([(FIRST_DOMAIN_KEY_VERSION, secret)]),
        }
    }

    /// Reads a file; what is wrong with it, if it cannot be used.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(bytes).map_err(|_| NO_TEXT)?;
        let first = text.lines().next();
        match first.and_then(|line| line.strip_prefix(SecretKind::DomainKey.begins())) {
            Some("1") => Self::parse_1(text),
            Some("2") => Self::parse_2(text),
            Some(_) => Err(OTHER_FORMAT),
            None => Err(NO_BEGINNING),
        }
    }

    fn parse_1(text: &str) -> Result<Self, &'static str> {
        let mut lines = text.lines().skip(1);
        let name = parse_name(lines.next())?;
        let secret = field(lines.next(), "key").ok_or(NO_KEY)?;
        let contents = Self::first(secret_of(secret)?);
        match contents.name == name {
            true => Ok(contents),
            false => Err(MIXED),
        }
    }

    fn parse_2(text: &str) -> Result<Self, &'static str> {
        let text = checked(text)?;
        let mut lines = text.lines().skip(1).peekable();
        let name = parse_name(lines.next())?;
        let tokens = field(lines.next(), "tokens").ok_or("its key for tokens is missing")?;
        let tokens = bytes_of(tokens).ok_or("its key for tokens is damaged")?;
        let mut versions = BTreeMap::new();
        for line in lines {
            let (version, secret) = parse_version(line)?;
            if versions.insert(version, secret).is_some() {
                return Err("it has two versions of one number");
            }
        }
        let contents = Self {
            name,
            tokens,
            versions,
        };
        match contents.versions.first_key_value() {
            None => Err("it has no version"),
            Some((&FIRST_DOMAIN_KEY_VERSION, first))
                if first.fingerprint() != name || first.tokens() != contents.tokens =>
            {
                Err("its first version is not the one it is named after")
            }
            Some(_) => Ok(contents),
        }
    }

    /// The file's text.
    pub(super) fn render(&self) -> Zeroizing<Vec<u8>> {
        let mut text = Text::new(SecretKind::DomainKey);
        let name = self.name;
        if let Some(only) = self.only() {
            text.say(format_args!("1\nfingerprint {name}\nkey "));
            text.secret(only.expose());
            return text.0;
        }
        text.say(format_args!("2\nfingerprint {name}\ntokens "));
        text.secret(&self.tokens);
        for (version, secret) in &self.versions {
            let fingerprint = secret.fingerprint();
            text.say(format_args!("version {version} {fingerprint} "));
            text.secret(secret.expose());
        }
        let check = check_of(&text.0);
        text.say(format_args!("check {check}\n"));
        text.0
    }

    /// The first version, if there is no other.
    fn only(&self) -> Option<&DomainSecret> {
        match self.versions.len() {
            1 => self.versions.get(&FIRST_DOMAIN_KEY_VERSION),
            _ => None,
        }
    }

    /// The domain key in memory.
    pub(super) fn into_keyring(self) -> DomainKeyring {
        DomainKeyring::from_parts(self.name, self.tokens, self.versions)
            .expect("what a file holds belongs together")
    }
}

/// A key file's text while it is written.
pub(super) struct Text(pub(super) Zeroizing<Vec<u8>>);

impl Text {
    pub(super) fn new(kind: SecretKind) -> Self {
        // Large enough that nearly no text grows, which would leave a copy behind.
        let mut text = Self(Zeroizing::new(Vec::with_capacity(16 << 10)));
        text.say(format_args!("{}", kind.begins()));
        text
    }

    pub(super) fn say(&mut self, words: std::fmt::Arguments<'_>) {
        self.0.write_fmt(words).expect("memory takes every write");
    }

    /// Ends a line with a secret.
    pub(super) fn secret(&mut self, secret: &[u8; DOMAIN_KEY_BYTES]) {
        let mut encoded = Zeroizing::new([0; DOMAIN_KEY_BYTES.div_ceil(3) * 4]);
        let length = STANDARD
            .encode_slice(secret, encoded.as_mut_slice())
            .expect("the buffer has room for the whole encoding");
        self.0.extend_from_slice(&encoded[..length]);
        self.0.push(b'\n');
    }
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

fn parse_version(line: &str) -> Result<(u32, DomainSecret), &'static str> {
    let damaged = "a line of its versions is damaged";
    let mut parts = field(Some(line), "version").ok_or(damaged)?.split(' ');
    let mut part = || parts.next().ok_or(damaged);
    let (number, name, secret) = (part()?, part()?, part()?);
    let version = number.parse().ok().filter(|&version| version > 0);
    let version = version.ok_or(damaged)?;
    let secret = secret_of(secret)?;
    match name.parse() == Ok(secret.fingerprint()) && parts.next().is_none() {
        true => Ok((version, secret)),
        false => Err(MIXED),
    }
}

fn secret_of(encoded: &str) -> Result<DomainSecret, &'static str> {
    bytes_of(encoded)
        .map(DomainSecret::from_bytes)
        .ok_or(BAD_KEY)
}

/// A secret from its base64.
pub(super) fn bytes_of(encoded: &str) -> Option<Secret> {
    let mut secret = Zeroizing::new([0; DOMAIN_KEY_BYTES]);
    // Decoded by the estimate's size, which rounds up.
    let mut decoded = Zeroizing::new([0; DOMAIN_KEY_BYTES.div_ceil(3) * 3]);
    match STANDARD.decode_slice(encoded, decoded.as_mut_slice()) {
        Ok(DOMAIN_KEY_BYTES) => {
            secret.copy_from_slice(&decoded[..DOMAIN_KEY_BYTES]);
            Some(secret)
        }
        _ => None,
    }
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

fn check_of(lines: &[u8]) -> String {
    let digest = digest(&SHA256, lines);
    let bytes = digest.as_ref()[..CHECK_BYTES].iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}
