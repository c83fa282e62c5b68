//! Aliases that point at one key after the other.

use serde_json::json;

use super::Shared;
use super::client::Client;

/// How many aliases there are.
const ALIASES: usize = 3;

fn alias(name: &str, number: usize) -> String {
    format!("alias/{name}-{number}")
}

pub(super) async fn work(client: &mut Client, shared: &Shared, name: &str) {
    let alias = alias(name, client.dice.index(ALIASES));
    let key = shared.key(client.dice.index(shared.keys()));
    let pointing = json!({ "AliasName": alias, "TargetKeyId": key });
    match client.dice.below(100) {
        0..20 => client.call("CreateAlias", pointing).await,
        20..45 => client.call("UpdateAlias", pointing).await,
        45..55 => {
            client
                .call("DeleteAlias", json!({ "AliasName": alias }))
                .await
        }
        _ => client.call("DescribeKey", json!({ "KeyId": alias })).await,
    };
}

/// Looks where an alias points.
pub(super) async fn read(client: &mut Client, name: &str) {
    let alias = alias(name, client.dice.index(ALIASES));
    client.call("DescribeKey", json!({ "KeyId": alias })).await;
}

pub(super) async fn look(client: &mut Client, shared: &Shared, name: &str) {
    let home = client.home();
    for number in 0..ALIASES {
        let input = json!({ "KeyId": alias(name, number) });
        client.insist(home, "DescribeKey", input).await;
    }
    for key in 0..shared.keys() {
        let input = json!({ "KeyId": shared.key(key) });
        client.insist(home, "ListAliases", input).await;
    }
}
