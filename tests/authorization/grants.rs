//! Grants made through grants, who may retire one, and what tokens are worth.

use keyrum_tests::wait;
use serde_json::{Value, json};

use crate::matrix::start;
use crate::people::{Answer, OTHER, OWNER, People, Person, own};
use crate::requests::{Bench, blob, root_statement};

fn allowed(answer: &Answer) -> bool {
    match answer {
        Ok(_) => true,
        Err((code, message)) => {
            assert_eq!(code, "AccessDeniedException", "{message}");
            false
        }
    }
}

/// Asks for a grant to somebody.
async fn create(
    bench: &Bench,
    person: &Person,
    key: &str,
    grantee: &str,
    operations: &[&str],
    constraints: &Value,
) -> Answer {
    let mut body = json!({"KeyId": key, "GranteePrincipal": grantee, "Operations": operations});
    if !constraints.is_null() {
        body["Constraints"] = constraints.clone();
    }
    bench.here.ask(person, "CreateGrant", &body).await
}

/// Catches a grant made through a grant that allows an operation or an encryption context which its
/// parent does not, be it by two parents together or through a child; and one within its parent's
/// bounds that is refused or does not work.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_through_a_grant_never_exceeds_it() {
    let mut people = People::default();
    let parent = people.user(OWNER, "parent", &[]);
    let child = people.user(OWNER, "child", &[]);
    let (_dev, _folder, bench) = start(people).await;
    let subset = |pairs: Value| json!({"EncryptionContextSubset": pairs});
    let equals = |pairs: Value| json!({"EncryptionContextEquals": pairs});
    let (one, two) = (json!({"a": "1"}), json!({"a": "1", "b": "2"}));
    let all = ["CreateGrant", "Encrypt", "GenerateDataKey"];
    // The parent's constraints, then operations and constraints of the child.
    let cases: Vec<(Value, &[&str], Value, bool)> = vec![
        (Value::Null, &["Encrypt"], Value::Null, true),
        (Value::Null, &all, Value::Null, true),
        (Value::Null, &["Encrypt"], subset(one.clone()), true),
        (Value::Null, &["Decrypt"], Value::Null, false),
        (Value::Null, &["Encrypt", "Decrypt"], Value::Null, false),
        (Value::Null, &["Encrypt", "DescribeKey"], Value::Null, false),
        (Value::Null, &["Encrypt", "RetireGrant"], Value::Null, false),
        (subset(one.clone()), &["Encrypt"], subset(one.clone()), true),
        (subset(one.clone()), &all, subset(two.clone()), true),
        (subset(one.clone()), &["Encrypt"], equals(one.clone()), true),
        (subset(one.clone()), &["Encrypt"], equals(two.clone()), true),
        (subset(one.clone()), &["Encrypt"], Value::Null, false),
        (
            subset(one.clone()),
            &["Encrypt"],
            subset(json!({"a": "2"})),
            false,
        ),
        (
            subset(one.clone()),
            &["Encrypt"],
            subset(json!({"b": "2"})),
            false,
        ),
        (
            subset(one.clone()),
            &["Encrypt"],
            equals(json!({"b": "2"})),
            false,
        ),
        (
            subset(two.clone()),
            &["Encrypt"],
            subset(one.clone()),
            false,
        ),
        (
            subset(one.clone()),
            &["Decrypt"],
            subset(one.clone()),
            false,
        ),
        (equals(one.clone()), &["Encrypt"], equals(one.clone()), true),
        (
            equals(one.clone()),
            &["Encrypt"],
            equals(two.clone()),
            false,
        ),
        (
            equals(one.clone()),
            &["Encrypt"],
            subset(one.clone()),
            false,
        ),
        (equals(one.clone()), &["Encrypt"], Value::Null, false),
        (
            equals(two.clone()),
            &["Encrypt"],
            equals(one.clone()),
            false,
        ),
    ];
    let keeper = bench.keeper.clone();
    for (of_parent, operations, of_child, expected) in cases {
        let key = bench.key("Encrypt", &[]).await;
        let made = create(&bench, &keeper, &key, &parent.arn, &all, &of_parent).await;
        assert!(allowed(&made));
        let made = create(&bench, &parent, &key, &child.arn, operations, &of_child).await;
        let text = format!("{of_parent}: {operations:?} {of_child}: {made:?}");
        assert_eq!(allowed(&made), expected, "{text}");
        if let Err((_, message)) = made {
            let (who, action) = (&parent.arn, "kms:CreateGrant");
            let why = format!(
                "User: {who} is not authorized to perform: {action} on resource: {key} because no resource-based policy allows the {action} action"
            );
            assert_eq!(message, why);
        }
        let mut context = json!({});
        for constraints in [&of_child, &of_parent] {
            if let Some((_, pairs)) = constraints.as_object().and_then(|all| all.iter().next()) {
                context = pairs.clone();
                break;
            }
        }
        let body = json!({"KeyId": key, "Plaintext": blob("x"), "EncryptionContext": context});
        let used = bench.here.ask(&child, "Encrypt", &body).await;
        assert_eq!(allowed(&used), expected, "{text}: {used:?}");
        if expected && context != json!({}) {
            let body = json!({"KeyId": key, "Plaintext": blob("x")});
            let used = bench.here.ask(&child, "Encrypt", &body).await;
            assert!(!allowed(&used), "{text}");
        }
        if expected && operations.contains(&"CreateGrant") && !of_child.is_null() {
            // A grandchild keeps to the child's bounds, not the parent's.
            for (constraints, expected) in [(&of_parent, false), (&of_child, true)] {
                let made = create(&bench, &child, &key, &child.arn, &["Encrypt"], constraints);
                assert_eq!(allowed(&made.await), expected, "{text}");
            }
        }
    }

    // Two parents do not make one.
    let key = bench.key("Encrypt", &[]).await;
    for operations in [["CreateGrant", "Encrypt"], ["CreateGrant", "Decrypt"]] {
        let made = create(
            &bench,
            &keeper,
            &key,
            &parent.arn,
            &operations,
            &Value::Null,
        );
        assert!(allowed(&made.await));
    }
    for (operations, expected) in [
        (&["Encrypt", "Decrypt"][..], false),
        (&["Encrypt"], true),
        (&["Decrypt"], true),
    ] {
        let made = create(&bench, &parent, &key, &child.arn, operations, &Value::Null);
        assert_eq!(allowed(&made.await), expected, "{operations:?}");
    }
}

/// Catches somebody who retires a grant without being named by it or entitled by the account that issued
/// it, and a deny of the identity's own that does not count.
#[tokio::test(flavor = "multi_thread")]
async fn grants_are_retired_by_those_they_name() {
    let retire = |effect| own(effect, "Action", &["kms:RetireGrant".to_owned()]);
    let mut people = People::default();
    let names = ["nobody", "entitled", "barred"];
    let policies = [vec![], vec![retire("Allow")], vec![retire("Deny")]];
    let mut make = |account| {
        let made = names.iter().zip(&policies);
        let made = made.map(|(name, policies)| people.user(account, name, policies));
        made.collect::<Vec<_>>()
    };
    let (ours, theirs) = (make(OWNER), make(OTHER));
    let grantee = people.user(OWNER, "grantee", &[]);
    let (_dev, _folder, bench) = start(people).await;
    // Who retires; whom the grant names as retiring, and as grantee with RetireGrant; whether it works.
    let cases = [
        (&ours[0], None, None, false),
        (&ours[1], None, None, true),
        (&ours[2], None, None, false),
        (&theirs[0], None, None, false),
        (&theirs[1], None, None, false),
        (&ours[0], Some(&ours[0]), None, true),
        (&ours[2], Some(&ours[2]), None, false),
        (&theirs[0], Some(&theirs[0]), None, false),
        (&theirs[1], Some(&theirs[1]), None, true),
        (&theirs[2], Some(&theirs[2]), None, false),
        (&ours[0], Some(&ours[1]), None, false),
        (&ours[0], None, Some(&ours[0]), true),
        (&ours[2], None, Some(&ours[2]), false),
        (&theirs[0], None, Some(&theirs[0]), false),
        (&theirs[1], None, Some(&theirs[1]), true),
    ];
    for (number, (person, retiring, by_grantee, expected)) in cases.into_iter().enumerate() {
        for by_token in [false, true] {
            let key = bench.key("RetireGrant", &[root_statement()]).await;
            let to = by_grantee.unwrap_or(&grantee);
            let operations: &[&str] = match by_grantee {
                Some(_) => &["Encrypt", "RetireGrant"],
                None => &["Encrypt"],
            };
            let mut body =
                json!({"KeyId": key, "GranteePrincipal": to.arn, "Operations": operations});
            if let Some(retiring) = retiring {
                body["RetiringPrincipal"] = retiring.arn.clone().into();
            }
            let made = bench.ok("CreateGrant", body).await;
            let body = match by_token {
                true => json!({"GrantToken": made["GrantToken"]}),
                false => json!({"KeyId": key, "GrantId": made["GrantId"]}),
            };
            let retired = bench.here.ask(person, "RetireGrant", &body).await;
            assert_eq!(allowed(&retired), expected, "case {number}: {retired:?}");
            let left = bench.ok("ListGrants", json!({"KeyId": key})).await;
            let left = left["Grants"].as_array().expect("a list").len();
            assert_eq!(left, usize::from(!expected), "case {number}");
        }
    }
}

/// Catches a grant that somebody uses without being sent by the resource that it names, or that is given to
/// a service and used by somebody else; and a constraint on the source that holds up whoever retires.
#[tokio::test(flavor = "multi_thread")]
async fn grants_for_a_resource_or_a_service_are_nobody_elses() {
    let mut people = People::default();
    let grantee = people.user(OWNER, "grantee", &[]);
    let (_dev, _folder, bench) = start(people).await;
    let key = bench.key("Encrypt", &[]).await;
    let topic = format!("arn:aws:sns:{}:{OWNER}:topic", bench.here.region);
    let source = json!({"SourceArn": topic});
    let operations = ["Encrypt", "DescribeKey", "CreateGrant", "RetireGrant"];
    let keeper = bench.keeper.clone();
    let made = create(&bench, &keeper, &key, &grantee.arn, &operations, &source).await;
    let made = made.expect("a grant");
    let body = json!({
        "KeyId": key,
        "GranteeServicePrincipal": "sns.amazonaws.com",
        "RetiringPrincipal": grantee.arn,
        "Operations": operations,
        "Constraints": source,
    });
    let to_service = bench.ok("CreateGrant", body).await;
    let tokens = [&made, &to_service].map(|made| made["GrantToken"].clone());
    let inner = json!({
        "KeyId": key, "GranteePrincipal": grantee.arn, "Operations": ["Encrypt"],
        "Constraints": source,
    });
    for (operation, mut body) in [
        ("Encrypt", json!({"KeyId": key, "Plaintext": blob("x")})),
        ("DescribeKey", json!({"KeyId": key})),
        ("CreateGrant", inner),
    ] {
        for shown in [false, true] {
            if shown {
                body["GrantTokens"] = json!(tokens);
            }
            let answer = bench.here.ask(&grantee, operation, &body).await;
            let who = &grantee.arn;
            let message = format!(
                "User: {who} is not authorized to perform: kms:{operation} on resource: {key} because no resource-based policy allows the kms:{operation} action"
            );
            let denied = ("AccessDeniedException".to_owned(), message);
            assert_eq!(answer, Err(denied), "{operation} {body}");
        }
    }
    for made in [made, to_service] {
        let body = json!({"KeyId": key, "GrantId": made["GrantId"]});
        let answer = bench.here.ask(&grantee, "RetireGrant", &body).await;
        assert!(allowed(&answer), "{answer:?}");
    }
}

/// Catches an answer that tells somebody of another account whether a key, an alias or a grant is there.
#[tokio::test(flavor = "multi_thread")]
async fn other_accounts_cannot_tell_what_is_there() {
    let mut people = People::default();
    let all = own("Allow", "Action", &["kms:*".to_owned()]);
    let strangers = [
        people.user(OTHER, "powerful", &[all]),
        people.user(OTHER, "nobody", &[]),
    ];
    let (_dev, _folder, bench) = start(people).await;
    let key = bench.key("Encrypt", &[root_statement()]).await;
    let gone = bench.key("Encrypt", &[root_statement()]).await;
    bench.ok("DisableKey", json!({"KeyId": gone})).await;
    let alias = bench.alias(&key).await;
    let granted = bench
        .grant(&key, &bench.keeper.arn, &["Encrypt", "RetireGrant"])
        .await;
    let ciphertext = bench.ciphertext(&key).await;
    let prefix = format!("arn:aws:kms:{}:{OWNER}:", bench.here.region);
    let absent = format!("{prefix}key/00000000-0000-4000-8000-000000000000");
    let absent_mrk = format!("{prefix}key/mrk-00000000000000000000000000000000");
    let aliased = format!("{prefix}{alias}");
    let absent_alias = format!("{prefix}alias/not-there");
    let matrix = crate::table::Table::read(include_str!("matrix.tsv"));
    let mut asked = 0;
    for stranger in &strangers {
        for row in &matrix.rows {
            let Some(operation) = row[0].split(' ').next().filter(|name| *name == row[0]) else {
                continue;
            };
            // Those that no key's ARN can be sent to.
            if row[9] == "-" || operation == "ListRetirableGrants" {
                continue;
            }
            let mut body = bench.prepare(operation, &Default::default()).await.body;
            if operation == "Decrypt" {
                body["CiphertextBlob"] = ciphertext.clone();
            }
            let members = ["KeyId", "SourceKeyId", "TargetKeyId", "DestinationKeyId"];
            for member in members.iter().filter(|name| body.get(**name).is_some()) {
                let mut first: Option<(u16, Vec<u8>)> = None;
                for name in [&key, &gone, &absent, &absent_mrk, &aliased, &absent_alias] {
                    // Not every operation takes aliases, which it says of any.
                    let mut body = body.clone();
                    body[*member] = name.as_str().into();
                    let answer = bench.here.bytes(stranger, operation, &body).await;
                    let answer = answer.expect("an answer");
                    let text = answer.text();
                    let about_aliases = text.contains("liases");
                    let seen = (answer.status.as_u16(), answer.body);
                    assert_eq!(seen.0, 400, "{operation}: {text}");
                    if about_aliases {
                        continue;
                    }
                    let first = first.get_or_insert_with(|| seen.clone());
                    let before = String::from_utf8_lossy(&first.1);
                    assert_eq!(
                        *first, seen,
                        "{operation} {member} {name}: {text}, {before}"
                    );
                    asked += 1;
                }
            }
        }
        // Grants by their ids.
        for operation in ["RetireGrant", "RevokeGrant"] {
            let mut seen = Vec::new();
            let id = granted["GrantId"].clone();
            for (key, id) in [
                (&key, id.clone()),
                (&key, "0".repeat(64).into()),
                (&absent, id),
            ] {
                let body = json!({"KeyId": key, "GrantId": id});
                let answer = bench.here.bytes(stranger, operation, &body).await;
                seen.push(answer.expect("an answer").body);
            }
            assert!(seen.iter().all(|body| *body == seen[0]), "{operation}");
        }
    }
    assert!(asked > 100, "{asked}");
    wait::until_true("the grant", wait::SHORT, async || {
        let left = bench.ok("ListGrants", json!({"KeyId": key})).await;
        left["Grants"]
            .as_array()
            .is_some_and(|left| left.len() == 1)
    })
    .await;
}
