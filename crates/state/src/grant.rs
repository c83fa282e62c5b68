//! Grants on keys: CreateGrant, RetireGrant, RevokeGrant, and the rows they are kept in.
//!
//! A grant belongs to one key in one Region and dies with it; families do not share grants. Which of a
//! key's grants allow what a caller asks for, [`applicable`] says; what such a grant is worth beside the
//! policies, `keyrum-authz` knows.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use keyrum_authz::{
    Asker, Constraints, Denied, DeniedReason, DeniedResource, GrantHit, NamedAs, PrincipalKind,
    ResourceSide, constraints_met, grant_names, looks_at_context, may_grant_on,
};
use keyrum_types::{
    AccountId, GrantId, GrantOperation, KeySpec, KeyState, KeyUsage, UnixMillis, key_arn,
};
use rpds::RedBlackTreeMapSync as Map;
use serde::{Deserialize, Serialize};

use crate::access::{Asking, Call, Permitted, Standing, not_visible};
use crate::contents::{Row, RowName};
use crate::facts::{Facts, NoFacts, OfGrant};
use crate::grantees::Granted;
use crate::{AUTHORIZATION_LEVEL, Caller, Event, Key, KeyRef, Outcome, Refusal, State};

/// How many grants a key may have. Source: AWS KMS Developer Guide, "Resource quotas".
pub const GRANTS_PER_KEY_MAX: u32 = 50_000;

/// Whom a grant names.
///
/// Stored in snapshots: variants keep their meaning and their place for good.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum GrantPrincipal {
    /// A user, role, session, federated user or an account's root, by its ARN.
    Aws(String),
    /// An AWS service, such as `sqs.us-east-1.amazonaws.com`.
    Service(String),
}

/// When a grant holds: all that is there must be met.
///
/// Stored in snapshots: the order and types of the fields are the format.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantConstraints {
    /// The request's encryption context is this one.
    pub context_equals: Option<BTreeMap<String, String>>,
    /// The request's encryption context has these pairs, and perhaps others.
    pub context_subset: Option<BTreeMap<String, String>>,
    /// The resource for which a service asks.
    pub source_arn: Option<String>,
}

impl GrantConstraints {
    pub(crate) fn view(&self) -> Constraints<'_> {
        Constraints {
            context_equals: self.context_equals.as_ref(),
            context_subset: self.context_subset.as_ref(),
            source_arn: self.source_arn.as_deref(),
        }
    }
}

/// What a grant says: all of it but its name for itself and its beginning.
///
/// Stored in snapshots: the order and types of the fields are the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantTerms {
    /// What the issuer calls it; one who names a grant gets the same one again for the same terms.
    pub name: Option<String>,
    /// Who is allowed something.
    pub grantee: GrantPrincipal,
    /// Who may end it, beside the account that issued it.
    pub retiring: Option<GrantPrincipal>,
    /// What is allowed, in the order given, each once.
    pub operations: Vec<GrantOperation>,
    /// When it is.
    pub constraints: GrantConstraints,
}

impl GrantTerms {
    /// Whether two requests mean one grant. The order of operations says nothing.
    fn same_as(&self, other: &Self) -> bool {
        let set = |terms: &Self| terms.operations.iter().copied().collect::<BTreeSet<_>>();
        (&self.name, &self.grantee, &self.retiring)
            == (&other.name, &other.grantee, &other.retiring)
            && self.constraints == other.constraints
            && set(self) == set(other)
    }
}

/// One grant.
///
/// Stored in snapshots: the order and types of the fields are the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// On which key.
    pub key: KeyRef,
    /// Its name for good.
    pub id: GrantId,
    /// The account it was created in.
    pub issuer: AccountId,
    /// When, by the Region's clock.
    pub created: UnixMillis,
    /// What it says.
    pub terms: GrantTerms,
}

/// All grants of a Region, and the ways they are looked for.
#[derive(Clone)]
pub(crate) struct Grants {
    all: Map<(KeyRef, GrantId), Arc<Grant>>,
    counts: Map<KeyRef, u32>,
    named: Map<(KeyRef, String, GrantId), ()>,
    granted: Granted,
    retirable: Map<GrantPrincipal, Map<(KeyRef, GrantId), ()>>,
}

impl Grants {
    pub(crate) fn new() -> Self {
        Self {
            all: Map::new_sync(),
            counts: Map::new_sync(),
            named: Map::new_sync(),
            granted: Granted::new(),
            retirable: Map::new_sync(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Grant>> {
        self.all.values()
    }

    /// Enters a grant; the former one of its name.
    pub(crate) fn put(&mut self, grant: &Arc<Grant>) -> Option<Arc<Grant>> {
        let (key, id) = (grant.key, grant.id);
        let former = self.remove(key, id);
        let count = self.count(key);
        self.counts.insert_mut(key, count + 1);
        if let Some(name) = &grant.terms.name {
            self.named.insert_mut((key, name.clone(), id), ());
        }
        self.granted.put(grant);
        if let Some(retiring) = &grant.terms.retiring {
            let theirs = self.retirable.get(retiring).cloned();
            let theirs = theirs.unwrap_or_else(Map::new_sync).insert((key, id), ());
            self.retirable.insert_mut(retiring.clone(), theirs);
        }
        self.all.insert_mut((key, id), Arc::clone(grant));
        former
    }

    pub(crate) fn remove(&mut self, key: KeyRef, id: GrantId) -> Option<Arc<Grant>> {
        let former = Arc::clone(self.all.get(&(key, id))?);
        match self.count(key) {
            0 | 1 => _ = self.counts.remove_mut(&key),
            count => self.counts.insert_mut(key, count - 1),
        }
        if let Some(name) = &former.terms.name {
            self.named.remove_mut(&(key, name.clone(), id));
        }
        self.granted.remove(&former);
        if let Some(retiring) = &former.terms.retiring {
            let theirs = self.retirable.get(retiring)?.remove(&(key, id));
            match theirs.is_empty() {
                true => _ = self.retirable.remove_mut(retiring),
                false => self.retirable.insert_mut(retiring.clone(), theirs),
            }
        }
        self.all.remove_mut(&(key, id));
        Some(former)
    }

    fn count(&self, key: KeyRef) -> u32 {
        self.counts.get(&key).copied().unwrap_or(0)
    }
}

impl State {
    /// A grant on a key.
    pub fn grant(&self, key: KeyRef, id: GrantId) -> Option<&Arc<Grant>> {
        self.all_grants().all.get(&(key, id))
    }

    /// How many grants a key has.
    pub fn grant_count(&self, key: KeyRef) -> u32 {
        self.all_grants().count(key)
    }

    /// A key's grants after `after`, in the order of their ids.
    pub fn grants_on(
        &self,
        key: KeyRef,
        after: Option<GrantId>,
    ) -> impl Iterator<Item = &Arc<Grant>> {
        let start = match after {
            Some(id) => Bound::Excluded((key, id)),
            None => Bound::Included((key, GrantId([0; 32]))),
        };
        let range = self.all_grants().all.range((start, Bound::Unbounded));
        range
            .map(|(_, grant)| grant)
            .take_while(move |grant| grant.key == key)
    }

    /// The grants that a principal may retire since they name it, after `after`, in the order of their
    /// keys and ids.
    pub fn grants_retirable_by(
        &self,
        principal: &GrantPrincipal,
        after: Option<(KeyRef, GrantId)>,
    ) -> impl Iterator<Item = &Arc<Grant>> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let theirs = self.all_grants().retirable.get(principal);
        let rest = theirs.map(|theirs| theirs.range((start, Bound::Unbounded)));
        rest.into_iter().flatten().map(|((key, id), ())| {
            let grant = self.grant(*key, *id);
            grant.expect("the index lists only grants that exist")
        })
    }

    /// The grant that the same issuer gave the same name and terms before; `None` without a name.
    pub fn same_grant(
        &self,
        key: KeyRef,
        issuer: AccountId,
        terms: &GrantTerms,
    ) -> Option<&Arc<Grant>> {
        let name = terms.name.as_ref()?;
        let start = (key, name.clone(), GrantId([0; 32]));
        let range = self.all_grants().named.range(start..);
        range
            .take_while(|((of, called, _), ())| *of == key && called == name)
            .filter_map(|((_, _, id), ())| self.grant(key, *id))
            .find(|grant| grant.issuer == issuer && grant.terms.same_as(terms))
    }
}

/// What a grant on a key may allow, beside what it may for every key.
fn operations_of(spec: KeySpec, usage: KeyUsage) -> &'static [GrantOperation] {
    use GrantOperation::*;
    match usage {
        KeyUsage::EncryptDecrypt if spec == KeySpec::SymmetricDefault => &[
            Decrypt,
            Encrypt,
            GenerateDataKey,
            GenerateDataKeyWithoutPlaintext,
            ReEncryptFrom,
            ReEncryptTo,
            GenerateDataKeyPair,
            GenerateDataKeyPairWithoutPlaintext,
        ],
        KeyUsage::EncryptDecrypt => &[Decrypt, Encrypt, ReEncryptFrom, ReEncryptTo, GetPublicKey],
        KeyUsage::SignVerify => &[Sign, Verify, GetPublicKey],
        KeyUsage::GenerateVerifyMac => &[GenerateMac, VerifyMac],
        KeyUsage::KeyAgreement => &[DeriveSharedSecret, GetPublicKey],
        KeyUsage::EncapsulateDecapsulate => &[Encapsulate, Decapsulate, GetPublicKey],
    }
}

/// What a grant on a key of this kind may allow, as the API's error lists it.
pub fn grant_operations_for(spec: KeySpec, usage: KeyUsage) -> Vec<GrantOperation> {
    use GrantOperation::*;
    let mut all = vec![CreateGrant, RetireGrant, DescribeKey];
    all.extend(operations_of(spec, usage));
    all
}

fn check_terms(key: &Key, terms: &GrantTerms) -> Result<(), Refusal> {
    let name = key.reference();
    let valid = grant_operations_for(key.spec, key.usage);
    let others: Vec<_> = terms
        .operations
        .iter()
        .copied()
        .filter(|operation| !valid.contains(operation))
        .collect();
    if !others.is_empty() {
        return Err(Refusal::OperationsNotForKey {
            key: name,
            operations: others,
            spec: key.spec,
            usage: key.usage,
        });
    }
    if terms.operations == [GrantOperation::CreateGrant] {
        return Err(Refusal::OnlyCreateGrant);
    }
    let constraints = &terms.constraints;
    let on_context = constraints.context_equals.is_some() || constraints.context_subset.is_some();
    if on_context && key.spec != KeySpec::SymmetricDefault {
        return Err(Refusal::ContextConstraintNotForKey { key: name });
    }
    Ok(())
}

/// The strongest of the key's grants that allow a caller an operation: one that names the caller itself
/// and not its role, and one that the caller's own account issued.
pub(crate) fn applicable(
    state: &State,
    key: KeyRef,
    asker: &Asker<'_>,
    action: &str,
    facts: &dyn Facts,
    caller: &Caller,
) -> Option<GrantHit> {
    let hits = grants_for(state, key, asker, action, facts, caller);
    let hits = hits.map(|(grant, named)| GrantHit {
        issuer: grant.issuer,
        named,
    });
    GrantHit::strongest(hits, asker, key.account)
}

/// The key's grants that allow a caller an operation, and as what each names the caller.
fn grants_for<'s>(
    state: &'s State,
    key: KeyRef,
    asker: &Asker<'_>,
    action: &str,
    facts: &dyn Facts,
    caller: &Caller,
) -> impl Iterator<Item = (&'s Arc<Grant>, NamedAs)> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    let is_service = asker.kind == PrincipalKind::Service;
    let granted = state.all_grants().granted.on(key, is_service);
    let asked = granted.zip(GrantOperation::from_name(action));
    let names = asked.map(|_| names_of(asker)).into_iter().flatten();
    let context = facts.encryption_context().unwrap_or(&NONE);
    let source = caller.conditions.get("aws:sourcearn");
    let source = source.and_then(|values| values.first()).map(String::as_str);
    names.flatten().flat_map(move |name| {
        let (granted, operation) = asked.expect("without, there are no names");
        let named = match is_service {
            true => NamedAs::Itself,
            false => grant_names(&name, asker),
        };
        let theirs = granted.get(&*name).filter(|_| named != NamedAs::No);
        let context_counts = looks_at_context(operation).then_some(context);
        let candidates = theirs.map(|theirs| theirs.candidates(context_counts));
        let candidates = candidates.into_iter().flatten();
        candidates.filter_map(move |grant| {
            let terms = &grant.terms;
            let allows = terms.operations.contains(&operation)
                && constraints_met(&terms.constraints.view(), operation, context, source);
            allows.then_some((grant, named))
        })
    })
}

/// All that grants may call a caller.
fn names_of<'a>(asker: &Asker<'a>) -> [Option<Cow<'a, str>>; 5] {
    let role_id = asker.unique_id.split_once(':').map(|(role, _)| role);
    let account = match asker.kind {
        PrincipalKind::Service => return [Some(asker.arn.into()), None, None, None, None],
        PrincipalKind::Root => None,
        // A grant to an account's root is one to the account.
        _ => root_of(asker.arn, asker.account),
    };
    let name = |name: &'a str| (!name.is_empty()).then_some(Cow::Borrowed(name));
    [
        name(asker.arn),
        asker.role_arn.and_then(name),
        name(asker.unique_id),
        role_id.and_then(name),
        account.map(Cow::Owned),
    ]
}

fn root_of(arn: &str, account: AccountId) -> Option<String> {
    let partition = arn.split(':').nth(1)?;
    let account = account.digits();
    let account = std::str::from_utf8(&account).expect("digits are ASCII");
    Some(["arn:", partition, ":iam::", account, ":root"].concat())
}

/// Whether those whom a grant names exist, as far as is known.
fn check_principals(state: &State, terms: &GrantTerms) -> Result<(), Refusal> {
    if state.feature_level() < AUTHORIZATION_LEVEL {
        return Ok(());
    }
    for principal in [Some(&terms.grantee), terms.retiring.as_ref()]
        .into_iter()
        .flatten()
    {
        if let GrantPrincipal::Aws(arn) = principal
            && !state.principal_exists(arn)
        {
            return Err(Refusal::NoSuchPrincipal { arn: arn.clone() });
        }
    }
    Ok(())
}

/// Whether a caller may create a grant of these terms. One who may only because of another grant cannot
/// give more than that one.
fn permit_create<'s>(
    call: &Call<'s>,
    key: KeyRef,
    terms: &GrantTerms,
) -> Result<Permitted<'s>, Refusal> {
    if call.state.feature_level() < AUTHORIZATION_LEVEL {
        return call.key(key);
    }
    let refusal = match call.key_without_grants(key) {
        Ok(target) => return Ok(target),
        Err(refusal) => refusal,
    };
    let target = call.key(key)?;
    let standing = Standing::of(call.state, call.caller);
    let (asker, caller, action) = (standing.asker(), call.caller, call.action());
    let mut parents = grants_for(call.state, key, &asker, action, &NoFacts, caller);
    let child = (&terms.operations[..], &terms.constraints.view());
    let covers = parents.any(|(parent, _)| {
        let parent = &parent.terms;
        may_grant_on((&parent.operations, &parent.constraints.view()), child)
    });
    match covers {
        true => Ok(target),
        false => Err(refusal),
    }
}

pub(crate) fn create(call: &Call<'_>, key: KeyRef, id: GrantId, terms: &GrantTerms) -> Outcome {
    let target = permit_create(call, key, terms)?;
    check_terms(target.key(), terms)?;
    check_principals(call.state, terms)?;
    match target.key().state {
        KeyState::Enabled | KeyState::Unavailable | KeyState::Updating => {}
        state @ (KeyState::Disabled
        | KeyState::PendingDeletion
        | KeyState::PendingReplicaDeletion
        | KeyState::PendingImport
        | KeyState::Creating) => return Err(Refusal::WrongState { key, state }),
    }
    let (state, issuer) = (call.state, call.caller.account);
    if state.same_grant(key, issuer, terms).is_some() {
        return Ok(vec![]);
    }
    if state.grant_count(key) >= GRANTS_PER_KEY_MAX {
        return Err(Refusal::TooManyGrants {
            key,
            limit: GRANTS_PER_KEY_MAX,
        });
    }
    if state.grant(key, id).is_some() {
        return Err(Refusal::GrantExists { key, grant: id });
    }
    Ok(vec![Event::GrantCreated {
        grant: Grant {
            key,
            id,
            issuer,
            created: call.at,
            terms: terms.clone(),
        },
    }])
}

/// Works whatever state the key is in.
pub(crate) fn revoke(state: &State, target: &Permitted<'_>, id: GrantId) -> Outcome {
    let key = target.reference();
    match state.grant(key, id) {
        None => Err(Refusal::NoSuchGrant { key, grant: id }),
        Some(_) => Ok(vec![Event::GrantRevoked { key, grant: id }]),
    }
}

/// Works whatever state the key is in. The grant itself says who may retire it; the key's policy has no
/// say. Somebody of another account is not told whether key and grant exist, unless they may retire it.
pub(crate) fn retire(call: &Call<'_>, key: KeyRef, id: GrantId) -> Outcome {
    let (state, caller) = (call.state, call.caller);
    let own = key.account == caller.account;
    match state.grant(key, id) {
        Some(grant) => {
            let allowed = match state.feature_level() < AUTHORIZATION_LEVEL {
                true => retire_by_account(call, grant),
                false => permit_retire(call, grant),
            };
            allowed.map(|()| vec![Event::GrantRetired { key, grant: id }])
        }
        None if own && state.key(key).is_none() => Err(Refusal::NoSuchKey { key }),
        None if own => Err(Refusal::NoSuchGrant { key, grant: id }),
        None => {
            let (owner, action) = (key.account, call.action());
            Err(not_visible(state, caller, owner, action, call.command))
        }
    }
}

/// Whether a caller may retire a grant: one whom it names for that, its grantee if it says so, and those
/// to whom the account that issued it leaves that. Source: AWS KMS API Reference, RetireGrant.
fn permit_retire(call: &Call<'_>, grant: &Grant) -> Result<(), Refusal> {
    let standing = Standing::of(call.state, call.caller);
    let asker = standing.asker();
    let named = |principal: &GrantPrincipal| match principal {
        GrantPrincipal::Aws(arn) => grant_names(arn, &asker),
        GrantPrincipal::Service(name) => match asker.arn == name {
            true => NamedAs::Itself,
            false => NamedAs::No,
        },
    };
    let terms = &grant.terms;
    let by_operation = terms.operations.contains(&GrantOperation::RetireGrant);
    let grantee = by_operation.then_some(&terms.grantee);
    let named = terms.retiring.iter().chain(grantee).map(named).max();
    let side = ResourceSide::Retirement {
        owner: grant.key.account,
        issuer: grant.issuer,
        named: named.unwrap_or(NamedAs::No),
    };
    let facts = OfGrant(grant);
    let asking = Asking::new(call.state, standing, call.action(), &facts);
    asking.on_side(grant.key, &side).map(drop)
}

/// The rule below [`AUTHORIZATION_LEVEL`].
fn retire_by_account(call: &Call<'_>, grant: &Grant) -> Result<(), Refusal> {
    let caller = call.caller;
    let is_caller = |principal: &GrantPrincipal| matches!(principal, GrantPrincipal::Aws(arn) if *arn == caller.arn);
    let terms = &grant.terms;
    if caller.account == grant.issuer
        || terms.retiring.as_ref().is_some_and(is_caller)
        || (is_caller(&terms.grantee) && terms.operations.contains(&GrantOperation::RetireGrant))
    {
        return Ok(());
    }
    let key = grant.key;
    Err(Refusal::NotAuthorized(Denied {
        principal: caller.arn.clone(),
        action: call.action().to_owned(),
        resource: match key.account == caller.account {
            true => DeniedResource::Arn(key_arn(call.state.region(), key.account, key.id)),
            false => DeniedResource::OtherAccount,
        },
        reason: DeniedReason::NoResourceBasedPolicy,
    }))
}

/// A deleted key's grants go with it.
pub(crate) fn bury(state: &mut State, key: KeyRef) {
    let ids: Vec<GrantId> = state.grants_on(key, None).map(|grant| grant.id).collect();
    for id in ids {
        state.remove(RowName::Grant(key, id));
    }
}

pub(crate) fn evolve(state: &mut State, event: &Event) {
    match event {
        Event::GrantCreated { grant } => state.put(Row::Grant(Arc::new(grant.clone()))),
        Event::GrantRetired { key, grant } | Event::GrantRevoked { key, grant } => {
            state.remove(RowName::Grant(*key, *grant));
        }
        other => unreachable!("not an event of a grant: {other:?}"),
    }
}
