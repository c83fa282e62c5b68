//! Which of a node's threads step back behind those that answer callers.

use keyrum_tests::{Cluster, Shape};

/// Catches disk work that takes the processors from those who answer callers, and callers that are
/// answered by threads that step back.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn threads_that_write_to_the_disk_step_back() {
    let cluster = Cluster::up(&Shape::one_region(1)).await;
    let node = cluster.node_pids()[0];
    let mut nice = std::collections::BTreeMap::new();
    for thread in std::fs::read_dir(format!("/proc/{node}/task")).unwrap() {
        let folder = thread.unwrap().path();
        let name = std::fs::read_to_string(folder.join("comm")).unwrap();
        let stat = std::fs::read_to_string(folder.join("stat")).unwrap();
        // The nice value is the 17th field after the name, which is in brackets.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let value: i32 = fields.split_whitespace().nth(16).unwrap().parse().unwrap();
        nice.insert(name.trim().to_owned(), value);
    }
    let own = nice["tokio-rt-worker"];
    assert!(nice["keyrum-store"] > own, "{nice:?}");
    let engine: Vec<_> = nice
        .iter()
        .filter(|(name, _)| name.starts_with("sled"))
        .collect();
    assert!(!engine.is_empty(), "{nice:?}");
    assert!(engine.iter().all(|(_, value)| **value > own), "{nice:?}");
}
