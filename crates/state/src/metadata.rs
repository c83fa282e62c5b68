//! What callers note down about a key for themselves: UpdateKeyDescription.

use crate::access::Permitted;
use crate::{Event, KeyRef, Outcome, State, lifecycle};

pub(crate) fn update_description(target: &Permitted<'_>, description: &str) -> Outcome {
    lifecycle::not_pending_deletion(target.key())?;
    if *target.key().description == *description {
        return Ok(vec![]);
    }
    let key = target.reference();
    Ok(vec![Event::KeyDescriptionUpdated {
        key,
        description: description.to_owned(),
    }])
}

pub(crate) fn description_updated(state: &mut State, key: KeyRef, description: &str) {
    state.edit_key(key, |key| key.description = description.into());
}
