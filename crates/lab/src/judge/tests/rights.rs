//! `authorization-order` on histories made by hand.

use serde_json::{Value, json};

use super::*;

const K: &str = "k1";
const GUEST: &str = "444455556666";

fn root(account: &str) -> String {
    format!("arn:aws:iam::{account}:root")
}

fn put(span: (u64, u64), open: bool) -> Call {
    let allow = |account: &str, action: &str| {
        json!({ "Effect": "Allow", "Principal": { "AWS": root(account) }, "Action": action,
            "Resource": "*" })
    };
    let mut statements = vec![allow("000000000000", "kms:*")];
    if open {
        statements.push(allow(GUEST, "kms:Encrypt"));
    }
    let policy = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
    done(
        span,
        "PutKeyPolicy",
        json!({ "KeyId": K, "Policy": policy }),
        Value::Null,
    )
}

fn given(span: (u64, u64), grant: &str) -> Call {
    let input = json!({ "KeyId": K, "GranteePrincipal": root(GUEST), "Operations": ["Encrypt"] });
    done(span, "CreateGrant", input, json!({ "GrantId": grant }))
}

fn revoked(span: (u64, u64), grant: &str) -> Call {
    done(
        span,
        "RevokeGrant",
        json!({ "KeyId": K, "GrantId": grant }),
        Value::Null,
    )
}

fn used(span: (u64, u64)) -> Call {
    let mut call = done(
        span,
        "Encrypt",
        json!({ "KeyId": arn(K) }),
        json!({ "KeyId": arn(K) }),
    );
    call.caller = Some(GUEST.to_owned());
    by(1, call)
}

const CHECKER: &str = "authorization-order";

/// Catches a use after its policy was closed, and a use that may have come before.
#[test]
fn a_closed_policy_lets_nobody_in() {
    let calls = |last: Vec<Call>| [vec![created((1, 2), K), put((3, 4), true)], last].concat();
    holds(CHECKER, calls(vec![used((5, 6))]));
    holds(CHECKER, calls(vec![put((5, 9), false), used((8, 10))]));
    fails(
        CHECKER,
        calls(vec![put((5, 6), false), used((7, 8))]),
        &[2, 3],
    );
    holds(
        CHECKER,
        calls(vec![unknown(put((5, 6), false)), used((7, 8))]),
    );
    // What opens it again has not ended, or nobody knows whether it was done.
    holds(
        CHECKER,
        calls(vec![
            put((5, 6), false),
            unknown(put((7, 8), true)),
            used((9, 10)),
        ]),
    );
    let denied = refused(used((7, 8)), "AccessDeniedException", "no");
    holds(CHECKER, calls(vec![put((5, 6), false), denied]));
    // A node may show this late.
    let late = local(2, used((7, 8)));
    assert_eq!(
        judged(CHECKER, calls(vec![put((5, 6), false), late])).holds,
        Holds::Unknown
    );
}

/// Catches a use after the only grant was taken back, and one that another grant still allows.
#[test]
fn a_grant_taken_back_lets_nobody_in() {
    let calls = |last: Vec<Call>| [vec![created((1, 2), K), given((3, 4), "g1")], last].concat();
    holds(CHECKER, calls(vec![used((5, 6))]));
    holds(CHECKER, calls(vec![revoked((5, 7), "g1"), used((6, 8))]));
    fails(
        CHECKER,
        calls(vec![revoked((5, 6), "g1"), used((7, 8))]),
        &[2, 3],
    );
    holds(
        CHECKER,
        calls(vec![
            given((5, 6), "g2"),
            revoked((7, 8), "g1"),
            used((9, 10)),
        ]),
    );
    holds(
        CHECKER,
        calls(vec![
            revoked((5, 6), "g1"),
            unknown(given((7, 8), "g2")),
            used((9, 10)),
        ]),
    );
    holds(
        CHECKER,
        calls(vec![unknown(revoked((5, 6), "g1")), used((7, 8))]),
    );
    // A key of which not all grants are known.
    let calls = vec![
        put((1, 2), false),
        given((3, 4), "g1"),
        revoked((5, 6), "g1"),
        used((7, 8)),
    ];
    assert_ne!(judged(CHECKER, calls).holds, Holds::False);
}

/// Catches a use by the key's own account that a policy forbids to everybody.
#[test]
fn what_is_forbidden_to_everybody_is_done_by_nobody() {
    let deny = json!({ "Statement": [{ "Effect": "Deny", "Principal": { "AWS": "*" },
        "Action": "kms:UpdatePrimaryRegion", "Resource": "*" }] });
    let forbid = json!({ "KeyId": K, "Policy": deny.to_string() });
    let calls = |at: u64| {
        vec![
            created((1, 2), K),
            done((3, 6), "PutKeyPolicy", forbid.clone(), Value::Null),
            on((at, 10), "UpdatePrimaryRegion", K),
        ]
    };
    holds(CHECKER, calls(5));
    fails(CHECKER, calls(7), &[1, 2]);
}
