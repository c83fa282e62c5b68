//! Domain keys that are rotated while the cluster works, and old versions that are destroyed.

use std::collections::BTreeMap;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{
    AlgorithmSpec, DataKeySpec, ExpirationModelType, KeySpec, KeyUsageType, OriginType,
    WrappingKeySpec,
};
use keyrum_consensus::world;
use keyrum_tests::import::wrap;
use keyrum_tests::sdk::{self, HERE, THERE};
use keyrum_tests::writers::{self, Writers};
use keyrum_tests::{Cluster, Shape, wait};
use serde_json::Value;

#[track_caller]
fn says(output: &Output, succeeds: bool, parts: &[&str]) {
    let text = [&output.stdout[..], &output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert_eq!(output.status.success(), succeeds, "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

async fn domain_key(cluster: &Cluster, args: &[&str]) -> Output {
    cluster.ask("domain-key", args).await
}

/// The versions of a Region's domain key, by number, as its nodes tell.
async fn versions(cluster: &Cluster, region: &str) -> Option<BTreeMap<u64, Value>> {
    let output = domain_key(cluster, &["status", "--json", "--region", region]).await;
    let all: Value = serde_json::from_slice(&output.stdout).ok()?;
    let versions = all[region]["versions"].as_array()?.clone();
    let number = |version: &Value| version["version"].as_u64();
    let numbered = versions
        .into_iter()
        .map(|version| Some((number(&version)?, version)));
    numbered.collect()
}

/// Waits until a version has come to a stage, and everything is sealed under the newest.
async fn settled(cluster: &Cluster, region: &str, stages: &[&str]) {
    let what = format!("domain key of {region} {stages:?}");
    wait::until_true(&what, wait::LONG, async || {
        let Some(versions) = versions(cluster, region).await else {
            return false;
        };
        let found: Vec<_> = versions.values().map(|v| v["stage"].as_str()).collect();
        let old = versions.values().rev().skip(1);
        let left: u64 = old.filter_map(|version| version["sealings"].as_u64()).sum();
        left == 0 && found == stages.iter().map(|stage| Some(*stage)).collect::<Vec<_>>()
    })
    .await;
}

fn key_file(cluster: &Cluster, region: &str) -> String {
    std::fs::read_to_string(cluster.data().join(region).join("domain.key")).unwrap()
}

/// Something of every kind that is sealed, and what shows that it is still the same.
struct Witness {
    key: String,
    ciphertext: Blob,
    hmac: String,
    mac: Blob,
    data_key: (Blob, Blob),
    imported: String,
    token: Blob,
    wrapped: Vec<u8>,
}

impl Witness {
    async fn new(kms: &Client) -> Self {
        let made = kms.create_key().multi_region(true).send().await.unwrap();
        let key = made.key_metadata.unwrap().key_id;
        let plaintext = Blob::new("a plaintext");
        let call = kms.encrypt().key_id(&key).plaintext(plaintext);
        let ciphertext = call.send().await.unwrap().ciphertext_blob.unwrap();
        let call = kms.generate_data_key().key_id(&key);
        let data = call.key_spec(DataKeySpec::Aes256).send().await.unwrap();
        let call = kms.create_key().key_spec(KeySpec::Hmac256);
        let made = call.key_usage(KeyUsageType::GenerateVerifyMac).send().await;
        let hmac = made.unwrap().key_metadata.unwrap().key_id;
        let mac = mac(kms, &hmac).await;
        let call = kms.create_key().origin(OriginType::External);
        let imported = call.send().await.unwrap().key_metadata.unwrap().key_id;
        let call = kms.get_parameters_for_import().key_id(&imported);
        let call = call.wrapping_algorithm(AlgorithmSpec::RsaesOaepSha256);
        let call = call.wrapping_key_spec(WrappingKeySpec::Rsa2048);
        let parameters = call.send().await.unwrap();
        let public = parameters.public_key().unwrap().as_ref();
        Self {
            key,
            ciphertext,
            hmac,
            mac,
            data_key: (data.plaintext.unwrap(), data.ciphertext_blob.unwrap()),
            wrapped: wrap("RSAES_OAEP_SHA_256", public, &[9; 32]),
            imported,
            token: parameters.import_token.unwrap(),
        }
    }

    /// Checks all of it on every node.
    async fn check(&self, cluster: &Cluster) {
        for kms in cluster.clients("domain-key") {
            let call = kms.decrypt().ciphertext_blob(self.ciphertext.clone());
            let opened = call.send().await.unwrap().plaintext.unwrap();
            assert_eq!(opened.as_ref(), b"a plaintext");
            let (plaintext, blob) = &self.data_key;
            let opened = kms.decrypt().ciphertext_blob(blob.clone()).send().await;
            assert_eq!(opened.unwrap().plaintext.as_ref(), Some(plaintext));
            assert_eq!(mac(&kms, &self.hmac).await, self.mac);
        }
    }

    /// Imports with a token of the time before.
    async fn import(&self, kms: &Client) {
        let call = kms.import_key_material().key_id(&self.imported);
        let call = call.import_token(self.token.clone());
        let call = call.encrypted_key_material(Blob::new(self.wrapped.clone()));
        let call = call.expiration_model(ExpirationModelType::KeyMaterialDoesNotExpire);
        call.send().await.unwrap();
    }
}

async fn mac(kms: &Client, key: &str) -> Blob {
    let call = kms.generate_mac().key_id(key).message(Blob::new("x"));
    let call = call.mac_algorithm("HMAC_SHA_256".into());
    call.send().await.unwrap().mac.unwrap()
}

/// Catches a version that seals before every node has it, a call that fails because of a rotation, a
/// secret that is not sealed anew or not the same any more, a version that is destroyed while a node
/// or a caller needs it, one that stays in a file, and a node that cannot start again without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_waits_for_every_node_and_disturbs_nobody() {
    let mut cluster = Cluster::up(&Shape::one_region(3)).await;
    let kms = sdk::client(cluster.endpoint(), HERE, "domain-key");
    let witness = Witness::new(&kms).await;
    let writing = cluster.clients("111122223333").swap_remove(0);
    let history = Writers::start("rotation", 3, std::slice::from_ref(&writing));
    let first = key_file(&cluster, HERE);

    // With a node away the newest rules could not be switched on.
    wait::until_true("feature level 5", wait::LONG, async || {
        let log = cluster.ask("log", &["show", "--region", HERE]).await;
        String::from_utf8_lossy(&log.stdout).contains("FeatureLevelRaised level=5")
    })
    .await;

    // A node is away.
    let leader = cluster.leader().await;
    let nodes = ["us-east-1/1", "us-east-1/2", "us-east-1/3"];
    let away = *nodes.iter().find(|node| **node != leader).unwrap();
    cluster.command(&["kill", away]).await;
    let output = domain_key(&cluster, &["rotate", "--wait", "2s"]).await;
    let waits = format!("waits until it is on nodes {}", &away[away.len() - 1..]);
    says(&output, false, &[&waits, "goes on by itself"]);
    let before = versions(&cluster, HERE).await.unwrap();
    assert_eq!(before[&1]["stage"], "active");
    assert_eq!(
        (&before[&2]["stage"], &before[&2]["sealings"]),
        (&"announced".into(), &0.into())
    );
    kms.create_key().send().await.unwrap();
    // One at a time.
    says(
        &domain_key(&cluster, &["destroy", "1"]).await,
        false,
        &["version 1", "active"],
    );

    // From here on, calls that fail are the rotation's fault.
    cluster.command(&["restart", away]).await;
    cluster.agree().await;
    let (stop, calls) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let caller = world::spawn({
        let (kms, key, stop, calls) = (
            kms.clone(),
            witness.key.clone(),
            stop.clone(),
            calls.clone(),
        );
        async move {
            while !stop.load(Ordering::Relaxed) {
                let call = kms.encrypt().key_id(&key).plaintext(Blob::new("x"));
                let blob = call.send().await.unwrap().ciphertext_blob.unwrap();
                kms.decrypt().ciphertext_blob(blob).send().await.unwrap();
                kms.create_key().send().await.unwrap();
                calls.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    settled(&cluster, HERE, &["retired", "active"]).await;
    let done = calls.load(Ordering::Relaxed);
    wait::until_true("more calls", wait::LONG, async || {
        calls.load(Ordering::Relaxed) > done + 5
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    caller.await.unwrap();
    witness.check(&cluster).await;
    witness.import(&kms).await;

    // A version that callers may need stays.
    let output = domain_key(&cluster, &["destroy", "1"]).await;
    says(&output, false, &["import tokens", "Nothing was changed"]);
    assert!(
        cluster
            .ask("clock", &["advance", "1d"])
            .await
            .status
            .success()
    );
    cluster.command(&["kill", away]).await;
    let output = domain_key(&cluster, &["destroy", "1", "--wait", "2s"]).await;
    says(
        &output,
        false,
        &[
            "have forgotten the log of its time",
            &away[away.len() - 1..],
        ],
    );
    assert!(key_file(&cluster, HERE).contains("version 1 "));
    cluster.command(&["restart", away]).await;
    let output = domain_key(&cluster, &["destroy", "1"]).await;
    says(&output, true, &["version 1", "destroyed", "backups"]);
    writers::none(
        "after",
        &writers::check(&writing, &history.stop().await).await,
    );

    // It is in no file, nobody misses it, and the log of its time is gone.
    let now = key_file(&cluster, HERE);
    let secret = first
        .lines()
        .find_map(|line| line.strip_prefix("key "))
        .unwrap();
    assert!(
        !now.contains(secret.trim_end_matches('=')) && !now.contains("version 1 "),
        "{secret}"
    );
    witness.check(&cluster).await;
    let lines = cluster.status().await;
    assert!(
        lines.iter().all(|line| line.number("purged") > 10),
        "{lines:?}"
    );
    cluster.stop().await;
    cluster.start().await;
    cluster.agree().await;
    witness.check(&cluster).await;
    let again = domain_key(&cluster, &["rotate"]).await;
    says(
        &again,
        true,
        &["version 3", "seals", "version 2 may be destroyed from"],
    );
    witness.check(&cluster).await;
    says(
        &domain_key(&cluster, &["destroy", "1"]).await,
        false,
        &["version 1", "destroyed"],
    );
    says(
        &domain_key(&cluster, &["destroy", "9"]).await,
        false,
        &["version 9", "not known"],
    );
}

/// Catches a rotation that is lost with the leader that began it, and messages between Regions that
/// cannot be opened after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_outlives_its_leader_and_reaches_what_waits() {
    let shape = Shape {
        regions: vec![(HERE, 3), (THERE, 3)],
        ..Shape::one_region(3)
    };
    let cluster = Cluster::up(&shape).await;
    let kms = sdk::client(cluster.endpoint(), HERE, "domain-key");
    let witness = Witness::new(&kms).await;
    // What waits for the other Region is sealed too.
    for id in 1..=3 {
        cluster.command(&["pause", &format!("{THERE}/{id}")]).await;
    }
    for _ in 0..200 {
        kms.create_key().send().await.unwrap();
    }
    let output = domain_key(&cluster, &["rotate", "--wait", "100ms", "--region", HERE]).await;
    drop(output);
    let leader = cluster.leader().await;
    cluster.command(&["kill", &leader]).await;
    cluster.command(&["restart", &leader]).await;
    for id in 1..=3 {
        cluster.command(&["resume", &format!("{THERE}/{id}")]).await;
    }
    settled(&cluster, HERE, &["retired", "active"]).await;
    let call = kms
        .replicate_key()
        .key_id(&witness.key)
        .replica_region(THERE);
    call.send().await.unwrap();
    // The other Region's is its own.
    let there = versions(&cluster, THERE).await.unwrap();
    assert_eq!(there.keys().collect::<Vec<_>>(), [&1]);
    let output = domain_key(&cluster, &["rotate", "--region", THERE]).await;
    says(&output, true, &[THERE, "version 2"]);
    let replica = sdk::client(cluster.endpoint(), THERE, "domain-key");
    wait::until_true("decrypting replica", wait::LONG, async || {
        let call = replica
            .decrypt()
            .ciphertext_blob(witness.ciphertext.clone());
        call.send().await.is_ok()
    })
    .await;
    kms.rotate_key_on_demand()
        .key_id(&witness.key)
        .send()
        .await
        .unwrap();
    wait::until_true("rotated family", wait::LONG, async || {
        let listed = replica
            .list_key_rotations()
            .key_id(&witness.key)
            .send()
            .await;
        listed.is_ok_and(|listed| !listed.rotations().is_empty())
    })
    .await;
    witness.check(&cluster).await;
    let output = domain_key(&cluster, &["abandon", "2", "--region", THERE]).await;
    says(&output, false, &["version 2", "active"]);
    says(
        &domain_key(&cluster, &["destroy", "1"]).await,
        false,
        &["--region"],
    );
    let nowhere = domain_key(&cluster, &["status", "--region", "ap-south-1"]).await;
    says(&nowhere, false, &["no Region ap-south-1", HERE]);
}
