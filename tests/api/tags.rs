//! Refusals of the operations on tags.

use keyrum_tests::sdk::refused;

use crate::desk::{Desk, tag};

/// Catches tags that the real service refuses, on a new key and on an old one.
#[tokio::test]
async fn tags_have_rules() {
    let desk = Desk::dev("tag rules").await;
    let key = desk.key().await;
    for (tags, message) in [
        (
            vec![tag("aws:mine", "")],
            "Tags beginning with aws: are reserved",
        ),
        (
            vec![tag("AwS:mine", "")],
            "Tags beginning with aws: are reserved",
        ),
        (vec![tag("a", "1"), tag("a", "2")], "Duplicate tag keys"),
        (
            (0..51).map(|n| tag(&format!("k{n}"), "")).collect(),
            "Too many tags",
        ),
    ] {
        let answer = desk
            .kms
            .create_key()
            .set_tags(Some(tags.clone()))
            .send()
            .await;
        refused(answer, "TagException", message);
        let answer = desk
            .kms
            .tag_resource()
            .key_id(&key.id)
            .set_tags(Some(tags))
            .send()
            .await;
        refused(answer, "TagException", message);
    }
    let long = "x".repeat(129);
    let call = desk
        .kms
        .tag_resource()
        .key_id(&key.id)
        .tags(tag("good", ""))
        .tags(tag(&long, ""));
    let message = format!(
        "1 validation error detected: Value '{long}' at 'tags.2.member.tagKey' failed to satisfy \
         constraint: Member must have length less than or equal to 128"
    );
    refused(call.send().await, "ValidationException", &message);
    let tags = desk
        .kms
        .list_resource_tags()
        .key_id(&key.id)
        .send()
        .await
        .unwrap();
    assert!(tags.tags().is_empty(), "a refusal changes nothing");
    // Nothing was made either.
    assert_eq!(desk.kms.list_keys().send().await.unwrap().keys().len(), 1);
}
