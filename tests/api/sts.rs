//! STS on the same endpoint: GetCallerIdentity, which deployment tools ask first.

use keyrum_tests::http::Raw;
use keyrum_tests::sdk::account_of;
use keyrum_tests::shared_dev;

/// Catches an identity that is not that of the account the access key id selects.
#[tokio::test]
async fn callers_learn_who_they_are() {
    let endpoint = &shared_dev().await.endpoint;
    let account = account_of("sts");
    let scope = format!("{account}/20260101/us-east-1/sts/aws4_request");
    let value = format!(
        "AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date, Signature={}",
        "0".repeat(64)
    );
    let request = Raw::sts("Action=GetCallerIdentity&Version=2011-06-15")
        .header("authorization", &value)
        .header("x-amz-date", "20260101T000000Z");
    let answer = request.send(endpoint).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("text/xml"),
        "{answer:?}"
    );
    let text = answer.text();
    for part in [
        format!("<Arn>arn:aws:iam::{account}:root</Arn>"),
        format!("<Account>{account}</Account>"),
        format!("<UserId>{account}</UserId>"),
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"
            .to_owned(),
        "<RequestId>".to_owned(),
    ] {
        assert!(text.contains(&part), "{part} is not in {text}");
    }
}

/// Catches an action of STS that is answered as if it were another.
#[tokio::test]
async fn other_actions_are_unknown() {
    let endpoint = &shared_dev().await.endpoint;
    let request = Raw::sts("Action=AssumeRoleWithSAML&Version=2011-06-15");
    let answer = request.send(endpoint).await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("<Code>InvalidAction</Code>"),
        "{answer:?}"
    );
}
