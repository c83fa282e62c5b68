//! An experiment as data: what clients called and saw, what went wrong meanwhile, what the nodes
//! did, and what the checkers say of it.
//!
//! Simulated runs and runs on processes make the same. Checkers read it, the report draws it, and
//! its JSON is what `--history` writes. Times are microseconds since the run began.

use std::borrow::Cow;
use std::fmt;

use keyrum_types::NodeId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checks::Finding;

/// An experiment that is over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    /// What it is about, in a line.
    pub title: String,
    /// The command that runs it again.
    pub replay: String,
    /// Whether time, network and disks were simulated; else processes ran on a machine.
    pub simulated: bool,
    /// Its Regions with the nodes that each began with.
    pub regions: Vec<RegionOfNodes>,
    /// Names of the clients; a call names its client by place in this list.
    pub clients: Vec<String>,
    /// Every call, in the order in which they began; a call's place in this list is its number.
    pub calls: Vec<Call>,
    /// What went wrong, in the order in which it began.
    pub faults: Vec<FaultWindow>,
    /// Whom nodes took for their leaders, in order of time.
    pub leaders: Vec<LeaderSeen>,
    /// What became of the members of families, in order of time.
    pub members: Vec<MemberSeen>,
    /// The logs of Regions with families on processes, which nobody sees at one instant; empty if
    /// they were not read.
    #[serde(default)]
    pub logs: Vec<RegionLog>,
    /// What the checkers say.
    pub judgements: Vec<Judgement>,
    /// When the last fault was lifted.
    pub faults_until_us: u64,
    /// When all groups had healed after that.
    pub healed_at_us: Option<u64>,
    /// When the run was over.
    pub ended_us: u64,
}

/// A Region and the nodes it began with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionOfNodes {
    /// Such as `us-east-1`.
    pub name: String,
    /// In ascending order.
    pub nodes: Vec<NodeId>,
}

/// A call of the KMS API.
///
/// Secrets do not stand in it: members that hold plaintext, material or tokens are replaced by a
/// fingerprint under a key of the run, which is equal where the bytes were.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Place in [`Experiment::clients`].
    pub client: usize,
    /// When its client sent it.
    pub start_us: u64,
    /// When its client knew the outcome, or gave up; `None` if the run ended first.
    pub end_us: Option<u64>,
    /// The Region that it was made in.
    pub region: String,
    /// The node that it was sent to, if its client chose one.
    pub node: Option<NodeId>,
    /// Such as `CreateKey`.
    pub operation: String,
    /// The account that it was made as, if not the one that unsigned callers have.
    #[serde(default)]
    pub caller: Option<String>,
    /// How it reads: `linearizable`, `lease`, `local` or `eventual`; the node's own way if `None`.
    pub reads: Option<Cow<'static, str>>,
    /// What it asked for.
    pub input: Value,
    /// How it ended for its client.
    pub outcome: Outcome,
}

/// How a call ended for its client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was done; the answer.
    Done(Value),
    /// The service refuses it: it was not done and will not be.
    Refused {
        /// The error's code, such as `NotFoundException`.
        error: String,
        /// Its message.
        message: String,
    },
    /// It was not done and will not be, for another reason: nobody was reached who could do it.
    NotDone(String),
    /// Nobody knows: it may have been done, or be done later still.
    Unknown(String),
}

/// A fault from its beginning to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultWindow {
    /// The name under which faults of its kind are counted, such as `crash`.
    pub kind: Cow<'static, str>,
    /// What it was, for a reader.
    pub what: String,
    /// The Region that it hit; several or all of them if `None`.
    pub region: Option<String>,
    /// The nodes of that Region that it hit; all of them if empty.
    pub nodes: Vec<NodeId>,
    /// When it began.
    pub from_us: u64,
    /// When it was lifted; at the end of the run if `None`.
    pub until_us: Option<u64>,
    /// How often it took effect: messages that it lost or held back, calls on the disk that it failed,
    /// processes that it ended; `None` if that cannot be counted.
    pub effects: Option<u64>,
}

/// Whom a node takes for its group's leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderSeen {
    /// From then on.
    pub at_us: u64,
    /// The node's Region.
    pub region: String,
    /// The node.
    pub node: NodeId,
    /// Its term.
    pub term: u64,
    /// Nobody if `None`: also while the node is down.
    pub leader: Option<NodeId>,
}

/// What a member of a family became, as its own Region's log has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberSeen {
    /// From then on.
    pub at_us: u64,
    /// The family's key id.
    pub key: String,
    /// The member's Region.
    pub region: String,
    /// The key's state as DescribeKey names it; `None` once the member is gone.
    pub state: Option<Cow<'static, str>>,
    /// Whether it is the family's primary.
    pub primary: bool,
}

/// What a Region's log says of primaries, and of messages between Regions, which order the logs of
/// several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionLog {
    /// Whose.
    pub region: String,
    /// The first entry that was read; 1 for a whole log.
    pub begins: u64,
    /// In the log's order.
    pub steps: Vec<LogStep>,
}

/// Something in a Region's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStep {
    /// The log entry.
    pub index: u64,
    /// What it did.
    pub what: Logged,
}

/// What a step in a Region's log does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Logged {
    /// The Region's member of the family with this key id is its primary from here on.
    Primary(String),
    /// It is not, or is no more.
    NotPrimary(String),
    /// A message goes to a Region. Messages to one Region are numbered from 1, in order.
    Sent(String),
    /// A Region's message is taken.
    Taken {
        /// Whose.
        from: String,
        /// Its number.
        number: u64,
    },
}

/// What a checker says of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The checker's name, such as `linearizable`.
    pub checker: Cow<'static, str>,
    /// What it comes to.
    pub holds: Holds,
    /// What it rests on, in a line: how much was looked at, or why nothing can be said.
    pub about: String,
    /// What must not be.
    pub findings: Vec<Violation>,
}

/// Whether a checker's property holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holds {
    /// It does, in all that was seen.
    True,
    /// It does not.
    False,
    /// It cannot be told: too much is unknown, or the search would take too long.
    Unknown,
}

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::True => "true",
            Self::False => "false",
            Self::Unknown => "unknown",
        })
    }
}

/// Something that must not be, with the calls that show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// What is wrong.
    pub finding: Finding,
    /// The smallest part of the history that shows it: numbers of calls, in ascending order; empty if
    /// no call shows it.
    pub calls: Vec<usize>,
}
