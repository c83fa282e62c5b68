//! The API's names for what the service does: requests' members in, answers' members out, one
//! module for each family of operations.
//!
//! Nothing is checked here: the validator has seen the request, the service sees the rest.
//! Members of an answer stand in the service model's order.

mod alias;
mod encryption;
mod failure;
mod last_use;
mod lifecycle;
mod policy;
mod replica_key;
mod rotation;
mod tag;

use futures_util::FutureExt as _;
use keyrum_consensus::world::BoxFuture;
use keyrum_service::{EncryptionAlgorithm, KeyInput, Page, PageRequest, RequestContext, Service};

use crate::error::ApiError;
use crate::fields::Fields;
use crate::json::ObjectWriter;
use crate::model::Operation;
use crate::regions::Backend;
use crate::sts::Identity;

impl Backend for Service {
    fn leads(&self) -> bool {
        self.group().is_leader()
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
            let result = match name {
                "CancelKeyDeletion" => {
                    lifecycle::cancel_key_deletion(service, context, input).await
                }
                "CreateAlias" => alias::create_alias(service, context, input).await,
                "CreateKey" => lifecycle::create_key(service, context, input).await,
                "Decrypt" => encryption::decrypt(service, context, input).await,
                "DeleteAlias" => alias::delete_alias(service, context, input).await,
                "DescribeKey" => lifecycle::describe_key(service, context, input).await,
                "DisableKey" => lifecycle::disable_key(service, context, input).await,
                "DisableKeyRotation" => {
                    rotation::disable_key_rotation(service, context, input).await
                }
                "EnableKey" => lifecycle::enable_key(service, context, input).await,
                "EnableKeyRotation" => rotation::enable_key_rotation(service, context, input).await,
                "Encrypt" => encryption::encrypt(service, context, input).await,
                "GenerateDataKey" => encryption::generate_data_key(service, context, input).await,
                "GenerateDataKeyWithoutPlaintext" => {
                    encryption::generate_data_key_without_plaintext(service, context, input).await
                }
                "GenerateRandom" => encryption::generate_random(service, context, input),
                "GetKeyLastUsage" => last_use::get_key_last_usage(service, context, input).await,
                "GetKeyPolicy" => policy::get_key_policy(service, context, input).await,
                "GetKeyRotationStatus" => {
                    rotation::get_key_rotation_status(service, context, input).await
                }
                "ListAliases" => alias::list_aliases(service, context, input).await,
                "ListKeyPolicies" => policy::list_key_policies(service, context, input).await,
                "ListKeyRotations" => rotation::list_key_rotations(service, context, input).await,
                "ListKeys" => lifecycle::list_keys(service, context, input).await,
                "ListResourceTags" => tag::list_resource_tags(service, context, input).await,
                "PutKeyPolicy" => policy::put_key_policy(service, context, input).await,
                "ReEncrypt" => encryption::re_encrypt(service, context, input).await,
                "ReplicateKey" => replica_key::replicate_key(service, context, input).await,
                "RotateKeyOnDemand" => {
                    rotation::rotate_key_on_demand(service, context, input).await
                }
                "ScheduleKeyDeletion" => {
                    lifecycle::schedule_key_deletion(service, context, input).await
                }
                "TagResource" => tag::tag_resource(service, context, input).await,
                "UntagResource" => tag::untag_resource(service, context, input).await,
                "UpdateAlias" => alias::update_alias(service, context, input).await,
                "UpdateKeyDescription" => {
                    lifecycle::update_key_description(service, context, input).await
                }
                "UpdatePrimaryRegion" => {
                    replica_key::update_primary_region(service, context, input).await
                }
                _ => return Err(ApiError::not_yet(name)),
            };
            result.map_err(|error| {
                let scene = failure::Scene {
                    region: self.region(),
                    account: context.caller.account,
                };
                failure::api_error(error, scene)
            })
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

/// An algorithm of a request; SYMMETRIC_DEFAULT if it names none.
fn algorithm(input: &mut Fields<'_>, name: &str) -> EncryptionAlgorithm {
    let named = input.text(name);
    named
        .and_then(|name| EncryptionAlgorithm::from_name(&name))
        .unwrap_or_default()
}

/// Whether a request is a dry run that need not have a ciphertext.
fn ignores_ciphertext(input: &mut Fields<'_>) -> bool {
    let modifiers = input.texts("DryRunModifiers").unwrap_or_default();
    modifiers
        .iter()
        .any(|modifier| modifier == "IGNORE_CIPHERTEXT")
}
