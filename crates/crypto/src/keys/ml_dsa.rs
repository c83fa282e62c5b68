//! ML-DSA (FIPS 204) through aws-lc-rs, and its external mu, for which aws-lc-rs has no safe call,
//! through ml-dsa from the same seed.

use std::sync::OnceLock;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{
    KeyPair as _, ML_DSA_44, ML_DSA_44_SIGNING, ML_DSA_65, ML_DSA_65_SIGNING, ML_DSA_87,
    ML_DSA_87_SIGNING, ParsedPublicKey, PqdsaKeyPair,
};
use keyrum_types::{Entropy, KeySpec, MessageType};
use ml_dsa::signature::Keypair;
use ml_dsa::{MlDsa44, MlDsa65, MlDsa87, MlDsaParams, Signature, SigningKey};
use zeroize::Zeroizing;

use super::UseError;
use crate::draw::Draw;

pub(super) const SEED_BYTES: usize = 32;
pub(super) const MU_BYTES: usize = 64;

/// Signs and verifies the message representative.
trait SignsMu: Send + Sync {
    fn sign(&self, mu: &[u8; MU_BYTES], entropy: &dyn Entropy) -> Option<Vec<u8>>;
    fn verify(&self, mu: &[u8; MU_BYTES], signature: &[u8]) -> bool;
}

impl<P: MlDsaParams> SignsMu for SigningKey<P>
where
    Self: Send + Sync,
{
    fn sign(&self, mu: &[u8; MU_BYTES], entropy: &dyn Entropy) -> Option<Vec<u8>> {
        let signature = self
            .expanded_key()
            .sign_mu_randomized(mu.into(), &mut Draw(entropy));
        Some(signature.ok()?.encode().to_vec())
    }

    fn verify(&self, mu: &[u8; MU_BYTES], signature: &[u8]) -> bool {
        Signature::<P>::try_from(signature)
            .is_ok_and(|signature| self.verifying_key().verify_mu(mu.into(), &signature))
    }
}

pub(super) struct MlDsaKey {
    spec: KeySpec,
    seed: Zeroizing<[u8; SEED_BYTES]>,
    signing: PqdsaKeyPair,
    verifying: ParsedPublicKey,
    spki: Vec<u8>,
    /// Up to 100 KiB, so only made when a caller uses mu.
    mu: OnceLock<Box<dyn SignsMu>>,
}

/// The public half, from a SubjectPublicKeyInfo or its raw bytes.
pub(super) fn public(spec: KeySpec, key: &[u8]) -> Option<ParsedPublicKey> {
    let algorithm = match spec {
        KeySpec::MlDsa44 => &ML_DSA_44,
        KeySpec::MlDsa65 => &ML_DSA_65,
        KeySpec::MlDsa87 => &ML_DSA_87,
        _ => return None,
    };
    ParsedPublicKey::new(algorithm, key).ok()
}

impl MlDsaKey {
    pub(super) fn new(spec: KeySpec, seed: &[u8]) -> Option<Self> {
        let signing = match spec {
            KeySpec::MlDsa44 => &ML_DSA_44_SIGNING,
            KeySpec::MlDsa65 => &ML_DSA_65_SIGNING,
            KeySpec::MlDsa87 => &ML_DSA_87_SIGNING,
            _ => return None,
        };
        let signing = PqdsaKeyPair::from_seed(signing, seed).ok()?;
        let spki: PublicKeyX509Der<'_> = signing.public_key().as_der().ok()?;
        Some(Self {
            spec,
            seed: Zeroizing::new(seed.try_into().ok()?),
            verifying: public(spec, spki.as_ref())?,
            spki: spki.as_ref().to_vec(),
            signing,
            mu: OnceLock::new(),
        })
    }

    pub(super) fn public_key_der(&self) -> &[u8] {
        &self.spki
    }

    fn mu(&self) -> &dyn SignsMu {
        self.mu
            .get_or_init(|| {
                let seed = (&*self.seed).into();
                match self.spec {
                    KeySpec::MlDsa44 => Box::new(SigningKey::<MlDsa44>::from_seed(seed)),
                    KeySpec::MlDsa65 => Box::new(SigningKey::<MlDsa65>::from_seed(seed)),
                    _ => Box::new(SigningKey::<MlDsa87>::from_seed(seed)),
                }
            })
            .as_ref()
    }

    /// Randomized ("hedged", FIPS 204, section 3.4).
    pub(super) fn sign(
        &self,
        message_type: MessageType,
        message: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, UseError> {
        if message_type == MessageType::ExternalMu {
            let failed = UseError::Library("ml-dsa");
            let mu = message.try_into().map_err(|_| failed)?;
            self.mu().sign(mu, entropy).ok_or(failed)
        } else {
            let mut signature = vec![0; self.signing.algorithm().signature_len()];
            self.signing
                .sign(message, &mut signature)
                .map_err(|_| UseError::Library("aws-lc"))?;
            Ok(signature)
        }
    }

    pub(super) fn verify(
        &self,
        message_type: MessageType,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        if message_type == MessageType::ExternalMu {
            message
                .try_into()
                .is_ok_and(|mu| self.mu().verify(mu, signature))
        } else {
            self.verifying.verify_sig(message, signature).is_ok()
        }
    }
}
