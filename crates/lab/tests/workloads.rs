//! Workloads in a whole run, and what is noted of it. One test: only the first run of a process is
//! fixed by its seed.

use std::collections::BTreeMap;

use keyrum_lab::experiment::{Call, Experiment, Outcome};
use keyrum_lab::sim::{SimOptions, record};
use keyrum_lab::workload::api::Reads;
use keyrum_lab::workload::{Kind, NodeChoice, Readers, Workload};

/// How often each operation of each workload was done and refused.
fn counts(experiment: &Experiment) -> BTreeMap<(&str, &str), (u64, u64)> {
    let mut counts = BTreeMap::<_, (u64, u64)>::new();
    for call in &experiment.calls {
        let name = &experiment.clients[call.client];
        let kind = name
            .rsplit_once('-')
            .map_or(name.as_str(), |(kind, _)| kind);
        let count = counts.entry((kind, call.operation.as_str())).or_default();
        match &call.outcome {
            Outcome::Done(_) => count.0 += 1,
            Outcome::Refused { .. } => count.1 += 1,
            Outcome::NotDone(_) | Outcome::Unknown(_) => {}
        }
    }
    counts
}

/// Catches a workload that never does what it is for, a call without an end or with a wrong order of
/// times, and a run that does not note its faults, its leaders or what became of families.
#[test]
fn every_workload_works_and_is_noted() {
    let mut options = SimOptions::new(1);
    options.minutes = 0.5;
    options.workloads = Kind::ALL.map(Workload::new).to_vec();
    for workload in &mut options.workloads {
        workload.readers = Some(Readers {
            clients: 1,
            reads: Reads::Local,
            node: NodeChoice::Follower,
        });
    }
    let (verdict, experiment) = record(options);
    assert!(verdict.passed(), "{verdict}");
    let counts = counts(&experiment);
    let done = |kind, operation| counts.get(&(kind, operation)).map_or(0, |count| count.0);
    let refused = |kind, operation| counts.get(&(kind, operation)).map_or(0, |count| count.1);
    for (kind, operations) in [
        (
            "key-lifecycle",
            "CreateKey DisableKey EnableKey ScheduleKeyDeletion CancelKeyDeletion \
             UpdateKeyDescription TagResource UntagResource ListResourceTags Encrypt Decrypt DescribeKey",
        ),
        (
            "alias-moves",
            "CreateAlias UpdateAlias DeleteAlias DescribeKey ListAliases",
        ),
        ("grants", "CreateGrant RevokeGrant ListGrants Encrypt"),
        ("policy-races", "PutKeyPolicy GetKeyPolicy Encrypt"),
        (
            "primary-moves",
            "ReplicateKey UpdatePrimaryRegion RotateKeyOnDemand Encrypt Decrypt DescribeKey",
        ),
        ("lists", "CreateAlias DeleteAlias ListAliases"),
        ("counters", "ListResourceTags TagResource"),
        ("fresh-keys", "CreateKey Encrypt"),
        ("patient-keys", "CreateKey Encrypt"),
    ] {
        for operation in operations.split_whitespace() {
            assert!(done(kind, operation) > 0, "{kind} {operation}: {counts:?}");
        }
    }
    let reads_only = |call: &&Call| experiment.clients[call.client].contains("reader");
    for call in experiment.calls.iter().filter(reads_only) {
        let reads = [
            "DescribeKey",
            "ListResourceTags",
            "ListGrants",
            "GetKeyPolicy",
            "ListAliases",
        ];
        assert!(reads.contains(&call.operation.as_str()), "{call:?}");
        assert_eq!(call.reads.as_deref(), Some("local"));
    }
    let readers = experiment.calls.iter().filter(reads_only);
    assert!(readers.count() > 100);
    for kind in ["grants", "policy-races"] {
        assert!(refused(kind, "Encrypt") > 0, "{kind}: {counts:?}");
    }

    let starts: Vec<_> = experiment.calls.iter().map(|call| call.start_us).collect();
    assert!(starts.is_sorted());
    for call in &experiment.calls {
        let ended = call.end_us.is_some_and(|end_us| call.start_us < end_us);
        assert!(ended, "{call:?}");
    }
    assert_eq!(experiment.regions.len(), 3);
    assert!(experiment.faults.iter().any(|fault| fault.kind == "crash"));
    assert!(experiment.leaders.iter().any(|seen| seen.leader.is_none()));
    // Faults are over: every node follows somebody, also one that knew its leader when it came back.
    let followed: BTreeMap<_, _> = (experiment.leaders.iter())
        .map(|seen| ((&seen.region, seen.node), seen.leader))
        .collect();
    assert_eq!(followed.len(), 9, "{followed:?}");
    assert!(followed.values().all(Option::is_some), "{followed:?}");
    let primaries = experiment.members.iter().filter(|member| member.primary);
    assert!(primaries.count() > 3);
    let text = serde_json::to_string(&experiment).unwrap();
    assert_eq!(
        serde_json::from_str::<Experiment>(&text).unwrap(),
        experiment
    );
}
