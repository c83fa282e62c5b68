//! SM2 key pairs (GB/T 32918), through the crate of that name.

use elliptic_curve::ecdh::diffie_hellman;
use elliptic_curve::sec1::ToSec1Point;
use keyrum_types::{Entropy, KeySpec, MessageType};
use sm2::dsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use sm2::dsa::signature::{Signer, Verifier};
use sm2::dsa::{Signature, SigningKey};
use sm2::pke::{DecryptingKey, Mode};
use sm2::{PublicKey, SecretKey};
use zeroize::Zeroizing;

use super::agreement::PeerKeyError;
use super::encoding::{
    EcPublic, curve_name, parse_ec_pkcs8, parse_ec_spki, point_spki, scalar_pkcs8,
};
use super::{UseError, generate_scalar};
use crate::draw::Draw;
use crate::material::MaterialSecret;

const SCALAR_BYTES: usize = 32;
const SPEC: KeySpec = KeySpec::Sm2;
const NAMED: &str = "the curve has a name";

/// The distinguishing identifier that the real service signs with (GM/T 0009, section 10).
const IDENTITY: &str = "1234567812345678";

pub(super) struct Sm2Key {
    secret: SecretKey,
    signing: SigningKey,
    decrypting: DecryptingKey,
    point: Vec<u8>,
    spki: Vec<u8>,
}

pub(super) fn generate(entropy: &dyn Entropy) -> MaterialSecret {
    generate_scalar(SCALAR_BYTES, 0xff, entropy, |scalar| {
        Sm2Key::new(scalar).is_some()
    })
}

/// The scalar of a PKCS#8 document on this curve.
pub(super) fn import(pkcs8: &[u8]) -> Option<MaterialSecret> {
    let parsed = parse_ec_pkcs8(curve_name(SPEC)?, pkcs8)?;
    let public = Sm2Key::new(&parsed.scalar)?.secret.public_key();
    let same = |point: &Vec<u8>| PublicKey::from_sec1_bytes(point).is_ok_and(|key| key == public);
    if !parsed.points.iter().all(same) {
        return None;
    }
    MaterialSecret::from_slice(&parsed.scalar)
}

impl Sm2Key {
    pub(super) fn new(scalar: &[u8]) -> Option<Self> {
        // The library would take shorter ones; there is one canonical form.
        let exact = scalar.len() == SCALAR_BYTES;
        let secret = SecretKey::from_slice(scalar).ok().filter(|_| exact)?;
        let point = secret.public_key().to_sec1_point(false);
        let point = point.as_bytes().to_vec();
        let key = Self {
            signing: SigningKey::new(IDENTITY, &secret).ok()?,
            decrypting: DecryptingKey::new_with_mode(secret.to_nonzero_scalar(), Mode::C1C3C2),
            secret,
            spki: point_spki(curve_name(SPEC)?, &point),
            point,
        };
        // Order - 1 is a scalar, but cannot sign (GB/T 32918.1, section 6.1).
        key.sign(MessageType::Digest, &[1; 32]).ok()?;
        Some(key)
    }

    pub(super) fn public_key_der(&self) -> &[u8] {
        &self.spki
    }

    pub(super) fn private_key_der(&self) -> Zeroizing<Vec<u8>> {
        let scalar = Zeroizing::new(self.secret.to_bytes());
        scalar_pkcs8(curve_name(SPEC).expect(NAMED), &scalar, &self.point)
    }

    /// Deterministic: the library derives the nonce as RFC 6979 does.
    pub(super) fn sign(
        &self,
        message_type: MessageType,
        message: &[u8],
    ) -> Result<Vec<u8>, UseError> {
        let signature = if message_type == MessageType::Digest {
            self.signing.sign_prehash(message)
        } else {
            self.signing.try_sign(message)
        };
        let signature = signature.map_err(|_| UseError::Library("sm2"))?;
        Ok(signature.to_der().as_bytes().to_vec())
    }

    pub(super) fn verify(
        &self,
        message_type: MessageType,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let Ok(signature) = Signature::from_der(signature) else {
            return false;
        };
        let key = self.signing.verifying_key();
        let verified = if message_type == MessageType::Digest {
            key.verify_prehash(message, &signature)
        } else {
            key.verify(message, &signature)
        };
        verified.is_ok()
    }

    pub(super) fn encrypt(
        &self,
        plaintext: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, UseError> {
        self.decrypting
            .encrypting_key()
            .encrypt_der(&mut Draw(entropy), plaintext)
            .map_err(|_| UseError::Library("sm2"))
    }

    pub(super) fn decrypt(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, UseError> {
        match self.decrypting.decrypt_der(ciphertext) {
            Ok(plaintext) if !plaintext.is_empty() => Ok(Zeroizing::new(plaintext)),
            _ => Err(UseError::InvalidCiphertext),
        }
    }

    pub(super) fn agree(&self, peer: &[u8]) -> Result<Zeroizing<Vec<u8>>, PeerKeyError> {
        let name = curve_name(SPEC).expect(NAMED);
        let point = match parse_ec_spki(name, peer).ok_or(PeerKeyError::Malformed)? {
            EcPublic::Point(point) => point,
            EcPublic::Other => return Err(PeerKeyError::OtherCurve),
        };
        let peer = PublicKey::from_sec1_bytes(&point).map_err(|_| PeerKeyError::InvalidPoint)?;
        let shared = diffie_hellman(self.secret.to_nonzero_scalar(), peer.as_affine());
        Ok(Zeroizing::new(shared.raw_secret_bytes().to_vec()))
    }
}
