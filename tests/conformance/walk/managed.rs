//! AWS managed keys.

use serde_json::{Value, json};

use crate::kms::Kms;
use crate::prepared::{SYMMETRIC, blob, new_key};

pub(super) async fn walk(kms: &Kms) {
    let own = new_key(kms, SYMMETRIC, false).await;
    let manager = async |answer: &Value| answer["KeyMetadata"]["KeyManager"].clone();
    let ids = [own.into(), "alias/aws/s3".into()];
    kms.vary("DescribeKey", &json!({}), "/KeyId", &ids, manager)
        .await;
    // Its service uses it, nobody else.
    let through = Kms {
        via: Some("s3"),
        ..kms.clone()
    };
    let body = json!({"KeyId": "alias/aws/s3", "Plaintext": blob("x")});
    let denied = "AccessDeniedException";
    kms.no("Encrypt", body.clone(), denied).await;
    let sealed = through.ok("Encrypt", body).await;
    let body = json!({"CiphertextBlob": sealed["CiphertextBlob"]});
    kms.no("Decrypt", body.clone(), denied).await;
    assert_eq!(through.ok("Decrypt", body).await["Plaintext"], blob("x"));
}
