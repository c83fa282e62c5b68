//! What is taken for material and what is not.

use keyrum_types::{KeyId, KeySpec};

use super::super::{InvalidMaterial, import_material};
use super::openssl::{CURVES, RSA, file, material, pair};
use crate::testing::CountingEntropy;
use crate::{DomainKeyring, KeyName, MATERIAL_BYTES_MAX, MaterialSecret, generate_material};

fn refused(spec: KeySpec, bytes: &[u8]) -> bool {
    import_material(spec, "aws", bytes).err() == Some(InvalidMaterial { spec })
}

/// Catches a key pair that becomes another by leaving and coming back, and material whose name
/// depends on how the PKCS#8 was written (openssl leaves the curve out of the inner structure).
#[test]
fn what_is_exported_can_be_imported() {
    for (name, spec) in RSA.into_iter().chain(CURVES) {
        let private = pair(name, spec).private_key_der().unwrap();
        let imported = import_material(spec, "aws", &private).ok().unwrap();
        assert_eq!(imported.expose(), material(name, spec).expose(), "{name}");
    }
}

/// Catches a key of one spec that is taken for one of another.
#[test]
fn keys_of_other_specs_are_refused() {
    for (name, own) in RSA.into_iter().chain(CURVES) {
        let pkcs8 = file(&format!("{name}.pkcs8"));
        for &spec in KeySpec::ALL {
            // Any bytes of a permitted length are an HMAC key.
            let any_bytes = spec
                .secret_bytes("aws")
                .is_some_and(|lengths| lengths.contains(&pkcs8.len()));
            assert_eq!(
                refused(spec, &pkcs8),
                spec != own && !any_bytes,
                "{name} {spec}"
            );
        }
    }
}

/// Catches curves by parameters, more than two primes, and damaged, cut or prolonged documents.
#[test]
fn odd_and_damaged_documents_are_refused() {
    assert!(refused(KeySpec::EccNistP256, &file("p256-explicit.pkcs8")));
    assert!(refused(KeySpec::Rsa2048, &file("rsa2048-three.pkcs8")));
    for (name, spec) in CURVES {
        let pkcs8 = file(&format!("{name}.pkcs8"));
        for at in 0..pkcs8.len() {
            assert!(refused(spec, &pkcs8[..at]), "{name} cut to {at}");
        }
        assert!(refused(spec, &[&pkcs8[..], &[0]].concat()), "{name}");
        assert!(refused(spec, b""), "{name}");
        // The public key stands at the end and must be the private one's; Ed25519 has none.
        if spec != KeySpec::EccNistEdwards25519 {
            let mut damaged = pkcs8.clone();
            *damaged.last_mut().unwrap() ^= 1;
            assert!(refused(spec, &damaged), "{name}");
        }
    }
    // Edwards25519 may carry its public key in the newer form (RFC 8410, section 7).
    let (private, public) = (file("ed25519.pkcs8"), file("ed25519.spki"));
    let newer = |public: &[u8]| {
        let parts: [&[u8]; 4] = [
            &[0x30, 0x51, 2, 1, 1],
            &private[5..],
            &[0x81, 0x21, 0],
            public,
        ];
        parts.concat()
    };
    let spec = KeySpec::EccNistEdwards25519;
    let imported = import_material(spec, "aws", &newer(&public[12..])).unwrap_or_else(|_| panic!());
    assert_eq!(imported.expose(), material("ed25519", spec).expose());
    assert!(refused(spec, &newer(&[7; 32])));
    let pkcs8 = file("rsa2048.pkcs8");
    for at in (60..pkcs8.len()).step_by(97) {
        let mut damaged = pkcs8.clone();
        damaged[at] ^= 1;
        assert!(refused(KeySpec::Rsa2048, &damaged), "inconsistent at {at}");
    }
}

/// Catches PKCS#8 with open lengths (BER) that is refused, or makes another key; Edwards25519 must
/// be DER.
#[test]
fn open_lengths_are_taken() {
    for (name, spec) in RSA.into_iter().chain(CURVES) {
        let pkcs8 = file(&format!("{name}.pkcs8"));
        let header = match pkcs8[1] {
            0x82 => 4,
            0x81 => 3,
            _ => 2,
        };
        let open = [&[0x30, 0x80], &pkcs8[header..], &[0, 0]].concat();
        if spec == KeySpec::EccNistEdwards25519 {
            assert!(refused(spec, &open));
            continue;
        }
        let imported = import_material(spec, "aws", &open).expect(name);
        assert_eq!(imported.expose(), material(name, spec).expose(), "{name}");
        assert!(refused(spec, &open[..open.len() - 1]), "{name}");
        assert!(refused(spec, &open[..open.len() - 2]), "{name}");
    }
}

/// Catches a secret of a forbidden length that is taken, or of a permitted one that is not.
#[test]
fn secrets_have_their_lengths() {
    for (spec, partition, lengths) in [
        (KeySpec::SymmetricDefault, "aws", 32..=32),
        (KeySpec::SymmetricDefault, "aws-cn", 16..=16),
        (KeySpec::Hmac224, "aws", 28..=128),
        (KeySpec::Hmac256, "aws", 32..=128),
        (KeySpec::Hmac384, "aws-cn", 48..=128),
        (KeySpec::Hmac512, "aws", 64..=128),
    ] {
        for length in 0..200 {
            let taken = import_material(spec, partition, &vec![1; length]).is_ok();
            assert_eq!(taken, lengths.contains(&length), "{spec} {length}");
        }
    }
}

/// Catches material that cannot be imported: ML-DSA's and ML-KEM's own seeds.
#[test]
fn post_quantum_keys_are_not_imported() {
    for &spec in KeySpec::ALL.iter().filter(|spec| !spec.is_importable()) {
        let seed = generate_material(spec, "aws", &CountingEntropy(1.into()));
        assert!(refused(spec, seed.ok().unwrap().expose()), "{spec}");
    }
}

/// Catches material of another length than 32 bytes that does not survive being sealed, and
/// lengths out of bounds.
#[test]
fn material_of_any_length_can_be_sealed() {
    let entropy = CountingEntropy(1.into());
    let keyring = DomainKeyring::generate(&entropy);
    let name = KeyName {
        account: "111122223333".parse().unwrap(),
        key: KeyId::single_region([1; 16]),
    };
    let secrets = RSA.into_iter().chain(CURVES);
    let mut secrets: Vec<_> = secrets.map(|(name, spec)| material(name, spec)).collect();
    secrets.push(MaterialSecret::from_slice(&[1]).unwrap());
    secrets.push(MaterialSecret::from_slice(&[2; MATERIAL_BYTES_MAX]).unwrap());
    for secret in secrets {
        let id = secret.id(name.key);
        let sealed = keyring.seal(name, id, &secret, &entropy);
        let opened = keyring.unseal(name, id, &sealed).ok().unwrap();
        assert_eq!(opened.expose(), secret.expose());
    }
    assert!(MaterialSecret::from_slice(&[]).is_none());
    assert!(MaterialSecret::from_slice(&[0; MATERIAL_BYTES_MAX + 1]).is_none());
}
