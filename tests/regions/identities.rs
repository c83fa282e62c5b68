//! Declared identities on running Regions: they are changed in the first and known in all.

use std::path::Path;
use std::process::Output;

use keyrum_tests::sdk::{Failed, failed, signing_client};
use keyrum_tests::{Cluster, Dev, Shape, wait};
use serde_json::Value;

const EAST: &str = "us-east-1";
const IRELAND: &str = "eu-west-1";
const WEST: &str = "us-west-2";

const ADA: &str = "111122223333:user/ada";
const KEY: (&str, &str) = ("AKIAADA0000000000001", "a/secret+that=nobody.guesses/0001");

const FILE: &str = r#"
[[account]]
id = "111122223333"

[[account.user]]
name = "ada"
access_keys = [{ id = "AKIAADA0000000000001", secret = "a/secret+that=nobody.guesses/0001" }]
policies.all = '{"Statement": {"Effect": "Allow", "Action": ["kms:*", "sts:*"], "Resource": "*"}}'

[[account.user]]
name = "bob"

[[account]]
id = "444455556666"

[[account.role]]
name = "deploy"
tags = { tier = "production" }
trust = '{"Statement": {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:user/ada"}, "Action": "sts:AssumeRole"}}'
policies.all = '{"Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}}'
"#;

fn shape(folder: &Path) -> Shape {
    let file = folder.join("identities.toml");
    std::fs::write(&file, FILE).expect("a file of identities");
    Shape {
        regions: vec![(EAST, 3), (IRELAND, 3)],
        credentials: "declared",
        lines: format!("identities = {file:?}"),
        ..Shape::one_region(3)
    }
}

/// Runs `keyrum identity <args>`.
async fn identity(cluster: &Cluster, args: &[&str]) -> Output {
    let mut command = cluster.keyrum("identity", args);
    let run = move || command.output().expect("the program can be started");
    keyrum_consensus::world::Blocking::Threads.run(run).await
}

/// The same, which must succeed: its JSON.
async fn changed(cluster: &Cluster, args: &[&str]) -> Value {
    let output = identity(cluster, &[args, &["--json"]].concat()).await;
    assert!(output.status.success(), "identity {args:?}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What a call with an access key comes to at one address: the code of the error, if it is one.
async fn call(url: &str, region: &str, (id, secret): (&str, &str)) -> Option<String> {
    let kms = signing_client(url, region, (id, secret, None));
    match kms.list_keys().send().await.map_err(failed) {
        Ok(_) => None,
        Err(Failed::Answer(code, _)) => Some(code),
        Err(other) => Some(format!("{other:?}")),
    }
}

/// Waits until an access key has come to this at every node of these Regions.
async fn everywhere(cluster: &Cluster, regions: &[&str], key: (&str, &str), code: Option<&str>) {
    let status = cluster.status().await;
    let ours = status.iter().filter(|line| line.process == "running");
    for line in ours {
        let region = line.node.split('/').next().expect("REGION/ID");
        if !regions.contains(&region) {
            continue;
        }
        let what = format!("{} that says {code:?} of {}", line.node, key.0);
        wait::until_true(&what, wait::LONG, async || {
            call(&line.api, region, key).await.as_deref() == code
        })
        .await;
    }
}

const UNKNOWN: Option<&str> = Some("UnrecognizedClientException");

/// Catches an identity that does not reach a Region, be it because nodes were killed or frozen, or
/// because the Region joined later; a change that is said to be everywhere and is not; a right that
/// comes back with a restart; and a secret that stands in the clear on a disk or in the history.
#[tokio::test(flavor = "multi_thread")]
async fn identities_reach_every_region() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut cluster = Cluster::up(&shape(folder.path())).await;
    let both = [EAST, IRELAND];
    everywhere(&cluster, &both, KEY, None).await;
    let wrong = Some("InvalidSignatureException");
    everywhere(&cluster, &both, (KEY.0, "another"), wrong).await;
    everywhere(&cluster, &both, ("AKIANOBODY0000000001", "x"), UNKNOWN).await;

    // The leader of the home, and a node of the other Region, are gone.
    let leader = cluster.leader().await;
    cluster.command(&["kill", &leader]).await;
    cluster.command(&["kill", &format!("{IRELAND}/2")]).await;
    let made = wait::until("access key", wait::LONG, async || {
        let args = ["create-access-key", ADA, "--json"];
        let output = identity(&cluster, &args).await;
        let made: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        made.filter(|_| output.status.success())
    })
    .await;
    assert_eq!(made["waits"], serde_json::json!([]), "{made}");
    let new = &made["access_key"];
    let id = new["id"].as_str().expect("an id").to_owned();
    let secret = new["secret"].as_str().expect("a secret").to_owned();
    everywhere(&cluster, &both, (&id, &secret), None).await;
    cluster.command(&["restart", &leader]).await;
    cluster.command(&["restart", &format!("{IRELAND}/2")]).await;
    everywhere(&cluster, &both, (&id, &secret), None).await;

    // A Region that cannot be told is named, and told when it is back.
    for node in 1..=3 {
        cluster
            .command(&["pause", &format!("{IRELAND}/{node}")])
            .await;
    }
    let deleted = changed(&cluster, &["delete-access-key", &id]).await;
    assert_eq!(deleted["has"], serde_json::json!([EAST]), "{deleted}");
    assert_eq!(deleted["waits"], serde_json::json!([IRELAND]));
    everywhere(&cluster, &[EAST], (&id, &secret), UNKNOWN).await;
    for node in 1..=3 {
        cluster
            .command(&["resume", &format!("{IRELAND}/{node}")])
            .await;
    }
    everywhere(&cluster, &both, (&id, &secret), UNKNOWN).await;

    cluster.command(&["add-region", WEST, "--nodes", "1"]).await;
    everywhere(&cluster, &[WEST], KEY, None).await;
    everywhere(&cluster, &[WEST], (&id, &secret), UNKNOWN).await;
    let listed = identity(&cluster, &["list"]).await;
    let listed = String::from_utf8(listed.stdout).expect("text");
    for part in ["arn:aws:iam::111122223333:user/ada", KEY.0, "role/deploy"] {
        assert!(listed.contains(part), "{part} is not in {listed}");
    }
    let elsewhere = identity(&cluster, &["show", "111122223333:user/eve"]).await;
    assert!(!elsewhere.status.success());

    // What was taken away stays away.
    changed(&cluster, &["delete", "111122223333:user/bob"]).await;
    changed(&cluster, &["disable-access-key", KEY.0]).await;
    everywhere(&cluster, &[EAST, IRELAND, WEST], KEY, UNKNOWN).await;
    cluster.stop().await;
    cluster.start().await;
    let printed = cluster.output();
    for part in [
        "user bob of account 111122223333 was deleted and stays so",
        "user ada of account 111122223333 is otherwise than in the file (access_keys)",
    ] {
        assert!(printed.contains(part), "{part:?} is not in: {printed}");
    }
    everywhere(&cluster, &[EAST, IRELAND, WEST], KEY, UNKNOWN).await;
    changed(&cluster, &["enable-access-key", KEY.0]).await;
    everywhere(&cluster, &[EAST, IRELAND, WEST], KEY, None).await;

    let history = cluster
        .keyrum("log", &["show", "--region", EAST, "--json"])
        .output();
    let history = String::from_utf8(history.expect("it runs").stdout).expect("text");
    assert!(history.contains("IdentityPut") && !history.contains(KEY.1));
    cluster.stop().await;
    let data = cluster.data();
    for needle in [KEY.1, secret.as_str()] {
        assert_eq!(files_with(&data, needle.as_bytes()), [""; 0]);
    }
}

/// The files below a folder that contain some bytes.
fn files_with(folder: &Path, needle: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_with(&path, needle));
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes.windows(needle.len()).any(|part| part == needle)
        {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Acts as a role of another account in both Regions, with plain clients.
const SCRIPT: &str = r#"
import sys, boto3, botocore.exceptions
url, key, secret = sys.argv[1:]
def client(name, region, credentials=None):
    c = credentials or {'AccessKeyId': key, 'SecretAccessKey': secret, 'SessionToken': None}
    session = boto3.Session(c['AccessKeyId'], c['SecretAccessKey'], c['SessionToken'], region)
    return session.client(name, endpoint_url=url)
def code(call, *args, **more):
    try:
        call(*args, **more)
    except botocore.exceptions.ClientError as error:
        return error.response['Error']['Code'], error.response['ResponseMetadata']['HTTPStatusCode']
role = 'arn:aws:iam::444455556666:role/deploy'
REGIONS = ['us-east-1', 'eu-west-1']
for region in REGIONS:
    sts = client('sts', region)
    who = sts.get_caller_identity()
    assert who['Arn'] == 'arn:aws:iam::111122223333:user/ada', who
    assert who['UserId'].startswith('AIDA'), who
    assumed = sts.assume_role(RoleArn=role, RoleSessionName='build', DurationSeconds=900)
    session = assumed['Credentials']
    arn = 'arn:aws:sts::444455556666:assumed-role/deploy/build'
    assert assumed['AssumedRoleUser']['Arn'] == arn, assumed
    for other in REGIONS:
        who = client('sts', other, session).get_caller_identity()
        assert (who['Account'], who['Arn']) == ('444455556666', arn), who
        assert who['UserId'] == assumed['AssumedRoleUser']['AssumedRoleId'], who
        kms = client('kms', other, session)
        made = kms.create_key()['KeyMetadata']
        assert made['AWSAccountId'] == '444455556666', made
        kms.encrypt(KeyId=made['KeyId'], Plaintext=b'x')
        broken = dict(session, SessionToken=session['SessionToken'][:-8] + 'AAAAAAA=')
        assert code(client('kms', other, broken).list_keys) == ('UnrecognizedClientException', 400)
        broken = dict(session, SecretAccessKey='other')
        assert code(client('kms', other, broken).list_keys) == ('InvalidSignatureException', 400)
        own = client('sts', region).get_session_token(DurationSeconds=900)['Credentials']
        who = client('sts', other, own).get_caller_identity()
        assert who['Arn'] == 'arn:aws:iam::111122223333:user/ada', who
        client('kms', other, own).list_keys()
    assert code(sts.assume_role, RoleArn=role + 's', RoleSessionName='build') == ('AccessDenied', 403)
    again = client('sts', region, session)
    assert code(again.assume_role, RoleArn=role, RoleSessionName='build') == ('AccessDenied', 403)
    assert code(again.get_session_token) == ('AccessDenied', 403)
    assert code(sts.assume_role, RoleArn=role, RoleSessionName='build', Policy='{}') == ('MalformedPolicyDocument', 400)
    assert code(sts.assume_role, RoleArn=role, RoleSessionName='build', DurationSeconds=7200) == ('ValidationError', 400)
    wrong = client('sts', region, {'AccessKeyId': key, 'SecretAccessKey': 'x', 'SessionToken': None})
    assert code(wrong.get_caller_identity) == ('SignatureDoesNotMatch', 403)
"#;

/// Catches temporary credentials that a plain client cannot get or use, in either Region, or that are
/// taken although they were changed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python3 with boto3"]
async fn boto3_acts_as_a_role_in_every_region() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("identities.toml");
    std::fs::write(&file, FILE).expect("a file of identities");
    let file = file.display().to_string();
    let dev = Dev::start(&["--ephemeral", "--identities", &file]).await;
    let url = dev.ready.endpoint.clone();
    let run = move || {
        let mut python = std::process::Command::new("python3");
        python.args(["-c", SCRIPT, &url, KEY.0, KEY.1]).output()
    };
    let output = keyrum_consensus::world::Blocking::Threads.run(run).await;
    let output = output.expect("python3 can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
