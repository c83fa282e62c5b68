//! What of the service model has taken part in calls.
//!
//! A member of a request counts once a call that has it succeeded and its answer, or what was looked
//! up afterwards, differs from that of the same call with another value or without it (`vary`). A
//! member of an answer counts once it had two values, absent being one. Structures that several
//! operations share count once for requests and once for answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::LazyLock;

use serde_json::Value;

use crate::kms::{Answer, Kms, Refused};

static MODEL: LazyLock<Value> = LazyLock::new(|| {
    let text = include_bytes!("../../crates/server/model/kms-service-model.json");
    serde_json::from_slice(text).expect("the model is JSON")
});

/// Whether something is asked or answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    In,
    Out,
}

/// A part of the model that a call can show to work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Point {
    /// An operation succeeds.
    Operation(String),
    /// An operation fails in this way.
    Error(String, String),
    /// A structure has this member.
    Member(Way, String, String),
    /// An enumeration has this value.
    Value(Way, String, String),
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = |way: &Way| match way {
            Way::In => "asked",
            Way::Out => "answered",
        };
        match self {
            Self::Operation(name) => f.write_str(name),
            Self::Error(operation, code) => write!(f, "{operation} fails with {code}"),
            Self::Member(at, shape, name) => write!(f, "{shape}.{name} {}", way(at)),
            Self::Value(at, shape, value) => write!(f, "{shape} {value} {}", way(at)),
        }
    }
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    points: BTreeSet<Point>,
    /// Values of members of answers, two at most of each; empty for absent.
    values: BTreeMap<(String, String), BTreeSet<String>>,
    /// Values of requests that were refused where another value of the member was not.
    refused: BTreeSet<Point>,
    /// What answers have that the model has not, or has otherwise.
    pub(crate) strange: BTreeSet<String>,
}

fn shape(name: &str) -> &'static Value {
    &MODEL["shapes"][name]
}

fn named(value: &Value) -> &str {
    value.as_str().expect("the model names its shapes")
}

fn texts(list: &'static Value) -> impl Iterator<Item = &'static str> {
    list.as_array().into_iter().flatten().map(named)
}

fn members(shape: &'static Value) -> impl Iterator<Item = (&'static String, &'static str)> {
    let members = shape["members"].as_object().into_iter().flatten();
    members.map(|(name, member)| (name, named(&member["shape"])))
}

/// The shape of an operation's request or answer.
fn top(operation: &str, way: Way) -> Option<&'static str> {
    let side = match way {
        Way::In => "input",
        Way::Out => "output",
    };
    MODEL["operations"][operation][side]["shape"].as_str()
}

/// The names of all operations.
pub(crate) fn operations() -> impl Iterator<Item = &'static str> {
    let all = MODEL["operations"].as_object().into_iter().flatten();
    all.map(|(name, _)| name.as_str())
}

/// The errors that the model gives an operation.
pub(crate) fn errors(operation: &str) -> impl Iterator<Item = &'static str> {
    let errors = MODEL["operations"][operation]["errors"].as_array();
    errors
        .into_iter()
        .flatten()
        .map(|error| named(&error["shape"]))
}

/// Everything that can be seen of these operations.
pub(crate) fn all_points<'o>(operations: impl Iterator<Item = &'o str>) -> BTreeSet<Point> {
    let mut points = BTreeSet::new();
    for operation in operations {
        points.insert(Point::Operation(operation.to_owned()));
        points.extend(
            errors(operation).map(|code| Point::Error(operation.to_owned(), code.to_owned())),
        );
        for way in [Way::In, Way::Out] {
            if let Some(name) = top(operation, way) {
                below(way, name, &mut points);
            }
        }
    }
    points
}

fn below(way: Way, name: &str, points: &mut BTreeSet<Point>) {
    let of = shape(name);
    for value in texts(&of["enum"]) {
        points.insert(Point::Value(way, name.to_owned(), value.to_owned()));
    }
    for (member, inner) in members(of) {
        points.insert(Point::Member(way, name.to_owned(), member.clone()));
        below(way, inner, points);
    }
    for inner in [&of["member"], &of["value"]] {
        if let Some(inner) = inner["shape"].as_str() {
            below(way, inner, points);
        }
    }
}

/// The members on the way to what a pointer leads to in a request, and that one's shape.
fn way_to(operation: &str, pointer: &str) -> (Vec<Point>, &'static str) {
    let mut name = top(operation, Way::In).expect("an operation with a request");
    let mut passed = Vec::new();
    for part in pointer.split('/').skip(1) {
        let of = shape(name);
        name = match named(&of["type"]) {
            "structure" => {
                let inner = of["members"][part]["shape"].as_str();
                passed.push(Point::Member(Way::In, name.to_owned(), part.to_owned()));
                inner.unwrap_or_else(|| panic!("{operation} has no {part} in {name}"))
            }
            "list" => named(&of["member"]["shape"]),
            _ => named(&of["value"]["shape"]),
        };
    }
    (passed, name)
}

impl Seen {
    /// Whether a point was seen.
    pub(crate) fn has(&self, point: &Point) -> bool {
        match point {
            Point::Member(Way::Out, shape, name) => self
                .values
                .get(&(shape.clone(), name.clone()))
                .is_some_and(|values| values.len() > 1),
            point => self.points.contains(point),
        }
    }

    /// Whether a request was refused for this value and would have succeeded with another.
    pub(crate) fn refused(&self, point: &Point) -> bool {
        self.refused.contains(point)
    }

    /// The one value that an answer's member always had.
    pub(crate) fn only_value(&self, shape: &str, member: &str) -> Option<&str> {
        let values = self.values.get(&(shape.to_owned(), member.to_owned()))?;
        let mut values = values.iter();
        let first = values.next()?;
        values.next().is_none().then_some(first)
    }

    pub(crate) fn answered(&mut self, operation: &str, answer: &Answer) {
        match answer {
            Ok(body) => {
                self.points.insert(Point::Operation(operation.to_owned()));
                match top(operation, Way::Out) {
                    Some(name) => self.show(name, body),
                    None if body.is_null() => {}
                    None => _ = self.strange.insert(format!("{operation} answers {body}")),
                }
            }
            Err(refused) => {
                let code = refused.code.clone();
                self.points.insert(Point::Error(operation.to_owned(), code));
            }
        }
    }

    fn show(&mut self, name: &str, value: &Value) {
        let of = shape(name);
        let right = match named(&of["type"]) {
            "structure" | "map" => value.is_object(),
            "list" => value.is_array(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64(),
            "timestamp" => value.is_number(),
            _ => value.is_string(),
        };
        if !right {
            self.strange.insert(format!("{name} {value}"));
            return;
        }
        if of["enum"].is_array() {
            let text = named(value).to_owned();
            if !texts(&of["enum"]).any(|known| known == text) {
                self.strange.insert(format!("{name} {text}"));
            }
            self.points
                .insert(Point::Value(Way::Out, name.to_owned(), text));
        }
        for (member, inner) in members(of) {
            let found = value.get(member);
            let shown = found.map(Value::to_string).unwrap_or_default();
            let at = (name.to_owned(), member.clone());
            let values = self.values.entry(at).or_default();
            if values.len() < 2 {
                values.insert(shown);
            }
            if let Some(found) = found {
                self.show(inner, found);
            }
        }
        if named(&of["type"]) == "structure" {
            for other in value.as_object().into_iter().flatten() {
                if of["members"].get(other.0).is_none() {
                    self.strange.insert(format!("{name}.{}", other.0));
                }
            }
        }
        if let Some(inner) = of["member"]["shape"].as_str() {
            for item in value.as_array().into_iter().flatten() {
                self.show(inner, item);
            }
        }
    }

    /// A request with this value of a member succeeded, and it mattered.
    fn mattered(&mut self, operation: &str, pointer: &str, value: &Value) {
        let (members, name) = way_to(operation, pointer);
        self.points.extend(members);
        self.values_in(name, value);
    }

    /// A request was refused for this value of a member.
    fn was_refused(&mut self, operation: &str, pointer: &str, value: &Value) {
        let (_, name) = way_to(operation, pointer);
        if let Some(value) = value.as_str() {
            let point = Point::Value(Way::In, name.to_owned(), value.to_owned());
            self.refused.insert(point);
        }
    }

    /// The enumerations' values in a request's member.
    fn values_in(&mut self, name: &str, value: &Value) {
        let of = shape(name);
        if let (Some(text), true) = (value.as_str(), of["enum"].is_array()) {
            let point = Point::Value(Way::In, name.to_owned(), text.to_owned());
            self.points.insert(point);
        }
        if let Some(inner) = of["member"]["shape"].as_str() {
            for item in value.as_array().into_iter().flatten() {
                self.values_in(inner, item);
            }
        }
    }
}

/// Sets or, for null, takes away what a pointer leads to. Objects on the way are made.
fn put(body: &mut Value, pointer: &str, value: &Value) {
    let (above, last) = pointer.rsplit_once('/').expect("a pointer");
    for (at, _) in above.match_indices('/') {
        let inner = &above[..at];
        if !inner.is_empty() && body.pointer(inner).is_none() {
            put(body, inner, &serde_json::json!({}));
        }
    }
    if !above.is_empty() && body.pointer(above).is_none() {
        put(body, above, &serde_json::json!({}));
    }
    let holder = body.pointer_mut(above).expect("made above");
    match (holder, value) {
        (Value::Object(members), Value::Null) => _ = members.remove(last),
        (Value::Object(members), value) => _ = members.insert(last.to_owned(), value.clone()),
        (Value::Array(items), value) => {
            items[last.parse::<usize>().expect("an index")] = value.clone();
        }
        (other, _) => panic!("{pointer} leads into {other}"),
    }
}

impl Kms {
    /// Sends a request once with each value of one member, null for without it. What `look` makes of
    /// each success must differ from all others, and there must be something to differ from: so the
    /// answer depends on the member. At least one that has it must succeed. Gives the answers.
    pub(crate) async fn vary(
        &self,
        operation: &str,
        base: &Value,
        pointer: &str,
        values: &[Value],
        look: impl AsyncFnMut(&Value) -> Value,
    ) -> Vec<Answer> {
        let make = async || base.clone();
        self.vary_anew(operation, make, pointer, values, look).await
    }

    /// The same with a request made anew for each value.
    pub(crate) async fn vary_anew(
        &self,
        operation: &str,
        mut make: impl AsyncFnMut() -> Value,
        pointer: &str,
        values: &[Value],
        mut look: impl AsyncFnMut(&Value) -> Value,
    ) -> Vec<Answer> {
        let mut looks: Vec<Result<Value, _>> = Vec::new();
        let mut answers = Vec::new();
        for value in values {
            let mut body = make().await;
            put(&mut body, pointer, value);
            let answer = self.ask(operation, &body).await;
            let seen = match &answer {
                Ok(answer) => Ok(look(answer).await),
                Err(refused) => Err(refused.clone()),
            };
            let twin = looks
                .iter()
                .position(|other| *other == seen && seen.is_ok());
            assert!(
                twin.is_none(),
                "{operation}: the answer does not depend on {pointer}: {value} as {twin:?}: {seen:?}"
            );
            looks.push(seen);
            answers.push(answer);
        }
        assert!(looks.len() > 1, "{operation} {pointer}: nothing to compare");
        let good = values.iter().zip(&looks);
        // A dry run that would succeed always answers so.
        let works = |seen: &Result<Value, Refused>| match seen {
            Ok(_) => true,
            Err(refused) => refused.code == "DryRunOperationException",
        };
        let (good, bad): (Vec<_>, Vec<_>) = good
            .filter(|(value, _)| !value.is_null())
            .partition(|(_, seen)| works(seen));
        assert!(!good.is_empty(), "{operation} {pointer}: {looks:?}");
        let mut seen = self.seen.lock().expect("no test panics while it holds it");
        for (value, _) in good {
            seen.mattered(operation, pointer, value);
        }
        for (value, _) in bad {
            seen.was_refused(operation, pointer, value);
        }
        drop(seen);
        answers
    }
}
