//! The form of local-kms (github.com/nsmithuk/local-kms), all of its versions: kinds of keys in groups;
//! symmetric keys alone, as of before; and, with `Version: 2`, one list of keys that name their spec.
//!
//! Fields that it does not know it ignores, and so does this. Its files name no account and no Region.

use keyrum_types::KeySpec;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::material::Given;
use super::{Entry, Problem, yaml};

// Without Debug: they hold material.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Grouped {
    #[serde(default)]
    keys: Groups,
    #[serde(default)]
    aliases: Vec<Spanned<Alias>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    keys: Vec<Spanned<Key>>,
    #[serde(default)]
    aliases: Vec<Spanned<Alias>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Groups {
    symmetric: Symmetric,
    asymmetric: Asymmetric,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Symmetric {
    aes: Vec<Spanned<Key>>,
    hmac: Vec<Spanned<Key>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Asymmetric {
    rsa: Vec<Spanned<Key>>,
    ecc: Vec<Spanned<Key>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Key {
    /// Since version 2 it stands here.
    key_id: Option<String>,
    metadata: Metadata,
    #[serde(default)]
    backing_keys: Vec<String>,
    private_key_pem: Option<String>,
    material: Option<Material>,
    next_key_rotation: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    key_id: Option<String>,
    description: Option<String>,
    origin: Option<String>,
    key_usage: Option<String>,
    key_spec: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Material {
    #[serde(default)]
    backing_keys: Vec<String>,
    private_key_pem: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Alias {
    alias_name: String,
    target_key_id: String,
}

const AES: &[KeySpec] = &[KeySpec::SymmetricDefault];
const HMAC: &[KeySpec] = &[
    KeySpec::Hmac256,
    KeySpec::Hmac224,
    KeySpec::Hmac384,
    KeySpec::Hmac512,
];
const RSA: &[KeySpec] = &[KeySpec::Rsa2048, KeySpec::Rsa3072, KeySpec::Rsa4096];
const ECC: &[KeySpec] = &[
    KeySpec::EccNistP256,
    KeySpec::EccNistP384,
    KeySpec::EccNistP521,
    KeySpec::EccSecgP256k1,
    KeySpec::EccNistEdwards25519,
];

/// Tells a list from groups.
#[derive(Deserialize)]
#[serde(untagged)]
enum Shape {
    List(#[expect(dead_code, reason = "only the shape matters")] Vec<serde::de::IgnoredAny>),
    Groups(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Outline {
    keys: Option<Shape>,
}

pub(super) fn entries(text: &str) -> Result<Vec<Entry>, Problem> {
    let outline: Outline = yaml(text)?;
    let (groups, aliases) = match outline.keys {
        Some(Shape::List(_)) => {
            let file: Listed = yaml(text)?;
            (vec![(AES, file.keys)], file.aliases)
        }
        Some(Shape::Groups(_)) | None => {
            let Grouped { keys, aliases } = yaml(text)?;
            let (symmetric, asymmetric) = (keys.symmetric, keys.asymmetric);
            let groups = vec![
                (AES, symmetric.aes),
                (HMAC, symmetric.hmac),
                (RSA, asymmetric.rsa),
                (ECC, asymmetric.ecc),
            ];
            (groups, aliases)
        }
    };
    let mut entries = Vec::new();
    for (kinds, keys) in groups {
        for key in keys {
            entries.push(entry(key, kinds)?);
        }
    }
    for alias in aliases {
        let line = alias.referenced.line();
        let Alias {
            alias_name,
            target_key_id,
        } = alias.value;
        let key = entries.iter_mut().find(|entry| entry.id == target_key_id);
        let Some(key) = key else {
            let problem = format!("{alias_name}: no key {target_key_id} is in the file");
            return Err(Problem(line, problem));
        };
        key.aliases.push(alias_name);
    }
    Ok(entries)
}

fn entry(key: Spanned<Key>, kinds: &'static [KeySpec]) -> Result<Entry, Problem> {
    let line = key.referenced.line();
    let key = key.value;
    let id = key.key_id.or(key.metadata.key_id);
    let id = id.ok_or_else(|| Problem(line, "a key lacks the field `KeyId`".to_owned()))?;
    let material = key.material.unwrap_or(Material {
        backing_keys: key.backing_keys,
        private_key_pem: key.private_key_pem,
    });
    let versions = material.backing_keys.into_iter().map(Given::Hex);
    let material: Vec<_> = versions
        .chain(material.private_key_pem.map(Given::Pem))
        .collect();
    let external = key.metadata.origin.as_deref() == Some("EXTERNAL");
    if material.is_empty() && !external {
        let problem = format!("key {id} lacks the field `BackingKeys` or `PrivateKeyPem`");
        return Err(Problem(line, problem));
    }
    let mut usage = key.metadata.key_usage;
    if usage.is_none() && kinds == ECC {
        usage = Some("SIGN_VERIFY".to_owned());
    }
    Ok(Entry {
        line,
        id,
        region: None,
        account: None,
        spec: key.metadata.key_spec,
        usage,
        origin: key.metadata.origin,
        description: key.metadata.description.unwrap_or_default(),
        policy: None,
        tags: Vec::new(),
        material,
        kinds,
        rotation: key.next_key_rotation.map(|next| (None, Some(next))),
        aliases: Vec::new(),
        replicas: Vec::new(),
    })
}
