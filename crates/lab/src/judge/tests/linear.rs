//! `linearizable`, `linearizable-all` and `durable` on histories made by hand.

use serde_json::{Value, json};

use super::*;

const K: &str = "k1";

fn life() -> Vec<Call> {
    vec![
        created((1, 2), K),
        on((3, 4), "DisableKey", K),
        described((5, 6), K, "Disabled"),
        on((7, 8), "EnableKey", K),
        on((9, 10), "ScheduleKeyDeletion", K),
        on((11, 12), "CancelKeyDeletion", K),
        described((13, 14), K, "Disabled"),
    ]
}

/// Catches a model of a key's life that takes a right history for a wrong one, or overlooks a read
/// of a state that is over.
#[test]
fn a_key_lives() {
    holds("linearizable", life());
    let mut stale = life();
    stale.push(described((15, 16), K, "Enabled"));
    // What made it be enabled, a change that was over, and the read.
    fails("linearizable", stale, &[0, 4, 7]);
    let mut deleted = life();
    deleted.push(on((15, 16), "ScheduleKeyDeletion", K));
    let gone = format!("Key '{}' does not exist", arn(K));
    deleted.push(refused(
        on((17, 18), "DescribeKey", K),
        "NotFoundException",
        &gone,
    ));
    holds("linearizable", deleted.clone());
    deleted.push(described((19, 20), K, "PendingDeletion"));
    assert_eq!(
        judged("linearizable", deleted).holds,
        Holds::False,
        "it came back"
    );
}

/// Catches a checker that takes calls for ordered that were under way at the same time, or does not
/// take them for ordered when they were not.
#[test]
fn calls_at_the_same_time_have_either_order() {
    let two = |read: (u64, u64), state| {
        vec![
            created((1, 2), K),
            on((3, 10), "DisableKey", K),
            by(1, described(read, K, state)),
        ]
    };
    holds("linearizable", two((5, 6), "Enabled"));
    holds("linearizable", two((5, 6), "Disabled"));
    holds("linearizable", two((10, 12), "Enabled"));
    fails("linearizable", two((11, 12), "Enabled"), &[0, 1, 2]);
}

/// Catches a checker for which an unknown outcome is a known one.
#[test]
fn an_unknown_call_is_done_late_or_never() {
    let calls = |states: &[&str]| {
        let mut calls = vec![
            created((1, 2), K),
            unknown(by(1, on((3, 4), "DisableKey", K))),
        ];
        for (nth, state) in (5..).zip(states) {
            calls.push(described((nth * 10, nth * 10 + 1), K, state));
        }
        calls
    };
    holds("linearizable", calls(&["Enabled", "Enabled"]));
    holds("linearizable", calls(&["Enabled", "Disabled", "Disabled"]));
    fails(
        "linearizable",
        calls(&["Disabled", "Enabled"]),
        &[0, 1, 2, 3],
    );
}

/// Catches refusals that are not taken for reads of what refuses.
#[test]
fn refusals_are_reads() {
    let says = format!("{} is disabled.", arn(K));
    let encrypt = |span| on(span, "Encrypt", K);
    let refusal = |span| refused(encrypt(span), "DisabledException", &says);
    let calls = |last: Call| vec![created((1, 2), K), on((3, 4), "DisableKey", K), last];
    holds("linearizable", calls(refusal((5, 6))));
    fails("linearizable", calls(encrypt((5, 6))), &[0, 1, 2]);
    fails(
        "linearizable",
        vec![created((1, 2), K), refusal((5, 6))],
        &[1],
    );
    // Of a kind that says nothing of the state.
    let denied = refused(encrypt((5, 6)), "AccessDeniedException", "no");
    holds("linearizable", calls(denied));
}

/// Catches tags, descriptions, aliases or grants that are not modelled, and smallest histories that
/// are not, or that leave out what a read shows.
#[test]
fn registers_hold_what_was_written() {
    let tagging = |seen| {
        vec![
            created((1, 2), K),
            tagged((3, 4), K, "1"),
            tags((5, 6), K, Some("1")),
            tagged((7, 8), K, "2"),
            tagged((9, 10), K, "3"),
            tags((11, 12), K, Some(seen)),
        ]
    };
    holds("linearizable", tagging("3"));
    fails("linearizable", tagging("1"), &[1, 3, 5]);
    fails("linearizable", tagging("never"), &[5]);
    let wording = |seen: &str| {
        let input = json!({ "KeyId": K, "Description": "new" });
        let mut read = described((5, 6), K, "Enabled");
        let Outcome::Done(answer) = &mut read.outcome else {
            panic!()
        };
        answer["KeyMetadata"]["Description"] = json!(seen);
        vec![
            created((1, 2), K),
            done((3, 4), "UpdateKeyDescription", input, Value::Null),
            read,
        ]
    };
    holds("linearizable", wording("new"));
    fails("linearizable", wording(K), &[1, 2]);
}

/// Catches aliases that are not modelled: where they point, and that they must be there, or not.
#[test]
fn aliases_point() {
    let pointed = |span, operation: &str, to: &str| {
        done(
            span,
            operation,
            json!({ "AliasName": "alias/a", "TargetKeyId": to }),
            Value::Null,
        )
    };
    let asked = |span, to: &str| {
        let metadata = json!({ "KeyId": to, "KeyState": "Enabled", "Description": to });
        done(
            span,
            "DescribeKey",
            json!({ "KeyId": "alias/a" }),
            json!({ "KeyMetadata": metadata }),
        )
    };
    let moved = |last: Call| {
        vec![
            created((1, 2), K),
            created((3, 4), "k2"),
            pointed((5, 6), "CreateAlias", K),
            pointed((7, 8), "UpdateAlias", "k2"),
            last,
        ]
    };
    holds("linearizable", moved(asked((9, 10), "k2")));
    fails("linearizable", moved(asked((9, 10), K)), &[2, 3, 4]);
    let there = format!(
        "An alias with the name {} already exists",
        "arn:aws:kms:us-east-1:0:alias/a"
    );
    let again = |span| pointed(span, "CreateAlias", K);
    holds(
        "linearizable",
        moved(refused(again((9, 10)), "AlreadyExistsException", &there)),
    );
    fails("linearizable", moved(again((9, 10))), &[3, 4]);
    let listed = |aliases: Value| {
        done(
            (9, 10),
            "ListAliases",
            json!({}),
            json!({ "Aliases": aliases, "Truncated": false }),
        )
    };
    let entry = |to: &str| json!([{ "AliasName": "alias/a", "TargetKeyId": to }]);
    holds("linearizable", moved(listed(entry("k2"))));
    fails("linearizable", moved(listed(json!([]))), &[3, 4]);
}

/// Catches grants that are not modelled.
#[test]
fn grants_are_given_and_taken_back() {
    let given = done(
        (3, 4),
        "CreateGrant",
        json!({ "KeyId": K }),
        json!({ "GrantId": "g" }),
    );
    let revoked = done(
        (5, 6),
        "RevokeGrant",
        json!({ "KeyId": K, "GrantId": "g" }),
        Value::Null,
    );
    let listed = |grants: Value| {
        let answer = json!({ "Grants": grants, "Truncated": false });
        done((7, 8), "ListGrants", json!({ "KeyId": K }), answer)
    };
    let calls = |last: Call| vec![created((1, 2), K), given.clone(), revoked.clone(), last];
    holds("linearizable", calls(listed(json!([]))));
    fails(
        "linearizable",
        calls(listed(json!([{ "GrantId": "g" }]))),
        &[1, 2, 3],
    );
}

/// Catches weaker reads that are judged as if they were promised to be linearizable, and a checker
/// that does not when it is asked to.
#[test]
fn weaker_reads_are_left_out_unless_asked_for() {
    let mut calls = life();
    calls.push(local(2, described((15, 16), K, "Enabled")));
    holds("linearizable", calls.clone());
    fails("linearizable-all", calls, &[0, 4, 7]);
}

/// Catches a lost change that is not found, or a read before the last change that is taken for one
/// after it.
#[test]
fn what_was_acknowledged_is_there_at_the_end() {
    let calls = |seen: &str| {
        vec![
            created((1, 2), K),
            tagged((3, 4), K, "1"),
            tags((5, 6), K, None),
            tagged((7, 8), K, "2"),
            tags((9, 10), K, Some(seen)),
        ]
    };
    holds("durable", calls("2"));
    fails("durable", calls("1"), &[1, 3, 4]);
    assert_eq!(
        judged("durable", vec![tagged((3, 4), K, "1")]).holds,
        Holds::Unknown
    );
}

/// Catches what a Region's log does not promise being asked of it: members of a family in two
/// Regions have lives of their own, and change without a call.
#[test]
fn members_of_families_live_for_themselves() {
    let key = "mrk-1";
    let there = |span, state| Call {
        region: "eu-west-1".to_owned(),
        ..described(span, key, state)
    };
    let calls = |last: Call| {
        vec![
            created((1, 2), key),
            done(
                (3, 4),
                "ReplicateKey",
                json!({ "KeyId": key, "ReplicaRegion": "eu-west-1" }),
                Value::Null,
            ),
            there((5, 6), "Creating"),
            there((7, 8), "Enabled"),
            on((9, 10), "DisableKey", key),
            last,
        ]
    };
    holds("linearizable", calls(there((11, 12), "Enabled")));
    holds("linearizable", calls(there((11, 12), "Updating")));
    fails("linearizable", calls(there((11, 12), "Creating")), &[3, 5]);
}

/// Catches calls of kinds that the model does not know being lost without a word.
#[test]
fn what_is_not_modelled_is_counted() {
    let calls = vec![
        created((1, 2), K),
        done((3, 4), "GenerateRandom", json!({}), Value::Null),
    ];
    let judgement = judged("linearizable", calls);
    assert_eq!(
        judgement.about,
        "1 calls on 1 objects; left out: 1 GenerateRandom"
    );
}
