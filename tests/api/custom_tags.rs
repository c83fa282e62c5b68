//! LocalStack's tags on CreateKey, which `keyrum dev` takes for the key's id and material.

use aws_sdk_kms::operation::create_key::builders::CreateKeyFluentBuilder;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{
    KeySpec, KeyState, KeyUsageType, MacAlgorithmSpec, MultiRegionKeyType, SigningAlgorithmSpec,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyrum_tests::sdk::{THERE, refused};
use keyrum_tests::{Dev, wait};

use crate::desk::{Desk, tag};

const ID: &str = "_custom_id_";
const MATERIAL: &str = "_custom_key_material_";
const UUID: &str = "00000000-0000-0000-0000-000000000001";
const FAMILY: &str = "mrk-00000000000000000000000000000001";

/// A key on P-256, as SEC 1 has it.
const ECC: &str = "MHcCAQEEIMnOrUrXr8rwne7d8f01cfwmpS/w+K7jcyWmmeLDgWKaoAoGCCqGSM49AwEHoUQDQgAEYNMBBZ3h1ipuph1iO5k+yLvTs94UN71quXN3f0P/tprs2Fp2FEasM7m7XZ2xlDK3wcEAs1QEIoQjjwnhcptQ6A==";

fn with_tags(
    call: CreateKeyFluentBuilder,
    id: Option<&str>,
    material: Option<&str>,
) -> CreateKeyFluentBuilder {
    let call = id.into_iter().fold(call, |call, id| call.tags(tag(ID, id)));
    let material = material.into_iter();
    material.fold(call, |call, text| call.tags(tag(MATERIAL, text)))
}

/// Catches an id or material that is not taken, material that can be read again, and a key that another
/// cluster with the same material does not understand.
#[tokio::test]
async fn tags_choose_id_and_material() {
    let material = STANDARD.encode([7; 32]);
    let mut blobs = Vec::new();
    for _ in 0..2 {
        let dev = Dev::start(&["--ephemeral", "--nodes", "1"]).await;
        let desk = Desk::at(&dev.ready.endpoint, "custom tags");
        let call = desk.kms.create_key().tags(tag("a", "b"));
        let made = with_tags(call, Some(UUID), Some(&material)).send().await;
        let key = made.unwrap().key_metadata.unwrap();
        assert_eq!(key.key_id(), UUID);
        assert_eq!(key.arn(), Some(desk.arn(&format!("key/{UUID}")).as_str()));
        let tags = desk.kms.list_resource_tags().key_id(UUID);
        let tags = tags.send().await.unwrap();
        let names: Vec<_> = tags.tags().iter().map(|tag| tag.tag_key()).collect();
        assert_eq!(names, [ID, "a"]);
        blobs.push(desk.ciphertext(UUID).await);
        for blob in &blobs {
            let opened = desk.kms.decrypt().ciphertext_blob(blob.clone());
            let opened = opened.send().await.unwrap().plaintext.unwrap();
            assert_eq!(opened.as_ref(), b"secret");
        }
        let again = with_tags(desk.kms.create_key(), Some(UUID), None);
        let taken = format!(
            "A key with the ID of the tag {ID} already exists: {}",
            desk.arn(&format!("key/{UUID}"))
        );
        refused(again.send().await, "AlreadyExistsException", &taken);
    }
}

/// Catches material of other kinds of keys that is not used, and wrong tags that make a key.
#[tokio::test]
async fn every_kind_of_key_takes_its_material() {
    let desk = Desk::dev("custom kinds").await;
    let create = || desk.kms.create_key();
    let signs = create()
        .key_spec(KeySpec::EccNistP256)
        .key_usage(KeyUsageType::SignVerify);
    let made = with_tags(signs.clone(), None, Some(ECC))
        .send()
        .await
        .unwrap();
    let ecc = made.key_metadata.unwrap();
    let public = desk.public_key(ecc.key_id()).await;
    let document = STANDARD.decode(ECC).unwrap();
    let point = &document[document.len() - 64..];
    assert!(public.as_ref().ends_with(point), "another key");
    let sign = desk.kms.sign().key_id(ecc.key_id());
    let sign = sign.signing_algorithm(SigningAlgorithmSpec::EcdsaSha256);
    sign.message(Blob::new("x")).send().await.unwrap();

    let macs = create()
        .key_spec(KeySpec::Hmac256)
        .key_usage(KeyUsageType::GenerateVerifyMac);
    let secret = STANDARD.encode([0x0b; 32]);
    let mut answers = Vec::new();
    for _ in 0..2 {
        let made = with_tags(macs.clone(), None, Some(&secret)).send().await;
        let id = made.unwrap().key_metadata.unwrap().key_id;
        let mac = desk.kms.generate_mac().key_id(id);
        let mac = mac.mac_algorithm(MacAlgorithmSpec::HmacSha256);
        let mac = mac.message(Blob::new("Hi There")).send().await.unwrap();
        answers.push(mac.mac.unwrap());
    }
    assert_eq!(answers[0], answers[1]);

    let code = "ValidationException";
    let wrong = with_tags(signs, None, Some(&secret)).send().await;
    let says = format!("The tag {MATERIAL} is no material of a ECC_NIST_P256 key.");
    refused(wrong, code, &says);
    let wrong = with_tags(create(), Some("mine"), None).send().await;
    let says =
        format!("The tag {ID} must be a UUID in lower case, or mrk- and 32 hexadecimal digits.");
    refused(wrong, code, &says);
    let wrong = with_tags(create(), Some(FAMILY), None).send().await;
    let says = format!("The tag {ID} begins with mrk-, so MultiRegion must be true.");
    refused(wrong, code, &says);
}

/// Catches a chosen id that does not go along to a replica, and a replica where another key has it.
#[tokio::test]
async fn families_have_chosen_ids() {
    let desk = Desk::dev("custom families").await;
    let there = desk.client_in(THERE);
    let material = STANDARD.encode([9; 32]);
    let call = desk.kms.create_key().multi_region(true);
    let made = with_tags(call, Some(FAMILY), Some(&material)).send().await;
    assert_eq!(made.unwrap().key_metadata.unwrap().key_id(), FAMILY);
    let call = desk.kms.replicate_key().key_id(FAMILY);
    call.replica_region(THERE).send().await.unwrap();
    let arrived = async || {
        let described = there.describe_key().key_id(FAMILY).send().await.ok()?;
        let key = described.key_metadata?;
        (key.key_state() == Some(&KeyState::Enabled)).then_some(key)
    };
    let replica = wait::until("replica", wait::LONG, arrived).await;
    let family = replica.multi_region_configuration.unwrap();
    assert_eq!(
        family.multi_region_key_type(),
        Some(&MultiRegionKeyType::Replica)
    );
    let blob = desk.ciphertext(FAMILY).await;
    let opened = there.decrypt().ciphertext_blob(blob).send().await.unwrap();
    assert_eq!(opened.plaintext().unwrap().as_ref(), b"secret");

    let other = "mrk-00000000000000000000000000000002";
    for kms in [&desk.kms, &there] {
        let call = kms.create_key().multi_region(true);
        with_tags(call, Some(other), None).send().await.unwrap();
    }
    let call = desk.kms.replicate_key().key_id(other);
    call.replica_region(THERE).send().await.unwrap();
    // It cannot be, so the primary is alone again, and can be deleted.
    let alone = async || {
        let family = desk.describe(other).await.multi_region_configuration;
        family.unwrap().replica_keys().is_empty()
    };
    wait::until_true("replica that cannot be", wait::LONG, alone).await;
    let described = there.describe_key().key_id(other).send().await.unwrap();
    let family = described.key_metadata.unwrap().multi_region_configuration;
    assert_eq!(
        family.unwrap().multi_region_key_type(),
        Some(&MultiRegionKeyType::Primary)
    );
}
