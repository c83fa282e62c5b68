//! Hostile bytes against parser, validator and error path.

use std::sync::Arc;
use std::time::Duration;

use keyrum_consensus::ReadMode;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use crate::http::{Limits, Server};
use crate::model::Model;
use crate::regions::Backend;
use crate::testing::{Fake, exchange, world};
use crate::{AcceptedCredentials, Endpoint, EndpointSettings, Regions, samples, validate};

/// Checks a body for an operation; gives the error's name, or nothing if it passes.
fn outcome(operation: &str, body: &[u8]) -> Option<&'static str> {
    let operation = Model::get().operation(operation).unwrap();
    let error = validate::check(operation, body).err()?;
    assert_eq!(error.status, 400);
    // The answer is JSON whatever was echoed in it.
    let answer: Value = serde_json::from_slice(&error.body()).unwrap();
    assert_eq!(answer["__type"], error.code);
    assert!(["ValidationException", "SerializationException"].contains(&error.code));
    Some(error.code)
}

/// Values that parsers stumble over.
fn hostile() -> impl Strategy<Value = Value> {
    let deep = |depth: usize| (0..depth).fold(json!(null), |inner, _| json!([inner]));
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![json!(-0.0), json!(f64::MAX), json!(f64::MIN_POSITIVE)]),
        ".{0,40}".prop_map(Value::from),
        "[A-Za-z0-9+/=]{0,64}".prop_map(Value::from),
        (0usize..20_000).prop_map(|length| json!("\u{e9}".repeat(length))),
        (0usize..200).prop_map(deep),
        (0usize..200).prop_map(|count| json!(vec![json!({}); count])),
        ".{0,10}".prop_map(|key| json!({ key: [{}] })),
    ]
}

/// Puts `value` in the place of the node number `at` of `tree`, counted depth first.
fn replace(tree: &mut Value, at: &mut usize, value: &Value) {
    if *at == 0 {
        *tree = value.clone();
    }
    *at = at.wrapping_sub(1);
    match tree {
        Value::Array(values) => values
            .iter_mut()
            .for_each(|inner| replace(inner, at, value)),
        Value::Object(members) => members
            .values_mut()
            .for_each(|inner| replace(inner, at, value)),
        _ => {}
    }
}

/// Changes bytes: each edit removes, doubles, overwrites or inserts somewhere.
fn edit(bytes: &mut Vec<u8>, edits: &[(Index, u8, u8)]) {
    for (at, kind, byte) in edits {
        let at = at.index(bytes.len() + 1);
        match kind % 5 {
            0 if at < bytes.len() => drop(bytes.remove(at)),
            1 if at < bytes.len() => bytes[at] = *byte,
            2 => bytes.truncate(at),
            3 => {
                let copy = bytes[at..(at + usize::from(*byte)).min(bytes.len())].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => bytes.insert(at, *byte),
        }
    }
}

fn operation() -> impl Strategy<Value = &'static str> {
    prop::sample::select(samples::operations().collect::<Vec<_>>())
}

fn edits() -> impl Strategy<Value = Vec<(Index, u8, u8)>> {
    prop::collection::vec(any::<(Index, u8, u8)>(), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Catches a panic, or an error other than the client's own, for any bytes as a body.
    #[test]
    fn any_bytes_are_refused_politely(name in operation(), body in prop::collection::vec(any::<u8>(), 0..300)) {
        outcome(name, &body);
    }

    /// Catches the same for bodies that are nearly right: hostile values in the places of good
    /// ones, then damaged bytes.
    #[test]
    fn damaged_requests_are_refused_politely(
        name in operation(),
        at in 0usize..30,
        value in hostile(),
        edits in edits(),
    ) {
        let mut body = samples::full_request(name);
        let mut place = at;
        replace(&mut body, &mut place, &value);
        let mut bytes = body.to_string().into_bytes();
        outcome(name, &bytes);
        edit(&mut bytes, &edits);
        outcome(name, &bytes);
    }
}

/// Catches bytes that every parser must survive and random ones do not hit: for each operation.
#[test]
fn known_attacks_are_refused() {
    let mut attacks: Vec<Vec<u8>> = vec![
        b"{\"KeyId\":\"\xff\xfe\"}".to_vec(),
        br#"{"KeyId":"\ud800"}"#.to_vec(),
        br#"{"KeyId":1e999}"#.to_vec(),
        format!(r#"{{"Limit":{}}}"#, "9".repeat(10_000)).into_bytes(),
        format!(r#"{{"KeyId":{}"#, "[".repeat(500_000)).into_bytes(),
        format!(r#"{{"X":{}1{}}}"#, "{\"a\":".repeat(5000), "}".repeat(5000)).into_bytes(),
        format!("{{{}}}", vec![r#""KeyId":"a""#; 80_000].join(",")).into_bytes(),
        format!(r#"{{"KeyId":"{}"}}"#, "\\u0000".repeat(100_000)).into_bytes(),
    ];
    attacks.push(format!(r#"{{"Tags":[{}]}}"#, vec!["{}"; 300_000].join(",")).into_bytes());
    attacks
        .push(format!(r#"{{"GrantTokens":[{}]}}"#, vec!["null"; 200_000].join(",")).into_bytes());
    let begin = tokio::time::Instant::now();
    for name in samples::operations() {
        for attack in &attacks {
            outcome(name, attack);
        }
    }
    // About a fifth of this on a slow machine; a quadratic parser would need hours.
    assert!(
        begin.elapsed() < Duration::from_secs(60),
        "{:?}",
        begin.elapsed()
    );
}

fn whole_request(name: &str) -> Vec<u8> {
    let body = samples::full_request(name).to_string();
    format!(
        "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-amz-json-1.1\r\n\
         x-amz-target: TrentService.{name}\r\nx-keyrum-consistency: local\r\n\
         authorization: AWS4-HMAC-SHA256 Credential=a/20260912/us-east-1/kms/aws4_request, \
         SignedHeaders=host, Signature=00\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Catches a panic, a fault or a hang for any bytes on a connection, whole requests of all 56
/// operations among them.
#[test]
fn any_bytes_on_a_connection_are_answered() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let world = world();
    let addr = "127.0.0.1:1";
    let (server, _regions) = runtime.block_on(async {
        let regions = Regions::default();
        let node: Arc<dyn Backend> = Fake::new("node");
        regions.set_backends(vec![("us-east-1".parse().unwrap(), vec![node])]);
        let settings = EndpointSettings {
            default_account: "000000000000".parse().unwrap(),
            consistency: ReadMode::Linearizable,
            credentials: AcceptedCredentials::Any,
        };
        let endpoint = Endpoint::new(regions.clone(), settings, None);
        (
            Server::start(&world, addr, endpoint, Limits::default())
                .await
                .unwrap(),
            regions,
        )
    });
    let send = |bytes: &[u8]| {
        let shown = || String::from_utf8_lossy(bytes).into_owned();
        let answer = runtime.block_on(exchange(&world, addr, bytes, Duration::from_secs(20)));
        let answer = answer.unwrap_or_else(|| panic!("no end after {:?}", shown()));
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(!text.contains("HTTP/1.1 5"), "{text} for {:?}", shown());
        text
    };
    for name in samples::operations() {
        let answer = send(&whole_request(name));
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{name}: {answer}");
    }
    let config = ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let garbage = prop::collection::vec(any::<u8>(), 0..200);
    proptest!(config, |(name in operation(), edits in edits(), garbage in garbage, whole in 0u8..8)| {
        let mut bytes = if whole == 0 { garbage } else { whole_request(name) };
        if whole == 1 {
            bytes.splice(0..0, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".iter().copied());
        }
        edit(&mut bytes, &edits);
        send(&bytes);
    });
    runtime.block_on(server.stop());
}
