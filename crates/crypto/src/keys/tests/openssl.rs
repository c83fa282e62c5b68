//! Cross-checks with a second implementation, the openssl program: what it made verifies, decrypts
//! and agrees here. `golden/openssl.sh` made the data. The reverse needs the program itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use keyrum_types::{
    EncryptionAlgorithm, KeySpec, MessageType, SigningAlgorithm, WrappingAlgorithm,
};

use super::super::{UsableKey, import_material};
use super::unhex;
use crate::MaterialSecret;
use crate::testing::CountingEntropy;

pub(super) fn file(name: &str) -> Vec<u8> {
    let lines = include_str!("../../../golden/openssl.txt").lines();
    let files: BTreeMap<_, _> = lines.filter_map(|line| line.split_once(' ')).collect();
    unhex(files[name])
}

pub(super) fn material(name: &str, spec: KeySpec) -> MaterialSecret {
    let imported = import_material(spec, "aws-cn", &file(&format!("{name}.pkcs8")));
    imported.expect("openssl's keys can be imported")
}

pub(super) fn pair(name: &str, spec: KeySpec) -> UsableKey {
    UsableKey::new(spec, &material(name, spec)).expect("what was imported can be used")
}

pub(super) const RSA: [(&str, KeySpec); 3] = [
    ("rsa2048", KeySpec::Rsa2048),
    ("rsa3072", KeySpec::Rsa3072),
    ("rsa4096", KeySpec::Rsa4096),
];

pub(super) const CURVES: [(&str, KeySpec); 6] = [
    ("p256", KeySpec::EccNistP256),
    ("p384", KeySpec::EccNistP384),
    ("p521", KeySpec::EccNistP521),
    ("p256k1", KeySpec::EccSecgP256k1),
    ("ed25519", KeySpec::EccNistEdwards25519),
    ("sm2", KeySpec::Sm2),
];

const RSA_SIGNATURES: [(&str, SigningAlgorithm); 6] = [
    ("pkcs1-256", SigningAlgorithm::RsassaPkcs1V15Sha256),
    ("pkcs1-384", SigningAlgorithm::RsassaPkcs1V15Sha384),
    ("pkcs1-512", SigningAlgorithm::RsassaPkcs1V15Sha512),
    ("pss-256", SigningAlgorithm::RsassaPssSha256),
    ("pss-384", SigningAlgorithm::RsassaPssSha384),
    ("pss-512", SigningAlgorithm::RsassaPssSha512),
];

fn curve_algorithm(spec: KeySpec) -> SigningAlgorithm {
    // Ed25519's list begins with Ed25519ph.
    *spec.signing_algorithms().last().unwrap()
}

/// Catches an import that derives another public key than openssl, or writes it otherwise.
#[test]
fn public_keys_are_as_openssl_writes_them() {
    for (name, spec) in RSA.into_iter().chain(CURVES) {
        // openssl names the curve twice for SM2, as it does here.
        let expected = file(&format!("{name}.spki"));
        assert_eq!(
            pair(name, spec).public_key_der().unwrap(),
            expected,
            "{name}"
        );
    }
}

/// Catches a signature of openssl that does not verify, or verifies for another message.
#[test]
fn openssl_signatures_verify() {
    let message = file("message");
    let mut cases = Vec::new();
    for (name, spec) in RSA {
        for (suffix, algorithm) in RSA_SIGNATURES {
            cases.push((name, spec, algorithm, format!("{name}-{suffix}.sig")));
        }
    }
    for (name, spec) in CURVES {
        cases.push((name, spec, curve_algorithm(spec), format!("{name}.sig")));
    }
    for (name, spec, algorithm, signature) in cases {
        let (key, signature) = (pair(name, spec), file(&signature));
        let verify = |message: &[u8]| key.verify(algorithm, MessageType::Raw, message, &signature);
        assert_eq!(verify(&message), Ok(true), "{name} {algorithm}");
        assert_eq!(verify(b"another message"), Ok(false), "{name} {algorithm}");
    }
}

/// Catches a ciphertext of openssl that does not decrypt here: OAEP, and SM2's encoding.
#[test]
fn openssl_ciphertexts_decrypt() {
    let message = file("message");
    for (name, spec) in RSA {
        for (suffix, algorithm) in [
            ("sha1", EncryptionAlgorithm::RsaesOaepSha1),
            ("sha256", EncryptionAlgorithm::RsaesOaepSha256),
        ] {
            let ciphertext = file(&format!("{name}-oaep-{suffix}.enc"));
            let decrypted = pair(name, spec).decrypt(algorithm, &ciphertext);
            assert_eq!(*decrypted.unwrap(), message, "{name} {suffix}");
        }
    }
    let decrypted =
        pair("sm2", KeySpec::Sm2).decrypt(EncryptionAlgorithm::Sm2Pke, &file("sm2.enc"));
    assert_eq!(*decrypted.unwrap(), message);
}

/// Catches a shared secret that differs from openssl's.
#[test]
fn shared_secrets_are_openssl_s() {
    for (name, spec) in &CURVES[..3] {
        let agreed = pair(name, *spec).agree(&file(&format!("{name}-peer.spki")));
        assert_eq!(*agreed.unwrap(), file(&format!("{name}.shared")), "{name}");
    }
}

/// Catches material wrapped by openssl for import that does not come out.
#[test]
fn openssl_wrappings_open() {
    let key = pair("rsa2048", KeySpec::Rsa2048);
    for (suffix, algorithm) in [
        ("sha1", WrappingAlgorithm::RsaAesKeyWrapSha1),
        ("sha256", WrappingAlgorithm::RsaAesKeyWrapSha256),
    ] {
        let wrapped = file(&format!("wrapped-p256-{suffix}"));
        let opened = key.unwrap_import(algorithm, &wrapped).unwrap();
        assert_eq!(*opened, file("p256.pkcs8"), "{suffix}");
        for at in [0, 255, 256, wrapped.len() - 1] {
            let mut damaged = wrapped.clone();
            damaged[at] ^= 1;
            assert!(key.unwrap_import(algorithm, &damaged).is_err(), "byte {at}");
            assert!(key.unwrap_import(algorithm, &wrapped[..at]).is_err());
        }
    }
}

/// Runs openssl in a folder; whether it succeeded.
fn openssl(folder: &Path, arguments: &str) -> bool {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("the openssl program is installed");
    output.status.success()
}

/// Catches signatures, ciphertexts and private keys that openssl does not take.
#[test]
#[ignore = "runs the openssl program, which is not everywhere"]
fn openssl_takes_what_is_made_here() {
    let entropy = CountingEntropy(7.into());
    let folder = std::env::temp_dir().join(format!("keyrum-openssl-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
    let message = file("message");
    write("message", &message);

    let mut cases = Vec::new();
    for (name, spec) in RSA {
        for (suffix, algorithm) in RSA_SIGNATURES {
            let (padding, bits) = suffix.split_once('-').unwrap();
            let options = match padding {
                "pss" => "-pkeyopt rsa_padding_mode:pss -pkeyopt rsa_pss_saltlen:digest",
                _ => "",
            };
            cases.push((
                name,
                spec,
                algorithm,
                format!("-digest sha{bits} {options}"),
            ));
        }
    }
    for (name, spec) in CURVES {
        let options = match spec {
            KeySpec::EccNistP384 => "-digest sha384",
            KeySpec::EccNistP521 => "-digest sha512",
            KeySpec::EccNistEdwards25519 => "",
            KeySpec::Sm2 => "-digest sm3 -pkeyopt distid:1234567812345678",
            _ => "-digest sha256",
        };
        cases.push((name, spec, curve_algorithm(spec), options.to_owned()));
    }
    for (name, spec, algorithm, options) in cases {
        let key = pair(name, spec);
        write("key", key.public_key_der().unwrap());
        let verify =
            "pkeyutl -verify -pubin -keyform DER -inkey key -rawin -in message -sigfile sig";
        let signature = key.sign(algorithm, MessageType::Raw, &message, &entropy);
        write("sig", &signature.unwrap());
        let taken = openssl(&folder, &format!("{verify} {options}"));
        assert!(taken, "{name} {algorithm}");
        write("sig", b"no signature");
        assert!(!openssl(&folder, &format!("{verify} {options}")), "{name}");

        write("private", &key.private_key_der().unwrap());
        let public = "pkey -inform DER -in private -pubout -outform DER -out public";
        assert!(openssl(&folder, public), "{name}");
        assert_eq!(
            fs::read(folder.join("public")).unwrap(),
            key.public_key_der().unwrap()
        );
    }
    for (name, spec) in RSA {
        for (hash, algorithm) in [
            ("sha1", EncryptionAlgorithm::RsaesOaepSha1),
            ("sha256", EncryptionAlgorithm::RsaesOaepSha256),
        ] {
            let options = format!("-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:{hash}");
            decrypts(&folder, &pair(name, spec), algorithm, &options);
        }
    }
    decrypts(
        &folder,
        &pair("sm2", KeySpec::Sm2),
        EncryptionAlgorithm::Sm2Pke,
        "",
    );
    fs::remove_dir_all(&folder).unwrap();
}

fn decrypts(folder: &Path, key: &UsableKey, algorithm: EncryptionAlgorithm, options: &str) {
    let entropy = CountingEntropy(9.into());
    let ciphertext = key.encrypt(algorithm, b"a plaintext", &entropy).unwrap();
    fs::write(folder.join("private"), &*key.private_key_der().unwrap()).unwrap();
    fs::write(folder.join("enc"), ciphertext).unwrap();
    let decrypt = "pkeyutl -decrypt -keyform DER -inkey private -in enc -out plain";
    assert!(
        openssl(folder, &format!("{decrypt} {options}")),
        "{algorithm}"
    );
    assert_eq!(fs::read(folder.join("plain")).unwrap(), b"a plaintext");
}
