//! The one validator: a request's JSON against the service model, for every operation.
//!
//! Two kinds of findings. A value of the wrong JSON type ends the check at once with a
//! SerializationException. Values that break a constraint are collected in the model's order of
//! members and reported together in one ValidationException; its grammar is the real service's.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::ApiError;
use crate::fields::Fields;
use crate::json::{self, Blob, Members, Value};
use crate::model::{Kind, Model, Operation, Shape, ShapeId};

/// Most findings one answer lists. Deviation: the real service's limit is not known; without one,
/// a request of a megabyte could ask for an answer of sixty.
const FINDINGS_MAX: usize = 100;

/// Checks a request's body and turns it into the operation's fields.
pub(crate) fn check<'a>(operation: &Operation, body: &'a [u8]) -> Result<Fields<'a>, ApiError> {
    let Some(Value::Object(mut members)) = json::parse(body) else {
        return Err(ApiError::serialization(""));
    };
    let mut validator = Validator {
        model: Model::get(),
        findings: Vec::new(),
    };
    validator.structure(operation.input, &mut members, None)?;
    if validator.findings.is_empty() {
        let known = validator.model.members(operation.input);
        return Ok(Fields::new(members, known));
    }
    let count = validator.findings.len();
    let errors = if count == 1 { "error" } else { "errors" };
    let findings = validator.findings.join("; ");
    Err(ApiError::validation(format!(
        "{count} validation {errors} detected: {findings}"
    )))
}

struct Validator {
    model: &'static Model,
    findings: Vec<String>,
}

/// Where a value is: the way back to the top, so that nothing is built unless it is shown.
#[derive(Clone, Copy)]
struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Member(&'static str),
    /// Counted from 0; shown from 1.
    Entry(usize),
    Key(&'p str),
}

impl Path<'_> {
    fn show(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.show(out);
            out.push('.');
        }
        match self.step {
            Step::Member(name) => {
                let mut chars = name.chars();
                out.extend(chars.next().map(|first| first.to_ascii_lowercase()));
                out.push_str(chars.as_str());
            }
            // `tags.1.member.tagKey`; the real service's form for entries that are not
            // structures is taken to be the same.
            Step::Entry(index) => {
                let _ = write!(out, "{}.member", index + 1);
            }
            Step::Key(key) => {
                echo(key, out);
                out.push_str(".member");
            }
        }
    }
}

/// Why checking stopped: the text of a SerializationException.
struct WrongType(String);

impl From<WrongType> for ApiError {
    fn from(wrong: WrongType) -> Self {
        Self::serialization(wrong.0)
    }
}

impl Validator {
    fn structure(
        &mut self,
        id: ShapeId,
        members: &mut Members<'_>,
        parent: Option<&Path<'_>>,
    ) -> Result<(), WrongType> {
        for member in self.model.members(id) {
            let path = Path {
                parent,
                step: Step::Member(member.name),
            };
            // Of repeated members the last one counts. A null is an absent member.
            let found = members
                .iter_mut()
                .rev()
                .find(|(name, _)| name == member.name);
            match found {
                Some((_, value)) if !matches!(value, Value::Null) => {
                    self.value(member.shape, value, &path)?;
                }
                _ if member.required => self.missing(member.shape, &path),
                _ => {}
            }
        }
        Ok(())
    }

    fn value(
        &mut self,
        id: ShapeId,
        value: &mut Value<'_>,
        path: &Path<'_>,
    ) -> Result<(), WrongType> {
        let shape = self.model.shape(id);
        match (&shape.kind, &mut *value) {
            (Kind::Text, Value::Text(text)) => self.text(shape, text, path),
            (Kind::Blob, Value::Text(text)) => {
                let decoded = STANDARD.decode(text.as_bytes());
                let blob =
                    Blob::new(decoded.map_err(|_| WrongType("Invalid Base64 value".to_owned()))?);
                self.length(shape, blob.len(), path, |out| out.push_str("Value"));
                *value = Value::Blob(blob);
            }
            (Kind::Boolean, Value::Bool(_)) | (Kind::Timestamp, Value::Number(_)) => {}
            (Kind::Integer, Value::Number(number)) => {
                let Some(whole) = number.whole() else {
                    return Err(cannot_convert(value, "an Integer"));
                };
                let shown = *number;
                self.bounds(shape, whole, path, "value", |out| {
                    let _ = write!(out, "Value '{shown}'");
                });
            }
            (Kind::List(entry), Value::List(values)) => {
                let count = values.len();
                self.length(shape, count, path, |out| {
                    out.push_str("Value '[");
                    for (index, value) in values.iter().enumerate() {
                        out.push_str(if index > 0 { ", " } else { "" });
                        if let Value::Text(text) = value {
                            echo(text, out);
                        }
                    }
                    out.push_str("]'");
                });
                for (index, value) in values.iter_mut().enumerate() {
                    self.entry(
                        *entry,
                        value,
                        &Path {
                            parent: Some(path),
                            step: Step::Entry(index),
                        },
                    )?;
                }
            }
            (Kind::Map(entry), Value::Object(members)) => {
                for (key, value) in members {
                    self.entry(
                        *entry,
                        value,
                        &Path {
                            parent: Some(path),
                            step: Step::Key(key),
                        },
                    )?;
                }
            }
            (Kind::Structure(_), Value::Object(members)) => {
                self.structure(id, members, Some(path))?;
            }
            (kind, wrong) => return Err(wrong_type(kind, wrong)),
        }
        Ok(())
    }

    /// An entry of a list or map; unlike a member it cannot be absent.
    fn entry(
        &mut self,
        id: ShapeId,
        value: &mut Value<'_>,
        path: &Path<'_>,
    ) -> Result<(), WrongType> {
        if matches!(value, Value::Null) {
            self.missing(id, path);
            return Ok(());
        }
        self.value(id, value, path)
    }

    fn text(&mut self, shape: &Shape, text: &str, path: &Path<'_>) {
        let show = |out: &mut String| {
            if shape.sensitive {
                out.push_str("Value");
            } else {
                out.push_str("Value '");
                echo(text, out);
                out.push('\'');
            }
        };
        if shape.min.is_some() || shape.max.is_some() {
            // Counting characters is only worth it when bytes could be too many or too few.
            let bytes = text.len();
            let chars = if text.is_ascii() {
                bytes
            } else {
                text.chars().count()
            };
            self.length(shape, chars, path, show);
        }
        if let Some(values) = &shape.values
            && !values.accept(text)
        {
            let shown = &values.shown;
            self.add(path, show, |out| {
                let _ = write!(out, "Member must satisfy enum value set: {shown}");
            });
        }
        if let Some(pattern) = &shape.pattern
            && !pattern.matches(text)
        {
            self.add(path, show, |out| {
                out.push_str("Member must satisfy regular expression pattern: ");
                out.push_str(pattern.shown);
            });
        }
    }

    fn length(
        &mut self,
        shape: &Shape,
        length: usize,
        path: &Path<'_>,
        show: impl Fn(&mut String),
    ) {
        self.bounds(shape, length as i128, path, "length", show);
    }

    fn bounds(
        &mut self,
        shape: &Shape,
        size: i128,
        path: &Path<'_>,
        what: &str,
        show: impl Fn(&mut String),
    ) {
        if let Some(min) = shape.min
            && size < i128::from(min)
        {
            self.add(path, &show, |out| {
                let _ = write!(
                    out,
                    "Member must have {what} greater than or equal to {min}"
                );
            });
        }
        if let Some(max) = shape.max
            && size > i128::from(max)
        {
            self.add(path, &show, |out| {
                let _ = write!(out, "Member must have {what} less than or equal to {max}");
            });
        }
    }

    fn missing(&mut self, id: ShapeId, path: &Path<'_>) {
        // Of a sensitive blob not even its absence is shown.
        let shown = if self.model.shape(id).sensitive {
            "Value"
        } else {
            "Value null"
        };
        self.add(
            path,
            |out| out.push_str(shown),
            |out| out.push_str("Member must not be null"),
        );
    }

    #[cold]
    fn add(
        &mut self,
        path: &Path<'_>,
        show: impl FnOnce(&mut String),
        constraint: impl FnOnce(&mut String),
    ) {
        if self.findings.len() == FINDINGS_MAX {
            return;
        }
        let mut finding = String::new();
        show(&mut finding);
        finding.push_str(" at '");
        path.show(&mut finding);
        finding.push_str("' failed to satisfy constraint: ");
        constraint(&mut finding);
        self.findings.push(finding);
    }
}

/// A caller's value as messages show it.
fn echo(text: &str, out: &mut String) {
    out.extend(text.chars().map(|c| if c.is_ascii() { c } else { '?' }));
}

/// The text for a value of the wrong JSON type, as services of the real one's make give it.
#[cold]
fn wrong_type(kind: &Kind, value: &Value<'_>) -> WrongType {
    let target = match kind {
        Kind::List(_) => return WrongType("Expected list or null".to_owned()),
        Kind::Map(_) | Kind::Structure(_) => return WrongType("Expected map or null".to_owned()),
        Kind::Text => "a String",
        Kind::Blob => "a Blob",
        Kind::Boolean => "a Boolean",
        Kind::Integer => "an Integer",
        Kind::Timestamp => "milliseconds since epoch",
    };
    cannot_convert(value, target)
}

#[cold]
fn cannot_convert(value: &Value<'_>, target: &str) -> WrongType {
    let token = match value {
        Value::Object(_) => {
            return WrongType("Start of structure or map found where not expected.".to_owned());
        }
        Value::List(_) => return WrongType("Start of list found where not expected.".to_owned()),
        Value::Null => "NULL_VALUE",
        Value::Bool(true) => "TRUE_VALUE",
        Value::Bool(false) => "FALSE_VALUE",
        Value::Number(_) => "NUMBER_VALUE",
        Value::Text(_) | Value::Blob(_) => "STRING_VALUE",
    };
    WrongType(format!("{token} can not be converted to {target}"))
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
