//! A Region of one node over a disk in memory.

use std::collections::BTreeMap;
use std::path::Path;

use keyrum_consensus::world::World;
use keyrum_consensus::{Group, GroupConfig, Links};
use keyrum_store::{SimDisk, Store, StoreConfig};

/// Its group, once it leads.
pub(crate) async fn one_node(world: &World) -> Group {
    let config = GroupConfig {
        cluster_id: "test".to_owned(),
        region: "us-east-1".parse().unwrap(),
        node: 1,
        listen: "127.0.0.1:0".to_owned(),
        peers: BTreeMap::from([(1, "127.0.0.1:0".to_owned())]),
        neighbours: BTreeMap::new(),
        bootstrap: true,
        snapshot_every: 1000,
        history_rows_max: None,
    };
    let disk = SimDisk::new();
    let store = Store::open(disk.shared(), Path::new("node"), StoreConfig::default()).unwrap();
    let links = Links::simulated("test", &config.region, config.node);
    let group = Group::start(config, world.clone(), store, links).await;
    let group = group.unwrap();
    group.ready().await.unwrap();
    group
}
