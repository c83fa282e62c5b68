//! How this crate's records become bytes: a format version, then bincode. The only user of
//! bincode here.

use keyrum_state::codec::Appending;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version in front of every record of this crate. Raised when a layout changes; older
/// versions stay readable for good.
const FORMAT: u8 = 1;

/// The format of history rows that tell whose request they came from.
pub(crate) const WITH_ORIGIN: u8 = 2;

/// Why bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("an empty record")]
    Empty,
    #[error("format version {found}, this program knows {FORMAT}; use a newer keyrum")]
    Format { found: u8 },
    #[error("a damaged record: {0}")]
    Damaged(String),
}

impl From<CodecError> for std::io::Error {
    fn from(error: CodecError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// Room for a common record, such as a CreateKey: most need no second allocation.
const COMMON_RECORD_BYTES: usize = 512;

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    encode_frame(Vec::with_capacity(COMMON_RECORD_BYTES), value)
}

/// Appends the record to `header`.
pub(crate) fn encode_frame<T: Serialize>(mut header: Vec<u8>, value: &T) -> Vec<u8> {
    header.push(FORMAT);
    bincode::serde::encode_into_writer(value, Appending(&mut header), bincode::config::standard())
        .expect("writing to memory cannot fail, and every record type is serializable");
    header
}

/// The same in another format than the usual one.
pub(crate) fn encode_as<T: Serialize>(format: u8, value: &T) -> Vec<u8> {
    let mut bytes = encode(value);
    bytes[0] = format;
    bytes
}

/// The format that a record is said to have.
pub(crate) fn format_of(bytes: &[u8]) -> Option<u8> {
    bytes.first().copied()
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    decode_as(FORMAT, bytes)
}

/// The reverse of [`encode_as`].
pub(crate) fn decode_as<T: DeserializeOwned>(format: u8, bytes: &[u8]) -> Result<T, CodecError> {
    let (&found, body) = bytes.split_first().ok_or(CodecError::Empty)?;
    if found != format {
        return Err(CodecError::Format { found });
    }
    let (value, used) = bincode::serde::decode_from_slice(body, bincode::config::standard())
        .map_err(|error| CodecError::Damaged(error.to_string()))?;
    if used != body.len() {
        return Err(CodecError::Damaged(format!(
            "{} bytes too many",
            body.len() - used
        )));
    }
    Ok(value)
}
