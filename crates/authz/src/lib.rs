//! Who may do what: pure functions from policies and callers to a [`Permit`] or a [`Denied`].
//!
//! What this crate owns so far: the rule that a key answers only to callers of the account that
//! owns it ([`authorize`]), the form of key policies ([`check_policy`]) and of the principals that grants
//! name ([`check_grant_principal`]).
//!
//! **Policies are stored and checked for form, but not yet obeyed**: inside its own account every
//! caller acts with the account's full rights, as its root user would under the default policy. The
//! policy of AWS managed keys is the exception ([`managed_key_allows`]).
//! Identities, statements, conditions and grants are evaluated by later work; the types here are
//! laid out so that only the inside of [`authorize`] changes then.
//!
//! It knows no clock, randomness, disk or network, and decides the same everywhere.

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

pub use decide::{GrantHit, IdentitySide, ResourceSide, decide, locks_out};
pub use decision::{Denied, DeniedReason, DeniedResource, Permit, Principal, Resource, authorize};
pub use form::check_policy;
pub use grant::{Constraints, at_least_as_strict, constraints_met, grant_names, may_grant_on};
pub use malformed::MalformedPolicy;
pub use managed::{VIA_SERVICE, managed_key_allows, managed_key_policy};
pub use policy::{Policy, PolicyKind, default_policy};
pub use principal::{NamedAs, NamedPrincipal, NotAPrincipal, check_grant_principal};
pub use question::{Asker, Context, NoContext, PrincipalKind, Question, Values};
