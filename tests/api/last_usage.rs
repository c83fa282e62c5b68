//! GetKeyLastUsage.

use aws_sdk_kms::primitives::Blob;
use keyrum_tests::sdk::refused;

use crate::desk::Desk;

/// Catches a use that is not told of, or told of another key, and an answer that an SDK cannot read.
#[tokio::test]
async fn a_keys_last_use_is_known() {
    let desk = Desk::dev("last usage").await;
    let (key, other) = (desk.key().await, desk.key().await);
    let ask = |id: &str| desk.kms.get_key_last_usage().key_id(id).send();
    let unused = ask(&key.id).await.unwrap();
    assert!(unused.key_last_usage().unwrap().operation().is_none());
    let described = desk.kms.describe_key().key_id(&key.id).send().await;
    let created = *described
        .unwrap()
        .key_metadata()
        .unwrap()
        .creation_date()
        .unwrap();
    assert_eq!(unused.key_creation_date(), Some(&created));
    assert_eq!(unused.tracking_start_date(), Some(&created));

    let encrypt = desk.kms.encrypt().key_id(&key.id);
    let encrypted = encrypt.plaintext(Blob::new("x")).send().await.unwrap();
    let moved = desk
        .kms
        .re_encrypt()
        .ciphertext_blob(encrypted.ciphertext_blob.unwrap())
        .destination_key_id(&other.id);
    moved.send().await.unwrap();
    for key in [&key, &other] {
        let used = ask(&key.id).await.unwrap();
        let last = used.key_last_usage().unwrap();
        assert_eq!(last.operation().unwrap().as_str(), "ReEncrypt");
        assert_eq!(last.kms_request_id().unwrap().len(), 36);
        assert!(last.timestamp().unwrap() >= &created);
    }
    refused(
        ask("alias/any").await,
        "InvalidArnException",
        "Key Aliases are not supported for this operation.",
    );
}
