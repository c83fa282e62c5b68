//! **Question.** What does checking a signature add to a request?
//!
//! **Estimate.** An SDK signs about ten headers: a canonical request of 700 bytes and a string to sign
//! of 150. With SHA instructions 15 blocks take 1 us, the HMAC's six another 0.4, the body's hash 0.3 us,
//! finding and copying ten headers 0.5 us: 2.2 us. Without the kept signing key five HMACs more, 1.5 us.
//! A key that nobody has costs as much as one that somebody has.

use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Bytes;
use keyrum_server::{Arrived, SignatureTrial};
use keyrum_types::UnixMillis;

use crate::process::thread_time;
use crate::report::{Report, Row, Verdict};
use crate::signer::Signer;
use crate::{Failure, Setting};

const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const BODY: &str = r#"{"KeyId":"1234abcd-12ab-34cd-56ef-1234567890ab","Plaintext":"aGVsbG8gd29ybGQgYW5kIGFsbCB0aGF0","EncryptionContext":{"tenant":"42"}}"#;

/// Checks in a row.
const CHECKS: u32 = 1000;

/// 2026-09-12 11:31:37 UTC.
const AT: UnixMillis = UnixMillis(1_789_212_697_616);

/// The headers that the SDK for Rust sends and, but for the last, signs, in the order of their names.
const HEADERS: [(&str, &str); 9] = [
    (
        "amz-sdk-invocation-id",
        "5ad0bd1c-0ae5-4bb3-9bb5-5fb6b33a1ee4",
    ),
    ("amz-sdk-request", "attempt=1; max=3"),
    ("content-length", "132"),
    ("content-type", "application/x-amz-json-1.1"),
    ("host", "kms.us-east-1.amazonaws.com"),
    ("x-amz-date", "20260912T113137Z"),
    ("x-amz-target", "TrentService.Encrypt"),
    (
        "x-amz-user-agent",
        "aws-sdk-rust/1.3.10 ua/2.1 api/kms/1.92.0 os/linux lang/rust/1.91.0 m/E",
    ),
    (
        "user-agent",
        "aws-sdk-rust/1.3.10 os/linux lang/rust/1.91.0",
    ),
];

pub(crate) fn run(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let trial = SignatureTrial::new(ACCESS_KEY, SECRET);
    let contestants = [
        (authorization(ACCESS_KEY), Ok(())),
        (
            authorization("AKIANOBODY"),
            Err("UnrecognizedClientException"),
        ),
    ];
    let (mut spent, mut turns) = ([Duration::ZERO; 2], 0);
    let start = Instant::now();
    // They take turns, so that whatever else the machine does meets both.
    while start.elapsed().as_secs_f64() < setting.slice_seconds {
        for ((authorization, expected), spent) in contestants.iter().zip(&mut spent) {
            // Making requests is not part of it.
            let requests: Vec<_> = (0..CHECKS).map(|_| request(authorization)).collect();
            let begin = thread_time();
            for request in &requests {
                if trial.check(request) != *expected {
                    return Err("a signature was judged wrongly".into());
                }
            }
            *spent += thread_time().saturating_sub(begin);
        }
        turns += 1;
    }
    let each = |spent: Duration| spent.as_secs_f64() / f64::from(turns * CHECKS) * 1e6;
    let [known, unknown] = spent.map(each);
    report.row(&Row {
        what: "a signature checked, signing key kept",
        group: "1 thread",
        target: "<= 2.5 us",
        figure: format!("{known:.2} us; of an unknown access key {unknown:.2} us"),
        ratio: format!("{:.0} %", known / 2.5 * 100.0),
        verdict: Verdict::of(known <= 2.5),
    });
    Ok(())
}

fn request(authorization: &str) -> Arrived {
    let mut request = Request::post("/");
    for (name, value) in HEADERS {
        request = request.header(name, value);
    }
    let request = request.header("authorization", authorization);
    let body = Bytes::from_static(BODY.as_bytes());
    Arrived::new(request.body(body).expect("the parts are valid"), AT)
}

fn authorization(access_key: &str) -> String {
    Signer {
        access_key,
        secret: SECRET,
        region: "us-east-1",
        date: "20260912T113137Z",
    }
    .authorization(&HEADERS[..HEADERS.len() - 1], BODY.as_bytes())
}
