//! **Question.** What do a signature, a key policy with a condition, a grant and an audit record add to an
//! Encrypt?
//!
//! **Estimate.** The signature 2 us (part `sigv4`) and 1 us for the secret, which was unsealed for each
//! request when this was written; the policy and the grant 1 us (part `authorize`); the record 1.5 us and
//! its share of a write: 5.5 us of processor time where the request is answered.
//!
//! Two clusters of three nodes run beside each other and take turns; only the leaders' answers count. Both
//! get the same request but for the key's id, so that what is longer to read in a signed request is no part
//! of what checking it takes: one takes any credentials and keeps no records. And the load never sleeps:
//! to wake it, which happens the more often the slower the server is, would count as the server's work.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::client::{self, Call};
use crate::cluster::{Cluster, THREE_NODES};
use crate::load::{self, CALLERS, Caller};
use crate::parts::encrypt::remove;
use crate::report::{Report, Row, Verdict};
use crate::signer::Signer;
use crate::turns::{Series, TURNS, Watched};
use crate::{Failure, Setting};

/// Length of the plaintext.
const PLAINTEXT_BYTES: usize = 1024;

/// What it may add where the request is answered, in microseconds of processor time.
const ADDED_US_MAX: f64 = 5.0;

const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const USER: &str = "arn:aws:iam::111122223333:user/ada";

/// A user who may nothing by itself: the key's policy and a grant say what.
const IDENTITIES: &str = r#"
[[account]]
id = "111122223333"
[[account.user]]
name = "ada"
access_keys = [{ id = "AKIAIOSFODNN7EXAMPLE", secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY" }]
"#;

pub(crate) async fn run(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let folder = setting.folder.join("guarded");
    std::fs::create_dir_all(&folder)?;
    let identities = folder.join("identities.toml");
    std::fs::write(&identities, IDENTITIES)?;
    let lines = format!(
        "identities = {identities:?}\naudit = {{ folder = {:?} }}\n",
        folder.join("records")
    );
    let open = Cluster::up(setting, &folder.join("open")).await?;
    let guarded = Cluster::up_with(setting, &folder.join("guarded"), &lines).await?;
    let open_leader = open.leader().await?.clone();
    let leader = guarded.leader().await?.clone();
    let open_key = client::create_key(&open_leader.api).await?;
    let key = guarded_key(&leader.api).await?;

    let watched = |leader: u32, cluster: &Cluster| Watched {
        answering: vec![leader],
        all: cluster.pids(),
    };
    let (ours, theirs) = (
        watched(leader.pid, &guarded),
        watched(open_leader.pid, &open),
    );
    let mut plain = Series::new("taken unchecked");
    let mut checked = Series::new("signed, policy, grant, record");
    for turn in 0..=TURNS {
        // The first turn is for warming up.
        let (seconds, mut warm) = match turn {
            0 => (0.5, Some([Series::new(""), Series::new("")])),
            _ => (setting.slice_seconds, None),
        };
        let [a, b] = match &mut warm {
            Some([a, b]) => [a, b],
            None => [&mut plain, &mut checked],
        };
        // A signature holds for five minutes.
        for (series, leader, key, watched) in [
            (a, &open_leader, &open_key, &theirs),
            (b, &leader, &key, &ours),
        ] {
            let request = signed(&encrypt(key))?;
            let callers = callers(&leader.api, &request).await?;
            load::awake(series.turn(callers, watched, seconds)).await?;
        }
    }
    let added = checked.cpu_us() - plain.cpu_us();
    report.row(&Row {
        what: "Encrypt 1 KiB on the leader, lease, 64 callers: signature, policy, grant and audit record",
        group: THREE_NODES,
        target: "<= 5 us of CPU more",
        figure: format!(
            "{:.1} us where answered, without {:.1} us",
            checked.cpu_us(),
            plain.cpu_us()
        ),
        ratio: format!("+{added:.1} us"),
        verdict: Verdict::of(added <= ADDED_US_MAX),
    });
    report.detail(plain.line());
    report.detail(checked.line());
    open.stop().await?;
    guarded.stop().await?;
    remove(&folder);
    Ok(())
}

fn encrypt(key: &str) -> String {
    let plaintext = STANDARD.encode([7; PLAINTEXT_BYTES]);
    json!({"KeyId": key, "Plaintext": plaintext, "EncryptionContext": {"tenant": "42"}}).to_string()
}

async fn callers(addr: &str, request: &[u8]) -> Result<Vec<Caller>, Failure> {
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        callers.push(Caller::http(addr, request.to_vec()).await?);
    }
    Ok(callers)
}

/// A key whose policy denies ada other tenants, and a grant to ada for this one.
async fn guarded_key(addr: &str) -> Result<String, Failure> {
    let root = |operation, body| Call {
        account: 111_122_223_333,
        ..Call::new(operation, body)
    };
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {
            "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
            "Action": "kms:*", "Resource": "*",
        },
        {
            "Effect": "Deny", "Principal": {"AWS": USER}, "Action": "kms:Encrypt", "Resource": "*",
            "Condition": {"StringNotEquals": {"kms:EncryptionContext:tenant": "42"}},
        },
    ]});
    let body = json!({"Policy": policy.to_string()}).to_string();
    let made = client::once(addr, &root("CreateKey", &body)).await?;
    let key = made["KeyMetadata"]["KeyId"].as_str();
    let key = key.ok_or("a key without an id")?.to_owned();
    let grant = json!({
        "KeyId": key, "GranteePrincipal": USER, "Operations": ["Encrypt", "Decrypt"],
        "Constraints": {"EncryptionContextSubset": {"tenant": "42"}},
    });
    client::once(addr, &root("CreateGrant", &grant.to_string())).await?;
    Ok(key)
}

/// A request of ada's, with the headers that an SDK signs.
fn signed(body: &str) -> Result<Vec<u8>, Failure> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let date = date(seconds);
    let (host, length) = (
        format!("kms.{}.amazonaws.com", client::REGION),
        body.len().to_string(),
    );
    let headers = [
        (
            "amz-sdk-invocation-id",
            "5ad0bd1c-0ae5-4bb3-9bb5-5fb6b33a1ee4",
        ),
        ("amz-sdk-request", "attempt=1; max=3"),
        ("content-length", &length),
        ("content-type", "application/x-amz-json-1.1"),
        ("host", &host),
        ("x-amz-date", &date),
        ("x-amz-target", "TrentService.Encrypt"),
    ];
    let signer = Signer {
        access_key: ACCESS_KEY,
        secret: SECRET,
        region: client::REGION,
        date: &date,
    };
    let authorization = signer.authorization(&headers, body.as_bytes());
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let text = format!(
        "POST / HTTP/1.1\r\n{lines}user-agent: keyrum-benches\r\nx-keyrum-consistency: lease\r\n\
         authorization: {authorization}\r\n\r\n{body}"
    );
    Ok(text.into_bytes())
}

/// Seconds since 1970 as `YYYYMMDDTHHMMSSZ`. Source: H. Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a date that a server takes for another day's.
    #[test]
    fn dates_are_written() {
        assert_eq!(date(0), "19700101T000000Z");
        assert_eq!(date(951_782_400), "20000229T000000Z");
        assert_eq!(date(1_789_212_697), "20260912T113137Z");
    }
}
