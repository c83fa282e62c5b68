//! Who asks in the tables, the policies they are asked under, and how a table is read.

use std::borrow::Cow;
use std::collections::BTreeSet;

use keyrum_authz::{Asker, Context, NamedAs, Policy, PolicyKind, PrincipalKind, Question, Values};
use keyrum_types::AccountId;
use serde_json::{Value, json};

pub(crate) const KEY: &str =
    "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

pub(crate) fn account(text: &str) -> AccountId {
    text.parse().unwrap()
}

pub(crate) fn own() -> AccountId {
    account("111122223333")
}

pub(crate) fn asker(name: &str) -> Asker<'static> {
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

pub(crate) fn question<'a>(asker: Asker<'a>, context: &'a dyn Context) -> Question<'a> {
    Question {
        asker,
        service: "kms",
        action: "Decrypt",
        resource: KEY,
        context,
    }
}

pub(crate) fn key_policy(text: &str) -> Policy {
    Policy::parse(text, PolicyKind::Key).unwrap_or_else(|why| panic!("{why}: {text}"))
}

pub(crate) fn identity_policy(what: &str) -> Policy {
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

pub(crate) fn identity_policies(cell: &str) -> Vec<Policy> {
    let names = cell.split(' ').filter(|name| *name != "-");
    names.map(identity_policy).collect()
}

/// Of a cell such as `allow:root deny:app/s1`; `None` if the key is missing or has the default policy.
pub(crate) fn key_policy_of(cell: &str) -> Option<Policy> {
    if cell == "missing" || cell == "default" {
        return None;
    }
    let statement = |text: &str| {
        let (effect, whom) = text.split_once(':').unwrap();
        let condition = match effect {
            _ if effect.starts_with("if-mfa") => {
                json!({"Bool": {"aws:MultiFactorAuthPresent": "true"}})
            }
            _ if effect.starts_with("if-tagged") => {
                json!({"StringEquals": {"aws:ResourceTag/team": "red"}})
            }
            _ if effect.starts_with("if-late") => {
                json!({"DateGreaterThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}})
            }
            _ => json!({}),
        };
        let principal = match whom {
            "*" => json!("*"),
            "app" => json!({"AWS": "arn:aws:iam::111122223333:role/path/app"}),
            "sqs" => json!({"Service": "sqs.amazonaws.com"}),
            whom => json!({"AWS": asker(whom).arn}),
        };
        let effect = if effect.ends_with("deny") {
            "Deny"
        } else {
            "Allow"
        };
        json!({
            "Effect": effect, "Principal": principal, "Action": "kms:*", "Resource": "*",
            "Condition": condition,
        })
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

pub(crate) fn named_as(text: &str) -> NamedAs {
    match text {
        "no" => NamedAs::No,
        "account" => NamedAs::Account,
        "role" => NamedAs::Role,
        "itself" => NamedAs::Itself,
        other => panic!("nobody is named as {other}"),
    }
}

pub(crate) fn issuer(text: &str) -> AccountId {
    account(&format!("{text}22223333"))
}

/// A request that says of itself what it must not.
pub(crate) struct Boastful;

impl Context for Boastful {
    fn values(&self, key: &str) -> Option<Values<'_>> {
        let one = |value| Some(Values::One(Cow::Borrowed(value)));
        match key {
            "aws:principalarn" => one("arn:aws:iam::111122223333:user/forged"),
            "kms:calleraccount" => one("333322223333"),
            "aws:resourcetag/team" => one("red"),
            "kms:resourcealiases" => Some(Values::Many(vec![Cow::Borrowed("alias/a")])),
            "aws:multifactorauthpresent" => one("true"),
            "aws:currenttime" => one("2026-07-01T00:00:00Z"),
            _ => None,
        }
    }
}

/// Runs `check` on every line of a table and lists those it does not hold for.
pub(crate) fn each(table: &str, columns: usize, check: impl Fn(&[&str]) -> String) -> usize {
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

pub(crate) fn yes(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.to_owned()
}
