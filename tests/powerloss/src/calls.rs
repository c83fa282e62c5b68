//! The C library's functions that change files, as the process sees them instead.
//!
//! Each makes the system call itself, so nothing here depends on finding the function it hides.
//! On a descriptor or path that is not tracked, that is all it does.

use std::ffi::{CStr, OsStr};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libc::{c_char, c_int, c_long, c_uint, c_void, iovec, mode_t, off_t, size_t, ssize_t};

use crate::machine::{Machine, die, machine, stand_still};
use crate::track::{self, Covered, Reach, Tracks, tracks};

/// Runs a change to a tracked file: noted first, made while nothing else can be.
fn change(
    fd: RawFd,
    reach: impl FnOnce(&track::Facts) -> Reach,
    make: impl FnOnce() -> c_long,
) -> c_long {
    let Some(machine) = machine() else {
        return make();
    };
    let Some(found) = track::facts(fd).filter(|facts| facts.regular) else {
        return make();
    };
    let mut tracks = tracks();
    if !tracks.knows(found.id) {
        drop(tracks);
        return make();
    }
    go_on(machine, &mut tracks);
    // The size may have changed while this thread waited for its turn.
    let Some(found) = track::facts(fd) else {
        return make();
    };
    tracks.will_change(found.id, reach(&found), found.size);
    let result = make();
    if result < 0 {
        tracks.did_not_change(found.id);
    }
    result
}

/// Returns while there is power.
fn go_on(machine: &Machine, tracks: &mut Tracks) {
    if !machine.count_change() {
        track::lose_power(machine, tracks);
    }
}

fn as_u64(number: impl TryInto<u64>) -> u64 {
    number.try_into().unwrap_or(0)
}

fn length_of(parts: *const iovec, count: c_int) -> u64 {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: the caller promised `count` parts, as `writev` asks.
    let parts = unsafe { std::slice::from_raw_parts(parts, count) };
    parts.iter().map(|part| part.iov_len as u64).sum()
}

/// Where a plain `write` on a descriptor goes.
fn position(fd: RawFd, size: u64) -> u64 {
    // SAFETY: numbers only.
    unsafe {
        if libc::syscall(libc::SYS_fcntl, fd, libc::F_GETFL) & c_long::from(libc::O_APPEND) != 0 {
            return size;
        }
        as_u64(libc::syscall(libc::SYS_lseek, fd, 0, libc::SEEK_CUR))
    }
}

/// Replaces `write`.
///
/// # Safety
///
/// As `write`.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, length: size_t) -> ssize_t {
    // SAFETY: passed on as it came.
    let make = || unsafe { libc::syscall(libc::SYS_write, fd, bytes, length) };
    let reach = |facts: &track::Facts| Reach::write(position(fd, facts.size), length as u64);
    change(fd, reach, make) as ssize_t
}

/// Replaces `writev`.
///
/// # Safety
///
/// As `writev`.
#[unsafe(no_mangle)]
unsafe extern "C" fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: passed on as it came.
    let make = || unsafe { libc::syscall(libc::SYS_writev, fd, parts, count) };
    let reach =
        |facts: &track::Facts| Reach::write(position(fd, facts.size), length_of(parts, count));
    change(fd, reach, make) as ssize_t
}

/// Replaces `pwrite`.
///
/// # Safety
///
/// As `pwrite`.
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite(fd: c_int, bytes: *const c_void, length: size_t, at: off_t) -> ssize_t {
    // SAFETY: passed on as it came.
    let make = || unsafe { libc::syscall(libc::SYS_pwrite64, fd, bytes, length, at) };
    change(fd, |_| Reach::write(as_u64(at), length as u64), make) as ssize_t
}

/// Replaces `pwrite64`.
///
/// # Safety
///
/// As `pwrite`.
#[unsafe(no_mangle)]
unsafe extern "C" fn pwrite64(
    fd: c_int,
    bytes: *const c_void,
    length: size_t,
    at: off_t,
) -> ssize_t {
    // SAFETY: as promised to this function.
    unsafe { pwrite(fd, bytes, length, at) }
}

/// Replaces `pwritev`.
///
/// # Safety
///
/// As `pwritev`.
#[unsafe(no_mangle)]
unsafe extern "C" fn pwritev(fd: c_int, parts: *const iovec, count: c_int, at: off_t) -> ssize_t {
    // SAFETY: passed on as it came; the kernel takes the position in two halves, of which the
    // lower one is all of it on a 64-bit machine.
    let make = || unsafe { libc::syscall(libc::SYS_pwritev, fd, parts, count, at, 0) };
    change(
        fd,
        |_| Reach::write(as_u64(at), length_of(parts, count)),
        make,
    ) as ssize_t
}

/// Replaces `pwritev64`.
///
/// # Safety
///
/// As `pwritev`.
#[unsafe(no_mangle)]
unsafe extern "C" fn pwritev64(fd: c_int, parts: *const iovec, count: c_int, at: off_t) -> ssize_t {
    // SAFETY: as promised to this function.
    unsafe { pwritev(fd, parts, count, at) }
}

/// Replaces `ftruncate`.
#[unsafe(no_mangle)]
extern "C" fn ftruncate(fd: c_int, size: off_t) -> c_int {
    // SAFETY: numbers only.
    let make = || unsafe { libc::syscall(libc::SYS_ftruncate, fd, size) };
    change(fd, |facts| Reach::rest(as_u64(size), facts.size), make) as c_int
}

/// Replaces `ftruncate64`.
#[unsafe(no_mangle)]
extern "C" fn ftruncate64(fd: c_int, size: off_t) -> c_int {
    ftruncate(fd, size)
}

/// Replaces `fallocate`.
#[unsafe(no_mangle)]
extern "C" fn fallocate(fd: c_int, mode: c_int, at: off_t, length: off_t) -> c_int {
    // SAFETY: numbers only.
    let make = || unsafe { libc::syscall(libc::SYS_fallocate, fd, mode, at, length) };
    let reach = |_: &track::Facts| Reach::whole(as_u64(at), as_u64(length));
    change(fd, reach, make) as c_int
}

/// Replaces `fallocate64`.
#[unsafe(no_mangle)]
extern "C" fn fallocate64(fd: c_int, mode: c_int, at: off_t, length: off_t) -> c_int {
    fallocate(fd, mode, at, length)
}

/// Replaces `posix_fallocate`, which answers with an error number.
#[unsafe(no_mangle)]
extern "C" fn posix_fallocate(fd: c_int, at: off_t, length: off_t) -> c_int {
    if fallocate(fd, 0, at, length) == 0 {
        return 0;
    }
    std::io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO)
}

/// Replaces `posix_fallocate64`.
#[unsafe(no_mangle)]
extern "C" fn posix_fallocate64(fd: c_int, at: off_t, length: off_t) -> c_int {
    posix_fallocate(fd, at, length)
}

fn sync(fd: RawFd, call: c_long) -> c_int {
    // SAFETY: numbers only.
    let make = || unsafe { libc::syscall(call, fd) as c_int };
    let Some(machine) = machine() else {
        return make();
    };
    let (covered, up_to) = {
        let mut tracks = tracks();
        let covered = match track::facts(fd) {
            Some(facts) if facts.regular && tracks.knows(facts.id) => Covered::Bytes(facts.id),
            Some(facts) if facts.folder => match tracked_folder(machine, fd) {
                Some(path) => Covered::Names(path),
                None => return make(),
            },
            _ => return make(),
        };
        if tracks.has_unsynced(&covered) && !machine.count_sync() {
            track::lose_power(machine, &mut tracks);
        }
        (covered, tracks.so_far())
    };
    if machine.ignore_sync {
        return 0;
    }
    let result = make();
    let mut tracks = tracks();
    if !machine.has_power() {
        drop(tracks);
        stand_still();
    }
    if result == 0 {
        tracks.synced(&covered, up_to);
    }
    result
}

fn tracked_folder(machine: &Machine, fd: RawFd) -> Option<PathBuf> {
    // The folder's parent counts too: it has the name of the folder itself.
    let path = track::path_of(fd)?;
    (path.starts_with(&machine.folder) || machine.folder.parent() == Some(&path)).then_some(path)
}

/// Replaces `fsync`.
#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    sync(fd, libc::SYS_fsync)
}

/// Replaces `fdatasync`.
#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    sync(fd, libc::SYS_fdatasync)
}

/// The absolute path of what a caller names, if it is tracked.
fn tracked_path(machine: &Machine, folder: c_int, path: *const c_char) -> Option<PathBuf> {
    if path.is_null() {
        return None;
    }
    // SAFETY: the caller promised a C string.
    let path = Path::new(OsStr::from_bytes(
        unsafe { CStr::from_ptr(path) }.to_bytes(),
    ));
    let path = if path.is_absolute() {
        path.to_owned()
    } else if folder == libc::AT_FDCWD {
        std::env::current_dir().ok()?.join(path)
    } else {
        track::path_of(folder)?.join(path)
    };
    // Without `.` and a slash at the end, so that equal paths are equal.
    let path: PathBuf = path.components().collect();
    path.starts_with(&machine.folder).then_some(path)
}

fn open_at(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: passed on as it came.
    let make = || unsafe {
        libc::syscall(libc::SYS_openat, folder, path, flags, c_uint::from(mode)) as c_int
    };
    let writes = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_CREAT != 0;
    let temporary = flags & libc::O_TMPFILE == libc::O_TMPFILE;
    let Some(machine) = machine().filter(|_| writes && !temporary) else {
        return make();
    };
    let Some(full) = tracked_path(machine, folder, path) else {
        return make();
    };
    let mut tracks = tracks();
    let existed = track::exists(&full);
    if !existed || flags & libc::O_TRUNC != 0 {
        go_on(machine, &mut tracks);
    }
    if existed && flags & libc::O_TRUNC != 0 {
        // Opened without it first, to see what it takes away.
        let without = flags & !(libc::O_TRUNC | libc::O_CREAT | libc::O_EXCL);
        if flags & libc::O_EXCL != 0 {
            return make();
        }
        // SAFETY: passed on as it came.
        let fd = unsafe { libc::syscall(libc::SYS_openat, folder, path, without, 0) as c_int };
        if fd >= 0
            && let Some(found) = track::facts(fd).filter(|facts| facts.regular)
        {
            tracks.add(fd, found.id);
            tracks.will_change(found.id, Reach::rest(0, found.size), found.size);
            // SAFETY: a number for a descriptor that was just opened.
            if unsafe { libc::syscall(libc::SYS_ftruncate, fd, 0) } != 0 {
                die("cannot empty a file that was opened to be emptied");
            }
        }
        return fd;
    }
    let fd = make();
    if fd >= 0
        && let Some(found) = track::facts(fd).filter(|facts| facts.regular)
    {
        tracks.add(fd, found.id);
        if !existed {
            tracks.created(full);
        }
    }
    fd
}

/// Replaces `open`. The mode is an optional third argument in C; on 64-bit Linux it comes the same
/// way as a fixed one.
///
/// # Safety
///
/// As `open`.
#[unsafe(no_mangle)]
unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_at(libc::AT_FDCWD, path, flags, mode)
}

/// Replaces `open64`.
///
/// # Safety
///
/// As `open`.
#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    open_at(libc::AT_FDCWD, path, flags, mode)
}

/// Replaces `openat`.
///
/// # Safety
///
/// As `openat`.
#[unsafe(no_mangle)]
unsafe extern "C" fn openat(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    open_at(folder, path, flags, mode)
}

/// Replaces `openat64`.
///
/// # Safety
///
/// As `openat`.
#[unsafe(no_mangle)]
unsafe extern "C" fn openat64(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    open_at(folder, path, flags, mode)
}

/// Replaces `creat`.
///
/// # Safety
///
/// As `creat`.
#[unsafe(no_mangle)]
unsafe extern "C" fn creat(path: *const c_char, mode: mode_t) -> c_int {
    open_at(
        libc::AT_FDCWD,
        path,
        libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC,
        mode,
    )
}

/// Replaces `creat64`.
///
/// # Safety
///
/// As `creat`.
#[unsafe(no_mangle)]
unsafe extern "C" fn creat64(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: as promised to this function.
    unsafe { creat(path, mode) }
}

/// Replaces `renameat2`.
///
/// # Safety
///
/// As `renameat2`.
#[unsafe(no_mangle)]
unsafe extern "C" fn renameat2(
    from_folder: c_int,
    from: *const c_char,
    to_folder: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    let call = libc::SYS_renameat2;
    // SAFETY: passed on as it came.
    let make = || unsafe { libc::syscall(call, from_folder, from, to_folder, to, flags) as c_int };
    let Some(machine) = machine() else {
        return make();
    };
    let full = (
        tracked_path(machine, from_folder, from),
        tracked_path(machine, to_folder, to),
    );
    let (from, to) = match full {
        (None, None) => return make(),
        (Some(from), Some(to)) if flags == 0 => (from, to),
        _ => die("a rename into, out of or within the folder that is not modelled"),
    };
    let mut tracks = tracks();
    go_on(machine, &mut tracks);
    let stashed = if track::exists(&to) {
        tracks.stash(machine, &to)
    } else {
        None
    };
    let result = make();
    if result == 0 {
        tracks.renamed(from, to, stashed);
    }
    result
}

/// Replaces `rename`.
///
/// # Safety
///
/// As `rename`.
#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: as promised to this function.
    unsafe { renameat2(libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0) }
}

/// Replaces `renameat`.
///
/// # Safety
///
/// As `renameat`.
#[unsafe(no_mangle)]
unsafe extern "C" fn renameat(
    from_folder: c_int,
    from: *const c_char,
    to_folder: c_int,
    to: *const c_char,
) -> c_int {
    // SAFETY: as promised to this function.
    unsafe { renameat2(from_folder, from, to_folder, to, 0) }
}

/// Replaces `unlinkat`. A folder that was removed stays so; what was removed in it before is gone
/// for good once the folder above is synced.
///
/// # Safety
///
/// As `unlinkat`.
#[unsafe(no_mangle)]
unsafe extern "C" fn unlinkat(folder: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: passed on as it came.
    let make = || unsafe { libc::syscall(libc::SYS_unlinkat, folder, path, flags) as c_int };
    let Some(machine) = machine() else {
        return make();
    };
    let Some(full) = tracked_path(machine, folder, path) else {
        return make();
    };
    let mut tracks = tracks();
    if !track::exists(&full) {
        return make();
    }
    go_on(machine, &mut tracks);
    if flags == libc::AT_REMOVEDIR {
        let result = make();
        if result == 0 {
            tracks.folder_removed(&full);
        }
        return result;
    }
    let stashed = tracks.stash(machine, &full);
    let result = make();
    if result == 0 {
        match stashed {
            Some(stashed) => tracks.removed(full, stashed),
            None => die("a file was removed that could not be kept"),
        }
    }
    result
}

/// Replaces `unlink`.
///
/// # Safety
///
/// As `unlink`.
#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: as promised to this function.
    unsafe { unlinkat(libc::AT_FDCWD, path, 0) }
}

/// Replaces `rmdir`.
///
/// # Safety
///
/// As `rmdir`.
#[unsafe(no_mangle)]
unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    // SAFETY: as promised to this function.
    unsafe { unlinkat(libc::AT_FDCWD, path, libc::AT_REMOVEDIR) }
}

/// Replaces `mkdirat`.
///
/// # Safety
///
/// As `mkdirat`.
#[unsafe(no_mangle)]
unsafe extern "C" fn mkdirat(folder: c_int, path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: passed on as it came.
    let make =
        || unsafe { libc::syscall(libc::SYS_mkdirat, folder, path, c_uint::from(mode)) as c_int };
    let Some(machine) = machine() else {
        return make();
    };
    let Some(full) = tracked_path(machine, folder, path) else {
        return make();
    };
    let mut tracks = tracks();
    go_on(machine, &mut tracks);
    let result = make();
    if result == 0 {
        tracks.created(full);
    }
    result
}

/// Replaces `mkdir`.
///
/// # Safety
///
/// As `mkdir`.
#[unsafe(no_mangle)]
unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: as promised to this function.
    unsafe { mkdirat(libc::AT_FDCWD, path, mode) }
}

/// Ends the process if a call that is not modelled would change a tracked file.
fn refuse(fd: RawFd, name: &str) {
    if machine().is_some()
        && let Some(facts) = track::facts(fd)
        && facts.regular
        && tracks().knows(facts.id)
    {
        die(&format!("{name} on a tracked file is not modelled"));
    }
}

/// Replaces `copy_file_range`: not modelled for tracked files.
///
/// # Safety
///
/// As `copy_file_range`.
#[unsafe(no_mangle)]
unsafe extern "C" fn copy_file_range(
    from: c_int,
    from_at: *mut off_t,
    to: c_int,
    to_at: *mut off_t,
    length: size_t,
    flags: c_uint,
) -> ssize_t {
    refuse(to, "copy_file_range");
    let call = libc::SYS_copy_file_range;
    // SAFETY: passed on as it came.
    unsafe { libc::syscall(call, from, from_at, to, to_at, length, flags) as ssize_t }
}

/// Replaces `mmap`: writing to a tracked file through memory is not modelled.
///
/// # Safety
///
/// As `mmap`.
#[unsafe(no_mangle)]
unsafe extern "C" fn mmap(
    at: *mut c_void,
    length: size_t,
    access: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut c_void {
    if fd >= 0 && access & libc::PROT_WRITE != 0 && flags & libc::MAP_SHARED != 0 {
        refuse(fd, "mmap for writing");
    }
    // SAFETY: passed on as it came.
    unsafe { libc::syscall(libc::SYS_mmap, at, length, access, flags, fd, offset) as *mut c_void }
}

/// Replaces `mmap64`.
///
/// # Safety
///
/// As `mmap`.
#[unsafe(no_mangle)]
unsafe extern "C" fn mmap64(
    at: *mut c_void,
    length: size_t,
    access: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut c_void {
    // SAFETY: as promised to this function.
    unsafe { mmap(at, length, access, flags, fd, offset) }
}
