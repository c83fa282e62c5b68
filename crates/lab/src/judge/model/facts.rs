//! What a whole history says of its objects, gathered before its calls are read one by one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::spec::{Does, FREE, NOTHING, Shape, Spec};
use super::life::{self, Traits};
use super::names::{self, items, key_in, key_of, metadata, text};
use super::{Object, Thing};
use crate::experiment::{Call, Experiment, Outcome};

/// Changes that the log decides on beside those of a key's life, in alphabetical order.
pub(super) const CHANGES: [&str; 13] = [
    "CreateAlias",
    "CreateGrant",
    "DisableKeyRotation",
    "EnableKeyRotation",
    "PutKeyPolicy",
    "ReplicateKey",
    "RevokeGrant",
    "RotateKeyOnDemand",
    "TagResource",
    "UntagResource",
    "UpdateAlias",
    "UpdateKeyDescription",
    "UpdatePrimaryRegion",
];

const NO_GRANT: u16 = 1;
const GRANTED: u16 = 1 << 1;
const TAKEN_BACK: u16 = 1 << 2;

pub(super) fn grant_created(named: bool) -> Does {
    // Asked for once more under its name, a grant stays the one that it is.
    Does::moves(NO_GRANT | if named { GRANTED } else { 0 }, GRANTED)
}

pub(super) fn grant_revoked() -> Does {
    Does::moves(GRANTED, TAKEN_BACK)
}

pub(super) fn grant_retired() -> Does {
    Does::moves(GRANTED | TAKEN_BACK, TAKEN_BACK)
}

pub(super) fn grant_seen(there: bool) -> Does {
    Does::sees(if there {
        GRANTED
    } else {
        NO_GRANT | TAKEN_BACK
    })
}

/// The name of a grant's states, if they are one for who looks.
pub(in crate::judge) fn grant_state(states: u16) -> Option<&'static str> {
    match states {
        GRANTED => Some("granted"),
        _ if states & GRANTED == 0 => Some("none"),
        _ => None,
    }
}

/// A Region and the id of a key.
type Place = (String, String);

#[derive(Default)]
pub(super) struct Facts {
    /// Inputs of the calls of CreateKey that made keys.
    made: BTreeMap<Place, Value>,
    imported: BTreeSet<String>,
    custom: BTreeSet<String>,
    /// Keys whose deletion was asked for and may have come true.
    scheduled: BTreeSet<Place>,
    /// How often a member may have come to be in a Region.
    arrivals: BTreeMap<Place, usize>,
    tags: BTreeMap<Place, BTreeSet<String>>,
    grants: BTreeMap<Place, BTreeSet<String>>,
    /// Grants that the history shows the making of, and what their tokens name.
    granted: BTreeSet<String>,
    tokens: BTreeMap<String, (String, String)>,
    aliases: BTreeMap<String, BTreeSet<String>>,
    keys: BTreeMap<String, BTreeSet<String>>,
}

impl Facts {
    pub(super) fn of(experiment: &Experiment) -> Self {
        let mut facts = Self::default();
        for call in &experiment.calls {
            let happened = matches!(call.outcome, Outcome::Done(_) | Outcome::Unknown(_));
            if happened {
                facts.note(call);
            }
        }
        facts
    }

    fn note(&mut self, call: &Call) {
        let (region, input) = (&call.region, &call.input);
        let none = Value::Null;
        let answer = match &call.outcome {
            Outcome::Done(answer) => answer,
            _ => &none,
        };
        if let Some(alias) = text(input, "AliasName")
            .map(str::to_owned)
            .or_else(|| names::alias_used(call))
        {
            self.aliases
                .entry(region.clone())
                .or_default()
                .insert(alias);
        }
        for alias in items(answer, "Aliases") {
            if let Some(name) = text(alias, "AliasName") {
                self.aliases
                    .entry(region.clone())
                    .or_default()
                    .insert(name.to_owned());
            }
        }
        for key in items(answer, "Keys") {
            if let Some(id) = text(key, "KeyId") {
                self.keys
                    .entry(region.clone())
                    .or_default()
                    .insert(id.to_owned());
            }
        }
        let Some(key) = key_of(call) else { return };
        let place = (region.clone(), key.clone());
        self.keys
            .entry(region.clone())
            .or_default()
            .insert(key.clone());
        if let Some(all) = metadata(answer) {
            if text(all, "Origin") == Some("EXTERNAL")
                || text(all, "KeyState") == Some("PendingImport")
            {
                self.imported.insert(key.clone());
            }
            if text(all, "CustomKeyStoreId").is_some() {
                self.custom.insert(key.clone());
            }
        }
        let tags = items(input, "Tags").iter().chain(items(answer, "Tags"));
        let tags = tags.filter_map(|tag| text(tag, "TagKey"));
        let tags = tags.chain(items(input, "TagKeys").iter().filter_map(Value::as_str));
        // This one names a key's id when the key is made, and is not kept.
        let tags: Vec<String> = tags
            .filter(|tag| *tag != "_custom_id_")
            .map(str::to_owned)
            .collect();
        self.tags.entry(place.clone()).or_default().extend(tags);
        match call.operation.as_str() {
            "CreateKey" => {
                self.made.insert(place, input.clone());
            }
            "ImportKeyMaterial" | "DeleteImportedKeyMaterial" => {
                self.imported.insert(key);
            }
            "ScheduleKeyDeletion" => {
                self.scheduled.insert(place);
            }
            "ReplicateKey" => {
                if let Some(to) = text(input, "ReplicaRegion") {
                    *self.arrivals.entry((to.to_owned(), key)).or_default() += 1;
                }
            }
            "CreateGrant" => {
                if let Some(id) = text(answer, "GrantId") {
                    self.granted.insert(id.to_owned());
                    self.grants.entry(place).or_default().insert(id.to_owned());
                    if let Some(token) = text(answer, "GrantToken") {
                        self.tokens.insert(token.to_owned(), (key, id.to_owned()));
                    }
                }
            }
            "ListGrants" => {
                let shown = items(answer, "Grants").iter();
                let ids = shown.filter_map(|grant| text(grant, "GrantId"));
                self.grants
                    .entry(place)
                    .or_default()
                    .extend(ids.map(str::to_owned));
            }
            _ => {}
        }
    }

    pub(super) fn traits(&self, region: &str, key: &str) -> Traits {
        Traits {
            made_here: self.made.contains_key(&(region.to_owned(), key.to_owned())),
            multi_region: key.starts_with("mrk-"),
            imported: self.imported.contains(key),
            custom: self.custom.contains(key),
        }
    }

    /// Whether nothing can be said of an object: a member that came to be more than once began
    /// anew each time, at a moment that no call shows.
    pub(super) fn is_open(&self, object: &Object) -> bool {
        let key = match &object.thing {
            Thing::Description(key)
            | Thing::Policy(key)
            | Thing::Tag(key, _)
            | Thing::Grant(key, _) => key,
            Thing::Life(_) | Thing::Alias(_) => return false,
        };
        let place = (object.region.clone(), key.clone());
        let arrivals = self.arrivals.get(&place).copied().unwrap_or_default();
        arrivals + usize::from(self.made.contains_key(&place)) > 1
    }

    /// What an object is. `shape` gives the number of a register's value.
    pub(super) fn spec(&self, object: &Object, mut shape: impl FnMut(&str) -> Shape) -> Spec {
        let made = |key: &String| self.made.get(&(object.region.clone(), key.clone()));
        match &object.thing {
            Thing::Life(key) => life::spec(self.traits(&object.region, key)),
            Thing::Grant(key, id) => {
                let deleted = self
                    .scheduled
                    .contains(&(object.region.clone(), key.clone()));
                let steps = [(GRANTED, TAKEN_BACK), (NO_GRANT, GRANTED)];
                if self.granted.contains(id) {
                    Spec::machine(NO_GRANT, &steps[..usize::from(deleted)])
                } else {
                    let all = NO_GRANT | GRANTED | TAKEN_BACK;
                    Spec::machine(all, &steps[usize::from(!deleted)..])
                }
            }
            Thing::Alias(_) => {
                let deleted = self
                    .scheduled
                    .iter()
                    .filter(|(region, _)| *region == object.region);
                Spec::Register {
                    initial: FREE,
                    fading: deleted.map(|(_, key)| shape(key)).collect(),
                }
            }
            Thing::Description(key) => Spec::register(match made(key) {
                Some(input) => shape(text(input, "Description").unwrap_or_default()),
                None => FREE,
            }),
            Thing::Policy(key) => {
                let policy = made(key).and_then(|input| text(input, "Policy"));
                Spec::register(policy.map_or(FREE, |policy| shape(&names::policy(policy))))
            }
            Thing::Tag(key, name) => Spec::register(match made(key) {
                Some(input) => {
                    let mut tags = items(input, "Tags").iter();
                    let tag = tags.find(|tag| text(tag, "TagKey") == Some(name));
                    let value = tag.and_then(|tag| text(tag, "TagValue"));
                    value.map_or(NOTHING, shape)
                }
                None => FREE,
            }),
        }
    }

    /// The grant that a RetireGrant names.
    pub(super) fn retired(&self, call: &Call) -> Option<(String, String)> {
        if let Some(token) = text(&call.input, "GrantToken") {
            return self.tokens.get(token).cloned();
        }
        let key = key_in(&call.input, "KeyId", &call.region)?;
        Some((key, text(&call.input, "GrantId")?.to_owned()))
    }

    pub(super) fn tags(&self, region: &str, key: &str) -> impl Iterator<Item = &String> {
        let tags = self.tags.get(&(region.to_owned(), key.to_owned()));
        tags.into_iter().flatten()
    }

    pub(super) fn grants(&self, region: &str, key: &str) -> impl Iterator<Item = &String> {
        let grants = self.grants.get(&(region.to_owned(), key.to_owned()));
        grants.into_iter().flatten()
    }

    pub(super) fn aliases(&self, region: &str) -> impl Iterator<Item = &String> {
        self.aliases.get(region).into_iter().flatten()
    }

    pub(super) fn keys(&self, region: &str) -> impl Iterator<Item = &String> {
        self.keys.get(region).into_iter().flatten()
    }
}
