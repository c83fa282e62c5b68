//! Sequential specifications: what an object's state may be, and what an operation may find and
//! leave there.
//!
//! A state is a number. What a caller cannot see happen (a key that is really deleted, a replica
//! that arrives) is in the specification, so that it needs no call.

use std::collections::BTreeSet;

/// A state of an object, as its [`Spec`] reads it.
pub(super) type Shape = u32;

/// A value of a register that nobody has set or seen: the first read of it shows what it is.
pub(super) const FREE: Shape = Shape::MAX;

/// A register that is empty: no such alias, no such tag.
pub(super) const NOTHING: Shape = 0;

/// How many states a machine has at most.
pub(super) const STATES: usize = 10;

/// For each state of a machine, the set of states that may follow.
pub(super) type Relation = [u16; STATES];

/// What an object is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Spec {
    /// A few states; which of them it is in may be open, so a [`Shape`] is a set of them.
    Machine {
        /// The states it may begin in.
        initial: u16,
        /// For each state, itself and all that may follow without a call.
        quietly: Relation,
    },
    /// Holds one value.
    Register {
        /// What it begins with.
        initial: Shape,
        /// Values that may turn into [`NOTHING`] without a call.
        fading: BTreeSet<Shape>,
    },
}

/// What an operation finds and leaves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Does {
    /// On a machine: what follows each state, nothing where it cannot have come to pass.
    Moves(Relation),
    /// On a register: what it must find, and what it sets, if anything.
    Finds(Needs, Option<Shape>),
}

/// What an operation must find in a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Needs {
    /// Whatever there is.
    Any,
    /// This value.
    Is(Shape),
    /// Any value but this.
    Not(Shape),
}

impl Does {
    /// Finds a machine in one of these states, and leaves it so.
    pub(super) fn sees(states: u16) -> Self {
        let mut relation = Relation::default();
        for (state, to) in relation.iter_mut().enumerate() {
            *to = states & (1 << state);
        }
        Self::Moves(relation)
    }

    /// Finds a machine in one of these states, and leaves it in one of those.
    pub(super) fn moves(from: u16, to: u16) -> Self {
        let mut relation = Relation::default();
        for (state, then) in relation.iter_mut().enumerate() {
            *then = if from & (1 << state) == 0 { 0 } else { to };
        }
        Self::Moves(relation)
    }

    /// Whether it leaves everything as it found it.
    pub(super) fn only_reads(&self) -> bool {
        match self {
            Self::Moves(relation) => {
                let mut steps = relation.iter().enumerate();
                steps.all(|(state, to)| to & !(1 << state) == 0)
            }
            Self::Finds(_, sets) => sets.is_none(),
        }
    }
}

impl Spec {
    /// A machine; `quietly` are single steps that happen without a call.
    pub(super) fn machine(initial: u16, steps: &[(u16, u16)]) -> Self {
        let mut quietly = Relation::default();
        for (state, to) in quietly.iter_mut().enumerate() {
            *to = 1 << state;
        }
        // As many times as there are states reaches everything.
        for _ in 0..STATES {
            for reached in &mut quietly {
                for (from, to) in steps {
                    if *reached & from != 0 {
                        *reached |= to;
                    }
                }
            }
        }
        Self::Machine { initial, quietly }
    }

    /// A register without values that fade.
    pub(super) fn register(initial: Shape) -> Self {
        Self::Register {
            initial,
            fading: BTreeSet::new(),
        }
    }

    /// How it begins.
    pub(super) fn initial(&self) -> Shape {
        match self {
            Self::Machine { initial, quietly } => follow(*initial, quietly),
            Self::Register { initial, .. } => *initial,
        }
    }

    /// What an operation leaves; `None` if it cannot have come to pass in this state.
    pub(super) fn step(&self, state: Shape, does: &Does) -> Option<Shape> {
        match (self, does) {
            (Self::Machine { quietly, .. }, Does::Moves(relation)) => {
                let set = u16::try_from(state).expect("a machine's shapes are sets of its states");
                let reached = union(set, relation);
                (reached != 0).then(|| follow(reached, quietly))
            }
            (Self::Register { fading, .. }, Does::Finds(needs, sets)) => {
                let found = match needs {
                    Needs::Any => state,
                    Needs::Is(value) if state == *value || state == FREE => *value,
                    Needs::Is(NOTHING) if fading.contains(&state) => NOTHING,
                    Needs::Not(value) if state != *value => state,
                    Needs::Not(value) if *value != NOTHING && fading.contains(value) => NOTHING,
                    Needs::Is(_) | Needs::Not(_) => return None,
                };
                Some(sets.unwrap_or(found))
            }
            _ => unreachable!("an object's operations are of its own kind"),
        }
    }
}

fn union(set: u16, relation: &Relation) -> u16 {
    let from = relation.iter().enumerate();
    from.filter(|(state, _)| set & (1 << state) != 0)
        .fold(0, |all, (_, to)| all | to)
}

fn follow(set: u16, quietly: &Relation) -> Shape {
    union(set, quietly).into()
}
