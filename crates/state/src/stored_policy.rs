//! A policy as the state holds it: its text, and what it means once somebody asked.

use std::fmt;
use std::sync::{Arc, OnceLock};

use keyrum_authz::{Policy, PolicyKind};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A policy's text, with its parsed form kept from the first use on.
///
/// Stored and compared as text. A clone shares the parsed form, so that a policy is parsed once in
/// a version's life and not once in a request.
#[derive(Clone)]
pub struct StoredPolicy(Arc<Inner>);

struct Inner {
    text: Box<str>,
    parsed: OnceLock<Option<Policy>>,
}

impl StoredPolicy {
    /// A policy of this text, which need not be one.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(Arc::new(Inner {
            text: text.into(),
            parsed: OnceLock::new(),
        }))
    }

    /// As it was put.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// What it means. `None` if it is no policy of that kind: whoever decides must then allow
    /// nothing. A policy is always asked for as the same kind.
    pub fn parsed(&self, kind: PolicyKind) -> Option<&Policy> {
        let parse = || match kind {
            // It may have been put when less was looked at.
            PolicyKind::Key => Policy::of_stored(self.text()),
            kind => Policy::parse(self.text(), kind),
        };
        self.0.parsed.get_or_init(|| parse().ok()).as_ref()
    }
}

impl fmt::Debug for StoredPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl PartialEq for StoredPolicy {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for StoredPolicy {}

impl From<&str> for StoredPolicy {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for StoredPolicy {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl Serialize for StoredPolicy {
    fn serialize<S: Serializer>(&self, into: S) -> Result<S::Ok, S::Error> {
        into.serialize_str(self.text())
    }
}

impl<'de> Deserialize<'de> for StoredPolicy {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self::from)
    }
}
