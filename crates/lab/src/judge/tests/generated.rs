//! Histories of a service that is linearizable, made with random overlap, and the same with a flaw.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::searches::Numbers;
use super::*;

/// A key of the service.
#[derive(Clone)]
struct Key {
    state: &'static str,
    description: String,
    tag: Option<String>,
}

/// A call with the moment at which it takes effect.
struct Planned {
    call: Call,
    at: u64,
}

/// The calls of [`by_effect`] in the order in which they began.
pub(super) fn history(seed: u64, calls: usize, keys: usize, unknown: u64) -> Vec<Call> {
    let mut all = by_effect(seed, calls, keys, unknown);
    all.sort_by_key(|call| call.start_us);
    all
}

/// Calls of a service that does everything at one moment each, in the order in which they take effect.
/// Of a hundred calls `unknown` have no known outcome: they take effect at once, late, or never.
fn by_effect(seed: u64, calls: usize, keys: usize, unknown: u64) -> Vec<Call> {
    const CLIENTS: usize = 8;
    let mut numbers = Numbers::new(seed);
    let mut free = [0_u64; CLIENTS];
    let mut all: Vec<Call> = (0..keys)
        .map(|key| created((2 * key as u64, 2 * key as u64 + 1), &format!("k{key}")))
        .collect();
    let began = 2 * keys as u64;
    free.fill(began);
    let mut planned = Vec::new();
    let mut at = began;
    for number in 0..calls {
        at += 1 + numbers.below(20);
        let client = usize::try_from(numbers.below(CLIENTS as u64)).unwrap();
        let start = (free[client] + 1 + numbers.below(30)).min(at.max(free[client] + 1));
        let at_here = at.max(start);
        let end = at_here + numbers.below(120);
        free[client] = end;
        let key = format!("k{}", numbers.below(keys as u64));
        let value = format!("v{number}");
        let span = (start, end);
        let call = match numbers.below(10) {
            0 => on(span, "DisableKey", &key),
            1 => on(span, "EnableKey", &key),
            2 | 3 => tagged(span, &key, &value),
            4 => {
                let input = json!({ "KeyId": key, "Description": value });
                done(span, "UpdateKeyDescription", input, Value::Null)
            }
            5 => on(span, "Encrypt", &key),
            6 | 7 => tags(span, &key, None),
            _ => described(span, &key, "Enabled"),
        };
        let mut call = by(client, call);
        let mut at = at_here;
        if numbers.below(100) < unknown {
            call = super::unknown(call);
            at +=
                [0, numbers.below(2_000), u64::MAX / 2][usize::try_from(numbers.below(3)).unwrap()];
        }
        planned.push(Planned { call, at });
    }
    planned.sort_by_key(|planned| planned.at);
    let new = |key: usize| Key {
        state: "Enabled",
        description: format!("k{key}"),
        tag: None,
    };
    let mut service: BTreeMap<String, Key> =
        (0..keys).map(|key| (format!("k{key}"), new(key))).collect();
    for Planned { mut call, at } in planned {
        if at < u64::MAX / 2 {
            take_effect(&mut service, &mut call);
        }
        all.push(call);
    }
    all
}

fn take_effect(service: &mut BTreeMap<String, Key>, call: &mut Call) {
    let id = call.input["KeyId"].as_str().unwrap().to_owned();
    let key = service.get_mut(&id).unwrap();
    let span = (call.start_us, call.end_us.unwrap());
    let mut answer = None;
    match call.operation.as_str() {
        "DisableKey" => key.state = "Disabled",
        "EnableKey" => key.state = "Enabled",
        "TagResource" => {
            key.tag = call.input["Tags"][0]["TagValue"]
                .as_str()
                .map(str::to_owned)
        }
        "UpdateKeyDescription" => {
            key.description = call.input["Description"].as_str().unwrap().to_owned();
        }
        "Encrypt" if key.state == "Disabled" => {
            let says = format!("{} is disabled.", arn(&id));
            answer = Some(refused(call.clone(), "DisabledException", &says).outcome);
        }
        "ListResourceTags" => answer = Some(tags(span, &id, key.tag.as_deref()).outcome),
        "DescribeKey" => {
            let Outcome::Done(mut shown) = described(span, &id, key.state).outcome else {
                unreachable!("it is done")
            };
            shown["KeyMetadata"]["Description"] = json!(key.description);
            answer = Some(Outcome::Done(shown));
        }
        _ => {}
    }
    if !matches!(call.outcome, Outcome::Unknown(_))
        && let Some(answer) = answer
    {
        call.outcome = answer;
    }
}

/// Catches a checker that finds fault with a linearizable service, and one that overlooks a value
/// which an acknowledged change had replaced.
#[test]
fn a_linearizable_service_passes_and_a_stale_read_does_not() {
    for seed in 1..150 {
        let calls = history(seed, 60 + usize::try_from(seed).unwrap(), 3, seed % 30);
        holds("linearizable", calls.clone());
        holds("linearizable-all", calls.clone());
        let later = calls.iter().filter_map(|call| call.end_us).max().unwrap() + 1;
        let mut stale = calls;
        let first = stale.len();
        stale.push(tagged((later, later + 1), "k0", "before"));
        stale.push(tagged((later + 2, later + 3), "k0", "after"));
        stale.push(tags((later + 4, later + 5), "k0", Some("before")));
        fails("linearizable", stale, &[first, first + 1, first + 2]);
    }
}

/// Catches reads of a replica that are late, but never go back, being taken for wrong, and one that
/// goes back for right.
#[test]
fn a_late_replica_passes_and_one_that_goes_back_does_not() {
    for seed in 1..60 {
        let mut calls = by_effect(seed, 200, 3, 5);
        let over = calls.iter().filter_map(|call| call.end_us).max().unwrap();
        // A node shows each read once more, in the same order, when all is over.
        let reads = calls.iter().filter(|call| {
            call.operation == "ListResourceTags" && matches!(call.outcome, Outcome::Done(_))
        });
        let again = |(at, call): (u64, &Call)| Call {
            start_us: over + 10 * at,
            end_us: Some(over + 10 * at + 1),
            client: 0,
            ..local(1, call.clone())
        };
        let late: Vec<Call> = (1..).zip(reads).map(again).collect();
        calls.extend(late.clone());
        calls.sort_by_key(|call| call.start_us);
        holds("linearizable", calls.clone());
        holds("monotonic-reads", calls.clone());
        // It shows a change, and then the time before.
        let end = over + 10 * (late.len() as u64 + 1);
        calls.push(tagged((end, end + 1), "k0", "new"));
        let read = |at: u64, value| local(1, tags((at, at + 1), "k0", value));
        calls.push(read(end + 2, Some("new")));
        holds("monotonic-reads", calls.clone());
        calls.push(read(end + 4, None));
        assert_eq!(
            judged("monotonic-reads", calls).holds,
            Holds::False,
            "seed {seed}"
        );
    }
}

/// Catches a checker that is too slow for a run of ten thousand calls: none of its searches gives up.
#[test]
fn ten_thousand_calls_are_judged() {
    let calls = history(7, 10_000, 17, 3);
    let experiment = experiment(calls);
    let judgement = by_name("linearizable").unwrap().judge(&experiment);
    assert_eq!(judgement.holds, Holds::True, "{judgement:#?}");
    assert!(
        judgement.about.ends_with(" on 51 objects"),
        "{}",
        judgement.about
    );
}
