//! Lists in pages: limits, and markers that fit only the list they were given for.

use keyrum_crypto::TokenKey;
use keyrum_types::AccountId;

use crate::ServiceError;

/// Which part of a list is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// At most how many items, 1 to 1000; each operation has its own default and maximum.
    pub limit: Option<u32>,
    /// Where to go on: the former page's `next_marker`.
    pub marker: Option<String>,
}

/// One part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where to go on; `None` at the end of the list. The API's `Truncated` is whether it is there.
    pub next_marker: Option<String>,
}

/// How many items one operation gives. Source: AWS KMS API Reference, `Limit` of each operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageLimits {
    pub(crate) default: u32,
    pub(crate) max: u32,
}

pub(crate) const LIST_ALIASES: PageLimits = PageLimits {
    default: 50,
    max: 100,
};
/// Of ListGrants and ListRetirableGrants.
pub(crate) const LIST_GRANTS: PageLimits = PageLimits {
    default: 50,
    max: 100,
};
pub(crate) const LIST_KEYS: PageLimits = PageLimits {
    default: 100,
    max: 1000,
};
pub(crate) const LIST_KEY_POLICIES: PageLimits = PageLimits {
    default: 100,
    max: 1000,
};
pub(crate) const LIST_KEY_ROTATIONS: PageLimits = PageLimits {
    default: 100,
    max: 1000,
};
pub(crate) const LIST_RESOURCE_TAGS: PageLimits = PageLimits {
    default: 50,
    max: 50,
};

impl PageLimits {
    /// The number of items to give, or the refusal of a limit that is too large. The API's shape
    /// allows 1 to 1000; what an operation's own maximum leaves out is refused here.
    pub(crate) fn check(self, request: &PageRequest) -> Result<usize, ServiceError> {
        match request.limit {
            None => Ok(self.default as usize),
            Some(limit) if limit > self.max => Err(ServiceError::LimitTooLarge {
                limit,
                max: self.max,
            }),
            Some(limit) => Ok(limit.max(1) as usize),
        }
    }
}

/// Gives and takes the markers of one list: an operation, its filter and whose list it is.
pub(crate) struct Markers<'a> {
    pub(crate) key: &'a TokenKey,
    pub(crate) operation: &'static str,
    pub(crate) account: AccountId,
    /// What else selects the list's items; empty if nothing does.
    pub(crate) filter: String,
}

impl Markers<'_> {
    /// The position that a request's marker stands for; `None` is the beginning.
    pub(crate) fn position(&self, request: &PageRequest) -> Result<Option<Vec<u8>>, ServiceError> {
        let open = |marker| self.with_purpose(|purpose| self.key.open(purpose, marker));
        match &request.marker {
            None => Ok(None),
            Some(marker) => open(marker).map(Some).ok_or(ServiceError::InvalidMarker),
        }
    }

    /// The first `limit` of the remaining items, and a marker if there are more. `position` gives
    /// what [`Markers::position`] must give back to go on behind an item.
    pub(crate) fn page<T>(
        &self,
        remaining: impl Iterator<Item = T>,
        limit: usize,
        position: impl Fn(&T) -> Vec<u8>,
    ) -> Page<T> {
        let mut items: Vec<T> = remaining.take(limit + 1).collect();
        let truncated = items.len() > limit;
        items.truncate(limit);
        let last = items.last().filter(|_| truncated);
        let next_marker = last.map(|item| {
            let payload = position(item);
            self.with_purpose(|purpose| self.key.issue(purpose, &payload))
        });
        Page { items, next_marker }
    }

    fn with_purpose<R>(&self, act: impl FnOnce(&[&[u8]]) -> R) -> R {
        let account = self.account.to_string();
        act(&[
            b"page",
            self.operation.as_bytes(),
            account.as_bytes(),
            self.filter.as_bytes(),
        ])
    }
}

impl<T> Page<T> {
    /// The same page of other items.
    pub(crate) fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(f).collect(),
            next_marker: self.next_marker,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{OTHER, OWN, TestRegion};

    fn markers<'a>(
        key: &'a TokenKey,
        operation: &'static str,
        account: &str,
        filter: &str,
    ) -> Markers<'a> {
        Markers {
            key,
            operation,
            account: account.parse().unwrap(),
            filter: filter.to_owned(),
        }
    }

    fn request(limit: Option<u32>, marker: Option<&str>) -> PageRequest {
        PageRequest {
            limit,
            marker: marker.map(str::to_owned),
        }
    }

    /// Catches a page that loses or repeats an item, a marker after the last page, and a full last
    /// page that claims there is more.
    #[test]
    fn pages_follow_each_other() {
        let region = TestRegion::new();
        let markers = markers(&region.tokens, "ListKeys", OWN, "");
        for (total, limit) in [(0, 3), (1, 3), (3, 3), (4, 3), (7, 3), (6, 1)] {
            let mut seen = Vec::new();
            let mut next = request(None, None);
            loop {
                let after = markers.position(&next).unwrap();
                let after = after.map(|bytes| bytes[0] + 1).unwrap_or_default();
                let page = markers.page(after..total, limit, |item| vec![*item]);
                assert!(page.items.len() <= limit);
                seen.extend(page.items);
                match page.next_marker {
                    Some(marker) => next = request(None, Some(&marker)),
                    None => break,
                }
            }
            assert_eq!(seen, (0..total).collect::<Vec<_>>(), "{total} by {limit}");
        }
    }

    /// Catches a marker that is taken by another operation, account, filter or Region, or after it
    /// was changed.
    #[test]
    fn a_marker_fits_only_its_list() {
        let region = TestRegion::new();
        let list = markers(&region.tokens, "ListAliases", OWN, "key");
        let marker = list
            .page(0..9, 1, |_| b"position".to_vec())
            .next_marker
            .unwrap();
        assert!(
            marker
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
        let asked = request(None, Some(&marker));
        assert_eq!(list.position(&asked), Ok(Some(b"position".to_vec())));
        for other in [
            markers(&region.tokens, "ListKeys", OWN, "key"),
            markers(&region.tokens, "ListAliases", OTHER, "key"),
            markers(&region.tokens, "ListAliases", OWN, ""),
        ] {
            assert_eq!(other.position(&asked), Err(ServiceError::InvalidMarker));
        }
        for text in ["x", "", "é", &marker[1..]] {
            let asked = request(None, Some(text));
            assert_eq!(
                list.position(&asked),
                Err(ServiceError::InvalidMarker),
                "{text}"
            );
        }
    }

    /// Catches a limit over the operation's own maximum being taken or cut.
    #[test]
    fn limits_have_defaults_and_maxima() {
        for (limits, default, max) in [
            (LIST_ALIASES, 50, 100),
            (LIST_GRANTS, 50, 100),
            (LIST_KEYS, 100, 1000),
            (LIST_KEY_POLICIES, 100, 1000),
            (LIST_KEY_ROTATIONS, 100, 1000),
            (LIST_RESOURCE_TAGS, 50, 50),
        ] {
            assert_eq!(limits.check(&request(None, None)), Ok(default));
            assert_eq!(limits.check(&request(Some(max), None)), Ok(max as usize));
            let limit = max + 1;
            let refused = Err(ServiceError::LimitTooLarge { limit, max });
            assert_eq!(limits.check(&request(Some(limit), None)), refused);
        }
    }
}
