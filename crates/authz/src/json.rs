//! A reader of JSON documents, for policies.
//!
//! Whether a text is a policy is part of replicated outcomes, so it must not change with a library. It
//! also refuses a member that is there twice (of two `Condition`s, one would silently not count) and
//! keeps numbers as they are written, since a condition compares them exactly.

use std::collections::BTreeMap;

/// A JSON value. Members keep their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// As written.
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// Deeper nesting is refused; a well-formed policy needs six levels. Bounds the reader's recursion.
const DEPTH_MAX: u32 = 32;

impl Json {
    /// Reads a whole text; `None` if it is not one JSON value, nests too deeply or repeats a member.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::read(text, false)
    }

    /// The same, but of members of one name the last counts.
    pub(crate) fn parse_last_counts(text: &str) -> Option<Self> {
        Self::read(text, true)
    }

    fn read(text: &str, last_counts: bool) -> Option<Self> {
        let mut reader = Reader {
            text,
            bytes: text.as_bytes(),
            at: 0,
            last_counts,
        };
        let value = reader.value(DEPTH_MAX)?;
        reader.space();
        (reader.at == text.len()).then_some(value)
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// One value, or a list's values.
    pub(crate) fn items(&self) -> &[Json] {
        match self {
            Self::List(items) => items,
            one => std::slice::from_ref(one),
        }
    }
}

struct Reader<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    last_counts: bool,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Skips space and takes `byte` if it is next.
    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn word(&mut self, word: &str, value: Json) -> Option<Json> {
        let is_next = self.bytes[self.at..].starts_with(word.as_bytes());
        self.at += word.len();
        is_next.then_some(value)
    }

    fn value(&mut self, depth: u32) -> Option<Json> {
        self.space();
        match self.peek()? {
            b'"' => self.string().map(Json::Text),
            b'{' => self.object(depth.checked_sub(1)?),
            b'[' => self.list(depth.checked_sub(1)?),
            b't' => self.word("true", Json::Bool(true)),
            b'f' => self.word("false", Json::Bool(false)),
            b'n' => self.word("null", Json::Null),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: u32) -> Option<Json> {
        let mut members: Vec<(String, Json)> = Vec::new();
        self.at += 1;
        if self.take(b'}') {
            return Some(Json::Object(members));
        }
        loop {
            self.space();
            let name = self.string()?;
            let value = self.take(b':').then(|| self.value(depth))??;
            members.push((name, value));
            if self.take(b'}') {
                return self.checked(members);
            }
            self.take(b',').then_some(())?;
        }
    }

    fn checked(&self, members: Vec<(String, Json)>) -> Option<Json> {
        if distinct(&members) {
            return Some(Json::Object(members));
        }
        let last: BTreeMap<String, Json> = members.into_iter().collect();
        (self.last_counts).then(|| Json::Object(last.into_iter().collect()))
    }

    fn list(&mut self, depth: u32) -> Option<Json> {
        let mut items = Vec::new();
        self.at += 1;
        if self.take(b']') {
            return Some(Json::List(items));
        }
        loop {
            items.push(self.value(depth)?);
            if self.take(b']') {
                return Some(Json::List(items));
            }
            self.take(b',').then_some(())?;
        }
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn number(&mut self) -> Option<Json> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let leading_zero = self.peek() == Some(b'0');
        let digits_from = self.at;
        self.digits()?;
        if leading_zero && self.at > digits_from + 1 {
            return None;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Some(Json::Number(self.text[start..self.at].to_owned()))
    }

    fn string(&mut self) -> Option<String> {
        (self.peek()? == b'"').then_some(())?;
        self.at += 1;
        let mut text = String::new();
        loop {
            let start = self.at;
            while !matches!(self.peek()?, b'"' | b'\\' | 0..0x20) {
                self.at += 1;
            }
            // Both ends are at ASCII bytes, so on the borders of characters.
            text.push_str(&self.text[start..self.at]);
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(text);
                }
                b'\\' => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let escape = self.peek()?;
        self.at += 1;
        Some(match escape {
            b'"' | b'\\' | b'/' => escape.into(),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.four_hex()?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first);
                }
                (self.bytes.get(self.at..self.at + 2)? == b"\\u").then_some(())?;
                self.at += 2;
                let second = self.four_hex()?;
                let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                return char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + low);
            }
            _ => return None,
        })
    }

    fn four_hex(&mut self) -> Option<u32> {
        let digits = self.bytes.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.iter().try_fold(0, |sum, digit| {
            Some(sum * 16 + char::from(*digit).to_digit(16)?)
        })
    }
}

/// Whether no name is there twice.
fn distinct(members: &[(String, Json)]) -> bool {
    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.windows(2).all(|pair| pair[0] != pair[1])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Catches a value that is read as another one, and a text that is no document or an ambiguous
    /// one being read at all.
    #[test]
    fn documents() {
        let text = |text: &str| Json::Text(text.to_owned());
        for (given, value) in [
            (" null ", Json::Null),
            ("true", Json::Bool(true)),
            ("-0.50e+3", Json::Number("-0.50e+3".to_owned())),
            (r#""a\n\u00e9\ud83d\ude00\/é""#, text("a\né😀/é")),
            ("[]", Json::List(vec![])),
            (
                "[1 , \"x\"]",
                Json::List(vec![Json::Number("1".to_owned()), text("x")]),
            ),
            (
                r#"{"b":{},"a":[false]}"#,
                Json::Object(vec![
                    ("b".to_owned(), Json::Object(vec![])),
                    ("a".to_owned(), Json::List(vec![Json::Bool(false)])),
                ]),
            ),
        ] {
            assert_eq!(Json::parse(given), Some(value), "{given}");
        }
        let deepest = format!("{}{}", "[".repeat(32), "]".repeat(32));
        assert!(Json::parse(&deepest).is_some());
        for bad in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{a:1}",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "tru",
            "nul",
            "\"a",
            "\"\n\"",
            r#""\x""#,
            r#""\u12""#,
            r#""\ud800""#,
            r#""\ud800\u0041""#,
            r#""\udc00""#,
            "1 2",
            "{} {}",
            r#"{"a":1,"a":1}"#,
            &format!("[{deepest}]"),
        ] {
            assert_eq!(Json::parse(bad), None, "{bad}");
        }
    }

    fn from_serde(value: serde_json::Value) -> Json {
        use serde_json::Value;
        match value {
            Value::Null => Json::Null,
            Value::Bool(is_so) => Json::Bool(is_so),
            Value::Number(number) => Json::Number(number.to_string()),
            Value::String(text) => Json::Text(text),
            Value::Array(items) => Json::List(items.into_iter().map(from_serde).collect()),
            Value::Object(members) => {
                let members = members.into_iter();
                Json::Object(
                    members
                        .map(|(name, value)| (name, from_serde(value)))
                        .collect(),
                )
            }
        }
    }

    /// Members in one order, and numbers as another reader writes them.
    fn ordered(json: Json) -> Json {
        match json {
            Json::List(items) => Json::List(items.into_iter().map(ordered).collect()),
            Json::Object(members) => {
                let members = members.into_iter();
                let mut members: Vec<_> = members.map(|(n, value)| (n, ordered(value))).collect();
                members.sort_by(|a, b| a.0.cmp(&b.0));
                Json::Object(members)
            }
            Json::Number(number) => {
                Json::Number(from_serde(serde_json::from_str(&number).unwrap()).text_of_number())
            }
            other => other,
        }
    }

    impl Json {
        fn text_of_number(self) -> String {
            match self {
                Json::Number(number) => number,
                other => panic!("{other:?}"),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        /// Catches a document that is read otherwise than by a reader that others wrote.
        #[test]
        fn as_another_reader(
            text in prop_oneof![
                r#"[{}\[\]":,0-2 a-b\\.eE+-]{0,12}"#,
                r#"\{("[ab]":("x"|1|\[\]|null) ?,?){0,3}\}"#,
                r#""(\\u[dD][89a-f]00|\\n|é|\\u00e9|x){0,4}""#,
                r#"-?[0-9]{1,3}(\.[0-9]{1,2})?([eE][+-]?[0-9])?"#,
            ],
        ) {
            let others: Option<Json> = serde_json::from_str(&text).ok().map(from_serde).map(ordered);
            match Json::parse(&text) {
                Some(own) => prop_assert_eq!(Some(ordered(own)), others.clone()),
                // Another reader takes the last of two members.
                None => prop_assert!(others.is_none() || text.matches(':').count() > 1, "{}", text),
            }
            prop_assert_eq!(Json::parse_last_counts(&text).map(ordered), others);
        }
    }
}
