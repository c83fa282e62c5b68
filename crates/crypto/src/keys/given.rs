//! Material that somebody hands over in the clear, for tests: fixtures, and the tags of other
//! emulators. Private keys come in more forms there than an import takes.

use der::Decode;
use der::asn1::{AnyRef, OctetStringRef};
use keyrum_types::{KeyFamily, KeySpec};
use pkcs8::spki::AlgorithmIdentifierRef;
use pkcs8::{ObjectIdentifier, PrivateKeyInfoRef};
use sec1::{EcParameters, EcPrivateKey};
use zeroize::Zeroizing;

use super::encoding::{curve_name, in_pkcs8, point_algorithm};
use super::import::{InvalidMaterial, import_material};
use super::{ml_dsa, ml_kem};
use crate::material::MaterialSecret;

/// rsaEncryption (RFC 8017, appendix A.1).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// Context tag 0, primitive: a seed alone (RFC 9881, section 6; RFC 9935, section 6).
const SEED_TAG: u8 = 0x80;

/// What [`import_material`] takes, and also: RSA keys as PKCS#1, keys on curves as the ECPrivateKey of
/// SEC 1, and ML-DSA and ML-KEM keys as PKCS#8 that has their seed. All but PKCS#8 in strict DER.
pub fn given_material(
    spec: KeySpec,
    partition: &str,
    bytes: &[u8],
) -> Result<MaterialSecret, InvalidMaterial> {
    let invalid = InvalidMaterial { spec };
    match spec.family() {
        KeyFamily::MlDsa | KeyFamily::MlKem => seed(spec, bytes).ok_or(invalid),
        KeyFamily::Rsa | KeyFamily::Ecc | KeyFamily::Sm2 => import_material(spec, partition, bytes)
            .or_else(|_| {
                let pkcs8 = wrapped(spec, bytes).ok_or(invalid)?;
                import_material(spec, partition, &pkcs8)
            }),
        KeyFamily::Symmetric | KeyFamily::Hmac => import_material(spec, partition, bytes),
    }
}

/// A private key's own structure, put into PKCS#8.
fn wrapped(spec: KeySpec, bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if spec.family() == KeyFamily::Rsa {
        let algorithm = AlgorithmIdentifierRef {
            oid: RSA,
            parameters: Some(AnyRef::NULL),
        };
        return Some(in_pkcs8(algorithm, bytes));
    }
    let curve = curve_name(spec)?;
    let key = EcPrivateKey::from_der(bytes).ok()?;
    match key.parameters {
        Some(EcParameters::NamedCurve(named)) if named != curve => None,
        _ => Some(in_pkcs8(point_algorithm(&curve), bytes)),
    }
}

/// The name of an algorithm whose keys have seeds, and the bytes of one.
/// Sources: RFC 9881, section 3; RFC 9935, section 3.
fn seeded(spec: KeySpec) -> Option<(ObjectIdentifier, usize)> {
    let (name, length) = match spec {
        KeySpec::MlDsa44 => ("2.16.840.1.101.3.4.3.17", ml_dsa::SEED_BYTES),
        KeySpec::MlDsa65 => ("2.16.840.1.101.3.4.3.18", ml_dsa::SEED_BYTES),
        KeySpec::MlDsa87 => ("2.16.840.1.101.3.4.3.19", ml_dsa::SEED_BYTES),
        KeySpec::MlKem512 => ("2.16.840.1.101.3.4.4.1", ml_kem::SEED_BYTES),
        KeySpec::MlKem768 => ("2.16.840.1.101.3.4.4.2", ml_kem::SEED_BYTES),
        KeySpec::MlKem1024 => ("2.16.840.1.101.3.4.4.3", ml_kem::SEED_BYTES),
        _ => return None,
    };
    Some((ObjectIdentifier::new_unwrap(name), length))
}

/// The seed in PKCS#8 of an ML-DSA or ML-KEM key: alone, or before the expanded key.
fn seed(spec: KeySpec, bytes: &[u8]) -> Option<MaterialSecret> {
    let (algorithm, length) = seeded(spec)?;
    let info = PrivateKeyInfoRef::from_der(bytes).ok()?;
    if info.algorithm.oid != algorithm {
        return None;
    }
    let key = info.private_key.as_bytes();
    let seed = match key.split_first()? {
        (&SEED_TAG, rest) => rest.strip_prefix(&[u8::try_from(length).ok()?])?,
        _ => {
            let both = AnyRef::from_der(key).ok()?;
            let both = both.sequence(|reader| {
                let seed = <&OctetStringRef>::decode(reader)?;
                let _expanded = <&OctetStringRef>::decode(reader)?;
                Ok::<_, der::Error>(seed)
            });
            both.ok()?.as_bytes()
        }
    };
    MaterialSecret::from_slice(seed).filter(|_| seed.len() == length)
}

#[cfg(test)]
mod tests {
    use keyrum_types::KeyId;

    use super::*;
    use crate::keys::UsableKey;
    use crate::keys::generate_material;
    use crate::testing::CountingEntropy;

    /// Catches a form of private key that other emulators' users have and that is not taken, or that
    /// becomes another key.
    #[test]
    fn private_keys_come_in_many_forms() {
        let entropy = CountingEntropy(1.into());
        let id = |secret: &MaterialSecret| secret.id(KeyId::single_region([1; 16]));
        for spec in [
            KeySpec::Rsa2048,
            KeySpec::EccNistP256,
            KeySpec::EccNistP384,
            KeySpec::EccNistP521,
            KeySpec::EccSecgP256k1,
            KeySpec::EccNistEdwards25519,
        ] {
            let secret = generate_material(spec, "aws", &entropy).unwrap();
            let usable = UsableKey::new(spec, &secret).unwrap();
            let pkcs8 = usable.private_key_der().unwrap();
            let given = |bytes: &[u8]| given_material(spec, "aws", bytes);
            assert_eq!(id(&given(&pkcs8).unwrap()), id(&secret), "{spec}");
            if spec != KeySpec::EccNistEdwards25519 {
                let info = PrivateKeyInfoRef::from_der(&pkcs8).unwrap();
                let inner = info.private_key.as_bytes();
                assert_eq!(id(&given(inner).unwrap()), id(&secret), "{spec}");
            }
            assert!(given(&pkcs8[1..]).is_err(), "{spec}");
            for other in [KeySpec::Rsa3072, KeySpec::Sm2, KeySpec::MlDsa44] {
                assert!(
                    given_material(other, "aws", &pkcs8).is_err(),
                    "{spec} {other}"
                );
            }
        }
    }

    /// Catches seeds that are not found in either of their places, or of another length.
    #[test]
    fn seeds_stand_alone_or_before_the_expanded_key() {
        for (spec, length) in [(KeySpec::MlDsa65, 32_u8), (KeySpec::MlKem768, 64)] {
            let algorithm = AlgorithmIdentifierRef {
                oid: seeded(spec).unwrap().0,
                parameters: None,
            };
            let of = |inner: &[u8]| given_material(spec, "aws", &in_pkcs8(algorithm, inner));
            let seed = vec![7; length.into()];
            let alone = [&[SEED_TAG, length], &seed[..]].concat();
            let expanded = [4, 2, 1, 2];
            let inside = [&[4, length], &seed[..], &expanded].concat();
            let both = [&[0x30, inside.len() as u8], &inside[..]].concat();
            for inner in [&alone, &both] {
                assert_eq!(of(inner).unwrap().expose(), seed);
                UsableKey::new(spec, &of(inner).unwrap()).unwrap();
            }
            for inner in [&alone[..alone.len() - 1], &both[2..], &seed, &expanded] {
                assert!(of(inner).is_err());
            }
        }
    }
}
