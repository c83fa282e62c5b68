//! The fault plan: what goes wrong in a run, and when. A seed fixes it before the run starts.

use std::fmt;

use keyrum_types::NodeId;

use super::CLIENT_HOSTS;
use super::place;
use crate::dice::Dice;

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
    /// Each is torn or damaged.
    Torn,
    /// They survive: only the process ended.
    None,
}

/// Which links a fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Those between a node and the others of its Region.
    Node(Who),
    /// Those between the Region and all others.
    Regions,
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
    /// The Region is cut off from another one, or from all others.
    Sever { from: Option<usize>, cut: Cut },
    /// A node is cut off from all nodes of another Region.
    CutCourier { node: Who, to: usize, cut: Cut },
    /// What the Region and the others send each other arrives only when the fault is over.
    Delay,
    /// Every message between the Region and the others takes this long, in milliseconds.
    Distant { latency_ms: u64 },
    /// Power goes while the node's disk syncs, after so many syncs more: what was not synced is gone.
    LostWrites { node: Who, after_syncs: u64 },
    /// The same, and what was not synced is there in part, or damaged.
    TornWrites { node: Who, after_syncs: u64 },
    /// A bit of what the node's disk has synced flips while the node is down. A node that does not
    /// start for it is replaced by a new one.
    BitFlip { node: Who },
    /// The node's disk takes this long for everything that waits for it, in milliseconds.
    SlowDisk { node: Who, ms: u64 },
    /// The Region's nodes fall into two halves that cannot talk to each other; each client sees one.
    Halves,
    /// Less than half of the Region's nodes, `node` among them, is cut off from the others, and from
    /// half of the clients if `with_clients`.
    Minority { node: Who, with_clients: bool },
    /// Two halves that cannot talk to each other; one node can talk to both.
    Bridge { node: Who },
    /// Each node can talk to two others only, as in a circle.
    Ring,
    /// Of a hundred segments so many have to be sent again.
    Lose { over: Over, percent: u64 },
    /// Of a hundred calls between nodes, and answers, so many come a second time, later.
    Repeat { over: Over, percent: u64 },
    /// Of a hundred so many come after later ones.
    Reorder { over: Over, percent: u64 },
    /// A node's wall clock jumps ahead and back by this much, in milliseconds, time and again.
    ClockJump { node: Who, by_ms: i64 },
    /// A new node joins the Region.
    MemberAdded,
    /// A node leaves the Region for good.
    MemberRemoved { node: Who },
    /// The node takes a snapshot now.
    SnapshotNow { node: Who },
    /// The node forgets the log behind a snapshot now.
    PurgeNow { node: Who },
    /// No fault: the Region's clock is moved ahead, so that keys are deleted and rotated.
    TimePasses { days: u64 },
    /// No fault: the Region's domain key is rotated, or a version of it destroyed.
    DomainKeyTurns,
}

/// When a fault begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// At its time.
    Then,
    /// From then on as soon as a move of a primary is under way; it hits where it goes.
    MoveUnderWay,
    /// From then on as soon as a rotation waits for a Region, which it hits.
    RotationUnderWay,
}

impl Fault {
    /// The one node that it hits; `None` if it hits several, or none.
    pub(crate) fn node(&self) -> Option<Who> {
        match *self {
            Self::Crash { node, .. }
            | Self::SyncFails { node, .. }
            | Self::DiskFull { node }
            | Self::Isolate { node, .. }
            | Self::CutPair { node, .. }
            | Self::Stall { node }
            | Self::Slow { node, .. }
            | Self::CutClient { node, .. }
            | Self::ClockOff { node, .. }
            | Self::CutCourier { node, .. }
            | Self::LostWrites { node, .. }
            | Self::TornWrites { node, .. }
            | Self::BitFlip { node }
            | Self::SlowDisk { node, .. }
            | Self::Bridge { node }
            | Self::ClockJump { node, .. }
            | Self::MemberRemoved { node }
            | Self::SnapshotNow { node }
            | Self::PurgeNow { node } => Some(node),
            Self::Lose { over, .. } | Self::Repeat { over, .. } | Self::Reorder { over, .. } => {
                match over {
                    Over::Node(node) => Some(node),
                    Over::Regions => None,
                }
            }
            Self::Blackout { .. }
            | Self::Sever { .. }
            | Self::Delay
            | Self::Distant { .. }
            | Self::Halves
            | Self::Minority { .. }
            | Self::Ring
            | Self::MemberAdded
            | Self::TimePasses { .. }
            | Self::DomainKeyTurns => None,
        }
    }

    /// The name under which it is counted.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Crash { .. } => "crash",
            Self::Blackout { .. } => "blackout",
            Self::SyncFails { .. } => "sync-fails",
            Self::DiskFull { .. } => "disk-full",
            Self::Isolate { cut: Cut::Both, .. } => "isolate",
            Self::Isolate { .. } => "one-way",
            Self::CutPair { .. } => "cut-pair",
            Self::Stall { .. } => "stall",
            Self::Slow { .. } => "slow",
            Self::CutClient { .. } => "cut-client",
            Self::ClockOff { .. } => "clock-off",
            Self::Sever { .. } => "sever",
            Self::CutCourier { .. } => "cut-courier",
            Self::Delay => "delay",
            Self::Distant { .. } => "distant",
            Self::LostWrites { .. } => "lost-writes",
            Self::TornWrites { .. } => "torn-writes",
            Self::BitFlip { .. } => "bit-flip",
            Self::SlowDisk { .. } => "slow-disk",
            Self::Halves => "halves",
            Self::Minority { .. } => "minority",
            Self::Bridge { .. } => "bridge",
            Self::Ring => "ring",
            Self::Lose { .. } => "lose",
            Self::Repeat { .. } => "repeat",
            Self::Reorder { .. } => "reorder",
            Self::ClockJump { .. } => "clock-jump",
            Self::MemberAdded => "member-added",
            Self::MemberRemoved { .. } => "member-removed",
            Self::SnapshotNow { .. } => "snapshot-now",
            Self::PurgeNow { .. } => "purge-now",
            Self::TimePasses { .. } => "time-passes",
            Self::DomainKeyTurns => "domain-key-turns",
        }
    }
}

/// A fault with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    /// When it begins, in simulated milliseconds.
    pub(crate) at_ms: u64,
    pub(crate) when: When,
    /// How long it lasts.
    pub(crate) lasts_ms: u64,
    /// The Region it hits, by number.
    pub(crate) region: usize,
    pub(crate) fault: Fault,
    /// Whether the run does not pass unless it takes effect.
    pub(crate) certain: bool,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fault, lasts_ms) = (self.fault, self.lasts_ms);
        write!(
            f,
            "at {} ms {fault:?} for {lasts_ms} ms in {}",
            self.at_ms,
            place::region(self.region)
        )
    }
}

/// The faults between two times, in order of time. Whatever the seed, each Region's leader crashes once, the
/// first's is cut off once, and Regions are cut off while a move and while a rotation is under way:
/// so no run passes for want of trouble.
pub(crate) fn plan(
    seed: u64,
    (regions, nodes): (usize, NodeId),
    from_ms: u64,
    until_ms: u64,
) -> Vec<Planned> {
    let mut plan = Vec::new();
    for region in 0..regions {
        let purpose = match region {
            0 => "faults".to_owned(),
            other => format!("faults of {}", place::region(other)),
        };
        let mut dice = Dice::new(seed, &purpose);
        let mut certain = vec![Fault::Crash {
            node: Who::Leader,
            loss: Loss::Some,
            quietly: dice.percent(50),
        }];
        if region == 0 {
            certain.push(Fault::Isolate {
                node: Who::Leader,
                cut: Cut::Both,
                with_clients: false,
            });
        }
        // Three Regions in trouble at all times would never get to speak to each other.
        let rarer = if regions == 1 { 1 } else { 2 };
        let span = (from_ms, until_ms);
        plan.extend(inside(&mut dice, (region, nodes), certain, rarer, span));
    }
    if regions > 1 {
        let mut dice = Dice::new(seed, "faults between Regions");
        plan.extend(between(&mut dice, (regions, nodes), from_ms, until_ms));
    }
    for region in 0..regions {
        let mut dice = Dice::new(seed, &format!("domain key of {}", place::region(region)));
        let mut at_ms = from_ms + dice.between(500, 4_000);
        while at_ms + 1 < until_ms {
            plan.push(Planned {
                at_ms,
                when: When::Then,
                lasts_ms: 1,
                region,
                fault: Fault::DomainKeyTurns,
                certain: false,
            });
            at_ms += dice.between(3_000, 15_000);
        }
    }
    plan.sort_by_key(|planned| planned.at_ms);
    plan
}

/// The faults of one Region.
fn inside(
    dice: &mut Dice,
    (region, nodes): (usize, NodeId),
    mut certain: Vec<Fault>,
    rarer: u64,
    (from_ms, until_ms): (u64, u64),
) -> Vec<Planned> {
    let planned = |at_ms, lasts_ms, fault| Planned {
        at_ms,
        when: When::Then,
        lasts_ms,
        region,
        fault,
        certain: false,
    };
    let mut plan = Vec::new();
    let mut at_ms = from_ms;
    loop {
        at_ms += dice.between(300, 3_000) * rarer;
        let due = (!certain.is_empty() && dice.percent(60)).then(|| dice.index(certain.len()));
        let (fault, lasts_ms) = match due {
            Some(due) => (certain[due], dice.between(3_000, 5_000)),
            None => draw(dice, nodes),
        };
        if at_ms + lasts_ms >= until_ms {
            break;
        }
        if let Some(due) = due {
            certain.remove(due);
        }
        plan.push(planned(at_ms, lasts_ms, fault));
        // Two in three faults end before the next begins.
        if dice.percent(66) {
            at_ms += lasts_ms;
        }
    }
    // A short run: what is certain comes first, one after the other.
    for (nth, fault) in (0_u64..).zip(certain) {
        plan.push(planned(from_ms + nth * 4_000, 3_500, fault));
    }
    plan
}

/// The faults between Regions, and the passing of time.
fn between(
    dice: &mut Dice,
    (regions, nodes): (usize, NodeId),
    from_ms: u64,
    until_ms: u64,
) -> Vec<Planned> {
    let everything = Fault::Sever {
        from: None,
        cut: Cut::Both,
    };
    let certain = [When::MoveUnderWay, When::RotationUnderWay];
    let certain = certain.map(|when| Planned {
        at_ms: from_ms + dice.between(0, 3_000),
        when,
        lasts_ms: dice.between(2_500, 4_000),
        region: 0,
        fault: everything,
        certain: false,
    });
    let mut plan = certain.to_vec();
    let mut then = |at_ms, lasts_ms, region, fault| {
        if at_ms + lasts_ms < until_ms {
            plan.push(Planned {
                at_ms,
                when: When::Then,
                lasts_ms,
                region,
                fault,
                certain: false,
            });
        }
    };
    let mut at_ms = from_ms;
    while at_ms < until_ms {
        at_ms += dice.between(1_000, 6_000);
        let region = dice.index(regions);
        let (fault, lasts_ms) = draw_between(dice, region, (regions, nodes));
        then(at_ms, lasts_ms, region, fault);
    }
    let mut at_ms = from_ms;
    while at_ms < until_ms {
        at_ms += dice.between(1_500, 5_000);
        let days = dice.pick(&[1, 8, 8, 31, 91, 91, 200]);
        then(at_ms, 1, dice.index(regions), Fault::TimePasses { days });
    }
    plan
}

fn draw_between(dice: &mut Dice, region: usize, (regions, nodes): (usize, NodeId)) -> (Fault, u64) {
    let other = (region + 1 + dice.index(regions - 1)) % regions;
    let cut = dice.pick(&[Cut::Both, Cut::Both, Cut::Inward, Cut::Outward]);
    let node = who(dice, nodes);
    match dice.below(100) {
        0..40 => {
            let from = dice.percent(50).then_some(other);
            (Fault::Sever { from, cut }, dice.between(500, 7_000))
        }
        40..65 => {
            let to = other;
            (
                Fault::CutCourier { node, to, cut },
                dice.between(500, 6_000),
            )
        }
        65..80 => (Fault::Delay, dice.between(200, 4_000)),
        _ => {
            let latency_ms = dice.pick(&[50, 150, 300]);
            (Fault::Distant { latency_ms }, dice.between(1_000, 6_000))
        }
    }
}

/// The leader twice as often as any other.
pub(crate) fn who(dice: &mut Dice, nodes: NodeId) -> Who {
    match dice.below(4) {
        0 | 1 => Who::Leader,
        2 => Who::Follower,
        _ => Who::Node(dice.between(1, nodes)),
    }
}

fn draw(dice: &mut Dice, nodes: NodeId) -> (Fault, u64) {
    let node = who(dice, nodes);
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

    /// Catches a plan that its seed does not fix, that lacks what must come, or whose faults
    /// outlast it.
    #[test]
    fn plans_are_fixed_by_their_seed_and_end_in_time() {
        for (seed, regions) in (0..200).flat_map(|seed| [(seed, 1), (seed, 3)]) {
            let faults = plan(seed, (regions, 3), 3_000, 30_000);
            assert_eq!(faults, plan(seed, (regions, 3), 3_000, 30_000));
            let has = |what: &dyn Fn(&Planned) -> bool| faults.iter().any(what);
            for region in 0..regions {
                let leader = Who::Leader;
                let falls = |planned: &Planned| {
                    planned.region == region
                        && matches!(planned.fault, Fault::Crash { node, .. } if node == leader)
                };
                assert!(has(&falls), "{seed}: Region {region}");
            }
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
            assert!(has(&leader_alone), "{seed}");
            for when in [When::MoveUnderWay, When::RotationUnderWay] {
                assert_eq!(has(&|planned| planned.when == when), regions > 1);
            }
            assert!(
                faults
                    .iter()
                    .all(|p| p.at_ms >= 3_000 && p.at_ms + p.lasts_ms < 30_000)
            );
        }
        assert_ne!(plan(1, (3, 3), 0, 60_000), plan(2, (3, 3), 0, 60_000));
    }

    /// Catches a kind of fault that no seed ever plans.
    #[test]
    fn every_kind_of_fault_is_planned() {
        let kinds = |regions| {
            let plans = (0..50).flat_map(|seed| plan(seed, (regions, 3), 0, 60_000));
            let kinds = plans.map(|planned| planned.fault.kind());
            kinds.collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(kinds(1).len(), 12, "{:?}", kinds(1));
        assert_eq!(kinds(3).len(), 17, "{:?}", kinds(3));
    }
}
