//! Operations on a key's policy.

use keyrum_state::{Command, NoFacts, POLICY_NAME, permit_key};

use crate::page::{LIST_KEY_POLICIES, Markers, Page, PageRequest};
use crate::resolve::{Accounts, Asked, NONE};
use crate::{RequestContext, Service, ServiceError};

/// The name of the policy that Resource Access Manager adds to keys it shares; none are here.
const RAM_POLICY_NAME: &str = "AWS_RAM";

/// What GetKeyPolicy is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetKeyPolicyInput {
    /// The key's id or ARN.
    pub key_id: String,
    /// `default` if absent.
    pub policy_name: Option<String>,
}

/// What GetKeyPolicy answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetKeyPolicyOutput {
    /// The text as it was put, or the default policy as the real service writes it.
    pub policy: String,
    /// Its name.
    pub policy_name: &'static str,
}

/// What PutKeyPolicy is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutKeyPolicyInput {
    /// The key's id or ARN.
    pub key_id: String,
    /// `default` if absent.
    pub policy_name: Option<String>,
    /// The policy's text.
    pub policy: String,
    /// Whether the caller takes the risk of locking everybody out.
    pub bypass_lockout_check: bool,
}

/// What ListKeyPolicies is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListKeyPoliciesInput {
    /// The key's id or ARN.
    pub key_id: String,
    /// Which part of the list.
    pub page: PageRequest,
}

impl Service {
    /// A key's policy.
    pub async fn get_key_policy(
        &self,
        ctx: &RequestContext,
        input: GetKeyPolicyInput,
    ) -> Result<GetKeyPolicyOutput, ServiceError> {
        let named = input
            .policy_name
            .as_deref()
            .is_none_or(|name| name == POLICY_NAME);
        let asked = Asked {
            named: match named {
                true => [("kms:policyname", POLICY_NAME), NONE],
                false => [NONE; 2],
            },
            ..Asked::of("GetKeyPolicy", &input.key_id)
        };
        self.with_key(ctx, Accounts::Own, asked, |key| {
            match input.policy_name.as_deref() {
                None | Some(POLICY_NAME) => Ok(GetKeyPolicyOutput {
                    policy: key.policy_text(self.region()),
                    policy_name: POLICY_NAME,
                }),
                Some(_) => Err(ServiceError::NoSuchPolicy),
            }
        })
        .await
    }

    /// Replaces a key's policy.
    pub async fn put_key_policy(
        &self,
        ctx: &RequestContext,
        input: PutKeyPolicyInput,
    ) -> Result<(), ServiceError> {
        let key = self.key_only(ctx, &input.key_id, Accounts::Own)?;
        let wrong_name = match input.policy_name.as_deref() {
            None | Some(POLICY_NAME) => None,
            Some(RAM_POLICY_NAME) => Some(ServiceError::RamPolicy),
            Some(name) => Some(ServiceError::PolicyName {
                name: name.to_owned(),
            }),
        };
        if let Some(error) = wrong_name {
            let state = self.read(ctx).await?;
            permit_key(&state, &ctx.caller, key, "PutKeyPolicy", &NoFacts)?;
            return Err(error);
        }
        let PutKeyPolicyInput {
            policy,
            bypass_lockout_check,
            ..
        } = input;
        let command = Command::PutKeyPolicy {
            key,
            policy,
            bypass_lockout_check,
        };
        self.propose(ctx, command).await.map(drop)
    }

    /// The names of a key's policies.
    pub async fn list_key_policies(
        &self,
        ctx: &RequestContext,
        input: ListKeyPoliciesInput,
    ) -> Result<Page<&'static str>, ServiceError> {
        let limit = LIST_KEY_POLICIES.check(&input.page)?;
        let asked = Asked::of("ListKeyPolicies", &input.key_id);
        self.with_key(ctx, Accounts::Own, asked, |key| {
            let markers = Markers {
                key: self.token_key(),
                operation: "ListKeyPolicies",
                account: ctx.caller.account,
                filter: key.id.to_string(),
            };
            // There is one name, so no page is ever followed by another.
            let remaining = match markers.position(&input.page)? {
                None => Some(POLICY_NAME),
                Some(_) => None,
            };
            Ok(markers.page(remaining.into_iter(), limit, |_| Vec::new()))
        })
        .await
    }
}
