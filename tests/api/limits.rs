//! Resource limits.

use keyrum_tests::sdk::refused;

use crate::desk::{Desk, tag};

/// Catches a key with more tags than it may have, and tags of a refused call that stay.
#[tokio::test]
async fn a_key_has_fifty_tags() {
    let desk = Desk::dev("fifty tags").await;
    let key = desk.key().await;
    let add = async |from: u32, to: u32| {
        let tags = (from..to)
            .map(|number| tag(&format!("k{number}"), "v"))
            .collect();
        desk.kms
            .tag_resource()
            .key_id(&key.id)
            .set_tags(Some(tags))
            .send()
            .await
    };
    add(0, 30).await.unwrap();
    refused(add(29, 51).await, "TagException", "Too many tags");
    // Replacing counts once.
    add(29, 50).await.unwrap();
    refused(add(50, 51).await, "TagException", "Too many tags");
    add(0, 50).await.unwrap();
    desk.kms
        .untag_resource()
        .key_id(&key.id)
        .tag_keys("k0")
        .send()
        .await
        .unwrap();
    add(50, 51).await.unwrap();
    let tags = desk
        .kms
        .list_resource_tags()
        .key_id(&key.id)
        .send()
        .await
        .unwrap();
    assert_eq!(tags.tags().len(), 50);
}

/// Catches a key with more aliases than it may have, also by moving one.
#[tokio::test]
async fn a_key_has_fifty_aliases() {
    let desk = Desk::dev("fifty aliases").await;
    let (key, other) = (desk.key().await, desk.key().await);
    let create = async |name: String, key: &str| {
        desk.kms
            .create_alias()
            .alias_name(name)
            .target_key_id(key)
            .send()
            .await
    };
    for number in 0..50 {
        create(format!("alias/{number}"), &key.id).await.unwrap();
    }
    let error = create("alias/50".to_owned(), &key.id)
        .await
        .unwrap_err()
        .into_service_error();
    assert!(error.is_limit_exceeded_exception(), "{error:?}");
    create("alias/50".to_owned(), &other.id).await.unwrap();
    let call = desk
        .kms
        .update_alias()
        .alias_name("alias/50")
        .target_key_id(&key.id);
    let error = call.send().await.unwrap_err().into_service_error();
    assert!(error.is_limit_exceeded_exception(), "{error:?}");
    assert_eq!(desk.describe("alias/50").await.key_id(), other.id);
    desk.kms
        .delete_alias()
        .alias_name("alias/0")
        .send()
        .await
        .unwrap();
    let call = desk
        .kms
        .update_alias()
        .alias_name("alias/50")
        .target_key_id(&key.id);
    call.send().await.unwrap();
}

/// Catches a policy that is longer than it may be, and one refused that is not.
#[tokio::test]
async fn a_policy_has_32_kilobytes() {
    let desk = Desk::dev("32 KB").await;
    let key = desk.key().await;
    let default = crate::policies::DEFAULT.replace("ACCOUNT", &desk.account);
    let padded = |bytes: usize| format!("{default}{}", " ".repeat(bytes - default.len()));
    let put = async |bytes: usize| {
        desk.kms
            .put_key_policy()
            .key_id(&key.id)
            .policy(padded(bytes))
            .send()
            .await
    };
    put(32_768).await.unwrap();
    let error = put(32_769).await.unwrap_err().into_service_error();
    assert!(error.is_limit_exceeded_exception(), "{error:?}");
    let error = desk
        .kms
        .create_key()
        .policy(padded(32_769))
        .send()
        .await
        .unwrap_err();
    assert!(error.into_service_error().is_limit_exceeded_exception());
    let policy = desk
        .kms
        .get_key_policy()
        .key_id(&key.id)
        .send()
        .await
        .unwrap();
    assert_eq!(policy.policy().unwrap().len(), 32_768);
}
