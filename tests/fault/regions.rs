//! Regions that are cut from each other.

use aws_sdk_kms::types::KeyState;
use keyrum_tests::sdk::{Failed, THERE, failed};
use keyrum_tests::{Cluster, Shape, wait};

use crate::*;

async fn state(kms: &Client, key: &str) -> Option<KeyState> {
    let shown = kms.describe_key().key_id(key).send().await.ok()?;
    shown.key_metadata?.key_state
}

/// Catches a cut between Regions that messages cross, a change that is half made where the other
/// Region cannot be asked, and messages that are lost by it.
#[tokio::test]
async fn a_replica_waits_for_its_region() {
    let shape = Shape {
        regions: vec![(HERE, 3), (THERE, 1)],
        ..Shape::one_region(3)
    };
    let cluster = Cluster::up(&shape).await;
    let leader = cluster.leader().await;
    let asked = client(&cluster, &other_than(&leader)).await;
    let there = sdk::client(cluster.endpoint(), THERE, "test");
    let made = asked.create_key().multi_region(true).send().await.unwrap();
    let key = made.key_metadata.unwrap().key_id;
    // The node that is asked reaches the other Region, the leader's courier does not.
    fault(&cluster, &["cut", &leader, THERE]).await;
    let call = asked.replicate_key().key_id(&key).replica_region(THERE);
    let replica = call.send().await.unwrap().replica_key_metadata.unwrap();
    assert_eq!(replica.key_state, Some(KeyState::Creating));
    wait_for_effect(&cluster, &leader, "connects_held").await;
    assert_eq!(state(&there, &key).await, None);
    let waits = async || {
        let output = cluster.command(&["status"]).await;
        let text = String::from_utf8(output.stdout).unwrap();
        text.contains(&format!("{HERE} -> {THERE}: "))
    };
    wait::until_true("a message that waits", wait::LONG, waits).await;
    fault(&cluster, &["heal"]).await;
    let enabled = async || state(&there, &key).await == Some(KeyState::Enabled);
    wait::until_true("an Enabled replica", wait::LONG, enabled).await;

    let told = fault(&cluster, &["cut", HERE, THERE]).await;
    assert_eq!(told.matches(&format!("cut from {THERE}")).count(), 3);
    let other = asked.create_key().multi_region(true).send().await.unwrap();
    let other = other.key_metadata.unwrap().key_id;
    let call = asked.replicate_key().key_id(&other).replica_region(THERE);
    match failed(call.send().await.unwrap_err()) {
        Failed::Answer(code, _) => assert_eq!(code, "DependencyTimeoutException"),
        other => panic!("{other:?}"),
    }
    // Inside a Region all goes on.
    make_key(&there, "alone").await;
    fault(&cluster, &["heal"]).await;
    let call = async || {
        let call = asked.replicate_key().key_id(&other).replica_region(THERE);
        call.send().await.is_ok()
    };
    wait::until_true("a replica", wait::LONG, call).await;
    let enabled = async || state(&there, &other).await == Some(KeyState::Enabled);
    wait::until_true("an Enabled replica", wait::LONG, enabled).await;
}
