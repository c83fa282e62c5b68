//! Where everything that is random or late in a run comes from: the seed.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use keyrum_types::{Clock, Entropy, UnixMillis};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::rolling::Rolling;

/// The machines' wall clocks when a run starts: in January 2027.
const EPOCH_MS: u64 = 1_800_000_000_000;

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
    /// How often it was read while it was off.
    reads_off: Arc<AtomicU64>,
}

impl SimClock {
    pub(crate) fn new(time: Time) -> Self {
        Self {
            time,
            off_by_ms: Arc::default(),
            reads_off: Arc::default(),
        }
    }

    /// Puts the clock so much ahead of the true time, or behind it if negative.
    pub(crate) fn set_off_by_ms(&self, ms: i64) {
        self.off_by_ms.store(ms, Ordering::Relaxed);
    }

    /// How often it was read while it was off, since this was asked last.
    pub(crate) fn take_reads_off(&self) -> u64 {
        self.reads_off.swap(0, Ordering::Relaxed)
    }
}

impl Clock for SimClock {
    fn now(&self) -> UnixMillis {
        let now = EPOCH_MS + self.time.ms();
        let off_by_ms = self.off_by_ms.load(Ordering::Relaxed);
        if off_by_ms != 0 {
            self.reads_off.fetch_add(1, Ordering::Relaxed);
        }
        UnixMillis(now.saturating_add_signed(off_by_ms))
    }
}
