//! What a request claims about its signature, in the Authorization header or in the query.
//!
//! Reading a claim checks only that it can be read, as far as the Region must be known to find a
//! node: where any credentials are taken, made-up signatures pass.

use std::borrow::Cow;

use hyper::HeaderMap;
use hyper::header::{self, HeaderName};
use hyper::http::request::Parts;

use super::canonical::SIGNATURE;
use super::{incomplete, invalid};
use crate::error::ApiError;
use crate::route::form_pairs;

/// When the request was signed.
const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");

/// The token of temporary credentials.
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// The one algorithm.
pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// A claim, taken apart.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    scope: Scope<'a>,
    /// Names of headers between semicolons.
    pub(super) signed_headers: Cow<'a, str>,
    /// As it was given.
    pub(super) signature: Cow<'a, str>,
    place: Place<'a>,
}

/// Where the claim was found, and what stands beside it there.
#[derive(Debug)]
enum Place<'a> {
    Header {
        headers: &'a HeaderMap,
        text: &'a str,
        /// Whether it says each thing once and nothing else.
        exact: bool,
    },
    Query(Box<Query>),
}

/// The parameters of a signed URL; `None` for what is missing.
#[derive(Debug, Default)]
struct Query {
    algorithm: Option<String>,
    credential: Option<String>,
    date: Option<String>,
    expires: Option<String>,
    signed_headers: Option<String>,
    signature: Option<String>,
    token: Option<String>,
    /// A parameter that is there twice.
    repeated: bool,
}

/// `ACCESS-KEY/DATE/REGION/SERVICE/aws4_request`.
#[derive(Debug)]
struct Scope<'a> {
    text: Cow<'a, str>,
    /// Where its four slashes are.
    slashes: [usize; 4],
}

/// When a request was signed and how long that holds, as it says.
pub(super) struct Dated<'a> {
    pub(super) text: Cow<'a, str>,
    /// Seconds, of a signed URL.
    pub(super) expires: Option<&'a str>,
}

impl<'a> Claim<'a> {
    /// What a request claims; `None` if it is not signed at all.
    pub(crate) fn of(parts: &'a Parts) -> Result<Option<Self>, ApiError> {
        if let Some(header) = parts.headers.get(header::AUTHORIZATION) {
            let header = header
                .to_str()
                .map_err(|_| incomplete("The Authorization header is not ASCII."))?;
            return Self::in_header(header, &parts.headers).map(Some);
        }
        let query = parts.uri.query();
        match query.filter(|query| query.contains("X-Amz-Credential")) {
            Some(query) => Self::in_query(query),
            None => Ok(None),
        }
    }

    fn in_header(text: &'a str, headers: &'a HeaderMap) -> Result<Self, ApiError> {
        let (mut scope, mut signed_headers, mut signature) = (None, None, None);
        let mut exact = false;
        if let Some(parameters) = text.strip_prefix(ALGORITHM) {
            exact = parameters.starts_with(' ');
            for parameter in parameters
                .split(',')
                .flat_map(|parameter| parameter.split(' '))
                .filter(|text| !text.is_empty())
            {
                let former = match parameter.split_once('=') {
                    Some(("Credential", value)) => scope.replace(value),
                    Some(("SignedHeaders", value)) => signed_headers.replace(value),
                    Some(("Signature", value)) => signature.replace(value),
                    _ => Some(parameter),
                };
                exact &= former.is_none();
            }
        }
        let (Some(scope), Some(signed_headers), Some(signature)) =
            (scope, signed_headers, signature)
        else {
            let there = [
                scope.is_some(),
                signature.is_some(),
                signed_headers.is_some(),
            ];
            return Err(lacking(text, there, dated(headers)));
        };
        Ok(Self {
            scope: Scope::cut(scope.into())?,
            signed_headers: signed_headers.into(),
            signature: signature.into(),
            place: Place::Header {
                headers,
                text,
                exact: exact && headers.get_all(header::AUTHORIZATION).iter().count() == 1,
            },
        })
    }

    fn in_query(text: &str) -> Result<Option<Self>, ApiError> {
        let mut query = Box::<Query>::default();
        for (name, value) in form_pairs(text) {
            let slot = match name.as_str() {
                "X-Amz-Algorithm" => &mut query.algorithm,
                "X-Amz-Credential" => &mut query.credential,
                "X-Amz-Date" => &mut query.date,
                "X-Amz-Expires" => &mut query.expires,
                "X-Amz-SignedHeaders" => &mut query.signed_headers,
                "X-Amz-Security-Token" => &mut query.token,
                SIGNATURE => &mut query.signature,
                _ => continue,
            };
            if slot.is_some() {
                query.repeated = true;
            } else {
                *slot = Some(value);
            }
        }
        let Some(scope) = query.credential.take() else {
            return Ok(None);
        };
        Ok(Some(Self {
            scope: Scope::cut(scope.into())?,
            signed_headers: query.signed_headers.clone().unwrap_or_default().into(),
            signature: query.signature.clone().unwrap_or_default().into(),
            place: Place::Query(query),
        }))
    }

    /// Which access key signed.
    pub(crate) fn access_key(&self) -> &str {
        self.scope.part(0)
    }

    /// The day it was signed on.
    pub(super) fn day(&self) -> &str {
        self.scope.part(1)
    }

    /// For which Region.
    pub(crate) fn region(&self) -> &str {
        self.scope.part(2)
    }

    /// For which service.
    pub(super) fn service(&self) -> &str {
        self.scope.part(3)
    }

    /// What follows the access key.
    pub(super) fn scope(&self) -> &str {
        &self.scope.text[self.scope.slashes[0] + 1..]
    }

    /// Refuses a scope of another service than `service` (`kms` or `sts`).
    pub(crate) fn check_service(&self, service: &str) -> Result<(), ApiError> {
        if self.service() == service {
            return Ok(());
        }
        Err(invalid(format!(
            "Credential should be scoped to correct service: '{service}'. "
        )))
    }

    /// Whether the signature covers this header.
    pub(crate) fn signs(&self, name: &str) -> bool {
        self.signed_headers.split(';').any(|signed| signed == name)
    }

    /// Whether it is in the query.
    pub(super) fn in_url(&self) -> bool {
        matches!(self.place, Place::Query(_))
    }

    /// The token that belongs to temporary credentials.
    pub(super) fn token(&self) -> Option<&str> {
        match &self.place {
            // One that cannot be read is one that nobody gave out.
            Place::Header { headers, .. } => {
                let token = headers.get(SECURITY_TOKEN)?;
                Some(token.to_str().unwrap_or_default())
            }
            Place::Query(query) => query.token.as_deref(),
        }
    }

    /// Refuses what is not a whole claim, or could be read in two ways; else says when it was made.
    pub(super) fn check_whole(&self) -> Result<Dated<'_>, ApiError> {
        match &self.place {
            Place::Header {
                headers,
                text,
                exact,
            } => {
                if !dated(headers) {
                    return Err(lacking(text, [true; 3], false));
                }
                if !exact {
                    return Err(incomplete(format!(
                        "Authorization header must name 'Credential', 'SignedHeaders' and \
                         'Signature' once each, and nothing else. Authorization={text}"
                    )));
                }
                let once = [AMZ_DATE, SECURITY_TOKEN];
                if let Some(name) = once
                    .iter()
                    .find(|name| headers.get_all(*name).iter().nth(1).is_some())
                {
                    return Err(incomplete(format!("The header {name} must be there once.")));
                }
                let date = headers.get(AMZ_DATE).or_else(|| headers.get(header::DATE));
                let text = date.map_or(Cow::Borrowed(""), |date| {
                    String::from_utf8_lossy(date.as_bytes())
                });
                Ok(Dated {
                    text,
                    expires: None,
                })
            }
            Place::Query(query) => query.check_whole(),
        }
    }
}

impl Query {
    /// Messages as those of the real service's other front ends for signed URLs.
    fn check_whole(&self) -> Result<Dated<'_>, ApiError> {
        let mut message = String::new();
        for (name, value) in [
            ("X-Amz-Algorithm", &self.algorithm),
            (SIGNATURE, &self.signature),
            ("X-Amz-SignedHeaders", &self.signed_headers),
            ("X-Amz-Date", &self.date),
        ] {
            if value.is_none() {
                message.push_str(&format!(
                    "AWS query-string parameters must include '{name}'. "
                ));
            }
        }
        if self
            .algorithm
            .as_deref()
            .is_some_and(|name| name != ALGORITHM)
        {
            message.push_str(&format!("'X-Amz-Algorithm' must be '{ALGORITHM}'. "));
        }
        if self.repeated {
            message.push_str("AWS query-string parameters must be there once. ");
        }
        if !message.is_empty() {
            message.push_str("Re-examine the query-string parameters.");
            return Err(incomplete(message));
        }
        Ok(Dated {
            text: self.date.as_deref().unwrap_or_default().into(),
            expires: self.expires.as_deref(),
        })
    }
}

impl<'a> Scope<'a> {
    fn cut(text: Cow<'a, str>) -> Result<Self, ApiError> {
        // An access key id has no slash, but counting from the end costs nothing.
        let mut slashes = [0; 4];
        let mut found = text.rmatch_indices('/');
        for slash in slashes.iter_mut().rev() {
            let Some((at, _)) = found.next() else {
                return Err(incomplete(format!(
                    "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{text}'"
                )));
            };
            *slash = at;
        }
        let term = &text[slashes[3] + 1..];
        if term != "aws4_request" {
            return Err(invalid(format!(
                "Credential should be scoped with a valid terminator: 'aws4_request', not '{term}'."
            )));
        }
        Ok(Self { text, slashes })
    }

    /// The part before the slash of this number.
    fn part(&self, number: usize) -> &str {
        let from = number
            .checked_sub(1)
            .map_or(0, |former| self.slashes[former] + 1);
        &self.text[from..self.slashes[number]]
    }
}

fn dated(headers: &HeaderMap) -> bool {
    headers.contains_key(AMZ_DATE) || headers.contains_key(header::DATE)
}

fn lacking(header: &str, there: [bool; 3], dated: bool) -> ApiError {
    let mut message = String::new();
    for (there, name) in there
        .into_iter()
        .zip(["Credential", "Signature", "SignedHeaders"])
    {
        if !there {
            message.push_str(&format!(
                "Authorization header requires '{name}' parameter. "
            ));
        }
    }
    if !dated {
        message.push_str(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ",
        );
    }
    incomplete(format!("{message}Authorization={header}"))
}
