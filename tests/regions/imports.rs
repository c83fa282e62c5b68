//! Families of keys with imported material: its bytes never cross, and it is rotated to once every member
//! has them.

use aws_sdk_kms::operation::import_key_material::builders::ImportKeyMaterialFluentBuilder;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{
    AlgorithmSpec, ExpirationModelType, ImportState, ImportType, IncludeKeyMaterial, KeyState,
    OriginType, WrappingKeySpec,
};
use keyrum_tests::import::wrap;
use keyrum_tests::sdk::refused;
use keyrum_tests::{Cluster, Shape, wait};

use crate::faults::leader;
use crate::relatives::{REGIONS, Relatives, dev};

impl Relatives {
    /// An import that never expires, with a token of that Region, not sent yet.
    async fn import(&self, region: &str, key: &str, byte: u8) -> ImportKeyMaterialFluentBuilder {
        // On a busy machine a key pair may not be there in time.
        let parameters = wait::until("a token", wait::LONG, async || {
            let call = self.kms(region).get_parameters_for_import().key_id(key);
            let call = call.wrapping_algorithm(AlgorithmSpec::RsaesOaepSha256);
            let call = call.wrapping_key_spec(WrappingKeySpec::Rsa2048);
            call.send().await.ok()
        })
        .await;
        let public = parameters.public_key().expect("a public key");
        let wrapped = wrap("RSAES_OAEP_SHA_256", public.as_ref(), &[byte; 32]);
        let call = self.kms(region).import_key_material().key_id(key);
        call.import_token(parameters.import_token().expect("a token").clone())
            .encrypted_key_material(Blob::new(wrapped))
            .expiration_model(ExpirationModelType::KeyMaterialDoesNotExpire)
    }

    /// A family of the first Region's with a replica in each of the others, all of which have the same
    /// first material; and its id.
    async fn imported_family(&self, others: &[&str]) -> (String, String) {
        let call = self.kms(REGIONS[0]).create_key().multi_region(true);
        let made = call.origin(OriginType::External).send().await.unwrap();
        let key = made.key_metadata.unwrap().key_id;
        let first = self.import(REGIONS[0], &key, 1).await.send().await;
        for region in others {
            self.replicate(&key, REGIONS[0], region).await;
            self.wait_for(region, &key, KeyState::PendingImport).await;
            self.import(region, &key, 1).await.send().await.unwrap();
        }
        let members = [&REGIONS[..1], others].concat();
        self.settle(&key, REGIONS[0], &members).await;
        (key, first.unwrap().key_material_id.unwrap())
    }

    /// Imports what the family is to be rotated to into its primary; its id.
    async fn import_new(&self, region: &str, key: &str, byte: u8) -> String {
        let call = self.import(region, key, byte).await;
        let call = call.import_type(ImportType::NewKeyMaterial);
        let call = call.key_material_description(format!("number {byte}"));
        call.send().await.unwrap().key_material_id.unwrap()
    }

    /// Imports what the primary was given into another member, once it is known there.
    async fn import_there(&self, region: &str, key: &str, byte: u8, id: &str) {
        let what = format!("import of {id} in {region}");
        wait::until_true(&what, wait::LONG, async || {
            let call = self.import(region, key, byte).await.key_material_id(id);
            call.send().await.is_ok()
        })
        .await;
    }

    /// Waits until each of the members shows these versions.
    async fn wait_for_versions(&self, members: &[&str], key: &str, expected: &[(&str, bool)]) {
        for member in members {
            let what = format!("{expected:?} in {member}");
            wait::until_true(&what, wait::LONG, async || {
                let found = self.versions(member, key).await;
                let found = found.iter().map(|(state, here)| (&**state, *here));
                found.eq(expected.iter().copied())
            })
            .await;
        }
    }

    async fn rotate(&self, region: &str, key: &str) {
        let call = self.kms(region).rotate_key_on_demand().key_id(key);
        call.send().await.expect("it rotates");
    }

    /// Each version's state and whether it is there.
    async fn versions(&self, region: &str, key: &str) -> Vec<(String, bool)> {
        let call = self.kms(region).list_key_rotations().key_id(key);
        let call = call.include_key_material(IncludeKeyMaterial::AllKeyMaterial);
        let list = call.send().await.expect("a list");
        let shown = list.rotations().iter().map(|version| {
            let state = version.key_material_state().expect("a state").as_str();
            let here = version.import_state() == Some(&ImportState::Imported);
            (state.to_owned(), here)
        });
        shown.collect()
    }
}

/// Catches a replica that can be used without its material, that takes other bytes than the primary's,
/// loses them with a relative's, or is another key than the primary; and a family that rotates to what
/// a member lacks.
#[tokio::test]
async fn every_member_imports_the_same_bytes() {
    let dev = dev().await;
    let kin = Relatives::at(&dev.ready.endpoint, "imports");
    let [east, ireland, _] = REGIONS;
    let call = kin.kms(east).create_key().multi_region(true);
    let made = call.origin(OriginType::External).send().await.unwrap();
    let key = made.key_metadata.unwrap().key_id;
    let replicate = || {
        kin.kms(east)
            .replicate_key()
            .key_id(&key)
            .replica_region(ireland)
    };
    let arn = kin.described(east, &key).await.arn.unwrap();
    let invalid = "KMSInvalidStateException";
    refused(
        replicate().send().await,
        invalid,
        &format!("{arn} is pending import."),
    );
    let first = kin.import(east, &key, 1).await.send().await.unwrap();
    let first = first.key_material_id.unwrap();
    let replica = replicate()
        .send()
        .await
        .unwrap()
        .replica_key_metadata
        .unwrap();
    assert_eq!(replica.key_state(), Some(&KeyState::Creating));
    let model = Some(&ExpirationModelType::KeyMaterialDoesNotExpire);
    assert_eq!(replica.expiration_model(), model);
    let pending = async || {
        let call = kin.kms(ireland).describe_key().key_id(&key).send().await;
        let key = call.ok().and_then(|answer| answer.key_metadata);
        key.is_some_and(|key| key.key_state() == Some(&KeyState::PendingImport))
    };
    wait::until_true("replica that waits for its material", wait::LONG, pending).await;
    let there = kin.described(ireland, &key).await;
    assert_eq!(there.current_key_material_id(), Some(first.as_str()));
    assert_eq!(there.expiration_model(), None);
    assert_eq!(
        kin.versions(ireland, &key).await,
        [("CURRENT".to_owned(), false)]
    );

    let other = kin.import(ireland, &key, 2).await.send().await;
    let expected =
        format!("Imported key material does not have the expected identifier ({first}).");
    refused(other, "IncorrectKeyMaterialException", &expected);
    let new = kin.import(ireland, &key, 1).await;
    let validation = "ValidationException";
    refused(
        new.import_type(ImportType::NewKeyMaterial).send().await,
        validation,
        "Input parameter ImportType NEW_KEY_MATERIAL cannot be used on replica Multi-Region keys",
    );
    let described = kin.import(ireland, &key, 1).await;
    refused(
        described.key_material_description("mine").send().await,
        validation,
        "Key material description can only be specified on primary Multi-Region keys",
    );
    let imported = kin.import(ireland, &key, 1).await.send().await.unwrap();
    assert_eq!(imported.key_material_id(), Some(first.as_str()));
    kin.exchange(&key, &[east, ireland]).await;

    // What one member loses the others keep.
    let call = kin.kms(east).delete_imported_key_material().key_id(&key);
    call.send().await.unwrap();
    let (here, there) = (
        kin.described(east, &key).await,
        kin.described(ireland, &key).await,
    );
    assert_eq!(here.key_state(), Some(&KeyState::PendingImport));
    assert_eq!(there.key_state(), Some(&KeyState::Enabled));
    kin.import(east, &key, 1).await.send().await.unwrap();

    let second = kin.import(east, &key, 2).await;
    let second = second.import_type(ImportType::NewKeyMaterial).send().await;
    second.unwrap();
    let waits = "PENDING_MULTI_REGION_IMPORT_AND_ROTATION".to_owned();
    let versions = kin.versions(east, &key).await;
    assert_eq!(versions, [("CURRENT".to_owned(), true), (waits, true)]);
    let rotate = kin.kms(east).rotate_key_on_demand().key_id(&key);
    refused(
        rotate.send().await,
        invalid,
        "Cannot perform key material rotation: Key material has not been imported for replicas of the \
         Multi-Region key.",
    );
    kin.exchange(&key, &[east, ireland]).await;
}

const AWAITED: &str = "PENDING_MULTI_REGION_IMPORT_AND_ROTATION";

/// Catches material that is used before every Region has it, a primary that does not learn who has it or
/// lost it, a replica that is not told what to import, one whose loss is the others' loss, and a new primary
/// that does not carry on.
#[tokio::test]
async fn a_family_rotates_to_what_every_member_imported() {
    let dev = dev().await;
    let kin = Relatives::at(&dev.ready.endpoint, "import-rotates");
    let [east, ireland, west] = REGIONS;
    let (key, first) = kin.imported_family(&[ireland, west]).await;
    let old = kin.encrypt(west, &key, "old").await;

    let second = kin.import_new(east, &key, 2).await;
    let current = ("CURRENT", true);
    let waits = [current, (AWAITED, false)];
    kin.wait_for_versions(&[ireland, west], &key, &waits).await;
    let list = kin.kms(west).list_key_rotations().key_id(&key);
    let list = list.include_key_material(IncludeKeyMaterial::AllKeyMaterial);
    let list = list.send().await.unwrap();
    let pending = list.rotations().last().unwrap();
    assert_eq!(pending.key_material_id(), Some(&*second));
    assert_eq!(pending.key_material_description(), Some("number 2"));
    assert_eq!(pending.import_state(), Some(&ImportState::PendingImport));
    assert_eq!(
        (pending.rotation_date(), pending.expiration_model()),
        (None, None)
    );

    kin.import_there(ireland, &key, 2, &second).await;
    let lacking = "Cannot perform key material rotation: Key material has not been imported for replicas \
                   of the Multi-Region key.";
    let invalid = "KMSInvalidStateException";
    let rotate = || kin.kms(east).rotate_key_on_demand().key_id(&key).send();
    refused(rotate().await, invalid, lacking);
    kin.import_there(west, &key, 2, &second).await;
    let all = [current, ("PENDING_ROTATION", true)];
    kin.wait_for_versions(&REGIONS, &key, &all).await;
    // One that loses it again is waited for again.
    let delete = |region: &'static str, id: &str| {
        let call = kin.kms(region).delete_imported_key_material().key_id(&key);
        call.key_material_id(id).send()
    };
    delete(west, &second).await.unwrap();
    kin.wait_for_versions(&[east, ireland], &key, &[current, (AWAITED, true)])
        .await;
    refused(rotate().await, invalid, lacking);
    let shown = kin.described(west, &key).await;
    assert_eq!(shown.key_state(), Some(&KeyState::Enabled));
    kin.import_there(west, &key, 2, &second).await;
    kin.wait_for_versions(&REGIONS, &key, &all).await;

    kin.rotate(east, &key).await;
    let done = [("NON_CURRENT", true), current];
    kin.wait_for_versions(&REGIONS, &key, &done).await;
    for region in REGIONS {
        let shown = kin.described(region, &key).await;
        assert_eq!(shown.current_key_material_id(), Some(&*second));
        assert_eq!(kin.decrypt(region, &old).await, "old");
    }
    kin.exchange(&key, &REGIONS).await;
    let nothing = format!(
        "No available key material pending rotation for the key: {}.",
        kin.arn(east, &key)
    );
    refused(rotate().await, invalid, &nothing);

    // A version that is one member's loss.
    delete(ireland, &first).await.unwrap();
    let shown = kin.described(ireland, &key).await;
    assert_eq!(shown.key_state(), Some(&KeyState::PendingImport));
    kin.exchange(&key, &[east, west]).await;
    kin.import(ireland, &key, 1).await.send().await.unwrap();
    kin.exchange(&key, &REGIONS).await;

    // The primary moves while the third one waits; the new one has not imported it yet.
    let third = kin.import_new(east, &key, 3).await;
    kin.import_there(west, &key, 3, &third).await;
    let update = kin.kms(east).update_primary_region().key_id(&key);
    update.primary_region(ireland).send().await.unwrap();
    kin.settle(&key, ireland, &REGIONS).await;
    let rotate = kin.kms(ireland).rotate_key_on_demand().key_id(&key);
    refused(rotate.send().await, invalid, lacking);
    kin.import_there(ireland, &key, 3, &third).await;
    let done = [("NON_CURRENT", true), current];
    let all = [done[0], current, ("PENDING_ROTATION", true)];
    kin.wait_for_versions(&REGIONS, &key, &all).await;
    kin.rotate(ireland, &key).await;
    let done = [done[0], done[0], current];
    kin.wait_for_versions(&REGIONS, &key, &done).await;
    kin.exchange(&key, &REGIONS).await;

    // What the primary takes back is nobody's any more.
    let fourth = kin.import_new(ireland, &key, 4).await;
    kin.import_there(east, &key, 4, &fourth).await;
    delete(ireland, &fourth).await.unwrap();
    kin.wait_for_versions(&REGIONS, &key, &done).await;
}

/// Catches a report or a rotation to imported material that is lost when leaders are killed on the way, and
/// material that a restarted node does not know.
#[tokio::test]
async fn leaders_may_be_killed_while_members_import() {
    let [east, ireland, _] = REGIONS;
    let cluster = Cluster::up(&Shape {
        regions: vec![(east, 3), (ireland, 3)],
        ..Shape::one_region(3)
    })
    .await;
    let kin = Relatives::at(cluster.endpoint(), "import-killed");
    let members = [east, ireland];
    let (key, _) = kin.imported_family(&[ireland]).await;
    let old = kin.encrypt(ireland, &key, "old").await;
    let second = kin.import_new(east, &key, 2).await;
    let asleep = leader(&cluster, east).await;
    cluster.command(&["kill", &asleep]).await;
    kin.import_there(ireland, &key, 2, &second).await;
    let reporting = leader(&cluster, ireland).await;
    cluster.command(&["kill", &reporting]).await;
    let all = [("CURRENT", true), ("PENDING_ROTATION", true)];
    kin.wait_for_versions(&members, &key, &all).await;
    cluster.command(&["restart", &asleep]).await;
    let rotating = leader(&cluster, east).await;
    kin.rotate(east, &key).await;
    cluster.command(&["kill", &rotating]).await;
    cluster.command(&["restart", &reporting]).await;
    let done = [("NON_CURRENT", true), ("CURRENT", true)];
    kin.wait_for_versions(&members, &key, &done).await;
    cluster.command(&["restart", &rotating]).await;
    kin.exchange(&key, &members).await;
    for region in members {
        assert_eq!(kin.decrypt(region, &old).await, "old");
    }
    cluster.agree().await;
}
