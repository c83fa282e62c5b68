//! Material that comes from outside.

use keyrum_types::{KeyFamily, KeySpec};

use super::encoding::{is_strict_pkcs8, strict_pkcs8};
use super::{ecc, ed25519, rsa, secp256k1, sm2};
use crate::material::MaterialSecret;

/// The bytes are no material of the spec: of another length, on another curve, with parts that do
/// not fit each other, or no PKCS#8. Deliberately says no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no key material of the spec {spec}")]
pub struct InvalidMaterial {
    /// The spec it was to have.
    pub spec: KeySpec,
}

/// Takes unwrapped bytes for material of a spec: the secret itself for symmetric and HMAC keys, of
/// a permitted length, and PKCS#8 for key pairs, in DER or (not for Edwards25519) BER. Curves must
/// be named. RSA keys have two primes and exactly the spec's size. ML-DSA and ML-KEM cannot be
/// imported.
///
/// Deviation: the structure inside PKCS#8 (RSAPrivateKey, ECPrivateKey) must be DER in any case.
pub fn import_material(
    spec: KeySpec,
    partition: &str,
    bytes: &[u8],
) -> Result<MaterialSecret, InvalidMaterial> {
    let material = match spec.family() {
        KeyFamily::Symmetric | KeyFamily::Hmac => spec
            .secret_bytes(partition)
            .filter(|lengths| lengths.contains(&bytes.len()))
            .and_then(|_| MaterialSecret::from_slice(bytes)),
        KeyFamily::Ecc if spec == KeySpec::EccNistEdwards25519 => {
            let strict = is_strict_pkcs8(bytes);
            strict.then(|| ed25519::import(bytes)).flatten()
        }
        KeyFamily::Rsa | KeyFamily::Ecc | KeyFamily::Sm2 => {
            strict_pkcs8(bytes).and_then(|pkcs8| match spec.family() {
                KeyFamily::Rsa => rsa::import(spec, &pkcs8),
                KeyFamily::Sm2 => sm2::import(&pkcs8),
                _ if spec == KeySpec::EccSecgP256k1 => secp256k1::import(&pkcs8),
                _ => ecc::import(spec, &pkcs8),
            })
        }
        KeyFamily::MlDsa | KeyFamily::MlKem => None,
    };
    material.ok_or(InvalidMaterial { spec })
}
