//! Key material in the clear, and what names it.

use std::io::Write;

use keyrum_types::{AccountId, Entropy, KeyId, MaterialId};
use ring::digest;
use zeroize::Zeroizing;

/// Bytes in a symmetric key's material. Source: AWS KMS, `SYMMETRIC_DEFAULT` is AES-256.
pub const MATERIAL_BYTES: usize = 32;

/// The most bytes that any material may have; the longest today is an RSA_4096 key's, 2.4 KiB.
pub const MATERIAL_BYTES_MAX: usize = 8192;

/// One version of a KMS key's material, in the clear.
///
/// It cannot be copied, shown or serialized, and is zeroed when dropped. The bytes leave this
/// crate only sealed. They are the canonical form of the key's spec, so that the same key has the
/// same bytes, and so the same [`MaterialId`], in every Region:
///
/// | spec | bytes |
/// |---|---|
/// | `SYMMETRIC_DEFAULT`, `HMAC_*` | the secret itself |
/// | `RSA_*` | PKCS#8 in DER without attributes |
/// | `ECC_*`, `SM2` | the private scalar, big-endian, as long as the curve's order |
/// | `ECC_NIST_EDWARDS25519` | the seed of RFC 8032, 32 bytes |
/// | `ML_DSA_*` | the seed of FIPS 204, 32 bytes |
/// | `ML_KEM_*` | the seeds d and z of FIPS 203, 64 bytes |
pub struct MaterialSecret(Zeroizing<Box<[u8]>>);

impl MaterialSecret {
    /// New material for `SYMMETRIC_DEFAULT` (AES-256) from random bytes. For every other spec
    /// there is [`generate_material`](crate::generate_material).
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self::random(MATERIAL_BYTES, entropy)
    }

    /// Material from bytes made elsewhere, already in the spec's canonical form.
    pub fn from_bytes<const N: usize>(bytes: Zeroizing<[u8; N]>) -> Self {
        const { assert!(0 < N && N <= MATERIAL_BYTES_MAX) };
        Self(Zeroizing::new(Box::from(bytes.as_slice())))
    }

    /// Material of any permitted length; `None` if there are no bytes or too many.
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        let fits = (1..=MATERIAL_BYTES_MAX).contains(&bytes.len());
        fits.then(|| Self(Zeroizing::new(Box::from(bytes))))
    }

    /// So many random bytes.
    pub(crate) fn random(length: usize, entropy: &dyn Entropy) -> Self {
        debug_assert!((1..=MATERIAL_BYTES_MAX).contains(&length));
        let mut bytes = Zeroizing::new(vec![0; length].into_boxed_slice());
        entropy.fill(&mut bytes);
        Self(bytes)
    }

    /// The name of this material under `key`: a hash of both, so it is the same in every Region
    /// and says nothing about bytes that are random.
    pub fn id(&self, key: KeyId) -> MaterialId {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(b"keyrum material id 1\0");
        hash.update(&key.to_bytes());
        hash.update(self.expose());
        let mut id = [0; 32];
        id.copy_from_slice(hash.finish().as_ref());
        MaterialId(id)
    }

    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// What a ciphertext and a sealing are bound to: an account and one of its keys. Not the Region,
/// so that every related multi-Region key answers to the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyName {
    /// The account that owns the key.
    pub account: AccountId,
    /// The key's id.
    pub key: KeyId,
}

impl KeyName {
    /// Bytes of [`KeyName::to_bytes`].
    pub(crate) const BYTES: usize = 12 + 17;

    /// The account's 12 digits, then the id's 17 bytes.
    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        write!(&mut out[..12], "{}", self.account).expect("an account has 12 digits");
        out[12..].copy_from_slice(&self.key.to_bytes());
        out
    }

    /// The reverse of [`KeyName::to_bytes`].
    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let account = std::str::from_utf8(&bytes[..12]).ok()?.parse().ok()?;
        let key = KeyId::from_bytes(bytes[12..].try_into().ok()?)?;
        Some(Self { account, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a material id that changes between runs or Regions, ignores the key or ignores the
    /// bytes; the expected text was computed with another SHA-256.
    #[test]
    fn material_ids_are_fixed_by_key_and_bytes() {
        let secret = |byte| MaterialSecret::from_bytes(Zeroizing::new([byte; 32]));
        let key = KeyId::multi_region([7; 16]);
        assert_eq!(
            secret(1).id(key).to_string(),
            "90ecd40fa7a717eea2a9793617565946921fda1957dbda5fa0d091dee71bbf98"
        );
        assert_ne!(secret(1).id(key), secret(2).id(key));
        assert_ne!(
            secret(1).id(key),
            secret(1).id(KeyId::single_region([7; 16]))
        );
    }

    /// Catches a name that changes on its way through bytes.
    #[test]
    fn names_survive_bytes() {
        let name = KeyName {
            account: "000000000042".parse().unwrap(),
            key: KeyId::single_region([9; 16]),
        };
        assert_eq!(KeyName::from_bytes(&name.to_bytes()), Some(name));
    }
}
