//! Each of the service's errors as one error of the API.
//!
//! No `_` arm: an error that is added must be given a name and a text here. Texts marked "own
//! text" are Keyrum's, where the real service's are not known.

use keyrum_authz::{Denied, DeniedReason, DeniedResource, MalformedPolicy};
use keyrum_service::ServiceError;
use keyrum_state::{KeyRef, Refusal, grant_operations_for};
use keyrum_types::{AccountId, AliasName, GrantOperation, KeyState, Region, alias_arn, key_arn};

use crate::error::ApiError;

/// Where an error happened: what its text needs beside the error itself.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) region: &'a Region,
    /// The caller's account, whose aliases are meant.
    pub(super) account: AccountId,
}

impl Scene<'_> {
    fn key(&self, key: &KeyRef) -> String {
        key_arn(self.region, key.account, key.id)
    }

    fn alias(&self, alias: &AliasName) -> String {
        alias_arn(self.region, self.account, alias)
    }
}

/// The error of the API that a service's error is.
pub(super) fn api_error(error: ServiceError, scene: Scene<'_>) -> ApiError {
    match error {
        ServiceError::Refused(refusal) => refused(refusal, scene),

        ServiceError::Throttled => ApiError::client(
            "ThrottlingException",
            "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.",
        ),
        // Own text.
        ServiceError::CustomTag { why } => ApiError::validation(why),
        // Own text.
        ServiceError::CustomIdTaken { arn } => ApiError::client(
            "AlreadyExistsException",
            format!("A key with the ID of the tag _custom_id_ already exists: {arn}"),
        ),

        ServiceError::InvalidKeyId { text } => not_found(format!("Invalid keyId '{text}'")),
        ServiceError::InvalidKeyIdInArn { text } => not_found(format!("Invalid keyId {text}")),
        ServiceError::OtherRegion { region } => not_found(format!("Invalid arn {region}")),
        ServiceError::KeyNotFound { arn } => not_found(format!("Key '{arn}' does not exist")),
        ServiceError::AliasNotFound { arn } => not_found(format!("Alias {arn} is not found.")),
        ServiceError::AliasNotSupported => ApiError::client(
            "InvalidArnException",
            "Key Aliases are not supported for this operation.",
        ),
        ServiceError::AliasAsTarget => {
            ApiError::validation("Aliases must refer to keys. Not aliases")
        }
        ServiceError::MalformedArn { text } => {
            // Own text.
            ApiError::client("InvalidArnException", format!("Invalid arn {text}"))
        }
        // A key of another account must not be told from one that does not exist.
        ServiceError::CrossAccount => {
            access_denied("This operation cannot be called cross account".to_owned())
        }

        ServiceError::AliasPrefix => ApiError::validation(
            "Alias must start with the prefix \"alias/\". Please see \
             https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html",
        ),
        ServiceError::AliasCharacters { alias } => {
            ApiError::validation(format!("{alias} contains invalid characters for an alias"))
        }

        ServiceError::SpecGivenTwice => ApiError::validation(
            "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. \
             CustomerMasterKeySpec is deprecated.",
        ),
        ServiceError::UsageRequired => ApiError::validation(
            "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.",
        ),
        ServiceError::UsageNotForSpec { usage, spec } => ApiError::validation(format!(
            "KeyUsage {usage} is not compatible with KeySpec {spec}"
        )),
        ServiceError::SpecNotForOrigin { spec, origin } => ApiError::validation(format!(
            "KeySpec {spec} is not supported for Origin {origin}"
        )),
        ServiceError::SpecNotInRegion { spec } => {
            unsupported(format!("KeySpec {spec} is not supported in this Region"))
        }
        // Own text.
        ServiceError::OriginNotForStore => {
            ApiError::validation("Origin, CustomKeyStoreId and XksKeyId do not fit together.")
        }
        ServiceError::WaitingDaysOutOfRange => {
            ApiError::validation("PendingWindowInDays must be between 7 and 30")
        }
        ServiceError::DataKeySize => {
            ApiError::validation("Please specify either number of bytes or key spec.")
        }
        ServiceError::NumberOfBytesRequired => ApiError::validation("NumberOfBytes is required."),
        ServiceError::KeyIdRequired => ApiError::validation("KeyId must not be null"),
        ServiceError::SourceKeyIdRequired => ApiError::validation("SourceKeyId must not be null"),
        ServiceError::CiphertextRequired => ApiError::validation(
            "1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy \
             constraint: Member must not be null",
        ),
        // Own text.
        ServiceError::IgnoreCiphertextWithoutDryRun => {
            ApiError::validation("DryRunModifiers can be used only with DryRun.")
        }
        // Own text.
        ServiceError::EncryptionContextTooLong { bytes_max } => ApiError::validation(format!(
            "The encryption context must have at most {bytes_max} bytes."
        )),
        ServiceError::IncludeMaterialOfAsymmetric => ApiError::validation(
            "Input parameter includeKeyMaterial can only be used with symmetric keys.",
        ),
        ServiceError::LimitTooLarge { limit, max } => ApiError::validation(format!(
            "1 validation error detected: Value '{limit}' at 'limit' failed to satisfy \
             constraint: Member must have value less than or equal to {max}"
        )),
        ServiceError::InvalidMarker => ApiError::client("InvalidMarkerException", ""),

        ServiceError::NoSuchPolicy => not_found("No such policy exists".to_owned()),
        ServiceError::RamPolicy => {
            ApiError::validation("The AWS_RAM policy can only be managed by the RAM service")
        }
        // Own text.
        ServiceError::PolicyName { name } => {
            ApiError::validation(format!("The policy name must be default, not {name}."))
        }

        ServiceError::UsageNotForOperation {
            arn,
            usage,
            operation,
        } => wrong_usage(format!(
            "{arn} key usage is {usage} which is not valid for {operation}."
        )),
        ServiceError::AlgorithmNotForSpec { algorithm, spec } => wrong_usage(format!(
            "Algorithm {algorithm} is incompatible with key spec {spec}."
        )),
        ServiceError::DataKeyFromAsymmetric => {
            wrong_usage("You cannot generate a data key with an asymmetric CMK".to_owned())
        }
        ServiceError::DataKeyPairFromAsymmetric => {
            wrong_usage("You cannot generate a data key pair with an asymmetric CMK".to_owned())
        }
        ServiceError::PlaintextTooLong {
            algorithm,
            spec,
            bytes_max,
        } => ApiError::validation(format!(
            "Algorithm {algorithm} and key spec {spec} cannot encrypt data larger than \
             {bytes_max} bytes."
        )),
        ServiceError::MessageTypeNotForSpec { message_type, spec } => ApiError::validation(
            format!("Message type {message_type} is incompatible with key spec {spec}."),
        ),
        ServiceError::MessageTypeNotForAlgorithm {
            message_type,
            algorithm,
        } => ApiError::validation(format!(
            "Message type {message_type} is incompatible with algorithm {algorithm}."
        )),
        ServiceError::DigestLength { algorithm } => ApiError::validation(format!(
            "Digest is invalid length for algorithm {algorithm}."
        )),
        ServiceError::MuLength { algorithm } => ApiError::validation(format!(
            "External Mu is invalid length for algorithm {algorithm}."
        )),
        ServiceError::InvalidSignature => ApiError::client("KMSInvalidSignatureException", ""),
        ServiceError::InvalidMac => ApiError::client("KMSInvalidMacException", ""),
        ServiceError::InvalidPeerKey => ApiError::validation(""),
        ServiceError::ContextWithAsymmetric => ApiError::validation(
            "EncryptionContext is not supported when encrypting/decrypting with asymmetric CMKs.",
        ),
        ServiceError::InvalidCiphertext => ApiError::client("InvalidCiphertextException", ""),
        ServiceError::IncorrectKey => ApiError::client(
            "IncorrectKeyException",
            "The key ID in the request does not identify a CMK that can perform this operation.",
        ),
        ServiceError::CiphertextKeyMissing => access_denied(
            "The ciphertext refers to a customer master key that does not exist, does not exist \
             in this region, or you are not allowed to access."
                .to_owned(),
        ),
        ServiceError::RecipientIncomplete { document_given } => {
            let missing = match document_given {
                true => "keyEncryptionAlgorithm",
                false => "attestationDocument",
            };
            ApiError::validation(format!(
                "1 validation error detected: Value null at 'recipient.{missing}' failed to \
                 satisfy constraint: Member must not be null"
            ))
        }
        // Own text.
        ServiceError::Attestation(error) => ApiError::validation(format!(
            "The attestation document was not accepted: {error}."
        )),
        // Own text.
        ServiceError::InvalidGrantId => ApiError::client(
            "InvalidGrantIdException",
            "The grant ID must be 64 lower-case hexadecimal digits.",
        ),
        // Own text.
        ServiceError::GrantParameters { why } => ApiError::validation(why),
        ServiceError::PrincipalMalformed { arn } => invalid_arn(format!("ARN is not valid: {arn}")),
        ServiceError::PrincipalUnknown { arn } => {
            invalid_arn(format!("ARN does not refer to a valid principal: {arn}"))
        }
        ServiceError::PrincipalIdUnknown { member } => {
            // ListGrants' text has no full stop, as far as it is known.
            let end = if member == "Input" { "" } else { "." };
            invalid_arn(format!("{member} does not refer to a valid principal{end}"))
        }
        ServiceError::RetiringPrincipalNotFound { id } => {
            not_found(format!("Retiring principal {id} could not be found"))
        }
        ServiceError::KeyArnRequired { text } => not_found(format!("Invalid arn {text}")),
        ServiceError::InvalidGrantToken => {
            // Own text.
            ApiError::client("InvalidGrantTokenException", "A grant token is not valid.")
        }
        ServiceError::DryRun => ApiError::client(
            "DryRunOperationException",
            "The request would have succeeded, but the DryRun option is set.",
        ),

        ServiceError::ValidToRequired => ApiError::validation(
            "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES",
        ),
        ServiceError::ValidToForbidden => ApiError::validation(
            "A validTo date cannot be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE",
        ),
        ServiceError::WrappingNotForSpec {
            algorithm,
            wrapping,
            spec,
        } => ApiError::validation(format!(
            "Wrapping algorithm {algorithm} and wrapping key spec {wrapping} cannot be used to \
             import a {spec} key."
        )),
        ServiceError::InvalidImportToken => ApiError::client("InvalidImportTokenException", ""),
        ServiceError::ExpiredImportToken => ApiError::client("ExpiredImportTokenException", ""),

        ServiceError::OtherPartition => ApiError::validation(
            "The replica key Region must be in the same AWS partition as the primary key Region.",
        ),
        ServiceError::RegionNotInCluster { region } => ApiError::validation(format!(
            "Region {region} is not a valid Region or multi-Region keys are not supported in \
             Region {region}."
        )),
        ServiceError::RegionUnreachable { region } => ApiError::dependency_timeout(format!(
            "Region {region} does not answer. Nothing was changed."
        )),
        ServiceError::RefusedElsewhere { region, refusal } => {
            let region = &region;
            refused(refusal, Scene { region, ..scene })
        }

        ServiceError::NotYet { what } => {
            unsupported(format!("{what} is not available in Keyrum yet."))
        }
        ServiceError::ClockNotForTests => {
            unsupported("The Region's clock can be moved in test clusters only.".to_owned())
        }
        ServiceError::ClockTooFar { .. } => {
            unsupported("The Region's clock cannot be moved past the year 9999.".to_owned())
        }
        ServiceError::DependencyTimeout => ApiError::dependency_timeout(
            "No quorum of the Region's nodes answered in time. Nothing was changed.",
        ),
        ServiceError::GenerationTimeout => ApiError::dependency_timeout(
            "The key pair could not be generated in time. Nothing was changed; try again.",
        ),
        ServiceError::OutcomeUnknown => outcome_unknown(),
        ServiceError::Stopped { reason } => ApiError::fault(
            "KMSInternalException",
            format!("This node takes no such request: {reason}"),
        ),
        ServiceError::Internal => ApiError::fault(
            "KMSInternalException",
            "An internal error; the node's log tells more.",
        ),
    }
}

fn refused(refusal: Refusal, scene: Scene<'_>) -> ApiError {
    match refusal {
        Refusal::NoSuchPrincipal { arn } => {
            invalid_arn(format!("ARN does not refer to a valid principal: {arn}"))
        }
        Refusal::NoSuchKey { key } => {
            not_found(format!("Key '{}' does not exist", scene.key(&key)))
        }
        Refusal::NotAuthorized(denied) => not_authorized(&denied),
        Refusal::KeyExists { key } => ApiError::fault(
            "KMSInternalException",
            format!(
                "The id drawn for a new key, {}, is taken. Nothing was changed.",
                key.id
            ),
        ),
        Refusal::WrongState { key, state } => wrong_state(&scene.key(&key), state),
        Refusal::NotPendingDeletion { key } => {
            invalid_state(format!("{} is not pending deletion.", scene.key(&key)))
        }
        // Own text.
        Refusal::TooManyKeys { limit } => limit_exceeded(format!(
            "The account has {limit} keys in this Region, the most it may have."
        )),
        Refusal::AliasExists { alias } => ApiError::client(
            "AlreadyExistsException",
            format!(
                "An alias with the name {} already exists",
                scene.alias(&alias)
            ),
        ),
        Refusal::NoSuchAlias { alias } => {
            not_found(format!("Alias {} is not found.", scene.alias(&alias)))
        }
        // Own text.
        Refusal::TooManyAliases { key, limit } => limit_exceeded(format!(
            "{} has {limit} aliases, the most it may have.",
            scene.key(&key)
        )),
        Refusal::ReservedAlias { .. } => ApiError::client(
            "NotAuthorizedException",
            "The alias name for a customer managed CMK cannot begin with alias/aws/.",
        ),
        // Own text.
        Refusal::AliasKindMismatch { alias } => ApiError::validation(format!(
            "Alias {} can be moved only to a key of the same kind and usage.",
            scene.alias(&alias)
        )),
        Refusal::ReservedTag => tag("Tags beginning with aws: are reserved"),
        Refusal::DuplicateTags => tag("Duplicate tag keys"),
        Refusal::TooManyTags => tag("Too many tags"),
        // Own text.
        Refusal::PolicyTooLong { limit } => {
            limit_exceeded(format!("A key policy must have at most {limit} bytes."))
        }
        Refusal::MalformedPolicy(malformed) => malformed_policy(&malformed),
        Refusal::ClockUnconfirmed { .. } => ApiError::fault(
            "KMSInternalException",
            "This node's clock is far ahead of the other nodes'. Nothing was changed.",
        ),
        Refusal::FeatureLevelNotHigher { .. } => {
            ApiError::fault("KMSInternalException", "The feature level can only rise.")
        }
        Refusal::OutcomeUnknown => outcome_unknown(),
        Refusal::OriginNotForOperation { key, origin } => unsupported(format!(
            "{} origin is {origin} which is not valid for this operation.",
            scene.key(&key)
        )),
        Refusal::SpecNotForOperation { .. } => unsupported(String::new()),
        // Own text.
        Refusal::RotationDue { key, .. } => ApiError::client(
            "ConflictException",
            format!(
                "An automatic rotation of {} is in progress or due within 20 minutes.",
                scene.key(&key)
            ),
        ),
        Refusal::TooManyRotations { key, .. } => limit_exceeded(format!(
            "The on-demand rotations limit has been reached for the given keyId. No more \
             on-demand rotations can be performed for this key: {}",
            scene.key(&key)
        )),
        Refusal::NoMaterialToRotateTo { key } => invalid_state(format!(
            "No available key material pending rotation for the key: {}.",
            scene.key(&key)
        )),
        Refusal::NotMultiRegion { key } => {
            unsupported(format!("{} is not a multi-region key.", scene.key(&key)))
        }
        Refusal::NotPrimary { key } => unsupported(format!(
            "{} is not a multi-region primary key.",
            scene.key(&key)
        )),
        Refusal::NoPrimaryToMove { key } => invalid_state(format!(
            "{} is not a multi-Region primary key.",
            scene.key(&key)
        )),
        Refusal::PrimaryIsThere { .. } => ApiError::validation(format!(
            "{} cannot have a replica because it contains the primary.",
            scene.region
        )),
        Refusal::ReplicaExists { .. } => ApiError::client(
            "AlreadyExistsException",
            "You can create only one replica of each primary key in each AWS Region.",
        ),
        Refusal::NoReplicaThere { key, .. } => ApiError::validation(format!(
            "{} does not have a replica key in the specified Region.",
            key.id
        )),
        Refusal::ReplicaIsCreating { key, region } => {
            wrong_state(&key_arn(&region, key.account, key.id), KeyState::Creating)
        }
        Refusal::ReplicaNotForOperation { key, operation } => unsupported(format!(
            "{} is a multi-region replica key which is not valid for {operation}.",
            scene.key(&key)
        )),
        Refusal::ImportParameterNotForSpec { parameter, spec } => ApiError::validation(format!(
            "Input parameter {parameter} cannot be used with {spec} imported keys."
        )),
        Refusal::NewMaterialNamed => ApiError::validation(
            "Input parameter keyMaterialId cannot be used with NEW_KEY_MATERIAL importType.",
        ),
        Refusal::ExpiryPast { .. } => ApiError::validation("ValidTo must be in the future"),
        Refusal::ExpiryTooFar { days_max, .. } => ApiError::validation(format!(
            "ValidTo must be less than {days_max} days in the future"
        )),
        Refusal::OtherMaterialExpected { expected, .. } => incorrect_material(match expected {
            Some(expected) => {
                format!("Imported key material does not have the expected identifier ({expected}).")
            }
            // Own text: none is expected, since nothing was ever imported.
            None => "Imported key material does not have the expected identifier.".to_owned(),
        }),
        Refusal::MaterialAssociated { key, material } => incorrect_material(format!(
            "Key material (id: {material}) being imported as NEW_KEY_MATERIAL is already \
             associated with KMS key {}.",
            scene.key(&key)
        )),
        Refusal::MaterialPendingRotation { key, pending, new } => invalid_state(format!(
            "New key material (id: {new}) cannot be imported into KMS key {}, because another \
             key material (id: {pending}) is pending rotation.",
            scene.key(&key)
        )),
        Refusal::NewMaterialOnReplica { .. } => ApiError::validation(
            "Input parameter ImportType NEW_KEY_MATERIAL cannot be used on replica Multi-Region keys",
        ),
        Refusal::DescriptionOnReplica { .. } => ApiError::validation(
            "Key material description can only be specified on primary Multi-Region keys",
        ),
        Refusal::ReplicasLackMaterial { .. } => invalid_state(
            "Cannot perform key material rotation: Key material has not been imported for replicas \
             of the Multi-Region key."
                .to_owned(),
        ),
        Refusal::OperationsNotForKey {
            operations,
            spec,
            usage,
            ..
        } => {
            let kind = match spec.is_asymmetric() {
                true => "an asymmetric",
                false => "a symmetric",
            };
            let list = |operations: &[GrantOperation]| {
                let names: Vec<_> = operations.iter().map(|operation| operation.name()).collect();
                names.join(", ")
            };
            ApiError::validation(format!(
                "Operations [{}] are not supported when creating a grant for {kind} KMS key with \
                 key usage {usage}. Valid operations are [{}]",
                list(&operations),
                list(&grant_operations_for(spec, usage))
            ))
        }
        Refusal::OnlyCreateGrant => {
            ApiError::validation("Grants must not contain only the CreateGrant operation.")
        }
        Refusal::ContextConstraintNotForKey { .. } => ApiError::validation(
            "EncryptionContext is supported only when creating a grant for a symmetric encryption \
             KMS key.",
        ),
        // Own text.
        Refusal::TooManyGrants { key, limit } => limit_exceeded(format!(
            "{} has {limit} grants, the most it may have.",
            scene.key(&key)
        )),
        Refusal::GrantExists { grant, .. } => ApiError::fault(
            "KMSInternalException",
            format!("The id drawn for a new grant, {grant}, is taken. Nothing was changed."),
        ),
        // Own text.
        Refusal::NoSuchGrant { key, grant } => not_found(format!(
            "Grant {grant} of {} does not exist",
            scene.key(&key)
        )),
        Refusal::NoSuchMaterial { key, material } => ApiError::validation(format!(
            "Key material (id: {material}) has never been imported into KMS key {}.",
            scene.key(&key)
        )),
        // Only operators' commands are refused so, and they have no API.
        refusal @ (Refusal::FeatureLevelTooLow { .. }
        | Refusal::IdentitiesLedElsewhere { .. }
        | Refusal::IdentityChanged { .. }
        | Refusal::NoSuchIdentity { .. }
        | Refusal::InvalidIdentity { .. }
        | Refusal::TooManyIdentities { .. }
        | Refusal::IdentityIdTaken { .. }
        | Refusal::DomainKeyStage { .. }
        | Refusal::DomainKeyUnconfirmed { .. }
        | Refusal::DomainKeyInUse { .. }
        | Refusal::DomainKeyTokensValid { .. }) => {
            ApiError::fault("KMSInternalException", refusal.to_string())
        }
        // The node seals anew and proposes again; only one that lacks the newest version cannot.
        Refusal::SealingRetired { .. } => ApiError::fault(
            "DependencyTimeoutException",
            "This node does not have the version of the domain key that seals yet. Nothing was \
             changed; try again.",
        ),
        Refusal::MessagesMissing { .. } | Refusal::NeverSent { .. } => ApiError::fault(
            "KMSInternalException",
            "A message between Regions does not follow what was taken. Nothing was changed.",
        ),
    }
}

fn not_authorized(denied: &Denied) -> ApiError {
    let Denied {
        principal,
        action,
        resource,
        reason,
    } = denied;
    let reason = match reason {
        DeniedReason::NoIdentityBasedPolicy => {
            format!("because no identity-based policy allows the kms:{action} action")
        }
        DeniedReason::NoResourceBasedPolicy => {
            format!("because no resource-based policy allows the kms:{action} action")
        }
        DeniedReason::NoSessionPolicy => {
            format!("because no session policy allows the kms:{action} action")
        }
        DeniedReason::NoPermissionsBoundary => {
            format!("because no permissions boundary allows the kms:{action} action")
        }
        DeniedReason::DeniedByIdentityPolicy => {
            "with an explicit deny in an identity-based policy".to_owned()
        }
        DeniedReason::DeniedByResourcePolicy => {
            "with an explicit deny in a resource-based policy".to_owned()
        }
        DeniedReason::DeniedBySessionPolicy => {
            "with an explicit deny in a session policy".to_owned()
        }
        DeniedReason::DeniedByPermissionsBoundary => {
            "with an explicit deny in a permissions boundary".to_owned()
        }
        DeniedReason::NoCaller | DeniedReason::RegionOnly => {
            return ApiError::fault(
                "KMSInternalException",
                "The command has the wrong kind of caller.",
            );
        }
    };
    let resource = match resource {
        DeniedResource::Any => "resource: *".to_owned(),
        DeniedResource::Arn(arn) => format!("resource: {arn}"),
        DeniedResource::OtherAccount => "this resource".to_owned(),
        DeniedResource::OfCiphertext => {
            "resource: the resource associated with this ciphertext".to_owned()
        }
    };
    access_denied(format!(
        "User: {principal} is not authorized to perform: kms:{action} on {resource} {reason}"
    ))
}

fn wrong_state(arn: &str, state: KeyState) -> ApiError {
    let is = match state {
        KeyState::Disabled => {
            return ApiError::client("DisabledException", format!("{arn} is disabled."));
        }
        KeyState::Creating => "creating",
        // Nothing refuses an enabled key for its state today.
        KeyState::Enabled => "enabled",
        KeyState::PendingDeletion => "pending deletion",
        KeyState::PendingImport => "pending import",
        KeyState::PendingReplicaDeletion => "pending replica deletion",
        KeyState::Unavailable => "unavailable",
        KeyState::Updating => "updating",
    };
    invalid_state(format!("{arn} is {is}."))
}

fn malformed_policy(malformed: &MalformedPolicy) -> ApiError {
    let code = match malformed {
        MalformedPolicy::InvalidArn => "InvalidArnException",
        MalformedPolicy::Syntax { .. }
        | MalformedPolicy::UnknownVersion
        | MalformedPolicy::NoStatement
        | MalformedPolicy::InvalidEffect
        | MalformedPolicy::NoPrincipal
        | MalformedPolicy::InvalidPrincipals
        | MalformedPolicy::LocksCallerOut
        | MalformedPolicy::PrincipalProhibited
        | MalformedPolicy::NoAction
        | MalformedPolicy::NoResource
        | MalformedPolicy::NoVendor
        | MalformedPolicy::ResourceNotArn { .. }
        | MalformedPolicy::InvalidSid
        | MalformedPolicy::DuplicateSid
        | MalformedPolicy::NotAnAssumeRoleAction
        | MalformedPolicy::ResourceProhibited
        | MalformedPolicy::OverlyPermissiveCondition { .. } => "MalformedPolicyDocumentException",
    };
    // `authz` words these as the API does.
    ApiError::client(code, malformed.to_string())
}

fn outcome_unknown() -> ApiError {
    ApiError::outcome_unknown(
        "The request was passed on and no answer came. It may still take effect.",
    )
}

fn not_found(message: String) -> ApiError {
    ApiError::client("NotFoundException", message)
}

fn invalid_arn(message: String) -> ApiError {
    ApiError::client("InvalidArnException", message)
}

fn access_denied(message: String) -> ApiError {
    ApiError::client("AccessDeniedException", message)
}

fn unsupported(message: String) -> ApiError {
    ApiError::client("UnsupportedOperationException", message)
}

fn wrong_usage(message: String) -> ApiError {
    ApiError::client("InvalidKeyUsageException", message)
}

fn invalid_state(message: String) -> ApiError {
    ApiError::client("KMSInvalidStateException", message)
}

fn incorrect_material(message: String) -> ApiError {
    ApiError::client("IncorrectKeyMaterialException", message)
}

fn limit_exceeded(message: String) -> ApiError {
    ApiError::client("LimitExceededException", message)
}

fn tag(message: &'static str) -> ApiError {
    ApiError::client("TagException", message)
}

#[cfg(test)]
mod tests {
    use keyrum_types::{KeyId, KeySpec, Origin};

    use super::*;

    fn shown(error: ServiceError) -> String {
        let region = "us-east-1".parse().unwrap();
        let account = "111122223333".parse().unwrap();
        let error = api_error(
            error,
            Scene {
                region: &region,
                account,
            },
        );
        format!("{} {}: {}", error.status, error.code, error.message)
    }

    /// Catches a text or a name that clients of the real service would not recognise.
    #[test]
    fn errors_are_the_real_ones() {
        let key = KeyRef {
            account: "111122223333".parse().unwrap(),
            id: "1234abcd-12ab-34cd-56ef-1234567890ab"
                .parse::<KeyId>()
                .unwrap(),
        };
        let arn = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
        let alias = AliasName::new("alias/a").unwrap();
        let alias_arn = "arn:aws:kms:us-east-1:111122223333:alias/a";
        let state = |state| ServiceError::Refused(Refusal::WrongState { key, state });
        for (error, text) in [
            (
                ServiceError::Refused(Refusal::NoSuchKey { key }),
                format!("400 NotFoundException: Key '{arn}' does not exist"),
            ),
            (
                state(KeyState::Disabled),
                format!("400 DisabledException: {arn} is disabled."),
            ),
            (
                state(KeyState::PendingDeletion),
                format!("400 KMSInvalidStateException: {arn} is pending deletion."),
            ),
            (
                ServiceError::Refused(Refusal::AliasExists {
                    alias: alias.clone(),
                }),
                format!(
                    "400 AlreadyExistsException: An alias with the name {alias_arn} already exists"
                ),
            ),
            (
                ServiceError::Refused(Refusal::NoSuchAlias { alias }),
                format!("400 NotFoundException: Alias {alias_arn} is not found."),
            ),
            (
                ServiceError::Refused(Refusal::TooManyTags),
                "400 TagException: Too many tags".to_owned(),
            ),
            (
                ServiceError::Refused(Refusal::NotAuthorized(Denied {
                    principal: "arn:me".to_owned(),
                    action: "DisableKey".to_owned(),
                    resource: DeniedResource::OtherAccount,
                    reason: DeniedReason::NoResourceBasedPolicy,
                })),
                "400 AccessDeniedException: User: arn:me is not authorized to perform: \
                 kms:DisableKey on this resource because no resource-based policy allows the \
                 kms:DisableKey action"
                    .to_owned(),
            ),
            (
                ServiceError::Refused(Refusal::MalformedPolicy(MalformedPolicy::LocksCallerOut)),
                "400 MalformedPolicyDocumentException: The new key policy will not allow you to \
                 update the key policy in the future."
                    .to_owned(),
            ),
            (
                Refusal::OriginNotForOperation {
                    key,
                    origin: Origin::External,
                }
                .into(),
                format!(
                    "400 UnsupportedOperationException: {arn} origin is EXTERNAL which is not \
                     valid for this operation."
                ),
            ),
            (
                Refusal::SpecNotForOperation {
                    key,
                    spec: KeySpec::Rsa2048,
                }
                .into(),
                "400 UnsupportedOperationException: ".to_owned(),
            ),
            (
                Refusal::TooManyRotations { key, limit: 25 }.into(),
                format!(
                    "400 LimitExceededException: The on-demand rotations limit has been reached \
                     for the given keyId. No more on-demand rotations can be performed for this \
                     key: {arn}"
                ),
            ),
            (
                Refusal::NoMaterialToRotateTo { key }.into(),
                format!(
                    "400 KMSInvalidStateException: No available key material pending rotation \
                     for the key: {arn}."
                ),
            ),
            (
                ServiceError::IncludeMaterialOfAsymmetric,
                "400 ValidationException: Input parameter includeKeyMaterial can only be used \
                 with symmetric keys."
                    .to_owned(),
            ),
            (
                ServiceError::InvalidKeyId {
                    text: "nosuchkey".to_owned(),
                },
                "400 NotFoundException: Invalid keyId 'nosuchkey'".to_owned(),
            ),
            (
                ServiceError::InvalidCiphertext,
                "400 InvalidCiphertextException: ".to_owned(),
            ),
            (
                ServiceError::LimitTooLarge { limit: 51, max: 50 },
                "400 ValidationException: 1 validation error detected: Value '51' at 'limit' \
                 failed to satisfy constraint: Member must have value less than or equal to 50"
                    .to_owned(),
            ),
        ] {
            assert_eq!(shown(error), text);
        }
    }

    /// Catches an unknown outcome that a client would take for a failure.
    #[test]
    fn unknown_outcomes_are_marked() {
        let region = "us-east-1".parse().unwrap();
        let account = "111122223333".parse().unwrap();
        let scene = Scene {
            region: &region,
            account,
        };
        for error in [ServiceError::OutcomeUnknown, Refusal::OutcomeUnknown.into()] {
            let error = api_error(error, scene);
            assert_eq!((error.status, error.code), (500, "KMSInternalException"));
            assert!(error.outcome_unknown);
        }
        let error = api_error(ServiceError::DependencyTimeout, scene);
        assert_eq!(
            (error.status, error.code),
            (500, "DependencyTimeoutException")
        );
        assert!(!error.outcome_unknown);
    }
}
