//! CreateKey, DescribeKey, ListKeys, and what takes keys through their states.

use keyrum_service::{
    Algorithms, CreateKeyInput, DescribeKeyInput, Expiration, KeyMetadata, ListKeysInput,
    MultiRegionConfiguration, RelatedKey, RequestContext, ResourceOwner, ScheduleKeyDeletionInput,
    Service, ServiceError, UpdateKeyDescriptionInput,
};
use keyrum_types::{KeySpec, KeyUsage, Origin};

use super::{NOTHING, algorithms, end_of_page, key_input, named, page_request, tags};
use crate::fields::Fields;
use crate::json::ObjectWriter;

type Answer = Result<Vec<u8>, ServiceError>;

pub(super) async fn create_key(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = CreateKeyInput {
        policy: input.text("Policy"),
        description: input.text("Description"),
        usage: named(input, "KeyUsage", KeyUsage::from_name),
        spec: named(input, "KeySpec", KeySpec::from_name),
        deprecated_spec: named(input, "CustomerMasterKeySpec", KeySpec::from_name),
        origin: named(input, "Origin", Origin::from_name),
        custom_key_store_id: input.text("CustomKeyStoreId"),
        xks_key_id: input.text("XksKeyId"),
        bypass_lockout_check: input
            .boolean("BypassPolicyLockoutSafetyCheck")
            .unwrap_or(false),
        tags: tags(input),
        multi_region: input.boolean("MultiRegion").unwrap_or(false),
    };
    let key = service.create_key(ctx, request).await?;
    let mut answer = ObjectWriter::with_capacity(1024);
    answer.object("KeyMetadata", |answer| metadata(answer, &key));
    Ok(answer.finish())
}

pub(super) async fn describe_key(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = DescribeKeyInput {
        key_id: input.required_text("KeyId"),
        grant_tokens: input.texts("GrantTokens").unwrap_or_default(),
    };
    let key = service.describe_key(ctx, request).await?;
    let mut answer = ObjectWriter::with_capacity(1024);
    answer.object("KeyMetadata", |answer| metadata(answer, &key));
    Ok(answer.finish())
}

pub(super) async fn list_keys(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let owner = |name: String| match name.as_str() {
        "SELF" => Some(ResourceOwner::Own),
        "OTHER_ACCOUNTS_VIA_RAM" => Some(ResourceOwner::OtherAccountsViaRam),
        _ => None,
    };
    let owners = input.texts("ResourceOwners").unwrap_or_default();
    let request = ListKeysInput {
        owners: owners.into_iter().filter_map(owner).collect(),
        page: page_request(input),
    };
    let page = service.list_keys(ctx, request).await?;
    let mut answer = ObjectWriter::with_capacity(256 + 192 * page.items.len());
    // The real service sends this member too, though its model does not know it.
    answer.number("KeyCount", page.items.len() as u64);
    answer.objects("Keys", &page.items, |answer, key| {
        answer
            .text("KeyId", &key.key_id.to_string())
            .text("KeyArn", &key.key_arn);
    });
    end_of_page(&mut answer, &page);
    Ok(answer.finish())
}

pub(super) async fn enable_key(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    service.enable_key(ctx, key_input(input)).await?;
    Ok(NOTHING)
}

pub(super) async fn disable_key(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    service.disable_key(ctx, key_input(input)).await?;
    Ok(NOTHING)
}

pub(super) async fn schedule_key_deletion(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = ScheduleKeyDeletionInput {
        key_id: input.required_text("KeyId"),
        wait_days: input.integer("PendingWindowInDays"),
    };
    let scheduled = service.schedule_key_deletion(ctx, request).await?;
    let mut answer = ObjectWriter::new();
    answer
        .text("KeyId", &scheduled.key_arn)
        .time_if("DeletionDate", scheduled.deletion_date)
        .text("KeyState", scheduled.state.name())
        .number("PendingWindowInDays", scheduled.wait_days.into());
    Ok(answer.finish())
}

pub(super) async fn cancel_key_deletion(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let rescued = service.cancel_key_deletion(ctx, key_input(input)).await?;
    let mut answer = ObjectWriter::new();
    answer.text("KeyId", &rescued.key_arn);
    Ok(answer.finish())
}

pub(super) async fn update_key_description(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = UpdateKeyDescriptionInput {
        key_id: input.required_text("KeyId"),
        description: input.required_text("Description"),
    };
    service.update_key_description(ctx, request).await?;
    Ok(NOTHING)
}

pub(crate) fn metadata(answer: &mut ObjectWriter, key: &KeyMetadata) {
    answer
        .text("AWSAccountId", &key.account.to_string())
        .text("KeyId", &key.key_id.to_string())
        .text("Arn", &key.arn)
        .time("CreationDate", key.created)
        .boolean("Enabled", key.enabled)
        .text("Description", &key.description)
        .text("KeyUsage", key.usage.name())
        .text("KeyState", key.state.name())
        .time_if("DeletionDate", key.deletion_date)
        .time_if("ValidTo", key.expiration.and_then(Expiration::date))
        .text("Origin", key.origin.name())
        .text_if(
            "ExpirationModel",
            key.expiration.map(|expiration| expiration.model().name()),
        )
        .text(
            "KeyManager",
            if key.aws_managed { "AWS" } else { "CUSTOMER" },
        )
        .text("CustomerMasterKeySpec", key.spec.name())
        .text("KeySpec", key.spec.name());
    // MACs have their place further down.
    let is_mac = matches!(key.algorithms, Algorithms::Mac(_));
    if !is_mac {
        algorithms(answer, key.algorithms);
    }
    answer.boolean("MultiRegion", key.multi_region.is_some());
    if let Some(family) = &key.multi_region {
        answer.object("MultiRegionConfiguration", |answer| {
            configuration(answer, family)
        });
    }
    if let Some(days) = key.pending_deletion_window_days {
        answer.number("PendingDeletionWindowInDays", days.into());
    }
    if is_mac {
        algorithms(answer, key.algorithms);
    }
    if let Some(material) = key.current_material {
        answer.text("CurrentKeyMaterialId", &material.to_string());
    }
}

fn configuration(answer: &mut ObjectWriter, family: &MultiRegionConfiguration) {
    fn related(answer: &mut ObjectWriter, key: &RelatedKey) {
        answer
            .text("Arn", &key.arn)
            .text("Region", key.region.as_str());
    }
    answer
        .text("MultiRegionKeyType", family.role.name())
        .object("PrimaryKey", |answer| related(answer, &family.primary))
        .objects("ReplicaKeys", &family.replicas, related);
}

#[cfg(test)]
#[path = "lifecycle_tests.rs"]
mod tests;
