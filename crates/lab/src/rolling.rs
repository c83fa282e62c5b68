//! A running checksum, to compare two runs.

/// FNV-1a over 64 bits: the same on every machine, and enough to see that two runs differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rolling(u64);

impl Default for Rolling {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Rolling {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(crate) fn value(self) -> u64 {
        self.0
    }

    pub(crate) fn of(bytes: &[u8]) -> u64 {
        let mut rolling = Self::default();
        rolling.add(bytes);
        rolling.value()
    }
}
