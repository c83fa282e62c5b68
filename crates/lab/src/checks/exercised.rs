//! A run that passes must have been in trouble: faults that never took effect prove nothing.

use std::collections::BTreeMap;

use super::Finding;

const CHECK: &str = "not-exercised";

/// What a run went through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Faults that were put in force, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Nodes that ended without warning while they ran.
    pub crashes: u64,
    /// Nodes that came up again after that.
    pub restarts: u64,
    /// Changes of the leader that all agreed on last, after the first.
    pub leader_changes: u64,
    /// Segments and connection attempts that were sent into a cut link.
    pub lost: u64,
    /// Segments that a link held back for a while.
    pub held: u64,
    /// Segments sent in all.
    pub segments: u64,
    /// Calls that clients made.
    pub calls: u64,
    /// Mutations that were acknowledged.
    pub acknowledged: u64,
    /// Reads and cryptographic calls that were answered.
    pub answered: u64,
    /// Calls that were refused or never proposed.
    pub not_done: u64,
    /// Calls whose outcome their caller does not know.
    pub unknown: u64,
    /// Ciphertexts that were decrypted.
    pub decrypted: u64,
    /// Digests of two nodes that were compared.
    pub digests_compared: u64,
    /// The last log index.
    pub last_index: u64,
}

/// What did not happen in a run but should have.
pub fn check(figures: &Figures) -> Vec<Finding> {
    let needed = [
        (figures.crashes, "no node crashed"),
        (figures.restarts, "no node came up again"),
        (
            figures.lost,
            "no link was cut while something was sent over it",
        ),
        (figures.leader_changes, "the leader never changed"),
        (figures.not_done + figures.unknown, "no call suffered"),
        (
            figures.acknowledged / 20,
            "fewer than 20 mutations were acknowledged",
        ),
        (figures.answered / 20, "fewer than 20 reads were answered"),
        (figures.decrypted, "no ciphertext was decrypted"),
        (
            figures.digests_compared / 20,
            "fewer than 20 digests were compared",
        ),
    ];
    let missing = needed.iter().filter(|(count, _)| *count == 0);
    missing.map(|(_, what)| Finding::new(CHECK, what)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a run without trouble that passes.
    #[test]
    fn a_quiet_run_does_not_pass() {
        let busy = Figures {
            crashes: 1,
            restarts: 1,
            lost: 1,
            leader_changes: 1,
            unknown: 1,
            acknowledged: 20,
            answered: 20,
            decrypted: 1,
            digests_compared: 20,
            ..Figures::default()
        };
        assert!(check(&busy).is_empty());
        assert_eq!(
            check(&Figures {
                lost: 0,
                ..busy.clone()
            })
            .len(),
            1
        );
        assert_eq!(
            check(&Figures {
                acknowledged: 19,
                ..busy
            })
            .len(),
            1
        );
        assert_eq!(check(&Figures::default()).len(), 9);
    }
}
