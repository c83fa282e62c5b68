//! Deletion of a primary that has replicas.

use aws_sdk_kms::types::KeyState;
use keyrum_tests::sdk::refused;

use crate::relatives::{REGIONS, Relatives, advance, dev, family};

/// Catches a primary that goes before its replicas, waits for ever after they are gone, shows a
/// date that nobody knows yet, or does not come back when its deletion is cancelled.
#[tokio::test]
async fn a_primary_waits_for_its_replicas() {
    let dev = dev().await;
    let kin = Relatives::at(&dev.ready.endpoint, "waits");
    let [east, ireland, west] = REGIONS;
    let key = kin.primary().await;
    for region in [ireland, west] {
        kin.replicate(&key, east, region).await;
    }
    kin.settle(&key, east, &REGIONS).await;

    let schedule = async |region, days| {
        let call = kin.kms(region).schedule_key_deletion().key_id(&key);
        call.pending_window_in_days(days).send().await.unwrap()
    };
    let answer = schedule(east, 9).await;
    assert_eq!(answer.key_state(), Some(&KeyState::PendingReplicaDeletion));
    assert_eq!(answer.deletion_date(), None);
    assert_eq!(answer.pending_window_in_days(), Some(9));
    let shown = kin.described(east, &key).await;
    assert_eq!(shown.key_state(), Some(&KeyState::PendingReplicaDeletion));
    assert_eq!(shown.pending_deletion_window_in_days(), Some(9));
    assert_eq!((shown.deletion_date(), shown.enabled()), (None, false));
    let call = kin.kms(east).generate_data_key_without_plaintext();
    let call = call.key_id(&key).number_of_bytes(16);
    refused(
        call.send().await,
        "KMSInvalidStateException",
        &format!("{} is pending replica deletion.", kin.arn(east, &key)),
    );
    kin.exchange(&key, &[ireland, west]).await;

    let cancel = kin.kms(east).cancel_key_deletion().key_id(&key);
    cancel.send().await.unwrap();
    let shown = kin.described(east, &key).await;
    assert_eq!(shown.key_state(), Some(&KeyState::Disabled));
    assert_eq!(shown.pending_deletion_window_in_days(), None);

    schedule(east, 9).await;
    schedule(ireland, 7).await;
    advance(&dev, "8d");
    kin.settle(&key, east, &[west]).await;
    let shown = kin.described(east, &key).await;
    assert_eq!(shown.key_state(), Some(&KeyState::PendingReplicaDeletion));
    assert_eq!(family(&shown).2, [west]);

    schedule(west, 7).await;
    advance(&dev, "8d");
    let shown = kin.wait_for(east, &key, KeyState::PendingDeletion).await;
    assert!(shown.deletion_date().is_some());
    assert_eq!(shown.pending_deletion_window_in_days(), None);
    assert!(family(&shown).2.is_empty());
    advance(&dev, "10d");
    assert!(kin.look(east, &key).await.is_none());
}
