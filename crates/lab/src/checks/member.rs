//! What the only one who changes a family knows for sure of one of its members.
//!
//! Members come to be, and step up and down, by themselves; but whether one that was usable still is
//! changes by its owner's calls alone. A call with an unknown outcome may be carried out at any time,
//! so after one nothing is sure.

use std::fmt;

/// Whether a member can be used for cryptographic calls, as far as its owner knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Member {
    usable: Option<bool>,
    /// A change may come at any time.
    doubtful: bool,
}

/// A state that no order of the owner's calls explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impossible {
    usable: bool,
    shown: String,
}

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let must = if self.usable { "usable" } else { "unusable" };
        write!(f, "is shown {}, and must be {must}", self.shown)
    }
}

impl Member {
    /// Whether it can be used; `None` if that is not sure.
    pub fn usable(&self) -> Option<bool> {
        self.usable.filter(|_| !self.doubtful)
    }

    /// A change that makes it usable, or unusable, was acknowledged.
    pub fn acknowledged(&mut self, usable: bool) {
        self.usable = Some(usable);
    }

    /// It is to come to be: it is usable once it is there.
    pub fn appears(&mut self) {
        self.usable = None;
    }

    /// A change's outcome is unknown.
    pub fn unknown(&mut self) {
        self.doubtful = true;
    }

    /// So much time has passed that nothing comes any more; its state is to be looked at.
    pub fn certain(&mut self) {
        *self = Self::default();
    }

    /// Its state is shown; `None`: there is no member.
    pub fn sees(&mut self, state: Option<&str>) -> Result<(), Impossible> {
        let shown = match state {
            Some("Enabled" | "Updating") => Some(true),
            Some("Creating") | None => None,
            Some(_) => Some(false),
        };
        match self.usable() {
            // What cannot be used may be gone for good; what can be must be there.
            Some(false) if state.is_none() => self.usable = None,
            Some(sure) if shown != Some(sure) => {
                return Err(Impossible {
                    usable: sure,
                    shown: state.unwrap_or("gone").to_owned(),
                });
            }
            _ => self.usable = shown,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a check that overlooks a member that was lost, or came back by itself, or that
    /// takes what is explained for impossible.
    #[test]
    fn only_the_owners_calls_change_a_member() {
        let mut member = Member::default();
        assert!(member.sees(None).is_ok());
        member.appears();
        assert!(member.sees(Some("Creating")).is_ok());
        assert_eq!(member.usable(), None);
        assert!(member.sees(Some("Enabled")).is_ok());
        assert!(member.sees(Some("Updating")).is_ok());
        assert_eq!(member.usable(), Some(true));
        for lost in [Some("Disabled"), Some("Creating"), None] {
            assert!(member.sees(lost).is_err(), "{lost:?}");
        }
        member.acknowledged(false);
        assert!(member.sees(Some("Enabled")).is_err(), "by itself");
        assert!(member.sees(Some("PendingDeletion")).is_ok());
        assert!(member.sees(None).is_ok(), "deleted");
        member.acknowledged(true);
        member.unknown();
        assert_eq!(member.usable(), None);
        assert!(member.sees(Some("Disabled")).is_ok(), "that call, late");
        assert!(member.sees(Some("Enabled")).is_ok(), "or not yet");
        member.certain();
        assert!(member.sees(Some("Disabled")).is_ok());
        assert_eq!(member.usable(), Some(false));
    }
}
