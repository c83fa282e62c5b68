use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::Ordering;

use keyrum_state::{Caller, Command};
use keyrum_store::{SimDisk, Store, StoreConfig};
use openraft::raft::AppendEntriesRequest;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::types::Vote;
use crate::world::{Blocking, Slowness, World, spawn};
use crate::{GroupConfig, Links};

const LIMIT: Duration = Duration::from_secs(20);

/// Starts a node on a simulated disk, which does not need a thread.
async fn start(node: NodeId, peers: &BTreeMap<NodeId, String>, world: World) -> Group {
    let region: keyrum_types::Region = "us-east-1".parse().unwrap();
    let config = GroupConfig {
        cluster_id: "reads".to_owned(),
        region: region.clone(),
        node,
        listen: peers[&node].clone(),
        peers: peers.clone(),
        neighbours: BTreeMap::new(),
        bootstrap: true,
        snapshot_every: 1000,
        history_rows_max: None,
    };
    let disk = SimDisk::new().shared();
    let store = Store::open(disk, Path::new("node"), StoreConfig::default()).unwrap();
    let links = Links::simulated("reads", &region, node);
    Group::start(config, world, store, links).await.unwrap()
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Catches a node that says it follows a leader after it voted for, or heard of, a later one; and a
/// leader that counts itself after that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_follows_one_leader() {
    let alone = BTreeMap::from([(1, "127.0.0.1:0".to_owned())]);
    let group = start(1, &alone, World::real()).await;
    group.ready().await.unwrap();
    let inner = &group.inner;
    group.read(ReadMode::Linearizable).await.unwrap();
    assert!(inner.ask_followers().await.is_some());
    let term = group.term();
    let follows = async |term, leader| {
        let answer = inner
            .answer_reader(ReadQuestion::Follows(term, leader))
            .await;
        answer == ReadAnswer::Follows(true)
    };
    assert!(follows(term, 1).await);
    assert!(!follows(term, 2).await);
    assert!(!follows(term - 1, 1).await);
    let later = AppendEntriesRequest {
        vote: Vote::new_committed(term + 1, 2),
        prev_log_id: None,
        leader_commit: None,
        entries: Vec::new(),
    };
    // Another node may have applied what it was told is committed.
    let told = inner.shared.view().index + 5;
    inner.directory.told.store(told, Ordering::SeqCst);
    assert_eq!(inner.ask_followers().await, Some(told));
    for mode in [ReadMode::Linearizable, ReadMode::Lease] {
        let read = timeout(Duration::from_millis(50), group.read(mode)).await;
        assert!(read.is_err(), "{mode:?}: read before it is applied here");
    }
    inner.raft.append_entries(later).await.unwrap();
    assert!(!follows(term, 1).await);
    assert!(follows(term + 1, 2).await);
    assert_eq!(inner.ask_followers().await, None);
    group.shutdown().await;
}

/// Catches a linearizable read that waits until its followers' disks have what was appended before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_do_not_wait_for_disks() {
    static DISK: LazyLock<Slowness> = LazyLock::new(Slowness::default);
    #[expect(
        clippy::disallowed_methods,
        reason = "free ports are the machine's to give"
    )]
    let held = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let addrs = held
        .iter()
        .map(|held| held.local_addr().unwrap().to_string());
    let peers: BTreeMap<NodeId, String> = (1..).zip(addrs).collect();
    drop(held);
    let mut groups = Vec::new();
    for node in peers.keys() {
        let world = World {
            blocking: Blocking::Slowed(&DISK),
            ..World::real()
        };
        groups.push(start(*node, &peers, world).await);
    }
    for group in &groups {
        group.ready().await.unwrap();
        // The leader learns with it that it has applied an entry of its own.
        group.read(ReadMode::Linearizable).await.unwrap();
    }
    let leader = groups.iter().find(|group| group.is_leader()).unwrap();

    DISK.ms.store(3_000, Ordering::Relaxed);
    let before = leader.status().last_log;
    let proposer = leader.clone();
    let change = spawn(async move {
        let region = proposer.region().clone();
        let caller = Caller::root(&region, "000000000000".parse().unwrap());
        let now = proposer.inner.world.clock.now();
        proposer.propose(Some(caller), now, Command::Tick).await
    });
    eventually("the change is in every log", || {
        groups.iter().all(|group| group.status().last_log > before)
    })
    .await;
    let read = timeout(Duration::from_secs(1), leader.read(ReadMode::Linearizable)).await;
    assert!(read.is_ok_and(|read| read.is_ok()), "it waits for a disk");
    assert!(!change.is_finished(), "no disk was waited for");
    DISK.ms.store(0, Ordering::Relaxed);
    let done = timeout(LIMIT, change).await.unwrap().unwrap().unwrap();
    let told = || leader.inner.directory.told.load(Ordering::SeqCst);
    eventually("a follower is told", || told() >= done.index).await;
    for group in &groups {
        group.shutdown().await;
    }
}

/// Catches a question that a node with an older program takes for another one, or that ends its connection:
/// while nodes get a newer program one by one, reads go on.
#[test]
fn an_older_program_refuses_what_it_does_not_know() {
    use crate::codec::{decode, encode};
    assert_eq!(encode(&ReadQuestion::Index), encode(&false));
    assert_eq!(encode(&ReadQuestion::LeaseIndex), encode(&true));
    for term in [0, 1, 1 << 40] {
        let question = encode(&ReadQuestion::Follows(term, 1));
        assert!(decode::<bool>(&question).is_err());
    }
}

/// Catches a read that waits for entries being applied on a thread that other callers want, one that
/// never learns that they are applied, and an index below what a view already shows.
#[tokio::test]
async fn a_read_beside_entries_being_applied_waits_without_a_thread() {
    let alone = BTreeMap::from([(1, "127.0.0.1:0".to_owned())]);
    let group = start(1, &alone, World::real()).await;
    group.ready().await.unwrap();
    group.read(ReadMode::Linearizable).await.unwrap();
    assert!(group.inner.ask_followers().await.is_some());
    for mode in [ReadMode::Linearizable, ReadMode::Lease] {
        let shared = group.inner.shared.clone();
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let (begun, begins) = oneshot::channel();
        let applying = std::thread::Builder::new().spawn(move || {
            let _changing = shared.changing();
            let _ = begun.send(());
            // A read that blocks blocks whoever would say go.
            gone.recv_timeout(Duration::from_secs(5)).is_ok()
        });
        begins.await.unwrap();
        let mut read = std::pin::pin!(group.read(mode));
        let early = timeout(Duration::from_millis(50), &mut read).await;
        assert!(early.is_err(), "{mode:?}: read while entries are applied");
        go.send(()).unwrap();
        let said_in_time = applying.unwrap().join().unwrap();
        assert!(said_in_time, "{mode:?}: it held up its thread");
        let shared = &group.inner.shared;
        shared.shown.send_replace(shared.index());
        timeout(LIMIT, read).await.unwrap().unwrap();
    }
    let shared = &group.inner.shared;
    assert!(group.inner.ask_followers().await >= Some(shared.view().index));
    group.shutdown().await;
}
