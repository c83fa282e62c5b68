//! The whole API, driven by the official SDK as a user's program would drive it, and by raw HTTP
//! where an SDK would not go along. Texts of errors are the real service's, as its error reference
//! and recorded answers give them.
//!
//! Tests share one `keyrum dev` of two Regions with three nodes each; each keeps to an account of
//! its own.

mod accounts;
mod agreement;
mod aliases;
mod asymmetric;
mod clock;
mod consistency;
mod crypto;
mod custom_tags;
mod data_key_pairs;
mod delay;
mod desk;
mod grants;
mod hostile;
mod import;
mod kinds;
mod last_usage;
mod limits;
mod macs;
mod managed;
mod names;
mod paging;
mod policies;
mod quotas;
mod raw;
mod recipients;
mod rotation;
mod rush;
mod seed;
mod signing;
mod sts;
mod tags;
mod tls;
mod validation;
mod walk;
