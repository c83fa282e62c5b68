//! Carries out what peers ask of this node.

use std::sync::{Arc, Weak};
use std::time::Duration;

use keyrum_state::codec::StateDecoder;
use keyrum_state::{Digest, FEATURE_LEVEL_SUPPORTED};
use keyrum_types::planted::{self, Bug};
use keyrum_types::{Entropy, LogIndex, Region, UnixMillis};
use openraft::raft::VoteRequest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::codec;
use crate::courier;
use crate::group::{Group, Inner};
use crate::machine::SnapshotSource;
use crate::members::MemberChange;
use crate::peers::{Handler, Kind, lock};
use crate::propose::ProposeAnswer;
use crate::reads::ReadAnswer;
use crate::taken;
use crate::types::{EncodedProposal, Snapshot, SnapshotMeta, TypeConfig, Vote};
use crate::world::BoxFuture;

/// How long a node waits for an entry that a peer has applied already, to compare digests.
const DIGEST_WAIT: Duration = Duration::from_secs(2);

/// What a node answers when asked for its digest right after an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DigestAnswer {
    Digest(Digest),
    /// It has not applied that entry yet.
    Behind,
    /// It applied it so long ago that the digest is forgotten.
    Forgotten,
}

pub(crate) struct NodeHandler {
    /// Weak: a node that is dropped must not live on through its connections.
    node: Weak<Inner>,
    /// The other Region whose courier asks on this connection.
    courier_of: Option<Region>,
}

/// What a connection keeps between calls: the snapshot that is being received on it.
#[derive(Default)]
pub(crate) struct Receiving(Option<(Vote, SnapshotMeta, Digest, StateDecoder)>);

impl NodeHandler {
    /// For nodes of this Region.
    pub(crate) fn new(node: Weak<Inner>) -> Self {
        Self {
            node,
            courier_of: None,
        }
    }

    /// For a node of another Region.
    pub(crate) fn for_courier(&self, of: Region) -> Self {
        Self {
            node: self.node.clone(),
            courier_of: Some(of),
        }
    }
}

impl Handler for NodeHandler {
    type Session = Receiving;

    fn open(&self) -> Receiving {
        Receiving::default()
    }

    fn handle(
        self: Arc<Self>,
        session: Arc<Mutex<Receiving>>,
        kind: Kind,
        body: Vec<u8>,
    ) -> BoxFuture<'static, Result<Vec<u8>, String>> {
        Box::pin(async move {
            let inner = self.node.upgrade().ok_or("the node is gone")?;
            if let Some(reason) = inner.stop_reason() {
                return Err(reason);
            }
            match self.courier_of.clone() {
                Some(region) => courier::carry_out(inner, region, kind, &body).await,
                None => carry_out(inner, session, kind, &body).await,
            }
        })
    }
}

async fn carry_out(
    inner: Arc<Inner>,
    session: Arc<Mutex<Receiving>>,
    kind: Kind,
    body: &[u8],
) -> Result<Vec<u8>, String> {
    let raft = &inner.raft;
    match kind {
        Kind::Append => answer(raft.append_entries(question(body)?).await),
        Kind::Vote => {
            let request: VoteRequest<TypeConfig> = question(body)?;
            if !request.leadership_transfer {
                inner.check_lease_forgotten()?;
            }
            answer(raft.vote(request).await)
        }
        Kind::PreVote => {
            inner.check_lease_forgotten()?;
            answer(raft.pre_vote(question(body)?).await)
        }
        Kind::TransferLeader => answer(raft.handle_transfer_leader(question(body)?).await),
        Kind::SnapshotBegin => {
            let (vote, meta, digest) = question(body)?;
            session.lock().await.0 = Some((vote, meta, digest, StateDecoder::new()));
            Ok(codec::encode(&()))
        }
        Kind::SnapshotChunk => {
            let mut chunk: Vec<u8> = question(body)?;
            if planted::is(Bug::DamagedSnapshots) {
                damage(&mut chunk, &*inner.world.entropy);
            }
            let mut session = session.lock().await;
            let (_, _, _, decoder) = session.0.as_mut().ok_or("a chunk before its snapshot")?;
            decoder.push(&chunk).map_err(|error| error.to_string())?;
            Ok(codec::encode(&()))
        }
        Kind::SnapshotEnd => {
            let received = session.lock().await.0.take();
            let (vote, meta, digest, decoder) = received.ok_or("an end before its snapshot")?;
            let state = decoder.finish().map_err(|error| error.to_string())?;
            if state.digest() != digest && !planted::is(Bug::DigestSkipped) {
                return Err(format!(
                    "the snapshot has digest {}, announced was {digest}",
                    state.digest()
                ));
            }
            let snapshot = SnapshotSource::Received(Box::new(state));
            answer(
                raft.install_full_snapshot(vote, Snapshot { meta, snapshot })
                    .await,
            )
        }
        Kind::Propose => {
            let proposal: EncodedProposal = question(body)?;
            let answer: ProposeAnswer = inner.propose_here(proposal).await;
            Ok(codec::encode(&answer))
        }
        Kind::ReadIndex => {
            let answer: ReadAnswer = inner.answer_reader(question(body)?).await;
            Ok(codec::encode(&answer))
        }
        Kind::Clock => {
            let now: UnixMillis = inner.world.clock.now();
            Ok(codec::encode(&now))
        }
        Kind::Digest => {
            let index: LogIndex = question(body)?;
            Ok(codec::encode(&digest_at(&inner, index).await))
        }
        Kind::Member => {
            let change: MemberChange = question(body)?;
            let group = Group {
                inner: inner.clone(),
            };
            Ok(codec::encode(&group.change_here(change).await))
        }
        Kind::Supports => Ok(codec::encode(&FEATURE_LEVEL_SUPPORTED)),
        Kind::History => Ok(codec::encode(
            &taken::rows_here(&inner, question(body)?).await?,
        )),
        Kind::DomainKey => {
            let version: u32 = question(body)?;
            let receiver = lock(&inner.receiver).clone();
            let found = receiver.and_then(|receiver| receiver.domain_key(version));
            Ok(codec::encode(&found))
        }
        Kind::Deliver => Err("only a courier of another Region delivers".to_owned()),
    }
}

/// Flips a bit in every second chunk, as a network without checksums might.
fn damage(chunk: &mut [u8], entropy: &dyn Entropy) {
    let mut draw = [0; 8];
    entropy.fill(&mut draw);
    let draw = usize::from_le_bytes(draw);
    if draw.is_multiple_of(2) {
        let at = (draw >> 8) % chunk.len();
        chunk[at] ^= 1;
    }
}

async fn digest_at(inner: &Inner, index: LogIndex) -> DigestAnswer {
    let mut applied = inner.shared.applied.subscribe();
    let there = applied.wait_for(|applied| *applied >= index);
    if !matches!(tokio::time::timeout(DIGEST_WAIT, there).await, Ok(Ok(_))) {
        return DigestAnswer::Behind;
    }
    inner
        .shared
        .digest_at(index)
        .map_or(DigestAnswer::Forgotten, DigestAnswer::Digest)
}

fn question<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    codec::decode(body).map_err(|error| error.to_string())
}

fn answer<T: Serialize, E: std::fmt::Display>(result: Result<T, E>) -> Result<Vec<u8>, String> {
    result
        .map(|value| codec::encode(&value))
        .map_err(|error| error.to_string())
}
