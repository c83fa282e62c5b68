//! Calls between Regions: the only thing that a node of another Region may ask.
//!
//! What is brought is not looked at here: the receiver that the service registers does that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keyrum_state::Message;
use keyrum_types::{NodeId, Region, SealedMaterial};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::codec;
use crate::group::{Group, Inner};
use crate::links::PeerName;
use crate::peers::{Kind, lock};
use crate::world::BoxFuture;

/// Messages of another Region's outbox. Without any it only asks how far this Region has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// All of the channel's messages through this number were taken before, or replaced.
    pub after: u64,
    /// With their numbers, ascending; material wrapped for the receiving Region.
    pub messages: Vec<(u64, Message)>,
}

/// How far the receiving Region has come with the sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Receipt {
    /// Its log has all through this number.
    Taken(u64),
    /// The delivery began after a later message than the last one it has, which is this one.
    Missing(u64),
}

/// Takes what couriers of other Regions bring, and gives what only the service has.
pub trait Receiver: Send + Sync + 'static {
    /// Takes a delivery of the Region `from`, as its node's certificate names it. An error says
    /// why nothing is known to be taken; the courier repeats.
    fn receive(
        self: Arc<Self>,
        from: Region,
        delivery: Delivery,
    ) -> BoxFuture<'static, Result<Receipt, String>>;

    /// A version of the domain key for another node of this Region, wrapped for the Region; `None` if
    /// it is not here. It never enters the log, so this is how a node without the file gets it.
    fn domain_key(&self, version: u32) -> Option<SealedMaterial>;
}

/// Why a delivery has no receipt. It may have been taken all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{region}: {reason}")]
pub struct Undelivered {
    /// The receiving Region.
    pub region: Region,
    /// Why, for the operator.
    pub reason: String,
}

impl Group {
    /// Sets who takes what other Regions' couriers bring; until then they are told to come again.
    pub fn receive_with(&self, receiver: Arc<dyn Receiver>) {
        *lock(&self.inner.receiver) = Some(receiver);
    }

    /// The other Regions of the cluster.
    pub fn neighbours(&self) -> Vec<Region> {
        lock(&self.inner.neighbours).keys().cloned().collect()
    }

    /// The nodes of one of them, as far as they are known.
    pub fn nodes_of(&self, region: &Region) -> Vec<NodeId> {
        let neighbours = lock(&self.inner.neighbours);
        let nodes = neighbours.get(region).into_iter().flatten();
        nodes.map(|(node, _)| *node).collect()
    }

    /// Sets the peer addresses of the other Regions' nodes, which may come and go.
    pub fn set_neighbours(&self, addresses: &BTreeMap<Region, BTreeMap<NodeId, String>>) {
        let mut neighbours = lock(&self.inner.neighbours);
        for (region, addresses) in addresses {
            let known = neighbours.entry(region.clone()).or_default();
            known.retain(|node, (addr, _)| addresses.get(node) == Some(addr));
            for (node, addr) in addresses {
                known.entry(*node).or_insert_with(|| {
                    let (region, node) = (region.clone(), *node);
                    let target = PeerName { region, node };
                    let client = self.inner.directory.courier(target, addr.clone());
                    (addr.clone(), client)
                });
            }
        }
    }

    /// Brings something to one node of another Region.
    pub async fn deliver(
        &self,
        region: &Region,
        node: NodeId,
        delivery: &Delivery,
        timeout: Duration,
    ) -> Result<Receipt, Undelivered> {
        let undelivered = |reason| Undelivered {
            region: region.clone(),
            reason,
        };
        let peer = {
            let neighbours = lock(&self.inner.neighbours);
            let nodes = neighbours.get(region);
            nodes.and_then(|nodes| Some(nodes.get(&node)?.1.clone()))
        };
        let peer = peer.ok_or_else(|| undelivered(format!("it has no node {node}")))?;
        let receipt = peer.call(Kind::Deliver, delivery, timeout).await;
        receipt.map_err(|error| undelivered(error.to_string()))
    }

    /// Changes whenever a message for another Region may have come to wait in the applied state.
    pub fn outbox_changed(&self) -> watch::Receiver<u64> {
        self.inner.shared.outbox.subscribe()
    }
}

/// Carries out what a courier of another Region asks.
pub(crate) async fn carry_out(
    inner: Arc<Inner>,
    from: Region,
    kind: Kind,
    body: &[u8],
) -> Result<Vec<u8>, String> {
    if kind != Kind::Deliver {
        tracing::warn!(%from, ?kind, "a node of another Region asked for more than it may");
        return Err("a node of another Region may only deliver".to_owned());
    }
    let delivery: Delivery = codec::decode(body).map_err(|error| error.to_string())?;
    let receiver = lock(&inner.receiver).clone();
    let receiver = receiver.ok_or("the node is still starting")?;
    let receipt = receiver.receive(from, delivery).await?;
    Ok(codec::encode(&receipt))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;

    use keyrum_store::{RealDisk, Store, StoreConfig};

    use super::*;
    use crate::links::Purpose;
    use crate::peers::{CallError, PeerClient};
    use crate::world::World;
    use crate::{GroupConfig, Links, certs};

    const HERE: &str = "us-east-1";
    const THERE: &str = "eu-west-1";
    const LIMIT: Duration = Duration::from_secs(5);

    #[derive(Default)]
    struct Noting(Mutex<Vec<(Region, Delivery)>>);

    impl Receiver for Noting {
        fn receive(
            self: Arc<Self>,
            from: Region,
            delivery: Delivery,
        ) -> BoxFuture<'static, Result<Receipt, String>> {
            self.0.lock().unwrap().push((from, delivery));
            Box::pin(async { Ok(Receipt::Taken(7)) })
        }

        fn domain_key(&self, version: u32) -> Option<SealedMaterial> {
            (version == 2).then(|| SealedMaterial([2; 9].into()))
        }
    }

    fn links(folder: &Path, region: &str) -> Links {
        let region = region.parse().unwrap();
        Links::mutual_tls(&folder.join("certs"), "c", &region, 1, World::real().clock).unwrap()
    }

    async fn start(folder: &Path, region: &str, neighbour: Option<(&str, String)>) -> Group {
        let neighbour =
            neighbour.map(|(region, addr)| (region.parse().unwrap(), BTreeMap::from([(1, addr)])));
        let config = GroupConfig {
            cluster_id: "c".to_owned(),
            region: region.parse().unwrap(),
            node: 1,
            listen: "127.0.0.1:0".to_owned(),
            peers: BTreeMap::from([(1, "127.0.0.1:0".to_owned())]),
            neighbours: neighbour.into_iter().collect(),
            bootstrap: true,
            snapshot_every: 1000,
            history_rows_max: None,
        };
        let store = folder.join(region);
        let store = Store::open(RealDisk::shared(), &store, StoreConfig::default()).unwrap();
        let links = links(folder, region);
        let group = Group::start(config, World::real(), store, links).await;
        group.unwrap()
    }

    /// Catches a node of another Region that gets Raft, proposals, reads, clocks or members to
    /// answer it, a Region taken from anything but the certificate, and a courier inside a Region.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_node_of_another_region_may_only_deliver() {
        let folder = tempfile::tempdir().unwrap();
        let names = [HERE, THERE].map(|region| (region.parse().unwrap(), 1));
        certs::ensure(&folder.path().join("certs"), "c", &names).unwrap();
        let here = start(folder.path(), HERE, None).await;
        here.ready().await.unwrap();
        let addr = here.peer_addr().to_string();
        let there = start(folder.path(), THERE, Some((HERE, addr.clone()))).await;
        let region: Region = HERE.parse().unwrap();

        let empty = Delivery {
            after: 3,
            messages: Vec::new(),
        };
        let early = there.deliver(&region, 1, &empty, LIMIT).await;
        assert!(early.unwrap_err().reason.contains("still starting"));
        let noting = Arc::new(Noting::default());
        here.receive_with(noting.clone());
        let receipt = there.deliver(&region, 1, &empty, LIMIT).await;
        assert_eq!(receipt, Ok(Receipt::Taken(7)));
        let taken = noting.0.lock().unwrap().clone();
        assert_eq!(taken, [(THERE.parse().unwrap(), empty.clone())]);
        assert!(there.deliver(&region, 2, &empty, LIMIT).await.is_err());
        // Nodes come and go.
        let others = BTreeMap::from([(region.clone(), BTreeMap::from([(3, addr.clone())]))]);
        there.set_neighbours(&others);
        assert_eq!(there.nodes_of(&region), [3]);
        assert!(there.deliver(&region, 1, &empty, LIMIT).await.is_err());

        let client = |from: &str, purpose| {
            let (region, addr) = (region.clone(), addr.clone());
            PeerClient::new(
                PeerName { region, node: 1 },
                move || Some(addr.clone()),
                purpose,
                links(folder.path(), from),
                World::real(),
            )
        };
        let foreign = client(THERE, Purpose::Courier);
        let kinds: Vec<_> = (1..=u8::MAX).filter_map(Kind::from_byte).collect();
        assert_eq!(kinds.len(), 16, "all kinds of call");
        for kind in kinds.into_iter().filter(|kind| *kind != Kind::Deliver) {
            let answer: Result<(), _> = foreign.call(kind, &(), LIMIT).await;
            let Err(CallError::Failed { reason, .. }) = answer else {
                panic!("{kind:?} was answered with {answer:?}");
            };
            assert!(reason.contains("may only deliver"), "{kind:?}: {reason}");
        }
        // And it gets no connection that carries anything else.
        let requests: Result<(), _> = client(THERE, Purpose::Requests)
            .call(Kind::Clock, &(), LIMIT)
            .await;
        assert!(matches!(requests, Err(CallError::Unreachable { .. })));
        let insider: Result<Receipt, _> = client(HERE, Purpose::Requests)
            .call(Kind::Deliver, &empty, LIMIT)
            .await;
        assert!(matches!(insider, Err(CallError::Failed { .. })));
        assert_eq!(noting.0.lock().unwrap().len(), 1);
        here.shutdown().await;
        there.shutdown().await;
    }
}
