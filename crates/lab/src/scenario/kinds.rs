//! The kinds of faults: what each is called, which settings it takes, and where it means something.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::{FaultPlan, Stage, Topology};

/// A setting of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// How long it lasts.
    For,
    /// What it waits for.
    When,
    /// Which node.
    Node,
    /// Which other Region.
    To,
    /// Which direction.
    Direction,
    /// Whether clients too.
    Clients,
    /// Which host of clients.
    Client,
    /// What becomes of unsynced writes.
    Unsynced,
    /// After how many syncs.
    AfterSyncs,
    /// How long messages or the disk take.
    Latency,
    /// How far a clock is off.
    By,
    /// How many of a hundred.
    Percent,
    /// How far a Region's clock is moved.
    Days,
    /// Which links.
    BetweenRegions,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::For => "for",
            Self::When => "when",
            Self::Node => "node",
            Self::To => "to",
            Self::Direction => "direction",
            Self::Clients => "clients",
            Self::Client => "client",
            Self::Unsynced => "unsynced",
            Self::AfterSyncs => "after_syncs",
            Self::Latency => "latency",
            Self::By => "by",
            Self::Percent => "percent",
            Self::Days => "days",
            Self::BetweenRegions => "between_regions",
        })
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A node ends without warning and starts again.
    Crash,
    /// All nodes of a Region lose power at once.
    Blackout,
    /// A node stands still.
    Pause,
    /// Power goes in the middle of a sync, and what was not synced is gone.
    LostWrites,
    /// The same, and what was not synced is torn or damaged.
    TornWrites,
    /// A sync fails.
    SyncFails,
    /// A disk is full.
    DiskFull,
    /// A disk is slow.
    SlowDisk,
    /// A bit flips in what a node that is down has stored.
    BitFlip,
    /// A node is cut off from the others.
    Isolate,
    /// The same in one direction.
    OneWay,
    /// Two halves.
    Halves,
    /// A minority with a certain node, and the others.
    Minority,
    /// Two halves and one node that sees both.
    Bridge,
    /// Each node sees its two neighbours only.
    Ring,
    /// Two nodes do not see each other.
    CutPair,
    /// One host of clients does not see a node.
    CutClient,
    /// A node and the others get what they send each other when the fault is over.
    Stall,
    /// Messages to and from a node take long.
    Slow,
    /// Segments get lost and are sent again.
    Lose,
    /// Calls between nodes come twice.
    Repeat,
    /// Calls between nodes come out of order.
    Reorder,
    /// A Region is cut off from another or all others.
    Sever,
    /// A node is cut off from another Region.
    CutCourier,
    /// Regions get what they send each other when the fault is over.
    Delay,
    /// Messages between Regions take long.
    Distant,
    /// A clock is off for a while.
    ClockOff,
    /// A clock jumps ahead and back.
    ClockJump,
    /// A new node joins.
    MemberAdded,
    /// A node leaves for good.
    MemberRemoved,
    /// A node takes a snapshot.
    SnapshotNow,
    /// A node forgets its log behind a snapshot.
    PurgeNow,
    /// No fault: a Region's clock is moved ahead.
    TimePasses,
    /// No fault: a Region's domain key is rotated, or a version destroyed.
    DomainKeyTurns,
}

/// A kind, its name, and the settings that it takes beside `kind`, `at` and `region`.
type Row = (FaultKind, &'static str, &'static [Setting]);

const TABLE: [Row; 34] = {
    use FaultKind as K;
    use Setting as S;
    [
        (K::Crash, "crash", &[S::For, S::Node, S::Unsynced]),
        (K::Blackout, "blackout", &[S::For, S::Unsynced]),
        (K::Pause, "pause", &[S::For, S::Node]),
        (
            K::LostWrites,
            "lost-writes",
            &[S::For, S::Node, S::AfterSyncs],
        ),
        (
            K::TornWrites,
            "torn-writes",
            &[S::For, S::Node, S::AfterSyncs],
        ),
        (
            K::SyncFails,
            "sync-fails",
            &[S::For, S::Node, S::AfterSyncs],
        ),
        (K::DiskFull, "disk-full", &[S::For, S::Node]),
        (K::SlowDisk, "slow-disk", &[S::For, S::Node, S::Latency]),
        (K::BitFlip, "bit-flip", &[S::For, S::Node]),
        (K::Isolate, "isolate", &[S::For, S::Node, S::Clients]),
        (
            K::OneWay,
            "one-way",
            &[S::For, S::Node, S::Clients, S::Direction],
        ),
        (K::Halves, "halves", &[S::For]),
        (K::Minority, "minority", &[S::For, S::Node, S::Clients]),
        (K::Bridge, "bridge", &[S::For, S::Node]),
        (K::Ring, "ring", &[S::For]),
        (K::CutPair, "cut-pair", &[S::For, S::Node, S::Direction]),
        (K::CutClient, "cut-client", &[S::For, S::Node, S::Client]),
        (K::Stall, "stall", &[S::For, S::Node]),
        (K::Slow, "slow", &[S::For, S::Node, S::Latency]),
        (
            K::Lose,
            "lose",
            &[S::For, S::Node, S::Percent, S::BetweenRegions],
        ),
        (
            K::Repeat,
            "repeat",
            &[S::For, S::Node, S::Percent, S::BetweenRegions],
        ),
        (
            K::Reorder,
            "reorder",
            &[S::For, S::Node, S::Percent, S::BetweenRegions],
        ),
        (K::Sever, "sever", &[S::For, S::To, S::Direction, S::When]),
        (
            K::CutCourier,
            "cut-courier",
            &[S::For, S::Node, S::To, S::Direction],
        ),
        (K::Delay, "delay", &[S::For]),
        (K::Distant, "distant", &[S::For, S::Latency]),
        (K::ClockOff, "clock-off", &[S::For, S::Node, S::By]),
        (K::ClockJump, "clock-jump", &[S::For, S::Node, S::By]),
        (K::MemberAdded, "member-added", &[]),
        (K::MemberRemoved, "member-removed", &[S::Node]),
        (K::SnapshotNow, "snapshot-now", &[S::Node]),
        (K::PurgeNow, "purge-now", &[S::Node]),
        (K::TimePasses, "time-passes", &[S::Days]),
        (K::DomainKeyTurns, "domain-key-turns", &[]),
    ]
};

impl FaultKind {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; TABLE.len()] = {
        let mut all = [Self::Crash; TABLE.len()];
        let mut at = 0;
        while at < TABLE.len() {
            all[at] = TABLE[at].0;
            at += 1;
        }
        all
    };

    fn row(self) -> &'static Row {
        let row = TABLE.iter().find(|(kind, ..)| *kind == self);
        row.expect("every kind has a row")
    }

    /// The name under which it is counted, too.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The settings that it takes beside `kind`, `at` and `region`.
    pub fn settings(self) -> &'static [Setting] {
        self.row().2
    }

    /// The part of Keyrum that it strikes.
    pub fn component(self) -> &'static str {
        match self {
            Self::Crash | Self::Blackout | Self::Pause | Self::Stall => "node",
            Self::LostWrites
            | Self::TornWrites
            | Self::SyncFails
            | Self::DiskFull
            | Self::SlowDisk
            | Self::BitFlip => "store",
            Self::Isolate
            | Self::OneWay
            | Self::Halves
            | Self::Minority
            | Self::Bridge
            | Self::Ring
            | Self::CutPair
            | Self::Slow
            | Self::Lose
            | Self::Repeat
            | Self::Reorder => "consensus",
            Self::MemberAdded | Self::MemberRemoved => "members",
            Self::SnapshotNow | Self::PurgeNow => "snapshots",
            Self::Sever | Self::CutCourier | Self::Delay | Self::Distant => "courier",
            Self::CutClient => "API",
            Self::ClockOff | Self::ClockJump | Self::TimePasses => "clock",
            Self::DomainKeyTurns => "domain key",
        }
    }

    /// Whether it lasts, and is not done at once.
    pub fn lasts(self) -> bool {
        self.settings().contains(&Setting::For)
    }

    /// Whether it means something on a stage, with a topology; says why not.
    pub fn check(self, stage: Stage, topology: &Topology) -> Result<(), String> {
        let refused = match (stage, self) {
            (Stage::Simulation, Self::Pause) => {
                "a simulated node cannot stand still while time goes on; `stall` holds back all that it sends and gets, and `keyrum lab run` pauses processes"
            }
            (Stage::Processes { .. }, Self::ClockOff | Self::ClockJump) => {
                "processes have the machine's clock, which is not the lab's to move; `keyrum lab sim` does it"
            }
            (stage, Self::LostWrites | Self::TornWrites) => {
                stage.keeps_unsynced().unwrap_or_default()
            }
            (Stage::Processes { .. }, Self::Repeat | Self::Reorder) => {
                "between processes TCP takes care that nothing comes twice or out of order; `keyrum lab sim` does it above TCP"
            }
            (Stage::Processes { .. }, Self::SnapshotNow | Self::PurgeNow) => {
                "nodes choose themselves when they take a snapshot; `snapshot_every` has them take more, and `keyrum lab sim` chooses the moment"
            }
            (Stage::Processes { .. }, Self::DomainKeyTurns) => {
                "only a simulation turns domain keys; `keyrum domain-key rotate` does it by hand"
            }
            _ => "",
        };
        if !refused.is_empty() {
            return Err(refused.to_owned());
        }
        let (regions, nodes) = (topology.regions().len(), topology.nodes());
        let about_links = self.settings().contains(&Setting::BetweenRegions);
        if about_links && regions == 1 && nodes == 1 {
            return Err("a node alone has no links to others".to_owned());
        }
        let needs_nodes = match self {
            Self::Isolate | Self::OneWay | Self::Halves | Self::CutPair | Self::Slow => 2,
            Self::Bridge | Self::Minority | Self::BitFlip => 3,
            Self::Ring => 4,
            _ => 1,
        };
        if nodes < needs_nodes {
            return Err(format!(
                "it takes {needs_nodes} nodes in a Region, and the topology has {nodes}"
            ));
        }
        let between = matches!(
            self,
            Self::Sever | Self::CutCourier | Self::Delay | Self::Distant
        );
        if between && regions < 2 {
            return Err("it is about Regions, and the topology has one".to_owned());
        }
        Ok(())
    }
}

impl FaultPlan {
    fn given(&self) -> Vec<Setting> {
        let given = [
            (Setting::For, self.lasts.is_some()),
            (Setting::When, self.when.is_some()),
            (Setting::Node, self.node.is_some()),
            (Setting::To, self.to.is_some()),
            (Setting::Direction, self.direction.is_some()),
            (Setting::Clients, self.clients.is_some()),
            (Setting::Client, self.client.is_some()),
            (Setting::Unsynced, self.unsynced.is_some()),
            (Setting::AfterSyncs, self.after_syncs.is_some()),
            (Setting::Latency, self.latency.is_some()),
            (Setting::By, self.by.is_some()),
            (Setting::Percent, self.percent.is_some()),
            (Setting::Days, self.days.is_some()),
            (Setting::BetweenRegions, self.between_regions.is_some()),
        ];
        let given = given.into_iter().filter(|(_, is)| *is);
        given.map(|(setting, _)| setting).collect()
    }

    /// Whether its settings are those of its kind.
    pub(super) fn check_settings(&self) -> Result<(), String> {
        let (kind, takes) = (self.kind, self.kind.settings());
        let given = self.given();
        if let Some(wrong) = given.iter().find(|setting| !takes.contains(setting)) {
            let names = ["kind", "at", "region"].map(str::to_owned).into_iter();
            let names = names.chain(takes.iter().map(Setting::to_string));
            return Err(format!(
                "it takes no `{wrong}`; it takes {}",
                names.collect::<Vec<_>>().join(", ")
            ));
        }
        let needed = [
            Setting::For,
            Setting::Latency,
            Setting::By,
            Setting::Percent,
            Setting::Days,
        ];
        let needed = needed.into_iter().filter(|setting| takes.contains(setting));
        if let Some(missing) = { needed }.find(|setting| !given.contains(setting)) {
            return Err(format!("it needs `{missing}`"));
        }
        if self
            .percent
            .is_some_and(|percent| !(1..=100).contains(&percent))
        {
            return Err("percent is 1 to 100".to_owned());
        }
        if kind == FaultKind::OneWay
            && !matches!(self.direction, Some(d) if d != super::Direction::Both)
        {
            return Err("it needs `direction`, \"in\" or \"out\"".to_owned());
        }
        if self.client.is_some_and(|client| !(1..=3).contains(&client)) {
            return Err("hosts of clients are numbered from 1 to 3".to_owned());
        }
        if self.between_regions == Some(true) && self.node.is_some() {
            return Err("`node` names a node's links inside its Region, `between_regions` those between Regions: one of them".to_owned());
        }
        Ok(())
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl<'de> Deserialize<'de> for FaultKind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let found = TABLE.iter().find(|(_, name, _)| *name == text);
        found.map(|(kind, ..)| *kind).ok_or_else(|| {
            let names = TABLE.map(|(_, name, _)| name);
            de::Error::custom(format!(
                "there is no kind of fault {text:?}; there are {}",
                names.join(", ")
            ))
        })
    }
}
