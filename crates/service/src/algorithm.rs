//! The API's names for algorithms that requests and answers carry.

use std::fmt;

use keyrum_types::KeySpec;

/// How data is encrypted. Source: AWS KMS API Reference, `EncryptionAlgorithmSpec`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EncryptionAlgorithm {
    /// AES-256-GCM under a key derived for each encryption.
    #[default]
    SymmetricDefault,
    /// RSA-OAEP with SHA-1.
    RsaesOaepSha1,
    /// RSA-OAEP with SHA-256.
    RsaesOaepSha256,
    /// SM2 public key encryption.
    Sm2Pke,
}

impl EncryptionAlgorithm {
    /// Every value.
    pub const ALL: &[Self] = &[
        Self::SymmetricDefault,
        Self::RsaesOaepSha1,
        Self::RsaesOaepSha256,
        Self::Sm2Pke,
    ];

    /// The name the API uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::SymmetricDefault => "SYMMETRIC_DEFAULT",
            Self::RsaesOaepSha1 => "RSAES_OAEP_SHA_1",
            Self::RsaesOaepSha256 => "RSAES_OAEP_SHA_256",
            Self::Sm2Pke => "SM2PKE",
        }
    }

    /// The value the API calls `name`, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|algorithm| algorithm.name() == name)
    }

    /// The algorithms of an encryption key of this spec, in the order DescribeKey gives them.
    pub fn of(spec: KeySpec) -> &'static [Self] {
        match spec {
            KeySpec::SymmetricDefault => &[Self::SymmetricDefault],
            KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
                &[Self::RsaesOaepSha1, Self::RsaesOaepSha256]
            }
            KeySpec::Sm2 => &[Self::Sm2Pke],
            _ => &[],
        }
    }
}

impl fmt::Display for EncryptionAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

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
