//! **Question.** How do commands through Keyrum's log compare with puts through etcd's, with three
//! members and one disk for both, under load and alone?
//!
//! **Estimate.** A CreateKey's log entry has about 400 bytes, a put 300. Both group what waits and
//! sync it once a member. So alone a command takes a sync on the leader, beside it one on a follower
//! with a round trip over TLS, and one of HTTP: about etcd's time. Under 64 callers syncs are shared and processor time decides: some 60 us
//! a command in three processes, against etcd's 150 us; so about twice etcd's rate. Keys stay in
//! memory and in snapshots, so the rate falls slowly while they gather.

use crate::client::Call;
use crate::cluster::{Cluster, THREE_NODES};
use crate::etcd::{self, Etcd};
use crate::load::{CALLERS, Caller};
use crate::parts::encrypt::remove;
use crate::report::{Report, Row, Verdict};
use crate::turns::{Series, TURNS, Watched};
use crate::{Failure, Setting};

/// Commands through the leader, or through every node in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Through {
    Leader,
    Everyone,
}

pub(crate) async fn run(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let folder = setting.folder.join("create");
    let cluster = Cluster::up(setting, &folder.join("keyrum")).await?;
    let etcd = match etcd::version() {
        Some(version) => {
            report.detail(format!("etcd {version}, its own defaults, 256-byte values"));
            Some(Etcd::start(&folder.join("etcd")).await?)
        }
        None => None,
    };
    let leader = cluster.leader().await?.clone();
    let ours = Watched {
        answering: vec![leader.pid],
        all: cluster.pids(),
    };
    let theirs = etcd.as_ref().map(|etcd| Watched {
        answering: etcd.pids(),
        all: etcd.pids(),
    });

    // An account holds 100,000 keys at most, so every turn's callers have accounts of their own.
    let mut account = 0;
    let mut creators = async |count: usize, through: Through| -> Result<Vec<Caller>, Failure> {
        let mut callers = Vec::new();
        for at in 0..count {
            account += 1;
            let node = match through {
                Through::Leader => &leader,
                Through::Everyone => &cluster.nodes()[at % cluster.nodes().len()],
            };
            let body = r#"{"Description":"made by keyrum-benches"}"#;
            let request = Call {
                account,
                ..Call::new("CreateKey", body)
            }
            .bytes();
            callers.push(Caller::http(&node.api, request).await?);
        }
        Ok(callers)
    };
    let putters = async |count: usize, through: Through| -> Result<Vec<Caller>, Failure> {
        let Some(etcd) = &etcd else {
            return Ok(Vec::new());
        };
        let putters = etcd.putters(count, through == Through::Everyone).await?;
        Ok(putters.into_iter().map(Caller::Etcd).collect())
    };

    let mut series = [
        (
            CALLERS,
            Through::Everyone,
            Series::new("CreateKey, 64 callers over three nodes"),
            Series::new("etcd put, 64 callers over three members"),
        ),
        (
            CALLERS,
            Through::Leader,
            Series::new("CreateKey, 64 callers on the leader"),
            Series::new("etcd put, 64 callers on the leader"),
        ),
        (
            1,
            Through::Leader,
            Series::new("CreateKey, 1 caller on the leader"),
            Series::new("etcd put, 1 caller on the leader"),
        ),
    ];
    for _ in 0..TURNS {
        for (count, through, us, them) in &mut series {
            let seconds = setting.slice_seconds * if *count == 1 { 0.5 } else { 1.0 };
            us.turn(creators(*count, *through).await?, &ours, seconds)
                .await?;
            if let Some(theirs) = &theirs {
                them.turn(putters(*count, *through).await?, theirs, seconds)
                    .await?;
            }
        }
    }

    let [everyone, leader_only, alone] = &series;
    for ((_, _, us, them), what) in [
        (everyone, "CreateKey, 64 callers over the three nodes"),
        (leader_only, "CreateKey, 64 callers on the leader"),
    ] {
        let Some(_) = &etcd else {
            report.skipped(what, &without_etcd(us));
            continue;
        };
        let (ratio, p99) = (us.rate_against(them), us.ms(0.99) / them.ms(0.99));
        report.row(&Row {
            what,
            group: THREE_NODES,
            target: ">= 1.5 x etcd's puts, p99 no worse",
            figure: format!(
                "{:.0}/s, p99 {:.1} ms; etcd {:.0}/s, p99 {:.1} ms",
                us.rate(),
                us.ms(0.99),
                them.rate(),
                them.ms(0.99)
            ),
            ratio: format!("{ratio:.2} x, p99 {p99:.2} x"),
            verdict: Verdict::of(ratio >= 1.5 && p99 <= 1.0),
        });
    }
    let (_, _, us, them) = alone;
    let what = "CreateKey, 1 caller";
    if etcd.is_some() {
        let ratio = us.ms(0.5) / them.ms(0.5);
        report.row(&Row {
            what,
            group: THREE_NODES,
            target: "p50 <= 1.5 x etcd's",
            figure: format!("p50 {:.3} ms; etcd {:.3} ms", us.ms(0.5), them.ms(0.5)),
            ratio: format!("{ratio:.2} x"),
            verdict: Verdict::of(ratio <= 1.5),
        });
    } else {
        report.skipped(what, &without_etcd(us));
    }
    for (_, _, us, them) in &series {
        report.detail(us.line());
        if etcd.is_some() {
            report.detail(them.line());
        }
    }
    cluster.stop().await?;
    drop(etcd);
    remove(&folder);
    Ok(())
}

fn without_etcd(us: &Series) -> String {
    format!(
        "{:.0}/s, p50 {:.3} ms, p99 {:.1} ms; there is no etcd to compare with: {}",
        us.rate(),
        us.ms(0.5),
        us.ms(0.99),
        etcd::INSTALL
    )
}
