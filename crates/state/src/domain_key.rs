//! The versions of the Region's domain key, as its log knows them: AnnounceDomainKey,
//! ConfirmDomainKey, ActivateDomainKey, AbandonDomainKey, ResealSecrets, WithdrawDomainKey and
//! DestroyDomainKey.
//!
//! The secrets themselves never enter the log. It says which version seals, who has what, and what is
//! no longer taken:
//!
//! 1. A version is announced. Every node that has it on its disk confirms.
//! 2. Once every member has, it is activated. From that entry on `decide` refuses what is sealed under
//!    any other version, so the older sealings only get fewer.
//! 3. They are replaced by sealings of the same secrets, a bounded number at a time.
//! 4. Once none is left and no import token of that time is valid, a retired version may be withdrawn.
//!    Every node that has neither snapshot nor log of before confirms.
//! 5. Once every member has, it is destroyed.
//!
//! A Region that never rotated has no row of this; its first version seals.

use std::collections::BTreeSet;

use keyrum_types::{Fingerprint, NodeId, SealedMaterial, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::contents::{Row, RowName};
use crate::sealing::Place;
use crate::{Command, Event, Outcome, Refusal, State};

/// From which level on a domain key can be rotated.
pub const DOMAIN_KEY_LEVEL: u32 = 5;

/// The version that seals where the log says nothing of versions.
pub const FIRST_DOMAIN_KEY_VERSION: u32 = 1;

/// How long after its retirement a version may still be needed to open import tokens that callers
/// hold, in milliseconds: as long as a token is valid.
pub const DOMAIN_KEY_TOKENS_MS: u64 = 24 * 60 * 60 * 1000;

/// How many sealings one ResealSecrets replaces at most.
pub const RESEALED_MAX: usize = 512;

/// One version of the Region's domain key.
///
/// Stored: the order and types of the fields are the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainKeyVersion {
    /// Names its secret.
    pub fingerprint: Fingerprint,
    /// How far it has come.
    pub stage: DomainKeyStage,
    /// The nodes that did what the stage waits for.
    pub confirmed: BTreeSet<NodeId>,
}

impl DomainKeyVersion {
    fn new(fingerprint: Fingerprint, stage: DomainKeyStage) -> Self {
        Self {
            fingerprint,
            stage,
            confirmed: BTreeSet::new(),
        }
    }
}

/// What a version of the domain key is there for.
///
/// Stored: variants keep their meaning and their place for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DomainKeyStage {
    /// Nothing is sealed under it. It waits for every node to have it.
    Announced,
    /// What is sealed is sealed under it.
    Active,
    /// It opens what it sealed, of which there is less and less.
    Retired {
        /// Since when, by the Region's clock.
        since: UnixMillis,
    },
    /// The state has nothing that it sealed. It waits for every node to forget what had.
    Withdrawn,
    /// The nodes that had it have destroyed it, or do at their next start.
    Destroyed,
}

impl DomainKeyStage {
    /// What operators call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Active => "active",
            Self::Retired { .. } => "retired",
            Self::Withdrawn => "withdrawn",
            Self::Destroyed => "destroyed",
        }
    }
}

/// What a node says of a version of the domain key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DomainKeyConfirmation {
    /// It is on the node's disk.
    Held,
    /// Nothing that the node would read again needs it.
    Unneeded,
}

/// One group of sealings that are replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resealed {
    /// Where they are.
    pub place: Place,
    /// Each sealing as it is, and another one of the same secret.
    pub sealings: Vec<(SealedMaterial, SealedMaterial)>,
}

impl State {
    /// The version of the domain key that seals.
    pub fn sealing_version(&self) -> u32 {
        let active = |version: &&DomainKeyVersion| version.stage == DomainKeyStage::Active;
        let mut versions = self.domain_key_versions();
        let found = versions.find(|(_, version)| active(version));
        found.map_or(FIRST_DOMAIN_KEY_VERSION, |(number, _)| number)
    }
}

/// Whether everything that a command brings is sealed under the version that seals.
pub(crate) fn admit(state: &State, command: &Command) -> Result<(), Refusal> {
    if state.domain_key_versions().next().is_none() {
        return Ok(());
    }
    let seals = state.sealing_version();
    let mut versions = command
        .sealings()
        .filter_map(SealedMaterial::domain_key_version);
    match versions.find(|version| *version != seals) {
        Some(version) => Err(Refusal::SealingRetired { version, seals }),
        None => Ok(()),
    }
}

fn level(state: &State) -> Result<(), Refusal> {
    match state.feature_level() < DOMAIN_KEY_LEVEL {
        true => Err(Refusal::FeatureLevelTooLow {
            needed: DOMAIN_KEY_LEVEL,
        }),
        false => Ok(()),
    }
}

/// The version, which must be at `stage`.
fn at_stage(
    state: &State,
    version: u32,
    stage: impl FnOnce(DomainKeyStage) -> bool,
) -> Result<&DomainKeyVersion, Refusal> {
    let known = state.domain_key_version(version);
    match known.filter(|known| stage(known.stage)) {
        Some(known) => Ok(known),
        None => Err(Refusal::DomainKeyStage {
            version,
            stage: known.map(|known| known.stage),
        }),
    }
}

pub(crate) fn announce(
    state: &State,
    version: u32,
    fingerprint: Fingerprint,
    first: Fingerprint,
) -> Outcome {
    level(state)?;
    let waiting = |stage| matches!(stage, DomainKeyStage::Announced | DomainKeyStage::Withdrawn);
    let mut versions = state.domain_key_versions();
    if let Some((waits, known)) = versions.find(|(_, known)| waiting(known.stage)) {
        if (waits, known.fingerprint, known.stage)
            == (version, fingerprint, DomainKeyStage::Announced)
        {
            return Ok(vec![]);
        }
        return Err(Refusal::DomainKeyStage {
            version: waits,
            stage: Some(known.stage),
        });
    }
    let newest = state.domain_key_versions().map(|(number, _)| number).max();
    if version != newest.unwrap_or(FIRST_DOMAIN_KEY_VERSION) + 1 {
        let known = state.domain_key_version(version);
        return Err(Refusal::DomainKeyStage {
            version,
            stage: known.map(|known| known.stage),
        });
    }
    Ok(vec![Event::DomainKeyAnnounced {
        version,
        fingerprint,
        first,
    }])
}

pub(crate) fn confirm(
    state: &State,
    version: u32,
    fingerprint: Fingerprint,
    node: NodeId,
    what: DomainKeyConfirmation,
) -> Outcome {
    let waits_for = match what {
        DomainKeyConfirmation::Held => DomainKeyStage::Announced,
        DomainKeyConfirmation::Unneeded => DomainKeyStage::Withdrawn,
    };
    let known = at_stage(state, version, |stage| stage == waits_for)?;
    if known.fingerprint != fingerprint {
        // Of an announcement that was taken back.
        return Err(Refusal::DomainKeyUnconfirmed {
            version,
            nodes: vec![node],
        });
    }
    if known.confirmed.contains(&node) {
        return Ok(vec![]);
    }
    Ok(vec![Event::DomainKeyConfirmed {
        version,
        node,
        what,
    }])
}

/// Whether all members confirmed.
fn all_confirmed(
    known: &DomainKeyVersion,
    version: u32,
    members: &BTreeSet<NodeId>,
) -> Result<(), Refusal> {
    let missing: Vec<_> = members.difference(&known.confirmed).copied().collect();
    if missing.is_empty() && !members.is_empty() {
        return Ok(());
    }
    Err(Refusal::DomainKeyUnconfirmed {
        version,
        nodes: missing,
    })
}

pub(crate) fn activate(
    state: &State,
    version: u32,
    members: &BTreeSet<NodeId>,
    at: UnixMillis,
) -> Outcome {
    let known = at_stage(state, version, |stage| stage == DomainKeyStage::Announced)?;
    all_confirmed(known, version, members)?;
    Ok(vec![Event::DomainKeyActivated { version, at }])
}

pub(crate) fn abandon(state: &State, version: u32) -> Outcome {
    at_stage(state, version, |stage| stage == DomainKeyStage::Announced)?;
    Ok(vec![Event::DomainKeyAbandoned { version }])
}

/// Takes what is still as its author saw it. What was resealed, changed or deleted meanwhile is left
/// as it is.
pub(crate) fn reseal(state: &State, asked: &[Resealed]) -> Outcome {
    let (mut left, mut resealed) = (RESEALED_MAX, Vec::new());
    for Resealed { place, sealings } in asked {
        let there = state.secrets_at(place);
        let is_there = |was: &SealedMaterial| there.iter().any(|(_, sealed)| sealed == was);
        let sealings: Vec<_> = sealings
            .iter()
            .filter(|(was, _)| is_there(was))
            .take(left)
            .cloned()
            .collect();
        left -= sealings.len();
        if !sealings.is_empty() {
            let place = place.clone();
            resealed.push(Resealed { place, sealings });
        }
    }
    Ok(match resealed.is_empty() {
        true => vec![],
        false => vec![Event::SecretsResealed { resealed }],
    })
}

pub(crate) fn withdraw(state: &State, version: u32, at: UnixMillis) -> Outcome {
    let known = at_stage(state, version, |stage| {
        matches!(stage, DomainKeyStage::Retired { .. })
    })?;
    let sealings = state.sealings_under(version);
    if sealings > 0 {
        return Err(Refusal::DomainKeyInUse { version, sealings });
    }
    if let DomainKeyStage::Retired { since } = known.stage {
        let until = since.plus_ms(DOMAIN_KEY_TOKENS_MS);
        if at < until {
            return Err(Refusal::DomainKeyTokensValid { version, until });
        }
    }
    Ok(vec![Event::DomainKeyWithdrawn { version }])
}

pub(crate) fn destroy(state: &State, version: u32, members: &BTreeSet<NodeId>) -> Outcome {
    let known = at_stage(state, version, |stage| stage == DomainKeyStage::Withdrawn)?;
    all_confirmed(known, version, members)?;
    Ok(vec![Event::DomainKeyDestroyed { version }])
}

pub(crate) fn evolve(state: &mut State, event: &Event) {
    match event {
        Event::DomainKeyAnnounced {
            version,
            fingerprint,
            first,
        } => {
            if state.domain_key_versions().next().is_none() {
                let first = DomainKeyVersion::new(*first, DomainKeyStage::Active);
                put(state, FIRST_DOMAIN_KEY_VERSION, first);
            }
            let new = DomainKeyVersion::new(*fingerprint, DomainKeyStage::Announced);
            put(state, *version, new);
        }
        Event::DomainKeyConfirmed { version, node, .. } => {
            let mut known = known(state, *version);
            known.confirmed.insert(*node);
            put(state, *version, known);
        }
        Event::DomainKeyActivated { version, at } => {
            let former = state.sealing_version();
            enter(state, former, DomainKeyStage::Retired { since: *at });
            enter(state, *version, DomainKeyStage::Active);
        }
        Event::DomainKeyAbandoned { version } => state.remove(RowName::DomainKey(*version)),
        Event::DomainKeyWithdrawn { version } => enter(state, *version, DomainKeyStage::Withdrawn),
        Event::DomainKeyDestroyed { version } => enter(state, *version, DomainKeyStage::Destroyed),
        Event::SecretsResealed { resealed } => {
            for Resealed { place, sealings } in resealed {
                state.replace_sealings(place, sealings);
            }
        }
        other => unreachable!("not an event of the domain key: {other:?}"),
    }
}

fn known(state: &State, version: u32) -> DomainKeyVersion {
    let known = state.domain_key_version(version);
    known
        .expect("an event names a version that decide saw")
        .clone()
}

fn put(state: &mut State, version: u32, known: DomainKeyVersion) {
    state.put(Row::DomainKey { version, known });
}

/// The version comes to another stage, which nobody has confirmed yet.
fn enter(state: &mut State, version: u32, stage: DomainKeyStage) {
    let fingerprint = known(state, version).fingerprint;
    put(state, version, DomainKeyVersion::new(fingerprint, stage));
}
