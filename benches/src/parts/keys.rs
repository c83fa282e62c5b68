//! **Question.** With 100,000 keys: what does a key cost in memory, how long does a restart take,
//! and do readers feel a snapshot being built?
//!
//! **Estimate.** A key with its sealed material, tags and description has some 400 bytes, and the
//! persistent maps and the allocator double that: 0.8 KB a key and node. A restart reads a
//! snapshot of 25 MB and the log and history behind it, checks and decodes it (3 us a key, on two
//! cores for three nodes: 0.5 s), and elects a leader (0.5 s): about 1.2 s. A snapshot is built
//! from a clone that costs nothing, by a thread beside the others: on two cores a reader waits at
//! most for a time slice or two of the scheduler, 1 to 3 ms.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::client::{self, Call, Connection};
use crate::cluster::{Cluster, Node, THREE_NODES, first_success};
use crate::load::{self, Latency};
use crate::parts::encrypt::remove;
use crate::process::resident_bytes;
use crate::report::{Report, Row, Verdict};
use crate::turns::quantile_ms;
use crate::{Failure, Setting};

const KEYS: usize = 100_000;

/// Readers while snapshots are built: enough to be there at any moment, too few to queue.
const READERS: usize = 8;

/// Snapshots that are built for the readers.
const SNAPSHOTS: usize = 10;

/// How long a cluster is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);

pub(crate) async fn run(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let folder = setting.folder.join("keys");
    let cluster = Cluster::up(setting, &folder).await?;
    sleep(SETTLE).await;
    let fresh = memory(&cluster)?;

    let start = Instant::now();
    let keys = create(&cluster).await?;
    report.detail(format!(
        "{} keys made in {:.1} s",
        keys.len(),
        start.elapsed().as_secs_f64()
    ));
    sleep(SETTLE).await;
    let filled = memory(&cluster)?;

    let leader = cluster.leader().await?.clone();
    let [calm, meanwhile] = read_during_snapshots(&leader, &keys, report).await?;
    let after_snapshots = memory(&cluster)?;

    let keys = Arc::new(keys);
    let (cluster, killed) = restart(setting, cluster, &keys[0], End::Killed).await?;
    let (cluster, stopped) = restart(setting, cluster, &keys[0], End::Stopped).await?;
    sleep(SETTLE).await;
    let restarted = memory(&cluster)?;

    let per_key = |now: &[u64]| {
        let costs = now
            .iter()
            .zip(&fresh)
            .map(|(now, fresh)| now.saturating_sub(*fresh) / KEYS as u64);
        costs.max().unwrap_or(0)
    };
    let worst = per_key(&filled).max(per_key(&restarted));
    report.row(&Row {
        what: "memory of 100,000 keys",
        group: THREE_NODES,
        target: "<= 2 KB a key and node",
        figure: format!(
            "{} B after creation, {} B after a restart (worst node)",
            per_key(&filled),
            per_key(&restarted)
        ),
        ratio: format!("{:.2} of the limit", worst as f64 / 2_000.0),
        verdict: Verdict::of(worst <= 2_000),
    });
    let slower = killed.everyone.max(stopped.everyone).as_secs_f64();
    report.row(&Row {
        what: "restart of all nodes with 100,000 keys",
        group: THREE_NODES,
        target: "ready within 3 s",
        figure: format!(
            "every node answers after {:.2} s (killed), {:.2} s (stopped)",
            killed.everyone.as_secs_f64(),
            stopped.everyone.as_secs_f64()
        ),
        ratio: format!("{:.2} of the limit", slower / 3.0),
        verdict: Verdict::of(slower <= 3.0),
    });
    let p99 = quantile_ms(&meanwhile, 0.99);
    report.row(&Row {
        what: "DescribeKey while a snapshot of 100,000 keys is built, 8 callers on the leader",
        group: THREE_NODES,
        target: "p99 < 5 ms",
        figure: format!(
            "p99 {p99:.2} ms of {} calls; otherwise {:.2} ms",
            meanwhile.len(),
            quantile_ms(&calm, 0.99)
        ),
        ratio: format!("{:.2} of the limit", p99 / 5.0),
        verdict: Verdict::of(p99 < 5.0 && !meanwhile.is_empty()),
    });
    let mib = |bytes: &[u64]| {
        bytes
            .iter()
            .map(|bytes| format!("{} MiB", bytes >> 20))
            .collect::<Vec<_>>()
            .join(" ")
    };
    report.detail(format!(
        "resident memory of the three nodes: fresh {}; filled {}; after {SNAPSHOTS} snapshots of \
         the leader {}; restarted {}",
        mib(&fresh),
        mib(&filled),
        mib(&after_snapshots),
        mib(&restarted)
    ));
    for (how, times) in [("killed", &killed), ("stopped", &stopped)] {
        report.detail(format!(
            "restart after all nodes were {how}: first answer of a node {:.2} s, of every node \
             {:.2} s, ready file {:.2} s",
            times.first.as_secs_f64(),
            times.everyone.as_secs_f64(),
            times.ready_file.as_secs_f64()
        ));
    }
    report.detail(format!(
        "DescribeKey: p50 {:.2}, p99 {:.2}, max {:.1} ms during snapshots; p50 {:.2}, p99 {:.2}, max {:.1} ms between them",
        quantile_ms(&meanwhile, 0.5),
        quantile_ms(&meanwhile, 0.99),
        meanwhile.max() as f64 / 1e6,
        quantile_ms(&calm, 0.5),
        quantile_ms(&calm, 0.99),
        calm.max() as f64 / 1e6,
    ));
    cluster.stop().await?;
    remove(&folder);
    Ok(())
}

fn memory(cluster: &Cluster) -> Result<Vec<u64>, Failure> {
    cluster.pids().into_iter().map(resident_bytes).collect()
}

/// Makes the keys, over all nodes; their ids.
async fn create(cluster: &Cluster) -> Result<Vec<String>, Failure> {
    let addrs: Vec<_> = cluster
        .nodes()
        .iter()
        .map(|node| node.api.clone())
        .collect();
    let request = Call::new("CreateKey", "{}").bytes();
    load::every(&addrs, KEYS, move |_| request.clone(), client::made_key).await
}

/// Has snapshots built on the leader while keys are read there. Latencies of the calls that met no
/// snapshot, and of those that did.
async fn read_during_snapshots(
    leader: &Node,
    keys: &[String],
    report: &mut Report,
) -> Result<[Latency; 2], Failure> {
    // Odd while a snapshot is being built.
    let phase = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicU64::new(0));
    let mut readers = JoinSet::new();
    for at in 0..READERS {
        let mut connection = Connection::open(&leader.api).await?;
        // Keys from everywhere, so that no cache of a single one helps.
        let mut requests: VecDeque<Vec<u8>> = (0..500)
            .map(|step| &keys[(at * 7_919 + step * 997) % keys.len()])
            .map(|id| Call::new("DescribeKey", &format!("{{\"KeyId\":\"{id}\"}}")).bytes())
            .collect();
        let (phase, done) = (phase.clone(), done.clone());
        readers.spawn(async move {
            let mut latencies = [load::no_latency(), load::no_latency()];
            while done.load(Ordering::Relaxed) == 0 {
                requests.rotate_left(1);
                let (before, asked) = (phase.load(Ordering::Relaxed), Instant::now());
                connection.exchange(&requests[0]).await?.good()?;
                let took = asked.elapsed();
                let met = before % 2 == 1 || phase.load(Ordering::Relaxed) != before;
                load::note(&mut latencies[usize::from(met)], took);
            }
            Ok::<_, Failure>(latencies)
        });
    }
    let mut took = Vec::new();
    for round in 0..SNAPSHOTS {
        sleep(Duration::from_millis(200)).await;
        // Something new, so that there is a snapshot to take.
        let body = format!(
            "{{\"KeyId\":\"{}\",\"Description\":\"round {round}\"}}",
            keys[0]
        );
        client::once(&leader.api, &Call::new("UpdateKeyDescription", &body))
            .await
            .or_else(nothing)?;
        let start = Instant::now();
        phase.fetch_add(1, Ordering::Relaxed);
        leader.snapshot().await?;
        phase.fetch_add(1, Ordering::Relaxed);
        took.push(start.elapsed().as_secs_f64());
    }
    done.store(1, Ordering::Relaxed);
    let [mut calm, mut meanwhile] = [load::no_latency(), load::no_latency()];
    while let Some(latencies) = readers.join_next().await {
        let [without, with] = latencies??;
        calm += without;
        meanwhile += with;
    }
    report.detail(format!(
        "a snapshot of 100,000 keys took {:.2} s (median of {SNAPSHOTS}, beside {READERS} readers)",
        crate::turns::median(took)
    ));
    Ok([calm, meanwhile])
}

/// Operations without an answer have an empty body, which is no JSON.
fn nothing(failure: Failure) -> Result<serde_json::Value, Failure> {
    if failure.is::<serde_json::Error>() {
        Ok(serde_json::Value::Null)
    } else {
        Err(failure)
    }
}

/// How the nodes ended.
enum End {
    Killed,
    Stopped,
}

/// How long a restart took, from the start of the program.
struct Times {
    /// Until one node answered a linearizable read.
    first: Duration,
    /// Until every node had.
    everyone: Duration,
    /// Until the cluster said so itself.
    ready_file: Duration,
}

async fn restart(
    setting: &Setting,
    cluster: Cluster,
    key: &str,
    end: End,
) -> Result<(Cluster, Times), Failure> {
    let apis: Vec<String> = cluster
        .nodes()
        .iter()
        .map(|node| node.api.clone())
        .collect();
    match end {
        End::Killed => cluster.kill().await?,
        End::Stopped => cluster.stop().await?,
    }
    let body = format!("{{\"KeyId\":\"{key}\"}}");
    let start = Instant::now();
    let mut waiting = JoinSet::new();
    for api in apis {
        let body = body.clone();
        waiting.spawn(async move {
            let call = Call {
                consistency: Some("linearizable"),
                ..Call::new("DescribeKey", &body)
            };
            first_success(&api, &call, start).await
        });
    }
    let cluster = Cluster::up(setting, &setting.folder.join("keys")).await?;
    let ready_file = start.elapsed();
    let mut answered = Vec::new();
    while let Some(after) = waiting.join_next().await {
        answered.push(after??);
    }
    let first = answered.iter().min().copied().unwrap_or_default();
    let everyone = answered.iter().max().copied().unwrap_or_default();
    Ok((
        cluster,
        Times {
            first,
            everyone,
            ready_file,
        },
    ))
}
