//! The network's side of a node: HTTP, the wire's JSON, the service model, errors as clients see
//! them; the proxy that makes one endpoint of several processes; and the admin API.
//!
//! This crate alone knows status codes and the wire's names. It decides nothing about keys: what
//! passed the service model's constraints goes to `keyrum-service`, whatever comes back is given a
//! name and a text here.
//!
//! A server is an [`http::Server`] with a handler: [`Endpoint`] for the nodes of this process,
//! [`Proxy`] for those of others, [`Admin`] for one node's operator.

mod admin;
mod audit;
mod calendar;
mod endpoint;
mod error;
mod fields;
pub mod http;
mod identity;
mod json;
mod model;
mod proxy;
mod regions;
mod route;
mod sigv4;
mod sts;
mod validate;
mod wire;

#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod http_tests;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod signature_tests;
#[cfg(test)]
mod testing;

pub use admin::{Admin, IdentitiesForm, WrongIdentities};
pub use audit::{Audit, AuditError, AuditSettings, Rotation};
pub use endpoint::{Endpoint, EndpointSettings, HookAnswer, Hooks};
pub use error::ApiError;
pub use proxy::{NodeAt, Nodes, Proxy, ProxyWaits};
pub use regions::{Audited, Regions};
pub use sigv4::{AcceptedCredentials, Arrived, SignatureTrial};

/// Reads the service model, which is otherwise read with the first request.
pub fn warm_up() {
    model::Model::get();
}
