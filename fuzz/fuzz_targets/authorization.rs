//! Looks for a request that makes the check of signatures panic, or that passes it. The input is a
//! query, header lines and a body; nobody knows the secret, so nothing may pass.

#![no_main]

use std::sync::LazyLock;

use hyper::Request;
use hyper::body::Bytes;
use keyrum_server::{Arrived, SignatureTrial};
use keyrum_types::UnixMillis;
use libfuzzer_sys::fuzz_target;

static TRIAL: LazyLock<SignatureTrial> =
    LazyLock::new(|| SignatureTrial::new("AKIAIOSFODNN7EXAMPLE", "a secret that nobody guesses"));

fuzz_target!(|data: &[u8]| {
    let mut lines = data.splitn(32, |byte| *byte == b'\n');
    let query = lines.next().unwrap_or_default();
    let target = [b"/?", query].concat();
    let mut request = Request::builder().method("POST").uri(&target[..]);
    let mut body = &b""[..];
    for line in lines {
        match line.iter().position(|byte| *byte == b':') {
            Some(at) => request = request.header(&line[..at], &line[at + 1..]),
            None => body = line,
        }
    }
    // What is no HTTP message does not reach the check.
    if let Ok(request) = request.body(Bytes::copy_from_slice(body)) {
        // 2015-08-30 12:36:00 UTC.
        let refused = TRIAL
            .check(&Arrived::new(request, UnixMillis(1_440_938_160_000)))
            .is_err();
        assert!(refused, "it passed");
    }
});
