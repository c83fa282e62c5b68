//! Three nodes and their supervisor on a machine that loses its power.

use keyrum_tests::sdk::{self, HERE};
use keyrum_tests::switch::Switch;
use keyrum_tests::writers::{self, History, Writers};
use keyrum_tests::{Cluster, Shape, wait};

/// Writers at work in each round.
const WRITERS: usize = 8;

/// Writers that ask every node and the endpoint before all of them.
fn start_writers(cluster: &Cluster, name: &str) -> Writers {
    Writers::start(name, WRITERS, &cluster.clients("test"))
}

async fn acknowledged(writers: &Writers, count: u64) {
    let what = format!("{count} acknowledgements");
    wait::until_true(&what, wait::LONG, async || writers.acknowledged() >= count).await;
}

/// Lets writers work, takes the power away in the middle of it, and gives it back. What the
/// writers know, and how many writes were undone.
async fn round(
    cluster: &mut Cluster,
    switch: &Switch,
    number: u32,
    acknowledgements: u64,
) -> (Vec<History>, u64) {
    let writers = start_writers(cluster, &format!("round-{number}"));
    acknowledged(&writers, acknowledgements).await;
    let pids = cluster.pids();
    assert_eq!(pids.len(), 4, "three nodes and a supervisor");
    // Another moment of the nodes' work each time: between a write and its sync, say.
    switch.cut_before_change(1 + number * 7 % 29);
    let gone = async || !Cluster::any_runs(&pids);
    wait::until_true("end of every process", wait::SHORT, gone).await;
    cluster.ended(wait::SHORT).await;
    let histories = writers.stop().await;
    let reports = switch.reports();
    assert_eq!(
        reports.len(),
        4,
        "every process loses its power: {reports:?}"
    );
    switch.turn_on();
    (histories, reports.iter().map(|report| report.writes).sum())
}

async fn nothing_is_lost(rounds: u32, acknowledgements: u64) {
    let mut shape = Shape::one_region(3);
    // Small, so that power goes during snapshots too.
    shape.snapshot_entries = 200;
    let mut cluster = Cluster::prepare(&shape);
    let switch = Switch::new(cluster.folder());
    shape.envs = switch.environment(&cluster.data(), false);
    cluster.reshape(&shape);
    let (mut all, mut undone) = (Vec::new(), 0);
    for number in 1..=rounds {
        cluster.start().await;
        let (histories, writes) = round(&mut cluster, &switch, number, acknowledgements).await;
        undone += writes;
        cluster.start().await;
        cluster.agree().await;
        let client = sdk::client(cluster.endpoint(), HERE, "test");
        let last = number == rounds;
        // All that ever was only in the end: describing every key in every round takes long.
        let contradictions = if last {
            all.extend(histories);
            writers::check(&client, &all).await
        } else {
            let found = writers::check_only(&client, &histories).await;
            all.extend(histories);
            found
        };
        writers::none(&format!("after round {number}"), &contradictions);
        cluster.stop().await;
    }
    // Else the library saw nothing, and nothing was tested.
    assert!(undone > 0, "no round lost a single write");
}

/// Catches an acknowledgement that is given before its log entries, the vote or the mark are
/// synced on a quorum, and a start that does not get over what a power loss leaves.
#[tokio::test(flavor = "multi_thread")]
async fn a_power_loss_takes_nothing_that_was_acknowledged() {
    nothing_is_lost(4, 500).await;
}

/// Catches what the test above catches, more rarely met.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: part of make test-long"]
async fn long_a_power_loss_takes_nothing_that_was_acknowledged() {
    nothing_is_lost(20, 500).await;
}

/// Catches a test of power loss that would pass without any sync: with them taken out, the loss
/// must show.
#[tokio::test(flavor = "multi_thread")]
async fn without_syncs_the_loss_shows() {
    let mut shape = Shape::one_region(3);
    let mut cluster = Cluster::prepare(&shape);
    let switch = Switch::new(cluster.folder());
    // The cluster is made on a disk that tells the truth, or nothing at all would be left.
    shape.envs = switch.environment(&cluster.data(), false);
    cluster.reshape(&shape);
    cluster.start().await;
    cluster.stop().await;
    shape.envs = switch.environment(&cluster.data(), true);
    cluster.reshape(&shape);
    cluster.start().await;
    let (histories, undone) = round(&mut cluster, &switch, 1, 200).await;
    assert!(undone > 0);
    shape.envs.clear();
    cluster.reshape(&shape);
    // A cluster that does not even start has noticed.
    if cluster.try_start().await.is_ok() {
        let client = sdk::client(cluster.endpoint(), HERE, "test");
        let contradictions = writers::check(&client, &histories).await;
        assert!(
            !contradictions.is_empty(),
            "acknowledged without a sync, yet nothing was lost"
        );
    }
}
