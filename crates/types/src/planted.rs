//! Bugs that the lab plants in production code, to see that it finds them.
//!
//! [`is`] asks at the place of the bug. A build with debug assertions has the switches, so that the
//! tests need no second build of anything; they are all off, are set for one thread at a time, and
//! nothing but the lab's own calls sets them: no flag, file or variable. A release build has none:
//! [`is`] is a constant there.

/// What is wrong on purpose. Each names one promise that is broken at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// The store says that appended rows are durable when they are only written.
    AcknowledgeBeforeSync,
    /// A leader takes what it has applied for the read index: it asks nobody whether it leads still.
    ReadWithoutReadIndex,
    /// A vote goes to the disk only along with the next write that takes a sync of rows anyway.
    VoteNotSynced,
    /// A leader that restarts goes on in its old term, although it does not know how far it had
    /// committed. Keyrum had this bug once.
    LeaderRestored,
    /// A Region takes a message that its cursor has passed, as often as it is delivered.
    MessageTakenTwice,
    /// Of two records the one with the higher version wins only if both are of one epoch: a record
    /// of a former primary that comes late is taken.
    EpochIgnored,
    /// A member that is asked to become primary is so at once; the present one has not stepped down.
    StepUpBeforeStepDown,
    /// A rotation is completed although not every member has confirmed the new material.
    RotateUnconfirmed,
    /// The answers to requests are neither in a snapshot nor in the digest: a node that was restored
    /// from one applies a repeated request again.
    RequestsForgotten,
    /// Whether a caller may change a key is asked where the request came in, not where the change is
    /// decided.
    AuthorizeBeforeDecide,
    /// A snapshot that arrives is installed whatever its digest is.
    DigestSkipped,
    /// No bug but the trouble that [`Bug::DigestSkipped`] needs: every second snapshot is damaged on
    /// its way.
    DamagedSnapshots,
    /// In which order members of a family are told of a change is that of a hash map.
    HashMapInState,
}

impl Bug {
    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Whether a bug is planted here and now.
#[cfg(debug_assertions)]
pub fn is(bug: Bug) -> bool {
    switches::PLANTED.get() & bug.bit() != 0
}

/// Whether a bug is planted here and now.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn is(_: Bug) -> bool {
    false
}

// What is shipped has no bug of these: otherwise it does not compile.
#[cfg(not(debug_assertions))]
const _: () = assert!(!is(Bug::AcknowledgeBeforeSync));

/// While it lives, its bugs are planted in what this thread runs.
#[derive(Debug)]
pub struct Planted {
    former: u32,
    /// It belongs to its thread.
    _here: std::marker::PhantomData<*const ()>,
}

/// Plants bugs in what this thread runs from now on, beside none of another call. `None`: this build
/// has no switches.
pub fn plant(bugs: &[Bug]) -> Option<Planted> {
    let bits = bugs.iter().fold(0, |bits, bug| bits | bug.bit());
    let former = set(bits)?;
    let _here = std::marker::PhantomData;
    Some(Planted { former, _here })
}

/// Does something as if nothing were planted.
pub fn without<T>(work: impl FnOnce() -> T) -> T {
    let _none = plant(&[]);
    work()
}

impl Drop for Planted {
    fn drop(&mut self) {
        set(self.former);
    }
}

#[cfg(debug_assertions)]
fn set(bits: u32) -> Option<u32> {
    Some(switches::PLANTED.replace(bits))
}

#[cfg(not(debug_assertions))]
fn set(_: u32) -> Option<u32> {
    None
}

#[cfg(debug_assertions)]
mod switches {
    use std::cell::Cell;

    thread_local! {
        pub(super) static PLANTED: Cell<u32> = const { Cell::new(0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a switch that is on by itself, stays on, or is on in another thread: one of a server,
    /// say, in the process of a test.
    #[test]
    fn a_bug_is_planted_here_and_for_a_while() {
        let bug = Bug::MessageTakenTwice;
        assert!(!is(bug));
        let planted = plant(&[bug, Bug::EpochIgnored]);
        assert_eq!(planted.is_some(), cfg!(debug_assertions));
        let Some(planted) = planted else { return };
        assert!(is(bug) && is(Bug::EpochIgnored) && !is(Bug::VoteNotSynced));
        assert!(!without(|| is(bug)));
        assert!(is(bug));
        std::thread::scope(|threads| {
            threads.spawn(|| assert!(!is(bug)));
        });
        drop(planted);
        assert!(!is(bug) && !is(Bug::EpochIgnored));
    }
}
