//! What is looked at when a run is over: the states that are left, and the whole history.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use keyrum_consensus::HistoryEntry;
use keyrum_state::{Event, FamilyChange, State};
use keyrum_types::{LogIndex, RotationKind};

use super::Verdict;
use super::place::{self, account};
use super::run::{RUN, Run, in_region};
use super::session::TAG;
use crate::checks::acknowledged::{self, Final, Held};
use crate::checks::exercised::{self, Figures};
use crate::checks::{Finding, channels, history, never_twice};

type History = BTreeMap<LogIndex, HistoryEntry>;

impl Run {
    /// Looks at every Region's states and history.
    pub(super) fn check_state(&mut self) {
        let mut histories = Vec::new();
        for region in 0..self.watched.len() {
            let merged = self.merged_history(region);
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
                0 => own_keys(&state),
                _ => Final::default(),
            };
            if region == 0 {
                self.check_acknowledged(&held);
            }
            let found = never_twice::check(&held, merged.values());
            self.find_in(region, found);
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
            let found = channels::exactly_once(told.collect(), &ends);
            self.findings.extend(found);
            for (_, history) in &histories {
                count(history, &mut self.figures);
            }
        }
    }

    fn find_in(&mut self, region: usize, found: Vec<Finding>) {
        let found = found.into_iter().map(|finding| in_region(region, finding));
        self.findings.extend(found);
    }

    /// Compares the digests and histories of a Region's nodes.
    fn merged_history(&mut self, region: usize) -> History {
        let (mut histories, mut found) = (Vec::new(), Vec::new());
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
            match now_or_never(live.group.history(0, usize::MAX)) {
                Some(Ok(entries)) => histories.push((node, live.group.history_begins(), entries)),
                Some(Err(reason)) => {
                    let what = format!("node {node} has no history: {reason}");
                    found.push(Finding::new(RUN, what));
                }
                None => found.push(Finding::new(RUN, "reading history waits")),
            }
        }
        let (merged, differences) = history::merge(&histories);
        found.extend(differences);
        self.find_in(region, found);
        merged
    }

    fn state_of(&self, region: usize) -> Option<Arc<State>> {
        let machines = self.machines.iter();
        let mut here = machines.filter(|machine| machine.place.region == region);
        here.find_map(|machine| {
            let life = machine.life.borrow();
            life.running.as_ref().map(|live| live.group.state())
        })
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
        // A run that failed otherwise may have ended before its faults came.
        if self.findings.is_empty() && verdict.faults.is_none() {
            self.findings = exercised::check(&self.figures);
            if self.has_families() {
                self.findings
                    .extend(exercised::check_families(&self.figures));
            }
        }
        verdict.findings = self.findings;
        verdict.figures = self.figures;
        verdict.healed_after_ms = self.healed_after_ms;
    }
}

/// The single-Region keys and the aliases: what sessions own.
fn own_keys(state: &State) -> Final {
    Final {
        keys: state
            .keys(account(), None)
            .filter(|key| key.multi_region.is_none())
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
