//! Request quotas.

use std::time::Duration;

use aws_sdk_kms::config::retry::RetryConfig;
use futures_util::future::join_all;
use keyrum_consensus::world::{Blocking, World};
use keyrum_tests::http::Raw;
use keyrum_tests::sdk::{self, HERE};
use keyrum_tests::{Cluster, Dev, Shape, wait};
use serde_json::{Value, json};

const ACCOUNT: &str = "111122223333";
const OTHER: &str = "444455556666";

/// Calls of one burst: more than any quota of these tests.
const CALLS: u64 = 5;

fn second() -> u64 {
    World::real().clock.now().0 / 1000
}

struct Caller<'a> {
    url: &'a str,
    account: &'a str,
    reads: &'a str,
}

impl Caller<'_> {
    /// Whether a call passes; all others must be throttled.
    async fn passes(&self, operation: &str, body: &Value) -> bool {
        let request = Raw::kms(operation, body.to_string()).signed(self.account, HERE);
        let request = request.header("x-keyrum-consistency", self.reads);
        let answer = request.send(self.url).await.unwrap();
        if answer.status.as_u16() != 400 || answer.json()["__type"] != "ThrottlingException" {
            let refused = answer.status.as_u16() == 400;
            let dry = refused && answer.json()["__type"] == "DryRunOperationException";
            assert!(answer.status.is_success() || dry, "{answer:?}");
            return true;
        }
        answer.is_error(
            400,
            "ThrottlingException",
            "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.",
        );
        false
    }

    /// How many of many calls pass that all fall into one second.
    async fn in_a_second(&self, operation: &str, body: &Value) -> u64 {
        wait::until("burst within a second", wait::LONG, async || {
            let before = second();
            wait::until_true("next second", wait::SHORT, async || second() > before).await;
            let begun = second();
            let mut passed = 0;
            for _ in 0..CALLS {
                passed += u64::from(self.passes(operation, body).await);
            }
            (second() == begun).then_some(passed)
        })
        .await
    }
}

/// A new symmetric key's id.
async fn key(url: &str) -> Value {
    let made = Raw::kms("CreateKey", "{}").signed(ACCOUNT, HERE);
    let made = made.send(url).await.unwrap().json();
    made["KeyMetadata"]["KeyId"].clone()
}

/// Catches quotas that are not kept or not exact, that draw from another account's or operation's, that
/// spare dry runs, and of which each node has one of its own for what comes through the one endpoint.
#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_the_quota_are_throttled() {
    // 100,000 calls a second on symmetric keys become 3, 2,000 of DescribeKey 1.
    let args = ["--ephemeral", "--regions", HERE];
    let dev = Dev::start(&[&args[..], &["--request-quotas=0.00003"]].concat()).await;
    let caller = |account, reads| Caller {
        url: &dev.ready.endpoint,
        account,
        reads,
    };
    let (strong, local) = (caller(ACCOUNT, "linearizable"), caller(ACCOUNT, "local"));
    let key = key(strong.url).await;
    let encrypt = json!({ "KeyId": key, "Plaintext": "YQ==" });
    let dry = json!({ "KeyId": key, "Plaintext": "YQ==", "DryRun": true });
    let on_key = json!({ "KeyId": key });
    for caller in [&strong, &local] {
        assert_eq!(caller.in_a_second("Encrypt", &encrypt).await, 3);
        assert_eq!(caller.in_a_second("Encrypt", &dry).await, 3);
        assert_eq!(caller.in_a_second("DescribeKey", &on_key).await, 1);
    }
    // One bucket for all operations on symmetric keys.
    let mixed = wait::until("burst within a second", wait::LONG, async || {
        let before = second();
        wait::until_true("next second", wait::SHORT, async || second() > before).await;
        let begun = second();
        let mut passed = 0;
        for _ in 0..4 {
            passed += u64::from(strong.passes("Encrypt", &encrypt).await);
            let random = json!({ "NumberOfBytes": 1 });
            passed += u64::from(strong.passes("GenerateRandom", &random).await);
        }
        // Neither other operations nor other accounts have used theirs up.
        let apart = strong.passes("ListKeys", &json!({})).await;
        let other = caller(OTHER, "linearizable");
        let others = other
            .passes("GenerateRandom", &json!({ "NumberOfBytes": 1 }))
            .await;
        (second() == begun).then_some((passed, apart, others))
    });
    assert_eq!(mixed.await, (3, true, true));
}

/// A cluster of processes with few calls a second: 3 on symmetric keys, 1 of anything else.
async fn cluster() -> Cluster {
    let lines = "request_quotas = true\nrequest_quota_factor = 0.00003".to_owned();
    let shape = Shape {
        lines,
        ..Shape::one_region(3)
    };
    Cluster::up(&shape).await
}

/// Catches processes that keep no quotas, an endpoint that lets each of its nodes have one of its own, also
/// after the node that counts is gone, and a node that asks others what they let pass.
#[tokio::test(flavor = "multi_thread")]
async fn processes_keep_quotas_too() {
    let cluster = cluster().await;
    let nodes = &cluster.ready().regions[HERE].nodes;
    let caller = |url, account, reads| Caller {
        url,
        account,
        reads,
    };
    let key = key(cluster.endpoint()).await;
    let encrypt = json!({ "KeyId": key, "Plaintext": "YQ==" });
    let on_key = json!({ "KeyId": key });
    for reads in ["linearizable", "local"] {
        let through = caller(cluster.endpoint(), ACCOUNT, reads);
        assert_eq!(through.in_a_second("Encrypt", &encrypt).await, 3);
        assert_eq!(through.in_a_second("DescribeKey", &on_key).await, 1);
    }
    // By operation and account, within one second.
    let apart = wait::until("burst within a second", wait::LONG, async || {
        let before = second();
        wait::until_true("next second", wait::SHORT, async || second() > before).await;
        let begun = second();
        let random = json!({ "NumberOfBytes": 1 });
        let mut passed = [0; 3];
        for _ in 0..4 {
            let ours = caller(cluster.endpoint(), ACCOUNT, "local");
            let others = caller(cluster.endpoint(), OTHER, "local");
            passed[0] += u64::from(ours.passes("GenerateRandom", &random).await);
            passed[1] += u64::from(others.passes("GenerateRandom", &random).await);
            passed[2] += u64::from(ours.passes("DescribeKey", &on_key).await);
        }
        (second() == begun).then_some(passed)
    });
    assert_eq!(apart.await, [3, 3, 1]);
    // Who asks nodes directly has the rate of each.
    let each = wait::until("burst within a second", wait::LONG, async || {
        let before = second();
        wait::until_true("next second", wait::SHORT, async || second() > before).await;
        let begun = second();
        let mut passed = Vec::new();
        for node in nodes {
            let caller = caller(&node.api, ACCOUNT, "local");
            let mut of_node = 0;
            for _ in 0..4 {
                of_node += u64::from(caller.passes("Encrypt", &encrypt).await);
            }
            passed.push(of_node);
        }
        (second() == begun).then_some(passed)
    });
    assert_eq!(each.await, [3, 3, 3]);

    cluster.command(&["kill", &format!("{HERE}/1")]).await;
    let through = caller(cluster.endpoint(), ACCOUNT, "local");
    wait::until_true("answer by another node", wait::LONG, async || {
        let request = Raw::kms("ListKeys", "{}").signed(OTHER, HERE);
        let answer = request.send(through.url).await;
        answer.is_ok_and(|answer| answer.status.is_success())
    })
    .await;
    assert_eq!(through.in_a_second("Encrypt", &encrypt).await, 3);
}

/// Catches a throttled call that the SDK takes for a failure instead of trying again later.
#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_waits_and_tries_again() {
    let cluster = cluster().await;
    let key = key(cluster.endpoint()).await;
    let once = sdk::client(cluster.endpoint(), HERE, ACCOUNT);
    let retries = RetryConfig::standard()
        .with_max_attempts(30)
        .with_initial_backoff(Duration::from_millis(200))
        .with_max_backoff(Duration::from_secs(1));
    let config = once.config().to_builder().retry_config(retries);
    // Thirty attempts take longer than one may.
    let patient = aws_sdk_kms::config::timeout::TimeoutConfig::disabled();
    let config = config.timeout_config(patient).build();
    let client = aws_sdk_kms::Client::from_conf(config);
    let calls = (0..4).map(|_| client.describe_key().key_id(key.as_str().unwrap()).send());
    for answer in join_all(calls).await {
        answer.unwrap();
    }
}

/// Catches a throttled call that boto3 takes for a failure instead of trying again later.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python3 with boto3"]
async fn boto3_waits_and_tries_again() {
    const SCRIPT: &str = "
import sys, boto3
from botocore.config import Config
from concurrent.futures import ThreadPoolExecutor
url, account, key = sys.argv[1:]
for mode in ('legacy', 'standard'):
    config = Config(retries={'mode': mode, 'total_max_attempts': 20})
    kms = boto3.client('kms', endpoint_url=url, region_name='us-east-1', config=config,
                       aws_access_key_id=account, aws_secret_access_key='secret')
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: kms.describe_key(KeyId=key), range(3)))
    retried = sum(answer['ResponseMetadata']['RetryAttempts'] for answer in answers)
    assert retried > 0, mode
    # Without retries it is an error that programs can tell.
    config = Config(retries={'total_max_attempts': 1})
    kms = boto3.client('kms', endpoint_url=url, region_name='us-east-1', config=config,
                       aws_access_key_id=account, aws_secret_access_key='secret')
    try:
        for _ in range(1000):
            kms.describe_key(KeyId=key)
        raise SystemExit('never throttled')
    except kms.exceptions.ClientError as error:
        assert error.response['Error']['Code'] == 'ThrottlingException', error
";
    let cluster = cluster().await;
    let key = key(cluster.endpoint()).await;
    let url = cluster.endpoint().to_owned();
    let run = move || {
        let mut command = std::process::Command::new("python3");
        command.args(["-c", SCRIPT, &url, ACCOUNT, key.as_str().unwrap()]);
        command.output()
    };
    let output = Blocking::Threads.run(run).await.unwrap();
    assert!(output.status.success(), "{output:?}");
}
