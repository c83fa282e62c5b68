//! What of a request stands in its record: `requestParameters`.
//!
//! A list of what is told, not of what is hidden: a member that the model gets some day is not told
//! until somebody has looked at it. Never told: anything that is or opens a secret (plaintexts,
//! messages, ciphertexts, signatures, MACs, tokens, passwords, documents).

use std::sync::LazyLock;

use keyrum_types::UnixMillis;

use super::record::long_date;
use crate::fields::Fields;
use crate::json::{ObjectWriter, Value, write_text};
use crate::model::{Kind, Model, Operation, ShapeId};

/// What records tell of each operation's request, by the API's names; operations that are not here
/// have null. `KeyId` and what is always filled in is handled beside it.
/// Source: AWS KMS Developer Guide, "Examples of AWS KMS log entries".
pub(super) const TOLD: &[(&str, &[&str])] = &[
    ("CancelKeyDeletion", &["KeyId"]),
    ("ConnectCustomKeyStore", &["CustomKeyStoreId"]),
    ("CreateAlias", &["AliasName", "TargetKeyId"]),
    (
        "CreateCustomKeyStore",
        &[
            "CustomKeyStoreName",
            "CustomKeyStoreType",
            "CloudHsmClusterId",
            "TrustAnchorCertificate",
            "XksProxyUriEndpoint",
            "XksProxyUriPath",
            "XksProxyVpcEndpointServiceName",
            "XksProxyVpcEndpointServiceOwner",
            "XksProxyConnectivity",
        ],
    ),
    (
        "CreateGrant",
        &[
            "KeyId",
            "GranteePrincipal",
            "GranteeServicePrincipal",
            "RetiringPrincipal",
            "RetiringServicePrincipal",
            "Operations",
            "Constraints",
            "Name",
        ],
    ),
    (
        "CreateKey",
        &[
            "Description",
            "KeyUsage",
            "KeySpec",
            "CustomerMasterKeySpec",
            "Origin",
            "MultiRegion",
            "Policy",
            "Tags",
            "BypassPolicyLockoutSafetyCheck",
            "CustomKeyStoreId",
            "XksKeyId",
        ],
    ),
    ("Decapsulate", &["KeyId", "EncapsulationAlgorithm"]),
    (
        "Decrypt",
        &["KeyId", "EncryptionAlgorithm", "EncryptionContext"],
    ),
    ("DeleteAlias", &["AliasName"]),
    ("DeleteCustomKeyStore", &["CustomKeyStoreId"]),
    ("DeleteImportedKeyMaterial", &["KeyId", "KeyMaterialId"]),
    ("DeriveSharedSecret", &["KeyId", "KeyAgreementAlgorithm"]),
    (
        "DescribeCustomKeyStores",
        &["CustomKeyStoreId", "CustomKeyStoreName", "Limit", "Marker"],
    ),
    ("DescribeKey", &["KeyId"]),
    ("DisableKey", &["KeyId"]),
    ("DisableKeyRotation", &["KeyId"]),
    ("DisconnectCustomKeyStore", &["CustomKeyStoreId"]),
    ("EnableKey", &["KeyId"]),
    ("EnableKeyRotation", &["KeyId", "RotationPeriodInDays"]),
    ("Encapsulate", &["KeyId", "EncapsulationAlgorithm"]),
    (
        "Encrypt",
        &["KeyId", "EncryptionAlgorithm", "EncryptionContext"],
    ),
    (
        "GenerateDataKey",
        &["KeyId", "KeySpec", "NumberOfBytes", "EncryptionContext"],
    ),
    (
        "GenerateDataKeyPair",
        &["KeyId", "KeyPairSpec", "EncryptionContext"],
    ),
    (
        "GenerateDataKeyPairWithoutPlaintext",
        &["KeyId", "KeyPairSpec", "EncryptionContext"],
    ),
    (
        "GenerateDataKeyWithoutPlaintext",
        &["KeyId", "KeySpec", "NumberOfBytes", "EncryptionContext"],
    ),
    ("GenerateMac", &["KeyId", "MacAlgorithm"]),
    ("GetKeyLastUsage", &["KeyId"]),
    ("GetKeyPolicy", &["KeyId", "PolicyName"]),
    ("GetKeyRotationStatus", &["KeyId"]),
    (
        "GetParametersForImport",
        &["KeyId", "WrappingAlgorithm", "WrappingKeySpec"],
    ),
    ("GetPublicKey", &["KeyId"]),
    (
        "ImportKeyMaterial",
        &[
            "KeyId",
            "ValidTo",
            "ExpirationModel",
            "ImportType",
            "KeyMaterialDescription",
            "KeyMaterialId",
        ],
    ),
    ("ListAliases", &["KeyId", "Limit", "Marker"]),
    (
        "ListGrants",
        &[
            "KeyId",
            "GrantId",
            "GranteePrincipal",
            "GranteeServicePrincipal",
            "Limit",
            "Marker",
        ],
    ),
    ("ListKeyPolicies", &["KeyId", "Limit", "Marker"]),
    (
        "ListKeyRotations",
        &["KeyId", "IncludeKeyMaterial", "Limit", "Marker"],
    ),
    ("ListKeys", &["Limit", "Marker", "ResourceOwners"]),
    ("ListResourceTags", &["KeyId", "Limit", "Marker"]),
    (
        "ListRetirableGrants",
        &[
            "RetiringPrincipal",
            "RetiringServicePrincipal",
            "Limit",
            "Marker",
        ],
    ),
    (
        "PutKeyPolicy",
        &[
            "KeyId",
            "PolicyName",
            "Policy",
            "BypassPolicyLockoutSafetyCheck",
        ],
    ),
    (
        "ReEncrypt",
        &[
            "SourceEncryptionAlgorithm",
            "SourceEncryptionContext",
            "SourceKeyId",
            "DestinationKeyId",
            "DestinationEncryptionAlgorithm",
            "DestinationEncryptionContext",
        ],
    ),
    (
        "ReplicateKey",
        &[
            "KeyId",
            "ReplicaRegion",
            "BypassPolicyLockoutSafetyCheck",
            "Description",
            "Policy",
            "Tags",
        ],
    ),
    ("RevokeGrant", &["KeyId", "GrantId"]),
    ("RotateKeyOnDemand", &["KeyId"]),
    ("ScheduleKeyDeletion", &["KeyId", "PendingWindowInDays"]),
    ("Sign", &["KeyId", "MessageType", "SigningAlgorithm"]),
    ("TagResource", &["KeyId", "Tags"]),
    ("UntagResource", &["KeyId", "TagKeys"]),
    ("UpdateAlias", &["AliasName", "TargetKeyId"]),
    (
        "UpdateCustomKeyStore",
        &[
            "CustomKeyStoreId",
            "NewCustomKeyStoreName",
            "CloudHsmClusterId",
            "XksProxyUriEndpoint",
            "XksProxyUriPath",
            "XksProxyVpcEndpointServiceName",
            "XksProxyVpcEndpointServiceOwner",
            "XksProxyConnectivity",
        ],
    ),
    ("UpdateKeyDescription", &["KeyId", "Description"]),
    ("UpdatePrimaryRegion", &["KeyId", "PrimaryRegion"]),
    ("Verify", &["KeyId", "MessageType", "SigningAlgorithm"]),
    ("VerifyMac", &["KeyId", "MacAlgorithm"]),
];

/// Longest `requestParameters`, in bytes; longer ones are left out. Source: AWS CloudTrail User Guide,
/// "CloudTrail record contents", `requestParameters`.
const BYTES_MAX: usize = 100 * 1024;

/// What is told of longer ones.
const TOO_LONG: &[u8] = b"{\"omitted\":true,\"reason\":\"requestParameters too large\"";

/// Members that are told with this value when the request has none.
const FILLED: &[(&str, &str)] = &[
    ("EncryptionAlgorithm", "SYMMETRIC_DEFAULT"),
    ("SourceEncryptionAlgorithm", "SYMMETRIC_DEFAULT"),
    ("DestinationEncryptionAlgorithm", "SYMMETRIC_DEFAULT"),
];

/// The tag in which callers of test clusters give a key's material: its value is a secret.
const MATERIAL_TAG: &str = "_custom_key_material_";

/// What stands in place of a secret.
const HIDDEN: &str = "***";

/// A member that is told, as it is needed for each call.
struct Told {
    name: &'static str,
    /// Its name in records, with what stands around it.
    written: Box<[u8]>,
    shape: ShapeId,
    filled: Option<&'static str>,
}

/// [`TOLD`] with what the model says, by the number of the operation's input.
static MEMBERS: LazyLock<Vec<Option<Vec<Told>>>> = LazyLock::new(|| {
    let model = Model::get();
    let mut table = Vec::new();
    for (operation, told) in TOLD {
        let Some(operation) = model.operation(operation) else {
            continue;
        };
        let members = model.members(operation.input);
        let member = |name: &&'static str| {
            let member = members.iter().find(|member| member.name == *name)?;
            let mut written = Writer { out: Vec::new() };
            written.name(name);
            let filled = FILLED.iter().find(|(of, _)| of == name);
            Some(Told {
                name,
                written: written.out.into(),
                shape: member.shape,
                filled: filled.map(|(_, value)| *value),
            })
        };
        let number = operation.input.number();
        if table.len() <= number {
            table.resize_with(number + 1, || None);
        }
        table[number] = Some(told.iter().filter_map(member).collect());
    }
    table
});

/// The operation's `requestParameters` as an object that is not ended; empty for null.
pub(super) fn open(operation: &Operation, input: &Fields<'_>) -> Vec<u8> {
    let Some(Some(members)) = MEMBERS.get(operation.input.number()) else {
        return Vec::new();
    };
    let mut writer = Writer {
        out: Vec::with_capacity(512),
    };
    writer.out.push(b'{');
    for told in members {
        let value = input.look(told.name);
        if value.is_none() && told.filled.is_none() {
            continue;
        }
        if writer.out.len() > 1 {
            writer.out.push(b',');
        }
        writer.out.extend_from_slice(&told.written);
        match (value, told.filled) {
            (Some(value), _) => writer.value(told.shape, value),
            (None, filled) => write_text(&mut writer.out, filled.unwrap_or_default()),
        }
    }
    if writer.out.len() > BYTES_MAX {
        return TOO_LONG.to_vec();
    }
    writer.out
}

/// The same, ended, with the ARN of the key that a request did not name; empty for null.
pub(super) fn end(open: Vec<u8>, key: Option<&str>) -> Vec<u8> {
    if open.is_empty() {
        return open;
    }
    let mut object = ObjectWriter::resume(open);
    object.text_if("keyId", key);
    object.finish()
}

struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// A member's name as records write it: with a lower-case first letter.
    fn name(&mut self, name: &str) {
        if !matches!(self.out.last(), None | Some(b'{')) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        let start = self.out.len();
        self.out.extend_from_slice(name.as_bytes());
        self.out[start].make_ascii_lowercase();
        self.out.extend_from_slice(b"\":");
    }

    fn value(&mut self, shape: ShapeId, value: &Value<'_>) {
        let model = Model::get();
        match (&model.shape(shape).kind, value) {
            (Kind::Timestamp, Value::Number(number)) => {
                // The year 9999 is the last one that dates are written for.
                let date = long_date(number.time().min(UnixMillis(253_402_300_799_000)));
                write_text(&mut self.out, &date);
            }
            (_, Value::Text(text)) => write_text(&mut self.out, text),
            (_, Value::Bool(value)) => {
                let text: &[u8] = if *value { b"true" } else { b"false" };
                self.out.extend_from_slice(text);
            }
            (_, Value::Number(number)) => {
                let text = match number.whole() {
                    Some(whole) => whole.to_string(),
                    None => "null".to_owned(),
                };
                self.out.extend_from_slice(text.as_bytes());
            }
            (Kind::List(entry), Value::List(values)) => {
                self.out.push(b'[');
                for (position, value) in values.iter().enumerate() {
                    if position > 0 {
                        self.out.push(b',');
                    }
                    self.value(*entry, value);
                }
                self.out.push(b']');
            }
            (Kind::Map(entry), Value::Object(members)) => {
                self.out.push(b'{');
                for (position, (key, value)) in members.iter().enumerate() {
                    if self.out.len() > BYTES_MAX {
                        break;
                    }
                    if position > 0 {
                        self.out.push(b',');
                    }
                    write_text(&mut self.out, key);
                    self.out.push(b':');
                    self.value(*entry, value);
                }
                self.out.push(b'}');
            }
            (Kind::Structure(known), Value::Object(members)) => {
                self.out.push(b'{');
                let tag = |name| crate::json::find(members, name);
                let secret = matches!(tag("TagKey"), Some(Value::Text(key)) if key == MATERIAL_TAG);
                for member in known {
                    let Some(value) = tag(member.name) else {
                        continue;
                    };
                    self.name(member.name);
                    if secret && member.name == "TagValue" {
                        write_text(&mut self.out, HIDDEN);
                    } else {
                        self.value(member.shape, value);
                    }
                }
                self.out.push(b'}');
            }
            // A blob, or what the validator would have refused.
            _ => write_text(&mut self.out, HIDDEN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate;

    fn told(operation: &str, body: &str) -> String {
        let operation = Model::get().operation(operation).unwrap();
        let input = validate::check(operation, body.as_bytes()).ok().unwrap();
        String::from_utf8(end(open(operation, &input), None)).unwrap()
    }

    /// Catches a list that is not sorted, so that an operation is not found, a member or operation
    /// that the model does not have, and an operation that nobody decided about.
    #[test]
    fn the_list_is_of_the_models_operations() {
        let null = ["GenerateRandom", "RetireGrant"];
        for operation in Model::get().operations() {
            let at = TOLD.binary_search_by(|(name, _)| (*name).cmp(operation.name));
            assert_eq!(
                at.is_err(),
                null.contains(&operation.name),
                "{}",
                operation.name
            );
            let Ok(at) = at else { continue };
            let members = Model::get().members(operation.input);
            for told in TOLD[at].1 {
                let member = members.iter().find(|member| member.name == *told);
                let shape = Model::get().shape(member.expect(told).shape);
                assert!(
                    !matches!(shape.kind, Kind::Blob),
                    "{told} of {}",
                    operation.name
                );
                assert!(!shape.sensitive, "{told} of {}", operation.name);
            }
        }
        assert_eq!(TOLD.len() + null.len(), Model::get().operations().len());
    }

    /// Catches names that are not a record's, keys of maps that are changed, and a secret that is told.
    #[test]
    fn requests_are_told_in_the_records_words() {
        assert_eq!(
            told(
                "Encrypt",
                r#"{"KeyId":"k","Plaintext":"c2VjcmV0","EncryptionContext":{"Team":"a\"b"},"GrantTokens":["t"]}"#
            ),
            r#"{"keyId":"k","encryptionAlgorithm":"SYMMETRIC_DEFAULT","encryptionContext":{"Team":"a\"b"}}"#
        );
        assert_eq!(told("GenerateRandom", r#"{"NumberOfBytes":8}"#), "");
        assert_eq!(told("ListKeys", "{}"), "{}");
        assert_eq!(
            told(
                "CreateKey",
                r#"{"Tags":[{"TagKey":"A","TagValue":"B"},{"TagKey":"_custom_key_material_","TagValue":"c2VjcmV0"}]}"#
            ),
            r#"{"tags":[{"tagKey":"A","tagValue":"B"},{"tagKey":"_custom_key_material_","tagValue":"***"}]}"#
        );
        assert_eq!(
            told(
                "ImportKeyMaterial",
                r#"{"KeyId":"k","ImportToken":"YQ==","EncryptedKeyMaterial":"YQ==","ValidTo":1660171107.5}"#
            ),
            r#"{"keyId":"k","validTo":"Aug 10, 2022, 10:38:27 PM"}"#
        );
    }
}
