//! Rotation of a key's material: by the Region's clock, and on demand.

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{IncludeKeyMaterial, KeyMaterialState, RotationType, RotationsListEntry};
use keyrum_tests::sdk::{HERE, refused};
use keyrum_tests::{Dev, wait};

use crate::clock::advance;
use crate::desk::{Desk, Key};

const DAY_SECONDS: f64 = 86_400.0;

async fn rotations(desk: &Desk, key: &Key) -> Vec<RotationsListEntry> {
    list(desk, key, None).await
}

async fn list(
    desk: &Desk,
    key: &Key,
    include: Option<IncludeKeyMaterial>,
) -> Vec<RotationsListEntry> {
    let call = desk.kms.list_key_rotations().key_id(&key.id);
    let answer = call.set_include_key_material(include).send().await.unwrap();
    assert!(!answer.truncated() && answer.next_marker().is_none());
    answer.rotations.unwrap()
}

async fn current(desk: &Desk, key: &Key) -> String {
    let described = desk.describe(&key.id).await;
    described.current_key_material_id.unwrap()
}

/// The version of material that made a ciphertext, which must decrypt.
async fn made_by(desk: &Desk, blob: &Blob) -> String {
    let answer = desk.kms.decrypt().ciphertext_blob(blob.clone());
    let answer = answer.send().await.unwrap();
    assert_eq!(answer.plaintext().unwrap().as_ref(), b"secret");
    answer.key_material_id.unwrap()
}

async fn next_date(desk: &Desk, key: &Key) -> f64 {
    let status = desk.kms.get_key_rotation_status().key_id(&key.id);
    let status = status.send().await.unwrap();
    assert!(status.key_rotation_enabled());
    status.next_rotation_date().unwrap().as_secs_f64()
}

async fn enable(desk: &Desk, key: &Key, days: Option<i32>) {
    let call = desk.kms.enable_key_rotation().key_id(&key.id);
    let call = call.set_rotation_period_in_days(days);
    call.send().await.unwrap();
}

fn moved(dev: &Dev, by: &str) -> String {
    let output = advance(dev, by);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Catches a key that is not rotated on its date, or before it, or more often than its dates come;
/// one that loses what it once encrypted; and one whose schedule drifts.
#[tokio::test]
async fn keys_are_rotated_as_the_year_goes_by() {
    let dev = Dev::start(&["--ephemeral"]).await;
    let desk = Desk::at(&dev.ready.endpoint, "a year");
    let (quarterly, yearly, never) = (desk.key().await, desk.key().await, desk.key().await);
    enable(&desk, &quarterly, Some(90)).await;
    enable(&desk, &yearly, None).await;
    let begin = next_date(&desk, &quarterly).await - 90.0 * DAY_SECONDS;
    let mut blobs = Vec::new();
    // Four quarters of 90 days, and then the rest of the year.
    for quarter in 0..4 {
        let material = current(&desk, &quarterly).await;
        blobs.push((desk.ciphertext(&quarterly.id).await, material));
        let printed = moved(&dev, "89d");
        assert!(!printed.contains("rotated"), "{printed}");
        assert_eq!(rotations(&desk, &quarterly).await.len(), quarter);
        let printed = moved(&dev, "1d");
        assert!(printed.contains(", 1 key rotated"), "{printed}");
        // At once, not some time later.
        let rotations = rotations(&desk, &quarterly).await;
        assert_eq!(rotations.len(), quarter + 1);
        let newest = rotations.last().unwrap();
        assert_eq!(newest.key_id(), Some(quarterly.arn.as_str()));
        assert_eq!(newest.rotation_type(), Some(&RotationType::Automatic));
        assert_eq!(
            newest.key_material_state(),
            Some(&KeyMaterialState::Current)
        );
        let dated = newest.rotation_date().unwrap().as_secs_f64() - begin;
        let days = dated / DAY_SECONDS;
        assert!((days - 90.0 * (quarter + 1) as f64).abs() < 0.01, "{days}");
        let next = next_date(&desk, &quarterly).await - begin;
        assert_eq!(next, 90.0 * DAY_SECONDS * (quarter + 2) as f64);
        let material = current(&desk, &quarterly).await;
        assert_eq!(newest.key_material_id(), Some(material.as_str()));
        for (blob, material) in &blobs {
            assert_eq!(&made_by(&desk, blob).await, material);
            assert_ne!(&current(&desk, &quarterly).await, material);
        }
        let before = &rotations[..quarter];
        let old = Some(&KeyMaterialState::NonCurrent);
        assert!(before.iter().all(|entry| entry.key_material_state() == old));
    }
    assert_eq!(rotations(&desk, &yearly).await.len(), 0);
    assert!(moved(&dev, "6d").contains(", 1 key rotated"));
    assert_eq!(rotations(&desk, &yearly).await.len(), 1);
    assert_eq!(rotations(&desk, &never).await.len(), 0);
    assert_eq!(rotations(&desk, &quarterly).await.len(), 4);

    // 400 days at once are four quarters and a year, and one rotation of each key.
    assert!(moved(&dev, "400d").contains(", 2 keys rotated"));
    assert_eq!(rotations(&desk, &quarterly).await.len(), 5);
    assert_eq!(rotations(&desk, &yearly).await.len(), 2);
    let next = (next_date(&desk, &quarterly).await - begin) / DAY_SECONDS;
    assert_eq!(
        next,
        90.0 * 9.0,
        "the first date of the grid after 766 days"
    );

    // Every node came to the same.
    let expected = rotations(&desk, &quarterly).await;
    for node in &dev.ready.regions[HERE].nodes {
        let desk = Desk::at(&node.api, "a year");
        assert_eq!(rotations(&desk, &quarterly).await, expected);
        for (blob, material) in &blobs {
            assert_eq!(&made_by(&desk, blob).await, material);
        }
    }

    // A key that cannot be used is rotated as soon as it can be again.
    let kms = &desk.kms;
    kms.disable_key().key_id(&yearly.id).send().await.unwrap();
    let call = kms.schedule_key_deletion().key_id(&quarterly.id);
    call.pending_window_in_days(30).send().await.unwrap();
    let status = kms.get_key_rotation_status().key_id(&quarterly.id);
    let status = status.send().await.unwrap();
    assert!(!status.key_rotation_enabled() && status.next_rotation_date().is_none());
    assert!(!moved(&dev, "29d").contains("rotated"));
    let call = kms.cancel_key_deletion().key_id(&quarterly.id);
    call.send().await.unwrap();
    assert!(!moved(&dev, "400d").contains("rotated"));
    for (key, before) in [(&quarterly, 5), (&yearly, 2)] {
        assert_eq!(rotations(&desk, key).await.len(), before);
        kms.enable_key().key_id(&key.id).send().await.unwrap();
        let look = async || rotations(&desk, key).await.len() == before + 1;
        wait::until_true("rotation of a key enabled again", wait::SHORT, look).await;
    }

    // On demand, but not when an automatic rotation is 20 minutes away.
    let key = desk.key().await;
    enable(&desk, &key, Some(90)).await;
    moved(&dev, "89d 23h 30m");
    kms.rotate_key_on_demand()
        .key_id(&key.id)
        .send()
        .await
        .unwrap();
    moved(&dev, "10m");
    let message = format!(
        "An automatic rotation of {} is in progress or due within 20 minutes.",
        key.arn
    );
    let call = kms.rotate_key_on_demand().key_id(&key.id);
    refused(call.send().await, "ConflictException", &message);
    assert!(moved(&dev, "20m").contains(", 1 key rotated"));
    let kinds: Vec<_> = rotations(&desk, &key).await;
    let kinds: Vec<_> = kinds.iter().map(|entry| entry.rotation_type()).collect();
    let (on_demand, automatic) = (RotationType::OnDemand, RotationType::Automatic);
    assert_eq!(kinds, [Some(&on_demand), Some(&automatic)]);
}

/// Catches a setting that is lost, or that changes when it should not.
#[tokio::test]
async fn automatic_rotation_is_set_and_shown() {
    let desk = Desk::dev("rotation settings").await;
    let (kms, key) = (&desk.kms, desk.key().await);
    let status = async || {
        let call = kms.get_key_rotation_status().key_id(&key.arn);
        let status = call.send().await.unwrap();
        assert_eq!(status.key_id(), Some(key.arn.as_str()));
        assert!(status.on_demand_rotation_start_date().is_none());
        let next = status.next_rotation_date().copied();
        assert_eq!(status.key_rotation_enabled(), next.is_some());
        (status.rotation_period_in_days(), next)
    };
    let disable = async || {
        let call = kms.disable_key_rotation().key_id(&key.id);
        call.send().await.unwrap();
    };
    let off = (None, None);
    assert_eq!(status().await, off);
    disable().await;
    assert_eq!(status().await, off);
    enable(&desk, &key, Some(2560)).await;
    let (period, next) = status().await;
    assert_eq!(period, Some(2560));
    let made = desk.describe(&key.id).await.creation_date.unwrap();
    let days = (next.unwrap().as_secs_f64() - made.as_secs_f64()) / DAY_SECONDS;
    assert!((days - 2560.0).abs() < 0.01, "{days}");
    for period in [None, Some(2560)] {
        enable(&desk, &key, period).await;
        assert_eq!(status().await, (Some(2560), next));
    }
    enable(&desk, &key, Some(90)).await;
    assert_eq!(status().await.0, Some(90));
    disable().await;
    assert_eq!(status().await, off);
    enable(&desk, &key, None).await;
    let (period, next) = status().await;
    assert_eq!(period, Some(365));
    // A disabled key keeps it, and takes no other.
    kms.disable_key().key_id(&key.id).send().await.unwrap();
    let disabled = format!("{} is disabled.", key.arn);
    let call = kms.enable_key_rotation().key_id(&key.id);
    let call = call.rotation_period_in_days(90);
    refused(call.send().await, "DisabledException", &disabled);
    assert_eq!(status().await, (Some(365), next));

    let message = |value: i32, bound: &str| {
        format!(
            "1 validation error detected: Value '{value}' at 'rotationPeriodInDays' failed to \
             satisfy constraint: Member must have value {bound}"
        )
    };
    for (days, bound) in [
        (89, "greater than or equal to 90"),
        (2561, "less than or equal to 2560"),
    ] {
        let call = kms.enable_key_rotation().key_id(&key.id);
        let call = call.rotation_period_in_days(days);
        refused(
            call.send().await,
            "ValidationException",
            &message(days, bound),
        );
    }
    // Another account learns nothing, whether the operation is for other accounts' keys or not.
    let stranger = Desk::dev("rotation settings of a stranger").await;
    let call = stranger.kms.get_key_rotation_status().key_id(&key.arn);
    let error = call.send().await.unwrap_err().into_service_error();
    assert_eq!(error.meta().code(), Some("AccessDeniedException"));
    let call = stranger.kms.list_key_rotations().key_id(&key.arn);
    refused(
        call.send().await,
        "AccessDeniedException",
        "This operation cannot be called cross account",
    );
}

/// Catches new material that is not used, old material that is lost, an answer that names the
/// wrong version, and a list that does not show them all.
#[tokio::test]
async fn a_key_is_rotated_on_demand() {
    let desk = Desk::dev("rotation on demand").await;
    let (kms, key, other) = (&desk.kms, desk.key().await, desk.key().await);
    let mut materials = vec![current(&desk, &key).await];
    let mut blobs = vec![desk.ciphertext(&key.id).await];
    let all = Some(IncludeKeyMaterial::AllKeyMaterial);
    assert_eq!(rotations(&desk, &key).await, []);
    let first = &list(&desk, &key, all.clone()).await[0];
    assert_eq!(first.key_material_id(), Some(materials[0].as_str()));
    assert_eq!(first.key_material_state(), Some(&KeyMaterialState::Current));
    assert!(first.rotation_date().is_none() && first.rotation_type().is_none());

    for _ in 0..25 {
        let call = kms.rotate_key_on_demand().key_id(&key.id);
        let answer = call.send().await.unwrap();
        assert_eq!(answer.key_id(), Some(key.arn.as_str()));
        let material = current(&desk, &key).await;
        assert!(!materials.contains(&material), "{material} came again");
        materials.push(material.clone());
        blobs.push(desk.ciphertext(&key.id).await);
        let call = kms.generate_data_key().key_id(&key.id).number_of_bytes(8);
        let made = call.send().await.unwrap();
        assert_eq!(made.key_material_id.as_ref(), Some(&material));
        let call = kms.generate_data_key_without_plaintext().key_id(&key.id);
        let made = call.number_of_bytes(8).send().await.unwrap();
        assert_eq!(made.key_material_id, Some(material));
    }
    refused(
        kms.rotate_key_on_demand().key_id(&key.id).send().await,
        "LimitExceededException",
        &format!(
            "The on-demand rotations limit has been reached for the given keyId. No more \
             on-demand rotations can be performed for this key: {}",
            key.arn
        ),
    );
    for (blob, material) in blobs.iter().zip(&materials) {
        assert_eq!(&made_by(&desk, blob).await, material);
    }
    // ReEncrypt brings an old ciphertext up to date, and says so.
    for destination in [&key, &other] {
        let call = kms.re_encrypt().ciphertext_blob(blobs[3].clone());
        let call = call.destination_key_id(&destination.id);
        let answer = call.send().await.unwrap();
        let newest = current(&desk, destination).await;
        assert_eq!(answer.source_key_material_id(), Some(materials[3].as_str()));
        assert_eq!(answer.destination_key_material_id(), Some(newest.as_str()));
        let blob = answer.ciphertext_blob.unwrap();
        assert_eq!(made_by(&desk, &blob).await, newest);
    }

    let entries = list(&desk, &key, all.clone()).await;
    let listed: Vec<_> = entries
        .iter()
        .map(|e| e.key_material_id().unwrap())
        .collect();
    assert_eq!(listed, materials, "oldest first");
    let only = list(&desk, &key, Some(IncludeKeyMaterial::RotationsOnly)).await;
    assert_eq!(only, entries[1..]);
    assert_eq!(rotations(&desk, &key).await, only);
    for (at, entry) in only.iter().enumerate() {
        assert_eq!(entry.rotation_type(), Some(&RotationType::OnDemand));
        assert!(entry.rotation_date().is_some());
        let expected = match at {
            24 => KeyMaterialState::Current,
            _ => KeyMaterialState::NonCurrent,
        };
        assert_eq!(entry.key_material_state(), Some(&expected));
    }

    // In pages, by the SDK's own paginator too.
    for limit in [1, 7, 25, 26, 1000] {
        let call = kms.list_key_rotations().key_id(&key.id);
        let call = call.set_include_key_material(all.clone());
        let mut pages = call.into_paginator().page_size(limit).items().send();
        let mut seen = Vec::new();
        while let Some(entry) = pages.next().await {
            seen.push(entry.unwrap());
        }
        assert_eq!(seen, entries, "in pages of {limit}");
    }
    let page = kms.list_key_rotations().key_id(&key.id).limit(24);
    let page = page.send().await.unwrap();
    assert!(page.truncated() && page.rotations().len() == 24);
    let marker = page.next_marker().unwrap();
    let call = kms.list_key_rotations().key_id(&key.id).marker(marker);
    let page = call.send().await.unwrap();
    assert!(!page.truncated());
    assert_eq!(page.rotations(), &entries[25..]);
    let call = kms.list_key_rotations().key_id(&other.id).marker(marker);
    refused(call.send().await, "InvalidMarkerException", "");
    let call = kms.list_key_rotations().key_id(&key.id).limit(1001);
    let error = call.send().await.unwrap_err().into_service_error();
    assert_eq!(error.meta().code(), Some("ValidationException"));
}
