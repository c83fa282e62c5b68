//! The API as JSON over HTTP, so that a test can send and see what no SDK lets it, and a record of
//! what was seen.

use std::sync::{Arc, Mutex};

use keyrum_tests::http::Raw;
use keyrum_tests::wait;
use serde_json::Value;

use crate::seen::Seen;

/// A caller of one account in one Region.
#[derive(Clone)]
pub(crate) struct Kms {
    pub(crate) endpoint: String,
    pub(crate) account: String,
    pub(crate) region: &'static str,
    /// How its reads are made, if not as usual.
    pub(crate) reads: Option<&'static str>,
    /// Which AWS service it is said to come through, if any.
    pub(crate) via: Option<&'static str>,
    /// What all callers made from this one have seen.
    pub(crate) seen: Arc<Mutex<Seen>>,
}

/// What the service said no with. The message is empty when there was none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: String,
    pub(crate) message: String,
}

impl Refused {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        let (code, message) = (code.to_owned(), message.into());
        Self { code, message }
    }
}

/// An answer's body; null for none.
pub(crate) type Answer = Result<Value, Refused>;

impl Kms {
    pub(crate) fn at(endpoint: &str, account: &str, region: &'static str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            account: account.to_owned(),
            region,
            reads: None,
            via: None,
            seen: Arc::default(),
        }
    }

    /// The same caller in another Region.
    pub(crate) fn in_region(&self, region: &'static str) -> Self {
        Self {
            region,
            ..self.clone()
        }
    }

    /// Another account's caller, in the same place.
    pub(crate) fn of_account(&self, account: &str) -> Self {
        Self {
            account: account.to_owned(),
            ..self.clone()
        }
    }

    /// The ARN of something of this account in this Region.
    pub(crate) fn arn(&self, resource: &str) -> String {
        let partition = match self.region.starts_with("cn-") {
            true => "aws-cn",
            false => "aws",
        };
        format!(
            "arn:{partition}:kms:{}:{}:{resource}",
            self.region, self.account
        )
    }

    /// Asks once.
    pub(crate) async fn ask_once(&self, operation: &str, body: &Value) -> Answer {
        let mut request = Raw::kms(operation, body.to_string()).signed(&self.account, self.region);
        if let Some(reads) = self.reads {
            request = request.header("x-keyrum-consistency", reads);
        }
        if let Some(service) = self.via {
            request = request.header("x-keyrum-via-service", service);
        }
        let answer = request.send(&self.endpoint).await.expect("an answer");
        let text = match answer.body.is_empty() {
            true => Value::Null,
            false => answer.json(),
        };
        let answer = match answer.status.is_success() {
            true => Ok(text),
            false => {
                let text = |name: &str| text[name].as_str().unwrap_or_default();
                Err(Refused::new(text("__type"), text("message")))
            }
        };
        let mut seen = self.seen.lock().expect("no test panics while it holds it");
        seen.answered(operation, &answer);
        drop(seen);
        answer
    }

    /// Asks until the answer is not that an RSA key could not be found in time.
    pub(crate) async fn ask(&self, operation: &str, body: &Value) -> Answer {
        wait::until(operation, wait::LONG, async || {
            match self.ask_once(operation, body).await {
                Err(refused) if refused.message.starts_with("The key pair could not be") => None,
                answer => Some(answer),
            }
        })
        .await
    }

    /// Asks for what must succeed.
    #[track_caller]
    pub(crate) fn ok<'a>(
        &'a self,
        operation: &'a str,
        body: Value,
    ) -> impl Future<Output = Value> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let answer = self.ask(operation, &body).await;
            answer.unwrap_or_else(|refused| panic!("{caller}: {operation} {body}: {refused:?}"))
        }
    }

    /// Asks for what must be refused with this code.
    #[track_caller]
    pub(crate) fn no<'a>(
        &'a self,
        operation: &'a str,
        body: Value,
        code: &'a str,
    ) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            match self.ask(operation, &body).await {
                Err(refused) if refused.code == code => {}
                other => panic!("{caller}: {operation} {body}: {other:?}, not {code}"),
            }
        }
    }
}
