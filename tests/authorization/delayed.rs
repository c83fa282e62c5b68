//! Grants that reads do not show yet: `--propagation-delay`.

use futures_util::StreamExt as _;
use keyrum_tests::wait;
use serde_json::json;

use crate::matrix::{AT_A_TIME, Need, expected, needs, start_with};
use crate::people::{At, OWNER, People, Person};
use crate::requests::{Bench, Setting};
use crate::table::Table;

/// Whether the request of a row worked with a token, and not without it a moment later; if it did, its lag
/// was so short that nothing is shown.
async fn by_token_alone(
    bench: &Bench,
    delayed: &At,
    person: &Person,
    row: &'static str,
    needs: &[Need],
) -> bool {
    let request = bench.prepare(row, &Setting::default()).await;
    let keys = ["key", "second"].map(|place| request.places.get(place));
    let mut tokens = Vec::new();
    for key in keys.into_iter().flatten() {
        wait::until_true("view with the key", wait::LONG, async || {
            let body = json!({"KeyId": key});
            let seen = delayed.ask(&bench.keeper, "DescribeKey", &body).await;
            seen.is_ok()
        })
        .await;
        let operations: Vec<_> = needs.iter().map(|(action, _)| *action).collect();
        let granted = bench.grant(key, &person.arn, &operations).await;
        tokens.push(granted["GrantToken"].clone());
    }
    let operation = &request.operation;
    let mut with_tokens = request.body.clone();
    with_tokens["GrantTokens"] = tokens.into();
    let with = delayed.ask(person, operation, &with_tokens).await;
    assert!(with.is_ok(), "{row}: {with:?}");
    let without = delayed.ask(person, operation, &request.body).await;
    let hidden = without.is_err();
    if let Err(error) = without {
        let expected = expected("R", needs, person, &request);
        assert_eq!(Some(error), expected, "{row}");
    }
    wait::until_true("view with the grant", wait::LONG, async || {
        let answer = delayed.ask(person, operation, &request.body).await;
        answer.is_ok()
    })
    .await;
    hidden
}

/// Catches a grant token that is worth nothing where reads are delayed, which is what tokens are for; and a
/// delay that grants do not have.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_shows_a_grant_that_reads_do_not_show_yet() {
    let table = Table::read(include_str!("matrix.tsv"));
    let by_token = table.columns.iter().position(|name| *name == "grant token");
    let by_token = by_token.expect("a column");
    let mut people = People::default();
    let person = people.user(OWNER, "nobody", &[]);
    let args = ["--nodes", "1", "--propagation-delay", "3s"];
    let (_dev, _folder, mut bench) = start_with(people, &args).await;
    let delayed = bench.here.clone();
    bench.here.reads = Some("linearizable");
    let (bench, delayed, person) = (&bench, &delayed, &person);
    // These two are decided by the log, which lags behind nothing.
    let rows = table
        .rows
        .iter()
        .filter(|row| row[by_token] == "yes" && !["CreateGrant", "RetireGrant"].contains(&row[0]));
    let asked: Vec<_> = rows
        .map(|row| async move {
            let needs = needs(row[1]);
            for _ in 0..10 {
                if by_token_alone(bench, delayed, person, row[0], &needs).await {
                    return;
                }
            }
            panic!("{}: grants are seen at once", row[0]);
        })
        .collect();
    let asked: Vec<()> = futures_util::stream::iter(asked)
        .buffered(AT_A_TIME)
        .collect()
        .await;
    assert_eq!(asked.len(), 18);
}
