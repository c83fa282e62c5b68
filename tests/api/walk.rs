//! Every operation once, as it should go, with every member of every answer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_kms::primitives::{Blob, DateTime};
use aws_sdk_kms::types::{
    AlgorithmSpec, DataKeyPairSpec, DataKeySpec, EncryptionAlgorithmSpec, KeyManagerType,
    KeyMetadata, KeySpec, KeyState, KeyUsageType, MultiRegionKeyType, OriginType,
};
use keyrum_tests::sdk::{HERE, THERE, patiently};
use keyrum_tests::{Cluster, Shape, shared_dev};

use crate::desk::{Desk, Key, tag};

fn recent(time: Option<&DateTime>) -> bool {
    #[expect(
        clippy::disallowed_methods,
        reason = "compared with what a real clock told"
    )]
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    (time.expect("a time").as_secs_f64() - now).abs() < 60.0
}

fn check_metadata(desk: &Desk, data: &KeyMetadata, region: &str) {
    let resource = format!("key/{}", data.key_id());
    assert_eq!(
        data.arn(),
        Some(crate::desk::arn(region, &desk.account, &resource).as_str())
    );
    assert_eq!(data.aws_account_id(), Some(desk.account.as_str()));
    assert!(recent(data.creation_date()), "{data:?}");
    assert_eq!(data.key_usage(), Some(&KeyUsageType::EncryptDecrypt));
    assert_eq!(data.origin(), Some(&OriginType::AwsKms));
    assert_eq!(data.key_manager(), Some(&KeyManagerType::Customer));
    assert_eq!(data.key_spec(), Some(&KeySpec::SymmetricDefault));
    #[expect(deprecated, reason = "the real service still answers it")]
    let deprecated = data.customer_master_key_spec().map(|spec| spec.as_str());
    assert_eq!(deprecated, Some("SYMMETRIC_DEFAULT"));
    assert_eq!(
        data.encryption_algorithms(),
        [EncryptionAlgorithmSpec::SymmetricDefault]
    );
    assert!(data.signing_algorithms().is_empty() && data.mac_algorithms().is_empty());
    assert!(data.valid_to().is_none() && data.expiration_model().is_none());
    let material = data.current_key_material_id().expect("a key has material");
    assert!(
        material.len() == 64 && material.bytes().all(|b| b.is_ascii_hexdigit()),
        "{material}"
    );
}

async fn keys(desk: &Desk) -> Key {
    let kms = &desk.kms;
    let made = kms
        .create_key()
        .description("first")
        .tags(tag("a", "1"))
        .tags(tag("b", ""))
        .send();
    let made = made.await.unwrap().key_metadata.unwrap();
    check_metadata(desk, &made, HERE);
    assert_eq!((made.description(), made.enabled()), (Some("first"), true));
    assert_eq!(
        (made.key_state(), made.multi_region()),
        (Some(&KeyState::Enabled), Some(false))
    );
    assert!(made.multi_region_configuration().is_none() && made.deletion_date().is_none());
    let key = Key::of(&made);
    assert_eq!(desk.describe(&key.id).await, made);

    let family = kms
        .create_key()
        .multi_region(true)
        .send()
        .await
        .unwrap()
        .key_metadata
        .unwrap();
    check_metadata(desk, &family, HERE);
    assert!(
        family.key_id().starts_with("mrk-") && family.key_id().len() == 36,
        "{family:?}"
    );
    assert_eq!(family.multi_region(), Some(true));
    let roles = family.multi_region_configuration().unwrap();
    assert_eq!(
        roles.multi_region_key_type(),
        Some(&MultiRegionKeyType::Primary)
    );
    let primary = roles.primary_key().unwrap();
    assert_eq!(
        (primary.arn(), primary.region()),
        (family.arn(), Some(HERE))
    );
    assert!(roles.replica_keys().is_empty());

    let listed = kms.list_keys().send().await.unwrap();
    let mut ids: Vec<_> = listed
        .keys()
        .iter()
        .map(|entry| entry.key_id().unwrap())
        .collect();
    ids.sort_unstable();
    let mut expected = [key.id.as_str(), family.key_id()];
    expected.sort_unstable();
    assert_eq!(ids, expected);
    assert!(
        listed
            .keys()
            .iter()
            .any(|entry| entry.key_arn() == Some(&key.arn))
    );
    assert!(!listed.truncated() && listed.next_marker().is_none());

    kms.update_key_description()
        .key_id(&key.arn)
        .description("second")
        .send()
        .await
        .unwrap();
    assert_eq!(desk.describe(&key.id).await.description(), Some("second"));
    kms.disable_key().key_id(&key.id).send().await.unwrap();
    let disabled = desk.describe(&key.id).await;
    assert_eq!(
        (disabled.enabled(), disabled.key_state()),
        (false, Some(&KeyState::Disabled))
    );
    kms.enable_key().key_id(&key.arn).send().await.unwrap();
    assert_eq!(
        desk.describe(&key.id).await.key_state(),
        Some(&KeyState::Enabled)
    );
    key
}

async fn deletion(desk: &Desk) {
    let (kms, key) = (&desk.kms, desk.key().await);
    let call = kms
        .schedule_key_deletion()
        .key_id(&key.id)
        .pending_window_in_days(7);
    let scheduled = call.send().await.unwrap();
    assert_eq!(scheduled.key_id(), Some(key.arn.as_str()));
    assert_eq!(scheduled.key_state(), Some(&KeyState::PendingDeletion));
    assert_eq!(scheduled.pending_window_in_days(), Some(7));
    let due = scheduled.deletion_date().unwrap();
    let week = Duration::from_secs(7 * 24 * 60 * 60);
    assert!(recent(Some(&DateTime::from_secs_f64(
        due.as_secs_f64() - week.as_secs_f64()
    ))));
    let described = desk.describe(&key.id).await;
    assert_eq!(described.key_state(), Some(&KeyState::PendingDeletion));
    assert_eq!(
        (described.deletion_date(), described.enabled()),
        (Some(due), false)
    );
    // Only a primary that waits for its replicas shows it.
    assert_eq!(described.pending_deletion_window_in_days(), None);

    let canceled = kms
        .cancel_key_deletion()
        .key_id(&key.arn)
        .send()
        .await
        .unwrap();
    assert_eq!(canceled.key_id(), Some(key.arn.as_str()));
    let described = desk.describe(&key.id).await;
    assert_eq!(described.key_state(), Some(&KeyState::Disabled));
    assert_eq!(described.deletion_date(), None);
    let scheduled = kms
        .schedule_key_deletion()
        .key_id(&key.id)
        .send()
        .await
        .unwrap();
    assert_eq!(scheduled.pending_window_in_days(), Some(30));
}

async fn aliases(desk: &Desk, key: &Key) {
    let (kms, other) = (&desk.kms, desk.key().await);
    kms.create_alias()
        .alias_name("alias/walk")
        .target_key_id(&key.id)
        .send()
        .await
        .unwrap();
    let list = kms.list_aliases().send().await.unwrap();
    let with_key = desk.aliases_of_keys(&list);
    let [alias] = &with_key[..] else {
        panic!("{list:?}")
    };
    assert_eq!(alias.alias_name(), Some("alias/walk"));
    assert_eq!(alias.alias_arn(), Some(desk.arn("alias/walk").as_str()));
    assert_eq!(alias.target_key_id(), Some(key.id.as_str()));
    assert!(recent(alias.creation_date()) && recent(alias.last_updated_date()));
    assert!(!list.truncated() && list.next_marker().is_none());

    kms.update_alias()
        .alias_name("alias/walk")
        .target_key_id(&other.arn)
        .send()
        .await
        .unwrap();
    let of = async |id: &str| kms.list_aliases().key_id(id).send().await.unwrap();
    assert!(of(&key.id).await.aliases().is_empty());
    assert_eq!(
        of(&other.arn).await.aliases()[0].target_key_id(),
        Some(other.id.as_str())
    );
    assert_eq!(desk.describe("alias/walk").await.key_id(), other.id);
    kms.delete_alias()
        .alias_name("alias/walk")
        .send()
        .await
        .unwrap();
    assert!(of(&other.id).await.aliases().is_empty());
}

async fn tags(desk: &Desk, key: &Key) {
    let kms = &desk.kms;
    let list = async || {
        let answer = kms
            .list_resource_tags()
            .key_id(&key.id)
            .send()
            .await
            .unwrap();
        assert!(!answer.truncated() && answer.next_marker().is_none());
        let of = |tag: &aws_sdk_kms::types::Tag| format!("{}={}", tag.tag_key(), tag.tag_value());
        let mut tags: Vec<_> = answer.tags().iter().map(of).collect();
        tags.sort();
        tags
    };
    assert_eq!(list().await, ["a=1", "b="]);
    let call = kms
        .tag_resource()
        .key_id(&key.id)
        .tags(tag("a", "2"))
        .tags(tag("c", "3"));
    call.send().await.unwrap();
    assert_eq!(list().await, ["a=2", "b=", "c=3"]);
    let call = kms
        .untag_resource()
        .key_id(&key.arn)
        .tag_keys("a")
        .tag_keys("absent");
    call.send().await.unwrap();
    assert_eq!(list().await, ["b=", "c=3"]);
}

async fn policies(desk: &Desk, key: &Key) {
    let kms = &desk.kms;
    let names = kms
        .list_key_policies()
        .key_id(&key.id)
        .send()
        .await
        .unwrap();
    assert_eq!(names.policy_names(), ["default"]);
    assert!(!names.truncated() && names.next_marker().is_none());
    let policy = kms.get_key_policy().key_id(&key.id).send().await.unwrap();
    assert_eq!(policy.policy_name(), Some("default"));
    let expected = crate::policies::DEFAULT.replace("ACCOUNT", &desk.account);
    assert_eq!(policy.policy(), Some(expected.as_str()));
    let other = expected.replace("Enable IAM User Permissions", "Other");
    let call = kms
        .put_key_policy()
        .key_id(&key.arn)
        .policy_name("default")
        .policy(&other);
    call.send().await.unwrap();
    let policy = kms
        .get_key_policy()
        .key_id(&key.id)
        .policy_name("default")
        .send()
        .await
        .unwrap();
    assert_eq!(policy.policy(), Some(other.as_str()));

    let rotation = kms
        .get_key_rotation_status()
        .key_id(&key.id)
        .send()
        .await
        .unwrap();
    assert!(!rotation.key_rotation_enabled());
    assert_eq!(rotation.key_id(), Some(key.arn.as_str()));
    assert!(
        rotation.next_rotation_date().is_none() && rotation.rotation_period_in_days().is_none()
    );
}

async fn cryptography(desk: &Desk, key: &Key) {
    let (kms, other) = (&desk.kms, desk.key().await);
    let algorithm = EncryptionAlgorithmSpec::SymmetricDefault;
    let material = desk.describe(&key.id).await.current_key_material_id;
    let plaintext = Blob::new("attack at dawn");
    let call = kms.encrypt().key_id(&key.id).plaintext(plaintext.clone());
    let encrypted = call
        .encryption_context("purpose", "walk")
        .send()
        .await
        .unwrap();
    assert_eq!(encrypted.key_id(), Some(key.arn.as_str()));
    assert_eq!(encrypted.encryption_algorithm(), Some(&algorithm));
    let blob = encrypted.ciphertext_blob.unwrap();
    let call = kms
        .decrypt()
        .ciphertext_blob(blob.clone())
        .encryption_context("purpose", "walk");
    let decrypted = call.send().await.unwrap();
    assert_eq!(decrypted.plaintext(), Some(&plaintext));
    assert_eq!(decrypted.key_id(), Some(key.arn.as_str()));
    assert_eq!(decrypted.encryption_algorithm(), Some(&algorithm));
    assert_eq!(decrypted.key_material_id, material);
    assert!(decrypted.ciphertext_for_recipient().is_none());

    let call = kms
        .re_encrypt()
        .ciphertext_blob(blob)
        .source_encryption_context("purpose", "walk");
    let call = call.source_key_id(&key.id).destination_key_id(&other.id);
    let moved = call
        .destination_encryption_context("purpose", "moved")
        .send()
        .await
        .unwrap();
    assert_eq!(moved.source_key_id(), Some(key.arn.as_str()));
    assert_eq!(moved.key_id(), Some(other.arn.as_str()));
    assert_eq!(moved.source_encryption_algorithm(), Some(&algorithm));
    assert_eq!(moved.destination_encryption_algorithm(), Some(&algorithm));
    assert_eq!(moved.source_key_material_id, material);
    let other_material = desk.describe(&other.id).await.current_key_material_id;
    assert_eq!(moved.destination_key_material_id, other_material);
    let call = kms
        .decrypt()
        .ciphertext_blob(moved.ciphertext_blob.unwrap());
    let decrypted = call
        .encryption_context("purpose", "moved")
        .send()
        .await
        .unwrap();
    assert_eq!(decrypted.plaintext(), Some(&plaintext));

    let call = kms
        .generate_data_key()
        .key_id(&key.id)
        .key_spec(DataKeySpec::Aes256);
    let made = call.send().await.unwrap();
    assert_eq!(made.plaintext().unwrap().as_ref().len(), 32);
    assert_eq!(made.key_id(), Some(key.arn.as_str()));
    assert_eq!(made.key_material_id, material);
    let call = kms
        .decrypt()
        .ciphertext_blob(made.ciphertext_blob.clone().unwrap());
    assert_eq!(call.send().await.unwrap().plaintext, made.plaintext);
    let call = kms
        .generate_data_key_without_plaintext()
        .key_id(&key.id)
        .number_of_bytes(17);
    let made = call.send().await.unwrap();
    assert_eq!(made.key_id(), Some(key.arn.as_str()));
    assert_eq!(made.key_material_id, material);
    let call = kms.decrypt().ciphertext_blob(made.ciphertext_blob.unwrap());
    assert_eq!(
        call.send()
            .await
            .unwrap()
            .plaintext()
            .unwrap()
            .as_ref()
            .len(),
        17
    );

    let random = kms
        .generate_random()
        .number_of_bytes(1024)
        .send()
        .await
        .unwrap();
    assert_eq!(random.plaintext().unwrap().as_ref().len(), 1024);
}

/// The operations that symmetric keys do not have, each on one kind of key; `kinds` has the others.
async fn other_kinds(desk: &Desk, key: &Key) {
    let kms = &desk.kms;
    let signs = desk
        .key_of("ECC_NIST_EDWARDS25519".into(), KeyUsageType::SignVerify)
        .await;
    crate::signing::try_out(desk, &signs, "ECC_NIST_EDWARDS25519", &["ED25519_SHA_512"]).await;
    let macs = desk
        .key_of("HMAC_384".into(), KeyUsageType::GenerateVerifyMac)
        .await;
    crate::macs::try_out(desk, &macs, "HMAC_SHA_384").await;
    let agrees = desk
        .key_of("ECC_NIST_P256".into(), KeyUsageType::KeyAgreement)
        .await;
    crate::agreement::try_out_ecdh(desk, &agrees, "ECC_NIST_P256").await;
    let encapsulates = desk
        .key_of("ML_KEM_768".into(), KeyUsageType::EncapsulateDecapsulate)
        .await;
    crate::agreement::try_out_ml_kem(desk, &encapsulates, "ML_KEM_768").await;
    let encrypts = desk
        .key_of("RSA_2048".into(), KeyUsageType::EncryptDecrypt)
        .await;
    crate::asymmetric::try_out(desk, &encrypts, &["RSAES_OAEP_SHA_256"]).await;

    let material = desk.describe(&key.id).await.current_key_material_id;
    let call = kms.generate_data_key_pair().key_id(&key.id);
    let call = call.key_pair_spec(DataKeyPairSpec::Rsa2048);
    let made = patiently(async || call.clone().send().await).await;
    assert_eq!(made.key_id(), Some(key.arn.as_str()));
    assert_eq!(made.key_pair_spec(), Some(&DataKeyPairSpec::Rsa2048));
    assert_eq!(made.key_material_id, material);
    let blob = made.private_key_ciphertext_blob.unwrap();
    let opened = kms.decrypt().ciphertext_blob(blob).send().await.unwrap();
    assert_eq!(opened.plaintext, made.private_key_plaintext);
    let call = kms.generate_data_key_pair_without_plaintext();
    let call = call
        .key_id(&key.id)
        .key_pair_spec(DataKeyPairSpec::EccNistP521);
    let made = call.send().await.unwrap();
    assert_eq!(made.key_id(), Some(key.arn.as_str()));
    assert!(made.public_key().is_some() && made.private_key_ciphertext_blob().is_some());

    // Each was a use.
    for (key, operation) in [
        (&signs, "Verify"),
        (&macs, "VerifyMac"),
        (&agrees, "DeriveSharedSecret"),
        (&encapsulates, "Decapsulate"),
        (&encrypts, "Decrypt"),
        (key, "GenerateDataKeyPairWithoutPlaintext"),
    ] {
        // Whichever node answered told it to the log, soon at the latest.
        let what = format!("{operation} is the last use");
        keyrum_tests::wait::until_true(&what, keyrum_tests::wait::LONG, async || {
            let used = kms.get_key_last_usage().key_id(&key.id).send().await;
            let used = used.unwrap().key_last_usage.unwrap();
            used.operation().map(|of| of.as_str()) == Some(operation)
        })
        .await;
    }
}

async fn rotation(desk: &Desk) {
    let (kms, key) = (&desk.kms, desk.key().await);
    let blob = desk.ciphertext(&key.id).await;
    let call = kms.enable_key_rotation().key_id(&key.arn);
    call.rotation_period_in_days(90).send().await.unwrap();
    let call = kms.rotate_key_on_demand().key_id(&key.arn);
    let rotated = call.send().await.unwrap();
    assert_eq!(rotated.key_id(), Some(key.arn.as_str()));
    let call = kms.get_key_rotation_status().key_id(&key.arn);
    let status = call.send().await.unwrap();
    assert!(status.key_rotation_enabled() && status.next_rotation_date().is_some());
    assert_eq!(status.rotation_period_in_days(), Some(90));
    let call = kms.disable_key_rotation().key_id(&key.arn);
    call.send().await.unwrap();
    let call = kms.list_key_rotations().key_id(&key.arn);
    let listed = call.send().await.unwrap();
    let material = desk.describe(&key.id).await.current_key_material_id;
    assert_eq!(listed.rotations().len(), 1);
    assert_eq!(listed.rotations()[0].key_material_id, material);
    let decrypted = kms.decrypt().ciphertext_blob(blob).send().await.unwrap();
    assert_ne!(decrypted.key_material_id, material);
}

async fn walk(desk: &Desk) {
    let key = keys(desk).await;
    deletion(desk).await;
    aliases(desk, &key).await;
    tags(desk, &key).await;
    policies(desk, &key).await;
    cryptography(desk, &key).await;
    other_kinds(desk, &key).await;
    rotation(desk).await;

    // What a real program meets first: an operation of another day.
    let call = desk.kms.get_parameters_for_import().key_id(&key.id);
    let call = call.wrapping_algorithm(AlgorithmSpec::RsaesOaepSha256);
    let call = call.wrapping_key_spec(aws_sdk_kms::types::WrappingKeySpec::Rsa2048);
    let error = call.send().await.unwrap_err().into_service_error();
    assert!(error.is_unsupported_operation_exception(), "{error:?}");
}

/// Catches an operation that does not work, and an answer that lacks a member, with all nodes in
/// one process.
#[tokio::test]
async fn every_operation_works_in_dev() {
    let ready = shared_dev().await;
    walk(&Desk::at(&ready.endpoint, "every operation, endpoint")).await;
    // Any node takes any request, also one that does not lead.
    for node in &ready.regions[HERE].nodes {
        walk(&Desk::at(
            &node.api,
            &format!("every operation, node {}", node.id),
        ))
        .await;
    }
}

/// Catches the same where each node is a process and the endpoint in front of them another.
#[tokio::test]
async fn every_operation_works_in_processes() {
    let shape = Shape {
        regions: vec![(HERE, 3), (THERE, 3)],
        ..Shape::one_region(3)
    };
    let cluster = Cluster::up(&shape).await;
    walk(&Desk::at(cluster.endpoint(), "every operation, endpoint")).await;
    for node in &cluster.ready().regions[HERE].nodes {
        walk(&Desk::at(
            &node.api,
            &format!("every operation, node {}", node.id),
        ))
        .await;
    }
    // The Regions share nothing yet but the endpoint.
    let desk = Desk::at(cluster.endpoint(), "every operation, endpoint");
    let there = desk.client_in(THERE);
    assert!(there.list_keys().send().await.unwrap().keys().is_empty());
    let made = there
        .create_key()
        .send()
        .await
        .unwrap()
        .key_metadata
        .unwrap();
    check_metadata(&desk, &made, THERE);
}
