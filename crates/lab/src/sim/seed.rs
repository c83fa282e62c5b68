//! Where everything that is random or late in a run comes from: the seed.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use keyrum_types::{Clock, Entropy, UnixMillis};
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rand_chacha::{ChaCha8Rng, ChaCha20Rng};

use super::rolling::Rolling;

/// The machines' wall clocks when a run starts: in January 2027.
const EPOCH_MS: u64 = 1_800_000_000_000;

/// Random choices for one purpose. Each purpose draws from a stream of its own, so that one more
/// choice here moves nothing elsewhere.
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(Rolling::of(purpose.as_bytes()));
        Self(rng)
    }

    /// A number below `limit`, which is at least 1. The bias is far below what a run could show.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0.next_u64() % limit
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in so many of a hundred cases.
    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// An index into something with `length` entries, at least one.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("below a usize")
    }

    /// One of several.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}

/// The entropy of one machine's life.
pub(crate) struct SeededEntropy(Mutex<ChaCha20Rng>);

impl SeededEntropy {
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        rng.set_stream(Rolling::of(purpose.as_bytes()));
        Self(Mutex::new(rng))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill_bytes(bytes);
    }
}

/// Simulated time since the run started, in milliseconds. Clones are the same time.
#[derive(Clone, Default)]
pub(crate) struct Time(Arc<AtomicU64>);

impl Time {
    pub(crate) fn ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set_ms(&self, ms: u64) {
        self.0.store(ms, Ordering::Relaxed);
    }
}

/// One machine's wall clock: simulated time, and how far this machine's clock is off.
#[derive(Clone)]
pub(crate) struct SimClock {
    time: Time,
    off_by_ms: Arc<AtomicI64>,
}

impl SimClock {
    pub(crate) fn new(time: Time) -> Self {
        Self {
            time,
            off_by_ms: Arc::default(),
        }
    }

    /// Puts the clock so much ahead of the true time, or behind it if negative.
    pub(crate) fn set_off_by_ms(&self, ms: i64) {
        self.off_by_ms.store(ms, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> UnixMillis {
        let now = EPOCH_MS + self.time.ms();
        UnixMillis(now.saturating_add_signed(self.off_by_ms.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches purposes that share a stream, and a stream that its seed does not fix.
    #[test]
    fn a_seed_and_a_purpose_fix_a_stream() {
        let draw = |seed, purpose: &str| Dice::new(seed, purpose).bytes(16);
        assert_eq!(draw(1, "faults"), draw(1, "faults"));
        assert_ne!(draw(1, "faults"), draw(2, "faults"));
        assert_ne!(draw(1, "faults"), draw(1, "client-1"));
    }
}
