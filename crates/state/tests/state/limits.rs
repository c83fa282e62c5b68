//! Bounds that are too long to read in a transcript.

use keyrum_state::codec::{StateDecoder, encode_state};
use keyrum_state::{
    Command, DueRotation, Event, Proposal, ROTATE_KEYS_MAX, RequestId, State, TICK_ALIASES_MAX,
    TICK_KEYS_MAX, WINDOWS_MAX, apply,
};

use keyrum_types::UnixMillis;

use crate::script::{Script, account, key_id, material};

fn events_of_tick(state: &mut State, sequence: u64) -> Vec<Event> {
    events_of(state, sequence, Command::Tick)
}

fn events_of(state: &mut State, sequence: u64, command: Command) -> Vec<Event> {
    let proposal = Proposal {
        request: RequestId {
            node: 99,
            boot: 0,
            sequence,
        },
        caller: None,
        now: UnixMillis(1_700_000_000_000),
        command,
    };
    apply(state, &proposal).outcome.unwrap()
}

fn script(lines: &[&str]) -> Script {
    let mut script = Script::new();
    for line in lines {
        assert!(!script.run(line).1, "{line}");
    }
    script
}

/// Catches a Tick that deletes too much at once, too little, or not what is due first.
#[test]
fn a_tick_is_bounded() {
    let mut script = script(&[
        "ConfirmClock 1:1700000000 voters=1 now=1700000000",
        "CreateKey K{1..600}",
        "ScheduleKeyDeletion K{301..600} days=7",
        "ScheduleKeyDeletion K{1..300} days=8",
        "AdvanceClock by=691200",
    ]);
    let mut left = 600;
    for sequence in 0.. {
        let events = events_of_tick(&mut script.state, sequence);
        if events.is_empty() {
            break;
        }
        assert_eq!(events.len(), TICK_KEYS_MAX.min(left));
        left -= events.len();
        if sequence == 0 {
            // Due a day earlier, so among the first although their ids are greater.
            assert_eq!(script.state.key_count(account(1)), 344);
            assert!(script.run("show K300").0[0].contains("PendingDeletion"));
            assert_eq!(script.run("show K301").0, ["gone"]);
        }
    }
    assert_eq!((left, script.state.next_due()), (0, None));
}

/// Catches a Tick whose outcome grows with the aliases of the keys it deletes.
#[test]
fn a_tick_deletes_a_bounded_number_of_aliases() {
    let mut script = script(&["ConfirmClock 1:1700000000 voters=1 now=1700000000"]);
    for key in 1..=30 {
        for line in [
            format!("CreateKey K{key}"),
            format!("CreateAlias k{key}-{{1..50}} K{key}"),
            format!("ScheduleKeyDeletion K{key} days=7"),
        ] {
            assert!(!script.run(&line).1, "{line}");
        }
    }
    script.run("AdvanceClock by=604800");
    assert_eq!(
        events_of_tick(&mut script.state, 0).len(),
        TICK_ALIASES_MAX / 50
    );
    assert_eq!(
        events_of_tick(&mut script.state, 1).len(),
        30 - TICK_ALIASES_MAX / 50
    );
    assert_eq!(script.run("show aliases").0, ["none"]);
    assert_eq!(script.state.digest(), script.state.recompute_digest());
}

/// Catches a RotateKeys whose outcome grows with what it carries, and due keys that are not found
/// by date.
#[test]
fn a_rotation_of_many_keys_is_bounded() {
    let mut script = script(&[
        "ConfirmClock 1:1700000000 voters=1 now=1700000000",
        "CreateKey K{1..300}",
        "EnableKeyRotation K{1..200} period=100",
        "EnableKeyRotation K{201..300} period=90",
        "AdvanceClock by=8640000",
    ]);
    let mut rotate = |sequence, numbered_from: u64| {
        let state = &mut script.state;
        let due: Vec<_> = state.rotations_due_by(state.clock()).collect();
        let rotations = due.iter().zip(numbered_from..);
        let rotations = rotations
            .map(|(&(key, due), number)| DueRotation {
                key,
                due,
                material: material(number),
            })
            .collect();
        let events = events_of(state, sequence, Command::RotateKeys { rotations });
        assert_eq!(state.digest(), state.recompute_digest());
        (due, events.len())
    };
    let (due, rotated) = rotate(0, 0);
    assert_eq!((due.len(), rotated), (300, ROTATE_KEYS_MAX));
    // Due ten days earlier, so before the others although their ids are greater.
    assert_eq!(due[0].0.id, key_id(201, false));
    assert_eq!(rotate(1, 1000).1, 300 - ROTATE_KEYS_MAX);
    assert_eq!(rotate(2, 2000), (vec![], 0));
}

/// Catches a memory of requests that grows with the number of nodes, and a forgotten node whose
/// old request is applied again.
#[test]
fn a_node_that_is_forgotten_applies_nothing_twice() {
    let mut script = script(&["ConfirmClock 1:1700000000 voters=1 now=1700000000"]);
    for node in 1..=WINDOWS_MAX + 1 {
        let line = format!(
            "CreateKey K{node} request={}/0/7 now={}",
            node + 1,
            1_700_000_000 + node
        );
        assert!(!script.run(&line).1);
    }
    // Node 1 confirmed the clock and node 2 proposed first of the others; both are forgotten.
    let (lines, refused) = script.run("CreateKey K900 request=2/0/7");
    assert!(refused && lines[1].contains("OutcomeUnknown"), "{lines:?}");
    let (lines, _) = script.run("CreateKey K900 request=4/0/7");
    assert!(
        lines[0] == "(repeated)" && lines[1].contains("K3"),
        "{lines:?}"
    );
    // What it had not proposed yet is taken.
    assert!(!script.run("CreateKey K901 request=2/0/8").1);
    assert_eq!(script.state.digest(), script.state.recompute_digest());
}

/// Catches answers that fill the memory because each of them is large.
#[test]
fn remembered_answers_are_bounded_in_bytes() {
    let mut script = script(&[
        "ConfirmClock 1:1700000000 voters=1 now=1700000000",
        "CreateKey K1",
    ]);
    for sequence in 0..300 {
        let id = format!("{sequence}{}", "x".repeat(30_000));
        let line = format!("PutKeyPolicy K1 policy=full id={id} request=5/0/{sequence}");
        assert!(!script.run(&line).1);
    }
    let snapshot: usize = encode_state(&script.state).map(|chunk| chunk.len()).sum();
    assert!(snapshot < 5_000_000, "{snapshot}");
    let (lines, refused) = script.run("PutKeyPolicy K1 policy={} request=5/0/100");
    assert!(refused && lines[1].contains("OutcomeUnknown"), "{lines:?}");
    let (lines, refused) = script.run("PutKeyPolicy K1 policy={} request=5/0/200");
    assert!(!refused && lines[0] == "(repeated)", "{lines:?}");
}

/// Catches a snapshot whose chunks are larger than 1 MiB, or that loses a chunk unnoticed.
#[test]
fn large_states_travel_in_chunks() {
    let script = script(&[
        "ConfirmClock 1:1700000000 voters=1 now=1700000000",
        "CreateKey K{1..12000} policy=full description=some-words",
    ]);
    let chunks: Vec<_> = encode_state(&script.state).collect();
    assert!(chunks.len() > 2);
    assert!(chunks.iter().all(|chunk| chunk.len() <= 1024 * 1024));
    let decode = |chunks: &[Vec<u8>]| {
        let mut decoder = StateDecoder::new();
        chunks.iter().try_for_each(|chunk| decoder.push(chunk))?;
        decoder.finish()
    };
    assert_eq!(decode(&chunks).unwrap().digest(), script.state.digest());
    let mut without_second = chunks.clone();
    without_second.remove(1);
    assert!(decode(&without_second).is_err());
}

/// Catches imported material that a key rotates to more often than other keys rotate, or less.
#[test]
fn rotations_to_imported_material_are_limited() {
    let mut script = script(&[
        "ConfirmClock 1:1700000000 voters=1 now=1700000000",
        "CreateKey K1 origin=EXTERNAL",
        "ImportKeyMaterial K1 material=100",
    ]);
    for number in 101..=125 {
        let import = format!("ImportKeyMaterial K1 material={number} new");
        assert!(!script.run(&import).1, "{import}");
        assert!(!script.run("RotateKeyOnDemand K1 material=1").1);
    }
    assert!(!script.run("ImportKeyMaterial K1 material=126 new").1);
    let (said, refused) = script.run("RotateKeyOnDemand K1 material=1");
    assert!(
        refused && said[0].starts_with("Error: TooManyRotations"),
        "{said:?}"
    );
}

/// Catches a Tick that takes material away from too many keys at once, or leaves some for good.
#[test]
fn expiry_is_bounded() {
    let mut script = script(&[
        "ConfirmClock 1:1700000000 voters=1 now=1700000000",
        "CreateKey K{1..300} origin=EXTERNAL",
        "ImportKeyMaterial K{1..300} material=1 expires=1700000900",
        "AdvanceClock by=1000",
    ]);
    let state = &mut script.state;
    assert_eq!(events_of_tick(state, 1).len(), TICK_KEYS_MAX);
    assert_eq!(events_of_tick(state, 2).len(), 300 - TICK_KEYS_MAX);
    assert_eq!(events_of_tick(state, 3), []);
    assert_eq!(state.next_due(), None);
}
