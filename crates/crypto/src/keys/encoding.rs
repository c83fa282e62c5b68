//! SubjectPublicKeyInfo (RFC 5280) and PKCS#8 (RFC 5208, RFC 5958) where the library that holds
//! the key does not write them as the real service does.

use der::asn1::{Any, BitString, BitStringRef, OctetString, OctetStringRef};
use der::{Decode, Encode};
use keyrum_types::KeySpec;
use pkcs8::spki::{AlgorithmIdentifier, AlgorithmIdentifierRef, SubjectPublicKeyInfo};
use pkcs8::{ObjectIdentifier, PrivateKeyInfo, PrivateKeyInfoRef};
use sec1::{EcParameters, EcPrivateKey};
use zeroize::Zeroizing;

/// id-ecPublicKey (RFC 5480, section 2.1.1); SM2 keys have it too.
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

const WRITES: &str = "DER of a few kilobytes can be written";

/// A curve's name. Sources: RFC 5480 section 2.1.1.1, SEC 2 section A.2.1, GM/T 0006.
pub(super) fn curve_name(spec: KeySpec) -> Option<ObjectIdentifier> {
    let name = match spec {
        KeySpec::EccNistP256 => "1.2.840.10045.3.1.7",
        KeySpec::EccNistP384 => "1.3.132.0.34",
        KeySpec::EccNistP521 => "1.3.132.0.35",
        KeySpec::EccSecgP256k1 => "1.3.132.0.10",
        KeySpec::Sm2 => "1.2.156.10197.1.301",
        _ => return None,
    };
    Some(ObjectIdentifier::new_unwrap(name))
}

fn spki(algorithm: AlgorithmIdentifier<Any>, key: &[u8]) -> Vec<u8> {
    let subject_public_key = BitStringRef::from_bytes(key).expect(WRITES);
    let info = SubjectPublicKeyInfo {
        algorithm,
        subject_public_key,
    };
    info.to_der().expect(WRITES)
}

/// A public point, uncompressed, as a SubjectPublicKeyInfo.
pub(super) fn point_spki(curve: ObjectIdentifier, point: &[u8]) -> Vec<u8> {
    let algorithm = AlgorithmIdentifier {
        oid: EC_PUBLIC_KEY,
        parameters: Some(Any::from(curve)),
    };
    spki(algorithm, point)
}

/// A public key of an algorithm without parameters as a SubjectPublicKeyInfo.
pub(super) fn plain_spki(algorithm: ObjectIdentifier, key: &[u8]) -> Vec<u8> {
    let algorithm = AlgorithmIdentifier {
        oid: algorithm,
        parameters: None,
    };
    spki(algorithm, key)
}

/// How PKCS#8 names an algorithm on a curve.
pub(super) fn point_algorithm(curve: &ObjectIdentifier) -> AlgorithmIdentifierRef<'_> {
    AlgorithmIdentifierRef {
        oid: EC_PUBLIC_KEY,
        parameters: Some(curve.into()),
    }
}

/// PKCS#8 of an algorithm's own structure.
pub(super) fn in_pkcs8(algorithm: AlgorithmIdentifierRef<'_>, key: &[u8]) -> Zeroizing<Vec<u8>> {
    let key = OctetStringRef::new(key).expect(WRITES);
    let info = PrivateKeyInfoRef::new(algorithm, key);
    Zeroizing::new(info.to_der().expect(WRITES))
}

/// A private scalar as PKCS#8. The inner ECPrivateKey (RFC 5915) repeats the curve and carries the
/// public point, as the real service's does.
pub(super) fn scalar_pkcs8(
    curve: ObjectIdentifier,
    scalar: &[u8],
    point: &[u8],
) -> Zeroizing<Vec<u8>> {
    let inner = EcPrivateKey {
        private_key: scalar,
        parameters: Some(EcParameters::NamedCurve(curve)),
        public_key: Some(point),
    };
    let inner = Zeroizing::new(inner.to_der().expect(WRITES));
    in_pkcs8(point_algorithm(&curve), &inner)
}

/// A private key of an algorithm without parameters as PKCS#8; `key` is the content of the inner
/// octet string.
pub(super) fn plain_pkcs8(algorithm: ObjectIdentifier, key: &[u8]) -> Zeroizing<Vec<u8>> {
    let algorithm = AlgorithmIdentifierRef {
        oid: algorithm,
        parameters: None,
    };
    in_pkcs8(algorithm, key)
}

/// Whether this is PKCS#8 in DER, and nothing follows it.
pub(super) fn is_strict_pkcs8(document: &[u8]) -> bool {
    PrivateKeyInfoRef::from_der(document).is_ok()
}

/// PKCS#8 as strict DER. BER of the outer structure, such as lengths left open, is written anew
/// without the attributes; what is inside the inner octet string is left as it is.
pub(super) fn strict_pkcs8(document: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if is_strict_pkcs8(document) {
        return Some(Zeroizing::new(document.to_vec()));
    }
    type Owned = PrivateKeyInfo<Any, OctetString, BitString>;
    let info = Owned::from_ber(document).ok()?;
    let strict = info.to_der().ok().map(Zeroizing::new);
    // The library's type does not zero what it copied.
    drop(Zeroizing::new(info.private_key.into_bytes().into_vec()));
    strict
}

/// What PKCS#8 says about an elliptic curve key.
pub(super) struct EcPrivate {
    /// Big-endian, as long as it was written.
    pub(super) scalar: Zeroizing<Vec<u8>>,
    /// The points that were beside it, in whatever form.
    pub(super) points: Vec<Vec<u8>>,
}

/// Takes PKCS#8 of a key on the named curve apart. Explicit curve parameters are refused, whatever
/// curve they describe.
pub(super) fn parse_ec_pkcs8(curve: ObjectIdentifier, der: &[u8]) -> Option<EcPrivate> {
    let info = PrivateKeyInfoRef::from_der(der).ok()?;
    let named = info.algorithm.parameters?.decode_as::<ObjectIdentifier>();
    if info.algorithm.oid != EC_PUBLIC_KEY || named.ok()? != curve {
        return None;
    }
    let inner = EcPrivateKey::from_der(info.private_key.as_bytes()).ok()?;
    if let Some(EcParameters::NamedCurve(inner)) = inner.parameters
        && inner != curve
    {
        return None;
    }
    let outer_point = info.public_key.and_then(|bits| bits.as_bytes());
    let points = [inner.public_key, outer_point].into_iter().flatten();
    Some(EcPrivate {
        scalar: Zeroizing::new(inner.private_key.to_vec()),
        points: points.map(<[u8]>::to_vec).collect(),
    })
}

/// What a SubjectPublicKeyInfo says about an elliptic curve key.
pub(super) enum EcPublic {
    /// On this curve: the point in whatever form.
    Point(Vec<u8>),
    /// A public key on another curve, or none on a curve.
    Other,
}

/// Takes a SubjectPublicKeyInfo apart; `None` if it is none.
pub(super) fn parse_ec_spki(curve: ObjectIdentifier, der: &[u8]) -> Option<EcPublic> {
    let info = SubjectPublicKeyInfo::<Any, BitStringRef<'_>>::from_der(der).ok()?;
    let named = info.algorithm.parameters.as_ref();
    let named = named.and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    if info.algorithm.oid != EC_PUBLIC_KEY || named != Some(curve) {
        return Some(EcPublic::Other);
    }
    Some(EcPublic::Point(
        info.subject_public_key.as_bytes()?.to_vec(),
    ))
}
