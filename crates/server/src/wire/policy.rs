//! GetKeyPolicy, PutKeyPolicy and ListKeyPolicies.

use keyrum_service::{
    GetKeyPolicyInput, ListKeyPoliciesInput, PutKeyPolicyInput, RequestContext, Service,
    ServiceError,
};

use super::{NOTHING, end_of_page, page_request};
use crate::fields::Fields;
use crate::json::ObjectWriter;

type Answer = Result<Vec<u8>, ServiceError>;

pub(super) async fn get_key_policy(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = GetKeyPolicyInput {
        key_id: input.required_text("KeyId"),
        policy_name: input.text("PolicyName"),
    };
    let policy = service.get_key_policy(ctx, request).await?;
    let mut answer = ObjectWriter::with_capacity(64 + policy.policy.len() * 5 / 4);
    answer
        .text("Policy", &policy.policy)
        .text("PolicyName", policy.policy_name);
    Ok(answer.finish())
}

pub(super) async fn put_key_policy(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = PutKeyPolicyInput {
        key_id: input.required_text("KeyId"),
        policy_name: input.text("PolicyName"),
        policy: input.required_text("Policy"),
        bypass_lockout_check: input
            .boolean("BypassPolicyLockoutSafetyCheck")
            .unwrap_or(false),
    };
    service.put_key_policy(ctx, request).await?;
    Ok(NOTHING)
}

pub(super) async fn list_key_policies(
    service: &Service,
    ctx: &RequestContext,
    input: &mut Fields<'_>,
) -> Answer {
    let request = ListKeyPoliciesInput {
        key_id: input.required_text("KeyId"),
        page: page_request(input),
    };
    let page = service.list_key_policies(ctx, request).await?;
    let mut answer = ObjectWriter::new();
    answer.texts("PolicyNames", &page.items);
    end_of_page(&mut answer, &page);
    Ok(answer.finish())
}
