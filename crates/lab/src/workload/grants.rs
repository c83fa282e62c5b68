//! Grants that are given and taken back while another account uses them.

use serde_json::json;

use super::client::Client;
use super::{GUEST, Shared};
use crate::experiment::Outcome;

/// More grants of a key are not given: a use says little if another grant allows it, too.
const GRANTS_MAX: usize = 6;

pub(super) async fn work(client: &mut Client, shared: &Shared, is_guest: bool) {
    let key = client.dice.index(shared.keys());
    let arn = shared.key(key);
    if is_guest {
        let input = json!({ "KeyId": arn, "Plaintext": "AAAA" });
        client.call("Encrypt", input).await;
        return;
    }
    let home = client.home();
    let given = shared.put.borrow().len();
    match client.dice.below(100) {
        0..40 if given < GRANTS_MAX => {
            let input = json!({
                "KeyId": arn, "Operations": ["Encrypt"],
                "GranteePrincipal": format!("arn:aws:iam::{GUEST}:root"),
                "Name": shared.unlike_any_other("grant"),
            });
            if let Outcome::Done(answer) = client.call_in(home, "CreateGrant", input).await
                && let Some(id) = answer["GrantId"].as_str()
            {
                shared.leave(key, id);
            }
        }
        0..80 => {
            let Some(put) = shared.found(&mut client.dice) else {
                return;
            };
            let input = json!({ "KeyId": shared.key(put.key), "GrantId": put.text });
            let ended = client.call("RevokeGrant", input).await;
            if !matches!(ended, Outcome::NotDone(_)) {
                let mut left = shared.put.borrow_mut();
                left.retain(|other| other.text != put.text);
            }
        }
        _ => drop(client.call("ListGrants", json!({ "KeyId": arn })).await),
    }
}
