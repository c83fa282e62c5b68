//! The endpoint that a program under test calls: it passes requests on to the cluster's nodes and
//! notes every call.

use std::sync::{Mutex, PoisonError};

use http_body_util::{BodyExt as _, Full};
use hyper::Response;
use hyper::body::Bytes;
use hyper::http::request::Parts;
use keyrum_lab::workload::api::outcome_of;
use keyrum_lab::workload::recorder::{Asked, Recorder};
use keyrum_server::Proxy;
use keyrum_server::http::{Handler, Incoming};
use serde_json::Value;

/// Passes on and notes.
pub(super) struct Noting {
    proxy: Proxy,
    recorder: Recorder,
    lanes: Mutex<Vec<Lane>>,
    /// The Region of unsigned calls.
    first: String,
}

/// A program may call many times at once; a client of the history calls once at a time. So each call
/// is that of the first client that is idle.
struct Lane {
    client: usize,
    busy: bool,
}

impl Noting {
    pub(super) fn new(proxy: Proxy, recorder: Recorder, first: String) -> Self {
        Self {
            proxy,
            recorder,
            lanes: Mutex::default(),
            first,
        }
    }

    fn lanes(&self) -> std::sync::MutexGuard<'_, Vec<Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a lane's place and its client.
    fn take_lane(&self) -> (usize, usize) {
        let mut lanes = self.lanes();
        let free = lanes.iter().position(|lane| !lane.busy);
        let place = free.unwrap_or_else(|| {
            let client = self
                .recorder
                .client(&format!("program-{}", lanes.len() + 1));
            lanes.push(Lane {
                client,
                busy: false,
            });
            lanes.len() - 1
        });
        lanes[place].busy = true;
        (place, lanes[place].client)
    }
}

/// The operation that a request asks for; `None` if it is no call of the KMS API.
fn operation(parts: &Parts) -> Option<String> {
    let target = parts.headers.get("x-amz-target")?.to_str().ok()?;
    Some(target.strip_prefix("TrentService.")?.to_owned())
}

/// Access key id and Region of a request's credentials.
fn credentials(parts: &Parts) -> Option<(&str, &str)> {
    let text = parts.headers.get("authorization")?.to_str().ok()?;
    let (_, scope) = text.split_once("Credential=")?;
    let mut scope = scope.split(['/', ',']);
    let (key, region) = (scope.next()?, scope.nth(1)?);
    Some((key, region))
}

/// The account that an access key id chooses, if it chooses one: the experiment's cluster takes any
/// credentials, and those of 12 digits are an account.
fn account(key: &str) -> Option<&str> {
    let digits = key.len() == 12 && key.bytes().all(|byte| byte.is_ascii_digit());
    digits.then_some(key)
}

impl Handler for Noting {
    async fn handle(&self, request: Incoming) -> Response<Full<Bytes>> {
        let Some(operation) = operation(&request.parts) else {
            return self.proxy.handle(request).await;
        };
        let (lane, client) = self.take_lane();
        let number = {
            let (caller, region) = match credentials(&request.parts) {
                Some((key, region)) => (account(key), region),
                None => (None, self.first.as_str()),
            };
            let reads = request.parts.headers.get("x-keyrum-consistency");
            let reads = reads.and_then(|mode| Some(mode.to_str().ok()?.to_owned().into()));
            let input = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
            self.recorder.begins(Asked {
                client,
                region,
                node: None,
                operation: &operation,
                caller,
                reads,
                input: &input,
            })
        };
        let answer = self.proxy.handle(request).await;
        let (parts, body) = answer.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(never) => match never {},
        };
        let unknown = parts
            .headers
            .get("x-keyrum-outcome")
            .is_some_and(|outcome| outcome == "unknown");
        let value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let outcome = outcome_of(parts.status.as_u16(), unknown, value);
        self.recorder.ended(number, &outcome);
        self.lanes()[lane].busy = false;
        Response::from_parts(parts, Full::new(body))
    }
}
