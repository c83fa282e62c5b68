//! Key material as it may be stored and sent: sealed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One version of a KMS key's material, sealed under the Region's domain key by `crypto`.
///
/// The bytes are opaque outside `crypto`, which writes a format version, the domain key's
/// version, a nonce and the ciphertext with its tag. Safe to log, but shown as a length only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedMaterial(pub Box<[u8]>);

impl fmt::Debug for SealedMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedMaterial({} bytes)", self.0.len())
    }
}
