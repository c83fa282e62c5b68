//! The smallest part of a history that no order explains.
//!
//! First everything after the first moment that cannot be explained goes: what had not ended by
//! then may still come to pass, or never. Then calls are left out as long as what is left has no
//! order, reads before changes.
//!
//! A part must mean what the whole meant. Without the change that made a value, every read of that
//! value is impossible, but says nothing. So what is left is *rooted*: whatever each of its calls
//! found, its changes can make, in some order, however often; unless what had begun by that first moment
//! could not either.

use std::collections::BTreeSet;

use super::search::{Entry, Found, search};
use super::spec::{Does, NOTHING, Needs, Shape, Spec};

/// How many steps the search for a smaller part may take in all.
const STEPS_MAX: u64 = 3_000_000;

/// A part of a history without an order that has none either, in the order in which its calls began.
pub(super) fn smallest(spec: &Spec, whole: &[Entry]) -> Vec<Entry> {
    let mut shrinker = Shrinker {
        spec,
        exempt: BTreeSet::new(),
        left: STEPS_MAX,
    };
    let mut part = shrinker.first_moment(whole);
    let roots = Roots::of(spec, &part);
    let rootless = part.iter().filter(|entry| !roots.hold(entry));
    shrinker.exempt = rootless.map(|entry| entry.call).collect();
    for reads in [true, false, true] {
        shrinker.leave_out(&mut part, reads);
    }
    // What was seen before any change that could make it began: the change belongs to it.
    for nth in 0..part.len() {
        if !Roots::of(spec, &part).hold(&part[nth]) {
            let mut changes = whole.iter().filter(|entry| !entry.does.only_reads());
            let makes = |change: &&Entry| {
                let with = [&part[..], std::slice::from_ref(*change)].concat();
                Roots::of(spec, &with).hold(&part[nth])
            };
            part.extend(changes.find(makes).cloned());
        }
    }
    part.sort_by_key(|entry| entry.call);
    part
}

struct Shrinker<'s> {
    spec: &'s Spec,
    /// Calls that found what no change had made that had begun by then.
    exempt: BTreeSet<usize>,
    left: u64,
}

impl Shrinker<'_> {
    fn has_none(&mut self, part: &[Entry]) -> bool {
        search(self.spec, part, &mut self.left) == Found::None
    }

    fn first_moment(&mut self, whole: &[Entry]) -> Vec<Entry> {
        let mut ends: Vec<u64> = whole.iter().filter_map(|entry| entry.end).collect();
        ends.sort_unstable();
        ends.dedup();
        // The least number of ends with which there is no order.
        let (mut fewest, mut most) = (0, ends.len().saturating_sub(1));
        while fewest < most {
            let middle = fewest.midpoint(most);
            match self.has_none(&until(whole, ends[middle])) {
                true => most = middle,
                false => fewest = middle + 1,
            }
        }
        match ends.get(most) {
            Some(end) => until(whole, *end),
            None => whole.to_vec(),
        }
    }

    fn leave_out(&mut self, part: &mut Vec<Entry>, reads: bool) {
        let mut size = part.len();
        while size > 0 {
            let mut from = 0;
            while from < part.len() {
                let chunk = from..(from + size).min(part.len());
                let mut nth = 0..;
                let fewer: Vec<Entry> = part
                    .iter()
                    .filter(|entry| {
                        let inside = chunk.contains(&nth.next().expect("it has no end"));
                        !inside || entry.does.only_reads() != reads
                    })
                    .cloned()
                    .collect();
                let smaller = fewer.len() < part.len();
                if smaller && self.is_rooted(&fewer) && self.has_none(&fewer) {
                    *part = fewer;
                } else {
                    from += size;
                }
            }
            size /= 2;
        }
    }

    fn is_rooted(&self, part: &[Entry]) -> bool {
        let roots = Roots::of(self.spec, part);
        part.iter()
            .all(|entry| self.exempt.contains(&entry.call) || roots.hold(entry))
    }
}

/// What is known of a history at a moment.
fn until(whole: &[Entry], moment: u64) -> Vec<Entry> {
    let begun = whole.iter().filter(|entry| {
        let called = entry.session.map_or(entry.start, |(_, called)| called);
        called <= moment
    });
    let known = begun.map(|entry| Entry {
        end: entry.end.filter(|end| *end <= moment),
        ..entry.clone()
    });
    known
        .filter(|entry| entry.end.is_some() || !entry.does.only_reads())
        .collect()
}

/// The states that changes can make.
struct Roots<'s> {
    spec: &'s Spec,
    states: BTreeSet<Shape>,
}

impl<'s> Roots<'s> {
    fn of(spec: &'s Spec, part: &[Entry]) -> Self {
        let changes = part.iter().map(|entry| &entry.does);
        let changes: BTreeSet<&Does> = changes.filter(|does| !does.only_reads()).collect();
        // Single states: a set of them would be a root of more than any one is.
        let single = |shape: Shape| -> Vec<Shape> {
            match spec {
                Spec::Machine { .. } => {
                    let each = (0..Shape::BITS).map(|place| 1 << place);
                    each.filter(|state| shape & state != 0).collect()
                }
                Spec::Register { .. } => vec![shape],
            }
        };
        let mut conditional = Vec::new();
        let mut new = single(spec.initial());
        for change in changes {
            match change {
                Does::Finds(Needs::Any, Some(value)) => new.push(*value),
                other => conditional.push(other),
            }
        }
        let mut states = BTreeSet::new();
        while let Some(state) = new.pop() {
            if states.insert(state) {
                let reached = conditional.iter().filter_map(|does| spec.step(state, does));
                new.extend(reached.flat_map(single));
            }
        }
        Self { spec, states }
    }

    /// Whether there is a state among them that an operation can have found.
    fn hold(&self, entry: &Entry) -> bool {
        match &entry.does {
            Does::Finds(Needs::Any, _) => return true,
            Does::Finds(Needs::Is(value), _) if self.states.contains(value) => return true,
            // A register that nobody has set yet may hold anything, which is the root of nothing.
            Does::Finds(Needs::Is(value), None) if *value != NOTHING => return false,
            _ => {}
        }
        let mut states = self.states.iter();
        states.any(|state| self.spec.step(*state, &entry.does).is_some())
    }
}
