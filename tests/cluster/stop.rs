//! How a cluster ends.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use keyrum_tests::sdk::{self, HERE};
use keyrum_tests::writers::{self, Writers};
use keyrum_tests::{Cluster, Dev, Shape, keyrum, wait};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// What an orderly end may take.
const LIMIT: Duration = Duration::from_secs(2);

fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Catches a Ctrl-C that takes long, fails, forgets a node, or leaves its user in the dark about
/// where the data is.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_cluster_ends_at_once() {
    let mut cluster = Cluster::up(&Shape::one_region(3)).await;
    // A node that is frozen must end too.
    let leader = cluster.leader().await;
    cluster.command(&["pause", &leader]).await;
    let pids = cluster.pids();
    assert_eq!(pids.len(), 4);
    let start = Instant::now();
    cluster.signal(Signal::INT);
    let status = cluster.ended(wait::SHORT).await;
    let took = start.elapsed();
    assert!(took <= LIMIT, "it took {took:?}");
    assert!(status.success(), "{status:?}");
    assert!(!Cluster::any_runs(&pids), "a process is left");
    let folder = cluster.data().display().to_string();
    let output = cluster.output();
    let last = output.lines().last().unwrap();
    assert!(last.contains(&folder), "{last}");
}

/// Catches the same under load: what was taken is finished, and the end still comes in time.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_cluster_under_load_ends_at_once() {
    let mut cluster = Cluster::up(&Shape::one_region(3)).await;
    let writers = Writers::start("stop", 8, &cluster.clients("test"));
    wait::until_true("work", wait::SHORT, async || writers.acknowledged() > 100).await;
    let start = Instant::now();
    cluster.signal(Signal::INT);
    let status = cluster.ended(wait::SHORT).await;
    let took = start.elapsed();
    assert!(
        took <= LIMIT && status.success(),
        "it took {took:?}: {status:?}"
    );
    let histories = writers.stop().await;
    cluster.start().await;
    let client = sdk::client(cluster.endpoint(), HERE, "test");
    let contradictions = writers::check(&client, &histories).await;
    writers::none("after a restart", &contradictions);
}

/// Catches the same for `dev`.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_dev_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for kept in [true, false] {
        let arguments = ["--data", data.to_str().unwrap()];
        let arguments = if kept {
            &arguments[..]
        } else {
            &["--ephemeral"]
        };
        let mut dev = Dev::start(arguments).await;
        let temporary = dev.ready.data();
        assert!(temporary.exists());
        let start = Instant::now();
        send(dev.pid(), Signal::INT);
        let status =
            wait::until("end", wait::SHORT, async || dev.child().try_wait().unwrap()).await;
        let took = start.elapsed();
        assert!(
            took <= LIMIT && status.success(),
            "it took {took:?}: {status:?}"
        );
        let output = dev.output();
        let last = output.lines().last().unwrap();
        assert!(last.contains(&temporary.display().to_string()), "{last}");
        assert_eq!(temporary.exists(), kept);
    }
    // And what was kept is there.
    let dev = Dev::start(&["--data", data.to_str().unwrap()]).await;
    assert_eq!(dev.ready.data(), data);
}

/// Catches a cluster that a closed terminal ends without tidying up, so that temporary data stays
/// for good, and one that `nohup` does not keep.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_terminal_is_an_orderly_end() {
    let mut dev = Dev::start(&["--ephemeral", "--nodes", "1"]).await;
    let temporary = dev.ready.data();
    send(dev.pid(), Signal::HUP);
    let status = wait::until("end", wait::SHORT, async || dev.child().try_wait().unwrap()).await;
    assert!(status.success(), "{status:?}");
    assert!(!temporary.exists());

    let mut cluster = Cluster::up(&Shape::one_region(1)).await;
    let pids = cluster.pids();
    cluster.signal(Signal::HUP);
    let status = cluster.ended(wait::SHORT).await;
    assert!(status.success(), "{status:?}");
    assert!(!Cluster::any_runs(&pids), "a process is left");

    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready.json");
    let mut kept = Command::new("nohup");
    kept.arg(keyrum());
    kept.args([
        "dev",
        "--ephemeral",
        "--nodes",
        "1",
        "--port",
        "0",
        "--ready-file",
    ]);
    kept.arg(&ready).stdin(Stdio::null());
    kept.stdout(Stdio::null()).stderr(Stdio::null());
    let mut kept = kept.spawn().unwrap();
    wait::until_true("ready", wait::LONG, async || ready.exists()).await;
    // Of two signals that wait the lower comes first: had it not been ignored, this were two.
    send(kept.id(), Signal::HUP);
    send(kept.id(), Signal::TERM);
    let status = wait::until("end", wait::SHORT, async || kept.try_wait().unwrap()).await;
    assert!(status.success(), "{status:?}");
}

/// Catches nodes that outlive a supervisor that could not stop them.
#[tokio::test(flavor = "multi_thread")]
async fn no_node_outlives_its_supervisor() {
    let mut cluster = Cluster::up(&Shape::one_region(3)).await;
    let leader = cluster.leader().await;
    cluster.command(&["pause", &leader]).await;
    let pids = cluster.pids();
    cluster.signal(Signal::KILL);
    cluster.ended(wait::SHORT).await;
    let look = async || !Cluster::any_runs(&pids);
    wait::until_true("end of every node", wait::SHORT, look).await;
    // Nor does it leave anything that keeps the next from starting.
    cluster.start().await;
    cluster.agree().await;
}

/// Catches `cluster stop` that returns before the cluster has stopped, or fails when asked again.
#[tokio::test(flavor = "multi_thread")]
async fn stop_waits_for_the_end() {
    let mut cluster = Cluster::up(&Shape::one_region(3)).await;
    let pids = cluster.pids();
    cluster.command(&["stop"]).await;
    let status = cluster.ended(wait::SHORT).await;
    assert!(status.success(), "{status:?}");
    assert!(!Cluster::any_runs(&pids), "a process is left");
    let again = cluster.try_command(&["stop"]).await;
    let words = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        !again.status.success() && words.contains("no cluster runs"),
        "{words}"
    );
}

/// Catches commands that take a cluster that was killed for one that runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_cluster_is_not_taken_for_running() {
    let ended = |args: &[&str], data: &Path| {
        let mut command = Command::new(keyrum());
        let output = command.args(args).arg("--data").arg(data).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{args:?}: {output:?}");
        for part in ["no cluster runs", "in order"] {
            assert!(words.contains(part), "{args:?}: {words}");
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let dev = Dev::start(&["--data", data.to_str().unwrap(), "--nodes", "1"]).await;
    let mut stop = Command::new(keyrum());
    stop.args(["cluster", "stop", "--data"]).arg(&data);
    let output = stop.output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let advice = format!("Ctrl-C there stops it, and so does `kill {}`", dev.pid());
    assert!(words.contains(&advice), "{words}");
    // Killed, not stopped.
    drop(dev);
    ended(&["cluster", "status"], &data);
    ended(&["clock", "advance", "1s"], &data);

    let mut cluster = Cluster::up(&Shape::one_region(1)).await;
    cluster.signal(Signal::KILL);
    cluster.ended(wait::SHORT).await;
    ended(&["cluster", "status"], &cluster.data());
    ended(&["cluster", "stop"], &cluster.data());
}
