//! Repeatable randomness for this crate's tests.

use std::sync::atomic::{AtomicU64, Ordering};

use keyrum_types::Entropy;

/// Counts up from a seed, so that every draw differs and every run is the same.
pub(crate) struct CountingEntropy(pub(crate) AtomicU64);

impl Entropy for CountingEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            let step = self.0.fetch_add(1, Ordering::Relaxed);
            *byte = (step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
        }
    }
}
