//! The power of a node's process, for experiments: what it has not synced is lost when it goes.
//!
//! A process that is killed loses nothing, since the kernel goes on to write. So the process is started with
//! `tests/powerloss` preloaded, which remembers what unsynced changes to the node's files replaced, and
//! undoes them when a word of a file, the switch, says that the power is gone. Only `keyrum lab run
//! --power-loss` has a cluster start its nodes so, and only a test cluster does.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cli::NodeName;
use crate::files;

/// The switch's words, by their offset: no power, syncs until there is none, and how changes are torn.
const GONE: u64 = 0;
const SYNCS: u64 = 8;
const TORN_BY: u64 = 12;

/// How power is lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Loss {
    /// Unsynced changes are torn, by choices that this fixes; absent or 0: they are gone.
    #[serde(default)]
    pub(crate) torn_by: Option<u32>,
    /// Not now, but at the sync after so many more.
    #[serde(default)]
    pub(crate) after_syncs: Option<u64>,
}

/// One node's power.
#[derive(Debug, Clone)]
pub(crate) struct Power {
    library: PathBuf,
    /// Changes below it are lost.
    folder: PathBuf,
    /// On the same disk, and not below the folder.
    switch: PathBuf,
}

/// What a process lost.
#[derive(Debug, Deserialize)]
struct Report {
    pid: u32,
    /// Writes and truncations undone.
    writes: u64,
    /// Names made, renamed and removed that were undone.
    names: u64,
}

impl Power {
    /// A node's power, in a data folder given as an absolute path without symbolic links.
    pub(crate) fn new(library: &Path, data: &Path, folder: &Path, node: &NodeName) -> Self {
        let switch = format!("{}-{}", node.region, node.id);
        Self {
            library: library.to_owned(),
            folder: folder.to_owned(),
            switch: data.join("power").join(switch),
        }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.switch.clone().into_os_string();
        path.push(suffix);
        path.into()
    }

    /// Turns it on for a process that is about to start, and gives the environment it needs.
    pub(crate) fn on(&self) -> io::Result<[(&'static str, PathBuf); 3]> {
        let stash = self.beside(".stash");
        files::remove_all(&stash)?;
        files::remove_all(&self.beside(".report"))?;
        std::fs::create_dir_all(&stash)?;
        std::fs::write(&self.switch, [0; 16])?;
        Ok([
            ("LD_PRELOAD", self.library.clone()),
            ("KEYRUM_POWERLOSS_FOLDER", self.folder.clone()),
            ("KEYRUM_POWERLOSS_SWITCH", self.switch.clone()),
        ])
    }

    /// Turns it off for the process that runs, which ends once it has noticed: when it next changes or
    /// syncs something, or 5 ms later.
    pub(crate) fn off(&self, loss: Loss) -> io::Result<()> {
        let switch = std::fs::File::options().write(true).open(&self.switch)?;
        let set = |word, value: u32| switch.write_all_at(&value.to_ne_bytes(), word);
        set(TORN_BY, loss.torn_by.unwrap_or(0))?;
        match loss.after_syncs {
            None => set(GONE, 1),
            Some(syncs) => set(SYNCS, u32::try_from(syncs).unwrap_or(u32::MAX - 1) + 1),
        }
    }

    /// Whether it is gone.
    pub(crate) fn is_gone(&self) -> bool {
        let mut word = [0; 4];
        let switch = std::fs::File::open(&self.switch);
        let read = switch.and_then(|switch| switch.read_exact_at(&mut word, GONE));
        read.is_ok() && u32::from_ne_bytes(word) != 0
    }

    /// How many changes of a process were undone, in whole or in part; `None` if it lost no power.
    pub(crate) fn undone(&self, pid: u32) -> Option<u64> {
        let text = std::fs::read_to_string(self.beside(".report")).ok()?;
        let mut reports = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let report: Report = reports.find(|report: &Report| report.pid == pid)?;
        Some(report.writes + report.names)
    }
}
