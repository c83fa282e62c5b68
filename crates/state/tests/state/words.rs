//! From an outcome to lines of text: how the transcripts tell of keys, families and events.

use keyrum_state::{
    CompletedRotation, Entry, Event, Family, FamilyRecord, Grant, GrantConstraints, GrantPrincipal,
    Imports, Key, KeyUse, LastUse, Message, NewMaterial, Refusal, Rotation, Stamp, State, Transit,
};
use keyrum_types::{AliasName, GrantId, KeyId, MaterialId, Region};

use crate::domain_key;
use crate::identities::{news_text, record_text};

/// What a version made by [`material`] is called in a transcript.
pub(crate) fn material_name(id: &MaterialId) -> String {
    format!("m{}", id.0[0])
}

pub(crate) fn last_use_text(last: LastUse) -> String {
    format!("{}@{}", last.operation, last.at)
}

pub(crate) fn key_text(key: &Key) -> String {
    let mut text = format!("{} state={} created={}", key.id, key.state, key.created);
    text += &format!(
        " spec={} usage={} origin={}",
        key.spec, key.usage, key.origin
    );
    if let Some(deletion) = &key.deletion {
        text += &format!(" due={} wait_days={}", deletion.due, deletion.wait_days);
    }
    if let Some(role) = key.multi_region {
        text += &format!(" multi_region={role}");
    }
    if !key.description.is_empty() {
        text += &format!(" description={}", key.description);
    }
    if let Some(policy) = &key.policy {
        text += &format!(" policy={}", policy.text());
    }
    if !key.tags.is_empty() {
        text += &format!(" tags={:?}", key.tags);
    }
    text + &format!(" materials={}", key.materials.len())
}

pub(crate) fn rotation_text(rotation: &Rotation) -> String {
    let mut text = String::new();
    if let Some(automatic) = &rotation.automatic {
        text += &format!(
            " every {}d next={}",
            automatic.period.days(),
            automatic.next
        );
    }
    text += &format!(" on_demand={}", rotation.on_demand_count);
    for CompletedRotation { material, at, kind } in &rotation.rotations {
        text += &format!(" {}:{kind}@{at}", material_name(material));
    }
    if let Some(pending) = &rotation.pending {
        text += &format!(" pending={}", material_name(&pending.material.id));
    }
    text
}

/// Who has the version that a family waits for, `!` once all have it.
pub(crate) fn awaited_text(state: &State, key: &Key) -> String {
    let family = state.family(key.reference());
    let Some((awaited, family)) = state.awaited(key.reference()).zip(family) else {
        return String::new();
    };
    let everywhere = awaited.is_everywhere(family);
    let mark = if everywhere { "!" } else { "" };
    let held_by: Vec<_> = awaited.held_by.keys().map(Region::as_str).collect();
    format!(" held by [{}]{mark}", held_by.join(", "))
}

/// Every version; `-` stands before one whose bytes are gone, `?` before one that waits, `?-` before one
/// that waits without bytes.
pub(crate) fn imports_text(key: &Key, imports: Option<&Imports>) -> String {
    let mut text = format!("{} state={}", key.id, key.state);
    let none = Imports::default();
    let imports = imports.unwrap_or(&none);
    let waits = imports.pending.iter();
    let pending = waits.map(|version| match version.is_here() {
        true => (version, "?"),
        false => (version, "?-"),
    });
    let versions = key.materials.iter().map(|version| match version.is_here() {
        true => (version, ""),
        false => (version, "-"),
    });
    for (version, mark) in versions.chain(pending) {
        text += &format!(" {mark}{}", material_name(&version.id));
        let Some(details) = imports.details.get(&version.id) else {
            continue;
        };
        if let Some(expires) = details.expires {
            text += &format!(" until {expires}");
        }
        if let Some(description) = &details.description {
            text += &format!(" ({description})");
        }
    }
    text
}

/// What a grant made by [`grant_id`](crate::script::grant_id) is called in a transcript.
fn grant_name(id: &GrantId) -> String {
    let number = id.0[..8].iter().fold(0_u64, |n, &b| n << 8 | u64::from(b));
    format!("G{number}")
}

pub(crate) fn grant_text(grant: &Grant) -> String {
    let principal = |principal: &GrantPrincipal| match principal {
        GrantPrincipal::Aws(name) | GrantPrincipal::Service(name) => name.clone(),
    };
    let terms = &grant.terms;
    let mut text = format!("{} of {}", grant_name(&grant.id), grant.key.id);
    if let Some(called) = &terms.name {
        text += &format!(" called {called}");
    }
    let operations: Vec<_> = terms.operations.iter().map(|o| o.name()).collect();
    text += &format!(" to {} {}", principal(&terms.grantee), operations.join(","));
    if let Some(retiring) = &terms.retiring {
        text += &format!(" retiring={}", principal(retiring));
    }
    let GrantConstraints {
        context_equals,
        context_subset,
        source_arn,
    } = &terms.constraints;
    for (kind, context) in [("equals", context_equals), ("subset", context_subset)] {
        if let Some(context) = context {
            text += &format!(" {kind}={context:?}");
        }
    }
    if let Some(source_arn) = source_arn {
        text += &format!(" source={source_arn}");
    }
    text + &format!(" by {} at={}", grant.issuer, grant.created)
}

pub(crate) fn event_text(event: &Event) -> String {
    let name = event_name(event);
    match event {
        Event::KeyCreated { key } => format!("{name} {}", key_text(key)),
        Event::KeyEnabled { key } | Event::KeyDisabled { key } => format!("{name} {}", key.id),
        Event::KeyDeletionScheduled {
            key,
            due,
            wait_days,
        } => {
            format!("{name} {} due={due} wait_days={wait_days}", key.id)
        }
        Event::KeyDeletionCanceled { key, state } => format!("{name} {} state={state}", key.id),
        Event::KeyDeleted { key, aliases } => {
            let aliases: Vec<_> = aliases.iter().map(AliasName::as_str).collect();
            format!("{name} {} aliases={aliases:?}", key.id)
        }
        Event::KeyDescriptionUpdated { key, description } => {
            format!("{name} {} description={description}", key.id)
        }
        Event::AliasCreated { alias, target, at } => {
            format!("{name} {alias} -> {} at={at}", target.id)
        }
        Event::AliasUpdated {
            alias,
            former,
            target,
            at,
        } => {
            format!("{name} {alias} {} -> {} at={at}", former.id, target.id)
        }
        Event::AliasDeleted {
            account,
            alias,
            target,
        } => {
            format!("{name} {alias} of {account} was {}", target.id)
        }
        Event::KeyTagged { key, tags } => format!("{name} {} tags={tags:?}", key.id),
        Event::KeyUntagged { key, tag_keys } => format!("{name} {} {tag_keys:?}", key.id),
        Event::KeyPolicyPut { key, policy } => format!("{name} {} policy={policy}", key.id),
        Event::ClockAdvanced { by_ms } => format!("{name} by_ms={by_ms}"),
        Event::ClockConfirmed { now } => format!("{name} now={now}"),
        Event::FeatureLevelRaised { level } => format!("{name} level={level}"),
        Event::KeyRotationEnabled { key, period, next } => {
            format!("{name} {} every {}d next={next}", key.id, period.days())
        }
        Event::KeyRotationDisabled { key } => format!("{name} {}", key.id),
        Event::KeyRotated {
            key,
            origin,
            previous,
            material,
            at,
            kind,
            next,
        } => {
            let (from, to) = (material_name(previous), material_name(&material.id));
            let next = next.map_or(String::new(), |next| format!(" next={next}"));
            format!(
                "{name} {} {origin} {from} -> {to} {kind} at={at}{next}",
                key.id
            )
        }
        Event::KeyRotationStarted {
            key,
            material,
            at,
            kind,
            next,
        } => {
            let material = material.id.0[0];
            let next = next.map(|next| format!(" next={next}")).unwrap_or_default();
            format!("{name} {} material={material} at={at} {kind}{next}", key.id)
        }
        Event::KeyReplicated {
            key, family, sent, ..
        } => format!(
            "{name} {} {}{}",
            key_text(key),
            family_text(family),
            sent_text(sent)
        ),
        Event::FamilyChanged {
            key,
            change,
            family,
            state,
            materials,
            sent,
            rotation: _,
        } => {
            let materials = if materials.is_empty() {
                String::new()
            } else {
                format!(" materials+{}", materials.len())
            };
            format!(
                "{name} {} {change:?} state={state} {}{materials}{}",
                key.id,
                family_text(family),
                sent_text(sent)
            )
        }
        Event::KeyMaterialImported {
            key,
            material,
            pending,
            expires,
            description,
            state,
        } => {
            let mut text = format!("{name} {} {}", key.id, material_name(&material.id));
            if *pending {
                text += " pending";
            }
            if let Some(expires) = expires {
                text += &format!(" until {expires}");
            }
            if let Some(description) = description {
                text += &format!(" ({description})");
            }
            text + &format!(" state={state}")
        }
        Event::KeyMaterialDeleted {
            key,
            material,
            state,
        }
        | Event::KeyMaterialExpired {
            key,
            material,
            state,
        } => format!(
            "{name} {} {} state={state}",
            key.id,
            material_name(material)
        ),
        Event::ImportsShared {
            key,
            imports,
            awaited,
        } => {
            let mut text = format!("{name} {}", key.id);
            if let Some(pending) = &imports.pending {
                let mark = if pending.is_here() { "?" } else { "?-" };
                text += &format!(" {mark}{}", material_name(&pending.id));
            }
            if let Some(awaited) = awaited {
                let held_by: Vec<_> = awaited.held_by.keys().map(Region::as_str).collect();
                text += &format!(" held by [{}]", held_by.join(", "));
            }
            text
        }
        Event::GrantCreated { grant } => format!("{name} {}", grant_text(grant)),
        Event::GrantRetired { key, grant } | Event::GrantRevoked { key, grant } => {
            format!("{name} {} of {}", grant_name(grant), key.id)
        }
        Event::IdentityPut { record } => format!("{name} {}", record_text(record)),
        Event::IdentityDeleted {
            name: identity,
            revision,
        } => format!("{name} {revision}: {identity}"),
        Event::IdentitiesShared { with } => format!("{name} with {with}"),
        Event::IdentityHeard { from, news } => {
            format!("{name} from {from} {}", news_text(news))
        }
        Event::DomainKeyAnnounced { version, .. }
        | Event::DomainKeyActivated { version, .. }
        | Event::DomainKeyAbandoned { version }
        | Event::DomainKeyWithdrawn { version }
        | Event::DomainKeyDestroyed { version } => format!("{name} {version}"),
        Event::DomainKeyConfirmed { version, node, .. } => {
            format!("{name} {version} by node {node}")
        }
        Event::SecretsResealed { resealed } => {
            format!("{name} {}", domain_key::resealed_text(resealed))
        }
        Event::MessagesSent { sent } => format!("{name} {}", sent_text(sent)),
        Event::MessageTaken { from, number } => format!("{name} {number} of {from}"),
        Event::MessagesDelivered { to, through } => format!("{name} {to} through={through}"),
        Event::KeyUsesRecorded { uses } => {
            let shown = |used: &KeyUse| format!(" {} {}", used.key.id, last_use_text(used.last));
            name.to_owned() + &uses.iter().map(shown).collect::<String>()
        }
    }
}

pub(crate) fn roster_text<'a>(roster: impl Iterator<Item = (&'a Region, &'a Entry)>) -> String {
    let entry = |(region, entry): (&Region, &Entry)| {
        let has = if entry.confirmed.is_empty() {
            " waits"
        } else {
            ""
        };
        format!("{region}@{}{has}", entry.incarnation.version)
    };
    roster.map(entry).collect::<Vec<_>>().join(", ")
}

pub(crate) fn family_text(family: &Family) -> String {
    let Stamp { epoch, version } = family.stamp;
    let mut text = format!(
        "family={epoch}.{version} primary={} [{}]",
        family.primary,
        roster_text(family.roster.iter())
    );
    if family.transit != Transit::Settled {
        text += &format!(" transit={:?}", family.transit);
    }
    text
}

pub(crate) fn sent_text(sent: &[(Region, Message)]) -> String {
    let tell = |(to, message): &(Region, Message)| {
        let message = message_text(message);
        let kind = message.split_once(' ').map_or(&*message, |(kind, _)| kind);
        format!(" -> {to}: {kind}")
    };
    sent.iter().map(tell).collect()
}

pub(crate) fn message_text(message: &Message) -> String {
    let family_record_text = |record: &FamilyRecord, materials: &[NewMaterial]| {
        let Stamp { epoch, version } = record.stamp;
        format!(
            "{} {epoch}.{version} primary={} [{}] with {} of {} materials",
            record.key.id,
            record.primary,
            roster_text(record.roster.iter()),
            materials.len(),
            record.materials.len()
        )
    };
    match message {
        Message::Record { record, materials } => {
            format!("record {}", family_record_text(record, materials))
        }
        Message::Confirmation {
            key,
            incarnation,
            materials,
        } => format!(
            "confirmation {} @{} has {} materials",
            key.id,
            incarnation.version,
            materials.len()
        ),
        Message::Tombstone { key, incarnation } => {
            format!("tombstone {} @{}", key.id, incarnation.version)
        }
        Message::MoveRequest {
            record, materials, ..
        } => format!("request {}", family_record_text(record, materials)),
        Message::ImportedRecord {
            record,
            imports,
            request,
        } => {
            let kind = if request.is_some() {
                "request"
            } else {
                "record"
            };
            let mut text = format!("{kind} {}", family_record_text(record, &[]));
            if let Some(awaited) = &imports.awaited {
                let held_by: Vec<_> = awaited.held_by.keys().map(Region::as_str).collect();
                let material = material_name(&awaited.material);
                text += &format!(", {material} held by [{}]", held_by.join(", "));
            }
            for (id, description) in &imports.descriptions {
                text += &format!(", {} ({description})", material_name(id));
            }
            text
        }
        Message::ImportReport {
            key,
            incarnation,
            here,
            ..
        } => {
            let has = if *here { "has" } else { "lacks" };
            format!("report {} @{} {has} it", key.id, incarnation.version)
        }
        Message::Identity(news) => format!("identity {}", news_text(news)),
        Message::MoveAnswer { key, refusal, .. } => match refusal {
            None => format!("reserved {}", key.id),
            Some(refusal) => format!("refused {}: {refusal}", key.id),
        },
    }
}

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
        ImportsShared,
        GrantCreated,
        GrantRetired,
        GrantRevoked,
        IdentityPut,
        IdentityDeleted,
        IdentitiesShared,
        IdentityHeard,
        DomainKeyAnnounced,
        DomainKeyConfirmed,
        DomainKeyActivated,
        DomainKeyAbandoned,
        SecretsResealed,
        DomainKeyWithdrawn,
        DomainKeyDestroyed,
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
        OperationsNotForKey,
        OnlyCreateGrant,
        ContextConstraintNotForKey,
        TooManyGrants,
        GrantExists,
        NoSuchGrant,
        FeatureLevelTooLow,
        IdentitiesLedElsewhere,
        IdentityChanged,
        NoSuchIdentity,
        InvalidIdentity,
        TooManyIdentities,
        IdentityIdTaken,
        NoSuchPrincipal,
        SealingRetired,
        DomainKeyStage,
        DomainKeyUnconfirmed,
        DomainKeyInUse,
        DomainKeyTokensValid,
    }
);
