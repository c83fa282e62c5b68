//! Material as files write it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keyrum_crypto::{MaterialSecret, given_material};
use keyrum_types::KeySpec;
use zeroize::Zeroizing;

/// One version, as text. Without Debug.
pub(super) enum Given {
    Hex(String),
    Base64(String),
    /// An unencrypted private key: PKCS#8, PKCS#1 or SEC 1.
    Pem(String),
}

/// The first of some kinds that all versions can be of, and the versions. Without any, the first.
pub(super) fn of_kinds(
    kinds: &[KeySpec],
    partition: &str,
    given: Vec<Given>,
) -> Result<(KeySpec, Vec<MaterialSecret>), String> {
    let bytes = given.iter().map(bytes).collect::<Result<Vec<_>, _>>()?;
    let of = |spec: &KeySpec| {
        let secrets = bytes
            .iter()
            .map(|bytes| given_material(*spec, partition, bytes));
        Some((*spec, secrets.collect::<Result<Vec<_>, _>>().ok()?))
    };
    kinds.iter().find_map(of).ok_or_else(|| {
        let names: Vec<_> = kinds.iter().map(|spec| spec.name()).collect();
        format!("is no material of a {} key", names.join(" or "))
    })
}

fn bytes(given: &Given) -> Result<Zeroizing<Vec<u8>>, String> {
    match given {
        Given::Hex(text) => hex(text).ok_or_else(|| "is not hexadecimal".to_owned()),
        Given::Base64(text) => {
            let plain: Zeroizing<String> = Zeroizing::new(text.split_whitespace().collect());
            let bytes = STANDARD.decode(&*plain).map(Zeroizing::new);
            bytes.map_err(|_| "is not base64".to_owned())
        }
        Given::Pem(text) => pem(text)
            .ok_or_else(|| "is no private key in PEM, or is one with a password".to_owned()),
    }
}

fn hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.map(Zeroizing::new)?;
    let byte = |pair: &[u32]| u8::try_from(pair[0] << 4 | pair[1]).ok();
    let whole = digits.len().is_multiple_of(2);
    let bytes = whole.then(|| digits.chunks_exact(2).map(byte).collect::<Option<_>>())?;
    bytes.map(Zeroizing::new)
}

/// The first private key in PEM (RFC 7468); other blocks, such as curve parameters, are skipped.
fn pem(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| {
        let label = line.strip_prefix("-----BEGIN ");
        let label = label.and_then(|label| label.strip_suffix("PRIVATE KEY-----"));
        label.is_some_and(|kind| !kind.starts_with("ENCRYPTED"))
    })?;
    let body = lines.take_while(|line| !line.starts_with("-----END "));
    let body: Zeroizing<String> = Zeroizing::new(body.collect());
    STANDARD.decode(&*body).ok().map(Zeroizing::new)
}
