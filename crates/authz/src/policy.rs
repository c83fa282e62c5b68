//! Policies: documents read once and evaluated many times.

use std::collections::BTreeSet;

use keyrum_types::{AccountId, Region};

use crate::evaluation::View;
use crate::json::Json;
use crate::malformed::{MalformedPolicy, syntax};
use crate::principal::{NamedAs, NamedPrincipal};
use crate::statement::{self, Form, Statement};

/// What a policy is attached to; each kind has its own elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyKind {
    /// A key: statements name principals; without Action or Resource one is without effect.
    Key,
    /// A user or role: no principals.
    Identity,
    /// A user or role, as the bound of what its other policies may allow.
    Boundary,
    /// A session of a role or of a federated user, as the bound of what that one may.
    Session,
    /// A role: who may assume it. Only actions of STS, and no resources.
    Trust,
}

/// A policy, read: its texts are taken apart, so that evaluating it reads nothing again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    statements: Box<[Statement]>,
}

/// What a policy says to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) denied: bool,
    /// As what the asker is allowed; the strongest there is. Not at all, if it is denied.
    pub(crate) allowed: NamedAs,
}

impl Policy {
    /// Reads a policy. How long it may be is for the caller to check.
    pub fn parse(text: &str, kind: PolicyKind) -> Result<Self, MalformedPolicy> {
        Self::read(text, kind, false)
    }

    /// Reads a key's policy that was stored by a Region below feature level 4, which looked at less.
    ///
    /// What [`Policy::parse`] would refuse is taken so that nobody is let in by it: a statement whose
    /// conditions cannot be read allows nothing, or denies whatever they are. There is no error for a
    /// text that [`check_policy`](crate::check_policy) took.
    pub fn of_stored(text: &str) -> Result<Self, MalformedPolicy> {
        Self::read(text, PolicyKind::Key, true)
    }

    fn read(text: &str, kind: PolicyKind, stored: bool) -> Result<Self, MalformedPolicy> {
        let document = match stored {
            false => Json::parse(text),
            true => Json::parse_last_counts(text),
        };
        let Some(Json::Object(members)) = document else {
            return Err(syntax("the policy is not a JSON object"));
        };
        let member = |name: &str| {
            let found = members.iter().find(|(own, _)| own == name);
            found.map(|(_, value)| value)
        };
        let variables = match member("Version") {
            None => false,
            Some(Json::Text(version)) if version == "2012-10-17" => true,
            Some(Json::Text(version)) if version == "2008-10-17" => false,
            Some(_) => return Err(MalformedPolicy::UnknownVersion),
        };
        if !stored {
            let known = |name: &str| matches!(name, "Version" | "Id" | "Statement");
            if let Some((name, _)) = members.iter().find(|(name, _)| !known(name)) {
                return Err(syntax(format!("a policy has no element {name}")));
            }
            if member("Id").is_some_and(|id| id.text().is_none()) {
                return Err(syntax("Id is not a text"));
            }
        }
        let statements = match member("Statement") {
            None => return Err(MalformedPolicy::NoStatement),
            Some(Json::List(items)) if items.is_empty() => {
                return Err(MalformedPolicy::NoStatement);
            }
            Some(value @ (Json::List(_) | Json::Object(_))) => value.items(),
            Some(_) => return Err(syntax("Statement is not a list")),
        };
        let form = Form {
            kind,
            variables,
            stored,
        };
        let statements: Box<[Statement]> = statements
            .iter()
            .map(|value| statement::parse(value, form))
            .collect::<Result<_, _>>()?;
        if kind != PolicyKind::Key {
            let mut sids = BTreeSet::new();
            let named = statements
                .iter()
                .filter_map(|statement| statement.sid.as_ref());
            for sid in named.filter(|sid| !sid.is_empty()) {
                if !sids.insert(sid) {
                    return Err(MalformedPolicy::DuplicateSid);
                }
            }
        }
        Ok(Self { statements })
    }

    /// The principals it names, for the check that each exists. One named twice is there twice.
    pub fn named_principals(&self) -> impl Iterator<Item = &NamedPrincipal> {
        (self.statements.iter()).flat_map(Statement::named_principals)
    }

    pub(crate) fn weigh(&self, view: &View<'_>) -> Verdict {
        let mut allowed = NamedAs::No;
        for statement in &self.statements {
            if statement.deny {
                if statement.applies(view) != NamedAs::No {
                    return Verdict {
                        denied: true,
                        allowed: NamedAs::No,
                    };
                }
            } else if allowed != NamedAs::Itself {
                allowed = allowed.max(statement.applies(view));
            }
        }
        Verdict {
            denied: false,
            allowed,
        }
    }
}

/// The policy a key gets when its creator names none, laid out as the real service stores it.
pub fn default_policy(region: &Region, account: AccountId) -> String {
    let partition = region.partition();
    format!(
        r#"{{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {{
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {{
      "AWS" : "arn:{partition}:iam::{account}:root"
    }},
    "Action" : "kms:*",
    "Resource" : "*"
  }} ]
}}"#
    )
}
