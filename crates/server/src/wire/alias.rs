//! CreateAlias, UpdateAlias, DeleteAlias and ListAliases.

use keyrum_service::{
    AliasTargetInput, DeleteAliasInput, ListAliasesInput, RequestContext, Service, ServiceError,
};

use super::{NOTHING, end_of_page, page_request};
use crate::fields::Fields;
use crate::json::ObjectWriter;

type Answer = Result<Vec<u8>, ServiceError>;

pub(super) async fn create_alias(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    service.create_alias(ctx, target(input)).await?;
    Ok(NOTHING)
}

pub(super) async fn update_alias(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    service.update_alias(ctx, target(input)).await?;
    Ok(NOTHING)
}

pub(super) async fn delete_alias(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = DeleteAliasInput {
        alias: input.required_text("AliasName"),
    };
    service.delete_alias(ctx, request).await?;
    Ok(NOTHING)
}

pub(super) async fn list_aliases(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = ListAliasesInput {
        key_id: input.text("KeyId"),
        page: page_request(input),
    };
    let page = service.list_aliases(ctx, request).await?;
    let mut answer = ObjectWriter::with_capacity(256 + 256 * page.items.len());
    answer.objects("Aliases", &page.items, |answer, alias| {
        answer
            .text("AliasName", &alias.name)
            .text("AliasArn", &alias.arn);
        if let Some(target) = &alias.target {
            answer
                .text("TargetKeyId", &target.key_id.to_string())
                .time("CreationDate", target.created)
                .time("LastUpdatedDate", target.updated);
        }
    });
    end_of_page(&mut answer, &page);
    Ok(answer.finish())
}

fn target(input: &mut Fields<'_>) -> AliasTargetInput {
    AliasTargetInput {
        alias: input.required_text("AliasName"),
        target_key_id: input.required_text("TargetKeyId"),
    }
}
