//! openraft's network on our calls.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keyrum_types::NodeId;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, v2::RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RPCTypes};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::group::Directory;
use crate::links::Purpose;
use crate::machine::SnapshotSource;
use crate::peers::{CallError, Kind, PeerClient};
use crate::types::{Peer, Snapshot, TypeConfig, Vote};

/// Entries may wait for a slow disk at the other end longer than a heartbeat may.
const APPEND_TIMEOUT_MIN: Duration = Duration::from_millis(1500);

/// How long one chunk of a snapshot, or its installation, may take.
const SNAPSHOT_STEP_TIMEOUT: Duration = Duration::from_secs(20);

/// Makes openraft's clients.
pub(crate) struct Factory {
    pub(crate) directory: Arc<Directory>,
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Client;

    async fn new_client(&mut self, target: NodeId, node: &Peer) -> Client {
        self.client(target, node, Purpose::Replication)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, node: &Peer) -> Client {
        self.client(target, node, Purpose::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: NodeId, node: &Peer) -> Client {
        self.client(target, node, Purpose::Snapshot)
    }
}

impl Factory {
    fn client(&self, target: NodeId, node: &Peer, purpose: Purpose) -> Client {
        self.directory.learn(target, &node.addr);
        Client {
            target,
            directory: self.directory.clone(),
            calls: self.directory.client(target, purpose),
        }
    }
}

/// Calls one node on openraft's behalf.
pub(crate) struct Client {
    target: NodeId,
    directory: Arc<Directory>,
    calls: PeerClient,
}

impl Client {
    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        kind: Kind,
        rpc: RPCTypes,
        question: &Q,
        timeout: Duration,
    ) -> Result<A, RPCError<TypeConfig>> {
        self.calls
            .call(kind, question, timeout)
            .await
            .map_err(|error| {
                tracing::debug!(target = self.target, ?rpc, %error, "a call to a peer failed");
                match error {
                    CallError::Unreachable { .. } => {
                        RPCError::Unreachable(Unreachable::new(&error))
                    }
                    CallError::NoAnswer { .. } | CallError::Failed { .. } => {
                        RPCError::Network(NetworkError::new(&error))
                    }
                }
            })
    }
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = SnapshotSource;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        if let Some(committed) = rpc.leader_commit {
            let told = &self.directory.told;
            told.fetch_max(committed.index, Ordering::SeqCst);
        }
        let timeout = match rpc.entries.is_empty() {
            true => option.soft_ttl(),
            false => option.soft_ttl().max(APPEND_TIMEOUT_MIN),
        };
        self.call(Kind::Append, RPCTypes::AppendEntries, &rpc, timeout)
            .await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(Kind::Vote, RPCTypes::Vote, &rpc, option.soft_ttl())
            .await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(Kind::PreVote, RPCTypes::Vote, &rpc, option.soft_ttl())
            .await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(
            Kind::TransferLeader,
            RPCTypes::TransferLeader,
            &request,
            option.soft_ttl(),
        )
        .await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let send = async {
            let fail = |error: &CallError| StreamingError::Unreachable(Unreachable::new(error));
            let (meta, digest, mut chunks) = snapshot
                .snapshot
                .open()
                .map_err(|error| StreamingError::Network(NetworkError::new(&error)))?;
            let begin = (vote, meta, digest);
            let calls = &self.calls;
            calls
                .call::<_, ()>(Kind::SnapshotBegin, &begin, SNAPSHOT_STEP_TIMEOUT)
                .await
                .map_err(|error| fail(&error))?;
            while let Some(chunk) = chunks
                .next_chunk()
                .map_err(|error| StreamingError::Network(NetworkError::new(&error)))?
            {
                calls
                    .call::<_, ()>(Kind::SnapshotChunk, &chunk, SNAPSHOT_STEP_TIMEOUT)
                    .await
                    .map_err(|error| fail(&error))?;
            }
            calls
                .call(Kind::SnapshotEnd, &(), SNAPSHOT_STEP_TIMEOUT)
                .await
                .map_err(|error| fail(&error))
        };
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = send => sent,
        }
    }
}
