//! Nodes that join and leave a group.

use std::process::Output;
use std::time::Duration;

use aws_sdk_kms::Client;
use keyrum_tests::sdk::{self, HERE};
use keyrum_tests::{Cluster, NodeLine, Shape, wait};
use serde_json::json;
use tokio::time::Instant;

async fn make_keys(kms: &Client, count: usize) {
    for _ in 0..count {
        kms.create_key().send().await.unwrap();
    }
}

/// Gives a node that is still to be added the certificate of another: the group takes it as a
/// learner, and nobody can ever reach it.
fn make_unreachable(cluster: &Cluster, id: u64) {
    for end in ["pem", "key"] {
        let of = |id: u64| {
            let name = format!("{HERE}-node-{id}.{end}");
            cluster.data().join("certs").join(name)
        };
        std::fs::copy(of(1), of(id)).unwrap();
    }
}

/// Waits until the group has a learner, and returns the leader that says so.
async fn learner(cluster: &Cluster, id: u64) -> String {
    wait::until("learner", wait::SHORT, async || {
        let lines = cluster.status().await;
        let mut lines = lines.iter();
        let has =
            |line: &&NodeLine| line.say("role") == "leader" && *line.say("learners") == json!([id]);
        lines.find(has).map(|line| line.node.clone())
    })
    .await
}

/// Asserts that these are the cluster's nodes, and that its group has three voters and these
/// learners.
async fn members(cluster: &Cluster, nodes: &[u64], learners: &[u64]) {
    let leader = cluster.leader().await;
    let lines = cluster.status().await;
    let names: Vec<_> = nodes.iter().map(|id| format!("{HERE}/{id}")).collect();
    let found: Vec<_> = lines.iter().map(|line| line.node.clone()).collect();
    assert_eq!(found, names);
    let leader = lines.iter().find(|line| line.node == leader).unwrap();
    assert_eq!(leader.say("voters"), &json!([1, 2, 3]));
    assert_eq!(leader.say("learners"), &json!(learners));
}

#[track_caller]
fn failed(output: &Output, parts: &[&str]) {
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{output:?}");
    for part in parts {
        assert!(words.contains(part), "{part:?} is not in: {words}");
    }
}

/// Catches an addition that fails late and leaves a member that nobody can remove any more, one
/// that a majority waits for, or a group that takes no further node.
#[tokio::test(flavor = "multi_thread")]
async fn an_addition_that_fails_is_taken_back() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let kms = sdk::client(cluster.endpoint(), HERE, "test");
    make_keys(&kms, 3).await;

    make_unreachable(&cluster, 4);
    let kill = async {
        learner(&cluster, 4).await;
        cluster.command(&["kill", "us-east-1/4"]).await;
    };
    let (added, ()) = tokio::join!(cluster.try_command(&["add", "us-east-1/4"]), kill);
    failed(&added, &["us-east-1/4 is killed"]);
    members(&cluster, &[1, 2, 3], &[]).await;
    assert!(!cluster.data().join(HERE).join("node-4").exists());
    make_keys(&kms, 1).await;

    // Now with nobody there to take it back: it has to be known on.
    make_unreachable(&cluster, 5);
    let kill = async {
        let leader = learner(&cluster, 5).await;
        let all = (1..=3).map(|id| format!("{HERE}/{id}"));
        let others: Vec<_> = all.filter(|node| *node != leader).collect();
        for node in others.iter().chain([&leader]) {
            cluster.command(&["kill", node]).await;
        }
    };
    let (added, ()) = tokio::join!(cluster.try_command(&["add", "us-east-1/5"]), kill);
    failed(
        &added,
        &["no node of us-east-1 answers", "cluster remove us-east-1/5"],
    );
    for id in 1..=3 {
        let node = format!("{HERE}/{id}");
        cluster.command(&["restart", &node]).await;
    }
    members(&cluster, &[1, 2, 3, 5], &[5]).await;
    cluster.command(&["remove", "us-east-1/5"]).await;
    members(&cluster, &[1, 2, 3], &[]).await;

    cluster.command(&["add", "us-east-1/6"]).await;
    let lines = cluster.agree().await;
    assert_eq!(lines[3].say("voters"), &json!([1, 2, 3, 6]));
    assert_eq!(lines[3].number("keys"), 4);
    make_keys(&kms, 1).await;
}

/// Catches a change of nodes without a quorum that hangs, blames the wrong node, or leaves half of
/// itself behind.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_nothing_is_begun() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let leader = cluster.leader().await;
    let all = [1, 2, 3].map(|id| format!("{HERE}/{id}"));
    let others: Vec<_> = all.iter().filter(|node| **node != leader).collect();
    let record = || std::fs::read(cluster.data().join("cluster.json")).unwrap();
    let before = record();

    cluster.command(&["kill", others[0]]).await;
    let needed = cluster.try_command(&["remove", others[1]]).await;
    failed(
        &needed,
        &["nothing was changed", others[0], "would be needed"],
    );
    cluster.command(&["pause", others[1]]).await;
    for args in [["add", "us-east-1/4"], ["remove", others[0]]] {
        let start = Instant::now();
        let output = cluster.try_command(&args).await;
        failed(&output, &["no quorum", others[0], others[1]]);
        let took = start.elapsed();
        assert!(took < Duration::from_secs(12), "{args:?} took {took:?}");
    }
    assert_eq!(record(), before);
    assert!(!cluster.data().join(HERE).join("node-4").exists());

    cluster.command(&["resume", others[1]]).await;
    cluster.command(&["restart", others[0]]).await;
    cluster.command(&["add", "us-east-1/4"]).await;
    let lines = cluster.agree().await;
    assert_eq!(lines[3].say("voters"), &json!([1, 2, 3, 4]));
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
