//! `keyrum fault`: faults by hand on real processes, what they do, and that they are lifted.

mod commands;
mod disks;
mod links;
mod regions;

use aws_sdk_kms::Client;
use keyrum_tests::sdk::{self, HERE};
use keyrum_tests::{Cluster, wait};
use serde_json::Value;

/// Runs `keyrum fault <args>`, which must succeed, and gives what it printed.
async fn fault(cluster: &Cluster, args: &[&str]) -> String {
    let output = cluster.ask("fault", args).await;
    assert!(output.status.success(), "fault {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `keyrum fault <args>`, which must fail, and gives its reason.
async fn refused(cluster: &Cluster, args: &[&str]) -> String {
    let output = cluster.ask("fault", args).await;
    assert!(!output.status.success(), "fault {args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Every node as `keyrum fault status` tells.
async fn status(cluster: &Cluster) -> Vec<Value> {
    let told = fault(cluster, &["status", "--json"]).await;
    serde_json::from_str(&told).unwrap()
}

/// What a node's faults have done together, by name.
async fn done(cluster: &Cluster, node: &str, effect: &str) -> u64 {
    let lines = status(cluster).await;
    let line = lines.iter().find(|line| line["node"] == node).unwrap();
    let faults = line["faults"].as_array().into_iter().flatten();
    let counts = faults.map(|fault| fault["effects"][effect].as_u64().unwrap());
    counts.sum()
}

async fn wait_for_effect(cluster: &Cluster, node: &str, effect: &str) {
    let look = async || done(cluster, node, effect).await > 0;
    wait::until_true(&format!("{effect} at {node}"), wait::LONG, look).await;
}

/// How many faults are in force, by what the nodes say.
async fn in_force(cluster: &Cluster) -> usize {
    let lines = status(cluster).await;
    let counts = lines
        .iter()
        .map(|line| line["faults"].as_array().map_or(0, Vec::len));
    counts.sum()
}

/// URL of a node's own API.
async fn url(cluster: &Cluster, node: &str) -> String {
    let lines = cluster.status().await;
    let line = lines.iter().find(|line| line.node == node);
    line.expect("the cluster has it").api.clone()
}

/// A client of one node of the first Region.
async fn client(cluster: &Cluster, node: &str) -> Client {
    sdk::client(&url(cluster, node).await, HERE, "test")
}

/// A node of the first Region other than this one.
fn other_than(node: &str) -> String {
    let (region, id) = node.split_once('/').unwrap();
    let id: u64 = id.parse().unwrap();
    format!("{region}/{}", id % 3 + 1)
}

/// Waits for a leader of the first Region other than this one.
async fn another_leader(cluster: &Cluster, old: &str) -> String {
    wait::until("another leader", wait::LONG, async || {
        let leader = cluster.leader().await;
        (leader != old).then_some(leader)
    })
    .await
}

async fn make_key(kms: &Client, description: &str) -> String {
    let made = kms.create_key().description(description).send().await;
    made.unwrap().key_metadata.unwrap().key_id
}

/// Makes a key as soon as somebody takes it.
async fn make_key_in_time(kms: &Client, description: &str) -> String {
    wait::until("an acknowledged key", wait::LONG, async || {
        let made = kms.create_key().description(description).send().await;
        Some(made.ok()?.key_metadata?.key_id)
    })
    .await
}
