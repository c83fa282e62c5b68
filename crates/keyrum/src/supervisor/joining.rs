//! Regions that join a running cluster.
//!
//! A Region is founded before anybody else knows it: until then it can be taken back as if nothing
//! had been asked. A node of another Region that cannot be told now learns of it when it is back:
//! one that is started reads the cluster's record, one that was frozen is told then.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use keyrum_consensus::world;
use keyrum_types::Region;
use tokio::time::{Instant, sleep};

use super::{LOOK_EVERY, START_LIMIT, Supervisor, Trouble};
use crate::cli::NodeName;
use crate::process::Condition;
use crate::run;

/// How long nodes that run may take to say that they know a Region.
const TELL_LIMIT: Duration = Duration::from_secs(5);

/// How often a node that could not be told is told again.
const TELL_AGAIN: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Has a new Region join, and says what came of it.
    pub(super) async fn add_region(
        self: &Arc<Self>,
        name: &str,
        nodes: u64,
    ) -> Result<String, Trouble> {
        let no_name = |_| Trouble::NoRegionName(name.to_owned());
        let region: Region = name.parse().map_err(no_name)?;
        let _one_at_a_time = self.joining.lock().await;
        if !self.ready.load(Ordering::SeqCst) {
            return Err(Trouble::Starting);
        }
        let ids = (1..=nodes).collect();
        self.folder()
            .add_region(&region, ids, &*self.world.entropy)?;
        if let Err(cause) = self.found(&region).await {
            return Err(self.take_back_region(region, cause).await);
        }
        let untold = self.finish_joining().await?;
        self.note_ready()?;
        let members = match nodes {
            1 => "1 node".to_owned(),
            nodes => format!("{nodes} nodes"),
        };
        Ok(match untold.join(", ") {
            none if none.is_empty() => format!(
                "{region} has joined with {members}; every node of the other Regions knows it"
            ),
            untold => format!(
                "{region} has joined with {members}; these nodes of other Regions do not know it \
                 yet and learn of it when they are back: {untold}"
            ),
        })
    }

    /// Starts a Region's nodes and waits until it has a leader.
    async fn found(&self, region: &Region) -> Result<(), Trouble> {
        let nodes = self.folder().nodes().into_iter();
        let nodes: Vec<_> = nodes.filter(|node| node.region == *region).collect();
        for node in &nodes {
            self.start_node(node)?;
        }
        self.note_processes()?;
        for node in &nodes {
            self.wait_until_up(node)
                .await
                .map_err(|trouble| match trouble {
                    // The output it names goes with the Region.
                    Trouble::Silent { .. } => Trouble::NotFounded {
                        region: region.clone(),
                    },
                    other => other,
                })?;
        }
        let deadline = Instant::now() + START_LIMIT;
        while !self.has_leader(region).await {
            self.check_quorum(region).await?;
            if Instant::now() > deadline {
                let region = region.clone();
                return Err(Trouble::NotFounded { region });
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Undoes an addition that failed before another Region knew of it, and says what is to be
    /// reported.
    async fn take_back_region(&self, region: Region, cause: Trouble) -> Trouble {
        let taken_back = async {
            for node in self.nodes_of(&region) {
                self.end(&node).await?;
            }
            self.folder().unmake_region(&region)?;
            self.note_nodes()
        };
        match taken_back.await {
            Ok(()) => cause,
            Err(removal) => Trouble::HalfJoined {
                region,
                cause: Box::new(cause),
                removal: Box::new(removal),
            },
        }
    }

    /// Has the others know the Regions that have been founded since they joined. Gives the nodes
    /// that could not be told, and why.
    pub(super) async fn finish_joining(self: &Arc<Self>) -> Result<Vec<String>, Trouble> {
        let new: Vec<Region> = {
            let folder = self.folder();
            let names = folder.record().regions.iter().map(|region| &region.name);
            names
                .filter(|name| folder.is_joining(name))
                .cloned()
                .collect()
        };
        for region in &new {
            self.level_clock(region).await;
        }
        self.folder().note_founded()?;
        self.front.update(&self.folder());
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let nodes: Vec<_> = self.nodes().keys().cloned().collect();
        let told = nodes.iter().map(|node| self.tell_in_time(node, &new));
        let told = join_all(told).await;
        let mut untold = Vec::new();
        for (node, why) in nodes.into_iter().zip(told) {
            if let Some(why) = why {
                untold.push(format!("{node} ({why})"));
                let (this, new) = (self.clone(), new.clone());
                world::spawn(async move { this.tell_when_back(&node, &new).await });
            }
        }
        Ok(untold)
    }

    /// Moves a joining Region's clock to where the others' were moved by hand: all of them tell one
    /// time.
    async fn level_clock(&self, region: &Region) {
        let (mut furthest, mut own) = (0, 0);
        let nodes: Vec<_> = self.nodes().keys().cloned().collect();
        let statuses = nodes.iter().map(|node| async move {
            let status = self.admin(node).status().await;
            (node, status.map_or(0, |status| status.clock_offset_ms))
        });
        for (node, offset) in join_all(statuses).await {
            furthest = furthest.max(offset);
            if node.region == *region {
                own = own.max(offset);
            }
        }
        if furthest <= own {
            return;
        }
        for node in nodes.iter().filter(|node| node.region == *region) {
            let admin = self.admin(node);
            if admin.status().await.is_err() {
                continue;
            }
            if let Err(error) = admin.advance_clock(furthest - own).await {
                run::remark(&format!(
                    "keyrum: the clock of {region} is behind the others' ({error}); `keyrum clock level` moves it"
                ));
            }
            return;
        }
    }

    /// Has a node look which Regions there are. Why it does not know them all, if it does not.
    async fn tell_in_time(&self, node: &NodeName, new: &[Region]) -> Option<String> {
        let deadline = Instant::now() + TELL_LIMIT;
        loop {
            let condition = self.condition(node).await?;
            if condition != Condition::Running {
                return Some(condition.to_string());
            }
            if self.tell(node, new).await {
                return None;
            }
            if Instant::now() > deadline {
                return Some("does not answer".to_owned());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Tells a node whenever it may answer, until it knows, or has no process: a new one reads the
    /// record.
    async fn tell_when_back(&self, node: &NodeName, new: &[Region]) {
        loop {
            match self.condition(node).await {
                Some(Condition::Running) => {
                    if self.tell(node, new).await {
                        return;
                    }
                }
                Some(Condition::Paused) => {}
                Some(_) | None => return,
            }
            sleep(TELL_AGAIN).await;
        }
    }

    async fn tell(&self, node: &NodeName, new: &[Region]) -> bool {
        let known = self.admin(node).look_for_regions().await;
        let known = known.unwrap_or_default();
        let knows = |region: &Region| {
            *region == node.region || known.iter().any(|name| name == region.as_str())
        };
        new.iter().all(knows)
    }

    /// How a node's process fares; `None` if there is no such node any more.
    async fn condition(&self, node: &NodeName) -> Option<Condition> {
        let process = self.process(node).ok()?;
        let mut process = process.lock().await;
        process.check();
        Some(process.condition().clone())
    }
}
