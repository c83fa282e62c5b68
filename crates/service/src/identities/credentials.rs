//! From an access key's id to what it signs with and who it speaks for.
//!
//! This node's own applied state is asked. Where that does not know an id, the newest state may; it is
//! asked so seldom that unknown ids cannot be used to load the Region.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use keyrum_consensus::ReadMode;
use keyrum_crypto::{SessionTokenKey, session_key_version};
use keyrum_state::{
    AccessKey, AccessKeyOwner, AuditDetails, Caller, CallerDetails, State, User,
    access_key_secret_name, session_key_secret_name,
};
use keyrum_types::{AccountId, UnixMillis};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::session::{Session, SessionOf};
use super::unusable;
use crate::{Service, ServiceError};

/// How many unknown access keys a node asks its Region for, in a second.
const LOOK_UPS_PER_SECOND: u32 = 20;

/// What an access key signs with. Clones share it; the last one to go zeroes it.
pub type Secret = Arc<Zeroizing<Vec<u8>>>;

/// An access key that was found.
pub struct Credentials {
    /// What it signs with.
    pub secret: Secret,
    /// Whom it speaks for, with what is known of them; nothing of the request.
    pub caller: Caller,
}

/// Why there are no credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Nobody has such an access key, or the token does not belong to it, or is nobody's any more.
    #[error("the access key is not known")]
    Unknown,
    /// It is somebody's, who does not want it used.
    #[error("the access key is inactive")]
    Inactive,
    /// They were temporary, and their time is over.
    #[error("the credentials have expired")]
    Expired,
    /// It cannot be told.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// The secret of an access key, and whose key that is.
pub(crate) struct OpenedAccessKey {
    account: AccountId,
    id: Box<str>,
    secret: Secret,
}

/// Counts how often the Region was asked for an unknown access key.
#[derive(Default)]
pub(crate) struct LookUps(Mutex<Option<(Instant, u32)>>);

impl LookUps {
    /// Whether it may be asked once more.
    fn take(&self) -> bool {
        let now = Instant::now();
        // A panic elsewhere cannot leave half a count behind.
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, asked) = match *count {
            Some((since, asked)) if now.duration_since(since).as_secs() < 1 => (since, asked),
            _ => (now, 0),
        };
        if asked >= LOOK_UPS_PER_SECOND {
            return false;
        }
        *count = Some((since, asked + 1));
        true
    }
}

impl Service {
    /// Whether identities are declared at all, as far as this node knows.
    pub fn has_identities(&self) -> bool {
        self.inner.group.has_identities()
    }

    /// Finds an access key, permanent or, with its token, temporary. An unknown one is looked for in the
    /// newest state too if that is `thorough`, or if it looks like one that was declared: it may have
    /// been a moment ago, and a node that lags would take its owner for a stranger.
    ///
    /// Whoever has the answer has proved nothing yet: the signature is to be checked with the secret.
    pub async fn credentials(
        &self,
        access_key: &str,
        token: Option<&str>,
        thorough: bool,
    ) -> Result<Credentials, CredentialError> {
        match self.credentials_here(access_key, token, thorough) {
            Some(found) => found,
            None => self.newest_credentials(access_key, token).await,
        }
    }

    /// The same as far as this node can tell by itself; `None` if the newest state is to be asked.
    pub fn credentials_here(
        &self,
        access_key: &str,
        token: Option<&str>,
        thorough: bool,
    ) -> Option<Result<Credentials, CredentialError>> {
        let found = self.credentials_in(&self.inner.group.state(), access_key, token);
        let thorough = thorough || token.is_some() || looks_declared(access_key);
        let decided = !matches!(found, Err(CredentialError::Unknown))
            || !thorough
            || !self.inner.look_ups.take();
        decided.then_some(found)
    }

    /// The same by the newest state.
    pub async fn newest_credentials(
        &self,
        access_key: &str,
        token: Option<&str>,
    ) -> Result<Credentials, CredentialError> {
        let newest = self.inner.group.read(ReadMode::Linearizable).await;
        let newest = newest.map_err(ServiceError::from)?;
        self.credentials_in(&newest, access_key, token)
    }

    fn credentials_in(
        &self,
        state: &State,
        access_key: &str,
        token: Option<&str>,
    ) -> Result<Credentials, CredentialError> {
        match token {
            Some(token) => self.temporary(state, access_key, token),
            None => self.permanent(state, access_key),
        }
    }

    fn permanent(&self, state: &State, id: &str) -> Result<Credentials, CredentialError> {
        let found = state.access_key(id).ok_or(CredentialError::Unknown)?;
        let (key, owner, _) = found;
        if !key.active {
            return Err(CredentialError::Inactive);
        }
        let (account, mut caller) = match owner {
            AccessKeyOwner::Root(root) => {
                (root.account, Caller::root(state.region(), root.account))
            }
            AccessKeyOwner::User(user) => (user.account, caller_of_user(state, user)),
        };
        caller.details.access_key = id.to_owned();
        let secret = self.access_key_secret(account, key)?;
        Ok(Credentials { secret, caller })
    }

    fn access_key_secret(
        &self,
        account: AccountId,
        key: &AccessKey,
    ) -> Result<Secret, ServiceError> {
        let opened = self.inner.access_keys.get(
            &key.secret,
            |known| known.account == account && *known.id == *key.id,
            || {
                let name = access_key_secret_name(account, &key.id);
                let secret = self.inner.keyring.unseal_identity(&name, &key.secret);
                Ok::<_, ServiceError>(OpenedAccessKey {
                    account,
                    id: key.id.as_str().into(),
                    secret: Arc::new(secret.map_err(|error| unusable(&name, &error))?),
                })
            },
        )?;
        Ok(opened.secret.clone())
    }

    fn temporary(
        &self,
        state: &State,
        access_key: &str,
        token: &str,
    ) -> Result<Credentials, CredentialError> {
        let version = session_key_version(token).ok_or(CredentialError::Unknown)?;
        let key = self.session_key(state, version)?;
        let opened = key.and_then(|key| key.open(token));
        let session = opened.and_then(|opened| Session::from_bytes(&opened));
        let session = session.filter(|session| session.access_key == access_key);
        let session = session.ok_or(CredentialError::Unknown)?;
        if self.inner.world.clock.now() >= session.expires {
            return Err(CredentialError::Expired);
        }
        let caller = caller_of_session(state, &session).ok_or(CredentialError::Unknown)?;
        let secret = Arc::new(Zeroizing::new(session.secret.as_bytes().to_vec()));
        Ok(Credentials { secret, caller })
    }

    /// A version of the key that sessions are sealed with; `None` if it is not here.
    pub(crate) fn session_key(
        &self,
        state: &State,
        version: u32,
    ) -> Result<Option<Arc<SessionTokenKey>>, ServiceError> {
        let Some(key) = state.session_key(version) else {
            return Ok(None);
        };
        let opened = self.inner.session_keys.get(
            &key.secret,
            |known| known.version() == version,
            || {
                let name = session_key_secret_name(version);
                let secret = self.inner.keyring.unseal_identity(&name, &key.secret);
                let secret = secret.map_err(|error| unusable(&name, &error))?;
                let key = SessionTokenKey::new(version, &secret);
                key.ok_or_else(|| unusable(&name, &"it is not as long as a session key"))
            },
        )?;
        Ok(Some(opened))
    }
}

/// Whether an access key's id is such as are drawn here and by the real service.
fn looks_declared(id: &str) -> bool {
    id.len() == 20 && id.starts_with("AKIA")
}

/// What policies may ask of a tag of who asks.
fn tag_conditions<'t>(
    tags: impl Iterator<Item = (&'t String, &'t String)>,
) -> BTreeMap<String, Vec<String>> {
    let key = |name: &str| format!("aws:principaltag/{}", name.to_lowercase());
    tags.map(|(name, value)| (key(name), vec![value.clone()]))
        .collect()
}

fn caller(account: AccountId, arn: String, unique_id: String) -> Caller {
    Caller {
        account,
        arn,
        conditions: BTreeMap::new(),
        grant_tokens: Vec::new(),
        details: CallerDetails {
            unique_id,
            ..CallerDetails::default()
        },
    }
}

fn caller_of_user(state: &State, user: &User) -> Caller {
    let partition = state.region().partition();
    Caller {
        conditions: tag_conditions(user.tags.iter()),
        ..caller(user.account, user.arn(partition), user.id.clone())
    }
}

/// Whom a session speaks for; `None` if that is nobody any more.
fn caller_of_session(state: &State, session: &Session) -> Option<Caller> {
    let account = session.account;
    let mut caller = match &session.of {
        SessionOf::Root => {
            state.account(account)?;
            Caller::root(state.region(), account)
        }
        SessionOf::User { name, id } => {
            let user = state.user(account, name).filter(|user| user.id == *id)?;
            caller_of_user(state, user)
        }
        SessionOf::Role {
            name,
            id,
            session: own,
        } => {
            let role = state.role(account, name).filter(|role| role.id == *id)?;
            let arn = role.session_arn(state.region().partition(), own);
            let mut caller = caller(account, arn, format!("{id}:{own}"));
            caller.conditions = tag_conditions(role.tags.iter());
            // A session's tag goes before its role's of the same name.
            let tags = session.tags.iter().map(|(name, value)| (name, value));
            caller.conditions.extend(tag_conditions(tags));
            caller.details.audit = Some(Box::new(AuditDetails {
                session_role: role.arn(state.region().partition()),
                session_began: Some(session.issued),
                ..AuditDetails::default()
            }));
            caller
        }
    };
    let one = |value: String| vec![value];
    // Temporary credentials say whether a second factor was shown; there is none here.
    let known = [
        ("aws:multifactorauthpresent", one("false".to_owned())),
        ("aws:tokenissuetime", one(date(session.issued))),
    ];
    let known = known.map(|(key, values)| (key.to_owned(), values));
    caller.conditions.extend(known);
    caller.details.access_key.clone_from(&session.access_key);
    caller
        .details
        .session_policies
        .clone_from(&session.policies);
    Some(caller)
}

/// As dates of condition keys are written: seconds since 1970 are a date too.
fn date(at: UnixMillis) -> String {
    (at.0 / 1000).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches unknown access keys that each cost the whole Region a read.
    #[tokio::test(start_paused = true)]
    async fn unknown_keys_are_looked_for_seldom() {
        let look_ups = LookUps::default();
        let taken = || (0..1000).filter(|_| look_ups.take()).count();
        assert_eq!(taken(), LOOK_UPS_PER_SECOND as usize);
        assert_eq!(taken(), 0);
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(taken(), LOOK_UPS_PER_SECOND as usize);
    }
}
