//! The machine's own disk: sled for rows, `std::fs` for files. The only module that knows sled.
//!
//! What has to be known about sled 0.34.7: its `flush` writes and calls `sync_file_range`, which
//! is not a sync, so the database file is synced here after each flush. It never syncs its folder
//! or its `conf` file: done here on creation. It syncs no *blob* files either; the store's rows
//! are small enough that there are none. A leftover of an interrupted open (`*.generating`) would
//! be taken for a damaged file, so it is removed.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::StoreError;
use crate::disk::{Disk, DiskFile, Folder, KeyValue, RowChange};
use crate::error::from_io;
use crate::snapshot;

const LOCK: &str = "lock";
const ROWS: &str = "rows";
pub(crate) const ROWS_FILE: &str = "rows/db";

/// The machine's own disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl RealDisk {
    /// The disk as `Store::open` takes it.
    pub fn shared() -> Arc<dyn Disk> {
        Arc::new(Self)
    }
}

impl Disk for RealDisk {
    fn inline(&self) -> bool {
        false
    }

    fn open(&self, folder: &Path, cache_bytes_max: u64) -> Result<Box<dyn Folder>, StoreError> {
        RealFolder::open(folder, cache_bytes_max).map(|folder| Box::new(folder) as Box<dyn Folder>)
    }
}

/// Fields drop in this order: the lock goes last.
struct RealFolder {
    rows: sled::Db,
    rows_file: File,
    path: PathBuf,
    _lock: File,
}

impl RealFolder {
    fn open(path: &Path, cache_bytes_max: u64) -> Result<Self, StoreError> {
        let wrap = |name: &str, during: &str| {
            let file = path.join(name).display().to_string();
            let during = during.to_owned();
            move |error: io::Error| from_io(file, &during, &error)
        };
        let new = !path.exists();
        fs::create_dir_all(path.join(snapshot::FOLDER)).map_err(wrap("", "creating the folder"))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK))
            .map_err(wrap(LOCK, "opening"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked {
                    folder: path.display().to_string(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(wrap(LOCK, "locking")(error)),
        }
        if new && let Some(parent) = path.parent() {
            let parent = if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            };
            sync_folder(parent).map_err(wrap("", "syncing the parent folder"))?;
        }
        prepare_rows(&path.join(ROWS)).map_err(wrap(ROWS_FILE, "opening"))?;
        let rows = open_rows(&path.join(ROWS), cache_bytes_max)
            .map_err(wrap(ROWS_FILE, "opening the database"))?;
        let opened = || -> io::Result<File> {
            let rows_file = File::options()
                .read(true)
                .write(true)
                .open(path.join(ROWS_FILE))?;
            rows_file.sync_all()?;
            File::open(path.join(ROWS).join("conf"))?.sync_all()?;
            sync_folder(&path.join(ROWS))?;
            sync_folder(path)?;
            Ok(rows_file)
        };
        let rows_file = opened().map_err(wrap(ROWS_FILE, "syncing a new folder"))?;
        Ok(Self {
            rows,
            rows_file,
            path: path.to_owned(),
            _lock: lock,
        })
    }
}

/// What sled needs before it opens a folder it may have left in the middle of something.
fn prepare_rows(folder: &Path) -> io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    // sled is about to note, in a file that it does sync, how far the database goes. After a
    // process ended without a sync that tail is only in the kernel's memory; without this, a power
    // loss would take it away and leave the note.
    match File::options().write(true).open(folder.join("db")) {
        Ok(file) => file.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "bounded wait in the real disk, see below"
)]
fn open_rows(folder: &Path, cache_bytes_max: u64) -> io::Result<sled::Db> {
    // HighThroughput: less rewriting; measured, the file is no larger for a log's access pattern.
    // `flush_every_ms(None)`: no timer, an idle store does nothing.
    let config = sled::Config::new()
        .path(folder)
        .flush_every_ms(None)
        .cache_capacity(cache_bytes_max)
        .mode(sled::Mode::HighThroughput);
    let mut attempts = 0;
    loop {
        // sled panics on some damage. The process ends either way; where panics unwind, the
        // message says what to do.
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| config.open()));
        match outcome {
            Ok(Ok(rows)) => return Ok(rows),
            // Our own lock is held, so this is a store of this process whose sled threads have
            // not quite ended: sled drops its lock with the last of them.
            Ok(Err(sled::Error::Io(error))) if is_lock_error(&error) && attempts < 200 => {
                attempts += 1;
                thread::sleep(Duration::from_millis(10));
            }
            Ok(Err(error)) => return Err(into_io(error)),
            Err(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the database cannot be read",
                ));
            }
        }
    }
}

fn is_lock_error(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || error.to_string().contains("could not acquire lock")
}

/// sled's errors by what the store does about them.
fn into_io(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => as_said(error),
        sled::Error::Corruption { .. } => io::Error::new(
            io::ErrorKind::InvalidData,
            "the database reports corruption",
        ),
        other => io::Error::other(other.to_string()),
    }
}

/// An error as the system said it: sled's copies of one have its `Debug` form for a text.
fn as_said(error: io::Error) -> io::Error {
    let text = error.to_string();
    let code = text.strip_prefix("Os { code: ").and_then(|rest| {
        let (code, _) = rest.split_once(',')?;
        code.parse().ok()
    });
    code.map_or(error, io::Error::from_raw_os_error)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

impl Folder for RealFolder {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn rows_file(&self) -> &'static str {
        ROWS_FILE
    }

    fn apply(&self, changes: &[RowChange]) -> io::Result<()> {
        // One by one rather than as sled's batch: a batch costs two more log records and 25 us,
        // in an order of its own, and the store needs no more than "lost from some point on".
        for change in changes {
            match change {
                RowChange::Put { key, value } => self.rows.insert(key, value.as_slice()),
                RowChange::Remove { key } => self.rows.remove(key),
            }
            .map_err(into_io)?;
        }
        Ok(())
    }

    fn row_at_or_before(&self, key: &[u8]) -> io::Result<Option<KeyValue>> {
        let found = self
            .rows
            .range(..=key)
            .next_back()
            .transpose()
            .map_err(into_io)?;
        Ok(found.map(|(key, value)| (key.to_vec(), value.to_vec())))
    }

    fn scan(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
        let walk = || -> io::Result<()> {
            for row in self.rows.range(from..) {
                let (key, value) = row.map_err(into_io)?;
                if !visit(&key, &value) {
                    break;
                }
            }
            Ok(())
        };
        panic::catch_unwind(AssertUnwindSafe(walk)).unwrap_or_else(|_| {
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the database cannot be read",
            ))
        })
    }

    fn sync_rows(&self) -> io::Result<()> {
        self.rows.flush().map_err(into_io)?;
        self.rows_file.sync_data()
    }

    fn file(&self, name: &str, create: bool) -> io::Result<Box<dyn DiskFile>> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .open(self.path.join(name))?;
        Ok(Box::new(RealFile(file)))
    }

    fn names(&self, subfolder: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path.join(subfolder))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        sync_folder(&self.path.join(snapshot::FOLDER))?;
        sync_folder(&self.path)
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < bytes.len() {
            match self.0.read_at(&mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn forget(&self) {
        // Nothing depends on it, so an error is nothing to tell of.
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(&self.0, 0, None, rustix::fs::Advice::DontNeed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a full disk that is told in sled's form for programmers.
    #[test]
    fn errors_are_told_as_the_system_said_them() {
        let full = io::Error::from_raw_os_error(28);
        let words = full.to_string();
        let copy = sled::Error::Io(full).clone();
        assert!(copy.to_string().contains("Os {"), "sled tells it itself");
        let told = into_io(copy);
        assert_eq!(told.kind(), io::ErrorKind::StorageFull);
        assert_eq!(told.to_string(), words);
        let other = into_io(sled::Error::Io(io::Error::other("Os { code: x")));
        assert_eq!(other.to_string(), "Os { code: x");
    }
}
