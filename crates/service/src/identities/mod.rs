//! Identities: how operators change them, and how every Region comes to have them.
//!
//! All changes go through the log of one Region, their home. A change is proposed on what its author
//! saw, so that two authors never undo each other unseen; a secret is sealed before it is proposed.

mod credentials;
mod opened;
mod plan;
mod session;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keyrum_consensus::ReadMode;
use keyrum_crypto::SessionTokenKey;
use keyrum_state::{
    AUTHORIZATION_LEVEL, AccessKey, Command, Identity, IdentityBook, IdentityName, Refusal,
    SessionKey, State, StoredPolicy, access_key_secret_name, session_key_secret_name,
};
use keyrum_types::{AccountId, Entropy, Region, UnixMillis};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use crate::{Service, ServiceError};

pub use credentials::{CredentialError, Credentials, Secret};
pub(crate) use credentials::{LookUps, OpenedAccessKey};
pub(crate) use opened::Opened;
pub use plan::{AccountPlan, IdentityReport, KeyPlan, RolePlan, UserPlan};
pub(crate) use session::{Session, SessionOf};

/// How often a change is tried again that somebody else's came between.
const ATTEMPTS: usize = 8;

/// How long a cluster may take to learn that all of its nodes know identities: its first seconds.
const LEVEL_LIMIT: Duration = Duration::from_secs(30);

/// Characters of what is drawn after the prefix of a unique id or an access key's id.
const UNIQUE_ID_DRAWN: usize = 17;
const ACCESS_KEY_ID_DRAWN: usize = 16;

/// Why a change of identities was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The log refused it, or it could not be proposed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Identities are changed in another Region.
    #[error("identities are changed in {home}: ask a node of that Region")]
    Elsewhere {
        /// Which.
        home: Region,
    },
    /// Nobody has such an access key.
    #[error("there is no access key {id}")]
    NoSuchAccessKey {
        /// Which.
        id: String,
    },
    /// It has none of that name.
    #[error("{name} has no policy {policy}")]
    NoSuchPolicy {
        /// Whose.
        name: IdentityName,
        /// The policy's name.
        policy: String,
    },
    /// Only users and roles have policies, and only users and accounts access keys.
    #[error("{name} cannot have {what}")]
    CannotHave {
        /// Which.
        name: IdentityName,
        /// What.
        what: &'static str,
    },
    /// Somebody else keeps changing it.
    #[error("{name} is being changed by others; nothing was changed, try again")]
    Contended {
        /// Which.
        name: IdentityName,
    },
}

impl From<Refusal> for IdentityError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::IdentitiesLedElsewhere { home } => Self::Elsewhere { home },
            refusal => Self::Service(refusal.into()),
        }
    }
}

/// Which Regions have a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spread {
    /// These have it, the home among them.
    pub has: BTreeSet<Region>,
    /// These do not have it yet. Nothing is lost: it waits in the home's log until they take it.
    pub waits: BTreeSet<Region>,
}

/// An access key that was just made: the only time that its secret is shown.
pub struct NewAccessKey {
    /// Names it in public.
    pub id: String,
    /// Signs.
    pub secret: Zeroizing<String>,
}

impl Service {
    /// The Region whose log changes identities.
    pub fn identity_home(&self) -> Region {
        let book = |book: &IdentityBook| book.home.clone();
        let known = self.inner.group.state().identity_book().map(book);
        let chosen = || self.inner.settings.identity_home.clone();
        known
            .or_else(chosen)
            .unwrap_or_else(|| self.region().clone())
    }

    /// The newest identities, as this Region knows them.
    pub async fn identities(&self) -> Result<Arc<State>, ServiceError> {
        Ok(self.inner.group.read(ReadMode::Linearizable).await?)
    }

    fn check_home(&self) -> Result<(), IdentityError> {
        let home = self.identity_home();
        match home == *self.region() {
            true => Ok(()),
            false => Err(IdentityError::Elsewhere { home }),
        }
    }

    /// Waits until this Region takes identities: until all of its nodes are known to know them.
    async fn identities_possible(&self) -> Result<(), IdentityError> {
        self.check_home()?;
        self.level_reached(AUTHORIZATION_LEVEL).await;
        Ok(())
    }

    /// Waits a moment for a feature level, which a leader raises soon after the start. If it is too
    /// early even then, the log refuses what needs it.
    pub(crate) async fn level_reached(&self, needed: u32) {
        let mut applied = self.inner.group.applied();
        let known = async {
            loop {
                applied.borrow_and_update();
                let level = self.inner.group.state().feature_level();
                if level >= needed || applied.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout_at(Instant::now() + LEVEL_LIMIT, known).await;
    }

    /// Changes one identity as `change` says, on what is there; `None` to leave it as it is. Whether
    /// that changed anything.
    async fn change_identity(
        &self,
        name: &IdentityName,
        mut change: impl FnMut(Option<&Identity>) -> Result<Option<Identity>, IdentityError>,
    ) -> Result<bool, IdentityError> {
        self.identities_possible().await?;
        for _ in 0..ATTEMPTS {
            let state = self.identities().await?;
            let present = state.identity(name);
            let expected = Some(present.map_or(0, |record| record.revision));
            let Some(identity) = change(present.map(|record| &record.identity))? else {
                return Ok(false);
            };
            drop(state);
            self.make_session_key().await?;
            let put = Command::PutIdentity { identity, expected };
            match self.propose_as_region(put).await {
                Ok(events) => return Ok(!events.is_empty()),
                Err(ServiceError::Refused(Refusal::IdentityChanged { .. })) => {}
                Err(ServiceError::Refused(refusal)) => return Err(refusal.into()),
                Err(error) => return Err(error.into()),
            }
        }
        Err(IdentityError::Contended { name: name.clone() })
    }

    /// Makes the first key that sessions are sealed with, unless there is one.
    async fn make_session_key(&self) -> Result<(), IdentityError> {
        if self.inner.group.state().newest_session_key().is_some() {
            return Ok(());
        }
        let entropy = &*self.inner.world.entropy;
        let secret = SessionTokenKey::generate(entropy);
        let (version, keyring) = (1, &self.inner.keyring);
        let name = session_key_secret_name(version);
        let identity = Identity::SessionKey(SessionKey {
            version,
            secret: keyring.seal_identity(&name, secret.as_slice(), entropy),
            created: UnixMillis(0),
        });
        let expected = Some(0);
        match self
            .propose_as_region(Command::PutIdentity { identity, expected })
            .await
        {
            Ok(_) | Err(ServiceError::Refused(Refusal::IdentityChanged { .. })) => Ok(()),
            Err(ServiceError::Refused(refusal)) => Err(refusal.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes an identity away: its access keys and sessions are worth nothing from then on, in each
    /// Region that has heard of it.
    pub async fn delete_identity(&self, name: &IdentityName) -> Result<(), IdentityError> {
        self.check_home()?;
        let (name, expected) = (name.clone(), None);
        let delete = Command::DeleteIdentity { name, expected };
        match self.propose_as_region(delete).await {
            Ok(_) => Ok(()),
            Err(ServiceError::Refused(refusal)) => Err(refusal.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a user, or an account's root, one more access key.
    pub async fn create_access_key(
        &self,
        owner: &IdentityName,
    ) -> Result<NewAccessKey, IdentityError> {
        let new = self.new_access_key();
        self.change_identity(owner, |present| {
            let mut identity = there(owner, present)?;
            let (account, keys) = access_keys_of(owner, &mut identity)?;
            keys.push(self.sealed_key(account, &new.id, new.secret.as_bytes(), true));
            Ok(Some(identity))
        })
        .await?;
        Ok(new)
    }

    /// Lets an access key be used, or not.
    pub async fn set_access_key(&self, id: &str, active: bool) -> Result<(), IdentityError> {
        self.edit_access_keys(id, |keys| {
            let mut own = keys.iter_mut().filter(|key| key.id == id);
            own.by_ref().for_each(|key| key.active = active);
        })
        .await
    }

    /// Takes an access key away for good.
    pub async fn delete_access_key(&self, id: &str) -> Result<(), IdentityError> {
        self.edit_access_keys(id, |keys| keys.retain(|key| key.id != id))
            .await
    }

    async fn edit_access_keys(
        &self,
        id: &str,
        edit: impl Fn(&mut Vec<AccessKey>),
    ) -> Result<(), IdentityError> {
        self.check_home()?;
        let owner = self.owner_of(id).await?;
        self.change_identity(&owner, |present| {
            let mut identity = there(&owner, present)?;
            edit(access_keys_of(&owner, &mut identity)?.1);
            Ok(Some(identity))
        })
        .await?;
        Ok(())
    }

    /// Whose an access key is.
    pub async fn owner_of(&self, id: &str) -> Result<IdentityName, IdentityError> {
        let state = self.identities().await?;
        match state.access_key(id) {
            Some((_, owner, _)) => Ok(owner.name()),
            None => Err(IdentityError::NoSuchAccessKey { id: id.to_owned() }),
        }
    }

    /// Gives a user or role a policy, in place of one of the same name; `None` takes that away.
    pub async fn put_identity_policy(
        &self,
        owner: &IdentityName,
        policy: &str,
        document: Option<&str>,
    ) -> Result<(), IdentityError> {
        self.change_identity(owner, |present| {
            let mut identity = there(owner, present)?;
            let policies = match &mut identity {
                Identity::User(user) => &mut user.policies,
                Identity::Role(role) => &mut role.policies,
                Identity::Account(_) | Identity::SessionKey(_) => {
                    return Err(IdentityError::CannotHave {
                        name: owner.clone(),
                        what: "policies",
                    });
                }
            };
            match document {
                Some(text) => _ = policies.insert(policy.to_owned(), StoredPolicy::from(text)),
                None if policies.remove(policy).is_none() => {
                    return Err(IdentityError::NoSuchPolicy {
                        name: owner.clone(),
                        policy: policy.to_owned(),
                    });
                }
                None => {}
            }
            Ok(Some(identity))
        })
        .await?;
        Ok(())
    }

    /// Which Regions have the last changes of these identities. Waits for all of them until
    /// `deadline`.
    pub async fn spread_of(
        &self,
        names: &[IdentityName],
        deadline: Instant,
    ) -> Result<Spread, ServiceError> {
        let mut applied = self.inner.group.applied();
        self.look_up_neighbours().await;
        // What was changed may be in the log and not yet here.
        self.identities().await?;
        loop {
            applied.borrow_and_update();
            let spread = self.spread_now(names);
            if spread.waits.is_empty() {
                return Ok(spread);
            }
            let changed = timeout_at(deadline, applied.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return Ok(spread);
            }
        }
    }

    fn spread_now(&self, names: &[IdentityName]) -> Spread {
        let state = self.inner.group.state();
        let told = state.identity_book().map(|book| &book.told);
        let mut spread = Spread::default();
        spread.has.insert(self.region().clone());
        let known = self.inner.group.neighbours().into_iter();
        let told_before = told.into_iter().flatten().cloned();
        for region in known.chain(told_before).collect::<BTreeSet<_>>() {
            let told = told.is_some_and(|told| told.contains(&region));
            let waits = |name: &IdentityName| state.identity_waits_for(&region, name);
            match told && !names.iter().any(waits) {
                true => spread.has.insert(region),
                false => spread.waits.insert(region),
            };
        }
        spread
    }

    /// Has the log tell those Regions of identities that joined since. False if that failed: it is to
    /// be tried again.
    pub(crate) async fn tell_newcomers(&self) -> bool {
        let group = &self.inner.group;
        let untold: Vec<Region> = {
            let state = group.state();
            match state.identity_book() {
                Some(book) if book.home == *group.region() => {
                    let known = group.neighbours().into_iter();
                    known.filter(|with| !book.told.contains(with)).collect()
                }
                Some(_) | None => return true,
            }
        };
        for with in untold {
            if let Err(error) = self
                .propose_as_region(Command::ShareIdentities { with })
                .await
            {
                tracing::debug!(%error, "a Region could not be told of identities");
                return false;
            }
        }
        true
    }

    fn new_access_key(&self) -> NewAccessKey {
        let entropy = &*self.inner.world.entropy;
        let id = draw_id("AKIA", ACCESS_KEY_ID_DRAWN, entropy);
        let secret = new_secret(entropy);
        NewAccessKey { id, secret }
    }

    fn sealed_key(&self, account: AccountId, id: &str, secret: &[u8], active: bool) -> AccessKey {
        let name = access_key_secret_name(account, id);
        let entropy = &*self.inner.world.entropy;
        AccessKey {
            id: id.to_owned(),
            secret: self.inner.keyring.seal_identity(&name, secret, entropy),
            active,
            created: UnixMillis(0),
        }
    }

    fn new_unique_id(&self, prefix: &str) -> String {
        draw_id(prefix, UNIQUE_ID_DRAWN, &*self.inner.world.entropy)
    }
}

/// A sealed secret that does not open: a fault of this node, or of its data.
fn unusable(name: &str, error: &dyn std::fmt::Display) -> ServiceError {
    tracing::error!(name, %error, "an unusable secret of an identity");
    ServiceError::Internal
}

fn there(name: &IdentityName, present: Option<&Identity>) -> Result<Identity, IdentityError> {
    let missing = || Refusal::NoSuchIdentity { name: name.clone() };
    Ok(present.ok_or_else(missing)?.clone())
}

fn access_keys_of<'i>(
    name: &IdentityName,
    identity: &'i mut Identity,
) -> Result<(AccountId, &'i mut Vec<AccessKey>), IdentityError> {
    match identity {
        Identity::Account(account) => Ok((account.account, &mut account.access_keys)),
        Identity::User(user) => Ok((user.account, &mut user.access_keys)),
        Identity::Role(_) | Identity::SessionKey(_) => Err(IdentityError::CannotHave {
            name: name.clone(),
            what: "access keys",
        }),
    }
}

/// The prefix and so many random characters of `A-Z2-7`, five bits each.
pub(crate) fn draw_id(prefix: &str, drawn: usize, entropy: &dyn Entropy) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut bytes = vec![0; drawn];
    entropy.fill(&mut bytes);
    let characters = bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    prefix.chars().chain(characters).collect()
}

/// What an access key signs with: 40 characters, 240 random bits.
pub(crate) fn new_secret(entropy: &dyn Entropy) -> Zeroizing<String> {
    use base64::Engine;
    let mut bytes = Zeroizing::new([0; 30]);
    entropy.fill(bytes.as_mut_slice());
    Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(bytes.as_slice()))
}
