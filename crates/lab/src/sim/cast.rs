//! Who takes part in a run: machines, clients, and the plan of what goes wrong.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use keyrum_store::SimDisk;

use super::api::Api;
use super::between::Watched;
use super::family::FamilySession;
use super::faults::{self, When};
use super::links::{LATENCY_MS_MAX, LATENCY_MS_MIN, Links};
use super::network::{SimNetwork, Wires};
use super::node::{Machine, Shape};
use super::place;
use super::run::{FAULTS_FROM_MS, Run, STEP_MS, Turn};
use super::seed::{Dice, Time};
use super::session::{Phase, Session};
use super::trace::Trace;
use super::{
    CLIENT_HOSTS, FAMILY_SESSIONS_PER_HOST, Plant, SESSIONS_BESIDE_FAMILIES, SESSIONS_PER_HOST,
    client_host,
};
use crate::checks::exercised::Figures;

/// Family sessions pause no longer than this many times as usual: a move takes several calls.
const FAMILY_PACE_MAX: u64 = 3;

type BoxedSession = Pin<Box<dyn Future<Output = ()>>>;

/// What a run is made from.
#[derive(Clone, Copy)]
pub(super) struct Cast<'r> {
    pub(super) seed: u64,
    pub(super) regions: usize,
    pub(super) minutes: f64,
    pub(super) time: &'r Time,
    pub(super) trace: &'r Trace,
    pub(super) plant: Option<Plant>,
    /// Which faults of the plan come; all if `None`.
    pub(super) faults: Option<&'r BTreeSet<usize>>,
}

impl Run {
    /// Everything in its place, and nothing has happened yet.
    pub(super) fn new(cast: &Cast<'_>) -> Self {
        let Cast {
            seed,
            regions,
            minutes,
            time,
            trace,
            plant,
            faults: faults_that_come,
        } = *cast;
        let mut dice = Dice::new(seed, "run");
        let lasts = Duration::try_from_secs_f64(minutes * 60.0).unwrap_or(Duration::MAX);
        // More than a year of simulated time is never meant.
        let lasts_ms = u64::try_from(lasts.as_millis())
            .unwrap_or(u64::MAX)
            .min(1 << 35);
        let faults_until_ms = FAULTS_FROM_MS + lasts_ms;
        let mut builder = turmoil::Builder::new();
        builder
            .rng_seed(dice.number())
            .epoch(SystemTime::UNIX_EPOCH)
            .simulation_duration(Duration::MAX)
            .tick_duration(Duration::from_millis(STEP_MS))
            .min_message_latency(Duration::from_millis(LATENCY_MS_MIN))
            .max_message_latency(Duration::from_millis(LATENCY_MS_MAX))
            // A port that was connected from once is never free again if the link was cut then.
            .ephemeral_ports(10_000..=u16::MAX)
            // In segments; also how many connections may wait to be taken, or turmoil panics.
            .tcp_capacity(4096)
            .enable_random_order();
        let mut sim = builder.build();

        let wires = Arc::new(Wires::default());
        let shape = Shape {
            seed,
            regions,
            snapshot_every: dice.pick(&[50, 150, 500, 2_000]),
            time: time.clone(),
            wires: wires.clone(),
            trace: trace.clone(),
        };
        trace.line(
            "run",
            format_args!("seed {seed}, snapshots every {}", shape.snapshot_every),
        );
        let mut machines = Vec::new();
        for place in place::all_nodes(regions) {
            let disk = SimDisk::new();
            if plant == Some(Plant::LyingDisks) {
                disk.lie_about_syncs();
            }
            let machine = Machine::new(place, disk, shape.clone());
            machines.push(machine.clone());
            sim.host(place.host(), move || {
                let machine = machine.clone();
                async move {
                    machine.live().await;
                    // The machine stays on without a node until it is started again.
                    std::future::pending::<()>().await;
                    Ok(())
                }
            });
        }
        // What little traffic hides, much does not, and the reverse.
        let pace = dice.pick(&[1, 1, 3, 8]);
        trace.line(
            "run",
            format_args!("clients pause {pace} times as long as usual"),
        );
        let phase = Rc::new(Cell::new(Phase::Work));
        let mut books = Vec::new();
        for client in 0..CLIENT_HOSTS {
            let host = client_host(client);
            let call = || {
                Api::new(Arc::new(SimNetwork {
                    host: host.as_str().into(),
                    wires: wires.clone(),
                    time: time.clone(),
                }))
            };
            let mut sessions: Vec<BoxedSession> = Vec::new();
            let alone = regions == 1;
            let count = match alone {
                true => SESSIONS_PER_HOST,
                false => SESSIONS_BESIDE_FAMILIES,
            };
            for nth in 0..count {
                let name = format!("c{}s{}", client + 1, nth + 1);
                let (session, book) = Session::new(
                    name.clone(),
                    Dice::new(seed, &name),
                    call(),
                    phase.clone(),
                    trace.clone(),
                    pace,
                    alone,
                );
                sessions.push(Box::pin(session.run()));
                books.push(book);
            }
            for nth in 0..if alone { 0 } else { FAMILY_SESSIONS_PER_HOST } {
                let name = format!("c{}f{}", client + 1, nth + 1);
                let (session, book) = FamilySession::new(
                    name.clone(),
                    Dice::new(seed, &name),
                    [call(), call()],
                    regions,
                    phase.clone(),
                    trace.clone(),
                    pace.min(FAMILY_PACE_MAX),
                );
                sessions.push(Box::pin(session.run()));
                books.push(book);
            }
            sim.client(host, async move {
                futures_util::future::join_all(sessions).await;
                Ok(())
            });
        }

        let plan = faults::plan(seed, regions, FAULTS_FROM_MS, faults_until_ms);
        let mut agenda = BTreeSet::new();
        let comes = |number: &usize| faults_that_come.is_none_or(|come| come.contains(number));
        for (number, planned) in plan.iter().enumerate().filter(|(number, _)| comes(number)) {
            agenda.insert((planned.at_ms, number, Turn::Begin));
            // What waits for something ends when it has begun.
            if planned.when == When::Then {
                agenda.insert((planned.at_ms + planned.lasts_ms, number, Turn::End));
            }
        }
        Self {
            sim,
            time: time.clone(),
            trace: trace.clone(),
            wires,
            machines,
            books,
            phase,
            plan,
            agenda,
            armed: Vec::new(),
            faults_until_ms,
            links: Links::default(),
            dice,
            plant,
            sow_from_ms: FAULTS_FROM_MS,
            down: BTreeMap::new(),
            failing: BTreeMap::new(),
            watched: (0..regions).map(|_| Watched::default()).collect(),
            held: Vec::new(),
            figures: Figures::default(),
            findings: Vec::new(),
            healed_after_ms: None,
        }
    }
}
