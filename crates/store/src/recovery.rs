//! Opening a folder: decides whether what is there is all that was acknowledged.
//!
//! A crash may leave more than the mark speaks of, never less: rows that were synced before their
//! mark was, or only part of a write that nobody was told about. Whole writes are kept, partial
//! ones removed. Anything else refuses.

use keyrum_types::LogIndex;

use crate::StoreError;
use crate::disk::{Folder, RowChange};
use crate::error::from_io;
use crate::journal::{self, Journal, Record};
use crate::mark::{self, Mark, MarkFile, Named, Rare};
use crate::row::{self, Assembler, Block, RowFault, Table};
use crate::snapshot::{self, SnapshotReader};
use crate::store::LogRow;

/// The name of the row that holds [`Rare`].
pub(crate) const RARE: &str = "rare";
/// In front of the names of the caller's small records.
pub(crate) const RECORD_PREFIX: &str = "record/";

/// What opening found, already consistent and durable.
pub(crate) struct Recovered {
    pub(crate) mark_file: MarkFile,
    pub(crate) journal: Journal,
    pub(crate) mark: Mark,
    pub(crate) history_last: Option<LogIndex>,
}

/// Where errors are said to be.
struct Place<'a> {
    folder: &'a dyn Folder,
    file: String,
}

impl Place<'_> {
    fn corrupt(&self, row: impl Into<String>, what: impl Into<String>) -> StoreError {
        StoreError::Corrupt {
            file: self.file.clone(),
            row: row.into(),
            what: what.into(),
        }
    }

    fn fault(&self, key: &[u8], fault: RowFault) -> StoreError {
        let row = row::key_words(key);
        match fault {
            RowFault::Damaged(what) => self.corrupt(row, what),
            RowFault::Format(found) => StoreError::OtherFormat {
                file: self.file.clone(),
                row,
                found,
                supported: row::FORMAT,
            },
        }
    }

    fn below(&self, row: &str, marked: String, found: String) -> StoreError {
        StoreError::BelowHighWaterMark {
            file: self.file.clone(),
            row: row.into(),
            marked,
            found,
        }
    }

    fn io(&self, during: &str, error: &std::io::Error) -> StoreError {
        from_io(self.file.clone(), during, error)
    }

    /// Visits each row from `from` on until `visit` fails.
    fn scan(
        &self,
        from: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let mut outcome = Ok(());
        self.folder
            .scan(from, &mut |key, value| match visit(key, value) {
                Ok(more) => more,
                Err(error) => {
                    outcome = Err(error);
                    false
                }
            })
            .map_err(|e| self.io("reading all rows", &e))?;
        outcome
    }
}

pub(crate) fn recover(folder: &dyn Folder, journal_bytes: usize) -> Result<Recovered, StoreError> {
    let place = Place {
        folder,
        file: format!("{}/{}", folder.name(), folder.rows_file()),
    };
    let (mark_file, old) = open_mark(&place, journal_bytes)?;
    let mut mark = old.clone();
    mark.rare = newest_rare(&place, &old)?;
    let mut changes = Vec::new();
    // Tables in key order: history, log, named.
    let history_last = check_history(&place, &mark, &mut changes)?;
    check_log(&place, &mut mark, &mut changes)?;
    check_named(&place, &mut mark)?;
    check_snapshots(&place, &mut mark)?;
    if history_last > mark.history_last {
        mark.history_last = history_last;
    }
    if !mark.journal {
        Journal::create(folder, journal_bytes)?;
        mark.journal = true;
    }
    let (mut journal, records) = Journal::open(folder, old.sequence)?;
    replay(&place, records, &mut mark, &mut changes)?;
    if !changes.is_empty() || mark != old {
        // The mark may only speak of rows that are durable.
        folder
            .apply(&changes)
            .map_err(|e| place.io("completing or removing what a crash left", &e))?;
        folder.sync_rows().map_err(|e| place.io("syncing", &e))?;
        mark.sequence += 1;
        mark_file.write(&mark).map_err(|e| mark_error(folder, &e))?;
        journal.restart(mark.sequence);
    }
    Ok(Recovered {
        mark_file,
        journal,
        history_last: mark.history_last,
        mark,
    })
}

pub(crate) fn mark_error(folder: &dyn Folder, error: &std::io::Error) -> StoreError {
    from_io(
        format!("{}/{}", folder.name(), mark::FILE),
        "writing the high-water mark",
        error,
    )
}

fn open_mark(place: &Place<'_>, journal_bytes: usize) -> Result<(MarkFile, Mark), StoreError> {
    if let Some(found) = MarkFile::open(place.folder)? {
        return Ok(found);
    }
    let mut rows = false;
    place.scan(&[], |_, _| {
        rows = true;
        Ok(false)
    })?;
    let snapshots = snapshot::list(place.folder).map_err(|e| place.io("listing snapshots", &e))?;
    if rows || !snapshots.is_empty() || Journal::is_used(place.folder)? {
        return Err(StoreError::Corrupt {
            file: format!("{}/{}", place.folder.name(), mark::FILE),
            row: "high-water mark".into(),
            what: "the file is missing though the folder has data".into(),
        });
    }
    Journal::create(place.folder, journal_bytes)?;
    MarkFile::create(place.folder)
}

/// Gives the engine the journal's rows that it does not have: all of them, or those of a write to
/// the engine that did not get through whole.
fn replay(
    place: &Place<'_>,
    records: Vec<Record>,
    mark: &mut Mark,
    changes: &mut Vec<RowChange>,
) -> Result<(), StoreError> {
    let mut rows: Vec<LogRow> = Vec::new();
    for record in records {
        let first = record.rows[0].index;
        let expected = mark.last.as_ref().map_or(first, |(last, _)| last + 1);
        if first > expected {
            return Err(StoreError::Corrupt {
                file: format!("{}/{}", place.folder.name(), journal::FILE),
                row: format!("log row {first}"),
                what: format!("rows are missing before it, from row {expected}"),
            });
        }
        mark.committed = record.committed;
        rows.extend(record.rows.into_iter().filter(|row| row.index >= expected));
        if let Some(last) = rows.last()
            && mark
                .last
                .as_ref()
                .is_none_or(|(index, _)| *index < last.index)
        {
            if mark.last.is_none() {
                mark.origin = first;
            }
            mark.last = Some((last.index, record.last_id));
        }
    }
    let last_id = mark.last.as_ref().map(|(_, id)| id.as_slice());
    for block in row::pack(rows, None, last_id) {
        block.put(Table::Log, changes);
    }
    Ok(())
}

/// The rarely changing part: the row's if it is newer than the mark's, never an older one.
fn newest_rare(place: &Place<'_>, mark: &Mark) -> Result<Rare, StoreError> {
    const ROW: &str = "vote and purge record";
    let key = row::named_key(RARE);
    let found = place
        .folder
        .row_at_or_before(&key)
        .map_err(|e| place.io("reading", &e))?;
    let marked = mark.rare.sequence;
    let Some((_, value)) = found.filter(|(found, _)| *found == key) else {
        if marked == 0 {
            return Ok(mark.rare.clone());
        }
        return Err(place.below(ROW, format!("version {marked}"), "none".into()));
    };
    let body = row::unseal(&key, &value).map_err(|fault| place.fault(&key, fault))?;
    let rare =
        Rare::decode(body).ok_or_else(|| place.corrupt(ROW, "its content does not parse"))?;
    if rare.sequence < marked {
        let found = format!("version {}", rare.sequence);
        return Err(place.below(ROW, format!("version {marked}"), found));
    }
    if rare.sequence == marked && rare != mark.rare {
        return Err(place.corrupt(ROW, "differs from the high-water mark's copy"));
    }
    Ok(rare)
}

/// Walks a table's blocks, from its first. Returns the keys of a last block that is incomplete.
///
/// Rows below `keep_from` may be half removed; they are only checked for damage.
fn walk_blocks(
    place: &Place<'_>,
    table: Table,
    keep_from: LogIndex,
    mut visit: impl FnMut(Block) -> Result<(), StoreError>,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut assembler = Assembler::default();
    let mut unfinished = Vec::new();
    place.scan(&[table.prefix()], |key, value| {
        if key.first() != Some(&table.prefix()) {
            return Ok(false);
        }
        if let Some((first, _)) = row::parse_block_key(key)
            && first < keep_from
            && assembler.unfinished().is_none()
            && is_part_of_many(key, value).map_err(|fault| place.fault(key, fault))?
        {
            return Ok(true);
        }
        match assembler
            .push(key, value)
            .map_err(|fault| place.fault(key, fault))?
        {
            None => unfinished.push(key.to_vec()),
            Some(block) => {
                unfinished.clear();
                visit(block)?;
            }
        }
        Ok(true)
    })?;
    Ok(unfinished)
}

/// Whether a row is one of several parts, and so of a block with a single record.
pub(crate) fn is_part_of_many(key: &[u8], value: &[u8]) -> Result<bool, RowFault> {
    let body = row::unseal(key, value)?;
    let count = body.get(..2).ok_or(RowFault::Damaged("too short"))?;
    Ok(u16::from_le_bytes([count[0], count[1]]) > 1)
}

fn remove_backwards(keys: Vec<Vec<u8>>, changes: &mut Vec<RowChange>) {
    changes.extend(keys.into_iter().rev().map(|key| RowChange::Remove { key }));
}

fn check_history(
    place: &Place<'_>,
    mark: &Mark,
    changes: &mut Vec<RowChange>,
) -> Result<Option<LogIndex>, StoreError> {
    let begins = mark.rare.history_begins;
    let mut last = None;
    let unfinished = walk_blocks(place, Table::History, begins, |block| {
        if block.last() < begins {
            return Ok(());
        }
        let whole = match last {
            Some(_) => block.previous == last,
            None => block.previous.is_none_or(|previous| previous < begins),
        };
        if !whole {
            let row = format!("history row {}", block.first());
            return Err(place.corrupt(row, "rows are missing before it"));
        }
        last = Some(block.last());
        Ok(())
    })?;
    remove_backwards(unfinished, changes);
    match mark.history_last {
        Some(marked) if marked >= begins && last < Some(marked) => {
            let found = last.map_or("none".into(), |last| format!("row {last}"));
            Err(place.below("history", format!("row {marked}"), found))
        }
        marked => Ok(last.max(marked)),
    }
}

fn check_log(
    place: &Place<'_>,
    mark: &mut Mark,
    changes: &mut Vec<RowChange>,
) -> Result<(), StoreError> {
    let purged = mark.rare.purged.clone();
    let keep_from = purged.as_ref().map_or(0, |(index, _)| index + 1);
    let mut covered: Option<LogIndex> = None;
    // The end of the last whole write.
    let mut whole: Option<Named> = None;
    let mut first = None;
    let unfinished = walk_blocks(place, Table::Log, keep_from, |block| {
        let gap =
            |row: LogIndex| place.corrupt(format!("log row {row}"), "rows are missing before it");
        if block.rows.len() as u64 != block.last() - block.first() + 1 {
            return Err(gap(block.last()));
        }
        if block.last() < keep_from {
            return Ok(());
        }
        let fits = match (covered, &purged) {
            (Some(covered), _) => block.first() == covered + 1,
            (None, Some(_)) => block.first() <= keep_from,
            (None, None) => mark.last.is_none() || block.first() == mark.origin,
        };
        if !fits {
            return Err(gap(block.first()));
        }
        first.get_or_insert(block.first());
        covered = Some(block.last());
        if let Some(id) = block.last_id.clone() {
            whole = Some((block.last(), id));
        }
        Ok(())
    })?;
    remove_backwards(unfinished, changes);
    if let Some((marked, _)) = &mark.last
        && *marked >= keep_from
        && covered < Some(*marked)
    {
        let found = covered.map_or("none".into(), |row| format!("row {row}"));
        return Err(place.below("log", format!("row {marked}"), found));
    }
    if mark.last.is_none()
        && let Some(first) = first
    {
        mark.origin = first;
    }
    // Beyond the last of these are only rows of a write that did not get through whole.
    let ends = [whole, mark.last.take(), purged];
    mark.last = ends.into_iter().flatten().max_by_key(|(index, _)| *index);
    match (&mark.last, covered) {
        (Some((last, id)), Some(covered)) if covered > *last => {
            cut_log(place.folder, Some(*last), Some(id), changes)
        }
        (None, Some(_)) => cut_log(place.folder, None, None, changes),
        _ => Ok(()),
    }
}

/// The changes that remove every log row after `last` (all for `None`), from the end backwards,
/// so that the log has no gap whatever part of them a crash leaves.
pub(crate) fn cut_log(
    folder: &dyn Folder,
    last: Option<LogIndex>,
    last_id: Option<&[u8]>,
    changes: &mut Vec<RowChange>,
) -> Result<(), StoreError> {
    let place = Place {
        folder,
        file: format!("{}/{}", folder.name(), folder.rows_file()),
    };
    let start = log_scan_start(folder, last.unwrap_or(0)).map_err(|e| place.io("reading", &e))?;
    let mut keys = Vec::new();
    let mut shorter = None;
    let mut straddling = Assembler::default();
    place.scan(&start, |key, value| {
        if key.first() != Some(&Table::Log.prefix()) {
            return Ok(false);
        }
        let (first, _) = row::parse_block_key(key)
            .ok_or_else(|| place.fault(key, RowFault::Damaged("its key does not parse")))?;
        if last.is_none_or(|last| first > last) {
            keys.push(key.to_vec());
        } else if is_part_of_many(key, value).map_err(|fault| place.fault(key, fault))? {
            // A single record, which stays as it is; where it was purged, parts may be gone.
        } else if let Some(mut block) = straddling
            .push(key, value)
            .map_err(|fault| place.fault(key, fault))?
            && last.is_some_and(|last| block.last() >= last)
        {
            block
                .rows
                .retain(|row| last.is_none_or(|last| row.index <= last));
            block.last_id = last_id.map(<[u8]>::to_vec);
            shorter = Some(block);
        }
        Ok(true)
    })?;
    remove_backwards(keys, changes);
    if let Some(block) = shorter {
        block.put(Table::Log, changes);
    }
    Ok(())
}

/// The key of the block that holds log row `index`, or the place where it would be.
pub(crate) fn log_scan_start(folder: &dyn Folder, index: LogIndex) -> std::io::Result<Vec<u8>> {
    scan_start(folder, Table::Log, index)
}

/// The key of the block of `table` that holds row `index`, or the place where it would be.
pub(crate) fn scan_start(
    folder: &dyn Folder,
    table: Table,
    index: LogIndex,
) -> std::io::Result<Vec<u8>> {
    let found = folder.row_at_or_before(&row::block_key(table, index, u16::MAX))?;
    let first = found
        .filter(|(key, _)| key.first() == Some(&table.prefix()))
        .and_then(|(key, _)| row::parse_block_key(&key))
        .map_or(index, |(first, _)| first);
    Ok(row::block_key(table, first, 0))
}

fn check_named(place: &Place<'_>, mark: &mut Mark) -> Result<(), StoreError> {
    let prefix = row::named_key(RECORD_PREFIX);
    let mut records = 0;
    // Keys sort as history, log, named; anything else is not ours.
    let mut rows = |key: &[u8], value: &[u8]| {
        row::unseal(key, value).map_err(|fault| place.fault(key, fault))?;
        if key.starts_with(&prefix) {
            records += 1;
        } else if key != row::named_key(RARE) {
            return Err(place.corrupt(row::key_words(key), "not a row of this program"));
        }
        Ok(true)
    };
    place.scan(&[Table::Log.prefix() + 1], &mut rows)?;
    if records < mark.rare.records {
        let marked = format!("{} of them", mark.rare.records);
        return Err(place.below("small named records", marked, records.to_string()));
    }
    Ok(())
}

fn check_snapshots(place: &Place<'_>, mark: &mut Mark) -> Result<(), StoreError> {
    snapshot::remove_leftovers(place.folder)
        .map_err(|e| place.io("removing an unfinished snapshot", &e))?;
    let latest = snapshot::list(place.folder)
        .map_err(|e| place.io("listing snapshots", &e))?
        .pop();
    if latest < mark.snapshot {
        let index = mark.snapshot.unwrap_or_default();
        return Err(StoreError::Corrupt {
            file: format!("{}/{}", place.folder.name(), snapshot::path(index)),
            row: "the whole file".into(),
            what: "missing".into(),
        });
    }
    if let Some(index) = latest {
        SnapshotReader::open(place.folder, index)?.verify()?;
    }
    mark.snapshot = latest;
    Ok(())
}
