//! Key pairs on the NIST curves, through aws-lc-rs.

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm, KeyPair as _,
    ParsedPublicKey,
};
use keyrum_types::{Entropy, KeySpec, MessageType};
use pkcs8::ObjectIdentifier;
use zeroize::Zeroizing;

use super::agreement::PeerKeyError;
use super::encoding::{
    EcPublic, curve_name, parse_ec_pkcs8, parse_ec_spki, point_spki, scalar_pkcs8,
};
use super::{UseError, generate_scalar};
use crate::material::MaterialSecret;

const FAILED: UseError = UseError::Library("aws-lc");

/// A curve, as aws-lc calls it.
struct Curve {
    scalar_bytes: usize,
    /// The bits of the first byte that a scalar may have.
    top_mask: u8,
    signing: &'static EcdsaSigningAlgorithm,
    verification: &'static EcdsaVerificationAlgorithm,
    agreement: &'static agreement::Algorithm,
    hash: &'static digest::Algorithm,
}

static P256: Curve = Curve {
    scalar_bytes: 32,
    top_mask: 0xff,
    signing: &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
    verification: &signature::ECDSA_P256_SHA256_ASN1,
    agreement: &agreement::ECDH_P256,
    hash: &digest::SHA256,
};

static P384: Curve = Curve {
    scalar_bytes: 48,
    top_mask: 0xff,
    signing: &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
    verification: &signature::ECDSA_P384_SHA384_ASN1,
    agreement: &agreement::ECDH_P384,
    hash: &digest::SHA384,
};

static P521: Curve = Curve {
    scalar_bytes: 66,
    top_mask: 0x01,
    signing: &signature::ECDSA_P521_SHA512_ASN1_SIGNING,
    verification: &signature::ECDSA_P521_SHA512_ASN1,
    agreement: &agreement::ECDH_P521,
    hash: &digest::SHA512,
};

fn curve(spec: KeySpec) -> Option<&'static Curve> {
    match spec {
        KeySpec::EccNistP256 => Some(&P256),
        KeySpec::EccNistP384 => Some(&P384),
        KeySpec::EccNistP521 => Some(&P521),
        _ => None,
    }
}

pub(super) struct EccKey {
    curve: &'static Curve,
    name: ObjectIdentifier,
    signing: EcdsaKeyPair,
    agreeing: PrivateKey,
    public: EccPublicKey,
    spki: Vec<u8>,
}

/// What the public half alone can do.
pub(super) struct EccPublicKey {
    curve: &'static Curve,
    verifying: ParsedPublicKey,
}

/// A new private scalar. `spec` is one of the NIST curves.
pub(super) fn generate(spec: KeySpec, entropy: &dyn Entropy) -> MaterialSecret {
    let curve = curve(spec).expect("the caller asks for NIST curves only");
    generate_scalar(curve.scalar_bytes, curve.top_mask, entropy, |scalar| {
        PrivateKey::from_private_key(curve.agreement, scalar).is_ok()
    })
}

/// The scalar of a PKCS#8 document on this curve.
pub(super) fn import(spec: KeySpec, pkcs8: &[u8]) -> Option<MaterialSecret> {
    let parsed = parse_ec_pkcs8(curve_name(spec)?, pkcs8)?;
    let key = EccKey::new(spec, &parsed.scalar)?;
    let same = |point: &Vec<u8>| point == key.signing.public_key().as_ref();
    if !parsed.points.iter().all(same) {
        return None;
    }
    MaterialSecret::from_slice(&parsed.scalar)
}

impl EccKey {
    pub(super) fn new(spec: KeySpec, scalar: &[u8]) -> Option<Self> {
        let (curve, name) = (curve(spec)?, curve_name(spec)?);
        let agreeing = PrivateKey::from_private_key(curve.agreement, scalar).ok()?;
        let point = agreeing.compute_public_key().ok()?;
        let signing =
            EcdsaKeyPair::from_private_key_and_public_key(curve.signing, scalar, point.as_ref());
        Some(Self {
            curve,
            name,
            signing: signing.ok()?,
            agreeing,
            public: EccPublicKey::new(spec, point.as_ref())?,
            spki: point_spki(name, point.as_ref()),
        })
    }

    pub(super) fn public_key_der(&self) -> &[u8] {
        &self.spki
    }

    pub(super) fn private_key_der(&self) -> Zeroizing<Vec<u8>> {
        let scalar: EcPrivateKeyBin<'_> = self
            .signing
            .private_key()
            .as_be_bytes()
            .expect("a scalar that was read can be written");
        let point = self.signing.public_key().as_ref();
        scalar_pkcs8(self.name, scalar.as_ref(), point)
    }

    pub(super) fn sign(
        &self,
        message_type: MessageType,
        message: &[u8],
    ) -> Result<Vec<u8>, UseError> {
        let signature = if message_type == MessageType::Digest {
            let digest = Digest::import_less_safe(message, self.curve.hash);
            self.signing.sign_digest(&digest.map_err(|_| FAILED)?)
        } else {
            // aws-lc ignores the randomness it is given.
            self.signing.sign(&SystemRandom::new(), message)
        };
        Ok(signature.map_err(|_| FAILED)?.as_ref().to_vec())
    }

    pub(super) fn public(&self) -> &EccPublicKey {
        &self.public
    }

    pub(super) fn agree(&self, peer: &[u8]) -> Result<Zeroizing<Vec<u8>>, PeerKeyError> {
        let point = match parse_ec_spki(self.name, peer).ok_or(PeerKeyError::Malformed)? {
            EcPublic::Point(point) => point,
            EcPublic::Other => return Err(PeerKeyError::OtherCurve),
        };
        let peer = UnparsedPublicKey::new(self.curve.agreement, point);
        agree(&self.agreeing, peer, PeerKeyError::InvalidPoint, |secret| {
            Ok(Zeroizing::new(secret.to_vec()))
        })
    }
}

impl EccPublicKey {
    /// From a point, or a SubjectPublicKeyInfo.
    pub(super) fn new(spec: KeySpec, key: &[u8]) -> Option<Self> {
        let curve = curve(spec)?;
        let verifying = ParsedPublicKey::new(curve.verification, key).ok()?;
        Some(Self { curve, verifying })
    }

    pub(super) fn verify(
        &self,
        message_type: MessageType,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        if message_type == MessageType::Digest {
            Digest::import_less_safe(message, self.curve.hash)
                .is_ok_and(|digest| self.verifying.verify_digest_sig(&digest, signature).is_ok())
        } else {
            self.verifying.verify_sig(message, signature).is_ok()
        }
    }
}
