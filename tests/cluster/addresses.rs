//! Nodes with addresses of their own.
#![cfg(target_os = "linux")]

use keyrum_tests::sdk::{self, HERE};
use keyrum_tests::{Cluster, Shape, wait};

/// The nodes' addresses, each the same for all of a node's listeners.
fn addresses(cluster: &Cluster) -> Vec<String> {
    let host = |url: &str| {
        let addr = url.trim_start_matches("http://");
        let (host, _) = addr.rsplit_once(':').unwrap();
        host.to_owned()
    };
    let nodes = cluster.ready().nodes();
    nodes
        .map(|node| {
            let [api, peer, admin] = [&node.api, &node.peer, &node.admin].map(|url| host(url));
            assert!(api == peer && peer == admin, "{node:?}");
            peer
        })
        .collect()
}

/// Catches nodes that listen elsewhere than they were told to, that do not find each other again on
/// their data, be it at other addresses, and one that is added and has no address of its own.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_keep_or_change_their_addresses() {
    let mut shape = Shape::one_region(3);
    shape.own_addresses = true;
    let mut cluster = Cluster::up(&shape).await;
    let own = ["127.0.1.1", "127.0.1.2", "127.0.1.3"];
    assert_eq!(addresses(&cluster), own);
    let client = |cluster: &Cluster| sdk::client(cluster.endpoint(), HERE, "test");
    let made = client(&cluster).create_key().send().await.unwrap();
    let key = made.key_metadata().unwrap().key_id().to_owned();
    cluster.stop().await;

    cluster.start().await;
    assert_eq!(addresses(&cluster), own);
    let found = client(&cluster).describe_key().key_id(&key).send().await;
    found.unwrap();
    let added = cluster.command(&["add", "us-east-1/4"]).await;
    assert!(added.status.success(), "{added:?}");
    cluster.stop().await;

    shape.own_addresses = false;
    cluster.reshape(&shape);
    cluster.start().await;
    let former = ["127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.1.4"];
    assert_eq!(addresses(&cluster), former);
    let found = client(&cluster).describe_key().key_id(&key).send().await;
    found.unwrap();
    wait::until_true("four nodes of one mind", wait::LONG, async || {
        cluster.agree().await.len() == 4
    })
    .await;
}
