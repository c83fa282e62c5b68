//! Request ids: unique, in the form of a version 4 UUID, and cheap.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::body::Bytes;
use hyper::header::HeaderValue;
use keyrum_types::Entropy;

/// Names one request in its answer, and in what is recorded about it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestUid([u8; 16]);

/// Makes the ids of one connection: random bytes once, then counted up.
pub(super) struct UidSource {
    random: [u8; 16],
    count: AtomicU64,
}

impl UidSource {
    pub(super) fn new(entropy: &dyn Entropy) -> Self {
        let mut random = [0; 16];
        entropy.fill(&mut random);
        Self {
            random,
            count: AtomicU64::new(0),
        }
    }

    pub(super) fn next(&self) -> RequestUid {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let (high, low) = self.random.split_at(8);
        let low = u64::from_be_bytes(low.try_into().expect("half of sixteen bytes"));
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(high);
        // The variant takes the top two bits; no connection lives for 2^62 requests.
        bytes[8..].copy_from_slice(&low.wrapping_add(count).to_be_bytes());
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        RequestUid(bytes)
    }
}

impl RequestUid {
    /// The id whose bytes these are.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// Its text: hex digits and hyphens.
    pub(crate) fn text(self) -> [u8; 36] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; 36];
        let mut at = 0;
        for (position, byte) in self.0.iter().enumerate() {
            if matches!(position, 4 | 6 | 8 | 10) {
                at += 1;
            }
            text[at] = HEX[usize::from(byte >> 4)];
            text[at + 1] = HEX[usize::from(byte & 15)];
            at += 2;
        }
        text
    }

    pub(super) fn header(self) -> HeaderValue {
        HeaderValue::from_maybe_shared(Bytes::copy_from_slice(&self.text()))
            .expect("hex digits and hyphens may stand in a header")
    }
}

impl fmt::Display for RequestUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).expect("hex digits and hyphens are ASCII"))
    }
}

impl fmt::Debug for RequestUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestUid({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ones;

    impl Entropy for Ones {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0xff);
        }
    }

    /// Catches ids that repeat on a connection or do not have the form of a version 4 UUID.
    #[test]
    fn ids_are_uuids_and_differ() {
        let source = UidSource::new(&Ones);
        assert_eq!(
            source.next().to_string(),
            "ffffffff-ffff-4fff-bfff-ffffffffffff"
        );
        assert_eq!(
            source.next().to_string(),
            "ffffffff-ffff-4fff-8000-000000000000"
        );
        assert_eq!(
            source.next().to_string(),
            "ffffffff-ffff-4fff-8000-000000000001"
        );
    }
}
