//! One client of a workload: where it calls and how, and what it was told.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use keyrum_types::NodeId;
use serde_json::Value;
use tokio::time::sleep;

use super::Progress;
use super::api::{Api, Place, Reads};
use crate::dice::Dice;
use crate::experiment::Outcome;

/// How long a client tries a call whose answer it needs.
const TRIES: u32 = 200;
const TRY_EVERY: Duration = Duration::from_millis(100);

/// Which node of a Region a client calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NodeChoice {
    /// Now one, now another, and the next one if one fails.
    #[default]
    Any,
    /// This one, whatever happens.
    Node(NodeId),
    /// The one that leads when the client begins, also when it leads no more.
    Leader,
    /// The one after it.
    Follower,
}

/// Tells which node leads a Region, if one does.
pub type LeaderOf = Rc<dyn Fn(usize) -> Option<NodeId>>;

/// Whether an operation changes keys.
fn is_mutation(operation: &str) -> bool {
    let reads = ["Describe", "List", "Get", "Encrypt", "Decrypt"];
    !reads.iter().any(|read| operation.starts_with(read))
}

/// A client.
pub(crate) struct Client {
    pub(crate) dice: Dice,
    api: Api,
    /// The nodes of each Region, by its number.
    nodes: Vec<Vec<NodeId>>,
    /// Where it calls, unless it is told.
    home: usize,
    choice: NodeChoice,
    /// Which node of each Region it calls now.
    at: Vec<NodeId>,
    pub(crate) reads: Reads,
    leader_of: LeaderOf,
    progress: Rc<Progress>,
}

impl Client {
    pub(crate) fn new(
        api: Api,
        dice: Dice,
        nodes: Vec<Vec<NodeId>>,
        home: usize,
        (choice, reads): (NodeChoice, Reads),
        leader_of: LeaderOf,
        progress: Rc<Progress>,
    ) -> Self {
        let at = nodes.iter().map(|nodes| nodes[0]).collect();
        Self {
            dice,
            api,
            nodes,
            home,
            choice,
            at,
            reads,
            leader_of,
            progress,
        }
    }

    /// Chooses its nodes. A client that wants a leader waits until there is one.
    pub(crate) async fn settle(&mut self) {
        for region in 0..self.nodes.len() {
            self.at[region] = match self.choice {
                NodeChoice::Any => self.dice.pick(&self.nodes[region]),
                NodeChoice::Node(node) => node,
                NodeChoice::Leader => self.leader(region).await,
                NodeChoice::Follower => {
                    let leader = self.leader(region).await;
                    self.after(region, leader)
                }
            };
        }
    }

    async fn leader(&self, region: usize) -> NodeId {
        loop {
            if let Some(leader) = (self.leader_of)(region) {
                return leader;
            }
            sleep(TRY_EVERY).await;
        }
    }

    fn after(&self, region: usize, node: NodeId) -> NodeId {
        let nodes = &self.nodes[region];
        let place = nodes.iter().position(|known| *known == node).unwrap_or(0);
        nodes[(place + 1) % nodes.len()]
    }

    /// How many Regions there are.
    pub(crate) fn regions(&self) -> usize {
        self.nodes.len()
    }

    /// Where it calls, unless it is told.
    pub(crate) fn home(&self) -> usize {
        self.home
    }

    /// A Region's name.
    pub(crate) fn region_name(&self, region: usize) -> String {
        self.api.region_name(region).to_owned()
    }

    /// Now and then, a client that may goes to another node.
    pub(crate) fn wander(&mut self) {
        if self.choice == NodeChoice::Any && self.dice.percent(15) {
            for region in 0..self.nodes.len() {
                self.at[region] = self.dice.pick(&self.nodes[region]);
            }
        }
    }

    /// A client that may goes to the next node.
    pub(crate) fn move_on(&mut self) {
        if self.choice == NodeChoice::Any {
            for region in 0..self.nodes.len() {
                self.at[region] = self.after(region, self.at[region]);
            }
        }
    }

    /// A call in the client's own Region.
    pub(crate) async fn call(&mut self, operation: &str, input: Value) -> Outcome {
        self.call_in(self.home, operation, input).await
    }

    /// A call in a Region.
    pub(crate) async fn call_in(
        &mut self,
        region: usize,
        operation: &str,
        input: Value,
    ) -> Outcome {
        let reads = self.reads;
        self.call_reading(reads, region, operation, &input).await
    }

    async fn call_reading(
        &mut self,
        reads: Reads,
        region: usize,
        operation: &str,
        input: &Value,
    ) -> Outcome {
        let node = self.at[region];
        let place = Place { region, node };
        let outcome = self.api.call(place, operation, input, reads).await;
        let count = |counter: &Cell<u64>| counter.set(counter.get() + 1);
        count(&self.progress.calls);
        let failed = match &outcome {
            Outcome::Done(_) => {
                count(match is_mutation(operation) {
                    true => &self.progress.acknowledged,
                    false => &self.progress.answered,
                });
                false
            }
            Outcome::Refused { .. } => false,
            Outcome::NotDone(_) => {
                count(&self.progress.not_done);
                true
            }
            Outcome::Unknown(_) => {
                count(&self.progress.unknown);
                true
            }
        };
        if failed && self.choice == NodeChoice::Any {
            self.at[region] = self.after(region, node);
        }
        outcome
    }

    /// A linearizable call, again and again until it is answered, from node to node. `None`: it is
    /// refused, or never answered.
    pub(crate) async fn insist(
        &mut self,
        region: usize,
        operation: &str,
        input: Value,
    ) -> Option<Value> {
        self.insist_on(region, operation, || input.clone()).await
    }

    /// The same, with a new input for every try.
    pub(crate) async fn insist_on(
        &mut self,
        region: usize,
        operation: &str,
        input: impl Fn() -> Value,
    ) -> Option<Value> {
        for _ in 0..TRIES {
            let (reads, input) = (Reads::Linearizable, input());
            match self.call_reading(reads, region, operation, &input).await {
                Outcome::Done(answer) => return Some(answer),
                Outcome::Refused { .. } => return None,
                Outcome::NotDone(_) | Outcome::Unknown(_) => {
                    self.at[region] = self.after(region, self.at[region]);
                    sleep(TRY_EVERY).await;
                }
            }
        }
        None
    }
}
