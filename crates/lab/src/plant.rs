//! Bugs that are planted on purpose: a check earns trust by finding them. `docs/planted-bugs.md` says
//! which seed finds each.

use keyrum_types::planted::Bug;

/// A bug to plant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// In the code under test, by a switch that only builds with debug assertions have.
    Inside(Bug),
    /// Every disk says that it has synced, and has not.
    LyingDisks,
    /// One node starts on an emptied disk after its first crash: it forgets its vote and its log.
    ForgetfulNode,
    /// A courier says that messages were delivered which it has dropped.
    ClaimedDelivery,
}

/// Every bug that can be planted, by its name.
const NAMES: [(&str, Plant); 16] = [
    (
        "acknowledge-before-sync",
        inside(Bug::AcknowledgeBeforeSync),
    ),
    ("vote-not-synced", inside(Bug::VoteNotSynced)),
    ("read-without-read-index", inside(Bug::ReadWithoutReadIndex)),
    ("leader-restored", inside(Bug::LeaderRestored)),
    ("requests-forgotten", inside(Bug::RequestsForgotten)),
    (
        "authorize-before-decide",
        inside(Bug::AuthorizeBeforeDecide),
    ),
    ("digest-skipped", inside(Bug::DigestSkipped)),
    ("lying-disks", Plant::LyingDisks),
    ("forgetful-node", Plant::ForgetfulNode),
    ("hash-map-in-state", inside(Bug::HashMapInState)),
    ("message-taken-twice", inside(Bug::MessageTakenTwice)),
    ("epoch-ignored", inside(Bug::EpochIgnored)),
    (
        "step-up-before-step-down",
        inside(Bug::StepUpBeforeStepDown),
    ),
    ("rotate-unconfirmed", inside(Bug::RotateUnconfirmed)),
    ("claimed-delivery", Plant::ClaimedDelivery),
    ("damaged-snapshots", inside(Bug::DamagedSnapshots)),
];

const fn inside(bug: Bug) -> Plant {
    Plant::Inside(bug)
}

impl Plant {
    /// All that must be found.
    pub fn all() -> impl Iterator<Item = Self> {
        let all = NAMES.iter().map(|(_, plant)| *plant);
        all.filter(|plant| *plant != inside(Bug::DamagedSnapshots))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        let named = NAMES.iter().find(|(_, plant)| *plant == self);
        named.expect("every bug has a name").0
    }

    /// The reverse of [`name`](Self::name).
    pub fn named(name: &str) -> Option<Self> {
        let named = NAMES.iter().find(|(known, _)| *known == name)?;
        Some(named.1)
    }

    /// How many Regions a run needs to meet it.
    pub fn regions(self) -> usize {
        match self {
            Self::ClaimedDelivery
            | Self::Inside(
                Bug::HashMapInState
                | Bug::MessageTakenTwice
                | Bug::EpochIgnored
                | Bug::StepUpBeforeStepDown
                | Bug::RotateUnconfirmed,
            ) => 3,
            _ => 1,
        }
    }

    /// What a run has that differs from one with this bug in nothing else: no plant, or the trouble
    /// that the bug needs to show.
    pub fn without_bug(self) -> Option<Self> {
        match self {
            Self::Inside(Bug::DigestSkipped) => Some(inside(Bug::DamagedSnapshots)),
            _ => None,
        }
    }

    /// What is to be switched on in the code under test.
    pub(crate) fn switches(self) -> Vec<Bug> {
        match self {
            Self::Inside(bug @ Bug::DigestSkipped) => vec![bug, Bug::DamagedSnapshots],
            Self::Inside(bug) => vec![bug],
            Self::LyingDisks | Self::ForgetfulNode | Self::ClaimedDelivery => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches two bugs of one name: a run would plant the other.
    #[test]
    fn names_are_unlike() {
        for plant in Plant::all() {
            assert_eq!(Plant::named(plant.name()), Some(plant));
        }
        assert_eq!(Plant::named("none"), None);
    }
}
