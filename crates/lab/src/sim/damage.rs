//! Bits that flip in what a disk has stored while its machine is off. The node must say what is damaged
//! and not start, or go on without it; what it serves is judged like everything else.

use std::path::Path;

use super::members::Wanted;
use super::node::End;
use super::place::Place;
use super::run::{RUN, Run};
use crate::checks::Finding;

/// A disk that is damaged.
pub(super) struct Damaged {
    /// By which fault.
    fault: usize,
    /// What was hit, as the disk names it.
    what: String,
    /// How often the node had started before.
    boots: u64,
    /// Whether the node has started since, or tried to.
    met: bool,
    /// Whether it is to be replaced by a new node.
    replaced: bool,
}

impl Damaged {
    pub(super) fn is_replaced(&self) -> bool {
        self.replaced
    }

    /// Whether a message names what was hit: the row, or the file.
    pub(super) fn is_named_in(&self, message: &str) -> bool {
        let subject = self.what.split(" byte ").next();
        subject.is_some_and(|subject| message.contains(subject))
    }
}

impl Run {
    /// A bit flips in what a node that is down has stored. Not where it could cost what was
    /// acknowledged: one copy of three or more is damaged at a time.
    pub(super) fn flip_bit(&mut self, place: Place, fault: usize) {
        let enough = self.roster.of(place.region).len() >= 3;
        let other = self
            .damaged
            .keys()
            .any(|other| other.region == place.region);
        if other || !enough || self.down.get(&place) != Some(&fault) {
            return;
        }
        let (host, dice) = (place.host(), self.dice.number());
        let hit = self
            .machine(place)
            .disk
            .borrow()
            .flip_bit(Path::new(&host), dice);
        let Some(hit) = hit else { return };
        self.trace
            .line(&host, format_args!("a bit flips in what it stored: {hit}"));
        let boots = self.machine(place).life.borrow().boots;
        self.damaged.insert(
            place,
            Damaged {
                fault,
                what: hit,
                boots,
                met: false,
                replaced: false,
            },
        );
    }

    /// Looks what nodes make of damaged disks: they say what is damaged and are replaced, or go on
    /// without it.
    pub(super) fn watch_damaged(&mut self) -> Result<(), Finding> {
        let mut lost = Vec::new();
        for (place, hit) in &mut self.damaged {
            let place = *place;
            let machine = self.machines.iter().find(|machine| machine.place == place);
            let Some(machine) = machine else { continue };
            let life = machine.life.borrow();
            if life.boots == hit.boots || hit.replaced {
                continue;
            }
            if !hit.met && (life.running.is_some() || life.ended.is_some()) {
                hit.met = true;
                self.effects.add(hit.fault, 1);
            }
            if let Some(End::Refused(reason) | End::Stopped(reason)) = &life.ended {
                if self.failing.contains_key(&place) {
                    continue;
                }
                if !hit.is_named_in(reason) {
                    let what = format!("node {place} has {} damaged and says: {reason}", hit.what);
                    return Err(Finding::new(RUN, what));
                }
                lost.push(place);
            }
        }
        for place in lost {
            let Some(hit) = self.damaged.get_mut(&place) else {
                continue;
            };
            hit.replaced = true;
            self.trace
                .line("operator", format_args!("node {place} is to be replaced"));
            self.want(place.region, None, Wanted::Added);
            self.want(place.region, None, Wanted::Removed(place));
        }
        Ok(())
    }
}
