//! Histories in EDN, one operation a line, as Jepsen's tools read them.
//!
//! Both exports hold what the checkers here see: every call as what it found and left in objects (a
//! key's state, description, policy and tags, an alias, a grant; each in one Region). The key of an
//! object is a path such as `us-east-1/key/ID/state`; values are strings, and `nil` is an object that
//! is not there. Each call is an `:invoke` and, if it ended, an `:ok` or `:fail` of the same
//! `:process`:
//!
//! - a change is a `:write` of what it leaves, a read a `:read` of what it found, both `:ok`;
//! - a change that was not done, because nobody was reached, is a `:write` that ends with `:fail`;
//! - a change that is refused for the object's state is a `:read` of that state. The tools have no
//!   operation for "any state but this", so such calls are left out, and likewise other calls that
//!   do not say one state;
//! - a change with an unknown outcome is `:info`, and its process makes no other call. A read with an
//!   unknown outcome is left out: it changes nothing and shows nothing;
//! - weaker reads (`local`, `eventual`) are left out, unless asked for.
//!
//! Times are nanoseconds since the run began. A call that touches several objects is several
//! operations; a process has one at a time, so these have processes of their own: client *c* of *n*
//! has the processes *c*, *c + n*, *c + 2n* and so on. Of two moments alike the invocation comes
//! first, so that such calls are concurrent.
//!
//! For **Knossos**, `:value` is a tuple `[path value]`, as `jepsen.independent` makes them: check each
//! path alone against `knossos.model/register`. It begins with `nil`. An object that the history does
//! not show the beginning of (an alias, say) begins with whatever it has, so its first read may be
//! refused there; wrap the model for it. What comes to pass without a call (a deletion that comes true,
//! a replica that arrives) is in no history.
//!
//! For **Elle**, every operation is a transaction of one micro-operation: `:f :txn`, `:value
//! [[:w path value]]` or `[[:r path value]]`, for `elle.rw-register`. It wants every value of a path to
//! be written once, so the paths where that is not so are left out, which states of keys always are.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use super::super::model::names::key_of;
use super::super::model::{History, Model, Object, Op, Thing, facts, life};
use super::super::spec::{Does, FREE, NOTHING, Needs, Relation, Shape, Spec};
use crate::experiment::{Experiment, Outcome};

/// Writes a history for Knossos. `weaker` says whether weaker reads are in it, too.
pub fn knossos(experiment: &Experiment, weaker: bool, out: &mut impl Write) -> io::Result<()> {
    let operations = operations(experiment, weaker);
    write(experiment, operations, out, |out, operation, answered| {
        let f = if operation.writes { "write" } else { "read" };
        write!(out, ":f :{f}, :value [")?;
        string(out, &operation.path)?;
        write!(out, " ")?;
        value(out, operation.known(answered))?;
        write!(out, "]")
    })
}

/// Writes a history for Elle's `rw-register`. `weaker` says whether weaker reads are in it, too.
pub fn elle(experiment: &Experiment, weaker: bool, out: &mut impl Write) -> io::Result<()> {
    let mut operations = operations(experiment, weaker);
    let mut written = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for operation in operations.iter().filter(|operation| operation.writes) {
        // Nothing has no name that could be unlike others.
        let new = operation.value.is_some()
            && written.insert((operation.path.clone(), operation.value.clone()));
        if !new {
            twice.insert(operation.path.clone());
        }
    }
    operations.retain(|operation| !twice.contains(&operation.path));
    write(experiment, operations, out, |out, operation, answered| {
        let f = if operation.writes { "w" } else { "r" };
        write!(out, ":f :txn, :value [[:{f} ")?;
        string(out, &operation.path)?;
        write!(out, " ")?;
        value(out, operation.known(answered))?;
        write!(out, "]]")
    })
}

/// A call on one object, as a register has them.
struct Operation {
    call: usize,
    path: String,
    writes: bool,
    /// Nothing if `None`.
    value: Option<String>,
    ended: Ended,
}

/// How an operation ended: done, certainly not done, or nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Ok,
    Fail,
    Info,
}

impl Operation {
    /// What is known of its value when it is invoked, or answered.
    fn known(&self, answered: bool) -> Option<&str> {
        match self.writes || answered {
            true => self.value.as_deref(),
            false => None,
        }
    }
}

fn operations(experiment: &Experiment, weaker: bool) -> Vec<Operation> {
    // What was not done is read as if it might have been, to know what it would have changed.
    let mut tried = experiment.clone();
    for call in &mut tried.calls {
        if let Outcome::NotDone(why) = &call.outcome {
            call.outcome = Outcome::Unknown(why.clone());
        }
    }
    let model = Model::of(&tried);
    let mut operations = Vec::new();
    for (object, history) in &model.objects {
        let path = object.path();
        operations.extend(beginning(&tried, object, history, &path));
        for op in &history.ops {
            let writes = !op.does.only_reads();
            if op.weak && !weaker || op.open && !writes {
                continue;
            }
            if let Some(value) = register_value(object, history, op) {
                operations.push(Operation {
                    call: op.call,
                    path: path.clone(),
                    writes,
                    value,
                    ended: match &experiment.calls[op.call] {
                        call if matches!(call.outcome, Outcome::NotDone(_)) => Ended::Fail,
                        call if op.open || call.end_us.is_none() => Ended::Info,
                        _ => Ended::Ok,
                    },
                });
            }
        }
    }
    operations.sort_by_key(|operation| operation.call);
    operations
}

/// What a call of CreateKey gave a register: the tools' registers begin with nothing.
fn beginning(
    experiment: &Experiment,
    object: &Object,
    history: &History,
    path: &str,
) -> Option<Operation> {
    let key = match &object.thing {
        Thing::Description(key) | Thing::Policy(key) | Thing::Tag(key, _) => key,
        Thing::Life(_) | Thing::Alias(_) | Thing::Grant(..) => return None,
    };
    let value = match &history.spec {
        Spec::Register {
            initial: NOTHING | FREE,
            ..
        }
        | Spec::Machine { .. } => return None,
        Spec::Register { initial, .. } => history.values[*initial as usize].clone(),
    };
    let call = experiment.calls.iter().position(|call| {
        call.operation == "CreateKey"
            && call.region == object.region
            && key_of(call).is_some_and(|made| made == *key)
    });
    Some(Operation {
        call: call?,
        path: path.to_owned(),
        writes: true,
        value: Some(value),
        ended: Ended::Ok,
    })
}

/// What an operation leaves, if it is a change, or what it found; `None` if that is not one value.
fn register_value(object: &Object, history: &History, op: &Op) -> Option<Option<String>> {
    let named = |shape: Shape| match shape {
        NOTHING | FREE => None,
        shape => Some(history.values[shape as usize].clone()),
    };
    match &op.does {
        Does::Finds(_, Some(sets)) => Some(named(*sets)),
        Does::Finds(Needs::Is(value), None) => Some(named(*value)),
        Does::Finds(Needs::Any | Needs::Not(_), None) => None,
        Does::Moves(relation) => {
            let states = match op.does.only_reads() {
                true => found(relation),
                false => relation.iter().fold(0, |all, to| all | to),
            };
            let name = match &object.thing {
                Thing::Grant(..) => facts::grant_state(states),
                _ => life::name(states),
            };
            name.map(|name| (name != "none").then(|| name.to_owned()))
        }
    }
}

/// The states that an operation can have found.
fn found(relation: &Relation) -> u16 {
    let states = relation.iter().enumerate();
    states.fold(0, |all, (state, to)| all | u16::from(*to != 0) << state)
}

/// Writes operations as the invocations and completions that they are.
fn write<W: Write>(
    experiment: &Experiment,
    operations: Vec<Operation>,
    out: &mut W,
    what: impl Fn(&mut W, &Operation, bool) -> io::Result<()>,
) -> io::Result<()> {
    let processes = processes(experiment, &operations);
    let mut events = Vec::new();
    for (nth, operation) in operations.iter().enumerate() {
        let call = &experiment.calls[operation.call];
        events.push((call.start_us, false, nth));
        let end_us = call
            .end_us
            .unwrap_or(experiment.ended_us.max(call.start_us));
        events.push((end_us, true, nth));
    }
    events.sort_unstable();
    for (index, (at_us, answered, nth)) in events.into_iter().enumerate() {
        let operation = &operations[nth];
        let kind = match answered {
            false => "invoke",
            true => match operation.ended {
                Ended::Ok => "ok",
                Ended::Fail => "fail",
                Ended::Info => "info",
            },
        };
        let process = processes[nth];
        write!(
            out,
            "{{:index {index}, :time {}, :type :{kind}, :process {process}, ",
            at_us * 1000
        )?;
        what(out, operation, answered)?;
        writeln!(out, "}}")?;
    }
    Ok(())
}

/// A process for each operation: one that is free, of the client that called.
fn processes(experiment: &Experiment, operations: &[Operation]) -> Vec<usize> {
    let clients = experiment.clients.len().max(1);
    // When each process of a client is free; never again if `None`.
    let mut free: BTreeMap<usize, Vec<Option<u64>>> = BTreeMap::new();
    let place = |operation: &Operation| {
        let call = &experiment.calls[operation.call];
        let until = call.end_us.filter(|_| operation.ended != Ended::Info);
        let theirs = free.entry(call.client).or_default();
        let first = theirs
            .iter()
            .position(|free| free.is_some_and(|free| free < call.start_us));
        let nth = first.unwrap_or(theirs.len());
        if nth == theirs.len() {
            theirs.push(None);
        }
        theirs[nth] = until;
        call.client + nth * clients
    };
    operations.iter().map(place).collect()
}

fn value(out: &mut impl Write, value: Option<&str>) -> io::Result<()> {
    match value {
        None => write!(out, "nil"),
        Some(value) => string(out, value),
    }
}

/// A string as EDN has it, with nothing in it that a reader could stumble over.
fn string(out: &mut impl Write, text: &str) -> io::Result<()> {
    write!(out, "\"")?;
    for c in text.chars() {
        match c {
            '"' => write!(out, "\\\"")?,
            '\\' => write!(out, "\\\\")?,
            '\n' => write!(out, "\\n")?,
            '\r' => write!(out, "\\r")?,
            '\t' => write!(out, "\\t")?,
            c if c.is_control() => write!(out, "\\u{:04x}", u32::from(c))?,
            c => write!(out, "{c}")?,
        }
    }
    write!(out, "\"")
}
