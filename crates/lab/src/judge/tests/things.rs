//! The checkers of single properties on histories made by hand.

use serde_json::{Value, json};

use super::*;
use crate::experiment::{FaultWindow, LogStep, Logged, MemberSeen, RegionLog};

const K: &str = "k1";

fn encrypted(span: (u64, u64)) -> Call {
    let answer = json!({ "KeyId": arn(K), "CiphertextBlob": "c1" });
    done(
        span,
        "Encrypt",
        json!({ "KeyId": K, "Plaintext": "p1" }),
        answer,
    )
}

fn decrypted(span: (u64, u64), plaintext: &str) -> Call {
    let answer = json!({ "KeyId": arn(K), "Plaintext": plaintext });
    done(span, "Decrypt", json!({ "CiphertextBlob": "c1" }), answer)
}

/// Catches a ciphertext that is lost, decrypts to something else, or is refused for no good reason.
#[test]
fn ciphertexts_decrypt() {
    let calls = |last: Call| vec![created((1, 2), K), encrypted((3, 4)), last];
    let not = |error: &str, message: &str| calls(refused(decrypted((5, 6), ""), error, message));
    holds("decryptable", calls(decrypted((5, 6), "p1")));
    fails("decryptable", calls(decrypted((5, 6), "p2")), &[1, 2]);
    holds("decryptable", not("DisabledException", "x is disabled."));
    fails(
        "decryptable",
        not("InvalidCiphertextException", ""),
        &[1, 2],
    );
    let missing = "The ciphertext refers to a customer master key that does not exist";
    fails(
        "decryptable",
        not("AccessDeniedException", missing),
        &[1, 2],
    );
    let mut deleted = not("AccessDeniedException", missing);
    deleted.insert(0, on((1, 2), "ScheduleKeyDeletion", K));
    holds("decryptable", deleted);
    // Asked for under another context, it must be refused.
    let mut other = not("InvalidCiphertextException", "");
    other[2].input["EncryptionContext"] = json!({ "a": "b" });
    assert_eq!(judged("decryptable", other).holds, Holds::Unknown);
}

/// Catches a creation that is there twice, or that was refused and is there.
#[test]
fn creations_are_there_once() {
    let described_as = |key: &str, description: &str| {
        let mut call = described((9, 10), key, "Enabled");
        let Outcome::Done(answer) = &mut call.outcome else {
            panic!()
        };
        answer["KeyMetadata"]["Description"] = json!(description);
        call
    };
    holds("exactly-once", vec![created((1, 2), K), described_as(K, K)]);
    let twice = vec![created((1, 2), K), described_as("k2", K)];
    fails("exactly-once", twice, &[0, 1]);
    let retried = |last: Vec<Call>| [vec![unknown(created((1, 2), K))], last].concat();
    holds("exactly-once", retried(vec![described_as("k2", K)]));
    fails(
        "exactly-once",
        retried(vec![described_as("k2", K), described_as("k3", K)]),
        &[0, 1, 2],
    );
    let denied = refused(created((1, 2), K), "LimitExceededException", "");
    fails("exactly-once", vec![denied, described_as(K, K)], &[0, 1]);
    fails(
        "exactly-once",
        vec![created((1, 2), K), created((3, 4), K)],
        &[0, 1],
    );
    let page = |names: &[&str]| {
        let aliases: Vec<_> = names
            .iter()
            .map(|name| json!({ "AliasName": name }))
            .collect();
        done(
            (1, 2),
            "ListAliases",
            json!({}),
            json!({ "Aliases": aliases, "Truncated": false }),
        )
    };
    holds("exactly-once", vec![page(&["alias/a", "alias/b"])]);
    fails("exactly-once", vec![page(&["alias/a", "alias/a"])], &[0]);
}

fn alias(span: (u64, u64), operation: &str, name: &str) -> Call {
    done(
        span,
        operation,
        json!({ "AliasName": name, "TargetKeyId": K }),
        Value::Null,
    )
}

/// Two pages of aliases.
fn walk(first: &[&str], second: &[&str]) -> [Call; 2] {
    let list = |names: &[&str]| -> Vec<Value> {
        names
            .iter()
            .map(|name| json!({ "AliasName": name, "TargetKeyId": K }))
            .collect()
    };
    let answer = json!({ "Aliases": list(first), "Truncated": true, "NextMarker": "m" });
    let last = json!({ "Aliases": list(second), "Truncated": false });
    [
        done((21, 22), "ListAliases", json!({ "Limit": 1 }), answer),
        done(
            (31, 32),
            "ListAliases",
            json!({ "Limit": 1, "Marker": "m" }),
            last,
        ),
    ]
}

/// Catches a walk that misses what was there all the time, or shows what was not there at any time.
#[test]
fn walks_show_what_is_there() {
    let calls = |changes: Vec<Call>, walk: [Call; 2]| {
        let mut calls = vec![alias((1, 2), "CreateAlias", "alias/a")];
        calls.extend(changes);
        calls.extend(walk);
        calls
    };
    holds("lists", calls(vec![], walk(&["alias/a"], &[])));
    fails("lists", calls(vec![], walk(&["alias/x"], &[])), &[0, 1, 2]);
    let deleted = alias((3, 4), "DeleteAlias", "alias/a");
    holds("lists", calls(vec![deleted.clone()], walk(&[], &[])));
    fails(
        "lists",
        calls(vec![deleted.clone()], walk(&[], &["alias/a"])),
        &[2, 3],
    );
    holds(
        "lists",
        calls(vec![unknown(deleted)], walk(&[], &["alias/a"])),
    );
    let meanwhile = by(1, alias((25, 26), "DeleteAlias", "alias/a"));
    holds("lists", calls(vec![meanwhile.clone()], walk(&[], &[])));
    holds("lists", calls(vec![meanwhile], walk(&["alias/a"], &[])));
    // A page of a node that may be late says nothing.
    let [first, second] = walk(&[], &[]);
    let late = judged("lists", calls(vec![], [first, local(2, second)]));
    assert_eq!(late.holds, Holds::Unknown);
}

/// Catches a run that passes though a fault never took effect.
#[test]
fn faults_must_take_effect() {
    let judged = |effects: &[Option<u64>]| {
        let mut experiment = Experiment::default();
        for effects in effects {
            experiment.faults.push(FaultWindow {
                kind: "isolate".into(),
                what: String::new(),
                region: None,
                nodes: Vec::new(),
                from_us: 1,
                until_us: None,
                effects: *effects,
            });
        }
        by_name("exercised").unwrap().judge(&experiment)
    };
    assert_eq!(judged(&[Some(0), Some(3)]).holds, Holds::True);
    let idle = judged(&[Some(0)]);
    assert_eq!(idle.holds, Holds::False);
    assert!(
        idle.findings[0]
            .finding
            .what
            .starts_with("not exercised: isolate")
    );
    assert_eq!(
        judged(&[None]).holds,
        Holds::Unknown,
        "it cannot be counted"
    );
}

/// Catches two primaries at a time, and takes none for two that only were looked at one after the
/// other.
#[test]
fn a_family_has_one_primary() {
    let seen = |at_us, region: &str, primary| MemberSeen {
        at_us,
        key: "mrk-1".to_owned(),
        region: region.to_owned(),
        state: Some("Enabled".into()),
        primary,
    };
    let judged = |simulated, members: &[MemberSeen]| {
        let experiment = Experiment {
            simulated,
            healed_at_us: Some(9),
            members: members.to_vec(),
            ..Experiment::default()
        };
        by_name("one-primary").unwrap().judge(&experiment).holds
    };
    let a = seen(1, "a", true);
    let moved = [
        a.clone(),
        seen(2, "b", false),
        seen(3, "a", false),
        seen(4, "b", true),
    ];
    assert_eq!(judged(true, &moved), Holds::True);
    // At one time, whatever is told first.
    let together = [a.clone(), seen(3, "b", true), seen(3, "a", false)];
    assert_eq!(judged(true, &together), Holds::True);
    let two = [a.clone(), seen(3, "b", true), seen(4, "a", false)];
    assert_eq!(judged(true, &two), Holds::False);
    assert_eq!(judged(false, &two), Holds::Unknown);
    assert_eq!(
        judged(false, &two[..2]),
        Holds::False,
        "still there when all has healed"
    );
}

/// Catches primaries that no log separates, where nobody sees two Regions at one instant; and a verdict
/// on logs that leave open what came before.
#[test]
fn logs_tell_that_a_family_had_one_primary() {
    let yes = || Logged::Primary("mrk-1".to_owned());
    let no = || Logged::NotPrimary("mrk-1".to_owned());
    let to = |to: &str| Logged::Sent(to.to_owned());
    let from = |from: &str, number| Logged::Taken {
        from: from.to_owned(),
        number,
    };
    let log = |region: &str, steps: Vec<Logged>| RegionLog {
        region: region.to_owned(),
        begins: 1,
        steps: (1..)
            .zip(steps)
            .map(|(index, what)| LogStep { index, what })
            .collect(),
    };
    let judged = |logs: Vec<RegionLog>| {
        let experiment = Experiment {
            logs,
            ..Experiment::default()
        };
        by_name("one-primary").unwrap().judge(&experiment).holds
    };
    // There and back again. The first message says that a replica is wanted.
    let a = vec![yes(), to("b"), no(), to("b"), from("b", 1), yes()];
    let b = vec![from("a", 1), from("a", 2), yes(), no(), to("a")];
    assert_eq!(
        judged(vec![log("a", a.clone()), log("b", b.clone())]),
        Holds::True
    );
    assert_eq!(
        judged(vec![log("b", b.clone()), log("a", a.clone())]),
        Holds::True
    );
    // Before it has heard that the other steps down.
    let hasty = vec![from("a", 1), yes(), from("a", 2), no(), to("a")];
    assert_eq!(
        judged(vec![log("a", a.clone()), log("b", hasty)]),
        Holds::False
    );
    // Heard from a third Region, which has heard it.
    let a_third = vec![yes(), no(), to("c")];
    let c = vec![from("a", 1), to("b")];
    let third = |b| {
        judged(vec![
            log("a", a_third.clone()),
            log("b", b),
            log("c", c.clone()),
        ])
    };
    assert_eq!(third(vec![from("c", 1), yes()]), Holds::True);
    assert_eq!(third(vec![yes(), from("c", 1)]), Holds::False);
    // Primaries for good, in logs that never met.
    assert_eq!(
        judged(vec![log("a", vec![yes()]), log("b", vec![yes()])]),
        Holds::False
    );
    // What came before, or from elsewhere, is not known.
    let late = RegionLog {
        begins: 3,
        ..log("a", a.clone())
    };
    assert_eq!(judged(vec![late, log("b", b.clone())]), Holds::Unknown);
    assert_eq!(judged(vec![log("b", b)]), Holds::Unknown);
}

/// Catches a count that went back unseen, and counters of others that are taken for one's own.
#[test]
fn a_count_that_goes_back_is_a_lost_update() {
    let counts = |client: usize, at: u64, key: &str, value: &str| {
        let tags = json!([{ "TagKey": "lab", "TagValue": value }]);
        let input = json!({ "KeyId": key, "Tags": tags });
        by(client, done((at, at + 1), "TagResource", input, json!({})))
    };
    let right = vec![
        counts(0, 1, K, "1"),
        counts(1, 3, K, "1"),
        counts(0, 5, "k2", "1"),
        counts(0, 7, K, "2"),
    ];
    holds("lost-updates", right.clone());
    let mut wrong = right;
    wrong.push(counts(0, 9, K, "2"));
    fails("lost-updates", wrong.clone(), &[3, 4]);
    wrong[4] = unknown(wrong[4].clone());
    holds("lost-updates", wrong);
}

/// Catches a key that its client never came to use, and one that it did after a while.
#[test]
fn a_key_is_used_in_the_end() {
    let uses = |at: u64| done((at, at + 1), "Encrypt", json!({ "KeyId": K }), json!({}));
    let not_there = |at: u64| refused(uses(at), "NotFoundException", "");
    let naive = vec![created((1, 2), K), not_there(3)];
    fails("usable", naive.clone(), &[0, 1]);
    let mut patient = naive.clone();
    patient.push(uses(5));
    holds("usable", patient);
    let mut disabled = naive;
    disabled[1] = refused(uses(3), "DisabledException", "");
    assert_eq!(judged("usable", disabled).holds, Holds::Unknown);
}
