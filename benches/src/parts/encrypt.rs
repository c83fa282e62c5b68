//! **Question.** What does Keyrum add to the least that an Encrypt over HTTP can cost, when the
//! leader knows by its lease that it may answer, and when it proves it with a round to a quorum?
//!
//! **Estimate.** The bare server spends about 5 us on a request. Keyrum adds the connection's
//! bookkeeping and a request id (0.5 us), reading and checking the signature's scope and the input
//! (1 us), the key's look-up and authorization (0.5 us), a key derived for the encryption (1 us)
//! and the longer answer (0.5 us): some 8.5 us, or 60 %. A round to two followers costs about
//! 50 us of processor time in three processes, and 64 callers share it some 30 at a time: 2 us
//! more, all of it on the same cores, and a hand-over between tasks: about 45 %. The disk is not
//! touched. The bound is the processor, so requests a second follow the processor time of *all*
//! processes, the load's among it; that is why the table's details name it.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::bare::Bare;
use crate::client::{self, Call};
use crate::cluster::{Cluster, THREE_NODES};
use crate::load::{CALLERS, Caller};
use crate::report::{Report, Row, Verdict};
use crate::turns::{Series, TURNS, Watched};
use crate::{Failure, Setting};

/// Length of the plaintext.
const PLAINTEXT_BYTES: usize = 1024;

pub(crate) async fn run(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let cluster = Cluster::up(setting, &setting.folder.join("encrypt")).await?;
    let bare = Bare::start(&setting.folder.join("bare.log")).await?;
    let leader = cluster.leader().await?.clone();
    let key = client::create_key(&leader.api).await?;
    let body = serde_json::json!({
        "KeyId": key,
        "Plaintext": STANDARD.encode([7; PLAINTEXT_BYTES]),
    })
    .to_string();
    let callers = async |addr: &str, mode| -> Result<Vec<Caller>, Failure> {
        let request = Call {
            consistency: Some(mode),
            ..Call::new("Encrypt", &body)
        }
        .bytes();
        let mut callers = Vec::new();
        for _ in 0..CALLERS {
            callers.push(Caller::http(addr, request.clone()).await?);
        }
        Ok(callers)
    };
    let ours = Watched {
        answering: vec![leader.pid],
        all: cluster.pids(),
    };
    let theirs = Watched {
        answering: vec![bare.pid()],
        all: vec![bare.pid()],
    };

    let mut floor = Series::new("bare server");
    let mut lease = Series::new("Keyrum, lease");
    let mut linearizable = Series::new("Keyrum, linearizable");
    for turn in 0..=TURNS {
        // The first turn is for warming up.
        let (seconds, mut warm) = match turn {
            0 => (
                0.5,
                Some([Series::new(""), Series::new(""), Series::new("")]),
            ),
            _ => (setting.slice_seconds, None),
        };
        let [a, b, c] = match &mut warm {
            Some([a, b, c]) => [a, b, c],
            None => [&mut floor, &mut lease, &mut linearizable],
        };
        a.turn(callers(bare.addr(), "lease").await?, &theirs, seconds)
            .await?;
        b.turn(callers(&leader.api, "lease").await?, &ours, seconds)
            .await?;
        c.turn(callers(&leader.api, "linearizable").await?, &ours, seconds)
            .await?;
    }

    for (series, what, least, target) in [
        (
            &lease,
            "Encrypt 1 KiB on the leader, lease, 64 callers",
            0.6,
            ">= 60 % of a bare server",
        ),
        (
            &linearizable,
            "Encrypt 1 KiB on the leader, linearizable, 64 callers",
            0.4,
            ">= 40 % of a bare server",
        ),
    ] {
        let ratio = series.rate_against(&floor);
        report.row(&Row {
            what,
            group: THREE_NODES,
            target,
            figure: format!("{:.0}/s, bare {:.0}/s", series.rate(), floor.rate()),
            ratio: format!(
                "{:.1} % (server CPU: {:.1} %)",
                100.0 * ratio,
                100.0 * floor.cpu_us() / series.cpu_us().max(1e-9)
            ),
            verdict: Verdict::of(ratio >= least),
        });
    }
    for series in [&floor, &lease, &linearizable] {
        report.detail(series.line());
    }
    cluster.stop().await?;
    remove(&setting.folder.join("encrypt"));
    Ok(())
}

/// Makes room for the next part.
pub(crate) fn remove(folder: &Path) {
    // What is left goes with the whole folder at the end.
    let _ = std::fs::remove_dir_all(folder);
}
