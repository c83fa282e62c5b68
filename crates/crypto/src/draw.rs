//! Our randomness in the form that the RustCrypto libraries and `hpke` take.

use hpke::rand_core::{TryCryptoRng, TryRng};
use keyrum_types::Entropy;

/// An [`Entropy`] as the libraries want it.
pub(crate) struct Draw<'e>(pub(crate) &'e dyn Entropy);

impl TryRng for Draw<'_> {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for Draw<'_> {}
