//! Consensus: one openraft group per Region, its peer network and its reads.
//!
//! Only this crate knows openraft. It moves encoded commands and hands out views of the state;
//! it knows nothing of HTTP, key material or API operations.

pub mod certs;
mod chance;
mod codec;
mod courier;
mod digests;
mod distance;
mod domain;
pub mod faults;
mod group;
mod handler;
mod limit;
mod links;
mod log_storage;
mod machine;
mod members;
mod network;
mod past;
mod peers;
mod propose;
mod reads;
#[cfg(test)]
mod restart_tests;
mod status;
#[cfg(test)]
mod storage_suite;
mod taken;
pub mod tasks;
mod tls_credentials;
mod turns;
mod types;
pub mod world;

pub use courier::{Delivery, Receipt, Receiver, Undelivered};
pub use distance::SimulatedLink;
pub use domain::{DomainKeyName, OtherDomainKey, is_new};
pub use group::{Group, GroupConfig, StartError, StopReason};
pub use limit::answer_by;
pub use links::{Links, LinksError};
pub use machine::{HistoryEntry, HistoryOrigin};
pub use members::MembershipError;
pub use propose::{Done, ProposeError};
pub use reads::{ReadError, ReadMode};
pub use status::{Ballot, ChannelStatus, NodeStatus, Role};
pub use taken::Taken;
pub use tls_credentials::TlsStatus;
