//! From a caller to what decides about it: what kind of principal it is, and its own policies.

use std::borrow::Cow;

use keyrum_authz::{Asker, IdentitySide, Policy, PolicyKind, PrincipalKind};

use keyrum_types::resource_of;

use crate::{Caller, State, StoredPolicy};

/// A caller, found among the identities of a state.
#[derive(Debug)]
pub struct ResolvedCaller<'s> {
    caller: &'s Caller,
    kind: PrincipalKind,
    /// Of a session, its role's.
    role_arn: Option<String>,
    unique_id: Cow<'s, str>,
    policies: Vec<&'s Policy>,
    boundary: Option<&'s Policy>,
    session: Vec<Policy>,
}

impl ResolvedCaller<'_> {
    /// The caller as questions name it.
    pub fn asker(&self) -> Asker<'_> {
        Asker {
            kind: self.kind,
            account: self.caller.account,
            arn: &self.caller.arn,
            role_arn: self.role_arn.as_deref(),
            unique_id: &self.unique_id,
        }
    }

    /// What its own policies are.
    pub fn side(&self) -> IdentitySide<'_> {
        IdentitySide {
            root: self.kind == PrincipalKind::Root,
            policies: self.policies.clone(),
            boundary: self.boundary,
            session: self.session.iter().collect(),
        }
    }
}

impl State {
    /// Finds a caller. `None` if there is no such user or role any more, or only a later one of the
    /// same name, or if one of its policies cannot be read: then it may do nothing.
    pub fn resolve<'s>(&'s self, caller: &'s Caller) -> Option<ResolvedCaller<'s>> {
        let session = caller.details.session_policies.iter();
        let session = session.map(|text| Policy::parse(text, PolicyKind::Session).ok());
        let session: Vec<Policy> = session.collect::<Option<_>>()?;
        let resource = resource_of(&caller.arn)?;
        let known = &caller.details.unique_id;
        let resolved = |kind, role_arn, unique_id| ResolvedCaller {
            caller,
            kind,
            role_arn,
            unique_id,
            policies: Vec::new(),
            boundary: None,
            session,
        };
        let partition = self.region().partition();
        match resource.split_once('/') {
            None if resource == "root" => {
                let unique_id = caller.account.to_string().into();
                Some(resolved(PrincipalKind::Root, None, unique_id))
            }
            Some(("user", rest)) => {
                let user = self.user(caller.account, rest.rsplit('/').next()?)?;
                if user.id != *known || !user.has_arn(partition, &caller.arn) {
                    return None;
                }
                Some(ResolvedCaller {
                    policies: read(user.policies.values())?,
                    boundary: read_boundary(user.boundary.as_ref())?,
                    ..resolved(PrincipalKind::User, None, known.into())
                })
            }
            Some(("assumed-role", rest)) => {
                let (role, session) = rest.split_once('/')?;
                let role = self.role(caller.account, role)?;
                let of_role = known.strip_prefix(&*role.id)?;
                if of_role.strip_prefix(':') != Some(session) {
                    return None;
                }
                let arn = Some(role.arn(partition));
                Some(ResolvedCaller {
                    policies: read(role.policies.values())?,
                    boundary: read_boundary(role.boundary.as_ref())?,
                    ..resolved(PrincipalKind::AssumedRole, arn, known.into())
                })
            }
            _ => None,
        }
    }
}

/// All of them, or `None` if one cannot be read: it might deny something.
fn read<'s>(policies: impl Iterator<Item = &'s StoredPolicy>) -> Option<Vec<&'s Policy>> {
    policies
        .map(|policy| policy.parsed(PolicyKind::Identity))
        .collect()
}

fn read_boundary(boundary: Option<&StoredPolicy>) -> Option<Option<&Policy>> {
    let Some(boundary) = boundary else {
        return Some(None);
    };
    boundary.parsed(PolicyKind::Boundary).map(Some)
}
