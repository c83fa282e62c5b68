//! The decision itself: evidence that a request is allowed, or the reason it is not.

use std::fmt;

use keyrum_types::AccountId;
use serde::{Deserialize, Serialize};

/// On whose behalf something is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Principal<'a> {
    /// The account the caller belongs to.
    pub account: AccountId,
    /// The caller's ARN, such as `arn:aws:iam::000000000000:root`.
    pub arn: &'a str,
}

/// Evidence that a caller may do an action to what it was asked about; its holder keeps the two
/// together.
///
/// The fields are private and only [`decide`](crate::decide) and [`authorize`] make one, so a
/// forgotten check does not compile. It is not `Clone`: one decision allows one action.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit is evidence for the code that acts on it"]
pub struct Permit {
    action: &'static str,
}

impl Permit {
    pub(crate) fn new(action: &'static str) -> Self {
        Self { action }
    }

    /// The allowed action, without `kms:`.
    pub fn action(&self) -> &'static str {
        self.action
    }
}

/// Decides whether `caller` may do `action` (without `kms:`) to what belongs to the account `owner`.
///
/// The rule below feature level 4: that the caller is of the account is enough.
pub fn authorize(
    caller: Principal<'_>,
    action: &'static str,
    owner: AccountId,
) -> Result<Permit, Denied> {
    if owner == caller.account {
        return Ok(Permit::new(action));
    }
    Err(Denied {
        principal: caller.arn.to_owned(),
        action: action.to_owned(),
        resource: DeniedResource::OtherAccount,
        reason: DeniedReason::NoResourceBasedPolicy,
    })
}

/// Why a request is not allowed: the parts of the API's AccessDeniedException message
/// `User: <principal> is not authorized to perform: kms:<action> on <resource> <reason>`.
///
/// Part of replicated outcomes: released variants of its enums keep their place for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{principal} may not perform kms:{action} on {resource}: {reason}")]
pub struct Denied {
    /// The caller's ARN; empty when a command that needs a caller came without one.
    pub principal: String,
    /// The action, without `kms:`.
    pub action: String,
    /// How the message names the resource.
    pub resource: DeniedResource,
    /// Which layer said no.
    pub reason: DeniedReason,
}

/// How the message of a denial names the resource.
/// Source: `AccessDeniedException` messages of the AWS KMS API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeniedResource {
    /// `on resource: *`, for operations on nothing in particular.
    Any,
    /// `on resource: <ARN>`.
    Arn(String),
    /// `on this resource`: it belongs to another account, whose names stay hidden.
    OtherAccount,
    /// `on resource: the resource associated with this ciphertext`.
    OfCiphertext,
}

impl fmt::Display for DeniedResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "*",
            Self::Arn(arn) => arn,
            Self::OtherAccount => "a resource of another account",
            Self::OfCiphertext => "the resource associated with this ciphertext",
        })
    }
}

/// Which layer of authorization said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeniedReason {
    /// `because no identity-based policy allows the kms:<action> action`.
    NoIdentityBasedPolicy,
    /// `because no resource-based policy allows the kms:<action> action`; also what a caller of
    /// another account is told.
    NoResourceBasedPolicy,
    /// A command that only a caller may give came without one. A fault inside Keyrum: the API
    /// cannot cause it.
    NoCaller,
    /// A command that only the Region gives itself came with a caller. A fault inside Keyrum:
    /// the API cannot cause it.
    RegionOnly,
    /// `with an explicit deny in an identity-based policy`.
    DeniedByIdentityPolicy,
    /// `with an explicit deny in a resource-based policy`.
    DeniedByResourcePolicy,
    /// `with an explicit deny in a session policy`.
    DeniedBySessionPolicy,
    /// `with an explicit deny in a permissions boundary`.
    DeniedByPermissionsBoundary,
    /// `because no session policy allows the kms:<action> action`.
    NoSessionPolicy,
    /// `because no permissions boundary allows the kms:<action> action`.
    NoPermissionsBoundary,
}

impl fmt::Display for DeniedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoIdentityBasedPolicy => "no identity-based policy allows it",
            Self::NoResourceBasedPolicy => "no resource-based policy allows it",
            Self::NoCaller => "the command has no caller",
            Self::RegionOnly => "only the Region gives itself this command",
            Self::DeniedByIdentityPolicy => "an identity-based policy denies it",
            Self::DeniedByResourcePolicy => "a resource-based policy denies it",
            Self::DeniedBySessionPolicy => "a session policy denies it",
            Self::DeniedByPermissionsBoundary => "a permissions boundary denies it",
            Self::NoSessionPolicy => "no session policy allows it",
            Self::NoPermissionsBoundary => "no permissions boundary allows it",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "000000000001";

    fn caller(arn: &str) -> Principal<'_> {
        Principal {
            account: OWN.parse().unwrap(),
            arn,
        }
    }

    /// Catches an owner who is locked out of what is theirs, a permit for something else than was asked,
    /// and a foreign account that is let in.
    #[test]
    fn an_account_may_use_what_it_owns() {
        let caller = caller("arn:aws:iam::000000000001:root");
        let permit = authorize(caller, "EnableKey", caller.account).unwrap();
        assert_eq!(permit.action(), "EnableKey");
        let other = "000000000002".parse().unwrap();
        let denied = authorize(caller, "EnableKey", other).unwrap_err();
        assert_eq!(denied.principal, caller.arn);
        assert_eq!(denied.resource, DeniedResource::OtherAccount);
        assert_eq!(denied.reason, DeniedReason::NoResourceBasedPolicy);
    }
}
