//! Up to three Regions of up to five nodes, simulated: the production server, service,
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
//! Clients of three kinds call: *sessions* own single-Region keys and aliases in the first Region,
//! *family sessions* own multi-Region keys and call everywhere; *rights sessions* change what a
//! key's policy allows, see that it holds at once, and count what was done.

mod ask;
mod audit;
mod between;
mod cast;
mod damage;
mod domain_key;
mod effects;
mod family;
mod faults;
mod inbound;
mod inflict;
mod links;
mod look;
mod members;
mod network;
mod node;
mod place;
mod recording;
mod rights;
mod run;
mod seed;
mod session;
mod shorten;
mod sweep;
mod trace;
mod verdict;
mod wanted;

use std::collections::BTreeSet;
use std::io::Write;

use keyrum_types::NodeId;

use crate::plant::Plant;
use crate::workload::Workload;

pub use run::{record, run};
pub use shorten::shorten;
pub use sweep::{FaultTable, Sweep};
pub use verdict::{Verdict, faults_in_words};

use crate::scenario::Scenario;

pub use crate::scenario::{NODES_MAX, REGIONS_MAX};

/// The Regions that a simulation has, in order.
pub(crate) const REGION_NAMES: [&str; REGIONS_MAX] = place::REGIONS;

/// How many nodes found a Region unless the options say.
pub const NODES: NodeId = 3;

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
    /// How many Regions: one, or two or three, between which multi-Region keys live.
    pub regions: usize,
    /// How many nodes found each Region, from 1 to 5.
    pub nodes: NodeId,
    /// What is to happen, and where: its topology, faults and workloads are those of the run. The
    /// name is the file's, for the command that runs it again.
    pub scenario: Option<(String, Scenario)>,
    /// Where the trace goes.
    pub trace: Option<Box<dyn Write>>,
    /// A bug to plant, to see that the run finds it.
    pub plant: Option<Plant>,
    /// Which faults of the plan come, by number; all of them if `None`. Whether a run with a part of its
    /// plan went through enough is not asked.
    pub faults: Option<BTreeSet<usize>>,
    /// What further clients do, beside the sessions that every run has.
    pub workloads: Vec<Workload>,
}

impl SimOptions {
    /// One simulated minute of three Regions, without a trace.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            minutes: 1.0,
            regions: REGIONS_MAX,
            nodes: NODES,
            scenario: None,
            trace: None,
            plant: None,
            faults: None,
            workloads: Vec::new(),
        }
    }
}
