//! Operations on the rotation of a key's material: turning it on and off, asking for it, and what it
//! has done. Carrying out what is due: see `clock`.

use std::collections::BTreeMap;

use keyrum_state::{
    AutomaticRotation, Command, CompletedRotation, DueRotation, Key, KeyRef, NewMaterial, NoFacts,
    ROTATE_KEYS_MAX, Refusal, Rotation, State, permit_key,
};
use keyrum_types::{
    KeySpec, KeyState, MaterialId, Origin, RotationDays, RotationKind, UnixMillis, key_arn,
};

use crate::metadata::Expiration;
use crate::page::{LIST_KEY_ROTATIONS, Markers, Page, PageRequest};
use crate::resolve::Accounts;
use crate::{KeyInput, RequestContext, Service, ServiceError};

/// How many keys with replicas are rotated at once. Few: readers wait while what this leads to is
/// applied, in each Region.
pub(crate) const FAMILIES_AT_ONCE: usize = 6;

/// What EnableKeyRotation is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnableKeyRotationInput {
    /// The key's id or ARN.
    pub key_id: String,
    /// If absent, the period there is, or else the usual one.
    pub period: Option<RotationDays>,
}

/// What RotateKeyOnDemand answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotateKeyOnDemandOutput {
    /// Which key.
    pub key_arn: String,
}

/// What GetKeyRotationStatus answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetKeyRotationStatusOutput {
    /// Which key.
    pub key_arn: String,
    /// `None` if its material is not rotated automatically.
    pub automatic: Option<AutomaticRotation>,
    /// When the on-demand rotation that is under way began.
    pub on_demand_started: Option<UnixMillis>,
}

/// What ListKeyRotations is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListKeyRotationsInput {
    /// The key's id or ARN.
    pub key_id: String,
    /// Which material; may be given for symmetric keys only.
    pub include: Option<IncludeKeyMaterial>,
    /// Which part of the list.
    pub page: PageRequest,
}

/// Which material ListKeyRotations gives. Source: AWS KMS API Reference, `IncludeKeyMaterial`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IncludeKeyMaterial {
    /// What a rotation made current.
    #[default]
    RotationsOnly,
    /// The first material too, and what will be current.
    All,
}

/// One version of a key's material.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationEntry {
    /// The key.
    pub key_arn: String,
    /// Names the version.
    pub material: MaterialId,
    /// Whether it encrypts.
    pub state: KeyMaterialState,
    /// When and why it became current; absent for the first material and for what is not current
    /// yet.
    pub rotation: Option<(UnixMillis, RotationKind)>,
    /// Present for imported material.
    pub import: Option<ImportEntry>,
}

/// What is told of imported material.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportEntry {
    /// As the caller gave it.
    pub description: Option<String>,
    /// Absent while it is not there.
    pub expiration: Option<Expiration>,
}

/// What a version of a key's material is for. Source: AWS KMS API Reference, `KeyMaterialState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyMaterialState {
    /// Encrypts and decrypts.
    Current,
    /// Decrypts.
    NonCurrent,
    /// Waits to be current.
    PendingRotation,
    /// Waits for its import into every replica, and then to be current.
    PendingImportAndRotation,
}

impl Service {
    /// Lets a key's material be rotated automatically.
    pub async fn enable_key_rotation(
        &self,
        ctx: &RequestContext,
        input: EnableKeyRotationInput,
    ) -> Result<(), ServiceError> {
        let key = self.key_only(ctx, &input.key_id, Accounts::Own)?;
        let period = input.period;
        self.propose(ctx, Command::EnableKeyRotation { key, period })
            .await
            .map(drop)
    }

    /// Stops that.
    pub async fn disable_key_rotation(
        &self,
        ctx: &RequestContext,
        input: KeyInput,
    ) -> Result<(), ServiceError> {
        let key = self.key_only(ctx, &input.key_id, Accounts::Own)?;
        self.propose(ctx, Command::DisableKeyRotation { key })
            .await
            .map(drop)
    }

    /// Gives a key new material now.
    pub async fn rotate_key_on_demand(
        &self,
        ctx: &RequestContext,
        input: KeyInput,
    ) -> Result<RotateKeyOnDemandOutput, ServiceError> {
        let key = self.key_only(ctx, &input.key_id, Accounts::Own)?;
        let material = self.new_symmetric_material(key);
        self.propose(ctx, Command::RotateKeyOnDemand { key, material })
            .await?;
        Ok(RotateKeyOnDemandOutput {
            key_arn: key_arn(self.region(), key.account, key.id),
        })
    }

    /// Whether and when a key's material is rotated.
    pub async fn get_key_rotation_status(
        &self,
        ctx: &RequestContext,
        input: KeyInput,
    ) -> Result<GetKeyRotationStatusOutput, ServiceError> {
        let key = self.key_only(ctx, &input.key_id, Accounts::Any)?;
        let state = self.read(ctx).await?;
        let key = permit_key(&state, &ctx.caller, key, "GetKeyRotationStatus", &NoFacts)?;
        rotation_status(&state, key.key())
    }

    /// A key's rotations, oldest first.
    pub async fn list_key_rotations(
        &self,
        ctx: &RequestContext,
        input: ListKeyRotationsInput,
    ) -> Result<Page<RotationEntry>, ServiceError> {
        let limit = LIST_KEY_ROTATIONS.check(&input.page)?;
        let key = self.key_only(ctx, &input.key_id, Accounts::Own)?;
        let state = self.read(ctx).await?;
        let key = permit_key(&state, &ctx.caller, key, "ListKeyRotations", &NoFacts)?;
        let markers = Markers {
            key: self.token_key(),
            operation: "ListKeyRotations",
            account: ctx.caller.account,
            filter: format!("{} {:?}", key.key().id, input.include.unwrap_or_default()),
        };
        list_key_rotations(&state, key.key(), &input, limit, markers)
    }

    /// New material for what is due.
    pub(crate) fn with_material(&self, due: Vec<(KeyRef, UnixMillis)>) -> Vec<DueRotation> {
        let rotation = |(key, due)| DueRotation {
            key,
            due,
            material: self.new_symmetric_material(key),
        };
        due.into_iter().map(rotation).collect()
    }
}

/// A bounded part of the rotations that are due by `time`.
pub(crate) fn due_rotations(state: &State, time: UnixMillis) -> Vec<(KeyRef, UnixMillis)> {
    let mut families = 0;
    let due = state.rotations_due_by(time).take(ROTATE_KEYS_MAX);
    due.take_while(|(key, _)| {
        families += usize::from(state.family(*key).is_some());
        families <= FAMILIES_AT_ONCE
    })
    .collect()
}

/// Keys of a custom key store have their material elsewhere, and nothing to tell about it.
fn not_in_custom_store(key: &Key) -> Result<(), ServiceError> {
    match key.origin {
        Origin::AwsKms | Origin::External => Ok(()),
        origin @ (Origin::AwsCloudhsm | Origin::ExternalKeyStore) => {
            let key = key.reference();
            Err(Refusal::OriginNotForOperation { key, origin }.into())
        }
    }
}

fn rotation_status(state: &State, key: &Key) -> Result<GetKeyRotationStatusOutput, ServiceError> {
    not_in_custom_store(key)?;
    let rotation = state.rotation(key.reference());
    let managed = state.managed_alias(key.reference()).is_some();
    let on_demand = rotation
        .and_then(|rotation| rotation.pending.as_ref())
        .filter(|pending| pending.kind == RotationKind::OnDemand);
    Ok(GetKeyRotationStatusOutput {
        key_arn: key_arn(state.region(), key.account, key.id),
        // It reads off while the key waits to be deleted, and comes back if the key does.
        automatic: rotation
            .filter(|rotation| !reads_off(rotation, managed))
            .and_then(|rotation| rotation.automatic)
            .filter(|_| key.state != KeyState::PendingDeletion),
        on_demand_started: on_demand.map(|pending| pending.started),
    })
}

/// Whether rotation is not shown although it is on: so it is for new AWS managed keys.
///
/// Deviation: for how long they count as new is not known; here until they are first rotated.
fn reads_off(rotation: &Rotation, managed: bool) -> bool {
    managed && rotation.rotations.is_empty()
}

fn list_key_rotations(
    state: &State,
    key: &Key,
    input: &ListKeyRotationsInput,
    limit: usize,
    markers: Markers<'_>,
) -> Result<Page<RotationEntry>, ServiceError> {
    not_in_custom_store(key)?;
    let symmetric = key.spec == KeySpec::SymmetricDefault;
    if !symmetric && input.include.is_some() {
        return Err(ServiceError::IncludeMaterialOfAsymmetric);
    }
    // A version's place: versions are only ever added, at the end.
    let from = match markers.position(&input.page)? {
        None => 0,
        Some(bytes) => {
            let last = bytes.try_into().map_err(|_| ServiceError::InvalidMarker)?;
            u32::from_be_bytes(last) as usize + 1
        }
    };
    let include = input.include.unwrap_or_default();
    let rotation = state.rotation(key.reference()).map(|row| &**row);
    let versions = match symmetric {
        true => versions(key, rotation, state),
        false => Vec::new(),
    };
    let wanted = versions.into_iter().enumerate().skip(from);
    let wanted = wanted.filter(|(_, version)| match include {
        IncludeKeyMaterial::All => true,
        IncludeKeyMaterial::RotationsOnly => version.rotation.is_some(),
    });
    let position = |(place, _): &(usize, _)| {
        let place = u32::try_from(*place).expect("a key has few versions");
        place.to_be_bytes().to_vec()
    };
    let page = markers.page(wanted, limit, position);
    Ok(page.map(|(_, version)| version))
}

/// Every version of a key's material, oldest first.
fn versions(key: &Key, rotation: Option<&Rotation>, state: &State) -> Vec<RotationEntry> {
    let arn = key_arn(state.region(), key.account, key.id);
    let done = rotation.map_or(&[][..], |rotation| &rotation.rotations);
    let done: BTreeMap<MaterialId, &CompletedRotation> =
        done.iter().map(|done| (done.material, done)).collect();
    let imports = state.imports(key.reference());
    let import = |version: &NewMaterial| {
        let details = imports.and_then(|imports| imports.details.get(&version.id));
        let details = details.cloned().unwrap_or_default();
        let expiration = Expiration::at(details.expires);
        (key.origin == Origin::External).then(|| ImportEntry {
            description: details.description,
            expiration: version.is_here().then_some(expiration),
        })
    };
    let current = key.current_material().map(|material| material.id);
    let made = key.materials.iter().map(|version| RotationEntry {
        key_arn: arn.clone(),
        material: version.id,
        state: match Some(version.id) == current {
            true => KeyMaterialState::Current,
            false => KeyMaterialState::NonCurrent,
        },
        rotation: done.get(&version.id).map(|done| (done.at, done.kind)),
        import: import(version),
    });
    let rotating = rotation.and_then(|rotation| rotation.pending.as_ref());
    let rotating = rotating.map(|pending| &pending.material);
    let imported = imports.and_then(|imports| imports.pending.as_ref());
    // Deviation: a primary without replicas lacks nothing, so what it waits to be rotated to is pending
    // rotation at once.
    let awaited = state
        .family(key.reference())
        .zip(state.awaited(key.reference()));
    let missing = awaited.is_some_and(|(family, awaited)| !awaited.is_everywhere(family));
    // The bytes of imported material are with the imports, also while a family is rotated to it.
    let pending = imported.or(rotating).map(|version| RotationEntry {
        key_arn: arn.clone(),
        material: version.id,
        state: match missing {
            true => KeyMaterialState::PendingImportAndRotation,
            false => KeyMaterialState::PendingRotation,
        },
        rotation: None,
        import: import(version),
    });
    made.chain(pending).collect()
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
