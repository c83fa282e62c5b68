//! Requests that no SDK sends.

use keyrum_tests::http::{Answer, Raw};
use keyrum_tests::sdk::{HERE, account_of};
use keyrum_tests::shared_dev;

async fn send(request: &Raw) -> Answer {
    request.send(&shared_dev().await.endpoint).await.unwrap()
}

async fn kms(operation: &str, body: &str) -> Answer {
    send(&Raw::kms(operation, body).signed(&account_of("raw"), HERE)).await
}

/// Catches headers that every answer of the real service has and this one lacks, and a body where
/// it sends none.
#[tokio::test]
async fn answers_look_like_the_real_ones() {
    let made = kms("CreateKey", "{}").await;
    let missing = kms("DescribeKey", r#"{"KeyId":"x"}"#).await;
    let body = format!(r#"{{"KeyId":{}}}"#, made.json()["KeyMetadata"]["KeyId"]);
    let nothing = kms("DisableKey", &body).await;
    let empty = kms(
        "TagResource",
        &format!("{},\"Tags\":[]}}", body.trim_end_matches('}')),
    )
    .await;
    for (answer, status) in [
        (&made, 200),
        (&missing, 400),
        (&nothing, 200),
        (&empty, 200),
    ] {
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/x-amz-json-1.1")
        );
        assert_eq!(
            answer.header("cache-control"),
            Some("no-cache, no-store, must-revalidate, private")
        );
        assert_eq!(
            (answer.header("expires"), answer.header("pragma")),
            (Some("0"), Some("no-cache"))
        );
        assert_eq!(answer.header("x-amzn-errortype"), None);
        let id = answer.header("x-amzn-requestid").unwrap();
        let dashes: Vec<_> = id.match_indices('-').map(|(at, _)| at).collect();
        assert_eq!((id.len(), dashes), (36, vec![8, 13, 18, 23]), "{id}");
    }
    assert_eq!(
        missing.text(),
        r#"{"__type":"NotFoundException","message":"Invalid keyId 'x'"}"#
    );
    assert!(nothing.body.is_empty() && empty.body.is_empty());
    assert_ne!(
        made.header("x-amzn-requestid"),
        missing.header("x-amzn-requestid")
    );
    let listed = kms("ListKeys", "{}").await.json();
    assert_eq!(listed["KeyCount"], listed["Keys"].as_array().unwrap().len());
}

/// Catches a request that is not one and gets another answer than the real service's.
#[tokio::test]
async fn broken_requests_are_named() {
    let target = |name: &str| {
        let mut request = Raw::kms("ListKeys", "{}");
        request.headers[1].1 = name.to_owned();
        request
    };
    for name in [
        "TrentService.Nonsense",
        "Nonsense",
        "TrentService.listKeys",
        "",
    ] {
        send(&target(name))
            .await
            .is_error(400, "UnknownOperationException", "");
    }
    let mut request = target("");
    request.headers.remove(1);
    send(&request)
        .await
        .is_error(400, "UnknownOperationException", "");
    for body in [
        "",
        "{",
        "[]",
        "null",
        "7",
        "{\"Limit\":1",
        "{} {}",
        "\u{feff}{}",
        "{\"a\":\u{1}}",
    ] {
        kms("ListKeys", body)
            .await
            .is_error(400, "SerializationException", "");
    }
    let bytes = Raw::kms("ListKeys", b"{\"Marker\":\"\xff\"}".to_vec());
    send(&bytes)
        .await
        .is_error(400, "SerializationException", "");
    for (operation, body, message) in [
        (
            "ListKeys",
            r#"{"Limit":"7"}"#,
            "STRING_VALUE can not be converted to an Integer",
        ),
        (
            "DescribeKey",
            r#"{"KeyId":7}"#,
            "NUMBER_VALUE can not be converted to a String",
        ),
        (
            "DescribeKey",
            r#"{"KeyId":true}"#,
            "TRUE_VALUE can not be converted to a String",
        ),
        ("CreateKey", r#"{"Tags":"x"}"#, "Expected list or null"),
        (
            "DescribeKey",
            r#"{"KeyId":{}}"#,
            "Start of structure or map found where not expected.",
        ),
    ] {
        kms(operation, body)
            .await
            .is_error(400, "SerializationException", message);
    }
    // Members that nobody knows are passed over, null ones are absent.
    assert_eq!(
        kms("ListKeys", r#"{"Nobody":[{"knows":"me"}],"Limit":null}"#)
            .await
            .status,
        200
    );
}

/// Catches an operation whose missing members are not told, of those that work and of those that
/// do not yet.
#[tokio::test]
async fn missing_members_are_told() {
    let null = |path: &str| {
        format!("Value null at '{path}' failed to satisfy constraint: Member must not be null")
    };
    let one = |path: &str| format!("1 validation error detected: {}", null(path));
    let two = |a: &str, b: &str| format!("2 validation errors detected: {}; {}", null(a), null(b));
    for (operation, body, message) in [
        ("DescribeKey", "{}", one("keyId")),
        (
            "CreateAlias",
            r#"{"AliasName":"alias/a"}"#,
            one("targetKeyId"),
        ),
        ("DeleteAlias", "{}", one("aliasName")),
        ("UntagResource", r#"{"KeyId":"x"}"#, one("tagKeys")),
        (
            "TagResource",
            r#"{"KeyId":"x","Tags":[{"TagKey":"a"}]}"#,
            one("tags.1.member.tagValue"),
        ),
        ("PutKeyPolicy", r#"{"KeyId":"x"}"#, one("policy")),
        (
            "UpdateKeyDescription",
            r#"{"KeyId":"x"}"#,
            one("description"),
        ),
        (
            "Encrypt",
            r#"{"KeyId":"x"}"#,
            "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: \
             Member must not be null"
                .to_owned(),
        ),
        (
            "ReEncrypt",
            r#"{"CiphertextBlob":"eA=="}"#,
            one("destinationKeyId"),
        ),
        ("EnableKeyRotation", "{}", one("keyId")),
        ("GetPublicKey", "{}", one("keyId")),
        ("ReplicateKey", r#"{"KeyId":"x"}"#, one("replicaRegion")),
        (
            "Sign",
            r#"{"KeyId":"x","SigningAlgorithm":"ED25519_SHA_512"}"#,
            "1 validation error detected: Value at 'message' failed to satisfy constraint: \
             Member must not be null"
                .to_owned(),
        ),
        (
            "Verify",
            r#"{"KeyId":"x","Message":"eA==","SigningAlgorithm":"ED25519_SHA_512"}"#,
            one("signature"),
        ),
        (
            "VerifyMac",
            r#"{"KeyId":"x","Message":"eA==","MacAlgorithm":"HMAC_SHA_256"}"#,
            one("mac"),
        ),
        (
            "DeriveSharedSecret",
            r#"{"KeyId":"x","KeyAgreementAlgorithm":"ECDH"}"#,
            one("publicKey"),
        ),
        (
            "Encapsulate",
            r#"{"KeyId":"x"}"#,
            one("encapsulationAlgorithm"),
        ),
        (
            "Decapsulate",
            r#"{"KeyId":"x","EncapsulationAlgorithm":"ML_KEM"}"#,
            one("sharedSecretCiphertextBlob"),
        ),
        (
            "GenerateDataKeyPair",
            r#"{"KeyId":"x"}"#,
            one("keyPairSpec"),
        ),
        // Not there yet, but a bad request is told so nevertheless.
        ("ListGrants", "{}", one("keyId")),
        ("DeleteImportedKeyMaterial", "{}", one("keyId")),
    ] {
        kms(operation, body)
            .await
            .is_error(400, "ValidationException", &message);
    }
    // More than one is told at once, in the model's order or another.
    let answer = kms("CreateAlias", "{}").await;
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    let both = [
        two("aliasName", "targetKeyId"),
        two("targetKeyId", "aliasName"),
    ];
    assert!(both.contains(&message), "{message}");
}

/// Catches an operation of the real service that is taken for unknown.
#[tokio::test]
async fn operations_of_later_days_are_known() {
    let answer = kms("DescribeCustomKeyStores", "{}").await;
    let kind = answer.json()["__type"].as_str().unwrap().to_owned();
    assert_eq!(
        (answer.status.as_u16(), kind.as_str()),
        (400, "UnsupportedOperationException")
    );
}

/// Catches a body without a bound, and a connection that is no use afterwards.
#[tokio::test]
async fn bodies_have_a_bound() {
    let mut body = b"{\"Description\":\"".to_vec();
    body.resize(32 << 20, b'x');
    let answer = Raw::kms("CreateKey", body)
        .send(&shared_dev().await.endpoint)
        .await;
    // The answer may come before the last byte was taken, and the connection end with it.
    if let Ok(answer) = answer {
        assert!([400, 413].contains(&answer.status.as_u16()), "{answer:?}");
    }
    assert_eq!(kms("ListKeys", "{}").await.status, 200);
}

/// Catches HTTP/2 without TLS that does not work, alone or for many requests.
#[tokio::test]
async fn http2_works_with_prior_knowledge() {
    let mut request = Raw::kms("GenerateRandom", r#"{"NumberOfBytes":8}"#);
    request.http2 = true;
    let answer = send(&request).await;
    assert_eq!(
        (answer.status.as_u16(), answer.version),
        (200, hyper::Version::HTTP_2)
    );
    assert!(answer.json()["Plaintext"].is_string());
    request.body = b"{".to_vec();
    send(&request)
        .await
        .is_error(400, "SerializationException", "");
}

/// Catches a signature's scope of another service, and a header that is none.
#[tokio::test]
async fn scopes_are_checked() {
    let scope = "test/20260101/us-east-1/s3/aws4_request";
    let value = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00");
    let request = Raw::kms("ListKeys", "{}").header("authorization", &value);
    send(&request).await.is_error(
        400,
        "InvalidSignatureException",
        "Credential should be scoped to correct service: 'kms'. ",
    );
    let request = Raw::kms("ListKeys", "{}").header("authorization", "Bearer me");
    let answer = send(&request).await;
    assert_eq!(
        answer.json()["__type"],
        "IncompleteSignatureException",
        "{answer:?}"
    );
}

/// Catches a `dev` that cannot tell how it is.
#[tokio::test]
async fn dev_tells_its_health() {
    let mut request = Raw::kms("", "");
    request.method = "GET";
    request.path = "/_keyrum/health".to_owned();
    request.headers.clear();
    let answer = send(&request).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["status"]),
        (200, &"ok".into())
    );
}
