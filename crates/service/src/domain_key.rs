//! The Region's domain key while it is rotated: each node keeps the versions that the log names, says
//! what it has, and forgets what the log has ended; the one that leads drives what comes next.
//!
//! The secrets never enter the log. A node takes a version from where its own file is, which another
//! node may share, or else asks the other nodes, which wrap it for the Region.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keyrum_consensus::{ReadMode, StopReason};
use keyrum_crypto::{Crossing, DomainKeyring, DomainKeysError, DomainSecret};
use keyrum_state::{
    Command, DOMAIN_KEY_LEVEL, DomainKeyConfirmation, DomainKeyStage, FIRST_DOMAIN_KEY_VERSION,
    KeyRef, Place, Refusal, Resealed, SealedAs, State,
};
use keyrum_types::{AccountId, Entropy, Fingerprint, NodeId, SealedMaterial, UnixMillis};
use tokio::time::sleep;

use crate::courier::name_of;
use crate::{Inner, Service, ServiceError};

/// Shortest time between two looks at the state.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// How long until what could not be done is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How many sealings, and about how many bytes of them, are replaced at once: what others wait for
/// meanwhile is one entry of the log.
const RESEALED_AT_ONCE: usize = 128;
const RESEALED_BYTES: usize = 256 * 1024;

/// Pause after each such entry, so that callers hardly notice.
const RESEAL_PAUSE: Duration = Duration::from_millis(20);

/// Why the domain key could not be rotated, or a version not be destroyed. Nothing was lost.
#[derive(Debug, thiserror::Error)]
pub enum DomainKeyError {
    /// The log says no.
    #[error(transparent)]
    Refused(Refusal),
    /// It could not be asked.
    #[error(transparent)]
    Service(ServiceError),
    /// The new version could not be kept.
    #[error("the new version could not be kept: {0}")]
    Keys(DomainKeysError),
}

impl From<ServiceError> for DomainKeyError {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Refused(refusal) => Self::Refused(refusal),
            error => Self::Service(error),
        }
    }
}

/// One version of the domain key, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainKeyVersionStatus {
    /// Counts from 1.
    pub version: u32,
    /// Names its secret.
    pub fingerprint: Fingerprint,
    /// How far it has come.
    pub stage: DomainKeyStage,
    /// Members that have not done what the stage waits for.
    pub waits_for: BTreeSet<NodeId>,
    /// How many secrets are sealed under it.
    pub sealings: u64,
    /// Whether it is on this node.
    pub here: bool,
}

/// The domain key, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainKeyStatus {
    /// Names it through all its versions.
    pub fingerprint: Fingerprint,
    /// The version that seals.
    pub seals: u32,
    /// The Region's clock.
    pub now: UnixMillis,
    /// Oldest first.
    pub versions: Vec<DomainKeyVersionStatus>,
}

impl Service {
    /// The domain key, by the newest state.
    pub async fn domain_key(&self) -> Result<DomainKeyStatus, DomainKeyError> {
        let group = &self.inner.group;
        let state = group.read(ReadMode::Linearizable).await;
        let state = state.map_err(ServiceError::from)?;
        let (keyring, members) = (&self.inner.keyring, group.members());
        let mut versions: Vec<_> = state
            .domain_key_versions()
            .map(|(version, known)| DomainKeyVersionStatus {
                version,
                fingerprint: known.fingerprint,
                stage: known.stage,
                waits_for: match known.stage {
                    DomainKeyStage::Announced | DomainKeyStage::Withdrawn => {
                        members.difference(&known.confirmed).copied().collect()
                    }
                    DomainKeyStage::Active
                    | DomainKeyStage::Retired { .. }
                    | DomainKeyStage::Destroyed => BTreeSet::new(),
                },
                sealings: state.sealings_under(version),
                here: keyring.version(version).is_some(),
            })
            .collect();
        if versions.is_empty() {
            versions.push(DomainKeyVersionStatus {
                version: FIRST_DOMAIN_KEY_VERSION,
                fingerprint: keyring.fingerprint(),
                stage: DomainKeyStage::Active,
                waits_for: BTreeSet::new(),
                sealings: state.sealings_under(FIRST_DOMAIN_KEY_VERSION),
                here: true,
            });
        }
        Ok(DomainKeyStatus {
            fingerprint: keyring.fingerprint(),
            seals: state.sealing_version(),
            now: state.region_time(self.inner.world.clock.now()),
            versions,
        })
    }

    /// Makes a new version and announces it; what follows happens by itself. Its number.
    pub async fn rotate_domain_key(&self) -> Result<u32, DomainKeyError> {
        let inner = &self.inner;
        self.level_reached(DOMAIN_KEY_LEVEL).await;
        let state = inner.group.read(ReadMode::Linearizable).await;
        let state = state.map_err(ServiceError::from)?;
        let versions = state.domain_key_versions().map(|(version, _)| version);
        let version = versions.max().unwrap_or(FIRST_DOMAIN_KEY_VERSION) + 1;
        // A version that was made before and never announced is as good as a new one.
        let (keys, entropy) = (inner.keys.clone(), inner.world.entropy.clone());
        let make = move || keys.get_or_generate(version, &*entropy);
        let made = inner.world.blocking.run(make).await;
        let secret = made.map_err(DomainKeyError::Keys)?;
        let announce = Command::AnnounceDomainKey {
            version,
            fingerprint: secret.fingerprint(),
            first: inner.keyring.fingerprint(),
        };
        self.propose_as_region(announce).await?;
        Ok(version)
    }

    /// Takes the announcement of a version back.
    pub async fn abandon_domain_key(&self, version: u32) -> Result<(), DomainKeyError> {
        let abandon = Command::AbandonDomainKey { version };
        Ok(self.propose_as_region(abandon).await.map(drop)?)
    }

    /// Ends a version that nothing needs any more; that happens by itself once every node has
    /// forgotten the log of its time.
    pub async fn destroy_domain_key(&self, version: u32) -> Result<(), DomainKeyError> {
        let withdraw = Command::WithdrawDomainKey { version };
        Ok(self.propose_as_region(withdraw).await.map(drop)?)
    }

    /// Runs until this node stops: follows what the log says of the domain key.
    pub async fn run_domain_key(&self) {
        tokio::select! {
            _ = self.inner.group.stopped() => {}
            () = self.follow_domain_key() => {}
        }
    }

    async fn follow_domain_key(&self) {
        let group = &self.inner.group;
        let (mut applied, mut leader) = (group.applied(), group.leader());
        let mut said = String::new();
        loop {
            applied.borrow_and_update();
            leader.borrow_and_update();
            let looked = self.look_at_domain_key().await;
            let settled = looked.as_ref().is_ok_and(|settled| *settled);
            let reason = looked.err().unwrap_or_default();
            // Once, however long it lasts.
            if !reason.is_empty() && reason != said {
                tracing::warn!(reason, "the domain key is not as the log wants it yet");
            }
            said = reason;
            sleep(LOOK_PAUSE).await;
            let again = async {
                match settled {
                    true => std::future::pending().await,
                    false => sleep(RETRY).await,
                }
            };
            let changed = tokio::select! {
                changed = applied.changed() => changed,
                changed = leader.changed() => changed,
                () = again => Ok(()),
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Does what is to be done here; whether nothing is left that no later entry of the log would
    /// remind of.
    async fn look_at_domain_key(&self) -> Result<bool, String> {
        let state = self.inner.group.state();
        if state.domain_key_versions().next().is_none() {
            return Ok(true);
        }
        let versions: Vec<_> = state
            .domain_key_versions()
            .map(|(version, known)| (version, known.clone()))
            .collect();
        let seals = state.sealing_version();
        // No view of the state is held meanwhile: it would keep what was deleted.
        drop(state);
        let node = self.inner.group.node();
        for (version, known) in &versions {
            if known.stage != DomainKeyStage::Destroyed {
                self.hold_version(*version, known.fingerprint).await?;
            }
        }
        self.inner.keyring.seal_under(seals);
        for (version, known) in &versions {
            let (version, confirmed) = (*version, known.confirmed.contains(&node));
            let confirm = |what| Command::ConfirmDomainKey {
                version,
                fingerprint: known.fingerprint,
                node,
                what,
            };
            match known.stage {
                DomainKeyStage::Announced if !confirmed => {
                    self.step(confirm(DomainKeyConfirmation::Held)).await?;
                }
                DomainKeyStage::Withdrawn if !confirmed => {
                    let forgotten = self.inner.group.forget_past().await;
                    forgotten.map_err(|StopReason(reason)| reason)?;
                    self.step(confirm(DomainKeyConfirmation::Unneeded)).await?;
                }
                DomainKeyStage::Destroyed => self.destroy_version(version).await?,
                DomainKeyStage::Announced
                | DomainKeyStage::Active
                | DomainKeyStage::Retired { .. }
                | DomainKeyStage::Withdrawn => {}
            }
        }
        match self.inner.group.is_leader() {
            true => self.drive_domain_key().await,
            // Whoever leads has a look when it does.
            false => Ok(true),
        }
    }

    /// Has a version here, durably, as the log names it.
    async fn hold_version(&self, version: u32, named: Fingerprint) -> Result<(), String> {
        let inner = &self.inner;
        let is_named = |secret: &DomainSecret| secret.fingerprint() == named;
        if inner.keyring.version(version).is_some_and(|s| is_named(&s)) {
            return Ok(());
        }
        let keys = inner.keys.clone();
        let kept = inner.world.blocking.run(move || keys.get(version)).await;
        let kept = kept.map_err(|error| error.to_string())?;
        let secret = match kept.filter(is_named) {
            Some(secret) => secret.into(),
            None => {
                let secret = self.ask_for_version(version, named).await?;
                let (keys, kept) = (inner.keys.clone(), secret.clone());
                // Another of that number was never used: the log does not name it.
                let put = move || keys.put(version, &kept, true);
                let put = inner.world.blocking.run(put).await;
                put.map_err(|error| error.to_string())?;
                secret
            }
        };
        inner.keyring.add(version, secret);
        Ok(())
    }

    async fn ask_for_version(
        &self,
        version: u32,
        named: Fingerprint,
    ) -> Result<std::sync::Arc<DomainSecret>, String> {
        let (inner, region) = (&self.inner, self.region());
        let own = inner.couriers.own();
        let own = own.ok_or_else(|| "this node has no key of the Region".to_owned())?;
        let mut unwrapping = own.unwrapping(Crossing {
            from: region,
            to: region,
        });
        let given = inner.group.ask_for_domain_key(version).await;
        let mut opened = given
            .iter()
            .filter_map(|wrapped| unwrapping.unwrap_domain_key(version, wrapped).ok());
        let found = opened.find(|secret| secret.fingerprint() == named);
        found.map(Into::into).ok_or_else(|| {
            format!(
                "no node that answers has version {version} of the domain key, {named}; it is asked \
                 for again"
            )
        })
    }

    /// Proposes a step that another node may have taken meanwhile.
    async fn step(&self, command: Command) -> Result<(), String> {
        match self.propose_as_region(command).await {
            Ok(_) | Err(ServiceError::Refused(_)) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn destroy_version(&self, version: u32) -> Result<(), String> {
        let inner = &self.inner;
        if inner.keyring.version(version).is_none() {
            return Ok(());
        }
        let keys = inner.keys.clone();
        let removed = inner.world.blocking.run(move || keys.remove(version)).await;
        removed.map_err(|error| error.to_string())?;
        inner.keyring.forget(version);
        Ok(())
    }

    /// On the node that leads: takes the steps that every member has confirmed, and has the rest
    /// sealed anew.
    async fn drive_domain_key(&self) -> Result<bool, String> {
        let group = &self.inner.group;
        let (state, members) = (group.state(), group.members());
        let versions: Vec<_> = state
            .domain_key_versions()
            .filter(|(_, known)| members.is_subset(&known.confirmed))
            .map(|(version, known)| (version, known.stage))
            .collect();
        drop(state);
        for (version, stage) in versions {
            let members = members.clone();
            match stage {
                DomainKeyStage::Announced => {
                    self.step(Command::ActivateDomainKey { version, members })
                        .await?;
                }
                DomainKeyStage::Withdrawn => {
                    self.step(Command::DestroyDomainKey { version, members })
                        .await?;
                }
                DomainKeyStage::Active
                | DomainKeyStage::Retired { .. }
                | DomainKeyStage::Destroyed => {}
            }
        }
        self.reseal_the_rest().await
    }

    /// Replaces every sealing that is not under the version that seals; whether none is left.
    async fn reseal_the_rest(&self) -> Result<bool, String> {
        let inner = &self.inner;
        let (mut after, mut unopened) = (None, BTreeMap::new());
        loop {
            let state = inner.group.state();
            let version = state.sealing_version();
            if !inner.keyring.seal_under(version) {
                return Ok(false);
            }
            let service = self.clone();
            let known: BTreeSet<Place> = unopened.keys().cloned().collect();
            let make = move || service.inner.reseal_some(&state, version, after, &known);
            let batch = inner.world.blocking.run(make).await;
            unopened.extend(batch.unopened);
            if batch.resealed.is_empty() {
                if after.take().is_some() {
                    // What came to a place that was passed.
                    continue;
                }
                return match unopened.pop_first() {
                    None => Ok(true),
                    Some((place, problem)) => Err(format!(
                        "{place:?} cannot be sealed under version {version}: {problem}; it stays as \
                         it is"
                    )),
                };
            }
            after = batch.last.or(after);
            let reseal = Command::ResealSecrets {
                resealed: batch.resealed,
            };
            self.step(reseal).await?;
            if !inner.group.is_leader() {
                return Ok(true);
            }
            sleep(RESEAL_PAUSE).await;
        }
    }

    /// Seals what a command brings under the version that seals now; whether that can be had here.
    pub(crate) async fn reseal_command(
        &self,
        command: &mut Command,
        account: Option<AccountId>,
        seals: u32,
    ) -> bool {
        let inner = &self.inner;
        let known = inner.group.state();
        let named = known.domain_key_version(seals).map(|v| v.fingerprint);
        drop(known);
        if let Some(named) = named
            && let Err(reason) = self.hold_version(seals, named).await
        {
            tracing::warn!(%reason, "a command cannot be sealed as the log wants it");
        }
        if !inner.keyring.seal_under(seals) {
            return false;
        }
        let entropy = &*inner.world.entropy;
        command
            .secrets_mut(account)
            .into_iter()
            .all(
                |(of, sealed)| match resealed(&inner.keyring, &of, sealed, entropy) {
                    Ok(now) => {
                        *sealed = now;
                        true
                    }
                    Err(_) => false,
                },
            )
    }
}

/// Sealings to replace.
struct Batch {
    resealed: Vec<Resealed>,
    /// The last key among them.
    last: Option<KeyRef>,
    /// What does not open, and why.
    unopened: BTreeMap<Place, String>,
}

impl Inner {
    fn reseal_some(
        &self,
        state: &State,
        version: u32,
        after: Option<KeyRef>,
        known: &BTreeSet<Place>,
    ) -> Batch {
        let mut batch = Batch {
            resealed: Vec::new(),
            last: None,
            unopened: BTreeMap::new(),
        };
        let (mut count, mut bytes) = (0, 0);
        let places = state.places_not_under(version, after);
        for place in places.filter(|place| !known.contains(place)) {
            if count >= RESEALED_AT_ONCE || bytes >= RESEALED_BYTES {
                break;
            }
            if let Place::Key(key) = place {
                batch.last = Some(key);
            }
            let secrets = state.secrets_at(&place).into_iter();
            let old = secrets.filter(|(_, sealed)| sealed.domain_key_version() != Some(version));
            let sealings = old.map(|(of, was)| {
                let now = resealed(&self.keyring, &of, &was, &*self.world.entropy)?;
                Ok((was, now))
            });
            match sealings.collect::<Result<Vec<_>, String>>() {
                Ok(sealings) => {
                    count += sealings.len();
                    bytes += sealings
                        .iter()
                        .map(|(was, _)| 2 * was.0.len())
                        .sum::<usize>();
                    batch.resealed.push(Resealed { place, sealings });
                }
                Err(problem) => _ = batch.unopened.insert(place, problem),
            }
        }
        batch
    }

    /// A version of the domain key for another node of the Region.
    pub(crate) fn lend_version(&self, version: u32) -> Option<SealedMaterial> {
        let (own, region) = (self.couriers.own()?, self.group.region());
        let secret = self.keyring.version(version)?;
        let crossing = Crossing {
            from: region,
            to: region,
        };
        let entropy = &*self.world.entropy;
        let wrapping = own.public().wrapping(crossing, entropy).ok()?;
        Some(wrapping.wrap_domain_key(version, &secret, entropy))
    }
}

/// The same secret, sealed under the version that seals.
fn resealed(
    keyring: &DomainKeyring,
    of: &SealedAs,
    sealed: &SealedMaterial,
    entropy: &dyn Entropy,
) -> Result<SealedMaterial, String> {
    match of {
        SealedAs::Material(key, material) => {
            let secret = keyring.unseal(name_of(*key), *material, sealed);
            let secret = secret.map_err(|error| error.to_string())?;
            Ok(keyring.seal(name_of(*key), *material, &secret, entropy))
        }
        SealedAs::Identity(name) => {
            let secret = keyring.unseal_identity(name, sealed);
            let secret = secret.map_err(|error| error.to_string())?;
            Ok(keyring.seal_identity(name, &secret, entropy))
        }
    }
}
