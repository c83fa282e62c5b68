//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use keyrum_types::{AccountId, KeyId, NodeId, Region};

use crate::topology::{DEFAULT_PORT, short_wait};

mod fault;
mod key_files;
mod lab;

pub(crate) use fault::{Between, DiskError, DiskTrouble, Fault, Process as FaultProcess, Shape};
pub(crate) use key_files::{
    KeyFiles, KeyFilesBackup, KeyFilesLock, KeyFilesRestore, KeyFilesUnlock, LockWith, Opener,
    ShareCounts,
};
pub(crate) use lab::{Lab, LabOutputs, LabReport, LabRun, LabSim};

/// The data folder unless one is named.
pub(crate) const DEFAULT_DATA: &str = ".keyrum";

/// A key management service with the AWS KMS API, on Raft.
#[derive(Debug, Parser)]
#[command(
    name = "keyrum",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run every Region and node in one process
    Dev(Dev),
    /// Run one node in one process
    Node(Node),
    /// Run and handle a local cluster, one process per node
    #[command(subcommand)]
    Cluster(Cluster),
    /// Read the event history
    #[command(subcommand)]
    Log(Log),
    /// Move the Regions' clocks
    #[command(subcommand)]
    Clock(Clock),
    /// Declare and change accounts, users, roles and access keys
    #[command(subcommand)]
    Identity(Identity),
    /// Handle the domain keys, which seal everything secret
    #[command(subcommand)]
    DomainKey(DomainKey),
    /// Run experiments with faults
    #[command(subcommand)]
    Lab(Lab),
    /// Break a running test cluster by hand: links, disks, processes
    #[command(subcommand)]
    Fault(Fault),
}

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Regions, the first of which takes unsigned requests [default: those of the data folder; in an
    /// empty one us-east-1,eu-west-1]
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    pub(crate) regions: Vec<Region>,
    /// Nodes in each Region
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    pub(crate) nodes: u64,
    /// Port of the endpoint; 0 takes a free one
    #[arg(long, default_value_t = DEFAULT_PORT)]
    pub(crate) port: u16,
    /// Address of the endpoint
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) bind: IpAddr,
    /// Data folder
    #[arg(long, default_value = DEFAULT_DATA, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Keep the data in a temporary folder that is removed at the end
    #[arg(long, conflicts_with = "data")]
    pub(crate) ephemeral: bool,
    /// Account of every caller whose access key id is not itself 12 digits
    #[arg(long, default_value = "000000000000", value_name = "12 DIGITS")]
    pub(crate) account: AccountId,
    /// Let reads lag behind by up to this long, 0 to 5m, on each node by another time, as the real
    /// service warns that they may. A call with the header `x-keyrum-consistency: linearizable`
    /// does not lag
    #[arg(long, default_value = "0s", value_parser = short_wait, value_name = "DURATION")]
    pub(crate) propagation_delay: Duration,
    /// Keep every Creating and Updating for at least this long, 0 to 5m
    #[arg(long, default_value = "0s", value_parser = short_wait, value_name = "DURATION")]
    pub(crate) hold_transient: Duration,
    /// Believe documents of attested callers (Recipient) that lead to a certificate in this PEM file,
    /// in place of AWS's root of Nitro enclaves
    #[arg(long, value_name = "FILE")]
    pub(crate) attestation_root: Option<PathBuf>,
    /// Speak HTTPS with the certificate in this PEM file, followed by those it leads through. Both
    /// files are read again when they change
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of the certificate, in a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Make the keys and aliases that this YAML file describes, with the material it gives, unless
    /// they are there already; Keyrum's own form, or local-kms'
    #[arg(long, value_name = "FILE")]
    pub(crate) seed: Option<PathBuf>,
    /// Declare the accounts, users, roles and access keys of this TOML file, unless they are there
    /// already (cluster-config/identities.toml explains it). Their signatures are checked; other
    /// access keys are taken as before
    #[arg(long, value_name = "FILE")]
    pub(crate) identities: Option<PathBuf>,
    /// Let accounts make only as many calls in a second as the real service does by default, or, with
    /// a factor such as 0.1, so many times that
    #[arg(long, value_name = "FACTOR", num_args = 0..=1, require_equals = true,
          default_missing_value = "1", value_parser = factor)]
    pub(crate) request_quotas: Option<f64>,
    /// Keep a record of every call in this folder, in the form of CloudTrail's: one file for each node,
    /// a line of JSON for each record
    #[arg(long, value_name = "DIR")]
    pub(crate) audit: Option<PathBuf>,
    /// Refuse calls while their records cannot be written
    #[arg(long, requires = "audit")]
    pub(crate) audit_required: bool,
    #[command(flatten)]
    pub(crate) opener: Opener,
    /// Write one line of JSON here once every Region has a leader
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Node {
    /// Topology file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The node's Region
    #[arg(long, value_name = "NAME")]
    pub(crate) region: Region,
    /// The node's id
    #[arg(long, value_name = "ID")]
    pub(crate) node: NodeId,
    /// Data folder; else the topology file's, else .keyrum
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) opener: Opener,
    /// Read what opens the domain key from standard input, up to an empty line, and stop when that
    /// closes: how `cluster up` takes its nodes along when it dies
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Start every node and the endpoint, and stay in the foreground
    Up(Up),
    /// Show every node: process, role, term, log, digest
    Status(Status),
    /// Stop a running `up` from another terminal
    Stop(Place),
    /// End a node's process at once, as a crash would
    Kill(OneNode),
    /// Start a node's process again, ending a running one first
    Restart(OneNode),
    /// Freeze a node's process
    Pause(OneNode),
    /// Let a frozen process go on
    Resume(OneNode),
    /// Start a new node and make it a voter once it has caught up
    Add(OneNode),
    /// Take a node out of its group and stop it
    Remove(OneNode),
    /// Have a new Region join the running cluster
    ///
    /// Makes its keys and nodes, founds its group, and has every node of the other Regions know it
    /// without a restart: requests signed for it reach it, and keys can be replicated there. The
    /// topology file need not name it afterwards; its nodes take the file's settings.
    AddRegion(AddRegion),
    /// Show and replace the certificates by which nodes know each other
    #[command(subcommand)]
    Certs(Certs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Certs {
    /// Show the certificates that lie there, and which ones running nodes use
    Status(Status),
    /// Give nodes new keys and certificates, without a stop
    ///
    /// Running nodes take theirs up and make their links anew, one node after the other; the command
    /// ends when no former certificate is in use. A node without a process takes its own up when it
    /// starts. Whatever stops the command, the same command again finishes what it began.
    Rotate(RotateCerts),
}

#[derive(Debug, Args)]
pub(crate) struct RotateCerts {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Such as us-east-1/2; without any, all nodes
    #[arg(value_name = "REGION/ID", conflicts_with = "authority")]
    pub(crate) nodes: Vec<NodeName>,
    /// Replace the authority, too: what it has signed is worth nothing at the end
    #[arg(long)]
    pub(crate) authority: bool,
    /// For how many days the new certificates of nodes are valid; without it, they are until 4096
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=36_500))]
    pub(crate) days: Option<u64>,
}

/// Which cluster.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Topology file; needed only to find the data folder it names
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Data folder; else the topology file's, else .keyrum
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Topology file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Data folder; else the topology file's, else .keyrum
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) opener: Opener,
    /// Write one line of JSON here once every Region has a leader and every node listens
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// For `lab run`: start nodes with this library, which takes their power away
    #[arg(long, value_name = "LIBRARY", hide = true)]
    pub(crate) power_loss: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OneNode {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Such as us-east-1/2
    #[arg(value_name = "REGION/ID")]
    pub(crate) node: NodeName,
}

#[derive(Debug, Args)]
pub(crate) struct AddRegion {
    #[command(flatten)]
    pub(crate) place: Place,
    /// The new Region, such as ap-south-1
    #[arg(value_name = "NAME")]
    pub(crate) name: Region,
    /// Its nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    pub(crate) nodes: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// Show a Region's events, oldest first, and where the history begins
    Show(LogShow),
}

#[derive(Debug, Args)]
pub(crate) struct LogShow {
    /// Whose events
    #[arg(long, value_name = "NAME")]
    pub(crate) region: Region,
    /// Only the events of this key
    #[arg(long, value_name = "ID")]
    pub(crate) key_id: Option<KeyId>,
    /// Data folder of the running cluster
    #[arg(long, default_value = DEFAULT_DATA, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Print one JSON object per log entry
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Clock {
    /// Move the clock of every Region ahead, for good; test clusters only
    ///
    /// Of a Region that does not answer or has no quorum, the clock stays behind, and the command
    /// says so and fails. `keyrum clock level` moves it once the Region is back.
    Advance(ClockAdvance),
    /// Move the clocks that stayed behind to the one furthest ahead; test clusters only
    ///
    /// Needed after `keyrum clock advance` while a Region was down. What was due there in the time
    /// that is skipped happens then.
    Level(ClockLevel),
}

#[derive(Debug, Args)]
pub(crate) struct ClockAdvance {
    /// How far, such as 8d, 90s, 500ms or 1h30m
    #[arg(value_parser = whole_millis, value_name = "DURATION")]
    pub(crate) by: Duration,
    /// Data folder of the running cluster
    #[arg(long, default_value = DEFAULT_DATA, value_name = "DIR")]
    pub(crate) data: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ClockLevel {
    /// Data folder of the running cluster
    #[arg(long, default_value = DEFAULT_DATA, value_name = "DIR")]
    pub(crate) data: PathBuf,
}

/// Which cluster's identities, and how they are shown.
#[derive(Debug, Args)]
pub(crate) struct IdentityPlace {
    /// Data folder of the running cluster
    #[arg(long, default_value = DEFAULT_DATA, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A NAME is 111122223333, 111122223333:user/ada, 111122223333:role/ops, or an ARN.
#[derive(Debug, Subcommand)]
pub(crate) enum Identity {
    /// List accounts, users, roles and the ids of their access keys
    List {
        /// Only this account
        #[arg(long, value_name = "12 DIGITS")]
        account: Option<AccountId>,
        #[command(flatten)]
        place: IdentityPlace,
    },
    /// Show one with its policies, as JSON
    Show {
        /// An account, user or role
        name: String,
        #[command(flatten)]
        place: IdentityPlace,
    },
    /// Make what a TOML file describes, or replace it; what the file does not describe stays
    Apply {
        /// As for `--identities`
        file: PathBuf,
        #[command(flatten)]
        place: IdentityPlace,
    },
    /// Delete a user, a role, or an account without any
    ///
    /// Its access keys and sessions are worth nothing from then on. One made later under the same
    /// name is another: what named this one does not name that.
    Delete {
        /// An account, user or role
        name: String,
        #[command(flatten)]
        place: IdentityPlace,
    },
    /// Make an access key for a user, or for an account's root, and show its secret this once
    CreateAccessKey {
        /// An account or user
        name: String,
        #[command(flatten)]
        place: IdentityPlace,
    },
    /// Let a disabled access key be used again
    EnableAccessKey {
        /// Such as AKIA...
        id: String,
        #[command(flatten)]
        place: IdentityPlace,
    },
    /// Stop an access key from being used
    DisableAccessKey {
        /// Such as AKIA...
        id: String,
        #[command(flatten)]
        place: IdentityPlace,
    },
    /// Delete an access key
    DeleteAccessKey {
        /// Such as AKIA...
        id: String,
        #[command(flatten)]
        place: IdentityPlace,
    },
    /// Give a user or role a policy, or replace the one of that name
    PutPolicy {
        /// A user or role
        name: String,
        /// What the policy is called
        policy: String,
        /// Its JSON
        file: PathBuf,
        #[command(flatten)]
        place: IdentityPlace,
    },
    /// Take a policy away from a user or role
    DeletePolicy {
        /// A user or role
        name: String,
        /// What the policy is called
        policy: String,
        #[command(flatten)]
        place: IdentityPlace,
    },
}

/// Which Region's domain key.
#[derive(Debug, Args)]
pub(crate) struct DomainKeyPlace {
    /// Data folder of the running cluster
    #[arg(long, default_value = DEFAULT_DATA, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Which Region's [default: all; `abandon` and `destroy` act on one, which is the default where
    /// there is no other]
    #[arg(long, value_name = "NAME")]
    pub(crate) region: Option<Region>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyVersions {
    /// Show the versions, and what each waits for
    Status {
        #[command(flatten)]
        place: DomainKeyPlace,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a new version, and have everything sealed under it
    ///
    /// It seals once every node has it on its disk. What was sealed before is sealed anew in the
    /// background; the old version stays, to open what callers hold of its time, until it is
    /// destroyed.
    Rotate {
        #[command(flatten)]
        place: DomainKeyPlace,
        /// How long to wait for the end; it goes on without
        #[arg(long, default_value = "60s", value_parser = humantime::parse_duration, value_name = "DURATION")]
        wait: Duration,
    },
    /// Take a version back that does not seal yet
    Abandon {
        /// Which version
        version: u32,
        #[command(flatten)]
        place: DomainKeyPlace,
    },
    /// Destroy a version that nothing needs any more
    ///
    /// Once every node has forgotten the log of its time, each takes it from its file: whatever was
    /// deleted before is beyond recovery then, wherever copies of disks may be.
    Destroy {
        /// Which version
        version: u32,
        #[command(flatten)]
        place: DomainKeyPlace,
        /// How long to wait for the end; it goes on without
        #[arg(long, default_value = "60s", value_parser = humantime::parse_duration, value_name = "DURATION")]
        wait: Duration,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DomainKey {
    #[command(flatten)]
    Versions(KeyVersions),
    #[command(flatten)]
    Files(KeyFiles),
}

/// A node as the command line names it: `REGION/ID`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeName {
    pub(crate) region: Region,
    pub(crate) id: NodeId,
}

impl std::fmt::Display for NodeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.region, self.id)
    }
}

/// The text does not name a node.
#[derive(Debug, Clone, thiserror::Error)]
#[error("a node is named REGION/ID, such as us-east-1/2")]
pub(crate) struct InvalidNodeName;

impl FromStr for NodeName {
    type Err = InvalidNodeName;

    fn from_str(text: &str) -> Result<Self, InvalidNodeName> {
        let (region, id) = text.split_once('/').ok_or(InvalidNodeName)?;
        let region = region.parse().map_err(|_| InvalidNodeName)?;
        match id.parse() {
            Ok(id) if id >= 1 => Ok(Self { region, id }),
            _ => Err(InvalidNodeName),
        }
    }
}

fn whole_millis(text: &str) -> Result<Duration, String> {
    let by = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if by.subsec_nanos() % 1_000_000 != 0 || by.is_zero() {
        return Err("a clock moves by whole milliseconds, at least one".to_owned());
    }
    Ok(by)
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor > 0.0 && factor.is_finite() => Ok(factor),
        _ => Err("a factor is a number greater than 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Verb, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.verb)
    }

    /// Catches flags that contradict each other in a way only a debug build would meet.
    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// Catches a default that differs from what README and `--help` promise.
    #[test]
    fn dev_needs_no_flags() {
        let Ok(Verb::Dev(dev)) = parse("keyrum dev") else {
            panic!()
        };
        assert_eq!(dev.regions, []);
        assert_eq!((dev.nodes, dev.port), (3, 4599));
        assert_eq!(dev.data, PathBuf::from(".keyrum"));
        let Ok(Verb::Dev(dev)) = parse("keyrum dev --ephemeral --port 0") else {
            panic!()
        };
        assert!(dev.ephemeral);
        assert_eq!(dev.propagation_delay + dev.hold_transient, Duration::ZERO);
        let waits = "--propagation-delay 5m --hold-transient 1500ms";
        let Ok(Verb::Dev(dev)) = parse(&format!("keyrum dev {waits}")) else {
            panic!()
        };
        let waits = [dev.propagation_delay, dev.hold_transient];
        assert_eq!(waits.map(|wait| wait.as_millis()), [300_000, 1_500]);
        assert!(parse("keyrum dev --propagation-delay 301s").is_err());
        assert!(parse("keyrum dev --hold-transient 2").is_err());
        assert!(parse("keyrum dev --ephemeral --data x").is_err());
        assert!(parse("keyrum dev --regions nowhere").is_err());
    }

    /// Catches durations people type being refused, or read as something else.
    #[test]
    fn durations_are_what_people_type() {
        for (text, ms) in [
            ("8d", 691_200_000),
            ("90s", 90_000),
            ("500ms", 500),
            ("1h30m", 5_400_000),
        ] {
            let Ok(Verb::Clock(Clock::Advance(advance))) =
                parse(&format!("keyrum clock advance {text}"))
            else {
                panic!("{text}")
            };
            assert_eq!(advance.by.as_millis(), ms, "{text}");
        }
        for bad in ["8", "-8d", "0s", "10us", "soon"] {
            assert!(
                parse(&format!("keyrum clock advance {bad}")).is_err(),
                "{bad}"
            );
        }
    }

    /// Catches a simulation of no length at all, which would pass, and one of other Regions than
    /// are asked for.
    #[test]
    fn a_simulation_has_a_length() {
        for bad in ["-1", "0", "-0", "inf", "-inf", "nan", "1e9", "x", ""] {
            let parsed = parse(&format!("keyrum lab sim --seed 1 --minutes={bad}"));
            let words = parsed.unwrap_err().to_string();
            assert!(words.contains("--minutes"), "{bad}: {words}");
        }
        for good in ["0.25", "1", "90"] {
            assert!(parse(&format!("keyrum lab sim --seed 1 --minutes {good}")).is_ok());
        }
        for (what, fits) in [
            ("--regions 0", false),
            ("--regions 2", true),
            ("--regions 3", true),
            ("--regions 4", false),
            ("--nodes 0", false),
            ("--nodes 5", true),
            ("--nodes 6", false),
            ("--scenario x", true),
            ("--scenario x --nodes 5", false),
            ("--markdown", false),
            ("--seeds 2 --markdown", true),
        ] {
            let parsed = parse(&format!("keyrum lab sim --seed 1 {what}"));
            assert_eq!(parsed.is_ok(), fits, "{what}");
        }
    }

    /// Catches a node's name that would act on another node.
    #[test]
    fn node_names_have_one_form() {
        let name: NodeName = "eu-west-1/12".parse().unwrap();
        assert_eq!((name.region.as_str(), name.id), ("eu-west-1", 12));
        assert_eq!(name.to_string(), "eu-west-1/12");
        for bad in ["eu-west-1", "eu-west-1/0", "eu-west-1/x", "/1", "x/1"] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }
}
