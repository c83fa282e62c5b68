//! Key policies that allow and forbid another account while it calls.

use serde_json::json;

use super::client::Client;
use super::{GUEST, OWNER, Shared};

/// A policy that lets the owner do everything, and the other account encrypt if `open`.
fn policy(open: bool) -> String {
    let root = |account: &str| json!({ "AWS": format!("arn:aws:iam::{account}:root") });
    let mut statements = vec![json!({
        "Effect": "Allow", "Principal": root(OWNER), "Action": "kms:*", "Resource": "*",
    })];
    if open {
        statements.push(json!({
            "Effect": "Allow", "Principal": root(GUEST), "Action": "kms:Encrypt", "Resource": "*",
        }));
    }
    json!({ "Version": "2012-10-17", "Statement": statements }).to_string()
}

pub(super) async fn work(client: &mut Client, shared: &Shared, is_guest: bool) {
    let arn = shared.key(client.dice.index(shared.keys()));
    if is_guest {
        let input = json!({ "KeyId": arn, "Plaintext": "AAAA" });
        client.call("Encrypt", input).await;
        return;
    }
    if client.dice.percent(30) {
        client.call("GetKeyPolicy", json!({ "KeyId": arn })).await;
        return;
    }
    let open = client.dice.percent(50);
    let input = json!({ "KeyId": arn, "Policy": policy(open) });
    client.call("PutKeyPolicy", input).await;
}
