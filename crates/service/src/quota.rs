//! Request quotas: how many calls an account may make in a second.
//!
//! Calls draw from buckets, each of an account, on the node that answers: operations on keys' material
//! share one for each kind of key, all others have one of their own. A second is one of the machine's
//! clock and has nothing to do with the one before it.
//! Source: AWS KMS Developer Guide, "Request quotas".

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use keyrum_state::{Event, FamilyChange, Key};
use keyrum_types::{AccountId, DataKeyPairSpec, KeyFamily, Region, UnixMillis};

use crate::{RequestContext, Service, ServiceError};

/// Most accounts whose calls are counted at a time; beyond, those that were quiet in this second are
/// forgotten.
const ACCOUNTS_MAX: usize = 10_000;

/// Low bits of a counter, for the number of calls; the second is above them.
const COUNT_BITS: u32 = 24;

/// Regions with more calls a second on symmetric keys than others.
const LARGE: (&[&str], u32) = (&["us-east-1", "us-west-2", "eu-west-1"], 100_000);
const MEDIUM: (&[&str], u32) = (
    &[
        "us-east-2",
        "ap-southeast-1",
        "ap-southeast-2",
        "ap-northeast-1",
        "eu-central-1",
        "eu-west-2",
    ],
    20_000,
);
const SMALL: u32 = 10_000;

/// What calls that use keys' material draw from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shared {
    /// SYMMETRIC_DEFAULT and HMAC keys, and GenerateRandom.
    Symmetric,
    Rsa,
    /// Also SM2.
    Ecc,
    MlDsa,
    MlKem,
}

/// Of the shared buckets but the symmetric one, whose rate depends on the Region.
/// Deviation: the rate for ML-KEM is not published; it is taken to be the other asymmetric ones'.
const ASYMMETRIC: u32 = 1000;

/// The rate of each operation that has a bucket of its own, by name.
const OWN: &[(&str, u32)] = &[
    ("CancelKeyDeletion", 5),
    ("ConnectCustomKeyStore", 5),
    ("CreateAlias", 5),
    ("CreateCustomKeyStore", 5),
    ("CreateGrant", 50),
    ("CreateKey", 5),
    ("DeleteAlias", 15),
    ("DeleteCustomKeyStore", 5),
    ("DeleteImportedKeyMaterial", 15),
    ("DescribeCustomKeyStores", 5),
    ("DescribeKey", 2000),
    ("DisableKey", 5),
    ("DisableKeyRotation", 5),
    ("DisconnectCustomKeyStore", 5),
    ("EnableKey", 5),
    ("EnableKeyRotation", 15),
    ("GetKeyLastUsage", 5),
    ("GetKeyPolicy", 1000),
    ("GetKeyRotationStatus", 1000),
    ("GetParametersForImport", 1),
    ("GetPublicKey", 2000),
    ("ImportKeyMaterial", 15),
    ("ListAliases", 500),
    ("ListGrants", 100),
    ("ListKeyPolicies", 100),
    ("ListKeyRotations", 100),
    ("ListKeys", 500),
    ("ListResourceTags", 2000),
    ("ListRetirableGrants", 100),
    ("PutKeyPolicy", 15),
    ("ReplicateKey", 5),
    ("RetireGrant", 50),
    ("RevokeGrant", 50),
    ("RotateKeyOnDemand", 5),
    ("ScheduleKeyDeletion", 15),
    ("TagResource", 10),
    ("UntagResource", 5),
    ("UpdateAlias", 5),
    ("UpdateCustomKeyStore", 5),
    ("UpdateKeyDescription", 5),
    ("UpdatePrimaryRegion", 5),
];

/// The first buckets are the shared ones, then come one for each spec of data key pairs, and then the
/// operations' own.
const PAIRS_FROM: usize = 5;
const OWN_FROM: usize = PAIRS_FROM + DataKeyPairSpec::ALL.len();
const BUCKETS: usize = OWN_FROM + OWN.len();

/// A bucket's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket(usize);

impl Bucket {
    fn own(operation: &str) -> Option<Self> {
        let at = OWN.binary_search_by(|(name, _)| (*name).cmp(operation));
        at.ok().map(|at| Self(OWN_FROM + at))
    }

    fn pair(spec: DataKeyPairSpec) -> Option<Self> {
        let at = DataKeyPairSpec::ALL.iter().position(|known| *known == spec);
        at.map(|at| Self(PAIRS_FROM + at))
    }

    /// What using a key draws from.
    fn of(family: KeyFamily) -> Self {
        let shared = match family {
            KeyFamily::Symmetric | KeyFamily::Hmac => Shared::Symmetric,
            KeyFamily::Rsa => Shared::Rsa,
            KeyFamily::MlDsa => Shared::MlDsa,
            KeyFamily::MlKem => Shared::MlKem,
            KeyFamily::Ecc | KeyFamily::Sm2 => Shared::Ecc,
        };
        Self(shared as usize)
    }
}

/// Calls in a second on data key pairs of a spec.
/// Deviation: the rate for ML-KEM is not published; it is taken to be that of elliptic curves, which
/// are made as fast.
fn pair_rate(spec: DataKeyPairSpec) -> u32 {
    match spec.name() {
        "RSA_2048" => 20,
        "RSA_3072" => 4,
        "RSA_4096" => 1,
        "SM2" => 25,
        _ => 100,
    }
}

type Counters = [AtomicU64; BUCKETS];

/// One node's request quotas. None are kept unless somebody makes this.
pub struct RequestQuotas {
    /// Calls in a second, by bucket.
    rates: [u32; BUCKETS],
    accounts: RwLock<HashMap<AccountId, Arc<Counters>>>,
}

impl RequestQuotas {
    /// The real service's quotas of a Region, each times `factor` and rounded down, but at least 1.
    pub fn new(region: &Region, factor: f64) -> Self {
        let (region, listed) = (region.as_str(), |(names, rate): (&[&str], u32), region| {
            names.contains(&region).then_some(rate)
        });
        let symmetric = listed(LARGE, region)
            .or(listed(MEDIUM, region))
            .unwrap_or(SMALL);
        let mut rates = [ASYMMETRIC; BUCKETS];
        rates[Shared::Symmetric as usize] = symmetric;
        for (at, spec) in DataKeyPairSpec::ALL.iter().enumerate() {
            rates[PAIRS_FROM + at] = pair_rate(*spec);
        }
        for (at, (_, rate)) in OWN.iter().enumerate() {
            rates[OWN_FROM + at] = *rate;
        }
        // The casts saturate, and no rate is near what a counter holds.
        let scale = |rate: u32| ((f64::from(rate) * factor) as u32).clamp(1, 1 << (COUNT_BITS - 1));
        Self {
            rates: rates.map(scale),
            accounts: RwLock::default(),
        }
    }

    /// Draws one call, if there is one left in this second.
    fn draw(
        &self,
        account: AccountId,
        bucket: Bucket,
        now: UnixMillis,
    ) -> Result<(), ServiceError> {
        let rate = u64::from(self.rates[bucket.0]);
        let counter = &self.counters(account, now)[bucket.0];
        let drawn = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |counter| {
            let drawn = drawn_in(counter, now);
            (drawn < rate).then(|| counter_of(now, drawn + 1))
        });
        drawn.map(drop).map_err(|_| ServiceError::Throttled)
    }

    /// Draws calls that have been made already.
    fn note(&self, account: AccountId, bucket: Bucket, now: UnixMillis, calls: u64) {
        let counter = &self.counters(account, now)[bucket.0];
        let most = (1 << COUNT_BITS) - 1;
        let add = |counter| Some(counter_of(now, (drawn_in(counter, now) + calls).min(most)));
        let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    fn counters(&self, account: AccountId, now: UnixMillis) -> Arc<Counters> {
        // A panic elsewhere leaves a whole map behind.
        let known = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(counters) = known.get(&account) {
            return counters.clone();
        }
        drop(known);
        let mut known = self
            .accounts
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ACCOUNTS_MAX {
            known.retain(|_, counters| {
                let mut counters = counters.iter();
                counters.any(|counter| drawn_in(counter.load(Ordering::Relaxed), now) > 0)
            });
        }
        if known.len() >= ACCOUNTS_MAX {
            // So many in one second are no accounts of anybody's.
            known.clear();
        }
        let new = || Arc::new([const { AtomicU64::new(0) }; BUCKETS]);
        known.entry(account).or_insert_with(new).clone()
    }
}

/// How many calls a counter holds for the second of `now`.
fn drawn_in(counter: u64, now: UnixMillis) -> u64 {
    match counter >> COUNT_BITS == second(now) {
        true => counter & ((1 << COUNT_BITS) - 1),
        false => 0,
    }
}

fn counter_of(now: UnixMillis, drawn: u64) -> u64 {
    second(now) << COUNT_BITS | drawn
}

/// Cut to what a counter has room for, which is enough for a million years.
fn second(now: UnixMillis) -> u64 {
    (now.0 / 1000) & (u64::MAX >> COUNT_BITS)
}

impl Service {
    /// Draws a call of an operation that does not use keys' material; of one that does, the call is drawn
    /// once the key is known, so that one that is refused before does not count.
    /// Deviation: whether the real service counts calls that it refuses is not known. Those of other
    /// operations count here.
    pub fn admit(&self, ctx: &RequestContext, operation: &str) -> Result<(), ServiceError> {
        let Some(quotas) = &self.inner.settings.request_quotas else {
            return Ok(());
        };
        match Bucket::own(operation) {
            Some(bucket) => quotas.draw(ctx.caller.account, bucket, self.inner.world.clock.now()),
            None => Ok(()),
        }
    }

    /// Draws a use of a key, also in a dry run.
    pub(crate) fn admit_use(&self, ctx: &RequestContext, key: &Key) -> Result<(), ServiceError> {
        self.admit_bucket(ctx, || Some(Bucket::of(key.spec.family())))
    }

    /// Draws a ReEncrypt: one use of each key.
    /// Deviation: with both keys in one bucket the real service may count two; here it is one.
    pub(crate) fn admit_uses(
        &self,
        ctx: &RequestContext,
        from: &Key,
        to: &Key,
    ) -> Result<(), ServiceError> {
        self.admit_use(ctx, from)?;
        match Bucket::of(from.spec.family()) == Bucket::of(to.spec.family()) {
            true => Ok(()),
            false => self.admit_use(ctx, to),
        }
    }

    /// Draws a new data key pair.
    pub(crate) fn admit_pair(
        &self,
        ctx: &RequestContext,
        spec: DataKeyPairSpec,
    ) -> Result<(), ServiceError> {
        self.admit_bucket(ctx, || Bucket::pair(spec))
    }

    /// Draws random bytes.
    pub(crate) fn admit_random(&self, ctx: &RequestContext) -> Result<(), ServiceError> {
        self.admit_bucket(ctx, || Some(Bucket(Shared::Symmetric as usize)))
    }

    fn admit_bucket(
        &self,
        ctx: &RequestContext,
        bucket: impl FnOnce() -> Option<Bucket>,
    ) -> Result<(), ServiceError> {
        let Some(quotas) = &self.inner.settings.request_quotas else {
            return Ok(());
        };
        let account = ctx.caller.account;
        let now = self.inner.world.clock.now();
        bucket().map_or(Ok(()), |bucket| quotas.draw(account, bucket, now))
    }

    /// Draws what another Region's calls draw here: two CreateKey for a replica, one UpdatePrimaryRegion
    /// for a move to this Region. They are decided, so they are not refused.
    pub(crate) fn note_calls_elsewhere(&self, events: &[Event]) {
        let Some(quotas) = &self.inner.settings.request_quotas else {
            return;
        };
        let now = self.inner.world.clock.now();
        for event in events {
            let (account, operation, calls) = match event {
                Event::KeyReplicated { key, .. } => (key.account, "CreateKey", 2),
                Event::FamilyChanged {
                    key,
                    change: FamilyChange::MoveReserved { .. },
                    ..
                } => (key.account, "UpdatePrimaryRegion", 1),
                _ => continue,
            };
            if let Some(bucket) = Bucket::own(operation) {
                quotas.note(account, bucket, now, calls);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn account(number: u64) -> AccountId {
        format!("{number:012}").parse().unwrap()
    }

    fn drawn(quotas: &RequestQuotas, account: AccountId, bucket: Bucket, now: UnixMillis) -> u32 {
        let draws = std::iter::repeat_with(|| quotas.draw(account, bucket, now));
        u32::try_from(draws.take_while(Result::is_ok).count()).unwrap()
    }

    /// Catches a rate that is not the table's, calls of one account, bucket or second that are drawn from
    /// another's, and a list that is not sorted, so that an operation is not found.
    #[test]
    fn buckets_are_apart() {
        let quotas = RequestQuotas::new(&"us-east-2".parse().unwrap(), 1.0);
        for ((name, rate), next) in OWN.iter().zip(OWN.iter().skip(1)) {
            assert!(*name < next.0);
            let bucket = Bucket::own(name).unwrap();
            assert_eq!(drawn(&quotas, account(1), bucket, NOW), *rate, "{name}");
        }
        assert_eq!(Bucket::own("Encrypt"), None);
        let bucket = Bucket::own("CreateKey").unwrap();
        assert_eq!(drawn(&quotas, account(1), bucket, NOW.plus_ms(999)), 0);
        assert_eq!(drawn(&quotas, account(2), bucket, NOW), 5);
        assert_eq!(drawn(&quotas, account(1), bucket, NOW.plus_ms(1000)), 5);
        // Also if the clock goes back.
        assert_eq!(drawn(&quotas, account(1), bucket, NOW), 5);
        for (family, rate) in [
            (KeyFamily::Symmetric, 20_000),
            (KeyFamily::Hmac, 0),
            (KeyFamily::Rsa, 1000),
            (KeyFamily::MlDsa, 1000),
        ] {
            assert_eq!(
                drawn(&quotas, account(1), Bucket::of(family), NOW),
                rate,
                "{family:?}"
            );
        }
        for (name, rate) in [
            ("RSA_2048", 20),
            ("RSA_3072", 4),
            ("ECC_NIST_P256", 100),
            ("SM2", 25),
        ] {
            let spec = DataKeyPairSpec::from_name(name).unwrap();
            let bucket = Bucket::pair(spec).unwrap();
            assert_eq!(drawn(&quotas, account(1), bucket, NOW), rate, "{name}");
        }
        let small = RequestQuotas::new(&"sa-east-1".parse().unwrap(), 0.001);
        assert_eq!(drawn(&small, account(1), Bucket(0), NOW), 10);
        assert_eq!(drawn(&small, account(1), bucket, NOW), 1);
        let large = RequestQuotas::new(&"eu-west-1".parse().unwrap(), 1.0);
        assert_eq!(drawn(&large, account(1), Bucket(0), NOW), 100_000);
    }

    /// Catches calls made elsewhere that do not count, and memory that grows with made-up accounts.
    #[test]
    fn accounts_are_bounded() {
        let quotas = RequestQuotas::new(&"us-east-1".parse().unwrap(), 1.0);
        let bucket = Bucket::own("CreateKey").unwrap();
        quotas.note(account(0), bucket, NOW, 2);
        assert_eq!(drawn(&quotas, account(0), bucket, NOW), 3);
        for number in 1..25_000 {
            quotas.draw(account(number), bucket, NOW).unwrap();
            assert!(quotas.accounts.read().unwrap().len() <= ACCOUNTS_MAX);
        }
        let later = NOW.plus_ms(1000);
        quotas.draw(account(1), bucket, later).unwrap();
        quotas.draw(account(30_000), bucket, later).unwrap();
        assert_eq!(drawn(&quotas, account(1), bucket, later), 4);
    }
}
