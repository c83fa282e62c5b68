//! Keys of every spec but `SYMMETRIC_DEFAULT` (see `ciphertext`): how they are made, imported,
//! and used. One module per family of keys.
//!
//! | family | library |
//! |---|---|
//! | HMAC, RSA, NIST curves, Ed25519, ML-DSA, ML-KEM, key wrap | aws-lc-rs |
//! | secp256k1 | k256: seven times faster than aws-lc-rs |
//! | SM2 | sm2 |
//! | Ed25519ph, ML-DSA's external mu | ed25519-dalek, ml-dsa: aws-lc-rs has no safe call |
//! | ML-KEM's keys from their seeds | ml-kem: aws-lc-rs takes expanded keys only |
//!
//! aws-lc-rs draws its own randomness, so RSA keys and the signatures, ciphertexts and
//! encapsulations it makes are not fixed by an injected [`Entropy`]. Every key but RSA's is.

mod agreement;
mod ecc;
mod ed25519;
mod encoding;
mod given;
mod hmac;
mod import;
mod ml_dsa;
mod ml_kem;
mod rsa;
mod secp256k1;
mod sm2;
#[cfg(test)]
mod tests;

use keyrum_types::{
    EncryptionAlgorithm, Entropy, KeyFamily, KeySpec, MacAlgorithm, MessageType, SigningAlgorithm,
    WrappingAlgorithm,
};
use zeroize::Zeroizing;

use crate::material::MaterialSecret;

pub use agreement::PeerKeyError;
pub use given::given_material;
pub use import::{InvalidMaterial, import_material};

/// Why a key does not do what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UseError {
    /// The operation or algorithm is not one of the key's spec.
    #[error("the algorithm does not belong to key spec {spec}")]
    OtherAlgorithm {
        /// The key's spec.
        spec: KeySpec,
    },
    /// The algorithm does not sign messages of this type.
    #[error("algorithm {algorithm} does not take messages of type {message_type}")]
    OtherMessageType {
        /// The algorithm asked for.
        algorithm: SigningAlgorithm,
        /// The type the message was said to have.
        message_type: MessageType,
    },
    /// A digest or mu has not the length that the algorithm's has.
    #[error("a message of this type for {algorithm} has {expected} bytes, not {found}")]
    DigestLength {
        /// The algorithm asked for.
        algorithm: SigningAlgorithm,
        /// Bytes it takes.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The plaintext is empty or too long for the algorithm and key.
    #[error("a plaintext for this algorithm and key has 1 to {max} bytes, not {found}")]
    PlaintextLength {
        /// The most bytes it takes.
        max: usize,
        /// Bytes given.
        found: usize,
    },
    /// The ciphertext was not made for this key and algorithm. Deliberately says no more.
    #[error("the ciphertext is invalid")]
    InvalidCiphertext,
    /// The peer's public key cannot be agreed with.
    #[error(transparent)]
    Peer(#[from] PeerKeyError),
    /// A library failed where it has no reason to, such as for want of memory.
    #[error("the {0} library failed")]
    Library(&'static str),
}

/// The material does not make a key of the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the material is no {spec} key")]
pub struct UnusableMaterial {
    /// The spec it was to have.
    pub spec: KeySpec,
}

/// What Encapsulate answers.
pub struct Encapsulated {
    /// For the holder of the private key; as long as
    /// [`KeySpec::encapsulation_bytes`](keyrum_types::KeySpec::encapsulation_bytes) says.
    pub ciphertext: Vec<u8>,
    /// 32 bytes.
    pub shared_secret: Zeroizing<Vec<u8>>,
}

/// A key taken apart once, ready for use from any thread.
///
/// Making one costs as much as several uses (RSA_4096: half a millisecond), so keep it. It holds secrets: it has no `Debug` and
/// no `Clone`, and its parts are zeroed when dropped.
pub struct UsableKey {
    spec: KeySpec,
    inner: Inner,
}

enum Inner {
    Hmac(Box<hmac::HmacKey>),
    Rsa(Box<rsa::RsaKey>),
    Ecc(Box<ecc::EccKey>),
    Secp256k1(Box<secp256k1::Secp256k1Key>),
    Ed25519(Box<ed25519::Ed25519Key>),
    MlDsa(Box<ml_dsa::MlDsaKey>),
    MlKem(Box<ml_kem::MlKemKey>),
    Sm2(Box<sm2::Sm2Key>),
}

/// New material of any spec. `partition` is the Region's (`aws`, `aws-cn`, ...): it decides on the
/// length of symmetric keys.
///
/// It comes from `entropy`, except for RSA, whose generator takes none; that one also takes long
/// (measured: 50, 180 and 600 ms for 2048, 3072 and 4096 bits, and often several times that), so
/// give it a thread of its own.
pub fn generate_material(
    spec: KeySpec,
    partition: &str,
    entropy: &dyn Entropy,
) -> Result<MaterialSecret, UseError> {
    let length = match spec.family() {
        KeyFamily::Symmetric | KeyFamily::Hmac => {
            let lengths = spec.secret_bytes(partition);
            *lengths.expect("a secret has a length").start()
        }
        KeyFamily::Rsa => return rsa::generate(spec),
        KeyFamily::MlDsa => ml_dsa::SEED_BYTES,
        KeyFamily::MlKem => ml_kem::SEED_BYTES,
        KeyFamily::Sm2 => return Ok(sm2::generate(entropy)),
        KeyFamily::Ecc => match spec {
            KeySpec::EccNistEdwards25519 => ed25519::SEED_BYTES,
            KeySpec::EccSecgP256k1 => return Ok(secp256k1::generate(entropy)),
            _ => return Ok(ecc::generate(spec, entropy)),
        },
    };
    Ok(MaterialSecret::random(length, entropy))
}

/// Draws scalars until one is in the curve's range, which all but at most one in 2^32 are.
fn generate_scalar(
    bytes: usize,
    top_mask: u8,
    entropy: &dyn Entropy,
    in_range: impl Fn(&[u8]) -> bool,
) -> MaterialSecret {
    let mut scalar = Zeroizing::new(vec![0; bytes]);
    loop {
        entropy.fill(&mut scalar);
        scalar[0] &= top_mask;
        if in_range(&scalar) {
            return MaterialSecret::from_slice(&scalar).expect("a scalar is short");
        }
    }
}

impl UsableKey {
    /// Takes material in canonical form apart. `SYMMETRIC_DEFAULT` is not for this type: see
    /// [`encrypt`](crate::encrypt).
    pub fn new(spec: KeySpec, secret: &MaterialSecret) -> Result<Self, UnusableMaterial> {
        let bytes = secret.expose();
        let inner = match spec.family() {
            KeyFamily::Symmetric => None,
            KeyFamily::Hmac => hmac::HmacKey::new(spec, bytes).map(|key| Inner::Hmac(key.into())),
            KeyFamily::Rsa => rsa::RsaKey::new(spec, bytes).map(|key| Inner::Rsa(key.into())),
            KeyFamily::MlDsa => {
                ml_dsa::MlDsaKey::new(spec, bytes).map(|key| Inner::MlDsa(key.into()))
            }
            KeyFamily::MlKem => {
                ml_kem::MlKemKey::new(spec, bytes).map(|key| Inner::MlKem(key.into()))
            }
            KeyFamily::Sm2 => sm2::Sm2Key::new(bytes).map(|key| Inner::Sm2(key.into())),
            KeyFamily::Ecc => match spec {
                KeySpec::EccNistEdwards25519 => {
                    ed25519::Ed25519Key::new(bytes).map(|key| Inner::Ed25519(key.into()))
                }
                KeySpec::EccSecgP256k1 => {
                    secp256k1::Secp256k1Key::new(bytes).map(|key| Inner::Secp256k1(key.into()))
                }
                _ => ecc::EccKey::new(spec, bytes).map(|key| Inner::Ecc(key.into())),
            },
        };
        match inner {
            Some(inner) => Ok(Self { spec, inner }),
            None => Err(UnusableMaterial { spec }),
        }
    }

    /// The key's spec.
    pub fn spec(&self) -> KeySpec {
        self.spec
    }

    /// Whether what the private key does takes so long (measured: 70 us, and 1.6 ms with RSA_4096)
    /// that calls which take a few microseconds should not wait for many such.
    pub fn is_slow(&self) -> bool {
        match self.spec.family() {
            KeyFamily::Rsa | KeyFamily::MlDsa | KeyFamily::Sm2 => true,
            KeyFamily::Symmetric | KeyFamily::Hmac | KeyFamily::MlKem => false,
            KeyFamily::Ecc => {
                matches!(self.spec, KeySpec::EccNistP384 | KeySpec::EccNistP521)
            }
        }
    }

    fn other_algorithm(&self) -> UseError {
        UseError::OtherAlgorithm { spec: self.spec }
    }

    /// The public half as a SubjectPublicKeyInfo in DER; `None` for HMAC keys.
    pub fn public_key_der(&self) -> Option<&[u8]> {
        match &self.inner {
            Inner::Hmac(_) => None,
            Inner::Rsa(key) => Some(key.public_key_der()),
            Inner::Ecc(key) => Some(key.public_key_der()),
            Inner::Secp256k1(key) => Some(key.public_key_der()),
            Inner::Ed25519(key) => Some(key.public_key_der()),
            Inner::MlDsa(key) => Some(key.public_key_der()),
            Inner::MlKem(key) => Some(key.public_key_der()),
            Inner::Sm2(key) => Some(key.public_key_der()),
        }
    }

    /// The private half as PKCS#8 in DER, for data key pairs: `None` for HMAC and ML-DSA keys,
    /// which are never one.
    pub fn private_key_der(&self) -> Option<Zeroizing<Vec<u8>>> {
        match &self.inner {
            Inner::Hmac(_) | Inner::MlDsa(_) => None,
            Inner::Rsa(key) => Some(key.private_key_der()),
            Inner::Ecc(key) => Some(key.private_key_der()),
            Inner::Secp256k1(key) => Some(key.private_key_der()),
            Inner::Ed25519(key) => Some(key.private_key_der()),
            Inner::MlKem(key) => Some(key.private_key_der()),
            Inner::Sm2(key) => Some(key.private_key_der()),
        }
    }

    /// Whether the algorithm is the key's, takes the message type, and the message has a length
    /// that goes with it.
    fn check_message(
        &self,
        algorithm: SigningAlgorithm,
        message_type: MessageType,
        message: &[u8],
    ) -> Result<(), UseError> {
        if !self.spec.signing_algorithms().contains(&algorithm) {
            return Err(self.other_algorithm());
        }
        if !algorithm.takes(message_type) {
            return Err(UseError::OtherMessageType {
                algorithm,
                message_type,
            });
        }
        let expected = match message_type {
            MessageType::Raw => None,
            MessageType::Digest => algorithm.digest_bytes(),
            MessageType::ExternalMu => Some(ml_dsa::MU_BYTES),
        };
        match expected {
            Some(expected) if expected != message.len() => Err(UseError::DigestLength {
                algorithm,
                expected,
                found: message.len(),
            }),
            _ => Ok(()),
        }
    }

    /// Signs a message, or the digest or mu of one.
    ///
    /// ECDSA and SM2 signatures are DER, Ed25519's are 64 bytes, RSA's are as long as the modulus.
    /// PSS uses a salt as long as the hash. Ed25519ph hashes the 64 bytes given once more, as the
    /// real service does. A digest for SM2 is the one over the identity and the message
    /// (GB/T 32918.2, section 6.1, `e`); the identity is `1234567812345678`.
    pub fn sign(
        &self,
        algorithm: SigningAlgorithm,
        message_type: MessageType,
        message: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, UseError> {
        self.check_message(algorithm, message_type, message)?;
        match &self.inner {
            Inner::Rsa(key) => key.sign(algorithm, message_type, message),
            Inner::Ecc(key) => key.sign(message_type, message),
            Inner::Secp256k1(key) => key.sign(message_type, message),
            Inner::Ed25519(key) => key.sign(algorithm, message),
            Inner::MlDsa(key) => key.sign(message_type, message, entropy),
            Inner::Sm2(key) => key.sign(message_type, message),
            Inner::Hmac(_) | Inner::MlKem(_) => Err(self.other_algorithm()),
        }
    }

    /// Whether this key made the signature of this message, digest or mu.
    pub fn verify(
        &self,
        algorithm: SigningAlgorithm,
        message_type: MessageType,
        message: &[u8],
        signature: &[u8],
    ) -> Result<bool, UseError> {
        self.check_message(algorithm, message_type, message)?;
        match &self.inner {
            Inner::Rsa(key) => key
                .public()
                .verify(algorithm, message_type, message, signature),
            Inner::Ecc(key) => Ok(key.public().verify(message_type, message, signature)),
            Inner::Secp256k1(key) => {
                let key = key.verifying();
                Ok(secp256k1::verify(key, message_type, message, signature))
            }
            Inner::Ed25519(key) => Ok(key.verify(algorithm, message, signature)),
            Inner::MlDsa(key) => Ok(key.verify(message_type, message, signature)),
            Inner::Sm2(key) => Ok(key.verify(message_type, message, signature)),
            Inner::Hmac(_) | Inner::MlKem(_) => Err(self.other_algorithm()),
        }
    }

    fn hmac_key(&self, algorithm: MacAlgorithm) -> Result<&hmac::HmacKey, UseError> {
        match &self.inner {
            Inner::Hmac(key) if self.spec.mac_algorithms().contains(&algorithm) => Ok(key),
            _ => Err(self.other_algorithm()),
        }
    }

    /// The MAC of a message.
    pub fn mac(&self, algorithm: MacAlgorithm, message: &[u8]) -> Result<Vec<u8>, UseError> {
        Ok(self.hmac_key(algorithm)?.mac(message))
    }

    /// Whether `mac` is the whole MAC of the message, compared in constant time.
    pub fn verify_mac(
        &self,
        algorithm: MacAlgorithm,
        message: &[u8],
        mac: &[u8],
    ) -> Result<bool, UseError> {
        Ok(self.hmac_key(algorithm)?.verify(message, mac))
    }

    /// Encrypts to this key pair: RSA-OAEP or SM2PKE. The latter's ciphertext is the DER sequence
    /// of x, y, hash and ciphertext (GM/T 0009, section 7.2; C1 C3 C2).
    ///
    /// Deviation: the encoding of the real service's SM2PKE is not in the specification at hand;
    /// the DER form is the one that names its parts.
    pub fn encrypt(
        &self,
        algorithm: EncryptionAlgorithm,
        plaintext: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<Vec<u8>, UseError> {
        let max = self.spec.plaintext_bytes_max(algorithm);
        let max = max.ok_or(self.other_algorithm())?;
        if !(1..=max).contains(&plaintext.len()) {
            let found = plaintext.len();
            return Err(UseError::PlaintextLength { max, found });
        }
        match &self.inner {
            Inner::Rsa(key) => key.public().encrypt(algorithm, plaintext),
            Inner::Sm2(key) => key.encrypt(plaintext, entropy),
            _ => Err(self.other_algorithm()),
        }
    }

    /// Decrypts what [`UsableKey::encrypt`] or anyone with the public key made.
    pub fn decrypt(
        &self,
        algorithm: EncryptionAlgorithm,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, UseError> {
        if !self.spec.encryption_algorithms().contains(&algorithm) {
            return Err(self.other_algorithm());
        }
        match &self.inner {
            Inner::Rsa(key) => key.decrypt(algorithm, ciphertext),
            Inner::Sm2(key) => key.decrypt(ciphertext),
            _ => Err(self.other_algorithm()),
        }
    }

    /// The secret shared with the owner of a public key on the same curve, given as a
    /// SubjectPublicKeyInfo in DER: the x-coordinate, as long as the field (32, 48 or 66 bytes).
    pub fn agree(&self, peer: &[u8]) -> Result<Zeroizing<Vec<u8>>, UseError> {
        match &self.inner {
            Inner::Ecc(key) => Ok(key.agree(peer)?),
            Inner::Sm2(key) => Ok(key.agree(peer)?),
            _ => Err(self.other_algorithm()),
        }
    }

    /// A fresh secret and its encapsulation to this key pair.
    pub fn encapsulate(&self) -> Result<Encapsulated, UseError> {
        match &self.inner {
            Inner::MlKem(key) => key.encapsulate(),
            _ => Err(self.other_algorithm()),
        }
    }

    /// The secret in an encapsulation. One of the wrong length is an invalid ciphertext; any other
    /// wrong one gives a secret that only looks random (implicit rejection, FIPS 203).
    pub fn decapsulate(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, UseError> {
        match &self.inner {
            Inner::MlKem(key) => key.decapsulate(ciphertext),
            _ => Err(self.other_algorithm()),
        }
    }

    /// Unwraps material that was wrapped to this key pair for import. Give the bytes to
    /// [`import_material`].
    pub fn unwrap_import(
        &self,
        algorithm: WrappingAlgorithm,
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, UseError> {
        use WrappingAlgorithm as Wrapping;
        let key_wrap = |algorithm| match &self.inner {
            Inner::Rsa(key) => key.unwrap_with_aes_key(algorithm, wrapped),
            _ => Err(self.other_algorithm()),
        };
        match algorithm {
            Wrapping::RsaesPkcs1V15 => Err(self.other_algorithm()),
            Wrapping::RsaesOaepSha1 => self.decrypt(EncryptionAlgorithm::RsaesOaepSha1, wrapped),
            Wrapping::RsaesOaepSha256 => {
                self.decrypt(EncryptionAlgorithm::RsaesOaepSha256, wrapped)
            }
            Wrapping::RsaAesKeyWrapSha1 => key_wrap(EncryptionAlgorithm::RsaesOaepSha1),
            Wrapping::RsaAesKeyWrapSha256 => key_wrap(EncryptionAlgorithm::RsaesOaepSha256),
            Wrapping::Sm2Pke => self.decrypt(EncryptionAlgorithm::Sm2Pke, wrapped),
        }
    }
}
