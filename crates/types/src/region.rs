//! Region names and the partition each belongs to.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A Region's name, such as `us-east-1`: lower-case words joined by hyphens, then a number.
///
/// Any name of that form is taken, so that a test may use Regions the real service lacks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Region(Arc<str>);

/// The text is not a Region's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a Region name such as us-east-1")]
pub struct InvalidRegion {
    /// What was given.
    pub text: String,
}

impl Region {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The partition that ARNs of this Region carry: `aws`, `aws-cn`, `aws-us-gov`,
    /// `aws-iso`, `aws-iso-b` or `aws-eusc`.
    pub fn partition(&self) -> &'static str {
        const BEGINNINGS: [(&str, &str); 5] = [
            ("cn-", "aws-cn"),
            ("us-gov-", "aws-us-gov"),
            ("us-isob-", "aws-iso-b"),
            ("us-iso-", "aws-iso"),
            ("eusc-", "aws-eusc"),
        ];
        let mut known = BEGINNINGS.iter();
        let found = known.find(|(beginning, _)| self.0.starts_with(beginning));
        found.map_or("aws", |(_, partition)| partition)
    }
}

impl FromStr for Region {
    type Err = InvalidRegion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidRegion {
            text: text.to_owned(),
        };
        let (words, number) = text.rsplit_once('-').ok_or_else(invalid)?;
        let number_ok =
            (1..=2).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
        let words_ok = words.contains('-')
            && words.split('-').all(|w| {
                !w.is_empty()
                    && w.bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            });
        if text.len() > 32 || !number_ok || !words_ok {
            return Err(invalid());
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a partition that would make ARNs differ from the real service's.
    #[test]
    fn partitions_follow_the_name() {
        for (name, partition) in [
            ("us-east-1", "aws"),
            ("us-gov-west-1", "aws-us-gov"),
            ("cn-north-1", "aws-cn"),
            ("us-iso-east-1", "aws-iso"),
            ("us-isob-east-1", "aws-iso-b"),
            ("eusc-de-east-1", "aws-eusc"),
        ] {
            assert_eq!(name.parse::<Region>().unwrap().partition(), partition);
        }
        for bad in [
            "",
            "useast1",
            "us-east-",
            "US-EAST-1",
            "us--1",
            "us-east-1/../x",
        ] {
            assert!(bad.parse::<Region>().is_err(), "{bad}");
        }
    }
}
