//! The published test suite of AWS SigV4; see `vectors/README.md`.

use std::collections::BTreeMap;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;

use super::canonical::{Names, Signed};
use super::tests::{identify, incoming};
use super::{Claim, date, hex, hmac, sha256, string_to_sign, unhex};
use crate::testing::Keys;

const SUITE: &str = include_str!("../../vectors/aws-signing-test-suite-v4.json");
const ACCESS_KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// A request as the suite writes it, which is not always as HTTP would.
struct Written {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Written {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        // A folded line belongs to the one before; HTTP puts a space between.
        let folded: Vec<_> = head.lines().collect();
        let mut lines: Vec<String> = Vec::new();
        for line in folded {
            match lines.last_mut() {
                Some(last) if line.starts_with(' ') => last.push_str(line),
                _ => lines.push(line.to_owned()),
            }
        }
        let (method, rest) = lines[0].split_once(' ').unwrap();
        let (target, _) = rest.rsplit_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        // No URL on the wire has other characters than those of ASCII.
        let wire = |byte: u8| match byte {
            0x80.. => format!("%{byte:02X}"),
            _ => char::from(byte).to_string(),
        };
        let headers = lines[1..].iter().map(|line| line.split_once(':').unwrap());
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.bytes().map(wire).collect(),
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            body: body.to_owned(),
        }
    }

    fn header_map(&self) -> HeaderMap {
        let pair = |(name, value): &(String, String)| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_str(value).unwrap())
        };
        self.headers.iter().map(pair).collect()
    }
}

/// Catches a canonical request, a string to sign or a signature that is not the published one, and a
/// published request that is refused.
#[test]
fn the_published_suite_holds() {
    // Declared keys live as long as the program.
    let suite: BTreeMap<String, Value> = serde_json::from_str(SUITE).unwrap();
    let suite: &'static _ = Box::leak(Box::new(suite));
    let (mut compared, mut accepted) = (0, 0);
    for (name, case) in suite {
        for form in ["header", "query"] {
            let text = |part: &str| case[format!("{form}-{part}")].as_str().unwrap();
            let token = case["context"]["credentials"]["token"].as_str();
            let token_unsigned = case["context"]["omit_session_token"] == true;
            let written = Written::read(text("signed-request"));
            let target = format!("/?{}", written.query);
            let headers: Vec<_> = written
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let at = date::parse_basic("20150830T123600Z").unwrap();
            let request = incoming(&written.method, &target, &headers, &written.body, at);
            let claim = Claim::of(&request.parts).unwrap().unwrap();

            // Paths are no business of an endpoint that has one, so they come from the suite.
            let path = text("canonical-request").lines().nth(1).unwrap();
            let signed = Signed {
                method: &written.method,
                path,
                query: &written.query,
                in_query: form == "query",
                headers: &written.header_map(),
                authority: None,
                names: &Names::of(&claim.signed_headers),
                body_hash: super::sha256(written.body.as_bytes()),
            };
            let mut canonical = Vec::new();
            signed.canonical(&mut canonical).unwrap();
            if form == "query" && token_unsigned {
                // Signed without the token, which came to the URL afterwards: not over this URL.
                assert_ne!(
                    canonical,
                    text("canonical-request").as_bytes(),
                    "{name} {form}"
                );
                continue;
            }
            let shown = String::from_utf8(canonical.clone()).unwrap();
            assert_eq!(shown, text("canonical-request"), "{name} {form}");
            let mut to_sign = Vec::new();
            let hash = sha256(&canonical);
            string_to_sign(&date::basic(at), claim.scope(), &hash, &mut to_sign);
            let shown = String::from_utf8(to_sign.clone()).unwrap();
            assert_eq!(shown, text("string-to-sign"), "{name} {form}");
            let key =
                super::SigningKeys::default().of(ACCESS_KEY, claim.scope(), SECRET.as_bytes());
            let key = hmac::Key::new(hmac::HMAC_SHA256, &*key);
            let signature: [u8; 32] = hmac::sign(&key, &to_sign).as_ref().try_into().unwrap();
            assert_eq!(
                hex(&signature),
                text("signature").as_bytes(),
                "{name} {form}"
            );
            assert_eq!(unhex(claim.signature.as_bytes()), Some(signature));
            compared += 1;

            let keys = Keys(BTreeMap::from([(ACCESS_KEY, (SECRET, token))]));
            if path == "/" && !written.path.contains("..") {
                let result = identify(&request, &keys);
                // A token that the signature does not cover could be any.
                assert_eq!(result.is_ok(), !token_unsigned, "{name} {form}: {result:?}");
                accepted += usize::from(result.is_ok());
            }
        }
    }
    assert_eq!((suite.len(), compared), (38, 75));
    assert!(accepted > 40, "{accepted}");
}
