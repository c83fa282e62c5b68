//! Replicas agree: after the same log entry every node has the same state, at all times, also a
//! node that came back and applied it a second time.

use std::collections::BTreeMap;

use keyrum_state::Digest;
use keyrum_types::{LogIndex, NodeId};

use super::Finding;

const CHECK: &str = "replicas-agree";

/// The digests seen so far.
#[derive(Debug, Default)]
pub struct Replicas {
    seen: BTreeMap<LogIndex, (Digest, NodeId)>,
    compared: u64,
}

impl Replicas {
    /// Takes the digest of a node's state right after a log entry.
    pub fn note(&mut self, node: NodeId, index: LogIndex, digest: Digest) -> Result<(), Finding> {
        let (first, whose) = *self.seen.entry(index).or_insert((digest, node));
        if whose != node {
            self.compared += 1;
        }
        if first == digest {
            return Ok(());
        }
        Err(Finding::new(
            CHECK,
            format_args!(
                "at log index {index} node {whose} had digest {first}, node {node} has {digest}"
            ),
        ))
    }

    /// How often two nodes' digests at one index were compared.
    pub fn compared(&self) -> u64 {
        self.compared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a check that overlooks a replica that differs, or a replay that does.
    #[test]
    fn a_difference_at_one_index_is_found() {
        let mut replicas = Replicas::default();
        assert!(replicas.note(1, 5, Digest(50)).is_ok());
        assert!(replicas.note(2, 6, Digest(60)).is_ok());
        assert!(replicas.note(2, 5, Digest(50)).is_ok());
        assert_eq!(replicas.compared(), 1);
        assert!(replicas.note(3, 6, Digest(61)).is_err());
        assert!(
            replicas.note(1, 5, Digest(51)).is_err(),
            "its own replay differs"
        );
    }
}
