//! Which nodes of which Regions stand behind an endpoint, and which of them gets a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use keyrum_consensus::ReadMode;
use keyrum_consensus::world::BoxFuture;
use keyrum_service::{
    AssumeRoleInput, AssumeRoleOutput, RequestContext, Service, TemporaryCredentials,
};
use keyrum_types::Region;

use crate::audit::Audit;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::model::Operation;
use crate::sigv4::Credentials;
use crate::sts::Identity;

/// One node as the endpoint sees it; the only implementation outside tests is the service itself.
pub(crate) trait Backend: Send + Sync + 'static {
    /// Whether this node leads its Region's group.
    fn leads(&self) -> bool;

    /// The term of its group that this node knows of.
    fn term(&self) -> u64 {
        0
    }

    /// Whether this node can answer at all.
    fn runs(&self) -> bool;

    /// Does one operation; the answer's body on success.
    fn call<'a>(
        &'a self,
        operation: &'static Operation,
        context: &'a RequestContext,
        input: Fields<'a>,
    ) -> BoxFuture<'a, Result<Vec<u8>, ApiError>>;

    /// The access keys that are declared, as this node knows them.
    fn credentials(&self) -> &dyn Credentials;

    /// Who the caller is.
    fn identify(&self, context: &RequestContext) -> Identity;

    /// Lets the caller act as a role.
    fn assume_role<'a>(
        &'a self,
        context: &'a RequestContext,
        input: AssumeRoleInput,
    ) -> BoxFuture<'a, Result<AssumeRoleOutput, ApiError>>;

    /// Gives the caller temporary credentials of its own.
    fn get_session_token<'a>(
        &'a self,
        context: &'a RequestContext,
        duration_seconds: Option<i64>,
    ) -> BoxFuture<'a, Result<TemporaryCredentials, ApiError>>;
}

/// The Regions of an endpoint and their nodes in this process. Cheap to clone; all clones change
/// together.
#[derive(Clone, Default)]
pub struct Regions(Arc<ArcSwap<Vec<Entry>>>);

struct Entry {
    region: Region,
    nodes: Vec<Node>,
    turn: AtomicUsize,
}

/// A node, and its audit trail if it keeps one.
#[derive(Clone)]
struct Node {
    backend: Arc<dyn Backend>,
    audit: Option<Audit>,
}

/// A node's operations and, if it keeps one, its audit trail.
pub type Audited = (Service, Option<Audit>);

/// A Region that was found, and the node chosen in it.
pub(crate) struct Chosen {
    pub(crate) region: Region,
    pub(crate) node: Arc<dyn Backend>,
    /// The node's audit trail, if it keeps one.
    pub(crate) audit: Option<Audit>,
}

impl Regions {
    /// Puts these Regions and nodes in place of the former ones. The first Region takes unsigned
    /// requests. A Region may be without nodes for a while: its requests are refused, not lost.
    pub fn set(&self, regions: Vec<(Region, Vec<Service>)>) {
        let alone = |(region, nodes): (Region, Vec<Service>)| {
            (region, nodes.into_iter().map(|node| (node, None)).collect())
        };
        self.set_audited(regions.into_iter().map(alone).collect());
    }

    /// The same for nodes of which some keep audit trails.
    pub fn set_audited(&self, regions: Vec<(Region, Vec<Audited>)>) {
        let node = |(service, audit)| Node {
            backend: Arc::new(service),
            audit,
        };
        let region =
            |(region, nodes): (Region, Vec<_>)| (region, nodes.into_iter().map(node).collect());
        self.set_nodes(regions.into_iter().map(region).collect());
    }

    #[cfg(test)]
    pub(crate) fn set_backends(&self, regions: Vec<(Region, Vec<Arc<dyn Backend>>)>) {
        let node = |backend| Node {
            backend,
            audit: None,
        };
        let region =
            |(region, nodes): (Region, Vec<_>)| (region, nodes.into_iter().map(node).collect());
        self.set_nodes(regions.into_iter().map(region).collect());
    }

    fn set_nodes(&self, regions: Vec<(Region, Vec<Node>)>) {
        let entry = |(region, nodes)| Entry {
            region,
            nodes,
            turn: AtomicUsize::new(0),
        };
        self.0
            .store(Arc::new(regions.into_iter().map(entry).collect()));
    }

    /// Finds the Region called `name`, or the first one for an unsigned request, and a node in it:
    /// the leader for what it would be asked anyway, else each in turn. `None` if the cluster has
    /// no such Region.
    pub(crate) fn choose(
        &self,
        name: Option<&str>,
        any_node: bool,
    ) -> Option<Result<Chosen, ApiError>> {
        let entries = self.0.load();
        let entry = match name {
            Some(name) => entries.iter().find(|entry| entry.region.as_str() == name)?,
            None => entries.first()?,
        };
        Some(entry.choose(any_node))
    }
}

impl Entry {
    fn choose(&self, any_node: bool) -> Result<Chosen, ApiError> {
        let chosen = |node: &Node| Chosen {
            region: self.region.clone(),
            node: node.backend.clone(),
            audit: node.audit.clone(),
        };
        if let [only] = &self.nodes[..] {
            return Ok(chosen(only));
        }
        if !any_node {
            let leads = |node: &&Node| node.backend.leads() && node.backend.runs();
            let mut leaders = self.nodes.iter().filter(leads);
            if let Some(first) = leaders.next() {
                // One that is cut off from the others does not know that it leads no more.
                let newest = leaders.fold(first, |newest, other| {
                    match other.backend.term() > newest.backend.term() {
                        true => other,
                        false => newest,
                    }
                });
                return Ok(chosen(newest));
            }
        }
        let start = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.nodes.len();
        let in_turn = (0..count).map(|step| &self.nodes[start.wrapping_add(step) % count]);
        let node = in_turn.into_iter().find(|node| node.backend.runs());
        node.map(chosen).ok_or_else(|| {
            ApiError::dependency_timeout(format!(
                "No node of the Region {} is running.",
                self.region
            ))
        })
    }
}

/// Whether any node may answer a request of this mode by itself.
pub(crate) fn any_node(operation: &Operation, mode: ReadMode) -> bool {
    operation.reads && matches!(mode, ReadMode::Local | ReadMode::Eventual)
}
