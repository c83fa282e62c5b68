//! Checkers: each takes an [`Experiment`] and says whether one property holds in it.
//!
//! A verdict is true, false, or unknown. An unknown outcome counts as one: such a call may have been
//! done, may be done later, or never. Nothing here does any I/O.
//!
//! Judgements need no luck: the same experiment gets the same ones. Where a search would take too
//! long, it stops after a number of steps, and the verdict is unknown.

mod authorization_order;
mod cut;
mod decryptable;
mod exactly_once;
mod exercised;
mod existence;
mod expected;
pub mod export;
mod linear;
mod lists;
mod lost_updates;
mod model;
mod one_primary;
mod policy;
mod search;
mod session;
mod shrink;
mod spec;
mod stale;
#[cfg(test)]
mod tests;
mod usable;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

pub use expected::judge;
use model::Object;
use search::{Entry, Found};
use spec::Spec;

use crate::checks::Finding;
use crate::experiment::{Experiment, Holds, Judgement, Violation};

/// A checker.
#[derive(Debug, Clone, Copy)]
pub struct Checker {
    /// What scenarios call it.
    pub name: &'static str,
    /// What it says, in a line.
    pub about: &'static str,
    /// Whether Keyrum promises that it is true, whatever happens; the others show what some modes of
    /// reading give up.
    pub promised: bool,
    judge: fn(&Experiment) -> Judgement,
}

impl Checker {
    /// Judges an experiment.
    pub fn judge(&self, experiment: &Experiment) -> Judgement {
        (self.judge)(experiment)
    }
}

/// All checkers, in the order in which they are told.
pub static CHECKERS: [Checker; 17] = [
    Checker {
        name: "linearizable",
        about: "changes, linearizable reads and lease reads seem to happen one after the other",
        promised: true,
        judge: linear::promised,
    },
    Checker {
        name: "monotonic-reads",
        about: "local and eventual reads of one client from one running node never go back",
        promised: true,
        judge: session::monotonic_reads,
    },
    Checker {
        name: "one-primary",
        about: "no family has two primaries at a time",
        promised: true,
        judge: one_primary::judge,
    },
    Checker {
        name: "decryptable",
        about: "what was encrypted decrypts to the same, or is refused for its key's state",
        promised: true,
        judge: decryptable::judge,
    },
    Checker {
        name: "durable",
        about: "what was acknowledged is what reads show after the last change",
        promised: true,
        judge: linear::durable,
    },
    Checker {
        name: "exactly-once",
        about: "no creation is there twice, and none that was refused is there",
        promised: true,
        judge: exactly_once::judge,
    },
    Checker {
        name: "authorization-order",
        about: "no call is done by a right that was taken away before it began",
        promised: true,
        judge: authorization_order::judge,
    },
    Checker {
        name: "lists",
        about: "a walk through a list shows all that was there throughout, and nothing that never was",
        promised: true,
        judge: lists::judge,
    },
    Checker {
        name: "exercised",
        about: "every kind of fault that can be counted took effect",
        promised: true,
        judge: exercised::judge,
    },
    Checker {
        name: "linearizable-all",
        about: "as linearizable, with local and eventual reads, which are not promised to be",
        promised: false,
        judge: linear::all,
    },
    Checker {
        name: "stale-reads",
        about: "no local or eventual read shows what was over when it began; counts those that do",
        promised: false,
        judge: stale::judge,
    },
    Checker {
        name: "read-your-writes",
        about: "local and eventual reads show the changes that their own client was told are done",
        promised: false,
        judge: session::read_your_writes,
    },
    Checker {
        name: "monotonic-reads-anywhere",
        about: "local and eventual reads of one client never go back, whatever node they come from",
        promised: false,
        judge: session::monotonic_reads_anywhere,
    },
    Checker {
        name: "monotonic-writes",
        about: "a client's changes are seen in the order in which it made them",
        promised: false,
        judge: session::monotonic_writes,
    },
    Checker {
        name: "writes-follow-reads",
        about: "a client's changes come after what it had read before, for all who see both",
        promised: false,
        judge: session::writes_follow_reads,
    },
    Checker {
        name: "lost-updates",
        about: "who counts in a tag of a key of its own counts every number once",
        promised: false,
        judge: lost_updates::judge,
    },
    Checker {
        name: "usable",
        about: "who makes a key and tries to use it does so in the end",
        promised: false,
        judge: usable::judge,
    },
];

/// Judges all that is promised and that an experiment has anything of.
pub fn all(experiment: &Experiment) -> Vec<Judgement> {
    let promised = CHECKERS.iter().filter(|checker| checker.promised);
    let judged = promised.map(|checker| checker.judge(experiment));
    judged
        .filter(|judgement| !judgement.about.starts_with(NOTHING_SEEN))
        .collect()
}

/// The checker of this name.
pub fn by_name(name: &str) -> Option<&'static Checker> {
    CHECKERS.iter().find(|checker| checker.name == name)
}

/// How the line begins in which a judgement says that there was nothing to judge.
const NOTHING_SEEN: &str = "nothing to judge";

impl Judgement {
    /// A judgement on what a check found elsewhere, such as in the states of a simulated run: true
    /// if it found nothing.
    pub fn of(checker: impl Into<Cow<'static, str>>, findings: Vec<Finding>) -> Self {
        let found = |finding| Violation {
            finding,
            calls: Vec::new(),
        };
        Self {
            checker: checker.into(),
            holds: if findings.is_empty() {
                Holds::True
            } else {
                Holds::False
            },
            about: "looked at while it ran".to_owned(),
            findings: findings.into_iter().map(found).collect(),
        }
    }
}

/// What a checker has seen so far.
struct Sight {
    checker: &'static str,
    looked: usize,
    findings: Vec<Violation>,
    unknown: Vec<String>,
    remarks: Vec<String>,
    /// Steps that are left for searches.
    steps: u64,
    /// What searches gave up on.
    given_up: BTreeSet<String>,
}

/// How many steps all searches of a checker may take.
const STEPS_MAX: u64 = 10_000_000;

impl Sight {
    fn new(checker: &'static str) -> Self {
        Self {
            checker,
            looked: 0,
            findings: Vec::new(),
            unknown: Vec::new(),
            remarks: Vec::new(),
            steps: STEPS_MAX,
            given_up: BTreeSet::new(),
        }
    }

    /// So many things more were looked at.
    fn looked(&mut self, more: usize) {
        self.looked += more;
    }

    /// Something that must not be.
    fn find(&mut self, what: impl fmt::Display, mut calls: Vec<usize>) {
        calls.sort_unstable();
        calls.dedup();
        let finding = Finding::new(self.checker, what);
        self.findings.push(Violation { finding, calls });
    }

    /// Searches for an order, as long as there are steps left; else the verdict is unknown.
    fn search(&mut self, spec: &Spec, entries: &[Entry], of: &Object) -> Found {
        let may = self.steps.min(search::STEPS_MAX);
        let mut left = may;
        let found = search::search(spec, entries, &mut left);
        self.steps -= may - left;
        if found == Found::GaveUp {
            self.given_up.insert(of.to_string());
        }
        found
    }

    /// Something that cannot be told.
    fn unknown(&mut self, why: impl Into<String>) {
        self.unknown.push(why.into());
    }

    /// Something to say of what it rests on.
    fn remark(&mut self, what: impl Into<String>) {
        self.remarks.push(what.into());
    }

    fn judgement(mut self) -> Judgement {
        if let Some(first) = self.given_up.first() {
            let objects = self.given_up.len();
            self.unknown.push(format!(
                "the search gave up on {objects} objects, such as {first}"
            ));
        }
        let nothing = self.looked == 0 && self.findings.is_empty();
        let holds = match () {
            () if !self.findings.is_empty() => Holds::False,
            () if nothing || !self.unknown.is_empty() => Holds::Unknown,
            () => Holds::True,
        };
        let mut about = if nothing {
            vec![NOTHING_SEEN.to_owned()]
        } else {
            Vec::new()
        };
        about.extend(self.unknown);
        about.extend(self.remarks);
        Judgement {
            checker: self.checker.into(),
            holds,
            about: about.join("; "),
            findings: self.findings,
        }
    }
}
