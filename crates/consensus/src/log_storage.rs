//! openraft's log and vote on `keyrum-store`.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyrum_store::{LogRow, Store, StoreError};
use keyrum_types::NodeId;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::time::Instant;

use crate::codec;
use crate::peers::lock;
use crate::types::{Entry, LogId, TypeConfig, Vote};
use crate::world::{Blocking, spawn};

/// Most bytes of entries read at once, so that a lagging follower costs a bounded amount of
/// memory. At least one entry is read whatever its size.
const READ_BYTES_MAX: usize = 4 << 20;

/// Whom a node votes for, or follows, in which term: what it is about to keep, so that whoever asks hears of
/// it before any other node does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Promise(Arc<Mutex<Option<(u64, NodeId)>>>);

impl Promise {
    pub(crate) fn get(&self) -> Option<(u64, NodeId)> {
        *lock(&self.0)
    }

    fn set(&self, vote: &Vote) {
        let leader = &vote.leader_id;
        *lock(&self.0) = Some((leader.term, leader.node_id));
    }
}

/// The log and vote of one node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogStorage {
    store: Store,
    blocking: Blocking,
    promise: Promise,
    /// When the last of the syncs ends that a slow simulated disk has under way.
    slow_until: Option<Instant>,
}

impl LogStorage {
    pub(crate) fn new(store: Store, blocking: Blocking) -> Self {
        Self {
            store,
            blocking,
            promise: Promise::default(),
            slow_until: None,
        }
    }

    /// What this node promises from now on; openraft reads the vote that is kept before all else.
    pub(crate) fn promise(&self) -> Promise {
        self.promise.clone()
    }

    /// When a sync that begins now is to end if the simulated disk is slow: after those under way.
    fn late(&mut self) -> Option<Instant> {
        let wait = self.blocking.slowness();
        if wait.is_none() && self.slow_until.is_none() {
            return None;
        }
        let now = Instant::now();
        let under_way = self.slow_until.filter(|until| *until > now);
        let after = under_way.map(|until| until + Duration::from_millis(1));
        self.slow_until = after.max(wait.map(|wait| now + wait));
        self.slow_until
    }

    /// Runs a call of the store that waits for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, io::Error> {
        let store = self.store.clone();
        self.blocking
            .run(move || call(&store))
            .await
            .map_err(io::Error::other)
    }
}

fn decode_id(bytes: Option<Vec<u8>>) -> Result<Option<LogId>, io::Error> {
    Ok(bytes.map(|bytes| codec::decode(&bytes)).transpose()?)
}

impl RaftLogReader<TypeConfig> for LogStorage {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let from = match range.start_bound() {
            Bound::Included(&first) => first,
            Bound::Excluded(&before) => before + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(&last) => last + 1,
            Bound::Excluded(&after) => after,
            Bound::Unbounded => u64::MAX,
        };
        // Rows just written are in sled's cache: reading them here costs less than a thread hop.
        let rows = self
            .store
            .read_log(from, to, usize::MAX)
            .map_err(io::Error::other)?;
        rows.iter()
            .map(|row| codec::decode(&row.bytes).map_err(io::Error::from))
            .collect()
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        let bytes = self.store.vote().map_err(io::Error::other)?;
        let vote = bytes.map(|bytes| codec::decode(&bytes)).transpose()?;
        // Never back to what is kept, should one be under way.
        if let Some(vote) = &vote
            && self.promise.get().is_none()
        {
            self.promise.set(vote);
        }
        Ok(vote)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let rows = self
            .store
            .read_log(start, end, READ_BYTES_MAX)
            .map_err(io::Error::other)?;
        rows.iter()
            .map(|row| codec::decode(&row.bytes).map_err(io::Error::from))
            .collect()
    }
}

impl RaftLogStorage<TypeConfig> for LogStorage {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let purged = decode_id(self.store.purged_id())?;
        let last = decode_id(self.store.last_id())?;
        Ok(LogState {
            last_purged_log_id: purged,
            last_log_id: last.max(purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        // Before it is kept, and so before anybody is told.
        self.promise.set(vote);
        let bytes = codec::encode(vote);
        self.blocking(move |store| store.save_vote(bytes)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let bytes = committed.map(|id| codec::encode(&id));
        self.store.save_committed(bytes).map_err(io::Error::other)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        decode_id(self.store.committed().map_err(io::Error::other)?)
    }

    async fn append<I>(&mut self, entries: I, done: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut last = None;
        let rows = entries
            .into_iter()
            .map(|entry| {
                let id = entry.log_id();
                last = Some(id);
                LogRow {
                    index: id.index,
                    bytes: codec::encode(&entry).into(),
                }
            })
            .collect();
        let Some(last) = last else {
            done.io_completed(Ok(()));
            return Ok(());
        };
        let late = self.late();
        let done = Box::new(move |result: Result<(), StoreError>| {
            let result = result.map_err(io::Error::other);
            match late {
                None => done.io_completed(result),
                Some(until) => drop(spawn(async move {
                    tokio::time::sleep_until(until).await;
                    done.io_completed(result);
                })),
            }
        });
        self.store.append(rows, codec::encode(&last), done);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let index = last.map(|id| id.index);
        let id = last.map(|id| codec::encode(&id));
        self.blocking(move |store| store.truncate_after(index, id))
            .await
    }

    async fn purge(&mut self, through: LogId) -> Result<(), io::Error> {
        let id = codec::encode(&through);
        self.blocking(move |store| {
            let last = store.log_range().last;
            if last.is_some_and(|last| through.index <= last) {
                store.purge_through(through.index, id)
            } else {
                // A snapshot that is ahead of the log was installed.
                store.reset_log_to_snapshot(through.index, id)
            }
        })
        .await
    }
}
