//! AWS managed keys: CreateManagedKey.
//!
//! A key is AWS managed exactly if an alias under `alias/aws/` names it. Callers cannot make, move or
//! take away such an alias, nor change its key; so it is one for good. Nothing else is special about
//! it: it has a policy, and is rotated automatically from the start.

use std::collections::BTreeMap;

use keyrum_types::{AliasName, KeyId, KeySpec, KeyState, KeyUsage, Origin, RotationDays};

use crate::access::Call;
use crate::{Event, Key, KeyRef, NewMaterial, Outcome, Refusal};

/// A CreateManagedKey command's parts.
pub(crate) struct NewManagedKey<'c> {
    pub(crate) alias: &'c AliasName,
    pub(crate) id: KeyId,
    pub(crate) description: &'c str,
    pub(crate) policy: &'c str,
    pub(crate) material: &'c NewMaterial,
}

/// Does nothing if the key is there. No quota: the customer's do not count these keys.
pub(crate) fn create(call: Call<'_>, new: NewManagedKey<'_>) -> Outcome {
    let alias = call.alias(new.alias)?.name;
    if !alias.is_aws_reserved() {
        return Err(Refusal::NoSuchAlias {
            alias: alias.clone(),
        });
    }
    if call.existing_alias(alias).is_ok() {
        return Ok(vec![]);
    }
    let key = KeyRef {
        account: call.caller.account,
        id: new.id,
    };
    if call.state.key(key).is_some() {
        return Err(Refusal::KeyExists { key });
    }
    let period = RotationDays::DEFAULT;
    Ok(vec![
        Event::KeyCreated {
            key: Key {
                account: key.account,
                id: key.id,
                spec: KeySpec::SymmetricDefault,
                usage: KeyUsage::EncryptDecrypt,
                origin: Origin::AwsKms,
                state: KeyState::Enabled,
                multi_region: None,
                created: call.at,
                deletion: None,
                description: new.description.into(),
                policy: Some(new.policy.into()),
                tags: BTreeMap::new(),
                materials: vec![new.material.clone()],
            },
        },
        Event::AliasCreated {
            alias: alias.clone(),
            target: key,
            at: call.at,
        },
        Event::KeyRotationEnabled {
            key,
            period,
            next: call.at.plus_days(period.days().into()),
        },
    ])
}
