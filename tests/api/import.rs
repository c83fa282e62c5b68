//! Key material that callers bring. It is wrapped here with another library's calls, and the key pairs
//! and signatures were made by the openssl program (`crates/crypto/golden/openssl.sh`).

use std::time::{Duration, SystemTime};

use aws_sdk_kms::operation::get_parameters_for_import::GetParametersForImportOutput;
use aws_sdk_kms::operation::import_key_material::builders::ImportKeyMaterialFluentBuilder;
use aws_sdk_kms::primitives::{Blob, DateTime};
use aws_sdk_kms::types::{
    AlgorithmSpec, ExpirationModelType, ImportState, ImportType, IncludeKeyMaterial,
    KeyMaterialState, KeyMetadata, KeySpec, KeyState, KeyUsageType, OriginType, RotationsListEntry,
    WrappingKeySpec,
};
use keyrum_tests::Dev;
use keyrum_tests::import::{openssl, wrap};
use keyrum_tests::sdk::refused;
use ring::hmac;

use crate::clock::advance;
use crate::desk::{Desk, Key};

const VALIDATION: &str = "ValidationException";
const STATE: &str = "KMSInvalidStateException";

const OAEP: &str = "RSAES_OAEP_SHA_256";

impl Desk {
    pub(crate) async fn external(&self, spec: &str, usage: &str) -> Key {
        let call = self.kms.create_key().origin(OriginType::External);
        let call = call.key_spec(KeySpec::from(spec));
        let call = call.key_usage(KeyUsageType::from(usage));
        let made = call.send().await.unwrap().key_metadata.unwrap();
        assert_eq!(made.key_state(), Some(&KeyState::PendingImport));
        assert!(!made.enabled() && made.current_key_material_id().is_none());
        assert_eq!(made.expiration_model(), None);
        Key::of(&made)
    }

    async fn symmetric(&self) -> Key {
        self.external("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT").await
    }

    pub(crate) async fn parameters(
        &self,
        key: &Key,
        algorithm: &str,
        spec: &str,
    ) -> GetParametersForImportOutput {
        let call = self.kms.get_parameters_for_import().key_id(&key.id);
        let call = call.wrapping_algorithm(AlgorithmSpec::from(algorithm));
        let call = call.wrapping_key_spec(WrappingKeySpec::from(spec));
        let answer = call.send().await.unwrap();
        assert_eq!(answer.key_id(), Some(key.arn.as_str()));
        answer
    }

    /// An import that never expires, not sent yet.
    pub(crate) async fn import(
        &self,
        key: &Key,
        material: &[u8],
    ) -> ImportKeyMaterialFluentBuilder {
        let parameters = self.parameters(key, OAEP, "RSA_2048").await;
        self.import_with(key, &parameters, OAEP, material)
    }

    pub(crate) fn import_with(
        &self,
        key: &Key,
        parameters: &GetParametersForImportOutput,
        algorithm: &str,
        material: &[u8],
    ) -> ImportKeyMaterialFluentBuilder {
        let public = parameters.public_key().unwrap().as_ref();
        let wrapped = wrap(algorithm, public, material);
        let call = self.kms.import_key_material().key_id(&key.id);
        call.import_token(parameters.import_token().unwrap().clone())
            .encrypted_key_material(Blob::new(wrapped))
            .expiration_model(ExpirationModelType::KeyMaterialDoesNotExpire)
    }

    async fn versions(&self, key: &Key) -> Vec<RotationsListEntry> {
        let call = self.kms.list_key_rotations().key_id(&key.id);
        let call = call.include_key_material(IncludeKeyMaterial::AllKeyMaterial);
        call.send().await.unwrap().rotations.unwrap()
    }

    async fn decrypts(&self, blob: &Blob) -> bool {
        let call = self.kms.decrypt().ciphertext_blob(blob.clone());
        let answer = call.send().await;
        answer.is_ok_and(|answer| answer.plaintext().unwrap().as_ref() == b"secret")
    }
}

/// Sends an import that must be taken; gives the material's id.
async fn take(call: ImportKeyMaterialFluentBuilder) -> String {
    let answer = call.send().await.unwrap();
    assert!(answer.key_id().unwrap().starts_with("arn:"));
    answer.key_material_id.unwrap()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the nodes' clock is the machine's, too"
)]
fn in_seconds(seconds: u64) -> DateTime {
    (SystemTime::now() + Duration::from_secs(seconds)).into()
}

fn model_and_date(key: &KeyMetadata) -> (Option<&str>, bool) {
    let model = key.expiration_model().map(|model| model.as_str());
    (model, key.valid_to().is_some())
}

/// Catches material of a kind that is not taken, or taken for other bytes, with any of the algorithms
/// that wrap it: what it makes is compared with what another implementation made of the same bytes.
#[tokio::test]
async fn material_of_every_kind_is_taken() {
    let desk = Desk::dev("import of every kind").await;
    let all = [
        "RSAES_OAEP_SHA_256",
        "RSAES_OAEP_SHA_1",
        "RSA_AES_KEY_WRAP_SHA_256",
        "RSA_AES_KEY_WRAP_SHA_1",
    ];
    let secret: Vec<u8> = (0..64).collect();
    for (at, algorithm) in all[..2].iter().enumerate() {
        let spec = ["RSA_3072", "RSA_4096"][at];
        let key = desk.symmetric().await;
        let parameters = desk.parameters(&key, algorithm, spec).await;
        take(desk.import_with(&key, &parameters, algorithm, &secret[..32])).await;
        let blob = desk.ciphertext(&key.id).await;
        assert!(desk.decrypts(&blob).await);
        for (bits, bytes) in [("256", 32), ("512", 64)] {
            let key = desk
                .external(&format!("HMAC_{bits}"), "GENERATE_VERIFY_MAC")
                .await;
            let parameters = desk.parameters(&key, algorithm, "RSA_2048").await;
            let import = desk.import_with(&key, &parameters, algorithm, &secret[..bytes]);
            let answer = import.send().await.unwrap();
            assert_eq!(answer.key_material_id(), None);
            let mac = desk.kms.generate_mac().key_id(&key.id);
            let mac = mac.message(Blob::new("message"));
            let mac = mac.mac_algorithm(format!("HMAC_SHA_{bits}").as_str().into());
            let mac = mac.send().await.unwrap().mac.unwrap();
            let hash = match bits {
                "256" => hmac::HMAC_SHA256,
                _ => hmac::HMAC_SHA512,
            };
            let expected = hmac::sign(&hmac::Key::new(hash, &secret[..bytes]), b"message");
            assert_eq!(mac.as_ref(), expected.as_ref(), "{bits} {algorithm}");
        }
    }
    for (name, spec, usage, wrapping, algorithm, signature) in [
        (
            "rsa2048",
            "RSA_2048",
            "SIGN_VERIFY",
            2..4,
            "RSASSA_PSS_SHA_256",
            "rsa2048-pss-256.sig",
        ),
        (
            "rsa3072",
            "RSA_3072",
            "SIGN_VERIFY",
            2..3,
            "RSASSA_PKCS1_V1_5_SHA_384",
            "rsa3072-pkcs1-384.sig",
        ),
        (
            "rsa4096",
            "RSA_4096",
            "SIGN_VERIFY",
            3..4,
            "RSASSA_PSS_SHA_512",
            "rsa4096-pss-512.sig",
        ),
        (
            "p256",
            "ECC_NIST_P256",
            "SIGN_VERIFY",
            0..4,
            "ECDSA_SHA_256",
            "p256.sig",
        ),
        (
            "p384",
            "ECC_NIST_P384",
            "SIGN_VERIFY",
            1..3,
            "ECDSA_SHA_384",
            "p384.sig",
        ),
        (
            "p521",
            "ECC_NIST_P521",
            "SIGN_VERIFY",
            2..3,
            "ECDSA_SHA_512",
            "p521.sig",
        ),
        (
            "p256k1",
            "ECC_SECG_P256K1",
            "SIGN_VERIFY",
            0..1,
            "ECDSA_SHA_256",
            "p256k1.sig",
        ),
        (
            "ed25519",
            "ECC_NIST_EDWARDS25519",
            "SIGN_VERIFY",
            3..4,
            "ED25519_SHA_512",
            "ed25519.sig",
        ),
    ] {
        for wrapping in &all[wrapping] {
            let key = desk.external(spec, usage).await;
            let parameters = desk.parameters(&key, wrapping, "RSA_2048").await;
            let private = openssl(&format!("{name}.pkcs8"));
            let import = desk.import_with(&key, &parameters, wrapping, &private);
            import
                .send()
                .await
                .unwrap_or_else(|error| panic!("{name} {wrapping}: {error:?}"));
            let public = desk.public_key(&key.id).await;
            assert_eq!(
                public.as_ref(),
                openssl(&format!("{name}.spki")),
                "{name} {wrapping}"
            );
            let verify = desk.kms.verify().key_id(&key.id);
            let verify = verify.message(Blob::new(openssl("message")));
            let verify = verify.signature(Blob::new(openssl(signature)));
            let verified = verify.signing_algorithm(algorithm.into()).send().await;
            assert!(verified.unwrap().signature_valid(), "{name} {wrapping}");
        }
    }
}

/// Catches a version of imported material that is shown, used, deleted or brought back otherwise than
/// the real service does, in the order of a key's life.
#[tokio::test]
async fn imported_material_lives_its_life() {
    let desk = Desk::dev("the life of imports").await;
    let key = desk.symmetric().await;
    let nothing = format!(
        "No available key material pending rotation for the key: {}.",
        key.arn
    );
    let pending_import = format!("{} is pending import.", key.arn);
    let rotate = || desk.kms.rotate_key_on_demand().key_id(&key.id).send();
    let encrypt = || {
        desk.kms
            .encrypt()
            .key_id(&key.id)
            .plaintext(Blob::new("x"))
            .send()
    };
    let delete = |id: Option<&str>| {
        let call = desk.kms.delete_imported_key_material().key_id(&key.id);
        call.set_key_material_id(id.map(str::to_owned)).send()
    };
    assert!(desk.versions(&key).await.is_empty());
    refused(encrypt().await, STATE, &pending_import);
    let deleted = delete(None).await.unwrap();
    assert_eq!(
        (deleted.key_id(), deleted.key_material_id()),
        (Some(key.arn.as_str()), None)
    );

    let first = desk
        .import(&key, &[1; 32])
        .await
        .key_material_description("the first");
    let first = take(first).await;
    let described = desk.describe(&key.id).await;
    assert_eq!(described.current_key_material_id(), Some(first.as_str()));
    assert_eq!(
        model_and_date(&described),
        (Some("KEY_MATERIAL_DOES_NOT_EXPIRE"), false)
    );
    assert!(described.enabled());
    refused(rotate().await, STATE, &nothing);
    let old = desk.ciphertext(&key.id).await;

    // The same bytes at any time, wrapped anyhow; no others.
    let expected =
        format!("Imported key material does not have the expected identifier ({first}).");
    let again = desk.parameters(&key, "RSAES_OAEP_SHA_1", "RSA_3072").await;
    let again = desk.import_with(&key, &again, "RSAES_OAEP_SHA_1", &[1; 32]);
    assert_eq!(
        take(again.import_type(ImportType::ExistingKeyMaterial)).await,
        first
    );
    let other = desk.import(&key, &[2; 32]).await;
    refused(
        other.send().await,
        "IncorrectKeyMaterialException",
        &expected,
    );
    let named = desk.import(&key, &[2; 32]).await.key_material_id(&first);
    refused(
        named.send().await,
        "IncorrectKeyMaterialException",
        &expected,
    );
    let new = desk
        .import(&key, &[1; 32])
        .await
        .import_type(ImportType::NewKeyMaterial);
    let associated = format!(
        "Key material (id: {first}) being imported as NEW_KEY_MATERIAL is already associated with KMS \
         key {}.",
        key.arn
    );
    refused(
        new.send().await,
        "IncorrectKeyMaterialException",
        &associated,
    );

    // A second version waits until it is rotated to.
    let second = desk
        .import(&key, &[2; 32])
        .await
        .import_type(ImportType::NewKeyMaterial);
    let second = take(
        second
            .expiration_model(ExpirationModelType::KeyMaterialExpires)
            .valid_to(in_seconds(3600)),
    )
    .await;
    let third = desk
        .import(&key, &[3; 32])
        .await
        .import_type(ImportType::NewKeyMaterial);
    let answer = third.send().await.unwrap_err().into_service_error();
    let message = answer.meta().message().unwrap().to_owned();
    assert!(message.ends_with(&format!(
        ") cannot be imported into KMS key {}, because another key material (id: {second}) is pending \
         rotation.",
        key.arn
    )), "{message}");
    let versions = desk.versions(&key).await;
    let shown: Vec<_> = versions
        .iter()
        .map(|it| {
            (
                it.key_material_id().unwrap(),
                it.key_material_state().unwrap(),
                it.import_state().unwrap(),
            )
        })
        .collect();
    let imported = &ImportState::Imported;
    assert_eq!(
        shown,
        [
            (&*first, &KeyMaterialState::Current, imported),
            (&*second, &KeyMaterialState::PendingRotation, imported)
        ]
    );
    assert_eq!(versions[0].key_material_description(), Some("the first"));
    assert_eq!(
        versions[1].expiration_model(),
        Some(&ExpirationModelType::KeyMaterialExpires)
    );
    assert!(versions[1].valid_to().is_some() && versions[1].rotation_date().is_none());
    assert_eq!(desk.describe(&key.id).await.valid_to(), None);
    assert_eq!(rotate().await.unwrap().key_id(), Some(key.arn.as_str()));
    let described = desk.describe(&key.id).await;
    assert_eq!(described.current_key_material_id(), Some(second.as_str()));
    assert_eq!(
        model_and_date(&described),
        (Some("KEY_MATERIAL_EXPIRES"), true)
    );
    let new = desk.ciphertext(&key.id).await;
    assert!(desk.decrypts(&old).await && desk.decrypts(&new).await);
    let status = desk
        .kms
        .get_key_rotation_status()
        .key_id(&key.id)
        .send()
        .await
        .unwrap();
    assert!(!status.key_rotation_enabled());

    // The key needs both.
    let deleted = delete(Some(&first)).await.unwrap();
    assert_eq!(deleted.key_material_id(), Some(first.as_str()));
    assert_eq!(
        delete(Some(&first)).await.unwrap().key_material_id(),
        Some(first.as_str())
    );
    let described = desk.describe(&key.id).await;
    assert_eq!(described.key_state(), Some(&KeyState::PendingImport));
    assert_eq!(model_and_date(&described), (None, false));
    assert_eq!(described.current_key_material_id(), Some(second.as_str()));
    refused(encrypt().await, STATE, &pending_import);
    assert!(!desk.decrypts(&new).await);
    let gone = &desk.versions(&key).await[0];
    assert_eq!(gone.import_state(), Some(&ImportState::PendingImport));
    assert_eq!(
        (gone.expiration_model(), gone.key_material_description()),
        (None, Some("the first"))
    );
    let current = delete(None).await.unwrap();
    assert_eq!(current.key_material_id(), Some(second.as_str()));
    take(desk.import(&key, &[1; 32]).await.key_material_id(&first)).await;
    assert_eq!(
        desk.describe(&key.id).await.key_state(),
        Some(&KeyState::PendingImport)
    );
    take(desk.import(&key, &[2; 32]).await).await;
    assert!(desk.decrypts(&old).await && desk.decrypts(&new).await);
    let never = "f".repeat(64);
    let text = format!(
        "Key material (id: {never}) has never been imported into KMS key {}.",
        key.arn
    );
    refused(delete(Some(&never)).await, VALIDATION, &text);

    // An import enables a disabled key; one that waits to be deleted takes none.
    desk.kms.disable_key().key_id(&key.id).send().await.unwrap();
    take(desk.import(&key, &[1; 32]).await).await;
    assert!(desk.describe(&key.id).await.enabled());
    let late = desk.import(&key, &[1; 32]).await;
    desk.kms
        .schedule_key_deletion()
        .key_id(&key.id)
        .send()
        .await
        .unwrap();
    let pending_deletion = format!("{} is pending deletion.", key.arn);
    refused(late.send().await, STATE, &pending_deletion);
    delete(None).await.unwrap();
    let described = desk.describe(&key.id).await;
    assert_eq!(described.key_state(), Some(&KeyState::PendingDeletion));
    desk.kms
        .cancel_key_deletion()
        .key_id(&key.id)
        .send()
        .await
        .unwrap();
    assert_eq!(
        desk.describe(&key.id).await.key_state(),
        Some(&KeyState::PendingImport)
    );
}

/// Catches material that outlives its date or dies before it, a token that is taken after a day, and
/// material that waits and is lost when its date passes.
#[tokio::test]
async fn material_and_tokens_expire() {
    let dev = Dev::start(&["--ephemeral"]).await;
    let desk = Desk::at(&dev.ready.endpoint, "expiry");
    let key = desk.symmetric().await;
    let parameters = desk.parameters(&key, OAEP, "RSA_2048").await;
    let import = |bytes: &[u8], seconds| {
        desk.import_with(&key, &parameters, OAEP, bytes)
            .expiration_model(ExpirationModelType::KeyMaterialExpires)
            .valid_to(in_seconds(seconds))
    };
    take(import(&[1; 32], 3600)).await;
    let blob = desk.ciphertext(&key.id).await;
    take(import(&[2; 32], 1800).import_type(ImportType::NewKeyMaterial)).await;
    assert!(advance(&dev, "55m").status.success());
    assert!(desk.decrypts(&blob).await);
    assert!(advance(&dev, "6m").status.success());
    let described = desk.describe(&key.id).await;
    assert_eq!(described.key_state(), Some(&KeyState::PendingImport));
    assert!(!desk.decrypts(&blob).await);
    take(import(&[1; 32], 36_000)).await;
    assert!(desk.decrypts(&blob).await);
    let versions = desk.versions(&key).await;
    assert_eq!(versions[1].import_state(), Some(&ImportState::Imported));
    desk.kms
        .rotate_key_on_demand()
        .key_id(&key.id)
        .send()
        .await
        .unwrap();
    let described = desk.describe(&key.id).await;
    assert_eq!(described.key_state(), Some(&KeyState::PendingImport));

    let valid_to = parameters.parameters_valid_to().unwrap().as_secs_f64();
    assert!(advance(&dev, "22h").status.success());
    take(import(&[2; 32], 36_000 * 24)).await;
    assert!(advance(&dev, "61m").status.success());
    let late = import(&[2; 32], 36_000 * 24).send().await;
    refused(late, "ExpiredImportTokenException", "");
    let later = desk.parameters(&key, OAEP, "RSA_2048").await;
    let day = later.parameters_valid_to().unwrap().as_secs_f64() - valid_to;
    assert!((day - 24.0 * 3600.0 - 120.0).abs() < 600.0, "{day}");
}

/// Catches a token that is taken for another key or damaged, one that a newer one makes invalid, and
/// bytes that are taken although they are no material or were not wrapped for this pair.
#[tokio::test]
async fn tokens_and_bytes_must_fit() {
    let desk = Desk::dev("import tokens").await;
    let (key, other) = (desk.symmetric().await, desk.symmetric().await);
    let older = desk.parameters(&key, OAEP, "RSA_2048").await;
    let newer = desk.parameters(&key, OAEP, "RSA_2048").await;
    assert_ne!(older.public_key(), newer.public_key());
    let crossed = desk.import_with(&other, &older, OAEP, &[1; 32]);
    refused(crossed.send().await, "InvalidImportTokenException", "");
    let mut damaged = older.import_token().unwrap().clone().into_inner();
    damaged[100] ^= 1;
    let damaged = desk
        .import_with(&key, &older, OAEP, &[1; 32])
        .import_token(Blob::new(damaged));
    refused(damaged.send().await, "InvalidImportTokenException", "");
    let wrapped = desk.import_with(&key, &newer, OAEP, &[1; 32]);
    let mixed = wrapped.import_token(older.import_token().unwrap().clone());
    refused(mixed.send().await, "InvalidCiphertextException", "");
    for bytes in [&[1; 31][..], &[1; 33]] {
        let import = desk.import_with(&key, &older, OAEP, bytes);
        refused(import.send().await, "InvalidCiphertextException", "");
    }
    let curve = desk.external("ECC_NIST_P256", "SIGN_VERIFY").await;
    let garbage = desk.import(&curve, b"no key").await;
    refused(garbage.send().await, "InvalidCiphertextException", "");
    let id = take(desk.import_with(&key, &newer, OAEP, &[1; 32])).await;
    assert_eq!(
        take(desk.import_with(&key, &older, OAEP, &[1; 32])).await,
        id
    );
    // The name depends on the key.
    assert_ne!(take(desk.import(&other, &[1; 32]).await).await, id);
}

/// Catches a combination of parameters that is taken, or refused in other words.
#[tokio::test]
async fn parameters_must_fit() {
    let desk = Desk::dev("import parameters").await;
    let key = desk.symmetric().await;
    let parameters = desk.parameters(&key, OAEP, "RSA_2048").await;
    let import = || desk.import_with(&key, &parameters, OAEP, &[1; 32]);
    let expires = ExpirationModelType::KeyMaterialExpires;
    for (call, message) in [
        (
            import().set_expiration_model(None),
            "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES".to_owned(),
        ),
        (
            import().valid_to(in_seconds(60)),
            "A validTo date cannot be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE"
                .to_owned(),
        ),
        (
            import()
                .expiration_model(expires.clone())
                .valid_to(DateTime::from_secs(1)),
            "ValidTo must be in the future".to_owned(),
        ),
        (
            import()
                .expiration_model(expires)
                .valid_to(in_seconds(366 * 86_400)),
            "ValidTo must be less than 365 days in the future".to_owned(),
        ),
        (
            import()
                .import_type(ImportType::NewKeyMaterial)
                .key_material_id("a".repeat(64)),
            "Input parameter keyMaterialId cannot be used with NEW_KEY_MATERIAL importType."
                .to_owned(),
        ),
    ] {
        refused(call.send().await, VALIDATION, &message);
    }
    let mac = desk.external("HMAC_256", "GENERATE_VERIFY_MAC").await;
    let parameters = desk.parameters(&mac, OAEP, "RSA_2048").await;
    let import = || desk.import_with(&mac, &parameters, OAEP, &[1; 32]);
    for (call, parameter) in [
        (
            import().import_type(ImportType::NewKeyMaterial),
            "importType",
        ),
        (import().key_material_id("a".repeat(64)), "keyMaterialId"),
        (
            import().key_material_description("d"),
            "keyMaterialDescription",
        ),
    ] {
        let message =
            format!("Input parameter {parameter} cannot be used with HMAC_256 imported keys.");
        refused(call.send().await, VALIDATION, &message);
    }
    for (of, algorithm, wrapping, spec) in [
        (&key, "RSAES_PKCS1_V1_5", "RSA_2048", "SYMMETRIC_DEFAULT"),
        (
            &key,
            "RSA_AES_KEY_WRAP_SHA_256",
            "RSA_4096",
            "SYMMETRIC_DEFAULT",
        ),
        (&key, "SM2PKE", "SM2", "SYMMETRIC_DEFAULT"),
        (&mac, "RSA_AES_KEY_WRAP_SHA_1", "RSA_2048", "HMAC_256"),
    ] {
        let call = desk.kms.get_parameters_for_import().key_id(&of.id);
        let call = call.wrapping_algorithm(AlgorithmSpec::from(algorithm));
        let call = call.wrapping_key_spec(WrappingKeySpec::from(wrapping));
        let message = format!(
            "Wrapping algorithm {algorithm} and wrapping key spec {wrapping} cannot be used to import a \
             {spec} key."
        );
        refused(call.send().await, VALIDATION, &message);
    }
    let own = desk.key().await;
    let origin = format!(
        "{} origin is AWS_KMS which is not valid for this operation.",
        own.arn
    );
    let unsupported = "UnsupportedOperationException";
    let call = desk.kms.get_parameters_for_import().key_id(&own.id);
    let call = call.wrapping_algorithm(AlgorithmSpec::RsaesOaepSha256);
    refused(
        call.wrapping_key_spec(WrappingKeySpec::Rsa2048)
            .send()
            .await,
        unsupported,
        &origin,
    );
    let call = import().key_id(&own.id);
    refused(call.send().await, unsupported, &origin);
    let call = desk.kms.delete_imported_key_material().key_id(&own.id);
    refused(call.send().await, unsupported, &origin);
    let call = desk.kms.create_key().origin(OriginType::External);
    let call = call
        .key_spec(KeySpec::MlDsa65)
        .key_usage(KeyUsageType::SignVerify);
    refused(
        call.send().await,
        VALIDATION,
        "KeySpec ML_DSA_65 is not supported for Origin EXTERNAL",
    );
}

/// Catches a Region in China that takes symmetric material of another length than SM4's, wraps as the
/// others do, or cannot give an SM2 key pair to wrap with. (What is wrapped with SM2: see `crypto`.)
#[tokio::test]
async fn china_imports_in_its_own_way() {
    let dev = Dev::start(&["--ephemeral", "--nodes", "1", "--regions", "cn-north-1"]).await;
    let desk = Desk {
        endpoint: dev.ready.endpoint.clone(),
        account: "111122223333".to_owned(),
        kms: keyrum_tests::sdk::client(&dev.ready.endpoint, "cn-north-1", "111122223333"),
    };
    let key = desk.symmetric().await;
    let long = desk.import(&key, &[1; 32]).await;
    refused(long.send().await, "InvalidCiphertextException", "");
    take(desk.import(&key, &[1; 16]).await).await;
    let blob = desk.ciphertext(&key.id).await;
    assert!(desk.decrypts(&blob).await);
    for (spec, usage) in [("RSA_2048", "SIGN_VERIFY"), ("SM2", "KEY_AGREEMENT")] {
        let key = desk.external(spec, usage).await;
        let parameters = desk.parameters(&key, "SM2PKE", "SM2").await;
        assert!(parameters.public_key().unwrap().as_ref().len() < 100);
        let call = desk.kms.get_parameters_for_import().key_id(&key.id);
        let call = call.wrapping_algorithm(AlgorithmSpec::RsaAesKeyWrapSha256);
        let message = format!(
            "Wrapping algorithm RSA_AES_KEY_WRAP_SHA_256 and wrapping key spec RSA_2048 cannot be used \
             to import a {spec} key."
        );
        let call = call.wrapping_key_spec(WrappingKeySpec::Rsa2048);
        refused(call.send().await, VALIDATION, &message);
    }
}
