//! The rules of authorization, one a line, in the texts under `table/`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use keyrum_authz::{
    Asker, Constraints, Context, DeniedReason, GrantHit, IdentitySide, KeyPolicy, MalformedPolicy,
    NamedAs, NoContext, Policy, PolicyKind, PrincipalKind, Question, ResourceSide, Values,
    constraints_met, decide, grant_names, may_grant_on,
};
use keyrum_types::{AccountId, GrantOperation};
use serde_json::{Value, json};

const KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
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

fn account(text: &str) -> AccountId {
    text.parse().unwrap()
}

fn own() -> AccountId {
    account("111122223333")
}

fn asker(name: &str) -> Asker<'static> {
    let [user, session] = [PrincipalKind::User, PrincipalKind::AssumedRole];
    let (kind, of, arn, unique_id) = match name {
        "root" => (
            PrincipalKind::Root,
            "111122223333",
            "arn:aws:iam::111122223333:root",
            "111122223333",
        ),
        "ada" => (
            user,
            "111122223333",
            "arn:aws:iam::111122223333:user/ada",
            "AIDAEXAMPLEEXAMPLE000",
        ),
        "bob" => (
            user,
            "111122223333",
            "arn:aws:iam::111122223333:user/bob",
            "AIDAEXAMPLEEXAMPLE111",
        ),
        "app/s1" => (
            session,
            "111122223333",
            "arn:aws:sts::111122223333:assumed-role/app/s1",
            "AROAEXAMPLEEXAMPLE000:s1",
        ),
        "fed" => (
            PrincipalKind::FederatedUser,
            "111122223333",
            "arn:aws:sts::111122223333:federated-user/fed",
            "111122223333:fed",
        ),
        "sqs" => (
            PrincipalKind::Service,
            "000000000000",
            "sqs.amazonaws.com",
            "sqs.amazonaws.com",
        ),
        "far" => (
            user,
            "999922223333",
            "arn:aws:iam::999922223333:user/far",
            "AIDAEXAMPLEEXAMPLE999",
        ),
        "far-root" => (
            PrincipalKind::Root,
            "999922223333",
            "arn:aws:iam::999922223333:root",
            "999922223333",
        ),
        other => panic!("nobody is called {other}"),
    };
    Asker {
        kind,
        account: account(of),
        arn,
        role_arn: (kind == session).then_some("arn:aws:iam::111122223333:role/path/app"),
        unique_id,
    }
}

fn question<'a>(asker: Asker<'a>, context: &'a dyn Context) -> Question<'a> {
    Question {
        asker,
        service: "kms",
        action: "Decrypt",
        resource: KEY,
        context,
    }
}

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

/// Runs `check` on every line of a table and lists those it does not hold for.
fn each(table: &str, columns: usize, check: impl Fn(&[&str]) -> String) -> usize {
    let (mut wrong, mut count, mut seen) = (String::new(), 0, BTreeSet::new());
    for line in table.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        assert!(seen.insert(line), "twice: {line}");
        let cells: Vec<&str> = line.split(" | ").map(str::trim).collect();
        assert!(columns == 0 || cells.len() == columns, "{line}");
        let rule = cells.last().unwrap();
        assert!(rule.len() > 1, "no rule: {line}");
        count += 1;
        let (want, got) = (cells[cells.len() - 2], check(&cells));
        if want != got {
            wrong.push_str(&format!("{line}\n    is {got}\n"));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    count
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

/// Catches a principal that names somebody else, or names them as more than it does.
#[test]
fn principals() {
    each(include_str!("table/principals.txt"), 5, |cells| {
        let (element, value) = cells[0].split_once(' ').unwrap();
        let value: Value = serde_json::from_str(value).expect(value);
        let asker = asker(cells[1]);
        let policy = |effect: &str| {
            let statement =
                json!({"Effect": effect, element: value, "Action": "*", "Resource": "*"});
            let all = json!({"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"});
            let statements = if effect == "Deny" {
                json!([all, statement])
            } else {
                json!([statement])
            };
            key_policy(&json!({"Statement": statements}).to_string())
        };
        let nothing = identity_policy("other");
        let everything = identity_policy("allow");
        let unlimited = IdentitySide::default();
        let limited = IdentitySide {
            boundary: Some(&nothing),
            ..IdentitySide::default()
        };
        let delegated = IdentitySide {
            policies: vec![&everything],
            session: vec![&everything],
            ..IdentitySide::default()
        };
        let holds = |policy: &Policy, side: &IdentitySide<'_>| {
            let key = ResourceSide::Key {
                owner: asker.account,
                policy: KeyPolicy::Is(policy),
                grant: None,
            };
            decide(&question(asker, &NoContext), side, &key).is_ok()
        };
        let (allow, deny) = (policy("Allow"), policy("Deny"));
        let named = match () {
            () if holds(&allow, &limited) => "itself",
            () if holds(&allow, &unlimited) => "role",
            () if holds(&allow, &delegated) => "account",
            () => "no",
        };
        assert_eq!(named, cells[2], "{cells:?}");
        if holds(&deny, &delegated) {
            "no"
        } else {
            "yes"
        }
        .to_owned()
    });
}

fn key_policy(text: &str) -> Policy {
    Policy::parse(text, PolicyKind::Key).unwrap_or_else(|why| panic!("{why}: {text}"))
}

fn identity_policy(what: &str) -> Policy {
    let (effect, action) = match what {
        "allow" => ("Allow", "*"),
        "deny" => ("Deny", "*"),
        "other" => ("Allow", "kms:Sign"),
        other => panic!("no policy is called {other}"),
    };
    let statement = json!({"Effect": effect, "Action": action, "Resource": "*"});
    let text = json!({"Version": "2012-10-17", "Statement": statement}).to_string();
    Policy::parse(&text, PolicyKind::Identity).unwrap()
}

fn identity_policies(cell: &str) -> Vec<Policy> {
    let names = cell.split(' ').filter(|name| *name != "-");
    names.map(identity_policy).collect()
}

/// Of a cell such as `allow:root deny:app/s1`; `None` if the key is missing or has the default policy.
fn key_policy_of(cell: &str) -> Option<Policy> {
    if cell == "missing" || cell == "default" {
        return None;
    }
    let statement = |text: &str| {
        let (effect, whom) = text.split_once(':').unwrap();
        let principal = match whom {
            "*" => json!("*"),
            "app" => json!({"AWS": "arn:aws:iam::111122223333:role/path/app"}),
            "sqs" => json!({"Service": "sqs.amazonaws.com"}),
            whom => json!({"AWS": asker(whom).arn}),
        };
        let effect = if effect == "allow" { "Allow" } else { "Deny" };
        json!({"Effect": effect, "Principal": principal, "Action": "kms:*", "Resource": "*"})
    };
    let mut statements: Vec<Value> = cell
        .split(' ')
        .filter(|s| *s != "-")
        .map(statement)
        .collect();
    if statements.is_empty() {
        // A policy has at least one statement; this one has no effect.
        statements.push(json!({"Effect": "Allow", "Principal": "*", "Resource": "*"}));
    }
    Some(key_policy(&json!({"Statement": statements}).to_string()))
}

fn named_as(text: &str) -> NamedAs {
    match text {
        "no" => NamedAs::No,
        "account" => NamedAs::Account,
        "role" => NamedAs::Role,
        "itself" => NamedAs::Itself,
        other => panic!("nobody is named as {other}"),
    }
}

fn issuer(text: &str) -> AccountId {
    account(&format!("{text}22223333"))
}

fn answer(
    name: &str,
    action: &'static str,
    on: &str,
    policies: [&str; 3],
    resource: &ResourceSide<'_>,
) -> String {
    let [own, boundary, session] = policies.map(identity_policies);
    let joined;
    let boundary = match &boundary[..] {
        [] => None,
        [one] => Some(one),
        _ => {
            // A boundary is one policy.
            joined = both();
            Some(&joined)
        }
    };
    let asker = asker(name);
    let side = IdentitySide {
        root: asker.kind == PrincipalKind::Root,
        policies: own.iter().collect(),
        boundary,
        session: session.iter().collect(),
    };
    let question = Question {
        action,
        resource: on,
        ..question(asker, &NoContext)
    };
    match decide(&question, &side, resource) {
        Ok(permit) => {
            assert_eq!(permit.action(), action);
            "allow".to_owned()
        }
        Err(denied) => {
            assert_eq!((&*denied.principal, &*denied.action), (asker.arn, action));
            format!("{:?}", denied.reason)
        }
    }
}

fn both() -> Policy {
    let text = r#"{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},
        {"Effect":"Deny","Action":"*","Resource":"*"}]}"#;
    Policy::parse(text, PolicyKind::Boundary).unwrap()
}

/// Catches a layer that is forgotten, one that says more than it may, and another reason than the one
/// that decided.
#[test]
fn decisions() {
    each(include_str!("table/decisions.txt"), 8, |cells| {
        let [name, key, own_policies, boundary, session, grant, ..] = cells[..] else {
            unreachable!()
        };
        let policy = key_policy_of(key);
        let grant = grant.split_once('/').map(|(by, named)| GrantHit {
            issuer: issuer(by),
            named: named_as(named),
        });
        let resource = ResourceSide::Key {
            owner: own(),
            policy: match key {
                "default" => KeyPolicy::Default,
                _ => policy.as_ref().map_or(KeyPolicy::Unreadable, KeyPolicy::Is),
            },
            grant,
        };
        answer(
            name,
            "Decrypt",
            KEY,
            [own_policies, boundary, session],
            &resource,
        )
    });
}

/// Catches an identity that creates keys or retires grants without a right to, and one that is kept
/// from it.
#[test]
fn own_side() {
    each(include_str!("table/own.txt"), 7, |cells| {
        let [name, what, own_policies, boundary, session, ..] = cells[..] else {
            unreachable!()
        };
        let policies = [own_policies, boundary, session];
        let Some(grant) = what.strip_prefix("retire:") else {
            return answer(name, "CreateKey", "*", policies, &ResourceSide::None);
        };
        let (by, named) = grant.split_once('/').unwrap();
        let resource = ResourceSide::Retirement {
            owner: own(),
            issuer: issuer(by),
            named: named_as(named),
        };
        answer(name, "RetireGrant", KEY, policies, &resource)
    });
}

/// Constraints as the table writes them.
struct Owned {
    equals: Option<BTreeMap<String, String>>,
    subset: Option<BTreeMap<String, String>>,
    source: Option<String>,
}

impl Owned {
    fn parse(text: &str) -> Self {
        let value: Value = serde_json::from_str(text).expect(text);
        Self {
            equals: value.get("equals").map(pairs),
            subset: value.get("subset").map(pairs),
            source: value
                .get("source")
                .map(|arn| arn.as_str().unwrap().to_owned()),
        }
    }

    fn borrowed(&self) -> Constraints<'_> {
        Constraints {
            context_equals: self.equals.as_ref(),
            context_subset: self.subset.as_ref(),
            source_arn: self.source.as_deref(),
        }
    }
}

fn pairs(value: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(value.clone()).unwrap()
}

fn operation(text: &str) -> GrantOperation {
    serde_json::from_value(json!(text)).unwrap_or_else(|_| panic!("no operation is called {text}"))
}

fn yes(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.to_owned()
}

/// Catches a grant that serves somebody else or in other circumstances, and one made through another
/// that allows more.
#[test]
fn grants() {
    each(include_str!("table/grants.txt"), 0, |cells| match cells {
        ["names", principal, name, ..] => match grant_names(principal, &asker(name)) {
            NamedAs::No => "no",
            NamedAs::Account => "account",
            NamedAs::Role => "role",
            NamedAs::Itself => "itself",
        }
        .to_owned(),
        ["strongest", hits, name, ..] => {
            let hit = |text: &str| {
                let (by, named) = text.split_once('/').unwrap();
                let (issuer, named) = (issuer(by), named_as(named));
                GrantHit { issuer, named }
            };
            let hits = || hits.split(' ').map(|text| (text, hit(text)));
            let found = hits().map(|(_, hit)| hit);
            let found = GrantHit::strongest(found, &asker(name), own()).unwrap();
            let equally = |text: &str| text == cells[cells.len() - 2];
            let mut same = hits()
                .filter(|(_, hit)| *hit == found)
                .map(|(text, _)| text);
            same.find(|text| equally(text))
                .unwrap_or("another")
                .to_owned()
        }
        ["met", constraints, asked, context, source, ..] => {
            let source = Some(*source).filter(|source| *source != "-");
            let context = pairs(&serde_json::from_str(context).unwrap());
            let constraints = Owned::parse(constraints);
            yes(constraints_met(
                &constraints.borrowed(),
                operation(asked),
                &context,
                source,
            ))
        }
        ["child", parent, child, ..] => {
            let read = |text: &str| {
                let (operations, constraints) = text.split_once('{').unwrap();
                let operations: Vec<_> = operations.split_whitespace().map(operation).collect();
                (operations, Owned::parse(&format!("{{{constraints}")))
            };
            let (parent, child) = (read(parent), read(child));
            yes(may_grant_on(
                (&parent.0, &parent.1.borrowed()),
                (&child.0, &child.1.borrowed()),
            ))
        }
        other => panic!("{other:?}"),
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

/// Catches a reason that no line of the tables meets.
#[test]
fn every_reason_is_met() {
    let tables = [
        include_str!("table/decisions.txt"),
        include_str!("table/own.txt"),
    ]
    .concat();
    for reason in [
        DeniedReason::NoIdentityBasedPolicy,
        DeniedReason::NoResourceBasedPolicy,
        DeniedReason::DeniedByIdentityPolicy,
        DeniedReason::DeniedByResourcePolicy,
        DeniedReason::DeniedBySessionPolicy,
        DeniedReason::DeniedByPermissionsBoundary,
        DeniedReason::NoSessionPolicy,
        DeniedReason::NoPermissionsBoundary,
    ] {
        assert!(tables.contains(&format!("{reason:?}")), "{reason:?}");
    }
}
