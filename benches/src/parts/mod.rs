//! The parts of a run. Each opens with its question and an estimate made beforehand.

pub(crate) mod apply;
pub(crate) mod apply_families;
pub(crate) mod authorize;
pub(crate) mod create;
pub(crate) mod dev;
pub(crate) mod encrypt;
pub(crate) mod failover;
pub(crate) mod granted;
pub(crate) mod guarded;
pub(crate) mod keys;
pub(crate) mod primitives;
pub(crate) mod regions;
pub(crate) mod sigv4;
pub(crate) mod store;
