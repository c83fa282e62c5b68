//! A power loss for processes that only think they run on a real machine.
//!
//! Preloaded into a process (`LD_PRELOAD`), this library stands between it and the C library's
//! file functions. For every file below one folder it remembers what each write, truncation,
//! creation, rename and removal replaced, and forgets that again when the file (for its bytes) or
//! the folder (for its names) is synced with `fsync` or `fdatasync`. When the power goes, every
//! change that is still remembered is undone and the process ends at once, without a word.
//!
//! What it is strict about:
//!
//! - `sync_file_range` covers nothing: it says nothing about a disk's cache or the file's size.
//! - A file's sync does not cover its name; only a sync of its folder does.
//! - A sync counts if it returned before the power went. Whatever a process said to the world
//!   because of it is then true of the disk.
//!
//! What it cannot see: system calls made without the C library, memory maps that are written to
//! (refused for tracked files), and changes that another process left unsynced when it ended.
//!
//! Settings, as environment variables:
//!
//! - `KEYRUM_POWERLOSS_FOLDER`: the folder, as an absolute path without symbolic links. Without
//!   it the library does nothing.
//! - `KEYRUM_POWERLOSS_SWITCH`: a file of 16 bytes or more that all processes of the "machine"
//!   and the test map, as words (u32, native order). The first is 0 while there is power. The
//!   second, if not 0, counts down with every change to a tracked file, in all processes together,
//!   and takes the power away when it gets to 0; the third does so with every sync that would
//!   cover something, which then does not happen. The fourth, if not 0, has unsynced changes torn
//!   instead of undone (see [`tear`]), by choices that it fixes. Files the undoing pushes aside go
//!   to a folder of the same name with `.stash` behind it, a line for each process to one with
//!   `.report`: JSON with `pid`, `files` with changes undone, `writes` and truncations undone,
//!   `torn`, those of them undone in part only, `bytes` put back, and `names` made, renamed and
//!   removed that were undone.
//! - `KEYRUM_POWERLOSS_IGNORE_SYNC=1`: syncs report success and cover nothing, as on a disk that
//!   lies, or in a program that forgot them.

#![expect(
    unsafe_code,
    reason = "it replaces functions of the C library, which is unsafe by nature"
)]

mod calls;
mod machine;
mod tear;
mod track;
