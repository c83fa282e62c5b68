//! One run, from start to verdict.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use keyrum_types::{LogIndex, NodeId};
use turmoil::Sim;

use super::between::{UnderWay, Watched};
use super::cast::Cast;
use super::faults::{Loss, Planned, When};
use super::links::Links;
use super::network::Wires;
use super::node::{End, Machine};
use super::place::{self, Place};
use super::seed::{Dice, Time};
use super::session::{Book, Phase};
use super::trace::{Ear, Trace};
use super::{Plant, REGIONS_MAX, SimOptions, Verdict};
use crate::checks::Finding;
use crate::checks::exercised::Figures;
use crate::checks::healed::{self, Member};

/// Simulated time a step, in milliseconds. Messages arrive at the beginning of one.
pub(super) const STEP_MS: u64 = 2;

/// When faults begin: the group has found a leader long before.
pub(super) const FAULTS_FROM_MS: u64 = 3_000;

/// How long the groups may take to heal once every fault is lifted: a client's call under way ends
/// within 9 s, and another 5 s later it is carried out or not; an election, catching up, and what
/// Regions have to tell each other take a few.
const HEAL_MS_MAX: u64 = 25_000;

/// How long clients may take for their last looks.
const LOOK_MS_MAX: u64 = 60_000;

/// How often the run looks whether the group has healed.
const LOOK_EVERY_MS: u64 = 50;

/// Shortest stretch of faults: both certain ones fit in.
const MINUTES_MIN: f64 = 0.25;

/// Names the checks that only a whole run can make.
pub(super) const RUN: &str = "run";

/// Runs a simulation. Panics in the code under test are findings.
///
/// Deterministic for the first run of a process only.
pub fn run(options: SimOptions) -> Verdict {
    let SimOptions {
        seed,
        minutes,
        regions,
        trace,
        plant,
        faults,
    } = options;
    let regions = regions.clamp(1, REGIONS_MAX);
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
        regions,
        plan: Vec::new(),
        faults,
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
    let cast = Cast {
        seed: verdict.seed,
        regions: verdict.regions,
        minutes: verdict.minutes,
        time,
        trace,
        plant,
        faults: verdict.faults.as_ref(),
    };
    let mut run = Run::new(&cast);
    verdict.plan = run.plan.iter().map(ToString::to_string).collect();
    let ended = run.course();
    if let Err(finding) = ended {
        run.findings.push(finding);
    }
    run.sum_up(verdict);
}

/// What happens at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    Begin,
    End,
}

pub(super) struct Run {
    pub(super) sim: Sim<'static>,
    pub(super) time: Time,
    pub(super) trace: Trace,
    pub(super) wires: Arc<Wires>,
    pub(super) machines: Vec<Rc<Machine>>,
    pub(super) books: Vec<Rc<RefCell<Book>>>,
    pub(super) phase: Rc<Cell<Phase>>,
    pub(super) plan: Vec<Planned>,
    /// By time; the number is the fault's in the plan.
    pub(super) agenda: BTreeSet<(u64, usize, Turn)>,
    /// Faults whose time has come and that wait for something to be under way.
    pub(super) armed: Vec<usize>,
    pub(super) faults_until_ms: u64,
    pub(super) links: Links,
    pub(super) dice: Dice,
    pub(super) plant: Option<Plant>,
    /// When a planted bug between Regions may show next.
    pub(super) sow_from_ms: u64,
    /// Machines that are down, and by which fault.
    pub(super) down: BTreeMap<Place, usize>,
    /// Machines whose disk fails, and by which fault: their nodes may stop.
    pub(super) failing: BTreeMap<Place, usize>,
    /// Each Region's.
    pub(super) watched: Vec<Watched>,
    /// What cuts between Regions found under way, by fault.
    pub(super) held: Vec<(usize, UnderWay)>,
    pub(super) figures: Figures,
    pub(super) findings: Vec<Finding>,
    pub(super) healed_after_ms: Option<u64>,
}

impl Run {
    /// The whole course of a run, up to the first thing that makes going on pointless.
    fn course(&mut self) -> Result<(), Finding> {
        while self.time.ms() < self.faults_until_ms {
            while let Some((at_ms, number, turn)) = self.agenda.pop_first() {
                if at_ms > self.time.ms() {
                    self.agenda.insert((at_ms, number, turn));
                    break;
                }
                match (turn, self.plan[number].when) {
                    (Turn::Begin, When::Then) => self.begin(number),
                    (Turn::Begin, _) => self.armed.push(number),
                    (Turn::End, _) => self.end(number),
                }
            }
            self.step()?;
        }
        self.armed.clear();
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
        let mut moved_on = false;
        for machine in &self.machines {
            let place = machine.place;
            let host = place.host();
            let watched = &mut self.watched[place.region];
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
                    let state = live.group.state();
                    let digest = state.digest();
                    self.trace
                        .line(&host, format_args!("applied {index}, digest {digest}"));
                    self.figures.last_index = self.figures.last_index.max(index);
                    watched.replicas.note(place.node, index, digest)?;
                    moved_on |= watched.advance(index, state);
                }
            }
            match &life.ended {
                Some(End::Refused(reason)) if !self.failing.contains_key(&place) => {
                    let what = format!("node {place} does not start: {reason}");
                    return Err(Finding::new(RUN, what));
                }
                Some(End::Stopped(reason)) if !self.failing.contains_key(&place) => {
                    let what = format!("node {place} stopped by itself: {reason}");
                    return Err(Finding::new(RUN, what));
                }
                _ => {}
            }
        }
        if leader_changed {
            (0..self.watched.len()).for_each(|region| self.note_leader(region));
        }
        if moved_on && self.has_families() {
            self.watch_families()?;
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

    fn note_leader(&mut self, region: usize) {
        let mut votes: BTreeMap<NodeId, usize> = BTreeMap::new();
        let machines = self.machines.iter();
        for machine in machines.filter(|machine| machine.place.region == region) {
            let life = machine.life.borrow();
            if let Some(leader) = life.running.as_ref().and_then(|live| *live.leader.borrow()) {
                *votes.entry(leader).or_default() += 1;
            }
        }
        let majority = votes
            .into_iter()
            .find(|(_, count)| *count > place::nodes_of(region).count() / 2);
        let known = &mut self.watched[region].leader;
        if let Some((node, _)) = majority
            && *known != Some(node)
        {
            self.figures.leader_changes += u64::from(known.is_some());
            *known = Some(node);
            let leader = Place { region, node };
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
        for region in 0..self.watched.len() {
            let here = |machine: &&Rc<Machine>| machine.place.region == region;
            let machines = self.machines.iter().filter(here);
            let members: Vec<_> = machines.map(|machine| member(machine)).collect();
            healed::check(&members).map_err(|finding| in_region(region, finding))?;
        }
        self.domain_keys_rest()?;
        match self.has_families() {
            true => self.families_rest(),
            false => Ok(()),
        }
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
        node: machine.place.node,
        running,
        leader,
        log,
    }
}

/// Says which Region a finding is about.
pub(super) fn in_region(region: usize, finding: Finding) -> Finding {
    let what = format_args!("{}: {}", place::region(region), finding.what);
    Finding::new(finding.check, what)
}
