//! A log written by the first format, which every later build must replay to the same outcomes
//! and the same contents.
//!
//! `golden/log-v1.bin`, and `log-identities.bin` and `log-domain-key.bin` for what came later, are 16
//! bytes of final digest and then records, each a length of four bytes and its bytes (all numbers
//! little-endian): a proposal, what it led to, and so on in turns.
//!
//! It is never made anew on the way: `KEYRUM_UPDATE_GOLDEN=log-v1` writes it, and once released
//! it must not be written again. A new format gets a file of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use keyrum_state::codec::{decode_applied, decode_proposal, encode_applied, encode_proposal};
use keyrum_state::{Applied, Digest, Proposal, State, apply};

use crate::generate::{Action, KINDS, World};
use crate::script::Script;
use crate::words::event_name;

fn path(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    folder.join(name).with_extension("bin")
}

fn new_state() -> State {
    State::new("us-east-1".parse().unwrap())
}

/// A random log: a first action, and then so many of some kinds.
fn generate(first: Action, count: usize, kinds: std::ops::Range<u8>) -> Vec<u8> {
    let mut number = 20_261_122_u64;
    let mut draw = move || {
        number = number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (number >> 56) as u8
    };
    let mut state = new_state();
    let mut world = World::new();
    let rest = (0..count).map(|_| Action {
        kind: kinds.start + draw() % (kinds.end - kinds.start),
        a: draw(),
        b: draw(),
        time: draw(),
        node: draw(),
    });
    let entry = |action| {
        let proposal = world.proposal(action);
        let applied = apply(&mut state, &proposal);
        (proposal, applied)
    };
    let log: Vec<_> = std::iter::once(first).chain(rest).map(entry).collect();
    written(&state, &log)
}

/// The log as a file has it, which led to `state`.
fn written(state: &State, log: &[(Proposal, Applied)]) -> Vec<u8> {
    let mut bytes = state.digest().0.to_le_bytes().to_vec();
    for (proposal, applied) in log {
        for record in [encode_proposal(proposal), encode_applied(applied)] {
            bytes.extend((record.len() as u32).to_le_bytes());
            bytes.extend(record);
        }
    }
    bytes
}

/// Reads a log and checks that it leads to what it led to; the commands and events in it, and how many
/// entries it has.
fn replay(name: &str) -> (BTreeSet<&'static str>, BTreeSet<&'static str>, usize) {
    let bytes = fs::read(path(name)).unwrap();
    let (digest, rest) = bytes.split_first_chunk::<16>().unwrap();
    let mut state = new_state();
    let mut commands = BTreeSet::new();
    let mut events = BTreeSet::new();
    let records = records(rest);
    for (at, pair) in records.chunks_exact(2).enumerate() {
        let proposal = decode_proposal(pair[0]).unwrap();
        let expected = decode_applied(pair[1]).unwrap();
        let applied = apply(&mut state, &proposal);
        assert_eq!(applied, expected, "entry {at}: {proposal:?}");
        commands.insert(proposal.command.name());
        events.extend(applied.outcome.iter().flatten().map(event_name));
    }
    assert_eq!(state.digest(), Digest(u128::from_le_bytes(*digest)));
    assert_eq!(state.digest(), state.recompute_digest());
    (commands, events, records.len() / 2)
}

fn asked_to_write(name: &str) -> bool {
    std::env::var_os("KEYRUM_UPDATE_GOLDEN").is_some_and(|value| value == name)
}

/// A Region's first command.
const FIRST: Action = Action {
    kind: 22,
    a: 1,
    b: 0,
    time: 1,
    node: 0,
};

fn records(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (record, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        records.push(record);
        bytes = rest;
    }
    records
}

/// Catches a build that cannot read, or decides otherwise than, a log of the first format.
#[test]
fn the_log_of_format_1_replays() {
    if asked_to_write("log-v1") {
        fs::write(path("log-v1"), generate(FIRST, 1500, 0..KINDS)).unwrap();
    }
    let (commands, events, entries) = replay("log-v1");
    assert!(entries >= 1000);
    assert_eq!(
        commands.len(),
        16,
        "every command it began with: {commands:?}"
    );
    assert_eq!(events.len(), 16, "every event it began with: {events:?}");
}

/// Catches the same of identities.
#[test]
fn the_log_of_identities_replays() {
    if asked_to_write("log-identities") {
        fs::write(path("log-identities"), generate(FIRST, 1000, 49..56)).unwrap();
    }
    let (commands, events, entries) = replay("log-identities");
    assert_eq!(entries, 1001);
    for command in ["PutIdentity", "DeleteIdentity", "ShareIdentities"] {
        assert!(commands.contains(command), "{command}");
    }
    for event in ["IdentityPut", "IdentityDeleted", "IdentitiesShared"] {
        assert!(events.contains(event), "{event}");
    }
}

/// Catches the same of the domain key's versions. The log is the transcript's.
#[test]
fn the_log_of_the_domain_key_replays() {
    if asked_to_write("log-domain-key") {
        let mut script = Script::new();
        let text = include_str!("../transcripts/domain-key.txt");
        for block in text.split("\n\n") {
            let said = block.split("\n---").next().unwrap();
            let lines = said.lines().filter(|line| !line.starts_with('#'));
            lines.filter(|line| !line.is_empty()).for_each(|line| {
                script.run(line.trim_start_matches('!'));
            });
        }
        fs::write(path("log-domain-key"), written(&script.state, &script.log)).unwrap();
    }
    let (commands, events, entries) = replay("log-domain-key");
    assert!(entries > 70, "{entries}");
    let new = |name: &&&str| name.contains("DomainKey") || name.contains("Reseal");
    assert_eq!(commands.iter().filter(new).count(), 7, "{commands:?}");
    assert_eq!(events.iter().filter(new).count(), 7, "{events:?}");
}
