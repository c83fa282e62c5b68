//! Attested callers: answers that only an enclave can read. The enclave, its hypervisor and the root
//! above are made up here; each `keyrum dev` that believes them was told to.

use std::process::Command;

use aws_lc_rs::rsa::KeySize;
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{
    DataKeyPairSpec, DataKeySpec, DryRunModifierType, KeyAgreementAlgorithmSpec, KeySpec,
    KeyUsageType, RecipientInfo,
};
use keyrum_consensus::world::World;
use keyrum_tests::attestation::{Enclave, Hypervisor};
use keyrum_tests::recipients::{attested_now, recipient, root_file};
use keyrum_tests::sdk::{patiently, refused};
use keyrum_tests::{Dev, shared_dev};
use tempfile::NamedTempFile;

use crate::desk::Desk;

const VALIDATION: &str = "ValidationException";
const DRY_RUN: &str = "DryRunOperationException";
const YES: &str = "The request would have succeeded, but the DryRun option is set.";

fn now_ms() -> u64 {
    World::real().clock.now().0
}

/// A `keyrum dev` that believes a hypervisor.
async fn dev_of(hypervisor: &Hypervisor) -> (Dev, NamedTempFile) {
    let root = root_file(hypervisor);
    let path = root.path().to_str().unwrap();
    let dev = Dev::start(&["--ephemeral", "--attestation-root", path]).await;
    (dev, root)
}

async fn decrypted(kms: &Client, ciphertext: Option<Blob>) -> Blob {
    let call = kms.decrypt().ciphertext_blob(ciphertext.unwrap());
    call.send().await.unwrap().plaintext.unwrap()
}

/// Catches an answer that the enclave cannot read, that holds something else than the answer in the
/// clear would, or that shows the secret beside it; on each operation that has recipients.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_enclave_reads_the_answer() {
    let hypervisor = Hypervisor::make();
    let (dev, _root) = dev_of(&hypervisor).await;
    let desk = Desk::at(&dev.ready.endpoint, "recipients");
    let kms = &desk.kms;
    let key = desk.key().await;
    let enclave = Enclave::new(KeySize::Rsa2048);
    let attested = || recipient(&attested_now(&hypervisor, &enclave));
    let open = |answer: Option<Blob>| Blob::new(enclave.open(answer.unwrap().as_ref()));

    let call = kms.generate_data_key().key_id(&key.id);
    let call = call.key_spec(DataKeySpec::Aes256).recipient(attested());
    let made = call.clone().send().await.unwrap();
    assert_eq!(made.key_id(), Some(&*key.arn));
    assert_eq!((&made.plaintext, &made.key_material_id), (&None, &None));
    let data_key = open(made.ciphertext_for_recipient);
    assert_eq!(data_key.as_ref().len(), 32);
    let ciphertext = made.ciphertext_blob;
    assert_eq!(decrypted(kms, ciphertext.clone()).await, data_key);
    refused(call.dry_run(true).send().await, DRY_RUN, YES);

    let call = kms.decrypt().ciphertext_blob(ciphertext.unwrap());
    let call = call.recipient(attested());
    let opened = call.clone().send().await.unwrap();
    assert_eq!(opened.key_id(), Some(&*key.arn));
    assert_eq!((&opened.plaintext, &opened.key_material_id), (&None, &None));
    assert!(opened.encryption_algorithm().is_some());
    assert_eq!(open(opened.ciphertext_for_recipient), data_key);
    refused(call.dry_run(true).send().await, DRY_RUN, YES);

    for spec in [DataKeyPairSpec::EccNistP256, DataKeyPairSpec::Rsa3072] {
        let call = kms.generate_data_key_pair().key_id(&key.id);
        let call = call.key_pair_spec(spec.clone()).recipient(attested());
        let made = patiently(async || call.clone().send().await).await;
        assert_eq!(made.key_pair_spec(), Some(&spec));
        assert!(made.public_key().is_some() && made.key_material_id().is_some());
        assert_eq!(made.private_key_plaintext, None);
        let private_key = open(made.ciphertext_for_recipient);
        let ciphertext = made.private_key_ciphertext_blob;
        assert_eq!(decrypted(kms, ciphertext).await, private_key);
        refused(call.dry_run(true).send().await, DRY_RUN, YES);
    }

    for bytes in [1, 16, 1024] {
        let call = kms.generate_random().number_of_bytes(bytes);
        let made = call.recipient(attested()).send().await.unwrap();
        assert_eq!(made.plaintext, None);
        let random = open(made.ciphertext_for_recipient);
        assert_eq!(random.as_ref().len(), bytes as usize);
    }

    let agrees = || desk.key_of(KeySpec::EccNistP384, KeyUsageType::KeyAgreement);
    let (own, other) = (agrees().await, agrees().await);
    let call = kms.derive_shared_secret().key_id(&own.id);
    let call = call.public_key(desk.public_key(&other.id).await);
    let call = call.key_agreement_algorithm(KeyAgreementAlgorithmSpec::Ecdh);
    let plain = call.clone().send().await.unwrap();
    let call = call.recipient(attested());
    let derived = call.clone().send().await.unwrap();
    assert_eq!(derived.shared_secret, None);
    assert_eq!(derived.key_id(), Some(&*own.arn));
    assert_eq!(derived.key_origin(), plain.key_origin());
    let secret = Some(open(derived.ciphertext_for_recipient));
    assert_eq!(secret, plain.shared_secret);
    refused(call.dry_run(true).send().await, DRY_RUN, YES);
}

/// Catches a secret for one who only says to be an enclave, in the clear or not, also in a dry run,
/// and one that is given although the request leaves out who is to read it.
#[tokio::test(flavor = "multi_thread")]
async fn others_get_nothing() {
    let [hypervisor, other] = [Hypervisor::make(), Hypervisor::make()];
    let (dev, _root) = dev_of(&hypervisor).await;
    let desk = Desk::at(&dev.ready.endpoint, "recipients");
    let kms = &desk.kms;
    let key = desk.key().await;
    let agrees = desk.key_of(KeySpec::EccNistP256, KeyUsageType::KeyAgreement);
    let agrees = agrees.await;
    let peer = desk.public_key(&agrees.id).await;
    let enclave = Enclave::new(KeySize::Rsa2048);
    let words = |why: &str| format!("The attestation document was not accepted: {why}.");

    let garbage = recipient(b"document");
    let why = words("it is not one: it is not a COSE_Sign1 message");
    let data_key = kms.generate_data_key().key_id(&key.id);
    let data_key = data_key.key_spec(DataKeySpec::Aes256);
    let made = data_key.clone().send().await.unwrap();
    let call = data_key.clone().recipient(garbage.clone());
    refused(call.clone().send().await, VALIDATION, &why);
    refused(call.dry_run(true).send().await, VALIDATION, &why);
    let call = kms.decrypt().recipient(garbage.clone());
    let ignoring = call.clone().key_id(&key.id).dry_run(true);
    let ignoring = ignoring.dry_run_modifiers(DryRunModifierType::IgnoreCiphertext);
    refused(ignoring.send().await, VALIDATION, &why);
    let call = call.ciphertext_blob(made.ciphertext_blob.unwrap());
    refused(call.send().await, VALIDATION, &why);
    let call = kms.generate_data_key_pair().key_id(&key.id);
    let call = call.key_pair_spec(DataKeyPairSpec::EccNistP256);
    refused(
        call.recipient(garbage.clone()).send().await,
        VALIDATION,
        &why,
    );
    let call = kms.derive_shared_secret().key_id(&agrees.id);
    let call = call.public_key(peer);
    let call = call.key_agreement_algorithm(KeyAgreementAlgorithmSpec::Ecdh);
    let call = call.recipient(garbage.clone());
    refused(call.send().await, VALIDATION, &why);
    let random = kms.generate_random().number_of_bytes(32);
    let call = random.clone().recipient(garbage);
    refused(call.send().await, VALIDATION, &why);

    let right = hypervisor.attest(now_ms(), &enclave);
    let mut altered = right.clone();
    *altered.last_mut().unwrap() ^= 1;
    let hour = 60 * 60 * 1000;
    let no_root = "its certificates do not lead to a root that is trusted here";
    let not_fresh = "its timestamp is more than 5 minutes from this server's time";
    for (document, why) in [
        (altered, "its signature does not verify"),
        (other.attest(now_ms(), &enclave), no_root),
        (hypervisor.attest(now_ms() - hour, &enclave), not_fresh),
        (hypervisor.attest(now_ms() + hour, &enclave), not_fresh),
    ] {
        let call = data_key.clone().recipient(recipient(&document));
        refused(call.send().await, VALIDATION, &words(why));
    }
    let at_aws = Desk::at(&shared_dev().await.endpoint, "recipients");
    let random_there = at_aws.kms.generate_random().number_of_bytes(32);
    let call = random_there.recipient(recipient(&right));
    refused(call.send().await, VALIDATION, &words(no_root));
    assert!(
        random
            .clone()
            .recipient(recipient(&right))
            .send()
            .await
            .is_ok()
    );

    let empty = RecipientInfo::builder();
    let without_algorithm = empty.clone().attestation_document(Blob::new(right));
    for (info, missing) in [
        (empty, "attestationDocument"),
        (without_algorithm, "keyEncryptionAlgorithm"),
    ] {
        let text = format!(
            "1 validation error detected: Value null at 'recipient.{missing}' failed to satisfy \
             constraint: Member must not be null"
        );
        let call = random.clone().recipient(info.build());
        refused(call.send().await, VALIDATION, &text);
    }
    let call = random.recipient(recipient(&[0x81; 262_145]));
    let error = call.send().await.unwrap_err().into_service_error();
    let text = aws_sdk_kms::error::ProvideErrorMetadata::message(&error);
    let text = text.unwrap();
    assert!(
        text.contains("recipient.attestationDocument") && text.contains("262144"),
        "{text}"
    );
}

/// Catches an example in README that makes documents which nobody believes, and answers that the
/// openssl program cannot read.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs python and the openssl program, which are not everywhere"]
async fn the_example_makes_documents() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/attest.py");
    let made = Command::new("python3").args([example, path]).status();
    assert!(made.unwrap().success());
    let root = format!("{path}/root.pem");
    let dev = Dev::start(&["--ephemeral", "--attestation-root", &root]).await;
    let desk = Desk::at(&dev.ready.endpoint, "recipients");
    let document = std::fs::read(folder.path().join("document")).unwrap();
    let call = desk.kms.generate_data_key().key_id(desk.key().await.id);
    let call = call.key_spec(DataKeySpec::Aes256);
    let made = call.recipient(recipient(&document)).send().await.unwrap();
    let answer = made.ciphertext_for_recipient.unwrap();
    std::fs::write(folder.path().join("answer"), answer.as_ref()).unwrap();
    let output = Command::new("openssl")
        .args(["cms", "-decrypt", "-inform", "DER", "-in", "answer"])
        .args(["-inkey", "enclave.key"])
        .current_dir(&folder)
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    let data_key = decrypted(&desk.kms, made.ciphertext_blob).await;
    assert_eq!(output.stdout, data_key.as_ref());
}
