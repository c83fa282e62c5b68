//! The fault plan: what goes wrong in a run, and when. A seed fixes it before the run starts.

use std::fmt;

use keyrum_types::NodeId;

use super::seed::Dice;
use super::{CLIENT_HOSTS, NODES};

/// Which node a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Whoever leads when the fault begins; node 1 if nobody does.
    Leader,
    /// The first node after the leader.
    Follower,
    /// This one.
    Node(NodeId),
}

/// Which direction of a link a cut takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nothing gets through.
    Both,
    /// Nothing gets through to the node that is hit.
    Inward,
    /// Nothing that the node sends gets through.
    Outward,
}

/// What a power loss does to unsynced writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// They are gone.
    All,
    /// Each meets its own fate: gone, there, torn or damaged.
    Some,
    /// They survive: only the process ended.
    None,
}

/// Something that goes wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A node ends without warning and starts again afterwards. `quietly`: its peers get no sign,
    /// as when the power goes; otherwise their connections close, as when a process ends.
    Crash {
        node: Who,
        loss: Loss,
        quietly: bool,
    },
    /// All nodes lose power at once.
    Blackout { loss: Loss },
    /// A sync of the node's disk fails; the node must stop by itself. It loses power and starts
    /// again afterwards.
    SyncFails { node: Who, after_syncs: u64 },
    /// The node's disk is full; the node must stop by itself or go on without writing. It is
    /// started again afterwards.
    DiskFull { node: Who },
    /// A node is cut off from the other nodes, and from half of the clients if `with_clients`.
    Isolate {
        node: Who,
        cut: Cut,
        with_clients: bool,
    },
    /// Two nodes cannot talk to each other; the third can talk to both.
    CutPair { node: Who, cut: Cut },
    /// What a node and the others send each other arrives only when the fault is over.
    Stall { node: Who },
    /// Every message to and from a node takes this long, in milliseconds.
    Slow { node: Who, latency_ms: u64 },
    /// Clients on one host and one node cannot talk to each other.
    CutClient { client: usize, node: Who },
    /// A node's wall clock is off by this much, in milliseconds.
    ClockOff { node: Who, by_ms: i64 },
}

impl Fault {
    /// The name under which it is counted.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Crash { .. } => "crash",
            Self::Blackout { .. } => "blackout",
            Self::SyncFails { .. } => "sync-fails",
            Self::DiskFull { .. } => "disk-full",
            Self::Isolate { .. } => "isolate",
            Self::CutPair { .. } => "cut-pair",
            Self::Stall { .. } => "stall",
            Self::Slow { .. } => "slow",
            Self::CutClient { .. } => "cut-client",
            Self::ClockOff { .. } => "clock-off",
        }
    }
}

/// A fault with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    /// When it begins, in simulated milliseconds.
    pub(crate) at_ms: u64,
    /// How long it lasts.
    pub(crate) lasts_ms: u64,
    pub(crate) fault: Fault,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} for {} ms", self.fault, self.lasts_ms)
    }
}

/// The faults between two times, in order. Whatever the seed, the leader crashes once and is cut
/// off once, so that no run passes for want of trouble.
pub(crate) fn plan(seed: u64, from_ms: u64, until_ms: u64) -> Vec<Planned> {
    let mut dice = Dice::new(seed, "faults");
    let mut certain = vec![
        Fault::Crash {
            node: Who::Leader,
            loss: Loss::Some,
            quietly: dice.percent(50),
        },
        Fault::Isolate {
            node: Who::Leader,
            cut: Cut::Both,
            with_clients: false,
        },
    ];
    let mut plan = Vec::new();
    let mut at_ms = from_ms;
    loop {
        at_ms += dice.between(300, 3_000);
        let due = (!certain.is_empty() && dice.percent(60)).then(|| dice.index(certain.len()));
        let (fault, lasts_ms) = match due {
            Some(due) => (certain[due], dice.between(3_000, 5_000)),
            None => draw(&mut dice),
        };
        if at_ms + lasts_ms >= until_ms {
            break;
        }
        if let Some(due) = due {
            certain.remove(due);
        }
        plan.push(Planned {
            at_ms,
            lasts_ms,
            fault,
        });
        // Two in three faults end before the next begins.
        if dice.percent(66) {
            at_ms += lasts_ms;
        }
    }
    // A short run: what is certain comes first, one after the other.
    for (nth, fault) in (0_u64..).zip(certain) {
        plan.push(Planned {
            at_ms: from_ms + nth * 4_000,
            lasts_ms: 3_500,
            fault,
        });
    }
    plan.sort_by_key(|planned| planned.at_ms);
    plan
}

fn draw(dice: &mut Dice) -> (Fault, u64) {
    let node = match dice.below(4) {
        0 | 1 => Who::Leader,
        2 => Who::Follower,
        _ => Who::Node(dice.between(1, NODES)),
    };
    let loss = dice.pick(&[Loss::All, Loss::Some, Loss::Some, Loss::None]);
    let cut = dice.pick(&[Cut::Both, Cut::Both, Cut::Inward, Cut::Outward]);
    match dice.below(100) {
        0..22 => (
            Fault::Crash {
                node,
                loss,
                quietly: dice.percent(50),
            },
            dice.pick(&[10, 10, 50, 300, 1_000, 3_000, 6_000]),
        ),
        22..28 => (Fault::Blackout { loss }, dice.between(100, 2_000)),
        28..36 => {
            let after_syncs = dice.below(12);
            (
                Fault::SyncFails { node, after_syncs },
                dice.between(1_000, 4_000),
            )
        }
        36..40 => (Fault::DiskFull { node }, dice.between(1_000, 4_000)),
        40..58 => {
            let with_clients = dice.percent(50);
            (
                Fault::Isolate {
                    node,
                    cut,
                    with_clients,
                },
                dice.between(500, 7_000),
            )
        }
        58..68 => (Fault::CutPair { node, cut }, dice.between(500, 7_000)),
        68..76 => (Fault::Stall { node }, dice.between(200, 5_000)),
        76..84 => {
            let latency_ms = dice.pick(&[30, 80, 200, 500]);
            (Fault::Slow { node, latency_ms }, dice.between(1_000, 5_000))
        }
        84..92 => {
            let client = dice.index(CLIENT_HOSTS);
            (Fault::CutClient { client, node }, dice.between(500, 6_000))
        }
        _ => {
            let by_ms = dice.pick(&[-3_600_000, -5_000, 500, 20_000, 90_000, 86_400_000]);
            (Fault::ClockOff { node, by_ms }, dice.between(1_000, 8_000))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a plan that its seed does not fix, that has no faults, or whose faults outlast it.
    #[test]
    fn plans_are_fixed_by_their_seed_and_end_in_time() {
        for seed in 0..200 {
            let faults = plan(seed, 3_000, 30_000);
            assert_eq!(faults, plan(seed, 3_000, 30_000));
            let leader_falls = |planned: &Planned| {
                matches!(
                    planned.fault,
                    Fault::Crash {
                        node: Who::Leader,
                        ..
                    }
                )
            };
            let leader_alone = |planned: &Planned| {
                matches!(
                    planned.fault,
                    Fault::Isolate {
                        node: Who::Leader,
                        cut: Cut::Both,
                        ..
                    }
                )
            };
            assert!(
                faults.iter().any(leader_falls) && faults.iter().any(leader_alone),
                "{seed}"
            );
            assert!(
                faults
                    .iter()
                    .all(|p| p.at_ms >= 3_000 && p.at_ms + p.lasts_ms < 30_000)
            );
        }
        assert_ne!(plan(1, 0, 60_000), plan(2, 0, 60_000));
    }

    /// Catches a kind of fault that no seed ever plans.
    #[test]
    fn every_kind_of_fault_is_planned() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..50 {
            kinds.extend(
                plan(seed, 0, 60_000)
                    .iter()
                    .map(|planned| planned.fault.kind()),
            );
        }
        assert_eq!(kinds.len(), 10, "{kinds:?}");
    }
}
