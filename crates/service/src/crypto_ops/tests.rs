//! Tests of the checks: which refusal wins, and what a ciphertext opens with.

use keyrum_crypto::{MadeBy, encrypt};
use keyrum_state::Command;
use keyrum_types::{KeyId, MaterialId, SealedMaterial, WaitingDays};

use super::*;
use crate::grant::Tokens;
use crate::resolve::{Asked, NONE};
use crate::testing::{OTHER, OWN, TestRegion, root_of};

fn blob(region: &TestRegion, key: KeyRef) -> Vec<u8> {
    let secret = TestRegion::secret(key.id);
    let name = KeyName {
        account: key.account,
        key: key.id,
    };
    let context = EncryptionContext::new();
    let material = secret.id(key.id);
    encrypt(
        &secret,
        material,
        name,
        &context,
        b"plain",
        MadeBy::Encrypt,
        &region.entropy,
    )
}

fn context(bytes: usize) -> EncryptionContext {
    [("k".to_owned(), "v".repeat(bytes - 1))].into()
}

/// Runs the checks of Decrypt; gives the id of the key that would be used.
struct Decrypt<'a> {
    text: Option<&'a str>,
    blob: Option<&'a [u8]>,
    algorithm: EncryptionAlgorithm,
    context: EncryptionContext,
    tokens: Tokens,
}

impl<'a> Decrypt<'a> {
    fn of(text: Option<&'a str>, blob: &'a [u8]) -> Self {
        Self {
            text,
            blob: Some(blob),
            algorithm: EncryptionAlgorithm::SymmetricDefault,
            context: EncryptionContext::new(),
            tokens: Tokens::Known,
        }
    }

    fn source(&self) -> Source<'_> {
        Source {
            text: self.text,
            asked: Asked::of("Decrypt", self.text.unwrap_or_default()),
            algorithm: self.algorithm,
            context: &self.context,
            tokens: self.tokens,
            blob: self.blob.map(Blob::new),
        }
    }

    fn check(&self, region: &TestRegion, account: &str) -> Result<KeyId, ServiceError> {
        let source = self.source();
        source
            .check(&region.state, &root_of(account))
            .map(|found| found.key.id)
    }
}

fn arn(region: &str, account: &str, key: KeyRef) -> String {
    format!("arn:aws:kms:{region}:{account}:key/{}", key.id)
}

/// Catches a ciphertext whose key is not found by itself or by any name of it, and one that opens
/// under another key's name.
#[test]
fn a_ciphertext_names_its_key() {
    let mut region = TestRegion::new();
    let (one, two) = (region.key(1), region.key(2));
    region.alias("alias/one", one);
    region.alias("alias/two", two);
    let blob = blob(&region, one);
    let one_arn = arn("us-east-1", OWN, one);
    let alias_arn = format!("arn:aws:kms:us-east-1:{OWN}:alias/one");
    let one_id = one.id.to_string();
    for text in [
        None,
        Some(&*one_id),
        Some(&*one_arn),
        Some("alias/one"),
        Some(&*alias_arn),
    ] {
        assert_eq!(
            Decrypt::of(text, &blob).check(&region, OWN),
            Ok(one.id),
            "{text:?}"
        );
    }
    let two_id = two.id.to_string();
    for text in [&*two_id, "alias/two"] {
        let result = Decrypt::of(Some(text), &blob).check(&region, OWN);
        assert_eq!(result, Err(ServiceError::IncorrectKey), "{text}");
    }
}

/// Catches a member of a family that cannot open what another member encrypted just after a rotation
/// that this one has confirmed but not yet seen the end of.
#[test]
fn a_ciphertext_may_be_of_the_version_to_come() {
    let mut region = TestRegion::new();
    let kind = (KeySpec::SymmetricDefault, KeyUsage::EncryptDecrypt);
    let key = region.key_of(OWN, KeyId::multi_region([1; 16]), kind);
    region.apply(Command::ReplicateKey {
        key,
        region: "eu-west-1".parse().unwrap(),
        description: String::new(),
        policy: None,
        bypass_lockout_check: false,
        tags: vec![],
    });
    let secret = TestRegion::secret(KeyId::multi_region([2; 16]));
    let (name, id) = (name_of(region.state.key(key).unwrap()), secret.id(key.id));
    let context = EncryptionContext::new();
    let entropy = &region.entropy;
    let sealed = region.keyring.seal(name, id, &secret, entropy);
    let blob = encrypt(
        &secret,
        id,
        name,
        &context,
        b"plain",
        MadeBy::Encrypt,
        entropy,
    );
    let material = NewMaterial { id, sealed };
    region.apply(Command::RotateKeyOnDemand { key, material });
    let caller = root_of(OWN);
    let text = key.id.to_string();
    let current = destination(&text, &context);
    let found = current.look_up(&region.state, &caller).unwrap();
    assert_ne!(
        current.check_use(found).unwrap().id,
        id,
        "it is used too early"
    );
    let decrypt = Decrypt::of(None, &blob);
    let opening = decrypt.source().check(&region.state, &caller).unwrap();
    assert_eq!(opening.material.id, id);
}

/// Catches a rotated key that encrypts with old material, and an old ciphertext that is opened with
/// other material than its own, or not at all.
#[test]
fn a_ciphertext_names_its_material() {
    let mut region = TestRegion::new();
    let key = region.key(1);
    let old_blob = blob(&region, key);
    let first = TestRegion::secret(key.id).id(key.id);
    let id = key.id.to_string();
    let context = EncryptionContext::new();
    let materials = |region: &TestRegion| {
        let caller = root_of(OWN);
        let decrypt = Decrypt::of(None, &old_blob);
        let opening = decrypt.source().check(&region.state, &caller).unwrap();
        let wanted = destination(&id, &context);
        let found = wanted.look_up(&region.state, &caller).unwrap();
        (opening.material.id, wanted.check_use(found).unwrap().id)
    };
    assert_eq!(materials(&region), (first, first));
    for byte in 2..=3 {
        let id = MaterialId([byte; 32]);
        let sealed = SealedMaterial([byte; 8].into());
        let material = NewMaterial { id, sealed };
        region.apply(Command::RotateKeyOnDemand { key, material });
        assert_eq!(materials(&region), (first, id));
    }
}

/// Catches a caller who learns from a ciphertext whether another account's key exists.
#[test]
fn absent_and_foreign_keys_answer_alike() {
    let mut region = TestRegion::new();
    let own = region.key(1);
    let absent = KeyRef {
        id: KeyId::single_region([9; 16]),
        ..own
    };
    let foreign_blob = blob(&region, own);
    let absent_blob = blob(&region, absent);
    for (blob, account) in [
        (&foreign_blob, OTHER),
        (&absent_blob, OWN),
        (&absent_blob, OTHER),
    ] {
        let result = Decrypt::of(None, blob).check(&region, account);
        assert_eq!(result, Err(ServiceError::CiphertextKeyMissing));
    }
}

/// Catches a related multi-Region key's ARN being called an unknown Region, which only the ARNs of
/// unrelated keys are.
#[test]
fn an_arn_of_another_region_is_the_wrong_key() {
    let mut region = TestRegion::new();
    let kind = (KeySpec::SymmetricDefault, KeyUsage::EncryptDecrypt);
    let family = region.key_of(OWN, KeyId::multi_region([1; 16]), kind);
    let single = region.key(2);
    let (family_blob, single_blob) = (blob(&region, family), blob(&region, single));
    let text = arn("eu-west-1", OWN, family);
    let result = Decrypt::of(Some(&text), &family_blob).check(&region, OWN);
    assert_eq!(result, Err(ServiceError::IncorrectKey));
    let other_region = Err(ServiceError::OtherRegion {
        region: "eu-west-1".to_owned(),
    });
    assert_eq!(
        Decrypt::of(Some(&text), &single_blob).check(&region, OWN),
        other_region
    );
    let text = arn("eu-west-1", OWN, single);
    assert_eq!(
        Decrypt::of(Some(&text), &single_blob).check(&region, OWN),
        other_region
    );
}

/// Catches Decrypt's refusals coming in another order than the API's: each step breaks one thing
/// more, earlier in the order.
#[test]
fn decrypt_refuses_in_the_apis_order() {
    let mut region = TestRegion::new();
    let key = region.key(1);
    let (good, text) = (blob(&region, key), key.id.to_string());
    let mut other_material = good.clone();
    other_material[6] ^= 1;
    let mut request = Decrypt::of(Some(&text), &good);
    let check = |request: &Decrypt<'_>, region: &TestRegion| request.check(region, OWN).err();
    assert_eq!(check(&request, &region), None);

    request.algorithm = EncryptionAlgorithm::RsaesOaepSha1;
    let (algorithm, spec) = (request.algorithm.name(), KeySpec::SymmetricDefault);
    let not_for_spec = Some(ServiceError::AlgorithmNotForSpec { algorithm, spec });
    assert_eq!(check(&request, &region), not_for_spec);
    request.blob = Some(&other_material);
    assert_eq!(
        check(&request, &region),
        Some(ServiceError::InvalidCiphertext)
    );

    region.apply(Command::DisableKey { key });
    let disabled = Refusal::WrongState {
        key,
        state: KeyState::Disabled,
    };
    assert_eq!(check(&request, &region), Some(disabled.into()));

    let stranger = region.key(2);
    let strangers = blob(&region, stranger);
    request.blob = Some(&strangers);
    assert_eq!(check(&request, &region), Some(ServiceError::IncorrectKey));
    request.context = context(8193);
    let too_long = ServiceError::EncryptionContextTooLong { bytes_max: 8192 };
    assert_eq!(check(&request, &region), Some(too_long));
    request.tokens = Tokens::Unknown;
    assert_eq!(
        check(&request, &region),
        Some(ServiceError::InvalidGrantToken)
    );
    let foreign = request.check(&region, OTHER).err();
    let no_such = KeyRef {
        account: OTHER.parse().unwrap(),
        id: key.id,
    };
    assert_eq!(foreign, Some(Refusal::NoSuchKey { key: no_such }.into()));
}

/// Catches a dry run that ignores the ciphertext but asks for more than authorization, or less.
#[test]
fn ignoring_the_ciphertext_leaves_authorization() {
    let mut region = TestRegion::new();
    let key = region.key(1);
    region.apply(Command::DisableKey { key });
    let text = key.id.to_string();
    let mut request = Decrypt::of(Some(&text), &[]);
    request.blob = None;
    assert_eq!(request.check(&region, OWN), Err(ServiceError::DryRun));
    request.text = None;
    assert_eq!(
        request.check(&region, OWN),
        Err(ServiceError::KeyIdRequired)
    );
    let foreign = arn("us-east-1", OWN, key);
    request.text = Some(&foreign);
    let result = request.check(&region, OTHER);
    assert!(
        matches!(
            result,
            Err(ServiceError::Refused(Refusal::NotAuthorized(_)))
        ),
        "{result:?}"
    );

    assert_eq!(ciphertext_of(&None, true, true), Ok(None));
    let without_dry_run = ciphertext_of(&None, false, true);
    assert_eq!(
        without_dry_run,
        Err(ServiceError::IgnoreCiphertextWithoutDryRun)
    );
    assert_eq!(
        ciphertext_of(&None, true, false),
        Err(ServiceError::CiphertextRequired)
    );
}

/// Catches a stale view answering for good that a ciphertext's key or material does not exist, and
/// garbage making a stale reader ask the quorum.
#[test]
fn only_what_a_later_state_may_know_is_asked_again() {
    let mut region = TestRegion::new();
    let key = region.key(1);
    let absent = KeyRef {
        id: KeyId::single_region([9; 16]),
        ..key
    };
    let (good, unknown) = (blob(&region, key), blob(&region, absent));
    let may_be_stale = |text: Option<&str>, blob: &[u8]| {
        let request = Decrypt::of(text, blob);
        let source = request.source();
        let caller = root_of(OWN);
        let result = source.check(&region.state, &caller);
        source.may_be_stale(&result)
    };
    let unknown_id = absent.id.to_string();
    assert!(may_be_stale(None, &unknown));
    assert!(may_be_stale(Some(&unknown_id), &unknown));
    assert!(!may_be_stale(None, &good));
    assert!(!may_be_stale(None, b"garbage"));
    assert!(!may_be_stale(Some(&key.id.to_string()), &unknown));

    // A version of material that only a later state knows.
    let secret = TestRegion::secret(absent.id);
    let name = KeyName {
        account: key.account,
        key: key.id,
    };
    let later = encrypt(
        &secret,
        secret.id(absent.id),
        name,
        &EncryptionContext::new(),
        b"x",
        MadeBy::Encrypt,
        &region.entropy,
    );
    assert!(may_be_stale(None, &later));
}

fn destination<'a>(text: &'a str, context: &'a EncryptionContext) -> Destination<'a> {
    Destination {
        operation: "Encrypt",
        asked: Asked::of("Encrypt", text),
        algorithm: EncryptionAlgorithm::SymmetricDefault,
        context,
    }
}

fn check_destination(region: &TestRegion, wanted: &Destination<'_>) -> Option<ServiceError> {
    let check = || {
        let key = wanted.look_up(&region.state, &root_of(OWN))?;
        wanted.check_parameters(&region.state, key)?;
        wanted.check_use(key).map(drop)
    };
    check().err()
}

/// Catches keys that encrypt though their kind, algorithm or state forbids it, and refusals out of
/// order: usage before state before algorithm.
#[test]
fn encrypt_refuses_in_the_apis_order() {
    let mut region = TestRegion::new();
    let empty = EncryptionContext::new();
    let mac = (KeySpec::Hmac256, KeyUsage::GenerateVerifyMac);
    let mac = region.key_of(OWN, KeyId::single_region([1; 16]), mac);
    region.apply(Command::DisableKey { key: mac });
    let text = mac.id.to_string();
    let usage = ServiceError::UsageNotForOperation {
        arn: arn("us-east-1", OWN, mac),
        usage: KeyUsage::GenerateVerifyMac,
        operation: "Encrypt",
    };
    assert_eq!(
        check_destination(&region, &destination(&text, &empty)),
        Some(usage)
    );

    let rsa = (KeySpec::Rsa2048, KeyUsage::EncryptDecrypt);
    let rsa = region.key_of(OWN, KeyId::single_region([2; 16]), rsa);
    let text = rsa.id.to_string();
    let not_for_spec = ServiceError::AlgorithmNotForSpec {
        algorithm: "SYMMETRIC_DEFAULT",
        spec: KeySpec::Rsa2048,
    };
    assert_eq!(
        check_destination(&region, &destination(&text, &empty)),
        Some(not_for_spec)
    );
    let with_context = context(9);
    let refused = check_destination(&region, &destination(&text, &with_context));
    assert_eq!(refused, Some(ServiceError::ContextWithAsymmetric));
    region.apply(Command::ScheduleKeyDeletion {
        key: rsa,
        wait: WaitingDays::DEFAULT,
    });
    let pending = Refusal::WrongState {
        key: rsa,
        state: KeyState::PendingDeletion,
    };
    let refused = check_destination(&region, &destination(&text, &empty));
    assert_eq!(refused, Some(pending.into()));

    let key = region.key(3);
    let text = key.id.to_string();
    assert_eq!(
        check_destination(&region, &destination(&text, &context(8192))),
        None
    );
}

/// Catches a ReEncrypt that uses one key before the other was found, or does not look at both.
#[test]
fn re_encrypt_looks_both_keys_up_first() {
    let mut region = TestRegion::new();
    let (from, to) = (region.key(1), region.key(2));
    region.apply(Command::DisableKey { key: from });
    let (blob, empty) = (blob(&region, from), EncryptionContext::new());
    let check = |region: &TestRegion, to: &str| {
        let request = Decrypt::of(None, &blob);
        let wanted = destination(to, &empty);
        let caller = root_of(OWN);
        re_encrypt_checks(&region.state, &caller, &request.source(), &wanted)
            .map(|(from, to, _)| (from.key.id, to.id))
    };
    let invalid = Err(ServiceError::InvalidKeyId {
        text: "nosuchkey".to_owned(),
    });
    assert_eq!(check(&region, "nosuchkey"), invalid);
    let disabled = |key| {
        Err(Refusal::WrongState {
            key,
            state: KeyState::Disabled,
        }
        .into())
    };
    assert_eq!(check(&region, &to.id.to_string()), disabled(from));
    region.apply(Command::EnableKey { key: from });
    assert_eq!(check(&region, &to.id.to_string()), Ok((from.id, to.id)));
    region.apply(Command::DisableKey { key: to });
    assert_eq!(check(&region, &to.id.to_string()), disabled(to));
}

/// Catches a data key whose length is asked for twice or not at all, or is not the spec's.
#[test]
fn a_data_key_has_one_length() {
    assert_eq!(data_key_bytes(Some(24), None), Ok(24));
    assert_eq!(data_key_bytes(None, Some(DataKeySpec::Aes256)), Ok(32));
    assert_eq!(data_key_bytes(None, Some(DataKeySpec::Aes128)), Ok(16));
    for both_or_none in [(None, None), (Some(32), Some(DataKeySpec::Aes256))] {
        let (bytes, spec) = both_or_none;
        assert_eq!(data_key_bytes(bytes, spec), Err(ServiceError::DataKeySize));
    }
}

/// Catches a ciphertext of an asymmetric key that is taken for a symmetric key's, or the reverse,
/// and refusals out of order.
#[test]
fn asymmetric_ciphertexts_name_no_key() {
    let mut region = TestRegion::new();
    let rsa = (KeySpec::Rsa2048, KeyUsage::EncryptDecrypt);
    let rsa = region.key_of(OWN, KeyId::single_region([1; 16]), rsa);
    let signs = (KeySpec::Rsa2048, KeyUsage::SignVerify);
    let signs = region.key_of(OWN, KeyId::single_region([2; 16]), signs);
    let symmetric = region.key(3);
    let of_symmetric = blob(&region, symmetric);
    let check = |key: KeyRef, blob: &[u8], algorithm| {
        let text = key.id.to_string();
        let mut request = Decrypt::of(Some(&text), blob);
        request.algorithm = algorithm;
        request.check(&region, OWN)
    };
    let (oaep, default) = (
        EncryptionAlgorithm::RsaesOaepSha256,
        EncryptionAlgorithm::SymmetricDefault,
    );
    // Whatever the bytes are: only the key can tell.
    assert_eq!(check(rsa, b"anything", oaep), Ok(rsa.id));
    assert_eq!(check(rsa, &of_symmetric, oaep), Ok(rsa.id));
    let invalid = Err(ServiceError::InvalidCiphertext);
    assert_eq!(check(rsa, b"anything", default), invalid);
    assert_eq!(check(symmetric, b"anything", oaep), invalid);
    let incorrect = Err(ServiceError::IncorrectKey);
    assert_eq!(check(rsa, &of_symmetric, default), incorrect);
    assert_eq!(check(signs, b"anything", oaep), incorrect);
    let sm2 = ServiceError::AlgorithmNotForSpec {
        algorithm: "SM2PKE",
        spec: KeySpec::Rsa2048,
    };
    let refused = check(rsa, b"anything", EncryptionAlgorithm::Sm2Pke);
    assert_eq!(refused, Err(sm2));
}

/// Catches a message that a key cannot sign, or not with that algorithm, being signed, and the wrong
/// reason given.
#[test]
fn messages_have_types_and_lengths() {
    use MessageType::{Digest, ExternalMu, Raw};
    use SigningAlgorithm as A;
    let for_spec =
        |spec, message_type| Err(ServiceError::MessageTypeNotForSpec { message_type, spec });
    let for_algorithm = |algorithm, message_type| {
        Err(ServiceError::MessageTypeNotForAlgorithm {
            message_type,
            algorithm,
        })
    };
    let digest = |algorithm| Err(ServiceError::DigestLength { algorithm });
    let (rsa, ed, pq) = (
        KeySpec::Rsa2048,
        KeySpec::EccNistEdwards25519,
        KeySpec::MlDsa65,
    );
    let (pss, plain, ph) = (A::RsassaPssSha384, A::Ed25519Sha512, A::Ed25519PhSha512);
    let mu = A::MlDsaShake256;
    for (spec, algorithm, message_type, bytes, expected) in [
        (rsa, pss, Raw, 4096, Ok(())),
        (rsa, pss, Digest, 48, Ok(())),
        (rsa, pss, Digest, 47, digest(pss)),
        (rsa, pss, ExternalMu, 64, for_spec(rsa, ExternalMu)),
        (rsa, pss, ExternalMu, 1, for_spec(rsa, ExternalMu)),
        (ed, plain, Raw, 1, Ok(())),
        (ed, ph, Digest, 64, Ok(())),
        (ed, ph, Digest, 63, digest(ph)),
        (ed, plain, Digest, 1, for_algorithm(plain, Digest)),
        (ed, ph, Raw, 1, for_algorithm(ph, Raw)),
        (ed, ph, ExternalMu, 64, for_spec(ed, ExternalMu)),
        (pq, mu, Raw, 1, Ok(())),
        (pq, mu, ExternalMu, 64, Ok(())),
        (pq, mu, Digest, 64, for_spec(pq, Digest)),
        (
            pq,
            mu,
            ExternalMu,
            65,
            Err(ServiceError::MuLength { algorithm: mu }),
        ),
    ] {
        let found = check_message(spec, algorithm, message_type, bytes);
        assert_eq!(found, expected, "{spec} {algorithm} {message_type} {bytes}");
    }
}

/// Catches a use for which the key is not, in a state it may not be in, or with another's grant, and
/// refusals out of order: each step breaks one thing more, earlier in the order.
#[test]
fn other_uses_are_refused_in_the_apis_order() {
    let mut region = TestRegion::new();
    let kind = (KeySpec::EccNistP256, KeyUsage::SignVerify);
    let key = region.key_of(OWN, KeyId::single_region([1; 16]), kind);
    let text = key.id.to_string();
    let mut wanted = Wanted {
        operation: CryptographicOperation::Sign,
        text: &text,
        named: [NONE; 2],
        recipient: None,
        usage: KeyUsage::SignVerify,
        tokens: Tokens::Known,
    };
    let check = |wanted: &Wanted<'_>, region: &TestRegion| {
        let found = wanted.check(&region.state, &root_of(OWN));
        found
            .map(|(key, _)| key.id)
            .map_err(|error| error.to_string())
    };
    assert_eq!(check(&wanted, &region), Ok(key.id));
    region.apply(Command::DisableKey { key });
    let state = KeyState::Disabled;
    let disabled = ServiceError::from(Refusal::WrongState { key, state });
    assert_eq!(check(&wanted, &region), Err(disabled.to_string()));
    wanted.usage = KeyUsage::KeyAgreement;
    let usage = ServiceError::UsageNotForOperation {
        arn: arn("us-east-1", OWN, key),
        usage: KeyUsage::SignVerify,
        operation: "Sign",
    };
    assert_eq!(check(&wanted, &region), Err(usage.to_string()));
    wanted.tokens = Tokens::Unknown;
    let token = ServiceError::InvalidGrantToken;
    assert_eq!(check(&wanted, &region), Err(token.to_string()));
}
