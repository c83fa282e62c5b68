//! Disks that fail, and files that are damaged while nobody looks.

use std::time::Duration;

use keyrum_tests::sdk;
use keyrum_tests::writers::{self, Writers};
use keyrum_tests::{Cluster, Shape, wait};
use tokio::time::Instant;

use crate::*;

async fn condition(cluster: &Cluster, node: &str) -> String {
    let lines = cluster.status().await;
    let line = lines.iter().find(|line| line.node == node).unwrap();
    line.process.clone()
}

/// Catches a node that goes on after a failed sync or on a full disk, one that does not say why it
/// ended, an acknowledged change that is lost by it, and one that heal does not start again.
#[tokio::test]
async fn a_node_stops_at_its_disks_fault() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let writers = Writers::start("disk", 4, &cluster.clients("test"));
    for (trouble, words) in [("sync", "nothing more is accepted"), ("full", "disk full")] {
        let leader = cluster.leader().await;
        fault(&cluster, &["error", &leader, trouble, "--after", "2"]).await;
        let ended = async || condition(&cluster, &leader).await.starts_with("ended");
        wait::until_true("end of the node", wait::LONG, ended).await;
        let said = cluster.node_output(&leader);
        let last = said.lines().last().unwrap();
        assert!(last.contains(words), "{last}");
        let goal = writers.acknowledged() + 20;
        let others = async || writers.acknowledged() >= goal;
        wait::until_true("progress of the others", wait::LONG, others).await;
        let healed = fault(&cluster, &["heal"]).await;
        assert!(healed.contains("runs again; it was ended"), "{healed}");
    }
    let histories = writers.stop().await;
    cluster.agree().await;
    let kms = sdk::client(cluster.endpoint(), HERE, "test");
    writers::none("after the faults", &writers::check(&kms, &histories).await);
}

/// Catches a slow disk that holds up nothing, or that stays slow.
#[tokio::test]
async fn a_slow_disk_holds_up_its_syncs() {
    let cluster = Cluster::up(&Shape::one_region(1)).await;
    let kms = sdk::client(cluster.endpoint(), HERE, "test");
    let node = format!("{HERE}/1");
    fault(&cluster, &["error", &node, "slow=300ms"]).await;
    let begun = Instant::now();
    make_key(&kms, "slow").await;
    assert!(begun.elapsed() >= Duration::from_millis(300));
    wait_for_effect(&cluster, &node, "disk_operations").await;
    let healed = fault(&cluster, &["heal"]).await;
    assert!(healed.contains("operations of the disk"), "{healed}");
    let mut least = Duration::MAX;
    for _ in 0..20 {
        let begun = Instant::now();
        make_key(&kms, "quick").await;
        least = least.min(begun.elapsed());
    }
    assert!(least < Duration::from_millis(300), "{least:?}");
}

/// Catches damage that a node does not notice and serves, damage to a node that runs, and a
/// cluster that loses something by one node's.
#[tokio::test]
async fn a_damaged_node_tells_nothing_wrong() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let writers = Writers::start("flip", 4, &cluster.clients("test"));
    let goal = async || writers.acknowledged() >= 50;
    wait::until_true("something to damage", wait::LONG, goal).await;
    let mut refusals = 0;
    for (node, how) in [(1, "--flip"), (2, "--tear"), (3, "--flip=mark")] {
        let node = format!("{HERE}/{node}");
        let why = refused(&cluster, &["error", &node, how]).await;
        assert!(why.contains("nothing was damaged"), "{why}");
        assert!(why.contains("is running"), "{why}");
        fault(&cluster, &["kill", &node]).await;
        let told = fault(&cluster, &["error", &node, how]).await;
        assert!(told.contains("healing does not undo this"), "{told}");
        let healed = cluster.ask("fault", &["heal"]).await;
        if healed.status.success() {
            continue;
        }
        // It must name the file, and can be replaced only while a majority is there.
        let said = String::from_utf8(healed.stderr).unwrap();
        assert!(said.contains("store/"), "{said}");
        refusals += 1;
        break;
    }
    let histories = writers.stop().await;
    if refusals == 0 {
        cluster.agree().await;
    }
    let kms = sdk::client(cluster.endpoint(), HERE, "test");
    writers::none("after damage", &writers::check(&kms, &histories).await);
}

/// Catches a flipped bit of the database that a restarted node takes for what was written.
#[tokio::test]
async fn a_flipped_bit_of_the_database_is_named() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let kms = sdk::client(cluster.endpoint(), HERE, "test");
    let key = make_key(&kms, "kept").await;
    let node = other_than(&cluster.leader().await);
    fault(&cluster, &["kill", &node]).await;
    let why = refused(&cluster, &["error", &node, "--flip=../started"]).await;
    assert!(why.contains("there is no file"), "{why}");
    let why = refused(&cluster, &["error", &node, "--flip=nothing"]).await;
    assert!(why.contains("journal, mark, rows, snapshot"), "{why}");
    // A bit that nothing rests on is possible, but not often.
    let why = wait::until("a bit that matters", wait::LONG, async || {
        fault(&cluster, &["error", &node, "--flip=rows"]).await;
        let output = cluster.try_command(&["restart", &node]).await;
        if !output.status.success() {
            return Some(String::from_utf8(output.stderr).unwrap());
        }
        cluster.agree().await;
        fault(&cluster, &["kill", &node]).await;
        None
    })
    .await;
    assert!(why.contains("rows/db"), "{why}");
    let shown = kms.describe_key().key_id(&key).send().await.unwrap();
    let description = shown.key_metadata.unwrap().description;
    assert_eq!(description.as_deref(), Some("kept"));
}
