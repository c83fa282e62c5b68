//! Who is calling: STS GetCallerIdentity, which clients of the API use to learn their account.

use keyrum_types::AccountId;

use crate::{RequestContext, Service};

/// What GetCallerIdentity answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetCallerIdentityOutput {
    /// The caller's account.
    pub account: AccountId,
    /// The caller's ARN.
    pub arn: String,
    /// The caller's unique id, of a role's session with the session's name; an account's root has the
    /// account's number.
    pub user_id: String,
}

impl Service {
    /// Who is calling. Needs no state and no quorum.
    pub fn get_caller_identity(&self, ctx: &RequestContext) -> GetCallerIdentityOutput {
        let user_id = match &ctx.caller.details.unique_id {
            none if none.is_empty() => ctx.caller.account.to_string(),
            id => id.clone(),
        };
        GetCallerIdentityOutput {
            account: ctx.caller.account,
            arn: ctx.caller.arn.clone(),
            user_id,
        }
    }
}
