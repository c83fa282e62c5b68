//! A reset of `keyrum dev` that loses its power.

use std::path::Path;

use aws_sdk_kms::primitives::Blob;
use keyrum_tests::http::Raw;
use keyrum_tests::sdk::{self, HERE};
use keyrum_tests::switch::Switch;
use keyrum_tests::{Dev, wait};
use serde_json::Value;

/// Whether the folder says that what was in it counts for nothing.
fn begun(data: &Path) -> bool {
    let record = std::fs::read(data.join("cluster.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    record["regions"][0]["founded"] == false
}

/// Catches a reset that a power loss cuts short and that leaves a folder no start gets over, some
/// of the keys, or keys that cannot be used.
#[tokio::test(flavor = "multi_thread")]
async fn a_reset_survives_a_power_loss() {
    let folder = tempfile::tempdir().unwrap();
    let switch = Switch::new(folder.path());
    let data = folder.path().join("data");
    let envs = switch.environment(&data, false);
    let arguments = ["--regions", HERE, "--data", data.to_str().unwrap()];
    let (mut all_there, mut none_there) = (0, 0);
    let mut dev = Dev::start_with(&envs, &arguments).await;
    // From the stop of the nodes over what is removed to the start of new ones.
    for changes in [1, 15, 30, 45, 60, 75, 90, 105, 120] {
        let kms = sdk::client(&dev.ready.endpoint, HERE, "test");
        let key = kms.create_key().send().await.unwrap().key_metadata.unwrap();
        let encrypt = kms.encrypt().key_id(key.key_id());
        let encrypt = encrypt.plaintext(Blob::new("secret"));
        let blob = encrypt.send().await.unwrap().ciphertext_blob.unwrap();
        switch.cut_before_change(changes);
        let answer = Raw::beside("POST", "reset").send(&dev.ready.endpoint).await;
        assert!(answer.is_err(), "over before change {changes}: {answer:?}");
        let ended = async || dev.child().try_wait().unwrap();
        wait::until("end", wait::SHORT, ended).await;
        let begun = begun(&data);
        drop(dev);
        switch.turn_on();
        dev = Dev::start_with(&envs, &arguments).await;
        let kms = sdk::client(&dev.ready.endpoint, HERE, "test");
        let keys = kms.list_keys().send().await.unwrap();
        let at = format!("power lost before change {changes}");
        assert_eq!(keys.keys().is_empty(), begun, "{at}: {keys:?}");
        if begun {
            none_there += 1;
        } else {
            all_there += 1;
            let opened = kms.decrypt().ciphertext_blob(blob).send().await.unwrap();
            assert_eq!(opened.plaintext().unwrap().as_ref(), b"secret", "{at}");
        }
    }
    assert!(all_there > 0 && none_there > 0, "{all_there}, {none_there}");
}
