//! Tests of what is shown of a key's rotation.

use keyrum_state::{Event, KeyRef, PendingRotation};
use keyrum_types::{KeyId, KeyUsage};

use super::*;
use crate::testing::{OTHER, OWN, TestRegion};

/// Material without bytes that anybody unseals.
fn material(byte: u8) -> NewMaterial {
    NewMaterial {
        id: MaterialId([byte; 32]),
        sealed: keyrum_types::SealedMaterial([byte; 8].into()),
    }
}

fn rotate(region: &mut TestRegion, key: KeyRef, byte: u8) {
    let material = material(byte);
    region.apply(Command::RotateKeyOnDemand { key, material });
}

fn list(
    region: &TestRegion,
    key: KeyRef,
    include: Option<IncludeKeyMaterial>,
    limit: usize,
    marker: Option<String>,
) -> Result<Page<RotationEntry>, ServiceError> {
    let key = region.state.key(key).unwrap();
    let input = ListKeyRotationsInput {
        key_id: key.id.to_string(),
        include,
        page: PageRequest {
            limit: None,
            marker,
        },
    };
    let markers = Markers {
        key: &region.tokens,
        operation: "ListKeyRotations",
        account: OWN.parse().unwrap(),
        filter: format!("{} {:?}", key.id, include.unwrap_or_default()),
    };
    list_key_rotations(&region.state, key, &input, limit, markers)
}

/// Catches a status that shows what is not set, forgets it while the key is disabled, or shows it
/// while the key waits to be deleted.
#[test]
fn a_status_follows_setting_and_state() {
    let mut region = TestRegion::new();
    let key = region.key(1);
    let status =
        |region: &TestRegion| rotation_status(&region.state, region.state.key(key).unwrap());
    let shown = status(&region).unwrap();
    assert_eq!(
        shown.key_arn,
        format!("arn:aws:kms:us-east-1:{OWN}:key/{}", key.id)
    );
    assert_eq!((shown.automatic, shown.on_demand_started), (None, None));
    let period = RotationDays::new(90).unwrap();
    region.apply(Command::EnableKeyRotation {
        key,
        period: Some(period),
    });
    let next = region.state.clock().plus_days(90);
    let on = Some(AutomaticRotation { period, next });
    assert_eq!(status(&region).unwrap().automatic, on);
    region.apply(Command::DisableKey { key });
    assert_eq!(status(&region).unwrap().automatic, on);
    let wait = keyrum_types::WaitingDays::DEFAULT;
    region.apply(Command::ScheduleKeyDeletion { key, wait });
    assert_eq!(status(&region).unwrap().automatic, None);
    region.apply(Command::CancelKeyDeletion { key });
    assert_eq!(status(&region).unwrap().automatic, on);
    region.apply(Command::EnableKey { key });
    rotate(&mut region, key, 2);
    let shown = status(&region).unwrap();
    assert_eq!((shown.automatic, shown.on_demand_started), (on, None));
    region.apply(Command::DisableKeyRotation { key });
    assert_eq!(status(&region).unwrap().automatic, None);
}

/// Catches the wrong version being called current, and the first one being called a rotation.
#[test]
fn a_list_tells_what_each_version_is() {
    let mut region = TestRegion::new();
    let key = region.key(1);
    let first = TestRegion::secret(key.id).id(key.id);
    let shown = |region: &TestRegion, include| {
        let page = list(region, key, include, 100, None).unwrap();
        assert_eq!(page.next_marker, None);
        page.items
            .into_iter()
            .map(|entry| (entry.material, entry.state, entry.rotation))
            .collect::<Vec<_>>()
    };
    let all = Some(IncludeKeyMaterial::All);
    assert_eq!(shown(&region, None), []);
    assert_eq!(
        shown(&region, all),
        [(first, KeyMaterialState::Current, None)]
    );
    rotate(&mut region, key, 2);
    let at_2 = region.state.clock();
    rotate(&mut region, key, 3);
    let at_3 = region.state.clock();
    let rotations = [
        (
            material(2).id,
            KeyMaterialState::NonCurrent,
            Some((at_2, RotationKind::OnDemand)),
        ),
        (
            material(3).id,
            KeyMaterialState::Current,
            Some((at_3, RotationKind::OnDemand)),
        ),
    ];
    assert_eq!(shown(&region, None), rotations);
    assert_eq!(
        shown(&region, Some(IncludeKeyMaterial::RotationsOnly)),
        rotations
    );
    let everything = shown(&region, all);
    assert_eq!(everything[0], (first, KeyMaterialState::NonCurrent, None));
    assert_eq!(everything[1..], rotations);
}

/// Catches material that is not current yet being left out, or passed off as a rotation.
#[test]
fn pending_material_comes_last() {
    let mut region = TestRegion::new();
    let key = region.key(1);
    let rotation = Rotation {
        pending: Some(PendingRotation {
            material: material(2),
            started: UnixMillis(5),
            kind: RotationKind::OnDemand,
        }),
        ..Rotation::default()
    };
    let key = region.state.key(key).unwrap();
    let entries = versions(key, Some(&rotation), &region.state);
    let shown: Vec<_> = entries
        .iter()
        .map(|entry| (entry.state, entry.rotation))
        .collect();
    assert_eq!(
        shown,
        [
            (KeyMaterialState::Current, None),
            (KeyMaterialState::PendingRotation, None)
        ]
    );
    assert_eq!(entries[1].material, material(2).id);
}

/// Catches a version left out or repeated between pages, also when the key is rotated meanwhile,
/// and a marker that is taken for another key or choice.
#[test]
fn versions_are_listed_in_pages() {
    let mut region = TestRegion::new();
    let (key, other) = (region.key(1), region.key(2));
    for byte in 2..=5 {
        rotate(&mut region, key, byte);
    }
    for (include, count) in [(None, 4 + 1), (Some(IncludeKeyMaterial::All), 5 + 2)] {
        let mut seen = Vec::new();
        let mut marker = None;
        loop {
            let page = list(&region, key, include, 2, marker.clone()).unwrap();
            seen.extend(page.items.into_iter().map(|entry| entry.material));
            if marker.is_none() {
                rotate(&mut region, key, 0x10 + count);
                let refused = Err(ServiceError::InvalidMarker);
                let marker = page.next_marker.clone();
                assert_eq!(list(&region, other, include, 2, marker.clone()), refused);
                let unlike = match include {
                    None => Some(IncludeKeyMaterial::All),
                    Some(_) => None,
                };
                assert_eq!(list(&region, key, unlike, 2, marker), refused);
            }
            marker = page.next_marker;
            if marker.is_none() {
                break;
            }
        }
        assert_eq!(seen.len(), usize::from(count), "{seen:?}");
        seen.dedup();
        assert_eq!(seen.len(), usize::from(count));
    }
}

/// Catches keys of other kinds being refused where they are only empty, or the reverse.
#[test]
fn other_kinds_have_no_rotations() {
    let mut region = TestRegion::new();
    let kind = (KeySpec::Rsa2048, KeyUsage::SignVerify);
    let signs = region.key_of(OWN, KeyId::single_region([1; 16]), kind);
    let page = list(&region, signs, None, 100, None).unwrap();
    assert_eq!((page.items.len(), page.next_marker), (0, None));
    for include in [IncludeKeyMaterial::All, IncludeKeyMaterial::RotationsOnly] {
        assert_eq!(
            list(&region, signs, Some(include), 100, None),
            Err(ServiceError::IncludeMaterialOfAsymmetric)
        );
    }
    let stored = Command::CreateKey {
        key: KeyId::single_region([2; 16]),
        spec: KeySpec::SymmetricDefault,
        usage: KeyUsage::EncryptDecrypt,
        origin: Origin::ExternalKeyStore,
        description: String::new(),
        policy: None,
        bypass_lockout_check: false,
        tags: Vec::new(),
        material: Some(material(1)),
    };
    let events = region.apply_as(OTHER, stored).unwrap();
    let Event::KeyCreated { key } = &events[0] else {
        panic!("{events:?}")
    };
    let refused = ServiceError::Refused(Refusal::OriginNotForOperation {
        key: key.reference(),
        origin: Origin::ExternalKeyStore,
    });
    assert_eq!(rotation_status(&region.state, key), Err(refused.clone()));
    let all = Some(IncludeKeyMaterial::All);
    assert_eq!(list(&region, key.reference(), all, 100, None), Err(refused));
}
