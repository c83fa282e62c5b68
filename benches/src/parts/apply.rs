//! **Question.** How many commands a second can a node apply at most, from bytes to state?
//!
//! **Estimate.** Decoding a CreateKey takes 0.5 us; deciding, two insertions into persistent maps
//! that are not shared with a reader, and the digest of the new key take 4 us; remembering the
//! answer 1 us: 180k/s. That is far above what the log carries, so it bounds replay only.

use std::time::Instant;

use keyrum_state::{Caller, Command, NewMaterial, Proposal, RequestId, State, apply, codec};
use keyrum_types::{
    AccountId, KeyId, KeySpec, KeyUsage, MaterialId, Origin, SealedMaterial, UnixMillis,
};

use crate::Failure;
use crate::client::{ACCOUNT, REGION};
use crate::report::{Report, Row, Verdict};

/// As many as an account may have.
const COMMANDS: u64 = 100_000;

pub(crate) fn run(report: &mut Report) -> Result<(), Failure> {
    let account: AccountId = format!("{ACCOUNT:012}").parse()?;
    let encoded: Vec<Vec<u8>> = (0..COMMANDS)
        .map(|sequence| codec::encode_proposal(&proposal(account, sequence)))
        .collect();
    let mut state = State::new(REGION.parse()?);

    let start = Instant::now();
    for bytes in &encoded {
        let applied = apply(&mut state, &codec::decode_proposal(bytes)?);
        applied
            .outcome
            .map_err(|refusal| format!("a command was refused: {refusal}"))?;
    }
    let rate = COMMANDS as f64 / start.elapsed().as_secs_f64();
    if state.total_keys() != COMMANDS {
        return Err("not every key was made".into());
    }
    let start = Instant::now();
    let bytes: usize = codec::encode_state(&state).map(|chunk| chunk.len()).sum();
    let snapshot = start.elapsed().as_secs_f64();
    report.row(&Row {
        what: "state: CreateKey decoded and applied, one thread",
        group: "in memory",
        target: "",
        figure: format!(
            "{rate:.0}/s ({:.1} us); log entry {} B; snapshot {:.2} s, {:.1} MB",
            1e6 / rate,
            encoded[0].len(),
            snapshot,
            bytes as f64 / 1e6
        ),
        ratio: String::new(),
        verdict: Verdict::Reference,
    });
    Ok(())
}

fn proposal(account: AccountId, sequence: u64) -> Proposal {
    let mut random = [7; 16];
    // Spread as random ids are.
    random[..8].copy_from_slice(&sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let mut material = [9; 32];
    material[..8].copy_from_slice(&sequence.to_be_bytes());
    Proposal {
        request: RequestId {
            node: 1,
            boot: 1,
            sequence,
        },
        caller: Some(Caller::root(
            &"us-east-1".parse().expect("a Region"),
            account,
        )),
        // A new Region's clock is at 0 and follows small steps without a majority's word.
        now: UnixMillis(sequence),
        command: Command::CreateKey {
            key: KeyId::single_region(random),
            spec: KeySpec::SymmetricDefault,
            usage: KeyUsage::EncryptDecrypt,
            origin: Origin::AwsKms,
            description: String::new(),
            policy: None,
            bypass_lockout_check: false,
            tags: Vec::new(),
            material: Some(NewMaterial {
                id: MaterialId(material),
                // A nonce, 32 bytes and a tag.
                sealed: SealedMaterial(vec![5; 61].into()),
            }),
        },
    }
}
