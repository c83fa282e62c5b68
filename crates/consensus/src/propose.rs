//! Proposing: from any node to the leader's log, exactly once, with an honest answer.

use std::collections::BTreeSet;
use std::time::Duration;

use keyrum_state::{Applied, Caller, Command, FEATURE_LEVEL_SUPPORTED, Outcome, Proposal, Refusal};
use keyrum_types::{LogIndex, NodeId, SealedMaterial, UnixMillis};
use openraft::errors::{ClientWriteError, RaftError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::group::{Group, Inner};
use crate::handler::DigestAnswer;
use crate::limit::give_up_at;
use crate::peers::{CallError, Kind};
use crate::types::EncodedProposal;

/// How long a caller waits for its command; together with the way there and back an answer
/// comes within 5 s.
const PROPOSE_LIMIT: Duration = Duration::from_millis(4500);

/// How long a node waits before it tries a leader again that did not take a command.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// How long another node may take to tell its clock.
const CLOCK_TIMEOUT: Duration = Duration::from_millis(1500);

/// A command that was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Its position in the Region's log.
    pub index: LogIndex,
    /// What it did, or why it was refused.
    pub outcome: Outcome,
}

/// Why a command has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// No leader took it in time. Nothing was proposed: it will not be carried out later.
    #[error("the Region has no quorum; nothing was proposed")]
    NoQuorum,
    /// It was sent, and no answer came in time. It may be carried out, now or later, or not.
    #[error("the outcome is unknown: the command was sent, and no answer came in time")]
    OutcomeUnknown,
    /// Replicas of the state differ and no majority can tell which is right.
    #[error("mutations are stopped: {reason}")]
    MutationsStopped {
        /// What differs.
        reason: String,
    },
    /// This node has stopped.
    #[error("this node has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

/// What a leader answers another node.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ProposeAnswer {
    Applied {
        index: LogIndex,
        applied: Applied,
    },
    /// Not taken: nothing was proposed.
    NotLeader,
    /// Taken, fate unknown.
    Unknown,
    MutationsStopped {
        reason: String,
    },
}

impl Group {
    /// Has a command decided, from any node. `now` is the caller's own clock.
    ///
    /// Retries inside with one request id until the time is over, so a command is applied at
    /// most once however often leaders change.
    pub async fn propose(
        &self,
        caller: Option<Caller>,
        now: UnixMillis,
        command: Command,
    ) -> Result<Done, ProposeError> {
        let deadline = give_up_at(PROPOSE_LIMIT);
        let mut proposal = Proposal {
            request: self.inner.next_request(),
            caller,
            now,
            command,
        };
        let mut sent = false;
        loop {
            let encoded = encode(&proposal);
            let (index, applied) = self.submit(encoded, deadline, &mut sent).await?;
            match applied.outcome {
                Err(Refusal::ClockUnconfirmed { .. }) => {
                    // Decided, and nothing happened. An earlier attempt whose fate is unknown
                    // stays unknown.
                    proposal.now = self.confirm_clock(proposal.now, deadline).await?;
                }
                Err(Refusal::OutcomeUnknown) => return Err(ProposeError::OutcomeUnknown),
                outcome => return Ok(Done { index, outcome }),
            }
        }
    }

    /// Gets a jump of the Region's clock confirmed by a majority's own clocks, and gives the time
    /// a command may carry: `now`, or what the majority says if that is less.
    async fn confirm_clock(
        &self,
        now: UnixMillis,
        deadline: Instant,
    ) -> Result<UnixMillis, ProposeError> {
        let asking = self.inner.confirmed_clock.lock();
        let Ok(mut last_confirmed) = tokio::time::timeout_at(deadline, asking).await else {
            return Err(ProposeError::NoQuorum);
        };
        if now <= last_confirmed.plus_ms(keyrum_state::CLOCK_JUMP_MAX_MS) {
            // Another caller had it confirmed while this one waited.
            return Ok(now);
        }
        let (voters, clocks, confirmed) = loop {
            let voters = self.inner.voters().len();
            let asking = tokio::time::timeout_at(deadline, self.ask_clocks());
            let clocks = asking.await.unwrap_or_default();
            let mut times: Vec<_> = clocks.iter().map(|(_, clock)| *clock).collect();
            times.sort_unstable_by(|a, b| b.cmp(a));
            if let Some(confirmed) = times.get(voters / 2) {
                break (voters, clocks, *confirmed);
            }
            let pause = Instant::now() + RETRY_PAUSE;
            if pause >= deadline {
                return Err(ProposeError::NoQuorum);
            }
            tokio::time::sleep_until(pause).await;
        };
        let proposal = Proposal {
            request: self.inner.next_request(),
            caller: None,
            now: confirmed,
            command: Command::ConfirmClock {
                clocks,
                voters: u32::try_from(voters).expect("a group has few voters"),
            },
        };
        let submitted = self.submit(encode(&proposal), deadline, &mut false).await;
        let (_, applied) = match submitted {
            // Whether the clock was confirmed is unknown; the caller's command was not proposed.
            Err(ProposeError::OutcomeUnknown) => return Err(ProposeError::NoQuorum),
            submitted => submitted?,
        };
        match applied.outcome {
            Ok(_) => *last_confirmed = confirmed,
            Err(refusal) => tracing::warn!(%refusal, "a jump of the clock was refused"),
        }
        Ok(now.min(confirmed))
    }

    /// The clocks of the voters that answer.
    async fn ask_clocks(&self) -> Vec<(NodeId, UnixMillis)> {
        let clock = self.inner.world.clock.now();
        self.ask_all(self.inner.voters(), Kind::Clock, &(), clock)
            .await
    }

    /// The version of the domain key as each other member that has it gives it: wrapped for the Region.
    pub async fn ask_for_domain_key(&self, version: u32) -> Vec<SealedMaterial> {
        let answers = self
            .ask_all(self.inner.members(), Kind::DomainKey, &version, None)
            .await;
        answers.into_iter().filter_map(|(_, given)| given).collect()
    }

    /// The members that have not applied an entry, as far as they answer.
    pub(crate) async fn without(&self, index: LogIndex) -> BTreeSet<NodeId> {
        let mut members = self.inner.members();
        let applied = DigestAnswer::Forgotten;
        let answers = self
            .ask_all(members.clone(), Kind::Digest, &index, applied)
            .await;
        let has = |answer: &DigestAnswer| *answer != DigestAnswer::Behind;
        for (node, _) in answers.iter().filter(|(_, answer)| has(answer)) {
            members.remove(node);
        }
        members
    }

    /// What those of `nodes` that answer say; this node says `own`.
    async fn ask_all<Q: Serialize, T: Clone + DeserializeOwned>(
        &self,
        nodes: BTreeSet<NodeId>,
        kind: Kind,
        question: &Q,
        own: T,
    ) -> Vec<(NodeId, T)> {
        let own = &own;
        let ask = |node: NodeId| async move {
            if node == self.inner.config.node {
                return Some((node, own.clone()));
            }
            let peer = self.inner.directory.requests(node);
            let answer = peer.call(kind, question, CLOCK_TIMEOUT).await.ok()?;
            Some((node, answer))
        };
        let answers = futures_util::future::join_all(nodes.into_iter().map(ask)).await;
        answers.into_iter().flatten().collect()
    }

    /// On the node that leads: switches on the newest rules that every member's program knows. Gives
    /// whether there was nothing to do, or it is done.
    pub async fn raise_feature_level(&self) -> bool {
        let level = self.state().feature_level();
        if level >= FEATURE_LEVEL_SUPPORTED {
            return true;
        }
        let members = self.inner.members();
        let count = members.len();
        let answers = self
            .ask_all(members, Kind::Supports, &(), FEATURE_LEVEL_SUPPORTED)
            .await;
        let common = answers.iter().map(|(_, level)| *level).min();
        // A member that does not answer may run a program that would have to stop.
        let Some(common) = common.filter(|common| *common > level && answers.len() == count) else {
            return false;
        };
        let command = Command::RaiseFeatureLevel { level: common };
        let now = self.inner.world.clock.now();
        match self.propose(None, now, command).await {
            Ok(_) => common >= FEATURE_LEVEL_SUPPORTED,
            Err(error) => {
                tracing::debug!(%error, "the feature level could not be raised");
                false
            }
        }
    }

    /// Gets one encoded proposal applied. `sent` tells, also after an error, whether it may have
    /// reached a log.
    async fn submit(
        &self,
        proposal: EncodedProposal,
        deadline: Instant,
        sent: &mut bool,
    ) -> Result<(LogIndex, Applied), ProposeError> {
        let mut leaders = self.inner.leader.subscribe();
        loop {
            if let Some(reason) = self.inner.stop_reason() {
                return Err(gave_up(*sent, ProposeError::Stopped { reason }));
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(gave_up(*sent, ProposeError::NoQuorum));
            }
            let leader = *leaders.borrow_and_update();
            let answer = match leader {
                None => {
                    let _ = tokio::time::timeout_at(deadline, leaders.changed()).await;
                    continue;
                }
                Some(leader) if leader == self.inner.config.node => {
                    let here = self.inner.propose_here(proposal.clone());
                    match tokio::time::timeout_at(deadline, here).await {
                        Ok(answer) => answer,
                        Err(_) => ProposeAnswer::Unknown,
                    }
                }
                Some(leader) => {
                    let peer = self.inner.directory.requests(leader);
                    match peer.call(Kind::Propose, &proposal, deadline - now).await {
                        Ok(answer) => answer,
                        Err(CallError::NoAnswer { .. }) => ProposeAnswer::Unknown,
                        Err(CallError::Unreachable { .. } | CallError::Failed { .. }) => {
                            ProposeAnswer::NotLeader
                        }
                    }
                }
            };
            match answer {
                ProposeAnswer::Applied { index, applied } => return Ok((index, applied)),
                ProposeAnswer::NotLeader => {}
                ProposeAnswer::Unknown => *sent = true,
                ProposeAnswer::MutationsStopped { reason } => {
                    return Err(gave_up(*sent, ProposeError::MutationsStopped { reason }));
                }
            }
            let pause = (Instant::now() + RETRY_PAUSE).min(deadline);
            let _ = tokio::time::timeout_at(pause, leaders.changed()).await;
        }
    }
}

impl Inner {
    /// Proposes on this node, which leads as far as the asker knows.
    pub(crate) async fn propose_here(&self, proposal: EncodedProposal) -> ProposeAnswer {
        if let Some(reason) = self.mutations_stopped.load_full() {
            return ProposeAnswer::MutationsStopped {
                reason: (*reason).clone(),
            };
        }
        match self.raft.client_write(proposal).await {
            Ok(response) => ProposeAnswer::Applied {
                index: response.log_id.index,
                applied: response
                    .data
                    .0
                    .expect("a proposal gives a result when applied"),
            },
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                ProposeAnswer::NotLeader
            }
            Err(error) => {
                tracing::debug!(%error, "a proposal's fate is unknown");
                ProposeAnswer::Unknown
            }
        }
    }
}

fn encode(proposal: &Proposal) -> EncodedProposal {
    EncodedProposal(keyrum_state::codec::encode_proposal(proposal).into())
}

/// What was sent may still be carried out, whatever ended the attempt.
fn gave_up(sent: bool, otherwise: ProposeError) -> ProposeError {
    if sent {
        ProposeError::OutcomeUnknown
    } else {
        otherwise
    }
}
