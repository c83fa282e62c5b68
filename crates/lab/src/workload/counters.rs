//! Counters: a client reads the number in a tag of its own key and writes one more. A stale read
//! loses what was counted since.

use serde_json::{Value, json};

use super::client::Client;
use crate::checks::never_twice::COUNT;
use crate::experiment::Outcome;

/// Counts one more, unless the number cannot be read.
pub(super) async fn work(client: &mut Client, key: &str) {
    let Outcome::Done(tags) = client
        .call("ListResourceTags", json!({ "KeyId": key }))
        .await
    else {
        return;
    };
    let tags = tags["Tags"].as_array().map_or(&[][..], Vec::as_slice);
    let tag = tags.iter().find(|tag| tag["TagKey"] == COUNT);
    let number = tag.and_then(|tag| tag["TagValue"].as_str());
    let number = number.and_then(|text| text.parse().ok()).unwrap_or(0_u64);
    let more = Value::String((number + 1).to_string());
    let tags = json!([{ "TagKey": COUNT, "TagValue": more }]);
    let input = json!({ "KeyId": key, "Tags": tags });
    client.call("TagResource", input).await;
    // Where it is read next may be elsewhere.
    client.move_on();
}
