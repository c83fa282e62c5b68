//! Rotation of a family's material.

use keyrum_tests::sdk::refused;
use keyrum_tests::wait;

use crate::relatives::{REGIONS, Relatives, advance, dev};

impl Relatives {
    /// Waits until all members show the same current material, another than `former`.
    async fn rotated(&self, key: &str, former: &str) -> String {
        wait::until("one new material everywhere", wait::LONG, async || {
            let mut found: Vec<String> = Vec::new();
            for region in REGIONS {
                let shown = self.described(region, key).await;
                found.push(shown.current_key_material_id.expect("a material"));
            }
            let same = found.iter().all(|id| *id == found[0] && id != former);
            same.then(|| found.swap_remove(0))
        })
        .await
    }

    /// What the rotation of a member shows: on, its period, and how many there were.
    async fn shown_rotation(&self, region: &str, key: &str) -> (bool, Option<i32>, usize) {
        let status = self.kms(region).get_key_rotation_status().key_id(key);
        let status = status.send().await.expect("a status");
        let list = self.kms(region).list_key_rotations().key_id(key);
        let list = list.send().await.expect("a list");
        (
            status.key_rotation_enabled(),
            status.rotation_period_in_days(),
            list.rotations().len(),
        )
    }
}

/// Catches new material that is used before every Region has it, older ciphertexts that no longer
/// open somewhere, rotation that only the primary knows of, and a schedule that stays behind when the
/// primary moves.
#[tokio::test]
async fn a_family_rotates_as_one() {
    let dev = dev().await;
    let kin = Relatives::at(&dev.ready.endpoint, "rotates");
    let [east, ireland, west] = REGIONS;
    let key = kin.primary().await;
    for region in [ireland, west] {
        kin.replicate(&key, east, region).await;
    }
    kin.settle(&key, east, &REGIONS).await;
    let first = kin.described(east, &key).await;
    let first = first.current_key_material_id.expect("a material");
    let old = kin.encrypt(west, &key, "old").await;

    let rotate = kin.kms(east).rotate_key_on_demand().key_id(&key);
    rotate.send().await.unwrap();
    let second = kin.rotated(&key, &first).await;
    kin.exchange(&key, &REGIONS).await;
    let between = kin.encrypt(ireland, &key, "between").await;

    let not_here = |operation: &str| {
        let arn = kin.arn(west, &key);
        format!("{arn} is a multi-region replica key which is not valid for {operation}.")
    };
    refused(
        kin.kms(west)
            .enable_key_rotation()
            .key_id(&key)
            .send()
            .await,
        "UnsupportedOperationException",
        &not_here("EnableKeyRotation"),
    );
    refused(
        kin.kms(west)
            .rotate_key_on_demand()
            .key_id(&key)
            .send()
            .await,
        "UnsupportedOperationException",
        &not_here("RotateKeyOnDemand"),
    );
    refused(
        kin.kms(west)
            .disable_key_rotation()
            .key_id(&key)
            .send()
            .await,
        "UnsupportedOperationException",
        &not_here("DisableKeyRotation"),
    );

    let enable = kin.kms(east).enable_key_rotation().key_id(&key);
    enable.rotation_period_in_days(90).send().await.unwrap();
    for region in [ireland, west] {
        wait::until_true("the replicas know", wait::LONG, async || {
            kin.shown_rotation(region, &key).await == (true, Some(90), 1)
        })
        .await;
    }
    let update = kin.kms(east).update_primary_region().key_id(&key);
    update.primary_region(ireland).send().await.unwrap();
    kin.settle(&key, ireland, &REGIONS).await;
    advance(&dev, "91d");
    kin.rotated(&key, &second).await;
    for region in REGIONS {
        wait::until_true("every member shows both", wait::LONG, async || {
            kin.shown_rotation(region, &key).await == (true, Some(90), 2)
        })
        .await;
        for (blob, text) in [(&old, "old"), (&between, "between")] {
            assert_eq!(kin.decrypt(region, blob).await, text, "in {region}");
        }
    }
    kin.exchange(&key, &REGIONS).await;
}
