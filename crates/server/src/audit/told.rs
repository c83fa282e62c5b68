//! Records told from the history: of calls that changed something, and of what a Region did by itself.

use keyrum_consensus::{HistoryEntry, HistoryOrigin};
use keyrum_service::KeyMetadata;
use keyrum_state::{
    AuditDetails, Event, Family, FamilyChange, Key, KeyRef, Message, NewMaterial, Rotation, State,
    StoredPolicy,
};
use keyrum_types::{
    AccountId, AliasName, KeyState, MaterialId, MultiRegionRole, Origin, Region, RotationKind,
    alias_arn, key_arn,
};
use ring::digest::{Context, SHA256};

use super::record::{From, INTERNAL, Identity, Record, Resource, Who, long_date};
use super::words::metadata;
use crate::json::ObjectWriter;
use crate::model::Model;

/// Where and whose the history is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) cluster: &'a str,
    pub(super) region: &'a Region,
}

impl Place<'_> {
    /// An id that is the same whenever, and on whichever node, the entry is told: the `part`th of its
    /// records. Like a UUID of version 8, which is what an application makes of it.
    fn id(&self, entry: &HistoryEntry, part: u64) -> [u8; 16] {
        let mut hash = Context::new(&SHA256);
        for text in [self.cluster, self.region.as_str()] {
            hash.update(&(text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        hash.update(&entry.index.to_be_bytes());
        hash.update(&part.to_be_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finish().as_ref()[..16]);
        id[6] = (id[6] & 0x0f) | 0x80;
        id[8] = (id[8] & 0x3f) | 0x80;
        id
    }
}

/// A record of its own, with what it was made of: `write` gets each.
pub(super) fn tell(
    place: Place<'_>,
    state: &State,
    entry: &HistoryEntry,
    mut write: impl FnMut(&Record<'_>, AccountId, Option<[u8; 16]>),
) {
    let mut part = 0;
    let mut next = || {
        part += 1;
        place.id(entry, part)
    };
    if let Some(origin) = &entry.origin
        && let Some(account) = origin.account
        && let Some(details) = &origin.details.audit
        && let Some(operation) = Model::get().operation(&entry.command)
        && !operation.reads
    {
        tell_call(
            place,
            entry,
            (origin, account, details),
            &mut next,
            &mut write,
        );
    }
    for event in &entry.events {
        for told in by_itself(place.region, state, entry, event) {
            let request = told.has_request.then(&mut next);
            let record = Record {
                region: place.region,
                service: "kms",
                name: told.name,
                at: entry.at,
                who: Who::Region(told.account),
                from: From {
                    source: INTERNAL,
                    user_agent: INTERNAL,
                    ..From::default()
                },
                error: None,
                parameters: &told.parameters,
                response: &told.response,
                additional: &[],
                service_details: &told.details,
                request,
                event: next(),
                read_only: false,
                resources: &told.resources,
                is_service_event: told.is_service_event,
            };
            write(&record, told.account, None);
        }
    }
}

/// A call whose command was carried out.
fn tell_call(
    place: Place<'_>,
    entry: &HistoryEntry,
    (origin, account, details): (&HistoryOrigin, AccountId, &AuditDetails),
    next: &mut impl FnMut() -> [u8; 16],
    write: &mut impl FnMut(&Record<'_>, AccountId, Option<[u8; 16]>),
) {
    let effect = Effect::of(place.region, entry);
    let tls = details.tls.as_ref();
    let source = origin.details.source_ip;
    let source = source.map_or_else(String::new, |source| source.to_string());
    let arn = entry.caller.as_deref().unwrap_or_default();
    let record = Record {
        region: place.region,
        service: "kms",
        name: &entry.command,
        at: entry.at,
        who: Who::Caller(identity(account, arn, origin, details)),
        from: From {
            source: &source,
            user_agent: origin.details.user_agent.as_deref().unwrap_or_default(),
            host: &details.host,
            tls: tls.map(|(version, suite, exchange)| (&**version, &**suite, &**exchange)),
        },
        error: None,
        parameters: details.parameters.as_bytes(),
        response: &effect.response,
        additional: &effect.additional,
        service_details: &[],
        request: Some(origin.details.request),
        event: next(),
        read_only: false,
        resources: &effect.resources,
        is_service_event: false,
    };
    let owner = effect.owner.filter(|owner| *owner != account);
    let shared = owner.map(|_| next());
    write(&record, account, shared);
    if let Some(owner) = owner {
        let event = next();
        write(&Record { event, ..record }, owner, shared);
    }
}

fn identity<'a>(
    account: AccountId,
    arn: &'a str,
    origin: &'a HistoryOrigin,
    details: &'a AuditDetails,
) -> Identity<'a> {
    Identity {
        account,
        arn,
        access_key: &origin.details.access_key,
        unique_id: &origin.details.unique_id,
        invoked_by: &details.invoked_by,
        session_role: &details.session_role,
        session_began: details.session_began,
    }
}

/// What a call's events say of it.
#[derive(Default)]
struct Effect {
    response: Vec<u8>,
    additional: Vec<u8>,
    resources: Vec<Resource>,
    owner: Option<AccountId>,
}

impl Effect {
    fn of(region: &Region, entry: &HistoryEntry) -> Self {
        let mut effect = Self::default();
        let alias = entry.events.iter().find_map(alias_of);
        if let Some((account, name)) = alias {
            effect.resources.push(Resource {
                account,
                arn: alias_arn(region, account, name),
                is_alias: true,
            });
        }
        let Some(key) = entry.events.iter().flat_map(Event::keys).next() else {
            return effect;
        };
        let arn = key_arn(region, key.account, key.id);
        effect.owner = Some(key.account);
        effect.response = response(region, entry, &arn);
        effect.resources.push(Resource {
            account: key.account,
            arn,
            is_alias: false,
        });
        if let Some(Event::GrantRetired { grant, .. }) = entry.events.first() {
            let mut additional = ObjectWriter::new();
            additional.text("grantId", &grant.to_string());
            effect.additional = additional.finish();
        }
        effect
    }
}

fn alias_of(event: &Event) -> Option<(AccountId, &AliasName)> {
    match event {
        Event::AliasCreated { alias, target, .. } | Event::AliasUpdated { alias, target, .. } => {
            Some((target.account, alias))
        }
        Event::AliasDeleted { account, alias, .. } => Some((*account, alias)),
        _ => None,
    }
}

/// What `responseElements` are where nothing but the key is told.
pub(super) fn key_alone(arn: &str) -> Vec<u8> {
    let mut object = ObjectWriter::new();
    object.text("keyId", arn);
    object.finish()
}

/// Operations whose records have no `responseElements`.
/// Deviation: whether the real service's have the key's ARN is not known.
pub(super) const SILENT: [&str; 2] = ["PutKeyPolicy", "UpdateKeyDescription"];

fn response(region: &Region, entry: &HistoryEntry, arn: &str) -> Vec<u8> {
    let mut object = ObjectWriter::new();
    match entry.command.as_str() {
        command if SILENT.contains(&command) => return Vec::new(),
        "CreateKey" => {
            let created = entry.events.iter().find_map(|event| match event {
                Event::KeyCreated { key } => Some(key),
                _ => None,
            });
            if let Some(key) = created {
                object.raw("keyMetadata", &metadata(&KeyMetadata::of(key, region)));
            }
            return object.finish();
        }
        "ReplicateKey" => replica(&mut object, entry),
        "CreateGrant" => {
            if let Some(Event::GrantCreated { grant }) = entry.events.first() {
                object.text("grantId", &grant.id.to_string());
            }
        }
        "ScheduleKeyDeletion" => scheduled(&mut object, entry),
        "ImportKeyMaterial" | "DeleteImportedKeyMaterial" => {
            let material = entry.events.iter().find_map(|event| match event {
                Event::KeyMaterialImported { material, .. } => Some(material.id),
                Event::KeyMaterialDeleted { material, .. } => Some(*material),
                _ => None,
            });
            if let Some(material) = material {
                object.text("keyMaterialId", &material.to_string());
            }
        }
        _ => {}
    }
    object.text("keyId", arn);
    object.finish()
}

fn scheduled(object: &mut ObjectWriter, entry: &HistoryEntry) {
    for event in &entry.events {
        match event {
            Event::KeyDeletionScheduled { due, wait_days, .. } => {
                object
                    .text("keyState", KeyState::PendingDeletion.name())
                    .text("deletionDate", &long_date(*due))
                    .number("pendingWindowInDays", (*wait_days).into());
                return;
            }
            Event::FamilyChanged {
                state: KeyState::PendingReplicaDeletion,
                family,
                ..
            } => {
                object.text("keyState", KeyState::PendingReplicaDeletion.name());
                if let Some(days) = family.wait_days {
                    object.number("pendingWindowInDays", days.into());
                }
                return;
            }
            _ => {}
        }
    }
}

/// What ReplicateKey's answer says, from what the replica's Region was sent.
fn replica(object: &mut ObjectWriter, entry: &HistoryEntry) {
    let added = entry.events.iter().find_map(|event| match event {
        Event::FamilyChanged {
            change: FamilyChange::ReplicaAdded { region },
            family,
            sent,
            ..
        } => Some((region, family, sent)),
        _ => None,
    });
    let Some((to, family, sent)) = added else {
        return;
    };
    let record = sent.iter().find_map(|(_, message)| match message {
        Message::Record { record, .. } | Message::ImportedRecord { record, .. } => Some(record),
        _ => None,
    });
    let initial = family
        .roster
        .get(to)
        .and_then(|entry| entry.initial.clone());
    let (Some(record), Some(initial)) = (record, initial) else {
        return;
    };
    let key = Key {
        account: record.key.account,
        id: record.key.id,
        spec: record.spec,
        usage: record.usage,
        origin: record.origin,
        state: KeyState::Creating,
        multi_region: Some(MultiRegionRole::Replica),
        created: entry.at,
        deletion: None,
        description: initial.description.clone().into(),
        policy: initial.policy.as_deref().map(StoredPolicy::from),
        tags: initial.tags.clone(),
        materials: Vec::new(),
    };
    let shown = KeyMetadata::of(&key, to).in_family(MultiRegionRole::Replica, family);
    object.raw("replicaKeyMetadata", &metadata(&shown));
    object.text("replicaPolicy", &key.policy_text(to));
}

/// What a Region did by itself.
struct Told {
    name: &'static str,
    account: AccountId,
    parameters: Vec<u8>,
    response: Vec<u8>,
    details: Vec<u8>,
    resources: Vec<Resource>,
    is_service_event: bool,
    has_request: bool,
}

impl Told {
    fn new(region: &Region, name: &'static str, key: KeyRef) -> Self {
        Self {
            name,
            account: key.account,
            parameters: Vec::new(),
            response: Vec::new(),
            details: Vec::new(),
            resources: vec![Resource {
                account: key.account,
                arn: key_arn(region, key.account, key.id),
                is_alias: false,
            }],
            is_service_event: true,
            has_request: false,
        }
    }
}

fn by_itself(region: &Region, state: &State, entry: &HistoryEntry, event: &Event) -> Vec<Told> {
    let told = match event {
        Event::KeyDeleted { key, .. } => {
            let told = Told::new(region, "DeleteKey", *key);
            let response = key_alone(&key_arn(region, key.account, key.id));
            Told { response, ..told }
        }
        Event::KeyMaterialExpired { key, material, .. } => {
            let mut details = ObjectWriter::new();
            details
                .text("keyId", &key_arn(region, key.account, key.id))
                .text("keyMaterialId", &material.to_string());
            let told = Told::new(region, "DeleteExpiredKeyMaterial", *key);
            let details = details.finish();
            Told { details, ..told }
        }
        // A fixture's earlier versions were never current.
        Event::KeyRotated { .. } if entry.command == "SeedKey" => return Vec::new(),
        Event::KeyRotated {
            key,
            origin,
            previous,
            material,
            kind,
            ..
        } => rotated(region, *key, *origin, Some(*previous), (material.id, *kind)),
        // Deviation: the caller of ReplicateKey is not told to the replica's Region, so that this
        // record is the service's own.
        Event::KeyReplicated { key, family, .. } => {
            let shown = KeyMetadata::of(key, region).in_family(MultiRegionRole::Replica, family);
            let mut told = vec![created(region, key, &shown)];
            if !key.materials.is_empty() {
                told.push(synchronized(&family.primary, key.reference()));
            }
            return told;
        }
        // AWS managed keys and fixtures: nobody called CreateKey.
        Event::KeyCreated { key } if entry.command != "CreateKey" => {
            created(region, key, &KeyMetadata::of(key, region))
        }
        Event::FamilyChanged {
            key,
            change,
            family,
            materials,
            rotation,
            ..
        } => {
            let news = (&materials[..], rotation.as_ref());
            return family_changed(region, state, *key, (change, family), news)
                .into_iter()
                .collect();
        }
        _ => return Vec::new(),
    };
    vec![told]
}

/// What is shared came from the primary.
fn synchronized(primary: &Region, key: KeyRef) -> Told {
    Told {
        response: key_alone(&key_arn(primary, key.account, key.id)),
        is_service_event: false,
        has_request: true,
        ..Told::new(primary, "SynchronizeMultiRegionKey", key)
    }
}

fn created(region: &Region, key: &Key, shown: &KeyMetadata) -> Told {
    let mut response = ObjectWriter::new();
    response.raw("keyMetadata", &metadata(shown));
    Told {
        response: response.finish(),
        is_service_event: false,
        has_request: true,
        ..Told::new(region, "CreateKey", key.reference())
    }
}

fn rotated(
    region: &Region,
    key: KeyRef,
    origin: Origin,
    previous: Option<MaterialId>,
    (current, kind): (MaterialId, RotationKind),
) -> Told {
    let mut details = ObjectWriter::new();
    details
        .text("keyId", &key_arn(region, key.account, key.id))
        .text("keyOrigin", origin.name())
        .text("rotationType", kind.name());
    details.text_if(
        "previousKeyMaterialId",
        previous.map(|id| id.to_string()).as_deref(),
    );
    details.text("currentKeyMaterialId", &current.to_string());
    Told {
        details: details.finish(),
        ..Told::new(region, "RotateKey", key)
    }
}

fn family_changed(
    region: &Region,
    state: &State,
    key: KeyRef,
    (change, family): (&FamilyChange, &Family),
    (materials, rotation): (&[NewMaterial], Option<&Rotation>),
) -> Option<Told> {
    match change {
        // The old primary's Region has the caller's record.
        FamilyChange::SteppedUp => Some(Told {
            parameters: {
                let mut parameters = ObjectWriter::new();
                parameters
                    .text("keyId", &key_arn(region, key.account, key.id))
                    .text("primaryRegion", region.as_str());
                parameters.finish()
            },
            response: key_alone(&key_arn(region, key.account, key.id)),
            resources: Vec::new(),
            is_service_event: false,
            has_request: true,
            ..Told::new(region, "UpdatePrimaryRegion", key)
        }),
        FamilyChange::RecordTaken => {
            let completed = rotation.and_then(|rotation| rotation.rotations.last());
            if let Some(last) = completed
                && materials
                    .iter()
                    .any(|material| material.id == last.material)
            {
                // As it is by now: the versions before this one stay before it.
                let now = state.key(key);
                let origin = now.map_or(Origin::AwsKms, |key| key.origin);
                let before = now.and_then(|key| {
                    let versions = key.materials.iter();
                    let before = versions.take_while(|version| version.id != last.material);
                    before.last().map(|version| version.id)
                });
                return Some(rotated(
                    region,
                    key,
                    origin,
                    before,
                    (last.material, last.kind),
                ));
            }
            if materials.is_empty() && rotation.is_none() {
                return None;
            }
            Some(synchronized(&family.primary, key))
        }
        _ => None,
    }
}
