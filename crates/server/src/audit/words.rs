//! What the API's answers say, in the words of records.

use keyrum_service::KeyMetadata;

use super::record::long_date;
use crate::json::{self, ObjectWriter, Value, write_text};
use crate::wire;

/// A key's metadata in a record's words.
pub(super) fn metadata(key: &KeyMetadata) -> Vec<u8> {
    let mut api = ObjectWriter::with_capacity(1024);
    wire::metadata(&mut api, key);
    let api = api.finish();
    let mut out = Vec::with_capacity(api.len() + 64);
    if let Some(value) = json::parse(&api) {
        in_records_words("", &value, &mut out);
    }
    out
}

/// Members with a lower-case first letter, and dates written out.
fn in_records_words(name: &str, value: &Value<'_>, out: &mut Vec<u8>) {
    let between = |position: usize, out: &mut Vec<u8>| {
        if position > 0 {
            out.push(b',');
        }
    };
    match value {
        Value::Object(members) => {
            out.push(b'{');
            for (position, (name, value)) in members.iter().enumerate() {
                between(position, out);
                let start = out.len() + 1;
                write_text(out, name);
                out[start].make_ascii_lowercase();
                out.push(b':');
                in_records_words(name, value, out);
            }
            out.push(b'}');
        }
        Value::List(values) => {
            out.push(b'[');
            for (position, value) in values.iter().enumerate() {
                between(position, out);
                in_records_words(name, value, out);
            }
            out.push(b']');
        }
        Value::Text(text) => write_text(out, text),
        Value::Bool(value) => {
            let text: &[u8] = if *value { b"true" } else { b"false" };
            out.extend_from_slice(text);
        }
        Value::Number(number) if name.ends_with("Date") || name == "ValidTo" => {
            write_text(out, &long_date(number.time()));
        }
        Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::Null | Value::Blob(_) => out.extend_from_slice(b"null"),
    }
}
