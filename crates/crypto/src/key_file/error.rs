//! Why a key file cannot be used.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::unlock::StaysLocked;

/// Which of a Region's secrets a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// What seals material at rest.
    DomainKey,
    /// What unwraps material of other Regions.
    RegionKey,
    /// A copy of both.
    Backup,
}

impl SecretKind {
    /// How the first line begins; the file's format follows.
    pub(super) fn begins(self) -> &'static str {
        match self {
            Self::DomainKey => "keyrum-domain-key ",
            Self::RegionKey => "keyrum-region-key ",
            Self::Backup => "keyrum-backup ",
        }
    }

    /// What cannot go on without it, and what helps.
    fn without_it(self) -> &'static str {
        match self {
            Self::DomainKey => {
                ", and this node has data sealed under it; without it no key of this Region can be \
                 used. Nothing was changed. Put it back from a backup with `keyrum domain-key restore`, or \
                 copy the file from where another node of the Region has it, with mode 0600; then start \
                 again"
            }
            Self::RegionKey => {
                ", and the other Regions wrap material to it; without it this Region could take no \
                 multi-Region key of theirs. Nothing was changed. Put it back from a backup with `keyrum \
                 domain-key restore`, or copy the file from where another node of the Region has it, with \
                 mode 0600; then start again"
            }
            Self::Backup => ". Nothing was changed",
        }
    }

    /// What helps where the file cannot be used.
    fn instead(self) -> &'static str {
        match self {
            Self::DomainKey | Self::RegionKey => {
                "replace it with the copy of another node of the Region or a backup, and start again"
            }
            Self::Backup => "use another copy",
        }
    }
}

impl fmt::Display for SecretKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DomainKey => "domain key",
            Self::RegionKey => "Region key",
            Self::Backup => "backup",
        })
    }
}

/// Why a key file cannot be used. Nothing is changed or lost in any of these cases.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is no file, but there is something that needs the key it held.
    #[error(
        "the {kind} file {} is missing{}", path.display(), kind.without_it()
    )]
    Missing {
        /// Which secret.
        kind: SecretKind,
        /// Where it should be.
        path: PathBuf,
    },
    /// Others than the owner may read or write it.
    #[error(
        "the {kind} file {file} is open to others (mode {mode:03o}); it must be 600. Nothing \
         was changed; check who read it, then run: chmod 600 {file}", file = path.display()
    )]
    OpenToOthers {
        /// Which secret.
        kind: SecretKind,
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not such a file, or it is damaged.
    #[error(
        "the {kind} file {} cannot be used: {problem}. Nothing was changed; {}", path.display(),
        kind.instead()
    )]
    Unusable {
        /// Which secret.
        kind: SecretKind,
        /// Which file.
        path: PathBuf,
        /// What is wrong; never shows the key.
        problem: &'static str,
    },
    /// It is locked, and what was given does not open it.
    #[error(
        "the {kind} file {} stays locked: {why}. What opens it is given with --unlock, to a cluster when \
         it starts. Nothing was changed", path.display()
    )]
    Locked {
        /// Which secret.
        kind: SecretKind,
        /// Which file.
        path: PathBuf,
        /// What was wrong or missing.
        why: StaysLocked,
    },
    /// There is a file already, and it is never overwritten.
    #[error("the {kind} file {} exists already; it is never overwritten", path.display())]
    Exists {
        /// Which secret.
        kind: SecretKind,
        /// Which file.
        path: PathBuf,
    },
    /// Since it was opened, another domain key took the file's place.
    #[error(
        "the domain key file {} holds another domain key than it did when this node started. \
         Nothing was changed; put the Region's own file back", path.display()
    )]
    Exchanged {
        /// Which file.
        path: PathBuf,
    },
    /// The version is there with another secret.
    #[error(
        "the domain key file {} has another version {version} already. Nothing was changed",
        path.display()
    )]
    OtherVersion {
        /// Which file.
        path: PathBuf,
        /// Which version.
        version: u32,
    },
    /// A domain key without versions would open nothing.
    #[error(
        "version {version} is the last one in the domain key file {}, and stays. Nothing was \
         changed", path.display()
    )]
    LastVersion {
        /// Which file.
        path: PathBuf,
        /// Which version.
        version: u32,
    },
    /// The file system refused.
    #[error("cannot {action} the {kind} file {}: {source}", path.display())]
    Io {
        /// Which secret.
        kind: SecretKind,
        /// Which file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}
