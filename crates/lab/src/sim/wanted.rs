//! What a scenario wants of a simulated run: its faults as a plan, and its clients.

use std::time::Duration;

use keyrum_types::NodeId;

use super::faults::{Cut, Fault, Loss, Over, Planned, When, who};
use super::session::LEASE_PERCENT;
use super::{
    CLIENT_HOSTS, FAMILY_SESSIONS_PER_HOST, SESSIONS_BESIDE_FAMILIES, SESSIONS_PER_HOST, place,
};
use crate::dice::Dice;
use crate::scenario::{
    Await, Direction, FAMILIES, FaultKind, FaultPlan, NodeChoice, Reading, SESSIONS, Scenario,
    Stage, Unsynced,
};
use crate::workload::Workload;

/// How soon a random fault may come after the one before, compared with the mean, in percent.
const SPREAD: (u64, u64) = (10, 190);

/// How long the nodes that a random plan adds stay at least.
const STAYS_MS: (u64, u64) = (2_000, 6_000);

/// Clients of one workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clients {
    /// Whether they own multi-Region keys.
    pub(super) families: bool,
    /// How many on all machines.
    pub(super) count: usize,
    pub(super) lease_percent: u64,
}

/// The clients of a run without a scenario.
pub(super) fn usual_clients(regions: usize) -> Vec<Clients> {
    let clients = |families, on_each: usize| Clients {
        families,
        count: on_each * CLIENT_HOSTS,
        lease_percent: LEASE_PERCENT,
    };
    match regions {
        1 => vec![clients(false, SESSIONS_PER_HOST)],
        _ => vec![
            clients(false, SESSIONS_BESIDE_FAMILIES),
            clients(true, FAMILY_SESSIONS_PER_HOST),
        ],
    }
}

/// The simulation's own clients in a scenario; `None`: as without one.
pub(super) fn clients(scenario: &Scenario) -> Option<Vec<Clients>> {
    scenario.workloads().next()?;
    let own = scenario.workloads().filter_map(|workload| {
        let families = match workload.kind.as_str() {
            SESSIONS => false,
            FAMILIES => true,
            _ => return None,
        };
        Some(Clients {
            families,
            count: workload.clients.unwrap_or(CLIENT_HOSTS),
            lease_percent: match workload.reads {
                Some(Reading::Linearizable) => 0,
                Some(Reading::Lease) => 100,
                Some(Reading::Local | Reading::Eventual) | None => LEASE_PERCENT,
            },
        })
    });
    Some(own.collect())
}

/// The other clients of a scenario.
pub(super) fn workloads(scenario: &Scenario) -> Vec<Workload> {
    let all = scenario.workloads();
    all.filter_map(|workload| workload.plan(&scenario.topology))
        .collect()
}

/// A scenario's faults between two times, in order of time, and which of them are not by chance.
pub(super) fn plan(seed: u64, scenario: &Scenario, from_ms: u64, until_ms: u64) -> Vec<Planned> {
    let regions = scenario.topology.regions();
    let number = |name: &Option<String>| {
        let found = name.as_ref().and_then(|name| place::number_of(name));
        found.filter(|number| *number < regions.len())
    };
    let mut plan: Vec<Planned> = scenario
        .faults()
        .map(|wanted| Planned {
            at_ms: from_ms + millis(wanted.at),
            when: match wanted.when {
                None => When::Then,
                Some(Await::PrimaryMoves) => When::MoveUnderWay,
                Some(Await::FamilyRotates) => When::RotationUnderWay,
            },
            lasts_ms: wanted.lasts.map_or(1, millis).max(1),
            region: number(&wanted.region).unwrap_or(0),
            fault: fault(wanted, number(&wanted.to)),
            certain: true,
        })
        .collect();
    if let Some(random) = &scenario.random {
        let kinds = random.kinds(Stage::Simulation, &scenario.topology);
        let mean_ms = (60_000.0 / random.per_minute()) as u64;
        let shape = (regions.len(), scenario.topology.nodes());
        for region in 0..regions.len() {
            let purpose = format!("random faults of {}", place::region(region));
            let mut dice = Dice::new(seed, &purpose);
            let mut at_ms = from_ms;
            loop {
                at_ms += (mean_ms * dice.between(SPREAD.0, SPREAD.1) / 100).max(1);
                if at_ms >= until_ms {
                    break;
                }
                let kind = dice.pick(&kinds);
                for (later_ms, lasts_ms, fault) in draw(&mut dice, kind, region, shape) {
                    let at_ms = at_ms + later_ms;
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
                }
            }
        }
    }
    plan.sort_by_key(|planned| planned.at_ms);
    plan
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A fault as a scenario words it.
fn fault(wanted: &FaultPlan, to: Option<usize>) -> Fault {
    use super::faults::Who;
    let node = match wanted.node {
        None | Some(NodeChoice::Leader) => Who::Leader,
        Some(NodeChoice::Follower) => Who::Follower,
        Some(NodeChoice::Number(node)) => Who::Node(node),
    };
    let cut = match wanted.direction {
        None | Some(Direction::Both) => Cut::Both,
        Some(Direction::In) => Cut::Inward,
        Some(Direction::Out) => Cut::Outward,
    };
    let loss = match wanted.unsynced {
        None | Some(Unsynced::Kept) => Loss::None,
        Some(Unsynced::Lost) => Loss::All,
        Some(Unsynced::Torn) => Loss::Some,
    };
    let with_clients = wanted.clients.unwrap_or(false);
    let after_syncs = wanted.after_syncs.unwrap_or(0);
    let latency_ms = wanted.latency.map_or(1, millis).max(1);
    let by_ms = wanted.by.map_or(0, |by| by.0);
    let percent = wanted.percent.unwrap_or(0);
    let over = match wanted.between_regions {
        Some(true) => Over::Regions,
        Some(false) | None => Over::Node(node),
    };
    match wanted.kind {
        FaultKind::Crash => Fault::Crash {
            node,
            loss,
            // A process that is killed closes its connections; power that goes does not.
            quietly: loss != Loss::None,
        },
        FaultKind::Blackout => Fault::Blackout { loss },
        FaultKind::Pause | FaultKind::Stall => Fault::Stall { node },
        FaultKind::LostWrites => Fault::LostWrites { node, after_syncs },
        FaultKind::TornWrites => Fault::TornWrites { node, after_syncs },
        FaultKind::SyncFails => Fault::SyncFails { node, after_syncs },
        FaultKind::DiskFull => Fault::DiskFull { node },
        FaultKind::SlowDisk => Fault::SlowDisk {
            node,
            ms: latency_ms,
        },
        FaultKind::BitFlip => Fault::BitFlip { node },
        FaultKind::Isolate | FaultKind::OneWay => Fault::Isolate {
            node,
            cut,
            with_clients,
        },
        FaultKind::Halves => Fault::Halves,
        FaultKind::Minority => Fault::Minority { node, with_clients },
        FaultKind::Bridge => Fault::Bridge { node },
        FaultKind::Ring => Fault::Ring,
        FaultKind::CutPair => Fault::CutPair { node, cut },
        FaultKind::CutClient => Fault::CutClient {
            client: wanted.client.unwrap_or(1) - 1,
            node,
        },
        FaultKind::Slow => Fault::Slow { node, latency_ms },
        FaultKind::Lose => Fault::Lose { over, percent },
        FaultKind::Repeat => Fault::Repeat { over, percent },
        FaultKind::Reorder => Fault::Reorder { over, percent },
        FaultKind::Sever => Fault::Sever { from: to, cut },
        FaultKind::CutCourier => Fault::CutCourier {
            node,
            to: to.unwrap_or(0),
            cut,
        },
        FaultKind::Delay => Fault::Delay,
        FaultKind::Distant => Fault::Distant { latency_ms },
        FaultKind::ClockOff => Fault::ClockOff { node, by_ms },
        FaultKind::ClockJump => Fault::ClockJump { node, by_ms },
        FaultKind::MemberAdded => Fault::MemberAdded,
        FaultKind::MemberRemoved => Fault::MemberRemoved { node },
        FaultKind::SnapshotNow => Fault::SnapshotNow { node },
        FaultKind::PurgeNow => Fault::PurgeNow { node },
        FaultKind::TimePasses => Fault::TimePasses {
            days: wanted.days.unwrap_or(1),
        },
        FaultKind::DomainKeyTurns => Fault::DomainKeyTurns,
    }
}

/// A fault of a kind by chance: when, after its time, how long, and what. A node that joins makes another
/// leave later, so that groups keep their size.
fn draw(
    dice: &mut Dice,
    kind: FaultKind,
    region: usize,
    (regions, nodes): (usize, NodeId),
) -> Vec<(u64, u64, Fault)> {
    let node = who(dice, nodes);
    let loss = dice.pick(&[Loss::All, Loss::Some, Loss::Some, Loss::None]);
    let cut = dice.pick(&[Cut::Both, Cut::Both, Cut::Inward, Cut::Outward]);
    let with_clients = dice.percent(50);
    let after_syncs = dice.below(12);
    let other = match regions {
        1 => 0,
        _ => (region + 1 + dice.index(regions - 1)) % regions,
    };
    let over = match nodes == 1 || (regions > 1 && dice.percent(50)) {
        true => Over::Regions,
        false => Over::Node(node),
    };
    let one = |from, to, dice: &mut Dice, fault| vec![(0, dice.between(from, to), fault)];
    match kind {
        FaultKind::Crash => {
            let quietly = dice.percent(50);
            let lasts_ms = dice.pick(&[10, 10, 50, 300, 1_000, 3_000, 6_000]);
            vec![(
                0,
                lasts_ms,
                Fault::Crash {
                    node,
                    loss,
                    quietly,
                },
            )]
        }
        FaultKind::Blackout => one(100, 2_000, dice, Fault::Blackout { loss }),
        FaultKind::Pause | FaultKind::Stall => one(200, 5_000, dice, Fault::Stall { node }),
        FaultKind::LostWrites => one(500, 3_000, dice, Fault::LostWrites { node, after_syncs }),
        FaultKind::TornWrites => one(500, 3_000, dice, Fault::TornWrites { node, after_syncs }),
        FaultKind::SyncFails => one(1_000, 4_000, dice, Fault::SyncFails { node, after_syncs }),
        FaultKind::DiskFull => one(1_000, 4_000, dice, Fault::DiskFull { node }),
        FaultKind::SlowDisk => {
            let ms = dice.pick(&[5, 20, 100, 400]);
            one(1_000, 6_000, dice, Fault::SlowDisk { node, ms })
        }
        FaultKind::BitFlip => one(50, 2_000, dice, Fault::BitFlip { node }),
        FaultKind::Isolate => {
            let fault = Fault::Isolate {
                node,
                cut: Cut::Both,
                with_clients,
            };
            one(500, 7_000, dice, fault)
        }
        FaultKind::OneWay => {
            let fault = Fault::Isolate {
                node,
                cut: dice.pick(&[Cut::Inward, Cut::Outward]),
                with_clients,
            };
            one(500, 7_000, dice, fault)
        }
        FaultKind::Halves => one(500, 7_000, dice, Fault::Halves),
        FaultKind::Minority => one(500, 7_000, dice, Fault::Minority { node, with_clients }),
        FaultKind::Bridge => one(500, 7_000, dice, Fault::Bridge { node }),
        FaultKind::Ring => one(500, 7_000, dice, Fault::Ring),
        FaultKind::CutPair => one(500, 7_000, dice, Fault::CutPair { node, cut }),
        FaultKind::CutClient => {
            let client = dice.index(CLIENT_HOSTS);
            one(500, 6_000, dice, Fault::CutClient { client, node })
        }
        FaultKind::Slow => {
            let latency_ms = dice.pick(&[30, 80, 200, 500]);
            one(1_000, 5_000, dice, Fault::Slow { node, latency_ms })
        }
        FaultKind::Lose => {
            let percent = dice.pick(&[2, 10, 30]);
            one(1_000, 6_000, dice, Fault::Lose { over, percent })
        }
        FaultKind::Repeat => {
            let percent = dice.pick(&[5, 20, 60]);
            one(1_000, 8_000, dice, Fault::Repeat { over, percent })
        }
        FaultKind::Reorder => {
            let percent = dice.pick(&[10, 30, 60]);
            one(1_000, 8_000, dice, Fault::Reorder { over, percent })
        }
        FaultKind::Sever => {
            let from = dice.percent(50).then_some(other);
            one(500, 7_000, dice, Fault::Sever { from, cut })
        }
        FaultKind::CutCourier => {
            let fault = Fault::CutCourier {
                node,
                to: other,
                cut,
            };
            one(500, 6_000, dice, fault)
        }
        FaultKind::Delay => one(200, 4_000, dice, Fault::Delay),
        FaultKind::Distant => {
            let latency_ms = dice.pick(&[50, 150, 300]);
            one(1_000, 6_000, dice, Fault::Distant { latency_ms })
        }
        FaultKind::ClockOff => {
            let by_ms = dice.pick(&[-3_600_000, -5_000, 500, 20_000, 90_000, 86_400_000]);
            one(1_000, 8_000, dice, Fault::ClockOff { node, by_ms })
        }
        FaultKind::ClockJump => {
            let by_ms = dice.pick(&[300, 5_000, 60_000, 3_600_000]);
            one(1_000, 6_000, dice, Fault::ClockJump { node, by_ms })
        }
        FaultKind::MemberAdded | FaultKind::MemberRemoved => {
            let leaves = dice.between(STAYS_MS.0, STAYS_MS.1);
            vec![
                (0, 1, Fault::MemberAdded),
                (leaves, 1, Fault::MemberRemoved { node }),
            ]
        }
        FaultKind::SnapshotNow => one(1, 1, dice, Fault::SnapshotNow { node }),
        FaultKind::PurgeNow => one(1, 1, dice, Fault::PurgeNow { node }),
        FaultKind::TimePasses => {
            let days = dice.pick(&[1, 8, 8, 31, 91, 91, 200]);
            one(1, 1, dice, Fault::TimePasses { days })
        }
        FaultKind::DomainKeyTurns => one(1, 1, dice, Fault::DomainKeyTurns),
    }
}
