use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use hyper::body::Bytes;
use keyrum_types::UnixMillis;

use super::canonical::{Names, Signed};
use super::*;
use crate::http::{Origin, RequestUid};
use crate::testing::{EXPIRED, Keys};

pub(crate) const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "a+token/of==some";
const BODY: &str = r#"{"KeyId":"alias/é","Plaintext":"AAAA"}"#;

/// 2015-08-30 12:36:00 UTC.
pub(crate) const NOW: u64 = 1_440_938_160;

/// A request as it arrives at this second.
pub(crate) fn incoming(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
    at: u64,
) -> Incoming {
    let mut request = hyper::Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Incoming {
        parts: request.body(()).unwrap().into_parts().0,
        body: Bytes::from(body.to_owned()),
        id: RequestUid::from_bytes([0; 16]),
        at: UnixMillis(at * 1000 + 999),
        from: Origin::default(),
    }
}

/// What a server that takes declared credentials only says of a request.
pub(crate) fn identify(request: &Incoming, keys: &Keys) -> Result<String, ApiError> {
    identify_with(
        &Verifier::default(),
        request,
        keys,
        AcceptedCredentials::Declared,
    )
    .map(|caller| caller.expect("nobody is taken unchecked").arn)
}

pub(crate) fn identify_with(
    verifier: &Verifier,
    request: &Incoming,
    keys: &Keys,
    accepted: AcceptedCredentials,
) -> Result<Option<Caller>, ApiError> {
    let claim = Claim::of(&request.parts)?;
    let identified = verifier.identify(request, claim.as_ref(), accepted, keys);
    identified.now_or_never().expect("nothing to wait for")
}

pub(crate) fn keys() -> Keys {
    Keys(BTreeMap::from([
        (ACCESS_KEY, (SECRET, None)),
        ("ASIATEMPORARY", ("other", Some(TOKEN))),
    ]))
}

/// What a client signs, and how.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) method: &'static str,
    /// In the order they are sent.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Which of them are signed, in order.
    pub(crate) signed: Vec<&'static str>,
    pub(crate) query: String,
    pub(crate) body: String,
    pub(crate) access_key: &'static str,
    pub(crate) secret: &'static str,
    pub(crate) day: String,
    pub(crate) stamp: String,
}

impl Client {
    /// Signs as SDKs do.
    pub(crate) fn new() -> Self {
        let stamp = text(&date::basic(NOW)).to_owned();
        Self {
            method: "POST",
            headers: vec![
                ("host", "kms.us-east-1.amazonaws.com".to_owned()),
                ("content-type", "application/x-amz-json-1.1".to_owned()),
                ("x-amz-target", "TrentService.Encrypt".to_owned()),
                ("x-amz-date", stamp.clone()),
                ("user-agent", "test".to_owned()),
            ],
            signed: vec!["content-type", "host", "x-amz-date", "x-amz-target"],
            query: String::new(),
            body: BODY.to_owned(),
            access_key: ACCESS_KEY,
            secret: SECRET,
            day: stamp[..8].to_owned(),
            stamp,
        }
    }

    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value.to_owned()));
    }

    /// The same, signed at another time.
    pub(crate) fn now(self, seconds: u64) -> Self {
        self.at(seconds)
    }

    fn at(mut self, seconds: u64) -> Self {
        self.stamp = text(&date::basic(seconds)).to_owned();
        self.day = self.stamp[..8].to_owned();
        let stamp = self.stamp.clone();
        self.set("x-amz-date", &stamp);
        self
    }

    fn scope(&self) -> String {
        format!("{}/us-east-1/kms/aws4_request", self.day)
    }

    fn signature(&self, query: &str, in_query: bool) -> String {
        let request = self.arriving(query, &[]);
        let names = self.signed.join(";");
        let signed = Signed {
            method: self.method,
            path: "/",
            query,
            in_query,
            headers: &request.parts.headers,
            authority: None,
            names: &Names::of(&names),
            body_hash: sha256(self.body.as_bytes()),
        };
        let mut canonical = Vec::new();
        signed.canonical(&mut canonical).unwrap();
        let stamp = self.stamp.as_bytes().try_into().unwrap();
        let mut text = Vec::new();
        string_to_sign(stamp, &self.scope(), &sha256(&canonical), &mut text);
        let key = SigningKeys::default().of("", &self.scope(), self.secret.as_bytes());
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*key);
        let signature: [u8; 32] = hmac::sign(&key, &text).as_ref().try_into().unwrap();
        String::from_utf8(hex(&signature).to_vec()).unwrap()
    }

    fn arriving(&self, query: &str, more: &[(&str, &str)]) -> Incoming {
        let own = self
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        let headers: Vec<_> = own.chain(more.iter().copied()).collect();
        let target = if query.is_empty() {
            "/".to_owned()
        } else {
            format!("/?{query}")
        };
        incoming(self.method, &target, &headers, &self.body, NOW)
    }

    pub(crate) fn authorization(&self) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={}, Signature={}",
            self.access_key,
            self.scope(),
            self.signed.join(";"),
            self.signature(&self.query, false)
        )
    }

    /// The request with its signature in a header.
    pub(crate) fn request(&self) -> Incoming {
        let authorization = self.authorization();
        self.with_authorization(&authorization)
    }

    pub(crate) fn with_authorization(&self, authorization: &str) -> Incoming {
        self.arriving(&self.query, &[("authorization", authorization)])
    }

    /// Parameters of a signed URL, without the signature.
    fn parameters(&self, more: &str) -> String {
        format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}%2F{}&X-Amz-Date={}&X-Amz-SignedHeaders={}{more}",
            self.access_key,
            self.scope().replace('/', "%2F"),
            self.stamp,
            self.signed.join("%3B"),
        )
    }

    /// The request with its signature in the URL.
    fn presigned(&self, more: &str) -> Incoming {
        let query = self.parameters(more);
        let signature = self.signature(&query, true);
        self.arriving(&format!("{query}&X-Amz-Signature={signature}"), &[])
    }
}

fn presigning() -> Client {
    let mut client = Client::new();
    client.headers.retain(|(name, _)| *name != "x-amz-date");
    client.signed = vec!["content-type", "host", "x-amz-target"];
    client
}

#[track_caller]
fn refused(request: &Incoming, code: &str, message: &str) {
    let error = identify(request, &keys()).unwrap_err();
    assert_eq!(
        (error.status, error.code, &*error.message),
        (400, code, message)
    );
}

const MISMATCH: (&str, &str) = (
    "InvalidSignatureException",
    "The request signature we calculated does not match the signature you provided. Check your AWS \
     Secret Access Key and signing method. Consult the service documentation for details.",
);

/// Catches a right signature that is refused, and a caller that is taken for another.
#[test]
fn who_signs_is_known() {
    let arn = format!("arn:aws:iam::111122223333:user/{ACCESS_KEY}");
    assert_eq!(identify(&Client::new().request(), &keys()), Ok(arn.clone()));
    assert_eq!(identify(&presigning().presigned(""), &keys()), Ok(arn));
    let mut temporary = Client::new();
    (temporary.access_key, temporary.secret) = ("ASIATEMPORARY", "other");
    temporary.set("x-amz-security-token", TOKEN);
    temporary.signed = vec!["host", "x-amz-date", "x-amz-security-token", "x-amz-target"];
    assert!(
        identify(&temporary.request(), &keys())
            .unwrap()
            .ends_with("ASIATEMPORARY")
    );
    let mut temporary = presigning();
    (temporary.access_key, temporary.secret) = ("ASIATEMPORARY", "other");
    let token = "&X-Amz-Security-Token=a%2Btoken%2Fof%3D%3Dsome";
    assert!(
        identify(&temporary.presigned(token), &keys())
            .unwrap()
            .ends_with("ASIATEMPORARY")
    );
    // A plus in a URL is a space, so this is another token.
    let spaced = "&X-Amz-Security-Token=a+token%2Fof%3D%3Dsome";
    let error = identify(&temporary.presigned(spaced), &keys()).unwrap_err();
    assert_eq!(error.code, "UnrecognizedClientException");
    // The host of HTTP/2 is in the target.
    let mut client = Client::new();
    client.body.clear();
    let signed = client.request();
    let mut parts = hyper::Request::builder()
        .method("POST")
        .uri("http://kms.us-east-1.amazonaws.com/");
    *parts.headers_mut().unwrap() = signed.parts.headers.clone();
    parts.headers_mut().unwrap().remove("host");
    let parts = parts.body(()).unwrap().into_parts().0;
    let request = Incoming {
        parts,
        body: Bytes::new(),
        ..signed
    };
    assert!(identify(&request, &keys()).is_ok());
}

/// Catches a change that a signature does not notice: in the body, the target, a header, the query,
/// the method or the secret.
#[test]
fn what_is_signed_cannot_be_changed() {
    let client = Client::new();
    let authorization = client.authorization();
    let changed = |change: &dyn Fn(&mut Client)| {
        let mut client = client.clone();
        change(&mut client);
        refused(
            &client.with_authorization(&authorization),
            MISMATCH.0,
            MISMATCH.1,
        );
    };
    changed(&|client| client.body.push(' '));
    changed(&|client| client.body.clear());
    changed(&|client| client.method = "GET");
    changed(&|client| client.query = "a=b".to_owned());
    changed(&|client| client.set("x-amz-target", "TrentService.Decrypt"));
    changed(&|client| client.set("host", "kms.us-east-1.amazonaws.com.example"));
    changed(&|client| {
        client
            .headers
            .push(("x-amz-target", "TrentService.Decrypt".to_owned()))
    });
    changed(&|client| client.headers.retain(|(name, _)| *name != "content-type"));
    changed(&|client| client.set("x-amz-date", "20150830T123601Z"));
    // What is not signed, and decides nothing, may change.
    let mut other = client.clone();
    other.set("user-agent", "another");
    assert!(identify(&other.with_authorization(&authorization), &keys()).is_ok());
    let mut other = client.clone();
    other.secret = "guessed";
    refused(&other.request(), MISMATCH.0, MISMATCH.1);
    for signature in ["", "00", &"0".repeat(64), &"é".repeat(32)] {
        let (start, _) = authorization.split_once("Signature=").unwrap();
        let written = format!("{start}Signature={signature}");
        if written.is_ascii() {
            refused(&client.with_authorization(&written), MISMATCH.0, MISMATCH.1);
        }
    }
    let upper = authorization.replace(
        &client.signature("", false),
        &client.signature("", false).to_uppercase(),
    );
    assert_ne!(upper, authorization);
    refused(&client.with_authorization(&upper), MISMATCH.0, MISMATCH.1);
}

/// Catches a hash of the body that is believed, or `UNSIGNED-PAYLOAD` where bodies must be signed.
#[test]
fn bodies_are_hashed_here() {
    let mut client = Client::new();
    client.signed = vec!["host", "x-amz-content-sha256", "x-amz-date", "x-amz-target"];
    let hash = String::from_utf8(hex(&sha256(BODY.as_bytes())).to_vec()).unwrap();
    client.set("x-amz-content-sha256", &hash);
    assert!(identify(&client.request(), &keys()).is_ok());
    for said in [
        "UNSIGNED-PAYLOAD",
        "",
        &hash.to_uppercase(),
        &"0".repeat(64),
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    ] {
        client.set("x-amz-content-sha256", said);
        refused(&client.request(), MISMATCH.0, MISMATCH.1);
    }
}

/// Catches an old signature that still counts, one from the future, and errors that clients which
/// set their clocks by them could not read.
#[test]
fn signatures_hold_for_five_minutes() {
    let code = "InvalidSignatureException";
    for seconds in [NOW - 300, NOW + 300, NOW] {
        assert!(
            identify(&Client::new().at(seconds).request(), &keys()).is_ok(),
            "{seconds}"
        );
    }
    refused(
        &Client::new().at(NOW - 301).request(),
        code,
        "Signature expired: 20150830T123059Z is now earlier than 20150830T123100Z (20150830T123600Z - 5 min.)",
    );
    refused(
        &Client::new().at(NOW + 301).request(),
        code,
        "Signature not yet current: 20150830T124101Z is still later than 20150830T124100Z (20150830T123600Z + 5 min.)",
    );
    let mut day = Client::new();
    day.day = "20150829".to_owned();
    refused(
        &day.request(),
        code,
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20150829' != '20150830', from '20150830T123600Z'.",
    );
    let mut odd = Client::new();
    let authorization = odd.authorization();
    odd.set("x-amz-date", "2015-08-30T12:36:00Z");
    refused(
        &odd.with_authorization(&authorization),
        "IncompleteSignatureException",
        "Date must be in ISO-8601 'basic format'. Got '2015-08-30T12:36:00Z'. See http://en.wikipedia.org/wiki/ISO_8601",
    );
    // The Date header of HTTP serves as well.
    let mut dated = Client::new();
    dated.headers.retain(|(name, _)| *name != "x-amz-date");
    dated.signed = vec!["date", "host", "x-amz-target"];
    dated.set("date", "Sun, 30 Aug 2015 12:36:00 GMT");
    assert!(identify(&dated.request(), &keys()).is_ok());
}

/// Catches a signed URL that holds longer or shorter than it says.
#[test]
fn signed_urls_hold_as_long_as_they_say() {
    let signed_at = |seconds: u64, expires: &str| {
        let mut client = presigning().at(NOW - seconds);
        client.headers.retain(|(name, _)| *name != "x-amz-date");
        client.presigned(expires)
    };
    for (seconds, expires) in [
        (3600, "&X-Amz-Expires=3600"),
        (1, "&X-Amz-Expires=1"),
        (300, ""),
        (604_800, "&X-Amz-Expires=604800"),
    ] {
        assert!(
            identify(&signed_at(seconds, expires), &keys()).is_ok(),
            "{expires}"
        );
        let error = identify(&signed_at(seconds + 1, expires), &keys()).unwrap_err();
        assert!(
            error.message.starts_with("Signature expired: "),
            "{}",
            error.message
        );
    }
    refused(
        &signed_at(91, "&X-Amz-Expires=90"),
        "InvalidSignatureException",
        "Signature expired: 20150830T123429Z is now earlier than 20150830T123430Z (20150830T123600Z - 90 sec.)",
    );
    for expires in [
        "0",
        "604801",
        "-1",
        "%2B5",
        "1e3",
        "",
        "99999999999999999999",
    ] {
        let error = identify(&signed_at(0, &format!("&X-Amz-Expires={expires}")), &keys());
        assert_eq!(
            error.unwrap_err().code,
            "IncompleteSignatureException",
            "{expires}"
        );
    }
}

/// Catches a signed URL that lacks a part, or names one twice, and is taken nevertheless.
#[test]
fn signed_urls_are_whole() {
    let client = presigning();
    let whole = client.parameters("&X-Amz-Expires=60");
    let signature = client.signature(&whole, true);
    for (cut, name) in [
        ("X-Amz-Algorithm=AWS4-HMAC-SHA256", "X-Amz-Algorithm"),
        ("X-Amz-Date=20150830T123600Z", "X-Amz-Date"),
        (
            "X-Amz-SignedHeaders=content-type%3Bhost%3Bx-amz-target",
            "X-Amz-SignedHeaders",
        ),
    ] {
        assert!(whole.contains(cut), "{whole}");
        let query = format!("{}&X-Amz-Signature={signature}", whole.replace(cut, ""));
        refused(
            &client.arriving(&query, &[]),
            "IncompleteSignatureException",
            &format!(
                "AWS query-string parameters must include '{name}'. Re-examine the query-string parameters."
            ),
        );
    }
    refused(
        &client.arriving(&whole, &[]),
        "IncompleteSignatureException",
        "AWS query-string parameters must include 'X-Amz-Signature'. Re-examine the query-string parameters.",
    );
    for twice in [
        "X-Amz-Expires=600000",
        "X-Amz-Signature=00",
        "X-Amz-Date=20150830T123601Z",
    ] {
        let query = format!("{whole}&X-Amz-Signature={signature}&{twice}");
        let error = identify(&client.arriving(&query, &[]), &keys()).unwrap_err();
        assert_eq!(error.code, "IncompleteSignatureException", "{twice}");
    }
    let query = format!(
        "{}&X-Amz-Signature={signature}",
        whole.replace("SHA256", "SHA1")
    );
    let error = identify(&client.arriving(&query, &[]), &keys()).unwrap_err();
    assert_eq!(error.code, "IncompleteSignatureException");
}

/// Catches headers that decide something and may be changed by anybody on the way.
#[test]
fn the_host_and_amz_headers_must_be_signed() {
    let code = "InvalidSignatureException";
    let mut client = Client::new();
    client.signed = vec!["x-amz-date", "x-amz-target"];
    let message = "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.";
    refused(&client.request(), code, message);
    for (signed, left) in [
        (vec!["host", "x-amz-date"], "x-amz-target"),
        (vec!["host", "x-amz-target"], "x-amz-date"),
    ] {
        client.signed = signed;
        let message = format!("'{left}' must be a 'SignedHeader' in the AWS Authorization.");
        refused(&client.request(), code, &message);
    }
    let mut client = Client::new();
    let authorization = client.authorization();
    client.set("x-amz-security-token", TOKEN);
    let message = "'x-amz-security-token' must be a 'SignedHeader' in the AWS Authorization.";
    refused(&client.with_authorization(&authorization), code, message);
    // Names that stand in another order, or twice, or name what is not there.
    let client = Client::new();
    for names in [
        "host;content-type;x-amz-date;x-amz-target",
        "content-type;host;host;x-amz-date;x-amz-target",
        "accept;content-type;host;x-amz-date;x-amz-target",
        "content-type;host;x-amz-date;x-amz-target;",
    ] {
        let written = authorization.replace("content-type;host;x-amz-date;x-amz-target", names);
        assert_ne!(written, authorization);
        refused(&client.with_authorization(&written), MISMATCH.0, MISMATCH.1);
    }
}

/// Catches an Authorization header that can be read in two ways, and two of them.
#[test]
fn a_claim_is_made_once() {
    let client = Client::new();
    let authorization = client.authorization();
    let incomplete = "IncompleteSignatureException";
    for written in [
        format!("{authorization}, Signature={}", "0".repeat(64)),
        format!("{authorization}, Credential=a/b/c/d/aws4_request"),
        format!("{authorization}, Extra=1"),
        format!("{authorization}, extra"),
        authorization.replace("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256"),
        authorization.replace("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256-PAYLOAD "),
    ] {
        let error = identify(&client.with_authorization(&written), &keys()).unwrap_err();
        assert_eq!(error.code, incomplete, "{written}: {error:?}");
    }
    for (name, value) in [
        ("authorization", &*authorization),
        ("x-amz-date", &client.stamp),
    ] {
        let more = [("authorization", &*authorization), (name, value)];
        let error = identify(&client.arriving("", &more), &keys()).unwrap_err();
        assert_eq!(error.code, incomplete, "{name}: {error:?}");
    }
    // The order of the three, and the white space between them, say nothing.
    let mut parts: Vec<_> = authorization["AWS4-HMAC-SHA256 ".len()..]
        .split(", ")
        .collect();
    parts.reverse();
    let written = format!("AWS4-HMAC-SHA256 {}", parts.join(","));
    assert!(identify(&client.with_authorization(&written), &keys()).is_ok());
}

/// Catches a caller without credentials, with ones nobody has, or whose time is over, that gets in or
/// is told something else than by the real service.
#[test]
fn unknown_and_expired_callers_are_told_so() {
    let bare = Client::new();
    let missing = (
        "MissingAuthenticationTokenException",
        "Missing Authentication Token",
    );
    refused(&bare.arriving("", &[]), missing.0, missing.1);
    let unknown = (
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
    );
    let mut stranger = Client::new();
    stranger.access_key = "AKIANOBODY";
    refused(&stranger.request(), unknown.0, unknown.1);
    // Not even with the secret that stands for the one it has not.
    stranger.secret = std::str::from_utf8(NOBODYS).unwrap();
    refused(&stranger.request(), unknown.0, unknown.1);
    let mut temporary = Client::new();
    (temporary.access_key, temporary.secret) = ("ASIATEMPORARY", "other");
    refused(&temporary.request(), unknown.0, unknown.1);
    temporary.signed = vec!["host", "x-amz-date", "x-amz-security-token", "x-amz-target"];
    temporary.set("x-amz-security-token", "not its own");
    refused(&temporary.request(), unknown.0, unknown.1);
    temporary.set("x-amz-security-token", EXPIRED);
    refused(
        &temporary.request(),
        "ExpiredTokenException",
        "The security token included in the request is expired",
    );
    let mut permanent = Client::new();
    permanent.signed = vec!["host", "x-amz-date", "x-amz-security-token", "x-amz-target"];
    permanent.set("x-amz-security-token", TOKEN);
    refused(&permanent.request(), unknown.0, unknown.1);
}

/// Catches a declared key that is taken unchecked where any credentials are taken, and an undeclared
/// one that is refused there.
#[test]
fn any_credentials_are_taken_but_for_declared_ones() {
    let ask = |request: &Incoming, keys: &Keys| {
        let any = AcceptedCredentials::Any;
        identify_with(&Verifier::default(), request, keys, any)
            .map(|caller| caller.is_some())
            .map_err(|error| error.code)
    };
    let none = Keys::default();
    let mut wrong = Client::new();
    wrong.secret = "guessed";
    let mut stranger = wrong.clone();
    stranger.access_key = "000000000042";
    for request in [wrong.request(), stranger.request(), wrong.arriving("", &[])] {
        assert_eq!(ask(&request, &none), Ok(false));
    }
    assert_eq!(
        ask(&wrong.request(), &keys()),
        Err("InvalidSignatureException")
    );
    assert_eq!(ask(&Client::new().request(), &keys()), Ok(true));
    assert_eq!(ask(&stranger.request(), &keys()), Ok(false));
    assert_eq!(ask(&wrong.arriving("", &[]), &keys()), Ok(false));
    // Who shows a token says to be somebody declared.
    stranger.signed = vec!["host", "x-amz-date", "x-amz-security-token", "x-amz-target"];
    stranger.set("x-amz-security-token", TOKEN);
    assert_eq!(
        ask(&stranger.request(), &keys()),
        Err("UnrecognizedClientException")
    );
}

/// Catches a key that went on working after its secret was replaced.
#[test]
fn a_replaced_secret_signs_no_more() {
    let verifier = Verifier::default();
    let ask = |client: &Client, secret: &'static str| {
        let keys = Keys(BTreeMap::from([(ACCESS_KEY, (secret, None))]));
        identify_with(
            &verifier,
            &client.request(),
            &keys,
            AcceptedCredentials::Declared,
        )
        .is_ok()
    };
    let (old, mut new) = (Client::new(), Client::new());
    new.secret = "new";
    for _ in 0..2 {
        assert_eq!([ask(&old, SECRET), ask(&new, SECRET)], [true, false]);
        assert_eq!([ask(&old, "new"), ask(&new, "new")], [false, true]);
    }
}
