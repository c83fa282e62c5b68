//! Families that change in every way while nodes of all Regions are killed and frozen.

mod dice;
mod kin;
mod told;
mod troubles;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_kms::types::KeyState;
use keyrum_consensus::world::Blocking;
use keyrum_tests::{Cluster, Shape, wait, writers};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use self::dice::Dice;
use self::kin::Family;
pub(crate) use self::told::messages_were_taken_once;
use self::troubles::{Fault, Troubles};
use crate::relatives::{REGIONS, Relatives};

/// What a run must come to before it may end.
struct Exercise {
    families: usize,
    moves: u64,
    faults: u64,
    /// Faults that began while a caller waited for a move.
    faults_in_moves: u64,
    limit: Duration,
}

/// What all tasks of a run share.
pub(crate) struct Storm {
    cluster: Cluster,
    kin: Relatives,
    troubles: Troubles,
    over: AtomicBool,
    /// Calls of UpdatePrimaryRegion that wait for their answer.
    moving: AtomicU64,
    /// Not 0 when somebody waits for keys to be deleted.
    let_time_pass: AtomicU64,
    counts: Mutex<BTreeMap<String, u64>>,
    wrong: Mutex<Vec<String>>,
}

impl Storm {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn count(&self, what: &str) {
        let mut counts = self.counts.lock().unwrap();
        *counts.entry(what.to_owned()).or_default() += 1;
    }

    fn counted(&self, what: &str) -> u64 {
        let counts = self.counts.lock().unwrap();
        counts.get(what).copied().unwrap_or(0)
    }

    fn wrong(&self, what: String) {
        eprintln!("wrong: {what}");
        self.wrong.lock().unwrap().push(what);
    }
}

/// Has what waits deleted, whenever somebody waits for that.
async fn pass_time(storm: Arc<Storm>) {
    while !storm.is_over() {
        sleep(Duration::from_millis(500)).await;
        if storm.let_time_pass.swap(0, Ordering::SeqCst) == 0 {
            continue;
        }
        let mut command = storm.cluster.keyrum("clock", &["advance", "8d"]);
        let advance = move || command.output().expect("it runs");
        let output = Blocking::Threads.run(advance).await;
        if output.status.success() {
            storm.count("days advanced");
        } else {
            // A Region may be without a leader just now; whoever waits still does.
            storm.let_time_pass.store(1, Ordering::SeqCst);
        }
    }
}

async fn run(seed: u64, exercise: &Exercise) {
    let mut dice = Dice::new(seed);
    let shape = Shape {
        regions: REGIONS.map(|region| (region, 3)).into(),
        // Small, so that nodes come back to logs that were compacted without them.
        snapshot_entries: 500,
        ..Shape::one_region(3)
    };
    let cluster = Cluster::up(&shape).await;
    let kin = Relatives::at(cluster.endpoint(), "storm");
    let storm = Arc::new(Storm {
        cluster,
        kin,
        troubles: Troubles::default(),
        over: AtomicBool::new(false),
        moving: AtomicU64::new(0),
        let_time_pass: AtomicU64::new(0),
        counts: Mutex::default(),
        wrong: Mutex::default(),
    });
    let mut families = Vec::new();
    let mut tasks = JoinSet::new();
    for _ in 0..exercise.families {
        let key = storm.kin.primary().await;
        storm.kin.replicate(&key, REGIONS[0], REGIONS[1]).await;
        let family = Arc::new(Family::new(key));
        tasks.spawn(kin::drive(storm.clone(), family.clone(), dice.fork()));
        tasks.spawn(kin::use_it(storm.clone(), family.clone(), dice.fork()));
        families.push(family);
    }
    tasks.spawn(pass_time(storm.clone()));

    let deadline = Instant::now() + exercise.limit;
    let met = |what: &str, goal| storm.counted(what) >= goal;
    while !(met("UpdatePrimaryRegion", exercise.moves)
        && met("faults", exercise.faults)
        && met("faults in moves", exercise.faults_in_moves))
    {
        let fault = Fault::drawn(&mut dice);
        if storm.moving.load(Ordering::SeqCst) > 0 {
            storm.count("faults in moves");
        }
        storm.count("faults");
        fault.inflict(&storm.cluster, &storm.troubles).await;
        let counts = storm.counts.lock().unwrap().clone();
        assert!(Instant::now() < deadline, "seed {seed}: only {counts:?}");
    }
    storm.over.store(true, Ordering::SeqCst);
    tasks.join_all().await;
    writers::none("while it stormed", &storm.wrong.lock().unwrap());

    // What is still on its way comes into force first, so that it is not taken for disagreement.
    for family in &families {
        heal(&storm.kin, &family.key).await;
    }
    let mut opened = 0;
    let mut tasks = JoinSet::new();
    for family in families {
        let storm = storm.clone();
        tasks.spawn(async move { open_everywhere(&storm.kin, &family).await });
    }
    while let Some(count) = tasks.join_next().await {
        opened += count.expect("every ciphertext opens");
    }
    let messages = messages_were_taken_once(&storm.cluster).await;
    for what in ["RotateKeyOnDemand", "DisableKey", "Encrypt", "Decrypt"] {
        assert!(storm.counted(what) > 0, "no {what}");
    }
    assert!(opened > 0 && messages > 0);
    eprintln!(
        "seed {seed}: {:?}; {opened} decryptions afterwards, {messages} messages taken once",
        storm.counts.lock().unwrap()
    );
}

/// Makes every member usable, and waits until they tell the same and go on telling it.
async fn heal(kin: &Relatives, key: &str) {
    let mut before = None;
    let what = format!("agreement about {key}");
    wait::until_true(&what, 2 * wait::LONG, async || {
        for region in REGIONS {
            let Some(shown) = kin.look(region, key).await else {
                continue;
            };
            // An answer of either may be a refusal: the next look shows.
            match shown.key_state() {
                Some(KeyState::PendingDeletion | KeyState::PendingReplicaDeletion) => {
                    let call = kin.kms(region).cancel_key_deletion().key_id(key);
                    _ = call.send().await;
                }
                Some(KeyState::Disabled) => {
                    let call = kin.kms(region).enable_key().key_id(key);
                    _ = call.send().await;
                }
                _ => {}
            }
        }
        let now = kin.agreed(key).await;
        let same = now.is_some() && now == before;
        before = now;
        same
    })
    .await;
}

/// Opens everything that was ever encrypted, in every member.
async fn open_everywhere(kin: &Relatives, family: &Family) -> u64 {
    let (_, members) = kin.agreed(&family.key).await.expect("they agree");
    let sealed = family.sealed.lock().unwrap().clone();
    let mut opened = 0;
    for (blob, text) in &sealed {
        for region in &members {
            assert_eq!(kin.decrypt(region, blob).await, *text, "in {region}");
            opened += 1;
        }
    }
    opened
}

/// Catches a family that two Regions lead, or none, for good; a member that stays Creating or
/// Updating; a ciphertext that a usable member cannot open, at any time; a call that a move, a
/// rotation or a new replica makes fail; and a message that is lost or taken twice: all that while
/// leaders and others of every Region are killed and frozen, of two Regions at once too.
#[tokio::test(flavor = "multi_thread")]
async fn families_survive_a_storm() {
    let exercise = Exercise {
        families: 4,
        moves: 10,
        faults: 3,
        faults_in_moves: 0,
        limit: Duration::from_secs(240),
    };
    run(1, &exercise).await;
}

/// Catches what `families_survive_a_storm` catches, more rarely met.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "about five minutes: part of make test-long"]
async fn many_families_survive_a_long_storm() {
    let exercise = Exercise {
        families: 20,
        moves: 200,
        faults: 40,
        faults_in_moves: 10,
        limit: Duration::from_secs(1_800),
    };
    run(7, &exercise).await;
}
