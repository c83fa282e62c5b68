//! Hand-made histories for the checkers.

mod generated;
mod linear;
mod rights;
mod searches;
mod sessions;
mod things;

use serde_json::{Value, json};

use super::by_name;
use crate::experiment::{Call, Experiment, Holds, Judgement, Outcome, RegionOfNodes};

pub(super) const REGION: &str = "us-east-1";

/// An experiment with these calls, by three clients in one Region.
pub(super) fn experiment(calls: Vec<Call>) -> Experiment {
    Experiment {
        simulated: true,
        regions: vec![RegionOfNodes {
            name: REGION.to_owned(),
            nodes: vec![1, 2, 3],
        }],
        clients: vec!["a".to_owned(), "b".to_owned(), "c".to_owned()],
        ended_us: calls
            .iter()
            .filter_map(|call| call.end_us)
            .max()
            .unwrap_or_default()
            + 1,
        calls,
        ..Experiment::default()
    }
}

/// A linearizable call by the first client that is done, from a time to a time.
pub(super) fn done(span: (u64, u64), operation: &str, input: Value, answer: Value) -> Call {
    Call {
        client: 0,
        start_us: span.0,
        end_us: Some(span.1),
        region: REGION.to_owned(),
        node: None,
        operation: operation.to_owned(),
        caller: None,
        reads: Some("linearizable".into()),
        input,
        outcome: Outcome::Done(answer),
    }
}

pub(super) fn refused(call: Call, error: &str, message: &str) -> Call {
    let (error, message) = (error.to_owned(), message.to_owned());
    Call {
        outcome: Outcome::Refused { error, message },
        ..call
    }
}

pub(super) fn unknown(call: Call) -> Call {
    Call {
        outcome: Outcome::Unknown("no answer in time".to_owned()),
        ..call
    }
}

/// The same call by another client.
pub(super) fn by(client: usize, call: Call) -> Call {
    Call { client, ..call }
}

/// The same call as a `local` read from a node.
pub(super) fn local(node: u64, call: Call) -> Call {
    Call {
        node: Some(node),
        reads: Some("local".into()),
        ..call
    }
}

pub(super) fn arn(key: &str) -> String {
    format!("arn:aws:kms:{REGION}:000000000000:key/{key}")
}

pub(super) fn created(span: (u64, u64), key: &str) -> Call {
    let metadata =
        json!({ "KeyId": key, "Arn": arn(key), "KeyState": "Enabled", "Description": key });
    done(
        span,
        "CreateKey",
        json!({ "Description": key }),
        json!({ "KeyMetadata": metadata }),
    )
}

/// DescribeKey that shows a state, and the description that [`created`] gave.
pub(super) fn described(span: (u64, u64), key: &str, state: &str) -> Call {
    let metadata = json!({ "KeyId": key, "Arn": arn(key), "KeyState": state, "Description": key });
    done(
        span,
        "DescribeKey",
        json!({ "KeyId": key }),
        json!({ "KeyMetadata": metadata }),
    )
}

/// A call on a key whose answer says nothing.
pub(super) fn on(span: (u64, u64), operation: &str, key: &str) -> Call {
    done(span, operation, json!({ "KeyId": key }), Value::Null)
}

pub(super) fn tagged(span: (u64, u64), key: &str, value: &str) -> Call {
    let tags = json!([{ "TagKey": "lab", "TagValue": value }]);
    done(
        span,
        "TagResource",
        json!({ "KeyId": key, "Tags": tags }),
        Value::Null,
    )
}

pub(super) fn tags(span: (u64, u64), key: &str, value: Option<&str>) -> Call {
    let tags: Vec<_> = value
        .iter()
        .map(|value| json!({ "TagKey": "lab", "TagValue": value }))
        .collect();
    let answer = json!({ "Tags": tags, "Truncated": false });
    done(span, "ListResourceTags", json!({ "KeyId": key }), answer)
}

/// What a checker says of calls.
pub(super) fn judged(checker: &str, calls: Vec<Call>) -> Judgement {
    by_name(checker)
        .expect("there is such a checker")
        .judge(&experiment(calls))
}

#[track_caller]
pub(super) fn holds(checker: &str, calls: Vec<Call>) {
    let judgement = judged(checker, calls);
    assert_eq!(judgement.holds, Holds::True, "{judgement:#?}");
}

/// Expects one finding, shown by these calls.
#[track_caller]
pub(super) fn fails(checker: &str, calls: Vec<Call>, evidence: &[usize]) {
    let judgement = judged(checker, calls);
    assert_eq!(judgement.holds, Holds::False, "{judgement:#?}");
    let found: Vec<_> = judgement
        .findings
        .iter()
        .map(|found| found.calls.as_slice())
        .collect();
    assert_eq!(found, [evidence], "{judgement:#?}");
}

/// Catches names of checkers that are not found, or that stand for two of them.
#[test]
fn checkers_are_found_by_name() {
    for checker in &super::CHECKERS {
        let found = by_name(checker.name).unwrap();
        assert_eq!(found.about, checker.about);
        let judgement = checker.judge(&Experiment::default());
        assert_eq!(judgement.checker, checker.name);
        assert_eq!(
            judgement.holds,
            Holds::Unknown,
            "nothing was seen: {judgement:?}"
        );
    }
    assert!(by_name("linear").is_none());
    assert!(super::all(&Experiment::default()).is_empty());
}

/// Catches findings of a live check that are lost on their way into a judgement.
#[test]
fn findings_become_a_judgement() {
    let finding = crate::checks::Finding::new("replicas", "two digests");
    let judgement = Judgement::of("digests", vec![finding.clone()]);
    assert_eq!(
        (judgement.holds, &judgement.findings[0].finding),
        (Holds::False, &finding)
    );
    assert_eq!(Judgement::of("digests", Vec::new()).holds, Holds::True);
}
