//! The whole table of key states against commands, printed and compared with the documented one.

use std::collections::BTreeMap;
use std::fmt::Write;

use keyrum_types::{
    AccountId, AliasName, GrantId, GrantOperation, ImportType, KeyId, KeySpec, KeyState, KeyUsage,
    MaterialId, Origin, RotationDays, SealedMaterial, UnixMillis, WaitingDays,
};

use crate::{
    Caller, Command, Deletion, DueRotation, Event, Grant, GrantConstraints, GrantPrincipal,
    GrantTerms, ImportTerms, Key, KeyRef, NewMaterial, Outcome, Refusal, State, decide, evolve,
};

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
/// When the keys are to be rotated: not too soon for a rotation on demand.
const ROTATION_DUE: UnixMillis = UnixMillis(NOW.0 + UnixMillis::DAY_MS);
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/key-states.txt");
const DOCUMENTED: &str = include_str!("../tests/data/key-states.csv");

fn account() -> AccountId {
    "000000000001".parse().unwrap()
}

fn key_ref(number: u8) -> KeyRef {
    KeyRef {
        account: account(),
        id: KeyId::single_region([number; 16]),
    }
}

fn name(text: &str) -> AliasName {
    AliasName::new(text).unwrap()
}

/// The origin of keys that can be in that state and that the command is for.
fn origin(key_state: KeyState, command: &Command) -> Origin {
    let of_imports = matches!(
        command,
        Command::ImportKeyMaterial { .. } | Command::DeleteImportedKeyMaterial { .. }
    );
    match key_state {
        KeyState::Unavailable => Origin::AwsCloudhsm,
        _ if of_imports => Origin::External,
        KeyState::PendingImport => Origin::External,
        KeyState::Creating
        | KeyState::Enabled
        | KeyState::Disabled
        | KeyState::PendingDeletion
        | KeyState::PendingReplicaDeletion
        | KeyState::Updating => Origin::AwsKms,
    }
}

fn material(byte: u8) -> NewMaterial {
    NewMaterial {
        id: MaterialId([byte; 32]),
        sealed: SealedMaterial([byte; 8].into()),
    }
}

fn grant_terms() -> GrantTerms {
    GrantTerms {
        name: None,
        grantee: GrantPrincipal::Aws("arn:aws:iam::000000000001:user/u".to_owned()),
        retiring: None,
        operations: vec![GrantOperation::Encrypt],
        constraints: GrantConstraints::default(),
    }
}

/// The key under test is number 1 with the alias `alias/one`; number 2 is Enabled and has
/// `alias/two`. Both have a grant and are rotated automatically, whether or not keys of that origin can be.
fn state_with(key_state: KeyState, command: &Command) -> State {
    let mut state = State::new("us-east-1".parse().unwrap());
    for (number, key_state, alias) in [
        (1, key_state, "alias/one"),
        (2, KeyState::Enabled, "alias/two"),
    ] {
        let key = Key {
            account: account(),
            id: key_ref(number).id,
            spec: KeySpec::SymmetricDefault,
            usage: KeyUsage::EncryptDecrypt,
            origin: origin(key_state, command),
            state: key_state,
            multi_region: None,
            created: NOW,
            deletion: (key_state == KeyState::PendingDeletion).then_some(Deletion {
                due: NOW,
                wait_days: 7,
            }),
            description: "before".into(),
            policy: None,
            tags: BTreeMap::from([("before".to_owned(), String::new())]),
            materials: vec![material(1)],
        };
        evolve(&mut state, &Event::KeyCreated { key });
        let target = key_ref(number);
        evolve(
            &mut state,
            &Event::KeyRotationEnabled {
                key: target,
                period: RotationDays::DEFAULT,
                next: ROTATION_DUE,
            },
        );
        let grant = Grant {
            key: target,
            id: GrantId([1; 32]),
            issuer: account(),
            created: NOW,
            terms: grant_terms(),
        };
        evolve(&mut state, &Event::GrantCreated { grant });
        evolve(
            &mut state,
            &Event::AliasCreated {
                alias: name(alias),
                target,
                at: NOW,
            },
        );
    }
    state
}

/// Every command that touches a key, under the name its row has.
fn commands() -> Vec<(&'static str, Command)> {
    let key = key_ref(1);
    let mut commands = vec![
        ("EnableKey", Command::EnableKey { key }),
        ("DisableKey", Command::DisableKey { key }),
        (
            "ScheduleKeyDeletion",
            Command::ScheduleKeyDeletion {
                key,
                wait: WaitingDays::new(7).unwrap(),
            },
        ),
        ("CancelKeyDeletion", Command::CancelKeyDeletion { key }),
        (
            "UpdateKeyDescription",
            Command::UpdateKeyDescription {
                key,
                description: "after".to_owned(),
            },
        ),
        (
            "CreateAlias",
            Command::CreateAlias {
                alias: name("alias/new"),
                target: key,
            },
        ),
        (
            "UpdateAlias (from it)",
            Command::UpdateAlias {
                alias: name("alias/one"),
                target: key_ref(2),
            },
        ),
        (
            "UpdateAlias (to it)",
            Command::UpdateAlias {
                alias: name("alias/two"),
                target: key,
            },
        ),
        (
            "DeleteAlias",
            Command::DeleteAlias {
                alias: name("alias/one"),
            },
        ),
        (
            "TagResource",
            Command::TagResource {
                key,
                tags: vec![("a".to_owned(), String::new())],
            },
        ),
        (
            "UntagResource",
            Command::UntagResource {
                key,
                tag_keys: vec!["before".to_owned()],
            },
        ),
        (
            "PutKeyPolicy",
            Command::PutKeyPolicy {
                key,
                policy: keyrum_authz::default_policy(&"us-east-1".parse().unwrap(), account()),
                bypass_lockout_check: false,
            },
        ),
        (
            "EnableKeyRotation",
            Command::EnableKeyRotation {
                key,
                period: Some(RotationDays::new(90).unwrap()),
            },
        ),
        ("DisableKeyRotation", Command::DisableKeyRotation { key }),
        (
            "RotateKeyOnDemand",
            Command::RotateKeyOnDemand {
                key,
                material: material(2),
            },
        ),
        (
            "RotateKeys",
            Command::RotateKeys {
                rotations: vec![DueRotation {
                    key,
                    due: ROTATION_DUE,
                    material: material(2),
                }],
            },
        ),
        (
            "ImportKeyMaterial",
            Command::ImportKeyMaterial {
                key,
                material: material(1),
                terms: ImportTerms::default(),
            },
        ),
        (
            "ImportKeyMaterial (new)",
            Command::ImportKeyMaterial {
                key,
                material: material(2),
                terms: ImportTerms {
                    import_type: Some(ImportType::New),
                    ..ImportTerms::default()
                },
            },
        ),
        (
            "DeleteImportedKeyMaterial",
            Command::DeleteImportedKeyMaterial {
                key,
                material: None,
            },
        ),
        (
            "CreateGrant",
            Command::CreateGrant {
                key,
                grant: GrantId([2; 32]),
                terms: grant_terms(),
            },
        ),
        (
            "RetireGrant",
            Command::RetireGrant {
                key,
                grant: GrantId([1; 32]),
            },
        ),
        (
            "RevokeGrant",
            Command::RevokeGrant {
                key,
                grant: GrantId([1; 32]),
            },
        ),
        ("Tick", Command::Tick),
        ("AdvanceClock", Command::AdvanceClock { by_ms: 1 }),
        (
            "ConfirmClock",
            Command::ConfirmClock {
                clocks: vec![(1, NOW)],
                voters: 1,
            },
        ),
        ("RaiseFeatureLevel", Command::RaiseFeatureLevel { level: 2 }),
    ];
    commands.push((
        "CreateKey (its id)",
        Command::CreateKey {
            key: key.id,
            spec: KeySpec::SymmetricDefault,
            usage: KeyUsage::EncryptDecrypt,
            origin: Origin::AwsKms,
            description: String::new(),
            policy: None,
            bypass_lockout_check: false,
            tags: vec![],
            material: None,
        },
    ));
    commands
}

fn outcome(key_state: KeyState, command: &Command) -> (Outcome, State) {
    let mut state = state_with(key_state, command);
    let caller = Caller::root(&"us-east-1".parse().unwrap(), account());
    let of_region = matches!(
        command,
        Command::Tick
            | Command::AdvanceClock { .. }
            | Command::ConfirmClock { .. }
            | Command::RaiseFeatureLevel { .. }
            | Command::RotateKeys { .. }
    );
    let now = match command {
        Command::RotateKeys { .. } => ROTATION_DUE,
        _ => NOW,
    };
    let outcome = decide(&state, (!of_region).then_some(&caller), now, command);
    for event in outcome.as_deref().unwrap_or_default() {
        evolve(&mut state, event);
    }
    assert_eq!(
        state.digest(),
        state.recompute_digest(),
        "{command:?} in {key_state}"
    );
    (outcome, state)
}

/// `EventName, ... -> state after`, or the refusal.
fn cell(key_state: KeyState, command: &Command) -> String {
    let variant = |debug: String| {
        let end = debug
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(debug.len());
        debug[..end].to_owned()
    };
    match outcome(key_state, command) {
        (Ok(events), state) => {
            let names: Vec<_> = events.iter().map(|e| variant(format!("{e:?}"))).collect();
            let names = if names.is_empty() {
                "nothing".to_owned()
            } else {
                names.join(", ")
            };
            match state.key(key_ref(1)).map(|key| key.state) {
                Some(after) if after == key_state => names,
                Some(after) => format!("{names} -> {after}"),
                None => format!("{names} -> gone"),
            }
        }
        (Err(refusal), _) => format!("Error: {}", variant(format!("{refusal:?}"))),
    }
}

/// Catches a command that is taken or refused in another key state than before.
#[test]
fn the_table_of_key_states() {
    let mut table = String::from(
        "# What each command does to a key in each state. KEYRUM_UPDATE_GOLDEN=1 rewrites it.\n",
    );
    for (row, command) in commands() {
        writeln!(table, "\n{row}").unwrap();
        for &key_state in KeyState::ALL {
            writeln!(
                table,
                "  {:<23} {}",
                key_state.name(),
                cell(key_state, &command)
            )
            .unwrap();
        }
    }
    if std::env::var_os("KEYRUM_UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(GOLDEN, &table).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap_or_default();
    assert_eq!(
        table, golden,
        "set KEYRUM_UPDATE_GOLDEN=1 and read the diff of {GOLDEN}"
    );
}

/// Catches a cell of our table that differs from the documented one, operation by operation.
#[test]
fn the_table_agrees_with_the_documented_one() {
    let mut lines = DOCUMENTED.lines();
    let columns: Vec<_> = lines.next().unwrap().split(',').skip(1).take(8).collect();
    let mut compared = 0;
    for line in lines.filter(|line| !line.starts_with('#')) {
        let cells: Vec<_> = line.split(',').collect();
        for (row, command) in commands() {
            if command.name() != cells[0] {
                continue;
            }
            for (column, documented) in columns.iter().zip(&cells[1..]) {
                let key_state = KeyState::from_name(column).unwrap();
                let (key, state) = (key_ref(1), key_state);
                let wanted = match documented
                    .split_once('[')
                    .map_or(*documented, |(one, _)| one)
                {
                    "ok" => None,
                    // No key with such material is ever in that state.
                    "n/a" => continue,
                    // Footnote 10: of an alias' two keys only the new one matters.
                    "" if row == "UpdateAlias (from it)" => None,
                    "KMSInvalidStateException" if documented.contains("[4]") => {
                        Some(Refusal::NotPendingDeletion { key })
                    }
                    "" | "KMSInvalidStateException" | "DisabledException" => {
                        Some(Refusal::WrongState { key, state })
                    }
                    "UnsupportedOperationException" => Some(Refusal::OriginNotForOperation {
                        key,
                        origin: origin(key_state, &command),
                    }),
                    other => panic!("{row} in {column}: a new kind of cell, {other}"),
                };
                let found = outcome(key_state, &command).0.err();
                assert_eq!(found, wanted, "{row} in {column}: documented {documented}");
                compared += 1;
            }
        }
    }
    assert_eq!(
        compared,
        // One cell says that it cannot be.
        21 * 8 - 1,
        "every operation of the API that exists was compared"
    );
}
