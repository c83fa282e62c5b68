//! The families of a storm: who changes one, and who uses it meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyMetadata, KeyState, MultiRegionKeyType};
use keyrum_tests::sdk::{Failed, failed};
use tokio::time::{Instant, sleep};

use super::Storm;
use super::dice::Dice;
use crate::relatives::{REGIONS, family};

/// For how long a call whose outcome is unknown may still come into force: a frozen node goes on
/// where it was once it is resumed.
const MAY_STILL_HAPPEN: Duration = Duration::from_secs(25);

/// A key has 25 rotations on demand in its life.
const ROTATIONS_MAX: u32 = 15;

/// What a refusal may say, for which operation, and why that is right.
type Allowed = &'static [(&'static str, &'static str)];

/// The end of an earlier move may be under way: its caller hears before everybody has.
const MOVING: (&str, &str) = ("KMSInvalidStateException", "is updating.");

/// The automatic rotation is due or under way.
const ROTATING: (&str, &str) = ("ConflictException", "");

/// The replica that was there is gone, which the primary hears a little later.
const STILL_LISTED: (&str, &str) = ("AlreadyExistsException", "");

/// The clock was moved, and what waited was deleted.
const DELETED: (&str, &str) = ("NotFoundException", "");

/// The schedule did not come about.
const NOT_PENDING: (&str, &str) = ("KMSInvalidStateException", "is not pending deletion.");

/// An earlier call whose outcome is unknown may have come into force since the last look.
const LATE: Allowed = &[
    ("KMSInvalidStateException", ""),
    ("DisabledException", ""),
    ("NotFoundException", ""),
    ("AlreadyExistsException", ""),
    ("UnsupportedOperationException", "primary key."),
    (
        "UnsupportedOperationException",
        "replica key which is not valid for",
    ),
    (
        "ValidationException",
        "does not have a replica key in the specified Region",
    ),
    (
        "ValidationException",
        "cannot have a replica because it contains the primary.",
    ),
];

/// A call that a node without a quorum answers.
fn no_quorum(code: &str) -> bool {
    matches!(code, "DependencyTimeoutException" | "KMSInternalException")
}

/// One family.
pub(crate) struct Family {
    pub(crate) key: String,
    /// For each Region: even while its member can certainly be used; grows with every change.
    usable: BTreeMap<&'static str, AtomicU64>,
    /// What was encrypted, and where.
    pub(crate) sealed: Mutex<Vec<(Blob, String)>>,
    /// Until when a call of unknown outcome may still come into force.
    unknown_until: Mutex<Option<Instant>>,
}

/// How a call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Went {
    Done,
    /// Refused, or nobody took it.
    Not,
    Unknown,
}

impl Family {
    pub(crate) fn new(key: String) -> Self {
        Self {
            key,
            usable: REGIONS.map(|region| (region, AtomicU64::new(1))).into(),
            sealed: Mutex::default(),
            unknown_until: Mutex::new(None),
        }
    }

    fn version(&self, region: &str) -> u64 {
        self.usable[region].load(Ordering::SeqCst)
    }

    fn set_usable(&self, region: &str, usable: bool) {
        let odd = self.version(region) % 2 == 1;
        if odd == usable {
            self.usable[region].fetch_add(1, Ordering::SeqCst);
        }
    }

    fn uncertain(&self) -> bool {
        let until = *self.unknown_until.lock().unwrap();
        until.is_some_and(|until| Instant::now() < until)
    }

    fn judge<T, E, R>(
        &self,
        storm: &Storm,
        operation: &str,
        allowed: &[(&str, &str)],
        answer: Result<T, aws_sdk_kms::error::SdkError<E, R>>,
    ) -> Went
    where
        E: aws_sdk_kms::error::ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug + 'static,
    {
        let failure = match answer {
            Ok(_) => {
                storm.count(operation);
                return Went::Done;
            }
            Err(error) => failed(error),
        };
        match &failure {
            Failed::Unsent(_) => Went::Not,
            Failed::Answer(code, _) if code == "DependencyTimeoutException" => Went::Not,
            Failed::Silence(_) => self.unknown(storm),
            Failed::Answer(code, _) if code == "KMSInternalException" => self.unknown(storm),
            Failed::Answer(code, message) => {
                let message = message.as_deref().unwrap_or_default();
                let fits = |(a, text): &(&str, &str)| a == code && message.contains(text);
                let late = self.uncertain() && LATE.iter().any(fits);
                if !late && !allowed.iter().any(fits) {
                    storm.wrong(format!("{operation} of {}: {failure:?}", self.key));
                }
                storm.count("refused");
                Went::Not
            }
        }
    }

    fn unknown(&self, storm: &Storm) -> Went {
        storm.count("unknown");
        *self.unknown_until.lock().unwrap() = Some(Instant::now() + MAY_STILL_HAPPEN);
        Went::Unknown
    }
}

/// A family as its members told it a moment ago.
struct View {
    members: BTreeMap<&'static str, KeyMetadata>,
    primary: &'static str,
}

impl View {
    fn state(&self, region: &str) -> Option<&KeyState> {
        self.members.get(region)?.key_state()
    }

    /// Replicas that can be used.
    fn replicas(&self) -> Vec<&'static str> {
        let enabled = |region: &&&'static str| self.state(region) == Some(&KeyState::Enabled);
        let others = self.members.keys().filter(enabled).copied();
        others.filter(|region| *region != self.primary).collect()
    }
}

/// Changes a family until the storm is over.
pub(crate) async fn drive(storm: Arc<Storm>, family: Arc<Family>, dice: Dice) {
    let mut owner = Owner {
        storm,
        family,
        dice,
        rotations: 0,
    };
    while !owner.storm.is_over() {
        match owner.view().await {
            Some(view) => owner.step(&view).await,
            None => sleep(Duration::from_millis(50)).await,
        }
    }
}

struct Owner {
    storm: Arc<Storm>,
    family: Arc<Family>,
    dice: Dice,
    rotations: u32,
}

impl Owner {
    async fn view(&self) -> Option<View> {
        let (kin, key) = (&self.storm.kin, &self.family.key);
        let mut members = BTreeMap::new();
        for region in REGIONS {
            let answer = kin.kms(region).describe_key().key_id(key).send().await;
            match answer {
                Ok(answer) => _ = members.insert(region, answer.key_metadata?),
                Err(error) => match failed(error) {
                    Failed::Answer(code, _) if code == "NotFoundException" => {}
                    _ => return None,
                },
            }
        }
        // No cut of the logs: a move may have gone by between two looks.
        let leads =
            |region: &&&'static str| family(&members[**region]).0 == MultiRegionKeyType::Primary;
        let primary = members.keys().find(leads).copied()?;
        Some(View { members, primary })
    }

    async fn step(&mut self, view: &View) {
        let mut at_rest = true;
        for (region, shown) in &view.members {
            match shown.key_state() {
                Some(KeyState::Enabled | KeyState::Updating) if !self.family.uncertain() => {
                    self.family.set_usable(region, true);
                }
                Some(KeyState::PendingDeletion | KeyState::PendingReplicaDeletion) => {
                    at_rest = false;
                    self.cancel(region).await;
                }
                Some(KeyState::Disabled) => {
                    at_rest = false;
                    self.enable(region).await;
                }
                _ => {}
            }
        }
        if !at_rest {
            return;
        }
        let absent = REGIONS
            .into_iter()
            .find(|region| !view.members.contains_key(region));
        let replica = self.dice.one_of(&view.replicas());
        match (self.dice.below(100), absent, replica) {
            (0..30, Some(region), _) => self.replicate(view.primary, region).await,
            (0..60, _, Some(to)) => self.move_primary(view.primary, to).await,
            (60..75, _, _) if self.rotations < ROTATIONS_MAX => self.rotate(view.primary).await,
            (75..80, _, _) => self.set_automatic(view.primary).await,
            (80..90, _, Some(region)) => self.disable(region).await,
            // A move that may still happen would make it the primary's deletion.
            (90..100, _, _) if self.family.uncertain() => {}
            (90..96, _, Some(region)) => _ = self.schedule(region).await,
            (96..100, _, Some(region)) => self.delete(region).await,
            _ => {}
        }
    }

    async fn replicate(&self, primary: &str, to: &str) {
        let call = self.storm.kin.kms(primary).replicate_key();
        let call = call.key_id(&self.family.key).replica_region(to);
        self.judge("ReplicateKey", &[MOVING, STILL_LISTED], call.send().await);
    }

    async fn move_primary(&self, primary: &str, to: &str) {
        let call = self.storm.kin.kms(primary).update_primary_region();
        let call = call.key_id(&self.family.key).primary_region(to);
        self.storm.moving.fetch_add(1, Ordering::SeqCst);
        let answer = call.send().await;
        self.storm.moving.fetch_sub(1, Ordering::SeqCst);
        self.judge("UpdatePrimaryRegion", &[MOVING], answer);
    }

    async fn rotate(&mut self, primary: &str) {
        self.rotations += 1;
        let call = self.storm.kin.kms(primary).rotate_key_on_demand();
        let answer = call.key_id(&self.family.key).send().await;
        self.judge("RotateKeyOnDemand", &[MOVING, ROTATING], answer);
    }

    async fn set_automatic(&mut self, primary: &str) {
        let kms = self.storm.kin.kms(primary);
        if self.dice.below(3) == 0 {
            let call = kms.disable_key_rotation().key_id(&self.family.key);
            self.judge("DisableKeyRotation", &[MOVING], call.send().await);
        } else {
            let call = kms.enable_key_rotation().key_id(&self.family.key);
            let answer = call.rotation_period_in_days(90).send().await;
            self.judge("EnableKeyRotation", &[MOVING], answer);
        }
    }

    async fn disable(&self, region: &str) {
        self.family.set_usable(region, false);
        let call = self.storm.kin.kms(region).disable_key();
        let answer = call.key_id(&self.family.key).send().await;
        if self.judge("DisableKey", &[MOVING], answer) == Went::Done {
            self.enable(region).await;
        }
    }

    async fn enable(&self, region: &str) {
        let call = self.storm.kin.kms(region).enable_key();
        let answer = call.key_id(&self.family.key).send().await;
        self.judge("EnableKey", &[MOVING, DELETED], answer);
    }

    async fn schedule(&self, region: &str) -> Went {
        self.family.set_usable(region, false);
        let call = self.storm.kin.kms(region).schedule_key_deletion();
        let call = call.key_id(&self.family.key).pending_window_in_days(7);
        self.judge("ScheduleKeyDeletion", &[MOVING], call.send().await)
    }

    async fn cancel(&self, region: &str) {
        self.family.set_usable(region, false);
        let call = self.storm.kin.kms(region).cancel_key_deletion();
        let answer = call.key_id(&self.family.key).send().await;
        self.judge("CancelKeyDeletion", &[DELETED, NOT_PENDING], answer);
    }

    /// Has a replica really deleted.
    async fn delete(&self, region: &str) {
        if self.schedule(region).await != Went::Done {
            return;
        }
        self.storm.let_time_pass.store(1, Ordering::SeqCst);
        let gone = async {
            while !self.storm.is_over() {
                let call = self.storm.kin.kms(region).describe_key();
                if let Err(error) = call.key_id(&self.family.key).send().await
                    && matches!(failed(error), Failed::Answer(code, _) if code == "NotFoundException")
                {
                    self.storm.count("deleted");
                    return;
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(120), gone)
            .await
            .is_err()
        {
            self.storm
                .wrong(format!("{} stays in {region}", self.family.key));
        }
    }

    fn judge<T, E, R>(
        &self,
        operation: &str,
        allowed: &[(&str, &str)],
        answer: Result<T, aws_sdk_kms::error::SdkError<E, R>>,
    ) -> Went
    where
        E: aws_sdk_kms::error::ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug + 'static,
    {
        self.family.judge(&self.storm, operation, allowed, answer)
    }
}

/// Encrypts in one member and decrypts in another until the storm is over.
pub(crate) async fn use_it(storm: Arc<Storm>, family: Arc<Family>, mut dice: Dice) {
    for number in 0.. {
        if storm.is_over() {
            return;
        }
        sleep(Duration::from_millis(20 + dice.below(60) as u64)).await;
        let usable = |region: &&str| family.version(region).is_multiple_of(2);
        let usable: Vec<_> = REGIONS.into_iter().filter(usable).collect();
        let [Some(from), Some(to)] = [dice.one_of(&usable), dice.one_of(&usable)] else {
            continue;
        };
        let text = format!("{number} of {}", family.key);
        let (version, since) = (family.version(from), Instant::now());
        let call = storm.kin.kms(from).encrypt().key_id(&family.key);
        match call.plaintext(Blob::new(text.clone())).send().await {
            Ok(answer) => {
                storm.count("Encrypt");
                let blob = answer.ciphertext_blob.expect("a ciphertext");
                family.sealed.lock().unwrap().push((blob, text));
            }
            Err(error) => unusable(&storm, &family, from, version, since, failed(error)),
        }
        let (blob, text) = {
            let sealed = family.sealed.lock().unwrap();
            if sealed.is_empty() {
                continue;
            }
            // Mostly new ones: those meet material that not everybody may have.
            let back = dice.below(sealed.len().min(20));
            match dice.below(4) {
                0 => sealed[dice.below(sealed.len())].clone(),
                _ => sealed[sealed.len() - 1 - back].clone(),
            }
        };
        let (version, since) = (family.version(to), Instant::now());
        if version % 2 == 1 {
            continue;
        }
        let call = storm.kin.kms(to).decrypt().ciphertext_blob(blob);
        match call.send().await {
            Ok(answer) => {
                storm.count("Decrypt");
                let plaintext = answer.plaintext.expect("a plaintext").into_inner();
                if plaintext != text.as_bytes() {
                    storm.wrong(format!("{text:?} opens as {plaintext:?} in {to}"));
                }
            }
            Err(error) => unusable(&storm, &family, to, version, since, failed(error)),
        }
    }
}

/// A call that failed in a member: wrong unless its Region had no quorum for a moment, or its owner
/// was about to change it.
fn unusable(
    storm: &Storm,
    family: &Family,
    region: &str,
    version: u64,
    since: Instant,
    failure: Failed,
) {
    let excused = match &failure {
        Failed::Unsent(_) | Failed::Silence(_) => storm.troubles.met(region, since),
        Failed::Answer(code, _) if no_quorum(code) => storm.troubles.met(region, since),
        Failed::Answer(..) => family.version(region) != version,
    };
    storm.count("crypto failed");
    if !excused {
        storm.wrong(format!(
            "{} cannot be used in {region}: {failure:?}",
            family.key
        ));
    }
}
