//! The tables about the language: conditions, texts, condition keys and documents.

use std::borrow::Cow;

use keyrum_authz::{
    Context, IdentitySide, KeyPolicy, MalformedPolicy, Policy, PolicyKind, PrincipalKind, Question,
    ResourceSide, Values, decide,
};
use serde_json::{Value, json};

use crate::cast::{Boastful, asker, each, key_policy, question, yes};

const ACTIONS: &[&str] = &[
    "AssumeRole",
    "CreateKey",
    "Decrypt",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyWithoutPlaintext",
    "ReEncryptFrom",
];

/// A request's values of `t:k`, and of what the table of variables names.
struct Given(Option<Value>);

impl Context for Given {
    fn values(&self, key: &str) -> Option<Values<'_>> {
        match (key, &self.0) {
            ("t:k", Some(Value::Array(items))) => Some(Values::Many(
                items
                    .iter()
                    .map(|item| Cow::Borrowed(item.as_str().unwrap()))
                    .collect(),
            )),
            ("t:k", Some(value)) => Some(Values::One(Cow::Borrowed(value.as_str().unwrap()))),
            ("t:star", _) => Some(Values::One(Cow::Borrowed("a*"))),
            ("t:many", _) => Some(Values::Many(vec![Cow::Borrowed("a")])),
            _ => None,
        }
    }
}

/// Whether a statement of the given elements applies as an Allow and as a Deny: `yes`, `no`, or which.
fn applies(version: &str, elements: &Value, question: &Question<'_>) -> String {
    let policy = |effect: &str| {
        let mut statement = json!({"Effect": effect, "Action": "*", "Resource": "*"});
        for (name, value) in elements.as_object().unwrap() {
            let statement = statement.as_object_mut().unwrap();
            statement.remove(name.trim_start_matches("Not"));
            statement.insert(name.clone(), value.clone());
        }
        let mut policy = json!({"Statement": [statement]});
        match version {
            "2012" => policy["Version"] = json!("2012-10-17"),
            "2008" => policy["Version"] = json!("2008-10-17"),
            other => assert_eq!(other, "none"),
        }
        Policy::parse(&policy.to_string(), PolicyKind::Identity).unwrap()
    };
    let answer = |side: &IdentitySide<'_>| decide(question, side, &ResourceSide::None);
    let (allow, deny) = (policy("Allow"), policy("Deny"));
    let allows = answer(&IdentitySide {
        policies: vec![&allow],
        // A federated user's policies count as far as those of its session.
        session: match question.asker.kind {
            PrincipalKind::FederatedUser => vec![&allow],
            _ => Vec::new(),
        },
        ..IdentitySide::default()
    });
    let denies = answer(&IdentitySide {
        policies: vec![&deny],
        ..IdentitySide::of_root()
    });
    match (allows.is_ok(), denies.is_err()) {
        (true, true) => "yes",
        (false, false) => "no",
        (true, false) => "allow",
        (false, true) => "deny",
    }
    .to_owned()
}

/// Catches an operator that compares otherwise than documented, in an Allow or in a Deny.
#[test]
fn conditions() {
    let count = each(include_str!("table/conditions.txt"), 5, |cells| {
        let [operator, policy, request, ..] = cells[..] else {
            unreachable!()
        };
        let values: Value = serde_json::from_str(policy).expect(policy);
        let given = (request != "-").then(|| serde_json::from_str(request).expect(request));
        let context = Given(given);
        let elements = json!({"Condition": {operator: {"T:K": values}}});
        applies("2012", &elements, &question(asker("ada"), &context))
    });
    assert!(count >= 150, "{count}");
}

/// Catches an action, resource or variable that matches too much or too little.
#[test]
fn texts() {
    let count = each(include_str!("table/texts.txt"), 6, |cells| {
        let [version, element, values, asked, ..] = cells[..] else {
            unreachable!()
        };
        let values: Value = serde_json::from_str(values).expect(values);
        let is_condition = !element.ends_with("Action") && !element.ends_with("Resource");
        let context = Given(is_condition.then(|| json!(asked)));
        let mut question = question(asker("ada"), &context);
        let elements = match is_condition {
            true => json!({"Condition": {element: {"t:k": values}}}),
            false => json!({element: values}),
        };
        if element.ends_with("Action") {
            let (service, action) = asked.split_once(':').unwrap();
            question.service = service;
            question.action = ACTIONS.iter().find(|known| **known == action).unwrap();
        } else if element.ends_with("Resource") {
            question.resource = asked;
        }
        applies(version, &elements, &question)
    });
    assert!(count >= 70, "{count}");
}

/// Catches a request that says who asks, and a policy that is given what its kind does not have.
#[test]
fn keys() {
    each(include_str!("table/keys.txt"), 6, |cells| {
        let [whose, key, name, value, ..] = cells[..] else {
            unreachable!()
        };
        let condition = match value {
            "-" => json!({"Null": {key: "true"}}),
            value => json!({"StringEquals": {key: value}}),
        };
        let asker = asker(name);
        let question = question(asker, &Boastful);
        if whose == "identity" {
            return applies("2012", &json!({"Condition": condition}), &question);
        }
        let policy = json!({"Statement": {
            "Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*",
            "Condition": condition,
        }});
        let policy = key_policy(&policy.to_string());
        let key = ResourceSide::Key {
            owner: asker.account,
            policy: KeyPolicy::Is(&policy),
            grant: None,
        };
        yes(decide(&question, &IdentitySide::default(), &key).is_ok())
    });
}

/// Catches a document that is taken though it is no policy of its kind, one that is refused though it
/// is, and the wrong reason.
#[test]
fn documents() {
    each(include_str!("table/documents.txt"), 4, |cells| {
        let [kind, document, want, ..] = cells[..] else {
            unreachable!()
        };
        let kind = match kind {
            "key" => PolicyKind::Key,
            "identity" => PolicyKind::Identity,
            "boundary" => PolicyKind::Boundary,
            "session" => PolicyKind::Session,
            "trust" => PolicyKind::Trust,
            other => panic!("no kind is called {other}"),
        };
        let text = match document.starts_with('"') {
            true => format!(r#"{{"Version":"2012-10-17","Statement":[{{{document}}}]}}"#),
            false => document.to_owned(),
        };
        match Policy::parse(&text, kind) {
            Ok(_) => "ok".to_owned(),
            Err(MalformedPolicy::Syntax { what }) => format!("Syntax ({what})"),
            Err(why) => {
                let name = format!("{why:?}");
                let end = name.find([' ', '{']).unwrap_or(name.len());
                assert!(want.starts_with(&name[..end]), "{document}: {name}");
                name[..end].to_owned()
            }
        }
    });
}
