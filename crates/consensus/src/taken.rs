//! What became of the requests that one node took: the part of the history that its audit trail is
//! written from.
//!
//! A node that was away for long catches up by snapshot, and its own history has a hole then. What
//! its requests led to is in the other nodes' histories; it asks them.

use std::time::Duration;

use keyrum_store::LogRow;
use keyrum_types::{LogIndex, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::group::{Group, Inner, StopReason};
use crate::machine::HistoryEntry;
use crate::peers::Kind;

/// Entries looked at in one go.
const ROWS: usize = 256;

/// How long another node may take to show a part of its history.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A part of the history, looked through for the requests of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// What its requests did, oldest first.
    pub entries: Vec<HistoryEntry>,
    /// All of the log from where it was asked for through this entry was looked at.
    pub through: LogIndex,
    /// Whether this node lacks what comes next, and a node that may have it does not answer.
    pub waits: bool,
    /// Entries that no node has in its history any more: the first, and the one after the last.
    pub lost: Option<(LogIndex, LogIndex)>,
}

/// A part of one node's history.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rows {
    begins: LogIndex,
    through: LogIndex,
    rows: Vec<(LogIndex, Vec<u8>)>,
}

impl Group {
    /// What requests that this node took did, in the log entries after `after`; a bounded number
    /// at a time. Waits for nothing: with nothing new, `through` is what was asked for. Entries that this
    /// node lacks are lost if no other has them, those that do not answer not counted unless `patient`.
    pub async fn taken_after(&self, after: LogIndex, patient: bool) -> Result<Taken, StopReason> {
        let failed = |reason: String| StopReason(reason);
        let own = rows_here(&self.inner, after + 1).await.map_err(failed)?;
        let mut rows = own;
        let mut lost = None;
        let wanted = after + 1;
        if rows.begins > wanted {
            let (found, all_answered) = self.rows_elsewhere(wanted, rows.begins).await;
            let reaches = found.as_ref().is_some_and(|found| found.begins <= wanted);
            if !reaches && !all_answered && patient {
                return Ok(Taken {
                    through: after,
                    waits: true,
                    ..Taken::default()
                });
            }
            rows = found.unwrap_or(rows);
            if !reaches {
                lost = Some((wanted, rows.begins));
            }
        }
        let mut taken = Taken {
            entries: Vec::new(),
            through: rows.through.max(after),
            waits: false,
            lost,
        };
        for (index, bytes) in rows.rows {
            let row = LogRow {
                index,
                bytes: bytes.into(),
            };
            let entry = HistoryEntry::of_node(&row, Some(self.node()));
            let entry = entry.map_err(|error| StopReason(error.to_string()))?;
            taken.entries.extend(entry);
        }
        Ok(taken)
    }

    /// What another node has of the entries before `before`, if any has some, and whether all were asked.
    async fn rows_elsewhere(&self, from: LogIndex, before: LogIndex) -> (Option<Rows>, bool) {
        let mut best: Option<Rows> = None;
        let mut all_answered = true;
        for node in self.inner.members() {
            if node == self.node() {
                continue;
            }
            let peer = self.inner.directory.requests(node);
            let rows: Rows = match peer.call(Kind::History, &from, ANSWER_TIMEOUT).await {
                Ok(rows) => rows,
                Err(_) => {
                    all_answered = false;
                    continue;
                }
            };
            if rows.through < from {
                // It has not come that far yet.
                all_answered = false;
                continue;
            }
            if rows.begins < before && best.as_ref().is_none_or(|best| rows.begins < best.begins) {
                best = Some(rows);
            }
        }
        // This node's own history goes on at `before`.
        let best = best.map(|mut rows| {
            rows.rows.retain(|(index, _)| *index < before);
            rows.through = rows.through.min(before - 1);
            rows
        });
        (best, all_answered)
    }

    /// This machine's time, moved ahead as far as the Region's clock was.
    pub fn shifted_now(&self) -> UnixMillis {
        let offset = &self.inner.shared.clock_offset_ms;
        let offset = offset.load(std::sync::atomic::Ordering::Relaxed);
        self.inner.world.clock.now().plus_ms(offset)
    }

    /// The index of the last entry in this node's history; 0 for none.
    pub fn history_ends(&self) -> LogIndex {
        self.inner.store.history_last().unwrap_or(0)
    }
}

/// A part of this node's history, from an entry on.
pub(crate) async fn rows_here(inner: &Inner, from: LogIndex) -> Result<Rows, String> {
    // Before the rows are read: all through this entry are there.
    let applied = *inner.shared.applied.borrow();
    let store = inner.store.clone();
    let read = move || {
        let begins = store.history_begins();
        let rows = store.read_history(from, ROWS)?;
        Ok::<_, keyrum_store::StoreError>((begins, rows))
    };
    let read = inner.world.blocking.run(read).await;
    let (begins, rows) = read.map_err(|error| error.to_string())?;
    let whole = rows.len() < ROWS;
    let last = rows.last().map_or(0, |row| row.index);
    let rows = rows.into_iter().map(|row| (row.index, row.bytes.to_vec()));
    Ok(Rows {
        begins,
        through: if whole { last.max(applied) } else { last },
        rows: rows.collect(),
    })
}
