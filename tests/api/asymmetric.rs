//! Encryption to key pairs.

use aws_sdk_kms::operation::decrypt::builders::DecryptFluentBuilder;
use aws_sdk_kms::operation::encrypt::builders::EncryptFluentBuilder;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeySpec, KeyUsageType};
use keyrum_tests::sdk::refused;

use crate::desk::{Desk, Key};

const INVALID: &str = "InvalidCiphertextException";

fn encrypt(desk: &Desk, key: &Key, algorithm: &str, plaintext: &[u8]) -> EncryptFluentBuilder {
    let call = desk.kms.encrypt().key_id(&key.id);
    let call = call.plaintext(Blob::new(plaintext));
    call.encryption_algorithm(algorithm.into())
}

fn decrypt(desk: &Desk, key: &Key, algorithm: &str, ciphertext: &Blob) -> DecryptFluentBuilder {
    let call = desk.kms.decrypt().key_id(&key.id);
    let call = call.ciphertext_blob(ciphertext.clone());
    call.encryption_algorithm(algorithm.into())
}

/// The longest plaintext. Source: AWS KMS API Reference, Encrypt, `Plaintext`.
fn bytes_max(spec: &str, algorithm: &str) -> usize {
    match (spec, algorithm) {
        ("RSA_2048", "RSAES_OAEP_SHA_1") => 214,
        ("RSA_2048", _) => 190,
        ("RSA_3072", "RSAES_OAEP_SHA_1") => 342,
        ("RSA_3072", _) => 318,
        ("RSA_4096", "RSAES_OAEP_SHA_1") => 470,
        ("RSA_4096", _) => 446,
        _ => 1024,
    }
}

/// Encrypts and decrypts with each algorithm, from the shortest to the longest plaintext, and moves
/// what is encrypted to and from a symmetric key.
pub(crate) async fn try_out(desk: &Desk, key: &Key, algorithms: &[&str]) {
    let described = desk.describe(&key.id).await;
    let spec = described.key_spec().unwrap().as_str();
    let symmetric = desk.key().await;
    for algorithm in algorithms {
        let max = bytes_max(spec, algorithm);
        let mut last = None;
        for bytes in [1, max] {
            let plaintext = vec![bytes as u8; bytes];
            let call = encrypt(desk, key, algorithm, &plaintext);
            let sealed = call.send().await.unwrap();
            assert_eq!(sealed.key_id(), Some(&*key.arn));
            assert_eq!(sealed.encryption_algorithm().unwrap().as_str(), *algorithm);
            let blob = sealed.ciphertext_blob.unwrap();
            let opened = decrypt(desk, key, algorithm, &blob).send().await.unwrap();
            assert_eq!(opened.plaintext().unwrap().as_ref(), plaintext);
            assert_eq!(opened.key_id(), Some(&*key.arn));
            assert_eq!(opened.encryption_algorithm().unwrap().as_str(), *algorithm);
            assert_eq!(opened.key_material_id(), None);
            last = Some(blob);
        }
        let call = encrypt(desk, key, algorithm, &vec![7; max + 1]);
        let text = format!(
            "Algorithm {algorithm} and key spec {spec} cannot encrypt data larger than {max} bytes."
        );
        refused(call.clone().send().await, "ValidationException", &text);
        refused(
            call.dry_run(true).send().await,
            "ValidationException",
            &text,
        );

        let call = desk.kms.re_encrypt().ciphertext_blob(last.unwrap());
        let call = call
            .source_key_id(&key.id)
            .destination_key_id(&symmetric.id);
        let call = call.source_encryption_algorithm((*algorithm).into());
        let moved = call.send().await.unwrap();
        assert_eq!(moved.source_key_id(), Some(&*key.arn));
        assert_eq!(
            moved.source_encryption_algorithm().unwrap().as_str(),
            *algorithm
        );
        assert_eq!(moved.source_key_material_id(), None);
        assert!(moved.destination_key_material_id().is_some());
        let blob = moved.ciphertext_blob.unwrap();
        let call = desk.kms.re_encrypt().ciphertext_blob(blob);
        let call = call.destination_key_id(&key.id);
        let call = call.destination_encryption_algorithm((*algorithm).into());
        let back = call.send().await.unwrap();
        let chosen = back.destination_encryption_algorithm().unwrap();
        assert_eq!(chosen.as_str(), *algorithm);
        assert!(back.source_key_material_id().is_some());
        assert_eq!(back.destination_key_material_id(), None);
        let opened = decrypt(desk, key, algorithm, &back.ciphertext_blob.unwrap());
        let opened = opened.send().await.unwrap().plaintext.unwrap();
        assert_eq!(opened.as_ref(), vec![max as u8; max]);

        // More than a key pair can hold.
        let call = desk.kms.encrypt().key_id(&symmetric.id);
        let long = call.plaintext(Blob::new(vec![7; max + 1])).send().await;
        let call = desk.kms.re_encrypt().destination_key_id(&key.id);
        let call = call.ciphertext_blob(long.unwrap().ciphertext_blob.unwrap());
        let call = call.destination_encryption_algorithm((*algorithm).into());
        refused(call.send().await, "ValidationException", &text);
    }
}

/// Catches a ciphertext that opens though it was changed or made otherwise, and a refusal with the
/// wrong code or text, or out of the real service's order.
#[tokio::test]
async fn refusals_come_in_order() {
    let desk = Desk::dev("asymmetric refusals").await;
    let encrypts = || KeyUsageType::EncryptDecrypt;
    let key = desk.key_of(KeySpec::Rsa2048, encrypts()).await;
    let other = desk.key_of(KeySpec::Rsa2048, encrypts()).await;
    let signs = desk
        .key_of(KeySpec::Rsa2048, KeyUsageType::SignVerify)
        .await;
    let (one, two) = ("RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256");
    let blob = encrypt(&desk, &key, two, b"secret").send().await.unwrap();
    let blob = blob.ciphertext_blob.unwrap();
    assert_eq!(blob.as_ref().len(), 256);
    let mut changed = blob.as_ref().to_vec();
    changed[100] ^= 1;
    for (key, algorithm, bytes) in [
        (&key, one, blob.as_ref()),
        (&other, two, blob.as_ref()),
        (&key, two, &changed),
        (&key, two, &blob.as_ref()[1..]),
        (&key, two, b"x"),
    ] {
        let bytes = Blob::new(bytes);
        for dry_run in [false, true] {
            let call = decrypt(&desk, key, algorithm, &bytes).dry_run(dry_run);
            refused(call.send().await, INVALID, "");
        }
    }
    // The algorithm left out stands for the symmetric one, whose ciphertexts look otherwise.
    let call = desk.kms.decrypt().key_id(&key.id);
    let call = call.ciphertext_blob(blob.clone());
    refused(call.send().await, INVALID, "");
    let call = desk.kms.decrypt().ciphertext_blob(blob.clone());
    let call = call.encryption_algorithm(two.into());
    refused(
        call.send().await,
        "ValidationException",
        "KeyId must not be null",
    );
    let call = desk.kms.re_encrypt().ciphertext_blob(blob.clone());
    let call = call.source_encryption_algorithm(two.into());
    let answer = call.destination_key_id(&key.id).send().await;
    refused(
        answer,
        "ValidationException",
        "SourceKeyId must not be null",
    );

    let usage = "InvalidKeyUsageException";
    let text = "Algorithm SYMMETRIC_DEFAULT is incompatible with key spec RSA_2048.";
    let call = desk.kms.encrypt().key_id(&key.id);
    let default = call.plaintext(Blob::new("x"));
    refused(default.clone().send().await, usage, text);
    let text = "Algorithm SM2PKE is incompatible with key spec RSA_2048.";
    // The algorithm before the size.
    let call = encrypt(&desk, &key, "SM2PKE", &[7; 4096]);
    refused(call.send().await, usage, text);
    refused(
        decrypt(&desk, &key, "SM2PKE", &blob).send().await,
        usage,
        text,
    );
    let text = format!(
        "{} key usage is SIGN_VERIFY which is not valid for Encrypt.",
        signs.arn
    );
    refused(encrypt(&desk, &signs, two, b"x").send().await, usage, &text);
    let text = "The key ID in the request does not identify a CMK that can perform this operation.";
    let answer = decrypt(&desk, &signs, two, &blob).send().await;
    refused(answer, "IncorrectKeyException", text);

    let text =
        "EncryptionContext is not supported when encrypting/decrypting with asymmetric CMKs.";
    let call = encrypt(&desk, &key, two, b"x").encryption_context("a", "b");
    refused(call.send().await, "ValidationException", text);
    let call = decrypt(&desk, &key, two, &blob).encryption_context("a", "b");
    refused(call.send().await, "ValidationException", text);

    let dry_run = "DryRunOperationException";
    let yes = "The request would have succeeded, but the DryRun option is set.";
    let call = encrypt(&desk, &key, two, b"x").dry_run(true);
    refused(call.send().await, dry_run, yes);
    let call = decrypt(&desk, &key, two, &blob).dry_run(true);
    refused(call.send().await, dry_run, yes);

    let data_key = desk.kms.generate_data_key().key_id(&key.id);
    let answer = data_key.clone().number_of_bytes(8).send().await;
    let text = "You cannot generate a data key with an asymmetric CMK";
    refused(answer, usage, text);
    let pair = desk.kms.generate_data_key_pair().key_id(&key.id);
    let pair = pair.key_pair_spec("ECC_NIST_P256".into());
    let text = "You cannot generate a data key pair with an asymmetric CMK";
    refused(pair.clone().send().await, usage, text);

    desk.kms.disable_key().key_id(&key.id).send().await.unwrap();
    // The state before the algorithm, the kind and the size.
    let text = format!("{} is disabled.", key.arn);
    refused(default.send().await, "DisabledException", &text);
    refused(pair.send().await, "DisabledException", &text);
    let call = encrypt(&desk, &key, two, &[7; 4096]);
    refused(call.send().await, "DisabledException", &text);
    let answer = decrypt(&desk, &key, two, &Blob::new("x")).send().await;
    refused(answer, "DisabledException", &text);
}
