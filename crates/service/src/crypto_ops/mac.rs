//! GenerateMac and VerifyMac.

use keyrum_state::{Key, NewMaterial, State};
use keyrum_types::{CryptographicOperation, KeyUsage, MacAlgorithm, key_arn};
use zeroize::Zeroizing;

use super::checks::{Wanted, check_algorithm};
use crate::grant::Tokens;
use crate::resolve::NONE;
use crate::{RequestContext, Service, ServiceError};

/// What GenerateMac is asked.
pub struct GenerateMacInput {
    /// A key id, key ARN, alias or alias ARN.
    pub key_id: String,
    /// 1 to 4096 bytes.
    pub message: Zeroizing<Vec<u8>>,
    /// How.
    pub algorithm: MacAlgorithm,
    /// Grants to be known already.
    pub grant_tokens: Vec<String>,
    /// Whether to tell only if it would succeed.
    pub dry_run: bool,
}

/// What VerifyMac is asked.
pub struct VerifyMacInput {
    /// As for GenerateMac.
    pub message: GenerateMacInput,
    /// The MAC that the key may have made.
    pub mac: Vec<u8>,
}

/// What GenerateMac answers, and VerifyMac when the MAC is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MacOutput {
    /// The key that made it.
    pub key_arn: String,
    /// The MAC.
    pub mac: Vec<u8>,
    /// How it was made.
    pub algorithm: MacAlgorithm,
}

impl GenerateMacInput {
    /// All checks but the cryptographic one.
    fn check<'s>(
        &self,
        ctx: &RequestContext,
        state: &'s State,
        (operation, tokens): (CryptographicOperation, Tokens),
    ) -> Result<(&'s Key, &'s NewMaterial), ServiceError> {
        let wanted = Wanted {
            operation,
            text: &self.key_id,
            named: [("kms:macalgorithm", self.algorithm.name()), NONE],
            recipient: None,
            usage: KeyUsage::GenerateVerifyMac,
            tokens,
        };
        let (key, material) = wanted.check(state, &ctx.caller)?;
        let listed = key.spec.mac_algorithms().contains(&self.algorithm);
        check_algorithm(listed, self.algorithm.name(), key)?;
        Ok((key, material))
    }
}

impl Service {
    /// Makes the MAC of a message.
    pub async fn generate_mac(
        &self,
        ctx: &RequestContext,
        input: GenerateMacInput,
    ) -> Result<MacOutput, ServiceError> {
        let operation = CryptographicOperation::GenerateMac;
        let tokens = self.judge_tokens(&input.grant_tokens).await?;
        let state = self.read_with(ctx, &input.grant_tokens).await?;
        let (key, material) = input.check(ctx, &state, (operation, tokens))?;
        self.begin_use(ctx, key, material)?;
        if input.dry_run {
            return Err(ServiceError::DryRun);
        }
        let mac = self.use_key(key, material, |usable| {
            usable.mac(input.algorithm, &input.message)
        })?;
        self.note_use(ctx, &state, key, operation);
        Ok(MacOutput {
            key_arn: key_arn(state.region(), key.account, key.id),
            mac,
            algorithm: input.algorithm,
        })
    }

    /// Tells whether a key made a MAC.
    pub async fn verify_mac(
        &self,
        ctx: &RequestContext,
        input: VerifyMacInput,
    ) -> Result<MacOutput, ServiceError> {
        let operation = CryptographicOperation::VerifyMac;
        let asked = &input.message;
        let tokens = self.judge_tokens(&asked.grant_tokens).await?;
        let state = self.read_with(ctx, &asked.grant_tokens).await?;
        let (key, material) = asked.check(ctx, &state, (operation, tokens))?;
        self.begin_use(ctx, key, material)?;
        let valid = self.use_key(key, material, |usable| {
            usable.verify_mac(asked.algorithm, &asked.message, &input.mac)
        })?;
        if !valid {
            return Err(ServiceError::InvalidMac);
        }
        if asked.dry_run {
            return Err(ServiceError::DryRun);
        }
        self.note_use(ctx, &state, key, operation);
        Ok(MacOutput {
            key_arn: key_arn(state.region(), key.account, key.id),
            algorithm: asked.algorithm,
            mac: input.mac,
        })
    }
}
