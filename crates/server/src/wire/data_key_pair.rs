//! GenerateDataKeyPair and GenerateDataKeyPairWithoutPlaintext.

use keyrum_service::{
    GenerateDataKeyPairInput, GenerateDataKeyPairOutput, RecipientInput, RequestContext, Service,
    ServiceError,
};
use keyrum_types::DataKeyPairSpec;

use super::{recipient, required_named, secret, secret_for_recipient, writer_for};
use crate::fields::Fields;

type Answer = Result<Vec<u8>, ServiceError>;

pub(super) async fn generate_data_key_pair(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let recipient = recipient(input);
    let request = pair_input(input, recipient);
    let made = service.generate_data_key_pair(ctx, request).await?;
    Ok(pair(&made, true))
}

pub(super) async fn generate_data_key_pair_without_plaintext(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = pair_input(input, None);
    let made = service
        .generate_data_key_pair_without_plaintext(ctx, request)
        .await?;
    Ok(pair(&made, false))
}

fn pair_input(
    input: &mut Fields<'_>,
    recipient: Option<RecipientInput>,
) -> GenerateDataKeyPairInput {
    GenerateDataKeyPairInput {
        key_id: input.required_text("KeyId"),
        context: input.map("EncryptionContext").unwrap_or_default(),
        spec: required_named(input, "KeyPairSpec", DataKeyPairSpec::from_name),
        grant_tokens: input.texts("GrantTokens").unwrap_or_default(),
        recipient,
        dry_run: input.boolean("DryRun").unwrap_or(false),
    }
}

fn pair(made: &GenerateDataKeyPairOutput, plaintext: bool) -> Vec<u8> {
    let blobs = [&made.private_key_ciphertext, &made.public_key];
    let bytes: usize = blobs.iter().map(|blob| blob.len()).sum();
    let mut answer = writer_for(bytes + made.private_key.bytes());
    answer.blob("PrivateKeyCiphertextBlob", &made.private_key_ciphertext);
    if plaintext {
        secret(&mut answer, "PrivateKeyPlaintext", &made.private_key);
    }
    answer
        .blob("PublicKey", &made.public_key)
        .text("KeyId", &made.key_arn)
        .text("KeyPairSpec", made.spec.name());
    if plaintext {
        secret_for_recipient(&mut answer, &made.private_key);
    }
    answer.text("KeyMaterialId", &made.material.to_string());
    answer.finish()
}
