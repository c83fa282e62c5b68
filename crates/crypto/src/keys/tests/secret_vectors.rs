//! Wycheproof's vectors that come with secrets: run through import and the public surface.

use keyrum_types::{EncryptionAlgorithm, KeySpec, MacAlgorithm, MessageType, SigningAlgorithm};
use wycheproof::{TestResult, aead, ecdh, keywrap, mac, mldsa_sign, mlkem, rsa_oaep};

use super::super::encoding::{curve_name, scalar_pkcs8};
use super::super::{UsableKey, UseError, import_material};
use super::{key, padded, unhex};
use crate::testing::CountingEntropy;

fn imported(spec: KeySpec, bytes: &[u8]) -> UsableKey {
    let material = import_material(spec, "aws", bytes).expect("importable");
    UsableKey::new(spec, &material).expect("what was imported can be used")
}

/// Catches a wrong shared secret, and a peer's key on another curve or off its curve that is taken.
#[test]
fn ecdh_on_nist_curves() {
    use ecdh::TestName::{EcdhSecp256r1, EcdhSecp384r1, EcdhSecp521r1};
    for (name, spec, bytes) in [
        (EcdhSecp256r1, KeySpec::EccNistP256, 32),
        (EcdhSecp384r1, KeySpec::EccNistP384, 48),
        (EcdhSecp521r1, KeySpec::EccNistP521, 66),
    ] {
        let mut agreed = 0;
        for group in ecdh::TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let scalar = padded(&test.private_key, bytes);
                let public = key(spec, &scalar);
                let point = &public.public_key_der().unwrap();
                let point = &point[point.len() - 2 * bytes - 1..];
                let pkcs8 = scalar_pkcs8(curve_name(spec).unwrap(), &scalar, point);
                let secret = imported(spec, &pkcs8).agree(&test.public_key);
                match (test.result, secret) {
                    (TestResult::Invalid, secret) => {
                        assert!(secret.is_err(), "{spec} test {}", test.tc_id);
                    }
                    (TestResult::Acceptable, Err(_)) => {}
                    (_, secret) => {
                        let secret = secret.unwrap();
                        assert_eq!(*secret, *test.shared_secret, "{spec} test {}", test.tc_id);
                        agreed += 1;
                    }
                }
            }
        }
        assert!(agreed > 200, "{spec}: {agreed}");
    }
}

/// Catches OAEP that decrypts what it should refuse, or with another hash or mask.
#[test]
fn rsa_oaep_decryption() {
    use EncryptionAlgorithm::{RsaesOaepSha1, RsaesOaepSha256};
    use rsa_oaep::TestName as N;
    let mut run = 0;
    for (name, algorithm, ours) in [
        (N::Rsa2048Sha1Mgf1Sha1, RsaesOaepSha1, true),
        (N::Rsa2048Sha256Mgf1Sha256, RsaesOaepSha256, true),
        (N::Rsa3072Sha256Mgf1Sha256, RsaesOaepSha256, true),
        (N::Rsa4096Sha256Mgf1Sha256, RsaesOaepSha256, true),
        // Right ciphertexts, but with another mask than the algorithm's.
        (N::Rsa2048Sha256Mgf1Sha1, RsaesOaepSha256, false),
    ] {
        for group in rsa_oaep::TestSet::load(name).unwrap().test_groups {
            let spec = match group.key_size {
                2048 => KeySpec::Rsa2048,
                3072 => KeySpec::Rsa3072,
                _ => KeySpec::Rsa4096,
            };
            let key = imported(spec, &group.pkcs8);
            for test in group.tests {
                let decrypted = key.decrypt(algorithm, &test.ct);
                if ours && test.result == TestResult::Valid && test.label.is_empty() {
                    assert_eq!(**decrypted.unwrap(), **test.pt, "{name:?} {}", test.tc_id);
                } else {
                    let refused = decrypted.err();
                    assert_eq!(refused, Some(UseError::InvalidCiphertext), "{}", test.tc_id);
                }
                run += 1;
            }
        }
    }
    assert!(run > 100, "{run}");
}

/// Catches a key wrap that opens what was damaged.
#[test]
fn aes_key_wrap_with_padding() {
    let set = keywrap::TestSet::load(keywrap::TestName::AesKeyWrapWithPadding).unwrap();
    let mut run = 0;
    for group in set.test_groups {
        if group.key_size != 256 {
            continue;
        }
        for test in group.tests {
            let opened = super::super::rsa::unwrap_padded(&test.key, &test.ct);
            match test.result {
                TestResult::Valid => assert_eq!(**opened.unwrap(), **test.pt, "{}", test.tc_id),
                TestResult::Invalid => assert!(opened.is_none(), "{}", test.tc_id),
                TestResult::Acceptable => {
                    assert!(opened.is_none_or(|opened| **opened == **test.pt));
                }
            }
            run += 1;
        }
    }
    assert!(run > 60, "{run}");
}

/// Catches a wrong MAC, a truncated one that is taken, and a damaged one that is taken.
#[test]
fn hmac() {
    use mac::TestName as N;
    for (name, spec, algorithm) in [
        (N::HmacSha224, KeySpec::Hmac224, MacAlgorithm::HmacSha224),
        (N::HmacSha256, KeySpec::Hmac256, MacAlgorithm::HmacSha256),
        (N::HmacSha384, KeySpec::Hmac384, MacAlgorithm::HmacSha384),
        (N::HmacSha512, KeySpec::Hmac512, MacAlgorithm::HmacSha512),
    ] {
        let mut made = 0;
        for group in mac::TestSet::load(name).unwrap().test_groups {
            let whole = group.tag_size == 8 * algorithm.mac_bytes();
            for test in group.tests {
                if !spec.secret_bytes("aws").unwrap().contains(&test.key.len()) {
                    assert!(import_material(spec, "aws", &test.key).is_err());
                    continue;
                }
                let key = imported(spec, &test.key);
                let valid = whole && test.result == TestResult::Valid;
                let verified = key.verify_mac(algorithm, &test.msg, &test.tag);
                assert_eq!(verified, Ok(valid), "{spec} test {}", test.tc_id);
                if valid {
                    assert_eq!(key.mac(algorithm, &test.msg).unwrap(), **test.tag);
                    made += 1;
                }
            }
        }
        assert!(made > 20, "{spec}: {made}");
    }
}

/// Catches ML-DSA keys that differ from the standard's for a seed, an external mu that differs from
/// the message's own, and signatures that the other library does not take.
#[test]
fn ml_dsa_from_seeds() {
    use mldsa_sign::TestName::{MlDsa44SignSeed, MlDsa65SignSeed, MlDsa87SignSeed};
    let algorithm = SigningAlgorithm::MlDsaShake256;
    let entropy = CountingEntropy(1.into());
    for (name, spec) in [
        (MlDsa44SignSeed, KeySpec::MlDsa44),
        (MlDsa65SignSeed, KeySpec::MlDsa65),
        (MlDsa87SignSeed, KeySpec::MlDsa87),
    ] {
        let (mut raw, mut by_mu) = (0, 0);
        for group in mldsa_sign::TestSet::load(name).unwrap().test_groups {
            let seed = group.privseed.expect("a set with seeds");
            let Some(public) = group.pubkey.filter(|_| seed.len() == 32) else {
                continue;
            };
            let key = key(spec, &seed);
            assert!(key.public_key_der().unwrap().ends_with(&public));
            for test in group.tests {
                if test.result != TestResult::Valid {
                    continue;
                }
                let verify = |message_type, message: &[u8], signature: &[u8]| {
                    key.verify(algorithm, message_type, message, signature)
                };
                let plain = test.ctx.is_none_or(|context| context.is_empty());
                if let Some(message) = test.msg.as_ref().filter(|_| plain) {
                    assert_eq!(verify(MessageType::Raw, message, &test.sig), Ok(true));
                    raw += 1;
                }
                let Some(mu) = &test.mu else { continue };
                assert_eq!(verify(MessageType::ExternalMu, mu, &test.sig), Ok(true));
                by_mu += 1;
                // Signing by mu is slow, so not for every vector.
                if let Some(message) = test.msg.as_ref().filter(|_| plain && by_mu < 4) {
                    let ours = key.sign(algorithm, MessageType::ExternalMu, mu, &entropy);
                    assert_eq!(verify(MessageType::Raw, message, &ours.unwrap()), Ok(true));
                    let ours = key.sign(algorithm, MessageType::Raw, message, &entropy);
                    assert_eq!(
                        verify(MessageType::ExternalMu, mu, &ours.unwrap()),
                        Ok(true)
                    );
                }
            }
        }
        assert!(raw > 40 && by_mu > 40, "{spec}: {raw}, {by_mu}");
    }
}

/// Catches ML-KEM keys that differ from the standard's for a seed, a wrong secret, and a secret
/// for a ciphertext of the wrong length.
#[test]
fn ml_kem_from_seeds() {
    use mlkem::TestName as N;
    let sets = [N::MlKem512, N::MlKem768, N::MlKem1024];
    let keys = [
        N::MlKem512KeyGenSeed,
        N::MlKem768KeyGenSeed,
        N::MlKem1024KeyGenSeed,
    ];
    let specs = [KeySpec::MlKem512, KeySpec::MlKem768, KeySpec::MlKem1024];
    for (names, spec) in std::iter::zip(sets.into_iter().zip(keys), specs) {
        let mut decapsulated = 0;
        for name in [names.0, names.1] {
            for group in mlkem::TestSet::load(name).unwrap().test_groups {
                for test in group.tests {
                    let seed = test.seed.expect("a set with seeds");
                    if seed.len() != 64 {
                        continue;
                    }
                    let key = key(spec, &seed);
                    let public = test.encaps_key.expect("a set with public keys");
                    if test.result == TestResult::Valid {
                        assert!(key.public_key_der().unwrap().ends_with(&public));
                    }
                    let Some(ciphertext) = test.ct else { continue };
                    let secret = key.decapsulate(&ciphertext);
                    if Some(ciphertext.len()) != spec.encapsulation_bytes() {
                        assert_eq!(secret.err(), Some(UseError::InvalidCiphertext));
                    } else if test.result == TestResult::Valid {
                        let expected = test.shared_secret.expect("a secret");
                        assert_eq!(**secret.unwrap(), **expected, "{spec} {}", test.tc_id);
                        decapsulated += 1;
                    }
                }
            }
        }
        assert!(decapsulated > 100, "{spec}: {decapsulated}");
    }
}

/// Catches SM4-GCM that differs from the vectors': the combination is made of two crates here.
#[test]
fn sm4_gcm() {
    let set = aead::TestSet::load(aead::TestName::Sm4Gcm).unwrap();
    let mut run = 0;
    for group in set.test_groups {
        if (group.nonce_size, group.tag_size) != (96, 128) {
            continue;
        }
        for test in group.tests {
            let sealed = [&test.ct[..], &test.tag[..]].concat();
            let opened = crate::ciphertext::open_sm4(&test.key, &test.nonce, &test.aad, &sealed);
            match test.result {
                TestResult::Valid => assert_eq!(opened.as_ref(), Ok(&test.pt.to_vec())),
                _ => assert!(opened.is_err(), "test {}", test.tc_id),
            }
            run += 1;
        }
    }
    assert!(run > 50, "{run}");
}

/// Catches Ed25519ph that differs from RFC 8032's (section 7.3), which signs the message "abc".
#[test]
fn ed25519ph() {
    let seed = unhex("833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42");
    let key = super::super::ed25519::Ed25519Key::new(&seed).unwrap();
    let expected = unhex(concat!(
        "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41",
        "31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406",
    ));
    let algorithm = SigningAlgorithm::Ed25519PhSha512;
    assert_eq!(key.sign(algorithm, b"abc").unwrap(), expected);
    assert!(key.verify(algorithm, b"abc", &expected));
    assert!(!key.verify(SigningAlgorithm::Ed25519Sha512, b"abc", &expected));
}
