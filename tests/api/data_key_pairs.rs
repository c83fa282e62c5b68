//! Data key pairs.

use aws_sdk_kms::types::DataKeyPairSpec;
use keyrum_tests::sdk::{patiently, refused};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};

use crate::desk::Desk;

/// Catches a pair that cannot be made, whose private key is not what its ciphertext holds, is not
/// bound to its context, or is shown to one who asked for the ciphertext only.
#[tokio::test]
async fn every_kind_of_pair_is_made() {
    let desk = Desk::dev("data key pairs").await;
    let key = desk.key().await;
    let material = desk.describe(&key.id).await.current_key_material_id;
    let specs = DataKeyPairSpec::values();
    assert_eq!(specs.len(), 12);
    for spec in specs {
        let spec = DataKeyPairSpec::from(*spec);
        let call = desk.kms.generate_data_key_pair().key_id(&key.id);
        let call = call.key_pair_spec(spec.clone());
        let call = call.encryption_context("purpose", "pair");
        if spec == DataKeyPairSpec::Sm2 {
            let text = "KeySpec SM2 is not supported in this Region";
            refused(call.send().await, "UnsupportedOperationException", text);
            continue;
        }
        let made = patiently(async || call.clone().send().await).await;
        assert_eq!(made.key_id(), Some(&*key.arn));
        assert_eq!(made.key_pair_spec(), Some(&spec));
        assert_eq!(made.key_material_id, material);
        assert!(made.ciphertext_for_recipient().is_none());
        let blob = made.private_key_ciphertext_blob().unwrap();
        let open = desk.kms.decrypt().ciphertext_blob(blob.clone());
        refused(open.clone().send().await, "InvalidCiphertextException", "");
        let opened = open.encryption_context("purpose", "pair").send().await;
        assert_eq!(opened.unwrap().plaintext(), made.private_key_plaintext());
        // Sequences in DER.
        assert_eq!(made.private_key_plaintext().unwrap().as_ref()[0], 0x30);
        assert_eq!(made.public_key().unwrap().as_ref()[0], 0x30);

        if spec == DataKeyPairSpec::EccNistP256 {
            // A second implementation reads both halves, and they belong together.
            let random = random();
            let private = made.private_key_plaintext().unwrap().as_ref();
            let known = &ECDSA_P256_SHA256_ASN1_SIGNING;
            let pair = EcdsaKeyPair::from_pkcs8(known, private, &random).unwrap();
            let public = &made.public_key().unwrap().as_ref()[26..];
            assert_eq!(pair.public_key().as_ref(), public);
            let signature = pair.sign(&random, b"message").unwrap();
            let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public);
            public.verify(b"message", signature.as_ref()).unwrap();
        }

        if matches!(spec, DataKeyPairSpec::Rsa3072 | DataKeyPairSpec::Rsa4096) {
            continue;
        }
        let call = desk.kms.generate_data_key_pair_without_plaintext();
        let call = call.key_id(&key.id).key_pair_spec(spec.clone());
        let other = patiently(async || call.clone().send().await).await;
        assert_eq!(other.key_id(), Some(&*key.arn));
        assert_eq!(other.key_pair_spec(), Some(&spec));
        assert_eq!(other.key_material_id, material);
        assert_ne!(other.public_key(), made.public_key());
        let blob = other.private_key_ciphertext_blob.unwrap();
        let opened = desk
            .kms
            .decrypt()
            .ciphertext_blob(blob)
            .send()
            .await
            .unwrap();
        let bytes = opened.plaintext().unwrap().as_ref();
        assert_eq!(bytes[0], 0x30);
    }
}

fn random() -> SystemRandom {
    #[expect(
        clippy::disallowed_methods,
        reason = "what a user's program would take"
    )]
    SystemRandom::new()
}

/// Catches a dry run that makes a pair, and refusals with other codes or texts than the real
/// service's.
#[tokio::test]
async fn refusals_are_the_real_ones() {
    let desk = Desk::dev("pair refusals").await;
    let (key, disabled) = (desk.key().await, desk.disabled_key().await);
    let pair = |id: &str| {
        let call = desk.kms.generate_data_key_pair().key_id(id);
        call.key_pair_spec(DataKeyPairSpec::EccNistP384)
    };
    let yes = "The request would have succeeded, but the DryRun option is set.";
    let answer = pair(&key.id).dry_run(true).send().await;
    refused(answer, "DryRunOperationException", yes);
    let text = format!("{} is disabled.", disabled.arn);
    let answer = pair(&disabled.id).dry_run(true).send().await;
    refused(answer, "DisabledException", &text);
    let mac = desk
        .key_of("HMAC_256".into(), "GENERATE_VERIFY_MAC".into())
        .await;
    let text = format!(
        "{} key usage is GENERATE_VERIFY_MAC which is not valid for GenerateDataKeyPair.",
        mac.arn
    );
    refused(
        pair(&mac.id).send().await,
        "InvalidKeyUsageException",
        &text,
    );
    let call = desk.kms.generate_data_key_pair_without_plaintext();
    let call = call
        .key_id(&mac.id)
        .key_pair_spec(DataKeyPairSpec::EccNistP384);
    let text = text.replace("KeyPair.", "KeyPairWithoutPlaintext.");
    refused(call.send().await, "InvalidKeyUsageException", &text);
}
