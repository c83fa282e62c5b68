//! **Question.** A Region was away while each of 100,000 families changed: how soon is it level
//! again?
//!
//! **Estimate.** Its nodes are ready after 1.2 s, as after any restart with so many keys; the other
//! Region's courier notices within its pause of a second. Then 400 deliveries of 256 records follow
//! each other, each a log entry of some 150 KB on six disks: encoded, sent over TLS, synced, and
//! applied by three nodes at 20 us a record, and forgotten by another entry in the first Region:
//! 25 ms. So some 10 s. No material travels: the members have it.

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::REGIONS;
use super::family::{Families, level};
use crate::client::Call;
use crate::cluster::{Cluster, first_success};
use crate::parts::encrypt::remove;
use crate::report::{Report, Row, Verdict};
use crate::{Failure, Setting};

const FAMILIES: usize = 100_000;

const LIMIT_SECONDS: f64 = 30.0;

pub(crate) async fn run(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let folder = setting.folder.join("missed");
    let regions = &REGIONS[..2];
    let [here, away] = [REGIONS[0], REGIONS[1]];
    let cluster = Cluster::up_regions(setting, &folder, regions).await?;
    let start = Instant::now();
    let families = Families::make(&cluster, regions, FAMILIES).await?;
    let made = start.elapsed();

    cluster.each_node("kill", away).await?;
    let start = Instant::now();
    let body = |key: &str| json!({"KeyId": key});
    let operation = "EnableKeyRotation";
    families.change(&cluster, here, operation, body).await?;
    let changed = start.elapsed();
    let waiting = async || -> Result<Value, Failure> {
        let mut status = cluster.leader_of(here).await?.status().await?;
        Ok(status["channels"][0].take())
    };
    let missed = waiting().await?["waiting"].as_u64();
    if missed != Some(FAMILIES as u64) {
        return Err(format!("{missed:?} messages wait, not {FAMILIES}").into());
    }

    let start = Instant::now();
    let mut ready = JoinSet::new();
    for node in cluster.nodes_of(away) {
        let (api, key) = (node.api.clone(), families.keys[0].clone());
        ready.spawn(async move {
            let body = json!({"KeyId": key}).to_string();
            let call = Call {
                region: away,
                ..Call::new("DescribeKey", &body)
            };
            first_success(&api, &call, start).await
        });
    }
    cluster.each_node("restart", away).await?;
    let mut answered = Vec::new();
    while let Some(after) = ready.join_next().await {
        answered.push(after??.as_secs_f64());
    }
    level(&cluster, regions).await?;
    let took = start.elapsed().as_secs_f64();
    let ready = answered.iter().copied().fold(0.0, f64::max);

    let channel = waiting().await?;
    if channel["sent"] != channel["delivered"] {
        return Err(format!("{here} has not all delivered: {channel}").into());
    }
    report.row(&Row {
        what: "a Region back after 100,000 missed messages: until it is level",
        group: "2 Regions of 3 nodes, fsynced",
        target: "< 30 s",
        figure: format!("{took:.1} s after its start; every node answers after {ready:.1} s"),
        ratio: format!("{:.2} of the limit", took / LIMIT_SECONDS),
        verdict: Verdict::of(took < LIMIT_SECONDS),
    });
    report.detail(format!(
        "100,000 families in two Regions were made in {:.1} s and changed in {:.1} s with one \
         Region killed; level when both outboxes are empty and all that was sent is known to be \
         taken, by the status of the nodes that lead",
        made.as_secs_f64(),
        changed.as_secs_f64(),
    ));
    cluster.stop().await?;
    remove(&folder);
    Ok(())
}
