//! The tables about decisions: principals, layers, and the lockout check.

use keyrum_authz::{
    DeniedReason, GrantHit, IdentitySide, KeyPolicy, NoContext, Policy, PolicyKind, PrincipalKind,
    Question, ResourceSide, decide, locks_out,
};
use serde_json::{Value, json};

use crate::cast::{
    Boastful, KEY, asker, each, identity_policies, identity_policy, issuer, key_policy,
    key_policy_of, named_as, own, question, yes,
};

/// Catches a principal that names somebody else, or names them as more than it does.
#[test]
fn principals() {
    each(include_str!("table/principals.txt"), 5, |cells| {
        let (element, value) = cells[0].split_once(' ').unwrap();
        let value: Value = serde_json::from_str(value).expect(value);
        let asker = asker(cells[1]);
        let policy = |effect: &str| {
            let statement =
                json!({"Effect": effect, element: value, "Action": "*", "Resource": "*"});
            let all = json!({"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"});
            let statements = if effect == "Deny" {
                json!([all, statement])
            } else {
                json!([statement])
            };
            key_policy(&json!({"Statement": statements}).to_string())
        };
        let nothing = identity_policy("other");
        let everything = identity_policy("allow");
        let unlimited = IdentitySide::default();
        let limited = IdentitySide {
            boundary: Some(&nothing),
            ..IdentitySide::default()
        };
        let delegated = IdentitySide {
            policies: vec![&everything],
            session: vec![&everything],
            ..IdentitySide::default()
        };
        let holds = |policy: &Policy, side: &IdentitySide<'_>| {
            let key = ResourceSide::Key {
                owner: asker.account,
                policy: KeyPolicy::Is(policy),
                grant: None,
            };
            decide(&question(asker, &NoContext), side, &key).is_ok()
        };
        let (allow, deny) = (policy("Allow"), policy("Deny"));
        let named = match () {
            () if holds(&allow, &limited) => "itself",
            () if holds(&allow, &unlimited) => "role",
            () if holds(&allow, &delegated) => "account",
            () => "no",
        };
        assert_eq!(named, cells[2], "{cells:?}");
        if holds(&deny, &delegated) {
            "no"
        } else {
            "yes"
        }
        .to_owned()
    });
}

fn answer(
    name: &str,
    action: &'static str,
    on: &str,
    policies: [&str; 3],
    resource: &ResourceSide<'_>,
) -> String {
    let [own, boundary, session] = policies.map(identity_policies);
    let joined;
    let boundary = match &boundary[..] {
        [] => None,
        [one] => Some(one),
        _ => {
            // A boundary is one policy.
            joined = both();
            Some(&joined)
        }
    };
    let asker = asker(name);
    let side = IdentitySide {
        root: asker.kind == PrincipalKind::Root,
        policies: own.iter().collect(),
        boundary,
        session: session.iter().collect(),
    };
    let question = Question {
        action,
        resource: on,
        ..question(asker, &NoContext)
    };
    match decide(&question, &side, resource) {
        Ok(permit) => {
            assert_eq!(permit.action(), action);
            "allow".to_owned()
        }
        Err(denied) => {
            assert_eq!((&*denied.principal, &*denied.action), (asker.arn, action));
            format!("{:?}", denied.reason)
        }
    }
}

fn both() -> Policy {
    let text = r#"{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},
        {"Effect":"Deny","Action":"*","Resource":"*"}]}"#;
    Policy::parse(text, PolicyKind::Boundary).unwrap()
}

/// Catches a layer that is forgotten, one that says more than it may, and another reason than the one
/// that decided.
#[test]
fn decisions() {
    each(include_str!("table/decisions.txt"), 8, |cells| {
        let [name, key, own_policies, boundary, session, grant, ..] = cells[..] else {
            unreachable!()
        };
        let policy = key_policy_of(key);
        let grant = grant.split_once('/').map(|(by, named)| GrantHit {
            issuer: issuer(by),
            named: named_as(named),
        });
        let resource = ResourceSide::Key {
            owner: own(),
            policy: match key {
                "default" => KeyPolicy::Default,
                _ => policy.as_ref().map_or(KeyPolicy::Unreadable, KeyPolicy::Is),
            },
            grant,
        };
        answer(
            name,
            "Decrypt",
            KEY,
            [own_policies, boundary, session],
            &resource,
        )
    });
}

/// Catches an identity that creates keys or retires grants without a right to, and one that is kept
/// from it.
#[test]
fn own_side() {
    each(include_str!("table/own.txt"), 7, |cells| {
        let [name, what, own_policies, boundary, session, ..] = cells[..] else {
            unreachable!()
        };
        let policies = [own_policies, boundary, session];
        let Some(grant) = what.strip_prefix("retire:") else {
            return answer(name, "CreateKey", "*", policies, &ResourceSide::None);
        };
        let (by, named) = grant.split_once('/').unwrap();
        let resource = ResourceSide::Retirement {
            owner: own(),
            issuer: issuer(by),
            named: named_as(named),
        };
        answer(name, "RetireGrant", KEY, policies, &resource)
    });
}

/// Catches a caller who locks themselves out, and one who is refused a policy that lets them in.
#[test]
fn lockout() {
    each(include_str!("table/lockout.txt"), 4, |cells| {
        let policy = key_policy_of(cells[1]).unwrap();
        yes(locks_out(&policy, &question(asker(cells[0]), &Boastful)))
    });
}

/// Catches a policy of an earlier version whose conditions cannot be read being taken as if it had none.
#[test]
fn what_cannot_be_read_lets_nobody_in() {
    let decides = |statements: &str| {
        let policy = Policy::of_stored(&format!(r#"{{"Statement":[{statements}]}}"#)).unwrap();
        let key = ResourceSide::Key {
            owner: own(),
            policy: KeyPolicy::Is(&policy),
            grant: None,
        };
        decide(
            &question(asker("ada"), &NoContext),
            &IdentitySide::default(),
            &key,
        )
        .is_ok()
    };
    let all = r#""Principal":"*","Action":"*","Resource":"*""#;
    let unreadable = r#""Condition":{"StringIs":{"a:b":"c"}}"#;
    assert!(decides(&format!(r#"{{"Effect":"Allow",{all}}}"#)));
    assert!(!decides(&format!(
        r#"{{"Effect":"Allow",{all},{unreadable}}}"#
    )));
    assert!(!decides(&format!(
        r#"{{"Effect":"Allow",{all}}},{{"Effect":"Deny",{all},{unreadable}}}"#
    )));
    assert!(decides(&format!(
        r#"{{"Effect":"Allow",{all}}},{{"Effect":"Allow",{all},{unreadable}}}"#
    )));
}

/// Catches a reason that no line of the tables meets.
#[test]
fn every_reason_is_met() {
    let tables = [
        include_str!("table/decisions.txt"),
        include_str!("table/own.txt"),
    ]
    .concat();
    for reason in [
        DeniedReason::NoIdentityBasedPolicy,
        DeniedReason::NoResourceBasedPolicy,
        DeniedReason::DeniedByIdentityPolicy,
        DeniedReason::DeniedByResourcePolicy,
        DeniedReason::DeniedBySessionPolicy,
        DeniedReason::DeniedByPermissionsBoundary,
        DeniedReason::NoSessionPolicy,
        DeniedReason::NoPermissionsBoundary,
    ] {
        assert!(tables.contains(&format!("{reason:?}")), "{reason:?}");
    }
}
