//! Secrets shared with others: DeriveSharedSecret, Encapsulate and Decapsulate.
//!
//! Deviation: which key states the real service lets the latter two work in is not published; they
//! are taken to be DeriveSharedSecret's.

use keyrum_crypto::{Encapsulated, UsableKey};
use keyrum_types::{
    CryptographicOperation, EncapsulationAlgorithm, KeyAgreementAlgorithm, KeyUsage, Origin,
    key_arn,
};
use zeroize::Zeroizing;

use super::checks::{Wanted, check_algorithm};
use crate::resolve::NONE;
use crate::{RecipientInput, RequestContext, SecretOutput, Service, ServiceError};

/// What DeriveSharedSecret is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeriveSharedSecretInput {
    /// A key id, key ARN, alias or alias ARN.
    pub key_id: String,
    /// How.
    pub algorithm: KeyAgreementAlgorithm,
    /// The other side's public key, a SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    /// Grants to be known already.
    pub grant_tokens: Vec<String>,
    /// For whom the secret shall be encrypted.
    pub recipient: Option<RecipientInput>,
    /// Whether to tell only if it would succeed.
    pub dry_run: bool,
}

/// What DeriveSharedSecret answers.
pub struct DeriveSharedSecretOutput {
    /// The key that was used.
    pub key_arn: String,
    /// The secret that the other side gets, too.
    pub shared_secret: SecretOutput,
    /// How.
    pub algorithm: KeyAgreementAlgorithm,
    /// Where the key's material comes from.
    pub origin: Origin,
}

/// What Encapsulate is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncapsulateInput {
    /// A key id, key ARN, alias or alias ARN.
    pub key_id: String,
    /// How.
    pub algorithm: EncapsulationAlgorithm,
    /// Grants to be known already.
    pub grant_tokens: Vec<String>,
    /// Whether to tell only if it would succeed.
    pub dry_run: bool,
}

/// What Encapsulate answers.
pub struct EncapsulateOutput {
    /// The key that was used.
    pub key_arn: String,
    /// The secret, and what only the key's holder gets it from.
    pub secret: Encapsulated,
    /// How.
    pub algorithm: EncapsulationAlgorithm,
}

/// What Decapsulate is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecapsulateInput {
    /// A key id, key ARN, alias or alias ARN.
    pub key_id: String,
    /// What Encapsulate, or anyone with the public key, made.
    pub ciphertext: Vec<u8>,
    /// How.
    pub algorithm: EncapsulationAlgorithm,
    /// Grants to be known already.
    pub grant_tokens: Vec<String>,
    /// Whether to tell only if it would succeed.
    pub dry_run: bool,
}

/// What Decapsulate answers.
pub struct SharedSecretOutput {
    /// The key that was used.
    pub key_arn: String,
    /// 32 bytes.
    pub shared_secret: Zeroizing<Vec<u8>>,
    /// How.
    pub algorithm: EncapsulationAlgorithm,
}

impl Service {
    /// Derives the secret that a key shares with another public key's holder.
    pub async fn derive_shared_secret(
        &self,
        ctx: &RequestContext,
        input: DeriveSharedSecretInput,
    ) -> Result<DeriveSharedSecretOutput, ServiceError> {
        let recipient = self.attest(ctx, input.recipient.as_ref())?;
        let wanted = Wanted {
            operation: CryptographicOperation::DeriveSharedSecret,
            text: &input.key_id,
            named: [("kms:keyagreementalgorithm", input.algorithm.name()), NONE],
            recipient: recipient.as_ref(),
            usage: KeyUsage::KeyAgreement,
            tokens: self.judge_tokens(&input.grant_tokens).await?,
        };
        let state = self.read_with(ctx, &input.grant_tokens).await?;
        let (key, material) = wanted.check(&state, &ctx.caller)?;
        let listed = key.spec.key_agreement_algorithms();
        let listed = listed.contains(&input.algorithm);
        check_algorithm(listed, input.algorithm.name(), key)?;
        self.begin_use(ctx, key, material)?;
        let shared_secret = self
            .use_private(key, material, |usable| usable.agree(&input.public_key))
            .await?;
        if input.dry_run {
            return Err(ServiceError::DryRun);
        }
        let shared_secret = self.hand_over(shared_secret, recipient.as_ref())?;
        self.note_use(ctx, &state, key, wanted.operation);
        Ok(DeriveSharedSecretOutput {
            key_arn: key_arn(state.region(), key.account, key.id),
            shared_secret,
            algorithm: input.algorithm,
            origin: key.origin,
        })
    }

    /// Makes a secret that only the holder of a key can get from what goes with it.
    pub async fn encapsulate(
        &self,
        ctx: &RequestContext,
        input: EncapsulateInput,
    ) -> Result<EncapsulateOutput, ServiceError> {
        let wanted = Wanted {
            operation: CryptographicOperation::Encapsulate,
            text: &input.key_id,
            named: [NONE; 2],
            recipient: None,
            usage: KeyUsage::EncapsulateDecapsulate,
            tokens: self.judge_tokens(&input.grant_tokens).await?,
        };
        let state = self.read_with(ctx, &input.grant_tokens).await?;
        let (key, material) = wanted.check(&state, &ctx.caller)?;
        let listed = key.spec.encapsulation_algorithms();
        let listed = listed.contains(&input.algorithm);
        check_algorithm(listed, input.algorithm.name(), key)?;
        self.begin_use(ctx, key, material)?;
        if input.dry_run {
            return Err(ServiceError::DryRun);
        }
        let secret = self.use_key(key, material, UsableKey::encapsulate)?;
        self.note_use(ctx, &state, key, wanted.operation);
        Ok(EncapsulateOutput {
            key_arn: key_arn(state.region(), key.account, key.id),
            secret,
            algorithm: input.algorithm,
        })
    }

    /// Gets that secret.
    pub async fn decapsulate(
        &self,
        ctx: &RequestContext,
        input: DecapsulateInput,
    ) -> Result<SharedSecretOutput, ServiceError> {
        let wanted = Wanted {
            operation: CryptographicOperation::Decapsulate,
            text: &input.key_id,
            named: [NONE; 2],
            recipient: None,
            usage: KeyUsage::EncapsulateDecapsulate,
            tokens: self.judge_tokens(&input.grant_tokens).await?,
        };
        let state = self.read_with(ctx, &input.grant_tokens).await?;
        let (key, material) = wanted.check(&state, &ctx.caller)?;
        let listed = key.spec.encapsulation_algorithms();
        let listed = listed.contains(&input.algorithm);
        check_algorithm(listed, input.algorithm.name(), key)?;
        self.begin_use(ctx, key, material)?;
        let shared_secret = self.use_key(key, material, |usable| {
            usable.decapsulate(&input.ciphertext)
        })?;
        if input.dry_run {
            return Err(ServiceError::DryRun);
        }
        self.note_use(ctx, &state, key, wanted.operation);
        Ok(SharedSecretOutput {
            key_arn: key_arn(state.region(), key.account, key.id),
            shared_secret,
            algorithm: input.algorithm,
        })
    }
}
