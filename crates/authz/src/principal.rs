//! The principals a key policy may name, and which callers each covers.
//!
//! Source: IAM User Guide, "AWS JSON policy elements: Principal"; AWS KMS Developer Guide,
//! "Key policies". Whether a named user or role exists is for the caller to look up.

use keyrum_types::AccountId;

use crate::question::{Asker, PrincipalKind};

/// One principal named by a policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum NamedPrincipal {
    /// Everybody.
    Anyone,
    /// An account: its root user and, through the account's own policies, all its identities.
    Account(AccountId),
    /// A user, role, session or federated user, by its ARN.
    ///
    /// Deviation: one that is deleted and made again under the same ARN is meant again; the real service
    /// keeps the unique id of the first.
    Arn(String),
    /// A user (`AIDA...`) or a role (`AROA...`), by its unique id.
    UniqueId(String),
    /// An AWS service, such as `sqs.amazonaws.com`.
    Service(String),
}

/// As what a text names somebody who asks. The order is that of strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NamedAs {
    /// Not at all.
    No,
    /// As an identity of the account it names.
    Account,
    /// As a session of the role it names.
    Role,
    /// As the one it names: a user, a session, a federated user, a service or an account's root user.
    Itself,
}

/// Why a text names no AWS principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAPrincipal {
    /// It begins like an ARN but does not have an ARN's parts.
    MalformedArn,
    /// It can be no principal of a key policy: a group, a wildcard, an id, a plain name.
    Invalid,
}

/// Checks the form of a principal that a grant names: the ARN of an account's root, of a user, role,
/// session or federated user. Gives the account it belongs to. Whether it exists is for others to say.
///
/// Source: AWS KMS API Reference, CreateGrant, `GranteePrincipal`.
pub fn check_grant_principal(arn: &str) -> Result<AccountId, NotAPrincipal> {
    if !arn.starts_with("arn:") {
        return Err(NotAPrincipal::Invalid);
    }
    NamedPrincipal::parse(arn)?;
    let account = arn
        .split(':')
        .nth(4)
        .and_then(|account| account.parse().ok());
    account.ok_or(NotAPrincipal::Invalid)
}

impl NamedPrincipal {
    pub(crate) fn parse(text: &str) -> Result<Self, NotAPrincipal> {
        if text == "*" {
            return Ok(Self::Anyone);
        }
        if let Ok(account) = text.parse() {
            return Ok(Self::Account(account));
        }
        if !text.starts_with("arn:") {
            return Err(NotAPrincipal::Invalid);
        }
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let [_, partition, service, region, account, resource] = parts[..] else {
            return Err(NotAPrincipal::MalformedArn);
        };
        if partition.is_empty() || service.is_empty() || resource.is_empty() {
            return Err(NotAPrincipal::MalformedArn);
        }
        let account: AccountId = account.parse().map_err(|_| NotAPrincipal::Invalid)?;
        if !region.is_empty() || text.contains(['*', '?']) {
            return Err(NotAPrincipal::Invalid);
        }
        let named = |rest: &str| !rest.is_empty() && !rest.ends_with('/');
        match (service, resource.split_once('/')) {
            ("iam", None) if resource == "root" => Ok(Self::Account(account)),
            ("iam", Some(("user" | "role", rest))) if named(rest) => Ok(Self::Arn(text.to_owned())),
            ("sts", Some(("federated-user", rest))) if named(rest) => {
                Ok(Self::Arn(text.to_owned()))
            }
            ("sts", Some(("assumed-role", rest)))
                if rest.split('/').count() == 2 && !rest.starts_with('/') && named(rest) =>
            {
                Ok(Self::Arn(text.to_owned()))
            }
            _ => Err(NotAPrincipal::Invalid),
        }
    }

    /// Reads a policy's `AWS` principal, which may also be a unique id.
    pub(crate) fn of_policy(text: &str) -> Result<Self, NotAPrincipal> {
        let is_id = (16..=128).contains(&text.len())
            && (text.starts_with("AIDA") || text.starts_with("AROA"))
            && (text.bytes()).all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        if is_id {
            return Ok(Self::UniqueId(text.to_owned()));
        }
        Self::parse(text)
    }

    /// As what it names `asker`.
    pub fn names(&self, asker: &Asker<'_>) -> NamedAs {
        let found = |named: NamedAs, is_so: bool| if is_so { named } else { NamedAs::No };
        match self {
            Self::Anyone => NamedAs::Itself,
            Self::Account(account) => match asker.kind {
                _ if *account != asker.account => NamedAs::No,
                PrincipalKind::Service => NamedAs::No,
                PrincipalKind::Root => NamedAs::Itself,
                PrincipalKind::User | PrincipalKind::AssumedRole | PrincipalKind::FederatedUser => {
                    NamedAs::Account
                }
            },
            Self::Arn(arn) if asker.role_arn == Some(arn) => NamedAs::Role,
            Self::Arn(arn) => found(NamedAs::Itself, arn == asker.arn),
            Self::UniqueId(id) => match asker.unique_id.strip_prefix(&**id) {
                Some("") => NamedAs::Itself,
                Some(rest) => found(NamedAs::Role, rest.starts_with(':')),
                None => NamedAs::No,
            },
            Self::Service(name) => {
                let service = asker.kind == PrincipalKind::Service;
                found(NamedAs::Itself, service && name == asker.arn)
            }
        }
    }

    /// Whether a caller of `account` with the ARN `caller` is meant. An account stands for all
    /// its identities: the rule from before identities had policies of their own.
    pub(crate) fn covers(&self, caller: &str, account: AccountId) -> bool {
        match self {
            Self::Anyone => true,
            Self::Account(named) => *named == account,
            Self::Arn(arn) => arn == caller || role_of_session(arn, caller),
            Self::UniqueId(_) | Self::Service(_) => false,
        }
    }
}

/// Whether `session` is a session of the role `role`; a session's ARN leaves the role's path out.
fn role_of_session(role: &str, session: &str) -> bool {
    let role: Vec<&str> = role.splitn(6, ':').collect();
    let session: Vec<&str> = session.splitn(6, ':').collect();
    let ([_, _, "iam", _, of, role], [_, _, "sts", _, account, session]) =
        (&role[..], &session[..])
    else {
        return false;
    };
    let role = role
        .strip_prefix("role/")
        .and_then(|path| path.rsplit('/').next());
    let session = session
        .strip_prefix("assumed-role/")
        .and_then(|rest| rest.split('/').next());
    of == account && role.is_some() && role == session
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a principal the real service refuses, or one it takes being refused.
    #[test]
    fn forms_of_principals() {
        for good in [
            "*",
            "111122223333",
            "arn:aws:iam::111122223333:root",
            "arn:aws-cn:iam::111122223333:user/path/ada",
            "arn:aws:iam::111122223333:role/service-role/r",
            "arn:aws:sts::111122223333:assumed-role/r/session",
            "arn:aws:sts::111122223333:federated-user/f",
        ] {
            assert!(NamedPrincipal::parse(good).is_ok(), "{good}");
        }
        for invalid in [
            "",
            "ada",
            "11112222333",
            "AIDAEXAMPLE",
            "arn:aws:iam::111122223333:group/g",
            "arn:aws:iam::111122223333:user/*",
            "arn:aws:iam::111122223333:user/",
            "arn:aws:iam::1111:root",
            "arn:aws:iam:us-east-1:111122223333:root",
            "arn:aws:sts::111122223333:assumed-role/r",
            "arn:aws:s3:::bucket",
        ] {
            assert_eq!(
                NamedPrincipal::parse(invalid),
                Err(NotAPrincipal::Invalid),
                "{invalid}"
            );
        }
        for malformed in [
            "arn:",
            "arn:aws:iam",
            "arn:aws:iam::111122223333",
            "arn::::::",
        ] {
            assert_eq!(
                NamedPrincipal::parse(malformed),
                Err(NotAPrincipal::MalformedArn),
                "{malformed}"
            );
        }
    }

    /// Catches a grant to everybody or to a bare account, which only policies can name, and a principal
    /// that is taken for another account's.
    #[test]
    fn grants_name_principals_by_arn() {
        let of = |arn| check_grant_principal(arn).map(|account| account.to_string());
        for good in [
            "arn:aws:iam::111122223333:root",
            "arn:aws:iam::111122223333:role/r",
            "arn:aws:sts::111122223333:assumed-role/r/session",
        ] {
            assert_eq!(of(good).as_deref(), Ok("111122223333"), "{good}");
        }
        for invalid in ["*", "111122223333", "AROAEXAMPLE", "arn:aws:s3:::bucket"] {
            assert_eq!(of(invalid), Err(NotAPrincipal::Invalid), "{invalid}");
        }
        assert_eq!(of("arn:aws"), Err(NotAPrincipal::MalformedArn));
    }

    /// Catches a policy that names a role missing its sessions, or covering another role's.
    #[test]
    fn a_role_covers_its_sessions() {
        let account = "111122223333".parse().unwrap();
        let role = NamedPrincipal::parse("arn:aws:iam::111122223333:role/path/r").unwrap();
        assert!(role.covers("arn:aws:sts::111122223333:assumed-role/r/s", account));
        assert!(!role.covers("arn:aws:sts::111122223333:assumed-role/path/s", account));
        assert!(!role.covers("arn:aws:sts::999922223333:assumed-role/r/s", account));
        assert!(!role.covers("arn:aws:iam::111122223333:user/r", account));
    }
}
