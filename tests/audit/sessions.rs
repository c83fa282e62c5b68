//! Records of temporary credentials: who asked for what, and no secret.

use aws_sdk_kms::config::Credentials;
use keyrum_tests::http::Raw;
use keyrum_tests::sdk::HERE;
use keyrum_tests::{Dev, wait};
use serde_json::{Value, json};

use crate::trail::{read, text};

const SECRETS: [&str; 2] = ["a/secret+of=adas/0001", "a/secret+of=nobodys/0002"];

const IDENTITIES: &str = r#"
[[account]]
id = "111122223333"
[[account.user]]
name = "ada"
access_keys = [{ id = "AKIAADA0000000000001", secret = "a/secret+of=adas/0001" }]
policies.own = '{"Statement": {"Effect": "Allow", "Action": "sts:*", "Resource": "*"}}'
[[account.user]]
name = "nobody"
access_keys = [{ id = "AKIANOBODY0000000002", secret = "a/secret+of=nobodys/0002" }]
[[account.role]]
name = "worker"
trust = '{"Statement": {"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "sts:AssumeRole", "Condition": {"StringEquals": {"sts:ExternalId": "word"}}}}'
policies.own = '{"Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}}'
"#;

const ROLE: &str = "arn:aws:iam::111122223333:role/worker";
const POLICY: &str = r#"{"Statement":{"Effect":"Allow","Action":"kms:ListKeys","Resource":"*"}}"#;

/// What a session signs with.
fn session(xml: &str) -> Credentials {
    let part = |name: &str| {
        let (_, rest) = xml.split_once(&format!("<{name}>")).expect(xml);
        rest.split_once(&format!("</{name}>"))
            .expect(xml)
            .0
            .to_owned()
    };
    let token = Some(part("SessionToken"));
    Credentials::new(
        part("AccessKeyId"),
        part("SecretAccessKey"),
        token,
        None,
        "tests",
    )
}

/// Catches a record of AssumeRole or GetSessionToken that lacks who asked for what, with which success, or
/// that tells a secret or a session's token; and a call with temporary credentials that does not tell whose
/// session it was.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_told_without_their_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("identities.toml");
    std::fs::write(&file, IDENTITIES).unwrap();
    let trail = folder.path().join("trail");
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (file, into) = (path(&file), path(&trail));
    let args = ["--nodes", "1", "--regions", HERE, "--identities", &file];
    let args = [&["--ephemeral", "--audit", &into][..], &args].concat();
    let dev = Dev::start(&args).await;
    let url = dev.ready.endpoint.as_str();
    let user = |id, secret| Credentials::new(id, secret, None, None, "tests");
    let ada = user("AKIAADA0000000000001", SECRETS[0]);
    let nobody = user("AKIANOBODY0000000002", SECRETS[1]);
    let sts = async |by: &Credentials, form: &str| {
        let request = Raw::sts(format!("{form}&Version=2011-06-15"));
        let request = request.header("user-agent", "sessions");
        let request = request.signed_with(by, (url, HERE, "sts"));
        let answer = request.send(url).await.unwrap();
        (answer.status.as_u16(), answer.text())
    };
    let assume = format!("Action=AssumeRole&RoleArn={ROLE}&RoleSessionName=build");

    let form = format!("{assume}&DurationSeconds=900&ExternalId=word&Policy={POLICY}");
    let (status, role) = sts(&ada, &form).await;
    assert_eq!(status, 200, "{role}");
    let role = session(&role);
    let (status, token) = sts(&ada, "Action=GetSessionToken&DurationSeconds=1000").await;
    assert_eq!(status, 200, "{token}");
    let token = session(&token);
    for (by, form, status, code) in [
        (&nobody, &form, 403, "AccessDenied"),
        (&ada, &assume, 403, "AccessDenied"),
        (
            &ada,
            &format!("{assume}&ExternalId=word&Policy=x"),
            400,
            "MalformedPolicyDocument",
        ),
        (
            &token,
            &"Action=GetSessionToken".to_owned(),
            403,
            "AccessDenied",
        ),
    ] {
        let answer = sts(by, form).await;
        assert_eq!(answer.0, status, "{answer:?}");
        assert!(
            answer.1.contains(&format!("<Code>{code}</Code>")),
            "{answer:?}"
        );
    }
    let list = Raw::kms("ListKeys", "{}").signed_with(&role, (url, HERE, "kms"));
    assert_eq!(list.send(url).await.unwrap().status, 200);

    let records = wait::until("records of all calls", wait::LONG, async || {
        let records = read(&trail);
        let last = records
            .iter()
            .any(|record| record["eventName"] == "ListKeys");
        last.then_some(records)
    });
    let records = records.await;
    drop(dev);
    let of_sts: Vec<_> = records
        .iter()
        .filter(|record| record["eventSource"] == "sts.amazonaws.com")
        .collect();
    let denied = |who: &str, action: &str, on: &str| {
        let user = format!("arn:aws:iam::111122223333:user/{who}");
        format!("User: {user} is not authorized to perform: sts:{action} on resource: {on}")
    };
    let asked = json!({"roleArn": ROLE, "roleSessionName": "build", "durationSeconds": 900, "externalId": "word", "policy": POLICY});
    let bare = json!({"roleArn": ROLE, "roleSessionName": "build"});
    let malformed =
        json!({"roleArn": ROLE, "roleSessionName": "build", "externalId": "word", "policy": "x"});
    let expected = [
        (
            "AssumeRole",
            "ada",
            asked.clone(),
            Value::Null,
            String::new(),
        ),
        (
            "GetSessionToken",
            "ada",
            json!({"durationSeconds": 1000}),
            Value::Null,
            String::new(),
        ),
        (
            "AssumeRole",
            "nobody",
            asked,
            "AccessDenied".into(),
            denied("nobody", "AssumeRole", ROLE),
        ),
        (
            "AssumeRole",
            "ada",
            bare,
            "AccessDenied".into(),
            denied("ada", "AssumeRole", ROLE),
        ),
        (
            "AssumeRole",
            "ada",
            malformed,
            "MalformedPolicyDocument".into(),
            "*".to_owned(),
        ),
        (
            "GetSessionToken",
            "ada",
            Value::Null,
            "AccessDenied".into(),
            "Cannot call GetSessionToken with session credentials".to_owned(),
        ),
    ];
    assert_eq!(of_sts.len(), expected.len(), "{of_sts:#?}");
    for (record, (name, who, asked, code, message)) in of_sts.iter().zip(expected) {
        assert_eq!(record["eventName"], name, "{record}");
        assert_eq!(record["requestParameters"], asked, "{record}");
        assert_eq!(record["errorCode"], code, "{record}");
        if message != "*" {
            assert_eq!(text(record, "errorMessage"), message, "{record}");
        }
        let by = &record["userIdentity"];
        assert_eq!(
            (&by["type"], &by["userName"]),
            (&"IAMUser".into(), &who.into())
        );
        assert_eq!(by["arn"], format!("arn:aws:iam::111122223333:user/{who}"));
        assert_eq!(record["userAgent"], "sessions");
        assert_eq!(record["recipientAccountId"], "111122223333");
        if !code.is_null() {
            assert_eq!(record["responseElements"], Value::Null);
        }
    }
    // The answers as they may be told: whole, and no member more.
    let mut answered = [0, 1].map(|place: usize| of_sts[place]["responseElements"].clone());
    for answer in &mut answered {
        let until = answer["credentials"]["expiration"].take();
        assert!(
            until.as_str().is_some_and(|until| until.ends_with('Z')),
            "{until}"
        );
        if let Some(user) = answer.get_mut("assumedRoleUser") {
            let id = user["assumedRoleId"].take();
            assert!(id.as_str().is_some_and(|id| id.ends_with(":build")), "{id}");
        }
    }
    let credentials =
        |of: &Credentials| json!({"accessKeyId": of.access_key_id(), "expiration": null});
    assert_eq!(
        answered[0],
        json!({
            "credentials": credentials(&role),
            "assumedRoleUser": {
                "arn": "arn:aws:sts::111122223333:assumed-role/worker/build",
                "assumedRoleId": null,
            },
        })
    );
    assert_eq!(answered[1], json!({"credentials": credentials(&token)}));
    let used = records
        .iter()
        .find(|record| record["eventName"] == "ListKeys");
    let by = &used.expect("it was waited for")["userIdentity"];
    assert_eq!(by["type"], "AssumedRole");
    assert_eq!(by["accessKeyId"], role.access_key_id());
    assert_eq!(by["sessionContext"]["sessionIssuer"]["arn"], ROLE);

    let mut secrets = SECRETS.map(str::to_owned).to_vec();
    for session in [&role, &token] {
        secrets.push(session.secret_access_key().to_owned());
        secrets.push(session.session_token().expect("a token").to_owned());
    }
    for entry in std::fs::read_dir(&trail).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{secret} is in a record");
        }
    }
}
