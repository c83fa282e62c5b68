//! Operations that make keys, show them, and take them through their states.

use keyrum_consensus::ReadMode;
use keyrum_state::{
    Caller, Command, Event, KeyRef, NoFacts, Refusal, State, decide, permit_account, permit_key,
};
use keyrum_types::{
    KeyFamily, KeyId, KeySpec, KeyState, KeyUsage, Origin, Region, UnixMillis, WaitingDays, key_arn,
};

use crate::custom_tags::{self, Custom};
use crate::error::spec_in_region;
use crate::grant::Tokens;
use crate::metadata::KeyMetadata;
use crate::page::{LIST_KEYS, Markers, Page, PageRequest};
use crate::resolve::{Accounts, Asked};
use crate::{RequestContext, Service, ServiceError, managed};

/// How often CreateKey draws another id when the one drawn is taken. An id has at least 122
/// random bits, so even once does not happen by chance.
pub(crate) const KEY_ID_DRAWS_MAX: u32 = 3;

/// What CreateKey is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateKeyInput {
    /// The policy's text; the default policy if absent.
    pub policy: Option<String>,
    /// Empty if absent.
    pub description: Option<String>,
    /// May be absent for SYMMETRIC_DEFAULT only.
    pub usage: Option<KeyUsage>,
    /// SYMMETRIC_DEFAULT if absent.
    pub spec: Option<KeySpec>,
    /// The same parameter by its deprecated name; not both.
    pub deprecated_spec: Option<KeySpec>,
    /// AWS_KMS if absent.
    pub origin: Option<Origin>,
    /// For keys of a custom key store.
    pub custom_key_store_id: Option<String>,
    /// For keys of an external key store.
    pub xks_key_id: Option<String>,
    /// Whether the caller takes the risk of locking everybody out.
    pub bypass_lockout_check: bool,
    /// Names and values, in the order sent.
    pub tags: Vec<(String, String)>,
    /// Whether the key may have replicas in other Regions.
    pub multi_region: bool,
}

/// What operations on one key are asked that take nothing else: EnableKey, DisableKey,
/// CancelKeyDeletion, DescribeKey, DisableKeyRotation, RotateKeyOnDemand and
/// GetKeyRotationStatus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInput {
    /// The key's id or ARN; for DescribeKey also an alias.
    pub key_id: String,
}

/// What DescribeKey is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeKeyInput {
    /// The key's id or ARN, or an alias's name or ARN.
    pub key_id: String,
    /// Grants to be known already.
    pub grant_tokens: Vec<String>,
}

/// What ListKeys is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListKeysInput {
    /// Whose keys; the caller's own if empty.
    pub owners: Vec<ResourceOwner>,
    /// Which part of the list.
    pub page: PageRequest,
}

/// Whose keys ListKeys gives. Source: AWS KMS API Reference, `ResourceOwners`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceOwner {
    /// The caller's account.
    Own,
    /// Other accounts that share theirs; nobody does here.
    OtherAccountsViaRam,
}

/// One key of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEntry {
    /// The key's id.
    pub key_id: KeyId,
    /// Its ARN.
    pub key_arn: String,
}

/// What ScheduleKeyDeletion is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleKeyDeletionInput {
    /// The key's id or ARN.
    pub key_id: String,
    /// Unit: days, 7 to 30; 30 if absent.
    pub wait_days: Option<i64>,
}

/// What ScheduleKeyDeletion answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleKeyDeletionOutput {
    /// Which key.
    pub key_arn: String,
    /// When it will be deleted, by the Region's clock; absent while it waits for its replicas.
    pub deletion_date: Option<UnixMillis>,
    /// The state it is in now.
    pub state: KeyState,
    /// How long it waits.
    pub wait_days: u8,
}

/// What CancelKeyDeletion answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelKeyDeletionOutput {
    /// Which key.
    pub key_arn: String,
}

/// What UpdateKeyDescription is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateKeyDescriptionInput {
    /// The key's id or ARN.
    pub key_id: String,
    /// At most 8192 characters.
    pub description: String,
}

impl Service {
    /// Makes a key, with new material unless callers shall import it.
    pub async fn create_key(
        &self,
        ctx: &RequestContext,
        mut input: CreateKeyInput,
    ) -> Result<KeyMetadata, ServiceError> {
        let kind = kind_of_new_key(&input, self.region())?;
        let account = ctx.caller.account;
        let mut custom = Custom::default();
        if self.inner.settings.custom_tags {
            let (tags, partition) = (&mut input.tags, self.region().partition());
            custom =
                custom_tags::take(tags, input.multi_region, kind.spec, kind.origin, partition)?;
        }
        let command = |key, material| Command::CreateKey {
            key,
            spec: kind.spec,
            usage: kind.usage,
            origin: kind.origin,
            description: input.description.clone().unwrap_or_default(),
            policy: input.policy.clone(),
            bypass_lockout_check: input.bypass_lockout_check,
            tags: input.tags.clone(),
            material,
        };
        let entropy = &*self.inner.world.entropy;
        let draw = || {
            let mut random = [0; 16];
            entropy.fill(&mut random);
            let key = match (custom.id, input.multi_region) {
                (Some(chosen), _) => chosen,
                (None, true) => KeyId::multi_region(random),
                (None, false) => KeyId::single_region(random),
            };
            KeyRef { account, id: key }
        };
        let secret = match (custom.material, kind.origin) {
            (Some(given), _) => Some(given),
            (None, Origin::External) => None,
            (None, Origin::AwsKms | Origin::AwsCloudhsm | Origin::ExternalKeyStore) => {
                if kind.spec.family() == KeyFamily::Rsa {
                    // Nobody should wait for primes to be told no. Other material stands in for them.
                    let name = draw();
                    let stand_in = self.new_symmetric_material(name);
                    self.refuse_early(ctx, &command(name.id, Some(stand_in)))
                        .await?;
                }
                Some(self.generate(kind.spec).await?)
            }
        };
        let mut draws = 0;
        loop {
            let name = draw();
            let key = name.id;
            let material = secret.as_ref();
            let material = material.map(|secret| self.seal_material(name, secret));
            let command = command(key, material);
            draws += 1;
            match self.propose(ctx, command).await {
                Err(ServiceError::Refused(Refusal::KeyExists { .. })) if custom.id.is_some() => {
                    let arn = key_arn(self.region(), account, key);
                    return Err(ServiceError::CustomIdTaken { arn });
                }
                Err(ServiceError::Refused(Refusal::KeyExists { .. }))
                    if draws < KEY_ID_DRAWS_MAX => {}
                Err(error) => return Err(error),
                Ok(events) => {
                    let created = events.iter().find_map(|event| match event {
                        Event::KeyCreated { key } => Some(KeyMetadata::of(key, self.region())),
                        _ => None,
                    });
                    return created.ok_or_else(|| missing_event("CreateKey"));
                }
            }
        }
    }

    /// Refuses what the log would refuse as it stands. What depends on the draw of an id, or on who
    /// seals, is left to the log.
    async fn refuse_early(
        &self,
        ctx: &RequestContext,
        command: &Command,
    ) -> Result<(), ServiceError> {
        let (group, caller) = (&self.inner.group, self.caller_for_log(ctx));
        let now = self.inner.world.clock.now();
        if decide(&group.state(), Some(&caller), now, command).is_ok() {
            return Ok(());
        }
        // This node may be behind.
        let state = group.read(ReadMode::Linearizable).await?;
        match decide(&state, Some(&caller), now, command) {
            Ok(_) | Err(Refusal::KeyExists { .. } | Refusal::SealingRetired { .. }) => Ok(()),
            Err(refusal) => Err(ServiceError::Refused(refusal)),
        }
    }

    /// What there is to know about a key. One that AWS manages is made when it is first asked for by
    /// its alias.
    pub async fn describe_key(
        &self,
        ctx: &RequestContext,
        input: DescribeKeyInput,
    ) -> Result<KeyMetadata, ServiceError> {
        let tokens = self.judge_tokens(&input.grant_tokens).await?;
        let state = self.read_with(ctx, &input.grant_tokens).await?;
        let described = describe_key(&state, &ctx.caller, &input.key_id, tokens);
        let Err(ServiceError::AliasNotFound { .. }) = described else {
            return described;
        };
        match managed::predefined(self.region(), ctx.caller.account, &input.key_id) {
            None => described,
            Some(alias) => {
                drop(state);
                let state = self.create_managed_key(ctx, alias).await?;
                describe_key(&state, &ctx.caller, &input.key_id, tokens)
            }
        }
    }

    /// The keys of the caller's account.
    pub async fn list_keys(
        &self,
        ctx: &RequestContext,
        input: ListKeysInput,
    ) -> Result<Page<KeyEntry>, ServiceError> {
        let limit = LIST_KEYS.check(&input.page)?;
        let state = self.read(ctx).await?;
        let markers = Markers {
            key: self.token_key(),
            operation: "ListKeys",
            account: ctx.caller.account,
            filter: format!("{:?}", input.owners),
        };
        list_keys(&state, &ctx.caller, &input, limit, markers)
    }

    /// Lets a key be used.
    pub async fn enable_key(
        &self,
        ctx: &RequestContext,
        input: KeyInput,
    ) -> Result<(), ServiceError> {
        let key = self.key_only(ctx, &input.key_id, Accounts::Own)?;
        self.propose(ctx, Command::EnableKey { key })
            .await
            .map(drop)
    }

    /// Stops a key from being used.
    pub async fn disable_key(
        &self,
        ctx: &RequestContext,
        input: KeyInput,
    ) -> Result<(), ServiceError> {
        let key = self.key_only(ctx, &input.key_id, Accounts::Own)?;
        self.propose(ctx, Command::DisableKey { key }).await?;
        self.inner.materials.forget(key);
        Ok(())
    }

    /// Starts the wait after which a key is deleted.
    pub async fn schedule_key_deletion(
        &self,
        ctx: &RequestContext,
        input: ScheduleKeyDeletionInput,
    ) -> Result<ScheduleKeyDeletionOutput, ServiceError> {
        let key = self.key_only(ctx, &input.key_id, Accounts::Own)?;
        let wait = match input.wait_days.map(WaitingDays::new) {
            None => WaitingDays::DEFAULT,
            Some(Ok(wait)) => wait,
            Some(Err(_)) => {
                let state = self.read(ctx).await?;
                permit_key(&state, &ctx.caller, key, "ScheduleKeyDeletion", &NoFacts)?;
                return Err(ServiceError::WaitingDaysOutOfRange);
            }
        };
        let events = self
            .propose(ctx, Command::ScheduleKeyDeletion { key, wait })
            .await?;
        self.inner.materials.forget(key);
        let scheduled = events.iter().find_map(|event| match event {
            Event::KeyDeletionScheduled {
                key,
                due,
                wait_days,
            } => Some(ScheduleKeyDeletionOutput {
                key_arn: key_arn(self.region(), key.account, key.id),
                deletion_date: Some(*due),
                state: KeyState::PendingDeletion,
                wait_days: *wait_days,
            }),
            Event::FamilyChanged {
                key,
                state: KeyState::PendingReplicaDeletion,
                family,
                ..
            } => Some(ScheduleKeyDeletionOutput {
                key_arn: key_arn(self.region(), key.account, key.id),
                deletion_date: None,
                state: KeyState::PendingReplicaDeletion,
                wait_days: family.wait_days.unwrap_or(wait.days()),
            }),
            _ => None,
        });
        scheduled.ok_or_else(|| missing_event("ScheduleKeyDeletion"))
    }

    /// Ends that wait; the key comes back disabled.
    pub async fn cancel_key_deletion(
        &self,
        ctx: &RequestContext,
        input: KeyInput,
    ) -> Result<CancelKeyDeletionOutput, ServiceError> {
        let key = self.key_only(ctx, &input.key_id, Accounts::Own)?;
        self.propose(ctx, Command::CancelKeyDeletion { key })
            .await?;
        Ok(CancelKeyDeletionOutput {
            key_arn: key_arn(self.region(), key.account, key.id),
        })
    }

    /// Replaces a key's description.
    pub async fn update_key_description(
        &self,
        ctx: &RequestContext,
        input: UpdateKeyDescriptionInput,
    ) -> Result<(), ServiceError> {
        let key = self.key_only(ctx, &input.key_id, Accounts::Own)?;
        let command = Command::UpdateKeyDescription {
            key,
            description: input.description,
        };
        self.propose(ctx, command).await.map(drop)
    }
}

pub(crate) fn missing_event(command: &'static str) -> ServiceError {
    tracing::error!(
        command,
        "a command was accepted without the event it must give"
    );
    ServiceError::Internal
}

fn describe_key(
    state: &State,
    caller: &Caller,
    text: &str,
    tokens: Tokens,
) -> Result<KeyMetadata, ServiceError> {
    let asked = Asked::of("DescribeKey", text);
    let key = asked.look_up(state, caller)?;
    tokens.check()?;
    Ok(KeyMetadata::in_state(key, state))
}

fn list_keys(
    state: &State,
    caller: &Caller,
    input: &ListKeysInput,
    limit: usize,
    markers: Markers<'_>,
) -> Result<Page<KeyEntry>, ServiceError> {
    let after = match markers.position(&input.page)? {
        None => None,
        Some(bytes) => {
            let id = bytes.try_into().ok().and_then(KeyId::from_bytes);
            Some(id.ok_or(ServiceError::InvalidMarker)?)
        }
    };
    let _permit = permit_account(state, caller, "ListKeys", "*", &NoFacts)?;
    let own = input.owners.is_empty() || input.owners.contains(&ResourceOwner::Own);
    let keys = state.keys(caller.account, after).filter(|_| own);
    let page = markers.page(keys, limit, |key| key.id.to_bytes().to_vec());
    Ok(page.map(|key| KeyEntry {
        key_id: key.id,
        key_arn: key_arn(state.region(), key.account, key.id),
    }))
}

/// What a new key is, once its parameters fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NewKeyKind {
    spec: KeySpec,
    usage: KeyUsage,
    origin: Origin,
}

/// Checks the parameters of CreateKey that choose its kind. Rules of the API come first, then
/// what Keyrum does not have yet.
fn kind_of_new_key(input: &CreateKeyInput, region: &Region) -> Result<NewKeyKind, ServiceError> {
    let spec = match (input.spec, input.deprecated_spec) {
        (Some(_), Some(_)) => return Err(ServiceError::SpecGivenTwice),
        (Some(spec), None) | (None, Some(spec)) => spec,
        (None, None) => KeySpec::SymmetricDefault,
    };
    let origin = input.origin.unwrap_or(Origin::AwsKms);
    let usage = match input.usage {
        Some(usage) => usage,
        None if spec == KeySpec::SymmetricDefault => KeyUsage::EncryptDecrypt,
        None => return Err(ServiceError::UsageRequired),
    };
    if !spec.usages().contains(&usage) {
        return Err(ServiceError::UsageNotForSpec { usage, spec });
    }
    if origin == Origin::External && !spec.is_importable() {
        return Err(ServiceError::SpecNotForOrigin { spec, origin });
    }
    spec_in_region(spec, region)?;
    let in_store = matches!(origin, Origin::AwsCloudhsm | Origin::ExternalKeyStore);
    if in_store != input.custom_key_store_id.is_some()
        || (input.xks_key_id.is_some() && origin != Origin::ExternalKeyStore)
    {
        return Err(ServiceError::OriginNotForStore);
    }
    match origin {
        Origin::AwsKms | Origin::External => Ok(NewKeyKind {
            spec,
            usage,
            origin,
        }),
        Origin::AwsCloudhsm | Origin::ExternalKeyStore => Err(ServiceError::NotYet {
            what: "A custom key store",
        }),
    }
}

#[cfg(test)]
#[path = "lifecycle_tests.rs"]
mod tests;
