//! Documents of a made-up enclave: right ones, and each kind of wrong one.

use std::fs;
use std::process::Command;
use std::sync::LazyLock;

use aws_lc_rs::rsa::KeySize;
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};

use super::testing::{ALWAYS, Enclave, Fields, Hypervisor, bytes, head, text};
use super::*;
use crate::testing::CountingEntropy;

/// 2026-01-01.
const NOW: UnixMillis = UnixMillis(1_767_225_600_000);

/// The expensive parts, made once.
static HYPERVISOR: LazyLock<Hypervisor> = LazyLock::new(Hypervisor::make);
static ENCLAVE: LazyLock<Enclave> = LazyLock::new(|| Enclave::new(KeySize::Rsa2048));

fn roots(hypervisor: &Hypervisor) -> AttestationRoots {
    AttestationRoots::from_pem(hypervisor.root_pem.as_bytes())
        .ok()
        .unwrap()
}

fn fields() -> Fields {
    HYPERVISOR.fields(NOW.0, &ENCLAVE.public_key)
}

fn document() -> Vec<u8> {
    HYPERVISOR.document(&fields())
}

/// Why a document is refused by the root that it leads to.
fn refusal(document: &[u8]) -> Option<AttestationError> {
    roots(&HYPERVISOR).verify(document, NOW).err()
}

/// The refusal of a document, one of whose fields says something else; without a value it has no
/// such field.
fn refusal_with(name: &'static str, value: Option<Vec<u8>>) -> Option<AttestationError> {
    let mut fields = fields();
    let place = fields.iter().position(|field| field.0 == name).unwrap();
    match value {
        Some(value) => fields[place].1 = value,
        None => drop(fields.remove(place)),
    }
    refusal(&HYPERVISOR.document(&fields))
}

fn is_malformed(refusal: Option<AttestationError>) -> bool {
    matches!(refusal, Some(AttestationError::Malformed { .. }))
}

/// Catches a document of a trusted enclave that is refused or misread, tagged or not, and an answer
/// that the enclave cannot read.
#[test]
fn an_enclave_is_answered() {
    let entropy = CountingEntropy(1.into());
    let untagged = document();
    let tagged = [&head(6, 18_u64)[..], &untagged].concat();
    for document in [untagged, tagged] {
        let attested = roots(&HYPERVISOR).verify(&document, NOW).ok().unwrap();
        let Pcrs::Enclave(pcrs) = &attested.pcrs else {
            panic!("an enclave has no TPM")
        };
        let expected: Vec<_> = (0..16).map(|index| (index, [index; 48])).collect();
        assert_eq!(pcrs.clone().into_iter().collect::<Vec<_>>(), expected);
        for length in [0, 1, 15, 16, 17, 32, 1024, 2400] {
            let secret = vec![7; length];
            let answer = attested.envelop(&secret, &entropy).unwrap();
            assert_eq!(ENCLAVE.open(&answer), secret);
        }
        // The length that a recorded answer of the real service has.
        assert_eq!(attested.envelop(&[7; 28], &entropy).unwrap().len(), 477);
        let [one, other] = [0, 1].map(|_| attested.envelop(b"secret", &entropy).unwrap());
        assert_ne!(one, other);
    }
}

/// Catches keys of a size that an enclave's library makes and that get no answer.
#[test]
fn every_size_of_key_is_answered() {
    let entropy = CountingEntropy(1.into());
    for size in [KeySize::Rsa3072, KeySize::Rsa4096] {
        let enclave = Enclave::new(size);
        let document = HYPERVISOR.attest(NOW.0, &enclave);
        let attested = roots(&HYPERVISOR).verify(&document, NOW).ok().unwrap();
        let answer = attested.envelop(b"secret", &entropy).unwrap();
        assert_eq!(enclave.open(&answer), b"secret");
    }
}

/// Catches a TPM's measurements that are taken for an enclave's.
#[test]
fn a_tpm_is_told_from_an_enclave() {
    let mut fields = fields();
    let place = fields.iter().position(|field| field.0 == "pcrs").unwrap();
    fields[place].0 = "nitrotpm_pcrs";
    let document = HYPERVISOR.document(&fields);
    let attested = roots(&HYPERVISOR).verify(&document, NOW).ok().unwrap();
    assert!(matches!(&attested.pcrs, Pcrs::NitroTpm(pcrs) if pcrs.len() == 16));
    fields.push(("pcrs", fields[place].1.clone()));
    assert!(is_malformed(refusal(&HYPERVISOR.document(&fields))));
}

/// Catches strictness that real enclaves do not live up to. The document is one from Frankfurt, as
/// the crate `nitro_attest` 0.2.0 has it among its tests' fixtures (MIT).
#[test]
fn a_real_document_is_believed_at_its_time() {
    let document = include_bytes!("../../golden/nitro-attestation.cose");
    let made = UnixMillis(1_736_179_625_000);
    let at = |now: UnixMillis| AttestationRoots::default().verify(document, now);
    let attested = at(made).ok().unwrap();
    assert!(matches!(&attested.pcrs, Pcrs::Enclave(pcrs) if pcrs.len() == 16));
    assert!(
        attested
            .envelop(b"secret", &CountingEntropy(1.into()))
            .is_ok()
    );
    let hours_later = made.plus_ms(2 * 60 * 60 * 1000);
    assert_eq!(at(hours_later).err(), Some(AttestationError::NotFresh));
    assert_eq!(at(NOW).err(), Some(AttestationError::Expired));
}

/// Catches a root that is not the one AWS publishes, and one that is trusted although another was
/// configured.
#[test]
fn the_real_root_is_the_published_one() {
    let real = AttestationRoots::default();
    let fingerprint = digest(&SHA256, &real.certificates[0]);
    let hex: String = fingerprint
        .as_ref()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let published = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b";
    assert_eq!((&*hex, real.anchors.len()), (published, 1));
    assert_eq!(
        real.verify(&document(), NOW).err(),
        Some(AttestationError::Untrusted)
    );
}

/// Catches a file of several roots of which one only counts, and a file that trusts nobody without
/// saying so.
#[test]
fn roots_are_read_or_refused() {
    let other = Hypervisor::make();
    let both = format!("{}\n{}", other.root_pem, HYPERVISOR.root_pem);
    let both = AttestationRoots::from_pem(both.as_bytes()).ok().unwrap();
    for hypervisor in [&other, &*HYPERVISOR] {
        let document = hypervisor.attest(NOW.0, &ENCLAVE);
        assert!(both.verify(&document, NOW).is_ok());
    }

    let refused = |pem: &str| AttestationRoots::from_pem(pem.as_bytes()).err().unwrap();
    assert_eq!(refused(""), InvalidAttestationRoots::Empty);
    assert_eq!(refused("text"), InvalidAttestationRoots::Empty);
    let cut = &HYPERVISOR.root_pem[..200];
    let not_pem = |error| matches!(error, InvalidAttestationRoots::NotPem { .. });
    assert!(not_pem(refused(cut)));
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let pem = format!("{}{no_certificate}", HYPERVISOR.root_pem);
    let not_a_root = |error| matches!(error, InvalidAttestationRoots::NotARoot { number: 2, .. });
    assert!(not_a_root(refused(&pem)));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let p256 = CertificateParams::default().self_signed(&key).unwrap();
    let other_curve = InvalidAttestationRoots::OtherCurve { number: 1 };
    assert_eq!(refused(&p256.pem()), other_curve);
}

/// Catches a chain that ends elsewhere, lacks a link or is out of date, and a signer that is not the
/// one whom the certificate names.
#[test]
fn others_documents_are_refused() {
    let other = Hypervisor::make();
    let untrusted = Some(AttestationError::Untrusted);
    assert_eq!(refusal(&other.attest(NOW.0, &ENCLAVE)), untrusted);
    // The right root in the bundle makes nobody trusted.
    let bundle = |ders: &[&Vec<u8>]| {
        let items = ders.iter().flat_map(|der| bytes(der));
        [head(4, ders.len()), items.collect()].concat()
    };
    let mixed = bundle(&[&HYPERVISOR.bundle[0], &other.bundle[1]]);
    assert_eq!(refusal_with("cabundle", Some(mixed)), untrusted);
    let without_authority = bundle(&[&HYPERVISOR.bundle[0]]);
    assert_eq!(refusal_with("cabundle", Some(without_authority)), untrusted);
    let without_root = bundle(&[&HYPERVISOR.bundle[1]]);
    assert_eq!(refusal_with("cabundle", Some(without_root)), None);
    // An authority's certificate is no signer's.
    let authority = bytes(&HYPERVISOR.bundle[1]);
    assert_eq!(refusal_with("certificate", Some(authority)), untrusted);

    let past = [(2020, 1, 1), (2025, 12, 31)];
    let future = [(2026, 1, 2), (2090, 1, 1)];
    for (days, error) in [
        (past, AttestationError::Expired),
        (future, AttestationError::NotYetValid),
    ] {
        for (authority, signer) in [(days, ALWAYS), (ALWAYS, days)] {
            let dated = Hypervisor::valid(authority, signer);
            let document = dated.attest(NOW.0, &ENCLAVE);
            assert_eq!(roots(&dated).verify(&document, NOW).err(), Some(error));
        }
    }

    let wrong = Some(AttestationError::WrongSignature);
    let mut document = document();
    *document.last_mut().unwrap() ^= 1;
    assert_eq!(refusal(&document), wrong);
    let foreign = other.document(&fields());
    assert_eq!(refusal(&foreign), wrong, "others sign for this certificate");
}

/// Catches documents that can be kept for later.
#[test]
fn documents_are_fresh() {
    let at = |now: u64| {
        roots(&HYPERVISOR)
            .verify(&document(), UnixMillis(now))
            .err()
    };
    let stale = Some(AttestationError::NotFresh);
    assert_eq!(at(NOW.0 + FRESH_MS), None);
    assert_eq!(at(NOW.0 + FRESH_MS + 1), stale);
    assert_eq!(at(NOW.0 - FRESH_MS), None);
    assert_eq!(at(NOW.0 - FRESH_MS - 1), stale);
    let never = Some(head(0, u64::MAX));
    assert_eq!(refusal_with("timestamp", never), stale);
}

/// Catches an answer that is encrypted to no key, or to one that was not checked.
#[test]
fn only_rsa_keys_of_known_sizes_are_encrypted_to() {
    let refused = |key: &[u8]| refusal_with("public_key", Some(bytes(key)));
    let none = Some(AttestationError::NoPublicKey);
    assert_eq!(refusal_with("public_key", None), none);
    assert_eq!(refusal_with("public_key", Some(vec![0xf6])), none);
    let invalid = Some(AttestationError::InvalidPublicKey);
    let curve = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    assert_eq!(refused(&curve.subject_public_key_info()), invalid);
    assert_eq!(refused(b""), invalid);
    let right = &ENCLAVE.public_key;
    assert_eq!(refused(&[right, &b"\0"[..]].concat()), invalid);
    assert_eq!(refused(&right[..right.len() - 1]), invalid);
    // 1024 bits; from openssl.
    let small = include_bytes!("../../golden/rsa-1024.spki");
    assert_eq!(refused(small), invalid);
}

/// Catches a document that is read although it is not in the one form there is.
#[test]
fn the_form_is_strict() {
    let document = document();
    for end in 0..document.len() {
        assert!(is_malformed(refusal(&document[..end])), "{end}");
    }
    assert!(is_malformed(refusal(&[&document[..], b"\0"].concat())));
    let tag = |tag: u64| [&head(6, tag)[..], &document].concat();
    assert!(is_malformed(refusal(&tag(17))));
    assert!(is_malformed(refusal(&[&b"\xd2"[..], &tag(18)].concat())));
    // Another algorithm, an entry in the unprotected header, and three or five parts.
    for (at, byte) in [(5, 0x23), (6, 0xa1), (0, 0x83), (0, 0x85), (0, 0x9f)] {
        let mut other = document.clone();
        other[at] = byte;
        assert!(is_malformed(refusal(&other)), "{at}");
    }

    for (name, _) in fields() {
        let optional = ["user_data", "nonce"].contains(&name);
        let absent = refusal_with(name, None);
        match name {
            "public_key" => assert_eq!(absent, Some(AttestationError::NoPublicKey)),
            _ => assert_eq!(is_malformed(absent), !optional, "{name}"),
        }
        // A map, a list left open, a number too large, and a byte string without end.
        for wrong in [
            vec![0xa0],
            vec![0x9f, 0xff],
            vec![0xfb; 9],
            vec![0x5f, 0xff],
        ] {
            assert!(is_malformed(refusal_with(name, Some(wrong))), "{name}");
        }
        let mut twice = fields();
        twice.push((name, fields().into_iter().find(|f| f.0 == name).unwrap().1));
        assert!(
            is_malformed(refusal(&HYPERVISOR.document(&twice))),
            "{name}"
        );
    }
    let mut unknown = fields();
    unknown.push(("unknown", vec![0]));
    assert!(is_malformed(refusal(&HYPERVISOR.document(&unknown))));

    let pcr = |index: u64, length| [head(0, index), bytes(&vec![1; length])].concat();
    let pcrs = |pcrs: &[Vec<u8>]| [head(5, pcrs.len()), pcrs.concat()].concat();
    let many: Vec<_> = (0..33).map(|index| pcr(index, 48)).collect();
    assert_eq!(refusal_with("pcrs", Some(pcrs(&many[..32]))), None);
    for (name, value) in [
        ("module_id", text("")),
        ("module_id", text(&"m".repeat(1025))),
        ("digest", text("SHA256")),
        ("pcrs", pcrs(&many)),
        ("pcrs", pcrs(&[])),
        ("pcrs", pcrs(&[pcr(0, 32)])),
        ("pcrs", pcrs(&[pcr(32, 48)])),
        ("pcrs", pcrs(&[pcr(3, 48), pcr(3, 48)])),
        ("certificate", bytes(&[1; 4097])),
        ("cabundle", head(4, 0_u64)),
        ("cabundle", [head(4, 9_u64), bytes(b"x").repeat(9)].concat()),
        ("public_key", bytes(&[1; 1025])),
        ("user_data", bytes(&[1; 1025])),
        ("nonce", text("nonce")),
    ] {
        assert!(is_malformed(refusal_with(name, Some(value))), "{name}");
    }
}

/// Catches nesting that exhausts the stack, and lengths that exhaust the memory.
#[test]
fn hostile_forms_cost_nothing() {
    const DOCUMENT_BYTES_MAX: usize = 262_144;
    let around = |inside: &[u8]| [b"\x84\x44\xa1\x01\x38\x22", inside].concat();
    for byte in [0x81, 0x9f, 0xa1, 0xbf, 0xc1, 0xd2, 0x5f, 0x7f] {
        let nested = vec![byte; DOCUMENT_BYTES_MAX];
        assert!(is_malformed(refusal(&nested)), "{byte:#x}");
        assert!(is_malformed(refusal(&around(&nested))), "{byte:#x}");
        assert!(
            is_malformed(refusal(&HYPERVISOR.signed(&nested))),
            "{byte:#x}"
        );
        let unused = refusal_with("user_data", Some(nested));
        assert!(is_malformed(unused), "{byte:#x}");
    }
    for kind in [2, 3, 4, 5] {
        for length in [u64::from(u32::MAX), u64::MAX / 2, u64::MAX] {
            let long = head(kind, length);
            assert!(is_malformed(refusal(&long)));
            assert!(is_malformed(refusal(&around(
                &[&b"\xa0"[..], &long].concat()
            ))));
            assert!(is_malformed(refusal(&HYPERVISOR.signed(&long))));
            for (name, _) in fields() {
                let refusal = refusal_with(name, Some(long.clone()));
                assert!(is_malformed(refusal), "{name}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Catches a panic, and a document that is believed although something in it was changed after
    /// it was signed.
    #[test]
    fn altered_documents_are_refused(
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
        cut in any::<prop::sample::Index>(),
        put in prop::collection::vec(any::<u8>(), 1..9),
    ) {
        let document = document();
        let mut other = document.clone();
        other[at.index(document.len())] ^= 1 << bit;
        prop_assert!(refusal(&other).is_some());
        let cut = cut.index(document.len());
        let mut other = document[..cut].to_vec();
        other.extend(&put);
        other.extend(&document[cut..]);
        prop_assert!(refusal(&other).is_some());
    }

    /// Catches a panic on what a trusted signer signs without looking.
    #[test]
    fn altered_payloads_never_panic(
        at in any::<prop::sample::Index>(),
        put in prop::collection::vec(any::<u8>(), 0..9),
        skip in 0..9_usize,
    ) {
        let fields = fields();
        let mut payload = head(5, fields.len());
        for (name, value) in &fields {
            payload.extend([text(name), value.clone()].concat());
        }
        let at = at.index(payload.len());
        let end = (at + skip).min(payload.len());
        payload.splice(at..end, put);
        let verified = roots(&HYPERVISOR).verify(&HYPERVISOR.signed(&payload), NOW);
        if let Ok(attested) = verified {
            let entropy = CountingEntropy(1.into());
            prop_assert!(attested.envelop(b"secret", &entropy).is_ok());
        }
    }
}

/// Catches answers that a second implementation of CMS cannot read.
#[test]
#[ignore = "runs the openssl program, which is not everywhere"]
fn openssl_reads_answers() {
    let folder = std::env::temp_dir().join(format!("keyrum-cms-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let attested = roots(&HYPERVISOR).verify(&document(), NOW).ok().unwrap();
    fs::write(folder.join("key"), &ENCLAVE.private_key).unwrap();
    for length in [1, 16, 32, 1024, 2400] {
        let secret = vec![length as u8; length];
        let answer = attested.envelop(&secret, &CountingEntropy(1.into()));
        fs::write(folder.join("answer"), answer.unwrap()).unwrap();
        let arguments = "cms -decrypt -inform DER -in answer -keyform DER -inkey key -out secret";
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(&folder)
            .output()
            .expect("the openssl program is installed");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(fs::read(folder.join("secret")).unwrap(), secret);
    }
    fs::remove_dir_all(folder).unwrap();
}
