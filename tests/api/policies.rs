//! Key policies: the default one, and refusals.

use keyrum_tests::sdk::refused;

use crate::desk::Desk;

/// What the real service gives a key without a policy, but for the account.
pub(crate) const DEFAULT: &str = r#"{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:aws:iam::ACCOUNT:root"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}"#;

/// A policy with this text for its statements.
fn policy(statements: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":{statements}}}"#)
}

/// Catches a policy that is taken although the real service refuses it, and one that is changed by
/// a refusal.
#[tokio::test]
async fn bad_policies_are_refused() {
    let desk = Desk::dev("bad policies").await;
    let key = desk.key().await;
    let malformed = "MalformedPolicyDocumentException";
    let principal = |arn: &str| {
        format!(
            r#"{{"Effect":"Allow","Principal":{{"AWS":"{arn}"}},"Action":"kms:*","Resource":"*"}}"#
        )
    };
    let other = policy(&format!(
        "[{}]",
        principal("arn:aws:iam::999999999999:root")
    ));
    for (text, message) in [
        (
            other.as_str(),
            "The new key policy will not allow you to update the key policy in the future.",
        ),
        (
            &policy(r#"[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]"#),
            "Policy contains a statement with no principal.",
        ),
        (
            &policy(&format!("[{}]", principal("nobody"))),
            "Policy contains a statement with one or more invalid principals.",
        ),
    ] {
        let answer = desk
            .kms
            .put_key_policy()
            .key_id(&key.id)
            .policy(text)
            .send()
            .await;
        refused(answer, malformed, message);
        refused(
            desk.kms.create_key().policy(text).send().await,
            malformed,
            message,
        );
    }
    // Own words here, but the same error.
    for text in [&policy("[]"), "{", "[]", "text"] {
        let call = desk.kms.put_key_policy().key_id(&key.id).policy(text);
        let error = call.send().await.unwrap_err().into_service_error();
        assert!(
            error.is_malformed_policy_document_exception(),
            "{text}: {error:?}"
        );
    }
    let policy = desk
        .kms
        .get_key_policy()
        .key_id(&key.id)
        .send()
        .await
        .unwrap();
    assert_eq!(
        policy.policy(),
        Some(DEFAULT.replace("ACCOUNT", &desk.account).as_str())
    );
    // Whoever takes the risk may lock themselves out.
    let call = desk.kms.put_key_policy().key_id(&key.id).policy(&other);
    call.bypass_policy_lockout_safety_check(true)
        .send()
        .await
        .unwrap();
}

/// Catches a policy's name that is taken for another.
#[tokio::test]
async fn policies_have_one_name() {
    let desk = Desk::dev("policy names").await;
    let key = desk.key().await;
    for name in ["other", "AWS_RAM"] {
        let answer = desk
            .kms
            .get_key_policy()
            .key_id(&key.id)
            .policy_name(name)
            .send()
            .await;
        refused(answer, "NotFoundException", "No such policy exists");
    }
    let text = DEFAULT.replace("ACCOUNT", &desk.account);
    let put = desk.kms.put_key_policy().key_id(&key.id).policy(&text);
    refused(
        put.clone().policy_name("AWS_RAM").send().await,
        "ValidationException",
        "The AWS_RAM policy can only be managed by the RAM service",
    );
    let error = put
        .policy_name("other")
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert_eq!(error.meta().code(), Some("ValidationException"));
}
