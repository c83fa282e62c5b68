//! GetPublicKey.

use keyrum_service::{GetPublicKeyInput, RequestContext, Service, ServiceError};

use super::{algorithms, writer_for};
use crate::fields::Fields;

pub(super) async fn get_public_key(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Result<Vec<u8>, ServiceError> {
    let request = GetPublicKeyInput {
        key_id: input.required_text("KeyId"),
        grant_tokens: input.texts("GrantTokens").unwrap_or_default(),
    };
    let found = service.get_public_key(ctx, request).await?;
    let mut answer = writer_for(found.public_key.len());
    answer
        .text("KeyId", &found.key_arn)
        .blob("PublicKey", &found.public_key)
        .text("CustomerMasterKeySpec", found.spec.name())
        .text("KeySpec", found.spec.name())
        .text("KeyUsage", found.usage.name());
    algorithms(&mut answer, found.algorithms);
    Ok(answer.finish())
}
