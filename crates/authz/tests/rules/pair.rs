//! A pair of a request and its policies, as the engine takes it.

use std::borrow::Cow;

use keyrum_authz::{
    Asker, Context, DeniedReason, GrantHit, IdentitySide, KeyPolicy, NamedAs, Policy, PolicyKind,
    PrincipalKind, Question, ResourceSide, Values, decide,
};
use serde_json::Value;

/// A pair's condition keys.
struct Given<'p>(&'p Value);

impl Context for Given<'_> {
    fn values(&self, key: &str) -> Option<Values<'_>> {
        let mut all = self.0.as_object().unwrap().iter();
        let (_, value) = all.find(|(name, _)| name.eq_ignore_ascii_case(key))?;
        let text = |value: &'_ Value| Cow::Owned(value.as_str().unwrap().to_owned());
        Some(match value {
            Value::Array(items) => Values::Many(items.iter().map(text).collect()),
            one => Values::One(text(one)),
        })
    }
}

fn read(policy: &Value, kind: PolicyKind) -> Policy {
    Policy::parse(&policy.to_string(), kind).unwrap_or_else(|why| panic!("{why}: {policy}"))
}

/// The engine's answer: allowed, implicitly denied or explicitly denied.
pub(crate) fn answer(pair: &Value) -> char {
    let text = |name: &str| pair[name].as_str().unwrap();
    let kind = match text("kind") {
        "Root" => PrincipalKind::Root,
        "User" => PrincipalKind::User,
        "AssumedRole" => PrincipalKind::AssumedRole,
        other => panic!("{other}"),
    };
    let actions = [
        "Decrypt",
        "Encrypt",
        "GenerateDataKey",
        "DescribeKey",
        "PutKeyPolicy",
        "DeleteAlias",
    ];
    let question = Question {
        asker: Asker {
            kind,
            account: text("account").parse().unwrap(),
            arn: text("arn"),
            role_arn: Some(text("roleArn")).filter(|arn| !arn.is_empty()),
            unique_id: text("uniqueId"),
        },
        service: "kms",
        action: actions
            .iter()
            .find(|action| **action == text("action"))
            .unwrap(),
        resource: text("resource"),
        context: &Given(&pair["context"]),
    };
    let one = |name: &str, kind| match &pair[name] {
        Value::Null => None,
        policy => Some(read(policy, kind)),
    };
    let identity = pair["identity"].as_array().unwrap();
    let identity: Vec<Policy> = (identity.iter())
        .map(|policy| read(policy, PolicyKind::Identity))
        .collect();
    let boundary = one("boundary", PolicyKind::Boundary);
    let session = one("session", PolicyKind::Session);
    let side = IdentitySide {
        root: kind == PrincipalKind::Root,
        policies: identity.iter().collect(),
        boundary: boundary.as_ref(),
        session: session.iter().collect(),
    };
    let key_policy = one("keyPolicy", PolicyKind::Key);
    let resource = match &key_policy {
        None => ResourceSide::None,
        Some(policy) => ResourceSide::Key {
            owner: text("owner").parse().unwrap(),
            policy: KeyPolicy::Is(policy),
            grant: None,
        },
    };
    match decide(&question, &side, &resource).map_err(|denied| denied.reason) {
        Ok(_) => 'A',
        Err(
            DeniedReason::DeniedByIdentityPolicy
            | DeniedReason::DeniedByPermissionsBoundary
            | DeniedReason::DeniedByResourcePolicy
            | DeniedReason::DeniedBySessionPolicy,
        ) => 'E',
        Err(_) => 'I',
    }
}

/// Every policy of a pair.
pub(crate) fn policies(pair: &mut Value) -> Vec<&mut Value> {
    let mut all = Vec::new();
    for (name, value) in pair.as_object_mut().unwrap() {
        match (name.as_str(), value) {
            ("keyPolicy" | "boundary" | "session", policy @ Value::Object(_)) => all.push(policy),
            ("identity", Value::Array(policies)) => all.extend(policies),
            _ => {}
        }
    }
    all
}

/// A question of a user, for a policy whose shape is not known.
pub(crate) fn question_of_ada(context: &dyn Context) -> Question<'_> {
    Question {
        asker: Asker {
            kind: PrincipalKind::User,
            account: "111122223333".parse().unwrap(),
            arn: "arn:aws:iam::111122223333:user/ada",
            role_arn: None,
            unique_id: "AIDAEXAMPLEEXAMPLE000",
        },
        service: "kms",
        action: "PutKeyPolicy",
        resource: "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        context,
    }
}

/// Decides a question with one policy in every place. The answer does not matter.
pub(crate) fn decide_with(policy: &Policy, question: &Question<'_>) {
    let side = IdentitySide {
        root: false,
        policies: vec![policy],
        boundary: Some(policy),
        session: vec![policy],
    };
    let owner = question.asker.account;
    let grant = Some(GrantHit {
        issuer: owner,
        named: NamedAs::Role,
    });
    let policy = KeyPolicy::Is(policy);
    let _ = decide(question, &side, &ResourceSide::None);
    let _ = decide(
        question,
        &side,
        &ResourceSide::Key {
            owner,
            policy,
            grant,
        },
    );
}
