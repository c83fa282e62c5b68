//! Looks at the nodes of an experiment on processes while it runs: who leads, and what becomes of
//! families.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use keyrum_consensus::{NodeStatus, Role};
use keyrum_lab::experiment::{LeaderSeen, MemberSeen, Outcome};
use keyrum_lab::workload::api::{Api, Place, Reads};
use keyrum_lab::workload::recorder::Recorder;
use keyrum_types::NodeId;
use serde_json::json;
use tokio::time::sleep;

use crate::admin::Admin;
use crate::cli::NodeName;
use crate::fault::Steer;

/// How often it looks.
const EVERY: Duration = Duration::from_millis(200);

/// What has been seen. Clones see the same.
#[derive(Clone, Default)]
pub(super) struct Seen(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    /// Each node as it was last seen; `None` if it did not answer.
    nodes: BTreeMap<NodeName, Option<NodeStatus>>,
    leaders: Vec<LeaderSeen>,
    members: Vec<MemberSeen>,
    last: BTreeMap<(String, String), MemberSeen>,
}

impl Seen {
    /// Who led a Region when it was last looked at; of two that think so, the one with the later
    /// term is right.
    pub(super) fn leader(&self, region: &str) -> Option<NodeId> {
        let inner = self.0.borrow();
        let here = inner
            .nodes
            .iter()
            .filter(|(name, _)| name.region.as_str() == region);
        let leads = here.filter_map(|(name, status)| Some((name, status.as_ref()?)));
        leads
            .filter(|(_, status)| status.role == Role::Leader)
            .max_by_key(|(_, status)| status.term)
            .map(|(name, _)| name.id)
    }

    /// What keeps the nodes from being of one mind: all answer, follow the leader that leads, and
    /// have applied all that it has. `None`: nothing does.
    pub(super) fn unrest(&self) -> Option<String> {
        let inner = self.0.borrow();
        for (name, status) in &inner.nodes {
            let Some(status) = status else {
                return Some(format!("{name} does not answer"));
            };
            if let Some(why) = status
                .stopped
                .as_ref()
                .or(status.mutations_stopped.as_ref())
            {
                return Some(format!("{name} has stopped: {why}"));
            }
            if status.leader.is_none() {
                return Some(format!("{name} knows no leader"));
            }
            let waits = status.channels.iter().any(|channel| channel.waiting > 0);
            if waits {
                return Some(format!("{name} has messages for other Regions"));
            }
            let others = inner.nodes.iter();
            let others = others.filter(|(other, _)| other.region == name.region);
            for (other, theirs) in
                others.filter_map(|(other, status)| Some((other, status.as_ref()?)))
            {
                if theirs.leader != status.leader || theirs.applied != status.applied {
                    return Some(format!("{name} and {other} are not level"));
                }
            }
        }
        None
    }

    /// Nodes of a Region that have the same log and differ.
    pub(super) fn differences(&self) -> Vec<String> {
        let inner = self.0.borrow();
        let mut digests: BTreeMap<(&str, u64), (&NodeName, &str)> = BTreeMap::new();
        let mut found = Vec::new();
        for (name, status) in &inner.nodes {
            let Some(status) = status else { continue };
            let at = (name.region.as_str(), status.digest_index);
            let (first, digest) = digests.entry(at).or_insert((name, &status.digest));
            if *digest != status.digest {
                found.push(format!(
                    "{first} and {name} differ at log index {}: {digest} and {}",
                    status.digest_index, status.digest
                ));
            }
        }
        found
    }

    /// What has been seen, once it is over.
    pub(super) fn take(&self) -> (Vec<LeaderSeen>, Vec<MemberSeen>) {
        let mut inner = self.0.borrow_mut();
        let Inner {
            leaders, members, ..
        } = &mut *inner;
        (std::mem::take(leaders), std::mem::take(members))
    }

    fn note(&self, name: &NodeName, status: Option<NodeStatus>, at_us: u64) {
        let mut inner = self.0.borrow_mut();
        let follows = |status: &Option<NodeStatus>| {
            let status = status.as_ref();
            (
                status.map(|status| status.term),
                status.and_then(|status| status.leader),
            )
        };
        let before = inner.nodes.insert(name.clone(), status.clone());
        let (term, leader) = follows(&status);
        let known = before.as_ref().map(follows);
        if known != Some((term, leader)) {
            let term = term.or(known.and_then(|(term, _)| term)).unwrap_or(0);
            inner.leaders.push(LeaderSeen {
                at_us,
                region: name.region.to_string(),
                node: name.id,
                term,
                leader,
            });
        }
    }

    /// Forgets nodes that are no more.
    fn keep(&self, nodes: &BTreeMap<NodeName, Admin>) {
        let mut inner = self.0.borrow_mut();
        inner.nodes.retain(|name, _| nodes.contains_key(name));
    }

    fn note_member(&self, seen: MemberSeen) {
        let mut inner = self.0.borrow_mut();
        let name = (seen.key.clone(), seen.region.clone());
        let like = |last: &MemberSeen| last.state == seen.state && last.primary == seen.primary;
        let known = inner.last.get(&name);
        if known.is_some_and(like) || known.is_none() && seen.state.is_none() {
            return;
        }
        inner.last.insert(name, seen.clone());
        inner.members.push(seen);
    }
}

/// Looks until it is dropped, at whatever nodes the cluster on a data folder has then.
pub(super) async fn watch(
    seen: Seen,
    data: PathBuf,
    recorder: Recorder,
    mut api: Api,
    regions: Vec<String>,
) {
    loop {
        // Changes of members replace the file that names them.
        let Ok(Steer { nodes: admins, .. }) = Steer::find(&data) else {
            sleep(EVERY).await;
            continue;
        };
        seen.keep(&admins);
        let asked = admins.values().map(Admin::status);
        let statuses = join_all(asked).await;
        for (name, status) in admins.keys().zip(statuses) {
            seen.note(name, status.ok(), recorder.now_us());
        }
        for key in families(&recorder) {
            for (region, name) in regions.iter().enumerate() {
                let Some(node) = seen.leader(name) else {
                    continue;
                };
                let place = Place { region, node };
                let input = json!({ "KeyId": key });
                let shown = api.call(place, "DescribeKey", &input, Reads::Local).await;
                let at_us = recorder.now_us();
                let metadata = match shown {
                    Outcome::Done(answer) => Some(answer["KeyMetadata"].clone()),
                    Outcome::Refused { .. } => None,
                    Outcome::NotDone(_) | Outcome::Unknown(_) => continue,
                };
                let member = metadata.as_ref();
                seen.note_member(MemberSeen {
                    at_us,
                    key: key.clone(),
                    region: name.clone(),
                    state: member
                        .and_then(|shown| shown["KeyState"].as_str())
                        .map(|state| state.to_owned().into()),
                    primary: member.is_some_and(|shown| {
                        shown["MultiRegionConfiguration"]["MultiRegionKeyType"] == "PRIMARY"
                    }),
                });
            }
        }
        sleep(EVERY).await;
    }
}

/// Most families that are looked at: the first.
const FAMILIES_MAX: usize = 20;

/// The multi-Region keys that clients have made.
fn families(recorder: &Recorder) -> BTreeSet<String> {
    let made = recorder.created("mrk-");
    made.into_iter().take(FAMILIES_MAX).collect()
}
