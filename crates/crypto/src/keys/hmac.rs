//! HMAC keys.

use aws_lc_rs::hmac;
use keyrum_types::{KeySpec, MacAlgorithm};

/// aws-lc zeroes the state that it derives from the secret.
pub(super) struct HmacKey(hmac::Key);

impl HmacKey {
    pub(super) fn new(spec: KeySpec, secret: &[u8]) -> Option<Self> {
        // The partition changes symmetric keys only.
        if !spec.secret_bytes("aws")?.contains(&secret.len()) {
            return None;
        }
        let hash = match spec.mac_algorithms().first()? {
            MacAlgorithm::HmacSha224 => hmac::HMAC_SHA224,
            MacAlgorithm::HmacSha256 => hmac::HMAC_SHA256,
            MacAlgorithm::HmacSha384 => hmac::HMAC_SHA384,
            MacAlgorithm::HmacSha512 => hmac::HMAC_SHA512,
        };
        Some(Self(hmac::Key::new(hash, secret)))
    }

    pub(super) fn mac(&self, message: &[u8]) -> Vec<u8> {
        hmac::sign(&self.0, message).as_ref().to_vec()
    }

    pub(super) fn verify(&self, message: &[u8], mac: &[u8]) -> bool {
        hmac::verify(&self.0, message, mac).is_ok()
    }
}
