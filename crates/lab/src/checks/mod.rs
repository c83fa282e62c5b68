//! The invariants, one a file. Each takes what was seen and gives what is wrong with it.

pub mod acknowledged;
pub mod ballots;
pub mod channels;
pub mod decrypts;
pub mod exercised;
pub mod families;
pub mod healed;
pub mod history;
pub mod member;
pub mod never_twice;
pub mod register;
pub mod replicas;

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which check says so.
    pub check: Cow<'static, str>,
    /// What it saw.
    pub what: String,
}

impl Finding {
    /// A finding of a check.
    pub fn new(check: impl Into<Cow<'static, str>>, what: impl fmt::Display) -> Self {
        Self {
            check: check.into(),
            what: what.to_string(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.what)
    }
}

/// How a call ended for its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending<T> {
    /// The Region said that it was done.
    Acknowledged(T),
    /// The Region said that it was not done and will not be: refused, or never proposed.
    NotDone,
    /// Nobody knows: no answer came, or the answer says so. It may be done later still.
    Unknown,
}
