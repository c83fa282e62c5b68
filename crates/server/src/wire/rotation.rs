//! GetKeyRotationStatus.

use keyrum_service::{GetKeyRotationStatusInput, RequestContext, Service, ServiceError};

use crate::fields::Fields;
use crate::json::ObjectWriter;

pub(super) async fn get_key_rotation_status(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Result<Vec<u8>, ServiceError> {
    let request = GetKeyRotationStatusInput {
        key_id: input.required_text("KeyId"),
    };
    let status = service.get_key_rotation_status(ctx, request).await?;
    let mut answer = ObjectWriter::new();
    answer
        .boolean("KeyRotationEnabled", status.enabled)
        .text("KeyId", &status.key_arn);
    Ok(answer.finish())
}
