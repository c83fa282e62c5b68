//! The files that hold a Region's domain key and the key that other Regions wrap material to: text,
//! mode 0600, outside the log and the store.
//!
//! A file appears whole and synced, or not at all, and none is overwritten by a new one: a domain key
//! that is lost takes every key of the Region with it. Only versions are added to it and taken from it.

mod contents;
mod disk;
mod domain;
mod error;
mod region;
#[cfg(test)]
mod tests;

pub use domain::{DomainKeyFile, DomainKeys, DomainKeysError, MemoryDomainKeys, create};
pub use error::{KeyFileError, SecretKind};
pub use region::{create_region_key, load_region_key};
