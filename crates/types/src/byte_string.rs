//! How records carry strings of bytes: as a whole, where serde's own way asks for byte after byte. What is
//! written is the same.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;

/// For `#[serde(with)]`.
pub fn serialize<T: AsRef<[u8]>, S: Serializer>(
    bytes: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes.as_ref())
}

/// The reverse of [`serialize`].
pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: for<'b> From<&'b [u8]>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_bytes(Whole(PhantomData))
}

struct Whole<T>(PhantomData<T>);

impl<T: for<'b> From<&'b [u8]>> Visitor<'_> for Whole<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string of bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<T, E> {
        Ok(bytes.into())
    }
}
