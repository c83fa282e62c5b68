//! What a node may do right after a restart.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use keyrum_store::{RealDisk, Store, StoreConfig};
use tokio::time::{Instant, sleep};

use crate::world::World;
use crate::{Group, GroupConfig, Links};

async fn start(folder: &Path) -> Group {
    let region: keyrum_types::Region = "us-east-1".parse().unwrap();
    let config = GroupConfig {
        cluster_id: "restart".to_owned(),
        region: region.clone(),
        node: 1,
        listen: "127.0.0.1:0".to_owned(),
        peers: BTreeMap::from([(1, "127.0.0.1:0".to_owned())]),
        neighbours: BTreeMap::new(),
        bootstrap: true,
        snapshot_every: 1000,
        history_rows_max: None,
    };
    let store = Store::open(RealDisk::shared(), folder, StoreConfig::default()).unwrap();
    let links = Links::simulated("restart", &region, 1);
    let group = Group::start(config, World::real(), store, links).await;
    group.unwrap()
}

/// Catches a restarted node that votes while a leader may still rely on an answer it gave before,
/// and one that never votes again or, fresh, makes a new group wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_node_gives_no_vote_for_a_lease() {
    let folder = tempfile::tempdir().unwrap();
    let fresh = start(folder.path()).await;
    assert_eq!(fresh.inner.check_lease_forgotten(), Ok(()));
    fresh.ready().await.unwrap();
    fresh.shutdown().await;
    drop(fresh);

    let before = Instant::now();
    let again = start(folder.path()).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while again.inner.check_lease_forgotten().is_err() {
        assert!(Instant::now() < deadline, "it never votes again");
        sleep(Duration::from_millis(10)).await;
    }
    assert!(before.elapsed() > crate::group::LEASE);
    again.ready().await.unwrap();
    again.shutdown().await;
}
