//! Snapshot files: `snapshots/<index>.snap`.
//!
//! Header (magic, format version, meta), chunks, trailer (count, bytes), each with a CRC32C. A
//! file is written under a temporary name, synced, renamed, and the folder synced; so under its
//! final name it is whole, or damaged later.

use std::io;

use keyrum_types::LogIndex;

use crate::StoreError;
use crate::disk::{DiskFile, Folder};
use crate::error::from_io;

/// The subfolder for snapshot files.
pub(crate) const FOLDER: &str = "snapshots";
const SUFFIX: &str = ".snap";
const MAGIC: &[u8; 8] = b"KYRMSNAP";
const FORMAT: u8 = 1;
const CHUNK: u8 = b'C';
const TRAILER: u8 = b'T';
/// Magic, version, meta's length.
const HEADER_BYTES: usize = 13;
/// Tag, length or count, CRC.
const FRAME_BYTES: usize = 13;

/// The path of a snapshot inside the data folder.
pub(crate) fn path(index: LogIndex) -> String {
    format!("{FOLDER}/{index:020}{SUFFIX}")
}

fn temporary_path(index: LogIndex) -> String {
    format!("{}.tmp", path(index))
}

fn frame(tag: u8, number: u64, crc: u32) -> [u8; FRAME_BYTES] {
    let mut bytes = [0; FRAME_BYTES];
    bytes[0] = tag;
    bytes[1..9].copy_from_slice(&number.to_le_bytes());
    bytes[9..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The snapshots in the folder, oldest first.
pub(crate) fn list(folder: &dyn Folder) -> io::Result<Vec<LogIndex>> {
    let names = folder.names(FOLDER)?;
    let mut all: Vec<LogIndex> = names
        .iter()
        .filter_map(|name| name.strip_suffix(SUFFIX)?.parse().ok())
        .collect();
    all.sort_unstable();
    Ok(all)
}

/// Removes what an interrupted write left behind.
pub(crate) fn remove_leftovers(folder: &dyn Folder) -> io::Result<()> {
    for name in folder.names(FOLDER)? {
        if name.ends_with(".tmp") {
            folder.remove(&format!("{FOLDER}/{name}"))?;
        }
    }
    Ok(())
}

/// Writes a snapshot under its temporary name, durable on return.
pub(crate) fn write_temporary(
    folder: &dyn Folder,
    index: LogIndex,
    meta: &[u8],
    chunks: &mut dyn Iterator<Item = Vec<u8>>,
) -> io::Result<()> {
    let name = temporary_path(index);
    if folder.file(&name, false).is_ok() {
        folder.remove(&name)?;
    }
    let file = folder.file(&name, true)?;
    let mut offset = 0;
    let mut put = |bytes: &[u8]| -> io::Result<()> {
        file.write_at(offset, bytes)?;
        offset += bytes.len() as u64;
        Ok(())
    };
    let mut header = Vec::with_capacity(HEADER_BYTES + meta.len() + 4);
    header.extend_from_slice(MAGIC);
    header.push(FORMAT);
    let meta_bytes = u32::try_from(meta.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "snapshot meta above 4 GiB"))?;
    header.extend_from_slice(&meta_bytes.to_le_bytes());
    header.extend_from_slice(meta);
    let crc = crc32c::crc32c(&header);
    header.extend_from_slice(&crc.to_le_bytes());
    put(&header)?;
    let mut count: u64 = 0;
    for chunk in chunks {
        // The number is covered too, so chunks cannot trade places.
        let crc = crc32c::crc32c_append(crc32c::crc32c(&count.to_le_bytes()), &chunk);
        put(&frame(CHUNK, chunk.len() as u64, crc))?;
        put(&chunk)?;
        count += 1;
    }
    put(&frame(TRAILER, count, crc32c::crc32c(&count.to_le_bytes())))?;
    file.sync()
}

/// Gives a temporary snapshot its final name, durable on return.
pub(crate) fn publish(folder: &dyn Folder, index: LogIndex) -> io::Result<()> {
    folder.rename(&temporary_path(index), &path(index))?;
    folder.sync_names()
}

/// A snapshot being read. Each chunk is checked as it is read; the last `next_chunk`, which
/// returns `None`, also checks that none is missing.
pub struct SnapshotReader {
    file: Box<dyn DiskFile>,
    name: String,
    index: LogIndex,
    meta: Vec<u8>,
    offset: u64,
    length: u64,
    chunks: u64,
    ended: bool,
}

impl std::fmt::Debug for SnapshotReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotReader")
            .field("file", &self.name)
            .finish_non_exhaustive()
    }
}

impl SnapshotReader {
    pub(crate) fn open(folder: &dyn Folder, index: LogIndex) -> Result<Self, StoreError> {
        let name = format!("{}/{}", folder.name(), path(index));
        let wrap = |e: io::Error| from_io(name.clone(), "reading", &e);
        let file = folder.file(&path(index), false).map_err(wrap)?;
        let length = file.len().map_err(wrap)?;
        let mut reader = Self {
            file,
            name,
            index,
            meta: Vec::new(),
            offset: 0,
            length,
            chunks: 0,
            ended: false,
        };
        let mut header = reader.take(HEADER_BYTES as u64, "header")?;
        if &header[..8] != MAGIC {
            return Err(reader.damaged("header", "does not begin like a snapshot"));
        }
        let meta_bytes = u32::from_le_bytes([header[9], header[10], header[11], header[12]]);
        let rest = reader.take(u64::from(meta_bytes) + 4, "header")?;
        let (meta, crc) = rest.split_at(rest.len() - 4);
        header.extend_from_slice(meta);
        if crc32c::crc32c(&header).to_le_bytes() != crc {
            return Err(reader.damaged("header", "checksum differs"));
        }
        if header[8] != FORMAT {
            return Err(StoreError::OtherFormat {
                file: reader.name,
                row: "header".into(),
                found: header[8],
                supported: FORMAT,
            });
        }
        reader.meta = meta.to_vec();
        Ok(reader)
    }

    /// The index the snapshot was written under.
    pub fn index(&self) -> LogIndex {
        self.index
    }

    /// The meta bytes given when it was written.
    pub fn meta(&self) -> &[u8] {
        &self.meta
    }

    /// The file's size in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.length
    }

    /// The next chunk as it was written; `None` after the last. Blocks.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let row = format!("chunk {}", self.chunks);
        let frame = self.take(FRAME_BYTES as u64, &row)?;
        let number = u64::from_le_bytes(frame[1..9].try_into().expect("8 bytes"));
        match frame[0] {
            CHUNK => {
                let bytes = self.take(number, &row)?;
                let crc = crc32c::crc32c_append(crc32c::crc32c(&self.chunks.to_le_bytes()), &bytes);
                if crc.to_le_bytes() != frame[9..] {
                    return Err(self.damaged(&row, "checksum differs"));
                }
                self.chunks += 1;
                Ok(Some(bytes))
            }
            TRAILER => {
                let crc = crc32c::crc32c(&number.to_le_bytes());
                if number != self.chunks || crc.to_le_bytes() != frame[9..] {
                    return Err(self.damaged("trailer", "chunks are missing or it is damaged"));
                }
                if self.offset != self.length {
                    return Err(self.damaged("trailer", "bytes follow it"));
                }
                self.ended = true;
                Ok(None)
            }
            _ => Err(self.damaged(&row, "neither a chunk nor the trailer")),
        }
    }

    /// Reads to the end, checking everything.
    pub(crate) fn verify(mut self) -> Result<(), StoreError> {
        while self.next_chunk()?.is_some() {}
        Ok(())
    }

    fn damaged(&self, row: &str, what: &str) -> StoreError {
        StoreError::Corrupt {
            file: self.name.clone(),
            row: row.to_owned(),
            what: what.to_owned(),
        }
    }

    fn take(&mut self, count: u64, row: &str) -> Result<Vec<u8>, StoreError> {
        // Checked before allocating: a damaged length must not exhaust memory.
        if count > self.length - self.offset {
            return Err(self.damaged(row, "the file ends too early"));
        }
        let mut bytes = vec![0; usize::try_from(count).expect("a file's part fits memory")];
        let read = self
            .file
            .read_at(self.offset, &mut bytes)
            .map_err(|e| from_io(self.name.clone(), "reading", &e))?;
        if read != bytes.len() {
            return Err(self.damaged(row, "the file ends too early"));
        }
        self.offset += count;
        Ok(bytes)
    }
}
