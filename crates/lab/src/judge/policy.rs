//! What a key policy certainly does not allow. Whatever is not plain counts as allowed.

use serde_json::Value;

/// Whether a policy may let an account's callers make a call. If this is false, it certainly does not.
pub(super) fn may_allow(policy: &str, account: &str, operation: &str) -> bool {
    let Ok(policy) = serde_json::from_str::<Value>(policy) else {
        return true;
    };
    let mut statements = one_or_many(&policy["Statement"]);
    statements.any(|statement| {
        statement["Effect"] != "Deny"
            && may_be_of(statement, account)
            && may_be_about(statement, operation)
    }) && !denies_everybody(&policy, operation)
}

/// Whether a policy forbids everybody a call, whatever rights they have.
pub(super) fn denies_all(policy: &str, operation: &str) -> bool {
    let policy = serde_json::from_str::<Value>(policy);
    policy.is_ok_and(|policy| denies_everybody(&policy, operation))
}

fn denies_everybody(policy: &Value, operation: &str) -> bool {
    let mut statements = one_or_many(&policy["Statement"]);
    statements.any(|statement| {
        let everybody = statement["Principal"] == "*" || statement["Principal"]["AWS"] == "*";
        let certain = statement.get("Condition").is_none() && statement.get("NotAction").is_none();
        let always = one_or_many(&statement["Resource"]).any(|resource| resource == "*");
        statement["Effect"] == "Deny"
            && everybody
            && certain
            && always
            && may_be_about(statement, operation)
    })
}

fn may_be_of(statement: &Value, account: &str) -> bool {
    let principal = match statement.get("Principal") {
        // NotPrincipal, or something else that is not plain.
        None => return true,
        Some(Value::String(one)) => return one == "*",
        Some(principal) => &principal["AWS"],
    };
    one_or_many(principal).any(|one| {
        one.as_str()
            .is_none_or(|one| one == "*" || one.contains(account))
    })
}

fn may_be_about(statement: &Value, operation: &str) -> bool {
    if statement.get("Action").is_none() {
        return true;
    }
    one_or_many(&statement["Action"]).any(|action| {
        let Some(action) = action.as_str() else {
            return true;
        };
        let action = action.to_ascii_lowercase();
        let wanted = format!("kms:{}", operation.to_ascii_lowercase());
        matches(&action, &wanted)
    })
}

/// Whether a pattern with `*` and `?` fits a text, both of ASCII.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.as_bytes() {
        [] => text.is_empty(),
        [b'*', ..] => (0..=text.len()).any(|from| matches(&pattern[1..], &text[from..])),
        [b'?', ..] => !text.is_empty() && matches(&pattern[1..], &text[1..]),
        [one, ..] => text.as_bytes().first() == Some(one) && matches(&pattern[1..], &text[1..]),
    }
}

fn one_or_many(value: &Value) -> impl Iterator<Item = &Value> {
    let (one, many) = match value {
        Value::Array(many) => (None, many.as_slice()),
        Value::Null => (None, &[][..]),
        one => (Some(one), &[][..]),
    };
    one.into_iter().chain(many)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Catches a policy that is read as forbidding what it allows, or a plain one that is not read.
    #[test]
    fn plain_policies_are_read() {
        let policy = |statements: Value| json!({ "Statement": statements }).to_string();
        let owner = json!({ "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::111122223333:root" },
            "Action": "kms:*", "Resource": "*" });
        let guest = json!({ "Effect": "Allow", "Principal": { "AWS": ["arn:aws:iam::444455556666:root"] },
            "Action": ["kms:Enc*"], "Resource": "*" });
        let closed = policy(json!([owner]));
        let open = policy(json!([owner, guest]));
        let allows = |policy: &str, operation| may_allow(policy, "444455556666", operation);
        assert!(!allows(&closed, "Encrypt"));
        assert!(allows(&open, "Encrypt") && !allows(&open, "Decrypt"));
        assert!(may_allow(&closed, "111122223333", "Encrypt"));
        assert!(allows("no policy", "Encrypt"), "not plain");
        let deny = json!({ "Effect": "Deny", "Principal": { "AWS": "*" }, "Action": "kms:Encrypt",
            "Resource": "*" });
        let denied = policy(json!([owner, guest, deny]));
        assert!(denies_all(&denied, "Encrypt") && !denies_all(&denied, "Decrypt"));
        assert!(!allows(&denied, "Encrypt"));
        let mut sometimes = deny;
        sometimes["Condition"] = json!({ "Bool": { "kms:GrantIsForAWSResource": "true" } });
        assert!(!denies_all(&policy(json!([owner, sometimes])), "Encrypt"));
    }
}
