//! Attested callers.

use aws_lc_rs::rsa::KeySize;
use keyrum_tests::attestation::{Enclave, Hypervisor};
use keyrum_tests::recipients::attested_now;
use serde_json::{Value, json};

use crate::kms::Kms;
use crate::prepared::{KINDS, SYMMETRIC, blob, bytes, new_key};

/// Operations whose secret an enclave can have for itself, with the member that has it in the clear.
const SECRETS: [(&str, &str); 5] = [
    ("Decrypt", "Plaintext"),
    ("DeriveSharedSecret", "SharedSecret"),
    ("GenerateDataKey", "Plaintext"),
    ("GenerateDataKeyPair", "PrivateKeyPlaintext"),
    ("GenerateRandom", "Plaintext"),
];

pub(super) async fn walk(kms: &Kms, hypervisor: &Hypervisor) {
    let symmetric = new_key(kms, SYMMETRIC, false).await;
    let agrees = new_key(kms, KINDS[3], false).await;
    let peer = kms.ok("GetPublicKey", json!({"KeyId": agrees})).await;
    let body = json!({"KeyId": symmetric, "Plaintext": blob("x")});
    let sealed = kms.ok("Encrypt", body).await;
    let request = |operation: &str| match operation {
        "Decrypt" => json!({"CiphertextBlob": sealed["CiphertextBlob"]}),
        "DeriveSharedSecret" => json!({
            "KeyId": agrees,
            "KeyAgreementAlgorithm": "ECDH",
            "PublicKey": peer["PublicKey"],
        }),
        "GenerateDataKey" => json!({"KeyId": symmetric, "NumberOfBytes": 8}),
        "GenerateDataKeyPair" => json!({"KeyId": symmetric, "KeyPairSpec": "ECC_NIST_P256"}),
        _ => json!({"NumberOfBytes": 8}),
    };
    let enclaves = [KeySize::Rsa2048, KeySize::Rsa2048].map(Enclave::new);
    let documents = || {
        let documents = enclaves.each_ref();
        documents.map(|enclave| blob(attested_now(hypervisor, enclave)))
    };
    for (operation, clear) in SECRETS {
        let recipient = json!({"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": documents()[0]});
        let mut body = request(operation);
        // Who reads the secret: everybody, or the one enclave. It is there once.
        let readers = async |answer: &Value| {
            let sealed = &answer["CiphertextForRecipient"];
            assert_ne!(sealed.is_null(), answer[clear].is_null(), "{answer}");
            let by = enclaves.iter().map(|enclave| {
                let opened = sealed.is_string().then(|| enclave.try_open(&bytes(sealed)));
                opened.flatten().is_some()
            });
            json!([answer[clear].is_string(), by.collect::<Vec<_>>()])
        };
        let choices = [Value::Null, recipient.clone()];
        kms.vary(operation, &body, "/Recipient", &choices, readers)
            .await;
        body["Recipient"] = recipient;
        let pointer = "/Recipient/AttestationDocument";
        kms.vary(operation, &body, pointer, &documents(), readers)
            .await;
        let names = ["RSAES_OAEP_SHA_256", "RSAES_OAEP_SHA_1"].map(Value::from);
        let pointer = "/Recipient/KeyEncryptionAlgorithm";
        kms.vary(operation, &body, pointer, &names, readers).await;
    }
}
