//! Regions that join a running cluster.

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keyrum_consensus::world::spawn;
use keyrum_tests::sdk::{Failed, failed, refused};
use keyrum_tests::{Cluster, Dev, NodeLine, Shape, keyrum, sdk, wait};
use rustix::process::Signal;

use crate::relatives::{REGIONS, Relatives, advance};

fn shape(nodes: u64) -> Shape {
    Shape {
        regions: vec![(REGIONS[0], nodes), (REGIONS[1], nodes)],
        ..Shape::one_region(nodes)
    }
}

/// Whether a node's status tells of a channel to a Region.
fn knows(line: &NodeLine, region: &str) -> bool {
    let channels = line.say("channels").as_array().cloned();
    let mut channels = channels.unwrap_or_default().into_iter();
    channels.any(|channel| channel["to"] == region)
}

/// Waits until every node tells of a channel to each other Region.
async fn all_know_all(cluster: &Cluster, regions: &[&str]) {
    wait::until_true("nodes that know every Region", wait::LONG, async || {
        cluster.status().await.iter().all(|line| {
            let mut others = regions.iter().filter(|r| !line.node.starts_with(**r));
            others.all(|region| knows(line, region))
        })
    })
    .await;
}

/// Catches a Region that joins and is not reached, by requests, by replication from any node of the
/// others, or by a move; calls elsewhere that fail because of it; nodes that are restarted for it;
/// and nodes that were frozen or dead meanwhile and never learn of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_region_joins_while_others_work() {
    let cluster = Cluster::up(&shape(3)).await;
    let kin = Arc::new(Relatives::at(cluster.endpoint(), "joins"));
    let [east, ireland, west] = REGIONS;
    let key = kin.primary().await;
    kin.replicate(&key, east, ireland).await;
    kin.settle(&key, east, &[east, ireland]).await;
    refused(
        kin.kms(west).list_keys().send().await,
        "InvalidSignatureException",
        "Credential should be scoped to a valid region. ",
    );
    let done = Arc::new(AtomicBool::new(false));
    let work = {
        let (kin, key, done) = (kin.clone(), key.clone(), done.clone());
        spawn(async move {
            let mut rounds = 0;
            while !done.load(Ordering::SeqCst) {
                kin.exchange(&key, &[east, ireland]).await;
                let call = kin.kms(east).update_key_description().key_id(&key);
                let call = call.description(rounds.to_string());
                call.send().await.expect("it can be described anew");
                rounds += 1;
            }
            rounds
        })
    };
    let before = cluster.status().await;
    let frozen = before.iter().find(|line| {
        let other = line.say("role") == "follower";
        other && line.node.starts_with(east)
    });
    let frozen = frozen.expect("a follower").node.clone();
    let dead = format!("{ireland}/3");
    cluster.command(&["pause", &frozen]).await;
    cluster.command(&["kill", &dead]).await;

    let output = cluster.command(&["add-region", west]).await;
    let words = String::from_utf8(output.stdout).expect("text");
    for part in [
        format!("{west} has joined with 3 nodes"),
        format!("{frozen} (paused)"),
        format!("{dead} (killed)"),
    ] {
        assert!(words.contains(&part), "{part:?} is not in: {words}");
    }
    // At once: no node has to find out by trying.
    let status = cluster.status().await;
    for line in status.iter().filter(|line| line.status.is_some()) {
        assert!(line.node.starts_with(west) || knows(line, west), "{line:?}");
        let former = before.iter().find(|former| former.node == line.node);
        assert!(former.is_none_or(|former| former.pid == line.pid));
    }
    assert_eq!(status.len(), 9);
    kin.kms(west).list_keys().send().await.unwrap();
    kin.replicate(&key, east, west).await;
    kin.settle(&key, east, &REGIONS).await;
    kin.exchange(&key, &REGIONS).await;
    let call = kin.kms(east).update_primary_region().key_id(&key);
    call.primary_region(west).send().await.unwrap();
    kin.settle(&key, west, &REGIONS).await;

    cluster.command(&["resume", &frozen]).await;
    cluster.command(&["restart", &dead]).await;
    all_know_all(&cluster, &REGIONS).await;
    // Each node of the others by itself.
    let ready = std::fs::read(cluster.folder().join("ready.json")).unwrap();
    let ready: keyrum_tests::Ready = serde_json::from_slice(&ready).unwrap();
    assert_eq!(ready.regions[west].nodes.len(), 3);
    let account = sdk::account_of("joins");
    for node in &ready.regions[east].nodes {
        let key = kin.primary().await;
        let call = sdk::client(&node.api, east, &account).replicate_key();
        let call = call.key_id(&key).replica_region(west);
        call.send().await.unwrap();
        kin.settle(&key, east, &[east, west]).await;
        kin.exchange(&key, &[east, west]).await;
    }
    done.store(true, Ordering::SeqCst);
    assert!(work.await.expect("no call failed") > 0);
    cluster.agree().await;
}

/// A node that nobody looks after.
struct ByHand(Child);

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Catches a node that was not told of a Region and that refuses to replicate there, or lets what it
/// has to say to it wait for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_nobody_told_finds_out() {
    let cluster = Cluster::up(&shape(1)).await;
    let [east, ireland, west] = REGIONS;
    let kin = Relatives::at(cluster.endpoint(), "finds-out");
    let key = kin.primary().await;
    kin.replicate(&key, east, ireland).await;
    kin.settle(&key, east, &[east, ireland]).await;
    let call = kin.kms(east).update_primary_region().key_id(&key);
    call.primary_region(ireland).send().await.unwrap();
    kin.settle(&key, ireland, &[east, ireland]).await;
    cluster.command(&["kill", &format!("{east}/1")]).await;
    let mut command = cluster.keyrum("node", &["--region", east, "--node", "1"]);
    let command = command.arg("--config").arg(cluster.config());
    let _node = ByHand(command.stdout(Stdio::null()).spawn().unwrap());
    wait::until_true("answer", wait::LONG, async || {
        kin.look(east, &key).await.is_some()
    })
    .await;

    let add = async |region: &str| {
        let args = ["add-region", region, "--nodes", "1"];
        let output = cluster.command(&args).await;
        let words = String::from_utf8(output.stdout).expect("text");
        assert!(words.contains(&format!("{east}/1 (killed)")), "{words}");
    };
    add(west).await;
    kin.replicate(&key, ireland, west).await;
    kin.settle(&key, ireland, &REGIONS).await;
    // Now that node has something to say there.
    let call = kin.kms(ireland).update_primary_region().key_id(&key);
    call.primary_region(east).send().await.unwrap();
    kin.settle(&key, east, &REGIONS).await;
    kin.exchange(&key, &REGIONS).await;

    add("ap-south-1").await;
    kin.replicate(&key, east, "ap-south-1").await;
    let account = sdk::account_of("finds-out");
    let there = sdk::client(cluster.endpoint(), "ap-south-1", &account);
    wait::until_true("replica", wait::LONG, async || {
        let shown = there.describe_key().key_id(&key).send().await;
        shown.is_ok_and(|shown| shown.key_metadata.is_some_and(|key| key.enabled()))
    })
    .await;
}

/// Catches a cluster that a crash in the middle of a Region's joining leaves unusable, a Region that
/// is neither there nor can be added again, and a second start that forgets it or refuses the file
/// that the cluster was made from.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_leaves_a_whole_region_or_none() {
    let [east, _, west] = REGIONS;
    let moments = [
        format!("{west}/domain.key"),
        format!("certs/{west}-node-1.pem"),
        format!("{west}/node-1/output"),
        format!("{west}/node-1/started"),
        format!("{west}/node-1/store/mark"),
    ];
    let record = |cluster: &Cluster| -> serde_json::Value {
        let text = std::fs::read(cluster.data().join("cluster.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    let joined = |cluster: &Cluster| record(cluster)["regions"].as_array().unwrap().len() == 3;
    for moment in moments.iter().map(Some).chain([None]) {
        let mut cluster = Cluster::up(&shape(1)).await;
        let mut adding = cluster.keyrum("cluster", &["add-region", west]);
        let adding = adding.stderr(Stdio::null());
        let mut adding = adding.arg("--nodes").arg("1").spawn().unwrap();
        let path = moment.map(|moment| cluster.data().join(moment));
        wait::until_true("moment", wait::LONG, async || match &path {
            Some(path) => path.exists(),
            // Founded, and perhaps not yet known to the others.
            None => record(&cluster)["regions"][2]["founded"] == true,
        })
        .await;
        cluster.signal(Signal::KILL);
        cluster.ended(wait::SHORT).await;
        adding.wait().unwrap();
        // Its nodes are just ending.
        cluster.start().await;
        let there = cluster.ready().regions.contains_key(west);
        assert_eq!(there, joined(&cluster), "{moment:?}");
        if !there {
            cluster.command(&["add-region", west, "--nodes", "1"]).await;
        }
        all_know_all(&cluster, &REGIONS).await;
        let kin = Relatives::at(cluster.endpoint(), "crash");
        let key = kin.primary().await;
        kin.replicate(&key, east, west).await;
        kin.settle(&key, east, &[east, west]).await;
        let sealed = kin.encrypt(west, &key, "kept").await;

        cluster.stop().await;
        cluster.start().await;
        let kin = Relatives::at(cluster.endpoint(), "crash");
        assert_eq!(kin.decrypt(west, &sealed).await, "kept", "{moment:?}");
    }
}

/// Catches an addition that cannot work and is not refused with what helps, or that fails and
/// leaves something behind.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_join_is_refused() {
    let mut cluster = Cluster::up(&shape(1)).await;
    let [east, ireland, west] = REGIONS;
    let record = |cluster: &Cluster| std::fs::read(cluster.data().join("cluster.json")).unwrap();
    let before = record(&cluster);
    let refused_with = async |cluster: &Cluster, args: &[&str], parts: &[&str]| {
        let output = cluster.try_command(args).await;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{args:?}: {output:?}");
        for part in parts {
            assert!(words.contains(part), "{part:?} is not in: {words}");
        }
    };
    for (args, parts) in [
        (
            vec!["add-region", ireland],
            vec!["nothing was changed", ireland],
        ),
        (vec!["add-region", "nowhere"], vec!["nowhere", "Region"]),
        (vec!["add-region", west, "--nodes", "0"], vec!["1..=9"]),
        (vec!["add-region", west, "--nodes", "10"], vec!["1..=9"]),
    ] {
        refused_with(&cluster, &args, &parts).await;
    }
    // Its node does not start: as if nothing had been asked.
    let certificate = cluster.data().join(format!("certs/{west}-node-1.pem"));
    let secret = certificate.with_extension("key");
    for file in [&certificate, &secret] {
        std::fs::write(file, "nonsense").unwrap();
    }
    let args = ["add-region", west, "--nodes", "1"];
    refused_with(&cluster, &args, &[&format!("{west}/1 ended")]).await;
    assert_eq!(record(&cluster), before);
    assert!(!cluster.data().join(west).exists());
    let lines = cluster.status().await;
    assert!(lines.len() == 2 && !lines.iter().any(|line| knows(line, west)));
    let kin = Relatives::at(cluster.endpoint(), "refused");
    let key = kin.primary().await;
    let call = kin.kms(east).replicate_key().key_id(&key);
    let error = call.replica_region(west).send().await.unwrap_err();
    assert!(matches!(failed(error), Failed::Answer(code, _) if code == "ValidationException"));
    for file in [&certificate, &secret] {
        std::fs::remove_file(file).unwrap();
    }
    // Somebody's data that the record does not tell of.
    let node = cluster.data().join(west).join("node-1");
    std::fs::create_dir_all(&node).unwrap();
    std::fs::write(node.join("started"), "").unwrap();
    refused_with(&cluster, &args, &["cluster.json", "move that folder away"]).await;
    assert!(node.join("started").exists());
    std::fs::remove_dir_all(cluster.data().join(west)).unwrap();

    // Another partition may join; no key is replicated across.
    cluster
        .command(&["add-region", "cn-north-1", "--nodes", "1"])
        .await;
    let china = sdk::client(cluster.endpoint(), "cn-north-1", "test");
    china.create_key().send().await.unwrap();
    let call = kin.kms(east).replicate_key().key_id(&key);
    let error = call.replica_region("cn-north-1").send().await.unwrap_err();
    assert!(matches!(failed(error), Failed::Answer(code, _) if code == "ValidationException"));
    cluster.command(&args).await;
    kin.replicate(&key, east, west).await;
    kin.settle(&key, east, &[east, west]).await;

    cluster.stop().await;
    refused_with(
        &cluster,
        &["add-region", "ap-south-1"],
        &["no cluster runs"],
    )
    .await;
    // A file that names one Region more has it join, too.
    let mut four = shape(1);
    four.regions.push(("ap-south-1", 1));
    cluster.reshape(&four);
    cluster.start().await;
    assert_eq!(cluster.ready().regions.len(), 5);
    cluster.stop().await;
    cluster.reshape(&shape(1));
    cluster.start().await;
    assert_eq!(cluster.ready().regions.len(), 5);
}

/// Catches `keyrum dev` with a Region more that is refused, or in which the new Region is not
/// known to the others or tells another time; one with a Region less that goes on without it; and one that asks
/// for Regions that nobody named.
#[tokio::test(flavor = "multi_thread")]
async fn dev_takes_another_region() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().display().to_string();
    let [east, ireland, west] = REGIONS;
    let two = format!("{east},{ireland}");
    let three = REGIONS.join(",");
    let args = |regions: &str| {
        let args = ["--nodes", "1", "--data", &data, "--regions", regions];
        args.map(str::to_owned)
    };
    let start = async |regions: &str| {
        let args = args(regions);
        Dev::start(&args.each_ref().map(String::as_str)).await
    };
    let dev = start(&two).await;
    let kin = Relatives::at(&dev.ready.endpoint, "dev-joins");
    let key = kin.primary().await;
    kin.replicate(&key, east, ireland).await;
    kin.settle(&key, east, &[east, ireland]).await;
    let sealed = kin.encrypt(east, &key, "old").await;
    advance(&dev, "40d");
    let output = keyrum_command(&["cluster", "add-region", west, "--data", &data]);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("among its --regions"), "{words}");
    drop(dev);

    let dev = start(&three).await;
    let kin = Relatives::at(&dev.ready.endpoint, "dev-joins");
    kin.replicate(&key, east, west).await;
    kin.settle(&key, east, &REGIONS).await;
    assert_eq!(kin.decrypt(west, &sealed).await, "old");
    let [one, other] = [east, west].map(|region| kin.kms(region).create_key().send());
    let made = |answer: aws_sdk_kms::operation::create_key::CreateKeyOutput| {
        let metadata = answer.key_metadata.expect("metadata");
        metadata.creation_date.expect("a date").secs()
    };
    let apart = made(one.await.unwrap()) - made(other.await.unwrap());
    assert!(apart.abs() < 3600, "the Regions tell times {apart} s apart");
    drop(dev);
    let mut command = vec!["dev", "--port", "0"];
    let fewer = args(&two);
    command.extend(fewer.iter().map(String::as_str));
    let output = keyrum_command(&command);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && words.contains(west), "{words}");

    // Without a word about Regions it is those that are there.
    let dev = Dev::start(&["--nodes", "1", "--data", &data]).await;
    let kin = Relatives::at(&dev.ready.endpoint, "dev-joins");
    assert_eq!(kin.decrypt(west, &sealed).await, "old");
}

fn keyrum_command(args: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(keyrum());
    command.args(args).output().expect("it runs")
}
