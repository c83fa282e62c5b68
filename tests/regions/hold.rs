//! Transient states that stay for a while: `keyrum dev --hold-transient`.

use std::time::Duration;

use aws_sdk_kms::types::KeyState;
use keyrum_tests::sdk::{Failed, failed, refused};
use keyrum_tests::{Cluster, Dev, Shape, wait};
use tokio::time::Instant;

use crate::faults::leader;
use crate::relatives::{REGIONS, Relatives};

const HOLD: Duration = Duration::from_secs(2);

/// Waits until a member shows a state and gives the time, no later than when it was shown.
async fn shown(kin: &Relatives, region: &str, key: &str, state: KeyState) -> Instant {
    let what = format!("{state} in {region}");
    wait::until(&what, wait::LONG, async || {
        let asked = Instant::now();
        let shown = kin.look(region, key).await?;
        (shown.key_state.as_ref() == Some(&state)).then_some(asked)
    })
    .await
}

/// Catches a Creating or Updating that is over too soon or never, calls that get other errors
/// meanwhile than the real ones, calls that wait for what is held, families that are held one after
/// the other, and a status that calls it an error.
#[tokio::test]
async fn creating_and_updating_stay_for_a_while() {
    let regions = REGIONS.join(",");
    let dev = Dev::start(&[
        "--ephemeral",
        "--nodes",
        "1",
        "--regions",
        &regions,
        "--hold-transient",
        "2s",
    ])
    .await;
    let kin = Relatives::at(&dev.ready.endpoint, "hold");
    let [east, ireland, _] = REGIONS;
    let mut keys = Vec::new();
    for _ in 0..4 {
        keys.push(kin.primary().await);
    }
    let begun = Instant::now();
    for key in &keys {
        kin.replicate(key, east, ireland).await;
    }
    let key = &keys[0];
    let creating = shown(&kin, ireland, key, KeyState::Creating).await;
    let arn = kin.arn(ireland, key);
    let call = kin.kms(ireland).disable_key().key_id(key).send();
    let message = format!("{arn} is creating.");
    refused(call.await, "KMSInvalidStateException", &message);
    let call = kin.kms(east).update_primary_region().key_id(key);
    let call = call.primary_region(ireland).send();
    refused(call.await, "KMSInvalidStateException", &message);
    let enabled = kin.wait_for(ireland, key, KeyState::Enabled);
    enabled.await;
    assert!(creating.elapsed() >= HOLD, "{:?}", creating.elapsed());
    for key in &keys {
        kin.settle(key, east, &[east, ireland]).await;
    }
    // One after the other they take four times as long, and are held once more for each.
    assert!(begun.elapsed() < 4 * HOLD, "{:?}", begun.elapsed());

    let asked = Instant::now();
    let call = kin.kms(east).update_primary_region().key_id(key);
    call.primary_region(ireland).send().await.unwrap();
    let arns = [kin.arn(east, key), arn];
    for (region, arn) in [east, ireland].iter().zip(&arns) {
        let call = kin.kms(region).disable_key().key_id(key).send();
        let message = format!("{arn} is updating.");
        refused(call.await, "KMSInvalidStateException", &message);
    }
    kin.exchange(key, &[east, ireland]).await;
    kin.wait_for(ireland, key, KeyState::Enabled).await;
    assert!(asked.elapsed() >= HOLD, "{:?}", asked.elapsed());
    let updating = shown(&kin, east, key, KeyState::Updating).await;
    kin.wait_for(east, key, KeyState::Enabled).await;
    assert!(updating.elapsed() <= asked.elapsed() - HOLD);
    assert!(asked.elapsed() >= 2 * HOLD, "one after the other");
    kin.settle(key, ireland, &[east, ireland]).await;
    kin.exchange(key, &[east, ireland]).await;
}

/// Catches a refusal that is held, so that the call that waits for it gets no answer.
#[tokio::test]
async fn a_refused_move_answers_at_once() {
    let regions = REGIONS[..2].join(",");
    let dev = Dev::start(&[
        "--ephemeral",
        "--nodes",
        "1",
        "--regions",
        &regions,
        "--hold-transient",
        "6s",
    ])
    .await;
    let kin = Relatives::at(&dev.ready.endpoint, "held refusal");
    let [east, ireland, _] = REGIONS;
    let key = kin.primary().await;
    kin.replicate(&key, east, ireland).await;
    kin.settle(&key, east, &[east, ireland]).await;
    let call = kin.kms(ireland).disable_key().key_id(&key).send();
    call.await.unwrap();
    // Held, the answer would come after the call has given up.
    let call = kin.kms(east).update_primary_region().key_id(&key);
    let error = call.primary_region(ireland).send().await.unwrap_err();
    let Failed::Answer(code, _) = failed(error) else {
        panic!("no answer");
    };
    assert_eq!(code, "DisabledException");
    assert!(kin.described(east, &key).await.enabled());
}

/// Catches a held message that is lost, or kept for ever, when leaders die, and a pause that is
/// told as an error.
#[tokio::test]
async fn what_is_held_outlives_leaders() {
    let shape = Shape {
        regions: vec![(REGIONS[0], 3), (REGIONS[1], 3)],
        lines: "hold_transient = \"2s\"".to_owned(),
        ..Shape::one_region(3)
    };
    let cluster = Cluster::up(&shape).await;
    let kin = Relatives::at(cluster.endpoint(), "held");
    let [east, ireland, _] = REGIONS;
    let key = kin.primary().await;
    kin.replicate(&key, east, ireland).await;
    let creating = shown(&kin, ireland, &key, KeyState::Creating).await;
    let lines = cluster.status().await;
    let errors = lines.iter().flat_map(|line| {
        let channels = line.say("channels").as_array().cloned().unwrap_or_default();
        channels
            .into_iter()
            .map(|channel| channel["last_error"].clone())
    });
    for error in errors {
        assert!(error.is_null(), "{error}");
    }
    for region in [east, ireland] {
        let victim = leader(&cluster, region).await;
        cluster.command(&["kill", &victim]).await;
        cluster.command(&["restart", &victim]).await;
    }
    kin.settle(&key, east, &[east, ireland]).await;
    assert!(creating.elapsed() >= HOLD);
    let call = kin.kms(east).update_primary_region().key_id(&key);
    call.primary_region(ireland).send().await.unwrap();
    let victim = leader(&cluster, ireland).await;
    cluster.command(&["kill", &victim]).await;
    kin.settle(&key, ireland, &[east, ireland]).await;
    kin.exchange(&key, &[east, ireland]).await;
}
