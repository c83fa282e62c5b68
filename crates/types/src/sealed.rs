//! Key material as it may be stored and sent: sealed.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::byte_string;

/// One version of a KMS key's material, sealed under the Region's domain key by `crypto`.
///
/// The bytes are opaque outside `crypto`, which writes a format version, the domain key's
/// version, a nonce and the ciphertext with its tag. Safe to log, but shown as a length only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedMaterial(#[serde(with = "byte_string")] pub Arc<[u8]>);

impl SealedMaterial {
    /// The version of the domain key that it is sealed under: the four bytes, big-endian, after the
    /// format. `None` for bytes of no known format, such as none at all.
    pub fn domain_key_version(&self) -> Option<u32> {
        match *self.0 {
            [SEALING_FORMAT, a, b, c, d, ..] => Some(u32::from_be_bytes([a, b, c, d])),
            _ => None,
        }
    }
}

/// The format that sealings under a domain key begin with.
pub const SEALING_FORMAT: u8 = 1;

impl fmt::Debug for SealedMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedMaterial({} bytes)", self.0.len())
    }
}
