//! A whole state as a sequence of chunks, and back.
//!
//! A chunk is one byte of format version and then rows, back to back. The last row of the last
//! chunk says how many rows there are and what they sum to, so a snapshot that lost a chunk, or
//! whose rows changed, is found out.

use keyrum_types::planted::{self, Bug};
use serde::{Deserialize, Serialize};

use super::{CodecError, FORMAT_VERSION, append, decode, strip_version, take};
use crate::contents::{Registers, Row};
use crate::{Digest, Outcome, State};

/// A chunk is closed once it has this many bytes. The largest row, a remembered answer, is well
/// under the other half of a MiB, so no chunk is over 1 MiB.
const CHUNK_BYTES: usize = 512 * 1024;

/// What stands in a snapshot. Released variants keep their meaning and their place for good.
#[derive(Serialize, Deserialize)]
enum Item {
    Row(Row),
    End { rows: u64, digest: Digest },
}

/// The state as chunks of at most about 1 MiB, made one at a time.
pub fn encode_state(state: &State) -> impl Iterator<Item = Vec<u8>> {
    let mut rows = state.rows().filter(|row| !row.is_left_out());
    let mut written = 0_u64;
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let mut chunk = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 8);
        chunk.push(FORMAT_VERSION);
        while chunk.len() < CHUNK_BYTES {
            let Some(row) = rows.next() else {
                append(
                    &mut chunk,
                    &Item::End {
                        rows: written,
                        digest: state.digest(),
                    },
                );
                ended = true;
                break;
            };
            append(&mut chunk, &Item::Row(row));
            written += 1;
        }
        Some(chunk)
    })
}

/// Puts a state together from the chunks of [`encode_state`], in their order.
#[derive(Debug, Default)]
pub struct StateDecoder {
    state: Option<State>,
    rows: u64,
    end: Option<(u64, Digest)>,
}

impl StateDecoder {
    /// Before the first chunk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next chunk.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), CodecError> {
        let mut rest = strip_version(chunk)?;
        while !rest.is_empty() {
            let item;
            (item, rest) = take(rest)?;
            if self.end.is_some() {
                return Err(not_a_state("it goes on after its end"));
            }
            match item {
                Item::Row(row) => self.push_row(row)?,
                Item::End { rows, digest } => self.end = Some((rows, digest)),
            }
        }
        Ok(())
    }

    fn push_row(&mut self, row: Row) -> Result<(), CodecError> {
        self.rows += 1;
        match (&mut self.state, row) {
            (None, Row::Registers(registers)) => {
                let Registers { region, .. } = &registers;
                let mut state = State::new(region.clone());
                state.put(Row::Registers(registers));
                self.state = Some(state);
            }
            (None, _) => return Err(not_a_state("it does not begin with the registers")),
            (Some(_), Row::Registers(_)) => return Err(not_a_state("it has two registers")),
            (Some(state), row) => {
                if let Row::Answer { outcome, .. } = &row {
                    // Read once here, so that a later repeated request can rely on it.
                    let _: Outcome = decode(outcome)?;
                }
                state.put(row);
            }
        }
        Ok(())
    }

    /// The state, once all chunks were taken.
    pub fn finish(self) -> Result<State, CodecError> {
        let (Some(state), Some((rows, recorded))) = (self.state, self.end) else {
            return Err(not_a_state("its end is missing"));
        };
        if rows != self.rows {
            return Err(not_a_state("rows are missing"));
        }
        // Every row went through `put`, so the running digest is made anew here, unless a row
        // came twice: then it is not what was written, and the sums differ or the counts do.
        let computed = state.digest();
        if computed != recorded && !planted::is(Bug::DigestSkipped) {
            return Err(CodecError::DigestDiffers { recorded, computed });
        }
        Ok(state)
    }
}

fn not_a_state(reason: &'static str) -> CodecError {
    CodecError::NotAState { reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    fn decode_all(chunks: &[Vec<u8>]) -> Result<State, CodecError> {
        let mut decoder = StateDecoder::new();
        chunks.iter().try_for_each(|chunk| decoder.push(chunk))?;
        decoder.finish()
    }

    /// Catches a snapshot that is taken although part of it is missing, doubled or changed.
    #[test]
    fn only_whole_snapshots_are_taken() {
        let state = State::new("us-east-1".parse().unwrap());
        let chunks: Vec<_> = encode_state(&state).collect();
        assert_eq!(decode_all(&chunks).unwrap().digest(), state.digest());
        assert_eq!(
            decode_all(&[]).unwrap_err(),
            not_a_state("its end is missing")
        );
        assert_eq!(decode_all(&[vec![]]).unwrap_err(), CodecError::Empty);
        let twice = [chunks[0].clone(), chunks[0].clone()];
        assert_eq!(
            decode_all(&twice).unwrap_err(),
            not_a_state("it goes on after its end")
        );
        let mut newer = chunks[0].clone();
        newer[0] = 2;
        let error = decode_all(&[newer]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a record of format version 2; this build reads version 1"
        );
        let mut changed = chunks[0].clone();
        let at = changed.windows(4).position(|w| w == b"us-e").unwrap();
        changed[at + 3] = b'w';
        assert!(matches!(
            decode_all(&[changed]),
            Err(CodecError::DigestDiffers { .. })
        ));
        let mut short = chunks[0].clone();
        short.pop();
        assert!(matches!(
            decode_all(&[short]),
            Err(CodecError::Malformed { .. })
        ));
    }

    /// Catches a decoder that panics, or asks for all memory, on bytes that are no record.
    #[test]
    fn arbitrary_bytes_are_refused() {
        let mut number = 1_u64;
        for length in 0..2_000_usize {
            let mut bytes = vec![FORMAT_VERSION];
            for _ in 0..length % 64 {
                number = number
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                bytes.push((number >> 56) as u8);
            }
            _ = codec::decode_proposal(&bytes);
            _ = codec::decode_applied(&bytes);
            _ = codec::decode_events(&bytes);
            _ = StateDecoder::new().push(&bytes);
        }
        let huge = [
            FORMAT_VERSION,
            2,
            253,
            255,
            255,
            255,
            255,
            255,
            255,
            255,
            127,
        ];
        assert!(codec::decode_events(&huge).is_err());
    }
}
