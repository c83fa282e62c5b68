//! `keyrum log show` and `keyrum clock advance`: what an operator asks of a running cluster.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use keyrum_consensus::world::World;
use keyrum_types::{LogIndex, Region};
use serde_json::Value;

use crate::Failure;
use crate::admin::{Admin, AdminError};
use crate::cli::{ClockAdvance, LogShow};
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
    #[error("the clock of {region} was not moved: {cause}{already}")]
    NotMoved {
        region: Region,
        cause: AdminError,
        already: String,
    },
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

/// Moves every Region's clock.
pub(crate) async fn advance_clock(args: ClockAdvance) -> Result<ExitCode, Failure> {
    let running = RunFile::find(&args.data)?;
    let world = World::real();
    let by_ms = u64::try_from(args.by.as_millis()).unwrap_or(u64::MAX);
    let mut moved: Vec<&str> = Vec::new();
    for (region, nodes) in &running.regions {
        let done = advance_one(&world, region, nodes, by_ms).await?;
        let clock = done.map_err(|cause| Trouble::NotMoved {
            region: region.clone(),
            cause,
            already: match moved[..] {
                [] => String::new(),
                _ => format!(" (it was moved in {})", moved.join(", ")),
            },
        })?;
        moved.push(region.as_str());
        let keys = |count, done| match count {
            0 => String::new(),
            1 => format!(", 1 key {done}"),
            count => format!(", {count} keys {done}"),
        };
        run::print(&format!(
            "{region}: {}{}{}
",
            time(clock.region_clock_ms),
            keys(clock.keys_deleted, "deleted"),
            keys(clock.keys_rotated, "rotated"),
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the first node that answers at all: it passes the command on to its leader. Only one that
/// cannot be reached is passed over, since any other may have moved the clock.
async fn advance_one(
    world: &World,
    region: &Region,
    nodes: &Nodes,
    by_ms: u64,
) -> Result<Result<crate::admin::ClockMoved, AdminError>, Failure> {
    for node in &nodes.nodes {
        let admin = Admin::of(world, node)?;
        if admin.status().await.is_ok() {
            return Ok(admin.advance_clock(by_ms).await);
        }
    }
    Err(Trouble::NobodyAnswers {
        region: region.clone(),
    }
    .into())
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
