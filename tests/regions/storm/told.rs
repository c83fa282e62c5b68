//! What a family's members tell of it, and what the Regions' logs tell of the messages.

use std::collections::BTreeMap;

use aws_sdk_kms::types::KeyState;
use keyrum_tests::{Cluster, wait};
use serde_json::Value;

use crate::relatives::{REGIONS, Relatives, family};

/// Everything that a family shares, as one member tells it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    primary: String,
    members: Vec<String>,
    material: Option<String>,
    automatic: (bool, Option<i32>, Option<i64>),
    pub(crate) rotations: Vec<(String, String, i64)>,
}

impl Relatives {
    /// What a member tells; `None` if it cannot just now, or is on its way to somewhere.
    async fn told(&self, region: &str, key: &str) -> Option<Told> {
        let shown = self.look(region, key).await?;
        if shown.key_state() != Some(&KeyState::Enabled) {
            return None;
        }
        let (_, primary, mut members) = family(&shown);
        members.push(primary.clone());
        members.sort();
        let status = self.kms(region).get_key_rotation_status().key_id(key);
        let status = status.send().await.ok()?;
        if status.on_demand_rotation_start_date().is_some() {
            return None;
        }
        let list = self.kms(region).list_key_rotations().key_id(key);
        let list = list.limit(1000).send().await.ok()?;
        let rotation = |entry: &aws_sdk_kms::types::RotationsListEntry| {
            Some((
                entry.key_material_id()?.to_owned(),
                entry.rotation_type()?.as_str().to_owned(),
                entry.rotation_date()?.secs(),
            ))
        };
        Some(Told {
            primary,
            members,
            material: shown.current_key_material_id,
            automatic: (
                status.key_rotation_enabled(),
                status.rotation_period_in_days(),
                status.next_rotation_date().map(|date| date.secs()),
            ),
            rotations: list
                .rotations()
                .iter()
                .map(rotation)
                .collect::<Option<_>>()?,
        })
    }

    /// What all members tell, if each is Enabled and they tell the same; the members are those that
    /// it tells of.
    pub(crate) async fn agreed(&self, key: &str) -> Option<(Told, Vec<&'static str>)> {
        let mut found: Option<Told> = None;
        let mut members = Vec::new();
        for region in REGIONS {
            if self
                .kms(region)
                .describe_key()
                .key_id(key)
                .send()
                .await
                .is_err()
            {
                continue;
            }
            let told = self.told(region, key).await?;
            if found.as_ref().is_some_and(|found| *found != told) {
                return None;
            }
            found = Some(told);
            members.push(region);
        }
        let found = found?;
        let mut sorted = members.clone();
        sorted.sort();
        (sorted == found.members).then_some((found, members))
    }
}

/// Asserts that the logs tell of every message once, in the order of the numbers, and to the last
/// one that was sent. How many there were.
pub(crate) async fn messages_were_taken_once(cluster: &Cluster) -> u64 {
    let sent = sent(cluster).await;
    let mut count = 0;
    for region in REGIONS {
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        let mut command = cluster.keyrum("log", &["show", "--region", region, "--json"]);
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        let beside = String::from_utf8_lossy(&output.stderr);
        assert!(beside.contains("the history is whole"), "{beside}");
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let entry: Value = serde_json::from_str(line).expect("a line is JSON");
            for event in entry["events"].as_array().expect("events") {
                if event["event"] != "MessageTaken" {
                    continue;
                }
                let from = event["from"].as_str().expect("a Region").to_owned();
                let number = event["number"].as_u64().expect("a number");
                let before = last.insert(from, number).unwrap_or(0);
                assert!(number > before, "{region}: after {before}: {line}");
                count += 1;
            }
        }
        for from in REGIONS.into_iter().filter(|from| *from != region) {
            let last = last.get(from).copied().unwrap_or(0);
            assert_eq!(last, sent[&(from.to_owned(), region.to_owned())], "{from}");
        }
    }
    count
}

/// The last number sent on each channel, by the senders' nodes, once nothing waits.
async fn sent(cluster: &Cluster) -> BTreeMap<(String, String), u64> {
    wait::until_true("empty outboxes", wait::LONG, async || {
        let waits = |channel: &Value| channel["waiting"] != 0;
        let lines = cluster.agree().await;
        let mut channels = lines
            .iter()
            .filter_map(|line| line.say("channels").as_array());
        !channels.any(|channels| channels.iter().any(waits))
    })
    .await;
    let mut sent = BTreeMap::new();
    for line in cluster.agree().await {
        let (from, _) = line.node.split_once('/').expect("REGION/ID");
        for channel in line.say("channels").as_array().expect("channels") {
            assert_eq!(channel["waiting"], 0, "{line:?}");
            let to = channel["to"].as_str().expect("a Region").to_owned();
            let last = channel["sent"].as_u64().expect("a number");
            sent.insert((from.to_owned(), to), last);
        }
    }
    sent
}
