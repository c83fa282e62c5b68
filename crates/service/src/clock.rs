//! The Region's clock, seen from outside the log: what is due is proposed, and tests may move it.

use std::time::Duration;

use keyrum_consensus::ReadMode;
use keyrum_state::{Command, KeyRef, State};
use keyrum_types::{KeyState, UnixMillis};
use tokio::time::{Instant, sleep, sleep_until};

use crate::rotation::due_rotations;
use crate::{Service, ServiceError};

/// Shortest time between two looks at the state, so that a busy Region is not slowed down by
/// looking after every command.
const LOOK_MS_MIN: u64 = 200;

/// Longest sleep while something is due later: timers stand still while a machine is suspended,
/// its wall clock does not.
const LOOK_MS_MAX: u64 = 60_000;

/// How long to wait after what is due could not be proposed or was found not to be.
const RETRY_MS: u64 = 1_000;

/// From one part of the rotations of keys with replicas to the next, on the node that leads. With
/// [`crate::rotation::FAMILIES_AT_ONCE`] it makes some 310 of them a second: each costs every Region's
/// log several entries, nobody waits for it, and callers of the same nodes should not notice.
const FAMILIES_EVERY: Duration = Duration::from_millis(18);

/// Shortest time between two searches for kept material whose key can no longer be used.
const FORGET_MS: u64 = 5_000;

/// The latest a Region's clock may be moved to: 9999-12-31T23:59:59Z. Clients cannot read dates
/// after it, and a clock never goes back.
pub const CLOCK_MAX: UnixMillis = UnixMillis(253_402_300_799_000);

/// What a moved clock did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockAdvanced {
    /// The Region's clock now.
    pub now: UnixMillis,
    /// How many keys were deleted meanwhile because their wait was over.
    pub keys_deleted: u64,
    /// How many keys were rotated meanwhile because their date had come.
    pub keys_rotated: u64,
}

impl Service {
    /// Runs until this node stops: while it leads, proposes what is due when it is; on every node,
    /// forgets material that may no longer be used, and has the uses of keys recorded. Idle, it sleeps.
    pub async fn run_clock(&self) {
        tokio::select! {
            _ = self.inner.group.stopped() => {}
            () = self.look_at_the_clock() => {}
            () = self.record_uses() => {}
        }
    }

    async fn look_at_the_clock(&self) {
        let group = &self.inner.group;
        let (mut applied, mut leader) = (group.applied(), group.leader());
        let mut forget_at = Instant::now();
        loop {
            applied.borrow_and_update();
            leader.borrow_and_update();
            // What kept material is for is looked at after the last change too, if a little later.
            let mut wait = match Instant::now() >= forget_at {
                true => {
                    self.forget_unusable(&group.state());
                    forget_at = Instant::now() + Duration::from_millis(FORGET_MS);
                    None
                }
                false => (self.inner.materials.len() > 0).then_some(FORGET_MS),
            };
            if group.is_leader() {
                // No view of the state is held while asleep: it would keep what was deleted.
                let due = due_in_ms(&group.state(), self.inner.world.clock.now());
                let look = match due {
                    Some(0) => match self.carry_out_due().await {
                        // A majority's clocks say that it is not due yet.
                        Ok(0) => Some(RETRY_MS),
                        Ok(_) => continue,
                        Err(error) => {
                            tracing::debug!(%error, "what is due could not be proposed");
                            Some(RETRY_MS)
                        }
                    },
                    later => later.map(|ms| ms.min(LOOK_MS_MAX)),
                };
                let raise = (!group.raise_feature_level().await).then_some(RETRY_MS);
                wait = wait.into_iter().chain(look).chain(raise).min();
            }
            sleep(Duration::from_millis(LOOK_MS_MIN)).await;
            let later = async {
                match wait {
                    Some(ms) => sleep(Duration::from_millis(ms)).await,
                    None => std::future::pending().await,
                }
            };
            let changed = tokio::select! {
                changed = applied.changed() => changed,
                changed = leader.changed() => changed,
                () = later => Ok(()),
            };
            if changed.is_err() {
                return;
            }
        }
    }

    fn forget_unusable(&self, state: &State) {
        self.inner.materials.keep(|key| {
            let state = state.key(key).map(|key| key.state);
            matches!(state, Some(KeyState::Enabled | KeyState::Updating))
        });
    }

    /// Moves the Region's clock ahead for good and returns once everything that became due has
    /// happened. Test clusters only, and not past [`CLOCK_MAX`].
    ///
    /// The bound is kept here and not by the command, whose meaning old logs have fixed: calls
    /// that come at the same moment may together pass it.
    pub async fn advance_clock(&self, by_ms: u64) -> Result<ClockAdvanced, ServiceError> {
        if !self.inner.settings.test_clock {
            return Err(ServiceError::ClockNotForTests);
        }
        let group = &self.inner.group;
        let before = group.read(ReadMode::Linearizable).await?;
        check_reach(&before, self.inner.world.clock.now(), by_ms)?;
        self.propose_as_region(Command::AdvanceClock { by_ms })
            .await?;
        loop {
            let state = group.read(ReadMode::Linearizable).await?;
            // By the clock of the last command, which no later command can be behind.
            if next_due(&state).is_none_or(|due| due > state.clock()) {
                return Ok(advanced(&before, &state));
            }
            drop(state);
            self.carry_out_due().await?;
        }
    }

    /// Lets a bounded part of what is due happen; gives how many keys that changed.
    async fn carry_out_due(&self) -> Result<usize, ServiceError> {
        // One after the other on this node, or the second would propose the same again.
        let _turn = self.inner.carrying_out.lock().await;
        let began = Instant::now();
        let (deletions, rotations, families) = {
            let state = self.inner.group.state();
            let time = state.region_time(self.inner.world.clock.now());
            let deletions = state.next_due().is_some_and(|due| due <= time);
            let due = due_rotations(&state, time);
            let families = due.iter().any(|(key, _)| state.family(*key).is_some());
            (deletions, due, families)
        };
        let mut changed = 0;
        if deletions {
            changed += self.propose_as_region(Command::Tick).await?.len();
        }
        // Where keys have replicas, the node that leads keeps the pace alone.
        if !rotations.is_empty() && (!families || self.inner.group.is_leader()) {
            let rotations = self.with_material(rotations);
            let command = Command::RotateKeys { rotations };
            changed += self.propose_as_region(command).await?.len();
        }
        if families {
            sleep_until(began + FAMILIES_EVERY).await;
        }
        Ok(changed)
    }
}

/// What came of a moved clock, whoever proposed it: the leader sees what is due as soon as this
/// call does.
fn advanced(before: &State, after: &State) -> ClockAdvanced {
    let now = after.clock();
    let deleted = before.due_by(now).filter(|key| after.key(*key).is_none());
    let rotations = |state: &State, key: KeyRef| {
        let rotation = state.rotation(key);
        rotation.map_or(0, |rotation| rotation.rotations.len())
    };
    let due = before.rotations_due_by(now);
    let rotated = due.filter(|(key, _)| rotations(after, *key) > rotations(before, *key));
    ClockAdvanced {
        now,
        keys_deleted: deleted.count() as u64,
        keys_rotated: rotated.count() as u64,
    }
}

fn next_due(state: &State) -> Option<UnixMillis> {
    let dates = [state.next_due(), state.next_rotation_due()];
    dates.into_iter().flatten().min()
}

/// How long until something is due, by the Region's clock if the machine's says `machine`;
/// `None` if nothing ever is.
fn due_in_ms(state: &State, machine: UnixMillis) -> Option<u64> {
    let due = next_due(state)?;
    Some(due.0.saturating_sub(state.region_time(machine).0))
}

/// Whether the clock may be moved so far, if the machine's says `machine`.
fn check_reach(state: &State, machine: UnixMillis, by_ms: u64) -> Result<(), ServiceError> {
    let left_ms = CLOCK_MAX.0.saturating_sub(state.region_time(machine).0);
    if by_ms <= left_ms {
        Ok(())
    } else {
        Err(ServiceError::ClockTooFar { left_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a clock that is moved to where no client can read its dates, and a limit that is
    /// missed by one.
    #[test]
    fn a_clock_is_not_moved_past_the_year_9999() {
        let state = State::new("us-east-1".parse().unwrap());
        let machine = UnixMillis(1_700_000_000_000);
        let left_ms = CLOCK_MAX.0 - machine.0;
        check_reach(&state, machine, 1).unwrap();
        check_reach(&state, machine, left_ms).unwrap();
        for by_ms in [left_ms + 1, u64::MAX] {
            let refused = check_reach(&state, machine, by_ms).unwrap_err();
            assert!(
                matches!(refused, ServiceError::ClockTooFar { left_ms: left } if left == left_ms),
                "{refused}"
            );
        }
        let beyond = UnixMillis(CLOCK_MAX.0 + 1);
        assert!(check_reach(&state, beyond, 1).is_err());
    }
}
