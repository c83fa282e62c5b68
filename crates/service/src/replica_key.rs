//! Operations on the family of a multi-Region key: ReplicateKey and UpdatePrimaryRegion.
//!
//! Both are decided in the log of the primary's Region alone. This node asks beforehand whether the
//! other Region is there, so that a call which could not come to an end soon changes nothing.

use std::time::Duration;

use keyrum_consensus::ReadMode;
use keyrum_state::{
    Command, Event, Family, FamilyChange, KeyRef, Refusal, Stamp, State, Transit, decide,
};
use keyrum_types::{KeyState, MultiRegionRole, Region, key_arn};
use tokio::time::{Instant, timeout_at};

use crate::lifecycle::missing_event;
use crate::metadata::KeyMetadata;
use crate::resolve::Accounts;
use crate::{RequestContext, Service, ServiceError};

/// How long either may take: for UpdatePrimaryRegion until the present primary has stepped down.
const LIMIT: Duration = Duration::from_millis(4_800);

/// What ReplicateKey is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicateKeyInput {
    /// The primary key's id or ARN.
    pub key_id: String,
    /// Where the replica goes, as the caller wrote it.
    pub region: String,
    /// The replica's policy; the default policy if absent.
    pub policy: Option<String>,
    /// Whether the caller takes the risk of locking everybody out.
    pub bypass_lockout_check: bool,
    /// The replica's; empty if absent.
    pub description: Option<String>,
    /// The replica's, in the order sent.
    pub tags: Vec<(String, String)>,
}

/// What ReplicateKey answers, before the replica is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicateKeyOutput {
    /// The replica to come.
    pub key: KeyMetadata,
    /// Its policy's text.
    pub policy: String,
    /// Its tags, in the order sent.
    pub tags: Vec<(String, String)>,
}

/// What UpdatePrimaryRegion is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdatePrimaryRegionInput {
    /// The present primary's id or ARN.
    pub key_id: String,
    /// Where the new primary is, as the caller wrote it.
    pub region: String,
}

impl Service {
    /// Adds a replica key in another Region. Answers once it is decided; the replica arrives there
    /// a little later.
    pub async fn replicate_key(
        &self,
        ctx: &RequestContext,
        input: ReplicateKeyInput,
    ) -> Result<ReplicateKeyOutput, ServiceError> {
        let deadline = Instant::now() + LIMIT;
        let key = self.key_only(ctx, &input.key_id, Accounts::Own)?;
        let description = input.description.unwrap_or_default();
        let command = |region: &Region| Command::ReplicateKey {
            key,
            region: region.clone(),
            description: description.clone(),
            policy: input.policy.clone(),
            bypass_lockout_check: input.bypass_lockout_check,
            tags: input.tags.clone(),
        };
        let region: Option<Region> = input.region.parse().ok();
        let own = self.region().partition();
        let known = match &region {
            // One cluster may hold Regions of several partitions; no key belongs to two.
            Some(region) => region.partition() == own && self.knows(region).await,
            None => false,
        };
        let Some(to) = region.as_ref().filter(|_| known) else {
            // What is wrong with the key comes first. Asked about its own Region, the key says no
            // only when nothing else is wrong with it.
            return Err(match self.look_ahead(ctx, command(self.region())).await {
                Err(ServiceError::Refused(Refusal::PrimaryIsThere { .. })) => {
                    let other = region.is_some_and(|region| region.partition() != own);
                    match other {
                        true => ServiceError::OtherPartition,
                        false => ServiceError::RegionNotInCluster {
                            region: input.region,
                        },
                    }
                }
                Err(error) => error,
                Ok(_) => ServiceError::Internal,
            });
        };
        self.look_ahead(ctx, command(to)).await?;
        self.reach(to, deadline).await?;
        let proposed = timeout_at(deadline, self.propose(ctx, command(to)));
        let events = proposed
            .await
            .unwrap_or(Err(ServiceError::OutcomeUnknown))?;
        let family = events.iter().find_map(|event| match event {
            Event::FamilyChanged {
                change: FamilyChange::ReplicaAdded { .. },
                family,
                ..
            } => Some(family),
            _ => None,
        });
        let family = family.ok_or_else(|| missing_event("ReplicateKey"))?;
        let state = self.inner.group.state();
        let primary = state
            .key(key)
            .ok_or_else(|| missing_event("ReplicateKey"))?;
        let metadata = KeyMetadata {
            arn: key_arn(to, key.account, key.id),
            // Deviation: by this Region's clock; once the replica is there, it tells its own.
            created: state.region_time(self.inner.world.clock.now()),
            enabled: false,
            description,
            state: KeyState::Creating,
            deletion_date: None,
            pending_deletion_window_days: None,
            current_material: None,
            // The primary's, until the replica is there without material.
            expiration: KeyMetadata::in_state(primary, &state).expiration,
            ..KeyMetadata::of(primary, to)
        };
        let policy = input.policy;
        Ok(ReplicateKeyOutput {
            key: metadata.in_family(MultiRegionRole::Replica, family),
            policy: policy.unwrap_or_else(|| keyrum_authz::default_policy(to, key.account)),
            tags: input.tags,
        })
    }

    /// Moves the primary to a replica's Region. Returns once the present primary has stepped down.
    pub async fn update_primary_region(
        &self,
        ctx: &RequestContext,
        input: UpdatePrimaryRegionInput,
    ) -> Result<(), ServiceError> {
        let deadline = Instant::now() + LIMIT;
        let key = self.key_only(ctx, &input.key_id, Accounts::Own)?;
        let own = self.region();
        let region: Option<Region> = input.region.parse().ok();
        let to = region.as_ref().unwrap_or(own);
        let command = || Command::UpdatePrimaryRegion {
            key,
            to: to.clone(),
        };
        let ahead = self.look_ahead(ctx, command()).await?;
        if region.is_none() {
            // No Region has such a name, so no replica is there.
            let region = own.clone();
            return Err(Refusal::NoReplicaThere { key, region }.into());
        }
        if ahead.is_empty() {
            return Ok(());
        }
        self.reach(to, deadline).await?;
        let now = self.inner.world.clock.now();
        let caller = self.caller_for_log(ctx);
        let detailed = caller.details.audit.is_some();
        let proposed = self.inner.group.propose(Some(caller), now, command());
        let unknown = |_| ServiceError::OutcomeUnknown;
        let done = timeout_at(deadline, proposed).await.map_err(unknown)??;
        let events = done.outcome.map_err(ServiceError::Refused)?;
        if detailed && !events.is_empty() {
            ctx.trace.logged(done.index);
        }
        let requested = events.iter().find_map(|event| match event {
            Event::FamilyChanged { family, .. } => requested_at(family),
            _ => None,
        });
        let Some(at) = requested else {
            // Another call moved it there in between.
            return Ok(());
        };
        let mut applied = self.inner.group.applied();
        loop {
            let behind = *applied.borrow_and_update() < done.index;
            let end = match behind {
                true => None,
                false => end_of_move(&self.inner.group.state(), key, at),
            };
            match end {
                Some(Ok(())) => return Ok(()),
                Some(Err(refusal)) => {
                    let region = to.clone();
                    return Err(ServiceError::RefusedElsewhere { region, refusal });
                }
                None => {}
            }
            match timeout_at(deadline, applied.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(ServiceError::OutcomeUnknown),
            }
        }
    }

    /// What a command would do now: refuses what the log would refuse, before anything is asked of
    /// another Region. The log decides all the same.
    async fn look_ahead(
        &self,
        ctx: &RequestContext,
        command: Command,
    ) -> Result<Vec<Event>, ServiceError> {
        let state = self.inner.group.read(ReadMode::Linearizable).await?;
        let now = self.inner.world.clock.now();
        Ok(decide(&state, Some(&ctx.caller), now, &command)?)
    }
}

fn requested_at(family: &Family) -> Option<Stamp> {
    match family.transit {
        Transit::Requested { at, .. } => Some(at),
        Transit::Settled | Transit::Reserved { .. } | Transit::SteppedDown => None,
    }
}

/// How the move that was requested at a stamp ended here; `None` while it goes on.
fn end_of_move(state: &State, key: KeyRef, at: Stamp) -> Option<Result<(), Refusal>> {
    let family = state.family(key)?;
    if requested_at(family) == Some(at) {
        return None;
    }
    match &family.refused {
        Some((asked, refusal)) if *asked == at => Some(Err(refusal.clone())),
        _ => Some(Ok(())),
    }
}
