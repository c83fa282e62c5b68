//! Names for keys: CreateAlias, UpdateAlias, DeleteAlias.
//!
//! An alias and its key belong to one account; a name under `alias/aws/` is never a caller's.

use keyrum_types::{AccountId, AliasName, KeySpec};

use crate::access::{Call, Permitted, PermittedAlias};
use crate::contents::{Row, RowName};
use crate::{Alias, Event, Key, KeyRef, Outcome, Refusal, State, lifecycle};

/// How many aliases a key may have. Source: AWS KMS Developer Guide, "Resource quotas".
pub const ALIASES_PER_KEY_MAX: u32 = 50;

pub(crate) fn create(call: Call<'_>, name: &AliasName, target: KeyRef) -> Outcome {
    let target = call.key(target)?;
    let alias = permitted(&call, name)?;
    lifecycle::not_pending_deletion(target.key())?;
    if call.existing_alias(alias.name).is_ok() {
        return Err(Refusal::AliasExists {
            alias: name.clone(),
        });
    }
    room_for_one_more(call.state, &target)?;
    let (alias, target) = (alias.name.clone(), target.reference());
    Ok(vec![Event::AliasCreated {
        alias,
        target,
        at: call.at,
    }])
}

/// The former target may be in any state; the new one must not be waiting to be deleted.
pub(crate) fn update(call: Call<'_>, name: &AliasName, target: KeyRef) -> Outcome {
    let alias = permitted(&call, name)?;
    let former = call.key(call.existing_alias(alias.name)?.target)?;
    let target = call.key(target)?;
    if !same_kind_and_usage(former.key(), target.key()) {
        return Err(Refusal::AliasKindMismatch {
            alias: name.clone(),
        });
    }
    lifecycle::not_pending_deletion(target.key())?;
    if former.reference() != target.reference() {
        room_for_one_more(call.state, &target)?;
    }
    let (former, target) = (former.reference(), target.reference());
    Ok(vec![Event::AliasUpdated {
        alias: alias.name.clone(),
        former,
        target,
        at: call.at,
    }])
}

/// Works whatever state the key is in.
pub(crate) fn delete(call: Call<'_>, name: &AliasName) -> Outcome {
    let alias = permitted(&call, name)?;
    let target = call
        .key(call.existing_alias(alias.name)?.target)?
        .reference();
    Ok(vec![Event::AliasDeleted {
        account: target.account,
        alias: alias.name.clone(),
        target,
    }])
}

fn permitted<'c>(call: &Call<'_>, name: &'c AliasName) -> Result<PermittedAlias<'c>, Refusal> {
    let alias = call.alias(name)?;
    if name.is_aws_reserved() {
        return Err(Refusal::ReservedAlias {
            alias: name.clone(),
        });
    }
    Ok(alias)
}

fn room_for_one_more(state: &State, target: &Permitted<'_>) -> Result<(), Refusal> {
    let key = target.reference();
    let most = ALIASES_PER_KEY_MAX as usize;
    if state.aliases_of(key, None).take(most).count() == most {
        return Err(Refusal::TooManyAliases {
            key,
            limit: ALIASES_PER_KEY_MAX,
        });
    }
    Ok(())
}

/// The kinds between which an alias must not move.
/// Source: AWS KMS API Reference, UpdateAlias.
#[derive(PartialEq, Eq)]
enum Kind {
    Symmetric,
    Asymmetric,
    Hmac,
}

fn kind(spec: KeySpec) -> Kind {
    match spec {
        KeySpec::SymmetricDefault => Kind::Symmetric,
        KeySpec::Hmac224 | KeySpec::Hmac256 | KeySpec::Hmac384 | KeySpec::Hmac512 => Kind::Hmac,
        KeySpec::Rsa2048
        | KeySpec::Rsa3072
        | KeySpec::Rsa4096
        | KeySpec::EccNistP256
        | KeySpec::EccNistP384
        | KeySpec::EccNistP521
        | KeySpec::EccSecgP256k1
        | KeySpec::EccNistEdwards25519
        | KeySpec::Sm2
        | KeySpec::MlDsa44
        | KeySpec::MlDsa65
        | KeySpec::MlDsa87
        | KeySpec::MlKem512
        | KeySpec::MlKem768
        | KeySpec::MlKem1024 => Kind::Asymmetric,
    }
}

fn same_kind_and_usage(one: &Key, other: &Key) -> bool {
    kind(one.spec) == kind(other.spec) && one.usage == other.usage
}

pub(crate) fn evolve(state: &mut State, event: &Event) {
    match event {
        Event::AliasCreated { alias, target, at } => {
            let row = Alias {
                target: *target,
                created: *at,
                updated: *at,
            };
            put(state, target.account, alias, row);
        }
        Event::AliasUpdated {
            alias, target, at, ..
        } => {
            let former = state.alias(target.account, alias);
            let created = former.expect("decide saw the alias in this state").created;
            put(
                state,
                target.account,
                alias,
                Alias {
                    target: *target,
                    created,
                    updated: *at,
                },
            );
        }
        Event::AliasDeleted { account, alias, .. } => {
            state.remove(RowName::Alias(*account, alias));
        }
        other => unreachable!("not an event of an alias: {other:?}"),
    }
}

fn put(state: &mut State, account: AccountId, name: &AliasName, alias: Alias) {
    state.put(Row::Alias {
        account,
        name: name.clone(),
        alias,
    });
}
