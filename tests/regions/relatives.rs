//! One account's view of a family: a client in each Region.

use std::collections::BTreeMap;

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyMetadata, KeyState, MultiRegionKeyType};
use keyrum_tests::{Dev, keyrum, sdk, wait};

/// The Regions of these tests; families begin in the first.
pub(crate) const REGIONS: [&str; 3] = ["us-east-1", "eu-west-1", "us-west-2"];

/// A client in each Region, of an account of its own.
pub(crate) struct Relatives {
    clients: BTreeMap<&'static str, Client>,
    account: String,
}

impl Relatives {
    pub(crate) fn at(endpoint: &str, test: &str) -> Self {
        let account = sdk::account_of(test);
        let client = |region| (region, sdk::client(endpoint, region, &account));
        Self {
            clients: REGIONS.map(client).into(),
            account,
        }
    }

    pub(crate) fn kms(&self, region: &str) -> &Client {
        &self.clients[region]
    }

    pub(crate) fn arn(&self, region: &str, key: &str) -> String {
        format!("arn:aws:kms:{region}:{}:key/{key}", self.account)
    }

    /// A new primary in the first Region.
    pub(crate) async fn primary(&self) -> String {
        let call = self.kms(REGIONS[0]).create_key().multi_region(true);
        let made = call.send().await.expect("a key can be made");
        made.key_metadata.expect("metadata").key_id
    }

    pub(crate) async fn replicate(&self, key: &str, from: &str, to: &str) {
        let call = self.kms(from).replicate_key().key_id(key);
        let call = call.replica_region(to);
        call.send().await.expect("a replica can be added");
    }

    pub(crate) async fn look(&self, region: &str, key: &str) -> Option<KeyMetadata> {
        let call = self.kms(region).describe_key().key_id(key);
        call.send().await.ok()?.key_metadata
    }

    pub(crate) async fn described(&self, region: &str, key: &str) -> KeyMetadata {
        let shown = self.look(region, key).await;
        shown.unwrap_or_else(|| panic!("{key} is not in {region}"))
    }

    pub(crate) async fn wait_for(&self, region: &str, key: &str, state: KeyState) -> KeyMetadata {
        let what = format!("{state} in {region}");
        wait::until(&what, wait::LONG, async || {
            let shown = self.look(region, key).await?;
            (shown.key_state.as_ref() == Some(&state)).then_some(shown)
        })
        .await
    }

    /// Waits until every member is Enabled and tells the same family.
    pub(crate) async fn settle(&self, key: &str, primary: &str, members: &[&str]) {
        let mut replicas: Vec<_> = members.iter().filter(|m| **m != primary).collect();
        replicas.sort();
        for member in members {
            let what = format!("family of {primary} in {member}");
            wait::until_true(&what, wait::LONG, async || {
                let Some(shown) = self.look(member, key).await else {
                    return false;
                };
                let family = family(&shown);
                shown.key_state == Some(KeyState::Enabled)
                    && family.1 == primary
                    && family.2.iter().eq(replicas.iter().copied())
                    && (family.0 == MultiRegionKeyType::Primary) == (*member == primary)
            })
            .await;
        }
    }

    pub(crate) async fn encrypt(&self, region: &str, key: &str, text: &str) -> Blob {
        let call = self.kms(region).encrypt().key_id(key);
        let call = call.plaintext(Blob::new(text));
        let sealed = call.send().await.expect("it can be used");
        sealed.ciphertext_blob.expect("a ciphertext")
    }

    pub(crate) async fn decrypt(&self, region: &str, blob: &Blob) -> String {
        let call = self.kms(region).decrypt().ciphertext_blob(blob.clone());
        let opened = call.send().await.expect("it can be opened");
        let bytes = opened.plaintext.expect("a plaintext").into_inner();
        String::from_utf8(bytes).expect("text")
    }

    /// Asserts that what each member encrypts, each member decrypts.
    pub(crate) async fn exchange(&self, key: &str, members: &[&str]) {
        for from in members {
            let blob = self.encrypt(from, key, from).await;
            for to in members {
                assert_eq!(self.decrypt(to, &blob).await, *from, "{from} to {to}");
            }
        }
    }
}

/// A key's part in its family, the primary's Region, and the replicas' as told.
pub(crate) fn family(shown: &KeyMetadata) -> (MultiRegionKeyType, String, Vec<String>) {
    let family = shown.multi_region_configuration().expect("a family");
    let primary = family.primary_key().and_then(|key| key.region());
    let replicas = family.replica_keys().iter();
    (
        family.multi_region_key_type().expect("a part").clone(),
        primary.expect("a primary").to_owned(),
        replicas
            .filter_map(|key| key.region())
            .map(str::to_owned)
            .collect(),
    )
}

/// A `keyrum dev` of all Regions; one node each is enough where nothing fails.
pub(crate) async fn dev() -> Dev {
    let regions = REGIONS.join(",");
    Dev::start(&["--ephemeral", "--nodes", "1", "--regions", &regions]).await
}

/// Moves the clocks of all Regions ahead.
pub(crate) fn advance(dev: &Dev, by: &str) {
    let mut command = std::process::Command::new(keyrum());
    command.args(["clock", "advance", by, "--data"]);
    let output = command.arg(dev.ready.data()).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
}
