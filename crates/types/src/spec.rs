//! What each key spec can do: the one table that creation, use and import are checked against.
//!
//! Source: AWS KMS Developer Guide, "Key spec reference", and the API Reference's enumerations.
//! Lists are in the order that the real service answers with.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;

use crate::{KeySpec, KeyUsage};

wire_names! {
    /// How an encryption is made. Source: AWS KMS API Reference, `EncryptionAlgorithmSpec`.
    EncryptionAlgorithm {
        /// AES-256-GCM, in China SM4-GCM, under a key derived for each encryption.
        SymmetricDefault = "SYMMETRIC_DEFAULT",
        /// RSA-OAEP with SHA-1, also for MGF1; empty label.
        RsaesOaepSha1 = "RSAES_OAEP_SHA_1",
        /// RSA-OAEP with SHA-256, also for MGF1; empty label.
        RsaesOaepSha256 = "RSAES_OAEP_SHA_256",
        /// SM2 public key encryption.
        Sm2Pke = "SM2PKE",
    }
}

wire_names! {
    /// How a signature is made. Source: AWS KMS API Reference, `SigningAlgorithmSpec`.
    #[allow(missing_docs, reason = "the names are the API's and mean what it says")]
    SigningAlgorithm {
        RsassaPkcs1V15Sha256 = "RSASSA_PKCS1_V1_5_SHA_256",
        RsassaPkcs1V15Sha384 = "RSASSA_PKCS1_V1_5_SHA_384",
        RsassaPkcs1V15Sha512 = "RSASSA_PKCS1_V1_5_SHA_512",
        RsassaPssSha256 = "RSASSA_PSS_SHA_256",
        RsassaPssSha384 = "RSASSA_PSS_SHA_384",
        RsassaPssSha512 = "RSASSA_PSS_SHA_512",
        EcdsaSha256 = "ECDSA_SHA_256",
        EcdsaSha384 = "ECDSA_SHA_384",
        EcdsaSha512 = "ECDSA_SHA_512",
        Ed25519PhSha512 = "ED25519_PH_SHA_512",
        Ed25519Sha512 = "ED25519_SHA_512",
        MlDsaShake256 = "ML_DSA_SHAKE_256",
        Sm2Dsa = "SM2DSA",
    }
}

wire_names! {
    /// How a MAC is made. Source: AWS KMS API Reference, `MacAlgorithmSpec`.
    #[allow(missing_docs, reason = "the names are the API's and mean what it says")]
    MacAlgorithm {
        HmacSha224 = "HMAC_SHA_224",
        HmacSha256 = "HMAC_SHA_256",
        HmacSha384 = "HMAC_SHA_384",
        HmacSha512 = "HMAC_SHA_512",
    }
}

wire_names! {
    /// How a shared secret is agreed on. Source: AWS KMS API Reference, `KeyAgreementAlgorithmSpec`.
    KeyAgreementAlgorithm {
        /// The x-coordinate of the shared point (SP 800-56A, section 5.7.1.2), not hashed.
        Ecdh = "ECDH",
    }
}

wire_names! {
    /// How a secret is encapsulated. Source: AWS KMS API, `EncapsulationAlgorithmSpec`.
    EncapsulationAlgorithm {
        /// FIPS 203.
        MlKem = "ML_KEM",
    }
}

wire_names! {
    /// What the message of Sign and Verify is. Source: AWS KMS API Reference, Sign, `MessageType`.
    MessageType {
        /// The message itself.
        Raw = "RAW",
        /// Its digest: the signing algorithm's own hashing is skipped.
        Digest = "DIGEST",
        /// The message representative of ML-DSA, 64 bytes (FIPS 204, section 6.2).
        ExternalMu = "EXTERNAL_MU",
    }
}

wire_names! {
    /// A data key pair's kind. Source: AWS KMS API Reference, `DataKeyPairSpec`.
    #[allow(missing_docs, reason = "the names are the API's and mean what it says")]
    DataKeyPairSpec {
        Rsa2048 = "RSA_2048",
        Rsa3072 = "RSA_3072",
        Rsa4096 = "RSA_4096",
        EccNistP256 = "ECC_NIST_P256",
        EccNistP384 = "ECC_NIST_P384",
        EccNistP521 = "ECC_NIST_P521",
        EccSecgP256k1 = "ECC_SECG_P256K1",
        Sm2 = "SM2",
        EccNistEdwards25519 = "ECC_NIST_EDWARDS25519",
        MlKem512 = "ML_KEM_512",
        MlKem768 = "ML_KEM_768",
        MlKem1024 = "ML_KEM_1024",
    }
}

wire_names! {
    /// How material to import is wrapped. Source: AWS KMS API Reference,
    /// GetParametersForImport, `AlgorithmSpec`.
    WrappingAlgorithm {
        /// No longer taken for any material.
        RsaesPkcs1V15 = "RSAES_PKCS1_V1_5",
        /// RSA-OAEP of the material itself.
        RsaesOaepSha1 = "RSAES_OAEP_SHA_1",
        /// RSA-OAEP of the material itself.
        RsaesOaepSha256 = "RSAES_OAEP_SHA_256",
        /// RSA-OAEP of an AES-256 key, then the material wrapped with it (RFC 5649).
        RsaAesKeyWrapSha1 = "RSA_AES_KEY_WRAP_SHA_1",
        /// RSA-OAEP of an AES-256 key, then the material wrapped with it (RFC 5649).
        RsaAesKeyWrapSha256 = "RSA_AES_KEY_WRAP_SHA_256",
        /// SM2 public key encryption of the material itself.
        Sm2Pke = "SM2PKE",
    }
}

wire_names! {
    /// The key pair that material to import is wrapped with. Source: AWS KMS API Reference,
    /// GetParametersForImport, `WrappingKeySpec`.
    #[allow(missing_docs, reason = "the names are the API's and mean what it says")]
    WrappingKeySpec {
        Rsa2048 = "RSA_2048",
        Rsa3072 = "RSA_3072",
        Rsa4096 = "RSA_4096",
        Sm2 = "SM2",
    }
}

/// What kind of primitive a key spec names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFamily {
    /// One secret that encrypts and decrypts.
    Symmetric,
    /// One secret that makes and checks MACs.
    Hmac,
    /// An RSA key pair.
    Rsa,
    /// A key pair on a NIST curve, secp256k1 or Edwards25519.
    Ecc,
    /// An ML-DSA key pair (FIPS 204).
    MlDsa,
    /// An ML-KEM key pair (FIPS 203).
    MlKem,
    /// An SM2 key pair (GB/T 32918).
    Sm2,
}

/// A row of the table: what [`KeySpec`]'s methods answer from.
struct Row {
    family: KeyFamily,
    usages: &'static [KeyUsage],
    encryption: &'static [EncryptionAlgorithm],
    signing: &'static [SigningAlgorithm],
    mac: &'static [MacAlgorithm],
    agreement: &'static [KeyAgreementAlgorithm],
    encapsulation: &'static [EncapsulationAlgorithm],
}

const NOTHING: Row = Row {
    family: KeyFamily::Symmetric,
    usages: &[],
    encryption: &[],
    signing: &[],
    mac: &[],
    agreement: &[],
    encapsulation: &[],
};

const RSA: Row = Row {
    family: KeyFamily::Rsa,
    usages: &[KeyUsage::EncryptDecrypt, KeyUsage::SignVerify],
    encryption: &[
        EncryptionAlgorithm::RsaesOaepSha1,
        EncryptionAlgorithm::RsaesOaepSha256,
    ],
    signing: &[
        SigningAlgorithm::RsassaPkcs1V15Sha256,
        SigningAlgorithm::RsassaPkcs1V15Sha384,
        SigningAlgorithm::RsassaPkcs1V15Sha512,
        SigningAlgorithm::RsassaPssSha256,
        SigningAlgorithm::RsassaPssSha384,
        SigningAlgorithm::RsassaPssSha512,
    ],
    ..NOTHING
};

const fn hmac(mac: &'static [MacAlgorithm]) -> Row {
    Row {
        family: KeyFamily::Hmac,
        usages: &[KeyUsage::GenerateVerifyMac],
        mac,
        ..NOTHING
    }
}

const fn nist(signing: &'static [SigningAlgorithm]) -> Row {
    Row {
        family: KeyFamily::Ecc,
        usages: &[KeyUsage::SignVerify, KeyUsage::KeyAgreement],
        signing,
        agreement: &[KeyAgreementAlgorithm::Ecdh],
        ..NOTHING
    }
}

const fn signs(family: KeyFamily, signing: &'static [SigningAlgorithm]) -> Row {
    Row {
        family,
        usages: &[KeyUsage::SignVerify],
        signing,
        ..NOTHING
    }
}

const SYMMETRIC: Row = Row {
    usages: &[KeyUsage::EncryptDecrypt],
    encryption: &[EncryptionAlgorithm::SymmetricDefault],
    ..NOTHING
};

const ML_KEM: Row = Row {
    family: KeyFamily::MlKem,
    usages: &[KeyUsage::EncapsulateDecapsulate],
    encapsulation: &[EncapsulationAlgorithm::MlKem],
    ..NOTHING
};

const SM2: Row = Row {
    family: KeyFamily::Sm2,
    usages: &[
        KeyUsage::EncryptDecrypt,
        KeyUsage::SignVerify,
        KeyUsage::KeyAgreement,
    ],
    encryption: &[EncryptionAlgorithm::Sm2Pke],
    signing: &[SigningAlgorithm::Sm2Dsa],
    agreement: &[KeyAgreementAlgorithm::Ecdh],
    ..NOTHING
};

impl KeySpec {
    fn row(self) -> Row {
        match self {
            Self::SymmetricDefault => SYMMETRIC,
            Self::Hmac224 => hmac(&[MacAlgorithm::HmacSha224]),
            Self::Hmac256 => hmac(&[MacAlgorithm::HmacSha256]),
            Self::Hmac384 => hmac(&[MacAlgorithm::HmacSha384]),
            Self::Hmac512 => hmac(&[MacAlgorithm::HmacSha512]),
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => RSA,
            Self::EccNistP256 => nist(&[SigningAlgorithm::EcdsaSha256]),
            Self::EccNistP384 => nist(&[SigningAlgorithm::EcdsaSha384]),
            Self::EccNistP521 => nist(&[SigningAlgorithm::EcdsaSha512]),
            Self::EccSecgP256k1 => signs(KeyFamily::Ecc, &[SigningAlgorithm::EcdsaSha256]),
            Self::EccNistEdwards25519 => signs(
                KeyFamily::Ecc,
                &[
                    SigningAlgorithm::Ed25519PhSha512,
                    SigningAlgorithm::Ed25519Sha512,
                ],
            ),
            Self::MlDsa44 | Self::MlDsa65 | Self::MlDsa87 => {
                signs(KeyFamily::MlDsa, &[SigningAlgorithm::MlDsaShake256])
            }
            Self::MlKem512 | Self::MlKem768 | Self::MlKem1024 => ML_KEM,
            Self::Sm2 => SM2,
        }
    }

    /// The primitive it names.
    pub fn family(self) -> KeyFamily {
        self.row().family
    }

    /// The usages that CreateKey takes with this spec.
    pub fn usages(self) -> &'static [KeyUsage] {
        self.row().usages
    }

    /// The algorithms of Encrypt and Decrypt; empty if there are none.
    pub fn encryption_algorithms(self) -> &'static [EncryptionAlgorithm] {
        self.row().encryption
    }

    /// The algorithms of Sign and Verify; empty if there are none.
    pub fn signing_algorithms(self) -> &'static [SigningAlgorithm] {
        self.row().signing
    }

    /// The algorithms of GenerateMac and VerifyMac; empty if there are none.
    pub fn mac_algorithms(self) -> &'static [MacAlgorithm] {
        self.row().mac
    }

    /// The algorithms of DeriveSharedSecret; empty if there are none.
    pub fn key_agreement_algorithms(self) -> &'static [KeyAgreementAlgorithm] {
        self.row().agreement
    }

    /// The algorithms of Encapsulate and Decapsulate; empty if there are none.
    pub fn encapsulation_algorithms(self) -> &'static [EncapsulationAlgorithm] {
        self.row().encapsulation
    }

    /// Whether it has a public key, which GetPublicKey gives.
    pub fn is_asymmetric(self) -> bool {
        !matches!(self.family(), KeyFamily::Symmetric | KeyFamily::Hmac)
    }

    /// Whether Regions of this partition (`aws`, `aws-cn`, ...) have it.
    pub fn is_offered_in(self, partition: &str) -> bool {
        match self.family() {
            KeyFamily::Sm2 => partition == "aws-cn",
            KeyFamily::MlKem => partition != "aws-cn",
            _ => true,
        }
    }

    /// Whether a key of Origin EXTERNAL may have it.
    ///
    /// Deviation: the real service's answer for ML-KEM is not known; here it is refused, since a
    /// key that could not be imported elsewhere afterwards would be a trap.
    pub fn is_importable(self) -> bool {
        !matches!(self.family(), KeyFamily::MlDsa | KeyFamily::MlKem)
    }

    /// Whether a multi-Region key may have it.
    ///
    /// Deviation: the real service's answer is not known for ML-DSA, ML-KEM and Edwards25519;
    /// here every spec may.
    pub fn is_multi_region(self) -> bool {
        true
    }

    /// Whether a custom key store may hold it.
    pub fn is_custom_key_store(self) -> bool {
        self == Self::SymmetricDefault
    }

    /// Whether its material can be rotated: on demand, and automatically with Origin AWS_KMS.
    pub fn is_rotatable(self) -> bool {
        self == Self::SymmetricDefault
    }

    /// How many bytes a secret of this spec may have, if its bytes are any bytes: symmetric keys
    /// (32; 16 in the partition `aws-cn`) and HMAC keys. `None` for key pairs.
    pub fn secret_bytes(self, partition: &str) -> Option<RangeInclusive<usize>> {
        match self {
            Self::SymmetricDefault if partition == "aws-cn" => Some(16..=16),
            Self::SymmetricDefault => Some(32..=32),
            _ => {
                let mac = self.mac_algorithms().first()?;
                Some(mac.mac_bytes()..=HMAC_SECRET_BYTES_MAX)
            }
        }
    }

    /// Bits of an RSA modulus; `None` for other specs.
    pub fn rsa_bits(self) -> Option<usize> {
        match self {
            Self::Rsa2048 => Some(2048),
            Self::Rsa3072 => Some(3072),
            Self::Rsa4096 => Some(4096),
            _ => None,
        }
    }

    /// Bytes of an ML-KEM ciphertext; `None` for other specs. Source: FIPS 203, table 3.
    pub fn encapsulation_bytes(self) -> Option<usize> {
        match self {
            Self::MlKem512 => Some(768),
            Self::MlKem768 => Some(1088),
            Self::MlKem1024 => Some(1568),
            _ => None,
        }
    }

    /// The longest plaintext, in bytes, that Encrypt takes; `None` if the algorithm is not one of
    /// this spec's. For OAEP: modulus bytes - 2 * hash bytes - 2 (RFC 8017, section 7.1.1).
    pub fn plaintext_bytes_max(self, algorithm: EncryptionAlgorithm) -> Option<usize> {
        if !self.encryption_algorithms().contains(&algorithm) {
            return None;
        }
        let oaep = |hash_bytes: usize| self.rsa_bits().map(|bits| bits / 8 - 2 * hash_bytes - 2);
        match algorithm {
            EncryptionAlgorithm::SymmetricDefault => Some(4096),
            EncryptionAlgorithm::RsaesOaepSha1 => oaep(20),
            EncryptionAlgorithm::RsaesOaepSha256 => oaep(32),
            EncryptionAlgorithm::Sm2Pke => Some(1024),
        }
    }
}

/// The longest HMAC secret that can be imported: 1024 bits.
const HMAC_SECRET_BYTES_MAX: usize = 128;

impl MacAlgorithm {
    /// Bytes in a MAC, and the fewest in a key for it.
    pub fn mac_bytes(self) -> usize {
        match self {
            Self::HmacSha224 => 28,
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
        }
    }
}

impl SigningAlgorithm {
    /// Which message types it can be used with.
    pub fn takes(self, message_type: MessageType) -> bool {
        match message_type {
            MessageType::Raw => self != Self::Ed25519PhSha512,
            MessageType::Digest => self.digest_bytes().is_some(),
            MessageType::ExternalMu => self == Self::MlDsaShake256,
        }
    }

    /// How many bytes a message of type DIGEST must have; `None` if it takes none.
    pub fn digest_bytes(self) -> Option<usize> {
        match self {
            Self::RsassaPkcs1V15Sha256
            | Self::RsassaPssSha256
            | Self::EcdsaSha256
            | Self::Sm2Dsa => Some(32),
            Self::RsassaPkcs1V15Sha384 | Self::RsassaPssSha384 | Self::EcdsaSha384 => Some(48),
            Self::RsassaPkcs1V15Sha512
            | Self::RsassaPssSha512
            | Self::EcdsaSha512
            | Self::Ed25519PhSha512 => Some(64),
            Self::Ed25519Sha512 | Self::MlDsaShake256 => None,
        }
    }
}

impl DataKeyPairSpec {
    /// The key spec of the same name.
    pub fn key_spec(self) -> KeySpec {
        KeySpec::from_name(self.name()).expect("every data key pair spec is a key spec")
    }
}

impl WrappingKeySpec {
    /// The key spec of the same name.
    pub fn key_spec(self) -> KeySpec {
        KeySpec::from_name(self.name()).expect("every wrapping key spec is a key spec")
    }
}

impl WrappingAlgorithm {
    /// Whether material of the spec `material` may be wrapped with this algorithm and a wrapping
    /// key of the spec `wrapping` in Regions of this partition. Source: AWS KMS Developer Guide,
    /// "Importing key material", step 2.
    pub fn wraps(self, wrapping: WrappingKeySpec, material: KeySpec, partition: &str) -> bool {
        if !material.is_importable() || (self == Self::Sm2Pke) != (wrapping == WrappingKeySpec::Sm2)
        {
            return false;
        }
        let china = partition == "aws-cn";
        let family = material.family();
        match self {
            Self::RsaesPkcs1V15 => false,
            // What OAEP with a modulus of 2048 bits cannot hold, or in the case of Edwards25519
            // could but does not.
            Self::RsaesOaepSha1 | Self::RsaesOaepSha256 => {
                let refused = matches!(
                    material,
                    KeySpec::EccNistP521 | KeySpec::EccNistEdwards25519
                ) && wrapping == WrappingKeySpec::Rsa2048;
                family != KeyFamily::Rsa && !refused
            }
            Self::RsaAesKeyWrapSha1 | Self::RsaAesKeyWrapSha256 => {
                matches!(family, KeyFamily::Rsa | KeyFamily::Ecc) && !china
            }
            Self::Sm2Pke => {
                matches!(family, KeyFamily::Rsa | KeyFamily::Ecc | KeyFamily::Sm2) && china
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a usage without algorithms, and algorithms that no usage leads to: KeyMetadata
    /// shows exactly one list, chosen by the usage.
    #[test]
    fn each_usage_has_its_algorithms_and_nothing_else() {
        for &spec in KeySpec::ALL {
            for &usage in KeyUsage::ALL {
                let listed = match usage {
                    KeyUsage::EncryptDecrypt => !spec.encryption_algorithms().is_empty(),
                    KeyUsage::SignVerify => !spec.signing_algorithms().is_empty(),
                    KeyUsage::GenerateVerifyMac => !spec.mac_algorithms().is_empty(),
                    KeyUsage::KeyAgreement => !spec.key_agreement_algorithms().is_empty(),
                    KeyUsage::EncapsulateDecapsulate => !spec.encapsulation_algorithms().is_empty(),
                };
                assert_eq!(listed, spec.usages().contains(&usage), "{spec} {usage}");
            }
        }
    }

    /// Catches an algorithm that no key spec has.
    #[test]
    fn every_algorithm_has_a_key_spec() {
        let any = |has: &dyn Fn(KeySpec) -> bool| KeySpec::ALL.iter().any(|&spec| has(spec));
        for algorithm in SigningAlgorithm::ALL {
            assert!(any(&|spec| spec.signing_algorithms().contains(algorithm)));
        }
        for algorithm in EncryptionAlgorithm::ALL {
            assert!(any(&|spec| spec
                .encryption_algorithms()
                .contains(algorithm)));
        }
        for algorithm in MacAlgorithm::ALL {
            assert!(any(&|spec| spec.mac_algorithms().contains(algorithm)));
        }
    }

    /// Catches a plaintext limit that differs from the real service's.
    #[test]
    fn plaintexts_have_the_published_limits() {
        use EncryptionAlgorithm::{RsaesOaepSha1, RsaesOaepSha256, Sm2Pke};
        let limit = |spec: KeySpec, algorithm| spec.plaintext_bytes_max(algorithm);
        for (spec, sha1, sha256) in [
            (KeySpec::Rsa2048, 214, 190),
            (KeySpec::Rsa3072, 342, 318),
            (KeySpec::Rsa4096, 470, 446),
        ] {
            assert_eq!(limit(spec, RsaesOaepSha1), Some(sha1));
            assert_eq!(limit(spec, RsaesOaepSha256), Some(sha256));
            assert_eq!(limit(spec, Sm2Pke), None);
        }
        assert_eq!(limit(KeySpec::Sm2, Sm2Pke), Some(1024));
    }

    /// Catches a wrapping that the real service refuses, or one that it takes being refused.
    #[test]
    fn wrapping_follows_the_published_table() {
        use WrappingAlgorithm as A;
        use WrappingKeySpec as W;
        for (algorithm, wrapping, material, partition, expected) in [
            (
                A::RsaesOaepSha256,
                W::Rsa2048,
                KeySpec::SymmetricDefault,
                "aws",
                true,
            ),
            (
                A::RsaAesKeyWrapSha256,
                W::Rsa2048,
                KeySpec::SymmetricDefault,
                "aws",
                false,
            ),
            (
                A::RsaesOaepSha1,
                W::Rsa2048,
                KeySpec::EccNistP521,
                "aws",
                false,
            ),
            (
                A::RsaesOaepSha1,
                W::Rsa3072,
                KeySpec::EccNistP521,
                "aws",
                true,
            ),
            (
                A::RsaesOaepSha256,
                W::Rsa4096,
                KeySpec::Rsa2048,
                "aws",
                false,
            ),
            (
                A::RsaAesKeyWrapSha1,
                W::Rsa4096,
                KeySpec::Rsa2048,
                "aws",
                true,
            ),
            (
                A::RsaAesKeyWrapSha1,
                W::Rsa4096,
                KeySpec::Rsa2048,
                "aws-cn",
                false,
            ),
            (A::Sm2Pke, W::Sm2, KeySpec::Rsa2048, "aws-cn", true),
            (A::Sm2Pke, W::Sm2, KeySpec::Sm2, "aws", false),
            (A::Sm2Pke, W::Rsa2048, KeySpec::Sm2, "aws-cn", false),
            (A::RsaesOaepSha1, W::Sm2, KeySpec::Sm2, "aws-cn", false),
            (
                A::RsaesOaepSha256,
                W::Rsa4096,
                KeySpec::MlDsa44,
                "aws",
                false,
            ),
            (
                A::RsaesPkcs1V15,
                W::Rsa2048,
                KeySpec::SymmetricDefault,
                "aws",
                false,
            ),
        ] {
            assert_eq!(
                algorithm.wraps(wrapping, material, partition),
                expected,
                "{algorithm} {wrapping} {material} {partition}"
            );
        }
    }
}
