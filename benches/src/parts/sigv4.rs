//! **Question.** What does checking a signature add to a request?
//!
//! **Estimate.** An SDK signs about ten headers: a canonical request of 700 bytes and a string to sign
//! of 150. With SHA instructions 15 blocks take 1 us, the HMAC's six another 0.4, the body's hash 0.3 us,
//! finding and copying ten headers 0.5 us: 2.2 us. Without the kept signing key five HMACs more, 1.5 us.
//! A key that nobody has costs as much as one that somebody has.

use std::time::Instant;

use hyper::Request;
use hyper::body::Bytes;
use keyrum_server::SignatureTrial;
use keyrum_types::UnixMillis;
use ring::{digest, hmac};

use crate::report::{Report, Row, Verdict};
use crate::{Failure, Setting};

const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const BODY: &str = r#"{"KeyId":"1234abcd-12ab-34cd-56ef-1234567890ab","Plaintext":"aGVsbG8gd29ybGQgYW5kIGFsbCB0aGF0","EncryptionContext":{"tenant":"42"}}"#;

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
    let checks = |access_key: &str, expected: Result<(), &'static str>| -> Result<f64, Failure> {
        let trial = SignatureTrial::new(ACCESS_KEY, SECRET);
        let authorization = authorization(access_key);
        let start = Instant::now();
        let mut spent = 0.0;
        let mut count = 0_u32;
        while start.elapsed().as_secs_f64() < setting.slice_seconds {
            // Making requests is not part of it.
            let requests: Vec<_> = (0..1000).map(|_| request(&authorization)).collect();
            let begin = Instant::now();
            for request in requests {
                if trial.check(request, AT) != expected {
                    return Err("a signature was judged wrongly".into());
                }
            }
            spent += begin.elapsed().as_secs_f64();
            count += 1000;
        }
        Ok(spent / f64::from(count) * 1e6)
    };
    let known = checks(ACCESS_KEY, Ok(()))?;
    let unknown = checks("AKIANOBODY", Err("UnrecognizedClientException"))?;
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

fn request(authorization: &str) -> Request<Bytes> {
    let mut request = Request::post("/");
    for (name, value) in HEADERS {
        request = request.header(name, value);
    }
    let request = request.header("authorization", authorization);
    request
        .body(Bytes::from_static(BODY.as_bytes()))
        .expect("the parts are valid")
}

/// Signs as the guide says, so that both sides are not wrong in the same way.
fn authorization(access_key: &str) -> String {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let sha256 = |bytes: &[u8]| hex(digest::digest(&digest::SHA256, bytes).as_ref());
    let hmac = |key: &[u8], text: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
    };
    let signed = &HEADERS[..HEADERS.len() - 1];
    let lines: String = signed
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let names: Vec<_> = signed.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let canonical = format!("POST\n/\n\n{lines}\n{names}\n{}", sha256(BODY.as_bytes()));
    let scope = "20260912/us-east-1/kms/aws4_request";
    let text = format!(
        "AWS4-HMAC-SHA256\n20260912T113137Z\n{scope}\n{}",
        sha256(canonical.as_bytes())
    );
    let first = format!("AWS4{SECRET}").into_bytes();
    let key = scope.split('/').fold(first, |key, part| hmac(&key, part));
    let signature = hex(&hmac(&key, &text));
    format!(
        "AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
}
