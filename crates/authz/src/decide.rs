//! The decision: what all policies and grants together say to a question.
//!
//! Source: AWS KMS Developer Guide, "Authentication and access control" and "Grants"; IAM User Guide,
//! "Policy evaluation logic".

use keyrum_types::AccountId;

use crate::decision::{Denied, DeniedReason, DeniedResource, Permit};
use crate::evaluation::View;
use crate::policy::{Policy, Verdict};
use crate::principal::{NamedAs, NamedPrincipal};
use crate::question::{Asker, PrincipalKind, Question};

/// What the identity's own side says.
#[derive(Debug, Clone, Default)]
pub struct IdentitySide<'a> {
    /// An account's root user: on this side, all is allowed that no policy denies.
    pub root: bool,
    /// The policies of the user or role.
    pub policies: Vec<&'a Policy>,
    /// Its permissions boundary: what `policies` allow counts only if this allows it too.
    pub boundary: Option<&'a Policy>,
    /// The session's policies: likewise, if there are any, one of them must allow it too.
    pub session: Vec<&'a Policy>,
}

impl IdentitySide<'_> {
    /// The side of an account's root user.
    pub fn of_root() -> Self {
        Self {
            root: true,
            ..Self::default()
        }
    }
}

/// What the resource's side says.
#[derive(Debug, Clone, Copy)]
pub enum ResourceSide<'a> {
    /// Nothing: the identity's side decides. CreateKey, ListKeys, and what is done to aliases.
    None,
    /// A key, or a role that is to be assumed: something that has a policy.
    Key {
        /// The account that has the key.
        owner: AccountId,
        /// Its policy.
        policy: KeyPolicy<'a>,
        /// A grant of the key that names the asker, lists the operation and has its constraints met.
        /// Of several the strongest.
        grant: Option<GrantHit>,
    },
    /// A grant that is to be retired. The key's policy has no say in that.
    Retirement {
        /// The account that has the key.
        owner: AccountId,
        /// The account in which the grant was created.
        issuer: AccountId,
        /// As what the asker is named by the grant as its retiring principal, or as its grantee if
        /// RetireGrant is among its operations.
        named: NamedAs,
    },
}

/// The policy of a key, or of a role that is to be assumed.
#[derive(Debug, Clone, Copy)]
pub enum KeyPolicy<'a> {
    /// The one that a key has whose creator named none: it leaves all to its account.
    Default,
    /// This one.
    Is(&'a Policy),
    /// One that cannot be read: it says nothing.
    Unreadable,
}

impl KeyPolicy<'_> {
    fn weigh(&self, view: &View<'_>, owner: AccountId) -> Verdict {
        match self {
            Self::Default => Verdict {
                denied: false,
                allowed: NamedPrincipal::Account(owner).names(&view.question.asker),
            },
            Self::Is(policy) => policy.weigh(view),
            Self::Unreadable => Verdict {
                denied: false,
                allowed: NamedAs::No,
            },
        }
    }
}

/// A grant that allows what is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantHit {
    /// The account in which it was created.
    pub issuer: AccountId,
    /// As what its grantee is the asker.
    pub named: NamedAs,
}

impl GrantHit {
    /// Of the grants that allow `asker` what is asked on a key of `owner`, the one that needs least of
    /// the asker's own side.
    pub fn strongest(
        hits: impl Iterator<Item = Self>,
        asker: &Asker<'_>,
        owner: AccountId,
    ) -> Option<Self> {
        let mut strongest = None;
        for hit in hits {
            let ease = hit.way(asker, owner).map_or(0, Way::ease);
            // Nothing needs less: the rest, which may be thousands, are not looked at.
            if ease == Way::FREE.ease() {
                return Some(hit);
            }
            if strongest.is_none_or(|(most, _)| ease > most) {
                strongest = Some((ease, hit));
            }
        }
        strongest.map(|(_, hit)| hit)
    }

    fn way(&self, asker: &Asker<'_>, owner: AccountId) -> Option<Way> {
        let home = self.issuer == asker.account || asker.account == owner;
        way(asker, home, self.named)
    }
}

/// What one way to an Allow needs of the identity's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    /// One of its policies must allow it.
    identity: bool,
    /// Its boundary and its session's policies must allow it.
    limits: bool,
}

impl Way {
    const FREE: Self = Self {
        identity: false,
        limits: false,
    };
    const LIMITED: Self = Self {
        identity: false,
        limits: true,
    };
    const DELEGATED: Self = Self {
        identity: true,
        limits: true,
    };

    fn ease(self) -> u8 {
        1 + u8::from(!self.identity) + u8::from(!self.limits)
    }

    /// The way of somebody who is named within the account that gives the right.
    fn named(named: NamedAs) -> Option<Self> {
        match named {
            NamedAs::No => None,
            NamedAs::Account => Some(Self::DELEGATED),
            // Source: IAM User Guide, "Policy evaluation logic": a role's boundary and its session's
            // policies limit what a resource's policy allows the role; not what it allows a user,
            // a session or everybody.
            NamedAs::Role => Some(Self::LIMITED),
            NamedAs::Itself => Some(Self::FREE),
        }
    }
}

/// Decides a question.
///
/// A Deny of any policy wins. Else it needs an Allow: of the resource's policy for the asker, or for
/// the asker's account with one of the identity's side; or a grant; from another account, both sides.
pub fn decide(
    question: &Question<'_>,
    identity: &IdentitySide<'_>,
    resource: &ResourceSide<'_>,
) -> Result<Permit, Denied> {
    match weigh(question, identity, resource) {
        Ok(()) => Ok(Permit::new(question.action)),
        Err(reason) => Err(Denied {
            principal: question.asker.arn.to_owned(),
            action: question.action.to_owned(),
            resource: named_resource(question, resource),
            reason,
        }),
    }
}

/// Whether the lockout check refuses `policy` for a key of the asker's account: it would not let the
/// asker, by its own rights or its account's, do PutKeyPolicy.
///
/// `question` is the request that sets the policy; its conditions are taken for those of a later
/// PutKeyPolicy.
///
/// Deviation: it is not asked whether the identity's own policies allow PutKeyPolicy as well, if only
/// the account is named: then the account can repair the key.
pub fn locks_out(policy: &Policy, question: &Question<'_>) -> bool {
    let later = Question {
        action: "PutKeyPolicy",
        ..*question
    };
    policy.weigh(&View::new(&later).for_resource()).allowed == NamedAs::No
}

fn named_resource(question: &Question<'_>, resource: &ResourceSide<'_>) -> DeniedResource {
    match resource {
        ResourceSide::Key { owner, .. } | ResourceSide::Retirement { owner, .. }
            if *owner != question.asker.account =>
        {
            DeniedResource::OtherAccount
        }
        _ if question.resource == "*" => DeniedResource::Any,
        _ => DeniedResource::Arn(question.resource.to_owned()),
    }
}

fn weigh(
    question: &Question<'_>,
    identity: &IdentitySide<'_>,
    resource: &ResourceSide<'_>,
) -> Result<(), DeniedReason> {
    let view = View::new(question);
    let own = Own::of(identity, &question.asker, &view)?;
    let ways = match *resource {
        ResourceSide::None => [Some(Way::DELEGATED), None],
        ResourceSide::Key {
            owner,
            policy,
            grant,
        } => {
            let view = view.for_resource();
            let Verdict { denied, allowed } = policy.weigh(&view, owner);
            if denied {
                return Err(DeniedReason::DeniedByResourcePolicy);
            }
            let by_grant = grant.and_then(|grant| grant.way(&question.asker, owner));
            let by_policy = way(&question.asker, owner == question.asker.account, allowed);
            [by_policy, by_grant]
        }
        ResourceSide::Retirement { issuer, named, .. } => {
            let issued = issuer == question.asker.account;
            let as_issuer = issued.then_some(Way::DELEGATED);
            [way(&question.asker, issued, named), as_issuer]
        }
    };
    let mut denied = None;
    for way in ways.into_iter().flatten() {
        match own.allows(way) {
            Ok(()) => return Ok(()),
            Err(reason) => denied = denied.or(Some(reason)),
        }
    }
    Err(denied.unwrap_or(DeniedReason::NoResourceBasedPolicy))
}

/// The way of one who is named, by the asker's own account (`home`) or by another one.
fn way(asker: &Asker<'_>, home: bool, named: NamedAs) -> Option<Way> {
    let way = Way::named(named)?;
    // A service has no account whose policies could allow it anything.
    Some(match home || asker.kind == PrincipalKind::Service {
        true => way,
        false => Way::DELEGATED,
    })
}

/// What the identity's side says, none of whose policies denies.
struct Own {
    identity: bool,
    boundary: bool,
    session: bool,
}

impl Own {
    fn of(
        side: &IdentitySide<'_>,
        asker: &Asker<'_>,
        view: &View<'_>,
    ) -> Result<Self, DeniedReason> {
        let any = |policies: &[&Policy], denied: DeniedReason| {
            let mut allowed = false;
            for policy in policies {
                let verdict = policy.weigh(view);
                if verdict.denied {
                    return Err(denied);
                }
                allowed |= verdict.allowed != NamedAs::No;
            }
            Ok(allowed)
        };
        let identity = any(&side.policies, DeniedReason::DeniedByIdentityPolicy)?;
        let boundary = match side.boundary {
            None => true,
            Some(boundary) => any(&[boundary], DeniedReason::DeniedByPermissionsBoundary)?,
        };
        let session = any(&side.session, DeniedReason::DeniedBySessionPolicy)?;
        // A federated user may nothing of its own but what its session's policies say.
        let unbound = side.session.is_empty() && asker.kind != PrincipalKind::FederatedUser;
        Ok(Self {
            identity: side.root || identity,
            boundary,
            session: session || unbound,
        })
    }

    fn allows(&self, way: Way) -> Result<(), DeniedReason> {
        match way {
            Way { identity: true, .. } if !self.identity => {
                Err(DeniedReason::NoIdentityBasedPolicy)
            }
            Way { limits: true, .. } if !self.boundary => Err(DeniedReason::NoPermissionsBoundary),
            Way { limits: true, .. } if !self.session => Err(DeniedReason::NoSessionPolicy),
            Way { .. } => Ok(()),
        }
    }
}
