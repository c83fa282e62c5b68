//! Alias names.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest alias name, in characters, `alias/` included. Source: the service model, AliasNameType.
pub const ALIAS_NAME_CHARS_MAX: usize = 256;

/// A well-formed alias name: `alias/` and at least one more character of `a-zA-Z0-9/_-`.
/// `alias/aws/...` is well-formed; whether it may be used is for the operation to say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AliasName(Arc<str>);

/// Why a text is not an alias name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAliasName {
    /// The prefix is missing.
    #[error("an alias name starts with alias/")]
    Prefix,
    /// A character outside the set, an empty name, or too many characters.
    #[error("an alias name has 1 to 250 characters of a-zA-Z0-9/_- after alias/")]
    Characters,
}

impl AliasName {
    /// Checks the form.
    pub fn new(text: &str) -> Result<Self, InvalidAliasName> {
        let name = text
            .strip_prefix("alias/")
            .ok_or(InvalidAliasName::Prefix)?;
        let fits = !name.is_empty() && text.len() <= ALIAS_NAME_CHARS_MAX;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-');
        if !fits || !name.bytes().all(plain) {
            return Err(InvalidAliasName::Characters);
        }
        Ok(Self(text.into()))
    }

    /// The whole name, `alias/` included.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is in the space reserved for AWS managed keys.
    pub fn is_aws_reserved(&self) -> bool {
        self.0.starts_with("alias/aws/")
    }
}

impl fmt::Display for AliasName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
