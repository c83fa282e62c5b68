//! How often each fault of a run took effect.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts by the fault's number in the plan. Clones count together.
#[derive(Clone, Default)]
pub(crate) struct Effects(Arc<Mutex<BTreeMap<usize, u64>>>);

impl Effects {
    /// A fault took effect so many times more.
    pub(crate) fn add(&self, fault: usize, times: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(fault).or_default() += times;
    }

    /// How often it did so far.
    pub(crate) fn of(&self, fault: usize) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&fault).copied().unwrap_or(0)
    }
}
