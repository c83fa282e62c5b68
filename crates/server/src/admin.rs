//! The admin API of one node: on loopback, for who holds the token.
//!
//! | request | does |
//! |---|---|
//! | `GET /status` | how the node sees itself |
//! | `GET /log?from=INDEX&key_id=ID` | what happened, oldest first, a part at a time |
//! | `POST /clock/advance` `{"by_ms": N}` | moves the Region's clock; test clusters only |
//! | `POST /regions` | looks which other Regions the cluster has now, and names them |
//! | `POST /certificates` | looks at the node's certificate files now, and tells which ones are in use |
//! | `POST /members/add` `{"id": N, "addr": "HOST:PORT"}` | adds a node without a vote |
//! | `POST /members/promote` `{"id": N}` | gives it a vote once it has caught up |
//! | `POST /members/remove` `{"id": N}` | takes a node out of the group |
//! | `GET /identities` | the declared accounts, their users and roles, and where they are changed |
//! | `POST /identities` `{"do": WHAT, ...}` | changes them; see [`identities`] |
//! | `GET /domain-key` | the versions of the domain key, and what each waits for |
//! | `POST /domain-key` `{"do": WHAT, ...}` | rotates it; see [`domain_key`] |
//! | `GET /faults` | the faults in force and what they have done; test clusters only |
//! | `POST /faults` | puts one in force, an `Order` of `keyrum_consensus::faults` |
//! | `DELETE /faults?number=N` | lifts one, or all |
//! | `POST /snapshot` | takes a snapshot now |
//! | `POST /shutdown` | stops the node in order |
//!
//! Answers are JSON; a failure is `{"error": TEXT}`.

mod domain_key;
mod faults;
mod identities;
mod log;

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response};
use keyrum_consensus::faults::Faults;
use keyrum_service::{Service, ServiceError};
use keyrum_types::{NodeId, Region};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

pub use identities::{IdentitiesForm, WrongIdentities};

use crate::http::{Handler, Incoming, plain_answer};

/// How long a snapshot may take.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(60);

/// Answers the admin API of one node.
pub struct Admin {
    service: Service,
    token: Token,
    shutdown: Option<Box<dyn Fn() + Send + Sync>>,
    faults: Option<Arc<Faults>>,
}

/// What a request must show. Kept and compared as its SHA-256, all of it every time, so that the
/// time a comparison takes tells nothing.
struct Token(ring::digest::Digest);

impl Token {
    fn new(token: &str) -> Self {
        Self(ring::digest::digest(
            &ring::digest::SHA256,
            token.trim().as_bytes(),
        ))
    }

    fn opens(&self, parts: &Parts) -> bool {
        let given = parts
            .headers
            .get(header::AUTHORIZATION)
            .map(HeaderValue::as_bytes);
        let Some(given) = given.and_then(|given| given.strip_prefix(b"Bearer ")) else {
            return false;
        };
        let given = ring::digest::digest(&ring::digest::SHA256, given);
        let pairs = given.as_ref().iter().zip(self.0.as_ref());
        pairs.fold(0, |differences, (given, own)| differences | (given ^ own)) == 0
    }
}

/// Why something was not done: a status and a text.
struct Refused(u16, String);

#[derive(Deserialize)]
struct Advance {
    by_ms: u64,
}

#[derive(Deserialize)]
struct Member {
    id: NodeId,
}

#[derive(Deserialize)]
struct NewMember {
    id: NodeId,
    addr: String,
}

impl Admin {
    /// The admin API of the node that `service` belongs to. White space around the token, such as
    /// a file's last line end, does not count.
    pub fn new(service: Service, token: impl AsRef<str>) -> Self {
        Self {
            service,
            token: Token::new(token.as_ref()),
            shutdown: None,
            faults: None,
        }
    }

    /// What `/faults` steers; without it, that path refuses everything.
    pub fn with_faults(mut self, faults: Option<Arc<Faults>>) -> Self {
        self.faults = faults;
        self
    }

    /// What `POST /shutdown` calls; without it that path does not exist. It must return at once.
    pub fn on_shutdown(mut self, shutdown: impl Fn() + Send + Sync + 'static) -> Self {
        self.shutdown = Some(Box::new(shutdown));
        self
    }

    async fn act(&self, request: &Incoming) -> Result<Value, Refused> {
        let group = self.service.group();
        let body = &request.body;
        match (&request.parts.method, request.parts.uri.path()) {
            (&Method::GET, "/status") => Ok(json!(self.service.status())),
            (&Method::GET, "/log") => {
                log::page(group, request.parts.uri.query().unwrap_or_default()).await
            }
            (&Method::POST, "/clock/advance") => {
                let advance: Advance = read(body)?;
                let moved = self.service.advance_clock(advance.by_ms).await?;
                Ok(json!({
                    "region_clock_ms": moved.now.0,
                    "keys_deleted": moved.keys_deleted,
                    "keys_rotated": moved.keys_rotated,
                }))
            }
            (&Method::POST, "/regions") => {
                let known = self.service.look_up_neighbours().await;
                let names: Vec<_> = known.iter().map(Region::as_str).collect();
                Ok(json!({ "regions": names }))
            }
            (&Method::POST, "/certificates") => Ok(json!(group.look_at_certificates().await)),
            (&Method::GET, "/identities") => identities::list(&self.service).await,
            (&Method::POST, "/identities") => identities::change(&self.service, read(body)?).await,
            (&Method::GET, "/domain-key") => domain_key::show(&self.service).await,
            (&Method::POST, "/domain-key") => domain_key::change(&self.service, read(body)?).await,
            (&Method::POST, "/members/add") => {
                let member: NewMember = read(body)?;
                done(group.add_learner(member.id, member.addr).await)
            }
            (&Method::POST, "/members/promote") => {
                done(group.promote(read::<Member>(body)?.id).await)
            }
            (&Method::POST, "/members/remove") => {
                done(group.remove(read::<Member>(body)?.id).await)
            }
            (&Method::GET, "/faults") => faults::list(self.faults.as_ref()),
            (&Method::POST, "/faults") => faults::put(self.faults.as_ref(), body),
            (&Method::DELETE, "/faults") => {
                faults::lift(self.faults.as_ref(), request.parts.uri.query())
            }
            (&Method::POST, "/snapshot") => match timeout(SNAPSHOT_WAIT, group.snapshot()).await {
                Ok(taken) => done(taken),
                Err(_) => Err(Refused(503, "the snapshot is still being taken".to_owned())),
            },
            (&Method::POST, "/shutdown") if self.shutdown.is_some() => {
                if let Some(shutdown) = &self.shutdown {
                    shutdown();
                }
                Ok(json!({}))
            }
            (method, path) => Err(Refused(404, format!("there is no {method} {path} here"))),
        }
    }
}

impl Handler for Admin {
    async fn handle(&self, request: Incoming) -> Response<Full<Bytes>> {
        let answered = if self.token.opens(&request.parts) {
            self.act(&request).await
        } else {
            Err(Refused(
                401,
                "the header Authorization must be Bearer and the node's token".to_owned(),
            ))
        };
        let (status, value) = match answered {
            Ok(value) => (200, value),
            Err(Refused(status, error)) => (status, json!({ "error": error })),
        };
        let kind = HeaderValue::from_static("application/json");
        plain_answer(status, kind, value.to_string().into_bytes())
    }
}

impl From<ServiceError> for Refused {
    fn from(error: ServiceError) -> Self {
        let status = match error {
            ServiceError::ClockNotForTests => 403,
            ServiceError::ClockTooFar { .. } => 400,
            _ => 503,
        };
        Self(status, error.to_string())
    }
}

fn done<E: std::fmt::Display>(result: Result<(), E>) -> Result<Value, Refused> {
    result
        .map(|()| json!({}))
        .map_err(|error| Refused(503, error.to_string()))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| Refused(400, format!("the body: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches an admin API that is open to whoever can reach it.
    #[test]
    fn only_the_token_opens() {
        let token = Token::new("  secret\n");
        let opens = |authorization: Option<&str>| {
            let mut request = hyper::Request::builder();
            if let Some(authorization) = authorization {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            token.opens(&request.body(()).unwrap().into_parts().0)
        };
        assert!(opens(Some("Bearer secret")));
        for wrong in [
            "Bearer ",
            "Bearer secre",
            "Bearer secret2",
            "secret",
            "Basic secret",
        ] {
            assert!(!opens(Some(wrong)), "{wrong}");
        }
        assert!(!opens(None));
    }
}
