//! A Region that is down for a month while the others go on.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::KeyState;
use keyrum_consensus::world::{Blocking, spawn};
use keyrum_tests::{Cluster, Shape, sdk, wait};
use serde_json::Value;

use crate::relatives::{REGIONS, Relatives, family};

/// How many requests one node's answers are remembered for; see `state/src/dedup.rs`.
const REMEMBERED: u32 = 1024;

/// How many callers a node has at a time to go beyond that.
const CALLERS: u32 = 16;

/// More families than one delivery has messages; see `service/src/courier.rs`.
const MANY: usize = 300;

/// What was encrypted when, by what it says.
type Sealed = Vec<(String, Blob)>;

/// Families of which the second Region misses a month.
struct Month {
    cluster: Cluster,
    kin: Relatives,
}

impl Month {
    async fn begin(test: &str) -> Self {
        let cluster = Cluster::up(&Shape {
            regions: vec![(REGIONS[0], 3), (REGIONS[1], 3), (REGIONS[2], 1)],
            snapshot_entries: 30,
            ..Shape::one_region(3)
        })
        .await;
        let kin = Relatives::at(cluster.endpoint(), test);
        Self { cluster, kin }
    }

    /// A family of all Regions whose primary is in one of them.
    async fn family(&self, primary: &'static str) -> String {
        let [east, ireland, west] = REGIONS;
        let key = self.kin.primary().await;
        for to in [ireland, west] {
            self.kin.replicate(&key, east, to).await;
        }
        self.kin.settle(&key, east, &REGIONS).await;
        if primary != east {
            self.make_primary(&key, east, primary).await;
            self.kin.settle(&key, primary, &REGIONS).await;
        }
        key
    }

    async fn make_primary(&self, key: &str, from: &str, to: &str) {
        let call = self.kin.kms(from).update_primary_region().key_id(key);
        call.primary_region(to).send().await.expect("it moves");
    }

    async fn seal(&self, sealed: &mut Sealed, region: &str, key: &str) {
        let text = format!("{region} {key} {}", sealed.len());
        let blob = self.kin.encrypt(region, key, &text).await;
        sealed.push((text, blob));
    }

    async fn rotate_on(&self, region: &str, key: &str, days: i32) {
        let call = self.kin.kms(region).enable_key_rotation().key_id(key);
        let call = call.rotation_period_in_days(days);
        call.send().await.expect("rotation can be enabled");
    }

    async fn schedule(&self, region: &str, key: &str) {
        let call = self.kin.kms(region).schedule_key_deletion().key_id(key);
        let call = call.pending_window_in_days(7);
        call.send().await.expect("deletion can be scheduled");
    }

    async fn cancel(&self, region: &str, key: &str) {
        let call = self.kin.kms(region).cancel_key_deletion().key_id(key);
        call.send().await.expect("deletion can be cancelled");
        let call = self.kin.kms(region).enable_key().key_id(key);
        call.send().await.expect("it can be enabled");
    }

    async fn clock(&self, args: &[&str]) -> Output {
        run(self.cluster.keyrum("clock", args)).await
    }

    /// The leader of a Region, once there is one.
    async fn leader(&self, region: &str) -> String {
        wait::until("leader", wait::LONG, async || {
            let lines = self.cluster.status().await;
            let ours = lines.iter().filter(|line| line.node.starts_with(region));
            let leads = ours.filter(|line| line.say("role") == "leader");
            let newest = leads.max_by_key(|line| line.number("term"));
            newest.map(|line| line.node.clone())
        })
        .await
    }

    /// Enough families of two Regions for more than one delivery.
    async fn many_families(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for _ in 0..MANY {
            let key = self.kin.primary().await;
            self.kin.replicate(&key, REGIONS[0], REGIONS[1]).await;
            keys.push(key);
        }
        for key in &keys {
            self.converge(key, &REGIONS[..2]).await;
        }
        keys
    }

    /// More changes through each node of the first Region than answers are remembered of one.
    async fn overrun_the_memory(&self) {
        let account = sdk::account_of("overrun");
        let nodes = &self.cluster.ready().regions[REGIONS[0]].nodes;
        let busy = nodes.iter().flat_map(|node| {
            let kms = sdk::client(&node.api, REGIONS[0], &account);
            (0..CALLERS).map(move |_| {
                let kms = kms.clone();
                spawn(async move { sdk::churn(&kms, REMEMBERED.div_ceil(CALLERS)).await })
            })
        });
        for caller in busy.collect::<Vec<_>>() {
            caller.await.expect("every call succeeds");
        }
    }

    /// Waits until all members of a family tell the same of it, and are Enabled.
    async fn converge(&self, key: &str, members: &[&str]) {
        wait::until_true(&format!("one {key}"), wait::LONG, async || {
            let mut told = Vec::new();
            for region in members {
                let Some(shown) = self.kin.look(region, key).await else {
                    return false;
                };
                let status = self.kin.kms(region).get_key_rotation_status();
                let Ok(status) = status.key_id(key).send().await else {
                    return false;
                };
                let list = self.kin.kms(region).list_key_rotations().key_id(key);
                let Ok(list) = list.send().await else {
                    return false;
                };
                let list = list.rotations().iter();
                let list: Vec<_> = list
                    .map(|entry| {
                        (
                            entry.key_material_id.clone(),
                            entry.rotation_date,
                            entry.rotation_type.clone(),
                        )
                    })
                    .collect();
                let (_, primary, replicas) = family(&shown);
                told.push((
                    shown.key_state.clone(),
                    shown.current_key_material_id.clone(),
                    primary,
                    replicas,
                    status.key_rotation_enabled(),
                    status.rotation_period_in_days(),
                    status.next_rotation_date().copied(),
                    status.on_demand_rotation_start_date().copied(),
                    list,
                ));
            }
            told[0].0 == Some(KeyState::Enabled) && told.windows(2).all(|two| two[0] == two[1])
        })
        .await;
    }

    /// The current material of a member.
    async fn material(&self, region: &str, key: &str) -> String {
        let shown = self.kin.described(region, key).await;
        shown.current_key_material_id.expect("a material")
    }

    /// A Region's history, which must be whole.
    async fn history(&self, region: &str) -> Vec<Value> {
        let args = ["show", "--json", "--region", region];
        let output = run(self.cluster.keyrum("log", &args)).await;
        let remark = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(remark.contains("the history is whole"), "{remark}");
        let text = String::from_utf8(output.stdout).expect("text");
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().expect("lines of JSON")
    }

    /// Asserts that each Region took each message of each other once and in order, to the last.
    async fn each_message_was_taken_once(&self) {
        let waits = |line: &keyrum_tests::NodeLine| {
            let channels = line.say("channels").as_array().cloned();
            let channels = channels.unwrap_or_default();
            channels.iter().any(|channel| channel["waiting"] != 0)
        };
        wait::until_true("empty outboxes", wait::LONG, async || {
            !self.cluster.status().await.iter().any(waits)
        })
        .await;
        let lines = self.cluster.agree().await;
        let mut sent = BTreeMap::new();
        for line in &lines {
            for channel in line.say("channels").as_array().expect("channels") {
                let to = channel["to"].as_str().expect("a Region").to_owned();
                let from = line.node.split('/').next().expect("a Region").to_owned();
                let number = channel["sent"].as_u64().expect("a number");
                sent.insert((from, to), number);
            }
        }
        for to in REGIONS {
            let mut last: BTreeMap<String, u64> = BTreeMap::new();
            for entry in self.history(to).await {
                for event in entry["events"].as_array().expect("events") {
                    if event["event"] != "MessageTaken" {
                        continue;
                    }
                    let from = event["from"].as_str().expect("a Region").to_owned();
                    let number = event["number"].as_u64().expect("a number");
                    let former = last.insert(from.clone(), number).unwrap_or(0);
                    assert!(
                        former < number,
                        "{to} took {number} of {from} after {former}"
                    );
                }
            }
            for from in REGIONS.iter().filter(|from| **from != to) {
                let number = sent[&((*from).to_owned(), to.to_owned())];
                let taken = last.get(*from).copied().unwrap_or(0);
                assert_eq!(taken, number, "the last message of {from} that {to} took");
                assert!(number > 0, "{from} never told {to} anything");
            }
        }
    }
}

/// Runs a command without holding up the test's tasks.
async fn run(mut command: Command) -> Output {
    let work = move || command.output().expect("it runs");
    Blocking::Threads.run(work).await
}

/// Catches a Region that comes back after a month and misses a message, takes one twice or out of
/// order, stays behind with its clock without a way to mend that, cannot decrypt what was encrypted
/// meanwhile, or never agrees with the others on a family; and a clock command that does not say
/// which Regions it moved.
#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_was_down_for_a_month_catches_up() {
    let month = Month::begin("month").await;
    let (kin, cluster) = (&month.kin, &month.cluster);
    let [east, ireland, west] = REGIONS;
    let mut sealed = Sealed::new();

    let rotating = month.family(east).await;
    let switched = month.family(east).await;
    let asked = month.family(east).await;
    let moved = month.family(east).await;
    let away = month.family(west).await;
    let due_there = month.family(ireland).await;
    let rescued = month.family(east).await;
    let doomed = month.family(east).await;
    let left = month.family(east).await;
    let gone_there = month.family(east).await;
    let new = kin.primary().await;
    kin.replicate(&new, east, ireland).await;
    kin.settle(&new, east, &[east, ireland]).await;
    let everywhere = [
        &rotating, &switched, &asked, &moved, &away, &due_there, &rescued,
    ];
    for key in [&rotating, &away] {
        month
            .rotate_on(if *key == away { west } else { east }, key, 90)
            .await;
    }
    month.rotate_on(ireland, &due_there, 90).await;
    let advanced = month.clock(&["advance", "70d"]).await;
    assert!(advanced.status.success(), "{advanced:?}");
    for key in everywhere {
        for region in REGIONS {
            month.seal(&mut sealed, region, key).await;
        }
    }
    // In the Region that goes down, this is due in a week.
    month.schedule(ireland, &gone_there).await;
    let many = month.many_families().await;
    let nodes = [1, 2, 3].map(|id| format!("{ireland}/{id}"));
    for node in &nodes {
        cluster.command(&["kill", node]).await;
    }

    // What happens meanwhile.
    for days in [90, 100, 120, 200] {
        month.rotate_on(east, &switched, days).await;
        let call = kin.kms(east).disable_key_rotation().key_id(&switched);
        call.send().await.unwrap();
    }
    month.rotate_on(east, &switched, 365).await;
    let call = kin.kms(east).rotate_key_on_demand().key_id(&asked);
    call.send().await.unwrap();
    month.make_primary(&moved, east, west).await;
    for (region, key) in [(west, &rescued), (east, &rescued)] {
        month.schedule(region, key).await;
        month.cancel(region, key).await;
    }
    kin.replicate(&new, east, west).await;
    kin.wait_for(west, &new, KeyState::Enabled).await;
    // The primary waits for both replicas; only one can go now.
    month.schedule(west, &doomed).await;
    month.schedule(east, &doomed).await;
    month.schedule(west, &left).await;
    for key in &many {
        let call = kin.kms(east).rotate_key_on_demand().key_id(key);
        call.send().await.unwrap();
    }
    month.overrun_the_memory().await;
    for days in ["7d", "8d", "8d", "8d"] {
        let advanced = month.clock(&["advance", days]).await;
        let told = String::from_utf8_lossy(&advanced.stdout).into_owned();
        let words = String::from_utf8_lossy(&advanced.stderr).into_owned();
        assert!(!advanced.status.success(), "{advanced:?}");
        assert!(told.contains(east) && told.contains(west), "{told}");
        assert!(!told.contains(ireland), "{told}");
        for part in [ireland, "was not moved", "keyrum clock level"] {
            assert!(words.contains(part), "{part:?} is not in: {words}");
        }
        for key in everywhere {
            month.seal(&mut sealed, east, key).await;
            month.seal(&mut sealed, west, key).await;
        }
        let call = kin.kms(east).update_key_description().key_id(&rotating);
        call.description(days).send().await.unwrap();
    }
    assert!(kin.look(west, &left).await.is_none(), "deleted meanwhile");
    // A member that comes again has nothing to do with the one that went.
    kin.replicate(&left, east, west).await;
    kin.wait_for(west, &left, KeyState::Enabled).await;
    let lines = cluster.status().await;
    for line in lines.iter().filter(|line| line.node.starts_with(east)) {
        assert!(
            line.number("purged") > 1000,
            "the log was compacted: {line:?}"
        );
    }

    for node in &nodes {
        cluster.command(&["restart", node]).await;
    }
    // As it catches up, both sides lose their leaders, twice.
    for _ in 0..2 {
        let victims = [month.leader(ireland).await, month.leader(east).await];
        for victim in &victims {
            cluster.command(&["kill", victim]).await;
        }
        for victim in &victims {
            cluster.command(&["restart", victim]).await;
        }
    }
    for key in everywhere {
        month.converge(key, &REGIONS).await;
    }
    let former = month.material(ireland, &due_there).await;
    assert!(
        kin.look(ireland, &gone_there).await.is_some(),
        "not due yet"
    );
    let leveled = month.clock(&["level"]).await;
    assert!(leveled.status.success(), "{leveled:?}");
    let told = String::from_utf8_lossy(&leveled.stdout).into_owned();
    for part in [ireland, "1 key deleted"] {
        assert!(told.contains(part), "{part:?} is not in: {told}");
    }
    assert!(!told.contains(east) && !told.contains(west), "{told}");
    let again = month.clock(&["level"]).await;
    assert_eq!(
        String::from_utf8_lossy(&again.stdout),
        "no clock is behind\n"
    );
    // What was due there in the month that it missed.
    wait::until_true("a rotation that was due", wait::LONG, async || {
        month.material(ireland, &due_there).await != former
    })
    .await;
    assert!(kin.look(ireland, &gone_there).await.is_none());

    for key in everywhere.into_iter().chain([&new, &left]) {
        month.converge(key, &REGIONS).await;
        kin.exchange(key, &REGIONS).await;
    }
    month.converge(&gone_there, &[east, west]).await;
    for key in &many {
        month.converge(key, &[east, ireland]).await;
    }
    for (text, blob) in &sealed {
        for region in REGIONS {
            assert_eq!(kin.decrypt(region, blob).await, *text, "in {region}");
        }
    }
    // The doomed primary still waits for the replica that nobody scheduled.
    let shown = kin.described(east, &doomed).await;
    assert_eq!(shown.key_state, Some(KeyState::PendingReplicaDeletion));
    month.schedule(ireland, &doomed).await;
    assert!(month.clock(&["advance", "7d"]).await.status.success());
    // Its own wait may have begun before its Region's clock was moved, and then be over.
    wait::until_true("the primary's own wait", wait::LONG, async || {
        let shown = kin.look(east, &doomed).await;
        shown.is_none_or(|key| key.key_state == Some(KeyState::PendingDeletion))
    })
    .await;
    assert!(month.clock(&["advance", "7d"]).await.status.success());
    for region in REGIONS {
        assert!(kin.look(region, &doomed).await.is_none(), "{region}");
    }
    month.each_message_was_taken_once().await;
}
