//! What the maps of a state hold beside plain rows.

use std::sync::Arc;

use keyrum_types::UnixMillis;
use rpds::RedBlackTreeMapSync as Map;

use crate::KeyRef;
use crate::digest::Share;

/// What is large and often replaced, with its share of the digest: then its former self need not be hashed
/// again.
#[derive(Clone)]
pub(super) struct Kept<T> {
    pub(super) value: T,
    pub(super) share: Share,
}

impl<T> Kept<Arc<T>> {
    pub(super) fn fact(&self) -> &T {
        &self.value
    }
}

/// Keys by a date, and then by name.
pub(super) type ByDate = Map<(UnixMillis, KeyRef), ()>;

/// Enters a key under a date in place of another.
pub(super) fn move_date(
    index: &mut ByDate,
    key: KeyRef,
    former: Option<UnixMillis>,
    date: Option<UnixMillis>,
) {
    if former == date {
        return;
    }
    if let Some(former) = former {
        index.remove_mut(&(former, key));
    }
    if let Some(date) = date {
        index.insert_mut((date, key), ());
    }
}
