//! Operations on grants: CreateGrant, ListGrants, ListRetirableGrants, RetireGrant and RevokeGrant.
//!
//! A grant token names its grant and is authenticated; no node remembers it, so every node of the Region
//! takes every other's. It is worth something as long as its grant is there. A request that brings tokens is
//! judged on the newest state, in which their grants are; who may do what by a grant, `keyrum_state` decides.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyrum_authz::{NotAPrincipal, check_grant_principal};
use keyrum_consensus::ReadMode;
use keyrum_crypto::TokenKey;
use keyrum_state::{
    Command, Event, Grant, GrantConstraints, GrantPrincipal, GrantTerms, KeyRef, NoFacts, Refusal,
    State, decide, not_visible, permit_account, permit_key,
};
use keyrum_types::{AccountId, Entropy, GrantId, GrantOperation, KeyId, Region, key_arn};

use crate::page::{LIST_GRANTS, Markers, Page, PageRequest};
use crate::resolve::Accounts;
use crate::{RequestContext, Service, ServiceError};

/// How many pairs a constraint on the encryption context may have.
/// Source: AWS KMS Developer Guide, "Grant constraints".
const CONTEXT_PAIRS_MAX: usize = 8;

/// How many characters a name or a value in one may have. Source: the same.
const CONTEXT_CHARS_MAX: usize = 384;

/// How often a name that was free and taken in turns is tried.
const CREATES_MAX: u32 = 8;

/// What CreateGrant is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateGrantInput {
    /// The key's id or ARN.
    pub key_id: String,
    /// Who is allowed something: an ARN. This or the next.
    pub grantee: Option<String>,
    /// Which service is.
    pub grantee_service: Option<String>,
    /// Who may end the grant: an ARN. At most this or the next.
    pub retiring: Option<String>,
    /// Which service may.
    pub retiring_service: Option<String>,
    /// What is allowed.
    pub operations: Vec<GrantOperation>,
    /// When it is.
    pub constraints: GrantConstraints,
    /// What the caller calls it.
    pub name: Option<String>,
    /// Grants to be known already.
    pub grant_tokens: Vec<String>,
    /// Whether only to tell if it would be done.
    pub dry_run: bool,
}

/// What CreateGrant answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateGrantOutput {
    /// Shows the grant to those who do not know of it yet. Another one each time.
    pub token: String,
    /// The grant's name for good.
    pub id: GrantId,
}

/// What ListGrants is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListGrantsInput {
    /// The key's id or ARN.
    pub key_id: String,
    /// Only the grant of this id.
    pub grant_id: Option<String>,
    /// Only grants to this principal, an ARN.
    pub grantee: Option<String>,
    /// Only grants to this service.
    pub grantee_service: Option<String>,
    /// Which part of the list.
    pub page: PageRequest,
}

/// What ListRetirableGrants is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListRetirableGrantsInput {
    /// Who may retire them: an ARN of the caller's account. This or the next.
    pub retiring: Option<String>,
    /// Which service may.
    pub retiring_service: Option<String>,
    /// Which part of the list.
    pub page: PageRequest,
}

/// A grant as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantEntry {
    /// The key's ARN.
    pub key_arn: String,
    /// The ARN of the root of the account that issued it.
    pub issuer_arn: String,
    /// The grant.
    pub grant: Arc<Grant>,
}

/// What RetireGrant is asked: a token, or both others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetireGrantInput {
    /// As CreateGrant gave it.
    pub token: Option<String>,
    /// The key's ARN.
    pub key_arn: Option<String>,
    /// The grant's id.
    pub grant_id: Option<String>,
    /// Whether only to tell if it would be done.
    pub dry_run: bool,
}

/// What RevokeGrant is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokeGrantInput {
    /// The key's id or ARN.
    pub key_id: String,
    /// The grant's id.
    pub grant_id: String,
    /// Whether only to tell if it would be done.
    pub dry_run: bool,
}

/// What a request's grant tokens are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tokens {
    /// Each is one of a grant that there is. So are none.
    Known,
    /// One is made up, or its grant is gone.
    Unknown,
}

impl Tokens {
    pub(crate) fn check(self) -> Result<(), ServiceError> {
        match self {
            Self::Known => Ok(()),
            Self::Unknown => Err(ServiceError::InvalidGrantToken),
        }
    }

    /// Looks tokens up. They may be of any key of the Region: some operations use two keys.
    fn judge(key: &TokenKey, state: &State, tokens: &[String]) -> Self {
        let known = |token: &String| {
            let (of, id) = open_token(key, token)?;
            state.grant(of, id)
        };
        match tokens.iter().all(|token| known(token).is_some()) {
            true => Self::Known,
            false => Self::Unknown,
        }
    }
}

impl Service {
    /// Allows somebody the use of a key.
    pub async fn create_grant(
        &self,
        ctx: &RequestContext,
        input: CreateGrantInput,
    ) -> Result<CreateGrantOutput, ServiceError> {
        let key = self.key_only(ctx, &input.key_id, Accounts::Any)?;
        let state = self.newest().await?;
        let dry_run = input.dry_run;
        let tokens = Tokens::judge(self.token_key(), &state, &input.grant_tokens);
        let terms = match terms(self.region(), input) {
            Ok(terms) => terms,
            Err(error) => {
                permit_key(&state, &ctx.caller, key, "CreateGrant", &NoFacts)?;
                tokens.check()?;
                return Err(error);
            }
        };
        let mut random = [0; 32];
        self.inner.world.entropy.fill(&mut random);
        let command = Command::CreateGrant {
            key,
            grant: GrantId(random),
            terms: terms.clone(),
        };
        permit_key(&state, &ctx.caller, key, "CreateGrant", &command)?;
        tokens.check()?;
        if dry_run {
            return Err(self.dry_run(ctx, &state, &command));
        }
        for _ in 0..CREATES_MAX {
            let events = self.propose(ctx, command.clone()).await?;
            let made = events.into_iter().find_map(|event| match event {
                Event::GrantCreated { grant } => Some(grant.id),
                _ => None,
            });
            // Without an event there is one of this name already, unless it just went.
            let id = match made {
                Some(id) => Some(id),
                None => {
                    let state = self.newest().await?;
                    let same = state.same_grant(key, ctx.caller.account, &terms);
                    same.map(|grant| grant.id)
                }
            };
            if let Some(id) = id {
                let token = new_token(self.token_key(), &*self.inner.world.entropy, key, id);
                return Ok(CreateGrantOutput { token, id });
            }
        }
        Err(ServiceError::Internal)
    }

    /// A key's grants.
    pub async fn list_grants(
        &self,
        ctx: &RequestContext,
        input: ListGrantsInput,
    ) -> Result<Page<GrantEntry>, ServiceError> {
        let limit = LIST_GRANTS.check(&input.page)?;
        let key = self.key_only(ctx, &input.key_id, Accounts::Any)?;
        let state = self.read(ctx).await?;
        permit_key(&state, &ctx.caller, key, "ListGrants", &NoFacts)?;
        list_grants(
            &state,
            self.token_key(),
            ctx.caller.account,
            key,
            &input,
            limit,
        )
    }

    /// The grants that a principal of the caller's account may retire, also on other accounts' keys.
    pub async fn list_retirable_grants(
        &self,
        ctx: &RequestContext,
        input: ListRetirableGrantsInput,
    ) -> Result<Page<GrantEntry>, ServiceError> {
        let limit = LIST_GRANTS.check(&input.page)?;
        let account = ctx.caller.account;
        let (principal, owner) = match (input.retiring, input.retiring_service) {
            (Some(arn), None) => {
                let owner = principal_account(&arn, |id| {
                    ServiceError::RetiringPrincipalNotFound { id: id.to_owned() }
                })?;
                (GrantPrincipal::Aws(arn), owner)
            }
            (None, Some(name)) => (service_principal(self.region(), &name), account),
            _ => {
                return Err(ServiceError::GrantParameters {
                    why: "Specify either RetiringPrincipal or RetiringServicePrincipal.",
                });
            }
        };
        let action = "ListRetirableGrants";
        let state = self.read(ctx).await?;
        if owner != account {
            return Err(not_visible(&state, &ctx.caller, owner, action, &NoFacts).into());
        }
        let of = match &principal {
            GrantPrincipal::Aws(arn) => arn,
            GrantPrincipal::Service(_) => "*",
        };
        let _permit = permit_account(&state, &ctx.caller, action, of, &NoFacts)?;
        let markers = Markers {
            key: self.token_key(),
            operation: "ListRetirableGrants",
            account,
            filter: format!("{principal:?}"),
        };
        let after = markers.position(&input.page)?;
        let after = after.map(|name| parse_name(&name).ok_or(ServiceError::InvalidMarker));
        let grants = state.grants_retirable_by(&principal, after.transpose()?);
        // A service is everybody's; of its grants an account is shown those that it issued.
        let shown = grants.filter(|grant| match principal {
            GrantPrincipal::Aws(_) => true,
            GrantPrincipal::Service(_) => grant.issuer == account,
        });
        let page = markers.page(shown, limit, |grant| name_bytes(grant.key, grant.id));
        Ok(page.map(|grant| entry(state.region(), grant)))
    }

    /// Ends a grant that says so itself.
    pub async fn retire_grant(
        &self,
        ctx: &RequestContext,
        input: RetireGrantInput,
    ) -> Result<(), ServiceError> {
        let by_token = input.token.is_some();
        let (key, grant) = match (&input.token, &input.key_arn, &input.grant_id) {
            (Some(token), None, None) => {
                open_token(self.token_key(), token).ok_or(ServiceError::InvalidGrantToken)?
            }
            (None, Some(text), Some(id)) => {
                if !text.starts_with("arn:") && !text.starts_with("alias/") {
                    return Err(ServiceError::KeyArnRequired { text: text.clone() });
                }
                let key = self.key_only(ctx, text, Accounts::Any)?;
                (key, grant_id(id)?)
            }
            _ => {
                return Err(ServiceError::GrantParameters {
                    why: "Specify either GrantToken, or KeyId and GrantId.",
                });
            }
        };
        let command = Command::RetireGrant { key, grant };
        self.end_grant(ctx, command, input.dry_run)
            .await
            .map_err(|error| match error {
                ServiceError::Refused(Refusal::NoSuchGrant { .. } | Refusal::NoSuchKey { .. })
                    if by_token =>
                {
                    ServiceError::InvalidGrantToken
                }
                error => error,
            })
    }

    /// Ends a grant on a key that the caller may do that to.
    pub async fn revoke_grant(
        &self,
        ctx: &RequestContext,
        input: RevokeGrantInput,
    ) -> Result<(), ServiceError> {
        let key = self.key_only(ctx, &input.key_id, Accounts::Any)?;
        let grant = grant_id(&input.grant_id)?;
        let command = Command::RevokeGrant { key, grant };
        self.end_grant(ctx, command, input.dry_run).await
    }

    async fn end_grant(
        &self,
        ctx: &RequestContext,
        command: Command,
        dry_run: bool,
    ) -> Result<(), ServiceError> {
        if dry_run {
            let state = self.newest().await?;
            return Err(self.dry_run(ctx, &state, &command));
        }
        self.propose(ctx, command).await.map(drop)
    }

    /// What becomes of a command that is a dry run.
    fn dry_run(&self, ctx: &RequestContext, state: &State, command: &Command) -> ServiceError {
        let now = self.inner.world.clock.now();
        match decide(state, Some(&ctx.caller), now, command) {
            Ok(_) => ServiceError::DryRun,
            Err(refusal) => refusal.into(),
        }
    }

    /// What grant tokens of a request are worth. Always asks the newest state: the tokens are there to
    /// tell of grants that this node may not know yet.
    pub(crate) async fn judge_tokens(&self, tokens: &[String]) -> Result<Tokens, ServiceError> {
        if tokens.is_empty() {
            return Ok(Tokens::Known);
        }
        let state = self.newest().await?;
        Ok(Tokens::judge(self.token_key(), &state, tokens))
    }

    async fn newest(&self) -> Result<Arc<State>, ServiceError> {
        Ok(self.inner.group.read(ReadMode::Linearizable).await?)
    }
}

fn list_grants(
    state: &State,
    tokens: &TokenKey,
    account: AccountId,
    key: KeyRef,
    input: &ListGrantsInput,
    limit: usize,
) -> Result<Page<GrantEntry>, ServiceError> {
    let id = input.grant_id.as_deref().map(grant_id).transpose()?;
    let grantee = match &input.grantee {
        None => None,
        Some(arn) => {
            principal_account(arn, |_| ServiceError::PrincipalIdUnknown {
                member: "Input",
            })?;
            Some(GrantPrincipal::Aws(arn.clone()))
        }
    };
    let service = input.grantee_service.as_deref();
    let service = service.map(|name| service_principal(state.region(), name));
    let markers = Markers {
        key: tokens,
        operation: "ListGrants",
        account,
        filter: format!("{}/{}/{id:?}/{grantee:?}/{service:?}", key.account, key.id),
    };
    let after = markers.position(&input.page)?;
    let after = after.map(|bytes| bytes.try_into().map(GrantId));
    let after = after.transpose().map_err(|_| ServiceError::InvalidMarker)?;
    // A list of one needs no search.
    let grants: Box<dyn Iterator<Item = &Arc<Grant>>> = match id {
        Some(id) => Box::new(state.grant(key, id).into_iter()),
        None => Box::new(state.grants_on(key, after)),
    };
    let wanted = |grant: &&Arc<Grant>| {
        let of = &grant.terms.grantee;
        [&grantee, &service]
            .into_iter()
            .flatten()
            .all(|wanted| wanted == of)
    };
    let page = markers.page(grants.filter(wanted), limit, |grant| grant.id.0.to_vec());
    Ok(page.map(|grant| entry(state.region(), grant)))
}

fn entry(region: &Region, grant: &Arc<Grant>) -> GrantEntry {
    let (partition, issuer) = (region.partition(), grant.issuer);
    GrantEntry {
        key_arn: key_arn(region, grant.key.account, grant.key.id),
        issuer_arn: format!("arn:{partition}:iam::{issuer}:root"),
        grant: Arc::clone(grant),
    }
}

fn grant_id(text: &str) -> Result<GrantId, ServiceError> {
    GrantId::from_hex(text).ok_or(ServiceError::InvalidGrantId)
}

/// Checks a request's terms as far as they do not depend on the key.
///
/// Deviation: the real service's texts for parameters that do not go together are not published, nor is
/// what it answers to a constraint that is too long.
fn terms(region: &Region, input: CreateGrantInput) -> Result<GrantTerms, ServiceError> {
    let wrong = |why| Err(ServiceError::GrantParameters { why });
    let grantee = principal(
        region,
        (input.grantee, "GranteePrincipal"),
        input.grantee_service,
        "Specify either GranteePrincipal or GranteeServicePrincipal.",
    )?;
    let Some(grantee) = grantee else {
        return wrong("Specify either GranteePrincipal or GranteeServicePrincipal.");
    };
    let retiring = principal(
        region,
        (input.retiring, "RetiringPrincipal"),
        input.retiring_service,
        "Specify either RetiringPrincipal or RetiringServicePrincipal.",
    )?;
    let constraints = input.constraints;
    if matches!(grantee, GrantPrincipal::Service(_)) {
        if retiring.is_none() {
            return wrong("A grant to a service principal must have a retiring principal.");
        }
        if constraints.source_arn.is_none() {
            return wrong("A grant to a service principal must have a SourceArn constraint.");
        }
    }
    for context in [&constraints.context_equals, &constraints.context_subset] {
        if !context.as_ref().is_none_or(fits) {
            return wrong(
                "An encryption context constraint must have at most 8 pairs, of keys and values of \
                 at most 384 characters.",
            );
        }
    }
    let mut operations = Vec::new();
    for operation in input.operations {
        if !operations.contains(&operation) {
            operations.push(operation);
        }
    }
    if operations.is_empty() {
        return wrong("Operations must not be empty.");
    }
    Ok(GrantTerms {
        name: input.name,
        grantee,
        retiring,
        operations,
        constraints,
    })
}

fn fits(context: &BTreeMap<String, String>) -> bool {
    let short = |text: &String| text.chars().count() <= CONTEXT_CHARS_MAX;
    let mut pairs = context.iter();
    context.len() <= CONTEXT_PAIRS_MAX && pairs.all(|(name, value)| short(name) && short(value))
}

/// The principal that one of two members names, if any does.
fn principal(
    region: &Region,
    (arn, member): (Option<String>, &'static str),
    service: Option<String>,
    not_both: &'static str,
) -> Result<Option<GrantPrincipal>, ServiceError> {
    match (arn, service) {
        (None, None) => Ok(None),
        (None, Some(name)) => Ok(Some(service_principal(region, &name))),
        (Some(arn), None) => {
            principal_account(&arn, |_| ServiceError::PrincipalIdUnknown { member })?;
            Ok(Some(GrantPrincipal::Aws(arn)))
        }
        (Some(_), Some(_)) => Err(ServiceError::GrantParameters { why: not_both }),
    }
}

/// The account of a principal whose ARN is well-formed. What does not even begin like one would be a
/// unique id.
///
/// Deviation: unique ids are refused; the real service takes those of users and roles that exist.
fn principal_account(
    arn: &str,
    no_arn: impl FnOnce(&str) -> ServiceError,
) -> Result<AccountId, ServiceError> {
    if !arn.starts_with("arn:") {
        return Err(no_arn(arn));
    }
    let arn_of = || arn.to_owned();
    check_grant_principal(arn).map_err(|error| match error {
        NotAPrincipal::MalformedArn => ServiceError::PrincipalMalformed { arn: arn_of() },
        NotAPrincipal::Invalid => ServiceError::PrincipalUnknown { arn: arn_of() },
    })
}

/// A service as lists show it: of the Region.
fn service_principal(region: &Region, name: &str) -> GrantPrincipal {
    GrantPrincipal::Service(match name.split_once('.') {
        Some((service, domain @ ("amazonaws.com" | "amazonaws.com.cn"))) => {
            format!("{service}.{region}.{domain}")
        }
        _ => name.to_owned(),
    })
}

/// A grant's whole name: the account (12 digits), the key's id (17), the grant's (32).
fn name_bytes(key: KeyRef, id: GrantId) -> Vec<u8> {
    let account = key.account.to_string();
    [account.as_bytes(), &key.id.to_bytes(), &id.0].concat()
}

fn parse_name(bytes: &[u8]) -> Option<(KeyRef, GrantId)> {
    let (account, rest) = bytes.split_first_chunk::<12>()?;
    let (id, grant) = rest.split_first_chunk::<17>()?;
    let key = KeyRef {
        account: std::str::from_utf8(account).ok()?.parse().ok()?,
        id: KeyId::from_bytes(*id)?,
    };
    Some((key, GrantId(grant.try_into().ok()?)))
}

/// What every grant token is issued for.
const TOKEN_PURPOSE: &[&[u8]] = &[b"grant"];

/// Makes two tokens of one grant differ, as the real service's do.
const TOKEN_SALT_BYTES: usize = 16;

fn new_token(tokens: &TokenKey, entropy: &dyn Entropy, key: KeyRef, id: GrantId) -> String {
    let mut salt = [0; TOKEN_SALT_BYTES];
    entropy.fill(&mut salt);
    tokens.issue(TOKEN_PURPOSE, &[&salt[..], &name_bytes(key, id)].concat())
}

fn open_token(tokens: &TokenKey, token: &str) -> Option<(KeyRef, GrantId)> {
    let payload = tokens.open(TOKEN_PURPOSE, token)?;
    parse_name(payload.get(TOKEN_SALT_BYTES..)?)
}
