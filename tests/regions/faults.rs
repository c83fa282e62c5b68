//! Nodes that are killed while a family changes.

use std::time::Duration;

use aws_sdk_kms::types::KeyState;
use keyrum_tests::sdk::{Failed, failed};
use keyrum_tests::{Cluster, Shape, wait};
use tokio::time::Instant;

use crate::relatives::{REGIONS, Relatives, family};

fn shape() -> Shape {
    Shape {
        regions: vec![(REGIONS[0], 3), (REGIONS[1], 3)],
        ..Shape::one_region(3)
    }
}

/// The node that leads a Region, once there is one.
pub(crate) async fn leader(cluster: &Cluster, region: &str) -> String {
    wait::until("leader", wait::LONG, async || {
        let lines = cluster.status().await;
        let ours = lines.iter().filter(|line| line.node.starts_with(region));
        let leads = ours.filter(|line| line.say("role") == "leader");
        let newest = leads.max_by_key(|line| line.number("term"));
        newest.map(|line| line.node.clone())
    })
    .await
}

/// Catches a message between Regions that is lost or taken twice when a leader on either side is
/// killed on the way, a replica that stays Creating, a key that stays Updating, and a family whose
/// members tell different things.
#[tokio::test]
async fn leaders_may_be_killed_on_the_way() {
    let cluster = Cluster::up(&shape()).await;
    let kin = Relatives::at(cluster.endpoint(), "killed");
    let [east, ireland, _] = REGIONS;
    let mut families = Vec::new();
    for round in 0..4 {
        let key = kin.primary().await;
        let old = kin.encrypt(east, &key, "old").await;
        let victims = match round % 2 {
            0 => [east, ireland],
            _ => [ireland, east],
        };
        // Killed right behind the answer: what it led to is on its way.
        let victim = leader(&cluster, victims[0]).await;
        kin.replicate(&key, east, ireland).await;
        cluster.command(&["kill", &victim]).await;
        kin.settle(&key, east, &[east, ireland]).await;
        assert_eq!(kin.decrypt(ireland, &old).await, "old");
        cluster.command(&["restart", &victim]).await;
        families.push((key, east, old));

        let victim = leader(&cluster, victims[1]).await;
        let moves = families.iter_mut().map(|(key, primary, _)| {
            let to = if *primary == east { ireland } else { east };
            let from = std::mem::replace(primary, to);
            let call = kin.kms(from).update_primary_region();
            call.key_id(key.clone()).primary_region(to).send()
        });
        let moves: Vec<_> = moves.map(keyrum_consensus::world::spawn).collect();
        cluster.command(&["kill", &victim]).await;
        for call in moves {
            match call.await.unwrap() {
                Ok(_) => {}
                Err(error) => match failed(error) {
                    // Whether it moves is for the family to tell.
                    Failed::Answer(code, _) if code == "KMSInternalException" => {}
                    Failed::Answer(code, _) if code == "DependencyTimeoutException" => {}
                    Failed::Unsent(_) | Failed::Silence(_) => {}
                    answer => panic!("{answer:?}"),
                },
            }
        }
        for (key, primary, old) in &mut families {
            *primary = wait::until("settled family", wait::LONG, async || {
                let shown = [kin.look(east, key).await?, kin.look(ireland, key).await?];
                let [one, two] = [family(&shown[0]), family(&shown[1])];
                let at_rest = shown.iter().all(|key| key.enabled()) && one.1 == two.1;
                at_rest.then(|| if one.1 == east { east } else { ireland })
            })
            .await;
            kin.settle(key, primary, &[east, ireland]).await;
            kin.exchange(key, &[east, ireland]).await;
            assert_eq!(kin.decrypt(ireland, old).await, "old");
        }
        cluster.command(&["restart", &victim]).await;
    }
    let waiting = |line: &keyrum_tests::NodeLine| {
        let channels = line.say("channels").as_array().cloned();
        channels
            .unwrap_or_default()
            .iter()
            .any(|channel| channel["waiting"] != 0)
    };
    wait::until_true("empty outboxes", wait::LONG, async || {
        !cluster.status().await.iter().any(waiting)
    })
    .await;
    cluster.agree().await;
}

/// Catches a call that hangs, or begins what it cannot end, while the other Region is down; and a
/// message that is not delivered, or not told of in the status, when it is down afterwards.
#[tokio::test]
async fn a_region_that_is_down_is_waited_for() {
    let mut shape = shape();
    shape.regions.push((REGIONS[2], 1));
    let cluster = Cluster::up(&shape).await;
    let kin = Relatives::at(cluster.endpoint(), "down");
    let [east, ireland, west] = REGIONS;
    let nodes = [1, 2, 3].map(|id| format!("{ireland}/{id}"));
    let key = kin.primary().await;
    let moving = kin.primary().await;
    kin.replicate(&moving, east, ireland).await;
    kin.settle(&moving, east, &[east, ireland]).await;
    for node in &nodes {
        cluster.command(&["kill", node]).await;
    }
    let begun = Instant::now();
    let call = kin.kms(east).replicate_key().key_id(&key);
    let error = call.replica_region(ireland).send().await.unwrap_err();
    let Failed::Answer(code, _) = failed(error) else {
        panic!("no answer");
    };
    assert_eq!(code, "DependencyTimeoutException");
    let call = kin.kms(east).update_primary_region().key_id(&moving);
    let error = call.primary_region(ireland).send().await.unwrap_err();
    assert!(
        matches!(failed(error), Failed::Answer(code, _) if code == "DependencyTimeoutException")
    );
    assert!(begun.elapsed() < Duration::from_secs(10), "5 s each");
    assert!(family(&kin.described(east, &key).await).2.is_empty());
    assert!(kin.described(east, &moving).await.enabled());

    // With nothing waiting, the log holds what callers asked for and nothing else.
    let log = async || {
        let lines = cluster.status().await;
        let ours = lines.iter().filter(|line| line.node.starts_with(east));
        ours.map(|line| line.number("last_log")).max().unwrap()
    };
    let before = log().await;
    for text in 0..20 {
        let call = kin.kms(east).update_key_description().key_id(&key);
        call.description(text.to_string()).send().await.unwrap();
    }
    assert_eq!(log().await, before + 20);

    // What a third Region's replica leads to waits, and is told of.
    kin.replicate(&moving, east, west).await;
    kin.wait_for(west, &moving, KeyState::Enabled).await;
    wait::until_true("waiting message", wait::SHORT, async || {
        let status = cluster.command(&["status"]).await;
        let text = String::from_utf8(status.stdout).expect("text");
        let start = format!("{east} -> {ireland}: 1 waiting, the oldest for ");
        let line = text.lines().find(|line| line.starts_with(&start));
        line.is_some_and(|line| line.contains("cannot reach node"))
    })
    .await;

    for node in &nodes {
        cluster.command(&["restart", node]).await;
    }
    kin.settle(&moving, east, &REGIONS).await;
    kin.replicate(&key, east, ireland).await;
    kin.settle(&key, east, &[east, ireland]).await;
    // What was taken is forgotten a moment later.
    wait::until_true("empty outboxes", wait::SHORT, async || {
        let status = cluster.command(&["status"]).await;
        !String::from_utf8_lossy(&status.stdout).contains("waiting")
    })
    .await;
}

/// Catches a Region that knows another only by the nodes that it once had.
#[tokio::test]
async fn nodes_of_the_other_region_come_and_go() {
    let shape = Shape {
        regions: vec![(REGIONS[0], 1), (REGIONS[1], 1)],
        ..Shape::one_region(1)
    };
    let cluster = Cluster::up(&shape).await;
    let kin = Relatives::at(cluster.endpoint(), "come-and-go");
    let [east, ireland, _] = REGIONS;
    let (first, second) = (format!("{ireland}/1"), format!("{ireland}/2"));
    cluster.command(&["add", &second]).await;
    cluster.command(&["remove", &first]).await;
    let key = kin.primary().await;
    kin.replicate(&key, east, ireland).await;
    kin.settle(&key, east, &[east, ireland]).await;
    let call = kin.kms(east).update_primary_region().key_id(&key);
    call.primary_region(ireland).send().await.unwrap();
    kin.settle(&key, ireland, &[east, ireland]).await;
}
