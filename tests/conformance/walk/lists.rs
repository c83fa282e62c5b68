//! Lists in pages.

use serde_json::{Value, json};

use super::keys::policy;
use crate::kms::Kms;
use crate::prepared::{SYMMETRIC, new_key};

/// An operation's page limit and marker matter: pages differ in length, and in where they begin.
pub(super) async fn pages(kms: &Kms, operation: &str, body: Value, items: &str) {
    let length = async |answer: &Value| {
        assert_eq!(answer["Truncated"], !answer["NextMarker"].is_null());
        answer[items].as_array().map(Vec::len).into()
    };
    let answers = kms
        .vary(operation, &body, "/Limit", &[1.into(), 2.into()], length)
        .await;
    let first = answers[0].as_ref().expect("a page");
    let mut body = body;
    body["Limit"] = 1.into();
    let page = async |answer: &Value| answer[items].clone();
    let choices = [Value::Null, first["NextMarker"].clone()];
    kms.vary(operation, &body, "/Marker", &choices, page).await;
    body["Marker"] = "nonsense".into();
    kms.no(operation, body, "InvalidMarkerException").await;
}

pub(super) async fn walk(kms: &Kms) {
    let id = new_key(kms, SYMMETRIC, false).await;
    let key = json!({"KeyId": id});
    let tags: Vec<_> = ["a", "b", "c"]
        .map(|name| json!({"TagKey": name, "TagValue": "x"}))
        .into();
    kms.ok("TagResource", json!({"KeyId": id, "Tags": tags}))
        .await;
    for name in ["a", "b", "c"] {
        let body = json!({"AliasName": format!("alias/list-{name}"), "TargetKeyId": id});
        kms.ok("CreateAlias", body).await;
        kms.ok("RotateKeyOnDemand", key.clone()).await;
    }
    pages(kms, "ListKeys", json!({}), "Keys").await;
    pages(kms, "ListAliases", key.clone(), "Aliases").await;
    pages(kms, "ListResourceTags", key.clone(), "Tags").await;
    pages(kms, "ListKeyRotations", key.clone(), "Rotations").await;

    let owners = [json!(["SELF"]), json!(["OTHER_ACCOUNTS_VIA_RAM"])];
    let keys = async |answer: &Value| answer["Keys"].clone();
    kms.vary("ListKeys", &json!({}), "/ResourceOwners", &owners, keys)
        .await;
    let include = ["ROTATIONS_ONLY".into(), "ALL_KEY_MATERIAL".into()];
    let length = async |answer: &Value| answer["Rotations"].as_array().map(Vec::len).into();
    let pointer = "/IncludeKeyMaterial";
    kms.vary("ListKeyRotations", &key, pointer, &include, length)
        .await;

    // A key has one policy, so a limit can only be wrong.
    let body = json!({"KeyId": id, "Policy": policy(&kms.account, "x")});
    kms.ok("PutKeyPolicy", body).await;
    let names = async |answer: &Value| answer["PolicyNames"].clone();
    kms.vary(
        "ListKeyPolicies",
        &key,
        "/Limit",
        &[1.into(), 0.into()],
        names,
    )
    .await;
    let wrong = json!({"KeyId": "arn:aws:s3:::bucket"});
    kms.no("ListAliases", wrong, "InvalidArnException").await;
}
