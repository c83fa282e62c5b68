//! Audit records: what they say of each operation, what they never say, and that none is lost.

mod crash;
mod records;
mod required;
mod sessions;
mod trail;
mod walk;
