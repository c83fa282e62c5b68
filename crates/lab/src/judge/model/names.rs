//! What calls name: keys, aliases, grants, in their inputs, answers and refusals.

use serde_json::Value;

use crate::experiment::{Call, Outcome};

/// What an input's `KeyId` may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::judge) enum Named {
    Key(String),
    Alias(String),
}

/// Reads an id, an alias or an ARN of either; `None` if it is none, or of another Region.
pub(in crate::judge) fn named(text: &str, region: &str) -> Option<Named> {
    let resource = match text.strip_prefix("arn:") {
        None => text,
        Some(arn) => {
            // partition:kms:region:account:resource
            let mut parts = arn.splitn(5, ':');
            let its = parts.nth(2)?;
            let resource = parts.nth(1)?;
            if its != region {
                return None;
            }
            resource
        }
    };
    if resource.starts_with("alias/") {
        return Some(Named::Alias(resource.to_owned()));
    }
    let id = resource.strip_prefix("key/").unwrap_or(resource);
    (!id.is_empty()).then(|| Named::Key(id.to_owned()))
}

/// The account in an ARN.
pub(in crate::judge) fn account(arn: &str) -> Option<&str> {
    arn.strip_prefix("arn:")?.split(':').nth(3)
}

/// A member of an input or answer that is a text.
pub(in crate::judge) fn text<'v>(value: &'v Value, member: &str) -> Option<&'v str> {
    value[member].as_str()
}

/// The id in a member that names a key of this Region.
pub(in crate::judge) fn key_in(value: &Value, member: &str, region: &str) -> Option<String> {
    match named(text(value, member)?, region)? {
        Named::Key(id) => Some(id),
        Named::Alias(_) => None,
    }
}

/// The alias that a call names its key by.
pub(in crate::judge) fn alias_used(call: &Call) -> Option<String> {
    match named(text(&call.input, "KeyId")?, &call.region)? {
        Named::Alias(alias) => Some(alias),
        Named::Key(_) => None,
    }
}

/// The metadata in an answer of CreateKey or DescribeKey.
pub(in crate::judge) fn metadata(answer: &Value) -> Option<&Value> {
    answer.get("KeyMetadata")
}

/// The member of the input that names the key which a call is about.
fn key_member(operation: &str) -> &'static str {
    match operation {
        "CreateAlias" | "UpdateAlias" => "TargetKeyId",
        "ReEncrypt" => "DestinationKeyId",
        _ => "KeyId",
    }
}

/// The id of the key that a call is about, in its own Region: as its answer or refusal has it, else
/// as its input does.
pub(in crate::judge) fn key_of(call: &Call) -> Option<String> {
    let region = &call.region;
    let answered = match &call.outcome {
        Outcome::Done(answer) => {
            let metadata = metadata(answer).and_then(|all| key_in(all, "KeyId", region));
            metadata.or_else(|| key_in(answer, "KeyId", region))
        }
        Outcome::Refused { message, .. } => {
            arn_in(message).and_then(|arn| match named(arn, region) {
                Some(Named::Key(id)) => Some(id),
                _ => None,
            })
        }
        Outcome::NotDone(_) | Outcome::Unknown(_) => None,
    };
    answered.or_else(|| key_in(&call.input, key_member(&call.operation), region))
}

/// The first ARN in a message, without what surrounds it.
pub(in crate::judge) fn arn_in(message: &str) -> Option<&str> {
    let from = message.find("arn:")?;
    let rest = &message[from..];
    let end = rest.find(|c: char| c.is_whitespace() || c == '\'' || c == '"');
    Some(rest[..end.unwrap_or(rest.len())].trim_end_matches(['.', ',', ';']))
}

/// Whether an answer is all that there is to list: one page that nothing follows or precedes.
pub(in crate::judge) fn is_whole(call: &Call, answer: &Value) -> bool {
    answer["Truncated"] != true && call.input.get("Marker").is_none_or(Value::is_null)
}

/// The items of a list in an answer.
pub(in crate::judge) fn items<'v>(answer: &'v Value, member: &str) -> &'v [Value] {
    answer[member].as_array().map_or(&[], Vec::as_slice)
}

/// A policy, the same for all ways to write it.
pub(in crate::judge) fn policy(text: &str) -> String {
    serde_json::from_str::<Value>(text).map_or_else(|_| text.to_owned(), |read| read.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a name that is taken for another kind's or another Region's.
    #[test]
    fn names_are_read() {
        let key = |text: &str| named(text, "us-east-1");
        assert_eq!(key("abc"), Some(Named::Key("abc".into())));
        let arn = "arn:aws:kms:us-east-1:000000000000:key/mrk-1";
        assert_eq!(key(arn), Some(Named::Key("mrk-1".into())));
        assert_eq!(named(arn, "eu-west-1"), None, "elsewhere");
        let alias = "arn:aws:kms:us-east-1:000000000000:alias/a";
        assert_eq!(key(alias), Some(Named::Alias("alias/a".into())));
        assert_eq!(account(arn), Some("000000000000"));
        let inside = |message: &str| arn_in(message).map(str::to_owned);
        assert_eq!(inside(&format!("{arn} is disabled.")), Some(arn.into()));
        assert_eq!(
            inside(&format!("Key '{arn}' does not exist")),
            Some(arn.into())
        );
        assert_eq!(inside("nothing"), None);
    }
}
