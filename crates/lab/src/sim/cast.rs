//! Who takes part in a run: machines, clients, and the plan of what goes wrong.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use keyrum_consensus::world::Network;
use keyrum_store::SimDisk;
use keyrum_types::NodeId;

use super::between::Watched;
use super::effects::Effects;
use super::family::FamilySession;
use super::faults::{self, Fault, Planned, When};
use super::inflict::leading;
use super::links::{LATENCY_MS_MAX, LATENCY_MS_MIN, Links};
use super::members::{self, Changes};
use super::network::{SimNetwork, Wires};
use super::node::{Machine, Shape};
use super::place::{self, Roster};
use super::recording::Recording;
use super::rights::RightsSession;
use super::run::{FAULTS_FROM_MS, Run, STEP_MS, Turn};
use super::seed::{SeededEntropy, Time};
use super::session::{Scene, Session};
use super::trace::Trace;
use super::wanted;
use super::{CLIENT_HOSTS, client_host};
use crate::checks::exercised::Figures;
use crate::dice::Dice;
use crate::plant::Plant;
use crate::scenario::Scenario;
use crate::workload::api::Api;
use crate::workload::recorder::Recorder;
use crate::workload::{self, Phase, Stage, Workload};

/// Family sessions pause no longer than this many times as usual: a move takes several calls.
const FAMILY_PACE_MAX: u64 = 3;

type BoxedSession = workload::Session;

/// What a run is made from.
#[derive(Clone, Copy)]
pub(super) struct Cast<'r> {
    pub(super) seed: u64,
    pub(super) regions: usize,
    pub(super) nodes: NodeId,
    pub(super) scenario: Option<&'r Scenario>,
    pub(super) minutes: f64,
    pub(super) time: &'r Time,
    pub(super) trace: &'r Trace,
    pub(super) plant: Option<Plant>,
    /// Which faults of the plan come; all if `None`.
    pub(super) faults: Option<&'r BTreeSet<usize>>,
    pub(super) workloads: &'r [Workload],
    /// Whether calls and the rest are noted.
    pub(super) recorded: bool,
}

impl Run {
    /// Everything in its place, and nothing has happened yet.
    pub(super) fn new(cast: &Cast<'_>) -> Self {
        let Cast {
            seed,
            regions,
            nodes,
            scenario,
            minutes,
            time,
            trace,
            plant,
            faults: faults_that_come,
            workloads,
            recorded,
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

        let effects = Effects::default();
        let wires = Arc::new(Wires::new(seed, effects.clone()));
        let roster = Roster::new(regions, nodes);
        let by_chance = dice.pick(&[20, 50, 150, 500, 2_000]);
        let wanted = scenario.and_then(|scenario| scenario.topology.snapshot_every());
        let shape = Shape {
            seed,
            roster: roster.clone(),
            founders: nodes,
            snapshot_every: wanted.unwrap_or(by_chance),
            propagation_delay: scenario
                .map(|scenario| scenario.topology.propagation_delay)
                .unwrap_or_default(),
            time: time.clone(),
            wires: wires.clone(),
            trace: trace.clone(),
            effects: effects.clone(),
        };
        trace.line(
            "run",
            format_args!("seed {seed}, snapshots every {}", shape.snapshot_every),
        );
        let mut machines = Vec::new();
        for place in roster.all() {
            let disk = SimDisk::new();
            if plant == Some(Plant::LyingDisks) {
                disk.lie_about_syncs();
            }
            let machine = Machine::new(place, disk, shape.clone());
            machines.push(machine.clone());
            members::host(&mut sim, &machine);
        }
        let span = (FAULTS_FROM_MS, faults_until_ms);
        let plan = match scenario {
            Some(scenario) => wanted::plan(seed, scenario, span.0, span.1),
            None => faults::plan(seed, (regions, nodes), span.0, span.1),
        };
        // Where nobody moves the clock, keys that wait to be deleted stay.
        let moved = |planned: &Planned| matches!(planned.fault, Fault::TimePasses { .. });
        let deletes = regions == 1 && !plan.iter().any(moved);
        // What little traffic hides, much does not, and the reverse.
        let pace = dice.pick(&[1, 1, 3, 8]);
        trace.line(
            "run",
            format_args!("clients pause {pace} times as long as usual"),
        );
        let phase = Rc::new(Cell::new(Phase::Work));
        let mut books = Vec::new();
        let clients = scenario.and_then(wanted::clients);
        let is_usual = clients.is_none();
        let clients = clients.unwrap_or_else(|| wanted::usual_clients(regions));
        let recorder = recorder(cast, recorded);
        let directory = Rc::new(place::directory(roster.all(), regions));
        // Sessions also call nodes that join.
        let everybody = Rc::new(place::directory(place::whoever(regions), regions));
        let fleet = Rc::new(RefCell::new(machines.clone()));
        let stage = Stage {
            seed,
            directory: directory.clone(),
            recorder: recorder.clone(),
            phase: phase.clone(),
            leader_of: {
                let fleet = fleet.clone();
                Rc::new(move |region| leading(&fleet.borrow(), region).map(|place| place.node))
            },
        };
        let (mut workers, mut names) = (Vec::new(), Vec::new());
        let mut at_work: Vec<Vec<BoxedSession>> = (0..CLIENT_HOSTS).map(|_| Vec::new()).collect();
        for (number, workload) in (1..).zip(workloads) {
            let on = |nth: usize| network_of(&client_host(nth % CLIENT_HOSTS), &wires, time);
            names.push(workload.name(number));
            let sessions = workload.sessions(number, &stage, on);
            for (nth, (session, progress)) in sessions.into_iter().enumerate() {
                at_work[nth % CLIENT_HOSTS].push(session);
                workers.push(progress);
            }
        }
        for (client, working) in at_work.into_iter().enumerate() {
            let host = client_host(client);
            let network = network_of(&host, &wires, time);
            let call = |name: &str| {
                let number = recorder.client(name);
                Api::new(network.clone(), everybody.clone(), recorder.clone(), number)
            };
            let mut sessions: Vec<BoxedSession> = working;
            let mut nth_of = [0; 2];
            for group in &clients {
                let more = usize::from(client < group.count % CLIENT_HOSTS);
                for _ in 0..group.count / CLIENT_HOSTS + more {
                    let nth = &mut nth_of[usize::from(group.families)];
                    *nth += 1;
                    let letter = if group.families { 'f' } else { 's' };
                    let name = format!("c{}{letter}{nth}", client + 1);
                    let dice = Dice::new(seed, &name);
                    let mut scene = Scene {
                        phase: phase.clone(),
                        trace: trace.clone(),
                        roster: roster.clone(),
                        lease_percent: group.lease_percent,
                        pace,
                    };
                    if group.families {
                        scene.pace = pace.min(FAMILY_PACE_MAX);
                        let apis = [call(&name), call(&format!("{name}, racing"))];
                        let (session, book) = FamilySession::new(name, dice, apis, scene);
                        sessions.push(Box::pin(session.run()));
                        books.push(book);
                    } else {
                        let api = call(&name);
                        let (session, book) = Session::new(name, dice, api, scene, deletes);
                        sessions.push(Box::pin(session.run()));
                        books.push(book);
                    }
                }
            }
            if is_usual {
                let name = format!("c{}r1", client + 1);
                let dice = Dice::new(seed, &name);
                let api = call(&name);
                let scene = Scene {
                    phase: phase.clone(),
                    trace: trace.clone(),
                    roster: roster.clone(),
                    lease_percent: 0,
                    pace,
                };
                let (session, book) = RightsSession::new(name, dice, api, scene);
                sessions.push(Box::pin(session.run()));
                books.push(book);
            }
            sim.client(host, async move {
                futures_util::future::join_all(sessions).await;
                Ok(())
            });
        }

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
            begun: BTreeSet::new(),
            armed: Vec::new(),
            faults_until_ms,
            founders: nodes,
            scenario: scenario.cloned(),
            links: Links::default(),
            effects,
            changes: (0..regions).map(|_| Changes::default()).collect(),
            roster,
            fleet,
            archive: vec![Vec::new(); regions],
            damaged: BTreeMap::new(),
            slow: BTreeMap::new(),
            jumping: BTreeMap::new(),
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
            recording: Recording::new(recorder),
            workloads: names,
            workers,
        }
    }
}

/// A recorder on simulated time.
fn recorder(cast: &Cast<'_>, recorded: bool) -> Recorder {
    let time = cast.time.clone();
    match recorded {
        true => Recorder::new(
            move || time.ms() * 1_000,
            &SeededEntropy::new(cast.seed, "history"),
        ),
        false => Recorder::off(),
    }
}

fn network_of(host: &str, wires: &Arc<Wires>, time: &Time) -> Arc<dyn Network> {
    Arc::new(SimNetwork {
        host: host.into(),
        wires: wires.clone(),
        time: time.clone(),
    })
}
