//! **Question.** What does the decision whether a caller may use a key cost, by its policy?
//!
//! **Estimate.** Under the default policy: two texts in lower case, an account and a prefix to compare:
//! 0.1 us. A condition costs a look-up of its key and a comparison: ten of them, met, 1 us. A policy of
//! 32 KB has about 150 statements of 200 bytes; one that is for somebody else is done after its
//! actions and principals: 150 times 30 ns, 5 us. Where every statement has to look at its condition,
//! 20 us. Reading such a policy takes 0.5 ms, once per version.

use std::collections::BTreeMap;
use std::hint::black_box;

use keyrum_authz::{
    Asker, Context, IdentitySide, KeyPolicy, Policy, PolicyKind, PrincipalKind, Question,
    ResourceSide, Values, decide, default_policy,
};
use keyrum_types::AccountId;

use crate::Failure;
use crate::client::REGION;
use crate::process::thread_time;
use crate::report::{Report, Row, Verdict};

const ACCOUNT: &str = "111122223333";

/// How long a policy may be.
const BYTES: usize = 32_768;

/// A request's condition keys.
struct Request(BTreeMap<&'static str, &'static str>);

impl Context for Request {
    fn values(&self, key: &str) -> Option<Values<'_>> {
        self.0.get(key).map(|value| Values::One((*value).into()))
    }
}

pub(crate) fn run(report: &mut Report) -> Result<(), Failure> {
    let everything =
        r#"{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"arn:aws:kms:*:*:key/*"}}"#;
    let identity = Policy::parse(everything, PolicyKind::Identity)?;
    let root = IdentitySide::of_root();
    let user = IdentitySide {
        policies: vec![&identity],
        ..IdentitySide::default()
    };
    let default = default_policy(&REGION.parse()?, ACCOUNT.parse()?);
    let [mut root_ns, mut user_ns] = [0.0, 0.0];
    for (side, kind, ns) in [
        (&root, PrincipalKind::Root, &mut root_ns),
        (&user, PrincipalKind::User, &mut user_ns),
    ] {
        *ns = nanoseconds(&default, side, kind)?;
    }
    row(
        report,
        "authorization: the default policy",
        1_000.0,
        root_ns.max(user_ns),
        format!("root {root_ns:.0} ns; a user with a policy of their own {user_ns:.0} ns"),
    );
    let ten = nanoseconds(&ten_conditions(), &user, PrincipalKind::User)?;
    row(
        report,
        "authorization: ten conditions",
        5_000.0,
        ten,
        format!("{ten:.0} ns"),
    );
    let (others, conditions, denies) = (
        large(
            r#""Principal":{"AWS":"arn:aws:iam::111122223333:user/team/somebody-else"}"#,
            "",
        ),
        large(
            r#""Principal":"*""#,
            r#","Condition":{"StringLike":{"kms:ViaService":["sns.*","ec2.*.amazonaws.com"]}}"#,
        ),
        large(
            r#""Principal":"*""#,
            r#","Condition":{"StringEquals":{"aws:UserAgent":"${kms:ViaService}"}}"#,
        ),
    );
    let mut figures = Vec::new();
    for policy in [&others, &conditions, &denies] {
        figures.push(nanoseconds(policy, &user, PrincipalKind::User)?);
    }
    let start = thread_time();
    for _ in 0..100 {
        black_box(Policy::parse(&conditions, PolicyKind::Key)?);
    }
    let read = (thread_time().saturating_sub(start)).as_secs_f64() / 100.0 * 1e6;
    row(
        report,
        "authorization: a policy of 32 KB",
        50_000.0,
        figures.iter().copied().fold(0.0, f64::max),
        format!(
            "for others {:.1} us; every statement's condition looked at {:.1} us; with a variable in \
             each {:.1} us; reading it once {read:.0} us",
            figures[0] / 1e3,
            figures[1] / 1e3,
            figures[2] / 1e3
        ),
    );
    Ok(())
}

fn row(report: &mut Report, what: &'static str, target_ns: f64, ns: f64, figure: String) {
    let target = match target_ns {
        50_000.0 => "at most 50 us",
        5_000.0 => "at most 5 us",
        _ => "at most 1 us",
    };
    report.row(&Row {
        what,
        group: "in memory, one thread",
        target,
        figure,
        ratio: format!("{:.2}", ns / target_ns),
        verdict: Verdict::of(ns <= target_ns),
    });
}

/// What a decision that allows takes, the policy read beforehand.
fn nanoseconds(
    policy: &str,
    identity: &IdentitySide<'_>,
    kind: PrincipalKind,
) -> Result<f64, Failure> {
    let policy = Policy::parse(policy, PolicyKind::Key)?;
    let owner: AccountId = ACCOUNT.parse()?;
    let context = Request(BTreeMap::from([
        ("aws:sourceip", "203.0.113.7"),
        ("aws:securetransport", "true"),
        ("aws:useragent", "aws-cli/2.27 md/Botocore"),
        ("aws:currenttime", "2026-07-01T12:00:00Z"),
        ("aws:multifactorauthage", "120"),
        ("kms:viaservice", "s3.us-east-1.amazonaws.com"),
        ("kms:encryptioncontext:team", "red"),
        ("kms:encryptionalgorithm", "SYMMETRIC_DEFAULT"),
    ]));
    let (arn, unique_id) = match kind {
        PrincipalKind::Root => ("arn:aws:iam::111122223333:root", ACCOUNT),
        _ => (
            "arn:aws:iam::111122223333:user/ada",
            "AIDAEXAMPLEEXAMPLE000",
        ),
    };
    let question = Question {
        asker: Asker {
            kind,
            account: owner,
            arn,
            role_arn: None,
            unique_id,
        },
        service: "kms",
        action: "Encrypt",
        resource: "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        context: &context,
    };
    let key = ResourceSide::Key {
        owner,
        policy: KeyPolicy::Is(&policy),
        grant: None,
    };
    let once = || decide(black_box(&question), identity, &key);
    let _ = once().map_err(|denied| format!("the measured request is denied: {denied}"))?;
    let mut best = f64::INFINITY;
    for _ in 0..20 {
        let (start, mut rounds) = (thread_time(), 0_u32);
        let spent = loop {
            for _ in 0..16 {
                let _ = black_box(once());
            }
            rounds += 16;
            let spent = thread_time().saturating_sub(start);
            if spent.as_millis() >= 10 {
                break spent;
            }
        };
        best = best.min(spent.as_secs_f64() * 1e9 / f64::from(rounds));
    }
    Ok(best)
}

fn ten_conditions() -> String {
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"111122223333"},
    "Action":"kms:*","Resource":"*","Condition":{
      "StringEquals":{"kms:CallerAccount":"111122223333","kms:EncryptionContext:team":["blue","red"],
        "kms:EncryptionAlgorithm":"SYMMETRIC_DEFAULT"},
      "StringLike":{"aws:UserAgent":"aws-cli/*","kms:ViaService":"*.us-east-1.amazonaws.com"},
      "IpAddress":{"aws:SourceIp":["198.51.100.0/24","203.0.113.0/24"]},
      "Bool":{"aws:SecureTransport":"true"},
      "DateLessThan":{"aws:CurrentTime":"2027-01-01T00:00:00Z"},
      "NumericLessThan":{"aws:MultiFactorAuthAge":"3600"},
      "ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/*"}}}}"#
        .to_owned()
}

/// As many Deny statements that do not apply as fit, and the account's own last.
pub(super) fn large(principal: &str, condition: &str) -> String {
    let last =
        r#"{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}"#;
    let mut text = r#"{"Version":"2012-10-17","Statement":["#.to_owned();
    for number in 0.. {
        let statement = format!(
            r#"{{"Sid":"Statement {number}","Effect":"Deny",{principal},"Action":["kms:Encrypt","kms:ReEncrypt*"],"Resource":"*"{condition}}},"#
        );
        if text.len() + statement.len() + last.len() + 2 > BYTES {
            break;
        }
        text.push_str(&statement);
    }
    text + last + "]}"
}
