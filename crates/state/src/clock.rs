//! The Region's clock: AdvanceClock, ConfirmClock, and how it follows the proposers' clocks.
//!
//! The clock is a base plus an offset. The base is the largest time that was proposed and taken;
//! the offset is what AdvanceClock added. Neither ever goes back.
//!
//! A proposal may move the base ahead by [`CLOCK_JUMP_MAX_MS`] at most, so one node whose own
//! clock is wrong cannot delete keys before their time. A larger jump needs ConfirmClock, which
//! takes what more than half of the voters' own clocks have reached. That holds for a new Region
//! too: its base is 0, so its first command must be a ConfirmClock. Nothing but a majority's
//! clocks can tell a right first time from a wrong one.
//!
//! A proposer whose clock is behind is taken as it is; its command happens at the base.

use std::collections::BTreeMap;

use keyrum_types::{NodeId, UnixMillis};

use crate::{Command, Event, Outcome, Proposal, Refusal, State};

/// How far ahead of the clock's base a proposal's own time may be, in milliseconds.
pub const CLOCK_JUMP_MAX_MS: u64 = 60_000;

fn base(state: &State) -> UnixMillis {
    state.registers().clock_base
}

/// Whether the proposer's clock is one to follow.
pub(crate) fn admit(state: &State, proposal: &Proposal) -> Result<(), Refusal> {
    let confirms = matches!(proposal.command, Command::ConfirmClock { .. });
    if confirms || proposal.now <= base(state).plus_ms(CLOCK_JUMP_MAX_MS) {
        return Ok(());
    }
    Err(unconfirmed(state, proposal.now))
}

fn unconfirmed(state: &State, proposed: UnixMillis) -> Refusal {
    Refusal::ClockUnconfirmed {
        proposed,
        region: base(state),
    }
}

/// Lets the time of an admitted proposal pass, whether its command is refused or not.
pub(crate) fn pass(state: &mut State, proposal: &Proposal) {
    // The time beside a ConfirmClock is one proposer's word; what it carries is a majority's.
    if !matches!(proposal.command, Command::ConfirmClock { .. }) {
        confirmed(state, proposal.now);
    }
}

pub(crate) fn advance(by_ms: u64) -> Outcome {
    Ok(if by_ms == 0 {
        vec![]
    } else {
        vec![Event::ClockAdvanced { by_ms }]
    })
}

pub(crate) fn confirm(
    state: &State,
    proposed: UnixMillis,
    clocks: &[(NodeId, UnixMillis)],
    voters: u32,
) -> Outcome {
    let majority = voters as usize / 2 + 1;
    // One voice a node; of two, the one that confirms less.
    let mut voices: BTreeMap<NodeId, UnixMillis> = BTreeMap::new();
    for &(node, clock) in clocks {
        voices
            .entry(node)
            .and_modify(|voice| *voice = clock.min(*voice))
            .or_insert(clock);
    }
    let mut reached: Vec<UnixMillis> = voices.into_values().collect();
    // More voices than voters would make a majority of them less than half of the voters.
    if voters == 0 || reached.len() < majority || reached.len() > voters as usize {
        return Err(unconfirmed(state, proposed));
    }
    reached.sort_unstable_by(|one, other| other.cmp(one));
    let now = reached[majority - 1];
    Ok(if now > base(state) {
        vec![Event::ClockConfirmed { now }]
    } else {
        vec![]
    })
}

pub(crate) fn advanced(state: &mut State, by_ms: u64) {
    state.edit_registers(|registers| {
        registers.clock_offset_ms = registers.clock_offset_ms.saturating_add(by_ms);
    });
}

pub(crate) fn confirmed(state: &mut State, now: UnixMillis) {
    state.edit_registers(|registers| registers.clock_base = registers.clock_base.max(now));
}
