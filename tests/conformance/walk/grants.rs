//! Grants: what they may say, how they are listed, and how they end.

use aws_sdk_kms::types::GrantOperation;
use futures_util::StreamExt as _;
use keyrum_tests::sdk;
use serde_json::{Value, json};

use super::lists::pages;
use crate::kms::Kms;
use crate::prepared::{KINDS, NO_GRANT, SYMMETRIC, new_key};

/// What a symmetric encryption key can be granted for, and with it what any key can.
const SYMMETRIC_OPERATIONS: [&str; 10] = [
    "Decrypt",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "ReEncryptFrom",
    "ReEncryptTo",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "RetireGrant",
    "DescribeKey",
];

/// The same of a key of another usage, by its place in [`KINDS`].
const OTHER_OPERATIONS: [(usize, &[&str]); 4] = [
    (2, &["Sign", "Verify", "GetPublicKey"]),
    (3, &["DeriveSharedSecret"]),
    (4, &["Encapsulate", "Decapsulate"]),
    (5, &["GenerateMac", "VerifyMac"]),
];

fn user(kms: &Kms, name: &str) -> Value {
    format!("arn:aws:iam::{}:user/{name}", kms.account).into()
}

/// The entry that a list of one key's grants has for a grant that was just made.
async fn entry(kms: &Kms, key: &str, made: &Value) -> Value {
    let body = json!({"KeyId": key, "GrantId": made["GrantId"]});
    let mut listed = kms.ok("ListGrants", body).await;
    let listed = listed["Grants"].as_array_mut().expect("a list");
    assert_eq!(listed.len(), 1, "{listed:?}");
    listed.remove(0)
}

/// The ids in a list of grants.
fn ids(listed: &Value) -> Value {
    let grants = listed["Grants"].as_array().expect("a list");
    grants
        .iter()
        .map(|grant| grant["GrantId"].clone())
        .collect()
}

pub(super) async fn walk(kms: &Kms) {
    terms(kms).await;
    lists(kms).await;
    ends(kms).await;
}

/// Every member of CreateGrant shows in the list.
async fn terms(kms: &Kms) {
    let key = new_key(kms, SYMMETRIC, false).await;
    let (ada, bob) = (user(kms, "ada"), user(kms, "bob"));
    let base = json!({"KeyId": key, "GranteePrincipal": ada, "Operations": ["Encrypt"]});
    let [red, blue] = ["red", "blue"].map(|team| json!({"team": team}));
    let sources = ["x", "y"].map(|name| kms.arn(&format!("key/{name}")));
    let sources = sources.map(Value::from);
    for (pointer, values) in [
        ("/GranteePrincipal", [ada.clone(), bob.clone()]),
        ("/RetiringPrincipal", [Value::Null, bob.clone()]),
        (
            "/RetiringServicePrincipal",
            [Value::Null, "s3.amazonaws.com".into()],
        ),
        ("/Name", [Value::Null, "backup".into()]),
        (
            "/Constraints/EncryptionContextSubset",
            [red.clone(), blue.clone()],
        ),
        ("/Constraints/EncryptionContextEquals", [red, blue]),
        ("/Constraints/SourceArn", sources),
    ] {
        let told = async |made: &Value| {
            let mut entry = entry(kms, &key, made).await;
            // These are another grant's in any case.
            for member in ["GrantId", "CreationDate"] {
                entry[member] = Value::Null;
            }
            entry
        };
        kms.vary("CreateGrant", &base, pointer, &values, told).await;
    }
    let mut service = base.clone();
    service["RetiringPrincipal"] = bob;
    service["Constraints"]["SourceArn"] = kms.arn("key/x").into();
    let members = service.as_object_mut().expect("an object");
    members.remove("GranteePrincipal");
    let services = ["s3.amazonaws.com".into(), "sqs.amazonaws.com".into()];
    let grantee = async |made: &Value| {
        let entry = entry(kms, &key, made).await;
        assert_eq!(entry["GranteePrincipal"], Value::Null);
        entry["GranteeServicePrincipal"].clone()
    };
    let pointer = "/GranteeServicePrincipal";
    kms.vary("CreateGrant", &service, pointer, &services, grantee)
        .await;

    let mut granted = vec![(key.clone(), SYMMETRIC_OPERATIONS.to_vec())];
    for (kind, operations) in OTHER_OPERATIONS {
        granted.push((new_key(kms, KINDS[kind], false).await, operations.to_vec()));
    }
    for (key, operations) in granted {
        let mut choices: Vec<_> = operations.iter().map(|name| json!([name])).collect();
        // It is none that a grant can be for alone.
        choices.push(json!([operations[0], "CreateGrant"]));
        let told = async |made: &Value| entry(kms, &key, made).await["Operations"].clone();
        let mut body = base.clone();
        body["KeyId"] = key.clone().into();
        kms.vary("CreateGrant", &body, "/Operations", &choices, told)
            .await;
        body["Operations"] = json!(["ReEncryptTo", "Sign"]);
        kms.no("CreateGrant", body, "ValidationException").await;
    }
    let mut body = base;
    body["GranteePrincipal"] = "arn:aws:iam".into();
    kms.no("CreateGrant", body, "InvalidArnException").await;
}

async fn lists(kms: &Kms) {
    let key = new_key(kms, SYMMETRIC, false).await;
    let people = ["carol", "dave"].map(|name| user(kms, name));
    let services = ["s3.amazonaws.com", "sqs.amazonaws.com"].map(Value::from);
    let mut made = Vec::new();
    for (person, service) in people.iter().zip(&services) {
        for _ in 0..3 {
            let body = json!({
                "KeyId": key, "GranteePrincipal": person, "RetiringPrincipal": person,
                "Operations": ["Decrypt"],
            });
            made.push(kms.ok("CreateGrant", body).await["GrantId"].clone());
        }
        let body = json!({
            "KeyId": key, "GranteeServicePrincipal": service, "RetiringServicePrincipal": service,
            "Operations": ["Decrypt"], "Constraints": {"SourceArn": kms.arn("key/x")},
        });
        made.push(kms.ok("CreateGrant", body).await["GrantId"].clone());
    }
    let on_key = json!({"KeyId": key});
    let listed = async |answer: &Value| ids(answer);
    for (pointer, values) in [
        ("/GrantId", [made[0].clone(), made[1].clone()]),
        ("/GranteePrincipal", people.clone()),
        ("/GranteeServicePrincipal", services.clone()),
    ] {
        kms.vary("ListGrants", &on_key, pointer, &values, listed)
            .await;
    }
    pages(kms, "ListGrants", on_key.clone(), "Grants").await;
    let none = json!({});
    let of = "ListRetirableGrants";
    kms.vary(of, &none, "/RetiringPrincipal", &people, listed)
        .await;
    kms.vary(of, &none, "/RetiringServicePrincipal", &services, listed)
        .await;
    pages(kms, of, json!({"RetiringPrincipal": people[0]}), "Grants").await;

    for (operation, body, code) in [
        (
            "ListGrants",
            json!({"KeyId": key, "GrantId": "x"}),
            "InvalidGrantIdException",
        ),
        (
            "ListGrants",
            json!({"KeyId": "alias/x"}),
            "InvalidArnException",
        ),
        (
            of,
            json!({"RetiringPrincipal": "arn:aws:iam"}),
            "InvalidArnException",
        ),
        (
            of,
            json!({"RetiringPrincipal": "AROAEXAMPLE"}),
            "NotFoundException",
        ),
    ] {
        kms.no(operation, body, code).await;
    }

    // Another account's grants are issued by it.
    let other = kms.of_account("111122223333");
    let key = new_key(&other, SYMMETRIC, false).await;
    let body = json!({
        "KeyId": key, "GranteePrincipal": user(&other, "ada"), "Operations": ["Encrypt"],
    });
    let made = other.ok("CreateGrant", body).await;
    let issuer = entry(&other, &key, &made).await["IssuingAccount"].clone();
    assert_eq!(issuer, "arn:aws:iam::111122223333:root");
}

async fn ends(kms: &Kms) {
    let root = format!("arn:aws:iam::{}:root", kms.account);
    let mut keys = Vec::new();
    for _ in 0..2 {
        let id = new_key(kms, SYMMETRIC, false).await;
        keys.push(kms.arn(&format!("key/{id}")));
    }
    let (key, other) = (&keys[0], &keys[1]);
    let grant = async || {
        let body = json!({
            "KeyId": key, "GranteePrincipal": root, "Operations": ["Encrypt", "RetireGrant"],
        });
        kms.ok("CreateGrant", body).await
    };
    let left = async |_: &Value| ids(&kms.ok("ListGrants", json!({"KeyId": key})).await);
    let [first, second] = [grant().await, grant().await];
    let gone = grant().await;
    let token = json!({"GrantToken": gone["GrantToken"]});
    kms.ok("RetireGrant", token).await;

    // Each ends another one, or none.
    let tokens = [&gone, &first, &second].map(|made| made["GrantToken"].clone());
    let answers = kms
        .vary("RetireGrant", &json!({}), "/GrantToken", &tokens, left)
        .await;
    let refused = answers[0].as_ref().expect_err("its grant is gone");
    assert_eq!(refused.code, "InvalidGrantTokenException");
    for operation in ["RetireGrant", "RevokeGrant"] {
        let [first, second] = [grant().await, grant().await];
        let [id, of] = [&second["GrantId"], &first["GrantId"]];
        let ids = [NO_GRANT.into(), of.clone()];
        let body = json!({"KeyId": key});
        kms.vary(operation, &body, "/GrantId", &ids, left).await;
        let body = json!({"KeyId": key, "GrantId": id});
        for (pointer, values) in [
            ("/DryRun", [true.into(), Value::Null]),
            ("/KeyId", [other.clone().into(), key.clone().into()]),
        ] {
            let made = grant().await;
            let mut body = body.clone();
            body["GrantId"] = made["GrantId"].clone();
            kms.vary(operation, &body, pointer, &values, left).await;
        }
        for (body, code) in [
            (
                json!({"KeyId": key, "GrantId": "x"}),
                "InvalidGrantIdException",
            ),
            (
                json!({"KeyId": key, "GrantId": NO_GRANT}),
                "NotFoundException",
            ),
            (
                json!({"KeyId": "alias/x", "GrantId": id}),
                "InvalidArnException",
            ),
        ] {
            kms.no(operation, body, code).await;
        }
        kms.ok(operation, body).await;
    }
}

/// A key has as many grants as it may have, and gets no other.
pub(super) async fn too_many(kms: &Kms) {
    const GRANTS_MAX: usize = 50_000;
    let key = new_key(kms, SYMMETRIC, false).await;
    // The SDK keeps its connections.
    let client = sdk::client(&kms.endpoint, kms.region, &kms.account);
    let ada = user(kms, "ada");
    let call = client
        .create_grant()
        .key_id(&key)
        .grantee_principal(ada.as_str().expect("a text"))
        .operations(GrantOperation::Encrypt);
    let granted = (0..GRANTS_MAX).map(|_| call.clone().send());
    let mut granted = futures_util::stream::iter(granted).buffer_unordered(64);
    while let Some(answer) = granted.next().await {
        answer.expect("fewer than it may have");
    }
    let body = json!({"KeyId": key, "GranteePrincipal": ada, "Operations": ["Encrypt"]});
    kms.no("CreateGrant", body, "LimitExceededException").await;
}
