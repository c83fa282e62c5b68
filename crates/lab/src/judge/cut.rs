//! Which stretches of several Regions' logs a consistent cut can hold together.
//!
//! A cut takes a beginning of each Region's log, and is consistent if it holds the sending of every
//! message whose taking it holds. What a log has heard of the others by messages, directly or through
//! third Regions, is a vector clock: how many steps of each log come before.

use std::collections::BTreeMap;
use std::fmt;

use crate::experiment::{Logged, RegionLog};

/// A stretch of a Region's log in which its member of a family is the primary.
#[derive(Debug)]
pub(super) struct Reign<'a> {
    pub(super) key: &'a str,
    region: &'a str,
    /// The Region's place among the logs.
    log: usize,
    /// Log indices of its first entry and of the one that ends it.
    entries: (u64, Option<u64>),
    /// The number of the step that ends it, counted from 1.
    ends: Option<usize>,
    /// How many steps of each log come before it began.
    heard: Vec<usize>,
}

impl Reign<'_> {
    /// Whether a consistent cut can hold a part of both. Of two of one Region none can.
    pub(super) fn may_be_seen_with(&self, other: &Reign) -> bool {
        let over_before = |former: &Reign, later: &Reign| {
            former
                .ends
                .is_some_and(|end| later.heard[former.log] >= end)
        };
        self.log != other.log && !over_before(self, other) && !over_before(other, self)
    }
}

impl fmt::Display for Reign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.entries;
        write!(f, "{} from log index {first}", self.region)?;
        match last {
            Some(last) => write!(f, " to {last}"),
            None => f.write_str(" on"),
        }
    }
}

/// All reigns in the logs, or why they cannot be told.
pub(super) fn reigns(logs: &[RegionLog]) -> Result<Vec<Reign<'_>>, String> {
    if let Some(log) = logs.iter().find(|log| log.begins > 1) {
        return Err(format!(
            "the log of {} was read from index {} on, and what came before is not known",
            log.region, log.begins
        ));
    }
    let number: BTreeMap<&str, usize> = (logs.iter().enumerate())
        .map(|(number, log)| (log.region.as_str(), number))
        .collect();
    let mut walk = Walk {
        at: vec![0; logs.len()],
        clocks: vec![vec![0; logs.len()]; logs.len()],
        sent: BTreeMap::new(),
        reigns: Vec::new(),
        open: BTreeMap::new(),
    };
    // Each log as far as what it took was sent, until all are at their ends.
    loop {
        let mut moved = false;
        for (log, of) in logs.iter().enumerate() {
            while walk.step(log, of, &number) {
                moved = true;
            }
        }
        let waits = (logs.iter().zip(&walk.at)).find(|(log, at)| **at < log.steps.len());
        match waits {
            None => return Ok(walk.reigns),
            Some(_) if moved => {}
            Some((log, at)) => {
                return Err(format!(
                    "the log of {} takes a message at index {} that no log that was read has sent",
                    log.region, log.steps[*at].index
                ));
            }
        }
    }
}

struct Walk<'a> {
    /// How many steps of each log were walked.
    at: Vec<usize>,
    /// What each log has heard of all.
    clocks: Vec<Vec<usize>>,
    /// What the sender had heard when it sent each message, from one log to another, in order.
    sent: BTreeMap<(usize, usize), Vec<Vec<usize>>>,
    reigns: Vec<Reign<'a>>,
    /// The reigns that go on, by log and key.
    open: BTreeMap<(usize, &'a str), usize>,
}

impl<'a> Walk<'a> {
    /// Takes the next step of a log, if there is one and what it took was sent.
    fn step(&mut self, log: usize, of: &'a RegionLog, number: &BTreeMap<&str, usize>) -> bool {
        let Some(step) = of.steps.get(self.at[log]) else {
            return false;
        };
        if let Logged::Taken { from, number: nth } = &step.what {
            let from = number.get(from.as_str());
            let sent = from.and_then(|from| self.sent.get(&(*from, log)));
            let nth = usize::try_from(*nth)
                .ok()
                .and_then(|nth| nth.checked_sub(1));
            let Some(heard) = sent.zip(nth).and_then(|(sent, nth)| sent.get(nth)) else {
                return false;
            };
            for (known, new) in self.clocks[log].iter_mut().zip(heard) {
                *known = (*known).max(*new);
            }
        }
        self.at[log] += 1;
        self.clocks[log][log] = self.at[log];
        match &step.what {
            Logged::Primary(key) => {
                let next = self.reigns.len();
                if *self.open.entry((log, key)).or_insert(next) == next {
                    self.reigns.push(Reign {
                        key,
                        region: &of.region,
                        log,
                        entries: (step.index, None),
                        ends: None,
                        heard: self.clocks[log].clone(),
                    });
                }
            }
            Logged::NotPrimary(key) => {
                if let Some(reign) = self.open.remove(&(log, key)) {
                    let reign = &mut self.reigns[reign];
                    reign.ends = Some(self.at[log]);
                    reign.entries.1 = Some(step.index);
                }
            }
            Logged::Sent(to) => {
                if let Some(to) = number.get(to.as_str()) {
                    let heard = self.clocks[log].clone();
                    self.sent.entry((log, *to)).or_default().push(heard);
                }
            }
            Logged::Taken { .. } => {}
        }
        true
    }
}
