//! The API's names for what the service does: requests' members in, answers' members out, one
//! module for each family of operations.
//!
//! Nothing is checked here: the validator has seen the request, the service sees the rest.
//! Members of an answer stand in the service model's order.

mod agreement;
mod alias;
mod data_key_pair;
mod encryption;
mod failure;
mod grant;
mod import;
mod last_use;
mod lifecycle;
mod mac;
mod policy;
mod public_key;
mod replica_key;
mod rotation;
mod signing;
mod tag;

use std::future::ready;

use futures_util::FutureExt as _;
use keyrum_consensus::world::BoxFuture;
use keyrum_service::{
    Algorithms, AssumeRoleInput, AssumeRoleOutput, KeyInput, Page, PageRequest, RecipientInput,
    RequestContext, SecretOutput, Service, ServiceError, TemporaryCredentials,
};
use keyrum_types::EncryptionAlgorithm;

use crate::error::ApiError;
use crate::fields::Fields;
use crate::json::{Blob, ObjectWriter};
use crate::model::Operation;
use crate::regions::Backend;
use crate::sigv4::{CredentialError, Credentials, Found};
use crate::sts::{self, Identity};

impl Credentials for Service {
    fn any_declared(&self) -> bool {
        self.has_identities()
    }

    fn find<'a>(
        &'a self,
        access_key: &'a str,
        session_token: Option<&'a str>,
        thorough: bool,
    ) -> BoxFuture<'a, Result<Found, CredentialError>> {
        // Almost always this node can tell, and nothing has to be waited for.
        if let Some(found) = self.credentials_here(access_key, session_token, thorough) {
            return Box::pin(ready(found.map(Found::from).map_err(CredentialError::from)));
        }
        Box::pin(async move {
            let found = self.newest_credentials(access_key, session_token).await;
            found.map(Found::from).map_err(CredentialError::from)
        })
    }
}

impl From<keyrum_service::Credentials> for Found {
    fn from(found: keyrum_service::Credentials) -> Self {
        let keyrum_service::Credentials { secret, caller } = found;
        Self { secret, caller }
    }
}

impl From<keyrum_service::CredentialError> for CredentialError {
    fn from(why: keyrum_service::CredentialError) -> Self {
        use keyrum_service::CredentialError as Why;
        match why {
            Why::Unknown => Self::Unknown,
            Why::Inactive => Self::Inactive,
            Why::Expired => Self::Expired,
            Why::Service(_) => Self::Unavailable,
        }
    }
}

pub(crate) use lifecycle::metadata;

impl Backend for Service {
    fn credentials(&self) -> &dyn Credentials {
        self
    }

    fn leads(&self) -> bool {
        self.group().is_leader()
    }

    fn term(&self) -> u64 {
        self.group().term()
    }

    fn runs(&self) -> bool {
        self.group().stopped().now_or_never().is_none()
    }

    fn call<'a>(
        &'a self,
        operation: &'static Operation,
        context: &'a RequestContext,
        mut input: Fields<'a>,
    ) -> BoxFuture<'a, Result<Vec<u8>, ApiError>> {
        Box::pin(async move {
            let name = operation.name;
            let (service, input) = (self, &mut input);
            self.admit(context, name)
                .map_err(|error| api_error(self, context, error))?;
            let result = match name {
                "CancelKeyDeletion" => {
                    lifecycle::cancel_key_deletion(service, context, input).await
                }
                "CreateAlias" => alias::create_alias(service, context, input).await,
                "CreateGrant" => grant::create_grant(service, context, input).await,
                "CreateKey" => lifecycle::create_key(service, context, input).await,
                "Decapsulate" => agreement::decapsulate(service, context, input).await,
                "Decrypt" => encryption::decrypt(service, context, input).await,
                "DeleteAlias" => alias::delete_alias(service, context, input).await,
                "DeleteImportedKeyMaterial" => {
                    import::delete_imported_key_material(service, context, input).await
                }
                "DeriveSharedSecret" => {
                    agreement::derive_shared_secret(service, context, input).await
                }
                "DescribeKey" => lifecycle::describe_key(service, context, input).await,
                "DisableKey" => lifecycle::disable_key(service, context, input).await,
                "DisableKeyRotation" => {
                    rotation::disable_key_rotation(service, context, input).await
                }
                "EnableKey" => lifecycle::enable_key(service, context, input).await,
                "EnableKeyRotation" => rotation::enable_key_rotation(service, context, input).await,
                "Encapsulate" => agreement::encapsulate(service, context, input).await,
                "Encrypt" => encryption::encrypt(service, context, input).await,
                "GenerateDataKey" => encryption::generate_data_key(service, context, input).await,
                "GenerateDataKeyPair" => {
                    data_key_pair::generate_data_key_pair(service, context, input).await
                }
                "GenerateDataKeyPairWithoutPlaintext" => {
                    data_key_pair::generate_data_key_pair_without_plaintext(service, context, input)
                        .await
                }
                "GenerateDataKeyWithoutPlaintext" => {
                    encryption::generate_data_key_without_plaintext(service, context, input).await
                }
                "GenerateMac" => mac::generate_mac(service, context, input).await,
                "GenerateRandom" => encryption::generate_random(service, context, input).await,
                "GetKeyLastUsage" => last_use::get_key_last_usage(service, context, input).await,
                "GetKeyPolicy" => policy::get_key_policy(service, context, input).await,
                "GetKeyRotationStatus" => {
                    rotation::get_key_rotation_status(service, context, input).await
                }
                "GetParametersForImport" => {
                    import::get_parameters_for_import(service, context, input).await
                }
                "GetPublicKey" => public_key::get_public_key(service, context, input).await,
                "ImportKeyMaterial" => import::import_key_material(service, context, input).await,
                "ListAliases" => alias::list_aliases(service, context, input).await,
                "ListGrants" => grant::list_grants(service, context, input).await,
                "ListKeyPolicies" => policy::list_key_policies(service, context, input).await,
                "ListKeyRotations" => rotation::list_key_rotations(service, context, input).await,
                "ListKeys" => lifecycle::list_keys(service, context, input).await,
                "ListResourceTags" => tag::list_resource_tags(service, context, input).await,
                "ListRetirableGrants" => {
                    grant::list_retirable_grants(service, context, input).await
                }
                "PutKeyPolicy" => policy::put_key_policy(service, context, input).await,
                "ReEncrypt" => encryption::re_encrypt(service, context, input).await,
                "ReplicateKey" => replica_key::replicate_key(service, context, input).await,
                "RetireGrant" => grant::retire_grant(service, context, input).await,
                "RevokeGrant" => grant::revoke_grant(service, context, input).await,
                "RotateKeyOnDemand" => {
                    rotation::rotate_key_on_demand(service, context, input).await
                }
                "ScheduleKeyDeletion" => {
                    lifecycle::schedule_key_deletion(service, context, input).await
                }
                "Sign" => signing::sign(service, context, input).await,
                "TagResource" => tag::tag_resource(service, context, input).await,
                "UntagResource" => tag::untag_resource(service, context, input).await,
                "UpdateAlias" => alias::update_alias(service, context, input).await,
                "UpdateKeyDescription" => {
                    lifecycle::update_key_description(service, context, input).await
                }
                "UpdatePrimaryRegion" => {
                    replica_key::update_primary_region(service, context, input).await
                }
                "Verify" => signing::verify(service, context, input).await,
                "VerifyMac" => mac::verify_mac(service, context, input).await,
                _ => return Err(ApiError::not_yet(name)),
            };
            result.map_err(|error| api_error(self, context, error))
        })
    }

    fn identify(&self, context: &RequestContext) -> Identity {
        let identity = self.get_caller_identity(context);
        Identity {
            account: identity.account.to_string(),
            arn: identity.arn,
            user_id: identity.user_id,
        }
    }

    fn assume_role<'a>(
        &'a self,
        context: &'a RequestContext,
        input: AssumeRoleInput,
    ) -> BoxFuture<'a, Result<AssumeRoleOutput, ApiError>> {
        Box::pin(async move {
            let assumed = Self::assume_role(self, context, input).await;
            assumed.map_err(|error| sts::refused(error, |error| api_error(self, context, error)))
        })
    }

    fn get_session_token<'a>(
        &'a self,
        context: &'a RequestContext,
        duration_seconds: Option<i64>,
    ) -> BoxFuture<'a, Result<TemporaryCredentials, ApiError>> {
        Box::pin(async move {
            let session = Self::get_session_token(self, context, duration_seconds).await;
            session.map_err(|error| sts::refused(error, |error| api_error(self, context, error)))
        })
    }
}

fn api_error(service: &Service, context: &RequestContext, error: ServiceError) -> ApiError {
    let scene = failure::Scene {
        region: service.region(),
        account: context.caller.account,
    };
    failure::api_error(error, scene)
}

/// The body of an operation that answers nothing: the real service sends no bytes at all.
const NOTHING: Vec<u8> = Vec::new();

/// The key that a request names, when it says nothing else.
fn key_input(input: &mut Fields<'_>) -> KeyInput {
    KeyInput {
        key_id: input.required_text("KeyId"),
    }
}

/// Which part of a list a request asks for.
fn page_request(input: &mut Fields<'_>) -> PageRequest {
    PageRequest {
        limit: input
            .integer("Limit")
            .and_then(|limit| u32::try_from(limit).ok()),
        marker: input.text("Marker"),
    }
}

/// What every list answers beside its items.
fn end_of_page<T>(answer: &mut ObjectWriter, page: &Page<T>) {
    answer.text_if("NextMarker", page.next_marker.as_deref());
    answer.boolean("Truncated", page.next_marker.is_some());
}

/// Tags of a request, in the order sent.
fn tags(input: &mut Fields<'_>) -> Vec<(String, String)> {
    let tag = |mut tag: Fields<'_>| (tag.required_text("TagKey"), tag.required_text("TagValue"));
    input
        .structures("Tags")
        .unwrap_or_default()
        .into_iter()
        .map(tag)
        .collect()
}

/// An encryption algorithm of a request; SYMMETRIC_DEFAULT if it names none.
fn encryption_algorithm(input: &mut Fields<'_>, name: &str) -> EncryptionAlgorithm {
    let named = named(input, name, EncryptionAlgorithm::from_name);
    named.unwrap_or(EncryptionAlgorithm::SymmetricDefault)
}

/// One of an enumeration's values, if the request has the member and we have the value.
fn named<T>(
    input: &mut Fields<'_>,
    name: &str,
    from_name: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    input.text(name).and_then(|name| from_name(&name))
}

/// The same of a member that the model requires.
fn required_named<T>(
    input: &mut Fields<'_>,
    name: &str,
    from_name: impl FnOnce(&str) -> Option<T>,
) -> T {
    named(input, name, from_name)
        .expect("the validator has seen one of the model's values, and a test that we have each")
}

/// Bytes that need no wiping, taken out of the wrapper that would.
fn open_blob(input: &mut Fields<'_>, name: &str) -> Option<Vec<u8>> {
    input
        .blob(name)
        .map(|mut blob: Blob| std::mem::take(&mut *blob))
}

/// A writer with room for so many bytes in blobs, and a few names.
fn writer_for(blob_bytes: usize) -> ObjectWriter {
    ObjectWriter::with_capacity(512 + blob_bytes * 4 / 3)
}

/// For whom a request wants its answer's secret encrypted.
fn recipient(input: &mut Fields<'_>) -> Option<RecipientInput> {
    let mut recipient = input.structure("Recipient")?;
    Some(RecipientInput {
        algorithm_named: recipient.text("KeyEncryptionAlgorithm").is_some(),
        document: open_blob(&mut recipient, "AttestationDocument"),
    })
}

/// A secret under its name, unless it is for a recipient.
fn secret(answer: &mut ObjectWriter, name: &'static str, secret: &SecretOutput) {
    if let SecretOutput::Plain(secret) = secret {
        answer.blob(name, secret);
    }
}

/// A secret that is for a recipient.
fn secret_for_recipient(answer: &mut ObjectWriter, secret: &SecretOutput) {
    if let SecretOutput::ForRecipient(enveloped) = secret {
        answer.blob("CiphertextForRecipient", enveloped);
    }
}

/// What a key can be used with: one list, under the name of its kind. The API leaves out empty
/// ones.
fn algorithms(answer: &mut ObjectWriter, algorithms: Algorithms) {
    fn list<T: Copy>(
        answer: &mut ObjectWriter,
        name: &'static str,
        listed: &[T],
        name_of: impl Fn(T) -> &'static str,
    ) {
        if !listed.is_empty() {
            answer.texts(name, listed.iter().map(|&listed| name_of(listed)));
        }
    }
    match algorithms {
        Algorithms::Encryption(listed) => {
            list(answer, "EncryptionAlgorithms", listed, |of| of.name());
        }
        Algorithms::Signing(listed) => {
            list(answer, "SigningAlgorithms", listed, |of| of.name());
        }
        Algorithms::Mac(listed) => list(answer, "MacAlgorithms", listed, |of| of.name()),
        Algorithms::KeyAgreement(listed) => {
            list(answer, "KeyAgreementAlgorithms", listed, |of| of.name());
        }
        Algorithms::Encapsulation(listed) => {
            list(answer, "EncapsulationAlgorithms", listed, |of| of.name());
        }
    }
}

/// Whether a request is a dry run that need not have a ciphertext.
fn ignores_ciphertext(input: &mut Fields<'_>) -> bool {
    let modifiers = input.texts("DryRunModifiers").unwrap_or_default();
    modifiers
        .iter()
        .any(|modifier| modifier == "IGNORE_CIPHERTEXT")
}

#[cfg(test)]
mod tests {
    use keyrum_types::{
        DataKeyPairSpec, EncapsulationAlgorithm, GrantOperation, KeyAgreementAlgorithm, KeySpec,
        KeyUsage, MacAlgorithm, MessageType, Origin, SigningAlgorithm,
    };

    use super::*;

    /// Catches a value that the model has and we do not know, or the reverse.
    #[test]
    fn enumerations_are_the_models() {
        let bytes = include_bytes!("../../model/kms-service-model.json");
        let model: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        let check = |shape: &str, mut ours: Vec<&str>| {
            let values = model["shapes"][shape]["enum"].as_array().unwrap();
            let mut values: Vec<_> = values.iter().map(|v| v.as_str().unwrap()).collect();
            values.sort_unstable();
            ours.sort_unstable();
            assert_eq!(values, ours, "{shape}");
        };
        macro_rules! names {
            ($type:ty) => {
                <$type>::ALL.iter().map(|value| value.name()).collect()
            };
        }
        check("DataKeyPairSpec", names!(DataKeyPairSpec));
        check("EncapsulationAlgorithmSpec", names!(EncapsulationAlgorithm));
        check("EncryptionAlgorithmSpec", names!(EncryptionAlgorithm));
        check("KeyAgreementAlgorithmSpec", names!(KeyAgreementAlgorithm));
        check("GrantOperation", names!(GrantOperation));
        check("KeySpec", names!(KeySpec));
        check("KeyUsageType", names!(KeyUsage));
        check("MacAlgorithmSpec", names!(MacAlgorithm));
        check("MessageType", names!(MessageType));
        check("OriginType", names!(Origin));
        check("SigningAlgorithmSpec", names!(SigningAlgorithm));
    }
}
