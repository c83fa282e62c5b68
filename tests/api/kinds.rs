//! Keys of every kind: made, described and used with everything that is theirs.

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyMetadata, KeySpec, KeyUsageType, OriginType};
use keyrum_tests::Dev;
use keyrum_tests::sdk::{HERE, patiently, refused};

use crate::desk::{Desk, Key};
use crate::rush::Rush;
use crate::{agreement, asymmetric, macs, signing};

/// Every spec with each of its usages and the algorithms that these lead to, for Regions outside
/// China. Source: AWS KMS Developer Guide, "Key spec reference".
const KINDS: &[(&str, &str, &[&str])] = &[
    (
        "SYMMETRIC_DEFAULT",
        "ENCRYPT_DECRYPT",
        &["SYMMETRIC_DEFAULT"],
    ),
    ("HMAC_224", "GENERATE_VERIFY_MAC", &["HMAC_SHA_224"]),
    ("HMAC_256", "GENERATE_VERIFY_MAC", &["HMAC_SHA_256"]),
    ("HMAC_384", "GENERATE_VERIFY_MAC", &["HMAC_SHA_384"]),
    ("HMAC_512", "GENERATE_VERIFY_MAC", &["HMAC_SHA_512"]),
    ("RSA_2048", "ENCRYPT_DECRYPT", OAEP),
    ("RSA_2048", "SIGN_VERIFY", RSASSA),
    ("RSA_3072", "ENCRYPT_DECRYPT", OAEP),
    ("RSA_3072", "SIGN_VERIFY", RSASSA),
    ("RSA_4096", "ENCRYPT_DECRYPT", OAEP),
    ("RSA_4096", "SIGN_VERIFY", RSASSA),
    ("ECC_NIST_P256", "SIGN_VERIFY", &["ECDSA_SHA_256"]),
    ("ECC_NIST_P256", "KEY_AGREEMENT", &["ECDH"]),
    ("ECC_NIST_P384", "SIGN_VERIFY", &["ECDSA_SHA_384"]),
    ("ECC_NIST_P384", "KEY_AGREEMENT", &["ECDH"]),
    ("ECC_NIST_P521", "SIGN_VERIFY", &["ECDSA_SHA_512"]),
    ("ECC_NIST_P521", "KEY_AGREEMENT", &["ECDH"]),
    ("ECC_SECG_P256K1", "SIGN_VERIFY", &["ECDSA_SHA_256"]),
    (
        "ECC_NIST_EDWARDS25519",
        "SIGN_VERIFY",
        &["ED25519_PH_SHA_512", "ED25519_SHA_512"],
    ),
    ("ML_DSA_44", "SIGN_VERIFY", &["ML_DSA_SHAKE_256"]),
    ("ML_DSA_65", "SIGN_VERIFY", &["ML_DSA_SHAKE_256"]),
    ("ML_DSA_87", "SIGN_VERIFY", &["ML_DSA_SHAKE_256"]),
    ("ML_KEM_512", "ENCAPSULATE_DECAPSULATE", &["ML_KEM"]),
    ("ML_KEM_768", "ENCAPSULATE_DECAPSULATE", &["ML_KEM"]),
    ("ML_KEM_1024", "ENCAPSULATE_DECAPSULATE", &["ML_KEM"]),
];

/// What Regions in China have beside most of these.
const KINDS_IN_CHINA: &[(&str, &str, &[&str])] = &[
    (
        "SYMMETRIC_DEFAULT",
        "ENCRYPT_DECRYPT",
        &["SYMMETRIC_DEFAULT"],
    ),
    ("SM2", "ENCRYPT_DECRYPT", &["SM2PKE"]),
    ("SM2", "SIGN_VERIFY", &["SM2DSA"]),
    ("SM2", "KEY_AGREEMENT", &["ECDH"]),
];

const OAEP: &[&str] = &["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"];
const RSASSA: &[&str] = &[
    "RSASSA_PKCS1_V1_5_SHA_256",
    "RSASSA_PKCS1_V1_5_SHA_384",
    "RSASSA_PKCS1_V1_5_SHA_512",
    "RSASSA_PSS_SHA_256",
    "RSASSA_PSS_SHA_384",
    "RSASSA_PSS_SHA_512",
];

/// The one list of algorithms that a key shows; empty if it shows another one than its usage's.
fn shown(key: &KeyMetadata) -> Vec<&str> {
    let names = [
        (
            "ENCRYPT_DECRYPT",
            texts(key.encryption_algorithms(), |a| a.as_str()),
        ),
        (
            "SIGN_VERIFY",
            texts(key.signing_algorithms(), |a| a.as_str()),
        ),
        (
            "GENERATE_VERIFY_MAC",
            texts(key.mac_algorithms(), |a| a.as_str()),
        ),
        (
            "KEY_AGREEMENT",
            texts(key.key_agreement_algorithms(), |a| a.as_str()),
        ),
        (
            "ENCAPSULATE_DECAPSULATE",
            texts(key.encapsulation_algorithms(), |a| a.as_str()),
        ),
    ];
    let usage = key.key_usage().unwrap().as_str();
    let mut lists = names.into_iter().filter(|(_, list)| !list.is_empty());
    match (lists.next(), lists.next()) {
        (Some((of, list)), None) if of == usage => list,
        _ => Vec::new(),
    }
}

fn texts<'a, T>(values: &'a [T], text: impl Fn(&'a T) -> &'a str) -> Vec<&'a str> {
    values.iter().map(text).collect()
}

/// Makes a key of a kind, checks what is told about it, and uses it.
async fn try_out(desk: &Desk, spec: &str, usage: &str, algorithms: &[&str], multi_region: bool) {
    let call = desk.kms.create_key().key_spec(KeySpec::from(spec));
    let call = call.key_usage(KeyUsageType::from(usage));
    let call = call.multi_region(multi_region);
    let made = patiently(async || call.clone().send().await).await;
    let made = made.key_metadata.unwrap();
    assert_eq!(shown(&made), algorithms, "{spec} {usage}");
    assert_eq!(made.key_spec().unwrap().as_str(), spec);
    #[expect(deprecated, reason = "the real service still answers it")]
    let deprecated = made.customer_master_key_spec().unwrap().as_str();
    assert_eq!(deprecated, spec);
    assert_eq!(made.origin(), Some(&OriginType::AwsKms));
    assert_eq!(made.multi_region(), Some(multi_region));
    let has_versions = spec == "SYMMETRIC_DEFAULT";
    assert_eq!(made.current_key_material_id().is_some(), has_versions);
    let key = Key::of(&made);
    assert_eq!(desk.describe(&key.id).await, made);

    let answer = desk.kms.get_public_key().key_id(&key.id).send().await;
    if spec == "SYMMETRIC_DEFAULT" || spec.starts_with("HMAC") {
        refused(answer, "UnsupportedOperationException", "");
    } else {
        let answer = answer.unwrap();
        assert_eq!(answer.key_id(), Some(&*key.arn));
        assert_eq!(answer.key_spec(), made.key_spec());
        assert_eq!(answer.key_usage(), made.key_usage());
        #[expect(deprecated, reason = "the real service still answers it")]
        let deprecated = answer.customer_master_key_spec().unwrap().as_str();
        assert_eq!(deprecated, spec);
        assert_eq!(answer.encryption_algorithms(), made.encryption_algorithms());
        assert_eq!(answer.signing_algorithms(), made.signing_algorithms());
        assert_eq!(
            answer.key_agreement_algorithms(),
            made.key_agreement_algorithms()
        );
        assert_eq!(
            answer.encapsulation_algorithms(),
            made.encapsulation_algorithms()
        );
        // A sequence in DER.
        assert_eq!(answer.public_key().unwrap().as_ref()[0], 0x30);
    }
    match usage {
        "SIGN_VERIFY" => signing::try_out(desk, &key, spec, algorithms).await,
        "GENERATE_VERIFY_MAC" => macs::try_out(desk, &key, algorithms[0]).await,
        "KEY_AGREEMENT" => agreement::try_out_ecdh(desk, &key, spec).await,
        "ENCAPSULATE_DECAPSULATE" => agreement::try_out_ml_kem(desk, &key, spec).await,
        _ if spec == "SYMMETRIC_DEFAULT" => {
            let blob = desk.ciphertext(&key.id).await;
            let opened = desk.kms.decrypt().ciphertext_blob(blob).send().await;
            assert_eq!(opened.unwrap().plaintext(), Some(&Blob::new("secret")));
        }
        _ => asymmetric::try_out(desk, &key, algorithms).await,
    }
}

/// Catches a kind of key that cannot be made, is described as another, or does not do what its
/// usage says.
#[tokio::test]
async fn every_kind_is_made_and_used() {
    let desk = Desk::dev("kinds").await;
    for (spec, usage, algorithms) in KINDS {
        try_out(&desk, spec, usage, algorithms, false).await;
        // Primes take their time.
        if !spec.starts_with("RSA") {
            try_out(&desk, spec, usage, algorithms, true).await;
        }
    }
}

/// Catches a Region in China that lacks what is only there, or has what is not.
#[tokio::test]
async fn china_has_kinds_of_its_own() {
    let dev = Dev::start(&["--ephemeral", "--nodes", "1", "--regions", "cn-north-1"]).await;
    let kms = keyrum_tests::sdk::client(&dev.ready.endpoint, "cn-north-1", "111122223333");
    let desk = Desk {
        endpoint: dev.ready.endpoint.clone(),
        account: "111122223333".to_owned(),
        kms,
    };
    for (spec, usage, algorithms) in KINDS_IN_CHINA {
        try_out(&desk, spec, usage, algorithms, false).await;
        try_out(&desk, spec, usage, algorithms, true).await;
    }
    let made = desk.key().await;
    assert!(
        made.arn.starts_with("arn:aws-cn:kms:cn-north-1:"),
        "{made:?}"
    );
    let call = desk.kms.create_key().key_spec(KeySpec::MlKem768);
    let call = call.key_usage(KeyUsageType::EncapsulateDecapsulate);
    let text = "KeySpec ML_KEM_768 is not supported in this Region";
    refused(call.send().await, "UnsupportedOperationException", text);
    let call = desk.kms.generate_data_key_pair().key_id(&made.id);
    let call = call.key_pair_spec("ML_KEM_768".into());
    refused(call.send().await, "UnsupportedOperationException", text);
}

/// Catches a combination that the real service refuses and this one takes, or refuses otherwise.
#[tokio::test]
async fn other_combinations_are_refused() {
    let desk = Desk::dev("combinations").await;
    let specs = KeySpec::values();
    let usages = KeyUsageType::values();
    assert_eq!((specs.len(), usages.len()), (20, 5));
    for spec in specs {
        for usage in usages {
            let known = |(s, u, _): &(&str, &str, _)| s == spec && u == usage;
            let call = desk.kms.create_key().key_spec(KeySpec::from(*spec));
            let call = call.key_usage(KeyUsageType::from(*usage));
            if KINDS_IN_CHINA[1..].iter().any(known) {
                let text = "KeySpec SM2 is not supported in this Region";
                refused(call.send().await, "UnsupportedOperationException", text);
            } else if !KINDS.iter().any(known) {
                let text = format!("KeyUsage {usage} is not compatible with KeySpec {spec}");
                refused(call.send().await, "ValidationException", &text);
            } else if spec.starts_with("ML_") {
                let text = format!("KeySpec {spec} is not supported for Origin EXTERNAL");
                let call = call.origin(OriginType::External);
                refused(call.send().await, "ValidationException", &text);
            }
        }
        let answer = desk.kms.create_key().key_spec(KeySpec::from(*spec)).send();
        if *spec != "SYMMETRIC_DEFAULT" {
            let text = "You must specify a KeyUsage value for all KMS keys except for symmetric \
                encryption keys.";
            refused(answer.await, "ValidationException", text);
        }
    }
}

/// Catches a refusal that comes only after primes were found for nothing: behind searches for others, of which
/// there are as many as cores at once, that takes until some of these are over.
#[tokio::test]
async fn a_refusal_does_not_wait_for_primes() {
    const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
        "Principal":{"AWS":"arn:aws:iam::999999999999:root"},"Action":"kms:*","Resource":"*"}]}"#;
    let dev = Dev::start(&["--ephemeral", "--nodes", "1", "--regions", HERE]).await;
    let desk = Desk::at(&dev.ready.endpoint, "primes");
    let call = desk.kms.create_key().key_spec(KeySpec::Rsa2048);
    let call = call.key_usage(KeyUsageType::SignVerify);
    let cores = std::thread::available_parallelism().unwrap().get();
    let made = call.clone();
    // Primes may take longer than a call.
    let rush = Rush::start(8 * cores, move || {
        let call = made.clone().send();
        async { call.await.is_ok() }
    });
    let rush = rush.await;
    let before = rush.before(async || {
        let refusal = call.clone().policy(POLICY).send().await;
        let text = "The new key policy will not allow you to update the key policy in the future.";
        refused(refusal, "MalformedPolicyDocumentException", text);
    });
    let before = before.await;
    assert!(
        before <= 2 * cores,
        "{before} keys were made for others first"
    );
}

/// Catches a public key that is kept from its owner while the key is disabled, or shown when it is
/// to be deleted, and a disabled key that can be used since its public key was asked for.
#[tokio::test]
async fn public_keys_of_disabled_keys_are_shown() {
    let desk = Desk::dev("public keys").await;
    let key = desk
        .key_of(KeySpec::EccNistP256, KeyUsageType::SignVerify)
        .await;
    let before = desk.public_key(&key.id).await;
    desk.kms.disable_key().key_id(&key.id).send().await.unwrap();
    assert_eq!(desk.public_key(&key.arn).await, before);
    let call = signing::sign(&desk, &key, "ECDSA_SHA_256", b"message");
    let text = format!("{} is disabled.", key.arn);
    refused(call.send().await, "DisabledException", &text);
    let call = desk.kms.schedule_key_deletion().key_id(&key.id);
    call.send().await.unwrap();
    let answer = desk.kms.get_public_key().key_id(&key.id).send().await;
    let text = format!("{} is pending deletion.", key.arn);
    refused(answer, "KMSInvalidStateException", &text);
    // The state comes before the kind.
    let symmetric = desk.key().await;
    let call = desk.kms.schedule_key_deletion().key_id(&symmetric.id);
    call.send().await.unwrap();
    let answer = desk.kms.get_public_key().key_id(&symmetric.id).send().await;
    let text = format!("{} is pending deletion.", symmetric.arn);
    refused(answer, "KMSInvalidStateException", &text);
}
