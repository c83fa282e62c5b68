//! A client of the KMS API over real HTTP on the simulated network.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use keyrum_consensus::world::{Network, spawn};
use serde_json::Value;
use tokio::time::timeout;

use super::API_PORT;
use super::place::Place;

/// How long a client tries to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a client waits for an answer: a node answers within 5 s, whatever happens.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(7);

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    /// It was done; the answer.
    Done(Value),
    /// The API refuses it, with this error and message.
    Refused(String, String),
    /// It was not done and will not be: nobody was reached who could do it.
    NotDone(String),
    /// It may have been done, or be done later.
    Unknown(String),
}

/// How a call reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    Linearizable,
    /// By the leader's lease. Simulated clocks run evenly, so these must be as fresh.
    Lease,
    /// What the node has.
    Local,
}

impl Reads {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Linearizable => "linearizable",
            Self::Lease => "lease",
            Self::Local => "local",
        }
    }
}

/// A client with one connection at a time.
pub(crate) struct Api {
    network: Arc<dyn Network>,
    connection: Option<(Place, SendRequest<Full<Bytes>>)>,
}

impl Api {
    pub(crate) fn new(network: Arc<dyn Network>) -> Self {
        Self {
            network,
            connection: None,
        }
    }

    /// Makes one call to one node, which reads in a certain way.
    pub(crate) async fn call(
        &mut self,
        node: Place,
        operation: &str,
        input: &Value,
        reads: Reads,
    ) -> Reply {
        let kept = self
            .connection
            .take()
            .filter(|(to, sender)| *to == node && !sender.is_closed());
        let mut sender = match kept {
            Some((_, sender)) => sender,
            None => match timeout(CONNECT_TIMEOUT, self.connect(node)).await {
                Ok(Ok(sender)) => sender,
                Ok(Err(error)) => return Reply::NotDone(format!("cannot connect: {error}")),
                Err(_) => return Reply::NotDone("cannot connect in time".to_owned()),
            },
        };
        let request = Request::post("/")
            .header("host", node.host())
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("TrentService.{operation}"))
            .header("x-keyrum-consistency", reads.name())
            .body(Full::new(Bytes::from(input.to_string())))
            .expect("every part is plain ASCII");
        match timeout(ANSWER_TIMEOUT, exchange(&mut sender, request)).await {
            Ok(Ok(reply)) => {
                self.connection = Some((node, sender));
                reply
            }
            Ok(Err(error)) => Reply::Unknown(error),
            Err(_) => Reply::Unknown("no answer in time".to_owned()),
        }
    }

    async fn connect(&self, node: Place) -> Result<SendRequest<Full<Bytes>>, String> {
        let addr = format!("{}:{API_PORT}", node.host());
        let stream = self
            .network
            .connect(&addr)
            .await
            .map_err(|error| error.to_string())?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        // How the connection ended shows in the call that was under way.
        spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Reply, String> {
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let unknown = response
        .headers()
        .get("x-keyrum-outcome")
        .is_some_and(|value| value == "unknown");
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|error| error.to_string())?;
    let body = body.to_bytes();
    let body: Value = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&body).map_err(|error| error.to_string())?
    };
    let member = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    Ok(match status {
        200 => Reply::Done(body),
        400..500 => Reply::Refused(member("__type"), member("message")),
        _ if unknown => Reply::Unknown(member("__type")),
        _ => Reply::NotDone(format!("{}: {}", member("__type"), member("message"))),
    })
}
