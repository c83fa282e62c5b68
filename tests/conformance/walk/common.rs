//! What many operations share: the key they name, states and usages that they refuse, dry runs.

use serde_json::{Value, json};

use crate::kms::Kms;
use crate::prepared::{Bench, Fresh, KINDS, Kind, Prepared, SYMMETRIC, new_key};
use crate::seen::errors;

/// A well-formed key id that no key has.
const NOBODY: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";

/// An identifier that looks like an ARN and is no key's or alias's.
const NO_ARN: &str = "arn:aws:s3:::bucket";

/// The kind of key that an operation is tried on, by its place in [`KINDS`].
fn kind(operation: &str) -> Kind {
    match operation {
        "GetPublicKey" | "Sign" | "Verify" => KINDS[2],
        "DeriveSharedSecret" => KINDS[3],
        "Encapsulate" | "Decapsulate" => KINDS[4],
        "GenerateMac" | "VerifyMac" => KINDS[5],
        "DeleteImportedKeyMaterial" | "GetParametersForImport" | "ImportKeyMaterial" => KINDS[6],
        _ => SYMMETRIC,
    }
}

/// Operations on a key, with the member that names it.
const NAMED: [(&str, &str); 42] = [
    ("CreateAlias", "TargetKeyId"),
    ("CreateGrant", "KeyId"),
    ("Decapsulate", "KeyId"),
    ("Decrypt", "KeyId"),
    ("DeleteImportedKeyMaterial", "KeyId"),
    ("DeriveSharedSecret", "KeyId"),
    ("DescribeKey", "KeyId"),
    ("DisableKey", "KeyId"),
    ("DisableKeyRotation", "KeyId"),
    ("EnableKey", "KeyId"),
    ("EnableKeyRotation", "KeyId"),
    ("Encapsulate", "KeyId"),
    ("Encrypt", "KeyId"),
    ("GenerateDataKey", "KeyId"),
    ("GenerateDataKeyPair", "KeyId"),
    ("GenerateDataKeyPairWithoutPlaintext", "KeyId"),
    ("GenerateDataKeyWithoutPlaintext", "KeyId"),
    ("GenerateMac", "KeyId"),
    ("GetKeyLastUsage", "KeyId"),
    ("GetKeyPolicy", "KeyId"),
    ("GetKeyRotationStatus", "KeyId"),
    ("GetParametersForImport", "KeyId"),
    ("GetPublicKey", "KeyId"),
    ("ImportKeyMaterial", "KeyId"),
    ("ListAliases", "KeyId"),
    ("ListGrants", "KeyId"),
    ("ListKeyPolicies", "KeyId"),
    ("ListKeyRotations", "KeyId"),
    ("ListResourceTags", "KeyId"),
    ("PutKeyPolicy", "KeyId"),
    ("ReEncrypt", "DestinationKeyId"),
    ("ReEncrypt", "SourceKeyId"),
    ("ReplicateKey", "KeyId"),
    ("RotateKeyOnDemand", "KeyId"),
    ("ScheduleKeyDeletion", "KeyId"),
    ("Sign", "KeyId"),
    ("TagResource", "KeyId"),
    ("UntagResource", "KeyId"),
    ("UpdateAlias", "TargetKeyId"),
    ("UpdateKeyDescription", "KeyId"),
    ("Verify", "KeyId"),
    ("VerifyMac", "KeyId"),
];

/// What a key that is pending deletion does not stop, though the model has an error for it.
const PASSES: [&str; 7] = [
    "DeleteImportedKeyMaterial",
    "GetKeyPolicy",
    "GetKeyRotationStatus",
    "ListGrants",
    "ListKeyPolicies",
    "ListKeyRotations",
    "PutKeyPolicy",
];

async fn prepared(bench: &Bench, kind: Kind, multi: bool, twin: &str) -> Prepared {
    let fresh = Fresh::new(&bench.kms, kind, multi).await;
    bench.furnish(&fresh, twin).await
}

pub(super) async fn walk(kms: &Kms) {
    let bench = Bench::at(kms).await;
    for (operation, member) in NAMED {
        let fails = |code: &str| errors(operation).any(|known| known == code);
        let kind = kind(operation);
        let multi = operation == "ReplicateKey";
        let twin = new_key(kms, kind.made_here(), false).await;
        let row = match member {
            "DestinationKeyId" => "ReEncrypt destination",
            _ => operation,
        };
        let key = prepared(&bench, kind, multi, &twin).await;
        let body = key.body(row);
        let pointer = format!("/{member}");
        let done = async |_: &Value| json!("done");
        let ids = [NOBODY.into(), body[member].clone()];
        if !["ScheduleKeyDeletion", "DisableKey"].contains(&operation) {
            kms.vary(operation, &body, &pointer, &ids, done).await;
        }
        for text in ["alias/somebody", NO_ARN] {
            let mut body = body.clone();
            body[member] = text.into();
            // Each is refused in one way or another.
            kms.ask(operation, &body).await.expect_err("a refusal");
        }
        // The model does not give DescribeKey the error.
        if fails("InvalidGrantTokenException") || operation == "DescribeKey" {
            let tokens = [json!([key.token]), json!(["token"])];
            let pointer = "/GrantTokens";
            let answers = kms.vary(operation, &body, pointer, &tokens, done).await;
            let refused = answers[1].as_ref().expect_err("a refusal");
            assert_eq!(refused.code, "InvalidGrantTokenException");
        }
        if fails("DryRunOperationException") {
            let choices = [false.into(), true.into()];
            kms.vary(operation, &body, "/DryRun", &choices, done).await;
        }
        if fails("InvalidKeyUsageException") && operation != "GetPublicKey" {
            let other = match kind.usage {
                "GENERATE_VERIFY_MAC" => KINDS[4],
                _ => KINDS[5],
            };
            let mut body = body.clone();
            body[member] = new_key(kms, other, false).await.into();
            kms.ask(operation, &body).await.expect_err("a refusal");
        }
        if fails("DisabledException") && operation != "GetPublicKey" {
            let key = prepared(&bench, kind, multi, &twin).await;
            kms.ok("DisableKey", json!({"KeyId": key.id})).await;
            kms.no(operation, key.body(row), "DisabledException").await;
        }
        if fails("KMSInvalidStateException") && !PASSES.contains(&operation) {
            let key = prepared(&bench, kind, multi, &twin).await;
            kms.ok("ScheduleKeyDeletion", json!({"KeyId": key.id}))
                .await;
            kms.no(operation, key.body(row), "KMSInvalidStateException")
                .await;
        }
    }
}
