//! Why an operation was not done: one variant for each situation the API can tell apart.

use keyrum_consensus::{ProposeError, ReadError};
use keyrum_crypto::AttestationError;
use keyrum_state::Refusal;
use keyrum_types::{
    EncryptionAlgorithm, KeySpec, KeyUsage, MessageType, Origin, Region, SigningAlgorithm,
    WrappingAlgorithm, WrappingKeySpec,
};

/// An operation's "no". `server` turns each variant into one API error, whose name the docs here
/// give and whose text is in the service's error reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// What the replicated state answered, or what this node reads from it in the same words:
    /// no such key, wrong state, not authorized, and so on.
    #[error(transparent)]
    Refused(#[from] Refusal),

    /// The account has made as many calls in this second as it may. ThrottlingException.
    #[error("the account makes too many calls in a second")]
    Throttled,
    /// A tag that chooses a key's id or material, and cannot be meant. ValidationException.
    #[error("{why}")]
    CustomTag {
        /// What is wrong with it.
        why: String,
    },
    /// The id that a caller chose is a key's. AlreadyExistsException.
    #[error("key {arn} exists already")]
    CustomIdTaken {
        /// That key's ARN.
        arn: String,
    },

    // How the request names a key.
    /// Neither a key id, an ARN nor an alias. NotFoundException.
    #[error("{text:?} has no form of a key identifier")]
    InvalidKeyId {
        /// As the caller wrote it.
        text: String,
    },
    /// A key ARN whose last part is no key id. NotFoundException, with another text.
    #[error("the ARN's key id {text:?} has no form of a key id")]
    InvalidKeyIdInArn {
        /// The id as the caller wrote it.
        text: String,
    },
    /// An ARN of another Region than the one that answers. NotFoundException.
    #[error("the ARN is of Region {region:?}")]
    OtherRegion {
        /// The Region as the caller wrote it.
        region: String,
    },
    /// A well-formed name that no key has, such as an upper-case UUID. NotFoundException.
    #[error("key {arn} does not exist")]
    KeyNotFound {
        /// The key's ARN, built from what the caller wrote.
        arn: String,
    },
    /// No alias of that name. NotFoundException.
    #[error("alias {arn} is not found")]
    AliasNotFound {
        /// The alias's ARN, built from what the caller wrote.
        arn: String,
    },
    /// An alias where only a key id or a key ARN is taken. InvalidArnException.
    #[error("aliases are not supported for this operation")]
    AliasNotSupported,
    /// An alias as the target of an alias. ValidationException.
    #[error("aliases must refer to keys, not aliases")]
    AliasAsTarget,
    /// Begins like an ARN but is none of a key or alias. InvalidArnException.
    #[error("{text:?} is not the ARN of a key or an alias")]
    MalformedArn {
        /// As the caller wrote it.
        text: String,
    },
    /// An ARN of another account on an operation for one's own account only.
    #[error("this operation cannot be called cross account")]
    CrossAccount,

    // Names of aliases.
    /// An alias name without `alias/`. ValidationException.
    #[error("an alias starts with alias/")]
    AliasPrefix,
    /// An alias name with characters it may not have, or nothing after `alias/`.
    /// ValidationException.
    #[error("{alias:?} contains invalid characters for an alias")]
    AliasCharacters {
        /// The name as the caller wrote it.
        alias: String,
    },

    // Parameters. All are ValidationException unless they say otherwise.
    /// Both the key spec and its deprecated name.
    #[error("the key spec is given twice, once by its deprecated name")]
    SpecGivenTwice,
    /// No usage for a key whose spec has none by default.
    #[error("a usage must be given for every key but symmetric encryption keys")]
    UsageRequired,
    /// The usage is not one of the spec's.
    #[error("usage {usage} is not compatible with spec {spec}")]
    UsageNotForSpec {
        /// What was asked.
        usage: KeyUsage,
        /// What was asked.
        spec: KeySpec,
    },
    /// Material of this spec cannot come from that origin.
    #[error("spec {spec} is not supported for origin {origin}")]
    SpecNotForOrigin {
        /// What was asked.
        spec: KeySpec,
        /// What was asked.
        origin: Origin,
    },
    /// The spec exists only in other Regions. UnsupportedOperationException.
    /// Deviation: the real service's code and text are not published; these are CreateKey's for what
    /// a Region lacks, as far as they are known.
    #[error("spec {spec} is not supported in this Region")]
    SpecNotInRegion {
        /// What was asked.
        spec: KeySpec,
    },
    /// Origin, custom key store and external key id do not fit together.
    #[error("the origin does not fit the custom key store or external key given")]
    OriginNotForStore,
    /// The waiting period is outside 7 to 30 days.
    #[error("a waiting period has 7 to 30 days")]
    WaitingDaysOutOfRange,
    /// Neither or both of a data key's spec and length.
    #[error("either a number of bytes or a key spec must be given")]
    DataKeySize,
    /// GenerateRandom without a length.
    #[error("a number of bytes is required")]
    NumberOfBytesRequired,
    /// Decrypt with an asymmetric algorithm or without looking at the ciphertext, and no key id.
    #[error("a key id is required")]
    KeyIdRequired,
    /// The same for ReEncrypt's source.
    #[error("a source key id is required")]
    SourceKeyIdRequired,
    /// Decrypt or ReEncrypt without a ciphertext. In the grammar of model constraints.
    #[error("a ciphertext is required")]
    CiphertextRequired,
    /// The ciphertext is to be ignored, but the request is no dry run.
    #[error("a ciphertext can be ignored in a dry run only")]
    IgnoreCiphertextWithoutDryRun,
    /// The encryption context is too long.
    #[error("an encryption context has at most {bytes_max} bytes")]
    EncryptionContextTooLong {
        /// The most it may have, in bytes.
        bytes_max: usize,
    },
    /// A choice of material for a key that has one only.
    #[error("which material to include can be said for symmetric keys only")]
    IncludeMaterialOfAsymmetric,
    /// More items than the operation gives at once. In the grammar of model constraints.
    #[error("the limit {limit} is greater than {max}")]
    LimitTooLarge {
        /// What was asked.
        limit: u32,
        /// The most this operation gives.
        max: u32,
    },
    /// A marker that this operation did not give for the same filter. InvalidMarkerException.
    #[error("the marker is not one of this operation's")]
    InvalidMarker,

    // Policies.
    /// No policy of that name. NotFoundException.
    #[error("no such policy exists")]
    NoSuchPolicy,
    /// The `AWS_RAM` policy is not the caller's to change. ValidationException.
    #[error("the AWS_RAM policy can only be managed by the RAM service")]
    RamPolicy,
    /// A policy name other than `default`. ValidationException.
    #[error("a key's policy is named default, not {name:?}")]
    PolicyName {
        /// As the caller wrote it.
        name: String,
    },

    // Use of keys.
    /// The key is not for this operation. InvalidKeyUsageException.
    #[error("key {arn} is for {usage}, not for {operation}")]
    UsageNotForOperation {
        /// Which key.
        arn: String,
        /// What it is for.
        usage: KeyUsage,
        /// The API operation's name.
        operation: &'static str,
    },
    /// The algorithm is not one of the key's. InvalidKeyUsageException.
    #[error("algorithm {algorithm} is incompatible with spec {spec}")]
    AlgorithmNotForSpec {
        /// The API's name of what was asked.
        algorithm: &'static str,
        /// The key's spec.
        spec: KeySpec,
    },
    /// Data keys come from symmetric keys only. InvalidKeyUsageException.
    #[error("a data key cannot be generated with an asymmetric key")]
    DataKeyFromAsymmetric,
    /// Data key pairs, too. InvalidKeyUsageException.
    #[error("a data key pair cannot be generated with an asymmetric key")]
    DataKeyPairFromAsymmetric,
    /// The plaintext does not fit the key's modulus or the algorithm's bound. ValidationException.
    #[error("with algorithm {algorithm} and spec {spec} a plaintext has at most {bytes_max} bytes")]
    PlaintextTooLong {
        /// What was asked.
        algorithm: EncryptionAlgorithm,
        /// The key's spec.
        spec: KeySpec,
        /// The most it takes, in bytes.
        bytes_max: usize,
    },
    /// No algorithm of the key takes messages of this type. ValidationException.
    #[error("message type {message_type} is incompatible with spec {spec}")]
    MessageTypeNotForSpec {
        /// What was asked.
        message_type: MessageType,
        /// The key's spec.
        spec: KeySpec,
    },
    /// The algorithm takes no messages of this type. ValidationException.
    #[error("message type {message_type} is incompatible with algorithm {algorithm}")]
    MessageTypeNotForAlgorithm {
        /// What was asked.
        message_type: MessageType,
        /// What was asked.
        algorithm: SigningAlgorithm,
    },
    /// The digest is not as long as the algorithm's. ValidationException.
    #[error("the digest has not the length of algorithm {algorithm}")]
    DigestLength {
        /// What was asked.
        algorithm: SigningAlgorithm,
    },
    /// An external mu that is not 64 bytes long. ValidationException.
    #[error("the external mu has not the length of algorithm {algorithm}")]
    MuLength {
        /// What was asked.
        algorithm: SigningAlgorithm,
    },
    /// Not this key's signature of this message. KMSInvalidSignatureException, no message.
    #[error("the signature is invalid")]
    InvalidSignature,
    /// Not this key's MAC of this message. KMSInvalidMacException, no message.
    #[error("the MAC is invalid")]
    InvalidMac,
    /// No public key that the key can agree with: another form or curve, or not on the curve.
    /// ValidationException, no message.
    #[error("the public key is not one to agree with")]
    InvalidPeerKey,
    /// An encryption context with an asymmetric key. ValidationException.
    #[error("an encryption context is for symmetric keys only")]
    ContextWithAsymmetric,
    /// Damaged, made elsewhere, or with another context. InvalidCiphertextException, no message.
    #[error("the ciphertext is invalid")]
    InvalidCiphertext,
    /// The key named is not the one that made the ciphertext. IncorrectKeyException.
    #[error("the key named cannot decrypt this ciphertext")]
    IncorrectKey,
    /// The ciphertext's key is not here, or not for this caller to see. AccessDeniedException.
    #[error("the key that the ciphertext refers to does not exist here or may not be accessed")]
    CiphertextKeyMissing,
    /// A recipient without a document or an algorithm. ValidationException, in the grammar of model
    /// constraints.
    #[error("a recipient has a key encryption algorithm and an attestation document")]
    RecipientIncomplete {
        /// Whether it has a document.
        document_given: bool,
    },
    /// Not an attestation document of an enclave that is trusted here, or too old.
    /// ValidationException.
    ///
    /// Deviation: the real service's code and text are not published.
    #[error("the attestation document was not accepted: {0}")]
    Attestation(#[from] AttestationError),
    /// Nothing that an id of a grant can be. InvalidGrantIdException.
    #[error("a grant's id has 64 lower-case hex digits")]
    InvalidGrantId,
    /// Parameters of an operation on grants that do not go together, or a constraint that is too long.
    /// ValidationException.
    #[error("{why}")]
    GrantParameters {
        /// What is wrong, as a sentence.
        why: &'static str,
    },
    /// A principal's ARN that is none. InvalidArnException.
    #[error("{arn:?} is not an ARN")]
    PrincipalMalformed {
        /// As the caller wrote it.
        arn: String,
    },
    /// An ARN of nothing that can be a principal. InvalidArnException.
    #[error("{arn:?} is not the ARN of a principal")]
    PrincipalUnknown {
        /// As the caller wrote it.
        arn: String,
    },
    /// A principal's unique id that nobody has. InvalidArnException.
    #[error("{member} names no principal")]
    PrincipalIdUnknown {
        /// The API's name of the member it stands in.
        member: &'static str,
    },
    /// The same of ListRetirableGrants. NotFoundException.
    #[error("there is no principal {id:?}")]
    RetiringPrincipalNotFound {
        /// As the caller wrote it.
        id: String,
    },
    /// A key id where only a key ARN is taken. NotFoundException.
    #[error("{text:?} is not a key's ARN")]
    KeyArnRequired {
        /// As the caller wrote it.
        text: String,
    },
    /// A grant token that no grant has. InvalidGrantTokenException.
    #[error("a grant token is not valid")]
    InvalidGrantToken,
    /// Everything else was right, and the caller wanted to know only that.
    /// DryRunOperationException.
    #[error("the request would have succeeded, but it is a dry run")]
    DryRun,

    // Imported material.
    /// No date at which the material expires, though it shall. ValidationException.
    #[error("a date must be given for material that expires")]
    ValidToRequired,
    /// A date, though the material shall not expire. ValidationException.
    #[error("no date can be given for material that does not expire")]
    ValidToForbidden,
    /// Material of this spec is not wrapped that way. ValidationException.
    #[error("{algorithm} with a key of spec {wrapping} cannot wrap material of spec {spec}")]
    WrappingNotForSpec {
        /// What was asked.
        algorithm: WrappingAlgorithm,
        /// What was asked.
        wrapping: WrappingKeySpec,
        /// The key's spec.
        spec: KeySpec,
    },
    /// Damaged, or another key's. InvalidImportTokenException, no message.
    #[error("the import token is not one of this key's")]
    InvalidImportToken,
    /// Older than a day. ExpiredImportTokenException, no message.
    #[error("the import token has expired")]
    ExpiredImportToken,

    // Families of multi-Region keys.
    /// A replica in a Region of another partition. ValidationException.
    #[error("the replica's Region is in another partition than the primary's")]
    OtherPartition,
    /// A Region that this cluster does not have. ValidationException.
    #[error("the cluster has no Region {region:?}")]
    RegionNotInCluster {
        /// As the caller wrote it.
        region: String,
    },
    /// The other Region did not answer, so nothing was begun. DependencyTimeoutException.
    #[error("Region {region} does not answer; nothing was changed")]
    RegionUnreachable {
        /// Which.
        region: Region,
    },
    /// What another Region's log answered about its member of the family.
    #[error("{region}: {refusal}")]
    RefusedElsewhere {
        /// Which Region.
        region: Region,
        /// Why.
        refusal: Refusal,
    },

    // What Keyrum lacks, or cannot do now.
    /// A part of the API that is not there yet. UnsupportedOperationException.
    /// Deviation: the real service has it.
    #[error("{what} is not available yet")]
    NotYet {
        /// What is missing, as the beginning of a sentence.
        what: &'static str,
    },
    /// The Region's clock may be moved in test clusters only.
    #[error("the Region's clock can be moved in test clusters only")]
    ClockNotForTests,
    /// The Region's clock would pass [`CLOCK_MAX`](crate::CLOCK_MAX); nothing was moved.
    #[error(
        "it cannot be moved past 9999-12-31T23:59:59Z, which is {} days ahead of it",
        left_ms / 86_400_000
    )]
    ClockTooFar {
        /// How far it can still be moved, in milliseconds.
        left_ms: u64,
    },
    /// No quorum answered in time and nothing was changed. DependencyTimeoutException.
    #[error("no quorum of the Region's nodes answered in time; nothing was changed")]
    DependencyTimeout,
    /// A key pair's primes were not found in time. DependencyTimeoutException.
    #[error("the key pair could not be generated in time; nothing was changed")]
    GenerationTimeout,
    /// The request was proposed and no answer came: it may still take effect.
    /// KMSInternalException, with the outcome marked unknown.
    #[error("the request was passed on and no answer came; it may still take effect")]
    OutcomeUnknown,
    /// This node or Region takes no such request now. KMSInternalException.
    #[error("{reason}")]
    Stopped {
        /// Why, for the operator.
        reason: String,
    },
    /// A fault of this node, told in its log. KMSInternalException.
    #[error("an internal error; the node's log tells more")]
    Internal,
}

impl From<ProposeError> for ServiceError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NoQuorum => Self::DependencyTimeout,
            ProposeError::OutcomeUnknown => Self::OutcomeUnknown,
            ProposeError::MutationsStopped { reason } | ProposeError::Stopped { reason } => {
                Self::Stopped { reason }
            }
        }
    }
}

impl From<ReadError> for ServiceError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NoQuorum => Self::DependencyTimeout,
            ReadError::Stopped { reason } => Self::Stopped { reason },
        }
    }
}

impl From<keyrum_crypto::InvalidCiphertext> for ServiceError {
    fn from(_: keyrum_crypto::InvalidCiphertext) -> Self {
        Self::InvalidCiphertext
    }
}

/// Refuses what a Region of this partition does not offer.
pub(crate) fn spec_in_region(spec: KeySpec, region: &Region) -> Result<(), ServiceError> {
    match spec.is_offered_in(region.partition()) {
        true => Ok(()),
        false => Err(ServiceError::SpecNotInRegion { spec }),
    }
}
