//! The Regions seen together: the cut that the checks of families look at, faults that wait for
//! something to be under way between Regions, and bugs planted there.

use std::sync::Arc;

use keyrum_state::{Command, KeyRef, State, Transit};
use keyrum_types::{LogIndex, MaterialId, NodeId, Region};

use super::faults::When;
use super::node::Order;
use super::place::{self, account};
use super::run::{Run, Turn};
use crate::checks::ballots::Ballots;
use crate::checks::families::{self, Members};
use crate::checks::replicas::Replicas;
use crate::checks::{Finding, channels};
use crate::plant::Plant;

/// Shortest time between two tries to make a planted bug show.
const PLANT_EVERY_MS: u64 = 200;

/// What the run has seen of one Region.
#[derive(Default)]
pub(super) struct Watched {
    pub(super) replicas: Replicas,
    pub(super) ballots: Ballots,
    pub(super) leader: Option<NodeId>,
    /// The furthest state that any node showed; it is applied, so it is committed, whatever
    /// becomes of that node.
    front: Option<(LogIndex, Arc<State>)>,
}

impl Watched {
    /// Takes what a node shows. Gives whether it is further than all before.
    pub(super) fn advance(&mut self, index: LogIndex, state: Arc<State>) -> bool {
        let further = self.front.as_ref().is_none_or(|(front, _)| index > *front);
        if further {
            self.front = Some((index, state));
        }
        further
    }

    pub(super) fn state(&self) -> Option<&State> {
        self.front.as_ref().map(|(_, state)| &**state)
    }
}

/// Something that takes messages between two Regions and is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnderWay {
    /// In whose log it began, by number.
    from: usize,
    /// Which Region is to answer.
    to: usize,
    key: KeyRef,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Move(Transit),
    Rotation(MaterialId),
}

impl Run {
    /// Whether there are families: a run of one Region has none.
    pub(super) fn has_families(&self) -> bool {
        self.watched.len() > 1
    }

    /// The cut, in the Regions' order.
    fn cut(&self) -> Vec<&State> {
        self.watched.iter().filter_map(Watched::state).collect()
    }

    pub(super) fn members(&self) -> Members<'_> {
        families::members(self.cut(), account())
    }

    /// Looks at the cut after some Region's state moved on.
    pub(super) fn watch_families(&mut self) -> Result<(), Finding> {
        channels::at_an_instant(&self.cut())?;
        families::at_an_instant(&self.members())?;
        self.figures.cuts += 1;
        self.note_members();
        let (due, waiting) = std::mem::take(&mut self.armed)
            .into_iter()
            .map(|number| (number, self.target_of(number)))
            .partition::<Vec<_>, _>(|(_, target)| target.is_some());
        self.armed = waiting.into_iter().map(|(number, _)| number).collect();
        for (number, target) in due {
            let planned = &mut self.plan[number];
            planned.region = target.unwrap_or(planned.region);
            let until_ms = self.time.ms() + planned.lasts_ms;
            if until_ms < self.faults_until_ms {
                self.agenda.insert((until_ms, number, Turn::End));
                self.begin(number);
            }
        }
        self.sow();
        Ok(())
    }

    /// Which Region a fault that waits is to hit now.
    fn target_of(&self, number: usize) -> Option<usize> {
        let when = self.plan[number].when;
        let awaited = |under_way: &UnderWay| match when {
            When::Then => true,
            When::MoveUnderWay => matches!(under_way.what, What::Move(_)),
            When::RotationUnderWay => matches!(under_way.what, What::Rotation(_)),
        };
        let found = self.under_way().into_iter().find(awaited);
        found.map(|under_way| under_way.to)
    }

    /// Everything that waits for another Region, as the Region in which it began knows it.
    fn under_way(&self) -> Vec<UnderWay> {
        let mut found = Vec::new();
        for (id, members) in self.members() {
            for (state, key) in members {
                let name = key.reference();
                let Some(family) = state.family(name) else {
                    continue;
                };
                let own = state.region();
                let mut add = |to: &Region, what: What| {
                    let numbers = place::number_of(own.as_str()).zip(place::number_of(to.as_str()));
                    found.extend(numbers.map(|(from, to)| UnderWay {
                        from,
                        to,
                        key: KeyRef { id, ..name },
                        what,
                    }));
                };
                match &family.transit {
                    Transit::Requested { to, .. } => add(to, What::Move(family.transit.clone())),
                    Transit::SteppedDown => {
                        add(&family.primary, What::Move(family.transit.clone()));
                    }
                    Transit::Settled | Transit::Reserved { .. } => {}
                }
                let pending = state.rotation(name).and_then(|row| row.pending.as_ref());
                if let Some(pending) = pending.filter(|_| family.primary == *own) {
                    let id = pending.material.id;
                    for (region, entry) in family.roster.iter() {
                        if region != own && !entry.confirmed.contains(&id) {
                            add(region, What::Rotation(id));
                        }
                    }
                }
            }
        }
        found
    }

    /// Notes what a cut of a Region, from another or from all others, finds under way.
    pub(super) fn note_held(&mut self, fault: usize, region: usize, from: Option<usize>) {
        let crosses = |under_way: &UnderWay| {
            let ends = [under_way.from, under_way.to];
            ends.contains(&region) && from.is_none_or(|other| ends.contains(&other))
        };
        let found = self.under_way().into_iter().filter(crosses);
        self.held.extend(found.map(|under_way| (fault, under_way)));
    }

    /// Counts what is under way still when the cut ends: the cut held it up all the time. A cut
    /// that waited for something of the kind, and came too late to hold it up, waits again.
    pub(super) fn note_released(&mut self, fault: usize) {
        let now = self.under_way();
        let (ended, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|(whose, _)| *whose == fault);
        self.held = held;
        let ended: Vec<(usize, UnderWay)> = ended;
        let still = ended.iter().filter(|(_, held)| now.contains(held));
        let (moves, rotations): (Vec<_>, Vec<_>) =
            still.partition(|(_, held)| matches!(held.what, What::Move(_)));
        self.figures.moves_held += moves.len() as u64;
        self.figures.rotations_held += rotations.len() as u64;
        let in_vain = match self.plan[fault].when {
            When::Then => false,
            When::MoveUnderWay => moves.is_empty(),
            When::RotationUnderWay => rotations.is_empty(),
        };
        if in_vain {
            self.armed.push(fault);
        }
    }

    /// Whether every family has come to rest and nothing waits for another Region.
    pub(super) fn families_rest(&self) -> Result<(), Finding> {
        channels::at_rest(&self.cut())?;
        families::at_rest(&self.members())
    }

    /// Makes a planted bug of the conversation between Regions happen.
    fn sow(&mut self) {
        if self.time.ms() < self.sow_from_ms {
            return;
        }
        let sown = match self.plant {
            Some(Plant::ClaimedDelivery) => self.claimed_delivery(),
            Some(Plant::LyingDisks | Plant::ForgetfulNode | Plant::Inside(_)) | None => None,
        };
        if let Some((region, command)) = sown {
            self.sow_from_ms = self.time.ms() + PLANT_EVERY_MS;
            self.order(region, None, Order::Propose(Box::new(command)));
        }
    }

    /// What waits for a Region is forgotten, as if it had been taken there.
    fn claimed_delivery(&self) -> Option<(usize, Command)> {
        let waits = |state: &State, to: &Region| state.outbox(to).next().is_some();
        for state in self.cut() {
            if let Some(to) = state.regions_spoken_to().find(|to| waits(state, to)) {
                let (to, through) = (to.clone(), state.channel(to).sent);
                let number = place::number_of(state.region().as_str())?;
                return Some((number, Command::Delivered { to, through }));
            }
        }
        None
    }
}
