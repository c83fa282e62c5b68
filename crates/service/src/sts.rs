//! Temporary credentials: STS's AssumeRole and GetSessionToken.
//!
//! A session is its token: nobody remembers it. So it ends when its time is over, when its user or role
//! is deleted (one that comes later under the same name is another), or when the session key it is
//! sealed with is deleted; not before.
//!
//! Source: AWS STS API Reference, AssumeRole and GetSessionToken; IAM User Guide, "Temporary security
//! credentials in IAM".

use std::borrow::Cow;
use std::collections::BTreeMap;

use keyrum_authz::{
    Asker, Context, IdentitySide, KeyPolicy, MalformedPolicy, Policy, PolicyKind, PrincipalKind,
    Question, ResourceSide, Values, decide,
};
use keyrum_state::{Caller, Role, State};
use keyrum_types::{AccountId, UnixMillis};
use zeroize::Zeroizing;

use crate::identities::{Session, SessionOf, draw_id, new_secret};
use crate::{RequestContext, Service, ServiceError};

/// The shortest session, in seconds.
const SECONDS_MIN: u32 = 900;
/// The longest of a role, whatever the role says.
const ROLE_SECONDS_MAX: u32 = 43_200;
/// A role's, unless the caller says; and the longest that a role's session gets of another role.
const HOUR: u32 = 3_600;
/// The longest of a user, and a user's unless the caller says.
const USER_SECONDS_MAX: u32 = 129_600;
const USER_SECONDS: u32 = 43_200;

/// Longest session policy, in characters.
const POLICY_CHARS_MAX: usize = 2_048;
const TAGS_MAX: usize = 50;
const TAG_NAME_CHARS_MAX: usize = 128;
const TAG_VALUE_CHARS_MAX: usize = 256;

/// What AssumeRole is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AssumeRoleInput {
    /// Which role.
    pub role_arn: Option<String>,
    /// What the session is called.
    pub session_name: Option<String>,
    /// How long it lasts.
    pub duration_seconds: Option<i64>,
    /// What it may do at most.
    pub policy: Option<String>,
    /// Tags of the session.
    pub tags: Vec<(String, String)>,
    /// A word that the role's trust policy may ask for.
    pub external_id: Option<String>,
}

/// Temporary credentials.
pub struct TemporaryCredentials {
    /// Names them in public.
    pub access_key: String,
    /// What they sign with.
    pub secret: Zeroizing<String>,
    /// What every request with them must bring along.
    pub token: String,
    /// Until when they are good, by the machine's clock.
    pub expires: UnixMillis,
}

/// What AssumeRole answers.
pub struct AssumeRoleOutput {
    /// The credentials.
    pub credentials: TemporaryCredentials,
    /// The session's ARN.
    pub arn: String,
    /// The role's unique id and the session's name.
    pub assumed_role_id: String,
    /// How much of their allowed size policy and tags take, in percent; `None` without any.
    pub packed_policy_percent: Option<u32>,
}

/// Why there are no temporary credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StsError {
    /// Not for this caller. AccessDenied.
    #[error("{0}")]
    AccessDenied(String),
    /// A parameter cannot be so. ValidationError.
    #[error("{0}")]
    Validation(String),
    /// The session's policy is none. MalformedPolicyDocument.
    #[error("{0}")]
    MalformedPolicy(MalformedPolicy),
    /// The session's policy and tags are too long. PackedPolicyTooLarge.
    #[error("{0}")]
    TooLarge(String),
    /// No session can be sealed here yet. InternalFailure, to be tried again.
    #[error("the key for sessions has not reached this Region yet; try again")]
    NoSessionKey,
    /// Anything else.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl Service {
    /// Lets the caller act as a role.
    pub async fn assume_role(
        &self,
        ctx: &RequestContext,
        input: AssumeRoleInput,
    ) -> Result<AssumeRoleOutput, StsError> {
        let role_arn = required("roleArn", input.role_arn.as_deref(), 20, 2048)?;
        let session = required("roleSessionName", input.session_name.as_deref(), 2, 64)?;
        check_session_name(session)?;
        let seconds = duration(input.duration_seconds, ROLE_SECONDS_MAX)?.unwrap_or(HOUR);
        let policy = checked_policy(input.policy.as_deref())?;
        let tags = checked_tags(&input.tags)?;
        if let Some(id) = &input.external_id {
            check_length("externalId", id, 2, 1224)?;
        }
        let partition = self.region().partition();
        let (account, name) = role_name(role_arn, partition)
            .ok_or_else(|| StsError::Validation(format!("{role_arn} is invalid")))?;

        let state = self.read(ctx).await?;
        let caller = &ctx.caller;
        let denied = || denied(caller, "AssumeRole", role_arn);
        let resolved = state.resolve(caller).ok_or_else(denied)?;
        let asker = resolved.asker();
        if asker.kind == PrincipalKind::Root {
            return Err(StsError::AccessDenied(
                "Roles may not be assumed by root accounts.".to_owned(),
            ));
        }
        let role = state.role(account, name);
        let role = role.filter(|role| role.arn(partition) == role_arn);
        let role = role.ok_or_else(denied)?;
        let context = Wish::of(caller, &input, session, &tags);
        let side = resolved.side();
        allowed(asker, &side, role, role_arn, "AssumeRole", &context)
            .then_some(())
            .ok_or_else(denied)?;
        if !tags.is_empty() && !allowed(asker, &side, role, role_arn, "TagSession", &context) {
            return Err(self::denied(caller, "TagSession", role_arn));
        }
        // Only after that: who may not assume a role is not told how long its sessions are.
        if seconds > role.session_seconds_max {
            return Err(StsError::Validation(
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
                    .to_owned(),
            ));
        }
        if asker.kind == PrincipalKind::AssumedRole && seconds > HOUR {
            return Err(StsError::Validation(
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed \
                 by role chaining."
                    .to_owned(),
            ));
        }
        let packed = packed_percent(policy, &tags)?;
        let assumed_role_id = format!("{}:{session}", role.id);
        let arn = role.session_arn(partition, session);
        let of = SessionOf::Role {
            name: role.name.clone(),
            id: role.id.clone(),
            session: session.to_owned(),
        };
        let policies = policy.map(str::to_owned).into_iter().collect();
        let credentials = self.begin_session(&state, account, of, seconds, policies, tags)?;
        Ok(AssumeRoleOutput {
            credentials,
            arn,
            assumed_role_id,
            packed_policy_percent: packed,
        })
    }

    /// Gives a user, or a declared account's root, temporary credentials with the same rights.
    pub async fn get_session_token(
        &self,
        ctx: &RequestContext,
        duration_seconds: Option<i64>,
    ) -> Result<TemporaryCredentials, StsError> {
        let asked = duration(duration_seconds, USER_SECONDS_MAX)?;
        let caller = &ctx.caller;
        // Deviation: the real service's error here is AccessDenied too, with this text.
        if caller.details.access_key.starts_with("ASIA") {
            return Err(StsError::AccessDenied(
                "Cannot call GetSessionToken with session credentials".to_owned(),
            ));
        }
        let state = self.read(ctx).await?;
        let denied = || denied(caller, "GetSessionToken", "*");
        let resolved = state.resolve(caller).ok_or_else(denied)?;
        let (of, seconds) = match resolved.asker().kind {
            // A root that is not declared would have no sessions that are checked.
            PrincipalKind::Root if state.account_is_declared(caller.account) => {
                (SessionOf::Root, asked.unwrap_or(HOUR).min(HOUR))
            }
            PrincipalKind::User => {
                let name = caller.arn.rsplit('/').next().unwrap_or_default();
                let of = SessionOf::User {
                    name: name.to_owned(),
                    id: caller.details.unique_id.clone(),
                };
                (of, asked.unwrap_or(USER_SECONDS))
            }
            _ => return Err(denied()),
        };
        let (account, policies, tags) = (caller.account, Vec::new(), Vec::new());
        self.begin_session(&state, account, of, seconds, policies, tags)
    }

    fn begin_session(
        &self,
        state: &State,
        account: AccountId,
        of: SessionOf,
        seconds: u32,
        policies: Vec<String>,
        tags: Vec<(String, String)>,
    ) -> Result<TemporaryCredentials, StsError> {
        let newest = state.newest_session_key();
        let newest = newest.ok_or(StsError::NoSessionKey)?.version;
        let key = self.session_key(state, newest)?;
        let key = key.ok_or(StsError::NoSessionKey)?;
        let entropy = &*self.inner.world.entropy;
        let issued = self.inner.world.clock.now();
        // Whole seconds, as the answer shows them.
        let expires = UnixMillis((issued.0 / 1000 + u64::from(seconds)) * 1000);
        let session = Session {
            access_key: draw_id("ASIA", 16, entropy),
            secret: new_secret(entropy),
            account,
            of,
            issued,
            expires,
            policies,
            tags,
        };
        Ok(TemporaryCredentials {
            token: key.seal(&session.to_bytes(), entropy),
            access_key: session.access_key,
            secret: session.secret,
            expires,
        })
    }
}

fn denied(caller: &Caller, action: &str, resource: &str) -> StsError {
    StsError::AccessDenied(format!(
        "User: {} is not authorized to perform: sts:{action} on resource: {resource}",
        caller.arn
    ))
}

/// Whether the role's trust policy and the caller's own policies allow it.
fn allowed(
    asker: Asker<'_>,
    side: &IdentitySide<'_>,
    role: &Role,
    role_arn: &str,
    action: &'static str,
    context: &Wish<'_>,
) -> bool {
    let question = Question {
        asker,
        service: "sts",
        action,
        resource: role_arn,
        context,
    };
    let resource = ResourceSide::Key {
        owner: role.account,
        policy: role
            .trust
            .parsed(PolicyKind::Trust)
            .map_or(KeyPolicy::Unreadable, KeyPolicy::Is),
        grant: None,
    };
    decide(&question, side, &resource).is_ok()
}

/// The condition keys of a request to assume a role.
struct Wish<'r> {
    caller: &'r Caller,
    own: BTreeMap<String, Values<'static>>,
}

impl<'r> Wish<'r> {
    fn of(
        caller: &'r Caller,
        input: &AssumeRoleInput,
        session: &str,
        tags: &[(String, String)],
    ) -> Self {
        let one = |value: &str| Values::One(Cow::Owned(value.to_owned()));
        let mut own = BTreeMap::from([("sts:rolesessionname".to_owned(), one(session))]);
        if let Some(id) = &input.external_id {
            own.insert("sts:externalid".to_owned(), one(id));
        }
        for (name, value) in tags {
            own.insert(
                format!("aws:requesttag/{}", name.to_lowercase()),
                one(value),
            );
        }
        if !tags.is_empty() {
            let names = tags.iter().map(|(name, _)| Cow::Owned(name.clone()));
            own.insert("aws:tagkeys".to_owned(), Values::Many(names.collect()));
        }
        Self { caller, own }
    }
}

impl Context for Wish<'_> {
    fn values(&self, key: &str) -> Option<Values<'_>> {
        if let Some(own) = self.own.get(key) {
            return Some(own.clone());
        }
        let values = self.caller.conditions.get(key)?;
        let mut values = values.iter().map(|value| Cow::Borrowed(value.as_str()));
        Some(match values.len() {
            1 => Values::One(values.next()?),
            _ => Values::Many(values.collect()),
        })
    }
}

/// The account and the name, without the path, of a role's ARN.
fn role_name<'t>(arn: &'t str, partition: &str) -> Option<(AccountId, &'t str)> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", own, "iam", "", account, resource] = parts[..] else {
        return None;
    };
    let path = resource.strip_prefix("role/")?;
    let name = path.rsplit('/').next()?;
    (own == partition && !name.is_empty()).then_some((account.parse().ok()?, name))
}

fn violation(value: &str, member: &str, constraint: &str) -> StsError {
    StsError::Validation(format!(
        "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: \
         Member must {constraint}"
    ))
}

fn check_length(member: &str, value: &str, min: usize, max: usize) -> Result<(), StsError> {
    let length = value.chars().count();
    if length < min {
        let constraint = format!("have length greater than or equal to {min}");
        return Err(violation(value, member, &constraint));
    }
    if length > max {
        let constraint = format!("have length less than or equal to {max}");
        return Err(violation(value, member, &constraint));
    }
    Ok(())
}

fn required<'v>(
    member: &str,
    value: Option<&'v str>,
    min: usize,
    max: usize,
) -> Result<&'v str, StsError> {
    let Some(value) = value else {
        return Err(StsError::Validation(format!(
            "1 validation error detected: Value null at '{member}' failed to satisfy constraint: \
             Member must not be null"
        )));
    };
    check_length(member, value, min, max)?;
    Ok(value)
}

fn check_session_name(name: &str) -> Result<(), StsError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    match name.bytes().all(allowed) {
        true => Ok(()),
        false => Err(violation(
            name,
            "roleSessionName",
            "satisfy regular expression pattern: [\\w+=,.@-]*",
        )),
    }
}

fn duration(asked: Option<i64>, max: u32) -> Result<Option<u32>, StsError> {
    let Some(asked) = asked else { return Ok(None) };
    let (value, member) = (asked.to_string(), "durationSeconds");
    if asked < i64::from(SECONDS_MIN) {
        let constraint = format!("have value greater than or equal to {SECONDS_MIN}");
        return Err(violation(&value, member, &constraint));
    }
    match u32::try_from(asked) {
        Ok(seconds) if seconds <= max => Ok(Some(seconds)),
        _ => {
            let constraint = format!("have value less than or equal to {max}");
            Err(violation(&value, member, &constraint))
        }
    }
}

fn checked_policy(policy: Option<&str>) -> Result<Option<&str>, StsError> {
    let Some(policy) = policy else {
        return Ok(None);
    };
    check_length("policy", policy, 1, POLICY_CHARS_MAX)?;
    Policy::parse(policy, PolicyKind::Session).map_err(StsError::MalformedPolicy)?;
    Ok(Some(policy))
}

fn checked_tags(tags: &[(String, String)]) -> Result<Vec<(String, String)>, StsError> {
    if tags.len() > TAGS_MAX {
        let constraint = format!("have length less than or equal to {TAGS_MAX}");
        return Err(violation(
            &format!("{} tags", tags.len()),
            "tags",
            &constraint,
        ));
    }
    let mut names: Vec<String> = Vec::new();
    for (at, (name, value)) in tags.iter().enumerate() {
        let member = |part: &str| format!("tags.{}.member.{part}", at + 1);
        check_length(&member("key"), name, 1, TAG_NAME_CHARS_MAX)?;
        check_length(&member("value"), value, 0, TAG_VALUE_CHARS_MAX)?;
        let allowed = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c);
        for (part, text) in [("key", name), ("value", value)] {
            if !text.chars().all(allowed) {
                let constraint =
                    "satisfy regular expression pattern: [\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*";
                return Err(violation(text, &member(part), constraint));
            }
        }
        let folded = name.to_lowercase();
        if folded.starts_with("aws:") {
            let constraint = "not begin with aws:";
            return Err(violation(name, &member("key"), constraint));
        }
        if names.contains(&folded) {
            return Err(StsError::Validation(
                "Duplicate tag keys found. Please note that Tag keys are case insensitive."
                    .to_owned(),
            ));
        }
        names.push(folded);
    }
    Ok(tags.to_vec())
}

/// How much of their room policy and tags take. Deviation: the real service packs them in a way that is
/// not published; here their characters are counted.
fn packed_percent(
    policy: Option<&str>,
    tags: &[(String, String)],
) -> Result<Option<u32>, StsError> {
    if policy.is_none() && tags.is_empty() {
        return Ok(None);
    }
    let characters: usize = policy.map_or(0, |policy| policy.chars().count())
        + tags
            .iter()
            .map(|(name, value)| name.chars().count() + value.chars().count())
            .sum::<usize>();
    let percent = (characters * 100).div_ceil(2 * POLICY_CHARS_MAX);
    match u32::try_from(percent) {
        Ok(percent) if percent <= 100 => Ok(Some(percent)),
        _ => Err(StsError::TooLarge(format!(
            "Packed size of session policy and session tags consumes {percent}% of allotted space."
        ))),
    }
}
