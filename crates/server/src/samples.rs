//! Valid requests for every operation, made from the service model; for tests only.
//!
//! Reads the model's JSON by itself, so that a mistake in `model` cannot hide itself.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

static MODEL: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_slice(include_bytes!("../model/kms-service-model.json")).unwrap()
});

/// Names of all operations.
pub(crate) fn operations() -> impl Iterator<Item = &'static str> {
    MODEL["operations"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
}

/// The model's description of a shape.
pub(crate) fn shape(name: &str) -> &'static Value {
    &MODEL["shapes"][name]
}

/// The input's shape of an operation.
pub(crate) fn input(operation: &str) -> &'static str {
    MODEL["operations"][operation]["input"]["shape"]
        .as_str()
        .unwrap()
}

/// A request with every member of the operation present and valid.
pub(crate) fn full_request(operation: &str) -> Value {
    valid(input(operation))
}

/// A value that satisfies every constraint of a shape.
pub(crate) fn valid(name: &str) -> Value {
    let shape = shape(name);
    let text = match name {
        "KeyIdType" => "1234abcd-12ab-34cd-56ef-1234567890ab".to_owned(),
        "AccountIdType" => "000000000042".to_owned(),
        "CloudHsmClusterIdType" => "cluster-2345abcdefg".to_owned(),
        "RegionType" => "eu-west-1".to_owned(),
        "ServicePrincipalType" => "service.amazonaws.com".to_owned(),
        "XksProxyUriEndpointType" => "https://xks.example.com".to_owned(),
        "XksProxyUriPathType" => "/kms/xks/v1".to_owned(),
        "XksProxyVpcEndpointServiceNameType" => {
            "com.amazonaws.vpce.us-east-1.vpce-svc-0a".to_owned()
        }
        "GrantConstraintSourceArnType" => "arn:aws:s3::000000000042:bucket/x".to_owned(),
        "XksProxyAuthenticationAccessKeyIdType" => "ABCDEFGHIJKLMNOPQRST".to_owned(),
        _ => "a".repeat(shape["min"].as_u64().unwrap_or(1).max(1) as usize),
    };
    match shape["type"].as_str().unwrap() {
        "string" => match shape["enum"].get(0) {
            Some(first) => first.clone(),
            None => json!(text),
        },
        "blob" => json!("YWFhYQ=="),
        "boolean" => json!(true),
        "integer" => shape["min"].clone(),
        "timestamp" => json!(1_789_212_697.616),
        "list" => json!([valid(shape["member"]["shape"].as_str().unwrap())]),
        "map" => json!({"purpose": "test"}),
        _ => {
            let members = shape["members"].as_object().unwrap();
            let fill = |(name, member): (&String, &Value)| {
                (name.clone(), valid(member["shape"].as_str().unwrap()))
            };
            Value::Object(members.iter().map(fill).collect::<Map<_, _>>())
        }
    }
}
