//! What is left to chance, from the node's own entropy.

use std::time::Duration;

use keyrum_types::Entropy;

fn number(entropy: &dyn Entropy) -> u64 {
    let mut bytes = [0; 8];
    entropy.fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Any time from 0 to `most`, each as likely.
pub(crate) fn up_to(most: Duration, entropy: &dyn Entropy) -> Duration {
    let nanos = ((most.as_nanos() + 1) * u128::from(number(entropy))) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Whether something of this probability, 0 to 1, happens.
pub(crate) fn happens(probability: f64, entropy: &dyn Entropy) -> bool {
    // 53 bits are what a float tells apart.
    const PARTS: f64 = (1_u64 << 53) as f64;
    ((number(entropy) >> 11) as f64) < probability * PARTS
}
