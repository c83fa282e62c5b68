//! ReplicateKey and UpdatePrimaryRegion.

use keyrum_service::{
    ReplicateKeyInput, RequestContext, Service, ServiceError, UpdatePrimaryRegionInput,
};

use super::lifecycle::metadata;
use super::{NOTHING, tags};
use crate::fields::Fields;
use crate::json::ObjectWriter;

pub(super) async fn replicate_key(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Result<Vec<u8>, ServiceError> {
    let request = ReplicateKeyInput {
        key_id: input.required_text("KeyId"),
        region: input.required_text("ReplicaRegion"),
        policy: input.text("Policy"),
        bypass_lockout_check: input
            .boolean("BypassPolicyLockoutSafetyCheck")
            .unwrap_or(false),
        description: input.text("Description"),
        tags: tags(input),
    };
    let replica = service.replicate_key(ctx, request).await?;
    let mut answer = ObjectWriter::with_capacity(2048);
    answer.object("ReplicaKeyMetadata", |answer| {
        metadata(answer, &replica.key);
    });
    answer.text("ReplicaPolicy", &replica.policy);
    if !replica.tags.is_empty() {
        answer.objects("ReplicaTags", &replica.tags, |answer, (name, value)| {
            answer.text("TagKey", name).text("TagValue", value);
        });
    }
    Ok(answer.finish())
}

pub(super) async fn update_primary_region(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Result<Vec<u8>, ServiceError> {
    let request = UpdatePrimaryRegionInput {
        key_id: input.required_text("KeyId"),
        region: input.required_text("PrimaryRegion"),
    };
    service.update_primary_region(ctx, request).await?;
    Ok(NOTHING)
}
