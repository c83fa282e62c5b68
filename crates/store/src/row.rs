//! How records lie in the row engine.
//!
//! Every engine row is `format version byte | CRC32C (4 bytes) | body`; the checksum covers the
//! row's key too, so a row that turns up under another key is found out.
//!
//! Log and history rows are packed into *blocks*: consecutive rows of one write share an engine
//! row of at most [`PART_BYTES_MAX`] bytes, because an insert costs sled about the same (6 us)
//! whatever its size. A record too big for that is a block of its own in several parts: sled puts
//! a page larger than an eighth of its segment into a file that it never syncs, so no engine row
//! may be large. A block's key is its table, the index of its first row and the part's number,
//! both big-endian, so the engine's order is the log's order.

use bytes::Bytes;
use keyrum_types::LogIndex;

use crate::disk::RowChange;
use crate::store::LogRow;

/// The format version this program writes, and the only one it reads.
pub(crate) const FORMAT: u8 = 1;

/// Bytes of a block that fit in one engine row. sled keeps at most 17 rows in a page and its
/// pages must stay below 128 KiB.
pub(crate) const PART_BYTES_MAX: usize = 3500;

const HEADER_BYTES: usize = 5;
/// Index and length in front of each record of a block.
const RECORD_HEADER_BYTES: usize = 12;

/// Which records a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// Raft log entries.
    Log,
    /// Events by log index.
    History,
    /// Small named records.
    Named,
}

impl Table {
    pub(crate) fn prefix(self) -> u8 {
        match self {
            Self::Log => b'l',
            Self::History => b'h',
            Self::Named => b'n',
        }
    }
}

/// The key of a block's part.
pub(crate) fn block_key(table: Table, first: LogIndex, part: u16) -> Vec<u8> {
    let mut key = Vec::with_capacity(11);
    key.push(table.prefix());
    key.extend_from_slice(&first.to_be_bytes());
    key.extend_from_slice(&part.to_be_bytes());
    key
}

/// The key of a named record.
pub(crate) fn named_key(name: &str) -> Vec<u8> {
    let mut key = vec![Table::Named.prefix()];
    key.extend_from_slice(name.as_bytes());
    key
}

/// Takes a block's key apart; `None` if it is not one.
pub(crate) fn parse_block_key(key: &[u8]) -> Option<(LogIndex, u16)> {
    let first = key.get(1..9)?.try_into().ok()?;
    let part = key.get(9..11)?.try_into().ok()?;
    (key.len() == 11).then(|| (u64::from_be_bytes(first), u16::from_be_bytes(part)))
}

/// A row's key in words, for messages.
pub(crate) fn key_words(key: &[u8]) -> String {
    match (key.first(), parse_block_key(key)) {
        (Some(b'l'), Some((first, part))) => format!("log row {first} part {part}"),
        (Some(b'h'), Some((first, part))) => format!("history row {first} part {part}"),
        (Some(b'n'), _) => format!("record {:?}", String::from_utf8_lossy(&key[1..])),
        _ => format!("row with key {key:02x?}"),
    }
}

/// Why a row cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RowFault {
    /// Written in another format version.
    Format(u8),
    /// Damaged.
    Damaged(&'static str),
}

/// Wraps a body for the engine.
pub(crate) fn seal(key: &[u8], body: &[&[u8]]) -> Vec<u8> {
    let mut crc = crc32c::crc32c_append(crc32c::crc32c(key), &[FORMAT]);
    let mut bytes = vec![FORMAT, 0, 0, 0, 0];
    for part in body {
        crc = crc32c::crc32c_append(crc, part);
        bytes.extend_from_slice(part);
    }
    bytes[1..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Checks a row and returns its body.
pub(crate) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], RowFault> {
    let header = value
        .get(..HEADER_BYTES)
        .ok_or(RowFault::Damaged("too short"))?;
    let body = &value[HEADER_BYTES..];
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), &header[..1]);
    let crc = crc32c::crc32c_append(crc, body);
    if header[1..] != crc.to_le_bytes() {
        return Err(RowFault::Damaged("checksum differs"));
    }
    // After the checksum: a damaged version byte is damage, not another version.
    if header[0] != FORMAT {
        return Err(RowFault::Format(header[0]));
    }
    Ok(body)
}

/// Consecutive records under one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// The record before this block in the same table, if any: a missing block shows.
    pub(crate) previous: Option<LogIndex>,
    /// What the caller calls the last record, where a write ended with this block.
    pub(crate) last_id: Option<Vec<u8>>,
    /// At least one, ascending.
    pub(crate) rows: Vec<LogRow>,
}

impl Block {
    pub(crate) fn first(&self) -> LogIndex {
        self.rows[0].index
    }

    pub(crate) fn last(&self) -> LogIndex {
        self.rows[self.rows.len() - 1].index
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        Self::encode_rows(
            &mut bytes,
            self.previous,
            self.last_id.as_deref(),
            &self.rows,
        );
        bytes
    }

    /// Appends the encoding of a block with these fields.
    pub(crate) fn encode_rows(
        to: &mut Vec<u8>,
        previous: Option<LogIndex>,
        last_id: Option<&[u8]>,
        rows: &[LogRow],
    ) {
        put_optional(to, previous.map(u64::to_le_bytes).as_ref().map(|b| &b[..]));
        put_optional(to, last_id);
        for row in rows {
            to.extend_from_slice(&row.index.to_le_bytes());
            to.extend_from_slice(&length(&row.bytes).to_le_bytes());
            to.extend_from_slice(&row.bytes);
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RowFault> {
        const BAD: RowFault = RowFault::Damaged("its content does not parse");
        let mut rest = Cursor(bytes);
        let previous = match rest.optional().ok_or(BAD)? {
            Some(bytes) => Some(u64::from_le_bytes(bytes.try_into().map_err(|_| BAD)?)),
            None => None,
        };
        let last_id = rest.optional().ok_or(BAD)?.map(<[u8]>::to_vec);
        let mut rows = Vec::new();
        while !rest.0.is_empty() {
            let index = rest.u64().ok_or(BAD)?;
            let bytes = Bytes::copy_from_slice(rest.bytes().ok_or(BAD)?);
            if rows.last().is_some_and(|row: &LogRow| row.index >= index) {
                return Err(BAD);
            }
            rows.push(LogRow { index, bytes });
        }
        if rows.is_empty() {
            Err(BAD)
        } else {
            Ok(Self {
                previous,
                last_id,
                rows,
            })
        }
    }

    /// The changes that write this block, lowest part first.
    pub(crate) fn put(&self, table: Table, changes: &mut Vec<RowChange>) {
        let bytes = self.encode();
        let parts: Vec<&[u8]> = bytes.chunks(PART_BYTES_MAX).collect();
        let count = u16::try_from(parts.len()).expect("records are limited to RECORD_BYTES_MAX");
        for (part, slice) in (0..count).zip(parts) {
            let key = block_key(table, self.first(), part);
            let value = seal(&key, &[&count.to_le_bytes(), slice]);
            changes.push(RowChange::Put { key, value });
        }
    }
}

/// The largest record: a block has at most 65,535 parts.
pub(crate) const RECORD_BYTES_MAX: usize = 64 << 20;

/// Packs rows into blocks. `last_id` goes to the last one.
pub(crate) fn pack(
    rows: Vec<LogRow>,
    mut previous: Option<LogIndex>,
    last_id: Option<&[u8]>,
) -> Vec<Block> {
    let id_bytes = last_id.map_or(0, <[u8]>::len);
    let room = PART_BYTES_MAX.saturating_sub(24 + id_bytes);
    let mut blocks: Vec<Block> = Vec::new();
    let mut used = 0;
    for row in rows {
        let bytes = row.bytes.len() + RECORD_HEADER_BYTES;
        let index = row.index;
        match blocks.last_mut() {
            Some(block) if used + bytes <= room => {
                block.rows.push(row);
                used += bytes;
            }
            _ => {
                blocks.push(Block {
                    previous,
                    last_id: None,
                    rows: vec![row],
                });
                used = bytes;
            }
        }
        previous = Some(index);
    }
    if let Some(block) = blocks.last_mut() {
        block.last_id = last_id.map(<[u8]>::to_vec);
    }
    blocks
}

/// Puts engine rows back together into blocks, in key order.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    first: LogIndex,
    expected: u16,
    /// Set while parts are missing.
    next: u16,
    bytes: Vec<u8>,
}

impl Assembler {
    /// Takes the next engine row; returns a block when it completes one. A fault names damage of
    /// this row, or a block before it that is incomplete (`Err(Damaged("parts are missing"))`).
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Block>, RowFault> {
        let body = unseal(key, value)?;
        let (first, part) =
            parse_block_key(key).ok_or(RowFault::Damaged("its key does not parse"))?;
        let count = body.get(..2).ok_or(RowFault::Damaged("too short"))?;
        let count = u16::from_le_bytes([count[0], count[1]]);
        let continues = self.next > 0;
        let fits = if continues {
            first == self.first && part == self.next && count == self.expected
        } else {
            part == 0 && count > 0
        };
        if !fits {
            return Err(RowFault::Damaged("parts are missing before it"));
        }
        if !continues {
            self.bytes.clear();
        }
        (self.first, self.expected) = (first, count);
        self.bytes.extend_from_slice(&body[2..]);
        if part + 1 < count {
            self.next = part + 1;
            return Ok(None);
        }
        self.next = 0;
        let block = Block::decode(&self.bytes)?;
        if block.first() != first {
            return Err(RowFault::Damaged("its content belongs to another row"));
        }
        Ok(Some(block))
    }

    /// The first index of a block whose last parts never came.
    pub(crate) fn unfinished(&self) -> Option<LogIndex> {
        (self.next > 0).then_some(self.first)
    }
}

/// A length as it is stored. Records are far below 4 GiB.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("records are limited to RECORD_BYTES_MAX")
}

/// Appends bytes that may be absent.
pub(crate) fn put_optional(to: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => to.push(0),
        Some(bytes) => {
            to.push(1);
            to.extend_from_slice(&length(bytes).to_le_bytes());
            to.extend_from_slice(bytes);
        }
    }
}

/// Reads fields one after the other; `None` when the bytes run out.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.u32()?;
        self.take(usize::try_from(count).ok()?)
    }

    /// Outer `None`: the bytes ran out. Inner `None`: absent.
    #[expect(
        clippy::option_option,
        reason = "absent and unreadable are different answers"
    )]
    pub(crate) fn optional(&mut self) -> Option<Option<&'a [u8]>> {
        match self.u8()? {
            0 => Some(None),
            1 => self.bytes().map(Some),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assemble(changes: &[RowChange]) -> Vec<Block> {
        let mut assembler = Assembler::default();
        let mut blocks = Vec::new();
        for change in changes {
            if let RowChange::Put { key, value } = change {
                blocks.extend(assembler.push(key, value).unwrap());
            }
        }
        assert_eq!(assembler.unfinished(), None);
        blocks
    }

    /// Catches packing that loses, reorders or oversizes records.
    #[test]
    fn blocks_round_trip() {
        for size in [0, 1, 300, 3000, 3476, 3500, 3501, 50_000] {
            let rows: Vec<LogRow> = (5..45)
                .map(|index| LogRow {
                    index,
                    bytes: vec![7; size].into(),
                })
                .collect();
            let blocks = pack(rows.clone(), Some(4), Some(b"id"));
            let mut changes = Vec::new();
            for block in &blocks {
                block.put(Table::Log, &mut changes);
            }
            for change in &changes {
                let RowChange::Put { value, .. } = change else {
                    panic!("a removal")
                };
                assert!(value.len() <= PART_BYTES_MAX + 16, "{}", value.len());
            }
            let back = assemble(&changes);
            assert_eq!(back, blocks);
            assert_eq!(back.last().unwrap().last_id.as_deref(), Some(&b"id"[..]));
            assert_eq!(
                back.iter().flat_map(|b| b.rows.clone()).collect::<Vec<_>>(),
                rows
            );
        }
    }

    /// Catches a checksum that leaves part of a row, or its key, uncovered.
    #[test]
    fn any_flipped_bit_is_found() {
        let key = block_key(Table::Log, 9, 0);
        let value = seal(&key, &[b"some", b" bytes"]);
        assert_eq!(unseal(&key, &value).unwrap(), b"some bytes");
        for bit in 0..value.len() * 8 {
            let mut bad = value.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(
                matches!(unseal(&key, &bad), Err(RowFault::Damaged(_))),
                "bit {bit}"
            );
        }
        assert!(unseal(&block_key(Table::Log, 8, 0), &value).is_err());
    }
}
