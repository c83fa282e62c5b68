//! Ed25519 through aws-lc-rs, and Ed25519ph, which aws-lc-rs lacks, through ed25519-dalek.

use aws_lc_rs::encoding::{AsBigEndian, AsDer, Curve25519SeedBin, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, ParsedPublicKey};
use ed25519_dalek::{Digest as _, Sha512, Signature, SigningKey};
use keyrum_types::SigningAlgorithm;
use zeroize::Zeroizing;

use super::UseError;
use crate::material::MaterialSecret;

pub(super) const SEED_BYTES: usize = 32;

pub(super) struct Ed25519Key {
    pure: Ed25519KeyPair,
    prehash: SigningKey,
    verifying: ParsedPublicKey,
    spki: Vec<u8>,
}

/// The seed of a PKCS#8 document.
pub(super) fn import(pkcs8: &[u8]) -> Option<MaterialSecret> {
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).ok()?;
    let seed = pair.seed().ok()?;
    let seed: Curve25519SeedBin<'_> = seed.as_be_bytes().ok()?;
    MaterialSecret::from_slice(seed.as_ref())
}

/// The public half, from a SubjectPublicKeyInfo or its 32 bytes.
pub(super) fn public(key: &[u8]) -> Option<ParsedPublicKey> {
    ParsedPublicKey::new(&ED25519, key).ok()
}

impl Ed25519Key {
    pub(super) fn new(seed: &[u8]) -> Option<Self> {
        let prehash = SigningKey::from_bytes(seed.try_into().ok()?);
        let pure = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let spki: PublicKeyX509Der<'_> = pure.public_key().as_der().ok()?;
        Some(Self {
            verifying: public(spki.as_ref())?,
            spki: spki.as_ref().to_vec(),
            prehash,
            pure,
        })
    }

    pub(super) fn public_key_der(&self) -> &[u8] {
        &self.spki
    }

    pub(super) fn private_key_der(&self) -> Zeroizing<Vec<u8>> {
        let pkcs8: Pkcs8V1Der<'_> = self
            .pure
            .as_der()
            .expect("a seed that was read can be written");
        Zeroizing::new(pkcs8.as_ref().to_vec())
    }

    pub(super) fn sign(
        &self,
        algorithm: SigningAlgorithm,
        message: &[u8],
    ) -> Result<Vec<u8>, UseError> {
        if algorithm == SigningAlgorithm::Ed25519PhSha512 {
            let hash = Sha512::new_with_prefix(message);
            let signature = self.prehash.sign_prehashed(hash, None);
            let signature = signature.map_err(|_| UseError::Library("ed25519-dalek"))?;
            Ok(signature.to_bytes().to_vec())
        } else {
            let signature = self.pure.try_sign(message);
            let signature = signature.map_err(|_| UseError::Library("aws-lc"))?;
            Ok(signature.as_ref().to_vec())
        }
    }

    pub(super) fn verify(
        &self,
        algorithm: SigningAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        if algorithm == SigningAlgorithm::Ed25519PhSha512 {
            let hash = Sha512::new_with_prefix(message);
            Signature::from_slice(signature)
                .and_then(|signature| self.prehash.verify_prehashed(hash, None, &signature))
                .is_ok()
        } else {
            self.verifying.verify_sig(message, signature).is_ok()
        }
    }
}
