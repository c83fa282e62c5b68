//! Random choices that a seed fixes.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::rolling::Rolling;

/// Random choices for one purpose. Each purpose draws from a stream of its own, so that one more
/// choice here moves nothing elsewhere.
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The choices of one purpose.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(Rolling::of(purpose.as_bytes()));
        Self(rng)
    }

    /// A number below `limit`, which is at least 1. The bias is far below what a run could show.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0.next_u64() % limit
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// An index into something with `length` entries, at least one.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("below a usize")
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.fill_bytes(&mut bytes);
        bytes
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
