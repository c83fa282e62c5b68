//! `keyrum log show`.

use aws_sdk_kms::Client;
use keyrum_tests::sdk::{self, HERE};
use keyrum_tests::{Cluster, Shape, wait};
use serde_json::Value;

/// A key's whole life but its end, with many entries about others in between.
async fn live(kms: &Client) -> String {
    let key = kms
        .create_key()
        .description("first")
        .send()
        .await
        .unwrap()
        .key_metadata
        .unwrap();
    let id = key.key_id().to_owned();
    sdk::churn(kms, 60).await;
    kms.update_key_description()
        .key_id(&id)
        .description("second")
        .send()
        .await
        .unwrap();
    kms.disable_key().key_id(&id).send().await.unwrap();
    kms.create_alias()
        .alias_name("alias/h")
        .target_key_id(&id)
        .send()
        .await
        .unwrap();
    sdk::churn(kms, 60).await;
    kms.enable_key().key_id(&id).send().await.unwrap();
    kms.schedule_key_deletion()
        .key_id(&id)
        .pending_window_in_days(7)
        .send()
        .await
        .unwrap();
    id
}

/// The names of the events that `log show` tells of a key, and what it says beside them.
fn log(cluster: &Cluster, id: &str) -> (Vec<String>, String) {
    let mut command = cluster.keyrum("log", &["show", "--region", HERE, "--key-id", id, "--json"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let entries = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let events = entries.flat_map(|entry| entry["events"].as_array().unwrap().clone());
    let names = events.map(|event| event["event"].as_str().unwrap().to_owned());
    (
        names.collect(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Catches a history that a compacted log, a restart or the key's end takes along.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_life_is_told() {
    let mut shape = Shape::one_region(3);
    shape.snapshot_entries = 20;
    let mut cluster = Cluster::up(&shape).await;
    let id = live(&sdk::client(cluster.endpoint(), HERE, "test")).await;
    cluster.stop().await;
    cluster.start().await;
    let mut advance = cluster.keyrum("clock", &["advance", "8d"]);
    assert!(advance.output().unwrap().status.success());
    let lines = cluster.agree().await;
    assert!(
        lines.iter().all(|line| line.number("purged") > 50),
        "the log is compacted: {lines:?}"
    );
    let (names, beside) = log(&cluster, &id);
    let expected = [
        "KeyCreated",
        "KeyDescriptionUpdated",
        "KeyDisabled",
        "AliasCreated",
        "KeyEnabled",
        "KeyDeletionScheduled",
        "KeyDeleted",
    ];
    assert_eq!(names, expected);
    assert!(beside.contains("the history is whole"), "{beside}");
}

/// Catches a history that is cut without saying so, or not where it was asked to.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_history_says_where_it_begins() {
    let mut shape = Shape::one_region(3);
    shape.snapshot_entries = 20;
    shape.lines = "history = 40".to_owned();
    let cluster = Cluster::up(&shape).await;
    let id = live(&sdk::client(cluster.endpoint(), HERE, "test")).await;
    cluster.agree().await;
    // The cut comes with a snapshot, a moment after the entries that bring one about. How much of
    // the second half of the churn is left depends on where that snapshot happens to be.
    let (names, beside) = wait::until("cut history", wait::SHORT, async || {
        let (names, beside) = log(&cluster, &id);
        (!names.iter().any(|name| name == "AliasCreated")).then_some((names, beside))
    })
    .await;
    assert_eq!(names, ["KeyEnabled", "KeyDeletionScheduled"]);
    assert!(
        beside.contains("the history begins at log entry"),
        "{beside}"
    );
}
