//! Nodes that are killed and frozen by a plan, and when that was.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use keyrum_tests::{Cluster, NodeLine, wait};
use tokio::time::{Instant, sleep};

use super::dice::Dice;
use crate::relatives::REGIONS;

/// How long after a fault a Region may still be without a quorum: a node that comes back may need
/// an election, and the machine is busy.
const AFTERMATH: Duration = Duration::from_secs(20);

/// What happens to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Killed,
    Frozen,
}

/// Which node of a Region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Leader,
    Follower,
}

/// At most one node of each Region, so that a majority lives everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    harms: Vec<(&'static str, Victim, Harm)>,
    lasting: Duration,
    /// The peace after it.
    pause: Duration,
}

impl Fault {
    pub(crate) fn drawn(dice: &mut Dice) -> Self {
        let first = dice.below(REGIONS.len());
        let second = (first + 1 + dice.below(REGIONS.len() - 1)) % REGIONS.len();
        let [first, second] = [REGIONS[first], REGIONS[second]];
        let harm = if dice.below(2) == 0 {
            Harm::Killed
        } else {
            Harm::Frozen
        };
        let harms = match dice.below(5) {
            0 | 1 => vec![(first, Victim::Leader, harm)],
            2 | 3 => vec![
                (first, Victim::Leader, Harm::Frozen),
                (second, Victim::Leader, harm),
            ],
            _ => vec![
                (first, Victim::Leader, harm),
                (second, Victim::Follower, Harm::Frozen),
            ],
        };
        let ms = |from: u64, dice: &mut Dice, spread| {
            Duration::from_millis(from + dice.below(spread) as u64)
        };
        Self {
            harms,
            // Sometimes too short for the others to notice, mostly long enough for one to take over.
            lasting: ms(200, dice, 3_500),
            pause: ms(100, dice, 1_500),
        }
    }

    /// Brings it about, undoes it, and waits until every Region is whole again.
    pub(crate) async fn inflict(&self, cluster: &Cluster, troubles: &Troubles) {
        let mut harmed = Vec::new();
        for (region, victim, harm) in &self.harms {
            harmed.push((victim.find(cluster, region).await, *harm));
        }
        for (region, _, _) in &self.harms {
            troubles.begin(region);
        }
        for (node, harm) in &harmed {
            let verb = match harm {
                Harm::Killed => "kill",
                Harm::Frozen => "pause",
            };
            cluster.command(&[verb, node]).await;
        }
        sleep(self.lasting).await;
        for (node, harm) in &harmed {
            let verb = match harm {
                Harm::Killed => "restart",
                Harm::Frozen => "resume",
            };
            cluster.command(&[verb, node]).await;
        }
        wait::until_true("whole Regions", wait::LONG, async || {
            whole(&cluster.status().await)
        })
        .await;
        for (region, _, _) in &self.harms {
            troubles.end(region);
        }
        sleep(self.pause).await;
    }
}

impl Victim {
    async fn find(self, cluster: &Cluster, region: &str) -> String {
        wait::until("victim", wait::LONG, async || {
            let lines = cluster.status().await;
            let leader = leader(&lines, region)?;
            let ours = lines.iter().filter(|line| line.node.starts_with(region));
            let mut others = ours.filter(|line| line.node != leader);
            match self {
                Self::Leader => Some(leader),
                Self::Follower => others.next().map(|line| line.node.clone()),
            }
        })
        .await
    }
}

fn leader(lines: &[NodeLine], region: &str) -> Option<String> {
    let ours = lines.iter().filter(|line| line.node.starts_with(region));
    let leads = ours.filter(|line| line.say("role") == "leader");
    let newest = leads.max_by_key(|line| line.number("term"));
    newest.map(|line| line.node.clone())
}

/// Whether every node answers and follows, or leads, somebody of the newest term.
fn whole(lines: &[NodeLine]) -> bool {
    REGIONS.iter().all(|region| {
        let ours = || lines.iter().filter(|line| line.node.starts_with(region));
        let term = ours().map(|line| line.number("term")).max();
        ours().all(|line| {
            let follows = line.say("leader").is_u64() && Some(line.number("term")) == term;
            line.status.is_some() && follows
        })
    })
}

/// From when to when; without an end while it lasts.
type Times = Vec<(Instant, Option<Instant>)>;

/// When each Region was in trouble.
#[derive(Debug, Default)]
pub(crate) struct Troubles(Mutex<BTreeMap<&'static str, Times>>);

impl Troubles {
    fn begin(&self, region: &'static str) {
        let mut times = self.0.lock().unwrap();
        times
            .entry(region)
            .or_default()
            .push((Instant::now(), None));
    }

    fn end(&self, region: &'static str) {
        let mut times = self.0.lock().unwrap();
        let last = times.get_mut(region).and_then(|times| times.last_mut());
        last.expect("it began").1 = Some(Instant::now());
    }

    /// Whether something that began then, and ended just now, met trouble in a Region.
    pub(crate) fn met(&self, region: &str, since: Instant) -> bool {
        let times = self.0.lock().unwrap();
        let mut times = times.get(region).into_iter().flatten();
        times.any(|(_, end)| end.is_none_or(|end| end + AFTERMATH > since))
    }
}
