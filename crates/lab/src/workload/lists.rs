//! Aliases that are made and deleted while others walk the lists page by page.

use serde_json::json;

use super::Shared;
use super::api::Reads;
use super::client::Client;
use crate::experiment::Outcome;

/// How many aliases there are at most, and on a page: a walk takes several calls.
const ALIASES: usize = 12;
const PAGE: usize = 3;

pub(super) async fn work(client: &mut Client, shared: &Shared, name: &str, walks: bool) {
    if walks && client.dice.percent(30) {
        let reads = client.reads;
        return walk(client, reads).await;
    }
    let alias = format!("alias/{name}-{}", client.dice.index(ALIASES));
    let key = shared.key(client.dice.index(shared.keys()));
    if client.dice.percent(60) {
        let input = json!({ "AliasName": alias, "TargetKeyId": key });
        client.call("CreateAlias", input).await;
    } else {
        client
            .call("DeleteAlias", json!({ "AliasName": alias }))
            .await;
    }
}

/// Walks the whole list, unless a page is not answered.
pub(super) async fn walk(client: &mut Client, reads: Reads) {
    let before = std::mem::replace(&mut client.reads, reads);
    let mut input = json!({ "Limit": PAGE });
    while let Outcome::Done(answer) = client.call("ListAliases", input.clone()).await {
        if answer["Truncated"] != true {
            break;
        }
        input["Marker"] = answer["NextMarker"].clone();
    }
    client.reads = before;
}
