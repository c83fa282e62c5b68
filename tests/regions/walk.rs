//! The life of a family.

use aws_sdk_kms::types::{KeyState, MultiRegionKeyType, Tag};
use keyrum_tests::sdk::refused;
use keyrum_tests::wait;

use crate::relatives::{REGIONS, Relatives, advance, dev, family};

/// Catches a replica that answers wrongly before it is there or never comes, a ciphertext that a
/// relative cannot open, a move that leaves two primaries or none, and a replica that cannot come
/// back with the same material.
#[tokio::test]
async fn a_family_lives_in_three_regions() {
    let dev = dev().await;
    let kin = Relatives::at(&dev.ready.endpoint, "walk");
    let [east, ireland, west] = REGIONS;
    let key = kin.primary().await;
    let old = kin.encrypt(east, &key, "older than the replica").await;

    let call = kin.kms(east).replicate_key().key_id(&key);
    let answer = call.replica_region(ireland).send().await.unwrap();
    let replica = answer.replica_key_metadata().unwrap();
    assert_eq!(replica.arn(), Some(&*kin.arn(ireland, &key)));
    assert_eq!(replica.key_id(), key);
    assert_eq!(replica.key_state(), Some(&KeyState::Creating));
    assert_eq!(
        (replica.enabled(), replica.description()),
        (false, Some(""))
    );
    assert_eq!(replica.current_key_material_id(), None);
    let told = (
        MultiRegionKeyType::Replica,
        east.to_owned(),
        vec![ireland.to_owned()],
    );
    assert_eq!(family(replica), told);
    assert!(
        answer
            .replica_policy()
            .unwrap()
            .contains("Enable IAM User Permissions")
    );
    assert!(answer.replica_tags().is_empty());

    let shown = kin.wait_for(ireland, &key, KeyState::Enabled).await;
    assert_eq!(family(&shown), told);
    let primary = kin.described(east, &key).await;
    assert_eq!(
        shown.current_key_material_id(),
        primary.current_key_material_id()
    );
    assert_eq!(kin.decrypt(ireland, &old).await, "older than the replica");
    kin.settle(&key, east, &[east, ireland]).await;

    let tag = Tag::builder()
        .tag_key("team")
        .tag_value("a")
        .build()
        .unwrap();
    let call = kin.kms(east).replicate_key().key_id(&key);
    let call = call
        .replica_region(west)
        .description("in the west")
        .tags(tag);
    let answer = call.send().await.unwrap();
    assert_eq!(answer.replica_tags().len(), 1);
    kin.settle(&key, east, &REGIONS).await;
    let shown = kin.described(west, &key).await;
    assert_eq!(shown.description(), Some("in the west"));
    let tags = kin.kms(west).list_resource_tags().key_id(&key).send();
    assert_eq!(tags.await.unwrap().tags()[0].tag_value(), "a");
    assert_eq!(kin.described(ireland, &key).await.description(), Some(""));
    kin.exchange(&key, &REGIONS).await;

    let call = kin.kms(east).update_primary_region().key_id(&key);
    call.primary_region(ireland).send().await.unwrap();
    kin.exchange(&key, &REGIONS).await;
    kin.settle(&key, ireland, &REGIONS).await;
    let call = kin.kms(east).replicate_key().key_id(&key);
    refused(
        call.replica_region(west).send().await,
        "UnsupportedOperationException",
        &format!("{} is not a multi-region primary key.", kin.arn(east, &key)),
    );

    let call = kin.kms(east).schedule_key_deletion().key_id(&key);
    call.pending_window_in_days(7).send().await.unwrap();
    advance(&dev, "8d");
    wait::until_true("deletion", wait::SHORT, async || {
        kin.look(east, &key).await.is_none()
    })
    .await;
    kin.settle(&key, ireland, &[ireland, west]).await;
    kin.replicate(&key, ireland, east).await;
    kin.settle(&key, ireland, &REGIONS).await;
    assert_eq!(kin.decrypt(east, &old).await, "older than the replica");
    kin.exchange(&key, &REGIONS).await;
}
