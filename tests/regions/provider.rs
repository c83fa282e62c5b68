//! A family as Terraform's AWS provider makes, reads, changes and destroys it: `aws_kms_key` and
//! `aws_kms_replica_key`, in the order of their calls.
//!
//! Source: hashicorp/terraform-provider-aws, internal/service/kms: key.go, replica_key.go, wait.go.

use aws_sdk_kms::types::{KeyMetadata, KeyState, MultiRegionKeyType, Tag};
use keyrum_tests::sdk::{Failed, failed};
use keyrum_tests::wait;

use crate::relatives::{REGIONS, Relatives, advance, dev, family};

/// What a resource reads: metadata, policy, rotation and tags, in this order.
#[derive(Debug)]
struct Resource {
    metadata: KeyMetadata,
    policy: String,
    rotation: (bool, Option<i32>),
    tags: Vec<(String, String)>,
}

fn policy(id: &str, account: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Id":"{id}","Statement":[{{"Sid":"all","Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::{account}:root"}},"Action":"kms:*","Resource":"*"}}]}}"#
    )
}

fn tag(name: &str, value: &str) -> Tag {
    let tag = Tag::builder().tag_key(name).tag_value(value);
    tag.build().expect("a tag")
}

fn tags(of: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    of.iter().map(owned).collect()
}

impl Relatives {
    /// Looks as the provider does: a key whose deletion is scheduled is gone.
    async fn found(&self, region: &str, key: &str) -> Option<KeyMetadata> {
        let shown = self.kms(region).describe_key().key_id(key).send().await;
        let shown = match shown {
            Ok(shown) => shown.key_metadata.expect("metadata"),
            Err(error) => {
                let answer = failed(error);
                let unknown =
                    matches!(&answer, Failed::Answer(code, _) if code == "NotFoundException");
                assert!(unknown, "{answer:?}");
                return None;
            }
        };
        let gone = [KeyState::PendingDeletion, KeyState::PendingReplicaDeletion];
        let state = shown.key_state.as_ref().expect("a state");
        (!gone.contains(state)).then_some(shown)
    }

    async fn read(&self, region: &str, key: &str) -> Option<Resource> {
        let kms = self.kms(region);
        let metadata = self.found(region, key).await?;
        let policy = kms.get_key_policy().key_id(key).policy_name("default");
        let policy = policy.send().await.unwrap().policy.unwrap();
        let status = kms.get_key_rotation_status().key_id(key);
        let status = status.send().await.unwrap();
        let listed = kms.list_resource_tags().key_id(key).limit(50);
        let listed = listed.send().await.unwrap();
        assert!(!listed.truncated());
        let pair = |tag: &Tag| (tag.tag_key().to_owned(), tag.tag_value().to_owned());
        Some(Resource {
            metadata,
            policy,
            rotation: (
                status.key_rotation_enabled(),
                status.rotation_period_in_days(),
            ),
            tags: listed.tags().iter().map(pair).collect(),
        })
    }

    /// Waits for what a change shows, as the provider waits for propagation.
    async fn propagated(
        &self,
        region: &str,
        key: &str,
        shows: impl Fn(&Resource) -> bool,
    ) -> Resource {
        wait::until("propagation", wait::SHORT, async || {
            let read = self.read(region, key).await;
            read.filter(&shows)
        })
        .await
    }

    /// ScheduleKeyDeletion, then the wait until the key counts as gone.
    async fn destroy(&self, region: &str, key: &str) -> KeyState {
        let call = self.kms(region).schedule_key_deletion().key_id(key);
        let answer = call.pending_window_in_days(7).send().await.unwrap();
        wait::until_true("end", wait::SHORT, async || {
            self.found(region, key).await.is_none()
        })
        .await;
        answer.key_state.expect("a state")
    }
}

/// Catches what would leave Terraform waiting or failing: a replica whose state on the way is
/// another than Creating, policy, tags or rotation that do not come to read as set, a replica that
/// does not follow the primary's rotation, and a destruction in order that does not end in order.
#[tokio::test]
async fn a_family_is_applied_and_destroyed() {
    let dev = dev().await;
    let kin = Relatives::at(&dev.ready.endpoint, "terraform");
    let [east, ireland, west] = REGIONS;
    let account = keyrum_tests::sdk::account_of("terraform");

    // aws_kms_key: created, then rotation, then a wait for policy and tags.
    let wanted = policy("primary", &account);
    let call = kin.kms(east).create_key().multi_region(true);
    let call = call.bypass_policy_lockout_safety_check(false);
    let call = call.description("by terraform").policy(&wanted);
    let made = call.tags(tag("env", "test")).send().await.unwrap();
    let key = made.key_metadata.unwrap().key_id;
    let call = kin.kms(east).enable_key_rotation().key_id(&key);
    call.rotation_period_in_days(180).send().await.unwrap();
    let primary = kin
        .propagated(east, &key, |read| {
            read.rotation == (true, Some(180))
                && read.policy == wanted
                && read.tags == tags(&[("env", "test")])
        })
        .await;
    let (part, at, replicas) = family(&primary.metadata);
    assert_eq!((part, &*at), (MultiRegionKeyType::Primary, east));
    assert!(replicas.is_empty());

    // aws_kms_replica_key, two at once: pending while Creating, done when Enabled.
    let replicate = async |region: &str| {
        let call = kin.kms(east).replicate_key().key_id(&key);
        let call = call.replica_region(region).description(region);
        let call = call.policy(policy(region, &account));
        let answer = call.tags(tag("in", region)).send().await.unwrap();
        assert_eq!(answer.replica_key_metadata.unwrap().key_id, key);
        wait::until_true("enabled replica", wait::SHORT, async || {
            // Not there yet reads as not found, which the provider takes too.
            let Some(shown) = kin.found(region, &key).await else {
                return false;
            };
            let state = shown.key_state.unwrap();
            let on_the_way = [KeyState::Creating, KeyState::Enabled];
            assert!(on_the_way.contains(&state), "{state}");
            state == KeyState::Enabled
        })
        .await;
    };
    tokio::join!(replicate(ireland), replicate(west));
    for region in [ireland, west] {
        let read = kin.read(region, &key).await.expect("it is there");
        assert_eq!(read.policy, policy(region, &account));
        assert_eq!(read.tags, tags(&[("in", region)]));
        assert_eq!(read.metadata.description(), Some(region));
        assert_eq!(read.rotation, (true, Some(180)), "the primary's");
        let (part, at, _) = family(&read.metadata);
        assert_eq!((part, &*at), (MultiRegionKeyType::Replica, east));
    }

    // A change of each; only the rotation is shared.
    let call = kin.kms(east).enable_key_rotation().key_id(&key);
    call.rotation_period_in_days(365).send().await.unwrap();
    for region in REGIONS {
        kin.propagated(region, &key, |read| read.rotation == (true, Some(365)))
            .await;
    }
    let call = kin.kms(ireland).update_key_description().key_id(&key);
    call.description("changed").send().await.unwrap();
    let wanted = policy("changed", &account);
    let call = kin.kms(ireland).put_key_policy().key_id(&key);
    let call = call.policy_name("default").policy(&wanted);
    call.send().await.unwrap();
    let call = kin.kms(ireland).untag_resource().key_id(&key);
    call.tag_keys("in").send().await.unwrap();
    let call = kin.kms(ireland).tag_resource().key_id(&key);
    call.tags(tag("new", "1")).send().await.unwrap();
    let call = kin.kms(ireland).disable_key().key_id(&key);
    call.send().await.unwrap();
    kin.propagated(ireland, &key, |read| {
        read.metadata.description() == Some("changed")
            && read.policy == wanted
            && read.tags == tags(&[("new", "1")])
            && !read.metadata.enabled()
    })
    .await;
    let other = kin.read(west, &key).await.expect("it is there");
    assert_eq!(other.tags, tags(&[("in", west)]));
    assert!(other.metadata.enabled());

    // Replicas first, then what they depend on.
    let (one, two) = tokio::join!(kin.destroy(ireland, &key), kin.destroy(west, &key));
    assert_eq!(
        [one, two],
        [KeyState::PendingDeletion, KeyState::PendingDeletion]
    );
    let last = kin.destroy(east, &key).await;
    assert_eq!(last, KeyState::PendingReplicaDeletion);
    advance(&dev, "8d");
    for region in [ireland, west] {
        assert!(kin.look(region, &key).await.is_none());
    }
    kin.wait_for(east, &key, KeyState::PendingDeletion).await;
    advance(&dev, "8d");
    wait::until_true("end of the primary", wait::SHORT, async || {
        kin.look(east, &key).await.is_none()
    })
    .await;
}
