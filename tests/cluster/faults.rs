//! Writers at work while leaders are killed, frozen and restarted.

use keyrum_tests::sdk::{self, HERE};
use keyrum_tests::writers::{self, Writers};
use keyrum_tests::{Cluster, Shape, wait};
use rustix::process::Signal;

const WRITERS: usize = 8;

/// Acknowledgements that must come while a node is away, and after it is back.
const PROGRESS: u64 = 20;

async fn progress(writers: &Writers, why: &str) {
    let goal = writers.acknowledged() + PROGRESS;
    let what = format!("progress {why}");
    wait::until_true(&what, wait::LONG, async || writers.acknowledged() >= goal).await;
}

async fn another_leader(cluster: &Cluster, old: &str) {
    let look = async || cluster.leader().await != old;
    wait::until_true(&format!("leader other than {old}"), wait::LONG, look).await;
}

/// Does something to the leader, waits until the others carry on, and undoes it.
async fn fault(cluster: &Cluster, writers: &Writers, number: u32) {
    let leader = cluster.leader().await;
    match number % 3 {
        0 => {
            cluster.command(&["kill", &leader]).await;
            another_leader(cluster, &leader).await;
            progress(writers, "without a killed leader").await;
            cluster.command(&["restart", &leader]).await;
        }
        1 => {
            cluster.command(&["pause", &leader]).await;
            another_leader(cluster, &leader).await;
            progress(writers, "without a frozen leader").await;
            cluster.command(&["resume", &leader]).await;
        }
        _ => {
            cluster.command(&["restart", &leader]).await;
        }
    }
    progress(writers, "after a fault").await;
}

async fn survive(faults: u32) {
    let mut shape = Shape::one_region(3);
    // Small, so that nodes come back to a log that was compacted without them.
    shape.snapshot_entries = 300;
    let mut cluster = Cluster::up(&shape).await;
    let writers = Writers::start("fault", WRITERS, &cluster.clients("test"));
    for number in 0..faults {
        fault(&cluster, &writers, number).await;
    }
    let acknowledged = writers.acknowledged();
    let histories = writers.stop().await;
    let unknown: u64 = histories.iter().map(|history| history.unknown).sum();
    // A test in which hardly anything was told proves little.
    assert!(
        acknowledged > unknown,
        "{acknowledged} acknowledged, {unknown} unknown"
    );
    cluster.agree().await;
    cluster.stop().await;
    cluster.start().await;
    cluster.agree().await;
    let client = sdk::client(cluster.endpoint(), HERE, "test");
    let contradictions = writers::check(&client, &histories).await;
    writers::none("after a restart", &contradictions);
    eprintln!("{faults} faults, {acknowledged} acknowledged, {unknown} unknown");
}

/// Catches an acknowledged change that a change of leader or a restart loses, one applied twice
/// when it is passed on again, and replicas that come to differ.
#[tokio::test(flavor = "multi_thread")]
async fn writers_survive_faults() {
    survive(15).await;
}

/// Catches a leader that goes on in its old term after a restart: entries it had sent but not yet
/// synced are then written a second time, with other content under the same index and term, and
/// whoever kept the first will not notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_leader_needs_a_new_term() {
    let mut cluster = Cluster::up(&Shape::one_region(3)).await;
    let mut term = 0;
    for _ in 0..3 {
        let lines = cluster.agree().await;
        let now = lines.iter().map(|line| line.number("term")).max().unwrap();
        assert!(now > term, "term {now} again after a restart");
        term = now;
        // All at once, so that nobody can take over.
        let pids = cluster.pids();
        cluster.signal(Signal::KILL);
        cluster.ended(wait::SHORT).await;
        let gone = async || !Cluster::any_runs(&pids);
        wait::until_true("end of every node", wait::SHORT, gone).await;
        cluster.start().await;
    }
}

/// Catches what `writers_survive_faults` catches, more rarely met.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: part of make test-long"]
async fn long_writers_survive_faults() {
    survive(90).await;
}
