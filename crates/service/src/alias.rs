//! Operations on aliases.

use keyrum_state::{Alias, Caller, Command, KeyRef, NoFacts, Refusal, State, permit_account};
use keyrum_types::{AliasName, KeyId, UnixMillis, alias_arn};

use crate::page::{LIST_ALIASES, Markers, Page, PageRequest};
use crate::resolve::{self, Accounts};
use crate::{RequestContext, Service, ServiceError, managed};

/// What CreateAlias and UpdateAlias are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasTargetInput {
    /// The alias, with its `alias/`.
    pub alias: String,
    /// The id or ARN of the key it shall name.
    pub target_key_id: String,
}

/// What DeleteAlias is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteAliasInput {
    /// The alias, with its `alias/`.
    pub alias: String,
}

/// What ListAliases is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListAliasesInput {
    /// Only the aliases of this key, an id or ARN.
    pub key_id: Option<String>,
    /// Which part of the list.
    pub page: PageRequest,
}

/// One alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasEntry {
    /// The name, with its `alias/`.
    pub name: String,
    /// The alias's ARN.
    pub arn: String,
    /// What it names; absent for a predefined alias whose AWS managed key was not made yet.
    pub target: Option<AliasTarget>,
}

/// What an alias names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AliasTarget {
    /// The key.
    pub key_id: KeyId,
    /// When the alias was made, by the Region's clock.
    pub created: UnixMillis,
    /// When it last changed its target, or was made.
    pub updated: UnixMillis,
}

impl Service {
    /// Names a key.
    pub async fn create_alias(
        &self,
        ctx: &RequestContext,
        input: AliasTargetInput,
    ) -> Result<(), ServiceError> {
        let alias = resolve::alias_name(&input.alias)?;
        let target = self.alias_target(ctx, &input.target_key_id)?;
        self.propose(ctx, Command::CreateAlias { alias, target })
            .await
            .map(drop)
    }

    /// Lets a name stand for another key.
    pub async fn update_alias(
        &self,
        ctx: &RequestContext,
        input: AliasTargetInput,
    ) -> Result<(), ServiceError> {
        let alias = resolve::alias_name(&input.alias)?;
        let target = self.alias_target(ctx, &input.target_key_id)?;
        self.propose(ctx, Command::UpdateAlias { alias, target })
            .await
            .map(drop)
    }

    /// Takes a name away.
    pub async fn delete_alias(
        &self,
        ctx: &RequestContext,
        input: DeleteAliasInput,
    ) -> Result<(), ServiceError> {
        let alias = resolve::alias_name(&input.alias)?;
        self.propose(ctx, Command::DeleteAlias { alias })
            .await
            .map(drop)
    }

    /// The aliases of the caller's account, or of one of its keys.
    pub async fn list_aliases(
        &self,
        ctx: &RequestContext,
        input: ListAliasesInput,
    ) -> Result<Page<AliasEntry>, ServiceError> {
        let limit = LIST_ALIASES.check(&input.page)?;
        let state = self.read(ctx).await?;
        let markers = Markers {
            key: self.token_key(),
            operation: "ListAliases",
            account: ctx.caller.account,
            filter: String::new(),
        };
        list_aliases(&state, &ctx.caller, &input, limit, markers)
    }

    fn alias_target(&self, ctx: &RequestContext, text: &str) -> Result<KeyRef, ServiceError> {
        resolve::key_only(self.region(), ctx.caller.account, text, Accounts::Own).map_err(|error| {
            match error {
                ServiceError::AliasNotSupported => ServiceError::AliasAsTarget,
                error => error,
            }
        })
    }
}

fn list_aliases(
    state: &State,
    caller: &Caller,
    input: &ListAliasesInput,
    limit: usize,
    mut markers: Markers<'_>,
) -> Result<Page<AliasEntry>, ServiceError> {
    let account = caller.account;
    let key = input.key_id.as_deref();
    let key = key.map(|text| resolve::key_only(state.region(), account, text, Accounts::Own));
    let key = key.transpose()?;
    // The aliases are the account's: no key's policy has a say.
    let _permit = permit_account(state, caller, "ListAliases", "*", &NoFacts)?;
    if let Some(key) = key.filter(|key| state.key(*key).is_none()) {
        return Err(Refusal::NoSuchKey { key }.into());
    }
    markers.filter = key.map(|key| key.id.to_string()).unwrap_or_default();
    let after = match markers.position(&input.page)? {
        None => None,
        Some(name) => {
            let name = String::from_utf8(name).map_err(|_| ServiceError::InvalidMarker)?;
            Some(resolve::alias_name(&name).map_err(|_| ServiceError::InvalidMarker)?)
        }
    };
    let entry = |name: &AliasName, alias: Option<&Alias>| AliasEntry {
        name: name.to_string(),
        arn: alias_arn(state.region(), account, name),
        target: alias.map(|alias| AliasTarget {
            key_id: alias.target.id,
            created: alias.created,
            updated: alias.updated,
        }),
    };
    let position = |entry: &AliasEntry| entry.name.clone().into_bytes();
    Ok(match key {
        None => {
            let entries = managed::with_predefined(state, account, after.as_ref());
            markers.page(
                entries.map(|(name, alias)| entry(name, alias)),
                limit,
                position,
            )
        }
        Some(key) => {
            let entries = state.aliases_of(key, after.as_ref());
            markers.page(
                entries.map(|(name, alias)| entry(name, Some(alias))),
                limit,
                position,
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{OTHER, OWN, TestRegion, root_of};

    /// Without the predefined ones that have no key.
    fn list(
        region: &TestRegion,
        account: &str,
        key_id: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, ServiceError> {
        let mut all = list_all(region, account, key_id, limit)?;
        all.retain(|entry| !entry.ends_with(" --"));
        Ok(all)
    }

    fn list_all(
        region: &TestRegion,
        account: &str,
        key_id: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, ServiceError> {
        let mut seen = Vec::new();
        let mut page = PageRequest::default();
        loop {
            let input = ListAliasesInput {
                key_id: key_id.map(str::to_owned),
                page,
            };
            let markers = Markers {
                key: &region.tokens,
                operation: "ListAliases",
                account: account.parse().unwrap(),
                filter: String::new(),
            };
            let found = list_aliases(&region.state, &root_of(account), &input, limit, markers)?;
            seen.extend(found.items.into_iter().map(|entry| {
                let arn = format!("arn:aws:kms:us-east-1:{account}:{}", entry.name);
                assert_eq!(entry.arn, arn);
                let target = entry.target.map(|target| target.key_id.to_string());
                format!("{} {}", entry.name, &target.unwrap_or("--".to_owned())[..2])
            }));
            match found.next_marker {
                None => return Ok(seen),
                marker => {
                    page = PageRequest {
                        limit: None,
                        marker,
                    }
                }
            }
        }
    }

    /// Catches an alias left out between pages, listed for the wrong key, or shown to another
    /// account.
    #[test]
    fn aliases_are_listed_by_account_and_by_key() {
        let mut region = TestRegion::new();
        let (one, two) = (region.key(1), region.key(2));
        for (name, key) in [
            ("alias/c", one),
            ("alias/a", two),
            ("alias/b", one),
            ("alias/d", one),
        ] {
            region.alias(name, key);
        }
        for limit in [1, 2, 3, 4, 5] {
            let all = ["alias/a 02", "alias/b 01", "alias/c 01", "alias/d 01"];
            assert_eq!(list(&region, OWN, None, limit).unwrap(), all);
            let ones = list(&region, OWN, Some(&one.id.to_string()), limit).unwrap();
            assert_eq!(ones, all[1..]);
        }
        assert_eq!(list(&region, OTHER, None, 9), Ok(vec![]));
        let arn = format!("arn:aws:kms:us-east-1:{OWN}:key/{}", one.id);
        assert_eq!(
            list(&region, OTHER, Some(&arn), 9),
            Err(ServiceError::CrossAccount)
        );
        let alias = list(&region, OWN, Some("alias/a"), 9);
        assert_eq!(alias, Err(ServiceError::AliasNotSupported));
    }
}
