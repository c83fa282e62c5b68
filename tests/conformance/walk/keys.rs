//! Keys, their names, tags and policies.

use serde_json::{Value, json};

use super::CHINA;
use crate::kms::Kms;
use crate::prepared::{SYMMETRIC, new_key};

/// A policy that lets its account do everything, told from others by its name.
pub(super) fn policy(account: &str, name: &str) -> Value {
    let principal = json!({"AWS": format!("arn:aws:iam::{account}:root")});
    let statement =
        json!({"Effect": "Allow", "Principal": principal, "Action": "kms:*", "Resource": "*"});
    let policy = json!({"Version": "2012-10-17", "Id": name, "Statement": [statement]});
    policy.to_string().into()
}

/// One that lets nobody change it again.
pub(super) fn locking(account: &str) -> Value {
    let text = policy(account, "locking");
    let text = text.as_str().expect("a text");
    let locked = text.replace(r#""Action":"kms:*""#, r#""NotAction":"kms:PutKeyPolicy""#);
    assert_ne!(locked, text);
    locked.into()
}

fn listed(values: &[&str]) -> Vec<Value> {
    values.iter().map(|&value| value.into()).collect()
}

pub(super) async fn walk(kms: &Kms) {
    creation(kms).await;
    specs(kms).await;
    life(kms).await;
    names(kms).await;
    tags(kms).await;
    policies(kms).await;
}

async fn creation(kms: &Kms) {
    let nothing = json!({});
    let described = async |answer: &Value| answer["KeyMetadata"]["Description"].clone();
    let texts = [Value::Null, "x".into()];
    kms.vary("CreateKey", &nothing, "/Description", &texts, described)
        .await;
    let id = |answer: &Value| answer["KeyMetadata"]["KeyId"].clone();
    let stored = async |answer: &Value| {
        let policy = kms.ok("GetKeyPolicy", json!({"KeyId": id(answer)})).await;
        policy["Policy"].clone()
    };
    let choices = [policy(&kms.account, "a"), policy(&kms.account, "b")];
    kms.vary("CreateKey", &nothing, "/Policy", &choices, stored)
        .await;
    let locked = json!({"Policy": locking(&kms.account)});
    let pointer = "/BypassPolicyLockoutSafetyCheck";
    let choices = [false.into(), true.into()];
    kms.vary("CreateKey", &locked, pointer, &choices, stored)
        .await;
    let family = async |answer: &Value| answer["KeyMetadata"]["MultiRegion"].clone();
    kms.vary("CreateKey", &nothing, "/MultiRegion", &choices, family)
        .await;
    let state = async |answer: &Value| answer["KeyMetadata"]["KeyState"].clone();
    let origins = listed(&["AWS_KMS", "EXTERNAL"]);
    kms.vary("CreateKey", &nothing, "/Origin", &origins, state)
        .await;
    let tagged = async |answer: &Value| {
        let tags = kms.ok("ListResourceTags", json!({"KeyId": id(answer)}));
        tags.await["Tags"].clone()
    };
    let one = json!({"Tags": [{"TagKey": "a", "TagValue": "b"}]});
    let choices = [json!([]), one["Tags"].clone()];
    kms.vary("CreateKey", &nothing, "/Tags", &choices, tagged)
        .await;
    for pointer in ["/Tags/0/TagKey", "/Tags/0/TagValue"] {
        let choices = listed(&["c", "d"]);
        kms.vary("CreateKey", &one, pointer, &choices, tagged).await;
    }

    let long = "x".repeat(33_000);
    let arn = policy(&kms.account, "x")
        .as_str()
        .expect("a text")
        .replace(":iam::", ":iam:");
    let twice = json!([{"TagKey": "a", "TagValue": "b"}, {"TagKey": "a", "TagValue": "c"}]);
    for (body, code) in [
        (json!({"Policy": "{}"}), "MalformedPolicyDocumentException"),
        (json!({"Policy": arn}), "InvalidArnException"),
        (json!({"Policy": long}), "LimitExceededException"),
        (json!({"Tags": twice}), "TagException"),
        (
            json!({"KeySpec": "SM2", "KeyUsage": "SIGN_VERIFY"}),
            "UnsupportedOperationException",
        ),
    ] {
        kms.no("CreateKey", body, code).await;
    }
    // The account is the caller's, and a key's manager its owner.
    let other = kms.of_account("111122223333");
    other.ok("CreateKey", json!({})).await;
}

async fn specs(kms: &Kms) {
    let usages: [(&str, &[&str]); 5] = [
        (
            "ENCRYPT_DECRYPT",
            &["SYMMETRIC_DEFAULT", "RSA_2048", "RSA_3072", "RSA_4096"],
        ),
        (
            "SIGN_VERIFY",
            &[
                "ECC_NIST_P256",
                "ECC_NIST_P384",
                "ECC_NIST_P521",
                "ECC_SECG_P256K1",
                "ECC_NIST_EDWARDS25519",
                "ML_DSA_44",
                "ML_DSA_65",
                "ML_DSA_87",
            ],
        ),
        ("KEY_AGREEMENT", &["ECC_NIST_P256", "ECC_NIST_P384"]),
        (
            "GENERATE_VERIFY_MAC",
            &["HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512"],
        ),
        (
            "ENCAPSULATE_DECAPSULATE",
            &["ML_KEM_512", "ML_KEM_768", "ML_KEM_1024"],
        ),
    ];
    let china = kms.in_region(CHINA);
    for name in ["KeySpec", "CustomerMasterKeySpec"] {
        let told = async |answer: &Value| answer["KeyMetadata"][name].clone();
        let pointer = format!("/{name}");
        for (usage, specs) in usages {
            // The deprecated name has the older specs only.
            let older = |spec: &&str| {
                name == "KeySpec" || !(spec.starts_with("ML_") || *spec == "ECC_NIST_EDWARDS25519")
            };
            let specs: Vec<&str> = specs.iter().copied().filter(older).collect();
            let body = json!({"KeyUsage": usage});
            if !specs.is_empty() {
                kms.vary("CreateKey", &body, &pointer, &listed(&specs), told)
                    .await;
            }
        }
        let specs = listed(&["SM2", "ECC_NIST_P256"]);
        let body = json!({"KeyUsage": "SIGN_VERIFY"});
        china.vary("CreateKey", &body, &pointer, &specs, told).await;
    }
    let used = async |answer: &Value| answer["KeyMetadata"]["KeyUsage"].clone();
    for (spec, usages) in [
        ("RSA_2048", ["ENCRYPT_DECRYPT", "SIGN_VERIFY"]),
        ("ECC_NIST_P256", ["SIGN_VERIFY", "KEY_AGREEMENT"]),
        ("HMAC_256", ["SIGN_VERIFY", "GENERATE_VERIFY_MAC"]),
        ("ML_KEM_512", ["SIGN_VERIFY", "ENCAPSULATE_DECAPSULATE"]),
    ] {
        let body = json!({"KeySpec": spec});
        kms.vary("CreateKey", &body, "/KeyUsage", &listed(&usages), used)
            .await;
    }
}

async fn life(kms: &Kms) {
    let id = new_key(kms, SYMMETRIC, false).await;
    let key = json!({"KeyId": id});
    let state =
        async || kms.ok("DescribeKey", key.clone()).await["KeyMetadata"]["KeyState"].clone();
    let after = async |_: &Value| state().await;
    let ids = [
        "1234abcd-12ab-34cd-56ef-1234567890ab".into(),
        id.clone().into(),
    ];
    for (operation, then) in [
        ("DisableKey", "Disabled"),
        ("EnableKey", "Enabled"),
        ("ScheduleKeyDeletion", "PendingDeletion"),
        ("CancelKeyDeletion", "Disabled"),
    ] {
        kms.vary(operation, &key, "/KeyId", &ids, after).await;
        assert_eq!(state().await, then);
    }
    kms.no("CancelKeyDeletion", key.clone(), "KMSInvalidStateException")
        .await;
    let back = async |answer: &Value| {
        kms.ok("CancelKeyDeletion", key.clone()).await;
        answer["PendingWindowInDays"].clone()
    };
    let days = [7.into(), 30.into()];
    kms.vary(
        "ScheduleKeyDeletion",
        &key,
        "/PendingWindowInDays",
        &days,
        back,
    )
    .await;
    let text = async |_: &Value| {
        kms.ok("DescribeKey", key.clone()).await["KeyMetadata"]["Description"].clone()
    };
    let texts = listed(&["a", "b"]);
    kms.vary("UpdateKeyDescription", &key, "/Description", &texts, text)
        .await;
    let alias = json!({"KeyId": "alias/x"});
    kms.no("CancelKeyDeletion", alias, "InvalidArnException")
        .await;
    let other = new_key(kms, SYMMETRIC, false).await;
    for id in [&id, &other] {
        kms.ok("ScheduleKeyDeletion", json!({"KeyId": id})).await;
    }
    let rescued = async |answer: &Value| answer["KeyId"].clone();
    let ids = [id.clone().into(), other.into()];
    kms.vary("CancelKeyDeletion", &json!({}), "/KeyId", &ids, rescued)
        .await;
}

async fn names(kms: &Kms) {
    let (one, two) = (
        new_key(kms, SYMMETRIC, false).await,
        new_key(kms, SYMMETRIC, false).await,
    );
    let names = async || {
        let aliases = kms.ok("ListAliases", json!({"KeyId": one})).await;
        let aliases = aliases["Aliases"].as_array().cloned().unwrap_or_default();
        let names = aliases.iter().map(|alias| alias["AliasName"].clone());
        Value::Array(names.collect())
    };
    let body = json!({"TargetKeyId": one});
    let after = async |_: &Value| names().await;
    let choices = listed(&["alias/walk-a", "alias/walk-b"]);
    kms.vary("CreateAlias", &body, "/AliasName", &choices, after)
        .await;
    let target = async |_: &Value| {
        let shown = kms.ok("DescribeKey", json!({"KeyId": "alias/walk-a"}));
        shown.await["KeyMetadata"]["KeyId"].clone()
    };
    let body = json!({"AliasName": "alias/walk-a"});
    let choices = [two.clone().into(), one.clone().into()];
    kms.vary("UpdateAlias", &body, "/TargetKeyId", &choices, target)
        .await;
    let body = json!({"TargetKeyId": one});
    let choices = listed(&["alias/walk-b", "alias/nobody"]);
    kms.vary("UpdateAlias", &body, "/AliasName", &choices, after)
        .await;
    kms.vary("DeleteAlias", &json!({}), "/AliasName", &choices, after)
        .await;
    let again = json!({"AliasName": "alias/walk-a", "TargetKeyId": two});
    kms.no("CreateAlias", again, "AlreadyExistsException").await;
    let choices = [one.clone().into(), two.clone().into()];
    let first = async |answer: &Value| answer["Aliases"].clone();
    kms.vary("ListAliases", &json!({}), "/KeyId", &choices, first)
        .await;
    for number in 0..50 {
        let body = json!({"AliasName": format!("alias/many-{number}"), "TargetKeyId": two});
        kms.ok("CreateAlias", body).await;
    }
    let body = json!({"AliasName": "alias/many", "TargetKeyId": two});
    kms.no("CreateAlias", body, "LimitExceededException").await;
    let body = json!({"AliasName": "alias/walk-a", "TargetKeyId": two});
    kms.no("UpdateAlias", body, "LimitExceededException").await;
}

async fn tags(kms: &Kms) {
    let id = new_key(kms, SYMMETRIC, false).await;
    let tags =
        async |_: &Value| kms.ok("ListResourceTags", json!({"KeyId": id})).await["Tags"].clone();
    let body = json!({"KeyId": id, "Tags": [{"TagKey": "a", "TagValue": "b"}]});
    for pointer in ["/Tags/0/TagKey", "/Tags/0/TagValue"] {
        let choices = listed(&["c", "d"]);
        kms.vary("TagResource", &body, pointer, &choices, tags)
            .await;
    }
    let body = json!({"KeyId": id});
    let choices = [json!(["c"]), json!(["d"])];
    kms.vary("UntagResource", &body, "/TagKeys", &choices, tags)
        .await;
    let reserved = json!({"KeyId": id, "Tags": [{"TagKey": "aws:x", "TagValue": "b"}]});
    kms.no("TagResource", reserved, "TagException").await;
    let reserved = json!({"KeyId": id, "TagKeys": ["aws:x"]});
    kms.no("UntagResource", reserved, "TagException").await;
}

async fn policies(kms: &Kms) {
    let id = new_key(kms, SYMMETRIC, false).await;
    let stored =
        async |_: &Value| kms.ok("GetKeyPolicy", json!({"KeyId": id})).await["Policy"].clone();
    let body = json!({"KeyId": id, "Policy": policy(&kms.account, "x")});
    let choices = [policy(&kms.account, "a"), policy(&kms.account, "b")];
    kms.vary("PutKeyPolicy", &body, "/Policy", &choices, stored)
        .await;
    let names = listed(&["default", "other"]);
    kms.vary("PutKeyPolicy", &body, "/PolicyName", &names, stored)
        .await;
    kms.vary(
        "GetKeyPolicy",
        &json!({"KeyId": id}),
        "/PolicyName",
        &names,
        stored,
    )
    .await;
    let long = json!({"KeyId": id, "Policy": "x".repeat(33_000)});
    kms.no("PutKeyPolicy", long, "LimitExceededException").await;
    let body = json!({"KeyId": id, "Policy": locking(&kms.account)});
    let choices = [false.into(), true.into()];
    let pointer = "/BypassPolicyLockoutSafetyCheck";
    kms.vary("PutKeyPolicy", &body, pointer, &choices, stored)
        .await;
}
