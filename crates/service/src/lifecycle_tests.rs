//! Tests of what a new key may be, and of showing keys.

use super::*;
use crate::testing::{OTHER, OWN, TestRegion, root_of};

fn kind(change: impl FnOnce(&mut CreateKeyInput)) -> Result<NewKeyKind, ServiceError> {
    let mut input = CreateKeyInput::default();
    change(&mut input);
    kind_of_new_key(&input, &"us-east-1".parse().unwrap())
}

/// Catches defaults that differ from the API's, and a deprecated name that is ignored.
#[test]
fn a_new_key_is_symmetric_by_default() {
    let expected = NewKeyKind {
        spec: KeySpec::SymmetricDefault,
        usage: KeyUsage::EncryptDecrypt,
        origin: Origin::AwsKms,
    };
    assert_eq!(kind(|_| {}), Ok(expected));
    assert_eq!(
        kind(|input| input.deprecated_spec = Some(KeySpec::SymmetricDefault)),
        Ok(expected)
    );
    let everything = |input: &mut CreateKeyInput| {
        input.spec = Some(KeySpec::SymmetricDefault);
        input.usage = Some(KeyUsage::EncryptDecrypt);
        input.origin = Some(Origin::AwsKms);
        input.multi_region = true;
    };
    assert_eq!(kind(everything), Ok(expected));
}

/// Catches parameters that do not fit together being taken, or being called "not available yet"
/// where the API has an error for them.
#[test]
fn parameters_of_a_new_key_must_fit() {
    let twice = kind(|input| {
        input.spec = Some(KeySpec::SymmetricDefault);
        input.deprecated_spec = Some(KeySpec::SymmetricDefault);
    });
    assert_eq!(twice, Err(ServiceError::SpecGivenTwice));
    for spec in KeySpec::ALL
        .iter()
        .copied()
        .filter(|spec| *spec != KeySpec::SymmetricDefault)
    {
        let without_usage = kind(|input| input.spec = Some(spec));
        assert_eq!(without_usage, Err(ServiceError::UsageRequired), "{spec}");
    }
    let ml_dsa = kind(|input| {
        input.spec = Some(KeySpec::MlDsa65);
        input.usage = Some(KeyUsage::SignVerify);
        input.origin = Some(Origin::External);
    });
    let (spec, origin) = (KeySpec::MlDsa65, Origin::External);
    assert_eq!(ml_dsa, Err(ServiceError::SpecNotForOrigin { spec, origin }));
    let sm2 = kind(|input| {
        input.spec = Some(KeySpec::Sm2);
        input.usage = Some(KeyUsage::SignVerify);
    });
    assert_eq!(
        sm2,
        Err(ServiceError::SpecNotInRegion { spec: KeySpec::Sm2 })
    );
    let store = |input: &mut CreateKeyInput| input.custom_key_store_id = Some("cks-1".to_owned());
    let external = |input: &mut CreateKeyInput| input.xks_key_id = Some("key".to_owned());
    let hsm = |input: &mut CreateKeyInput| input.origin = Some(Origin::AwsCloudhsm);
    for unfit in [kind(store), kind(external), kind(hsm)] {
        assert_eq!(unfit, Err(ServiceError::OriginNotForStore));
    }
}

/// Catches a pair of spec and usage on the wrong side of the API's table, in Regions of China and
/// elsewhere, and an origin that is taken for another.
#[test]
fn every_spec_has_its_usages() {
    let made = |region: &str, origin: Option<Origin>| {
        let mut made = Vec::new();
        for &spec in KeySpec::ALL {
            for &usage in KeyUsage::ALL {
                let input = CreateKeyInput {
                    spec: Some(spec),
                    usage: Some(usage),
                    origin,
                    multi_region: true,
                    ..CreateKeyInput::default()
                };
                match kind_of_new_key(&input, &region.parse().unwrap()) {
                    Ok(kind) => {
                        assert_eq!((kind.spec, kind.usage), (spec, usage));
                        made.push(format!("{spec} {usage}"));
                    }
                    Err(ServiceError::SpecNotInRegion { spec: refused }) => {
                        assert_eq!(refused, spec);
                    }
                    Err(ServiceError::UsageNotForSpec { .. }) => {
                        assert!(!spec.usages().contains(&usage), "{spec} {usage}");
                    }
                    Err(error) => {
                        let origin = Origin::External;
                        let unfit = ServiceError::SpecNotForOrigin { spec, origin };
                        assert_eq!(error, unfit, "{spec} {usage}");
                        assert!(!spec.is_importable(), "{spec}");
                    }
                }
            }
        }
        made
    };
    let common = "SYMMETRIC_DEFAULT ENCRYPT_DECRYPT, RSA_2048 ENCRYPT_DECRYPT, \
        RSA_2048 SIGN_VERIFY, RSA_3072 ENCRYPT_DECRYPT, RSA_3072 SIGN_VERIFY, \
        RSA_4096 ENCRYPT_DECRYPT, RSA_4096 SIGN_VERIFY, ECC_NIST_P256 SIGN_VERIFY, \
        ECC_NIST_P256 KEY_AGREEMENT, ECC_NIST_P384 SIGN_VERIFY, ECC_NIST_P384 KEY_AGREEMENT, \
        ECC_NIST_P521 SIGN_VERIFY, ECC_NIST_P521 KEY_AGREEMENT, ECC_SECG_P256K1 SIGN_VERIFY, \
        ECC_NIST_EDWARDS25519 SIGN_VERIFY, HMAC_224 GENERATE_VERIFY_MAC, \
        HMAC_256 GENERATE_VERIFY_MAC, HMAC_384 GENERATE_VERIFY_MAC, HMAC_512 GENERATE_VERIFY_MAC";
    let ml_dsa = "ML_DSA_44 SIGN_VERIFY, ML_DSA_65 SIGN_VERIFY, ML_DSA_87 SIGN_VERIFY";
    let ml_kem = "ML_KEM_512 ENCAPSULATE_DECAPSULATE, ML_KEM_768 ENCAPSULATE_DECAPSULATE, \
        ML_KEM_1024 ENCAPSULATE_DECAPSULATE";
    let sm2 = "SM2 ENCRYPT_DECRYPT, SM2 SIGN_VERIFY, SM2 KEY_AGREEMENT";
    let here = [common, ml_dsa, ml_kem].join(", ");
    for origin in [None, Some(Origin::AwsKms)] {
        assert_eq!(made("us-east-1", origin).join(", "), here);
    }
    let china = [common, sm2, ml_dsa].join(", ");
    assert_eq!(made("cn-north-1", None).join(", "), china);
    assert_eq!(made("us-east-1", Some(Origin::External)).join(", "), common);
    let imported_in_china = [common, sm2].join(", ");
    let made = made("cn-north-1", Some(Origin::External));
    assert_eq!(made.join(", "), imported_in_china);
}

/// Catches a key that is shown to another account, or under a name it does not have.
#[test]
fn describe_key_shows_ones_own_keys() {
    let mut region = TestRegion::new();
    let key = region.key(1);
    region.alias("alias/a", key);
    let describe = |account: &str, text: &str| {
        describe_key(&region.state, &root_of(account), text, Tokens::Known)
            .map(|shown| shown.key_id)
    };
    assert_eq!(describe(OWN, &key.id.to_string()), Ok(key.id));
    assert_eq!(describe(OWN, "alias/a"), Ok(key.id));
    let missing = keyrum_state::KeyRef {
        account: OTHER.parse().unwrap(),
        id: key.id,
    };
    let not_found = Err(Refusal::NoSuchKey { key: missing }.into());
    assert_eq!(describe(OTHER, &key.id.to_string()), not_found);
    let arn = format!("arn:aws:kms:us-east-1:{OWN}:key/{}", key.id);
    let denied = describe(OTHER, &arn);
    assert!(
        matches!(
            denied,
            Err(ServiceError::Refused(Refusal::NotAuthorized(_)))
        ),
        "{denied:?}"
    );
}

/// Catches ListKeys leaving a key out between pages, showing another account's, or giving own keys
/// to one who asks for shared ones only.
#[test]
fn list_keys_pages_through_ones_own_keys() {
    let mut region = TestRegion::new();
    let mut expected: Vec<KeyId> = (1..=7).map(|byte| region.key(byte).id).collect();
    let kind = (KeySpec::SymmetricDefault, KeyUsage::EncryptDecrypt);
    expected.push(region.key_of(OWN, KeyId::multi_region([9; 16]), kind).id);
    region.key_of(OTHER, KeyId::single_region([5; 16]), kind);
    let list = |owners: &[ResourceOwner], marker: Option<String>| {
        let page = PageRequest {
            limit: None,
            marker,
        };
        let input = ListKeysInput {
            owners: owners.to_vec(),
            page,
        };
        let markers = Markers {
            key: &region.tokens,
            operation: "ListKeys",
            account: OWN.parse().unwrap(),
            filter: format!("{owners:?}"),
        };
        list_keys(&region.state, &root_of(OWN), &input, 3, markers)
    };
    let mut seen = Vec::new();
    let mut marker = None;
    loop {
        let page = list(&[], marker).unwrap();
        for entry in page.items {
            let arn = format!("arn:aws:kms:us-east-1:{OWN}:key/{}", entry.key_id);
            assert_eq!(entry.key_arn, arn);
            seen.push(entry.key_id);
        }
        marker = page.next_marker;
        if marker.is_none() {
            break;
        }
    }
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
    let shared = list(&[ResourceOwner::OtherAccountsViaRam], None).unwrap();
    assert_eq!((shared.items.len(), shared.next_marker), (0, None));
    let other_list = list(&[], None).unwrap().next_marker;
    let refused = list(&[ResourceOwner::Own], other_list);
    assert_eq!(refused, Err(ServiceError::InvalidMarker));
}
