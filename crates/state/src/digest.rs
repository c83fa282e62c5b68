//! A fingerprint of contents that can be kept up to date one row at a time.
//!
//! It is the wrapping sum of a hash of every row's encoding, so the order of changes does not
//! matter and a change costs the rows it touches. It finds replicas that differ through a fault;
//! it is no defence against someone who builds a collision on purpose.

use std::fmt;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use crate::codec;
use crate::contents::Row;

/// Part of the format: another seed is another digest. Spells `keyrum-1`.
const SEED: u64 = 0x6b65_7972_756d_2d31;

/// A sum over all contents of a state; 32 hex digits in text.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest(pub u128);

impl Digest {
    pub(crate) fn add(&mut self, share: Share) {
        self.0 = self.0.wrapping_add(share.hash());
    }

    pub(crate) fn subtract(&mut self, share: Share) {
        self.0 = self.0.wrapping_sub(share.hash());
    }
}

/// What one row adds to a digest. In halves, since a row that keeps it needs no more room then than it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share([u64; 2]);

impl Share {
    /// The encoding opens with the format's version and the row's kind, so rows of different kinds
    /// or formats never look alike.
    pub(crate) fn of(row: &Row) -> Self {
        if row.is_left_out() {
            return Self([0; 2]);
        }
        let hash = codec::encoded(row, |bytes| XxHash3_128::oneshot_with_seed(SEED, bytes));
        Self([(hash >> 64) as u64, hash as u64])
    }

    fn hash(self) -> u128 {
        let [high, low] = self.0;
        u128::from(high) << 64 | u128::from(low)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}
