//! Nodes that join and leave a running cluster.
//!
//! Nothing is begun that could not be finished: a change of a group's nodes waits for a majority,
//! so what stands in its way is said first.

use futures_util::future::join_all;
use keyrum_consensus::{NodeStatus, Role};
use keyrum_types::{NodeId, Region};
use tokio::time::Instant;

use super::{LOOK_EVERY, QUORUM_LIMIT, Shared, Supervisor, Trouble};
use crate::admin::Admin;
use crate::cli::NodeName;

impl Supervisor {
    pub(super) async fn add(&self, node: &NodeName) -> Result<(), Trouble> {
        self.folder().check_unused(node)?;
        self.check_majority(&node.region, None).await?;
        let record = {
            let mut folder = self.folder();
            let record = folder.add_node(node, &*self.world.entropy)?;
            folder.ensure_certs()?;
            folder.prepare_node(node, &*self.world.entropy)?;
            record
        };
        self.start_node(node)?;
        self.note_processes()?;
        let ready = async {
            self.wait_until_up(node).await?;
            self.any_member(node).await
        };
        let member = match ready.await {
            Ok(member) => member,
            Err(trouble) => {
                // The group never heard of it: as if nothing had been asked. The message of one
                // that is silent names its output, which is kept then.
                let output = matches!(trouble, Trouble::Silent { .. });
                match output {
                    true => self.forget(node).await?,
                    false => self.unmake(node).await?,
                }
                return Err(trouble);
            }
        };
        let joined = async {
            // This is not given up half-way: it could come about after it was taken back.
            member.add_learner(node.id, record.peer_at()).await?;
            tokio::select! {
                // Comes back once the new node has caught up.
                promoted = member.promote(node.id) => Ok(promoted?),
                trouble = self.gone(node) => Err(trouble),
            }
        };
        match joined.await {
            Ok(()) => {
                self.front.update(&self.folder());
                Ok(())
            }
            Err(cause) => Err(self.take_back(node, cause).await),
        }
    }

    /// Undoes an addition that failed on the way, and says what is to be reported.
    async fn take_back(&self, node: &NodeName, cause: Trouble) -> Trouble {
        // The change may have been made all the same: a learner that never catches up is a
        // member, and an answer can get lost.
        let removed = async {
            self.check_majority(&node.region, Some(node)).await?;
            Ok(self.any_member(node).await?.remove(node.id).await?)
        };
        let forgotten = async {
            self.forget(node).await?;
            // A folder that no command tells of would stay for good.
            Ok(self.folder().remove_data(node)?)
        };
        match removed.await {
            Ok(()) => forgotten.await.map_or_else(|trouble| trouble, |()| cause),
            Err(removal) => {
                // A member that is forgotten could never be removed, and may be needed for a
                // majority: it goes on.
                self.front.update(&self.folder());
                Trouble::HalfAdded {
                    node: node.clone(),
                    cause: Box::new(cause),
                    removal: Box::new(removal),
                }
            }
        }
    }

    pub(super) async fn remove(&self, node: &NodeName, process: &Shared) -> Result<(), Trouble> {
        if self.nodes_of(&node.region).len() == 1 {
            return Err(Trouble::LastNode { node: node.clone() });
        }
        self.check_majority(&node.region, Some(node)).await?;
        self.any_member(node).await?.remove(node.id).await?;
        process.lock().await.stop().await?;
        self.forget(node).await
    }

    async fn forget(&self, node: &NodeName) -> Result<(), Trouble> {
        self.end(node).await?;
        self.folder().remove_node(node)?;
        self.note_nodes()
    }

    async fn unmake(&self, node: &NodeName) -> Result<(), Trouble> {
        self.end(node).await?;
        self.folder().unmake_node(node)?;
        self.note_nodes()
    }

    pub(super) async fn end(&self, node: &NodeName) -> Result<(), Trouble> {
        let process = self.nodes().remove(node);
        if let Some(process) = process {
            process.lock().await.stop().await?;
        }
        Ok(())
    }

    pub(super) fn note_nodes(&self) -> Result<(), Trouble> {
        self.front.update(&self.folder());
        self.note_processes()?;
        Ok(())
    }

    /// Whether a Region's group can change its nodes: a majority of its voters answers and follows
    /// a leader, and would do so without `leaving`. Without one, a change would be begun that
    /// nobody can finish.
    async fn check_majority(
        &self,
        region: &Region,
        leaving: Option<&NodeName>,
    ) -> Result<(), Trouble> {
        let deadline = Instant::now() + QUORUM_LIMIT;
        loop {
            let nodes = self.nodes_of(region);
            let statuses = nodes
                .iter()
                .map(|node| async { self.admin(node).status().await.ok() });
            let statuses: Vec<_> = join_all(statuses).await.into_iter().flatten().collect();
            let trouble = match majority(region, &statuses, leaving) {
                Ok(()) => return Ok(()),
                Err(trouble) => trouble,
            };
            if Instant::now() > deadline {
                return Err(trouble);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// A node other than `node` that answers, the leader if there is one.
    async fn any_member(&self, node: &NodeName) -> Result<Admin, Trouble> {
        let mut found = None;
        for other in self
            .nodes_of(&node.region)
            .into_iter()
            .filter(|other| other != node)
        {
            let admin = self.admin(&other);
            match admin.status().await {
                Ok(status) if status.role == Role::Leader => return Ok(admin),
                Ok(_) => found = Some(admin),
                Err(_) => {}
            }
        }
        found.ok_or_else(|| Trouble::NobodyAnswers {
            region: node.region.clone(),
        })
    }
}

pub(super) fn names(region: &Region, ids: &[NodeId]) -> String {
    let names: Vec<_> = ids.iter().map(|id| format!("{region}/{id}")).collect();
    names.join(", ")
}

/// Whether a Region's nodes that answer, `statuses`, are a majority that follows a leader, with
/// `leaving` and without.
fn majority(
    region: &Region,
    statuses: &[NodeStatus],
    leaving: Option<&NodeName>,
) -> Result<(), Trouble> {
    // A node that the group has not reached yet knows no voters.
    let leads = |status: &&NodeStatus| (status.role == Role::Leader, status.term);
    let Some(first) = statuses
        .iter()
        .filter(|s| !s.voters.is_empty())
        .max_by_key(leads)
    else {
        return Err(Trouble::NobodyAnswers {
            region: region.clone(),
        });
    };
    let answers = |id: &NodeId| {
        let status = statuses.iter().find(|status| status.node == *id);
        status.is_some_and(|status| status.stopped.is_none())
    };
    let voters = &first.voters;
    let down: Vec<NodeId> = voters.iter().copied().filter(|id| !answers(id)).collect();
    if down.len() * 2 >= voters.len() {
        return Err(Trouble::NoMajority {
            region: region.clone(),
            silent: down.len(),
            voters: voters.len(),
            down,
        });
    }
    if first.role != Role::Leader {
        return Err(Trouble::NoLeader {
            region: region.clone(),
        });
    }
    if let Some(node) = leaving.filter(|node| voters.contains(&node.id)) {
        let down: Vec<NodeId> = down.into_iter().filter(|id| *id != node.id).collect();
        if down.len() * 2 >= voters.len() - 1 && voters.len() > 1 {
            return Err(Trouble::Needed {
                region: region.clone(),
                node: node.clone(),
                down,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(node: NodeId, role: &str, voters: &[NodeId]) -> NodeStatus {
        let status = json!({
            "region": "us-east-1", "node": node, "role": role, "term": 1, "leader": null,
            "last_log": null, "committed": null, "applied": null, "digest": "", "digest_index": 0,
            "snapshot": null, "purged": null, "voters": voters, "learners": [], "keys": 0,
            "region_clock": 0, "stopped": null, "mutations_stopped": null,
        });
        serde_json::from_value(status).unwrap()
    }

    /// Catches a change of nodes that is begun though no majority can finish it, one that is
    /// refused though it can, and advice that names the wrong node.
    #[test]
    fn a_change_needs_a_majority_before_and_after() {
        let region: Region = "us-east-1".parse().unwrap();
        let check = |up: &[NodeId], leader: NodeId, leaving: Option<NodeId>| {
            let status = |&id: &NodeId| {
                let role = if id == leader { "leader" } else { "follower" };
                status(id, role, &[1, 2, 3])
            };
            let statuses: Vec<_> = up.iter().map(status).collect();
            let leaving = leaving.map(|id| NodeName {
                region: region.clone(),
                id,
            });
            let checked = majority(&region, &statuses, leaving.as_ref());
            checked.map_err(|trouble| trouble.to_string())
        };
        assert_eq!(check(&[1, 2, 3], 1, None), Ok(()));
        assert_eq!(check(&[1, 3], 3, None), Ok(()));
        assert_eq!(
            check(&[1, 3], 3, Some(2)),
            Ok(()),
            "the one that is down goes"
        );
        assert_eq!(check(&[1, 2, 3], 1, Some(1)), Ok(()));
        assert_eq!(check(&[1, 2], 2, Some(9)), Ok(()), "a learner goes");
        for (up, leader, leaving, part) in [
            (&[2][..], 2, None, "us-east-1/1, us-east-1/3 first"),
            (&[2], 2, Some(1), "2 of its 3 voters do not answer"),
            (&[1, 2], 0, None, "no leader"),
            (&[1, 2], 1, Some(2), "us-east-1/3 would be needed"),
            (&[], 0, None, "no node of us-east-1 answers"),
        ] {
            let words = check(up, leader, leaving).unwrap_err();
            assert!(words.contains(part), "{up:?}, {leaving:?}: {words}");
        }
        let new = status(4, "learner", &[]);
        let words = majority(&region, &[new], None).unwrap_err().to_string();
        assert!(words.contains("no node of us-east-1 answers"), "{words}");
    }
}
