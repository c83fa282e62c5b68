//! The AWS services that have a KMS key of their own in every account and Region: AWS managed keys.

use std::sync::LazyLock;

use crate::{AliasName, Region};

/// What stands before the service's name in the alias of its key.
const PREFIX: &str = "alias/aws/";

/// An AWS service with a managed key.
#[derive(Debug, PartialEq, Eq)]
pub struct ManagedService {
    /// Its name in the alias, such as `ebs`.
    pub name: &'static str,
    /// What the key's policy calls it.
    pub title: &'static str,
    /// What the key's description says that it protects.
    protects: &'static str,
}

/// Source: the policies of all AWS managed keys of an account in us-east-1, as
/// github.com/FogSecurity/aws-managed-kms-keys has them.
///
/// Deviation: every Region has the same ones. What some keys protect is in our own words, where no
/// published description was found.
static SERVICES: [ManagedService; 39] = [
    service("acm", "ACM", "ACM private keys"),
    service("appflow", "Amazon AppFlow", "Amazon AppFlow data"),
    service("backup", "AWS Backup", "Backup data"),
    service("cloud9", "Cloud9", "Cloud9 data"),
    service("codeartifact", "CodeArtifact", "CodeArtifact data"),
    service("codecommit", "CodeCommit", "CodeCommit repositories"),
    service("connect", "Amazon Connect", "Connect data"),
    service("dax", "DAX", "DAX data"),
    service("dms", "DMS", "DMS replication instance volumes"),
    service("dynamodb", "Amazon DynamoDB", "DynamoDB data"),
    service("ebs", "EBS", "EBS volumes"),
    service("ecr", "ECR", "ECR data"),
    service("eks", "EKS", "EKS data"),
    service("elasticache", "ElastiCache", "ElastiCache data"),
    service("elasticfilesystem", "EFS", "EFS filesystems"),
    service("es", "Elasticsearch Service", "Elasticsearch Service data"),
    service("fsx", "FSx", "FSx resources"),
    service("glue", "Glue", "Glue data"),
    service("imagebuilder", "Image Builder", "Image Builder data"),
    service("kafka", "MSK", "MSK data"),
    service("kendra", "Kendra", "Kendra data"),
    service("kinesis", "Amazon Kinesis", "Kinesis data"),
    service(
        "kinesisvideo",
        "Kinesis Video Streams",
        "Kinesis Video Streams data",
    ),
    service("lambda", "AWS Lambda", "Lambda functions"),
    service("lex", "Lex", "Lex data"),
    service("lightsail", "Lightsail", "Lightsail signing keys"),
    service("mq", "Amazon MQ", "Amazon MQ data"),
    service("rds", "RDS", "RDS database volumes"),
    service("redshift", "Redshift", "Redshift clusters"),
    service("s3", "S3", "S3 objects"),
    service(
        "secretsmanager",
        "AWS Secrets Manager",
        "Secrets Manager data",
    ),
    service("ses", "SES", "SES data"),
    service("sns", "SNS", "SNS data"),
    service("sqs", "Simple Queue Service (SQS)", "SQS messages"),
    service("ssm", "SSM", "SSM parameters"),
    service("timestream", "Timestream", "Timestream data"),
    service("translate", "Translate", "Translate data"),
    service("workspaces", "WorkSpaces", "WorkSpaces volumes"),
    service("xray", "X-Ray", "X-Ray data"),
];

static ALIASES: LazyLock<Vec<AliasName>> = LazyLock::new(|| {
    let alias = |service: &ManagedService| AliasName::new(&format!("{PREFIX}{}", service.name));
    let aliases = SERVICES.iter().map(alias);
    aliases
        .map(|alias| alias.expect("the names are lower-case letters and digits"))
        .collect()
});

const fn service(
    name: &'static str,
    title: &'static str,
    protects: &'static str,
) -> ManagedService {
    ManagedService {
        name,
        title,
        protects,
    }
}

impl ManagedService {
    /// The aliases of all, by name: the predefined aliases of an account.
    pub fn aliases() -> &'static [AliasName] {
        &ALIASES
    }

    /// Whose key an alias names; `None` for an alias that is not predefined.
    pub fn of_alias(alias: &AliasName) -> Option<&'static Self> {
        let name = alias.as_str().strip_prefix(PREFIX)?;
        SERVICES.iter().find(|service| service.name == name)
    }

    /// The description of its key.
    pub fn description(&self) -> String {
        let protects = self.protects;
        format!("Default key that protects my {protects} when no other key is defined")
    }
}

/// The value of the condition `kms:ViaService` for requests that the service of a managed key's
/// alias makes, such as `ec2.us-east-1.amazonaws.com` for `alias/aws/ebs`.
pub fn via_service(alias: &AliasName, region: &Region) -> String {
    let name = alias.as_str().strip_prefix(PREFIX).unwrap_or_default();
    // EBS is part of EC2.
    let name = if name == "ebs" { "ec2" } else { name };
    format!("{name}.{region}.amazonaws.com")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches aliases out of order, which lists could not be merged with, and one that does not
    /// lead back to its service.
    #[test]
    fn every_service_has_its_alias() {
        let aliases = ManagedService::aliases();
        assert!(aliases.is_sorted());
        for (alias, service) in aliases.iter().zip(&SERVICES) {
            assert!(alias.is_aws_reserved());
            assert_eq!(ManagedService::of_alias(alias), Some(service));
        }
        for other in ["alias/aws/none", "alias/sqs", "alias/aws/s3/x"] {
            assert_eq!(
                ManagedService::of_alias(&AliasName::new(other).unwrap()),
                None
            );
        }
    }

    /// Catches a description or a condition's value other than the recorded ones.
    #[test]
    fn texts_are_the_real_services() {
        let named = |name: &str| AliasName::new(name).unwrap();
        let sqs = ManagedService::of_alias(&named("alias/aws/sqs")).unwrap();
        assert_eq!(
            sqs.description(),
            "Default key that protects my SQS messages when no other key is defined"
        );
        let region = "eu-west-1".parse().unwrap();
        for (alias, value) in [
            ("alias/aws/s3", "s3.eu-west-1.amazonaws.com"),
            ("alias/aws/ebs", "ec2.eu-west-1.amazonaws.com"),
        ] {
            assert_eq!(via_service(&named(alias), &region), value);
        }
    }
}
