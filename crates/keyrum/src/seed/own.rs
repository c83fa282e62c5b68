//! Keyrum's own form of a fixture.

use std::collections::BTreeMap;

use keyrum_types::KeySpec;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::material::Given;
use super::{Entry, Problem, yaml};

// Without Debug: they hold material.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    keys: Vec<Spanned<Key>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    id: String,
    region: Option<String>,
    account: Option<String>,
    spec: Option<String>,
    usage: Option<String>,
    origin: Option<String>,
    #[serde(default)]
    description: String,
    policy: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    /// Oldest first.
    #[serde(default)]
    material: Vec<Material>,
    rotation: Option<Rotation>,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    replicas: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Material {
    hex: Option<String>,
    base64: Option<String>,
    pem: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation {
    days: Option<i64>,
    next: Option<String>,
}

pub(super) fn entries(text: &str) -> Result<Vec<Entry>, Problem> {
    let file: File = yaml(text)?;
    file.keys.into_iter().map(entry).collect()
}

fn entry(key: Spanned<Key>) -> Result<Entry, Problem> {
    let line = key.referenced.line();
    let key = key.value;
    let given = |material: Material| match (material.hex, material.base64, material.pem) {
        (Some(text), None, None) => Ok(Given::Hex(text)),
        (None, Some(text), None) => Ok(Given::Base64(text)),
        (None, None, Some(text)) => Ok(Given::Pem(text)),
        _ => Err(Problem(
            line,
            format!(
                "key {}: each `material` has one of `hex`, `base64` and `pem`",
                key.id
            ),
        )),
    };
    Ok(Entry {
        line,
        material: key
            .material
            .into_iter()
            .map(given)
            .collect::<Result<_, _>>()?,
        id: key.id,
        region: key.region,
        account: key.account,
        spec: key.spec,
        usage: key.usage,
        origin: key.origin,
        description: key.description,
        policy: key.policy,
        tags: key.tags.into_iter().collect(),
        kinds: &[KeySpec::SymmetricDefault],
        rotation: key.rotation.map(|set| (set.days, set.next)),
        aliases: key.aliases,
        replicas: key.replicas,
    })
}

/// A message of the parser without the place, which ours has already.
pub(super) fn without_place(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    first.split(" at line ").next().unwrap_or(first).to_owned()
}
