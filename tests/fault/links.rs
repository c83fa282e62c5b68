//! Links that are cut, slow and lossy.

use std::time::Duration;

use keyrum_tests::http::Raw;
use keyrum_tests::sdk::{self, Failed, failed};
use keyrum_tests::{Cluster, Shape, wait};
use tokio::time::Instant;

use crate::*;

/// What a node answers about a key's description by this mode of reading; `None` for an error.
async fn described(url: &str, key: &str, mode: &str) -> Option<String> {
    let request = Raw::kms("DescribeKey", format!(r#"{{"KeyId":"{key}"}}"#));
    let request = request.signed("test", HERE);
    let answer = request.header("x-keyrum-consistency", mode).send(url).await;
    let answer = answer.ok().filter(|answer| answer.status == 200)?;
    let text = &answer.json()["KeyMetadata"]["Description"];
    text.as_str().map(str::to_owned)
}

/// Catches a deposed leader that answers a linearizable read or takes a change, one whose local
/// reads do not show the past, a rest that gets no leader, connections that close where a real
/// partition is silent, and a cluster that does not come together again.
#[tokio::test]
async fn a_leader_is_cut_off() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let old = cluster.leader().await;
    let before = client(&cluster, &old).await;
    let key = make_key(&before, "before").await;
    cluster.agree().await;
    let told = fault(&cluster, &["cut", &old]).await;
    assert!(told.contains("cut from every other node"), "{told}");
    assert!(told.contains("`keyrum fault heal 1` lifts it"), "{told}");
    let new = another_leader(&cluster, &old).await;
    let after = client(&cluster, &new).await;
    let update = after.update_key_description().key_id(&key);
    update.description("after").send().await.unwrap();

    let old_url = url(&cluster, &old).await;
    assert_eq!(
        described(&old_url, &key, "local").await.as_deref(),
        Some("before")
    );
    assert_eq!(described(&old_url, &key, "linearizable").await, None);
    let change = before.create_key().description("lost?").send().await;
    match failed(change.unwrap_err()) {
        Failed::Answer(code, _) => assert!(
            ["KMSInternalException", "DependencyTimeoutException"].contains(&&*code),
            "{code}"
        ),
        other => panic!("{other:?}"),
    }
    wait_for_effect(&cluster, &old, "bytes_held").await;
    wait_for_effect(&cluster, &old, "connects_held").await;

    let healed = fault(&cluster, &["heal"]).await;
    assert!(healed.contains("fault 1 on"), "{healed}");
    assert!(healed.contains("bytes held"), "{healed}");
    cluster.agree().await;
    assert_eq!(
        described(&old_url, &key, "local").await.as_deref(),
        Some("after")
    );
    assert_eq!(in_force(&cluster).await, 0);
}

/// Catches a cut of a pair that takes more than the pair, one of a direction that takes the other
/// one or none, and a node that does not catch up with what was held.
#[tokio::test]
async fn a_follower_hears_nothing() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let leader = cluster.leader().await;
    let follower = other_than(&leader);
    let kms = client(&cluster, &leader).await;
    cluster.agree().await;
    let cut = ["cut", &follower, &leader, "--direction", "in"];
    fault(&cluster, &cut).await;
    let key = make_key_in_time(&kms, "unheard").await;
    let follower_url = url(&cluster, &follower).await;
    wait_for_effect(&cluster, &follower, "bytes_held").await;
    assert_eq!(described(&follower_url, &key, "local").await, None);
    let third = other_than(&follower);
    let third_url = url(&cluster, &third).await;
    wait::until_true("the third hears of it", wait::LONG, async || {
        described(&third_url, &key, "local").await.is_some()
    })
    .await;
    fault(&cluster, &["heal", "1"]).await;
    wait::until_true("the follower hears of it", wait::LONG, async || {
        described(&follower_url, &key, "local").await.is_some()
    })
    .await;
    cluster.agree().await;
}

/// Catches a delay that a commit does not take, and one that is left when it is lifted.
#[tokio::test]
async fn a_commit_takes_the_delay() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let leader = cluster.leader().await;
    let kms = client(&cluster, &leader).await;
    fault(&cluster, &["delay", "50ms", &leader, "--jitter", "5ms"]).await;
    let begun = Instant::now();
    let made = kms.create_key().send().await;
    // An entry there, its acknowledgement back; whoever leads by now, one end is the slow node.
    assert!(begun.elapsed() >= Duration::from_millis(100));
    made.map(drop).unwrap();
    wait_for_effect(&cluster, &leader, "bytes_delayed").await;
    fault(&cluster, &["heal"]).await;
    let mut least = Duration::MAX;
    for _ in 0..20 {
        let begun = Instant::now();
        make_key(&kms, "quick").await;
        least = least.min(begun.elapsed());
    }
    assert!(least < Duration::from_millis(100), "{least:?}");
}

/// Catches lost segments that break what they should only slow down.
#[tokio::test]
async fn losses_are_made_good() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let leader = cluster.leader().await;
    let kms = sdk::client(cluster.endpoint(), HERE, "test");
    fault(&cluster, &["lose", "5%", &leader]).await;
    wait::until_true("a loss", wait::LONG, async || {
        let made = kms.create_key().send().await;
        made.is_ok() && done(&cluster, &leader, "segments_lost").await > 0
    })
    .await;
    fault(&cluster, &["heal"]).await;
    cluster.agree().await;
}

/// Catches a cut from clients that the other nodes meet, one that fails a call where a real one
/// leaves it hanging, and a call that is lost though the cut was lifted in time.
#[tokio::test]
async fn clients_are_cut_off() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let leader = cluster.leader().await;
    fault(&cluster, &["cut", &leader, "--clients"]).await;
    let kms = client(&cluster, &leader).await;
    let call = keyrum_consensus::world::spawn(kms.create_key().send());
    wait_for_effect(&cluster, &leader, "bytes_held").await;
    assert!(!call.is_finished());
    assert_eq!(cluster.leader().await, leader, "it leads on");
    let other = client(&cluster, &other_than(&leader)).await;
    make_key(&other, "elsewhere").await;
    fault(&cluster, &["heal"]).await;
    call.await.unwrap().map(drop).unwrap();
}

/// Catches a fault that outlives its time, though the command that put it is gone.
#[tokio::test]
async fn a_fault_lifts_itself() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let leader = cluster.leader().await;
    let told = fault(&cluster, &["cut", &leader, "--for", "8s"]).await;
    assert!(told.contains("it lifts itself in 8s"), "{told}");
    another_leader(&cluster, &leader).await;
    let gone = async || in_force(&cluster).await == 0;
    wait::until_true("end of the fault", wait::LONG, gone).await;
    cluster.agree().await;
}

/// Catches a minority that is not the leader's, and a majority that does not go on without it.
#[tokio::test]
async fn a_minority_with_the_leader() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let old = cluster.leader().await;
    let told = fault(&cluster, &["cut", HERE, "--shape", "minority"]).await;
    assert!(told.starts_with(&format!("fault 1: {old}: ")), "{told}");
    let new = another_leader(&cluster, &old).await;
    make_key_in_time(&client(&cluster, &new).await, "after").await;
    fault(&cluster, &["heal"]).await;
    cluster.agree().await;
    // Nodes at the ends of the bridge still have a majority with the middle.
    fault(&cluster, &["cut", HERE, "--shape", "bridge"]).await;
    let kms = sdk::client(cluster.endpoint(), HERE, "test");
    make_key_in_time(&kms, "over the bridge").await;
    fault(&cluster, &["heal"]).await;
    cluster.agree().await;
}
