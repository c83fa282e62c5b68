//! Errors as the API shows them.

use std::borrow::Cow;

use crate::json::ObjectWriter;

/// What a client is told instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status: 400 for everything the client may change, 5xx for what it may not.
    pub status: u16,
    /// The error's name, such as `NotFoundException`.
    pub code: &'static str,
    /// For people; the answer has no `message` member when it is empty.
    pub message: Cow<'static, str>,
    /// Whether the request may have taken effect nevertheless. Shown by the header
    /// `x-keyrum-outcome: unknown`.
    pub outcome_unknown: bool,
}

impl ApiError {
    /// An error of the client's making.
    pub fn client(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: 400,
            code,
            message: message.into(),
            outcome_unknown: false,
        }
    }

    /// An error the client cannot help.
    pub fn fault(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: 500,
            code,
            message: message.into(),
            outcome_unknown: false,
        }
    }

    /// A value that breaks a rule of its member or operation.
    pub fn validation(message: impl Into<Cow<'static, str>>) -> Self {
        Self::client("ValidationException", message)
    }

    /// A body that is not what the operation's JSON looks like.
    pub fn serialization(message: impl Into<Cow<'static, str>>) -> Self {
        Self::client("SerializationException", message)
    }

    /// The target header is missing or names nothing.
    pub fn unknown_operation() -> Self {
        Self::client("UnknownOperationException", "")
    }

    /// An operation of the API that Keyrum lacks. Deviation: the real service has all of them.
    pub fn not_yet(operation: &str) -> Self {
        Self::client(
            "UnsupportedOperationException",
            format!("Keyrum does not have the operation {operation} yet."),
        )
    }

    /// Nobody who could answer was reached in time, and nothing was changed.
    pub fn dependency_timeout(message: impl Into<Cow<'static, str>>) -> Self {
        Self::fault("DependencyTimeoutException", message)
    }

    /// The request was passed on and no answer came: it may still take effect.
    pub fn outcome_unknown(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            outcome_unknown: true,
            ..Self::fault("KMSInternalException", message)
        }
    }

    /// The body of the answer.
    pub fn body(&self) -> Vec<u8> {
        let mut body = ObjectWriter::with_capacity(64 + self.message.len());
        body.text("__type", self.code);
        if !self.message.is_empty() {
            body.text("message", &self.message);
        }
        body.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches an error body that a client of the real service would read differently.
    #[test]
    fn bodies_are_compact_and_bare() {
        let body = |error: ApiError| String::from_utf8(error.body()).unwrap();
        assert_eq!(
            body(ApiError::client("NotFoundException", "Invalid keyId 'x'")),
            r#"{"__type":"NotFoundException","message":"Invalid keyId 'x'"}"#
        );
        assert_eq!(
            body(ApiError::client("InvalidCiphertextException", "")),
            r#"{"__type":"InvalidCiphertextException"}"#
        );
    }
}
