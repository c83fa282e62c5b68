//! Identities: declared accounts, their users and roles, and the keys that sessions are sealed with.
//!
//! They are global. One Region's log, the first one's, changes them ([`changes`]); the others take
//! what it tells them. A record travels whole, and a newer one replaces an older one that waits, so a
//! Region that was cut off for long is sent the newest of each and nothing else.
//!
//! Below [`crate::AUTHORIZATION_LEVEL`] there are none.

mod asker;
mod changes;
mod form;
mod index;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use keyrum_types::{AccountId, Region, SealedMaterial, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::StoredPolicy;

pub use asker::ResolvedCaller;
pub use changes::{
    ACCESS_KEYS_MAX, ACCOUNTS_MAX, DELETED_IDENTITIES_MAX, ROLES_PER_ACCOUNT_MAX, SESSION_KEYS_MAX,
    USERS_PER_ACCOUNT_MAX,
};
pub(crate) use changes::{delete, evolve, hear, put, share};
pub use form::{
    BOUNDARY_CHARS_MAX, POLICIES_CHARS_MAX, SESSION_SECONDS_MAX, SESSION_SECONDS_MIN,
    TRUST_CHARS_MAX,
};
pub use index::AccessKeyOwner;
pub(crate) use index::Identities;

/// What an identity is called. Two users, or two roles, of an account whose names differ in the case
/// of letters alone cannot both be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum IdentityName {
    /// A declared account, whose root it also is.
    Account(AccountId),
    /// A user, by account and name without the path.
    User(AccountId, String),
    /// A role, by account and name without the path.
    Role(AccountId, String),
    /// A version of the key that sessions are sealed with.
    SessionKey(u32),
}

impl IdentityName {
    /// The name that all spellings share.
    pub(crate) fn folded(&self) -> Self {
        match self {
            Self::User(account, name) => Self::User(*account, name.to_ascii_lowercase()),
            Self::Role(account, name) => Self::Role(*account, name.to_ascii_lowercase()),
            Self::Account(_) | Self::SessionKey(_) => self.clone(),
        }
    }

    /// Whose it is; `None` for a session key, which is nobody's.
    pub fn account(&self) -> Option<AccountId> {
        match self {
            Self::Account(account) | Self::User(account, _) | Self::Role(account, _) => {
                Some(*account)
            }
            Self::SessionKey(_) => None,
        }
    }
}

impl fmt::Display for IdentityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(account) => write!(f, "account {account}"),
            Self::User(account, name) => write!(f, "user {name} of account {account}"),
            Self::Role(account, name) => write!(f, "role {name} of account {account}"),
            Self::SessionKey(version) => write!(f, "session key {version}"),
        }
    }
}

/// One identity, whole.
///
/// Stored in logs and snapshots: variants keep their meaning and their place for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// A declared account.
    Account(Account),
    /// A user.
    User(User),
    /// A role.
    Role(Role),
    /// A version of the key that sessions are sealed with.
    SessionKey(SessionKey),
}

impl Identity {
    /// What it is called.
    pub fn name(&self) -> IdentityName {
        match self {
            Self::Account(account) => IdentityName::Account(account.account),
            Self::User(user) => IdentityName::User(user.account, user.name.clone()),
            Self::Role(role) => IdentityName::Role(role.account, role.name.clone()),
            Self::SessionKey(key) => IdentityName::SessionKey(key.version),
        }
    }

    /// Its access keys.
    pub fn access_keys(&self) -> &[AccessKey] {
        match self {
            Self::Account(account) => &account.access_keys,
            Self::User(user) => &user.access_keys,
            Self::Role(_) | Self::SessionKey(_) => &[],
        }
    }

    /// The id that tells it from a later one of the same name; only users and roles have one.
    pub fn unique_id(&self) -> Option<&str> {
        match self {
            Self::User(user) => Some(&user.id),
            Self::Role(role) => Some(&role.id),
            Self::Account(_) | Self::SessionKey(_) => None,
        }
    }

    /// Every sealed secret in it with what it is bound to.
    pub fn secrets_mut(&mut self) -> Vec<(String, &mut SealedMaterial)> {
        match self {
            Self::Account(Account {
                account,
                access_keys,
                ..
            })
            | Self::User(User {
                account,
                access_keys,
                ..
            }) => access_keys
                .iter_mut()
                .map(|key| (access_key_secret_name(*account, &key.id), &mut key.secret))
                .collect(),
            Self::Role(_) => Vec::new(),
            Self::SessionKey(key) => {
                vec![(session_key_secret_name(key.version), &mut key.secret)]
            }
        }
    }
}

/// What an access key's secret is bound to when it is sealed or wrapped.
pub fn access_key_secret_name(account: AccountId, id: &str) -> String {
    format!("access key {id} of account {account}")
}

/// What a session key is bound to when it is sealed or wrapped.
pub fn session_key_secret_name(version: u32) -> String {
    format!("session key {version}")
}

/// A declared account and its root.
///
/// Stored: the order and types of the fields are the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its number.
    pub account: AccountId,
    /// What people call it.
    pub alias: Option<String>,
    /// The root's.
    pub access_keys: Vec<AccessKey>,
    /// When it was declared, by the Region's clock. Filled in when it is put.
    pub created: UnixMillis,
}

/// A user.
///
/// Stored: the order and types of the fields are the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Whose.
    pub account: AccountId,
    /// `/`, or more with a slash at both ends.
    pub path: String,
    /// Without the path.
    pub name: String,
    /// Unique for good: `AIDA` and letters and digits.
    pub id: String,
    /// When it was made, by the Region's clock. Filled in when it is put.
    pub created: UnixMillis,
    /// At most 50.
    pub tags: BTreeMap<String, String>,
    /// Policies by name.
    pub policies: BTreeMap<String, StoredPolicy>,
    /// What it may do at most.
    pub boundary: Option<StoredPolicy>,
    /// At most [`ACCESS_KEYS_MAX`].
    pub access_keys: Vec<AccessKey>,
}

/// A role.
///
/// Stored: the order and types of the fields are the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Whose.
    pub account: AccountId,
    /// `/`, or more with a slash at both ends.
    pub path: String,
    /// Without the path.
    pub name: String,
    /// Unique for good: `AROA` and letters and digits.
    pub id: String,
    /// When it was made, by the Region's clock. Filled in when it is put.
    pub created: UnixMillis,
    /// At most 50.
    pub tags: BTreeMap<String, String>,
    /// Who may assume it.
    ///
    /// Deviation: the real service refuses one that names a user or role which does not exist, and
    /// keeps whom it names by unique id. Here a name in it means whoever has the name.
    pub trust: StoredPolicy,
    /// Policies by name.
    pub policies: BTreeMap<String, StoredPolicy>,
    /// What it may do at most.
    pub boundary: Option<StoredPolicy>,
    /// How long a session may be at most, in seconds: 3,600 to 43,200.
    pub session_seconds_max: u32,
}

/// An access key: what signs requests.
///
/// Stored: the order and types of the fields are the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    /// Names it in public, such as `AKIA...`.
    pub id: String,
    /// Its secret, sealed under the domain key of the Region whose log holds it and bound to
    /// [`access_key_secret_name`].
    pub secret: SealedMaterial,
    /// Whether it may be used.
    pub active: bool,
    /// When it was made, by the Region's clock. Filled in when it is put.
    pub created: UnixMillis,
}

/// A version of the key that sessions are sealed with. All Regions have the same.
///
/// Stored: the order and types of the fields are the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionKey {
    /// Counts from 1.
    pub version: u32,
    /// The key, sealed under the domain key of the Region whose log holds it and bound to
    /// [`session_key_secret_name`].
    pub secret: SealedMaterial,
    /// When it was made, by the Region's clock. Filled in when it is put.
    pub created: UnixMillis,
}

impl User {
    /// The user's ARN.
    pub fn arn(&self, partition: &str) -> String {
        let account = self.account.digits();
        let account = std::str::from_utf8(&account).expect("digits are ASCII");
        // Asked for in each of the user's requests: put together without a formatter.
        let (path, name) = (&*self.path, &*self.name);
        ["arn:", partition, ":iam::", account, ":user", path, name].concat()
    }

    /// Whether this is its ARN.
    pub(crate) fn has_arn(&self, partition: &str, arn: &str) -> bool {
        let account = self.account.digits();
        let account = std::str::from_utf8(&account).expect("digits are ASCII");
        let (path, name) = (&*self.path, &*self.name);
        let parts = ["arn:", partition, ":iam::", account, ":user", path, name];
        let rest = parts
            .iter()
            .try_fold(arn, |rest, part| rest.strip_prefix(part));
        rest == Some("")
    }
}

impl Role {
    /// The role's ARN.
    pub fn arn(&self, partition: &str) -> String {
        let Self {
            account,
            path,
            name,
            ..
        } = self;
        format!("arn:{partition}:iam::{account}:role{path}{name}")
    }

    /// The ARN of a session of the role, which leaves its path out.
    pub fn session_arn(&self, partition: &str, session: &str) -> String {
        let Self { account, name, .. } = self;
        format!("arn:{partition}:sts::{account}:assumed-role/{name}/{session}")
    }
}

/// An identity as it is kept.
///
/// Stored: the order and types of the fields are the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRecord {
    /// Counts all changes of identities in the log that leads them; this one's last.
    pub revision: u64,
    /// The identity.
    pub identity: Identity,
}

/// What a Region is told of an identity.
///
/// Stored: the order and types of the fields are the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityNews {
    /// Which.
    pub name: IdentityName,
    /// The change's.
    pub revision: u64,
    /// As it is from then on; `None` if it is gone.
    pub identity: Option<Identity>,
}

/// Where identities are changed, and who is told. There is none before the first identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityBook {
    /// The Region whose log changes identities.
    pub home: Region,
    /// There: how many changes there were. Elsewhere: the greatest that was heard of.
    pub revision: u64,
    /// There: the Regions that are told.
    pub told: BTreeSet<Region>,
}

/// Shared, since a snapshot, an outbox and a row may hold the same.
pub(crate) type Shared = Arc<IdentityRecord>;
