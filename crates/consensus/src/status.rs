//! What a node tells about itself.

use keyrum_state::State;
use keyrum_types::{LogIndex, NodeId, Region, UnixMillis};
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use serde::{Deserialize, Serialize};

use crate::group::Group;
use crate::tls_credentials::TlsStatus;

/// The part a node plays in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes commands.
    Leader,
    /// Follows a leader and votes.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Follows without a vote.
    Learner,
    /// Has stopped.
    Stopped,
}

/// One node as it sees itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its Region.
    pub region: String,
    /// Its id.
    pub node: NodeId,
    /// Its part.
    pub role: Role,
    /// The term it is in.
    pub term: u64,
    /// The leader it knows of.
    pub leader: Option<NodeId>,
    /// Where its log ends.
    pub last_log: Option<LogIndex>,
    /// The last entry it knows to be committed.
    pub committed: Option<LogIndex>,
    /// The last entry it has applied.
    pub applied: Option<LogIndex>,
    /// The digest of its state, and the entry after which that was taken.
    pub digest: String,
    /// See `digest`.
    pub digest_index: LogIndex,
    /// The last entry in its latest snapshot.
    pub snapshot: Option<LogIndex>,
    /// The last entry removed from its log.
    pub purged: Option<LogIndex>,
    /// Members with a vote.
    pub voters: Vec<NodeId>,
    /// Members without one.
    pub learners: Vec<NodeId>,
    /// How many keys it holds.
    pub keys: u64,
    /// The Region's clock as of the last command it applied.
    pub region_clock: UnixMillis,
    /// How far that clock was moved ahead by hand, in milliseconds.
    #[serde(default)]
    pub clock_offset_ms: u64,
    /// What waits for each other Region.
    #[serde(default)]
    pub channels: Vec<ChannelStatus>,
    /// Its certificate; `None` if its links are not protected.
    #[serde(default)]
    pub tls: Option<TlsStatus>,
    /// Why it has stopped.
    pub stopped: Option<String>,
    /// Why it takes no mutations.
    pub mutations_stopped: Option<String>,
}

/// A vote as a node has given it. A later one is greater, and a node never goes back to an earlier one,
/// whatever becomes of it in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ballot {
    /// In which term.
    pub term: u64,
    /// To whom.
    pub candidate: NodeId,
}

/// What waits for another Region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelStatus {
    /// Which Region.
    pub to: Region,
    /// How many messages wait to be delivered.
    pub waiting: u64,
    /// The number of the last message sent.
    pub sent: u64,
    /// It is known to have taken all through this number.
    pub delivered: u64,
    /// Since when the oldest has been seen to wait, in milliseconds; the leader knows.
    pub oldest_ms: Option<u64>,
    /// Why the last attempt to deliver failed, if messages wait; the leader knows.
    pub last_error: Option<String>,
}

impl Group {
    /// The last vote this node gave.
    pub fn ballot(&self) -> Ballot {
        let metrics = self.inner.raft.metrics();
        let vote = &metrics.borrow_watched().vote;
        Ballot {
            term: vote.leader_id().term,
            candidate: vote.leader_id().node_id,
        }
    }

    /// This node as it sees itself.
    pub fn status(&self) -> NodeStatus {
        let inner = &self.inner;
        let metrics = inner.raft.metrics().borrow_watched().clone();
        let view = inner.shared.view();
        let stopped = inner.stop_reason();
        let role = match metrics.state {
            _ if stopped.is_some() => Role::Stopped,
            ServerState::Leader => Role::Leader,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Learner => Role::Learner,
            ServerState::Shutdown => Role::Stopped,
        };
        let membership = metrics.membership_config.membership();
        NodeStatus {
            region: inner.config.region.to_string(),
            node: inner.config.node,
            role,
            term: metrics.current_term,
            leader: metrics.current_leader,
            last_log: metrics.last_log_index,
            committed: metrics.local_committed.map(|id| id.index),
            applied: metrics.last_applied.map(|id| id.index),
            digest: view.state.digest().to_string(),
            digest_index: view.index,
            snapshot: metrics.snapshot.map(|id| id.index),
            purged: metrics.purged.map(|id| id.index),
            voters: membership.voter_ids().collect(),
            learners: membership.learner_ids().collect(),
            keys: view.state.total_keys(),
            region_clock: view.state.clock(),
            clock_offset_ms: view.state.clock_offset_ms(),
            channels: self
                .neighbours()
                .iter()
                .map(|to| channel_status(&view.state, to))
                .collect(),
            tls: inner
                .directory
                .links
                .credentials()
                .map(|credentials| credentials.status()),
            stopped,
            mutations_stopped: inner
                .mutations_stopped
                .load_full()
                .map(|reason| (*reason).clone()),
        }
    }
}

fn channel_status(state: &State, to: &Region) -> ChannelStatus {
    let channel = state.channel(to);
    ChannelStatus {
        to: to.clone(),
        waiting: state.outbox(to).count() as u64,
        sent: channel.sent,
        delivered: channel.delivered,
        oldest_ms: None,
        last_error: None,
    }
}
