//! What the owner of key material does before an import.

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey,
};

/// Wraps material to a public key (a SubjectPublicKeyInfo in DER) with one of the API's RSA algorithms.
pub fn wrap(algorithm: &str, public: &[u8], material: &[u8]) -> Vec<u8> {
    let public = PublicEncryptingKey::from_der(public).expect("it can be wrapped");
    let public = OaepPublicEncryptingKey::new(public).expect("it can be wrapped");
    let hash = match algorithm.ends_with("SHA_1") {
        true => &OAEP_SHA1_MGF1SHA1,
        false => &OAEP_SHA256_MGF1SHA256,
    };
    let oaep = |bytes: &[u8]| {
        let mut out = vec![0; public.ciphertext_size()];
        public
            .encrypt(hash, bytes, &mut out, None)
            .expect("it can be wrapped");
        out
    };
    if algorithm.starts_with("RSAES_OAEP") {
        return oaep(material);
    }
    let mut wrapped = vec![0; material.len() + 16];
    let kek = AesKek::new(&AES_256, &[7; 32]).expect("it can be wrapped");
    let length = kek
        .wrap_with_padding(material, &mut wrapped)
        .expect("it can be wrapped")
        .len();
    wrapped.truncate(length);
    [oaep(&[7; 32]), wrapped].concat()
}

/// A file that the openssl program made (`crates/crypto/golden/openssl.sh`), such as a key pair.
pub fn openssl(name: &str) -> Vec<u8> {
    let text = include_str!("../../crates/crypto/golden/openssl.txt");
    let mut files = text.lines().filter_map(|line| line.split_once(' '));
    let (_, hex) = files
        .find(|(file, _)| *file == name)
        .expect("a file of that name");
    let digits = (0..hex.len()).step_by(2);
    digits
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits"))
        .collect()
}
