//! The operations of the API on one node of a Region: typed requests in, typed answers out.
//!
//! A mutation becomes a command, with everything from outside filled in (ids, sealed material),
//! and is proposed; the log decides. A cryptographic call reads a consistent state, checks, and
//! uses `crypto`. This crate knows neither HTTP nor the wire's names, and has no state of its own
//! but what it keeps in memory: unsealed material and secrets of identities, key pairs that came too
//! late for their caller, and the uses of keys that are not committed yet.

mod algorithm;
mod alias;
mod clock;
mod courier;
mod crypto_ops;
mod custom_tags;
mod domain_key;
mod error;
mod generation;
mod grant;
mod hold;
mod identities;
mod identity;
mod import;
mod last_use;
mod lifecycle;
mod managed;
mod materials;
mod metadata;
mod neighbours;
mod page;
mod policy;
mod quota;
mod recipient;
mod replica_key;
mod resolve;
mod rotation;
mod seed;
mod sts;
mod tag;
#[cfg(test)]
mod testing;
mod trace;

use std::sync::Arc;
use std::time::Duration;

use keyrum_consensus::world::World;
use keyrum_consensus::{Group, ReadMode};
use keyrum_crypto::{DomainKeyring, DomainKeys, MemoryDomainKeys, SessionTokenKey, TokenKey};
use keyrum_state::{
    AUTHORIZATION_LEVEL, Caller, CallerDetails, Command, Event, Key, KeyRef, Refusal, State,
    decide, permit_key,
};
use keyrum_types::planted::{self, Bug};
use keyrum_types::{LogIndex, Region};

pub use algorithm::{Algorithms, DataKeySpec};
pub use alias::{AliasEntry, AliasTarget, AliasTargetInput, DeleteAliasInput, ListAliasesInput};
pub use clock::{CLOCK_MAX, ClockAdvanced};
pub use crypto_ops::{
    DecapsulateInput, DecryptInput, DecryptOutput, DeriveSharedSecretInput,
    DeriveSharedSecretOutput, ENCRYPTION_CONTEXT_BYTES_MAX, EncapsulateInput, EncapsulateOutput,
    EncryptInput, EncryptOutput, GenerateDataKeyInput, GenerateDataKeyOutput,
    GenerateDataKeyPairInput, GenerateDataKeyPairOutput, GenerateMacInput, GenerateRandomInput,
    GetPublicKeyInput, GetPublicKeyOutput, MacOutput, ReEncryptInput, ReEncryptOutput,
    SharedSecretOutput, SignInput, SignOutput, VerifyInput, VerifyMacInput, VerifyOutput,
};
pub use domain_key::{DomainKeyError, DomainKeyStatus, DomainKeyVersionStatus};
pub use error::ServiceError;
pub use grant::{
    CreateGrantInput, CreateGrantOutput, GrantEntry, ListGrantsInput, ListRetirableGrantsInput,
    RetireGrantInput, RevokeGrantInput,
};
pub use identities::{
    AccountPlan, CredentialError, Credentials, IdentityError, IdentityReport, KeyPlan,
    NewAccessKey, RolePlan, Secret, Spread, UserPlan,
};
pub use identity::GetCallerIdentityOutput;
pub use import::{
    DeleteImportedKeyMaterialInput, GetParametersForImportInput, GetParametersForImportOutput,
    ImportKeyMaterialInput, ImportedKeyMaterialOutput,
};
pub use keyrum_crypto::{AttestationRoots, EncryptionContext};
pub use keyrum_state::POLICY_NAME;
pub use last_use::GetKeyLastUsageOutput;
pub use lifecycle::{
    CancelKeyDeletionOutput, CreateKeyInput, DescribeKeyInput, KeyEntry, KeyInput, ListKeysInput,
    ResourceOwner, ScheduleKeyDeletionInput, ScheduleKeyDeletionOutput, UpdateKeyDescriptionInput,
};
pub use metadata::{Expiration, KeyMetadata, MultiRegionConfiguration, RelatedKey};
pub use neighbours::{Addresses, Found, LookUp, Neighbourhood};
pub use page::{Page, PageRequest};
pub use policy::{GetKeyPolicyInput, GetKeyPolicyOutput, ListKeyPoliciesInput, PutKeyPolicyInput};
pub use quota::RequestQuotas;
pub use recipient::{RecipientInput, SecretOutput};
pub use replica_key::{ReplicateKeyInput, ReplicateKeyOutput, UpdatePrimaryRegionInput};
pub use rotation::{
    EnableKeyRotationInput, GetKeyRotationStatusOutput, ImportEntry, IncludeKeyMaterial,
    KeyMaterialState, ListKeyRotationsInput, RotateKeyOnDemandOutput, RotationEntry,
};
pub use seed::{KeySeed, RotationSeed, SeedError};
pub use sts::{AssumeRoleInput, AssumeRoleOutput, StsError, TemporaryCredentials};
pub use tag::{ListResourceTagsInput, TagResourceInput, UntagResourceInput};
pub use trace::{Trace, Traced};

use courier::{Couriers, Desk};
use generation::Late;
use hold::Hold;
use identities::{LookUps, Opened, OpenedAccessKey};
use last_use::Uses;
use materials::{MATERIALS_BYTES_MAX, MATERIALS_MAX, Materials};
use resolve::{Accounts, Asked};

/// What an operator chooses for a node's service.
#[derive(Clone, Default)]
pub struct Settings {
    /// Whether the Region's clock may be moved ahead: test clusters only.
    pub test_clock: bool,
    /// How long every Creating and Updating is kept at least; 0 to 5 minutes.
    pub hold_transient: Duration,
    /// Where the certificates of attested callers must lead.
    pub attestation_roots: Arc<AttestationRoots>,
    /// Whether tags of CreateKey choose the key's id and material, as with LocalStack: test clusters
    /// only.
    pub custom_tags: bool,
    /// The Region whose log changes identities, unless it is known already; this node's own if
    /// absent.
    pub identity_home: Option<Region>,
    /// How many calls in a second an account may make; any number if `None`.
    pub request_quotas: Option<Arc<RequestQuotas>>,
    /// Where versions of the domain key are kept; in memory if `None`.
    pub domain_keys: Option<Arc<dyn DomainKeys>>,
}

/// Who asks, and how fresh an answer must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestContext {
    /// On whose behalf.
    pub caller: Caller,
    /// How reads are made.
    pub mode: ReadMode,
    /// The request's id, a UUID's bytes: a key's last use names it.
    pub request: [u8; 16],
    /// What is noted for the call's record.
    pub trace: Trace,
}

/// The operations. A handle: clones share everything.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    group: Group,
    keyring: DomainKeyring,
    keys: Arc<dyn DomainKeys>,
    token_key: TokenKey,
    world: World,
    settings: Settings,
    materials: Materials,
    couriers: Couriers,
    uses: Uses,
    hold: Hold,
    /// Held while what is due is carried out.
    carrying_out: tokio::sync::Mutex<()>,
    late: Late,
    look_ups: LookUps,
    access_keys: Opened<OpenedAccessKey>,
    session_keys: Opened<SessionTokenKey>,
}

impl Service {
    /// The service of one node of a cluster's only Region, which holds the Region's domain key.
    pub fn new(group: Group, keyring: DomainKeyring, world: World, settings: Settings) -> Self {
        Self::make(group, keyring, None, world, settings)
    }

    /// The same in a cluster of several Regions, between which material crosses.
    pub fn among_regions(
        group: Group,
        keyring: DomainKeyring,
        neighbourhood: Neighbourhood,
        world: World,
        settings: Settings,
    ) -> Self {
        Self::make(group, keyring, Some(neighbourhood), world, settings)
    }

    fn make(
        group: Group,
        keyring: DomainKeyring,
        neighbourhood: Option<Neighbourhood>,
        world: World,
        settings: Settings,
    ) -> Self {
        let keys = settings.domain_keys.clone();
        let inner = Arc::new(Inner {
            keys: keys.unwrap_or_else(|| Arc::new(MemoryDomainKeys::of(&keyring))),
            token_key: keyring.token_key(),
            group,
            keyring,
            world,
            hold: Hold::new(settings.hold_transient),
            settings,
            materials: Materials::new(MATERIALS_MAX, MATERIALS_BYTES_MAX),
            couriers: Couriers::new(neighbourhood),
            uses: Uses::default(),
            carrying_out: tokio::sync::Mutex::default(),
            late: Late::default(),
            look_ups: LookUps::default(),
            access_keys: Opened::default(),
            session_keys: Opened::default(),
        });
        let desk = Desk(Arc::downgrade(&inner));
        inner.group.receive_with(Arc::new(desk));
        Self { inner }
    }

    /// The Region this node belongs to.
    pub fn region(&self) -> &Region {
        self.inner.group.region()
    }

    /// The Region's group, for administration.
    pub fn group(&self) -> &Group {
        &self.inner.group
    }

    fn token_key(&self) -> &TokenKey {
        &self.inner.token_key
    }

    async fn read(&self, ctx: &RequestContext) -> Result<Arc<State>, ServiceError> {
        Ok(self.inner.group.read(ctx.mode).await?)
    }

    /// The same for a request that brings grant tokens: they are there to tell of grants that this node
    /// may not know yet.
    async fn read_with(
        &self,
        ctx: &RequestContext,
        grant_tokens: &[String],
    ) -> Result<Arc<State>, ServiceError> {
        let mode = match grant_tokens.is_empty() {
            true => ctx.mode,
            false => ReadMode::Linearizable,
        };
        Ok(self.inner.group.read(mode).await?)
    }

    /// Proposes a caller's command and gives what it did.
    async fn propose(
        &self,
        ctx: &RequestContext,
        command: Command,
    ) -> Result<Vec<Event>, ServiceError> {
        let caller = self.caller_for_log(ctx);
        if planted::is(Bug::AuthorizeBeforeDecide) {
            self.authorized_here(&caller, &command)?;
        }
        let detailed = caller.details.audit.is_some();
        let (index, events) = self.propose_for(Some(caller), command).await?;
        if detailed && !events.is_empty() {
            ctx.trace.logged(index);
        }
        Ok(events)
    }

    /// Refuses a caller who may not give a command by what this node shows: a planted bug takes that
    /// for enough.
    fn authorized_here(&self, caller: &Caller, command: &Command) -> Result<(), ServiceError> {
        let (state, now) = (self.inner.group.state(), self.inner.world.clock.now());
        match planted::without(|| decide(&state, Some(caller), now, command)) {
            Err(refusal @ Refusal::NotAuthorized(_)) => Err(ServiceError::Refused(refusal)),
            _ => Ok(()),
        }
    }

    /// The caller as the log may tell of it.
    fn caller_for_log(&self, ctx: &RequestContext) -> Caller {
        let mut caller = ctx.caller.clone();
        if self.inner.group.state().feature_level() < AUTHORIZATION_LEVEL {
            // There may be members whose program could not read them.
            caller.details = CallerDetails::default();
        }
        caller
    }

    /// Proposes a command that the Region gives itself.
    async fn propose_as_region(&self, command: Command) -> Result<Vec<Event>, ServiceError> {
        Ok(self.propose_for(None, command).await?.1)
    }

    async fn propose_for(
        &self,
        caller: Option<Caller>,
        command: Command,
    ) -> Result<(LogIndex, Vec<Event>), ServiceError> {
        let group = &self.inner.group;
        let now = self.inner.world.clock.now();
        // While the domain key is rotated, what was sealed a moment ago may be refused.
        let rotated = group.state().domain_key_versions().next().is_some();
        let again = rotated && command.sealings().next().is_some();
        let again = again.then(|| (caller.clone(), command.clone()));
        let mut done = group.propose(caller, now, command).await?;
        if let (Err(Refusal::SealingRetired { seals, .. }), Some((caller, mut command))) =
            (&done.outcome, again)
        {
            let account = caller.as_ref().map(|caller| caller.account);
            if self.reseal_command(&mut command, account, *seals).await {
                done = group.propose(caller, now, command).await?;
            }
        }
        match done.outcome {
            Ok(events) => Ok((done.index, events)),
            Err(Refusal::OutcomeUnknown) => Err(ServiceError::OutcomeUnknown),
            Err(refusal) => Err(ServiceError::Refused(refusal)),
        }
    }

    fn key_only(
        &self,
        ctx: &RequestContext,
        text: &str,
        accounts: Accounts,
    ) -> Result<KeyRef, ServiceError> {
        resolve::key_only(self.region(), ctx.caller.account, text, accounts)
    }

    /// Reads one key that is named by id or ARN.
    async fn with_key<T>(
        &self,
        ctx: &RequestContext,
        accounts: Accounts,
        asked: Asked<'_>,
        use_key: impl FnOnce(&Key) -> Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        let key = self.key_only(ctx, asked.text, accounts)?;
        let state = self.read(ctx).await?;
        use_key(permit_key(&state, &ctx.caller, key, asked.action, &asked)?.key())
    }
}
