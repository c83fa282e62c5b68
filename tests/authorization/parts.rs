//! Requests that need several permissions, with one of them missing or denied: the table `parts.tsv`.

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::matrix::{AT_A_TIME, Need, SHOWN, actions, expected, judge, needs, on_a_key, start};
use crate::people::{OWNER, People, Person, on_key, own};
use crate::requests::{Setting, of_new_key, root_statement};
use crate::table::{Table, golden, markdown};

const KEYS: &str = "arn:aws:kms:*:*:key/*";
const ALIASES: &str = "arn:aws:kms:*:*:alias/*";

/// A user who has all that a request needs on its own side, except perhaps one part.
fn user(people: &mut People, name: &str, all: &[Need], missing: Need, denied: bool) -> Person {
    let (action, place) = missing;
    let one = [format!("kms:{action}")];
    let rest = actions(all.iter().filter(|need| need.0 != action));
    let about = |effect: &str, resource: &str| json!({"Effect": effect, "Action": one, "Resource": resource});
    let statements: Vec<Value> = match (place, denied) {
        ("*", false) => vec![own("Allow", "Action", &rest)],
        ("alias", false) => vec![about("Allow", KEYS)],
        ("*", true) => vec![
            own("Allow", "Action", &actions(all.iter())),
            about("Deny", "*"),
        ],
        ("alias", true) => vec![about("Allow", "*"), about("Deny", ALIASES)],
        _ => vec![own("Allow", "Action", &actions(all.iter()))],
    };
    people.user(OWNER, name, &statements)
}

/// How the keys are, whose policies leave all to the account except perhaps one part.
fn setting(person: &Person, missing: Need, denied: bool) -> Setting {
    let (action, place) = missing;
    let whole = vec![root_statement()];
    let lacking = match denied {
        false => vec![],
        true => {
            let deny = on_key("Deny", &person.arn, &[format!("kms:{action}")]);
            vec![root_statement(), deny]
        }
    };
    let (key, second) = match place {
        "key" => (lacking, whole),
        _ if on_a_key(place) => (whole, lacking),
        _ => (whole.clone(), whole),
    };
    Setting {
        key,
        second,
        ..Setting::default()
    }
}

/// Catches a request that is done although one of several permissions is missing: on a second key, in
/// another Region, or for another action that it includes.
#[tokio::test(flavor = "multi_thread")]
async fn every_part_of_a_request_is_asked_for() {
    let matrix = Table::read(include_str!("matrix.tsv"));
    let table = Table::read(include_str!("parts.tsv"));
    let mut people = People::default();
    let mut cells = Vec::new();
    for (number, row) in table.rows.iter().enumerate() {
        let mut whole = matrix.rows.iter();
        let whole = whole
            .find(|of| of[0] == row[0])
            .expect("a row of the matrix");
        let (all, part) = (needs(whole[1]), needs(row[1])[0]);
        for (denied, cell) in [(false, row[2]), (true, row[3])] {
            let name = format!("part-{number}-{denied}");
            let person = user(&mut people, &name, &all, part, denied);
            cells.push((row[0], part, denied, cell, person));
        }
    }
    let (_dev, _folder, bench) = start(people).await;
    let bench = &bench;
    let mut judged = Vec::new();
    for (row, part, denied, cell, person) in &cells {
        judged.push(async move {
            let request = bench.prepare(row, &setting(person, *part, *denied)).await;
            let expected = expected(cell, &[*part], person, &request);
            let answer = bench.here.ask(person, &request.operation, &request.body);
            let answer = match cell.ends_with("@new key") {
                true => of_new_key(answer.await),
                false => answer.await,
            };
            judge(cell, expected.as_ref(), &answer)
                .map_err(|error| format!("{row}, {part:?}: {error}"))
        });
    }
    let found = futures_util::stream::iter(judged).buffered(AT_A_TIME);
    let found: Vec<_> = found.collect().await;
    let wrong: Vec<_> = found
        .iter()
        .filter_map(|cell| cell.as_ref().err())
        .collect();
    assert!(wrong.is_empty(), "{} cells: {wrong:#?}", wrong.len());
    let lines = table.rows.iter().zip(found.chunks(2));
    let lines: Vec<_> = lines
        .map(|(row, cells)| {
            let cells = cells.iter().flatten().cloned();
            let names = row[..2].iter().map(|&name| name.to_owned());
            names.chain(cells).collect()
        })
        .collect();
    golden(SHOWN, "parts", &markdown(&table.columns, &lines));
}
