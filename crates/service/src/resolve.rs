//! From what a request writes for a key to the key.
//!
//! The order of the checks is the API's: form, alias, Region, existence, and before existence is
//! told, whether the caller may know. An account learns nothing about another's keys and aliases.

use std::borrow::Cow;
use std::sync::Arc;

use keyrum_authz::Values;
use keyrum_crypto::{Attested, EncryptionContext, Pcrs};
use keyrum_state::{Caller, Facts, Key, KeyRef, State, not_visible, of_context, permit_key};
use keyrum_types::{AccountId, AliasName, Arn, KeyId, Region, Resource};

use crate::ServiceError;

/// Whether an operation takes keys of other accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accounts {
    /// The caller's own only.
    Own,
    /// Any, where authorization allows.
    Any,
}

/// A name taken apart, in this Region.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    Key(KeyRef),
    Alias(AccountId, String),
}

/// Takes a key identifier apart as far as that goes without the state.
fn parse(region: &Region, caller: AccountId, text: &str) -> Result<Named, ServiceError> {
    if text.starts_with("alias/") {
        return Ok(Named::Alias(caller, text.to_owned()));
    }
    if !text.starts_with("arn:") {
        let invalid = || ServiceError::InvalidKeyId {
            text: text.to_owned(),
        };
        return Ok(Named::Key(key_ref(region, caller, text, invalid)?));
    }
    let malformed = || ServiceError::MalformedArn {
        text: text.to_owned(),
    };
    let arn = Arn::parse(text).ok_or_else(malformed)?;
    if arn.region != region.as_str() {
        return Err(ServiceError::OtherRegion {
            region: arn.region.to_owned(),
        });
    }
    if arn.partition != region.partition() {
        return Err(malformed());
    }
    let account: AccountId = arn.account.parse().map_err(|_| malformed())?;
    match arn.resource {
        Resource::Alias(name) => Ok(Named::Alias(account, name.to_owned())),
        Resource::Key(id) => {
            let invalid = || ServiceError::InvalidKeyIdInArn {
                text: id.to_owned(),
            };
            Ok(Named::Key(key_ref(region, account, id, invalid)?))
        }
    }
}

fn key_ref(
    region: &Region,
    account: AccountId,
    id: &str,
    invalid: impl FnOnce() -> ServiceError,
) -> Result<KeyRef, ServiceError> {
    match id.parse() {
        Ok(id) => Ok(KeyRef { account, id }),
        // Well-formed, but ids are lower-case, so no key has it.
        Err(_) if KeyId::is_well_formed(id) => {
            let partition = region.partition();
            let arn = format!("arn:{partition}:kms:{region}:{account}:key/{id}");
            Err(ServiceError::KeyNotFound { arn })
        }
        Err(_) => Err(invalid()),
    }
}

/// For operations that take a key id or key ARN only. Whether the key exists is for
/// `permit_key` or for the log to say.
pub(crate) fn key_only(
    region: &Region,
    caller: AccountId,
    text: &str,
    accounts: Accounts,
) -> Result<KeyRef, ServiceError> {
    // Aliases are refused in whatever Region they are said to be.
    let alias = text.starts_with("alias/")
        || Arn::parse(text).is_some_and(|arn| matches!(arn.resource, Resource::Alias(_)));
    if alias {
        return Err(ServiceError::AliasNotSupported);
    }
    match parse(region, caller, text)? {
        Named::Key(key) if accounts == Accounts::Own && key.account != caller => {
            Err(ServiceError::CrossAccount)
        }
        Named::Key(key) => Ok(key),
        Named::Alias(..) => Err(ServiceError::AliasNotSupported),
    }
}

/// Two condition keys and their values; an empty one stands for none.
pub(crate) type NamedFacts = [(&'static str, &'static str); 2];

/// No such key.
pub(crate) const NONE: (&str, &str) = ("", "");

/// A key to act on as a request names it, and what the request says that conditions may ask for.
#[derive(Clone, Copy, Default)]
pub(crate) struct Asked<'a> {
    /// The action, without `kms:`.
    pub(crate) action: &'static str,
    /// A key id, key ARN, alias or alias ARN.
    pub(crate) text: &'a str,
    /// Of an operation that has one.
    pub(crate) context: Option<&'a EncryptionContext>,
    /// Condition keys in lower case, and the one value each has.
    pub(crate) named: NamedFacts,
    /// For whom the answer is.
    pub(crate) recipient: Option<&'a Attested>,
}

impl<'a> Asked<'a> {
    /// Of a request that says nothing else.
    pub(crate) fn of(action: &'static str, text: &'a str) -> Self {
        Self {
            action,
            text,
            ..Self::default()
        }
    }

    /// Which key that is, for operations that also take an alias name or alias ARN.
    pub(crate) fn key(&self, state: &State, caller: &Caller) -> Result<KeyRef, ServiceError> {
        key_or_alias(state, caller, self)
    }

    /// That key, for a caller who may do this to it.
    pub(crate) fn look_up<'s>(
        &self,
        state: &'s State,
        caller: &Caller,
    ) -> Result<&'s Arc<Key>, ServiceError> {
        let key = self.key(state, caller)?;
        Ok(permit_key(state, caller, key, self.action, self)?.key())
    }
}

impl Facts for Asked<'_> {
    fn values(&self, name: &str) -> Option<Values<'_>> {
        if let Some((_, value)) = self.named.iter().find(|(key, _)| *key == name) {
            return Some(Values::One(Cow::Borrowed(value)));
        }
        if name == "kms:requestalias" {
            return alias_in(self.text).map(|alias| Values::One(Cow::Borrowed(alias)));
        }
        if let Some(measured) = name.strip_prefix("kms:recipientattestation:") {
            return measurement(self.recipient?, measured);
        }
        of_context(name, self.context?)
    }

    fn encryption_context(&self) -> Option<&EncryptionContext> {
        self.context
    }
}

/// What an attested caller's document says. Source: AWS KMS Developer Guide, "Condition keys for
/// attested platforms".
fn measurement<'a>(of: &Attested, name: &str) -> Option<Values<'a>> {
    let digest = match (&of.pcrs, name) {
        // The image's digest is the first register's.
        (Pcrs::Enclave(pcrs), "imagesha384") => pcrs.get(&0),
        (Pcrs::Enclave(pcrs), name) => pcrs.get(&name.strip_prefix("pcr")?.parse().ok()?),
        (Pcrs::NitroTpm(pcrs), name) => pcrs.get(&name.strip_prefix("nitrotpmpcr")?.parse().ok()?),
    };
    let hex = digest?.iter().map(|byte| format!("{byte:02x}"));
    Some(Values::One(Cow::Owned(hex.collect())))
}

/// The alias that a text names, if it names one.
fn alias_in(text: &str) -> Option<&str> {
    if text.starts_with("alias/") {
        return Some(text);
    }
    match Arn::parse(text)?.resource {
        Resource::Alias(name) => Some(name),
        Resource::Key(_) => None,
    }
}

fn key_or_alias(state: &State, caller: &Caller, asked: &Asked<'_>) -> Result<KeyRef, ServiceError> {
    match parse(state.region(), caller.account, asked.text)? {
        Named::Key(key) => Ok(key),
        Named::Alias(account, name) => {
            let region = state.region();
            // A name that no alias can have is one that no alias has.
            let name = AliasName::new(&name).map_err(|_| name);
            let found = name
                .as_ref()
                .ok()
                .and_then(|name| state.alias(account, name));
            match found {
                Some(alias) => Ok(alias.target),
                // Who asks about another account learns nothing.
                None if account != caller.account => {
                    Err(not_visible(state, caller, account, asked.action, asked).into())
                }
                None => Err(ServiceError::AliasNotFound {
                    arn: format!(
                        "arn:{}:kms:{region}:{account}:{}",
                        region.partition(),
                        name.as_ref().map_or_else(String::as_str, AliasName::as_str)
                    ),
                }),
            }
        }
    }
}

/// The account and the name of the alias that a text names in this Region, if it names one.
pub(crate) fn named_alias(
    region: &Region,
    caller: AccountId,
    text: &str,
) -> Option<(AccountId, String)> {
    match parse(region, caller, text) {
        Ok(Named::Alias(account, name)) => Some((account, name)),
        Ok(Named::Key(_)) | Err(_) => None,
    }
}

/// The key that a text names in this Region, without a question of rights; an alias is looked up only
/// if it is of the caller's account.
pub(crate) fn key_named(state: &State, caller: AccountId, text: &str) -> Option<KeyRef> {
    match parse(state.region(), caller, text).ok()? {
        Named::Key(key) => Some(key),
        Named::Alias(account, name) if account == caller => {
            let name = AliasName::new(&name).ok()?;
            state.alias(account, &name).map(|alias| alias.target)
        }
        Named::Alias(..) => None,
    }
}

/// Checks an alias name that an operation on aliases was given.
pub(crate) fn alias_name(text: &str) -> Result<AliasName, ServiceError> {
    AliasName::new(text).map_err(|error| match error {
        keyrum_types::InvalidAliasName::Prefix => ServiceError::AliasPrefix,
        keyrum_types::InvalidAliasName::Characters => ServiceError::AliasCharacters {
            alias: text.to_owned(),
        },
    })
}

#[cfg(test)]
mod tests {
    use keyrum_state::Refusal;

    use super::*;
    use crate::testing::{OTHER, OWN, TestRegion, root_of};

    const UUID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";

    fn only(text: &str, accounts: Accounts) -> Result<String, ServiceError> {
        let region = "us-east-1".parse().unwrap();
        let key = key_only(&region, OWN.parse().unwrap(), text, accounts)?;
        Ok(format!("{}/{}", key.account, key.id))
    }

    fn own(text: &str) -> Result<String, ServiceError> {
        only(text, Accounts::Own)
    }

    /// Catches a form of key identifier that is taken for another. The cases and their answers
    /// are the API's.
    #[test]
    fn key_identifiers_have_their_forms() {
        let found = Ok(format!("{OWN}/{UUID}"));
        assert_eq!(own(UUID), found);
        assert_eq!(
            own(&format!("arn:aws:kms:us-east-1:{OWN}:key/{UUID}")),
            found
        );
        let family = "mrk-1234abcd12ab34cd56ef1234567890ab";
        assert_eq!(own(family), Ok(format!("{OWN}/{family}")));

        for text in [
            "nosuchkey",
            "mrk-xyz",
            "1234abcd12ab34cd56ef1234567890ab",
            "key/x",
            " ",
        ] {
            let invalid = ServiceError::InvalidKeyId {
                text: text.to_owned(),
            };
            assert_eq!(own(text), Err(invalid));
        }
        let in_arn = ServiceError::InvalidKeyIdInArn {
            text: "foo".to_owned(),
        };
        assert_eq!(
            own(&format!("arn:aws:kms:us-east-1:{OWN}:key/foo")),
            Err(in_arn)
        );

        let upper = UUID.to_uppercase();
        let arn = format!("arn:aws:kms:us-east-1:{OWN}:key/{upper}");
        let not_found = Err(ServiceError::KeyNotFound { arn: arn.clone() });
        assert_eq!(own(&upper), not_found);
        assert_eq!(own(&arn), not_found);

        for text in [
            format!("arn:aws:kms:eu-west-1:{OWN}:key/{UUID}"),
            format!("arn:aws:kms:eu-west-1:{OTHER}:key/foo"),
        ] {
            let other = ServiceError::OtherRegion {
                region: "eu-west-1".to_owned(),
            };
            assert_eq!(own(&text), Err(other), "{text}");
        }
        for text in [
            "arn:",
            "arn:aws:s3:::bucket",
            "arn:aws:kms:us-east-1:111122223333:grant/x",
            "arn:aws:kms:us-east-1:1111:key/foo",
            "arn:aws-cn:kms:us-east-1:111122223333:key/foo",
        ] {
            let malformed = ServiceError::MalformedArn {
                text: text.to_owned(),
            };
            assert_eq!(own(text), Err(malformed));
        }
    }

    /// Catches an alias being taken where only a key is, in any Region and whether it exists or
    /// not.
    #[test]
    fn aliases_are_refused_where_keys_are_wanted() {
        for text in [
            "alias/x".to_owned(),
            "alias/".to_owned(),
            format!("arn:aws:kms:us-east-1:{OWN}:alias/x"),
            format!("arn:aws:kms:eu-west-1:{OTHER}:alias/x"),
        ] {
            assert_eq!(own(&text), Err(ServiceError::AliasNotSupported), "{text}");
        }
    }

    /// Catches another account's key on an operation for one's own, and its refusal elsewhere.
    #[test]
    fn other_accounts_are_for_some_operations() {
        let text = format!("arn:aws:kms:us-east-1:{OTHER}:key/{UUID}");
        assert_eq!(own(&text), Err(ServiceError::CrossAccount));
        assert_eq!(only(&text, Accounts::Any), Ok(format!("{OTHER}/{UUID}")));
    }

    /// Catches an alias that is not found by name or ARN, an absent one that is, and another
    /// account's that is told apart from none.
    #[test]
    fn aliases_lead_to_keys() {
        let mut region = TestRegion::new();
        let key = region.key(1);
        region.alias("alias/a/b", key);
        let resolve = |account: &str, text: &str| {
            let asked = Asked::of("DescribeKey", text);
            let found = asked.look_up(&region.state, &root_of(account));
            found.map(|key| key.reference())
        };
        assert_eq!(resolve(OWN, "alias/a/b"), Ok(key));
        assert_eq!(
            resolve(OWN, &format!("arn:aws:kms:us-east-1:{OWN}:alias/a/b")),
            Ok(key)
        );
        assert_eq!(resolve(OWN, &key.id.to_string()), Ok(key));
        for absent in ["alias/a", "alias/", "alias/é", "alias/aws/sqs"] {
            let arn = format!("arn:aws:kms:us-east-1:{OWN}:{absent}");
            let not_found = Err(ServiceError::AliasNotFound { arn: arn.clone() });
            assert_eq!(resolve(OWN, absent), not_found);
            assert_eq!(resolve(OWN, &arn), not_found);
        }
        let elsewhere = format!("arn:aws:kms:eu-west-1:{OWN}:alias/a/b");
        let other_region = ServiceError::OtherRegion {
            region: "eu-west-1".to_owned(),
        };
        assert_eq!(resolve(OWN, &elsewhere), Err(other_region));
        for name in ["alias/a/b", "alias/none"] {
            let result = resolve(OTHER, &format!("arn:aws:kms:us-east-1:{OWN}:{name}"));
            assert!(
                matches!(
                    result,
                    Err(ServiceError::Refused(Refusal::NotAuthorized(_)))
                ),
                "{result:?}"
            );
        }
    }

    /// Catches alias names that the API refuses for their form being called absent.
    #[test]
    fn alias_names_have_a_form() {
        assert!(alias_name("alias/a-b_c/1").is_ok());
        assert_eq!(alias_name("a"), Err(ServiceError::AliasPrefix));
        for text in ["alias/a:b", "alias/"] {
            let characters = ServiceError::AliasCharacters {
                alias: text.to_owned(),
            };
            assert_eq!(alias_name(text), Err(characters));
        }
    }
}
