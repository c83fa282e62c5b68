//! Keys that a fixture describes, made before a test cluster answers its first request.
//!
//! Made through the log, with material sealed, like any other. Whoever seeds asks all Regions first
//! what differs, and begins only if nothing does; a seeding that was cut short is finished by the next.

use keyrum_consensus::ReadMode;
use keyrum_crypto::MaterialSecret;
use keyrum_state::{AutomaticRotation, Caller, Command, Key, KeyRef, State};
use keyrum_types::{
    AliasName, KeySpec, KeyUsage, MultiRegionRole, Origin, Region, RotationDays, UnixMillis,
};

use crate::{ReplicateKeyInput, RequestContext, Service, ServiceError, Trace};

/// A key as a fixture describes it.
pub struct KeySeed {
    /// Its account and id.
    pub key: KeyRef,
    /// Kind of material.
    pub spec: KeySpec,
    /// What it may be used for.
    pub usage: KeyUsage,
    /// `AWS_KMS` or `EXTERNAL`.
    pub origin: Origin,
    /// At most 8192 characters.
    pub description: String,
    /// The policy's text; `None` for the default policy.
    pub policy: Option<String>,
    /// Names and values.
    pub tags: Vec<(String, String)>,
    /// Oldest first. If there is none, the material is random or, of an `EXTERNAL` key, awaited.
    pub materials: Vec<MaterialSecret>,
    /// Automatic rotation that is on from the start.
    pub rotation: Option<RotationSeed>,
    /// Names that it has.
    pub aliases: Vec<AliasName>,
    /// Other Regions in which it has a replica.
    pub replicas: Vec<Region>,
}

/// Automatic rotation as a fixture describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationSeed {
    /// From one rotation to the next.
    pub period: RotationDays,
    /// The first date; a period from now if absent.
    pub next: Option<UnixMillis>,
}

/// Why a seed cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// A key or alias is there, and is another than the fixture's.
    #[error("{0}")]
    Differs(String),
    /// It could not be made.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl Service {
    /// Whether what is there agrees with a seed: each key and alias of it is absent, or as described.
    /// What callers may change of a key is not compared.
    pub async fn check_seed(&self, seed: &KeySeed) -> Result<(), SeedError> {
        let state = self.state_to_seed().await?;
        differs(&state, seed).map_or(Ok(()), |difference| Err(SeedError::Differs(difference)))
    }

    /// Makes what is absent of a key and its aliases; whether the key was.
    pub async fn seed(&self, seed: &KeySeed) -> Result<bool, SeedError> {
        let state = self.state_to_seed().await?;
        let absent = state.key(seed.key).is_none();
        if absent {
            let command = self.seed_command(seed, &state).await?;
            drop(state);
            self.propose_as_region(command).await?;
        }
        let ctx = self.root_of(seed.key);
        for alias in &seed.aliases {
            let state = self.state_to_seed().await?;
            if state.alias(seed.key.account, alias).is_none() {
                let (alias, target) = (alias.clone(), seed.key);
                self.propose(&ctx, Command::CreateAlias { alias, target })
                    .await?;
            }
        }
        Ok(absent)
    }

    /// Adds the replicas that a seeded key lacks.
    pub async fn seed_replicas(&self, seed: &KeySeed) -> Result<(), SeedError> {
        let ctx = self.root_of(seed.key);
        for region in &seed.replicas {
            let state = self.state_to_seed().await?;
            let key = state.key(seed.key);
            let family = state.family(seed.key);
            let has = family.is_some_and(|family| family.roster.contains_key(region));
            // A primary that has moved since is elsewhere told what to do.
            let primary = key.is_some_and(|key| key.multi_region == Some(MultiRegionRole::Primary));
            if has || !primary {
                continue;
            }
            drop(state);
            let input = ReplicateKeyInput {
                key_id: seed.key.id.to_string(),
                region: region.to_string(),
                description: Some(seed.description.clone()),
                policy: seed.policy.clone(),
                bypass_lockout_check: true,
                tags: seed.tags.clone(),
            };
            self.replicate_key(&ctx, input).await?;
        }
        Ok(())
    }

    async fn seed_command(&self, seed: &KeySeed, state: &State) -> Result<Command, ServiceError> {
        let mut materials: Vec<_> = seed
            .materials
            .iter()
            .map(|secret| self.seal_material(seed.key, secret))
            .collect();
        let now = state.region_time(self.inner.world.clock.now());
        if materials.is_empty() && seed.origin == Origin::AwsKms {
            let secret = self.generate(seed.spec).await?;
            materials.push(self.seal_material(seed.key, &secret));
        }
        Ok(Command::SeedKey {
            key: seed.key,
            spec: seed.spec,
            usage: seed.usage,
            origin: seed.origin,
            description: seed.description.clone(),
            policy: seed.policy.clone(),
            tags: seed.tags.clone(),
            materials,
            rotation: seed.rotation.map(|rotation| AutomaticRotation {
                period: rotation.period,
                next: rotation
                    .next
                    .unwrap_or_else(|| now.plus_days(rotation.period.days().into())),
            }),
        })
    }

    async fn state_to_seed(&self) -> Result<std::sync::Arc<State>, ServiceError> {
        Ok(self.inner.group.read(ReadMode::Linearizable).await?)
    }

    fn root_of(&self, key: KeyRef) -> RequestContext {
        let account = key.account;
        RequestContext {
            caller: Caller::root(self.region(), account),
            mode: ReadMode::Linearizable,
            request: [0; 16],
            trace: Trace::default(),
        }
    }
}

/// What of a seed is there and is not the same; `None` if nothing is.
fn differs(state: &State, seed: &KeySeed) -> Option<String> {
    let (id, region) = (seed.key.id, state.region());
    let key = state.key(seed.key);
    if let Some(what) = key.and_then(|key| key_differs(key, seed)) {
        return Some(format!("key {id} is in {region} already, and {what}"));
    }
    let other = |alias: &&AliasName| {
        let there = state.alias(seed.key.account, alias);
        there.is_some_and(|there| there.target != seed.key)
    };
    let alias = seed.aliases.iter().find(other)?;
    let target = state.alias(seed.key.account, alias)?.target.id;
    Some(format!(
        "{alias} is in {region} already, and names key {target} instead of {id}"
    ))
}

fn key_differs(key: &Key, seed: &KeySeed) -> Option<String> {
    let (there, given) = (key.spec.name(), seed.spec.name());
    if there != given {
        return Some(format!("its spec is {there} instead of {given}"));
    }
    let (there, given) = (key.usage.name(), seed.usage.name());
    if there != given {
        return Some(format!("its usage is {there} instead of {given}"));
    }
    let (there, given) = (key.origin.name(), seed.origin.name());
    if there != given {
        return Some(format!("its origin is {there} instead of {given}"));
    }
    // It may have been rotated since.
    let mut there = key.materials.iter();
    let same = |secret: &MaterialSecret| {
        let id = secret.id(key.id);
        there.next().is_none_or(|version| version.id == id)
    };
    let fewer = key.materials.len() < seed.materials.len();
    let awaited = key.materials.is_empty() && key.origin == Origin::External;
    if !seed.materials.iter().all(same) || (fewer && !awaited) {
        return Some("its material is another".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use keyrum_types::{KeyId, WaitingDays};
    use zeroize::Zeroizing;

    use super::*;
    use crate::testing::{OWN, TestRegion};

    fn seed(key: KeyRef) -> KeySeed {
        KeySeed {
            key,
            spec: KeySpec::SymmetricDefault,
            usage: KeyUsage::EncryptDecrypt,
            origin: Origin::AwsKms,
            description: String::new(),
            policy: None,
            tags: Vec::new(),
            materials: vec![TestRegion::secret(key.id)],
            rotation: None,
            aliases: vec![AliasName::new("alias/a").unwrap()],
            replicas: Vec::new(),
        }
    }

    fn other_secret() -> MaterialSecret {
        MaterialSecret::from_bytes(Zeroizing::new([3; 32]))
    }

    /// Catches a difference that goes unnoticed and would leave a test with another key than it
    /// described, and a change by callers that keeps a cluster from starting.
    #[test]
    fn only_what_a_fixture_fixes_is_compared() {
        let mut region = TestRegion::new();
        let (one, two) = (region.key(1), region.key(2));
        assert_eq!(differs(&region.state, &seed(one)), None);
        region.alias("alias/a", one);
        region.apply(Command::UpdateKeyDescription {
            key: one,
            description: "changed".to_owned(),
        });
        let material = region.state.key(two).unwrap().materials[0].clone();
        region.apply(Command::RotateKeyOnDemand { key: one, material });
        let wait = WaitingDays::DEFAULT;
        region.apply(Command::ScheduleKeyDeletion { key: one, wait });
        assert_eq!(differs(&region.state, &seed(one)), None);
        let absent = KeyRef {
            account: OWN.parse().unwrap(),
            id: KeyId::single_region([9; 16]),
        };
        let mut no_alias = seed(absent);
        no_alias.aliases.clear();
        assert_eq!(differs(&region.state, &no_alias), None);

        let says = |change: &dyn Fn(&mut KeySeed)| {
            let mut seed = seed(one);
            change(&mut seed);
            differs(&region.state, &seed).unwrap()
        };
        let there = format!("key {} is in us-east-1 already, and its ", one.id);
        for (change, what) in [
            (
                &(|seed: &mut KeySeed| seed.spec = KeySpec::Hmac256) as &dyn Fn(&mut KeySeed),
                "spec is SYMMETRIC_DEFAULT instead of HMAC_256",
            ),
            (
                &|seed: &mut KeySeed| seed.usage = KeyUsage::SignVerify,
                "usage is ENCRYPT_DECRYPT instead of SIGN_VERIFY",
            ),
            (
                &|seed: &mut KeySeed| seed.origin = Origin::External,
                "origin is AWS_KMS instead of EXTERNAL",
            ),
            (
                &|seed: &mut KeySeed| seed.materials = vec![other_secret()],
                "material is another",
            ),
            (
                &|seed: &mut KeySeed| {
                    let more = [(); 2].map(|()| TestRegion::secret(one.id));
                    seed.materials.extend(more);
                },
                "material is another",
            ),
        ] {
            assert_eq!(says(change), format!("{there}{what}"));
        }
        let moved = differs(&region.state, &seed(two)).unwrap();
        let expected = format!(
            "alias/a is in us-east-1 already, and names key {} instead of {}",
            one.id, two.id
        );
        assert_eq!(moved, expected);
    }
}
