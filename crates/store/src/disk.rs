//! The seam between the store's logic and the machine: one folder with files and a row engine.
//!
//! Two implementations exist: `RealDisk` (sled and `std::fs`) and `SimDisk` (memory, simulated
//! power loss). Everything that decides whether data can be trusted (checksums, the high-water
//! mark, recovery checks) lives above the seam, so the simulation runs the production logic.

use std::io;
use std::path::Path;

use crate::StoreError;

/// One change to the row engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowChange {
    /// Sets a row, replacing what was there.
    Put {
        /// Ordered bytewise.
        key: Vec<u8>,
        /// At most `row::ROW_BYTES_MAX` bytes.
        value: Vec<u8>,
    },
    /// Removes a row; nothing happens when there is none.
    Remove {
        /// The row's key.
        key: Vec<u8>,
    },
}

/// A row as read back.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// A machine's disk, real or simulated.
pub trait Disk: Send + Sync + 'static {
    /// Whether a store writes on the caller's thread instead of a thread of its own. Callbacks
    /// then run inside the call that caused them.
    fn inline(&self) -> bool;

    /// Opens or creates a folder, takes its lock, and opens the row engine.
    ///
    /// `cache_bytes_max` bounds what the row engine keeps in memory.
    fn open(&self, folder: &Path, cache_bytes_max: u64) -> Result<Box<dyn Folder>, StoreError>;
}

/// An open data folder. Dropping it releases the lock.
///
/// What is written survives a power loss only after the sync that belongs to it: `sync_rows` for
/// rows, `DiskFile::sync` for a file's bytes, `sync_names` for files created, renamed or removed.
/// Unsynced row changes are lost from some point on, never an earlier one without the later ones.
pub trait Folder: Send + Sync {
    /// The folder as text, for messages.
    fn name(&self) -> String;

    /// The row engine's file relative to the folder, for messages.
    fn rows_file(&self) -> &'static str;

    /// Applies changes in the order given.
    fn apply(&self, changes: &[RowChange]) -> io::Result<()>;

    /// The last row whose key is at most `key`.
    fn row_at_or_before(&self, key: &[u8]) -> io::Result<Option<KeyValue>>;

    /// Calls `visit` with each row from `from` on, in key order, until it returns false.
    fn scan(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()>;

    /// Makes every change applied so far durable.
    fn sync_rows(&self) -> io::Result<()>;

    /// Opens a file for reading and writing, creating an empty one if `create`.
    fn file(&self, name: &str, create: bool) -> io::Result<Box<dyn DiskFile>>;

    /// The names of the files in the subfolder `subfolder` (`snapshots`), sorted.
    fn names(&self, subfolder: &str) -> io::Result<Vec<String>>;

    /// Renames a file within its subfolder, replacing what has the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and removals durable, in the folder and its subfolders.
    fn sync_names(&self) -> io::Result<()>;
}

/// An open file of a folder.
pub trait DiskFile: Send + Sync {
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills as much of `bytes` as the file has from `offset` on; returns how much.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes the bytes written so far durable.
    fn sync(&self) -> io::Result<()>;

    /// Lets the system forget what it keeps of the file in memory. Only a hint.
    fn forget(&self);
}
