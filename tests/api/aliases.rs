//! Refusals of the operations on aliases.

use keyrum_tests::sdk::{THERE, refused};

use crate::desk::{Desk, NOBODY, arn};

/// Catches a name that is taken although the real service refuses it, or in other words.
#[tokio::test]
async fn names_have_rules() {
    let desk = Desk::dev("alias names").await;
    let key = desk.key().await;
    let create = async |name: &str| {
        desk.kms
            .create_alias()
            .alias_name(name)
            .target_key_id(&key.id)
            .send()
            .await
    };
    refused(
        create("no-prefix").await,
        "ValidationException",
        "Alias must start with the prefix \"alias/\". Please see \
         https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html",
    );
    refused(
        create("alias/aws/mine").await,
        "NotAuthorizedException",
        "The alias name for a customer managed CMK cannot begin with alias/aws/.",
    );
    refused(
        create("alias/a:b").await,
        "ValidationException",
        "alias/a:b contains invalid characters for an alias",
    );
    let long = format!("alias/{}", "x".repeat(251));
    let message = format!(
        "1 validation error detected: Value '{long}' at 'aliasName' failed to satisfy constraint: \
         Member must have length less than or equal to 256"
    );
    refused(create(&long).await, "ValidationException", &message);
    for name in ["alias/a", "alias/A-b_c/d", &long[..256]] {
        create(name).await.unwrap();
    }
    let message = format!(
        "An alias with the name {} already exists",
        desk.arn("alias/a")
    );
    refused(create("alias/a").await, "AlreadyExistsException", &message);
}

/// Catches an alias that leads to something else than a key of this account and Region.
#[tokio::test]
async fn targets_are_keys() {
    let desk = Desk::dev("alias targets").await;
    let key = desk.key().await;
    let create = async |target: &str| {
        desk.kms
            .create_alias()
            .alias_name("alias/t")
            .target_key_id(target)
            .send()
            .await
    };
    let message = format!(
        "Key '{}' does not exist",
        desk.arn(&format!("key/{NOBODY}"))
    );
    refused(create(NOBODY).await, "NotFoundException", &message);
    refused(
        create("nosuchkey").await,
        "NotFoundException",
        "Invalid keyId 'nosuchkey'",
    );
    let message = "Aliases must refer to keys. Not aliases";
    refused(create("alias/other").await, "ValidationException", message);
    let elsewhere = arn(THERE, &desk.account, &format!("key/{}", key.id));
    refused(
        create(&elsewhere).await,
        "NotFoundException",
        &format!("Invalid arn {THERE}"),
    );
    create(&key.arn).await.unwrap();
}

/// Catches changes to an alias that is not there, and a deletion that is forgotten.
#[tokio::test]
async fn absent_aliases_are_not_found() {
    let desk = Desk::dev("absent aliases").await;
    let key = desk.key().await;
    let message = format!("Alias {} is not found.", desk.arn("alias/none"));
    let answer = desk
        .kms
        .delete_alias()
        .alias_name("alias/none")
        .send()
        .await;
    refused(answer, "NotFoundException", &message);
    let call = desk
        .kms
        .update_alias()
        .alias_name("alias/none")
        .target_key_id(&key.id);
    refused(call.send().await, "NotFoundException", &message);
    let create = async || {
        desk.kms
            .create_alias()
            .alias_name("alias/none")
            .target_key_id(&key.id)
            .send()
            .await
    };
    create().await.unwrap();
    desk.kms
        .delete_alias()
        .alias_name("alias/none")
        .send()
        .await
        .unwrap();
    let answer = desk.kms.describe_key().key_id("alias/none").send().await;
    refused(answer, "NotFoundException", &message);
    create().await.unwrap();
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
