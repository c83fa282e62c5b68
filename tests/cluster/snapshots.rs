//! Snapshots: made, compacting the log, and installed on a node that was away.

use keyrum_tests::sdk::{self, HERE};
use keyrum_tests::{Cluster, Shape, wait};

/// Catches a node that cannot come back once the log it lacks is gone, or that comes back with
/// another state, and a log that is never compacted.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_gets_a_snapshot() {
    let mut shape = Shape::one_region(3);
    shape.snapshot_entries = 50;
    let mut cluster = Cluster::up(&shape).await;
    let kms = sdk::client(cluster.endpoint(), HERE, "test");
    let leader = cluster.leader().await;
    let away = if leader == "us-east-1/3" {
        "us-east-1/2"
    } else {
        "us-east-1/3"
    };
    cluster.command(&["kill", away]).await;
    sdk::churn(&kms, 200).await;
    let purged = wait::until("compacted log", wait::SHORT, async || {
        let lines = cluster.status().await;
        let line = lines.iter().find(|line| line.node == leader)?;
        Some(line.number("purged")).filter(|purged| *purged > 50)
    })
    .await;

    cluster.command(&["restart", away]).await;
    let lines = cluster.agree().await;
    let line = lines.iter().find(|line| line.node == away).unwrap();
    assert!(
        line.number("snapshot") >= purged,
        "it can only have come by a snapshot: {line:?}"
    );
    assert_eq!(line.number("keys"), 1);
    // And it is what it has from then on.
    cluster.stop().await;
    cluster.start().await;
    let lines = cluster.agree().await;
    assert!(
        lines.iter().all(|line| line.number("keys") == 1),
        "{lines:?}"
    );
}
