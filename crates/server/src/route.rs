//! What a request is for, told from its method, path and headers alone.

use hyper::Method;
use hyper::header;
use hyper::http::request::Parts;
use hyper::{HeaderMap, header::HeaderName};

use crate::error::ApiError;
use crate::model::{Model, Operation};

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");

/// What stands before the operation in the target header. Source: the service model, `targetPrefix`.
const TARGET_PREFIX: &str = "TrentService.";

/// Where a request goes.
pub(crate) enum Route {
    /// An operation of the KMS API.
    Kms(&'static Operation),
    /// An action of STS, which shares the endpoint.
    Sts,
    /// Whether the server is there and well.
    Health,
    /// Back to an empty cluster; for tests of programs that use one.
    Reset,
}

impl Route {
    /// Reads the route off a request.
    pub(crate) fn of(parts: &Parts) -> Result<Self, ApiError> {
        match (parts.uri.path(), &parts.method) {
            ("/_keyrum/health", &Method::GET) => return Ok(Self::Health),
            ("/_keyrum/reset", &Method::POST) => return Ok(Self::Reset),
            ("/", &Method::POST) => {}
            // A signed URL of GetCallerIdentity, as some programs use for logging in.
            ("/", &Method::GET) if parts.uri.query().is_some_and(|q| q.contains("Action=")) => {
                return Ok(Self::Sts);
            }
            ("/", _) => return Err(wrong(405, "Operations are asked for with POST.")),
            _ => {
                return Err(wrong(
                    404,
                    "There is nothing at this path. Operations are asked for with POST /.",
                ));
            }
        }
        let Some(target) = parts.headers.get(TARGET) else {
            if is_form(&parts.headers) {
                return Ok(Self::Sts);
            }
            return Err(ApiError::unknown_operation());
        };
        let name = target
            .to_str()
            .ok()
            .and_then(|target| target.strip_prefix(TARGET_PREFIX));
        let operation = name.and_then(|name| Model::get().operation(name));
        operation
            .map(Self::Kms)
            .ok_or_else(ApiError::unknown_operation)
    }
}

/// Whether the body is a form, as the Query protocol sends it.
fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
    })
}

fn wrong(status: u16, message: &'static str) -> ApiError {
    ApiError {
        status,
        ..ApiError::client("UnknownOperationException", message)
    }
}

/// The pairs of a form or a query, decoded; bytes that are not UTF-8 become replacement characters.
pub(crate) fn form_pairs(form: &str) -> impl Iterator<Item = (String, String)> {
    form.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

fn decode(text: &str) -> String {
    String::from_utf8_lossy(&decoded(text)).into_owned()
}

/// The bytes that a form's name or value stands for. What is no escape stands for itself.
pub(crate) fn decoded(text: &str) -> Vec<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        match (
            byte,
            ahead.next().and_then(digit),
            ahead.next().and_then(digit),
        ) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                bytes = ahead;
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
    ) -> Result<&'static str, (u16, &'static str)> {
        let mut request = hyper::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match Route::of(&request.body(()).unwrap().into_parts().0) {
            Ok(Route::Kms(operation)) => Ok(operation.name),
            Ok(Route::Sts) => Ok("sts"),
            Ok(Route::Health) => Ok("health"),
            Ok(Route::Reset) => Ok("reset"),
            Err(error) => Err((error.status, error.code)),
        }
    }

    /// Catches a request that lands at the wrong door.
    #[test]
    fn requests_find_their_way() {
        let form = (
            "content-type",
            "application/x-www-form-urlencoded; charset=utf-8",
        );
        let encrypt = ("x-amz-target", "TrentService.Encrypt");
        let unknown = |status| Err((status, "UnknownOperationException"));
        assert_eq!(route("POST", "/", &[encrypt]), Ok("Encrypt"));
        assert_eq!(route("POST", "/", &[encrypt, form]), Ok("Encrypt"));
        assert_eq!(route("POST", "/?x=y", &[encrypt]), Ok("Encrypt"));
        assert_eq!(route("POST", "/", &[form]), Ok("sts"));
        assert_eq!(route("GET", "/?Action=GetCallerIdentity", &[]), Ok("sts"));
        assert_eq!(route("GET", "/_keyrum/health", &[]), Ok("health"));
        assert_eq!(route("POST", "/_keyrum/reset", &[]), Ok("reset"));
        assert_eq!(route("GET", "/_keyrum/reset", &[]), unknown(404));
        assert_eq!(route("POST", "/", &[]), unknown(400));
        for target in [
            "TrentService.encrypt",
            "Encrypt",
            "TrentService.",
            "é",
            "Other.Encrypt",
        ] {
            assert_eq!(
                route("POST", "/", &[("x-amz-target", target)]),
                unknown(400),
                "{target}"
            );
        }
        assert_eq!(route("GET", "/", &[encrypt]), unknown(405));
        assert_eq!(route("POST", "/x", &[encrypt]), unknown(404));
    }

    /// Catches a form whose escapes are not undone, or that makes decoding fail.
    #[test]
    fn forms_are_decoded() {
        let pairs: Vec<_> = form_pairs("a=b%2Fc+d&&e&f=%zz%4&g=%ff=").collect();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            pairs,
            [
                pair("a", "b/c d"),
                pair("e", ""),
                pair("f", "%zz%4"),
                pair("g", "\u{fffd}=")
            ]
        );
    }
}
