//! `keyrum domain-key status|rotate|abandon|destroy`: the versions of a running Region's domain key.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use keyrum_consensus::world::World;
use keyrum_types::{NodeId, Region};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::Failure;
use crate::admin::Admin;
use crate::cli::{DomainKeyPlace, KeyVersions};
use crate::run::{self, Nodes, RunFile};

/// How often a running change is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Why a command about the domain key did not do what it should.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the running cluster has no Region {region}; it has {have}")]
    NoSuchRegion { region: Region, have: String },
    #[error(
        "{have} have domain keys of their own; say which one with --region. Nothing was changed"
    )]
    WhichRegion { have: String },
    #[error("no node of {region} answers; `keyrum cluster status` shows them. Nothing was changed")]
    NobodyAnswers { region: Region },
    #[error(
        "{region}: {cause}; `keyrum domain-key status` shows what each version waits for. Nothing was changed"
    )]
    Refused { region: Region, cause: String },
    #[error(
        "{region}: callers may hold import tokens that only version {version} of the domain key opens, until {at} by the Region's clock. Nothing was changed; ask again then"
    )]
    TooEarly {
        region: Region,
        version: u32,
        at: String,
    },
    #[error("{region}: version {version} of the domain key {waits} after {} s. Nothing is lost, and it goes on by itself; `keyrum domain-key status` shows how far it is", waited.as_secs())]
    Late {
        region: Region,
        version: u32,
        waits: String,
        waited: Duration,
    },
}

/// A Region's domain key, as a node of it tells.
#[derive(Deserialize)]
struct Status {
    fingerprint: String,
    seals: u32,
    region_clock_ms: u64,
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
    fingerprint: String,
    stage: String,
    waits_for: BTreeSet<NodeId>,
    sealings: u64,
    here: bool,
    destroyable_at_ms: Option<u64>,
}

impl Status {
    fn version(&self, version: u32) -> Option<&Version> {
        self.versions.iter().find(|known| known.version == version)
    }

    /// How many secrets are sealed under versions that do not seal any more.
    fn left(&self) -> u64 {
        let old = self.versions.iter().filter(|v| v.version != self.seals);
        old.map(|version| version.sealings).sum()
    }
}

/// One Region of the running cluster, asked through whichever node answers.
struct Asked<'r> {
    world: World,
    region: &'r Region,
    nodes: &'r Nodes,
}

impl Asked<'_> {
    async fn ask(&self, change: Option<Value>) -> Result<Value, Trouble> {
        for node in &self.nodes.nodes {
            let Ok(admin) = Admin::of(&self.world, node) else {
                continue;
            };
            if admin.status().await.is_err() {
                continue;
            }
            let refused = |error: crate::admin::AdminError| {
                let mut cause = error.to_string();
                // What is said here anyway.
                if let Some(said) = cause.strip_suffix(". Nothing was changed") {
                    cause.truncate(said.len());
                }
                let region = self.region.clone();
                Trouble::Refused { region, cause }
            };
            return admin.domain_key(change).await.map_err(refused);
        }
        Err(Trouble::NobodyAnswers {
            region: self.region.clone(),
        })
    }

    async fn status(&self) -> Result<Status, Trouble> {
        let answer = self.ask(None).await?;
        serde_json::from_value(answer).map_err(|error| Trouble::Refused {
            region: self.region.clone(),
            cause: format!("the node answers something unknown: {error}"),
        })
    }

    /// Waits until no node that answers has a version any more; the nodes that do not answer.
    async fn taken_out(&self, version: u32, limit: Duration) -> Result<Vec<NodeId>, Trouble> {
        let deadline = Instant::now() + limit;
        loop {
            let (mut silent, mut have) = (Vec::new(), Vec::new());
            for node in &self.nodes.nodes {
                match self.status_of(node).await {
                    Some(status) => {
                        let here = status.version(version).is_some_and(|known| known.here);
                        have.extend(here.then_some(node.id));
                    }
                    None => silent.push(node.id),
                }
            }
            if have.is_empty() {
                return Ok(silent);
            }
            if Instant::now() > deadline {
                return Err(Trouble::Late {
                    region: self.region.clone(),
                    version,
                    waits: format!("is destroyed, and still in the files of nodes {have:?}"),
                    waited: limit,
                });
            }
            sleep(LOOK).await;
        }
    }

    async fn status_of(&self, node: &run::Node) -> Option<Status> {
        let admin = Admin::of(&self.world, node).ok()?;
        admin.status().await.ok()?;
        serde_json::from_value(admin.domain_key(None).await.ok()?).ok()
    }

    /// Waits until the domain key is as `done` wants it, and says on the way what it waits for.
    async fn wait(
        &self,
        version: u32,
        limit: Duration,
        done: impl Fn(&Status) -> bool,
    ) -> Result<Status, Trouble> {
        let deadline = Instant::now() + limit;
        let mut said = String::new();
        loop {
            // A leader may just be lost: what was begun goes on under the next.
            let waits = match self.status().await {
                Ok(status) if done(&status) => return Ok(status),
                Ok(status) => waits_for(&status, version),
                Err(error) => format!("cannot be asked for ({error})"),
            };
            if Instant::now() > deadline {
                return Err(Trouble::Late {
                    region: self.region.clone(),
                    version,
                    waits,
                    waited: limit,
                });
            }
            if waits != said {
                let region = self.region;
                run::remark(&format!("{region}: version {version} {waits}"));
                said = waits;
            }
            sleep(LOOK).await;
        }
    }
}

/// What is to happen next to a version.
fn waits_for(status: &Status, version: u32) -> String {
    let Some(known) = status.version(version) else {
        return "is not known".to_owned();
    };
    let nodes: Vec<_> = known.waits_for.iter().map(ToString::to_string).collect();
    let nodes = nodes.join(", ");
    match known.stage.as_str() {
        "announced" | "withdrawn" if nodes.is_empty() => "goes on in a moment".to_owned(),
        "announced" => format!("waits until it is on nodes {nodes}"),
        "withdrawn" => format!("waits until nodes {nodes} have forgotten the log of its time"),
        "active" => format!(
            "seals; {} secrets are sealed otherwise",
            rounded(status.left())
        ),
        stage => format!("is {stage}"),
    }
}

/// So that what is said while it shrinks is not said for each.
fn rounded(count: u64) -> String {
    match count {
        0..10 => count.to_string(),
        10..1000 => format!("about {}", count / 10 * 10),
        _ => format!("about {}", count / 1000 * 1000),
    }
}

fn time(ms: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

/// Carries out `keyrum domain-key ...` on a running cluster.
pub(crate) async fn run(verb: KeyVersions) -> Result<ExitCode, Failure> {
    let world = World::real();
    let place = match &verb {
        KeyVersions::Status { place, .. }
        | KeyVersions::Rotate { place, .. }
        | KeyVersions::Abandon { place, .. }
        | KeyVersions::Destroy { place, .. } => place,
    };
    let running = RunFile::find(&place.data)?;
    let regions = chosen(&running, place)?;
    let asked = |(region, nodes)| Asked {
        world: world.clone(),
        region,
        nodes,
    };
    let only = || match &regions[..] {
        [one] => Ok(asked(*one)),
        several => Err(Trouble::WhichRegion {
            have: names(several.iter().map(|(region, _)| *region)),
        }),
    };
    match &verb {
        KeyVersions::Status { json, .. } => {
            let mut all = serde_json::Map::new();
            for (region, nodes) in regions {
                let asked = asked((region, nodes));
                match json {
                    true => _ = all.insert(region.to_string(), asked.ask(None).await?),
                    false => run::print(&table(region, &asked.status().await?))?,
                }
            }
            if *json {
                run::print(&format!("{}\n", serde_json::to_string_pretty(&all)?))?;
            }
        }
        KeyVersions::Rotate { wait, .. } => {
            for (region, nodes) in regions {
                rotate(&asked((region, nodes)), *wait).await?;
            }
        }
        KeyVersions::Abandon { version, .. } => {
            let asked = only()?;
            let change = json!({ "do": "abandon", "version": version });
            asked.ask(Some(change)).await?;
            let region = asked.region;
            run::print(&format!(
                "{region}: version {version} of the domain key is not waited for any more; nothing \
                 was sealed under it\n"
            ))?;
        }
        KeyVersions::Destroy { version, wait, .. } => {
            let asked = only()?;
            let status = asked.status().await?;
            let known = status.version(*version);
            if let Some(at) = known.and_then(|known| known.destroyable_at_ms)
                && at > status.region_clock_ms
            {
                return Err(Trouble::TooEarly {
                    region: asked.region.clone(),
                    version: *version,
                    at: time(at),
                }
                .into());
            }
            // Asked for before, it goes on.
            if status
                .version(*version)
                .is_none_or(|v| v.stage != "withdrawn")
            {
                let change = json!({ "do": "destroy", "version": version });
                asked.ask(Some(change)).await?;
            }
            let gone = |status: &Status| {
                let known = status.version(*version);
                known.is_some_and(|known| known.stage == "destroyed")
            };
            asked.wait(*version, *wait, gone).await?;
            let silent = asked.taken_out(*version, *wait).await?;
            let region = asked.region;
            let mut text = format!(
                "{region}: version {version} of the domain key is destroyed. What only it could \
                 open is beyond recovery, except with a copy of its file: destroy backups that have \
                 it too\n"
            );
            if !silent.is_empty() {
                let silent: Vec<_> = silent.iter().map(ToString::to_string).collect();
                text += &format!(
                    "  nodes {} do not answer, and take it out of their files when they start\n",
                    silent.join(", ")
                );
            }
            run::print(&text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn rotate(asked: &Asked<'_>, wait: Duration) -> Result<(), Failure> {
    let region = asked.region;
    let made = asked.ask(Some(json!({ "do": "rotate" }))).await?;
    let version = made["version"].as_u64().and_then(|v| u32::try_from(v).ok());
    let version = version.ok_or("the node did not say which version it made")?;
    let done = |status: &Status| status.seals >= version && status.left() == 0;
    let status = asked.wait(version, wait, done).await?;
    let known = status.version(version);
    let (count, print) = known.map_or((0, ""), |known| (known.sealings, &known.fingerprint[..]));
    let mut text = format!(
        "{region}: version {version} of the domain key ({print}) seals, and all {count} secrets \
         are sealed under it\n"
    );
    let old = status.versions.iter().filter_map(|known| {
        let at = known.destroyable_at_ms?;
        Some((known.version, at))
    });
    for (old, at) in old {
        text += &format!(
            "  version {old} may be destroyed from {} on, by the Region's clock: callers may hold \
             import tokens until then\n",
            time(at)
        );
    }
    text += "  back up the domain key now: earlier backups do not have the new version\n";
    Ok(run::print(&text)?)
}

/// The Regions that are meant: the one that was named, or all.
fn chosen<'r>(
    running: &'r RunFile,
    place: &DomainKeyPlace,
) -> Result<Vec<(&'r Region, &'r Nodes)>, Trouble> {
    let all = running.regions.iter();
    let Some(region) = &place.region else {
        return Ok(all.collect());
    };
    let found: Vec<_> = all.filter(|(name, _)| *name == region).collect();
    match found.is_empty() {
        false => Ok(found),
        true => Err(Trouble::NoSuchRegion {
            region: region.clone(),
            have: names(running.regions.keys()),
        }),
    }
}

fn names<'r>(regions: impl Iterator<Item = &'r Region>) -> String {
    regions.map(Region::as_str).collect::<Vec<_>>().join(", ")
}

fn table(region: &Region, status: &Status) -> String {
    let mut text = format!(
        "{region}  domain key {}  Region's clock {}\n",
        status.fingerprint,
        time(status.region_clock_ms)
    );
    for known in &status.versions {
        let waits: Vec<_> = known.waits_for.iter().map(ToString::to_string).collect();
        let mut line = format!(
            "  version {:<3} {}  {:<9}  {} secrets",
            known.version, known.fingerprint, known.stage, known.sealings
        );
        if !waits.is_empty() {
            line += &format!("  waits for nodes {}", waits.join(", "));
        }
        let is_needed = matches!(&*known.stage, "active" | "retired" | "withdrawn");
        if is_needed && !known.here {
            line += "  NOT in the domain key file: what it sealed cannot be used; restore a backup \
                     that has it with `keyrum domain-key restore`";
        }
        if let Some(at) = known.destroyable_at_ms {
            line += &match (known.sealings, at <= status.region_clock_ms) {
                (0, true) => "  may be destroyed".to_owned(),
                (0, false) => format!("  may be destroyed from {} on", time(at)),
                _ => String::new(),
            };
        }
        text += &line;
        text.push('\n');
    }
    text
}
