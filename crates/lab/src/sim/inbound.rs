//! What a connection hands to its reader, and when: segments that TCP has to send again, and calls
//! between nodes that come twice, late, or out of order.
//!
//! TCP neither repeats nor reorders. What is repeated and reordered are whole calls and answers of
//! the protocol between nodes, as happens when a call is made again over another connection while
//! the former one's bytes are still on their way. What must come in order is left alone: the entries
//! of a log and the parts of a snapshot.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::dice::Dice;

/// Parts of a frame: its length, then a number and a kind (see `consensus::peers`).
const LENGTH_BYTES: usize = 4;
const KIND_AT: usize = LENGTH_BYTES + 8;

/// Kinds of frames that say what they mean only in order: appended entries, and snapshots.
const APPEND: u8 = 1;
const SNAPSHOT: std::ops::RangeInclusive<u8> = 5..=7;

/// What another Region's courier brings.
const DELIVER: u8 = 13;

/// How long TCP waits before it sends a segment again, at first; then twice as long each time.
/// Source: Linux, `TCP_RTO_MIN`.
const SEND_AGAIN: Duration = Duration::from_millis(200);

/// No segment is lost more often than so many times in a row.
const LOST_IN_A_ROW_MAX: u32 = 6;

/// What befalls what arrives, in so many of a hundred cases; with the fault that does it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mishaps {
    pub(super) lose: Option<(usize, u64)>,
    pub(super) repeat: Option<(usize, u64)>,
    pub(super) reorder: Option<(usize, u64)>,
}

/// One direction of a connection, at its receiving end.
#[derive(Default)]
pub(super) struct Inbound {
    /// Whether nodes speak to each other on it, and not a client with a node.
    pub(super) between_nodes: bool,
    /// The first record greets.
    greeted: bool,
    /// The part of a frame that has come.
    partial: Vec<u8>,
    ready: VecDeque<u8>,
    /// Frames that come later, with when; of two at one time the first comes first.
    late: Vec<(Instant, Vec<u8>)>,
    /// Nothing is handed on before, since TCP waits for something that was lost.
    stalled_until: Option<Instant>,
    /// No more comes.
    pub(super) ended: bool,
}

impl Inbound {
    pub(super) fn new(between_nodes: bool) -> Self {
        Self {
            between_nodes,
            ..Self::default()
        }
    }

    /// Whether nothing was taken that is not handed on.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
            && self.late.is_empty()
            && self.partial.is_empty()
            && self.stalled_until.is_none()
            && !self.ended
    }

    /// Takes what has come. Gives the faults that took effect on it.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        mishaps: Mishaps,
        now: Instant,
        dice: &mut Dice,
    ) -> Vec<usize> {
        let mut effects = Vec::new();
        if let Some((fault, percent)) = mishaps.lose {
            let mut lost = 0;
            while lost < LOST_IN_A_ROW_MAX && dice.percent(percent) {
                lost += 1;
            }
            if lost > 0 {
                effects.push(fault);
                let waits = SEND_AGAIN * (2_u32.pow(lost) - 1);
                self.stalled_until = self.stalled_until.max(Some(now + waits));
            }
        }
        if !self.between_nodes {
            self.ready.extend(bytes);
            return effects;
        }
        self.partial.extend_from_slice(bytes);
        let mut whole = 0;
        while let Some(frame) = first_frame(&self.partial[whole..]) {
            let end = whole + frame.len();
            self.sort_in(whole..end, mishaps, now, dice, &mut effects);
            whole = end;
        }
        self.partial.drain(..whole);
        effects
    }

    fn sort_in(
        &mut self,
        at: std::ops::Range<usize>,
        mishaps: Mishaps,
        now: Instant,
        dice: &mut Dice,
        effects: &mut Vec<usize>,
    ) {
        let frame = &self.partial[at];
        let greets = !std::mem::replace(&mut self.greeted, true);
        let kind = frame.get(KIND_AT).copied().filter(|_| !greets);
        let Some(kind) = kind.filter(|kind| !SNAPSHOT.contains(kind)) else {
            self.ready.extend(frame);
            return;
        };
        if let Some((fault, percent)) = mishaps.repeat
            && dice.percent(percent)
        {
            effects.push(fault);
            // So that others come in between.
            let latest = if kind == DELIVER { 3_000 } else { 400 };
            let again = now + Duration::from_millis(dice.between(1, latest));
            self.late.push((again, frame.to_vec()));
        }
        match mishaps.reorder {
            Some((fault, percent)) if kind != APPEND && dice.percent(percent) => {
                effects.push(fault);
                let later = now + Duration::from_millis(dice.between(5, 60));
                self.late.push((later, frame.to_vec()));
            }
            Some(_) | None => self.ready.extend(frame),
        }
    }

    /// No more comes: what was to come late comes now.
    pub(super) fn end(&mut self) {
        self.ended = true;
        for (_, frame) in std::mem::take(&mut self.late) {
            self.ready.extend(frame);
        }
        let partial = std::mem::take(&mut self.partial);
        self.ready.extend(partial);
    }

    /// Hands on at most `room` bytes whose time has come. Otherwise, when to ask again; never by
    /// itself if `None`.
    pub(super) fn hand_on(
        &mut self,
        room: usize,
        now: Instant,
    ) -> Result<Vec<u8>, Option<Instant>> {
        if let Some(until) = self.stalled_until {
            if now < until {
                return Err(Some(until));
            }
            self.stalled_until = None;
        }
        if self.late.iter().any(|(when, _)| *when <= now) {
            let late = std::mem::take(&mut self.late).into_iter();
            let (mut due, late): (Vec<_>, Vec<_>) = late.partition(|(when, _)| *when <= now);
            self.late = late;
            due.sort_by_key(|(when, _)| *when);
            due.into_iter()
                .for_each(|(_, frame)| self.ready.extend(frame));
        }
        if self.ready.is_empty() {
            return Err(self.late.iter().map(|(when, _)| *when).min());
        }
        let count = room.min(self.ready.len());
        Ok(self.ready.drain(..count).collect())
    }
}

fn first_frame(bytes: &[u8]) -> Option<&[u8]> {
    let length = u32::from_be_bytes(bytes.get(..LENGTH_BYTES)?.try_into().ok()?);
    let length = usize::try_from(length).ok()?;
    bytes.get(..LENGTH_BYTES.checked_add(length)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u64, kind: u8) -> Vec<u8> {
        let body = [&number.to_be_bytes()[..], &[kind, 7, 7]].concat();
        [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
    }

    fn numbers(bytes: &[u8]) -> Vec<u64> {
        let (mut left, mut found) = (bytes, Vec::new());
        while let Some(frame) = first_frame(left) {
            found.push(u64::from_be_bytes(frame[4..12].try_into().unwrap()));
            left = &left[frame.len()..];
        }
        assert!(left.is_empty(), "a frame was cut");
        found
    }

    fn connection() -> Inbound {
        let mut inbound = Inbound::new(true);
        let greeting = [&3_u32.to_be_bytes()[..], &[1, 2, 3]].concat();
        let mut dice = Dice::new(1, "test");
        let all = Mishaps {
            repeat: Some((1, 100)),
            reorder: Some((2, 100)),
            lose: None,
        };
        let now = Instant::now();
        assert!(inbound.take(&greeting, all, now, &mut dice).is_empty());
        assert_eq!(inbound.hand_on(99, now), Ok(greeting));
        inbound
    }

    /// Catches frames that are cut, lost, or handed on before they have come; a greeting, a snapshot
    /// or entries that do not keep their order; and repetitions that do not come.
    #[tokio::test(start_paused = true)]
    async fn calls_come_twice_and_out_of_order_and_snapshots_do_not() {
        let mut dice = Dice::new(1, "test");
        let (mut inbound, now) = (connection(), Instant::now());
        let calls: Vec<u8> = (1..=40).flat_map(|number| frame(number, 8)).collect();
        for part in calls.chunks(7) {
            inbound.take(part, Mishaps::default(), now, &mut dice);
        }
        assert_eq!(inbound.hand_on(usize::MAX, now), Ok(calls.clone()));
        let reorder = Mishaps {
            reorder: Some((2, 50)),
            ..Mishaps::default()
        };
        let effects = inbound.take(&calls, reorder, now, &mut dice);
        assert!(effects.len() > 5 && effects.iter().all(|fault| *fault == 2));
        let later = now + Duration::from_secs(1);
        let first = inbound.hand_on(usize::MAX, now).unwrap();
        let rest = inbound.hand_on(usize::MAX, later).unwrap();
        let mut come = numbers(&[first, rest].concat());
        assert!(!come.is_sorted());
        come.sort_unstable();
        assert_eq!(come, Vec::from_iter(1..=40));
        let both = Mishaps {
            repeat: Some((1, 100)),
            reorder: Some((2, 100)),
            lose: None,
        };
        for (kind, twice) in [(APPEND, true), (6, false)] {
            let calls: Vec<u8> = (1..=3).flat_map(|number| frame(number, kind)).collect();
            inbound.take(&calls, both, now, &mut dice);
            let at_once = inbound.hand_on(usize::MAX, now).unwrap();
            assert_eq!(numbers(&at_once), [1, 2, 3], "{kind}");
            let again = inbound.hand_on(usize::MAX, later);
            assert_eq!(again.is_ok(), twice, "{kind}");
        }
        // What was to come late comes before the end.
        inbound.take(&frame(9, 2), both, now, &mut dice);
        inbound.end();
        let last = inbound.hand_on(usize::MAX, now).unwrap();
        assert_eq!(numbers(&last), [9, 9]);
    }

    /// Catches segments that are lost without delay, and for good.
    #[tokio::test(start_paused = true)]
    async fn what_is_lost_comes_later() {
        let (mut inbound, now) = (Inbound::default(), Instant::now());
        let lose = Mishaps {
            lose: Some((3, 100)),
            ..Mishaps::default()
        };
        let mut dice = Dice::new(1, "test");
        assert_eq!(inbound.take(b"GET /", lose, now, &mut dice), [3]);
        let Err(Some(until)) = inbound.hand_on(99, now) else {
            panic!("it comes at once")
        };
        assert_eq!(until - now, SEND_AGAIN * 63);
        assert_eq!(inbound.hand_on(99, until), Ok(b"GET /".to_vec()));
    }
}
