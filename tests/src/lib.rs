//! What the end-to-end tests share: the built programs, running clusters that nothing survives,
//! clients for them, and waiting with a deadline.
//!
//! The tests see Keyrum as its users do: the `keyrum` program, its ready file, its endpoint.

#[path = "../../crates/crypto/src/attestation/testing.rs"]
pub mod attestation;
mod binary;
pub mod certificates;
mod cluster;
mod dev;
pub mod http;
pub mod import;
mod ready;
pub mod recipients;
pub mod sdk;
pub mod steady;
pub mod switch;
pub mod wait;
pub mod writers;

pub use binary::{keyrum, powerloss_library};
pub use cluster::{Cluster, NodeLine, Shape};
pub use dev::{Dev, shared_dev};
pub use ready::{Node, Ready};
