//! Unsealed material, ready for use and kept in memory for a while: unsealing costs more than
//! encrypting, and taking an RSA key apart more than a check of its signatures.
//!
//! Bounded, in versions and in bytes. An entry is dropped, and its secret zeroed, when its key can no longer be used; what
//! is kept is never consulted before the key's state was checked.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use keyrum_crypto::{MaterialSecret, UsableKey};
use keyrum_state::KeyRef;
use keyrum_types::{KeyFamily, KeySpec, MaterialId};

/// How many versions of material are kept at most.
pub(crate) const MATERIALS_MAX: usize = 10_000;

/// How much memory they take at most, by [`Ready::bytes`]: 64 MiB. Ten thousand keys that are
/// symmetric, HMAC or on a curve fit, 1,500 to 2,500 RSA keys, and 500 ML-DSA keys.
pub(crate) const MATERIALS_BYTES_MAX: usize = 64 << 20;

/// Independently locked parts, so that requests for different keys seldom wait for each other.
const SHARDS: usize = 16;

type Name = (KeyRef, MaterialId);

/// One version of a key's material, ready for use.
pub(crate) enum Ready {
    /// A symmetric encryption key's, which ciphertexts name.
    Secret(MaterialSecret),
    /// That of any other key, taken apart.
    Key(UsableKey),
}

impl Ready {
    /// What it takes in memory, at the least favourable: measured as the growth of a process that
    /// keeps a thousand, and rounded up. Unit: bytes.
    fn bytes(&self) -> usize {
        match self {
            Self::Secret(_) => 512,
            Self::Key(key) => usable_bytes(key.spec()),
        }
    }
}

/// The cache. Which entry goes first is decided by the clock algorithm: a hand goes round and
/// takes the first entry that was not used since it last came by.
pub(crate) struct Materials {
    shards: [RwLock<Shard>; SHARDS],
    shard_max: usize,
    shard_bytes_max: usize,
}

#[derive(Default)]
struct Shard {
    entries: BTreeMap<Name, Entry>,
    /// What all entries take together.
    bytes: usize,
    hand: Option<Name>,
}

struct Entry {
    ready: Arc<Ready>,
    used: AtomicBool,
}

impl Materials {
    /// An empty cache for at most `max` versions of at most `bytes_max` bytes together, both
    /// shared evenly between the parts.
    pub(crate) fn new(max: usize, bytes_max: usize) -> Self {
        Self {
            shards: Default::default(),
            shard_max: (max / SHARDS).max(1),
            shard_bytes_max: bytes_max / SHARDS,
        }
    }

    /// The material of that name: the one kept, or what `prepare` gives, which is kept then.
    pub(crate) fn get<E>(
        &self,
        key: KeyRef,
        material: MaterialId,
        prepare: impl FnOnce() -> Result<Ready, E>,
    ) -> Result<Arc<Ready>, E> {
        let shard = self.shard(key);
        let name = (key, material);
        if let Some(entry) = shard
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .entries
            .get(&name)
        {
            entry.used.store(true, Ordering::Relaxed);
            return Ok(entry.ready.clone());
        }
        let ready = Arc::new(prepare()?);
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        // Another request may have put it there meanwhile.
        shard.remove(&name);
        let bytes = ready.bytes();
        while shard.entries.len() >= self.shard_max
            || (shard.bytes + bytes > self.shard_bytes_max && !shard.entries.is_empty())
        {
            shard.evict();
        }
        shard.bytes += bytes;
        shard.entries.insert(
            name,
            Entry {
                ready: ready.clone(),
                used: AtomicBool::new(false),
            },
        );
        Ok(ready)
    }

    /// Drops all material of a key.
    pub(crate) fn forget(&self, key: KeyRef) {
        let mut shard = self
            .shard(key)
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        shard.retain(|other| other != key);
    }

    /// Drops the material of every key for which `usable` is false.
    pub(crate) fn keep(&self, usable: impl Fn(KeyRef) -> bool) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.retain(&usable);
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
    fn retain(&mut self, wanted: impl Fn(KeyRef) -> bool) {
        self.entries.retain(|(key, _), _| wanted(*key));
        self.bytes = self.entries.values().map(|entry| entry.ready.bytes()).sum();
    }

    fn remove(&mut self, name: &Name) {
        if let Some(entry) = self.entries.remove(name) {
            self.bytes -= entry.ready.bytes();
        }
    }

    /// Moves the hand to the next entry and takes it out if it was not used meanwhile.
    fn evict(&mut self) {
        let behind = self.hand.map_or(Bound::Unbounded, Bound::Excluded);
        let mut ahead = self.entries.range((behind, Bound::Unbounded));
        let next = ahead.next().or_else(|| self.entries.iter().next());
        let Some((&name, entry)) = next else { return };
        self.hand = Some(name);
        if !entry.used.swap(false, Ordering::Relaxed) {
            self.remove(&name);
        }
    }
}

/// What a key of that spec takes, taken apart and used. An ML-DSA key's share is that of one whose
/// callers use mu; without, it is a seventh.
fn usable_bytes(spec: KeySpec) -> usize {
    let kib = match spec.family() {
        KeyFamily::Symmetric | KeyFamily::Hmac | KeyFamily::Sm2 => 2,
        KeyFamily::Ecc => 3,
        KeyFamily::Rsa => match spec.rsa_bits() {
            Some(2048) => 26,
            _ => 44,
        },
        KeyFamily::MlKem => 8,
        KeyFamily::MlDsa => 128,
    };
    kib << 10
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
            let secret = MaterialSecret::from_bytes(Zeroizing::new([1; 32]));
            Ok::<_, Infallible>(Ready::Secret(secret))
        };
        let Ok(_) = materials.get(key(number), MaterialId([0; 32]), secret);
        unsealed
    }

    /// Catches a cache that unseals every time, or grows without bound.
    #[test]
    fn it_keeps_material_within_bounds() {
        let materials = Materials::new(64, MATERIALS_BYTES_MAX);
        assert!(fetch(&materials, 1));
        assert!(!fetch(&materials, 1));
        for number in 0..2000 {
            fetch(&materials, number);
        }
        assert!(materials.len() <= 64, "{}", materials.len());
    }

    /// Catches a cache that counts versions only, and a count of bytes that drifts as keys come and
    /// go.
    #[test]
    fn it_keeps_bytes_within_bounds() {
        let materials = Materials::new(10_000, SHARDS * 3 * 512);
        for number in 0..500 {
            fetch(&materials, number);
            // In the second half only one pushes out another, which must be counted by itself.
            if number < 250 && number % 3 == 0 {
                materials.forget(key(number));
            }
            if number < 250 && number % 100 == 0 {
                materials.keep(|kept| kept != key(number.saturating_sub(1)));
            }
        }
        for shard in &materials.shards {
            let shard = shard.read().unwrap();
            assert_eq!(shard.bytes, shard.entries.len() * 512);
            assert!((1..=3).contains(&shard.entries.len()));
        }
        // One that is larger than its part can be used nevertheless.
        let small = Materials::new(64, SHARDS);
        assert!(fetch(&small, 1) && fetch(&small, 1 + SHARDS as u16));
        assert_eq!(small.len(), 1);
    }

    /// Catches an eviction that takes what is in use before what is not.
    #[test]
    fn what_is_used_stays_longest() {
        let materials = Materials::new(SHARDS * 4, MATERIALS_BYTES_MAX);
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
        let materials = Materials::new(64, MATERIALS_BYTES_MAX);
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
