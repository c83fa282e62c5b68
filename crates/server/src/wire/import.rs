//! GetParametersForImport, ImportKeyMaterial and DeleteImportedKeyMaterial.

use keyrum_service::{
    DeleteImportedKeyMaterialInput, GetParametersForImportInput, ImportKeyMaterialInput,
    ImportedKeyMaterialOutput, RequestContext, Service, ServiceError,
};
use keyrum_types::{ExpirationModel, ImportType, MaterialId, WrappingAlgorithm, WrappingKeySpec};

use super::{named, open_blob, required_named, writer_for};
use crate::fields::Fields;
use crate::json::ObjectWriter;

type Answer = Result<Vec<u8>, ServiceError>;

pub(super) async fn get_parameters_for_import(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = GetParametersForImportInput {
        key_id: input.required_text("KeyId"),
        algorithm: required_named(input, "WrappingAlgorithm", WrappingAlgorithm::from_name),
        spec: required_named(input, "WrappingKeySpec", WrappingKeySpec::from_name),
    };
    let found = service.get_parameters_for_import(ctx, request).await?;
    let mut answer = writer_for(found.token.len() + found.public_key.len());
    answer
        .text("KeyId", &found.key_arn)
        .blob("ImportToken", &found.token)
        .blob("PublicKey", &found.public_key)
        .time("ParametersValidTo", found.valid_to);
    Ok(answer.finish())
}

pub(super) async fn import_key_material(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = ImportKeyMaterialInput {
        key_id: input.required_text("KeyId"),
        token: open_blob(input, "ImportToken").unwrap_or_default(),
        wrapped: open_blob(input, "EncryptedKeyMaterial").unwrap_or_default(),
        valid_to: input.time("ValidTo"),
        model: named(input, "ExpirationModel", ExpirationModel::from_name),
        import_type: named(input, "ImportType", ImportType::from_name),
        material: named(input, "KeyMaterialId", MaterialId::from_hex),
        description: input.text("KeyMaterialDescription"),
    };
    Ok(show(&service.import_key_material(ctx, request).await?))
}

pub(super) async fn delete_imported_key_material(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = DeleteImportedKeyMaterialInput {
        key_id: input.required_text("KeyId"),
        material: named(input, "KeyMaterialId", MaterialId::from_hex),
    };
    Ok(show(
        &service.delete_imported_key_material(ctx, request).await?,
    ))
}

fn show(done: &ImportedKeyMaterialOutput) -> Vec<u8> {
    let mut answer = ObjectWriter::new();
    answer.text("KeyId", &done.key_arn);
    if let Some(material) = done.material {
        answer.text("KeyMaterialId", &material.to_string());
    }
    answer.finish()
}
