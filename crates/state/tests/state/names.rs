//! Names in transcripts: of every kind of event and refusal, and of keys.

use keyrum_state::{Event, Refusal};
use keyrum_types::KeyId;

macro_rules! variant_names {
    ($(#[$meta:meta])* $names:ident, $name_of:ident, $enum:ident { $($variant:ident,)+ }) => {
        /// Every variant there is; the function beside it does not compile without one.
        pub(crate) const $names: &[&str] = &[$(stringify!($variant),)+];

        pub(crate) fn $name_of(value: &$enum) -> &'static str {
            match value { $($enum::$variant { .. } => stringify!($variant),)+ }
        }
    };
}

variant_names!(
    EVENTS,
    event_name,
    Event {
        KeyCreated,
        KeyEnabled,
        KeyDisabled,
        KeyDeletionScheduled,
        KeyDeletionCanceled,
        KeyDeleted,
        KeyDescriptionUpdated,
        AliasCreated,
        AliasUpdated,
        AliasDeleted,
        KeyTagged,
        KeyUntagged,
        KeyPolicyPut,
        ClockAdvanced,
        ClockConfirmed,
        FeatureLevelRaised,
        KeyRotationEnabled,
        KeyRotationDisabled,
        KeyRotated,
        KeyRotationStarted,
        KeyReplicated,
        FamilyChanged,
        MessagesSent,
        MessageTaken,
        MessagesDelivered,
        KeyUsesRecorded,
        KeyMaterialImported,
        KeyMaterialDeleted,
        KeyMaterialExpired,
    }
);

variant_names!(
    REFUSALS,
    refusal_name,
    Refusal {
        NoSuchKey,
        NotAuthorized,
        KeyExists,
        WrongState,
        NotPendingDeletion,
        TooManyKeys,
        AliasExists,
        NoSuchAlias,
        TooManyAliases,
        ReservedAlias,
        AliasKindMismatch,
        ReservedTag,
        DuplicateTags,
        TooManyTags,
        PolicyTooLong,
        MalformedPolicy,
        ClockUnconfirmed,
        FeatureLevelNotHigher,
        OutcomeUnknown,
        OriginNotForOperation,
        SpecNotForOperation,
        RotationDue,
        TooManyRotations,
        NoMaterialToRotateTo,
        NotMultiRegion,
        NotPrimary,
        NoPrimaryToMove,
        PrimaryIsThere,
        ReplicaExists,
        NoReplicaThere,
        ReplicaIsCreating,
        MessagesMissing,
        NeverSent,
        ReplicaNotForOperation,
        ImportParameterNotForSpec,
        NewMaterialNamed,
        ExpiryPast,
        ExpiryTooFar,
        OtherMaterialExpected,
        MaterialAssociated,
        MaterialPendingRotation,
        NoSuchMaterial,
        NewMaterialOnReplica,
        DescriptionOnReplica,
        ReplicasLackMaterial,
    }
);

/// How long a key id is as text, in either of its forms.
const ID_CHARS: usize = 36;

/// Puts `K1` for key ids, so that a transcript can be read.
pub(crate) fn with_key_names(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let id = rest
            .get(..ID_CHARS)
            .and_then(|word| word.parse::<KeyId>().ok());
        let (shown, length) = match id {
            Some(id) => {
                let number = id.to_bytes()[1..7]
                    .iter()
                    .fold(0_u64, |n, &b| n << 8 | u64::from(b));
                let kind = if id.is_multi_region() { 'M' } else { 'K' };
                (format!("{kind}{number}"), ID_CHARS)
            }
            None => (character.to_string(), character.len_utf8()),
        };
        out += &shown;
        rest = &rest[length..];
    }
    out
}
