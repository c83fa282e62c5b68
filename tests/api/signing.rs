//! Signatures.

use aws_sdk_kms::operation::sign::builders::SignFluentBuilder;
use aws_sdk_kms::operation::verify::builders::VerifyFluentBuilder;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeySpec, KeyUsageType, MessageType};
use keyrum_tests::Dev;
use keyrum_tests::sdk::{HERE, refused};
use ring::digest;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use crate::desk::{Desk, Key};
use crate::rush::Rush;

const INVALID: &str = "KMSInvalidSignatureException";

pub(crate) fn sign(desk: &Desk, key: &Key, algorithm: &str, message: &[u8]) -> SignFluentBuilder {
    let call = desk.kms.sign().key_id(&key.id).message(Blob::new(message));
    call.signing_algorithm(algorithm.into())
}

fn verify(
    desk: &Desk,
    key: &Key,
    algorithm: &str,
    message: &[u8],
    signature: &[u8],
) -> VerifyFluentBuilder {
    let call = desk
        .kms
        .verify()
        .key_id(&key.id)
        .message(Blob::new(message));
    let call = call.signature(Blob::new(signature));
    call.signing_algorithm(algorithm.into())
}

/// The digest that an algorithm signs, if it takes one that another library can make.
fn digest_for(algorithm: &str, message: &[u8]) -> Option<digest::Digest> {
    let hash = match algorithm {
        "ED25519_PH_SHA_512" => &digest::SHA512,
        "ED25519_SHA_512" => return None,
        _ => match algorithm.rsplit('_').next().unwrap() {
            "256" if algorithm != "ML_DSA_SHAKE_256" => &digest::SHA256,
            "384" => &digest::SHA384,
            "512" => &digest::SHA512,
            _ => return None,
        },
    };
    Some(digest::digest(hash, message))
}

/// How the second implementation checks a signature, and where the public key that it takes begins
/// in a SubjectPublicKeyInfo. `None` for what it does not know.
fn second_opinion(
    spec: &str,
    algorithm: &str,
) -> Option<(&'static dyn VerificationAlgorithm, usize)> {
    Some(match (spec, algorithm) {
        ("ECC_NIST_P256", _) => (&signature::ECDSA_P256_SHA256_ASN1, 26),
        ("ECC_NIST_P384", _) => (&signature::ECDSA_P384_SHA384_ASN1, 23),
        ("ECC_NIST_EDWARDS25519", "ED25519_SHA_512") => (&signature::ED25519, 12),
        (_, "RSASSA_PKCS1_V1_5_SHA_256") => (&signature::RSA_PKCS1_2048_8192_SHA256, 24),
        (_, "RSASSA_PKCS1_V1_5_SHA_384") => (&signature::RSA_PKCS1_2048_8192_SHA384, 24),
        (_, "RSASSA_PKCS1_V1_5_SHA_512") => (&signature::RSA_PKCS1_2048_8192_SHA512, 24),
        (_, "RSASSA_PSS_SHA_256") => (&signature::RSA_PSS_2048_8192_SHA256, 24),
        (_, "RSASSA_PSS_SHA_384") => (&signature::RSA_PSS_2048_8192_SHA384, 24),
        (_, "RSASSA_PSS_SHA_512") => (&signature::RSA_PSS_2048_8192_SHA512, 24),
        _ => return None,
    })
}

/// Signs with each algorithm of a key and has the signatures checked, here and elsewhere.
pub(crate) async fn try_out(desk: &Desk, key: &Key, spec: &str, algorithms: &[&str]) {
    let message = b"attack at dawn";
    for algorithm in algorithms {
        let digest = digest_for(algorithm, message);
        // What is signed, and as what: alone for Ed25519ph, which takes digests only.
        let of_digest = digest
            .as_ref()
            .map(|digest| (digest.as_ref(), MessageType::Digest));
        let first = match *algorithm {
            "ED25519_PH_SHA_512" => of_digest.clone().unwrap(),
            _ => (&message[..], MessageType::Raw),
        };
        let call = sign(desk, key, algorithm, first.0).message_type(first.1.clone());
        let signed = call.send().await.unwrap();
        assert_eq!(signed.key_id(), Some(&*key.arn));
        assert_eq!(signed.signing_algorithm().unwrap().as_str(), *algorithm);
        let signature = signed.signature.unwrap().into_inner();
        for (message, message_type) in std::iter::once(first.clone()).chain(of_digest) {
            let call = verify(desk, key, algorithm, message, &signature);
            let verified = call.message_type(message_type).send().await.unwrap();
            assert!(verified.signature_valid());
            assert_eq!(verified.key_id(), Some(&*key.arn));
            assert_eq!(verified.signing_algorithm().unwrap().as_str(), *algorithm);
        }
        if let Some((known, begins)) = second_opinion(spec, algorithm) {
            let public_key = desk.public_key(&key.id).await.into_inner();
            let public_key = UnparsedPublicKey::new(known, &public_key[begins..]);
            public_key.verify(message, &signature).unwrap();
        }
        let mut other = signature.clone();
        *other.last_mut().unwrap() ^= 1;
        for (message, signature) in [
            (first.0, &other[..]),
            (first.0, &signature[1..]),
            (first.0, b"garbage"),
        ] {
            let call = verify(desk, key, algorithm, message, signature);
            let call = call.message_type(first.1.clone());
            refused(call.send().await, INVALID, "");
        }
        let mut changed = first.0.to_vec();
        changed[0] ^= 1;
        let call = verify(desk, key, algorithm, &changed, &signature);
        refused(call.message_type(first.1).send().await, INVALID, "");
    }
}

/// Catches an external mu that is not the message's, or is not checked.
#[tokio::test]
async fn ml_dsa_signs_a_mu() {
    let desk = Desk::dev("mu").await;
    let key = desk
        .key_of(KeySpec::MlDsa44, KeyUsageType::SignVerify)
        .await;
    let algorithm = "ML_DSA_SHAKE_256";
    let mu = [7; 64];
    let call = sign(&desk, &key, algorithm, &mu).message_type(MessageType::ExternalMu);
    let signature = call.send().await.unwrap().signature.unwrap().into_inner();
    assert_eq!(signature.len(), 2420);
    let call = verify(&desk, &key, algorithm, &mu, &signature);
    let call = call.message_type(MessageType::ExternalMu);
    assert!(call.send().await.unwrap().signature_valid());
    let call = verify(&desk, &key, algorithm, &[8; 64], &signature);
    let call = call.message_type(MessageType::ExternalMu);
    refused(call.send().await, INVALID, "");
    // It is not the message itself.
    let call = verify(&desk, &key, algorithm, &mu, &signature);
    refused(call.send().await, INVALID, "");
}

/// Catches slow signatures that all others wait behind, also those who only verify one: then some thirty are
/// made for each core meanwhile, and one or two otherwise.
#[tokio::test]
async fn short_calls_come_before_slow_signatures() {
    let dev = Dev::start(&["--ephemeral", "--nodes", "1", "--regions", HERE]).await;
    let desk = Desk::at(&dev.ready.endpoint, "turns");
    let (sealing, signing) = (desk.key().await, KeySpec::Rsa4096);
    let signing = desk.key_of(signing, KeyUsageType::SignVerify).await;
    let cores = std::thread::available_parallelism().unwrap().get();
    let signed = sign(&desk, &signing, "RSASSA_PSS_SHA_256", b"m");
    let signature = signed.clone().send().await.unwrap().signature.unwrap();
    let rush = Rush::start(32 * cores, move || {
        let call = signed.clone().send();
        async { call.await.is_ok() }
    });
    let rush = rush.await;
    let before = rush.before(async || {
        let call = desk.kms.encrypt().key_id(&sealing.id);
        call.plaintext(Blob::new(b"m")).send().await.unwrap();
    });
    let before = before.await;
    assert!(before <= 6 * cores, "{before} signatures were made first");
    let before = rush.before(async || {
        let (algorithm, signature) = ("RSASSA_PSS_SHA_256", signature.as_ref());
        let call = verify(&desk, &signing, algorithm, b"m", signature);
        call.send().await.unwrap();
    });
    let before = before.await;
    assert!(before <= 6 * cores, "{before} signatures were made first");
}

/// Catches a refusal with the wrong code or text, or out of the real service's order.
#[tokio::test]
async fn refusals_come_in_order() {
    let desk = Desk::dev("signing refusals").await;
    let (ecc, ed) = (KeySpec::EccNistP256, KeySpec::EccNistEdwards25519);
    let signs = || KeyUsageType::SignVerify;
    let key = desk.key_of(ecc.clone(), signs()).await;
    let ed = desk.key_of(ed, signs()).await;
    let pq = desk.key_of(KeySpec::MlDsa65, signs()).await;
    let agrees = desk.key_of(ecc, KeyUsageType::KeyAgreement).await;
    desk.kms
        .disable_key()
        .key_id(&agrees.id)
        .send()
        .await
        .unwrap();

    let (usage, validation) = ("InvalidKeyUsageException", "ValidationException");
    // Usage before state.
    let text = format!(
        "{} key usage is KEY_AGREEMENT which is not valid for Sign.",
        agrees.arn
    );
    let call = sign(&desk, &agrees, "ECDSA_SHA_256", b"m");
    refused(call.send().await, usage, &text);
    let call = verify(&desk, &agrees, "ECDSA_SHA_256", b"m", b"s");
    let text = text.replace("Sign.", "Verify.");
    refused(call.send().await, usage, &text);
    let symmetric = desk.key().await;
    let text = format!(
        "{} key usage is ENCRYPT_DECRYPT which is not valid for Sign.",
        symmetric.arn
    );
    let call = sign(&desk, &symmetric, "ECDSA_SHA_256", b"m");
    refused(call.send().await, usage, &text);

    // The algorithm before the message's type and length.
    for algorithm in [
        "ECDSA_SHA_384",
        "RSASSA_PSS_SHA_256",
        "SM2DSA",
        "SYMMETRIC_DEFAULT",
    ] {
        let text = format!("Algorithm {algorithm} is incompatible with key spec ECC_NIST_P256.");
        for message_type in [MessageType::Digest, MessageType::ExternalMu] {
            let call = sign(&desk, &key, algorithm, b"m").message_type(message_type);
            refused(call.send().await, usage, &text);
        }
    }
    // Types before lengths.
    let (ecdsa, plain) = ("ECDSA_SHA_256", "ED25519_SHA_512");
    let (ph, ml_dsa) = ("ED25519_PH_SHA_512", "ML_DSA_SHAKE_256");
    use MessageType::{Digest, ExternalMu, Raw};
    for (key, algorithm, message_type, text) in [
        (
            &key,
            ecdsa,
            ExternalMu,
            "Message type EXTERNAL_MU is incompatible with key spec ECC_NIST_P256.",
        ),
        (
            &pq,
            ml_dsa,
            Digest,
            "Message type DIGEST is incompatible with key spec ML_DSA_65.",
        ),
        (
            &ed,
            plain,
            Digest,
            "Message type DIGEST is incompatible with algorithm ED25519_SHA_512.",
        ),
        (
            &ed,
            ph,
            Raw,
            "Message type RAW is incompatible with algorithm ED25519_PH_SHA_512.",
        ),
        (
            &key,
            ecdsa,
            Digest,
            "Digest is invalid length for algorithm ECDSA_SHA_256.",
        ),
        (
            &ed,
            ph,
            Digest,
            "Digest is invalid length for algorithm ED25519_PH_SHA_512.",
        ),
        (
            &pq,
            ml_dsa,
            ExternalMu,
            "External Mu is invalid length for algorithm ML_DSA_SHAKE_256.",
        ),
    ] {
        let call = sign(&desk, key, algorithm, b"m").message_type(message_type.clone());
        refused(call.send().await, validation, text);
        let call = verify(&desk, key, algorithm, b"m", b"s").message_type(message_type);
        refused(call.send().await, validation, text);
    }

    let dry_run = "DryRunOperationException";
    let yes = "The request would have succeeded, but the DryRun option is set.";
    let call = sign(&desk, &key, ecdsa, b"m").dry_run(true);
    refused(call.send().await, dry_run, yes);
    let signature = sign(&desk, &key, ecdsa, b"m").send().await.unwrap();
    let signature = signature.signature.unwrap().into_inner();
    let call = verify(&desk, &key, ecdsa, b"m", &signature).dry_run(true);
    refused(call.send().await, dry_run, yes);
    let call = verify(&desk, &key, ecdsa, b"n", &signature).dry_run(true);
    refused(call.send().await, INVALID, "");
    let call = sign(&desk, &key, ecdsa, b"m").grant_tokens("token");
    let error = call.send().await.unwrap_err().into_service_error();
    assert!(error.is_invalid_grant_token_exception(), "{error:?}");

    let hidden = "1 validation error detected: Value at 'message' failed to satisfy constraint: \
        Member must have length";
    for (bytes, bound) in [
        (0, "greater than or equal to 1"),
        (4097, "less than or equal to 4096"),
    ] {
        let call = sign(&desk, &key, ecdsa, &vec![7; bytes]);
        refused(call.send().await, validation, &format!("{hidden} {bound}"));
    }
    let enumeration = "1 validation error detected: Value 'ROT13' at 'signingAlgorithm' failed to \
        satisfy constraint: Member must satisfy enum value set: [RSASSA_PSS_SHA_256, \
        RSASSA_PSS_SHA_384, RSASSA_PSS_SHA_512, RSASSA_PKCS1_V1_5_SHA_256, \
        RSASSA_PKCS1_V1_5_SHA_384, RSASSA_PKCS1_V1_5_SHA_512, ECDSA_SHA_256, ECDSA_SHA_384, \
        ECDSA_SHA_512, ED25519_SHA_512, ED25519_PH_SHA_512, SM2DSA, ML_DSA_SHAKE_256]";
    refused(
        sign(&desk, &key, "ROT13", b"m").send().await,
        validation,
        enumeration,
    );
    let call = sign(&desk, &key, ecdsa, b"m").message_type("HASH".into());
    let enumeration = "1 validation error detected: Value 'HASH' at 'messageType' failed to \
        satisfy constraint: Member must satisfy enum value set: [RAW, DIGEST, EXTERNAL_MU]";
    refused(call.send().await, validation, enumeration);
}
