//! ARNs of keys and aliases, taken apart and put together.

use crate::{AccountId, AliasName, KeyId, Region};

/// An ARN of the form `arn:<partition>:kms:<region>:<account>:<resource>`.
///
/// Only the shape is checked; the parts are the caller's text, for error messages to quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arn<'a> {
    /// `aws`, `aws-cn`, ...
    pub partition: &'a str,
    /// The Region's name as written.
    pub region: &'a str,
    /// The account as written.
    pub account: &'a str,
    /// What it names.
    pub resource: Resource<'a>,
}

/// The last part of a KMS ARN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// `key/<id>`; the id as written.
    Key(&'a str),
    /// `alias/<name>`; the name with its `alias/`.
    Alias(&'a str),
}

impl<'a> Arn<'a> {
    /// Takes a KMS ARN apart; `None` if the text does not have its shape.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        if parts.next() != Some("arn") {
            return None;
        }
        let partition = parts.next()?;
        if parts.next() != Some("kms") {
            return None;
        }
        let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
        let resource = match resource.strip_prefix("key/") {
            Some(id) => Resource::Key(id),
            None if resource.starts_with("alias/") => Resource::Alias(resource),
            None => return None,
        };
        Some(Self {
            partition,
            region,
            account,
            resource,
        })
    }
}

/// The ARN of a key in a Region.
pub fn key_arn(region: &Region, account: AccountId, key: KeyId) -> String {
    format!(
        "arn:{}:kms:{region}:{account}:key/{key}",
        region.partition()
    )
}

/// The ARN of an alias in a Region.
pub fn alias_arn(region: &Region, account: AccountId, alias: &AliasName) -> String {
    format!("arn:{}:kms:{region}:{account}:{alias}", region.partition())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches an ARN whose parts land in the wrong place.
    #[test]
    fn arns_come_apart() {
        let arn = Arn::parse("arn:aws:kms:eu-west-1:000000000000:key/k").unwrap();
        assert_eq!(
            (arn.region, arn.resource),
            ("eu-west-1", Resource::Key("k"))
        );
        let arn = Arn::parse("arn:aws:kms:eu-west-1:000000000000:alias/a/b").unwrap();
        assert_eq!(arn.resource, Resource::Alias("alias/a/b"));
        for bad in [
            "",
            "arn:aws:s3:::key/x",
            "arn:aws:kms:r:a",
            "arn:aws:kms:r:a:grant/x",
        ] {
            assert_eq!(Arn::parse(bad), None, "{bad}");
        }
    }
}
