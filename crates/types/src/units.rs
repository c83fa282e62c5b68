//! Numbers that could be mistaken for each other, each as its own type.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A node of a Region's group. Unit-less, 1 or greater, unique in its Region, never reused.
pub type NodeId = u64;

/// A position in a Region's log. Starts at 0; openraft's own entries count too.
pub type LogIndex = u64;

/// Milliseconds since 1970-01-01T00:00:00Z, leap seconds ignored. Never negative.
///
/// KMS answers carry dates as seconds with a fraction of three digits, hence this unit.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// Milliseconds in one day of 24 hours; the unit of a key's waiting period.
    pub const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    /// This time moved ahead; saturates at the largest value instead of wrapping.
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// This time moved ahead by whole days of 24 hours.
    pub fn plus_days(self, days: u64) -> Self {
        self.plus_ms(days.saturating_mul(Self::DAY_MS))
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// An AWS account: 12 decimal digits, leading zeros kept in the text form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AccountId(u64);

/// The text is not 12 decimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an account id has 12 digits, not {text:?}")]
pub struct InvalidAccountId {
    /// What was given.
    pub text: String,
}

impl FromStr for AccountId {
    type Err = InvalidAccountId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits => Ok(Self(number)),
            _ => Err(InvalidAccountId {
                text: text.to_owned(),
            }),
        }
    }
}

impl AccountId {
    /// Its digits. Every ARN has them: a formatter for a number takes longer than all the rest of one.
    pub fn digits(self) -> [u8; 12] {
        let mut digits = [b'0'; 12];
        let mut rest = self.0;
        for digit in digits.iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        digits
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).expect("digits are ASCII"))
    }
}

/// How long a key waits before it is deleted.
///
/// Unit: whole days, 7 to 30 inclusive; 30 when the caller names none.
/// Source: AWS KMS API Reference, ScheduleKeyDeletion, `PendingWindowInDays`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WaitingDays(u8);

/// The waiting period is outside 7 to 30 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a waiting period has 7 to 30 days, not {days}")]
pub struct WaitingDaysOutOfRange {
    /// What was given.
    pub days: i64,
}

impl WaitingDays {
    /// What the real service uses when the caller names none.
    pub const DEFAULT: Self = Self(30);

    /// Checks the range.
    pub fn new(days: i64) -> Result<Self, WaitingDaysOutOfRange> {
        match u8::try_from(days) {
            Ok(days) if (7..=30).contains(&days) => Ok(Self(days)),
            _ => Err(WaitingDaysOutOfRange { days }),
        }
    }

    /// The number of days.
    pub fn days(self) -> u8 {
        self.0
    }
}

/// How long a key's material stays current before it is rotated automatically.
///
/// Unit: whole days, 90 to 2560 inclusive; 365 when the caller names none.
/// Source: AWS KMS API Reference, EnableKeyRotation, `RotationPeriodInDays`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16")]
pub struct RotationDays(u16);

/// The rotation period is outside 90 to 2560 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rotation period has 90 to 2560 days, not {days}")]
pub struct RotationDaysOutOfRange {
    /// What was given.
    pub days: i64,
}

impl RotationDays {
    /// What the real service uses when the caller names none.
    pub const DEFAULT: Self = Self(365);

    /// Checks the range.
    pub fn new(days: i64) -> Result<Self, RotationDaysOutOfRange> {
        match u16::try_from(days) {
            Ok(days) if (90..=2560).contains(&days) => Ok(Self(days)),
            _ => Err(RotationDaysOutOfRange { days }),
        }
    }

    /// The number of days.
    pub fn days(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for RotationDays {
    type Error = RotationDaysOutOfRange;

    fn try_from(days: u16) -> Result<Self, Self::Error> {
        Self::new(days.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches an account id that loses its leading zeros or takes signs and spaces.
    #[test]
    fn account_ids_are_twelve_digits() {
        let zeros: AccountId = "000000000042".parse().unwrap();
        assert_eq!(zeros.to_string(), "000000000042");
        for bad in ["", "42", "+00000000042", "0000000000420", "00000000004x"] {
            assert!(bad.parse::<AccountId>().is_err(), "{bad}");
        }
    }

    /// Catches a waiting period the real service refuses.
    #[test]
    fn waiting_days_have_bounds() {
        assert!(WaitingDays::new(6).is_err());
        assert!(WaitingDays::new(31).is_err());
        assert!(WaitingDays::new(-1).is_err());
        assert_eq!(WaitingDays::new(7).unwrap().days(), 7);
    }

    /// Catches a rotation period the real service refuses, or one it takes being refused.
    #[test]
    fn rotation_days_have_bounds() {
        for days in [-1, 0, 89, 2561, 65_536 + 365] {
            assert!(RotationDays::new(days).is_err(), "{days}");
        }
        for days in [90, 365, 2560] {
            assert_eq!(i64::from(RotationDays::new(days).unwrap().days()), days);
        }
    }
}
