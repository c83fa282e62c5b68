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
    /// The caller's unique id: an account's root has the account's number.
    pub user_id: String,
}

impl Service {
    /// Who is calling. Needs no state and no quorum.
    pub fn get_caller_identity(&self, ctx: &RequestContext) -> GetCallerIdentityOutput {
        // Deviation: identities have no unique ids yet, so others than root show their name.
        let name = ctx.caller.arn.rsplit(['/', ':']).next().unwrap_or_default();
        let user_id = match name {
            "root" => ctx.caller.account.to_string(),
            name => name.to_owned(),
        };
        GetCallerIdentityOutput {
            account: ctx.caller.account,
            arn: ctx.caller.arn.clone(),
            user_id,
        }
    }
}
