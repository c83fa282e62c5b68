//! What commands print where nobody reads, what a terminal that closes does, and what scripts see
//! of a start.

use std::fs::File;
use std::io;
use std::process::Stdio;

use keyrum_tests::sdk::HERE;
use keyrum_tests::{Cluster, Shape};

/// Catches a command that falls over because its reader, such as `head`, has seen enough, and one
/// that hides that its answer was lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pipe_is_no_failure_and_a_full_disk_is() {
    let cluster = Cluster::up(&Shape::one_region(1)).await;
    for (verb, args) in [
        ("cluster", &["status"][..]),
        ("cluster", &["status", "--json"]),
        ("cluster", &["pause", "us-east-1/1"]),
        ("cluster", &["resume", "us-east-1/1"]),
        ("clock", &["advance", "1s"]),
        ("log", &["show", "--region", HERE]),
    ] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let output = cluster.keyrum(verb, args).stdout(writer).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{verb} {args:?}: {words}");
        assert!(!words.contains("panicked"), "{verb} {args:?}: {words}");

        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = cluster.keyrum(verb, args).stdout(full).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{verb} {args:?}: {words}");
        assert!(
            words.contains("standard output"),
            "{verb} {args:?}: {words}"
        );
        assert!(!words.contains("panicked"), "{verb} {args:?}: {words}");
    }
    // Not even the message about it can be written.
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let mut command = cluster.keyrum("cluster", &["status"]);
    let status = command.stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

/// Catches a ready file that tells of a cluster that has ended, also after a start that failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_ready_file_is_there_while_the_cluster_is() {
    let mut cluster = Cluster::up(&Shape::one_region(1)).await;
    let file = cluster.folder().join("ready.json");
    let up = |cluster: &Cluster| {
        let mut command = cluster.keyrum("cluster", &["up"]);
        command.arg("--config").arg(cluster.config());
        command.arg("--ready-file").arg(&file);
        command
    };
    // Not another's that runs.
    assert!(!up(&cluster).output().unwrap().status.success());
    assert!(file.exists());
    cluster.stop().await;
    assert!(!file.exists(), "it outlives its cluster");

    std::fs::write(&file, "stale").unwrap();
    let key = cluster.data().join(HERE).join("domain.key");
    std::fs::remove_file(key).unwrap();
    assert!(!up(&cluster).output().unwrap().status.success());
    assert!(!file.exists(), "an earlier start's is left");
}

/// Catches answers that leave their reader guessing: what to do with a node that has no process,
/// and whether a key was ever there.
#[tokio::test(flavor = "multi_thread")]
async fn answers_say_what_is_the_matter() {
    let cluster = Cluster::up(&Shape::one_region(3)).await;
    let node = "us-east-1/2";
    cluster.command(&["kill", node]).await;
    for verb in ["pause", "resume"] {
        let output = cluster.try_command(&[verb, node]).await;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{words}");
        assert!(
            words.contains("cluster restart us-east-1/2` first"),
            "{words}"
        );
    }
    let id = "00000000-0000-4000-8000-000000000000";
    let output = cluster
        .keyrum("log", &["show", "--region", HERE, "--key-id", id])
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        words.contains(&format!("no entry tells of a key {id}")),
        "{words}"
    );
}
