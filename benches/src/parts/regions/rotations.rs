//! **Question.** When 10,000 families are due to be rotated at once, in two Regions or in three, how many
//! are a second, and what do callers of Encrypt in the same Regions notice?
//!
//! **Estimate.** A family's rotation is an element of three commands in the primary's log (begun,
//! confirmed by two) and of two in each other's (begun, completed), each on three nodes: 21 elements
//! of some 20 us, and the material sealed, wrapped, unwrapped and sealed again for two Regions, 0.4
//! ms: under 1 ms of processor time, so 1,500 families a second on two cores with nothing else.
//! Encrypt waits behind what the same node applies, at most a command of 256 elements, and for a
//! processor that 12 processes want.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::REGIONS;
use super::family::{Families, about, account, level};
use crate::client::Connection;
use crate::cluster::Cluster;
use crate::load::{self, Latency};
use crate::parts::encrypt::remove;
use crate::report::{Report, Row, Verdict};
use crate::turns::quantile_ms;
use crate::{Failure, Setting};

const FAMILIES: usize = 10_000;

/// Callers of Encrypt in each Region, on the node that leads it.
const CALLERS: usize = 8;

/// From one call of a caller to its next. Far from all that the Regions could answer: what is
/// asked for is what callers notice, not how a busy machine is shared.
const EVERY: Duration = Duration::from_millis(20);

/// How long Encrypt is called before anything is due.
const CALM: Duration = Duration::from_secs(10);

const PERIOD_DAYS: u64 = 90;

pub(crate) async fn run(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    rotate_all(setting, report, &REGIONS[..2]).await?;
    rotate_all(setting, report, &REGIONS).await
}

async fn rotate_all(
    setting: &Setting,
    report: &mut Report,
    regions: &[&'static str],
) -> Result<(), Failure> {
    let folder = setting.folder.join("rotations");
    let cluster = Cluster::up_regions(setting, &folder, regions).await?;
    let start = Instant::now();
    let families = Families::make(&cluster, regions, FAMILIES).await?;
    let made = start.elapsed();
    let body = |key: &str| json!({"KeyId": key, "RotationPeriodInDays": PERIOD_DAYS});
    let operation = "EnableKeyRotation";
    families
        .change(&cluster, regions[0], operation, body)
        .await?;
    level(&cluster, regions).await?;
    let before = materials(&cluster, &families, regions).await?;

    let calls = Calls::start(&cluster, &families, regions).await?;
    sleep(CALM).await;
    let calm = calls.stop().await?;

    let calls = Calls::start(&cluster, &families, regions).await?;
    let by = Duration::from_secs((PERIOD_DAYS + 1) * 24 * 60 * 60);
    // Nothing is due where the primaries are not.
    for region in &regions[1..] {
        cluster.leader_of(region).await?.advance_clock(by).await?;
    }
    let start = Instant::now();
    let first = cluster.leader_of(regions[0]).await?;
    first.advance_clock(by).await?;
    let begun = start.elapsed();
    level(&cluster, regions).await?;
    let took = start.elapsed();
    let meanwhile = calls.stop().await?;

    let after = materials(&cluster, &families, regions).await?;
    let rotated = before.iter().zip(&after).filter(|(old, new)| {
        let [here, others @ ..] = &new[..] else {
            return false;
        };
        others.iter().all(|id| id == here) && !old.contains(here)
    });
    let rotated = rotated.count();
    if rotated != FAMILIES {
        return Err(format!("{rotated} families of {FAMILIES} are rotated everywhere").into());
    }
    let rate = rotated as f64 / took.as_secs_f64();
    let (what, meanwhile_what, group) = match regions.len() {
        2 => (
            "automatic rotation of 10,000 families in two Regions, all due at once",
            "Encrypt in the two Regions meanwhile, 800/s",
            "2 Regions of 3 nodes, fsynced",
        ),
        _ => (
            "automatic rotation of 10,000 families in three Regions, all due at once",
            "Encrypt in the three Regions meanwhile, 1,200/s",
            "3 Regions of 3 nodes, fsynced",
        ),
    };
    report.row(&Row {
        what,
        group,
        target: ">= 300/s",
        figure: format!("{rate:.0}/s, all in {:.1} s", took.as_secs_f64()),
        ratio: format!("{:.2} x the target", rate / 300.0),
        verdict: Verdict::of(rate >= 300.0),
    });
    let [p99, calm_p99] = [&meanwhile, &calm].map(|latency| quantile_ms(latency, 0.99));
    report.row(&Row {
        what: meanwhile_what,
        group,
        target: "p99 not doubled",
        figure: format!("p99 {p99:.2} ms; just before {calm_p99:.2} ms"),
        ratio: format!("{:.2} x", p99 / calm_p99),
        verdict: Verdict::of(p99 <= 2.0 * calm_p99),
    });
    report.detail(format!(
        "10,000 families in {} Regions were made in {:.1} s; all rotations were begun after \
         {:.1} s, and done when the couriers had nothing left to carry, by the status of the nodes \
         that lead; then DescribeKey told one new material of each family in all Regions",
        regions.len(),
        made.as_secs_f64(),
        begun.as_secs_f64(),
    ));
    for (when, latency) in [("before", &calm), ("during", &meanwhile)] {
        report.detail(format!(
            "Encrypt {when} the rotations: {} calls, linearizable, p50 {:.2}, p90 {:.2}, p99 \
             {:.2}, max {:.1} ms",
            latency.len(),
            quantile_ms(latency, 0.5),
            quantile_ms(latency, 0.9),
            quantile_ms(latency, 0.99),
            latency.max() as f64 / 1e6
        ));
    }
    cluster.stop().await?;
    remove(&folder);
    Ok(())
}

/// The current material of each family, in every Region.
async fn materials(
    cluster: &Cluster,
    families: &Families,
    regions: &[&'static str],
) -> Result<Vec<Vec<String>>, Failure> {
    let mut found = vec![Vec::new(); families.keys.len()];
    for &region in regions {
        let described = families.described(cluster, region).await?;
        for (materials, shown) in found.iter_mut().zip(described) {
            let id = shown["CurrentKeyMaterialId"].as_str();
            materials.push(id.ok_or("a key without material")?.to_owned());
        }
    }
    Ok(found)
}

/// Callers of Encrypt at work in all Regions.
struct Calls {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Result<Latency, Failure>>,
}

impl Calls {
    async fn start(
        cluster: &Cluster,
        families: &Families,
        regions: &[&'static str],
    ) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        let plaintext = STANDARD.encode([7; 1024]);
        let start = Instant::now();
        for (at, &region) in regions.iter().enumerate() {
            let leader = cluster.leader_of(region).await?;
            for caller in 0..CALLERS {
                let connection = Connection::open(&leader.api).await?;
                // Keys from everywhere, so that no cache of a single one helps.
                let keys = (0..500).map(|step| (caller * 7_919 + step * 997) % families.keys.len());
                let request = |number: usize| {
                    let body = json!({"KeyId": families.keys[number], "Plaintext": plaintext});
                    about("Encrypt", region, account(number), &body)
                };
                let requests = keys.map(request).collect();
                let all = (regions.len() * CALLERS) as u32;
                let first = start + EVERY * (at * CALLERS + caller) as u32 / all;
                callers.spawn(call(connection, requests, first, stop.clone()));
            }
        }
        Ok(Self { stop, callers })
    }

    async fn stop(mut self) -> Result<Latency, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = load::no_latency();
        while let Some(latency) = self.callers.join_next().await {
            all += latency??;
        }
        Ok(all)
    }
}

/// Calls at set times. A call that its forerunner holds up has waited since its own time.
async fn call(
    mut connection: Connection,
    requests: Vec<Vec<u8>>,
    mut next: Instant,
    stop: Arc<AtomicBool>,
) -> Result<Latency, Failure> {
    let mut latency = load::no_latency();
    for request in requests.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let late = Instant::now() > next;
        sleep_until(next).await;
        let asked = if late { next } else { Instant::now() };
        connection.exchange(request).await?.good()?;
        load::note(&mut latency, asked.elapsed());
        next += EVERY;
    }
    Ok(latency)
}
