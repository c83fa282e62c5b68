//! Regions that are far apart: `[[link]]` in the topology file.

use std::time::Duration;

use aws_sdk_kms::types::KeyState;
use keyrum_tests::{Cluster, Shape, wait};
use tokio::time::Instant;

use crate::relatives::{REGIONS, Relatives};

fn apart(between: [&str; 2], rest: &str) -> String {
    let [one, other] = between;
    format!("{{ between = [\"{one}\", \"{other}\"], {rest} }}")
}

async fn cluster(links: &[String], regions: &[&'static str]) -> Cluster {
    let shape = Shape {
        regions: regions.iter().map(|region| (*region, 1)).collect(),
        lines: format!("link = [{}]", links.join(", ")),
        ..Shape::one_region(1)
    };
    Cluster::up(&shape).await
}

/// Catches a distance that is not there or only one way, and a connection that is made anew for
/// every message.
#[tokio::test]
async fn a_move_takes_its_round_trips() {
    let [east, ireland, _] = REGIONS;
    let links = [apart([east, ireland], "round_trip_ms = 100")];
    let cluster = cluster(&links, &REGIONS[..2]).await;
    let kin = Relatives::at(cluster.endpoint(), "far");
    let key = kin.primary().await;
    let begun = Instant::now();
    kin.replicate(&key, east, ireland).await;
    // The call asks the other Region first. Then the record goes there; its confirmation comes
    // back; and the record that shows it goes there.
    assert!(begun.elapsed() >= Duration::from_millis(100));
    kin.wait_for(ireland, &key, KeyState::Enabled).await;
    assert!(begun.elapsed() >= Duration::from_millis(250));
    kin.settle(&key, east, &[east, ireland]).await;

    let mut calls = Vec::new();
    for round in 0..6 {
        let (from, to) = match round % 2 {
            0 => (east, ireland),
            _ => (ireland, east),
        };
        let begun = Instant::now();
        let call = kin.kms(from).update_primary_region().key_id(&key);
        call.primary_region(to).send().await.unwrap();
        // A question there and back, the request there, its answer back.
        let called = begun.elapsed();
        assert!(called >= Duration::from_millis(200), "{called:?}");
        calls.push(called);
        kin.settle(&key, to, &[east, ireland]).await;
        // The last record there, the new primary's back.
        let moved = begun.elapsed();
        assert!(moved >= Duration::from_millis(300), "{moved:?}");
        kin.exchange(&key, &[east, ireland]).await;
    }
    // Over new connections the question, the request and its answer take three round trips more
    // each. On a busy machine anything may take longer once, but not each of six.
    let least = calls.iter().min().unwrap();
    assert!(*least < Duration::from_millis(800), "{calls:?}");
}

/// Catches limits that a real distance, with jitter and loss, goes beyond: a call that fails, and a
/// family that does not settle.
#[tokio::test]
async fn far_regions_keep_a_family() {
    let [east, ireland, west] = REGIONS;
    let rest = "round_trip_ms = 300, jitter_ms = 20, loss = 0.02";
    let links = [
        apart([east, ireland], rest),
        apart([west, ireland], rest),
        apart([east, west], "round_trip_ms = 60, jitter_ms = 5"),
    ];
    let cluster = cluster(&links, &REGIONS).await;
    let kin = Relatives::at(cluster.endpoint(), "farther");
    let key = kin.primary().await;
    let old = kin.encrypt(east, &key, "old").await;
    kin.replicate(&key, east, ireland).await;
    kin.replicate(&key, east, west).await;
    kin.settle(&key, east, &REGIONS).await;
    for (from, to) in [(east, ireland), (ireland, west), (west, east)] {
        let call = kin.kms(from).update_primary_region().key_id(&key);
        call.primary_region(to).send().await.unwrap();
        kin.settle(&key, to, &REGIONS).await;
    }
    assert_eq!(kin.decrypt(ireland, &old).await, "old");

    // Many families at once share batches: three round trips each would take five minutes.
    let mut calls = Vec::new();
    for _ in 0..300 {
        let key = kin.primary().await;
        let call = kin.kms(east).replicate_key();
        let call = call.key_id(key.clone()).replica_region(ireland);
        calls.push((key, keyrum_consensus::world::spawn(call.send())));
    }
    for (key, call) in calls {
        call.await.unwrap().unwrap();
        kin.settle(&key, east, &[east, ireland]).await;
    }
    let waiting = async || {
        let status = cluster.command(&["status"]).await;
        String::from_utf8_lossy(&status.stdout).contains(" waiting")
    };
    wait::until_true("empty outboxes", wait::SHORT, async || !waiting().await).await;
}
