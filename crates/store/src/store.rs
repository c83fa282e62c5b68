//! The store's public face.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, mpsc};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use keyrum_types::LogIndex;

use crate::StoreError;
use crate::disk::{Disk, Folder};
use crate::error::from_io;
use crate::mark::ID_BYTES_MAX;
use crate::recovery::{self, RECORD_PREFIX};
use crate::row::{self, PART_BYTES_MAX, RECORD_BYTES_MAX, Table};
use crate::shared::{History, Shared, View, lock};
use crate::snapshot::{self, SnapshotReader};
use crate::writer::{Queued, Request, Writer, answer};

/// One record of the log or of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// Its position in the Raft log.
    pub index: LogIndex,
    /// What the caller stored; at most 64 MiB. Clones share it.
    pub bytes: Bytes,
}

/// Where the log begins and ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogRange {
    /// The last purged row; the log begins after it.
    pub purged: Option<LogIndex>,
    /// The last row, queued ones included; the same as `purged` when no row is left.
    pub last: Option<LogIndex>,
}

/// What a store may use.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Memory for the row engine's pages, in bytes; 8 MiB by default.
    pub cache_bytes_max: u64,
    /// Memory for the newest log rows, in bytes, so that sending them to followers and applying
    /// them reads no disk; 1 MiB by default. Rows that only the journal has are kept beyond it.
    pub recent_bytes_max: usize,
    /// Size of a new folder's journal, in bytes: how much is appended before it is made durable in
    /// the row engine; 2 MiB by default. An append that does not fit goes there at once.
    pub journal_bytes: usize,
    /// How many bytes of rows that the journal has are handed over to the row engine together;
    /// 64 KiB by default. A full journal's at once would take processors away from others.
    pub hand_over_bytes: usize,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            cache_bytes_max: 8 << 20,
            recent_bytes_max: 1 << 20,
            journal_bytes: 2 << 20,
            hand_over_bytes: 64 << 10,
        }
    }
}

/// Called once what it was given for is durable, or is known to have failed.
///
/// It runs on the store's thread (in a simulation: inside the call), so it must be quick and must
/// not call a method of the store that waits.
pub type AppendDone = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A node's durable memory. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("folder", &self.inner.shared.name)
            .finish_non_exhaustive()
    }
}

struct Inner {
    shared: Arc<Shared>,
    writing: Writing,
}

/// How requests reach the writer.
enum Writing {
    Thread {
        requests: Mutex<Option<mpsc::Sender<Queued>>>,
        thread: Mutex<Option<JoinHandle<()>>>,
    },
    Inline(Mutex<Option<Box<Writer>>>),
}

fn check_id(id: &[u8]) -> Result<(), StoreError> {
    if id.len() > ID_BYTES_MAX {
        return Err(StoreError::misuse(format!(
            "an identifier has {} bytes, at most {ID_BYTES_MAX}",
            id.len()
        )));
    }
    Ok(())
}

fn check_rows(rows: &[LogRow]) -> Result<(), StoreError> {
    if let Some(row) = rows.iter().find(|row| row.bytes.len() > RECORD_BYTES_MAX) {
        let (index, bytes) = (row.index, row.bytes.len());
        return Err(StoreError::misuse(format!(
            "row {index} has {bytes} bytes, at most {RECORD_BYTES_MAX}"
        )));
    }
    Ok(())
}

impl Store {
    /// Opens or creates the folder and reads all of it: every checksum, the log without gaps, the
    /// newest snapshot, and nothing below the high-water mark. Refuses otherwise. Blocks.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        config: StoreConfig,
    ) -> Result<Self, StoreError> {
        let folder: Arc<dyn Folder> = Arc::from(disk.open(folder, config.cache_bytes_max)?);
        let recovered = recovery::recover(&*folder, config.journal_bytes)?;
        let mark = recovered.mark;
        let shared = Arc::new(Shared {
            name: folder.name(),
            rows_file: format!("{}/{}", folder.name(), folder.rows_file()),
            view: Mutex::new(View {
                failed: None,
                purged: mark.rare.purged.clone(),
                last: mark.last.clone(),
                vote: mark.rare.vote.clone(),
                history_begins: mark.rare.history_begins,
                written: mark.last.as_ref().map(|(index, _)| *index),
                recent: VecDeque::new(),
                recent_bytes: 0,
                committed: mark.committed.clone(),
                committed_covered: mark.committed.clone(),
                committed_waiting: None,
                committed_newest: None,
            }),
            history: Mutex::new(History {
                written: recovered.history_last,
                ..History::default()
            }),
            recent_bytes_max: config.recent_bytes_max,
            folder: RwLock::new(Some(folder.clone())),
        });
        let writer = Writer::new(
            folder,
            shared.clone(),
            recovered.mark_file,
            recovered.journal,
            mark,
            config.hand_over_bytes,
        );
        let writing = if disk.inline() {
            Writing::Inline(Mutex::new(Some(Box::new(writer))))
        } else {
            start_thread(writer, &shared)?
        };
        Ok(Self {
            inner: Arc::new(Inner { shared, writing }),
        })
    }

    /// The failure that stopped this store, if any. Every later call fails with the same.
    pub fn failure(&self) -> Option<StoreError> {
        self.inner.shared.check().err()
    }

    /// Where the log begins and ends, queued rows included.
    pub fn log_range(&self) -> LogRange {
        let view = self.view();
        LogRange {
            purged: view.purged.as_ref().map(|(index, _)| *index),
            last: view.last.as_ref().map(|(index, _)| *index),
        }
    }

    /// The id given with the last row; the purged id when no row is left.
    pub fn last_id(&self) -> Option<Vec<u8>> {
        self.view().last.as_ref().map(|(_, id)| id.clone())
    }

    /// The id given with the last purge.
    pub fn purged_id(&self) -> Option<Vec<u8>> {
        self.view().purged.as_ref().map(|(_, id)| id.clone())
    }

    /// The rows from `from` to before `to_exclusive` that the log has, queued ones included. Stops
    /// early once `bytes_max` is reached, but gives at least one row. Blocks for rows that are no
    /// longer in memory.
    pub fn read_log(
        &self,
        from: LogIndex,
        to_exclusive: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<LogRow>, StoreError> {
        let shared = &self.inner.shared;
        let mut rows: Vec<LogRow> = Vec::new();
        let mut bytes = 0;
        // The view is taken once: rows that leave memory meanwhile are in the engine by then.
        let (from, to, tail) = {
            let view = lock(&shared.view);
            view.failed.clone().map_or(Ok(()), Err)?;
            let begin = view.purged.as_ref().map_or(0, |(index, _)| index + 1);
            let end = view.last.as_ref().map_or(0, |(index, _)| index + 1);
            let (from, to) = (from.max(begin), to_exclusive.min(end));
            let tail_from = view.recent.front().map_or(to, |row| row.index).min(to);
            let skip = usize::try_from(from.saturating_sub(tail_from)).unwrap_or(usize::MAX);
            let mut tail = Vec::new();
            let mut tail_bytes = 0;
            let recent = view
                .recent
                .iter()
                .skip(skip)
                .take_while(|row| row.index < to);
            for row in recent {
                if !tail.is_empty() && tail_bytes + row.bytes.len() > bytes_max {
                    break;
                }
                tail_bytes += row.bytes.len();
                tail.push(row.clone());
            }
            (from, to, (tail_from, tail))
        };
        let (tail_from, tail) = tail;
        let mut full = false;
        if from < tail_from {
            shared.read_rows(Table::Log, from, |row| {
                if row.index >= tail_from {
                    return false;
                }
                full = !rows.is_empty() && bytes + row.bytes.len() > bytes_max;
                if full {
                    return false;
                }
                bytes += row.bytes.len();
                rows.push(row);
                true
            })?;
        }
        if !full {
            for row in tail {
                if !rows.is_empty() && bytes + row.bytes.len() > bytes_max {
                    break;
                }
                bytes += row.bytes.len();
                rows.push(row);
            }
        }
        debug_assert!(rows.iter().all(|row| row.index < to));
        let contiguous = rows
            .windows(2)
            .all(|pair| pair[0].index + 1 == pair[1].index);
        if !contiguous {
            let key = row::block_key(Table::Log, from, 0);
            return Err(shared.corrupt(&key, &row::RowFault::Damaged("rows are missing after it")));
        }
        Ok(rows)
    }

    /// Queues rows for the end of the log. `last_id` is the caller's name for the last of them.
    ///
    /// The rows can be read at once. `done` runs when they, and everything queued before, are
    /// durable; appends that wait at the same time share the sync. Does not block (in a simulation it does it all).
    pub fn append(&self, rows: Vec<LogRow>, last_id: Vec<u8>, done: AppendDone) {
        match self.queue_append(rows, last_id, done) {
            Ok(()) => {}
            Err((done, error)) => done(Err(error)),
        }
    }

    fn queue_append(
        &self,
        rows: Vec<LogRow>,
        last_id: Vec<u8>,
        done: AppendDone,
    ) -> Result<(), (AppendDone, StoreError)> {
        let inner = &self.inner;
        {
            // Held while sending, so that rows are queued in the log's order.
            let mut view = lock(&inner.shared.view);
            let checked = view.failed.clone().map_or(Ok(()), Err);
            let checked = checked
                .and_then(|()| check_rows(&rows))
                .and_then(|()| check_id(&last_id))
                .and_then(|()| view.check_append(&rows));
            if let Err(error) = checked {
                return Err((done, error));
            }
            if let Some(row) = rows.last() {
                view.last = Some((row.index, last_id.clone()));
            }
            for row in &rows {
                view.recent_bytes += row.bytes.len();
                view.recent.push_back(row.clone());
            }
            if let Writing::Thread { .. } = inner.writing {
                return inner.send(Queued {
                    request: Request::Append { rows, last_id },
                    done,
                });
            }
        }
        inner.send(Queued {
            request: Request::Append { rows, last_id },
            done,
        })
    }

    /// Removes every row after `index` (all rows for `None`). `last_id` names the row that is last
    /// then; it must be given with `index`. Durable on return. Blocks.
    pub fn truncate_after(
        &self,
        index: Option<LogIndex>,
        last_id: Option<Vec<u8>>,
    ) -> Result<(), StoreError> {
        check_id(last_id.as_deref().unwrap_or_default())?;
        let last = {
            let view = self.view();
            let last = match (index, last_id) {
                (Some(index), Some(id)) => Some((index, id)),
                (None, None) => None,
                _ => {
                    return Err(StoreError::misuse(
                        "a truncation needs both the index and its id".into(),
                    ));
                }
            };
            let purged = view.purged.as_ref().map(|(index, _)| *index);
            if last.is_some() && index < purged {
                return Err(StoreError::misuse(format!(
                    "cannot truncate to {index:?}: purged to {purged:?}"
                )));
            }
            if index >= view.last.as_ref().map(|(index, _)| *index) {
                return Ok(());
            }
            last
        };
        self.call(Request::Truncate { last: last.clone() })?;
        let mut view = self.view();
        let last = last.or_else(|| view.purged.clone());
        let index = last.as_ref().map(|(index, _)| *index);
        while view
            .recent
            .back()
            .is_some_and(|row| Some(row.index) > index)
        {
            let row = view.recent.pop_back().expect("it has a back");
            view.recent_bytes -= row.bytes.len();
        }
        view.last = last;
        view.written = view.written.min(index);
        Ok(())
    }

    /// Drops the rows through `index`; `id` names it. Returns when that is durable; the rows
    /// themselves go later, in slices, when nothing waits. Blocks.
    pub fn purge_through(&self, index: LogIndex, id: Vec<u8>) -> Result<(), StoreError> {
        check_id(&id)?;
        {
            let view = self.view();
            if view
                .purged
                .as_ref()
                .is_some_and(|(purged, _)| *purged >= index)
            {
                return Ok(());
            }
            if view.last.as_ref().is_none_or(|(last, _)| *last < index) {
                return Err(StoreError::misuse(format!(
                    "cannot purge through {index}: the log ends earlier"
                )));
            }
        }
        self.call(Request::Purge { index, id })?;
        let mut view = self.view();
        while view.recent.front().is_some_and(|row| row.index <= index) {
            let row = view.recent.pop_front().expect("it has a front");
            view.recent_bytes -= row.bytes.len();
        }
        Ok(())
    }

    /// Makes the log empty, beginning after `index`, which `id` names: after a snapshot that is
    /// ahead of the log was installed. Durable on return. Blocks.
    pub fn reset_log_to_snapshot(&self, index: LogIndex, id: Vec<u8>) -> Result<(), StoreError> {
        check_id(&id)?;
        if self
            .view()
            .purged
            .as_ref()
            .is_some_and(|(purged, _)| *purged > index)
        {
            return Err(StoreError::misuse(format!(
                "cannot begin after {index}: purged further already"
            )));
        }
        self.call(Request::Reset {
            index,
            id: id.clone(),
        })?;
        let mut view = self.view();
        view.recent.clear();
        view.recent_bytes = 0;
        view.last = Some((index, id));
        view.written = Some(index);
        Ok(())
    }

    /// Stores the vote. Durable on return. Blocks.
    pub fn save_vote(&self, bytes: Vec<u8>) -> Result<(), StoreError> {
        check_id(&bytes)?;
        self.call(Request::Vote(bytes))
    }

    /// The last vote stored.
    pub fn vote(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.shared.check()?;
        Ok(self.view().vote.clone())
    }

    /// Keeps what the caller knows to be committed. Costs no disk write of its own: it goes along
    /// with the next one that also covers the rows queued so far, so after a crash an older value
    /// may come back, never one ahead of the log.
    pub fn save_committed(&self, bytes: Option<Vec<u8>>) -> Result<(), StoreError> {
        check_id(bytes.as_deref().unwrap_or_default())?;
        self.inner.shared.check()?;
        let mut view = self.view();
        let queued = view.last.as_ref().map(|(index, _)| *index);
        view.committed.clone_from(&bytes);
        if view.committed_waiting.is_none() {
            view.committed_waiting = Some((queued, bytes));
        } else {
            view.committed_newest = Some((queued, bytes));
        }
        Ok(())
    }

    /// What `save_committed` last kept.
    pub fn committed(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.shared.check()?;
        Ok(self.view().committed.clone())
    }

    /// Adds events by log index, ascending. Buffered: durable with the next snapshot, purge or
    /// close at the latest. Rows at or before the last one present are taken to be the same as
    /// those, since replay writes the same, and skipped. May block for a moment.
    pub fn put_history(&self, rows: Vec<LogRow>) -> Result<(), StoreError> {
        check_rows(&rows)?;
        let shared = &self.inner.shared;
        shared.check()?;
        let folder = shared.folder()?;
        let mut history = lock(&shared.history);
        let mut last = history
            .pending
            .last()
            .map(|row| row.index)
            .or(history.written);
        for row in rows.into_iter() {
            if Some(row.index) <= last {
                continue;
            }
            last = Some(row.index);
            history.pending_bytes += row.bytes.len();
            history.pending.push(row);
        }
        if history.pending_bytes >= PART_BYTES_MAX || history.pending.len() >= 256 {
            shared
                .spill(&mut history, &*folder)
                .map_err(|error| shared.poison(error))?;
        }
        Ok(())
    }

    /// Up to `limit_rows` events from log index `from` on, buffered ones included. Blocks.
    pub fn read_history(
        &self,
        from: LogIndex,
        limit_rows: usize,
    ) -> Result<Vec<LogRow>, StoreError> {
        let shared = &self.inner.shared;
        shared.check()?;
        let from = from.max(self.history_begins());
        // What is buffered now; it may reach the engine while that is read.
        let pending: Vec<LogRow> = {
            let history = lock(&shared.history);
            let wanted = history.pending.iter().filter(|row| row.index >= from);
            wanted.take(limit_rows).cloned().collect()
        };
        let engine_to = pending.first().map_or(LogIndex::MAX, |row| row.index);
        let mut rows = Vec::new();
        if limit_rows > 0 {
            shared.read_rows(Table::History, from, |row| {
                let wanted = row.index < engine_to && rows.len() < limit_rows;
                if wanted {
                    rows.push(row);
                }
                wanted
            })?;
        }
        rows.extend(pending);
        rows.truncate(limit_rows);
        Ok(rows)
    }

    /// The log index that history begins with: 0, or where it was cut.
    pub fn history_begins(&self) -> LogIndex {
        self.view().history_begins
    }

    /// The log index of the last event stored, buffered ones included.
    pub fn history_last(&self) -> Option<LogIndex> {
        let history = lock(&self.inner.shared.history);
        history
            .pending
            .last()
            .map(|row| row.index)
            .or(history.written)
    }

    /// Drops the events before `index`. Returns when that is durable; the rows go later. Blocks.
    pub fn cut_history_before(&self, index: LogIndex) -> Result<(), StoreError> {
        if index <= self.history_begins() {
            return self.inner.shared.check();
        }
        self.call(Request::CutHistory { begins: index })
    }

    /// Writes a snapshot that covers the log through `name_index`, from any iterator of chunks.
    /// It becomes visible, durably, after all buffered history is durable too. Runs on the
    /// caller's thread, so appends go on meanwhile. Blocks.
    pub fn write_snapshot(
        &self,
        name_index: LogIndex,
        meta: &[u8],
        chunks: &mut dyn Iterator<Item = Vec<u8>>,
    ) -> Result<(), StoreError> {
        let shared = &self.inner.shared;
        shared.check()?;
        let folder = shared.folder()?;
        let file = format!("{}/{}", shared.name, snapshot::path(name_index));
        snapshot::write_temporary(&*folder, name_index, meta, chunks)
            .map_err(|e| shared.poison(from_io(file.clone(), "writing a snapshot", &e)))?;
        self.call(Request::Flush)?;
        snapshot::publish(&*folder, name_index)
            .map_err(|e| shared.poison(from_io(file, "publishing a snapshot", &e)))?;
        self.call(Request::NoteSnapshot(name_index))
    }

    /// The newest snapshot, checked as it is read. Blocks.
    pub fn latest_snapshot(&self) -> Result<Option<SnapshotReader>, StoreError> {
        let shared = &self.inner.shared;
        shared.check()?;
        let folder = shared.folder()?;
        let latest = snapshot::list(&*folder)
            .map_err(|e| from_io(shared.name.clone(), "listing snapshots", &e))?
            .pop();
        latest
            .map(|index| SnapshotReader::open(&*folder, index))
            .transpose()
    }

    /// Removes the snapshots older than `keep`, but never the newest. Blocks.
    pub fn remove_old_snapshots(&self, keep: LogIndex) -> Result<(), StoreError> {
        let shared = &self.inner.shared;
        shared.check()?;
        let folder = shared.folder()?;
        let wrap = |e: std::io::Error| {
            from_io(
                format!("{}/{}", shared.name, snapshot::FOLDER),
                "removing old snapshots",
                &e,
            )
        };
        let mut all = snapshot::list(&*folder).map_err(wrap)?;
        all.pop();
        for index in all.into_iter().filter(|index| *index < keep) {
            folder.remove(&snapshot::path(index)).map_err(wrap)?;
        }
        Ok(())
    }

    /// Stores a small record (at most 3,000 bytes) under a name, replacing what was there. Durable
    /// on return. Blocks.
    pub fn put_meta(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        if name.len() > 200 || bytes.len() > 3000 {
            return Err(StoreError::misuse(format!(
                "the record {name:?} is too large for a small record"
            )));
        }
        self.call(Request::Record {
            name: name.to_owned(),
            bytes: bytes.to_vec(),
        })
    }

    /// A small record. Blocks.
    pub fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let shared = &self.inner.shared;
        shared.check()?;
        let folder = shared.folder()?;
        let key = row::named_key(&format!("{RECORD_PREFIX}{name}"));
        let found = folder
            .row_at_or_before(&key)
            .map_err(shared.rows_error("reading rows"))?;
        let Some((_, value)) = found.filter(|(found, _)| *found == key) else {
            return Ok(None);
        };
        let body = row::unseal(&key, &value).map_err(|fault| shared.corrupt(&key, &fault))?;
        Ok(Some(body.to_vec()))
    }

    /// Makes everything durable, ends the store's thread and releases the folder. Later calls
    /// fail. Also happens when the last clone is dropped. Blocks; not to be called from `done`.
    pub fn close(&self) {
        self.inner.close();
    }

    fn view(&self) -> MutexGuard<'_, View> {
        lock(&self.inner.shared.view)
    }

    fn call(&self, request: Request) -> Result<(), StoreError> {
        self.inner.call(request)
    }
}

/// Starts the store's one thread; a simulation has none.
fn start_thread(writer: Writer, shared: &Shared) -> Result<Writing, StoreError> {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::Builder::new()
        .name("keyrum-store".into())
        .spawn(move || writer.run(&receiver))
        .map_err(|e| from_io(shared.name.clone(), "starting the store's thread", &e))?;
    Ok(Writing::Thread {
        requests: Mutex::new(Some(sender)),
        thread: Mutex::new(Some(thread)),
    })
}

impl Inner {
    /// Hands a request to the writer; gives `done` back if there is none any more.
    fn send(&self, queued: Queued) -> Result<(), (AppendDone, StoreError)> {
        let closed = || StoreError::Closed {
            folder: self.shared.name.clone(),
        };
        match &self.writing {
            Writing::Thread { requests, .. } => match &*lock(requests) {
                Some(sender) => sender
                    .send(queued)
                    .map_err(|mpsc::SendError(queued)| (queued.done, closed())),
                None => Err((queued.done, closed())),
            },
            Writing::Inline(writer) => {
                let mut writer = lock(writer);
                let Some(active) = writer.as_mut() else {
                    return Err((queued.done, closed()));
                };
                let closing = matches!(queued.request, Request::Close);
                let answers = active.group(std::iter::once(queued));
                active.hand_over();
                active.sweep();
                if closing {
                    *writer = None;
                }
                // Without the lock: a callback may call the store.
                drop(writer);
                answer(answers);
                Ok(())
            }
        }
    }

    fn call(&self, request: Request) -> Result<(), StoreError> {
        self.shared.check()?;
        let (reply, answer) = mpsc::sync_channel(1);
        // The receiver waits below; it cannot be gone.
        let done: AppendDone = Box::new(move |outcome| drop(reply.send(outcome)));
        self.send(Queued { request, done })
            .map_err(|(_, error)| error)?;
        answer.recv().unwrap_or_else(|_| {
            Err(StoreError::Closed {
                folder: self.shared.name.clone(),
            })
        })
    }

    fn close(&self) {
        // A failed store has nothing more to write, but its thread ends the same way.
        let (reply, closed) = mpsc::sync_channel(1);
        let done: AppendDone = Box::new(move |outcome| drop(reply.send(outcome)));
        if self
            .send(Queued {
                request: Request::Close,
                done,
            })
            .is_ok()
        {
            // Nobody to tell: a failure was told to whoever asked for the write.
            let _ = closed.recv();
        }
        if let Writing::Thread { requests, thread } = &self.writing {
            lock(requests).take();
            if let Some(thread) = lock(thread).take()
                && thread.thread().id() != thread::current().id()
            {
                let _ = thread.join();
            }
        }
        self.shared
            .folder
            .write()
            .expect("no code panics while it holds this lock")
            .take();
        let folder = self.shared.name.clone();
        self.shared.poison(StoreError::Closed { folder });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}
