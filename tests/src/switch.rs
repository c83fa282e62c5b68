//! The power switch of a machine that `tests/powerloss` simulates.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A switch that processes started with its environment share.
#[derive(Debug)]
pub struct Switch {
    file: PathBuf,
}

/// What one process lost.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Report {
    /// Which process.
    pub pid: u32,
    /// Files with changes that were undone.
    pub files: u64,
    /// Writes and truncations undone.
    pub writes: u64,
    /// Those of them that were undone in part only.
    pub torn: u64,
    /// Bytes that were overwritten and put back.
    pub bytes: u64,
    /// Creations, renames and removals undone.
    pub names: u64,
}

impl Switch {
    /// A switch that is on. Its files go to `folder`, on the same disk as the machine's files but
    /// not among them.
    pub fn new(folder: &Path) -> Self {
        let switch = Self {
            file: folder.join("switch"),
        };
        switch.turn_on();
        switch
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.file.clone().into_os_string();
        path.push(suffix);
        path.into()
    }

    /// Power again, for processes started from now on.
    pub fn turn_on(&self) {
        let stash = self.beside(".stash");
        let _ = std::fs::remove_dir_all(&stash);
        let _ = std::fs::remove_file(self.beside(".report"));
        std::fs::create_dir(&stash).expect("a folder for the stash");
        std::fs::write(&self.file, vec![0; 4096]).expect("a switch file");
    }

    /// The environment of a process on the machine whose files are in `machine`. With `lying`,
    /// syncs do nothing.
    pub fn environment(&self, machine: &Path, lying: bool) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_str().expect("a path of plain letters").to_owned();
        let mut envs = vec![
            ("LD_PRELOAD".to_owned(), text(crate::powerloss_library())),
            ("KEYRUM_POWERLOSS_FOLDER".to_owned(), text(machine)),
            ("KEYRUM_POWERLOSS_SWITCH".to_owned(), text(&self.file)),
        ];
        if lying {
            envs.push(("KEYRUM_POWERLOSS_IGNORE_SYNC".to_owned(), "1".to_owned()));
        }
        envs
    }

    fn write(&self, offset: u64, word: u32) {
        let file = std::fs::File::options()
            .write(true)
            .open(&self.file)
            .expect("the switch");
        file.write_all_at(&word.to_ne_bytes(), offset)
            .expect("the switch can be written");
    }

    /// Takes the power away now.
    pub fn cut(&self) {
        self.write(0, 1);
    }

    /// Takes the power away instead of the `changes`-th change to a file from now on, counted over
    /// all processes: in the middle of whatever they are doing.
    pub fn cut_before_change(&self, changes: u32) {
        self.write(4, changes);
    }

    /// Takes the power away instead of the `syncs`-th sync from now on that would cover something.
    pub fn cut_at_sync(&self, syncs: u32) {
        self.write(8, syncs);
    }

    /// From now on a loss of power tears what was not synced, by choices that `seed` fixes.
    pub fn tear_by(&self, seed: u32) {
        self.write(12, seed);
    }

    /// What each process lost.
    pub fn reports(&self) -> Vec<Report> {
        let text = std::fs::read_to_string(self.beside(".report")).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a report is JSON"))
            .collect()
    }
}
