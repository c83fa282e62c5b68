//! What callers are told by a node whose disk fails.

use std::sync::Arc;

use futures_util::future::join_all;
use keyrum_tests::sdk::{HERE, THERE};
use keyrum_tests::{Dev, wait};
use serde_json::json;

use super::faults::requests;
use crate::kms::Kms;
use crate::prepared::{SYMMETRIC, new_key};

/// How large files may become, in units of 512 bytes: the requests' keys fit well.
const LIMIT: u32 = 8192;

pub(super) async fn walk(model: &Kms) {
    let regions = [HERE, THERE].join(",");
    let args = ["--ephemeral", "--nodes", "1", "--regions", &regions];
    let dev = Dev::start_with_small_files(LIMIT, &args).await;
    let kms = Kms {
        endpoint: dev.ready.endpoint.clone(),
        seen: Arc::clone(&model.seen),
        ..model.clone()
    };
    let requests = requests(&kms).await;
    let id = new_key(&kms, SYMMETRIC, false).await;
    let policy =
        json!({"KeyId": id, "Policy": super::keys::policy(&kms.account, &"x".repeat(30_000))});
    wait::until_true("full disk", wait::LONG, async || {
        kms.ask_once("PutKeyPolicy", &policy).await.is_err()
    })
    .await;
    let stopped = requests.iter().map(async |(operation, body)| {
        if *operation == "GenerateRandom" {
            kms.ok(operation, body.clone()).await;
            return;
        }
        let refused = kms.ask_once(operation, body).await.expect_err("no disk");
        let found = (
            &*refused.code,
            refused.message.contains("nothing acknowledged was lost"),
        );
        assert_eq!(
            found,
            ("KMSInternalException", true),
            "{operation}: {refused:?}"
        );
    });
    join_all(stopped).await;
}
