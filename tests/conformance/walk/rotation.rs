//! Rotation, by the calendar and on demand.

use keyrum_tests::sdk::THERE;
use keyrum_tests::{Dev, keyrum, wait};
use serde_json::{Value, json};

use crate::kms::Kms;
use crate::prepared::{MAC, SYMMETRIC, new_key};

/// Moves the clocks of all Regions ahead.
pub(super) fn advance(dev: &Dev, by: &str) {
    let mut command = std::process::Command::new(keyrum());
    command.args(["clock", "advance", by, "--data"]);
    let output = command.arg(dev.ready.data()).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
}

pub(super) async fn walk(kms: &Kms, dev: &Dev) {
    let id = new_key(kms, SYMMETRIC, false).await;
    let key = json!({"KeyId": id});
    let status = async |_: &Value| kms.ok("GetKeyRotationStatus", key.clone()).await;
    let days = [90.into(), 91.into()];
    kms.vary(
        "EnableKeyRotation",
        &key,
        "/RotationPeriodInDays",
        &days,
        status,
    )
    .await;
    advance(dev, "90d 23h 50m");
    kms.no("RotateKeyOnDemand", key.clone(), "ConflictException")
        .await;
    advance(dev, "20m");
    wait::until_true("automatic rotation", wait::LONG, async || {
        let rotations = kms.ok("ListKeyRotations", key.clone()).await;
        rotations["Rotations"][0]["RotationType"] == "AUTOMATIC"
    })
    .await;

    let often = new_key(kms, SYMMETRIC, false).await;
    for _ in 0..25 {
        kms.ok("RotateKeyOnDemand", json!({"KeyId": often})).await;
    }
    let body = json!({"KeyId": often});
    kms.no("RotateKeyOnDemand", body, "LimitExceededException")
        .await;
    let (mac, brought) = (
        new_key(kms, MAC, false).await,
        new_key(kms, SYMMETRIC.imported(), false).await,
    );
    for (operation, id) in [
        ("EnableKeyRotation", &mac),
        ("RotateKeyOnDemand", &mac),
        ("DisableKeyRotation", &brought),
    ] {
        let body = json!({"KeyId": id});
        kms.no(operation, body, "UnsupportedOperationException")
            .await;
    }

    // Under way until every member has the new material: one is still being created.
    let family = new_key(kms, SYMMETRIC, true).await;
    let key = json!({"KeyId": family});
    let body = json!({"KeyId": family, "ReplicaRegion": THERE});
    kms.ok("ReplicateKey", body).await;
    kms.ok("RotateKeyOnDemand", key.clone()).await;
    let status = kms.ok("GetKeyRotationStatus", key).await;
    assert!(status["OnDemandRotationStartDate"].is_number(), "{status}");
}
