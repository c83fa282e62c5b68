//! A domain key that is rotated under a service at work, on a Region of one node over a disk in memory.

mod one_node;

use std::sync::Arc;
use std::time::Duration;

use keyrum_consensus::world::{Blocking, World, spawn};
use keyrum_consensus::{Group, ReadMode};
use keyrum_crypto::{DomainKeyring, DomainKeys, MemoryDomainKeys};
use keyrum_service::{
    CreateKeyInput, DomainKeyError, KeyInput, RequestContext, Service, ServiceError, Settings,
    Trace,
};
use keyrum_state::{
    Caller, Command, DomainKeyConfirmation, DomainKeyStage, KeyRef, Refusal, State,
};
use keyrum_types::AccountId;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use one_node::one_node;

fn account() -> AccountId {
    "111122223333".parse().unwrap()
}

fn request() -> RequestContext {
    RequestContext {
        caller: Caller::root(&"us-east-1".parse().unwrap(), account()),
        mode: ReadMode::Linearizable,
        request: [1; 16],
        trace: Trace::default(),
    }
}

fn keyring() -> DomainKeyring {
    DomainKeyring::from_bytes(Zeroizing::new([5; 32]))
}

fn service(group: &Group, world: &World, keys: Arc<dyn DomainKeys>) -> Service {
    let settings = Settings {
        domain_keys: Some(keys),
        ..Settings::default()
    };
    Service::new(group.clone(), keyring(), world.clone(), settings)
}

async fn create(service: &Service) -> Result<KeyRef, ServiceError> {
    let made = service
        .create_key(&request(), CreateKeyInput::default())
        .await;
    let id = made?.key_id;
    let account = account();
    Ok(KeyRef { account, id })
}

/// The version that a key's newest material is sealed under.
fn sealed_under(state: &State, key: KeyRef) -> Option<u32> {
    let material = state.key(key)?.current_material()?;
    material.sealed.domain_key_version()
}

async fn propose(group: &Group, world: &World, command: Command) {
    let done = group.propose(None, world.clock.now(), command).await;
    done.unwrap().outcome.unwrap();
}

async fn settled(group: &Group, done: impl Fn(&State) -> bool) {
    let wait = async {
        while !done(&group.state()) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let settled = timeout(Duration::from_secs(60), wait).await;
    settled.expect("the rotation comes to its end");
}

/// Catches a call that fails because the version it was sealed under was retired a moment before, one
/// that is let through all the same, a node without the newest version that seals under another, a
/// secret that is not sealed anew, and a number that stands for two secrets.
#[tokio::test(start_paused = true)]
async fn what_was_sealed_a_moment_ago_is_sealed_anew() {
    let world = World {
        blocking: Blocking::Inline,
        ..World::real()
    };
    let group = one_node(&world).await;
    assert!(group.raise_feature_level().await);
    let keys = Arc::new(MemoryDomainKeys::of(&keyring()));
    let here = service(&group, &world, keys.clone());
    let before = create(&here).await.unwrap();
    assert_eq!(sealed_under(&group.state(), before), Some(1));

    // Announced, it does not seal, and a second one has to wait.
    assert_eq!(here.rotate_domain_key().await.unwrap(), 2);
    let announced = create(&here).await.unwrap();
    assert_eq!(sealed_under(&group.state(), announced), Some(1));
    assert_eq!(here.rotate_domain_key().await.map_err(refusal), Err(None));
    // The log goes on before the node has looked at it.
    let fingerprint = keys.get(2).unwrap().unwrap().fingerprint();
    let confirm = Command::ConfirmDomainKey {
        version: 2,
        fingerprint,
        node: 1,
        what: DomainKeyConfirmation::Held,
    };
    propose(&group, &world, confirm).await;
    let activate = Command::ActivateDomainKey {
        version: 2,
        members: [1].into(),
    };
    propose(&group, &world, activate).await;
    let after = create(&here).await.unwrap();
    assert_eq!(sealed_under(&group.state(), after), Some(2));
    let key_id = before.id.to_string();
    let rotated = here
        .rotate_key_on_demand(&request(), KeyInput { key_id })
        .await;
    rotated.unwrap();
    assert_eq!(sealed_under(&group.state(), before), Some(2));

    // A node that cannot have it changes nothing.
    let count = group.state().total_keys();
    let elsewhere = service(&group, &world, Arc::new(MemoryDomainKeys::of(&keyring())));
    let refused = create(&elsewhere).await;
    let retired = Refusal::SealingRetired {
        version: 1,
        seals: 2,
    };
    assert_eq!(refused.unwrap_err().to_string(), retired.to_string());
    assert_eq!(group.state().total_keys(), count);

    let state = group.state();
    assert_eq!(state.sealings_under(1), 2, "the first of one, the other");
    drop(state);
    let keeping = here.clone();
    let keeper = spawn(async move { keeping.run_domain_key().await });
    settled(&group, |state| state.sealings_under(1) == 0).await;
    let known = here.domain_key().await.unwrap();
    let stages: Vec<_> = known.versions.iter().map(|v| v.stage.name()).collect();
    assert_eq!((known.seals, &stages[..]), (2, &["retired", "active"][..]));

    // One that is taken back was never used: its number is given again.
    assert_eq!(here.rotate_domain_key().await.unwrap(), 3);
    settled(&group, |state| state.sealing_version() == 3).await;
    let refused = here.abandon_domain_key(3).await.map_err(refusal);
    assert_eq!(refused, Err(Some(DomainKeyStage::Active)));
    let refused = here.destroy_domain_key(3).await.map_err(refusal);
    assert_eq!(refused, Err(Some(DomainKeyStage::Active)));
    keeper.abort();
    group.shutdown().await;
}

/// At what stage a version is that cannot do what was asked; `None` for one that is only announced.
fn refusal(error: DomainKeyError) -> Option<DomainKeyStage> {
    match error {
        DomainKeyError::Refused(Refusal::DomainKeyStage { stage, .. }) => {
            stage.filter(|stage| *stage != DomainKeyStage::Announced)
        }
        error => panic!("{error}"),
    }
}
