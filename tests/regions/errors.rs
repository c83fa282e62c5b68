//! What is refused, in the real service's words.

use aws_sdk_kms::types::KeyState;
use keyrum_tests::sdk::refused;

use crate::relatives::{REGIONS, Relatives, dev};

/// Catches a wrong name or text, and checks in another order than the service's.
#[tokio::test]
async fn refusals_are_the_real_ones() {
    let dev = dev().await;
    let kin = Relatives::at(&dev.ready.endpoint, "refusals");
    let [east, ireland, west] = REGIONS;
    let replicate = async |region: &str, key: &str, to: &str| {
        let call = kin.kms(region).replicate_key().key_id(key);
        call.replica_region(to).send().await
    };
    let move_to = async |region: &str, key: &str, to: &str| {
        let call = kin.kms(region).update_primary_region().key_id(key);
        call.primary_region(to).send().await
    };

    let single = kin.kms(east).create_key().send().await.unwrap();
    let single = single.key_metadata.unwrap();
    let arn = single.arn().unwrap();
    let text = format!("{arn} is not a multi-region key.");
    for to in [ireland, east, "sa-east-1", "cn-north-1"] {
        let answer = replicate(east, single.key_id(), to).await;
        refused(answer, "UnsupportedOperationException", &text);
    }

    let key = kin.primary().await;
    let own = kin.arn(east, &key);
    refused(
        replicate(east, &key, east).await,
        "ValidationException",
        &format!("{east} cannot have a replica because it contains the primary."),
    );
    refused(
        replicate(east, &key, "cn-north-1").await,
        "ValidationException",
        "The replica key Region must be in the same AWS partition as the primary key Region.",
    );
    for unknown in ["sa-east-1", "us-nowhere-123"] {
        refused(
            replicate(east, &key, unknown).await,
            "ValidationException",
            &format!(
                "Region {unknown} is not a valid Region or multi-Region keys are not supported \
                 in Region {unknown}."
            ),
        );
    }
    refused(
        replicate(ireland, &key, west).await,
        "NotFoundException",
        &format!("Key '{}' does not exist", kin.arn(ireland, &key)),
    );
    let call = kin.kms(east).disable_key().key_id(&key);
    call.send().await.unwrap();
    refused(
        replicate(east, &key, ireland).await,
        "DisabledException",
        &format!("{own} is disabled."),
    );
    let call = kin.kms(east).enable_key().key_id(&key);
    call.send().await.unwrap();
    for (primary_region, text) in [(ireland, true), ("sa-east-1", true), (east, false)] {
        let answer = move_to(east, &key, primary_region).await;
        match text {
            true => refused(
                answer,
                "ValidationException",
                &format!("{key} does not have a replica key in the specified Region."),
            ),
            false => drop(answer.unwrap()),
        }
    }

    kin.replicate(&key, east, ireland).await;
    kin.settle(&key, east, &[east, ireland]).await;
    refused(
        replicate(east, &key, ireland).await,
        "AlreadyExistsException",
        "You can create only one replica of each primary key in each AWS Region.",
    );
    refused(
        replicate(ireland, &key, west).await,
        "UnsupportedOperationException",
        &format!(
            "{} is not a multi-region primary key.",
            kin.arn(ireland, &key)
        ),
    );
    refused(
        move_to(ireland, &key, east).await,
        "KMSInvalidStateException",
        &format!(
            "{} is not a multi-Region primary key.",
            kin.arn(ireland, &key)
        ),
    );

    // What the other Region says is the call's error, about the key there.
    let call = kin.kms(ireland).disable_key().key_id(&key);
    call.send().await.unwrap();
    refused(
        move_to(east, &key, ireland).await,
        "DisabledException",
        &format!("{} is disabled.", kin.arn(ireland, &key)),
    );
    let shown = kin.described(east, &key).await;
    assert_eq!(shown.key_state(), Some(&KeyState::Enabled));
    let call = kin.kms(ireland).schedule_key_deletion().key_id(&key);
    call.send().await.unwrap();
    refused(
        move_to(east, &key, ireland).await,
        "KMSInvalidStateException",
        &format!("{} is pending deletion.", kin.arn(ireland, &key)),
    );
    refused(
        replicate(east, &key, ireland).await,
        "AlreadyExistsException",
        "You can create only one replica of each primary key in each AWS Region.",
    );

    // A relative's ARN is not this Region's key.
    let blob = kin.encrypt(east, &key, "x").await;
    let call = kin.kms(east).decrypt().ciphertext_blob(blob);
    let call = call.key_id(kin.arn(ireland, &key));
    let answer = call.send().await.expect_err("a refusal");
    let code = answer.into_service_error().meta().code().map(str::to_owned);
    assert_eq!(code.as_deref(), Some("IncorrectKeyException"));
}
