//! Who asks and of which Region, as the signature's credential scope says.
//!
//! Signatures themselves are not checked yet: every node takes any credentials, an access key id
//! of 12 digits selects that account and any other the default account, as its root.

use std::collections::BTreeMap;

use hyper::HeaderMap;
use hyper::header::{self, HeaderName};
use hyper::http::request::Parts;
use keyrum_authz::VIA_SERVICE;
use keyrum_state::Caller;
use keyrum_types::{AccountId, Region};

use crate::error::ApiError;
use crate::route::form_pairs;

const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// A credential scope, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credential {
    pub(crate) access_key: String,
    pub(crate) region: String,
    service: String,
}

impl Credential {
    /// What a request claims, in the Authorization header or, for signed URLs, in the query.
    /// `None` if it is not signed at all.
    pub(crate) fn of(parts: &Parts) -> Result<Option<Self>, ApiError> {
        if let Some(header) = parts.headers.get(header::AUTHORIZATION) {
            let dated =
                parts.headers.contains_key(AMZ_DATE) || parts.headers.contains_key(header::DATE);
            let header = header
                .to_str()
                .map_err(|_| incomplete("The Authorization header is not ASCII."))?;
            return from_header(header, dated).map(Some);
        }
        let query = parts
            .uri
            .query()
            .filter(|query| query.contains("X-Amz-Credential"));
        let Some(query) = query else { return Ok(None) };
        let scope = form_pairs(query).find(|(name, _)| name == "X-Amz-Credential");
        scope.map(|(_, scope)| scoped(&scope)).transpose()
    }

    /// Refuses a scope of another service than `service` (`kms` or `sts`).
    pub(crate) fn check_service(&self, service: &str) -> Result<(), ApiError> {
        if self.service == service {
            return Ok(());
        }
        Err(invalid(format!(
            "Credential should be scoped to correct service: '{service}'. "
        )))
    }
}

/// The error for a Region the cluster does not have.
pub(crate) fn wrong_region() -> ApiError {
    invalid("Credential should be scoped to a valid region. ".to_owned())
}

/// Names the AWS service that a request is said to come through, such as `s3`; for stand-ins of such
/// services, which use their managed key on a caller's behalf.
const VIA: HeaderName = HeaderName::from_static("x-keyrum-via-service");

/// The caller behind a credential: the root of the account it selects.
pub(crate) fn caller(
    credential: Option<&Credential>,
    default: AccountId,
    region: &Region,
) -> Caller {
    let selected = credential.and_then(|credential| credential.access_key.parse().ok());
    let account = selected.unwrap_or(default);
    Caller::root(region, account)
}

/// The values that a request's headers give to conditions of policies.
///
/// Anyone may say so, as anyone may say to be any account's root: a node that checks signatures must
/// not take it from a caller's word.
pub(crate) fn conditions(
    headers: &HeaderMap,
    region: &Region,
) -> Result<BTreeMap<String, Vec<String>>, ApiError> {
    let Some(via) = headers.get(VIA) else {
        return Ok(BTreeMap::new());
    };
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let name = via.to_str().ok();
    let name = name.filter(|name| !name.is_empty() && name.bytes().all(|byte| plain(&byte)));
    let wrong = "The header x-keyrum-via-service must be a service's name such as s3.";
    let name = name.ok_or_else(|| ApiError::validation(wrong))?;
    let value = format!("{name}.{region}.amazonaws.com");
    Ok(BTreeMap::from([(VIA_SERVICE.to_owned(), vec![value])]))
}

fn from_header(header: &str, dated: bool) -> Result<Credential, ApiError> {
    let (mut credential, mut signed_headers, mut signature) = (None, false, false);
    if let Some(parameters) = header.strip_prefix(ALGORITHM) {
        for parameter in parameters.split([',', ' ']) {
            match parameter.split_once('=') {
                Some(("Credential", scope)) => credential = Some(scope),
                Some(("SignedHeaders", _)) => signed_headers = true,
                Some(("Signature", _)) => signature = true,
                _ => {}
            }
        }
    }
    match credential {
        Some(scope) if signed_headers && signature => scoped(scope),
        _ => {
            let mut message = String::new();
            for (present, name) in [
                (credential.is_some(), "Credential"),
                (signature, "Signature"),
                (signed_headers, "SignedHeaders"),
            ] {
                if !present {
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
            Err(incomplete(format!("{message}Authorization={header}")))
        }
    }
}

fn scoped(scope: &str) -> Result<Credential, ApiError> {
    // An access key id has no slash, but counting from the end costs nothing.
    let parts: Vec<&str> = scope.rsplitn(5, '/').collect();
    let [term, service, region, _date, access_key] = parts[..] else {
        return Err(incomplete(format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{scope}'"
        )));
    };
    if term != "aws4_request" {
        return Err(invalid(format!(
            "Credential should be scoped with a valid terminator: 'aws4_request', not '{term}'."
        )));
    }
    Ok(Credential {
        access_key: access_key.to_owned(),
        region: region.to_owned(),
        service: service.to_owned(),
    })
}

fn incomplete(message: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::client("IncompleteSignatureException", message)
}

fn invalid(message: String) -> ApiError {
    ApiError::client("InvalidSignatureException", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(uri: &str, authorization: Option<&str>) -> Result<Option<Credential>, ApiError> {
        let mut request = hyper::Request::builder().uri(uri);
        if let Some(header) = authorization {
            request = request.header("authorization", header);
        }
        Credential::of(&request.body(()).unwrap().into_parts().0)
    }

    fn refused(authorization: &str) -> (&'static str, String) {
        let error = credential("/", Some(authorization)).unwrap_err();
        (error.code, error.message.into_owned())
    }

    /// Catches a scope whose parts are mixed up, in either place a signature may stand.
    #[test]
    fn scopes_are_taken_apart() {
        let expected = Credential {
            access_key: "000000000042".to_owned(),
            region: "eu-west-1".to_owned(),
            service: "kms".to_owned(),
        };
        let scope = "000000000042/20260101/eu-west-1/kms/aws4_request";
        for header in [
            format!(
                "AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date, Signature=ab"
            ),
            format!("AWS4-HMAC-SHA256 Credential={scope},SignedHeaders=host,Signature=ab"),
        ] {
            assert_eq!(credential("/", Some(&header)), Ok(Some(expected.clone())));
        }
        let query = format!(
            "/?X-Amz-Credential={}&X-Amz-Signature=ab",
            scope.replace('/', "%2F")
        );
        assert_eq!(credential(&query, None), Ok(Some(expected.clone())));
        assert_eq!(credential("/", None), Ok(None));

        let region = "eu-west-1".parse().unwrap();
        let default = "111122223333".parse().unwrap();
        let caller = caller(Some(&expected), default, &region);
        assert_eq!(caller.arn, "arn:aws:iam::000000000042:root");
        let other = Credential {
            access_key: "AKIDEXAMPLE".to_owned(),
            ..expected.clone()
        };
        assert_eq!(
            super::caller(Some(&other), default, &region).account,
            default
        );
        assert_eq!(super::caller(None, default, &region).account, default);

        assert_eq!(expected.check_service("kms"), Ok(()));
        assert_eq!(
            expected.check_service("sts").unwrap_err().message,
            "Credential should be scoped to correct service: 'sts'. "
        );
    }

    /// Catches a malformed header that passes, or that is refused without saying what is missing.
    #[test]
    fn malformed_signatures_are_named() {
        let (code, message) = refused("Bearer token");
        assert_eq!(code, "IncompleteSignatureException");
        assert_eq!(
            message,
            "Authorization header requires 'Credential' parameter. Authorization header requires \
             'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. \
             Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. \
             Authorization=Bearer token"
        );
        let (code, message) =
            refused("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=h, Signature=s");
        assert_eq!(code, "IncompleteSignatureException");
        assert!(message.contains("5 slash-delimited elements"), "{message}");
        let scope = "a/20260101/us-east-1/kms/aws5_request";
        let header = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=h, Signature=s");
        assert_eq!(refused(&header).0, "InvalidSignatureException");
    }
}
