//! A simulated disk: memory that keeps what was written apart from what was synced, so that a
//! power loss can take the difference away. No threads, no clock; a seed fixes every choice.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::StoreError;
use crate::disk::{Disk, DiskFile, Folder, KeyValue, RowChange};

/// What a power loss does to writes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// All of them are gone.
    DropUnsynced,
    /// All of them survive, as when only the process was killed.
    KeepAll,
    /// The seed chooses for each: gone, there, torn, or with a flipped bit. Rows are lost from
    /// some point on.
    Seeded(u64),
    /// The same, but every write to a file is torn, or has a flipped bit.
    Torn(u64),
}

/// What a power loss did to writes that were not synced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Toll {
    /// Rows, files' names and writes to files that are gone.
    pub lost: u64,
    /// Writes to files that are there in part, or with a flipped bit.
    pub torn: u64,
}

/// A simulated disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    machine: Arc<Mutex<Machine>>,
}

#[derive(Debug, Default)]
struct Machine {
    /// Goes up with each crash; folders opened before are dead.
    generation: u64,
    folders: BTreeMap<PathBuf, Content>,
    full: bool,
    /// How many syncs succeed before one fails.
    syncs_before_failure: Option<u64>,
    /// With this set nothing is ever durable, though syncs say so: a planted bug.
    syncs_lie: bool,
    row_syncs: u64,
    file_syncs: u64,
    /// How often something failed that a full or failing disk was asked for.
    failures: u64,
}

#[derive(Debug, Default)]
struct Content {
    open: bool,
    rows_synced: BTreeMap<Vec<u8>, Vec<u8>>,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    rows_unsynced: Vec<RowChange>,
    names_synced: BTreeMap<String, u64>,
    names: BTreeMap<String, u64>,
    files: BTreeMap<u64, Inode>,
    next_inode: u64,
}

#[derive(Debug, Default, Clone)]
struct Inode {
    synced: Vec<u8>,
    bytes: Vec<u8>,
    unsynced: Vec<(u64, Vec<u8>)>,
}

/// splitmix64: small, and good enough to choose fates.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides.max(1)
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.roll(length as u64)).expect("below a usize")
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// The disk as `Store::open` takes it.
    pub fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// The machine loses power: unsynced writes meet their fate, every store open on this disk is
    /// dead (its writes fail and change nothing), and the folders can be opened again.
    pub fn crash(&self, fate: Fate) -> Toll {
        let mut machine = self.lock();
        machine.generation += 1;
        machine.full = false;
        machine.syncs_before_failure = None;
        let mut dice = Dice(match fate {
            Fate::Seeded(seed) | Fate::Torn(seed) => seed,
            Fate::DropUnsynced | Fate::KeepAll => 0,
        });
        let mut toll = Toll::default();
        for content in machine.folders.values_mut() {
            content.crash(fate, &mut dice, &mut toll);
        }
        toll
    }

    /// How often writes and syncs failed because the disk was full or failing, since this was asked last.
    pub fn take_failures(&self) -> u64 {
        std::mem::take(&mut self.lock().failures)
    }

    /// The sync after the next `successes` ones fails; the store then takes nothing more.
    pub fn fail_sync_after(&self, successes: u64) {
        self.lock().syncs_before_failure = Some(successes);
    }

    /// From now on (or no longer) every write fails for lack of space.
    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// From now on syncs return success without making anything durable: the bug that the crash
    /// tests exist for, planted to see that they find it.
    pub fn lie_about_syncs(&self) {
        self.lock().syncs_lie = true;
    }

    /// How often rows and files were synced so far.
    pub fn syncs(&self) -> (u64, u64) {
        let machine = self.lock();
        (machine.row_syncs, machine.file_syncs)
    }

    /// Flips one bit of what is stored at rest in `folder`, chosen by the seed among rows, the
    /// high-water mark and snapshots. Returns what was hit; `None` if nothing is stored.
    pub fn flip_bit(&self, folder: &Path, seed: u64) -> Option<String> {
        let mut machine = self.lock();
        let content = machine.folders.get_mut(folder)?;
        let mut dice = Dice(seed);
        let (rows, names) = (content.rows.len(), content.names.len());
        if rows + names == 0 {
            return None;
        }
        let choice = dice.index(rows + names);
        if choice < rows {
            let (key, value) = content.rows.iter_mut().nth(choice)?;
            let at = dice.index(value.len());
            value[at] ^= 1 << dice.roll(8);
            content.rows_synced.insert(key.clone(), value.clone());
            return Some(format!("{} byte {at}", crate::row::key_words(key)));
        }
        let (name, inode) = content.names.iter().nth(choice - rows)?;
        let file = content.files.get_mut(inode)?;
        let at = dice.index(file.bytes.len());
        *file.bytes.get_mut(at)? ^= 1 << dice.roll(8);
        file.synced = file.bytes.clone();
        file.unsynced.clear();
        Some(format!("{name} byte {at}"))
    }

    /// Drops the last `count` row changes that were ever synced in `folder`, by key order: what
    /// sled's recovery does from a bad record on.
    pub fn lose_last_rows(&self, folder: &Path, count: usize) {
        if let Some(content) = self.lock().folders.get_mut(folder) {
            for _ in 0..count {
                let last = content
                    .rows
                    .keys()
                    .rfind(|key| key.first() == Some(&b'l'))
                    .cloned();
                if let Some(key) = last {
                    content.rows.remove(&key);
                    content.rows_synced.remove(&key);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine
            .lock()
            .expect("no code panics while it holds the simulated disk")
    }
}

impl Disk for SimDisk {
    fn inline(&self) -> bool {
        true
    }

    fn open(&self, folder: &Path, _cache_bytes_max: u64) -> Result<Box<dyn Folder>, StoreError> {
        let mut machine = self.lock();
        let generation = machine.generation;
        let content = machine.folders.entry(folder.to_owned()).or_default();
        if content.open {
            return Err(StoreError::Locked {
                folder: folder.display().to_string(),
            });
        }
        content.open = true;
        Ok(Box::new(SimFolder(Place {
            disk: self.clone(),
            path: folder.to_owned(),
            generation,
        })))
    }
}

impl Content {
    fn crash(&mut self, fate: Fate, dice: &mut Dice, toll: &mut Toll) {
        self.open = false;
        let unsynced = std::mem::take(&mut self.rows_unsynced);
        let keep = match fate {
            Fate::DropUnsynced => 0,
            Fate::KeepAll => unsynced.len(),
            Fate::Seeded(_) | Fate::Torn(_) => dice.index(unsynced.len() + 1),
        };
        toll.lost += (unsynced.len() - keep) as u64;
        for change in &unsynced[..keep] {
            change_rows(&mut self.rows_synced, change);
        }
        self.rows = self.rows_synced.clone();
        let names_survive = match fate {
            Fate::DropUnsynced => false,
            Fate::KeepAll => true,
            Fate::Seeded(_) | Fate::Torn(_) => dice.roll(2) == 1,
        };
        if names_survive {
            self.names_synced = self.names.clone();
        } else {
            toll.lost += u64::from(self.names != self.names_synced);
            self.names = self.names_synced.clone();
        }
        for file in self.files.values_mut() {
            for (offset, mut bytes) in std::mem::take(&mut file.unsynced) {
                let choice = match fate {
                    Fate::DropUnsynced => 0,
                    Fate::KeepAll => 1,
                    Fate::Seeded(_) => dice.roll(4),
                    Fate::Torn(_) => 2 + dice.roll(2),
                };
                match choice {
                    0 => {
                        toll.lost += 1;
                        continue;
                    }
                    2 => {
                        toll.torn += 1;
                        bytes.truncate(dice.index(bytes.len()));
                    }
                    3 if !bytes.is_empty() => {
                        toll.torn += 1;
                        let at = dice.index(bytes.len());
                        bytes[at] ^= 1 << dice.roll(8);
                    }
                    _ => {}
                }
                overwrite(&mut file.synced, offset, &bytes);
            }
            file.bytes = file.synced.clone();
        }
        let names = &self.names;
        self.files
            .retain(|inode, _| names.values().any(|used| used == inode));
    }
}

fn change_rows(rows: &mut BTreeMap<Vec<u8>, Vec<u8>>, change: &RowChange) {
    match change {
        RowChange::Put { key, value } => {
            rows.insert(key.clone(), value.clone());
        }
        RowChange::Remove { key } => {
            rows.remove(key);
        }
    }
}

fn overwrite(target: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let offset = usize::try_from(offset).expect("simulated files are small");
    let end = offset + bytes.len();
    if target.len() < end {
        target.resize(end, 0);
    }
    target[offset..end].copy_from_slice(bytes);
}

/// A folder of one life of the machine.
#[derive(Debug, Clone)]
struct Place {
    disk: SimDisk,
    path: PathBuf,
    generation: u64,
}

impl Place {
    fn with<T>(&self, work: impl FnOnce(&mut Machine, &Path) -> io::Result<T>) -> io::Result<T> {
        let mut machine = self.disk.lock();
        if machine.generation != self.generation {
            return Err(io::Error::other("the simulated machine lost power"));
        }
        work(&mut machine, &self.path)
    }

    fn content<T>(&self, work: impl FnOnce(&mut Content) -> io::Result<T>) -> io::Result<T> {
        self.with(|machine, path| work(machine.content(path)))
    }

    fn writing<T>(&self, work: impl FnOnce(&mut Content) -> io::Result<T>) -> io::Result<T> {
        self.with(|machine, path| {
            if machine.full {
                machine.failures += 1;
                return Err(io::Error::new(
                    io::ErrorKind::StorageFull,
                    "no space left on device",
                ));
            }
            work(machine.content(path))
        })
    }

    fn syncing(&self, work: impl FnOnce(&mut Content) -> io::Result<()>) -> io::Result<()> {
        self.with(|machine, path| match &mut machine.syncs_before_failure {
            Some(0) => {
                machine.failures += 1;
                Err(io::Error::other("simulated input/output error"))
            }
            left => {
                if let Some(left) = left {
                    *left -= 1;
                }
                if machine.syncs_lie {
                    Ok(())
                } else {
                    work(machine.content(path))
                }
            }
        })
    }
}

impl Machine {
    fn content(&mut self, path: &Path) -> &mut Content {
        self.folders
            .get_mut(path)
            .expect("a folder is never removed")
    }
}

struct SimFolder(Place);

impl Drop for SimFolder {
    fn drop(&mut self) {
        // Nothing to do after a crash: the lock went with the old life.
        let _ = self.0.content(|content| {
            content.open = false;
            Ok(())
        });
    }
}

impl Folder for SimFolder {
    fn name(&self) -> String {
        self.0.path.display().to_string()
    }

    fn rows_file(&self) -> &'static str {
        "rows"
    }

    fn apply(&self, changes: &[RowChange]) -> io::Result<()> {
        self.0.writing(|content| {
            for change in changes {
                change_rows(&mut content.rows, change);
                content.rows_unsynced.push(change.clone());
            }
            Ok(())
        })
    }

    fn row_at_or_before(&self, key: &[u8]) -> io::Result<Option<KeyValue>> {
        self.0.content(|content| {
            let found = content.rows.range(..=key.to_vec()).next_back();
            Ok(found.map(|(key, value)| (key.clone(), value.clone())))
        })
    }

    fn scan(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
        self.0.content(|content| {
            for (key, value) in content.rows.range(from.to_vec()..) {
                if !visit(key, value) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn sync_rows(&self) -> io::Result<()> {
        self.0.syncing(|content| {
            for change in content.rows_unsynced.drain(..) {
                change_rows(&mut content.rows_synced, &change);
            }
            Ok(())
        })?;
        self.0.disk.lock().row_syncs += 1;
        Ok(())
    }

    fn file(&self, name: &str, create: bool) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.0.content(|content| match content.names.get(name) {
            Some(inode) => Ok(*inode),
            None if create => {
                let inode = content.next_inode;
                content.next_inode += 1;
                content.files.insert(inode, Inode::default());
                content.names.insert(name.to_owned(), inode);
                Ok(inode)
            }
            None => Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
        })?;
        Ok(Box::new(SimFile {
            place: self.0.clone(),
            inode,
        }))
    }

    fn names(&self, subfolder: &str) -> io::Result<Vec<String>> {
        let prefix = format!("{subfolder}/");
        self.0.content(|content| {
            let names = content.names.keys();
            Ok(names
                .filter_map(|name| name.strip_prefix(&prefix))
                .map(str::to_owned)
                .collect())
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.content(|content| {
            let inode = content
                .names
                .remove(from)
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))?;
            content.names.insert(to.to_owned(), inode);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.content(|content| {
            content
                .names
                .remove(name)
                .map(|_| ())
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
        })
    }

    fn sync_names(&self) -> io::Result<()> {
        self.0.syncing(|content| {
            content.names_synced = content.names.clone();
            Ok(())
        })
    }
}

struct SimFile {
    place: Place,
    inode: u64,
}

impl SimFile {
    fn inode<T>(
        content: &mut Content,
        inode: u64,
        work: impl FnOnce(&mut Inode) -> T,
    ) -> io::Result<T> {
        let file = content.files.get_mut(&inode);
        file.map(work)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the file is gone"))
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.place
            .content(|content| Self::inode(content, self.inode, |f| f.bytes.len() as u64))
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.place.content(|content| {
            Self::inode(content, self.inode, |file| {
                let start = usize::try_from(offset)
                    .unwrap_or(usize::MAX)
                    .min(file.bytes.len());
                let count = bytes.len().min(file.bytes.len() - start);
                bytes[..count].copy_from_slice(&file.bytes[start..start + count]);
                count
            })
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.place.writing(|content| {
            Self::inode(content, self.inode, |file| {
                overwrite(&mut file.bytes, offset, bytes);
                file.unsynced.push((offset, bytes.to_vec()));
            })
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.place.syncing(|content| {
            Self::inode(content, self.inode, |file| {
                for (offset, bytes) in file.unsynced.drain(..) {
                    overwrite(&mut file.synced, offset, &bytes);
                }
            })
        })?;
        self.place.disk.lock().file_syncs += 1;
        Ok(())
    }

    fn forget(&self) {}
}
