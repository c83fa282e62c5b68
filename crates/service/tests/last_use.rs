//! The last use of keys, on a Region of one node over a disk in memory. Time is tokio's and moves as
//! fast as there is nothing to do.

mod one_node;

use std::time::Duration;

use keyrum_consensus::ReadMode;
use keyrum_consensus::world::{Blocking, World, spawn};
use keyrum_crypto::DomainKeyring;
use keyrum_service::{
    CreateKeyInput, DecryptInput, EncryptInput, EncryptionContext, GetKeyLastUsageOutput, KeyInput,
    RequestContext, Service, Settings, Trace,
};
use keyrum_state::Caller;
use keyrum_types::{CryptographicOperation, EncryptionAlgorithm};
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use one_node::one_node;

fn request(byte: u8) -> RequestContext {
    RequestContext {
        caller: Caller::root(
            &"us-east-1".parse().unwrap(),
            "111122223333".parse().unwrap(),
        ),
        mode: ReadMode::Linearizable,
        request: [byte; 16],
        trace: Trace::default(),
    }
}

async fn encrypt(service: &Service, key: &str, dry_run: bool) -> Option<Vec<u8>> {
    let input = EncryptInput {
        key_id: key.to_owned(),
        plaintext: Zeroizing::new(b"text".to_vec()),
        context: EncryptionContext::new(),
        algorithm: EncryptionAlgorithm::SymmetricDefault,
        grant_tokens: Vec::new(),
        dry_run,
    };
    let encrypted = service.encrypt(&request(1), input).await;
    encrypted.ok().map(|answer| answer.ciphertext)
}

async fn last_usage(service: &Service, key: &str) -> GetKeyLastUsageOutput {
    let input = KeyInput {
        key_id: key.to_owned(),
    };
    service
        .get_key_last_usage(&request(9), input)
        .await
        .unwrap()
}

/// Catches uses that the node forgets, that never reach the log, that cost an entry each or one when
/// nothing was used, and a dry run or a failure that counts as a use.
#[tokio::test(start_paused = true)]
async fn uses_reach_the_log_together() {
    let world = World {
        blocking: Blocking::Inline,
        ..World::real()
    };
    let group = one_node(&world).await;
    // Otherwise the clock's first look would.
    assert!(group.raise_feature_level().await);
    let start = || {
        let keyring = DomainKeyring::from_bytes(Zeroizing::new([5; 32]));
        let settings = Settings {
            test_clock: true,
            ..Settings::default()
        };
        Service::new(group.clone(), keyring, world.clone(), settings)
    };
    let service = start();
    let ctx = request(0);
    let created = service.create_key(&ctx, CreateKeyInput::default()).await;
    let created = created.unwrap();
    let key = created.key_id.to_string();

    assert_eq!(encrypt(&service, &key, true).await, None);
    let never = last_usage(&service, &key).await;
    assert_eq!(never.last, None);
    assert_eq!(never.created, created.created);

    let ciphertext = encrypt(&service, &key, false).await.unwrap();
    let input = |ciphertext| DecryptInput {
        ciphertext: Some(ciphertext),
        context: EncryptionContext::new(),
        key_id: None,
        algorithm: EncryptionAlgorithm::SymmetricDefault,
        grant_tokens: Vec::new(),
        recipient: None,
        dry_run: false,
        ignore_ciphertext: false,
    };
    for _ in 0..10 {
        let ctx = request(2);
        let decrypted = service.decrypt(&ctx, input(ciphertext.clone())).await;
        decrypted.unwrap();
    }
    let mut damaged = ciphertext.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let refused = service.decrypt(&request(3), input(damaged)).await;
    assert!(refused.is_err());
    let last = last_usage(&service, &key).await.last.unwrap();
    assert_eq!(last.operation, CryptographicOperation::Decrypt);
    assert_eq!(last.request, [2; 16]);

    // Another service of the node has noted nothing: it knows what the log knows.
    let before = *group.applied().borrow();
    assert_eq!(last_usage(&start(), &key).await.last, None);
    let ticking = service.clone();
    let clock = spawn(async move { ticking.run_clock().await });
    let mut applied = group.applied();
    let committed = applied.wait_for(|index| *index > before);
    let committed = timeout(Duration::from_secs(90), committed).await;
    committed.expect("within two minutes").unwrap();
    assert_eq!(last_usage(&start(), &key).await.last, Some(last));

    // One entry for all, and none while nothing is used.
    sleep(Duration::from_secs(600)).await;
    assert_eq!(*group.applied().borrow(), before + 1);
    clock.abort();
    group.shutdown().await;
}
