//! The one writer of a store: takes requests in order, lets those that wait share a sync, and
//! keeps the high-water mark behind what is durable.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use keyrum_types::LogIndex;
use keyrum_types::planted::{self, Bug};

use crate::StoreError;
use crate::disk::{Folder, RowChange};
use crate::error::from_io;
use crate::journal::{self, Journal};
use crate::mark::{self, Mark, MarkFile};
use crate::recovery::{self, RARE, RECORD_PREFIX};
use crate::row::{self, Assembler, Table};
use crate::shared::Shared;
use crate::store::{AppendDone, LogRow};

/// Engine rows removed at a time, between groups; about 0.3 ms.
const SWEEP_ROWS: usize = 64;
/// Groups after which a slice is swept although requests wait.
const GROUPS_WITHOUT_SWEEP_MAX: u32 = 64;
/// How long no request comes until the engine gets what the journal has.
const QUIET: Duration = Duration::from_secs(1);
/// Requests that share a sync at most.
const GROUP_REQUESTS_MAX: usize = 4096;

/// What the writer is asked for. Checked against the log's range before it is queued.
pub(crate) enum Request {
    Append {
        rows: Vec<LogRow>,
        last_id: Vec<u8>,
    },
    Truncate {
        last: Option<(LogIndex, Vec<u8>)>,
    },
    Purge {
        index: LogIndex,
        id: Vec<u8>,
    },
    Reset {
        index: LogIndex,
        id: Vec<u8>,
    },
    Vote(Vec<u8>),
    Record {
        name: String,
        bytes: Vec<u8>,
    },
    CutHistory {
        begins: LogIndex,
    },
    /// Makes everything written so far durable, buffered history included.
    Flush,
    NoteSnapshot(LogIndex),
    Close,
}

/// A request with what to call when it is durable, or failed.
pub(crate) struct Queued {
    pub(crate) request: Request,
    pub(crate) done: AppendDone,
}

/// Answers to hand out once no lock is held.
pub(crate) type Answers = Vec<(AppendDone, Result<(), StoreError>)>;

pub(crate) struct Writer {
    folder: Arc<dyn Folder>,
    shared: Arc<Shared>,
    mark_file: MarkFile,
    journal: Journal,
    /// As on disk.
    mark: Mark,
    /// What the mark becomes with the next commit.
    next: Mark,
    rare_changed: bool,
    rows_unsynced: bool,
    /// Appended rows not yet given to the engine: neighbours are packed together.
    run: Vec<LogRow>,
    run_id: Vec<u8>,
    /// How many of them the journal has.
    journaled: usize,
    hand_over_bytes: usize,
    /// Whether removed rows may be left to sweep.
    sweep_log: bool,
    sweep_history: bool,
    waiting: Vec<AppendDone>,
    answers: Answers,
}

impl Writer {
    pub(crate) fn new(
        folder: Arc<dyn Folder>,
        shared: Arc<Shared>,
        mark_file: MarkFile,
        journal: Journal,
        mark: Mark,
        hand_over_bytes: usize,
    ) -> Self {
        Self {
            folder,
            shared,
            mark_file,
            journal,
            next: mark.clone(),
            mark,
            rare_changed: false,
            rows_unsynced: false,
            run: Vec::new(),
            run_id: Vec::new(),
            journaled: 0,
            hand_over_bytes,
            // A crash may have left some.
            sweep_log: true,
            sweep_history: true,
            waiting: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// The writer's thread: blocks while there is nothing to do, ends with `Close` or when the
    /// store is gone.
    pub(crate) fn run(mut self, requests: &mpsc::Receiver<Queued>) {
        let mut group = Vec::new();
        let mut groups_since_sweep = 0;
        loop {
            if self.has_sweeping() {
                match requests.try_recv() {
                    Ok(first) if groups_since_sweep < GROUPS_WITHOUT_SWEEP_MAX => group.push(first),
                    Ok(first) => {
                        self.sweep();
                        groups_since_sweep = 0;
                        group.push(first);
                    }
                    Err(mpsc::TryRecvError::Empty) => {
                        self.sweep();
                        groups_since_sweep = 0;
                        continue;
                    }
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            } else {
                match self.next_request(requests) {
                    Some(first) => group.push(first),
                    None => return,
                }
            }
            while group.len() < GROUP_REQUESTS_MAX
                && let Ok(next) = requests.try_recv()
            {
                group.push(next);
            }
            groups_since_sweep += 1;
            let closing = group
                .iter()
                .any(|queued| matches!(queued.request, Request::Close));
            let answers = self.group(group.drain(..));
            if closing {
                // Whoever waits for the close may open the folder at once.
                drop(self);
                answer(answers);
                return;
            }
            answer(answers);
            self.hand_over();
        }
    }

    /// Waits for a request; `None` when the store is gone. When none comes for a while, what the
    /// journal has is made durable in the engine.
    fn next_request(&mut self, requests: &mpsc::Receiver<Queued>) -> Option<Queued> {
        if self.journaled > 0 || self.rows_unsynced {
            match requests.recv_timeout(QUIET) {
                Ok(request) => return Some(request),
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    if let Err(error) = self.shared.check().and_then(|()| self.commit()) {
                        self.fail(error);
                    }
                }
            }
        }
        requests.recv().ok()
    }

    /// Handles requests that share a sync. The answers are for the caller to give.
    pub(crate) fn group(&mut self, requests: impl Iterator<Item = Queued>) -> Answers {
        let mut only_appends = true;
        for Queued { request, done } in requests {
            only_appends &= match &request {
                Request::Append { .. } => true,
                Request::Vote(_) => planted::is(Bug::VoteNotSynced),
                _ => false,
            };
            let outcome = self.shared.check().and_then(|()| self.handle(request));
            self.waiting.push(done);
            if let Err(error) = outcome {
                self.fail(error);
            }
        }
        let outcome = self.shared.check().and_then(|()| {
            if only_appends && self.journal_has_room() {
                self.commit_to_journal()
            } else {
                self.commit()
            }
        });
        if let Err(error) = outcome {
            self.fail(error);
        }
        std::mem::take(&mut self.answers)
    }

    /// Gives the engine what the journal has, if that is enough to be packed well. It is durable
    /// there with the next commit; until then the journal stays as it is.
    pub(crate) fn hand_over(&mut self) {
        let bytes: usize = self.run.iter().map(|row| row.bytes.len()).sum();
        if bytes >= self.hand_over_bytes
            && let Err(error) = self.shared.check().and_then(|()| self.write_run())
        {
            self.shared.poison(error);
        }
    }

    fn fail(&mut self, error: StoreError) {
        let error = self.shared.poison(error);
        self.run.clear();
        self.journaled = 0;
        let failed = self
            .waiting
            .drain(..)
            .map(|done| (done, Err(error.clone())));
        self.answers.extend(failed);
    }

    fn rows_error(&self, during: &'static str) -> impl Fn(std::io::Error) -> StoreError + use<> {
        let file = format!("{}/{}", self.folder.name(), self.folder.rows_file());
        move |error| from_io(file.clone(), during, &error)
    }

    fn apply(&mut self, changes: &[RowChange]) -> Result<(), StoreError> {
        if !changes.is_empty() {
            self.folder
                .apply(changes)
                .map_err(self.rows_error("writing rows"))?;
            self.rows_unsynced = true;
        }
        Ok(())
    }

    fn handle(&mut self, request: Request) -> Result<(), StoreError> {
        match request {
            Request::Append { mut rows, last_id } => {
                if !rows.is_empty() {
                    self.run.append(&mut rows);
                    self.run_id = last_id;
                }
                return Ok(());
            }
            Request::Vote(vote) => {
                self.next.rare.vote = Some(vote);
                self.rare_changed = true;
            }
            Request::Record { name, bytes } => self.put_record(&name, &bytes)?,
            Request::Truncate { last } => self.truncate(last)?,
            Request::Purge { index, id } => {
                self.write_run()?;
                // History up to here can no longer be written again from the log.
                self.shared.spill_history(&*self.folder)?;
                self.next.rare.purged = Some((index, id));
                self.rare_changed = true;
                self.sweep_log = true;
            }
            Request::Reset { index, id } => self.reset(index, id)?,
            Request::CutHistory { begins } => {
                self.shared.spill_history(&*self.folder)?;
                self.next.rare.history_begins = begins;
                self.rare_changed = true;
                self.sweep_history = true;
            }
            Request::Flush | Request::Close => {
                self.shared.spill_history(&*self.folder)?;
                self.rows_unsynced |= self.shared.history_written() != self.mark.history_last;
            }
            Request::NoteSnapshot(index) => {
                self.next.snapshot = self.next.snapshot.max(Some(index));
            }
        }
        Ok(())
    }

    fn put_record(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let key = row::named_key(&format!("{RECORD_PREFIX}{name}"));
        let found = self
            .folder
            .row_at_or_before(&key)
            .map_err(self.rows_error("reading"))?;
        if found.is_none_or(|(found, _)| found != key) {
            self.next.rare.records += 1;
        }
        let value = row::seal(&key, &[bytes]);
        self.apply(&[RowChange::Put { key, value }])?;
        // The version number that goes up with it makes a lost record show.
        self.rare_changed = true;
        Ok(())
    }

    /// Gives the engine the appended rows, neighbours packed together.
    fn write_run(&mut self) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (self.run.first(), self.run.last()) else {
            return Ok(());
        };
        let (first, last) = (first.index, last.index);
        if self.next.last.is_none() {
            self.next.origin = first;
        }
        self.journaled = 0;
        let mut changes = Vec::new();
        for block in row::pack(std::mem::take(&mut self.run), None, Some(&self.run_id)) {
            block.put(Table::Log, &mut changes);
        }
        self.apply(&changes)?;
        self.next.last = Some((last, std::mem::take(&mut self.run_id)));
        self.shared.written_through(last);
        Ok(())
    }

    fn journal_has_room(&self) -> bool {
        let rows = &self.run[self.journaled..];
        self.journal
            .fits(rows, self.run_id.len() + mark::ID_BYTES_MAX)
    }

    /// Makes the appended rows durable in the journal, then answers.
    fn commit_to_journal(&mut self) -> Result<(), StoreError> {
        let rows = &self.run[self.journaled..];
        if let Some(last) = rows.last() {
            let committed = self.shared.committed_within(Some(last.index));
            self.journal
                .write(rows, &self.run_id, committed.as_deref())
                .map_err(|e| journal::error(&*self.folder, "writing", &e))?;
            self.journaled = self.run.len();
        }
        self.answer_all();
        Ok(())
    }

    fn answer_all(&mut self) {
        self.answers
            .extend(self.waiting.drain(..).map(|done| (done, Ok(()))));
    }

    /// Makes everything so far durable in the engine, then the mark that says so, then answers.
    fn commit(&mut self) -> Result<(), StoreError> {
        self.write_run()?;
        if self.rare_changed {
            self.next.rare.sequence += 1;
            let key = row::named_key(RARE);
            let value = row::seal(&key, &[&self.next.rare.encode()]);
            self.apply(&[RowChange::Put { key, value }])?;
            self.rare_changed = false;
        }
        let history_written = self.shared.history_written();
        if self.rows_unsynced {
            self.folder
                .sync_rows()
                .map_err(self.rows_error("syncing the database"))?;
            self.rows_unsynced = false;
            self.next.history_last = history_written;
        }
        self.write_mark()?;
        self.shared.durable(&self.mark);
        self.answer_all();
        Ok(())
    }

    /// Writes and syncs the mark if it has changed; the engine has all that the journal has.
    fn write_mark(&mut self) -> Result<(), StoreError> {
        if self.next != self.mark {
            self.next.committed = self
                .shared
                .committed_within(self.next.last.as_ref().map(|l| l.0));
            self.next.sequence += 1;
            self.mark_file
                .write(&self.next)
                .map_err(|e| recovery::mark_error(&*self.folder, &e))?;
            self.mark = self.next.clone();
            self.journal.restart(self.mark.sequence);
        }
        Ok(())
    }

    fn truncate(&mut self, last: Option<(LogIndex, Vec<u8>)>) -> Result<(), StoreError> {
        self.commit()?;
        // With nothing left the log ends where it was purged.
        let last = last.or_else(|| self.next.rare.purged.clone());
        self.next.last = last.clone();
        self.write_mark()?;
        let mut changes = Vec::new();
        let (index, id) = (
            last.as_ref().map(|l| l.0),
            last.as_ref().map(|l| l.1.as_slice()),
        );
        recovery::cut_log(&*self.folder, index, id, &mut changes)?;
        self.apply(&changes)?;
        self.commit()
    }

    fn reset(&mut self, index: LogIndex, id: Vec<u8>) -> Result<(), StoreError> {
        self.shared.spill_history(&*self.folder)?;
        self.commit()?;
        if self
            .next
            .last
            .as_ref()
            .is_some_and(|(last, _)| *last > index)
        {
            // Rows after the new start: lowered before they go. Those before it are the
            // snapshot's now, so a crash here may take them along.
            self.next.last.clone_from(&self.next.rare.purged);
            self.write_mark()?;
            let mut changes = Vec::new();
            recovery::cut_log(&*self.folder, Some(index), Some(&id), &mut changes)?;
            self.apply(&changes)?;
        }
        self.next.rare.purged = Some((index, id.clone()));
        self.next.last = Some((index, id));
        self.rare_changed = true;
        self.sweep_log = true;
        self.commit()
    }

    fn has_sweeping(&self) -> bool {
        (self.sweep_log || self.sweep_history) && self.shared.check().is_ok()
    }

    /// Removes some of the rows that were purged or cut.
    pub(crate) fn sweep(&mut self) {
        if self.has_sweeping()
            && let Err(error) = self.sweep_slice()
        {
            self.shared.poison(error);
        }
    }

    fn sweep_slice(&mut self) -> Result<(), StoreError> {
        // The durable mark, not the next one: rows go after the mark says so.
        let rare = &self.mark.rare;
        let (table, keep_from) = if self.sweep_log {
            (
                Table::Log,
                rare.purged.as_ref().map_or(0, |(index, _)| index + 1),
            )
        } else {
            (Table::History, rare.history_begins)
        };
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let mut more = false;
        let mut assembler = Assembler::default();
        let mut damaged = None;
        self.folder
            .scan(&[table.prefix()], &mut |key, value| {
                let ours = row::parse_block_key(key)
                    .is_some_and(|(first, _)| first < keep_from && key[0] == table.prefix());
                more = ours && keys.len() >= SWEEP_ROWS;
                if !ours || more {
                    return false;
                }
                // A block of several parts has one record, so it goes as a whole.
                let goes = recovery::is_part_of_many(key, value).and_then(|many| {
                    Ok(many
                        || assembler
                            .push(key, value)?
                            .is_some_and(|b| b.last() < keep_from))
                });
                match goes {
                    Ok(true) => keys.push(key.to_vec()),
                    Ok(false) => {}
                    Err(_) => damaged = Some(row::key_words(key)),
                }
                goes == Ok(true)
            })
            .map_err(self.rows_error("reading rows to remove"))?;
        if let Some(row) = damaged {
            return Err(StoreError::Corrupt {
                file: format!("{}/{}", self.folder.name(), self.folder.rows_file()),
                row,
                what: "damaged while the store was open".into(),
            });
        }
        let changes: Vec<_> = keys
            .into_iter()
            .map(|key| RowChange::Remove { key })
            .collect();
        self.apply(&changes)?;
        if !more {
            if self.sweep_log {
                self.sweep_log = false;
            } else {
                self.sweep_history = false;
            }
            if !changes.is_empty() {
                self.folder
                    .sync_rows()
                    .map_err(self.rows_error("syncing the database"))?;
                self.rows_unsynced = false;
            }
        }
        Ok(())
    }
}

pub(crate) fn answer(answers: Answers) {
    for (done, outcome) in answers {
        done(outcome);
    }
}
