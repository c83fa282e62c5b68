//! The public name of a domain key, or of one version of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Names a domain key without giving it away: 8 bytes, 16 hex digits in text.
///
/// A node stores it beside its data, to tell a wrong domain key from damaged material.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(pub [u8; 8]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The text is not 16 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a domain key's fingerprint: 16 lower-case hex digits")]
pub struct InvalidFingerprint;

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = u64::from_str_radix(text, 16).map_err(|_| InvalidFingerprint)?;
        let fingerprint = Self(number.to_be_bytes());
        // Only one text stands for a fingerprint: no signs, no capitals, no lost zeros.
        (fingerprint.to_string() == text)
            .then_some(fingerprint)
            .ok_or(InvalidFingerprint)
    }
}
