//! Reads that lag behind: `keyrum dev --propagation-delay`.

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use keyrum_tests::http::Raw;
use keyrum_tests::sdk::{self, Failed, HERE};
use keyrum_tests::{Cluster, Dev, Ready, Shape, wait};

const ACCOUNT: &str = "111122223333";

async fn made(kms: &Client) -> String {
    let made = kms.create_key().send().await.unwrap();
    made.key_metadata.unwrap().key_id
}

/// Whether a key is known; any other answer than yes or no fails.
async fn knows(kms: &Client, key: &str) -> bool {
    match kms.describe_key().key_id(key).send().await {
        Ok(_) => true,
        Err(error) => {
            let failed = sdk::failed(error);
            let Failed::Answer(code, message) = &failed else {
                panic!("{failed:?}");
            };
            assert_eq!(code, "NotFoundException");
            assert!(message.as_ref().unwrap().ends_with("does not exist"));
            false
        }
    }
}

fn describe(key: &str, mode: &str) -> Raw {
    Raw::kms("DescribeKey", format!(r#"{{"KeyId":"{key}"}}"#))
        .signed(ACCOUNT, HERE)
        .header("x-keyrum-consistency", mode)
}

/// A client of each node.
fn nodes(ready: &Ready) -> Vec<Client> {
    let nodes = ready.regions[HERE].nodes.iter();
    nodes
        .map(|node| sdk::client(&node.api, HERE, ACCOUNT))
        .collect()
}

/// Catches a delay that plain SDKs do not see, that is the same on every node, or that hides a key
/// from who asks for a strong read; one that goes back on a node or never ends; and a ciphertext
/// that does not open because its key is not known yet.
#[tokio::test]
async fn a_fresh_key_is_unknown_for_a_while() {
    let dev = Dev::start(&[
        "--ephemeral",
        "--regions",
        HERE,
        "--propagation-delay",
        "6s",
    ])
    .await;
    let kms = sdk::client(&dev.ready.endpoint, HERE, ACCOUNT);
    let nodes = nodes(&dev.ready);
    let (mut unknown, mut disagreed, mut opened) = (false, false, false);
    // Each round's lags are drawn anew: three that are nearly 0 are rare.
    for _ in 0..10 {
        let key = made(&kms).await;
        for mode in ["linearizable", "lease"] {
            let answer = describe(&key, mode)
                .send(&dev.ready.endpoint)
                .await
                .unwrap();
            assert_eq!(answer.status, 200, "{mode}: {answer:?}");
        }
        let call = kms.encrypt().key_id(&key).plaintext(Blob::new("x"));
        let sealed = call.customize().mutate_request(|request| {
            let headers = request.headers_mut();
            headers.insert("x-keyrum-consistency", "linearizable");
        });
        let sealed = sealed.send().await.unwrap().ciphertext_blob.unwrap();
        let mut known = vec![false; nodes.len()];
        let mut last = false;
        let all_know = async || {
            for (node, known) in nodes.iter().zip(&mut known) {
                let now = knows(node, &key).await;
                assert!(now || !*known, "a node has forgotten the key");
                unknown |= !now;
                *known = now;
            }
            // Two reads by the endpoint, of which plain programs know no other.
            let now = knows(&kms, &key).await;
            disagreed |= last && !now && known.contains(&true);
            last = now;
            if known.contains(&false) {
                for node in &nodes {
                    let call = node.decrypt().ciphertext_blob(sealed.clone());
                    let answer = call.send().await.expect("it opens at once");
                    opened |= answer.plaintext.unwrap().as_ref() == b"x";
                }
            }
            !known.contains(&false)
        };
        wait::until_true("key on all nodes", wait::LONG, all_know).await;
        assert!(knows(&kms, &key).await);
        if unknown && disagreed && opened {
            return;
        }
    }
    panic!("unknown {unknown}, disagreed {disagreed}, opened {opened}");
}

/// Catches a change that is made of what a delayed read sees, and a listing or an alias that is
/// not delayed with the key.
#[tokio::test]
async fn changes_are_made_to_the_newest_state() {
    let dev = Dev::start(&[
        "--ephemeral",
        "--nodes",
        "1",
        "--regions",
        HERE,
        "--propagation-delay",
        "5m",
    ])
    .await;
    let kms = sdk::client(&dev.ready.endpoint, HERE, ACCOUNT);
    // With five minutes, one node shows nothing of this in the time it takes, unless its lag was
    // drawn from the first few seconds of them.
    let key = made(&kms).await;
    let call = kms.create_alias().alias_name("alias/a").target_key_id(&key);
    call.send().await.unwrap();
    kms.disable_key().key_id(&key).send().await.unwrap();
    let again = kms.create_alias().alias_name("alias/a").target_key_id(&key);
    let Failed::Answer(code, _) = sdk::failed(again.send().await.unwrap_err()) else {
        panic!("no answer");
    };
    assert_eq!(code, "AlreadyExistsException");
    if !knows(&kms, &key).await {
        let listed = kms.list_keys().send().await.unwrap();
        assert!(listed.keys().is_empty());
        let call = kms.encrypt().key_id("alias/a").plaintext(Blob::new("x"));
        let Failed::Answer(code, _) = sdk::failed(call.send().await.unwrap_err()) else {
            panic!("no answer");
        };
        assert_eq!(code, "NotFoundException");
    }
}

/// Catches a node whose own line is not heeded, an endpoint that reads as some node does, and a
/// header that does not win over both.
#[tokio::test]
async fn each_node_may_read_in_its_own_way() {
    let region = format!(
        "[[region]]\nname = \"{HERE}\"\nnodes = [{{ id = 1, reads = \"eventual\" }}, {{ id = 2 }}]"
    );
    let shape = Shape {
        regions: Vec::new(),
        lines: format!("reads = \"linearizable\"\npropagation_delay = \"5m\"\n{region}"),
        ..Shape::one_region(2)
    };
    let cluster = Cluster::up(&shape).await;
    let kms = sdk::client(cluster.endpoint(), HERE, ACCOUNT);
    let nodes = nodes(cluster.ready());
    let mut hidden = false;
    for _ in 0..20 {
        let key = made(&kms).await;
        for _ in 0..3 {
            assert!(
                knows(&kms, &key).await,
                "the endpoint reads as the file says"
            );
        }
        assert!(knows(&nodes[1], &key).await);
        hidden |= !knows(&nodes[0], &key).await;
        let first = &cluster.ready().regions[HERE].nodes[0].api;
        let answer = describe(&key, "linearizable").send(first).await.unwrap();
        assert_eq!(answer.status, 200);
        if hidden {
            return;
        }
    }
    panic!("node 1 sees every key at once");
}
