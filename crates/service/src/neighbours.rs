//! The other Regions of the cluster, as a node knows them: where their nodes are, and which key
//! what is sent there is wrapped to.
//!
//! Regions join while the cluster runs, and nodes come and go. A node looks again when it is told
//! to, when something names a Region it does not know, and when nobody answers where it asks: never
//! by the clock. A key once pinned stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use keyrum_crypto::{RegionKey, RegionPublicKey};
use keyrum_types::{NodeId, Region};
use tokio::time::sleep;

use crate::Service;
use crate::courier::Route;

/// How long until Regions that joined are told of identities, after that failed.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// Where the peers of each Region's nodes reach them.
pub type Addresses = BTreeMap<Region, BTreeMap<NodeId, String>>;

/// What a node knows of the other Regions of its cluster when it starts, and how it learns more.
pub struct Neighbourhood {
    /// Unwraps what is sent here.
    pub own: RegionKey,
    /// What is sent to each other Region is wrapped to. A Region that is missing gets nothing.
    pub pinned: BTreeMap<Region, RegionPublicKey>,
    /// Looks the other Regions up again. May block; `None` if it cannot.
    pub look_up: LookUp,
}

/// Finds the cluster's other Regions as they are now.
pub type LookUp = Box<dyn Fn() -> Option<Found> + Send + Sync>;

/// The other Regions of the cluster, as they were found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where their nodes are.
    pub addresses: Addresses,
    /// What is sent to each of them is wrapped to. Counts only for Regions that were not known.
    pub pinned: BTreeMap<Region, RegionPublicKey>,
}

impl Service {
    /// Looks up where the nodes of the other Regions are and whether a Region has joined; gives the
    /// Regions that are known then.
    pub async fn look_up_neighbours(&self) -> Vec<Region> {
        let inner = self.inner.clone();
        let look_up = move || inner.couriers.look_up.as_ref()?();
        let found = self.inner.world.blocking.run(look_up).await;
        if let Some(Found { addresses, pinned }) = found {
            self.inner.group.set_neighbours(&addresses);
            self.inner.couriers.pinned.send_if_modified(|known| {
                let before = known.len();
                for (region, key) in pinned {
                    known.entry(region).or_insert(key);
                }
                known.len() > before
            });
        }
        self.inner.group.neighbours()
    }

    /// Whether a Region belongs to this cluster, be it since a moment ago.
    pub(crate) async fn knows(&self, region: &Region) -> bool {
        region == self.region()
            || self.inner.group.neighbours().contains(region)
            || self.look_up_neighbours().await.contains(region)
    }

    /// Runs until this node stops: while it leads, carries what waits for other Regions, also those
    /// that join.
    pub async fn run_courier(&self) {
        tokio::select! {
            _ = self.inner.group.stopped() => {}
            () = self.carry_everywhere() => {}
        }
    }

    async fn carry_everywhere(&self) {
        let group = &self.inner.group;
        let mut known = self.inner.couriers.pinned.subscribe();
        let (mut outbox, mut leader) = (group.outbox_changed(), group.leader());
        let mut served = BTreeSet::new();
        let mut couriers = FuturesUnordered::new();
        loop {
            known.borrow_and_update();
            for to in group.neighbours() {
                if served.insert(to.clone()) {
                    couriers.push(self.carry_forever(Route::new(to)));
                }
            }
            outbox.borrow_and_update();
            leader.borrow_and_update();
            let told = !group.is_leader() || self.tell_newcomers().await;
            if group.is_leader() && self.waits_for_other_than(&served) {
                let known = self.look_up_neighbours().await;
                if known.iter().any(|region| !served.contains(region)) {
                    continue;
                }
            }
            let again = async {
                match told {
                    true => std::future::pending().await,
                    false => sleep(TELL_AGAIN).await,
                }
            };
            let changed = tokio::select! {
                () = again => continue,
                // They end with the group.
                Some(()) = couriers.next() => return,
                changed = known.changed() => changed,
                changed = outbox.changed() => changed,
                changed = leader.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Whether a message waits for a Region that no courier goes to: other nodes may have learned
    /// of it sooner than this one.
    fn waits_for_other_than(&self, served: &BTreeSet<Region>) -> bool {
        let state = self.inner.group.state();
        let mut regions = state.regions_spoken_to();
        regions.any(|to| !served.contains(to) && state.outbox(to).next().is_some())
    }
}
