//! What callers are told when a Region has no quorum.

use std::sync::Arc;

use futures_util::future::join_all;
use keyrum_tests::sdk::{HERE, THERE};
use keyrum_tests::{Cluster, Shape, wait};
use serde_json::{Value, json};

use crate::kms::Kms;
use crate::prepared::{Bench, Fresh, KINDS, SYMMETRIC, new_key};
use crate::seen::{errors, operations};

fn only_reads(operation: &str) -> bool {
    let reads = [
        "Describe",
        "Get",
        "List",
        "Generate",
        "Encrypt",
        "Decrypt",
        "ReEncrypt",
    ];
    let uses = ["Sign", "Verify", "Derive", "Encapsulate", "Decapsulate"];
    let mut names = reads.iter().chain(&uses);
    names.any(|name| operation.starts_with(name))
}

/// One request of every operation, each of which would succeed.
pub(super) async fn requests(kms: &Kms) -> Vec<(&'static str, Value)> {
    let bench = Bench::at(kms).await;
    let mut requests = Vec::new();
    let mut keys = Vec::new();
    for kind in &KINDS[..7] {
        let twin = new_key(kms, kind.made_here(), true).await;
        let fresh = Fresh::new(kms, *kind, true).await;
        keys.push(bench.furnish(&fresh, &twin).await);
    }
    let [symmetric, disabled, doomed] = [(); 3].map(|()| new_key(kms, SYMMETRIC, false));
    let (symmetric, disabled, doomed) = (symmetric.await, disabled.await, doomed.await);
    kms.ok("DisableKey", json!({"KeyId": disabled})).await;
    kms.ok("ScheduleKeyDeletion", json!({"KeyId": doomed}))
        .await;
    let replica = json!({"KeyId": keys[0].id, "ReplicaRegion": THERE});
    for operation in operations() {
        let kind = match operation {
            _ if operation.contains("CustomKeyStore") => continue,
            "GetPublicKey" | "Sign" | "Verify" => 2,
            "DeriveSharedSecret" => 3,
            "Encapsulate" | "Decapsulate" => 4,
            "GenerateMac" | "VerifyMac" => 5,
            "DeleteImportedKeyMaterial" | "GetParametersForImport" | "ImportKeyMaterial" => 6,
            _ => 0,
        };
        let body = match operation {
            "CreateKey" | "ListKeys" => json!({}),
            "GenerateRandom" => json!({"NumberOfBytes": 8}),
            "EnableKey" => json!({"KeyId": disabled}),
            "CancelKeyDeletion" => json!({"KeyId": doomed}),
            "RotateKeyOnDemand" => json!({"KeyId": symmetric}),
            "ReplicateKey" => {
                json!({"KeyId": new_key(kms, SYMMETRIC, true).await, "ReplicaRegion": THERE})
            }
            _ => keys[kind].body(operation),
        };
        requests.push((operation, body));
    }
    kms.ok("ReplicateKey", replica).await;
    enabled(&kms.in_region(THERE), &keys[0].id).await;
    requests
}

/// Operations that ask a quorum, and some the other Region, before they propose anything: without a
/// quorum they do not get that far.
const AHEAD: [&str; 3] = ["CreateGrant", "ReplicateKey", "UpdatePrimaryRegion"];

async fn enabled(kms: &Kms, id: &str) {
    wait::until_true("replica", wait::LONG, async || {
        let shown = kms.ask("DescribeKey", &json!({"KeyId": id})).await;
        shown.is_ok_and(|shown| shown["KeyMetadata"]["KeyState"] == "Enabled")
    })
    .await;
}

pub(super) async fn walk(model: &Kms) {
    let shape = Shape {
        regions: vec![(HERE, 3), (THERE, 1)],
        ..Shape::one_region(3)
    };
    let cluster = Cluster::up(&shape).await;
    let kms = Kms {
        endpoint: cluster.endpoint().to_owned(),
        seen: Arc::clone(&model.seen),
        ..model.clone()
    };
    let requests = requests(&kms).await;
    let modelled = |operation: &str, code: &str| errors(operation).any(|known| known == code);
    cluster.agree().await;
    let leader = cluster.leader().await;
    let all = (1..=3).map(|id| format!("{HERE}/{id}"));
    let others: Vec<_> = all.filter(|node| *node != leader).collect();
    let at = |node: &str| {
        let id = node.rsplit('/').next().expect("an id");
        let nodes = &cluster.ready().regions[HERE].nodes;
        let node = nodes.iter().find(|node| node.id.to_string() == id);
        let endpoint = node.expect("a node").api.clone();
        Kms {
            endpoint,
            ..kms.clone()
        }
    };

    // The leader does not know yet that nobody hears it: what it proposes may still be carried out.
    for node in &others {
        cluster.command(&["pause", node]).await;
    }
    let alone = Kms {
        reads: Some("local"),
        ..at(&leader)
    };
    let changes = requests.iter().filter(|(name, _)| !only_reads(name));
    let changes = changes.filter(|(name, _)| !AHEAD.contains(name));
    let unknown = changes.map(async |(operation, body)| {
        let refused = alone
            .ask_once(operation, body)
            .await
            .expect_err("no quorum");
        assert_eq!(
            refused.code, "KMSInternalException",
            "{operation}: {refused:?}"
        );
    });
    join_all(unknown).await;
    for node in &others {
        cluster.command(&["resume", node]).await;
    }
    cluster.agree().await;

    // A node that knows of no leader proposes nothing.
    let leader = cluster.leader().await;
    let others: Vec<_> = (1..=3)
        .map(|id| format!("{HERE}/{id}"))
        .filter(|node| *node != leader)
        .collect();
    cluster.command(&["kill", &others[1]]).await;
    cluster.command(&["kill", &leader]).await;
    let alone = at(&others[0]);
    let nothing = requests.iter().map(async |(operation, body)| {
        if *operation == "GenerateRandom" {
            alone.ok(operation, body.clone()).await;
            return;
        }
        let refused = alone
            .ask_once(operation, body)
            .await
            .expect_err("no quorum");
        let code = "DependencyTimeoutException";
        assert_eq!(refused.code, code, "{operation}: {refused:?}");
        assert!(modelled(operation, code) || !refused.message.is_empty());
    });
    join_all(nothing).await;

    // Random bytes take one node.
    cluster.command(&["kill", &others[0]]).await;
    let random = json!({"NumberOfBytes": 8});
    kms.no("GenerateRandom", random, "DependencyTimeoutException")
        .await;
}
