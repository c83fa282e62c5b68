//! The memory of recent requests, so that a retry inside the cluster never applies twice.
//!
//! For each node the state remembers the answers to the latest requests of its newest boot.
//! Requests may come out of order; what is older than the memory, or of an older boot, is
//! answered [`Refusal::OutcomeUnknown`], never applied.
//!
//! Everything is bounded, in answers, bytes and nodes, and what is forgotten depends on the log
//! alone. When more than [`WINDOWS_MAX`] nodes have answers, the node that proposed least recently
//! keeps only how far it had come. Node ids are never reused, so more than [`NODES_MAX`] nodes in
//! a Region's life are not expected; then the least recent is forgotten altogether.

use std::sync::Arc;

use keyrum_types::NodeId;

use crate::codec;
use crate::contents::{Row, RowName, Window};
use crate::{Outcome, Refusal, RequestId, State};

/// How many answers are remembered for one node.
pub const REQUESTS_PER_NODE_MAX: u32 = 1024;

/// How many bytes the answers remembered for one node have at most, except that the latest is
/// always remembered. Usual answers have a few hundred; a policy may have 32 KiB.
pub const ANSWERS_PER_NODE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// For how many nodes answers are remembered.
pub const WINDOWS_MAX: usize = 64;

/// Of how many nodes anything is remembered.
pub const NODES_MAX: usize = 1024;

/// What the request led to, if it was seen before or is too old to tell.
pub(crate) fn recall(state: &State, request: RequestId) -> Option<Outcome> {
    let window = state.windows().get(&request.node)?;
    if request.boot > window.boot {
        return None;
    }
    if request.boot < window.boot || request.sequence < window.floor {
        return Some(Err(Refusal::OutcomeUnknown));
    }
    let answer = state.answer(request.node, request.sequence)?;
    Some(codec::decode(answer).expect("answers are written by this module or checked when read"))
}

/// Remembers what the request led to. It was not seen before: [`recall`] said so.
pub(crate) fn remember(state: &mut State, request: RequestId, outcome: &Outcome) {
    let RequestId {
        node,
        boot,
        sequence,
    } = request;
    let former = state.windows().get(&node).copied();
    let last_used = state.registers().clock_base;
    let mut window = match former {
        Some(former) if former.boot == boot => Window {
            last_used,
            ..former
        },
        Some(_) => {
            forget_answers(state, node);
            Window {
                boot,
                floor: 0,
                answers: 0,
                bytes: 0,
                last_used,
            }
        }
        None => Window {
            boot,
            floor: 0,
            answers: 0,
            bytes: 0,
            last_used,
        },
    };
    if former.is_none_or(|former| former.answers == 0) {
        make_room(state, node);
    }
    let outcome: Arc<[u8]> = codec::encode(outcome).into();
    window.answers += 1;
    window.bytes += outcome.len() as u64;
    state.put(Row::Answer {
        node,
        sequence,
        outcome,
    });
    while window.answers > REQUESTS_PER_NODE_MAX
        || (window.bytes > ANSWERS_PER_NODE_BYTES_MAX && window.answers > 1)
    {
        let (oldest, outcome) = state
            .answers(node)
            .next()
            .expect("the window counts its answers");
        window.answers -= 1;
        window.bytes -= outcome.len() as u64;
        window.floor = oldest.saturating_add(1);
        state.remove(RowName::Answer(node, oldest));
    }
    state.put(Row::Window { node, window });
}

/// Forgets answers, and nodes, until one more node can have answers.
fn make_room(state: &mut State, newcomer: NodeId) {
    let others = |state: &State| -> Vec<(NodeId, Window)> {
        let windows = state
            .windows()
            .iter()
            .map(|(&node, &window)| (node, window));
        windows.filter(|(node, _)| *node != newcomer).collect()
    };
    let least_recent = |windows: Vec<(NodeId, Window)>| {
        let least = windows
            .into_iter()
            .min_by_key(|(node, window)| (window.last_used, *node));
        least.expect("a full memory is not empty")
    };
    let with_answers: Vec<_> = others(state)
        .into_iter()
        .filter(|(_, window)| window.answers > 0)
        .collect();
    if with_answers.len() >= WINDOWS_MAX {
        let (node, window) = least_recent(with_answers);
        let newest = state.answers(node).next_back();
        let floor = newest.map_or(window.floor, |(sequence, _)| sequence.saturating_add(1));
        forget_answers(state, node);
        state.put(Row::Window {
            node,
            window: Window {
                floor,
                answers: 0,
                bytes: 0,
                ..window
            },
        });
    }
    let known = others(state);
    if known.len() >= NODES_MAX {
        let (node, _) = least_recent(known);
        forget_answers(state, node);
        state.remove(RowName::Window(node));
    }
}

fn forget_answers(state: &mut State, node: NodeId) {
    let sequences: Vec<u64> = state.answers(node).map(|(sequence, _)| sequence).collect();
    for sequence in sequences {
        state.remove(RowName::Answer(node, sequence));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a memory that grows with the number of nodes, in answers or in nodes.
    #[test]
    fn nodes_are_bounded() {
        let mut state = State::new("us-east-1".parse().unwrap());
        let nodes = NODES_MAX as u64 + 100;
        for node in 0..nodes {
            for sequence in 0..2 {
                let request = RequestId {
                    node,
                    boot: 3,
                    sequence,
                };
                assert_eq!(recall(&state, request), None);
                remember(&mut state, request, &Ok(vec![]));
            }
        }
        assert_eq!(state.windows().size(), NODES_MAX);
        let with_answers = state.windows().values().filter(|window| window.answers > 0);
        assert_eq!(with_answers.count(), WINDOWS_MAX);
        // The clock stood still, so the node with the lowest id counts as least recent.
        let newest = RequestId {
            node: nodes - 1,
            boot: 3,
            sequence: 1,
        };
        assert_eq!(recall(&state, newest), Some(Ok(vec![])));
        let emptied = RequestId {
            node: nodes - 200,
            boot: 3,
            sequence: 1,
        };
        assert_eq!(recall(&state, emptied), Some(Err(Refusal::OutcomeUnknown)));
        assert_eq!(
            recall(
                &state,
                RequestId {
                    sequence: 2,
                    ..emptied
                }
            ),
            None
        );
        assert_eq!(state.digest(), state.recompute_digest());
    }

    /// Catches a state that cannot be handed to a reader on another thread.
    #[test]
    fn a_state_can_be_shared() {
        fn shared<T: Send + Sync + Clone + 'static>() {}
        shared::<State>();
    }
}
