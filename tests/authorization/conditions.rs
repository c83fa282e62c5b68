//! Conditions of identities' and keys' policies: the table `conditions.tsv`.
//!
//! Somebody may do what a request needs under one condition alone, in an identity's policy or in the
//! key's. Cells hold what the request says differently; or what the key has: a tag, an alias.

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::matrix::{AT_A_TIME, Need, SHOWN, actions, expected, judge, needs, on_a_key, start};
use crate::people::{OWNER, People, Person, on_key, own};
use crate::requests::{Bench, Prepared, Setting, root_statement};
use crate::table::{Table, golden, markdown};

struct Case {
    request: &'static str,
    needs: Vec<Need>,
    cell: &'static str,
    allowed: bool,
    person: Person,
    setting: Setting,
    text: String,
}

fn conditional(mut statement: Value, condition: &str) -> Value {
    statement["Condition"] = serde_json::from_str(condition).expect("a condition");
    statement
}

/// Changes the request, or the key, as a cell says.
async fn apply(bench: &Bench, case: &Case, request: &mut Prepared) {
    let key = request.places.get("key").cloned().unwrap_or_default();
    let words: Vec<_> = case.cell.split(' ').collect();
    match words[..] {
        ["tag", name, value] => {
            let tags = json!([{"TagKey": name, "TagValue": value}]);
            bench
                .ok("TagResource", json!({"KeyId": key, "Tags": tags}))
                .await;
        }
        ["alias", "made"] => _ = bench.alias(&key).await,
        ["by", "alias"] => request.body["KeyId"] = bench.alias(&key).await.into(),
        _ => {
            let changes = case.cell.replace("$key", &key);
            let changes: Value = serde_json::from_str(&changes).expect("JSON");
            for (name, value) in changes.as_object().expect("an object") {
                request.body[name] = value.clone();
            }
        }
    }
}

/// Whether it went as it should.
async fn try_it(bench: &Bench, case: &Case) -> Result<(), String> {
    let mut request = bench.prepare(case.request, &case.setting).await;
    apply(bench, case, &mut request).await;
    let answer = bench
        .here
        .ask(&case.person, &request.operation, &request.body)
        .await;
    let on_key = case
        .setting
        .key
        .iter()
        .all(|of| of["Condition"].is_object());
    let cell = match (case.allowed, on_key) {
        (true, _) => "yes",
        (false, true) => "R",
        (false, false) => "I",
    };
    let expected = expected(cell, &case.needs, &case.person, &request);
    let judged = judge(cell, expected.as_ref(), &answer);
    judged
        .map(drop)
        .map_err(|error| format!("{}: {error}", case.text))
}

/// Catches a condition key that has no value or the wrong one where AWS documents it, be it of the
/// request, the caller, the key's tags and aliases, or the time.
#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_asked_of_running_requests() {
    let matrix = Table::read(include_str!("matrix.tsv"));
    let table = Table::read(include_str!("conditions.tsv"));
    let mut people = People::default();
    let mut cases = Vec::new();
    for (number, row) in table.rows.iter().enumerate() {
        let [name, on, condition, allowed, refused] = row[..] else {
            panic!("{row:?}");
        };
        let whole = matrix.rows.iter().find(|of| of[0] == name);
        let needs = needs(whole.expect("a row of the matrix")[1]);
        let sides: &[&str] = match on {
            "both" => &["identity", "key"],
            "identity" => &["identity"],
            _ => panic!("{row:?}"),
        };
        for side in sides {
            let person = format!("condition-{number}-{side}");
            let tags = "tags = { team = \"tester\" }";
            let statement = own("Allow", "Action", &actions(needs.iter()));
            let (own, key): (Vec<_>, _) = match *side {
                "identity" => (vec![conditional(statement, condition)], root_statement()),
                _ => {
                    let arn = format!("arn:aws:iam::{OWNER}:user/{person}");
                    let on_keys = needs.iter().filter(|need| on_a_key(need.1));
                    let statement = on_key("Allow", &arn, &actions(on_keys));
                    (vec![], conditional(statement, condition))
                }
            };
            let person = people.user_with(OWNER, &person, tags, &own);
            for (cell, allowed) in [(allowed, true), (refused, false)] {
                if cell == "-" {
                    continue;
                }
                cases.push(Case {
                    request: name,
                    needs: needs.clone(),
                    cell,
                    allowed,
                    person: person.clone(),
                    setting: Setting {
                        key: vec![key.clone()],
                        second: vec![key.clone()],
                        ..Setting::default()
                    },
                    text: format!("{name}, {side}, {condition}, {cell}"),
                });
            }
        }
    }
    let (_dev, _folder, bench) = start(people).await;
    let tried = cases
        .iter()
        .map(|case| try_it(&bench, case))
        .collect::<Vec<_>>();
    let tried = futures_util::stream::iter(tried).buffered(AT_A_TIME);
    let wrong: Vec<_> = tried.filter_map(async |tried| tried.err()).collect().await;
    assert!(wrong.is_empty(), "{} cells: {wrong:#?}", wrong.len());
    let rows = table.rows.iter();
    let rows: Vec<Vec<_>> = rows
        .map(|row| {
            row.iter()
                .map(|cell| format!("`{cell}`").replace("`-`", ""))
                .collect()
        })
        .collect();
    golden(SHOWN, "conditions", &markdown(&table.columns, &rows));
}
