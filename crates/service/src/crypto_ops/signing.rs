//! Sign and Verify.

use keyrum_state::{Key, NewMaterial, State};
use keyrum_types::{CryptographicOperation, KeyUsage, MessageType, SigningAlgorithm, key_arn};
use zeroize::Zeroizing;

use super::checks::{Wanted, check_algorithm, check_message};
use crate::grant::Tokens;
use crate::resolve::NONE;
use crate::{RequestContext, Service, ServiceError};

/// What Sign is asked.
pub struct SignInput {
    /// A key id, key ARN, alias or alias ARN.
    pub key_id: String,
    /// 1 to 4096 bytes.
    pub message: Zeroizing<Vec<u8>>,
    /// RAW if the request names none.
    pub message_type: MessageType,
    /// `None` stands for SYMMETRIC_DEFAULT, which the API takes here though no key signs with it.
    pub algorithm: Option<SigningAlgorithm>,
    /// Grants to be known already.
    pub grant_tokens: Vec<String>,
    /// Whether to tell only if it would succeed.
    pub dry_run: bool,
}

/// What Sign answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignOutput {
    /// The key that made it.
    pub key_arn: String,
    /// The signature.
    pub signature: Vec<u8>,
    /// How it was made.
    pub algorithm: SigningAlgorithm,
}

/// What Verify is asked.
pub struct VerifyInput {
    /// As for Sign.
    pub signed: SignInput,
    /// The signature that the key may have made.
    pub signature: Vec<u8>,
}

/// What Verify answers when the signature is valid; there is an error for the other case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyOutput {
    /// The key that made it.
    pub key_arn: String,
    /// How it was made.
    pub algorithm: SigningAlgorithm,
}

impl SignInput {
    /// All checks but the cryptographic one.
    fn check<'s>(
        &self,
        ctx: &RequestContext,
        state: &'s State,
        (operation, tokens): (CryptographicOperation, Tokens),
    ) -> Result<(&'s Key, &'s NewMaterial, SigningAlgorithm), ServiceError> {
        // An algorithm that we have no name for is none that a condition could name.
        let algorithm = self.algorithm.map(|of| ("kms:signingalgorithm", of.name()));
        let wanted = Wanted {
            operation,
            text: &self.key_id,
            named: [
                algorithm.unwrap_or(NONE),
                ("kms:messagetype", self.message_type.name()),
            ],
            recipient: None,
            usage: KeyUsage::SignVerify,
            tokens,
        };
        let (key, material) = wanted.check(state, &ctx.caller)?;
        let known = key.spec.signing_algorithms();
        let algorithm = self.algorithm.filter(|asked| known.contains(asked));
        let name = self
            .algorithm
            .map_or("SYMMETRIC_DEFAULT", SigningAlgorithm::name);
        check_algorithm(algorithm.is_some(), name, key)?;
        let algorithm = algorithm.ok_or(ServiceError::Internal)?;
        check_message(key.spec, algorithm, self.message_type, self.message.len())?;
        Ok((key, material, algorithm))
    }
}

impl Service {
    /// Signs a message, or the digest of one.
    pub async fn sign(
        &self,
        ctx: &RequestContext,
        input: SignInput,
    ) -> Result<SignOutput, ServiceError> {
        let operation = CryptographicOperation::Sign;
        let tokens = self.judge_tokens(&input.grant_tokens).await?;
        let state = self.read_with(ctx, &input.grant_tokens).await?;
        let (key, material, algorithm) = input.check(ctx, &state, (operation, tokens))?;
        self.begin_use(ctx, key, material)?;
        if input.dry_run {
            return Err(ServiceError::DryRun);
        }
        let entropy = &*self.inner.world.entropy;
        let signature = self
            .use_private(key, material, |usable| {
                usable.sign(algorithm, input.message_type, &input.message, entropy)
            })
            .await?;
        self.note_use(ctx, &state, key, operation);
        Ok(SignOutput {
            key_arn: key_arn(state.region(), key.account, key.id),
            signature,
            algorithm,
        })
    }

    /// Tells whether a key made a signature.
    pub async fn verify(
        &self,
        ctx: &RequestContext,
        input: VerifyInput,
    ) -> Result<VerifyOutput, ServiceError> {
        let operation = CryptographicOperation::Verify;
        let signed = &input.signed;
        let tokens = self.judge_tokens(&signed.grant_tokens).await?;
        let state = self.read_with(ctx, &signed.grant_tokens).await?;
        let (key, material, algorithm) = signed.check(ctx, &state, (operation, tokens))?;
        self.begin_use(ctx, key, material)?;
        let valid = self.use_key(key, material, |usable| {
            let message = &signed.message;
            usable.verify(algorithm, signed.message_type, message, &input.signature)
        })?;
        if !valid {
            return Err(ServiceError::InvalidSignature);
        }
        if signed.dry_run {
            return Err(ServiceError::DryRun);
        }
        self.note_use(ctx, &state, key, operation);
        Ok(VerifyOutput {
            key_arn: key_arn(state.region(), key.account, key.id),
            algorithm,
        })
    }
}
