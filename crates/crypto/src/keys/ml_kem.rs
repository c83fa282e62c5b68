//! ML-KEM (FIPS 203): keys from their seeds through ml-kem, since aws-lc-rs takes expanded keys
//! only; everything else through aws-lc-rs, which is faster.

use aws_lc_rs::kem::{
    Algorithm, DecapsulationKey, EncapsulationKey, ML_KEM_512, ML_KEM_768, ML_KEM_1024,
};
use keyrum_types::KeySpec;
use ml_kem::{KeyExport, MlKem512, MlKem768, MlKem1024};
use pkcs8::ObjectIdentifier;
use zeroize::Zeroizing;

use super::encoding::{plain_pkcs8, plain_spki};
use super::{Encapsulated, UseError};

/// d, then z.
pub(super) const SEED_BYTES: usize = 64;

/// The tag and length before the seed in a private key in seed form (RFC 9935, section 6).
const SEED_HEADER: [u8; 2] = [0x80, 0x40];

pub(super) struct MlKemKey {
    name: ObjectIdentifier,
    seed: Zeroizing<[u8; SEED_BYTES]>,
    ciphertext_bytes: usize,
    decapsulating: DecapsulationKey,
    encapsulating: EncapsulationKey,
    spki: Vec<u8>,
}

/// Both halves of a key pair, expanded.
#[expect(
    deprecated,
    reason = "the expanded form is discouraged for storing keys; here it only goes from one \
              library to the other"
)]
fn expand(spec: KeySpec, seed: &[u8; SEED_BYTES]) -> Option<(Zeroizing<Vec<u8>>, Vec<u8>)> {
    use ml_kem::ExpandedKeyEncoding;

    macro_rules! expand {
        ($set:ty) => {{
            let key = ml_kem::DecapsulationKey::<$set>::from_seed((*seed).into());
            let private = Zeroizing::new(key.to_expanded_bytes());
            let public = key.encapsulation_key().to_bytes();
            (Zeroizing::new(private.to_vec()), public.to_vec())
        }};
    }
    match spec {
        KeySpec::MlKem512 => Some(expand!(MlKem512)),
        KeySpec::MlKem768 => Some(expand!(MlKem768)),
        KeySpec::MlKem1024 => Some(expand!(MlKem1024)),
        _ => None,
    }
}

impl MlKemKey {
    pub(super) fn new(spec: KeySpec, seed: &[u8]) -> Option<Self> {
        // Source: RFC 9935, section 3.
        let (algorithm, name): (&'static Algorithm, _) = match spec {
            KeySpec::MlKem512 => (&ML_KEM_512, "2.16.840.1.101.3.4.4.1"),
            KeySpec::MlKem768 => (&ML_KEM_768, "2.16.840.1.101.3.4.4.2"),
            KeySpec::MlKem1024 => (&ML_KEM_1024, "2.16.840.1.101.3.4.4.3"),
            _ => return None,
        };
        let name = ObjectIdentifier::new_unwrap(name);
        let seed: &[u8; SEED_BYTES] = seed.try_into().ok()?;
        let (private, public) = expand(spec, seed)?;
        Some(Self {
            name,
            seed: Zeroizing::new(*seed),
            ciphertext_bytes: spec.encapsulation_bytes()?,
            decapsulating: DecapsulationKey::new(algorithm, &private).ok()?,
            encapsulating: EncapsulationKey::new(algorithm, &public).ok()?,
            spki: plain_spki(name, &public),
        })
    }

    pub(super) fn public_key_der(&self) -> &[u8] {
        &self.spki
    }

    pub(super) fn private_key_der(&self) -> Zeroizing<Vec<u8>> {
        let seed = Zeroizing::new([&SEED_HEADER[..], &self.seed[..]].concat());
        plain_pkcs8(self.name, &seed)
    }

    pub(super) fn encapsulate(&self) -> Result<Encapsulated, UseError> {
        let made = self.encapsulating.encapsulate();
        let (ciphertext, secret) = made.map_err(|_| UseError::Library("aws-lc"))?;
        Ok(Encapsulated {
            ciphertext: ciphertext.as_ref().to_vec(),
            shared_secret: Zeroizing::new(secret.as_ref().to_vec()),
        })
    }

    pub(super) fn decapsulate(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, UseError> {
        if ciphertext.len() != self.ciphertext_bytes {
            return Err(UseError::InvalidCiphertext);
        }
        let secret = self.decapsulating.decapsulate(ciphertext.into());
        let secret = secret.map_err(|_| UseError::InvalidCiphertext)?;
        Ok(Zeroizing::new(secret.as_ref().to_vec()))
    }
}
