//! Encrypt, Decrypt, ReEncrypt, GenerateDataKey, GenerateDataKeyWithoutPlaintext and
//! GenerateRandom.

use keyrum_service::{
    DataKeySpec, DecryptInput, EncryptInput, GenerateDataKeyInput, GenerateRandomInput,
    ReEncryptInput, RecipientInput, RequestContext, Service, ServiceError,
};
use keyrum_types::MaterialId;

use super::{
    encryption_algorithm, ignores_ciphertext, open_blob, recipient, secret, secret_for_recipient,
    writer_for,
};
use crate::fields::Fields;
use crate::json::ObjectWriter;

type Answer = Result<Vec<u8>, ServiceError>;

pub(super) async fn encrypt(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = EncryptInput {
        key_id: input.required_text("KeyId"),
        plaintext: input.blob("Plaintext").unwrap_or_default(),
        context: input.map("EncryptionContext").unwrap_or_default(),
        algorithm: encryption_algorithm(input, "EncryptionAlgorithm"),
        grant_tokens: input.texts("GrantTokens").unwrap_or_default(),
        dry_run: input.boolean("DryRun").unwrap_or(false),
    };
    let encrypted = service.encrypt(ctx, request).await?;
    let mut answer = writer_for(encrypted.ciphertext.len());
    answer
        .blob("CiphertextBlob", &encrypted.ciphertext)
        .text("KeyId", &encrypted.key_arn)
        .text("EncryptionAlgorithm", encrypted.algorithm.name());
    Ok(answer.finish())
}

pub(super) async fn decrypt(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = DecryptInput {
        ciphertext: open_blob(input, "CiphertextBlob"),
        context: input.map("EncryptionContext").unwrap_or_default(),
        key_id: input.text("KeyId"),
        algorithm: encryption_algorithm(input, "EncryptionAlgorithm"),
        grant_tokens: input.texts("GrantTokens").unwrap_or_default(),
        recipient: recipient(input),
        dry_run: input.boolean("DryRun").unwrap_or(false),
        ignore_ciphertext: ignores_ciphertext(input),
    };
    let decrypted = service.decrypt(ctx, request).await?;
    let mut answer = writer_for(decrypted.plaintext.bytes());
    answer.text("KeyId", &decrypted.key_arn);
    secret(&mut answer, "Plaintext", &decrypted.plaintext);
    answer.text("EncryptionAlgorithm", decrypted.algorithm.name());
    secret_for_recipient(&mut answer, &decrypted.plaintext);
    material(&mut answer, "KeyMaterialId", decrypted.material);
    Ok(answer.finish())
}

pub(super) async fn re_encrypt(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = ReEncryptInput {
        ciphertext: open_blob(input, "CiphertextBlob"),
        source_context: input.map("SourceEncryptionContext").unwrap_or_default(),
        source_key_id: input.text("SourceKeyId"),
        source_algorithm: encryption_algorithm(input, "SourceEncryptionAlgorithm"),
        destination_key_id: input.required_text("DestinationKeyId"),
        destination_context: input
            .map("DestinationEncryptionContext")
            .unwrap_or_default(),
        destination_algorithm: encryption_algorithm(input, "DestinationEncryptionAlgorithm"),
        grant_tokens: input.texts("GrantTokens").unwrap_or_default(),
        dry_run: input.boolean("DryRun").unwrap_or(false),
        ignore_ciphertext: ignores_ciphertext(input),
    };
    let done = service.re_encrypt(ctx, request).await?;
    let mut answer = writer_for(done.ciphertext.len());
    answer
        .blob("CiphertextBlob", &done.ciphertext)
        .text("SourceKeyId", &done.source_key_arn)
        .text("KeyId", &done.key_arn)
        .text("SourceEncryptionAlgorithm", done.source_algorithm.name())
        .text(
            "DestinationEncryptionAlgorithm",
            done.destination_algorithm.name(),
        );
    material(&mut answer, "SourceKeyMaterialId", done.source_material);
    material(
        &mut answer,
        "DestinationKeyMaterialId",
        done.destination_material,
    );
    Ok(answer.finish())
}

pub(super) async fn generate_data_key(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let recipient = recipient(input);
    let request = data_key_input(input, recipient);
    let made = service.generate_data_key(ctx, request).await?;
    let mut answer = writer_for(made.ciphertext.len() + made.plaintext.bytes());
    answer.blob("CiphertextBlob", &made.ciphertext);
    secret(&mut answer, "Plaintext", &made.plaintext);
    answer.text("KeyId", &made.key_arn);
    secret_for_recipient(&mut answer, &made.plaintext);
    material(&mut answer, "KeyMaterialId", made.material);
    Ok(answer.finish())
}

pub(super) async fn generate_data_key_without_plaintext(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = data_key_input(input, None);
    let made = service
        .generate_data_key_without_plaintext(ctx, request)
        .await?;
    let mut answer = writer_for(made.ciphertext.len());
    answer
        .blob("CiphertextBlob", &made.ciphertext)
        .text("KeyId", &made.key_arn);
    material(&mut answer, "KeyMaterialId", made.material);
    Ok(answer.finish())
}

pub(super) async fn generate_random(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = GenerateRandomInput {
        number_of_bytes: number_of_bytes(input),
        custom_key_store_id: input.text("CustomKeyStoreId"),
        recipient: recipient(input),
    };
    let random = service.generate_random(ctx, request).await?;
    let mut answer = writer_for(random.bytes());
    secret(&mut answer, "Plaintext", &random);
    secret_for_recipient(&mut answer, &random);
    Ok(answer.finish())
}

/// Which version of material was used; of keys with one version only, nothing is told.
fn material(answer: &mut ObjectWriter, name: &'static str, material: Option<MaterialId>) {
    if let Some(material) = material {
        answer.text(name, &material.to_string());
    }
}

fn data_key_input(
    input: &mut Fields<'_>,
    recipient: Option<RecipientInput>,
) -> GenerateDataKeyInput {
    let spec = |name: String| match name.as_str() {
        "AES_256" => Some(DataKeySpec::Aes256),
        "AES_128" => Some(DataKeySpec::Aes128),
        _ => None,
    };
    GenerateDataKeyInput {
        key_id: input.required_text("KeyId"),
        context: input.map("EncryptionContext").unwrap_or_default(),
        number_of_bytes: number_of_bytes(input),
        spec: input.text("KeySpec").and_then(spec),
        grant_tokens: input.texts("GrantTokens").unwrap_or_default(),
        recipient,
        dry_run: input.boolean("DryRun").unwrap_or(false),
    }
}

fn number_of_bytes(input: &mut Fields<'_>) -> Option<u32> {
    input
        .integer("NumberOfBytes")
        .and_then(|bytes| u32::try_from(bytes).ok())
}
