//! One Region of three nodes, or three of them, simulated: the production server, service,
//! consensus and state code in one thread, on a simulated network, disk and clock.
//!
//! A seed fixes everything: the faults, the clients' calls, the network's delays, every node's
//! randomness, the order in which tasks run. So a run that fails can be run again, and two runs
//! write the same trace byte for byte. That holds for **one run a process**: repeats in one
//! process can differ.
//!
//! What is not simulated: TLS between the nodes (its randomness comes from no seed), sled (the
//! disk is `SimDisk`), threads, and a node that stands still while time goes on.
//!
//! The course of a run: the nodes start; clients call while faults come and go; every fault is
//! lifted and the clients finish; every group must heal, and every family must come to rest;
//! everything is checked.
//!
//! Clients of two kinds call: *sessions* own single-Region keys and aliases in the first Region,
//! *family sessions* own multi-Region keys and call everywhere.

mod api;
mod ask;
mod audit;
mod between;
mod cast;
mod domain_key;
mod family;
mod faults;
mod inflict;
mod links;
mod look;
mod network;
mod node;
mod place;
mod rolling;
mod run;
mod seed;
mod session;
mod shorten;
mod sweep;
mod trace;
mod verdict;

use std::collections::BTreeSet;
use std::io::Write;

use keyrum_types::NodeId;

pub use run::run;
pub use shorten::shorten;
pub use sweep::Sweep;
pub use verdict::{Verdict, faults_in_words};

/// Regions of a whole run.
pub const REGIONS_MAX: usize = 3;

/// Nodes of a Region, numbered from 1.
pub(crate) const NODES: NodeId = 3;

/// Machines that clients run on.
pub(crate) const CLIENT_HOSTS: usize = 3;

/// Clients a machine, each with keys of its own.
pub(crate) const SESSIONS_PER_HOST: usize = 3;

/// The same where there are family sessions too.
pub(crate) const SESSIONS_BESIDE_FAMILIES: usize = 1;

/// Clients a machine with families of their own.
pub(crate) const FAMILY_SESSIONS_PER_HOST: usize = 2;

/// Where a node takes calls, and where its peers reach it.
const API_PORT: u16 = 4599;
const PEER_PORT: u16 = 4600;

fn client_host(client: usize) -> String {
    format!("client-{}", client + 1)
}

/// What to run.
pub struct SimOptions {
    /// Fixes everything that happens.
    pub seed: u64,
    /// How long faults come and go, in simulated minutes; fractions are fine, a quarter is the
    /// least that is used. Starting and healing take some seconds more.
    pub minutes: f64,
    /// How many Regions: one, or all three, between which multi-Region keys live.
    pub regions: usize,
    /// Where the trace goes.
    pub trace: Option<Box<dyn Write>>,
    /// A bug to plant, to see that the run finds it.
    pub plant: Option<Plant>,
    /// Which faults of the plan come, by number; all of them if `None`. Whether a run with a part of its
    /// plan went through enough is not asked.
    pub faults: Option<BTreeSet<usize>>,
}

impl SimOptions {
    /// One simulated minute of three Regions, without a trace.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            minutes: 1.0,
            regions: REGIONS_MAX,
            trace: None,
            plant: None,
            faults: None,
        }
    }
}

/// A bug that is planted on purpose: a check earns trust by finding it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// Every disk says that it has synced, and has not.
    LyingDisks,
    /// One node starts on an emptied disk after its first crash: it forgets its vote and its log.
    ForgetfulNode,
    /// A courier says that messages were delivered which it has dropped.
    ClaimedDelivery,
    /// A member of a family becomes primary before the present one has stepped down.
    EarlyStepUp,
}
