//! Signatures of requests: AWS Signature Version 4, in the Authorization header or in the query.
//! Source: AWS IAM User Guide, "AWS Signature Version 4 for API requests".
//!
//! What can be told from the request alone (form, dates, which headers are signed) is told first and
//! may end early. From there on a request costs the same whether its access key exists or not and
//! whether its signature is right: an unknown key's signature is computed with a made-up secret.

mod canonical;
mod claim;
mod date;
mod keys;
mod trial;

#[cfg(test)]
mod mutation_tests;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod vector_tests;

use std::borrow::Cow;

use std::cell::RefCell;

use keyrum_consensus::world::BoxFuture;
use keyrum_service::Secret;
use keyrum_state::Caller;
use keyrum_types::UnixMillis;
use ring::{digest, hmac};

use crate::error::ApiError;
use crate::http::Incoming;
use canonical::{Names, Signed};
use date::text;
use keys::SigningKeys;

pub(crate) use claim::Claim;
pub(crate) use date::iso as iso_date;
pub use trial::{Arrived, SignatureTrial};

/// How far a request's time may be from this machine's, in seconds.
const SKEW: u64 = 300;

/// Longest time a signed URL may hold, in seconds: a week.
/// Source: AWS IAM User Guide, "Create a signed AWS API request", `X-Amz-Expires`.
const EXPIRES_MAX: u64 = 604_800;

/// How much room for what is signed each thread keeps.
const TEXT_BYTES_KEPT: usize = 8 << 10;

/// What the secret of an access key that nobody has is taken to be. It opens nothing: what it signs
/// is refused.
const NOBODYS: &[u8] = b"0000000000000000000000000000000000000000";

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptedCredentials {
    /// Declared access keys, whose signatures are checked, and everybody else, as the root of the
    /// account the access key id names.
    Any,
    /// Declared access keys only.
    Declared,
}

/// Where access keys are looked up: a node of the request's Region.
pub(crate) trait Credentials: Send + Sync {
    /// Whether any access key is declared at all. While not, nothing is looked up where any
    /// credentials are taken.
    fn any_declared(&self) -> bool {
        false
    }

    /// Finds an access key. `thorough` says that a key this node does not know yet is worth asking
    /// others for, since the request is refused otherwise.
    fn find<'a>(
        &'a self,
        access_key: &'a str,
        session_token: Option<&'a str>,
        thorough: bool,
    ) -> BoxFuture<'a, Result<Found, CredentialError>> {
        let _ = (access_key, session_token, thorough);
        Box::pin(std::future::ready(Err(CredentialError::Unknown)))
    }
}

/// An access key.
pub(crate) struct Found {
    /// What it signs with.
    pub(crate) secret: Secret,
    /// Who it speaks for.
    pub(crate) caller: Caller,
}

/// Why an access key is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CredentialError {
    /// Nobody has it; or its token is missing, not its own, or was given out by nobody.
    Unknown,
    /// Its owner does not want it used.
    Inactive,
    /// It was temporary, and its time is over.
    Expired,
    /// Nobody could be asked.
    Unavailable,
}

/// Checks signatures.
#[derive(Default)]
pub(crate) struct Verifier {
    keys: SigningKeys,
}

impl Verifier {
    /// Says who signed a request. `None` if its credentials are taken unchecked.
    pub(crate) async fn identify(
        &self,
        request: &Incoming,
        claim: Option<&Claim<'_>>,
        accepted: AcceptedCredentials,
        credentials: &dyn Credentials,
    ) -> Result<Option<Caller>, ApiError> {
        match (accepted, claim) {
            (AcceptedCredentials::Any, None) => Ok(None),
            (AcceptedCredentials::Any, Some(_)) if !credentials.any_declared() => Ok(None),
            (AcceptedCredentials::Any, Some(claim)) => {
                match credentials
                    .find(claim.access_key(), claim.token(), false)
                    .await
                {
                    // A token belongs to a declared role or user, so who shows one claims to be one.
                    Err(CredentialError::Unknown) if claim.token().is_none() => Ok(None),
                    found => {
                        let checked = claim.check(request)?;
                        self.verify(request, claim, &checked, found).map(Some)
                    }
                }
            }
            (AcceptedCredentials::Declared, None) => Err(ApiError::client(
                "MissingAuthenticationTokenException",
                "Missing Authentication Token",
            )),
            (AcceptedCredentials::Declared, Some(claim)) => {
                let checked = claim.check(request)?;
                let found = credentials
                    .find(claim.access_key(), claim.token(), true)
                    .await;
                self.verify(request, claim, &checked, found).map(Some)
            }
        }
    }

    /// Does the whole work whatever was found, and only then looks at it.
    fn verify(
        &self,
        request: &Incoming,
        claim: &Claim<'_>,
        checked: &Checked<'_>,
        found: Result<Found, CredentialError>,
    ) -> Result<Caller, ApiError> {
        let secret = found.as_ref().map_or(NOBODYS, |found| &**found.secret);
        let name = if found.is_ok() {
            claim.access_key()
        } else {
            ""
        };
        let key = self.keys.of(name, claim.scope(), secret);
        let body_hash = sha256(&request.body);
        let signed = claim.signed(request, &checked.names, body_hash);
        let given = unhex(claim.signature.as_bytes());
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*key);
        thread_local! {
            static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let (whole, same) = TEXT.with_borrow_mut(|text| {
            text.clear();
            let whole = signed.canonical(text);
            let hash = sha256(text);
            text.clear();
            string_to_sign(&checked.at, claim.scope(), &hash, text);
            let same = hmac::verify(&key, text, &given.unwrap_or_default()).is_ok();
            text.shrink_to(TEXT_BYTES_KEPT);
            (whole, same)
        });
        let right = same && given.is_some() && whole.is_ok() && body_matches(request, &body_hash);
        match found {
            Err(CredentialError::Unknown | CredentialError::Inactive) => Err(unrecognized()),
            Err(CredentialError::Unavailable) => Err(unavailable()),
            Err(CredentialError::Expired) => Err(expired_token()),
            Ok(found) if right => Ok(found.caller),
            Ok(_) => Err(mismatch()),
        }
    }
}

/// What a claim that was checked says.
struct Checked<'a> {
    /// When it was signed.
    at: date::Stamp,
    names: Names<'a>,
}

impl Claim<'_> {
    /// Checks what the request alone shows: that the claim is whole, that it is of this time, and
    /// that the signature covers what it must.
    fn check(&self, request: &Incoming) -> Result<Checked<'_>, ApiError> {
        let dated = self.check_whole()?;
        let at = date::parse_basic(&dated.text).or_else(|| date::parse_http(&dated.text));
        let at = at.ok_or_else(|| {
            incomplete(format!(
                "Date must be in ISO-8601 'basic format'. Got '{}'. See http://en.wikipedia.org/wiki/ISO_8601",
                dated.text
            ))
        })?;
        let stamp = date::basic(at);
        let (stamp_text, day) = (text(&stamp), self.day());
        if day != &stamp_text[..8] {
            return Err(invalid(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date \
                 from HTTP: '{day}' != '{}', from '{stamp_text}'.",
                &stamp_text[..8]
            )));
        }
        let names = Names::of(&self.signed_headers);
        if let Some(name) = names.lack(&request.parts.headers) {
            return Err(invalid(if name == "host" {
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."
                    .to_owned()
            } else {
                format!("'{name}' must be a 'SignedHeader' in the AWS Authorization.")
            }));
        }
        check_time(at, dated.expires, request.at)?;
        Ok(Checked { at: stamp, names })
    }

    fn signed<'a>(
        &self,
        request: &'a Incoming,
        names: &'a Names<'a>,
        body_hash: [u8; 32],
    ) -> Signed<'a> {
        let parts = &request.parts;
        Signed {
            method: parts.method.as_str(),
            // Nothing is served at any other path (see `Route`).
            path: "/",
            query: parts.uri.query().unwrap_or_default(),
            in_query: self.in_url(),
            headers: &parts.headers,
            authority: parts.uri.authority().map(|authority| authority.as_str()),
            names,
            body_hash,
        }
    }
}

/// Whether a request that was signed `at` these seconds still, and already, counts.
fn check_time(at: u64, expires: Option<&str>, now: UnixMillis) -> Result<(), ApiError> {
    let now = now.0 / 1000;
    let holds = match expires {
        None => SKEW,
        Some(text) => {
            let plain = text.len() <= 6 && text.bytes().all(|byte| byte.is_ascii_digit());
            let seconds = text.parse().ok().filter(|_| plain);
            seconds
                .filter(|seconds| (1..=EXPIRES_MAX).contains(seconds))
                .ok_or_else(|| {
                    incomplete(format!(
                        "X-Amz-Expires must be a number of seconds from 1 to {EXPIRES_MAX}, got '{text}'."
                    ))
                })?
        }
    };
    let write = date::basic;
    if at + holds < now {
        let (earliest, span) = (write(now - holds), span(holds));
        return Err(invalid(format!(
            "Signature expired: {} is now earlier than {} ({} - {span}.)",
            text(&write(at)),
            text(&earliest),
            text(&write(now)),
        )));
    }
    if at > now + SKEW {
        return Err(invalid(format!(
            "Signature not yet current: {} is still later than {} ({} + {}.)",
            text(&write(at)),
            text(&write(now + SKEW)),
            text(&write(now)),
            span(SKEW),
        )));
    }
    Ok(())
}

fn span(seconds: u64) -> String {
    match seconds % 60 {
        0 => format!("{} min", seconds / 60),
        _ => format!("{seconds} sec"),
    }
}

/// Whether what the request says of its body, if anything, is so. The hash in the signature is
/// computed from the body in any case, so `UNSIGNED-PAYLOAD` does not pass.
fn body_matches(request: &Incoming, hash: &[u8; 32]) -> bool {
    let said = request.parts.headers.get_all("x-amz-content-sha256");
    said.iter().all(|said| said.as_bytes() == hex(hash))
}

/// Source: AWS IAM User Guide, "Create a signed AWS API request", step 2.
fn string_to_sign(at: &date::Stamp, scope: &str, canonical: &[u8; 32], to: &mut Vec<u8>) {
    let hash = hex(canonical);
    let (name, at) = (claim::ALGORITHM.as_bytes(), at.as_slice());
    for (number, line) in [name, at, scope.as_bytes(), &hash].into_iter().enumerate() {
        if number > 0 {
            to.push(b'\n');
        }
        to.extend_from_slice(line);
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let hash = digest::digest(&digest::SHA256, bytes);
    hash.as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

/// Lower-case digits.
fn hex(bytes: &[u8; 32]) -> [u8; 64] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut out = [0; 64];
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    out
}

/// `None` for anything but 64 lower-case digits.
fn unhex(digits: &[u8]) -> Option<[u8; 32]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if digits.len() != 64 {
        return None;
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

/// The access key could not be looked up.
fn unavailable() -> ApiError {
    ApiError::dependency_timeout(
        "The access key could not be looked up in time. Nothing was changed.",
    )
}

/// What cannot be read as a signature.
fn incomplete(message: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::client("IncompleteSignatureException", message)
}

/// What can be read and does not hold.
pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::client("InvalidSignatureException", message)
}

fn mismatch() -> ApiError {
    invalid(
        "The request signature we calculated does not match the signature you provided. Check \
         your AWS Secret Access Key and signing method. Consult the service documentation for \
         details.",
    )
}

fn unrecognized() -> ApiError {
    ApiError::client(
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
    )
}

fn expired_token() -> ApiError {
    ApiError::client(
        "ExpiredTokenException",
        "The security token included in the request is expired",
    )
}
