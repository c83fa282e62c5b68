//! Certificates of nodes that are replaced while the cluster works.

use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

use keyrum_tests::certificates::terms;
use keyrum_tests::sdk::{self, HERE};
use keyrum_tests::steady::Steady;
use keyrum_tests::{Cluster, Shape, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::peers::{Stranger, greet};

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[track_caller]
fn refused(output: &Output, parts: &[&str]) {
    let words = said(output);
    assert!(!output.status.success(), "{words}");
    for part in parts {
        assert!(words.contains(part), "{part:?} is not in: {words}");
    }
}

fn certs(cluster: &Cluster) -> PathBuf {
    cluster.data().join("certs")
}

/// Every file of a folder, with what is in it.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Keeps what a thief could have taken.
fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for (path, bytes) in files(from) {
        std::fs::write(to.path().join(path.file_name().unwrap()), bytes).unwrap();
    }
    to
}

/// Whether a node takes somebody with these certificates for node 2.
async fn lets_in(cluster: &Cluster, certs: &Path) -> bool {
    let stranger = Stranger {
        certs,
        shows: Some(2),
        says: 2,
    };
    let answer = greet(cluster, &cluster.cluster_id(), &stranger).await;
    !answer.is_empty()
}

/// What the report says of node `id`.
fn line(report: &Value, id: u64) -> &Value {
    let name = format!("{HERE}/{id}");
    let lines = report["nodes"].as_array().unwrap();
    lines.iter().find(|line| line["node"] == name).unwrap()
}

fn warnings(report: &Value) -> String {
    report["warnings"].to_string()
}

/// Asserts that every node shows what lies there for it, and has no link that was made with
/// something else.
async fn all_in_use(cluster: &Cluster) {
    assert_eq!(cluster.shown().await, cluster.filed());
    let report = cluster.certificates().await;
    for line in report["nodes"].as_array().unwrap() {
        assert_eq!(line["state"], "in use", "{report:#}");
        assert_eq!(line["tls"]["former_links"], 0);
    }
    assert_eq!(report["replacing_authority"], false);
    assert_eq!(report["warnings"], serde_json::json!([]));
}

/// Catches a rotation that fails a call, costs a leader, or leaves a former certificate in use; one
/// of the authority that leaves the former one's certificates good for anything.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_under_load() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let before = terms(&cluster.agree().await);
    let first = cluster.shown().await;
    all_in_use(&cluster).await;
    let stolen = copy(&certs(&cluster));
    let load = Steady::start(cluster.clients("load"));
    load.go_on(50).await;

    cluster.command(&["certs", "rotate"]).await;
    let second = cluster.shown().await;
    assert!(second.iter().all(|(node, shown)| first[node] != *shown));
    all_in_use(&cluster).await;
    load.go_on(50).await;
    assert!(lets_in(&cluster, stolen.path()).await, "still signed");

    let authority = std::fs::read(certs(&cluster).join("authority.pem")).unwrap();
    cluster.command(&["certs", "rotate", "--authority"]).await;
    let third = cluster.shown().await;
    assert!(third.iter().all(|(node, shown)| second[node] != *shown));
    all_in_use(&cluster).await;
    assert_ne!(
        std::fs::read(certs(&cluster).join("authority.pem")).unwrap(),
        authority
    );
    let report = cluster.certificates().await;
    let authorities = report["authorities"].as_array().unwrap();
    assert_eq!(authorities.len(), 1, "{report:#}");
    assert_eq!(authorities[0]["trusted_by"].as_array().unwrap().len(), 3);
    assert!(!lets_in(&cluster, stolen.path()).await);
    assert!(lets_in(&cluster, &certs(&cluster)).await);
    load.go_on(50).await;

    let (calls, failures) = load.stop().await;
    assert!(failures.is_empty(), "of {calls} calls: {failures:#?}");
    assert_eq!(terms(&cluster.agree().await), before);
    // The new authority signs for those who come.
    cluster.command(&["add", "us-east-1/4"]).await;
    cluster.agree().await;
}

/// Catches a node that cannot come back when certificates, or the authority, were replaced while it
/// was down or frozen, and a cluster that cannot start when that was done while it did not run.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_comes_back() {
    let mut cluster = Cluster::up(&Shape::one_region(3)).await;
    let first = cluster.filed();
    cluster.command(&["kill", "us-east-1/2"]).await;
    let rotated = cluster.command(&["certs", "rotate"]).await;
    let words = said(&rotated);
    assert!(words.contains("us-east-1/2: killed; it takes"), "{words}");
    let report = cluster.certificates().await;
    assert_eq!(line(&report, 2)["state"], "killed");
    cluster.command(&["restart", "us-east-1/2"]).await;
    cluster.agree().await;
    all_in_use(&cluster).await;

    cluster.command(&["kill", "us-east-1/3"]).await;
    cluster.command(&["certs", "rotate", "--authority"]).await;
    cluster.command(&["restart", "us-east-1/3"]).await;
    cluster.agree().await;
    all_in_use(&cluster).await;

    // A frozen one cannot say whom it trusts; a certificate of its own it finds when it goes on.
    cluster.command(&["pause", "us-east-1/1"]).await;
    let before = files(&certs(&cluster));
    let authority = cluster
        .try_command(&["certs", "rotate", "--authority"])
        .await;
    refused(
        &authority,
        &["nothing was changed", "us-east-1/1 is paused"],
    );
    assert_eq!(files(&certs(&cluster)), before);
    let words = said(&cluster.command(&["certs", "rotate", "us-east-1/1"]).await);
    assert!(words.contains("us-east-1/1: paused; it takes"), "{words}");
    cluster.command(&["resume", "us-east-1/1"]).await;
    wait::until_true(
        "TLS credentials of the frozen node",
        wait::LONG,
        async || {
            let report = cluster.certificates().await;
            line(&report, 1)["state"] == "in use"
        },
    )
    .await;
    cluster.agree().await;

    cluster.stop().await;
    let words = said(&cluster.command(&["certs", "rotate", "--authority"]).await);
    assert!(
        words.contains("us-east-1/2: not running; it takes"),
        "{words}"
    );
    cluster.start().await;
    cluster.agree().await;
    all_in_use(&cluster).await;
    let last = cluster.filed();
    assert!(last.iter().all(|(node, shown)| first[node] != *shown));
}

/// A `certs rotate` that writes to a file, so that a test can stop it on the way.
struct Rotating {
    command: Child,
    output: PathBuf,
}

impl Rotating {
    fn start(cluster: &Cluster, args: &[&str]) -> Self {
        let output = cluster.folder().join("rotating");
        let file = std::fs::File::create(&output).unwrap();
        let mut command = cluster.keyrum("cluster", &["certs", "rotate"]);
        command.args(args).stdin(Stdio::null());
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Self {
            command: command.spawn().unwrap(),
            output,
        }
    }

    /// Sends a signal as soon as something is said, and waits for the end; what was said.
    async fn stop_at(mut self, part: &str, signal: Signal) -> (String, std::process::ExitStatus) {
        let read = || std::fs::read_to_string(&self.output).unwrap();
        wait::until_true(part, wait::LONG, async || read().contains(part)).await;
        let pid = Pid::from_raw(self.command.id().try_into().unwrap()).unwrap();
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
        let status = wait::until("end of the command", wait::LONG, async || {
            self.command.try_wait().unwrap()
        })
        .await;
        (read(), status)
    }
}

/// Catches an interruption that leaves a cluster which does not work, a node that cannot start, or
/// a job that the same command does not finish; and one that says nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_rotation_is_finished_by_the_next() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let kms = sdk::client(cluster.endpoint(), HERE, "test");
    let first = cluster.shown().await;
    // Frozen behind the supervisor's back: a node that runs and does not answer is waited for.
    let pids = cluster.status().await;
    let third = Pid::from_raw(pids[2].pid.unwrap().try_into().unwrap()).unwrap();
    for (signal, said) in [
        (Signal::INT, "the same command again finishes"),
        (Signal::KILL, ""),
    ] {
        kill_process(third, Signal::STOP).unwrap();
        let rotating = Rotating::start(&cluster, &[]);
        let (words, status) = rotating.stop_at("us-east-1/1: its new", signal).await;
        assert!(!status.success() && words.contains(said), "{words}");
        kms.create_key().send().await.unwrap();
        kill_process(third, Signal::CONT).unwrap();
        cluster.agree().await;
        cluster.command(&["certs", "rotate"]).await;
        all_in_use(&cluster).await;
    }
    let second = cluster.shown().await;
    assert!(second.iter().all(|(node, shown)| first[node] != *shown));

    let stolen = copy(&certs(&cluster));
    for part in [
        "trusts the new authority",
        "us-east-1/1: its new",
        "us-east-1/2: its new",
    ] {
        // The command may be quicker than the signal; then it is begun again.
        wait::until_true("an interruption on the way", wait::LONG, async || {
            let rotating = Rotating::start(&cluster, &["--authority"]);
            rotating.stop_at(part, Signal::KILL).await;
            cluster.certificates().await["replacing_authority"] == true
        })
        .await;
        let report = cluster.certificates().await;
        assert!(warnings(&report).contains("--authority` finishes it"));
        refused(
            &cluster.try_command(&["certs", "rotate"]).await,
            &["nothing was changed", "--authority` finishes it"],
        );
        kms.create_key().send().await.unwrap();
        cluster.command(&["restart", "us-east-1/2"]).await;
        cluster.agree().await;
    }
    cluster.command(&["certs", "rotate", "--authority"]).await;
    all_in_use(&cluster).await;
    assert!(!lets_in(&cluster, stolen.path()).await);
    assert!(lets_in(&cluster, &certs(&cluster)).await);
    cluster.agree().await;
}

/// Catches a rotation of a node that is not there, a damaged certificate that puts the good one out
/// of use or that nobody hears of, one that is about to end without a word, and files that are put in
/// place by hand and not taken up.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_and_not_used() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let before = files(&certs(&cluster));
    refused(
        &cluster
            .try_command(&["certs", "rotate", "us-east-1/1", "us-east-1/9"])
            .await,
        &["nothing was changed", "no node us-east-1/9", "us-east-1/3"],
    );
    assert_eq!(files(&certs(&cluster)), before);

    let shown = cluster.shown().await;
    let file = certs(&cluster).join("us-east-1-node-2.pem");
    let good = std::fs::read(&file).unwrap();
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
    wait::until_true("a warning", wait::LONG, async || {
        warnings(&cluster.certificates().await)
            .contains("us-east-1/2: the certificate that lies there")
    })
    .await;
    let report = cluster.certificates().await;
    let state = line(&report, 2)["state"].as_str().unwrap().to_owned();
    assert_eq!(state, format!("in use is {}", &shown["us-east-1/2"][..16]));
    let status = said(&cluster.command(&["status"]).await);
    assert!(
        status.contains("us-east-1/2: the certificate that lies there"),
        "{status}"
    );
    assert_eq!(cluster.shown().await, shown);
    let log = cluster.node_output("us-east-1/2");
    assert!(log.contains("the former one stays in use"), "{log}");
    let kms = sdk::client(cluster.endpoint(), HERE, "test");
    kms.create_key().send().await.unwrap();

    // By hand: no command was run, and the node finds it.
    std::fs::write(&file, good).unwrap();
    wait::until_true("no warning", wait::LONG, async || {
        cluster.certificates().await["warnings"]
            .as_array()
            .unwrap()
            .is_empty()
    })
    .await;
    all_in_use(&cluster).await;

    cluster
        .command(&["certs", "rotate", "us-east-1/2", "--days", "10"])
        .await;
    let ends = "us-east-1/2: its certificate ends in ";
    assert!(warnings(&cluster.certificates().await).contains(ends));
    let status = said(&cluster.command(&["status"]).await);
    assert!(status.contains(ends), "{status}");
    let table = said(&cluster.command(&["certs", "status"]).await);
    assert!(
        table.contains("authority ") && table.contains(ends),
        "{table}"
    );
    cluster
        .command(&["certs", "rotate", "us-east-1/2", "--days", "40"])
        .await;
    assert_eq!(
        cluster.certificates().await["warnings"],
        serde_json::json!([])
    );
    let now = cluster.shown().await;
    for other in ["us-east-1/1", "us-east-1/3"] {
        assert_eq!(now[other], shown[other]);
    }
    cluster.agree().await;
}
