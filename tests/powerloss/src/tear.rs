//! What a power loss leaves of unsynced writes when it does not take all of them.
//!
//! A disk writes sectors whole, and those of writes that nobody synced in any order. So each sector
//! that unsynced writes touched holds what one of them left there, or what was there before all of
//! them. A change of a file's size, its truncation included, is undone unless a sector behind it was
//! kept; of names that were made, renamed or removed all are undone from some point on.

use std::collections::BTreeSet;

use crate::track::Overwritten;

/// The bytes that a disk writes whole.
const SECTOR_BYTES: u64 = 512;

/// Choices that a seed fixes (`SplitMix64`).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u32) -> Self {
        Self(u64::from(seed))
    }

    /// A number below `limit`, which is at least 1.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }
}

/// How a file's unsynced changes are torn. They come newest first.
#[derive(Default)]
pub(crate) struct Tear {
    /// Whether the newest change has been looked at. At least one sector of it is undone, so that a power loss
    /// that finds unsynced writes takes some.
    begun: bool,
    /// Sectors whose newest bytes are on the disk: what was before no longer matters.
    settled: BTreeSet<u64>,
    /// Where the last byte ends that was kept.
    end: u64,
}

/// What becomes of a change.
pub(crate) struct Fate {
    /// What is put back, and where.
    pub(crate) put_back: Vec<(u64, Vec<u8>)>,
    /// How long the file is then.
    pub(crate) size: u64,
    /// Whether some of it is undone, and some of it is there.
    pub(crate) undone: bool,
    pub(crate) kept: bool,
}

impl Tear {
    pub(crate) fn of(&mut self, change: &Overwritten, dice: &mut Dice) -> Fate {
        let reach = change.reach;
        let ends = reach.offset + reach.length;
        let mut kept = false;
        let mut undone = Vec::new();
        let first = !std::mem::replace(&mut self.begun, true);
        let gone = (first && reach.length > 0).then(|| {
            let byte = dice.below(usize::try_from(reach.length).unwrap_or(usize::MAX));
            (reach.offset + byte as u64) / SECTOR_BYTES
        });
        let mut at = reach.offset;
        while at < ends {
            let sector = at / SECTOR_BYTES;
            let until = ends.min((sector + 1) * SECTOR_BYTES);
            if self.settled.contains(&sector) {
                // A later write is there, over this one.
            } else if reach.can_tear && dice.below(2) == 1 && gone != Some(sector) {
                self.settled.insert(sector);
                self.end = self.end.max(until);
                kept = true;
            } else {
                undone.push((at, until));
            }
            at = until;
        }
        let size = change.size.max(self.end);
        let there = undone.iter().filter(|(from, _)| *from < size);
        Fate {
            put_back: there
                .map(|&(from, until)| (from, before(change, from, until.min(size))))
                .collect(),
            size,
            undone: !undone.is_empty() || !reach.can_tear,
            kept,
        }
    }
}

/// What was in a part of a change's reach before: zeros where the file ended.
fn before(change: &Overwritten, from: u64, until: u64) -> Vec<u8> {
    let index = |at: u64| usize::try_from(at - change.reach.offset).unwrap_or(usize::MAX);
    let mut bytes = vec![0; index(until) - index(from)];
    let old = change.bytes.get(index(from)..).unwrap_or_default();
    let there = old.len().min(bytes.len());
    bytes[..there].copy_from_slice(&old[..there]);
    bytes
}
