//! The search against one that tries everything, on many small histories.

use super::super::search::{Entry, Found, STEPS_MAX, search};
use super::super::shrink::smallest;
use super::super::spec::{Does, FREE, NOTHING, Needs, Shape, Spec};

/// Numbers that look random, the same in each run.
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit
    }
}

fn spec(numbers: &mut Numbers) -> Spec {
    match numbers.below(3) {
        0 => Spec::register(FREE),
        1 => Spec::Register {
            initial: NOTHING,
            fading: [1].into(),
        },
        _ => Spec::machine(0b1, &[(0b10, 0b100)]),
    }
}

fn does(numbers: &mut Numbers, spec: &Spec) -> Does {
    match spec {
        Spec::Machine { .. } => {
            let some = |numbers: &mut Numbers| u16::try_from(1 + numbers.below(7)).unwrap();
            let from = some(numbers);
            match numbers.below(2) {
                0 => Does::sees(from),
                _ => Does::moves(from, 1 << numbers.below(3)),
            }
        }
        Spec::Register { .. } => {
            let value = |numbers: &mut Numbers| Shape::try_from(numbers.below(3)).unwrap();
            let needs = match numbers.below(4) {
                0 => Needs::Any,
                1 => Needs::Not(value(numbers)),
                _ => Needs::Is(value(numbers)),
            };
            let sets = (numbers.below(2) == 0).then(|| value(numbers));
            Does::Finds(needs, sets)
        }
    }
}

fn history(numbers: &mut Numbers, spec: &Spec) -> Vec<Entry> {
    let count = usize::try_from(1 + numbers.below(6)).unwrap();
    let entry = |call: usize| {
        let start = numbers.below(12);
        let does = does(numbers, spec);
        let end = Some(start + numbers.below(6)).filter(|_| numbers.below(5) > 0);
        let session = usize::try_from(numbers.below(4)).unwrap();
        let weak = does.only_reads() && numbers.below(3) == 0;
        let after = (call > 0 && numbers.below(6) == 0)
            .then(|| usize::try_from(numbers.below(call as u64)).unwrap());
        Entry {
            call,
            start: if weak { 0 } else { start },
            end,
            does,
            session: (weak && session > 0).then_some((session, start)),
            after: after.into_iter().collect(),
        }
    };
    (0..count).map(entry).collect()
}

/// Whether one operation must come before another.
fn before(one: &Entry, other: &Entry) -> bool {
    let Some(end) = one.end else { return false };
    let in_session = match (one.session, other.session) {
        (Some((session, _)), Some((same, called))) => session == same && end < called,
        _ => false,
    };
    end < other.start || in_session || other.after.contains(&one.call)
}

/// Tries every order of every choice of operations.
fn has_order(spec: &Spec, entries: &[Entry], taken: &mut Vec<usize>, state: Shape) -> bool {
    let left = || (0..entries.len()).filter(|number| !taken.contains(number));
    if left().all(|number| entries[number].end.is_none()) {
        return true;
    }
    let next: Vec<usize> = left()
        .filter(|number| {
            let mut others = left();
            others.all(|other| other == *number || !before(&entries[other], &entries[*number]))
        })
        .collect();
    next.into_iter().any(|number| {
        let Some(state) = spec.step(state, &entries[number].does) else {
            return false;
        };
        taken.push(number);
        let found = has_order(spec, entries, taken, state);
        taken.pop();
        found
    })
}

/// Constraints may contradict each other if an operation is after one that is after it.
fn is_sound(entries: &[Entry]) -> bool {
    let mut after = entries.iter().flat_map(|entry| {
        let befores = entry.after.iter().map(|call| &entries[*call]);
        befores.map(move |other| (entry, other))
    });
    // Only what had ended is known to have come before, and an open one bounds nothing.
    after.all(|(entry, other)| {
        let called = entry.session.map_or(entry.start, |(_, called)| called);
        other.end.is_some_and(|end| end < called.max(1)) && entry.end.is_some()
    })
}

/// Catches a search that finds an order where there is none, or none where there is one: with calls
/// that may never come to pass, sessions, and states that change without a call. And smallest
/// histories that have an order, or from which a read could still be left out.
#[test]
fn the_search_agrees_with_trying_everything() {
    let mut found = [0, 0];
    for seed in 1..60_000 {
        let mut numbers = Numbers::new(seed);
        let spec = spec(&mut numbers);
        let entries = history(&mut numbers, &spec);
        if !is_sound(&entries) {
            continue;
        }
        let expected = has_order(&spec, &entries, &mut Vec::new(), spec.initial());
        let ended = search(&spec, &entries, &mut STEPS_MAX.clone());
        let wanted = if expected { Found::Order } else { Found::None };
        assert_eq!(ended, wanted, "seed {seed}: {spec:?} {entries:#?}");
        found[usize::from(expected)] += 1;
        if !expected {
            let part = smallest(&spec, &entries);
            assert!(!part.is_empty());
            let wrong = search(&spec, &part, &mut STEPS_MAX.clone());
            assert_eq!(wrong, Found::None, "seed {seed}: {part:#?}");
            assert!(
                part.iter()
                    .all(|entry| entries.iter().any(|other| other.call == entry.call))
            );
        }
    }
    assert!(found.iter().all(|count| *count > 5_000), "{found:?}");
}

/// Catches a search without bound: one that gives up says so.
#[test]
fn a_search_gives_up() {
    let spec = Spec::register(NOTHING);
    let entry = |call: usize, does| Entry {
        call,
        start: 0,
        end: Some(100),
        does,
        session: None,
        after: Vec::new(),
    };
    let mut entries: Vec<Entry> = (0..12)
        .map(|call| {
            entry(
                call,
                Does::Finds(Needs::Any, Some(Shape::try_from(call + 1).unwrap())),
            )
        })
        .collect();
    entries.push(entry(12, Does::Finds(Needs::Is(99), None)));
    assert_eq!(search(&spec, &entries, &mut 1_000), Found::GaveUp);
    assert_eq!(search(&spec, &entries, &mut STEPS_MAX.clone()), Found::None);
}
