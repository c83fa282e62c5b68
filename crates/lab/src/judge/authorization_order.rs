//! No call is done by a right that was taken away before it began.
//!
//! Judged are calls that callers of another account make on a key: key policies and grants are all
//! that lets them in. A call must not be done if, all the while, no policy that may have been in force
//! lets its account make it, and no grant that may have been there does. Calls of the key's own
//! account are judged by policies alone that forbid a call to everybody. What is not plain in a policy
//! counts as allowed, and so does what is not known; reads that a node may show late are left out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Sight;
use super::model::is_weak;
use super::model::names::{account, items, key_of, metadata, text};
use super::policy::{denies_all, may_allow};
use crate::experiment::{Call, Experiment, Judgement, Outcome};

/// The policy that a key has whose maker gives none: the owner's account may do everything.
const DEFAULT_POLICY: &str = r#"{"Statement":[]}"#;

/// A call that put a policy, or gave or took back a grant.
struct Change<'e> {
    call: usize,
    start_us: u64,
    /// If it was acknowledged.
    end_us: Option<u64>,
    policy: &'e str,
}

#[derive(Default)]
struct Grant<'e> {
    made: Vec<(u64, &'e Value)>,
    ended: Vec<(usize, u64)>,
}

#[derive(Default)]
struct Key<'e> {
    owner: Option<String>,
    /// Whether the history shows its making, and so all its grants.
    made_here: bool,
    /// What it began with, if the history shows that.
    first_policy: Option<&'e str>,
    policies: Vec<Change<'e>>,
    grants: BTreeMap<String, Grant<'e>>,
    /// Grants that may have been given without their ids being known.
    nameless: Vec<(u64, &'e Value)>,
}

/// Judges `authorization-order`.
pub(super) fn judge(experiment: &Experiment) -> Judgement {
    let mut sight = Sight::new("authorization-order");
    let keys = keys(experiment);
    let mut done = 0;
    for (number, call) in experiment.calls.iter().enumerate() {
        let key = key_of(call).and_then(|key| keys.get(&(call.region.as_str(), key)));
        let Some(key) = key.filter(|_| !is_weak(call)) else {
            continue;
        };
        let stranger = match (&call.caller, &key.owner) {
            (Some(caller), Some(owner)) if caller != owner => Some(caller.as_str()),
            _ => None,
        };
        let forbids = |policy: &str| match stranger {
            Some(account) => !may_allow(policy, account, &call.operation),
            None => denies_all(policy, &call.operation),
        };
        let denies = |policy: &str| denies_all(policy, &call.operation);
        let policies = in_force(key, call);
        if stranger.is_none()
            && !policies
                .iter()
                .any(|(policy, _)| policy.is_some_and(denies))
        {
            continue;
        }
        if !matches!(call.outcome, Outcome::Done(_) | Outcome::Refused { .. }) {
            continue;
        }
        sight.looked(1);
        if !matches!(call.outcome, Outcome::Done(_)) {
            continue;
        }
        done += 1;
        let all = |what: &dyn Fn(&str) -> bool| {
            let mut policies = policies.iter();
            policies.all(|(policy, _)| policy.is_some_and(what))
        };
        // Nothing helps against a policy that forbids it to everybody.
        let wrong = all(&denies) || all(&forbids) && !key.may_be_granted(call);
        if wrong {
            let put = policies.iter().filter_map(|(_, put)| *put);
            let ended = key.grants.values().flat_map(|grant| &grant.ended);
            let ended = ended.filter(|(end, _)| {
                experiment.calls[*end]
                    .end_us
                    .is_some_and(|end| end < call.start_us)
            });
            let last = ended
                .max_by_key(|(end, _)| experiment.calls[*end].end_us)
                .map(|(end, _)| *end);
            let evidence = put.chain(last).chain([number]);
            let who = stranger.map_or("everybody".to_owned(), |account| {
                format!("account {account}")
            });
            let what = format_args!(
                "#{number} {} was done for a caller that had no right to it: neither a policy nor a \
                 grant allowed it to {who} any more",
                call.operation
            );
            sight.find(what, evidence.collect());
        }
    }
    sight.remark(format!(
        "{done} calls were done whose right could be judged"
    ));
    sight.judgement()
}

impl Key<'_> {
    /// Whether a grant may have been there during a call that allows it.
    fn may_be_granted(&self, call: &Call) -> bool {
        let end = call.end_us.unwrap_or(u64::MAX);
        let allows = |(start, input): &(u64, &Value)| {
            let mut operations = items(input, "Operations").iter();
            let caller = call.caller.as_deref().unwrap_or_default();
            let grantee = text(input, "GranteePrincipal").unwrap_or(caller);
            *start <= end
                && operations.any(|operation| *operation == call.operation)
                && (grantee.contains(caller) || grantee.contains('*'))
        };
        !self.made_here
            || self.nameless.iter().any(allows)
            || self.grants.values().any(|grant| {
                let ended = grant.ended.iter().any(|(_, end)| *end < call.start_us);
                !ended && (grant.made.iter().any(allows) || grant.made.is_empty())
            })
    }
}

/// The policies that may have been in force during a call, with the calls that put them.
fn in_force<'e>(key: &Key<'e>, call: &Call) -> Vec<(Option<&'e str>, Option<usize>)> {
    let end = call.end_us.unwrap_or(u64::MAX);
    // Whether another policy was certainly put after that one and before the call.
    let replaced = |end_us: Option<u64>| {
        end_us.is_some_and(|end_us| {
            key.policies.iter().any(|next| {
                next.start_us > end_us && next.end_us.is_some_and(|end| end < call.start_us)
            })
        })
    };
    let put = key
        .policies
        .iter()
        .filter(|put| put.start_us <= end && !replaced(put.end_us));
    let mut all: Vec<_> = put.map(|put| (Some(put.policy), Some(put.call))).collect();
    let sure = |put: &Change<'_>| put.end_us.is_some_and(|end| end < call.start_us);
    if !key.policies.iter().any(sure) {
        all.push((key.first_policy, None));
    }
    all
}

fn keys(experiment: &Experiment) -> BTreeMap<(&str, String), Key<'_>> {
    let mut keys: BTreeMap<(&str, String), Key<'_>> = BTreeMap::new();
    let mut again: BTreeSet<(&str, String)> = BTreeSet::new();
    for (number, call) in experiment.calls.iter().enumerate() {
        let (done, answer) = match &call.outcome {
            Outcome::Done(answer) => (true, answer),
            Outcome::Unknown(_) => (false, &Value::Null),
            Outcome::Refused { .. } | Outcome::NotDone(_) => continue,
        };
        let Some(id) = key_of(call) else { continue };
        if call.operation == "ReplicateKey" {
            let to = experiment.regions.iter().map(|region| region.name.as_str());
            let to = to.filter(|to| text(&call.input, "ReplicaRegion") == Some(to));
            again.extend(to.map(|to| (to, id.clone())));
        }
        let key = keys.entry((&call.region, id)).or_default();
        let end_us = call.end_us.filter(|_| done);
        match call.operation.as_str() {
            "CreateKey" => {
                let arn = metadata(answer).and_then(|all| text(all, "Arn"));
                key.owner = arn.and_then(account).map(str::to_owned);
                key.made_here = true;
                key.first_policy = Some(text(&call.input, "Policy").unwrap_or(DEFAULT_POLICY));
            }
            "DescribeKey" => {
                let arn = metadata(answer).and_then(|all| text(all, "Arn"));
                key.owner = arn
                    .and_then(account)
                    .map(str::to_owned)
                    .or(key.owner.take());
            }
            "PutKeyPolicy" => key
                .policies
                .extend(text(&call.input, "Policy").map(|policy| Change {
                    call: number,
                    start_us: call.start_us,
                    end_us,
                    policy,
                })),
            "CreateGrant" => {
                let made = (call.start_us, &call.input);
                match text(answer, "GrantId") {
                    Some(grant) => key
                        .grants
                        .entry(grant.to_owned())
                        .or_default()
                        .made
                        .push(made),
                    None => key.nameless.push(made),
                }
            }
            "ListGrants" => {
                let shown = items(answer, "Grants").iter();
                for grant in shown.filter_map(|grant| text(grant, "GrantId")) {
                    key.grants.entry(grant.to_owned()).or_default();
                }
            }
            "RevokeGrant" | "RetireGrant" => {
                if let (Some(grant), Some(end)) = (text(&call.input, "GrantId"), end_us) {
                    let grant = key.grants.entry(grant.to_owned()).or_default();
                    grant.ended.push((number, end));
                }
            }
            _ => {}
        }
    }
    // Such a member may have begun anew with another policy than is known.
    for place in again {
        if let Some(key) = keys.get_mut(&place) {
            key.first_policy = None;
        }
    }
    keys
}
