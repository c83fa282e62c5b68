//! AWS managed keys: predefined aliases, and the keys that DescribeKey makes for them.

use std::collections::BTreeSet;

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{AliasListEntry, IncludeKeyMaterial, KeyManagerType, KeyState};
use keyrum_tests::sdk::{Failed, HERE, THERE, failed, refused};
use keyrum_tests::{Dev, shared_dev};

use crate::clock::advance;
use crate::desk::{Desk, tag};

/// Says which service a call comes through.
macro_rules! through {
    ($service:expr, $call:expr) => {
        $call.customize().mutate_request(|request| {
            request
                .headers_mut()
                .insert("x-keyrum-via-service", $service);
        })
    };
}

async fn listed(desk: &Desk, alias: &str) -> AliasListEntry {
    let page = desk.kms.list_aliases().limit(100).send().await.unwrap();
    let mut aliases = page.aliases.unwrap().into_iter();
    aliases
        .find(|entry| entry.alias_name() == Some(alias))
        .unwrap()
}

/// Catches a predefined alias that is not listed, has a key too soon, or gets one by anything but
/// DescribeKey; and a key other than the real service makes.
#[tokio::test]
async fn describe_key_makes_the_key_of_a_predefined_alias() {
    let desk = Desk::dev("managed").await;
    let entry = listed(&desk, "alias/aws/sqs").await;
    assert_eq!(entry.alias_arn(), Some(desk.arn("alias/aws/sqs").as_str()));
    assert_eq!((entry.target_key_id(), entry.creation_date()), (None, None));
    let missing = format!("Alias {} is not found.", desk.arn("alias/aws/sqs"));
    let call = desk.kms.encrypt().key_id("alias/aws/sqs");
    let call = through!("sqs", call.plaintext(Blob::new("x")));
    refused(call.send().await, "NotFoundException", &missing);

    let key = desk.describe("alias/aws/sqs").await;
    assert_eq!(key.key_manager(), Some(&KeyManagerType::Aws));
    assert_eq!(
        key.description(),
        Some("Default key that protects my SQS messages when no other key is defined")
    );
    assert_eq!(key.key_state(), Some(&KeyState::Enabled));
    assert_eq!(key.multi_region(), Some(false));
    assert!(key.current_key_material_id().is_some());
    for name in ["alias/aws/sqs", &desk.arn("alias/aws/sqs"), key.key_id()] {
        assert_eq!(desk.describe(name).await.key_id(), key.key_id(), "{name}");
    }
    let entry = listed(&desk, "alias/aws/sqs").await;
    assert_eq!(entry.target_key_id(), Some(key.key_id()));
    assert!(entry.creation_date().is_some());
    let of_key = desk.kms.list_aliases().key_id(key.key_id());
    assert_eq!(of_key.send().await.unwrap().aliases(), [entry]);
    let keys = desk.kms.list_keys().send().await.unwrap();
    assert_eq!(keys.keys()[0].key_id(), Some(key.key_id()));

    let policy = desk.kms.get_key_policy().key_id(key.key_id());
    let policy = policy.send().await.unwrap().policy.unwrap();
    let via = format!("\"kms:ViaService\" : \"sqs.{HERE}.amazonaws.com\"");
    for part in ["\"auto-sqs-1\"", &via, &desk.account] {
        assert!(policy.contains(part), "{policy}");
    }

    // Every account and Region has its own.
    let elsewhere = desk.client_in(THERE).describe_key().key_id("alias/aws/sqs");
    let elsewhere = elsewhere.send().await.unwrap().key_metadata.unwrap();
    assert_ne!(elsewhere.key_id(), key.key_id());
    let other = Desk::dev("managed, another account").await;
    let foreign = other.kms.describe_key().key_id(desk.arn("alias/aws/sns"));
    let error = failed(foreign.send().await.unwrap_err());
    assert!(
        matches!(&error, Failed::Answer(code, _) if code == "AccessDeniedException"),
        "{error:?}"
    );
    assert_eq!(listed(&desk, "alias/aws/sns").await.target_key_id(), None);
    let unknown = desk.kms.describe_key().key_id("alias/aws/nothing");
    let message = format!("Alias {} is not found.", desk.arn("alias/aws/nothing"));
    refused(unknown.send().await, "NotFoundException", &message);
}

/// Catches two keys for one alias where several nodes are asked at once.
#[tokio::test]
async fn one_key_is_made_however_many_ask() {
    let desk = Desk::dev("managed, at once").await;
    let nodes = &shared_dev().await.regions[HERE].nodes;
    let mut tasks = tokio::task::JoinSet::new();
    for node in nodes.iter().cycle().take(12) {
        let desk = Desk::at(&node.api, "managed, at once");
        tasks.spawn(async move { desk.describe("alias/aws/s3").await.key_id().to_owned() });
    }
    let ids: BTreeSet<String> = tasks.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let keys = desk.kms.list_keys().send().await.unwrap();
    assert_eq!(keys.keys().len(), 1);
}

/// Catches an AWS managed key that a caller can change, or use without its service.
#[tokio::test]
async fn callers_do_not_change_managed_keys() {
    let desk = Desk::dev("managed, mine").await;
    let key = desk.describe("alias/aws/ebs").await;
    let (kms, id, arn) = (&desk.kms, key.key_id(), key.arn().unwrap());
    let denied = |action: &str| {
        format!(
            "User: arn:aws:iam::{}:root is not authorized to perform: kms:{action} on resource: \
             {arn} because no resource-based policy allows the kms:{action} action",
            desk.account
        )
    };
    macro_rules! denies {
        ($action:literal, $call:expr) => {
            refused(
                $call.key_id(id).send().await,
                "AccessDeniedException",
                &denied($action),
            );
        };
    }
    denies!("DisableKey", kms.disable_key());
    denies!("EnableKey", kms.enable_key());
    denies!("ScheduleKeyDeletion", kms.schedule_key_deletion());
    let soon = kms.schedule_key_deletion().pending_window_in_days(1);
    denies!("ScheduleKeyDeletion", soon);
    denies!("CancelKeyDeletion", kms.cancel_key_deletion());
    denies!(
        "UpdateKeyDescription",
        kms.update_key_description().description("mine")
    );
    denies!("TagResource", kms.tag_resource().tags(tag("a", "b")));
    denies!("UntagResource", kms.untag_resource().tag_keys("a"));
    denies!("PutKeyPolicy", kms.put_key_policy().policy("{}"));
    denies!("EnableKeyRotation", kms.enable_key_rotation());
    denies!("DisableKeyRotation", kms.disable_key_rotation());
    denies!("RotateKeyOnDemand", kms.rotate_key_on_demand());
    denies!("ReplicateKey", kms.replicate_key().replica_region(THERE));
    denies!(
        "UpdatePrimaryRegion",
        kms.update_primary_region().primary_region(THERE)
    );
    denies!(
        "DeleteImportedKeyMaterial",
        kms.delete_imported_key_material()
    );
    let alias = kms.create_alias().alias_name("alias/mine");
    let alias = alias.target_key_id(id).send().await;
    refused(alias, "AccessDeniedException", &denied("CreateAlias"));
    let reserved = "The alias name for a customer managed CMK cannot begin with alias/aws/.";
    let alias = kms.delete_alias().alias_name("alias/aws/ebs");
    refused(alias.send().await, "NotAuthorizedException", reserved);
    let mine = desk.key().await;
    let alias = kms.update_alias().alias_name("alias/aws/ebs");
    let alias = alias.target_key_id(&mine.id).send().await;
    refused(alias, "NotAuthorizedException", reserved);

    let encrypt = || kms.encrypt().plaintext(Blob::new("secret"));
    denies!("Encrypt", encrypt());
    denies!(
        "GenerateDataKey",
        kms.generate_data_key().number_of_bytes(16)
    );
    let other = through!("s3", encrypt().key_id(id)).send().await;
    refused(other, "AccessDeniedException", &denied("Encrypt"));
    // EBS calls as EC2.
    let sealed = through!("ec2", encrypt().key_id("alias/aws/ebs"))
        .send()
        .await;
    let blob = sealed.unwrap().ciphertext_blob.unwrap();
    let opened = through!("ec2", kms.decrypt().ciphertext_blob(blob.clone()));
    let opened = opened.send().await.unwrap().plaintext.unwrap();
    assert_eq!(opened.as_ref(), b"secret");
    refused(
        kms.decrypt().ciphertext_blob(blob).send().await,
        "AccessDeniedException",
        &denied("Decrypt").replace(
            &format!("resource: {arn}"),
            "resource: the resource associated with this ciphertext",
        ),
    );
    let nameless = through!("S3!", encrypt().key_id(id)).send().await;
    refused(
        nameless,
        "ValidationException",
        "The header x-keyrum-via-service must be a service's name such as s3.",
    );
    assert_eq!(
        desk.describe(id).await.key_state(),
        Some(&KeyState::Enabled)
    );
}

/// Catches a managed key that is not rotated after a year, or that loses what it once encrypted.
#[tokio::test]
async fn managed_keys_are_rotated_yearly() {
    let dev = Dev::start(&["--ephemeral", "--nodes", "1"]).await;
    let desk = Desk::at(&dev.ready.endpoint, "managed, a year");
    let key = desk.describe("alias/aws/s3").await;
    let (kms, id) = (&desk.kms, key.key_id());
    let sealed = through!("s3", kms.encrypt().key_id(id).plaintext(Blob::new("old")));
    let blob = sealed.send().await.unwrap().ciphertext_blob.unwrap();
    let status = async || kms.get_key_rotation_status().key_id(id).send().await;
    let fresh = status().await.unwrap();
    assert!(!fresh.key_rotation_enabled());
    assert_eq!(
        (fresh.rotation_period_in_days(), fresh.next_rotation_date()),
        (None, None)
    );

    let moved = advance(&dev, "364d");
    assert!(moved.status.success(), "{moved:?}");
    let material = key.current_key_material_id();
    assert_eq!(desk.describe(id).await.current_key_material_id(), material);
    let moved = advance(&dev, "1d");
    let printed = String::from_utf8_lossy(&moved.stdout);
    assert!(printed.contains(", 1 key rotated"), "{moved:?}");
    let rotated = desk.describe(id).await;
    assert_ne!(rotated.current_key_material_id(), material);
    let status = status().await.unwrap();
    assert!(status.key_rotation_enabled());
    assert_eq!(status.rotation_period_in_days(), Some(365));
    let all = kms.list_key_rotations().key_id(id);
    let all = all.include_key_material(IncludeKeyMaterial::AllKeyMaterial);
    assert_eq!(all.send().await.unwrap().rotations().len(), 2);
    let opened = through!("s3", kms.decrypt().ciphertext_blob(blob));
    let opened = opened.send().await.unwrap();
    assert_eq!(opened.plaintext().unwrap().as_ref(), b"old");
    assert_eq!(opened.key_material_id(), material);
}
