//! Several accounts on one endpoint.

use aws_sdk_kms::primitives::Blob;
use keyrum_tests::http::Raw;
use keyrum_tests::sdk::{self, HERE, refused};
use keyrum_tests::shared_dev;

use crate::desk::{Desk, NOBODY};

fn denied(caller: &str, action: &str) -> String {
    format!(
        "User: arn:aws:iam::{caller}:root is not authorized to perform: kms:{action} on this \
         resource because no resource-based policy allows the kms:{action} action"
    )
}

/// Catches an account that sees another's keys or aliases in its lists.
#[tokio::test]
async fn lists_are_of_ones_own() {
    let (one, two) = (Desk::dev("lists, one").await, Desk::dev("lists, two").await);
    let key = one.key().await;
    one.kms
        .create_alias()
        .alias_name("alias/x")
        .target_key_id(&key.id)
        .send()
        .await
        .unwrap();
    assert!(two.kms.list_keys().send().await.unwrap().keys().is_empty());
    let listed = two.kms.list_aliases().send().await.unwrap();
    assert_eq!(two.aliases_of_keys(&listed), []);
    // The name is free in the other account.
    let other = two.key().await;
    two.kms
        .create_alias()
        .alias_name("alias/x")
        .target_key_id(&other.id)
        .send()
        .await
        .unwrap();
    assert_eq!(one.describe("alias/x").await.key_id(), key.id);
    assert_eq!(two.describe("alias/x").await.key_id(), other.id);
}

/// Catches another account's key that can be used, or told from one that does not exist.
#[tokio::test]
async fn foreign_keys_are_out_of_reach() {
    let (one, two) = (
        Desk::dev("foreign, one").await,
        Desk::dev("foreign, two").await,
    );
    let key = one.key().await;
    let absent = one.arn(&format!("key/{NOBODY}"));
    for arn in [&key.arn, &absent] {
        let answer = two.kms.describe_key().key_id(arn).send().await;
        refused(
            answer,
            "AccessDeniedException",
            &denied(&two.account, "DescribeKey"),
        );
        let answer = two
            .kms
            .encrypt()
            .key_id(arn)
            .plaintext(Blob::new("x"))
            .send()
            .await;
        refused(
            answer,
            "AccessDeniedException",
            &denied(&two.account, "Encrypt"),
        );
    }
    // By its id alone it is a key of one's own that does not exist.
    let answer = two.kms.describe_key().key_id(&key.id).send().await;
    let message = format!(
        "Key '{}' does not exist",
        two.arn(&format!("key/{}", key.id))
    );
    refused(answer, "NotFoundException", &message);
    // What it encrypted does not tell more.
    let blob = one.ciphertext(&key.id).await;
    refused(
        two.kms.decrypt().ciphertext_blob(blob).send().await,
        "AccessDeniedException",
        "The ciphertext refers to a customer master key that does not exist, does not exist in \
         this region, or you are not allowed to access.",
    );
    // Operations that never reach across accounts change nothing, whatever they say.
    two.kms
        .disable_key()
        .key_id(&key.arn)
        .send()
        .await
        .unwrap_err();
    two.kms
        .schedule_key_deletion()
        .key_id(&key.arn)
        .send()
        .await
        .unwrap_err();
    assert!(one.describe(&key.id).await.enabled());
}

/// Catches an access key id that selects another account than it says.
#[tokio::test]
async fn access_keys_select_accounts() {
    let endpoint = &shared_dev().await.endpoint;
    for (access_key, account) in [
        ("000000000042", "000000000042"),
        ("AKIDEXAMPLE", "000000000000"),
        ("42", "000000000000"),
    ] {
        let kms = sdk::client(endpoint, HERE, access_key);
        let data = kms.create_key().send().await.unwrap().key_metadata.unwrap();
        assert_eq!(data.aws_account_id(), Some(account), "{access_key}");
    }
    // Unsigned: the first Region, the default account.
    let answer = Raw::kms("CreateKey", "{}").send(endpoint).await.unwrap();
    let arn = answer.json()["KeyMetadata"]["Arn"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        arn.starts_with("arn:aws:kms:us-east-1:000000000000:key/"),
        "{arn}"
    );
}
