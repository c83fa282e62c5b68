//! Faults of processes, and of the files of those that have none.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keyrum_consensus::world;
use keyrum_store::{self as store, Damage, StoreError};
use tokio::time::Instant;

use super::{Shared, Supervisor, Trouble};
use crate::cli::NodeName;
use crate::control::{Harm, Reply};
use crate::power::Loss;
use crate::process::Condition;
use crate::run;

/// How long power waits for a sync that it could go at.
const SYNC_LIMIT: Duration = Duration::from_millis(500);

/// How much later than the first node the others lose their power.
const POWER_LOOK_EVERY: Duration = Duration::from_millis(1);

impl Supervisor {
    /// Starts what was killed, or lets go on what was paused, after a time; unless somebody has
    /// handled the process before.
    pub(super) fn undo_later(
        self: &Arc<Self>,
        node: NodeName,
        process: Shared,
        turn: u64,
        for_ms: Option<u64>,
    ) {
        let Some(for_ms) = for_ms else { return };
        let this = self.clone();
        world::spawn(async move {
            tokio::time::sleep(Duration::from_millis(for_ms)).await;
            let mut locked = process.lock().await;
            if locked.turn() != turn {
                return;
            }
            let undone = match locked.condition() {
                Condition::Paused => locked.resume(),
                _ => locked.restart().await,
            };
            drop(locked);
            if let Err(error) = undone.and_then(|()| this.note_processes().map(drop)) {
                run::remark(&format!("keyrum: node {node} could not be healed: {error}"));
            }
        });
    }

    /// Starts every node that has no process, and lets those go on that are paused.
    pub(super) async fn heal(&self) -> Reply {
        let all: Vec<_> = self
            .nodes()
            .iter()
            .map(|(node, process)| (node.clone(), process.clone()))
            .collect();
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        let mut started = Vec::new();
        for (node, process) in all {
            let mut process = process.lock().await;
            process.check();
            let was = process.condition().clone();
            let healed = match was {
                Condition::Running => continue,
                Condition::Paused => process.resume(),
                Condition::Killed | Condition::Stopped | Condition::Ended(_) => {
                    process.restart().await
                }
            };
            match healed {
                Ok(()) if was == Condition::Paused => done.push(format!("{node} goes on")),
                Ok(()) => started.push((node, was)),
                Err(error) => failed.push(format!("{node} is {was}: {error}")),
            }
        }
        if let Err(error) = self.note_processes() {
            failed.push(error.to_string());
        }
        for (node, was) in started {
            match self.wait_until_up(&node).await {
                Ok(()) => done.push(format!("{node} runs again; it was {was}")),
                Err(trouble) => failed.push(trouble.to_string()),
            }
        }
        Reply::Healed { done, failed }
    }

    /// Takes the power of nodes away at one moment, and waits until they have ended: in the middle of their
    /// work, so when the first of them is about to sync something, if one soon is. After some syncs:
    /// does not wait, and the same without them tells later what was lost.
    pub(super) async fn cut_power(
        &self,
        nodes: &BTreeSet<String>,
        loss: Loss,
    ) -> Result<Reply, Trouble> {
        let mut held = Vec::new();
        for node in nodes {
            let (name, process) = self.named(node)?;
            held.push((name, process.lock_owned().await));
        }
        let at_sync = Loss {
            after_syncs: Some(loss.after_syncs.unwrap_or(0)),
            ..loss
        };
        for (_, process) in &mut held {
            process.lose_power(at_sync)?;
        }
        if loss.after_syncs.is_some() {
            return Ok(Reply::Done("their power goes".to_owned()));
        }
        let deadline = Instant::now() + SYNC_LIMIT;
        while !held.iter().any(|(_, process)| process.lost_power()) && Instant::now() < deadline {
            tokio::time::sleep(POWER_LOOK_EVERY).await;
        }
        for (_, process) in &mut held {
            process.lose_power(loss)?;
        }
        let (mut undone, mut failed) = (0, Ok(()));
        for (name, mut process) in held {
            match process.without_power().await {
                Ok(changes) => undone += changes,
                Err(error) => {
                    failed = Err(Trouble::KeptPower { node: name, error });
                }
            }
        }
        self.note_processes()?;
        failed.map(|()| Reply::Dark { undone })
    }

    /// Damages a file of a node that has no process.
    pub(super) async fn damage(
        &self,
        node: &NodeName,
        process: &Shared,
        harm: Harm,
        file: &str,
    ) -> Result<String, Trouble> {
        // Held all the time, so that it is not started meanwhile.
        let mut process = process.lock().await;
        process.check();
        if matches!(process.condition(), Condition::Running | Condition::Paused) {
            return Err(Trouble::HasProcess {
                node: node.clone(),
                condition: process.condition().clone(),
            });
        }
        let folder = self.folder().store(node);
        let (file, entropy) = (file.to_owned(), self.world.entropy.clone());
        let how = match harm {
            Harm::Flip => Damage::Flip,
            Harm::Tear => Damage::Tear,
        };
        let at = folder.clone();
        let work = move || store::damage(&at, &file, how, &*entropy);
        let done = self.world.blocking.run(work).await;
        let done = done.map_err(|error: StoreError| Trouble::Undamaged {
            node: node.clone(),
            error,
        })?;
        let path = folder.join(&done.file);
        let what = match harm {
            Harm::Flip => format!("a bit of byte {} is turned over", done.offset),
            Harm::Tear => format!("{} bytes from {} on are gone", done.bytes, done.offset),
        };
        Ok(format!(
            "{}: {what}; the other nodes still have what was acknowledged. `keyrum cluster restart {node}` shows what the node makes of it; \
             should it refuse to start, `keyrum cluster remove {node}` and `keyrum cluster add` one with another id, since healing does not undo this",
            path.display()
        ))
    }
}
