//! Leaders that are frozen, not killed: they hold what they were sent and go on where they were.

use keyrum_tests::{Cluster, Shape, wait};

use crate::faults::leader;
use crate::relatives::{REGIONS, Relatives};
use crate::storm::messages_were_taken_once;

const FAMILIES: usize = 10;

/// Has all families' primaries change what replicas are told of.
async fn change(kin: &Relatives, keys: &[String], period: i32) {
    for key in keys {
        let call = kin.kms(REGIONS[0]).enable_key_rotation().key_id(key);
        let call = call.rotation_period_in_days(period);
        call.send().await.expect("its Region has a quorum");
    }
}

/// Waits until the replicas of all families in the second Region have been told.
async fn told(kin: &Relatives, keys: &[String], period: i32) {
    for key in keys {
        let what = format!("rotation every {period} days");
        wait::until_true(&what, wait::LONG, async || {
            let call = kin.kms(REGIONS[1]).get_key_rotation_status();
            let status = call.key_id(key).send().await;
            status.is_ok_and(|status| status.rotation_period_in_days() == Some(period))
        })
        .await;
    }
}

/// Catches a courier that waits for one node for ever, a new leader that does not carry on, and an
/// old one that comes back with a delivery, or with an answer to one, and has it count again.
#[tokio::test(flavor = "multi_thread")]
async fn frozen_leaders_are_passed_by() {
    let [east, ireland, west] = REGIONS;
    let shape = Shape {
        regions: vec![(east, 3), (ireland, 3), (west, 1)],
        ..Shape::one_region(3)
    };
    let cluster = Cluster::up(&shape).await;
    let kin = Relatives::at(cluster.endpoint(), "frozen");
    let mut keys = Vec::new();
    for _ in 0..FAMILIES {
        let key = kin.primary().await;
        kin.replicate(&key, east, ireland).await;
        kin.settle(&key, east, &[east, ireland]).await;
        keys.push(key);
    }

    // The receiving leader is frozen: the courier goes to another node.
    let receiver = leader(&cluster, ireland).await;
    cluster.command(&["pause", &receiver]).await;
    change(&kin, &keys, 100).await;
    told(&kin, &keys, 100).await;

    // The sending one too, with what the frozen receiver was sent still open. The next leader
    // carries on while both are away.
    let successor = leader(&cluster, ireland).await;
    assert_ne!(successor, receiver);
    let sender = leader(&cluster, east).await;
    cluster.command(&["pause", &successor]).await;
    cluster.command(&["resume", &receiver]).await;
    change(&kin, &keys, 200).await;
    cluster.command(&["pause", &sender]).await;
    told(&kin, &keys, 200).await;
    assert_ne!(leader(&cluster, east).await, sender);

    // Both come back with what they had in hand.
    cluster.command(&["resume", &sender]).await;
    cluster.command(&["resume", &successor]).await;
    change(&kin, &keys, 300).await;
    told(&kin, &keys, 300).await;
    for key in &keys {
        kin.settle(key, east, &[east, ireland]).await;
        kin.exchange(key, &[east, ireland]).await;
    }
    let messages = messages_were_taken_once(&cluster).await;
    assert!(messages >= 3 * FAMILIES as u64, "{messages}");
}
