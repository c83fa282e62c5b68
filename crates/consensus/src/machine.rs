//! openraft's state machine on `keyrum-state`: applies entries, gives views, keeps history, builds
//! and installs snapshots.

use std::collections::VecDeque;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use arc_swap::ArcSwapOption;
use futures_util::{Stream, StreamExt};
use keyrum_state::codec::{StateDecoder, encode_state};
use keyrum_state::{
    AUTHORIZATION_LEVEL, Applied, CallerDetails, Digest, Event, FEATURE_LEVEL_SUPPORTED, Proposal,
    RequestId, State,
};
use keyrum_store::{LogRow, SnapshotReader, Store, StoreError};
use keyrum_types::{AccountId, LogIndex, NodeId, Region, UnixMillis, byte_string};
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, Membership, OptionalSend};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::codec;
use crate::past::Past;
use crate::peers::lock;
use crate::types::{
    ApplyResult, LogId, Peer, Snapshot, SnapshotMeta, StoredMembership, TypeConfig,
};
use crate::world::Blocking;

/// Entries applied before readers get a turn and callers their answers; about half a millisecond.
const APPLIED_AT_ONCE: usize = 128;

/// How many of the latest digests are kept for comparison with other nodes.
const DIGESTS_KEPT: usize = 8192;

/// What a node's readers share with its state machine.
pub(crate) struct Shared {
    /// What is applied. Held while entries are, never across an await.
    live: Mutex<Live>,
    /// Whether entries are being applied.
    applying: AtomicBool,
    /// A clone of `live`, made by the first reader after a change: while nobody reads, entries
    /// change the maps in place instead of copying what a view still holds.
    view: ArcSwapOption<View>,
    /// The log index that `live` reflects, known before anybody can see any of it.
    index: AtomicU64,
    /// What eventual reads see instead, if they lag behind.
    pub(crate) past: OnceLock<Past>,
    /// The index of the last entry that readers may see; they wait on it.
    pub(crate) shown: watch::Sender<LogIndex>,
    /// The index of the last entry applied: told after `shown`, once history has it.
    pub(crate) applied: watch::Sender<LogIndex>,
    /// Counts when a message for another Region may have come to wait; couriers wait on it.
    pub(crate) outbox: watch::Sender<u64>,
    /// How many keys there are.
    pub(crate) keys: AtomicU64,
    /// Whether there are identities.
    pub(crate) identities: AtomicBool,
    /// How far the Region's clock was moved ahead, in milliseconds.
    pub(crate) clock_offset_ms: AtomicU64,
    digests: Mutex<VecDeque<(LogIndex, Digest)>>,
    /// Log index of the latest snapshot, 0 for none.
    pub(crate) snapshot_index: AtomicU64,
}

/// The state machine's own state.
pub(crate) struct Live {
    pub(crate) state: State,
    last_applied: Option<LogId>,
    membership: StoredMembership,
}

impl Live {
    /// The log index the state reflects.
    pub(crate) fn index(&self) -> LogIndex {
        self.last_applied.map_or(0, |id| id.index)
    }
}

/// `live`, while it is changed.
pub(crate) struct Changing<'s> {
    live: MutexGuard<'s, Live>,
    shared: &'s Shared,
}

impl Deref for Changing<'_> {
    type Target = Live;

    fn deref(&self) -> &Live {
        &self.live
    }
}

impl DerefMut for Changing<'_> {
    fn deref_mut(&mut self) -> &mut Live {
        &mut self.live
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        // The lock goes after this.
        self.shared.index.store(self.live.index(), Ordering::SeqCst);
        self.shared.applying.store(false, Ordering::Release);
    }
}

/// One consistent state, and the log index it reflects.
pub(crate) struct View {
    pub(crate) state: Arc<State>,
    pub(crate) index: LogIndex,
}

impl Shared {
    /// What is applied now. Entries wait while it is held.
    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        lock(&self.live)
    }

    /// The latest state, which later entries leave alone.
    pub(crate) fn view(&self) -> Arc<View> {
        if let Some(view) = self.view.load_full() {
            return view;
        }
        self.view_of(&self.live())
    }

    /// The latest state, but usually nothing while entries are being applied: for whoever can wait for them
    /// without a thread that others want too.
    pub(crate) fn view_at_once(&self) -> Option<Arc<View>> {
        let view = self.view.load_full();
        if view.is_none() && self.applying.load(Ordering::Acquire) {
            return None;
        }
        Some(view.unwrap_or_else(|| self.view()))
    }

    /// The log index that the latest state reflects. Nobody has been told of a later entry, or shown what it
    /// did, by this node.
    pub(crate) fn index(&self) -> LogIndex {
        self.index.load(Ordering::SeqCst)
    }

    /// The view of `live`, which is held: nothing changes.
    pub(crate) fn view_of(&self, live: &Live) -> Arc<View> {
        // Another reader may have been here.
        if let Some(view) = self.view.load_full() {
            return view;
        }
        let view = Arc::new(View {
            state: Arc::new(live.state.clone()),
            index: live.index(),
        });
        self.view.store(Some(view.clone()));
        view
    }

    /// `live`, to change it.
    pub(crate) fn changing(&self) -> Changing<'_> {
        let live = self.live();
        self.applying.store(true, Ordering::Release);
        if let Some(past) = self.past.get() {
            past.keep(|| self.view_of(&live));
        }
        self.view.store(None);
        Changing { live, shared: self }
    }

    /// The digest right after an entry, if it is still known.
    pub(crate) fn digest_at(&self, index: LogIndex) -> Option<Digest> {
        let digests = lock(&self.digests);
        let first = digests.front()?.0;
        let offset = usize::try_from(index.checked_sub(first)?).ok()?;
        digests
            .get(offset)
            .filter(|(at, _)| *at == index)
            .map(|(_, digest)| *digest)
    }

    fn note_figures(&self, live: &Live) {
        let state = &live.state;
        self.keys.store(state.total_keys(), Ordering::Relaxed);
        self.identities
            .store(state.identity_book().is_some(), Ordering::Relaxed);
        self.clock_offset_ms
            .store(state.clock_offset_ms(), Ordering::Relaxed);
    }

    fn note_digest(&self, index: LogIndex, digest: Digest) {
        let mut digests = lock(&self.digests);
        if digests.back().is_some_and(|(last, _)| last + 1 != index) {
            // A snapshot was installed: what came before cannot be compared in sequence.
            digests.clear();
        }
        if digests.len() == DIGESTS_KEPT {
            digests.pop_front();
        }
        digests.push_back((index, digest));
    }
}

/// One log entry's doings, as history keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The entry's position in the Region's log.
    pub index: LogIndex,
    /// The Region's clock when it was applied.
    pub at: UnixMillis,
    /// The caller's ARN; `None` for what the Region did by itself.
    pub caller: Option<String>,
    /// The command's name.
    pub command: String,
    /// What it did.
    pub events: Vec<Event>,
    /// Whose request it came from; `None` in entries of Regions below feature level 4.
    pub origin: Option<HistoryOrigin>,
}

/// Whose request a history entry came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryOrigin {
    /// The proposal: names the node that took the request.
    pub request: RequestId,
    /// The caller's account; `None` for what the Region did by itself.
    pub account: Option<AccountId>,
    /// What is known of the caller and of the request; without the session's policies.
    pub details: CallerDetails,
}

/// The part of a history entry that is stored; the row's key is the index. Rows of format
/// [`codec::WITH_ORIGIN`] have a [`HistoryOrigin`] behind it.
#[derive(Serialize, Deserialize)]
struct HistoryRow {
    at: UnixMillis,
    caller: Option<String>,
    command: String,
    #[serde(with = "byte_string")]
    events: Vec<u8>,
}

impl HistoryEntry {
    pub(crate) fn from_row(row: &LogRow) -> Result<Self, io::Error> {
        let entry = Self::of_node(row, None)?;
        Ok(entry.expect("asked for entries of any node"))
    }

    /// The entry, unless its request was taken by another node than `by`.
    pub(crate) fn of_node(row: &LogRow, by: Option<NodeId>) -> Result<Option<Self>, io::Error> {
        let (stored, origin) = match codec::format_of(&row.bytes) {
            Some(codec::WITH_ORIGIN) => {
                let (stored, origin): (HistoryRow, HistoryOrigin) =
                    codec::decode_as(codec::WITH_ORIGIN, &row.bytes)?;
                (stored, Some(origin))
            }
            _ => (codec::decode(&row.bytes)?, None),
        };
        let taken_by = origin.as_ref().map(|origin| origin.request.node);
        if by.is_some() && taken_by != by {
            return Ok(None);
        }
        let events =
            keyrum_state::codec::decode_events(&stored.events).map_err(io::Error::other)?;
        let HistoryRow {
            at,
            caller,
            command,
            ..
        } = stored;
        Ok(Some(Self {
            index: row.index,
            at,
            caller,
            command,
            events,
            origin,
        }))
    }
}

/// The row of what a proposal did. Regions below feature level 4 may have members that read the first
/// format only.
fn history_bytes(circumstances: Circumstances, events: &[Event]) -> Vec<u8> {
    let Circumstances {
        proposal,
        at,
        level,
    } = circumstances;
    let (caller, account, mut details) = match proposal.caller {
        Some(caller) => (Some(caller.arn), Some(caller.account), caller.details),
        None => (None, None, CallerDetails::default()),
    };
    let row = HistoryRow {
        at,
        command: proposal.command.name().to_owned(),
        caller,
        events: keyrum_state::codec::encode_events(events),
    };
    if level < AUTHORIZATION_LEVEL {
        return codec::encode(&row);
    }
    // They say what the caller was allowed, not what was done.
    details.session_policies.clear();
    let origin = HistoryOrigin {
        request: proposal.request,
        account,
        details,
    };
    codec::encode_as(codec::WITH_ORIGIN, &(row, origin))
}

/// The state machine of one node.
pub(crate) struct Machine {
    shared: Arc<Shared>,
    store: Store,
    blocking: Blocking,
    history_rows_max: Option<u64>,
}

/// What a snapshot's file says about it.
#[derive(Serialize, Deserialize)]
struct StoredMeta {
    meta: SnapshotMeta,
    digest: Digest,
    /// Whether it came from a peer: then this node's history has a hole before it.
    received: bool,
}

impl Machine {
    /// Opens the state at the latest snapshot; openraft replays the log after it.
    pub(crate) fn open(
        region: &Region,
        store: Store,
        blocking: Blocking,
        history_rows_max: Option<u64>,
    ) -> Result<(Self, Arc<Shared>), io::Error> {
        let mut state = State::new(region.clone());
        let mut last_applied = None;
        let mut membership = StoredMembership::default();
        if let Some(mut reader) = store.latest_snapshot().map_err(io::Error::other)? {
            let stored: StoredMeta = codec::decode(reader.meta())?;
            state = read_state(&mut reader)?;
            // The digest is recomputed while decoding; a file that was written from a damaged
            // memory differs here, and from the other nodes'.
            if state.digest() != stored.digest {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "the snapshot at index {} has digest {}, its header says {}; stop using \
                         this folder: remove the node from its group and add a new one",
                        stored.meta.last_log_id.map_or(0, |id| id.index),
                        state.digest(),
                        stored.digest
                    ),
                ));
            }
            last_applied = stored.meta.last_log_id;
            membership = stored.meta.last_membership;
            let next = last_applied.map_or(0, |id| id.index + 1);
            if stored.received && store.history_last().is_none_or(|last| last < next) {
                // As `install_snapshot` does, in case the node ended before it got there.
                store.cut_history_before(next).map_err(io::Error::other)?;
            }
        }
        let index = last_applied.map_or(0, |id| id.index);
        let (digest, keys) = (state.digest(), state.total_keys());
        let identities = AtomicBool::new(state.identity_book().is_some());
        let clock_offset_ms = AtomicU64::new(state.clock_offset_ms());
        let shared = Arc::new(Shared {
            live: Mutex::new(Live {
                state,
                last_applied,
                membership,
            }),
            applying: AtomicBool::new(false),
            view: ArcSwapOption::empty(),
            index: AtomicU64::new(index),
            past: OnceLock::new(),
            shown: watch::Sender::new(index),
            applied: watch::Sender::new(index),
            outbox: watch::Sender::new(0),
            keys: AtomicU64::new(keys),
            identities,
            clock_offset_ms,
            digests: Mutex::new(VecDeque::new()),
            snapshot_index: AtomicU64::new(index),
        });
        shared.note_digest(index, digest);
        let machine = Self {
            shared: shared.clone(),
            store,
            blocking,
            history_rows_max,
        };
        Ok((machine, shared))
    }

    /// Applies entries and gives each its answer, for whoever waits, and what history is to keep.
    fn apply_all(&self, entries: Vec<Decoded>) -> Result<(LogIndex, Vec<Done>), io::Error> {
        let mut done = Vec::with_capacity(entries.len());
        let mut sent = false;
        let mut live = self.shared.changing();
        for Decoded {
            id,
            payload,
            responder,
        } in entries
        {
            let mut circumstances = None;
            let result = match payload {
                Payload::Blank => None,
                Payload::Proposal(proposal) => {
                    let applied = apply_proposal(&mut live.state, &proposal)?;
                    sent |= applied.outcome.iter().flatten().any(sends);
                    circumstances = Some(Circumstances {
                        proposal: *proposal,
                        at: live.state.clock(),
                        level: live.state.feature_level(),
                    });
                    Some(applied)
                }
                Payload::Membership(membership) => {
                    live.membership = StoredMembership::new(Some(id), membership);
                    None
                }
            };
            live.last_applied = Some(id);
            self.shared.note_digest(id.index, live.state.digest());
            done.push(Done {
                index: id.index,
                circumstances,
                responder,
                result: ApplyResult(result),
            });
        }
        self.shared.note_figures(&live);
        if sent {
            self.shared.outbox.send_modify(|count| *count += 1);
        }
        Ok((live.index(), done))
    }
}

/// Whether an event may leave a message for another Region.
fn sends(event: &Event) -> bool {
    matches!(
        event,
        Event::KeyReplicated { .. }
            | Event::FamilyChanged { .. }
            | Event::MessagesSent { .. }
            | Event::IdentityPut { .. }
            | Event::IdentityDeleted { .. }
            | Event::IdentitiesShared { .. }
    )
}

/// An entry, read before readers have to wait for it.
struct Decoded {
    id: LogId,
    payload: Payload,
    responder: Option<ApplyResponder<TypeConfig>>,
}

enum Payload {
    Blank,
    Proposal(Box<Proposal>),
    Membership(Membership<NodeId, Peer>),
}

impl Decoded {
    fn of((entry, responder): EntryResponder<TypeConfig>) -> Result<Self, io::Error> {
        let payload = match entry.payload {
            EntryPayload::Blank => Payload::Blank,
            EntryPayload::Normal(proposal) => {
                let proposal = keyrum_state::codec::decode_proposal(&proposal.0);
                Payload::Proposal(Box::new(proposal.map_err(io::Error::other)?))
            }
            EntryPayload::Membership(membership) => Payload::Membership(membership),
        };
        Ok(Self {
            id: entry.log_id,
            payload,
            responder,
        })
    }
}

/// What became of an entry, with whom to tell on this node.
struct Done {
    index: LogIndex,
    circumstances: Option<Circumstances>,
    responder: Option<ApplyResponder<TypeConfig>>,
    result: ApplyResult,
}

/// What an entry's history is made of, beside its events.
struct Circumstances {
    proposal: Proposal,
    /// The Region's clock and feature level then.
    at: UnixMillis,
    level: u32,
}

impl Done {
    /// What history keeps of it; nothing of what did nothing.
    fn history(&mut self) -> Option<LogRow> {
        let circumstances = self.circumstances.take()?;
        let applied = self.result.0.as_ref()?;
        let events = applied.outcome.as_ref().ok()?;
        if applied.repeated || events.is_empty() {
            return None;
        }
        Some(LogRow {
            index: self.index,
            bytes: history_bytes(circumstances, events).into(),
        })
    }
}

fn apply_proposal(state: &mut State, proposal: &Proposal) -> Result<Applied, io::Error> {
    let applied = keyrum_state::apply(state, proposal);
    if state.feature_level() > FEATURE_LEVEL_SUPPORTED {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "the Region's feature level is {}, this program knows {FEATURE_LEVEL_SUPPORTED}; \
                     nothing is lost, start this node with a newer keyrum",
                state.feature_level()
            ),
        ));
    }
    Ok(applied)
}

fn read_state(reader: &mut SnapshotReader) -> Result<State, io::Error> {
    let mut decoder = StateDecoder::new();
    while let Some(chunk) = reader.next_chunk().map_err(io::Error::other)? {
        decoder.push(&chunk).map_err(io::Error::other)?;
    }
    decoder.finish().map_err(io::Error::other)
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotSource;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let live = self.shared.live();
        Ok((live.last_applied, live.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        loop {
            let mut batch = Vec::new();
            while batch.len() < APPLIED_AT_ONCE
                && let Some(entry) = entries.next().await.transpose()?
            {
                batch.push(Decoded::of(entry)?);
            }
            if batch.is_empty() {
                return Ok(());
            }
            let (index, mut done) = self.apply_all(batch)?;
            self.shared.shown.send_replace(index);
            // History first: whoever has the answer finds the event.
            let history: Vec<LogRow> = done.iter_mut().filter_map(Done::history).collect();
            if !history.is_empty() {
                self.store.put_history(history).map_err(io::Error::other)?;
            }
            self.shared.applied.send_replace(index);
            for Done {
                responder, result, ..
            } in done
            {
                if let Some(responder) = responder {
                    responder.send(result);
                }
            }
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let live = self.shared.live();
        Builder {
            state: live.state.clone(),
            meta: SnapshotMeta {
                last_log_id: live.last_applied,
                last_membership: live.membership.clone(),
            },
            shared: self.shared.clone(),
            store: self.store.clone(),
            blocking: self.blocking,
            history_rows_max: self.history_rows_max,
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotSource,
    ) -> Result<(), io::Error> {
        let state = match snapshot {
            SnapshotSource::Received(state) => *state,
            SnapshotSource::Stored(_) => read_state(&mut snapshot.open()?.2)?,
        };
        let builder = Builder {
            state,
            meta: meta.clone(),
            shared: self.shared.clone(),
            store: self.store.clone(),
            blocking: self.blocking,
            history_rows_max: self.history_rows_max,
        };
        let index = meta.last_log_id.map_or(0, |id| id.index);
        builder.write(true).await?;
        // What happened between is in the snapshot's state but not in this node's history.
        self.store
            .cut_history_before(index + 1)
            .map_err(io::Error::other)?;
        let replaced = {
            let mut live = self.shared.changing();
            self.shared.note_digest(index, builder.state.digest());
            live.last_applied = meta.last_log_id;
            live.membership = meta.last_membership.clone();
            let replaced = std::mem::replace(&mut live.state, builder.state);
            self.shared.note_figures(&live);
            replaced
        };
        self.shared.shown.send_replace(index);
        self.shared.applied.send_replace(index);
        self.shared.outbox.send_modify(|count| *count += 1);
        // Not while readers wait: it may be large.
        drop(replaced);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let Some(reader) = self.store.latest_snapshot().map_err(io::Error::other)? else {
            return Ok(None);
        };
        let stored: StoredMeta = codec::decode(reader.meta())?;
        let snapshot = SnapshotSource::Stored(self.store.clone());
        Ok(Some(Snapshot {
            meta: stored.meta,
            snapshot,
        }))
    }
}

/// Where a snapshot's bytes are.
pub(crate) enum SnapshotSource {
    /// In this node's latest snapshot file; read when it is sent.
    Stored(Store),
    /// Decoded as it came from a peer.
    Received(Box<State>),
}

impl SnapshotSource {
    /// Opens the latest snapshot, with what its own file says about it: it may be newer than the
    /// one that was asked for.
    pub(crate) fn open(&self) -> Result<(SnapshotMeta, Digest, SnapshotReader), io::Error> {
        let Self::Stored(store) = self else {
            return Err(io::Error::other(
                "a received snapshot is installed, not sent",
            ));
        };
        let latest = store.latest_snapshot().map_err(io::Error::other)?;
        let reader = latest.ok_or_else(|| io::Error::other("the snapshot is gone"))?;
        let stored: StoredMeta = codec::decode(reader.meta())?;
        Ok((stored.meta, stored.digest, reader))
    }
}

/// Writes one state, taken at one index, to a snapshot file while the machine goes on.
pub(crate) struct Builder {
    state: State,
    meta: SnapshotMeta,
    shared: Arc<Shared>,
    store: Store,
    blocking: Blocking,
    history_rows_max: Option<u64>,
}

impl Builder {
    async fn write(&self, received: bool) -> Result<(), io::Error> {
        let (state, store) = (self.state.clone(), self.store.clone());
        let meta = self.meta.clone();
        let index = meta.last_log_id.map_or(0, |id| id.index);
        let rows_max = self.history_rows_max;
        let write = move || -> Result<(), io::Error> {
            let digest = state.recompute_digest();
            if digest != state.digest() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "this node's memory is damaged: the state's digest is {digest}, it should \
                         be {}; nothing acknowledged is lost, start the node again",
                        state.digest()
                    ),
                ));
            }
            let header = codec::encode(&StoredMeta {
                meta,
                digest,
                received,
            });
            let fail = |error: StoreError| io::Error::other(error);
            store
                .write_snapshot(index, &header, &mut encode_state(&state))
                .map_err(fail)?;
            store.remove_old_snapshots(index).map_err(fail)?;
            if let Some(rows_max) = rows_max {
                store
                    .cut_history_before((index + 1).saturating_sub(rows_max))
                    .map_err(fail)?;
            }
            Ok(())
        };
        self.blocking.run(write).await?;
        self.shared.snapshot_index.store(index, Ordering::Release);
        Ok(())
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotSource;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        self.write(false).await?;
        Ok(Snapshot {
            meta: self.meta.clone(),
            snapshot: SnapshotSource::Stored(self.store.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use keyrum_state::{Caller, Command};

    use super::*;

    fn proposal(region: &Region) -> Proposal {
        let mut caller = Caller::root(region, "111122223333".parse().unwrap());
        caller.details.request = [7; 16];
        caller.details.session_policies = vec!["{}".to_owned()];
        Proposal {
            request: RequestId {
                node: 2,
                boot: 1,
                sequence: 0,
            },
            caller: Some(caller),
            now: UnixMillis(1),
            command: Command::AdvanceClock { by_ms: 1 },
        }
    }

    /// Catches history of earlier programs that cannot be read any more, rows that they could not read in a
    /// Region where they may still run, and an entry that is told by another node than took its request.
    #[test]
    fn history_rows_have_two_formats() {
        let region: Region = "us-east-1".parse().unwrap();
        let mut state = State::new(region.clone());
        let events = vec![Event::ClockAdvanced { by_ms: 1 }];
        let row = |state: &State| LogRow {
            index: 5,
            bytes: history_bytes(
                Circumstances {
                    proposal: proposal(&region),
                    at: state.clock(),
                    level: state.feature_level(),
                },
                &events,
            )
            .into(),
        };
        let old = row(&state);
        assert_eq!(codec::format_of(&old.bytes), Some(1));
        let entry = HistoryEntry::from_row(&old).unwrap();
        assert_eq!(
            (entry.index, &entry.events, &entry.origin),
            (5, &events, &None)
        );
        assert_eq!(
            entry.caller.as_deref(),
            Some("arn:aws:iam::111122223333:root")
        );
        assert_eq!(HistoryEntry::of_node(&old, Some(2)).unwrap(), None);

        let raise = Proposal {
            caller: None,
            command: Command::RaiseFeatureLevel {
                level: AUTHORIZATION_LEVEL,
            },
            ..proposal(&region)
        };
        keyrum_state::apply(&mut state, &raise).outcome.unwrap();
        let new = row(&state);
        let entry = HistoryEntry::of_node(&new, Some(2)).unwrap().unwrap();
        let origin = entry.origin.unwrap();
        assert_eq!((origin.request.node, origin.details.request), (2, [7; 16]));
        assert_eq!(origin.account, "111122223333".parse().ok());
        assert!(origin.details.session_policies.is_empty());
        assert_eq!(HistoryEntry::of_node(&new, Some(1)).unwrap(), None);
        assert_eq!(HistoryEntry::from_row(&new).unwrap().events, events);
    }
}
