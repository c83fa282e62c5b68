//! Every record that leaves memory: one byte of format version, then the record in bincode.
//!
//! The only module of this crate that knows bincode. Checksums belong to whoever stores or sends
//! the bytes; the version says how to read them.

mod snapshot;

use std::cell::Cell;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::snapshot::{StateDecoder, encode_state};
use crate::{Applied, CallerDetails, Digest, Event, Proposal};

/// The format of every record but some proposals.
pub const FORMAT_VERSION: u8 = 1;

/// The format of a proposal whose caller has details: they follow what the first format has.
///
/// Builds that know no level above 1 cannot read it, so it is written only in Regions above that.
const WITH_DETAILS: u8 = 2;

/// The largest record or chunk that is read, in bytes. A command holds at most a policy of
/// 32 KiB, a description and 50 tags; a snapshot's chunk about 1 MiB.
pub const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How much room [`encoded`] keeps.
const ROOM_BYTES_MAX: usize = 64 << 10;

const CONFIG: bincode::config::Configuration = bincode::config::standard();
/// Reads what [`CONFIG`] writes, without trusting a length to be as large as it says.
const READ_CONFIG: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<RECORD_BYTES_MAX>,
> = bincode::config::standard().with_limit::<RECORD_BYTES_MAX>();

/// Why bytes are not the record they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Not even a version.
    #[error("an empty record")]
    Empty,
    /// Written by a build with another format.
    #[error("a record of format version {version}; this build reads version {FORMAT_VERSION}")]
    UnknownVersion {
        /// The record's version.
        version: u8,
    },
    /// Not a record of this kind.
    #[error("a malformed record: {reason}")]
    Malformed {
        /// What the decoder says.
        reason: String,
    },
    /// More bytes than the record has.
    #[error("{bytes} bytes after the end of a record")]
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
    /// A snapshot's rows are not the rows of one state.
    #[error("a snapshot that is not one state: {reason}")]
    NotAState {
        /// What is wrong.
        reason: &'static str,
    },
    /// A snapshot's rows are not the ones that were written.
    #[error("a snapshot with digest {computed}, written with digest {recorded}")]
    DigestDiffers {
        /// As written at its end.
        recorded: Digest,
        /// As its rows give.
        computed: Digest,
    },
}

/// A record of this build's format.
pub(crate) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    bytes.push(FORMAT_VERSION);
    append(&mut bytes, record);
    bytes
}

/// Shows a record's bytes to somebody who keeps none of them: without room of their own, for what is done
/// many times in a command.
pub(crate) fn encoded<T: Serialize, R>(record: &T, show: impl FnOnce(&[u8]) -> R) -> R {
    thread_local! {
        static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut bytes = ROOM.take();
    bytes.clear();
    bytes.push(FORMAT_VERSION);
    append(&mut bytes, record);
    let shown = show(&bytes);
    // A large one is rare, and not kept.
    bytes.shrink_to(ROOM_BYTES_MAX);
    ROOM.set(bytes);
    shown
}

fn append<T: Serialize>(bytes: &mut Vec<u8>, record: &T) {
    bincode::serde::encode_into_writer(record, Appending(bytes), CONFIG)
        .expect("records are plain data and memory takes every write");
}

/// Where bincode writes: single bytes most of all, so each must not be a call.
pub struct Appending<'b>(pub &'b mut Vec<u8>);

impl bincode::enc::write::Writer for Appending<'_> {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        match bytes {
            [byte] => self.0.push(*byte),
            bytes => self.0.extend_from_slice(bytes),
        }
        Ok(())
    }
}

fn strip_version(bytes: &[u8]) -> Result<&[u8], CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Empty),
        Some((&FORMAT_VERSION, rest)) => Ok(rest),
        Some((&version, _)) => Err(CodecError::UnknownVersion { version }),
    }
}

/// One record from the front of `bytes`, and what follows it.
fn take<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), CodecError> {
    let (record, taken) =
        bincode::serde::decode_from_slice(bytes, READ_CONFIG).map_err(|error| {
            CodecError::Malformed {
                reason: error.to_string(),
            }
        })?;
    Ok((record, &bytes[taken..]))
}

/// The reverse of [`encode`].
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (record, rest) = take(strip_version(bytes)?)?;
    match rest.len() {
        0 => Ok(record),
        bytes => Err(CodecError::TrailingBytes { bytes }),
    }
}

/// A log entry's command, as bytes.
pub fn encode_proposal(proposal: &Proposal) -> Vec<u8> {
    let mut bytes = encode(proposal);
    let details = proposal.caller.as_ref().map(|caller| &caller.details);
    if let Some(details) = details
        && *details != CallerDetails::default()
    {
        bytes[0] = WITH_DETAILS;
        append(&mut bytes, details);
    }
    bytes
}

/// The reverse of [`encode_proposal`].
pub fn decode_proposal(bytes: &[u8]) -> Result<Proposal, CodecError> {
    let Some((&WITH_DETAILS, rest)) = bytes.split_first() else {
        return decode(bytes);
    };
    let (mut proposal, rest): (Proposal, _) = take(rest)?;
    let (details, rest) = take(rest)?;
    match (&mut proposal.caller, rest.len()) {
        (Some(caller), 0) => caller.details = details,
        (None, 0) => {
            return Err(CodecError::Malformed {
                reason: "details of a caller, and no caller".to_owned(),
            });
        }
        (_, bytes) => return Err(CodecError::TrailingBytes { bytes }),
    }
    Ok(proposal)
}

/// What a command led to, as bytes.
pub fn encode_applied(applied: &Applied) -> Vec<u8> {
    encode(applied)
}

/// The reverse of [`encode_applied`].
pub fn decode_applied(bytes: &[u8]) -> Result<Applied, CodecError> {
    decode(bytes)
}

/// A command's events for the history, as bytes.
pub fn encode_events(events: &[Event]) -> Vec<u8> {
    encode(&events)
}

/// The reverse of [`encode_events`].
pub fn decode_events(bytes: &[u8]) -> Result<Vec<Event>, CodecError> {
    decode(bytes)
}

#[cfg(test)]
mod tests {
    use keyrum_types::UnixMillis;

    use super::*;
    use crate::{Caller, Command, RequestId};

    /// Catches bytes that earlier programs' records hold and this one's would not, or the other way round.
    #[test]
    fn a_string_of_bytes_is_written_as_bytes_one_by_one() {
        #[derive(Serialize)]
        struct Each(Vec<u8>, u8);

        #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
        struct Whole(#[serde(with = "keyrum_types::byte_string")] Vec<u8>, u8);

        for length in [0, 1, 250, 251, 70_000] {
            let bytes = vec![7; length];
            let each = encode(&Each(bytes.clone(), 9));
            let whole = Whole(bytes, 9);
            assert!(encode(&whole) == each, "{length} bytes");
            assert_eq!(decode(&each), Ok(whole));
        }
    }

    /// Catches details of a caller that are lost on the way into the log, and a proposal without any
    /// that an older program could not read.
    #[test]
    fn a_callers_details_follow_the_first_format() {
        let caller = Caller::root(
            &"us-east-1".parse().unwrap(),
            "111122223333".parse().unwrap(),
        );
        let mut proposal = Proposal {
            request: RequestId {
                node: 1,
                boot: 2,
                sequence: 3,
            },
            caller: Some(caller),
            now: UnixMillis(4),
            command: Command::Tick,
        };
        let plain = encode_proposal(&proposal);
        assert_eq!(plain[0], FORMAT_VERSION);
        assert_eq!(decode_proposal(&plain).unwrap(), proposal);
        let caller = proposal.caller.as_mut().unwrap();
        caller.details.session_policies = vec!["{}".to_owned()];
        caller.details.request = [7; 16];
        let detailed = encode_proposal(&proposal);
        assert_eq!(&detailed[1..plain.len()], &plain[1..]);
        assert_eq!(decode_proposal(&detailed).unwrap(), proposal);
        let longer = [&detailed[..], &[0]].concat();
        assert_eq!(
            decode_proposal(&longer),
            Err(CodecError::TrailingBytes { bytes: 1 })
        );
    }
}
