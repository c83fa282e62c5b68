//! The libraries' bare calls, each with a key that was taken apart before.

use aes_gcm::{AesGcm, KeyInit, aead::AeadInOut};
use aws_lc_rs::agreement as aws_agreement;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{
    KeyPair, KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
    PrivateDecryptingKey,
};
use aws_lc_rs::signature as aws;
use aws_lc_rs::{hmac as aws_hmac, kem};
use k256::ecdsa::signature::Signer as _;
use keyrum_types::KeySpec;
use ring::{aead, hmac, signature};

use super::compared::MESSAGE;
use crate::Failure;

/// A call that does the work once, and the library it is of.
pub(super) type Bare = (&'static str, Box<dyn FnMut()>);

fn call(name: &'static str, work: impl FnMut() + 'static) -> Bare {
    (name, Box::new(work))
}

fn failed<E>(_: E) -> Failure {
    "a library does not take a key of its own".into()
}

/// AES-256-GCM over 1 KiB.
pub(super) fn aes() -> Result<Vec<Bare>, Failure> {
    let key = aead::UnboundKey::new(&aead::AES_256_GCM, &[7; 32]).map_err(failed)?;
    let key = aead::LessSafeKey::new(key);
    let mut buffer = MESSAGE.to_vec();
    Ok(vec![call("ring", move || {
        let nonce = aead::Nonce::assume_unique_for_key([0; 12]);
        let tag = key.seal_in_place_separate_tag(nonce, aead::Aad::empty(), &mut buffer);
        let _ = std::hint::black_box(tag.expect("it is short"));
    })])
}

/// SM4-GCM over 1 KiB.
pub(super) fn sm4() -> Vec<Bare> {
    let key = AesGcm::<sm4::Sm4, aes_gcm::aes::cipher::consts::U12>::new(&[7; 16].into());
    let mut buffer = MESSAGE.to_vec();
    vec![call("aes-gcm over sm4", move || {
        let tag = key.encrypt_inout_detached(&[0; 12].into(), &[], buffer.as_mut_slice().into());
        std::hint::black_box(tag.expect("it is short"));
    })]
}

/// A MAC over 1 KiB. ring has no SHA-224.
pub(super) fn mac(bits: u32) -> Vec<Bare> {
    let (theirs, ring) = match bits {
        224 => (aws_hmac::HMAC_SHA224, None),
        256 => (aws_hmac::HMAC_SHA256, Some(hmac::HMAC_SHA256)),
        384 => (aws_hmac::HMAC_SHA384, Some(hmac::HMAC_SHA384)),
        _ => (aws_hmac::HMAC_SHA512, Some(hmac::HMAC_SHA512)),
    };
    let key = aws_hmac::Key::new(theirs, &[7; 64]);
    let mut calls = vec![call("aws-lc-rs", move || {
        std::hint::black_box(aws_hmac::sign(&key, MESSAGE));
    })];
    if let Some(algorithm) = ring {
        let key = hmac::Key::new(algorithm, &[7; 64]);
        calls.push(call("ring", move || {
            std::hint::black_box(hmac::sign(&key, MESSAGE));
        }));
    }
    calls
}

fn rsa_key(bits: usize) -> Result<KeyPair, Failure> {
    let size = match bits {
        2048 => KeySize::Rsa2048,
        3072 => KeySize::Rsa3072,
        _ => KeySize::Rsa4096,
    };
    KeyPair::generate(size).map_err(failed)
}

/// A signature over 1 KiB, with SHA-256.
pub(super) fn rsa_sign(bits: usize, pss: bool) -> Result<Vec<Bare>, Failure> {
    let key = rsa_key(bits)?;
    let pkcs8 = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&key).map_err(failed)?;
    let ring = signature::RsaKeyPair::from_pkcs8(pkcs8.as_ref()).map_err(failed)?;
    let random = ring::rand::SystemRandom::new();
    let encoding: &'static dyn signature::RsaEncoding = match pss {
        true => &signature::RSA_PSS_SHA256,
        false => &signature::RSA_PKCS1_SHA256,
    };
    let mut out = vec![0; bits / 8];
    let mut calls = vec![call("ring", move || {
        let done = ring.sign(encoding, &random, MESSAGE, &mut out);
        done.expect("it signs");
    })];
    let random = aws_lc_rs::rand::SystemRandom::new();
    let encoding: &'static dyn aws::RsaEncoding = match pss {
        true => &aws::RSA_PSS_SHA256,
        false => &aws::RSA_PKCS1_SHA256,
    };
    let mut out = vec![0; bits / 8];
    calls.push(call("aws-lc-rs", move || {
        let done = key.sign(encoding, &random, MESSAGE, &mut out);
        done.expect("it signs");
    }));
    Ok(calls)
}

/// Decryption of a few bytes with RSA-OAEP and SHA-256.
pub(super) fn rsa_decrypt(bits: usize) -> Result<Vec<Bare>, Failure> {
    let key = rsa_key(bits)?;
    let pkcs8 = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&key).map_err(failed)?;
    let private = PrivateDecryptingKey::from_pkcs8(pkcs8.as_ref()).map_err(failed)?;
    let public = OaepPublicEncryptingKey::new(private.public_key()).map_err(failed)?;
    let private = OaepPrivateDecryptingKey::new(private).map_err(failed)?;
    let mut sealed = vec![0; public.ciphertext_size()];
    public
        .encrypt(&OAEP_SHA256_MGF1SHA256, &[7; 32], &mut sealed, None)
        .map_err(failed)?;
    let mut out = vec![0; private.min_output_size()];
    Ok(vec![call("aws-lc-rs", move || {
        let opened = private.decrypt(&OAEP_SHA256_MGF1SHA256, &sealed, &mut out, None);
        opened.expect("it opens");
    })])
}

/// A signature over 1 KiB on a curve.
pub(super) fn curve_sign(spec: KeySpec) -> Result<Vec<Bare>, Failure> {
    let (theirs, ring) = match spec {
        KeySpec::EccNistP256 => (
            &aws::ECDSA_P256_SHA256_ASN1_SIGNING,
            Some(&signature::ECDSA_P256_SHA256_ASN1_SIGNING),
        ),
        KeySpec::EccNistP384 => (
            &aws::ECDSA_P384_SHA384_ASN1_SIGNING,
            Some(&signature::ECDSA_P384_SHA384_ASN1_SIGNING),
        ),
        _ => (&aws::ECDSA_P521_SHA512_ASN1_SIGNING, None),
    };
    let mut calls = Vec::new();
    if let Some(algorithm) = ring {
        let random = ring::rand::SystemRandom::new();
        let key = signature::EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(failed)?;
        let key = signature::EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random);
        let key = key.map_err(failed)?;
        calls.push(call("ring", move || {
            std::hint::black_box(key.sign(&random, MESSAGE).expect("it signs"));
        }));
    }
    let key = aws::EcdsaKeyPair::generate(theirs).map_err(failed)?;
    let random = aws_lc_rs::rand::SystemRandom::new();
    calls.push(call("aws-lc-rs", move || {
        std::hint::black_box(key.sign(&random, MESSAGE).expect("it signs"));
    }));
    Ok(calls)
}

/// A signature over 1 KiB on secp256k1.
pub(super) fn k256_sign() -> Result<Vec<Bare>, Failure> {
    let key = k256::ecdsa::SigningKey::from_slice(&[7; 32]).map_err(failed)?;
    Ok(vec![call("k256", move || {
        let signed: k256::ecdsa::Signature = key.sign(MESSAGE);
        std::hint::black_box(signed.to_der());
    })])
}

/// A signature over 1 KiB with Ed25519.
pub(super) fn ed25519_sign() -> Result<Vec<Bare>, Failure> {
    let ours = signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).map_err(failed)?;
    let theirs = aws::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).map_err(failed)?;
    Ok(vec![
        call("ring", move || {
            std::hint::black_box(ours.sign(MESSAGE));
        }),
        call("aws-lc-rs", move || {
            std::hint::black_box(theirs.sign(MESSAGE));
        }),
    ])
}

/// A signature over 1 KiB with SM2.
pub(super) fn sm2_sign() -> Result<Vec<Bare>, Failure> {
    let secret = sm2::SecretKey::from_slice(&[7; 32]).map_err(failed)?;
    let key = sm2::dsa::SigningKey::new("1234567812345678", &secret).map_err(failed)?;
    Ok(vec![call("sm2", move || {
        let signed: sm2::dsa::Signature = key.sign(MESSAGE);
        std::hint::black_box(signed);
    })])
}

/// A signature over 1 KiB with ML-DSA, and its verification.
pub(super) fn ml_dsa(spec: KeySpec) -> Result<(Vec<Bare>, Vec<Bare>), Failure> {
    let (signing, verifying): (_, &'static dyn aws::VerificationAlgorithm) = match spec {
        KeySpec::MlDsa44 => (&aws::ML_DSA_44_SIGNING, &aws::ML_DSA_44),
        KeySpec::MlDsa65 => (&aws::ML_DSA_65_SIGNING, &aws::ML_DSA_65),
        _ => (&aws::ML_DSA_87_SIGNING, &aws::ML_DSA_87),
    };
    let key = aws::PqdsaKeyPair::generate(signing).map_err(failed)?;
    let public = aws::KeyPair::public_key(&key);
    let public = aws::ParsedPublicKey::new(verifying, public.as_ref()).map_err(failed)?;
    let mut out = vec![0; signing.signature_len()];
    key.sign(MESSAGE, &mut out).map_err(failed)?;
    let signed = out.clone();
    let sign = call("aws-lc-rs", move || {
        key.sign(MESSAGE, &mut out).expect("it signs");
    });
    let verify = call("aws-lc-rs", move || {
        public.verify_sig(MESSAGE, &signed).expect("it is right");
    });
    Ok((vec![sign], vec![verify]))
}

/// An agreement on a curve.
pub(super) fn agree(spec: KeySpec) -> Result<Vec<Bare>, Failure> {
    let algorithm = match spec {
        KeySpec::EccNistP256 => &aws_agreement::ECDH_P256,
        KeySpec::EccNistP384 => &aws_agreement::ECDH_P384,
        _ => &aws_agreement::ECDH_P521,
    };
    let own = aws_agreement::PrivateKey::generate(algorithm).map_err(failed)?;
    let peer = aws_agreement::PrivateKey::generate(algorithm).map_err(failed)?;
    let peer = peer.compute_public_key().map_err(failed)?;
    Ok(vec![call("aws-lc-rs", move || {
        let peer = aws_agreement::UnparsedPublicKey::new(algorithm, peer.as_ref());
        let agreed = aws_agreement::agree(&own, peer, (), |secret| {
            std::hint::black_box(secret[0]);
            Ok(())
        });
        agreed.expect("they agree");
    })])
}

/// An encapsulation with ML-KEM, and its opening.
pub(super) fn ml_kem(spec: KeySpec) -> Result<(Vec<Bare>, Vec<Bare>), Failure> {
    let algorithm = match spec {
        KeySpec::MlKem512 => &kem::ML_KEM_512,
        KeySpec::MlKem768 => &kem::ML_KEM_768,
        _ => &kem::ML_KEM_1024,
    };
    let key = kem::DecapsulationKey::generate(algorithm).map_err(failed)?;
    let public = key.encapsulation_key().map_err(failed)?;
    let (sealed, _) = public.encapsulate().map_err(failed)?;
    let sealed = sealed.as_ref().to_vec();
    let encapsulate = call("aws-lc-rs", move || {
        std::hint::black_box(public.encapsulate().expect("it encapsulates"));
    });
    let decapsulate = call("aws-lc-rs", move || {
        let opened = key.decapsulate(sealed.as_slice().into());
        std::hint::black_box(opened.expect("it opens"));
    });
    Ok((vec![encapsulate], vec![decapsulate]))
}
