//! When and how each key was last used, as GetKeyLastUsage tells.
//!
//! A use is no command: it would cost an entry a call. Each node remembers the last use of every key
//! that it answered for, and has those committed in batches (RecordKeyUses). The latest by the
//! Region's clock stays.

use std::collections::BTreeMap;

use keyrum_types::{CryptographicOperation, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::contents::Row;
use crate::{Event, KeyRef, Outcome, State};

/// How many uses a RecordKeyUses records at most; it bounds the size of its outcome.
pub const KEY_USES_MAX: usize = 1024;

/// A successful cryptographic call.
///
/// Stored in snapshots: the order and types of the fields are the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastUse {
    /// When, by the Region's clock.
    pub at: UnixMillis,
    /// Which operation.
    pub operation: CryptographicOperation,
    /// The id of the request, a UUID's bytes.
    pub request: [u8; 16],
}

/// One key's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUse {
    /// Which key.
    pub key: KeyRef,
    /// Its last use that one node knows of.
    pub last: LastUse,
}

/// Takes what is news: of a key that exists, and later than what is known.
pub(crate) fn record(state: &State, uses: &[KeyUse]) -> Outcome {
    let mut news: BTreeMap<KeyRef, LastUse> = BTreeMap::new();
    for KeyUse { key, last } in uses.iter().take(KEY_USES_MAX) {
        let known = news.get(key).copied().or_else(|| state.last_use(*key));
        if state.key(*key).is_some() && known.is_none_or(|known| known.at < last.at) {
            news.insert(*key, *last);
        }
    }
    if news.is_empty() {
        return Ok(vec![]);
    }
    let uses = news.into_iter().map(|(key, last)| KeyUse { key, last });
    Ok(vec![Event::KeyUsesRecorded {
        uses: uses.collect(),
    }])
}

pub(crate) fn recorded(state: &mut State, uses: &[KeyUse]) {
    for &KeyUse { key, last } in uses {
        state.put(Row::LastUse { key, last });
    }
}
