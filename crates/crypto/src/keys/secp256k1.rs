//! Key pairs on secp256k1, through k256.

use k256::ecdsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use k256::ecdsa::signature::{Signer, Verifier};
use k256::ecdsa::{Signature, SigningKey, VerifyingKey};
use keyrum_types::{Entropy, KeySpec, MessageType};
use zeroize::Zeroizing;

use super::encoding::{curve_name, parse_ec_pkcs8, point_spki, scalar_pkcs8};
use super::{UseError, generate_scalar};
use crate::material::MaterialSecret;

const SCALAR_BYTES: usize = 32;
const SPEC: KeySpec = KeySpec::EccSecgP256k1;
const NAMED: &str = "the curve has a name";

pub(super) struct Secp256k1Key {
    signing: SigningKey,
    point: Vec<u8>,
    spki: Vec<u8>,
}

pub(super) fn generate(entropy: &dyn Entropy) -> MaterialSecret {
    generate_scalar(SCALAR_BYTES, 0xff, entropy, |scalar| {
        SigningKey::from_slice(scalar).is_ok()
    })
}

/// The scalar of a PKCS#8 document on this curve.
pub(super) fn import(pkcs8: &[u8]) -> Option<MaterialSecret> {
    let parsed = parse_ec_pkcs8(curve_name(SPEC)?, pkcs8)?;
    let key = Secp256k1Key::new(&parsed.scalar)?;
    let same = |point: &Vec<u8>| {
        VerifyingKey::from_sec1_bytes(point).is_ok_and(|key_there| key_there == *key.verifying())
    };
    if !parsed.points.iter().all(same) {
        return None;
    }
    MaterialSecret::from_slice(&parsed.scalar)
}

impl Secp256k1Key {
    pub(super) fn new(scalar: &[u8]) -> Option<Self> {
        // The library would take shorter ones; there is one canonical form.
        let exact = scalar.len() == SCALAR_BYTES;
        let signing = SigningKey::from_slice(scalar).ok().filter(|_| exact)?;
        let point = signing.verifying_key().to_sec1_point(false);
        let point = point.as_bytes().to_vec();
        Some(Self {
            spki: point_spki(curve_name(SPEC)?, &point),
            signing,
            point,
        })
    }

    pub(super) fn verifying(&self) -> &VerifyingKey {
        self.signing.verifying_key()
    }

    pub(super) fn public_key_der(&self) -> &[u8] {
        &self.spki
    }

    pub(super) fn private_key_der(&self) -> Zeroizing<Vec<u8>> {
        let scalar = Zeroizing::new(self.signing.to_bytes());
        scalar_pkcs8(curve_name(SPEC).expect(NAMED), &scalar, &self.point)
    }

    /// Deterministic (RFC 6979), with the smaller of the two possible `s`.
    pub(super) fn sign(
        &self,
        message_type: MessageType,
        message: &[u8],
    ) -> Result<Vec<u8>, UseError> {
        let signature: Result<Signature, _> = if message_type == MessageType::Digest {
            self.signing.sign_prehash(message)
        } else {
            self.signing.try_sign(message)
        };
        let signature = signature.map_err(|_| UseError::Library("k256"))?;
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

/// Whether the signature is by the owner of the public key.
pub(super) fn verify(
    key: &VerifyingKey,
    message_type: MessageType,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let Ok(signature) = Signature::from_der(signature) else {
        return false;
    };
    // The library refuses the greater `s`, which ECDSA allows and other signers make.
    let signature = signature.normalize_s();
    let verified = if message_type == MessageType::Digest {
        key.verify_prehash(message, &signature)
    } else {
        key.verify(message, &signature)
    };
    verified.is_ok()
}
