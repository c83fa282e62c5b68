//! Request quotas.

use keyrum_consensus::world::World;
use keyrum_tests::http::Raw;
use keyrum_tests::sdk::HERE;
use keyrum_tests::{Dev, wait};
use serde_json::{Value, json};

const ACCOUNT: &str = "111122223333";
const OTHER: &str = "444455556666";

/// Calls of one burst: more than any quota of these tests.
const CALLS: u64 = 12;

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
    let made = Raw::kms("CreateKey", "{}").signed(ACCOUNT, HERE);
    let made = made.send(strong.url).await.unwrap().json();
    let key = &made["KeyMetadata"]["KeyId"];
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
