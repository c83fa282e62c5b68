//! Keeps Creating and Updating visible for a while, so that programs that wait or retry can be
//! tested.
//!
//! What ends such a state is a message of another Region: a member's first confirmation, after
//! which the primary's record makes it Enabled; the record by which a member steps up; the new
//! primary's record at the one that stepped down. This Region takes it no sooner than a while
//! after it was first brought. What comes behind it on the same channel waits with it, since a
//! channel has one order. Nothing else is held: a move that is refused ends at once, since a call
//! waits for that.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use keyrum_state::{Event, Family, FamilyChange, KeyRef, Stamp, State};
use keyrum_types::{KeyState, Region};
use tokio::time::Instant;

/// How long it is remembered when a message was first brought, beyond the while.
const REMEMBERED: Duration = Duration::from_secs(60);

/// One stay in a transient state, told from earlier and later ones of the key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Transient {
    /// Of the member with this incarnation in another Region.
    Creating(KeyRef, Region, Stamp),
    /// Of this Region's member in the epoch: in one epoch it can end once by a record.
    Updating(KeyRef, Stamp, u64),
}

/// When each message that is held was first brought.
pub(crate) struct Hold {
    /// How long; 0 holds nothing.
    pub(crate) time: Duration,
    brought: Mutex<BTreeMap<Transient, Instant>>,
}

impl Hold {
    pub(crate) fn new(time: Duration) -> Self {
        Self {
            time,
            brought: Mutex::default(),
        }
    }

    /// The number of the first message that has to wait, given what a delivery would lead to now.
    /// The time of those behind it begins too.
    pub(crate) fn first_held(&self, state: &State, events: &[Event]) -> Option<u64> {
        let now = Instant::now();
        let mut brought = self.brought.lock().unwrap_or_else(PoisonError::into_inner);
        brought.retain(|_, since| now < *since + self.time + REMEMBERED);
        let mut first = None;
        for (number, ended) in ends(state, events) {
            let since = *brought.entry(ended).or_insert(now);
            if now < since + self.time {
                first = first.or(Some(number));
            }
        }
        first
    }
}

/// The transient states that end by these events, with the message that ends each.
fn ends(state: &State, events: &[Event]) -> Vec<(u64, Transient)> {
    // What the events before it leave of each key.
    let mut families: BTreeMap<KeyRef, (KeyState, &Family)> = BTreeMap::new();
    let mut number = 0;
    let mut ends = Vec::new();
    for event in events {
        match event {
            Event::MessageTaken { number: taken, .. } => number = *taken,
            Event::KeyReplicated { key, family, .. } => {
                families.insert(key.reference(), (key.state, family));
            }
            Event::FamilyChanged {
                key,
                change,
                family,
                state: shown,
                ..
            } => {
                let before = families.get(key).copied().or_else(|| {
                    let known = state.key(*key).zip(state.family(*key));
                    known.map(|(key, family)| (key.state, &**family))
                });
                let ended = before.and_then(|before| ended(*key, change, before, *shown));
                ends.extend(ended.map(|ended| (number, ended)));
                families.insert(*key, (*shown, family));
            }
            _ => {}
        }
    }
    ends
}

/// The transient state that one change ends, if it is one to be held.
fn ended(
    key: KeyRef,
    change: &FamilyChange,
    (was, family): (KeyState, &Family),
    shown: KeyState,
) -> Option<Transient> {
    match change {
        FamilyChange::Confirmed { region } => {
            let entry = family.roster.get(region)?;
            let creating = entry.confirmed.is_empty();
            creating.then(|| Transient::Creating(key, region.clone(), entry.incarnation))
        }
        FamilyChange::SteppedUp | FamilyChange::RecordTaken => {
            let updating = was == KeyState::Updating && shown != KeyState::Updating;
            updating.then_some(Transient::Updating(
                key,
                family.incarnation,
                family.stamp.epoch,
            ))
        }
        _ => None,
    }
}
