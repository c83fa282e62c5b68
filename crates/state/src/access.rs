//! From a caller and a name to a key or an alias with evidence that the caller may act on it.
//!
//! Decisions take a [`Permitted`] or a [`Permit`], never a bare name, so one that forgets to ask
//! does not compile. Policies, grants and identities are all looked up in the state that the command
//! changes, or that supplies the key of a request that only reads: a right and its end have their places
//! in the log.
//!
//! Below [`AUTHORIZATION_LEVEL`] the account that owns a key may do everything to it and nobody else
//! anything; the policy of AWS managed keys is obeyed there too.

use std::sync::Arc;

use keyrum_authz::{
    Asker, Denied, DeniedReason, DeniedResource, IdentitySide, KeyPolicy, Permit, Policy,
    PolicyKind, Principal, PrincipalKind, Question, ResourceSide, VIA_SERVICE, authorize,
    locks_out, managed_key_allows,
};
use keyrum_types::planted::{self, Bug};
use keyrum_types::{AccountId, AliasName, Region, UnixMillis, alias_arn, key_arn};

use crate::facts::{Facts, InRegion, Situation};
use crate::{
    AUTHORIZATION_LEVEL, Alias, Caller, Command, Key, KeyRef, Refusal, ResolvedCaller, State, grant,
};

/// The service that all actions here belong to.
const KMS: &str = "kms";

/// A key that a caller may perform one action on.
#[derive(Debug)]
pub struct Permitted<'s> {
    key: &'s Arc<Key>,
    _permit: Permit,
}

impl<'s> Permitted<'s> {
    /// The key.
    pub fn key(&self) -> &'s Arc<Key> {
        self.key
    }

    pub(crate) fn reference(&self) -> KeyRef {
        self.key.reference()
    }
}

/// Finds a key and asks whether the caller may perform `action` (without `kms:`) on it; `facts` is what
/// the request says that conditions may ask for.
///
/// Another account's key is refused as not authorized whether it exists or not, so that nobody
/// learns which ids another account has. A missing key of the caller's own account is missing.
pub fn permit_key<'s>(
    state: &'s State,
    caller: &Caller,
    key: KeyRef,
    action: &'static str,
    facts: &dyn Facts,
) -> Result<Permitted<'s>, Refusal> {
    permit(state, caller, key, action, facts, Grants::Count)
}

fn permit<'s>(
    state: &'s State,
    caller: &Caller,
    key: KeyRef,
    action: &'static str,
    facts: &dyn Facts,
    grants: Grants,
) -> Result<Permitted<'s>, Refusal> {
    if state.feature_level() < AUTHORIZATION_LEVEL {
        return permit_key_by_account(state, caller, key, action);
    }
    let Some(found) = state.key(key) else {
        return Err(match key.account == caller.account {
            true => Refusal::NoSuchKey { key },
            false => not_visible(state, caller, key.account, action, facts),
        });
    };
    let standing = Standing::of(state, caller);
    let asking = Asking::new(state, standing, action, facts);
    let permit = asking.on_key(found, grants)?;
    Ok(Permitted {
        key: found,
        _permit: permit,
    })
}

/// Whether the caller could put the key's policy again, if `policy` were it.
pub(crate) fn may_put_policy(
    state: &State,
    caller: &Caller,
    key: KeyRef,
    policy: &Policy,
    facts: &dyn Facts,
) -> bool {
    let standing = Standing::of(state, caller);
    let asking = Asking::new(state, standing, "PutKeyPolicy", facts);
    let arn = key_arn(state.region(), key.account, key.id);
    let present = state.key(key).map(Arc::as_ref);
    asking.with_question(&arn, present, |question| !locks_out(policy, question))
}

/// The refusal of a key or an alias of another account that is not there: the one that a caller gets whom
/// nothing allows to use one that is.
pub fn not_visible(
    state: &State,
    caller: &Caller,
    owner: AccountId,
    action: &'static str,
    facts: &dyn Facts,
) -> Refusal {
    let (resource, reason) = (
        DeniedResource::OtherAccount,
        DeniedReason::NoResourceBasedPolicy,
    );
    let refusal = denied(caller, action, resource, reason);
    if state.feature_level() < AUTHORIZATION_LEVEL {
        return refusal;
    }
    let standing = Standing::of(state, caller);
    let side = ResourceSide::Key {
        owner,
        policy: KeyPolicy::Unreadable,
        grant: None,
    };
    let asked = Asking::new(state, standing, action, facts).ask("*", None, &side);
    asked.err().unwrap_or(refusal)
}

fn denied(
    caller: &Caller,
    action: &'static str,
    resource: DeniedResource,
    reason: DeniedReason,
) -> Refusal {
    Refusal::NotAuthorized(Denied {
        principal: caller.arn.clone(),
        action: action.to_owned(),
        resource,
        reason,
    })
}

/// The rule below [`AUTHORIZATION_LEVEL`].
fn permit_key_by_account<'s>(
    state: &'s State,
    caller: &Caller,
    name: KeyRef,
    action: &'static str,
) -> Result<Permitted<'s>, Refusal> {
    let permit = by_account(caller, action, name.account)?;
    let key = state.key(name).ok_or(Refusal::NoSuchKey { key: name })?;
    if let Some(alias) = state.managed_alias(name) {
        let via = caller.conditions.get(VIA_SERVICE);
        let via = via.map_or(&[][..], Vec::as_slice);
        if !managed_key_allows(state.region(), alias, action, via) {
            let arn = key_arn(state.region(), name.account, name.id);
            let resource = DeniedResource::Arn(arn);
            let reason = DeniedReason::NoResourceBasedPolicy;
            return Err(denied(caller, action, resource, reason));
        }
    }
    Ok(Permitted {
        key,
        _permit: permit,
    })
}

fn by_account(caller: &Caller, action: &'static str, owner: AccountId) -> Result<Permit, Refusal> {
    let principal = Principal {
        account: caller.account,
        arn: &caller.arn,
    };
    authorize(principal, action, owner).map_err(Refusal::NotAuthorized)
}

/// Asks whether the caller may perform `action` (without `kms:`) on nothing in particular, or on what
/// `resource` names, where no key's policy has a say.
pub fn permit_account(
    state: &State,
    caller: &Caller,
    action: &'static str,
    resource: &str,
    facts: &dyn Facts,
) -> Result<Permit, Refusal> {
    if state.feature_level() < AUTHORIZATION_LEVEL {
        return by_account(caller, action, caller.account);
    }
    let standing = Standing::of(state, caller);
    let asking = Asking::new(state, standing, action, facts);
    asking.ask(resource, None, &ResourceSide::None)
}

/// A caller as the state knows it.
pub(crate) struct Standing<'a> {
    caller: &'a Caller,
    known: Option<ResolvedCaller<'a>>,
}

impl<'a> Standing<'a> {
    pub(crate) fn of(state: &'a State, caller: &'a Caller) -> Self {
        let known = state.resolve(caller);
        Self { caller, known }
    }

    pub(crate) fn asker(&self) -> Asker<'_> {
        match &self.known {
            Some(known) => known.asker(),
            // Somebody who is not there any more: no policy and no grant means them.
            None => Asker {
                kind: PrincipalKind::FederatedUser,
                account: self.caller.account,
                arn: &self.caller.arn,
                role_arn: None,
                unique_id: "",
            },
        }
    }

    fn side(&self) -> IdentitySide<'_> {
        self.known
            .as_ref()
            .map(ResolvedCaller::side)
            .unwrap_or_default()
    }
}

/// Whether a key's grants count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Grants {
    Count,
    DoNotCount,
}

/// One caller's question about one action.
pub(crate) struct Asking<'a> {
    state: &'a State,
    standing: Standing<'a>,
    action: &'static str,
    facts: &'a dyn Facts,
}

impl<'a> Asking<'a> {
    pub(crate) fn new(
        state: &'a State,
        standing: Standing<'a>,
        action: &'static str,
        facts: &'a dyn Facts,
    ) -> Self {
        Self {
            state,
            standing,
            action,
            facts,
        }
    }

    fn on_key(&self, key: &Key, grants: Grants) -> Result<Permit, Refusal> {
        let arn = key_arn(self.state.region(), key.account, key.id);
        let (asker, caller) = (self.standing.asker(), self.standing.caller);
        let grant = match grants {
            Grants::Count => {
                let name = key.reference();
                grant::applicable(self.state, name, &asker, self.action, self.facts, caller)
            }
            Grants::DoNotCount => None,
        };
        let policy = match &key.policy {
            None => KeyPolicy::Default,
            // One of an earlier version that is none by today's rules says nothing.
            Some(stored) => stored
                .parsed(PolicyKind::Key)
                .map_or(KeyPolicy::Unreadable, KeyPolicy::Is),
        };
        let side = ResourceSide::Key {
            owner: key.account,
            policy,
            grant,
        };
        self.ask(&arn, Some(key), &side)
    }

    /// Where something else than the key's policy is the resource's side.
    pub(crate) fn on_side(&self, key: KeyRef, side: &ResourceSide<'_>) -> Result<Permit, Refusal> {
        let arn = key_arn(self.state.region(), key.account, key.id);
        self.ask(&arn, self.state.key(key).map(Arc::as_ref), side)
    }

    fn ask(
        &self,
        resource: &str,
        key: Option<&Key>,
        side: &ResourceSide<'_>,
    ) -> Result<Permit, Refusal> {
        if self.standing.known.is_none() {
            // Not even what policies leave to everybody.
            let (caller, reason) = (self.standing.caller, DeniedReason::NoIdentityBasedPolicy);
            let own = key.is_none_or(|key| key.account == caller.account);
            let resource = match resource {
                "*" => DeniedResource::Any,
                arn if own => DeniedResource::Arn(arn.to_owned()),
                _ => DeniedResource::OtherAccount,
            };
            return Err(denied(caller, self.action, resource, reason));
        }
        let decided = self.with_question(resource, key, |question| {
            keyrum_authz::decide(question, &self.standing.side(), side)
        });
        decided.map_err(Refusal::NotAuthorized)
    }

    fn with_question<T>(
        &self,
        resource: &str,
        key: Option<&Key>,
        judge: impl FnOnce(&Question<'_>) -> T,
    ) -> T {
        let situation = Situation {
            state: self.state,
            caller: self.standing.caller,
            facts: self.facts,
            key,
            action: self.action,
        };
        judge(&Question {
            asker: self.standing.asker(),
            service: KMS,
            action: self.action,
            resource,
            context: &situation,
        })
    }
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
    /// The command, which says what conditions may ask for.
    pub(crate) command: &'s Command,
    /// The Region's clock at this command.
    pub(crate) at: UnixMillis,
}

impl<'s> Call<'s> {
    /// The command's operation, which is also its action.
    pub(crate) fn action(&self) -> &'static str {
        self.command.name()
    }

    pub(crate) fn key(&self, key: KeyRef) -> Result<Permitted<'s>, Refusal> {
        if planted::is(Bug::AuthorizeBeforeDecide) {
            return permit_key_by_account(self.state, self.caller, key, self.action());
        }
        permit_key(self.state, self.caller, key, self.action(), self.command)
    }

    /// The same by policies alone.
    pub(crate) fn key_without_grants(&self, key: KeyRef) -> Result<Permitted<'s>, Refusal> {
        let (state, caller) = (self.state, self.caller);
        let grants = Grants::DoNotCount;
        permit(state, caller, key, self.action(), self.command, grants)
    }

    /// The right to act in the caller's account on nothing in particular.
    pub(crate) fn account(&self) -> Result<Permit, Refusal> {
        self.including(self.action(), "*")
    }

    /// The same for another action than the command's, which the command includes.
    pub(crate) fn including(
        &self,
        action: &'static str,
        resource: &str,
    ) -> Result<Permit, Refusal> {
        permit_account(self.state, self.caller, action, resource, self.command)
    }

    /// The same where it acts in another Region.
    pub(crate) fn in_region(
        &self,
        region: &Region,
        action: &'static str,
        resource: &str,
    ) -> Result<Permit, Refusal> {
        let command = self.command;
        let facts = InRegion { region, command };
        permit_account(self.state, self.caller, action, resource, &facts)
    }

    /// The right to act on a name of the caller's account, which need not exist.
    pub(crate) fn alias<'c>(&self, name: &'c AliasName) -> Result<PermittedAlias<'c>, Refusal> {
        let (state, caller) = (self.state, self.caller);
        let arn = alias_arn(state.region(), caller.account, name);
        Ok(PermittedAlias {
            name,
            _permit: permit_account(state, caller, self.action(), &arn, self.command)?,
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
    let (resource, reason) = (DeniedResource::Any, DeniedReason::RegionOnly);
    Err(denied(caller, action, resource, reason))
}
