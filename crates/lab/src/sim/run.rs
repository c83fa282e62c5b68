//! One run, from start to verdict.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use keyrum_types::{LogIndex, NodeId, planted};
use turmoil::Sim;

use super::between::{UnderWay, Watched};
use super::cast::Cast;
use super::damage::Damaged;
use super::effects::Effects;
use super::faults::{Planned, When};
use super::inflict::Jumping;
use super::links::Links;
use super::members::Changes;
use super::network::Wires;
use super::node::{End, Machine};
use super::place::{self, Place, Roster};
use super::recording::Recording;
use super::seed::Time;
use super::session::Book;
use super::trace::{Ear, Trace};
use super::wanted;
use super::{NODES_MAX, REGIONS_MAX, SimOptions, Verdict};
use crate::checks::Finding;
use crate::checks::exercised::Figures;
use crate::checks::healed::{self, Member};
use crate::checks::history::Told;
use crate::dice::Dice;
use crate::experiment::Experiment;
use crate::judge;
use crate::plant::Plant;
use crate::scenario::Scenario;
use crate::workload::{Phase, Progress};

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
    play(options, false).0
}

/// The same, and the experiment as data.
pub fn record(options: SimOptions) -> (Verdict, Experiment) {
    play(options, true)
}

fn play(options: SimOptions, recorded: bool) -> (Verdict, Experiment) {
    let SimOptions {
        seed,
        minutes,
        regions,
        nodes,
        scenario,
        trace,
        plant,
        faults,
        workloads,
    } = options;
    let (name, scenario) = scenario.unzip();
    let expected = scenario.as_ref().map_or(&[][..], |s| &s.expectations);
    let recorded = recorded || !expected.is_empty();
    let topology = scenario.as_ref().map(|scenario| &scenario.topology);
    let regions = topology.map_or(regions, |topology| topology.regions().len());
    let nodes = topology.map_or(nodes, |topology| topology.nodes());
    let regions = regions.clamp(1, REGIONS_MAX);
    let nodes = nodes.clamp(1, NODES_MAX);
    let mut workloads = workloads;
    if let Some(scenario) = &scenario {
        workloads.extend(wanted::workloads(scenario));
    }
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
        nodes,
        scenario: name,
        plan: Vec::new(),
        faults: faults.clone(),
        findings: Vec::new(),
        figures: Figures::default(),
        trace: (0, 0),
        healed_after_ms: None,
        simulated_ms: 0,
    };
    let switches = plant.map(Plant::switches).unwrap_or_default();
    let _planted = planted::plant(&switches);
    if _planted.is_none() && !switches.is_empty() {
        let what = "this build has no bugs to plant: build without --release";
        verdict.findings.push(Finding::new(RUN, what));
        return (verdict, Experiment::default());
    }
    let ear = Ear(trace.messages());
    let mut experiment = Experiment::default();
    let simulate = || {
        let cast = Cast {
            seed,
            regions,
            nodes,
            scenario: scenario.as_ref(),
            minutes,
            time: &time,
            trace: &trace,
            plant,
            faults: faults.as_ref(),
            workloads: &workloads,
            recorded,
        };
        experiment = simulate(&mut verdict, &cast);
    };
    let ended = tracing::subscriber::with_default(ear, || catch_unwind(AssertUnwindSafe(simulate)));
    if let Err(panic) = ended {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let text = text.unwrap_or_else(|| "no message".to_owned());
        verdict
            .findings
            .push(Finding::new(RUN, format_args!("the code panicked: {text}")));
    }
    if recorded && verdict.findings.is_empty() {
        verdict.findings = judge::judge(&mut experiment, expected);
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
    experiment.title = match &scenario {
        Some(scenario) => format!("{}, seed {seed}, simulated", scenario.title),
        None => format!("Seed {seed}, simulated"),
    };
    experiment.replay = verdict.replay();
    (verdict, experiment)
}

fn simulate(verdict: &mut Verdict, cast: &Cast<'_>) -> Experiment {
    let mut run = Run::new(cast);
    verdict.plan = run.plan.iter().map(ToString::to_string).collect();
    let ended = run.course();
    if let Err(finding) = ended {
        run.findings.push(finding);
    }
    let experiment = run.take_experiment();
    run.sum_up(verdict);
    experiment
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
    /// The faults that began, by number.
    pub(super) begun: BTreeSet<usize>,
    /// By time; the number is the fault's in the plan.
    pub(super) agenda: BTreeSet<(u64, usize, Turn)>,
    /// Faults whose time has come and that wait for something to be under way.
    pub(super) armed: Vec<usize>,
    pub(super) faults_until_ms: u64,
    pub(super) founders: NodeId,
    /// What is to happen if it is not the usual.
    pub(super) scenario: Option<Scenario>,
    pub(super) links: Links,
    pub(super) effects: Effects,
    /// The nodes of all Regions, as of now.
    pub(super) roster: Roster,
    /// The machines, for clients that look who leads.
    pub(super) fleet: Rc<RefCell<Vec<Rc<Machine>>>>,
    /// Each Region's changes of nodes.
    pub(super) changes: Vec<Changes>,
    /// What nodes told that are gone.
    pub(super) archive: Vec<Vec<Told>>,
    /// Disks in which a bit has flipped.
    pub(super) damaged: BTreeMap<Place, Damaged>,
    /// Machines whose disk is slow, by fault.
    pub(super) slow: BTreeMap<usize, Place>,
    /// Clocks that jump, by fault.
    pub(super) jumping: BTreeMap<usize, Jumping>,
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
    pub(super) recording: Recording,
    /// The names of the workloads, and how far their clients have come.
    pub(super) workloads: Vec<String>,
    pub(super) workers: Vec<Rc<Progress>>,
}

impl Run {
    /// Begins and ends faults whose time has come.
    fn take_turns(&mut self) {
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
    }

    /// The whole course of a run, up to the first thing that makes going on pointless.
    fn course(&mut self) -> Result<(), Finding> {
        while self.time.ms() < self.faults_until_ms {
            self.take_turns();
            self.step()?;
        }
        // What would have ended in the last step, too.
        while let Some((_, number, turn)) = self.agenda.pop_first() {
            if matches!(turn, Turn::End) && self.begun.contains(&number) {
                self.end(number);
            }
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
        let looked = |run: &Self| {
            run.books.iter().all(|book| book.borrow().looked)
                && run.workers.iter().all(|worker| worker.looked.get())
        };
        while !looked(self) {
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
        self.jump();
        self.watch_nodes()?;
        self.watch_damaged()?;
        self.change_members();
        Ok(())
    }

    fn watch_nodes(&mut self) -> Result<(), Finding> {
        let mut leader_changed = false;
        let mut moved_on = false;
        for machine in &self.machines {
            let place = machine.place;
            let host = place.host();
            let watched = &mut self.watched[place.region];
            let mut life = machine.life.borrow_mut();
            let ended = life.ended.is_some();
            if let Some(live) = &mut life.running {
                // An error: the node is gone, and says so elsewhere.
                if live.leader.has_changed().unwrap_or(false) {
                    let leader = *live.leader.borrow_and_update();
                    self.trace.line(&host, format_args!("follows {leader:?}"));
                    let term = live.group.status().term;
                    self.recording.follows(place, term, leader);
                    leader_changed = true;
                }
                // What a disk that fails did not take was never told to anybody.
                if !ended && !self.failing.contains_key(&place) {
                    let noted = watched.ballots.note(place.node, live.group.ballot());
                    noted.map_err(|finding| in_region(place.region, finding))?;
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
                // A disk that takes an entry's history no more leaves it applied without a word, and
                // its messages may have gone out: the entry is committed.
                if ended {
                    let status = live.group.status();
                    moved_on |= watched.advance(status.digest_index, live.group.state());
                }
            }
            match &life.ended {
                _ if self.damaged.contains_key(&place) => {}
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
            let sign = self.machine(node).life.borrow().ended.clone();
            self.trace.line(
                "fault",
                format_args!("#{fault} brought node {node} down: {sign:?}"),
            );
            self.crash(node, fault, self.loss_of(fault), false);
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
            .find(|(_, count)| *count > self.roster.of(region).len() / 2);
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
        if !self.workers.iter().all(|worker| worker.rests.get()) {
            return Err(Finding::new("healed", "a call of a workload does not end"));
        }
        self.members_rest()?;
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
