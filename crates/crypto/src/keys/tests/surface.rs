//! What every key spec can do and refuses to do.

use keyrum_types::{
    EncryptionAlgorithm, KeyFamily, KeySpec, KeyUsage, MessageType, SigningAlgorithm,
    WrappingAlgorithm,
};

use super::super::{PeerKeyError, UsableKey, UseError, generate_material, import_material};
use super::openssl::{CURVES, RSA, pair};
use super::{key, unhex};
use crate::testing::CountingEntropy;
use crate::{MaterialSecret, encrypt};

/// A key of the spec: RSA's from openssl, which is quick, all others newly made.
fn any_key(spec: KeySpec) -> UsableKey {
    if let Some((name, _)) = RSA.into_iter().find(|(_, rsa)| *rsa == spec) {
        return pair(name, spec);
    }
    let entropy = CountingEntropy(spec.name().len().try_into().map(u64::into).unwrap());
    let material = generate_material(spec, "aws", &entropy).ok().unwrap();
    UsableKey::new(spec, &material).expect("new material can be used")
}

fn usable_specs() -> impl Iterator<Item = KeySpec> {
    let all = KeySpec::ALL.iter().copied();
    all.filter(|&spec| spec != KeySpec::SymmetricDefault)
}

/// Catches a key spec without a working operation for one of its usages.
#[test]
fn every_usage_of_every_spec_works() {
    let entropy = CountingEntropy(3.into());
    for spec in usable_specs() {
        let key = any_key(spec);
        for usage in spec.usages() {
            match usage {
                KeyUsage::SignVerify => signs(&key, &entropy),
                KeyUsage::EncryptDecrypt => encrypts(&key, &entropy),
                KeyUsage::GenerateVerifyMac => {
                    let algorithm = spec.mac_algorithms()[0];
                    let mac = key.mac(algorithm, b"message").unwrap();
                    assert_eq!(mac.len(), algorithm.mac_bytes(), "{spec}");
                    let verify = |message: &[u8], mac: &[u8]| {
                        key.verify_mac(algorithm, message, mac).unwrap()
                    };
                    assert!(verify(b"message", &mac), "{spec}");
                    assert!(!verify(b"massage", &mac), "{spec}");
                    assert!(!verify(b"message", &mac[1..]), "{spec}");
                    assert!(!verify(b"message", b""), "{spec}");
                }
                KeyUsage::KeyAgreement => {
                    let material = generate_material(spec, "aws", &entropy).ok().unwrap();
                    let peer = UsableKey::new(spec, &material).unwrap();
                    let ours = key.agree(peer.public_key_der().unwrap()).unwrap();
                    let theirs = peer.agree(key.public_key_der().unwrap()).unwrap();
                    assert_eq!(ours, theirs, "{spec}");
                }
                KeyUsage::EncapsulateDecapsulate => {
                    let made = key.encapsulate().unwrap();
                    assert_eq!(Some(made.ciphertext.len()), spec.encapsulation_bytes());
                    let secret = key.decapsulate(&made.ciphertext).unwrap();
                    assert_eq!((&secret, secret.len()), (&made.shared_secret, 32));
                    let mut other = made.ciphertext;
                    other[0] ^= 1;
                    assert_ne!(key.decapsulate(&other).unwrap(), made.shared_secret);
                }
            }
        }
    }
}

fn signs(key: &UsableKey, entropy: &CountingEntropy) {
    let spec = key.spec();
    for &algorithm in spec.signing_algorithms() {
        for &message_type in MessageType::ALL {
            if !algorithm.takes(message_type) {
                continue;
            }
            let length = match message_type {
                MessageType::Raw => 100,
                MessageType::Digest => algorithm.digest_bytes().unwrap(),
                MessageType::ExternalMu => 64,
            };
            let mut message = vec![7; length];
            let signature = key
                .sign(algorithm, message_type, &message, entropy)
                .unwrap();
            let verify = |message: &[u8], signature: &[u8]| {
                key.verify(algorithm, message_type, message, signature)
            };
            let what = format!("{spec} {algorithm} {message_type}");
            assert_eq!(verify(&message, &signature), Ok(true), "{what}");
            let mut damaged = signature.clone();
            damaged[signature.len() / 2] ^= 1;
            assert_eq!(verify(&message, &damaged), Ok(false), "{what}");
            assert_eq!(verify(&message, &signature[1..]), Ok(false), "{what}");
            message[0] ^= 1;
            assert_eq!(verify(&message, &signature), Ok(false), "{what}");
            if message_type != MessageType::Raw {
                message.push(0);
                let refused = Err(UseError::DigestLength {
                    algorithm,
                    expected: length,
                    found: length + 1,
                });
                assert_eq!(verify(&message, &signature), refused, "{what}");
            }
        }
    }
}

fn encrypts(key: &UsableKey, entropy: &CountingEntropy) {
    let spec = key.spec();
    for &algorithm in spec.encryption_algorithms() {
        let max = spec.plaintext_bytes_max(algorithm).unwrap();
        for length in [1, max] {
            let plaintext = vec![9; length];
            let ciphertext = key.encrypt(algorithm, &plaintext, entropy).unwrap();
            let again = key.encrypt(algorithm, &plaintext, entropy).unwrap();
            assert_ne!(ciphertext, again, "{spec} {algorithm}");
            assert_eq!(*key.decrypt(algorithm, &ciphertext).unwrap(), plaintext);
            let cut = key.decrypt(algorithm, &ciphertext[1..]).err();
            assert_eq!(cut, Some(UseError::InvalidCiphertext), "{spec} {algorithm}");
        }
        for found in [0, max + 1] {
            let refused = key.encrypt(algorithm, &vec![9; found], entropy).err();
            assert_eq!(refused, Some(UseError::PlaintextLength { max, found }));
        }
    }
}

/// Catches a signature over the digest of a digest: RAW and DIGEST must be interchangeable, except
/// for Ed25519ph, which hashes what it is given.
#[test]
fn a_digest_stands_for_its_message() {
    use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
    let entropy = CountingEntropy(4.into());
    for (name, spec) in RSA.into_iter().chain(CURVES) {
        let key = pair(name, spec);
        for &algorithm in spec.signing_algorithms() {
            let hash = match (algorithm, algorithm.digest_bytes()) {
                // SM2 hashes its identity too: see sm2_vectors.
                (SigningAlgorithm::Sm2Dsa | SigningAlgorithm::Ed25519PhSha512, _) => continue,
                (_, Some(32)) => &SHA256,
                (_, Some(48)) => &SHA384,
                (_, Some(64)) => &SHA512,
                _ => continue,
            };
            let digest = digest(hash, b"message");
            let (raw, digested) = (MessageType::Raw, MessageType::Digest);
            let signature = key.sign(algorithm, raw, b"message", &entropy).unwrap();
            let verified = key.verify(algorithm, digested, digest.as_ref(), &signature);
            assert_eq!(verified, Ok(true), "{spec} {algorithm}");
            let signature = key
                .sign(algorithm, digested, digest.as_ref(), &entropy)
                .unwrap();
            let verified = key.verify(algorithm, raw, b"message", &signature);
            assert_eq!(verified, Ok(true), "{spec} {algorithm}");
        }
    }
}

/// Catches an algorithm or message type that a key takes though it is not one of its spec's.
#[test]
fn other_algorithms_and_message_types_are_refused() {
    let entropy = CountingEntropy(5.into());
    for spec in usable_specs() {
        let key = any_key(spec);
        let other = UseError::OtherAlgorithm { spec };
        for &algorithm in SigningAlgorithm::ALL {
            let ours = spec.signing_algorithms().contains(&algorithm);
            for &message_type in MessageType::ALL {
                let refused = key.sign(algorithm, message_type, &[1; 13], &entropy).err();
                match (ours, algorithm.takes(message_type), message_type) {
                    (false, _, _) => assert_eq!(refused, Some(other)),
                    (true, false, _) => {
                        let expected = UseError::OtherMessageType {
                            algorithm,
                            message_type,
                        };
                        assert_eq!(refused, Some(expected), "{spec}");
                    }
                    (true, true, MessageType::Raw) => assert_eq!(refused, None),
                    _ => assert!(matches!(refused, Some(UseError::DigestLength { .. }))),
                }
            }
        }
        for &algorithm in EncryptionAlgorithm::ALL {
            if !spec.encryption_algorithms().contains(&algorithm) {
                let refused = key.encrypt(algorithm, b"plaintext", &entropy).err();
                assert_eq!(refused, Some(other), "{spec} {algorithm}");
                assert_eq!(key.decrypt(algorithm, &[1; 256]).err(), Some(other));
            }
        }
        if spec.key_agreement_algorithms().is_empty() {
            assert_eq!(key.agree(b"").err(), Some(other), "{spec}");
        }
        if spec.family() != KeyFamily::MlKem {
            assert_eq!(key.encapsulate().err(), Some(other), "{spec}");
            assert_eq!(key.decapsulate(&[1; 768]).err(), Some(other), "{spec}");
        }
        if spec.family() != KeyFamily::Rsa {
            let algorithm = WrappingAlgorithm::RsaAesKeyWrapSha256;
            assert_eq!(key.unwrap_import(algorithm, &[1; 300]).err(), Some(other));
        }
        let pkcs1 = WrappingAlgorithm::RsaesPkcs1V15;
        assert_eq!(key.unwrap_import(pkcs1, &[1; 256]).err(), Some(other));
    }
}

/// Catches keys whose public or private form has another size than the real service's.
#[test]
fn keys_have_the_observed_sizes() {
    use KeySpec as S;
    for (spec, public, private) in [
        (S::Rsa2048, 294, None),
        (S::Rsa3072, 422, None),
        // One byte either way: a prime or exponent may have a leading zero.
        (S::Rsa4096, 550, None),
        (S::EccNistP256, 91, Some(150)),
        (S::EccNistP384, 120, Some(194)),
        (S::EccNistP521, 158, Some(250)),
        (S::EccSecgP256k1, 88, Some(144)),
        (S::EccNistEdwards25519, 44, Some(48)),
        (S::Sm2, 91, Some(150)),
        (S::MlKem512, 822, Some(86)),
        (S::MlKem768, 1206, Some(86)),
        (S::MlKem1024, 1590, Some(86)),
        (S::MlDsa44, 1334, None),
        (S::MlDsa65, 1974, None),
        (S::MlDsa87, 2614, None),
    ] {
        let key = any_key(spec);
        assert_eq!(key.public_key_der().unwrap().len(), public, "{spec}");
        if let Some(private) = private {
            assert_eq!(key.private_key_der().unwrap().len(), private, "{spec}");
        }
    }
    assert!(
        any_key(S::Rsa4096)
            .private_key_der()
            .unwrap()
            .len()
            .abs_diff(2374)
            < 6
    );
    assert!(any_key(S::Hmac256).public_key_der().is_none());
}

/// Catches generation that ignores the entropy it is given, and so would make simulations differ;
/// RSA's takes none and is left out.
#[test]
fn the_same_entropy_makes_the_same_key() {
    for spec in usable_specs().filter(|spec| spec.family() != KeyFamily::Rsa) {
        let make = |seed: u64| {
            let entropy = CountingEntropy(seed.into());
            let material = generate_material(spec, "aws-cn", &entropy);
            material.ok().unwrap()
        };
        assert_eq!(make(1).expose(), make(1).expose(), "{spec}");
        assert_ne!(make(1).expose(), make(999).expose(), "{spec}");
    }
}

/// Catches RSA generation of another size, or material that differs from its own import.
#[test]
fn a_new_rsa_key_is_canonical() {
    let spec = KeySpec::Rsa2048;
    let material = generate_material(spec, "aws", &CountingEntropy(1.into()));
    let material = material.ok().unwrap();
    let key = UsableKey::new(spec, &material).unwrap();
    let private = key.private_key_der().unwrap();
    assert_eq!(*private, *material.expose());
    let imported = import_material(spec, "aws", &private).ok().unwrap();
    assert_eq!(imported.expose(), material.expose());
    assert!(UsableKey::new(KeySpec::Rsa3072, &material).is_err());
}

/// Catches peers' public keys that are refused with the wrong reason, or taken.
#[test]
fn peers_are_refused_for_a_reason() {
    let key = any_key(KeySpec::EccNistP256);
    let peer = any_key(KeySpec::EccNistP256);
    let peer = peer.public_key_der().unwrap();
    let refused = |peer: &[u8]| key.agree(peer).err();
    let reason = |error| Some(UseError::Peer(error));
    assert_eq!(refused(b"garbage"), reason(PeerKeyError::Malformed));
    assert_eq!(refused(&peer[1..]), reason(PeerKeyError::Malformed));
    let trailing = [peer, &[0]].concat();
    assert_eq!(refused(&trailing), reason(PeerKeyError::Malformed));
    for spec in [
        KeySpec::EccNistP384,
        KeySpec::EccSecgP256k1,
        KeySpec::Rsa2048,
    ] {
        let other = any_key(spec);
        let other = other.public_key_der().unwrap();
        assert_eq!(refused(other), reason(PeerKeyError::OtherCurve), "{spec}");
    }
    let mut off_curve = peer.to_vec();
    *off_curve.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&off_curve), reason(PeerKeyError::InvalidPoint));
}

/// Catches wrapped material that does not come out again, for the algorithms without an AES key.
#[test]
fn wrapped_material_comes_out() {
    let entropy = CountingEntropy(6.into());
    for (name, spec, wrapping, algorithm) in [
        (
            "rsa3072",
            KeySpec::Rsa3072,
            WrappingAlgorithm::RsaesOaepSha1,
            EncryptionAlgorithm::RsaesOaepSha1,
        ),
        (
            "rsa4096",
            KeySpec::Rsa4096,
            WrappingAlgorithm::RsaesOaepSha256,
            EncryptionAlgorithm::RsaesOaepSha256,
        ),
        (
            "sm2",
            KeySpec::Sm2,
            WrappingAlgorithm::Sm2Pke,
            EncryptionAlgorithm::Sm2Pke,
        ),
    ] {
        let key = pair(name, spec);
        let wrapped = key.encrypt(algorithm, &[5; 32], &entropy).unwrap();
        let opened = key.unwrap_import(wrapping, &wrapped).unwrap();
        assert_eq!(**opened, [5; 32], "{wrapping}");
    }
}

/// Catches symmetric keys of China that are not SM4, and blobs of one cipher that open with the
/// other.
#[test]
fn symmetric_keys_of_china_are_sm4() {
    use crate::{EncryptionContext, InvalidCiphertext, KeyName, MadeBy, parse};
    let entropy = CountingEntropy(8.into());
    let name = KeyName {
        account: "111122223333".parse().unwrap(),
        key: keyrum_types::KeyId::single_region([1; 16]),
    };
    let make = |partition| {
        let material = generate_material(KeySpec::SymmetricDefault, partition, &entropy);
        material.ok().unwrap()
    };
    let blob = |secret: &MaterialSecret| {
        let id = secret.id(name.key);
        let context = EncryptionContext::new();
        encrypt(
            secret,
            id,
            name,
            &context,
            b"text",
            MadeBy::Encrypt,
            &entropy,
        )
    };
    let (sm4, aes) = (make("aws-cn"), make("aws"));
    assert_eq!((sm4.expose().len(), aes.expose().len()), (16, 32));
    let (sm4_blob, aes_blob) = (blob(&sm4), blob(&aes));
    assert_eq!((sm4_blob[58], aes_blob[58]), (2, 1), "the version");
    assert_eq!(sm4_blob.len(), aes_blob.len());
    let open = |blob: &[u8], secret: &MaterialSecret| {
        parse(blob)?.decrypt(secret, &EncryptionContext::new())
    };
    assert_eq!(**open(&sm4_blob, &sm4).unwrap(), *b"text");
    assert_eq!(**open(&aes_blob, &aes).unwrap(), *b"text");
    assert_eq!(open(&sm4_blob, &aes).err(), Some(InvalidCiphertext));
    assert_eq!(open(&aes_blob, &sm4).err(), Some(InvalidCiphertext));
    for at in 0..sm4_blob.len() {
        let mut damaged = sm4_blob.clone();
        damaged[at] ^= 1;
        let opened = open(&damaged, &sm4);
        assert_eq!(opened.err(), Some(InvalidCiphertext), "byte {at}");
    }
}

/// Catches Ed25519ph that takes the 64 bytes for the hash itself: the real service hashes them.
#[test]
fn ed25519ph_hashes_the_digest() {
    let seed = unhex("833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42");
    let key = key(KeySpec::EccNistEdwards25519, &seed);
    let prehash = ed25519_dalek::SigningKey::from_bytes(seed[..].try_into().unwrap());
    let hash = <ed25519_dalek::Sha512 as ed25519_dalek::Digest>::new_with_prefix([6; 64]);
    let expected = prehash.sign_prehashed(hash, None).unwrap();
    let signature = key.sign(
        SigningAlgorithm::Ed25519PhSha512,
        MessageType::Digest,
        &[6; 64],
        &CountingEntropy(1.into()),
    );
    assert_eq!(signature.unwrap(), expected.to_bytes());
}
