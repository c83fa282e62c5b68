//! Why a store stopped or refused to open. Each message names the file, the row where there is
//! one, and what the person in charge of the node should do.

use std::io;

/// What to do about a folder whose content cannot be trusted.
const REPLACE: &str = "stop using this folder; move it away and add the node again under a new \
id, so that it catches up from the others";

/// A node's own trouble with its disk. It stops the node; it is never part of a replicated result.
///
/// Cloneable, because a store that failed once gives every later caller the same answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Bytes that were written are no longer what was written: a failed checksum, a gap in the
    /// log, a torn or damaged file.
    #[error("{file}: {row}: {what}; {REPLACE}")]
    Corrupt {
        /// The file, with its folder.
        file: String,
        /// Which record in the file.
        row: String,
        /// What is wrong with it.
        what: String,
    },
    /// The database holds less than was acknowledged: its recovery dropped synced records, or
    /// an old copy of the file was put back.
    #[error(
        "{file}: {row}: acknowledged up to {marked} according to the high-water mark, but only \
         {found} is there; {REPLACE}"
    )]
    BelowHighWaterMark {
        /// The database file, with its folder.
        file: String,
        /// Which record is missing or too old.
        row: String,
        /// What the mark says must be there.
        marked: String,
        /// What is there.
        found: String,
    },
    /// The disk is full. Nothing acknowledged was lost.
    #[error(
        "{file}: disk full during {during} ({message}); nothing acknowledged was lost; free \
         space on this disk, then start the node again"
    )]
    DiskFull {
        /// The file, with its folder.
        file: String,
        /// Which step failed.
        during: String,
        /// The operating system's words.
        message: String,
    },
    /// Writing or syncing failed, so what the disk holds beyond the last acknowledgement is
    /// unknown until the folder is opened again. Nothing acknowledged was lost.
    #[error(
        "{file}: {during} failed ({message}); nothing acknowledged was lost, and nothing more is \
         accepted; check the disk, then start the node again"
    )]
    Io {
        /// The file, with its folder.
        file: String,
        /// Which step failed.
        during: String,
        /// The operating system's words.
        message: String,
    },
    /// Another process, or another store of this process, has the folder open.
    #[error("{folder}: in use by another process; stop that one or name another data folder")]
    Locked {
        /// The data folder.
        folder: String,
    },
    /// A record written by a version of this program that this one does not know.
    #[error(
        "{file}: {row}: written in format {found}, this program reads format {supported}; start \
         the version that wrote it, or a newer one"
    )]
    OtherFormat {
        /// The file, with its folder.
        file: String,
        /// Which record in the file.
        row: String,
        /// The format version found.
        found: u8,
        /// The format version this program reads and writes.
        supported: u8,
    },
    /// The caller asked for something that would break the log, such as a gap. Nothing was
    /// written and the store goes on.
    #[error("{what}")]
    Misuse {
        /// What was asked for and why it cannot be.
        what: String,
    },
    /// The store was closed, or its simulated machine lost power.
    #[error("{folder}: the store is closed")]
    Closed {
        /// The data folder.
        folder: String,
    },
}

impl StoreError {
    pub(crate) fn misuse(what: String) -> Self {
        Self::Misuse { what }
    }
}

/// The error for a failed file operation, by what the operating system said.
pub(crate) fn from_io(file: String, during: &str, error: &io::Error) -> StoreError {
    let (during, message) = (during.to_owned(), error.to_string());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StoreError::DiskFull {
                file,
                during,
                message,
            }
        }
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => StoreError::Corrupt {
            file,
            row: format!("while {during}"),
            what: message,
        },
        _ => StoreError::Io {
            file,
            during,
            message,
        },
    }
}
