//! One run, from start to verdict.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use keyrum_consensus::HistoryEntry;
use keyrum_store::SimDisk;
use keyrum_types::{LogIndex, NodeId};
use turmoil::Sim;

use super::api::Api;
use super::faults::{self, Loss, Planned};
use super::links::{LATENCY_MS_MAX, LATENCY_MS_MIN, Links};
use super::network::{SimNetwork, Wires};
use super::node::{End, Machine, Shape, account};
use super::seed::{Dice, Time};
use super::session::{Book, Phase, Session, TAG};
use super::trace::{Ear, Trace};
use super::{
    CLIENT_HOSTS, NODES, Plant, SESSIONS_PER_HOST, SimOptions, Verdict, client_host, node_host,
};
use crate::checks::acknowledged::{self, Final, Held};
use crate::checks::exercised::{self, Figures};
use crate::checks::healed::{self, Member};
use crate::checks::replicas::Replicas;
use crate::checks::{Finding, history, never_twice};

/// Simulated time a step, in milliseconds. Messages arrive at the beginning of one.
const STEP_MS: u64 = 2;

/// When faults begin: the group has found a leader long before.
const FAULTS_FROM_MS: u64 = 3_000;

/// How long the group may take to heal once every fault is lifted: a client's call under way ends
/// within 9 s, an election and catching up take a few.
const HEAL_MS_MAX: u64 = 20_000;

/// How long clients may take for their last looks.
const LOOK_MS_MAX: u64 = 60_000;

/// How often the run looks whether the group has healed.
const LOOK_EVERY_MS: u64 = 50;

/// Shortest stretch of faults: both certain ones fit in.
const MINUTES_MIN: f64 = 0.25;

/// Names the checks that only a whole run can make.
const RUN: &str = "run";

/// Runs a simulation. Panics in the code under test are findings.
///
/// Deterministic for the first run of a process only.
pub fn run(options: SimOptions) -> Verdict {
    let SimOptions {
        seed,
        minutes,
        trace,
        plant,
    } = options;
    let time = Time::default();
    let trace = Trace::new(time.clone(), trace);
    let minutes = if minutes.is_finite() {
        minutes.max(MINUTES_MIN)
    } else {
        MINUTES_MIN
    };
    let mut verdict = Verdict {
        seed,
        minutes,
        findings: Vec::new(),
        figures: Figures::default(),
        trace: (0, 0),
        healed_after_ms: None,
        simulated_ms: 0,
    };
    let ear = Ear(trace.messages());
    let simulate = || simulate(&mut verdict, &time, &trace, plant);
    let ended = tracing::subscriber::with_default(ear, || catch_unwind(AssertUnwindSafe(simulate)));
    if let Err(panic) = ended {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let text = text.unwrap_or_else(|| "no message".to_owned());
        verdict
            .findings
            .push(Finding::new(RUN, format_args!("the code panicked: {text}")));
    }
    verdict.simulated_ms = time.ms();
    for finding in &verdict.findings {
        trace.line("verdict", finding);
    }
    match trace.finish() {
        Ok(written) => verdict.trace = written,
        Err(error) => {
            let finding = Finding::new(RUN, format_args!("the trace cannot be written: {error}"));
            verdict.findings.push(finding);
        }
    }
    verdict
}

fn simulate(verdict: &mut Verdict, time: &Time, trace: &Trace, plant: Option<Plant>) {
    let mut run = Run::new(verdict.seed, verdict.minutes, time, trace, plant);
    let ended = run.course();
    if let Err(finding) = ended {
        run.findings.push(finding);
    }
    run.sum_up(verdict);
}

/// What happens at a time.
#[derive(Clone, Copy)]
enum Turn {
    Begin,
    End,
}

pub(super) struct Run {
    pub(super) sim: Sim<'static>,
    time: Time,
    pub(super) trace: Trace,
    pub(super) wires: Arc<Wires>,
    pub(super) machines: Vec<Rc<Machine>>,
    books: Vec<Rc<RefCell<Book>>>,
    phase: Rc<Cell<Phase>>,
    pub(super) plan: Vec<Planned>,
    /// By time; the number is the fault's in the plan.
    agenda: Vec<(u64, Turn, usize)>,
    faults_until_ms: u64,
    pub(super) links: Links,
    pub(super) dice: Dice,
    pub(super) plant: Option<Plant>,
    /// Machines that are down, and by which fault.
    pub(super) down: BTreeMap<NodeId, usize>,
    /// Machines whose disk fails, and by which fault: their nodes may stop.
    pub(super) failing: BTreeMap<NodeId, usize>,
    replicas: Replicas,
    leader: Option<NodeId>,
    pub(super) figures: Figures,
    findings: Vec<Finding>,
    healed_after_ms: Option<u64>,
}

impl Run {
    fn new(seed: u64, minutes: f64, time: &Time, trace: &Trace, plant: Option<Plant>) -> Self {
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
        for node in 1..=NODES {
            let disk = SimDisk::new();
            if plant == Some(Plant::LyingDisks) {
                disk.lie_about_syncs();
            }
            let machine = Machine::new(node, disk, shape.clone());
            machines.push(machine.clone());
            sim.host(node_host(node), move || {
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
            let mut sessions = Vec::new();
            for nth in 0..SESSIONS_PER_HOST {
                let name = format!("c{}s{}", client + 1, nth + 1);
                let network = SimNetwork {
                    host: host.as_str().into(),
                    wires: wires.clone(),
                    time: time.clone(),
                };
                let (session, book) = Session::new(
                    name.clone(),
                    Dice::new(seed, &name),
                    Api::new(Arc::new(network)),
                    phase.clone(),
                    trace.clone(),
                    pace,
                );
                sessions.push(session.run());
                books.push(book);
            }
            sim.client(host, async move {
                futures_util::future::join_all(sessions).await;
                Ok(())
            });
        }

        let plan = faults::plan(seed, FAULTS_FROM_MS, faults_until_ms);
        let mut agenda = Vec::new();
        for (number, planned) in plan.iter().enumerate() {
            agenda.push((planned.at_ms, Turn::Begin, number));
            agenda.push((planned.at_ms + planned.lasts_ms, Turn::End, number));
        }
        agenda.sort_by_key(|(at_ms, _, _)| *at_ms);
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
            faults_until_ms,
            links: Links::default(),
            dice,
            plant,
            down: BTreeMap::new(),
            failing: BTreeMap::new(),
            replicas: Replicas::default(),
            leader: None,
            figures: Figures::default(),
            findings: Vec::new(),
            healed_after_ms: None,
        }
    }

    /// The whole course of a run, up to the first thing that makes going on pointless.
    fn course(&mut self) -> Result<(), Finding> {
        let mut agenda = std::mem::take(&mut self.agenda).into_iter().peekable();
        while self.time.ms() < self.faults_until_ms {
            while let Some((_, turn, number)) =
                agenda.next_if(|(at_ms, _, _)| *at_ms <= self.time.ms())
            {
                match turn {
                    Turn::Begin => self.begin(number),
                    Turn::End => self.end(number),
                }
            }
            self.step()?;
        }
        self.trace.line("run", "every fault is lifted");
        self.phase.set(Phase::Rest);
        let mut unhealed = Ok(());
        let deadline = self.time.ms() + HEAL_MS_MAX;
        while self.time.ms() < deadline {
            self.step()?;
            if self.time.ms().is_multiple_of(LOOK_EVERY_MS) {
                unhealed = self.healed();
                if unhealed.is_ok() {
                    break;
                }
            }
        }
        unhealed?;
        self.healed_after_ms = Some(self.time.ms() - self.faults_until_ms);
        self.trace.line("run", "the group has healed");
        self.phase.set(Phase::Look);
        let deadline = self.time.ms() + LOOK_MS_MAX;
        while !self.books.iter().all(|book| book.borrow().looked) {
            if self.time.ms() > deadline {
                return Err(Finding::new(RUN, "the clients do not come to an end"));
            }
            self.step()?;
        }
        self.check_state();
        Ok(())
    }

    /// Moves simulated time on, and looks at what that brought.
    fn step(&mut self) -> Result<(), Finding> {
        if self.time.ms().is_multiple_of(1000) {
            let counts = self.wires.counts();
            let sum = counts.sum.value();
            self.trace.line(
                "network",
                format_args!(
                    "{} segments, {} bytes, checksum {sum:016x}",
                    counts.segments, counts.bytes
                ),
            );
        }
        self.sim
            .step()
            .map_err(|error| Finding::new(RUN, format_args!("a host failed: {error}")))?;
        self.time.set_ms(self.time.ms() + STEP_MS);
        self.watch_nodes()
    }

    fn watch_nodes(&mut self) -> Result<(), Finding> {
        let mut leader_changed = false;
        for machine in &self.machines {
            let node = machine.node;
            let host = node_host(node);
            let mut life = machine.life.borrow_mut();
            if let Some(live) = &mut life.running {
                // An error: the node is gone, and says so elsewhere.
                if live.leader.has_changed().unwrap_or(false) {
                    let leader = *live.leader.borrow_and_update();
                    self.trace.line(&host, format_args!("follows {leader:?}"));
                    leader_changed = true;
                }
                if live.applied.has_changed().unwrap_or(false) {
                    let index = *live.applied.borrow_and_update();
                    let digest = live.group.state().digest();
                    self.trace
                        .line(&host, format_args!("applied {index}, digest {digest}"));
                    self.figures.last_index = self.figures.last_index.max(index);
                    self.replicas.note(node, index, digest)?;
                }
            }
            match &life.ended {
                Some(End::Refused(reason)) if !self.failing.contains_key(&node) => {
                    let what = format!("node {node} does not start: {reason}");
                    return Err(Finding::new(RUN, what));
                }
                Some(End::Stopped(reason)) if !self.failing.contains_key(&node) => {
                    let what = format!("node {node} stopped by itself: {reason}");
                    return Err(Finding::new(RUN, what));
                }
                _ => {}
            }
        }
        if leader_changed {
            self.note_leader();
        }
        // A failed disk takes the machine along.
        let fallen: Vec<_> = self
            .failing
            .iter()
            .filter(|(node, _)| self.machine(**node).life.borrow().ended.is_some())
            .map(|(node, fault)| (*node, *fault))
            .collect();
        for (node, fault) in fallen {
            self.failing.remove(&node);
            let sign = self.machine(node).life.borrow().ended.clone();
            self.trace.line(
                "fault",
                format_args!("#{fault} brought node {node} down: {sign:?}"),
            );
            self.crash(node, fault, Loss::Some, false);
        }
        Ok(())
    }

    fn note_leader(&mut self) {
        let mut votes: BTreeMap<NodeId, usize> = BTreeMap::new();
        for machine in &self.machines {
            let life = machine.life.borrow();
            if let Some(leader) = life.running.as_ref().and_then(|live| *live.leader.borrow()) {
                *votes.entry(leader).or_default() += 1;
            }
        }
        let majority = votes
            .into_iter()
            .find(|(_, count)| *count > self.machines.len() / 2);
        if let Some((leader, _)) = majority
            && self.leader != Some(leader)
        {
            self.figures.leader_changes += u64::from(self.leader.is_some());
            self.leader = Some(leader);
            self.trace.line("run", format_args!("node {leader} leads"));
        }
    }

    fn healed(&self) -> Result<(), Finding> {
        if let Some(book) = self.books.iter().find(|book| !book.borrow().rests) {
            let calls = book.borrow().calls;
            return Err(Finding::new(
                "healed",
                format_args!("a call does not end: #{calls}"),
            ));
        }
        let members: Vec<_> = self
            .machines
            .iter()
            .map(|machine| member(machine))
            .collect();
        healed::check(&members)
    }

    fn check_state(&mut self) {
        let account = account();
        let mut histories = Vec::new();
        for machine in &self.machines {
            let node = machine.node;
            let life = machine.life.borrow();
            let Some(live) = &life.running else { continue };
            let state = live.group.state();
            let index = *live.applied.borrow();
            for digest in [state.digest(), state.recompute_digest()] {
                if let Err(finding) = self.replicas.note(node, index, digest) {
                    self.findings.push(finding);
                }
            }
            match now_or_never(live.group.history(0, usize::MAX)) {
                Some(Ok(entries)) => histories.push((node, live.group.history_begins(), entries)),
                Some(Err(reason)) => {
                    let what = format!("node {node} has no history: {reason}");
                    self.findings.push(Finding::new(RUN, what));
                }
                None => self
                    .findings
                    .push(Finding::new(RUN, "reading history waits")),
            }
        }
        let (merged, differences) = history::merge(&histories);
        self.findings.extend(differences);

        let Some(state) = self.machines.iter().find_map(|machine| {
            machine
                .life
                .borrow()
                .running
                .as_ref()
                .map(|live| live.group.state())
        }) else {
            return;
        };
        let held = Final {
            keys: state
                .keys(account, None)
                .map(|key| Held {
                    id: key.id,
                    description: key.description.to_string(),
                    state: key.state,
                    tag: key.tags.get(TAG).cloned(),
                })
                .collect(),
            aliases: state
                .aliases(account, None)
                .map(|(name, alias)| (name.to_string(), alias.target.id))
                .collect(),
        };
        let (mut creations, mut keys, mut aliases) = (Vec::new(), Vec::new(), Vec::new());
        for book in &self.books {
            let book = book.borrow();
            creations.extend(book.creations.iter().cloned());
            keys.extend(book.keys.iter().cloned());
            aliases.extend(
                book.aliases
                    .iter()
                    .map(|(name, r)| (name.clone(), r.clone())),
            );
        }
        self.findings
            .extend(acknowledged::check(&creations, &keys, &aliases, &held));
        let entries: Vec<&HistoryEntry> = merged.values().collect();
        self.findings.extend(never_twice::check(&held, entries));
        let lines = merged.len();
        self.trace.line(
            "run",
            format_args!("{} keys, {lines} history entries", held.keys.len()),
        );
    }

    fn sum_up(mut self, verdict: &mut Verdict) {
        for book in &self.books {
            let mut book = book.borrow_mut();
            self.findings.append(&mut book.findings);
            let figures = &mut self.figures;
            figures.calls += book.calls;
            figures.acknowledged += book.acknowledged;
            figures.answered += book.answered;
            figures.not_done += book.not_done;
            figures.unknown += book.unknown;
            figures.decrypted += book.decrypted;
        }
        let counts = self.wires.counts();
        (self.figures.segments, self.figures.lost, self.figures.held) =
            (counts.segments, counts.lost, counts.held);
        self.figures.digests_compared = self.replicas.compared();
        // A run that failed otherwise may have ended before its faults came.
        if self.findings.is_empty() {
            self.findings = exercised::check(&self.figures);
        }
        verdict.findings = self.findings;
        verdict.figures = self.figures;
        verdict.healed_after_ms = self.healed_after_ms;
    }
}

fn member(machine: &Machine) -> Member {
    let life = machine.life.borrow();
    let running = match (&life.ended, &life.running) {
        (Some(end), _) => Err(format!("{end:?}")),
        (None, None) => Err("it is not up".to_owned()),
        (None, Some(_)) => Ok(()),
    };
    let (leader, log): (_, (Option<LogIndex>, Option<LogIndex>)) = match &life.running {
        None => (None, (None, None)),
        Some(live) => {
            let status = live.group.status();
            (status.leader, (status.last_log, status.applied))
        }
    };
    Member {
        node: machine.node,
        running,
        leader,
        log,
    }
}

/// What a future gives that never waits, as all work on a simulated disk does.
fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
