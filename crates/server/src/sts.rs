//! The one action of STS that clients of KMS need, in STS's own protocol: a form in, XML out.
//! Source: AWS STS API Reference, GetCallerIdentity (version 2011-06-15).

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use hyper::http::request::Parts;

use crate::error::ApiError;
use crate::http::{RequestUid, plain_answer};
use crate::route::form_pairs;

const XML: HeaderValue = HeaderValue::from_static("text/xml");
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// Who a caller is, as STS shows it.
pub(crate) struct Identity {
    pub(crate) account: String,
    pub(crate) arn: String,
    pub(crate) user_id: String,
}

/// Checks that a request asks for GetCallerIdentity, in its body or, for signed URLs, its query.
pub(crate) fn check(parts: &Parts, body: &[u8]) -> Result<(), ApiError> {
    let form = if body.is_empty() {
        parts.uri.query().unwrap_or_default().as_bytes()
    } else {
        body
    };
    let form = String::from_utf8_lossy(form);
    let (mut action, mut version) = (String::new(), String::new());
    for (name, value) in form_pairs(&form) {
        match name.as_str() {
            "Action" => action = value,
            "Version" => version = value,
            _ => {}
        }
    }
    match (action.as_str(), version.as_str()) {
        ("GetCallerIdentity", "" | "2011-06-15") => Ok(()),
        ("", _) => Err(ApiError::client(
            "MissingAction",
            "The request must name an Action.",
        )),
        _ => Err(ApiError::client(
            "InvalidAction",
            format!("Could not find operation {action} for version {version}"),
        )),
    }
}

/// The answer to GetCallerIdentity.
pub(crate) fn answer(identity: &Identity, id: RequestUid) -> Response<Full<Bytes>> {
    let [arn, user_id, account] =
        [&identity.arn, &identity.user_id, &identity.account].map(|t| escape(t));
    let body = format!(
        "<GetCallerIdentityResponse xmlns=\"{NAMESPACE}\">\n  <GetCallerIdentityResult>\n    \
         <Arn>{arn}</Arn>\n    <UserId>{user_id}</UserId>\n    <Account>{account}</Account>\n  \
         </GetCallerIdentityResult>\n  <ResponseMetadata>\n    <RequestId>{id}</RequestId>\n  \
         </ResponseMetadata>\n</GetCallerIdentityResponse>\n"
    );
    plain_answer(200, XML, body.into_bytes())
}

/// An error in STS's form.
pub(crate) fn error(error: &ApiError, id: RequestUid) -> Response<Full<Bytes>> {
    let fault = if error.status < 500 {
        "Sender"
    } else {
        "Receiver"
    };
    // Errors that both services have are named in other ways here.
    let code = match error.code {
        "InvalidSignatureException" => "SignatureDoesNotMatch",
        "ValidationException" => "ValidationError",
        "UnrecognizedClientException" => "InvalidClientTokenId",
        code => code.strip_suffix("Exception").unwrap_or(code),
    };
    // Source: AWS STS API Reference, "Common Error Types".
    let status = match code {
        "SignatureDoesNotMatch"
        | "InvalidClientTokenId"
        | "ExpiredToken"
        | "MissingAuthenticationToken" => 403,
        _ => error.status,
    };
    let message = escape(&error.message);
    let body = format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\">\n  <Error>\n    <Type>{fault}</Type>\n    \
         <Code>{code}</Code>\n    <Message>{message}</Message>\n  </Error>\n  \
         <RequestId>{id}</RequestId>\n</ErrorResponse>\n"
    );
    plain_answer(status, XML, body.into_bytes())
}

/// Text as XML may hold it: five characters escaped, those XML lacks replaced.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\t' | '\n' | '\r' => out.push(c),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(uri: &str, body: &str) -> Result<(), &'static str> {
        let parts = hyper::Request::builder()
            .uri(uri)
            .body(())
            .unwrap()
            .into_parts()
            .0;
        check(&parts, body.as_bytes()).map_err(|error| error.code)
    }

    /// Catches an action of STS that is answered as if it were GetCallerIdentity.
    #[test]
    fn only_one_action_is_known() {
        assert_eq!(
            checked("/", "Action=GetCallerIdentity&Version=2011-06-15"),
            Ok(())
        );
        assert_eq!(
            checked(
                "/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Date=1",
                ""
            ),
            Ok(())
        );
        assert_eq!(
            checked("/", "Action=AssumeRole&Version=2011-06-15"),
            Err("InvalidAction")
        );
        assert_eq!(
            checked("/", "Action=GetCallerIdentity&Version=2000-01-01"),
            Err("InvalidAction")
        );
        assert_eq!(checked("/", "\u{0}"), Err("MissingAction"));
    }

    /// Catches an error that clients of STS, which know other names than those of KMS, do not
    /// recognise.
    #[test]
    fn errors_have_the_names_of_sts() {
        for (code, name, status) in [
            ("InvalidSignatureException", "SignatureDoesNotMatch", 403),
            ("UnrecognizedClientException", "InvalidClientTokenId", 403),
            ("ExpiredTokenException", "ExpiredToken", 403),
            (
                "MissingAuthenticationTokenException",
                "MissingAuthenticationToken",
                403,
            ),
            ("IncompleteSignatureException", "IncompleteSignature", 400),
            ("ValidationException", "ValidationError", 400),
        ] {
            let answer = error(&ApiError::client(code, ""), RequestUid::from_bytes([0; 16]));
            assert_eq!(answer.status(), status, "{code}");
            let body = format!("{:?}", answer.into_body());
            assert!(body.contains(&format!("<Code>{name}</Code>")), "{body}");
        }
    }

    /// Catches a caller's text that breaks out of the XML.
    #[test]
    fn text_is_escaped() {
        assert_eq!(
            escape("a<b>&\"'\u{1}\u{e9}"),
            "a&lt;b&gt;&amp;&quot;&apos;?\u{e9}"
        );
    }
}
