//! Damage to the files of a folder that no store has open: what a bad disk does while nobody looks.
//!
//! For experiments. What is damaged stays so; only another copy of the folder mends it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use keyrum_types::Entropy;

use crate::error::from_io;
use crate::real::ROWS_FILE;
use crate::{StoreError, journal, mark, snapshot};

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// One bit of what was written is turned over.
    Flip,
    /// The last bytes that were written are gone, as after a torn write: in a preallocated file
    /// they are zeros, others end earlier.
    Tear,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// The file, relative to the folder.
    pub file: String,
    /// The first byte that is not what it was.
    pub offset: u64,
    /// How many bytes from there on; 1 for a flipped bit.
    pub bytes: u64,
}

/// Most bytes that a torn write loses: a page.
const TEAR_BYTES_MAX: u64 = 4096;

/// The names that [`damage`] knows, beside the files' own.
pub const DAMAGE_FILES: [&str; 4] = ["journal", "mark", "rows", "snapshot"];

/// Damages a file of a closed folder: `journal`, `mark`, `rows` (the database), `snapshot` (the
/// newest), or a path below the folder. Which bytes, chance decides, among those that were ever
/// written; in the journal among those of its first page, where the oldest record is that the
/// database may not have.
pub fn damage(
    folder: &Path,
    name: &str,
    damage: Damage,
    entropy: &dyn Entropy,
) -> Result<Damaged, StoreError> {
    let file = match name {
        "journal" => journal::FILE.to_owned(),
        "mark" => mark::FILE.to_owned(),
        "rows" => ROWS_FILE.to_owned(),
        "snapshot" => newest_snapshot(folder)?,
        other => other.to_owned(),
    };
    let path = folder.join(&file);
    let wrap = |during: &'static str| {
        let path = path.display().to_string();
        move |error: io::Error| from_io(path, during, &error)
    };
    let below = Path::new(&file).components().all(|part| {
        // `..` or a root would lead out of the folder.
        matches!(part, std::path::Component::Normal(_))
    });
    if !below || !path.is_file() {
        return Err(StoreError::misuse(format!(
            "there is no file {name} in {}; name one of {}, or a path below that folder",
            folder.display(),
            DAMAGE_FILES.join(", ")
        )));
    }
    let lock = File::options().write(true).open(folder.join("lock"));
    let lock = lock.map_err(wrap("opening the lock beside it"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(StoreError::Locked {
                folder: folder.display().to_string(),
            });
        }
        Err(TryLockError::Error(error)) => return Err(wrap("locking the lock beside it")(error)),
    }
    let bytes = fs::read(&path).map_err(wrap("reading"))?;
    let done = match damage {
        Damage::Flip => flip(&path, &file, &bytes, entropy),
        Damage::Tear => tear(&path, &bytes, entropy),
    };
    let done = done.map_err(wrap("damaging"))?;
    let (offset, bytes) = done.ok_or_else(|| {
        StoreError::misuse(format!(
            "{} has nothing in it that could be damaged: every byte is zero",
            path.display()
        ))
    })?;
    Ok(Damaged {
        file,
        offset,
        bytes,
    })
}

fn newest_snapshot(folder: &Path) -> Result<String, StoreError> {
    let path = folder.join(snapshot::FOLDER);
    let names = || -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&path)?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    };
    let names = names().map_err(|e| from_io(path.display().to_string(), "listing", &e))?;
    // Names have a fixed width, so the greatest is the newest.
    let newest = names
        .into_iter()
        .max()
        .ok_or_else(|| StoreError::misuse(format!("there is no snapshot in {}", path.display())))?;
    Ok(format!("{}/{newest}", snapshot::FOLDER))
}

/// A number below `limit`, which is at least 1.
fn below(limit: u64, entropy: &dyn Entropy) -> u64 {
    let mut bytes = [0; 8];
    entropy.fill(&mut bytes);
    u64::from_le_bytes(bytes) % limit
}

fn flip(
    path: &Path,
    file: &str,
    bytes: &[u8],
    entropy: &dyn Entropy,
) -> io::Result<Option<(u64, u64)>> {
    let reach = match file {
        journal::FILE => bytes.len().min(journal::PAGE_BYTES),
        _ => bytes.len(),
    };
    let written: Vec<usize> = (0..reach).filter(|&at| bytes[at] != 0).collect();
    if written.is_empty() {
        return Ok(None);
    }
    let chosen = below(written.len() as u64, entropy);
    let at = written[usize::try_from(chosen).expect("it is below a usize")];
    let bit = below(8, entropy);
    let handle = File::options().write(true).open(path)?;
    handle.write_all_at(&[bytes[at] ^ (1 << bit)], at as u64)?;
    handle.sync_all()?;
    Ok(Some((at as u64, 1)))
}

fn tear(path: &Path, bytes: &[u8], entropy: &dyn Entropy) -> io::Result<Option<(u64, u64)>> {
    let Some(last) = bytes.iter().rposition(|byte| *byte != 0) else {
        return Ok(None);
    };
    let end = last as u64 + 1;
    let gone = 1 + below(end.min(TEAR_BYTES_MAX), entropy);
    let handle = File::options().write(true).open(path)?;
    if end < bytes.len() as u64 {
        let zeros = vec![0; usize::try_from(gone).expect("at most a page")];
        handle.write_all_at(&zeros, end - gone)?;
    } else {
        handle.set_len(end - gone)?;
    }
    handle.sync_all()?;
    Ok(Some((end - gone, gone)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RealDisk, Store, StoreConfig};

    struct Counting(std::sync::Mutex<u8>);

    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            for byte in bytes {
                let mut next = self.0.lock().unwrap();
                *next = next.wrapping_mul(5).wrapping_add(73);
                *byte = *next;
            }
        }
    }

    /// Catches damage that nobody notices when the folder is opened, damage to a folder that is in
    /// use, and damage outside of it.
    #[test]
    fn damage_is_met_by_the_next_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let entropy = Counting(std::sync::Mutex::new(1));
        let harm = |name: &str, how| damage(&path, name, how, &entropy);
        let open = || Store::open(RealDisk::shared(), &path, StoreConfig::default());
        let store = open().unwrap();
        store.put_meta("name", &[7; 1000]).unwrap();
        assert!(matches!(
            harm("mark", Damage::Flip),
            Err(StoreError::Locked { .. })
        ));
        drop(store);
        fs::write(folder.path().join("outside"), [1]).unwrap();
        for wrong in ["../outside", "nothing", "snapshot", "journal"] {
            let refused = harm(wrong, Damage::Flip).unwrap_err();
            assert!(matches!(refused, StoreError::Misuse { .. }), "{refused}");
        }
        let before = fs::read(path.join(ROWS_FILE)).unwrap();
        let done = harm("rows", Damage::Flip).unwrap();
        let after = fs::read(path.join(ROWS_FILE)).unwrap();
        let differ = (0..after.len()).filter(|&at| before[at] != after[at]);
        let differ: Vec<u64> = differ.map(|at| at as u64).collect();
        assert_eq!((differ, done.bytes), (vec![done.offset], 1));
        fs::write(path.join(ROWS_FILE), before).unwrap();
        drop(open().unwrap());
        let done = harm("mark", Damage::Tear).unwrap();
        assert!(done.bytes >= 1);
        // Both slots are in there: what is left of the newer one does not check.
        match open() {
            Ok(store) => assert_eq!(store.meta("name").unwrap().unwrap(), [7; 1000]),
            Err(error) => assert!(error.to_string().contains("mark"), "{error}"),
        }
    }
}
