//! RSA key pairs, through aws-lc-rs.

use std::sync::OnceLock;

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{
    KeyPair, KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm,
    OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use aws_lc_rs::signature::{
    self, KeyPair as _, ParsedPublicKey, RsaEncoding, VerificationAlgorithm,
};
use keyrum_types::{EncryptionAlgorithm, KeySpec, MessageType, SigningAlgorithm};
use zeroize::Zeroizing;

use super::UseError;
use crate::material::MaterialSecret;

/// A library failure that is not the caller's doing.
const FAILED: UseError = UseError::Library("aws-lc");

/// Bytes in the AES key of `RSA_AES_KEY_WRAP_*`.
const WRAPPING_KEY_BYTES: usize = 32;

/// What RFC 5649 adds to the wrapped key before padding.
const KEY_WRAP_OVERHEAD_BYTES: usize = 8;

pub(super) struct RsaKey {
    signing: KeyPair,
    public: RsaPublicKey,
    /// Made on first use: a key either signs or decrypts, and each costs a parse.
    decrypting: OnceLock<OaepPrivateDecryptingKey>,
}

/// What the public half alone can do.
pub(super) struct RsaPublicKey {
    spki: Vec<u8>,
    encrypting: OaepPublicEncryptingKey,
    /// One per signing algorithm, in the order of the spec's list, made on first use.
    verifying: [OnceLock<ParsedPublicKey>; 6],
}

/// How aws-lc calls an algorithm.
struct Names {
    place: usize,
    encoding: &'static dyn RsaEncoding,
    verification: &'static dyn VerificationAlgorithm,
    hash: &'static digest::Algorithm,
}

fn names(algorithm: SigningAlgorithm) -> Option<Names> {
    let (place, encoding, verification, hash): (
        _,
        &dyn RsaEncoding,
        &dyn VerificationAlgorithm,
        _,
    ) = match algorithm {
        SigningAlgorithm::RsassaPkcs1V15Sha256 => (
            0,
            &signature::RSA_PKCS1_SHA256,
            &signature::RSA_PKCS1_2048_8192_SHA256,
            &digest::SHA256,
        ),
        SigningAlgorithm::RsassaPkcs1V15Sha384 => (
            1,
            &signature::RSA_PKCS1_SHA384,
            &signature::RSA_PKCS1_2048_8192_SHA384,
            &digest::SHA384,
        ),
        SigningAlgorithm::RsassaPkcs1V15Sha512 => (
            2,
            &signature::RSA_PKCS1_SHA512,
            &signature::RSA_PKCS1_2048_8192_SHA512,
            &digest::SHA512,
        ),
        SigningAlgorithm::RsassaPssSha256 => (
            3,
            &signature::RSA_PSS_SHA256,
            &signature::RSA_PSS_2048_8192_SHA256,
            &digest::SHA256,
        ),
        SigningAlgorithm::RsassaPssSha384 => (
            4,
            &signature::RSA_PSS_SHA384,
            &signature::RSA_PSS_2048_8192_SHA384,
            &digest::SHA384,
        ),
        SigningAlgorithm::RsassaPssSha512 => (
            5,
            &signature::RSA_PSS_SHA512,
            &signature::RSA_PSS_2048_8192_SHA512,
            &digest::SHA512,
        ),
        _ => return None,
    };
    Some(Names {
        place,
        encoding,
        verification,
        hash,
    })
}

fn oaep(algorithm: EncryptionAlgorithm) -> Option<&'static OaepAlgorithm> {
    match algorithm {
        EncryptionAlgorithm::RsaesOaepSha1 => Some(&OAEP_SHA1_MGF1SHA1),
        EncryptionAlgorithm::RsaesOaepSha256 => Some(&OAEP_SHA256_MGF1SHA256),
        _ => None,
    }
}

/// A new key pair, from aws-lc's own randomness.
pub(super) fn generate(spec: KeySpec) -> Result<MaterialSecret, UseError> {
    let size = match spec {
        KeySpec::Rsa2048 => KeySize::Rsa2048,
        KeySpec::Rsa3072 => KeySize::Rsa3072,
        KeySpec::Rsa4096 => KeySize::Rsa4096,
        _ => return Err(UseError::OtherAlgorithm { spec }),
    };
    let pair = KeyPair::generate(size).map_err(|_| FAILED)?;
    canonical(&pair).ok_or(FAILED)
}

/// The canonical bytes of the key pair in a PKCS#8 document, if it is of the spec and consistent.
pub(super) fn import(spec: KeySpec, pkcs8: &[u8]) -> Option<MaterialSecret> {
    canonical(&RsaKey::new(spec, pkcs8)?.signing)
}

fn canonical(pair: &KeyPair) -> Option<MaterialSecret> {
    let pkcs8: Pkcs8V1Der<'_> = pair.as_der().ok()?;
    MaterialSecret::from_slice(pkcs8.as_ref())
}

impl RsaKey {
    /// aws-lc checks that the parts of the key fit each other, and takes two primes only.
    pub(super) fn new(spec: KeySpec, pkcs8: &[u8]) -> Option<Self> {
        let signing = KeyPair::from_pkcs8(pkcs8).ok()?;
        let spki: PublicKeyX509Der<'_> = signing.public_key().as_der().ok()?;
        Some(Self {
            public: RsaPublicKey::new(spec, spki.as_ref())?,
            signing,
            decrypting: OnceLock::new(),
        })
    }

    pub(super) fn public(&self) -> &RsaPublicKey {
        &self.public
    }

    pub(super) fn public_key_der(&self) -> &[u8] {
        &self.public.spki
    }

    pub(super) fn private_key_der(&self) -> Zeroizing<Vec<u8>> {
        let pkcs8: Pkcs8V1Der<'_> = self
            .signing
            .as_der()
            .expect("a key pair that was parsed can be written");
        Zeroizing::new(pkcs8.as_ref().to_vec())
    }

    pub(super) fn sign(
        &self,
        algorithm: SigningAlgorithm,
        message_type: MessageType,
        message: &[u8],
    ) -> Result<Vec<u8>, UseError> {
        let names = names(algorithm).ok_or(FAILED)?;
        let mut signature = vec![0; self.signing.public_modulus_len()];
        let signed = if message_type == MessageType::Digest {
            let digest = Digest::import_less_safe(message, names.hash).map_err(|_| FAILED)?;
            self.signing
                .sign_digest(names.encoding, &digest, &mut signature)
        } else {
            // aws-lc ignores the randomness it is given.
            let random = SystemRandom::new();
            self.signing
                .sign(names.encoding, &random, message, &mut signature)
        };
        signed.map(|()| signature).map_err(|_| FAILED)
    }

    pub(super) fn decrypt(
        &self,
        algorithm: EncryptionAlgorithm,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, UseError> {
        let algorithm = oaep(algorithm).ok_or(FAILED)?;
        let key = self.decrypting.get_or_init(|| {
            let key = PrivateDecryptingKey::from_pkcs8(&self.private_key_der());
            key.ok()
                .and_then(|key| OaepPrivateDecryptingKey::new(key).ok())
                .expect("a key pair that was parsed can be parsed again")
        });
        let mut plaintext = Zeroizing::new(vec![0; key.min_output_size()]);
        let length = key
            .decrypt(algorithm, ciphertext, &mut plaintext, None)
            .map_err(|_| UseError::InvalidCiphertext)?
            .len();
        plaintext.truncate(length);
        Ok(plaintext)
    }

    /// Opens an OAEP ciphertext of an AES-256 key, followed by the material wrapped with that key
    /// (RFC 5649).
    pub(super) fn unwrap_with_aes_key(
        &self,
        algorithm: EncryptionAlgorithm,
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, UseError> {
        let invalid = UseError::InvalidCiphertext;
        let (key, material) = wrapped
            .split_at_checked(self.signing.public_modulus_len())
            .ok_or(invalid)?;
        let key = self.decrypt(algorithm, key)?;
        if key.len() != WRAPPING_KEY_BYTES {
            return Err(invalid);
        }
        unwrap_padded(&key, material).ok_or(invalid)
    }
}

impl RsaPublicKey {
    pub(super) fn new(spec: KeySpec, spki: &[u8]) -> Option<Self> {
        let public = PublicEncryptingKey::from_der(spki).ok()?;
        if Some(public.key_size_bits()) != spec.rsa_bits() {
            return None;
        }
        Some(Self {
            spki: spki.to_vec(),
            encrypting: OaepPublicEncryptingKey::new(public).ok()?,
            verifying: Default::default(),
        })
    }

    pub(super) fn verify(
        &self,
        algorithm: SigningAlgorithm,
        message_type: MessageType,
        message: &[u8],
        signature: &[u8],
    ) -> Result<bool, UseError> {
        let names = names(algorithm).ok_or(FAILED)?;
        let key = self.verifying[names.place].get_or_init(|| {
            ParsedPublicKey::new(names.verification, &self.spki)
                .expect("a public key that was written can be parsed")
        });
        let verified = if message_type == MessageType::Digest {
            let digest = Digest::import_less_safe(message, names.hash).map_err(|_| FAILED)?;
            key.verify_digest_sig(&digest, signature)
        } else {
            key.verify_sig(message, signature)
        };
        Ok(verified.is_ok())
    }

    pub(super) fn encrypt(
        &self,
        algorithm: EncryptionAlgorithm,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, UseError> {
        let algorithm = oaep(algorithm).ok_or(FAILED)?;
        let mut ciphertext = vec![0; self.encrypting.ciphertext_size()];
        self.encrypting
            .encrypt(algorithm, plaintext, &mut ciphertext, None)
            .map_err(|_| FAILED)?;
        Ok(ciphertext)
    }
}

/// AES key wrap with padding, opened (RFC 5649).
pub(super) fn unwrap_padded(key: &[u8], wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let length = wrapped.len().checked_sub(KEY_WRAP_OVERHEAD_BYTES)?;
    let mut material = Zeroizing::new(vec![0; length]);
    let key = AesKek::new(&AES_256, key).ok()?;
    let length = key.unwrap_with_padding(wrapped, &mut material).ok()?.len();
    material.truncate(length);
    Some(material)
}
