use serde_json::{Value as Json, json};

use super::*;
use crate::samples;

fn refused(operation: &str, body: &Json) -> String {
    let operation = Model::get().operation(operation).unwrap();
    let error = check(operation, body.to_string().as_bytes())
        .err()
        .expect("refused");
    assert_eq!(error.status, 400);
    format!("{}: {}", error.code, error.message)
}

fn accepted(operation: &str, body: &Json) {
    let operation = Model::get().operation(operation).unwrap();
    if let Err(error) = check(operation, body.to_string().as_bytes()) {
        panic!("{}: {} for {body}", operation.name, error.message);
    }
}

const KEY: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";

/// Catches a message that differs by a character from the real service's.
#[test]
fn messages_are_the_real_ones() {
    for (operation, body, message) in [
        (
            "DescribeKey",
            json!({"KeyId": ""}),
            r"ValidationException: 2 validation errors detected: Value '' at 'keyId' failed to satisfy constraint: Member must have length greater than or equal to 1; Value '' at 'keyId' failed to satisfy constraint: Member must satisfy regular expression pattern: ^\p{ASCII}+$",
        ),
        (
            "DescribeKey",
            json!({"KeyId": "cl\u{e9} \u{1f511}"}),
            r"ValidationException: 1 validation error detected: Value 'cl? ?' at 'keyId' failed to satisfy constraint: Member must satisfy regular expression pattern: ^\p{ASCII}+$",
        ),
        (
            "DescribeKey",
            json!({"KeyId": null}),
            "ValidationException: 1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null",
        ),
        (
            "Encrypt",
            json!({}),
            "ValidationException: 2 validation errors detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null; Value at 'plaintext' failed to satisfy constraint: Member must not be null",
        ),
        (
            "Encrypt",
            json!({"KeyId": KEY, "Plaintext": STANDARD.encode([0; 4097])}),
            "ValidationException: 1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length less than or equal to 4096",
        ),
        (
            "Encrypt",
            json!({"KeyId": KEY, "Plaintext": ""}),
            "ValidationException: 1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length greater than or equal to 1",
        ),
        (
            "Verify",
            json!({"KeyId": KEY, "Message": "YQ==", "SigningAlgorithm": "ECDSA_SHA_256"}),
            "ValidationException: 1 validation error detected: Value null at 'signature' failed to satisfy constraint: Member must not be null",
        ),
        (
            "Verify",
            json!({"KeyId": KEY, "Message": "YQ==", "Signature": "", "SigningAlgorithm": "SYMMETRIC_DEFAULT"}),
            "ValidationException: 1 validation error detected: Value at 'signature' failed to satisfy constraint: Member must have length greater than or equal to 1",
        ),
        (
            "GenerateRandom",
            json!({"NumberOfBytes": 0}),
            "ValidationException: 1 validation error detected: Value '0' at 'numberOfBytes' failed to satisfy constraint: Member must have value greater than or equal to 1",
        ),
        (
            "GenerateDataKey",
            json!({"KeyId": KEY, "KeySpec": "RSA_2048", "NumberOfBytes": 1025}),
            "ValidationException: 2 validation errors detected: Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024; Value 'RSA_2048' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_SECG_P256K1, ECC_NIST_EDWARDS25519, SYMMETRIC_DEFAULT, HMAC_224, HMAC_256, HMAC_384, HMAC_512, SM2, ML_DSA_44, ML_DSA_65, ML_DSA_87]",
        ),
        (
            "Sign",
            json!({"KeyId": KEY, "Message": "YQ==", "MessageType": "raw", "SigningAlgorithm": "X"}),
            "ValidationException: 2 validation errors detected: Value 'raw' at 'messageType' failed to satisfy constraint: Member must satisfy enum value set: [RAW, DIGEST, EXTERNAL_MU]; Value 'X' at 'signingAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [RSASSA_PSS_SHA_256, RSASSA_PSS_SHA_384, RSASSA_PSS_SHA_512, RSASSA_PKCS1_V1_5_SHA_256, RSASSA_PKCS1_V1_5_SHA_384, RSASSA_PKCS1_V1_5_SHA_512, ECDSA_SHA_256, ECDSA_SHA_384, ECDSA_SHA_512, ED25519_SHA_512, ED25519_PH_SHA_512, SM2DSA, ML_DSA_SHAKE_256]",
        ),
        (
            "Encrypt",
            json!({"KeyId": KEY, "Plaintext": "YQ==", "EncryptionAlgorithm": ""}),
            "ValidationException: 1 validation error detected: Value '' at 'encryptionAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, SM2PKE, SYMMETRIC_DEFAULT]",
        ),
        (
            "GenerateMac",
            json!({"KeyId": KEY, "Message": "YQ==", "MacAlgorithm": "MD5"}),
            "ValidationException: 1 validation error detected: Value 'MD5' at 'macAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [HMAC_SHA_384, HMAC_SHA_256, HMAC_SHA_224, HMAC_SHA_512]",
        ),
        (
            "DeriveSharedSecret",
            json!({"KeyId": KEY, "KeyAgreementAlgorithm": "X", "PublicKey": null}),
            "ValidationException: 2 validation errors detected: Value 'X' at 'keyAgreementAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [ECDH]; Value null at 'publicKey' failed to satisfy constraint: Member must not be null",
        ),
        (
            "TagResource",
            json!({"KeyId": KEY, "Tags": [{"TagKey": "", "TagValue": "x"}, {"TagValue": "v".repeat(3)}]}),
            "ValidationException: 2 validation errors detected: Value '' at 'tags.1.member.tagKey' failed to satisfy constraint: Member must have length greater than or equal to 1; Value null at 'tags.2.member.tagKey' failed to satisfy constraint: Member must not be null",
        ),
        (
            "ListKeys",
            json!({"Limit": 1e20, "ResourceOwners": []}),
            "ValidationException: 2 validation errors detected: Value '100000000000000000000' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 1000; Value '[]' at 'resourceOwners' failed to satisfy constraint: Member must have length greater than or equal to 1",
        ),
        (
            "DescribeKey",
            json!({"KeyId": KEY, "GrantTokens": ["a", "b", "c", "d", "e", "f", "g", "h", "i", "\u{e9}", null]}),
            "ValidationException: 2 validation errors detected: Value '[a, b, c, d, e, f, g, h, i, ?, ]' at 'grantTokens' failed to satisfy constraint: Member must have length less than or equal to 10; Value null at 'grantTokens.11.member' failed to satisfy constraint: Member must not be null",
        ),
        (
            "Encrypt",
            json!({"KeyId": KEY, "Plaintext": "YQ==", "EncryptionContext": {"a": null}}),
            "ValidationException: 1 validation error detected: Value null at 'encryptionContext.a.member' failed to satisfy constraint: Member must not be null",
        ),
        (
            "CreateCustomKeyStore",
            json!({"CustomKeyStoreName": "n", "KeyStorePassword": "short"}),
            "ValidationException: 1 validation error detected: Value at 'keyStorePassword' failed to satisfy constraint: Member must have length greater than or equal to 7",
        ),
        (
            "PutKeyPolicy",
            json!({"KeyId": KEY, "Policy": "\u{1}"}),
            r"ValidationException: 1 validation error detected: Value '\u{1}' at 'policy' failed to satisfy constraint: Member must satisfy regular expression pattern: [\u0009\u000A\u000D\u0020-\u00FF]+",
        ),
        (
            "GenerateRandom",
            json!({"NumberOfBytes": "x"}),
            "SerializationException: STRING_VALUE can not be converted to an Integer",
        ),
        (
            "GenerateRandom",
            json!({"NumberOfBytes": 1.5}),
            "SerializationException: NUMBER_VALUE can not be converted to an Integer",
        ),
        (
            "DescribeKey",
            json!({"KeyId": 1}),
            "SerializationException: NUMBER_VALUE can not be converted to a String",
        ),
        (
            "DescribeKey",
            json!({"KeyId": true}),
            "SerializationException: TRUE_VALUE can not be converted to a String",
        ),
        (
            "DescribeKey",
            json!({"KeyId": "", "GrantTokens": "x"}),
            "SerializationException: Expected list or null",
        ),
        (
            "DescribeKey",
            json!({"KeyId": {}}),
            "SerializationException: Start of structure or map found where not expected.",
        ),
        (
            "Encrypt",
            json!({"KeyId": KEY, "Plaintext": "not base64!"}),
            "SerializationException: Invalid Base64 value",
        ),
        ("Encrypt", json!([]), "SerializationException: "),
    ] {
        let message = message.replace("\\u{1}", "\u{1}");
        assert_eq!(refused(operation, &body), message, "{operation} {body}");
    }
}

/// Catches a valid request that is refused, for any operation, and unknown members that matter.
#[test]
fn valid_requests_pass() {
    for operation in samples::operations() {
        let mut body = samples::full_request(operation);
        accepted(operation, &body);
        body["Unknown"] = json!({"KeyId": [1, {"x": null}]});
        accepted(operation, &body);
    }
    accepted("CreateKey", &json!({"Policy": null, "Tags": []}));
    accepted("GenerateRandom", &json!({"NumberOfBytes": 16.0}));
}

/// One deviation from a valid request and the finding it must give.
struct Deviation {
    body: Json,
    finding: String,
}

/// Builds, from the model alone, every way to break one constraint of a shape's value.
fn deviations(shape_name: &str, path: &str) -> Vec<(Json, String)> {
    let shape = samples::shape(shape_name);
    let kind = shape["type"].as_str().unwrap();
    let sensitive = shape["sensitive"] == true;
    let shown = |value: &str| match (kind, sensitive) {
        ("blob", _) | (_, true) => "Value".to_owned(),
        _ => format!("Value '{value}'"),
    };
    let finding = |value: &str, constraint: &str| {
        format!(
            "{} at '{path}' failed to satisfy constraint: {constraint}",
            shown(value)
        )
    };
    let (min, max) = (shape["min"].as_i64(), shape["max"].as_i64());
    let mut found = Vec::new();
    match kind {
        "blob" => {
            let blob = |bytes: i64| json!(STANDARD.encode(vec![7; bytes as usize]));
            if let Some(min) = min.filter(|min| *min > 0) {
                let constraint = format!("Member must have length greater than or equal to {min}");
                found.push((blob(min - 1), finding("", &constraint)));
            }
            if let Some(max) = max {
                let constraint = format!("Member must have length less than or equal to {max}");
                found.push((blob(max + 1), finding("", &constraint)));
            }
        }
        "integer" => {
            if let (Some(min), Some(max)) = (min, max) {
                let (low, high) = (min - 1, max + 1);
                let constraint = format!("Member must have value greater than or equal to {min}");
                found.push((json!(low), finding(&low.to_string(), &constraint)));
                let constraint = format!("Member must have value less than or equal to {max}");
                found.push((json!(high), finding(&high.to_string(), &constraint)));
            }
        }
        "string" if shape["enum"].is_array() => {
            let constraint = "Member must satisfy enum value set: [";
            found.push((json!("no such value"), finding("no such value", constraint)));
        }
        "string" => {
            if let Some(max) = max {
                let long = "a".repeat(max as usize + 1);
                let constraint = format!("Member must have length less than or equal to {max}");
                found.push((json!(long), finding(&long, &constraint)));
            }
            if let Some(min) = min.filter(|min| *min > 0) {
                let short = "A".repeat(min as usize - 1);
                let constraint = format!("Member must have length greater than or equal to {min}");
                found.push((json!(short), finding(&short, &constraint)));
            }
            if let Some(pattern) = shape["pattern"].as_str() {
                let constraint =
                    format!("Member must satisfy regular expression pattern: {pattern}");
                found.push((json!("\u{4e2d}"), finding("?", &constraint)));
            }
        }
        "list" => {
            let entry = shape["member"]["shape"].as_str().unwrap();
            for (value, finding) in deviations(entry, &format!("{path}.2.member")) {
                found.push((json!([samples::valid(entry), value]), finding));
            }
        }
        "structure" => {
            for (name, member) in shape["members"].as_object().unwrap() {
                let member = member["shape"].as_str().unwrap();
                let camel = format!("{}{}", name[..1].to_lowercase(), &name[1..]);
                let inner = if path.is_empty() {
                    camel
                } else {
                    format!("{path}.{camel}")
                };
                for (value, finding) in deviations(member, &inner) {
                    let mut body = samples::valid(shape_name);
                    body[name] = value;
                    found.push((body, finding));
                }
                if shape["required"]
                    .as_array()
                    .is_some_and(|all| all.contains(&json!(name)))
                {
                    let mut body = samples::valid(shape_name);
                    body[name] = Json::Null;
                    let shown = match samples::shape(member)["sensitive"] == true {
                        true => "Value",
                        false => "Value null",
                    };
                    let finding = format!(
                        "{shown} at '{inner}' failed to satisfy constraint: Member must not be null"
                    );
                    found.push((body, finding));
                }
            }
        }
        _ => {}
    }
    found
}

/// Catches a constraint of the model that is not checked, or is reported at another place or in
/// other words, in any member of any operation at any depth.
#[test]
fn every_constraint_of_the_model_is_checked() {
    let mut checked = 0;
    for operation in samples::operations() {
        let all = deviations(samples::input(operation), "");
        for Deviation { body, finding } in all
            .into_iter()
            .map(|(body, finding)| Deviation { body, finding })
        {
            let message = refused(operation, &body);
            assert!(
                message.starts_with("ValidationException: "),
                "{operation}: {message}"
            );
            assert!(
                message.contains(&finding),
                "{operation}: {message} lacks {finding}"
            );
            checked += 1;
        }
    }
    assert!(checked > 400, "only {checked} deviations were built");
}

/// Catches a value of the wrong JSON type that is taken for a constraint's violation, or passes.
#[test]
fn every_wrong_type_is_a_serialization_error() {
    for operation in samples::operations() {
        let full = samples::full_request(operation);
        for (name, value) in full.as_object().unwrap() {
            for wrong in [
                json!("!"),
                json!(7),
                json!(false),
                json!([[]]),
                json!({"a": {}}),
            ] {
                let same = match (&wrong, value) {
                    (Json::String(_), Json::String(text)) => text != "YWFhYQ==",
                    (Json::Object(_), Json::Object(value)) => !value.contains_key("purpose"),
                    (wrong, value) => {
                        std::mem::discriminant(wrong) == std::mem::discriminant(value)
                            && !wrong.is_array()
                    }
                };
                if same {
                    continue;
                }
                let mut body = full.clone();
                body[name] = wrong;
                let message = refused(operation, &body);
                assert!(
                    message.starts_with("SerializationException: "),
                    "{operation}: {message}"
                );
                assert!(
                    message.len() > "SerializationException: ".len(),
                    "{operation}: {message}"
                );
            }
        }
    }
}

/// Catches an answer many times larger than the request that caused it.
#[test]
fn findings_are_bounded() {
    let tags = vec![json!({}); 10_000];
    let message = refused("TagResource", &json!({"KeyId": KEY, "Tags": tags}));
    assert!(message.starts_with("ValidationException: 100 validation errors detected: "));
    assert!(message.len() < 20_000, "{}", message.len());
}

/// Catches a limit in bytes where the API counts characters.
#[test]
fn lengths_of_text_are_characters() {
    accepted(
        "UpdateKeyDescription",
        &json!({"KeyId": KEY, "Description": "\u{e9}".repeat(8192)}),
    );
    let long = refused(
        "UpdateKeyDescription",
        &json!({"KeyId": KEY, "Description": "\u{e9}".repeat(8193)}),
    );
    assert!(long.contains("Member must have length less than or equal to 8192"));
}
