//! A request's JSON as a tree that borrows from the request's bytes, and an answer's JSON as bytes.
//!
//! The tree keeps members in the order sent, because the service model's own order is read with
//! it too, and keeps repeated members: the last one counts. Nesting is bounded by `serde_json`
//! (128 levels), so neither reading, checking nor dropping a tree can exhaust the stack.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyrum_types::UnixMillis;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Any JSON value, and the two forms that checking turns it into.
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    /// A blob member's text, decoded by the validator.
    Blob(Blob),
    List(Vec<Value<'a>>),
    Object(Members<'a>),
}

/// An object's members in the order sent, repeated ones included.
pub(crate) type Members<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// Decoded bytes of a blob; a plaintext as often as not, so they are wiped when dropped.
pub(crate) type Blob = zeroize::Zeroizing<Vec<u8>>;

/// A JSON number without loss where an API value could need it.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Number {
    Int(i64),
    /// Only above `i64::MAX`.
    Large(u64),
    Float(f64),
}

impl Number {
    /// The number if it is whole; 64 bits hold every limit of the model.
    pub(crate) fn whole(self) -> Option<i128> {
        match self {
            Self::Int(int) => Some(i128::from(int)),
            Self::Large(int) => Some(i128::from(int)),
            // Casting saturates, so that 1e300 is merely far out of every range.
            Self::Float(float) if float.fract() == 0.0 => Some(float as i128),
            Self::Float(_) => None,
        }
    }
}

impl Number {
    /// A date in seconds since 1970, with up to three digits that count behind the point; one before
    /// that is its beginning.
    pub(crate) fn time(self) -> UnixMillis {
        // Casts saturate.
        UnixMillis(match (self.whole(), self) {
            (Some(whole), _) => u64::try_from(whole.max(0))
                .unwrap_or(u64::MAX)
                .saturating_mul(1000),
            (None, Self::Float(float)) => (float * 1000.0).round() as u64,
            (None, Self::Int(_) | Self::Large(_)) => unreachable!("these are whole"),
        })
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(int) => int.fmt(f),
            Self::Large(int) => int.fmt(f),
            Self::Float(float) => float.fmt(f),
        }
    }
}

/// Reads one JSON value that fills all of `bytes`; `None` if they are anything else.
pub(crate) fn parse(bytes: &[u8]) -> Option<Value<'_>> {
    serde_json::from_slice(bytes).ok()
}

/// The member called `name`, the last one if it was repeated; JSON's null counts as absent.
pub(crate) fn find<'v, 'a>(
    members: &'v [(Cow<'a, str>, Value<'a>)],
    name: &str,
) -> Option<&'v Value<'a>> {
    let (_, value) = members.iter().rev().find(|(known, _)| known == name)?;
    if matches!(value, Value::Null) {
        None
    } else {
        Some(value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Tree)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Value::Number(Number::Int(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Value::Number(
            i64::try_from(value).map_or(Number::Large(value), Number::Int),
        ))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Value::Number(Number::Float(value)))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(4);
        while let Some(Text(name)) = map.next_key()? {
            members.push((name, map.next_value()?));
        }
        Ok(Value::Object(members))
    }
}

/// A member's name: `Cow`'s own implementation never borrows.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl<'de> Visitor<'de> for Name {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }
            fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(value)))
            }
            fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(value.to_owned())))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

/// Writes one JSON object, member by member, straight into the answer's bytes.
///
/// By hand, because an answer's largest part is a base64 text: a serializer would look at each of
/// its bytes for something to escape.
pub(crate) struct ObjectWriter {
    out: Vec<u8>,
    first: bool,
}

impl ObjectWriter {
    /// Starts an object.
    pub(crate) fn new() -> Self {
        Self::with_capacity(256)
    }

    /// Starts an object of about `bytes` bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut out = Vec::with_capacity(bytes);
        out.push(b'{');
        Self { out, first: true }
    }

    /// Goes on with an object that is not ended.
    pub(crate) fn resume(out: Vec<u8>) -> Self {
        let first = out.last() == Some(&b'{');
        Self { out, first }
    }

    /// Ends the object.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }

    fn name(&mut self, name: &'static str) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// A string.
    pub(crate) fn text(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.name(name);
        write_text(&mut self.out, value);
        self
    }

    /// A string, if there is one.
    pub(crate) fn text_if(&mut self, name: &'static str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value {
            self.text(name, value);
        }
        self
    }

    /// A value that is JSON already.
    pub(crate) fn raw(&mut self, name: &'static str, json: &[u8]) -> &mut Self {
        self.name(name);
        self.out.extend_from_slice(json);
        self
    }

    /// Text that needs no escape, such as an id.
    pub(crate) fn plain(&mut self, name: &'static str, text: &[u8]) -> &mut Self {
        self.name(name);
        self.out.push(b'"');
        self.out.extend_from_slice(text);
        self.out.push(b'"');
        self
    }

    /// A whole number.
    pub(crate) fn number(&mut self, name: &'static str, value: u64) -> &mut Self {
        self.name(name);
        self.out.extend_from_slice(value.to_string().as_bytes());
        self
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&mut self, name: &'static str, value: bool) -> &mut Self {
        self.name(name);
        self.out
            .extend_from_slice(if value { b"true" } else { b"false" });
        self
    }

    /// A point in time: seconds with three digits after the point.
    pub(crate) fn time(&mut self, name: &'static str, value: UnixMillis) -> &mut Self {
        self.name(name);
        self.out.extend_from_slice(value.to_string().as_bytes());
        self
    }

    /// A point in time, if there is one.
    pub(crate) fn time_if(&mut self, name: &'static str, value: Option<UnixMillis>) -> &mut Self {
        if let Some(value) = value {
            self.time(name, value);
        }
        self
    }

    /// Bytes as base64.
    pub(crate) fn blob(&mut self, name: &'static str, value: &[u8]) -> &mut Self {
        self.name(name);
        self.out.push(b'"');
        let start = self.out.len();
        self.out.resize(start + value.len().div_ceil(3) * 4, 0);
        STANDARD
            .encode_slice(value, &mut self.out[start..])
            .expect("padded base64 takes exactly four bytes for every three");
        self.out.push(b'"');
        self
    }

    /// An object.
    pub(crate) fn object(&mut self, name: &'static str, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.name(name);
        self.nested(fill);
        self
    }

    /// A list of objects.
    pub(crate) fn objects<T>(
        &mut self,
        name: &'static str,
        items: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        self.list(name, items, |writer, item| {
            writer.nested(|writer| fill(writer, item))
        })
    }

    /// A list of strings.
    pub(crate) fn texts<T: AsRef<str>>(
        &mut self,
        name: &'static str,
        items: impl IntoIterator<Item = T>,
    ) -> &mut Self {
        self.list(name, items, |writer, item| {
            write_text(&mut writer.out, item.as_ref())
        })
    }

    /// A map from strings to strings.
    pub(crate) fn map(
        &mut self,
        name: &'static str,
        pairs: &BTreeMap<String, String>,
    ) -> &mut Self {
        self.object(name, |map| {
            for (position, (key, value)) in pairs.iter().enumerate() {
                if position > 0 {
                    map.out.push(b',');
                }
                write_text(&mut map.out, key);
                map.out.push(b':');
                write_text(&mut map.out, value);
            }
        })
    }

    fn list<T>(
        &mut self,
        name: &'static str,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        self.name(name);
        self.out.push(b'[');
        for (position, item) in items.into_iter().enumerate() {
            if position > 0 {
                self.out.push(b',');
            }
            write(self, item);
        }
        self.out.push(b']');
        self
    }

    fn nested(&mut self, fill: impl FnOnce(&mut Self)) {
        self.out.push(b'{');
        self.first = true;
        fill(self);
        self.first = false;
        self.out.push(b'}');
    }
}

pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    // Almost no text has anything to escape. Not stopping at the first makes this several bytes a step.
    let special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    if !(bytes.iter()).fold(false, |any, &byte| any | special(byte)) {
        out.extend_from_slice(bytes);
        out.push(b'"');
        return;
    }
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[written..at]);
        written = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches an answer that is not JSON, or whose values differ from what was written.
    #[test]
    fn what_is_written_reads_back() {
        let odd = "quote\" back\\ line\n tab\t bell\u{7} é \u{1f511} del\u{7f}";
        let mut writer = ObjectWriter::new();
        writer
            .text("Text", odd)
            .number("Number", u64::MAX)
            .boolean("Yes", true)
            .time("Time", UnixMillis(1_789_212_697_616))
            .blob("Blob", b"\x00\xff\x10\x20")
            .blob("Empty", b"")
            .objects("List", [1, 2], |writer, item| {
                writer.number("Item", item).boolean("Last", item == 2);
            })
            .texts("Texts", ["a", odd])
            .object("Object", |_| {})
            .text("After", "");
        let bytes = writer.finish();
        let read: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(
            read,
            serde_json::json!({
                "Text": odd, "Number": u64::MAX, "Yes": true, "Time": 1_789_212_697.616,
                "Blob": "AP8QIA==", "Empty": "",
                "List": [{"Item": 1, "Last": false}, {"Item": 2, "Last": true}],
                "Texts": ["a", odd], "Object": {}, "After": "",
            })
        );
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("\"Time\":1789212697.616,"), "{text}");
    }

    /// Catches a repeated member whose first value is taken, and a null taken for a value.
    #[test]
    fn the_last_of_repeated_members_counts() {
        let Some(Value::Object(members)) = parse(br#"{"a":1,"a":2,"b":3,"b":null}"#) else {
            panic!("an object");
        };
        assert!(matches!(
            find(&members, "a"),
            Some(Value::Number(Number::Int(2)))
        ));
        assert!(find(&members, "b").is_none());
    }

    /// Catches text that is copied although nothing in it is escaped, and text that is not JSON.
    #[test]
    fn plain_text_is_borrowed() {
        assert!(matches!(
            parse(br#""plain""#),
            Some(Value::Text(Cow::Borrowed("plain")))
        ));
        assert!(
            matches!(parse(br#""\u0041""#), Some(Value::Text(Cow::Owned(text))) if text == "A")
        );
        let deep = "[".repeat(100_000);
        for bad in [
            "",
            " ",
            "{",
            "{} x",
            "\u{feff}{}",
            "nul",
            "1e999",
            r#""\ud800""#,
            &deep,
        ] {
            assert!(parse(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(parse(b"{\"a\":\"\xff\"}").is_none());
    }
}
