//! `POST /_keyrum/reset` of `keyrum dev`.

use keyrum_tests::http::Raw;
use keyrum_tests::sdk::{self, HERE};
use keyrum_tests::{Dev, wait};

async fn is_well(endpoint: &str) -> bool {
    let health = Raw::beside("GET", "health").send(endpoint).await.unwrap();
    health.status == 200
}

/// Catches a reset that leaves keys or a cluster that does not work, and one that ends half-way
/// because whoever asked for it has hung up.
#[tokio::test(flavor = "multi_thread")]
async fn a_reset_is_carried_out_whoever_listens() {
    let dev = Dev::start(&["--ephemeral", "--regions", HERE]).await;
    let endpoint = &dev.ready.endpoint;
    let kms = sdk::client(endpoint, HERE, "test");
    let empty = async || kms.list_keys().send().await.unwrap().keys().is_empty();
    for hangs_up in [false, true] {
        kms.create_key().send().await.unwrap();
        assert!(!empty().await);
        let mut reset = Raw::beside("POST", "reset");
        // A request over HTTP/2 ends for the server when its client goes away.
        reset.http2 = hangs_up;
        if hangs_up {
            let begun = wait::until_true("begin of the reset", wait::SHORT, async || {
                !is_well(endpoint).await
            });
            tokio::select! {
                answer = reset.send(endpoint) => panic!("it was not seen to begin: {answer:?}"),
                () = begun => {}
            }
        } else {
            let answer = reset.send(endpoint).await.unwrap();
            assert_eq!(
                (answer.status.as_u16(), &*answer.text()),
                (200, "{\"status\":\"ok\"}\n")
            );
        }
        let what = format!("end of the reset, hung up: {hangs_up}");
        wait::until_true(&what, wait::SHORT, async || is_well(endpoint).await).await;
        assert!(empty().await, "hung up: {hangs_up}");
    }
    kms.create_key().send().await.unwrap();
}
