//! Why a text is no policy.

use serde::{Deserialize, Serialize};

/// Why a text cannot be a policy of its kind.
///
/// The texts are the API's own where it has one. Each is a MalformedPolicyDocumentException,
/// except [`MalformedPolicy::InvalidArn`], which is an InvalidArnException.
/// Part of replicated outcomes: released variants keep their place for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum MalformedPolicy {
    /// Not JSON, or JSON of another shape than a policy's.
    #[error("Syntax errors in policy: {what}.")]
    Syntax {
        /// What is wrong, in a few words.
        what: String,
    },
    /// A version of the policy language that there is not.
    #[error("The policy has an unknown Version.")]
    UnknownVersion,
    /// No statement at all.
    #[error("The policy has no Statement.")]
    NoStatement,
    /// A statement whose effect is neither Allow nor Deny.
    #[error("Policy contains a statement whose Effect is not Allow or Deny.")]
    InvalidEffect,
    /// A statement that says nothing about whom it is for.
    #[error("Policy contains a statement with no principal.")]
    NoPrincipal,
    /// A principal that cannot be one, or that does not exist.
    #[error("Policy contains a statement with one or more invalid principals.")]
    InvalidPrincipals,
    /// A principal that begins like an ARN and is none.
    #[error("An ARN in the specified key policy is invalid.")]
    InvalidArn,
    /// The caller could not change the policy again.
    #[error("The new key policy will not allow you to update the key policy in the future.")]
    LocksCallerOut,
    /// An identity's policy that names principals.
    #[error("Policy document should not specify a principal.")]
    PrincipalProhibited,
    /// An identity's policy with a statement about no action.
    #[error("Policy statement must contain actions.")]
    NoAction,
    /// An identity's policy with a statement about no resource.
    #[error("Policy statement must contain resources.")]
    NoResource,
    /// An action or a condition key without the service it is of.
    #[error("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")]
    NoVendor,
    /// A resource that is no ARN.
    #[error("Resource {resource} must be in ARN format or \"*\".")]
    ResourceNotArn {
        /// What was given.
        resource: String,
    },
    /// A Sid of other characters than an identity's policy may have.
    #[error(
        "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular \
         expression [0-9A-Za-z]*"
    )]
    InvalidSid,
    /// A Sid that is there twice.
    #[error("Statement IDs (SID) in a single policy must be unique.")]
    DuplicateSid,
    /// A role's trust policy with an action that is not of STS.
    #[error("AssumeRole policy may only specify STS AssumeRole actions.")]
    NotAnAssumeRoleAction,
    /// A role's trust policy that names resources.
    #[error("Has prohibited field Resource")]
    ResourceProhibited,
    /// `ForAllValues` on a condition key that has one value: true whenever the request lacks it.
    // Own text.
    #[error(
        "Policy contains an overly permissive condition: {operator} must not be used with {key}."
    )]
    OverlyPermissiveCondition {
        /// The operator as written.
        operator: String,
        /// The condition key as written.
        key: String,
    },
}

/// A fault of the form, in a few words.
pub(crate) fn syntax(what: impl Into<String>) -> MalformedPolicy {
    MalformedPolicy::Syntax { what: what.into() }
}
