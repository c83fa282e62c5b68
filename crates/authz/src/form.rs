//! Key policies as Regions below feature level 4 check them: their form, and a lockout check that
//! does not look at conditions. Logs of that time must give the same outcomes for good.
//!
//! Source: AWS KMS Developer Guide, "Key policies" and "Default key policy"; IAM User Guide,
//! "Grammar of the IAM JSON policy language".

use std::collections::BTreeMap;

use keyrum_types::AccountId;
use serde_json::{Map, Value};

use crate::malformed::{MalformedPolicy, syntax};
use crate::principal::{NamedPrincipal, NotAPrincipal};

/// Members deeper than this are refused; a well-formed policy needs six. Keeps the parser's
/// recursion bounded by us and not by a library's default.
const DEPTH_MAX: usize = 32;

/// Checks that `text` may become the policy of the key `key_arn` of `account`.
///
/// `bypass` switches the lockout check off (`BypassPolicyLockoutSafetyCheck`), nothing else. The
/// check asks whether some Allow statement covers the caller, kms:PutKeyPolicy and the key, and
/// no Deny statement does. Conditions are not evaluated yet: an Allow that has some counts, a
/// Deny that has some does not.
pub fn check_policy(
    text: &str,
    caller_arn: &str,
    account: AccountId,
    key_arn: &str,
    bypass: bool,
) -> Result<(), MalformedPolicy> {
    let statements = parse(text)?;
    if bypass {
        return Ok(());
    }
    let covers = |statement: &Statement| {
        statement.principals.covers(caller_arn, account)
            && statement.actions.covers("kms:PutKeyPolicy", true)
            && statement.resources.covers(key_arn, false)
    };
    let allowed = statements.iter().any(|s| s.allow && covers(s));
    let denied = statements
        .iter()
        .any(|s| !s.allow && !s.conditional && covers(s));
    if allowed && !denied {
        Ok(())
    } else {
        Err(MalformedPolicy::LocksCallerOut)
    }
}

/// What the lockout check needs of a statement.
struct Statement {
    allow: bool,
    conditional: bool,
    principals: Principals,
    actions: Patterns,
    resources: Patterns,
}

/// `Principal`, or with `except` `NotPrincipal`.
struct Principals {
    except: bool,
    named: Vec<NamedPrincipal>,
}

impl Principals {
    fn covers(&self, caller: &str, account: AccountId) -> bool {
        self.named.iter().any(|named| named.covers(caller, account)) != self.except
    }
}

/// `Action` or `Resource`, or with `except` their `Not` forms. `None`: the member is absent,
/// which is accepted and has no effect.
struct Patterns(Option<(bool, Vec<String>)>);

impl Patterns {
    fn covers(&self, text: &str, ignore_case: bool) -> bool {
        let Some((except, patterns)) = &self.0 else {
            return false;
        };
        let fold = |s: &str| {
            if ignore_case {
                s.to_ascii_lowercase()
            } else {
                s.to_owned()
            }
        };
        patterns
            .iter()
            .any(|pattern| matches(&fold(pattern), &fold(text)))
            != *except
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for any run of bytes and `?` for one.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // The last `*` seen and how much of the text it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == b'?' || pattern[p] == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            p = at + 1;
            t = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

fn parse(text: &str) -> Result<Vec<Statement>, MalformedPolicy> {
    let too_deep = depth(text) > DEPTH_MAX;
    // The parser's own message is left out: it could change with the library, and the outcome
    // of a command must not.
    let value = if too_deep {
        None
    } else {
        serde_json::from_str(text).ok()
    };
    let Some(Value::Object(policy)) = value else {
        return Err(syntax("the policy is not a JSON object"));
    };
    match policy.get("Version") {
        None => {}
        Some(Value::String(version)) if version == "2012-10-17" || version == "2008-10-17" => {}
        Some(_) => return Err(MalformedPolicy::UnknownVersion),
    }
    let statements = match policy.get("Statement") {
        Some(Value::Array(statements)) if !statements.is_empty() => statements.as_slice(),
        Some(one @ Value::Object(_)) => std::slice::from_ref(one),
        None | Some(Value::Array(_)) => return Err(MalformedPolicy::NoStatement),
        Some(_) => return Err(syntax("Statement is not a list")),
    };
    statements.iter().map(statement).collect()
}

/// How deeply brackets nest, strings skipped. Enough to bound recursion; not a parser.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn statement(value: &Value) -> Result<Statement, MalformedPolicy> {
    let Value::Object(members) = value else {
        return Err(syntax("a statement is not an object"));
    };
    let allow = match members.get("Effect").and_then(Value::as_str) {
        Some("Allow") => true,
        Some("Deny") => false,
        _ => return Err(MalformedPolicy::InvalidEffect),
    };
    let conditional = match members.get("Condition") {
        None => false,
        Some(Value::Object(condition)) => !condition.is_empty(),
        Some(_) => return Err(syntax("Condition is not an object")),
    };
    Ok(Statement {
        allow,
        conditional,
        principals: principals(members)?,
        actions: patterns(members, "Action", "NotAction")?,
        resources: patterns(members, "Resource", "NotResource")?,
    })
}

fn principals(members: &Map<String, Value>) -> Result<Principals, MalformedPolicy> {
    let (except, value) = match (members.get("Principal"), members.get("NotPrincipal")) {
        (None, None) => return Err(MalformedPolicy::NoPrincipal),
        (Some(value), None) => (false, value),
        (None, Some(value)) => (true, value),
        (Some(_), Some(_)) => return Err(syntax("both Principal and NotPrincipal")),
    };
    let named = match value {
        Value::String(text) if text == "*" => vec![NamedPrincipal::Anyone],
        Value::Object(kinds) if kinds.is_empty() => return Err(MalformedPolicy::NoPrincipal),
        Value::Object(kinds) => {
            let mut named = Vec::new();
            // Sorted here, since the map's own order is a feature of the parser's build and the
            // first fault found is part of a replicated outcome.
            for (kind, value) in kinds.iter().collect::<BTreeMap<_, _>>() {
                let texts = texts(value).ok_or(MalformedPolicy::InvalidPrincipals)?;
                match kind.as_str() {
                    "AWS" => {
                        for text in texts {
                            named.push(NamedPrincipal::parse(text).map_err(invalid_principal)?);
                        }
                    }
                    // Services and identity providers never are the caller of an API request.
                    "Service" | "Federated" if texts.iter().all(|text| !text.is_empty()) => {}
                    _ => return Err(MalformedPolicy::InvalidPrincipals),
                }
            }
            named
        }
        _ => return Err(MalformedPolicy::InvalidPrincipals),
    };
    Ok(Principals { except, named })
}

fn invalid_principal(why: NotAPrincipal) -> MalformedPolicy {
    match why {
        NotAPrincipal::MalformedArn => MalformedPolicy::InvalidArn,
        NotAPrincipal::Invalid => MalformedPolicy::InvalidPrincipals,
    }
}

fn patterns(
    members: &Map<String, Value>,
    name: &str,
    not_name: &str,
) -> Result<Patterns, MalformedPolicy> {
    let (except, value) = match (members.get(name), members.get(not_name)) {
        (None, None) => return Ok(Patterns(None)),
        (Some(value), None) => (false, value),
        (None, Some(value)) => (true, value),
        (Some(_), Some(_)) => return Err(syntax(format!("both {name} and {not_name}"))),
    };
    let texts = texts(value).ok_or_else(|| syntax(format!("{name} is not a list of texts")))?;
    Ok(Patterns(Some((
        except,
        texts.into_iter().map(str::to_owned).collect(),
    ))))
}

/// A text, or a list of at least one.
fn texts(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(items) if !items.is_empty() => items.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
