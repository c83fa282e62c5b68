//! AWS managed keys: their policy, and what it allows as Regions below feature level 4 decide it, which obey
//! no other policy.
//!
//! Source: AWS Secrets Manager User Guide, "Permissions for the KMS key", and
//! other services' pages on their key.

use keyrum_types::{AccountId, AliasName, ManagedService, Region, via_service};

/// The name of the condition that tells which service a request comes through.
pub const VIA_SERVICE: &str = "kms:viaservice";

/// The policy of a service's key, laid out as the real service stores it.
///
/// Deviation: the same for all services but for their names. Of the real ones some have a higher
/// number at the end of their id, or list a few actions more or less.
pub fn managed_key_policy(
    region: &Region,
    account: AccountId,
    alias: &AliasName,
    service: &ManagedService,
) -> String {
    let (name, title) = (service.name, service.title);
    let (partition, via) = (region.partition(), via_service(alias, region));
    format!(
        r#"{{
  "Version" : "2012-10-17",
  "Id" : "auto-{name}-1",
  "Statement" : [ {{
    "Sid" : "Allow access through {title} for all principals in the account that are authorized to use {title}",
    "Effect" : "Allow",
    "Principal" : {{
      "AWS" : "*"
    }},
    "Action" : [ "kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:CreateGrant", "kms:DescribeKey" ],
    "Resource" : "*",
    "Condition" : {{
      "StringEquals" : {{
        "kms:ViaService" : "{via}",
        "kms:CallerAccount" : "{account}"
      }}
    }}
  }}, {{
    "Sid" : "Allow direct access to key metadata to the account",
    "Effect" : "Allow",
    "Principal" : {{
      "AWS" : "arn:{partition}:iam::{account}:root"
    }},
    "Action" : [ "kms:Describe*", "kms:Get*", "kms:List*", "kms:RevokeGrant" ],
    "Resource" : "*"
  }} ]
}}"#
    )
}

/// Whether that policy allows callers of the key's account an action (without `kms:`), where
/// requests come through the services that `via` names.
pub fn managed_key_allows(
    region: &Region,
    alias: &AliasName,
    action: &str,
    via: &[String],
) -> bool {
    let begins = |with: &[&str]| with.iter().any(|prefix| action.starts_with(prefix));
    if begins(&["Describe", "Get", "List"]) || action == "RevokeGrant" {
        return true;
    }
    let through = begins(&["ReEncrypt", "GenerateDataKey"])
        || matches!(action, "Encrypt" | "Decrypt" | "CreateGrant");
    through && via.contains(&via_service(alias, region))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Asker, Context, IdentitySide, KeyPolicy, Policy, PolicyKind, PrincipalKind, Question,
        ResourceSide, Values, decide,
    };

    /// Catches a managed key that a caller may change, or use without the service or through
    /// another one; and one whose service is kept from it.
    #[test]
    fn the_policy_is_obeyed() {
        let region: Region = "us-east-1".parse().unwrap();
        let alias = AliasName::new("alias/aws/ebs").unwrap();
        let [none, other, own] = [
            "",
            "s3.us-east-1.amazonaws.com",
            "ec2.us-east-1.amazonaws.com",
        ];
        let allows =
            |action, via: &str| managed_key_allows(&region, &alias, action, &[via.to_owned()]);
        for action in [
            "DescribeKey",
            "GetKeyPolicy",
            "ListResourceTags",
            "RevokeGrant",
        ] {
            assert!(allows(action, none), "{action}");
        }
        for action in [
            "Encrypt",
            "Decrypt",
            "ReEncryptTo",
            "GenerateDataKeyPair",
            "CreateGrant",
        ] {
            assert!(!allows(action, none) && !allows(action, other), "{action}");
            assert!(allows(action, own), "{action}");
        }
        for action in [
            "DisableKey",
            "PutKeyPolicy",
            "EncryptX",
            "Sign",
            "CreateAlias",
        ] {
            assert!(!allows(action, own), "{action}");
        }
        assert!(!managed_key_allows(&region, &alias, "Encrypt", &[]));
    }

    /// What a request came through.
    struct Via<'a>(&'a str);

    impl Context for Via<'_> {
        fn values(&self, key: &str) -> Option<Values<'_>> {
            let is_there = key == VIA_SERVICE && !self.0.is_empty();
            is_there.then(|| Values::One(self.0.into()))
        }
    }

    /// Catches the engine reading the policy otherwise than the rule that was written by hand, and
    /// another account's caller being let in.
    #[test]
    fn the_engine_obeys_it() {
        let region: Region = "us-east-1".parse().unwrap();
        let account: AccountId = "111122223333".parse().unwrap();
        let alias = AliasName::new("alias/aws/ebs").unwrap();
        let service = ManagedService::of_alias(&alias).unwrap();
        let text = managed_key_policy(&region, account, &alias, service);
        let policy = Policy::parse(&text, PolicyKind::Key).unwrap();
        let allows = |action, via: &str, account: AccountId| {
            let question = Question {
                asker: Asker {
                    kind: PrincipalKind::Root,
                    account,
                    arn: &format!("arn:aws:iam::{account}:root"),
                    role_arn: None,
                    unique_id: &account.to_string(),
                },
                service: "kms",
                action,
                resource: "arn:aws:kms:us-east-1:111122223333:key/k",
                context: &Via(via),
            };
            let key = ResourceSide::Key {
                owner: "111122223333".parse().unwrap(),
                policy: KeyPolicy::Is(&policy),
                grant: None,
            };
            decide(&question, &IdentitySide::of_root(), &key).is_ok()
        };
        let other: AccountId = "999922223333".parse().unwrap();
        for action in [
            "Encrypt",
            "Decrypt",
            "ReEncryptFrom",
            "GenerateDataKey",
            "GenerateDataKeyPairWithoutPlaintext",
            "CreateGrant",
            "DescribeKey",
            "GetKeyPolicy",
            "ListGrants",
            "RevokeGrant",
            "Sign",
            "PutKeyPolicy",
            "DisableKey",
            "ScheduleKeyDeletion",
        ] {
            for via in [
                "",
                "s3.us-east-1.amazonaws.com",
                "ec2.us-east-1.amazonaws.com",
            ] {
                let by_hand = managed_key_allows(&region, &alias, action, &[via.to_owned()]);
                assert_eq!(allows(action, via, account), by_hand, "{action} {via}");
                assert!(!allows(action, via, other), "{action} {via}");
            }
        }
    }

    /// Catches a policy that PutKeyPolicy would not take for one, and another layout than the
    /// published example's.
    #[test]
    fn the_policy_is_one() {
        let region: Region = "us-west-2".parse().unwrap();
        let account = "111122223333".parse().unwrap();
        let alias = AliasName::new("alias/aws/secretsmanager").unwrap();
        let service = ManagedService::of_alias(&alias).unwrap();
        let policy = managed_key_policy(&region, account, &alias, service);
        crate::check_policy(
            &policy,
            "arn:aws:iam::111122223333:root",
            account,
            "*",
            true,
        )
        .unwrap();
        for part in [
            r#""Id" : "auto-secretsmanager-1","#,
            r#""kms:ViaService" : "secretsmanager.us-west-2.amazonaws.com","#,
            r#""AWS" : "arn:aws:iam::111122223333:root""#,
            "authorized to use AWS Secrets Manager\"",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
    }
}
