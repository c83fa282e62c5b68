//! The grammar of ValidationException, through requests as an SDK sends them.

use aws_sdk_kms::types::{EncryptionAlgorithmSpec, KeySpec, OriginType};
use keyrum_tests::sdk::refused;

use crate::desk::Desk;

const CODE: &str = "ValidationException";

/// Catches a waiting period that the real service refuses, in its two ways.
#[tokio::test]
async fn waiting_periods_are_seven_to_thirty_days() {
    let desk = Desk::dev("waiting periods").await;
    let key = desk.key().await;
    let schedule = async |days: i32| {
        desk.kms
            .schedule_key_deletion()
            .key_id(&key.id)
            .pending_window_in_days(days)
            .send()
            .await
    };
    for days in [1, 6, 31, 365] {
        refused(
            schedule(days).await,
            CODE,
            "PendingWindowInDays must be between 7 and 30",
        );
    }
    for (days, bound) in [
        (0, "greater than or equal to 1"),
        (366, "less than or equal to 365"),
    ] {
        let message = format!(
            "1 validation error detected: Value '{days}' at 'pendingWindowInDays' failed to \
             satisfy constraint: Member must have value {bound}"
        );
        refused(schedule(days).await, CODE, &message);
    }
    schedule(30).await.unwrap();
}

/// Catches texts that are too long, and an echo that shows what it must not.
#[tokio::test]
async fn texts_have_lengths() {
    let desk = Desk::dev("lengths").await;
    let key = desk.key().await;
    let long = "d".repeat(8193);
    let message = format!(
        "1 validation error detected: Value '{long}' at 'description' failed to satisfy \
         constraint: Member must have length less than or equal to 8192"
    );
    refused(
        desk.kms.create_key().description(&long).send().await,
        CODE,
        &message,
    );
    let call = desk
        .kms
        .update_key_description()
        .key_id(&key.id)
        .description(&long);
    refused(call.send().await, CODE, &message);
    // Characters, not bytes; shown as they came.
    let text = "é".repeat(8192);
    let call = desk
        .kms
        .update_key_description()
        .key_id(&key.id)
        .description(&text);
    call.send().await.unwrap();
    assert_eq!(
        desk.describe(&key.id).await.description(),
        Some(text.as_str())
    );
    // In an error they are not.
    let message = "1 validation error detected: Value '?' at 'keyId' failed to satisfy constraint: \
        Member must satisfy regular expression pattern: ^\\p{ASCII}+$";
    refused(
        desk.kms.describe_key().key_id("é").send().await,
        CODE,
        message,
    );
}

/// Catches an enumeration's value that is not one, several errors that are not told together, and
/// what Keyrum does not have yet said in other words than an error of the API.
#[tokio::test]
async fn enumerations_are_closed() {
    let desk = Desk::dev("enumerations").await;
    let key = desk.key().await;
    let call = desk
        .kms
        .encrypt()
        .key_id(&key.id)
        .plaintext(aws_sdk_kms::primitives::Blob::new("x"));
    let call = call.encryption_algorithm(EncryptionAlgorithmSpec::from("ROT13"));
    let message = "1 validation error detected: Value 'ROT13' at 'encryptionAlgorithm' failed to \
        satisfy constraint: Member must satisfy enum value set: [RSAES_OAEP_SHA_1, \
        RSAES_OAEP_SHA_256, SM2PKE, SYMMETRIC_DEFAULT]";
    refused(call.send().await, CODE, message);
    let call = desk.kms.generate_data_key().key_id("").number_of_bytes(0);
    let error = call.send().await.unwrap_err().into_service_error();
    let message = error.meta().message().unwrap();
    assert!(
        message.starts_with("3 validation errors detected: "),
        "{message}"
    );

    #[expect(deprecated, reason = "the point of the test")]
    let call = desk
        .kms
        .create_key()
        .customer_master_key_spec("SYMMETRIC_DEFAULT".into());
    call.clone().send().await.unwrap();
    refused(
        call.key_spec(KeySpec::SymmetricDefault).send().await,
        CODE,
        "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. \
         CustomerMasterKeySpec is deprecated.",
    );
    let call = desk.kms.create_key().origin(OriginType::AwsCloudhsm);
    let call = call.custom_key_store_id("cks-1234567890abcdef0");
    let error = call.send().await.unwrap_err().into_service_error();
    assert!(error.is_unsupported_operation_exception(), "{error:?}");
    refused(
        desk.kms
            .create_key()
            .key_spec(KeySpec::Rsa2048)
            .send()
            .await,
        CODE,
        "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.",
    );
}
