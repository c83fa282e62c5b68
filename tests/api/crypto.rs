//! Encryption and what it refuses.

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeySpec, EncryptionAlgorithmSpec};
use keyrum_tests::sdk::refused;

use crate::desk::{Desk, NOBODY};

/// Catches a ciphertext that opens although it, or what it was bound to, was changed.
#[tokio::test]
async fn only_the_whole_truth_decrypts() {
    let desk = Desk::dev("whole truth").await;
    let (key, other) = (desk.key().await, desk.key().await);
    let call = desk
        .kms
        .encrypt()
        .key_id(&key.id)
        .plaintext(Blob::new("secret"));
    let call = call
        .encryption_context("a", "1")
        .encryption_context("b", "2");
    let blob = call.send().await.unwrap().ciphertext_blob.unwrap();
    let decrypt = |blob: &Blob, context: &[(&str, &str)]| {
        let call = desk.kms.decrypt().ciphertext_blob(blob.clone());
        context.iter().fold(call, |call, (name, value)| {
            call.encryption_context(*name, *value)
        })
    };
    // Order does not matter, everything else does.
    decrypt(&blob, &[("b", "2"), ("a", "1")])
        .send()
        .await
        .unwrap();
    for context in [
        &[][..],
        &[("a", "1")],
        &[("a", "2"), ("b", "1")],
        &[("A", "1"), ("b", "2")],
        &[("a", "1"), ("b", "2"), ("c", "3")],
        &[("a", "1b"), ("", "2")],
    ] {
        let answer = decrypt(&blob, context).send().await;
        refused(answer, "InvalidCiphertextException", "");
    }
    let right = [("a", "1"), ("b", "2")];
    for at in (0..blob.as_ref().len()).step_by(7) {
        let mut bytes = blob.as_ref().to_vec();
        bytes[at] ^= 1;
        let error = decrypt(&Blob::new(bytes), &right).send().await.unwrap_err();
        let error = error.into_service_error();
        // A changed key id leads to a key that is not there.
        let code = error.meta().code().unwrap();
        assert!(
            ["InvalidCiphertextException", "AccessDeniedException"].contains(&code),
            "{at}: {error:?}"
        );
    }
    for bytes in [b"x".to_vec(), vec![0; 200], blob.as_ref()[1..].to_vec()] {
        let answer = decrypt(&Blob::new(bytes), &right).send().await;
        refused(answer, "InvalidCiphertextException", "");
    }
    let incorrect =
        "The key ID in the request does not identify a CMK that can perform this operation.";
    let answer = decrypt(&blob, &right).key_id(&other.id).send().await;
    refused(answer, "IncorrectKeyException", incorrect);
    let call = desk
        .kms
        .re_encrypt()
        .ciphertext_blob(blob.clone())
        .source_key_id(&other.id);
    let call = call
        .source_encryption_context("a", "1")
        .source_encryption_context("b", "2");
    let answer = call.destination_key_id(&other.id).send().await;
    refused(answer, "IncorrectKeyException", incorrect);
    let message = format!(
        "Key '{}' does not exist",
        desk.arn(&format!("key/{NOBODY}"))
    );
    let answer = decrypt(&blob, &right).key_id(NOBODY).send().await;
    refused(answer, "NotFoundException", &message);
}

/// Catches a dry run that does the work, or that says yes before everything is checked.
#[tokio::test]
async fn dry_runs_do_nothing_but_check() {
    let desk = Desk::dev("dry runs").await;
    let key = desk.key().await;
    let disabled = desk.disabled_key().await;
    let blob = desk.ciphertext(&key.id).await;
    let kms = &desk.kms;
    let code = "DryRunOperationException";
    let yes = "The request would have succeeded, but the DryRun option is set.";
    let encrypt = |key: &str| {
        kms.encrypt()
            .key_id(key)
            .plaintext(Blob::new("x"))
            .dry_run(true)
    };
    refused(encrypt(&key.id).send().await, code, yes);
    let decrypt = kms.decrypt().ciphertext_blob(blob.clone()).dry_run(true);
    refused(decrypt.clone().send().await, code, yes);
    let call = kms
        .re_encrypt()
        .ciphertext_blob(blob.clone())
        .destination_key_id(&key.id);
    refused(call.dry_run(true).send().await, code, yes);
    let call = kms
        .generate_data_key()
        .key_id(&key.id)
        .key_spec(DataKeySpec::Aes128);
    refused(call.dry_run(true).send().await, code, yes);
    let call = kms
        .generate_data_key_without_plaintext()
        .key_id(&key.id)
        .number_of_bytes(9);
    refused(call.dry_run(true).send().await, code, yes);
    // Other errors come first.
    let message = format!("{} is disabled.", disabled.arn);
    refused(
        encrypt(&disabled.id).send().await,
        "DisabledException",
        &message,
    );
    let answer = decrypt.encryption_context("a", "b").send().await;
    refused(answer, "InvalidCiphertextException", "");
    let call = kms.generate_data_key().key_id(&key.id).dry_run(true);
    let message = "Please specify either number of bytes or key spec.";
    refused(call.send().await, "ValidationException", message);
    // Switched off, it is no dry run.
    kms.encrypt()
        .key_id(&key.id)
        .plaintext(Blob::new("x"))
        .dry_run(false)
        .send()
        .await
        .unwrap();
}

/// Catches sizes and combinations of parameters that the real service refuses.
#[tokio::test]
async fn parameters_are_checked() {
    let desk = Desk::dev("parameters").await;
    let key = desk.key().await;
    let disabled = desk.disabled_key().await;
    let kms = &desk.kms;
    let code = "ValidationException";
    let either = "Please specify either number of bytes or key spec.";
    let both = kms
        .generate_data_key()
        .key_id(&disabled.id)
        .number_of_bytes(32);
    // Wins over the key's state.
    refused(
        both.key_spec(DataKeySpec::Aes256).send().await,
        code,
        either,
    );
    refused(
        kms.generate_data_key_without_plaintext()
            .key_id(&key.id)
            .send()
            .await,
        code,
        either,
    );
    let range = |value: i32, bound: &str| {
        format!(
            "1 validation error detected: Value '{value}' at 'numberOfBytes' failed to satisfy \
             constraint: Member must have value {bound}"
        )
    };
    let (least, most) = ("greater than or equal to 1", "less than or equal to 1024");
    for (value, bound) in [(0, least), (-5, least), (1025, most)] {
        let message = range(value, bound);
        let call = kms
            .generate_data_key()
            .key_id(&key.id)
            .number_of_bytes(value);
        refused(call.send().await, code, &message);
        refused(
            kms.generate_random().number_of_bytes(value).send().await,
            code,
            &message,
        );
    }
    refused(
        kms.generate_random().send().await,
        code,
        "NumberOfBytes is required.",
    );
    let encrypt = |bytes: usize| {
        kms.encrypt()
            .key_id(&key.id)
            .plaintext(Blob::new(vec![7; bytes]))
    };
    let hidden = |bound: &str| {
        format!(
            "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: \
             Member must have length {bound}"
        )
    };
    let (least, most) = ("greater than or equal to 1", "less than or equal to 4096");
    refused(encrypt(0).send().await, code, &hidden(least));
    refused(encrypt(4097).send().await, code, &hidden(most));
    let blob = encrypt(4096).send().await.unwrap().ciphertext_blob.unwrap();
    let opened = kms
        .decrypt()
        .ciphertext_blob(blob.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(opened.plaintext().unwrap().as_ref(), [7; 4096]);
    let message = "Algorithm RSAES_OAEP_SHA_256 is incompatible with key spec SYMMETRIC_DEFAULT.";
    let algorithm = EncryptionAlgorithmSpec::RsaesOaepSha256;
    let answer = encrypt(4)
        .encryption_algorithm(algorithm.clone())
        .send()
        .await;
    refused(answer, "InvalidKeyUsageException", message);
    let answer = kms
        .decrypt()
        .ciphertext_blob(blob)
        .encryption_algorithm(algorithm)
        .send()
        .await;
    refused(answer, code, "KeyId must not be null");
}

/// Catches randomness that repeats itself.
#[tokio::test]
async fn nothing_is_drawn_twice() {
    let desk = Desk::dev("randomness").await;
    let key = desk.key().await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let random = desk
            .kms
            .generate_random()
            .number_of_bytes(16)
            .send()
            .await
            .unwrap();
        assert!(seen.insert(random.plaintext.unwrap().into_inner()));
        let made = desk
            .kms
            .generate_data_key()
            .key_id(&key.id)
            .number_of_bytes(16)
            .send()
            .await
            .unwrap();
        assert!(seen.insert(made.plaintext.unwrap().into_inner()));
        assert!(seen.insert(made.ciphertext_blob.unwrap().into_inner()));
        assert!(seen.insert(desk.ciphertext(&key.id).await.into_inner()));
    }
}
