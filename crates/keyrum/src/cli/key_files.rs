//! `keyrum domain-key lock|unlock|backup|restore`, and how a locked domain key is opened.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use keyrum_types::Region;

use super::Place;

/// What opens locked domain keys.
#[derive(Debug, Default, Args)]
pub(crate) struct Opener {
    /// The passphrase or shares that open locked domain keys: a passphrase on one line, share lines, or
    /// both; - for standard input. Without it a terminal is asked
    #[arg(long, value_name = "FILE|-")]
    pub(crate) unlock: Option<PathBuf>,
}

/// What is done with the files of a Region's secrets, whether the cluster runs or not.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyFiles {
    /// Encrypt the files with a Region's keys under a passphrase or shares
    ///
    /// From then on `keyrum dev`, `node` and `cluster up` need --unlock, or ask. Nodes that run go on.
    /// Without --passphrase-file and --shares, a terminal is asked for a passphrase.
    Lock(KeyFilesLock),
    /// Make the files with a Region's keys plain again
    Unlock(KeyFilesUnlock),
    /// Copy a Region's domain key, with all its versions, and its Region key into one file
    ///
    /// Without --passphrase-file, --shares and --plain, a terminal is asked for a passphrase.
    Backup(KeyFilesBackup),
    /// Put a backup's keys back where they are missing
    ///
    /// A file that can be used is never replaced: a domain key file only gets the versions it lacks. What
    /// is made is locked as the backup is.
    Restore(KeyFilesRestore),
}

#[derive(Debug, Args)]
pub(crate) struct KeyFilesLock {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Only this Region
    #[arg(long, value_name = "NAME")]
    pub(crate) region: Option<Region>,
    #[command(flatten)]
    pub(crate) with: LockWith,
    #[command(flatten)]
    pub(crate) opener: Opener,
}

#[derive(Debug, Args)]
pub(crate) struct KeyFilesUnlock {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Only this Region
    #[arg(long, value_name = "NAME")]
    pub(crate) region: Option<Region>,
    #[command(flatten)]
    pub(crate) opener: Opener,
}

#[derive(Debug, Args)]
pub(crate) struct KeyFilesBackup {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Which Region; may be left out if there is one
    #[arg(long, value_name = "NAME")]
    pub(crate) region: Option<Region>,
    /// The backup, which must not be there yet
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
    #[command(flatten)]
    pub(crate) with: LockWith,
    /// Do not encrypt it: whoever may read it has the keys
    #[arg(long, conflicts_with_all = ["passphrase_file", "shares"])]
    pub(crate) plain: bool,
    #[command(flatten)]
    pub(crate) opener: Opener,
}

#[derive(Debug, Args)]
pub(crate) struct KeyFilesRestore {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Which Region; else the backup's own
    #[arg(long, value_name = "NAME")]
    pub(crate) region: Option<Region>,
    /// The backup
    #[arg(long, value_name = "FILE")]
    pub(crate) from: PathBuf,
    #[command(flatten)]
    pub(crate) opener: Opener,
}

/// What something is to be locked with.
#[derive(Debug, Args)]
pub(crate) struct LockWith {
    /// A file with the new passphrase on one line, of 12 characters or more; - for standard input
    #[arg(long, value_name = "FILE|-")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Make N shares of which any K open it, such as 2/3
    #[arg(
        long,
        value_name = "K/N",
        conflicts_with = "passphrase_file",
        requires = "out"
    )]
    pub(crate) shares: Option<ShareCounts>,
    /// A folder for the shares, one file each; - prints them
    #[arg(long, value_name = "DIR|-", requires = "shares")]
    pub(crate) out: Option<PathBuf>,
}

/// So many of so many shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShareCounts {
    pub(crate) needed: u8,
    pub(crate) of: u8,
}

/// The text is not K/N.
#[derive(Debug, Clone, thiserror::Error)]
#[error("shares are K/N such as 2/3, with K at least 2 and N at most 255")]
pub(crate) struct InvalidCounts;

impl FromStr for ShareCounts {
    type Err = InvalidCounts;

    fn from_str(text: &str) -> Result<Self, InvalidCounts> {
        let (needed, of) = text.split_once('/').ok_or(InvalidCounts)?;
        match (needed.parse(), of.parse()) {
            (Ok(needed), Ok(of)) if (2..=of).contains(&needed) => Ok(Self { needed, of }),
            _ => Err(InvalidCounts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches shares that open nothing, or of which one is enough.
    #[test]
    fn shares_are_k_of_n() {
        let good: ShareCounts = "2/3".parse().unwrap();
        assert_eq!((good.needed, good.of), (2, 3));
        for bad in ["", "2", "3/2", "1/3", "0/0", "2/256", "2/", "2/3/4", "-2/3"] {
            assert!(bad.parse::<ShareCounts>().is_err(), "{bad}");
        }
    }
}
