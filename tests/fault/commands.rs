//! What the commands refuse, count and tell.

use keyrum_tests::{Cluster, Dev, Shape, keyrum, wait};

use crate::*;

/// Catches a name that acts on something else, a refusal that does not say what there is, and one
/// that leaves a part of a fault in force.
#[tokio::test]
async fn what_is_not_there_is_named() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    for (args, words) in [
        (
            &["cut", "us-east-1/9"][..],
            "us-east-1/1, us-east-1/2, us-east-1/3",
        ),
        (
            &["cut", "us-east-1/1", "us-east-1/9"],
            "there is no node us-east-1/9",
        ),
        (&["cut", "eu-west-1"], "the cluster has us-east-1"),
        (&["kill", "us-east-1/9"], "there is no node us-east-1/9"),
        (
            &["error", "us-east-1/9", "sync"],
            "there is no node us-east-1/9",
        ),
        (&["cut", "us-east-1"], "the only Region"),
        (
            &["cut", "us-east-1/1", "us-east-1/1"],
            "no connections with itself",
        ),
        (&["cut", "us-east-1", "--shape", "ring"], "takes 4 nodes"),
        (&["heal", "7"], "none is in force"),
    ] {
        let why = refused(&cluster, args).await;
        assert!(why.contains(words), "{args:?}: {why}");
    }
    // One that answers, one that is frozen: none is to have its part, now or when it goes on.
    fault(&cluster, &["pause", "us-east-1/2"]).await;
    let why = refused(&cluster, &["cut", "us-east-1", "--shape", "halves"]).await;
    assert!(why.contains("(us-east-1/2: "), "{why}");
    fault(&cluster, &["heal"]).await;
    assert_eq!(in_force(&cluster).await, 0);
    fault(&cluster, &["kill", "us-east-1/2"]).await;
    let shape = ["cut", "us-east-1", "--shape", "bridge"];
    fault(&cluster, &shape).await;
    assert_eq!(in_force(&cluster).await, 1);
    fault(&cluster, &["heal"]).await;
    assert_eq!(in_force(&cluster).await, 0);
    assert!(fault(&cluster, &["heal"]).await.contains("nothing to heal"));
}

/// Catches a process that stays killed or paused beyond its time, one that is not counted, and a
/// heal that leaves one as it is.
#[tokio::test]
async fn processes_come_back() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let runs = async |node: &str| {
        let what = format!("{node} runs");
        wait::until_true(&what, wait::LONG, async || {
            let lines = cluster.status().await;
            let line = lines.iter().find(|line| line.node == node).unwrap();
            line.process == "running" && line.status.is_some()
        })
        .await;
    };
    fault(&cluster, &["kill", "us-east-1/1", "--for", "1s"]).await;
    runs("us-east-1/1").await;
    fault(&cluster, &["pause", "us-east-1/2", "--for", "1s"]).await;
    runs("us-east-1/2").await;
    fault(&cluster, &["kill", "us-east-1/1"]).await;
    fault(&cluster, &["pause", "us-east-1/2"]).await;
    let lines = status(&cluster).await;
    assert_eq!(
        (&lines[0]["process"], &lines[0]["kills"]),
        (&"killed".into(), &2.into())
    );
    assert_eq!(
        (&lines[1]["process"], &lines[1]["pauses"]),
        (&"paused".into(), &2.into())
    );
    let healed = fault(&cluster, &["heal"]).await;
    assert!(
        healed.contains("us-east-1/1 runs again; it was killed"),
        "{healed}"
    );
    assert!(healed.contains("us-east-1/2 goes on"), "{healed}");
    cluster.agree().await;
}

/// Catches faults in a cluster that is not for tests.
#[tokio::test]
async fn other_clusters_take_no_faults() {
    let shape = Shape {
        test_cluster: false,
        ..Shape::one_region(1)
    };
    let cluster = Cluster::up(&shape).await;
    for args in [
        &["error", "us-east-1/1", "sync"][..],
        &["cut", "us-east-1/1", "--clients"],
        &["status"],
    ] {
        let why = refused(&cluster, args).await;
        assert!(why.contains("test clusters only"), "{args:?}: {why}");
    }
    make_key(&sdk::client(cluster.endpoint(), HERE, "test"), "well").await;
}

/// Catches `keyrum dev` without faults of links and disks, and a refusal of what it cannot do that
/// does not say what to use.
#[tokio::test]
async fn dev_has_links_but_no_processes() {
    let dev = Dev::start(&["--regions", "us-east-1", "--ephemeral"]).await;
    let data = dev.ready.data();
    let ask = async |args: &[&str]| {
        let mut command = std::process::Command::new(keyrum());
        command.arg("fault").args(args).arg("--data").arg(&data);
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let (done, text) = ask(&["cut", "us-east-1/1"]).await;
    assert!(done, "{text}");
    let kms = sdk::client(&dev.ready.endpoint, HERE, "test");
    make_key_in_time(&kms, "by the others").await;
    let (done, text) = ask(&["status"]).await;
    assert!(done && text.contains("cut from every other node"), "{text}");
    for verb in ["kill", "pause"] {
        let (done, text) = ask(&[verb, "us-east-1/1"]).await;
        assert!(
            !done && text.contains("`keyrum fault cut us-east-1/1`"),
            "{text}"
        );
    }
    let (done, text) = ask(&["error", "us-east-1/1", "--flip"]).await;
    assert!(!done && text.contains("`keyrum cluster up`"), "{text}");
    let (done, text) = ask(&["heal"]).await;
    assert!(
        done && text.contains("fault 1 on us-east-1/1 is lifted"),
        "{text}"
    );
}
