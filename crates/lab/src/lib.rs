//! The lab: runs the production code of every other crate under faults, and judges what it did.
//!
//! [`sim`] is up to three Regions in one thread, on a simulated network, disk and clock; a
//! seed fixes everything that happens. [`checks`] are the invariants, one a file: each looks at
//! what clients saw and what the replicas hold, and knows nothing of how a run is made.
//! [`workload`] is what clients do, there and against real processes; a [`scenario`] is a file that says
//! what a run is to be, an [`experiment`] is what came of it, as data; [`judge`] says what holds in it, and
//! [`report`] makes the page that shows it.

#[cfg(not(any(tokio_unstable, doc)))]
compile_error!(
    "the simulation needs tokio's seeded scheduler: build with `--cfg tokio_unstable`, as \
     .cargo/config.toml does. A set RUSTFLAGS replaces that file's flags: add the cfg to it"
);

pub mod checks;
pub mod dice;
pub mod experiment;
pub mod judge;
pub mod plant;
pub mod report;
mod rolling;
pub mod scenario;
pub mod sim;
pub mod workload;
