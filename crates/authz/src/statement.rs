//! Statements: what each covers.
//!
//! Source: IAM User Guide, "Grammar of the IAM JSON policy language" and the pages on its elements.

use std::collections::BTreeMap;

use crate::condition::{self, Condition, Reading};
use crate::evaluation::View;
use crate::json::Json;
use crate::malformed::{MalformedPolicy, syntax};
use crate::policy::PolicyKind;
use crate::principal::{NamedAs, NamedPrincipal, NotAPrincipal};
use crate::question::{Asker, PrincipalKind};
use crate::template::Pattern;

/// One statement, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) deny: bool,
    pub(crate) sid: Option<Box<str>>,
    /// `None` in policies of identities: they are for whoever has them.
    principals: Option<Principals>,
    actions: Texts,
    resources: Texts,
    conditions: Box<[Condition]>,
    /// It has conditions that cannot be read: see [`Policy::of_stored`](crate::Policy::of_stored).
    unreadable: bool,
}

/// `Principal`, or with `except` `NotPrincipal`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Principals {
    except: bool,
    named: Box<[NamedPrincipal]>,
}

impl Principals {
    fn name(&self, asker: &Asker<'_>, deny: bool) -> NamedAs {
        let named = self.named.iter().map(|named| named.names(asker));
        if !self.except {
            return named.max().unwrap_or(NamedAs::No);
        }
        let covered = match deny {
            // An asker is its account, its role and itself; a Deny spares only one that is named as
            // all of these. Source: IAM User Guide, "Using NotPrincipal with Deny".
            true => !self.spares(asker),
            false => named.max().is_none_or(|named| named == NamedAs::No),
        };
        if covered {
            NamedAs::Itself
        } else {
            NamedAs::No
        }
    }

    fn spares(&self, asker: &Asker<'_>) -> bool {
        let is_named = |wanted| self.named.iter().any(|named| named.names(asker) == wanted);
        let itself = is_named(NamedAs::Itself);
        match asker.kind {
            _ if self.named.contains(&NamedPrincipal::Anyone) => true,
            PrincipalKind::Root | PrincipalKind::Service => itself,
            PrincipalKind::User | PrincipalKind::FederatedUser => {
                itself && is_named(NamedAs::Account)
            }
            PrincipalKind::AssumedRole => {
                itself && is_named(NamedAs::Role) && is_named(NamedAs::Account)
            }
        }
    }
}

/// `Action` or `Resource`, or their `Not` forms.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Texts {
    /// Without this element the statement is about nothing.
    Nothing,
    /// The element has no place in this kind of policy: it is about the one thing there is.
    Everything,
    Of(Box<[Pattern]>),
    AllBut(Box<[Pattern]>),
}

impl Texts {
    fn cover(&self, text: &str, view: &View<'_>, deny: bool) -> bool {
        // A pattern whose variable has no value fits nothing; but an Allow does not live on that.
        let fits = |pattern: &Pattern| pattern.matches(text, view).unwrap_or(false);
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Of(patterns) => patterns.iter().any(fits),
            Self::AllBut(patterns) => {
                (patterns.iter()).all(|pattern| !pattern.matches(text, view).unwrap_or(!deny))
            }
        }
    }
}

impl Statement {
    /// As what it allows or denies the asker what is asked; `NamedAs::No` if it does not apply.
    pub(crate) fn applies(&self, view: &View<'_>) -> NamedAs {
        if !self.actions.cover(view.action(), view, self.deny) {
            return NamedAs::No;
        }
        let named = match &self.principals {
            None => NamedAs::Itself,
            Some(principals) => principals.name(&view.question.asker, self.deny),
        };
        let resource = view.question.resource;
        if named == NamedAs::No || !self.resources.cover(resource, view, self.deny) {
            return NamedAs::No;
        }
        let meets = match self.unreadable {
            true => self.deny,
            false => (self.conditions.iter()).all(|condition| condition.holds(view, self.deny)),
        };
        if meets { named } else { NamedAs::No }
    }

    /// The principals it names.
    pub(crate) fn named_principals(&self) -> &[NamedPrincipal] {
        self.principals
            .as_ref()
            .map_or(&[], |principals| &principals.named)
    }
}

/// How statements are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    pub(crate) kind: PolicyKind,
    /// The policy's Version has variables.
    pub(crate) variables: bool,
    /// It was stored before policies were read in full.
    pub(crate) stored: bool,
}

const ELEMENTS: &[&str] = &[
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
];

/// An object's members by their names.
struct Members<'j>(&'j [(String, Json)]);

impl<'j> Members<'j> {
    fn get(&self, name: &str) -> Option<&'j Json> {
        let found = self.0.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value)
    }

    /// An element or its `Not` form, and whether it is the latter.
    fn either(&self, name: &str) -> Result<Option<(bool, &'j Json)>, MalformedPolicy> {
        match (self.get(name), self.get(&format!("Not{name}"))) {
            (None, None) => Ok(None),
            (Some(value), None) => Ok(Some((false, value))),
            (None, Some(value)) => Ok(Some((true, value))),
            (Some(_), Some(_)) => Err(syntax(format!("both {name} and Not{name}"))),
        }
    }
}

pub(crate) fn parse(value: &Json, form: Form) -> Result<Statement, MalformedPolicy> {
    let Json::Object(members) = value else {
        return Err(syntax("a statement is not an object"));
    };
    let unknown = members
        .iter()
        .find(|(name, _)| !ELEMENTS.contains(&&**name));
    if let Some((name, _)) = unknown
        && !form.stored
    {
        return Err(syntax(format!("a statement has no element {name}")));
    }
    let members = Members(members);
    let deny = match members.get("Effect").and_then(Json::text) {
        Some("Allow") => false,
        Some("Deny") => true,
        _ => return Err(MalformedPolicy::InvalidEffect),
    };
    let sid = match members.get("Sid") {
        Some(Json::Text(sid)) => Some(sid.as_str()),
        Some(_) if !form.stored => return Err(syntax("Sid is not a text")),
        Some(_) | None => None,
    };
    let of_identity = !matches!(form.kind, PolicyKind::Key);
    let alphanumeric = |sid: &str| sid.bytes().all(|b| b.is_ascii_alphanumeric());
    if of_identity && !sid.is_none_or(alphanumeric) {
        return Err(MalformedPolicy::InvalidSid);
    }
    let mut unreadable = false;
    let reading = Reading {
        variables: form.variables,
        key_policy: form.kind == PolicyKind::Key,
    };
    let conditions = match members.get("Condition") {
        None => Box::default(),
        Some(value) => match condition::parse(value, reading) {
            Err(_) if form.stored && matches!(value, Json::Object(_)) => {
                unreadable = true;
                Box::default()
            }
            conditions => conditions?,
        },
    };
    Ok(Statement {
        deny,
        sid: sid.map(Into::into),
        principals: principals(&members, form.kind)?,
        actions: actions(&members, form)?,
        resources: resources(&members, form)?,
        conditions,
        unreadable,
    })
}

fn principals(
    members: &Members<'_>,
    kind: PolicyKind,
) -> Result<Option<Principals>, MalformedPolicy> {
    let given = members.either("Principal")?;
    match kind {
        PolicyKind::Identity | PolicyKind::Boundary | PolicyKind::Session => match given {
            None => return Ok(None),
            Some(_) => return Err(MalformedPolicy::PrincipalProhibited),
        },
        // Source: IAM User Guide, "NotPrincipal": it cannot be in a role's trust policy.
        PolicyKind::Trust if given.is_some_and(|(except, _)| except) => {
            return Err(syntax("a trust policy has no element NotPrincipal"));
        }
        PolicyKind::Key | PolicyKind::Trust => {}
    }
    let (except, value) = given.ok_or(MalformedPolicy::NoPrincipal)?;
    let named: Box<[NamedPrincipal]> = match value {
        Json::Text(text) if text == "*" => [NamedPrincipal::Anyone].into(),
        Json::Object(kinds) if kinds.is_empty() => return Err(MalformedPolicy::NoPrincipal),
        Json::Object(kinds) => {
            let mut named = Vec::new();
            // In the order of their names: which fault is found first is part of an outcome that
            // released versions have given.
            for (kind, value) in kinds
                .iter()
                .map(|(k, v)| (k, v))
                .collect::<BTreeMap<_, _>>()
            {
                let texts = texts(value).ok_or(MalformedPolicy::InvalidPrincipals)?;
                for text in texts {
                    match kind.as_str() {
                        "AWS" => {
                            named.push(NamedPrincipal::of_policy(text).map_err(invalid_principal)?);
                        }
                        "Service" if !text.is_empty() => {
                            named.push(NamedPrincipal::Service(text.to_owned()));
                        }
                        // Identity providers never ask this service.
                        "Federated" if !text.is_empty() => {}
                        _ => return Err(MalformedPolicy::InvalidPrincipals),
                    }
                }
            }
            named.into()
        }
        _ => return Err(MalformedPolicy::InvalidPrincipals),
    };
    Ok(Some(Principals { except, named }))
}

fn invalid_principal(why: NotAPrincipal) -> MalformedPolicy {
    match why {
        NotAPrincipal::MalformedArn => MalformedPolicy::InvalidArn,
        NotAPrincipal::Invalid => MalformedPolicy::InvalidPrincipals,
    }
}

/// A text, or a list of at least one.
fn texts(value: &Json) -> Option<Vec<&str>> {
    let texts: Option<Vec<&str>> = value.items().iter().map(Json::text).collect();
    texts.filter(|texts| !texts.is_empty())
}

fn actions(members: &Members<'_>, form: Form) -> Result<Texts, MalformedPolicy> {
    let Some((except, value)) = members.either("Action")? else {
        return match form.kind {
            // Accepted, and without an effect.
            PolicyKind::Key => Ok(Texts::Nothing),
            PolicyKind::Identity
            | PolicyKind::Boundary
            | PolicyKind::Session
            | PolicyKind::Trust => Err(MalformedPolicy::NoAction),
        };
    };
    let texts = texts(value).ok_or_else(|| syntax("Action is not a list of texts"))?;
    for text in &texts {
        let vendor = text.split_once(':').map(|(vendor, _)| vendor);
        let is_vendor = vendor.is_some_and(|vendor| {
            !vendor.is_empty() && (vendor.bytes()).all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
        match form.kind {
            PolicyKind::Key => {}
            PolicyKind::Trust => {
                if !vendor.is_some_and(|vendor| vendor.eq_ignore_ascii_case("sts")) {
                    return Err(MalformedPolicy::NotAnAssumeRoleAction);
                }
            }
            PolicyKind::Identity | PolicyKind::Boundary | PolicyKind::Session => {
                if *text != "*" && !is_vendor {
                    return Err(MalformedPolicy::NoVendor);
                }
            }
        }
    }
    let patterns = (texts.iter())
        .map(|text| Pattern::parse(&text.to_ascii_lowercase(), false))
        .collect::<Result<_, _>>()
        .expect("texts without variables are patterns");
    Ok(match except {
        false => Texts::Of(patterns),
        true => Texts::AllBut(patterns),
    })
}

fn resources(members: &Members<'_>, form: Form) -> Result<Texts, MalformedPolicy> {
    let given = members.either("Resource")?;
    let Some((except, value)) = given else {
        return match form.kind {
            // Accepted, and without an effect.
            PolicyKind::Key => Ok(Texts::Nothing),
            PolicyKind::Trust => Ok(Texts::Everything),
            PolicyKind::Identity | PolicyKind::Boundary | PolicyKind::Session => {
                Err(MalformedPolicy::NoResource)
            }
        };
    };
    if form.kind == PolicyKind::Trust {
        return Err(MalformedPolicy::ResourceProhibited);
    }
    let texts = texts(value).ok_or_else(|| syntax("Resource is not a list of texts"))?;
    let mut patterns = Vec::new();
    for text in texts {
        if form.kind != PolicyKind::Key && text != "*" && !text.starts_with("arn:") {
            return Err(MalformedPolicy::ResourceNotArn {
                resource: text.to_owned(),
            });
        }
        let pattern = Pattern::parse(text, form.variables).or_else(|bad| match form.stored {
            true => Pattern::parse(text, false),
            false => Err(bad),
        });
        patterns.push(pattern.map_err(|_| syntax(format!("{text:?} is not a resource")))?);
    }
    Ok(match except {
        false => Texts::Of(patterns.into()),
        true => Texts::AllBut(patterns.into()),
    })
}
