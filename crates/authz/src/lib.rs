//! Who may do what: pure functions from policies and a question to a [`Permit`] or a [`Denied`].
//!
//! [`Policy::parse`] reads a document once: its patterns are cut up, its numbers, dates and address ranges
//! read, its variables found. [`decide`] answers a [`Question`] from what the identity's own side says
//! ([`IdentitySide`]: its policies, its boundary, its session's policies) and what the resource's side
//! says ([`ResourceSide`]: a key's policy and grants, or a grant that is to be retired). Condition keys
//! are asked for one by one, when a policy needs them ([`Context`]); those that follow from who asks,
//! the engine answers itself.
//!
//! Invariants:
//! - A Deny never lets anybody in, and taking an Allow away lets in nobody more.
//! - The same question gets the same answer on every node: no clock, randomness, disk, network, float
//!   or hash order, and a JSON reader of its own, since whether a text is a policy is replicated too.
//! - What cannot be known (a variable without a value, several values where one is meant) never makes
//!   an Allow apply, and never keeps a Deny from applying where a negated condition rests on it.
//!
//! The whole policy language of IAM is here but what no key policy can use: canonical users and groups.
//! Of grants, this crate knows whom one names ([`grant_names`]), when its constraints are met
//! ([`constraints_met`]) and what may be granted on ([`may_grant_on`]); which grants there are, the
//! state knows.
//!
//! [`check_policy`], [`authorize`] and [`managed_key_allows`] are the rules of Regions below the feature
//! level at which policies are obeyed; their logs must give the same outcomes for good.
//!
//! The rules are in `tests/rules/table`, one a line; `tests/rules/compare.rs` holds the engine beside an
//! evaluator that others wrote, and says where the two differ.

mod condition;
mod decide;
mod decision;
mod evaluation;
mod form;
mod grant;
mod json;
mod malformed;
mod managed;
mod policy;
mod principal;
mod question;
mod statement;
mod template;
mod values;

pub use decide::{GrantHit, IdentitySide, KeyPolicy, ResourceSide, decide, locks_out};
pub use decision::{Denied, DeniedReason, DeniedResource, Permit, Principal, authorize};
pub use form::check_policy;
pub use grant::{
    Constraints, at_least_as_strict, constraints_met, grant_names, looks_at_context, may_grant_on,
};
pub use malformed::MalformedPolicy;
pub use managed::{VIA_SERVICE, managed_key_allows, managed_key_policy};
pub use policy::{Policy, PolicyKind, default_policy};
pub use principal::{NamedAs, NamedPrincipal, NotAPrincipal, check_grant_principal};
pub use question::{Asker, Context, NoContext, PrincipalKind, Question, Values};
