//! `keyrum log show`, `keyrum clock advance` and `keyrum clock level`: what an operator asks of a running cluster.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use keyrum_consensus::world::World;
use keyrum_types::{LogIndex, Region};
use serde_json::Value;

use crate::Failure;
use crate::admin::{Admin, ClockMoved};
use crate::cli::{ClockAdvance, ClockLevel, LogShow};
use crate::run::{self, Nodes, RunFile, UntilClosed};

/// Beyond every log: asks where a history begins and for nothing of it.
const BEYOND: LogIndex = i64::MAX as u64;

/// Why a command cannot be carried out.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the running cluster has no Region {region}; it has {have}")]
    NoSuchRegion { region: Region, have: String },
    #[error("no node of {region} answers; `keyrum cluster status` shows them")]
    NobodyAnswers { region: Region },
    #[error("{}", not_moved(failures, *others))]
    NotMoved {
        failures: Vec<(Region, String)>,
        /// Whether the clocks of all other Regions are where they were to be.
        others: bool,
    },
}

fn not_moved(failures: &[(Region, String)], others: bool) -> String {
    let line = |(region, cause): &(Region, String)| {
        format!("the clock of {region} was not moved: {cause}")
    };
    let mut text = failures.iter().map(line).collect::<Vec<_>>().join("\n");
    if others {
        text.push_str(
            "\nThe other Regions' clocks were moved. When the Region is back, `keyrum clock level` moves its clock to theirs",
        );
    }
    text
}

/// Prints a Region's history.
pub(crate) async fn show_log(args: LogShow) -> Result<ExitCode, Failure> {
    let running = RunFile::find(&args.data)?;
    let nodes = running
        .regions
        .get(&args.region)
        .ok_or_else(|| Trouble::NoSuchRegion {
            region: args.region.clone(),
            have: running
                .regions
                .keys()
                .map(Region::as_str)
                .collect::<Vec<_>>()
                .join(", "),
        })?;
    let (admin, begins) = longest_history(&World::real(), &args.region, nodes).await?;
    let key_id = args.key_id.map(|id| id.to_string());
    let mut out = io::BufWriter::new(UntilClosed::new(io::stdout().lock()));
    let (mut from, mut shown) = (0, 0_usize);
    loop {
        let page = admin.log(from, key_id.as_deref()).await?;
        for entry in &page.entries {
            if args.json {
                writeln!(out, "{entry}")?;
            } else {
                write!(out, "{}", describe(entry))?;
            }
            if out.get_ref().is_closed() {
                return Ok(ExitCode::SUCCESS);
            }
        }
        shown += page.entries.len();
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }
    out.flush()?;
    if let Some(id) = key_id.filter(|_| shown == 0) {
        run::remark(&format!("no entry tells of a key {id} in {}", args.region));
    }
    // Beside the entries, so that a program that reads those is not disturbed.
    match begins {
        0 => run::remark(&format!("{shown} entries; the history is whole")),
        _ => run::remark(&format!(
            "{shown} entries; the history begins at log entry {begins}, what was before is cut"
        )),
    }
    Ok(ExitCode::SUCCESS)
}

/// The node whose history reaches back furthest, and where it begins: one that caught up from a
/// snapshot has less than the others.
async fn longest_history(
    world: &World,
    region: &Region,
    nodes: &Nodes,
) -> Result<(Admin, LogIndex), Failure> {
    let mut best: Option<(Admin, LogIndex)> = None;
    for node in &nodes.nodes {
        let admin = Admin::of(world, node)?;
        if let Ok(page) = admin.log(BEYOND, None).await
            && best
                .as_ref()
                .is_none_or(|(_, begins)| page.begins < *begins)
        {
            best = Some((admin, page.begins));
        }
    }
    Ok(best.ok_or_else(|| Trouble::NobodyAnswers {
        region: region.clone(),
    })?)
}

/// One entry for people: a line, and one more for each event.
fn describe(entry: &Value) -> String {
    let at = time(entry["at_ms"].as_u64().unwrap_or(0));
    let by = entry["caller"]
        .as_str()
        .map_or_else(String::new, |arn| format!(" by {arn}"));
    let command = entry["command"].as_str().unwrap_or("?");
    let index = entry["index"].as_u64().unwrap_or(0);
    let mut text = format!("{index:>8}  {at}  {command}{by}\n");
    for event in entry["events"].as_array().into_iter().flatten() {
        let members = event.as_object().into_iter().flatten();
        let members = members.filter(|(name, value)| *name != "event" && !value.is_null());
        let mut members: Vec<_> = members.collect();
        // What the event is about comes first, the rest as it is.
        members.sort_by_key(|(name, _)| !["key", "alias"].contains(&name.as_str()));
        let members: Vec<_> = members
            .into_iter()
            .map(|(name, value)| format!("{}={}", plain_name(name), plain(name, value)))
            .collect();
        let name = event["event"].as_str().unwrap_or("?");
        text.push_str(&format!("{:>10}{name} {}\n", "", members.join(" ")));
    }
    text
}

fn plain_name(name: &str) -> &str {
    name.strip_suffix("_ms")
        .filter(|name| ["due", "now", "next"].contains(name))
        .unwrap_or(name)
}

fn plain(name: &str, value: &Value) -> String {
    match (name, value) {
        ("due_ms" | "now_ms" | "next_ms", Value::Number(ms)) => time(ms.as_u64().unwrap_or(0)),
        (_, Value::Object(key)) if key.contains_key("id") => {
            key["id"].as_str().unwrap_or("?").to_owned()
        }
        (_, Value::String(text)) if !text.is_empty() && !text.contains(char::is_whitespace) => {
            text.clone()
        }
        _ => value.to_string(),
    }
}

fn time(ms: u64) -> String {
    let end_of_9999 = Duration::from_secs(253_402_300_799);
    let since = Duration::from_millis(ms).min(end_of_9999);
    humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string()
}

/// Moves every Region's clock. One that cannot be moved now does not hold up the others.
pub(crate) async fn advance_clock(args: ClockAdvance) -> Result<ExitCode, Failure> {
    let running = RunFile::find(&args.data)?;
    let world = World::real();
    let by_ms = u64::try_from(args.by.as_millis()).unwrap_or(u64::MAX);
    let regions = running.regions.iter();
    move_clocks(
        &world,
        regions.map(|(region, nodes)| (region, nodes, by_ms)),
    )
    .await
}

/// Moves every Region's clock to where the one furthest ahead was moved by hand.
pub(crate) async fn level_clocks(args: ClockLevel) -> Result<ExitCode, Failure> {
    let running = RunFile::find(&args.data)?;
    let world = World::real();
    let mut offsets = Vec::new();
    for (region, nodes) in &running.regions {
        offsets.push((region, nodes, offset(&world, nodes).await?));
    }
    let answered = offsets.iter().filter_map(|(_, _, offset)| *offset);
    let furthest = answered.max().unwrap_or(0);
    let behind = offsets.into_iter().filter_map(|(region, nodes, offset)| {
        // One that does not answer is asked all the same, and told of then.
        let by_ms = furthest - offset.unwrap_or(0);
        (offset.is_none() || by_ms > 0).then_some((region, nodes, by_ms))
    });
    let behind: Vec<_> = behind.collect();
    if behind.is_empty() {
        run::print("no clock is behind\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    move_clocks(&world, behind.into_iter()).await
}

/// How far a Region's clock was moved by hand, as the node says that is furthest; `None` if none
/// answers.
async fn offset(world: &World, nodes: &Nodes) -> Result<Option<u64>, Failure> {
    let mut found = None;
    for node in &nodes.nodes {
        let status = Admin::of(world, node)?.status().await.ok();
        found = found.max(status.map(|status| status.clock_offset_ms));
    }
    Ok(found)
}

async fn move_clocks<'a>(
    world: &World,
    moves: impl Iterator<Item = (&'a Region, &'a Nodes, u64)>,
) -> Result<ExitCode, Failure> {
    let (mut failures, mut moved) = (Vec::new(), false);
    for (region, nodes, by_ms) in moves {
        let clock = match move_one(world, region, nodes, by_ms).await? {
            Ok(clock) => clock,
            Err(cause) => {
                failures.push((region.clone(), cause));
                continue;
            }
        };
        moved = true;
        let keys = |count, done| match count {
            0 => String::new(),
            1 => format!(", 1 key {done}"),
            count => format!(", {count} keys {done}"),
        };
        run::print(&format!(
            "{region}: {}{}{}\n",
            time(clock.region_clock_ms),
            keys(clock.keys_deleted, "deleted"),
            keys(clock.keys_rotated, "rotated"),
        ))?;
    }
    match failures.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Err(Trouble::NotMoved {
            failures,
            others: moved,
        }
        .into()),
    }
}

/// Asks the first node that answers at all: it passes the command on to its leader. Only one that
/// cannot be reached is passed over, since any other may have moved the clock.
async fn move_one(
    world: &World,
    region: &Region,
    nodes: &Nodes,
    by_ms: u64,
) -> Result<Result<ClockMoved, String>, Failure> {
    for node in &nodes.nodes {
        let admin = Admin::of(world, node)?;
        if admin.status().await.is_ok() {
            let moved = admin.advance_clock(by_ms).await;
            return Ok(moved.map_err(|error| error.to_string()));
        }
    }
    let region = region.clone();
    Ok(Err(Trouble::NobodyAnswers { region }.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Catches a history that people cannot read, or that hides what a command did.
    #[test]
    fn entries_are_readable() {
        let entry = json!({
            "index": 12,
            "at_ms": 1_700_000_000_123_u64,
            "caller": "arn:aws:iam::000000000000:root",
            "command": "ScheduleKeyDeletion",
            "events": [{
                "event": "KeyDeletionScheduled",
                "key": { "account": "000000000000", "id": "K" },
                "due_ms": 1_700_604_800_123_u64,
                "wait_days": 7,
            }],
        });
        assert_eq!(
            describe(&entry),
            "      12  2023-11-14T22:13:20.123Z  ScheduleKeyDeletion by arn:aws:iam::000000000000:root\n          \
             KeyDeletionScheduled key=K due=2023-11-21T22:13:20.123Z wait_days=7\n"
        );
    }
}
