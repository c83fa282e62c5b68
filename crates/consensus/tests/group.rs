//! Groups of real nodes in one process: real sockets, mutual TLS, real files.

#![allow(
    clippy::disallowed_methods,
    reason = "tests take free ports from the machine"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use keyrum_consensus::world::World;
use keyrum_consensus::{Group, GroupConfig, Links, ProposeError, ReadMode, Role, certs};
use keyrum_state::{Caller, Command, Event, KeyRef, NewMaterial};
use keyrum_store::{RealDisk, Store, StoreConfig};
use keyrum_types::{
    AccountId, KeyId, KeySpec, KeyUsage, MaterialId, NodeId, Origin, Region, SealedMaterial,
};
use tokio::time::{Instant, sleep, timeout};

const CLUSTER: &str = "test-cluster";

fn region() -> Region {
    "us-east-1".parse().unwrap()
}

fn account() -> AccountId {
    "000000000000".parse().unwrap()
}

fn caller() -> Caller {
    Caller {
        account: account(),
        arn: "arn:aws:iam::000000000000:root".to_owned(),
        conditions: BTreeMap::new(),
        grant_tokens: Vec::new(),
    }
}

fn key_number(number: u64) -> KeyId {
    let mut random = [0; 16];
    random[8..].copy_from_slice(&number.to_be_bytes());
    KeyId::multi_region(random)
}

fn create(number: u64) -> Command {
    Command::CreateKey {
        key: key_number(number),
        spec: KeySpec::SymmetricDefault,
        usage: KeyUsage::EncryptDecrypt,
        origin: Origin::AwsKms,
        description: format!("key {number}"),
        policy: None,
        bypass_lockout_check: false,
        tags: Vec::new(),
        material: Some(NewMaterial {
            id: MaterialId([7; 32]),
            sealed: SealedMaterial(vec![1; 76].into()),
        }),
    }
}

/// Takes free ports; another process may take them before they are used, which a test would show.
fn free_addrs(count: usize) -> Vec<String> {
    let held: Vec<_> = (0..count)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    held.iter()
        .map(|listener| listener.local_addr().unwrap().to_string())
        .collect()
}

struct Cluster {
    folder: tempfile::TempDir,
    peers: BTreeMap<NodeId, String>,
    snapshot_every: u64,
}

impl Cluster {
    fn new(nodes: u64, snapshot_every: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let peers = (1..=nodes).zip(free_addrs(nodes as usize)).collect();
        let cluster = Self {
            folder,
            peers,
            snapshot_every,
        };
        let names: Vec<_> = (1..=nodes + 1).map(|node| (region(), node)).collect();
        certs::ensure(&cluster.certs(), CLUSTER, &names).unwrap();
        cluster
    }

    fn certs(&self) -> std::path::PathBuf {
        self.folder.path().join("certs")
    }

    async fn start(&self, node: NodeId) -> Group {
        let listen = self
            .peers
            .get(&node)
            .cloned()
            .unwrap_or("127.0.0.1:0".to_owned());
        let config = GroupConfig {
            cluster_id: CLUSTER.to_owned(),
            region: region(),
            node,
            listen,
            peers: self.peers.clone(),
            neighbours: BTreeMap::new(),
            bootstrap: self.peers.contains_key(&node),
            snapshot_every: self.snapshot_every,
            history_rows_max: None,
        };
        start(
            &self.folder.path().join(format!("node-{node}")),
            &self.certs(),
            config,
        )
        .await
    }

    async fn start_all(&self) -> Vec<Group> {
        let mut groups = Vec::new();
        for node in self.peers.keys() {
            groups.push(self.start(*node).await);
        }
        for group in &groups {
            group.ready().await.unwrap();
        }
        groups
    }
}

async fn start(folder: &Path, certs: &Path, config: GroupConfig) -> Group {
    let store = Store::open(RealDisk::shared(), folder, StoreConfig::default()).unwrap();
    let links = Links::mutual_tls(certs, CLUSTER, &region(), config.node).unwrap();
    Group::start(config, World::real(), store, links)
        .await
        .unwrap()
}

async fn create_key(group: &Group, number: u64) -> Result<u64, ProposeError> {
    let now = World::real().clock.now();
    let done = group.propose(Some(caller()), now, create(number)).await?;
    done.outcome.unwrap();
    Ok(done.index)
}

fn has_key(state: &keyrum_state::State, number: u64) -> bool {
    state
        .key(KeyRef {
            account: account(),
            id: key_number(number),
        })
        .is_some()
}

async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn leader(groups: &[Group]) -> usize {
    groups.iter().position(Group::is_leader).expect("one leads")
}

/// Catches a command lost or a stale linearizable read on any node, and data that a restart loses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_takes_commands_and_reads_and_all_survive_a_restart() {
    let cluster = Cluster::new(3, 1000);
    let groups = cluster.start_all().await;
    for number in 0..30 {
        let group = &groups[number as usize % 3];
        create_key(group, number).await.unwrap();
        for (mode, reader) in [ReadMode::Linearizable, ReadMode::Lease]
            .into_iter()
            .zip([1, 2])
        {
            let reader = &groups[(number as usize + reader) % 3];
            assert!(
                has_key(&reader.read(mode).await.unwrap(), number),
                "{mode:?} key {number}"
            );
        }
    }
    let digest = groups[0]
        .read(ReadMode::Linearizable)
        .await
        .unwrap()
        .digest();
    for group in &groups {
        let state = group.read(ReadMode::Linearizable).await.unwrap();
        assert_eq!(state.digest(), digest);
    }
    for group in &groups {
        group.shutdown().await;
    }
    drop(groups);
    let groups = cluster.start_all().await;
    for group in &groups {
        let state = group.read(ReadMode::Linearizable).await.unwrap();
        assert!((0..30).all(|number| has_key(&state, number)));
        assert_eq!(state.digest(), digest);
        let history = group.history(0, 1000).await.unwrap();
        let created = history.iter().flat_map(|entry| &entry.events);
        assert_eq!(
            created
                .filter(|event| matches!(event, Event::KeyCreated { .. }))
                .count(),
            30
        );
    }
}

/// Catches a leader that stops without handing over, and a group that cannot go on without one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_on_shutdown() {
    let cluster = Cluster::new(3, 1000);
    let mut groups = cluster.start_all().await;
    create_key(&groups[0], 1).await.unwrap();
    let old = groups.remove(leader(&groups));
    let stopping = Instant::now();
    old.shutdown().await;
    assert!(
        groups
            .iter()
            .any(|group| *group.leader().borrow() != Some(old.node()))
    );
    create_key(&groups[0], 2).await.unwrap();
    assert!(
        stopping.elapsed() < Duration::from_secs(2),
        "took {:?}",
        stopping.elapsed()
    );
    assert!(has_key(
        &groups[1].read(ReadMode::Linearizable).await.unwrap(),
        2
    ));
}

/// Catches an answer that claims to know what a group without a quorum did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_callers_are_told_within_five_seconds() {
    let cluster = Cluster::new(3, 1000);
    let mut groups = cluster.start_all().await;
    create_key(&groups[0], 1).await.unwrap();
    let leading = groups.remove(leader(&groups));
    for group in groups.drain(..) {
        group.shutdown().await;
    }
    let asked = Instant::now();
    let read = timeout(Duration::from_secs(5), leading.read(ReadMode::Linearizable)).await;
    assert!(read.expect("within 5 s").is_err());
    assert!(asked.elapsed() < Duration::from_secs(5));
    let proposed = timeout(Duration::from_secs(5), create_key(&leading, 2)).await;
    let error = proposed.expect("within 5 s").unwrap_err();
    assert!(
        matches!(error, ProposeError::OutcomeUnknown | ProposeError::NoQuorum),
        "{error}"
    );
    assert!(has_key(&leading.read(ReadMode::Local).await.unwrap(), 1));
}

/// Catches a snapshot that does not compact the log, does not install on a node that lags, or
/// loses the history of a key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_compact_the_log_and_install_on_a_lagging_node() {
    let cluster = Cluster::new(3, 50);
    let mut groups = cluster.start_all().await;
    for number in 0..10 {
        create_key(&groups[0], number).await.unwrap();
    }
    let lagging = groups.remove((leader(&groups) + 1) % 3);
    let lagging_node = lagging.node();
    lagging.shutdown().await;
    drop(lagging);
    for number in 10..300 {
        create_key(&groups[0], number).await.unwrap();
    }
    for group in &groups {
        group.snapshot().await.unwrap();
    }
    eventually("the log is compacted", async || {
        groups
            .iter()
            .all(|group| group.status().purged.is_some_and(|purged| purged > 100))
    })
    .await;
    let back = cluster.start(lagging_node).await;
    back.ready().await.unwrap();
    let state = back.read(ReadMode::Linearizable).await.unwrap();
    assert!((0..300).all(|number| has_key(&state, number)));
    assert_eq!(
        state.digest(),
        groups[0]
            .read(ReadMode::Linearizable)
            .await
            .unwrap()
            .digest()
    );
    assert!(
        back.history_begins() > 100,
        "it got a snapshot, so its history begins later"
    );
    assert!(groups[0].history_begins() <= 1);
    let history = groups[0].history(0, 10_000).await.unwrap();
    assert_eq!(
        history
            .iter()
            .filter(|entry| entry.command == "CreateKey")
            .count(),
        300
    );
}

/// Catches a node that cannot join or leave a running group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_join_as_learners_are_promoted_and_removed() {
    let cluster = Cluster::new(3, 1000);
    let groups = cluster.start_all().await;
    create_key(&groups[0], 1).await.unwrap();
    let new = cluster.start(4).await;
    let asked = &groups[(leader(&groups) + 1) % 3];
    asked
        .add_learner(4, new.peer_addr().to_string())
        .await
        .unwrap();
    eventually("the learner has the key", async || has_key(&new.state(), 1)).await;
    assert_eq!(new.status().role, Role::Learner);
    asked.promote(4).await.unwrap();
    eventually("all know four voters", async || {
        groups
            .iter()
            .chain([&new])
            .all(|group| group.status().voters == [1, 2, 3, 4])
    })
    .await;
    let removed = leader(&groups);
    groups[removed]
        .remove(groups[removed].node())
        .await
        .unwrap();
    let rest: Vec<_> = groups
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != removed)
        .map(|(_, group)| group)
        .collect();
    eventually("another leads", async || {
        rest.iter().chain([&&new]).any(|group| group.is_leader())
    })
    .await;
    create_key(rest[0], 2).await.unwrap();
    assert_eq!(rest[0].status().voters.len(), 3);
}
