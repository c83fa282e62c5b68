//! The forms a key can be named in, and what is answered to others.

use aws_sdk_kms::primitives::Blob;
use keyrum_tests::sdk::{THERE, refused};

use crate::desk::{Desk, NOBODY, arn};

/// Catches a form of a key's name that is not understood where the real service takes it.
#[tokio::test]
async fn four_forms_name_a_key() {
    let desk = Desk::dev("four forms").await;
    let key = desk.key().await;
    desk.kms
        .create_alias()
        .alias_name("alias/f")
        .target_key_id(&key.id)
        .send()
        .await
        .unwrap();
    let alias_arn = desk.arn("alias/f");
    for name in [key.id.as_str(), &key.arn, "alias/f", &alias_arn] {
        assert_eq!(desk.describe(name).await.key_id(), key.id, "{name}");
        let blob = desk.ciphertext(name).await;
        let call = desk
            .kms
            .decrypt()
            .ciphertext_blob(blob.clone())
            .key_id(name);
        assert_eq!(
            call.send().await.unwrap().plaintext().unwrap().as_ref(),
            b"secret"
        );
        let call = desk.kms.generate_data_key().key_id(name).number_of_bytes(8);
        assert_eq!(call.send().await.unwrap().key_id(), Some(key.arn.as_str()));
        let call = desk
            .kms
            .generate_data_key_without_plaintext()
            .key_id(name)
            .number_of_bytes(8);
        assert_eq!(call.send().await.unwrap().key_id(), Some(key.arn.as_str()));
        let call = desk
            .kms
            .re_encrypt()
            .ciphertext_blob(blob)
            .source_key_id(name);
        assert!(call.destination_key_id(name).send().await.is_ok(), "{name}");
    }
}

/// Catches a bad name that is answered otherwise than by the real service.
#[tokio::test]
async fn bad_names_are_told_apart() {
    let desk = Desk::dev("bad names").await;
    let key = desk.key().await;
    let absent = |id: &str| format!("Key '{}' does not exist", desk.arn(&format!("key/{id}")));
    let upper = NOBODY.to_uppercase();
    for (name, message) in [
        ("nosuchkey", "Invalid keyId 'nosuchkey'".to_owned()),
        (
            "1234abcd12ab34cd56ef1234567890ab",
            "Invalid keyId '1234abcd12ab34cd56ef1234567890ab'".to_owned(),
        ),
        ("mrk-1234", "Invalid keyId 'mrk-1234'".to_owned()),
        (NOBODY, absent(NOBODY)),
        (&upper, absent(&upper)),
        (
            "mrk-1234abcd12ab34cd56ef1234567890ab",
            absent("mrk-1234abcd12ab34cd56ef1234567890ab"),
        ),
        (&desk.arn(&format!("key/{NOBODY}")), absent(NOBODY)),
        (&desk.arn("key/foo"), "Invalid keyId foo".to_owned()),
        (
            &arn(THERE, &desk.account, &format!("key/{}", key.id)),
            format!("Invalid arn {THERE}"),
        ),
    ] {
        let code = "NotFoundException";
        refused(
            desk.kms.describe_key().key_id(name).send().await,
            code,
            &message,
        );
        refused(
            desk.kms.disable_key().key_id(name).send().await,
            code,
            &message,
        );
        refused(
            desk.kms.list_resource_tags().key_id(name).send().await,
            code,
            &message,
        );
        let call = desk.kms.encrypt().key_id(name).plaintext(Blob::new("x"));
        refused(call.send().await, code, &message);
    }
    for (name, message) in [
        (
            "alias/none",
            format!("Alias {} is not found.", desk.arn("alias/none")),
        ),
        (
            &desk.arn("alias/none"),
            format!("Alias {} is not found.", desk.arn("alias/none")),
        ),
        (
            &arn(THERE, &desk.account, "alias/none"),
            format!("Invalid arn {THERE}"),
        ),
    ] {
        refused(
            desk.kms.describe_key().key_id(name).send().await,
            "NotFoundException",
            &message,
        );
    }
    let message = "2 validation errors detected: Value '' at 'keyId' failed to satisfy \
        constraint: Member must have length greater than or equal to 1; Value '' at 'keyId' failed \
        to satisfy constraint: Member must satisfy regular expression pattern: ^\\p{ASCII}+$";
    refused(
        desk.kms.describe_key().key_id("").send().await,
        "ValidationException",
        message,
    );
}

/// Catches an alias taken by an operation that wants the key itself.
#[tokio::test]
async fn some_operations_take_no_alias() {
    let desk = Desk::dev("no alias").await;
    let key = desk.key().await;
    let kms = &desk.kms;
    kms.create_alias()
        .alias_name("alias/n")
        .target_key_id(&key.id)
        .send()
        .await
        .unwrap();
    let code = "InvalidArnException";
    let message = "Key Aliases are not supported for this operation.";
    for name in ["alias/n", &desk.arn("alias/n"), "alias/absent"] {
        refused(
            kms.schedule_key_deletion().key_id(name).send().await,
            code,
            message,
        );
        refused(
            kms.cancel_key_deletion().key_id(name).send().await,
            code,
            message,
        );
        refused(kms.enable_key().key_id(name).send().await, code, message);
        refused(kms.disable_key().key_id(name).send().await, code, message);
        let call = kms.update_key_description().key_id(name).description("x");
        refused(call.send().await, code, message);
        let call = kms
            .tag_resource()
            .key_id(name)
            .tags(crate::desk::tag("a", ""));
        refused(call.send().await, code, message);
        refused(
            kms.untag_resource().key_id(name).tag_keys("a").send().await,
            code,
            message,
        );
        refused(
            kms.list_resource_tags().key_id(name).send().await,
            code,
            message,
        );
        refused(
            kms.get_key_policy().key_id(name).send().await,
            code,
            message,
        );
        refused(
            kms.put_key_policy().key_id(name).policy("{}").send().await,
            code,
            message,
        );
        refused(
            kms.list_key_policies().key_id(name).send().await,
            code,
            message,
        );
        refused(
            kms.get_key_rotation_status().key_id(name).send().await,
            code,
            message,
        );
        let call = kms.enable_key_rotation().key_id(name);
        refused(call.send().await, code, message);
        let call = kms.disable_key_rotation().key_id(name);
        refused(call.send().await, code, message);
        let call = kms.rotate_key_on_demand().key_id(name);
        refused(call.send().await, code, message);
        let call = kms.list_key_rotations().key_id(name);
        refused(call.send().await, code, message);
    }
}
