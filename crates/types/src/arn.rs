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

/// What an ARN names: the part behind its fifth colon. Its parts are short, so it is read byte by byte.
pub fn resource_of(arn: &str) -> Option<&str> {
    let mut colons = arn.bytes().enumerate().filter(|(_, byte)| *byte == b':');
    let (at, _) = colons.nth(4)?;
    Some(&arn[at + 1..])
}

/// The ARN of a key in a Region.
///
/// Put together without a formatter, and in a text that need not grow: each request has one or two.
pub fn key_arn(region: &Region, account: AccountId, key: KeyId) -> String {
    let (mut id, account) = ([0; 36], account.digits());
    let parts = [
        "arn:",
        region.partition(),
        ":kms:",
        region.as_str(),
        ":",
        std::str::from_utf8(&account).expect("digits are ASCII"),
        ":key/",
        key.text(&mut id),
    ];
    parts.concat()
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
        let id = KeyId::single_region([0x1f; 16]);
        assert_eq!(
            key_arn(
                &"cn-north-1".parse().unwrap(),
                "001234567890".parse().unwrap(),
                id
            ),
            "arn:aws-cn:kms:cn-north-1:001234567890:key/1f1f1f1f-1f1f-4f1f-9f1f-1f1f1f1f1f1f"
        );
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
