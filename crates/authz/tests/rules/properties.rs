//! What holds for every policy and request.

use keyrum_authz::{NoContext, Policy, PolicyKind, locks_out};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::pair::{answer, policies};
use crate::{generate, pair};

const KINDS: [PolicyKind; 5] = [
    PolicyKind::Key,
    PolicyKind::Identity,
    PolicyKind::Boundary,
    PolicyKind::Session,
    PolicyKind::Trust,
];

/// Everything that can be done with a text that may be a policy.
fn use_it(text: &str) {
    let question = pair::question_of_ada(&NoContext);
    for policy in KINDS.map(|kind| Policy::parse(text, kind)) {
        let Ok(policy) = policy else { continue };
        let _ = policy.named_principals().count();
        let _ = locks_out(&policy, &question);
        pair::decide_with(&policy, &question);
    }
    let stored = Policy::of_stored(text);
    if let Ok(policy) = &stored {
        pair::decide_with(policy, &question);
    }
    let account = "111122223333".parse().unwrap();
    let before = keyrum_authz::check_policy(text, "", account, "", true);
    assert!(before.is_err() || stored.is_ok(), "{stored:?} {text}");
    // What is a policy now was one before; it means the same.
    if let Ok(policy) = Policy::parse(text, PolicyKind::Key) {
        assert_eq!(stored.as_ref(), Ok(&policy), "{text}");
    }
}

/// JSON with a policy's words in it.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("*"),
        Just("Allow"),
        Just("Deny"),
        Just("kms:*"),
        Just("2012-10-17"),
        Just("arn:aws:iam::111122223333:root"),
        Just("arn:aws:kms:*:*:key/${aws:username}"),
        Just("${"),
        Just("2026-01-01"),
        Just("10.0.0.0/8"),
        Just("true"),
    ];
    let name = prop_oneof![
        Just("Version"),
        Just("Id"),
        Just("Statement"),
        Just("Sid"),
        Just("Effect"),
        Just("Principal"),
        Just("NotPrincipal"),
        Just("Action"),
        Just("NotAction"),
        Just("Resource"),
        Just("NotResource"),
        Just("Condition"),
        Just("AWS"),
        Just("Service"),
        Just("StringEquals"),
        Just("ForAllValues:StringLike"),
        Just("NumericLessThanIfExists"),
        Just("aws:username"),
        Just("Null"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(name.clone(), inner, 0..8)
                .prop_map(|members| json!(members)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Catches a Deny that lets somebody in.
    #[test]
    fn adding_a_deny_never_allows_more(seed: u64, other: u64, at: usize, which: usize) {
        let before = generate::pair(seed);
        let mut after = before.clone();
        let mut policies = policies(&mut after);
        if let Some(count) = std::num::NonZeroUsize::new(policies.len()) {
            let policy = &mut policies[which % count];
            let first = policy["Statement"][0].as_object().unwrap();
            let of_key = first.keys().any(|element| element.ends_with("Principal"));
            let deny = generate::deny(other, of_key);
            let statements = policy["Statement"].as_array_mut().unwrap();
            statements.insert(at % (statements.len() + 1), deny);
            if answer(&before) != 'A' {
                prop_assert_ne!(answer(&after), 'A', "{}", after);
            }
        }
    }

    /// Catches an Allow that keeps somebody out.
    #[test]
    fn removing_an_allow_never_allows_more(seed: u64, at: usize, which: usize) {
        let before = generate::pair(seed);
        let mut after = before.clone();
        let mut policies = policies(&mut after);
        if let Some(count) = std::num::NonZeroUsize::new(policies.len()) {
            let statements = policies[which % count]["Statement"].as_array_mut().unwrap();
            let at = at % statements.len();
            if statements[at]["Effect"] == "Allow" {
                // A policy without statements is none, so it stays without anything to be about.
                let statement = statements[at].as_object_mut().unwrap();
                statement.remove("NotAction");
                statement.insert("Action".to_owned(), json!("none:none"));
            }
            if answer(&before) != 'A' {
                prop_assert_ne!(answer(&after), 'A', "{}", after);
            }
        }
    }

    /// Catches a decision that differs from one time to the next.
    #[test]
    fn decisions_are_repeated(seed: u64) {
        let pair = generate::pair(seed);
        prop_assert_eq!(answer(&pair), answer(&pair));
    }

    /// Catches a panic on a document of whatever shape.
    #[test]
    fn any_json_is_read_or_refused(value in any_json()) {
        use_it(&value.to_string());
        use_it(&json!({"Version": "2012-10-17", "Statement": value}).to_string());
    }

    /// Catches a policy of an earlier version that is none any more.
    #[test]
    fn what_was_a_policy_is_one(
        statement in proptest::collection::btree_map(
            prop_oneof![
                Just("Sid"), Just("Condition"), Just("Action"), Just("NotAction"), Just("Resource"),
                Just("Comment"),
            ],
            any_json(),
            0..4,
        ),
        principal in prop_oneof![
            Just(r#""*""#),
            Just(r#"{"AWS":["111122223333","*"],"Service":"s","Federated":["f"]}"#),
            Just(r#"{"AWS":"AIDAEXAMPLEEXAMPLE000"}"#),
            Just(r#"{"AWS":"*","AWS":"111122223333"}"#),
        ],
        more in any_json(),
    ) {
        let mut text = format!(r#"{{"Principal":{principal},"Effect":"Allow""#);
        for (element, value) in statement {
            text.push_str(&format!(",{}:{value}", json!(element)));
        }
        use_it(&format!(r#"{{"Statement":[{text}}}],"More":{more},"Version":"2012-10-17"}}"#));
    }

    /// Catches a panic on a text of whatever kind.
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>(), json in r#"[{}\[\]":,*?$a-z0-9\\ .-]*"#) {
        use_it(&text);
        use_it(&json);
    }

    /// Catches a panic on a policy that is nearly one.
    #[test]
    fn a_spoiled_policy_is_read_or_refused(
        seed: u64,
        spots in proptest::collection::vec((any::<usize>(), any::<char>()), 1..6),
    ) {
        let pair = generate::pair(seed);
        let mut text: Vec<char> = pair["keyPolicy"].to_string().chars().collect();
        for (at, with) in spots {
            let at = at % text.len();
            match with as u32 % 3 {
                0 => _ = text.remove(at),
                1 => text.insert(at, with),
                _ => text[at] = with,
            }
            if text.is_empty() {
                return Ok(());
            }
        }
        use_it(&text.into_iter().collect::<String>());
    }
}
