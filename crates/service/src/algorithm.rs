//! What data keys and new keys are asked to be, and the lists of algorithms that answers show.

use keyrum_types::{
    EncapsulationAlgorithm, EncryptionAlgorithm, KeyAgreementAlgorithm, KeySpec, KeyUsage,
    MacAlgorithm, SigningAlgorithm,
};

/// The kind of a data key. Source: AWS KMS API Reference, `DataKeySpec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataKeySpec {
    /// 32 bytes.
    Aes256,
    /// 16 bytes.
    Aes128,
}

impl DataKeySpec {
    /// The length of such a data key, in bytes.
    pub fn bytes(self) -> u32 {
        match self {
            Self::Aes256 => 32,
            Self::Aes128 => 16,
        }
    }
}

/// What a key can be used with: the list that its usage leads to, in the order shown. Empty if a
/// key, made before the rule, has a usage that is not one of its spec's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithms {
    /// ENCRYPT_DECRYPT.
    Encryption(&'static [EncryptionAlgorithm]),
    /// SIGN_VERIFY.
    Signing(&'static [SigningAlgorithm]),
    /// GENERATE_VERIFY_MAC.
    Mac(&'static [MacAlgorithm]),
    /// KEY_AGREEMENT.
    KeyAgreement(&'static [KeyAgreementAlgorithm]),
    /// ENCAPSULATE_DECAPSULATE.
    Encapsulation(&'static [EncapsulationAlgorithm]),
}

impl Algorithms {
    /// Those of a key of that spec and usage.
    pub fn of(spec: KeySpec, usage: KeyUsage) -> Self {
        match usage {
            KeyUsage::EncryptDecrypt => Self::Encryption(spec.encryption_algorithms()),
            KeyUsage::SignVerify => Self::Signing(spec.signing_algorithms()),
            KeyUsage::GenerateVerifyMac => Self::Mac(spec.mac_algorithms()),
            KeyUsage::KeyAgreement => Self::KeyAgreement(spec.key_agreement_algorithms()),
            KeyUsage::EncapsulateDecapsulate => {
                Self::Encapsulation(spec.encapsulation_algorithms())
            }
        }
    }
}
