//! Callers of whom no call may fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use tokio::task::JoinSet;

use crate::sdk::failed;
use crate::wait;

/// Callers at work: one for each client, each of which makes keys, encrypts and decrypts.
#[derive(Debug)]
pub struct Steady {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    tasks: JoinSet<Vec<String>>,
}

impl Steady {
    /// Starts them.
    pub fn start(clients: Vec<Client>) -> Self {
        let (stop, calls) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut tasks = JoinSet::new();
        for client in clients {
            tasks.spawn(call(client, stop.clone(), calls.clone()));
        }
        Self { stop, calls, tasks }
    }

    /// Waits until so many more calls were answered.
    pub async fn go_on(&self, calls: u64) {
        let until = self.calls.load(Ordering::Relaxed) + calls;
        wait::until_true("answers", wait::LONG, async || {
            self.calls.load(Ordering::Relaxed) >= until
        })
        .await;
    }

    /// Lets every caller finish its call, and gives the number of calls and what failed.
    pub async fn stop(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.tasks.join_all().await.concat();
        (self.calls.load(Ordering::Relaxed), failures)
    }
}

async fn call(kms: Client, stop: Arc<AtomicBool>, calls: Arc<AtomicU64>) -> Vec<String> {
    let mut failures = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match round(&kms).await {
            Ok(()) => _ = calls.fetch_add(3, Ordering::Relaxed),
            Err(failure) => failures.push(failure),
        }
    }
    failures
}

async fn round(kms: &Client) -> Result<(), String> {
    let made = kms.create_key().send().await;
    let made = made.map_err(|error| format!("CreateKey: {:?}", failed(error)))?;
    let key = made.key_metadata.expect("metadata").key_id;
    let call = kms.encrypt().key_id(key).plaintext(Blob::new("plain"));
    let sealed = call.send().await;
    let sealed = sealed.map_err(|error| format!("Encrypt: {:?}", failed(error)))?;
    let blob = sealed.ciphertext_blob.expect("a ciphertext");
    let opened = kms.decrypt().ciphertext_blob(blob).send().await;
    let opened = opened.map_err(|error| format!("Decrypt: {:?}", failed(error)))?;
    match opened.plaintext.as_ref().map(Blob::as_ref) {
        Some(b"plain") => Ok(()),
        other => Err(format!("Decrypt: {other:?}")),
    }
}
