//! The high-water mark: what must be in the folder when it is opened.
//!
//! A preallocated file with two slots, written in turn and in place, each with a sequence number
//! and a CRC32C; the valid slot with the higher number counts. It is written and synced after the
//! rows it speaks of were synced in the engine, and before anything but appends is acknowledged;
//! so it may lag behind the rows, never be ahead of them. Appends after it are in the
//! [journal](crate::journal). Where rows are to go (a truncation), it is lowered first.

use std::io;

use keyrum_types::LogIndex;

use crate::StoreError;
use crate::disk::{DiskFile, Folder};
use crate::error::from_io;
use crate::row::{Cursor, put_optional};

/// The file's name in the data folder.
pub(crate) const FILE: &str = "mark";
const NEW_FILE: &str = "mark.new";
const FORMAT: u8 = 2;
/// The format of folders that have no journal yet.
const FORMAT_WITHOUT_JOURNAL: u8 = 1;
/// Bytes of one slot: a disk's page, so that the two never share one.
const SLOT_BYTES: usize = 4096;
/// The longest identifier, vote or committed id, in bytes, that fits a slot with all the others.
pub(crate) const ID_BYTES_MAX: usize = 768;

/// An index with the caller's opaque name for it.
pub(crate) type Named = (LogIndex, Vec<u8>);

/// What changes rarely. It lives in a row of the engine as well, with a sequence number: a row
/// older than the mark's shows that the engine lost acknowledged changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rare {
    /// Goes up with every change, 0 for a new store.
    pub(crate) sequence: u64,
    pub(crate) vote: Option<Vec<u8>>,
    pub(crate) purged: Option<Named>,
    pub(crate) history_begins: LogIndex,
    /// How many small named records there are.
    pub(crate) records: u64,
}

impl Rare {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.history_begins.to_le_bytes());
        bytes.extend_from_slice(&self.records.to_le_bytes());
        put_optional(&mut bytes, self.vote.as_deref());
        put_named(&mut bytes, self.purged.as_ref());
        bytes
    }

    fn read(rest: &mut Cursor<'_>) -> Option<Self> {
        Some(Self {
            sequence: rest.u64()?,
            history_begins: rest.u64()?,
            records: rest.u64()?,
            vote: rest.optional()?.map(<[u8]>::to_vec),
            purged: take_named(rest)?,
        })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Cursor(bytes);
        let rare = Self::read(&mut rest)?;
        rest.0.is_empty().then_some(rare)
    }
}

/// The content of a slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Whether a journal goes with it; without one, since the folder is of an older version, one
    /// is made.
    pub(crate) journal: bool,
    /// Goes up with every write of the mark.
    pub(crate) sequence: u64,
    /// The index a log that was never purged begins with.
    pub(crate) origin: LogIndex,
    /// The last log row that the engine has durably.
    pub(crate) last: Option<Named>,
    /// The last history row that is durable.
    pub(crate) history_last: Option<LogIndex>,
    /// The newest snapshot.
    pub(crate) snapshot: Option<LogIndex>,
    /// What the caller last called committed; not a promise, only kept along.
    pub(crate) committed: Option<Vec<u8>>,
    pub(crate) rare: Rare,
}

impl Mark {
    fn encode(&self) -> Vec<u8> {
        let mut body = vec![if self.journal {
            FORMAT
        } else {
            FORMAT_WITHOUT_JOURNAL
        }];
        body.extend_from_slice(&self.sequence.to_le_bytes());
        body.extend_from_slice(&self.origin.to_le_bytes());
        put_named(&mut body, self.last.as_ref());
        for index in [self.history_last, self.snapshot] {
            put_optional(
                &mut body,
                index.map(u64::to_le_bytes).as_ref().map(|b| &b[..]),
            );
        }
        put_optional(&mut body, self.committed.as_deref());
        body.extend_from_slice(&self.rare.encode());
        let length = u32::try_from(body.len()).expect("a slot's content is below 4 KiB");
        let mut slot = Vec::with_capacity(SLOT_BYTES);
        slot.extend_from_slice(&[0; 4]);
        slot.extend_from_slice(&length.to_le_bytes());
        slot.extend_from_slice(&body);
        let crc = crc32c::crc32c(&slot[4..]);
        slot[..4].copy_from_slice(&crc.to_le_bytes());
        assert!(
            slot.len() <= SLOT_BYTES,
            "identifiers are limited to ID_BYTES_MAX"
        );
        slot.resize(SLOT_BYTES, 0);
        slot
    }

    /// `None` if the slot is damaged, torn or never written; the format version if it is another.
    fn decode(slot: &[u8]) -> Option<Result<Self, u8>> {
        let mut rest = Cursor(slot);
        let crc = rest.u32()?;
        let body = rest.bytes()?;
        if body.is_empty() || crc != crc32c::crc32c(&slot[4..8 + body.len()]) {
            return None;
        }
        let journal = match body[0] {
            FORMAT => true,
            FORMAT_WITHOUT_JOURNAL => false,
            other => return Some(Err(other)),
        };
        Self::read(&mut Cursor(&body[1..]), journal).map(Ok)
    }

    fn read(rest: &mut Cursor<'_>, journal: bool) -> Option<Self> {
        let mark = Self {
            journal,
            sequence: rest.u64()?,
            origin: rest.u64()?,
            last: take_named(rest)?,
            history_last: take_index(rest)?,
            snapshot: take_index(rest)?,
            committed: rest.optional()?.map(<[u8]>::to_vec),
            rare: Rare::read(rest)?,
        };
        rest.0.is_empty().then_some(mark)
    }
}

fn put_named(to: &mut Vec<u8>, named: Option<&Named>) {
    put_optional(
        to,
        named
            .map(|(index, _)| index.to_le_bytes())
            .as_ref()
            .map(|b| &b[..]),
    );
    put_optional(to, named.map(|(_, id)| &id[..]));
}

#[expect(
    clippy::option_option,
    reason = "absent and unreadable are different answers"
)]
fn take_index(rest: &mut Cursor<'_>) -> Option<Option<LogIndex>> {
    match rest.optional()? {
        None => Some(None),
        Some(bytes) => Some(Some(u64::from_le_bytes(bytes.try_into().ok()?))),
    }
}

#[expect(
    clippy::option_option,
    reason = "absent and unreadable are different answers"
)]
fn take_named(rest: &mut Cursor<'_>) -> Option<Option<Named>> {
    match (take_index(rest)?, rest.optional()?) {
        (None, None) => Some(None),
        (Some(index), Some(id)) => Some(Some((index, id.to_vec()))),
        _ => None,
    }
}

/// The open mark file.
pub(crate) struct MarkFile {
    file: Box<dyn DiskFile>,
}

impl MarkFile {
    /// Reads the mark; `None` if there is no file.
    pub(crate) fn open(folder: &dyn Folder) -> Result<Option<(Self, Mark)>, StoreError> {
        let path = || format!("{}/{FILE}", folder.name());
        let file = match folder.file(FILE, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(from_io(path(), "opening", &error)),
        };
        let mut slots = vec![0; 2 * SLOT_BYTES];
        let read = file
            .read_at(0, &mut slots)
            .map_err(|e| from_io(path(), "reading", &e))?;
        let length = file.len().map_err(|e| from_io(path(), "reading", &e))?;
        if read != slots.len() || length != slots.len() as u64 {
            return Err(StoreError::Corrupt {
                file: path(),
                row: "the whole file".into(),
                what: format!("{length} bytes long instead of {}", slots.len()),
            });
        }
        let mut newest: Option<Mark> = None;
        for slot in slots.chunks(SLOT_BYTES) {
            match Mark::decode(slot) {
                Some(Ok(mark)) if newest.as_ref().is_none_or(|n| n.sequence < mark.sequence) => {
                    newest = Some(mark);
                }
                Some(Ok(_)) | None => {}
                Some(Err(found)) => {
                    return Err(StoreError::OtherFormat {
                        file: path(),
                        row: "high-water mark".into(),
                        found,
                        supported: FORMAT,
                    });
                }
            }
        }
        let mark = newest.ok_or_else(|| StoreError::Corrupt {
            file: path(),
            row: "both slots".into(),
            what: "checksum differs".into(),
        })?;
        Ok(Some((Self { file }, mark)))
    }

    /// Creates the file with an empty mark. A crash leaves either no file or a valid one.
    pub(crate) fn create(folder: &dyn Folder) -> Result<(Self, Mark), StoreError> {
        let wrap =
            |error: io::Error| from_io(format!("{}/{FILE}", folder.name()), "creating", &error);
        let mark = Mark {
            journal: true,
            sequence: 1,
            ..Mark::default()
        };
        let file = folder.file(NEW_FILE, true).map_err(wrap)?;
        file.write_at(0, &mark.encode()).map_err(wrap)?;
        file.write_at(SLOT_BYTES as u64, &[0; SLOT_BYTES])
            .map_err(wrap)?;
        file.sync().map_err(wrap)?;
        folder.rename(NEW_FILE, FILE).map_err(wrap)?;
        folder.sync_names().map_err(wrap)?;
        Ok((Self { file }, mark))
    }

    /// Writes the mark into the slot that is not the newest one, durable on return.
    pub(crate) fn write(&self, mark: &Mark) -> io::Result<()> {
        // Creation writes sequence 1 into the first slot, so an even number goes to the second.
        let offset = if mark.sequence % 2 == 1 {
            0
        } else {
            SLOT_BYTES as u64
        };
        self.file.write_at(offset, &mark.encode())?;
        self.file.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Mark {
        let id = vec![5; ID_BYTES_MAX];
        Mark {
            journal: true,
            sequence: 8,
            origin: 1,
            last: Some((u64::MAX, id.clone())),
            history_last: Some(77),
            snapshot: Some(70),
            committed: Some(id.clone()),
            rare: Rare {
                sequence: 3,
                vote: Some(id.clone()),
                purged: Some((60, id)),
                history_begins: 2,
                records: 4,
            },
        }
    }

    /// Catches a slot too small for the largest identifiers, and fields lost on the way.
    #[test]
    fn slots_round_trip_at_their_limits() {
        for mark in [full(), Mark::default()] {
            let slot = mark.encode();
            assert_eq!(slot.len(), SLOT_BYTES);
            assert_eq!(Mark::decode(&slot), Some(Ok(mark)));
        }
    }

    /// Catches content that the slot's checksum leaves uncovered.
    #[test]
    fn any_flipped_byte_voids_a_slot() {
        let mark = full();
        let slot = mark.encode();
        for at in 0..slot.len() {
            let mut bad = slot.clone();
            bad[at] ^= 0x10;
            // The padding means nothing, so damage there may pass.
            assert!(
                Mark::decode(&bad).is_none() || Mark::decode(&bad) == Some(Ok(mark.clone())),
                "{at}"
            );
        }
    }
}
