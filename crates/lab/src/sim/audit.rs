//! What is looked at when a run is over: the states that are left, and the whole history.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use keyrum_consensus::HistoryEntry;
use keyrum_state::{Event, FamilyChange, State};
use keyrum_types::{LogIndex, NodeId, RotationKind};

use super::Verdict;
use super::node::Live;
use super::place::{self, Place, account};
use super::run::{RUN, Run, in_region};
use super::session::TAG;
use crate::checks::acknowledged::{self, Final, Held};
use crate::checks::exercised::{self, Figures};
use crate::checks::history::Told;
use crate::checks::{Finding, channels, history, never_twice};

type History = BTreeMap<LogIndex, HistoryEntry>;

impl Run {
    /// Looks at every Region's states and history.
    pub(super) fn check_state(&mut self) {
        let (mut histories, mut all_whole) = (Vec::new(), true);
        for region in 0..self.watched.len() {
            let (merged, whole) = self.merged_history(region);
            let name = match region {
                0 => "run".to_owned(),
                other => place::region(other).to_string(),
            };
            let lines = merged.len();
            let Some(state) = self.state_of(region) else {
                continue;
            };
            // Sessions call the first Region only.
            let held = match region {
                0 => own_keys(&state, &self.workloads),
                _ => Final::default(),
            };
            if region == 0 {
                self.check_acknowledged(&held);
            }
            if whole {
                let found = never_twice::check(&held, merged.values());
                self.find_in(region, found);
            } else {
                all_whole = false;
                self.figures.histories_cut += 1;
                self.trace.line(
                    &name,
                    "a part of the history went with the nodes that had it",
                );
            }
            self.count_domain_keys(&state);
            let keys = state.keys(account(), None).count();
            self.trace
                .line(&name, format_args!("{keys} keys, {lines} history entries"));
            histories.push((state, merged));
        }
        if self.has_families() {
            let told = histories
                .iter()
                .map(|(state, history)| (state.region().clone(), history.values()));
            let ends: Vec<&State> = histories.iter().map(|(state, _)| &**state).collect();
            if all_whole {
                let found = channels::exactly_once(told.collect(), &ends);
                self.findings.extend(found);
            }
            for (_, history) in &histories {
                count(history, &mut self.figures);
            }
        }
    }

    fn find_in(&mut self, region: usize, found: Vec<Finding>) {
        let found = found.into_iter().map(|finding| in_region(region, finding));
        self.findings.extend(found);
    }

    /// Compares the digests and histories of a Region's nodes. Gives the history, and whether no part
    /// of it went with nodes that are gone.
    fn merged_history(&mut self, region: usize) -> (History, bool) {
        let (mut histories, mut found) = (self.archive[region].clone(), Vec::new());
        let machines = self.machines.iter();
        for machine in machines.filter(|machine| machine.place.region == region) {
            let node = machine.place.node;
            let life = machine.life.borrow();
            let Some(live) = &life.running else { continue };
            let state = live.group.state();
            let index = *live.applied.borrow();
            for digest in [state.digest(), state.recompute_digest()] {
                let replicas = &mut self.watched[region].replicas;
                found.extend(replicas.note(node, index, digest).err());
            }
            let named = self.damaged.get(&machine.place);
            match told(node, live) {
                Ok(told) => histories.push(told),
                // It says what is damaged when it reads that.
                Err(reason) if named.is_some_and(|damaged| damaged.is_named_in(&reason)) => {}
                Err(reason) => {
                    let what = format!("node {node} has no history: {reason}");
                    found.push(Finding::new(RUN, what));
                }
            }
        }
        let (merged, differences) = history::merge(&histories);
        found.extend(differences);
        self.find_in(region, found);
        (merged, history::is_whole(&histories))
    }

    /// Keeps the history of a node that is about to go.
    pub(super) fn archive(&mut self, place: Place) {
        let machine = self.machine(place);
        // Whoever reads a disk from outside does not wait for it.
        let slow_ms = machine.slowness.ms.swap(0, Ordering::Relaxed);
        let life = machine.life.borrow();
        let live = life.running.as_ref();
        let told = live.and_then(|live| told(place.node, live).ok());
        drop(life);
        machine.slowness.ms.store(slow_ms, Ordering::Relaxed);
        self.archive[place.region].extend(told);
    }

    fn state_of(&self, region: usize) -> Option<Arc<State>> {
        let machines = self.machines.iter();
        let mut here = machines.filter(|machine| machine.place.region == region);
        here.find_map(|machine| {
            let life = machine.life.borrow();
            life.running.as_ref().map(|live| live.group.state())
        })
    }

    /// What was to happen, and did not.
    fn not_exercised(&self, nodes: NodeId) -> Vec<Finding> {
        let Some(scenario) = &self.scenario else {
            let mut found = exercised::check(&self.figures, nodes);
            if self.has_families() {
                found.extend(exercised::check_families(&self.figures));
            }
            return found;
        };
        let in_vain = |number: &usize| self.effects.of(*number) == 0;
        let certain = |number: &usize| self.plan[*number].certain;
        let (certain, by_chance): (Vec<usize>, Vec<usize>) =
            (0..self.plan.len()).partition(certain);
        let words = |number: usize| format!("#{number} {}", self.plan[number]);
        let listed: Vec<String> = certain.into_iter().filter(in_vain).map(words).collect();
        let random = scenario.random.is_some() && by_chance.iter().all(in_vain);
        exercised::check_scenario(&self.figures, nodes, &listed, random)
    }

    fn check_acknowledged(&mut self, held: &Final) {
        let (mut creations, mut keys, mut aliases) = (Vec::new(), Vec::new(), Vec::new());
        for book in &self.books {
            let book = book.borrow();
            creations.extend(book.creations.iter().cloned());
            keys.extend(book.keys.iter().cloned());
            let registers = book.aliases.iter();
            aliases.extend(registers.map(|(name, r)| (name.clone(), r.clone())));
        }
        self.findings
            .extend(acknowledged::check(&creations, &keys, &aliases, held));
    }

    /// Puts everything that was found and counted into the verdict.
    pub(super) fn sum_up(mut self, verdict: &mut Verdict) {
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
            figures.crossed += book.crossed;
            figures.forbidden += book.forbidden;
        }
        for worker in &self.workers {
            self.figures.calls += worker.calls.get();
            self.figures.acknowledged += worker.acknowledged.get();
            self.figures.answered += worker.answered.get();
            self.figures.not_done += worker.not_done.get();
            self.figures.unknown += worker.unknown.get();
        }
        let counts = self.wires.counts();
        (self.figures.segments, self.figures.lost, self.figures.held) =
            (counts.segments, counts.lost, counts.held);
        self.figures.lost_between = counts.lost_between;
        let compared = self
            .watched
            .iter()
            .map(|watched| watched.replicas.compared());
        self.figures.digests_compared = compared.sum();
        for number in &self.begun {
            let (kind, effects) = (self.plan[*number].fault.kind(), self.effects.of(*number));
            let figures = &mut self.figures;
            *figures.took_effect.entry(kind.into()).or_default() += u64::from(effects > 0);
            *figures.effects.entry(kind.into()).or_default() += effects;
        }
        // A run that failed otherwise may have ended before its faults came.
        if self.findings.is_empty() && verdict.faults.is_none() {
            self.findings = self.not_exercised(verdict.nodes);
        }
        verdict.findings = self.findings;
        verdict.figures = self.figures;
        verdict.healed_after_ms = self.healed_after_ms;
    }
}

/// What a running node remembers.
fn told(node: NodeId, live: &Live) -> Result<Told, String> {
    // Before it is read: all through this entry is there.
    let through = *live.applied.borrow();
    let read = now_or_never(live.group.history(0, usize::MAX));
    let entries = read.ok_or("reading history waits")?;
    Ok(Told {
        node,
        begins: live.group.history_begins(),
        through,
        entries: entries.map_err(|reason| reason.to_string())?,
    })
}

/// The single-Region keys and the aliases that are not made by workloads: what sessions own.
fn own_keys(state: &State, workloads: &[String]) -> Final {
    let theirs = |name: &str| workloads.iter().any(|workload| name.starts_with(workload));
    Final {
        keys: state
            .keys(account(), None)
            .filter(|key| key.multi_region.is_none() && !theirs(&key.description))
            .map(|key| Held {
                id: key.id,
                description: key.description.to_string(),
                state: key.state,
                tag: key.tags.get(TAG).cloned(),
            })
            .collect(),
        aliases: state
            .aliases(account(), None)
            .map(|(name, alias)| (name.to_string(), alias.target.id))
            .filter(|(name, _)| !theirs(name.trim_start_matches("alias/")))
            .collect(),
    }
}

/// What a Region's history tells of its families.
fn count(history: &History, figures: &mut Figures) {
    let mut arrived = BTreeSet::new();
    for event in history.values().flat_map(|entry| &entry.events) {
        match event {
            Event::MessageTaken { .. } => figures.messages += 1,
            Event::FamilyChanged { change, .. } => match change {
                FamilyChange::SteppedUp => figures.moves += 1,
                FamilyChange::MoveRefused { .. } => figures.moves_refused += 1,
                _ => {}
            },
            Event::KeyReplicated { key, .. } => {
                figures.replicas += 1;
                figures.replicas_again += u64::from(!arrived.insert(key.id));
            }
            Event::KeyRotationStarted { kind, .. } => {
                figures.family_rotations += 1;
                figures.due_rotations += u64::from(*kind == RotationKind::Automatic);
            }
            Event::KeyDeleted { key, .. } => {
                figures.members_deleted += u64::from(key.id.is_multi_region());
            }
            _ => {}
        }
    }
}

/// What a future gives that never waits, as all work on a simulated disk does.
fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
