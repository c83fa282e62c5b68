//! Reads: a consistent view of the state, as fresh as the caller asks.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use keyrum_state::State;
use keyrum_types::planted::{self, Bug};
use keyrum_types::{LogIndex, NodeId};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::ReadPolicy;
use openraft::{Instant as _, ServerState};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::group::{Group, Inner, LEASE};
use crate::limit::give_up_at;
use crate::peers::{CallError, Kind, lock};

/// How long a reader waits; together with the way there and back an answer comes within 5 s.
const READ_LIMIT: Duration = Duration::from_millis(4500);

/// How long a node waits before it asks again for a read index that it did not get.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// How long one round, to the leader and to its followers, may take.
const ROUND_TIMEOUT: Duration = Duration::from_millis(1500);

/// Most questions to one node whether it follows that have no answer yet. More than all nodes' readers have
/// under way at once; fewer than what a frozen node would be asked meanwhile.
const ASKED_MAX: u32 = 16;

/// How fresh a read is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadMode {
    /// Reflects every command acknowledged before the read began: the leader proves with a round
    /// to a quorum that it still leads.
    #[default]
    Linearizable,
    /// The same, as long as no clock runs away: the leader relies on its lease instead.
    Lease,
    /// What this node has applied so far; possibly stale.
    Local,
    /// What this node had applied some time ago; the same as `Local` unless
    /// [`Group::delay_eventual_reads`] says how long.
    Eventual,
}

/// Why there is no view.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader could prove in time that it leads.
    #[error("the Region has no quorum")]
    NoQuorum,
    /// This node has stopped.
    #[error("this node has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

/// What a node asks another one for the sake of a read. The first two are what a program that knows no more
/// takes for a truth value; it refuses the third, and the call fails.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum ReadQuestion {
    /// The leader: the read index, by a round to a quorum.
    Index,
    /// The leader: the read index, by its lease if it holds one.
    LeaseIndex,
    /// Anybody: whether it follows this leader of this term, and has voted for no other since.
    Follows(u64, NodeId),
}

/// The answer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ReadAnswer {
    Index(LogIndex),
    NotNow,
    Follows(bool),
}

/// Readers that share a round: those that come while one is under way all join the next.
#[derive(Default)]
pub(crate) struct Rounds(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    readers: Vec<oneshot::Sender<LogIndex>>,
    running: bool,
}

impl Group {
    /// A view of the state, as fresh as `mode` says.
    pub async fn read(&self, mode: ReadMode) -> Result<Arc<State>, ReadError> {
        let inner = &self.inner;
        let stopped = |reason| ReadError::Stopped { reason };
        if let Some(reason) = inner.stop_reason() {
            return Err(stopped(reason));
        }
        let lease = match mode {
            ReadMode::Local => return Ok(self.state()),
            ReadMode::Eventual => return Ok(inner.shared.eventual_view().state.clone()),
            ReadMode::Linearizable => false,
            ReadMode::Lease => true,
        };
        let deadline = give_up_at(READ_LIMIT);
        let by_lease = lease.then(|| inner.index_by_lease()).flatten();
        let index = match by_lease {
            Some(index) => Some(index),
            None => inner.index_by_round(lease, deadline).await,
        };
        let state = match index {
            Some(index) => inner.state_at(index, deadline).await,
            None => None,
        };
        state.ok_or_else(|| inner.stop_reason().map_or(ReadError::NoQuorum, stopped))
    }
}

/// Runs rounds until nobody waits.
async fn run_rounds(inner: Arc<Inner>, rounds: Arc<Rounds>, lease: bool) {
    let mut readers = Vec::new();
    loop {
        {
            let mut waiting = lock(&rounds.0);
            readers.append(&mut waiting.readers);
            // Those whose time is over have gone; a round for nobody is not run.
            readers.retain(|reader: &oneshot::Sender<LogIndex>| !reader.is_closed());
            if readers.is_empty() || inner.stop_reason().is_some() || inner.is_closing() {
                waiting.running = false;
                return;
            }
        }
        let round = tokio::time::timeout(ROUND_TIMEOUT, one_round(&inner, lease)).await;
        match round {
            Ok(Some(index)) => {
                for reader in readers.drain(..) {
                    let _ = reader.send(index);
                }
            }
            Ok(None) | Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
        }
    }
}

/// One round, here or at the leader.
async fn one_round(inner: &Arc<Inner>, lease: bool) -> Option<LogIndex> {
    let leader = (*inner.leader.borrow())?;
    if leader == inner.config.node {
        return inner.ask_raft().await;
    }
    let peer = inner.directory.requests(leader);
    let question = match lease {
        true => ReadQuestion::LeaseIndex,
        false => ReadQuestion::Index,
    };
    match peer.call(Kind::ReadIndex, &question, ROUND_TIMEOUT).await {
        Ok(ReadAnswer::Index(index)) => Some(index),
        Ok(ReadAnswer::NotNow | ReadAnswer::Follows(_)) => None,
        Err(error) => {
            tracing::debug!(%error, "no read index from the leader");
            None
        }
    }
}

impl Inner {
    /// A read index by a round, shared with others who read; `None` if there is none in time.
    async fn index_by_round(self: &Arc<Self>, lease: bool, deadline: Instant) -> Option<LogIndex> {
        let rounds = match lease {
            true => &self.lease,
            false => &self.read_index,
        };
        let (reader, index) = oneshot::channel();
        let index = async { tokio::time::timeout_at(deadline, index).await.ok()?.ok() };
        let start = {
            let mut waiting = lock(&rounds.0);
            waiting.readers.push(reader);
            !std::mem::replace(&mut waiting.running, true)
        };
        if !start {
            return index.await;
        }
        // Others will share it, whoever begins it.
        let running = run_rounds(self.clone(), rounds.clone(), lease);
        let tasks = &self.world.tasks;
        if !tasks.is_serving() {
            tasks.spawn_serving(running);
            return index.await;
        }
        let mut index = pin!(index);
        tokio::select! {
            biased;
            () = tasks.begin_here(running) => index.await,
            index = &mut index => index,
        }
    }

    /// The state once it reflects an entry; `None` if it does not in time, or never will.
    async fn state_at(&self, index: LogIndex, deadline: Instant) -> Option<Arc<State>> {
        let mut shown = self.shared.shown.subscribe();
        if let Some(view) = self.shared.view_at_once()
            && view.index >= index
        {
            return Some(view.state.clone());
        }
        // What is being applied is told as soon as that is done. After that, a reader takes its chance with
        // the next entries on its thread, or those might always come first.
        let there = async {
            loop {
                shown.changed().await.ok()?;
                if *shown.borrow_and_update() >= index {
                    return Some(self.shared.view().state.clone());
                }
            }
        };
        let mut stop = self.stop_watch();
        tokio::select! {
            biased;
            state = tokio::time::timeout_at(deadline, there) => state.ok().flatten(),
            _ = stop.wait_for(Option::is_some) => None,
        }
    }

    /// Whether this node leads under a lease, and all that earlier leaders acknowledged is
    /// applied here: then what it has applied is as fresh as a linearizable read, as long as no
    /// clock runs away. False is always safe: the long way is a round to a quorum.
    fn holds_lease(&self) -> bool {
        let metrics = self.metrics.borrow_watched();
        let Some(acked) = &metrics.last_quorum_acked else {
            return false;
        };
        let me = self.config.node;
        let membership = metrics.membership_config.membership();
        metrics.state == ServerState::Leader
            // Learned from a round of this term, after which its first entry was applied.
            && metrics.current_term == self.lease_term.load(Ordering::Acquire)
            // Whoever hands over, or is removed, lets another lead before the lease is over.
            && !self.handing_over.load(Ordering::Acquire)
            && membership.get_joint_config().iter().all(|voters| voters.contains(&me))
            && acked.elapsed() < LEASE
    }

    /// How far this Region's log may be known to anybody as carried out, if this node leads and has applied
    /// its term's first entry: callers are answered, and shown what it did, when an entry is applied here,
    /// but another node may apply it earlier, once it is told.
    fn acknowledged(&self) -> LogIndex {
        let told = self.directory.told.load(Ordering::SeqCst);
        told.max(self.shared.index())
    }

    /// A read index by the lease. It is looked at twice: after the first time this node knows all of earlier
    /// terms; until the second no other leader has acknowledged anything.
    fn index_by_lease(&self) -> Option<LogIndex> {
        if !self.holds_lease() {
            return None;
        }
        let index = self.acknowledged();
        self.holds_lease().then_some(index)
    }

    /// A read index by a round of this node's own, to which followers answer at once: openraft's is a
    /// heartbeat, and that is answered only when all appended before it is on the follower's disk. `None`
    /// if no quorum says that it follows, or if this node has yet to learn that it leads.
    ///
    /// Another leader that was elected before this began has the votes of a majority, and one of those
    /// nodes is asked here: a node says whom it follows as soon as it begins to keep its vote, so before
    /// anybody counts it.
    async fn ask_followers(&self) -> Option<LogIndex> {
        let me = self.config.node;
        let (term, quorums) = {
            let metrics = self.metrics.borrow_watched();
            // Of an earlier term's entries this node knows all once it has applied its own first one.
            if metrics.state != ServerState::Leader
                || metrics.current_term != self.lease_term.load(Ordering::Acquire)
            {
                return None;
            }
            let membership = metrics.membership_config.membership();
            (metrics.current_term, membership.get_joint_config().clone())
        };
        if self.promise.get() != Some((term, me)) {
            return None;
        }
        let index = self.acknowledged();
        let voters: BTreeSet<NodeId> = quorums.iter().flatten().copied().collect();
        let (say, mut said) = mpsc::channel(voters.len().max(1));
        let mut calls = Vec::new();
        for node in voters.into_iter().filter(|node| *node != me) {
            let asked = self.asked.clone();
            {
                let mut asked = lock(&asked);
                let open = asked.entry(node).or_default();
                if *open >= ASKED_MAX {
                    continue;
                }
                *open += 1;
            }
            let (peer, say) = (self.directory.requests(node), say.clone());
            calls.push(async move {
                let question = ReadQuestion::Follows(term, me);
                let answer: Result<ReadAnswer, _> =
                    peer.call(Kind::ReadIndex, &question, ROUND_TIMEOUT).await;
                if let Some(open) = lock(&asked).get_mut(&node) {
                    *open -= 1;
                }
                let follows = match answer {
                    Ok(answer) => answer == ReadAnswer::Follows(true),
                    // An older program does not know the question.
                    Err(CallError::Failed { .. }) => false,
                    Err(CallError::Unreachable { .. } | CallError::NoAnswer { .. }) => return,
                };
                let _ = say.send((node, follows)).await;
            });
        }
        drop(say);
        // Goes on when nobody waits for it any more, so that no connection is taken for sound that is not.
        let calls = join_all(calls).map(|_| ());
        let mut calls = self.world.tasks.begin_here(calls);
        let mut all_answered = false;
        let mut following = BTreeSet::from([me]);
        let is_quorum = |following: &BTreeSet<NodeId>| {
            let has_majority = |voters: &BTreeSet<NodeId>| {
                voters.intersection(following).count() > voters.len() / 2
            };
            quorums.iter().all(has_majority)
        };
        while !is_quorum(&following) {
            let answer = tokio::select! {
                biased;
                () = &mut calls, if !all_answered => {
                    all_answered = true;
                    continue;
                }
                answer = said.recv() => answer,
            };
            match answer? {
                (node, true) => following.insert(node),
                // Others may never answer.
                (_, false) => return None,
            };
        }
        Some(index)
    }

    async fn ask_raft(&self) -> Option<LogIndex> {
        if planted::is(Bug::ReadWithoutReadIndex) {
            return Some(self.shared.live().index());
        }
        if let Some(index) = self.ask_followers().await {
            return Some(index);
        }
        // Without a term that this node can judge itself, openraft's round to a quorum is always right.
        match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => {
                let read = linearizer.read_log_id();
                // A read index is at or after the first entry of the leader's term.
                if self.shared.index() >= read.index() {
                    let term = read.committed_leader_id().term;
                    self.lease_term.store(term, Ordering::Release);
                }
                Some(read.index())
            }
            Err(error) => {
                tracing::debug!(%error, "no read index");
                None
            }
        }
    }

    /// Answers another node that reads.
    pub(crate) async fn answer_reader(&self, question: ReadQuestion) -> ReadAnswer {
        match question {
            // At once: it waits neither for this node's disk nor for what is being applied.
            ReadQuestion::Follows(term, leader) => {
                return ReadAnswer::Follows(self.promise.get() == Some((term, leader)));
            }
            ReadQuestion::LeaseIndex => {
                if let Some(index) = self.index_by_lease() {
                    return ReadAnswer::Index(index);
                }
            }
            ReadQuestion::Index => {}
        }
        let round = tokio::time::timeout(ROUND_TIMEOUT, self.ask_raft()).await;
        match round {
            Ok(Some(index)) => ReadAnswer::Index(index),
            Ok(None) | Err(_) => ReadAnswer::NotNow,
        }
    }
}

#[cfg(test)]
#[path = "reads_tests.rs"]
mod tests;
