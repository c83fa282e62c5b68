//! Grants: whom one names, when its constraints are met, and what may be granted on.
//!
//! Source: AWS KMS Developer Guide, "Grants in AWS KMS" and "Using grant constraints".

use std::collections::BTreeMap;

use keyrum_types::GrantOperation;

use crate::principal::{NamedAs, NamedPrincipal};
use crate::question::{Asker, PrincipalKind};

/// A grant's constraints. All that are there must be met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Constraints<'g> {
    /// The encryption context is this one.
    pub context_equals: Option<&'g BTreeMap<String, String>>,
    /// The encryption context has these pairs, and perhaps others.
    pub context_subset: Option<&'g BTreeMap<String, String>>,
    /// The resource for which a service asks.
    pub source_arn: Option<&'g str>,
}

/// As what a grant's principal names `asker`: an ARN or a unique id, which may be a session's.
/// Allocates nothing.
pub fn grant_names(principal: &str, asker: &Asker<'_>) -> NamedAs {
    if asker.kind == PrincipalKind::Service {
        return NamedAs::No;
    }
    if asker.role_arn == Some(principal) {
        return NamedAs::Role;
    }
    if principal == asker.arn {
        return NamedAs::Itself;
    }
    match asker.unique_id.strip_prefix(principal) {
        _ if principal.is_empty() => NamedAs::No,
        // An account's number is the id of its root user, and names the account.
        Some("") if asker.kind != PrincipalKind::Root => NamedAs::Itself,
        Some(rest) if rest.starts_with(':') && asker.kind == PrincipalKind::AssumedRole => {
            NamedAs::Role
        }
        _ => match account_root(principal) {
            Some(account) => NamedPrincipal::Account(account).names(asker),
            None => NamedAs::No,
        },
    }
}

fn account_root(arn: &str) -> Option<keyrum_types::AccountId> {
    let rest = arn.strip_prefix("arn:")?;
    let (_, rest) = rest.split_once(':')?;
    let account = rest.strip_prefix("iam::")?.strip_suffix(":root")?;
    account.parse().ok()
}

/// Whether a request meets a grant's constraints.
///
/// `context`: its encryption context. Operations that need not meet constraints on it
/// ([`looks_at_context`]) have none and are allowed whatever these say; of CreateGrant [`may_grant_on`]
/// asks that the new grant be as strict. `source_arn`: the resource for
/// which a service asks; RetireGrant does not need it.
pub fn constraints_met(
    constraints: &Constraints<'_>,
    operation: GrantOperation,
    context: &BTreeMap<String, String>,
    source_arn: Option<&str>,
) -> bool {
    let of_source = match constraints.source_arn {
        Some(wanted) if operation != GrantOperation::RetireGrant => source_arn == Some(wanted),
        Some(_) | None => true,
    };
    let of_context = !looks_at_context(operation)
        || (constraints
            .context_equals
            .is_none_or(|wanted| same(wanted, context))
            && constraints
                .context_subset
                .is_none_or(|wanted| includes(context, wanted)));
    of_source && of_context
}

/// Whether an operation has to meet constraints on the encryption context.
pub fn looks_at_context(operation: GrantOperation) -> bool {
    !matches!(
        operation,
        GrantOperation::CreateGrant
            | GrantOperation::DescribeKey
            | GrantOperation::GetPublicKey
            | GrantOperation::RetireGrant
    )
}

/// Whether a grant with `child`'s constraints allows nothing that `parent`'s would not.
pub fn at_least_as_strict(child: &Constraints<'_>, parent: &Constraints<'_>) -> bool {
    let source = parent
        .source_arn
        .is_none_or(|arn| child.source_arn == Some(arn));
    let equals = (parent.context_equals)
        .is_none_or(|wanted| child.context_equals.is_some_and(|own| same(own, wanted)));
    let subset = parent.context_subset.is_none_or(|wanted| {
        let narrower = [child.context_equals, child.context_subset];
        (narrower.into_iter().flatten()).any(|own| includes(own, wanted))
    });
    source && equals && subset
}

/// Whether somebody whose right to CreateGrant comes from a grant alone may create another one:
/// its operations are among the parent's, and its constraints at least as strict.
pub fn may_grant_on(
    parent: (&[GrantOperation], &Constraints<'_>),
    child: (&[GrantOperation], &Constraints<'_>),
) -> bool {
    child.0.iter().all(|operation| parent.0.contains(operation))
        && at_least_as_strict(child.1, parent.1)
}

/// Keys without regard to case, values with it.
fn includes(all: &BTreeMap<String, String>, some: &BTreeMap<String, String>) -> bool {
    some.iter().all(|(key, value)| {
        all.get(key) == Some(value)
            || (all.iter()).any(|(other, its)| other.eq_ignore_ascii_case(key) && its == value)
    })
}

fn same(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> bool {
    one.len() == other.len() && includes(one, other) && includes(other, one)
}
