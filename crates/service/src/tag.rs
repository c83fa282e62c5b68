//! Operations on a key's tags.

use keyrum_state::{Command, Key};

use crate::page::{LIST_RESOURCE_TAGS, Markers, Page, PageRequest};
use crate::resolve::{Accounts, Asked};
use crate::{RequestContext, Service, ServiceError};

/// What TagResource is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagResourceInput {
    /// The key's id or ARN.
    pub key_id: String,
    /// Names and values, in the order sent; duplicates are refused later.
    pub tags: Vec<(String, String)>,
}

/// What UntagResource is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UntagResourceInput {
    /// The key's id or ARN.
    pub key_id: String,
    /// Names of tags; those the key lacks are ignored.
    pub tag_keys: Vec<String>,
}

/// What ListResourceTags is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListResourceTagsInput {
    /// The key's id or ARN.
    pub key_id: String,
    /// Which part of the list.
    pub page: PageRequest,
}

impl Service {
    /// Adds tags or replaces their values.
    pub async fn tag_resource(
        &self,
        ctx: &RequestContext,
        input: TagResourceInput,
    ) -> Result<(), ServiceError> {
        let key = self.key_only(ctx, &input.key_id, Accounts::Own)?;
        self.propose(
            ctx,
            Command::TagResource {
                key,
                tags: input.tags,
            },
        )
        .await
        .map(drop)
    }

    /// Removes tags.
    pub async fn untag_resource(
        &self,
        ctx: &RequestContext,
        input: UntagResourceInput,
    ) -> Result<(), ServiceError> {
        let key = self.key_only(ctx, &input.key_id, Accounts::Own)?;
        let command = Command::UntagResource {
            key,
            tag_keys: input.tag_keys,
        };
        self.propose(ctx, command).await.map(drop)
    }

    /// A key's tags, names and values, by name.
    pub async fn list_resource_tags(
        &self,
        ctx: &RequestContext,
        input: ListResourceTagsInput,
    ) -> Result<Page<(String, String)>, ServiceError> {
        let limit = LIST_RESOURCE_TAGS.check(&input.page)?;
        let asked = Asked::of("ListResourceTags", &input.key_id);
        self.with_key(ctx, Accounts::Own, asked, |key| {
            let markers = Markers {
                key: self.token_key(),
                operation: "ListResourceTags",
                account: ctx.caller.account,
                filter: key.id.to_string(),
            };
            list_resource_tags(key, &input.page, limit, markers)
        })
        .await
    }
}

fn list_resource_tags(
    key: &Key,
    page: &PageRequest,
    limit: usize,
    markers: Markers<'_>,
) -> Result<Page<(String, String)>, ServiceError> {
    let after = markers.position(page)?;
    let remaining = key.tags.iter().filter(|(name, _)| match &after {
        None => true,
        Some(after) => name.as_bytes() > after.as_slice(),
    });
    let tags = remaining.map(|(name, value)| (name.to_string(), value.to_string()));
    Ok(markers.page(tags, limit, |(name, _)| name.clone().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{OWN, TestRegion};

    /// Catches a tag left out or repeated between pages.
    #[test]
    fn tags_are_listed_by_name() {
        let mut region = TestRegion::new();
        let key = region.key(1);
        let tags: Vec<(String, String)> = ["b", "a", "é", "c", "A"]
            .map(|name| (name.to_owned(), format!("is {name}")))
            .into();
        region.apply(Command::TagResource { key, tags });
        let mut seen = Vec::new();
        let mut page = PageRequest::default();
        loop {
            let markers = Markers {
                key: &region.tokens,
                operation: "ListResourceTags",
                account: OWN.parse().unwrap(),
                filter: key.id.to_string(),
            };
            let found = region.state.key(key).unwrap();
            let found = list_resource_tags(found, &page, 2, markers).unwrap();
            seen.extend(
                found
                    .items
                    .into_iter()
                    .map(|(name, value)| format!("{name} {value}")),
            );
            match found.next_marker {
                None => break,
                marker => {
                    page = PageRequest {
                        limit: None,
                        marker,
                    }
                }
            }
        }
        assert_eq!(seen, ["A is A", "a is a", "b is b", "c is c", "é is é"]);
    }
}
