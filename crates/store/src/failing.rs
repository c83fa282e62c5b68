//! A disk that fails on demand: what a person or an experiment puts into a running node.
//!
//! It lies around the machine's own disk. While nothing is in force, an operation costs one look at
//! a flag more.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::StoreError;
use crate::disk::{Disk, DiskFile, Folder, KeyValue, RowChange};

/// What a disk does wrong until it is lifted. `after` operations of the kind still succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFault {
    /// Syncs fail as those of a broken disk do (EIO).
    SyncFails {
        /// Syncs that still succeed.
        after: u64,
    },
    /// What needs more room fails (ENOSPC). What lies within a file's length can still be written,
    /// as on a real disk: the journal is preallocated, so appends go on until it is full or the
    /// database is to get its rows, a second after the last append at the latest.
    Full {
        /// Writes for which there is still room.
        after: u64,
    },
    /// Every sync takes this much longer.
    Slow {
        /// How much.
        by: Duration,
    },
    /// Reads fail (EIO).
    ReadFails {
        /// Reads that still succeed.
        after: u64,
    },
}

/// What an operation is to the faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Sync,
    Grow,
    Read,
}

/// A fault that is in force.
struct InForce {
    number: u64,
    fault: DiskFault,
    /// Operations of its kind that it let pass.
    passed: u64,
    effects: u64,
}

/// The faults of one node's disk. Shared by the disk and by whoever steers it.
#[derive(Default)]
pub struct DiskFaults {
    any: AtomicBool,
    in_force: Mutex<Vec<InForce>>,
    lifted: Condvar,
}

impl DiskFaults {
    /// Puts a fault in force. The number is the caller's, and names it from then on.
    pub fn put(&self, number: u64, fault: DiskFault) {
        let mut in_force = self.lock();
        in_force.push(InForce {
            number,
            fault,
            passed: 0,
            effects: 0,
        });
        self.any.store(true, Ordering::Release);
    }

    /// Lifts a fault; a sync that it holds up goes on at once.
    pub fn lift(&self, number: u64) {
        let mut in_force = self.lock();
        in_force.retain(|fault| fault.number != number);
        self.any.store(!in_force.is_empty(), Ordering::Release);
        self.lifted.notify_all();
    }

    /// How many operations a fault has failed or held up.
    pub fn effects(&self, number: u64) -> u64 {
        let in_force = self.lock();
        let found = in_force.iter().find(|fault| fault.number == number);
        found.map_or(0, |fault| fault.effects)
    }

    /// Whether an operation may go on; comes back late from a slow one.
    fn pass(&self, step: Step) -> io::Result<()> {
        if !self.any.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut in_force = self.lock();
        let mut slow = None;
        for fault in &mut *in_force {
            let (concerns, after, errno) = match fault.fault {
                DiskFault::SyncFails { after } => (Step::Sync, after, EIO),
                DiskFault::Full { after } => (Step::Grow, after, ENOSPC),
                DiskFault::ReadFails { after } => (Step::Read, after, EIO),
                DiskFault::Slow { by } => {
                    if step == Step::Sync {
                        fault.effects += 1;
                        slow = Some((fault.number, by));
                    }
                    continue;
                }
            };
            if concerns != step {
                continue;
            }
            if fault.passed < after {
                fault.passed += 1;
                continue;
            }
            fault.effects += 1;
            return Err(io::Error::from_raw_os_error(errno));
        }
        if let Some((number, by)) = slow {
            let held = |in_force: &mut Vec<InForce>| in_force.iter().any(|f| f.number == number);
            let waited = self.lifted.wait_timeout_while(in_force, by, held);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
        Ok(())
    }

    /// A poisoned lock guards plain values that are whole after every statement.
    fn lock(&self) -> MutexGuard<'_, Vec<InForce>> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Source: errno(3); the same numbers on Linux and macOS.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A disk that does what its faults say, and else what the disk below it does.
pub struct FailingDisk {
    below: Arc<dyn Disk>,
    faults: Arc<DiskFaults>,
}

impl FailingDisk {
    /// Puts the faults around a disk; the result is as `Store::open` takes it.
    pub fn around(below: Arc<dyn Disk>, faults: Arc<DiskFaults>) -> Arc<dyn Disk> {
        Arc::new(Self { below, faults })
    }
}

impl Disk for FailingDisk {
    fn inline(&self) -> bool {
        self.below.inline()
    }

    fn open(&self, folder: &Path, cache_bytes_max: u64) -> Result<Box<dyn Folder>, StoreError> {
        Ok(Box::new(FailingFolder {
            below: self.below.open(folder, cache_bytes_max)?,
            faults: self.faults.clone(),
        }))
    }
}

struct FailingFolder {
    below: Box<dyn Folder>,
    faults: Arc<DiskFaults>,
}

impl Folder for FailingFolder {
    fn name(&self) -> String {
        self.below.name()
    }

    fn rows_file(&self) -> &'static str {
        self.below.rows_file()
    }

    fn apply(&self, changes: &[RowChange]) -> io::Result<()> {
        // Rows go to the end of the engine's own log, removals too.
        self.faults.pass(Step::Grow)?;
        self.below.apply(changes)
    }

    fn row_at_or_before(&self, key: &[u8]) -> io::Result<Option<KeyValue>> {
        self.faults.pass(Step::Read)?;
        self.below.row_at_or_before(key)
    }

    fn scan(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
        self.faults.pass(Step::Read)?;
        self.below.scan(from, visit)
    }

    fn sync_rows(&self) -> io::Result<()> {
        self.faults.pass(Step::Sync)?;
        self.below.sync_rows()
    }

    fn file(&self, name: &str, create: bool) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(FailingFile {
            below: self.below.file(name, create)?,
            faults: self.faults.clone(),
        }))
    }

    fn names(&self, subfolder: &str) -> io::Result<Vec<String>> {
        self.faults.pass(Step::Read)?;
        self.below.names(subfolder)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.below.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.below.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.faults.pass(Step::Sync)?;
        self.below.sync_names()
    }
}

struct FailingFile {
    below: Box<dyn DiskFile>,
    faults: Arc<DiskFaults>,
}

impl DiskFile for FailingFile {
    fn len(&self) -> io::Result<u64> {
        self.below.len()
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.faults.pass(Step::Read)?;
        self.below.read_at(offset, bytes)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let any = self.faults.any.load(Ordering::Acquire);
        if any && offset + bytes.len() as u64 > self.below.len()? {
            self.faults.pass(Step::Grow)?;
        }
        self.below.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.pass(Step::Sync)?;
        self.below.sync()
    }

    fn forget(&self) {
        self.below.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogRow, RealDisk, Store, StoreConfig};

    fn append(store: &Store, index: u64) -> Result<(), StoreError> {
        let (sender, done) = std::sync::mpsc::channel();
        let row = LogRow {
            index,
            bytes: vec![1].into(),
        };
        let appended = Box::new(move |result| sender.send(result).unwrap());
        store.append(vec![row], vec![1], appended);
        done.recv().unwrap()
    }

    fn failing(fault: DiskFault) -> (tempfile::TempDir, Store, Arc<DiskFaults>) {
        let folder = tempfile::tempdir().unwrap();
        let faults = Arc::<DiskFaults>::default();
        let disk = FailingDisk::around(RealDisk::shared(), faults.clone());
        let path = folder.path().join("store");
        let store = Store::open(disk, &path, StoreConfig::default()).unwrap();
        append(&store, 0).unwrap();
        assert_eq!(faults.effects(7), 0);
        faults.put(7, fault);
        (folder, store, faults)
    }

    /// Catches a fault that does nothing, that says it did what it did not, that hits what it is
    /// not about, and a store that goes on after it or lost what it had acknowledged.
    #[test]
    fn a_store_stops_at_a_fault() {
        for (fault, words) in [
            (
                DiskFault::SyncFails { after: 1 },
                "nothing more is accepted",
            ),
            (DiskFault::Full { after: 0 }, "disk full"),
        ] {
            let (folder, store, faults) = failing(fault);
            let mut acknowledged = 0;
            let failure = loop {
                if let Err(error) = append(&store, acknowledged + 1) {
                    break error;
                }
                acknowledged += 1;
                // What is not an append needs room in the database.
                if let Err(error) = store.put_meta("name", &[1]) {
                    break error;
                }
            };
            assert!(failure.to_string().contains(words), "{failure}");
            assert!(acknowledged >= 1, "{fault:?}");
            assert_eq!(faults.effects(7), 1, "{fault:?}");
            assert_eq!(append(&store, acknowledged + 1), Err(failure));
            drop(store);
            faults.lift(7);
            assert_eq!(faults.effects(7), 0);
            let path = folder.path().join("store");
            let disk = FailingDisk::around(RealDisk::shared(), faults);
            let store = Store::open(disk, &path, StoreConfig::default()).unwrap();
            assert!(store.log_range().last >= Some(acknowledged), "{fault:?}");
            append(&store, store.log_range().last.unwrap() + 1).unwrap();
        }
    }

    /// Catches a slow disk that is not slow, and one that stays so once the fault is lifted.
    #[test]
    fn a_slow_sync_ends_with_its_fault() {
        let by = Duration::from_secs(3600);
        let (_folder, store, faults) = failing(DiskFault::Slow { by });
        let (sender, done) = std::sync::mpsc::channel();
        let row = LogRow {
            index: 1,
            bytes: vec![1].into(),
        };
        let appended = Box::new(move |result| sender.send(result).unwrap());
        store.append(vec![row], vec![1], appended);
        while faults.effects(7) == 0 {
            std::thread::yield_now();
        }
        assert!(done.try_recv().is_err());
        faults.lift(7);
        done.recv().unwrap().unwrap();
        append(&store, 2).unwrap();
    }

    /// Catches reads that do not fail, and a failed read that is taken for an empty place.
    #[test]
    fn a_read_fails() {
        let (_folder, store, faults) = failing(DiskFault::ReadFails { after: 0 });
        let failure = store.meta("name").unwrap_err();
        assert!(
            failure
                .to_string()
                .contains("nothing acknowledged was lost")
        );
        assert!(faults.effects(7) >= 1);
    }
}
