//! Fixtures of `keyrum dev --seed FILE`: keys, aliases and given material, in Keyrum's own form or in
//! local-kms'. Both are YAML; which one it is shows in `keys:` or `Keys:`.
//!
//! The whole file is read and checked before anything starts. Then all Regions are asked what differs,
//! and only if nothing does, what is absent is made.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use keyrum_service::{KeySeed, RotationSeed, SeedError, Service};
use keyrum_types::{
    AccountId, AliasName, KeyId, KeySpec, KeyUsage, Origin, Region, RotationDays, UnixMillis,
};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

mod local_kms;
mod material;
mod own;

/// A fixture, checked as far as that goes without a cluster.
pub(crate) struct Seeds {
    file: PathBuf,
    keys: Vec<Seeded>,
}

/// One key of it.
struct Seeded {
    line: u64,
    region: Region,
    seed: KeySeed,
}

/// Where a fixture's keys go unless it says otherwise.
pub(crate) struct Place<'a> {
    /// The cluster's Regions; the first is the usual one.
    pub(crate) regions: &'a [Region],
    /// The usual account.
    pub(crate) account: AccountId,
}

/// Why a fixture cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SeedsError {
    /// The file cannot be read.
    #[error("cannot read the seed file {} ({cause}); nothing was started", file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It says what cannot be.
    #[error("the seed file {}, {at}: {problem}; nothing was started: correct the file and start again", file.display())]
    Wrong {
        /// Which file.
        file: PathBuf,
        /// Where in it.
        at: At,
        /// What is wrong, without any material.
        problem: String,
    },
    /// Something else is there.
    #[error("the seed file {}, {at}: {problem}; nothing was changed: correct the file, or start with another data folder (--data, --ephemeral)", file.display())]
    Differs {
        /// Which file.
        file: PathBuf,
        /// Where in it.
        at: At,
        /// What.
        problem: String,
    },
    /// A key could not be made.
    #[error("the seed file {}, {at}: {cause}; what stands before it in the file is made and stays: correct the file if need be, and start again", file.display())]
    NotMade {
        /// Which file.
        file: PathBuf,
        /// Where in it.
        at: At,
        /// Why.
        cause: Box<SeedError>,
    },
}

/// A place in a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At(u64);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.0)
    }
}

/// What is wrong with a file, and on which line.
struct Problem(u64, String);

/// A key as either form has it.
struct Entry {
    line: u64,
    id: String,
    region: Option<String>,
    account: Option<String>,
    spec: Option<String>,
    usage: Option<String>,
    origin: Option<String>,
    description: String,
    policy: Option<String>,
    tags: Vec<(String, String)>,
    material: Vec<material::Given>,
    /// Kinds the material may have if there is no `spec`.
    kinds: &'static [KeySpec],
    rotation: Option<(Option<i64>, Option<String>)>,
    aliases: Vec<String>,
    replicas: Vec<String>,
}

/// Tells the forms apart.
#[derive(Deserialize)]
struct Outline {
    keys: Option<IgnoredAny>,
    #[serde(rename = "Keys")]
    foreign_keys: Option<IgnoredAny>,
    #[serde(rename = "Aliases")]
    foreign_aliases: Option<IgnoredAny>,
}

impl Seeds {
    /// Reads and checks a file.
    pub(crate) fn read(file: &Path, place: &Place<'_>) -> Result<Self, SeedsError> {
        let text = std::fs::read_to_string(file).map_err(|cause| SeedsError::Unreadable {
            file: file.to_owned(),
            cause,
        })?;
        match parse(&text, place) {
            Ok(keys) => Ok(Self {
                file: file.to_owned(),
                keys,
            }),
            Err(Problem(line, problem)) => Err(SeedsError::Wrong {
                file: file.to_owned(),
                at: At(line),
                problem,
            }),
        }
    }

    /// Makes what is absent, in each Region on one of its nodes; what to tell about it.
    pub(crate) async fn plant<'s>(
        &self,
        node_of: impl Fn(&Region) -> Option<&'s Service>,
    ) -> Result<String, SeedsError> {
        let with_nodes = || {
            self.keys.iter().map(|key| {
                let node = node_of(&key.region);
                (
                    key,
                    node.expect("its Region was looked up when it was read"),
                )
            })
        };
        for (key, node) in with_nodes() {
            let checked = node.check_seed(&key.seed).await;
            checked.map_err(|error| self.failed(key, error))?;
        }
        let mut made = 0;
        for (key, node) in with_nodes() {
            let seeded = node.seed(&key.seed).await;
            made += usize::from(seeded.map_err(|error| self.failed(key, error))?);
        }
        for (key, node) in with_nodes() {
            let replicated = node.seed_replicas(&key.seed).await;
            replicated.map_err(|error| self.failed(key, error))?;
        }
        let there = self.keys.len() - made;
        let file = self.file.display();
        Ok(format!(
            "keyrum: of the keys of {file}, {made} were made and {there} were there\n"
        ))
    }

    fn failed(&self, key: &Seeded, error: SeedError) -> SeedsError {
        let (file, at) = (self.file.clone(), At(key.line));
        match error {
            SeedError::Differs(problem) => SeedsError::Differs { file, at, problem },
            cause @ SeedError::Service(_) => SeedsError::NotMade {
                file,
                at,
                cause: cause.into(),
            },
        }
    }
}

/// YAML into a form. Messages have a line, and nothing of the text: it may be material.
fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let mut options = serde_saphyr::options! {};
    options.with_snippet = false;
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(1, |at| at.line());
        Problem(line, own::without_place(&error.to_string()))
    })
}

fn parse(text: &str, place: &Place<'_>) -> Result<Vec<Seeded>, Problem> {
    let outline: Outline = yaml(text)?;
    let foreign = outline.foreign_keys.is_some() || outline.foreign_aliases.is_some();
    let entries = match (outline.keys.is_some(), foreign) {
        (_, false) => own::entries(text)?,
        (false, true) => local_kms::entries(text)?,
        (true, true) => {
            return Err(Problem(
                1,
                "`keys` and `Keys` belong to two forms".to_owned(),
            ));
        }
    };
    let mut keys = Vec::new();
    let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
    for entry in entries {
        let line = entry.line;
        let key = seeded(entry, place)?;
        let name = key.seed.key;
        let regions = std::iter::once(&key.region).chain(&key.seed.replicas);
        for region in regions {
            if !ids.insert((region.clone(), name)) {
                let problem = format!("key {} is described twice for {region}", name.id);
                return Err(Problem(line, problem));
            }
        }
        for alias in &key.seed.aliases {
            if !names.insert((key.region.clone(), name.account, alias.clone())) {
                let problem = format!("{alias} names two keys in {}", key.region);
                return Err(Problem(line, problem));
            }
        }
        keys.push(key);
    }
    Ok(keys)
}

fn seeded(entry: Entry, place: &Place<'_>) -> Result<Seeded, Problem> {
    let line = entry.line;
    let id = &entry.id;
    let wrong = |field: &str, problem: &str| {
        Problem(line, format!("key {id}: the field `{field}` {problem}"))
    };
    let known = |field: &str, text: &str| {
        let found = place.regions.iter().find(|region| region.as_str() == text);
        let problem = format!("names {text}, which is not among --regions");
        found.cloned().ok_or_else(|| wrong(field, &problem))
    };
    let region = match &entry.region {
        None => place.regions[0].clone(),
        Some(text) => known("region", text)?,
    };
    let account = match &entry.account {
        None => place.account,
        Some(text) => {
            let account = text.parse();
            account.map_err(|_| wrong("account", "must have 12 digits, in quotes"))?
        }
    };
    let key_id: KeyId = id.parse().map_err(|_| {
        wrong(
            "id",
            "must be a UUID in lower case, or mrk- and 32 hexadecimal digits",
        )
    })?;
    let origin = match entry.origin.as_deref() {
        None => Origin::AwsKms,
        Some(text) => Origin::from_name(text)
            .filter(|origin| matches!(origin, Origin::AwsKms | Origin::External))
            .ok_or_else(|| wrong("origin", "must be AWS_KMS or EXTERNAL"))?,
    };
    let kinds = match entry.spec.as_deref() {
        None => entry.kinds.to_vec(),
        Some(text) => {
            let spec = KeySpec::from_name(text);
            vec![spec.ok_or_else(|| wrong("spec", &format!("cannot be {text}")))?]
        }
    };
    let partition = region.partition();
    let (spec, materials) = material::of_kinds(&kinds, partition, entry.material)
        .map_err(|problem| wrong("material", &problem))?;
    let usage = match entry.usage.as_deref() {
        None => *spec.usages().first().expect("every spec has a usage"),
        Some(text) => KeyUsage::from_name(text)
            .filter(|usage| spec.usages().contains(usage))
            .ok_or_else(|| wrong("usage", &format!("cannot be {text} of a {spec} key")))?,
    };
    if entry.usage.is_none() && spec.usages().len() > 1 {
        return Err(wrong(
            "usage",
            &format!("is needed: a {spec} key has several"),
        ));
    }
    let symmetric = spec == KeySpec::SymmetricDefault;
    if materials.len() > 1 && (!symmetric || origin == Origin::External) {
        let problem =
            "has several versions; only keys of spec SYMMETRIC_DEFAULT and origin AWS_KMS can";
        return Err(wrong("material", problem));
    }
    if entry.rotation.is_some() && (!symmetric || origin == Origin::External) {
        let problem = "is for keys of spec SYMMETRIC_DEFAULT and origin AWS_KMS";
        return Err(wrong("rotation", problem));
    }
    let rotation = entry.rotation.map(|(days, next)| {
        let period = days.map_or(Ok(RotationDays::DEFAULT), RotationDays::new);
        let period = period.map_err(|error| wrong("rotation", &format!("is wrong: {error}")))?;
        let date = |text: String| {
            let problem = format!("has {text}, which is no date such as 2027-01-31T12:00:00Z");
            date(&text).ok_or_else(|| wrong("rotation", &problem))
        };
        let next = next.map(date).transpose()?;
        Ok(RotationSeed { period, next })
    });
    let alias = |text: &String| {
        let name =
            AliasName::new(text).map_err(|error| wrong("aliases", &format!("has {text}: {error}")));
        name.and_then(|name| match name.is_aws_reserved() {
            true => Err(wrong("aliases", &format!("has {text}, which is AWS's"))),
            false => Ok(name),
        })
    };
    if !entry.replicas.is_empty() && !key_id.is_multi_region() {
        return Err(wrong("replicas", "is for keys whose id begins with mrk-"));
    }
    let replica = |text: &String| match text == region.as_str() {
        true => Err(wrong("replicas", "names the key's own Region")),
        false => known("replicas", text),
    };
    Ok(Seeded {
        line,
        seed: KeySeed {
            key: keyrum_state::KeyRef {
                account,
                id: key_id,
            },
            spec,
            usage,
            origin,
            materials,
            rotation: rotation.transpose()?,
            aliases: entry.aliases.iter().map(alias).collect::<Result<_, _>>()?,
            replicas: entry
                .replicas
                .iter()
                .map(replica)
                .collect::<Result<_, _>>()?,
            description: entry.description,
            policy: entry.policy,
            tags: entry.tags,
        },
        region,
    })
}

/// A date of RFC 3339, with any offset; also a day alone.
fn date(text: &str) -> Option<UnixMillis> {
    let (text, sign) = (text.trim(), ['+', '-']);
    if !text.contains(['T', 't', ' ']) {
        return date(&format!("{text}T00:00:00Z"));
    }
    let (local, offset_ms) = match text.get(11..)?.rfind(sign) {
        None => (text.trim_end_matches(['Z', 'z']), 0),
        Some(at) => {
            let (local, offset) = text.split_at(11 + at);
            let (hours, minutes) = offset[1..].split_once(':')?;
            let minutes = 60 * hours.parse::<i64>().ok()? + minutes.parse::<i64>().ok()?;
            let sign = if offset.starts_with('-') { -1 } else { 1 };
            (local, sign * minutes * 60_000)
        }
    };
    let time = humantime::parse_rfc3339_weak(local).ok()?;
    let since = time.duration_since(UNIX_EPOCH).ok()?.as_millis();
    let ms = i64::try_from(since).ok()?.checked_sub(offset_ms)?;
    Some(UnixMillis(ms.try_into().ok()?))
}

#[cfg(test)]
mod tests;
