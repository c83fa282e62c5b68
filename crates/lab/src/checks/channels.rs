//! Channels between Regions: every message is taken exactly once and in order, and none is forgotten
//! before.

use std::collections::{BTreeMap, BTreeSet};

use keyrum_consensus::HistoryEntry;
use keyrum_state::{Event, KeyRef, Message, State};
use keyrum_types::Region;

use super::Finding;

const CHECK: &str = "channels";

/// Judges a cut of the Regions: nothing is forgotten that was not taken, or taken that was not sent.
pub fn at_an_instant(cut: &[&State]) -> Result<(), Finding> {
    for (sender, receiver) in pairs(cut) {
        let there = receiver.channel(sender.region()).cursor;
        let here = sender.channel(receiver.region());
        let channel = format!("{} to {}", sender.region(), receiver.region());
        if here.delivered > there {
            let what = format_args!(
                "{channel}: all through {} is said to be delivered, only {there} was taken",
                here.delivered
            );
            return Err(Finding::new(CHECK, what));
        }
        if there > here.sent {
            let what = format_args!("{channel}: {there} was taken, {} sent", here.sent);
            return Err(Finding::new(CHECK, what));
        }
    }
    Ok(())
}

/// Judges a cut at which nothing should be on its way any more.
pub fn at_rest(cut: &[&State]) -> Result<(), Finding> {
    for (sender, receiver) in pairs(cut) {
        let waiting = sender.outbox(receiver.region()).count();
        let delivered = sender.channel(receiver.region()).delivered;
        let cursor = receiver.channel(sender.region()).cursor;
        if waiting > 0 || delivered != cursor {
            let what = format_args!(
                "{} to {}: {waiting} messages wait; delivered through {delivered}, taken through \
                 {cursor}",
                sender.region(),
                receiver.region(),
            );
            return Err(Finding::new(CHECK, what));
        }
    }
    Ok(())
}

fn pairs<'s>(cut: &[&'s State]) -> Vec<(&'s State, &'s State)> {
    let all = cut
        .iter()
        .flat_map(|one| cut.iter().map(|other| (*one, *other)));
    all.filter(|(one, other)| one.region() != other.region())
        .collect()
}

/// One Region's side of the channel to another, as its history tells it.
#[derive(Default)]
struct Outbox {
    sent: u64,
    waiting: BTreeMap<u64, Message>,
    /// What was forgotten because the other Region has it.
    delivered: BTreeSet<u64>,
}

/// What a newer message replaces an older one by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Record(KeyRef),
    Confirmation(KeyRef),
    Tombstone(KeyRef),
    ImportReport(KeyRef),
    Lasting,
}

fn subject(message: &Message) -> Subject {
    let Some(key) = message.key() else {
        unreachable!("no history of these checks tells of identities");
    };
    match message {
        Message::Record { .. } | Message::ImportedRecord { request: None, .. } => {
            Subject::Record(key)
        }
        Message::ImportReport { .. } => Subject::ImportReport(key),
        Message::Confirmation { .. } => Subject::Confirmation(key),
        Message::Tombstone { .. } => Subject::Tombstone(key),
        Message::Identity(_)
        | Message::MoveRequest { .. }
        | Message::MoveAnswer { .. }
        | Message::ImportedRecord { .. } => Subject::Lasting,
    }
}

impl Outbox {
    fn send(&mut self, message: &Message) {
        let about = subject(message);
        // A tombstone that waits is not repeated; one of an earlier incarnation is replaced.
        let repeats = |other: &Message| matches!(about, Subject::Tombstone(_)) && other == message;
        if self.waiting.values().any(repeats) {
            return;
        }
        if about != Subject::Lasting {
            self.waiting.retain(|_, other| subject(other) != about);
        }
        self.sent += 1;
        self.waiting.insert(self.sent, message.clone());
    }
}

#[derive(Default)]
struct Ledger {
    outboxes: BTreeMap<Region, Outbox>,
    taken: BTreeMap<Region, Vec<u64>>,
}

impl Ledger {
    fn read<'h>(history: impl IntoIterator<Item = &'h HistoryEntry>) -> Self {
        let mut ledger = Self::default();
        for event in history.into_iter().flat_map(|entry| &entry.events) {
            ledger.note(event);
        }
        ledger
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::FamilyChanged { sent, .. }
            | Event::KeyReplicated { sent, .. }
            | Event::MessagesSent { sent } => {
                for (to, message) in sent {
                    self.outboxes.entry(to.clone()).or_default().send(message);
                }
            }
            Event::MessageTaken { from, number } => {
                self.taken.entry(from.clone()).or_default().push(*number);
            }
            Event::MessagesDelivered { to, through } => {
                let outbox = self.outboxes.entry(to.clone()).or_default();
                let left = outbox.waiting.split_off(&(through + 1));
                let delivered = std::mem::replace(&mut outbox.waiting, left);
                outbox.delivered.extend(delivered.into_keys());
            }
            Event::KeyDeleted { key, .. } => {
                for outbox in self.outboxes.values_mut() {
                    outbox
                        .waiting
                        .retain(|_, other| subject(other) != Subject::Record(*key));
                }
            }
            _ => {}
        }
    }
}

/// Compares what each Region's whole history says was sent, taken and forgotten. `ends` are the
/// states that the histories lead to.
pub fn exactly_once<'h, H>(histories: BTreeMap<Region, H>, ends: &[&State]) -> Vec<Finding>
where
    H: IntoIterator<Item = &'h HistoryEntry>,
{
    let read = |(region, history)| (region, Ledger::read(history));
    let ledgers: BTreeMap<Region, Ledger> = histories.into_iter().map(read).collect();
    let mut findings = Vec::new();
    let nothing = (Outbox::default(), Vec::new());
    for (sender, receiver) in pairs(ends) {
        let (from, to) = (sender.region(), receiver.region());
        let (Some(here), Some(there)) = (ledgers.get(from), ledgers.get(to)) else {
            continue;
        };
        let mut find = |what: String| {
            findings.push(Finding::new(CHECK, format_args!("{from} to {to}: {what}")));
        };
        let outbox = here.outboxes.get(to).unwrap_or(&nothing.0);
        let taken = there.taken.get(from).unwrap_or(&nothing.1);
        if outbox.sent != sender.channel(to).sent {
            let known = sender.channel(to).sent;
            find(format!(
                "the history tells of {} messages, {known} were sent",
                outbox.sent
            ));
        }
        for pair in taken.windows(2).filter(|pair| pair[0] >= pair[1]) {
            find(format!("{} was taken after {}", pair[1], pair[0]));
        }
        if let Some(last) = taken.last().filter(|last| **last > outbox.sent) {
            find(format!("{last} was taken and never sent"));
        }
        let taken: BTreeSet<u64> = taken.iter().copied().collect();
        for lost in outbox.delivered.difference(&taken) {
            find(format!("{lost} was forgotten as delivered and never taken"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use keyrum_state::Stamp;
    use keyrum_types::{KeyId, UnixMillis};

    use super::*;

    fn region(name: &str) -> Region {
        name.parse().unwrap()
    }

    fn key(number: u8) -> KeyRef {
        KeyRef {
            account: "000000000000".parse().unwrap(),
            id: KeyId::multi_region([number; 16]),
        }
    }

    fn entry(events: Vec<Event>) -> HistoryEntry {
        HistoryEntry {
            index: 0,
            at: UnixMillis(0),
            caller: None,
            command: String::new(),
            events,
            origin: None,
        }
    }

    fn confirmation(number: u8) -> Event {
        let message = Message::Confirmation {
            key: key(number),
            incarnation: Stamp::default(),
            materials: BTreeSet::new(),
        };
        Event::MessagesSent {
            sent: vec![(region("eu-west-1"), message)],
        }
    }

    fn tombstone(version: u64) -> Event {
        let incarnation = Stamp { epoch: 1, version };
        let message = Message::Tombstone {
            key: key(1),
            incarnation,
        };
        Event::MessagesSent {
            sent: vec![(region("eu-west-1"), message)],
        }
    }

    fn taken(number: u64) -> Event {
        Event::MessageTaken {
            from: region("us-east-1"),
            number,
        }
    }

    fn found(sender: Vec<Event>, receiver: Vec<Event>) -> Vec<String> {
        let (here, there) = (region("us-east-1"), region("eu-west-1"));
        let mut outbox = Outbox::default();
        for event in &sender {
            if let Event::MessagesSent { sent } = event {
                sent.iter().for_each(|(_, message)| outbox.send(message));
            }
        }
        let histories = [
            (here.clone(), entry(sender)),
            (there.clone(), entry(receiver)),
        ];
        let histories = histories
            .iter()
            .map(|(region, entry)| (region.clone(), [entry]))
            .collect();
        let ends = [State::new(here), State::new(there)];
        let mut found = exactly_once(histories, &[&ends[0], &ends[1]]);
        // These states were never told of anything.
        found.retain(|finding| !finding.what.contains("the history tells"));
        found.into_iter().map(|finding| finding.what).collect()
    }

    /// Catches a check that overlooks a message that was lost, taken twice, taken out of order or
    /// never sent, or that takes a replaced one for lost.
    #[test]
    fn each_way_to_lose_count_is_found() {
        let delivered = |through| Event::MessagesDelivered {
            to: region("eu-west-1"),
            through,
        };
        let three = || vec![confirmation(1), confirmation(2), confirmation(1)];
        // The first was replaced by the third.
        let good = [three(), vec![delivered(3)]].concat();
        assert_eq!(found(good.clone(), vec![taken(2), taken(3)]), [""; 0]);
        assert_eq!(found(three(), vec![]), [""; 0], "nothing was forgotten");
        let tombstones = vec![tombstone(1), tombstone(1), tombstone(2), delivered(2)];
        assert_eq!(
            found(tombstones, vec![taken(2)]),
            [""; 0],
            "one is not repeated, that of a later incarnation replaces it"
        );
        let wrong = |receiver| found(good.clone(), receiver).len();
        assert_eq!(wrong(vec![taken(3)]), 1, "one lost");
        assert_eq!(wrong(vec![taken(2), taken(2), taken(3)]), 1, "twice");
        assert_eq!(wrong(vec![taken(3), taken(2)]), 1, "out of order");
        assert_eq!(wrong(vec![taken(2), taken(3), taken(4)]), 1, "never sent");
    }
}
