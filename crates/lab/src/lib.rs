//! The lab: runs the production code of every other crate under faults, and judges what it did.
//!
//! [`sim`] is three Regions of three nodes in one thread, on a simulated network, disk and clock; a
//! seed fixes everything that happens. [`checks`] are the invariants, one a file: each looks at
//! what clients saw and what the replicas hold, and knows nothing of how a run is made.

#[cfg(not(any(tokio_unstable, doc)))]
compile_error!(
    "the simulation needs tokio's seeded scheduler: build with `--cfg tokio_unstable`, as \
     .cargo/config.toml does. A set RUSTFLAGS replaces that file's flags: add the cfg to it"
);

pub mod checks;
pub mod sim;
