//! Identities in the language of the transcripts.
//!
//! `PutIdentity account 1`, `PutIdentity user 1:ada`, `PutIdentity role 1:ops`, `PutIdentity
//! session-key 1`; `id=`, `path=`, `tags=a:1`, `keys=ID,ID` (`-ID` for one that is inactive),
//! `policies=NAME,NAME`, `boundary`, `trust=none` for one that is no policy, `seconds=`, `alias=`,
//! `expect=`.

use std::collections::BTreeMap;

use keyrum_state::{
    AccessKey, AccessKeyOwner, Account, Identity, IdentityName, IdentityNews, IdentityRecord, Role,
    SessionKey, State, StoredPolicy, User,
};
use keyrum_types::{SealedMaterial, UnixMillis};

use crate::script::account;

/// Allows everything.
pub(crate) const POLICY: &str =
    r#"{"Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}"#;

/// Lets everybody in.
pub(crate) const TRUST: &str =
    r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]}"#;

/// The name in `user 1:ada`.
pub(crate) fn name(words: &[&str]) -> IdentityName {
    let owned = || {
        let (number, name) = words[1].split_once(':').unwrap();
        (account(number.parse().unwrap()), name.to_owned())
    };
    match words[0] {
        "account" => IdentityName::Account(account(words[1].parse().unwrap())),
        "user" => {
            let (account, name) = owned();
            IdentityName::User(account, name)
        }
        "role" => {
            let (account, name) = owned();
            IdentityName::Role(account, name)
        }
        "session-key" => IdentityName::SessionKey(words[1].parse().unwrap()),
        other => panic!("no such kind of identity: {other}"),
    }
}

fn secret(of: &str) -> SealedMaterial {
    SealedMaterial(of.as_bytes().into())
}

pub(crate) fn access_keys(ids: Option<&str>) -> Vec<AccessKey> {
    let ids = ids.unwrap_or_default().split(',');
    let key = |id: &str| AccessKey {
        id: id.trim_start_matches('-').to_owned(),
        secret: secret(id.trim_start_matches('-')),
        active: !id.starts_with('-'),
        created: UnixMillis(0),
    };
    ids.filter(|id| !id.is_empty()).map(key).collect()
}

fn policies(names: Option<&str>) -> BTreeMap<String, StoredPolicy> {
    let names = names.unwrap_or_default().split(',');
    let names = names.filter(|name| !name.is_empty());
    names
        .map(|name| match name.split_once(':') {
            Some((name, "none")) => (name.to_owned(), "none".into()),
            Some((name, "long")) => (name.to_owned(), format!("{POLICY:x<10300}").into()),
            _ => (name.to_owned(), POLICY.into()),
        })
        .collect()
}

/// The identity that a line describes.
pub(crate) fn identity(
    words: &[&str],
    option: &dyn Fn(&str) -> Option<String>,
    tags: Vec<(String, String)>,
) -> Identity {
    let keys = access_keys(option("keys").as_deref());
    let policies = policies(option("policies").as_deref());
    let boundary = words.contains(&"boundary").then(|| POLICY.into());
    let path = option("path").unwrap_or_else(|| "/".to_owned());
    let created = UnixMillis(0);
    match name(words) {
        IdentityName::Account(account) => Identity::Account(Account {
            account,
            alias: option("alias"),
            access_keys: keys,
            created,
        }),
        IdentityName::User(account, name) => Identity::User(User {
            account,
            path,
            id: option("id").unwrap_or_else(|| format!("AIDA{:A<16}", name.to_uppercase())),
            name,
            created,
            tags: tags.into_iter().collect(),
            policies,
            boundary,
            access_keys: keys,
        }),
        IdentityName::Role(account, name) => Identity::Role(Role {
            account,
            path,
            id: option("id").unwrap_or_else(|| format!("AROA{:A<16}", name.to_uppercase())),
            name,
            created,
            tags: tags.into_iter().collect(),
            trust: match option("trust").as_deref() {
                Some(text) => text.into(),
                None => TRUST.into(),
            },
            policies,
            boundary,
            session_seconds_max: option("seconds").map_or(3600, |text| text.parse().unwrap()),
        }),
        IdentityName::SessionKey(version) => Identity::SessionKey(SessionKey {
            version,
            secret: secret(&option("secret").unwrap_or_else(|| "key".to_owned())),
            created,
        }),
    }
}

fn keys_text(keys: &[AccessKey]) -> String {
    let key = |key: &AccessKey| {
        let mark = if key.active { "" } else { "-" };
        // Before it may stand what it is sealed under.
        let own = key.secret.0.ends_with(key.id.as_bytes());
        assert!(own, "a secret under another's id");
        format!("{mark}{}@{}", key.id, key.created)
    };
    match keys {
        [] => String::new(),
        keys => format!(
            " keys=[{}]",
            keys.iter().map(key).collect::<Vec<_>>().join(", ")
        ),
    }
}

pub(crate) fn identity_text(identity: &Identity) -> String {
    let mut text = identity.name().to_string();
    let rest = |path: &str, id: &str, created: UnixMillis, tags: &BTreeMap<String, String>| {
        let mut text = format!(" {id} path={path} created={created}");
        if !tags.is_empty() {
            text += &format!(" tags={tags:?}");
        }
        text
    };
    let named = |policies: &BTreeMap<String, StoredPolicy>, boundary: &Option<StoredPolicy>| {
        let names: Vec<_> = policies.keys().map(String::as_str).collect();
        let mut text = String::new();
        if !names.is_empty() {
            text += &format!(" policies=[{}]", names.join(", "));
        }
        if boundary.is_some() {
            text += " boundary";
        }
        text
    };
    match identity {
        Identity::Account(account) => {
            text += &format!(" created={}", account.created);
            if let Some(alias) = &account.alias {
                text += &format!(" alias={alias}");
            }
        }
        Identity::User(user) => {
            text += &rest(&user.path, &user.id, user.created, &user.tags);
            text += &named(&user.policies, &user.boundary);
        }
        Identity::Role(role) => {
            text += &rest(&role.path, &role.id, role.created, &role.tags);
            text += &named(&role.policies, &role.boundary);
            text += &format!(" sessions={}s", role.session_seconds_max);
        }
        Identity::SessionKey(key) => text += &format!(" created={}", key.created),
    }
    text + &keys_text(identity.access_keys())
}

pub(crate) fn record_text(record: &IdentityRecord) -> String {
    format!("{}: {}", record.revision, identity_text(&record.identity))
}

pub(crate) fn news_text(news: &IdentityNews) -> String {
    match &news.identity {
        Some(identity) => format!("{}: {}", news.revision, identity_text(identity)),
        None => format!("{}: {} is gone", news.revision, news.name),
    }
}

/// What `show identities`, `show access-key ID` and `show principal NAME` answer.
pub(crate) fn show(state: &State, words: &[&str]) -> Option<Vec<String>> {
    Some(match words[0] {
        "identities" => {
            let mut lines: Vec<_> = state
                .identities()
                .map(|record| record_text(record))
                .collect();
            if let Some(book) = state.identity_book() {
                let told: Vec<_> = book.told.iter().map(|region| region.as_str()).collect();
                lines.push(format!(
                    "changed in {}, {} changes, told: [{}]",
                    book.home,
                    book.revision,
                    told.join(", ")
                ));
            }
            lines
        }
        "access-key" => vec![match state.access_key(words[1]) {
            None => "unknown".to_owned(),
            Some((key, owner, revision)) => {
                let owner = match owner {
                    AccessKeyOwner::Root(account) => format!("root of {}", account.account),
                    AccessKeyOwner::User(user) => user.arn("aws"),
                };
                let status = if key.active { "active" } else { "inactive" };
                format!("{status}, of {owner}, change {revision}")
            }
        }],
        "principal" => vec![match state.principal_exists(words[1]) {
            true => "exists".to_owned(),
            false => "does not exist".to_owned(),
        }],
        _ => return None,
    })
}
