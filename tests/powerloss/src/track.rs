//! What was changed since the last sync, and how to take it back.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::machine::{Machine, die};
use crate::tear::{Dice, Tear};

/// Device and inode: what a file is, whatever its name.
pub(crate) type FileId = (u64, u64);

/// Which part of a file a change is about.
#[derive(Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// Whether it is made of bytes, of which some can get to the disk without the others.
    pub(crate) can_tear: bool,
}

impl Reach {
    /// Bytes are written.
    pub(crate) fn write(offset: u64, length: u64) -> Self {
        Self {
            offset,
            length,
            can_tear: true,
        }
    }

    /// Something that is done as a whole.
    pub(crate) fn whole(offset: u64, length: u64) -> Self {
        Self {
            offset,
            length,
            can_tear: false,
        }
    }

    /// A file of this size is cut, or grown, to another.
    pub(crate) fn rest(to: u64, size: u64) -> Self {
        Self::whole(to, size.saturating_sub(to))
    }
}

/// One change to a file's bytes.
pub(crate) struct Overwritten {
    /// Position in the order of all changes.
    number: u64,
    pub(crate) reach: Reach,
    /// What was there before, as far as the file went.
    pub(crate) bytes: Vec<u8>,
    /// How long the file was before.
    pub(crate) size: u64,
}

/// A file that was opened for writing.
struct TrackedFile {
    /// The library's own descriptor: works after the file was closed, renamed or removed.
    fd: RawFd,
    unsynced: Vec<Overwritten>,
}

/// One change to names.
enum NameChange {
    /// A file or folder appeared.
    Created(PathBuf),
    /// A name went away; its file is in the stash.
    Removed { path: PathBuf, stashed: PathBuf },
    /// A file got another name; what had that name before is in the stash.
    Renamed {
        from: PathBuf,
        to: PathBuf,
        stashed: Option<PathBuf>,
    },
}

struct UnsyncedName {
    number: u64,
    /// The folders whose sync is still to come.
    folders: BTreeSet<PathBuf>,
    change: NameChange,
}

/// What a sync covers.
pub(crate) enum Covered {
    /// A file's bytes.
    Bytes(FileId),
    /// A folder's names.
    Names(PathBuf),
}

/// Everything that a power loss would undo.
#[derive(Default)]
pub(crate) struct Tracks {
    files: BTreeMap<FileId, TrackedFile>,
    names: Vec<UnsyncedName>,
    changes: u64,
    stashed: u64,
}

static TRACKS: Mutex<Tracks> = Mutex::new(Tracks {
    files: BTreeMap::new(),
    names: Vec::new(),
    changes: 0,
    stashed: 0,
});

/// Held while a change is noted and made, so that both happen or neither.
pub(crate) fn tracks() -> MutexGuard<'static, Tracks> {
    TRACKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `fstat` says about a descriptor.
pub(crate) struct Facts {
    pub(crate) id: FileId,
    pub(crate) size: u64,
    pub(crate) regular: bool,
    pub(crate) folder: bool,
}

/// Looks at a descriptor.
pub(crate) fn facts(fd: RawFd) -> Option<Facts> {
    // SAFETY: a zeroed `stat` is a valid one to fill.
    let (stat, result) = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        let result = libc::fstat(fd, &raw mut stat);
        (stat, result)
    };
    let kind = stat.st_mode & libc::S_IFMT;
    (result == 0).then_some(Facts {
        id: (stat.st_dev, stat.st_ino),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        regular: kind == libc::S_IFREG,
        folder: kind == libc::S_IFDIR,
    })
}

/// The path a descriptor was opened by, as the kernel knows it now.
pub(crate) fn path_of(fd: RawFd) -> Option<PathBuf> {
    let link = c_path(Path::new(&format!("/proc/self/fd/{fd}")));
    let mut bytes = vec![0_u8; 4096];
    // SAFETY: the buffer is as long as said.
    let length = unsafe { libc::readlink(link.as_ptr(), bytes.as_mut_ptr().cast(), bytes.len()) };
    bytes.truncate(usize::try_from(length).ok()?);
    Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

/// A path for the C library.
pub(crate) fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_else(|_| die("a path with a zero byte"))
}

/// Whether there is something by that name.
pub(crate) fn exists(path: &Path) -> bool {
    let path = c_path(path);
    // SAFETY: a C string; a zeroed `stat` is a valid one to fill.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        libc::lstat(path.as_ptr(), &raw mut stat) == 0
    }
}

fn rename(from: &Path, to: &Path) {
    let (from_c, to_c) = (c_path(from), c_path(to));
    let cwd = libc::AT_FDCWD;
    // SAFETY: C strings.
    let result = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            cwd,
            from_c.as_ptr(),
            cwd,
            to_c.as_ptr(),
            0,
        )
    };
    // Not there any more: another process of the machine has taken away the folder it was in.
    let missing = || std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT);
    if result != 0 && !missing() {
        die(&format!(
            "cannot rename {} to {}",
            from.display(),
            to.display()
        ));
    }
}

impl Tracks {
    fn next(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    /// The number of the last change so far: a sync that begins now covers up to it.
    pub(crate) fn so_far(&self) -> u64 {
        self.changes
    }

    /// Whether a file is tracked.
    pub(crate) fn knows(&self, id: FileId) -> bool {
        self.files.contains_key(&id)
    }

    /// Tracks the file behind a descriptor from now on.
    pub(crate) fn add(&mut self, fd: RawFd, id: FileId) {
        self.files.entry(id).or_insert_with(|| {
            let path = c_path(Path::new(&format!("/proc/self/fd/{fd}")));
            let flags = libc::O_RDWR | libc::O_CLOEXEC;
            // SAFETY: a C string.
            let own =
                unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags) };
            let own = RawFd::try_from(own).unwrap_or(-1);
            if own < 0 {
                die("cannot open a tracked file a second time");
            }
            TrackedFile {
                fd: own,
                unsynced: Vec::new(),
            }
        });
    }

    /// Notes that bytes of a file of this size are about to change, and perhaps the size.
    pub(crate) fn will_change(&mut self, id: FileId, reach: Reach, size: u64) {
        let number = self.next();
        let Some(file) = self.files.get_mut(&id) else {
            return;
        };
        let there = size.saturating_sub(reach.offset).min(reach.length);
        let mut bytes = vec![0_u8; usize::try_from(there).unwrap_or(0)];
        let mut done = 0;
        while done < bytes.len() {
            let rest = &mut bytes[done..];
            let at = i64::try_from(reach.offset).unwrap_or(i64::MAX) + done as i64;
            // SAFETY: the buffer is as long as said.
            let read = unsafe {
                libc::syscall(
                    libc::SYS_pread64,
                    file.fd,
                    rest.as_mut_ptr(),
                    rest.len(),
                    at,
                )
            };
            match usize::try_from(read) {
                Ok(read) if read > 0 => done += read,
                _ => die("cannot read what a write replaces"),
            }
        }
        file.unsynced.push(Overwritten {
            number,
            reach,
            bytes,
            size,
        });
    }

    /// Takes the last note back: the change did not happen.
    pub(crate) fn did_not_change(&mut self, id: FileId) {
        if let Some(file) = self.files.get_mut(&id) {
            file.unsynced.pop();
        }
    }

    /// Whether a sync would cover something.
    pub(crate) fn has_unsynced(&self, covered: &Covered) -> bool {
        match covered {
            Covered::Bytes(id) => {
                let file = self.files.get(id);
                file.is_some_and(|file| !file.unsynced.is_empty())
            }
            Covered::Names(folder) => self.names.iter().any(|name| name.folders.contains(folder)),
        }
    }

    /// A file's bytes or a folder's names are durable up to a change.
    pub(crate) fn synced(&mut self, covered: &Covered, up_to: u64) {
        match covered {
            Covered::Bytes(id) => {
                if let Some(file) = self.files.get_mut(id) {
                    file.unsynced.retain(|change| change.number > up_to);
                }
            }
            Covered::Names(folder) => {
                for name in self.names.iter_mut().filter(|name| name.number <= up_to) {
                    name.folders.remove(folder);
                }
                self.names.retain(|name| !name.folders.is_empty());
            }
        }
    }

    /// A folder was removed: nobody can sync it any more, but who syncs the one above makes its end
    /// durable, and with it that of every name in it.
    pub(crate) fn folder_removed(&mut self, folder: &Path) {
        let above = folders_of([folder]);
        for name in &mut self.names {
            if name.folders.remove(folder) {
                name.folders.extend(above.iter().cloned());
            }
        }
    }

    /// A file or folder was made.
    pub(crate) fn created(&mut self, path: PathBuf) {
        let folders = folders_of([path.as_path()]);
        let number = self.next();
        self.names.push(UnsyncedName {
            number,
            folders,
            change: NameChange::Created(path),
        });
    }

    /// Keeps a second name for a file whose only one may go.
    pub(crate) fn stash(&mut self, machine: &Machine, path: &Path) -> Option<PathBuf> {
        let stashed = self.stash_name(machine);
        let (path, to) = (c_path(path), c_path(&stashed));
        let cwd = libc::AT_FDCWD;
        // SAFETY: C strings.
        let result =
            unsafe { libc::syscall(libc::SYS_linkat, cwd, path.as_ptr(), cwd, to.as_ptr(), 0) };
        (result == 0).then_some(stashed)
    }

    fn stash_name(&mut self, machine: &Machine) -> PathBuf {
        self.stashed += 1;
        machine
            .stash
            .join(format!("{}-{}", std::process::id(), self.stashed))
    }

    /// A name was removed.
    pub(crate) fn removed(&mut self, path: PathBuf, stashed: PathBuf) {
        let folders = folders_of([path.as_path()]);
        let number = self.next();
        let change = NameChange::Removed { path, stashed };
        self.names.push(UnsyncedName {
            number,
            folders,
            change,
        });
    }

    /// A file was renamed.
    pub(crate) fn renamed(&mut self, from: PathBuf, to: PathBuf, stashed: Option<PathBuf>) {
        let folders = folders_of([from.as_path(), to.as_path()]);
        let number = self.next();
        let change = NameChange::Renamed { from, to, stashed };
        self.names.push(UnsyncedName {
            number,
            folders,
            change,
        });
    }

    fn undo(&mut self, machine: &Machine) -> String {
        let mut dice = machine.torn_by().map(Dice::new);
        let mut toll = Toll::default();
        for file in self.files.values() {
            match &mut dice {
                None => undo_all(file, &mut toll),
                Some(dice) => undo_some(file, dice, &mut toll),
            }
        }
        let mut names = std::mem::take(&mut self.names);
        if let Some(dice) = &mut dice {
            // A file system may have got to some of them, but not to a later one before.
            names.drain(..dice.below(names.len() + 1));
        }
        for name in names.iter().rev() {
            match &name.change {
                NameChange::Created(path) => rename(path, &self.stash_name(machine)),
                NameChange::Removed { path, stashed } => rename(stashed, path),
                NameChange::Renamed { from, to, stashed } => {
                    rename(to, from);
                    if let Some(stashed) = stashed {
                        rename(stashed, to);
                    }
                }
            }
        }
        let Toll {
            files,
            writes,
            torn,
            bytes,
        } = toll;
        format!(
            "{{\"pid\":{},\"files\":{files},\"writes\":{writes},\"torn\":{torn},\"bytes\":{bytes},\"names\":{}}}\n",
            std::process::id(),
            names.len()
        )
    }
}

/// What was undone.
#[derive(Default)]
struct Toll {
    files: usize,
    writes: usize,
    torn: usize,
    bytes: usize,
}

fn undo_all(file: &TrackedFile, toll: &mut Toll) {
    toll.files += usize::from(!file.unsynced.is_empty());
    for change in file.unsynced.iter().rev() {
        toll.writes += 1;
        toll.bytes += change.bytes.len();
        put_back(file.fd, change.reach.offset, &change.bytes);
        resize(file.fd, change.size);
    }
}

fn undo_some(file: &TrackedFile, dice: &mut Dice, toll: &mut Toll) {
    let mut tear = Tear::default();
    let writes = toll.writes;
    for change in file.unsynced.iter().rev() {
        let fate = tear.of(change, dice);
        for (offset, bytes) in &fate.put_back {
            toll.bytes += bytes.len();
            put_back(file.fd, *offset, bytes);
        }
        resize(file.fd, fate.size);
        toll.writes += usize::from(fate.undone);
        toll.torn += usize::from(fate.undone && fate.kept);
    }
    toll.files += usize::from(toll.writes > writes);
}

fn folders_of<const N: usize>(paths: [&Path; N]) -> BTreeSet<PathBuf> {
    paths
        .iter()
        .filter_map(|path| path.parent())
        .map(Path::to_owned)
        .collect()
}

fn put_back(fd: RawFd, offset: u64, bytes: &[u8]) {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &bytes[done..];
        let at = i64::try_from(offset).unwrap_or(i64::MAX) + done as i64;
        // SAFETY: the buffer is as long as said.
        let written =
            unsafe { libc::syscall(libc::SYS_pwrite64, fd, rest.as_ptr(), rest.len(), at) };
        match usize::try_from(written) {
            Ok(written) if written > 0 => done += written,
            _ => die("cannot put back what a write replaced"),
        }
    }
}

fn resize(fd: RawFd, size: u64) {
    // SAFETY: a number for a descriptor of our own.
    let result = unsafe { libc::syscall(libc::SYS_ftruncate, fd, size) };
    if result != 0 {
        die("cannot put back a file's size");
    }
}

/// Undoes what was not synced and ends the process.
///
/// Whoever calls it holds the lock, so nothing is changed any more.
pub(crate) fn lose_power(machine: &Machine, tracks: &mut Tracks) -> ! {
    let line = tracks.undo(machine);
    machine.report(&line);
    // SAFETY: ends every thread of the process at once.
    unsafe { libc::syscall(libc::SYS_exit_group, 137) };
    std::process::abort()
}
