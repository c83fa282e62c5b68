//! DeriveSharedSecret, Encapsulate and Decapsulate.

use keyrum_service::{
    DecapsulateInput, DeriveSharedSecretInput, EncapsulateInput, RequestContext, Service,
    ServiceError,
};
use keyrum_types::{EncapsulationAlgorithm, KeyAgreementAlgorithm};

use super::{open_blob, recipient, required_named, secret, secret_for_recipient, writer_for};
use crate::fields::Fields;

type Answer = Result<Vec<u8>, ServiceError>;

pub(super) async fn derive_shared_secret(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let algorithm = KeyAgreementAlgorithm::from_name;
    let request = DeriveSharedSecretInput {
        key_id: input.required_text("KeyId"),
        algorithm: required_named(input, "KeyAgreementAlgorithm", algorithm),
        public_key: open_blob(input, "PublicKey").unwrap_or_default(),
        grant_tokens: input.texts("GrantTokens").unwrap_or_default(),
        recipient: recipient(input),
        dry_run: input.boolean("DryRun").unwrap_or(false),
    };
    let derived = service.derive_shared_secret(ctx, request).await?;
    let mut answer = writer_for(derived.shared_secret.bytes());
    answer.text("KeyId", &derived.key_arn);
    secret(&mut answer, "SharedSecret", &derived.shared_secret);
    secret_for_recipient(&mut answer, &derived.shared_secret);
    answer
        .text("KeyAgreementAlgorithm", derived.algorithm.name())
        .text("KeyOrigin", derived.origin.name());
    Ok(answer.finish())
}

pub(super) async fn encapsulate(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let algorithm = EncapsulationAlgorithm::from_name;
    let request = EncapsulateInput {
        key_id: input.required_text("KeyId"),
        algorithm: required_named(input, "EncapsulationAlgorithm", algorithm),
        grant_tokens: input.texts("GrantTokens").unwrap_or_default(),
        dry_run: input.boolean("DryRun").unwrap_or(false),
    };
    let made = service.encapsulate(ctx, request).await?;
    let mut answer = writer_for(made.secret.shared_secret.len() + made.secret.ciphertext.len());
    answer
        .text("KeyId", &made.key_arn)
        .blob("SharedSecret", &made.secret.shared_secret)
        .blob("SharedSecretCiphertextBlob", &made.secret.ciphertext)
        .text("EncapsulationAlgorithm", made.algorithm.name());
    Ok(answer.finish())
}

pub(super) async fn decapsulate(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let algorithm = EncapsulationAlgorithm::from_name;
    let request = DecapsulateInput {
        key_id: input.required_text("KeyId"),
        ciphertext: open_blob(input, "SharedSecretCiphertextBlob").unwrap_or_default(),
        algorithm: required_named(input, "EncapsulationAlgorithm", algorithm),
        grant_tokens: input.texts("GrantTokens").unwrap_or_default(),
        dry_run: input.boolean("DryRun").unwrap_or(false),
    };
    let opened = service.decapsulate(ctx, request).await?;
    let mut answer = writer_for(opened.shared_secret.len());
    answer
        .text("KeyId", &opened.key_arn)
        .blob("SharedSecret", &opened.shared_secret)
        .text("EncapsulationAlgorithm", opened.algorithm.name());
    Ok(answer.finish())
}
