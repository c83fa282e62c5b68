//! Tags that mean something to `keyrum dev` alone.

use aws_sdk_kms::types::Tag;
use keyrum_tests::{Cluster, Shape};

/// Catches a cluster whose callers choose ids or bring material by a tag, or that hides one.
#[tokio::test(flavor = "multi_thread")]
async fn tags_choose_nothing_on_a_cluster() {
    let cluster = Cluster::up(&Shape::one_region(1)).await;
    let client = cluster.clients("tags").swap_remove(0);
    let names = ["_custom_id_", "_custom_key_material_"];
    let tags = names.map(|name| {
        let tag = Tag::builder().tag_key(name).tag_value("any").build();
        tag.unwrap()
    });
    let call = client.create_key().set_tags(Some(tags.into()));
    let made = call.send().await.unwrap().key_metadata.unwrap();
    let tags = client.list_resource_tags().key_id(made.key_id());
    let tags = tags.send().await.unwrap();
    let found: Vec<_> = tags.tags().iter().map(|tag| tag.tag_key()).collect();
    assert_eq!(found, names);
}
