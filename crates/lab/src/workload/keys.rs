//! The life of shared keys: their state, their description, a tag, and whether they encrypt.

use serde_json::{Value, json};

use super::Shared;
use super::client::Client;
use crate::experiment::Outcome;

/// The tag that is written.
const TAG: &str = "lab";

pub(super) async fn work(client: &mut Client, shared: &Shared, name: &str) {
    let key = client.dice.index(shared.keys());
    let id = json!({ "KeyId": shared.key(key) });
    let with = |member: &str, value: Value| {
        let mut input = id.clone();
        input[member] = value;
        input
    };
    let ended = match client.dice.below(100) {
        0..12 => client.call("DisableKey", id).await,
        12..28 => client.call("EnableKey", id).await,
        28..32 => {
            let days = client.dice.between(7, 30);
            let input = with("PendingWindowInDays", json!(days));
            client.call("ScheduleKeyDeletion", input).await
        }
        32..40 => client.call("CancelKeyDeletion", id).await,
        40..48 => {
            let text = shared.unlike_any_other(name);
            let input = with("Description", json!(text));
            client.call("UpdateKeyDescription", input).await
        }
        48..56 => {
            let text = shared.unlike_any_other(name);
            let tags = json!([{ "TagKey": TAG, "TagValue": text }]);
            client.call("TagResource", with("Tags", tags)).await
        }
        56..58 => {
            let input = with("TagKeys", json!([TAG]));
            client.call("UntagResource", input).await
        }
        58..66 => client.call("ListResourceTags", id).await,
        66..74 => {
            // Base64 of a text unlike any other.
            let text = shared.unlike_any_other("AAAA").replace('-', "/");
            let text = format!("{text:A<16}");
            client.call("Encrypt", with("Plaintext", json!(text))).await
        }
        74..82 => match shared.found(&mut client.dice) {
            Some(put) => {
                let input = json!({ "CiphertextBlob": put.text });
                client.call("Decrypt", input).await
            }
            None => return,
        },
        _ => client.call("DescribeKey", id).await,
    };
    if let Outcome::Done(answer) = &ended
        && let Some(blob) = answer["CiphertextBlob"].as_str()
    {
        shared.leave(key, blob);
    }
}

pub(super) async fn look(client: &mut Client, id: Value) {
    let home = client.home();
    for operation in ["DescribeKey", "ListResourceTags"] {
        client.insist(home, operation, id.clone()).await;
    }
}
