//! Scenarios: files that say what a run is to be. `keyrum lab sim` simulates them, `keyrum lab run` plays
//! them with processes; the words are the same.
//!
//! `cluster-config/experiments/all-faults.toml` explains every setting.

mod clients;
mod kinds;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyrum_types::{NodeId, Region};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use toml::Spanned;

pub(crate) use clients::{FAMILIES, SESSIONS};
pub use clients::{Readers, Reading, Workload};
pub use kinds::{FaultKind, Setting};

/// Most Regions and nodes of a Region.
pub const REGIONS_MAX: usize = 3;
/// Most nodes of a Region when it is founded.
pub const NODES_MAX: NodeId = 5;

/// The Regions of scenarios that only say how many.
const REGIONS: [&str; REGIONS_MAX] = crate::sim::REGION_NAMES;

/// Shortest and longest run, in minutes.
const MINUTES: std::ops::RangeInclusive<f64> = 0.05..=1_440.0;

/// Most faults a minute that come by chance.
const PER_MINUTE_MAX: f64 = 600.0;

/// A file that says what a run is to be.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// In a line.
    pub title: String,
    /// What it shows, for a reader.
    #[serde(default)]
    pub about: String,
    /// How long faults may come, in minutes: simulated ones, or real ones.
    #[serde(default = "one")]
    minutes: Spanned<f64>,
    /// Regions and nodes.
    #[serde(default)]
    pub topology: Topology,
    /// Faults that come by chance; none if absent.
    #[serde(default)]
    pub random: Option<Random>,
    /// Faults that come at their times.
    #[serde(default, rename = "fault")]
    faults: Vec<Spanned<FaultPlan>>,
    /// What clients do; as without a scenario if there is none.
    #[serde(default, rename = "workload")]
    workloads: Vec<Spanned<Workload>>,
    /// What the checkers are to say.
    #[serde(default, rename = "expect")]
    pub expectations: Vec<Expectation>,
}

/// Regions and nodes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    #[serde(default = "all_regions")]
    regions: Spanned<Regions>,
    #[serde(default = "three")]
    nodes: Spanned<NodeId>,
    #[serde(default)]
    snapshot_every: Option<Spanned<u64>>,
    /// How long `eventual` reads may lag behind.
    #[serde(default, deserialize_with = "time")]
    pub propagation_delay: Duration,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    untagged,
    expecting = "regions are a number from 1 to 3, or a list of names"
)]
enum Regions {
    Count(usize),
    Names(Vec<String>),
}

/// Faults that come by chance.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Random {
    kinds: Spanned<RandomKinds>,
    /// How many a minute in each Region, more or less.
    per_minute: Spanned<f64>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "kinds are \"all\" or a list of kinds of faults")]
enum RandomKinds {
    All(AllKinds),
    Some(Vec<FaultKind>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AllKinds {
    All,
}

/// A fault with its time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultPlan {
    /// What goes wrong.
    pub kind: FaultKind,
    /// When it begins, after the clients began.
    #[serde(deserialize_with = "time")]
    pub at: Duration,
    /// How long it lasts; not for what is done at once.
    #[serde(default, rename = "for", deserialize_with = "some_time")]
    pub lasts: Option<Duration>,
    /// Whether it waits from its time on until something is under way.
    #[serde(default)]
    pub when: Option<Await>,
    /// The Region that it hits; the first if absent.
    #[serde(default)]
    pub region: Option<String>,
    /// The node that it hits; the leader if absent.
    #[serde(default)]
    pub node: Option<NodeChoice>,
    /// The other Region; all others if absent.
    #[serde(default)]
    pub to: Option<String>,
    /// Which direction of links is cut; both if absent.
    #[serde(default)]
    pub direction: Option<Direction>,
    /// Whether half of the clients are cut off too.
    #[serde(default)]
    pub clients: Option<bool>,
    /// Which host of clients, from 1.
    #[serde(default)]
    pub client: Option<usize>,
    /// What becomes of writes that were not synced; kept if absent.
    #[serde(default)]
    pub unsynced: Option<Unsynced>,
    /// After how many syncs more.
    #[serde(default)]
    pub after_syncs: Option<u64>,
    /// How long messages or the disk take.
    #[serde(default, deserialize_with = "some_time")]
    pub latency: Option<Duration>,
    /// How far off a clock is; behind if it begins with a minus sign.
    #[serde(default)]
    pub by: Option<Offset>,
    /// Of a hundred, how many.
    #[serde(default)]
    pub percent: Option<u64>,
    /// How far a Region's clock is moved ahead.
    #[serde(default)]
    pub days: Option<u64>,
    /// Whether the other end of each fault's links, where it has the choice, is other Regions' nodes.
    #[serde(default)]
    pub between_regions: Option<bool>,
}

/// What a fault waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Await {
    /// A move of a family's primary is under way.
    PrimaryMoves,
    /// A rotation of a family waits for a Region.
    FamilyRotates,
}

/// A node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeChoice {
    /// Whoever leads then.
    Leader,
    /// The next one after the leader.
    Follower,
    /// This one.
    Number(NodeId),
}

/// Which direction of a link is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Both.
    Both,
    /// What is sent to the node or Region that is hit.
    In,
    /// What it sends.
    Out,
}

/// What becomes of writes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unsynced {
    /// They survive: only the process ends.
    Kept,
    /// They are gone.
    Lost,
    /// Each meets its own fate: gone, there, torn or damaged.
    Torn,
}

/// How far off a clock is, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset(pub i64);

/// What a checker is to say.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// The checker's name, such as `linearizable`.
    pub checker: String,
    /// What it is to say.
    pub verdict: ExpectedVerdict,
}

/// What a checker is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExpectedVerdict {
    /// Its property holds.
    True,
    /// It does not.
    False,
    /// That cannot be told.
    Unknown,
}

/// What plays a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// `keyrum lab sim`.
    Simulation,
    /// `keyrum lab run`.
    Processes {
        /// Whether the processes can lose what they have not synced: with `--power-loss`.
        power_loss: bool,
    },
}

impl Stage {
    /// Why unsynced writes cannot be lost there, if they cannot.
    fn keeps_unsynced(self) -> Option<&'static str> {
        let here = cfg!(all(target_os = "linux", target_env = "gnu"));
        match self {
            Self::Simulation | Self::Processes { power_loss: true } => None,
            Self::Processes { power_loss: false } if here => Some(
                "what a killed process had written the kernel still writes; to lose it, `cargo build --package keyrum-powerloss` makes a library \
                 (target/debug/libkeyrum_powerloss.so) that undoes it, and `keyrum lab run --power-loss LIBRARY` starts the nodes with it; or use `keyrum lab sim`",
            ),
            Self::Processes { power_loss: false } => Some(
                "what a killed process had written the kernel still writes, and only on Linux with glibc there is a library that undoes it; use `keyrum lab sim`",
            ),
        }
    }
}

/// Why there is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("cannot read the scenario {}: {cause}; name an existing one, such as cluster-config/experiments/all-faults.toml", file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file says something it must not.
    #[error("{}{}: {what}; correct the file (cluster-config/experiments/all-faults.toml explains every setting)", file.display(), line.map_or_else(String::new, |line| format!(", line {line}")))]
    Invalid {
        /// Which file.
        file: PathBuf,
        /// Counted from 1; `None` where something is missing.
        line: Option<usize>,
        /// What is wrong there.
        what: String,
    },
}

/// What is wrong, and at which byte of the text.
type Wrong = (usize, String);

impl Scenario {
    /// Reads a file and checks that it can be played on this stage.
    pub fn load(file: &Path, stage: Stage) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(file).map_err(|cause| ScenarioError::Unreadable {
            file: file.to_owned(),
            cause,
        })?;
        Self::parse(file, &text, stage)
    }

    /// The same with the file's text.
    pub fn parse(file: &Path, text: &str, stage: Stage) -> Result<Self, ScenarioError> {
        let invalid = |at: Option<usize>, what: String| ScenarioError::Invalid {
            file: file.to_owned(),
            line: at.map(|at| text[..at.min(text.len())].matches('\n').count() + 1),
            what,
        };
        let scenario: Self = toml::from_str(text).map_err(|error| {
            let at = error.span().map(|span| span.start);
            invalid(at, error.message().replace('\n', ", "))
        })?;
        scenario
            .check(stage)
            .map_err(|(at, what)| invalid(Some(at), what))?;
        Ok(scenario)
    }

    /// How long faults may come, in minutes.
    pub fn minutes(&self) -> f64 {
        *self.minutes.get_ref()
    }

    /// The faults that come at their times.
    pub fn faults(&self) -> impl Iterator<Item = &FaultPlan> {
        self.faults.iter().map(Spanned::get_ref)
    }

    /// What clients do.
    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.iter().map(Spanned::get_ref)
    }

    fn check(&self, stage: Stage) -> Result<(), Wrong> {
        if !MINUTES.contains(self.minutes.get_ref()) {
            let (least, most) = (MINUTES.start(), MINUTES.end());
            let what = format!("minutes are from {least} to {most}");
            return Err((self.minutes.span().start, what));
        }
        self.topology.check(stage)?;
        if let Some(random) = &self.random {
            random.check(stage, &self.topology)?;
        }
        for fault in &self.faults {
            let at = fault.span().start;
            let checked = self.check_fault(fault.get_ref(), stage);
            checked.map_err(|what| (at, format!("fault {}: {what}", fault.get_ref().kind)))?;
        }
        for workload in &self.workloads {
            let at = workload.span().start;
            let Workload { kind, region, .. } = workload.get_ref();
            let checked = self.check_region(region.as_deref());
            checked.map_err(|what| (at, format!("workload {kind}: {what}")))?;
            let checked = workload.get_ref().check(stage, &self.topology);
            checked.map_err(|what| (at, format!("workload {kind}: {what}")))?;
        }
        Ok(())
    }

    fn check_fault(&self, fault: &FaultPlan, stage: Stage) -> Result<(), String> {
        fault.kind.check(stage, &self.topology)?;
        fault.check_settings()?;
        let whole = Duration::from_secs_f64(self.minutes() * 60.0);
        let ends = fault.at + fault.lasts.unwrap_or_default();
        if ends >= whole {
            return Err(format!(
                "it ends {} s after the clients began, and the run lasts {} s; faults end before",
                ends.as_secs_f64(),
                whole.as_secs_f64()
            ));
        }
        let between = fault.between_regions == Some(true);
        if between && self.topology.regions().len() < 2 {
            return Err("there is one Region, and so nothing between Regions".to_owned());
        }
        let about_links = fault.kind.settings().contains(&Setting::BetweenRegions);
        if about_links && !between && self.topology.nodes() < 2 {
            return Err("a node alone in its Region has links to other Regions only; say between_regions = true".to_owned());
        }
        self.check_region(fault.region.as_deref())?;
        self.check_region(fault.to.as_deref())?;
        let regions = self.topology.regions();
        let hit = fault.region.as_deref().unwrap_or(&regions[0]);
        if fault.to.as_deref() == Some(hit) {
            return Err(format!("{hit} cannot be cut off from itself"));
        }
        if fault.kind == FaultKind::CutCourier && fault.to.is_none() {
            return Err("it needs `to`, the other Region".to_owned());
        }
        if fault.when.is_some() && stage != Stage::Simulation {
            return Err(
                "only a simulation sees what is under way in all Regions at an instant, so `when` is for `keyrum lab sim`"
                    .to_owned(),
            );
        }
        let loses = !matches!(fault.unsynced, None | Some(Unsynced::Kept));
        if let Some(why) = stage.keeps_unsynced().filter(|_| loses) {
            return Err(format!("`unsynced` other than \"kept\": {why}"));
        }
        if let Some(NodeChoice::Number(0)) = fault.node {
            return Err("nodes are numbered from 1".to_owned());
        }
        Ok(())
    }

    fn check_region(&self, name: Option<&str>) -> Result<(), String> {
        let regions = self.topology.regions();
        match name.filter(|name| !regions.iter().any(|region| region == name)) {
            None => Ok(()),
            Some(name) => Err(format!(
                "there is no Region {name}; the topology has {}",
                regions.join(", ")
            )),
        }
    }
}

impl FaultPlan {
    /// A fault with nothing but its time.
    pub fn new(kind: FaultKind, at: Duration) -> Self {
        Self {
            kind,
            at,
            lasts: None,
            when: None,
            region: None,
            node: None,
            to: None,
            direction: None,
            clients: None,
            client: None,
            unsynced: None,
            after_syncs: None,
            latency: None,
            by: None,
            percent: None,
            days: None,
            between_regions: None,
        }
    }
}

impl Topology {
    /// The Regions' names.
    pub fn regions(&self) -> Vec<String> {
        match self.regions.get_ref() {
            Regions::Count(count) => {
                let names = REGIONS.iter().take(*count);
                names.map(|name| (*name).to_owned()).collect()
            }
            Regions::Names(names) => names.clone(),
        }
    }

    /// How many nodes found each Region.
    pub fn nodes(&self) -> NodeId {
        *self.nodes.get_ref()
    }

    /// Log entries between two snapshots; as without a scenario if `None`.
    pub fn snapshot_every(&self) -> Option<u64> {
        self.snapshot_every.as_ref().map(|every| *every.get_ref())
    }

    fn check(&self, stage: Stage) -> Result<(), Wrong> {
        let at = self.regions.span().start;
        let names = self.regions();
        let count = match self.regions.get_ref() {
            Regions::Count(count) => *count,
            Regions::Names(names) => names.len(),
        };
        if !(1..=REGIONS_MAX).contains(&count) {
            return Err((at, format!("there are 1 to {REGIONS_MAX} Regions")));
        }
        for (nth, name) in names.iter().enumerate() {
            if name.parse::<Region>().is_err() {
                return Err((at, format!("{name:?} is no name of a Region")));
            }
            if names[..nth].contains(name) {
                return Err((at, format!("Region {name} is named twice")));
            }
        }
        if stage == Stage::Simulation && names[..] != REGIONS[..count] {
            let what = format!(
                "a simulation has these Regions, in this order: {}; name the first ones, or say how many",
                REGIONS.join(", ")
            );
            return Err((at, what));
        }
        if !(1..=NODES_MAX).contains(&self.nodes()) {
            let what = format!("a Region has 1 to {NODES_MAX} nodes");
            return Err((self.nodes.span().start, what));
        }
        match &self.snapshot_every {
            Some(every) if *every.get_ref() == 0 => {
                Err((every.span().start, "snapshot_every is 1 or more".to_owned()))
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            regions: all_regions(),
            nodes: three(),
            snapshot_every: None,
            propagation_delay: Duration::ZERO,
        }
    }
}

impl Random {
    /// Which kinds come where this topology is played on this stage.
    pub fn kinds(&self, stage: Stage, topology: &Topology) -> Vec<FaultKind> {
        match self.kinds.get_ref() {
            RandomKinds::All(AllKinds::All) => {
                let fits = |kind: &FaultKind| kind.check(stage, topology).is_ok();
                FaultKind::ALL.into_iter().filter(fits).collect()
            }
            RandomKinds::Some(kinds) => kinds.clone(),
        }
    }

    /// How many come a minute in each Region, more or less.
    pub fn per_minute(&self) -> f64 {
        *self.per_minute.get_ref()
    }

    fn check(&self, stage: Stage, topology: &Topology) -> Result<(), Wrong> {
        let at = self.kinds.span().start;
        if let RandomKinds::Some(kinds) = self.kinds.get_ref() {
            if kinds.is_empty() {
                let what = "kinds name at least one; without [random] no fault comes by chance";
                return Err((at, what.to_owned()));
            }
            for kind in kinds {
                let checked = kind.check(stage, topology);
                checked.map_err(|what| (at, format!("fault {kind}: {what}")))?;
            }
        }
        if !(self.per_minute() > 0.0 && self.per_minute() <= PER_MINUTE_MAX) {
            let what = format!("per_minute is more than 0 and at most {PER_MINUTE_MAX}");
            return Err((self.per_minute.span().start, what));
        }
        Ok(())
    }
}

fn one() -> Spanned<f64> {
    Spanned::new(0..0, 1.0)
}

fn three() -> Spanned<NodeId> {
    Spanned::new(0..0, 3)
}

fn all_regions() -> Spanned<Regions> {
    Spanned::new(0..0, Regions::Count(REGIONS_MAX))
}

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    let wrong = |_| de::Error::custom(format!("{text:?} is no time; write 500ms, 10s or 2m"));
    humantime::parse_duration(&text).map_err(wrong)
}

fn some_time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    time(from).map(Some)
}

impl<'de> Deserialize<'de> for Offset {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let ahead = text.trim_start_matches('-');
        let by = humantime::parse_duration(ahead).ok();
        let ms = by.and_then(|by| i64::try_from(by.as_millis()).ok());
        match ms.filter(|ms| *ms > 0) {
            Some(ms) if text.starts_with('-') => Ok(Self(-ms)),
            Some(ms) => Ok(Self(ms)),
            None => Err(de::Error::custom(format!(
                "{text:?} is no offset of a clock; write 500ms or 1h, or -5s for a clock that is behind"
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for NodeChoice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Choice;
        impl Visitor<'_> for Choice {
            type Value = NodeChoice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"leader\", \"follower\" or the number of a node")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<NodeChoice, E> {
                match text {
                    "leader" => Ok(NodeChoice::Leader),
                    "follower" => Ok(NodeChoice::Follower),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<NodeChoice, E> {
                let id = NodeId::try_from(number);
                let wrong = |_| E::invalid_value(de::Unexpected::Signed(number), &self);
                id.map(NodeChoice::Number).map_err(wrong)
            }
        }
        from.deserialize_any(Choice)
    }
}
