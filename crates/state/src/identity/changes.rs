//! How identities change: PutIdentity, DeleteIdentity and ShareIdentities in the log that leads them,
//! and what another Region makes of what it is told.

use std::sync::Arc;

use keyrum_types::{Region, UnixMillis};

use super::{Identity, IdentityBook, IdentityName, IdentityNews, IdentityRecord, form};
use crate::channel::send;
use crate::contents::{Row, RowName};
use crate::{AUTHORIZATION_LEVEL, Event, Message, Outcome, Refusal, State};

/// How many accounts can be declared. Each costs every Region a row and a message.
pub const ACCOUNTS_MAX: usize = 1_000;

/// How many users an account has at most. Source: IAM User Guide, "IAM and AWS STS quotas".
pub const USERS_PER_ACCOUNT_MAX: usize = 5_000;

/// How many roles an account has at most. Source: as above.
pub const ROLES_PER_ACCOUNT_MAX: usize = 1_000;

/// How many access keys a user or a root has at most. Source: as above.
pub const ACCESS_KEYS_MAX: usize = 2;

/// How many versions of the session key there are at a time.
pub const SESSION_KEYS_MAX: usize = 8;

/// Of how many deleted identities it is known that they were deleted; the oldest are forgotten.
pub const DELETED_IDENTITIES_MAX: usize = 10_000;

/// Whether identities can be changed in this log at all.
fn leads(state: &State) -> Result<(), Refusal> {
    if state.feature_level() < AUTHORIZATION_LEVEL {
        return Err(Refusal::FeatureLevelTooLow {
            needed: AUTHORIZATION_LEVEL,
        });
    }
    match state.identity_book() {
        Some(book) if book.home != *state.region() => Err(Refusal::IdentitiesLedElsewhere {
            home: book.home.clone(),
        }),
        Some(_) | None => Ok(()),
    }
}

/// Whether nobody else changed it meanwhile. 0 stands for an identity that is not there.
fn expected_is_there(
    state: &State,
    name: &IdentityName,
    expected: Option<u64>,
) -> Result<(), Refusal> {
    let present = state.identity(name).map_or(0, |record| record.revision);
    match expected {
        Some(expected) if expected != present => Err(Refusal::IdentityChanged {
            name: name.clone(),
            revision: present,
        }),
        Some(_) | None => Ok(()),
    }
}

fn next_revision(state: &State) -> u64 {
    state.identity_book().map_or(0, |book| book.revision) + 1
}

/// Makes an identity or replaces one of its name.
pub(crate) fn put(
    state: &State,
    identity: &Identity,
    expected: Option<u64>,
    at: UnixMillis,
) -> Outcome {
    leads(state)?;
    let name = identity.name();
    expected_is_there(state, &name, expected)?;
    form::check(identity)?;
    let present = state.identity(&name).map(|record| &record.identity);
    if present.is_some_and(|present| present.name() != name) {
        return Err(invalid(
            &name,
            "another's name differs in the case of letters alone",
        ));
    }
    if present.is_none() {
        check_room(state, &name)?;
    }
    check_ids(state, identity, present)?;
    let identity = dated(identity, present, at);
    if present == Some(&identity) {
        return Ok(vec![]);
    }
    let revision = next_revision(state);
    Ok(vec![Event::IdentityPut {
        record: IdentityRecord { revision, identity },
    }])
}

fn invalid(name: &IdentityName, problem: &str) -> Refusal {
    Refusal::InvalidIdentity {
        name: name.clone(),
        problem: problem.to_owned(),
    }
}

/// Whether one more identity may be.
fn check_room(state: &State, name: &IdentityName) -> Result<(), Refusal> {
    let limited = |count: usize, limit: usize, what: &str| match count < limit {
        true => Ok(()),
        false => Err(Refusal::TooManyIdentities {
            what: what.to_owned(),
            limit: u32::try_from(limit).expect("limits are small"),
        }),
    };
    if let IdentityName::User(account, _) | IdentityName::Role(account, _) = name
        && !state.account_is_declared(*account)
    {
        return Err(Refusal::NoSuchIdentity {
            name: IdentityName::Account(*account),
        });
    }
    match name {
        IdentityName::Account(_) => limited(state.accounts().count(), ACCOUNTS_MAX, "accounts"),
        IdentityName::User(account, _) => {
            let users = state.users(*account).count();
            limited(users, USERS_PER_ACCOUNT_MAX, "users in an account")
        }
        IdentityName::Role(account, _) => {
            let roles = state.roles(*account).count();
            limited(roles, ROLES_PER_ACCOUNT_MAX, "roles in an account")
        }
        IdentityName::SessionKey(version) => {
            let newest = state.newest_session_key().map_or(0, |key| key.version);
            if *version <= newest {
                return Err(invalid(name, "a newer version is there already"));
            }
            limited(
                state.session_keys().count(),
                SESSION_KEYS_MAX,
                "session keys",
            )
        }
    }
}

/// What must be nobody else's, and what stays for as long as an identity does.
fn check_ids(
    state: &State,
    identity: &Identity,
    present: Option<&Identity>,
) -> Result<(), Refusal> {
    let name = identity.name();
    if let Some(id) = identity.unique_id() {
        match present.and_then(Identity::unique_id) {
            Some(own) if own == id => {}
            // Whoever gives a name to somebody else deletes the former one first.
            Some(_) => return Err(invalid(&name, "its unique id cannot change")),
            None if state.identity_with_id(id).is_some() => {
                return Err(Refusal::IdentityIdTaken { id: id.to_owned() });
            }
            None => {}
        }
    }
    let keys = identity.access_keys();
    for (at, key) in keys.iter().enumerate() {
        let twice = keys[..at].iter().any(|other| other.id == key.id);
        let own = present.map_or(&[][..], Identity::access_keys);
        let own = own.iter().any(|other| other.id == key.id);
        if twice || (!own && state.access_key(&key.id).is_some()) {
            return Err(Refusal::IdentityIdTaken { id: key.id.clone() });
        }
    }
    if let (Identity::SessionKey(new), Some(Identity::SessionKey(present))) = (identity, present)
        && new.secret != present.secret
    {
        return Err(invalid(&name, "a session key cannot change"));
    }
    Ok(())
}

/// The same with dates: those that were there stay.
fn dated(identity: &Identity, present: Option<&Identity>, at: UnixMillis) -> Identity {
    let mut identity = identity.clone();
    let created = match present {
        Some(
            Identity::Account(super::Account { created, .. })
            | Identity::User(super::User { created, .. })
            | Identity::Role(super::Role { created, .. })
            | Identity::SessionKey(super::SessionKey { created, .. }),
        ) => *created,
        None => at,
    };
    match &mut identity {
        Identity::Account(account) => account.created = created,
        Identity::User(user) => user.created = created,
        Identity::Role(role) => role.created = created,
        Identity::SessionKey(key) => key.created = created,
    }
    if let Identity::Account(super::Account { access_keys, .. })
    | Identity::User(super::User { access_keys, .. }) = &mut identity
    {
        let own = present.map_or(&[][..], Identity::access_keys);
        for key in access_keys {
            let former = own.iter().find(|former| former.id == key.id);
            key.created = former.map_or(at, |former| former.created);
        }
    }
    identity
}

/// Takes an identity away. Its name can be another's afterwards, its unique id cannot.
pub(crate) fn delete(state: &State, name: &IdentityName, expected: Option<u64>) -> Outcome {
    leads(state)?;
    expected_is_there(state, name, expected)?;
    let Some(record) = state.identity(name) else {
        return Err(Refusal::NoSuchIdentity { name: name.clone() });
    };
    if let IdentityName::Account(account) = name {
        let left = state.users(*account).count() + state.roles(*account).count();
        if left > 0 {
            return Err(invalid(
                name,
                &format!("{left} of its users and roles are left"),
            ));
        }
    }
    Ok(vec![Event::IdentityDeleted {
        name: record.identity.name(),
        revision: next_revision(state),
    }])
}

/// Has another Region told of all identities, and of every change from then on.
pub(crate) fn share(state: &State, with: &Region) -> Outcome {
    leads(state)?;
    let told = state
        .identity_book()
        .is_some_and(|book| book.told.contains(with));
    Ok(if told || with == state.region() {
        vec![]
    } else {
        vec![Event::IdentitiesShared { with: with.clone() }]
    })
}

/// What another Region's log says of an identity. Only the one that leads them is heard: the first
/// that said anything. What says nothing new changes nothing.
pub(crate) fn hear(state: &State, from: &Region, news: &Arc<IdentityNews>) -> Vec<Event> {
    let stranger = |book: &IdentityBook| book.home != *from;
    if state.identity_book().is_some_and(stranger) {
        return Vec::new();
    }
    let present = state.identity(&news.name);
    let known = match (present, &news.identity) {
        (Some(present), _) => present.revision >= news.revision,
        (None, identity) => identity.is_none(),
    };
    if known {
        return Vec::new();
    }
    vec![Event::IdentityHeard {
        from: from.clone(),
        news: Arc::clone(news),
    }]
}

pub(crate) fn evolve(state: &mut State, event: &Event) {
    match event {
        Event::IdentityPut { record } => {
            let name = record.identity.name();
            state.remove(RowName::DeletedIdentity(&name.folded()));
            state.put(Row::Identity(Arc::new(record.clone())));
            turn_page(state, record.revision);
            tell(
                state,
                &IdentityNews {
                    name,
                    revision: record.revision,
                    identity: Some(record.identity.clone()),
                },
            );
        }
        Event::IdentityDeleted { name, revision } => {
            state.remove(RowName::Identity(name));
            if state.all_identities().deleted_count() >= DELETED_IDENTITIES_MAX
                && let Some(oldest) = state.all_identities().first_deleted().cloned()
            {
                state.remove(RowName::DeletedIdentity(&oldest));
            }
            state.put(Row::DeletedIdentity {
                name: name.folded(),
                revision: *revision,
            });
            turn_page(state, *revision);
            tell(
                state,
                &IdentityNews {
                    name: name.clone(),
                    revision: *revision,
                    identity: None,
                },
            );
        }
        Event::IdentitiesShared { with } => {
            let mut book = book(state);
            book.told.insert(with.clone());
            state.put(Row::IdentityBook(book));
            let all: Vec<_> = state.identities().cloned().collect();
            for record in all {
                let news = IdentityNews {
                    name: record.identity.name(),
                    revision: record.revision,
                    identity: Some(record.identity.clone()),
                };
                send(state, with, &Message::Identity(Arc::new(news)));
            }
        }
        Event::IdentityHeard { from, news } => {
            match &news.identity {
                Some(identity) => state.put(Row::Identity(Arc::new(IdentityRecord {
                    revision: news.revision,
                    identity: identity.clone(),
                }))),
                None => state.remove(RowName::Identity(&news.name)),
            }
            let heard = state.identity_book().map_or(0, |book| book.revision);
            state.put(Row::IdentityBook(IdentityBook {
                home: from.clone(),
                revision: heard.max(news.revision),
                told: Default::default(),
            }));
        }
        other => unreachable!("not an event of an identity: {other:?}"),
    }
}

/// The book as it is, or a new one of this Region.
fn book(state: &State) -> IdentityBook {
    let new = || IdentityBook {
        home: state.region().clone(),
        revision: 0,
        told: Default::default(),
    };
    state.identity_book().cloned().unwrap_or_else(new)
}

fn turn_page(state: &mut State, revision: u64) {
    let mut book = book(state);
    book.revision = revision;
    state.put(Row::IdentityBook(book));
}

fn tell(state: &mut State, news: &IdentityNews) {
    let message = Message::Identity(Arc::new(news.clone()));
    for to in book(state).told {
        send(state, &to, &message);
    }
}
