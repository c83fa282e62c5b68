//! Which rules hold: RaiseFeatureLevel.
//!
//! | level | since then |
//! |---|---|
//! | 1 | the first: a key answers to every caller of the account that owns it |
//! | 2, 3 | the same: logs of the first builds may have raised to them |
//! | 4 | policies, grants and identities decide; proposals may carry a caller's details |
//! | 5 | the domain key can be rotated; what is sealed under a retired version is refused |
//!
//! Whether every member supports a level is for the proposer to know. `decide` takes any higher
//! level, since a build that refused what it does not know would differ from one that does; a
//! node whose build supports less than the level the state then has must stop.

use crate::{Event, Outcome, Refusal, State};

/// From which level on policies, grants and identities decide.
pub const AUTHORIZATION_LEVEL: u32 = 4;

pub(crate) fn raise(state: &State, level: u32) -> Outcome {
    let present = state.feature_level();
    if level <= present {
        return Err(Refusal::FeatureLevelNotHigher { level: present });
    }
    Ok(vec![Event::FeatureLevelRaised { level }])
}

pub(crate) fn raised(state: &mut State, level: u32) {
    state.edit_registers(|registers| registers.feature_level = level);
}
