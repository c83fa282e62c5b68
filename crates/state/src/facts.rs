//! What conditions of policies may ask: of the request, its caller, its key and the time.
//!
//! Source of the names: AWS KMS Developer Guide, "Condition keys for AWS KMS"; IAM User Guide, "AWS global
//! condition context keys". They are asked for in lower case.

use std::borrow::Cow;
use std::collections::BTreeMap;

use keyrum_authz::{Context, VIA_SERVICE, Values};
use keyrum_types::{
    ExpirationModel, KeySpec, KeyUsage, MultiRegionRole, Origin, Region, RotationDays, UnixMillis,
};

use crate::policy::POLICY_NAME;
use crate::{Caller, Command, Grant, GrantPrincipal, GrantTerms, ImportTerms, Key, State};

/// What a request itself says, beside who makes it. A command is such facts; a request that only
/// reads brings its own.
pub trait Facts {
    /// The values of a condition key, in lower case; `None` if the request says nothing about it.
    fn values(&self, key: &str) -> Option<Values<'_>>;

    /// The encryption context that grants' constraints look at; `None` for an operation that has none.
    fn encryption_context(&self) -> Option<&BTreeMap<String, String>> {
        None
    }
}

/// A request that says nothing that conditions could ask for.
#[derive(Debug, Clone, Copy)]
pub struct NoFacts;

impl Facts for NoFacts {
    fn values(&self, _: &str) -> Option<Values<'_>> {
        None
    }
}

/// One question's surroundings: all that its conditions may ask for.
pub(crate) struct Situation<'a> {
    pub(crate) state: &'a State,
    pub(crate) caller: &'a Caller,
    pub(crate) facts: &'a dyn Facts,
    pub(crate) key: Option<&'a Key>,
    pub(crate) action: &'static str,
}

impl Context for Situation<'_> {
    fn values(&self, name: &str) -> Option<Values<'_>> {
        let asked = self.facts.values(name);
        asked
            .or_else(|| self.key.and_then(|key| self.of_key(key, name)))
            .or_else(|| self.of_caller(name))
    }
}

impl Situation<'_> {
    fn of_key<'a>(&'a self, key: &'a Key, name: &str) -> Option<Values<'a>> {
        if let Some(tag) = name.strip_prefix("aws:resourcetag/") {
            return tagged(&key.tags, tag);
        }
        let name = name.strip_prefix("kms:")?;
        if name == "resourcealiases" {
            let aliases = self.state.aliases_of(key.reference(), None);
            return Some(many(aliases.map(|(name, _)| name.as_str())));
        }
        if name == "trailingdayswithoutkeyusage" {
            return self.days_unused(key).map(|days| owned(days.to_string()));
        }
        let role = key.multi_region;
        kind(name, key.spec, key.usage, key.origin, role)
    }

    /// Whole days since the key was last used, or made, for those who mean to stop it.
    fn days_unused(&self, key: &Key) -> Option<u64> {
        if !matches!(self.action, "ScheduleKeyDeletion" | "DisableKey") {
            return None;
        }
        let last = self.state.last_use(key.reference());
        let since = last.map_or(key.created, |last| last.at);
        let now = self.state.region_time(self.caller.details.at?);
        Some(now.0.saturating_sub(since.0) / UnixMillis::DAY_MS)
    }

    /// The engine knows who asks; this is what it does not. Tags of who asks are among the conditions.
    fn of_caller(&self, name: &str) -> Option<Values<'_>> {
        match (name, self.action) {
            ("aws:requestedregion", _) => return Some(text(self.state.region().as_str())),
            ("kms:grantisforawsresource", "CreateGrant" | "ListGrants" | "RevokeGrant") => {
                return Some(boolean(self.caller.conditions.contains_key(VIA_SERVICE)));
            }
            _ => {}
        }
        // What crossed from another Region is among the conditions.
        match self.caller.conditions.get(name).map(Vec::as_slice) {
            Some([value]) => return Some(text(value)),
            Some(values) => return Some(many(values.iter().map(String::as_str))),
            None => {}
        }
        let details = &self.caller.details;
        match name {
            "aws:sourceip" => details.source_ip.map(|ip| owned(ip.to_string())),
            "aws:useragent" => details.user_agent.as_deref().map(text),
            "aws:securetransport" => details.at.map(|_| boolean(details.secure)),
            "aws:currenttime" | "aws:epochtime" => Some(owned(
                (self.state.region_time(details.at?).0 / 1000).to_string(),
            )),
            _ => None,
        }
    }
}

fn kind(
    name: &str,
    spec: KeySpec,
    usage: KeyUsage,
    origin: Origin,
    role: Option<MultiRegionRole>,
) -> Option<Values<'static>> {
    match name {
        "keyspec" | "customermasterkeyspec" => Some(text(spec.name())),
        "keyusage" | "customermasterkeyusage" => Some(text(usage.name())),
        "keyorigin" => Some(text(origin.name())),
        "multiregion" => Some(boolean(role.is_some())),
        "multiregionkeytype" => role.map(|role| {
            text(match role {
                MultiRegionRole::Primary => "PRIMARY",
                MultiRegionRole::Replica => "REPLICA",
            })
        }),
        _ => None,
    }
}

impl Facts for Command {
    fn values(&self, name: &str) -> Option<Values<'_>> {
        match self {
            Self::CreateKey {
                key,
                spec,
                usage,
                origin,
                bypass_lockout_check,
                tags,
                ..
            } => {
                let role = key.is_multi_region().then_some(MultiRegionRole::Primary);
                let kind = |name| kind(name, *spec, *usage, *origin, role);
                of_tags(name, tags)
                    .or_else(|| bypass(name, *bypass_lockout_check))
                    .or_else(|| name.strip_prefix("kms:").and_then(kind))
            }
            Self::ReplicateKey {
                region,
                bypass_lockout_check,
                tags,
                ..
            } => match name {
                "kms:replicaregion" => Some(text(region.as_str())),
                name => of_tags(name, tags).or_else(|| bypass(name, *bypass_lockout_check)),
            },
            Self::UpdatePrimaryRegion { to, .. } => {
                (name == "kms:primaryregion").then(|| text(to.as_str()))
            }
            Self::PutKeyPolicy {
                bypass_lockout_check,
                ..
            } => match name {
                "kms:policyname" => Some(text(POLICY_NAME)),
                name => bypass(name, *bypass_lockout_check),
            },
            Self::EnableKeyRotation { period, .. } => (name == "kms:rotationperiodindays")
                .then(|| owned(period.unwrap_or(RotationDays::DEFAULT).days().to_string())),
            Self::ScheduleKeyDeletion { wait, .. } => (name
                == "kms:schedulekeydeletionpendingwindowindays")
                .then(|| owned(wait.days().to_string())),
            Self::TagResource { tags, .. } => of_tags(name, tags),
            Self::UntagResource { tag_keys, .. } => {
                (name == "aws:tagkeys").then(|| many(tag_keys.iter().map(String::as_str)))
            }
            Self::ImportKeyMaterial { terms, .. } => terms.values(name),
            Self::CreateGrant { terms, .. } => of_grant(name, terms),
            _ => None,
        }
    }
}

/// Deviation: kms:ExpirationModel has a value also if the request leaves it out: the one in effect.
impl Facts for ImportTerms {
    fn values(&self, name: &str) -> Option<Values<'_>> {
        match name {
            "kms:expirationmodel" => Some(text(match self.expires {
                Some(_) => ExpirationModel::Expires.name(),
                None => ExpirationModel::DoesNotExpire.name(),
            })),
            "kms:validto" => self.expires.map(|at| owned((at.0 / 1000).to_string())),
            _ => None,
        }
    }
}

/// What UpdatePrimaryRegion says to the Region that is to be the primary's.
pub(crate) struct PrimaryRegion<'a>(pub(crate) &'a Region);

impl Facts for PrimaryRegion<'_> {
    fn values(&self, name: &str) -> Option<Values<'_>> {
        (name == "kms:primaryregion").then(|| text(self.0.as_str()))
    }
}

/// What a command says where it acts in another Region.
pub(crate) struct InRegion<'a> {
    pub(crate) region: &'a Region,
    pub(crate) command: &'a Command,
}

impl Facts for InRegion<'_> {
    fn values(&self, name: &str) -> Option<Values<'_>> {
        match name {
            "aws:requestedregion" => Some(text(self.region.as_str())),
            name => self.command.values(name),
        }
    }
}

/// What RetireGrant says: what the grant does.
pub(crate) struct OfGrant<'a>(pub(crate) &'a Grant);

impl Facts for OfGrant<'_> {
    fn values(&self, name: &str) -> Option<Values<'_>> {
        let terms = &self.0.terms;
        match name {
            "kms:grantconstrainttype" => of_grant(name, terms),
            _ if name.starts_with("kms:encryptioncontext") => of_grant(name, terms),
            _ => None,
        }
    }
}

fn of_grant<'a>(name: &str, terms: &'a GrantTerms) -> Option<Values<'a>> {
    let constraints = &terms.constraints;
    let contexts = [&constraints.context_equals, &constraints.context_subset];
    if let Some(context) = contexts.into_iter().flatten().next()
        && let Some(values) = of_context(name, context)
    {
        return Some(values);
    }
    let aws = |of: &'a GrantPrincipal| match of {
        GrantPrincipal::Aws(arn) => Some(text(arn)),
        GrantPrincipal::Service(_) => None,
    };
    let service = |of: &'a GrantPrincipal| match of {
        GrantPrincipal::Aws(_) => None,
        GrantPrincipal::Service(service) => Some(text(service)),
    };
    match name {
        "kms:granteeprincipal" => aws(&terms.grantee),
        "kms:granteeserviceprincipal" => service(&terms.grantee),
        "kms:retiringprincipal" => terms.retiring.as_ref().and_then(aws),
        "kms:retiringserviceprincipal" => terms.retiring.as_ref().and_then(service),
        "kms:grantoperations" => Some(many(terms.operations.iter().map(|of| of.name()))),
        "kms:grantconstraintsourcearn" => constraints.source_arn.as_deref().map(text),
        "kms:grantconstrainttype" => {
            if constraints.context_equals.is_some() {
                Some(text("EncryptionContextEquals"))
            } else if constraints.context_subset.is_some() {
                Some(text("EncryptionContextSubset"))
            } else {
                constraints.source_arn.as_ref().map(|_| text("SourceArn"))
            }
        }
        _ => None,
    }
}

/// What conditions may ask of an encryption context. The part of a name that is a key of the context
/// does not mind case.
pub fn of_context<'a>(name: &str, context: &'a BTreeMap<String, String>) -> Option<Values<'a>> {
    match name.strip_prefix("kms:encryptioncontext")? {
        "keys" if context.is_empty() => None,
        "keys" => Some(many(context.keys().map(String::as_str))),
        rest => {
            let wanted = rest.strip_prefix(':')?;
            let pairs = context.iter();
            let mut found = pairs.filter(|(key, _)| key.eq_ignore_ascii_case(wanted));
            let (_, first) = found.next()?;
            // Of keys that differ by case alone all count.
            match found.next() {
                None => Some(text(first)),
                Some((_, second)) => {
                    let all = [first, second]
                        .into_iter()
                        .chain(found.map(|(_, value)| value));
                    Some(many(all.map(String::as_str)))
                }
            }
        }
    }
}

fn of_tags<'a>(name: &str, tags: &'a [(String, String)]) -> Option<Values<'a>> {
    if name == "aws:tagkeys" {
        return (!tags.is_empty()).then(|| many(tags.iter().map(|(key, _)| key.as_str())));
    }
    let wanted = name.strip_prefix("aws:requesttag/")?;
    let found = tags
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(wanted));
    found.map(|(_, value)| text(value))
}

fn tagged<'a>(tags: &'a BTreeMap<String, String>, wanted: &str) -> Option<Values<'a>> {
    let found = tags
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(wanted));
    found.map(|(_, value)| text(value))
}

/// Only there if the request has it.
fn bypass(name: &str, sent: bool) -> Option<Values<'static>> {
    (sent && name == "kms:bypasspolicylockoutsafetycheck").then(|| boolean(true))
}

fn text(value: &str) -> Values<'_> {
    Values::One(Cow::Borrowed(value))
}

fn owned(value: String) -> Values<'static> {
    Values::One(Cow::Owned(value))
}

fn boolean(value: bool) -> Values<'static> {
    text(if value { "true" } else { "false" })
}

fn many<'a>(values: impl Iterator<Item = &'a str>) -> Values<'a> {
    Values::Many(values.map(Cow::Borrowed).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(caller: &Caller, action: &'static str, name: &str) -> Option<String> {
        let state = State::new("us-east-1".parse().unwrap());
        let situation = Situation {
            state: &state,
            caller,
            facts: &NoFacts,
            key: None,
            action,
        };
        situation.values(name).map(|values| match values {
            Values::One(value) => value.into_owned(),
            Values::Many(values) => values.join(","),
        })
    }

    fn root() -> Caller {
        Caller::root(
            &"us-east-1".parse().unwrap(),
            "111122223333".parse().unwrap(),
        )
    }

    /// Catches a service's request for a grant that is taken for the principal's own, or the reverse.
    #[test]
    fn grants_may_be_for_a_service() {
        let name = "kms:grantisforawsresource";
        let mut caller = root();
        assert_eq!(
            asked(&caller, "CreateGrant", name).as_deref(),
            Some("false")
        );
        let via = vec!["ec2.us-east-1.amazonaws.com".to_owned()];
        caller.conditions.insert(VIA_SERVICE.to_owned(), via);
        assert_eq!(asked(&caller, "CreateGrant", name).as_deref(), Some("true"));
        assert_eq!(asked(&caller, "Encrypt", name), None);
    }

    /// Catches a session that may more, or a condition that sees less, where a message brought its caller
    /// to another Region.
    #[test]
    fn what_is_known_of_a_caller_crosses() {
        let mut caller = root();
        caller.details.unique_id = "AROAEXAMPLE:s".to_owned();
        caller.details.session_policies = vec!["{}".to_owned(), "[]".to_owned()];
        caller.details.source_ip = Some("192.0.2.1".parse().unwrap());
        caller.details.user_agent = Some("walker".to_owned());
        caller.details.at = Some(UnixMillis(1_700_000_000_500));
        caller.details.secure = true;
        let arrived = caller.to_cross();
        assert_eq!(arrived.details, Default::default(), "messages have none");
        let arrived = arrived.come_across();
        assert_eq!(arrived.details.unique_id, caller.details.unique_id);
        let policies = &arrived.details.session_policies;
        assert_eq!(*policies, caller.details.session_policies);
        for name in [
            "aws:sourceip",
            "aws:useragent",
            "aws:securetransport",
            "aws:epochtime",
            "aws:currenttime",
        ] {
            let there = asked(&arrived, "UpdatePrimaryRegion", name);
            assert!(there.is_some(), "{name}");
            assert_eq!(there, asked(&caller, "UpdatePrimaryRegion", name), "{name}");
        }
    }
}
