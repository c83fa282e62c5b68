//! Unsealed material, kept in memory for a while: unsealing costs more than encrypting.
//!
//! Bounded. An entry is dropped, and its secret zeroed, when its key can no longer be used; what
//! is kept is never consulted before the key's state was checked.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use keyrum_crypto::MaterialSecret;
use keyrum_state::KeyRef;
use keyrum_types::MaterialId;

/// How many versions of material are kept at most.
pub(crate) const MATERIALS_MAX: usize = 10_000;

/// Independently locked parts, so that requests for different keys seldom wait for each other.
const SHARDS: usize = 16;

type Name = (KeyRef, MaterialId);

/// The cache. Which entry goes first is decided by the clock algorithm: a hand goes round and
/// takes the first entry that was not used since it last came by.
pub(crate) struct Materials {
    shards: [RwLock<Shard>; SHARDS],
    shard_max: usize,
}

#[derive(Default)]
struct Shard {
    entries: BTreeMap<Name, Entry>,
    hand: Option<Name>,
}

struct Entry {
    secret: Arc<MaterialSecret>,
    used: AtomicBool,
}

impl Materials {
    /// An empty cache for at most `max` versions, shared evenly between the parts.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            shards: Default::default(),
            shard_max: (max / SHARDS).max(1),
        }
    }

    /// The material of that name: the one kept, or what `unseal` gives, which is kept then.
    pub(crate) fn get<E>(
        &self,
        key: KeyRef,
        material: MaterialId,
        unseal: impl FnOnce() -> Result<MaterialSecret, E>,
    ) -> Result<Arc<MaterialSecret>, E> {
        let shard = self.shard(key);
        let name = (key, material);
        if let Some(entry) = shard
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .entries
            .get(&name)
        {
            entry.used.store(true, Ordering::Relaxed);
            return Ok(entry.secret.clone());
        }
        let secret = Arc::new(unseal()?);
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        while shard.entries.len() >= self.shard_max {
            shard.evict();
        }
        shard.entries.insert(
            name,
            Entry {
                secret: secret.clone(),
                used: AtomicBool::new(false),
            },
        );
        Ok(secret)
    }

    /// Drops all material of a key.
    pub(crate) fn forget(&self, key: KeyRef) {
        let mut shard = self
            .shard(key)
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        shard.entries.retain(|(other, _), _| *other != key);
    }

    /// Drops the material of every key for which `usable` is false.
    pub(crate) fn keep(&self, usable: impl Fn(KeyRef) -> bool) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.entries.retain(|(key, _), _| usable(*key));
        }
    }

    fn shard(&self, key: KeyRef) -> &RwLock<Shard> {
        // Ids are random, so their last byte spreads them.
        let last = key.id.to_bytes()[16];
        &self.shards[usize::from(last) % SHARDS]
    }

    /// How many versions of material are kept.
    pub(crate) fn len(&self) -> usize {
        let entries = |shard: &RwLock<Shard>| {
            shard
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .entries
                .len()
        };
        self.shards.iter().map(entries).sum()
    }
}

impl Shard {
    /// Moves the hand to the next entry and takes it out if it was not used meanwhile.
    fn evict(&mut self) {
        let behind = self.hand.map_or(Bound::Unbounded, Bound::Excluded);
        let mut ahead = self.entries.range((behind, Bound::Unbounded));
        let next = ahead.next().or_else(|| self.entries.iter().next());
        let Some((&name, entry)) = next else { return };
        self.hand = Some(name);
        if !entry.used.swap(false, Ordering::Relaxed) {
            self.entries.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use keyrum_types::KeyId;
    use zeroize::Zeroizing;

    use super::*;

    fn key(number: u16) -> KeyRef {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        id[15] = (number % 256) as u8;
        KeyRef {
            account: "000000000000".parse().unwrap(),
            id: KeyId::multi_region(id),
        }
    }

    fn fetch(materials: &Materials, number: u16) -> bool {
        let mut unsealed = false;
        let secret = || {
            unsealed = true;
            Ok::<_, Infallible>(MaterialSecret::from_bytes(Zeroizing::new([1; 32])))
        };
        let Ok(_) = materials.get(key(number), MaterialId([0; 32]), secret);
        unsealed
    }

    /// Catches a cache that unseals every time, or grows without bound.
    #[test]
    fn it_keeps_material_within_bounds() {
        let materials = Materials::new(64);
        assert!(fetch(&materials, 1));
        assert!(!fetch(&materials, 1));
        for number in 0..2000 {
            fetch(&materials, number);
        }
        assert!(materials.len() <= 64, "{}", materials.len());
    }

    /// Catches an eviction that takes what is in use before what is not.
    #[test]
    fn what_is_used_stays_longest() {
        let materials = Materials::new(SHARDS * 4);
        for round in 1..100 {
            fetch(&materials, 0);
            assert!(!fetch(&materials, 0), "round {round}");
            // Others of the same shard pass through.
            fetch(&materials, round * SHARDS as u16);
        }
    }

    /// Catches material that outlives its key's use.
    #[test]
    fn it_forgets_keys() {
        let materials = Materials::new(64);
        fetch(&materials, 1);
        fetch(&materials, 2);
        fetch(&materials, 3);
        materials.forget(key(1));
        assert!(fetch(&materials, 1));
        assert!(!fetch(&materials, 2));
        materials.keep(|kept| kept == key(3));
        assert_eq!(materials.len(), 1);
        assert!(!fetch(&materials, 3));
    }
}
