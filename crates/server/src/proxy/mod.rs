//! One endpoint for the nodes of several processes: reads the Region off a request and passes it
//! on, unread otherwise, to a node of that Region.
//!
//! A request that changes something is sent once. It goes to another node only if nothing of it
//! was sent; if the answer does not come, the client is told that the outcome is unknown. A
//! request that only reads goes to further nodes while the first is silent; the first good answer
//! counts.

mod node;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use keyrum_consensus::ReadMode;
use keyrum_consensus::world::{Network, World, spawn};
use keyrum_types::Region;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::endpoint::{Hooks, hook_answer, no_hooks, time_left};
use crate::error::ApiError;
use crate::http::{Handler, Incoming, ProxyToken, error_answer};
use crate::identity;
use crate::route::Route;
use crate::sigv4::Claim;
use crate::sts;

use node::{Failure, Node, Outgoing};

/// How long nodes may take to answer. A Region without a quorum has 5 s to say so, with the way to
/// the client and back; a node by itself gives up after 4.5 s.
#[derive(Debug, Clone)]
pub struct ProxyWaits {
    /// For a connection to a node.
    pub connect: Duration,
    /// Until a read is also sent to another node.
    pub hedge: Duration,
    /// For the whole, however many nodes are asked.
    pub answer: Duration,
    /// How much of that a node leaves for its answer's way back.
    pub way_back: Duration,
    /// Between two looks at nodes that did not answer.
    pub probe: Duration,
}

impl Default for ProxyWaits {
    fn default() -> Self {
        Self {
            connect: Duration::from_millis(1000),
            hedge: Duration::from_millis(1500),
            answer: Duration::from_millis(4900),
            way_back: Duration::from_millis(400),
            probe: Duration::from_millis(250),
        }
    }
}

impl ProxyWaits {
    /// How long a node that is asked now may work, if that is any time at all.
    fn left(&self, deadline: Instant) -> Option<Duration> {
        let left = deadline.checked_duration_since(Instant::now() + self.way_back)?;
        (left >= Duration::from_millis(1)).then_some(left)
    }
}

/// Where one node is.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeAt {
    /// Its API's address, `HOST:PORT`.
    pub addr: String,
    /// What it believes this proxy by; without it, it takes requests as coming from here.
    pub token: Option<ProxyToken>,
}

/// Where the nodes of a cluster are. Cheap to clone; all clones change together.
#[derive(Clone)]
pub struct Nodes {
    network: Arc<dyn Network>,
    regions: Arc<ArcSwap<Vec<Entry>>>,
}

struct Entry {
    region: Region,
    nodes: Vec<Arc<Node>>,
    turn: AtomicUsize,
}

impl Nodes {
    /// No Regions yet; connections will be made through the world's network.
    pub fn new(world: &World) -> Self {
        Self {
            network: world.network.clone(),
            regions: Arc::default(),
        }
    }

    /// Puts these Regions, each with its nodes, in place of the former ones. The first Region takes unsigned requests. Nodes that stay keep their
    /// connections.
    pub fn set(&self, regions: Vec<(Region, Vec<NodeAt>)>) {
        let former = self.regions.load();
        let known = |at: &NodeAt| {
            let mut nodes = former.iter().flat_map(|entry| &entry.nodes);
            nodes.find(|node| node.is_at(at)).cloned()
        };
        let node = |at: NodeAt| {
            known(&at).unwrap_or_else(|| Arc::new(Node::new(at, self.network.clone())))
        };
        let entry = |(region, nodes): (Region, Vec<NodeAt>)| Entry {
            region,
            nodes: nodes.into_iter().map(node).collect(),
            turn: AtomicUsize::new(0),
        };
        self.regions
            .store(Arc::new(regions.into_iter().map(entry).collect()));
    }
}

impl Entry {
    /// The nodes in the order they are asked: each first in turn, those that are down last.
    /// `fixed`: always in the same order.
    fn order(&self, fixed: bool) -> Vec<Arc<Node>> {
        let mut nodes = self.nodes.clone();
        if fixed {
            nodes.sort_by_key(|node| !node.is_up());
        } else if !nodes.is_empty() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let first = turn % nodes.len();
            nodes.rotate_left(first);
            nodes.sort_by_key(|node| !node.is_up());
        }
        nodes
    }
}

/// Passes requests on.
pub struct Proxy {
    nodes: Nodes,
    waits: ProxyWaits,
    hooks: Option<Arc<dyn Hooks>>,
    /// How requests read that do not say; `None` leaves it to the node.
    consistency: Option<ReadMode>,
    /// Whether each Region's first node that is up gets all its requests.
    one_node: bool,
    /// Wakes the task that looks after nodes that are down.
    down: Arc<Notify>,
    looking_after: JoinHandle<()>,
}

impl Proxy {
    /// A proxy for `nodes`, which may still change. Starts a task that ends with the proxy.
    pub fn new(nodes: Nodes, waits: ProxyWaits, hooks: Option<Arc<dyn Hooks>>) -> Self {
        let down = Arc::new(Notify::new());
        let looking_after = spawn(look_after(nodes.clone(), down.clone(), waits.clone()));
        Self {
            nodes,
            waits,
            hooks,
            consistency: None,
            one_node: false,
            down,
            looking_after,
        }
    }

    /// The same, but requests that do not say how they read, read so, whichever node gets them.
    pub fn reading(mut self, mode: ReadMode) -> Self {
        self.consistency = Some(mode);
        self
    }

    /// The same, but of each Region one node gets all requests while it is up: so that request quotas,
    /// which each node keeps by itself, hold for all that comes this way.
    pub fn counting(mut self) -> Self {
        self.one_node = true;
        self
    }

    async fn pass_on(
        &self,
        request: &Incoming,
        reads: bool,
    ) -> Result<Response<Full<Bytes>>, ApiError> {
        let claim = Claim::of(&request.parts)?;
        let answer = self.waits.answer;
        let answer = time_left(&request.parts.headers)?.map_or(answer, |left| left.min(answer));
        let deadline = Instant::now() + answer;
        let (region, order) = {
            let regions = self.nodes.regions.load();
            let entry = match &claim {
                Some(claim) => regions
                    .iter()
                    .find(|entry| entry.region.as_str() == claim.region()),
                None => regions.first(),
            };
            let entry = entry.ok_or_else(identity::wrong_region)?;
            (entry.region.clone(), entry.order(self.one_node))
        };
        let mut outgoing = Outgoing::of(request, claim.as_ref());
        if let Some(mode) = self.consistency {
            outgoing.read_by_default(mode);
        }
        if reads {
            self.read(&region, order, &outgoing, deadline).await
        } else {
            self.change(&region, order, &outgoing, deadline).await
        }
    }

    async fn change(
        &self,
        region: &Region,
        order: Vec<Arc<Node>>,
        outgoing: &Outgoing,
        deadline: Instant,
    ) -> Result<Response<Full<Bytes>>, ApiError> {
        for node in order {
            if self.waits.left(deadline).is_none() {
                break;
            }
            match node.ask(outgoing, &self.waits, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => {
                    self.note_down(&node);
                    if failure == Failure::Unanswered {
                        return Err(ApiError::outcome_unknown(format!(
                            "The request was sent to a node of the Region {region} and no answer \
                             came. It may still take effect."
                        )));
                    }
                }
            }
        }
        Err(nobody(region))
    }

    async fn read(
        &self,
        region: &Region,
        order: Vec<Arc<Node>>,
        outgoing: &Outgoing,
        deadline: Instant,
    ) -> Result<Response<Full<Bytes>>, ApiError> {
        let mut fallback = None;
        let mut asked = FuturesUnordered::new();
        let mut order = order.into_iter();
        let mut silent: Vec<Arc<Node>> = Vec::new();
        let mut ask_next = true;
        loop {
            if (ask_next || asked.is_empty())
                && self.waits.left(deadline).is_some()
                && let Some(node) = order.next()
            {
                silent.push(node.clone());
                asked.push(async move {
                    let answer = node.ask(outgoing, &self.waits, deadline).await;
                    (node, answer)
                });
            }
            if asked.is_empty() {
                break;
            }
            ask_next = true;
            let hedge = deadline.min(Instant::now() + self.waits.hedge);
            tokio::select! {
                biased;
                Some((node, answer)) = asked.next() => {
                    silent.retain(|other| !Arc::ptr_eq(other, &node));
                    match answer {
                        Ok(answer) if answer.status().is_server_error() => fallback = Some(answer),
                        Ok(answer) => return Ok(answer),
                        Err(_) => self.note_down(&node),
                    }
                }
                // The node that was asked last is slow: it waits in the background until it
                // answers a probe.
                () = sleep_until(hedge) => {
                    if let Some(slow) = silent.last() {
                        self.note_down(slow);
                    }
                    if Instant::now() >= deadline {
                        break;
                    }
                }
            }
        }
        fallback.ok_or_else(|| nobody(region))
    }

    fn note_down(&self, node: &Node) {
        if node.set_up(false) {
            tracing::info!(addr = node.addr(), "a node does not answer");
        }
        self.down.notify_one();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.looking_after.abort();
    }
}

impl Handler for Proxy {
    async fn handle(&self, request: Incoming) -> Response<Full<Bytes>> {
        match (Route::of(&request.parts), &self.hooks) {
            (Ok(Route::Kms(operation)), _) => {
                let answer = self.pass_on(&request, operation.reads).await;
                answer.unwrap_or_else(|error| error_answer(&error))
            }
            (Ok(Route::Sts), _) => {
                let answer = self.pass_on(&request, true).await;
                answer.unwrap_or_else(|error| sts::error(&error, request.id))
            }
            (Ok(Route::Health), Some(hooks)) => hook_answer(hooks.health().await),
            (Ok(Route::Reset), Some(hooks)) => hook_answer(hooks.reset().await),
            (Ok(Route::Health | Route::Reset), None) => error_answer(&no_hooks()),
            (Err(error), _) => error_answer(&error),
        }
    }
}

fn nobody(region: &Region) -> ApiError {
    ApiError::dependency_timeout(format!(
        "No node of the Region {region} answered in time. Nothing was changed."
    ))
}

/// Asks nodes that are down whether they are there again. Sleeps while all are up.
async fn look_after(nodes: Nodes, down: Arc<Notify>, waits: ProxyWaits) {
    loop {
        let absent: Vec<Arc<Node>> = {
            let regions = nodes.regions.load();
            let nodes = regions.iter().flat_map(|entry| &entry.nodes);
            nodes.filter(|node| !node.is_up()).cloned().collect()
        };
        if absent.is_empty() {
            down.notified().await;
            continue;
        }
        join_all(absent.iter().map(|node| async {
            if node.probe(waits.connect).await && node.set_up(true) {
                tracing::info!(addr = node.addr(), "a node answers again");
            }
        }))
        .await;
        sleep(waits.probe).await;
    }
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
