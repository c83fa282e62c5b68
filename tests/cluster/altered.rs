//! A replica whose state is not what the log made it.

use std::path::Path;

use keyrum_state::codec::{CodecError, StateDecoder};
use keyrum_store::{RealDisk, Store, StoreConfig};
use keyrum_tests::sdk::{self, HERE};
use keyrum_tests::{Cluster, Shape, wait};

/// Replaces the first `old` by `new` in `bytes`.
fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    assert_eq!(old.len(), new.len());
    let at = bytes.windows(old.len()).position(|window| window == old);
    let at = at.expect("what is to be replaced is there");
    bytes[at..at + new.len()].copy_from_slice(new);
}

/// Changes one byte of a key's description in a stopped node's latest snapshot, and every checksum
/// and digest along with it, so that the file itself is sound.
fn alter(folder: &Path) {
    let store = Store::open(RealDisk::shared(), folder, StoreConfig::default()).unwrap();
    let mut reader = store
        .latest_snapshot()
        .unwrap()
        .expect("the node has a snapshot");
    let (index, mut meta) = (reader.index(), reader.meta().to_vec());
    let mut chunks = Vec::new();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        chunks.push(chunk);
    }
    let [chunk] = &mut chunks[..] else {
        panic!("a small state is one chunk")
    };
    // Keys come first; the answer that is remembered for a repeated request has the text too.
    replace(chunk, b"to be altered", b"to be Altered");
    let mut decoder = StateDecoder::new();
    decoder.push(chunk).unwrap();
    let Err(CodecError::DigestDiffers { recorded, computed }) = decoder.finish() else {
        panic!("a changed state has another digest")
    };
    let (old, new) = (recorded.0.to_le_bytes(), computed.0.to_le_bytes());
    replace(chunk, &old, &new);
    replace(&mut meta, &old, &new);
    store
        .write_snapshot(index, &meta, &mut chunks.into_iter())
        .unwrap();
    store.close();
}

/// Catches a replica that goes on with a state that differs from the majority's.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_differs_stops() {
    let mut shape = Shape::one_region(3);
    shape.snapshot_entries = 20;
    let cluster = Cluster::up(&shape).await;
    let kms = sdk::client(cluster.endpoint(), HERE, "test");
    kms.create_key()
        .description("to be altered")
        .send()
        .await
        .unwrap();
    sdk::churn(&kms, 50).await;
    cluster.agree().await;
    let leader = cluster.leader().await;
    let victim = if leader == "us-east-1/2" {
        "us-east-1/3"
    } else {
        "us-east-1/2"
    };
    let folder = cluster
        .data()
        .join(HERE)
        .join(victim.replace("us-east-1/", "node-"));
    cluster.command(&["kill", victim]).await;
    alter(&folder.join("store"));
    // It may stop before `restart` has seen it start.
    cluster.try_command(&["restart", victim]).await;
    kms.create_key().send().await.unwrap();
    let stopped = async || {
        let lines = cluster.status().await;
        let line = lines.into_iter().find(|line| line.node == victim).unwrap();
        line.process.starts_with("ended").then_some(line)
    };
    wait::until("end of the altered replica", wait::LONG, stopped).await;
    let words = cluster.node_output(victim);
    assert!(words.contains("differs from the majority's"), "{words}");
    assert!(words.contains("Remove this node"), "{words}");
    // The others go on, and another takes its place.
    for _ in 0..5 {
        kms.create_key().send().await.unwrap();
    }
    cluster.command(&["remove", victim]).await;
    cluster.command(&["add", "us-east-1/4"]).await;
    let lines = cluster.agree().await;
    assert_eq!(lines.len(), 3);
    assert!(
        lines.iter().all(|line| line.number("keys") == 8),
        "{lines:?}"
    );
}
