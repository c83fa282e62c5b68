//! Every operation on keys of imported material in every state that they can be in, against the table
//! of key states.

use std::collections::BTreeMap;

use aws_sdk_kms::types::{AlgorithmSpec, ImportType, WrappingKeySpec};
use keyrum_tests::sdk::{Failed, failed};

use crate::desk::{Desk, Key};
use crate::import::openssl;
use crate::states::{Before, OPERATIONS, blob_for, expected, kind, run};

/// By their columns.
const STATES: [(&str, usize); 4] = [
    ("Enabled", 1),
    ("Disabled", 2),
    ("PendingDeletion", 3),
    ("PendingImport", 4),
];

/// Operations that are for these keys alone.
const IMPORTS: [&str; 3] = [
    "DeleteImportedKeyMaterial",
    "GetParametersForImport",
    "ImportKeyMaterial",
];

/// Whether an operation needs a key to itself: it may change its state.
fn alone(operation: &str) -> bool {
    let changes = [
        "CancelKeyDeletion",
        "DisableKey",
        "EnableKey",
        "RotateKeyOnDemand",
        "ScheduleKeyDeletion",
    ];
    changes.contains(&operation) || IMPORTS.contains(&operation)
}

/// A new key of a kind, with its material; the wrapping of that material, to import it again.
async fn imported(desk: &Desk, (spec, usage): (&str, &str)) -> (Key, Again) {
    let key = desk.external(spec, usage).await;
    let (algorithm, material) = match spec {
        "RSA_2048" => ("RSA_AES_KEY_WRAP_SHA_256", openssl("rsa2048.pkcs8")),
        "ECC_NIST_P256" => ("RSAES_OAEP_SHA_256", openssl("p256.pkcs8")),
        _ => ("RSAES_OAEP_SHA_256", vec![5; 32]),
    };
    let parameters = desk.parameters(&key, algorithm, "RSA_2048").await;
    let import = desk.import_with(&key, &parameters, algorithm, &material);
    import.clone().send().await.unwrap();
    if spec == "SYMMETRIC_DEFAULT" {
        // So that there is something to rotate to.
        let new = desk.import_with(&key, &parameters, algorithm, &[6; 32]);
        let new = new.import_type(ImportType::NewKeyMaterial);
        new.send().await.unwrap();
    }
    (key, import)
}

type Again = aws_sdk_kms::operation::import_key_material::builders::ImportKeyMaterialFluentBuilder;

async fn bring_into(desk: &Desk, state: &str, key: &Key) {
    let (kms, id) = (&desk.kms, &key.id);
    match state {
        "Disabled" => _ = kms.disable_key().key_id(id).send().await.unwrap(),
        "PendingDeletion" => _ = kms.schedule_key_deletion().key_id(id).send().await.unwrap(),
        "PendingImport" => {
            let call = kms.delete_imported_key_material().key_id(id);
            call.send().await.unwrap();
        }
        _ => {}
    }
    let described = desk.describe(id).await;
    assert_eq!(described.key_state().unwrap().as_str(), state);
}

async fn run_import(desk: &Desk, operation: &str, key: &Key, again: Again) -> Result<(), Failed> {
    match operation {
        "DeleteImportedKeyMaterial" => {
            let call = desk.kms.delete_imported_key_material().key_id(&key.id);
            call.send().await.map(drop).map_err(failed)
        }
        "GetParametersForImport" => {
            let call = desk.kms.get_parameters_for_import().key_id(&key.id);
            let call = call.wrapping_algorithm(AlgorithmSpec::RsaesOaepSha256);
            let call = call.wrapping_key_spec(WrappingKeySpec::Rsa2048);
            call.send().await.map(drop).map_err(failed)
        }
        _ => again.send().await.map(drop).map_err(failed),
    }
}

/// What the table promises to keys of origin EXTERNAL.
fn promised(operation: &str, column: usize, arn: &str) -> Result<(), Failed> {
    match operation {
        // Footnote 7; the origin comes before the state.
        "DisableKeyRotation" | "EnableKeyRotation" => Err(Failed::Answer(
            "UnsupportedOperationException".to_owned(),
            Some(format!(
                "{arn} origin is EXTERNAL which is not valid for this operation."
            )),
        )),
        _ => expected(operation, column, arn),
    }
}

/// Catches a state of an imported key that allows what the real service refuses, refuses what it
/// allows, or says so in other words.
#[tokio::test]
async fn every_operation_in_every_state_of_an_imported_key() {
    let desk = Desk::dev("states of imports").await;
    let other = desk.key().await;
    let other_blob = desk.ciphertext(&other.id).await;
    let policy = crate::policies::DEFAULT.replace("ACCOUNT", &desk.account);
    // Material of ML-KEM cannot be imported.
    let theirs = OPERATIONS
        .iter()
        .filter(|name| !name.ends_with("capsulate"));
    let mut groups: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for operation in theirs.chain(&IMPORTS).copied() {
        let own = alone(operation).then_some(operation);
        let group = groups.entry((kind(operation), own)).or_default();
        group.push(operation);
    }
    let mut wrong = Vec::new();
    for (state, column) in STATES {
        for (number, (&(kind, _), operations)) in groups.iter().enumerate() {
            let (key, again) = imported(&desk, kind).await;
            let mut prepared = Vec::new();
            for (at, operation) in operations.iter().enumerate() {
                let alias = format!("alias/{state}-{number}-{at}");
                let call = desk.kms.create_alias().alias_name(&alias);
                call.target_key_id(&key.id).send().await.unwrap();
                let before = Before {
                    key: key.clone(),
                    alias,
                    blob: blob_for(&desk, operation, &key).await,
                    other: other.clone(),
                    other_blob: other_blob.clone(),
                    policy: policy.clone(),
                };
                prepared.push((*operation, before));
            }
            bring_into(&desk, state, &key).await;
            for (operation, before) in prepared {
                let answer = match IMPORTS.contains(&operation) {
                    true => run_import(&desk, operation, &key, again.clone()).await,
                    false => run(&desk.kms, operation, &before).await,
                };
                let promised = promised(operation, column, &key.arn);
                if answer != promised {
                    wrong.push(format!(
                        "{operation} on {state}: {answer:?}, not {promised:?}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
