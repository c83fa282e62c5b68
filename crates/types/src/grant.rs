//! The words of grants.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::key::bytes_of_hex;

/// Names one grant; 64 lower-case hex digits in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GrantId(pub [u8; 32]);

impl GrantId {
    /// The reverse of its text; `None` for any other.
    pub fn from_hex(text: &str) -> Option<Self> {
        bytes_of_hex(text).map(Self)
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GrantId({self})")
    }
}

wire_names! {
    /// What a grant can allow. Source: AWS KMS API Reference, CreateGrant, `Operations`.
    #[allow(missing_docs, reason = "the names are the API's and mean what it says")]
    GrantOperation {
        Decrypt = "Decrypt",
        Encrypt = "Encrypt",
        GenerateDataKey = "GenerateDataKey",
        GenerateDataKeyWithoutPlaintext = "GenerateDataKeyWithoutPlaintext",
        ReEncryptFrom = "ReEncryptFrom",
        ReEncryptTo = "ReEncryptTo",
        Sign = "Sign",
        Verify = "Verify",
        GetPublicKey = "GetPublicKey",
        CreateGrant = "CreateGrant",
        RetireGrant = "RetireGrant",
        DescribeKey = "DescribeKey",
        GenerateDataKeyPair = "GenerateDataKeyPair",
        GenerateDataKeyPairWithoutPlaintext = "GenerateDataKeyPairWithoutPlaintext",
        GenerateMac = "GenerateMac",
        VerifyMac = "VerifyMac",
        DeriveSharedSecret = "DeriveSharedSecret",
        Encapsulate = "Encapsulate",
        Decapsulate = "Decapsulate",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a grant id that changes on its way through text, and texts that are none.
    #[test]
    fn grant_ids_survive_text() {
        let id = GrantId(std::array::from_fn(|at| 255 - at as u8));
        let text = id.to_string();
        assert_eq!(text.len(), 64);
        assert_eq!(GrantId::from_hex(&text), Some(id));
        assert_eq!(GrantId::from_hex(&text.to_uppercase()), None);
        assert_eq!(GrantId::from_hex(&text[1..]), None);
    }
}
