//! Every operation on a key in every state it can be in today, against the table of key states.

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{
    DataKeyPairSpec, EncapsulationAlgorithmSpec, KeyAgreementAlgorithmSpec, MacAlgorithmSpec,
    SigningAlgorithmSpec,
};
use keyrum_tests::sdk::{Failed, failed};

use crate::desk::{Desk, Key, tag};

/// The real service's documented table, with what its footnotes say clients see.
const TABLE: &str = include_str!("key-states.csv");

/// States that a key with material of the service's own can be in, by their columns.
const STATES: [(&str, usize); 3] = [("Enabled", 1), ("Disabled", 2), ("PendingDeletion", 3)];

/// Operations that Keyrum has and that are about a key.
pub(crate) const OPERATIONS: [&str; 40] = [
    "CancelKeyDeletion",
    "CreateAlias",
    "Decapsulate",
    "Decrypt",
    "DeleteAlias",
    "DeriveSharedSecret",
    "DescribeKey",
    "DisableKey",
    "DisableKeyRotation",
    "EnableKey",
    "EnableKeyRotation",
    "Encapsulate",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateMac",
    "GetKeyLastUsage",
    "GetKeyPolicy",
    "GetKeyRotationStatus",
    "GetPublicKey",
    "ListAliases",
    "ListKeyPolicies",
    "ListKeyRotations",
    "ListResourceTags",
    "PutKeyPolicy",
    "ReEncrypt",
    "RotateKeyOnDemand",
    "ScheduleKeyDeletion",
    "Sign",
    "TagResource",
    "UntagResource",
    "UpdateAlias",
    "UpdateKeyDescription",
    "Verify",
    "VerifyMac",
    // Key pairs encrypt, too.
    "Encrypt with a key pair",
    "Decrypt with a key pair",
    // The other end of the same operation: its first row is about the source.
    "ReEncrypt destination",
];

/// What the table promises for a cell, with the key's ARN in place.
pub(crate) fn expected(operation: &str, column: usize, arn: &str) -> Result<(), Failed> {
    let operation = operation.split(' ').next().unwrap();
    let rows = TABLE.lines().filter(|line| !line.starts_with('#'));
    let row = rows
        .map(|line| line.split(',').collect::<Vec<_>>())
        .find(|row| row[0] == operation);
    let cell = row.expect("the table has every operation")[column];
    let (code, notes) = cell.split_once('[').unwrap_or((cell, ""));
    // The first footnote is what clients see today.
    let note = notes.trim_end_matches(']').split('|').next().unwrap();
    let message = match (code, note) {
        ("ok", _) => return Ok(()),
        (_, "1") => format!("{arn} is disabled."),
        // 10: an alias may leave a key that is pending deletion but not go to one.
        (_, "3" | "10") => format!("{arn} is pending deletion."),
        (_, "4") => format!("{arn} is not pending deletion."),
        (_, "5" | "5]?") => format!("{arn} is pending import."),
        (_, "6") => format!("{arn} origin is EXTERNAL which is not valid for this operation."),
        // 8: what a key with imported material answers.
        (_, "8") => format!("{arn} is pending deletion."),
        other => panic!("a cell nobody expected: {other:?}"),
    };
    let code = if code.is_empty() {
        "KMSInvalidStateException"
    } else {
        code
    };
    Err(Failed::Answer(code.to_owned(), Some(message)))
}

/// The kind of key that an operation is for.
pub(crate) fn kind(operation: &str) -> (&'static str, &'static str) {
    match operation {
        "GetPublicKey" | "Sign" | "Verify" => ("ECC_NIST_P256", "SIGN_VERIFY"),
        "DeriveSharedSecret" => ("ECC_NIST_P256", "KEY_AGREEMENT"),
        "GenerateMac" | "VerifyMac" => ("HMAC_256", "GENERATE_VERIFY_MAC"),
        "Encapsulate" | "Decapsulate" => ("ML_KEM_512", "ENCAPSULATE_DECAPSULATE"),
        _ if operation.ends_with("key pair") => ("RSA_2048", "ENCRYPT_DECRYPT"),
        _ => ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"),
    }
}

const ECDSA: SigningAlgorithmSpec = SigningAlgorithmSpec::EcdsaSha256;
const HMAC: MacAlgorithmSpec = MacAlgorithmSpec::HmacSha256;
const OAEP: &str = "RSAES_OAEP_SHA_256";

/// What a key of that kind makes, or is given, for the operation that takes it.
pub(crate) async fn blob_for(desk: &Desk, operation: &str, key: &Key) -> Blob {
    let (kms, id, message) = (&desk.kms, &key.id, Blob::new("x"));
    match operation {
        "Verify" => {
            let call = kms.sign().key_id(id).signing_algorithm(ECDSA);
            let made = call.message(message).send().await.unwrap();
            made.signature.unwrap()
        }
        "VerifyMac" => {
            let call = kms.generate_mac().key_id(id).mac_algorithm(HMAC);
            call.message(message).send().await.unwrap().mac.unwrap()
        }
        "DeriveSharedSecret" => desk.public_key(id).await,
        "Decapsulate" => {
            let call = kms.encapsulate().key_id(id);
            let call = call.encapsulation_algorithm(EncapsulationAlgorithmSpec::MlKem);
            let made = call.send().await.unwrap();
            made.shared_secret_ciphertext_blob.unwrap()
        }
        "Decrypt with a key pair" => {
            let call = kms.encrypt().key_id(id).encryption_algorithm(OAEP.into());
            let made = call.plaintext(message).send().await.unwrap();
            made.ciphertext_blob.unwrap()
        }
        _ if kind(operation).0 == "SYMMETRIC_DEFAULT" => desk.ciphertext(id).await,
        _ => message,
    }
}

/// What the key had before its state changed.
pub(crate) struct Before {
    pub(crate) key: Key,
    pub(crate) alias: String,
    /// As [`blob_for`] says.
    pub(crate) blob: Blob,
    pub(crate) other: Key,
    pub(crate) other_blob: Blob,
    pub(crate) policy: String,
}

pub(crate) async fn run(kms: &Client, operation: &str, before: &Before) -> Result<(), Failed> {
    let Before {
        key,
        alias,
        blob,
        other,
        other_blob,
        policy,
    } = before;
    let (id, name) = (key.id.as_str(), format!("{alias}-new"));
    match operation {
        "CancelKeyDeletion" => kms
            .cancel_key_deletion()
            .key_id(id)
            .send()
            .await
            .map(drop)
            .map_err(failed),
        "CreateAlias" => {
            let call = kms.create_alias().alias_name(name).target_key_id(id);
            call.send().await.map(drop).map_err(failed)
        }
        "Decapsulate" => {
            let call = kms.decapsulate().key_id(id);
            let call = call.encapsulation_algorithm(EncapsulationAlgorithmSpec::MlKem);
            let call = call.shared_secret_ciphertext_blob(blob.clone());
            call.send().await.map(drop).map_err(failed)
        }
        "Decrypt" => {
            let call = kms.decrypt().ciphertext_blob(blob.clone());
            call.send().await.map(drop).map_err(failed)
        }
        "DeleteAlias" => kms
            .delete_alias()
            .alias_name(alias)
            .send()
            .await
            .map(drop)
            .map_err(failed),
        "Decrypt with a key pair" => {
            let call = kms.decrypt().ciphertext_blob(blob.clone()).key_id(id);
            let call = call.encryption_algorithm(OAEP.into());
            call.send().await.map(drop).map_err(failed)
        }
        "DeriveSharedSecret" => {
            let call = kms.derive_shared_secret().key_id(id);
            let call = call.key_agreement_algorithm(KeyAgreementAlgorithmSpec::Ecdh);
            let call = call.public_key(blob.clone());
            call.send().await.map(drop).map_err(failed)
        }
        "DescribeKey" => kms
            .describe_key()
            .key_id(id)
            .send()
            .await
            .map(drop)
            .map_err(failed),
        "DisableKey" => kms
            .disable_key()
            .key_id(id)
            .send()
            .await
            .map(drop)
            .map_err(failed),
        "DisableKeyRotation" => kms
            .disable_key_rotation()
            .key_id(id)
            .send()
            .await
            .map(drop)
            .map_err(failed),
        "EnableKey" => kms
            .enable_key()
            .key_id(id)
            .send()
            .await
            .map(drop)
            .map_err(failed),
        "EnableKeyRotation" => kms
            .enable_key_rotation()
            .key_id(id)
            .send()
            .await
            .map(drop)
            .map_err(failed),
        "Encapsulate" => {
            let call = kms.encapsulate().key_id(id);
            let call = call.encapsulation_algorithm(EncapsulationAlgorithmSpec::MlKem);
            call.send().await.map(drop).map_err(failed)
        }
        "Encrypt with a key pair" => {
            let call = kms.encrypt().key_id(id).plaintext(Blob::new("x"));
            let call = call.encryption_algorithm(OAEP.into());
            call.send().await.map(drop).map_err(failed)
        }
        "Encrypt" => {
            let call = kms.encrypt().key_id(id).plaintext(Blob::new("x"));
            call.send().await.map(drop).map_err(failed)
        }
        "GenerateDataKey" => {
            let call = kms.generate_data_key().key_id(id).number_of_bytes(8);
            call.send().await.map(drop).map_err(failed)
        }
        "GenerateDataKeyPair" => {
            let call = kms.generate_data_key_pair().key_id(id);
            let call = call.key_pair_spec(DataKeyPairSpec::EccNistP256);
            call.send().await.map(drop).map_err(failed)
        }
        "GenerateDataKeyPairWithoutPlaintext" => {
            let call = kms.generate_data_key_pair_without_plaintext().key_id(id);
            let call = call.key_pair_spec(DataKeyPairSpec::EccNistP256);
            call.send().await.map(drop).map_err(failed)
        }
        "GenerateMac" => {
            let call = kms.generate_mac().key_id(id).mac_algorithm(HMAC);
            let call = call.message(Blob::new("x"));
            call.send().await.map(drop).map_err(failed)
        }
        "GetKeyLastUsage" => {
            let call = kms.get_key_last_usage().key_id(id);
            call.send().await.map(drop).map_err(failed)
        }
        "GetPublicKey" => {
            let call = kms.get_public_key().key_id(id);
            call.send().await.map(drop).map_err(failed)
        }
        "GenerateDataKeyWithoutPlaintext" => {
            let call = kms
                .generate_data_key_without_plaintext()
                .key_id(id)
                .number_of_bytes(8);
            call.send().await.map(drop).map_err(failed)
        }
        "GetKeyPolicy" => kms
            .get_key_policy()
            .key_id(id)
            .send()
            .await
            .map(drop)
            .map_err(failed),
        "GetKeyRotationStatus" => kms
            .get_key_rotation_status()
            .key_id(id)
            .send()
            .await
            .map(drop)
            .map_err(failed),
        "ListAliases" => kms
            .list_aliases()
            .key_id(id)
            .send()
            .await
            .map(drop)
            .map_err(failed),
        "ListKeyPolicies" => kms
            .list_key_policies()
            .key_id(id)
            .send()
            .await
            .map(drop)
            .map_err(failed),
        "ListKeyRotations" => kms
            .list_key_rotations()
            .key_id(id)
            .send()
            .await
            .map(drop)
            .map_err(failed),
        "ListResourceTags" => kms
            .list_resource_tags()
            .key_id(id)
            .send()
            .await
            .map(drop)
            .map_err(failed),
        "PutKeyPolicy" => {
            let call = kms.put_key_policy().key_id(id).policy(policy);
            call.send().await.map(drop).map_err(failed)
        }
        "ReEncrypt" => {
            let call = kms
                .re_encrypt()
                .ciphertext_blob(blob.clone())
                .destination_key_id(&other.id);
            call.send().await.map(drop).map_err(failed)
        }
        "ReEncrypt destination" => {
            let call = kms
                .re_encrypt()
                .ciphertext_blob(other_blob.clone())
                .destination_key_id(id);
            call.send().await.map(drop).map_err(failed)
        }
        "RotateKeyOnDemand" => kms
            .rotate_key_on_demand()
            .key_id(id)
            .send()
            .await
            .map(drop)
            .map_err(failed),
        "ScheduleKeyDeletion" => kms
            .schedule_key_deletion()
            .key_id(id)
            .send()
            .await
            .map(drop)
            .map_err(failed),
        "Sign" => {
            let call = kms.sign().key_id(id).signing_algorithm(ECDSA);
            let call = call.message(Blob::new("x"));
            call.send().await.map(drop).map_err(failed)
        }
        "Verify" => {
            let call = kms.verify().key_id(id).signing_algorithm(ECDSA);
            let call = call.message(Blob::new("x")).signature(blob.clone());
            call.send().await.map(drop).map_err(failed)
        }
        "VerifyMac" => {
            let call = kms.verify_mac().key_id(id).mac_algorithm(HMAC);
            let call = call.message(Blob::new("x")).mac(blob.clone());
            call.send().await.map(drop).map_err(failed)
        }
        "TagResource" => {
            let call = kms.tag_resource().key_id(id).tags(tag("a", "b"));
            call.send().await.map(drop).map_err(failed)
        }
        "UntagResource" => {
            let call = kms.untag_resource().key_id(id).tag_keys("a");
            call.send().await.map(drop).map_err(failed)
        }
        "UpdateAlias" => {
            let call = kms
                .create_alias()
                .alias_name(&name)
                .target_key_id(&other.id);
            call.send().await.map_err(failed)?;
            let call = kms.update_alias().alias_name(name).target_key_id(id);
            call.send().await.map(drop).map_err(failed)
        }
        "UpdateKeyDescription" => {
            let call = kms.update_key_description().key_id(id).description("new");
            call.send().await.map(drop).map_err(failed)
        }
        other => panic!("{other} is not run"),
    }
}

/// Catches a state that allows what the real service refuses, refuses what it allows, or says so
/// in other words.
#[tokio::test]
async fn every_operation_in_every_state() {
    let desk = Desk::dev("states").await;
    let other = desk.key().await;
    let other_blob = desk.ciphertext(&other.id).await;
    let policy = crate::policies::DEFAULT.replace("ACCOUNT", &desk.account);
    let mut wrong = Vec::new();
    for (number, operation) in OPERATIONS.into_iter().enumerate() {
        for (state, column) in STATES {
            let (spec, usage) = kind(operation);
            let key = desk.key_of(spec.into(), usage.into()).await;
            let blob = blob_for(&desk, operation, &key).await;
            let alias = format!("alias/{number}-{state}");
            let call = desk
                .kms
                .create_alias()
                .alias_name(&alias)
                .target_key_id(&key.id);
            call.send().await.unwrap();
            match state {
                "Disabled" => {
                    desk.kms.disable_key().key_id(&key.id).send().await.unwrap();
                }
                "PendingDeletion" => {
                    desk.kms
                        .schedule_key_deletion()
                        .key_id(&key.id)
                        .send()
                        .await
                        .unwrap();
                }
                _ => {}
            }
            let expected = expected(operation, column, &key.arn);
            let (other, other_blob, policy) = (other.clone(), other_blob.clone(), policy.clone());
            let before = Before {
                key,
                alias,
                blob,
                other,
                other_blob,
                policy,
            };
            let answer = run(&desk.kms, operation, &before).await;
            if answer != expected {
                wrong.push(format!(
                    "{operation} on {state}: {answer:?}, not {expected:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Catches an alias that cannot leave a key which is pending deletion.
#[tokio::test]
async fn aliases_leave_doomed_keys() {
    let desk = Desk::dev("doomed").await;
    let (doomed, other) = (desk.key().await, desk.key().await);
    desk.kms
        .create_alias()
        .alias_name("alias/d")
        .target_key_id(&doomed.id)
        .send()
        .await
        .unwrap();
    desk.kms
        .schedule_key_deletion()
        .key_id(&doomed.id)
        .send()
        .await
        .unwrap();
    let call = desk
        .kms
        .update_alias()
        .alias_name("alias/d")
        .target_key_id(&other.id);
    call.send().await.unwrap();
    assert_eq!(desk.describe("alias/d").await.key_id(), other.id);
}
