//! The files that hold a Region's domain key and the key that other Regions wrap material to: text,
//! mode 0600, outside the log and the store.
//!
//! A file appears whole and synced, or not at all, and none is overwritten by a new one: a domain key
//! that is lost takes every key of the Region with it. Versions are added to it and taken from it, and it
//! is locked and unlocked, each time by another whole file in its place.

mod backup;
mod contents;
mod disk;
mod domain;
mod error;
mod keys;
mod lock;
mod region;
mod share;
#[cfg(test)]
mod tests;
mod unlock;

pub use backup::{Backup, Restored};
pub use domain::{DomainKeyFile, OpenedBy, create};
pub use error::{KeyFileError, SecretKind};
pub use keys::{DomainKeys, DomainKeysError, MemoryDomainKeys};
pub use lock::{FileLock, InvalidLock, PASSPHRASE_CHARS_MIN};
pub use region::{create_region_key, load_region_key};
pub use share::{InvalidShare, Share};
pub use unlock::{InvalidUnlock, StaysLocked, Unlock};
