//! A node's durable memory: Raft log, vote, event history, snapshots and small named records.
//!
//! This crate knows bytes, not keys, and nothing of Raft's rules. It is the only one that knows
//! sled. What it promises:
//!
//! - **Acknowledged means synced.** An append's callback comes after its rows were synced in the
//!   journal; the return of every method that says "durable" after the database was synced, and
//!   after the high-water mark that covers it was synced as well.
//! - **Nothing is lost in silence.** Every record carries a format version and a checksum. sled's
//!   recovery drops everything from the first bad record on, so the mark says what must be there;
//!   a store that opens below it, or with any damage, refuses.
//! - **Idle costs nothing**: a second after the last write the database gets what the journal has;
//!   then there is no timer, no write, no wake-up.
//!
//! Methods that say they block wait for the disk; callers in async code run them elsewhere.

mod damage;
mod disk;
mod error;
mod failing;
mod journal;
mod mark;
mod real;
mod recovery;
mod row;
mod shared;
mod sim;
mod snapshot;
mod store;
mod writer;

pub use damage::{DAMAGE_FILES, Damage, Damaged, damage};
pub use disk::{Disk, DiskFile, Folder, KeyValue, RowChange};
pub use error::StoreError;
pub use failing::{DiskFault, DiskFaults, FailingDisk};
pub use real::RealDisk;
pub use sim::{Fate, SimDisk, Toll};
pub use snapshot::SnapshotReader;
pub use store::{AppendDone, LogRange, LogRow, Store, StoreConfig};
