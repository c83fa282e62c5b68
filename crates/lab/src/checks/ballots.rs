//! Votes are kept: a node that gave its vote never gives, nor shows, one of an earlier term or candidate,
//! however often it falls in between. Two leaders that both have a majority could follow.

use std::collections::BTreeMap;

use keyrum_consensus::Ballot;
use keyrum_types::NodeId;

use super::Finding;

const CHECK: &str = "ballots";

/// The last votes of one Region's nodes.
#[derive(Debug, Default)]
pub struct Ballots {
    last: BTreeMap<NodeId, Ballot>,
}

impl Ballots {
    /// Takes the vote that a node shows.
    pub fn note(&mut self, node: NodeId, ballot: Ballot) -> Result<(), Finding> {
        let last = self.last.entry(node).or_insert(ballot);
        if *last <= ballot {
            *last = ballot;
            return Ok(());
        }
        let words = |ballot: Ballot| format!("node {} in term {}", ballot.candidate, ballot.term);
        let (had, has) = (words(*last), words(ballot));
        let what = format_args!("node {node} voted for {had}, and shows a vote for {has} after it");
        Err(Finding::new(CHECK, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a check that overlooks a vote that was forgotten, in an earlier term or within one, or that
    /// mixes nodes up.
    #[test]
    fn a_vote_that_goes_back_is_found() {
        let mut ballots = Ballots::default();
        let mut note = |node, term, candidate| {
            let ballot = Ballot { term, candidate };
            ballots.note(node, ballot).is_ok()
        };
        assert!(note(1, 2, 3) && note(1, 2, 3) && note(1, 4, 1));
        assert!(note(2, 1, 2));
        assert!(!note(1, 2, 3), "an earlier term");
        assert!(note(1, 5, 2));
        assert!(!note(1, 5, 1), "another candidate of the term");
    }
}
