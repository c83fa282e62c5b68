//! A client of the KMS API over real HTTP, on any network.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use keyrum_consensus::world::{Network, spawn};
use keyrum_types::NodeId;
use serde_json::Value;
use tokio::time::timeout;

use super::recorder::{Asked, Recorder};
use crate::experiment::Outcome;

/// How long a client tries to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a client waits for an answer: a node answers within 5 s, whatever happens.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(7);

/// What signatures that nobody checks say.
const DAY: &str = "20270115";
const UNCHECKED: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A node: in which Region, counted from 0, and which one there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The Region's number.
    pub region: usize,
    /// The node's id.
    pub node: NodeId,
}

/// How a call reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// As a call after it has ended could.
    Linearizable,
    /// By the leader's lease. Simulated clocks run evenly, so these must be as fresh.
    Lease,
    /// What the node has.
    Local,
    /// What the node had a while ago.
    Eventual,
}

impl Reads {
    /// The value of the header `x-keyrum-consistency`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linearizable => "linearizable",
            Self::Lease => "lease",
            Self::Local => "local",
            Self::Eventual => "eventual",
        }
    }
}

/// Where the nodes of the Regions take calls.
#[derive(Debug, Default)]
pub struct Directory {
    /// The Regions' names, by number.
    pub regions: Vec<String>,
    /// `HOST:PORT`.
    pub nodes: BTreeMap<Place, String>,
}

/// A client with one connection at a time.
pub struct Api {
    network: Arc<dyn Network>,
    directory: Rc<Directory>,
    recorder: Recorder,
    client: usize,
    /// The account it calls as, if not the one that unsigned callers have.
    account: Option<&'static str>,
    connection: Option<(Place, SendRequest<Full<Bytes>>)>,
}

impl Api {
    /// A client that calls the nodes of a directory; the recorder notes its calls as those of
    /// `client`, a number that [`Recorder::client`] gave.
    pub fn new(
        network: Arc<dyn Network>,
        directory: Rc<Directory>,
        recorder: Recorder,
        client: usize,
    ) -> Self {
        Self {
            network,
            directory,
            recorder,
            client,
            account: None,
            connection: None,
        }
    }

    /// Calls as the root of an account from now on, which nodes believe that accept any credentials.
    pub(crate) fn call_as(&mut self, account: &'static str) {
        self.account = Some(account);
    }

    /// A Region's name.
    pub(crate) fn region_name(&self, region: usize) -> &str {
        &self.directory.regions[region]
    }

    /// Makes one call to one node, which reads in a certain way.
    pub async fn call(
        &mut self,
        place: Place,
        operation: &str,
        input: &Value,
        reads: Reads,
    ) -> Outcome {
        let number = self.recorder.begins(Asked {
            client: self.client,
            region: &self.directory.regions[place.region],
            node: Some(place.node),
            operation,
            caller: self.account,
            reads: Some(reads.name().into()),
            input,
        });
        let outcome = self.attempt(place, operation, input, reads).await;
        self.recorder.ended(number, &outcome);
        outcome
    }

    async fn attempt(
        &mut self,
        place: Place,
        operation: &str,
        input: &Value,
        reads: Reads,
    ) -> Outcome {
        let kept = self
            .connection
            .take()
            .filter(|(to, sender)| *to == place && !sender.is_closed());
        let Some(addr) = self.directory.nodes.get(&place) else {
            return Outcome::NotDone("there is no such node".to_owned());
        };
        let mut sender = match kept {
            Some((_, sender)) => sender,
            None => match timeout(CONNECT_TIMEOUT, connect(&*self.network, addr)).await {
                Ok(Ok(sender)) => sender,
                Ok(Err(error)) => return Outcome::NotDone(format!("cannot connect: {error}")),
                Err(_) => return Outcome::NotDone("cannot connect in time".to_owned()),
            },
        };
        let host = addr.split(':').next().unwrap_or(addr);
        let mut request = Request::post("/");
        if let Some(account) = self.account {
            let region = self.region_name(place.region);
            let scope = format!("{account}/{DAY}/{region}/kms/aws4_request");
            let credentials = format!(
                "AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature={UNCHECKED}"
            );
            request = request.header("authorization", credentials);
        }
        let request = request
            .header("host", host)
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("TrentService.{operation}"))
            .header("x-keyrum-consistency", reads.name())
            .body(Full::new(Bytes::from(input.to_string())))
            .expect("every part is plain ASCII");
        match timeout(ANSWER_TIMEOUT, exchange(&mut sender, request)).await {
            Ok(Ok(outcome)) => {
                self.connection = Some((place, sender));
                outcome
            }
            Ok(Err(error)) => Outcome::Unknown(error),
            Err(_) => Outcome::Unknown("no answer in time".to_owned()),
        }
    }
}

async fn connect(network: &dyn Network, addr: &str) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = network
        .connect(addr)
        .await
        .map_err(|error| error.to_string())?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    // How the connection ended shows in the call that was under way.
    spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Outcome, String> {
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
    Ok(outcome_of(status, unknown, body))
}

/// What an answer says of its call. `unknown`: it has the header `x-keyrum-outcome: unknown`.
pub fn outcome_of(status: u16, unknown: bool, body: Value) -> Outcome {
    let member = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    match status {
        200 => Outcome::Done(body),
        400..500 => Outcome::Refused {
            error: member("__type"),
            message: member("message"),
        },
        _ if unknown => Outcome::Unknown(member("__type")),
        _ => Outcome::NotDone(format!("{}: {}", member("__type"), member("message"))),
    }
}
