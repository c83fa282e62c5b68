//! Tests of keys, through the public surface where a private key is at hand.

mod import;
mod openssl;
mod public_vectors;
mod secret_vectors;
mod sm2_vectors;
mod surface;

use keyrum_types::KeySpec;

use super::UsableKey;
use crate::MaterialSecret;

/// A key from material in canonical form.
fn key(spec: KeySpec, bytes: &[u8]) -> UsableKey {
    let secret = MaterialSecret::from_slice(bytes).expect("material of a permitted length");
    UsableKey::new(spec, &secret).expect("material of the spec")
}

/// Big-endian bytes brought to a length.
fn padded(bytes: &[u8], length: usize) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    let digits = &bytes[zeros..];
    [vec![0; length - digits.len()], digits.to_vec()].concat()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |b: u8| (b as char).to_digit(16).expect("hexadecimal") as u8;
    let text: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    text.chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}
