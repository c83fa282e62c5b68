//! **Question.** On three idle Regions: how long after ReplicateKey is the replica Enabled, how
//! long does a whole UpdatePrimaryRegion take, and how long until a rotation on demand is current
//! everywhere?
//!
//! **Estimate.** A CreateKey takes 0.8 ms. A replica takes five turns through a log one after the
//! other: added, arrived, confirmed, the new record taken, and before each further message of a
//! channel that the one before is forgotten; with a proof that the other Region has a quorum, three
//! hand-overs over TLS and the material wrapped and unwrapped (HPKE: 0.2 ms), some 8 ms. A move is
//! requested, reserved, stepped down, stepped up and heard of: about the same, 9 ms. A rotation is
//! begun, confirmed by two, completed and heard of: 7 ms. A reader that looks every millisecond
//! adds one. The p99 is a few slow syncs more: twice that.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::REGIONS;
use super::family::about;
use crate::client::{self, Connection};
use crate::cluster::Cluster;
use crate::load::{self, Latency};
use crate::parts::encrypt::remove;
use crate::report::{Report, Row, Verdict};
use crate::turns::quantile_ms;
use crate::{Failure, Setting};

/// How many times each change is made.
const ROUNDS: usize = 300;

/// A key has at most 25 rotations on demand in its life.
const ROTATIONS_A_KEY: usize = 20;

/// How often a member is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// How long a change may take before the run is given up.
const LIMIT: Duration = Duration::from_secs(30);

const GROUP: &str = "3 Regions of 3 nodes, fsynced";
const IN_DEV: &str = "3 Regions of 3 nodes in one process, fsynced";

/// What was measured.
struct Found {
    create: Latency,
    replicate: Latency,
    update: Latency,
    rotate: Latency,
}

/// A connection to the node that leads a Region.
struct Leader {
    region: &'static str,
    connection: Connection,
}

pub(crate) async fn run(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let folder = setting.folder.join("changes");
    let cluster = Cluster::up_regions(setting, &folder.join("up"), &REGIONS).await?;
    let found = measure(&cluster).await?;
    cluster.stop().await?;
    let cluster = Cluster::dev(setting, &folder.join("dev"), &REGIONS).await?;
    let in_dev = measure(&cluster).await?;
    cluster.stop().await?;
    let create = quantile_ms(&found.create, 0.5);
    for (what, target, limit_ms, latency) in [
        (
            "ReplicateKey until the replica is Enabled in the other Region",
            "p99 < 50 ms",
            50.0,
            &found.replicate,
        ),
        (
            "UpdatePrimaryRegion until both members are Enabled in their new parts",
            "p99 < 100 ms",
            100.0,
            &found.update,
        ),
        (
            "RotateKeyOnDemand until the material is current in three Regions",
            "p99 < 150 ms",
            150.0,
            &found.rotate,
        ),
    ] {
        let [p50, p99] = [0.5, 0.99].map(|quantile| quantile_ms(latency, quantile));
        report.row(&Row {
            what,
            group: GROUP,
            target,
            figure: format!("p50 {p50:.1} ms, p99 {p99:.1} ms; CreateKey p50 {create:.2} ms"),
            ratio: format!(
                "{:.1} x CreateKey; {:.2} of the limit",
                p50 / create,
                p99 / limit_ms
            ),
            verdict: Verdict::of(p99 < limit_ms),
        });
    }
    for (group, found) in [(GROUP, &found), (IN_DEV, &in_dev)] {
        report.detail(format!(
            "{group}, each change {ROUNDS} times: CreateKey {}, ReplicateKey {}, \
             UpdatePrimaryRegion {}, RotateKeyOnDemand {}; members looked at every millisecond by \
             DescribeKey, local, on the nodes that lead",
            line(&found.create),
            line(&found.replicate),
            line(&found.update),
            line(&found.rotate)
        ));
    }
    remove(&folder);
    Ok(())
}

fn line(latency: &Latency) -> String {
    format!(
        "p50 {:.1} p99 {:.1} max {:.1} ms",
        quantile_ms(latency, 0.5),
        quantile_ms(latency, 0.99),
        latency.max() as f64 / 1e6
    )
}

async fn measure(cluster: &Cluster) -> Result<Found, Failure> {
    let [mut east, mut ireland, mut west] = [
        Leader::of(cluster, REGIONS[0]).await?,
        Leader::of(cluster, REGIONS[1]).await?,
        Leader::of(cluster, REGIONS[2]).await?,
    ];
    let [mut create, mut replicate, mut update, mut rotate] =
        std::array::from_fn(|_| load::no_latency());
    let new = json!({"MultiRegion": true});
    let enabled = |shown: &Value| shown["KeyState"] == "Enabled";
    let leads = |shown: &Value, region: &str| {
        let primary = &shown["MultiRegionConfiguration"]["PrimaryKey"]["Region"];
        enabled(shown) && primary == region
    };
    let mut keys = Vec::new();
    // The first rounds open connections and are not noted.
    for round in 0..ROUNDS + 10 {
        let noted = round >= 10;
        let note = |latency: &mut Latency, since: Instant| {
            if noted {
                load::note(latency, since.elapsed());
            }
        };
        let since = Instant::now();
        let key = client::made_key(&east.call("CreateKey", &new).await?)?;
        note(&mut create, since);
        let since = Instant::now();
        ireland.call("CreateKey", &new).await?;
        note(&mut create, since);

        let since = Instant::now();
        let to = json!({"KeyId": key, "ReplicaRegion": ireland.region});
        east.call("ReplicateKey", &to).await?;
        ireland.until(&key, since, enabled).await?;
        note(&mut replicate, since);

        let since = Instant::now();
        let to = json!({"KeyId": key, "PrimaryRegion": ireland.region});
        east.call("UpdatePrimaryRegion", &to).await?;
        for leader in [&mut ireland, &mut east] {
            let moved = |shown: &Value| leads(shown, REGIONS[1]);
            leader.until(&key, since, moved).await?;
        }
        note(&mut update, since);
        if round % ROTATIONS_A_KEY == 0 {
            let to = json!({"KeyId": key, "ReplicaRegion": west.region});
            ireland.call("ReplicateKey", &to).await?;
            west.until(&key, Instant::now(), enabled).await?;
            keys.push(key);
        }
    }
    for round in 0..ROUNDS {
        let key = &keys[round / ROTATIONS_A_KEY];
        let any = |_: &Value| true;
        let now = Instant::now();
        let before = west.until(key, now, any).await?["CurrentKeyMaterialId"].take();
        let since = Instant::now();
        let body = json!({"KeyId": key});
        ireland.call("RotateKeyOnDemand", &body).await?;
        let rotated = |shown: &Value| shown["CurrentKeyMaterialId"] != before;
        for leader in [&mut ireland, &mut east, &mut west] {
            leader.until(key, since, rotated).await?;
        }
        load::note(&mut rotate, since.elapsed());
    }
    Ok(Found {
        create,
        replicate,
        update,
        rotate,
    })
}

impl Leader {
    async fn of(cluster: &Cluster, region: &'static str) -> Result<Self, Failure> {
        let node = cluster.leader_of(region).await?;
        let connection = Connection::open(&node.api).await?;
        Ok(Self { region, connection })
    }

    async fn call(&mut self, operation: &str, body: &Value) -> Result<Vec<u8>, Failure> {
        let request = about(operation, self.region, client::ACCOUNT, body);
        let answer = self.connection.exchange(&request).await?;
        answer.good()?;
        Ok(answer.body.to_vec())
    }

    /// Looks at a key until it is as wanted; how it is then.
    async fn until(
        &mut self,
        key: &str,
        since: Instant,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, Failure> {
        let body = json!({"KeyId": key}).to_string();
        let request = client::Call {
            region: self.region,
            consistency: Some("local"),
            ..client::Call::new("DescribeKey", &body)
        };
        let request = request.bytes();
        loop {
            let answer = self.connection.exchange(&request).await?;
            // A replica that has not arrived is no key yet.
            if answer.status == 200 {
                let mut answer: Value = serde_json::from_slice(answer.body)?;
                if wanted(&answer["KeyMetadata"]) {
                    return Ok(answer["KeyMetadata"].take());
                }
            }
            if since.elapsed() > LIMIT {
                return Err(format!("{key} does not come to rest in {}", self.region).into());
            }
            sleep(LOOK).await;
        }
    }
}
