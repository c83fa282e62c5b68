//! GenerateMac and VerifyMac.

use keyrum_service::{GenerateMacInput, RequestContext, Service, ServiceError, VerifyMacInput};
use keyrum_types::MacAlgorithm;

use super::{open_blob, required_named, writer_for};
use crate::fields::Fields;
use crate::json::ObjectWriter;

type Answer = Result<Vec<u8>, ServiceError>;

pub(super) async fn generate_mac(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let made = service.generate_mac(ctx, mac_input(input)).await?;
    let mut answer = writer_for(made.mac.len());
    answer
        .blob("Mac", &made.mac)
        .text("MacAlgorithm", made.algorithm.name())
        .text("KeyId", &made.key_arn);
    Ok(answer.finish())
}

pub(super) async fn verify_mac(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = VerifyMacInput {
        message: mac_input(input),
        mac: open_blob(input, "Mac").unwrap_or_default(),
    };
    let verified = service.verify_mac(ctx, request).await?;
    let mut answer = ObjectWriter::new();
    answer
        .text("KeyId", &verified.key_arn)
        .boolean("MacValid", true)
        .text("MacAlgorithm", verified.algorithm.name());
    Ok(answer.finish())
}

/// What both operations name alike.
fn mac_input(input: &mut Fields<'_>) -> GenerateMacInput {
    GenerateMacInput {
        key_id: input.required_text("KeyId"),
        message: input.blob("Message").unwrap_or_default(),
        algorithm: required_named(input, "MacAlgorithm", MacAlgorithm::from_name),
        grant_tokens: input.texts("GrantTokens").unwrap_or_default(),
        dry_run: input.boolean("DryRun").unwrap_or(false),
    }
}
