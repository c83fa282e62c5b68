//! Families of keys with imported material: its bytes never cross.

use aws_sdk_kms::operation::import_key_material::builders::ImportKeyMaterialFluentBuilder;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{
    AlgorithmSpec, ExpirationModelType, ImportState, ImportType, IncludeKeyMaterial, KeyState,
    OriginType, WrappingKeySpec,
};
use keyrum_tests::import::wrap;
use keyrum_tests::sdk::refused;
use keyrum_tests::wait;

use crate::relatives::{REGIONS, Relatives, dev};

impl Relatives {
    /// An import that never expires, with a token of that Region, not sent yet.
    async fn import(&self, region: &str, key: &str, byte: u8) -> ImportKeyMaterialFluentBuilder {
        let call = self.kms(region).get_parameters_for_import().key_id(key);
        let call = call.wrapping_algorithm(AlgorithmSpec::RsaesOaepSha256);
        let call = call.wrapping_key_spec(WrappingKeySpec::Rsa2048);
        let parameters = call.send().await.expect("a token");
        let public = parameters.public_key().expect("a public key");
        let wrapped = wrap("RSAES_OAEP_SHA_256", public.as_ref(), &[byte; 32]);
        let call = self.kms(region).import_key_material().key_id(key);
        call.import_token(parameters.import_token().expect("a token").clone())
            .encrypted_key_material(Blob::new(wrapped))
            .expiration_model(ExpirationModelType::KeyMaterialDoesNotExpire)
    }

    /// Each version's state and whether it is there.
    async fn versions(&self, region: &str, key: &str) -> Vec<(String, bool)> {
        let call = self.kms(region).list_key_rotations().key_id(key);
        let call = call.include_key_material(IncludeKeyMaterial::AllKeyMaterial);
        let list = call.send().await.expect("a list");
        let shown = list.rotations().iter().map(|version| {
            let state = version.key_material_state().expect("a state").as_str();
            let here = version.import_state() == Some(&ImportState::Imported);
            (state.to_owned(), here)
        });
        shown.collect()
    }
}

/// Catches a replica that can be used without its material, that takes other bytes than the primary's,
/// loses them with a relative's, or is another key than the primary; and a family that rotates to what
/// a member lacks.
#[tokio::test]
async fn every_member_imports_the_same_bytes() {
    let dev = dev().await;
    let kin = Relatives::at(&dev.ready.endpoint, "imports");
    let [east, ireland, _] = REGIONS;
    let call = kin.kms(east).create_key().multi_region(true);
    let made = call.origin(OriginType::External).send().await.unwrap();
    let key = made.key_metadata.unwrap().key_id;
    let replicate = || {
        kin.kms(east)
            .replicate_key()
            .key_id(&key)
            .replica_region(ireland)
    };
    let arn = kin.described(east, &key).await.arn.unwrap();
    let invalid = "KMSInvalidStateException";
    refused(
        replicate().send().await,
        invalid,
        &format!("{arn} is pending import."),
    );
    let first = kin.import(east, &key, 1).await.send().await.unwrap();
    let first = first.key_material_id.unwrap();
    let replica = replicate()
        .send()
        .await
        .unwrap()
        .replica_key_metadata
        .unwrap();
    assert_eq!(replica.key_state(), Some(&KeyState::Creating));
    let model = Some(&ExpirationModelType::KeyMaterialDoesNotExpire);
    assert_eq!(replica.expiration_model(), model);
    let pending = async || {
        let call = kin.kms(ireland).describe_key().key_id(&key).send().await;
        let key = call.ok().and_then(|answer| answer.key_metadata);
        key.is_some_and(|key| key.key_state() == Some(&KeyState::PendingImport))
    };
    wait::until_true("replica that waits for its material", wait::LONG, pending).await;
    let there = kin.described(ireland, &key).await;
    assert_eq!(there.current_key_material_id(), Some(first.as_str()));
    assert_eq!(there.expiration_model(), None);
    assert_eq!(
        kin.versions(ireland, &key).await,
        [("CURRENT".to_owned(), false)]
    );

    let other = kin.import(ireland, &key, 2).await.send().await;
    let expected =
        format!("Imported key material does not have the expected identifier ({first}).");
    refused(other, "IncorrectKeyMaterialException", &expected);
    let new = kin.import(ireland, &key, 1).await;
    let validation = "ValidationException";
    refused(
        new.import_type(ImportType::NewKeyMaterial).send().await,
        validation,
        "Input parameter ImportType NEW_KEY_MATERIAL cannot be used on replica Multi-Region keys",
    );
    let described = kin.import(ireland, &key, 1).await;
    refused(
        described.key_material_description("mine").send().await,
        validation,
        "Key material description can only be specified on primary Multi-Region keys",
    );
    let imported = kin.import(ireland, &key, 1).await.send().await.unwrap();
    assert_eq!(imported.key_material_id(), Some(first.as_str()));
    kin.exchange(&key, &[east, ireland]).await;

    // What one member loses the others keep.
    let call = kin.kms(east).delete_imported_key_material().key_id(&key);
    call.send().await.unwrap();
    let (here, there) = (
        kin.described(east, &key).await,
        kin.described(ireland, &key).await,
    );
    assert_eq!(here.key_state(), Some(&KeyState::PendingImport));
    assert_eq!(there.key_state(), Some(&KeyState::Enabled));
    kin.import(east, &key, 1).await.send().await.unwrap();

    let second = kin.import(east, &key, 2).await;
    let second = second.import_type(ImportType::NewKeyMaterial).send().await;
    second.unwrap();
    let waits = "PENDING_MULTI_REGION_IMPORT_AND_ROTATION".to_owned();
    let versions = kin.versions(east, &key).await;
    assert_eq!(versions, [("CURRENT".to_owned(), true), (waits, true)]);
    let rotate = kin.kms(east).rotate_key_on_demand().key_id(&key);
    refused(
        rotate.send().await,
        invalid,
        "Cannot perform key material rotation: Key material has not been imported for replicas of the \
         Multi-Region key.",
    );
    kin.exchange(&key, &[east, ireland]).await;
}
