//! Multi-Region keys whose primary moves about while everybody encrypts and decrypts everywhere.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::client::Client;
use super::{Shared, api::Reads};
use crate::experiment::Outcome;

/// How often, and how many times, it is looked whether a replica can be used.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const LOOKS: u32 = 400;

/// Replicates a new key to all other Regions, and waits until it can be used there.
pub(super) async fn spread(client: &mut Client, key: &str) {
    let home = client.home();
    for region in (0..client.regions()).filter(|region| *region != home) {
        let to = client.region_name(region);
        let input = json!({ "KeyId": key, "ReplicaRegion": to });
        client.insist(home, "ReplicateKey", input).await;
        for _ in 0..LOOKS {
            let input = json!({ "KeyId": key });
            let seen = client.call_in(region, "DescribeKey", input).await;
            if matches!(&seen, Outcome::Done(answer) if answer["KeyMetadata"]["KeyState"] == "Enabled")
            {
                break;
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

pub(super) async fn work(client: &mut Client, shared: &Shared) {
    let key = client.dice.index(shared.keys());
    let id = shared.key(key);
    let region = client.dice.index(client.regions());
    match client.dice.below(100) {
        0..20 => {
            let to = client.dice.index(client.regions());
            let to = client.region_name(to);
            let input = json!({ "KeyId": id, "PrimaryRegion": to });
            client.call_in(region, "UpdatePrimaryRegion", input).await;
        }
        20..25 => {
            let input = json!({ "KeyId": id });
            client.call_in(region, "RotateKeyOnDemand", input).await;
        }
        25..50 => {
            let text = shared.unlike_any_other("AAAA").replace('-', "/");
            let input = json!({ "KeyId": id, "Plaintext": format!("{text:A<16}") });
            if let Outcome::Done(answer) = client.call_in(region, "Encrypt", input).await
                && let Some(blob) = answer["CiphertextBlob"].as_str()
            {
                shared.leave(key, blob);
            }
        }
        50..75 => {
            if let Some(put) = shared.found(&mut client.dice) {
                let input = json!({ "CiphertextBlob": put.text });
                client.call_in(region, "Decrypt", input).await;
            }
        }
        _ => drop(
            client
                .call_in(region, "DescribeKey", json!({ "KeyId": id }))
                .await,
        ),
    }
}

/// Shows every member of a family.
pub(super) async fn look(client: &mut Client, id: Value) {
    for region in 0..client.regions() {
        client.insist(region, "DescribeKey", id.clone()).await;
    }
}

/// Decrypts what is left everywhere.
pub(super) async fn decrypt_all(client: &mut Client, shared: &Shared) {
    client.reads = Reads::Linearizable;
    let left = shared.put.borrow().clone();
    for put in left {
        for region in 0..client.regions() {
            let input = json!({ "CiphertextBlob": put.text });
            client.insist(region, "Decrypt", input).await;
        }
    }
}
