//! Encryption, data keys, MACs, agreement, encapsulation and random bytes, and what is remembered of
//! their use.

use keyrum_tests::wait;
use serde_json::{Value, json};

use super::CHINA;
use crate::kms::Kms;
use crate::prepared::{KINDS, Kind, SYMMETRIC, blob, bytes, new_key};

const CONTEXT: &str = "/EncryptionContext/purpose";

fn kind(spec: &'static str, usage: &'static str) -> Kind {
    let imported = false;
    Kind {
        spec,
        usage,
        imported,
    }
}

/// A ciphertext of that key, made with `more` in the request.
async fn encrypt(kms: &Kms, id: &str, text: &str, more: Value) -> Value {
    let mut body = more;
    body["KeyId"] = id.into();
    body["Plaintext"] = blob(text);
    kms.ok("Encrypt", body).await["CiphertextBlob"].clone()
}

/// What a ciphertext decrypts to in an encryption context; null if it does not.
async fn decrypt(kms: &Kms, ciphertext: &Value, context: Value) -> Value {
    let body = json!({"CiphertextBlob": ciphertext, "EncryptionContext": context});
    match kms.ask("Decrypt", &body).await {
        Ok(answer) => answer["Plaintext"].clone(),
        Err(_) => Value::Null,
    }
}

/// In which of two contexts a ciphertext opens, and to how many bytes.
async fn opens(kms: &Kms, ciphertext: &Value) -> Value {
    let mut seen = Vec::new();
    for context in [json!({}), json!({"purpose": "a"})] {
        let plaintext = decrypt(kms, ciphertext, context).await;
        seen.push(plaintext.as_str().map(|_| bytes(&plaintext).len()));
    }
    json!(seen)
}

pub(super) async fn walk(kms: &Kms) {
    encryption(kms).await;
    data_keys(kms).await;
    macs(kms).await;
    secrets(kms).await;
    let length = async |answer: &Value| bytes(&answer["Plaintext"]).len().into();
    let numbers = [16.into(), 17.into()];
    kms.vary(
        "GenerateRandom",
        &json!({}),
        "/NumberOfBytes",
        &numbers,
        length,
    )
    .await;
    // Keyrum has no custom key stores, and so none with random bytes to give.
    let body = json!({"NumberOfBytes": 8, "CustomKeyStoreId": "cks-1"});
    kms.no("GenerateRandom", body, "UnsupportedOperationException")
        .await;
}

async fn encryption(kms: &Kms) {
    let one = new_key(kms, SYMMETRIC, false).await;
    let two = new_key(kms, SYMMETRIC, false).await;
    let rsa = new_key(kms, KINDS[1], false).await;
    let china = kms.in_region(CHINA);
    let sm2 = new_key(&china, kind("SM2", "ENCRYPT_DECRYPT"), false).await;
    let contexts = [Value::Null, "a".into()];
    let algorithms = ["RSAES_OAEP_SHA_1".into(), "RSAES_OAEP_SHA_256".into()];
    let none = async |_: &Value| Value::Null;

    let body = json!({"KeyId": one, "Plaintext": blob("x")});
    let opened = async |answer: &Value| decrypt(kms, &answer["CiphertextBlob"], json!({})).await;
    let texts = [blob("x"), blob("y")];
    kms.vary("Encrypt", &body, "/Plaintext", &texts, opened)
        .await;
    let look = async |answer: &Value| opens(kms, &answer["CiphertextBlob"]).await;
    kms.vary("Encrypt", &body, CONTEXT, &contexts, look).await;
    let symmetric = ["SYMMETRIC_DEFAULT".into(), "RSAES_OAEP_SHA_1".into()];
    kms.vary("Encrypt", &body, "/EncryptionAlgorithm", &symmetric, none)
        .await;
    let body = json!({"KeyId": rsa, "Plaintext": blob("x")});
    let how = async |answer: &Value| {
        let mut seen = vec![answer["EncryptionAlgorithm"].clone()];
        for algorithm in &algorithms {
            let blob = &answer["CiphertextBlob"];
            let body =
                json!({"KeyId": rsa, "CiphertextBlob": blob, "EncryptionAlgorithm": algorithm});
            seen.push(kms.ask("Decrypt", &body).await.is_ok().into());
        }
        Value::Array(seen)
    };
    kms.vary("Encrypt", &body, "/EncryptionAlgorithm", &algorithms, how)
        .await;
    let chinese = ["SM2PKE".into(), "SYMMETRIC_DEFAULT".into()];
    let body = json!({"KeyId": sm2, "Plaintext": blob("x")});
    let answers = china
        .vary("Encrypt", &body, "/EncryptionAlgorithm", &chinese, none)
        .await;
    let sealed = answers[0].as_ref().expect("a ciphertext")["CiphertextBlob"].clone();
    let body = json!({"KeyId": sm2, "CiphertextBlob": sealed});
    china
        .vary("Decrypt", &body, "/EncryptionAlgorithm", &chinese, none)
        .await;

    let plain = encrypt(kms, &one, "x", json!({})).await;
    let other = encrypt(kms, &two, "y", json!({})).await;
    let context = json!({"EncryptionContext": {"purpose": "a"}});
    let bound = encrypt(kms, &one, "z", context).await;
    let by_rsa = json!({"EncryptionAlgorithm": "RSAES_OAEP_SHA_1"});
    let by_rsa = encrypt(kms, &rsa, "r", by_rsa).await;
    let text = async |answer: &Value| answer["Plaintext"].clone();
    let blobs = [plain.clone(), other.clone()];
    kms.vary("Decrypt", &json!({}), "/CiphertextBlob", &blobs, text)
        .await;
    kms.vary(
        "Decrypt",
        &json!({"CiphertextBlob": bound}),
        CONTEXT,
        &contexts,
        text,
    )
    .await;
    let keys = [one.clone().into(), two.clone().into()];
    kms.vary(
        "Decrypt",
        &json!({"CiphertextBlob": plain}),
        "/KeyId",
        &keys,
        text,
    )
    .await;
    let wrong = json!({"CiphertextBlob": plain, "KeyId": two});
    kms.no("Decrypt", wrong, "IncorrectKeyException").await;
    let wrong = json!({"CiphertextBlob": blob("nonsense")});
    kms.no("Decrypt", wrong, "InvalidCiphertextException").await;
    let body = json!({"CiphertextBlob": by_rsa, "KeyId": rsa});
    kms.vary("Decrypt", &body, "/EncryptionAlgorithm", &algorithms, text)
        .await;
    kms.no("Decrypt", body, "InvalidCiphertextException").await;
    let unusable = json!({
        "CiphertextBlob": plain,
        "KeyId": one,
        "EncryptionAlgorithm": "RSAES_OAEP_SHA_1",
    });
    kms.no("Decrypt", unusable, "InvalidKeyUsageException")
        .await;
    let modifiers = [Value::Null, json!(["IGNORE_CIPHERTEXT"])];
    let body = json!({"KeyId": one, "DryRun": true});
    kms.vary("Decrypt", &body, "/DryRunModifiers", &modifiers, none)
        .await;
    let body = json!({"SourceKeyId": one, "DestinationKeyId": two, "DryRun": true});
    kms.vary("ReEncrypt", &body, "/DryRunModifiers", &modifiers, none)
        .await;

    let moved = async |answer: &Value| opened_anywhere(kms, &rsa, answer).await;
    let body = json!({"DestinationKeyId": two});
    kms.vary("ReEncrypt", &body, "/CiphertextBlob", &blobs, moved)
        .await;
    let body = json!({"DestinationKeyId": two, "CiphertextBlob": bound});
    let pointer = "/SourceEncryptionContext/purpose";
    kms.vary("ReEncrypt", &body, pointer, &contexts, moved)
        .await;
    let body = json!({"DestinationKeyId": two, "CiphertextBlob": plain});
    kms.vary("ReEncrypt", &body, "/SourceKeyId", &keys, moved)
        .await;
    let pointer = "/DestinationEncryptionContext/purpose";
    kms.vary("ReEncrypt", &body, pointer, &contexts, moved)
        .await;
    kms.vary("ReEncrypt", &body, "/DestinationKeyId", &keys, moved)
        .await;
    let body = json!({"DestinationKeyId": rsa, "CiphertextBlob": plain});
    let pointer = "/DestinationEncryptionAlgorithm";
    kms.vary("ReEncrypt", &body, pointer, &algorithms, moved)
        .await;
    let body = json!({"DestinationKeyId": one, "CiphertextBlob": by_rsa, "SourceKeyId": rsa});
    let pointer = "/SourceEncryptionAlgorithm";
    kms.vary("ReEncrypt", &body, pointer, &algorithms, moved)
        .await;
    let wrong = json!({"DestinationKeyId": two, "CiphertextBlob": blob("nonsense")});
    kms.no("ReEncrypt", wrong, "InvalidCiphertextException")
        .await;
    for (id, operation) in [(&one, "Encrypt"), (&two, "ReEncrypt")] {
        let _ = encrypt(kms, &one, "x", json!({})).await;
        let body = json!({"DestinationKeyId": two, "CiphertextBlob": plain});
        if operation == "ReEncrypt" {
            kms.ok("ReEncrypt", body).await;
        }
        used(kms, id, operation).await;
    }
    decrypt(kms, &plain, json!({})).await;
    used(kms, &one, "Decrypt").await;
}

/// What came of ReEncrypt: the keys, the algorithms, and how it opens.
async fn opened_anywhere(kms: &Kms, rsa: &str, answer: &Value) -> Value {
    let blob = &answer["CiphertextBlob"];
    let algorithm = &answer["DestinationEncryptionAlgorithm"];
    let body = json!({"KeyId": rsa, "CiphertextBlob": blob, "EncryptionAlgorithm": algorithm});
    let by_rsa = kms.ask("Decrypt", &body).await.ok();
    let plain = decrypt(kms, blob, json!({})).await;
    let ends = [&answer["SourceKeyId"], &answer["KeyId"]];
    json!([ends, plain, opens(kms, blob).await, by_rsa])
}

/// Whichever node answered tells it to the log soon.
async fn used(kms: &Kms, id: &str, operation: &str) {
    let what = format!("{operation} as the last use");
    wait::until_true(&what, wait::LONG, async || {
        let answer = kms.ok("GetKeyLastUsage", json!({"KeyId": id})).await;
        answer["KeyLastUsage"]["Operation"] == operation
    })
    .await;
}

async fn data_keys(kms: &Kms) {
    let id = new_key(kms, SYMMETRIC, false).await;
    let china = kms.in_region(CHINA);
    let there = new_key(&china, SYMMETRIC, false).await;
    let key = json!({"KeyId": id});
    let contexts = [Value::Null, "a".into()];
    let sizes = [16.into(), 17.into()];
    let specs = ["AES_128".into(), "AES_256".into()];
    for operation in ["GenerateDataKey", "GenerateDataKeyWithoutPlaintext"] {
        let look = async |answer: &Value| {
            assert_eq!(
                answer["Plaintext"].is_null(),
                operation != "GenerateDataKey"
            );
            opens(kms, &answer["CiphertextBlob"]).await
        };
        kms.vary(operation, &key, "/NumberOfBytes", &sizes, look)
            .await;
        kms.vary(operation, &key, "/KeySpec", &specs, look).await;
        let body = json!({"KeyId": id, "NumberOfBytes": 8});
        kms.vary(operation, &body, CONTEXT, &contexts, look).await;
        used(kms, &id, "Decrypt").await;
        kms.ok(operation, body).await;
        used(kms, &id, operation).await;
    }
    let pairs: Vec<Value> = [
        "ECC_NIST_P256",
        "ECC_NIST_P384",
        "ECC_NIST_P521",
        "ECC_SECG_P256K1",
        "ECC_NIST_EDWARDS25519",
        "RSA_2048",
        "RSA_3072",
        "RSA_4096",
        "ML_KEM_512",
        "ML_KEM_768",
        "ML_KEM_1024",
    ]
    .map(Value::from)
    .into();
    for operation in ["GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"] {
        let look = async |answer: &Value| {
            let sealed = &answer["PrivateKeyCiphertextBlob"];
            if operation == "GenerateDataKeyPair" {
                let private = decrypt(kms, sealed, json!({})).await;
                let bound = decrypt(kms, sealed, json!({"purpose": "a"})).await;
                let plain = &answer["PrivateKeyPlaintext"];
                assert!(*plain == private || *plain == bound);
            }
            json!([answer["KeyPairSpec"], opens(kms, sealed).await])
        };
        kms.vary(operation, &key, "/KeyPairSpec", &pairs, look)
            .await;
        let body = json!({"KeyId": id, "KeyPairSpec": "ECC_NIST_P256"});
        kms.vary(operation, &body, CONTEXT, &contexts, look).await;
        kms.ok(operation, body).await;
        used(kms, &id, operation).await;
        let specs = ["SM2".into(), "ECC_NIST_P256".into()];
        let spec = async |answer: &Value| answer["KeyPairSpec"].clone();
        let body = json!({"KeyId": there});
        china
            .vary(operation, &body, "/KeyPairSpec", &specs, spec)
            .await;
        let body = json!({"KeyId": id, "KeyPairSpec": "SM2"});
        kms.no(operation, body, "UnsupportedOperationException")
            .await;
    }
}

async fn macs(kms: &Kms) {
    let all = ["224", "256", "384", "512"];
    let algorithms = all.map(|bits| Value::from(format!("HMAC_SHA_{bits}")));
    let made = async |answer: &Value| answer["Mac"].clone();
    for (spec, algorithm) in ["HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512"]
        .into_iter()
        .zip(&algorithms)
    {
        let id = new_key(kms, kind(spec, "GENERATE_VERIFY_MAC"), false).await;
        let body = json!({"KeyId": id, "Message": blob("x"), "MacAlgorithm": algorithm});
        let answers = kms
            .vary("GenerateMac", &body, "/MacAlgorithm", &algorithms, made)
            .await;
        let messages = [blob("x"), blob("y")];
        kms.vary("GenerateMac", &body, "/Message", &messages, made)
            .await;
        used(kms, &id, "GenerateMac").await;
        let own = answers.into_iter().find_map(Result::ok).expect("one fits");
        let mut body = body;
        body["Mac"] = own["Mac"].clone();
        let valid = async |answer: &Value| answer["MacValid"].clone();
        kms.vary("VerifyMac", &body, "/Message", &messages, valid)
            .await;
        kms.vary("VerifyMac", &body, "/MacAlgorithm", &algorithms, valid)
            .await;
        let macs = [own["Mac"].clone(), blob("nonsense")];
        kms.vary("VerifyMac", &body, "/Mac", &macs, valid).await;
        used(kms, &id, "VerifyMac").await;
    }
}

async fn secrets(kms: &Kms) {
    let agrees = new_key(kms, KINDS[3], false).await;
    let mut peers = Vec::new();
    for _ in 0..2 {
        let peer = new_key(kms, KINDS[3], false).await;
        let peer = kms.ok("GetPublicKey", json!({"KeyId": peer})).await;
        peers.push(peer["PublicKey"].clone());
    }
    let body = json!({"KeyId": agrees, "KeyAgreementAlgorithm": "ECDH", "PublicKey": peers[0]});
    let secret = async |answer: &Value| answer["SharedSecret"].clone();
    kms.vary("DeriveSharedSecret", &body, "/PublicKey", &peers, secret)
        .await;
    let names = ["ECDH".into(), "X25519".into()];
    let pointer = "/KeyAgreementAlgorithm";
    kms.vary("DeriveSharedSecret", &body, pointer, &names, secret)
        .await;
    used(kms, &agrees, "DeriveSharedSecret").await;

    let kem = new_key(kms, KINDS[4], false).await;
    let body = json!({"KeyId": kem, "EncapsulationAlgorithm": "ML_KEM"});
    let names = ["ML_KEM".into(), "RSA_KEM".into()];
    let pointer = "/EncapsulationAlgorithm";
    kms.vary("Encapsulate", &body, pointer, &names, secret)
        .await;
    let mut blobs = Vec::new();
    for _ in 0..2 {
        let made = kms.ok("Encapsulate", body.clone()).await;
        let mut body = body.clone();
        let blob = &made["SharedSecretCiphertextBlob"];
        body["SharedSecretCiphertextBlob"] = blob.clone();
        let opened = kms.ok("Decapsulate", body).await;
        assert_eq!(opened["SharedSecret"], made["SharedSecret"]);
        blobs.push(blob.clone());
    }
    used(kms, &kem, "Decapsulate").await;
    let pointer = "/SharedSecretCiphertextBlob";
    kms.vary("Decapsulate", &body, pointer, &blobs, secret)
        .await;
    let mut body = body;
    body["SharedSecretCiphertextBlob"] = blobs[0].clone();
    let pointer = "/EncapsulationAlgorithm";
    kms.vary("Decapsulate", &body, pointer, &names, secret)
        .await;
    kms.ok(
        "Encapsulate",
        json!({"KeyId": kem, "EncapsulationAlgorithm": "ML_KEM"}),
    )
    .await;
    used(kms, &kem, "Encapsulate").await;
    body["SharedSecretCiphertextBlob"] = blob("short");
    kms.no("Decapsulate", body, "InvalidCiphertextException")
        .await;
}
