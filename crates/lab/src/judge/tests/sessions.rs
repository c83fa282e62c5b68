//! Session guarantees and late reads on histories made by hand.

use super::*;
use crate::experiment::FaultWindow;

const K: &str = "k1";

/// Two changes by the first client, and reads by the second from nodes.
fn reads(seen: &[(u64, &str)]) -> Vec<Call> {
    let mut calls = vec![
        created((1, 2), K),
        tagged((3, 4), K, "1"),
        tagged((5, 6), K, "2"),
    ];
    for (nth, (node, value)) in (1..).zip(seen) {
        let read = tags((nth * 10, nth * 10 + 1), K, Some(value));
        calls.push(by(1, local(*node, read)));
    }
    calls
}

/// Catches reads of one node that go back, and nodes that are late being taken for that.
#[test]
fn reads_of_one_node_do_not_go_back() {
    holds("monotonic-reads", reads(&[(1, "1"), (1, "1"), (1, "2")]));
    fails(
        "monotonic-reads",
        reads(&[(1, "2"), (1, "1")]),
        &[1, 2, 3, 4],
    );
    let elsewhere = reads(&[(1, "2"), (2, "1")]);
    holds("monotonic-reads", elsewhere.clone());
    fails("monotonic-reads-anywhere", elsewhere, &[1, 2, 3, 4]);
    let judgement = judged("monotonic-reads", reads(&[]));
    assert_eq!(judgement.holds, Holds::Unknown, "no such reads");
}

/// Catches a promise that is asked of a node which has restarted in between, or not asked because of a
/// fault that leaves nodes as they are.
#[test]
fn a_restart_ends_a_session() {
    let with = |kind: &'static str, node| {
        let mut experiment = experiment(reads(&[(1, "2"), (1, "1")]));
        experiment.faults.push(FaultWindow {
            kind: kind.into(),
            what: String::new(),
            region: Some(REGION.to_owned()),
            nodes: vec![node],
            from_us: 12,
            until_us: Some(13),
            effects: None,
        });
        by_name("monotonic-reads").unwrap().judge(&experiment).holds
    };
    assert_eq!(with("crash", 1), Holds::True);
    assert_eq!(with("crash", 2), Holds::False);
    assert_eq!(with("pause", 1), Holds::False);
}

/// Catches a read of what no change has made yet, however weak.
#[test]
fn no_read_shows_the_future() {
    let mut calls = reads(&[(1, "2"), (1, "3")]);
    calls.push(tagged((50, 51), K, "3"));
    fails("monotonic-reads", calls, &[4, 5]);
}

/// Catches one's own changes that are not seen, and those of others that need not be.
#[test]
fn own_changes_are_seen() {
    let own = |client, value| {
        let mut calls = reads(&[]);
        calls.push(by(client, local(3, tags((10, 11), K, Some(value)))));
        calls
    };
    holds("read-your-writes", own(0, "2"));
    holds("read-your-writes", own(1, "1"));
    fails("read-your-writes", own(0, "1"), &[1, 2, 3]);
    // Back and forth, but never before its own change.
    let mut calls = vec![
        created((1, 2), K),
        by(1, tagged((3, 4), K, "1")),
        tagged((5, 6), K, "2"),
    ];
    for (at, value) in [(10, "2"), (20, "1"), (30, "2")] {
        calls.push(by(1, local(3, tags((at, at + 1), K, Some(value)))));
    }
    holds("read-your-writes", calls);
}

/// Catches changes of one client that are seen in another order than it made them.
#[test]
fn changes_of_a_client_keep_their_order() {
    holds("monotonic-writes", reads(&[(1, "1"), (1, "2")]));
    fails(
        "monotonic-writes",
        reads(&[(1, "2"), (1, "1")]),
        &[1, 2, 3, 4],
    );
    // Changes of two clients may be seen in either.
    let mut calls = reads(&[(1, "2"), (1, "1")]);
    calls[2].client = 2;
    calls[1].end_us = Some(60);
    calls[2].end_us = Some(60);
    holds("monotonic-writes", calls);
}

/// Catches a change that is seen before what its client had read when it made it.
#[test]
fn changes_follow_what_was_read() {
    let calls = |first: &str, then: &str| {
        vec![
            created((1, 2), K),
            tagged((3, 4), K, "1"),
            by(1, local(1, tags((5, 6), K, Some("1")))),
            by(1, tagged((7, 8), K, "2")),
            by(2, local(2, tags((9, 10), K, Some(first)))),
            by(2, local(2, tags((11, 12), K, Some(then)))),
        ]
    };
    holds("writes-follow-reads", calls("1", "2"));
    fails("writes-follow-reads", calls("2", "1"), &[1, 2, 3, 4, 5]);
}

/// Catches late reads that are not counted, with how late they are.
#[test]
fn late_reads_are_counted() {
    holds("stale-reads", reads(&[(1, "2")]));
    let judgement = judged("stale-reads", reads(&[(1, "2"), (1, "1"), (2, "1")]));
    assert_eq!(judgement.holds, Holds::False);
    let found: Vec<_> = judgement
        .findings
        .iter()
        .map(|found| found.calls.clone())
        .collect();
    assert_eq!(found, [[1, 2, 4], [1, 2, 5]]);
    // The second change ended at 6; the reads began at 20 and 30.
    assert!(
        judgement
            .about
            .starts_with("2 of 3 weaker reads were late, by up to 24"),
        "{judgement:#?}"
    );
    let invented = judged("stale-reads", reads(&[(1, "7")]));
    assert!(
        invented.findings[0]
            .finding
            .what
            .ends_with("shows what never was")
    );
    // Where what is linearizable has no order, nothing can be said.
    let mut broken = reads(&[(1, "1")]);
    broken.push(tags((40, 41), K, Some("1")));
    assert_eq!(judged("stale-reads", broken).holds, Holds::Unknown);
}
