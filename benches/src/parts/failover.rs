//! **Question.** How long does a Region take no change when its leader's process is killed?
//!
//! **Estimate.** Nobody tells the others: they notice that heartbeats (every 200 ms) stay away. A
//! node asks for votes 1.05 to 1.4 s after the last one, the first of two some 1.15 s after it, so
//! about 1.05 s after the kill; asking first whether it would win, the election, and a first entry
//! of the new term on two disks take some 10 ms. etcd's members wait 1 to 2 s, the first of two
//! some 1.3 s.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::client::{self, Call};
use crate::cluster::{Cluster, THREE_NODES};
use crate::etcd::{self, Etcd};
use crate::parts::encrypt::remove;
use crate::process::signal;
use crate::report::{Report, Row, Verdict};
use crate::turns::median;
use crate::{Failure, Setting};

/// How many leaders are killed, each in a cluster of its own.
const ROUNDS: usize = 7;

/// How often a change is tried anew on the members that are left: one may have gone the way of
/// the leader.
const TRY_EVERY: Duration = Duration::from_millis(20);

/// How long nothing may get through before the run is given up.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) async fn run(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let folder = setting.folder.join("failover");
    let with_etcd = etcd::version().is_some();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let cluster = Cluster::up(setting, &folder.join(format!("keyrum{round}"))).await?;
        client::create_key(&cluster.ready().endpoint).await?;
        let leader = cluster.leader().await?.clone();
        let left: Arc<[String]> = cluster
            .nodes()
            .iter()
            .filter(|node| node.pid != leader.pid)
            .map(|node| node.api.clone())
            .collect();
        signal(leader.pid, Signal::KILL);
        let change = |at: usize| {
            let left = left.clone();
            async move {
                let call = Call::new("CreateKey", "{}");
                client::once(&left[at % left.len()], &call).await.map(drop)
            }
        };
        ours.push(first_change(change).await?);
        cluster.kill().await?;
        if with_etcd {
            let etcd = Etcd::start(&folder.join(format!("etcd{round}"))).await?;
            let left: Arc<[String]> = etcd.kill_leader().into();
            let change = |at: usize| {
                let left = left.clone();
                async move { etcd::put_once(&left[at % left.len()], at).await }
            };
            theirs.push(first_change(change).await?);
        }
    }
    let longest = |times: &[f64]| times.iter().copied().fold(0.0, f64::max);
    let mut figure = format!(
        "median {:.2} s, longest {:.2} s of {ROUNDS}",
        median(ours.clone()),
        longest(&ours)
    );
    let mut ratio = String::new();
    if with_etcd {
        let their_median = median(theirs.clone());
        figure.push_str(&format!(
            "; etcd {their_median:.2} s, {:.2} s",
            longest(&theirs)
        ));
        ratio = format!("{:.2} x", median(ours) / their_median);
    }
    report.row(&Row {
        what: "failover: from the SIGKILL of the leader to the next change acknowledged",
        group: THREE_NODES,
        target: "",
        figure,
        ratio,
        verdict: Verdict::Reference,
    });
    remove(&folder);
    Ok(())
}

/// Begins a change every 20 ms until one succeeds; how many seconds that took.
async fn first_change<F>(begin: impl Fn(usize) -> F) -> Result<f64, Failure>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let since = Instant::now();
    let through = async {
        let mut tries = JoinSet::new();
        for at in 0.. {
            tries.spawn(begin(at));
            if timeout(TRY_EVERY, any_success(&mut tries)).await.is_ok() {
                return;
            }
        }
    };
    timeout(LIMIT, through)
        .await
        .map_err(|_| "no change gets through after the leader was killed")?;
    Ok(since.elapsed().as_secs_f64())
}

async fn any_success(tries: &mut JoinSet<Result<(), Failure>>) {
    while let Some(ended) = tries.join_next().await {
        if matches!(ended, Ok(Ok(()))) {
            return;
        }
    }
    std::future::pending().await
}
