//! What a test works with: a client in an account of its own.

use aws_sdk_kms::Client;
use aws_sdk_kms::operation::list_aliases::ListAliasesOutput;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{AliasListEntry, KeyMetadata, KeySpec, KeyUsageType, Tag};
use keyrum_tests::sdk::{self, HERE};
use keyrum_tests::shared_dev;

/// A client, and what it talks to.
pub(crate) struct Desk {
    pub(crate) endpoint: String,
    pub(crate) account: String,
    pub(crate) kms: Client,
}

impl Desk {
    /// In the first Region of an endpoint, in an account made from the test's name.
    pub(crate) fn at(endpoint: &str, test: &str) -> Self {
        let account = sdk::account_of(test);
        let kms = sdk::client(endpoint, HERE, &account);
        Self {
            endpoint: endpoint.to_owned(),
            account,
            kms,
        }
    }

    /// On the shared `keyrum dev`.
    pub(crate) async fn dev(test: &str) -> Self {
        Self::at(&shared_dev().await.endpoint, test)
    }

    /// A client of the same account in another Region.
    pub(crate) fn client_in(&self, region: &str) -> Client {
        sdk::client(&self.endpoint, region, &self.account)
    }

    /// A new key.
    pub(crate) async fn key(&self) -> Key {
        let answer = self
            .kms
            .create_key()
            .send()
            .await
            .expect("a key can be made");
        Key::of(answer.key_metadata().expect("an answer describes the key"))
    }

    /// A new key of another kind.
    pub(crate) async fn key_of(&self, spec: KeySpec, usage: KeyUsageType) -> Key {
        let call = self.kms.create_key().key_spec(spec).key_usage(usage);
        let answer = sdk::patiently(async || call.clone().send().await).await;
        Key::of(answer.key_metadata().expect("an answer describes the key"))
    }

    /// The public half of a key pair: a SubjectPublicKeyInfo in DER.
    pub(crate) async fn public_key(&self, key_id: &str) -> Blob {
        let answer = self.kms.get_public_key().key_id(key_id).send().await;
        let answer = answer.expect("it has a public key");
        answer.public_key.expect("an answer has the public key")
    }

    /// A new key that is disabled.
    pub(crate) async fn disabled_key(&self) -> Key {
        let key = self.key().await;
        self.kms
            .disable_key()
            .key_id(&key.id)
            .send()
            .await
            .expect("it can be disabled");
        key
    }

    /// The key as it is described now.
    pub(crate) async fn describe(&self, key_id: &str) -> KeyMetadata {
        let answer = self.kms.describe_key().key_id(key_id).send().await;
        answer
            .expect("it can be described")
            .key_metadata
            .expect("an answer describes the key")
    }

    /// The listed aliases that have a key.
    pub(crate) fn aliases_of_keys(&self, listed: &ListAliasesOutput) -> Vec<AliasListEntry> {
        let aliases = listed.aliases().iter();
        let with_key = aliases.filter(|alias| alias.target_key_id().is_some());
        with_key.cloned().collect()
    }

    /// The ARN of something in this account, in the first Region.
    pub(crate) fn arn(&self, resource: &str) -> String {
        arn(HERE, &self.account, resource)
    }

    /// A ciphertext of that key.
    pub(crate) async fn ciphertext(&self, key_id: &str) -> Blob {
        let call = self
            .kms
            .encrypt()
            .key_id(key_id)
            .plaintext(Blob::new("secret"));
        let answer = call.send().await.expect("it can encrypt");
        answer
            .ciphertext_blob
            .expect("an answer has the ciphertext")
    }
}

/// A key's names.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) arn: String,
}

impl Key {
    pub(crate) fn of(data: &KeyMetadata) -> Self {
        let arn = data.arn().expect("a key has an ARN").to_owned();
        Self {
            id: data.key_id().to_owned(),
            arn,
        }
    }
}

/// The ARN of something.
pub(crate) fn arn(region: &str, account: &str, resource: &str) -> String {
    format!("arn:aws:kms:{region}:{account}:{resource}")
}

/// A tag.
pub(crate) fn tag(key: &str, value: &str) -> Tag {
    Tag::builder()
        .tag_key(key)
        .tag_value(value)
        .build()
        .expect("both are there")
}

/// Something that looks like a key id but that no key has.
pub(crate) const NOBODY: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";
