//! From a caller and a name to a key or an alias with evidence that the caller may act on it.
//!
//! Decisions take a [`Permitted`] or a [`Permit`], never a bare name, so one that forgets to ask
//! does not compile.

use std::sync::Arc;

use keyrum_authz::{
    Denied, DeniedReason, DeniedResource, Permit, Principal, Resource, VIA_SERVICE, authorize,
    managed_key_allows,
};
use keyrum_types::{AliasName, UnixMillis, key_arn};

use crate::{Alias, Caller, Key, KeyRef, Refusal, State};

/// A key that a caller may perform one action on.
#[derive(Debug)]
pub struct Permitted<'s> {
    key: &'s Arc<Key>,
    permit: Permit,
}

impl<'s> Permitted<'s> {
    /// The key.
    pub fn key(&self) -> &'s Arc<Key> {
        self.key
    }

    /// What allows it.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    pub(crate) fn reference(&self) -> KeyRef {
        self.key.reference()
    }
}

/// Finds a key and asks whether the caller may perform `action` (without `kms:`) on it.
///
/// Another account's key is refused as not authorized whether it exists or not, so that nobody
/// learns which ids another account has. A missing key of the caller's own account is missing. An AWS
/// managed key can be looked at; whatever else is asked of it must come through its service.
pub fn permit_key<'s>(
    state: &'s State,
    caller: &Caller,
    key: KeyRef,
    action: &'static str,
) -> Result<Permitted<'s>, Refusal> {
    let permit = permit(caller, action, Resource::Key(key.account, key.id))?;
    let name = key;
    let key = state.key(name).ok_or(Refusal::NoSuchKey { key })?;
    if let Some(alias) = state.managed_alias(name) {
        let via = caller
            .conditions
            .get(VIA_SERVICE)
            .map_or(&[][..], Vec::as_slice);
        if !managed_key_allows(state.region(), alias, action, via) {
            let arn = key_arn(state.region(), name.account, name.id);
            return Err(Refusal::NotAuthorized(Denied {
                principal: caller.arn.clone(),
                action: action.to_owned(),
                resource: DeniedResource::Arn(arn),
                reason: DeniedReason::NoResourceBasedPolicy,
            }));
        }
    }
    Ok(Permitted { key, permit })
}

fn permit(caller: &Caller, action: &'static str, resource: Resource) -> Result<Permit, Refusal> {
    let principal = Principal {
        account: caller.account,
        arn: &caller.arn,
    };
    authorize(principal, action, resource).map_err(Refusal::NotAuthorized)
}

/// An alias that a caller may perform one action on.
#[derive(Debug)]
pub(crate) struct PermittedAlias<'c> {
    pub(crate) name: &'c AliasName,
    _permit: Permit,
}

/// What the decision on a caller's command may look at.
#[derive(Clone, Copy)]
pub(crate) struct Call<'s> {
    pub(crate) state: &'s State,
    pub(crate) caller: &'s Caller,
    /// The command's operation, which is also its action.
    pub(crate) action: &'static str,
    /// The Region's clock at this command.
    pub(crate) at: UnixMillis,
}

impl<'s> Call<'s> {
    pub(crate) fn key(&self, key: KeyRef) -> Result<Permitted<'s>, Refusal> {
        permit_key(self.state, self.caller, key, self.action)
    }

    /// The right to act in the caller's account on nothing in particular.
    pub(crate) fn account(&self) -> Result<Permit, Refusal> {
        permit(
            self.caller,
            self.action,
            Resource::Account(self.caller.account),
        )
    }

    /// The right to act on a name of the caller's account, which need not exist.
    pub(crate) fn alias<'c>(&self, name: &'c AliasName) -> Result<PermittedAlias<'c>, Refusal> {
        let resource = Resource::Alias(self.caller.account, name.clone());
        Ok(PermittedAlias {
            name,
            _permit: permit(self.caller, self.action, resource)?,
        })
    }

    /// An alias of the caller's account that exists.
    pub(crate) fn existing_alias(&self, name: &AliasName) -> Result<&'s Alias, Refusal> {
        let alias = self.state.alias(self.caller.account, name);
        alias.ok_or_else(|| Refusal::NoSuchAlias {
            alias: name.clone(),
        })
    }
}

/// The caller of a command that only a caller may give.
pub(crate) fn required<'c>(
    caller: Option<&'c Caller>,
    action: &'static str,
) -> Result<&'c Caller, Refusal> {
    caller.ok_or_else(|| {
        Refusal::NotAuthorized(Denied {
            principal: String::new(),
            action: action.to_owned(),
            resource: DeniedResource::Any,
            reason: DeniedReason::NoCaller,
        })
    })
}

/// Refuses a caller who gives a command that only the Region gives itself.
pub(crate) fn region_only(caller: Option<&Caller>, action: &'static str) -> Result<(), Refusal> {
    let Some(caller) = caller else { return Ok(()) };
    Err(Refusal::NotAuthorized(Denied {
        principal: caller.arn.clone(),
        action: action.to_owned(),
        resource: DeniedResource::Any,
        reason: DeniedReason::RegionOnly,
    }))
}
