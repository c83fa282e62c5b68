//! Sees that the nodes of a Region hold the same domain key, by its fingerprint: what one seals
//! the others must open.
//!
//! Links are made between nodes of one domain key only, so a node with another one gets no entry
//! into the log, no vote and no answer. Whoever a quorum has ever agreed with holds the Region's;
//! a node that has nothing of a quorum yet does not start when it meets another domain key, and
//! stops when it meets a node with data that holds another.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use keyrum_store::Store;
use keyrum_types::{Fingerprint, NodeId};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::group::{GroupConfig, Inner, StartError};
use crate::links::{Links, PeerName, Purpose};
use crate::world::World;

/// How long a node that starts for the first time waits for peers that do not answer: one that
/// answers later is met then.
const MEET_TIMEOUT: Duration = Duration::from_secs(1);

/// Names the domain key that a node holds; tells nothing about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainKeyName {
    /// What nodes compare.
    pub fingerprint: Fingerprint,
    /// Where the node has it from, for messages.
    pub file: PathBuf,
}

/// A peer holds another domain key than this node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}: the domain key is the wrong one: this is {ours}, but node {peer} of the Region holds \
     {theirs}. Nothing was changed; put the Region's domain key file in place (any other node of \
     the Region has it) and start again", file.display()
)]
pub struct OtherDomainKey {
    /// This node's file.
    pub file: PathBuf,
    /// The fingerprint of what is in it.
    pub ours: String,
    /// Who holds another.
    pub peer: NodeId,
    /// The fingerprint of that.
    pub theirs: String,
    /// Whether that node has something that a quorum agreed to: then this node's is the wrong one.
    pub has_data: bool,
}

/// Whether a node holds nothing that a quorum has agreed to: it is new, or founded a group that
/// nobody has joined yet.
pub fn is_new(store: &Store) -> bool {
    // The first entry is the founder's; every later one is written by an elected leader.
    store.log_range().last.is_none_or(|last| last == 0)
}

/// What a node says of its domain key in its greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    fingerprint: Fingerprint,
    /// Whether the node has something that a quorum agreed to.
    has_data: bool,
}

/// The name a node goes by on its links, and a peer that went by another: one with data if there
/// was any.
#[derive(Clone)]
pub(crate) struct Compared {
    own: DomainKeyName,
    has_data: Arc<AtomicBool>,
    other: Arc<watch::Sender<Option<OtherDomainKey>>>,
}

impl Compared {
    pub(crate) fn new(own: DomainKeyName) -> Self {
        Self {
            own,
            has_data: Arc::default(),
            other: Arc::new(watch::Sender::new(None)),
        }
    }

    pub(crate) fn held(&self) -> Held {
        Held {
            fingerprint: self.own.fingerprint,
            has_data: self.has_data.load(Ordering::Relaxed),
        }
    }

    /// Notes that the node has something that a quorum agreed to.
    fn note_data(&self) {
        self.has_data.store(true, Ordering::Relaxed);
    }

    /// Compares it with a peer's.
    pub(crate) fn compare(&self, peer: NodeId, theirs: Option<Held>) -> Result<(), OtherDomainKey> {
        if theirs.is_some_and(|theirs| theirs.fingerprint == self.own.fingerprint) {
            return Ok(());
        }
        let other = OtherDomainKey {
            file: self.own.file.clone(),
            ours: self.own.fingerprint.to_string(),
            peer,
            theirs: theirs.map_or_else(
                || "none".to_owned(),
                |theirs| theirs.fingerprint.to_string(),
            ),
            has_data: theirs.is_some_and(|theirs| theirs.has_data),
        };
        self.other.send_if_modified(|known| {
            let news = known.as_ref().is_none_or(|known| !known.has_data);
            if news {
                *known = Some(other.clone());
            }
            news
        });
        Err(other)
    }
}

/// Meets the peers that run, before a new node takes part in anything.
pub(crate) async fn meet(
    config: &GroupConfig,
    world: &World,
    links: &Links,
) -> Result<(), StartError> {
    let Some(compared) = links.compared() else {
        return Ok(());
    };
    let meet = |(&peer, addr): (&NodeId, &String)| {
        let addr = addr.clone();
        let peer = PeerName {
            region: config.region.clone(),
            node: peer,
        };
        async move {
            let meeting = links.dial(&*world.network, &addr, &peer, Purpose::Requests);
            // Who cannot be met now, for whatever reason, is met when there is something to say.
            let _ = tokio::time::timeout(MEET_TIMEOUT, meeting).await;
        }
    };
    let peers = config
        .peers
        .iter()
        .filter(|(peer, _)| **peer != config.node);
    join_all(peers.map(meet)).await;
    match &*compared.other.borrow() {
        Some(other) => Err(StartError::OtherDomainKey(other.clone())),
        None => Ok(()),
    }
}

/// Stops a new node that later meets one with data that holds another domain key. Ends once the
/// node has data itself.
pub(crate) async fn watch(
    inner: Arc<Inner>,
    links: Links,
    is_new: bool,
    mut closing: watch::Receiver<bool>,
) {
    let Some(compared) = links.compared() else {
        return;
    };
    if !is_new {
        compared.note_data();
        return;
    }
    let mut other = compared.other.subscribe();
    let mut applied = inner.shared.applied.subscribe();
    let tells = |other: &Option<OtherDomainKey>| other.as_ref().is_some_and(|o| o.has_data);
    tokio::select! {
        biased;
        _ = closing.wait_for(|closing| *closing) => {}
        _ = applied.wait_for(|applied| *applied > 0) => compared.note_data(),
        met = other.wait_for(tells) => {
            if let Some(other) = met.ok().and_then(|other| other.clone()) {
                inner.stop(other.to_string());
            }
        }
    }
}
