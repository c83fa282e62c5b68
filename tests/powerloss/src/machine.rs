//! The switch that all processes of one "machine" share, and what happens when it goes off.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::track;

/// What the environment says, once the library is loaded.
pub(crate) struct Machine {
    /// Files below it are tracked.
    pub(crate) folder: PathBuf,
    /// Where files go that an undone rename or removal brings back, or an undone creation leaves.
    pub(crate) stash: PathBuf,
    /// Whether syncs cover nothing.
    pub(crate) ignore_sync: bool,
    report: PathBuf,
    switch: &'static Words,
}

/// The switch file's words: whether the power is gone, changes and syncs until it goes, and what
/// fixes how unsynced changes are torn.
type Words = [AtomicU32; 4];

static MACHINE: OnceLock<Machine> = OnceLock::new();

/// The machine, if this process runs on one.
pub(crate) fn machine() -> Option<&'static Machine> {
    MACHINE.get()
}

/// Run by the dynamic loader before the program's `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = {
    extern "C" fn start() {
        let var = |name: &str| std::env::var_os(format!("KEYRUM_POWERLOSS_{name}"));
        let (Some(folder), Some(switch)) = (var("FOLDER"), var("SWITCH")) else {
            return;
        };
        let beside = |suffix: &str| {
            let mut path = switch.clone();
            path.push(suffix);
            PathBuf::from(path)
        };
        let machine = Machine {
            folder: PathBuf::from(folder),
            stash: beside(".stash"),
            report: beside(".report"),
            ignore_sync: var("IGNORE_SYNC").is_some_and(|value| value == "1"),
            switch: map(&switch),
        };
        let _ = MACHINE.set(machine);
        #[expect(
            clippy::disallowed_methods,
            reason = "a foreign process has no other seam"
        )]
        std::thread::spawn(wait_for_the_end);
    }
    start
};

/// Run when the process ends by itself: if that is because others lost their power, it may be
/// quicker than the watching thread.
#[used]
#[unsafe(link_section = ".fini_array")]
static END: extern "C" fn() = {
    extern "C" fn end() {
        if let Some(machine) = machine().filter(|machine| !machine.has_power()) {
            track::lose_power(machine, &mut track::tracks());
        }
    }
    end
};

/// Maps the switch file's words for as long as the process lives.
fn map(file: &std::ffi::OsStr) -> &'static Words {
    let Ok(path) = CString::new(file.as_bytes()) else {
        die("the switch's path has a zero byte")
    };
    // SAFETY: the path is a C string; the mapping is shared, as large as the type behind the
    // returned pointer, aligned to a page, and never removed.
    unsafe {
        let fd = libc::syscall(
            libc::SYS_openat,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::O_RDWR | libc::O_CLOEXEC,
        );
        let fd = libc::c_int::try_from(fd).unwrap_or(-1);
        let (size, access) = (size_of::<Words>(), libc::PROT_READ | libc::PROT_WRITE);
        let at = libc::mmap(std::ptr::null_mut(), size, access, libc::MAP_SHARED, fd, 0);
        if fd < 0 || at == libc::MAP_FAILED {
            die("the switch file cannot be mapped");
        }
        libc::close(fd);
        &*at.cast()
    }
}

impl Machine {
    /// Whether there is power.
    pub(crate) fn has_power(&self) -> bool {
        self.switch[0].load(Ordering::SeqCst) == 0
    }

    /// What fixes how unsynced changes are torn; `None` if they are undone.
    pub(crate) fn torn_by(&self) -> Option<u32> {
        Some(self.switch[3].load(Ordering::SeqCst)).filter(|seed| *seed != 0)
    }

    /// Counts a change that is about to happen. False when the power went instead.
    pub(crate) fn count_change(&self) -> bool {
        self.count(&self.switch[1])
    }

    /// Counts a sync that is about to happen. False when the power went instead.
    pub(crate) fn count_sync(&self) -> bool {
        self.count(&self.switch[2])
    }

    fn count(&self, word: &AtomicU32) -> bool {
        let left = word.load(Ordering::SeqCst);
        if left > 0 && word.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.switch[0].store(1, Ordering::SeqCst);
            // SAFETY: the word is mapped for good.
            unsafe {
                let word = self.switch[0].as_ptr();
                libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, i32::MAX);
            }
        }
        self.has_power()
    }

    /// Notes what was undone, for the test to read.
    pub(crate) fn report(&self, line: &str) {
        let Ok(path) = CString::new(self.report.as_os_str().as_bytes()) else {
            return;
        };
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC;
        // SAFETY: the path is a C string and the line's bytes outlive the call.
        unsafe {
            let fd = libc::syscall(
                libc::SYS_openat,
                libc::AT_FDCWD,
                path.as_ptr(),
                flags,
                0o600,
            );
            libc::syscall(libc::SYS_write, fd, line.as_ptr(), line.len());
        }
    }
}

/// The watching thread: sleeps until the power goes, then takes everything along.
fn wait_for_the_end() {
    let Some(machine) = machine() else { return };
    while machine.has_power() {
        // SAFETY: the word is mapped for good. The wait ends when another process wakes us or the
        // word is not 0 any more. A test that writes to the file wakes nobody, hence the limit.
        unsafe {
            let word = machine.switch[0].as_ptr();
            let limit = libc::timespec {
                tv_sec: 0,
                tv_nsec: 5_000_000,
            };
            libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, 0, &raw const limit);
        }
    }
    track::lose_power(machine, &mut track::tracks());
}

/// Never returns; the watching thread ends the process.
pub(crate) fn stand_still() -> ! {
    loop {
        // SAFETY: waits for a signal, which changes nothing here.
        unsafe { libc::pause() };
    }
}

/// Ends the process because the library cannot do its work: a test must not pass by accident.
pub(crate) fn die(why: &str) -> ! {
    let line = format!("keyrum-powerloss: {why}\n");
    // SAFETY: the line's bytes outlive the call.
    unsafe { libc::syscall(libc::SYS_write, 2, line.as_ptr(), line.len()) };
    std::process::abort()
}
