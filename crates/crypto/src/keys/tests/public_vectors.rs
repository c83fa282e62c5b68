//! Wycheproof's vectors for verification, which come with public keys only: run through the parts
//! that keys verify with.

use keyrum_types::{KeySpec, MessageType, SigningAlgorithm};
use wycheproof::{TestResult, ecdsa, eddsa, mldsa_verify, rsa_pkcs1_verify, rsa_pss_verify};

use super::super::ecc::EccPublicKey;
use super::super::rsa::RsaPublicKey;
use super::super::{ed25519, ml_dsa, secp256k1};

/// Catches ECDSA on a NIST curve that takes a wrong signature or refuses a right one.
#[test]
fn ecdsa_on_nist_curves() {
    use ecdsa::TestName::{EcdsaSecp256r1Sha256, EcdsaSecp384r1Sha384, EcdsaSecp521r1Sha512};
    for (name, spec) in [
        (EcdsaSecp256r1Sha256, KeySpec::EccNistP256),
        (EcdsaSecp384r1Sha384, KeySpec::EccNistP384),
        (EcdsaSecp521r1Sha512, KeySpec::EccNistP521),
    ] {
        let mut run = 0;
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let key = EccPublicKey::new(spec, &group.der).unwrap();
            for test in group.tests {
                let verified = key.verify(MessageType::Raw, &test.msg, &test.sig);
                let valid = test.result == TestResult::Valid;
                assert_eq!(verified, valid, "{spec} test {}", test.tc_id);
                run += 1;
            }
        }
        assert!(run > 300, "{spec}: {run}");
    }
}

/// Catches ECDSA on secp256k1 that takes a wrong signature, or refuses a right one with the
/// greater `s`, which only Bitcoin's rules forbid.
#[test]
fn ecdsa_on_secp256k1() {
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256k1Sha256).unwrap();
    let mut run = 0;
    for group in set.test_groups {
        let key = k256::ecdsa::VerifyingKey::from_sec1_bytes(&group.key.key).unwrap();
        for test in group.tests {
            let verified = secp256k1::verify(&key, MessageType::Raw, &test.msg, &test.sig);
            let valid = test.result == TestResult::Valid;
            assert_eq!(verified, valid, "test {} {}", test.tc_id, test.comment);
            run += 1;
        }
    }
    assert!(run > 300, "{run}");
}

/// Catches Ed25519 that takes a wrong signature, such as one with a greater scalar.
#[test]
fn eddsa_on_edwards25519() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let mut run = 0;
    for group in set.test_groups {
        let key = ed25519::public(&group.der).unwrap();
        for test in group.tests {
            let verified = key.verify_sig(&test.msg, &test.sig).is_ok();
            let valid = test.result == TestResult::Valid;
            assert_eq!(verified, valid, "test {}", test.tc_id);
            run += 1;
        }
    }
    assert!(run > 100, "{run}");
}

fn rsa_spec(bits: usize) -> KeySpec {
    match bits {
        2048 => KeySpec::Rsa2048,
        3072 => KeySpec::Rsa3072,
        4096 => KeySpec::Rsa4096,
        _ => panic!("{bits} bits"),
    }
}

/// Catches PKCS#1 v1.5 verification that is lenient about the padding.
#[test]
fn rsa_pkcs1() {
    use SigningAlgorithm as S;
    use rsa_pkcs1_verify::TestName as N;
    let mut run = 0;
    for (name, algorithm) in [
        (N::Rsa2048Sha256, S::RsassaPkcs1V15Sha256),
        (N::Rsa2048Sha384, S::RsassaPkcs1V15Sha384),
        (N::Rsa2048Sha512, S::RsassaPkcs1V15Sha512),
        (N::Rsa3072Sha256, S::RsassaPkcs1V15Sha256),
        (N::Rsa3072Sha384, S::RsassaPkcs1V15Sha384),
        (N::Rsa3072Sha512, S::RsassaPkcs1V15Sha512),
        (N::Rsa4096Sha256, S::RsassaPkcs1V15Sha256),
        (N::Rsa4096Sha384, S::RsassaPkcs1V15Sha384),
        (N::Rsa4096Sha512, S::RsassaPkcs1V15Sha512),
    ] {
        for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
            let key = RsaPublicKey::new(rsa_spec(group.key_size), &group.der).unwrap();
            for test in group.tests {
                let verified = key.verify(algorithm, MessageType::Raw, &test.msg, &test.sig);
                let verified = verified.unwrap();
                // Acceptable: the parameters of the hash left out, which either side may choose.
                if test.result != TestResult::Acceptable {
                    let valid = test.result == TestResult::Valid;
                    assert_eq!(verified, valid, "{name:?} test {}", test.tc_id);
                }
                run += 1;
            }
        }
    }
    assert!(run > 1500, "{run}");
}

/// Catches PSS verification with another hash, mask or length of the salt than the algorithm's.
#[test]
fn rsa_pss() {
    use SigningAlgorithm as S;
    use rsa_pss_verify::TestName as N;
    let (sha256, sha384, sha512) = (S::RsassaPssSha256, S::RsassaPssSha384, S::RsassaPssSha512);
    let mut run = 0;
    for (name, algorithm, ours) in [
        (N::RsaPss2048Sha256Mgf1SaltLen32, sha256, true),
        (N::RsaPss2048Sha384Mgf1SaltLen48, sha384, true),
        (N::RsaPss3072Sha256Mgf1SaltLen32, sha256, true),
        (N::RsaPss4096Sha256Mgf1SaltLen32, sha256, true),
        (N::RsaPss4096Sha384Mgf1SaltLen48, sha384, true),
        (N::RsaPss4096Sha512Mgf1SaltLen64, sha512, true),
        // Right signatures, but not with these parameters.
        (N::RsaPss2048Sha256Mgf1SaltLen0, sha256, false),
        (N::RsaPss2048Sha256Mgf1Sha1_20, sha256, false),
        (N::RsaPss4096Sha512Mgf1SaltLen32, sha512, false),
    ] {
        for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            let key = RsaPublicKey::new(rsa_spec(group.key_size), &group.der).unwrap();
            for test in group.tests {
                let verified = key.verify(algorithm, MessageType::Raw, &test.msg, &test.sig);
                let valid = test.result == TestResult::Valid;
                // A wrong signature for other parameters may be a right one for ours.
                if ours || valid {
                    let expected = ours && valid;
                    assert_eq!(verified.unwrap(), expected, "{name:?} test {}", test.tc_id);
                }
                run += 1;
            }
        }
    }
    assert!(run > 600, "{run}");
}

/// Catches ML-DSA verification that takes a wrong signature. The library signs with an empty
/// context, as the API does; vectors with another one must not verify.
#[test]
fn ml_dsa_verification() {
    use mldsa_verify::TestName::{MlDsa44Verify, MlDsa65Verify, MlDsa87Verify};
    for (name, spec) in [
        (MlDsa44Verify, KeySpec::MlDsa44),
        (MlDsa65Verify, KeySpec::MlDsa65),
        (MlDsa87Verify, KeySpec::MlDsa87),
    ] {
        let mut run = 0;
        for group in mldsa_verify::TestSet::load(name).unwrap().test_groups {
            let key = ml_dsa::public(spec, &group.pubkey);
            for test in group.tests {
                let verified = key
                    .as_ref()
                    .is_some_and(|key| key.verify_sig(&test.msg, &test.sig).is_ok());
                let plain = test.ctx.is_none_or(|context| context.is_empty());
                let valid = plain && test.result == TestResult::Valid;
                assert_eq!(verified, valid, "{spec} test {}", test.tc_id);
                run += 1;
            }
        }
        assert!(run > 100, "{spec}: {run}");
    }
}
