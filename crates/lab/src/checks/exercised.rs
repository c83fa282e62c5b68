//! A run that passes must have been in trouble: faults that never took effect prove nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use keyrum_types::NodeId;
use serde::{Deserialize, Serialize};

use super::Finding;

const CHECK: &str = "not-exercised";

/// What a run went through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Faults that were put in force, by kind.
    pub faults: BTreeMap<Cow<'static, str>, u64>,
    /// Those of them that took effect at least once, by kind.
    #[serde(default)]
    pub took_effect: BTreeMap<Cow<'static, str>, u64>,
    /// How often they did, by kind: nodes that ended, messages that were lost, held back, late or
    /// repeated, calls on a disk that failed or took long, clocks read while they were off.
    #[serde(default)]
    pub effects: BTreeMap<Cow<'static, str>, u64>,
    /// Regions whose whole history no node had in the end, because those that had it were replaced: what
    /// it would have to tell was not judged.
    #[serde(default)]
    pub histories_cut: u64,
    /// Writes that were not synced and that a power loss took.
    #[serde(default)]
    pub writes_lost: u64,
    /// Those that it left in part, or damaged.
    #[serde(default)]
    pub writes_torn: u64,
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
    /// The last log index of any Region.
    pub last_index: u64,
    /// Cuts of all Regions that were looked at.
    pub cuts: u64,
    /// Messages that a Region took from another.
    pub messages: u64,
    /// Replica keys that came to be.
    pub replicas: u64,
    /// Those of them where the key had been deleted before.
    pub replicas_again: u64,
    /// Moves of a primary that came to their end.
    pub moves: u64,
    /// Moves that the other Region refused.
    pub moves_refused: u64,
    /// Rotations of families with replicas.
    pub family_rotations: u64,
    /// Those of them that were due.
    pub due_rotations: u64,
    /// Members of families that were really deleted.
    pub members_deleted: u64,
    /// Moves under way that a cut between Regions held up from its beginning to its end.
    pub moves_held: u64,
    /// The same of rotations.
    pub rotations_held: u64,
    /// Segments and connection attempts sent into a cut between Regions: a courier's retries, and
    /// questions whether a Region is there.
    pub lost_between: u64,
    /// Ciphertexts that were decrypted in another Region than the one that made them.
    pub crossed: u64,
    /// Versions of domain keys in whose place a newer one came to seal.
    pub domain_keys_rotated: u64,
    /// Those of them that were destroyed.
    pub domain_keys_destroyed: u64,
    /// Calls that were refused because a policy forbade them.
    #[serde(default)]
    pub forbidden: u64,
}

/// What did not happen in a run of several Regions but should have, beside the rest.
pub fn check_families(figures: &Figures) -> Vec<Finding> {
    let needed = [
        (figures.messages / 50, "fewer than 50 messages crossed"),
        (figures.replicas / 5, "fewer than 5 replicas came to be"),
        (figures.moves / 2, "fewer than 2 primaries moved"),
        (figures.family_rotations, "no family rotated"),
        (figures.moves_held, "no cut held a move up"),
        (figures.rotations_held, "no cut held a rotation up"),
        (figures.lost_between, "no courier sent into a cut"),
        (
            figures.crossed / 10,
            "fewer than 10 ciphertexts were decrypted in another Region",
        ),
        (figures.cuts / 100, "fewer than 100 cuts were looked at"),
    ];
    missing(&needed)
}

fn missing(needed: &[(u64, &str)]) -> Vec<Finding> {
    let missing = needed.iter().filter(|(count, _)| *count == 0);
    missing.map(|(_, what)| Finding::new(CHECK, what)).collect()
}

/// What did not happen in a run but should have. A Region of so many nodes cannot show everything: one
/// alone has no peer, and of two the other cannot lead while one is down.
pub fn check(figures: &Figures, nodes: NodeId) -> Vec<Finding> {
    let mut needed = vec![
        (figures.crashes, "no node crashed"),
        (figures.restarts, "no node came up again"),
        (figures.not_done + figures.unknown, "no call suffered"),
        (
            figures.acknowledged / 20,
            "fewer than 20 mutations were acknowledged",
        ),
        (figures.answered / 20, "fewer than 20 reads were answered"),
        (figures.decrypted, "no ciphertext was decrypted"),
        (figures.domain_keys_rotated, "no domain key was rotated"),
        (figures.forbidden, "no policy forbade a call"),
    ];
    if nodes >= 2 {
        needed.extend([
            (
                figures.lost,
                "no link was cut while something was sent over it",
            ),
            (
                figures.digests_compared / 20,
                "fewer than 20 digests were compared",
            ),
        ]);
    }
    if nodes >= 3 {
        needed.push((figures.leader_changes, "the leader never changed"));
    }
    missing(&needed)
}

/// What did not happen in a run of a scenario but should have: faults that are listed and never took
/// effect, or random ones of which none did.
pub fn check_scenario(
    figures: &Figures,
    nodes: NodeId,
    listed: &[String],
    random: bool,
) -> Vec<Finding> {
    let mut found = missing(&[
        (figures.acknowledged, "no mutation was acknowledged"),
        (figures.answered, "no read was answered"),
    ]);
    if nodes >= 2 {
        let compared = (figures.digests_compared, "no digests were compared");
        found.extend(missing(&[compared]));
    }
    let in_vain =
        |fault: &String| Finding::new(CHECK, format_args!("this fault never took effect: {fault}"));
    found.extend(listed.iter().map(in_vain));
    if random {
        found.push(Finding::new(CHECK, "no random fault took effect"));
    }
    found
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
            domain_keys_rotated: 1,
            forbidden: 1,
            digests_compared: 20,
            ..Figures::default()
        };
        assert!(check(&busy, 3).is_empty());
        let uncut = Figures {
            lost: 0,
            ..busy.clone()
        };
        assert_eq!(check(&uncut, 3).len(), 1);
        assert_eq!(check(&uncut, 1), [], "a node alone");
        let led = Figures {
            leader_changes: 0,
            ..busy.clone()
        };
        assert_eq!((check(&led, 3).len(), check(&led, 2).len()), (1, 0));
        let idle = Figures {
            acknowledged: 19,
            ..busy
        };
        assert_eq!(check(&idle, 3).len(), 1);
        assert_eq!(check(&Figures::default(), 3).len(), 11);
    }

    /// Catches a scenario that passes though a fault it lists never took effect, or none that came by
    /// chance did.
    #[test]
    fn a_scenario_whose_faults_come_to_nothing_does_not_pass() {
        let busy = Figures {
            acknowledged: 1,
            answered: 1,
            digests_compared: 1,
            ..Figures::default()
        };
        assert_eq!(check_scenario(&busy, 3, &[], false), []);
        let found = check_scenario(&busy, 3, &["#0 a cut".to_owned()], true);
        assert_eq!(found.len(), 2);
        assert!(found[0].what.ends_with("never took effect: #0 a cut"));
        let idle = Figures::default();
        assert_eq!(check_scenario(&idle, 3, &[], false).len(), 3);
        assert_eq!(check_scenario(&idle, 1, &[], false).len(), 2);
    }

    /// Catches a run of several Regions that never had to do with each other, and passes.
    #[test]
    fn regions_that_do_not_meet_do_not_pass() {
        let busy = Figures {
            messages: 50,
            replicas: 5,
            moves: 2,
            family_rotations: 1,
            moves_held: 1,
            rotations_held: 1,
            lost_between: 1,
            crossed: 10,
            cuts: 100,
            ..Figures::default()
        };
        assert!(check_families(&busy).is_empty());
        let never_held = Figures {
            moves_held: 0,
            ..busy
        };
        assert_eq!(check_families(&never_held).len(), 1);
        assert_eq!(check_families(&Figures::default()).len(), 9);
    }
}
