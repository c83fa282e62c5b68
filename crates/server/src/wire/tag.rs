//! TagResource, UntagResource and ListResourceTags.

use keyrum_service::{
    ListResourceTagsInput, RequestContext, Service, ServiceError, TagResourceInput,
    UntagResourceInput,
};

use super::{NOTHING, end_of_page, page_request, tags};
use crate::fields::Fields;
use crate::json::ObjectWriter;

type Answer = Result<Vec<u8>, ServiceError>;

pub(super) async fn tag_resource(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = TagResourceInput {
        key_id: input.required_text("KeyId"),
        tags: tags(input),
    };
    service.tag_resource(ctx, request).await?;
    Ok(NOTHING)
}

pub(super) async fn untag_resource(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = UntagResourceInput {
        key_id: input.required_text("KeyId"),
        tag_keys: input.texts("TagKeys").unwrap_or_default(),
    };
    service.untag_resource(ctx, request).await?;
    Ok(NOTHING)
}

pub(super) async fn list_resource_tags(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = ListResourceTagsInput {
        key_id: input.required_text("KeyId"),
        page: page_request(input),
    };
    let page = service.list_resource_tags(ctx, request).await?;
    let mut answer = ObjectWriter::new();
    answer.objects("Tags", &page.items, |answer, (key, value)| {
        answer.text("TagKey", key).text("TagValue", value);
    });
    end_of_page(&mut answer, &page);
    Ok(answer.finish())
}
