//! Keys that are used as soon as they are made.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::Shared;
use super::client::Client;
use crate::experiment::Outcome;

/// How often a client tries to use a key that is not known.
pub(super) const ONCE: u32 = 1;
pub(super) const PATIENT: u32 = 10;

/// How long it waits before it tries again; twice as long each time, as SDKs of the real service do.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// Makes a key and encrypts with it.
pub(super) async fn work(client: &mut Client, shared: &Shared, name: &str, tries: u32) {
    let description = shared.unlike_any_other(name);
    let input = json!({ "Description": description });
    let Outcome::Done(made) = client.call("CreateKey", input).await else {
        return;
    };
    let Some(key) = made["KeyMetadata"]["KeyId"].as_str() else {
        return;
    };
    let mut wait = FIRST_WAIT;
    for _ in 0..tries {
        client.move_on();
        let input = json!({ "KeyId": key, "Plaintext": "AAAA" });
        match client.call("Encrypt", input).await {
            Outcome::Refused { error, .. } if error == "NotFoundException" => {
                sleep(wait).await;
                wait *= 2;
            }
            _ => return,
        }
    }
}
