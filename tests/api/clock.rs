//! Deletion when the Region's clock passes its date. Rotation: see `rotation`.

use std::process::Output;

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::KeyState;
use keyrum_tests::sdk::{HERE, THERE, refused};
use keyrum_tests::{Dev, keyrum, wait};

use crate::desk::{Desk, Key};

/// Runs `keyrum clock advance`.
pub(crate) fn advance(dev: &Dev, by: &str) -> Output {
    let mut command = std::process::Command::new(keyrum());
    command
        .args(["clock", "advance", by, "--data"])
        .arg(dev.ready.data())
        .output()
        .unwrap()
}

async fn gone(desk: &Desk, key: &Key) {
    let what = format!("deletion of {}", key.id);
    let look = async || {
        desk.kms
            .describe_key()
            .key_id(&key.id)
            .send()
            .await
            .is_err()
    };
    wait::until_true(&what, wait::SHORT, look).await;
}

/// Catches a key that outlives its date, dies early, or leaves something behind.
#[tokio::test]
async fn keys_are_deleted_when_their_date_has_passed() {
    let dev = Dev::start(&["--ephemeral"]).await;
    let desk = Desk::at(&dev.ready.endpoint, "deletion");
    let (week, month, rescued, kept) = (
        desk.key().await,
        desk.key().await,
        desk.key().await,
        desk.key().await,
    );
    let blob = desk.ciphertext(&week.id).await;
    desk.kms
        .create_alias()
        .alias_name("alias/w")
        .target_key_id(&week.id)
        .send()
        .await
        .unwrap();
    for (key, days) in [(&week, 7), (&month, 30), (&rescued, 7)] {
        let call = desk
            .kms
            .schedule_key_deletion()
            .key_id(&key.id)
            .pending_window_in_days(days);
        call.send().await.unwrap();
    }
    desk.kms
        .cancel_key_deletion()
        .key_id(&rescued.id)
        .send()
        .await
        .unwrap();
    let there = desk.client_in(THERE);
    let distant = there
        .create_key()
        .send()
        .await
        .unwrap()
        .key_metadata
        .unwrap();
    let call = there
        .schedule_key_deletion()
        .key_id(distant.key_id())
        .pending_window_in_days(7);
    call.send().await.unwrap();

    let output = advance(&dev, "6d");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        desk.describe(&week.id).await.key_state(),
        Some(&KeyState::PendingDeletion)
    );
    let output = advance(&dev, "2d");
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.matches(", 1 key deleted").count(), 2, "{printed}");
    gone(&desk, &week).await;

    let message = format!("Key '{}' does not exist", week.arn);
    let answer = desk.kms.describe_key().key_id(&week.id).send().await;
    refused(answer, "NotFoundException", &message);
    let answer = desk.kms.describe_key().key_id("alias/w").send().await;
    refused(
        answer,
        "NotFoundException",
        &format!("Alias {} is not found.", desk.arn("alias/w")),
    );
    refused(
        desk.kms.decrypt().ciphertext_blob(blob).send().await,
        "AccessDeniedException",
        "The ciphertext refers to a customer master key that does not exist, does not exist in \
         this region, or you are not allowed to access.",
    );
    assert_eq!(
        desk.describe(&month.id).await.key_state(),
        Some(&KeyState::PendingDeletion)
    );
    assert_eq!(
        desk.describe(&rescued.id).await.key_state(),
        Some(&KeyState::Disabled)
    );
    assert!(desk.describe(&kept.id).await.enabled());
    let ids = desk.kms.list_keys().send().await.unwrap();
    assert_eq!(ids.keys().len(), 3);
    // The clock of every Region moves.
    let look = async || {
        there
            .describe_key()
            .key_id(distant.key_id())
            .send()
            .await
            .is_err()
    };
    wait::until_true("deletion in the other Region", wait::SHORT, look).await;

    // New dates follow the Region's clock: a week from then, not from now.
    let key = desk.key().await;
    let call = desk
        .kms
        .schedule_key_deletion()
        .key_id(&key.id)
        .pending_window_in_days(7);
    let due = call.send().await.unwrap().deletion_date.unwrap();
    let made = desk.describe(&kept.id).await.creation_date.unwrap();
    let days = (due.as_secs_f64() - made.as_secs_f64()) / 86_400.0;
    assert!((days - 15.0).abs() < 0.01, "{days}");
    // All nodes of a Region have come to the same.
    let states = async || {
        let mut all = Vec::new();
        for node in &dev.ready.regions[HERE].nodes {
            let desk = Desk::at(&node.api, "deletion");
            all.push(desk.kms.list_keys().send().await.unwrap().keys().len());
        }
        all
    };
    assert_eq!(states().await, [4, 4, 4]);
    let call = desk
        .kms
        .encrypt()
        .key_id(&month.id)
        .plaintext(Blob::new("x"));
    let message = format!("{} is pending deletion.", month.arn);
    refused(call.send().await, "KMSInvalidStateException", &message);
}

/// Catches a clock that is moved to where no client can read a date any more, for good.
#[tokio::test]
async fn a_clock_stops_at_the_year_9999() {
    let dev = Dev::start(&["--ephemeral"]).await;
    let desk = Desk::at(&dev.ready.endpoint, "far");
    let output = advance(&dev, "99999999999d");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{output:?}");
    assert!(words.contains("9999-12-31T23:59:59Z"), "{words}");
    assert!(!words.contains("was moved in"), "{words}");
    // It moves on as before, and clients understand its dates.
    assert!(advance(&dev, "1d").status.success());
    let key = desk.key().await;
    let found = desk.kms.describe_key().key_id(&key.id).send().await;
    let created = found.unwrap().key_metadata.unwrap().creation_date.unwrap();
    assert!(created.secs() < 253_402_300_799, "{created:?}");
}
