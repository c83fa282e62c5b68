//! Policy documents of whatever kind: read, and asked a question. The input's first line is the value of
//! every condition key; the rest is the document.

#![no_main]

use std::borrow::Cow;

use keyrum_authz::{
    Asker, Context, GrantHit, IdentitySide, KeyPolicy, NamedAs, Policy, PolicyKind, PrincipalKind,
    Question, ResourceSide, Values, decide, locks_out,
};
use libfuzzer_sys::fuzz_target;

/// Every condition key has this value, or these if it has a comma.
struct Everywhere<'t>(&'t str);

impl Context for Everywhere<'_> {
    fn values(&self, key: &str) -> Option<Values<'_>> {
        match (key.len() % 4, self.0.contains(',')) {
            (0, _) => None,
            (_, true) => Some(Values::Many(self.0.split(',').map(Cow::Borrowed).collect())),
            (_, false) => Some(Values::One(Cow::Borrowed(self.0))),
        }
    }
}

const KINDS: [PolicyKind; 5] = [
    PolicyKind::Key,
    PolicyKind::Identity,
    PolicyKind::Boundary,
    PolicyKind::Session,
    PolicyKind::Trust,
];

fuzz_target!(|input: &str| {
    let (value, text) = input.split_once('\n').unwrap_or(("", input));
    let context = Everywhere(value);
    let askers = [
        (PrincipalKind::Root, "arn:aws:iam::111122223333:root", None),
        (
            PrincipalKind::User,
            "arn:aws:iam::111122223333:user/ada",
            None,
        ),
        (
            PrincipalKind::AssumedRole,
            "arn:aws:sts::111122223333:assumed-role/app/s1",
            Some("arn:aws:iam::111122223333:role/app"),
        ),
    ];
    let read = KINDS.map(|kind| Policy::parse(text, kind));
    let stored = Policy::of_stored(text);
    if let Ok(policy) = &read[0] {
        assert_eq!(Ok(policy), stored.as_ref());
    }
    let owner = "111122223333".parse().expect("an account");
    for policy in read.iter().chain([&stored]).flatten() {
        assert!(policy.named_principals().count() <= text.len());
        for (kind, arn, role_arn) in askers {
            let question = Question {
                asker: Asker {
                    kind,
                    account: owner,
                    arn,
                    role_arn,
                    unique_id: "AROAEXAMPLEEXAMPLE000:s1",
                },
                service: "kms",
                action: "Decrypt",
                resource: "arn:aws:kms:us-east-1:111122223333:key/k",
                context: &context,
            };
            let _ = locks_out(policy, &question);
            let side = IdentitySide {
                root: kind == PrincipalKind::Root,
                policies: vec![policy],
                boundary: Some(policy),
                session: vec![policy],
            };
            let key = |named| ResourceSide::Key {
                owner,
                policy: KeyPolicy::Is(policy),
                grant: Some(GrantHit {
                    issuer: owner,
                    named,
                }),
            };
            // What is named more strongly is allowed no less.
            let allowed = [
                NamedAs::No,
                NamedAs::Account,
                NamedAs::Role,
                NamedAs::Itself,
            ]
            .map(|named| decide(&question, &side, &key(named)).is_ok());
            assert!(allowed.is_sorted(), "{allowed:?}");
        }
    }
});
