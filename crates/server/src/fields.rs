//! A checked request's members, taken out by name.
//!
//! The validator has seen every value, so a member has its model's type or is absent. A name that
//! the operation lacks would always read as absent: debug builds stop at it.

use std::collections::BTreeMap;

use keyrum_types::UnixMillis;

use crate::json::{Blob, Members, Value};
use crate::model::Member;

/// Members of an operation's input or of a structure in it. Names the model lacks are still in
/// here and never asked for.
pub(crate) struct Fields<'a> {
    members: Members<'a>,
    /// What the model knows; empty for structures inside others.
    known: &'static [Member],
}

impl<'a> Fields<'a> {
    /// Wraps what the validator has passed.
    pub(crate) fn new(members: Members<'a>, known: &'static [Member]) -> Self {
        Self { members, known }
    }

    fn inner(members: Members<'a>) -> Self {
        Self {
            members,
            known: &[],
        }
    }

    fn take(&mut self, name: &str) -> Value<'a> {
        debug_assert!(
            self.known.is_empty() || self.known.iter().any(|member| member.name == name),
            "{name} is no member of this operation"
        );
        let found = self
            .members
            .iter_mut()
            .rev()
            .find(|(known, _)| known == name);
        found.map_or(Value::Null, |(_, value)| {
            std::mem::replace(value, Value::Null)
        })
    }

    /// A member's value, which stays.
    pub(crate) fn look(&self, name: &str) -> Option<&Value<'a>> {
        crate::json::find(&self.members, name)
    }

    /// A string.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        if let Value::Text(text) = self.take(name) {
            Some(text.into_owned())
        } else {
            None
        }
    }

    /// A string the model requires.
    pub(crate) fn required_text(&mut self, name: &str) -> String {
        self.text(name).unwrap_or_default()
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&mut self, name: &str) -> Option<bool> {
        if let Value::Bool(value) = self.take(name) {
            Some(value)
        } else {
            None
        }
    }

    /// A whole number; the validator bounds it where the model does.
    pub(crate) fn integer(&mut self, name: &str) -> Option<i64> {
        let Value::Number(number) = self.take(name) else {
            return None;
        };
        number.whole().and_then(|whole| i64::try_from(whole).ok())
    }

    /// A date, in seconds since 1970 with up to three digits that count behind the point; one before
    /// that is its beginning.
    pub(crate) fn time(&mut self, name: &str) -> Option<UnixMillis> {
        let Value::Number(number) = self.take(name) else {
            return None;
        };
        Some(number.time())
    }

    /// Bytes.
    pub(crate) fn blob(&mut self, name: &str) -> Option<Blob> {
        if let Value::Blob(blob) = self.take(name) {
            Some(blob)
        } else {
            None
        }
    }

    /// A map from strings to strings; of repeated keys the last one counts.
    pub(crate) fn map(&mut self, name: &str) -> Option<BTreeMap<String, String>> {
        let Value::Object(members) = self.take(name) else {
            return None;
        };
        let text = |(key, value): (std::borrow::Cow<'a, str>, Value<'a>)| match value {
            Value::Text(text) => Some((key.into_owned(), text.into_owned())),
            _ => None,
        };
        Some(members.into_iter().filter_map(text).collect())
    }

    /// A list of strings.
    pub(crate) fn texts(&mut self, name: &str) -> Option<Vec<String>> {
        let Value::List(values) = self.take(name) else {
            return None;
        };
        let text = |value| {
            if let Value::Text(text) = value {
                Some(text.into_owned())
            } else {
                None
            }
        };
        Some(values.into_iter().filter_map(text).collect())
    }

    /// A list of structures.
    pub(crate) fn structures(&mut self, name: &str) -> Option<Vec<Fields<'a>>> {
        let Value::List(values) = self.take(name) else {
            return None;
        };
        let fields = |value| {
            if let Value::Object(members) = value {
                Some(Fields::inner(members))
            } else {
                None
            }
        };
        Some(values.into_iter().filter_map(fields).collect())
    }

    /// A structure.
    pub(crate) fn structure(&mut self, name: &str) -> Option<Fields<'a>> {
        if let Value::Object(members) = self.take(name) {
            Some(Fields::inner(members))
        } else {
            None
        }
    }
}
