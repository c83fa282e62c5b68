//! Carries what waits in this Region's outboxes to the other Regions, and takes what theirs bring.
//!
//! The leader's courier looks at the applied state alone and keeps nothing that counts: it sends
//! what waits, in order, until the other Region's log has it, and a moment later has this log forget
//! it, many messages at a time. A courier that dies, or does not hear back, leaves the same messages
//! waiting for the next; what arrives twice changes nothing. Nothing waiting, it does nothing at all.
//!
//! Material is in the clear only in between: unsealed and wrapped for the other Region's pinned key
//! here, unwrapped and sealed under its own domain key there, before it is proposed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::select_ok;
use keyrum_consensus::world::BoxFuture;
use keyrum_consensus::{Delivery, NodeStatus, ReadMode, Receipt, Receiver};
use keyrum_crypto::{Crossing, KeyName, RegionKey, RegionPublicKey, Unwrapping, Wrapping};
use keyrum_state::{
    AUTHORIZATION_LEVEL, Channel, Command, FamilyRecord, Identity, KeyRef, Message, Refusal,
    SealedAs, StoredPolicy, decide,
};
use keyrum_types::{MaterialId, NodeId, Region, SealedMaterial};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::neighbours::{LookUp, Neighbourhood};
use crate::{Inner, Service, ServiceError};

/// Most messages in one delivery, which is one command in the other Region's log.
const MESSAGES_MAX: usize = 256;

/// Most bytes in one, roughly; a message that alone has more goes alone.
const BYTES_MAX: usize = 512 << 10;

/// How long a node may take before another one is tried. What it was sent may be sent again.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a Region may take to say that it is there. With two seconds one of 300 calls at once over
/// a line with 2 % loss was once refused.
const REACH_LIMIT: Duration = Duration::from_secs(3);

/// Pauses after failures: the first, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long until a message that the other Region holds back is brought again.
const PAUSE_HELD: Duration = Duration::from_millis(100);

/// How long this Region's log may keep what the other one has taken, and how many messages: each
/// time that it forgets is an entry.
const FORGET_AFTER: Duration = Duration::from_millis(100);
const FORGET_MESSAGES: u64 = 1024;

/// From the begin of a delivery of so many messages to that of the next, unless more are waiting already.
/// Each delivery is an entry of the other Region's log; this is longer than from one part of the families
/// that are rotated to the next, so that what ends one part's rotations rides with what begins another's.
/// Not much longer: readers there wait while a delivery is applied.
const GATHER_MESSAGES: usize = 4;
const GATHER: Duration = Duration::from_millis(20);

/// How many points in time are kept to tell how long messages have waited.
const SIGHTINGS_MAX: usize = 1024;

/// What a node knows of its couriers.
pub(crate) struct Couriers {
    own: Option<RegionKey>,
    pub(crate) look_up: Option<LookUp>,
    /// What is sent to each other Region is wrapped to. Grows when Regions join.
    pub(crate) pinned: watch::Sender<BTreeMap<Region, RegionPublicKey>>,
    notes: Mutex<BTreeMap<Region, Note>>,
}

/// What the courier to one Region remembers, for who looks at the status.
#[derive(Default)]
struct Note {
    /// The last number sent at a moment, oldest first: tells since when a number has waited.
    sightings: VecDeque<(u64, Instant)>,
    last_error: Option<String>,
}

/// A courier's way to one Region.
pub(crate) struct Route {
    to: Region,
    /// Which of its nodes is asked first: the last one that answered.
    first: Option<NodeId>,
    /// Whether the last attempt failed: then it is asked whether somebody is there before material
    /// is wrapped again.
    failed: bool,
    /// What the other Region has taken and this one's log has not forgotten yet.
    taken: Option<Taken>,
    gathering: Gathering,
}

/// How long messages gather before the next delivery begins.
#[derive(Default)]
struct Gathering(Option<Instant>);

impl Gathering {
    /// Notes that a delivery of so many messages begins now; `brings_all` if no more wait.
    fn begin(&mut self, now: Instant, messages: usize, brings_all: bool) {
        self.0 = (messages >= GATHER_MESSAGES && brings_all).then(|| now + GATHER);
    }

    /// When the next delivery may begin, unless it may now.
    fn until(&self, now: Instant) -> Option<Instant> {
        self.0.filter(|until| *until > now)
    }
}

/// What a Region said that its log has taken.
#[derive(Clone, Copy)]
struct Taken {
    through: u64,
    /// When this Region's log is to forget it.
    forget_at: Instant,
}

impl Route {
    pub(crate) fn new(to: Region) -> Self {
        Self {
            to,
            first: None,
            failed: false,
            taken: None,
            gathering: Gathering::default(),
        }
    }
}

impl Couriers {
    pub(crate) fn new(neighbourhood: Option<Neighbourhood>) -> Self {
        let (own, look_up, pinned) = match neighbourhood {
            Some(known) => (Some(known.own), Some(known.look_up), known.pinned),
            None => (None, None, BTreeMap::new()),
        };
        Self {
            own,
            look_up,
            pinned: watch::Sender::new(pinned),
            notes: Mutex::default(),
        }
    }

    /// What unwraps what is wrapped for this Region.
    pub(crate) fn own(&self) -> Option<&RegionKey> {
        self.own.as_ref()
    }

    fn notes(&self) -> MutexGuard<'_, BTreeMap<Region, Note>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that messages from `oldest` to the channel's last are seen to wait.
    fn sight(&self, to: &Region, oldest: u64, channel: Channel) {
        let mut notes = self.notes();
        let sightings = &mut notes.entry(to.clone()).or_default().sightings;
        let news = sightings
            .back()
            .is_none_or(|(last, _)| *last < channel.sent);
        if news && sightings.len() < SIGHTINGS_MAX {
            sightings.push_back((channel.sent, Instant::now()));
        }
        while sightings.len() > 1 && sightings.front().is_some_and(|(last, _)| *last < oldest) {
            sightings.pop_front();
        }
    }

    fn failed(&self, to: &Region, error: String) {
        self.notes().entry(to.clone()).or_default().last_error = Some(error);
    }

    fn clear(&self, to: &Region) {
        self.notes().remove(to);
    }
}

impl Service {
    /// Carries until the group ends what comes to wait for one Region, while this node leads.
    pub(crate) async fn carry_forever(&self, mut route: Route) {
        let group = &self.inner.group;
        let (mut outbox, mut leader) = (group.outbox_changed(), group.leader());
        let mut pause = PAUSE_MIN;
        loop {
            outbox.borrow_and_update();
            leader.borrow_and_update();
            if group.is_leader() {
                match self.carry(&mut route).await {
                    Ok(true) => {
                        pause = PAUSE_MIN;
                        continue;
                    }
                    Ok(false) => self.inner.couriers.clear(&route.to),
                    Err(error) => {
                        tracing::debug!(to = %route.to, %error, "a delivery failed");
                        (route.failed, route.taken) = (true, None);
                        self.inner.couriers.failed(&route.to, error);
                        // New messages do not end the pause: they wait for the same Region.
                        sleep(pause).await;
                        pause = (pause * 2).min(PAUSE_MAX);
                        continue;
                    }
                }
            } else {
                route.taken = None;
                self.inner.couriers.clear(&route.to);
            }
            let forget = async {
                match route.taken {
                    Some(taken) => sleep_until(taken.forget_at).await,
                    None => std::future::pending().await,
                }
            };
            let changed = tokio::select! {
                changed = outbox.changed() => changed,
                changed = leader.changed() => changed,
                () = forget => Ok(()),
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Carries one batch; false if nothing waits to be carried.
    async fn carry(&self, route: &mut Route) -> Result<bool, String> {
        let to = route.to.clone();
        // No view of the state is held while others are asked.
        let (channel, after, batch) = {
            let state = self.inner.group.state();
            let channel = state.channel(&to);
            let taken = route.taken.map_or(0, |taken| taken.through);
            let after = taken.max(channel.delivered);
            let batch = first_batch(state.outbox_after(&to, after));
            (channel, after, batch)
        };
        if let Some(taken) = route.taken {
            let many = taken.through.saturating_sub(channel.delivered) >= FORGET_MESSAGES;
            if many || Instant::now() >= taken.forget_at {
                let through = taken.through;
                let forget = Command::Delivered { to, through };
                let forgotten = self.propose_as_region(forget).await;
                forgotten.map_err(|error| error.to_string())?;
                route.taken = None;
                return Ok(true);
            }
        }
        let Some((oldest, _)) = batch.first() else {
            return Ok(false);
        };
        self.inner.couriers.sight(&to, *oldest, channel);
        if let Some(until) = route.gathering.until(Instant::now()) {
            sleep_until(until).await;
            // More may have come meanwhile.
            return Ok(true);
        }
        let brings_all = batch.last().is_some_and(|(last, _)| *last == channel.sent);
        let gathering = &mut route.gathering;
        gathering.begin(Instant::now(), batch.len(), brings_all);
        if route.failed {
            let question = Delivery {
                after: 0,
                messages: Vec::new(),
            };
            self.bring(route, &question).await?;
            route.failed = false;
        }
        let inner = self.inner.clone();
        let wrap = move || inner.wrap(&to, &batch);
        let delivery = Delivery {
            after,
            messages: self.inner.world.blocking.run(wrap).await?,
        };
        let through = match self.bring(route, &delivery).await? {
            Receipt::Taken(through) if through > after => through,
            Receipt::Taken(through) if through == after => {
                sleep(PAUSE_HELD).await;
                return Ok(true);
            }
            Receipt::Taken(through) | Receipt::Missing(through) => {
                // Only a Region that lost its log forgets what it took. What it forgot is gone
                // here too, so somebody has to look.
                return Err(format!(
                    "{} has taken all through message {through}, but was sent those after {after}",
                    route.to
                ));
            }
        };
        let soon = Instant::now() + FORGET_AFTER;
        route.taken = Some(Taken {
            through,
            forget_at: route.taken.map_or(soon, |taken| taken.forget_at),
        });
        if delivery
            .messages
            .last()
            .is_some_and(|(last, _)| *last > through)
        {
            sleep(PAUSE_HELD).await;
        }
        Ok(true)
    }

    /// Brings a delivery to one node after the other until one takes it.
    async fn bring(&self, route: &mut Route, delivery: &Delivery) -> Result<Receipt, String> {
        let group = &self.inner.group;
        let mut failure = "it has no nodes".to_owned();
        let mut nodes = group.nodes_of(&route.to);
        nodes.sort_by_key(|node| Some(*node) != route.first);
        for node in nodes {
            let brought = group.deliver(&route.to, node, delivery, CALL_TIMEOUT);
            match brought.await {
                Ok(receipt) => {
                    route.first = Some(node);
                    return Ok(receipt);
                }
                Err(error) => failure = error.to_string(),
            }
        }
        self.look_up_neighbours().await;
        Err(failure)
    }

    /// Whether another Region has a quorum that this node can reach now. Answers before `deadline`.
    pub(crate) async fn reach(
        &self,
        region: &Region,
        deadline: Instant,
    ) -> Result<(), ServiceError> {
        let limit = deadline.min(Instant::now() + REACH_LIMIT);
        let answers = async {
            while !self.any_answers(region).await {
                self.look_up_neighbours().await;
                sleep(PAUSE_MIN).await;
            }
        };
        let answered = timeout_at(limit, answers).await;
        answered.map_err(|_| ServiceError::RegionUnreachable {
            region: region.clone(),
        })
    }

    async fn any_answers(&self, region: &Region) -> bool {
        let group = &self.inner.group;
        let question = Delivery {
            after: 0,
            messages: Vec::new(),
        };
        let ask = |node| Box::pin(group.deliver(region, node, &question, REACH_LIMIT));
        let asked: Vec<_> = group.nodes_of(region).into_iter().map(ask).collect();
        !asked.is_empty() && select_ok(asked).await.is_ok()
    }

    /// This node as it sees itself, with what its couriers know if it leads.
    pub fn status(&self) -> NodeStatus {
        let mut status = self.inner.group.status();
        let notes = self.inner.couriers.notes();
        for channel in &mut status.channels {
            let Some(note) = notes.get(&channel.to) else {
                continue;
            };
            let oldest = note.sightings.front();
            channel.oldest_ms = oldest.map(|(_, since)| {
                u64::try_from(since.elapsed().as_millis()).expect("less than an age of the world")
            });
            channel.last_error.clone_from(&note.last_error);
        }
        status
    }
}

impl Inner {
    /// The batch as it travels to another Region.
    fn wrap(
        &self,
        to: &Region,
        batch: &[(u64, Arc<Message>)],
    ) -> Result<Vec<(u64, Message)>, String> {
        let from = self.group.region();
        let crossing = Crossing { from, to };
        let pinned = self.couriers.pinned.borrow().get(to).copied();
        let pinned = pinned.ok_or_else(|| format!("no public key is pinned for {to}"))?;
        let mut wrapper = Wrapper {
            inner: self,
            crossing,
            pinned,
            wrapping: None,
        };
        let mut travelling = Vec::with_capacity(batch.len());
        for (number, message) in batch {
            travelling.push((*number, resealed(message, &mut wrapper)?));
        }
        Ok(travelling)
    }

    /// A delivery of `from` as it enters this Region's log.
    fn unwrap(
        &self,
        from: &Region,
        messages: &[(u64, Message)],
    ) -> Result<Vec<(u64, Message)>, String> {
        let to = self.group.region();
        let crossing = Crossing { from, to };
        let own = self.couriers.own.as_ref();
        let own = own.ok_or_else(|| "this node has no key for other Regions".to_owned())?;
        let mut unwrapper = Unwrapper {
            inner: self,
            unwrapping: own.unwrapping(crossing),
        };
        let mut arrived = Vec::with_capacity(messages.len());
        for (number, message) in messages {
            arrived.push((*number, resealed(message, &mut unwrapper)?));
        }
        Ok(arrived)
    }
}

/// Takes what couriers of other Regions bring. Weak: the group holds it, and the service the group.
pub(crate) struct Desk(pub(crate) Weak<Inner>);

impl Receiver for Desk {
    fn receive(
        self: Arc<Self>,
        from: Region,
        delivery: Delivery,
    ) -> BoxFuture<'static, Result<Receipt, String>> {
        Box::pin(async move {
            let inner = self.0.upgrade().ok_or("the node is gone")?;
            let service = Service { inner };
            // The answers go there.
            service.knows(&from).await;
            service.take(from, delivery).await
        })
    }

    fn domain_key(&self, version: u32) -> Option<SealedMaterial> {
        self.0.upgrade()?.lend_version(version)
    }
}

impl Service {
    /// Has this Region's log take what another Region's courier brings.
    async fn take(&self, from: Region, delivery: Delivery) -> Result<Receipt, String> {
        let group = &self.inner.group;
        let Delivery {
            after,
            mut messages,
        } = delivery;
        if messages.is_empty() {
            // Asked whether this Region is there: it is if it has a quorum.
            let state = group.read(ReadMode::Linearizable).await;
            let state = state.map_err(|error| error.to_string())?;
            return Ok(Receipt::Taken(state.channel(&from).cursor));
        }
        // What is applied here is in the log for good, so this much need not be proposed again.
        let cursor = group.state().channel(&from).cursor;
        messages.retain(|(number, _)| *number > cursor);
        let cursor = match self.inner.hold.time.is_zero() || messages.is_empty() {
            true => cursor,
            false => self.hold_back(&from, after, &mut messages).await?,
        };
        let Some((through, _)) = messages.last() else {
            return Ok(Receipt::Taken(cursor));
        };
        let through = *through;
        // Members with an older program could not read it. It is brought again.
        if group.state().feature_level() < AUTHORIZATION_LEVEL
            && messages
                .iter()
                .any(|(_, message)| matches!(message, Message::Identity(_)))
        {
            return Err(format!(
                "identities wait until every node of {} runs a program that knows them",
                self.region()
            ));
        }
        let inner = self.inner.clone();
        let sender = from.clone();
        let unwrap = move || inner.unwrap(&sender, &messages);
        let messages = self.inner.world.blocking.run(unwrap).await?;
        let deliver = Command::Deliver {
            from,
            after,
            messages,
        };
        match self.propose_as_region(deliver).await {
            Ok(events) => {
                self.note_calls_elsewhere(&events);
                Ok(Receipt::Taken(through))
            }
            Err(ServiceError::Refused(Refusal::MessagesMissing { cursor, .. })) => {
                Ok(Receipt::Missing(cursor))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Cuts a delivery before the first message that is to wait, and gives the cursor.
    async fn hold_back(
        &self,
        from: &Region,
        after: u64,
        messages: &mut Vec<(u64, Message)>,
    ) -> Result<u64, String> {
        // The newest state: on one that lags behind, the sender would take what it hears for a loss.
        let state = self.inner.group.read(ReadMode::Linearizable).await;
        let state = state.map_err(|error| error.to_string())?;
        let deliver = Command::Deliver {
            from: from.clone(),
            after,
            messages: messages.clone(),
        };
        // A delivery that would be refused is proposed, to be refused by the log.
        let now = self.inner.world.clock.now();
        let events = decide(&state, None, now, &deliver).unwrap_or_default();
        if let Some(held) = self.inner.hold.first_held(&state, &events) {
            messages.retain(|(number, _)| *number < held);
        }
        Ok(state.channel(from).cursor)
    }
}

/// As many messages as one delivery takes.
fn first_batch<'m>(
    waiting: impl Iterator<Item = (u64, &'m Arc<Message>)>,
) -> Vec<(u64, Arc<Message>)> {
    let mut bytes = 0;
    let mut batch = Vec::new();
    for (number, message) in waiting.take(MESSAGES_MAX) {
        bytes += bytes_of(message);
        if bytes > BYTES_MAX && !batch.is_empty() {
            break;
        }
        batch.push((number, message.clone()));
    }
    batch
}

/// What is small in a message is counted as so many bytes.
const SMALL: usize = 128;

/// Roughly how many bytes a message travels in: what can be large is counted.
fn bytes_of(message: &Message) -> usize {
    match message {
        Message::Record { record, materials }
        | Message::MoveRequest {
            record, materials, ..
        } => bytes_of_record(record) + SMALL * materials.len(),
        Message::ImportedRecord {
            record, imports, ..
        } => {
            let descriptions = imports.descriptions.values();
            let descriptions: usize = descriptions.map(|text| SMALL + text.len()).sum();
            bytes_of_record(record) + descriptions
        }
        Message::Confirmation { materials, .. } => SMALL + 32 * materials.len(),
        Message::Identity(news) => news.identity.as_ref().map_or(SMALL, bytes_of_identity),
        Message::Tombstone { .. } | Message::MoveAnswer { .. } | Message::ImportReport { .. } => {
            SMALL
        }
    }
}

fn bytes_of_identity(identity: &Identity) -> usize {
    let policy = |policy: &StoredPolicy| policy.text().len();
    let named = |policies: &BTreeMap<String, StoredPolicy>| -> usize {
        policies.values().map(|each| SMALL + policy(each)).sum()
    };
    let tagged = |tags: &BTreeMap<String, String>| -> usize {
        let tags = tags.iter();
        tags.map(|(name, value)| name.len() + value.len()).sum()
    };
    let parts = match identity {
        Identity::Account(_) | Identity::SessionKey(_) => 0,
        Identity::User(user) => {
            let boundary = user.boundary.as_ref().map_or(0, policy);
            named(&user.policies) + boundary + tagged(&user.tags)
        }
        Identity::Role(role) => {
            let boundary = role.boundary.as_ref().map_or(0, policy) + policy(&role.trust);
            named(&role.policies) + boundary + tagged(&role.tags)
        }
    };
    SMALL + SMALL * identity.access_keys().len() + parts
}

fn bytes_of_record(record: &FamilyRecord) -> usize {
    let entry = |entry: &keyrum_state::Entry| {
        let initial = entry.initial.as_deref();
        let initial = initial.map_or(0, |initial| {
            let tags = initial.tags.iter();
            let tags: usize = tags.map(|(name, value)| name.len() + value.len()).sum();
            let policy = initial.policy.as_deref().map_or(0, str::len);
            initial.description.len() + policy + tags
        });
        SMALL + 32 * entry.confirmed.len() + initial
    };
    let roster: usize = record.roster.values().map(entry).sum();
    SMALL + roster + 32 * record.materials.len()
}

/// From one sealing of a secret to another.
trait Reseal {
    /// Of one version of a key's material.
    fn material(
        &mut self,
        key: KeyRef,
        id: MaterialId,
        sealed: &SealedMaterial,
    ) -> Result<SealedMaterial, String>;

    /// Of what belongs to an identity, bound to a name.
    fn identity(&mut self, name: &str, sealed: &SealedMaterial) -> Result<SealedMaterial, String>;
}

/// From the own domain key to another Region's key.
struct Wrapper<'i> {
    inner: &'i Inner,
    crossing: Crossing<'i>,
    pinned: RegionPublicKey,
    /// Made when there is something to wrap.
    wrapping: Option<Wrapping>,
}

impl Wrapper<'_> {
    fn wrapping(&mut self) -> Result<&Wrapping, String> {
        if self.wrapping.is_none() {
            let entropy = &*self.inner.world.entropy;
            let made = self.pinned.wrapping(self.crossing, entropy);
            self.wrapping = Some(made.map_err(|error| error.to_string())?);
        }
        Ok(self.wrapping.as_ref().expect("it was just made"))
    }
}

impl Reseal for Wrapper<'_> {
    fn material(
        &mut self,
        key: KeyRef,
        id: MaterialId,
        sealed: &SealedMaterial,
    ) -> Result<SealedMaterial, String> {
        let (inner, name) = (self.inner, name_of(key));
        let secret = inner.keyring.unseal(name, id, sealed);
        let secret = secret.map_err(|error| format!("material of {}: {error}", key.id))?;
        let wrapping = self.wrapping()?;
        Ok(wrapping.wrap(name, id, &secret, &*inner.world.entropy))
    }

    fn identity(&mut self, name: &str, sealed: &SealedMaterial) -> Result<SealedMaterial, String> {
        let inner = self.inner;
        let secret = inner.keyring.unseal_identity(name, sealed);
        let secret = secret.map_err(|error| format!("{name}: {error}"))?;
        let wrapping = self.wrapping()?;
        Ok(wrapping.wrap_identity(name, &secret, &*inner.world.entropy))
    }
}

/// From the own key for other Regions to the own domain key.
struct Unwrapper<'i> {
    inner: &'i Inner,
    unwrapping: Unwrapping<'i>,
}

impl Reseal for Unwrapper<'_> {
    fn material(
        &mut self,
        key: KeyRef,
        id: MaterialId,
        sealed: &SealedMaterial,
    ) -> Result<SealedMaterial, String> {
        let (inner, name) = (self.inner, name_of(key));
        let secret = self.unwrapping.unwrap(name, id, sealed);
        let secret = secret.map_err(|error| format!("material of {}: {error}", key.id))?;
        let entropy = &*inner.world.entropy;
        Ok(inner.keyring.seal(name, id, &secret, entropy))
    }

    fn identity(&mut self, name: &str, sealed: &SealedMaterial) -> Result<SealedMaterial, String> {
        let secret = self.unwrapping.unwrap_identity(name, sealed);
        let secret = secret.map_err(|error| format!("{name}: {error}"))?;
        let entropy = &*self.inner.world.entropy;
        Ok(self.inner.keyring.seal_identity(name, &secret, entropy))
    }
}

/// The message with other sealings of the same secrets.
fn resealed(message: &Message, reseal: &mut dyn Reseal) -> Result<Message, String> {
    let mut message = message.clone();
    for (of, sealed) in message.secrets_mut() {
        *sealed = match of {
            SealedAs::Material(key, material) => reseal.material(key, material, sealed)?,
            SealedAs::Identity(name) => reseal.identity(&name, sealed)?,
        };
    }
    Ok(message)
}

pub(crate) fn name_of(key: KeyRef) -> KeyName {
    KeyName {
        account: key.account,
        key: key.id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tombstone(number: u64) -> (u64, Arc<Message>) {
        let key = KeyRef {
            account: "111122223333".parse().unwrap(),
            id: keyrum_types::KeyId::multi_region([1; 16]),
        };
        let incarnation = Default::default();
        (number, Arc::new(Message::Tombstone { key, incarnation }))
    }

    /// Catches messages that do not gather, and those that wait for more although their Region has to catch
    /// up, or a caller of a single change waits for them.
    #[test]
    fn messages_gather_after_a_delivery_of_several() {
        let start = Instant::now();
        let mut gathering = Gathering::default();
        assert_eq!(gathering.until(start), None);
        gathering.begin(start, GATHER_MESSAGES, true);
        assert_eq!(gathering.until(start), Some(start + GATHER));
        assert_eq!(gathering.until(start + GATHER), None);
        gathering.begin(start, MESSAGES_MAX, false);
        assert_eq!(gathering.until(start), None, "more are waiting already");
        gathering.begin(start, GATHER_MESSAGES, true);
        gathering.begin(start, GATHER_MESSAGES - 1, true);
        assert_eq!(gathering.until(start), None, "few");
    }

    /// Catches a delivery without bound, an order that is lost, and one large message that never
    /// goes.
    #[test]
    fn batches_are_bounded() {
        let waiting: Vec<_> = (1..=1000).map(tombstone).collect();
        let batch = first_batch(waiting.iter().map(|(number, message)| (*number, message)));
        let numbers: Vec<_> = batch.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (1..=MESSAGES_MAX as u64).collect::<Vec<_>>());

        let large = |number| {
            let (_, small) = tombstone(number);
            let materials = (0..=255).map(|byte| keyrum_types::MaterialId([byte; 32]));
            let large = Message::Confirmation {
                key: small.key().unwrap(),
                incarnation: Default::default(),
                materials: materials.collect(),
            };
            (number, Arc::new(large))
        };
        let waiting: Vec<_> = (1..=1000).map(large).collect();
        let batch = first_batch(waiting.iter().map(|(number, message)| (*number, message)));
        let bytes: usize = batch.iter().map(|(_, message)| bytes_of(message)).sum();
        assert!((BYTES_MAX / 2..=BYTES_MAX).contains(&bytes), "{bytes}");
    }

    /// Catches an age that starts anew with every message, or goes on after the oldest is gone.
    #[tokio::test(start_paused = true)]
    async fn the_oldest_message_has_its_age() {
        let couriers = Couriers::new(None);
        let to: Region = "eu-west-1".parse().unwrap();
        let age = || {
            let notes = couriers.notes();
            let (_, since) = notes[&to].sightings.front().unwrap();
            since.elapsed().as_secs()
        };
        let channel = |sent| Channel {
            sent,
            ..Channel::default()
        };
        couriers.sight(&to, 1, channel(2));
        sleep(Duration::from_secs(5)).await;
        couriers.sight(&to, 1, channel(4));
        assert_eq!(age(), 5);
        couriers.sight(&to, 3, channel(4));
        assert_eq!(age(), 0);
    }
}
