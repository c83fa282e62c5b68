//! Identities as operators write and see them.
//!
//! `POST /identities` takes one of these; identities are named by ARN, `ACCOUNT`,
//! `ACCOUNT:user/NAME` or `ACCOUNT:role/NAME`:
//!
//! | `do` | with |
//! |---|---|
//! | `apply` | `identities`, as in a file; `replace`: whether what differs is replaced |
//! | `delete` | `name` |
//! | `create-access-key` | `name` |
//! | `set-access-key` | `id`, `active` |
//! | `delete-access-key` | `id` |
//! | `put-policy` | `name`, `policy`, `document` |
//! | `delete-policy` | `name`, `policy` |
//!
//! The answer says which Regions have the change (`has`) and which have not yet (`waits`); it waits
//! for them for [`SPREAD_WAIT`] at most.

use std::collections::BTreeMap;
use std::time::Duration;

use keyrum_service::{
    AccountPlan, IdentityError, KeyPlan, NewAccessKey, RolePlan, Service, ServiceError, UserPlan,
};
use keyrum_state::{AccessKey, IdentityName, Refusal as StateRefusal, StoredPolicy};
use keyrum_types::{AccountId, Region};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::Refused;

/// How long an answer waits for other Regions to have a change.
const SPREAD_WAIT: Duration = Duration::from_secs(10);

/// Accounts, users and roles as a file has them.
#[derive(Deserialize, Serialize, Default)]
#[serde(deny_unknown_fields)]
pub struct IdentitiesForm {
    #[serde(default, rename = "account")]
    accounts: Vec<AccountForm>,
}

// Without Debug: they hold secrets.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct AccountForm {
    id: String,
    #[serde(default)]
    alias: Option<String>,
    #[serde(default)]
    access_keys: Vec<KeyForm>,
    #[serde(default, rename = "user")]
    users: Vec<UserForm>,
    #[serde(default, rename = "role")]
    roles: Vec<RoleForm>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct KeyForm {
    id: String,
    #[serde(default)]
    secret: Option<String>,
    #[serde(default = "yes")]
    active: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct UserForm {
    name: String,
    #[serde(default = "root_path")]
    path: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    policies: BTreeMap<String, Document>,
    #[serde(default)]
    boundary: Option<Document>,
    #[serde(default)]
    access_keys: Vec<KeyForm>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RoleForm {
    name: String,
    #[serde(default = "root_path")]
    path: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    trust: Document,
    #[serde(default)]
    policies: BTreeMap<String, Document>,
    #[serde(default)]
    boundary: Option<Document>,
    #[serde(default)]
    max_session_seconds: Option<u32>,
}

/// A policy: its text, or the same in the form of the file.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Document {
    Text(String),
    Table(Map<String, Value>),
}

impl Document {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Table(table) => json!(table).to_string(),
        }
    }
}

fn yes() -> bool {
    true
}

fn root_path() -> String {
    "/".to_owned()
}

/// What cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrongIdentities {
    /// An account's id.
    #[error("{id:?} is no account: 12 digits, in quotes")]
    Account {
        /// As it is written.
        id: String,
    },
    /// The same twice.
    #[error("{name} is described twice")]
    Twice {
        /// Which.
        name: IdentityName,
    },
    /// An access key twice.
    #[error("the access key {id} is there twice")]
    KeyTwice {
        /// Its id.
        id: String,
    },
}

impl IdentitiesForm {
    /// The plan it makes. Most of what can be wrong with it the log says when it is carried out.
    pub fn plan(&self) -> Result<Vec<AccountPlan>, WrongIdentities> {
        let plan = self.accounts.iter().map(AccountForm::plan);
        let plan: Vec<AccountPlan> = plan.collect::<Result<_, _>>()?;
        check_unique(&plan)?;
        Ok(plan)
    }
}

fn check_unique(plan: &[AccountPlan]) -> Result<(), WrongIdentities> {
    let (mut names, mut ids) = (Vec::new(), Vec::new());
    for account in plan {
        names.push(IdentityName::Account(account.account));
        for user in &account.users {
            names.push(IdentityName::User(account.account, user.name.clone()));
        }
        for role in &account.roles {
            names.push(IdentityName::Role(account.account, role.name.clone()));
        }
        let keys = account.users.iter().flat_map(|user| &user.access_keys);
        ids.extend(keys.chain(&account.access_keys).map(|key| key.id.clone()));
    }
    names.sort_unstable();
    ids.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let name = pair[0].clone();
        return Err(WrongIdentities::Twice { name });
    }
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(WrongIdentities::KeyTwice {
            id: pair[0].clone(),
        }),
        None => Ok(()),
    }
}

impl AccountForm {
    fn plan(&self) -> Result<AccountPlan, WrongIdentities> {
        let account: AccountId = self.id.parse().map_err(|_| WrongIdentities::Account {
            id: self.id.clone(),
        })?;
        Ok(AccountPlan {
            account,
            alias: self.alias.clone(),
            access_keys: keys(&self.access_keys),
            users: self.users.iter().map(UserForm::plan).collect(),
            roles: self.roles.iter().map(RoleForm::plan).collect(),
        })
    }
}

impl UserForm {
    fn plan(&self) -> UserPlan {
        UserPlan {
            name: self.name.clone(),
            path: self.path.clone(),
            tags: self.tags.clone(),
            policies: texts(&self.policies),
            boundary: self.boundary.as_ref().map(Document::text),
            access_keys: keys(&self.access_keys),
        }
    }
}

impl RoleForm {
    fn plan(&self) -> RolePlan {
        RolePlan {
            name: self.name.clone(),
            path: self.path.clone(),
            tags: self.tags.clone(),
            trust: self.trust.text(),
            policies: texts(&self.policies),
            boundary: self.boundary.as_ref().map(Document::text),
            session_seconds_max: self.max_session_seconds,
        }
    }
}

fn keys(forms: &[KeyForm]) -> Vec<KeyPlan> {
    let key = |form: &KeyForm| KeyPlan {
        id: form.id.clone(),
        secret: form.secret.clone().map(Zeroizing::new),
        active: form.active,
    };
    forms.iter().map(key).collect()
}

fn texts(documents: &BTreeMap<String, Document>) -> BTreeMap<String, String> {
    let text = |(name, document): (&String, &Document)| (name.clone(), document.text());
    documents.iter().map(text).collect()
}

/// A change that an operator asks for.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Change {
    Apply {
        identities: IdentitiesForm,
        #[serde(default)]
        replace: bool,
    },
    Delete {
        name: String,
    },
    CreateAccessKey {
        name: String,
    },
    SetAccessKey {
        id: String,
        active: bool,
    },
    DeleteAccessKey {
        id: String,
    },
    PutPolicy {
        name: String,
        policy: String,
        document: String,
    },
    DeletePolicy {
        name: String,
        policy: String,
    },
}

/// What the name of an identity stands for.
fn named(text: &str) -> Result<IdentityName, Refused> {
    parse_name(text).ok_or_else(|| {
        Refused(
            400,
            format!(
                "{text:?} names no identity: say 111122223333, 111122223333:user/NAME, \
                 111122223333:role/NAME, or an ARN"
            ),
        )
    })
}

fn parse_name(text: &str) -> Option<IdentityName> {
    let (account, resource) = match text.split_once(':') {
        None => (text, "root"),
        Some(("arn", rest)) => {
            let [_, "iam", "", account, resource] = rest.splitn(5, ':').collect::<Vec<_>>()[..]
            else {
                return None;
            };
            (account, resource)
        }
        Some(pair) => pair,
    };
    let account = account.parse().ok()?;
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    match resource.split_once('/') {
        None if resource == "root" => Some(IdentityName::Account(account)),
        Some(("user", path)) => Some(IdentityName::User(account, last(path))),
        Some(("role", path)) => Some(IdentityName::Role(account, last(path))),
        _ => None,
    }
}

/// Carries a change out, and says how far it has come.
pub(super) async fn change(service: &Service, change: Change) -> Result<Value, Refused> {
    let mut answer = json!({});
    let changed = match change {
        Change::Apply {
            identities,
            replace,
        } => {
            let plan = identities.plan();
            let plan = plan.map_err(|wrong| Refused(400, wrong.to_string()))?;
            let report = service.apply_identities(&plan, replace).await?;
            let texts = |names: &[IdentityName]| -> Vec<String> {
                names.iter().map(ToString::to_string).collect()
            };
            answer = json!({
                "made": texts(&report.made),
                "replaced": texts(&report.replaced),
                "same": report.same,
                "differs": report.differs.iter().map(|(name, what)| {
                    json!({ "name": name.to_string(), "in": what })
                }).collect::<Vec<_>>(),
                "deleted": texts(&report.deleted),
                "access_keys": report.drawn.iter().map(show_new_key).collect::<Vec<_>>(),
            });
            report.changed()
        }
        Change::Delete { name } => {
            let name = named(&name)?;
            service.delete_identity(&name).await?;
            vec![name]
        }
        Change::CreateAccessKey { name } => {
            let name = named(&name)?;
            let key = service.create_access_key(&name).await?;
            answer["access_key"] = show_new_key(&key);
            vec![name]
        }
        Change::SetAccessKey { id, active } => {
            let owner = service.owner_of(&id).await?;
            service.set_access_key(&id, active).await?;
            vec![owner]
        }
        Change::DeleteAccessKey { id } => {
            let owner = service.owner_of(&id).await?;
            service.delete_access_key(&id).await?;
            vec![owner]
        }
        Change::PutPolicy {
            name,
            policy,
            document,
        } => {
            let name = named(&name)?;
            let document = Some(document.as_str());
            service
                .put_identity_policy(&name, &policy, document)
                .await?;
            vec![name]
        }
        Change::DeletePolicy { name, policy } => {
            let name = named(&name)?;
            service.put_identity_policy(&name, &policy, None).await?;
            vec![name]
        }
    };
    let deadline = Instant::now() + SPREAD_WAIT;
    // It is made, whatever is known of the other Regions.
    let spread = service.spread_of(&changed, deadline).await;
    if let Ok(spread) = spread {
        let names = |regions: &std::collections::BTreeSet<Region>| -> Vec<String> {
            regions.iter().map(ToString::to_string).collect()
        };
        answer["has"] = json!(names(&spread.has));
        answer["waits"] = json!(names(&spread.waits));
    }
    Ok(answer)
}

fn show_new_key(key: &NewAccessKey) -> Value {
    json!({ "id": key.id, "secret": key.secret.as_str() })
}

/// All identities, without secrets.
pub(super) async fn list(service: &Service) -> Result<Value, Refused> {
    let home = service.identity_home();
    let state = service.identities().await?;
    let partition = state.region().partition();
    let accounts = state.accounts().map(|account| {
        let users = state.users(account.account).map(|user| {
            json!({
                "name": user.name,
                "arn": user.arn(partition),
                "id": user.id,
                "created_ms": user.created.0,
                "tags": user.tags,
                "policies": show_policies(&user.policies),
                "boundary": user.boundary.as_ref().map(StoredPolicy::text),
                "access_keys": show_keys(&user.access_keys),
            })
        });
        let roles = state.roles(account.account).map(|role| {
            json!({
                "name": role.name,
                "arn": role.arn(partition),
                "id": role.id,
                "created_ms": role.created.0,
                "tags": role.tags,
                "trust": role.trust.text(),
                "policies": show_policies(&role.policies),
                "boundary": role.boundary.as_ref().map(StoredPolicy::text),
                "max_session_seconds": role.session_seconds_max,
            })
        });
        json!({
            "id": account.account.to_string(),
            "alias": account.alias,
            "created_ms": account.created.0,
            "access_keys": show_keys(&account.access_keys),
            "users": users.collect::<Vec<_>>(),
            "roles": roles.collect::<Vec<_>>(),
        })
    });
    Ok(json!({
        "home": home.as_str(),
        "changes": state.identity_book().map_or(0, |book| book.revision),
        "accounts": accounts.collect::<Vec<_>>(),
    }))
}

fn show_policies(policies: &BTreeMap<String, StoredPolicy>) -> BTreeMap<&str, &str> {
    let texts = policies.iter();
    texts
        .map(|(name, policy)| (name.as_str(), policy.text()))
        .collect()
}

fn show_keys(keys: &[AccessKey]) -> Vec<Value> {
    let show = |key: &AccessKey| json!({ "id": key.id, "active": key.active, "created_ms": key.created.0 });
    keys.iter().map(show).collect()
}

impl From<IdentityError> for Refused {
    fn from(error: IdentityError) -> Self {
        let status = match &error {
            IdentityError::Elsewhere { .. } | IdentityError::Contended { .. } => 409,
            IdentityError::NoSuchAccessKey { .. }
            | IdentityError::NoSuchPolicy { .. }
            | IdentityError::CannotHave { .. } => 400,
            IdentityError::Service(ServiceError::Refused(refusal)) => match refusal {
                StateRefusal::FeatureLevelTooLow { .. } => 503,
                _ => 400,
            },
            IdentityError::Service(_) => 503,
        };
        Self(status, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a name that stands for somebody else, and one that stands for nobody and is taken.
    #[test]
    fn names_stand_for_one_identity() {
        let account = "111122223333".parse().unwrap();
        let user = IdentityName::User(account, "ada".to_owned());
        let role = IdentityName::Role(account, "ops".to_owned());
        for (text, name) in [
            ("111122223333", IdentityName::Account(account)),
            (
                "arn:aws:iam::111122223333:root",
                IdentityName::Account(account),
            ),
            ("111122223333:user/ada", user.clone()),
            ("arn:aws:iam::111122223333:user/eng/ada", user),
            ("111122223333:role/ops", role.clone()),
            ("arn:aws-cn:iam::111122223333:role/ops", role),
        ] {
            assert_eq!(parse_name(text), Some(name), "{text}");
        }
        for bad in [
            "",
            "ada",
            "1111",
            "111122223333:ada",
            "111122223333:group/g",
            "arn:aws:sts::111122223333:assumed-role/a/b",
        ] {
            assert_eq!(parse_name(bad), None, "{bad}");
        }
    }

    /// Catches a file whose parts get lost, or that says two things of one identity.
    #[test]
    fn forms_make_plans() {
        let form = |value: Value| -> IdentitiesForm { serde_json::from_value(value).unwrap() };
        let plan = form(json!({ "account": [{
            "id": "111122223333",
            "access_keys": [{ "id": "AKIA1", "secret": "s" }],
            "user": [{ "name": "ada", "policies": { "p": { "Statement": [] } } }],
            "role": [{ "name": "ops", "trust": "{}", "max_session_seconds": 7200 }],
        }] }))
        .plan();
        let plan = plan.ok().unwrap();
        let [account] = &plan[..] else { panic!() };
        assert_eq!(
            account.access_keys[0].secret.as_ref().unwrap().as_str(),
            "s"
        );
        assert!(account.access_keys[0].active);
        let user = &account.users[0];
        assert_eq!(
            (user.path.as_str(), user.policies["p"].as_str()),
            ("/", r#"{"Statement":[]}"#)
        );
        let role = &account.roles[0];
        assert_eq!(
            (role.trust.as_str(), role.session_seconds_max),
            ("{}", Some(7200))
        );

        let wrong = |value: Value| form(value).plan().err().unwrap();
        let account = |more: Value| {
            let mut account = json!({ "id": "111122223333" });
            account
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            json!({ "account": [account] })
        };
        assert!(matches!(
            wrong(json!({ "account": [{ "id": "1" }] })),
            WrongIdentities::Account { .. }
        ));
        let twice = json!([{ "name": "a" }, { "name": "a" }]);
        assert!(matches!(
            wrong(account(json!({ "user": twice }))),
            WrongIdentities::Twice { .. }
        ));
        let key = json!([{ "id": "AKIA1" }]);
        let user = json!([{ "name": "a", "access_keys": key }]);
        let both = account(json!({ "access_keys": key, "user": user }));
        assert!(matches!(wrong(both), WrongIdentities::KeyTwice { .. }));
    }
}
