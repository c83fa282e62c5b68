//! What was certainly there, and what certainly was not, during a span of time.

use std::collections::{BTreeMap, BTreeSet};

use super::model::names::{is_whole, key_in, key_of, text};
use crate::experiment::{Call, Experiment, Outcome};

/// A list that calls show page by page.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum List {
    Keys,
    Aliases,
    /// Of this key.
    Grants(String),
}

/// When something was made or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    call: usize,
    start_us: u64,
    /// If it was acknowledged.
    end_us: Option<u64>,
    /// Whether it may come true later than its call ends: a key is deleted after a wait.
    lingers: bool,
}

/// The makings and ends of one thing.
#[derive(Debug, Clone, Default)]
pub(super) struct Existence {
    made: Vec<Change>,
    ended: Vec<Change>,
    /// Only the calls in `made` can make it: its name is drawn by the first.
    only_made_here: bool,
}

impl Existence {
    /// The acknowledged call that made something that was there from `from` to `until`; `None` unless
    /// that is certain.
    pub(super) fn surely_there(&self, from: u64, until: u64) -> Option<usize> {
        let before = self
            .made
            .iter()
            .filter(|made| made.end_us.is_some_and(|end| end < from));
        let mut before = before.filter(|made| {
            let mut ended = self.ended.iter();
            ended.all(|ended| {
                let over = ended.end_us.is_some_and(|end| end < made.start_us) && !ended.lingers;
                over || ended.start_us > until
            })
        });
        before.next().map(|made| made.call)
    }

    /// Whether it was certainly not there from `from` to `until`.
    pub(super) fn surely_missing(&self, from: u64, until: u64) -> bool {
        let late = |made: &Change| made.start_us > until;
        if self.only_made_here && self.made.iter().all(late) {
            return true;
        }
        let mut sure = self.ended.iter().filter(|ended| !ended.lingers);
        sure.any(|ended| {
            ended.end_us.is_some_and(|end| end < from)
                && self
                    .made
                    .iter()
                    .all(|made| late(made) || made.end_us.is_some_and(|end| end < ended.start_us))
        })
    }
}

/// Everything that lists show.
#[derive(Default)]
pub(super) struct Everything(BTreeMap<(String, List), BTreeMap<String, Existence>>);

impl Everything {
    pub(super) fn of(experiment: &Experiment) -> Self {
        let mut everything = Self::default();
        for (number, call) in experiment.calls.iter().enumerate() {
            everything.note(number, call);
        }
        everything.end_with_their_keys(experiment);
        everything
    }

    /// What a list has had.
    pub(super) fn in_list(
        &self,
        region: &str,
        list: &List,
    ) -> impl Iterator<Item = (&String, &Existence)> {
        let had = self.0.get(&(region.to_owned(), list.clone()));
        had.into_iter().flatten()
    }

    fn item(&mut self, call: &Call, list: List, name: &str) -> &mut Existence {
        let list = self.0.entry((call.region.clone(), list)).or_default();
        list.entry(name.to_owned()).or_default()
    }

    fn note(&mut self, number: usize, call: &Call) {
        let (answer, end_us) = match &call.outcome {
            Outcome::Done(answer) => (Some(answer), call.end_us),
            Outcome::Unknown(_) => (None, None),
            Outcome::Refused { .. } | Outcome::NotDone(_) => return,
        };
        let change = Change {
            call: number,
            start_us: call.start_us,
            end_us,
            lingers: false,
        };
        let key = key_of(call);
        let alias = text(&call.input, "AliasName");
        match (call.operation.as_str(), key, alias) {
            ("CreateKey", Some(key), _) => {
                let item = self.item(call, List::Keys, &key);
                item.made.push(change);
                // A member of a family may come to be here without a call.
                item.only_made_here = !key.starts_with("mrk-");
            }
            ("ScheduleKeyDeletion", Some(key), _) => {
                let lingers = Change {
                    lingers: true,
                    ..change
                };
                self.item(call, List::Keys, &key).ended.push(lingers);
            }
            ("CreateAlias", _, Some(alias)) => {
                self.item(call, List::Aliases, alias).made.push(change)
            }
            ("DeleteAlias", _, Some(alias)) => {
                self.item(call, List::Aliases, alias).ended.push(change)
            }
            ("CreateGrant", Some(key), _) => {
                if let Some(id) = answer.and_then(|answer| text(answer, "GrantId")) {
                    let item = self.item(call, List::Grants(key), id);
                    item.made.push(change);
                    item.only_made_here = true;
                }
            }
            ("RevokeGrant" | "RetireGrant", Some(key), _) => {
                if let Some(id) = text(&call.input, "GrantId") {
                    self.item(call, List::Grants(key), id).ended.push(change);
                }
            }
            _ => {}
        }
    }

    /// Aliases and grants go with their keys, and grants by tokens that are not followed here.
    fn end_with_their_keys(&mut self, experiment: &Experiment) {
        let mut deletions: BTreeMap<(&str, String), Vec<Change>> = BTreeMap::new();
        let mut by_token: BTreeSet<&str> = BTreeSet::new();
        for (number, call) in experiment.calls.iter().enumerate() {
            if matches!(call.outcome, Outcome::Refused { .. } | Outcome::NotDone(_)) {
                continue;
            }
            if call.operation == "RetireGrant" && text(&call.input, "GrantId").is_none() {
                by_token.insert(&call.region);
            }
            if call.operation == "ScheduleKeyDeletion"
                && let Some(key) = key_of(call)
            {
                let change = Change {
                    call: number,
                    start_us: call.start_us,
                    end_us: None,
                    lingers: true,
                };
                deletions
                    .entry((&call.region, key))
                    .or_default()
                    .push(change);
            }
        }
        let pointed = pointed(experiment);
        for ((region, list), items) in &mut self.0 {
            for (name, item) in items {
                match list {
                    List::Keys => {}
                    List::Grants(key) => {
                        let with = deletions.get(&(region.as_str(), key.clone()));
                        item.ended.extend(with.into_iter().flatten());
                        if by_token.contains(region.as_str()) {
                            let whenever = Change {
                                call: 0,
                                start_us: 0,
                                end_us: None,
                                lingers: true,
                            };
                            item.ended.push(whenever);
                        }
                    }
                    List::Aliases => {
                        let keys = pointed.get(&(region.clone(), name.clone()));
                        for key in keys.into_iter().flatten() {
                            let with = deletions.get(&(region.as_str(), key.clone()));
                            item.ended.extend(with.into_iter().flatten());
                        }
                    }
                }
            }
        }
    }
}

/// The keys that aliases may have pointed at.
fn pointed(experiment: &Experiment) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut pointed: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for call in &experiment.calls {
        let alias = text(&call.input, "AliasName");
        if let (Some(alias), Some(key)) = (alias, key_in(&call.input, "TargetKeyId", &call.region))
        {
            let place = (call.region.clone(), alias.to_owned());
            pointed.entry(place).or_default().insert(key);
        }
    }
    pointed
}

/// A list shown page by page, from its first page to its last.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    /// What is listed.
    pub(super) list: List,
    /// Where.
    pub(super) region: String,
    /// Whether all pages are newest, or may have been shown late.
    pub(super) strong: bool,
    /// The calls, in order.
    pub(super) pages: Vec<usize>,
    /// What was shown, in order.
    pub(super) shown: Vec<String>,
    /// Whether something narrowed the list.
    pub(super) filtered: bool,
}

/// All walks that came to their end.
pub(super) fn walks(experiment: &Experiment) -> Vec<Walk> {
    let calls = &experiment.calls;
    let mut under_way: BTreeMap<(usize, String, String), Walk> = BTreeMap::new();
    let mut over = Vec::new();
    for (number, call) in calls.iter().enumerate() {
        let Outcome::Done(answer) = &call.outcome else {
            continue;
        };
        let (list, items, name) = match call.operation.as_str() {
            "ListKeys" => (List::Keys, "Keys", "KeyId"),
            "ListAliases" => (List::Aliases, "Aliases", "AliasName"),
            "ListGrants" => match key_of(call) {
                Some(key) => (List::Grants(key), "Grants", "GrantId"),
                None => continue,
            },
            _ => continue,
        };
        let mut walk = match text(&call.input, "Marker") {
            None => Walk {
                list: list.clone(),
                region: call.region.clone(),
                strong: true,
                pages: Vec::new(),
                shown: Vec::new(),
                filtered: false,
            },
            Some(marker) => {
                let place = (call.client, call.region.clone(), marker.to_owned());
                match under_way.remove(&place) {
                    Some(walk) if walk.list == list && ended_before(calls, &walk, call) => walk,
                    _ => continue,
                }
            }
        };
        walk.pages.push(number);
        walk.strong &= !super::model::is_weak(call);
        walk.filtered |= match &walk.list {
            List::Keys => false,
            List::Aliases => text(&call.input, "KeyId").is_some(),
            List::Grants(_) => ["GrantId", "GranteePrincipal"]
                .iter()
                .any(|filter| text(&call.input, filter).is_some()),
        };
        let shown = super::model::names::items(answer, items).iter();
        let shown = shown.filter_map(|item| text(item, name));
        walk.shown.extend(shown.map(str::to_owned));
        match text(answer, "NextMarker").filter(|_| answer["Truncated"] == true) {
            Some(next) => {
                let place = (call.client, call.region.clone(), next.to_owned());
                under_way.insert(place, walk);
            }
            None if is_whole(call, answer) || walk.pages.len() > 1 => over.push(walk),
            None => {}
        }
    }
    over
}

fn ended_before(calls: &[Call], walk: &Walk, next: &Call) -> bool {
    let last = walk.pages.last().expect("a walk has a page");
    calls[*last].end_us.is_some_and(|end| end < next.start_us)
}
