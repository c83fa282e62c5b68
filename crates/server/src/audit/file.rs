//! The files of one node's audit trail: `NAME.jsonl`, to which records are appended, the older ones
//! `NAME.1.jsonl`, `NAME.2.jsonl`, ..., and `NAME.mark`.
//!
//! The mark says how far the history had been told when, at which place of which file, so that after a
//! crash only what follows that place need be read. It is written once what it says is on the disk.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use keyrum_types::LogIndex;
use serde::{Deserialize, Serialize};

/// Which of a trail's files are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// A file that has this many bytes is followed by a new one.
    pub file_bytes_max: u64,
    /// How many older files are kept.
    pub files_max: u64,
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            file_bytes_max: 64 << 20,
            files_max: 100,
        }
    }
}

/// A place in a trail: behind so many bytes of the file that is, or will be, number `file`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) file: u64,
    pub(super) bytes: u64,
}

/// How far the history was told at a place of the trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Whose history.
    pub(super) cluster: String,
    /// All of it through this log entry.
    pub(super) through: LogIndex,
    pub(super) place: Place,
}

/// The file records go to, and those before it.
pub(super) struct TrailFile {
    folder: PathBuf,
    name: String,
    file: File,
    place: Place,
    rotation: Rotation,
    /// Whether every append waits for the disk.
    sync: bool,
}

impl TrailFile {
    /// Opens the trail called `name`. What a crash left of a last line is cut off.
    pub(super) fn open(
        folder: &Path,
        name: &str,
        rotation: Rotation,
        sync: bool,
    ) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let current = folder.join(format!("{name}.jsonl"));
        let mut file = open_locked(&current)?;
        let bytes = end_of_lines(&mut file)?;
        if file.seek(SeekFrom::End(0))? != bytes {
            file.set_len(bytes)?;
            file.seek(SeekFrom::End(0))?;
        }
        let newest = numbers(folder, name)?.last().copied().unwrap_or(0);
        Ok(Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
            file,
            place: Place {
                file: newest + 1,
                bytes,
            },
            rotation,
            sync,
        })
    }

    /// The place behind the last record.
    #[cfg(test)]
    fn place(&self) -> Place {
        self.place
    }

    /// Appends whole lines; all of them or, with an error, none.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.place.bytes >= self.rotation.file_bytes_max {
            self.rotate()?;
        }
        if let Err(error) = self.write(lines) {
            // What was written of them would be a broken line. If this fails too, the next append
            // begins behind it, and a reader meets one line that is none.
            let _ = self.file.set_len(self.place.bytes);
            let _ = self.file.seek(SeekFrom::Start(self.place.bytes));
            return Err(error);
        }
        self.place.bytes += lines.len() as u64;
        Ok(())
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)?;
        if self.sync {
            self.file.sync_data()?;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        let current = self.folder.join(format!("{}.jsonl", self.name));
        fs::rename(&current, self.numbered(self.place.file))?;
        self.file = open_locked(&current)?;
        self.place = Place {
            file: self.place.file + 1,
            bytes: 0,
        };
        let all = numbers(&self.folder, &self.name)?;
        let oldest_kept = self.place.file.saturating_sub(self.rotation.files_max);
        for number in all.into_iter().filter(|number| *number < oldest_kept) {
            fs::remove_file(self.numbered(number))?;
        }
        Ok(())
    }

    fn numbered(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{}.{number}.jsonl", self.name))
    }

    /// What the mark says, if there is one that can be read.
    pub(super) fn mark(&self) -> Option<Mark> {
        let bytes = fs::read(self.mark_path()).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Makes what was appended durable, and then notes how far the history is told in it.
    pub(super) fn set_mark(&self, cluster: &str, through: LogIndex) -> io::Result<()> {
        self.file.sync_data()?;
        let mark = Mark {
            cluster: cluster.to_owned(),
            through,
            place: self.place,
        };
        let mut line = serde_json::to_vec(&mark)?;
        line.push(b'\n');
        let new = self.folder.join(format!("{}.mark.new", self.name));
        let mut file = File::create(&new)?;
        file.write_all(&line)?;
        file.sync_data()?;
        fs::rename(new, self.mark_path())
    }

    fn mark_path(&self) -> PathBuf {
        self.folder.join(format!("{}.mark", self.name))
    }

    /// The event ids of all records behind a place.
    pub(super) fn ids_behind(&self, place: Place) -> io::Result<BTreeSet<[u8; 16]>> {
        let mut ids = BTreeSet::new();
        for number in place.file..=self.place.file {
            let path = match number == self.place.file {
                true => self.folder.join(format!("{}.jsonl", self.name)),
                false => self.numbered(number),
            };
            let mut file = match File::open(path) {
                Ok(file) => file,
                // Rotation has removed it, with records that are older than those it kept.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if number == place.file {
                file.seek(SeekFrom::Start(place.bytes))?;
            }
            let mut reader = BufReader::new(file);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line)? > 0 {
                ids.extend(event_id(&line));
                line.clear();
            }
        }
        Ok(ids)
    }
}

/// Opens a file that only one process may append to.
fn open_locked(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another process writes to it",
        )),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Where the last whole line ends.
fn end_of_lines(file: &mut File) -> io::Result<u64> {
    const PART: u64 = 1 << 16;
    let mut end = file.seek(SeekFrom::End(0))?;
    while end > 0 {
        let start = end.saturating_sub(PART);
        let mut part = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        (&*file).take(end - start).read_to_end(&mut part)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// The numbers of a trail's older files, ascending.
fn numbers(folder: &Path, name: &str) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let file = entry?.file_name();
        let number = file.to_str().and_then(|file| {
            let number = file.strip_prefix(name)?.strip_prefix('.')?;
            number.strip_suffix(".jsonl")?.parse::<u64>().ok()
        });
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A record's event id. The last member of that name is it: behind it nothing has names that callers
/// choose, and in texts the quotes are escaped.
fn event_id(line: &[u8]) -> Option<[u8; 16]> {
    const NAME: &[u8] = b"\"eventID\":\"";
    let at = line.windows(NAME.len()).rposition(|part| part == NAME)?;
    let text = line.get(at + NAME.len()..)?.get(..36)?;
    let mut id = [0; 16];
    let mut digits = text.iter().filter(|byte| **byte != b'-');
    for byte in &mut id {
        let mut digit = || char::from(*digits.next()?).to_digit(16);
        *byte = u8::try_from(digit()? << 4 | digit()?).ok()?;
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Rotation = Rotation {
        file_bytes_max: 8,
        files_max: 2,
    };

    fn read(folder: &Path) -> Vec<(String, String)> {
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, fs::read_to_string(path).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    /// Catches a rotation that loses the newest records, keeps all of them for ever, or begins to
    /// count anew after a restart, and a broken last line that is joined with the next record.
    #[test]
    fn files_follow_one_another() {
        let folder = tempfile::tempdir().unwrap();
        let open = || TrailFile::open(folder.path(), "n", SMALL, true).unwrap();
        let mut file = open();
        file.append(b"first--1\n").unwrap();
        file.append(b"second-2\n").unwrap();
        drop(file);
        let mut file = open();
        file.append(b"third--3\nfourth\n").unwrap();
        file.append(b"fifth--5\n").unwrap();
        drop(file);
        fs::write(folder.path().join("n.jsonl"), "kept\nbroken").unwrap();
        let mut file = open();
        assert_eq!(file.place(), Place { file: 4, bytes: 5 });
        file.append(b"6\n").unwrap();
        let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        assert_eq!(
            read(folder.path()),
            [
                pair("n.2.jsonl", "second-2\n"),
                pair("n.3.jsonl", "third--3\nfourth\n"),
                pair("n.jsonl", "kept\n6\n"),
            ]
        );
        let again = TrailFile::open(folder.path(), "n", SMALL, true);
        let error = again.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    }

    /// Catches ids that are overlooked behind a mark, across files or beside a caller's text of the
    /// same name.
    #[test]
    fn ids_behind_a_mark_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = TrailFile::open(folder.path(), "n", SMALL, false).unwrap();
        assert_eq!(file.mark(), None);
        let line = |byte: u8| {
            let id = crate::http::RequestUid::from_bytes([byte; 16]);
            format!(
                "{{\"p\":{{\"eventID\":\"{}\"}},\"eventID\":\"{id}\",\"x\":1}}\n",
                "f".repeat(36)
            )
        };
        file.append(line(1).as_bytes()).unwrap();
        file.set_mark("c", 7).unwrap();
        file.append(line(2).as_bytes()).unwrap();
        file.append(line(3).as_bytes()).unwrap();
        drop(file);
        let file = TrailFile::open(folder.path(), "n", SMALL, false).unwrap();
        let mark = file.mark().unwrap();
        assert_eq!((mark.cluster.as_str(), mark.through), ("c", 7));
        let ids = file.ids_behind(mark.place).unwrap();
        assert_eq!(ids, BTreeSet::from([[2; 16], [3; 16]]));
        assert_eq!(file.ids_behind(Place::default()).unwrap().len(), 3);
    }
}
