//! **Question.** How soon can one work with the two-Region `keyrum dev`, and what does it cost to
//! leave it running?
//!
//! **Estimate.** Six nodes make or read their folders and certificates (0.1 s), open their stores
//! (six syncs each: 10 ms) and elect two leaders (at most two election timeouts: 0.6 s): 0.8 s.
//! Idle, each leader sends two followers a few heartbeats a second: some 40 messages a second of
//! 60 us, 0.3 % of a core. Memory is six stores with 8 MiB of cache at most, mostly empty, and
//! the threads' stacks: 50 MB. Nothing changes, so nothing is written.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::client::{self, Call};
use crate::cluster::{Cluster, first_success};
use crate::parts::encrypt::remove;
use crate::process::{cpu, resident_bytes, written_bytes};
use crate::report::{Report, Row, Verdict};
use crate::{Failure, Setting};

/// How long the cluster is left alone before it counts as idle.
const SETTLE: Duration = Duration::from_secs(5);

/// How long it is watched.
const WATCH: Duration = Duration::from_secs(20);

/// The limits: seconds until ready, percent of a core, bytes.
const READY_SECONDS: f64 = 2.0;
const CORE_PERCENT: f64 = 2.0;
const MEMORY_BYTES: u64 = 100_000_000;

const REGIONS: [&str; 2] = ["us-east-1", "eu-west-1"];

const GROUP: &str = "2 x 3 nodes in one process, fsynced";

pub(crate) async fn run(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let folder = setting.folder.join("dev");
    let (cluster, fresh) = start(setting).await?;
    for region in cluster.ready().regions.keys() {
        for _ in 0..5 {
            let call = Call {
                region,
                ..Call::new("CreateKey", "{}")
            };
            client::once(&cluster.ready().endpoint, &call).await?;
        }
    }
    cluster.stop().await?;
    let (cluster, again) = start(setting).await?;
    sleep(SETTLE).await;

    let pids = [cluster.pid()];
    let (cpu_before, written_before) = (cpu(&pids)?, written_bytes(cluster.pid())?);
    let watched = Instant::now();
    sleep(WATCH).await;
    let percent =
        (cpu(&pids)? - cpu_before).as_secs_f64() / watched.elapsed().as_secs_f64() * 100.0;
    let written = written_bytes(cluster.pid())? - written_before;
    let memory = resident_bytes(cluster.pid())?;

    let slower = fresh.max(again).as_secs_f64();
    let seconds = WATCH.as_secs();
    let rows = [
        (
            "dev with two Regions: ready after its start",
            "<= 2 s",
            format!(
                "{:.2} s fresh, {:.2} s again",
                fresh.as_secs_f64(),
                again.as_secs_f64()
            ),
            format!("{:.2} of the limit", slower / READY_SECONDS),
            slower <= READY_SECONDS,
        ),
        (
            "dev with two Regions: idle processor time",
            "< 2 % of a core",
            format!("{percent:.2} % over {seconds} s"),
            format!("{:.2} of the limit", percent / CORE_PERCENT),
            percent < CORE_PERCENT,
        ),
        (
            "dev with two Regions: resident memory",
            "< 100 MB",
            format!("{:.1} MB", memory as f64 / 1e6),
            format!("{:.2} of the limit", memory as f64 / MEMORY_BYTES as f64),
            memory < MEMORY_BYTES,
        ),
        (
            "dev with two Regions: disk writes while idle",
            "none",
            format!("{written} B over {seconds} s"),
            String::new(),
            written == 0,
        ),
    ];
    for (what, target, figure, ratio, met) in rows {
        report.row(&Row {
            what,
            group: GROUP,
            target,
            figure,
            ratio,
            verdict: Verdict::of(met),
        });
    }
    cluster.stop().await?;
    remove(&folder);
    Ok(())
}

/// Starts it and waits until it says that it is ready *and* every Region answers a linearizable
/// read; how long that took from the start of the program.
async fn start(setting: &Setting) -> Result<(Cluster, Duration), Failure> {
    let since = Instant::now();
    let cluster = Cluster::dev(setting, &setting.folder.join("dev"), &REGIONS).await?;
    let mut after = Duration::ZERO;
    for region in cluster.ready().regions.keys() {
        let call = Call {
            region,
            consistency: Some("linearizable"),
            ..Call::new("ListKeys", "{}")
        };
        after = after.max(first_success(&cluster.ready().endpoint, &call, since).await?);
    }
    Ok((cluster, after))
}
