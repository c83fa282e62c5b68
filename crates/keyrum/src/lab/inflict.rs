//! Puts the faults of a scenario into a running cluster of processes, and lifts them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use keyrum_consensus::faults::{Direction, Effects, Fault, Party, With};
use keyrum_lab::dice::Dice;
use keyrum_lab::experiment::FaultWindow;
use keyrum_lab::scenario::{self, FaultKind, FaultPlan, NodeChoice, Scenario, Stage, Unsynced};
use keyrum_lab::workload::recorder::Recorder;
use keyrum_types::{NodeId, Region, UnixMillis};

use super::packets::{self, Addresses, Packets};
use super::watch::Seen;
use crate::Failure;
use crate::cli::{NodeName, Shape};
use crate::cluster;
use crate::control::{Harm, Reply, Request};
use crate::fault::{Steer, cuts};
use crate::power::Loss;
use crate::run;

/// Shortest and longest of the faults that come by chance.
const LASTS: (u64, u64) = (1_000, 6_000);

/// When faults by chance may begin first, and how long before the end they end: clients see the
/// cluster without any first.
const CALM: Duration = Duration::from_secs(2);

/// What becomes of a fault at its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    End(usize),
    Begin(usize),
}

/// All faults of an experiment with their times.
pub(super) struct Agenda {
    plan: Vec<FaultPlan>,
    turns: BTreeSet<(Duration, Turn)>,
}

impl Agenda {
    /// Those that a scenario names and, fixed by the seed, those that come by chance.
    pub(super) fn of(scenario: &Scenario, stage: Stage, seed: u64, lasts: Duration) -> Self {
        let mut plan: Vec<_> = scenario.faults().cloned().collect();
        if let Some(random) = &scenario.random {
            let kinds = random.kinds(stage, &scenario.topology);
            for region in scenario.topology.regions() {
                let mut dice = Dice::new(seed, &format!("faults of {region}"));
                let mut at = CALM;
                let mean_ms = 60_000.0 / random.per_minute();
                loop {
                    // From half of the mean to half more.
                    let gap_ms = mean_ms * (50 + dice.below(101)) as f64 / 100.0;
                    at += Duration::from_secs_f64(gap_ms / 1_000.0);
                    let kind = dice.pick(&kinds);
                    let fault = by_chance(kind, stage, at, &region, &mut dice);
                    if at + fault.lasts.unwrap_or_default() + CALM > lasts {
                        break;
                    }
                    plan.push(fault);
                }
            }
        }
        let mut turns = BTreeSet::new();
        for (number, fault) in plan.iter().enumerate() {
            turns.insert((fault.at, Turn::Begin(number)));
            if let Some(lasts) = fault.lasts {
                turns.insert((fault.at + lasts, Turn::End(number)));
            }
        }
        Self { plan, turns }
    }

    /// What happens when, in order, since the clients began.
    pub(super) fn turns(&self) -> impl Iterator<Item = (Duration, Turn)> {
        self.turns.iter().copied()
    }
}

fn by_chance(
    kind: FaultKind,
    stage: Stage,
    at: Duration,
    region: &str,
    dice: &mut Dice,
) -> FaultPlan {
    let mut fault = FaultPlan::new(kind, at);
    fault.region = Some(region.to_owned());
    if kind.lasts() {
        fault.lasts = Some(Duration::from_millis(dice.between(LASTS.0, LASTS.1)));
    }
    let takes = |setting| kind.settings().contains(&setting);
    if takes(scenario::Setting::Node) {
        fault.node = Some(match dice.percent(60) {
            true => NodeChoice::Leader,
            false => NodeChoice::Follower,
        });
    }
    // Only then, so that a seed's plan without a power loss stays what it was.
    if stage == (Stage::Processes { power_loss: true }) {
        if takes(scenario::Setting::Unsynced) {
            fault.unsynced = Some(dice.pick(&[Unsynced::Kept, Unsynced::Lost, Unsynced::Torn]));
        }
        if matches!(kind, FaultKind::LostWrites | FaultKind::TornWrites) {
            fault.after_syncs = Some(dice.below(12));
        }
    }
    if takes(scenario::Setting::Latency) {
        fault.latency = Some(Duration::from_millis(dice.pick(&[20, 60, 200])));
    }
    if takes(scenario::Setting::Percent) {
        fault.percent = Some(dice.pick(&[1, 5, 20]));
    }
    if takes(scenario::Setting::Days) {
        fault.days = Some(dice.pick(&[1, 8, 31, 91]));
    }
    if takes(scenario::Setting::Direction) && kind == FaultKind::OneWay {
        fault.direction = Some(match dice.percent(50) {
            true => scenario::Direction::In,
            false => scenario::Direction::Out,
        });
    }
    fault
}

/// What ends a fault.
enum Undo {
    Lift {
        /// The number that the nodes know it by, if they make a part of it.
        held: Option<u64>,
        /// Whether packets are dropped for it.
        drops: bool,
        /// Nodes to be started again, which may have stopped for it.
        restart: Vec<NodeName>,
    },
    Restart(Vec<NodeName>),
    /// Give these power again.
    Power(Dark),
    Resume(NodeName),
    /// Start it again; if it does not come up, another takes its place.
    Replace(NodeName),
}

/// Nodes whose power is cut.
struct Dark {
    nodes: Vec<NodeName>,
    loss: Loss,
    /// How many changes they lost; `None` if their power goes at a sync that may not have come.
    undone: Option<u64>,
}

/// Puts faults in force and lifts them.
pub(super) struct Inflict {
    data: PathBuf,
    /// The Region that is hit by faults which name none.
    first: Region,
    recorder: Recorder,
    seen: Seen,
    /// What cuts nodes off from each other, if they do not do that themselves.
    packets: Option<Packets>,
    windows: Vec<FaultWindow>,
    /// Those in force: by number, with their place among the windows.
    in_force: BTreeMap<usize, (usize, Undo)>,
    /// Of how writes are torn.
    dice: Dice,
    /// Nodes that did not start after a power loss, and what they said.
    broken: Vec<String>,
}

impl Inflict {
    pub(super) fn new(
        data: PathBuf,
        first: Region,
        recorder: Recorder,
        seen: Seen,
        packets: Option<Packets>,
        seed: u64,
    ) -> Self {
        Self {
            data,
            first,
            recorder,
            seen,
            packets,
            windows: Vec::new(),
            in_force: BTreeMap::new(),
            dice: Dice::new(seed, "torn writes"),
            broken: Vec::new(),
        }
    }

    /// What a power loss left that no start gets over.
    pub(super) fn broken(&self) -> Option<String> {
        (!self.broken.is_empty()).then(|| self.broken.join("; "))
    }

    /// What went wrong, and when.
    pub(super) fn take(&mut self) -> Vec<FaultWindow> {
        std::mem::take(&mut self.windows)
    }

    /// Has a fault begin or end.
    pub(super) async fn turn(&mut self, turn: Turn, agenda: &Agenda) -> Result<(), Failure> {
        match turn {
            Turn::Begin(number) => self.begin(number, &agenda.plan[number]).await,
            Turn::End(number) => self.end(number).await,
        }
    }

    /// Ends all that are in force.
    pub(super) async fn lift_all(&mut self) -> Result<(), Failure> {
        while let Some(number) = self.in_force.keys().next().copied() {
            self.end(number).await?;
        }
        Ok(())
    }

    async fn begin(&mut self, number: usize, fault: &FaultPlan) -> Result<(), Failure> {
        let steer = Steer::find(&self.data)?;
        let target = Target::of(&steer, fault, &self.first, &self.seen)?;
        let mut window = FaultWindow {
            kind: fault.kind.name().into(),
            what: target.in_words(fault),
            region: Some(target.region.to_string()),
            nodes: target.node.iter().map(|node| node.id).collect(),
            from_us: self.recorder.now_us(),
            until_us: None,
            effects: None,
        };
        match self.inflict(number, &steer, &target, fault).await {
            Ok(Some(undo)) => {
                if matches!(undo, Undo::Restart(_) | Undo::Resume(_) | Undo::Replace(_)) {
                    window.effects = Some(1);
                }
                if let Undo::Power(dark) = &undo {
                    window.effects = dark.undone;
                }
                self.in_force.insert(number, (self.windows.len(), undo));
            }
            Ok(None) => {
                window.effects = Some(1);
                window.until_us = Some(self.recorder.now_us());
            }
            // Another fault may have taken the node away.
            Err(failure) => {
                run::remark(&format!("{} does not take effect: {failure}", window.what));
                (window.effects, window.until_us) = (Some(0), Some(window.from_us));
            }
        }
        self.windows.push(window);
        Ok(())
    }

    /// `None`: it is done at once, and there is nothing to lift.
    async fn inflict(
        &mut self,
        number: usize,
        steer: &Steer,
        target: &Target,
        fault: &FaultPlan,
    ) -> Result<Option<Undo>, Failure> {
        if let Some(dark) = self.cut_power(steer, target, fault).await? {
            return Ok(Some(Undo::Power(dark)));
        }
        let node = || target.node.clone().ok_or("the Region has no leader now");
        let ms = |duration: Option<Duration>| {
            let ms = duration.unwrap_or_default().as_millis();
            u64::try_from(ms).unwrap_or(u64::MAX)
        };
        let direction = match fault.direction {
            None | Some(scenario::Direction::Both) => Direction::Both,
            Some(scenario::Direction::In) => Direction::In,
            Some(scenario::Direction::Out) => Direction::Out,
        };
        let other_regions = || match &fault.to {
            None => Ok(With::OtherRegions),
            Some(name) => name
                .parse()
                .map(|region| With::These(BTreeSet::from([Party { region, node: None }]))),
        };
        let share = fault.percent.unwrap_or(0) as f64 / 100.0;
        let cut = |with| Fault::Cut { with, direction };
        let everywhere = |fault: Fault| -> Vec<_> {
            let nodes = steer.of(&target.region).into_iter();
            nodes.map(|node| (node, fault.clone())).collect()
        };
        let faults = match fault.kind {
            FaultKind::Crash => {
                let node = node()?;
                self.ask(|node| Request::Kill { node, for_ms: None }, &node)
                    .await?;
                return Ok(Some(Undo::Restart(vec![node])));
            }
            FaultKind::Blackout => {
                let nodes = steer.of(&target.region);
                for node in &nodes {
                    self.ask(|node| Request::Kill { node, for_ms: None }, node)
                        .await?;
                }
                return Ok(Some(Undo::Restart(nodes)));
            }
            FaultKind::Pause => {
                let node = node()?;
                self.ask(|node| Request::Pause { node, for_ms: None }, &node)
                    .await?;
                return Ok(Some(Undo::Resume(node)));
            }
            FaultKind::BitFlip => {
                let node = node()?;
                self.ask(|node| Request::Kill { node, for_ms: None }, &node)
                    .await?;
                let flip = |node| Request::Damage {
                    node,
                    harm: Harm::Flip,
                    file: "journal".to_owned(),
                };
                self.ask(flip, &node).await?;
                return Ok(Some(Undo::Replace(node)));
            }
            FaultKind::MemberAdded => {
                let node = target.next_node(steer);
                self.ask(|node| Request::Add { node }, &node).await?;
                return Ok(None);
            }
            FaultKind::MemberRemoved => {
                self.ask(|node| Request::Remove { node }, &node()?).await?;
                return Ok(None);
            }
            FaultKind::TimePasses => {
                let by_ms = fault.days.unwrap_or(0) * UnixMillis::DAY_MS;
                steer.nodes[&target.leader(&self.seen)?]
                    .advance_clock(by_ms)
                    .await?;
                return Ok(None);
            }
            FaultKind::SyncFails => {
                let after = fault.after_syncs.unwrap_or(0);
                vec![(node()?, Fault::SyncFails { after })]
            }
            FaultKind::DiskFull => vec![(node()?, Fault::DiskFull { after: 0 })],
            FaultKind::SlowDisk => {
                let by_ms = ms(fault.latency);
                vec![(node()?, Fault::SlowDisk { by_ms })]
            }
            FaultKind::Isolate | FaultKind::OneWay | FaultKind::Stall => {
                let node = node()?;
                let mut faults = vec![(node.clone(), cut(With::Nodes))];
                if fault.clients == Some(true) || fault.kind == FaultKind::Stall {
                    faults.push((node, cut(With::Clients)));
                }
                faults
            }
            FaultKind::Halves => cuts(steer.of(&target.region), Shape::Halves)?,
            FaultKind::Ring => cuts(steer.of(&target.region), Shape::Ring)?,
            FaultKind::Minority => cuts(target.first(steer, &node()?), Shape::Minority)?,
            FaultKind::Bridge => cuts(target.in_the_middle(steer, &node()?), Shape::Bridge)?,
            FaultKind::CutPair => {
                let node = node()?;
                let next = target.after(steer, &node);
                let party = Party {
                    region: next.region,
                    node: Some(next.id),
                };
                vec![(node, cut(With::These(BTreeSet::from([party]))))]
            }
            FaultKind::CutClient => vec![(node()?, cut(With::Clients))],
            FaultKind::Slow => {
                let by_ms = ms(fault.latency);
                let slow = Fault::Delay {
                    with: With::Nodes,
                    direction,
                    by_ms,
                    jitter_ms: 0,
                };
                vec![(node()?, slow)]
            }
            FaultKind::Lose => {
                let lose = |with| Fault::Lose {
                    with,
                    direction,
                    share,
                };
                match fault.between_regions {
                    Some(true) => everywhere(lose(With::OtherRegions)),
                    _ => vec![(node()?, lose(With::Nodes))],
                }
            }
            FaultKind::Sever => everywhere(cut(other_regions()?)),
            FaultKind::Delay => everywhere(cut(With::OtherRegions)),
            FaultKind::CutCourier => vec![(node()?, cut(other_regions()?))],
            FaultKind::Distant => everywhere(Fault::Delay {
                with: With::OtherRegions,
                direction,
                by_ms: ms(fault.latency),
                jitter_ms: 0,
            }),
            other => return Err(format!("processes know no fault {other}").into()),
        };
        let stops = matches!(fault.kind, FaultKind::SyncFails | FaultKind::DiskFull);
        let (drops, held) = self.put(number, faults, steer).await?;
        let restart = match stops {
            true => vec![node()?],
            false => Vec::new(),
        };
        Ok(Some(Undo::Lift {
            held,
            drops,
            restart,
        }))
    }

    /// Puts faults in force, all or none: whether packets are dropped for them, and the number that
    /// the nodes know the rest by.
    async fn put(
        &self,
        number: usize,
        faults: Vec<(NodeName, Fault)>,
        steer: &Steer,
    ) -> Result<(bool, Option<u64>), Failure> {
        let (dropping, holding): (Vec<_>, Vec<_>) = faults
            .into_iter()
            .partition(|(_, fault)| self.packets.is_some() && packets::carry(fault));
        let held = match holding.is_empty() {
            true => None,
            false => {
                let held = steer.number_for(&holding).await?;
                steer.put(held, &holding, None).await?;
                Some(held)
            }
        };
        let Some(packets) = self.packets.as_ref().filter(|_| !dropping.is_empty()) else {
            return Ok((false, held));
        };
        let nodes = Addresses::find(&self.data)?;
        if let Err(failure) = packets.begin(number, &dropping, &nodes).await {
            if held.is_some() {
                steer.lift(held).await;
            }
            return Err(failure);
        }
        Ok((true, held))
    }

    /// Takes power away, if the fault is one that loses what was not synced.
    async fn cut_power(
        &mut self,
        steer: &Steer,
        target: &Target,
        fault: &FaultPlan,
    ) -> Result<Option<Dark>, Failure> {
        let torn = match (fault.kind, fault.unsynced) {
            (FaultKind::LostWrites, _) | (_, Some(Unsynced::Lost)) => false,
            (FaultKind::TornWrites, _) | (_, Some(Unsynced::Torn)) => true,
            _ => return Ok(None),
        };
        let nodes = match fault.kind {
            FaultKind::Blackout => steer.of(&target.region),
            _ => vec![target.node.clone().ok_or("the Region has no leader now")?],
        };
        let at_sync = matches!(fault.kind, FaultKind::LostWrites | FaultKind::TornWrites);
        let loss = Loss {
            torn_by: torn.then(|| self.dice.between(1, u64::from(u32::MAX)) as u32),
            after_syncs: at_sync.then(|| fault.after_syncs.unwrap_or(0)),
        };
        let undone = self.dark(&nodes, loss).await?;
        Ok(Some(Dark {
            nodes,
            loss,
            undone,
        }))
    }

    /// Has nodes lose their power. How many changes they lost, once they have ended.
    async fn dark(&self, nodes: &[NodeName], loss: Loss) -> Result<Option<u64>, Failure> {
        let nodes = nodes.iter().map(NodeName::to_string).collect();
        match cluster::ask(&self.data, &Request::CutPower { nodes, loss }).await? {
            Reply::Dark { undone } => Ok(Some(undone)),
            Reply::Failed(why) => Err(why.into()),
            _ => Ok(None),
        }
    }

    async fn end(&mut self, number: usize) -> Result<(), Failure> {
        let Some((place, undo)) = self.in_force.remove(&number) else {
            return Ok(());
        };
        let again = |node| Request::Restart { node };
        match undo {
            Undo::Lift {
                held,
                drops,
                restart,
            } => {
                let mut sum = 0;
                if let Some(packets) = self.packets.as_ref().filter(|_| drops) {
                    sum += packets.lift(number).await?;
                }
                if held.is_some() {
                    let told = Steer::find(&self.data)?.lift(held).await;
                    let effects = told.values().flatten().flatten();
                    sum += effects.map(|fault| count(&fault.effects)).sum::<u64>();
                }
                let stopped = !restart.is_empty();
                // A node that stopped for a fault cannot tell how often it took effect.
                self.windows[place].effects = Some(if stopped { 1.max(sum) } else { sum });
                for node in self.left_of(restart)? {
                    self.ask(again, &node).await?;
                }
            }
            Undo::Restart(nodes) => {
                for node in self.left_of(nodes)? {
                    self.ask(again, &node).await?;
                }
            }
            Undo::Power(mut dark) => {
                dark.nodes = self.left_of(dark.nodes)?;
                if dark.undone.is_none() {
                    // A sync that never came takes no power: it goes now.
                    let now = Loss {
                        after_syncs: None,
                        ..dark.loss
                    };
                    self.windows[place].effects = self.dark(&dark.nodes, now).await?;
                }
                for node in dark.nodes {
                    if let Err(refused) = self.ask(again, &node).await {
                        run::remark(&format!("{node} has power again: {refused}"));
                        self.broken.push(refused.to_string());
                    }
                }
            }
            Undo::Resume(node) => {
                for node in self.left_of(vec![node])? {
                    self.ask(|node| Request::Resume { node }, &node).await?;
                }
            }
            Undo::Replace(node) => self.replace(&node).await?,
        }
        self.windows[place].until_us = Some(self.recorder.now_us());
        Ok(())
    }

    /// Those of these nodes that no other fault has taken out of their group meanwhile.
    fn left_of(&self, mut nodes: Vec<NodeName>) -> Result<Vec<NodeName>, Failure> {
        let steer = Steer::find(&self.data)?;
        nodes.retain(|node| steer.nodes.contains_key(node));
        Ok(nodes)
    }

    /// Starts a node again whose disk was damaged. One that refuses is replaced.
    async fn replace(&self, node: &NodeName) -> Result<(), Failure> {
        let again = self.ask(|node| Request::Restart { node }, node).await;
        let Err(refused) = again else { return Ok(()) };
        run::remark(&format!("{node} is replaced: {refused}"));
        let steer = Steer::find(&self.data)?;
        self.ask(|node| Request::Remove { node }, node).await?;
        let next = next_node(&steer, &node.region);
        self.ask(|node| Request::Add { node }, &next).await
    }

    async fn ask(
        &self,
        request: impl FnOnce(String) -> Request,
        node: &NodeName,
    ) -> Result<(), Failure> {
        match cluster::ask(&self.data, &request(node.to_string())).await? {
            Reply::Failed(why) => Err(why.into()),
            _ => Ok(()),
        }
    }
}

fn count(effects: &Effects) -> u64 {
    effects.connects_held
        + effects.bytes_held
        + effects.bytes_delayed
        + effects.segments_lost
        + effects.disk_operations
}

/// A Region's node with the id after the greatest.
fn next_node(steer: &Steer, region: &Region) -> NodeName {
    let ids = steer.of(region).into_iter().map(|node| node.id);
    NodeName {
        region: region.clone(),
        id: ids.max().unwrap_or(0) + 1,
    }
}

/// What a fault hits.
struct Target {
    region: Region,
    /// `None` if it hits no single node, or nobody leads.
    node: Option<NodeName>,
}

impl Target {
    fn of(steer: &Steer, fault: &FaultPlan, first: &Region, seen: &Seen) -> Result<Self, Failure> {
        let region = match &fault.region {
            Some(name) => name.parse()?,
            None => first.clone(),
        };
        let takes_node = fault.kind.settings().contains(&scenario::Setting::Node);
        let name = |id: NodeId| NodeName {
            region: region.clone(),
            id,
        };
        let leader = seen.leader(region.as_str()).map(name);
        let node = match fault.node {
            _ if !takes_node || fault.between_regions == Some(true) => None,
            Some(NodeChoice::Number(id)) => Some(name(id)),
            None | Some(NodeChoice::Leader) => leader,
            Some(NodeChoice::Follower) => {
                let target = Self {
                    region: region.clone(),
                    node: None,
                };
                leader.map(|leader| target.after(steer, &leader))
            }
        };
        Ok(Self { region, node })
    }

    fn in_words(&self, fault: &FaultPlan) -> String {
        let hit = match &self.node {
            Some(node) => node.to_string(),
            None => self.region.to_string(),
        };
        let lasts = fault
            .lasts
            .map(|lasts| format!(" for {}", humantime::format_duration(lasts)));
        format!("{} of {hit}{}", fault.kind, lasts.unwrap_or_default())
    }

    fn leader(&self, seen: &Seen) -> Result<NodeName, &'static str> {
        let id = seen.leader(self.region.as_str());
        let id = id.ok_or("the Region has no leader now")?;
        Ok(NodeName {
            region: self.region.clone(),
            id,
        })
    }

    fn next_node(&self, steer: &Steer) -> NodeName {
        next_node(steer, &self.region)
    }

    /// The Region's nodes with this one first, and with it in the middle.
    fn first(&self, steer: &Steer, node: &NodeName) -> Vec<NodeName> {
        let mut nodes = steer.of(&self.region);
        nodes.retain(|other| other != node);
        nodes.insert(0, node.clone());
        nodes
    }

    fn in_the_middle(&self, steer: &Steer, node: &NodeName) -> Vec<NodeName> {
        let mut nodes = steer.of(&self.region);
        nodes.retain(|other| other != node);
        nodes.insert(nodes.len().div_ceil(2), node.clone());
        nodes
    }

    fn after(&self, steer: &Steer, node: &NodeName) -> NodeName {
        let nodes = steer.of(&self.region);
        let place = nodes.iter().position(|other| other == node).unwrap_or(0);
        nodes[(place + 1) % nodes.len()].clone()
    }
}
