//! Grants: what they may say, how they are listed, and how they end.

use std::collections::BTreeSet;

use aws_sdk_kms::operation::create_grant::builders::CreateGrantFluentBuilder;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{GrantConstraints, GrantListEntry, GrantOperation, KeySpec, KeyUsageType};
use keyrum_tests::sdk::{self, HERE, THERE, refused};
use keyrum_tests::{Dev, shared_dev, wait};

use crate::clock::advance;
use crate::desk::{Desk, Key, NOBODY};

const INVALID_TOKEN: (&str, &str) = ("InvalidGrantTokenException", "A grant token is not valid.");
const DRY_RUN: (&str, &str) = (
    "DryRunOperationException",
    "The request would have succeeded, but the DryRun option is set.",
);

impl Desk {
    fn principal(&self, rest: &str) -> String {
        format!("arn:aws:iam::{}:{rest}", self.account)
    }

    /// CreateGrant for a user, who may encrypt.
    fn grant(&self, key: &str) -> CreateGrantFluentBuilder {
        let call = self.kms.create_grant().key_id(key);
        call.grantee_principal(self.principal("user/ada"))
            .operations(GrantOperation::Encrypt)
    }

    /// A new grant's id and token.
    async fn granted(&self, key: &str) -> (String, String) {
        made(self.grant(key)).await
    }

    async fn grants(&self, key: &str) -> Vec<GrantListEntry> {
        let call = self.kms.list_grants().key_id(key);
        call.send().await.unwrap().grants.unwrap()
    }
}

async fn made(call: CreateGrantFluentBuilder) -> (String, String) {
    let answer = call.send().await.unwrap();
    (answer.grant_id.unwrap(), answer.grant_token.unwrap())
}

fn ids(grants: &[GrantListEntry]) -> BTreeSet<String> {
    grants
        .iter()
        .map(|grant| grant.grant_id().unwrap().to_owned())
        .collect()
}

/// Catches an entry that does not say what was granted, a request that is repeated and grants twice, and
/// one that is not and does not.
#[tokio::test]
async fn grants_are_listed_as_they_were_made() {
    let desk = Desk::dev("grants").await;
    let key = desk.key().await;
    let context = |call: aws_sdk_kms::types::builders::GrantConstraintsBuilder| {
        call.encryption_context_subset("tenant", "1").build()
    };
    let call = desk
        .grant(&key.id)
        .operations(GrantOperation::Decrypt)
        .retiring_principal(desk.principal("role/path/r"))
        .constraints(context(GrantConstraints::builder()))
        .name("backup");
    let (id, token) = made(call.clone()).await;
    assert!(
        id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()),
        "{id}"
    );
    let (again, other_token) = made(call.clone()).await;
    assert_eq!(again, id);
    assert_ne!(other_token, token);
    assert!(token.len() <= 8192);
    let (other, _) = made(call.operations(GrantOperation::DescribeKey)).await;
    assert_ne!(other, id);
    let listed = desk.grants(&key.arn).await;
    assert_eq!(ids(&listed), [id.clone(), other].into());

    let call = desk.kms.list_grants().key_id(&key.id).grant_id(&id);
    let [entry] = &call.send().await.unwrap().grants.unwrap()[..] else {
        panic!("one grant has that id");
    };
    assert_eq!(entry.key_id(), Some(&*key.arn));
    assert_eq!(entry.name(), Some("backup"));
    assert_eq!(entry.creation_date().unwrap().subsec_nanos(), 0);
    assert_eq!(
        entry.grantee_principal(),
        Some(&*desk.principal("user/ada"))
    );
    assert_eq!(
        entry.retiring_principal(),
        Some(&*desk.principal("role/path/r"))
    );
    assert_eq!(entry.issuing_account(), Some(&*desk.principal("root")));
    assert_eq!(
        entry.operations(),
        [GrantOperation::Encrypt, GrantOperation::Decrypt]
    );
    let constraints = context(GrantConstraints::builder());
    assert_eq!(entry.constraints(), Some(&constraints));

    // Without a name, each is another; to a service, it is shown with the Region.
    let (one, two) = (desk.granted(&key.id).await, desk.granted(&key.id).await);
    assert_ne!(one.0, two.0);
    let bound = GrantConstraints::builder()
        .source_arn(desk.arn("key/x"))
        .build();
    let call = desk.kms.create_grant().key_id(&key.id);
    let call = call
        .grantee_service_principal("sqs.amazonaws.com")
        .retiring_service_principal("s3.amazonaws.com")
        .operations(GrantOperation::GenerateDataKey)
        .constraints(bound.clone());
    let (service, _) = made(call).await;
    let call = desk.kms.list_grants().key_id(&key.id);
    let call = call.grantee_service_principal("sqs.amazonaws.com");
    let [entry] = &call.send().await.unwrap().grants.unwrap()[..] else {
        panic!("one grant is to that service");
    };
    assert_eq!(entry.grant_id(), Some(&*service));
    assert_eq!(entry.name(), Some(""));
    assert_eq!(entry.grantee_principal(), None);
    assert_eq!(
        entry.grantee_service_principal(),
        Some("sqs.us-east-1.amazonaws.com")
    );
    assert_eq!(
        entry.retiring_service_principal(),
        Some("s3.us-east-1.amazonaws.com")
    );
    assert_eq!(entry.constraints(), Some(&bound));
    let call = desk.kms.list_grants().key_id(&key.id);
    let call = call.grantee_principal(desk.principal("user/ada"));
    assert_eq!(call.send().await.unwrap().grants().len(), 4);
    let call = desk.kms.list_retirable_grants();
    let call = call.retiring_service_principal("s3.amazonaws.com");
    assert_eq!(ids(call.send().await.unwrap().grants()), [service].into());
}

/// Catches a grant that the real service would refuse, or that it refuses in other words.
#[tokio::test]
async fn grants_have_rules() {
    let desk = Desk::dev("rules of grants").await;
    let key = desk.key().await;
    let mac = desk
        .key_of(KeySpec::Hmac256, KeyUsageType::GenerateVerifyMac)
        .await;
    let ecc = desk
        .key_of(KeySpec::EccNistP256, KeyUsageType::SignVerify)
        .await;
    let validation = "ValidationException";
    let call = desk.grant(&mac.id).operations(GrantOperation::VerifyMac);
    let message = "Operations [Encrypt] are not supported when creating a grant for a symmetric KMS \
                   key with key usage GENERATE_VERIFY_MAC. Valid operations are [CreateGrant, \
                   RetireGrant, DescribeKey, GenerateMac, VerifyMac]";
    refused(call.send().await, validation, message);
    let message = "Operations [Encrypt] are not supported when creating a grant for an asymmetric KMS \
                   key with key usage SIGN_VERIFY. Valid operations are [CreateGrant, RetireGrant, \
                   DescribeKey, Sign, Verify, GetPublicKey]";
    refused(desk.grant(&ecc.id).send().await, validation, message);
    let to = |key: &Key, principal: &str| {
        let call = desk.kms.create_grant().key_id(&key.id);
        call.grantee_principal(principal)
            .operations(GrantOperation::DescribeKey)
    };
    let ada = desk.principal("user/ada");
    let call = desk
        .kms
        .create_grant()
        .key_id(&key.id)
        .grantee_principal(&ada);
    let only = call.operations(GrantOperation::CreateGrant).send().await;
    let message = "Grants must not contain only the CreateGrant operation.";
    refused(only, validation, message);
    let constraints = GrantConstraints::builder()
        .encryption_context_equals("a", "b")
        .build();
    let message = "EncryptionContext is supported only when creating a grant for a symmetric \
                   encryption KMS key.";
    for key in [&mac, &ecc] {
        let call = to(key, &ada).constraints(constraints.clone());
        refused(call.send().await, validation, message);
    }
    let mut long = GrantConstraints::builder();
    for number in 0..9 {
        long = long.encryption_context_equals(number.to_string(), "v");
    }
    let longer = GrantConstraints::builder().encryption_context_subset("a", "v".repeat(385));
    let message = "An encryption context constraint must have at most 8 pairs, of keys and values of \
                   at most 384 characters.";
    for constraints in [long.build(), longer.build()] {
        let call = to(&key, &ada).constraints(constraints);
        refused(call.send().await, validation, message);
    }

    let invalid = "InvalidArnException";
    let group = desk.principal("group/g");
    let message = format!("ARN does not refer to a valid principal: {group}");
    refused(to(&key, &group).send().await, invalid, &message);
    let message = "ARN is not valid: arn:aws:iam";
    refused(to(&key, "arn:aws:iam").send().await, invalid, message);
    let message = "GranteePrincipal does not refer to a valid principal.";
    refused(to(&key, "AROAEXAMPLE").send().await, invalid, message);
    let call = to(&key, &ada).retiring_principal("AROAEXAMPLE");
    let message = "RetiringPrincipal does not refer to a valid principal.";
    refused(call.send().await, invalid, message);

    let service = "sqs.amazonaws.com";
    let message = "Specify either GranteePrincipal or GranteeServicePrincipal.";
    let call = to(&key, &ada).grantee_service_principal(service);
    refused(call.send().await, validation, message);
    let neither = to(&key, &ada).set_grantee_principal(None);
    refused(neither.clone().send().await, validation, message);
    let call = to(&key, &ada)
        .retiring_principal(&ada)
        .retiring_service_principal(service);
    let message = "Specify either RetiringPrincipal or RetiringServicePrincipal.";
    refused(call.send().await, validation, message);
    let call = neither.grantee_service_principal(service);
    let message = "A grant to a service principal must have a retiring principal.";
    refused(call.clone().send().await, validation, message);
    let message = "A grant to a service principal must have a SourceArn constraint.";
    refused(
        call.retiring_principal(&ada).send().await,
        validation,
        message,
    );

    let message = format!(
        "Key '{}' does not exist",
        desk.arn(&format!("key/{NOBODY}"))
    );
    refused(
        desk.grant(NOBODY).send().await,
        "NotFoundException",
        &message,
    );
    let message = "Key Aliases are not supported for this operation.";
    refused(desk.grant("alias/a").send().await, invalid, message);
    let disabled = desk.disabled_key().await;
    let message = format!("{} is disabled.", disabled.arn);
    refused(
        desk.grant(&disabled.id).send().await,
        "DisabledException",
        &message,
    );
    let stranger = Desk::dev("a stranger to grants").await;
    let answer = stranger.grant(&key.arn).send().await;
    refused(
        answer,
        "AccessDeniedException",
        &stranger.denied("CreateGrant"),
    );

    refused(
        desk.grant(&key.id).dry_run(true).send().await,
        DRY_RUN.0,
        DRY_RUN.1,
    );
    assert!(desk.grants(&key.id).await.is_empty());
    let call = desk.grant(&disabled.id).dry_run(true);
    refused(call.send().await, "DisabledException", &message);
}

impl Desk {
    fn denied(&self, operation: &str) -> String {
        format!(
            "User: {} is not authorized to perform: kms:{operation} on this resource because no \
             resource-based policy allows the kms:{operation} action",
            self.principal("root")
        )
    }
}

/// Catches a token that is taken although nobody made it, or its grant is gone, and one that is not taken
/// where it is good.
#[tokio::test]
async fn tokens_are_of_grants_that_are_there() {
    let desk = Desk::dev("grant tokens").await;
    let key = desk.key().await;
    let pair = desk
        .key_of(KeySpec::EccNistP256, KeyUsageType::SignVerify)
        .await;
    let (id, token) = desk.granted(&key.id).await;
    let describe = |token: &str| {
        desk.kms
            .describe_key()
            .key_id(&key.id)
            .grant_tokens(token)
            .send()
    };
    let encrypt = |token: &str| {
        let call = desk.kms.encrypt().key_id(&key.id).plaintext(Blob::new("x"));
        call.grant_tokens(token).send()
    };
    let public = |token: &str| {
        let call = desk.kms.get_public_key().key_id(&pair.id);
        call.grant_tokens(token).send()
    };
    let create = |token: &str| desk.grant(&key.id).name("one").grant_tokens(token).send();
    describe(&token).await.unwrap();
    encrypt(&token).await.unwrap();
    // A token need not be of the key that is used: ReEncrypt has two.
    public(&token).await.unwrap();
    create(&token).await.unwrap();
    let changed = format!("{}{}", &token[..token.len() - 1], "!");
    let marker = desk
        .kms
        .list_keys()
        .limit(1)
        .send()
        .await
        .unwrap()
        .next_marker
        .unwrap();
    let revoke = desk.kms.revoke_grant().key_id(&key.id).grant_id(&id);
    for (bad, gone) in [
        (&*changed, false),
        (&*marker, false),
        ("x", false),
        (&*token, true),
    ] {
        if gone {
            revoke.clone().send().await.unwrap();
        }
        refused(describe(bad).await, INVALID_TOKEN.0, INVALID_TOKEN.1);
        refused(encrypt(bad).await, INVALID_TOKEN.0, INVALID_TOKEN.1);
        refused(public(bad).await, INVALID_TOKEN.0, INVALID_TOKEN.1);
        refused(create(bad).await, INVALID_TOKEN.0, INVALID_TOKEN.1);
        let retire = desk.kms.retire_grant().grant_token(bad);
        refused(retire.send().await, INVALID_TOKEN.0, INVALID_TOKEN.1);
    }
    // Another Region's says nothing here.
    let there = desk.client_in(THERE);
    let call = there
        .retire_grant()
        .grant_token(desk.granted(&key.id).await.1);
    refused(call.send().await, INVALID_TOKEN.0, INVALID_TOKEN.1);
}

/// Catches a grant that somebody ends who may not, or that stays when somebody may, and answers that
/// tell a stranger which grants there are.
#[tokio::test]
async fn grants_end() {
    let desk = Desk::dev("ends of grants").await;
    let friend = Desk::dev("a friend of grants").await;
    let key = desk.key().await;
    let root = friend.principal("root");
    let by_id = |desk: &Desk, id: &str| {
        let call = desk.kms.retire_grant().key_id(&key.arn);
        call.grant_id(id).send()
    };
    // The issuer's account, by id and by token; whom the grant names; the grantee if the grant says so.
    let (one, _) = desk.granted(&key.id).await;
    let dry = desk
        .kms
        .retire_grant()
        .key_id(&key.arn)
        .grant_id(&one)
        .dry_run(true);
    refused(dry.send().await, DRY_RUN.0, DRY_RUN.1);
    by_id(&desk, &one).await.unwrap();
    let message = format!("Grant {one} of {} does not exist", key.arn);
    refused(by_id(&desk, &one).await, "NotFoundException", &message);
    let (_, token) = desk.granted(&key.id).await;
    desk.kms
        .retire_grant()
        .grant_token(&token)
        .send()
        .await
        .unwrap();
    let (named, _) = made(desk.grant(&key.id).retiring_principal(&root)).await;
    let retirable = friend.kms.list_retirable_grants().retiring_principal(&root);
    let listed = retirable.clone().send().await.unwrap();
    assert_eq!(ids(listed.grants()), [named.clone()].into());
    assert_eq!(listed.grants()[0].key_id(), Some(&*key.arn));
    by_id(&friend, &named).await.unwrap();
    assert!(retirable.send().await.unwrap().grants().is_empty());
    let call = desk
        .kms
        .create_grant()
        .key_id(&key.id)
        .grantee_principal(&root);
    let call = call.operations(GrantOperation::Decrypt);
    let (_, token) = made(call.clone().operations(GrantOperation::RetireGrant)).await;
    friend
        .kms
        .retire_grant()
        .grant_token(&token)
        .send()
        .await
        .unwrap();

    // Anybody else is told the same of grants that are there and of those that are not.
    let (without, token) = made(call).await;
    let denied = friend.denied("RetireGrant");
    let nobody = "0".repeat(64);
    for id in [&without, &named, &nobody] {
        refused(by_id(&friend, id).await, "AccessDeniedException", &denied);
    }
    let call = friend.kms.retire_grant().grant_token(&token);
    refused(call.send().await, "AccessDeniedException", &denied);
    let call = friend
        .kms
        .revoke_grant()
        .key_id(&key.arn)
        .grant_id(&without);
    refused(
        call.send().await,
        "AccessDeniedException",
        &friend.denied("RevokeGrant"),
    );
    let call = friend.kms.list_grants().key_id(&key.arn);
    refused(
        call.send().await,
        "AccessDeniedException",
        &friend.denied("ListGrants"),
    );
    assert_eq!(ids(&desk.grants(&key.id).await), [without.clone()].into());

    let revoke = |id: &str| desk.kms.revoke_grant().key_id(&key.id).grant_id(id);
    refused(
        revoke(&without).dry_run(true).send().await,
        DRY_RUN.0,
        DRY_RUN.1,
    );
    desk.kms.disable_key().key_id(&key.id).send().await.unwrap();
    revoke(&without).send().await.unwrap();
    let message = format!("Grant {without} of {} does not exist", key.arn);
    refused(revoke(&without).send().await, "NotFoundException", &message);
    let malformed = "The grant ID must be 64 lower-case hexadecimal digits.";
    refused(
        revoke("x").send().await,
        "InvalidGrantIdException",
        malformed,
    );
    let call = desk.kms.list_grants().key_id(&key.id).grant_id("x");
    refused(call.send().await, "InvalidGrantIdException", malformed);
    refused(
        by_id(&desk, "x").await,
        "InvalidGrantIdException",
        malformed,
    );
    let message = "Specify either GrantToken, or KeyId and GrantId.";
    let call = desk.kms.retire_grant();
    refused(call.clone().send().await, "ValidationException", message);
    refused(
        call.clone().key_id(&key.arn).send().await,
        "ValidationException",
        message,
    );
    let message = format!("Invalid arn {}", key.id);
    let call = call.key_id(&key.id).grant_id(&nobody);
    refused(call.send().await, "NotFoundException", &message);
}

/// Catches a page that loses or repeats a grant, a marker that is taken elsewhere, and a principal whose
/// grants are shown to others.
#[tokio::test]
async fn grants_come_in_pages() {
    let desk = Desk::dev("pages of grants").await;
    let (key, other) = (desk.key().await, desk.key().await);
    let rita = desk.principal("user/rita");
    let mut made_here = BTreeSet::new();
    for number in 0..60 {
        let key = if number < 57 { &key } else { &other };
        let call = desk.grant(&key.id).retiring_principal(&rita);
        made_here.insert(made(call).await.0);
    }
    let first = desk.kms.list_grants().key_id(&key.id).send().await.unwrap();
    assert_eq!((first.grants().len(), first.truncated()), (50, true));
    // A page of any node goes on at any other.
    let nodes = &shared_dev().await.regions[HERE].nodes;
    let desks: Vec<_> = nodes
        .iter()
        .map(|node| Desk::at(&node.api, "pages of grants"))
        .collect();
    let (mut on_key, mut retirable) = (BTreeSet::new(), BTreeSet::new());
    let (mut marker, mut after) = (None, None);
    for desk in desks.iter().cycle() {
        let call = desk.kms.list_grants().key_id(&key.id).limit(20);
        let page = call.set_marker(marker).send().await.unwrap();
        assert_eq!(page.truncated(), page.next_marker().is_some());
        for id in ids(page.grants()) {
            assert!(on_key.insert(id), "one came twice");
        }
        let call = desk
            .kms
            .list_retirable_grants()
            .retiring_principal(&rita)
            .limit(20);
        let all = call.set_marker(after).send().await.unwrap();
        for id in ids(all.grants()) {
            assert!(retirable.insert(id), "one came twice");
        }
        (marker, after) = (page.next_marker, all.next_marker);
        if marker.is_none() {
            break;
        }
    }
    assert_eq!((on_key.len(), &retirable, after), (57, &made_here, None));

    let marker = first.next_marker.unwrap();
    let invalid = "InvalidMarkerException";
    let call = desk.kms.list_grants().key_id(&other.id).marker(&marker);
    refused(call.send().await, invalid, "");
    let call = desk.kms.list_grants().key_id(&key.id).marker(&marker);
    refused(call.grantee_principal(&rita).send().await, invalid, "");
    let call = desk.kms.list_retirable_grants().retiring_principal(&rita);
    refused(call.clone().marker(&marker).send().await, invalid, "");
    let message = "1 validation error detected: Value '101' at 'limit' failed to satisfy constraint: \
                   Member must have value less than or equal to 100";
    refused(call.limit(101).send().await, "ValidationException", message);

    let stranger = Desk::dev("a stranger to pages of grants").await;
    let call = stranger
        .kms
        .list_retirable_grants()
        .retiring_principal(&rita);
    let denied = stranger.denied("ListRetirableGrants");
    refused(call.send().await, "AccessDeniedException", &denied);
    let list = |principal: &str| {
        desk.kms
            .list_retirable_grants()
            .retiring_principal(principal)
            .send()
    };
    let message = "Retiring principal AIDAEXAMPLE could not be found";
    refused(list("AIDAEXAMPLE").await, "NotFoundException", message);
    let group = desk.principal("group/g");
    let message = format!("ARN does not refer to a valid principal: {group}");
    refused(list(&group).await, "InvalidArnException", &message);
    let call = desk
        .kms
        .list_grants()
        .key_id(&key.id)
        .grantee_principal("AIDAEXAMPLE");
    let message = "Input does not refer to a valid principal";
    refused(call.send().await, "InvalidArnException", message);
    let message = "Specify either RetiringPrincipal or RetiringServicePrincipal.";
    let call = desk.kms.list_retirable_grants();
    refused(call.send().await, "ValidationException", message);
}

/// Catches a grant that outlives its key, or is lost with a node, and a token that only the node that
/// made it takes, or only until it is started again.
#[tokio::test]
async fn grants_and_tokens_outlive_nodes_but_not_keys() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let shape = ["--data", data.to_str().unwrap(), "--nodes", "3"];
    let account = sdk::account_of("lives of grants");
    let at = |dev: &Dev, node: usize| {
        let api = &dev.ready.regions[HERE].nodes[node].api;
        Desk::at(api, "lives of grants")
    };
    let dev = Dev::start(&shape).await;
    let desk = at(&dev, 0);
    assert_eq!(desk.account, account);
    let (kept, doomed) = (desk.key().await, desk.key().await);
    let (retired, token) = desk.granted(&kept.id).await;
    let (stays, _) = desk.granted(&kept.id).await;
    let (_, lost) = desk.granted(&doomed.id).await;
    let describe = at(&dev, 1)
        .kms
        .describe_key()
        .key_id(&kept.id)
        .grant_tokens(&token);
    describe.send().await.unwrap();
    drop(dev);

    let dev = Dev::start(&shape).await;
    let desk = at(&dev, 2);
    assert_eq!(
        ids(&desk.grants(&kept.id).await),
        [retired, stays.clone()].into()
    );
    desk.kms
        .retire_grant()
        .grant_token(&token)
        .send()
        .await
        .unwrap();
    assert_eq!(ids(&desk.grants(&kept.id).await), [stays].into());

    let call = desk.kms.schedule_key_deletion().key_id(&doomed.id);
    call.pending_window_in_days(7).send().await.unwrap();
    assert_eq!(desk.grants(&doomed.id).await.len(), 1);
    let out = advance(&dev, "8d");
    assert!(out.status.success(), "{out:?}");
    let gone = async || {
        desk.kms
            .list_grants()
            .key_id(&doomed.id)
            .send()
            .await
            .is_err()
    };
    wait::until_true("deletion of a key with a grant", wait::SHORT, gone).await;
    let message = format!("Key '{}' does not exist", doomed.arn);
    let answer = desk.kms.list_grants().key_id(&doomed.id).send().await;
    refused(answer, "NotFoundException", &message);
    let call = desk.kms.retire_grant().grant_token(&lost);
    refused(call.send().await, INVALID_TOKEN.0, INVALID_TOKEN.1);
}
