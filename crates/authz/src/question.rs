//! What is asked: who asks, what for, on what, and what else is known about the request.

use std::borrow::Cow;

use keyrum_types::AccountId;

/// What kind of principal asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PrincipalKind {
    /// An account's root user.
    Root,
    /// An IAM user, with or without a session token.
    User,
    /// A session of a role.
    AssumedRole,
    /// A federated user's session.
    FederatedUser,
    /// An AWS service on its own behalf.
    Service,
}

/// Who asks, as resolved on the state the decision is made on.
///
/// The engine itself answers the condition keys that follow from it (aws:PrincipalArn,
/// aws:PrincipalAccount, aws:PrincipalType, aws:PrincipalIsAWSService, aws:userid, aws:username and
/// kms:CallerAccount); a [`Context`] is not asked for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker<'a> {
    /// The kind.
    pub kind: PrincipalKind,
    /// The account it belongs to.
    pub account: AccountId,
    /// As it is shown: the ARN of the user, the role session, the federated user or the account's
    /// root; a service's name, such as `sqs.amazonaws.com`.
    pub arn: &'a str,
    /// For sessions of roles, the role's ARN with its path.
    pub role_arn: Option<&'a str>,
    /// `AIDA...`, `AROA...:session`, `account:name` of a federated user, the account's number for root.
    pub unique_id: &'a str,
}

/// The values of a condition key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values<'a> {
    /// Of a key that has one.
    One(Cow<'a, str>),
    /// Of a key that can have several, also if it has one or none.
    Many(Vec<Cow<'a, str>>),
}

/// The condition keys of a request. Each is asked for only when a policy needs it.
pub trait Context {
    /// The values of a key by its name in lower case, such as `kms:encryptioncontext:team` or
    /// `aws:sourceip`; `None` if the request does not have it.
    fn values(&self, key: &str) -> Option<Values<'_>>;
}

/// A request that has no condition keys but those of who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoContext;

impl Context for NoContext {
    fn values(&self, _: &str) -> Option<Values<'_>> {
        None
    }
}

/// May `asker` do `action` to `resource`?
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// Who asks.
    pub asker: Asker<'a>,
    /// The service that is asked, `kms` or `sts`.
    pub service: &'a str,
    /// The action without its service, such as `Encrypt`.
    pub action: &'static str,
    /// The ARN of a key, an alias or a role; `*` where there is none.
    pub resource: &'a str,
    /// What else is known.
    pub context: &'a dyn Context,
}
