//! Adding, promoting and removing nodes.

use std::collections::BTreeSet;
use std::time::Duration;

use keyrum_types::NodeId;
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::group::{Group, Inner};
use crate::peers::Kind;
use crate::types::Peer;

/// How long a change may take: a new node has to catch up first.
const CHANGE_LIMIT: Duration = Duration::from_secs(60);

/// How long the node that asks waits before it asks the leader again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Why the group's nodes are as they were, or may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum MembershipError {
    /// No leader carried the change out in time, or the node did not catch up; it may still come
    /// about.
    #[error(
        "the change was not carried out in time: there is no leader, or the node does not catch \
         up; look at the cluster's status"
    )]
    NoQuorum,
    /// The leader refused.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
}

/// A change of the group's nodes, as it is forwarded to the leader.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum MemberChange {
    AddLearner { node: NodeId, addr: String },
    Promote { node: NodeId },
    Remove { node: NodeId },
}

/// What the leader answers: `None` from a node that does not lead.
pub(crate) type MemberAnswer = Option<Result<(), MembershipError>>;

impl Group {
    /// Adds a node that receives the log but has no vote.
    pub async fn add_learner(&self, node: NodeId, addr: String) -> Result<(), MembershipError> {
        self.change(MemberChange::AddLearner { node, addr }).await
    }

    /// Gives a learner a vote, once it has caught up: a majority may need it from then on.
    pub async fn promote(&self, node: NodeId) -> Result<(), MembershipError> {
        self.change(MemberChange::Promote { node }).await
    }

    /// Takes a node out of the group. Its id must not be used again.
    pub async fn remove(&self, node: NodeId) -> Result<(), MembershipError> {
        self.change(MemberChange::Remove { node }).await
    }

    async fn change(&self, change: MemberChange) -> Result<(), MembershipError> {
        let deadline = Instant::now() + CHANGE_LIMIT;
        let mut leaders = self.inner.leader.subscribe();
        while Instant::now() < deadline {
            let leader = *leaders.borrow_and_update();
            let answer: MemberAnswer = match leader {
                None => None,
                Some(leader) if leader == self.inner.config.node => {
                    let here = self.change_here(change.clone());
                    let answer = tokio::time::timeout_at(deadline, here).await;
                    answer.ok().flatten()
                }
                Some(leader) => {
                    let peer = self.inner.directory.requests(leader);
                    peer.call(Kind::Member, &change, deadline - Instant::now())
                        .await
                        .ok()
                        .flatten()
                }
            };
            if let Some(result) = answer {
                return result;
            }
            let _ = tokio::time::timeout(RETRY_PAUSE, leaders.changed()).await;
        }
        Err(MembershipError::NoQuorum)
    }

    /// Carries a change out on this node, if it leads. All changes may be repeated.
    pub(crate) async fn change_here(&self, change: MemberChange) -> MemberAnswer {
        let raft = &self.inner.raft;
        // A leader that was removed goes on until that is committed; what comes next is for the next one.
        if !self.inner.voters().contains(&self.node()) {
            return None;
        }
        let done = match change {
            MemberChange::AddLearner { node, addr } => {
                if self.inner.voters().contains(&node) {
                    return Some(Ok(()));
                }
                // openraft's own wait takes a node for caught up that is not far behind, and so one
                // that was never reached.
                raft.add_learner(node, Peer { addr }, false).await
            }
            MemberChange::Promote { node } => {
                match self.inner.catch_up(node).await {
                    Some(Ok(())) => {}
                    not => return not,
                }
                let change = ChangeMembers::AddVoterIds(BTreeSet::from([node]));
                raft.change_membership(change, true).await
            }
            MemberChange::Remove { node } => {
                let voters = self.inner.voters();
                if voters.len() == 1 && voters.contains(&node) {
                    let reason = format!("node {node} is the last of its group");
                    return Some(Err(MembershipError::Refused { reason }));
                }
                let nodes = BTreeSet::from([node]);
                let change = match voters.contains(&node) {
                    true => ChangeMembers::RemoveVoters(nodes),
                    false => ChangeMembers::RemoveNodes(nodes),
                };
                raft.change_membership(change, false).await
            }
        };
        match done {
            Ok(_) => Some(Ok(())),
            // A former leader's change is not finished yet: the leader finishes it first.
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_),
            ))) => None,
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => {
                Some(Err(MembershipError::Refused {
                    reason: error.to_string(),
                }))
            }
            Err(error) => {
                tracing::debug!(%error, "a change of nodes was not taken");
                None
            }
        }
    }
}

impl Inner {
    /// Waits, on the leader, until a node has every entry there is now.
    async fn catch_up(&self, node: NodeId) -> MemberAnswer {
        let mut metrics = self.raft.metrics();
        let target = metrics.borrow_watched().last_log_index;
        loop {
            {
                let metrics = metrics.borrow_watched();
                let membership = metrics.membership_config.membership();
                if membership.voter_ids().any(|voter| voter == node) {
                    return Some(Ok(()));
                }
                if membership.get_node(&node).is_none() {
                    let reason = format!("node {node} is no member of the group");
                    return Some(Err(MembershipError::Refused { reason }));
                }
                let matched = metrics.replication.as_ref()?.get(&node).copied().flatten();
                if matched.map(|id| id.index) >= target {
                    return Some(Ok(()));
                }
            }
            metrics.changed().await.ok()?;
        }
    }
}
