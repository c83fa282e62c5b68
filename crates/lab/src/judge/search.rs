//! The search for an order of operations that explains what was seen: the algorithm of Wing and
//! Gong with the memory of Lowe.
//!
//! Operations that are certainly one after the other form a *lane*, so what is already in order is
//! a place per lane, however long the history. Operations that may never come to pass are counted
//! by what they do, since of two alike the one that began first is always as good, and are taken only
//! where the next operation needs them. A read that fits the state is taken at once: that only makes
//! room for others.

use std::collections::{BTreeMap, HashSet};

use super::spec::{Does, Needs, Shape, Spec};

/// An operation on one object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The call it belongs to.
    pub(super) call: usize,
    /// It took effect then or later.
    pub(super) start: u64,
    /// It took effect then or earlier; if `None`, it may never have, and may still do so.
    pub(super) end: Option<u64>,
    /// What it found and left.
    pub(super) does: Does,
    /// Operations of one session took effect in the order in which they were called, whatever
    /// `start` says. Says when it was called, beside the session.
    pub(super) session: Option<(usize, u64)>,
    /// The calls that took effect before it.
    pub(super) after: Vec<usize>,
}

/// What became of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// There is such an order.
    Order,
    /// There is none.
    None,
    /// Not within the steps allowed.
    GaveUp,
}

/// How many steps a search takes at most.
pub(super) const STEPS_MAX: u64 = 1_000_000;

/// Searches for an order in which every operation finds what it needs. Takes its steps from `left`.
pub(super) fn search(spec: &Spec, entries: &[Entry], left: &mut u64) -> Found {
    Search::new(spec, entries).run(left)
}

struct Search<'e> {
    spec: &'e Spec,
    entries: &'e [Entry],
    /// Indices of operations that ended, in order.
    lanes: Vec<Vec<usize>>,
    /// Indices of operations that are alike and may never come to pass, by their beginning.
    alike: Vec<Vec<usize>>,
    /// Whether what some of these do depends on the state.
    conditional: bool,
    /// For each operation, the places in lanes that must be passed before it.
    after: Vec<Vec<(usize, u32)>>,
}

/// How far an order has come.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Node {
    /// How many of each lane, and then of each kind of operation that may never come to pass.
    taken: Box<[u32]>,
    state: Shape,
}

impl<'e> Search<'e> {
    fn new(spec: &'e Spec, entries: &'e [Entry]) -> Self {
        let lanes = lanes(entries);
        let mut place = BTreeMap::new();
        for (lane, members) in lanes.iter().enumerate() {
            for (nth, entry) in (1..).zip(members) {
                place.insert(entries[*entry].call, (lane, nth));
            }
        }
        let before = |entry: &Entry| {
            let passed = entry.after.iter().filter_map(|call| place.get(call));
            passed.copied().collect()
        };
        let mut alike: BTreeMap<&Does, Vec<usize>> = BTreeMap::new();
        for (number, entry) in entries.iter().enumerate() {
            if entry.end.is_none() && !entry.does.only_reads() {
                alike.entry(&entry.does).or_default().push(number);
            }
        }
        for numbers in alike.values_mut() {
            numbers.sort_by_key(|number| entries[*number].start);
        }
        let any = |does: &Does| matches!(does, Does::Finds(Needs::Any, _));
        Self {
            spec,
            entries,
            conditional: !alike.keys().all(|does| any(does)),
            after: entries.iter().map(before).collect(),
            lanes,
            alike: alike.into_values().collect(),
        }
    }

    fn run(&self, left: &mut u64) -> Found {
        let mut seen = HashSet::new();
        let mut first = Node {
            taken: vec![0; self.lanes.len() + self.alike.len()].into(),
            state: self.spec.initial(),
        };
        self.take_reads(&mut first, left);
        let mut stack = vec![first];
        while let Some(node) = stack.pop() {
            if self.is_done(&node) {
                return Found::Order;
            }
            for mut next in self.next(&node) {
                if *left == 0 {
                    return Found::GaveUp;
                }
                *left -= 1;
                self.take_reads(&mut next, left);
                if seen.insert(next.clone()) {
                    stack.push(next);
                }
            }
        }
        Found::None
    }

    fn is_done(&self, node: &Node) -> bool {
        let mut lanes = self.lanes.iter().zip(&node.taken);
        lanes.all(|(lane, taken)| lane.len() == *taken as usize)
    }

    /// The next operation of a lane, or of operations that are alike.
    fn head(&self, node: &Node, lane: usize) -> Option<usize> {
        let members = match lane.checked_sub(self.lanes.len()) {
            None => &self.lanes[lane],
            Some(kind) => &self.alike[kind],
        };
        members.get(node.taken[lane] as usize).copied()
    }

    /// Operations that begin after that cannot be next: another has ended by then.
    fn horizon(&self, node: &Node) -> u64 {
        let heads = (0..self.lanes.len()).filter_map(|lane| self.head(node, lane));
        heads
            .filter_map(|number| self.entries[number].end)
            .min()
            .unwrap_or(u64::MAX)
    }

    fn may_be_next(&self, node: &Node, number: usize, horizon: u64) -> bool {
        let mut before = self.after[number].iter();
        self.entries[number].start <= horizon
            && before.all(|(lane, passed)| node.taken[*lane] >= *passed)
    }

    /// Takes every read that fits and leaves the state as it is.
    fn take_reads(&self, node: &mut Node, left: &mut u64) {
        loop {
            let horizon = self.horizon(node);
            let before = node.taken.clone();
            for lane in 0..self.lanes.len() {
                while let Some(number) = self.head(node, lane) {
                    let does = &self.entries[number].does;
                    let fits = does.only_reads()
                        && self.may_be_next(node, number, horizon)
                        && self.spec.step(node.state, does) == Some(node.state);
                    if !fits {
                        break;
                    }
                    *left = left.saturating_sub(1);
                    node.taken[lane] += 1;
                }
            }
            if before == node.taken {
                return;
            }
        }
    }

    /// What may be next; the likeliest is last.
    fn next(&self, node: &Node) -> Vec<Node> {
        let horizon = self.horizon(node);
        let heads = (0..self.lanes.len()).filter_map(|lane| {
            let number = self.head(node, lane)?;
            let next = self.may_be_next(node, number, horizon);
            next.then_some((lane, &self.entries[number]))
        });
        let mut heads: Vec<(usize, &Entry)> = heads.collect();
        heads.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.end));
        let mut next = Vec::new();
        self.after_open(node, horizon, &heads, &mut vec![node.state], &mut next);
        for (lane, entry) in heads {
            if let Some(state) = self.spec.step(node.state, &entry.does) {
                next.push(node.with(lane, state));
            }
        }
        next
    }

    /// What may be next after operations that may never come to pass. One is taken only if the next
    /// finds another state by it, or finds one at all: without it, the rest would be the same, and it
    /// would be there for later. `path` are the states on the way: there is no use in going back.
    fn after_open(
        &self,
        node: &Node,
        horizon: u64,
        heads: &[(usize, &Entry)],
        path: &mut Vec<Shape>,
        next: &mut Vec<Node>,
    ) {
        let step = |state, does| self.spec.step(state, does);
        for kind in 0..self.alike.len() {
            let lane = self.lanes.len() + kind;
            let Some(open) = self.head(node, lane).map(|number| &self.entries[number]) else {
                continue;
            };
            // In the middle of a path, it has to need what is before it.
            let former = path.len().checked_sub(2).map(|former| path[former]);
            let Some(state) = step(node.state, &open.does).filter(|state| {
                open.start <= horizon
                    && !path.contains(state)
                    && former.is_none_or(|former| step(former, &open.does) != Some(*state))
            }) else {
                continue;
            };
            let node_then = || node.with(lane, state);
            for (lane, entry) in heads {
                let Some(then) = step(state, &entry.does) else {
                    continue;
                };
                if step(node.state, &entry.does) != Some(then) {
                    next.push(node_then().with(*lane, then));
                }
            }
            if self.conditional {
                path.push(state);
                self.after_open(&node_then(), horizon, heads, path, next);
                path.pop();
            }
        }
    }
}

impl Node {
    fn with(&self, lane: usize, state: Shape) -> Self {
        let mut taken = self.taken.clone();
        taken[lane] += 1;
        Self { taken, state }
    }
}

/// Operations that ended, in as few lanes as do: each begins after the one before it has ended.
fn lanes(entries: &[Entry]) -> Vec<Vec<usize>> {
    let ended = entries.iter().enumerate();
    let mut ended: Vec<(Option<usize>, u64, u64, usize)> = ended
        .filter_map(|(number, entry)| {
            let (session, called) = match entry.session {
                Some((session, called)) => (Some(session), called),
                None => (None, entry.start),
            };
            Some((session, called, entry.end?, number))
        })
        .collect();
    ended.sort_unstable();
    let mut lanes: Vec<(Option<usize>, u64, Vec<usize>)> = Vec::new();
    for (session, called, end, number) in ended {
        let mut free = lanes.iter_mut();
        match free.find(|(of, last, _)| *of == session && *last < called) {
            Some((_, last, members)) => {
                *last = end;
                members.push(number);
            }
            None => lanes.push((session, end, vec![number])),
        }
    }
    lanes.into_iter().map(|(.., members)| members).collect()
}
