//! What a store's writer and its callers share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use keyrum_types::LogIndex;

use crate::StoreError;
use crate::disk::Folder;
use crate::error::from_io;
use crate::mark::{Mark, Named};
use crate::recovery;
use crate::row::{self, Assembler, Table};
use crate::store::LogRow;

/// What the writer and the callers of a store share.
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) rows_file: String,
    /// `None` once closed.
    pub(crate) folder: RwLock<Option<Arc<dyn Folder>>>,
    pub(crate) view: Mutex<View>,
    pub(crate) history: Mutex<History>,
    pub(crate) recent_bytes_max: usize,
}

pub(crate) struct View {
    pub(crate) failed: Option<StoreError>,
    pub(crate) purged: Option<Named>,
    /// Of the queued rows.
    pub(crate) last: Option<Named>,
    pub(crate) vote: Option<Vec<u8>>,
    pub(crate) history_begins: LogIndex,
    /// The last row the engine has.
    pub(crate) written: Option<LogIndex>,
    /// The newest rows, contiguous up to `last`; all that the engine does not have are here.
    pub(crate) recent: VecDeque<LogRow>,
    pub(crate) recent_bytes: usize,
    /// As the caller last gave it.
    pub(crate) committed: Option<Vec<u8>>,
    /// A committed id may be ahead of the rows that are durable here, so each goes into the mark
    /// only with the rows that were queued when it was given: covered, waiting, newest.
    pub(crate) committed_covered: Option<Vec<u8>>,
    pub(crate) committed_waiting: Option<(Option<LogIndex>, Option<Vec<u8>>)>,
    pub(crate) committed_newest: Option<(Option<LogIndex>, Option<Vec<u8>>)>,
}

/// Events not yet given to the engine: neighbours are packed together.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) pending: Vec<LogRow>,
    pub(crate) pending_bytes: usize,
    pub(crate) written: Option<LogIndex>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("no code panics while it holds this lock")
}

impl Shared {
    pub(crate) fn folder(&self) -> Result<Arc<dyn Folder>, StoreError> {
        let folder = self
            .folder
            .read()
            .expect("no code panics while it holds this lock");
        folder.clone().ok_or_else(|| StoreError::Closed {
            folder: self.name.clone(),
        })
    }

    /// Fails as everything does after the first failure.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        lock(&self.view).failed.clone().map_or(Ok(()), Err)
    }

    /// Notes a failure; returns the first one.
    pub(crate) fn poison(&self, error: StoreError) -> StoreError {
        lock(&self.view).failed.get_or_insert(error).clone()
    }

    pub(crate) fn rows_error(&self, during: &'static str) -> impl Fn(std::io::Error) -> StoreError {
        move |error| from_io(self.rows_file.clone(), during, &error)
    }

    pub(crate) fn corrupt(&self, key: &[u8], fault: &row::RowFault) -> StoreError {
        StoreError::Corrupt {
            file: self.rows_file.clone(),
            row: row::key_words(key),
            what: format!("{fault:?}, though it was whole when the store was opened"),
        }
    }

    /// The engine has all rows through `last` now.
    pub(crate) fn written_through(&self, last: LogIndex) {
        let mut view = lock(&self.view);
        view.written = Some(last);
        while view.recent_bytes > self.recent_bytes_max
            && view.recent.front().is_some_and(|row| row.index <= last)
        {
            let row = view.recent.pop_front().expect("it has a front");
            view.recent_bytes -= row.bytes.len();
        }
    }

    /// The mark on disk says this now.
    pub(crate) fn durable(&self, mark: &Mark) {
        let mut view = lock(&self.view);
        if view.vote != mark.rare.vote {
            view.vote.clone_from(&mark.rare.vote);
        }
        if view.purged != mark.rare.purged {
            view.purged.clone_from(&mark.rare.purged);
        }
        view.history_begins = mark.rare.history_begins;
    }

    pub(crate) fn history_written(&self) -> Option<LogIndex> {
        lock(&self.history).written
    }

    /// The newest committed id that names no row after `last`.
    pub(crate) fn committed_within(&self, last: Option<LogIndex>) -> Option<Vec<u8>> {
        let mut view = lock(&self.view);
        while let Some((queued, _)) = view.committed_waiting
            && queued <= last
        {
            view.committed_covered = view.committed_waiting.take().and_then(|(_, id)| id);
            view.committed_waiting = view.committed_newest.take();
        }
        view.committed_covered.clone()
    }

    /// Gives the engine the buffered history. Not yet durable.
    pub(crate) fn spill_history(&self, folder: &dyn Folder) -> Result<(), StoreError> {
        self.spill(&mut lock(&self.history), folder)
    }

    pub(crate) fn spill(
        &self,
        history: &mut History,
        folder: &dyn Folder,
    ) -> Result<(), StoreError> {
        let Some(last) = history.pending.last().map(|row| row.index) else {
            return Ok(());
        };
        let mut changes = Vec::new();
        let rows = std::mem::take(&mut history.pending);
        for block in row::pack(rows, history.written, None) {
            block.put(Table::History, &mut changes);
        }
        history.pending_bytes = 0;
        folder
            .apply(&changes)
            .map_err(self.rows_error("writing history"))?;
        history.written = Some(last);
        Ok(())
    }

    /// Rows of a table from `from` on until `take` says stop.
    pub(crate) fn read_rows(
        &self,
        table: Table,
        from: LogIndex,
        mut take: impl FnMut(LogRow) -> bool,
    ) -> Result<(), StoreError> {
        let folder = self.folder()?;
        let start =
            recovery::scan_start(&*folder, table, from).map_err(self.rows_error("reading rows"))?;
        let mut assembler = Assembler::default();
        let mut outcome = Ok(());
        let mut visit = |key: &[u8], value: &[u8]| -> Result<bool, row::RowFault> {
            let Some((first, _)) = row::parse_block_key(key) else {
                return Ok(false);
            };
            if key[0] != table.prefix() {
                return Ok(false);
            }
            // A purged record of several parts, perhaps half removed.
            if first < from && recovery::is_part_of_many(key, value)? {
                return Ok(true);
            }
            let Some(block) = assembler.push(key, value)? else {
                return Ok(true);
            };
            Ok(block
                .rows
                .into_iter()
                .filter(|row| row.index >= from)
                .all(&mut take))
        };
        folder
            .scan(&start, &mut |key, value| {
                visit(key, value).unwrap_or_else(|fault| {
                    outcome = Err(self.corrupt(key, &fault));
                    false
                })
            })
            .map_err(self.rows_error("reading rows"))?;
        outcome
    }
}

impl View {
    pub(crate) fn check_append(&self, rows: &[LogRow]) -> Result<(), StoreError> {
        let mut expected = self.last.as_ref().map(|(index, _)| index + 1);
        for row in rows {
            if expected.is_some_and(|expected| expected != row.index) {
                let (index, expected) = (row.index, expected.unwrap_or_default());
                return Err(StoreError::misuse(format!(
                    "cannot append row {index}: the next is {expected}"
                )));
            }
            expected = Some(row.index + 1);
        }
        Ok(())
    }
}
