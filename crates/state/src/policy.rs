//! A key's policy: PutKeyPolicy, and the check that CreateKey shares with it.
//!
//! A policy is text here; what makes a text one, `keyrum-authz` knows.

use std::sync::Arc;

use keyrum_types::key_arn;

use crate::access::Call;
use crate::{Event, KeyRef, Outcome, Refusal, State};

/// How long a policy may be, in bytes. The wire allows 131,072 characters.
/// Source: AWS KMS Developer Guide, "Resource quotas".
pub const POLICY_BYTES_MAX: u32 = 32_768;

/// Whether `text` may become the policy of `key`, which need not exist yet.
pub(crate) fn check(call: &Call<'_>, key: KeyRef, text: &str, bypass: bool) -> Result<(), Refusal> {
    check_for(call.state, &call.caller.arn, key, text, bypass)
}

/// Whether `text` has the form of a policy.
pub(crate) fn check_form(state: &State, key: KeyRef, text: &str) -> Result<(), Refusal> {
    check_for(state, "", key, text, true)
}

fn check_for(
    state: &State,
    caller: &str,
    key: KeyRef,
    text: &str,
    bypass: bool,
) -> Result<(), Refusal> {
    if text.len() > POLICY_BYTES_MAX as usize {
        return Err(Refusal::PolicyTooLong {
            limit: POLICY_BYTES_MAX,
        });
    }
    let arn = key_arn(state.region(), key.account, key.id);
    keyrum_authz::check_policy(text, caller, key.account, &arn, bypass)
        .map_err(Refusal::MalformedPolicy)
}

/// Allowed in every key state, also while the key waits to be deleted.
pub(crate) fn put(call: Call<'_>, key: KeyRef, policy: &str, bypass: bool) -> Outcome {
    let target = call.key(key)?;
    check(&call, key, policy, bypass)?;
    if target.key().policy.as_deref() == Some(policy) {
        return Ok(vec![]);
    }
    Ok(vec![Event::KeyPolicyPut {
        key,
        policy: policy.to_owned(),
    }])
}

pub(crate) fn policy_put(state: &mut State, key: KeyRef, policy: &str) {
    state.edit_key(key, |key| key.policy = Some(Arc::from(policy)));
}
