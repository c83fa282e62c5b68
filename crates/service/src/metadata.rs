//! A key as DescribeKey and CreateKey show it.

use keyrum_state::{Family, Key, State};
use keyrum_types::{
    AccountId, ExpirationModel, KeyId, KeySpec, KeyState, KeyUsage, MaterialId, MultiRegionRole,
    Origin, Region, UnixMillis, key_arn,
};

use crate::Algorithms;

/// What the API tells about a key. Source: AWS KMS API Reference, `KeyMetadata`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyMetadata {
    /// The owner.
    pub account: AccountId,
    /// The key's id.
    pub key_id: KeyId,
    /// The key's ARN in this Region.
    pub arn: String,
    /// When it was made, by the Region's clock.
    pub created: UnixMillis,
    /// Whether it can be used: true in the state Enabled only.
    pub enabled: bool,
    /// Empty if none was given.
    pub description: String,
    /// What it is for.
    pub usage: KeyUsage,
    /// Its state.
    pub state: KeyState,
    /// When it will be deleted; present while it is pending deletion.
    pub deletion_date: Option<UnixMillis>,
    /// The wait that begins when the last replica key is gone, in days; present while it is
    /// pending replica deletion.
    pub pending_deletion_window_days: Option<u8>,
    /// Where its material comes from.
    pub origin: Origin,
    /// Whether AWS manages it, and not the customer.
    pub aws_managed: bool,
    /// The kind of material; shown under the member's deprecated name too.
    pub spec: KeySpec,
    /// What it can be used with.
    pub algorithms: Algorithms,
    /// Present for multi-Region keys.
    pub multi_region: Option<MultiRegionConfiguration>,
    /// The material that encrypts now; present for symmetric encryption keys that have any, or had
    /// and wait to have it again.
    pub current_material: Option<MaterialId>,
    /// When the first of its imported material expires; present while all of it is there.
    pub expiration: Option<Expiration>,
}

/// What becomes of imported material in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiration {
    /// It stays.
    Never,
    /// It is deleted then, by the Region's clock.
    At(UnixMillis),
}

impl Expiration {
    /// By the date at which it is deleted.
    pub(crate) fn at(date: Option<UnixMillis>) -> Self {
        date.map_or(Self::Never, Self::At)
    }

    /// The API's name of it.
    pub fn model(self) -> ExpirationModel {
        match self {
            Self::Never => ExpirationModel::DoesNotExpire,
            Self::At(_) => ExpirationModel::Expires,
        }
    }

    /// When it is deleted.
    pub fn date(self) -> Option<UnixMillis> {
        match self {
            Self::Never => None,
            Self::At(date) => Some(date),
        }
    }
}

/// A multi-Region key's family, as one of its members knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultiRegionConfiguration {
    /// This key's part.
    pub role: MultiRegionRole,
    /// The family's primary key.
    pub primary: RelatedKey,
    /// All replica keys, by the name of their Region.
    pub replicas: Vec<RelatedKey>,
}

/// One member of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelatedKey {
    /// Its ARN.
    pub arn: String,
    /// Its Region.
    pub region: Region,
}

impl KeyMetadata {
    /// What to tell about `key` in `region`, if it is a customer's and has no family.
    pub fn of(key: &Key, region: &Region) -> Self {
        let arn = key_arn(region, key.account, key.id);
        let pending = key.state == KeyState::PendingDeletion;
        Self {
            account: key.account,
            key_id: key.id,
            created: key.created,
            enabled: key.state == KeyState::Enabled,
            description: key.description.to_string(),
            usage: key.usage,
            state: key.state,
            deletion_date: key
                .deletion
                .as_ref()
                .filter(|_| pending)
                .map(|wait| wait.due),
            pending_deletion_window_days: None,
            origin: key.origin,
            aws_managed: false,
            spec: key.spec,
            algorithms: Algorithms::of(key.spec, key.usage),
            multi_region: key.multi_region.map(|role| MultiRegionConfiguration {
                role,
                // A key without a family is a primary that never had a replica.
                primary: RelatedKey {
                    arn: arn.clone(),
                    region: region.clone(),
                },
                replicas: Vec::new(),
            }),
            current_material: key
                .current_material()
                .filter(|_| key.spec == KeySpec::SymmetricDefault)
                .filter(|_| key.state != KeyState::Creating)
                .map(|material| material.id),
            expiration: None,
            arn,
        }
    }
}

impl KeyMetadata {
    /// The same with the family as this key's Region knows it.
    pub fn in_family(mut self, role: MultiRegionRole, family: &Family) -> Self {
        let related = |region: &Region| RelatedKey {
            arn: key_arn(region, self.account, self.key_id),
            region: region.clone(),
        };
        let replicas = family.roster.keys().filter(|key| **key != family.primary);
        self.multi_region = Some(MultiRegionConfiguration {
            role,
            primary: related(&family.primary),
            replicas: replicas.map(related).collect(),
        });
        if self.state == KeyState::PendingReplicaDeletion {
            self.pending_deletion_window_days = family.wait_days;
        }
        self
    }

    /// What to tell about a key of `state`.
    pub fn in_state(key: &Key, state: &State) -> Self {
        let mut alone = Self::of(key, state.region());
        alone.aws_managed = state.managed_alias(key.reference()).is_some();
        if key.origin == Origin::External && key.has_all_material() {
            alone.expiration = Some(Expiration::at(state.expiry(key.reference())));
        }
        match key.multi_region.zip(state.family(key.reference())) {
            Some((role, family)) => alone.in_family(role, family),
            None => alone,
        }
    }
}

#[cfg(test)]
mod tests {
    use keyrum_state::Command;
    use keyrum_types::{EncryptionAlgorithm, WaitingDays};

    use super::*;
    use crate::testing::{OWN, TestRegion};

    /// Catches a member of KeyMetadata that is there when it should not be, or the reverse, over
    /// a key's life.
    #[test]
    fn metadata_follows_the_keys_state() {
        let mut region = TestRegion::new();
        let key = region.key(1);
        let show = |region: &TestRegion| {
            KeyMetadata::of(region.state.key(key).unwrap(), region.state.region())
        };
        let shown = show(&region);
        let secret = TestRegion::secret(key.id);
        assert_eq!(
            shown.arn,
            format!("arn:aws:kms:us-east-1:{OWN}:key/{}", key.id)
        );
        assert_eq!((shown.enabled, shown.state), (true, KeyState::Enabled));
        assert_eq!(shown.description, "");
        assert_eq!(
            shown.algorithms,
            Algorithms::Encryption(&[EncryptionAlgorithm::SymmetricDefault])
        );
        assert_eq!(shown.current_material, Some(secret.id(key.id)));
        assert_eq!((&shown.multi_region, shown.deletion_date), (&None, None));

        region.apply(Command::DisableKey { key });
        assert_eq!(
            (show(&region).enabled, show(&region).state),
            (false, KeyState::Disabled)
        );
        let wait = WaitingDays::new(7).unwrap();
        region.apply(Command::ScheduleKeyDeletion { key, wait });
        let pending = show(&region);
        assert_eq!(
            (pending.enabled, pending.state),
            (false, KeyState::PendingDeletion)
        );
        assert_eq!(
            pending.deletion_date,
            Some(region.state.clock().plus_days(7))
        );
        assert_eq!(pending.pending_deletion_window_days, None);
        region.apply(Command::CancelKeyDeletion { key });
        assert_eq!(show(&region).deletion_date, None);
    }

    /// Catches a multi-Region key without its family, and kinds that show symmetric members.
    #[test]
    fn metadata_follows_the_keys_kind() {
        let mut region = TestRegion::new();
        let symmetric = (KeySpec::SymmetricDefault, KeyUsage::EncryptDecrypt);
        let family = region.key_of(OWN, KeyId::multi_region([1; 16]), symmetric);
        let signs = (KeySpec::Rsa2048, KeyUsage::SignVerify);
        let signs = region.key_of(OWN, KeyId::single_region([2; 16]), signs);
        let show = |key| KeyMetadata::of(region.state.key(key).unwrap(), region.state.region());

        let shown = show(family);
        let arn = format!("arn:aws:kms:us-east-1:{OWN}:key/mrk-{}", "01".repeat(16));
        assert_eq!(shown.arn, arn);
        let expected = MultiRegionConfiguration {
            role: MultiRegionRole::Primary,
            primary: RelatedKey {
                arn,
                region: region.state.region().clone(),
            },
            replicas: Vec::new(),
        };
        assert_eq!(shown.multi_region, Some(expected));

        let shown = show(signs);
        let signing = KeySpec::Rsa2048.signing_algorithms();
        assert_eq!(shown.algorithms, Algorithms::Signing(signing));
        assert_eq!((signing.len(), shown.current_material), (6, None));
    }
}
