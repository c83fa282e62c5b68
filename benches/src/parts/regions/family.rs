//! Many families, and the channels between two Regions.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::Failure;
use crate::client::{self, Call};
use crate::cluster::{Cluster, Node};
use crate::load;
use crate::process::LOOK_EVERY;

/// An account holds 100,000 keys at most.
const KEYS_AN_ACCOUNT: usize = 50_000;

/// How long channels may take to become empty before the run is given up.
const LIMIT: Duration = Duration::from_secs(240);

/// Families with a primary in the first Region and a replica in each other.
#[derive(Clone)]
pub(crate) struct Families {
    pub(crate) keys: Arc<[String]>,
}

/// The account of a family.
pub(crate) fn account(number: usize) -> u64 {
    (number / KEYS_AN_ACCOUNT) as u64
}

/// A call about one key.
pub(crate) fn about(operation: &str, region: &str, account: u64, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let call = Call {
        account,
        region,
        ..Call::new(operation, &body)
    };
    call.bytes()
}

fn addrs(cluster: &Cluster, region: &str) -> Vec<String> {
    let nodes = cluster.nodes_of(region).iter();
    nodes.map(|node| node.api.clone()).collect()
}

impl Families {
    /// Makes them through all nodes, and waits until every member has settled.
    pub(crate) async fn make(
        cluster: &Cluster,
        regions: &[&'static str],
        count: usize,
    ) -> Result<Self, Failure> {
        let first = regions[0];
        let create = move |number| {
            let body = json!({"MultiRegion": true});
            about("CreateKey", first, account(number), &body)
        };
        let addrs = addrs(cluster, first);
        let made = load::every(&addrs, count, create, client::made_key).await?;
        let families = Self { keys: made.into() };
        for other in &regions[1..] {
            let body = |key: &str| json!({"KeyId": key, "ReplicaRegion": other});
            families
                .change(cluster, first, "ReplicateKey", body)
                .await?;
        }
        level(cluster, regions).await?;
        Ok(families)
    }

    /// Makes one call about every key, through all nodes of a Region.
    pub(crate) async fn change(
        &self,
        cluster: &Cluster,
        region: &'static str,
        operation: &'static str,
        body: impl Fn(&str) -> Value,
    ) -> Result<(), Failure> {
        let bodies: Vec<Value> = self.keys.iter().map(|key| body(key)).collect();
        let request =
            move |number: usize| about(operation, region, account(number), &bodies[number]);
        let addrs = addrs(cluster, region);
        load::every(&addrs, self.keys.len(), request, |_| Ok(())).await?;
        Ok(())
    }

    /// What DescribeKey tells of every key in a Region.
    pub(crate) async fn described(
        &self,
        cluster: &Cluster,
        region: &'static str,
    ) -> Result<Vec<Value>, Failure> {
        let keys = self.keys.clone();
        let request = move |number: usize| {
            let body = json!({"KeyId": keys[number]});
            about("DescribeKey", region, account(number), &body)
        };
        let read = |body: &[u8]| {
            let mut answer: Value = serde_json::from_slice(body)?;
            Ok(answer["KeyMetadata"].take())
        };
        load::every(&addrs(cluster, region), self.keys.len(), request, read).await
    }
}

/// The numbers of the last message sent and of the last one known to be taken, for each channel of
/// a Region; `None` while messages wait.
async fn channels(leader: &Node) -> Result<Option<Vec<u64>>, Failure> {
    let status = leader.status().await?;
    let channels = status["channels"].as_array().ok_or("no channels")?;
    let empty =
        |channel: &Value| channel["waiting"] == 0 && channel["sent"] == channel["delivered"];
    if !channels.iter().all(empty) {
        return Ok(None);
    }
    let sent = channels.iter().map(|channel| channel["sent"].as_u64());
    Ok(Some(sent.collect::<Option<_>>().ok_or("no number")?))
}

/// Waits until no message is on its way between these Regions, and none follows from the last: all
/// channels are empty in two looks with nothing sent in between.
pub(crate) async fn level(cluster: &Cluster, regions: &[&str]) -> Result<(), Failure> {
    let mut leaders = Vec::new();
    for region in regions {
        leaders.push(cluster.leader_of(region).await?);
    }
    let deadline = Instant::now() + LIMIT;
    let mut last = None;
    loop {
        let mut now = Vec::new();
        for leader in &leaders {
            now.push(channels(leader).await?);
        }
        let empty = now.iter().all(Option::is_some).then_some(now);
        if empty.is_some() && empty == last {
            return Ok(());
        }
        // A second look at once; else after a while.
        if empty.is_none() {
            sleep(5 * LOOK_EVERY).await;
        }
        last = empty;
        if Instant::now() > deadline {
            return Err("the channels between the Regions do not become empty".into());
        }
    }
}
