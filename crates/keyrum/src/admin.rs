//! A client of the nodes' admin listeners.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use keyrum_consensus::faults::{InForce, Order};
use keyrum_consensus::world::{self, World};
use keyrum_consensus::{NodeStatus, Role, TlsStatus};
use keyrum_types::{LogIndex, NodeId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::run;

/// How long an answer may take that depends on nobody else.
const QUICK: Duration = Duration::from_secs(2);

/// How long an answer may take that needs the whole group; longer than its own limits.
const SLOW: Duration = Duration::from_secs(90);

/// One node's admin listener.
pub(crate) struct Admin {
    world: World,
    addr: SocketAddr,
    token_file: PathBuf,
}

/// Why a node's admin listener did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// The token cannot be read.
    #[error("{}: {cause}; only the user that runs the cluster can read it", file.display())]
    Token {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// There is no answer.
    #[error("the node at {addr} does not answer: {cause}")]
    NoAnswer {
        /// Its admin address.
        addr: SocketAddr,
        /// What went wrong.
        cause: String,
    },
    /// The answer is a no.
    #[error("{message}")]
    Refused {
        /// In the node's words.
        message: String,
    },
    /// The answer is not what this version understands.
    #[error("the node at {addr} answers something unknown: {cause}")]
    Unknown {
        /// Its admin address.
        addr: SocketAddr,
        /// What is wrong.
        cause: String,
    },
}

impl Admin {
    /// The listener at `addr`, whose token is in `token_file`.
    pub(crate) fn new(world: &World, addr: SocketAddr, token_file: PathBuf) -> Self {
        Self {
            world: world.clone(),
            addr,
            token_file,
        }
    }

    /// The listener of a node that `run.json` names.
    pub(crate) fn of(world: &World, node: &run::Node) -> Result<Self, AdminError> {
        let addr = node.admin.strip_prefix("http://").unwrap_or(&node.admin);
        let addr = addr.parse().map_err(|_| AdminError::Refused {
            message: format!("{:?} in run.json is no address", node.admin),
        })?;
        Ok(Self::new(world, addr, node.data.join("admin.token")))
    }

    /// The node as it sees itself.
    pub(crate) async fn status(&self) -> Result<NodeStatus, AdminError> {
        self.ask(Method::GET, "/status", None, QUICK).await
    }

    /// Whether it answers and leads.
    pub(crate) async fn is_leader(&self) -> bool {
        matches!(self.status().await, Ok(status) if status.role == Role::Leader)
    }

    /// Adds a node without a vote.
    pub(crate) async fn add_learner(&self, id: NodeId, addr: SocketAddr) -> Result<(), AdminError> {
        let body = json!({ "id": id, "addr": addr.to_string() });
        self.ask::<Value>(Method::POST, "/members/add", Some(body), SLOW)
            .await
            .map(drop)
    }

    /// Gives it a vote; comes back once it has caught up.
    pub(crate) async fn promote(&self, id: NodeId) -> Result<(), AdminError> {
        let body = json!({ "id": id });
        self.ask::<Value>(Method::POST, "/members/promote", Some(body), SLOW)
            .await
            .map(drop)
    }

    /// Takes a node out of the group.
    pub(crate) async fn remove(&self, id: NodeId) -> Result<(), AdminError> {
        let body = json!({ "id": id });
        self.ask::<Value>(Method::POST, "/members/remove", Some(body), SLOW)
            .await
            .map(drop)
    }

    /// Has the node look which other Regions there are, and gives their names.
    pub(crate) async fn look_for_regions(&self) -> Result<Vec<String>, AdminError> {
        #[derive(Deserialize)]
        struct Known {
            regions: Vec<String>,
        }
        let asked = self.ask(Method::POST, "/regions", None, QUICK);
        asked.await.map(|known: Known| known.regions)
    }

    /// Has the node look at its certificate's files now, and tells which ones are in use.
    pub(crate) async fn look_at_certificates(&self) -> Result<Option<TlsStatus>, AdminError> {
        self.ask(Method::POST, "/certificates", None, QUICK).await
    }

    /// Whether anybody listens there at all.
    pub(crate) async fn listens(&self) -> bool {
        let addr = self.addr.to_string();
        let connecting = self.world.network.connect(&addr);
        matches!(tokio::time::timeout(QUICK, connecting).await, Ok(Ok(_)))
    }

    /// All identities.
    pub(crate) async fn identities(&self) -> Result<Value, AdminError> {
        self.ask(Method::GET, "/identities", None, SLOW).await
    }

    /// Changes identities.
    pub(crate) async fn change_identities(&self, change: Value) -> Result<Value, AdminError> {
        self.ask(Method::POST, "/identities", Some(change), SLOW)
            .await
    }

    /// The domain key's versions, or what comes of changing them.
    pub(crate) async fn domain_key(&self, change: Option<Value>) -> Result<Value, AdminError> {
        let method = match change {
            Some(_) => Method::POST,
            None => Method::GET,
        };
        self.ask(method, "/domain-key", change, SLOW).await
    }

    /// The node's faults that are in force.
    pub(crate) async fn faults(&self) -> Result<Vec<InForce>, AdminError> {
        let asked = self.ask(Method::GET, "/faults", None, QUICK);
        asked.await.map(|told: Faults| told.faults)
    }

    /// Puts a fault in force.
    pub(crate) async fn put_fault(&self, order: &Order) -> Result<(), AdminError> {
        let body = json!(order);
        let asked = self.ask::<Value>(Method::POST, "/faults", Some(body), QUICK);
        asked.await.map(drop)
    }

    /// Lifts a fault, or all, and tells what was lifted.
    pub(crate) async fn lift_faults(
        &self,
        number: Option<u64>,
    ) -> Result<Vec<InForce>, AdminError> {
        let query = number.map_or_else(String::new, |number| format!("?number={number}"));
        let path = format!("/faults{query}");
        let asked = self.ask(Method::DELETE, &path, None, QUICK);
        asked.await.map(|told: Faults| told.faults)
    }

    /// Moves the Region's clock ahead.
    pub(crate) async fn advance_clock(&self, by_ms: u64) -> Result<ClockMoved, AdminError> {
        let body = json!({ "by_ms": by_ms });
        self.ask(Method::POST, "/clock/advance", Some(body), SLOW)
            .await
    }

    /// A part of the node's history, from a log index on.
    pub(crate) async fn log(
        &self,
        from: LogIndex,
        key_id: Option<&str>,
    ) -> Result<LogPage, AdminError> {
        let key = key_id.map_or_else(String::new, |id| format!("&key_id={id}"));
        self.ask(Method::GET, &format!("/log?from={from}{key}"), None, SLOW)
            .await
    }

    async fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        limit: Duration,
    ) -> Result<T, AdminError> {
        let answer = tokio::time::timeout(limit, self.exchange(method, path, body)).await;
        let late = || self.no_answer(format!("nothing within {} s", limit.as_secs()));
        let (status, body) = answer.map_err(|_| late())??;
        let unknown = |cause: String| AdminError::Unknown {
            addr: self.addr,
            cause,
        };
        if status != StatusCode::OK {
            #[derive(Deserialize)]
            struct Refusal {
                error: String,
            }
            let refusal: Refusal =
                serde_json::from_slice(&body).map_err(|_| unknown(format!("status {status}")))?;
            return Err(AdminError::Refused {
                message: refusal.error,
            });
        }
        serde_json::from_slice(&body).map_err(|error| unknown(error.to_string()))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(StatusCode, Bytes), AdminError> {
        let token =
            std::fs::read_to_string(&self.token_file).map_err(|cause| AdminError::Token {
                file: self.token_file.clone(),
                cause,
            })?;
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.addr.to_string())
            .header(header::AUTHORIZATION, format!("Bearer {}", token.trim()))
            .body(Full::new(body))
            .map_err(|error| self.no_answer(error.to_string()))?;
        let fail = |error: hyper::Error| self.no_answer(error.to_string());
        let stream = self.world.network.connect(&self.addr.to_string()).await;
        let stream = stream.map_err(|error| self.no_answer(error.to_string()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(fail)?;
        let connection = world::spawn(connection);
        let answer = sender.send_request(request).await.map_err(fail)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(fail)?.to_bytes();
        connection.abort();
        Ok((status, body))
    }

    fn no_answer(&self, cause: String) -> AdminError {
        AdminError::NoAnswer {
            addr: self.addr,
            cause,
        }
    }
}

/// Faults as a node tells of them.
#[derive(Debug, Deserialize)]
struct Faults {
    faults: Vec<InForce>,
}

/// What moving a Region's clock did.
#[derive(Debug, Deserialize)]
pub(crate) struct ClockMoved {
    /// The Region's clock, in milliseconds since 1970.
    pub(crate) region_clock_ms: u64,
    /// How many keys' waits were over.
    pub(crate) keys_deleted: u64,
    /// How many keys were due for rotation.
    pub(crate) keys_rotated: u64,
}

/// A part of a node's history.
#[derive(Debug, Deserialize)]
pub(crate) struct LogPage {
    /// The first log index the node still has events of.
    pub(crate) begins: LogIndex,
    /// Oldest first; each `{"index", "at_ms", "caller", "command", "events"}`.
    pub(crate) entries: Vec<Value>,
    /// Where the history goes on, if it does.
    pub(crate) next: Option<LogIndex>,
}
