//! Identities as a file describes them.
//!
//! At a start, what is absent is made. What is there and differs stays as it is, and so does what was
//! deleted: a right that was taken away while the cluster ran must not come back with a restart.

use std::collections::BTreeMap;

use keyrum_state::{
    AccessKey, Account, Identity, IdentityName, Role, SESSION_SECONDS_MIN, StoredPolicy, User,
    access_key_secret_name,
};
use keyrum_types::{AccountId, UnixMillis};
use zeroize::Zeroizing;

use super::{IdentityError, NewAccessKey};
use crate::Service;

/// An account as it is to be, with whoever belongs to it.
pub struct AccountPlan {
    /// Its number.
    pub account: AccountId,
    /// What people call it.
    pub alias: Option<String>,
    /// The root's.
    pub access_keys: Vec<KeyPlan>,
    /// Its users.
    pub users: Vec<UserPlan>,
    /// Its roles.
    pub roles: Vec<RolePlan>,
}

/// An access key as it is to be.
pub struct KeyPlan {
    /// Names it in public.
    pub id: String,
    /// Signs; `None` to have one drawn, or to keep the one there is.
    pub secret: Option<Zeroizing<String>>,
    /// Whether it may be used.
    pub active: bool,
}

/// A user as it is to be.
pub struct UserPlan {
    /// Without the path.
    pub name: String,
    /// `/`, or more with a slash at both ends.
    pub path: String,
    /// Names and values.
    pub tags: BTreeMap<String, String>,
    /// Texts by name.
    pub policies: BTreeMap<String, String>,
    /// What it may do at most.
    pub boundary: Option<String>,
    /// At most two.
    pub access_keys: Vec<KeyPlan>,
}

/// A role as it is to be.
pub struct RolePlan {
    /// Without the path.
    pub name: String,
    /// `/`, or more with a slash at both ends.
    pub path: String,
    /// Names and values.
    pub tags: BTreeMap<String, String>,
    /// Who may assume it.
    pub trust: String,
    /// Texts by name.
    pub policies: BTreeMap<String, String>,
    /// What it may do at most.
    pub boundary: Option<String>,
    /// How long a session may be at most, in seconds; `None` for an hour.
    pub session_seconds_max: Option<u32>,
}

/// What became of a plan.
#[derive(Default)]
pub struct IdentityReport {
    /// Was absent and is made.
    pub made: Vec<IdentityName>,
    /// Was otherwise and is as planned now.
    pub replaced: Vec<IdentityName>,
    /// Is as planned.
    pub same: usize,
    /// Is otherwise, in these respects, and stays so.
    pub differs: Vec<(IdentityName, Vec<&'static str>)>,
    /// Was deleted, and stays so.
    pub deleted: Vec<IdentityName>,
    /// Access keys whose secrets were drawn.
    pub drawn: Vec<NewAccessKey>,
}

impl IdentityReport {
    /// What was changed.
    pub fn changed(&self) -> Vec<IdentityName> {
        self.made.iter().chain(&self.replaced).cloned().collect()
    }
}

/// One identity of a plan.
enum Planned<'p> {
    Account(&'p AccountPlan),
    User(AccountId, &'p UserPlan),
    Role(AccountId, &'p RolePlan),
}

impl Planned<'_> {
    fn name(&self) -> IdentityName {
        match self {
            Self::Account(plan) => IdentityName::Account(plan.account),
            Self::User(account, plan) => IdentityName::User(*account, plan.name.clone()),
            Self::Role(account, plan) => IdentityName::Role(*account, plan.name.clone()),
        }
    }

    fn keys(&self) -> &[KeyPlan] {
        match self {
            Self::Account(plan) => &plan.access_keys,
            Self::User(_, plan) => &plan.access_keys,
            Self::Role(..) => &[],
        }
    }
}

/// An account comes before whoever belongs to it.
fn in_order(plan: &[AccountPlan]) -> Vec<Planned<'_>> {
    let mut all: Vec<_> = plan.iter().map(Planned::Account).collect();
    for account in plan {
        let number = account.account;
        let users = account.users.iter();
        all.extend(users.map(|user| Planned::User(number, user)));
        let roles = account.roles.iter();
        all.extend(roles.map(|role| Planned::Role(number, role)));
    }
    all
}

impl Service {
    /// Makes what a plan has and is absent. What is there otherwise, or was deleted, stays, unless
    /// `replace`. What the plan does not have stays in any case.
    ///
    /// Cut short, it leaves whole identities, and is finished by the next.
    pub async fn apply_identities(
        &self,
        plan: &[AccountPlan],
        replace: bool,
    ) -> Result<IdentityReport, IdentityError> {
        self.identities_possible().await?;
        let mut report = IdentityReport::default();
        for planned in in_order(plan) {
            self.apply_identity(&planned, replace, &mut report).await?;
        }
        Ok(report)
    }

    async fn apply_identity(
        &self,
        planned: &Planned<'_>,
        replace: bool,
        report: &mut IdentityReport,
    ) -> Result<(), IdentityError> {
        let name = planned.name();
        let state = self.identities().await?;
        let present = state.identity(&name).map(|record| record.identity.clone());
        if !replace {
            // Whoever belongs to an account that was deleted stays away with it.
            let account = name.account().map(IdentityName::Account);
            let of_deleted = account.is_some_and(|account| {
                state.identity(&account).is_none() && state.identity_deleted(&account).is_some()
            });
            if present.is_none() && (of_deleted || state.identity_deleted(&name).is_some()) {
                report.deleted.push(name);
                return Ok(());
            }
            if let Some(present) = &present {
                match self.differences(planned, present)? {
                    same if same.is_empty() => report.same += 1,
                    differences => report.differs.push((name, differences)),
                }
                return Ok(());
            }
        }
        drop(state);
        let mut drawn = Vec::new();
        let changed = self.change_identity(&name, |present| {
            drawn.clear();
            if let Some(present) = present
                && self.differences(planned, present)?.is_empty()
            {
                return Ok(None);
            }
            self.planned_identity(planned, present, &mut drawn)
                .map(Some)
        });
        match changed.await? {
            false => report.same += 1,
            true => {
                report.drawn.append(&mut drawn);
                match present {
                    None => report.made.push(name),
                    Some(_) => report.replaced.push(name),
                }
            }
        }
        Ok(())
    }

    /// The identity of a plan in place of the one that is there.
    fn planned_identity(
        &self,
        planned: &Planned<'_>,
        present: Option<&Identity>,
        drawn: &mut Vec<NewAccessKey>,
    ) -> Result<Identity, IdentityError> {
        let created = UnixMillis(0);
        let unique_id = |prefix: &str| match present.and_then(Identity::unique_id) {
            Some(id) => id.to_owned(),
            None => self.new_unique_id(prefix),
        };
        let policies = |texts: &BTreeMap<String, String>| {
            let policy = |(name, text): (&String, &String)| {
                (name.clone(), StoredPolicy::from(text.as_str()))
            };
            texts.iter().map(policy).collect()
        };
        let boundary = |text: &Option<String>| text.as_deref().map(StoredPolicy::from);
        let own = present.map_or(&[][..], Identity::access_keys);
        let mut keys = |account: AccountId| -> Result<Vec<AccessKey>, IdentityError> {
            let key = |plan: &KeyPlan| self.planned_key(account, plan, own, drawn);
            planned.keys().iter().map(key).collect()
        };
        Ok(match planned {
            Planned::Account(plan) => Identity::Account(Account {
                account: plan.account,
                alias: plan.alias.clone(),
                access_keys: keys(plan.account)?,
                created,
            }),
            Planned::User(account, plan) => Identity::User(User {
                account: *account,
                path: plan.path.clone(),
                name: plan.name.clone(),
                id: unique_id("AIDA"),
                created,
                tags: plan.tags.clone(),
                policies: policies(&plan.policies),
                boundary: boundary(&plan.boundary),
                access_keys: keys(*account)?,
            }),
            Planned::Role(account, plan) => Identity::Role(Role {
                account: *account,
                path: plan.path.clone(),
                name: plan.name.clone(),
                id: unique_id("AROA"),
                created,
                tags: plan.tags.clone(),
                trust: plan.trust.as_str().into(),
                policies: policies(&plan.policies),
                boundary: boundary(&plan.boundary),
                session_seconds_max: plan.session_seconds_max.unwrap_or(SESSION_SECONDS_MIN),
            }),
        })
    }

    fn planned_key(
        &self,
        account: AccountId,
        plan: &KeyPlan,
        own: &[AccessKey],
        drawn: &mut Vec<NewAccessKey>,
    ) -> Result<AccessKey, IdentityError> {
        let there = own.iter().find(|key| key.id == plan.id);
        if let Some(there) = there
            && self.signs_with(account, there, plan)?
        {
            return Ok(AccessKey {
                active: plan.active,
                ..there.clone()
            });
        }
        let secret = match &plan.secret {
            Some(secret) => secret.clone(),
            None => {
                let secret = super::new_secret(&*self.inner.world.entropy);
                drawn.push(NewAccessKey {
                    id: plan.id.clone(),
                    secret: secret.clone(),
                });
                secret
            }
        };
        Ok(self.sealed_key(account, &plan.id, secret.as_bytes(), plan.active))
    }

    /// Whether an access key has the secret that is planned, if any is.
    fn signs_with(
        &self,
        account: AccountId,
        there: &AccessKey,
        plan: &KeyPlan,
    ) -> Result<bool, IdentityError> {
        let Some(secret) = &plan.secret else {
            return Ok(true);
        };
        let name = access_key_secret_name(account, &there.id);
        let opened = self.inner.keyring.unseal_identity(&name, &there.secret);
        let opened = opened.map_err(|error| super::unusable(&name, &error))?;
        Ok(*opened == secret.as_bytes())
    }

    /// In what a planned identity differs from the one that is there.
    fn differences(
        &self,
        planned: &Planned<'_>,
        present: &Identity,
    ) -> Result<Vec<&'static str>, IdentityError> {
        let mut found = Vec::new();
        let mut compare = |what: &'static str, same: bool| {
            if !same {
                found.push(what);
            }
        };
        let same_texts = |plan: &BTreeMap<String, String>,
                          there: &BTreeMap<String, StoredPolicy>| {
            let plan = plan.iter().map(|(name, text)| (name, text.as_str()));
            plan.eq(there.iter().map(|(name, policy)| (name, policy.text())))
        };
        let same_text = |plan: &Option<String>, there: &Option<StoredPolicy>| {
            plan.as_deref() == there.as_ref().map(StoredPolicy::text)
        };
        match (planned, present) {
            (Planned::Account(plan), Identity::Account(there)) => {
                compare("alias", plan.alias == there.alias);
            }
            (Planned::User(_, plan), Identity::User(there)) => {
                compare("name", plan.name == there.name);
                compare("path", plan.path == there.path);
                compare("tags", plan.tags == there.tags);
                compare("policies", same_texts(&plan.policies, &there.policies));
                compare("boundary", same_text(&plan.boundary, &there.boundary));
            }
            (Planned::Role(_, plan), Identity::Role(there)) => {
                compare("name", plan.name == there.name);
                compare("path", plan.path == there.path);
                compare("tags", plan.tags == there.tags);
                compare("trust", plan.trust == there.trust.text());
                compare("policies", same_texts(&plan.policies, &there.policies));
                compare("boundary", same_text(&plan.boundary, &there.boundary));
                let seconds = plan.session_seconds_max.unwrap_or(SESSION_SECONDS_MIN);
                compare("max_session_seconds", seconds == there.session_seconds_max);
            }
            _ => unreachable!("an identity was looked up by its kind and name"),
        }
        let there = present.access_keys();
        let mut same_keys = planned.keys().len() == there.len();
        for (plan, there) in planned.keys().iter().zip(there) {
            let account = planned.name().account();
            let account = account.expect("only session keys are nobody's");
            same_keys &= plan.id == there.id
                && plan.active == there.active
                && self.signs_with(account, there, plan)?;
        }
        compare("access_keys", same_keys);
        Ok(found)
    }
}
