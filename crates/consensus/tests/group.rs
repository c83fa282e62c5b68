//! Groups of real nodes in one process: real sockets, mutual TLS, real files.

#![allow(
    clippy::disallowed_methods,
    reason = "tests take free ports from the machine"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use keyrum_consensus::world::World;
use keyrum_consensus::{
    DomainKeyName, Group, GroupConfig, Links, ProposeError, ReadError, ReadMode, Role, StartError,
    answer_by, certs,
};
use keyrum_state::{Caller, Command, Event, FEATURE_LEVEL_SUPPORTED, KeyRef, NewMaterial};
use keyrum_store::{RealDisk, Store, StoreConfig};
use keyrum_types::{
    AccountId, KeyId, KeySpec, KeyUsage, MaterialId, NodeId, Origin, Region, SealedMaterial,
};
use tokio::time::{Instant, sleep, timeout};

const CLUSTER: &str = "test-cluster";

/// What the Region's domain key goes by.
const DOMAIN_KEY: [u8; 8] = [7; 8];

fn region() -> Region {
    "us-east-1".parse().unwrap()
}

fn account() -> AccountId {
    "000000000000".parse().unwrap()
}

fn caller() -> Caller {
    Caller::root(&"us-east-1".parse().unwrap(), account())
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
        let names: Vec<_> = (1..=nodes + 2).map(|node| (region(), node)).collect();
        certs::ensure(&cluster.certs(), CLUSTER, &names).unwrap();
        cluster
    }

    fn certs(&self) -> std::path::PathBuf {
        self.folder.path().join("certs")
    }

    fn config(&self, node: NodeId) -> GroupConfig {
        let listen = self
            .peers
            .get(&node)
            .cloned()
            .unwrap_or("127.0.0.1:0".to_owned());
        GroupConfig {
            cluster_id: CLUSTER.to_owned(),
            region: region(),
            node,
            listen,
            peers: self.peers.clone(),
            neighbours: BTreeMap::new(),
            bootstrap: self.peers.contains_key(&node),
            snapshot_every: self.snapshot_every,
            history_rows_max: None,
        }
    }

    async fn start(&self, node: NodeId) -> Group {
        let config = self.config(node);
        self.start_holding(config, DOMAIN_KEY).await.unwrap()
    }

    /// Starts a node with a domain key of its own.
    async fn start_holding(
        &self,
        config: GroupConfig,
        fingerprint: [u8; 8],
    ) -> Result<Group, StartError> {
        let node = config.node;
        let folder = self.folder.path().join(format!("node-{node}"));
        let store = Store::open(RealDisk::shared(), &folder, StoreConfig::default()).unwrap();
        let name = DomainKeyName {
            fingerprint: keyrum_types::Fingerprint(fingerprint),
            file: format!("key-of-{node}").into(),
        };
        let links = Links::mutual_tls(&self.certs(), CLUSTER, &region(), node, World::real().clock)
            .unwrap();
        Group::start(config, World::real(), store, links.for_domain_key(name)).await
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
    // A caller may have less time than that.
    let asked = Instant::now();
    let by = || Instant::now() + Duration::from_millis(300);
    let read = answer_by(by(), leading.read(ReadMode::Linearizable)).await;
    assert_eq!(read.unwrap_err(), ReadError::NoQuorum);
    let proposed = answer_by(by(), create_key(&leading, 3)).await;
    assert!(proposed.is_err());
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(2), "took {took:?}");

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

/// Catches a vote given to a node that was never reached: a majority may need it from then on, and
/// a group of one could not even take it out again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_catch_up_gets_no_vote() {
    for nodes in [1, 3] {
        let cluster = Cluster::new(nodes, 1000);
        let groups = cluster.start_all().await;
        create_key(&groups[0], 1).await.unwrap();
        // One that leads, and one that passes it on where there are others.
        for asked in [leader(&groups), (leader(&groups) + 1) % groups.len()] {
            let asked = &groups[asked];
            let addr = free_addrs(1).remove(0);
            asked.add_learner(9, addr).await.unwrap();
            let promoted = timeout(Duration::from_secs(1), asked.promote(9)).await;
            assert!(promoted.is_err(), "{nodes} nodes: {promoted:?}");
            let status = groups[leader(&groups)].status();
            assert_eq!(
                (status.voters.len() as u64, status.learners),
                (nodes, vec![9])
            );
            asked.remove(9).await.unwrap();
            let refused = asked.promote(9).await.unwrap_err().to_string();
            assert!(refused.contains("no member"), "{refused}");
        }
        create_key(&groups[0], 2).await.unwrap();
    }
}

/// Catches a node with another domain key than the Region's that starts, joins, or goes on, and a
/// group that such a node harms.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_domain_key_does_not_join() {
    let cluster = Cluster::new(3, 1000);
    let groups = cluster.start_all().await;
    create_key(&groups[0], 1).await.unwrap();
    let says = |words: &str| {
        for part in ["key-of-4", "0707070707070707", "0808080808080808"] {
            assert!(words.contains(part), "{part} is not in: {words}");
        }
    };
    let config = cluster.config(4);
    let refused = cluster.start_holding(config.clone(), [8; 8]).await;
    says(&refused.err().expect("it met a peer").to_string());

    // Of two that have no data neither knows which is right: the one that starts does not.
    let mut waiting = cluster.config(5);
    waiting.peers.clear();
    let waiting = cluster.start_holding(waiting, DOMAIN_KEY).await.unwrap();
    let mut only = config.clone();
    only.peers = BTreeMap::from([(5, waiting.peer_addr().to_string())]);
    let refused = cluster.start_holding(only, [8; 8]).await;
    says(&refused.err().expect("it met a peer").to_string());
    assert_eq!(waiting.status().stopped, None);

    // One that could not meet anybody at its start.
    let mut alone = config;
    alone.listen = free_addrs(1).remove(0);
    alone.peers.clear();
    let wrong = cluster.start_holding(alone.clone(), [8; 8]).await;
    let wrong = wrong.unwrap();
    let asked = &groups[(leader(&groups) + 1) % 3];
    let addr = wrong.peer_addr().to_string();
    asked.add_learner(4, addr.clone()).await.unwrap();
    let stopped = timeout(Duration::from_secs(10), wrong.stopped()).await;
    says(&stopped.expect("it was met").to_string());
    assert_eq!(wrong.state().total_keys(), 0);
    wrong.shutdown().await;
    drop(wrong);
    for group in groups.iter().chain([&waiting]) {
        assert_eq!(group.status().stopped, None);
    }
    create_key(&groups[1], 2).await.unwrap();

    // With the Region's domain key it is as if it had been so from the beginning.
    let right = cluster.start_holding(alone, DOMAIN_KEY).await.unwrap();
    asked.add_learner(4, addr).await.unwrap();
    asked.promote(4).await.unwrap();
    eventually("the node has the keys", async || {
        has_key(&right.state(), 1) && has_key(&right.state(), 2)
    })
    .await;
}

/// Catches a leader that switches on rules which a silent member's program may not know, be it a voter
/// that is down or a learner that nobody reached; and one that does not once all have spoken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_wait_for_members_that_are_silent() {
    let cluster = Cluster::new(3, 1000);
    let mut groups = cluster.start_all().await;
    let silent = groups.remove((leader(&groups) + 1) % 3);
    let node = silent.node();
    silent.shutdown().await;
    drop(silent);
    let stays = async || {
        let leading = &groups[leader(&groups)];
        let before = leading.state().feature_level();
        assert!(!leading.raise_feature_level().await);
        let state = leading.read(ReadMode::Linearizable).await.unwrap();
        assert_eq!((before, state.feature_level()), (1, 1));
    };
    stays().await;

    // It speaks, but now one does not that takes what it is sent and never answers.
    let back = cluster.start(node).await;
    back.ready().await.unwrap();
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = mute.local_addr().unwrap().to_string();
    groups[0].add_learner(9, addr).await.unwrap();
    stays().await;
    groups[0].remove(9).await.unwrap();

    let all: Vec<_> = groups.iter().chain([&back]).collect();
    eventually("the rules are on", async || {
        let leading = all.iter().find(|group| group.is_leader());
        match leading {
            Some(leading) => leading.raise_feature_level().await,
            None => false,
        }
    })
    .await;
    for group in all {
        let state = group.read(ReadMode::Linearizable).await.unwrap();
        assert_eq!(state.feature_level(), FEATURE_LEVEL_SUPPORTED);
    }
}
