//! GetKeyLastUsage, and what a node notes of the uses it answered.
//!
//! A use costs no entry in the log: each node notes the last one of every key and has what is new
//! committed once a minute at most, so that all nodes know it soon and none forgets it. What a node
//! noted within its last minute is lost when it dies; the real service is up to an hour late, too.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyrum_state::{
    Command, KEY_USES_MAX, Key, KeyRef, KeyUse, LastUse, NoFacts, State, permit_key,
};
use keyrum_types::{CryptographicOperation, UnixMillis, key_arn};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::resolve::Accounts;
use crate::{KeyInput, RequestContext, Service, ServiceError};

/// From the first use that is noted to its being committed.
const NOTED_FOR: Duration = Duration::from_secs(60);

/// Independently locked parts, so that requests for different keys seldom wait for each other.
const SHARDS: usize = 16;

/// The uses that are not committed yet, the last one of each key.
#[derive(Default)]
pub(crate) struct Uses {
    shards: [Mutex<BTreeMap<KeyRef, LastUse>>; SHARDS],
    noted: Notify,
}

/// What GetKeyLastUsage answers.
///
/// Deviation: no CloudTrail event id, since there is no CloudTrail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetKeyLastUsageOutput {
    /// The key's ARN.
    pub key_arn: String,
    /// `None` if it was never used.
    pub last: Option<LastUse>,
    /// When it was created: uses are noted from then on.
    pub created: UnixMillis,
}

impl Uses {
    fn shard(&self, key: KeyRef) -> MutexGuard<'_, BTreeMap<KeyRef, LastUse>> {
        // Ids are random, so their last byte spreads them.
        let last = key.id.to_bytes()[16];
        Self::lock(&self.shards[usize::from(last) % SHARDS])
    }

    fn lock(shard: &Mutex<BTreeMap<KeyRef, LastUse>>) -> MutexGuard<'_, BTreeMap<KeyRef, LastUse>> {
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, key: KeyRef, last: LastUse) {
        let first = {
            let mut shard = self.shard(key);
            let first = shard.is_empty();
            let noted = shard.entry(key).or_insert(last);
            if noted.at <= last.at {
                *noted = last;
            }
            first
        };
        if first {
            self.noted.notify_one();
        }
    }

    fn of(&self, key: KeyRef) -> Option<LastUse> {
        self.shard(key).get(&key).copied()
    }

    fn all(&self) -> Vec<KeyUse> {
        let of = |shard: &Mutex<BTreeMap<KeyRef, LastUse>>| -> Vec<KeyUse> {
            let shard = Self::lock(shard);
            shard
                .iter()
                .map(|(&key, &last)| KeyUse { key, last })
                .collect()
        };
        self.shards.iter().flat_map(of).collect()
    }

    /// Forgets what is committed and was not followed by a later use.
    fn forget(&self, committed: &[KeyUse]) {
        for used in committed {
            let mut shard = self.shard(used.key);
            if shard.get(&used.key) == Some(&used.last) {
                shard.remove(&used.key);
            }
        }
    }
}

impl Service {
    /// Notes that a key was used with success.
    pub(crate) fn note_use(
        &self,
        ctx: &RequestContext,
        state: &State,
        key: &Key,
        operation: CryptographicOperation,
    ) {
        let last = LastUse {
            at: state.region_time(self.inner.world.clock.now()),
            operation,
            request: ctx.request,
        };
        self.inner.uses.note(key.reference(), last);
    }

    /// Has what is noted committed, as long as this node runs.
    pub(crate) async fn record_uses(&self) {
        loop {
            self.inner.uses.noted.notified().await;
            // Also after a failure: what is noted stays, and nobody notifies again.
            while !self.inner.uses.all().is_empty() {
                sleep(NOTED_FOR).await;
                if let Err(error) = self.commit_uses().await {
                    tracing::debug!(%error, "the uses of keys could not be committed");
                }
            }
        }
    }

    /// Has all that is noted now committed.
    pub(crate) async fn commit_uses(&self) -> Result<(), ServiceError> {
        for uses in self.inner.uses.all().chunks(KEY_USES_MAX) {
            let command = Command::RecordKeyUses {
                uses: uses.to_vec(),
            };
            self.propose_as_region(command).await?;
            self.inner.uses.forget(uses);
        }
        Ok(())
    }

    /// When and how a key was last used with success, as this node and the log know.
    pub async fn get_key_last_usage(
        &self,
        ctx: &RequestContext,
        input: KeyInput,
    ) -> Result<GetKeyLastUsageOutput, ServiceError> {
        let name = self.key_only(ctx, &input.key_id, Accounts::Own)?;
        let state = self.read(ctx).await?;
        let target = permit_key(&state, &ctx.caller, name, "GetKeyLastUsage", &NoFacts)?;
        let known = [state.last_use(name), self.inner.uses.of(name)];
        Ok(GetKeyLastUsageOutput {
            key_arn: key_arn(state.region(), name.account, name.id),
            last: known.into_iter().flatten().max_by_key(|last| last.at),
            created: target.key().created,
        })
    }
}

#[cfg(test)]
mod tests {
    use keyrum_types::KeyId;

    use super::*;

    fn used(byte: u8, at: u64) -> KeyUse {
        KeyUse {
            key: KeyRef {
                account: "111122223333".parse().unwrap(),
                id: KeyId::multi_region([byte; 16]),
            },
            last: LastUse {
                at: UnixMillis(at),
                operation: CryptographicOperation::Decrypt,
                request: [byte; 16],
            },
        }
    }

    /// Catches an earlier use that hides a later one, keys that are mixed up, and a use that came
    /// while the one before it was being committed and is forgotten with it.
    #[test]
    fn the_last_use_of_each_key_stays_until_it_is_committed() {
        let uses = Uses::default();
        for (byte, at) in [(1, 5), (1, 4), (2, 1), (17, 9)] {
            uses.note(used(byte, at).key, used(byte, at).last);
        }
        let mut all = uses.all();
        all.sort_by_key(|used| used.key);
        assert_eq!(all, [used(1, 5), used(2, 1), used(17, 9)]);
        uses.note(used(2, 1).key, used(2, 7).last);
        uses.forget(&all);
        assert_eq!(uses.all(), [used(2, 7)]);
        assert_eq!(uses.of(used(2, 0).key), Some(used(2, 7).last));
        assert_eq!(uses.of(used(1, 0).key), None);
    }
}
