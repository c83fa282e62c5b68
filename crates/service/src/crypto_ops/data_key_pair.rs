//! GenerateDataKeyPair and GenerateDataKeyPairWithoutPlaintext.

use keyrum_crypto::{EncryptionContext, MadeBy, UsableKey};
use keyrum_types::{
    CryptographicOperation, DataKeyPairSpec, EncryptionAlgorithm, MaterialId, key_arn,
};

use super::checks::Destination;
use crate::error::spec_in_region;
use crate::resolve::Asked;
use crate::{RecipientInput, RequestContext, SecretOutput, Service, ServiceError};

/// What GenerateDataKeyPair and GenerateDataKeyPairWithoutPlaintext are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerateDataKeyPairInput {
    /// A key id, key ARN, alias or alias ARN.
    pub key_id: String,
    /// What decryption of the private key must name again.
    pub context: EncryptionContext,
    /// The pair's kind.
    pub spec: DataKeyPairSpec,
    /// Grants to be known already.
    pub grant_tokens: Vec<String>,
    /// For whom the private key shall be encrypted.
    pub recipient: Option<RecipientInput>,
    /// Whether to tell only if it would succeed.
    pub dry_run: bool,
}

/// What GenerateDataKeyPair answers.
pub struct GenerateDataKeyPairOutput {
    /// The private key, encrypted.
    pub private_key_ciphertext: Vec<u8>,
    /// The private key, PKCS#8 in DER. The form without plaintext leaves it out of its answer.
    pub private_key: SecretOutput,
    /// The public key, a SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    /// The key that encrypted the private key.
    pub key_arn: String,
    /// The pair's kind.
    pub spec: DataKeyPairSpec,
    /// The version of that key's material.
    pub material: MaterialId,
}

impl Service {
    /// Makes a key pair for use elsewhere: the private key in the clear and encrypted.
    pub async fn generate_data_key_pair(
        &self,
        ctx: &RequestContext,
        input: GenerateDataKeyPairInput,
    ) -> Result<GenerateDataKeyPairOutput, ServiceError> {
        let operation = CryptographicOperation::GenerateDataKeyPair;
        self.data_key_pair(ctx, input, operation).await
    }

    /// The same; the caller shall leave the private key in the clear out of the answer.
    pub async fn generate_data_key_pair_without_plaintext(
        &self,
        ctx: &RequestContext,
        input: GenerateDataKeyPairInput,
    ) -> Result<GenerateDataKeyPairOutput, ServiceError> {
        let operation = CryptographicOperation::GenerateDataKeyPairWithoutPlaintext;
        self.data_key_pair(ctx, input, operation).await
    }

    async fn data_key_pair(
        &self,
        ctx: &RequestContext,
        input: GenerateDataKeyPairInput,
        operation: CryptographicOperation,
    ) -> Result<GenerateDataKeyPairOutput, ServiceError> {
        let recipient = self.attest(ctx, input.recipient.as_ref())?;
        let state = self.read_with(ctx, &input.grant_tokens).await?;
        let algorithm = EncryptionAlgorithm::SymmetricDefault;
        let wanted = Destination {
            operation: operation.name(),
            asked: Asked {
                action: operation.name(),
                text: &input.key_id,
                context: Some(&input.context),
                named: [
                    ("kms:encryptionalgorithm", algorithm.name()),
                    ("kms:datakeypairspec", input.spec.name()),
                ],
                recipient: recipient.as_ref(),
            },
            algorithm,
            context: &input.context,
        };
        let found = wanted.look_up(&state, &ctx.caller)?;
        self.judge_tokens(&input.grant_tokens).await?.check()?;
        let spec = input.spec.key_spec();
        spec_in_region(spec, state.region())?;
        wanted.check_parameters(&state, found)?;
        let material = wanted.check_use(found).map_err(|error| match error {
            ServiceError::AlgorithmNotForSpec { .. } => ServiceError::DataKeyPairFromAsymmetric,
            error => error,
        })?;
        ctx.trace.use_of(found, material);
        self.admit_pair(ctx, input.spec)?;
        if input.dry_run {
            return Err(ServiceError::DryRun);
        }
        let pair = UsableKey::new(spec, &self.generate(spec).await?);
        let pair = pair.map_err(|error| {
            tracing::error!(%error, "a new key pair is unusable");
            ServiceError::Internal
        })?;
        let (Some(private_key), Some(public_key)) = (pair.private_key_der(), pair.public_key_der())
        else {
            return Err(ServiceError::Internal);
        };
        let made_by = MadeBy::GenerateDataKey;
        let private_key_ciphertext =
            self.seal_under(found, material, &wanted, &private_key, made_by)?;
        let private_key = self.hand_over(private_key, recipient.as_ref())?;
        self.note_use(ctx, &state, found, operation);
        Ok(GenerateDataKeyPairOutput {
            private_key_ciphertext,
            private_key,
            public_key: public_key.to_vec(),
            key_arn: key_arn(state.region(), found.account, found.id),
            spec: input.spec,
            material: material.id,
        })
    }
}
