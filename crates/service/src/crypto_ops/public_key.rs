//! GetPublicKey.

use keyrum_state::{Key, Refusal, State};
use keyrum_types::{KeySpec, KeyState, KeyUsage, key_arn};

use super::checks::{check_state, current_material};
use crate::grant::Tokens;
use crate::materials::Ready;
use crate::resolve::Asked;
use crate::{Algorithms, RequestContext, Service, ServiceError};

/// What GetPublicKey is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetPublicKeyInput {
    /// A key id, key ARN, alias or alias ARN.
    pub key_id: String,
    /// Grants to be known already.
    pub grant_tokens: Vec<String>,
}

/// What GetPublicKey answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetPublicKeyOutput {
    /// Which key.
    pub key_arn: String,
    /// A SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    /// The key's spec.
    pub spec: KeySpec,
    /// What it is for.
    pub usage: KeyUsage,
    /// What it can be used with.
    pub algorithms: Algorithms,
}

impl Service {
    /// The public half of a key pair. It is no secret, so it may be had while the key is disabled.
    pub async fn get_public_key(
        &self,
        ctx: &RequestContext,
        input: GetPublicKeyInput,
    ) -> Result<GetPublicKeyOutput, ServiceError> {
        let tokens = self.judge_tokens(&input.grant_tokens).await?;
        let state = self.read_with(ctx, &input.grant_tokens).await?;
        let key = find(ctx, &state, &input, tokens)?;
        let material = current_material(key)?;
        // What is kept in memory belongs to keys that may be used.
        let ready = match key.state {
            KeyState::Disabled => self.prepare(key, material)?.into(),
            _ => self.ready(key, material)?,
        };
        let public_key = match &*ready {
            Ready::Key(key) => key.public_key_der(),
            Ready::Secret(_) => None,
        };
        Ok(GetPublicKeyOutput {
            key_arn: key_arn(state.region(), key.account, key.id),
            public_key: public_key.ok_or(ServiceError::Internal)?.to_vec(),
            spec: key.spec,
            usage: key.usage,
            algorithms: Algorithms::of(key.spec, key.usage),
        })
    }
}

fn find<'s>(
    ctx: &RequestContext,
    state: &'s State,
    input: &GetPublicKeyInput,
    tokens: Tokens,
) -> Result<&'s Key, ServiceError> {
    let asked = Asked::of("GetPublicKey", &input.key_id);
    let key = asked.look_up(state, &ctx.caller)?;
    tokens.check()?;
    if key.state != KeyState::Disabled {
        check_state(key)?;
    }
    if !key.spec.is_asymmetric() {
        let (key, spec) = (key.reference(), key.spec);
        return Err(Refusal::SpecNotForOperation { key, spec }.into());
    }
    Ok(key)
}
