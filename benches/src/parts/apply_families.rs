//! **Question.** What does the rotation of a family in three Regions cost the state machine, over
//! all Regions' logs?
//!
//! **Estimate.** A family's rotation is an element of three commands in the primary's log and of two
//! in each other's, with two commands more that forget what was delivered. An element is decided
//! and applied in 20 us with its digests; the outcome is encoded for the memory of requests:
//! together 150 us a family, on one node of each Region.

use std::time::{Duration, Instant};

use keyrum_state::{
    Caller, Command, DueRotation, KeyRef, Message, NewMaterial, Proposal, ROTATE_KEYS_MAX,
    RequestId, State, apply, codec,
};
use keyrum_types::{
    AccountId, KeyId, KeySpec, KeyUsage, MaterialId, Origin, Region, SealedMaterial, UnixMillis,
};

use crate::Failure;
use crate::client::ACCOUNT;
use crate::report::{Report, Row, Verdict};

const FAMILIES: u64 = 10_000;

const REGIONS: [&str; 3] = ["us-east-1", "eu-west-1", "us-west-2"];

/// Messages in one delivery.
const BATCH: usize = 256;

/// Three Regions without nodes: each a log's state.
struct World {
    states: Vec<State>,
    account: AccountId,
    sequence: u64,
    /// Spent in decoding and applying.
    spent: Duration,
    bytes: u64,
}

pub(crate) fn run(report: &mut Report) -> Result<(), Failure> {
    let account: AccountId = format!("{ACCOUNT:012}").parse()?;
    let regions = REGIONS.map(|region| region.parse::<Region>());
    let states = regions.into_iter().map(|region| Ok(State::new(region?)));
    let mut world = World {
        states: states.collect::<Result<_, Failure>>()?,
        account,
        sequence: 0,
        spent: Duration::ZERO,
        bytes: 0,
    };
    let keys: Vec<KeyRef> = (0..FAMILIES).map(|number| key(account, number)).collect();
    for key in &keys {
        let material = world.material();
        world.call(Command::CreateKey {
            key: key.id,
            spec: KeySpec::SymmetricDefault,
            usage: KeyUsage::EncryptDecrypt,
            origin: Origin::AwsKms,
            description: String::new(),
            policy: None,
            bypass_lockout_check: false,
            tags: Vec::new(),
            material: Some(material),
        })?;
        for region in &REGIONS[1..] {
            world.call(Command::ReplicateKey {
                key: *key,
                region: region.parse()?,
                description: String::new(),
                policy: None,
                bypass_lockout_check: false,
                tags: Vec::new(),
            })?;
        }
        world.call(Command::EnableKeyRotation {
            key: *key,
            period: None,
        })?;
    }
    world.carry()?;
    let (replicated, _) = world.since();

    let year = 366 * UnixMillis::DAY_MS;
    world.region(0, Command::AdvanceClock { by_ms: year })?;
    loop {
        let now = world.states[0].clock();
        let due = world.states[0].rotations_due_by(now).take(ROTATE_KEYS_MAX);
        let due: Vec<_> = due.collect();
        if due.is_empty() {
            break;
        }
        let rotations = due.into_iter().map(|(key, due)| DueRotation {
            key,
            due,
            material: world.material(),
        });
        let rotations = rotations.collect();
        world.region(0, Command::RotateKeys { rotations })?;
        world.carry()?;
    }
    let (rotated, bytes) = world.since();
    for state in &world.states {
        let done = |key: &&KeyRef| {
            state
                .rotation(**key)
                .is_some_and(|r| r.rotations.len() == 1)
        };
        if keys.iter().filter(done).count() != keys.len() {
            return Err("not every family was rotated".into());
        }
    }
    report.row(&Row {
        what: "state: rotation of 10,000 families in three Regions applied, one thread",
        group: "in memory",
        target: "",
        figure: format!(
            "{rotated:.0} us a family over all three; log entries {bytes:.0} B a family; made and \
             replicated in {replicated:.0} us"
        ),
        ratio: String::new(),
        verdict: Verdict::Reference,
    });
    Ok(())
}

fn key(account: AccountId, number: u64) -> KeyRef {
    let mut random = [7; 16];
    // Spread as random ids are.
    random[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    KeyRef {
        account,
        id: KeyId::multi_region(random),
    }
}

impl World {
    fn material(&mut self) -> NewMaterial {
        self.sequence += 1;
        let mut id = [9; 32];
        id[..8].copy_from_slice(&self.sequence.to_be_bytes());
        NewMaterial {
            id: MaterialId(id),
            // A nonce, 32 bytes and a tag.
            sealed: SealedMaterial(vec![5; 61].into()),
        }
    }

    fn call(&mut self, command: Command) -> Result<(), Failure> {
        let caller = Caller::root(&"us-east-1".parse().unwrap(), self.account);
        self.propose(0, Some(caller), command)
    }

    fn region(&mut self, at: usize, command: Command) -> Result<(), Failure> {
        self.propose(at, None, command)
    }

    fn propose(
        &mut self,
        at: usize,
        caller: Option<Caller>,
        command: Command,
    ) -> Result<(), Failure> {
        self.sequence += 1;
        let bytes = codec::encode_proposal(&Proposal {
            request: RequestId {
                node: 1,
                boot: 1,
                sequence: self.sequence,
            },
            caller,
            // Small steps are taken without a majority's word.
            now: UnixMillis(self.sequence),
            command,
        });
        self.bytes += bytes.len() as u64;
        let start = Instant::now();
        let proposal = codec::decode_proposal(&bytes)?;
        let applied = apply(&mut self.states[at], &proposal);
        self.spent += start.elapsed();
        applied
            .outcome
            .map_err(|refusal| format!("a command was refused: {refusal}"))?;
        Ok(())
    }

    /// Carries messages between the Regions until none waits.
    fn carry(&mut self) -> Result<(), Failure> {
        let mut any = true;
        while std::mem::take(&mut any) {
            for (from, to) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
                let [sender, receiver] = [from, to].map(|at| self.states[at].region().clone());
                let state = &self.states[from];
                let waiting = state.outbox(&receiver).take(BATCH);
                let messages: Vec<(u64, Message)> = waiting
                    .map(|(number, message)| (number, Message::clone(message)))
                    .collect();
                let Some((through, _)) = messages.last() else {
                    continue;
                };
                let (through, after) = (*through, state.channel(&receiver).delivered);
                let deliver = Command::Deliver {
                    from: sender,
                    after,
                    messages,
                };
                self.region(to, deliver)?;
                let to = receiver;
                self.region(from, Command::Delivered { to, through })?;
                any = true;
            }
        }
        Ok(())
    }

    /// Time and log bytes a family since the last time this was asked, in microseconds and bytes.
    fn since(&mut self) -> (f64, f64) {
        let spent = std::mem::take(&mut self.spent).as_secs_f64() * 1e6;
        let bytes = std::mem::take(&mut self.bytes) as f64;
        (spent / FAMILIES as f64, bytes / FAMILIES as f64)
    }
}
