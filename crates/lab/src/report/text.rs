//! What stands in the report: text that is no markup, times, and values in words.

use std::fmt::{self, Write};

use serde_json::Value;

use crate::experiment::Outcome;

/// Text as HTML: nothing in it is markup, whether it stands in an element or in a quoted attribute.
pub(super) struct Html<'a>(pub(super) &'a str);

impl fmt::Display for Html<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(c)?,
                // HTML has no way to write them.
                c if c.is_control() => f.write_char(char::REPLACEMENT_CHARACTER)?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// JSON as the text of a script element: it cannot end the element, nor begin a comment in it.
pub(super) fn in_script(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // They stand in JSON's strings only, where this is the same.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text
}

/// A point of the run, such as `12.345 s`.
pub(super) fn moment(us: u64) -> String {
    format!("{}.{:03} s", us / 1_000_000, us / 1000 % 1000)
}

/// How long something took, with three digits: `0.350 ms`, `12.3 ms`, `1.23 s`.
pub(super) fn length(us: u64) -> String {
    let (value, unit) = match us {
        0..999_500 => (us as f64 / 1e3, "ms"),
        _ => (us as f64 / 1e6, "s"),
    };
    match value {
        ..0.9995 => format!("{value:.3} {unit}"),
        ..9.995 => format!("{value:.2} {unit}"),
        ..99.95 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// A number with its thousands set apart.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with the word for what it counts.
pub(super) fn count(value: usize, one: &str, many: &str) -> String {
    let word = if value == 1 { one } else { many };
    format!("{} {word}", number(value as u64))
}

/// The first `most` characters; an ellipsis stands for the rest.
pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// A value for a reader: an object's members a line each, strings without quotes. What a single member
/// holds stands for the object.
pub(super) fn words(value: &Value) -> String {
    let plain = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match value {
        Value::Null => String::new(),
        // Answers such as DescribeKey's are one member that holds it all.
        Value::Object(members) if members.len() == 1 && members.values().all(Value::is_object) => {
            members.values().map(words).collect()
        }
        Value::Object(members) => {
            let members = members.iter().filter(|(_, value)| !value.is_null());
            let lines: Vec<String> = members
                .map(|(name, value)| format!("{name}: {}", plain(value)))
                .collect();
            lines.join("\n")
        }
        other => plain(other),
    }
}

/// What a client saw of its call.
pub(super) fn seen(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done(answer) => words(answer),
        Outcome::Refused { error, message } if message.is_empty() => error.clone(),
        Outcome::Refused { error, message } => format!("{error}: {message}"),
        Outcome::NotDone(why) | Outcome::Unknown(why) => why.clone(),
    }
}

/// How a call ended, as the report names it: the class of its bar, the word beside it.
pub(super) fn ending(outcome: &Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Done(_) => ("done", "done"),
        Outcome::Refused { .. } => ("refused", "refused"),
        Outcome::NotDone(_) => ("undone", "not done"),
        Outcome::Unknown(_) => ("unknown", "unknown"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Catches times that read wrongly where the unit changes.
    #[test]
    fn times_have_three_digits() {
        let cases = [
            (0, "0.000 ms"),
            (350, "0.350 ms"),
            (1000, "1.00 ms"),
            (9_994, "9.99 ms"),
            (9_996, "10.0 ms"),
            (99_960, "100 ms"),
            (999_499, "999 ms"),
            (999_500, "1.00 s"),
            (12_345_678, "12.3 s"),
            (615_000_000, "615 s"),
        ];
        for (us, text) in cases {
            assert_eq!(length(us), text);
        }
        assert_eq!(moment(62_004_999), "62.004 s");
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!((number(0), number(100)), ("0".into(), "100".into()));
    }

    /// Catches answers that are cut within a character, or whose members cannot be told apart.
    #[test]
    fn values_are_words() {
        let value = json!({"KeyId": "mrk-1", "Tags": [1, 2], "Gone": null, "On": true});
        assert_eq!(words(&value), "KeyId: mrk-1\nOn: true\nTags: [1,2]");
        assert_eq!(
            words(&json!({"KeyMetadata": {"KeyState": "Enabled", "On": true}})),
            "KeyState: Enabled\nOn: true"
        );
        assert_eq!(shortened("añb", 2), "añ…");
        assert_eq!(shortened("añb", 3), "añb");
    }
}
