//! A Region without a quorum.

use std::time::Duration;

use aws_sdk_kms::primitives::Blob;
use keyrum_tests::http::Raw;
use keyrum_tests::sdk::{self, Failed, HERE, failed};
use keyrum_tests::{Cluster, Shape, wait};
use tokio::time::Instant;

/// What such a call may take, and a little for the machine.
const LIMIT: Duration = Duration::from_millis(5500);

/// Asserts that a call found no quorum in time; it may be unknown whether it has an effect if
/// `unknown`.
#[track_caller]
fn no_quorum<T: std::fmt::Debug>(what: &str, answer: Result<T, Failed>, since: Instant) {
    let took = since.elapsed();
    let Err(Failed::Answer(code, _)) = &answer else {
        panic!("{what}: {answer:?} after {took:?}")
    };
    assert_eq!(
        code, "DependencyTimeoutException",
        "{what}: {answer:?} after {took:?}"
    );
    assert!(took <= LIMIT, "{what} took {took:?}");
}

/// Catches a call that hangs, answers from a state that may be old, or calls a change failed that
/// may still happen.
#[tokio::test(flavor = "multi_thread")]
async fn calls_without_a_quorum_end_in_time() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let kms = sdk::client(cluster.endpoint(), HERE, "test");
    let key = kms.create_key().send().await.unwrap().key_metadata.unwrap();
    cluster.agree().await;
    let leader = cluster.leader().await;
    let others: Vec<_> = (1..=3)
        .map(|id| format!("{HERE}/{id}"))
        .filter(|n| *n != leader)
        .collect();
    let follower = &others[0];
    cluster.command(&["kill", &others[1]]).await;
    cluster.command(&["kill", &leader]).await;

    let node = |name: &str| {
        let id: u64 = name.rsplit('/').next().unwrap().parse().unwrap();
        cluster
            .ready()
            .nodes()
            .find(|node| node.id == id)
            .unwrap()
            .api
            .clone()
    };
    for url in [cluster.endpoint().to_owned(), node(follower)] {
        let kms = sdk::client(&url, HERE, "test");
        let start = Instant::now();
        let answer = kms
            .create_key()
            .description("nobody")
            .send()
            .await
            .map_err(failed);
        no_quorum("CreateKey", answer, start);
        let start = Instant::now();
        let answer = kms
            .describe_key()
            .key_id(key.key_id())
            .send()
            .await
            .map_err(failed);
        no_quorum("DescribeKey", answer, start);
        let start = Instant::now();
        let call = kms.encrypt().key_id(key.key_id()).plaintext(Blob::new("x"));
        no_quorum("Encrypt", call.send().await.map_err(failed), start);
    }
    // Whoever asks for less gets it.
    let body = format!(r#"{{"KeyId":"{}"}}"#, key.key_id());
    let local = Raw::kms("DescribeKey", body).header("x-keyrum-consistency", "local");
    let answer = local
        .signed("test", HERE)
        .send(&node(follower))
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");

    cluster.command(&["restart", &leader]).await;
    cluster.command(&["restart", &others[1]]).await;
    cluster.agree().await;
    let listed = kms.list_keys().send().await.unwrap();
    assert_eq!(
        listed.keys().len(),
        1,
        "what was said not to have happened did not happen"
    );
}

/// Catches a frozen node that costs a caller more than one call may take, also when the call is
/// tried at another node, and a node that is not told how little of that time is left.
#[tokio::test(flavor = "multi_thread")]
async fn frozen_nodes_cost_no_more_than_one_limit() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let kms = sdk::client(cluster.endpoint(), HERE, "test");
    kms.create_key().send().await.unwrap();
    cluster.agree().await;
    let leader = cluster.leader().await;
    let ask = async |operation: &str| {
        let start = Instant::now();
        let request = Raw::kms(operation, "{}").signed("test", HERE);
        let answer = request.send(cluster.endpoint()).await.unwrap();
        let took = start.elapsed();
        assert!(took <= LIMIT, "{operation} took {took:?}: {answer:?}");
        answer
    };
    // At the same time, so that the endpoint tries another node first for each.
    let ask_all = async |operation: &str| {
        let (one, two, three) = tokio::join!(ask(operation), ask(operation), ask(operation));
        [one, two, three]
    };

    cluster.command(&["pause", &leader]).await;
    for answer in ask_all("ListKeys").await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    for answer in ask_all("CreateKey").await {
        let unknown = answer.header("x-keyrum-outcome") == Some("unknown");
        assert!(answer.status == 200 || unknown, "{answer:?}");
    }
    let mut all = (1..=3).map(|id| format!("{HERE}/{id}"));
    let other = all.find(|node| *node != leader).unwrap();
    cluster.command(&["pause", &other]).await;
    for answer in ask_all("ListKeys").await {
        // The node that still runs says so itself.
        let words = "No quorum of the Region's nodes answered in time. Nothing was changed.";
        answer.is_error(500, "DependencyTimeoutException", words);
    }
    for answer in ask_all("CreateKey").await {
        assert_eq!(answer.status, 500, "{answer:?}");
    }

    for node in [&leader, &other] {
        cluster.command(&["resume", node]).await;
    }
    cluster.agree().await;
    wait::until_true("answer", wait::SHORT, async || {
        ask("ListKeys").await.status == 200
    })
    .await;
}

/// Catches a change that is called failed although it was passed on, and whose header does not say
/// so, and one that then happens twice.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_called_unknown() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let leader = cluster.leader().await;
    let all = (1..=3).map(|id| format!("{HERE}/{id}"));
    let others: Vec<_> = all.filter(|node| *node != leader).collect();
    let id: u64 = leader.rsplit('/').next().unwrap().parse().unwrap();
    let url = cluster
        .ready()
        .nodes()
        .find(|node| node.id == id)
        .unwrap()
        .api
        .clone();
    for node in &others {
        cluster.command(&["pause", node]).await;
    }
    // The leader still believes in itself: it takes the command to its log and waits.
    let start = Instant::now();
    let request = Raw::kms("CreateKey", r#"{"Description":"unknown"}"#);
    let answer = request.signed("test", HERE).send(&url).await.unwrap();
    assert!(start.elapsed() <= LIMIT, "it took {:?}", start.elapsed());
    assert_eq!(answer.status, 500);
    let unknown = answer.header("x-keyrum-outcome") == Some("unknown");
    let kind = answer.json()["__type"].as_str().unwrap().to_owned();
    let expected = if unknown {
        "KMSInternalException"
    } else {
        "DependencyTimeoutException"
    };
    assert_eq!(kind, expected, "{answer:?}");
    for node in &others {
        cluster.command(&["resume", node]).await;
    }
    cluster.agree().await;
    let kms = sdk::client(cluster.endpoint(), HERE, "test");
    let listed = wait::until("answer", wait::SHORT, async || {
        kms.list_keys().send().await.ok()
    });
    let count = listed.await.keys().len();
    assert!(
        count <= usize::from(unknown),
        "{count} keys, unknown: {unknown}"
    );
}
