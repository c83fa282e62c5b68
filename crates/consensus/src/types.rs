//! What openraft is told about our types.

use std::fmt;
use std::sync::Arc;

use keyrum_state::Applied;
use keyrum_types::{NodeId, byte_string};
use openraft::impls::TokioRuntime;
use serde::{Deserialize, Serialize};

/// The runtime under openraft: tokio, with randomness from a seed in the task. Production draws
/// the seed from its entropy, the simulation fixes it; the code is the same.
pub(crate) type Runtime = openraft_rt::deterministic_rng::DeterministicRng<TokioRuntime>;

openraft::declare_raft_types!(
    /// Keyrum's types for openraft.
    pub(crate) TypeConfig:
        D = EncodedProposal,
        R = ApplyResult,
        NodeId = NodeId,
        Node = Peer,
        AsyncRuntime = Runtime,
);

/// One Region's Raft handle.
pub(crate) type Raft = openraft::Raft<TypeConfig, crate::machine::Machine>;

pub(crate) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
/// openraft's view of itself, as of its last step.
pub(crate) type Metrics =
    openraft::type_config::alias::WatchReceiverOf<TypeConfig, openraft::RaftMetrics<TypeConfig>>;
pub(crate) type Snapshot =
    openraft::type_config::alias::SnapshotOf<TypeConfig, crate::machine::SnapshotSource>;

/// A proposal as `keyrum_state::codec` encodes it. Encoded once, by the node that took the
/// request; the log, the peers and the disk carry these bytes, and each replica decodes them
/// once, when it applies them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EncodedProposal(#[serde(with = "byte_string")] pub(crate) Arc<[u8]>);

/// Shown as a length: a proposal may carry a caller's texts, which have no place in a trace.
impl fmt::Debug for EncodedProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedProposal({} bytes)", self.0.len())
    }
}

impl fmt::Display for EncodedProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What applying a log entry gave; `None` for openraft's own entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ApplyResult(pub(crate) Option<Applied>);

impl fmt::Display for ApplyResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            None => "nothing",
            Some(Applied { outcome: Ok(_), .. }) => "done",
            Some(Applied {
                outcome: Err(_), ..
            }) => "refused",
        })
    }
}

/// Where a node of the group listens for its peers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peer {
    /// `HOST:PORT`, as it was when the node joined; a node's own configuration wins over it.
    pub(crate) addr: String,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.addr)
    }
}
