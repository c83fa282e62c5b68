//! A key's policy: PutKeyPolicy, and the check that CreateKey shares with it.
//!
//! A policy is text here; what makes a text one, `keyrum-authz` knows.

use keyrum_authz::{MalformedPolicy, NamedPrincipal, Policy, PolicyKind};
use keyrum_types::key_arn;

use crate::access::{self, Call};
use crate::{AUTHORIZATION_LEVEL, Event, KeyRef, Outcome, Refusal, State, StoredPolicy};

/// How long a policy may be, in bytes. The wire allows 131,072 characters.
/// Source: AWS KMS Developer Guide, "Resource quotas".
pub const POLICY_BYTES_MAX: u32 = 32_768;

/// The name of a key's only policy. Source: AWS KMS API Reference, PutKeyPolicy, `PolicyName`.
pub const POLICY_NAME: &str = "default";

/// Whether `text` may become the policy of `key`, which need not exist yet.
pub(crate) fn check(call: &Call<'_>, key: KeyRef, text: &str, bypass: bool) -> Result<(), Refusal> {
    let (state, caller) = (call.state, call.caller);
    if state.feature_level() < AUTHORIZATION_LEVEL {
        return check_for(state, &caller.arn, key, text, bypass);
    }
    let policy = parse(state, text)?;
    if !bypass && !access::may_put_policy(state, caller, key, &policy, call.command) {
        return Err(Refusal::MalformedPolicy(MalformedPolicy::LocksCallerOut));
    }
    Ok(())
}

/// Whether `text` has the form of a policy.
pub(crate) fn check_form(state: &State, key: KeyRef, text: &str) -> Result<(), Refusal> {
    match state.feature_level() < AUTHORIZATION_LEVEL {
        true => check_for(state, "", key, text, true),
        false => parse(state, text).map(drop),
    }
}

/// A policy whose principals all exist, as far as is known.
fn parse(state: &State, text: &str) -> Result<Policy, Refusal> {
    check_length(text)?;
    let policy = Policy::parse(text, PolicyKind::Key).map_err(Refusal::MalformedPolicy)?;
    let exists = |principal: &NamedPrincipal| match principal {
        NamedPrincipal::Arn(name) | NamedPrincipal::UniqueId(name) => state.principal_exists(name),
        NamedPrincipal::Anyone | NamedPrincipal::Account(_) | NamedPrincipal::Service(_) => true,
    };
    let all = policy.named_principals().all(exists);
    match all {
        true => Ok(policy),
        false => Err(Refusal::MalformedPolicy(MalformedPolicy::InvalidPrincipals)),
    }
}

fn check_length(text: &str) -> Result<(), Refusal> {
    match text.len() > POLICY_BYTES_MAX as usize {
        true => Err(Refusal::PolicyTooLong {
            limit: POLICY_BYTES_MAX,
        }),
        false => Ok(()),
    }
}

/// The rule below [`AUTHORIZATION_LEVEL`].
fn check_for(
    state: &State,
    caller: &str,
    key: KeyRef,
    text: &str,
    bypass: bool,
) -> Result<(), Refusal> {
    check_length(text)?;
    let arn = key_arn(state.region(), key.account, key.id);
    keyrum_authz::check_policy(text, caller, key.account, &arn, bypass)
        .map_err(Refusal::MalformedPolicy)
}

/// Allowed in every key state, also while the key waits to be deleted.
pub(crate) fn put(call: Call<'_>, key: KeyRef, policy: &str, bypass: bool) -> Outcome {
    let target = call.key(key)?;
    check(&call, key, policy, bypass)?;
    let present = target.key().policy.as_ref();
    if present.is_some_and(|present| present.text() == policy) {
        return Ok(vec![]);
    }
    Ok(vec![Event::KeyPolicyPut {
        key,
        policy: policy.to_owned(),
    }])
}

pub(crate) fn policy_put(state: &mut State, key: KeyRef, policy: &str) {
    state.edit_key(key, |key| key.policy = Some(StoredPolicy::from(policy)));
}
