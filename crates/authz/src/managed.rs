//! Who may do what to an AWS managed key: its policy, and the decision that follows from it.
//!
//! Every other policy is stored and not yet obeyed; this one is the same for all such keys, so what
//! it says is known. Source: AWS Secrets Manager User Guide, "Permissions for the KMS key", and
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
