//! Nodes that are killed while they change things.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use keyrum_consensus::world;
use keyrum_tests::http::Raw;
use keyrum_tests::sdk::HERE;
use keyrum_tests::{Cluster, Shape, wait};
use serde_json::{Value, json};

use crate::trail::{read, text};

const ACCOUNT: &str = "111122223333";

/// Changes a key's tag until it is told to stop; the request ids of all that was acknowledged.
async fn change(
    (urls, first): (Vec<String>, usize),
    key: String,
    (stop, acknowledged): (Arc<AtomicBool>, Arc<AtomicU64>),
) -> Vec<String> {
    let mut ids = Vec::new();
    let mut turn = first;
    for step in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let value = format!("{first}-{step}");
        let tags = json!([{ "TagKey": format!("writer-{first}"), "TagValue": value }]);
        let body = json!({ "KeyId": key, "Tags": tags }).to_string();
        let request = Raw::kms("TagResource", body).signed(ACCOUNT, HERE);
        match request.send(&urls[turn % urls.len()]).await {
            Ok(answer) if answer.status.is_success() => {
                ids.push(answer.header("x-amzn-requestid").unwrap().to_owned());
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            // Dead, or without a leader: on to the next.
            _ => turn += 1,
        }
    }
    ids
}

/// Catches a change that was acknowledged, or has an entry in the log, and has no record or two after
/// nodes were killed: before their records were written, after they were and before that was noted,
/// and so long ago that they catch up by snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn each_change_has_one_record() {
    let folder = tempfile::tempdir().unwrap();
    let audit = format!("audit = {{ folder = {:?} }}", folder.path());
    let shape = Shape {
        lines: audit,
        snapshot_entries: 200,
        ..Shape::one_region(3)
    };
    let mut cluster = Cluster::up(&shape).await;
    let urls: Vec<_> = cluster
        .ready()
        .nodes()
        .map(|node| node.api.clone())
        .collect();
    // What records need is in the log once every member knows the newest rules: then their ids follow
    // from the log, which shows in their version.
    let key = wait::until("key told from the log", wait::LONG, async || {
        let request = Raw::kms("CreateKey", "{}").signed(ACCOUNT, HERE);
        let made = request.send(&urls[0]).await.ok()?;
        let key = made.json()["KeyMetadata"]["KeyId"].as_str()?.to_owned();
        let records = read(folder.path());
        let mut ids = records.iter().map(|record| text(record, "eventID"));
        ids.any(|id| id.get(14..15) == Some("8")).then_some(key)
    })
    .await;
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..4)
        .map(|first| {
            let flags = (stop.clone(), acknowledged.clone());
            world::spawn(change((urls.clone(), first), key.clone(), flags))
        })
        .collect();
    let more = async |count: u64| {
        let enough = acknowledged.load(Ordering::Relaxed) + count;
        wait::until_true("more changes", wait::LONG, async || {
            acknowledged.load(Ordering::Relaxed) >= enough
        })
        .await;
    };
    more(50).await;
    for round in 0..6_u64 {
        let node = match round % 2 {
            0 => format!("{HERE}/{}", round % 3 + 1),
            _ => cluster.leader().await,
        };
        cluster.command(&["kill", &node]).await;
        // Once so long that the log is cut behind it.
        more(if round == 3 { 2500 } else { 60 }).await;
        cluster.command(&["restart", &node]).await;
        more(60).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut ids = Vec::new();
    for writer in writers {
        ids.extend(writer.await.unwrap());
    }
    cluster.agree().await;
    let shown = cluster.keyrum("log", &["show", "--region", HERE, "--json"]);
    let shown = world::Blocking::Threads.run({
        let mut shown = shown;
        move || shown.output().unwrap()
    });
    let shown = shown.await;
    assert!(shown.status.success(), "{shown:?}");
    cluster.stop().await;

    let records = read(folder.path());
    let done = |record: &&Value| record["readOnly"] == false && record["errorCode"].is_null();
    let mut told: BTreeMap<&str, u64> = BTreeMap::new();
    for record in records.iter().filter(done) {
        *told.entry(text(record, "requestID")).or_default() += 1;
    }
    let twice: Vec<_> = told.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let untold: Vec<_> = ids
        .iter()
        .filter(|id| !told.contains_key(id.as_str()))
        .collect();
    assert!(untold.is_empty(), "of {}: {untold:?}", ids.len());
    // Also those whose caller heard nothing. The node that shows the log may have caught up by
    // snapshot, and its history has a hole then.
    let lines = String::from_utf8(shown.stdout).unwrap();
    let entries = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let tagged = entries
        .filter(|entry| entry["command"] == "TagResource")
        .count();
    let records = records.iter().filter(done);
    let records = records
        .filter(|record| record["eventName"] == "TagResource")
        .count();
    assert!(
        records >= tagged,
        "{records} of {tagged}, {} acknowledged",
        ids.len()
    );
    assert!(ids.len() as u64 >= 2500);
}
