//! The form of identities' policies, as far as it is checked here.

use keyrum_authz::MalformedPolicy;

/// What a policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKind {
    /// An identity's own.
    Identity,
    /// What an identity may do at most.
    Boundary,
    /// What a session may do at most.
    Session,
    /// Who may assume a role.
    Trust,
}

/// A policy that has the form of one.
pub struct Policy(());

impl Policy {
    /// Reads a text.
    pub fn parse(text: &str, _kind: PolicyKind) -> Result<Self, MalformedPolicy> {
        let text = text.trim();
        if text.starts_with('{') && text.ends_with('}') && text.contains("\"Statement\"") {
            return Ok(Self(()));
        }
        Err(MalformedPolicy::NoStatement)
    }
}
