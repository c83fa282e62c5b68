//! Identities on their way: random changes in one Region, random deliveries to two others.

use keyrum_state::codec::{decode_proposal, encode_proposal};
use keyrum_state::{Command, IdentityRecord, Message, Proposal, RequestId, State, apply};
use keyrum_types::{Region, UnixMillis};
use proptest::prelude::*;

use crate::generate::put_or_delete;

/// One Region, and how many commands it was given.
struct Place {
    state: State,
    sequence: u64,
}

impl Place {
    fn new(name: &str) -> Self {
        let mut place = Self {
            state: State::new(name.parse().unwrap()),
            sequence: 0,
        };
        assert!(place.apply(Command::RaiseFeatureLevel { level: 2 }));
        place
    }

    /// Whether it was done.
    fn apply(&mut self, command: Command) -> bool {
        self.sequence += 1;
        let proposal = Proposal {
            request: RequestId {
                node: 1,
                boot: 0,
                sequence: self.sequence,
            },
            caller: None,
            now: UnixMillis(self.sequence),
            command,
        };
        let read = decode_proposal(&encode_proposal(&proposal)).unwrap();
        assert_eq!(read, proposal);
        apply(&mut self.state, &proposal).outcome.is_ok()
    }

    fn records(&self) -> Vec<IdentityRecord> {
        let records = self.state.identities();
        records
            .map(|record| IdentityRecord::clone(record))
            .collect()
    }
}

/// Brings some of what waits, perhaps again, and perhaps without the sender hearing that it arrived.
fn carry(home: &mut Place, to: &mut Place, batch: usize, forgets: bool) -> bool {
    let (from, there): (Region, Region) = (home.state.region().clone(), to.state.region().clone());
    let waiting = home.state.outbox(&there).take(batch);
    let messages: Vec<(u64, Message)> = waiting
        .map(|(number, message)| (number, Message::clone(message)))
        .collect();
    let Some((through, _)) = messages.last().cloned() else {
        return false;
    };
    let after = home.state.channel(&there).delivered;
    let deliver = Command::Deliver {
        from,
        after,
        messages,
    };
    assert!(to.apply(deliver));
    if !forgets {
        assert!(home.apply(Command::Delivered { to: there, through }));
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Catches a change that gets lost or comes back, be it because a newer one replaced its message,
    /// because it arrived twice, or because the Region was told only later; and an index that is not
    /// what the rows say.
    #[test]
    fn identities_converge(steps in prop::collection::vec((0..12_u8, any::<u8>(), any::<u8>()), 1..150)) {
        let mut home = Place::new("us-east-1");
        let mut others = [Place::new("eu-west-1"), Place::new("ap-south-1")];
        for (kind, a, b) in steps {
            let other = &mut others[usize::from(a % 2)];
            match kind {
                0 => {
                    let with = other.state.region().clone();
                    home.apply(Command::ShareIdentities { with });
                }
                1..=3 => {
                    carry(&mut home, other, usize::from(b % 4) + 1, b.is_multiple_of(3));
                }
                _ => _ = home.apply(put_or_delete(kind % 4 == 0, a, b)),
            }
        }
        let shares = others.iter().map(|other| other.state.region().clone());
        for with in shares.collect::<Vec<_>>() {
            home.apply(Command::ShareIdentities { with });
        }
        for other in &mut others {
            while carry(&mut home, other, 7, false) {}
            prop_assert_eq!(other.records(), home.records());
            for record in home.records() {
                for key in record.identity.access_keys() {
                    let found = other.state.access_key(&key.id);
                    let (found, _, revision) = found.expect("an access key that is not found");
                    prop_assert_eq!((found, revision), (key, record.revision));
                }
            }
            prop_assert_eq!(other.state.digest(), other.state.recompute_digest());
        }
        prop_assert_eq!(home.state.digest(), home.state.recompute_digest());
    }
}
