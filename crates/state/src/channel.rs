//! Messages between Regions: what waits here for another Region, and how far another has been heard.
//!
//! A channel leads from one Region to another. Its messages have ascending numbers; one that a newer
//! one replaces leaves a gap. The courier repeats what waits until the other Region's log has it
//! (`Deliver`), then this log forgets it (`Delivered`). The receiver's cursor takes each number once
//! and in order: a delivery says after which number it begins, so that one that arrives too early
//! leaves no hole.

use keyrum_types::Region;
use keyrum_types::planted::{self, Bug};
use serde::{Deserialize, Serialize};

use crate::contents::{Row, RowName};
use crate::family::Message;
use crate::{Event, Outcome, Refusal, State, conversation, evolve};

/// How far two Regions have come with each other, in one Region.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// The number of the last message written for the other Region.
    pub sent: u64,
    /// The other Region has taken all through this number.
    pub delivered: u64,
    /// The number of the other Region's last message taken here.
    pub cursor: u64,
}

/// Puts a message in the outbox, in place of one on the same subject that waits. A member's tombstone
/// that waits is not repeated. A record takes along what is shared of imported material.
pub(crate) fn send(state: &mut State, to: &Region, message: &Message) {
    let imported = conversation::take_along(state, message);
    let message = imported.as_ref().unwrap_or(message);
    if let Some(subject) = message.subject()
        && let Some(number) = state.waiting_on(to, subject)
    {
        let tombstone = matches!(message, Message::Tombstone { .. });
        if tombstone && state.waiting_message(to, number) == Some(message) {
            return;
        }
        state.remove(RowName::Sent(to, number));
    }
    let mut channel = state.channel(to);
    channel.sent += 1;
    state.put(Row::Sent {
        to: to.clone(),
        number: channel.sent,
        message: message.clone().into(),
    });
    put(state, to, channel);
}

fn put(state: &mut State, with: &Region, channel: Channel) {
    state.put(Row::Channel {
        with: with.clone(),
        channel,
    });
}

/// Takes what is new of a delivery, in order: each message is judged on what the one before it left,
/// and its events are done at once. Refused, it changes nothing.
pub(crate) fn deliver(
    state: &mut State,
    from: &Region,
    after: u64,
    messages: &[(u64, Message)],
    at: keyrum_types::UnixMillis,
) -> Outcome {
    let mut cursor = state.channel(from).cursor;
    if after > cursor {
        return Err(Refusal::MessagesMissing {
            from: from.clone(),
            cursor,
        });
    }
    let mut events = Vec::new();
    for (number, message) in messages {
        if *number <= cursor && !planted::is(Bug::MessageTakenTwice) {
            continue;
        }
        cursor = *number;
        let mut taken = vec![Event::MessageTaken {
            from: from.clone(),
            number: *number,
        }];
        taken.extend(conversation::hear(state, from, message, at));
        taken.iter().for_each(|event| evolve(state, event));
        events.append(&mut taken);
    }
    Ok(events)
}

/// Forgets what the other Region has.
pub(crate) fn delivered(state: &State, to: &Region, through: u64) -> Outcome {
    let channel = state.channel(to);
    if through > channel.sent {
        return Err(Refusal::NeverSent {
            to: to.clone(),
            number: through,
        });
    }
    Ok(if through <= channel.delivered {
        vec![]
    } else {
        vec![Event::MessagesDelivered {
            to: to.clone(),
            through,
        }]
    })
}

pub(crate) fn evolve_channel(state: &mut State, event: &Event) {
    match event {
        Event::MessageTaken { from, number } => {
            let mut channel = state.channel(from);
            channel.cursor = *number;
            put(state, from, channel);
        }
        Event::MessagesDelivered { to, through } => {
            let taken: Vec<u64> = state
                .outbox(to)
                .map(|(number, _)| number)
                .take_while(|number| number <= through)
                .collect();
            for number in taken {
                state.remove(RowName::Sent(to, number));
            }
            let mut channel = state.channel(to);
            channel.delivered = *through;
            put(state, to, channel);
        }
        other => unreachable!("not an event of a channel: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use keyrum_types::KeyId;

    use super::*;
    use crate::{KeyRef, Stamp};

    /// Catches a tombstone that is sent twice, and one of a later member of the same Region that is
    /// lost because an earlier one's still waits to be forgotten.
    #[test]
    fn each_member_has_one_tombstone() {
        let [own, to] = ["us-east-1", "eu-west-1"].map(|name| name.parse::<Region>().unwrap());
        let mut state = State::new(own);
        let tombstone = |version| Message::Tombstone {
            key: KeyRef {
                account: "111122223333".parse().unwrap(),
                id: KeyId::multi_region([1; 16]),
            },
            incarnation: Stamp { epoch: 1, version },
        };
        for (version, waiting) in [(2, 1), (2, 1), (5, 2), (5, 2)] {
            send(&mut state, &to, &tombstone(version));
            let outbox: Vec<_> = state
                .outbox(&to)
                .map(|(n, m)| (n, Message::clone(m)))
                .collect();
            assert_eq!(outbox, [(waiting, tombstone(version))]);
            assert_eq!(state.outbox_after(&to, waiting - 1).count(), 1);
            assert_eq!(state.outbox_after(&to, waiting).count(), 0, "taken");
        }
        assert_eq!(state.digest(), state.recompute_digest());
    }
}
