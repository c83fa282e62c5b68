//! `keyrum fault ...`: faults by hand.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use keyrum_consensus::faults::{DELAY_MAX, Direction, Party};

use super::{NodeName, Place, Status};

/// What is done to a running cluster. A PARTY is a node, such as us-east-1/2, or a Region.
#[derive(Debug, Subcommand)]
pub(crate) enum Fault {
    /// Let nothing through, and close nothing: what is sent waits, and arrives once it is healed
    ///
    /// One node: from every other node. A Region: from all other Regions. Two: from each other.
    Cut(Cut),
    /// Let everything take longer, each way
    ///
    /// From about 200ms on, peers cannot make new connections in time, so a longer delay becomes a cut.
    Delay(Delay),
    /// Let segments get lost: TCP sends them again, so what follows comes at least 200ms later
    Lose(Lose),
    /// End a node's process at once, as a crash would
    Kill(Process),
    /// Freeze a node's process
    Pause(Process),
    /// Let a node's disk fail, or damage a file of one that is killed
    Error(DiskError),
    /// Lift one fault, or all: then what was killed is started and what was paused goes on
    Heal(Heal),
    /// Show what is in force and what it has done
    Status(Status),
}

/// Which connections.
#[derive(Debug, Args)]
pub(crate) struct Between {
    /// One or two, such as us-east-1/2 or eu-west-1
    #[arg(value_name = "PARTY", num_args = 1..=2, required = true)]
    pub(crate) parties: Vec<Party>,
    /// Only what the first party receives (in) or sends (out)
    #[arg(long, value_enum, default_value = "both")]
    pub(crate) direction: Way,
    /// The connections of clients in place of those of other nodes; the cluster's endpoint is a client
    #[arg(long)]
    pub(crate) clients: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    Both,
    In,
    Out,
}

impl From<Way> for Direction {
    fn from(way: Way) -> Self {
        match way {
            Way::Both => Self::Both,
            Way::In => Self::In,
            Way::Out => Self::Out,
        }
    }
}

/// How a Region's nodes come apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// The first half from the rest, by their ids; the first is larger by one if need be
    Halves,
    /// The leader, with as many as still are no majority, from the rest
    Minority,
    /// Two halves that only the node in the middle reaches
    Bridge,
    /// Each node reaches its two neighbours only; four nodes at least
    Ring,
}

/// Which cluster, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Lasting {
    /// Lift it by itself after this long, such as 30s, whatever becomes of this command
    #[arg(long = "for", value_parser = millis, value_name = "DURATION")]
    pub(crate) lasts: Option<Duration>,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Cut {
    #[command(flatten)]
    pub(crate) between: Between,
    /// Cut a Region's nodes from each other in this shape
    #[arg(long, value_enum, conflicts_with_all = ["clients", "direction"])]
    pub(crate) shape: Option<Shape>,
    #[command(flatten)]
    pub(crate) lasting: Lasting,
}

#[derive(Debug, Args)]
pub(crate) struct Delay {
    /// How much longer, such as 50ms; at most 5m
    #[arg(value_parser = short, value_name = "DURATION")]
    pub(crate) by: Duration,
    #[command(flatten)]
    pub(crate) between: Between,
    /// Up to how much more, by chance
    #[arg(long, value_parser = short, value_name = "DURATION")]
    pub(crate) jitter: Option<Duration>,
    #[command(flatten)]
    pub(crate) lasting: Lasting,
}

#[derive(Debug, Args)]
pub(crate) struct Lose {
    /// Of how many segments, such as 5% or 0.05
    #[arg(value_parser = share, value_name = "SHARE")]
    pub(crate) share: f64,
    #[command(flatten)]
    pub(crate) between: Between,
    #[command(flatten)]
    pub(crate) lasting: Lasting,
}

#[derive(Debug, Args)]
pub(crate) struct Process {
    /// Such as us-east-1/2
    #[arg(value_name = "REGION/ID")]
    pub(crate) node: NodeName,
    #[command(flatten)]
    pub(crate) lasting: Lasting,
}

/// How a disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiskTrouble {
    Sync,
    Full,
    Slow(Duration),
    Read,
}

#[derive(Debug, Args)]
pub(crate) struct DiskError {
    /// Such as us-east-1/2
    #[arg(value_name = "REGION/ID")]
    pub(crate) node: NodeName,
    /// sync: syncs fail. full: no room for more. slow=DURATION: each sync takes longer. read: reads fail
    #[arg(value_parser = trouble, value_name = "sync|full|slow=DURATION|read",
          required_unless_present_any = ["flip", "tear"], conflicts_with_all = ["flip", "tear"])]
    pub(crate) trouble: Option<DiskTrouble>,
    /// Let so many operations of that kind succeed first
    #[arg(long, default_value_t = 0, value_name = "N", requires = "trouble")]
    pub(crate) after: u64,
    /// Turn a bit over in a file of a killed node: journal, mark, rows, snapshot, or a path below its
    /// store folder. Heal does not undo it
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "journal", conflicts_with_all = ["tear", "lasts"])]
    pub(crate) flip: Option<String>,
    /// Take away the last bytes that were written to it, as a torn write does
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "journal", conflicts_with = "lasts")]
    pub(crate) tear: Option<String>,
    #[command(flatten)]
    pub(crate) lasting: Lasting,
}

#[derive(Debug, Args)]
pub(crate) struct Heal {
    /// Only this fault, by its number; killed and paused nodes stay so
    #[arg(value_name = "NUMBER")]
    pub(crate) number: Option<u64>,
    #[command(flatten)]
    pub(crate) place: Place,
}

fn millis(text: &str) -> Result<Duration, String> {
    let by = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if by.subsec_nanos() % 1_000_000 != 0 || by.is_zero() {
        return Err("it is a number of whole milliseconds, at least one".to_owned());
    }
    Ok(by)
}

fn short(text: &str) -> Result<Duration, String> {
    let by = millis(text)?;
    if by > DELAY_MAX {
        return Err(format!("it is at most {} s", DELAY_MAX.as_secs()));
    }
    Ok(by)
}

fn share(text: &str) -> Result<f64, String> {
    let parsed = match text.strip_suffix('%') {
        Some(percent) => percent.parse().map(|percent: f64| percent / 100.0),
        None => text.parse(),
    };
    match parsed {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("it is above 0 and at most 100%, such as 5% or 0.05".to_owned()),
    }
}

fn trouble(text: &str) -> Result<DiskTrouble, String> {
    match text.split_once('=') {
        Some(("slow", by)) => short(by).map(DiskTrouble::Slow),
        None if text == "sync" => Ok(DiskTrouble::Sync),
        None if text == "full" => Ok(DiskTrouble::Full),
        None if text == "read" => Ok(DiskTrouble::Read),
        _ => Err("it is one of sync, full, slow=DURATION (such as slow=200ms) and read".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Verb};

    fn parse(line: &str) -> Result<Fault, String> {
        match Cli::try_parse_from(line.split(' ')).map(|cli| cli.verb) {
            Ok(Verb::Fault(fault)) => Ok(fault),
            Ok(_) => Err("another verb".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Catches a command of the documentation that is refused, and one that means nothing and is not.
    #[test]
    fn the_commands_of_the_documentation_are_taken() {
        for good in [
            "cut us-east-1/1",
            "cut us-east-1/1 us-east-1/2 --direction in --for 30s",
            "cut us-east-1 eu-west-1",
            "cut us-east-1 --shape minority",
            "cut us-east-1/1 --clients",
            "delay 50ms us-east-1/1 --jitter 10ms",
            "lose 5% us-east-1/1",
            "lose 0.05 us-east-1/1",
            "kill us-east-1/1 --for 10s",
            "pause us-east-1/1",
            "error us-east-1/1 sync --after 3",
            "error us-east-1/1 slow=200ms",
            "error us-east-1/1 --flip",
            "error us-east-1/1 --flip=rows",
            "heal",
            "heal 3",
            "status --json",
        ] {
            parse(&format!("keyrum fault {good}")).unwrap();
        }
        for bad in [
            "cut",
            "cut nowhere",
            "cut us-east-1/0",
            "cut us-east-1/1 us-east-1/2 us-east-1/3",
            "cut us-east-1 --shape minority --clients",
            "cut us-east-1/1 --for 0s",
            "delay us-east-1/1",
            "delay 10m us-east-1/1",
            "lose 0 us-east-1/1",
            "lose 101% us-east-1/1",
            "error us-east-1/1",
            "error us-east-1/1 slow",
            "error us-east-1/1 sync --flip",
            "error us-east-1/1 --flip --tear",
        ] {
            assert!(parse(&format!("keyrum fault {bad}")).is_err(), "{bad}");
        }
        let Ok(Fault::Lose(lose)) = parse("keyrum fault lose 5% us-east-1/1") else {
            panic!()
        };
        assert!((lose.share - 0.05).abs() < 1e-9);
    }
}
