//! Random histories of a family with imported material in three Regions, and what must hold after each
//! command and delivery.

use keyrum_state::codec::{StateDecoder, encode_state};
use keyrum_state::{Key, KeyRef, NewMaterial, State};
use keyrum_types::{KeyState, MultiRegionRole, Region};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::script::{Script, account, key_id};

const REGIONS: [&str; 3] = ["us-east-1", "eu-west-1", "us-west-2"];

/// How far one history may move a Region's clock ahead, in seconds: a deletion's wait and a bit.
const WAIT_SECONDS: u32 = 8 * 86_400;

/// What waits anywhere is taken, and not yet what that leads to.
const ALL: &str = "carry";

/// A version is imported wherever it may be, and the first one too.
const ROUND: &str = "import everywhere ";

/// A line of the transcripts' language; most of them do something.
fn line() -> impl Strategy<Value = String> {
    let region = || prop::sample::select(&REGIONS[..]);
    let version = 1..=4_u8;
    prop_oneof![
        8 => (region(), region()).prop_map(|(from, to)| format!("carry {from} {to}")),
        8 => Just(ALL.to_owned()),
        2 => (2..=4_u8).prop_map(|version| format!("{ROUND}{version}")),
        6 => (version.clone(), region(), 0..8_u8).prop_map(|(version, region, terms)| {
            let terms = match terms {
                0..=2 => " expires=1700002000",
                3 => " description=said",
                4 => " new description=new",
                5 => " new",
                _ => "",
            };
            format!("ImportKeyMaterial M1 material={version}{terms} in={region}")
        }),
        2 => (version, region()).prop_map(|(version, region)| {
            format!("DeleteImportedKeyMaterial M1 named={version} in={region}")
        }),
        5 => region().prop_map(|region| format!("RotateKeyOnDemand M1 material=9 in={region}")),
        1 => (region(), region())
            .prop_map(|(from, to)| format!("UpdatePrimaryRegion M1 to={to} in={from}")),
        1 => (region(), region())
            .prop_map(|(from, to)| format!("ReplicateKey M1 to={to} in={from}")),
        1 => region().prop_map(|region| format!("DisableKey M1 in={region}")),
        2 => region().prop_map(|region| format!("EnableKey M1 in={region}")),
        1 => region().prop_map(|region| format!("ScheduleKeyDeletion M1 days=7 in={region}")),
        3 => region().prop_map(|region| format!("CancelKeyDeletion M1 in={region}")),
        2 => (region(), prop::sample::select(&[3000, WAIT_SECONDS][..]))
            .prop_map(|(region, by)| format!("AdvanceClock by={by} in={region}")),
        3 => region().prop_map(|region| format!("Tick in={region}")),
    ]
}

fn name() -> KeyRef {
    KeyRef {
        account: account(1),
        id: key_id(1, true),
    }
}

fn members(script: &Script) -> Vec<(&State, &Key)> {
    let states = script.states();
    let members = states.filter_map(|state| Some((state, &**state.key(name())?)));
    members.collect()
}

/// What a member's imports promise about its state, and one member about another.
fn check(script: &Script) {
    for state in script.states() {
        assert_eq!(state.digest(), state.recompute_digest());
    }
    let members = members(script);
    for (state, key) in &members {
        let rotating = state.rotation(name()).and_then(|row| row.pending.as_ref());
        let imported = state.imports(name()).and_then(|row| row.pending.as_ref());
        if let Some(rotating) = rotating {
            assert!(!rotating.material.is_here(), "bytes are kept in one place");
            assert_eq!(imported.map(|it| it.id), Some(rotating.material.id));
        }
        let permanent = imported.filter(|_| rotating.is_some());
        let has_all = !key.materials.is_empty()
            && key
                .materials
                .iter()
                .chain(permanent)
                .all(NewMaterial::is_here);
        match key.state {
            KeyState::Enabled | KeyState::Disabled => assert!(has_all, "{key:?}"),
            KeyState::PendingImport => assert!(!has_all, "{key:?}"),
            _ => {}
        }
        if let Some(pending) = imported {
            assert!(key.material(&pending.id).is_none(), "twice");
        }
    }
    let enabled = |(_, key): &&(&State, &Key)| key.state == KeyState::Enabled;
    for (_, one) in members.iter().filter(enabled) {
        for (state, other) in members.iter().filter(enabled) {
            for version in &one.materials {
                let theirs = state.material(other, &version.id);
                assert!(
                    theirs.is_some_and(NewMaterial::is_here),
                    "{} lacks {}",
                    state.region(),
                    version.id
                );
            }
        }
    }
    let primary = |(_, key): &&(&State, &Key)| key.multi_region == Some(MultiRegionRole::Primary);
    assert!(members.iter().filter(primary).count() <= 1);
}

fn run(script: &mut Script, line: &str) -> Vec<String> {
    if let Some(version) = line.strip_prefix(ROUND) {
        let import = |terms: &str| {
            let imported = format!("ImportKeyMaterial M1 material={version}{terms}");
            REGIONS.map(|region| format!("{imported} in={region}"))
        };
        let mut lines = import(" new").to_vec();
        lines.push(ALL.to_owned());
        let dated = if version == "3" {
            " expires=1700002000"
        } else {
            ""
        };
        lines.extend(import(dated));
        lines.extend(REGIONS.map(|region| format!("ImportKeyMaterial M1 material=1 in={region}")));
        return lines.iter().flat_map(|line| run(script, line)).collect();
    }
    if line.starts_with("AdvanceClock") {
        let (_, region) = line.split_once("in=").unwrap();
        return [
            script.run(line).0,
            script.run(&format!("Tick in={region}")).0,
        ]
        .concat();
    }
    if line != ALL {
        return script.run(line).0;
    }
    let ends = |from| REGIONS.map(|to| (from, to));
    let pairs = REGIONS
        .into_iter()
        .flat_map(ends)
        .filter(|(from, to)| from != to);
    let said = pairs.map(|(from, to)| script.run(&format!("carry {from} {to}")).0);
    said.collect::<Vec<_>>().concat()
}

/// A family of two whose first material is with both.
fn begin() -> Script {
    let mut script = Script::new();
    for region in REGIONS {
        let clocks = "1:1700000000 voters=1 now=1700000000";
        script.run(&format!("ConfirmClock {clocks} in={region}"));
    }
    script.run("CreateKey M1 origin=EXTERNAL");
    script.run("ImportKeyMaterial M1 material=1");
    let replica = REGIONS[1];
    script.run(&format!("ReplicateKey M1 to={replica}"));
    check_at_rest(&mut script);
    script.run(&format!("ImportKeyMaterial M1 material=1 in={replica}"));
    script
}

fn lines() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(line(), 1..150)
}

/// Catches histories in which nothing happens.
#[test]
fn histories_get_everywhere() {
    let mut runner = TestRunner::deterministic();
    let mut told = String::new();
    for _ in 0..100 {
        let mut script = begin();
        for line in lines().new_tree(&mut runner).unwrap().current() {
            told += &(run(&mut script, &line).join("\n") + "\n");
        }
    }
    let times = |parts: &[&str]| {
        let all = |line: &&str| parts.iter().all(|part| line.contains(part));
        told.lines().filter(all).count()
    };
    for (parts, at_least) in [
        (&["KeyRotationStarted"][..], 10),
        (&["KeyRotated"], 10),
        (&["RecordTaken state=PendingImport"], 5),
        (&["ImportReported"], 50),
        (&["lacks it"], 5),
        (&["KeyMaterialExpired"], 5),
        (&["SteppedUp"], 5),
        (&["KeyDeleted"], 2),
        (&["KeyReplicated", "EXTERNAL"], 10),
    ] {
        let times = times(parts);
        println!("{parts:?}: {times} times");
        assert!(times >= at_least, "{parts:?}: {times} times");
    }
}

/// Every message is taken; what the Regions then know of each other is so.
fn check_at_rest(script: &mut Script) {
    for _ in 0..20 {
        for from in REGIONS {
            for to in REGIONS.iter().filter(|to| **to != from) {
                script.run(&format!("carry {from} {to}"));
            }
        }
    }
    check(script);
    for state in script.states() {
        for to in REGIONS {
            let to: Region = to.parse().unwrap();
            assert_eq!(state.outbox(&to).count(), 0, "it never ends");
        }
    }
    let members = members(script);
    let primary = |(_, key): &&(&State, &Key)| key.multi_region == Some(MultiRegionRole::Primary);
    let Some((leader, led)) = members.iter().find(primary) else {
        assert!(members.is_empty(), "nobody leads");
        return;
    };
    let ids = |key: &Key| -> Vec<_> { key.materials.iter().map(|version| version.id).collect() };
    let Some(family) = leader.family(name()) else {
        return;
    };
    assert_eq!(family.roster.len(), members.len());
    let told = leader.awaited(name());
    for (state, key) in &members {
        assert!(!matches!(
            key.state,
            KeyState::Creating | KeyState::Updating
        ));
        assert_eq!(ids(key), ids(led));
        let rotating = state
            .rotation(name())
            .is_some_and(|row| row.pending.is_some());
        assert!(!rotating, "a rotation never ends");
        let imports = state.imports(name());
        let pending = imports.and_then(|row| row.pending.as_ref());
        assert_eq!(pending.map(|it| it.id), told.as_ref().map(|it| it.material));
        let described = |state: &State| -> Vec<_> {
            let imports = state.imports(name()).into_iter();
            let details = imports.flat_map(|row| row.details.clone());
            let described = details.filter_map(|(id, it)| it.description.map(|text| (id, text)));
            described.collect()
        };
        assert_eq!(described(state), described(leader));
        let own = state.family(name()).unwrap();
        if let Some(told) = &told {
            let said = told.held_by.get(state.region()) == Some(&own.incarnation);
            assert_eq!(said, pending.is_some_and(NewMaterial::is_here));
            let mine = state.awaited(name()).unwrap();
            assert_eq!(mine.is_everywhere(own), told.is_everywhere(family));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Catches a member that is usable without material that another uses, bytes that are lost or kept
    /// beyond what was asked, a rotation that never ends, and Regions that do not agree on who has what,
    /// over longer histories than the model's; with dates that come and members that are deleted.
    #[test]
    fn imported_families_hold(lines in lines()) {
        let mut script = begin();
        for line in lines {
            run(&mut script, &line);
            check(&script);
        }
        check_at_rest(&mut script);
        for state in script.states() {
            let mut decoder = StateDecoder::new();
            encode_state(state).for_each(|chunk| decoder.push(&chunk).unwrap());
            assert_eq!(decoder.finish().unwrap().digest(), state.digest());
        }
    }
}
