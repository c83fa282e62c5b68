//! Identities as they are looked for.

use std::sync::Arc;

use keyrum_types::{AccountId, Region};
use rpds::RedBlackTreeMapSync as Map;

use super::{
    AccessKey, Account, Identity, IdentityBook, IdentityName, Role, SessionKey, Shared, User,
};
use crate::State;
use crate::family::Subject;

/// Who has an id, by the id; never nobody. Folded names.
type Index = Map<String, Map<IdentityName, ()>>;

/// All identities of a Region, and the ways they are looked for.
#[derive(Clone)]
pub(crate) struct Identities {
    /// By folded name.
    all: Map<IdentityName, Shared>,
    /// An id that moves from one owner to another may be both's for a moment, in a Region that hears
    /// of it late.
    by_access_key: Index,
    by_unique_id: Index,
    book: Option<IdentityBook>,
    /// What was deleted, and when; by folded name.
    deleted: Map<IdentityName, u64>,
    /// The same by date.
    deleted_by_revision: Map<(u64, IdentityName), ()>,
}

impl Identities {
    pub(crate) fn new() -> Self {
        Self {
            all: Map::new_sync(),
            by_access_key: Map::new_sync(),
            by_unique_id: Map::new_sync(),
            book: None,
            deleted: Map::new_sync(),
            deleted_by_revision: Map::new_sync(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Shared> {
        self.all.values()
    }

    pub(crate) fn book(&self) -> Option<&IdentityBook> {
        self.book.as_ref()
    }

    pub(crate) fn set_book(&mut self, book: &IdentityBook) -> Option<IdentityBook> {
        self.book.replace(book.clone())
    }

    pub(crate) fn deleted(&self) -> impl Iterator<Item = (&IdentityName, u64)> {
        self.deleted
            .iter()
            .map(|(name, revision)| (name, *revision))
    }

    /// Enters an identity; the former one of its name.
    pub(crate) fn put(&mut self, record: &Shared) -> Option<Shared> {
        let name = record.identity.name().folded();
        let former = self.remove(&name);
        for key in record.identity.access_keys() {
            enter(&mut self.by_access_key, &key.id, &name);
        }
        if let Some(id) = record.identity.unique_id() {
            enter(&mut self.by_unique_id, id, &name);
        }
        self.all.insert_mut(name, Arc::clone(record));
        former
    }

    pub(crate) fn remove(&mut self, name: &IdentityName) -> Option<Shared> {
        let name = name.folded();
        let former = Arc::clone(self.all.get(&name)?);
        for key in former.identity.access_keys() {
            strike(&mut self.by_access_key, &key.id, &name);
        }
        if let Some(id) = former.identity.unique_id() {
            strike(&mut self.by_unique_id, id, &name);
        }
        self.all.remove_mut(&name);
        Some(former)
    }

    pub(crate) fn put_deleted(&mut self, name: &IdentityName, revision: u64) -> Option<u64> {
        let former = self.remove_deleted(name);
        self.deleted.insert_mut(name.clone(), revision);
        self.deleted_by_revision
            .insert_mut((revision, name.clone()), ());
        former
    }

    pub(crate) fn remove_deleted(&mut self, name: &IdentityName) -> Option<u64> {
        let revision = *self.deleted.get(name)?;
        self.deleted.remove_mut(name);
        self.deleted_by_revision
            .remove_mut(&(revision, name.clone()));
        Some(revision)
    }

    pub(crate) fn deleted_count(&self) -> usize {
        self.deleted.size()
    }

    /// What was deleted before anything else.
    pub(crate) fn first_deleted(&self) -> Option<&IdentityName> {
        let ((_, name), ()) = self.deleted_by_revision.first()?;
        Some(name)
    }

    /// Who holds an access key's id: the one that was changed last, if two do.
    fn holder(&self, id: &str) -> Option<&Shared> {
        self.last_of(self.by_access_key.get(id)?)
    }

    /// Who has a unique id.
    fn by_unique_id(&self, id: &str) -> Option<&Shared> {
        self.last_of(self.by_unique_id.get(id)?)
    }

    fn last_of(&self, names: &Map<IdentityName, ()>) -> Option<&Shared> {
        let records = names.keys().filter_map(|name| self.all.get(name));
        records.max_by_key(|record| record.revision)
    }
}

fn enter(index: &mut Index, id: &str, name: &IdentityName) {
    let owners = index.get(id).cloned().unwrap_or_else(Map::new_sync);
    index.insert_mut(id.to_owned(), owners.insert(name.clone(), ()));
}

fn strike(index: &mut Index, id: &str, name: &IdentityName) {
    let Some(owners) = index.get(id) else { return };
    let owners = owners.remove(name);
    match owners.is_empty() {
        true => _ = index.remove_mut(id),
        false => index.insert_mut(id.to_owned(), owners),
    }
}

/// Whose an access key is.
#[derive(Debug, Clone, Copy)]
pub enum AccessKeyOwner<'s> {
    /// An account's root's.
    Root(&'s Account),
    /// A user's.
    User(&'s User),
}

impl AccessKeyOwner<'_> {
    /// Its name.
    pub fn name(&self) -> IdentityName {
        match self {
            Self::Root(account) => IdentityName::Account(account.account),
            Self::User(user) => IdentityName::User(user.account, user.name.clone()),
        }
    }
}

impl State {
    /// An identity, with the number of its last change.
    pub fn identity(&self, name: &IdentityName) -> Option<&Shared> {
        self.all_identities().all.get(&name.folded())
    }

    /// Every identity, in the order of their names.
    pub fn identities(&self) -> impl Iterator<Item = &Shared> {
        self.all_identities().iter()
    }

    /// A user, by the exact name without the path.
    pub fn user(&self, account: AccountId, name: &str) -> Option<&User> {
        let folded = IdentityName::User(account, name.to_ascii_lowercase());
        let record = self.all_identities().all.get(&folded)?;
        match &record.identity {
            Identity::User(user) if user.name == name => Some(user),
            _ => None,
        }
    }

    /// A role, by the exact name without the path.
    pub fn role(&self, account: AccountId, name: &str) -> Option<&Role> {
        let folded = IdentityName::Role(account, name.to_ascii_lowercase());
        let record = self.all_identities().all.get(&folded)?;
        match &record.identity {
            Identity::Role(role) if role.name == name => Some(role),
            _ => None,
        }
    }

    /// A user or role by its unique id.
    pub fn identity_with_id(&self, unique_id: &str) -> Option<&Identity> {
        let record = self.all_identities().by_unique_id(unique_id)?;
        Some(&record.identity)
    }

    /// An access key, active or not, its owner, and the number of the owner's last change.
    pub fn access_key(&self, id: &str) -> Option<(&AccessKey, AccessKeyOwner<'_>, u64)> {
        let record = self.all_identities().holder(id)?;
        let mut keys = record.identity.access_keys().iter();
        let key = keys.find(|key| key.id == id)?;
        let owner = match &record.identity {
            Identity::Account(account) => AccessKeyOwner::Root(account),
            Identity::User(user) => AccessKeyOwner::User(user),
            Identity::Role(_) | Identity::SessionKey(_) => return None,
        };
        Some((key, owner, record.revision))
    }

    /// A declared account.
    pub fn account(&self, account: AccountId) -> Option<&Account> {
        match &self.identity(&IdentityName::Account(account))?.identity {
            Identity::Account(account) => Some(account),
            _ => None,
        }
    }

    /// Whether an account is declared: then its users and roles are those there are, and nobody else
    /// is.
    pub fn account_is_declared(&self, account: AccountId) -> bool {
        self.account(account).is_some()
    }

    /// Every declared account, by number.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.identities()
            .map_while(|record| match &record.identity {
                Identity::Account(account) => Some(account),
                _ => None,
            })
    }

    /// An account's users, by name.
    pub fn users(&self, account: AccountId) -> impl Iterator<Item = &User> {
        let start = IdentityName::User(account, String::new());
        let range = self.all_identities().all.range(start..);
        range.map_while(move |(_, record)| match &record.identity {
            Identity::User(user) if user.account == account => Some(user),
            _ => None,
        })
    }

    /// An account's roles, by name.
    pub fn roles(&self, account: AccountId) -> impl Iterator<Item = &Role> {
        let start = IdentityName::Role(account, String::new());
        let range = self.all_identities().all.range(start..);
        range.map_while(move |(_, record)| match &record.identity {
            Identity::Role(role) if role.account == account => Some(role),
            _ => None,
        })
    }

    /// Every version of the key that sessions are sealed with, oldest first.
    pub fn session_keys(&self) -> impl Iterator<Item = &SessionKey> {
        let range = self
            .all_identities()
            .all
            .range(IdentityName::SessionKey(0)..);
        range.map_while(|(_, record)| match &record.identity {
            Identity::SessionKey(key) => Some(key),
            _ => None,
        })
    }

    /// A version of the key that sessions are sealed with.
    pub fn session_key(&self, version: u32) -> Option<&SessionKey> {
        match &self.identity(&IdentityName::SessionKey(version))?.identity {
            Identity::SessionKey(key) => Some(key),
            _ => None,
        }
    }

    /// The newest version of it.
    pub fn newest_session_key(&self) -> Option<&SessionKey> {
        self.session_keys().last()
    }

    /// Whether a Region has still to be told of an identity's last change. Only the Region that
    /// changes identities knows.
    pub fn identity_waits_for(&self, to: &Region, name: &IdentityName) -> bool {
        self.waiting_on(to, Subject::Identity(name.folded()))
            .is_some()
    }

    /// Where identities are changed, and who is told; `None` before there is one.
    pub fn identity_book(&self) -> Option<&IdentityBook> {
        self.all_identities().book()
    }

    /// When an identity was deleted here, as the number of that change, if no other of its name came
    /// after it. Only the Region that changes identities knows, and of so many as
    /// [`super::DELETED_IDENTITIES_MAX`].
    pub fn identity_deleted(&self, name: &IdentityName) -> Option<u64> {
        self.all_identities().deleted.get(&name.folded()).copied()
    }

    /// Whether a policy or a grant may name `principal`: an account's number, an ARN of an account's
    /// root, a user, a role, a session or a federated user, or a unique id.
    ///
    /// Of accounts that are not declared nothing is known, so whatever has the form is taken. Of a
    /// session the role must be there, and its name may be any.
    pub fn principal_exists(&self, principal: &str) -> bool {
        if principal.parse::<AccountId>().is_ok() {
            return true;
        }
        if !principal.starts_with("arn:") {
            // A role's unique id may be followed by a session's name.
            let id = principal.split(':').next().unwrap_or_default();
            return self.identity_with_id(id).is_some();
        }
        let parts: Vec<&str> = principal.splitn(6, ':').collect();
        let [_, partition, service, _, account, resource] = parts[..] else {
            return false;
        };
        let Ok(account) = account.parse::<AccountId>() else {
            return false;
        };
        if !self.account_is_declared(account) {
            return true;
        }
        let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        match (service, resource.split_once('/')) {
            ("iam", None) => resource == "root",
            ("iam", Some(("user", rest))) => self
                .user(account, &last(rest))
                .is_some_and(|user| user.has_arn(partition, principal)),
            ("iam", Some(("role", rest))) => self
                .role(account, &last(rest))
                .is_some_and(|role| role.arn(partition) == principal),
            ("sts", Some(("assumed-role", rest))) => {
                let role = rest.split('/').next().unwrap_or_default();
                self.role(account, role).is_some()
            }
            ("sts", Some(("federated-user", _))) => true,
            _ => false,
        }
    }
}
