//! Compares this node's state with the other voters', by digest at equal log indexes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keyrum_state::Digest;
use keyrum_types::{LogIndex, NodeId};
use tokio::sync::watch;

use crate::group::Inner;
use crate::handler::DigestAnswer;
use crate::peers::Kind;

/// How long after a change the digests are compared: many changes share one comparison.
const COMPARE_AFTER: Duration = Duration::from_millis(500);

/// How long another node may take to answer: it may have to catch up first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// What a comparison says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// A majority, this node among it, has this digest.
    Agreed,
    /// A majority has another digest: this node is wrong.
    Wrong,
    /// Some differ, and no digest has a majority among the answers.
    Undecided,
    /// Nobody differs, but too few answered.
    TooFew,
}

/// Compares whenever something was applied, until the node closes. Idle, it sleeps.
pub(crate) async fn compare_forever(inner: Arc<Inner>, mut closing: watch::Receiver<bool>) {
    let mut applied = inner.shared.applied.subscribe();
    let mut agreed_at: Option<LogIndex> = None;
    loop {
        let wait_and_compare = async {
            if agreed_at == Some(*applied.borrow_and_update()) && applied.changed().await.is_err() {
                return false;
            }
            tokio::time::sleep(COMPARE_AFTER).await;
            true
        };
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return,
            more = wait_and_compare => if !more { return },
        }
        let voters = inner.voters();
        // Before it knows its group a node has nobody to compare with.
        if voters.is_empty() || inner.stop_reason().is_some() {
            agreed_at = Some(*applied.borrow());
            continue;
        }
        if let Some(index) = compare(&inner, voters.iter().copied()).await {
            agreed_at = Some(index);
        }
    }
}

/// One comparison; gives the index if a majority agreed on this node's digest there.
async fn compare(inner: &Inner, voters: impl Iterator<Item = NodeId>) -> Option<LogIndex> {
    let index = inner.shared.live().index();
    let mine = inner.shared.digest_at(index)?;
    let me = inner.config.node;
    let mut digests = BTreeMap::new();
    let mut voter_count = 0;
    let mut asks = Vec::new();
    for node in voters {
        voter_count += 1;
        if node == me {
            digests.insert(me, mine);
        } else {
            let peer = inner.directory.requests(node);
            asks.push(async move { (node, peer.call(Kind::Digest, &index, ANSWER_TIMEOUT).await) });
        }
    }
    for (node, answer) in futures_util::future::join_all(asks).await {
        if let Ok(DigestAnswer::Digest(digest)) = answer {
            digests.insert(node, digest);
        }
    }
    match judge(mine, digests.values().copied(), voter_count) {
        Verdict::Agreed => {
            if inner.mutations_stopped.swap(None).is_some() {
                tracing::warn!(
                    index,
                    "a majority agrees on the state again; mutations go on"
                );
            }
            return Some(index);
        }
        Verdict::TooFew => {}
        Verdict::Wrong => inner.stop(format!(
            "the state of node {me} differs from the majority's at log index {index} (digest \
             {mine}, of all: {}); nothing acknowledged is lost, the majority has it. Remove this \
             node from its group and add a new one in its place",
            show(&digests)
        )),
        Verdict::Undecided => {
            let reason = format!(
                "the replicas differ at log index {index} ({}) and no majority can tell which is \
                 right; start the missing nodes",
                show(&digests)
            );
            tracing::error!(%reason, "mutations stop");
            inner.mutations_stopped.store(Some(Arc::new(reason)));
        }
    }
    None
}

fn judge(mine: Digest, digests: impl Iterator<Item = Digest>, voters: usize) -> Verdict {
    let mut counts: BTreeMap<u128, usize> = BTreeMap::new();
    for digest in digests {
        *counts.entry(digest.0).or_default() += 1;
    }
    let majority = counts
        .iter()
        .find(|(_, count)| **count > voters / 2)
        .map(|(digest, _)| *digest);
    match majority {
        Some(digest) if digest == mine.0 => Verdict::Agreed,
        Some(_) => Verdict::Wrong,
        None if counts.keys().any(|digest| *digest != mine.0) => Verdict::Undecided,
        None => Verdict::TooFew,
    }
}

fn show(digests: &BTreeMap<NodeId, Digest>) -> String {
    let one = |(node, digest): (&NodeId, &Digest)| format!("node {node}: {digest}");
    digests.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a verdict without a majority, and a wrong node that goes on.
    #[test]
    fn only_a_majority_judges() {
        let [a, b, c] = [Digest(1), Digest(2), Digest(3)];
        let judge = |mine, all: &[Digest], voters| judge(mine, all.iter().copied(), voters);
        assert_eq!(judge(a, &[a, a, b], 3), Verdict::Agreed);
        assert_eq!(judge(b, &[a, a, b], 3), Verdict::Wrong);
        assert_eq!(judge(a, &[a, b], 3), Verdict::Undecided);
        assert_eq!(judge(a, &[a, b, c], 3), Verdict::Undecided);
        assert_eq!(judge(a, &[a], 3), Verdict::TooFew);
        assert_eq!(judge(a, &[a, a], 3), Verdict::Agreed);
        assert_eq!(judge(a, &[b, b], 3), Verdict::Wrong);
        assert_eq!(judge(a, &[a], 1), Verdict::Agreed);
        assert_eq!(judge(a, &[a, a, b, b], 5), Verdict::Undecided);
    }
}
