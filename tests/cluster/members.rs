//! Nodes that join and leave a group.

use aws_sdk_kms::Client;
use keyrum_tests::sdk::{self, HERE};
use keyrum_tests::{Cluster, Shape, wait};
use serde_json::json;

async fn make_keys(kms: &Client, count: usize) {
    for _ in 0..count {
        kms.create_key().send().await.unwrap();
    }
}

/// Catches a node that joins without catching up, a group that does not get along without its
/// first nodes, an id that comes back, and a change that a restart forgets.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_join_and_leave() {
    let mut shape = Shape::one_region(3);
    // The new node cannot have the beginning of the log.
    shape.snapshot_entries = 20;
    let mut cluster = Cluster::up(&shape).await;
    let kms = sdk::client(cluster.endpoint(), HERE, "test");
    make_keys(&kms, 59).await;
    sdk::churn(&kms, 200).await;
    cluster.command(&["add", "us-east-1/4"]).await;
    let lines = cluster.agree().await;
    assert_eq!(lines.len(), 4);
    for line in &lines {
        assert_eq!(line.say("voters"), &json!([1, 2, 3, 4]), "{line:?}");
        assert_eq!(line.number("keys"), 60);
    }
    let refused = cluster.try_command(&["add", "us-east-1/4"]).await;
    assert!(!refused.status.success());

    // The leader, whichever node that is, and another of the first three.
    let leader = cluster.leader().await;
    let gone = lines
        .iter()
        .find(|line| line.node == leader)
        .unwrap()
        .pid
        .unwrap();
    cluster.command(&["remove", &leader]).await;
    assert!(!Cluster::any_runs(&[gone]), "a removed node's process ends");
    make_keys(&kms, 5).await;
    let next = if leader == "us-east-1/1" {
        "us-east-1/2"
    } else {
        "us-east-1/1"
    };
    cluster.command(&["remove", next]).await;
    make_keys(&kms, 5).await;
    let lines = cluster.agree().await;
    assert_eq!(lines.len(), 2);
    assert!(
        lines.iter().all(|line| line.number("keys") == 70),
        "{lines:?}"
    );
    let refused = cluster.try_command(&["add", &leader]).await;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && words.contains("never used twice"),
        "{words}"
    );

    cluster.stop().await;
    cluster.start().await;
    let lines = cluster.agree().await;
    assert_eq!(lines.len(), 2);
    let kms = sdk::client(cluster.endpoint(), HERE, "test");
    make_keys(&kms, 1).await;
    cluster.command(&["add", "us-east-1/5"]).await;
    let lines = cluster.agree().await;
    assert!(
        lines.iter().all(|line| line.number("keys") == 71),
        "{lines:?}"
    );
    let voters = lines[0].say("voters").as_array().unwrap().len();
    assert_eq!(voters, 3);
    // Three again: one may fail.
    let leader = cluster.leader().await;
    cluster.command(&["kill", &leader]).await;
    wait::until_true("writing without one of three", wait::LONG, async || {
        kms.create_key().send().await.is_ok()
    })
    .await;
}
