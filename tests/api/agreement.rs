//! Secrets shared with others.

use aws_sdk_kms::operation::decapsulate::builders::DecapsulateFluentBuilder;
use aws_sdk_kms::operation::derive_shared_secret::builders::DeriveSharedSecretFluentBuilder;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{
    EncapsulationAlgorithmSpec, KeyAgreementAlgorithmSpec, KeySpec, KeyUsageType, OriginType,
};
use keyrum_tests::sdk::refused;

use crate::desk::{Desk, Key};

const DRY_RUN: &str = "DryRunOperationException";
const YES: &str = "The request would have succeeded, but the DryRun option is set.";

fn derive(desk: &Desk, key: &Key, peer: &Blob) -> DeriveSharedSecretFluentBuilder {
    let call = desk.kms.derive_shared_secret().key_id(&key.id);
    let call = call.key_agreement_algorithm(KeyAgreementAlgorithmSpec::Ecdh);
    call.public_key(peer.clone())
}

fn decapsulate(desk: &Desk, key: &Key, ciphertext: &[u8]) -> DecapsulateFluentBuilder {
    let call = desk.kms.decapsulate().key_id(&key.id);
    let call = call.encapsulation_algorithm(EncapsulationAlgorithmSpec::MlKem);
    call.shared_secret_ciphertext_blob(Blob::new(ciphertext))
}

/// Has two keys agree on a secret, and one refuse what is no key of its curve.
pub(crate) async fn try_out_ecdh(desk: &Desk, key: &Key, spec: &str) {
    let other = desk.key_of(spec.into(), KeyUsageType::KeyAgreement).await;
    let (own, others) = (
        desk.public_key(&key.id).await,
        desk.public_key(&other.id).await,
    );
    let here = derive(desk, key, &others).send().await.unwrap();
    let there = derive(desk, &other, &own).send().await.unwrap();
    assert_eq!(here.shared_secret(), there.shared_secret());
    let bytes = match spec {
        "ECC_NIST_P384" => 48,
        "ECC_NIST_P521" => 66,
        _ => 32,
    };
    assert_eq!(here.shared_secret().unwrap().as_ref().len(), bytes);
    assert_eq!(here.key_id(), Some(&*key.arn));
    let algorithm = Some(&KeyAgreementAlgorithmSpec::Ecdh);
    assert_eq!(here.key_agreement_algorithm(), algorithm);
    assert_eq!(here.key_origin(), Some(&OriginType::AwsKms));
    assert!(here.ciphertext_for_recipient().is_none());

    let mut off_curve = others.as_ref().to_vec();
    *off_curve.last_mut().unwrap() ^= 1;
    for peer in [&off_curve[..], &others.as_ref()[1..], b"garbage"] {
        for dry_run in [false, true] {
            let call = derive(desk, key, &Blob::new(peer)).dry_run(dry_run);
            refused(call.send().await, "ValidationException", "");
        }
    }
    let call = derive(desk, key, &others).dry_run(true);
    refused(call.send().await, DRY_RUN, YES);
}

/// Has a secret encapsulated and got back.
pub(crate) async fn try_out_ml_kem(desk: &Desk, key: &Key, spec: &str) {
    let algorithm = || EncapsulationAlgorithmSpec::MlKem;
    let call = desk.kms.encapsulate().key_id(&key.id);
    let call = call.encapsulation_algorithm(algorithm());
    let made = call.clone().send().await.unwrap();
    assert_eq!(made.key_id(), Some(&*key.arn));
    assert_eq!(made.encapsulation_algorithm(), Some(&algorithm()));
    let secret = made.shared_secret().unwrap();
    assert_eq!(secret.as_ref().len(), 32);
    let ciphertext = made.shared_secret_ciphertext_blob().unwrap().as_ref();
    let bytes = match spec {
        "ML_KEM_512" => 768,
        "ML_KEM_768" => 1088,
        _ => 1568,
    };
    assert_eq!(ciphertext.len(), bytes);
    let opened = decapsulate(desk, key, ciphertext).send().await.unwrap();
    assert_eq!(opened.shared_secret(), Some(secret));
    assert_eq!(opened.key_id(), Some(&*key.arn));
    assert_eq!(opened.encapsulation_algorithm(), Some(&algorithm()));
    let again = call.clone().send().await.unwrap();
    assert_ne!(again.shared_secret(), Some(secret));

    // One of the right length only looks as if it held a secret.
    let mut other = ciphertext.to_vec();
    other[0] ^= 1;
    let rejected = decapsulate(desk, key, &other).send().await.unwrap();
    assert_ne!(rejected.shared_secret(), Some(secret));
    assert_eq!(rejected.shared_secret().unwrap().as_ref().len(), 32);
    for dry_run in [false, true] {
        let call = decapsulate(desk, key, &ciphertext[1..]).dry_run(dry_run);
        refused(call.send().await, "InvalidCiphertextException", "");
    }
    refused(call.dry_run(true).send().await, DRY_RUN, YES);
    let call = decapsulate(desk, key, ciphertext).dry_run(true);
    refused(call.send().await, DRY_RUN, YES);
}

/// Catches a key that is used for what it is not for, and a peer on another curve.
#[tokio::test]
async fn keys_agree_only_as_they_are_for() {
    let desk = Desk::dev("agreement").await;
    let agrees = || KeyUsageType::KeyAgreement;
    let key = desk.key_of(KeySpec::EccNistP256, agrees()).await;
    let other_curve = desk.key_of(KeySpec::EccNistP384, agrees()).await;
    let signs = desk
        .key_of(KeySpec::EccNistP256, KeyUsageType::SignVerify)
        .await;
    let peer = desk.public_key(&other_curve.id).await;
    let answer = derive(&desk, &key, &peer).send().await;
    refused(answer, "ValidationException", "");
    let code = "InvalidKeyUsageException";
    let refuse = |arn: &str, usage: &str, operation: &str| {
        format!("{arn} key usage is {usage} which is not valid for {operation}.")
    };
    let answer = derive(&desk, &signs, &peer).send().await;
    let text = refuse(&signs.arn, "SIGN_VERIFY", "DeriveSharedSecret");
    refused(answer, code, &text);
    let call = desk.kms.encapsulate().key_id(&key.id);
    let call = call.encapsulation_algorithm(EncapsulationAlgorithmSpec::MlKem);
    let text = refuse(&key.arn, "KEY_AGREEMENT", "Encapsulate");
    refused(call.send().await, code, &text);
    let text = refuse(&key.arn, "KEY_AGREEMENT", "Decapsulate");
    refused(decapsulate(&desk, &key, b"x").send().await, code, &text);
}
