//! What a KMS key is called and what kind it is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A KMS key's id: a hyphenated UUID, or `mrk-` and 32 hex digits for a multi-Region key.
///
/// Two ids are the same key only if both halves are equal; the text is always lower-case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyId {
    multi_region: bool,
    bytes: [u8; 16],
}

/// The text has neither form of a key id, or has upper-case digits.
///
/// The real service takes an upper-case UUID for the id of a key that does not exist, so callers
/// ask [`KeyId::is_well_formed`] to choose the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a key id")]
pub struct InvalidKeyId;

impl KeyId {
    /// Makes the id of a new single-Region key from random bytes: a version 4 UUID.
    pub fn single_region(mut random: [u8; 16]) -> Self {
        random[6] = (random[6] & 0x0f) | 0x40;
        random[8] = (random[8] & 0x3f) | 0x80;
        Self {
            multi_region: false,
            bytes: random,
        }
    }

    /// Makes the id of a new multi-Region key from random bytes.
    pub fn multi_region(random: [u8; 16]) -> Self {
        Self {
            multi_region: true,
            bytes: random,
        }
    }

    /// Whether this is the id of a multi-Region key.
    pub fn is_multi_region(self) -> bool {
        self.multi_region
    }

    /// The 17 bytes that name this key in a ciphertext: the kind, then the number.
    pub fn to_bytes(self) -> [u8; 17] {
        let mut out = [0; 17];
        out[0] = u8::from(self.multi_region);
        out[1..].copy_from_slice(&self.bytes);
        out
    }

    /// The reverse of [`KeyId::to_bytes`].
    pub fn from_bytes(bytes: [u8; 17]) -> Option<Self> {
        let multi_region = match bytes[0] {
            0 => false,
            1 => true,
            _ => return None,
        };
        let mut number = [0; 16];
        number.copy_from_slice(&bytes[1..]);
        Some(Self {
            multi_region,
            bytes: number,
        })
    }

    /// Whether `text` has the form of a key id, in either case of letters.
    pub fn is_well_formed(text: &str) -> bool {
        Self::from_str(&text.to_ascii_lowercase()).is_ok()
            && (!text.starts_with(['M', 'm']) || text.starts_with("mrk-"))
    }
}

impl FromStr for KeyId {
    type Err = InvalidKeyId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Ok(b - b'0'),
            b'a'..=b'f' => Ok(b - b'a' + 10),
            _ => Err(InvalidKeyId),
        };
        let raw = text.as_bytes();
        let multi_region = text.starts_with("mrk-");
        let mut digits = [0u8; 32];
        if multi_region {
            digits = raw[4..].try_into().map_err(|_| InvalidKeyId)?;
        } else {
            if raw.len() != 36 || [8, 13, 18, 23].iter().any(|&at| raw[at] != b'-') {
                return Err(InvalidKeyId);
            }
            let mut at = 0;
            for (position, &byte) in raw.iter().enumerate() {
                if ![8, 13, 18, 23].contains(&position) {
                    digits[at] = byte;
                    at += 1;
                }
            }
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self {
            multi_region,
            bytes,
        })
    }
}

/// Either form has as many characters.
const KEY_ID_CHARS: usize = 36;

impl KeyId {
    /// Its text, in `room`.
    pub(crate) fn text<'r>(&self, room: &'r mut [u8; KEY_ID_CHARS]) -> &'r str {
        if self.multi_region {
            room[..4].copy_from_slice(b"mrk-");
            hex(&self.bytes, &mut room[4..]);
        } else {
            room.fill(b'-');
            let mut at = 0;
            for part in [0..4, 4..6, 6..8, 8..10, 10..16] {
                let digits = 2 * part.len();
                hex(&self.bytes[part], &mut room[at..at + digits]);
                at += digits + 1;
            }
        }
        std::str::from_utf8(room).expect("hex digits and hyphens are ASCII")
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text(&mut [0; KEY_ID_CHARS]))
    }
}

/// Bytes as lower-case hex digits. Every answer has some: a formatter a byte would take half a
/// microsecond of it.
fn hex(bytes: &[u8], digits: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Names one version of a KMS key's material; 64 lower-case hex digits in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MaterialId(pub [u8; 32]);

impl MaterialId {
    /// The reverse of its text; `None` for any other.
    pub fn from_hex(text: &str) -> Option<Self> {
        bytes_of_hex(text).map(Self)
    }
}

/// The bytes that 64 lower-case hex digits stand for; `None` for any other text.
pub(crate) fn bytes_of_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len()
        || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

impl MaterialId {
    /// Its digits.
    pub fn digits(&self) -> [u8; 64] {
        let mut digits = [0; 64];
        hex(&self.0, &mut digits);
        digits
    }
}

impl fmt::Display for MaterialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).expect("hex digits are ASCII"))
    }
}

impl fmt::Debug for MaterialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MaterialId({self})")
    }
}

macro_rules! wire_names {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $wire:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name the API uses.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $wire,)+ }
            }

            /// The value the API calls `name`, if there is one.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($wire => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.name()) }
        }
    };
}

wire_names! {
    /// What kind of material a KMS key has. Source: AWS KMS API Reference, CreateKey, `KeySpec`.
    #[allow(missing_docs, reason = "the names are the API's and mean what it says")]
    KeySpec {
        SymmetricDefault = "SYMMETRIC_DEFAULT",
        Rsa2048 = "RSA_2048",
        Rsa3072 = "RSA_3072",
        Rsa4096 = "RSA_4096",
        EccNistP256 = "ECC_NIST_P256",
        EccNistP384 = "ECC_NIST_P384",
        EccNistP521 = "ECC_NIST_P521",
        EccSecgP256k1 = "ECC_SECG_P256K1",
        EccNistEdwards25519 = "ECC_NIST_EDWARDS25519",
        Hmac224 = "HMAC_224",
        Hmac256 = "HMAC_256",
        Hmac384 = "HMAC_384",
        Hmac512 = "HMAC_512",
        Sm2 = "SM2",
        MlDsa44 = "ML_DSA_44",
        MlDsa65 = "ML_DSA_65",
        MlDsa87 = "ML_DSA_87",
        MlKem512 = "ML_KEM_512",
        MlKem768 = "ML_KEM_768",
        MlKem1024 = "ML_KEM_1024",
    }
}

wire_names! {
    /// What a KMS key may be used for; fixed when it is created.
    #[allow(missing_docs, reason = "the names are the API's and mean what it says")]
    KeyUsage {
        EncryptDecrypt = "ENCRYPT_DECRYPT",
        SignVerify = "SIGN_VERIFY",
        GenerateVerifyMac = "GENERATE_VERIFY_MAC",
        KeyAgreement = "KEY_AGREEMENT",
        EncapsulateDecapsulate = "ENCAPSULATE_DECAPSULATE",
    }
}

wire_names! {
    /// Where a KMS key's material comes from; fixed when it is created.
    #[allow(missing_docs, reason = "the names are the API's and mean what it says")]
    Origin {
        AwsKms = "AWS_KMS",
        External = "EXTERNAL",
        AwsCloudhsm = "AWS_CLOUDHSM",
        ExternalKeyStore = "EXTERNAL_KEY_STORE",
    }
}

wire_names! {
    /// A KMS key's state as DescribeKey shows it. Source: AWS KMS Developer Guide, "Key states".
    #[allow(missing_docs, reason = "the names are the API's and mean what it says")]
    KeyState {
        Creating = "Creating",
        Enabled = "Enabled",
        Disabled = "Disabled",
        PendingDeletion = "PendingDeletion",
        PendingImport = "PendingImport",
        PendingReplicaDeletion = "PendingReplicaDeletion",
        Unavailable = "Unavailable",
        Updating = "Updating",
    }
}

wire_names! {
    /// What made a version of a key's material current. Source: AWS KMS API Reference,
    /// `RotationType`.
    RotationKind {
        /// The date that automatic rotation had set.
        Automatic = "AUTOMATIC",
        /// RotateKeyOnDemand.
        OnDemand = "ON_DEMAND",
    }
}

wire_names! {
    /// An operation whose last success is remembered for each key.
    /// Source: AWS KMS API Reference, `KeyLastUsageTrackingOperation`.
    #[allow(missing_docs, reason = "the names are the API's")]
    CryptographicOperation {
        Decrypt = "Decrypt",
        DeriveSharedSecret = "DeriveSharedSecret",
        Encrypt = "Encrypt",
        GenerateDataKey = "GenerateDataKey",
        GenerateDataKeyPair = "GenerateDataKeyPair",
        GenerateDataKeyPairWithoutPlaintext = "GenerateDataKeyPairWithoutPlaintext",
        GenerateDataKeyWithoutPlaintext = "GenerateDataKeyWithoutPlaintext",
        GenerateMac = "GenerateMac",
        ReEncrypt = "ReEncrypt",
        Sign = "Sign",
        Verify = "Verify",
        VerifyMac = "VerifyMac",
        Encapsulate = "Encapsulate",
        Decapsulate = "Decapsulate",
    }
}

wire_names! {
    /// The part a multi-Region key plays in its family.
    #[allow(missing_docs, reason = "the names are the API's and mean what it says")]
    MultiRegionRole {
        Primary = "PRIMARY",
        Replica = "REPLICA",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a key id that changes on its way through text or bytes.
    #[test]
    fn key_ids_survive_text_and_bytes() {
        for id in [
            KeyId::single_region([0xab; 16]),
            KeyId::multi_region([0x0f; 16]),
        ] {
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(KeyId::from_bytes(id.to_bytes()), Some(id));
        }
        assert_eq!(
            KeyId::multi_region([0x12; 16]).to_string(),
            "mrk-12121212121212121212121212121212"
        );
    }

    /// Catches a material id that changes on its way through text, and texts that are none.
    #[test]
    fn material_ids_survive_text() {
        let id = MaterialId(std::array::from_fn(|at| 255 - at as u8));
        let text = id.to_string();
        assert_eq!(MaterialId::from_hex(&text), Some(id));
        for bad in [
            "",
            &text[1..],
            &text.to_uppercase(),
            &"+1".repeat(32),
            &"é".repeat(32),
        ] {
            assert_eq!(MaterialId::from_hex(bad), None, "{bad}");
        }
    }

    /// Catches a form the real service calls invalid being taken for an id, and the reverse.
    #[test]
    fn only_the_two_forms_are_ids() {
        let uuid = "1234abcd-12ab-34cd-56ef-1234567890ab";
        assert!(uuid.parse::<KeyId>().is_ok());
        assert!(KeyId::is_well_formed(&uuid.to_uppercase()));
        for bad in [
            "",
            "mrk-",
            "mrk-xyz",
            "1234abcd12ab34cd56ef1234567890ab",
            "mrk-é",
            "foo",
        ] {
            assert!(bad.parse::<KeyId>().is_err(), "{bad}");
            assert!(!KeyId::is_well_formed(bad), "{bad}");
        }
        assert!(uuid.to_uppercase().parse::<KeyId>().is_err());
    }
}
