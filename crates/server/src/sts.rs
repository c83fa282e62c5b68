//! The actions of STS that clients of KMS need, in STS's own protocol: a form in, XML out.
//! Source: AWS STS API Reference (version 2011-06-15), GetCallerIdentity, AssumeRole, GetSessionToken
//! and "Common errors".

use std::collections::BTreeMap;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use keyrum_service::{AssumeRoleInput, AssumeRoleOutput, StsError, TemporaryCredentials};
use keyrum_types::UnixMillis;

use crate::error::ApiError;
use crate::http::{RequestUid, plain_answer};
use crate::json::ObjectWriter;
use crate::route::form_pairs;
use crate::sigv4::iso_date;

const XML: HeaderValue = HeaderValue::from_static("text/xml");
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// Errors that this service answers with 403 instead of 400.
const FORBIDDEN: [&str; 6] = [
    "AccessDenied",
    "ExpiredToken",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
];

/// Who a caller is, as STS shows it.
pub(crate) struct Identity {
    pub(crate) account: String,
    pub(crate) arn: String,
    pub(crate) user_id: String,
}

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    GetCallerIdentity,
    AssumeRole(AssumeRoleInput),
    GetSessionToken { duration_seconds: Option<i64> },
}

impl Action {
    /// Its name and, for audit records, its parameters as JSON; none if empty.
    pub(crate) fn told(&self) -> (&'static str, Vec<u8>) {
        let mut object = ObjectWriter::new();
        let seconds = |object: &mut ObjectWriter, seconds: Option<i64>| {
            if let Some(seconds) = seconds.and_then(|seconds| u64::try_from(seconds).ok()) {
                object.number("durationSeconds", seconds);
            }
        };
        match self {
            Self::GetCallerIdentity => ("GetCallerIdentity", Vec::new()),
            Self::AssumeRole(input) => {
                object.text_if("roleArn", input.role_arn.as_deref());
                object.text_if("roleSessionName", input.session_name.as_deref());
                seconds(&mut object, input.duration_seconds);
                object.text_if("externalId", input.external_id.as_deref());
                object.text_if("policy", input.policy.as_deref());
                ("AssumeRole", unless_empty(object))
            }
            Self::GetSessionToken { duration_seconds } => {
                seconds(&mut object, *duration_seconds);
                ("GetSessionToken", unless_empty(object))
            }
        }
    }
}

fn unless_empty(object: ObjectWriter) -> Vec<u8> {
    let written = object.finish();
    match written == b"{}" {
        true => Vec::new(),
        false => written,
    }
}

/// What is answered.
pub(crate) enum Answer {
    Identity(Identity),
    Role(AssumeRoleOutput),
    Session(TemporaryCredentials),
}

impl Answer {
    /// For audit records, as JSON; none if empty. Neither the secret nor the token is told.
    pub(crate) fn told(&self) -> Vec<u8> {
        let mut object = ObjectWriter::new();
        let credentials = |object: &mut ObjectWriter, credentials: &TemporaryCredentials| {
            object.object("credentials", |object| {
                object.text("accessKeyId", &credentials.access_key);
                object.text("expiration", &iso_date(credentials.expires.0 / 1000));
            });
        };
        match self {
            Self::Identity(_) => return Vec::new(),
            Self::Role(role) => {
                credentials(&mut object, &role.credentials);
                object.object("assumedRoleUser", |object| {
                    object.text("assumedRoleId", &role.assumed_role_id);
                    object.text("arn", &role.arn);
                });
            }
            Self::Session(session) => credentials(&mut object, session),
        }
        object.finish()
    }
}

/// Reads what a request asks for, from its body or, for signed URLs, its query.
pub(crate) fn parse(parts: &Parts, body: &[u8]) -> Result<Action, ApiError> {
    let form = if body.is_empty() {
        parts.uri.query().unwrap_or_default().as_bytes()
    } else {
        body
    };
    let form = String::from_utf8_lossy(form);
    let form: BTreeMap<String, String> = form_pairs(&form).collect();
    let member = |name: &str| form.get(name).map_or("", String::as_str);
    match (member("Action"), member("Version")) {
        ("GetCallerIdentity", "" | "2011-06-15") => Ok(Action::GetCallerIdentity),
        ("AssumeRole", "" | "2011-06-15") => assume_role(&form).map(Action::AssumeRole),
        ("GetSessionToken", "" | "2011-06-15") => {
            no_second_factor(&form)?;
            let duration_seconds = duration(&form)?;
            Ok(Action::GetSessionToken { duration_seconds })
        }
        ("", _) => Err(ApiError::client(
            "MissingAction",
            "The request must name an Action.",
        )),
        (action, version) => Err(ApiError::client(
            "InvalidAction",
            format!("Could not find operation {action} for version {version}"),
        )),
    }
}

type Form = BTreeMap<String, String>;

fn assume_role(form: &Form) -> Result<AssumeRoleInput, ApiError> {
    no_second_factor(form)?;
    // What would be left out silently, and changes what the session may or is, is refused.
    for (member, what) in [
        (
            "PolicyArns.",
            "PolicyArns is not supported, since there are no managed policies here: send the \
             policy itself in Policy.",
        ),
        ("TransitiveTagKeys.", "TransitiveTagKeys is not supported."),
        ("ProvidedContexts.", "ProvidedContexts is not supported."),
        ("SourceIdentity", "SourceIdentity is not supported."),
    ] {
        if form.keys().any(|name| name.starts_with(member)) {
            return Err(ApiError::validation(what));
        }
    }
    let text = |name: &str| form.get(name).cloned();
    Ok(AssumeRoleInput {
        role_arn: text("RoleArn"),
        session_name: text("RoleSessionName"),
        duration_seconds: duration(form)?,
        policy: text("Policy"),
        tags: tags(form)?,
        external_id: text("ExternalId"),
    })
}

/// Deviation: nobody has a second factor here, so whoever shows one is refused as if it were wrong.
fn no_second_factor(form: &Form) -> Result<(), ApiError> {
    match form.contains_key("SerialNumber") || form.contains_key("TokenCode") {
        false => Ok(()),
        true => Err(ApiError::client(
            "AccessDenied",
            "MultiFactorAuthentication failed with invalid MFA one time pass code.",
        )),
    }
}

fn duration(form: &Form) -> Result<Option<i64>, ApiError> {
    let Some(text) = form.get("DurationSeconds") else {
        return Ok(None);
    };
    let number = text.parse().map(Some);
    number.map_err(|_| ApiError::client("MalformedInput", "DurationSeconds must be a number."))
}

/// `Tags.member.N.Key` and `.Value`, in the order of N.
fn tags(form: &Form) -> Result<Vec<(String, String)>, ApiError> {
    let mut tags: BTreeMap<u32, (Option<String>, String)> = BTreeMap::new();
    for (name, value) in form {
        let Some(rest) = name.strip_prefix("Tags.member.") else {
            continue;
        };
        let part = rest.split_once('.');
        let number = part.and_then(|(number, part)| Some((number.parse().ok()?, part)));
        match number {
            Some((number, "Key")) => tags.entry(number).or_default().0 = Some(value.clone()),
            Some((number, "Value")) => tags.entry(number).or_default().1.clone_from(value),
            _ => {
                let text = format!("{name} is no member of Tags.");
                return Err(ApiError::client("MalformedInput", text));
            }
        }
    }
    let tag = |(key, value): (Option<String>, String)| Some((key?, value));
    let tags: Option<_> = tags.into_values().map(tag).collect();
    tags.ok_or_else(|| ApiError::validation("A tag has no Key."))
}

/// The body's result, without what all answers have around it.
pub(crate) fn answer(answer: &Answer, id: RequestUid) -> Response<Full<Bytes>> {
    let (action, result) = match answer {
        Answer::Identity(identity) => {
            let [arn, user_id, account] =
                [&identity.arn, &identity.user_id, &identity.account].map(|text| escape(text));
            let result = format!(
                "    <Arn>{arn}</Arn>\n    <UserId>{user_id}</UserId>\n    \
                 <Account>{account}</Account>\n"
            );
            ("GetCallerIdentity", result)
        }
        Answer::Role(role) => {
            let [arn, assumed] = [&role.arn, &role.assumed_role_id].map(|text| escape(text));
            let mut result = format!(
                "    <AssumedRoleUser>\n      <AssumedRoleId>{assumed}</AssumedRoleId>\n      \
                 <Arn>{arn}</Arn>\n    </AssumedRoleUser>\n{}",
                credentials(&role.credentials)
            );
            if let Some(percent) = role.packed_policy_percent {
                result += &format!("    <PackedPolicySize>{percent}</PackedPolicySize>\n");
            }
            ("AssumeRole", result)
        }
        Answer::Session(session) => ("GetSessionToken", credentials(session)),
    };
    let body = format!(
        "<{action}Response xmlns=\"{NAMESPACE}\">\n  <{action}Result>\n{result}  \
         </{action}Result>\n  <ResponseMetadata>\n    <RequestId>{id}</RequestId>\n  \
         </ResponseMetadata>\n</{action}Response>\n"
    );
    plain_answer(200, XML, body.into_bytes())
}

fn credentials(credentials: &TemporaryCredentials) -> String {
    let TemporaryCredentials {
        access_key,
        secret,
        token,
        expires: UnixMillis(expires),
    } = credentials;
    let (secret, token) = (escape(secret), escape(token));
    let expires = iso_date(expires / 1000);
    format!(
        "    <Credentials>\n      <AccessKeyId>{access_key}</AccessKeyId>\n      \
         <SecretAccessKey>{secret}</SecretAccessKey>\n      <SessionToken>{token}</SessionToken>\n      \
         <Expiration>{expires}</Expiration>\n    </Credentials>\n"
    )
}

/// The API's error for one of the service's.
pub(crate) fn refused(
    error: StsError,
    other: impl FnOnce(keyrum_service::ServiceError) -> ApiError,
) -> ApiError {
    let text = error.to_string();
    match error {
        StsError::AccessDenied(_) => ApiError::client("AccessDenied", text),
        StsError::Validation(_) => ApiError::validation(text),
        StsError::MalformedPolicy(_) => ApiError::client("MalformedPolicyDocument", text),
        StsError::TooLarge(_) => ApiError::client("PackedPolicyTooLarge", text),
        StsError::NoSessionKey => ApiError::fault("InternalFailure", text),
        StsError::Service(error) => other(error),
    }
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
    let message = escape(&error.message);
    let body = format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\">\n  <Error>\n    <Type>{fault}</Type>\n    \
         <Code>{code}</Code>\n    <Message>{message}</Message>\n  </Error>\n  \
         <RequestId>{id}</RequestId>\n</ErrorResponse>\n"
    );
    let status = match error.status {
        400 if FORBIDDEN.contains(&code) => 403,
        status => status,
    };
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

    fn parsed(uri: &str, body: &str) -> Result<Action, ApiError> {
        let parts = hyper::Request::builder()
            .uri(uri)
            .body(())
            .unwrap()
            .into_parts()
            .0;
        parse(&parts, body.as_bytes())
    }

    fn checked(uri: &str, body: &str) -> Result<(), &'static str> {
        let action = parsed(uri, body).map_err(|error| error.code)?;
        assert_eq!(action, Action::GetCallerIdentity);
        Ok(())
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
            checked("/", "Action=AssumeRoleWithSAML&Version=2011-06-15"),
            Err("InvalidAction")
        );
        assert_eq!(
            checked("/", "Action=GetCallerIdentity&Version=2000-01-01"),
            Err("InvalidAction")
        );
        assert_eq!(checked("/", "\u{0}"), Err("MissingAction"));
    }

    /// Catches a parameter of AssumeRole that is lost, read from the wrong place, or left out although
    /// the session would be another one with it.
    #[test]
    fn roles_are_assumed_as_asked() {
        let form = "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws&RoleSessionName=s\
                    &DurationSeconds=900&Policy=%7B%7D&ExternalId=x&Tags.member.2.Key=b\
                    &Tags.member.2.Value=2&Tags.member.10.Key=c&Tags.member.1.Value=1\
                    &Tags.member.1.Key=a";
        let tags = [("a", "1"), ("b", "2"), ("c", "")];
        let expected = AssumeRoleInput {
            role_arn: Some("arn:aws".to_owned()),
            session_name: Some("s".to_owned()),
            duration_seconds: Some(900),
            policy: Some("{}".to_owned()),
            tags: tags
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            external_id: Some("x".to_owned()),
        };
        assert_eq!(parsed("/", form), Ok(Action::AssumeRole(expected)));
        for (more, code) in [
            ("PolicyArns.member.1.arn=x", "ValidationException"),
            ("TransitiveTagKeys.member.1=a", "ValidationException"),
            ("SourceIdentity=x", "ValidationException"),
            (
                "ProvidedContexts.member.1.ContextAssertion=x",
                "ValidationException",
            ),
            ("SerialNumber=x", "AccessDenied"),
            ("TokenCode=123456", "AccessDenied"),
            ("Tags.member.x.Key=a", "MalformedInput"),
            ("Tags.member.4.Value=a", "ValidationException"),
            ("DurationSeconds=soon", "MalformedInput"),
        ] {
            let refused = parsed("/", &format!("{form}&{more}")).unwrap_err();
            assert_eq!(refused.code, code, "{more}");
        }
        let session = parsed("/", "Action=GetSessionToken&DurationSeconds=900");
        let duration_seconds = Some(900);
        assert_eq!(session, Ok(Action::GetSessionToken { duration_seconds }));
        assert!(parsed("/", "Action=GetSessionToken&TokenCode=1").is_err());
    }

    /// Catches an answer that SDKs of the real service would not understand.
    #[test]
    fn answers_look_like_the_real_ones() {
        let role = Answer::Role(AssumeRoleOutput {
            credentials: TemporaryCredentials {
                access_key: "ASIAEXAMPLE".to_owned(),
                secret: zeroize::Zeroizing::new("a/b+c".to_owned()),
                token: "token==".to_owned(),
                expires: UnixMillis(1_700_003_600_999),
            },
            arn: "arn:aws:sts::111122223333:assumed-role/r/s".to_owned(),
            assumed_role_id: "AROAEXAMPLE:s".to_owned(),
            packed_policy_percent: Some(6),
        });
        let id = RequestUid::from_bytes([1; 16]);
        let (parts, body) = answer(&role, id).into_parts();
        let mut body = body;
        let text =
            futures_util::FutureExt::now_or_never(http_body_util::BodyExt::collect(&mut body));
        let text = text.unwrap().unwrap().to_bytes();
        assert_eq!(parts.status, 200);
        let expected = format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  \
             <AssumeRoleResult>\n    <AssumedRoleUser>\n      \
             <AssumedRoleId>AROAEXAMPLE:s</AssumedRoleId>\n      \
             <Arn>arn:aws:sts::111122223333:assumed-role/r/s</Arn>\n    </AssumedRoleUser>\n    \
             <Credentials>\n      <AccessKeyId>ASIAEXAMPLE</AccessKeyId>\n      \
             <SecretAccessKey>a/b+c</SecretAccessKey>\n      \
             <SessionToken>token==</SessionToken>\n      \
             <Expiration>2023-11-14T23:13:20Z</Expiration>\n    </Credentials>\n    \
             <PackedPolicySize>6</PackedPolicySize>\n  </AssumeRoleResult>\n  \
             <ResponseMetadata>\n    <RequestId>{id}</RequestId>\n  </ResponseMetadata>\n\
             </AssumeRoleResponse>\n"
        );
        assert_eq!(String::from_utf8(text.to_vec()).unwrap(), expected);
        let denied = ApiError::client("AccessDenied", "no");
        assert_eq!(error(&denied, id).status(), 403);
        let unknown = ApiError::client("UnrecognizedClientException", "");
        assert_eq!(error(&unknown, id).status(), 403);
        assert_eq!(error(&ApiError::validation("x"), id).status(), 400);
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
            ("IncompleteSignatureException", "IncompleteSignature", 403),
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
