//! How reads see the state: the header `x-keyrum-consistency`.

use keyrum_tests::http::Raw;
use keyrum_tests::sdk::{HERE, THERE};
use keyrum_tests::{shared_dev, wait};

use crate::desk::{Desk, Key, arn};

const HEADER: &str = "x-keyrum-consistency";

fn describe(desk: &Desk, key: &Key, mode: &str) -> Raw {
    let body = format!(r#"{{"KeyId":"{}"}}"#, key.id);
    Raw::kms("DescribeKey", body)
        .signed(&desk.account, HERE)
        .header(HEADER, mode)
}

/// Catches a mode that is not known, and one that misses what was acknowledged before although it
/// promises not to.
#[tokio::test]
async fn strong_reads_see_what_was_acknowledged() {
    let desk = Desk::dev("strong reads").await;
    for round in 0..20 {
        let key = desk.key().await;
        for node in &shared_dev().await.regions[HERE].nodes {
            for mode in ["linearizable", "lease"] {
                let answer = describe(&desk, &key, mode).send(&node.api).await.unwrap();
                assert_eq!(
                    answer.status, 200,
                    "round {round}, {mode}, node {}: {answer:?}",
                    node.id
                );
                assert_eq!(answer.json()["KeyMetadata"]["KeyId"], key.id.as_str());
            }
        }
    }
}

/// Catches a weak read that never sees what was acknowledged, and a mode that is made up.
#[tokio::test]
async fn weak_reads_see_it_in_the_end() {
    let desk = Desk::dev("weak reads").await;
    let key = desk.key().await;
    for node in &shared_dev().await.regions[HERE].nodes {
        for mode in ["local", "eventual"] {
            let what = format!("{mode} read on node {}", node.id);
            wait::until_true(&what, wait::SHORT, async || {
                let answer = describe(&desk, &key, mode).send(&node.api).await.unwrap();
                assert!(answer.status == 200 || answer.status == 400, "{answer:?}");
                answer.status == 200
            })
            .await;
        }
    }
    let answer = describe(&desk, &key, "psychic")
        .send(&desk.endpoint)
        .await
        .unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["__type"]),
        (400, &"ValidationException".into())
    );
}

/// Catches a ciphertext that a node cannot open at once with `local` reads, though another node
/// made it.
#[tokio::test]
async fn local_decryption_asks_again() {
    let desk = Desk::dev("local decryption").await;
    for _ in 0..20 {
        let key = desk.key().await;
        let blob = desk.ciphertext(&key.id).await;
        for node in &shared_dev().await.regions[HERE].nodes {
            let kms = Desk::at(&node.api, "local decryption").kms;
            let call = kms.decrypt().ciphertext_blob(blob.clone()).customize();
            let answer = call.mutate_request(|request| {
                request.headers_mut().insert(HEADER, "local");
            });
            let answer = answer.send().await.unwrap();
            assert_eq!(answer.plaintext().unwrap().as_ref(), b"secret");
        }
    }
}

/// Catches a Region that answers for another, and one that the cluster does not have.
#[tokio::test]
async fn regions_are_separate() {
    let desk = Desk::dev("regions").await;
    let (here, there) = (desk.key().await, desk.client_in(THERE));
    let made = there
        .create_key()
        .send()
        .await
        .unwrap()
        .key_metadata
        .unwrap();
    let resource = format!("key/{}", made.key_id());
    assert_eq!(
        made.arn(),
        Some(arn(THERE, &desk.account, &resource).as_str())
    );
    let listed = there.list_keys().send().await.unwrap();
    assert_eq!(listed.keys().len(), 1);
    keyrum_tests::sdk::refused(
        there.describe_key().key_id(&here.arn).send().await,
        "NotFoundException",
        &format!("Invalid arn {HERE}"),
    );
    let blob = desk.ciphertext(&here.id).await;
    keyrum_tests::sdk::refused(
        there.decrypt().ciphertext_blob(blob).send().await,
        "AccessDeniedException",
        "The ciphertext refers to a customer master key that does not exist, does not exist in \
         this region, or you are not allowed to access.",
    );
    let absent = desk.client_in("ap-south-1");
    let answer = absent.list_keys().send().await;
    let message = "Credential should be scoped to a valid region. ";
    keyrum_tests::sdk::refused(answer, "InvalidSignatureException", message);
}
