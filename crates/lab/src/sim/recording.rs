//! What a run notes of itself for checkers and the report: the experiment as data.

use std::collections::BTreeMap;

use keyrum_types::{KeyState, MultiRegionRole, NodeId};

use super::faults::Planned;
use super::place::{self, Place};
use super::run::Run;
use crate::experiment::{Experiment, FaultWindow, LeaderSeen, MemberSeen, RegionOfNodes};
use crate::workload::recorder::Recorder;

/// What has been noted; nothing unless the recorder is on.
#[derive(Default)]
pub(super) struct Recording {
    pub(super) recorder: Recorder,
    faults: Vec<FaultWindow>,
    /// Where each fault of the plan stands in that list.
    fault_at: BTreeMap<usize, usize>,
    leaders: Vec<LeaderSeen>,
    members: Vec<MemberSeen>,
    /// By key and Region: how each member was seen last.
    last: BTreeMap<(String, usize), (KeyState, bool)>,
}

impl Recording {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            ..Self::default()
        }
    }

    /// A node takes another one for its leader, or nobody.
    pub(super) fn follows(&mut self, place: Place, term: u64, leader: Option<NodeId>) {
        if !self.recorder.is_on() {
            return;
        }
        self.leaders.push(LeaderSeen {
            at_us: self.recorder.now_us(),
            region: place::region(place.region).to_string(),
            node: place.node,
            term,
            leader,
        });
    }

    /// A node is down: it takes nobody for its leader.
    pub(super) fn falls(&mut self, place: Place) {
        let region = place::region(place.region);
        let of = |seen: &&LeaderSeen| seen.node == place.node && seen.region == region.as_str();
        let term = self.leaders.iter().rev().find(of).map(|seen| seen.term);
        if let Some(term) = term {
            self.follows(place, term, None);
        }
    }

    /// A fault begins. `region` and `nodes` are what it hits, as in [`FaultWindow`].
    pub(super) fn begins(&mut self, number: usize, fault: FaultWindow) {
        if self.recorder.is_on() {
            self.fault_at.insert(number, self.faults.len());
            self.faults.push(fault);
        }
    }

    /// A fault is over.
    pub(super) fn is_over(&mut self, number: usize) {
        if let Some(at) = self.fault_at.get(&number) {
            self.faults[*at].until_us = Some(self.recorder.now_us());
        }
    }

    /// Everything, once the run is over.
    pub(super) fn into_experiment(self) -> Experiment {
        let ended_us = self.recorder.now_us();
        let (clients, calls) = self.recorder.take();
        Experiment {
            simulated: true,
            clients,
            calls,
            faults: self.faults,
            leaders: self.leaders,
            members: self.members,
            ended_us,
            ..Experiment::default()
        }
    }
}

impl Run {
    /// Notes a fault that begins.
    pub(super) fn record_fault(&mut self, number: usize, planned: &Planned) {
        if !self.recording.recorder.is_on() {
            return;
        }
        let from_us = self.recording.recorder.now_us();
        let node = planned.fault.node();
        let hit = node.map(|node| self.who(planned.region, node).node);
        let window = FaultWindow {
            kind: planned.fault.kind().into(),
            what: format!("{:?}", planned.fault),
            region: Some(place::region(planned.region).to_string()),
            nodes: hit.into_iter().collect(),
            from_us,
            until_us: None,
            effects: None,
        };
        self.recording.begins(number, window);
    }

    /// Notes what became of the members of families since the last look.
    pub(super) fn note_members(&mut self) {
        if !self.recording.recorder.is_on() {
            return;
        }
        let mut seen = BTreeMap::new();
        for (id, members) in self.members() {
            for (state, key) in members {
                if let Some(region) = place::number_of(state.region().as_str()) {
                    let is_primary = key.multi_region == Some(MultiRegionRole::Primary);
                    seen.insert((id.to_string(), region), (key.state, is_primary));
                }
            }
        }
        let Recording {
            recorder,
            members,
            last,
            ..
        } = &mut self.recording;
        let mut note = |(key, region): &(String, usize), now: Option<(KeyState, bool)>| {
            members.push(MemberSeen {
                at_us: recorder.now_us(),
                key: key.clone(),
                region: place::region(*region).to_string(),
                state: now.map(|(state, _)| state.name().into()),
                primary: now.is_some_and(|(_, primary)| primary),
            });
        };
        for (member, now) in &seen {
            if last.get(member) != Some(now) {
                note(member, Some(*now));
            }
        }
        for member in last.keys().filter(|member| !seen.contains_key(member)) {
            note(member, None);
        }
        *last = seen;
    }

    /// The experiment of a run that is over.
    pub(super) fn take_experiment(&mut self) -> Experiment {
        let mut recording = std::mem::take(&mut self.recording);
        for (number, at) in &recording.fault_at {
            recording.faults[*at].effects = Some(self.effects.of(*number));
        }
        let mut experiment = recording.into_experiment();
        experiment.regions = (0..self.watched.len())
            .map(|region| RegionOfNodes {
                name: place::region(region).to_string(),
                nodes: (1..=self.founders).collect(),
            })
            .collect();
        let us = |ms: u64| ms * 1_000;
        experiment.faults_until_us = us(self.faults_until_ms);
        experiment.healed_at_us = self
            .healed_after_ms
            .map(|after_ms| us(self.faults_until_ms + after_ms));
        experiment
    }
}
