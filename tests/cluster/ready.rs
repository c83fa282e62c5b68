//! When a cluster says that it is ready.

use std::time::Duration;

use keyrum_tests::sdk::{self, HERE};
use keyrum_tests::{Cluster, Shape, wait};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;

/// How long the two others may say that the cluster is ready, if they would.
const WHILE_HELD: Duration = Duration::from_millis(500);

/// Catches a cluster that says it is ready, and where its nodes answer, while one of them does not
/// listen yet: whoever asks that one at once is refused.
#[tokio::test(flavor = "multi_thread")]
async fn every_node_of_a_cluster_that_is_ready_listens() {
    let mut cluster = Cluster::up(&Shape::one_region(3)).await;
    let apis: Vec<_> = cluster
        .ready()
        .nodes()
        .map(|node| node.api.clone())
        .collect();
    let before = cluster.node_pids();
    cluster.stop().await;

    cluster.begin();
    let last = loop {
        match cluster.node_pids()[..] {
            [_, _, last] if !before.contains(&last) => break last,
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    let last = Pid::from_raw(last.try_into().unwrap()).unwrap();
    kill_process(last, Signal::STOP).unwrap();
    assert!(!listens(&apis[2]).await, "it was held too late");

    let kms = sdk::client(&apis[0], HERE, "test");
    let others_lead = async || kms.list_keys().send().await.is_ok();
    wait::until_true("leader among the others", wait::LONG, others_lead).await;
    let release = async {
        tokio::time::sleep(WHILE_HELD).await;
        kill_process(last, Signal::CONT).unwrap();
    };
    let ready = async {
        cluster.become_ready().await;
        for api in &apis {
            assert!(
                listens(api).await,
                "{api} does not, in a cluster that is ready"
            );
        }
    };
    tokio::join!(release, ready);
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's own connection is no part of what a simulation owns"
)]
async fn listens(api: &str) -> bool {
    let addr = api.trim_start_matches("http://");
    TcpStream::connect(addr).await.is_ok()
}
