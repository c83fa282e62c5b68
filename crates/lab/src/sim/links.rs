//! The state of every link, from the faults in force: turmoil knows one state a link, and faults
//! overlap.

use std::collections::BTreeMap;
use std::time::Duration;

use turmoil::Sim;

use super::network::{Befallen, Wires};

/// Latency of a healthy link, in milliseconds; most messages are near the lower bound.
pub(crate) const LATENCY_MS_MIN: u64 = 1;
pub(crate) const LATENCY_MS_MAX: u64 = 10;

/// What a fault does to one link, seen from its first host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing gets through from the first host to the second.
    CutForth,
    /// Nothing gets through from the second to the first.
    CutBack,
    /// What is sent arrives when the fault is over.
    Hold,
    /// Every message takes so many milliseconds.
    Slow(u64),
    /// Of a hundred segments so many have to be sent again, in both directions.
    Lose(u64),
    /// Of a hundred calls and answers so many come twice, in both directions.
    Repeat(u64),
    /// Of a hundred so many come after later ones, in both directions.
    Reorder(u64),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    cut_forth: bool,
    cut_back: bool,
    hold: bool,
    slow_ms: Option<u64>,
}

/// Every link's state now, and the faults that make it.
#[derive(Default)]
pub(crate) struct Links {
    faults: BTreeMap<usize, Vec<(String, String, Trouble)>>,
    states: BTreeMap<(String, String), State>,
}

impl Links {
    /// Puts a fault in force.
    pub(crate) fn begin(
        &mut self,
        fault: usize,
        troubles: Vec<(String, String, Trouble)>,
        sim: &Sim<'_>,
        wires: &Wires,
    ) {
        self.faults.insert(fault, troubles);
        self.settle(sim, wires);
    }

    /// Lifts a fault; nothing happens if it is not in force.
    pub(crate) fn end(&mut self, fault: usize, sim: &Sim<'_>, wires: &Wires) {
        if self.faults.remove(&fault).is_some() {
            self.settle(sim, wires);
        }
    }

    fn settle(&mut self, sim: &Sim<'_>, wires: &Wires) {
        let mut wanted: BTreeMap<(String, String), State> = self
            .states
            .keys()
            .map(|pair| (pair.clone(), State::default()))
            .collect();
        for (first, second, trouble) in self.faults.values().flatten() {
            let swapped = first > second;
            let pair = if swapped {
                (second, first)
            } else {
                (first, second)
            };
            let state = wanted.entry((pair.0.clone(), pair.1.clone())).or_default();
            match trouble {
                Trouble::CutForth if swapped => state.cut_back = true,
                Trouble::CutBack if swapped => state.cut_forth = true,
                Trouble::CutForth => state.cut_forth = true,
                Trouble::CutBack => state.cut_back = true,
                Trouble::Hold => state.hold = true,
                Trouble::Slow(ms) => state.slow_ms = state.slow_ms.max(Some(*ms)),
                // The receiving end does it.
                Trouble::Lose(_) | Trouble::Repeat(_) | Trouble::Reorder(_) => {}
            }
        }
        for (pair, state) in &mut wanted {
            // turmoil cannot hold one direction and cut the other.
            state.hold &= !state.cut_forth && !state.cut_back;
            change(
                sim,
                pair,
                self.states.get(pair).copied().unwrap_or_default(),
                *state,
            );
        }
        self.states = wanted;
        wires.set_befalls(self.befalls());
    }

    fn befalls(&self) -> Vec<(String, String, usize, Befallen)> {
        let mut all = Vec::new();
        for (fault, troubles) in &self.faults {
            for (a, b, trouble) in troubles {
                let pair = if a > b { (b, a) } else { (a, b) };
                let state = self.states.get(&(pair.0.clone(), pair.1.clone()));
                if *trouble == Trouble::Hold && state.is_some_and(|state| !state.hold) {
                    continue;
                }
                let (forth, back, what) = match trouble {
                    Trouble::CutForth => (true, false, Befallen::Cut),
                    Trouble::CutBack => (false, true, Befallen::Cut),
                    Trouble::Hold => (true, true, Befallen::Held),
                    Trouble::Slow(_) => (true, true, Befallen::Slow),
                    Trouble::Lose(percent) => (true, true, Befallen::Lost(*percent)),
                    Trouble::Repeat(percent) => (true, true, Befallen::Repeated(*percent)),
                    Trouble::Reorder(percent) => (true, true, Befallen::Reordered(*percent)),
                };
                if forth {
                    all.push((a.clone(), b.clone(), *fault, what));
                }
                if back {
                    all.push((b.clone(), a.clone(), *fault, what));
                }
            }
        }
        all
    }
}

fn change(sim: &Sim<'_>, (a, b): &(String, String), from: State, to: State) {
    let (a, b) = (a.as_str(), b.as_str());
    if from.slow_ms != to.slow_ms {
        sim.set_link_latency(
            a,
            b,
            Duration::from_millis(to.slow_ms.unwrap_or(LATENCY_MS_MIN)),
        );
        if to.slow_ms.is_none() {
            sim.set_link_max_message_latency(a, b, Duration::from_millis(LATENCY_MS_MAX));
        }
    }
    if (from.cut_forth, from.cut_back, from.hold) == (to.cut_forth, to.cut_back, to.hold) {
        return;
    }
    // Also sends on what was held.
    sim.release(a, b);
    if to.cut_forth {
        sim.partition_oneway(a, b);
    }
    if to.cut_back {
        sim.partition_oneway(b, a);
    }
    if to.hold {
        sim.hold(a, b);
    }
}
