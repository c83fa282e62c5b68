//! Records that are required.

use std::os::unix::fs::symlink;

use keyrum_tests::Dev;
use keyrum_tests::http::Raw;
use keyrum_tests::sdk::HERE;

/// Catches a call that is answered although its record cannot be written, or carried out although it
/// is known that no record can be.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_record_there_is_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    // It takes nothing.
    symlink("/dev/full", folder.path().join("us-east-1-1.jsonl")).unwrap();
    let path = folder.path().to_str().unwrap();
    let args = ["--ephemeral", "--regions", HERE, "--nodes", "1"];
    let args = [&args[..], &["--audit", path, "--audit-required"]].concat();
    let dev = Dev::start(&args).await;
    let url = &dev.ready.endpoint;
    let ask = async |operation: &str| Raw::kms(operation, "{}").send(url).await.unwrap();

    let first = ask("CreateKey").await;
    assert_eq!(first.status.as_u16(), 500);
    let message = first.json()["message"].as_str().unwrap().to_owned();
    let known = message.starts_with("The call was refused, since the audit record");
    if !known {
        assert_eq!(first.header("x-keyrum-outcome"), Some("unknown"));
        assert!(
            message.starts_with("The call was carried out, but the audit record"),
            "{message}"
        );
    }
    for operation in ["CreateKey", "ListKeys", "GenerateRandom"] {
        let refused = ask(operation).await;
        assert_eq!(refused.status.as_u16(), 500);
        let body = refused.json();
        assert_eq!(body["__type"], "DependencyTimeoutException");
        let message = body["message"].as_str().unwrap();
        assert!(message.ends_with("Nothing was changed."), "{message}");
        assert_eq!(refused.header("x-keyrum-outcome"), None);
    }
}

/// Catches an answer that is given before its record is in the file, when records are required.
#[tokio::test(flavor = "multi_thread")]
async fn with_an_answer_there_is_a_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let args = [
        "--ephemeral",
        "--regions",
        HERE,
        "--audit",
        path,
        "--audit-required",
    ];
    let dev = Dev::start(&args).await;
    let url = &dev.ready.endpoint;
    let made = Raw::kms("CreateKey", "{}").send(url).await.unwrap().json();
    let key = &made["KeyMetadata"]["KeyId"];
    let on_key = serde_json::json!({ "KeyId": key }).to_string();
    for operation in [
        "DescribeKey",
        "DisableKey",
        "DisableKey",
        "Encrypt",
        "EnableKey",
    ] {
        let answer = Raw::kms(operation, on_key.clone()).send(url).await.unwrap();
        let id = answer.header("x-amzn-requestid").unwrap().to_owned();
        let records = super::trail::read(folder.path());
        let told = records
            .iter()
            .filter(|record| record["requestID"] == id.as_str());
        let told: Vec<_> = told.collect();
        assert_eq!(told.len(), 1, "{operation}");
        assert_eq!(told[0]["eventName"], operation);
        assert_eq!(told[0]["errorCode"].is_null(), answer.status.is_success());
    }
}
