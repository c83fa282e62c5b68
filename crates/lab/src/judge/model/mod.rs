//! The KMS API as objects: what each call finds and leaves in which of them.
//!
//! An object is a key's life, its description, its policy, one of its tags, an alias or a grant, each
//! in one Region: what a Region promises it promises by its own log. What the members of a
//! multi-Region key share follows by courier, in its own time, and is no object here. A call may
//! touch several objects. Each is judged for itself: a history is linearizable if it is for every
//! object (Herlihy and Wing, *Linearizability*, section 3.1).
//!
//! A refusal is a read of the state that refuses. A call with an unknown outcome took effect at any
//! time after it began, or never. One account is assumed to own all keys.

pub(super) mod facts;
pub(super) mod life;
pub(super) mod names;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::spec::{Does, FREE, NOTHING, Needs, Shape, Spec};
use crate::experiment::{Call, Experiment, Outcome};
use facts::Facts;
use names::{alias_used, is_whole, items, key_in, key_of, metadata, text};

/// Something that calls find and leave in a state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Object {
    /// Where it is.
    pub(super) region: String,
    /// What it is.
    pub(super) thing: Thing,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Thing {
    Life(String),
    Description(String),
    Policy(String),
    Tag(String, String),
    Alias(String),
    Grant(String, String),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.thing {
            Thing::Life(key) => write!(f, "the life of key {key}")?,
            Thing::Description(key) => write!(f, "the description of key {key}")?,
            Thing::Policy(key) => write!(f, "the policy of key {key}")?,
            Thing::Tag(key, tag) => write!(f, "tag {tag} of key {key}")?,
            Thing::Alias(alias) => f.write_str(alias)?,
            Thing::Grant(key, id) => write!(f, "grant {id} of key {key}")?,
        }
        write!(f, " in {}", self.region)
    }
}

impl Object {
    /// A name without blanks, for exports.
    pub(super) fn path(&self) -> String {
        let region = &self.region;
        match &self.thing {
            Thing::Life(key) => format!("{region}/key/{key}/state"),
            Thing::Description(key) => format!("{region}/key/{key}/description"),
            Thing::Policy(key) => format!("{region}/key/{key}/policy"),
            Thing::Tag(key, tag) => format!("{region}/key/{key}/tag/{tag}"),
            Thing::Alias(alias) => format!("{region}/{alias}"),
            Thing::Grant(key, id) => format!("{region}/key/{key}/grant/{id}"),
        }
    }
}

/// What a call found and left in an object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Op {
    /// The call's number.
    pub(super) call: usize,
    /// What it found and left.
    pub(super) does: Does,
    /// Whether it found it in a state that its node may have shown late: a read that was not asked to
    /// be linearizable.
    pub(super) weak: bool,
    /// Whether it may never have taken effect.
    pub(super) open: bool,
}

/// An object with everything that calls did to it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct History {
    pub(super) spec: Spec,
    /// In the order in which the calls began.
    pub(super) ops: Vec<Op>,
    /// What the numbers of a register's values stand for; the first is nothing.
    pub(super) values: Vec<String>,
}

impl History {
    fn new(spec: Spec) -> Self {
        Self {
            spec,
            ops: Vec::new(),
            values: vec![String::new()],
        }
    }

    /// The number that stands for a value.
    fn shape(&mut self, value: &str) -> Shape {
        let known = self.values[1..].iter().position(|other| other == value);
        let place = known.map_or(self.values.len(), |place| place + 1);
        if place == self.values.len() {
            self.values.push(value.to_owned());
        }
        Shape::try_from(place).expect("fewer values than calls")
    }
}

/// All objects of an experiment.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) objects: BTreeMap<Object, History>,
    /// Calls that say something of an object.
    pub(super) calls: usize,
    /// Operations that say nothing of any, and how many calls of each were done.
    pub(super) ignored: BTreeMap<String, usize>,
}

/// Whether a call may read what its node shows late.
pub(super) fn is_weak(call: &Call) -> bool {
    matches!(call.reads.as_deref(), Some("local" | "eventual"))
}

impl Model {
    /// Reads an experiment's calls.
    pub(super) fn of(experiment: &Experiment) -> Self {
        let facts = Facts::of(experiment);
        let mut model = Self::default();
        for (number, call) in experiment.calls.iter().enumerate() {
            let mut noter = Noter {
                model: &mut model,
                facts: &facts,
                call,
                number,
                touched: false,
            };
            noter.note();
            if noter.touched {
                model.calls += 1;
            } else if matches!(call.outcome, Outcome::Done(_)) {
                *model.ignored.entry(call.operation.clone()).or_default() += 1;
            }
        }
        model
    }

    /// How much it rests on, in words.
    pub(super) fn about(&self) -> String {
        let mut about = format!("{} calls on {} objects", self.calls, self.objects.len());
        if !self.ignored.is_empty() {
            let ignored: Vec<_> = self.ignored.iter().collect();
            let ignored: Vec<_> = ignored
                .iter()
                .map(|(kind, n)| format!("{n} {kind}"))
                .collect();
            about += &format!("; left out: {}", ignored.join(", "));
        }
        about
    }
}

/// Notes what one call says.
struct Noter<'m> {
    model: &'m mut Model,
    facts: &'m Facts,
    call: &'m Call,
    number: usize,
    touched: bool,
}

impl Noter<'_> {
    fn note(&mut self) {
        let call = self.call;
        match &call.outcome {
            Outcome::Done(answer) => {
                self.life(answer);
                self.writes();
                self.reads(answer);
            }
            Outcome::Refused { error, message } => self.refused(error, message),
            Outcome::Unknown(_) => {
                if life::changes(&call.operation) {
                    self.life(&Value::Null);
                }
                self.writes();
            }
            Outcome::NotDone(_) => {}
        }
    }

    fn op(&mut self, thing: Thing, does: impl FnOnce(&mut History) -> Does, weak: bool) {
        let open = matches!(self.call.outcome, Outcome::Unknown(_));
        let object = Object {
            region: self.call.region.clone(),
            thing,
        };
        if self.facts.is_open(&object) {
            return;
        }
        let facts = self.facts;
        let objects = &mut self.model.objects;
        let history = match objects.contains_key(&object) {
            true => objects.get_mut(&object).expect("it is there"),
            false => {
                let mut history = History::new(Spec::register(FREE));
                history.spec = facts.spec(&object, |value| history.shape(value));
                objects.entry(object).or_insert(history)
            }
        };
        let does = does(history);
        self.touched = true;
        let number = self.number;
        // A call that names a thing twice sees it once.
        if history.ops.last().is_none_or(|last| last.call != number) {
            history.ops.push(Op {
                call: number,
                does,
                weak,
                open,
            });
        }
    }

    fn set(
        &mut self,
        thing: Thing,
        needs: impl FnOnce(&mut History) -> Needs,
        value: Option<&str>,
    ) {
        let sets = |history: &mut History| {
            let needs = needs(history);
            let becomes = value.map_or(NOTHING, |value| history.shape(value));
            Does::Finds(needs, Some(becomes))
        };
        self.op(thing, sets, false);
    }

    /// A read of a register; of nothing if there is no value.
    fn see(&mut self, thing: Thing, value: Option<&str>) {
        let weak = is_weak(self.call);
        let sees = |history: &mut History| {
            Does::Finds(
                Needs::Is(value.map_or(NOTHING, |value| history.shape(value))),
                None,
            )
        };
        self.op(thing, sees, weak);
    }

    fn life(&mut self, answer: &Value) {
        let call = self.call;
        let operation = call.operation.as_str();
        let weak = is_weak(call);
        if weak && matches!(operation, "Decrypt" | "ReEncrypt") {
            // What a ciphertext names is looked up anew where a late view lacks it.
            return;
        }
        let Some(key) = key_of(call) else { return };
        let traits = self.facts.traits(&call.region, &key);
        let Some(does) = life::done(operation, answer, traits) else {
            return;
        };
        // The log decides on changes, whatever the node shows.
        let decided = operation == "CreateKey"
            || life::changes(operation)
            || facts::CHANGES.binary_search(&operation).is_ok();
        self.op(Thing::Life(key), |_| does, weak && !decided);
        let source = key_in(answer, "SourceKeyId", &call.region);
        if let Some(source) = source {
            let traits = self.facts.traits(&call.region, &source);
            if let Some(does) = life::done(operation, answer, traits) {
                self.op(Thing::Life(source), |_| does, weak);
            }
        }
    }

    /// What a change sets, done or perhaps done.
    fn writes(&mut self) {
        let call = self.call;
        let input = &call.input;
        let Some(key) = key_of(call) else {
            if call.operation == "DeleteAlias"
                && let Some(alias) = text(input, "AliasName")
            {
                let found = |_: &mut History| Needs::Not(NOTHING);
                self.set(Thing::Alias(alias.to_owned()), found, None);
            } else if call.operation == "RetireGrant" {
                self.retires();
            }
            return;
        };
        match call.operation.as_str() {
            "UpdateKeyDescription" => {
                let description = text(input, "Description");
                let thing = Thing::Description(key);
                self.set(thing, |_| Needs::Any, Some(description.unwrap_or_default()));
            }
            "PutKeyPolicy" => {
                if let Some(policy) = text(input, "Policy") {
                    let policy = names::policy(policy);
                    self.set(Thing::Policy(key), |_| Needs::Any, Some(&policy));
                }
            }
            "TagResource" => {
                for tag in items(input, "Tags") {
                    if let (Some(name), Some(value)) = (text(tag, "TagKey"), text(tag, "TagValue"))
                    {
                        let thing = Thing::Tag(key.clone(), name.to_owned());
                        self.set(thing, |_| Needs::Any, Some(value));
                    }
                }
            }
            "UntagResource" => {
                for name in items(input, "TagKeys").iter().filter_map(Value::as_str) {
                    let thing = Thing::Tag(key.clone(), name.to_owned());
                    self.set(thing, |_| Needs::Any, None);
                }
            }
            "CreateAlias" | "UpdateAlias" => {
                if let Some(alias) = text(input, "AliasName") {
                    let needs = match call.operation.as_str() {
                        "CreateAlias" => Needs::Is(NOTHING),
                        _ => Needs::Not(NOTHING),
                    };
                    self.set(Thing::Alias(alias.to_owned()), |_| needs, Some(&key));
                }
            }
            "CreateGrant" => {
                let Outcome::Done(answer) = &call.outcome else {
                    return;
                };
                if let Some(id) = text(answer, "GrantId") {
                    let named = text(input, "Name").is_some();
                    let does = facts::grant_created(named);
                    self.op(Thing::Grant(key, id.to_owned()), |_| does, false);
                }
            }
            "RevokeGrant" => {
                if let Some(id) = text(input, "GrantId") {
                    let does = facts::grant_revoked();
                    self.op(Thing::Grant(key, id.to_owned()), |_| does, false);
                }
            }
            "RetireGrant" => self.retires(),
            _ => {}
        }
    }

    fn retires(&mut self) {
        if let Some((key, id)) = self.facts.retired(self.call) {
            let does = facts::grant_retired();
            self.op(Thing::Grant(key, id), |_| does, false);
        }
    }

    /// What an answer shows.
    fn reads(&mut self, answer: &Value) {
        let call = self.call;
        if let (Some(alias), Some(key)) = (alias_used(call), key_of(call)) {
            self.see(Thing::Alias(alias), Some(&key));
        }
        match call.operation.as_str() {
            "DescribeKey" => {
                if let (Some(all), Some(key)) = (metadata(answer), key_of(call)) {
                    let description = text(all, "Description").unwrap_or_default();
                    self.see(Thing::Description(key), Some(description));
                }
            }
            "GetKeyPolicy" => {
                if let (Some(policy), Some(key)) = (text(answer, "Policy"), key_of(call)) {
                    self.see(Thing::Policy(key), Some(&names::policy(policy)));
                }
            }
            "ListResourceTags" => self.tags(answer),
            "ListAliases" => self.aliases(answer),
            "ListGrants" => self.grants(answer),
            "ListKeys" => self.keys(answer),
            _ => {}
        }
    }

    fn tags(&mut self, answer: &Value) {
        let Some(key) = key_of(self.call) else { return };
        let mut shown = BTreeMap::new();
        for tag in items(answer, "Tags") {
            if let (Some(name), Some(value)) = (text(tag, "TagKey"), text(tag, "TagValue")) {
                shown.insert(name, value);
            }
        }
        let whole = is_whole(self.call, answer);
        for name in self.facts.tags(&self.call.region, &key) {
            let value = shown.get(name.as_str()).copied();
            if whole || value.is_some() {
                self.see(Thing::Tag(key.clone(), name.clone()), value);
            }
        }
    }

    fn aliases(&mut self, answer: &Value) {
        let region = &self.call.region;
        let mut shown = BTreeMap::new();
        for alias in items(answer, "Aliases") {
            let target = key_in(alias, "TargetKeyId", region);
            if let (Some(name), Some(target)) = (text(alias, "AliasName"), target) {
                shown.insert(name, target);
            }
        }
        let whole = is_whole(self.call, answer);
        let of = key_in(&self.call.input, "KeyId", region);
        let filtered = text(&self.call.input, "KeyId").is_some();
        let weak = is_weak(self.call);
        for name in self.facts.aliases(region) {
            let thing = Thing::Alias(name.clone());
            match (shown.get(name.as_str()), &of) {
                (Some(target), _) => self.see(thing, Some(target)),
                (None, None) if whole && !filtered => self.see(thing, None),
                (None, Some(of)) if whole => {
                    let does =
                        |history: &mut History| Does::Finds(Needs::Not(history.shape(of)), None);
                    self.op(thing, does, weak);
                }
                _ => {}
            }
        }
    }

    fn grants(&mut self, answer: &Value) {
        let Some(key) = key_of(self.call) else { return };
        let weak = is_weak(self.call);
        let shown: Vec<&str> = items(answer, "Grants")
            .iter()
            .filter_map(|grant| text(grant, "GrantId"))
            .collect();
        let input = &self.call.input;
        let whole = is_whole(self.call, answer) && text(input, "GranteePrincipal").is_none();
        let only = text(input, "GrantId");
        for id in self.facts.grants(&self.call.region, &key) {
            let there = shown.contains(&id.as_str());
            if there || whole && only.is_none_or(|only| only == id) {
                let does = facts::grant_seen(there);
                self.op(Thing::Grant(key.clone(), id.clone()), |_| does, weak);
            }
        }
    }

    fn keys(&mut self, answer: &Value) {
        let weak = is_weak(self.call);
        let shown: Vec<&str> = items(answer, "Keys")
            .iter()
            .filter_map(|key| text(key, "KeyId"))
            .collect();
        let whole = is_whole(self.call, answer);
        for key in self.facts.keys(&self.call.region) {
            let there = shown.contains(&key.as_str());
            if there || whole {
                let states = if there { life::THERE } else { life::MISSING };
                self.op(Thing::Life(key.clone()), |_| Does::sees(states), weak);
            }
        }
    }

    fn refused(&mut self, error: &str, message: &str) {
        let call = self.call;
        let weak = is_weak(call);
        if weak && matches!(call.operation.as_str(), "Decrypt" | "ReEncrypt") {
            return;
        }
        if let Some(does) = life::refused(error, message) {
            // The refusal says which key's state it is; else it is the only one named.
            let named = names::arn_in(message);
            let key = match named {
                Some(_) => key_of(call).filter(|_| is_here(message, &call.region)),
                None => None,
            };
            if let Some(key) = key {
                self.op(Thing::Life(key), |_| does, weak);
            }
            return;
        }
        let alias = text(&call.input, "AliasName").map(str::to_owned);
        let alias = alias.or_else(|| alias_used(call));
        match error {
            "NotFoundException" if message.starts_with("Alias ") => {
                if let Some(alias) = alias {
                    self.see(Thing::Alias(alias), None);
                }
            }
            "AlreadyExistsException" if call.operation == "CreateAlias" => {
                if let Some(alias) = alias {
                    let does = |_: &mut History| Does::Finds(Needs::Not(NOTHING), None);
                    self.op(Thing::Alias(alias), does, weak);
                }
            }
            "NotFoundException" if message.starts_with("Grant ") => {
                let grant = text(&call.input, "GrantId").map(str::to_owned);
                if let (Some(key), Some(id)) = (key_of(call), grant) {
                    let does = facts::grant_seen(false);
                    self.op(Thing::Grant(key, id), |_| does, weak);
                }
            }
            _ => {}
        }
    }
}

fn is_here(message: &str, region: &str) -> bool {
    names::arn_in(message).is_some_and(|arn| names::named(arn, region).is_some())
}
