//! A key's life in one Region: which operations its states allow, and where they lead.
//!
//! The states are those of the API. Deletions that come true, replicas that arrive, moves of a
//! primary and material that expires need no call. They may do so at any time here: the model does
//! not know the Region's clock.

use serde_json::Value;

use super::super::spec::{Does, Spec};

/// Not made yet.
pub(super) const ABSENT: u16 = 1;
pub(super) const CREATING: u16 = 1 << 1;
pub(super) const ENABLED: u16 = 1 << 2;
pub(super) const DISABLED: u16 = 1 << 3;
pub(super) const PENDING_DELETION: u16 = 1 << 4;
pub(super) const PENDING_REPLICA_DELETION: u16 = 1 << 5;
pub(super) const PENDING_IMPORT: u16 = 1 << 6;
pub(super) const UNAVAILABLE: u16 = 1 << 7;
pub(super) const UPDATING: u16 = 1 << 8;
/// Really deleted.
pub(super) const GONE: u16 = 1 << 9;

/// Nothing is there that a call could find.
pub(super) const MISSING: u16 = ABSENT | GONE;
/// What waits for its deletion.
const WAITING: u16 = PENDING_DELETION | PENDING_REPLICA_DELETION;
/// Whatever is there.
pub(super) const THERE: u16 = !MISSING & ALL;
const ALL: u16 = (1 << 10) - 1;

/// What is known of a key beside its calls.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traits {
    /// A CreateKey of the history made it.
    pub(super) made_here: bool,
    /// It may have members in several Regions.
    pub(super) multi_region: bool,
    /// Its material is imported.
    pub(super) imported: bool,
    /// Its material is in a custom key store.
    pub(super) custom: bool,
}

/// The specification of such a key's life.
pub(super) fn spec(traits: Traits) -> Spec {
    let mut steps = vec![(PENDING_DELETION, GONE)];
    if traits.multi_region {
        steps.extend([
            (MISSING, CREATING),
            (CREATING, ENABLED | DISABLED),
            (ENABLED, UPDATING),
            (UPDATING, ENABLED),
            (PENDING_REPLICA_DELETION, PENDING_DELETION),
        ]);
    }
    if traits.imported {
        steps.push((ENABLED | DISABLED | UPDATING | CREATING, PENDING_IMPORT));
        if traits.multi_region {
            steps.push((PENDING_IMPORT, ENABLED));
        }
    }
    if traits.custom {
        steps.extend([
            (ENABLED | DISABLED, UNAVAILABLE),
            (UNAVAILABLE, ENABLED | DISABLED),
        ]);
    }
    let known = traits.made_here || traits.multi_region;
    if !known {
        // A CreateKey whose outcome nobody knows may have made it.
        steps.push((ABSENT, ENABLED | DISABLED | PENDING_IMPORT | UNAVAILABLE));
    }
    Spec::machine(if known { ABSENT } else { ALL }, &steps)
}

/// The states that a name in an answer stands for.
pub(super) fn by_name(name: &str) -> Option<u16> {
    Some(match name {
        "Creating" => CREATING,
        "Enabled" => ENABLED,
        "Disabled" => DISABLED,
        "PendingDeletion" => PENDING_DELETION,
        "PendingReplicaDeletion" => PENDING_REPLICA_DELETION,
        "PendingImport" => PENDING_IMPORT,
        "Unavailable" => UNAVAILABLE,
        "Updating" => UPDATING,
        _ => return None,
    })
}

/// The name of states, if they are one; none, if nothing is there.
pub(in crate::judge) fn name(states: u16) -> Option<&'static str> {
    match states {
        MISSING => Some(NAMES[0]),
        one if one.count_ones() == 1 => Some(NAMES[one.trailing_zeros() as usize]),
        _ => None,
    }
}

const NAMES: [&str; 10] = [
    "none",
    "Creating",
    "Enabled",
    "Disabled",
    "PendingDeletion",
    "PendingReplicaDeletion",
    "PendingImport",
    "Unavailable",
    "Updating",
    "none",
];

/// What a call that was done, or that may be done, found and left. `answer` is empty if there is none.
/// `None` if the operation says nothing of its key's life.
pub(super) fn done(operation: &str, answer: &Value, traits: Traits) -> Option<Does> {
    // Where a key goes that is there again after a wait.
    let back = |state: u16| {
        let mut to = state;
        if traits.imported {
            to |= PENDING_IMPORT;
        }
        if traits.custom {
            to |= UNAVAILABLE;
        }
        if traits.multi_region {
            to |= CREATING;
        }
        to
    };
    let toggled = |to: u16| {
        let mut relation = match Does::moves(ENABLED | DISABLED, to) {
            Does::Moves(relation) => relation,
            Does::Finds(..) => unreachable!("it moves"),
        };
        relation[UNAVAILABLE.trailing_zeros() as usize] = UNAVAILABLE;
        Does::Moves(relation)
    };
    let state = |value: &Value| value["KeyState"].as_str().and_then(by_name);
    Some(match operation {
        "CreateKey" => {
            let to = answer.get("KeyMetadata").and_then(state);
            Does::moves(ABSENT, to.unwrap_or(ENABLED))
        }
        "DescribeKey" => Does::sees(answer.get("KeyMetadata").and_then(state).unwrap_or(THERE)),
        "EnableKey" => toggled(ENABLED),
        "DisableKey" => toggled(DISABLED),
        "ScheduleKeyDeletion" => {
            let from = ENABLED | DISABLED | PENDING_IMPORT | UNAVAILABLE | CREATING;
            Does::moves(
                from,
                state(answer).unwrap_or(match traits.multi_region {
                    true => WAITING,
                    false => PENDING_DELETION,
                }),
            )
        }
        "CancelKeyDeletion" => Does::moves(WAITING, back(DISABLED)),
        "ImportKeyMaterial" => {
            let from = ENABLED | DISABLED | PENDING_IMPORT | UPDATING;
            Does::moves(from, ENABLED | DISABLED | PENDING_IMPORT)
        }
        "DeleteImportedKeyMaterial" => {
            let mut relation = super::super::spec::Relation::default();
            for (place, to) in relation.iter_mut().enumerate() {
                let state = 1 << place;
                *to = match state & THERE & !(CREATING | UPDATING) {
                    0 => 0,
                    waiting if waiting & WAITING != 0 => waiting,
                    other => other | PENDING_IMPORT,
                };
            }
            Does::Moves(relation)
        }
        "CreateGrant" => Does::sees(ENABLED | UPDATING | UNAVAILABLE),
        "ReplicateKey" | "UpdatePrimaryRegion" => Does::sees(ENABLED),
        "GetPublicKey" => Does::sees(ENABLED | DISABLED | UPDATING),
        "TagResource"
        | "UntagResource"
        | "UpdateKeyDescription"
        | "CreateAlias"
        | "UpdateAlias" => Does::sees(THERE & !WAITING),
        "GetKeyPolicy"
        | "PutKeyPolicy"
        | "ListKeyPolicies"
        | "ListGrants"
        | "RevokeGrant"
        | "ListResourceTags"
        | "GetKeyRotationStatus"
        | "ListKeyRotations"
        | "GetKeyLastUsage" => Does::sees(THERE),
        _ if USES.binary_search(&operation).is_ok() => Does::sees(ENABLED | UPDATING),
        _ => return None,
    })
}

/// Whether a call of this kind may change its key's life.
pub(super) fn changes(operation: &str) -> bool {
    matches!(
        operation,
        "EnableKey"
            | "DisableKey"
            | "ScheduleKeyDeletion"
            | "CancelKeyDeletion"
            | "ImportKeyMaterial"
            | "DeleteImportedKeyMaterial"
    )
}

/// Operations that need a key that can be used, in alphabetical order.
const USES: [&str; 17] = [
    "Decapsulate",
    "Decrypt",
    "DeriveSharedSecret",
    "DisableKeyRotation",
    "EnableKeyRotation",
    "Encapsulate",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateMac",
    "ReEncrypt",
    "RotateKeyOnDemand",
    "Sign",
    "Verify",
    "VerifyMac",
];

/// What a refusal says of the key's state.
pub(super) fn refused(error: &str, message: &str) -> Option<Does> {
    let says = |what: &str| message.trim_end_matches('.').ends_with(what);
    let states = match error {
        "DisabledException" if says(" is disabled") => DISABLED,
        "NotFoundException" if message.starts_with("Key '") && says(" does not exist") => MISSING,
        "KMSInvalidStateException" => match () {
            () if says(" is not pending deletion") => THERE & !WAITING,
            () if says(" is pending replica deletion") => PENDING_REPLICA_DELETION,
            () if says(" is pending deletion") => PENDING_DELETION,
            () if says(" is pending import") => PENDING_IMPORT,
            () if says(" is unavailable") => UNAVAILABLE,
            () if says(" is creating") => CREATING,
            () if says(" is updating") => UPDATING,
            () => return None,
        },
        _ => return None,
    };
    Some(Does::sees(states))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches operations that are not found because the list is out of order, and a message that
    /// is taken for another state.
    #[test]
    fn what_is_listed_is_found() {
        assert!(USES.is_sorted());
        let state = |message: &str| refused("KMSInvalidStateException", message);
        assert_eq!(
            state("a is not pending deletion."),
            Some(Does::sees(THERE & !WAITING))
        );
        assert_eq!(
            state("a is pending replica deletion."),
            Some(Does::sees(PENDING_REPLICA_DELETION))
        );
        assert_eq!(state("a waits."), None);
        assert_eq!(name(MISSING), Some("none"));
        assert_eq!(name(ENABLED), Some("Enabled"));
        assert_eq!(name(UPDATING), Some("Updating"));
        assert_eq!(name(ENABLED | UPDATING), None);
    }
}
