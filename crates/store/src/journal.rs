//! The journal: appended rows that are durable before the engine has them.
//!
//! A group of appends is one write and one sync here, instead of the engine's flush, the sync of
//! its file and the high-water mark's. The engine gets the rows later, many at a time, and then
//! the journal begins anew. Each record carries the id of its last row, so a whole record is the
//! high-water mark of what it holds.
//!
//! A preallocated file, written in place. A record begins at a page and fills whole pages, so a
//! torn write never touches one that was acknowledged. It names the sequence number of the
//! [`Mark`](crate::mark::Mark) it follows: writing a mark voids all records before it. A record
//! that does not check is taken for a write that nobody was told of only if no later one follows.

use std::io;

use keyrum_types::planted::{self, Bug};

use crate::StoreError;
use crate::disk::{DiskFile, Folder};
use crate::error::from_io;
use crate::row::{Block, Cursor, put_optional};
use crate::store::LogRow;

/// The file's name in the data folder.
pub(crate) const FILE: &str = "journal";
const NEW_FILE: &str = "journal.new";
/// Records begin at multiples of this, in bytes: a disk's page.
pub(crate) const PAGE_BYTES: usize = 4096;
/// CRC32C, length of the body, mark's sequence, record's number.
const HEADER_BYTES: usize = 24;

/// What one write put into the journal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// What the caller last called committed.
    pub(crate) committed: Option<Vec<u8>>,
    /// At least one, consecutive.
    pub(crate) rows: Vec<LogRow>,
    /// The caller's name for the last row.
    pub(crate) last_id: Vec<u8>,
}

/// The open journal.
pub(crate) struct Journal {
    file: Box<dyn DiskFile>,
    /// Bytes it may fill.
    capacity: usize,
    /// The sequence number of the mark it follows.
    mark: u64,
    /// The number of the next record, counted from the mark.
    next: u64,
    /// Where that goes.
    offset: usize,
    /// The record being written; kept for its memory.
    buffer: Vec<u8>,
}

/// A failure with the journal's file.
pub(crate) fn error(folder: &dyn Folder, during: &str, error: &io::Error) -> StoreError {
    from_io(path(folder), during, error)
}

fn path(folder: &dyn Folder) -> String {
    format!("{}/{FILE}", folder.name())
}

fn to_page(bytes: usize) -> usize {
    bytes.next_multiple_of(PAGE_BYTES)
}

impl Journal {
    /// Creates the file, empty and as long as it gets; replaces one that is there. A crash leaves
    /// either the old one or the new.
    pub(crate) fn create(folder: &dyn Folder, capacity: usize) -> Result<(), StoreError> {
        let wrap = |e: io::Error| error(folder, "creating", &e);
        let file = folder.file(NEW_FILE, true).map_err(wrap)?;
        // Zeros are written, not only reserved: the first write to a reserved block would change
        // the file system's own records, which makes its sync slower.
        file.write_at(0, &vec![0; to_page(capacity.max(1))])
            .map_err(wrap)?;
        file.sync().map_err(wrap)?;
        folder.rename(NEW_FILE, FILE).map_err(wrap)?;
        folder.sync_names().map_err(wrap)
    }

    /// Whether there is a journal that was ever written to.
    pub(crate) fn is_used(folder: &dyn Folder) -> Result<bool, StoreError> {
        match read(folder) {
            Ok((_, bytes)) => Ok(bytes.iter().any(|byte| *byte != 0)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(error(folder, "reading", &e)),
        }
    }

    /// Opens the journal and reads the records that follow the mark with this sequence number.
    pub(crate) fn open(folder: &dyn Folder, mark: u64) -> Result<(Self, Vec<Record>), StoreError> {
        let corrupt = |row: String, what: &str| StoreError::Corrupt {
            file: path(folder),
            row,
            what: what.into(),
        };
        let (file, bytes) = match read(folder) {
            Ok(found) => found,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(corrupt("the whole file".into(), "missing"));
            }
            Err(e) => return Err(error(folder, "reading", &e)),
        };
        let mut journal = Self {
            file,
            capacity: bytes.len() / PAGE_BYTES * PAGE_BYTES,
            mark,
            next: 0,
            offset: 0,
            buffer: Vec::new(),
        };
        let mut records = Vec::new();
        while let Some((number, body)) = parse(&bytes[journal.offset..], mark)
            && number == journal.next
        {
            let record = decode(body)
                .ok_or_else(|| corrupt(format!("record {number}"), "its content does not parse"))?;
            records.push(record);
            journal.offset += to_page(HEADER_BYTES + body.len());
            journal.next += 1;
        }
        // Nothing is written after a record until that is durable: one that follows shows that
        // this one was acknowledged.
        let later = bytes[journal.offset..]
            .chunks(PAGE_BYTES)
            .enumerate()
            .find_map(|(page, _)| parse(&bytes[journal.offset + page * PAGE_BYTES..], mark));
        if let Some((number, _)) = later {
            return Err(corrupt(
                format!("record {} of mark {mark}", journal.next),
                &format!("checksum differs, though record {number} follows"),
            ));
        }
        // What was written or read whole is kept by Linux in pieces of up to as much, and each
        // write of a page then costs a walk through its piece: a quarter of all that a record's
        // write and sync cost. What is written from now on is kept in pieces of its own size.
        journal.file.forget();
        Ok((journal, records))
    }

    /// Whether a record with these rows fits what is left.
    pub(crate) fn fits(&self, rows: &[LogRow], ids: usize) -> bool {
        let rows: usize = rows.iter().map(|row| row.bytes.len() + 12).sum();
        self.offset + to_page(HEADER_BYTES + rows + ids + 64) <= self.capacity
    }

    /// Writes a record; it is durable on return.
    pub(crate) fn write(
        &mut self,
        rows: &[LogRow],
        last_id: &[u8],
        committed: Option<&[u8]>,
    ) -> io::Result<()> {
        let buffer = &mut self.buffer;
        buffer.clear();
        buffer.resize(HEADER_BYTES, 0);
        put_optional(buffer, committed);
        Block::encode_rows(buffer, None, Some(last_id), rows);
        let length = u32::try_from(buffer.len() - HEADER_BYTES).expect("it fits the journal");
        buffer[4..8].copy_from_slice(&length.to_le_bytes());
        buffer[8..16].copy_from_slice(&self.mark.to_le_bytes());
        buffer[16..HEADER_BYTES].copy_from_slice(&self.next.to_le_bytes());
        let crc = crc32c::crc32c(&buffer[4..]);
        buffer[..4].copy_from_slice(&crc.to_le_bytes());
        buffer.resize(to_page(buffer.len()), 0);
        self.file.write_at(self.offset as u64, buffer)?;
        if !planted::is(Bug::AcknowledgeBeforeSync) {
            self.file.sync()?;
        }
        self.offset += buffer.len();
        self.next += 1;
        Ok(())
    }

    /// Begins anew: the mark with this sequence number is durable, and says all that was here.
    pub(crate) fn restart(&mut self, mark: u64) {
        (self.mark, self.next, self.offset) = (mark, 0, 0);
        self.buffer.shrink_to(PAGE_BYTES);
    }
}

fn read(folder: &dyn Folder) -> io::Result<(Box<dyn DiskFile>, Vec<u8>)> {
    let file = folder.file(FILE, false)?;
    let length = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok((file, bytes))
}

/// The number and body of the record that begins here, if it is whole and follows that mark.
fn parse(bytes: &[u8], mark: u64) -> Option<(u64, &[u8])> {
    let mut rest = Cursor(bytes);
    let crc = rest.u32()?;
    let length = usize::try_from(rest.u32()?).ok()?;
    let (found, number) = (rest.u64()?, rest.u64()?);
    if found != mark {
        return None;
    }
    let body = rest.take(length)?;
    (crc == crc32c::crc32c(&bytes[4..HEADER_BYTES + length])).then_some((number, body))
}

fn decode(body: &[u8]) -> Option<Record> {
    let mut rest = Cursor(body);
    let committed = rest.optional()?.map(<[u8]>::to_vec);
    let block = Block::decode(rest.0).ok()?;
    let consecutive = block.last() - block.first() + 1 == block.rows.len() as u64;
    consecutive.then_some(Record {
        committed,
        last_id: block.last_id?,
        rows: block.rows,
    })
}
