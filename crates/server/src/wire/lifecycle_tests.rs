use keyrum_types::{KeyId, KeyState, MaterialId, MultiRegionRole, UnixMillis};

use super::*;

fn shown(key: &KeyMetadata) -> String {
    let mut answer = ObjectWriter::new();
    answer.object("KeyMetadata", |answer| metadata(answer, key));
    String::from_utf8(answer.finish()).unwrap()
}

/// Catches metadata with other members, or in another order, than the real service's.
#[test]
fn metadata_is_the_real_one() {
    let arn = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    let mut key = KeyMetadata {
        account: "111122223333".parse().unwrap(),
        key_id: "1234abcd-12ab-34cd-56ef-1234567890ab"
            .parse::<KeyId>()
            .unwrap(),
        arn: arn.to_owned(),
        created: UnixMillis(1_789_212_697_616),
        enabled: true,
        description: String::new(),
        usage: KeyUsage::EncryptDecrypt,
        state: KeyState::Enabled,
        deletion_date: None,
        pending_deletion_window_days: None,
        origin: Origin::AwsKms,
        aws_managed: false,
        spec: KeySpec::SymmetricDefault,
        algorithms: Algorithms::of(KeySpec::SymmetricDefault, KeyUsage::EncryptDecrypt),
        multi_region: None,
        current_material: Some(MaterialId([0xa1; 32])),
        expiration: None,
    };
    assert_eq!(
        shown(&key),
        r#"{"KeyMetadata":{"AWSAccountId":"111122223333","KeyId":"1234abcd-12ab-34cd-56ef-1234567890ab","Arn":"arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab","CreationDate":1789212697.616,"Enabled":true,"Description":"","KeyUsage":"ENCRYPT_DECRYPT","KeyState":"Enabled","Origin":"AWS_KMS","KeyManager":"CUSTOMER","CustomerMasterKeySpec":"SYMMETRIC_DEFAULT","KeySpec":"SYMMETRIC_DEFAULT","EncryptionAlgorithms":["SYMMETRIC_DEFAULT"],"MultiRegion":false,"CurrentKeyMaterialId":"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"}}"#
    );
    key.aws_managed = true;
    let part = r#""Origin":"AWS_KMS","KeyManager":"AWS","CustomerMasterKeySpec""#;
    assert!(shown(&key).contains(part), "{}", shown(&key));
    key.aws_managed = false;
    key.origin = Origin::External;
    for (expiration, part) in [
        (
            None,
            r#""KeyState":"Enabled","Origin":"EXTERNAL","KeyManager""#,
        ),
        (
            Some(Expiration::Never),
            r#""KeyState":"Enabled","Origin":"EXTERNAL","ExpirationModel":"KEY_MATERIAL_DOES_NOT_EXPIRE","KeyManager""#,
        ),
        (
            Some(Expiration::At(UnixMillis(1_789_299_097_616))),
            r#""KeyState":"Enabled","ValidTo":1789299097.616,"Origin":"EXTERNAL","ExpirationModel":"KEY_MATERIAL_EXPIRES","KeyManager""#,
        ),
    ] {
        key.expiration = expiration;
        assert!(shown(&key).contains(part), "{} lacks {part}", shown(&key));
    }
    key.expiration = None;
    key.state = KeyState::PendingDeletion;
    key.enabled = false;
    key.deletion_date = Some(UnixMillis(1_789_817_497_616));
    key.multi_region = Some(MultiRegionConfiguration {
        role: MultiRegionRole::Primary,
        primary: RelatedKey {
            arn: arn.to_owned(),
            region: "us-east-1".parse().unwrap(),
        },
        replicas: Vec::new(),
    });
    let shown = shown(&key);
    for part in [
        r#""KeyState":"PendingDeletion","DeletionDate":1789817497.616,"Origin""#,
        r#""MultiRegion":true,"MultiRegionConfiguration":{"MultiRegionKeyType":"PRIMARY","PrimaryKey":{"Arn":"arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab","Region":"us-east-1"},"ReplicaKeys":[]},"CurrentKeyMaterialId""#,
    ] {
        assert!(shown.contains(part), "{shown} lacks {part}");
    }
    drop(shown);

    key.current_material = None;
    key.pending_deletion_window_days = Some(7);
    for (spec, usage, before, after) in [
        (
            KeySpec::Rsa2048,
            KeyUsage::EncryptDecrypt,
            r#""EncryptionAlgorithms":["RSAES_OAEP_SHA_1","RSAES_OAEP_SHA_256"],"#,
            "",
        ),
        (
            KeySpec::EccNistEdwards25519,
            KeyUsage::SignVerify,
            r#""SigningAlgorithms":["ED25519_PH_SHA_512","ED25519_SHA_512"],"#,
            "",
        ),
        (
            KeySpec::EccNistP384,
            KeyUsage::KeyAgreement,
            r#""KeyAgreementAlgorithms":["ECDH"],"#,
            "",
        ),
        (
            KeySpec::MlKem768,
            KeyUsage::EncapsulateDecapsulate,
            r#""EncapsulationAlgorithms":["ML_KEM"],"#,
            "",
        ),
        (
            KeySpec::Hmac224,
            KeyUsage::GenerateVerifyMac,
            "",
            r#","MacAlgorithms":["HMAC_SHA_224"]"#,
        ),
        // Only the log of an earlier version has such a key.
        (KeySpec::Rsa2048, KeyUsage::GenerateVerifyMac, "", ""),
    ] {
        (key.spec, key.usage) = (spec, usage);
        key.algorithms = Algorithms::of(spec, usage);
        let shown = self::shown(&key);
        let middle = format!(r#""KeySpec":"{spec}",{before}"MultiRegion":true"#);
        let end = format!(r#""PendingDeletionWindowInDays":7{after}}}}}"#);
        assert!(shown.contains(&middle) && shown.ends_with(&end), "{shown}");
    }
}
