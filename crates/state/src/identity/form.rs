//! What an identity must look like.
//! Source: IAM User Guide, "IAM and AWS STS quotas"; IAM API Reference, CreateUser, CreateRole, Tag.

use keyrum_authz::{Policy, PolicyKind};

use super::{Account, Identity, Role, SessionKey, User};
use crate::{Refusal, StoredPolicy};

/// How many characters the policies of a user or a role have together at most, without white space.
/// Deviation: the real service allows a user's inline policies 2,048; here there are no managed
/// policies and no groups beside them.
pub const POLICIES_CHARS_MAX: usize = 10_240;

/// How many characters a role's trust policy has at most, without white space.
pub const TRUST_CHARS_MAX: usize = 8_192;

/// How many characters a permissions boundary has at most, without white space.
pub const BOUNDARY_CHARS_MAX: usize = 6_144;

/// The least [`Role::session_seconds_max`], and what it is unless somebody says.
pub const SESSION_SECONDS_MIN: u32 = 3_600;

/// The greatest.
pub const SESSION_SECONDS_MAX: u32 = 43_200;

const NAME_CHARS_MAX: usize = 64;
const POLICY_NAME_CHARS_MAX: usize = 128;
const PATH_CHARS_MAX: usize = 512;
const TAGS_MAX: usize = 50;
const TAG_NAME_CHARS_MAX: usize = 128;
const TAG_VALUE_CHARS_MAX: usize = 256;

/// Whether an identity could be one, whatever else there is.
pub(super) fn check(identity: &Identity) -> Result<(), Refusal> {
    let checked = match identity {
        Identity::Account(account) => check_account(account),
        Identity::User(user) => check_user(user),
        Identity::Role(role) => check_role(role),
        Identity::SessionKey(key) => check_session_key(key),
    };
    checked.map_err(|problem| Refusal::InvalidIdentity {
        name: identity.name(),
        problem,
    })
}

type Checked = Result<(), String>;

fn require(holds: bool, problem: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(problem()) }
}

fn check_account(account: &Account) -> Checked {
    if let Some(alias) = &account.alias {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        require(
            (3..=63).contains(&alias.len()) && alias.bytes().all(plain),
            || format!("the alias {alias:?} is not 3 to 63 of a-z, 0-9 and -"),
        )?;
    }
    check_access_keys(&account.access_keys)
}

fn check_user(user: &User) -> Checked {
    check_name(&user.name, NAME_CHARS_MAX)?;
    check_path(&user.path)?;
    check_id(&user.id, "AIDA")?;
    check_tags(&user.tags)?;
    check_policies(&user.policies)?;
    check_boundary(user.boundary.as_ref())?;
    check_access_keys(&user.access_keys)
}

fn check_role(role: &Role) -> Checked {
    check_name(&role.name, NAME_CHARS_MAX)?;
    check_path(&role.path)?;
    check_id(&role.id, "AROA")?;
    check_tags(&role.tags)?;
    check_policies(&role.policies)?;
    check_boundary(role.boundary.as_ref())?;
    check_policy(
        "the trust policy",
        &role.trust,
        PolicyKind::Trust,
        TRUST_CHARS_MAX,
    )?;
    let seconds = role.session_seconds_max;
    require(
        (SESSION_SECONDS_MIN..=SESSION_SECONDS_MAX).contains(&seconds),
        || {
            format!(
                "sessions of {seconds} s: the most can be {SESSION_SECONDS_MIN} to {SESSION_SECONDS_MAX} s"
            )
        },
    )
}

fn check_session_key(key: &SessionKey) -> Checked {
    require(key.version >= 1, || "versions count from 1".to_owned())?;
    require(!key.secret.0.is_empty(), || "it has no bytes".to_owned())
}

/// Letters, digits and `_+=,.@-`.
fn is_name(text: &str, chars_max: usize) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    (1..=chars_max).contains(&text.len()) && text.bytes().all(allowed)
}

fn check_name(name: &str, chars_max: usize) -> Checked {
    require(is_name(name, chars_max), || {
        format!("the name {name:?} is not 1 to {chars_max} letters, digits and _+=,.@-")
    })
}

fn check_path(path: &str) -> Checked {
    let printable = path.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
    let wildcards = path.contains(['*', '?', ':']);
    let framed = path == "/" || (path.len() > 2 && path.starts_with('/') && path.ends_with('/'));
    require(
        framed && printable && !wildcards && path.len() <= PATH_CHARS_MAX,
        || {
            format!(
                "the path {path:?} is not / or /such/as/this/ of at most {PATH_CHARS_MAX} characters"
            )
        },
    )
}

fn check_id(id: &str, prefix: &str) -> Checked {
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    require(
        id.starts_with(prefix) && (16..=32).contains(&id.len()) && id.bytes().all(plain),
        || format!("the unique id {id:?} is not {prefix} and capital letters and digits"),
    )
}

fn check_tags(tags: &std::collections::BTreeMap<String, String>) -> Checked {
    require(tags.len() <= TAGS_MAX, || {
        format!("{} tags: {TAGS_MAX} are the most", tags.len())
    })?;
    let mut folded: Vec<String> = tags.keys().map(|name| name.to_ascii_lowercase()).collect();
    folded.sort_unstable();
    folded.dedup();
    // A condition's key has no case, so two such tags could not be told apart.
    require(folded.len() == tags.len(), || {
        "two tags differ in the case of letters alone".to_owned()
    })?;
    for (name, value) in tags {
        let allowed = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c);
        let fits = (1..=TAG_NAME_CHARS_MAX).contains(&name.chars().count())
            && value.chars().count() <= TAG_VALUE_CHARS_MAX
            && name.chars().chain(value.chars()).all(allowed)
            && !name.to_ascii_lowercase().starts_with("aws:");
        require(fits, || format!("the tag {name:?} cannot be one"))?;
    }
    Ok(())
}

fn check_policies(policies: &std::collections::BTreeMap<String, StoredPolicy>) -> Checked {
    let all: usize = policies.values().map(|policy| weight(policy.text())).sum();
    require(all <= POLICIES_CHARS_MAX, || {
        format!("its policies have {all} characters together: {POLICIES_CHARS_MAX} are the most")
    })?;
    for (name, policy) in policies {
        require(is_name(name, POLICY_NAME_CHARS_MAX), || {
            format!(
                "the policy's name {name:?} is not 1 to {POLICY_NAME_CHARS_MAX} letters, digits and _+=,.@-"
            )
        })?;
        let what = format!("the policy {name}");
        check_policy(&what, policy, PolicyKind::Identity, POLICIES_CHARS_MAX)?;
    }
    Ok(())
}

fn check_boundary(boundary: Option<&StoredPolicy>) -> Checked {
    let Some(boundary) = boundary else {
        return Ok(());
    };
    let what = "the permissions boundary";
    check_policy(what, boundary, PolicyKind::Boundary, BOUNDARY_CHARS_MAX)
}

fn check_policy(what: &str, policy: &StoredPolicy, kind: PolicyKind, chars_max: usize) -> Checked {
    let chars = weight(policy.text());
    require(chars <= chars_max, || {
        format!("{what} has {chars} characters: {chars_max} are the most")
    })?;
    match Policy::parse(policy.text(), kind) {
        Ok(_) => Ok(()),
        Err(malformed) => Err(format!("{what}: {malformed}")),
    }
}

/// White space does not count. Source: "IAM and AWS STS quotas", IAM name and character limits.
fn weight(text: &str) -> usize {
    text.chars().filter(|c| !c.is_whitespace()).count()
}

fn check_access_keys(keys: &[super::AccessKey]) -> Checked {
    require(keys.len() <= super::ACCESS_KEYS_MAX, || {
        format!(
            "{} access keys: {} are the most",
            keys.len(),
            super::ACCESS_KEYS_MAX
        )
    })?;
    for key in keys {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        // An id of digits alone would name an account where every credential is taken, and those of
        // sessions begin with ASIA.
        let fits = (16..=128).contains(&key.id.len())
            && key.id.bytes().all(plain)
            && !key.id.bytes().all(|byte| byte.is_ascii_digit())
            && !key.id.starts_with("ASIA");
        require(fits, || {
            format!(
                "the access key id {:?} is not 16 to 128 letters and digits, such as AKIA...",
                key.id
            )
        })?;
        require(!key.secret.0.is_empty(), || {
            format!("the access key {} has no secret", key.id)
        })?;
    }
    Ok(())
}
