//! Nodes that join and leave in the middle of everything, as `keyrum cluster add` and `remove` have
//! them do: one change of a Region's nodes at a time, and each is asked for again until it is done.

use std::collections::VecDeque;
use std::rc::Rc;

use keyrum_crypto::{DomainKeys as _, FIRST_DOMAIN_KEY_VERSION, MemoryDomainKeys};
use keyrum_types::NodeId;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::damage::Damaged;
use super::node::{DOMAIN_KEY_VERSIONS_MAX, Machine, MemberChange, Order};
use super::place::Place;
use super::run::Run;
use crate::checks::Finding;

/// How often the run looks what became of a change.
const LOOK_EVERY_MS: u64 = 20;

/// How long it waits for an answer before it asks again, and after one that was no.
const ANSWER_MS_MAX: u64 = 8_000;
const ASK_AGAIN_MS: u64 = 500;

/// What is to become of a Region's nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// One more.
    Added,
    /// This one no longer.
    Removed(Place),
}

/// A change that was asked for.
pub(super) struct Change {
    /// The fault that it is.
    fault: Option<usize>,
    wanted: Wanted,
    /// The new node, once it is chosen.
    new: Option<Place>,
    learns: bool,
    answer: Option<oneshot::Receiver<Result<(), String>>>,
    asked_ms: u64,
    ask_from_ms: u64,
}

/// The changes of one Region's nodes.
#[derive(Default)]
pub(super) struct Changes {
    waiting: VecDeque<Change>,
    /// The highest number that a node ever had: none is used twice.
    highest: NodeId,
}

impl Run {
    pub(super) fn want(&mut self, region: usize, fault: Option<usize>, wanted: Wanted) {
        self.changes[region].waiting.push_back(Change {
            fault,
            wanted,
            new: None,
            learns: false,
            answer: None,
            asked_ms: 0,
            ask_from_ms: 0,
        });
    }

    /// Whether no change of nodes is wanted any more.
    pub(super) fn members_rest(&self) -> Result<(), Finding> {
        match self.changes.iter().all(|all| all.waiting.is_empty()) {
            true => Ok(()),
            false => Err(Finding::new("healed", "a change of nodes is not done")),
        }
    }

    /// Goes on with what is wanted.
    pub(super) fn change_members(&mut self) {
        if !self.time.ms().is_multiple_of(LOOK_EVERY_MS) {
            return;
        }
        for region in 0..self.changes.len() {
            let Some(mut change) = self.changes[region].waiting.pop_front() else {
                continue;
            };
            if !self.goes_on(region, &mut change) {
                self.changes[region].waiting.push_front(change);
            }
        }
    }

    /// Gives whether the change is done.
    fn goes_on(&mut self, region: usize, change: &mut Change) -> bool {
        let now_ms = self.time.ms();
        if let Some(answer) = &mut change.answer {
            let answered = match answer.try_recv() {
                Ok(answered) => answered,
                Err(TryRecvError::Empty) if now_ms < change.asked_ms + ANSWER_MS_MAX => {
                    return false;
                }
                Err(_) => Err("no answer".to_owned()),
            };
            change.answer = None;
            self.trace.line(
                "operator",
                format_args!("{:?} {:?}: {answered:?}", change.wanted, change.new),
            );
            match (answered, change.wanted) {
                (Err(_), _) => {
                    // Also of what the former leader took nobody may know.
                    change.learns = false;
                    change.ask_from_ms = now_ms + ASK_AGAIN_MS;
                }
                (Ok(()), Wanted::Added) if !change.learns => change.learns = true,
                (Ok(()), Wanted::Added) => {
                    self.changed(change.fault);
                    return true;
                }
                (Ok(()), Wanted::Removed(place)) => {
                    self.changed(change.fault);
                    self.retire(place);
                    return true;
                }
            }
        }
        if now_ms < change.ask_from_ms {
            return false;
        }
        let asks = match change.wanted {
            Wanted::Added => {
                let new = *change.new.get_or_insert_with(|| self.set_up(region));
                if self.damaged.get(&new).is_some_and(Damaged::is_replaced) {
                    // Another one comes in its place.
                    return true;
                }
                match change.learns {
                    // Nobody adds a node that does not run.
                    false if !self.machine(new).runs() => return false,
                    false => MemberChange::AddLearner(new.node, new.peer_addr()),
                    true => MemberChange::Promote(new.node),
                }
            }
            Wanted::Removed(place) => {
                let there = self.roster.of(region);
                if !there.contains(&place) || there.len() == 1 {
                    return true;
                }
                MemberChange::Remove(place.node)
            }
        };
        let beside = match change.wanted {
            Wanted::Added => change.new,
            Wanted::Removed(place) => Some(place),
        };
        change.answer = self.ask(region, beside, asks);
        change.asked_ms = now_ms;
        false
    }

    fn changed(&self, fault: Option<usize>) {
        if let Some(fault) = fault {
            self.effects.add(fault, 1);
        }
    }

    /// Asks the leader or any other node but one.
    fn ask(
        &self,
        region: usize,
        beside: Option<Place>,
        change: MemberChange,
    ) -> Option<oneshot::Receiver<Result<(), String>>> {
        let there = self.roster.of(region).into_iter();
        let runs = |place: &Place| Some(*place) != beside && self.machine(*place).runs();
        let leader = self.leader_of(region).filter(runs);
        let whom = leader.or_else(|| there.into_iter().find(runs))?;
        let life = self.machine(whom).life.borrow();
        let (told, answer) = oneshot::channel();
        let live = life.running.as_ref()?;
        live.orders.send((None, Order::Member(change, told))).ok()?;
        Some(answer)
    }

    /// A new machine with a new node on it.
    fn set_up(&mut self, region: usize) -> Place {
        let there = self.roster.of(region);
        let highest = there.last().map_or(0, |place| place.node);
        let changes = &mut self.changes[region];
        changes.highest = changes.highest.max(highest) + 1;
        let node = changes.highest;
        let place = Place { region, node };
        let machine = self.machine(there[0]).beside(place);
        self.trace.line(&place.host(), "is set up");
        self.roster.add(place);
        self.machines.push(machine.clone());
        self.fleet.borrow_mut().push(machine.clone());
        host(&mut self.sim, &machine);
        place
    }

    /// A node that is no member any more is switched off for good.
    fn retire(&mut self, place: Place) {
        self.trace.line(&place.host(), "is switched off for good");
        self.hand_on(place);
        self.archive(place);
        self.forget(place);
        self.recording.falls(place);
        self.damaged.remove(&place);
        if self.down.remove(&place).is_none() {
            self.sim.crash(place.host());
        }
        self.roster.remove(place);
        self.machines.retain(|machine| machine.place != place);
        *self.fleet.borrow_mut() = self.machines.clone();
    }

    /// Files with the domain key are the Region's: what only the node that goes has is copied to another.
    fn hand_on(&self, place: Place) {
        let from = &self.machine(place).domain_keys;
        let Some(other) = self.roster.beside(place).next() else {
            return;
        };
        let to = &self.machine(other).domain_keys;
        let newest = |keys: &MemoryDomainKeys| {
            let mut versions = (FIRST_DOMAIN_KEY_VERSION..DOMAIN_KEY_VERSIONS_MAX).rev();
            versions.find(|version| matches!(keys.get(*version), Ok(Some(_))))
        };
        let (Some(theirs), Some(ours)) = (newest(to), newest(from)) else {
            return;
        };
        for version in theirs + 1..=ours {
            if let Ok(Some(secret)) = from.get(version) {
                // It has none of that number.
                drop(to.put(version, &secret, false));
            }
        }
    }

    /// Whatever was to come of a fault that hit this node does not come.
    fn forget(&mut self, place: Place) {
        self.failing.remove(&place);
        let machine = self.machine(place);
        let mut life = machine.life.borrow_mut();
        (life.running, life.ended) = (None, None);
    }
}

/// Registers a machine with the simulation, and starts it.
pub(super) fn host(sim: &mut turmoil::Sim<'static>, machine: &Rc<Machine>) {
    let machine = machine.clone();
    sim.host(machine.place.host(), move || {
        let machine = machine.clone();
        async move {
            machine.live().await;
            // The machine stays on without a node until it is started again.
            std::future::pending::<()>().await;
            Ok(())
        }
    });
}
