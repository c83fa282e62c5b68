//! Sign and Verify.

use keyrum_service::{RequestContext, Service, ServiceError, SignInput, VerifyInput};
use keyrum_types::{MessageType, SigningAlgorithm};

use super::{named, open_blob, writer_for};
use crate::fields::Fields;
use crate::json::ObjectWriter;

type Answer = Result<Vec<u8>, ServiceError>;

pub(super) async fn sign(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let signed = service.sign(ctx, sign_input(input)).await?;
    let mut answer = writer_for(signed.signature.len());
    answer
        .text("KeyId", &signed.key_arn)
        .blob("Signature", &signed.signature)
        .text("SigningAlgorithm", signed.algorithm.name());
    Ok(answer.finish())
}

pub(super) async fn verify(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = VerifyInput {
        signed: sign_input(input),
        signature: open_blob(input, "Signature").unwrap_or_default(),
    };
    let verified = service.verify(ctx, request).await?;
    let mut answer = ObjectWriter::new();
    answer
        .text("KeyId", &verified.key_arn)
        .boolean("SignatureValid", true)
        .text("SigningAlgorithm", verified.algorithm.name());
    Ok(answer.finish())
}

/// What both operations name alike.
fn sign_input(input: &mut Fields<'_>) -> SignInput {
    let message_type = named(input, "MessageType", MessageType::from_name);
    SignInput {
        key_id: input.required_text("KeyId"),
        message: input.blob("Message").unwrap_or_default(),
        message_type: message_type.unwrap_or(MessageType::Raw),
        // The model requires one; the validator lets SYMMETRIC_DEFAULT pass, too.
        algorithm: named(input, "SigningAlgorithm", SigningAlgorithm::from_name),
        grant_tokens: input.texts("GrantTokens").unwrap_or_default(),
        dry_run: input.boolean("DryRun").unwrap_or(false),
    }
}
