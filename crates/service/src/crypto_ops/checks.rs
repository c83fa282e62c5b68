//! The checks of cryptographic operations, as functions of the state.

use std::sync::Arc;

use keyrum_authz::{Denied, DeniedResource};
use keyrum_crypto::{Attested, EncryptionContext, InvalidCiphertext, KeyName, Parsed, parse};
use keyrum_state::{Caller, Key, KeyRef, NewMaterial, Refusal, State, permit_key};
use keyrum_types::{
    Arn, CryptographicOperation, EncryptionAlgorithm, KeySpec, KeyState, KeyUsage, MessageType,
    Resource, SigningAlgorithm, key_arn,
};

use crate::grant::Tokens;
use crate::resolve::{Asked, NONE, NamedFacts};
use crate::{DataKeySpec, ServiceError};

/// Longest encryption context: the bytes of all names and values together.
///
/// The real service is said to allow 8192 bytes in its own serialization, whose form is not
/// known; this is the one place that decides.
pub const ENCRYPTION_CONTEXT_BYTES_MAX: usize = 8192;

/// Bytes in the message representative of ML-DSA. Source: FIPS 204, section 6.2.
const MU_BYTES: usize = 64;

pub(super) fn name_of(key: &Key) -> KeyName {
    KeyName {
        account: key.account,
        key: key.id,
    }
}

/// A key to encrypt with, as a request names it.
pub(super) struct Destination<'a> {
    pub(super) operation: &'static str,
    pub(super) asked: Asked<'a>,
    pub(super) algorithm: EncryptionAlgorithm,
    pub(super) context: &'a EncryptionContext,
}

impl Destination<'_> {
    pub(super) fn look_up<'s>(
        &self,
        state: &'s State,
        caller: &Caller,
    ) -> Result<&'s Arc<Key>, ServiceError> {
        self.asked.look_up(state, caller)
    }

    /// Parameters and usage.
    pub(super) fn check_parameters(&self, state: &State, key: &Key) -> Result<(), ServiceError> {
        check_context(self.context, key)?;
        check_usage(state, key, KeyUsage::EncryptDecrypt, self.operation)
    }

    /// State and algorithm; the material to use if both are right.
    pub(super) fn check_use<'s>(&self, key: &'s Key) -> Result<&'s NewMaterial, ServiceError> {
        check_state(key)?;
        check_encryption_algorithm(self.algorithm, key)?;
        current_material(key)
    }

    /// Whether the plaintext fits the algorithm; of symmetric ones the request's own limit is the
    /// only one.
    pub(super) fn check_plaintext(&self, key: &Key, bytes: usize) -> Result<(), ServiceError> {
        let (algorithm, spec) = (self.algorithm, key.spec);
        match spec.plaintext_bytes_max(algorithm) {
            Some(bytes_max) if bytes > bytes_max => Err(ServiceError::PlaintextTooLong {
                algorithm,
                spec,
                bytes_max,
            }),
            _ => Ok(()),
        }
    }
}

/// A key for any other use than encryption, as a request names it.
pub(super) struct Wanted<'a> {
    pub(super) operation: CryptographicOperation,
    pub(super) text: &'a str,
    /// Condition keys, and the value each has.
    pub(super) named: NamedFacts,
    pub(super) recipient: Option<&'a Attested>,
    pub(super) usage: KeyUsage,
    pub(super) tokens: Tokens,
}

impl Wanted<'_> {
    /// Everything up to the key's state; the key and its material.
    pub(super) fn check<'s>(
        &self,
        state: &'s State,
        caller: &Caller,
    ) -> Result<(&'s Arc<Key>, &'s NewMaterial), ServiceError> {
        let operation = self.operation.name();
        let asked = Asked {
            action: operation,
            text: self.text,
            named: self.named,
            recipient: self.recipient,
            context: None,
        };
        let key = asked.look_up(state, caller)?;
        self.tokens.check()?;
        check_usage(state, key, self.usage, operation)?;
        check_state(key)?;
        Ok((key, current_material(key)?))
    }
}

/// A ciphertext to decrypt, and what a request says of its key.
pub(super) struct Source<'a> {
    pub(super) text: Option<&'a str>,
    /// The name is the text's, if there is one.
    pub(super) asked: Asked<'a>,
    pub(super) algorithm: EncryptionAlgorithm,
    pub(super) context: &'a EncryptionContext,
    pub(super) tokens: Tokens,
    /// `None` if it shall be ignored.
    pub(super) blob: Option<Blob<'a>>,
}

/// A refusal about the key that a ciphertext names. Whether it is absent or another account's is not told.
fn of_ciphertext(refusal: Refusal) -> ServiceError {
    match refusal {
        Refusal::NotAuthorized(denied) if denied.resource != DeniedResource::OtherAccount => {
            Refusal::NotAuthorized(Denied {
                resource: DeniedResource::OfCiphertext,
                ..denied
            })
            .into()
        }
        _ => ServiceError::CiphertextKeyMissing,
    }
}

/// A ciphertext as it came, and taken apart as a symmetric key's: whose it is shows later.
#[derive(Clone, Copy)]
pub(super) struct Blob<'a> {
    bytes: &'a [u8],
    parsed: Result<Parsed<'a>, InvalidCiphertext>,
}

impl<'a> Blob<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let parsed = parse(bytes);
        Self { bytes, parsed }
    }
}

/// A ciphertext that is for a key of this kind.
#[derive(Debug)]
pub(super) enum Sealed<'a> {
    Symmetric(Parsed<'a>),
    /// What anyone with the public key can make, so nothing in it names the key.
    Asymmetric(&'a [u8]),
}

/// What decrypts a ciphertext, once all checks but the cryptographic one are passed.
#[derive(Debug)]
pub(super) struct Opening<'a> {
    pub(super) key: &'a Arc<Key>,
    pub(super) material: &'a NewMaterial,
    pub(super) sealed: Sealed<'a>,
}

impl<'a> Source<'a> {
    /// All checks of Decrypt.
    pub(super) fn check<'s>(
        &self,
        state: &'s State,
        caller: &Caller,
    ) -> Result<Opening<'s>, ServiceError>
    where
        'a: 's,
    {
        let key = self.look_up(state, caller, NONE)?;
        let blob = self.blob()?;
        self.check_parameters(key)?;
        self.check_use(state, key, blob)
    }

    /// The key that the request or the ciphertext names; `None` if the text names none.
    fn named_key(&self, state: &State, caller: &Caller) -> Result<Option<KeyRef>, ServiceError> {
        match (self.text, &self.blob) {
            (Some(text), blob) => {
                if let Some(Blob {
                    parsed: Ok(parsed), ..
                }) = blob
                    && names_relative(state, text, parsed.name())
                {
                    return Err(ServiceError::IncorrectKey);
                }
                Ok(self.asked.key(state, caller).ok())
            }
            (None, Some(blob)) => {
                let name = blob.parsed?.name();
                Ok(Some(KeyRef {
                    account: name.account,
                    id: name.key,
                }))
            }
            (None, None) => Err(ServiceError::KeyIdRequired),
        }
    }

    /// Finds that key, for a caller who may do this to it. `fact` is one more for conditions.
    fn look_up<'s>(
        &self,
        state: &'s State,
        caller: &Caller,
        fact: (&'static str, &'static str),
    ) -> Result<&'s Arc<Key>, ServiceError> {
        let mut asked = self.asked;
        asked.named[1] = fact;
        let key = match (self.named_key(state, caller)?, self.text) {
            (Some(key), None) => permit_key(state, caller, key, asked.action, &asked)
                .map_err(of_ciphertext)?
                .key(),
            (_, Some(_) | None) => asked.look_up(state, caller)?,
        };
        self.tokens.check()?;
        Ok(key)
    }

    /// The ciphertext. A request to ignore it was about authorization alone and ends here.
    fn blob(&self) -> Result<Blob<'a>, ServiceError> {
        self.blob.ok_or(ServiceError::DryRun)
    }

    /// Parameters, usage, and whether the key is the one which made the ciphertext.
    fn check_parameters(&self, key: &Key) -> Result<(), ServiceError> {
        check_context(self.context, key)?;
        let parsed = self.blob.filter(|_| self.names_its_key(key));
        let parsed = parsed.and_then(|blob| blob.parsed.ok());
        let other = parsed.is_some_and(|parsed| parsed.name() != name_of(key));
        if key.usage != KeyUsage::EncryptDecrypt || other {
            return Err(ServiceError::IncorrectKey);
        }
        Ok(())
    }

    /// Whether the ciphertext must be one of a symmetric key, since the key is one or the request
    /// says so.
    fn names_its_key(&self, key: &Key) -> bool {
        key.spec == KeySpec::SymmetricDefault
            || self.algorithm == EncryptionAlgorithm::SymmetricDefault
    }

    /// State, ciphertext and algorithm, in this order.
    fn check_use<'s>(
        &self,
        state: &'s State,
        key: &'s Arc<Key>,
        blob: Blob<'s>,
    ) -> Result<Opening<'s>, ServiceError> {
        check_state(key)?;
        let (material, sealed) = if self.names_its_key(key) {
            let parsed = blob.parsed?;
            check_encryption_algorithm(self.algorithm, key)?;
            let material = state.material(key, &parsed.material());
            (
                material.ok_or(ServiceError::InvalidCiphertext)?,
                Sealed::Symmetric(parsed),
            )
        } else {
            check_encryption_algorithm(self.algorithm, key)?;
            (current_material(key)?, Sealed::Asymmetric(blob.bytes))
        };
        Ok(Opening {
            key,
            material,
            sealed,
        })
    }

    /// Whether a refusal may come from a state that lags behind: the key or the material that a
    /// well-formed ciphertext names is not known yet, so that a later state must be asked.
    pub(super) fn may_be_stale<T>(&self, result: &Result<T, ServiceError>) -> bool {
        self.blob.is_some_and(|blob| blob.parsed.is_ok())
            && matches!(
                result,
                Err(ServiceError::CiphertextKeyMissing
                    | ServiceError::InvalidCiphertext
                    | ServiceError::Refused(Refusal::NoSuchKey { .. }))
            )
    }
}

/// The checks of ReEncrypt: both keys are looked up before either is used.
pub(super) fn re_encrypt_checks<'s>(
    state: &'s State,
    caller: &Caller,
    source: &Source<'s>,
    destination: &Destination<'_>,
) -> Result<(Opening<'s>, &'s Arc<Key>, &'s NewMaterial), ServiceError> {
    // Whether both are one key is asked of either, before it is known whether the caller may know it.
    let one = source.named_key(state, caller)?.is_some_and(|from| {
        let to = destination.asked.key(state, caller);
        to.is_ok_and(|to| to == from)
    });
    let same = ("kms:reencryptonsamekey", if one { "true" } else { "false" });
    let from = source.look_up(state, caller, same)?;
    let mut asked = destination.asked;
    asked.named[1] = same;
    let to = asked.look_up(state, caller)?;
    let blob = source.blob()?;
    source.check_parameters(from)?;
    destination.check_parameters(state, to)?;
    let from = source.check_use(state, from, blob)?;
    let material = destination.check_use(to)?;
    Ok((from, to, material))
}

/// Whether `text` is the ARN that the ciphertext's own key, a multi-Region key, has in another
/// Region. The real service calls that the wrong key, not an unknown Region.
fn names_relative(state: &State, text: &str, made_by: KeyName) -> bool {
    let Some(arn) = Arn::parse(text) else {
        return false;
    };
    made_by.key.is_multi_region()
        && arn.region != state.region().as_str()
        && arn.account.parse() == Ok(made_by.account)
        && arn.resource == Resource::Key(&made_by.key.to_string())
}

/// The ciphertext, or `None` if it shall be ignored.
pub(super) fn ciphertext_of(
    ciphertext: &Option<Vec<u8>>,
    dry_run: bool,
    ignore: bool,
) -> Result<Option<&[u8]>, ServiceError> {
    match (ignore, ciphertext) {
        (true, _) if !dry_run => Err(ServiceError::IgnoreCiphertextWithoutDryRun),
        (true, _) => Ok(None),
        (false, Some(blob)) => Ok(Some(blob)),
        (false, None) => Err(ServiceError::CiphertextRequired),
    }
}

pub(super) fn check_context(context: &EncryptionContext, key: &Key) -> Result<(), ServiceError> {
    let bytes: usize = context
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > ENCRYPTION_CONTEXT_BYTES_MAX {
        let bytes_max = ENCRYPTION_CONTEXT_BYTES_MAX;
        return Err(ServiceError::EncryptionContextTooLong { bytes_max });
    }
    let asymmetric = key.usage == KeyUsage::EncryptDecrypt && key.spec != KeySpec::SymmetricDefault;
    if asymmetric && !context.is_empty() {
        return Err(ServiceError::ContextWithAsymmetric);
    }
    Ok(())
}

/// Whether the key's state lets its material be used. Source: AWS KMS Developer Guide, "Key
/// states of AWS KMS keys".
pub(super) fn check_state(key: &Key) -> Result<(), ServiceError> {
    match key.state {
        KeyState::Enabled => Ok(()),
        KeyState::Updating if key.has_all_material() => Ok(()),
        // Imported material may expire meanwhile.
        KeyState::Updating => Err(Refusal::WrongState {
            key: key.reference(),
            state: KeyState::PendingImport,
        }
        .into()),
        state => Err(Refusal::WrongState {
            key: key.reference(),
            state,
        }
        .into()),
    }
}

/// Whether the key is for the operation. Decrypt calls a key that is not the wrong one instead.
pub(super) fn check_usage(
    state: &State,
    key: &Key,
    usage: KeyUsage,
    operation: &'static str,
) -> Result<(), ServiceError> {
    if key.usage == usage {
        return Ok(());
    }
    Err(ServiceError::UsageNotForOperation {
        arn: key_arn(state.region(), key.account, key.id),
        usage: key.usage,
        operation,
    })
}

/// What a key in a state that may be used has.
pub(super) fn current_material(key: &Key) -> Result<&NewMaterial, ServiceError> {
    key.current_material().ok_or(ServiceError::Internal)
}

fn check_encryption_algorithm(
    algorithm: EncryptionAlgorithm,
    key: &Key,
) -> Result<(), ServiceError> {
    let listed = key.spec.encryption_algorithms().contains(&algorithm);
    check_algorithm(listed, algorithm.name(), key)
}

/// Refuses an algorithm that is not listed for the key's spec.
pub(super) fn check_algorithm(
    listed: bool,
    algorithm: &'static str,
    key: &Key,
) -> Result<(), ServiceError> {
    let spec = key.spec;
    match listed {
        true => Ok(()),
        false => Err(ServiceError::AlgorithmNotForSpec { algorithm, spec }),
    }
}

/// Whether a key of that spec signs messages of that type, the algorithm takes them, and the
/// message is as long as it must be.
pub(super) fn check_message(
    spec: KeySpec,
    algorithm: SigningAlgorithm,
    message_type: MessageType,
    bytes: usize,
) -> Result<(), ServiceError> {
    let any = |algorithm: &SigningAlgorithm| algorithm.takes(message_type);
    if !spec.signing_algorithms().iter().any(any) {
        return Err(ServiceError::MessageTypeNotForSpec { message_type, spec });
    }
    if !algorithm.takes(message_type) {
        return Err(ServiceError::MessageTypeNotForAlgorithm {
            message_type,
            algorithm,
        });
    }
    match message_type {
        MessageType::Digest if algorithm.digest_bytes() != Some(bytes) => {
            Err(ServiceError::DigestLength { algorithm })
        }
        MessageType::ExternalMu if bytes != MU_BYTES => Err(ServiceError::MuLength { algorithm }),
        MessageType::Raw | MessageType::Digest | MessageType::ExternalMu => Ok(()),
    }
}

/// A data key's length, which exactly one of two parameters tells.
pub(super) fn data_key_bytes(
    number_of_bytes: Option<u32>,
    spec: Option<DataKeySpec>,
) -> Result<u32, ServiceError> {
    match (number_of_bytes, spec) {
        (Some(bytes), None) => Ok(bytes),
        (None, Some(spec)) => Ok(spec.bytes()),
        _ => Err(ServiceError::DataKeySize),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
