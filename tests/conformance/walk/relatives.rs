//! Families of multi-Region keys.

use keyrum_tests::sdk::{HERE, THERE};
use keyrum_tests::wait;
use serde_json::{Value, json};

use super::keys::{locking, policy};
use crate::kms::Kms;
use crate::prepared::{Fresh, KINDS, SYMMETRIC, import, new_key};

async fn wait_for(kms: &Kms, id: &str, state: &str) {
    let what = format!("{state} in {}", kms.region);
    wait::until_true(&what, wait::LONG, async || {
        let shown = kms.ask("DescribeKey", &json!({"KeyId": id})).await;
        shown.is_ok_and(|shown| shown["KeyMetadata"]["KeyState"] == state)
    })
    .await;
}

/// A family of two that is complete.
async fn family(kms: &Kms) -> String {
    let id = new_key(kms, SYMMETRIC, true).await;
    let body = json!({"KeyId": id, "ReplicaRegion": THERE});
    kms.ok("ReplicateKey", body).await;
    wait_for(&kms.in_region(THERE), &id, "Enabled").await;
    id
}

pub(super) async fn walk(kms: &Kms) {
    replicas(kms).await;
    moves(kms).await;
    imports(kms).await;
}

/// A family rotates to imported material once every member has it.
async fn imports(kms: &Kms) {
    let there = kms.in_region(THERE);
    let id = new_key(kms, SYMMETRIC.imported(), true).await;
    let key = json!({"KeyId": id});
    let bring = async |kms: &Kms, byte: u8| import(kms, &id, SYMMETRIC.spec, &[byte; 32]).await;
    kms.ok("ImportKeyMaterial", bring(kms, 1).await).await;
    let body = json!({"KeyId": id, "ReplicaRegion": THERE});
    kms.ok("ReplicateKey", body).await;
    wait_for(&there, &id, "PendingImport").await;
    there.ok("ImportKeyMaterial", bring(&there, 1).await).await;
    wait_for(kms, &id, "Enabled").await;

    let state_of_last = async |kms: &Kms, state: &str| {
        let what = format!("{state} in {}", kms.region);
        wait::until_true(&what, wait::LONG, async || {
            let body = json!({"KeyId": id, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"});
            let list = kms.ok("ListKeyRotations", body).await;
            list["Rotations"][1]["KeyMaterialState"] == state
        })
        .await;
    };
    let mut second = bring(kms, 2).await;
    second["ImportType"] = "NEW_KEY_MATERIAL".into();
    kms.ok("ImportKeyMaterial", second).await;
    for kms in [kms, &there] {
        state_of_last(kms, "PENDING_MULTI_REGION_IMPORT_AND_ROTATION").await;
    }
    let invalid = "KMSInvalidStateException";
    kms.no("RotateKeyOnDemand", key.clone(), invalid).await;
    there.ok("ImportKeyMaterial", bring(&there, 2).await).await;
    state_of_last(kms, "PENDING_ROTATION").await;
    kms.ok("RotateKeyOnDemand", key).await;
    for kms in [kms, &there] {
        state_of_last(kms, "CURRENT").await;
    }
}

async fn replicas(kms: &Kms) {
    let operation = "ReplicateKey";
    let there = kms.in_region(THERE);
    let fresh = async || {
        let id = new_key(kms, SYMMETRIC, true).await;
        json!({"KeyId": id, "ReplicaRegion": THERE})
    };
    let described = async |answer: &Value| {
        let key = &answer["ReplicaKeyMetadata"];
        let arn = key["Arn"].as_str().and_then(|arn| arn.split(':').nth(3));
        let parts = [
            &key["Description"],
            &answer["ReplicaPolicy"],
            &answer["ReplicaTags"],
        ];
        json!([arn, parts])
    };
    let regions = [THERE.into(), "us-west-2".into()];
    kms.vary_anew(operation, fresh, "/ReplicaRegion", &regions, described)
        .await;
    let texts = ["a", "b"].map(Value::from);
    kms.vary_anew(operation, fresh, "/Description", &texts, described)
        .await;
    let policies = [policy(&kms.account, "a"), policy(&kms.account, "b")];
    kms.vary_anew(operation, fresh, "/Policy", &policies, described)
        .await;
    let tags = ["a", "b"].map(|name| json!([{"TagKey": name, "TagValue": name}]));
    kms.vary_anew(operation, fresh, "/Tags", &tags, described)
        .await;
    let locked = async || {
        let mut body = fresh().await;
        body["Policy"] = locking(&kms.account);
        body
    };
    let pointer = "/BypassPolicyLockoutSafetyCheck";
    let choices = [false.into(), true.into()];
    kms.vary_anew(operation, locked, pointer, &choices, described)
        .await;

    let body = fresh().await;
    for (member, value, code) in [
        ("Policy", json!("{}"), "MalformedPolicyDocumentException"),
        (
            "Policy",
            "x".repeat(33_000).into(),
            "LimitExceededException",
        ),
        (
            "Tags",
            json!([{"TagKey": "aws:x", "TagValue": "x"}]),
            "TagException",
        ),
    ] {
        let mut body = body.clone();
        body[member] = value;
        kms.no(operation, body, code).await;
    }
    kms.ok(operation, body.clone()).await;
    kms.no(operation, body, "AlreadyExistsException").await;
    let single = new_key(kms, SYMMETRIC, false).await;
    let body = json!({"KeyId": single, "ReplicaRegion": THERE});
    kms.no(operation, body, "UnsupportedOperationException")
        .await;

    // A replica of an imported key that is not there yet.
    let brought = Fresh::new(kms, KINDS[10], true).await.id;
    let body = json!({"KeyId": brought, "ReplicaRegion": THERE});
    kms.ok(operation, body).await;
    wait_for(&there, &brought, "Creating").await;
    let body = json!({"KeyId": brought});
    there
        .no(
            "DeleteImportedKeyMaterial",
            body,
            "KMSInvalidStateException",
        )
        .await;
}

async fn moves(kms: &Kms) {
    let operation = "UpdatePrimaryRegion";
    let there = kms.in_region(THERE);
    let id = family(kms).await;
    let other = family(kms).await;
    let primary = async |_: &Value| {
        let shown = kms.ok("DescribeKey", json!({"KeyId": id})).await;
        let family = &shown["KeyMetadata"]["MultiRegionConfiguration"];
        family["PrimaryKey"]["Region"].clone()
    };
    let regions = [HERE, THERE].map(Value::from);
    let body = json!({"KeyId": id});
    kms.vary(operation, &body, "/PrimaryRegion", &regions, primary)
        .await;
    for kms in [kms, &there] {
        wait_for(kms, &id, "Updating").await;
    }
    let ids = [
        other.clone().into(),
        "1234abcd-12ab-34cd-56ef-1234567890ab".into(),
    ];
    let body = json!({"PrimaryRegion": THERE});
    let done = async |_: &Value| json!("done");
    kms.vary(operation, &body, "/KeyId", &ids, done).await;
    let body = |id: &str| json!({"KeyId": id, "PrimaryRegion": THERE});
    kms.no(operation, body("alias/x"), "InvalidArnException")
        .await;
    for kms in [kms, &there] {
        wait_for(kms, &id, "Enabled").await;
    }
    kms.no(operation, body(&id), "KMSInvalidStateException")
        .await;
    let single = new_key(kms, SYMMETRIC, false).await;
    kms.no(operation, body(&single), "UnsupportedOperationException")
        .await;
    there.ok("DisableKey", json!({"KeyId": id})).await;
    let back = json!({"KeyId": id, "PrimaryRegion": HERE});
    there.no(operation, back, "DisabledException").await;

    let doomed = family(kms).await;
    kms.ok("ScheduleKeyDeletion", json!({"KeyId": doomed}))
        .await;
    wait_for(kms, &doomed, "PendingReplicaDeletion").await;
}
