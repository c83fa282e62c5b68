//! Lists in pages.

use std::collections::BTreeSet;

use keyrum_tests::sdk::refused;
use keyrum_types::ManagedService;
use tokio::task::JoinSet;

use crate::desk::{Desk, tag};

/// Catches a list of keys that loses or repeats some between pages, or whose default page is not
/// the real one.
#[tokio::test]
async fn keys_come_in_pages() {
    let desk = Desk::dev("pages of keys").await;
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let kms = desk.kms.clone();
        tasks.spawn(async move {
            let mut ids = Vec::new();
            for _ in 0..15 {
                let answer = kms.create_key().send().await.unwrap();
                ids.push(answer.key_metadata().unwrap().key_id().to_owned());
            }
            ids
        });
    }
    let made: BTreeSet<String> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(made.len(), 120);

    let first = desk.kms.list_keys().send().await.unwrap();
    assert_eq!((first.keys().len(), first.truncated()), (100, true));
    for limit in [1, 7, 119, 120, 1000] {
        let mut seen = BTreeSet::new();
        let mut marker = None;
        let mut pages = 0;
        loop {
            let page = desk
                .kms
                .list_keys()
                .limit(limit)
                .set_marker(marker)
                .send()
                .await
                .unwrap();
            assert!(page.keys().len() <= usize::try_from(limit).unwrap());
            assert_eq!(page.truncated(), page.next_marker().is_some());
            for key in page.keys() {
                assert!(
                    seen.insert(key.key_id().unwrap().to_owned()),
                    "{key:?} came twice"
                );
            }
            pages += 1;
            marker = page.next_marker().map(str::to_owned);
            if marker.is_none() {
                break;
            }
        }
        assert_eq!(seen, made, "in pages of {limit}");
        assert!(pages <= 120 / limit + 1);
        if limit == 1 {
            // The SDK's own paginator, once.
            let mut pages = desk
                .kms
                .list_keys()
                .into_paginator()
                .page_size(50)
                .items()
                .send();
            let mut count = 0;
            while let Some(key) = pages.next().await {
                key.unwrap();
                count += 1;
            }
            assert_eq!(count, 120);
        }
    }
    // A page of any node goes on at any other.
    let nodes = &keyrum_tests::shared_dev().await.regions[keyrum_tests::sdk::HERE].nodes;
    let mut marker = None;
    let mut seen = 0;
    for node in nodes.iter().cycle() {
        let kms = Desk::at(&node.api, "pages of keys").kms;
        let page = kms
            .list_keys()
            .limit(25)
            .set_marker(marker)
            .send()
            .await
            .unwrap();
        seen += page.keys().len();
        marker = page.next_marker().map(str::to_owned);
        if marker.is_none() {
            break;
        }
    }
    assert_eq!(seen, 120);
}

/// Catches the same for aliases, of an account and of a key, and for tags.
#[tokio::test]
async fn aliases_and_tags_come_in_pages() {
    let desk = Desk::dev("pages of aliases").await;
    let (one, two) = (desk.key().await, desk.key().await);
    for number in 0..60 {
        let target = if number < 40 { &one } else { &two };
        let call = desk
            .kms
            .create_alias()
            .alias_name(format!("alias/{number}"));
        call.target_key_id(&target.id).send().await.unwrap();
    }
    let first = desk.kms.list_aliases().send().await.unwrap();
    assert_eq!((first.aliases().len(), first.truncated()), (50, true));
    // All and the predefined ones; those of a key.
    let all = 60 + ManagedService::aliases().len();
    for (key, count) in [(None, all), (Some(&one.id), 40), (Some(&two.arn), 20)] {
        let mut names = BTreeSet::new();
        let mut marker = None;
        loop {
            let call = desk
                .kms
                .list_aliases()
                .set_key_id(key.cloned())
                .set_marker(marker);
            let page = call.limit(13).send().await.unwrap();
            names.extend(
                page.aliases()
                    .iter()
                    .map(|alias| alias.alias_name().unwrap().to_owned()),
            );
            marker = page.next_marker().map(str::to_owned);
            if marker.is_none() {
                break;
            }
        }
        assert_eq!(names.len(), count, "{key:?}");
    }

    let tags = (0..50)
        .map(|number| tag(&format!("k{number}"), "v"))
        .collect();
    desk.kms
        .tag_resource()
        .key_id(&one.id)
        .set_tags(Some(tags))
        .send()
        .await
        .unwrap();
    let mut names = BTreeSet::new();
    let mut marker = None;
    loop {
        let call = desk
            .kms
            .list_resource_tags()
            .key_id(&one.id)
            .limit(20)
            .set_marker(marker);
        let page = call.send().await.unwrap();
        names.extend(page.tags().iter().map(|tag| tag.tag_key().to_owned()));
        marker = page.next_marker().map(str::to_owned);
        if marker.is_none() {
            break;
        }
    }
    assert_eq!(names.len(), 50);
}

/// Catches a marker that is taken where it was not given, and a limit beyond the operation's.
#[tokio::test]
async fn markers_and_limits_are_checked() {
    let desk = Desk::dev("markers").await;
    let (one, two) = (desk.key().await, desk.key().await);
    for name in ["alias/a", "alias/b"] {
        desk.kms
            .create_alias()
            .alias_name(name)
            .target_key_id(&one.id)
            .send()
            .await
            .unwrap();
    }
    let invalid = "InvalidMarkerException";
    let marker = desk
        .kms
        .list_keys()
        .limit(1)
        .send()
        .await
        .unwrap()
        .next_marker
        .unwrap();
    refused(
        desk.kms.list_aliases().marker(&marker).send().await,
        invalid,
        "",
    );
    refused(
        desk.kms.list_keys().marker("made up").send().await,
        invalid,
        "",
    );
    let call = desk.kms.list_aliases().key_id(&one.id).limit(1);
    let marker = call.send().await.unwrap().next_marker.unwrap();
    let other = desk.kms.list_aliases().key_id(&two.id).marker(&marker);
    refused(other.send().await, invalid, "");
    let other = Desk::dev("markers of another account").await;
    refused(
        other.kms.list_aliases().marker(&marker).send().await,
        invalid,
        "",
    );

    let message = |value: i32, bound: &str| {
        format!(
            "1 validation error detected: Value '{value}' at 'limit' failed to satisfy constraint: \
             Member must have value {bound}"
        )
    };
    let code = "ValidationException";
    let zero = message(0, "greater than or equal to 1");
    refused(desk.kms.list_keys().limit(0).send().await, code, &zero);
    let large = message(1001, "less than or equal to 1000");
    refused(desk.kms.list_keys().limit(1001).send().await, code, &large);
    let large = message(101, "less than or equal to 100");
    refused(
        desk.kms.list_aliases().limit(101).send().await,
        code,
        &large,
    );
}
