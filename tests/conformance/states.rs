//! Every operation on keys of every kind in every state, against the table of key states: cell by
//! cell.

use futures_util::future::join_all;
use keyrum_tests::sdk::{HERE, THERE, account_of};
use keyrum_tests::{Dev, wait};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::kms::{Kms, Refused};
use crate::prepared::{Bench, Fresh, KINDS, Kind, NO_GRANT, Prepared, new_key};

/// The real service's documented table, with what its footnotes say clients see.
const TABLE: &str = include_str!("key-states.csv");

/// The column that only keys of custom key stores can be in, which Keyrum does not have.
const UNREACHED: &str = "Unavailable";

/// Operations after which a key may not be what it was: they come last.
const LAST: [&str; 8] = [
    "RotateKeyOnDemand",
    "ReplicateKey",
    "DeleteImportedKeyMaterial",
    "ImportKeyMaterial",
    "CancelKeyDeletion",
    "DisableKey",
    "EnableKey",
    "ScheduleKeyDeletion",
];

/// What the table lets pass while a key is Updating and Keyrum does not, since nobody is primary then.
const DEVIATIONS: [&str; 4] = [
    "DisableKeyRotation",
    "EnableKeyRotation",
    "RotateKeyOnDemand",
    "UpdatePrimaryRegion",
];

/// A key's part in its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Single,
    Primary,
    Replica,
}

fn lines() -> impl Iterator<Item = Vec<&'static str>> {
    let rows = TABLE.lines().filter(|line| !line.starts_with('#'));
    rows.map(|line| line.split(',').collect())
}

/// The rows that are run, those that change keys last. ReEncrypt has two ends.
fn rows() -> Vec<&'static str> {
    let mut rows: Vec<_> = lines().skip(1).map(|row| row[0]).collect();
    rows.push("ReEncrypt destination");
    rows.sort_by_key(|row| {
        LAST.iter()
            .position(|last| last == row)
            .map_or(0, |at| at + 1)
    });
    rows
}

fn cell(operation: &str, state: &str) -> &'static str {
    let mut lines = lines();
    let header = lines.next().expect("a header");
    let column = header.iter().position(|name| *name == state);
    let row = lines.find(|row| row[0] == operation);
    row.expect("the table has every operation")[column.expect("the table has every state")]
}

/// The usage that a key must have for an operation; none for those that any key has.
fn usage_for(operation: &str) -> Option<&'static str> {
    match operation {
        "Encrypt" | "Decrypt" | "ReEncrypt" => Some("ENCRYPT_DECRYPT"),
        _ if operation.starts_with("GenerateDataKey") => Some("ENCRYPT_DECRYPT"),
        "Sign" | "Verify" => Some("SIGN_VERIFY"),
        "GenerateMac" | "VerifyMac" => Some("GENERATE_VERIFY_MAC"),
        "DeriveSharedSecret" => Some("KEY_AGREEMENT"),
        "Encapsulate" | "Decapsulate" => Some("ENCAPSULATE_DECAPSULATE"),
        _ => None,
    }
}

/// What is to come of a row on a key in a state.
fn expected(row: &str, state: &str, kind: Kind, part: Part, arn: &str) -> Result<(), Refused> {
    let operation = row.split(' ').next().expect("a name");
    let no = |code: &str, message: String| Err(Refused::new(code, message));
    let unsupported = |message| no("UnsupportedOperationException", message);
    // The usage comes before the state.
    match usage_for(operation) {
        Some(usage) if usage != kind.usage => {
            return match row {
                "Decrypt" | "ReEncrypt" => no(
                    "IncorrectKeyException",
                    "The key ID in the request does not identify a CMK that can perform this operation."
                        .to_owned(),
                ),
                _ => no(
                    "InvalidKeyUsageException",
                    format!(
                        "{arn} key usage is {} which is not valid for {operation}.",
                        kind.usage
                    ),
                ),
            };
        }
        _ => {}
    }
    // So does the origin: footnotes 6, 7 and 9.
    let wrong_origin = match operation {
        "EnableKeyRotation" | "DisableKeyRotation" => kind.imported,
        "DeleteImportedKeyMaterial" | "GetParametersForImport" | "ImportKeyMaterial" => {
            !kind.imported
        }
        _ => false,
    };
    if wrong_origin {
        let origin = match kind.imported {
            true => "EXTERNAL",
            false => "AWS_KMS",
        };
        return unsupported(format!(
            "{arn} origin is {origin} which is not valid for this operation."
        ));
    }
    // What a key is for good comes before what it is now.
    if part == Part::Single && ["ReplicateKey", "UpdatePrimaryRegion"].contains(&operation) {
        return unsupported(format!("{arn} is not a multi-region key."));
    }
    // A primary that is pending deletion has no replicas left to move to.
    if operation == "UpdatePrimaryRegion" && state == "PendingDeletion" {
        let id = arn.rsplit('/').next().expect("an id");
        let message = format!("{id} does not have a replica key in the specified Region.");
        return no("ValidationException", message);
    }
    let cell = cell(operation, state).trim_end_matches('?');
    let (code, notes) = cell.split_once('[').unwrap_or((cell, ""));
    // The first footnote is what clients see today.
    let note = notes.trim_end_matches(']').split('|').next().expect("one");
    let is = match (code, note) {
        ("ok", _) if state == "Updating" && DEVIATIONS.contains(&operation) => Some("updating"),
        ("ok", _) => None,
        (_, "1") => Some("disabled"),
        // 8: what a key with imported material answers. 10: an alias may leave a key that waits for
        // its deletion but not go to one.
        (_, "3" | "8" | "10") if state == "PendingReplicaDeletion" => {
            Some("pending replica deletion")
        }
        (_, "3" | "8" | "10") => Some("pending deletion"),
        (_, "4") => Some("not pending deletion"),
        (_, "5") => Some("pending import"),
        (_, "14") => Some("creating"),
        (_, "15") => Some("updating"),
        other => panic!("a cell nobody expected: {other:?}"),
    };
    if let Some(is) = is {
        let code = match code {
            "" | "ok" => "KMSInvalidStateException",
            code => code,
        };
        return no(code, format!("{arn} is {is}."));
    }
    let asymmetric = !kind.is_symmetric();
    match (operation, part) {
        ("EnableKeyRotation" | "RotateKeyOnDemand", _) if asymmetric => unsupported(String::new()),
        ("GetPublicKey", _) if !asymmetric || kind.spec.starts_with("HMAC") => {
            unsupported(String::new())
        }
        ("GenerateDataKey" | "GenerateDataKeyWithoutPlaintext", _) if asymmetric => no(
            "InvalidKeyUsageException",
            "You cannot generate a data key with an asymmetric CMK".to_owned(),
        ),
        ("GenerateDataKeyPair" | "GenerateDataKeyPairWithoutPlaintext", _) if asymmetric => no(
            "InvalidKeyUsageException",
            "You cannot generate a data key pair with an asymmetric CMK".to_owned(),
        ),
        // There the table's cell cannot be reached: no grant was ever made.
        ("RetireGrant" | "RevokeGrant", _) if state == "Creating" => no(
            "NotFoundException",
            format!("Grant {NO_GRANT} of {arn} does not exist"),
        ),
        ("ReplicateKey", Part::Replica) => {
            unsupported(format!("{arn} is not a multi-region primary key."))
        }
        ("UpdatePrimaryRegion", Part::Replica) => no(
            "KMSInvalidStateException",
            format!("{arn} is not a multi-Region primary key."),
        ),
        ("EnableKeyRotation" | "DisableKeyRotation" | "RotateKeyOnDemand", Part::Replica) => {
            unsupported(format!(
                "{arn} is a multi-region replica key which is not valid for {operation}."
            ))
        }
        _ => Ok(()),
    }
}

/// Three Regions; nothing fails here, so one node each.
async fn dev(hold: &str) -> Dev {
    let regions = [HERE, THERE, "us-west-2"].join(",");
    let shape = ["--ephemeral", "--nodes", "1", "--regions", &regions];
    Dev::start(&[&shape[..], &["--hold-transient", hold]].concat()).await
}

async fn state_of(kms: &Kms, id: &str) -> Option<String> {
    let shown = kms.ask("DescribeKey", &json!({"KeyId": id})).await.ok()?;
    let state = shown["KeyMetadata"]["KeyState"].as_str();
    Some(state.expect("a key has a state").to_owned())
}

async fn wait_for(kms: &Kms, id: &str, state: &str) {
    let what = format!("{state} of {id} in {}", kms.region);
    wait::until_true(&what, wait::LONG, async || {
        state_of(kms, id).await.as_deref() == Some(state)
    })
    .await;
}

/// What was not as expected, and how much was looked at.
#[derive(Default)]
struct Verdict {
    cells: u32,
    wrong: Vec<String>,
}

impl Verdict {
    /// Runs rows on a key; gives those that are left when its state is another one.
    async fn run(
        &mut self,
        kms: &Kms,
        key: &Prepared,
        (state, part): (&str, Part),
        rows: &mut Vec<&'static str>,
    ) {
        while let Some(row) = rows.first().copied() {
            let operation = row.split(' ').next().expect("a name");
            let mut body = key.body(row);
            if row == "UpdatePrimaryRegion" && (state, part) == ("Enabled", Part::Primary) {
                // There it is already: a real move would end the state.
                body["PrimaryRegion"] = HERE.into();
            }
            let answer = kms.ask(operation, &body).await.map(|_: Value| ());
            let after = state_of(kms, &key.id).await;
            let expected = expected(row, state, key.kind, part, &key.arn);
            let changed = after.as_deref() != Some(state);
            if changed && !LAST.contains(&row) {
                // The state was over: not the row's doing.
                return;
            }
            rows.remove(0);
            self.cells += 1;
            if answer != expected {
                let Kind {
                    spec,
                    usage,
                    imported,
                } = key.kind;
                let text = format!(
                    "{row}, {spec} {usage} imported {imported} {part:?} {state}: {answer:?}, not {expected:?}"
                );
                self.wrong.push(text.replace(&key.arn, "<arn>"));
            }
            if changed {
                return;
            }
        }
    }

    fn end(&self, rows: usize) {
        println!("{} cells run, of {rows} rows", self.cells);
        for wrong in &self.wrong {
            println!("{wrong}");
        }
        assert!(
            self.wrong.is_empty(),
            "{} cells are wrong",
            self.wrong.len()
        );
    }
}

async fn bring_into(kms: &Kms, state: &str, id: &str) {
    let body = json!({"KeyId": id});
    let replicate = json!({"KeyId": id, "ReplicaRegion": THERE});
    if id.starts_with("mrk-") && ["Disabled", "PendingImport"].contains(&state) {
        kms.ok("ReplicateKey", replicate.clone()).await;
    }
    match state {
        "Disabled" => _ = kms.ok("DisableKey", body).await,
        "PendingDeletion" => _ = kms.ok("ScheduleKeyDeletion", body).await,
        "PendingReplicaDeletion" => {
            kms.ok("ReplicateKey", replicate).await;
            kms.ok("ScheduleKeyDeletion", body).await;
        }
        "PendingImport" => _ = kms.ok("DeleteImportedKeyMaterial", body).await,
        _ => {}
    }
    assert_eq!(state_of(kms, id).await.as_deref(), Some(state));
}

/// Catches a table that is not run as a whole: a row or a column that is new, or left out for no
/// reason.
#[test]
fn the_table_is_the_whole() {
    let known: Vec<_> = crate::seen::operations().collect();
    for row in lines().skip(1) {
        assert!(known.contains(&row[0]), "{row:?}");
    }
    // What is not about keys, or makes them.
    let others = [
        "CreateKey",
        "GenerateRandom",
        "ListKeys",
        "ListRetirableGrants",
    ];
    for operation in known {
        let there = lines().any(|row| row[0] == operation);
        let outside = others.contains(&operation) || operation.contains("CustomKeyStore");
        assert!(there != outside, "{operation}");
    }
    let mut columns = lines().next().unwrap();
    columns.retain(|name| *name != "operation" && *name != "note" && *name != UNREACHED);
    let run = STAYING.iter().map(|(state, ..)| *state);
    let run: Vec<_> = run.chain(["Creating", "Updating"]).collect();
    assert_eq!(columns, run);
}

/// States that last, with the parts that keys can have in them.
const STAYING: [(&str, &[Part]); 5] = [
    ("Enabled", &[Part::Single, Part::Primary]),
    ("Disabled", &[Part::Single, Part::Primary]),
    ("PendingDeletion", &[Part::Single, Part::Primary]),
    ("PendingImport", &[Part::Single, Part::Primary]),
    ("PendingReplicaDeletion", &[Part::Primary]),
];

/// Catches a state that allows what the real service refuses, refuses what it allows, or says so
/// in other words, for a key of any kind.
#[tokio::test]
async fn every_row_in_every_state_that_lasts() {
    let dev = dev("0s").await;
    let kms = Kms::at(&dev.ready.endpoint, &account_of("cells"), HERE);
    let bench = Bench::at(&kms).await;
    let mut verdict = Verdict::default();
    for kind in KINDS {
        for (state, parts) in STAYING {
            if state == "PendingImport" && !kind.imported {
                continue;
            }
            for &part in parts {
                // Not one for all states: a key has 50 aliases at most.
                let twin = new_key(&kms, kind.made_here(), false).await;
                let mut rows = rows();
                while !rows.is_empty() {
                    let fresh = Fresh::new(&kms, kind, part == Part::Primary).await;
                    let key = bench.furnish(&fresh, &twin).await;
                    bring_into(&kms, state, &key.id).await;
                    let before = rows.len();
                    verdict.run(&kms, &key, (state, part), &mut rows).await;
                    let row = rows.first();
                    assert!(rows.len() < before, "{row:?} ends {state} of {kind:?}");
                }
            }
        }
    }
    verdict.end(rows().len());
}

/// A new family whose replica is being created.
async fn replicated(here: &Kms, there: &Kms, kind: Kind) -> Fresh {
    let fresh = Fresh::new(here, kind, true).await;
    let body = json!({"KeyId": fresh.id, "ReplicaRegion": THERE});
    here.ok("ReplicateKey", body).await;
    wait::until_true("a replica", wait::LONG, async || {
        state_of(there, &fresh.id).await.is_some()
    })
    .await;
    fresh
}

/// Begins to move a primary. One that comes behind what is held of another one takes longer than a
/// call may: it is not known then whether it goes on, and it does.
async fn begin_move(here: &Kms, primary: &Prepared) {
    let body = json!({"KeyId": primary.id, "PrimaryRegion": THERE});
    match here.ask("UpdatePrimaryRegion", &body).await {
        Ok(_) => {}
        Err(refused) if refused.message.ends_with("It may still take effect.") => {
            wait_for(here, &primary.id, "Updating").await;
        }
        Err(refused) => panic!("the move of {}: {refused:?}", primary.id),
    }
}

/// Catches the same while a replica is made and while a primary moves.
#[tokio::test]
async fn every_row_in_every_state_that_passes() {
    let dev = dev("15s").await;
    let here = Kms::at(&dev.ready.endpoint, &account_of("passing cells"), HERE);
    let there = here.in_region(THERE);
    let (here, there) = (Bench::at(&here).await, Bench::at(&there).await);
    let mut verdict = Verdict::default();
    let deadline = Instant::now() + 10 * wait::LONG;
    let mut open = Vec::new();
    for kind in KINDS {
        let twin = kind.made_here();
        let twins = (
            new_key(&here.kms, twin, false).await,
            new_key(&there.kms, twin, false).await,
        );
        open.push((kind, twins, rows(), [rows(), rows()]));
    }
    while open.iter().any(|(.., creating, [old, new])| {
        !(creating.is_empty() && old.is_empty() && new.is_empty())
    }) {
        assert!(Instant::now() < deadline, "no state lasted long enough");
        // All kinds pass through their states together.
        let mut families = Vec::new();
        for (kind, twins, creating, _) in &mut open {
            let fresh = replicated(&here.kms, &there.kms, *kind).await;
            let replica = there.furnish(&fresh, &twins.1).await;
            let run = verdict.run(&there.kms, &replica, ("Creating", Part::Replica), creating);
            run.await;
            // Another one, since this replica may have been told to go.
            families.push(replicated(&here.kms, &there.kms, *kind).await);
        }
        let mut members = Vec::new();
        for (mut fresh, (kind, twins, ..)) in families.into_iter().zip(&open) {
            let primary = here.furnish(&fresh, &twins.0).await;
            if kind.imported {
                wait_for(&there.kms, &fresh.id, "PendingImport").await;
                fresh.import_in(&there.kms).await;
            }
            wait_for(&there.kms, &fresh.id, "Enabled").await;
            members.push((primary, there.furnish(&fresh, &twins.1).await));
        }
        // Together, since what is held of one holds up the next.
        let moves = members
            .iter()
            .map(|(primary, _)| begin_move(&here.kms, primary));
        join_all(moves).await;
        for ((primary, replica), (.., [old, new])) in members.iter().zip(&mut open) {
            for (kms, key, rows) in [(&there.kms, replica, new), (&here.kms, primary, old)] {
                let run = verdict.run(kms, key, ("Updating", Part::Replica), rows);
                run.await;
            }
        }
    }
    verdict.end(rows().len());
}
