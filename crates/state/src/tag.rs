//! A key's tags: TagResource, UntagResource, and the rules CreateKey shares with them.

use std::collections::BTreeMap;

use crate::access::Permitted;
use crate::{Event, KeyRef, Outcome, Refusal, State, lifecycle};

/// How many tags a key may have. Source: AWS KMS Developer Guide, "Resource quotas".
pub const TAGS_PER_KEY_MAX: usize = 50;

/// Names that begin so, in either case of letters, are for AWS alone.
const RESERVED_PREFIX: &str = "aws:";

fn check_name(name: &str) -> Result<(), Refusal> {
    let reserved = name
        .get(..RESERVED_PREFIX.len())
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case(RESERVED_PREFIX));
    if reserved {
        Err(Refusal::ReservedTag)
    } else {
        Ok(())
    }
}

/// The tags of one request by name.
pub(crate) fn checked(tags: &[(String, String)]) -> Result<BTreeMap<String, String>, Refusal> {
    tags.iter().try_for_each(|(name, _)| check_name(name))?;
    let by_name: BTreeMap<String, String> = tags.iter().cloned().collect();
    if by_name.len() == tags.len() {
        Ok(by_name)
    } else {
        Err(Refusal::DuplicateTags)
    }
}

pub(crate) fn check_count(count: usize) -> Result<(), Refusal> {
    if count > TAGS_PER_KEY_MAX {
        Err(Refusal::TooManyTags)
    } else {
        Ok(())
    }
}

pub(crate) fn tag(target: &Permitted<'_>, tags: &[(String, String)]) -> Outcome {
    let new = checked(tags)?;
    let present = &target.key().tags;
    lifecycle::not_pending_deletion(target.key())?;
    check_count(
        present.len()
            + new
                .keys()
                .filter(|name| !present.contains_key(*name))
                .count(),
    )?;
    if new
        .iter()
        .all(|(name, value)| present.get(name) == Some(value))
    {
        return Ok(vec![]);
    }
    Ok(vec![Event::KeyTagged {
        key: target.reference(),
        tags: tags.to_vec(),
    }])
}

/// Names that the key does not have are ignored, as are repeated ones.
pub(crate) fn untag(target: &Permitted<'_>, names: &[String]) -> Outcome {
    names.iter().try_for_each(|name| check_name(name))?;
    lifecycle::not_pending_deletion(target.key())?;
    let present = &target.key().tags;
    let tag_keys: Vec<String> = present
        .keys()
        .filter(|name| names.contains(name))
        .cloned()
        .collect();
    if tag_keys.is_empty() {
        return Ok(vec![]);
    }
    Ok(vec![Event::KeyUntagged {
        key: target.reference(),
        tag_keys,
    }])
}

pub(crate) fn tagged(state: &mut State, key: KeyRef, tags: &[(String, String)]) {
    state.edit_key(key, |key| key.tags.extend(tags.iter().cloned()));
}

pub(crate) fn untagged(state: &mut State, key: KeyRef, names: &[String]) {
    state.edit_key(key, |key| key.tags.retain(|name, _| !names.contains(name)));
}
