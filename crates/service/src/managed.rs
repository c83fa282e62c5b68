//! AWS managed keys: the predefined aliases, and the key that DescribeKey makes for one of them.
//!
//! Only DescribeKey makes one, as the real service says. Whatever else is asked of a predefined alias
//! without a key finds none.
//!
//! Source: AWS KMS API Reference, DescribeKey and ListAliases; the spec's `errors.md`.

use std::sync::Arc;

use keyrum_authz::managed_key_policy;
use keyrum_consensus::ReadMode;
use keyrum_state::{Alias, Command, KeyRef, Refusal, State};
use keyrum_types::{AccountId, AliasName, KeyId, ManagedService, Region};

use crate::lifecycle::KEY_ID_DRAWS_MAX;
use crate::resolve;
use crate::{RequestContext, Service, ServiceError};

impl Service {
    /// Makes the key that a predefined alias stands for, unless somebody else does; a state that has
    /// it.
    pub(crate) async fn create_managed_key(
        &self,
        ctx: &RequestContext,
        alias: &AliasName,
    ) -> Result<Arc<State>, ServiceError> {
        let account = ctx.caller.account;
        let service = ManagedService::of_alias(alias).ok_or(ServiceError::Internal)?;
        let mut draws = 0;
        loop {
            let mut random = [0; 16];
            self.inner.world.entropy.fill(&mut random);
            let key = KeyId::single_region(random);
            let command = Command::CreateManagedKey {
                alias: alias.clone(),
                key,
                description: service.description(),
                policy: managed_key_policy(self.region(), account, alias, service),
                material: self.new_symmetric_material(KeyRef { account, id: key }),
            };
            draws += 1;
            match self.propose(ctx, command).await {
                Err(ServiceError::Refused(Refusal::KeyExists { .. }))
                    if draws < KEY_ID_DRAWS_MAX => {}
                Err(error) => return Err(error),
                // Another node may have made it, and this one not know yet.
                Ok(_) => return Ok(self.inner.group.read(ReadMode::Linearizable).await?),
            }
        }
    }
}

/// The predefined alias of the caller's account that a request names.
pub(crate) fn predefined(
    region: &Region,
    caller: AccountId,
    text: &str,
) -> Option<&'static AliasName> {
    let (account, name) = resolve::named_alias(region, caller, text)?;
    let known = ManagedService::aliases().iter();
    let mut known = known.filter(|alias| alias.as_str() == name);
    known.next().filter(|_| account == caller)
}

/// An account's aliases after `after` in the order of their names, the predefined ones without a key
/// among them.
pub(crate) fn with_predefined<'s>(
    state: &'s State,
    account: AccountId,
    after: Option<&'s AliasName>,
) -> impl Iterator<Item = (&'s AliasName, Option<&'s Alias>)> {
    let own = state.aliases(account, after);
    let mut own = own.map(|(name, alias)| (name, Some(alias))).peekable();
    let without_key = ManagedService::aliases().iter().filter(move |name| {
        after.is_none_or(|after| *name > after) && state.alias(account, name).is_none()
    });
    let mut without_key = without_key.map(|name| (name, None)).peekable();
    std::iter::from_fn(move || match (own.peek(), without_key.peek()) {
        (Some((one, _)), Some((other, _))) if one < other => own.next(),
        (_, Some(_)) => without_key.next(),
        (_, None) => own.next(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{OTHER, OWN, TestRegion};

    /// Catches a predefined alias that is left out, told twice or out of order, wherever a page
    /// begins.
    #[test]
    fn predefined_aliases_have_their_place() {
        let mut region = TestRegion::new();
        let key = region.key(1);
        for name in ["alias/a", "alias/aws-mine", "alias/b"] {
            region.alias(name, key);
        }
        region.apply(Command::CreateManagedKey {
            alias: AliasName::new("alias/aws/s3").unwrap(),
            key: KeyId::single_region([9; 16]),
            description: String::new(),
            policy: String::new(),
            material: region.state.key(key).unwrap().materials[0].clone(),
        });
        let account = OWN.parse().unwrap();
        let all: Vec<_> = with_predefined(&region.state, account, None).collect();
        assert_eq!(all.len(), 3 + ManagedService::aliases().len());
        assert!(all.is_sorted_by(|(one, _), (other, _)| one < other));
        let with_key = all.iter().filter(|(_, alias)| alias.is_some());
        let names: Vec<_> = with_key.map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["alias/a", "alias/aws-mine", "alias/aws/s3", "alias/b"]
        );
        for (at, (name, _)) in all.iter().enumerate() {
            let rest: Vec<_> = with_predefined(&region.state, account, Some(name)).collect();
            assert_eq!(rest, all[at + 1..]);
        }
        let other = with_predefined(&region.state, OTHER.parse().unwrap(), None);
        assert!(other.map(|(name, _)| name).eq(ManagedService::aliases()));
    }

    /// Catches a key that would be made for another account's alias, for one of another Region, or
    /// for a name that is not predefined.
    #[test]
    fn only_own_predefined_aliases_get_a_key() {
        let region = "us-east-1".parse().unwrap();
        let of = |text: &str| {
            let alias = predefined(&region, OWN.parse().unwrap(), text);
            alias.map(AliasName::as_str)
        };
        assert_eq!(of("alias/aws/sqs"), Some("alias/aws/sqs"));
        let arn =
            |region: &str, account: &str| format!("arn:aws:kms:{region}:{account}:alias/aws/sqs");
        assert_eq!(of(&arn("us-east-1", OWN)), Some("alias/aws/sqs"));
        for text in [
            "alias/aws/none",
            "alias/sqs",
            "aws/sqs",
            &arn("us-east-1", OTHER),
            &arn("eu-west-1", OWN),
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
