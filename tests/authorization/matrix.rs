//! Every operation, and every way to be allowed or not: the tables of `matrix.tsv` and `parts.tsv`, which are
//! written by hand from what AWS publishes.
//!
//! A cell is `yes`, or the reason of the AccessDeniedException: `R` and `I` for no resource-based or
//! identity-based policy that allows it, `DR` and `DI` for one that denies it; then, if it is not the first one of
//! `needs`, the action and the place it names. From another account the place is `this resource`.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use keyrum_tests::Dev;
use keyrum_tests::sdk::{HERE, THERE};

use crate::people::{Answer, At, OTHER, OWNER, People, Person, known, on_key, own};
use crate::requests::{Bench, Prepared, Setting, root_statement};
use crate::table::{Table, golden, markdown};

/// Where the results are shown.
pub(crate) const SHOWN: &str = "docs/authorization.md";

/// Operations that can be asked only to tell whether they would be done. Source: AWS KMS Developer Guide,
/// "Testing your permissions".
const DRY: [&str; 17] = [
    "CreateGrant",
    "Decapsulate",
    "Decrypt",
    "DeriveSharedSecret",
    "Encapsulate",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateMac",
    "ReEncrypt",
    "RetireGrant",
    "RevokeGrant",
    "Sign",
    "Verify",
    "VerifyMac",
];

/// Requests that are prepared and sent at a time.
pub(crate) const AT_A_TIME: usize = 6;

/// One thing a request needs: an action, and where.
pub(crate) type Need = (&'static str, &'static str);

pub(crate) fn needs(text: &'static str) -> Vec<Need> {
    let parts = text.split(' ');
    let parts = parts.map(|part| part.split_once('@').expect("action@place"));
    parts.collect()
}

pub(crate) fn actions<'n>(needs: impl Iterator<Item = &'n Need>) -> Vec<String> {
    let names: BTreeSet<_> = needs.map(|(action, _)| format!("kms:{action}")).collect();
    names.into_iter().collect()
}

pub(crate) fn on_a_key(place: &str) -> bool {
    ["key", "second", "there", "blob"].contains(&place)
}

/// The users of a row.
struct Users {
    /// Has what the row needs.
    only: Person,
    /// Has all but that.
    rest: Person,
    /// Has everything, and is denied what the row needs.
    barred: Person,
    /// `only`, in another account.
    other: Person,
}

fn users(people: &mut People, row: usize, needs: &[Need]) -> Users {
    let (all, wanted) = (["kms:*".to_owned()], actions(needs.iter()));
    let allow = own("Allow", "Action", &wanted);
    Users {
        only: people.user(OWNER, &format!("only-{row}"), std::slice::from_ref(&allow)),
        rest: people.user(
            OWNER,
            &format!("rest-{row}"),
            &[own("Allow", "NotAction", &wanted)],
        ),
        barred: people.user(
            OWNER,
            &format!("barred-{row}"),
            &[own("Allow", "Action", &all), own("Deny", "Action", &wanted)],
        ),
        other: people.user(OTHER, &format!("only-{row}"), &[allow]),
    }
}

/// Somebody without any policy, in each account.
struct Nobodies {
    here: Person,
    other: Person,
}

/// Who asks in a column, and how the keys are.
fn case<'p>(
    column: &str,
    needs: &[Need],
    users: &'p Users,
    nobodies: &'p Nobodies,
) -> (&'p Person, Setting) {
    let wanted = actions(needs.iter().filter(|(_, place)| on_a_key(place)));
    let wanted = match wanted.is_empty() {
        true => actions(needs.iter()),
        false => wanted,
    };
    let allow = |principal: &str| on_key("Allow", principal, &wanted);
    let deny = |person: &Person| on_key("Deny", &person.arn, &wanted);
    let other_root = format!("arn:aws:iam::{OTHER}:root");
    let (person, statements, granted) = match column {
        "nothing" => (&nobodies.here, vec![], false),
        "key policy" => {
            let nobody = &nobodies.here;
            (nobody, vec![allow(&nobody.arn)], false)
        }
        "IAM" => (&users.only, vec![root_statement()], false),
        "IAM for the rest" => (&users.rest, vec![root_statement()], false),
        "IAM, no root statement" => (&users.only, vec![], false),
        "grant" | "grant token" => (&nobodies.here, vec![], true),
        "other: IAM" => (&users.other, vec![root_statement()], false),
        "other: consent" => (
            &nobodies.other,
            vec![root_statement(), allow(&other_root)],
            false,
        ),
        "other: both" => (
            &users.other,
            vec![root_statement(), allow(&other_root)],
            false,
        ),
        "other: grant" => (&nobodies.other, vec![root_statement()], true),
        "other: grant, IAM" => (&users.other, vec![root_statement()], true),
        "deny in key policy" => {
            let only = &users.only;
            let statements = vec![root_statement(), allow(&only.arn), deny(only)];
            (only, statements, true)
        }
        "deny in IAM" => {
            let barred = &users.barred;
            (barred, vec![root_statement(), allow(&barred.arn)], true)
        }
        _ => panic!("no column is called {column}"),
    };
    let setting = Setting {
        key: statements.clone(),
        second: statements,
        holder: granted.then(|| person.arn.clone()),
        with_token: column == "grant token",
    };
    (person, setting)
}

/// What a cell says the answer is; none if it is a success.
pub(crate) fn expected(
    cell: &str,
    needs: &[Need],
    person: &Person,
    request: &Prepared,
) -> Option<(String, String)> {
    let (reason, rest) = cell.split_once(':').unwrap_or((cell, ""));
    let (first_action, first_place) = needs[0];
    let (action, place) = rest.split_once('@').unwrap_or((rest, ""));
    let action = match action {
        "" => first_action,
        action => action,
    };
    let place = match place {
        "" => first_place,
        place => place,
    };
    let why = match reason {
        "yes" => return None,
        "cross" => {
            let message = "This operation cannot be called cross account";
            return Some(("AccessDeniedException".to_owned(), message.to_owned()));
        }
        "hidden" => {
            let message = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.";
            return Some(("AccessDeniedException".to_owned(), message.to_owned()));
        }
        "R" => format!("because no resource-based policy allows the kms:{action} action"),
        "I" => format!("because no identity-based policy allows the kms:{action} action"),
        "DR" => "with an explicit deny in a resource-based policy".to_owned(),
        "DI" => "with an explicit deny in an identity-based policy".to_owned(),
        _ => panic!("no cell says {cell}"),
    };
    let resource = match person.account() == OWNER {
        true => format!("resource: {}", request.places[place]),
        false => "this resource".to_owned(),
    };
    let who = &person.arn;
    let message =
        format!("User: {who} is not authorized to perform: kms:{action} on {resource} {why}");
    Some(("AccessDeniedException".to_owned(), message))
}

/// The cell as it is shown, or what was answered instead.
pub(crate) fn judge(
    cell: &str,
    expected: Option<&(String, String)>,
    answer: &Answer,
) -> Result<String, String> {
    match (expected, answer) {
        (None, Ok(_)) => Ok(shown(cell)),
        (Some(expected), Err(error)) if expected == error => Ok(shown(cell)),
        (expected, answer) => Err(format!("{cell}: {expected:?}, but it was {answer:?}")),
    }
}

fn shown(cell: &str) -> String {
    let (reason, rest) = cell.split_once(':').unwrap_or((cell, ""));
    let rest = match rest.split_once('@') {
        None | Some(("", "")) => String::new(),
        Some(("", place)) => format!(" ({place})"),
        Some((action, place)) => format!(" ({action} on {place})"),
    };
    let reason = match reason {
        "yes" => "**yes**",
        "-" => "",
        "R" => "no resource policy",
        "I" => "no identity policy",
        "DR" => "resource policy denies",
        "DI" => "identity policy denies",
        "cross" => "not across accounts",
        other => other,
    };
    format!("{reason}{rest}")
}

/// A Keyrum of two Regions whose users are these, with a keeper of keys.
pub(crate) async fn start(people: People) -> (Dev, tempfile::TempDir, Bench) {
    start_with(people, &[]).await
}

/// The same, with more arguments.
pub(crate) async fn start_with(
    mut people: People,
    args: &[&str],
) -> (Dev, tempfile::TempDir, Bench) {
    let keeper = people.user(
        OWNER,
        "keeper",
        &[own("Allow", "Action", &["kms:*".to_owned()])],
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("identities.toml");
    std::fs::write(&file, people.text()).expect("a file of identities");
    let file = file.display().to_string();
    let fixed = ["--ephemeral", "--identities", &file];
    let dev = Dev::start(&[&fixed, args].concat()).await;
    let [here, there] = [HERE, THERE].map(|region| At::new(&dev.ready.endpoint, region));
    for at in [&here, &there] {
        known(at, &keeper).await;
    }
    (dev, folder, Bench::new(here, there, keeper))
}

/// What a dry run answers where the request itself would answer `expected`.
fn dry(expected: Option<(String, String)>) -> (String, String) {
    expected.unwrap_or_else(|| {
        let message = "The request would have succeeded, but the DryRun option is set.";
        ("DryRunOperationException".to_owned(), message.to_owned())
    })
}

/// Catches an operation that a caller gets by another way than AWS documents, or does not get by one of
/// those; one that asks for another action, or of another resource; a denial that tells the wrong reason;
/// and a dry run that says anything else, or does something.
#[tokio::test(flavor = "multi_thread")]
async fn every_operation_obeys_every_layer() {
    let table = Table::read(include_str!("matrix.tsv"));
    let mut people = People::default();
    let nobodies = Nobodies {
        here: people.user(OWNER, "nobody", &[]),
        other: people.user(OTHER, "nobody", &[]),
    };
    let rows = table.rows.iter().enumerate();
    let rows: Vec<_> = rows
        .map(|(number, row)| {
            let needs = needs(row[1]);
            let users = users(&mut people, number, &needs);
            (row, needs, users)
        })
        .collect();
    let (_dev, _folder, bench) = start(people).await;
    let (bench, nobodies) = (&bench, &nobodies);
    let mut judged = Vec::new();
    for (row, needs, users) in &rows {
        for (column, cell) in table.columns.iter().zip(row.iter()).skip(2) {
            judged.push(async move {
                if *cell == "-" {
                    return Ok(shown(cell));
                }
                let (person, setting) = case(column, needs, users, nobodies);
                let request = bench.prepare(row[0], &setting).await;
                let expected = expected(cell, needs, person, &request);
                let operation = &request.operation;
                let wrong = |error| format!("{}, {column}: {error}", row[0]);
                if DRY.contains(&operation.as_str()) {
                    let mut body = request.body.clone();
                    body["DryRun"] = true.into();
                    let answer = bench.here.ask(person, operation, &body).await;
                    let dry = dry(expected.clone());
                    judge(cell, Some(&dry), &answer).map_err(wrong)?;
                }
                let answer = bench.here.ask(person, operation, &request.body);
                judge(cell, expected.as_ref(), &answer.await).map_err(wrong)
            });
        }
    }
    let found = futures_util::stream::iter(judged).buffered(AT_A_TIME);
    let found: Vec<_> = found.collect().await;
    let wrong: Vec<_> = found
        .iter()
        .filter_map(|cell| cell.as_ref().err())
        .collect();
    assert!(wrong.is_empty(), "{} cells: {wrong:#?}", wrong.len());
    let width = table.columns.len() - 2;
    let lines = table.rows.iter().zip(found.chunks(width));
    let lines: Vec<_> = lines
        .map(|(row, cells)| {
            let cells = cells.iter().flatten().cloned();
            let names = row[..2].iter().map(|&name| name.to_owned());
            names.chain(cells).collect()
        })
        .collect();
    golden(SHOWN, "matrix", &markdown(&table.columns, &lines));
}

/// Catches an operation that answers and that the matrix does not have.
#[test]
fn the_matrix_has_every_operation() {
    let wire = include_str!("../../crates/server/src/wire/mod.rs");
    let (_, calls) = wire
        .split_once("let result = match name {")
        .expect("it calls");
    let (calls, _) = calls
        .split_once("_ => return")
        .expect("the end of the calls");
    let arms = calls.split('"').skip(1).step_by(2);
    let table = Table::read(include_str!("matrix.tsv"));
    let ours: BTreeSet<_> = table
        .rows
        .iter()
        .filter_map(|row| row[0].split(' ').next())
        .collect();
    assert_eq!(arms.collect::<BTreeSet<_>>(), ours);
}
