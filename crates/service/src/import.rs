//! Operations on material that callers bring: GetParametersForImport, ImportKeyMaterial and
//! DeleteImportedKeyMaterial.
//!
//! The wrapping key pair travels inside the import token, so nothing of it is remembered here: any
//! node takes any node's token for a day, also after a restart. The material is unwrapped and sealed
//! on the node that takes the request; the log never sees it in the clear.

use keyrum_crypto::{ImportKeyPair, KeyName, MaterialSecret, import_material};
use keyrum_state::{
    Command, Event, ImportTerms, Key, KeyRef, check_import, check_import_parameters, permit_key,
};
use keyrum_types::{
    ExpirationModel, ImportType, KeySpec, MaterialId, UnixMillis, WrappingAlgorithm,
    WrappingKeySpec, key_arn,
};

use crate::resolve::{Accounts, Asked};
use crate::{RequestContext, Service, ServiceError};

/// How long an import token is good for, in days.
/// Source: AWS KMS API Reference, GetParametersForImport, `ParametersValidTo`.
const TOKEN_DAYS: u64 = 1;

/// What GetParametersForImport is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetParametersForImportInput {
    /// The key's id or ARN.
    pub key_id: String,
    /// What the material will be wrapped with.
    pub algorithm: WrappingAlgorithm,
    /// The wrapping key pair's kind.
    pub spec: WrappingKeySpec,
}

/// What GetParametersForImport answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetParametersForImportOutput {
    /// Which key.
    pub key_arn: String,
    /// Brings the private half back.
    pub token: Vec<u8>,
    /// The public half, a SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    /// When the token is no longer taken, by the Region's clock.
    pub valid_to: UnixMillis,
}

/// What ImportKeyMaterial is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportKeyMaterialInput {
    /// The key's id or ARN.
    pub key_id: String,
    /// As GetParametersForImport gave it.
    pub token: Vec<u8>,
    /// The material, wrapped.
    pub wrapped: Vec<u8>,
    /// When the material expires.
    pub valid_to: Option<UnixMillis>,
    /// Whether it does; yes if absent.
    pub model: Option<ExpirationModel>,
    /// Whether it is new to the key.
    pub import_type: Option<ImportType>,
    /// Which version it must be.
    pub material: Option<MaterialId>,
    /// At most 256 characters.
    pub description: Option<String>,
}

/// What DeleteImportedKeyMaterial is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteImportedKeyMaterialInput {
    /// The key's id or ARN.
    pub key_id: String,
    /// Which version; the current one if absent.
    pub material: Option<MaterialId>,
}

/// What ImportKeyMaterial and DeleteImportedKeyMaterial answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedKeyMaterialOutput {
    /// Which key.
    pub key_arn: String,
    /// Which version; absent for keys that are not symmetric, whose versions have no names in the API,
    /// and for those that never had any.
    pub material: Option<MaterialId>,
}

impl Service {
    /// A key pair to wrap material with, and the token that brings it back.
    pub async fn get_parameters_for_import(
        &self,
        ctx: &RequestContext,
        input: GetParametersForImportInput,
    ) -> Result<GetParametersForImportOutput, ServiceError> {
        let GetParametersForImportInput {
            algorithm, spec, ..
        } = input;
        let partition = self.region().partition();
        let check = |key: &Key| {
            check_import_parameters(key)?;
            match algorithm.wraps(spec, key.spec, partition) {
                true => Ok(()),
                false => Err(ServiceError::WrappingNotForSpec {
                    algorithm,
                    wrapping: spec,
                    spec: key.spec,
                }),
            }
        };
        let asked = Asked {
            named: [
                ("kms:wrappingalgorithm", algorithm.name()),
                ("kms:wrappingkeyspec", spec.name()),
            ],
            ..Asked::of("GetParametersForImport", &input.key_id)
        };
        self.with_key(ctx, Accounts::Own, asked, check).await?;
        let secret = self.generate(spec.key_spec()).await?;
        // Finding primes took its time.
        let now = self.inner.world.clock.now();
        let valid_to = self.inner.group.state().region_time(now);
        let valid_to = valid_to.plus_days(TOKEN_DAYS);
        let pair = ImportKeyPair::new(spec, algorithm, valid_to, secret);
        let key = self.key_only(ctx, &input.key_id, Accounts::Own)?;
        let entropy = &*self.inner.world.entropy;
        Ok(GetParametersForImportOutput {
            key_arn: key_arn(self.region(), key.account, key.id),
            token: pair.token(&self.inner.keyring, name_of(key), entropy),
            public_key: pair.public_key_der().map_err(|error| {
                tracing::error!(%error, "a new wrapping key pair cannot be used");
                ServiceError::Internal
            })?,
            valid_to,
        })
    }

    /// Gives a key material that the caller brought.
    pub async fn import_key_material(
        &self,
        ctx: &RequestContext,
        input: ImportKeyMaterialInput,
    ) -> Result<ImportedKeyMaterialOutput, ServiceError> {
        let key = self.key_only(ctx, &input.key_id, Accounts::Own)?;
        let state = self.read(ctx).await?;
        let expires = expires(input.model, input.valid_to);
        let terms = ImportTerms {
            import_type: input.import_type,
            named: input.material,
            expires: expires.as_ref().ok().copied().flatten(),
            description: input.description,
        };
        let target = permit_key(&state, &ctx.caller, key, "ImportKeyMaterial", &terms)?;
        expires?;
        let now = state.region_time(self.inner.world.clock.now());
        check_import(target.key(), &terms, now)?;
        let spec = target.key().spec;
        // No view of the state is held while waiting.
        drop(state);
        let pair = ImportKeyPair::from_token(&self.inner.keyring, name_of(key), &input.token)
            .ok_or(ServiceError::InvalidImportToken)?;
        if pair.valid_until <= now {
            return Err(ServiceError::ExpiredImportToken);
        }
        let secret = self.unwrap_material(pair, input.wrapped, spec).await?;
        let material = self.seal_material(key, &secret);
        let id = material.id;
        let command = Command::ImportKeyMaterial {
            key,
            material,
            terms,
        };
        self.propose(ctx, command).await?;
        Ok(ImportedKeyMaterialOutput {
            key_arn: key_arn(self.region(), key.account, key.id),
            material: (spec == KeySpec::SymmetricDefault).then_some(id),
        })
    }

    /// Up to some milliseconds of RSA, so not where other requests would wait for it.
    async fn unwrap_material(
        &self,
        pair: ImportKeyPair,
        wrapped: Vec<u8>,
        spec: KeySpec,
    ) -> Result<MaterialSecret, ServiceError> {
        let partition = self.region().partition();
        let work = move || {
            let unwrapped = pair.unwrap(&wrapped)?;
            import_material(spec, partition, &unwrapped).ok()
        };
        let unwrapped = self.inner.world.blocking.run(work).await;
        unwrapped.ok_or(ServiceError::InvalidCiphertext)
    }

    /// Takes imported material away.
    pub async fn delete_imported_key_material(
        &self,
        ctx: &RequestContext,
        input: DeleteImportedKeyMaterialInput,
    ) -> Result<ImportedKeyMaterialOutput, ServiceError> {
        let key = self.key_only(ctx, &input.key_id, Accounts::Own)?;
        let material = input.material;
        let command = Command::DeleteImportedKeyMaterial { key, material };
        let events = self.propose(ctx, command).await?;
        self.inner.materials.forget(key);
        let deleted = events.iter().find_map(|event| match event {
            Event::KeyMaterialDeleted { material, .. } => Some(*material),
            _ => None,
        });
        let state = self.inner.group.state();
        let target = state.key(key);
        let symmetric = target.is_some_and(|key| key.spec == KeySpec::SymmetricDefault);
        let current = || target?.current_material().map(|current| current.id);
        Ok(ImportedKeyMaterialOutput {
            key_arn: key_arn(self.region(), key.account, key.id),
            material: deleted.or(material).or_else(current).filter(|_| symmetric),
        })
    }
}

fn name_of(key: KeyRef) -> KeyName {
    KeyName {
        account: key.account,
        key: key.id,
    }
}

/// When material expires, by the two parameters that say so.
fn expires(
    model: Option<ExpirationModel>,
    valid_to: Option<UnixMillis>,
) -> Result<Option<UnixMillis>, ServiceError> {
    match (model.unwrap_or(ExpirationModel::Expires), valid_to) {
        (ExpirationModel::Expires, None) => Err(ServiceError::ValidToRequired),
        (ExpirationModel::DoesNotExpire, Some(_)) => Err(ServiceError::ValidToForbidden),
        (_, valid_to) => Ok(valid_to),
    }
}
